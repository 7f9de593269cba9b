"""A way to an HTTP server on 127.0.0.1 on which things happen to requests and answers.

    async with Between(port) as way:
        way.fault = lambda asked: cut(1000) if asked.method == "GET" else None

It writes down every request. What a fault is given is the request; what it gives is None (pass it on) or what happens.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field


@dataclass(slots=True)
class Asked:
    """A request: `target` as on the wire, headers by lower-case name."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = field(repr=False)


Happens = Callable[["Between", Asked, asyncio.StreamWriter], Awaitable[None]]


class Between:
    """A server on a free port that passes requests on to `target`, but for what `fault` says."""

    def __init__(self, target: int) -> None:
        self.target, self.port = target, 0
        self.fault: Callable[[Asked], Happens | None] = lambda asked: None
        self.requests: list[Asked] = []
        self.tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Between":
        self.server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=1 << 20)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await self.settled()
        await asyncio.sleep(0.01)  # the other sides hear of it

    async def settled(self) -> None:
        """Until every request that has come was answered."""
        await asyncio.gather(*self.tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._one(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, and the connection ends."""
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *lines = head.rstrip("\r\n").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                asked = Asked(*line.split(" ")[:2], headers, body)
                self.requests.append(asked)
                await (self.fault(asked) or whole)(self, asked, writer)
                writer.close()
                await writer.wait_closed()
        finally:
            writer.transport.abort()

    async def answer(self, asked: Asked) -> bytes:
        """What the server answers, head and body."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.target)
        lines = [f"{name}: {value}" for name, value in asked.headers.items() if name != "connection"]
        head = [f"{asked.method} {asked.target} HTTP/1.1", *lines, "Connection: close", "", ""]
        writer.write("\r\n".join(head).encode("latin-1") + asked.body)
        try:
            return await reader.read()
        finally:
            writer.transport.abort()


async def whole(way: Between, asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Nothing happens."""
    writer.write(await way.answer(asked))


def cut(count: int, *, reset: bool = False) -> Happens:
    """The answer ends after so many bytes of its body."""

    async def happens(way: Between, asked: Asked, writer: asyncio.StreamWriter) -> None:
        head, _, body = (await way.answer(asked)).partition(b"\r\n\r\n")
        writer.write(head + b"\r\n\r\n" + body[:count])
        await writer.drain()
        if reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    return happens


def says(status: str, headers: str = "", body: bytes = b"") -> Happens:
    """Another answer than the server's, which is not asked."""

    async def happens(way: Between, asked: Asked, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n"
        writer.write(head.encode() + body)

    return happens


async def lost(way: Between, asked: Asked, writer: asyncio.StreamWriter) -> None:
    """The server does what it is asked, and nobody hears of it."""
    await way.answer(asked)


async def silent(way: Between, asked: Asked, writer: asyncio.StreamWriter) -> None:
    """No answer ever."""
    await asyncio.sleep(3600)


async def flipped(way: Between, asked: Asked, writer: asyncio.StreamWriter) -> None:
    """A bit of what is sent arrives as another."""
    body = asked.body[:-1] + bytes([asked.body[-1] ^ 1])
    writer.write(await way.answer(Asked(asked.method, asked.target, asked.headers, body)))


async def unconditional(way: Between, asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Conditions are not heeded."""
    headers = {name: value for name, value in asked.headers.items() if name not in ("if-match", "if-none-match")}
    writer.write(await way.answer(Asked(asked.method, asked.target, headers, asked.body)))
