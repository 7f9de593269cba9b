"""`playhead doctor`: what it finds of each kind of tree, when all is well and when it is not.

Before real servers where there are some, else before fakes that err in one way each.
"""

import asyncio
import json
import os
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from aiohttp import web

from playhead import config, diagnoses, doctor, secrets
from playhead.blob import literal
from playhead.errors import Malformed
from playhead.origins.drive import granted
from playhead.transforms.age import encrypted
from playhead.transforms.ageheader import for_passphrase
from tests.fakes.dav import Dav, answer
from tests.fakes.gdrive import FakeDrive
from tests.peers import davs, servers
from tests.peers.crypts import put
from tests.test_importing import create, crypt, obscured, rclone
from tests.test_remotes import SECRET, bucket_server

SONG = random.Random(1).randbytes(200_000)
FILES = {"small.txt": b"small", "album/song.flac": SONG}
OLD = 1_600_000_000
RIGHT = "correct horse"

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@pytest.fixture(autouse=True)
def own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is hidden in one test is not scrubbed in others."""
    monkeypatch.setattr(secrets, "_known", set())


@pytest.fixture
def music(tmp_path: Path) -> Path:
    put(FILES, tmp_path / "music")
    for path in (tmp_path / "music").rglob("*.*"):
        os.utime(path, (OLD, OLD))
    return tmp_path / "music"


class Doctor:
    """`playhead doctor` of a configuration, in this process."""

    def __init__(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.place, self.capsys = place, capsys
        place.parent.mkdir(parents=True, exist_ok=True)

    async def __call__(self, text: str, *names: str, code: int = 0) -> str:
        """What it says of the trees of a configuration."""
        self.place.write_text(text, "utf-8")
        returned = await doctor.examine(config.load(self.place), names)
        out, err = self.capsys.readouterr()
        assert (returned, err) == (code, ""), out
        assert all(re.fullmatch(r" *(ok|note|wrong)  \S.*", line) for line in out.splitlines())
        return "\n".join(line.strip() for line in out.splitlines() if "  tree " in line)

    def secret(self, name: str, value: str) -> None:
        path = self.place.parent / "secrets" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(value)
        path.chmod(0o600)


@pytest.fixture
def examine(own_home: Path, capsys: pytest.CaptureFixture[str]) -> Doctor:
    return Doctor(own_home / "config" / "playhead" / "playhead.toml", capsys)


def table(name: str, use: str, **keys: object) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in {"use": use, **keys}.items()]
    return "\n".join([f"[tree.{name}]", *lines, ""])


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


# ── all trees ──


async def test_only_the_trees_that_are_named_are_looked_at(examine: Doctor, music: Path) -> None:
    text = table("good", "local", root=str(music)) + table("gone", "local", root=str(music / "none"))
    assert await examine(text, "good", "good") == "ok  tree good: reachable and readable"
    assert "wrong  tree gone: " in await examine(text, code=9)
    with pytest.raises(Malformed, match=r"'other' is not a tree of the configuration \(known: gone, good\)"):
        await doctor.examine(config.load(examine.place), ["good", "other"])


async def test_as_json_it_says_the_same(examine: Doctor, music: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = table("good", "local", root=str(music)) + table("gone", "web", url="http://me:hunter22@127.0.0.1:1/")
    examine.place.write_text(text)
    assert await doctor.examine(config.load(examine.place), as_json=True) == 9
    out = capsys.readouterr().out
    found = [(one["tree"], one["mark"]) for one in json.loads(out)["findings"]]
    assert ("good", "ok") in found and ("gone", "wrong") in found and (None, "ok") in found
    assert "hunter22" not in out


async def test_trees_are_looked_at_together_and_none_for_longer_than_the_deadline(
    examine: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, met = 0, asyncio.Event()

    async def both(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal waiting
        waiting += 1
        if waiting == 2:
            met.set()
        await met.wait()
        return await asyncio.sleep(3600, web.Response())

    monkeypatch.setattr(diagnoses, "DEADLINE", 1.0)
    async with serving(both) as url:
        out = await examine(table("one", "web", url=url) + table("two", "web", url=url), code=9)
    assert met.is_set()
    for name in ("one", "two"):
        assert f"wrong  tree {name}: no answer within 1 s; is it reachable from this machine?" in out


async def test_a_folder_that_is_to_be_written_has_to_be_writable(
    examine: Doctor, music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("playhead.diagnoses.os.access", lambda *_: False)
    assert await examine(table("a", "local", root=str(music)), "a") == "ok  tree a: reachable and readable"
    assert "wrong  tree a: it says `write = true`, but" in await examine(
        table("a", "local", root=str(music), write=True), "a", code=9
    )


# ── the web ──


async def test_a_good_server_gives_parts_and_says_which_version(examine: Doctor, music: Path, tmp_path: Path) -> None:
    with servers.nginx(music, tmp_path) as url:
        out = await examine(table("a", "web", url=url, bytes_per_day=10**6), "a")
    assert re.fullmatch(
        r"ok  tree a: reachable and readable\n"
        r"ok  tree a: parts of files are given as asked for; the first byte came after \d+ ms\n"
        r"ok  tree a: [\d.]+ k?B of 1.0 MB \(`bytes_per_day`\) were read today; they begin anew at midnight UTC",
        out,
    )


async def test_a_server_without_ranges_is_noted(examine: Doctor, music: Path, tmp_path: Path) -> None:
    with servers.python(music, tmp_path) as url:
        out = await examine(table("a", "web", url=url), "a")
    assert re.search(r"note  tree a: [\w/.]+: the server sends the whole file where a part is asked for", out)


def page(respond: Handler) -> Handler:
    """A server of one file, and a page that names it."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/":
            return web.Response(text='<a href="song.flac">song.flac</a>', content_type="text/html")
        return await respond(request)

    return handler


