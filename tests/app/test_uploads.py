"""Files that are added to trees: every step of tus, breaks and kills between them, and what strangers send.

Run as a program, this is a server that can be killed: HOME PORT [slow].
"""

import asyncio
import base64
import errno
import hashlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from playhead import Blob, Full, Unavailable
from playhead.app import spool, storing, uploads
from playhead.app.auth import Gate
from playhead.app.site import Site
from playhead.app.spool import Limits
from playhead.app.uploads import Uploads
from playhead.blob import Pieces
from playhead.doors import server
from playhead.errors import Busy
from playhead.origins import folder
from playhead.origins.folder import LocalStore
from playhead.origins.memory import MemoryTree
from playhead.transforms.crypt import crypt
from playhead.transforms.listed import listed
from playhead.transforms.written import written
from playhead.tree import Entry, Tree
from tests.app.asgi_client import Answer, Exchange
from tests.peers.crypts import Setting
from tests.peers.playing import clean, needs, noise

TUS = {"Tus-Resumable": "1.0.0"}
SOON = 10.0
SONG = noise(300_000)
LARGE = noise(6_000_000, 1)

# ── the server that is killed ──


@dataclass(frozen=True, slots=True, eq=False)
class Slow(Blob):
    """The same, at 4 MB/s."""

    blob: Blob

    async def stream(self, start: int, stop: int) -> Pieces:
        for at in range(start, stop, 1 << 18):
            yield await self.blob.read(at, min(stop, at + (1 << 18)))
            await asyncio.sleep(0.06)


class SlowStore(LocalStore):
    """Writes as slowly."""

    async def put(
        self, path: str, blob: Blob, *, replaces: str | None, state: str | None, keep: Callable[[str], None]
    ) -> Entry:
        slow = Slow(blob.size, blob.tag, blob, modified=blob.modified)
        print(f"put from {state.split(' ')[1] if state else 0}", file=sys.stderr, flush=True)
        return await super().put(path, slow, replaces=replaces, state=state, keep=keep)


async def serving(home: Path, port: int, *, slow: bool) -> None:
    (home / "root").mkdir(exist_ok=True)
    store = (SlowStore if slow else LocalStore)(home / "root")
    tree = listed(store, None, name="root", fresh=600.0)  # a new listing only where something was written
    added = Uploads({"music": store}, home / "spool", noticed=lambda _, folder: written(tree, folder))
    await added.begin()
    with socket.create_server(("127.0.0.1", port)) as sock:
        try:
            url = f"http://127.0.0.1:{sock.getsockname()[1]}/"
            await server.serve(Site({"music": tree}, uploads=added), sock, ready=lambda: print(url, flush=True))
        finally:
            await added.aclose()
            await tree.aclose()


