"""`playhead pack`: files and folders from anywhere as one tar or zip, into a pipe or a file.

Into a file it can be taken up again: beside what has come so far, `NAME.part`, lie the plan and what was learned of the
members, `NAME.part.plan` and `NAME.part.learned`; a second run with the same SOURCEs goes on at the byte reached. When
it is whole, it gets its name.
"""

import asyncio
import errno
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

from playhead.assemble import Trees
from playhead.blob import Blob, FileSpan
from playhead.config import Config
from playhead.errors import Changed, Full, Malformed, NotFound
from playhead.progress import amount, bar
from playhead.transforms.collect import Collecting, gathered
from playhead.transforms.learned import Learned
from playhead.transforms.packed import Archive
from playhead.transforms.plan import Plan
from playhead.transforms.tar import tar
from playhead.transforms.zip import zip
from playhead.tree import Ask, Tree

CHECKED = 256 << 10  # bytes at the end of what is there that are compared before more is written
SYNCED = 64 << 20  # bytes after which what was written is on disk for certain
WIDE = 32  # letters of the bar


async def run(sources: Sequence[str], config: Config, *, kind: str, output: str | None, replace: bool) -> int:
    """Pack the SOURCEs; returns the exit code."""
    known = Trees(config)
    found = [known.source(text) for text in sources]
    try:
        if output is None or output == "-":
            if sys.stdout.isatty():
                raise Malformed("an archive is not for a terminal: give -o FILE, or pipe it somewhere")
            await _piped(_archive(await _planned(found), found, kind, Learned()))
        else:
            await _filed(found, sources, kind, Path(output), replace=replace)
        return 0
    finally:
        for tree, _ in found:
            await tree.aclose()


async def _planned(found: Sequence[tuple[Tree, str]]) -> Plan:
    collecting = Collecting(10_000_000, 1 << 60)
    for at, (tree, path) in enumerate(found):
        await collecting.add(tree, path, _places(at))
    plan = collecting.planning.done()
    if not len(plan):
        raise NotFound("there is nothing to pack")
    return plan


def _places(at: int) -> Callable[[str], str]:
    return lambda path: f"{at}:{path}"


def _archive(plan: Plan, found: Sequence[tuple[Tree, str]], kind: str, learned: Learned) -> Archive:
    async def opener(number: int, ask: Ask) -> Blob:
        at, _, path = plan.places[number].partition(":")
        return await found[int(at)][0].open(path, ask)

    def gather(numbers: Sequence[int]) -> Sequence[tuple[bytes, str | None]] | None:
        places = [plan.places[number].partition(":") for number in numbers]
        return gathered([(found[int(at)][0], path) for at, _, path in places])

    return (tar if kind == "tar" else zip)(plan, opener, gather, learned)


@contextmanager
def _written(name: str) -> Iterator[None]:
    """What fails while writing, as our errors."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        kind = Full if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else Malformed
        raise kind(f"{name} cannot be written: {os.strerror(error.errno or 0).lower()}") from error


async def _piped(archive: Archive) -> None:
    progress = _Progress(archive.size, 0)
    async with aclosing(archive.stream(0, archive.size)) as stream:
        async for piece in stream:
            with _written("the output"):
                await asyncio.to_thread(_out, sys.stdout.fileno(), piece)
            progress.tell(len(piece))
    progress.end()


def _out(fd: int, piece: bytes | memoryview | FileSpan) -> None:
    """Write all of a piece; a span of a file goes by sendfile where that can be."""
    if isinstance(piece, FileSpan):
        at = 0
        with suppress(OSError, AttributeError):  # then it is read and written, which says what is wrong
            while at < piece.length:
                count = os.sendfile(fd, piece.file.fileno(), piece.offset + at, piece.length - at)
                if not count:
                    break
                at += count
        while at < piece.length:
            data = piece.pread(at, min(piece.length, at + (1 << 20)))
            _out(fd, data)
            at += len(data)
        return
    view = memoryview(piece)
    while view:
        view = view[os.write(fd, view) :]


# ── into a file ──


async def _filed(
    found: Sequence[tuple[Tree, str]], sources: Sequence[str], kind: str, target: Path, *, replace: bool
) -> None:
    odd = target.exists() and not target.is_file()  # a folder, a pipe, a device
    if not target.name or odd or not target.parent.is_dir():
        raise Malformed(f"{str(target)!r} is not where a file can be")
    if target.exists() and not replace:
        raise Malformed(f"{target} is there already; give --replace, or another name")
    part, beside = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.part.plan")
    learned = Learned(path=beside.with_suffix(".learned"), failed=_unwritable)
    label = blake2b("\0".join([kind, *sources]).encode("utf-8", "surrogateescape"), digest_size=16).digest()
    kept, same = await asyncio.to_thread(_kept, beside, label)
    if not part.exists():
        kept = None  # it outlived its archive
    plan = kept or await _planned(found)
    archive = _archive(plan, found, kind, learned)
    start = 0
    if kept is None:
        with _written(str(part)):
            await asyncio.to_thread(_begun, part, beside, learned, label + _boot() + plan.packed())
    else:
        await asyncio.to_thread(learned.restore)
        start = min(archive.size, part.stat().st_size)
        if not same:  # the machine went down: only what was synced is there for certain
            start = start // SYNCED * SYNCED
    try:
        with _written(str(part)):
            await _appended(archive, part, start)
            beside.unlink(missing_ok=True)  # first: else it could be taken for the beginning of another run
            _forget(learned)
            os.replace(part, target)
    except Changed as failure:
        raise Changed(f"{failure}; remove {beside} to begin anew with what is there now") from failure


def _boot() -> bytes:
    """What tells one life of the machine from another, in 16 bytes."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text("ascii")
    except OSError:
        text = ""
    return blake2b(text.encode(), digest_size=16).digest() if text else os.urandom(16)


