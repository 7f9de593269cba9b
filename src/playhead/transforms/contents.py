"""Plan -> the members' own bytes: those that the plan is about, and their CRCs.

A member must be what the plan says: another size or tag is Changed. A CRC that nobody supplied is taken from what
keeps the file, or computed as the bytes pass, or by reading the member; that goes on when the asker leaves.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

from playhead.blob import Blob, FileSpan, Piece, Pieces, pieces
from playhead.errors import Changed, Damaged, Failure
from playhead.respond import wire_tag
from playhead.transforms.crc import crc32
from playhead.transforms.learned import Learned
from playhead.transforms.plan import UNKNOWN, Plan
from playhead.tree import Ask, Why

SPAN = 1 << 20  # bytes of a file that are read at once, where its CRC is wanted
WIRE = "etag:"  # before a tag as HTTP shows it
READERS = 8  # members that are read at a time for their CRCs alone

T = TypeVar("T")
Opener = Callable[[int, Ask], Awaitable[Blob]]
"""The bytes of a member, by its number in the plan."""


@runtime_checkable
class HasCrc(Protocol):
    """A blob that may know its CRC-32 without reading."""

    def crc32(self) -> int | None: ...


@dataclass(slots=True, eq=False)
class Contents:
    """`learned` may be shared by all that read the same members."""

    plan: Plan
    opener: Opener
    learned: Learned = field(default_factory=Learned)
    reading: dict[int, "asyncio.Task[int]"] = field(default_factory=dict)
    limit: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(READERS))

    @contextmanager
    def named(self, number: int) -> Iterator[None]:
        """What fails here says in which member."""
        try:
            yield
        except Failure as failure:
            failure.add_note(f"in {self.plan.names[number]!r}")
            raise

    async def open(self, number: int, ask: Ask) -> Blob:
        """A member's bytes, which are those that the plan is about. Raises Changed."""
        blob = await self.opener(number, ask)
        self.same(number, blob.size, blob.tag)
        self.pin(number, blob.tag)
        return blob

    def same(self, number: int, size: int, tag: str | None) -> None:
        """Raises Changed where a member is not the one that the plan is about."""
        plan = self.plan
        wanted = plan.tags[number] or self.learned.pins.get(number)
        if size != plan.sizes[number] or (wanted and not _is(tag, wanted)):
            self.learned.changed = True
            raise Changed(f"{plan.names[number]!r} is not what it was when the bundle was made; make it anew")

    def pin(self, number: int, tag: str | None) -> None:
        """Remember the version of a member, where the plan does not say it."""
        if tag and not self.plan.tags[number]:
            self.learned.pin(number, tag)

    async def data(self, blob: Blob, number: int, start: int, stop: int, *, counted: bool) -> Pieces:
        """The bytes of a member that was opened; `counted`: its CRC is wanted, if all of them pass."""
        await self.learned.settled()
        counted = counted and number not in self.learned.crcs and stop - start == self.plan.sizes[number]
        if counted and (known := _known(blob)) is not None:
            self.learned.crc(number, known)
            counted = False
        crc = 0
        with self.named(number):
            async with aclosing(exactly(pieces(blob, start, stop), stop - start)) as stream:
                async for piece in stream:
                    if not counted:
                        yield piece
                        continue
                    async for part in _read(piece):
                        crc = crc32(part, crc)
                        yield part
        if counted:
            self.learned.crc(number, crc)

    async def crc(self, number: int) -> int:
        """The CRC-32 of a member; read for it where nobody knows it. That goes on if the asker leaves."""
        if (supplied := self.plan.crcs[number]) != UNKNOWN:
            return supplied
        if self.plan.sizes[number] == 0:
            return 0
        if number not in self.learned.crcs:
            if number not in self.reading:
                self.reading[number] = asyncio.create_task(self._read_for_crc(number))
            await asyncio.shield(self.reading[number])
        await self.learned.settled()
        return self.learned.crcs[number]

    async def all_crcs(self) -> list[int]:
        """The CRC-32 of every member, in their order."""
        return await everyone([self.crc(number) for number in range(len(self.plan))])

    async def _read_for_crc(self, number: int) -> int:
        crc = 0
        try:
            with self.named(number):
                async with self.limit:
                    blob = await self.open(number, Ask(0, None, Why.BULK))
                    known = _known(blob)
                    if known is None:
                        async with aclosing(exactly(pieces(blob, 0, blob.size), blob.size)) as stream:
                            async for piece in stream:
                                async for part in _read(piece):
                                    crc = crc32(part, crc)
                    self.learned.crc(number, crc if known is None else known)
                return self.learned.crcs[number]
        finally:
            del self.reading[number]


def _known(blob: Blob) -> int | None:
    return blob.crc32() if isinstance(blob, HasCrc) else None


def _is(tag: str | None, wanted: str) -> bool:
    if wanted.startswith(WIRE):
        return tag is not None and wire_tag(tag) == wanted[len(WIRE) :]
    return tag == wanted


async def everyone(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """What all give, in their order; where one fails the others are ended, and it is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def exactly(stream: Pieces, size: int) -> Pieces:
    """A stream that must have `size` bytes: one that breaks its promise must not put the archive out of joint."""
    left = size
    async with aclosing(stream):
        async for piece in stream:
            left -= len(piece)
            if left < 0:
                raise Damaged(f"more than the {size:,} bytes that were promised came")
            yield piece
    if left:
        raise Damaged(f"a stream ended {left:,} bytes early")


async def _read(piece: Piece) -> Pieces:
    """A piece in memory, a long span as several."""
    if not isinstance(piece, FileSpan):
        yield piece
        return
    for at in range(0, piece.length, SPAN):
        yield await asyncio.to_thread(piece.pread, at, min(piece.length, at + SPAN))
