"""Remotes of the real rclone, in a configuration of the test's own."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.web_request import BaseRequest

from playhead import (
    Ask,
    Busy,
    Changed,
    Damaged,
    Denied,
    Failure,
    Malformed,
    NotFound,
    Unavailable,
    Unknown,
    Unsized,
    walk,
)
from playhead.limits import Limits
from playhead.origins import rcd
from playhead.origins.rcloned import RcloneTree
from tests.fakes.origin import settled
from tests.laws import check_tree, collected
from tests.peers import crypts, servers

DATA = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(300_000)
FILES = {
    "노래.mp3": DATA,
    "two  words.mp3": b"two",
    "a #?%+&;=@:!$'(),[]~.mp3": b"signs",
    "%41%2F.mp3": b"looks encoded",
    "empty": b"",
    "앨범/Disc #1/깊은/01.flac": OTHER,
    "앨범/it's 100%.flac": b"deep",
    ".hidden/x": b"dots",
}
WHEN = datetime(2026, 1, 3, 10, 20, 30, tzinfo=UTC)
DEADLINE = 30.0


@pytest.fixture(scope="module")
def program() -> str:
    return servers.program("rclone", "rclone")


def fill(root: Path, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
        os.utime(root / path, (WHEN.timestamp(),) * 2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    fill(tmp_path / "files", FILES)
    return tmp_path / "files"


@pytest.fixture
def config(tmp_path: Path, root: Path, program: str) -> str:
    (tmp_path / "rclone.conf").write_text(
        f"[here]\ntype = local\n[al]\ntype = alias\nremote = {root}\n[mem]\ntype = memory\n"
        f"[sealed]\ntype = crypt\nremote = al:.sealed\npassword = {crypts.obscured('secret')}\n",
        "utf-8",
    )
    return str(tmp_path / "rclone.conf")


@asynccontextmanager
async def opened(remote: str, config: str, program: str, limits: Limits | None = None) -> AsyncIterator[RcloneTree]:
    async with asyncio.timeout(DEADLINE):
        tree = RcloneTree(remote, limits, config=config, program=program)
        try:
            yield tree
        finally:
            await tree.aclose()
    assert not tree.rcd.alive and not (tree.rcd.folder and tree.rcd.folder.exists())
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def copied(tree: RcloneTree, root: Path, to: str) -> None:
    """A folder into a remote."""
    for path in FILES:
        ends = {"srcFs": f"here:{root}", "srcRemote": path, "dstFs": tree.fs, "dstRemote": f"{to}/{path}"}
        await tree._call("operations/copyfile", "", **ends, _config={"IgnoreTimes": True})


# ── what is there ──


async def test_a_remote_is_its_files(root: Path, config: str, program: str) -> None:
    (root / "nothing in it").mkdir()
    async with opened("al:", config, program) as tree:
        assert [entry async for entry in tree.entries("nothing in it")] == []
        await check_tree(tree, FILES)
        for missing in ("no such folder", "노래.mp3", "앨범/none"):
            with pytest.raises(NotFound):
                [entry async for entry in tree.entries(missing)]
        for path, entry in [pair async for pair in walk(tree)]:
            if not entry.folder:
                assert (entry.size, entry.modified) == (len(FILES[path]), WHEN)
                assert entry.tag is not None
                assert entry == await tree.find(path)
                assert entry.tag == (await tree.open(path)).tag


async def test_a_remote_may_begin_at_a_folder(root: Path, config: str, program: str) -> None:
    expected = {path[3:]: data for path, data in FILES.items() if path.startswith("앨범/")}
    for remote in ("al:앨범", "al:앨범/", f"here:{root}/앨범"):
        async with opened(remote, config, program) as tree:
            await check_tree(tree, expected)


async def test_a_sealed_remote_is_its_files(root: Path, config: str, program: str) -> None:
    async with opened("sealed:", config, program) as tree:
        await copied(tree, root, "in/side")
        await check_tree(tree, {f"in/side/{path}": data for path, data in FILES.items()})
        entry = await tree.find("in/side/노래.mp3")
        assert (entry.size, entry.modified) == (len(DATA), WHEN)
    assert not (root / ".sealed" / "in").exists()


async def test_a_remote_that_tells_digests_is_known_by_them(root: Path, config: str, program: str) -> None:
    async with opened("mem:music", config, program) as tree:
        await copied(tree, root, "music")
        await check_tree(tree, FILES)
        entries = {entry.name: entry async for entry in tree.entries()}
        first = await tree.open("노래.mp3")
        assert entries["노래.mp3"].tag == first.tag == (await tree.find("노래.mp3")).tag is not None
        fill(root, {"노래.mp3": OTHER})  # as long, and as old
        await copied(tree, root, "music")
        assert (await tree.open("노래.mp3")).tag != first.tag
        assert await (await tree.open("노래.mp3", Ask(10, 20))).read(10, 20) == OTHER[10:20]


async def test_a_file_that_is_young_has_no_tag(root: Path, config: str, program: str) -> None:
    async with opened("al:", config, program) as tree:
        os.utime(root / "노래.mp3")
        assert (await tree.find("노래.mp3")).tag is None
        assert (await tree.open("노래.mp3")).tag is None
        assert {entry.name: entry.tag is None async for entry in tree.entries()}["노래.mp3"]


async def test_a_file_that_changes_is_never_mixed(root: Path, config: str, program: str) -> None:
    async with opened("al:", config, program) as tree:
        blob = await tree.open("노래.mp3")
        assert await blob.read(0, 10) == DATA[:10]
        fill(root, {"노래.mp3": OTHER})
        os.utime(root / "노래.mp3", (WHEN.timestamp() + 1,) * 2)
        with pytest.raises(Changed):
            await blob.read(100_000, 200_000)
        assert (await tree.find("노래.mp3")).tag != blob.tag
        fill(root, {"노래.mp3": OTHER[:-1]})
        with pytest.raises(Changed):
            await blob.read(0, 10)
        (root / "노래.mp3").unlink()
        with pytest.raises(NotFound):
            await blob.read(0, 10)


async def test_who_asks_beyond_the_end_still_learns_the_size(root: Path, config: str, program: str) -> None:
    async with opened("al:", config, program) as tree:
        blob = await tree.open("two  words.mp3", Ask(10, 20))
        assert (blob.size, await blob.read()) == (3, b"two")


async def test_what_has_no_size_flows(tmp_path: Path, program: str) -> None:
    async def handle(request: BaseRequest) -> web.StreamResponse:
        if request.path == "/":
            return web.Response(body=b"<a href='live.mp3'>live.mp3</a>", content_type="text/html")
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        if request.method == "GET":
            await response.write(DATA)
        await response.write_eof()
        return response

    server = await asyncio.get_running_loop().create_server(handling := web.Server(handle), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    (tmp_path / "conf").write_text(f"[radio]\ntype = http\nurl = http://127.0.0.1:{port}\n")
    async with opened("radio:", str(tmp_path / "conf"), program) as tree:
        assert [(entry.name, entry.size, entry.tag) async for entry in tree.entries()] == [("live.mp3", None, None)]
        with pytest.raises(Unsized):
            await tree.open("live.mp3")
        assert await collected(tree.flow("live.mp3")) == DATA
    server.close()
    await handling.shutdown(0.01)


async def test_what_has_no_date_has_no_tag(tmp_path: Path, program: str) -> None:
    async def handle(request: BaseRequest) -> web.StreamResponse:
        if request.path == "/":
            return web.Response(body=b"<a href='a.mp3'>a.mp3</a>", content_type="text/html")
        return web.Response(body=DATA)

    server = await asyncio.get_running_loop().create_server(handling := web.Server(handle), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    (tmp_path / "conf").write_text(f"[radio]\ntype = http\nurl = http://127.0.0.1:{port}\n")
    async with opened("radio:", str(tmp_path / "conf"), program) as tree:
        assert [(entry.size, entry.modified, entry.tag) async for entry in tree.entries()] == [(len(DATA), None, None)]
        assert (await tree.open("a.mp3", Ask(0, 5))).tag is None
        for odd in ("0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "never", ""):
            item = {"Name": "a", "Size": 3, "ModTime": odd, "IsDir": False}
            assert tree._listed("", [item], await tree._known())[0].tag is None
    server.close()
    await handling.shutdown(0.01)


async def test_few_connections_are_enough_for_many_who_open(root: Path, config: str, program: str) -> None:
    async with opened("mem:music", config, program, Limits(connections=1)) as tree:
        await copied(tree, root, "music")

        async def read(path: str) -> bytes:
            return await (await tree.open(path)).read()

        assert await asyncio.gather(*(read(path) for path in FILES)) == list(FILES.values())


async def test_a_listing_holds_only_what_can_be_names(config: str, program: str) -> None:
    async with opened("al:", config, program) as tree:
        kind = await tree._known()
        bad = [{"Name": name} for name in ("", ".", "..", "a/b", "a\0", "\ud800", 7, None)]
        item = {"Name": "a", "Size": 3, "ModTime": "2020-01-01T00:00:00.123456789+09:00", "IsDir": False}
        odd = [{"Name": "b", "Size": "x", "ModTime": "never", "IsDir": 1}, {"Name": "c", "Size": -1, "Hashes": [1]}]
        found = tree._listed("", [*bad, item, *odd, "x", None], kind)
        assert [(entry.name, entry.size) for entry in found] == [("a", 3), ("b", None), ("c", None)]
        assert found[0].modified == datetime(2019, 12, 31, 15, tzinfo=UTC) and found[0].tag is not None
        twins = tree._listed("", [item, {**item, "Size": 4}], kind)
        assert [(entry.name, entry.size, entry.tag) for entry in twins] == [("a", None, None)]


# ── what goes wrong ──


async def test_an_unknown_remote_is_told_with_those_that_are_known(config: str, program: str) -> None:
    async with opened("nowhere:x", config, program) as tree:
        for asking in (tree.find("a"), tree.open("a"), anext(tree.entries())):
            with pytest.raises(Malformed, match="al, here, mem, sealed"):
                await asking


@pytest.mark.parametrize(
    "remote", ["music", "", ":", ":local:/", "http://x/", "a,b=c:", "a]b:", "al:a/../b", "al:a//b"]
)
def test_what_is_no_remote_is_refused(remote: str, config: str) -> None:
    with pytest.raises(Malformed):
        RcloneTree(remote, config=config)
    assert not rcd._shared


async def test_where_there_is_no_rclone_the_remedy_is_told(config: str) -> None:
    async with opened("al:", config, "no-such-rclone") as tree:
        with pytest.raises(Malformed, match="install"):
            await tree.find("a")


@pytest.fixture
def encrypted(config: str, program: str) -> str:
    command = [program, "--config", config, "config", "encryption", "set", "--password-command", "echo geheim"]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return config


async def test_an_encrypted_configuration_is_never_asked_for(
    encrypted: str, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for password in (None, "wrong"):
        if password:
            monkeypatch.setenv("RCLONE_CONFIG_PASS", password)
        async with opened("al:", encrypted, program) as tree:
            with pytest.raises(Malformed, match="RCLONE_CONFIG_PASS"):
                await tree.find("노래.mp3")
    monkeypatch.setenv("RCLONE_CONFIG_PASS", "geheim")
    async with opened("al:", encrypted, program) as tree:
        assert (await tree.find("노래.mp3")).size == len(DATA)


SAID: list[tuple[str, type[Failure], str]] = [
    ("error in ListJSON: directory not found", NotFound, "no 'a/b'"),
    ("failed to find object: object not found", NotFound, "no 'a/b'"),
    ('couldn\'t list: googleapi: Error 404: "directory not found" is what they say', Unavailable, "404"),
    ("oauth2: cannot fetch token: 400 Bad Request Response: {invalid_grant}", Unknown, "rclone config reconnect al:"),
    ("empty token found - please run rclone config reconnect al:", Unknown, "rclone config reconnect al:"),
    ("couldn't fetch token: Post: dial tcp: lookup oauth2.x: no such host", Unavailable, "reach"),
    ("googleapi: Error 403: User Rate Limit Exceeded, userRateLimitExceeded", Busy, "too many"),
    ("HTTP error 429 (Too Many Requests)", Busy, "too many"),
    ("googleapi: Error 403: The user does not have access, forbidden", Denied, "refuses"),
    ("ssh: handshake failed: ssh: unable to authenticate, attempted methods [none]", Denied, "credentials"),
    ("open /x: permission denied", Denied, "refuses"),
    ("the sky is falling\non us", Unavailable, "falling on us"),
    ("https://x/?access_token=geheimnis failed", Unavailable, r"\[secret\]"),
    ("x" * 5000, Unavailable, "x"),
]


@pytest.mark.parametrize(("said", "kind", "says"), SAID)
async def test_what_rclone_says_is_told_apart(said: str, kind: type[Failure], says: str, config: str) -> None:
    tree = RcloneTree("al:", config=config)
    failure = await tree._failure(json.dumps({"error": said, "status": 500}).encode(), "a/b")
    assert type(failure) is kind
    with pytest.raises(kind, match=says):
        raise failure
    assert "\n" not in str(failure) and len(str(failure)) < 300 and "geheimnis" not in str(failure)
    assert type(await tree._failure(b"\xff{", "")) is Unavailable
    await tree.aclose()


# ── the process ──


def running(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


async def test_all_remotes_share_one_process_that_ends_with_the_last(root: Path, config: str, program: str) -> None:
    async with opened("al:", config, program) as one:
        two = RcloneTree("mem:", config=config, program=program)
        await asyncio.gather(one.find("empty"), *([anext(two.entries(), None)]))
        assert one.rcd is two.rcd and one.rcd.process is not None
        process = one.rcd.process
        await two.aclose()
        assert running(process.pid)
        assert (await one.find("empty")).size == 0
        with pytest.raises(Unavailable, match="closed"):
            await two.find("empty")
        folder = one.rcd.folder
        assert folder is not None and folder.stat().st_mode & 0o777 == 0o700
    assert not running(process.pid) and not folder.exists() and not rcd._shared


async def test_a_process_that_dies_is_started_again(root: Path, config: str, program: str) -> None:
    fill(root, {"large": DATA * 100})
    async with opened("al:", config, program) as tree:
        blob = await tree.open("large")
        stream = blob.stream(0, blob.size)
        got = len(await anext(stream))
        assert tree.rcd.process is not None
        os.kill(tree.rcd.process.pid, signal.SIGKILL)
        with pytest.raises(Unavailable):
            async for piece in stream:
                got += len(piece)
        assert got < blob.size
        assert await (await tree.open("노래.mp3")).read() == DATA
        assert await blob.read(7, 77) == DATA[7:77]


PARENT = """
import asyncio, sys
from playhead.origins.rcloned import RcloneTree
async def main():
    tree = RcloneTree("al:", config=sys.argv[1], program=sys.argv[2])
    await tree.find("empty")
    print(tree.rcd.process.pid, tree.rcd.folder, flush=True)
    if len(sys.argv) > 3:
        return
    await asyncio.sleep(60)