def part(request: web.BaseRequest, data: bytes, **headers: str) -> web.Response:
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers["Range"])
    assert found
    start, stop = int(found[1]), min(int(found[2] or len(SONG)) + 1, len(SONG))
    told = {"Content-Range": f"bytes {start}-{stop - 1}/{len(SONG)}", **headers}
    return web.Response(status=206, body=data[start:stop], headers=told)


async def test_a_server_that_gives_no_validator_is_noted(examine: Doctor) -> None:
    async def bare(request: web.BaseRequest) -> web.StreamResponse:
        return part(request, SONG)

    async with serving(page(bare)) as url:
        out = await examine(table("a", "web", url=url), "a")
    assert "note  tree a: nothing tells the versions of song.flac apart (no ETag, no date), so it cannot be kept" in out


async def test_a_file_that_was_just_changed_is_not_taken_for_a_fault(examine: Doctor) -> None:
    async def young(request: web.BaseRequest) -> web.StreamResponse:
        return part(request, SONG, **{"Last-Modified": format_datetime(datetime.now(UTC), usegmt=True)})

    async with serving(page(young)) as url:
        out = await examine(table("a", "web", url=url), "a")
    assert "note  tree a: song.flac was changed just now" in out


async def test_a_server_that_sends_other_bytes_than_it_says_is_wrong(examine: Doctor) -> None:
    async def shifted(request: web.BaseRequest) -> web.StreamResponse:
        asked = request.headers["Range"]
        right = asked.endswith(f"-{len(SONG) // 2 + 1}")
        return part(request, SONG if right else bytes(len(SONG)), ETag='"1"')

    async with serving(page(shifted)) as url:
        out = await examine(table("a", "web", url=url), "a", code=9)
    assert "wrong  tree a: song.flac: two requests for the same bytes were answered with different ones" in out


