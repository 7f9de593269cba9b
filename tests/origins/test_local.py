"""A folder of this machine, with the names and the files that real folders have."""

import asyncio
import errno
import gc
import os
import socket
import time
import unicodedata
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from playhead import Blob, Changed, Damaged, Denied, Failure, FileSpan, Malformed, NotFound, Unavailable
from playhead.origins import local
from playhead.origins.local import LAST, READ, LocalTree
from tests.laws import check_blob, check_tree, collected, taken

LONG = 3 * READ

HOSTILE = [
    "AC∕DC.mp3",
    "100% done.mp3",
    "%2e%2e",
    "%2F.mp3",
    "#1?.flac",
    " leading and trailing ",
    'it\'s "q".txt',
    "back\\slash",
    "..\\..\\x",
    "<script>alert(1)</script>.mp3",
    "new\nline.mp3",
    "tab\tbell\x07.mp3",
    "\x1b[31mred",
    ".hidden",
    "...",
    "-rf",
    "~",
    "a:b",
    "CON",
    "별이 빛나는 밤.mp3",
    "별.mp3",
    unicodedata.normalize("NFD", "별.mp3"),  # looks the same, and is another name
    "e\u0301.mp3",
    "\u00e9.mp3",
    "\u202egnp.exe",
    "\udcff\udcfe.mp3",
    "\udcbf\udcc0caf\udce9",
    "n" * 255,
    "별" * 85,
    "🎵" * 63,
]


