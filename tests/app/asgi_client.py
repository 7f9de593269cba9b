"""A client that calls an ASGI application in this process, as a server without any extension would.

answer = await ask(site, "/files/music/a.mp3", headers={"Range": "bytes=0-4"})
exchange = Exchange(site, ...)     where the test decides when the client reads, and when it leaves
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

HOST = "127.0.0.1:4040"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for found, value in self.headers if found.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        found = self.all(name)
        assert len(found) <= 1, f"{name} is given twice: {found}"
        return found[0] if found else None

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        assert value is not None, f"there is no {name}"
        return value

    @property
    def text(self) -> str:
        return self.body.decode("utf-8")


class Exchange:
    """One request. `reading` is cleared while the client reads nothing, `gone` is set when it has left."""

    def __init__(
        self,
        app: Any,
        target: str | bytes,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        client: str = "127.0.0.1",
        scope: Mapping[str, Any] | None = None,
    ) -> None:
        raw, _, query = (target.encode("ascii") if isinstance(target, str) else target).partition(b"?")
        sent = {"host": HOST} | {name.lower(): value for name, value in (headers or {}).items()}
        self.app, self.method = app, method
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(raw.decode("latin-1")),
            "raw_path": raw,
            "query_string": query,
            "root_path": "",
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in sent.items()],
            "client": (client, 50_000),
            "server": ("127.0.0.1", 4040),
            **(scope or {}),
        }
        self.messages: list[dict[str, Any]] = []
        self.reading, self.gone = asyncio.Event(), asyncio.Event()
        self.reading.set()
        self.started = False

    async def receive(self) -> dict[str, Any]:
        if not self.started:
            self.started = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        await self.reading.wait()
        self.messages.append(message)

    async def run(self) -> None:
        await self.app(self.scope, self.receive, self.send)

    @property
    def body(self) -> bytes:
        """What has arrived so far."""
        return b"".join(bytes(message.get("body", b"")) for message in self.messages[1:])

    @property
    def whole(self) -> bool:
        """Has the server said that this was all?"""
        return len(self.messages) > 1 and not self.messages[-1].get("more_body", False)

    def answer(self) -> Answer:
        """The answer, which must be whole and as long as it says."""
        head, *rest = self.messages
        assert head["type"] == "http.response.start"
        assert {message["type"] for message in rest} == {"http.response.body"}
        assert [message.get("more_body", False) for message in rest] == [True] * (len(rest) - 1) + [False]
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in head["headers"]]
        answer = Answer(head["status"], headers, self.body)
        length = answer.get("content-length")
        if self.method == "HEAD" or answer.status in (204, 304):
            assert answer.body == b""
        elif length is not None:
            assert int(length) == len(answer.body)
        return answer


async def ask(app: Any, target: str | bytes, **how: Any) -> Answer:
    """The whole answer to one request, within ten seconds."""
    exchange = Exchange(app, target, **how)
    async with asyncio.timeout(10):
        await exchange.run()
    return exchange.answer()
