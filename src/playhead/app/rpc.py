"""Messages of JSON-RPC 2.0 as aria2 has it -> the queue of downloads; its events -> notifications.

A message is a call or a batch; it comes as the body of a request or through a WebSocket, and is answered call by call.
With a token every `aria2.*` call begins with it. One message asks for so much and no more, and what it changes is on
disk before it is answered. Who listens is told what a call leads to after its answer.
"""

import asyncio
import hmac
import json
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from playhead.app.aria2 import Methods, Params, Told
from playhead.app.queue import Queue
from playhead.doors.asgi import Receive, Send
from playhead.errors import Denied, Failure, Malformed

CALLS = 1_000  # in one message
EVENTS = 1_000  # notifications that wait for a client
SOCKETS = 32  # clients that listen
WRONG_SECONDS = 1.0  # that a wrong token costs, one after another

log = logging.getLogger("playhead.rpc")

_NOTIFICATIONS = [f"aria2.onDownload{what}" for what in ("Start", "Pause", "Stop", "Complete", "Error")]
_TOKEN = "token:"  # noqa: S105


@dataclass(slots=True)
class _Message:
    """What one message has come to. `admitted` is called when a call of it has the token, or needs none."""

    admitted: Callable[[], None]
    wrong: bool = False
    calls: int = 0
    told: Told = field(default_factory=Told)


class Rpc:
    """aria2's methods over a queue; `token`: what callers must know, where it is not None."""

    def __init__(self, queue: Queue, token: str | None = None) -> None:
        self.queue, self.token = queue, token
        self.slowly = asyncio.Lock()
        self.sockets = 0
        self.methods = Methods(queue)

    # ── messages ──

    async def answer(self, data: str | bytes, admitted: Callable[[], None] = lambda: None) -> tuple[int, str]:
        """HTTP's status and the answer to a message; `admitted` is called when whoever sent it may be told more."""
        message, before = _Message(admitted), self.queue.changes
        try:
            asked = json.loads(data, parse_constant=_no_number)
        except (ValueError, RecursionError):
            asked = None
        if isinstance(asked, list) and len(asked) <= CALLS:
            said: Any = [await self._one(call, message) for call in asked]
        elif isinstance(asked, list):
            said = _error(None, -32600, f"a batch has at most {CALLS:,} calls")
        elif isinstance(asked, dict):
            said = await self._one(asked, message)
        else:
            said = _error(None, -32700, "Parse error.")
        if message.wrong:
            async with self.slowly:
                await asyncio.sleep(WRONG_SECONDS)
        if self.queue.changes != before:
            await self.queue.saved()
        failed = isinstance(said, dict) and "error" in said
        return 400 if failed else 200, json.dumps(said, separators=(",", ":"))

    async def _one(self, call: Any, message: _Message) -> dict[str, Any]:
        id = call.get("id") if isinstance(call, dict) else None
        if not isinstance(id, str | int | None):
            id = None
        if not isinstance(call, dict) or "id" not in call or not isinstance(call.get("method"), str):
            return _error(id, -32600, "Invalid Request.")
        params = call.get("params", [])
        if not isinstance(params, list):
            return _error(id, -32602, "Invalid params.")
        try:
            result = await self._call(call["method"], params, message)
        except Failure as failure:
            return _error(id, 1, str(failure))
        except Exception:
            log.exception("a bug of ours in %r", call["method"][:100])
            return _error(id, 1, "a bug of ours; the log says more")
        return {"id": id, "jsonrpc": "2.0", "result": result}

    async def _call(self, method: str, params: list[Any], message: _Message) -> Any:
        if method == "system.multicall":
            return await self._multicall(Params(params).list(0), message)
        if method == "system.listMethods":
            return [*self.methods.named, "system.multicall", "system.listMethods", "system.listNotifications"]
        if method == "system.listNotifications":
            return _NOTIFICATIONS
        message.calls += 1
        if message.calls > CALLS:
            raise Malformed(f"a message has at most {CALLS:,} calls")
        params = self._admitted(params, message)
        if method not in self.methods.named:
            raise Malformed(f"No such method: {method[:100]}")
        return await self.methods.named[method](Params(params), message.told)

    async def _multicall(self, calls: list[Any], message: _Message) -> list[Any]:
        if len(calls) > CALLS:
            raise Malformed(f"system.multicall takes at most {CALLS:,} calls")
        return [await self._of_several(call, message) for call in calls]

    async def _of_several(self, call: Any, message: _Message) -> Any:
        """A result alone in a list, or an error as it is."""
        if not isinstance(call, dict):
            return {"code": 1, "message": "system.multicall expected struct."}
        method = call.get("methodName")
        if not isinstance(method, str):
            return {"code": 1, "message": "Missing methodName."}
        if method == "system.multicall":
            return {"code": 1, "message": "Recursive system.multicall forbidden."}
        answer = await self._one({"id": 0, "method": method, "params": call.get("params", [])}, message)
        return [answer["result"]] if "result" in answer else answer["error"]

    def _admitted(self, params: list[Any], message: _Message) -> list[Any]:
        """The parameters behind the token. Raises Denied. After a wrong one, no other of the message is looked at."""
        given = None
        if params and isinstance(params[0], str) and params[0].startswith(_TOKEN):
            given, params = params[0].removeprefix(_TOKEN), params[1:]
        if self.token is not None and (message.wrong or given is None or not _same(given, self.token)):
            message.wrong = message.wrong or given is not None
            raise Denied("Unauthorized")
        message.admitted()
        return params

    # ── what clients listen to ──

    async def converse(self, receive: Receive, send: Send) -> None:
        """Answer what comes through a WebSocket; tell it, once it has shown the token, what happens."""
        await receive()
        if self.sockets >= SOCKETS:
            return await send({"type": "websocket.close", "reason": f"{SOCKETS} clients listen already"})
        await send({"type": "websocket.accept"})
        client = _Client(send)
        telling = asyncio.ensure_future(client.tell())
        self.sockets += 1
        if self.token is None:
            self.queue.listeners.add(client.hear)
        try:
            while (message := await receive())["type"] == "websocket.receive":
                await self._heard(message.get("text"), client)
        finally:
            self.sockets -= 1
            self.queue.listeners.discard(client.hear)
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    async def _heard(self, text: str | None, client: "_Client") -> None:
        if text is None:
            await client.send({"type": "websocket.close", "code": 1003, "reason": "JSON is a text"})
            return
        async with client.talking:  # what a call leads to is told after its answer
            _, answer = await self.answer(text, lambda: self.queue.listeners.add(client.hear))
            await client.send({"type": "websocket.send", "text": answer})


class _Client:
    """Who listens through a WebSocket. One that does not take what it is told is left."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.talking = asyncio.Lock()
        self.events: deque[str] = deque()
        self.heard = asyncio.Event()

    def hear(self, event: str, gid: str) -> None:
        if len(self.events) <= EVENTS:
            self.events.append(json.dumps({"jsonrpc": "2.0", "method": f"aria2.{event}", "params": [{"gid": gid}]}))
            self.heard.set()

    async def tell(self) -> None:
        while await self.heard.wait():
            self.heard.clear()
            while self.events:
                async with self.talking:
                    if len(self.events) > EVENTS:
                        return await self.send({"type": "websocket.close", "code": 1008, "reason": "too slow"})
                    await self.send({"type": "websocket.send", "text": self.events.popleft()})


def _error(id: Any, code: int, message: str) -> dict[str, Any]:
    return {"id": id, "jsonrpc": "2.0", "error": {"code": code, "message": message}}


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), token.encode("utf-8", "surrogatepass"))
