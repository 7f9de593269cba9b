"""Plan, layout -> Blob: the bytes of an archive, computed where they are asked for.

A layout says where each member begins and what stands around it; the members' own bytes come from their blobs, as file
spans where these give them. Members that come next are opened, small ones read, while the present one leaves: as many
as fit into a budget, and none while nobody takes anything. Small pieces leave together.

A member must be what the plan says: another size or tag is Changed, and ends the stream there, never a byte later. A
CRC that nobody supplied is taken from what keeps the file, or computed as the bytes pass, or by reading the member;
that goes on when the asker leaves, and is remembered.
"""

import asyncio
from abc import ABC, abstractmethod
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

from playhead.blob import Blob, FileSpan, Piece, Pieces, pieces
from playhead.errors import Changed, Damaged, Failure
from playhead.respond import wire_tag
from playhead.transforms.crc import crc32
from playhead.transforms.plan import FOLDER, UNKNOWN, Plan
from playhead.tree import Ask, Why

TINY = 64 << 10  # bytes of a member that is read together with its neighbours, where they can be
FEW = 4  # members that are worth that
SMALL = 256 << 10  # bytes of a member that is read whole before its turn
BUDGET = 16 << 20  # bytes that are read ahead of the one who takes them
MANY = 96  # members that are opened ahead, at most
TOGETHER = 256 << 10  # bytes of small pieces that leave as one
SOON = 0.02  # seconds that a small piece waits for others
SPAN = 1 << 20  # bytes of a file that are read at once, where its CRC is wanted
WIRE = "etag:"  # before a tag as HTTP shows it
READERS = 8  # members that are read at a time for their CRCs alone

T = TypeVar("T")
Opener = Callable[[int, Ask], Awaitable[Blob]]
"""The bytes of a member, by its number in the plan."""
Gather = Callable[[Sequence[int]], Sequence[tuple[bytes, str | None]] | None]
"""The whole of some small members and their tags, read in a thread; None: they are to be opened one by one."""


@runtime_checkable
class HasCrc(Protocol):
    """A blob that may know its CRC-32 without reading."""

    def crc32(self) -> int | None: ...


class Layout(ABC):
    """Where members begin, and what stands around them. `begins` has one more than there are members: the end's."""

    begins: "array[int]"

    @abstractmethod
    def head(self, number: int) -> bytes:
        """What stands before a member's bytes."""

    @abstractmethod
    def tail(self, number: int, crc: int) -> bytes:
        """What stands after them."""

    @abstractmethod
    def end(self, start: int, stop: int, crc: Callable[[int], Awaitable[int]]) -> AsyncGenerator[bytes, None]:
        """The bytes [start, stop) after the last member, counted from there."""

    def wants(self, number: int) -> bool:
        """Does its tail hold a CRC that the plan does not supply?"""
        return False


@dataclass(slots=True)
class Crcs:
    """The CRCs that were learned; `learned` is called with each new one."""

    values: dict[int, int] = field(default_factory=dict)
    reading: dict[int, "asyncio.Task[int]"] = field(default_factory=dict)
    limit: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(READERS))
    learned: Callable[[int, int], None] = lambda number, crc: None

    def put(self, number: int, crc: int) -> None:
        """One was learned."""
        if number not in self.values:
            self.values[number] = crc
            self.learned(number, crc)


