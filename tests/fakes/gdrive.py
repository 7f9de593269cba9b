"""A fake Google Drive on a port of 127.0.0.1: Drive API v3 and Google's sign-in, truthful until told not to be.

    async with FakeDrive() as fake:
        id = fake.file("Music/AC", "one.flac", b"...")
        fake.fail("media", "userRateLimitExceeded", times=2, retry_after=1)
        ... GET {fake.url}drive/v3/files/ID?alt=media, with `Bearer {fake.signin.token()}` ...

    python -m tests.fakes.gdrive [--port N] [--latency SECONDS] [--seed-files N --size BYTES]     prints its URL

Clients sign in with client id "x", secret "y", refresh token "R". What is in it: drive_files.py; `q` and `fields`:
drive_query.py; what it answers: drive_reading.py, drive_writing.py, drive_uploads.py; sign-in: drive_signin.py; how it
refuses and breaks: drive_faults.py.
"""

import argparse
import asyncio
import random
import socket
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

from aiohttp import web

from .drive_faults import BREAKS, Answer, Fault, Faults, Refusal, Seen, broken, forever, reset, written
from .drive_files import EXPORT, Files
from .drive_reading import Call, Reading
from .drive_signin import SignIn
from .drive_uploads import Session, Uploads
from .drive_writing import Writing

