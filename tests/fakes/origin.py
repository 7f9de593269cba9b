"""One HTTP origin that tells the truth until it is told to lie: files, folders as index pages, ranges, validators.

    async with Origin({"a/b": b"..."}) as origin:
        origin.script["a/b"] = [None, rst(5)]     # the first request is answered well, the second breaks off
        origin.always["a/b"] = status(503)        # and all that follow are refused

A fault edits the right answer before it is written: `Fault = (Answer, Asked) -> None`. It has its own HTTP/1.1 on
bare sockets, so that it can say what no library would. It writes down every request and counts connections: `open`
ones, and `busy` ones, which owe somebody an answer.
"""

import asyncio
import gzip
import html
import re
import socket
import ssl
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from hashlib import blake2b
from urllib.parse import quote, unquote_to_bytes

OLD = "Sat, 03 Jan 2026 10:00:00 GMT"  # a Last-Modified that is strong
CHUNK = 64 << 10
FOREVER = 3600.0


@dataclass(slots=True)
class Asked:
    """One request as it came: `target` as on the wire, `path` decoded, `headers` by lower-case name."""

    method: str
    target: str
    path: str
    query: str
    headers: dict[str, str]
    connection: int


@dataclass(slots=True)
class Answer:
    """What is about to be written, and how."""

    status: int
    headers: dict[str, str]
    body: bytes
    data: bytes = b""  # the whole file that the body is of
    span: tuple[int, int] = (0, 0)  # which part of it
    version: str = "HTTP/1.1"
    wait: float = 0.0  # seconds of silence before the head
    head_rate: float = 0.0  # bytes a second of the head; 0: at once
    rate: float = 0.0  # bytes a second of the body
    pause: float = 0.0  # seconds after each chunk of it
    cut: int | None = None  # only so many bytes of the body are written; then `ending` comes
    ending: str = ""  # "fin", "rst", "hang"; "": go on with the connection
    raw: bytes | None = None  # written in place of it all
    more: bytes = b""  # written after the body, though it is no part of it
    more_after: float = 0.0
    chunked: bool = False


Fault = Callable[[Answer, Asked], None]


def named(name: str) -> str:
    """A path as the inside of a URL."""
    return quote(name.encode("utf-8", "surrogateescape"), safe="/")


class Origin:
    """Serves `files` from a free port of 127.0.0.1, over TLS where `tls` is given.

    `validators` are "etag", "modified", "weak", "young", or "" for none. `wants` are headers without which the
    answer is 401. `ranges=False` answers every GET with the whole.
    """

    def __init__(
        self,
        files: Mapping[str, bytes],
        *,
        validators: str = "etag",
        ranges: bool = True,
        wants: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.files, self.validators, self.ranges = dict(files), validators, ranges
        self.wants, self.tls = dict(wants or {}), tls
        self.lately = formatdate(time.time() - 5, usegmt=True)
        self.pages: dict[str, bytes] = {}  # folder -> its index page, where it is not the usual one
        self.script: defaultdict[str, list[Fault | None]] = defaultdict(list)
        self.always: dict[str, Fault] = {}
        self.requests: list[Asked] = []
        self.connections = 0
        self.sent = 0  # bytes that left, of whatever
        self.links: set[_Link] = set()
        self.server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> "Origin":
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: _Link(self), "127.0.0.1", self.port, ssl=self.tls)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.server
        self.server.close()
        for link in list(self.links):
            link.abort()
        await settled(lambda: not self.links)

    # ── what it saw ──

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}/"

    def of(self, path: str) -> list[Asked]:
        return [asked for asked in self.requests if asked.path == path]

    @property
    def open(self) -> int:
        return len(self.links)

    @property
    def busy(self) -> int:
        return sum(link.task is not None for link in self.links)

    # ── what it answers ──

    def answer(self, asked: Asked) -> Answer:
        """The right answer, as the script spoils it."""
        answer = self._right(asked)
        faults = self.script[asked.path]
        fault = faults.pop(0) if faults else self.always.get(asked.path)
        if "connection" in asked.headers:
            answer.headers["Connection"] = asked.headers["connection"]
        if fault:
            fault(answer, asked)
        return answer

    def _right(self, asked: Asked) -> Answer:
        if any(asked.headers.get(name.lower()) != value for name, value in self.wants.items()):
            return _text(401, {"WWW-Authenticate": "Basic"})
        if not asked.target.isascii() or " " in asked.target or "#" in asked.target:
            return _text(400, {})
        if asked.method not in ("GET", "HEAD"):
            return _text(405, {"Allow": "GET, HEAD"})
        path = asked.path
        if path in self.files:
            return ranged(self.files[path], asked, self._described(self.files[path]), self.ranges)
        inside = {"".join(name[len(path) :].partition("/")[:2]) for name in self.files if name.startswith(path)}
        if path in self.pages or (inside and (path == "" or path.endswith("/"))):
            page = self.pages.get(path) or index(inside)
            return Answer(200, {"Content-Type": "text/html"}, page, page, (0, len(page)))
        if any(name.startswith(path + "/") for name in self.files):
            return _text(301, {"Location": f"/{named(path)}/"})
        return _text(404, {})

    def _described(self, data: bytes) -> dict[str, str]:
        digest = blake2b(data, digest_size=8).hexdigest()
        return {
            "etag": {"ETag": f'"{digest}"', "Last-Modified": OLD},
            "modified": {"Last-Modified": OLD},
            "weak": {"ETag": f'W/"{digest}"'},
            "young": {"Last-Modified": self.lately},
            "": {},
        }[self.validators]


