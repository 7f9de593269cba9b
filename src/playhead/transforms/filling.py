"""What trees share that are cached: one budget of memory, and for each file what is in it, on disk, or on its way.

Buffers that a fill has finished are written to the reservoir, as many in one hop as belong together. Those that went
past the page cache, or could not be kept, stay in memory until room is needed: first goes what no reader is about to
come to. A disk that stands still is not waited for.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from typing import Protocol
from weakref import WeakValueDictionary

from playhead.blob import Blob, Piece
from playhead.errors import Unavailable
from playhead.pool import Pool
from playhead.transforms.flight import Buffer, Fill
from playhead.transforms.journal import BLOCK, RUN
from playhead.transforms.kept import Kept
from playhead.transforms.reservoir import Reservoir

MOST = 32 << 20  # bytes that are read ahead of a reader, at most
LONG = 8 << 20  # bytes of a fill that goes past the page cache
LATELY = 1024  # files whose state stays in memory
RESTING = 4  # one part of so many of the memory may hold what is on disk already
OPENED = 4  # blobs of one file, opened at different offsets, that wait to be read
TOGETHER = 8  # buffers that are written in one hop
SLOW = 5.0  # seconds without room after which the disk is not waited for
LAST = 3.0  # seconds that the end waits for a disk
STUCK = 30.0  # seconds to wait for memory

log = logging.getLogger("playhead.cache")


class AtOffset(Protocol):
    """A reader, as far as a file must know it."""

    at: int


class Cache:
    """What trees share: the reservoir (None: memory alone) and one budget of memory, in bytes."""

    def __init__(self, reservoir: Reservoir | None = None, memory: int = 256 << 20) -> None:
        self.reservoir, self.memory = reservoir, max(memory, 4 * RUN)
        self.files: WeakValueDictionary[str, File] = WeakValueDictionary()
        self.lately: OrderedDict[File, None] = OrderedDict()  # not forgotten though nobody reads them now
        self.ring: OrderedDict[Buffer, File] = OrderedDict()  # buffers that nobody is writing to, oldest first
        self.pool = Pool(self.memory // RUN)
        self.held = 0  # bytes of all buffers
        self.resting = 0  # bytes of those that are on disk too
        self.fetched = 0  # bytes that came from upstream
        self.streams = 0  # readers there are now
        self.waiters: deque[asyncio.Future[None]] = deque()
        self.queue: deque[tuple[File, Buffer]] = deque()  # what is to be written
        self.queued = 0  # bytes of that
        self.writing: asyncio.Task[None] | None = None

    async def file(self, blob: Blob, name: str, start: int | None = None) -> "File":
        """The file that a tagged blob is a version of; `start`: what it was opened to be read from."""
        assert blob.tag is not None
        kept = None
        if blob.tag not in self.files and self.reservoir:
            kept = await asyncio.to_thread(self.reservoir.kept, blob.tag, blob.size, name)
        found = self.files.get(blob.tag)
        if found is None or found.size != blob.size:
            found = self.files[blob.tag] = File(self, blob, kept)
        found.source = blob
        if start is not None:
            found.opened[start] = blob
            if len(found.opened) > OPENED:
                del found.opened[next(iter(found.opened))]
        self.lately[found] = None
        self.lately.move_to_end(found)
        while len(self.lately) > LATELY:
            self.lately.popitem(last=False)
        return found

    async def room(self, size: int) -> None:
        """Return when there is memory for `size` bytes more; they are then counted. Raises Unavailable."""
        left = STUCK
        while self.held + size > self.memory and not self._shrunk(size):
            if not left:
                raise Unavailable("there is no memory to read on: see `memory` in the configuration")
            ready = asyncio.get_running_loop().create_future()
            self.waiters.append(ready)
            try:
                async with asyncio.timeout(SLOW):
                    await ready
            except TimeoutError:
                left -= SLOW
                self._give_up_writing()
        self.held += size

    def _give_up_writing(self) -> None:
        """The disk stands still: what waits for it is not kept."""
        while self.queue:
            file, buffer = self.queue.popleft()
            file.queued -= 1
            self.queued -= len(buffer)
            self._at_rest(file, buffer, kept=False)
            file.tell()

    def _shrunk(self, size: int) -> bool:
        while self.ring and self.held + size > self.memory:
            unwanted = (buffer for buffer, file in self.ring.items() if not file.wants(buffer))
            buffer = next(unwanted, None) or next(iter(self.ring))
            file = self.ring.pop(buffer)
            self.resting -= min(self.resting, len(buffer))
            self._drop(file, buffer)
        return self.held + size <= self.memory

    def _drop(self, file: "File", buffer: Buffer) -> None:
        file.drop(buffer, buffer.start)
        self.free(buffer)

    def free(self, buffer: Buffer) -> None:
        """Nobody will look for anything in this buffer any more."""
        self.held -= len(buffer)
        buffer.memory.release()
        self.pool.put(buffer.raw)
        self.tell()

    def tell(self) -> None:
        """There may be room now."""
        while self.waiters:
            ready = self.waiters.popleft()
            if not ready.done():
                ready.set_result(None)

    def keep(self, file: "File", buffer: Buffer) -> None:
        """Have a buffer written to the reservoir."""
        if self.reservoir is None or file.kept is None:
            self._at_rest(file, buffer, kept=False)
            return
        self.queue.append((file, buffer))
        file.queued += 1
        self.queued += len(buffer)
        if self.writing is None:
            self.writing = asyncio.create_task(self._write(self.reservoir))

    async def _write(self, reservoir: Reservoir) -> None:
        """Write what is queued, in one hop to a thread as much as belongs together."""
        try:
            while self.queue:
                file, buffers = self._together()
                done = False
                try:
                    if file.kept is not None:
                        done = await asyncio.to_thread(_written, reservoir, file, buffers)
                except Exception:
                    log.exception("a bug of ours while keeping")
                finally:
                    for buffer in buffers:
                        self.queued -= len(buffer)
                        if done and not buffer.direct:  # the page cache has it
                            self._drop(file, buffer)
                        else:
                            self._at_rest(file, buffer, kept=done)
                    file.queued -= len(buffers)
                    file.tell()
        finally:
            self.writing = None

    def _together(self) -> tuple["File", list[Buffer]]:
        file, first = self.queue.popleft()
        buffers = [first]
        while self.queue and len(buffers) < TOGETHER and self.queue[0][0] is file:
            if self.queue[0][1].direct != first.direct:
                break
            buffers.append(self.queue.popleft()[1])
        return file, buffers

    def _at_rest(self, file: "File", buffer: Buffer, *, kept: bool) -> None:
        """A buffer that nobody writes to: in memory until room is needed, and of those on disk a part only."""
        self.ring[buffer] = file
        self.resting += len(buffer) * kept
        while kept and self.resting > self.memory // RESTING and self.ring:
            old, owner = self.ring.popitem(last=False)
            self.resting -= min(self.resting, len(old))
            self._drop(owner, old)
        self.tell()

    def lasting(self, file: "File") -> bool:
        """Does what is read of a file go to disk now?"""
        return self.reservoir is not None and file.kept is not None and not self.reservoir.paused

    async def aclose(self) -> None:
        """Let what is being written come to an end, and give the reservoir up."""
        if self.writing:
            await asyncio.wait([self.writing], timeout=LAST)
        if self.reservoir:
            await asyncio.to_thread(self.reservoir.close)


class File:
    """One version of one file, for all who read it."""

    def __init__(self, cache: Cache, blob: Blob, kept: Kept | None) -> None:
        self.cache, self.size, self.source, self.kept = cache, blob.size, blob, kept
        self.opened: dict[int, Blob] = {}  # by the offset that their first answer begins at
        self.memory: dict[int, Buffer] = {}  # block -> the buffer that it is in
        self.fills: list[Fill] = []
        self.queued = 0  # buffers that wait to be written
        self.waiting: list[asyncio.Future[None]] = []
        self.readers: set[AtOffset] = set()
        self.cold = False

    # ── what is there ──

    def ready(self, start: int, stop: int) -> Piece | None:
        """What can be given now of [start, stop), from its beginning on."""
        buffer = self.memory.get(start // BLOCK)
        fresh = buffer.view(start, min(stop, buffer.at)) if buffer and buffer.at > start else None
        if fresh is not None and (self.kept is None or (buffer and buffer.direct)):
            return fresh
        if self.kept is not None and self.cache.reservoir is not None:
            span = self.cache.reservoir.lease(self.kept, start, stop, touch=not self.cold)
            if span is not None:
                return span
        return fresh

    def known(self, start: int, stop: int) -> int:
        """How far on from `start` everything is here or on its way; holds nothing."""
        while start < stop:
            if buffer := self.memory.get(start // BLOCK):
                start = buffer.stop if any(fill.buffer is buffer for fill in self.fills) else buffer.at
            elif self.kept is not None and (length := self.kept.held(start, stop)):
                start += length
            elif fill := self.covering(start):
                start = fill.stop
            else:
                break
        return start

    def covering(self, offset: int) -> Fill | None:
        """The fill that is going to bring a byte."""
        return next((fill for fill in self.fills if fill.at <= offset < fill.stop), None)

    # ── filling ──

    def begin(self, start: int, stop: int) -> Fill:
        """Read [start, stop), whole blocks that nobody reads yet."""
        fill = Fill(start, stop, self._opened(start), self._room, self._full, self._over)
        fill.direct = stop - start >= LONG
        self.fills.append(fill)
        return fill

    def _opened(self, start: int) -> Blob:
        """The blob whose opening answer begins here, or a little before; else any."""
        at = max((at for at in self.opened if at <= start <= at + 3 * BLOCK), default=None)
        return self.source if at is None else self.opened.pop(at)

    async def _room(self, fill: Fill, start: int, stop: int) -> Buffer:
        size = -(-(stop - start) // BLOCK) * BLOCK
        await self.cache.room(size)
        buffer = Buffer(start, stop, fill.direct, self.cache.pool.take())
        for block in range(start // BLOCK, -(-stop // BLOCK)):
            self.memory[block] = buffer
        return buffer

    def _full(self, fill: Fill, buffer: Buffer) -> None:
        """Keep the whole blocks of a buffer, and forget a block that was begun only."""
        self.cache.fetched += buffer.at - buffer.start
        end = buffer.at if buffer.at == self.size else buffer.at // BLOCK * BLOCK
        self.drop(buffer, end)
        if end > buffer.start:
            buffer.at = buffer.stop = end
            self.cache.keep(self, buffer)
        else:
            self.cache.free(buffer)

    def _over(self, fill: Fill) -> None:
        self.fills.remove(fill)

    def wants(self, buffer: Buffer) -> bool:
        """Is a reader about to come to it?"""
        return any(reader.at < buffer.at and buffer.start < reader.at + MOST for reader in self.readers)

    async def settled(self) -> None:
        """Return when what has come is on disk, as far as it is to be."""
        while self.queued:
            ready = asyncio.get_running_loop().create_future()
            self.waiting.append(ready)
            await ready

    def tell(self) -> None:
        """Something was written."""
        for ready in self.waiting:
            if not ready.done():
                ready.set_result(None)
        self.waiting.clear()

    def drop(self, buffer: Buffer, start: int) -> None:
        """Forget the blocks of a buffer from `start` on."""
        for block in range(-(-start // BLOCK), -(-buffer.stop // BLOCK)):
            if self.memory.get(block) is buffer:
                del self.memory[block]


def _written(reservoir: Reservoir, file: File, buffers: list[Buffer]) -> bool:
    assert file.kept is not None
    parts = [(buffer.start, buffer.memory[: buffer.at - buffer.start]) for buffer in buffers]
    return reservoir.write(file.kept, parts, cold=file.cold, direct=buffers[0].direct)