_WHO = {"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/"'}
Handler = Callable[[Call], Awaitable[Answer]]


class FakeDrive(Files):
    """See the module.

    `crc_headers`: media answers carry X-Goog-Hash. `page_limit`: no page is longer, whatever is asked.
    `empty_first`: each listing begins with an empty page, as Google may. `incomplete`: listings say incompleteSearch.
    `generated`: ids that it gave out for uploads. `sessions`: resumable uploads; take some away, and they have expired.
    `requests`: what came, in order; `counts`: how many of each kind (see `of`). `media_now`: media answers in flight;
    `media_most`: the most there were at once.
    """

    def __init__(self, *, port: int = 0, latency: float = 0.0, crc_headers: bool = True) -> None:
        super().__init__()
        self.port, self.latency, self.crc_headers = port, latency, crc_headers
        self.page_limit: int | None = None
        self.empty_first = False
        self.incomplete = False
        self.signin = SignIn()
        self.faults = Faults()
        self.requests: list[Seen] = []
        self.counts: Counter[str] = Counter()
        self.media_now = self.media_most = 0
        self.generated: set[str] = set()
        self.sessions: dict[str, Session] = {}
        self._listening: list[tuple[asyncio.Server, int, ssl.SSLContext | None]] = []

    # ── its life ──

    async def __aenter__(self) -> "FakeDrive":
        self._runner = web.AppRunner(
            self._application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.5
        )
        await self._runner.setup()
        self.port = await self.listen(self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        for one in self._listening:
            one[0].close()
        self._cut_off()
        await self._runner.cleanup()

    async def listen(self, port: int = 0, tls: ssl.SSLContext | None = None) -> int:
        """Answer on one more port; which."""
        sock = _bound(port)
        port = sock.getsockname()[1]
        await self._serve(sock, port, tls)
        return port

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """Every connection is reset, and new ones are refused, until the end of the block."""
        before = self._listening
        self._listening = []
        for server, _, _ in before:
            server.close()
        held = [_bound(one[1]) for one in before]  # not listening, hence refused; and nobody else gets the port
        self._cut_off()
        try:
            yield
        finally:
            for sock, one in zip(held, before, strict=True):
                await self._serve(sock, one[1], one[2])

    async def _serve(self, sock: socket.socket, port: int, tls: ssl.SSLContext | None) -> None:
        assert self._runner.server
        server = await asyncio.get_running_loop().create_server(self._runner.server, sock=sock, ssl=tls)
        self._listening.append((server, port, tls))

    def _cut_off(self) -> None:
        assert self._runner.server
        for connection in list(self._runner.server.connections):
            reset(connection)  # type: ignore[arg-type]  # it has a transport, as a request has

    # ── what it saw, and what it shall do ──

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def of(self, kind: str) -> list[Seen]:
        """The requests of a kind: token auth list get media export changes start about drives create update delete
        copy upload ids."""
        return [seen for seen in self.requests if seen.kind == kind]

    def fail(
        self,
        match: str | Callable[[Seen], bool],
        what: str | int = "hang",
        *,
        times: int | None = 1,
        after_bytes: int | None = None,
        retry_after: float | None = None,
        hang: bool = False,
        rate: float | None = None,
    ) -> Fault:
        """Spoil the next `times` requests (None: all) that match; rules are tried in order.

        `match`: words, each the kind of request (see `of`), a part of "METHOD /path?name=value&...", or "*"; or a
        function of Seen. `what`: a reason of Google's, a status, or one of
        - "reset", "truncated" (an orderly end), "hang": after `after_bytes` of the answer's body; None: before its
          head. In an upload `after_bytes` are of the request's body.
        - "lost": done as asked, but the connection is reset in place of the answer;
        - "drip": `rate` bytes a second; "flipped": bit 0 of byte `after_bytes` is wrong; "whole": Range is ignored;
        - "expired": all access tokens expire just now.
        """
        fault = Fault(match, "hang" if hang else what, times, after_bytes, retry_after, rate)
        self.faults.append(fault)
        return fault

    def service_account(self, token_uri: str = "") -> dict[str, str]:
        """A service account's file; its token_uri is the fake's, unless another is given."""
        return self.signin.service_account(token_uri or f"{self.url}token")

    # ── from a request to its answer ──

    def _application(self) -> web.Application:
        reading, writing, uploads = Reading(self), Writing(self), Uploads(self)
        app = web.Application(client_max_size=1 << 20)
        files, file, upload = "/drive/v3/files", "/drive/v3/files/{id}", "/upload/drive/v3/files"
        for method, path, kind, handler in (
            ("GET", "/auth", "auth", self._auth),
            ("GET", "/o/oauth2/auth", "auth", self._auth),
            ("GET", "/o/oauth2/v2/auth", "auth", self._auth),
            ("POST", "/token", "token", self._token),
            ("GET", files, "list", reading.listed),
            ("GET", f"{files}/generateIds", "ids", writing.ids),
            ("GET", file, "get", reading.get),
            ("GET", f"{file}/export", "export", reading.export),
            ("GET", EXPORT, "export", reading.export),
            ("GET", "/drive/v3/about", "about", reading.about),
            ("GET", "/drive/v3/drives", "drives", reading.drives),
            ("GET", "/drive/v3/drives/{id}", "drives", reading.drive),
            ("GET", "/drive/v3/changes/startPageToken", "start", reading.start),
            ("GET", "/drive/v3/changes", "changes", reading.changes),
            ("POST", files, "create", writing.create),
            ("DELETE", f"{files}/trash", "delete", writing.empty_trash),
            ("PATCH", file, "update", writing.update),
            ("DELETE", file, "delete", writing.delete),
            ("POST", f"{file}/copy", "copy", writing.copy),
            ("POST", upload, "upload", uploads.begun),
            ("PATCH", f"{upload}/{{id}}", "upload", uploads.begun),
            ("PUT", upload, "upload", uploads.went_on),
            ("PUT", f"{upload}/{{id}}", "upload", uploads.went_on),
            ("DELETE", upload, "upload", uploads.given_up),
        ):
            app.router.add_route(method, path, self._answering(kind, handler))
        return app

    def _answering(self, kind: str, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answering(request: web.Request) -> web.StreamResponse:
            media = kind == "get" and request.query.get("alt") == "media"
            sort = "media" if media else kind
            shown, query = request.headers.get("Range"), dict(request.query)
            seen = Seen(sort, request.method, request.path, query, shown, request.headers)
            self.requests.append(seen)
            self.counts[sort] += 1
            self.media_now += media
            self.media_most = max(self.media_most, self.media_now)
            try:
                return await self._answered(Call(request, seen, self.faults.of(seen)), handler)
            finally:
                self.media_now -= media

        return answering

    async def _answered(self, call: Call, handler: Handler) -> web.StreamResponse:
        if self.latency:
            await asyncio.sleep(self.latency)
        fault = call.fault
        if fault is not None and fault.after_bytes is None and fault.what in BREAKS:
            return await self._never(call, str(fault.what))
        try:
            if fault is not None:
                fault.refuse()
                if fault.what == "expired":
                    self.signin.expire()
            self._let_in(call)
            answer = await handler(call)
            if fault is not None and fault.what == "lost":
                return await self._never(call, "reset")
        except Refusal as refusal:
            answer = refusal.answer()
        except (ConnectionError, web.RequestPayloadError):  # the client left in the middle of its body, or had to
            return await self._never(call, "reset")
        uploading = call.seen.kind == "upload"  # its fault was played on the request's body
        return await written(call.request, call.seen, answer, None if uploading else fault)

    async def _never(self, call: Call, way: str) -> web.StreamResponse:
        await broken(call.request, way)
        return web.Response(status=500)  # for nobody

    def _let_in(self, call: Call) -> None:
        if call.seen.kind in ("auth", "token") or "upload_id" in call.query:  # a session's address is its key
            return
        if not self.signin.knows(call.request.headers.get("Authorization", "")):
            raise Refusal("authError", headers=_WHO)

    # ── sign-in ──

    async def _auth(self, call: Call) -> Answer:
        return self.signin.asked(call.query)

    async def _token(self, call: Call) -> Answer:
        form = {name: str(value) for name, value in (await call.request.post()).items()}
        uri = f"{call.request.scheme}://{call.request.host}/token"
        return self.signin.granted(form, call.request.headers.get("Authorization", ""), uri)


def _bound(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return sock


@contextmanager
def threaded(fake: FakeDrive) -> Iterator[FakeDrive]:
    """`fake` in a thread and a loop of its own, for callers that block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fake drive", daemon=True)
    thread.start()

    def run(coroutine: Coroutine[Any, Any, object]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, loop).result(30)

    try:
        run(fake.__aenter__())
        try:
            yield fake
        finally:
            run(fake.__aexit__())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def seed(fake: FakeDrive, count: int, size: int) -> None:
    """Files 00000.bin ... in the folder "seed", the same in each run."""
    folder = fake.folder("seed")
    for number in range(count):
        fake.file(folder, f"{number:05d}.bin", random.Random(number).randbytes(size))


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.gdrive")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--seed-files", type=int, default=0, metavar="N")
    parser.add_argument("--size", type=int, default=1 << 20, metavar="BYTES")
    options = parser.parse_args()
    fake = FakeDrive(port=options.port, latency=options.latency, crc_headers=False)
    seed(fake, options.seed_files, options.size)
    async with fake:
        print(fake.url, flush=True)
        await forever()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
