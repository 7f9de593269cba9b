"""What a lane brings -> the part: whole blocks, written from memory that is filled while the last one is written.

What is not a whole block when a lane ends is kept for the next lane that begins there.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from playhead.doors.partial import Partial
from playhead.doors.route import Lane
from playhead.pool import SIZE, Pool
from playhead.transforms.journal import BLOCK

WRITES = 4  # writes of all lanes that are under way
AHEAD = 3 << 20  # bytes that all lanes together hold before they write
IDLE = 0.5  # seconds after which a slow lane writes what it has


class Crew(Protocol):
    """All lanes of a download, as a writer knows them. `torn`: beginnings of blocks, where lanes broke off."""

    partial: Partial
    pool: Pool
    threads: ThreadPoolExecutor
    torn: dict[int, bytes]
    broken: BaseException | None

    @property
    def open(self) -> Sequence[Lane]:
        """Those that fetch now."""

    async def written(self) -> None:
        """Something was written."""


@dataclass(slots=True, eq=False)
class Writer:
    """What a lane has and the file has not: memory that is filled while the last one is written."""

    lanes: Crew
    lane: Lane
    torn: bytes = b""  # what an earlier lane brought of the first block
    filled: int = 0
    memory: "memoryview | None" = None
    writing: "deque[asyncio.Future[None]]" = field(default_factory=deque)
    since: float = field(default_factory=time.monotonic)
    doubted: int | None = None  # from here on, what came is not to be trusted

    async def put(self, data: memoryview) -> None:
        """Take some bytes over."""
        while data:
            if self.memory is None:
                self.memory = memoryview(self.lanes.pool.take())
                self.filled = len(self.torn)
                self.memory[: self.filled] = self.torn
            room = min(len(data), SIZE - self.filled)
            self.memory[self.filled : self.filled + room] = data[:room]
            self.filled, data = self.filled + room, data[room:]
            self.lane.at += room
            if self.filled >= self._enough() or self.lane.at >= self.lane.stop:
                await self.flush()

    def _enough(self) -> int:
        """Bytes after which they are written: a share of what all lanes may hold, or a block when they come slowly."""
        share = AHEAD // max(1, len(self.lanes.open)) // BLOCK * BLOCK
        return BLOCK if time.monotonic() - self.since > IDLE else max(BLOCK, min(SIZE, share))

    async def flush(self) -> None:
        """Begin to write the whole blocks; the last of the file may be shorter."""
        lane, partial = self.lane, self.lanes.partial
        ready = self.filled if lane.at == partial.size else self.filled // BLOCK * BLOCK
        if not ready or self.memory is None:
            return
        await self.settled(max(0, WRITES // max(1, len(self.lanes.open)) - 1))
        memory, rest = self.memory, self.filled - ready
        self.memory = memoryview(self.lanes.pool.take())
        self.memory[:rest] = memory[ready : self.filled]
        self.filled, self.since, self.torn = rest, time.monotonic(), b""
        lane.route.failed = 0
        self.writing.append(asyncio.ensure_future(self._written(memory, lane.base, ready)))
        lane.base += ready

    async def _written(self, memory: memoryview, at: int, length: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self.lanes.threads, self.lanes.partial.write, at, memory[:length])
        except BaseException as error:
            self.lane.base = min(self.lane.base, at)
            self.lanes.broken = self.lanes.broken or error
            raise
        finally:
            whole = memory.obj
            memory.release()
            self.lanes.pool.put(whole)  # type: ignore[arg-type]
        await self.lanes.written()

    async def settled(self, most: int = 0) -> None:
        """Wait until no more than so many writes are under way."""
        while len(self.writing) > most:
            await asyncio.shield(self.writing[0])
            self.writing.popleft()

    def held(self) -> bytes:
        """What came of a block that is not whole."""
        return bytes(self.memory[: self.filled]) if self.memory is not None else self.torn

    async def _drop(self, start: int) -> None:
        """Forget what came from an offset on."""
        lane, self.filled, self.torn = self.lane, 0, b""
        lane.at = min(lane.base, start // BLOCK * BLOCK)
        blocks = range(lane.at // BLOCK, -(-lane.base // BLOCK))
        lane.base = lane.at
        await asyncio.to_thread(self.lanes.partial.forget, blocks)

    async def end(self) -> None:
        """Write what is whole, and is to be trusted."""
        try:
            await self.flush()
            await self.settled()
            if self.doubted is not None:
                await self._drop(self.doubted)
        finally:
            rest = self.held()
            if rest and len(rest) < BLOCK and self.lane.base + len(rest) == self.lane.at:
                self.lanes.torn[self.lane.base] = rest
            if self.memory is not None:
                whole = self.memory.obj
                self.memory.release()
                self.lanes.pool.put(whole)  # type: ignore[arg-type]
                self.memory = None
