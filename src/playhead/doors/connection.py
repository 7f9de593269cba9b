"""A connection of our server: files leave by sendfile, and readers that stand still cost little.

A subclass of uvicorn's httptools protocol. It offers `http.response.zerocopysend` on plain HTTP: the
transport's write limit is 0, so that draining means that the kernel has everything; then `os.sendfile` on the
connection's own socket (waiting on a duplicate of it, for a loop allows no writer on a transport's descriptor).
Under TLS the extension is not offered and bytes are sent.

What uvicorn lets pass and we do not: a client that leaves cancels the task that serves it, also while that
waits for an origin, and also where another request is pipelined behind; garbage after a request never becomes
a 400 inside another answer's body; a request's head has a limit in bytes, headers and seconds. At the paths that the
application names in `sockets`, and nowhere else, a connection can become a WebSocket.
"""

import asyncio
import errno
import logging
import os
import socket
import struct
from contextlib import suppress
from functools import lru_cache
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from playhead.blob import FileSpan, HasFileno
from playhead.doors import websocket
from playhead.doors.asgi import Message, Receive, Scope, Send
from playhead.errors import Damaged

HEAD_BYTES = 64 << 10
HEAD_LINES = 100
HEAD_SECONDS = 15.0
IDLE_SECONDS = 75.0
PIPELINED = 32  # requests that wait behind another on one connection
CALL = 256 << 10  # bytes of one sendfile
TURN = 1 << 20  # bytes after which other connections have their turn
UNSENT = 128 << 10  # bytes that the kernel keeps unsent for a connection
MSG_MORE = getattr(socket, "MSG_MORE", 0)
NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)

_TOO_LARGE = b"431 Request Header Fields Too Large"

log = logging.getLogger("playhead.server")


class _TooMany(Exception):
    """Stops the parser."""


class _Sending:
    """ASGI's `send` of one request, with two ways more: files, and whole answers at once."""

    __slots__ = ("cycle", "head", "protocol", "send")

    def __init__(self, protocol: "PlayheadProtocol", cycle: RequestResponseCycle, send: Send) -> None:
        self.protocol, self.cycle, self.send = protocol, cycle, send
        self.head: Message | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.head = message  # waits for the body's beginning, to leave in one packet with it
            return
        if self.head is not None:
            start, self.head = self.head, None
            if self.protocol.flow.write_paused:
                await self.protocol.flow.drain()
            if not self.protocol.begin(self.cycle, start, more="file" in message or bool(message["body"])):
                await self.send(start)
        if message["type"] == "http.response.zerocopysend":
            await self.protocol.sendfile(self.cycle, message)
            message = {"type": "http.response.body", "body": b"", "more_body": message["more_body"]}
        await self.send(message)

    def at_once(self, status: int, headers: list[tuple[str, str]], span: FileSpan) -> int | None:
        """See PlayheadProtocol.at_once."""
        return self.protocol.at_once(self.cycle, status, headers, span)


class PlayheadProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.application = self.app
        self.app = self._serve
        self.serving: set[asyncio.Task[Any]] = set()
        self.sockets: frozenset[str] = getattr(self.application, "sockets", frozenset())
        self.in_message = self.in_head = self.upgrades = self.upgraded = False
        self.head_bytes = 0
        self.head_timer: asyncio.TimerHandle | None = None
        self.socket: socket.socket | None = None  # a duplicate of the transport's, where files can be sent
        self.extensions: dict[str, Any] = {}

    # ── the connection ──

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.extensions = {"playhead.cancels": True, "playhead.reset": self.reset}
        sock = transport.get_extra_info("socket")
        if hasattr(os, "sendfile") and self.scheme == "http" and sock is not None:
            transport.set_write_buffer_limits(0)
            self.extensions["http.response.zerocopysend"] = {}
            self.socket = socket.socket(sock.family, socket.SOCK_STREAM, fileno=os.dup(sock.fileno()))
            try:
                self.socket.setsockopt(socket.IPPROTO_TCP, NOTSENT_LOWAT, UNSENT)
            except OSError:
                pass  # a system without it keeps more unsent, and that is all
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        super().connection_lost(exc)
        if self.cycle:
            self.cycle.disconnected = True
        for cycle, _ in self.pipeline:
            cycle.disconnected = True
        self.pipeline.clear()
        for task in self.serving:
            task.cancel()
        self._release()

    def _release(self) -> None:
        if self.socket is not None:
            self.loop.remove_writer(self.socket.fileno())
            self.socket.close()  # else no FIN leaves
            self.socket = None

    def reset(self) -> None:
        """End the connection so that the other side sees an error, never a clean end."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            except OSError:
                pass  # it is gone already
        if self.cycle is not None:
            self.cycle.disconnected = True  # else uvicorn complains of an answer that was not completed
        self.transport.abort()

    # ── the head of a request ──

    def data_received(self, data: bytes) -> None:
        if self.head_timer is None and not self.in_message:
            self.head_bytes = 0
        self.head_bytes += len(data)
        super().data_received(data)
        if self.upgraded:
            if not data.endswith(b"\n"):
                self.reset()  # it did not wait for our answer, and uvicorn has dropped what it sent
            return
        nothing_asked = not self.in_message and (self.cycle is None or self.cycle.response_complete)
        if self.in_head or nothing_asked:
            if self.head_bytes > HEAD_BYTES:
                self._refuse(_TOO_LARGE, "the head of the request is too large")
            elif self.head_timer is None:
                self._await_head()

    def on_message_begin(self) -> None:
        self.in_message = self.in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))
        if len(self.headers) > HEAD_LINES:
            raise _TooMany

    def on_headers_complete(self) -> None:
        self._head_is_here()
        self.upgrades = self._wants_socket()
        super().on_headers_complete()
        if len(self.pipeline) > PIPELINED:
            self.reset()
        else:
            self.flow.resume_reading()  # else nobody would see the client leave

    def on_message_complete(self) -> None:
        self.in_message = False
        super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        if self.scope["method"] not in ("GET", "HEAD"):
            super().on_body(body)

    # ── WebSockets ──

    def _wants_socket(self) -> bool:
        """Is this a request for a WebSocket, where there is one? What falls short of that is a request like others."""
        if not self.sockets or not self.parser.should_upgrade() or self.parser.get_http_version() != "1.1":
            return False
        idle = self.cycle is None or self.cycle.response_complete
        path = self.url.partition(b"?")[0].decode("latin-1")
        get = self.parser.get_method() == b"GET"
        return idle and get and path in self.sockets and websocket.wanted(dict(self.headers))

    def _should_upgrade(self) -> bool:
        return self.upgrades

    def handle_websocket_upgrade(self) -> None:
        self.upgraded = True
        self._release()
        self.connections.discard(self)
        scope = websocket.scope_of({**self.scope}, self.url)
        socket = websocket.WebSocket(self.application, scope, self.connections, self.tasks)
        self.transport.set_protocol(socket)
        socket.connection_made(self.transport)

    # ── what is no request ──

    def send_400_response(self, msg: str) -> None:
        if len(self.headers or ()) > HEAD_LINES:
            self._refuse(_TOO_LARGE, f"the request has more than {HEAD_LINES} headers")
        else:
            self._refuse(b"400 Bad Request", msg)

    def _await_head(self) -> None:
        self.head_timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def _head_is_here(self) -> None:
        self.in_head = False
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None

    def _too_slow(self) -> None:
        self._refuse(b"408 Request Timeout", f"the head of the request took more than {HEAD_SECONDS:.0f} s")

    def _refuse(self, status: bytes, line: str) -> None:
        """Answer an error and close; in the middle of another answer, break that off instead."""
        self._head_is_here()
        if self.transport.is_closing():
            return
        if self.serving:
            self.reset()
            return
        body = line.encode() + b"\n"
        head = b"content-type: text/plain; charset=utf-8\r\ncache-control: no-store\r\nconnection: close\r\n"
        self.transport.write(b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\n\r\n%b" % (status, head, len(body), body))
        self.transport.close()

    # ── a request ──

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        cycle: RequestResponseCycle = send.__self__  # type: ignore[attr-defined]
        task = asyncio.current_task(self.loop)
        assert task is not None
        self.serving.add(task)
        sending = _Sending(self, cycle, send)
        scope["extensions"] = {**self.extensions, "playhead.at_once": sending.at_once}
        try:
            await self.application(scope, receive, sending)
        except asyncio.CancelledError:
            if not cycle.disconnected:
                self.reset()  # a shutdown
            cycle.disconnected = True
        finally:
            self.serving.discard(task)
            scope["extensions"] = self.extensions  # else scope and `sending` hold each other, which only gc would end

    def begin(self, cycle: RequestResponseCycle, message: Message, more: bool) -> bool:
        """Send a head with a length, as uvicorn would but in one pass; False: it is not such a head.

        With `more` to come, it waits in the kernel to leave with the body.
        """
        length, lines = None, [STATUS_LINE[message["status"]]]
        for name, value in message["headers"]:
            if name == b"content-length":
                length = int(value)
            elif name in (b"transfer-encoding", b"connection"):
                return False
            lines += name, b": ", value, b"\r\n"
        if length is None or cycle.disconnected:
            return False
        self._head(cycle, b"".join(lines), len(message["headers"]) + 1, length, more)
        return True

    def _head(self, cycle: RequestResponseCycle, text: bytes, lines: int, length: int, more: bool) -> None:
        """Send the status line and headers, `lines` of them, of an answer of `length` bytes."""
        if text.count(b"\n") != lines:
            raise RuntimeError("a header holds the end of a line")
        end = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
        data = b"%b%b%b" % (text, _lines(tuple(cycle.default_headers)), end)
        cycle.response_started, cycle.waiting_for_100_continue = True, False
        cycle.expected_content_length, cycle.chunked_encoding = length, False
        sent = 0
        if more and self.socket is not None and self.transport.get_write_buffer_size() == 0:
            with suppress(OSError):
                sent = self.socket.send(data, MSG_MORE)
        if sent < len(data):
            self.transport.write(data[sent:])

    def at_once(
        self, cycle: RequestResponseCycle, status: int, headers: list[tuple[str, str]], span: FileSpan
    ) -> int | None:
        """Send an answer whose body is a short run of a file in memory; how much of the body went without waiting.

        None: nothing was sent, for it is not such an answer or this is not the moment.
        """
        sock = self.socket
        if (
            sock is None
            or span.length > CALL
            or cycle.disconnected
            or self.flow.write_paused
            or self.transport.get_write_buffer_size()
            or not _in_memory(span.file.fileno(), span.offset + span.length - 1)
        ):  # the last byte stands for all, as readahead brings the rest
            return None
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers]).encode("latin-1")
        self._head(cycle, STATUS_LINE[status] + lines, len(headers) + 1, span.length, more=True)
        try:
            if self.transport.get_write_buffer_size():
                return 0
            sent = os.sendfile(sock.fileno(), span.file.fileno(), span.offset, span.length)
        except OSError:
            return 0  # it would block, or the other side is gone: what sends the rest sees to it
        cycle.expected_content_length = span.length - sent
        if sent == span.length:
            cycle.response_complete = True
            cycle.message_event.set()
            if not cycle.keep_alive:
                self.transport.close()
            cycle.on_response()
        elif sent == 0:
            raise Damaged("a file became shorter while it was being sent")
        return sent

    async def sendfile(self, cycle: RequestResponseCycle, message: Message) -> None:
        """Hand `count` bytes of a file to the kernel. Raises Damaged where the file has fewer."""
        file, offset, left = message["file"], message["offset"], message["count"]
        if cycle.chunked_encoding or cycle.scope["method"] == "HEAD" or not cycle.response_started:
            raise RuntimeError("zerocopysend needs a response with a Content-Length")
        if left > cycle.expected_content_length:
            raise RuntimeError("Response content longer than Content-Length")
        cycle.expected_content_length -= left
        sock, turn = self.socket, 0
        assert sock is not None
        if self.flow.write_paused:
            await self.flow.drain()
        while left and not cycle.disconnected:
            if turn % TURN == 0:
                await _resident(file, offset, left)
                if turn:
                    await asyncio.sleep(0)
            try:
                sent = os.sendfile(sock.fileno(), file.fileno(), offset, min(left, CALL, TURN - turn % TURN))
            except BlockingIOError:
                await self._writable(sock)
                continue
            except OSError as error:
                if error.errno in (errno.EPIPE, errno.ECONNRESET, errno.EBADF, errno.ENOTCONN):
                    await self._gone()
                raise
            if sent == 0:
                raise Damaged("a file became shorter while it was being sent")
            offset, left, turn = offset + sent, left - sent, turn + sent

    async def _writable(self, sock: socket.socket) -> None:
        ready = self.loop.create_future()
        self.loop.add_writer(sock.fileno(), _wake, ready)
        try:
            await ready
        finally:
            if sock.fileno() >= 0:
                self.loop.remove_writer(sock.fileno())

    async def _gone(self) -> None:
        """The other side has left: wait to be cancelled, which the transport is about to see to."""
        self.transport.abort()
        await asyncio.Event().wait()


@lru_cache(maxsize=8)
def _lines(headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def _wake(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


async def _resident(file: HasFileno, offset: int, left: int) -> None:
    """Return when the next turn of a run is in memory, so that sendfile does not wait for a disk on the loop."""
    run = min(left, TURN)
    if not (_in_memory(file.fileno(), offset + run - 1) and (run <= CALL or _in_memory(file.fileno(), offset))):
        await asyncio.to_thread(FileSpan(file, offset, run).read)
    if left > run and hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), offset + run, min(left - run, TURN), os.POSIX_FADV_WILLNEED)


_PROBE = [bytearray(1)]


def _in_memory(fd: int, offset: int) -> bool:
    if not hasattr(os, "RWF_NOWAIT"):
        return False
    try:
        os.preadv(fd, _PROBE, offset, os.RWF_NOWAIT)
    except OSError:
        return False
    return True
