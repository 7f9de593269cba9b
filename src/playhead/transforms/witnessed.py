"""Blob -> Blob: the same bytes, and a witness of what was read: whoever reads them again gets the same, or Changed.

A digest of each MiB is remembered when it is first read. What is read again is held back until its digest is known to
be the same, so that no byte of another version follows bytes of the first one: a part that is sent twice is sent twice
alike. So reads of what was read before begin and end where a digest is known: up to 1 MiB more is read on either side.
A stream that goes on where the last one stopped costs nothing more.

The bytes read from the beginning on, without a gap, also go into one SHA-256: `so_far` tells it at any time.
"""

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

from playhead.blob import Blob, FileSpan, Piece, Pieces, pieces
from playhead.errors import Changed, Damaged, Failure

RUN = 1 << 20  # bytes that have one digest
INLINE = 64 << 10  # bytes that are digested where they are; more is worth a thread's turn


@dataclass(frozen=True, slots=True, eq=False)
class Witnessed(Blob):
    """See `witnessed`."""

    blob: Blob
    seen: "Seen" = field(default_factory=lambda: Seen())

    async def stream(self, start: int, stop: int) -> Pieces:
        if start >= stop:
            return
        try:
            async with aclosing(self._checked(start, stop)) as checked:
                async for piece in checked:
                    yield piece
        except Failure as failure:
            self.seen.failure = failure
            raise

    async def _checked(self, start: int, stop: int) -> Pieces:
        """[start, stop), what is known already only after it was found to be the same."""
        look, end = self.seen.looking(start), self.seen.until(stop)
        held: list[memoryview] = []
        try:
            async with aclosing(pieces(self.blob, look.at, end)) as upstream:
                async for piece in upstream:
                    for part, doubted in _parted(piece, look, end):
                        begin, data = look.at, await _taken(part, look, end)
                        if isinstance(piece, FileSpan) and look.at == end:
                            await self._unchanged(end)
                        held.append(memoryview(data)[max(0, start - begin) : max(0, stop - begin)])
                        if doubted and look.at != doubted:
                            continue
                        self.seen.given = max(self.seen.given, min(look.at, stop))
                        ready, held = held, []
                        for run in ready:
                            if len(run):
                                yield run
            if look.at < end:
                raise Damaged(f"a stream ended {end - look.at:,} bytes early")
        finally:
            if not held:
                look.pause()

    async def _unchanged(self, end: int) -> None:
        """The file below says Changed when it is asked for more, if it was written to while its last span was read."""
        async with aclosing(self.blob.stream(end - 1, end)) as again:
            await anext(again, None)

    def so_far(self) -> tuple[int, str]:
        """How many bytes from the beginning on were read, and their SHA-256. From any thread."""
        with self.seen.lock:
            return self.seen.read, self.seen.sha256.copy().hexdigest()

    async def prefix(self, count: int) -> str:
        """The SHA-256 of the first `count` bytes; what was not read yet is read now."""
        if self.seen.read < count:
            async with aclosing(self.stream(self.seen.read, count)) as rest:
                async for _ in rest:
                    pass
        read, digest = self.so_far()
        return digest if read == count else await self._prefix(count)

    async def _prefix(self, count: int) -> str:
        digest = hashlib.sha256()
        async with aclosing(self.stream(0, count)) as stream:
            async for piece in stream:
                assert not isinstance(piece, FileSpan)
                await asyncio.to_thread(digest.update, piece)
        return digest.hexdigest()

    @property
    def failure(self) -> Failure | None:
        """Why the last stream failed, if one did."""
        return self.seen.failure


def witnessed(blob: Blob) -> Witnessed:
    """Blob -> Blob: the same; a later read of the same bytes raises Changed where they are others."""
    return Witnessed(blob.size, blob.tag, blob, modified=blob.modified)


class Seen:
    """What was read of a blob. `given`: how far it has left here; it may be set back."""

    def __init__(self) -> None:
        self.marks: dict[int, dict[int, bytes]] = {}  # run -> where in the blob -> digest of the run up to there
        self.paused: tuple[int, Any] = (0, hashlib.blake2b(digest_size=16))  # where a stream stopped within a run
        self.sha256, self.read = hashlib.sha256(), 0
        self.given = 0
        self.failure: Failure | None = None
        self.lock = threading.Lock()

    def looking(self, start: int) -> "_Look":
        """A look that begins at `start` or before it, where the digest of its run can be made."""
        at, digest = self.paused
        if at == start:
            return _Look(self, at, digest.copy())
        return _Look(self, start - start % RUN, hashlib.blake2b(digest_size=16))

    def until(self, stop: int) -> int:
        """The next mark from `stop` on in its run; `stop` itself where there is none."""
        return min((mark for mark in self.known(stop) if mark >= stop), default=stop)

    def reach(self, at: int, end: int) -> tuple[int, bool]:
        """Where the next mark behind `at` is or is to be made, and whether it is known."""
        known = min((mark for mark in self.known(at + 1) if at < mark <= end), default=None)
        return (known, True) if known is not None else (min(end, at - at % RUN + RUN), False)

    def known(self, at: int) -> dict[int, bytes]:
        return self.marks.get((at - 1) // RUN, {})


@dataclass(slots=True)
class _Look:
    """One stream's way through a blob: where it is, and the digest of the run that it is in."""

    seen: Seen
    at: int
    digest: Any

    def take(self, data: bytes | memoryview, end: int) -> None:
        """These bytes were read, of one run; `end` is where the stream stops. Raises Changed."""
        seen = self.seen
        with seen.lock:
            begin, self.at = self.at, self.at + len(data)
            self.digest.update(data)
            if begin <= seen.read < self.at:
                seen.sha256.update(memoryview(data)[seen.read - begin :])
                seen.read = self.at
            if self.at % RUN == 0 or self.at == end or self.at in seen.known(self.at):
                self._mark()

    def pause(self) -> None:
        """The stream ends here: the next one may go on from here, and what was given is known."""
        with self.seen.lock, suppress(Changed):
            if self.at % RUN:
                self._mark()
            self.seen.paused = self.at, self.digest.copy()

    def _mark(self) -> None:
        digest = self.digest.digest()
        if self.seen.marks.setdefault((self.at - 1) // RUN, {}).setdefault(self.at, digest) != digest:
            raise Changed("the file was changed while it was being sent")
        if self.at % RUN == 0:
            self.digest = hashlib.blake2b(digest_size=16)


def _parted(piece: Piece, look: _Look, end: int) -> Iterator[tuple[Piece, int | None]]:
    """A piece cut at the marks, each part with the mark that its run is compared at, if it is known already."""
    at, length = 0, len(piece)
    while at < length:
        reach, known = look.seen.reach(look.at, end)
        size = min(length - at, reach - look.at)
        if isinstance(piece, FileSpan):
            part: Piece = FileSpan(piece.file, piece.offset + at, size)
        else:
            part = memoryview(piece)[at : at + size]
        at += size
        yield part, reach if known else None


async def _taken(part: Piece, look: _Look, end: int) -> bytes | memoryview:
    """The bytes of a part, digested."""
    if isinstance(part, FileSpan):
        return await asyncio.to_thread(_read, part, look, end)
    if len(part) > INLINE:
        await asyncio.to_thread(look.take, part, end)
    else:
        look.take(part, end)
    return part


def _read(part: FileSpan, look: _Look, end: int) -> bytes:
    data = part.read()
    look.take(data, end)
    return data
