"""Response -> an ASGI server's way of sending it.

Bytes leave as they come, one piece at a time, and the server's own back-pressure is ours. A span of a file
goes to the kernel where the server offers `http.response.zerocopysend`; else it is read 64 KiB at a time,
in a thread where that may have to wait for a disk. When the client leaves, the stream behind is closed: our
own server cancels the request's task, on any other we listen for the disconnect beside the sending. A failure
after the first byte resets the connection, so that no client takes a part for the whole.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, MutableMapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from playhead.blob import FileSpan, Piece, Pieces
from playhead.errors import Failure
from playhead.respond import Flow, Request, Response

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CHUNK = 64 << 10  # bytes in a message: what a client that stands still costs in memory, twice
SHARED = 256 << 10  # the same of memory that others hold as well, where the server keeps views and copies nothing
ACCOUNT = 16 << 20  # bytes of a file after which those sent are counted

log = logging.getLogger("playhead.server")


class Broken(Exception):
    """A body failed after its head was sent: the connection has been (or must be) reset."""


def request(scope: Scope) -> Request:
    """The method and headers of a scope; of a header that is repeated, the values joined by commas."""
    headers: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name, text = raw.decode("latin-1"), value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return Request(scope["method"], headers)


def raw_path(scope: Scope) -> str:
    """The path as it was asked for, percent-encoded, also where the server gives only the decoded one."""
    raw = scope.get("raw_path")
    if raw is None:
        return quote(scope["path"].encode("utf-8", "surrogateescape"))
    return str(raw.partition(b"?")[0], "latin-1")


async def while_connected(work: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Do the work for a request, until it is done or the client leaves: then it is cancelled."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def received(receive: Receive, most: int) -> bytes | None:
    """The body of a request; None where it is longer than `most` bytes, or did not come within a minute."""
    body, more = bytearray(), True
    try:
        async with asyncio.timeout(60):
            while more:
                message = await receive()
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > most:
                    return None
    except TimeoutError:
        return None
    return bytes(body)


class Left(Exception):
    """The client left before all of its request had come."""


async def incoming(receive: Receive, within: float) -> AsyncGenerator[bytes, None]:
    """The body of a request, as it comes: a server has the client wait with what was not asked for yet.

    Raises Left; or TimeoutError where nothing came for so many seconds.
    """
    more = True
    while more:
        async with asyncio.timeout(within):
            message = await receive()
        if message["type"] == "http.disconnect":
            raise Left
        more = message.get("more_body", False)
        if data := message.get("body", b""):
            yield data


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@dataclass(slots=True)
class Sent:
    """What has gone out of an answer so far. Status 499, as in nginx's logs: the client left before there was one."""

    status: int = 499
    bytes: int = 0
    began: float = 0.0  # by time.perf_counter, when the head left; 0.0: it has not
    ready: bool = False  # was all of it there without waiting?


async def send(response: Response, scope: Scope, send: Send, sent: Sent) -> None:
    """Send a response, and keep account of it in `sent`.

    A Failure before the first byte passes through, with nothing sent. Raises Broken where the body failed on
    the way.
    """
    body = response.body
    if scope["method"] == "HEAD" or response.status == 304:
        await send(_head(response, sent))
        await send(_END)
        return
    ready = None if isinstance(body, Flow) else body.here(0, body.size)
    if ready is not None:
        sent.ready = True
        if len(ready) == 1 and isinstance(span := ready[0], FileSpan):
            gone = _at_once(response, span, scope, sent)
            if gone == span.length:
                return
            if gone is not None:
                return await _all([FileSpan(span.file, span.offset + gone, span.length - gone)], scope, send, sent)
        await send(_head(response, sent))
        return await _all(ready, scope, send, sent)
    async with aclosing(body.pieces if isinstance(body, Flow) else body.stream(0, body.size)) as stream:
        first = await anext(stream, b"")
        sent.ready = isinstance(first, FileSpan)
        await send(_head(response, sent))
        await _rest(first, stream, scope, send, sent)


_END = {"type": "http.response.body", "body": b"", "more_body": False}


def _head(response: Response, sent: Sent) -> Message:
    sent.status, sent.began = response.status, time.perf_counter()
    headers = [(_name(name), value.encode("latin-1")) for name, value in response.headers]
    return {"type": "http.response.start", "status": response.status, "headers": headers}


@lru_cache(maxsize=256)
def _name(name: str) -> bytes:
    return name.lower().encode("ascii")


def _at_once(response: Response, span: FileSpan, scope: Scope, sent: Sent) -> int | None:
    """Send a short run of a file now, where the server can; how much of it went. None: nothing was sent."""
    going = scope.get("extensions", {}).get("playhead.at_once")
    try:
        gone: int | None = going(response.status, response.headers, span) if going else None
    except Exception as error:
        raise _broken(error, scope) from error
    if gone is not None:
        sent.status, sent.bytes, sent.began = response.status, gone, time.perf_counter()
    return gone


async def _all(ready: Sequence[Piece], scope: Scope, send: Send, sent: Sent) -> None:
    try:
        for piece in ready:
            await _piece(piece, scope, send, sent)
        await send(_END)
    except Exception as error:
        raise _broken(error, scope) from error


async def _rest(first: Piece, stream: Pieces, scope: Scope, send: Send, sent: Sent) -> None:
    try:
        await _piece(first, scope, send, sent)
        async for piece in stream:
            await _piece(piece, scope, send, sent)
        await send(_END)
    except Exception as error:
        raise _broken(error, scope) from error


def _broken(error: Exception, scope: Scope) -> Broken:
    """A head was sent already: reset the connection, and say why."""
    reset(scope)
    return Broken(error.told if isinstance(error, Failure) else repr(error))


async def _piece(piece: Piece, scope: Scope, send: Send, sent: Sent) -> None:
    if isinstance(piece, FileSpan) and "http.response.zerocopysend" in scope.get("extensions", {}):
        # The longest spans cost least; a part at a time only so that the account is true when the client leaves.
        for at in range(0, piece.length, ACCOUNT):
            count = min(ACCOUNT, piece.length - at)
            message = {"file": piece.file, "offset": piece.offset + at, "count": count, "more_body": True}
            await send({"type": "http.response.zerocopysend", **message})
            sent.bytes += count
        return
    chunk = SHARED if isinstance(piece, memoryview) and "playhead.cancels" in scope.get("extensions", {}) else CHUNK
    for at in range(0, len(piece), chunk):
        stop = min(at + chunk, len(piece))
        data: bytes | bytearray | memoryview | None
        if isinstance(piece, FileSpan):
            data = _in_memory(piece, at, stop)
            if data is None:
                data = await asyncio.to_thread(piece.pread, at, stop)
        else:
            data = piece if len(piece) <= chunk else memoryview(piece)[at:stop]
        await send({"type": "http.response.body", "body": data, "more_body": True})
        sent.bytes += stop - at


def _in_memory(span: FileSpan, start: int, stop: int) -> bytearray | None:
    """The bytes [start, stop) of a span if they are in the page cache, so that reading them does not wait."""
    if not hasattr(os, "RWF_NOWAIT"):
        return None
    data = bytearray(stop - start)
    try:
        got = os.preadv(span.file.fileno(), [data], span.offset + start, os.RWF_NOWAIT)
    except OSError:
        return None
    return data if got == stop - start else None


def reset(scope: Scope) -> None:
    """Break the connection off, so that what was sent cannot be taken for the whole.

    Where the server does not offer it, the exception that ends the application does the same.
    """
    if breaking := scope.get("extensions", {}).get("playhead.reset"):
        breaking()
