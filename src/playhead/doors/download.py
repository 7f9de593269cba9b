"""Blob -> a file: resumable, verified, and never of two versions.

What is fetched goes into `NAME.part`; the file has its name when all of it is there and right. A file that changes
while it comes, or since it was begun, is fetched anew. Where nothing strong tells the version (no ETag, no date that is
old enough), the ends of what is there are fetched once more and compared before anything is added.
"""

import asyncio
import os
import time
from collections.abc import Callable, Container, Coroutine, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, Protocol

from playhead.blob import Blob, FileSpan, Pieces, identity
from playhead.doors.digests import Digest, wrong
from playhead.doors.lanes import Lanes
from playhead.doors.partial import CERTAIN, JOURNAL, LONGEST, OLD, PART, Partial, beside, opened, writing
from playhead.doors.route import Host, Route
from playhead.errors import Busy, Changed, Damaged, Failure, Malformed, Unavailable, Unsized
from playhead.transforms.journal import BLOCK
from playhead.tree import Ask, Why, visible

TRIES = 3  # versions that are begun, where the file changes meanwhile
COMPARED = 16  # ends of what is there that are fetched once more
_MARK = "user.playhead.version"  # an extended attribute of a finished file


class Source(Protocol):
    """Where a file comes from. `label` is shown to people, `exactly` may hold a secret; `name` is what both call it."""

    label: str
    exactly: str
    name: str

    async def routes(self, ask: Ask) -> list[Route]:
        """The ways to it, the first of them the one that counts. Raises Unsized, or why there is none."""

    def flow(self) -> Pieces:
        """All of it, where its size is not known."""

    def leave(self) -> bool:
        """The way that was used has failed: go to another server, whose version may be another; is there one?"""


