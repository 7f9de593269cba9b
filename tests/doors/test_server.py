"""Our server, over real sockets, on both loops: exact bytes, back-pressure, leaving, breaking off, limits."""

import asyncio
import contextlib
import os
import random
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from playhead import Blob, Unavailable, literal
from playhead.app.auth import Gate
from playhead.app.site import Site
from playhead.blob import Pieces
from playhead.doors import connection, server
from playhead.origins.local import LocalTree
from playhead.origins.memory import MemoryTree
from playhead.tree import Ask

Runs = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Runs:
    """Run a coroutine on one of the loops, and find nothing left behind."""

    def runs(main: Callable[[], Awaitable[None]]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(30):
                await main()
            await asyncio.sleep(0)
            assert len(asyncio.all_tasks()) == 1

        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(bounded())

    return runs


@contextlib.asynccontextmanager
async def serving(app: Any, tls: tuple[str, str] | None = None) -> AsyncIterator[int]:
    """The application behind our server; gives the port."""
    sock = server.listen("127.0.0.1", 0)
    serving = server.uvicorn_of(app, tls=tls)
    task = asyncio.create_task(serving.serve(sockets=[sock]))
    try:
        while not serving.started:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        yield sock.getsockname()[1]
    finally:
        serving.should_exit = True
        await asyncio.wait_for(task, 8)


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


class Client:
    """A connection that reads only when it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def ask(self, *requests: bytes) -> None:
        self.writer.write(b"".join(requests))

    async def head(self) -> tuple[int, dict[str, str]]:
        status, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        return int(status.split()[1]), dict(line.lower().split(": ", 1) for line in lines if line)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        status, headers = await self.head()
        return status, headers, await self.reader.readexactly(int(headers["content-length"]))


@contextlib.asynccontextmanager
async def client(port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, limit=1 << 16)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


class Scripted(Blob):
    """A blob whose stream is a function; it notes when it was begun and ended."""

    def __init__(self, size: int, script: Callable[[int, int], Pieces]) -> None:
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "tag", "v:scripted")
        object.__setattr__(self, "modified", None)
        self.__dict__["script"] = script

    async def stream(self, start: int, stop: int) -> Pieces:
        async with contextlib.aclosing(self.__dict__["script"](start, stop)) as pieces:
            async for piece in pieces:
                yield piece


class OneBlob(MemoryTree):
    """A tree that gives one blob under every path."""

    def __init__(self, blob: Blob) -> None:
        super().__init__({})
        self.blob = blob

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        return self.blob


def site_of(blob: Blob) -> Site:
    return Site({"music": OneBlob(blob)}, Gate())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = random.Random(1).randbytes(5_000_003)
    (tmp_path / "big.bin").write_bytes(data)
    (tmp_path / "small.bin").write_bytes(data[:1000])
    (tmp_path / "empty.bin").write_bytes(b"")
    return tmp_path


@pytest.fixture(params=["sendfile", "cold", "copying"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The ways a file leaves: from memory, from a disk that must be waited for, on a system without sendfile."""
    if request.param == "cold":
        monkeypatch.setattr(connection, "_in_memory", lambda fd, offset: False)
    if request.param == "copying":
        monkeypatch.delattr(os, "sendfile")
    return str(request.param)


def test_files_are_their_bytes_at_any_range(run: Runs, folder: Path, way: str) -> None:
    data = (folder / "big.bin").read_bytes()
    chance = random.Random(2)

    async def main() -> None:
        site = Site({"music": LocalTree(folder)}, Gate())
        async with serving(site) as port, client(port) as c:
            for _ in range(30):
                start, stop = sorted(chance.sample(range(len(data) + 1), 2))
                c.ask(get("/files/music/big.bin", f"Range: bytes={start}-{stop - 1}"))
                status, headers, body = await c.answer()
                assert (status, headers["content-range"]) == (206, f"bytes {start}-{stop - 1}/{len(data)}")
                assert body == data[start:stop]
            c.ask(get("/files/music/big.bin"))
            assert (await c.answer())[2] == data
            c.ask(get("/files/music/empty.bin"))
            assert (await c.answer())[2] == b""

    run(main)


def test_pipelined_requests_are_answered_in_order(run: Runs, folder: Path) -> None:
    data = (folder / "big.bin").read_bytes()

    async def main() -> None:
        async with serving(Site({"music": LocalTree(folder)}, Gate())) as port, client(port) as c:
            c.ask(
                get("/files/music/big.bin"),
                get("/files/music/small.bin", method="HEAD"),
                get("/files/music/small.bin"),
                get("/files/music/big.bin", "Range: bytes=7-9", "Connection: close"),
            )
            assert (await c.answer())[2] == data
            assert (await c.head())[1]["content-length"] == "1000"
            assert (await c.answer())[2] == data[:1000]
            assert (await c.answer())[2] == data[7:10]
            assert await c.reader.read() == b""

    run(main)


def test_a_reader_that_stands_still_holds_the_producer_and_goes_on(run: Runs) -> None:
    given = 0
    piece = bytes(range(256)) * 256

    async def script(start: int, stop: int) -> Pieces:
        nonlocal given
        while start < stop:
            given += len(piece)
            yield piece
            start += len(piece)

    async def main() -> None:
        async with serving(site_of(Scripted(1 << 30, script))) as port, client(port) as c:
            c.ask(get("/files/music/x.bin"))
            status, headers = await c.head()
            assert (status, headers["content-length"]) == (200, str(1 << 30))
            await asyncio.sleep(0.5)
            stopped = given
            await asyncio.sleep(1.0)
            assert given == stopped < 16 << 20  # what the kernels of both sides hold, and no more
            for _ in range(400):
                assert await c.reader.readexactly(len(piece)) == piece
            assert given > stopped

    run(main)


@pytest.mark.parametrize("pipelined", [False, True])
def test_when_the_client_leaves_the_stream_behind_is_closed(run: Runs, pipelined: bool) -> None:
    async def main() -> None:
        closed = asyncio.Event()

        async def script(start: int, stop: int) -> Pieces:
            try:
                yield b"x" * 100
                await asyncio.sleep(3600)
            finally:
                closed.set()

        async with serving(site_of(Scripted(1000, script))) as port:
            async with client(port) as c:
                c.ask(get("/files/music/x.bin"), *([get("/healthz")] if pipelined else []))
                await c.head()
                assert await c.reader.readexactly(100) == b"x" * 100
                assert not closed.is_set()
            async with asyncio.timeout(1):
                await closed.wait()

    run(main)


def test_when_the_client_leaves_before_the_first_byte_the_opening_is_cancelled(run: Runs) -> None:
    async def main() -> None:
        began, ended = asyncio.Event(), asyncio.Event()

        class Waiting(MemoryTree):
            async def open(self, path: str, ask: Ask = Ask()) -> Blob:
                began.set()
                try:
                    await asyncio.sleep(3600)
                finally:
                    ended.set()
                raise AssertionError

        async with serving(Site({"music": Waiting({})}, Gate())) as port:
            async with client(port) as c:
                c.ask(get("/files/music/x.bin"))
                await began.wait()
            async with asyncio.timeout(1):
                await ended.wait()

    run(main)


def test_a_failure_in_mid_body_resets_the_connection_and_is_said_once(
    run: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(start: int, stop: int) -> Pieces:
        yield b"x" * 100
        raise Unavailable("the origin broke the connection off")

    async def main() -> None:
        async with serving(site_of(Scripted(1000, script))) as port, client(port) as c:
            c.ask(get("/files/music/x.bin"))
            await c.head()
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await c.reader.readexactly(1000)

    run(main)
    said = [record for record in caplog.records if "the origin broke" in record.getMessage()]
    assert len(said) == 1
    assert not [record for record in caplog.records if record.exc_info]


def test_the_reset_is_a_reset_and_not_an_end(folder: Path) -> None:
    async def script(start: int, stop: int) -> Pieces:
        yield b"x" * 100
        await asyncio.sleep(0.2)
        raise Unavailable("gone")

    async def main() -> None:
        async with serving(site_of(Scripted(1000, script))) as port:
            with socket.create_connection(("127.0.0.1", port)) as sock:
                sock.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(sock, get("/files/music/x.bin"))
                with pytest.raises(ConnectionResetError):
                    while await loop.sock_recv(sock, 65536):
                        pass

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_failure_before_the_first_byte_has_its_status(run: Runs) -> None:
    async def script(start: int, stop: int) -> Pieces:
        raise Unavailable("the origin is not there", after=2)
        yield b""

    async def main() -> None:
        async with serving(site_of(Scripted(1000, script))) as port, client(port) as c:
            c.ask(get("/files/music/x.bin"))
            status, headers, body = await c.answer()
            assert (status, body) == (503, b"the origin is not there\n")
            assert headers["retry-after"] == "3"
            c.ask(get("/healthz"))
            assert (await c.answer())[0] == 200

    run(main)


def test_a_file_that_shrinks_while_it_is_sent_is_not_padded(run: Runs, tmp_path: Path) -> None:
    size = 64 << 20
    with (tmp_path / "f.bin").open("wb") as file:
        file.truncate(size)

    async def main() -> None:
        async with serving(Site({"music": LocalTree(tmp_path)}, Gate())) as port, client(port) as c:
            c.ask(get("/files/music/f.bin"))
            await c.head()
            await c.reader.readexactly(1 << 20)
            os.truncate(tmp_path / "f.bin", 1 << 20)
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await c.reader.readexactly(size - (1 << 20))

    run(main)


def test_garbage_behind_a_request_never_gets_into_its_answer(run: Runs, folder: Path) -> None:
    data = (folder / "big.bin").read_bytes()

    async def main() -> None:
        async with serving(Site({"music": LocalTree(folder)}, Gate())) as port, client(port) as c:
            c.ask(get("/files/music/big.bin"))
            await c.head()
            got = await c.reader.readexactly(1000)
            c.ask(b"\0garbage\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                while more := await c.reader.read(1 << 16):
                    got += more
            assert data.startswith(got)

    run(main)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 70_000, 431),
        (get("/", *(f"X-{n}: 1" for n in range(150))), 431),
        (b"GET /" + b"a" * 70_000, 431),
    ],
)
def test_a_head_has_limits(run: Runs, sent: bytes, status: int) -> None:
    async def main() -> None:
        async with serving(Site({"music": MemoryTree({})}, Gate())) as port, client(port) as c:
            c.ask(sent)
            assert (await c.answer())[0] == status
            assert await c.reader.read() == b""

    run(main)


