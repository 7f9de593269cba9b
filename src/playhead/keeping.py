"""`playhead cache`: shows what is kept, verifies, clears, pins and warms it."""

import asyncio
import shutil
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path

from playhead import assemble
from playhead.blob import pieces
from playhead.config import Config
from playhead.errors import Busy, Failure, Full, Malformed, Unavailable
from playhead.progress import amount, bar
from playhead.transforms import journal
from playhead.transforms.cached import CachedBlob
from playhead.transforms.reservoir import Reservoir
from playhead.tree import Ask, Tree, Why, visible, walk
from playhead.works import Works, folder_of, reservoir, size_of

WIDE = 40  # characters of a picture
AT_ONCE = 4  # files that are warmed together
SHADES = " ░▒▓█"


def show(config: Config) -> int:
    """Print what is kept, as numbers and as a picture. Reads only, so a server may be running."""
    folder, size = folder_of(config), size_of(config)
    found = sorted(_survey(folder / "blocks"), key=lambda one: one[0].name.casefold())
    used = sum(taken for _, taken in found)
    print(f"{folder}: {amount(used)} of {amount(size)} in {_files(len(found))}")
    print(f"[{bar(used / size if size else 0.0, WIDE)}] {used / size:.0%}")
    for contents, _ in found:
        print(_line(contents))
    return 0


def _survey(folder: Path) -> Iterator[tuple[journal.Contents, int]]:
    """Every journal of a folder that can be read, and the bytes that its file takes on disk."""
    for path in sorted(folder.glob("*.journal")):
        try:
            contents = journal.read(path.read_bytes())
            taken = path.with_suffix(".data").stat().st_blocks * 512 + path.stat().st_blocks * 512
        except (OSError, UnicodeError, journal.Torn, journal.Foreign):
            continue
        yield contents, taken


def _line(contents: journal.Contents) -> str:
    count = journal.blocks_of(contents.size) or 1
    picture = ""
    for at in range(WIDE):
        first = at * count // WIDE
        last = max(first + 1, (at + 1) * count // WIDE)
        here = sum(block in contents.blocks for block in range(first, last))
        picture += SHADES[-(-here * (len(SHADES) - 1) // (last - first))]
    pinned = "pinned" if contents.pinned else ""
    share = len(contents.blocks) / count
    name = visible(contents.name) or contents.tag
    return f"[{picture:<{WIDE}}] {share:>4.0%} of {amount(contents.size):>9} {pinned:<6} {name}".rstrip()


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


def verify(config: Config) -> int:
    """Compare everything kept with its checksums; what is bad is dropped, and fetched again when it is wanted."""
    store = _opened(config)
    try:
        bad = store.verify(lambda kept, bad: print(f"{bad:>6} bad  {visible(kept.name)}") if bad else None)
        summary = store.summary()
        print(
            f"{_files(summary.files)}, {amount(summary.used)}: {bad or 'no'} damaged blocks{' (dropped)' * bool(bad)}"
        )
    finally:
        store.close()
    return 6 if bad else 0


def clear(config: Config) -> int:
    """Drop everything kept, pinned or not, and the kept listings."""
    store = _opened(config)
    try:
        freed = store.clear()
    finally:
        store.close()
    shutil.rmtree(folder_of(config) / "listings", ignore_errors=True)
    print(f"{amount(freed)} freed")
    return 0


def _opened(config: Config) -> Reservoir:
    try:
        return reservoir(config)
    except Busy as failure:
        raise Busy(f"{folder_of(config)} is in use by a running playhead: end that first") from failure
    except OSError as error:
        raise Unavailable(f"{folder_of(config)} cannot be used: {(error.strerror or str(error)).lower()}") from error


# ── warm and pin ──


async def warm(text: str, config: Config, *, pin: bool | None = None) -> int:
    """Fetch what is at a SOURCE and not kept yet, and (with `pin`) hold it, or (False) let it go again."""
    _opened(config).close()
    works = Works(config)
    tree, path = assemble.source(text, config, works)
    try:
        if works.cache is None:
            raise Malformed(f"{text!r} is not remote, or is not kept: there is nothing to fetch")
        return await _Warming(tree, works, pin).all(path)
    finally:
        await tree.aclose()
        await works.aclose()


class _Warming:
    def __init__(self, tree: Tree, works: Works, pin: bool | None) -> None:
        self.tree, self.pin = tree, pin
        assert works.cache and works.cache.reservoir
        self.reservoir = works.cache.reservoir
        self.total = self.done = self.files = self.failed = 0
        self.told = 0.0

    async def all(self, path: str) -> int:
        """Every file at a path; the exit code."""
        paths = [path async for path in self._paths(path)]
        waiting = iter(paths)
        self.told = 0.0
        await asyncio.gather(*(self._some(waiting) for _ in range(AT_ONCE)))
        self._tell(last=True)
        doing = {None: "kept", True: "kept and pinned", False: "no longer pinned"}[self.pin]
        print(f"{_files(self.files)}, {amount(self.done)} {doing}" + f"; {self.failed} failed" * bool(self.failed))
        return 9 if self.failed else 0

    async def _paths(self, path: str) -> AsyncGenerator[str, None]:
        entry = await self.tree.find(path)
        if not entry.folder:
            self.total += entry.size or 0
            yield path
            return
        async with aclosing(walk(self.tree, path)) as found:
            async for inner, entry in found:
                if not entry.folder:
                    self.total += entry.size or 0
                    yield inner

    async def _some(self, paths: Iterator[str]) -> None:
        for path in paths:
            try:
                await self._one(path)
            except Failure as failure:
                self.failed += 1
                print(f"\r{visible(path)}: {failure}", file=sys.stderr)

    async def _one(self, path: str) -> None:
        blob = await self.tree.open(path, Ask(why=Why.PIN))
        if not blob.size:
            self.files += 1
            return
        if not isinstance(blob, CachedBlob) or blob.file.kept is None:
            raise Unavailable("the server gives no validator that would allow to keep it")
        if self.pin is not False:
            async with aclosing(pieces(blob, 0, blob.size)) as stream:
                async for piece in stream:
                    self.done += len(piece)
                    self._tell()
            await blob.file.settled()
            if blob.file.kept.held(0, blob.size) < blob.size:
                raise Full("there was no room to keep all of it; see `[reservoir]` in the configuration")
        if self.pin is not None:
            await asyncio.to_thread(self.reservoir.pin, blob.file.kept, 0, blob.size, on=self.pin)
        self.files += 1

    def _tell(self, last: bool = False) -> None:
        now = time.monotonic()
        if not sys.stderr.isatty() or (now - self.told < 0.1 and not last):
            return
        self.told = now
        share = self.done / self.total if self.total else 1.0
        line = f"[{bar(share, WIDE)}] {share:>4.0%} {amount(self.done)}, {_files(self.files)}"
        print(f"\r{line:<79}", end="\n" if last else "", file=sys.stderr, flush=True)
