"""Bytes on their way: one run of a file, read once from upstream, for however many want it.

A fill is a task of the cache, never of the reader that began it. It reads [start, stop) of a blob into buffers of one
run each (1 MiB), tells whoever waits when bytes came, and hands each buffer over when it is full, to be kept. Those
who want it hold it; when nobody does for a moment, it ends, unless it is nearly done. It can be told to stop earlier,
where another fill begins.
"""

import asyncio
import logging
import mmap
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress

from playhead.blob import Blob, FileSpan, Piece
from playhead.errors import Damaged, Failure, Unavailable
from playhead.transforms.journal import BLOCK, RUN

LINGER = 0.3  # seconds that a fill goes on with nobody waiting
NEARLY = 256 << 10  # bytes before its end for which it is finished all the same

log = logging.getLogger("playhead.cache")


class Buffer:
    """Bytes [start, at) of a file in memory, which grow up to `stop` and never change."""

    __slots__ = ("at", "direct", "memory", "raw", "start", "stop")

    def __init__(self, start: int, stop: int, direct: bool, raw: mmap.mmap) -> None:
        self.start, self.at, self.stop, self.direct, self.raw = start, start, stop, direct, raw
        self.memory = memoryview(raw)[: -(-(stop - start) // BLOCK) * BLOCK]

    def view(self, start: int, stop: int) -> memoryview:
        """The bytes [start, stop), which must be there."""
        return self.memory[start - self.start : stop - self.start]

    def __len__(self) -> int:
        return len(self.memory)


class Fill:
    """[start, stop) of a file, being read. `at` is how far it has come; `failure` why it went no further."""

    def __init__(
        self,
        start: int,
        stop: int,
        blob: Blob,
        room: Callable[["Fill", int, int], Awaitable[Buffer]],
        full: Callable[["Fill", Buffer], None],
        over: Callable[["Fill"], None],
    ) -> None:
        self.start, self.at, self.stop = start, start, stop
        self.blob, self.room, self.full, self.over = blob, room, full, over
        self.buffer: Buffer | None = None
        self.failure: Failure | None = None
        self.ended = False
        self.holders = 0
        self.direct = False  # do its bytes go past the page cache?
        self.waiting: set[asyncio.Future[None]] = set()
        self.task = asyncio.create_task(self._run())
        self.task.add_done_callback(self._done)

    def hold(self) -> None:
        """Somebody wants it."""
        self.holders += 1

    def release(self) -> None:
        """Somebody no longer does."""
        self.holders -= 1
        if not self.holders and not self.ended:
            asyncio.get_running_loop().call_later(LINGER, self._unwanted)

    def _unwanted(self) -> None:
        if not self.holders and not self.ended and (self.at == self.start or self.stop - self.at > NEARLY):
            self.task.cancel()

    async def beyond(self, offset: int) -> None:
        """Return when it has come further than an offset, or has ended."""
        while self.at <= offset and not self.ended:
            ready = asyncio.get_running_loop().create_future()
            self.waiting.add(ready)
            try:
                await ready
            finally:
                self.waiting.discard(ready)

    def _tell(self) -> None:
        for ready in self.waiting:
            if not ready.done():
                ready.set_result(None)
        self.waiting.clear()

    async def _run(self) -> None:
        try:
            await self._read()
        except Failure as failure:
            self.failure = failure
        except Exception as error:
            log.exception("a bug of ours while filling")
            self.failure = Unavailable(f"the file cannot be read: {error!r}")

    def _done(self, task: asyncio.Task[None]) -> None:
        self.ended = True
        if self.buffer is not None:
            self._hand_over()
        self.over(self)
        self._tell()

    async def _read(self) -> None:
        async with aclosing(self.blob.stream(self.start, self.stop)) as stream:
            async for piece in stream:
                await self._take(piece)
                if self.at >= self.stop:
                    return
        raise Damaged(f"a stream ended {self.stop - self.at:,} bytes early")

    async def _take(self, piece: Piece) -> None:
        data = await asyncio.to_thread(piece.read) if isinstance(piece, FileSpan) else piece
        view = memoryview(data)
        while view and self.at < self.stop:
            if self.buffer is None:
                stop = min(self.stop, (self.at // RUN + 1) * RUN)
                self.buffer = await self.room(self, self.at, stop)
            buffer = self.buffer
            count = min(len(view), buffer.stop - buffer.at, max(0, self.stop - buffer.at))
            buffer.memory[buffer.at - buffer.start : buffer.at - buffer.start + count] = view[:count]
            buffer.at += count
            self.at += count
            view = view[count:]
            self._tell()
            if buffer.at == buffer.stop:
                self._hand_over()

    def _hand_over(self) -> None:
        buffer, self.buffer = self.buffer, None
        assert buffer is not None
        self.full(self, buffer)

    async def end(self) -> None:
        """Break it off."""
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


def whole_blocks(start: int, stop: int, size: int) -> tuple[int, int]:
    """The range of whole blocks around [start, stop)."""
    return start // BLOCK * BLOCK, min(size, -(-stop // BLOCK) * BLOCK)