def test_a_head_must_come_in_time(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.3)

    async def main() -> None:
        async with serving(Site({"music": MemoryTree({})}, Gate())) as port:
            async with client(port) as c:
                c.ask(b"GET / HTTP/1.1\r\nHo")
                assert (await c.answer())[0] == 408
            async with client(port) as c:
                c.ask(get("/healthz"))
                assert (await c.answer())[0] == 200
                await asyncio.sleep(0.5)
                c.ask(get("/healthz"))  # idle is not slow
                assert (await c.answer())[0] == 200
                c.ask(b"GET / HT")
                assert (await c.answer())[0] == 408

    run(main)


def test_a_slow_reader_is_not_cut_off_for_being_slow(run: Runs, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(server, "IDLE_SECONDS", 1)
    size = 32 << 20
    with (folder / "sparse.bin").open("wb") as file:
        file.truncate(size)

    async def main() -> None:
        async with serving(Site({"music": LocalTree(folder)}, Gate())) as port, client(port) as c:
            c.ask(get("/files/music/sparse.bin"))
            await c.head()
            await asyncio.sleep(2.5)
            assert await c.reader.readexactly(size) == bytes(size)
            c.ask(get("/healthz"))
            assert (await c.answer())[0] == 200

    run(main)


def test_the_body_of_a_get_is_taken_and_forgotten(run: Runs) -> None:
    async def main() -> None:
        async with serving(Site({"music": MemoryTree({})}, Gate())) as port, client(port) as c:
            c.ask(get("/healthz", f"Content-Length: {4 << 20}"), bytes(4 << 20), get("/healthz"))
            assert [(await c.answer())[0] for _ in range(2)] == [200, 200]

    run(main)


def test_too_many_pipelined_requests_end_the_connection(run: Runs) -> None:
    async def script(start: int, stop: int) -> Pieces:
        yield b"x"
        await asyncio.sleep(3600)

    async def main() -> None:
        async with serving(site_of(Scripted(1000, script))) as port, client(port) as c:
            c.ask(get("/files/music/x.bin"))
            await c.head()
            c.ask(*[get("/healthz")] * 100)
            with contextlib.suppress(ConnectionResetError):
                assert len(await c.reader.read()) < 1000

    run(main)


def test_a_bug_is_a_500_without_its_text(run: Runs, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(MemoryTree):
        async def open(self, path: str, ask: Ask = Ask()) -> Blob:
            raise RuntimeError("inner words")

    async def main() -> None:
        async with serving(Site({"music": Broken({})}, Gate())) as port, client(port) as c:
            c.ask(get("/files/music/x.bin"))
            status, _, body = await c.answer()
            assert status == 500
            assert b"inner words" not in body

    run(main)
    assert "inner words" in caplog.text


def test_broken_off_downloads_leave_no_descriptor(run: Runs, folder: Path) -> None:
    async def main() -> None:
        async with serving(Site({"music": LocalTree(folder)}, Gate())) as port:
            async with client(port) as c:
                c.ask(get("/files/music/big.bin"))
                await c.answer()
            await asyncio.sleep(0.1)
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(30):
                async with client(port) as c:
                    c.ask(get("/files/music/big.bin"))
                    await c.head()
                    await asyncio.sleep(0.005)
            await asyncio.sleep(0.3)
            assert len(os.listdir("/proc/self/fd")) <= before + 1

    run(main)


@pytest.fixture(scope="module")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    folder = tmp_path_factory.mktemp("tls")
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2"]
    subprocess.run([*made, "-subj", "/CN=localhost"], check=True, capture_output=True, timeout=60)
    yield cert, key


def test_tls_gives_the_same_bytes_also_to_one_who_pauses(run: Runs, folder: Path, tls_files: tuple[str, str]) -> None:
    data = (folder / "big.bin").read_bytes()
    context = ssl.create_default_context(cafile=tls_files[0])
    context.check_hostname = False

    async def main() -> None:
        site = Site({"music": LocalTree(folder)}, Gate())
        async with serving(site, tls_files) as port, client(port, context) as c:
            c.ask(get("/files/music/big.bin"))
            await c.head()
            await asyncio.sleep(1)
            assert await c.reader.readexactly(len(data)) == data
            c.ask(get("/files/music/big.bin", "Range: bytes=-5"))
            assert (await c.answer())[2] == data[-5:]

    run(main)


def test_a_short_blob_is_an_error_on_the_wire(run: Runs) -> None:
    async def script(start: int, stop: int) -> Pieces:
        yield b"x" * 10

    async def main() -> None:
        async with serving(site_of(Scripted(1000, script))) as port, client(port) as c:
            c.ask(get("/files/music/x.bin"))
            await c.head()
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await c.reader.readexactly(1000)

    run(main)


def test_what_is_small_is_sent_with_its_head_at_once(run: Runs) -> None:
    async def main() -> None:
        async with serving(site_of(literal(b"y" * 100))) as port, client(port) as c:
            c.ask(get("/files/music/x.bin"))
            first = await c.reader.read(1 << 16)
            assert first.endswith(b"\r\n\r\n" + b"y" * 100)

    run(main)