class Download:
    """One file on its way to a target.

    `place` gives the target when the name is known; `exists` is "refuse", "overwrite" or "rename".
    `state` is waiting, running, verifying, complete, already or failed.
    """

    def __init__(
        self,
        source: Source,
        place: Callable[[str], Path],
        host: Host,
        *,
        streams: int | None = None,
        digests: Sequence[Digest] = (),
        exists: str = "refuse",
        said: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.source, self.place, self.host = source, place, host
        self.streams, self.digests, self.exists, self.said = streams, list(digests), exists, said
        self.state, self.name = "waiting", source.name
        self.size: int | None = None
        self.blob: Blob | None = None
        self.target: Path | None = None
        self.partial: Partial | None = None
        self.lanes: Lanes | None = None
        self.flowed = self.fetched = 0  # bytes of a file without a size; bytes that were there before this run
        self.checked = 0  # bytes that were verified
        self.changed = False  # while it came: nothing that is there counts then

    # ── what it looks like from outside ──

    @property
    def have(self) -> int:
        """Bytes that are on disk for certain."""
        if self.state in ("complete", "already"):
            return self.size or self.flowed
        return self.partial.have if self.partial else self.flowed

    @property
    def rate(self) -> float:
        """Bytes a second that come now."""
        return self.lanes.pace if self.lanes and self.state == "running" else 0.0

    @property
    def connections(self) -> int:
        return len(self.lanes.open) if self.lanes else 0

    @property
    def path(self) -> Path | None:
        """Where the file is, or what there is of it."""
        if self.target is None or self.state in ("complete", "already"):
            return self.target
        return beside(self.target, PART)

    # ── doing it ──

    async def run(self) -> None:
        """Fetch it. Raises a Failure; what came stays, and the next run goes on with it."""
        self.state = "running"
        try:
            tried = 0
            while True:
                tried += 1
                try:
                    with writing(self.target or Path(self.name)):
                        await self._once()
                    return
                except (Busy, Unavailable) as failure:
                    if not self.source.leave():
                        raise
                    self.said(f"{failure.told}; going to another server")
                except Changed as failure:
                    self.changed = True
                    if tried >= TRIES:
                        text = (
                            f"{failure}; it changes faster than it comes, or its server names another version each time"
                        )
                        raise Changed(text) from failure
                    self.said(f"{visible(self.name)} has changed meanwhile; it is fetched anew")
                    if tried >= TRIES - 1:
                        self.streams = 1  # one answer is of one version, whatever its server says with each
        except BaseException:
            self.state = "failed"
            raise
        finally:
            if self.partial:
                self.partial.close()

    async def _once(self) -> None:
        likely = self.target or self.place(cleaned(self.source.name))
        begun = os.path.lexists(likely) or os.path.lexists(beside(likely, JOURNAL))
        try:
            routes = await self.source.routes(Ask(0, 0, Why.BULK) if begun else Ask(0, None, Why.BULK))
        except Unsized:
            await self._flowed()
            return
        blob = self.blob = routes[0].blob
        self.size = blob.size
        if self.target is None:
            self.target = await self._placed(blob)
            self.name = self.target.name
            self.host.taken.update(_names(self.target))
        if self.state == "already":
            return
        if self.partial:
            self.partial.close()
        where = self.source.label, self.source.exactly
        plain, replaces = blob.tag is None or _page(blob, self.name), self.exists == "overwrite"
        self.partial = await _whole(
            asyncio.to_thread(opened, self.target, version(blob), blob.size, *where, plain=plain, replaces=replaces)
        )
        for line in self.partial.said:
            self.said(line)
        if self.changed and self.partial.have:
            await asyncio.to_thread(self.partial.begin_anew)
        if (blob.tag is None or self.partial.doubtful) and self.partial.have:
            await self._compared(blob, self.partial)
        self.fetched = self.partial.have
        self.lanes = Lanes(routes, self.partial, self.host, streams=self.streams, said=self.said)
        await self.lanes.run()
        await self._verified(blob, self.partial)
        await asyncio.to_thread(self._published, self.partial, blob)
        self.state = "complete"

    async def _placed(self, blob: Blob) -> Path:
        """The target, as what is there already allows. Sets `state` where the file is there. Raises Malformed."""
        proposed = getattr(blob, "proposed", None)
        target = self.place(cleaned(proposed or self.source.name))
        self.name = target.name
        if not target.parent.is_dir():
            raise Malformed(f"{visible(str(target.parent))!r} is not a folder")
        if self.host.taken.intersection(_names(target)):
            if self.exists != "rename":
                raise Malformed(f"two SOURCEs are called {visible(str(target))!r}: give --rename, or fetch them apart")
        elif not os.path.lexists(target):
            return target
        elif not target.is_file() or target.is_symlink():
            raise Malformed(f"{visible(str(target))!r} is there already, and is no plain file")
        elif self.exists == "overwrite":
            return target
        if not self.host.taken.intersection(_names(target)) and await asyncio.to_thread(self._same, target, blob):
            self.state = "already"
            return target
        if self.exists == "rename":
            return other(target, self.host.taken)
        what = f"{visible(str(target))!r} is there already, and is not known to be the same file"
        raise Malformed(f"{what}: give --overwrite or --rename, or another name by -o")

    def _same(self, target: Path, blob: Blob) -> bool:
        """Is what is there the same file: by digest, by the version that was noted, or by size and date (blocks)?"""
        with target.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_size != blob.size:
                return False
            if blob.tag is None and getattr(blob, "validator", None) is None and not self.digests:
                return False
            if self.digests:
                return wrong(file, blob.size, self.digests, lambda count: None) is None
            with suppress(OSError, AttributeError):
                return os.getxattr(file.fileno(), _MARK) == _mark(blob, found.st_mtime_ns)
        dated = blob.modified is not None and blob.tag is not None
        return dated and blob.modified is not None and int(found.st_mtime) == int(blob.modified.timestamp())

    async def _compared(self, blob: Blob, partial: Partial) -> None:
        """Where no tag tells the version: fetch some of what is there again; if it differs, all is fetched anew."""
        states = partial.states
        ends = [at for at in range(len(states)) if states[at] == CERTAIN and states[at + 1 : at + 2] != b"\2"]
        step = max(1, len(ends) // COMPARED)
        for block in sorted({0, *ends[::step], ends[-1]}):
            if states[block] != CERTAIN:
                continue
            at, length = block * BLOCK, partial.length(block)
            there = await asyncio.to_thread(partial.span(at, length).read)
            if not getattr(blob, "ranged", True) or await blob.read(at, at + length) != there:
                self.said(f"{visible(self.name)} has changed since; it is fetched anew")
                await asyncio.to_thread(partial.begin_anew)
                return

    async def _verified(self, blob: Blob, partial: Partial) -> None:
        """Raises Damaged where a digest is wrong; what came is put aside then."""
        sent = getattr(blob, "digests", {})
        digests = [*self.digests, *(Digest(algorithm, value) for algorithm, value in sent.items())]
        if not digests:
            return
        self.state = "verifying"
        if found := await asyncio.to_thread(wrong, partial, partial.size, digests, self._passed):
            who = "you gave" if found in self.digests else "the server says"
            place = await asyncio.to_thread(partial.aside)
            raise Damaged(f"{visible(self.name)} has not the {found.algorithm} that {who}; it is kept as {place.name}")

    def _passed(self, count: int) -> None:
        self.checked += count

    def _published(self, partial: Partial, blob: Blob) -> None:
        partial.trim()
        if blob.modified is not None:
            with suppress(OSError, OverflowError):
                os.utime(partial.fileno(), (time.time(), blob.modified.timestamp()))
        with suppress(OSError, AttributeError):
            os.setxattr(partial.fileno(), _MARK, _mark(blob, os.fstat(partial.fileno()).st_mtime_ns))
        partial.publish(over=self.exists == "overwrite")

    # ── without a size ──

    async def _flowed(self) -> None:
        """All of it over one connection, from the beginning; published if it ended as it should."""
        if self.target is None:
            self.target = await self._placed(Flowed(-1, None))
            self.name = self.target.name
            self.host.taken.update(_names(self.target))
        if self.partial:
            self.partial.close()
        label = f"{self.source.label} (flowing)"
        partial = self.partial = await _whole(asyncio.to_thread(opened, self.target, "", 0, label))
        self.flowed = 0
        async with aclosing(self.source.flow()) as stream:
            async for piece in stream:
                data = memoryview(await asyncio.to_thread(piece.read) if isinstance(piece, FileSpan) else piece)
                await asyncio.to_thread(partial.append, data)
                await self.host.rate.passed(len(data))
                self.flowed = partial.size
        self.size = partial.size
        if self.digests:
            await self._verified(Flowed(partial.size, None), partial)
        await asyncio.to_thread(partial.trim)
        await asyncio.to_thread(partial.publish, over=self.exists == "overwrite")
        self.state = "complete"


class Flowed(Blob):
    """What came without a size, and is in the file."""

    def stream(self, start: int, stop: int) -> Pieces:
        raise Unsized("it is in the file")


def version(blob: Blob) -> str:
    """What tells one version of a file at an address from another; not the address, for its signature may expire."""
    validator = getattr(blob, "validator", None)
    if blob.tag is None:
        return identity("weak", blob.size, str(blob.modified), str(validator)) or ""
    return identity("web", validator) or blob.tag


def cleaned(name: str) -> str:
    """A name from a stranger as a name of a file here: one, visible, not hidden, and not too long."""
    text = visible(name.replace("\\", "/").rstrip("/").rpartition("/")[2]).strip(" .")
    text = text if name.strip(" ")[:1] != "." or not text else f"_{text}"
    text += "_" * text.endswith((PART, JOURNAL, OLD))
    stem, dot, extension = text.rpartition(".")
    while len(text.encode()) > LONGEST:
        if not stem or len(extension) > 20:
            stem, dot, extension = text, "", ""
        stem = stem[:-1]
        text = stem + dot + extension
    return text or "download"


def other(target: Path, taken: Container[Path]) -> Path:
    """A name that nothing has: "song (2).ogg"."""
    stem, number = target.stem, 2
    while os.path.lexists(made := target.with_name(f"{stem} ({number}){target.suffix}")) or made in taken:
        number += 1
    return made


async def _whole(opening: Coroutine[Any, Any, Partial]) -> Partial:
    """A part that is opened in a thread; if this is cancelled meanwhile it is closed, for it has a lock."""
    task = asyncio.ensure_future(opening)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(Failure, OSError):
            (await task).close()
        raise


def _names(target: Path) -> set[Path]:
    """What a download to a target writes to."""
    return {target, beside(target, PART), beside(target, JOURNAL)}


def _mark(blob: Blob, mtime: int) -> bytes:
    """What is noted of a finished file: its version, and when it was not touched any more."""
    return f"{version(blob)} {mtime}".encode("utf-8", "surrogateescape")


def _page(blob: Blob, name: str) -> bool:
    """Is this an HTML page, though the name is of something else?"""
    kind = getattr(blob, "media", None) or ""
    return kind.startswith(("text/html", "application/xhtml")) and not name.lower().endswith(
        (".htm", ".html", ".xhtml")
    )


def holder(target: Path) -> Path:
    """The folder of a target, which is made where it is missing. Raises a Failure."""
    with writing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    return target