def content(size: int, seed: int = 0) -> bytes:
    return bytes((at * 7 + seed) % 251 for at in range(251)) * (size // 251 + 1)


def write(root: Path, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


@contextmanager
def refusing(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> Iterator[None]:
    """The operating system fails with an errno at one call: root may read all, and disks rarely fail on demand."""

    def fail(*_: object, **__: object) -> Any:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, name, fail)
        yield


def descriptors(root: Path) -> list[str]:
    """The files below a root that this process has open."""
    gc.collect()
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue  # the one that listed them
    return [path for path in found if path.startswith(f"{root}/")]


async def check_open(root: Path, number: int) -> None:
    """So many files below a root are open; a thread that has answered may hold the last for a moment."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("this system does not show which files are open")
    until = time.monotonic() + 3
    while len(descriptors(root)) != number and time.monotonic() < until:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    assert len(descriptors(root)) == number


# ── names ──


async def test_it_is_its_files_whatever_their_names(tmp_path: Path) -> None:
    files = {name: name.encode("utf-8", "surrogateescape") * 3 for name in HOSTILE}
    files |= {f"folder {name[:200]}/{name}": b"inside" for name in HOSTILE if len(os.fsencode(name)) < 200}
    files |= {"a/b/c/d/e/f": b"deep", "empty": b"", "one": b"1"}
    write(tmp_path, files)
    await check_tree(LocalTree(tmp_path), files)


async def test_names_are_compared_as_given(tmp_path: Path) -> None:
    write(tmp_path, {"\u00e9.mp3": b"composed"})
    tree = LocalTree(tmp_path)
    assert await (await tree.open("\u00e9.mp3")).read() == b"composed"
    with pytest.raises(NotFound):
        await tree.open("e\u0301.mp3")


async def test_long_files_are_their_bytes(tmp_path: Path) -> None:
    data = content(LONG)[: LONG + 17]
    write(tmp_path, {"long": data})
    await check_blob(await LocalTree(tmp_path).open("long"), data)


@pytest.mark.parametrize("size", [2 * READ - 1, 2 * READ, 2 * READ + 1, 2 * READ + LAST, LAST, 1])
async def test_ranges_around_the_borders_of_spans(tmp_path: Path, size: int) -> None:
    data = content(size)[:size]
    write(tmp_path, {"f": data})
    blob = await LocalTree(tmp_path).open("f")
    assert await collected(blob.stream(0, size)) == data
    assert await blob.read() == data
    assert await blob.read(size - 1) == data[-1:]


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../secret",
        "a/../../secret",
        "a/..",
        "/etc/passwd",
        "//etc/passwd",
        "a//b",
        ".",
        "./a",
        "a/.",
        "a/",
        "/",
        "a\0b",
        "\0",
    ],
)
async def test_what_is_no_path_below_the_root_is_refused(tmp_path: Path, path: str) -> None:
    write(tmp_path, {"root/a/b": b"in", "secret": b"out"})
    tree = LocalTree(tmp_path / "root")
    for asking in (tree.open, tree.find, lambda path: collected(tree.flow(path))):
        with pytest.raises(Malformed):
            await asking(path)
    with pytest.raises(Malformed):
        [entry async for entry in tree.entries(path)]


async def test_a_name_that_no_file_can_have_is_not_there(tmp_path: Path) -> None:
    write(tmp_path, {"a": b""})
    for path in ("n" * 256, "x/" * 3000 + "x", "a/b", "a/b/c", "\ud800", "\udc41"):
        with pytest.raises(NotFound):
            await LocalTree(tmp_path).open(path)


async def test_a_folder_is_no_file_and_a_file_no_folder(tmp_path: Path) -> None:
    write(tmp_path, {"folder/file": b"x"})
    tree = LocalTree(tmp_path)
    for path in ("folder", ""):
        with pytest.raises(NotFound):
            await tree.open(path)
    with pytest.raises(NotFound):
        [entry async for entry in tree.entries("folder/file")]


async def test_a_root_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        LocalTree(tmp_path / "nothing")


async def test_a_root_behind_a_link_is_the_folder_it_leads_to(tmp_path: Path) -> None:
    write(tmp_path, {"real/a": b"x"})
    (tmp_path / "link").symlink_to("real")
    await check_tree(LocalTree(tmp_path / "link"), {"a": b"x"})


# ── links ──


async def test_a_link_that_stays_inside_is_followed(tmp_path: Path) -> None:
    write(tmp_path, {"real/song": b"music"})
    (tmp_path / "file").symlink_to("real/song")
    (tmp_path / "folder").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "around").symlink_to("../real/song")
    files = {"real/song": b"music", "real/around": b"music", "file": b"music"}
    await check_tree(LocalTree(tmp_path), files | {"folder/song": b"music", "folder/around": b"music"})


async def test_a_link_that_leads_out_is_refused_and_not_listed(tmp_path: Path) -> None:
    write(tmp_path, {"root/in": b"in", "out/secret": b"out", "root-beside/x": b"out"})
    root = tmp_path / "root"
    (root / "file").symlink_to("../out/secret")
    (root / "folder").symlink_to(tmp_path / "out")
    (root / "up").symlink_to("..")
    (root / "all").symlink_to("/")
    (root / "beside").symlink_to("../root-beside")  # begins with the root's own path
    tree = LocalTree(root)
    for path in ("file", "folder/secret", "up/out/secret", "all/etc/passwd", "beside/x"):
        for asking in (tree.open, tree.find):
            with pytest.raises(Denied):
                await asking(path)
    for path in ("folder", "up", "all", "beside"):
        with pytest.raises(Denied):
            [entry async for entry in tree.entries(path)]
    await check_tree(tree, {"in": b"in"})


async def test_a_link_that_leads_out_is_followed_where_the_configuration_says_so(tmp_path: Path) -> None:
    write(tmp_path, {"root/in": b"in", "out/secret": b"out"})
    (tmp_path / "root" / "file").symlink_to("../out/secret")
    (tmp_path / "root" / "folder").symlink_to("../out")
    tree = LocalTree(tmp_path / "root", follow_links=True)
    await check_tree(tree, {"in": b"in", "file": b"out", "folder/secret": b"out"})


async def test_links_that_lead_nowhere_or_in_a_circle_are_refused_and_not_listed(tmp_path: Path) -> None:
    write(tmp_path, {"file": b"x"})
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "ping").symlink_to("pong")
    (tmp_path / "pong").symlink_to("ping")
    (tmp_path / "gone").symlink_to("nothing")
    tree = LocalTree(tmp_path)
    assert [entry.name async for entry in tree.entries()] == ["file"]
    for path in ("self", "ping", "gone", "self/x"):
        for asking in (tree.open, tree.find):
            with pytest.raises((NotFound, Denied)):
                await asking(path)


async def test_a_link_that_was_turned_outside_is_refused_within_a_second(tmp_path: Path) -> None:
    write(tmp_path, {"root/a": b"in", "secret": b"out"})
    link = tmp_path / "root" / "link"
    link.symlink_to("a")
    tree = LocalTree(tmp_path / "root")
    assert await (await tree.open("link")).read() == b"in"
    link.unlink()
    link.symlink_to("../secret")
    until = time.monotonic() + 3
    with pytest.raises(Denied):
        while time.monotonic() < until:
            assert await (await tree.open("link")).read() == b"in"
            await asyncio.sleep(0.05)


# ── what is not a file ──


async def test_a_pipe_is_not_waited_for_and_not_listed(tmp_path: Path) -> None:
    write(tmp_path, {"file": b"x"})
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    tree = LocalTree(tmp_path)
    async with asyncio.timeout(5):
        assert [entry.name async for entry in tree.entries()] == ["file"]
        for path in ("pipe", "link"):
            for asking in (tree.open, tree.find):
                with pytest.raises(NotFound):
                    await asking(path)
    await check_open(tmp_path, 0)


async def test_a_socket_is_not_a_file_and_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"file": b"x"})
    monkeypatch.chdir(tmp_path)  # the path of a socket may have 107 bytes only
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        tree = LocalTree(tmp_path)
        assert [entry.name async for entry in tree.entries()] == ["file"]
        for asking in (tree.open, tree.find):
            with pytest.raises(NotFound):
                await asking("socket")


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="there are no devices")
async def test_a_device_is_not_a_file() -> None:
    with pytest.raises(NotFound):
        await LocalTree("/dev").open("null")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EACCES, Denied),
        (errno.EPERM, Denied),
        (errno.ENOENT, NotFound),
        (errno.ESTALE, Changed),
        (errno.EIO, Damaged),
        (errno.EMFILE, Unavailable),
        (errno.EAGAIN, Unavailable),
    ],
)
async def test_what_the_system_refuses_is_told_as_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Failure]
) -> None:
    write(tmp_path, {"song": b"x"})
    tree = LocalTree(tmp_path)
    with refusing(monkeypatch, "open", number), pytest.raises(kind) as told:
        await tree.open("song")
    assert str(told.value) == f"'song': {os.strerror(number).lower()}"
    with refusing(monkeypatch, "scandir", number), pytest.raises(kind):
        [entry async for entry in tree.entries()]
    with refusing(monkeypatch, "scandir", number), pytest.raises(kind):
        LocalTree(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything; the refusal is simulated above")
async def test_a_file_that_may_not_be_read_is_denied(tmp_path: Path) -> None:
    write(tmp_path, {"song": b"x"})
    (tmp_path / "song").chmod(0)
    with pytest.raises(Denied):
        await LocalTree(tmp_path).open("song")


async def test_an_error_names_the_path_in_the_tree_and_nothing_of_the_machine(tmp_path: Path) -> None:
    write(tmp_path, {"root/folder/x": b"", "secret": b""})
    (tmp_path / "root" / "out").symlink_to("../secret")
    tree = LocalTree(tmp_path / "root")
    for path in ("folder/nothing", "folder", "out", "../secret", "n" * 300, "folder/x/y"):
        with pytest.raises(Failure) as told:
            await tree.open(path)
        assert str(tmp_path) not in str(told.value)
        assert "\n" not in str(told.value)


# ── files that change ──


def bumped(path: Path) -> None:
    """Another modification time, also where the clock of the file system is coarse."""
    info = path.stat()
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns + 1_000_000_000))


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(LONG - 10)
        file.write(b"other")
    bumped(path)


def shorten(path: Path) -> None:
    os.truncate(path, READ // 2)


@pytest.mark.parametrize("change", [append, overwrite, shorten])
async def test_a_file_that_changes_while_it_is_read_never_seems_whole(tmp_path: Path, change: Any) -> None:
    path = tmp_path / "long"
    path.write_bytes(content(LONG)[:LONG])
    blob = await LocalTree(tmp_path).open("long")
    got = 0
    with pytest.raises(Changed):
        async with aclosing(blob.stream(0, LONG)) as stream:
            async for piece in stream:
                got += len(piece)
                if got == len(piece):
                    change(path)
    assert 0 < got < LONG


@pytest.mark.parametrize("change", [append, overwrite, shorten])
async def test_a_file_that_changed_before_it_is_read_gives_nothing(tmp_path: Path, change: Any) -> None:
    path = tmp_path / "long"
    path.write_bytes(content(LONG)[:LONG])
    blob = await LocalTree(tmp_path).open("long")
    change(path)
    await asyncio.sleep(2 * local.INSTANT)
    with pytest.raises(Changed):
        await blob.read(0, 10)
    with pytest.raises(Changed):
        blob.here(0, 10)


@pytest.mark.parametrize("change", [append, overwrite, shorten])
async def test_a_changed_file_is_served_anew_with_a_new_tag(tmp_path: Path, change: Any) -> None:
    path = tmp_path / "long"
    path.write_bytes(content(LONG)[:LONG])
    tree = LocalTree(tmp_path)
    before = await tree.open("long")
    change(path)
    after = await tree.open("long")
    assert after.tag != before.tag
    assert await after.read() == path.read_bytes()


async def test_a_replaced_file_is_served_anew_within_a_second(tmp_path: Path) -> None:
    write(tmp_path, {"song": b"old", "next": b"new"})
    os.link(tmp_path / "song", tmp_path / "kept")
    tree = LocalTree(tmp_path)
    before = await tree.open("song")
    (tmp_path / "next").replace(tmp_path / "song")
    until = time.monotonic() + 2
    while (after := await tree.open("song")).tag == before.tag and time.monotonic() < until:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    assert after.tag != before.tag
    assert await after.read() == b"new"


async def test_a_deleted_file_is_gone_within_a_second_and_read_to_its_end(tmp_path: Path) -> None:
    write(tmp_path, {"song": b"music"})
    tree = LocalTree(tmp_path)
    await tree.open("song")
    (tmp_path / "song").unlink()
    until = time.monotonic() + 2
    with pytest.raises(NotFound):
        while time.monotonic() < until:
            await tree.open("song")
            await asyncio.sleep(0.05)


async def test_a_file_that_comes_back_is_found(tmp_path: Path) -> None:
    tree = LocalTree(tmp_path)
    with pytest.raises(NotFound):
        await tree.open("song")
    write(tmp_path, {"song": b"music"})
    assert await (await tree.open("song")).read() == b"music"


async def test_a_span_of_a_file_that_shrank_is_an_error_and_no_padding(tmp_path: Path) -> None:
    write(tmp_path, {"song": b"0123456789"})
    ready = (await LocalTree(tmp_path).open("song")).here(0, 10)
    assert ready is not None
    os.truncate(tmp_path / "song", 5)
    with pytest.raises(Failure):
        taken(ready[0])


# ── identity ──


async def test_the_listing_and_the_open_file_have_the_same_tag(tmp_path: Path) -> None:
    write(tmp_path, {"a/song": b"x"})
    tree = LocalTree(tmp_path)
    [entry] = [entry async for entry in tree.entries("a")]
    found, blob = await tree.find("a/song"), await tree.open("a/song")
    assert entry.tag == found.tag == blob.tag
    assert entry.modified == found.modified == blob.modified
    assert entry.mark == found.mark
    assert blob.tag is not None
    assert blob.tag.startswith("l:")


async def test_equal_files_of_different_names_have_different_tags(tmp_path: Path) -> None:
    write(tmp_path, {"a": b"x", "b": b"x"})
    for name in "ab":
        os.utime(tmp_path / name, (1_000_000, 1_000_000))
    tree = LocalTree(tmp_path)
    assert (await tree.open("a")).tag != (await tree.open("b")).tag


@pytest.mark.parametrize("seconds", [0, -1, -(10**9), 10**10, 10**12, -(10**12)])
async def test_any_time_of_modification_can_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    write(tmp_path, {"song": b"music"})
    real = os.stat_result

    def aged(info: os.stat_result) -> os.stat_result:
        values = [*list(info)[:8], seconds, *list(info)[9:]]
        times = {"st_mtime": float(seconds), "st_mtime_ns": seconds * 10**9, "st_atime_ns": 0, "st_ctime_ns": 0}
        return real(values, times)

    fstat, stat = os.fstat, os.stat
    monkeypatch.setattr(os, "fstat", lambda fd: aged(fstat(fd)))
    monkeypatch.setattr(os, "stat", lambda path, **how: aged(stat(path, **how)))
    tree = LocalTree(tmp_path)
    assert (await tree.find("song")).size == 5
    assert await (await tree.open("song")).read() == b"music"


# ── open files ──


async def test_open_files_are_kept_up_to_a_number_and_closed_with_the_tree(tmp_path: Path) -> None:
    write(tmp_path, {f"{number}": b"x" for number in range(30)})
    tree = LocalTree(tmp_path, open_files=5)
    for number in [*range(30), *range(30)]:
        await tree.open(f"{number}")
        assert len(tree.cache) <= 5
    await check_open(tmp_path, 5)
    await tree.aclose()
    await check_open(tmp_path, 0)


async def test_a_blob_keeps_its_file_open_also_when_the_tree_is_closed(tmp_path: Path) -> None:
    write(tmp_path, {f"{number}": b"%d" % number for number in range(20)})
    tree = LocalTree(tmp_path, open_files=2)
    blobs: list[Blob] = [await tree.open(f"{number}") for number in range(20)]
    await tree.aclose()
    await check_open(tmp_path, 20)
    assert [await blob.read() for blob in blobs] == [b"%d" % number for number in range(20)]
    ready = blobs[3].here(0, 1)
    del blobs
    await check_open(tmp_path, 1)
    assert ready is not None
    assert taken(ready[0]) == b"3"
    del ready
    await check_open(tmp_path, 0)


async def test_many_readers_of_one_file_share_a_descriptor(tmp_path: Path) -> None:
    write(tmp_path, {"song": b"music"})
    tree = LocalTree(tmp_path)
    blobs = [await tree.open("song") for _ in range(20)]
    await check_open(tmp_path, 1)
    assert [await blob.read() for blob in blobs] == [b"music"] * 20


async def test_what_was_refused_leaves_nothing_open(tmp_path: Path) -> None:
    write(tmp_path, {"folder/x": b""})
    tree = LocalTree(tmp_path)
    for _ in range(20):
        with pytest.raises(NotFound):
            await tree.open("folder")
    await check_open(tmp_path, 0)


# ── listings ──


async def test_a_file_that_vanishes_while_it_is_listed_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, dict.fromkeys("abc", b"x"))
    scandir = os.scandir

    @contextmanager
    def vanishing(path: str) -> Iterator[Any]:
        with scandir(path) as scan:
            items = sorted(scan, key=lambda item: item.name)
        (tmp_path / "b").unlink(missing_ok=True)
        yield items

    tree = LocalTree(tmp_path)
    monkeypatch.setattr(os, "scandir", vanishing)
    assert [entry.name async for entry in tree.entries()] == ["a", "c"]


async def test_a_folder_of_many_files_is_listed_whole(tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / f"{number}").touch()
    assert {entry.name async for entry in LocalTree(tmp_path).entries()} == {f"{number}" for number in range(3000)}


# ── how the bytes are given ──


async def test_a_file_of_this_machine_is_given_as_spans(tmp_path: Path) -> None:
    write(tmp_path, {"long": content(LONG)[:LONG], "short": b"x"})
    tree = LocalTree(tmp_path)
    async with aclosing((await tree.open("long")).stream(5, LONG)) as stream:
        pieces = [piece async for piece in stream]
    assert all(isinstance(piece, FileSpan) for piece in pieces)
    assert len(pieces) == 2  # the fewer the better for the kernel
    assert (await tree.open("long")).here(0, LONG) is None  # a long one is looked at again before its end
    ready = (await tree.open("short")).here(0, 1)
    assert ready is not None
    assert isinstance(ready[0], FileSpan)


@pytest.fixture
def networked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_networked", lambda device: True)


async def test_a_network_file_system_is_read_in_threads(tmp_path: Path, networked: None) -> None:
    files = {"long": content(LONG)[: LONG + 3], "short": b"x", "empty": b""}
    write(tmp_path, files)
    tree = LocalTree(tmp_path)
    await check_tree(tree, files)
    blob = await tree.open("long")
    assert blob.here(0, 10) is None
    async with aclosing(blob.stream(0, blob.size)) as stream:
        assert all(isinstance(piece, bytes) and len(piece) <= READ for piece in [piece async for piece in stream])


async def test_a_network_file_system_keeps_no_file_open(tmp_path: Path, networked: None) -> None:
    write(tmp_path, {"song": b"x"})
    await LocalTree(tmp_path).open("song")
    await check_open(tmp_path, 0)


@pytest.mark.parametrize("change", [append, overwrite, shorten])
async def test_a_file_of_a_network_that_changes_while_it_is_read_never_seems_whole(
    tmp_path: Path, networked: None, change: Any
) -> None:
    path = tmp_path / "long"
    path.write_bytes(content(LONG)[:LONG])
    blob = await LocalTree(tmp_path).open("long")
    got = 0
    with pytest.raises(Changed):
        async with aclosing(blob.stream(0, LONG)) as stream:
            async for piece in stream:
                got += len(piece)
                if got == len(piece):
                    change(path)
    assert 0 < got < LONG


async def test_a_disk_that_fails_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, networked: None) -> None:
    write(tmp_path, {"song": b"x"})
    blob = await LocalTree(tmp_path).open("song")
    with refusing(monkeypatch, "pread", errno.EIO), pytest.raises(Damaged) as told:
        await blob.read()
    assert str(tmp_path) not in str(told.value)


def test_the_kind_of_a_file_system_is_told_by_its_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        "25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "90 25 0:45 / /mnt/cloud rw,nosuid shared:50 - fuse.rclone cloud: rw,user_id=0\n"
        "91 25 0:46 / /mnt/nas rw - nfs4 nas:/music rw\n"
        "92 25 0:47 / /mnt/with\\040space rw master:7 - cifs //nas/music rw\n"
    )
    monkeypatch.setattr(Path, "read_text", lambda *_: lines)
    told = [local._networked.__wrapped__(os.makedev(*device)) for device in [(8, 1), (0, 45), (0, 46), (0, 47), (9, 9)]]
    assert told == [False, True, True, True, False]


def test_without_proc_a_file_system_is_taken_for_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> str:
        raise FileNotFoundError(errno.ENOENT, "no /proc")

    monkeypatch.setattr(Path, "read_text", none)
    assert local._networked.__wrapped__(os.makedev(0, 45)) is False


async def test_the_loop_is_free_while_a_network_is_slow(
    tmp_path: Path, networked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"song": b"music"})
    blob = await LocalTree(tmp_path).open("song")
    pread = os.pread

    def slow(*arguments: Any) -> bytes:
        time.sleep(0.3)
        return pread(*arguments)

    monkeypatch.setattr(os, "pread", slow)
    reading = asyncio.ensure_future(blob.read())
    began = time.monotonic()
    await asyncio.sleep(0.01)
    assert time.monotonic() - began < 0.2
    assert await reading == b"music"