@contextmanager
def served(home: Path, port: int = 0, *how: str) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A server over HOME/root as a process -> its URL. What it complains of is in HOME/stderr."""
    command = [sys.executable, "-m", "tests.app.test_uploads", str(home), str(port), *how]
    with (home / "stderr").open("ab") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=clean(home))
    try:
        assert process.stdout
        url = process.stdout.readline().decode().strip()
        assert url, (home / "stderr").read_text("utf-8", "replace")
        yield url, process
    finally:
        process.kill()
        process.communicate()
    assert b"Traceback" not in (home / "stderr").read_bytes(), (home / "stderr").read_text("utf-8", "replace")


# ── clients ──


class Sent(Exchange):
    """A request with a body, that comes piece by piece. `gone` at the end of it: the rest never comes."""

    def __init__(self, app: Any, target: str, body: bytes | Sequence[bytes] = b"", *, more: bool = False, **how: Any):
        super().__init__(app, target, **how)
        self.pieces = [body] if isinstance(body, bytes) else list(body)
        self.more, self.taken = more, 0

    async def receive(self) -> dict[str, Any]:
        if self.taken < len(self.pieces):
            self.taken += 1
            last = self.taken == len(self.pieces) and not self.more
            return {"type": "http.request", "body": self.pieces[self.taken - 1], "more_body": not last}
        await self.gone.wait()
        return {"type": "http.disconnect"}


@dataclass
class Client:
    """Asks a site in this process."""

    site: Site
    added: Uploads

    async def ask(self, method: str, target: str, body: bytes | Sequence[bytes] = b"", **headers: str) -> Answer:
        sent = Sent(self.site, target, body, method=method, headers=TUS | named(headers))
        async with asyncio.timeout(SOON):
            await sent.run()
        return sent.answer()

    async def create(self, path: str, size: int, *, tree: str = "music", headers: Any = None, **about: str) -> Answer:
        said = metadata(tree=tree, path=path, **about)
        return await self.ask("POST", "/uploads", Upload_Length=str(size), Upload_Metadata=said, **(headers or {}))

    async def created(self, path: str, size: int, **about: str) -> str:
        answer = await self.create(path, size, **about)
        assert answer.status == 201, answer.text
        return answer["location"]

    async def patch(self, place: str, at: int, body: bytes | Sequence[bytes], **headers: str) -> Answer:
        return await self.ask("PATCH", place, body, **patching(at), **headers)

    async def offset(self, place: str) -> int:
        return int((await self.ask("HEAD", place))["upload-offset"])

    async def told(self, place: str) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((await self.ask("GET", place)).text)
        return told

    async def ended(self, place: str) -> dict[str, Any]:
        return await self.until(place, lambda told: told["state"] in ("done", "failed"))

    async def until(self, place: str, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        for _ in range(int(SOON / 0.01)):
            if true(told := await self.told(place)):
                return told
            await asyncio.sleep(0.01)
        raise TimeoutError(told)

    async def uploaded(self, path: str, data: bytes, **about: str) -> dict[str, Any]:
        """What became of it."""
        place = await self.created(path, len(data), **about)
        assert (await self.patch(place, 0, data)).status == 204
        return await self.ended(place)


def named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items() if value}


def metadata(**about: str) -> str:
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in about.items())


def patching(at: int) -> dict[str, str]:
    return {"Upload_Offset": str(at), "Content_Type": "application/offset+octet-stream"}


@asynccontextmanager
async def begun(tree: Tree, home: Path, *, gate: Gate = Gate(), prefix: str = "", **how: Any) -> AsyncIterator[Client]:
    added = Uploads({"music": tree}, home / "spool", **how)
    await added.begin()
    try:
        yield Client(Site({"music": tree, "others": MemoryTree({})}, gate, prefix, uploads=added), added)
    finally:
        await added.aclose()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    (tmp_path / "root").mkdir()
    return LocalStore(tmp_path / "root")


def files(home: Path) -> dict[str, bytes]:
    """What is in the store."""
    return {str(path.relative_to(home / "root")): path.read_bytes() for path in (home / "root").rglob("*.*")}


def waiting(home: Path) -> list[str]:
    """The files that wait in the spool."""
    return [path.name for path in (home / "spool").rglob("bytes/*")]


def pieces(data: bytes, step: int = 65_536) -> list[bytes]:
    return [data[at : at + step] for at in range(0, len(data), step)] or [b""]


# ── the way of a file ──


async def test_a_file_comes_in_parts_and_is_stored_whole_and_dated(store: LocalStore, tmp_path: Path) -> None:
    async with begun(store, tmp_path, prefix="/p") as client:
        about = {"tree": "music", "path": "앨범/1 노래.mp3", "modified": "1000000000.123"}
        headers = {"Upload_Length": str(len(SONG)), "Upload_Metadata": metadata(**about)}
        answer = await client.ask("POST", "/p/uploads", **headers)
        assert (answer.status, answer["tus-resumable"]) == (201, "1.0.0")
        place = answer["location"]
        assert place.startswith("/p/uploads/") and len(place) > 40
        answer = await client.patch(place, 0, pieces(SONG[:200_000]))
        assert (answer.status, answer["upload-offset"]) == (204, "200000")
        assert files(tmp_path) == {} and waiting(tmp_path) == ["1 노래.mp3"]
        assert (await client.told(place))["state"] == "receiving"
        head = await client.ask("HEAD", place)
        assert (head["upload-offset"], head["upload-length"]) == ("200000", str(len(SONG)))
        assert (head["upload-metadata"], head["cache-control"]) == (headers["Upload_Metadata"], "no-store")
        assert (await client.patch(place, 200_000, SONG[200_000:])).status == 204
        told = await client.ended(place)
        assert (told["state"], told["stored"], told["entry"]["size"]) == ("done", len(SONG), len(SONG))
        assert files(tmp_path) == {"앨범/1 노래.mp3": SONG}
        assert (tmp_path / "root/앨범/1 노래.mp3").stat().st_mtime == pytest.approx(1_000_000_000.123)
        assert waiting(tmp_path) == []
        assert (await client.ask("DELETE", place)).status == 204
        assert (await client.ask("GET", place)).status == 404
        assert [path.name for path in (tmp_path / "spool").iterdir()] == ["lock"]


@pytest.mark.parametrize("when", ["1000000000", "1000000000000", "1e9"])
async def test_dates_are_seconds_or_milliseconds(store: LocalStore, tmp_path: Path, when: str) -> None:
    async with begun(store, tmp_path) as client:
        place = await client.created("a.txt", 0, modified=when)
        assert (await client.ended(place))["state"] == "done"
    assert (tmp_path / "root/a.txt").stat().st_mtime == 1_000_000_000


async def test_the_spool_is_its_owners_alone(store: LocalStore, tmp_path: Path) -> None:
    async with begun(store, tmp_path) as client:
        await client.created("a.txt", 3)
        for path in [tmp_path / "spool", *(tmp_path / "spool").rglob("*")]:
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


async def test_one_process_has_the_spool(store: LocalStore, tmp_path: Path) -> None:
    async with begun(store, tmp_path):
        with pytest.raises(Busy, match="another process"):
            await Uploads({}, tmp_path / "spool").begin()


async def test_what_is_possible_is_told_to_whoever_asks(store: LocalStore, tmp_path: Path) -> None:
    async with begun(store, tmp_path, limits=Limits(bytes=77)) as client:
        answer = await client.ask("OPTIONS", "/uploads")
        assert (answer.status, answer["tus-version"], answer["tus-max-size"]) == (204, "1.0.0", "77")
        assert set(answer["tus-extension"].split(",")) == {"creation", "expiration", "checksum", "termination"}
        assert answer.get("access-control-allow-methods") is None
        assert (await client.ask("GET", "/uploads")).status == 405  # nobody is told of the others'
        assert (await client.ask("GET", "/uploads/")).status == 405


async def test_methods_may_be_named_in_a_header(store: LocalStore, tmp_path: Path) -> None:
    async with begun(store, tmp_path) as client:
        place = await client.created("a.txt", 3)
        answer = await client.ask("POST", place, b"abc", **patching(0), X_HTTP_Method_Override="PATCH")
        assert answer.status == 204
        assert (await client.ended(place))["state"] == "done"


# ── what is refused ──

CREATIONS = {
    "no version": (412, {"Tus_Resumable": "0.2.2"}, "a", "3"),
    "no length": (400, {"Upload_Defer_Length": "1"}, "a", ""),
    "a length that is none": (400, {}, "a", "-3"),
    "a length of many digits": (400, {}, "a", "9" * 40),
    "too much": (413, {}, "a", "1001"),
    "no metadata": (400, {"Upload_Metadata": "a"}, "a", "3"),
    "metadata that is no base64": (400, {"Upload_Metadata": "tree !!"}, "a", "3"),
    "metadata that is no UTF-8": (400, {"Upload_Metadata": "tree bXVzaWM=,path /w=="}, "a", "3"),
    "metadata twice": (400, {"Upload_Metadata": "tree bXVzaWM=,tree bXVzaWM="}, "a", "3"),
    "much metadata": (400, {"Upload_Metadata": f"a {'A' * 20_000}"}, "a", "3"),
    "a date that is none": (400, {"Upload_Metadata": metadata(tree="music", path="a", modified="NaN")}, "a", "3"),
    "a date beyond all": (400, {"Upload_Metadata": metadata(tree="music", path="a", modified="9e99")}, "a", "3"),
    "another tree": (404, {"Upload_Metadata": metadata(tree="others", path="a")}, "a", "3"),
    "no path": (400, {}, "", "3"),
    "a path that leaves": (400, {}, "../a", "3"),
    "a path that stays": (400, {}, "a/./b", "3"),
    "a path from the root": (400, {}, "/etc/passwd", "3"),
    "a folder": (400, {}, "a/", "3"),
    "NUL": (400, {}, "a\0b", "3"),
    "a line": (400, {}, "a\nb", "3"),
    "a long name": (400, {}, "한" * 86, "3"),
    "a deep path": (400, {}, "/".join("a" * 65), "3"),
    "a long path": (400, {}, "/".join(["a" * 250] * 20), "3"),
    "a link that leads out": (403, {}, "out/spool", "3"),
}


@pytest.mark.parametrize("status, headers, path, length", CREATIONS.values(), ids=CREATIONS.keys())
async def test_an_upload_that_cannot_be_is_refused(
    store: LocalStore, tmp_path: Path, status: int, headers: dict[str, str], path: str, length: str
) -> None:
    (tmp_path / "root/out").symlink_to(tmp_path)
    about = {"Upload_Length": length, "Upload_Metadata": metadata(tree="music", path=path)}
    async with begun(store, tmp_path, limits=Limits(bytes=1000)) as client:
        answer = await client.ask("POST", "/uploads", **about | headers)
        assert answer.status == status, answer.text
        assert answer["tus-resumable"] == "1.0.0"
        assert str(tmp_path) not in answer.text and answer.text.count("\n") == 1
        assert waiting(tmp_path) == []


NAMES = [
    "back\\slash.mp3",
    "x" * 251 + ".mp3",
    "..two dots.mp3",
    "<script>.mp3",
    ".hidden.mp3",
    "e\u0301 \u00e9.mp3",
    " .mp3",
]


async def test_names_are_taken_as_they_are(store: LocalStore, tmp_path: Path) -> None:
    async with begun(store, tmp_path) as client:
        for name in NAMES:
            told = await client.uploaded(name, name.encode())
            assert (told["state"], told["entry"]["name"]) == ("done", name), told
    assert files(tmp_path) == {name: name.encode() for name in NAMES}


async def test_parts_that_do_not_fit_are_refused_and_change_nothing(store: LocalStore, tmp_path: Path) -> None:
    async with begun(store, tmp_path) as client:
        place = await client.created("a.mp3", len(SONG))
        assert (await client.patch(place, 0, SONG[:1000])).status == 204
        for status, headers in [
            (415, {"Content_Type": "application/octet-stream"}),
            (409, {"Upload_Offset": "0"}),
            (409, {"Upload_Offset": "1001"}),
            (400, {"Upload_Offset": "-1"}),
            (400, {"Upload_Offset": ""}),
            (412, {"Tus_Resumable": "0.2.2"}),
            (413, {"Content_Length": str(len(SONG))}),
            (400, {"Upload_Checksum": "md5 AAAA"}),
            (400, {"Upload_Checksum": "sha1 ?"}),
        ]:
            answer = await client.ask("PATCH", place, SONG[1000:2000], **patching(1000) | headers)
            assert answer.status == status, (headers, answer.text)
        answer = await client.patch(place, 1000, pieces(SONG[1000:] + b"more"))  # and no length is told
        assert answer.status == 413
        offset = await client.offset(place)
        assert offset < len(SONG)
        assert (await client.patch("/uploads/" + "0" * 32, 0, b"a")).status == 404
        assert (await client.patch(place, offset, SONG[offset:])).status == 204
        assert (await client.ended(place))["state"] == "done"
    assert files(tmp_path) == {"a.mp3": SONG}


async def test_bytes_that_are_not_those_of_the_checksum_do_not_count(store: LocalStore, tmp_path: Path) -> None:
    async with begun(store, tmp_path) as client:
        place = await client.created("a.mp3", len(LARGE))
        for name, digest in [("sha1", hashlib.sha1(LARGE)), ("sha256", hashlib.sha256(LARGE))]:
            sum = f"{name} {base64.b64encode(digest.digest()).decode()}"
            damaged = pieces(LARGE[:-1] + bytes([LARGE[-1] ^ 1]))
            answer = await client.patch(place, 0, damaged, Upload_Checksum=sum)
            assert (answer.status, await client.offset(place)) == (460, 0)
        assert (await client.patch(place, 0, pieces(LARGE), Upload_Checksum=sum)).status == 204
        assert (await client.ended(place))["state"] == "done"
    assert files(tmp_path) == {"a.mp3": LARGE}


# ── what breaks off ──


async def test_what_came_before_the_client_left_counts(store: LocalStore, tmp_path: Path) -> None:
    async with begun(store, tmp_path) as client:
        place = await client.created("a.mp3", len(LARGE))
        sent = Sent(
            client.site, place, pieces(LARGE[:2_500_000]), more=True, method="PATCH", headers=TUS | named(patching(0))
        )
        sent.gone.set()
        await sent.run()
        offset = await client.offset(place)
        assert offset == 2_500_000
        assert (await client.patch(place, offset, pieces(LARGE[offset:]))).status == 204
        assert (await client.ended(place))["state"] == "done"
    assert files(tmp_path) == {"a.mp3": LARGE}


async def test_who_has_gone_silent_gives_way_and_who_has_not_does_not(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "TURN", 0.3)
    async with begun(store, tmp_path) as client:
        place = await client.created("a.mp3", len(SONG))
        sent = Sent(client.site, place, [SONG[:1000]], more=True, method="PATCH", headers=TUS | named(patching(0)))
        silent = asyncio.create_task(sent.run())
        await asyncio.sleep(0.05)
        assert (await client.ask("HEAD", place)).status == 423
        assert (await client.patch(place, 0, SONG)).status == 423
        monkeypatch.setattr(uploads, "SILENT", 0.1)
        assert await client.offset(place) == 1000
        await asyncio.wait([silent], timeout=SOON)
        assert silent.done()
        assert (await client.patch(place, 1000, SONG[1000:])).status == 204
        assert (await client.ended(place))["state"] == "done"
    assert files(tmp_path) == {"a.mp3": SONG}


async def test_a_body_is_not_taken_faster_than_it_is_written(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with begun(store, tmp_path) as client:
        place = await client.created("a.mp3", len(LARGE))
        held, write = asyncio.Event(), client.added._write

        async def slow(part: Any) -> None:
            await held.wait()
            await write(part)

        monkeypatch.setattr(client.added, "_write", slow)
        sent = Sent(client.site, place, pieces(LARGE), method="PATCH", headers=TUS | named(patching(0)))
        task = asyncio.create_task(sent.run())
        await asyncio.sleep(0.2)
        assert sent.taken * 65_536 <= uploads.CHUNK + 65_536
        held.set()
        await asyncio.wait_for(task, SOON)
        assert (await client.ended(place))["state"] == "done"
    assert files(tmp_path) == {"a.mp3": LARGE}


async def test_a_disk_that_is_full_loses_nothing_that_came(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with begun(store, tmp_path) as client:
        place = await client.created("a.mp3", len(LARGE))
        pwrite, room = os.pwrite, 3_000_000

        def full(fd: int, data: memoryview, at: int) -> int:
            if at >= room:
                raise OSError(errno.ENOSPC, "full")
            return pwrite(fd, data[: room - at], at)

        with monkeypatch.context() as patched:
            patched.setattr(spool.os, "pwrite", full)
            answer = await client.patch(place, 0, pieces(LARGE))
            assert answer.status == 507 and "no space left" in answer.text
        offset = await client.offset(place)
        assert 0 < offset <= room
        assert (await client.patch(place, offset, pieces(LARGE[offset:]))).status == 204
        assert (await client.ended(place))["state"] == "done"
    assert files(tmp_path) == {"a.mp3": LARGE}


async def test_a_disk_that_is_full_at_the_beginning_leaves_nothing(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with begun(store, tmp_path) as client:

        def full(fd: int) -> None:
            raise OSError(errno.ENOSPC, "full")

        monkeypatch.setattr(spool.os, "fdatasync", full)
        assert (await client.create("a.mp3", 5)).status == 507
        assert client.added.uploads == {}
    assert [path.name for path in (tmp_path / "spool").iterdir()] == ["lock"]


# ── limits ──


async def test_limits_are_told_and_end_with_what_they_count(store: LocalStore, tmp_path: Path) -> None:
    async with begun(store, tmp_path, limits=Limits(count=2, bytes=1000, free=1)) as client:
        first = await client.created("a.mp3", 600)
        answer = await client.create("b.mp3", 401)
        assert answer.status == 507 and "600" in answer.text
        await client.created("b.mp3", 400)
        answer = await client.create("c.mp3", 0)
        assert answer.status == 429 and answer["retry-after"]
        assert (await client.ask("DELETE", first)).status == 204
        assert (await client.uploaded("c.mp3", b"new"))["state"] == "done"


async def test_the_floor_of_the_disk_is_kept(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with begun(store, tmp_path, limits=Limits(free=1000)) as client:
        monkeypatch.setattr(client.added.spool, "free", lambda: 1500)
        first = await client.created("a.mp3", 400)
        answer = await client.create("b.mp3", 101)
        assert answer.status == 507 and "room for 100" in answer.text
        monkeypatch.setattr(client.added.spool, "free", lambda: 999)  # others have filled it
        assert (await client.patch(first, 0, b"a" * 100)).status == 507
        monkeypatch.setattr(client.added.spool, "free", lambda: 1300)
        assert await client.offset(first) == 100
        assert (await client.patch(first, 100, b"a" * 300)).status == 204


async def test_what_nobody_goes_on_with_is_removed(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "SWEEP", 0.02)
    monkeypatch.setattr(uploads, "RESULTS", 1)
    async with begun(store, tmp_path, limits=Limits(age=3600.0)) as client:
        old, young = await client.created("old.mp3", 5), await client.created("young.mp3", 5)
        for name in ("1.txt", "2.txt", "3.txt"):
            assert (await client.uploaded(name, b"done"))["state"] == "done"
        client.added.uploads[old.rpartition("/")[2]].touched -= 3601
        await asyncio.to_thread(until, lambda: len(list((tmp_path / "spool").glob("?" * 32))) == 3)
        assert (await client.ask("HEAD", old)).status == 404
        assert (await client.ask("HEAD", young)).status == 200
        assert waiting(tmp_path) == ["young.mp3"]


# ── what is there already ──


async def test_nothing_is_overwritten_unless_its_version_is_named(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "root/a.mp3").write_bytes(b"old")
    (tmp_path / "root/folder").mkdir()
    async with begun(store, tmp_path) as client:
        answer = await client.create("a.mp3", 3)
        assert answer.status == 409 and "is there already" in answer.text
        answer = await client.create("a.mp3", 3, headers={"Accept": "application/json"})
        told = json.loads(answer.text)
        assert (answer.status, told["entry"]["size"]) == (409, 3)
        etag = told["etag"]
        assert json.loads((await client.create("folder", 3, headers={"Accept": "application/json"})).text)["entry"][
            "folder"
        ]
        for wrong in ("nonsense", '"nonsense"', "*"):
            assert (await client.create("a.mp3", 3, replaces=wrong)).status == 409
        assert (await client.create("b.mp3", 3, replaces=etag)).status == 409
        assert (await client.uploaded("a.mp3", b"new", replaces=etag))["state"] == "done"
        assert files(tmp_path) == {"a.mp3": b"new"}
        assert (await client.create("a.mp3", 3, replaces=etag)).status == 409  # that one is gone
        tag = (await store.find("a.mp3")).tag
        assert (await client.uploaded("a.mp3", b"newer", replaces=str(tag)))["state"] == "done"
    assert files(tmp_path) == {"a.mp3": b"newer"}


@pytest.mark.parametrize("named", [True, False], ids=["replacing", "new"])
async def test_what_changed_while_it_was_uploaded_is_not_overwritten(
    store: LocalStore, tmp_path: Path, named: bool
) -> None:
    there = tmp_path / "root/a.mp3"
    about = {}
    if named:
        there.write_bytes(b"old")
        about["replaces"] = str((await store.find("a.mp3")).tag)
    async with begun(store, tmp_path) as client:
        place = await client.created("a.mp3", 3, **about)
        there.write_bytes(b"somebody's")
        assert (await client.patch(place, 0, b"new")).status == 204
        told = await client.ended(place)
        assert (told["state"], told["status"], told["entry"]) == ("failed", 409, None)
        assert "'a.mp3' is" in told["message"]
        assert files(tmp_path) == {"a.mp3": b"somebody's"} and waiting(tmp_path) == []
        assert (await client.ask("HEAD", place)).status == 410
        assert (await client.patch(place, 3, b"")).status == 410
        there.unlink()
        if named:
            place = await client.created("b.mp3", 3)
            assert (await client.create("a.mp3", 3, **about)).status == 409


@pytest.mark.parametrize("where", ["folder", "memory"])
async def test_of_two_uploads_of_one_name_one_wins(store: LocalStore, tmp_path: Path, where: str) -> None:
    tree = store if where == "folder" else MemoryTree({})
    async with begun(tree, tmp_path) as client:
        one, two = await client.created("a.mp3", len(SONG)), await client.created("a.mp3", len(SONG))
        other = SONG[::-1]
        await asyncio.gather(client.patch(one, 0, SONG), client.patch(two, 0, other))
        ends = [await client.ended(one), await client.ended(two)]
        assert sorted(end["state"] for end in ends) == ["done", "failed"]
        won = SONG if ends[0]["state"] == "done" else other
        assert await (await tree.open("a.mp3")).read() == won
        assert "is there already" in next(end["message"] for end in ends if end["state"] == "failed")


async def test_the_same_file_twice_is_there_already(store: LocalStore, tmp_path: Path) -> None:
    async with begun(store, tmp_path) as client:
        one, two = await client.created("a.mp3", 4), await client.created("a.mp3", 4)
        for place in (one, two):
            await client.patch(place, 0, b"same")
            assert (await client.ended(place))["state"] == "done"


# ── storing ──


class Failing(MemoryTree):
    """Raises these, then does what it is asked for."""

    def __init__(self, *failures: Exception) -> None:
        super().__init__({})
        self.failures = list(failures)

    async def put(
        self, path: str, blob: Blob, *, replaces: str | None, state: str | None, keep: Callable[[str], None]
    ) -> Entry:
        if self.failures:
            raise self.failures.pop(0)
        return await super().put(path, blob, replaces=replaces, state=state, keep=keep)


async def test_a_store_that_is_full_or_away_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "FIRST", 0.05)
    tree = Failing(Full("the store is full"), Unavailable("the store is away"))
    async with begun(tree, tmp_path) as client:
        place = await client.created("a.mp3", 3)
        await client.patch(place, 0, b"new")
        told = await client.until(place, lambda told: bool(told["message"]))
        assert (told["state"], told["message"]) == ("storing", "the store is full; it is tried again")
        assert (await client.ended(place))["state"] == "done"
    assert await tree.files["a.mp3"].read() == b"new"


async def test_a_file_that_cannot_be_stored_says_why(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "root/file.txt").write_bytes(b"")
    (tmp_path / "root/out").symlink_to(tmp_path)
    async with begun(store, tmp_path) as client:
        for path, status, why in [("file.txt/a.mp3", 400, "is a file"), ("out/a.mp3", 403, "leads out")]:
            told = await client.uploaded(path, b"new")
            assert (told["state"], told["status"]) == ("failed", status)
            assert why in told["message"] and str(tmp_path) not in told["message"]
    assert waiting(tmp_path) == [] and not (tmp_path / "a.mp3").exists()


async def test_what_is_cancelled_is_gone(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    async with begun(SlowStore(tmp_path / "root"), tmp_path) as client:
        receiving = await client.created("a.mp3", 5)
        await client.patch(receiving, 0, b"abc")
        place = await client.created("b.mp3", len(LARGE))
        await client.patch(place, 0, pieces(LARGE))
        await asyncio.to_thread(until, lambda: any(files(tmp_path).values()))
        assert (await client.told(place))["state"] == "storing"
        for one in (receiving, place):
            assert (await client.ask("DELETE", one, Tus_Resumable="2")).status == 412
            assert (await client.ask("DELETE", one)).status == 204
            assert (await client.ask("HEAD", one)).status == 404
        assert (await client.ask("DELETE", place)).status == 404
        assert [path.name for path in (tmp_path / "spool").iterdir()] == ["lock"]
    assert files(tmp_path) == {}


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
async def test_what_was_added_is_listed_at_once_with_the_folders_above_it(
    store: LocalStore, tmp_path: Path, encrypted: bool
) -> None:
    kept, into = listed(store, None, name="root", fresh=600.0, patience=0.0), store
    tree: Tree = kept
    if encrypted:
        setting = Setting()
        tree, into = (crypt(below, setting.keys, setting.names()) for below in (kept, store))
    asked: list[str] = []

    async def noticed(name: str, folder: str) -> None:
        asked.append(name)
        await written(tree, folder)

    added = Uploads({"music": into}, tmp_path / "spool", noticed=noticed)
    await added.begin()
    client = Client(Site({"music": tree}, uploads=added), added)

    async def names(folder: str) -> set[str]:
        answer = await client.ask("GET", f"/files/music/{folder}?as=json")
        return {entry["name"] for entry in json.loads(answer.text)["entries"]}

    assert await names("") == set()
    await client.uploaded("one/two/a.mp3", SONG)
    assert (await names(""), await names("one/"), await names("one/two/")) == ({"one"}, {"two"}, {"a.mp3"})
    await client.uploaded("one/two/b.mp3", SONG)
    assert await names("one/two/") == {"a.mp3", "b.mp3"}
    tag = (await into.find("one/two/a.mp3")).tag
    await client.uploaded("one/two/a.mp3", b"another", replaces=str(tag))
    assert await names("one/two/") == {"a.mp3", "b.mp3"}
    assert (await client.ask("GET", "/files/music/one/two/a.mp3")).body == b"another"
    assert asked == ["music"] * 3
    await added.aclose()
    await kept.aclose()


# ── after the end of a process ──


async def test_what_waits_is_gone_on_with(store: LocalStore, tmp_path: Path) -> None:
    async with begun(store, tmp_path) as client:
        place = await client.created("a.mp3", len(SONG), modified="1000000000")
        await client.patch(place, 0, SONG[:1000])
        done = await client.created("b.mp3", 0)
        told = await client.ended(done)
    async with begun(store, tmp_path) as client:
        assert await client.told(done) == told
        assert await client.offset(place) == 1000
        assert (await client.patch(place, 1000, SONG[1000:])).status == 204
        assert (await client.ended(place))["state"] == "done"
    assert (tmp_path / "root/a.mp3").stat().st_mtime == 1_000_000_000


async def test_only_what_the_journal_vouches_for_counts(store: LocalStore, tmp_path: Path) -> None:
    async with begun(store, tmp_path) as client:
        places = [
            await client.created(f"{name}.mp3", len(SONG)) for name in ("more", "torn", "less", "gone", "not ours")
        ]
        for place in places:
            await client.patch(place, 0, SONG[:1000])
            await client.patch(place, 1000, SONG[1000:2000])
    more, torn, less, gone, foreign = (tmp_path / "spool" / place.rpartition("/")[2] for place in places)
    with (more / "bytes/more.mp3").open("ab") as file:
        file.write(b"not synced")
    journal = (torn / "journal").read_bytes()
    (torn / "journal").write_bytes(journal[:-3])
    os.truncate(less / "bytes/less.mp3", 1999)
    shutil.rmtree(gone / "bytes")
    line = (foreign / "journal").read_bytes().split(b"\n")[0][9:].replace(b'"version":1', b'"version":9')
    (foreign / "journal").write_bytes(b"%08x %s\n" % (spool.crc32(line), line))
    (tmp_path / "spool" / ("f" * 32)).mkdir()  # a kill before its journal was written
    async with begun(store, tmp_path) as client:
        answers = [await client.ask("HEAD", place) for place in places]
        assert [answer.status for answer in answers] == [200, 200, 404, 404, 404]
        assert [answer["upload-offset"] for answer in answers[:2]] == ["2000", "1000"]
        assert not less.exists() and not gone.exists() and foreign.exists()
        assert not (tmp_path / "spool" / ("f" * 32)).exists()
        for place, at in zip(places[:2], (2000, 1000), strict=True):
            assert (await client.patch(place, at, SONG[at:])).status == 204
            assert (await client.ended(place))["state"] == "done"
    assert files(tmp_path) == {"more.mp3": SONG, "torn.mp3": SONG}


@dataclass
class Remote:
    """Asks a server in another process."""

    url: str

    def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=SOON)
        try:
            connection.request(method, target, body or None, TUS | named(headers))
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, found, answer.read()
        finally:
            connection.close()

    def offset(self, place: str) -> int:
        return int(self.ask("HEAD", place)[1]["upload-offset"])

    def created(self, path: str, size: int) -> str:
        said = metadata(tree="music", path=path, modified="1000000000")
        status, headers, _ = self.ask("POST", "/uploads", Upload_Length=str(size), Upload_Metadata=said)
        assert status == 201
        return headers["location"]

    def told(self, place: str) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.ask("GET", place)[2])
        return told


def begin_patch(url: str, place: str, data: bytes, size: int) -> socket.socket:
    """Send a part of a body."""
    host = urlsplit(url)
    sock = socket.create_connection((host.hostname or "", host.port or 0), timeout=SOON)
    head = f"PATCH {place} HTTP/1.1\r\nHost: {host.netloc}\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
    head += f"Content-Type: application/offset+octet-stream\r\nContent-Length: {size}\r\n\r\n"
    sock.sendall(head.encode() + data)
    return sock


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_server_that_is_killed_goes_on_from_where_it_was(tmp_path: Path) -> None:
    with served(tmp_path) as (url, process):
        remote = Remote(url)
        place = remote.created("a.mp3", len(LARGE))
        with begin_patch(url, place, LARGE[:3_500_000], len(LARGE)):
            (file,) = (tmp_path / "spool").rglob("a.mp3")
            until(lambda: file.stat().st_size >= 3_000_000)
            process.kill()
            process.wait()
    with served(tmp_path) as (url, process):
        remote = Remote(url)
        at = remote.offset(place)
        assert 1 << 20 <= at <= 3_500_000
        status, headers, _ = remote.ask("PATCH", place, LARGE[at:5_000_000], **patching(at))
        assert (status, headers["upload-offset"]) == (204, "5000000")
        process.kill()
        process.wait()
    with served(tmp_path) as (url, process):
        remote = Remote(url)
        assert remote.offset(place) == 5_000_000
        assert remote.ask("PATCH", place, LARGE[5_000_000:], **patching(5_000_000))[0] == 204
        until(lambda: remote.told(place)["state"] == "done")
    assert files(tmp_path) == {"a.mp3": LARGE}
    assert waiting(tmp_path) == []


def test_a_server_that_is_killed_while_it_stores_goes_on_with_that(tmp_path: Path) -> None:
    with served(tmp_path, 0, "slow") as (url, process):
        remote = Remote(url)
        place = remote.created("a.mp3", len(LARGE))
        assert remote.ask("PATCH", place, LARGE, **patching(0))[0] == 204
        until(lambda: remote.told(place)["stored"] >= 2 << 20)
        assert b'"name": "a.mp3"' not in remote.ask("GET", "/files/music/?as=json")[2]
        process.kill()
        process.wait()
    assert "a.mp3" not in files(tmp_path)
    with served(tmp_path, 0, "slow") as (url, process):
        remote = Remote(url)
        until(lambda: remote.told(place)["state"] == "done")
        assert b'"name": "a.mp3"' in remote.ask("GET", "/files/music/?as=json")[2]
    begun = [int(line.split()[-1]) for line in (tmp_path / "stderr").read_text("utf-8").splitlines() if "put" in line]
    assert begun[0] == 0 and begun[1] >= 2 << 20
    assert files(tmp_path) == {"a.mp3": LARGE}
    assert (tmp_path / "root/a.mp3").stat().st_mtime == 1_000_000_000


# ── strangers ──

EVIL = "https://evil.example"
FRIEND = "https://friend.example"


async def test_pages_of_other_sites_add_nothing(store: LocalStore, tmp_path: Path) -> None:
    ours = {"Origin": "http://127.0.0.1:4040"}
    async with begun(store, tmp_path, gate=Gate(cors=(FRIEND,))) as client:
        place = await client.created("a.mp3", 3)
        for headers in [
            {"Origin": EVIL},
            {"Origin": "null"},
            {"Origin": "http://127.0.0.1:4041"},
            {"Sec_Fetch_Site": "cross-site"},
            {"Sec_Fetch_Site": "same-site"},
            {"Origin": FRIEND},  # which may read
            {"Host": "evil.example"},
            {"X_Forwarded_For": "1.2.3.4"},
        ]:
            assert (await client.create("b.mp3", 3, headers=headers)).status == 403, headers
            for method in ("PATCH", "DELETE", "HEAD", "GET"):
                answer = await client.ask(method, place, b"abc" if method == "PATCH" else b"", **patching(0), **headers)
                assert answer.status == 403, (method, headers)
        assert (await client.create("b.mp3", 3, headers=ours)).status == 201
        assert (await client.create("c.mp3", 3, headers={"Sec_Fetch_Site": "same-origin"})).status == 201
        assert await client.offset(place) == 0
        preflight = await client.ask("OPTIONS", "/uploads", Origin=FRIEND, Access_Control_Request_Method="POST")
        assert preflight.get("access-control-allow-methods") is None


async def test_pages_that_are_named_may_add(store: LocalStore, tmp_path: Path) -> None:
    async with begun(store, tmp_path, gate=Gate(cors=(FRIEND,)), cors=(FRIEND,)) as client:
        preflight = await client.ask("OPTIONS", "/uploads", Origin=FRIEND, Access_Control_Request_Method="POST")
        assert preflight["access-control-allow-origin"] == FRIEND
        assert "PATCH" in preflight["access-control-allow-methods"]
        assert "Upload-Offset" in preflight["access-control-allow-headers"]
        answer = await client.create("b.mp3", 3, headers={"Origin": FRIEND})
        assert answer.status == 201
        assert any("Location" in exposed for exposed in answer.all("access-control-expose-headers"))
        assert (await client.create("b.mp3", 3, headers={"Origin": EVIL})).status == 403


async def test_a_server_that_is_open_to_all_adds_nothing_unless_that_is_said(store: LocalStore, tmp_path: Path) -> None:
    async with begun(store, tmp_path, gate=Gate(login=False)) as client:
        assert (await client.create("a.mp3", 3)).status == 403
        assert 'id="adding"' not in (await client.ask("GET", "/files/music/")).text
    async with begun(store, tmp_path, gate=Gate(login=False), everybody=True) as client:
        assert (await client.create("a.mp3", 3, headers={"Origin": EVIL})).status == 403
        assert (await client.create("a.mp3", 3)).status == 201
        assert 'id="adding"' in (await client.ask("GET", "/files/music/")).text


async def test_only_trees_that_can_be_written_offer_it(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "root" / 'a "quoted" <b>').mkdir()
    os.mkdir(os.fsencode(tmp_path / "root") + b"/not utf-8 \xff")
    async with begun(store, tmp_path) as client:
        page = (await client.ask("GET", "/files/music/a%20%22quoted%22%20%3Cb%3E/")).text
        assert 'data-path="a &quot;quoted&quot; &lt;b&gt;"' in page and "upload.js" in page
        for folder in ("others/", "music/not%20utf-8%20%FF/"):
            page = (await client.ask("GET", f"/files/{folder}")).text
            assert "<ul" in page and "adding" not in page and "upload.js" not in page


# ── another's client ──

PACKAGE = "tus-js-client@4.3.1"
SCRIPT = """
const tus = require(process.argv[1] + "/tus-js-client");
const { readFileSync } = require("fs");
const [, , endpoint, file, stop] = process.argv;
const store = { urls: [], findAllUploads: async () => store.urls, removeUpload: async () => {},
  findUploadsByFingerprint: async () => store.urls, addUpload: async (_, upload) => (store.urls.push(upload), "key") };