def index(names: Iterable[str]) -> bytes:
    """A page of links, as plain servers write it."""
    lines = [f'<a href="{html.escape(named(name))}">{html.escape(named(name))}</a>' for name in sorted(names)]
    return "\n".join(["<html><body><a href='../'>../</a>", *lines, "</body></html>"]).encode()


def ranged(data: bytes, asked: Asked, described: Mapping[str, str], ranges: bool = True) -> Answer:
    """The right answer for one file (RFC 9110, section 14); the empty file is given as a whole."""
    headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", **described}
    wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", asked.headers.get("range", ""))
    if not ranges or not wanted or not data:
        return Answer(200, headers, data, data, (0, len(data)))
    first, last = wanted.groups()
    start = int(first) if first else max(0, len(data) - int(last))
    stop = min(len(data), int(last) + 1) if first and last else len(data)
    if start >= stop:
        return _text(416, {"Content-Range": f"bytes */{len(data)}"}, data)
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
    return Answer(206, headers, data[start:stop], data, (start, stop))


def _text(status: int, headers: Mapping[str, str], data: bytes = b"") -> Answer:
    return Answer(status, {"Content-Type": "text/html", **headers}, b"<html>%d</html>" % status, data)


class _Link(asyncio.Protocol):
    """One connection: requests are read as they come and answered one after another."""

    def __init__(self, origin: Origin) -> None:
        self.origin, self.number, self.received = origin, 0, b""
        self.task: asyncio.Task[None] | None = None
        self.flowing = asyncio.Event()
        self.flowing.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if not self.origin.tls:  # where a limit of 0 hangs
            transport.set_write_buffer_limits(0)
        self.origin.links.add(self)
        self.origin.connections += 1
        self.number = self.origin.connections

    def connection_lost(self, exc: Exception | None) -> None:
        self.origin.links.discard(self)
        if self.task:
            self.task.cancel()

    def pause_writing(self) -> None:
        self.flowing.clear()

    def resume_writing(self) -> None:
        self.flowing.set()

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._next()

    def _next(self) -> None:
        head, blank, rest = self.received.partition(b"\r\n\r\n")
        if blank and self.task is None:
            self.received = rest
            asked = self._asked(head.decode("utf-8", "surrogateescape"))
            self.origin.requests.append(asked)
            self.task = asyncio.ensure_future(self._serve(asked))

    def _asked(self, head: str) -> Asked:
        line, *lines = head.split("\r\n")
        method, _, rest = line.partition(" ")
        target, _, version = rest.rpartition(" ")
        assert version == "HTTP/1.1"
        pairs = [line.split(":", 1) for line in lines]
        path, _, query = target.partition("?")
        decoded = unquote_to_bytes(path[1:]).decode("utf-8", "surrogateescape")
        headers = {name.lower(): value.strip() for name, value in pairs}
        assert "host" in headers and len(headers) == len(pairs)
        return Asked(method, target, decoded, query, headers, self.number)

    async def _serve(self, asked: Asked) -> None:
        try:
            await self._write(self.origin.answer(asked), asked)
        except asyncio.CancelledError:
            return  # the client has left
        self.task = None
        self._next()

    async def _write(self, answer: Answer, asked: Asked) -> None:
        await asyncio.sleep(answer.wait)
        if answer.raw is not None:
            await self._slowly(answer.raw, 0)
            return await self._end(answer.ending or "fin")
        await self._slowly(head(answer), answer.head_rate)
        if asked.method == "HEAD":
            return
        body = answer.body if answer.cut is None else answer.body[: answer.cut]
        for at in range(0, len(body), CHUNK):
            part = body[at : at + CHUNK]
            await self._slowly(b"%x\r\n%b\r\n" % (len(part), part) if answer.chunked else part, answer.rate)
            if answer.pause:
                await asyncio.sleep(answer.pause)
        if answer.chunked and answer.cut is None:
            await self._slowly(b"0\r\n\r\n", answer.rate)
        if answer.more:
            await asyncio.sleep(answer.more_after)
            await self._slowly(answer.more, 0)
        last = answer.version == "HTTP/1.0" or asked.headers.get("connection") == "close"
        await self._end(answer.ending or "fin" * last)

    async def _slowly(self, data: bytes, rate: float) -> None:
        for part in [data[at : at + 1] for at in range(len(data))] if rate else [data]:
            self.transport.write(part)
            await self.flowing.wait()
            self.origin.sent += len(part)
            if rate:
                await asyncio.sleep(1 / rate)

    async def _end(self, ending: str) -> None:
        if ending == "hang":
            await asyncio.sleep(FOREVER)
        elif ending == "fin":
            self.transport.close()
            await asyncio.sleep(FOREVER)
        elif ending == "rst":
            self.reset()
            await asyncio.sleep(FOREVER)

    def reset(self) -> None:
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def abort(self) -> None:
        self.transport.abort()


