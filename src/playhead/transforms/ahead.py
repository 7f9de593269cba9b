"""Contents, layout -> the members of a range, opened before their turn.

As many as fit into a budget, and none while nobody takes anything. Small ones are read whole; runs of tiny ones are
read together, with what stands around them, where their tree can do that.
"""

import asyncio
from abc import ABC, abstractmethod
from array import array
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from playhead.blob import Blob, Pieces
from playhead.errors import Damaged, Failure
from playhead.transforms.contents import Contents
from playhead.transforms.crc import crc32
from playhead.transforms.plan import FOLDER
from playhead.tree import Ask, Why

TINY = 64 << 10  # bytes of a member that is read together with its neighbours, where they can be
FEW = 4  # members that are worth that
SMALL = 256 << 10  # bytes of a member that is read whole before its turn
BUDGET = 16 << 20  # bytes that are read ahead of the one who takes them
MANY = 96  # members that are opened ahead, at most
RUN = 1 << 20  # bytes of small members that are read together

Gather = Callable[[Sequence[int]], Sequence[tuple[bytes, str | None]] | None]
"""The whole of some small members and their tags, read in a thread; None: they are to be opened one by one."""


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


class Ahead:
    """The members of [start, stop) of an archive, from one on."""

    def __init__(
        self, contents: Contents, layout: Layout, gather: Gather | None, number: int, start: int, stop: int
    ) -> None:
        self.contents, self.layout, self.gather = contents, layout, gather
        self.start, self.stop, self.next = start, stop, number
        self.begun: tuple[range, asyncio.Task[bytes | None]] | None = None
        self.tasks: deque[tuple[int, int, asyncio.Task[Blob]]] = deque()
        self.held = 0
        self.refused = 0  # up to here, members cannot be read together

    # ── one by one ──

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

    def _fill(self) -> None:
        """Begin as many as there is room for."""
        layout, plan = self.layout, self.contents.plan
        while self.next < len(plan) and len(self.tasks) < MANY - 1 and (self.held < BUDGET or not self.tasks):
            number, begin = self.next, layout.begins[self.next]
            if begin >= self.stop:
                return
            if number >= self.refused and self.run(number):
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
            self.tasks.append((number, cost, asyncio.create_task(self._opened(number, a, b))))

    async def _opened(self, number: int, start: int, stop: int) -> Blob:
        last = None if stop == self.contents.plan.sizes[number] else stop
        blob = await self.contents.open(number, Ask(start, last, Why.BULK))
        return await _ready(blob, start, stop) if stop - start <= SMALL else blob

    # ── together ──

    def run(self, number: int) -> range | None:
        """The small members from one on that can be read together: wholly asked for, and nobody looks at them yet."""
        begins, sizes, last = self.layout.begins, self.contents.plan.sizes, number
        if self.gather is None or begins[number] < self.start:
            return None
        limit = min(self.stop, begins[number] + RUN)
        while last < len(sizes) and sizes[last] <= TINY and begins[last + 1] <= limit:
            last += 1
        return range(number, last) if last - number >= FEW else None

    async def gathered(self, run: range) -> bytes | None:
        """Small members read together, and the next such run begun; None: they are to be opened one by one."""
        if self.tasks or run.start < self.refused:
            return None
        if self.begun is None or self.begun[0] != run:
            self.begun = run, asyncio.create_task(self._read(run))
        made = await self.begun[1]
        self.begun = None
        if made is None:
            self.refused = len(self.contents.plan)  # they would be refused again
            return None
        self.next = run.stop
        if run.stop < len(self.contents.plan) and (following := self.run(run.stop)):
            self.begun = following, asyncio.create_task(self._read(following))
        return made

    async def _read(self, run: range) -> bytes | None:
        try:
            found = await asyncio.to_thread(self._together, run)
        except Failure:
            found = None  # opened one by one, they say which it is, after what comes before it
        if found is None:
            return None
        made, learned = found
        for number, crc, tag in learned:
            if self.layout.wants(number):
                self.contents.learned.crc(number, crc)
            self.contents.pin(number, tag)
        await self.contents.learned.settled()
        return made

    def _together(self, run: range) -> tuple[bytes, list[tuple[int, int, str | None]]] | None:
        """The bytes of some small members with what stands around them, and their CRCs and tags (blocks)."""
        assert self.gather is not None
        sizes, layout, made, learned = self.contents.plan.sizes, self.layout, bytearray(), []
        full = [number for number in run if sizes[number]]
        found = self.gather(full)
        if found is None:
            return None
        known = dict(zip(full, found, strict=True))
        for number in run:
            data, tag = known.get(number, (b"", None))
            if number in known:
                self.contents.same(number, len(data), tag)
            crc = crc32(data) if layout.wants(number) else 0
            if number in known:
                learned.append((number, crc, tag))
            made += layout.head(number) + data + layout.tail(number, crc)
        return bytes(made), learned

    async def aclose(self) -> None:
        """Nobody takes any more."""
        tasks: list[asyncio.Task[Any]] = [task for _, _, task in self.tasks]
        if self.begun is not None:
            tasks.append(self.begun[1])
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
            for task in tasks:
                if not task.cancelled():
                    task.exception()


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