@dataclass(frozen=True, slots=True, eq=False)
class Archive(Blob):
    """An archive; `crcs` may be shared by all that read the same one."""

    plan: Plan
    opener: Opener
    layout: Layout
    crcs: Crcs = field(default_factory=Crcs)
    gather: Gather | None = None

    async def stream(self, start: int, stop: int) -> Pieces:
        if start >= stop:
            return
        async with aclosing(_joined(self._parts(start, stop))) as joined:
            async for piece in joined:
                yield piece

    async def _parts(self, start: int, stop: int) -> Pieces:
        begins, count = self.layout.begins, len(self.plan)
        number = min(max(0, bisect_right(begins, start) - 1), count)
        ahead, begun = _Ahead(self, number, start, stop), False
        try:
            while number < count and begins[number] < stop:
                if (run := self.run(number, start, stop)) and (made := await ahead.gathered(run)) is not None:
                    begun, number = True, run.stop
                    yield made
                    continue
                async with aclosing(self._member(number, start, stop, ahead, begun=begun)) as member:
                    async for piece in member:
                        begun = True
                        yield piece
                number += 1
        finally:
            await ahead.aclose()
        if stop > begins[count]:
            base = begins[count]
            async with aclosing(self.layout.end(max(0, start - base), stop - base, self.crc)) as end:
                async for piece in end:
                    yield piece

    def run(self, number: int, start: int, stop: int) -> range | None:
        """The small members from one on that can be read together: wholly asked for, and nobody looks at them yet."""
        begins, sizes, last = self.layout.begins, self.plan.sizes, number
        if self.gather is None or begins[number] < start:
            return None
        limit = min(stop, begins[number] + TOGETHER * 4)
        while last < len(sizes) and sizes[last] <= TINY and begins[last + 1] <= limit:
            last += 1
        return range(number, last) if last - number >= FEW else None

    def together(self, run: range) -> tuple[bytes, list[tuple[int, int, str | None]]] | None:
        """The bytes of some small members with what stands around them, and their CRCs and tags (blocks)."""
        assert self.gather is not None
        plan, layout, made, learned = self.plan, self.layout, bytearray(), []
        full = [number for number in run if plan.sizes[number]]
        contents = self.gather(full)
        if contents is None:
            return None
        found = dict(zip(full, contents, strict=True))
        for number in run:
            data, tag = found.get(number, (b"", None))
            if number in found:
                self._same(number, len(data), tag)
            crc = crc32(data) if layout.wants(number) else 0
            if number in found:
                learned.append((number, crc, tag))
            made += layout.head(number) + data + layout.tail(number, crc)
        return bytes(made), learned

    def learn(self, learned: list[tuple[int, int, str | None]]) -> None:
        """Remember what was learned of members."""
        for number, crc, tag in learned:
            if self.layout.wants(number):
                self.crcs.put(number, crc)
            if not self.plan.tags[number] and tag:
                self._pin(number, tag)

    async def _member(self, number: int, start: int, stop: int, ahead: "_Ahead", *, begun: bool) -> Pieces:
        head, size = self.layout.head(number), self.plan.sizes[number]
        at = self.layout.begins[number]
        before = head[max(0, start - at) : stop - at] if start < at + len(head) else b""
        at += len(head)
        a, b = max(0, start - at), min(size, stop - at)
        if a < b:
            async with aclosing(self._data(number, a, b, ahead)) as data:
                if begun and before:
                    yield before  # so that no reader takes what ends here for a whole archive
                first = await anext(data)
                if before and not begun:
                    yield before  # a first member that cannot be had is an error without any byte
                yield first
                async for piece in data:
                    yield piece
        elif before:
            yield before
        at += size
        if stop > at:
            wants = self.layout.wants(number)
            tail = self.layout.tail(number, await self.crc(number) if wants else 0)
            yield tail[max(0, start - at) : stop - at]

    async def _data(self, number: int, start: int, stop: int, ahead: "_Ahead") -> Pieces:
        """The bytes of a member, counted if all of them pass and their CRC is wanted."""
        size, crc = self.plan.sizes[number], 0
        with self._named(number):
            blob = await ahead.take(number)
        counted = self.layout.wants(number) and number not in self.crcs.values and stop - start == size
        if counted and isinstance(blob, HasCrc) and (known := blob.crc32()) is not None:
            self.crcs.put(number, known)
            counted = False
        with self._named(number):
            async with aclosing(_exactly(pieces(blob, start, stop), stop - start)) as stream:
                async for piece in stream:
                    for part in _parts_of(piece) if counted else (piece,):
                        if counted:
                            part = await asyncio.to_thread(part.read) if isinstance(part, FileSpan) else part
                            crc = crc32(part, crc)
                        yield part
        if counted:
            self.crcs.put(number, crc)

    @contextmanager
    def _named(self, number: int) -> Iterator[None]:
        """What fails here says in which member."""
        try:
            yield
        except Failure as failure:
            failure.add_note(f"in {self.plan.names[number]!r}")
            raise

    async def open(self, number: int, ask: Ask) -> Blob:
        """A member's bytes, which are those that the plan is about. Raises Changed."""
        blob = await self.opener(number, ask)
        self._same(number, blob.size, blob.tag)
        if blob.tag and not self.plan.tags[number]:
            self._pin(number, blob.tag)
        return blob

    def _same(self, number: int, size: int, tag: str | None) -> None:
        """Raises Changed where a member is not the one that the plan is about."""
        plan = self.plan
        wanted = plan.tags[number] or plan.pins.get(number)
        if size != plan.sizes[number] or (wanted and not _is(tag, wanted)):
            raise Changed(f"{plan.names[number]!r} is not what it was when the bundle was made; make it anew")

    def _pin(self, number: int, tag: str) -> None:
        if number not in self.plan.pins:
            self.plan.pins[number] = tag

    async def crc(self, number: int) -> int:
        """The CRC-32 of a member; read for it where nobody knows it. That goes on if the asker leaves."""
        if (supplied := self.plan.crcs[number]) != UNKNOWN:
            return supplied
        if self.plan.sizes[number] == 0:
            return 0
        if number not in self.crcs.values:
            if number not in self.crcs.reading:
                self.crcs.reading[number] = asyncio.create_task(self._read_for_crc(number))
            await asyncio.shield(self.crcs.reading[number])
        return self.crcs.values[number]

    async def all_crcs(self) -> list[int]:
        """The CRC-32 of every member, in their order."""
        return await everyone([self.crc(number) for number in range(len(self.plan))])

    async def _read_for_crc(self, number: int) -> int:
        crc = 0
        try:
            async with self.crcs.limit:
                blob = await self.open(number, Ask(0, None, Why.BULK))
                known = blob.crc32() if isinstance(blob, HasCrc) else None
                if known is None:
                    async with aclosing(_exactly(pieces(blob, 0, blob.size), blob.size)) as stream:
                        async for piece in stream:
                            for part in _parts_of(piece):
                                data = await asyncio.to_thread(part.read) if isinstance(part, FileSpan) else part
                                crc = crc32(data, crc)
                self.crcs.put(number, crc if known is None else known)
            return self.crcs.values[number]
        except Failure as failure:
            failure.add_note(f"in {self.plan.names[number]!r}")
            raise
        finally:
            del self.crcs.reading[number]


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


