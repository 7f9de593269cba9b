"""Proxies on 127.0.0.1: an HTTP one (absolute URIs and CONNECT) and a SOCKS5 one, with credentials or without.

Each writes down what it was asked to reach (`asked`) and with which credentials (`shown`). A name is not resolved:
`hosts` says which port of 127.0.0.1 stands for which "host:port", so that no test leaves this machine.
"""

import asyncio
import base64
from collections.abc import Mapping

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Proxy:
    """`login` is "user:password", without which nobody is let through. `silent`: takes requests and never answers."""

    scheme = ""

    def __init__(self, login: str = "", *, hosts: Mapping[str, int] | None = None, silent: bool = False) -> None:
        self.login, self.hosts, self.silent = login, dict(hosts or {}), silent
        self.asked: list[str] = []
        self.shown: list[str] = []
        self.port = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "_Proxy":
        self.server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def url(self, login: str = "") -> str:
        return f"{self.scheme}://{login}{'@' if login else ''}127.0.0.1:{self.port}"

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._until_closed(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _until_closed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            await _closed(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    async def _dial(self, host: str, port: int) -> Streams:
        return await asyncio.open_connection("127.0.0.1", self.hosts.get(f"{host}:{port}", port))

    async def _wait(self, reader: asyncio.StreamReader) -> None:
        await reader.read()  # until the client gives up


class HttpProxy(_Proxy):
    scheme = "http"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = line.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.asked.append(f"{method} {target}")
        self.shown.append(headers.get("proxy-authorization", ""))
        if self.silent:
            return await self._wait(reader)
        if self.login and self.shown[-1] != "Basic " + base64.b64encode(self.login.encode()).decode():
            writer.write(b"HTTP/1.1 407 Who Are You\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
            return await writer.drain()
        if method == "CONNECT":
            host, _, port = target.rpartition(":")
            other = await self._dial(host, int(port))
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            return await _joined((reader, writer), other)
        address, _, path = target.removeprefix("http://").partition("/")
        host, _, port = address.partition(":")
        other = await self._dial(host, int(port or 80))
        kept = [line for line in lines if not line.lower().startswith(("proxy-", "connection:"))]
        request = [f"{method} /{path} HTTP/1.1", *kept, "Connection: close", "", ""]
        other[1].write("\r\n".join(request).encode("latin-1"))
        await _joined((reader, writer), other)  # one request: the answer ends with the connection


class SocksProxy(_Proxy):
    """SOCKS5 (RFC 1928), user and password by RFC 1929. `refusing` is the code that it answers requests with."""

    scheme = "socks5"
    refusing = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        version, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        assert version == 5
        if self.silent:
            return await self._wait(reader)
        method = 2 if self.login else 0
        writer.write(bytes([5, method if method in methods else 255]))
        if method not in methods:
            return await writer.drain()
        if method == 2 and not await self._let_in(reader, writer):
            return None
        _, _, _, kind = await reader.readexactly(4)
        if kind == 1:
            host = ".".join(str(byte) for byte in await reader.readexactly(4))
        else:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.asked.append(f"{host}:{port}")
        reply = bytes([5, self.refusing, 0, 1, 127, 0, 0, 1, 0, 0])
        if self.refusing:
            writer.write(reply)
            return await writer.drain()
        other = await self._dial(host, port)
        writer.write(reply)
        return await _joined((reader, writer), other)

    async def _let_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        await reader.readexactly(1)
        user = await reader.readexactly((await reader.readexactly(1))[0])
        password = await reader.readexactly((await reader.readexactly(1))[0])
        self.shown.append(f"{user.decode()}:{password.decode()}")
        right = self.shown[-1] == self.login
        writer.write(bytes([1, not right]))
        await writer.drain()
        return right


async def _joined(one: Streams, other: Streams) -> None:
    """Carry bytes both ways until either side ends."""
    ways = [asyncio.ensure_future(_carry(one[0], other[1])), asyncio.ensure_future(_carry(other[0], one[1]))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        other[1].close()
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        async with asyncio.timeout(1):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        pass
    finally:
        writer.transport.abort()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(64 << 10):
        writer.write(data)
        await writer.drain()
