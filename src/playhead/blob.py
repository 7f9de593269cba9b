"""Bytes: an immutable, sized, seekable run of them, wherever they are kept and however wrapped.

The range is the one primitive. A blob knows its size and gives exactly the bytes of any [start, stop)
or raises; it has no cursor, so that many may read it at once, and owns nothing, so that nobody need
close it. Whatever is made of blobs (a part of one, several in a row, one not opened yet) is a blob,
and its tag is made from the tags of its parts: identity composes as bytes do.

Bytes travel as pieces. A `FileSpan` names a run of an open file without reading it, and stays so
through cuts and concatenations until it leaves: whoever can hands it to the kernel.
"""

import asyncio
import os
from abc import ABC, abstractmethod
from array import array
from bisect import bisect_right
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from itertools import accumulate
from typing import Protocol

from playhead.errors import Changed, Damaged


class HasFileno(Protocol):
    """An open file, which stays open for as long as somebody holds this object."""

    def fileno(self) -> int: ...


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Damaged(f"a file cannot be read: {os.strerror(error.errno or 0)}") from error


@dataclass(frozen=True, slots=True)
class FileSpan:
    """`length` bytes of an open file from `offset` on, not read yet.

    Valid until the stream that gave it is advanced or closed: take it by then, or copy it.
    """

    file: HasFileno
    offset: int
    length: int

    def read(self) -> bytes:
        """The bytes themselves, read now (blocks). Raises Damaged where the file has become shorter."""
        return self.pread(0, self.length)

    def pread(self, start: int, stop: int) -> bytes:
        """The bytes [start, stop) of this span, read now (blocks)."""
        with _readable():
            got = os.pread(self.file.fileno(), stop - start, self.offset + start)
        if len(got) < stop - start:  # more than one call reads, or the file has ended
            room = bytearray(stop - start)
            FileSpan(self.file, self.offset + start, stop - start).readinto(memoryview(room))
            return bytes(room)
        return got

    def readinto(self, room: memoryview) -> None:
        """The bytes, read now (blocks) into as much room."""
        at = 0
        while at < self.length:
            with _readable():
                count = os.preadv(self.file.fileno(), [room[at : self.length]], self.offset + at)
            if not count:
                raise Damaged("a file became shorter while it was being read")
            at += count

    def __len__(self) -> int:
        return self.length