async def test_where_there_is_no_file_none_is_read(examine: Doctor) -> None:
    async def nothing(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="<html></html>", content_type="text/html")

    async with serving(nothing) as url:
        assert "note  tree a: no file was found in its first folders" in await examine(table("a", "web", url=url), "a")


@pytest.mark.parametrize(("spent", "mark"), [(850_000, "note"), (1_200_000, "wrong")])
async def test_the_bytes_of_the_day_are_told(
    examine: Doctor, own_home: Path, music: Path, tmp_path: Path, spent: int, mark: str
) -> None:
    with servers.nginx(music, tmp_path) as url:
        days = own_home / "cache" / "playhead" / "days.json"
        days.parent.mkdir(parents=True)
        days.write_text(json.dumps({url.rstrip("/"): [time.strftime("%Y-%m-%d", time.gmtime()), spent]}))
        out = await examine(table("a", "web", url=url, bytes_per_day=10**6), "a", code=9 if mark == "wrong" else 0)
    assert re.search(rf"{mark}  tree a: \S+ [kM]B of 1.0 MB \(`bytes_per_day`\) were read today", out)


# ── Google Drive ──


@asynccontextmanager
async def drive(scope: str = "drive.readonly") -> AsyncIterator[FakeDrive]:
    async with FakeDrive() as fake:
        fake.file("Music", "song.flac", SONG)
        granted.write("a", granted.Login("x", "R", (scope,), "ann@example.org"))
        yield fake


def gdrive(fake: FakeDrive, **keys: object) -> str:
    return table("a", "gdrive", client_id="x", client_secret="y", endpoint=fake.url, **keys)


async def test_a_drive_tells_of_its_login_and_its_room(examine: Doctor) -> None:
    async with drive() as fake:
        out = await examine(gdrive(fake), "a")
        assert fake.signin.refreshes >= 1
    assert re.fullmatch(
        r"ok  tree a: logged in as ann@example.org since [\d-]+, may see and download .*; a token was given just now\n"
        r"ok  tree a: 200.0 kB of 16.1 GB are used in this Drive\n"
        r"ok  tree a: reachable and readable\n"
        r"ok  tree a: parts of files are given as asked for; the first byte came after \d+ ms",
        out,
    )


async def test_a_login_that_was_withdrawn_says_what_to_do(examine: Doctor) -> None:
    async with drive() as fake:
        fake.signin.revoke()
        out = await examine(gdrive(fake), "a", code=9)
    assert re.fullmatch(r"wrong  tree a: .*no longer accepts the login.*'Testing'.*`playhead login a`.*", out)


async def test_a_drive_without_a_login_says_how_to_make_one(examine: Doctor) -> None:
    async with FakeDrive() as fake:
        out = await examine(gdrive(fake), "a", code=9)
    assert out == "wrong  tree a: tree a has no login yet; run `playhead login a`"


async def test_a_drive_that_is_to_be_written_needs_a_login_that_may(examine: Doctor) -> None:
    async with drive() as fake:
        out = await examine(gdrive(fake, write=True), "a", code=9)
    assert "wrong  tree a: it says `write = true`, but its login only reads; run `playhead login a`" in out
    async with drive("drive") as fake:
        assert "ok  tree a: its login allows writing" in await examine(gdrive(fake, write=True), "a")


async def test_an_api_that_is_not_enabled_is_told(examine: Doctor) -> None:
    async with drive() as fake:
        fake.fail("about", "accessNotConfigured", times=None)
        out = await examine(gdrive(fake), "a", code=9)
    assert "the Google Drive API is not enabled in the project behind `client_id`; enable it" in out


# ── WebDAV ──


@pytest.fixture
def dav_secret(examine: Doctor) -> str:
    examine.secret("dav", davs.PASSWORD)
    return "secret:dav"