_REASONS = {200: "OK", 206: "Partial Content", 302: "Found", 404: "Not Found", 416: "Range Not Satisfiable"}


def head(answer: Answer) -> bytes:
    headers = {"Date": formatdate(usegmt=True), **answer.headers}
    if answer.chunked:
        headers["Transfer-Encoding"] = "chunked"
    elif answer.version == "HTTP/1.1":
        headers.setdefault("Content-Length", str(len(answer.body)))
    lines = [f"{answer.version} {answer.status} {_REASONS.get(answer.status, 'Said So')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


async def settled(true: Callable[[], bool], within: float = 3.0) -> None:
    """Wait until something is so; AssertionError where it does not come to be."""
    until = time.monotonic() + within
    while not true():
        assert time.monotonic() < until, "it did not come to be so in time"
        await asyncio.sleep(0.002)


# ── faults ──


def each(*faults: Fault) -> Fault:
    """Several faults in one answer."""

    def edit(answer: Answer, asked: Asked) -> None:
        for fault in faults:
            fault(answer, asked)

    return edit


def header(name: str, value: str | None) -> Fault:
    """A header set, or left out."""

    def edit(answer: Answer, asked: Asked) -> None:
        answer.headers.pop(name, None)
        if value is not None:
            answer.headers[name] = value

    return edit


def whole(answer: Answer, asked: Asked) -> None:
    """200 and the whole file, whatever the range."""
    answer.status, answer.body = 200, answer.data
    answer.headers.pop("Content-Range", None)


def moved(by: int, end: int = 0, *, honest: bool = True) -> Fault:
    """206 of a range that begins `by` and ends `end` bytes later than asked; the body as it says, if `honest`."""

    def edit(answer: Answer, asked: Asked) -> None:
        start, stop = answer.span[0] + by, answer.span[1] + end
        answer.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(answer.data)}"
        if honest:
            answer.body = answer.data[max(0, start) : stop]

    return edit


def total(size: int | str) -> Fault:
    """206 whose Content-Range names another size of the whole ("*": none)."""

    def edit(answer: Answer, asked: Asked) -> None:
        start, stop = answer.span
        answer.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"

    return edit


def multipart(answer: Answer, asked: Asked) -> None:
    """206 as multipart/byteranges with one part."""
    part = f"--b\r\nContent-Range: {answer.headers.pop('Content-Range')}\r\n\r\n".encode()
    answer.headers["Content-Type"] = "multipart/byteranges; boundary=b"
    answer.body = part + answer.body + b"\r\n--b--\r\n"


def unsatisfied(answer: Answer, asked: Asked) -> None:
    """416, whatever the range."""
    answer.status, answer.body = 416, b"no"
    answer.headers["Content-Range"] = f"bytes */{len(answer.data)}"


def unsatisfied_past_the_end(answer: Answer, asked: Asked) -> None:
    """416 where the range goes beyond the end, though it overlaps the file."""
    last = asked.headers.get("range", "").rpartition("-")[2]
    if last and int(last) >= len(answer.data):
        unsatisfied(answer, asked)


