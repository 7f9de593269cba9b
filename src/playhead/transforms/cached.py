"""Tree -> Tree: each block is read from upstream once, whoever asks, ahead of who listens, and kept.

A reader takes what is there: a span of the reservoir's file, or memory that a fill (see `flight`) has just filled.
What is not there is being read by somebody's fill, or the reader begins one. It also looks ahead: the first request
is for what was asked, 256 KiB at least; the next is twice as long, and is sent when the first byte of the former has
come; what is asked for beyond the reader is at most what it takes in 20 s, and 32 MiB. Fills run at the origin's
speed, never at a slow client's. Buffers that were written to disk stay in memory until room is needed, and all
buffers together stay below one budget.

Nothing is kept of what has no tag.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from weakref import WeakSet, WeakValueDictionary

from playhead.blob import Blob, Piece, Pieces
from playhead.errors import Unavailable
from playhead.pool import Pool
from playhead.transforms.flight import Buffer, Fill, whole_blocks
from playhead.transforms.journal import BLOCK, RUN
from playhead.transforms.reservoir import LEASE, Kept, Reservoir
from playhead.tree import Ask, Entries, Entry, Tree, Why

FIRST = 256 << 10  # bytes of the shortest first request
PLAIN = 8 << 20  # bytes of the longest first request, where its end was named
AHEAD = 20.0  # seconds of a reader's own pace that are read ahead of it
LEAST, MOST = 1 << 20, 32 << 20  # bytes that are read ahead, at least and at most
LONG = 8 << 20  # bytes of a fill that goes past the page cache
NEAR = 1 << 20  # bytes that a reader waits for a fill to come, rather than begin its own
LATELY = 1024  # files whose state stays in memory
RESTING = 4  # one part of so many of the memory may hold what is on disk already
TOGETHER = 8  # buffers that are written in one hop
SLOW = 5.0  # seconds without room after which the disk is not waited for
STUCK = 30.0  # seconds to wait for memory


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

    async def file(self, blob: Blob, name: str) -> "File":
        """The file that a tagged blob is a version of."""
        assert blob.tag is not None
        kept = None
        if blob.tag not in self.files and self.reservoir:
            kept = await asyncio.to_thread(self.reservoir.kept, blob.tag, blob.size, name)
        found = self.files.get(blob.tag)
        if found is None or found.size != blob.size:
            found = self.files[blob.tag] = File(self, blob, kept)
        found.source = blob
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
            await asyncio.wait([self.writing])
        if self.reservoir:
            await asyncio.to_thread(self.reservoir.close)


class File:
    """One version of one file, for all who read it."""

    def __init__(self, cache: Cache, blob: Blob, kept: Kept | None) -> None:
        self.cache, self.size, self.source, self.kept = cache, blob.size, blob, kept
        self.memory: dict[int, Buffer] = {}  # block -> the buffer that it is in
        self.fills: list[Fill] = []
        self.queued = 0  # buffers that wait to be written
        self.waiting: list[asyncio.Future[None]] = []
        self.readers: set[Reader] = set()
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
        fill = Fill(start, stop, self.source, self._room, self._full, self._over)
        fill.direct = stop - start >= LONG
        self.fills.append(fill)
        return fill

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


class Reader:
    """One who reads on from `start`, and what is read ahead for it."""

    def __init__(self, file: File, start: int, stop: int) -> None:
        self.file, self.start, self.at, self.began = file, start, start, time.monotonic()
        file.readers.add(self)
        self.end = whole_blocks(start, stop, file.size)[1]
        first = first_request(start, None if stop == file.size else stop)
        self.length = first[1] - first[0]
        self.held: set[Fill] = set()
        file.cache.streams += 1

    def leave(self) -> None:
        """It wants nothing more."""
        self.file.readers.discard(self)
        self.file.cache.streams -= 1
        for fill in self.held:
            fill.release()
        self.held.clear()

    def hold(self, fill: Fill) -> Fill:
        """It wants what a fill brings."""
        if fill not in self.held:
            self.held.add(fill)
            fill.hold()
            self.length = min(MOST, max(self.length, 2 * (fill.stop - fill.start)))
        return fill

    def pass_by(self, at: int) -> None:
        """It has come to `at`: fills that end before are nothing to it any more."""
        for fill in [fill for fill in self.held if fill.stop <= at]:
            self.held.discard(fill)
            fill.release()

    def window(self, at: int) -> int:
        """Bytes to have ready ahead of it."""
        pace = (at - self.start) / max(1.0, time.monotonic() - self.began)
        wanted, cache = int(min(MOST, max(LEAST, AHEAD * pace))), self.file.cache
        if cache.lasting(self.file):
            return wanted
        return min(wanted, max(FIRST, cache.memory // (2 * max(1, cache.streams))))  # it must stay in memory till then

    def look_ahead(self, at: int) -> None:
        """Begin to read what it will want soon."""
        self.at = at
        if self.held:
            self.pass_by(at)
        window = self.window(at)
        limit = min(self.end, at + window)
        early = False
        for fill in self.file.fills:
            if fill.start < limit and fill.stop > at:
                self.hold(fill)
                early = early or not _well_on(fill)
        edge = at if early else self.file.known(at, limit)
        if edge == at:
            return  # not yet; or it is about to ask for that itself
        if limit - edge >= min(self.length, window // 2, self.end - edge) and edge < self.end:
            self.begin(edge, limit)

    def begin(self, start: int, limit: int) -> Fill:
        """Begin the next request, twice as long as the one before; not beyond `limit`."""
        start, limit = whole_blocks(start, max(limit, start + 1), self.file.size)
        stop = min(limit, start + self.length)
        at = min(stop, start + BLOCK)
        while at < stop and self.file.known(at, at + 1) == at:
            at = min(stop, at + BLOCK)
        return self.hold(self.file.begin(start, at))

    async def wait(self, at: int) -> None:
        """Return when there may be something at `at`. Raises why it cannot be had."""
        file, reservoir = self.file, self.file.cache.reservoir
        if file.kept is not None and reservoir is not None and file.kept.held(at, at + 1):
            stop = min(self.end, at + RUN)
            file.kept = await asyncio.to_thread(_checked, reservoir, file.kept, at, stop)
            if file.ready(at, at + 1) is not None:
                return
        fill = file.covering(at)
        if fill is not None and at - fill.at > NEAR:  # it would take too long: that one goes up to here only
            fill.stop, fill = at // BLOCK * BLOCK, None
        if fill is None:
            fill = self.begin(at, max(self.end, at + FIRST) if at == self.start else at + self.window(at))
        self.hold(fill)
        await fill.beyond(at)
        if fill.failure is not None and fill.at <= at:
            raise fill.failure


def _written(reservoir: Reservoir, file: File, buffers: list[Buffer]) -> bool:
    assert file.kept is not None
    parts = [(buffer.start, buffer.memory[: buffer.at - buffer.start]) for buffer in buffers]
    return reservoir.write(file.kept, parts, cold=file.cold, direct=buffers[0].direct)


def _well_on(fill: Fill) -> bool:
    """Has a fill come so far that the next may begin? With its first byte; a long one with its half."""
    return fill.at > fill.start and (fill.stop - fill.start < LONG or fill.at >= (fill.start + fill.stop) // 2)


def _checked(reservoir: Reservoir, kept: Kept, start: int, stop: int) -> Kept | None:
    """What is kept, its file open and the CRCs of [start, stop) compared."""
    found = reservoir.kept(kept.tag, kept.size, kept.name)
    if found is not None:
        reservoir.check(found, start, stop)
    return found


def first_request(start: int, stop: int | None) -> tuple[int, int]:
    """The whole blocks that are asked for first, for who wants [start, stop) or reads on to the end."""
    length = FIRST if stop is None else max(FIRST, min(stop - start, PLAIN))
    first = start // BLOCK * BLOCK
    return first, max(first + FIRST, -(-(start + length) // BLOCK) * BLOCK if stop is not None else 0)


@dataclass(frozen=True, slots=True, eq=False)
class CachedBlob(Blob):
    """A file that is read through the cache."""

    file: File

    async def stream(self, start: int, stop: int) -> Pieces:
        file, at = self.file, start
        if start >= stop:
            return
        reader = Reader(file, start, stop)
        try:
            while at < stop:
                reader.look_ahead(at)
                piece = file.ready(at, stop)
                if piece is None:
                    await reader.wait(at)
                    continue
                yield piece
                at += len(piece)
        finally:
            reader.leave()

    def here(self, start: int, stop: int) -> Sequence[Piece] | None:
        kept, reservoir = self.file.kept, self.file.cache.reservoir
        if start >= stop:
            return []
        if kept is None or reservoir is None or stop - start > LEASE:
            return None
        span = reservoir.lease(kept, start, stop, touch=not self.file.cold)
        return [span] if span is not None and span.length == stop - start else None


@dataclass(frozen=True, slots=True, eq=False)
class Unkept(Blob):
    """A file without a tag: read through, its opening answer (which ends at `border`) and what follows it in one go."""

    blob: Blob
    border: int

    async def stream(self, start: int, stop: int) -> Pieces:
        if not start < self.border < stop:
            async with aclosing(self.blob.stream(start, stop)) as stream:
                async for piece in stream:
                    yield piece
            return
        rest = self.blob.stream(self.border, stop)
        following = asyncio.ensure_future(anext(rest))
        try:
            async with aclosing(self.blob.stream(start, self.border)) as stream:
                async for piece in stream:
                    yield piece
            yield await following
            async for piece in rest:
                yield piece
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await rest.aclose()


def cached(tree: Tree, cache: Cache) -> Tree:
    """Tree -> Tree: what is read stays, and is read once."""
    return CachedTree(tree, cache)


class CachedTree(Tree):
    """See `cached`."""

    def __init__(self, tree: Tree, cache: Cache) -> None:
        self.tree, self.cache = tree, cache
        self.files: WeakSet[File] = WeakSet()

    def entries(self, folder: str = "") -> Entries:
        return self.tree.entries(folder)

    async def find(self, path: str) -> Entry:
        return await self.tree.find(path)

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        wide = _widened(ask)
        blob = await self.tree.open(path, wide)
        if blob.tag is None and wide.start is not None and wide.stop and blob.size > wide.stop:
            return Unkept(blob.size, None, blob, wide.stop, modified=blob.modified)
        if blob.tag is None or not blob.size:
            return blob
        file = await self.cache.file(blob, path)
        file.cold = ask.why >= Why.BULK
        self.files.add(file)
        return CachedBlob(blob.size, blob.tag, file, modified=blob.modified)

    def flow(self, path: str) -> Pieces:
        return self.tree.flow(path)

    async def aclose(self) -> None:
        for file in list(self.files):
            for fill in list(file.fills):
                await fill.end()
        await self.tree.aclose()


def _widened(ask: Ask) -> Ask:
    """What is asked upstream for what was asked here: whole blocks, as the first request of a reader."""
    if ask.start is None:
        return Ask(None, (ask.stop or 0) - BLOCK, ask.why)
    if ask.stop is not None and ask.stop <= ask.start:
        return ask
    return Ask(*first_request(ask.start, ask.stop), ask.why)
