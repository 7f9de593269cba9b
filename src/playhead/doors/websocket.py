"""A connection after its upgrade: WebSocket frames <-> ASGI's websocket messages.

wsproto reads and writes the frames (RFC 6455); here they are bounded. A message has a limit, reading stops while one
waits to be taken, and while the other side takes nothing of ours. Who is not heard of between two pings is gone. There
is no compression: it costs memory for each connection, and what is said here is short.
"""

import asyncio
import base64
import binascii
import logging
from collections import deque
from collections.abc import Callable, Mapping
from io import BytesIO, StringIO
from typing import Any

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping, TextMessage
from wsproto.utilities import ProtocolError, generate_accept_token

from playhead.doors import asgi

MESSAGE = 1 << 20  # bytes of a message
PING_SECONDS = 30.0  # between two pings
CLOSE_SECONDS = 5.0  # in which the other side must have taken our last words

log = logging.getLogger("playhead.server")


def wanted(headers: Mapping[bytes, bytes]) -> bool:
    """Do the headers of a GET ask for a WebSocket as RFC 6455, 4.2.1 has it?"""
    try:
        key = base64.b64decode(headers.get(b"sec-websocket-key", b""), validate=True)
    except binascii.Error:
        return False
    connection = [token.strip().lower() for token in headers.get(b"connection", b"").split(b",")]
    plain = headers.get(b"upgrade", b"").lower() == b"websocket" and b"upgrade" in connection and len(key) == 16
    bodied = b"content-length" in headers or b"transfer-encoding" in headers
    return plain and not bodied and headers.get(b"sec-websocket-version") == b"13"


def scope_of(scope: asgi.Scope, url: bytes) -> asgi.Scope:
    """The scope of a WebSocket, from that of the request that became it."""
    path, _, query = url.partition(b"?")
    scheme = "wss" if scope["scheme"] == "https" else "ws"
    asked = {"path": path.decode("latin-1"), "raw_path": path, "query_string": query, "subprotocols": []}
    return {**scope, "type": "websocket", "scheme": scheme, **asked}