class _Ahead:
    """The members of [start, stop) from one on, opened before their turn."""

    def __init__(self, archive: Archive, number: int, start: int, stop: int) -> None:
        self.archive, self.start, self.stop = archive, start, stop
        self.next = number
        self.run: tuple[range, asyncio.Task[bytes | None]] | None = None
        self.tasks: deque[tuple[int, int, asyncio.Task[Blob]]] = deque()
        self.held = 0
        self.refused = 0  # up to here, members cannot be read together

    def _fill(self) -> None:
        """Begin as many as there is room for."""
        layout, plan = self.archive.layout, self.archive.plan
        while self.next < len(plan) and len(self.tasks) < MANY - 1 and (self.held < BUDGET or not self.tasks):
            number, begin = self.next, layout.begins[self.next]
            if begin >= self.stop:
                return
            if number >= self.refused and self.archive.run(number, self.start, self.stop):
                return  # these are read together, when it is their turn
            self.next += 1
            if plan.kinds[number] == FOLDER or not plan.sizes[number]:
                continue
            base = begin + len(layout.head(number))
            a, b = max(0, self.start - base), min(plan.sizes[number], self.stop - base)
            if a >= b:
                continue
            cost = b - a if b - a <= SMALL else BUDGET  # of a long one the answer must not wait long
            self.held += cost
            self.tasks.append((number, cost, asyncio.create_task(self._begun(number, a, b))))

    async def _begun(self, number: int, start: int, stop: int) -> Blob:
        last = None if stop == self.archive.plan.sizes[number] else stop
        blob = await self.archive.open(number, Ask(start, last, Why.BULK))
        return await _ready(blob, start, stop) if stop - start <= SMALL else blob

    async def gathered(self, run: range) -> bytes | None:
        """Small members read together, and the next such run begun; None: they are to be opened one by one."""
        archive = self.archive
        if self.tasks or archive.gather is None or run.start < self.refused:
            return None
        if self.run is None or self.run[0] != run:
            self.run = run, asyncio.create_task(self._together(run))
        made = await self.run[1]
        self.run = None
        if made is None:
            self.refused = len(archive.plan)  # they would be refused again
            return None
        self.next = run.stop
        if run.stop < len(archive.plan) and (following := archive.run(run.stop, self.start, self.stop)):
            self.run = following, asyncio.create_task(self._together(following))
        return made

    async def _together(self, run: range) -> bytes | None:
        try:
            found = await asyncio.to_thread(self.archive.together, run)
        except Failure:
            found = None  # opened one by one, they say which it is, after what comes before it
        if found is None:
            return None
        self.archive.learn(found[1])
        return found[0]

    async def take(self, number: int) -> Blob:
        """A member that has its turn now."""
        self._fill()
        at, cost, task = self.tasks.popleft()
        assert at == number
        try:
            return await task
        finally:
            self.held -= cost
            self._fill()

    async def aclose(self) -> None:
        tasks: list[asyncio.Task[Any]] = [task for _, _, task in self.tasks]
        if self.run is not None:
            tasks.append(self.run[1])
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
            for task in tasks:
                if not task.cancelled():
                    task.exception()