def _kept(beside: Path, label: bytes) -> tuple[Plan | None, bool]:
    """The plan of an earlier run with the same SOURCEs; has the machine run ever since?"""
    try:
        data = beside.read_bytes()
        begin = len(label) + 16
        plan = Plan.unpacked(data[begin:]) if data.startswith(label) else None
        return plan, data[len(label) : begin] == _boot()
    except (OSError, ValueError):
        return None, False


def _unwritable(error: OSError) -> None:
    raise error


def _forget(learned: Learned) -> None:
    if learned.path is not None:
        learned.path.unlink(missing_ok=True)
        learned.path = None


def _begun(part: Path, beside: Path, learned: Learned, data: bytes) -> None:
    beside.unlink(missing_ok=True)
    if learned.path is not None:
        learned.path.unlink(missing_ok=True)
    part.write_bytes(b"")
    new = beside.with_name(f"{beside.name}.new")
    new.write_bytes(data)
    new.replace(beside)


async def _right(archive: Archive, fd: int, start: int) -> int:
    """How far what is there ends as the archive does; what is not right at its end is written again."""
    step = CHECKED
    while start:
        begin = max(0, start - step)
        if await asyncio.to_thread(os.pread, fd, start - begin, begin) == await archive.read(begin, start):
            return start
        start, step = begin, min(2 * step, SYNCED)
    return 0


async def _appended(archive: Archive, part: Path, start: int) -> None:
    """Write the rest of an archive to what is there of it; the end of what a crash may have left is written again."""
    progress = _Progress(archive.size, start)
    with part.open("r+b" if part.exists() else "w+b", buffering=0) as file:
        start = await _right(archive, file.fileno(), start)
        file.truncate(start)
        file.seek(start)
        progress.done, unsynced = start, 0
        async with aclosing(archive.stream(start, archive.size)) as stream:
            async for piece in stream:
                await asyncio.to_thread(_out, file.fileno(), piece)
                progress.tell(len(piece))
                unsynced += len(piece)
                if unsynced >= SYNCED:
                    await asyncio.to_thread(os.fsync, file.fileno())
                    unsynced = 0
        await asyncio.to_thread(os.fsync, file.fileno())
    progress.end()


class _Progress:
    """A bar on the terminal, where there is one."""

    def __init__(self, total: int, done: int) -> None:
        self.total, self.done, self.told, self.began, self.first = total, done, 0.0, time.monotonic(), done

    def tell(self, more: int) -> None:
        self.done += more
        now = time.monotonic()
        if now - self.told >= 0.1:
            self._tell(now)

    def end(self) -> None:
        self._tell(time.monotonic(), "\n")

    def _tell(self, now: float, end: str = "") -> None:
        if not sys.stderr.isatty():
            return
        self.told = now
        pace = (self.done - self.first) / max(0.1, now - self.began)
        share = self.done / self.total if self.total else 1.0
        line = f"[{bar(share, WIDE)}] {share:>4.0%} {amount(self.done)} of {amount(self.total)}, {amount(int(pace))}/s"
        print(f"\r{line:<79}", end=end, file=sys.stderr, flush=True)