async def test_a_webdav_server_tells_its_classes_and_whether_it_lets_write(
    examine: Doctor, music: Path, tmp_path: Path, dav_secret: str
) -> None:
    with davs.rclone(music, tmp_path) as url:
        out = await examine(table("a", "webdav", url=url, user=davs.USER, password=dav_secret, write=True), "a")
        assert re.search(r"^ok  tree a: it speaks WebDAV \(classes 1, 2\)$", out, re.M)
        assert "ok  tree a: it says that it lets files be written" in out
        assert "ok  tree a: parts of files are given as asked for" in out
        out = await examine(table("a", "webdav", url=url, user=davs.USER, password="hunter22"), "a", code=9)
        assert "wrong  tree a: " in out and "other credentials" in out
        assert "hunter22" not in out


async def test_a_webdav_server_that_lets_nothing_be_written_is_wrong_where_it_is_to_be(examine: Doctor) -> None:
    async with Dav({"song.flac": SONG}) as dav:
        dav.faults["OPTIONS"] = [answer(200, DAV="1", Allow="OPTIONS, GET, HEAD, PROPFIND")] * 2
        assert "write" not in await examine(table("a", "webdav", url=dav.url), "a")
        out = await examine(table("a", "webdav", url=dav.url, write=True), "a", code=9)
    assert "wrong  tree a: it says `write = true`, but the server only allows GET, HEAD, OPTIONS, PROPFIND" in out


async def test_a_server_that_does_not_say_that_it_speaks_webdav_is_noted(examine: Doctor) -> None:
    async with Dav({"song.flac": SONG}) as dav:
        dav.faults["OPTIONS"] = [answer(405)]
        out = await examine(table("a", "webdav", url=dav.url, write=True), "a")
    assert "note  tree a: it does not say that it speaks WebDAV" in out
    assert "note  tree a: it does not say whether it lets files be written" in out


# ── buckets ──


async def test_a_bucket_is_looked_at_as_others_are(examine: Doctor, music: Path, tmp_path: Path) -> None:
    examine.secret("key", SECRET)
    keys = {"access_key": "a-key-id", "secret_key": "secret:key"}
    with bucket_server(music.parent, tmp_path) as url:
        out = await examine(table("a", "s3", bucket="music", endpoint=url, **keys), "a")
        assert "ok  tree a: parts of files are given as asked for" in out
        out = await examine(table("a", "s3", bucket="nothing", endpoint=url, **keys), "a", code=9)
        assert "there is no such bucket" in out
    assert SECRET not in out


LISTING = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"


@pytest.mark.parametrize(("off", "which"), [(1200, "20 minutes behind"), (-1200, "20 minutes ahead")])
async def test_a_bucket_in_another_region_and_another_time_is_told(examine: Doctor, off: int, which: str) -> None:
    async def s3(request: web.BaseRequest) -> web.StreamResponse:
        now = format_datetime(datetime.now(UTC) + timedelta(seconds=off), usegmt=True)
        if request.method == "HEAD":
            return web.Response(status=301, headers={"Date": now, "x-amz-bucket-region": "eu-west-3"})
        return web.Response(status=403, text="<Error><Code>RequestTimeTooSkewed</Code></Error>")

    keys = {"access_key": "a", "secret_key": "b", "region": "us-east-1"}
    async with serving(s3) as url:
        out = await examine(table("a", "s3", bucket="music", endpoint=url, **keys), "a", code=9)
    assert 'wrong  tree a: the bucket is in the region eu-west-3; say `region = "eu-west-3"`' in out
    assert f"wrong  tree a: this machine's clock is {which} of the service's; set it" in out
    assert "wrong  tree a: s3:music: this machine's clock differs too much from the service's" in out


# ── rclone ──


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(Path(servers.program("rclone", "rclone")).parent), prepend=os.pathsep)
    monkeypatch.setenv("RCLONE_CONFIG", str(tmp_path / "rclone.conf"))
    return tmp_path / "rclone.conf"