asyncio.run(main())
"""


@contextmanager
def parent(*arguments: str) -> Iterator[tuple["subprocess.Popen[str]", int, Path]]:
    process = subprocess.Popen([sys.executable, "-c", PARENT, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        pid, folder = process.stdout.readline().split()
        yield process, int(pid), Path(folder)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a child with its parent")
async def test_nothing_is_left_when_we_are_killed(
    root: Path, config: str, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with parent(config, program) as (process, pid, folder):
        assert running(pid)
        process.kill()
        process.wait()
        await settled(lambda: not running(pid) and not rcd._connects(folder / "rc.sock"))
    monkeypatch.setattr(rcd, "STALE", 0.0)  # the next one takes away what the first could not
    async with opened("al:", config, program) as tree:
        await tree.find("empty")
        assert tree.rcd.folder is not None and tree.rcd.folder.exists() and not folder.exists()
        rcd._sweep(tree.rcd.folder.parent)
        assert (await tree.find("empty")).size == 0 and tree.rcd.folder.exists()


async def test_nothing_is_left_of_a_tree_that_nobody_closed(root: Path, config: str, program: str) -> None:
    with parent(config, program, "end") as (process, pid, folder):
        assert process.wait(10) == 0
        await settled(lambda: not running(pid) and not folder.exists())


async def test_without_unix_sockets_a_password_lets_us_in_alone(
    root: Path, config: str, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rcd, "_folder", lambda: None)
    async with opened("al:", config, program) as tree:
        await check_tree(tree, FILES)
        assert tree.rcd.process is not None and len(tree.rcd.password) > 30
        assert tree.rcd.password not in Path(f"/proc/{tree.rcd.process.pid}/cmdline").read_text()
        tree.client.headers.clear()
        with pytest.raises((Denied, Unavailable, Damaged)):
            await tree.find("empty")


async def test_a_process_that_does_not_start_says_why(tmp_path: Path, config: str) -> None:
    stub = tmp_path / "rclone-stub"
    stub.write_text("#!/bin/sh\necho 'CRITICAL: no luck today' >&2\nexit 1\n")
    stub.chmod(0o755)
    async with opened("al:", config, str(stub)) as tree:
        with pytest.raises(Unavailable, match="no luck today"):
            await tree.find("a")