const data = readFileSync(file);
const metadata = { tree: "music", path: "tus/노래.mp3", modified: "1000000000000" };
let turn = 0;
function upload() {
  const one = new tus.Upload(data, { endpoint, metadata, chunkSize: 700_000, urlStorage: store, retryDelays: [50, 100],
    onProgress: (sent) => { if (turn === 0 && sent > Number(stop)) { turn = 1; one.abort().then(again); } },
    onSuccess: () => console.log(one.url), onError: (error) => { console.log(`failed: ${error}`); process.exit(1); } });
  return one;
}
async function again() {
  const one = upload();
  one.resumeFromPreviousUpload({ ...store.urls[0], uploadUrl: store.urls[0].uploadUrl });
  one.start();
}
upload().start();
"""


@pytest.fixture(scope="session")
def modules(request: pytest.FixtureRequest) -> Path:
    """Where the package and what it needs are: installed once, and kept with pytest's cache."""
    assert request.config.cache is not None
    folder = request.config.cache.mkdir("npm-tus")
    if not (folder / "node_modules" / "tus-js-client").exists():
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), PACKAGE]
        try:
            done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=90, text=True)
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm did not install {PACKAGE} within 90 s")
        if done.returncode:
            pytest.skip(f"npm cannot install {PACKAGE}: {done.stderr.strip()[-200:]}")
    return folder / "node_modules"


@needs("node")
@needs("npm")
def test_the_npm_package_tus_js_client_uploads_and_goes_on(modules: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(LARGE)
    with served(tmp_path) as (url, _):
        command = ["node", "-e", SCRIPT, str(modules), f"{url}uploads", str(tmp_path / "mine"), "2000000"]
        done = subprocess.run(command, capture_output=True, timeout=30, text=True, env=clean())
        place = urlsplit(done.stdout.strip()).path
        assert place.startswith("/uploads/"), (done.stdout, done.stderr)
        until(lambda: Remote(url).told(place)["state"] == "done")
    assert files(tmp_path) == {"tus/노래.mp3": LARGE}
    assert (tmp_path / "root/tus/노래.mp3").stat().st_mtime == 1_000_000_000


if __name__ == "__main__":
    folder.PART = uploads.PART = 1 << 20
    asyncio.run(serving(Path(sys.argv[1]), int(sys.argv[2]), slow="slow" in sys.argv))
