"""The long body of an answer, read from its socket into memory of our own: no parser, no copy but the kernel's.

For bodies of plain HTTP whose length is known. What comes is yielded as views of runs that are used again when the
views are gone.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator

from playhead.errors import Unavailable
from playhead.origins.addresses import shown
from playhead.origins.fetch import SILENCE, Answered
from playhead.pool import SIZE, Pool

pool = Pool(64)


async def received(sock: socket.socket, response: Answered, start: int, stop: int) -> AsyncGenerator[memoryview, None]:
    """The bytes [start, stop) of a file whose answer has come as far as `start`. Closes the socket."""
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    memory = pool.take()
    view, filled = memoryview(memory), 0
    try:
        while start < stop:
            count = await _some(loop, sock, view[filled : min(SIZE, filled + stop - start)])
            if response.forsaken:
                raise Unavailable(f"{shown(response.url)}: this source was closed")
            if not count:
                raise Unavailable(f"{shown(response.url)} ended {stop - start:,} bytes early")
            response.came(count)
            start, filled = start + count, filled + count
            yield view[filled - count : filled]
            if filled == SIZE:
                view.release()
                pool.put(memory)
                memory = pool.take()
                view, filled = memoryview(memory), 0
                await asyncio.sleep(0)  # others have their turn
    finally:
        view.release()
        pool.put(memory)
        sock.close()


async def _some(loop: asyncio.AbstractEventLoop, sock: socket.socket, view: memoryview) -> int:
    """What is there, into a view; at least a byte, unless the other side has ended."""
    try:
        return sock.recv_into(view)
    except BlockingIOError:
        pass
    async with asyncio.timeout(SILENCE):
        return await loop.sock_recv_into(sock, view)