def _is(tag: str | None, wanted: str) -> bool:
    if wanted.startswith(WIRE):
        return tag is not None and wire_tag(tag) == wanted[len(WIRE) :]
    return tag == wanted


async def _exactly(stream: Pieces, size: int) -> Pieces:
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


async def _ready(blob: Blob, start: int, stop: int) -> Blob:
    """A blob whose range is at hand now."""
    if blob.here(start, stop) is not None:
        return blob
    data = await blob.read(start, stop)
    if len(data) != stop - start:
        raise Damaged(f"{len(data):,} bytes came where {stop - start:,} were promised")
    return _Window(blob.size, None, data, start)


@dataclass(frozen=True, slots=True, eq=False)
class _Window(Blob):
    """A blob of which one range was read."""

    data: bytes
    begin: int

    async def stream(self, start: int, stop: int) -> Pieces:
        yield memoryview(self.data)[start - self.begin : stop - self.begin]


def _parts_of(piece: Piece) -> list[Piece]:
    """A long span as parts that are read one by one."""
    if not isinstance(piece, FileSpan) or piece.length <= SPAN:
        return [piece]
    end = piece.offset + piece.length
    return [FileSpan(piece.file, at, min(SPAN, end - at)) for at in range(piece.offset, end, SPAN)]


async def _joined(parts: Pieces) -> Pieces:
    """The same bytes, small pieces in memory joined; but none waits for a piece that is long in coming."""
    small: list[bytes | memoryview] = []
    held = 0
    coming: asyncio.Future[Piece | None] | None = None
    try:
        while True:
            coming = asyncio.ensure_future(anext(parts, None))
            if small and not (await asyncio.wait([coming], timeout=SOON))[0]:
                yield b"".join(small)
                small, held = [], 0
            try:
                part = await coming
            except Failure:
                if small:  # what came before is right, and need not be sent again
                    yield b"".join(small)
                raise
            if isinstance(part, FileSpan) and part.length <= TOGETHER // 4:
                part = await asyncio.to_thread(part.read)
            if part is not None and not isinstance(part, FileSpan) and len(part) < TOGETHER:
                small.append(part)
                held += len(part)
            if small and (part is None or held >= TOGETHER or part is not small[-1]):
                yield b"".join(small)
                small, held = [], 0
            if part is None:
                return
            if isinstance(part, FileSpan) or len(part) >= TOGETHER:
                yield part
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.wait([coming])
            if not coming.cancelled():
                coming.exception()  # nobody waits for it any more
        await parts.aclose()
