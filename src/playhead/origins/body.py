"""Blob -> the body of a request: a range of a blob, read while it is sent, and watched.

A server that stops reading is found by its silence: each chunk must leave within the time that a chunk may take. What
fails in the blob ends the request, and is raised as it is, not as the broken connection that follows from it.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

from playhead.blob import Blob, FileSpan, pieces
from playhead.errors import Failure

CHUNK = 1 << 20  # bytes that leave, or are read from a file, at a time
INLINE = 64 << 10  # bytes that are seen where they are; more is worth a turn of a thread


class Body:
    """The bytes [start, stop) of a blob. `seen` is called with each chunk as it leaves: for digests, or progress."""

    def __init__(self, blob: Blob, start: int, stop: int, seen: Callable[[bytes | memoryview], None] | None = None):
        self.blob, self.start, self.stop, self.seen = blob, start, stop, seen
        self.length = stop - start
        self.failure: Failure | None = None
        self.deadline: asyncio.Timeout | None = None
        self.silence = 0.0

    @asynccontextmanager
    async def sent(self, silence: float) -> AsyncIterator[None]:
        """While the request is under way: raises TimeoutError where a chunk does not leave within `silence` seconds."""
        self.silence = silence
        try:
            async with asyncio.timeout(None) as self.deadline:
                yield
        except Exception as error:
            if self.failure is not None and error is not self.failure:
                raise self.failure from None
            raise
        finally:
            self.deadline = None

    def _wait(self, seconds: float | None) -> None:
        if self.deadline is not None and not self.deadline.expired():
            self.deadline.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)

    async def chunks(self) -> AsyncGenerator[bytes | memoryview, None]:
        """The bytes, as they are asked for; the next chunk is read, and seen, while one is leaving."""
        async with aclosing(self._read()) as chunks:
            coming = asyncio.ensure_future(anext(chunks, None))
            try:
                while (chunk := await coming) is not None:
                    coming = asyncio.ensure_future(anext(chunks, None))
                    self._wait(self.silence)
                    yield chunk
                    self._wait(None)
            except Failure as failure:
                self.failure = failure
                raise
            finally:
                coming.cancel()
                await asyncio.wait([coming])
                if not coming.cancelled():
                    coming.exception()  # nobody is to be told of it

    async def _read(self) -> AsyncGenerator[bytes | memoryview, None]:
        async with aclosing(pieces(self.blob, self.start, self.stop)) as stream:
            async for piece in stream:
                for at in range(0, len(piece), CHUNK):
                    if isinstance(piece, FileSpan):
                        part = FileSpan(piece.file, piece.offset + at, min(CHUNK, piece.length - at))
                        yield await self._seen(await asyncio.to_thread(part.read))
                    else:
                        yield await self._seen(memoryview(piece)[at : at + CHUNK])

    async def _seen(self, chunk: bytes | memoryview) -> bytes | memoryview:
        if self.seen and len(chunk) > INLINE:
            await asyncio.to_thread(self.seen, chunk)
        elif self.seen:
            self.seen(chunk)
        return chunk
