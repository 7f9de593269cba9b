"""A slow way to a server on 127.0.0.1, and a thread in which it (or a fake origin) lives beside a test that waits.

with aside(Relay(port, rate=12e6)) as relay:
    curl(relay.url)
"""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from typing import TypeVar

PIECE = 64 << 10
WITHIN = 20.0

T = TypeVar("T")


class Relay:
    """Passes connections on to a port; what comes back, of all together, at `rate` bytes a second at most."""

    def __init__(self, target: int, rate: float) -> None:
        self.target, self.rate, self.free = target, rate, 0.0
        self.tasks: set[asyncio.Task[None]] = set()
        self.port = self.passed = self.connections = 0

    async def __aenter__(self) -> "Relay":
        self.server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=PIECE)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.ensure_future(self._between(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _between(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until either side ends; then both do."""
        there, back = await asyncio.open_connection("127.0.0.1", self.target, limit=PIECE)
        ways = [asyncio.ensure_future(self._pass(reader, back)), asyncio.ensure_future(self._pass(there, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for side in (writer, back):
                side.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(PIECE):
                await self._turn(len(data))
                self.passed += len(data)
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

    async def _turn(self, count: int) -> None:
        now = time.monotonic()
        self.free = max(self.free, now - 0.02) + count / self.rate
        if self.free > now:
            await asyncio.sleep(self.free - now)


@contextmanager
def aside(manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """What an asynchronous context manager gives, alive in a loop and a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        entered = asyncio.run_coroutine_threadsafe(_entered(manager), loop).result(WITHIN)
        try:
            yield entered
        finally:
            asyncio.run_coroutine_threadsafe(_left(manager), loop).result(WITHIN)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _entered(manager: AbstractAsyncContextManager[T]) -> T:
    return await manager.__aenter__()


async def _left(manager: AbstractAsyncContextManager[object]) -> None:
    await manager.__aexit__(None, None, None)