def instead(data: bytes, **headers: str) -> Fault:
    """Another version of the file: answered rightly, with these headers in place of its own (`_` for `-`)."""

    def edit(answer: Answer, asked: Asked) -> None:
        new = ranged(data, asked, {name.replace("_", "-"): value for name, value in headers.items()})
        answer.status, answer.headers, answer.body = new.status, new.headers, new.body
        answer.data, answer.span = data, new.span

    return edit


def zipped(answer: Answer, asked: Asked) -> None:
    """The range of the file, encoded with gzip although nobody accepts it."""
    answer.body = gzip.compress(answer.body)
    answer.headers["Content-Encoding"] = "gzip"


def redirect(location: str, status: int = 302) -> Fault:
    def edit(answer: Answer, asked: Asked) -> None:
        answer.status, answer.body, answer.headers = status, b"there", {"Location": location}

    return edit


def expiring(origin: Origin, path: str) -> None:
    """Redirect `path` to signed URLs; each gives the file once and then answers 403."""
    issued: list[str] = []

    def sign(answer: Answer, asked: Asked) -> None:
        issued.append(f"sig={len(origin.requests)}")
        redirect(f"/signed/{asked.target[1:]}?{issued[-1]}", 307)(answer, asked)

    def check(answer: Answer, asked: Asked) -> None:
        if asked.query in issued:
            issued.remove(asked.query)
        else:
            status(403)(answer, asked)

    origin.files[f"signed/{path}"] = origin.files[path]
    origin.always[path], origin.always[f"signed/{path}"] = sign, check


def status(code: int, **headers: str) -> Fault:
    """An error page; `Retry_After="3"` becomes the header Retry-After."""

    def edit(answer: Answer, asked: Asked) -> None:
        answer.status, answer.body = code, b"" if code in (204, 304) else b"<html>no</html>"
        answer.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    return edit


def hang(at: int | None = None) -> Fault:
    """Silence: before the head, or after `at` bytes of the body."""

    def edit(answer: Answer, asked: Asked) -> None:
        if at is None:
            answer.wait = FOREVER
        else:
            answer.cut, answer.ending = at, "hang"

    return edit


def late(seconds: float) -> Fault:
    def edit(answer: Answer, asked: Asked) -> None:
        answer.wait = seconds

    return edit


def rst(at: int = 0) -> Fault:
    """A reset after `at` bytes of the body; -1: in place of an answer."""

    def edit(answer: Answer, asked: Asked) -> None:
        answer.cut, answer.ending = at, "rst"
        if at < 0:
            answer.raw = b""

    return edit


def short(at: int = 0) -> Fault:
    """A clean end after `at` bytes of the body, though Content-Length promised more; -1: in place of an answer."""

    def edit(answer: Answer, asked: Asked) -> None:
        answer.headers["Content-Length"] = str(len(answer.body))
        answer.cut, answer.ending = at, "fin"
        if at < 0:
            answer.raw = b""

    return edit


def cut(at: int) -> Fault:
    """An end after `at` bytes of the body, where no length was promised."""

    def edit(answer: Answer, asked: Asked) -> None:
        answer.cut, answer.ending = at, "fin"

    return edit


def halting(pause: float) -> Fault:
    """Chunk by chunk, with pauses between them."""

    def fault(answer: Answer, asked: Asked) -> None:
        answer.pause = pause

    return fault


def drip(rate: float) -> Fault:
    """The body, byte by byte."""

    def edit(answer: Answer, asked: Asked) -> None:
        answer.rate = rate

    return edit


def slow_head(rate: float) -> Fault:
    """The head, byte by byte."""

    def edit(answer: Answer, asked: Asked) -> None:
        answer.head_rate = rate

    return edit


def extra(data: bytes, after: float = 0.0) -> Fault:
    """More bytes after the body than Content-Length says; `after` so many seconds."""

    def edit(answer: Answer, asked: Asked) -> None:
        answer.more, answer.more_after = data, after

    return edit


def old(answer: Answer, asked: Asked) -> None:
    """HTTP/1.0: no length, the body ends with the connection."""
    answer.version = "HTTP/1.0"


def chunked(answer: Answer, asked: Asked) -> None:
    answer.chunked = True


def beheaded(at: int, ending: str = "fin") -> Fault:
    """Only `at` bytes of the head."""

    def edit(answer: Answer, asked: Asked) -> None:
        answer.raw, answer.ending = head(answer)[:at], ending

    return edit


def garbage(data: bytes = b"\x15\x03\x01 this is not HTTP\n\n\n\x00\xff" * 4) -> Fault:
    def edit(answer: Answer, asked: Asked) -> None:
        answer.raw = data

    return edit


def huge_head(size: int = 1 << 20) -> Fault:
    return header("X-Huge", "x" * size)