async def test_a_remote_of_rclone_tells_which_rclone_it_is(examine: Doctor, conf: Path, music: Path) -> None:
    create(conf, "box", "chunker", remote=str(music))
    out = await examine(table("a", "rclone", remote="box:"), "a")
    assert re.search(r"^ok  tree a: read through rclone v1\.\d+\.\d\S*$", out, re.M)
    assert "ok  tree a: parts of files are given as asked for" in out


async def test_a_remote_that_rclone_does_not_know_is_wrong(examine: Doctor, conf: Path, music: Path) -> None:
    create(conf, "box", "chunker", remote=str(music))
    out = await examine(table("a", "rclone", remote="fox:"), "a", code=9)
    assert re.search(r"wrong  tree a: .*no remote of this name \(known: box\)", out)


async def test_without_rclone_it_says_how_to_get_it(
    examine: Doctor, conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    out = await examine(table("a", "rclone", remote="box:"), "a", code=9)
    assert re.fullmatch(r"wrong  tree a: rclone is not installed.*install it.*", out)


# ── encrypted trees ──


@pytest.fixture
def sealed(conf: Path, music: Path, tmp_path: Path) -> Iterator[Path]:
    crypt(conf, "safe", tmp_path / "sealed", RIGHT, password2="")
    rclone(conf, "copy", str(music), "safe:")
    yield tmp_path / "sealed"


def safe(folder: Path, password: str, **keys: object) -> str:
    return table("a", "rclone-crypt", over=str(folder), password=f"obscured:{obscured(password)}", **keys)


async def test_a_password_that_fits_is_told_and_what_does_not_belong_is_noted(examine: Doctor, sealed: Path) -> None:
    out = await examine(safe(sealed, RIGHT), "a")
    assert out.splitlines()[1:] == ["ok  tree a: its password or key opens what is there"]
    (sealed / "notes.txt").write_bytes(b"mine")
    assert "note  tree a: 1 of 3 names there are not encrypted as these, as 'notes.txt': not shown" in await examine(
        safe(sealed, RIGHT), "a"
    )


async def test_a_password_that_does_not_fit_is_wrong(examine: Doctor, sealed: Path) -> None:
    out = await examine(safe(sealed, "another password"), "a", code=9)
    assert "wrong  tree a: none of the 2 names there was made with this password" in out
    assert "opens what is there" not in out


async def test_where_names_are_in_clear_the_contents_tell(
    examine: Doctor, conf: Path, music: Path, tmp_path: Path
) -> None:
    crypt(conf, "open", tmp_path / "open", RIGHT, password2="", filename_encryption="off")
    rclone(conf, "copy", str(music), "open:")
    assert "opens what is there" in await examine(safe(tmp_path / "open", RIGHT, filename_encryption="off"), "a")
    out = await examine(safe(tmp_path / "open", "another password", filename_encryption="off"), "a", code=9)
    assert re.search(r"wrong  tree a: \S+ cannot be opened; is it the right password or key\?", out)


async def test_an_empty_folder_tells_nothing_of_its_password(examine: Doctor, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    assert "so its password was not tried" in await examine(safe(tmp_path / "nothing", "any"), "a")


async def test_the_key_of_age_files_is_tried_and_others_are_noted(examine: Doctor, tmp_path: Path) -> None:
    made = await encrypted(literal(SONG, None), [for_passphrase("open sesame", 10)])
    (tmp_path / "age").mkdir()
    (tmp_path / "age" / "song.flac.age").write_bytes(await made.read())
    (tmp_path / "age" / "readme.txt").write_bytes(b"mine")
    out = await examine(table("a", "age", over=str(tmp_path / "age"), passphrase="open sesame"), "a")
    assert "note  tree a: 1 of 2 names there are not encrypted as these, as 'readme.txt'" in out
    assert "ok  tree a: its password or key opens what is there" in out
    out = await examine(table("a", "age", over=str(tmp_path / "age"), passphrase="hunter22"), "a", code=9)
    assert "wrong  tree a: song.flac cannot be opened; is it the right password or key?" in out
    assert "hunter22" not in out