# bytes and memoryview: their memory never changes afterwards (a transport may keep a view unsent).
Piece = bytes | memoryview | FileSpan
Pieces = AsyncGenerator[Piece, None]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Blob(ABC):
    """An immutable run of `size` bytes.

    `tag`: equal tags promise equal bytes; None promises nothing, and is never kept. `modified` is when the
    origin says that the bytes last changed: for people and for HTTP's dates, never for identity.
    """

    size: int
    tag: str | None
    modified: datetime | None = field(default=None, kw_only=True)

    @abstractmethod
    def stream(self, start: int, stop: int) -> Pieces:
        """Exactly the bytes [start, stop), in order, in pieces of any length; or raise a Failure.

        Needs 0 <= start <= stop <= size. Iterate inside `aclosing`: closing early ends the work behind.
        """

    def here(self, start: int, stop: int) -> Sequence[Piece] | None:
        """The same bytes where they can be had without waiting, else None: then ask `stream`.

        May be called from any thread, and never touches a network.
        """
        return None

    async def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes [start, stop) in one piece; to the end where `stop` is None."""
        start, stop, _ = slice(start, stop).indices(self.size)
        got = []
        async with aclosing(pieces(self, start, stop)) as stream:
            async for piece in stream:
                if isinstance(piece, FileSpan):
                    piece = await asyncio.to_thread(piece.read)
                got.append(piece)
        return b"".join(got)

    def __getitem__(self, wanted: slice) -> "Blob":
        start, stop, step = wanted.indices(self.size)
        if step != 1:
            raise ValueError("a blob is cut in steps of 1")
        return cut(self, start, max(start, stop))

    def __add__(self, other: "Blob") -> "Blob":
        left = self.parts if isinstance(self, _Concat) else [self]
        right = other.parts if isinstance(other, _Concat) else [other]
        return concat([*left, *right])


async def pieces(blob: Blob, start: int, stop: int) -> Pieces:
    """The pieces of [start, stop), from `here` where that can give them, else from `stream`."""
    if (ready := blob.here(start, stop)) is not None:
        for piece in ready:
            yield piece
        return
    async with aclosing(blob.stream(start, stop)) as stream:
        async for piece in stream:
            yield piece


def identity(kind: str, *parts: str | int | None) -> str | None:
    """A tag made from a kind of composition and what it is composed of; None where a part has none."""
    if None in parts:
        return None
    texts = [str(part) for part in parts]
    whole = "".join([f"{len(text)}:{text}" for text in texts]).encode("utf-8", "surrogateescape")
    return f"{kind}:{blake2b(whole, digest_size=16).hexdigest()}"


def literal(data: bytes, tag: str | None = "") -> Blob:
    """The bytes in memory as a blob; tagged by what they are unless a `tag` (or None) is given."""
    if tag == "":
        tag = f"h:blake2b:{blake2b(data, digest_size=16).hexdigest()}"
    return _Literal(len(data), tag, data)


@dataclass(frozen=True, slots=True, eq=False)
class _Literal(Blob):
    data: bytes

    async def stream(self, start: int, stop: int) -> Pieces:
        if start < stop:
            yield memoryview(self.data)[start:stop]

    def here(self, start: int, stop: int) -> Sequence[Piece]:
        return [memoryview(self.data)[start:stop]] if start < stop else []


def cut(blob: Blob, start: int, stop: int) -> Blob:
    """The bytes [start, stop) of a blob, as a blob."""
    if not 0 <= start <= stop <= blob.size:
        raise ValueError(f"no [{start}, {stop}) in a blob of {blob.size} bytes")
    if start == 0 and stop == blob.size:
        return blob
    if isinstance(blob, _Cut):
        return cut(blob.whole, blob.start + start, blob.start + stop)
    return _Cut(blob, start, stop)


class _Cut(Blob):
    __slots__ = ("start", "whole")
    whole: Blob
    start: int

    def __init__(self, whole: Blob, start: int, stop: int) -> None:
        put = object.__setattr__
        put(self, "whole", whole)
        put(self, "start", start)
        put(self, "size", stop - start)
        put(self, "modified", whole.modified)

    @property
    def tag(self) -> str | None:  # made when asked for: bodies of answers need none
        return identity("cut", self.whole.tag, self.start, self.start + self.size)

    def stream(self, start: int, stop: int) -> Pieces:
        return self.whole.stream(self.start + start, self.start + stop)

    def here(self, start: int, stop: int) -> Sequence[Piece] | None:
        return self.whole.here(self.start + start, self.start + stop)


def concat(blobs: Iterable[Blob]) -> Blob:
    """Several blobs in a row, as one. Finding an offset in n parts costs O(log n)."""
    parts = [blob for blob in blobs if blob.size]
    if not parts:
        return literal(b"")
    if len(parts) == 1:
        return parts[0]
    ends = array("q", accumulate(part.size for part in parts))
    return _Concat(ends[-1], identity("concat", *(part.tag for part in parts)), parts, ends)


@dataclass(frozen=True, slots=True, eq=False)
class _Concat(Blob):
    parts: list[Blob]
    ends: "array[int]"

    def _within(self, start: int, stop: int) -> Iterable[tuple[Blob, int, int]]:
        at = bisect_right(self.ends, start)
        while start < stop:
            part, end = self.parts[at], self.ends[at]
            begin = end - part.size
            yield part, start - begin, min(stop, end) - begin
            start, at = end, at + 1

    async def stream(self, start: int, stop: int) -> Pieces:
        for part, a, b in self._within(start, stop):
            async with aclosing(pieces(part, a, b)) as stream:
                async for piece in stream:
                    yield piece

    def here(self, start: int, stop: int) -> Sequence[Piece] | None:
        got: list[Piece] = []
        for part, a, b in self._within(start, stop):
            ready = part.here(a, b)
            if ready is None:
                return None
            got.extend(ready)
        return got


def deferred(size: int, tag: str | None, opening: Callable[[], Awaitable[Blob]]) -> Blob:
    """A blob known by size and tag, opened when its bytes are first wanted.

    Raises Changed then, where what was opened has another size or tag.
    """
    return _Deferred(size, tag, opening)


@dataclass(frozen=True, slots=True, eq=False)
class _Deferred(Blob):
    opening: Callable[[], Awaitable[Blob]]
    opened: list[Blob] = field(default_factory=list)  # none or one
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def stream(self, start: int, stop: int) -> Pieces:
        async with self.lock:
            if not self.opened:
                self.opened.append(self._same(await self.opening()))
        async with aclosing(pieces(self.opened[0], start, stop)) as stream:
            async for piece in stream:
                yield piece

    def here(self, start: int, stop: int) -> Sequence[Piece] | None:
        return self.opened[0].here(start, stop) if self.opened else None

    def _same(self, blob: Blob) -> Blob:
        if blob.size != self.size or (self.tag and blob.tag != self.tag):
            raise Changed("a file is not the one that was listed; list it again")
        return blob