class WebSocket(asyncio.Protocol):
    """One connection. `connections` and `tasks` are the server's, which ends what is in them."""

    def __init__(self, app: Any, scope: asgi.Scope, connections: set[Any], tasks: set[Any]) -> None:
        self.app, self.scope, self.connections, self.tasks = app, scope, connections, tasks
        self.loop = asyncio.get_running_loop()
        self.frames = Connection(ConnectionType.SERVER)
        self.inbox: deque[asgi.Message] = deque([{"type": "websocket.connect"}])
        self.arrived, self.writable = asyncio.Event(), asyncio.Event()
        self.arrived.set()
        self.writable.set()
        self.accepted = self.ended = self.gone = False
        self.heard = True
        self.text: StringIO | BytesIO | None = None
        self.length = 0
        self.timer: asyncio.TimerHandle | None = None

    # ── the connection ──

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        transport.set_write_buffer_limits()
        transport.pause_reading()
        self.connections.add(self)
        task = self.loop.create_task(self._run())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        self._after(PING_SECONDS, self._ping)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self.connections.discard(self)
        if self.timer:
            self.timer.cancel()
        self._deliver_end(1006)
        self.writable.set()

    def pause_writing(self) -> None:
        self.writable.clear()
        self._read()

    def resume_writing(self) -> None:
        self.writable.set()
        self._read()

    def shutdown(self) -> None:
        """The server ends."""
        self._close(1012, "the server ends")

    def _read(self) -> None:
        """Read on where nothing waits to be taken, and the other side takes what is sent."""
        if self.gone or self.transport.is_closing():
            return
        if self.ended or (self.accepted and not self.inbox and self.writable.is_set()):
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def _ping(self) -> None:
        if not self.heard:
            self.transport.abort()
            return
        self.heard = False
        if self.accepted and self.frames.state is ConnectionState.OPEN:
            self.transport.write(self.frames.send(Ping()))
        self._after(PING_SECONDS, self._ping)

    # ── what arrives ──

    def data_received(self, data: bytes) -> None:
        self.heard = True
        try:
            self.frames.receive_data(data)
            for event in self.frames.events():
                self._heard(event)
        except ProtocolError:
            self._leave()
        if self.ended and self.frames.state is not ConnectionState.LOCAL_CLOSING:
            self._leave()
        self._read()

    def eof_received(self) -> None:
        self._deliver_end(1006)

    def _heard(self, event: Event) -> None:
        if self.ended:
            return
        if isinstance(event, TextMessage | BytesMessage):
            self._part(event)
        elif isinstance(event, Ping):
            self.transport.write(self.frames.send(event.response()))
        elif isinstance(event, CloseConnection):  # theirs, or what is wrong with their frames
            self._close(event.code, event.reason or "")

    def _part(self, event: TextMessage | BytesMessage) -> None:
        if self.text is None:
            self.text = StringIO() if isinstance(event, TextMessage) else BytesIO()
        self.text.write(event.data)  # type: ignore[arg-type]
        self.length += len(event.data)
        if self.length > MESSAGE:
            self._close(1009, f"a message has at most {MESSAGE:,} bytes", waits=True)
        elif event.message_finished:
            key = "text" if isinstance(self.text, StringIO) else "bytes"
            self._deliver({"type": "websocket.receive", key: self.text.getvalue()})
            self.text, self.length = None, 0

    def _deliver(self, message: asgi.Message) -> None:
        self.inbox.append(message)
        self.arrived.set()

    def _deliver_end(self, code: int) -> None:
        if not self.ended:
            self.ended = True
            self.inbox.clear()
            self._deliver({"type": "websocket.disconnect", "code": code})

    def _close(self, code: int, reason: str, *, waits: bool = False) -> None:
        """Say that it ends, or answer who said so, and end; with `waits` when the other side has said so too."""
        self._deliver_end(code)
        if self.gone or self.transport.is_closing():
            return
        if self.accepted and self.frames.state in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING):
            self.transport.write(self.frames.send(CloseConnection(code, reason)))
        if waits and self.frames.state is ConnectionState.LOCAL_CLOSING:
            self._after(CLOSE_SECONDS, self._leave)
            self._read()
        else:
            self._leave()

    def _leave(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
            self._after(CLOSE_SECONDS, self.transport.abort)  # if it never takes what was sent

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        if self.timer:
            self.timer.cancel()
        self.timer = self.loop.call_later(seconds, act)

    # ── the application ──

    async def _run(self) -> None:
        try:
            await self.app(self.scope, self.receive, self.send)
        except OSError:
            pass  # the other side is gone
        except Exception:
            log.exception("a bug of ours in a WebSocket")
        finally:
            self._close(1000, "", waits=True)

    async def receive(self) -> asgi.Message:
        """The next message of the other side."""
        await self.arrived.wait()
        message = self.inbox.popleft()
        if not self.inbox:
            self.arrived.clear()
            self._read()
        return message

    async def send(self, message: asgi.Message) -> None:
        """Send one of the application's. Raises ConnectionError where the other side is gone."""
        await self.writable.wait()
        if self.gone or self.ended:
            raise ConnectionError("the other side is gone")
        kind = message["type"]
        if kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.send":
            data = message.get("text")
            self.transport.write(self.frames.send(Message(message["bytes"] if data is None else data)))
        elif self.accepted:
            self._close(message.get("code", 1000), message.get("reason", ""), waits=True)
        else:
            self._refuse(message.get("reason") or "there is no WebSocket for you here")

    def _accept(self, message: asgi.Message) -> None:
        key = dict(self.scope["headers"])[b"sec-websocket-key"]
        head = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        more = [(b"sec-websocket-accept", generate_accept_token(key)), *message.get("headers", ())]
        self.transport.write(head + b"".join(b"%b: %b\r\n" % header for header in more) + b"\r\n")
        self.accepted = True
        self._read()

    def _refuse(self, line: str) -> None:
        body = line.encode() + b"\n"
        head = b"content-type: text/plain; charset=utf-8\r\ncache-control: no-store\r\nconnection: close\r\n"
        self.transport.write(b"HTTP/1.1 403 Forbidden\r\n%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
        self._deliver_end(1006)
        self._leave()
