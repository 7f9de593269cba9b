"""Many files as one, by address: ?pack=, POST /bundles and /bundles/ID, called without a server."""

import asyncio
import email
import email.policy
import io
import json
import os
import random
import re
import tarfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from playhead import Ask, Blob, Denied, Entry, Tree
from playhead.app import bundles as bundles_module
from playhead.app import site as site_module
from playhead.app.bundles import Limits
from playhead.app.packing import Packing
from playhead.app.site import Site
from playhead.assemble import Trees
from playhead.config import Config
from playhead.doors.asgi import Broken
from playhead.origins.local import LocalTree
from playhead.origins.memory import MemoryTree
from playhead.transforms import learned as learned_module
from playhead.tree import Entries
from tests.app.asgi_client import Answer, Exchange, ask
from tests.app.test_site import refused
from tests.cuts import cut

FILES = {
    "album/1 first.ogg": random.Random(1).randbytes(400_001),
    "album/2 second.ogg": random.Random(2).randbytes(300_000),
    "album/10 tenth.ogg": b"",
    "album/booklet/cover.png": random.Random(3).randbytes(5_000),
    "album/가사.txt": "나의 살던 고향은\n".encode(),
    "song.mp3": random.Random(4).randbytes(20_000),
}
ALBUM = {path: data for path, data in FILES.items() if path.startswith("album/")}
SONG = {"source": "music:song.mp3"}
KINDS = ("tar", "zip")
OLD = 3 * 86_400.0  # seconds: longer than a bundle stays unused


class Shelf(MemoryTree):
    """Files in memory that change; it counts what it is asked. `told`: what its listings tell of a file."""

    def __init__(self, files: Mapping[str, bytes], told: str = "size tag") -> None:
        super().__init__(files)
        self.told, self.listings, self.opened = told, 0, list[str]()

    def write(self, path: str, data: bytes | None) -> None:
        self.files.pop(path, None)
        if data is not None:
            self.files |= MemoryTree({path: data}).files

    def _seen(self, entry: Entry) -> Entry:
        known = {"size": entry.size if "size" in self.told else None, "tag": entry.tag if "tag" in self.told else None}
        return replace(entry, **known)  # type: ignore[arg-type]

    async def entries(self, folder: str = "") -> Entries:
        self.listings += 1
        await asyncio.sleep(0.01)
        async with aclosing(super().entries(folder)) as entries:
            async for entry in entries:
                yield entry

    async def find(self, path: str) -> Entry:
        return self._seen(await super().find(path))

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        self.opened.append(path)
        blob = await super().open(path, ask)
        return cut("bytes", await blob.read(), blob.tag)


def sited(tree: Tree, folder: Path | None = None, urls: tuple[str, ...] = (), **limits: int) -> Site:
    """A site over one tree called music; `folder` is where its bundles outlive it."""
    packing = Packing({"music": tree}, "", urls)
    packing.bundles.folder, packing.bundles.limits = folder, Limits(**limits)
    return Site({"music": tree}, packing=packing)


def on_disk(folder: Path, files: Mapping[str, bytes]) -> LocalTree:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return LocalTree(folder)


def unpacked(data: bytes, kind: str) -> dict[str, bytes | None]:
    """What is in an archive; None is a folder."""
    if kind == "tar":
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            return {member.name: file.read() if (file := tar.extractfile(member)) else None for member in tar}
    with zipfile.ZipFile(io.BytesIO(data)) as zip:
        assert zip.testzip() is None
        assert len(set(zip.namelist())) == len(zip.namelist())
        return {info.filename.rstrip("/"): None if info.is_dir() else zip.read(info) for info in zip.infolist()}


def files_of(data: bytes, kind: str) -> dict[str, bytes]:
    return {name: content for name, content in unpacked(data, kind).items() if content is not None}


class Post(Exchange):
    """A request with a body."""

    def __init__(self, app: Any, target: str, body: bytes, **how: Any) -> None:
        super().__init__(app, target, method="POST", **how)
        self.parts = [body[at : at + 1000] for at in range(0, len(body), 1000)] or [b""]
        self.started, self.leaves = True, False

    async def receive(self) -> dict[str, Any]:
        if self.parts:
            part = self.parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(self.parts) or self.leaves}
        if self.leaves:
            self.gone.set()
        return await super().receive()


async def post(site: Site, body: object, target: str = "/bundles", **headers: str) -> Answer:
    """The answer to a list: as JSON, or where it is a text, in mod_zip's form."""
    data = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    kind = "text/plain" if isinstance(body, str) else "application/json"
    sent = {"Content-Type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
    exchange = Post(site, target, data, headers=sent)
    async with asyncio.timeout(10):
        await exchange.run()
    return exchange.answer()


async def made(site: Site, *members: Mapping[str, object], **more: object) -> str:
    """The address of the bundle of a list."""
    answer = await post(site, {"members": members, **more})
    assert answer.status == 201, answer.text
    return str(json.loads(answer.body)["url"])


async def failed(site: Site, target: str, **how: Any) -> bytes:
    """What came of an answer that is broken off after its head; it may not look whole."""
    exchange = Exchange(site, target, **how)
    async with asyncio.timeout(10):
        with pytest.raises(Broken):
            await exchange.run()
    assert exchange.messages[0]["status"] in (200, 206)
    assert not exchange.whole
    return exchange.body


async def address(site: Site, target: str) -> str:
    """Where what ?pack= gives now stays."""
    return (await ask(site, target, method="HEAD"))["content-location"]


@pytest.fixture
def shelf() -> Shelf:
    return Shelf(FILES)


@pytest.fixture
def site(shelf: Shelf) -> Site:
    return sited(shelf)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What was learned is written soon."""
    monkeypatch.setattr(learned_module, "SOON", 0.05)
    yield


def checked(text: bytes) -> bytes:
    """A line of what was learned."""
    return f"{crc32(text):08x} ".encode() + text + b"\n"


async def written(folder: Path) -> None:
    """Wait for what was learned to be on disk."""
    async with asyncio.timeout(5):
        while not list(folder.glob("*.learned")):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)


# ── ?pack= ──


@pytest.mark.parametrize("kind", KINDS)
async def test_a_folder_is_one_archive_that_unpacks_as_a_folder(site: Site, kind: str) -> None:
    answer = await ask(site, f"/files/music/album/?pack={kind}")
    assert answer.status == 200
    assert unpacked(answer.body, kind) == {"album": None, "album/booklet": None, **ALBUM}


@pytest.mark.parametrize("kind", KINDS)
async def test_files_come_in_the_order_in_which_people_count(site: Site, kind: str) -> None:
    names = list(unpacked((await ask(site, f"/files/music/album/?pack={kind}")).body, kind))
    assert names == [
        *("album", "album/1 first.ogg", "album/2 second.ogg", "album/10 tenth.ogg", "album/가사.txt"),
        *("album/booklet", "album/booklet/cover.png"),
    ]


@pytest.mark.parametrize("kind", KINDS)
async def test_the_root_of_a_tree_is_its_files(site: Site, kind: str) -> None:
    answer = await ask(site, f"/files/music/?pack={kind}")
    assert files_of(answer.body, kind) == FILES
    assert f'filename="music.{kind}"' in answer["content-disposition"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_nested_folder_and_a_single_file_are_archives_too(site: Site, kind: str) -> None:
    nested = await ask(site, f"/files/music/album/booklet/?pack={kind}")
    assert files_of(nested.body, kind) == {"booklet/cover.png": FILES["album/booklet/cover.png"]}
    single = await ask(site, f"/files/music/song.mp3?pack={kind}")
    assert unpacked(single.body, kind) == {"song.mp3": FILES["song.mp3"]}


@pytest.mark.parametrize("kind", KINDS)
async def test_only_the_paths_that_are_named_are_in_it(site: Site, kind: str) -> None:
    answer = await ask(site, f"/files/music/album/?pack={kind}&path=2+second.ogg&path=booklet&path=1%20first.ogg")
    names = {
        "2 second.ogg": FILES["album/2 second.ogg"],
        "booklet": None,
        "booklet/cover.png": FILES["album/booklet/cover.png"],
        "1 first.ogg": FILES["album/1 first.ogg"],
    }
    found = unpacked(answer.body, kind)
    assert found == names
    assert list(found) == list(names)
    deep = await ask(site, f"/files/music/?pack={kind}&path=album/booklet/cover.png&path=song.mp3")
    assert list(unpacked(deep.body, kind)) == ["cover.png", "song.mp3"]


async def test_equal_names_stay_apart() -> None:
    site = sited(MemoryTree({"a/song.ogg": b"one", "b/song.ogg": b"two", "c/song.ogg/x": b"three"}))
    answer = await ask(site, "/files/music/?pack=zip&path=a/song.ogg&path=b/song.ogg&path=c/song.ogg")
    found = files_of(answer.body, "zip")
    assert sorted(found.values()) == [b"one", b"three", b"two"]
    assert found["song.ogg"] == b"one"
    assert found["song (2).ogg"] == b"two"


@pytest.mark.parametrize("kind", KINDS)
async def test_names_of_any_letters_are_kept_and_bytes_that_are_none_are_replaced(tmp_path: Path, kind: str) -> None:
    site = sited(
        on_disk(tmp_path, {"노래 모음/별.ogg": b"star", "노래 모음/caf\udce9": b"coffee", "노래 모음/é": b"e"})
    )
    answer = await ask(site, f"/files/music/%EB%85%B8%EB%9E%98%20%EB%AA%A8%EC%9D%8C/?pack={kind}")
    assert files_of(answer.body, kind) == {
        "노래 모음/별.ogg": b"star",
        "노래 모음/caf\ufffd": b"coffee",
        "노래 모음/é": b"e",
    }
    chosen = await ask(site, f"/files/music/%EB%85%B8%EB%9E%98%20%EB%AA%A8%EC%9D%8C/?pack={kind}&path=caf%E9")
    assert files_of(chosen.body, kind) == {"caf\ufffd": b"coffee"}
    assert f"filename*=UTF-8''caf%EF%BF%BD.{kind}" in chosen["content-disposition"]
    again = await ask(site, chosen["content-location"])
    assert (again.status, again.body) == (200, chosen.body)


@pytest.mark.parametrize("kind", KINDS)
async def test_empty_folders_are_in_it(tmp_path: Path, kind: str) -> None:
    (tmp_path / "album" / "empty" / "emptier").mkdir(parents=True)
    site = sited(LocalTree(tmp_path))
    answer = await ask(site, f"/files/music/album/?pack={kind}")
    assert unpacked(answer.body, kind) == {"album": None, "album/empty": None, "album/empty/emptier": None}
    answer = await ask(site, f"/files/music/album/empty/emptier/?pack={kind}")
    assert unpacked(answer.body, kind) == {"emptier": None}


async def test_an_empty_root_is_no_archive(tmp_path: Path) -> None:
    refused(await ask(sited(LocalTree(tmp_path)), "/files/music/?pack=zip"), 404)


async def test_dates_and_modes_are_those_of_the_files(tmp_path: Path) -> None:
    site = sited(on_disk(tmp_path, {"song": b"x"}))
    os.utime(tmp_path / "song", (1_700_000_000, 1_700_000_000))
    with tarfile.open(fileobj=io.BytesIO((await ask(site, "/files/music/?pack=tar")).body)) as tar:
        assert [(member.mtime, member.mode, member.uid) for member in tar] == [(1_700_000_000, 0o644, 0)]


@pytest.mark.parametrize("kind", ["rar", "", "ZIP", "tar.gz", "zip,tar"])
async def test_another_kind_is_refused(site: Site, kind: str) -> None:
    answer = await ask(site, f"/files/music/album/?pack={kind}")
    refused(answer, 400)
    assert "tar and zip" in answer.text


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/files/nothing/?pack=zip", 404),
        ("/files/music/nothing/?pack=zip", 404),
        ("/files/music/nothing?pack=zip", 404),
        ("/files/music/album/?pack=zip&path=nothing", 404),
        ("/files/music/album/?pack=zip&path=1%20first.ogg&path=nothing", 404),
        ("/files/music/album/?pack=zip&path=1%20first.ogg/x", 404),
        ("/files/music/album/?pack=zip&path=..", 400),
        ("/files/music/album/?pack=zip&path=../song.mp3", 400),
        ("/files/music/album/?pack=zip&path=%2e%2e/song.mp3", 400),
        ("/files/music/album/?pack=zip&path=booklet/../../song.mp3", 400),
        ("/files/music/album/?pack=zip&path=booklet//cover.png", 400),
        ("/files/music/album/?pack=zip&path=./booklet", 400),
        ("/files/music/album/?pack=zip&path=a%00b", 400),
        ("/files/music/../?pack=zip", 400),
        ("/files/music/%2e%2e/x/?pack=zip", 400),
        ("/files/music/album%2Fbooklet/?pack=zip", 400),
    ],
)
async def test_what_is_not_there_or_leads_out_is_refused(site: Site, target: str, status: int) -> None:
    refused(await ask(site, target), status)


async def test_a_link_that_leads_out_is_left_out_and_may_not_be_named(tmp_path: Path) -> None:
    site = sited(on_disk(tmp_path / "root", {"song": b"x"}))
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "root" / "out").symlink_to("../secret")
    assert files_of((await ask(site, "/files/music/?pack=zip")).body, "zip") == {"song": b"x"}
    refused(await ask(site, "/files/music/?pack=zip&path=out"), 403)


async def test_a_folder_without_its_slash_leads_to_the_same(site: Site) -> None:
    moved = await ask(site, "/files/music?pack=zip")
    assert (moved.status, moved["location"]) == (308, "/files/music/?pack=zip")
    plain, slash = [await ask(site, f"/files/music/album{slash}?pack=zip") for slash in ("", "/")]
    assert plain.body == slash.body


async def test_below_a_prefix_addresses_begin_with_it(shelf: Shelf) -> None:
    site = Site({"music": shelf}, prefix="/p", packing=Packing({"music": shelf}, "/p"))
    where = await address(site, "/p/files/music/album/?pack=tar")
    assert where.startswith("/p/bundles/")
    assert files_of((await ask(site, where)).body, "tar") == ALBUM
    list_ = {"kind": "tar", "members": [{"source": "/p/files/music/song.mp3"}]}
    answer = json.loads((await post(site, list_, "/p/bundles")).body)
    assert answer["url"].startswith("/p/bundles/")


async def test_other_methods_are_refused(site: Site) -> None:
    where = await address(site, "/files/music/album/?pack=zip")
    for target in ("/files/music/album/?pack=zip", where):
        for method in ("POST", "PUT", "DELETE"):
            refused(await ask(site, target, method=method), 405)


# ── the answer ──


@pytest.mark.parametrize("target", ["/files/music/album/?pack=tar", "/files/music/album/?pack=zip", "a bundle"])
async def test_head_has_the_headers_of_get(site: Site, target: str) -> None:
    target = await address(site, "/files/music/album/?pack=zip") if target == "a bundle" else target
    got = await ask(site, target)
    for headers in ({}, {"If-None-Match": got["etag"]}, {"If-Match": '"other"'}):
        head, again = await ask(site, target, method="HEAD", headers=headers), await ask(site, target, headers=headers)
        assert (head.status, head.headers) == (again.status, again.headers)
    assert int(got["content-length"]) == len(got.body)


@pytest.mark.parametrize("told", ["size", "tag", ""], ids=["sizes only", "tags only", "names only"])
async def test_head_has_the_headers_of_get_also_where_a_listing_tells_less(told: str) -> None:
    site = sited(Shelf(FILES, told))
    head = await ask(site, "/files/music/album/?pack=zip", method="HEAD")
    got = await ask(site, "/files/music/album/?pack=zip")
    assert (head.status, head.headers) == (got.status, got.headers)


@pytest.mark.parametrize(("kind", "type_"), [("tar", "application/x-tar"), ("zip", "application/zip")])
async def test_an_archive_is_a_download_with_its_type_and_name(site: Site, kind: str, type_: str) -> None:
    answer = await ask(site, f"/files/music/album/?pack={kind}")
    assert answer["content-type"] == type_
    assert answer["content-disposition"] == f"attachment; filename=\"album.{kind}\"; filename*=UTF-8''album.{kind}"
    assert answer["accept-ranges"] == "bytes"
    assert answer["cache-control"] == "private, no-cache"
    assert answer["x-content-type-options"] == "nosniff"
    assert re.fullmatch(rf"/bundles/[0-9a-f]{{32}}/album\.{kind}", answer["content-location"])
    assert re.fullmatch(r'"[\w-]{22}"', answer["etag"])


async def test_a_name_of_any_letters_is_in_the_header_in_both_forms(tmp_path: Path) -> None:
    site = sited(on_disk(tmp_path, {'노래 "1"; x/a': b"a"}))
    answer = await ask(site, "/files/music/%EB%85%B8%EB%9E%98%20%221%22%3B%20x/?pack=zip")
    plain, true = answer["content-disposition"].split("; filename*=")
    assert plain == 'attachment; filename="__ _1_; x.zip"'
    assert true == "UTF-8''%EB%85%B8%EB%9E%98%20%221%22%3B%20x.zip"
    assert (await ask(site, answer["content-location"])).body == answer.body


async def test_a_bundle_is_called_as_its_address_says(site: Site) -> None:
    where = (await address(site, "/files/music/album/?pack=zip")).rpartition("/")[0]
    for given, name in [("for%20you.zip", "for you.zip"), ("x", "x.zip"), ("", "bundle.zip"), ("x.tar", "x.tar.zip")]:
        answer = await ask(site, f"{where}/{given}")
        assert answer.status == 200
        assert f'filename="{name}"' in answer["content-disposition"]
    assert (await ask(site, where)).status == 200


async def test_two_requests_give_the_same_bytes_and_the_same_tag(shelf: Shelf, site: Site) -> None:
    for kind in KINDS:
        first, second = [await ask(site, f"/files/music/album/?pack={kind}") for _ in range(2)]
        anew = await ask(sited(shelf), f"/files/music/album/?pack={kind}")
        assert first.body == second.body == anew.body
        assert first.headers == second.headers == anew.headers
        same = await ask(site, f"/files/music/album/?pack={kind}", headers={"If-None-Match": first["etag"]})
        assert (same.status, same.body, same["etag"]) == (304, b"", first["etag"])


@pytest.mark.parametrize("kind", KINDS)
async def test_any_range_is_that_part_of_the_whole(site: Site, kind: str) -> None:
    where = await address(site, f"/files/music/album/?pack={kind}")
    whole = (await ask(site, where)).body
    chance = random.Random(kind)
    borders = [0, 1, 511, 512, len(whole) - 22, len(whole) - 1, len(whole), *chance.sample(range(len(whole)), 40)]
    for _ in range(80):
        start, stop = sorted(chance.sample(borders, 2))
        answer = await ask(sited_again(site), where, headers={"Range": f"bytes={start}-{stop - 1}"})
        assert (answer.status, answer.body) == (206, whole[start:stop])
        assert answer["content-range"] == f"bytes {start}-{stop - 1}/{len(whole)}"
    tail = await ask(site, where, headers={"Range": "bytes=-1000"})
    assert (tail.status, tail.body) == (206, whole[-1000:])


def sited_again(site: Site) -> Site:
    """The same site, which has learned nothing yet."""
    for bundle in site.packing.bundles.lately.values():
        bundle.archive.learned.crcs.clear()
    return site


@pytest.mark.parametrize("kind", KINDS)
async def test_several_ranges_come_as_parts(site: Site, kind: str) -> None:
    where = await address(site, f"/files/music/album/?pack={kind}")
    whole = (await ask(site, where)).body
    spans = [(0, 10), (70_000, 71_000), (len(whole) - 50, len(whole))]
    asked = "bytes=" + ",".join(f"{start}-{stop - 1}" for start, stop in spans)
    answer = await ask(sited_again(site), where, headers={"Range": asked})
    assert answer.status == 206
    head = f"Content-Type: {answer['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + answer.body, policy=email.policy.HTTP)
    boundary = (message.get_boundary() or "").encode()
    parts = [part.partition(b"\r\n\r\n")[2] for part in answer.body.split(b"\r\n--" + boundary)[1:-1]]
    assert parts == [whole[start:stop] for start, stop in spans]
    shown = [part["Content-Range"] for part in message.iter_parts()]
    assert shown == [f"bytes {start}-{stop - 1}/{len(whole)}" for start, stop in spans]


@pytest.mark.parametrize("target", ["/files/music/album/?pack=zip", "a bundle"])
async def test_a_range_beyond_the_end_is_refused_with_the_size(site: Site, target: str) -> None:
    target = await address(site, "/files/music/album/?pack=zip") if target == "a bundle" else target
    size = (await ask(site, target, method="HEAD"))["content-length"]
    for wanted in (f"bytes={size}-", "bytes=-0", "bytes=9-1", "bytes=x"):
        answer = await ask(site, target, headers={"Range": wanted})
        refused(answer, 416)
        assert answer["content-range"] == f"bytes */{size}"


async def test_if_range_and_if_match_are_obeyed(site: Site) -> None:
    for target in ("/files/music/album/?pack=zip", await address(site, "/files/music/album/?pack=zip")):
        whole = await ask(site, target)
        for headers, status in [
            ({"If-Range": whole["etag"]}, 206),
            ({"If-Range": '"other"'}, 200),
            ({"If-Range": f"W/{whole['etag']}"}, 200),
            ({"If-Match": whole["etag"]}, 206),
            ({"If-Match": "*"}, 206),
            ({"If-Match": f'"other", {whole["etag"]}'}, 206),
            ({"If-Match": '"other"'}, 412),
        ]:
            answer = await ask(site, target, headers={"Range": "bytes=5-9", **headers})
            assert answer.status == status, headers
            if status == 206:
                assert answer.body == whole.body[5:10]
            if status == 200:
                assert answer.body == whole.body


async def test_the_tag_of_another_archive_is_no_tag_of_this(site: Site) -> None:
    other = await ask(site, "/files/music/album/booklet/?pack=zip")
    for name in ("If-Range", "If-Match"):
        headers = {"Range": "bytes=0-9", name: other["etag"]}
        answer = await ask(site, "/files/music/album/?pack=tar", headers=headers)
        assert answer.status == (200 if name == "If-Range" else 412)
        assert answer.get("etag") != other["etag"]


async def test_what_pack_gives_is_planned_anew_for_who_begins(shelf: Shelf, site: Site) -> None:
    before = await ask(site, "/files/music/album/?pack=zip")
    shelf.write("album/3 third.ogg", b"new")
    after = await ask(site, "/files/music/album/?pack=zip")
    assert files_of(after.body, "zip") == {**ALBUM, "album/3 third.ogg": b"new"}
    assert after["etag"] != before["etag"]


async def test_who_goes_on_with_pack_goes_on_with_the_same(shelf: Shelf, site: Site) -> None:
    before = await ask(site, "/files/music/album/?pack=zip")
    shelf.write("album/0 zeroth.ogg", b"new")
    for headers in ({}, {"If-Range": before["etag"]}, {"If-Match": before["etag"]}):
        answer = await ask(site, "/files/music/album/?pack=zip", headers={"Range": "bytes=70000-", **headers})
        assert (answer.status, answer.body) == (206, before.body[70_000:])
    await ask(site, "/files/music/album/?pack=zip")  # somebody else begins
    headers = {"Range": "bytes=70000-", "If-Range": before["etag"]}
    answer = await ask(site, "/files/music/album/?pack=zip", headers=headers)
    assert (answer.status, answer.body) == (206, before.body[70_000:])


@pytest.mark.parametrize("ranges", [False, True])
async def test_sixteen_at_once_plan_once(shelf: Shelf, site: Site, ranges: bool) -> None:
    headers = [{"Range": f"bytes={part * 1000}-{part * 1000 + 999}"} if ranges else {} for part in range(16)]
    answers = await asyncio.gather(*(ask(site, "/files/music/album/?pack=zip", headers=each) for each in headers))
    assert shelf.listings == 2  # the folder, and the one in it
    assert {answer.status for answer in answers} == {206 if ranges else 200}
    assert len({answer["etag"] for answer in answers}) == 1
    if ranges:
        whole = await ask(site, answers[0]["content-location"])
        assert b"".join(answer.body for answer in answers) == whole.body[:16_000]
        assert shelf.listings == 2


async def test_who_leaves_while_it_is_planned_ends_nobody_elses(shelf: Shelf, site: Site) -> None:
    leaving, staying = [Exchange(site, "/files/music/album/?pack=zip") for _ in range(2)]
    tasks = [asyncio.create_task(exchange.run()) for exchange in (leaving, staying)]
    await asyncio.sleep(0.005)
    leaving.gone.set()
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks)
    assert files_of(staying.answer().body, "zip") == ALBUM
    assert shelf.listings == 2


async def test_a_plan_that_failed_is_made_again(shelf: Shelf, site: Site) -> None:
    answers = await asyncio.gather(*(ask(site, "/files/music/new/?pack=zip") for _ in range(4)))
    assert {answer.status for answer in answers} == {404}
    shelf.write("new/song", b"new")
    answer = await ask(site, "/files/music/new/?pack=zip", headers={"Range": "bytes=0-"})
    assert files_of(answer.body, "zip") == {"new/song": b"new"}


# ── zip=ready ──


async def test_a_ready_zip_has_no_descriptors(shelf: Shelf, site: Site) -> None:
    plain, ready = [await ask(site, f"/files/music/album/?pack=zip{more}") for more in ("", "&zip=ready")]
    with zipfile.ZipFile(io.BytesIO(plain.body)) as zip:
        assert {info.flag_bits & 8 for info in zip.infolist() if info.file_size} == {8}
    with zipfile.ZipFile(io.BytesIO(ready.body)) as zip:
        assert {info.flag_bits & 8 for info in zip.infolist()} == {0}
        for info in zip.infolist():
            assert crc32(zip.read(info)) == info.CRC
            assert info.CRC.to_bytes(4, "little") == ready.body[info.header_offset + 14 : info.header_offset + 18]
    assert plain["etag"] != ready["etag"]
    assert files_of(ready.body, "zip") == ALBUM


async def test_sixteen_who_ask_for_a_ready_zip_at_once_read_each_member_once(shelf: Shelf, site: Site) -> None:
    target = "/files/music/album/booklet/?pack=zip&zip=ready"
    answers = await asyncio.gather(*(ask(site, target, method="HEAD") for _ in range(16)))
    assert len({answer["etag"] for answer in answers}) == 1
    assert shelf.opened == ["album/booklet/cover.png"]


async def test_a_list_may_ask_for_a_ready_zip(site: Site) -> None:
    where = await made(site, {"source": "music:song.mp3"}, ready=True)
    with zipfile.ZipFile(io.BytesIO((await ask(site, where)).body)) as zip:
        assert [info.flag_bits & 8 for info in zip.infolist()] == [0]
    answer = await post(site, "- 20000 music:song.mp3 x", "/bundles?zip=ready")
    with zipfile.ZipFile(io.BytesIO((await ask(site, answer["location"])).body)) as zip:
        assert [info.flag_bits & 8 for info in zip.infolist()] == [0]


async def test_a_ready_zip_of_a_member_that_cannot_be_read_is_refused(shelf: Shelf, site: Site) -> None:
    member = {"source": "music:song.mp3", "size": 20_000}
    shelf.write("song.mp3", None)
    refused(await post(site, {"members": [member], "ready": True}), 404)
    shelf.write("song.mp3", b"shorter")
    refused(await post(site, {"members": [member], "ready": True}), 409)


@pytest.mark.usefixtures("soon")
async def test_a_ready_zip_is_of_the_versions_whose_sums_it_holds_also_after_a_restart(tmp_path: Path) -> None:
    tree = Shelf(FILES, told="size")
    where = await address(sited(tree, tmp_path), "/files/music/album/?pack=zip&zip=ready")
    await asyncio.sleep(0.1)
    tree.write("album/2 second.ogg", random.Random(9).randbytes(300_000))
    await failed(sited(tree, tmp_path), where)


# ── lists ──


async def test_a_list_is_answered_with_where_its_archive_is(site: Site) -> None:
    answer = await post(site, {"kind": "tar", "name": "for you", "members": [{"source": "music:song.mp3"}]})
    told = json.loads(answer.body)
    assert answer.status == 201
    assert answer["content-type"] == "application/json"
    assert answer["location"] == told["url"]
    assert answer["cache-control"] == "no-store"
    assert re.fullmatch(r"/bundles/[0-9a-f]{32}/for%20you\.tar", told["url"])
    lasts = datetime.fromisoformat(told["expires"]) - datetime.now(UTC)
    assert timedelta(hours=23.9) < lasts <= timedelta(hours=24)
    got = await ask(site, told["url"])
    assert (got["content-length"], got["etag"]) == (str(told["size"]), told["etag"])
    assert "for you.tar" in got["content-disposition"]


@pytest.mark.parametrize("kind", KINDS)
async def test_members_are_in_the_order_and_under_the_names_of_the_list(site: Site, kind: str) -> None:
    where = await made(
        site,
        {"source": "music:song.mp3", "name": "나중/노래.mp3"},
        {"source": "/files/music/album/1%20first.ogg", "name": "first.ogg"},
        {"source": "music:album/가사.txt", "name": "first.ogg"},
        kind=kind,
    )
    found = files_of((await ask(site, where)).body, kind)
    assert list(found.items()) == [
        ("나중/노래.mp3", FILES["song.mp3"]),
        ("first.ogg", FILES["album/1 first.ogg"]),
        ("first (2).ogg", FILES["album/가사.txt"]),
    ]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("music:song.mp3", "song.mp3"),
        ("music:album/booklet/cover.png", "cover.png"),
        ("/files/music/song.mp3", "song.mp3"),
        ("/files/music/album/1%20first.ogg", "1 first.ogg"),
        ("/files/music/album/%EA%B0%80%EC%82%AC.txt", "가사.txt"),
    ],
)
async def test_a_member_without_a_name_is_called_as_its_file(site: Site, source: str, name: str) -> None:
    as_json = await ask(site, await made(site, {"source": source}))
    assert list(files_of(as_json.body, "zip")) == [name]
    size = len(next(iter(files_of(as_json.body, "zip").values())))
    as_text = await post(site, f"- {size} {source}")
    assert list(files_of((await ask(site, as_text["location"])).body, "zip")) == [name]


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("../../etc/passwd", "etc/passwd"),
        ("/root", "root"),
        ("C:\\Windows\\x", "C_/Windows/x"),
        ("a\0b\nc", "a_b_c"),
        ("..", "unnamed"),
        ("", "unnamed"),
    ],
)
async def test_names_of_a_list_lead_nowhere(site: Site, name: str, cleaned: str) -> None:
    found = files_of((await ask(site, await made(site, {"source": "music:song.mp3", "name": name}))).body, "zip")
    assert found == {cleaned: FILES["song.mp3"]}


async def test_a_list_may_name_files_that_are_not_utf8(tmp_path: Path) -> None:
    site = sited(on_disk(tmp_path, {"caf\udce9": b"coffee"}))
    for source in ("music:caf\udce9", "/files/music/caf%E9"):
        where = await made(site, {"source": source, "name": "x"})
        assert files_of((await ask(site, where)).body, "zip") == {"x": b"coffee"}


@pytest.mark.parametrize(
    ("given", "stands"),
    [(1_700_000_001, 1_700_000_001), (1_700_000_001.9, 1_700_000_001), (0, 0), (-5, 0), (10**30, (1 << 40) - 1)],
)
async def test_the_time_of_a_list_is_the_members(site: Site, given: float, stands: int) -> None:
    where = await made(site, {"source": "music:song.mp3", "mtime": given}, kind="tar")
    with tarfile.open(fileobj=io.BytesIO((await ask(site, where)).body)) as tar:
        assert [member.mtime for member in tar] == [stands]


@pytest.mark.parametrize("given", [f"{crc32(FILES['song.mp3']):08x}", f"{crc32(FILES['song.mp3']):X}", None])
async def test_a_sum_that_is_supplied_goes_into_the_header(shelf: Shelf, site: Site, given: str | None) -> None:
    crc = crc32(FILES["song.mp3"])
    where = await made(site, {"source": "music:song.mp3", "size": 20_000, "crc32": crc if given is None else given})
    end = await ask(site, where, headers={"Range": "bytes=-70"})
    assert end.status == 206
    assert shelf.opened == []  # the directory needs no byte of the member
    answer = await ask(site, where)
    with zipfile.ZipFile(io.BytesIO(answer.body)) as zip:
        [info] = zip.infolist()
        assert (info.flag_bits & 8, info.CRC) == (0, crc)
    assert answer.body[14:18] == crc.to_bytes(4, "little")


async def test_without_a_sum_it_stands_after_the_member(site: Site) -> None:
    for none in ({}, {"crc32": "-"}, {"crc32": None}):
        answer = await ask(site, await made(site, {"source": "music:song.mp3", **none}))
        with zipfile.ZipFile(io.BytesIO(answer.body)) as zip:
            [info] = zip.infolist()
            assert (info.flag_bits & 8, info.CRC) == (8, crc32(FILES["song.mp3"]))


async def test_sizes_are_asked_only_where_they_are_not_given(shelf: Shelf, site: Site) -> None:
    paths = [path for path in FILES if path != "song.mp3"]
    sized = [{"source": f"music:{path}", "size": len(FILES[path])} for path in paths]
    answer = await post(site, {"members": [*sized, {"source": "music:song.mp3"}]})
    assert answer.status == 201
    assert (shelf.opened, shelf.listings) == (["song.mp3"], 0)
    shelf.opened.clear()
    text = "\n".join(f"- {len(FILES[path])} /files/music/{path.replace(' ', '%20')} {path}" for path in FILES)
    assert (await post(site, text)).status == 201
    assert (shelf.opened, shelf.listings) == ([], 0)


async def test_ten_thousand_members_with_sizes_are_planned_without_a_request(shelf: Shelf, site: Site) -> None:
    members = [{"source": f"music:no/{at}", "size": 10_240, "name": f"{at}"} for at in range(10_000)]
    answer = json.loads((await post(site, {"kind": "tar", "members": members})).body)
    assert answer["size"] == -(-(10_000 * (512 + 10_240) + 1024) // 10_240) * 10_240
    assert (shelf.opened, shelf.listings) == ([], 0)


async def test_the_etag_of_a_member_is_checked(shelf: Shelf, site: Site) -> None:
    etag, member = (await ask(site, "/files/music/song.mp3"))["etag"], {**SONG, "name": "song.mp3"}
    right = await made(site, {**member, "etag": etag}, kind="tar")
    assert files_of((await ask(site, right)).body, "tar") == {"song.mp3": FILES["song.mp3"]}
    sized = await made(site, {**member, "etag": etag, "size": 20_000}, kind="tar")
    wrong = await made(site, {**member, "etag": '"other"', "size": 20_000}, kind="tar")
    refused(await ask(site, wrong), 409)
    shelf.write("song.mp3", bytes(20_000))
    for where in (right, sized):
        refused(await ask(site, where), 409)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0, 19_999, 20_001, 100_000])
async def test_a_size_that_is_wrong_never_becomes_an_archive(site: Site, kind: str, size: int) -> None:
    first = {"source": "music:album/2 second.ogg", "name": "first", "size": 300_000}
    where = await made(site, first, {"source": "music:song.mp3", "name": "song", "size": size}, kind=kind)
    size_told = int((await ask(site, where, method="HEAD"))["content-length"])
    if size == 0:  # nothing of it is wanted, so it is never opened
        assert len((await ask(site, where)).body) == size_told
        return
    got = await failed(site, where)
    assert len(got) < size_told
    assert FILES["song.mp3"][:1000] not in got


async def test_equal_lists_have_equal_addresses(shelf: Shelf) -> None:
    one = await made(sited(shelf), {"source": "music:song.mp3"}, name="x")
    same = await made(sited(shelf), {"source": "music:song.mp3"}, name="x")
    others = [
        await made(sited(shelf), {"source": "music:song.mp3"}, kind="tar", name="x"),
        await made(sited(shelf), {"source": "music:song.mp3", "mtime": 5}, name="x"),
        await made(sited(shelf), {"source": "music:song.mp3", "name": "other"}, name="x"),
        await made(sited(shelf), {"source": "music:song.mp3", "crc32": "0"}, name="x"),
    ]
    assert one == same
    assert len({one.split("/")[2], *(other.split("/")[2] for other in others)}) == 5


async def test_equal_lists_that_come_at_once_are_one_bundle(
    shelf: Shelf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = sited(shelf, tmp_path)
    addresses = await asyncio.gather(*(made(site, SONG) for _ in range(32)))
    assert len(set(addresses)) == len(os.listdir(tmp_path)) == 1
    assert "cannot be kept" not in caplog.text
    assert (await ask(sited(shelf, tmp_path), addresses[0])).status == 200


# ── mod_zip's form ──


async def test_a_list_of_mod_zip_is_understood(site: Site) -> None:
    crc = crc32(FILES["song.mp3"])
    text = (
        f"{crc:08x} 20000 /files/music/song.mp3 노래  two  spaces.mp3\r\n"
        "\n"
        f"- 400001 /files/music/album/1%20first.ogg a/b.ogg\n"
        f"- {len(FILES['album/가사.txt'])} music:album/가사.txt words.txt"
    )
    answer = await post(site, text, "/bundles?kind=zip&name=for+you")
    assert answer.status == 201
    assert answer["location"].endswith("/for%20you.zip")
    got = await ask(site, answer["location"])
    assert files_of(got.body, "zip") == {
        "노래  two  spaces.mp3": FILES["song.mp3"],
        "a/b.ogg": FILES["album/1 first.ogg"],
        "words.txt": FILES["album/가사.txt"],
    }
    with zipfile.ZipFile(io.BytesIO(got.body)) as zip:
        assert [info.flag_bits & 8 for info in zip.infolist()] == [0, 8, 8]


async def test_a_list_of_mod_zip_may_be_a_tar(site: Site) -> None:
    answer = await post(site, "- 20000 music:song.mp3 x", "/bundles?kind=tar")
    assert answer["location"].endswith("/bundle.tar")
    assert files_of((await ask(site, answer["location"])).body, "tar") == {"x": FILES["song.mp3"]}


async def test_a_name_in_a_list_ends_with_its_line_and_nowhere_else(site: Site) -> None:
    name = "a\u2028b\x85c\u3000d"  # what Python takes for ends of lines, and for spaces
    answer = await post(site, f"- 20000 music:song.mp3 {name}\n")
    assert answer.status == 201, answer.text
    assert list(files_of((await ask(site, answer["location"])).body, "zip")) == [name.replace("\x85", "_")]


async def test_a_type_of_json_is_known_in_any_case_and_with_parameters(site: Site) -> None:
    body = json.dumps({"members": [{"source": "music:song.mp3"}]}).encode()
    for kind in ("application/json; charset=utf-8", "Application/JSON", "application/json ;x=y"):
        assert (await post(site, body, Content_Type=kind)).status == 201, kind


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b"[" * 100_000,
        {},
        {"members": {}},
        {"members": None},
        {"members": [None]},
        {"members": ["music:song.mp3"]},
        {"members": [{}]},
        {"members": [{"source": 5}]},
        {"members": [{"source": None}]},
        {"members": [{"name": "x"}]},
        {"members": [{**SONG, "name": 5}]},
        {"members": [{**SONG, "name": "n" * 70_000}]},
        {"members": [{**SONG, "name": "\ud800"}]},
        {"members": [{**SONG, "size": "5"}]},
        {"members": [{**SONG, "size": 5.5}]},
        {"members": [{**SONG, "size": -2}]},
        {"members": [{**SONG, "size": True}]},
        {"members": [{**SONG, "size": 1 << 62}]},
        {"members": [{**SONG, "size": None}]},
        {"members": [{**SONG, "mtime": "today"}]},
        b'{"members": [{"source": "music:song.mp3", "mtime": NaN}]}',
        b'{"members": [{"source": "music:song.mp3", "size": ' + b"9" * 5000 + b"}]}",
        {"members": [{**SONG, "crc32": "xyz"}]},
        {"members": [{**SONG, "crc32": "123456789"}]},
        {"members": [{**SONG, "crc32": -1}]},
        {"members": [{**SONG, "crc32": 1 << 32}]},
        {"members": [{**SONG, "crc32": 1.5}]},
        {"members": [{**SONG, "crc32": True}]},
        {"members": [{**SONG, "etag": 5}]},
        {"members": [{**SONG, "etag": "\ud800"}]},
        {"members": [{"source": "music:../x"}]},
        {"members": [{"source": "music:a//b"}]},
        {"members": [{"source": "music:/song.mp3"}]},
        {"members": [{"source": "music:a\0b"}]},
        {"members": [{"source": "music:\ud800", "size": 1}]},
        {"members": [{"source": "/files/music/album%2Fx"}]},
        {"members": [{"source": "/files/music/%2e%2e/x"}]},
        {"members": [SONG], "kind": "rar"},
        {"members": [SONG], "kind": None},
        {"members": [SONG], "kind": 5},
        {"members": [SONG], "kind": []},
        {"members": [SONG], "kind": {}},
    ],
    ids=lambda body: (body if isinstance(body, bytes) else json.dumps(body).encode())[:60].decode("latin-1"),
)
async def test_a_malformed_list_is_refused_in_a_line(site: Site, body: object) -> None:
    refused(await post(site, body), 400)


@pytest.mark.parametrize("name", [5, None, "\ud800", "", "../x", "a/b"])
async def test_any_name_of_a_bundle_is_made_one(site: Site, name: object) -> None:
    answer = await post(site, {"members": [SONG], "name": name})
    assert answer.status in (201, 400)
    if answer.status == 201:
        assert re.fullmatch(r"/bundles/[0-9a-f]{32}/[^/]+\.zip", answer["location"])
        assert (await ask(site, answer["location"])).status == 200


@pytest.mark.parametrize(
    "text",
    [
        "music:song.mp3",
        "- 20000",
        "20000 music:song.mp3 x",
        "- -1 music:song.mp3 x",
        "- 1.5 music:song.mp3 x",
        "- \u00b2 music:song.mp3 x",
        f"- {'9' * 30} music:song.mp3 x",
        f"- {'9' * 5000} music:song.mp3 x",
        "xyz 20000 music:song.mp3 x",
        "123456789 20000 music:song.mp3 x",
        "- 20000 music:../x x",
        "- 20000 /files/music/a%2Fb x",
        '{"members": []}',
        "- 20000 music:song.mp3 x\nand another line",
    ],
    ids=lambda text: text[:40].encode("ascii", "backslashreplace").decode(),
)
async def test_a_malformed_line_is_refused(site: Site, text: str) -> None:
    refused(await post(site, text), 400)


async def test_a_list_of_nothing_is_no_bundle(site: Site) -> None:
    refused(await post(site, {"members": []}), (400, 404))
    refused(await post(site, ""), (400, 404))


NOT_THERE = [
    "music:nothing",
    "music:album",
    "music:",
    "films:x",
    "song.mp3",
    "/files/films/x",
    "/etc/passwd",
    "~/x",
    "",
]


@pytest.mark.parametrize("source", NOT_THERE)
async def test_a_source_that_is_not_there_is_told(site: Site, source: str) -> None:
    refused(await post(site, {"members": [{"source": source}]}), 404)


async def test_one_member_that_is_not_there_is_told_also_among_many(site: Site) -> None:
    members = [{"source": "music:song.mp3"}, {"source": "music:nothing"}, {"source": "music:nothing at all"}]
    refused(await post(site, {"members": members}), 404)


async def test_a_list_is_answered_as_a_whole_whatever_its_conditions(site: Site) -> None:
    body = {"members": [{"source": "music:song.mp3"}]}
    for headers in ({"Range": "bytes=0-3"}, {"If_None_Match": "*"}):
        answer = await post(site, body, **headers)
        assert answer.status == 201
        assert set(json.loads(answer.body)) == {"url", "size", "etag", "expires"}


# ── what may be named ──


async def test_a_tree_that_is_not_served_is_not_reached(tmp_path: Path) -> None:
    """As `serve = false` has it: the tree is there, but not among those of the site."""
    shown, hidden = MemoryTree({"a": b"a"}), MemoryTree({"secret": b"secret"})
    trees: dict[str, Tree] = {"music": shown, "hidden": hidden}
    full = Site(trees, packing=Packing(trees, ""))
    full.packing.bundles.folder = tmp_path
    where = await made(full, {"source": "hidden:secret"}, {"source": "music:a"})
    site = sited(shown, tmp_path)
    for source in ("hidden:secret", "/files/hidden/secret"):
        for size in ({}, {"size": 6}):
            refused(await post(site, {"members": [{"source": source, **size}]}), 404)
    refused(await ask(site, "/files/hidden/?pack=zip"), 404)
    refused(await ask(site, where), 404)  # made when it was shown
    assert (await ask(full, where)).status == 200


URLS = ("https://files.example.org/music/",)
TRICKS = [
    "https://files.example.org.evil/music/x",
    "https://files.example.org@evil/music/x",
    "https://evil/https://files.example.org/music/x",
    "https://user@files.example.org/music/x",
    "https://files.example.org:443/music/x",
    "https://files.example.org/music",
    "https://files.example.org/musician/x",
    "https://files.example.org/",
    "https://files.example.org/music/../secret",
    "https://files.example.org/music/a/../../secret",
    "https://files.example.org/music/%2e%2e/secret",
    "https://files.example.org/music/%2E./secret",
    "https://files.example.org/music/.%2e/secret",
    "https://files.example.org/music/%2e%2e%2fsecret",
    "https://files.example.org/music/a%2f..%2f..%2fsecret",
    "https://files.example.org/music/..",
    "https://files.example.org/music/..?x",
    "https://files.example.org/music/..#x",
    "https://files.example.org/music/.\t./secret",
    "https://files.example.org/music/.\t./secret?x",
    "https://files.example.org/music/.\n./secret?x",
    "https://files.example.org/music/.\r./secret",
    "https://files.example.org\\@evil/music/x",
    "http://files.example.org/music/x",
    "HTTPS://files.example.org/music/x",
    " https://files.example.org/music/x",
    "file:///etc/passwd",
    "file://files.example.org/music/x",
    "ftp://files.example.org/music/x",
    "music:x https://files.example.org/music/x://",
]


@pytest.mark.parametrize("url", ["https://files.example.org/music/x", "http://127.0.0.1/x", *TRICKS])
async def test_urls_are_refused_unless_they_are_configured(site: Site, url: str) -> None:
    for given in ({"url": url}, {"source": url}, {"url": url, "size": 5}):
        refused(await post(site, {"members": [given]}), (403, 404))


@pytest.mark.parametrize("url", TRICKS, ids=lambda url: url.encode("unicode_escape").decode())
async def test_urls_that_only_look_like_allowed_ones_are_refused(shelf: Shelf, url: str) -> None:
    reached: list[str] = []

    def elsewhere(url: str) -> tuple[Tree, str]:
        reached.append(url)
        return shelf, "song.mp3"

    site = sited(shelf, urls=URLS)
    site.packing.elsewhere = elsewhere
    for given in ({"url": url}, {"source": url}, {"url": url, "size": 20_000}):
        answer = await post(site, {"members": [given]})
        refused(answer, (400, 403, 404))
    assert reached == []


async def test_urls_that_begin_as_allowed_are_opened(shelf: Shelf) -> None:
    reached: list[str] = []

    def elsewhere(url: str) -> tuple[Tree, str]:
        reached.append(url)
        return shelf, "song.mp3"

    site = sited(shelf, urls=("https://other.example.org/", *URLS))
    site.packing.elsewhere = elsewhere
    urls = ["https://files.example.org/music/a%20b.ogg", "https://other.example.org/x...y", *URLS]
    where = await made(site, *({"url": url, "name": f"{at}"} for at, url in enumerate(urls)), kind="tar")
    assert set(reached) == set(urls)
    assert files_of((await ask(site, where)).body, "tar") == {f"{at}": FILES["song.mp3"] for at in range(3)}
    refused(await post(site, {"members": [{"url": urls[0], "etag": '"x"'}]}), 400)


async def test_a_url_that_is_allowed_no_more_is_refused_also_in_a_bundle_made_before(
    shelf: Shelf, tmp_path: Path
) -> None:
    site = sited(shelf, tmp_path, urls=URLS)
    site.packing.elsewhere = lambda url: (shelf, "song.mp3")
    where = await made(site, {"url": "https://files.example.org/music/x", "size": 20_000})
    assert (await ask(site, where)).status == 200
    refused(await ask(sited(shelf, tmp_path), where), 403)


@pytest.mark.parametrize(
    ("url", "base", "path"),
    [
        ("https://h.example/music/a%20b/c.ogg", "https://h.example/", "music/a b/c.ogg"),
        ("https://h.example/music/caf%E9", "https://h.example/", "music/caf\udce9"),
        ("https://h.example:81/music/x", "https://h.example:81/", "music/x"),
    ],
)
async def test_one_tree_is_opened_for_all_urls_of_a_server(url: str, base: str, path: str) -> None:
    trees = Trees(Config())
    tree, found = trees.elsewhere(url)
    assert found == path
    assert trees.elsewhere(f"{base}other")[0] is tree
    assert trees.source(base)[0] is tree
    await tree.aclose()


# ── limits ──


async def test_more_members_than_allowed_are_refused(shelf: Shelf) -> None:
    site = sited(shelf, members=4)
    refused(await ask(site, "/files/music/album/?pack=zip"), 400)
    assert (await ask(site, "/files/music/?pack=zip&path=song.mp3&path=album/booklet")).status == 200
    members = [{**SONG, "size": 5, "name": f"{at}"} for at in range(5)]
    answer = await post(site, {"members": members})
    refused(answer, 400)
    assert "4 members" in answer.text
    assert (await post(site, {"members": members[:4]})).status == 201


async def test_more_bytes_than_allowed_are_refused(shelf: Shelf) -> None:
    site = sited(shelf, bytes=300_000)
    refused(await ask(site, "/files/music/album/?pack=tar"), 400)
    assert (await ask(site, "/files/music/album/?pack=tar&path=2%20second.ogg")).status == 200
    answer = await post(site, {"members": [{**SONG, "size": 300_001}]})
    refused(answer, 400)
    assert "300,000 bytes" in answer.text


async def test_a_list_that_is_too_long_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_module, "LIST", 5000)
    refused(await post(site, {"members": [SONG] * 1000}), (400, 413))
    assert (await post(site, {"members": [SONG]})).status == 201


async def test_a_list_whose_sender_left_half_way_is_none(shelf: Shelf, tmp_path: Path) -> None:
    exchange = Post(sited(shelf, tmp_path), "/bundles", ("- 20000 music:song.mp3 x\n" * 100).encode())
    exchange.parts = exchange.parts[:1]
    exchange.leaves = True
    async with asyncio.timeout(10):
        await exchange.run()
    assert os.listdir(tmp_path) == []


async def test_more_bundles_at_a_time_than_allowed_wait(shelf: Shelf) -> None:
    site = sited(shelf, at_once=1)
    one, other = await address(site, "/files/music/album/?pack=tar"), await address(site, "/files/music/?pack=tar")
    reader = Exchange(site, one)
    reader.reading.clear()
    task = asyncio.create_task(reader.run())
    await asyncio.sleep(0.05)
    answer = await ask(site, other)
    refused(answer, 429)
    assert int(answer["retry-after"]) > 0
    assert (await ask(site, other, method="HEAD")).status == 200
    part = await ask(site, one, headers={"Range": "bytes=0-99"})  # another connection of the same
    assert part.status == 206
    reader.reading.set()
    async with asyncio.timeout(10):
        await task
    assert files_of(reader.answer().body, "tar") == ALBUM
    assert (await ask(site, other)).status == 200


async def test_who_leaves_makes_room_for_another_bundle(shelf: Shelf) -> None:
    site = sited(shelf, at_once=1)
    one, other = await address(site, "/files/music/album/?pack=tar"), await address(site, "/files/music/?pack=tar")
    reader = Exchange(site, one)
    reader.reading.clear()
    task = asyncio.create_task(reader.run())
    await asyncio.sleep(0.05)
    refused(await ask(site, other), 429)
    reader.gone.set()
    async with asyncio.timeout(10):
        await task
    assert (await ask(site, other)).status == 200
    assert not site.packing.bundles.sending


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9999"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Host": "evil.example"},
        {"X_Forwarded_For": "10.0.0.1"},
    ],
    ids=str,
)
async def test_a_list_from_another_site_is_refused(shelf: Shelf, tmp_path: Path, headers: dict[str, str]) -> None:
    site = sited(shelf, tmp_path)
    for body in ({"members": [SONG]}, "- 20000 music:song.mp3 x"):
        refused(await post(site, body, **headers), 403)
    assert (os.listdir(tmp_path), shelf.opened) == ([], [])
    refused(await ask(site, "/files/music/?pack=zip", headers={"Origin": "https://evil.example"}), 403)


async def test_a_long_list_from_another_site_is_refused(site: Site) -> None:
    exchange = Post(site, "/bundles", b"- 5 music:x x\n" * 100_000, headers={"Origin": "https://evil.example"})
    async with asyncio.timeout(10):
        await exchange.run()
    refused(exchange.answer(), 403)


# ── an address stays what it is ──


@pytest.mark.parametrize("kind", KINDS)
async def test_a_file_that_was_added_changes_no_bundle(shelf: Shelf, site: Site, kind: str) -> None:
    where = await address(site, f"/files/music/album/?pack={kind}")
    before = await ask(site, where)
    shelf.write("album/0 zeroth.ogg", b"new")
    shelf.write("album/booklet/new.png", b"new")
    after = await ask(site, where)
    assert (after.status, after.body, after.headers) == (200, before.body, before.headers)
    headers = {"Range": "bytes=70000-", "If-Range": before["etag"]}
    assert (await ask(site, where, headers=headers)).body == before.body[70_000:]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("told", ["size tag", "size", ""], ids=["with tags", "sizes only", "names only"])
@pytest.mark.parametrize("change", ["changed", "longer", "shorter", "gone"])
async def test_a_member_that_is_another_is_a_failed_transfer_at_its_first_byte(
    kind: str, told: str, change: str
) -> None:
    """The listing may tell nothing of versions: then the first one that was read is the one."""
    tree = Shelf(FILES, told)
    site = sited(tree)
    where = await address(site, f"/files/music/album/?pack={kind}")
    before = (await ask(site, where)).body
    second = FILES["album/2 second.ogg"]
    changed = {"changed": second[::-1], "longer": second + b"x", "shorter": second[:-1], "gone": None}[change]
    tree.write("album/2 second.ogg", changed)
    got = await failed(site, where)
    at = before.index(second)
    assert got == before[: len(got)]
    assert at - (256 << 10) < len(got) <= at
    refused(await ask(site, where, headers={"Range": f"bytes={at}-{at + 9}"}), (404, 409))
    part = await ask(site, where, headers={"Range": f"bytes=0-{at - 1}"})  # what lies before it is what it was
    assert (part.status, part.body) == (206, before[:at])
    tree.write("album/2 second.ogg", second)
    rest = await ask(site, where, headers={"Range": f"bytes={len(got)}-"})
    assert got + rest.body == before


@pytest.mark.parametrize("kind", KINDS)
async def test_a_file_of_a_folder_that_changed_fails_its_bundle(tmp_path: Path, kind: str) -> None:
    files = {"album/a": bytes(100), "album/b": random.Random(1).randbytes(3_000_000), "album/c": b"last"}
    site = sited(on_disk(tmp_path, files))
    where = await address(site, f"/files/music/album/?pack={kind}")
    before = (await ask(site, where)).body
    os.utime(tmp_path / "album/c", (1, 1))
    (tmp_path / "album/c").write_bytes(b"LAST")
    got = await failed(site, where)
    assert before.startswith(got)
    assert b"LAST" not in got
    assert b"last" not in got
    anew = await ask(site, f"/files/music/album/?pack={kind}")
    assert files_of(anew.body, kind) == {**files, "album/c": b"LAST"}


async def test_a_folder_asked_for_anew_is_the_new_one_where_a_member_changed(shelf: Shelf, site: Site) -> None:
    before = await ask(site, "/files/music/album/?pack=zip")
    shelf.write("album/1 first.ogg", bytes(400_001))
    after = await ask(site, "/files/music/album/?pack=zip")
    assert after["etag"] != before["etag"]
    assert files_of(after.body, "zip")["album/1 first.ogg"] == bytes(400_001)


@pytest.mark.parametrize("how", ["pack", "list"])
async def test_made_anew_after_a_member_changed_it_is_the_new_one(how: str) -> None:
    """Also where the listing, or the list, does not tell that it changed: the failure says "make it anew"."""
    tree = Shelf(FILES, told="size")
    site = sited(tree)

    async def begun() -> Answer:
        if how == "pack":
            return await ask(site, "/files/music/album/?pack=tar")
        return await ask(site, await made(site, {"source": "music:album/1 first.ogg", "size": 400_001}, kind="tar"))

    before = await begun()
    tree.write("album/1 first.ogg", bytes(400_001))
    after = await begun()
    assert after.status == 200, after.text
    assert bytes(400_001) in after.body
    assert after["etag"] != before["etag"]
    stale = Exchange(site, before["content-location"])
    try:
        await stale.run()
    except Broken:
        pass
    assert bytes(400_001) not in stale.body


@pytest.mark.parametrize("kind", KINDS)
async def test_a_bundle_outlives_a_restart(tmp_path: Path, kind: str) -> None:
    where = await address(sited(Shelf(FILES), tmp_path), f"/files/music/album/?pack={kind}")
    tree = Shelf({**FILES, "album/0 zeroth.ogg": b"new"})
    before = await ask(sited(Shelf(FILES)), f"/files/music/album/?pack={kind}")
    after = await ask(sited(tree, tmp_path), where)
    assert (after.status, after.body, after.headers) == (200, before.body, before.headers)
    assert tree.listings == 0
    posted = await made(sited(tree, tmp_path), SONG, kind=kind)
    assert (await ask(sited(tree, tmp_path), posted)).status == 200


async def test_a_bundle_that_falls_out_of_memory_is_found_again(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles_module, "LATELY", 2)
    site = sited(shelf, tmp_path)
    before = await ask(site, "/files/music/album/?pack=zip")
    for number in range(5):
        await made(site, {**SONG, "name": f"{number}"})
    assert len(site.packing.bundles.lately) == 2
    shelf.listings = 0
    after = await ask(site, before["content-location"], headers={"Range": "bytes=5-", "If-Range": before["etag"]})
    assert (after.status, after.body) == (206, before.body[5:])
    assert shelf.listings == 0


async def test_without_a_folder_it_is_forgotten_in_a_line(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles_module, "LATELY", 1)
    site = sited(shelf)
    one = await made(site, SONG)
    await made(site, {**SONG, "name": "other"})
    refused(await ask(site, one), 404)
    assert "make it anew" in (await ask(site, one)).text


@pytest.mark.parametrize("name", ["0" * 32, "A" * 32, "x", "..", "%2e%2e", "0" * 31, "0" * 33, "%00", "*", "?"])
async def test_what_is_no_bundle_is_not_found(shelf: Shelf, tmp_path: Path, name: str) -> None:
    site = sited(shelf, tmp_path / "bundles")
    (tmp_path / "x.zip").write_bytes(b"no bundle")
    for rest in ("", "/", "/x.zip", "/../../x.zip"):
        refused(await ask(site, f"/bundles/{name}{rest}"), 404)


@pytest.mark.usefixtures("soon")
async def test_sums_that_were_learned_outlive_a_restart(tmp_path: Path) -> None:
    site = sited(Shelf(FILES), tmp_path)
    whole = await ask(site, "/files/music/album/?pack=zip")
    await written(tmp_path)
    tree = Shelf(FILES)
    end = await ask(sited(tree, tmp_path), whole["content-location"], headers={"Range": "bytes=-400"})
    assert (end.status, end.body) == (206, whole.body[-400:])
    assert tree.opened == []


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("how", ["its address", "made anew"])
async def test_versions_that_were_learned_outlive_a_restart(tmp_path: Path, how: str) -> None:
    tree = Shelf(FILES, told="size")
    where = await address(sited(tree, tmp_path), "/files/music/album/?pack=tar")
    begun = await ask(sited(tree, tmp_path), where)
    await written(tmp_path)
    tree.write("album/2 second.ogg", random.Random(9).randbytes(300_000))
    site = sited(tree, tmp_path)
    if how == "made anew":  # the same plan, so the same address, which somebody goes on with
        await address(site, "/files/music/album/?pack=tar")
    exchange = Exchange(site, where, headers={"Range": "bytes=100000-", "If-Range": begun["etag"]})
    try:
        await exchange.run()
    except Broken:
        pass
    assert exchange.messages[0]["status"] in (206, 409)
    assert exchange.messages[0]["status"] == 409 or begun.body[100_000:].startswith(exchange.body)


async def test_a_version_is_on_disk_before_the_bytes_that_it_was_learned_with_leave(tmp_path: Path) -> None:
    """So that whoever goes on after a kill at any moment gets the same version, or an error."""
    tree = Shelf(FILES, told="size")
    where = await address(sited(tree, tmp_path), "/files/music/album/?pack=tar")
    exchange = Exchange(sited(tree, tmp_path), where)
    seen = list[bytes]()

    async def send(message: Any, sending: Any = exchange.send) -> None:
        if message.get("body") and not seen:
            seen.extend(path.read_bytes() for path in tmp_path.glob("*.learned"))
        await sending(message)

    exchange.send = send  # type: ignore[method-assign]
    await exchange.run()
    assert b'"pin"' in b"".join(seen)


async def test_a_bundle_whose_versions_cannot_be_kept_does_not_outlive_the_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tree = Shelf(FILES, told="size")
    where = await address(sited(tree, tmp_path), "/files/music/album/?pack=tar")
    (tmp_path / f"{where.split('/')[2]}.learned").mkdir()
    answer = await ask(sited(tree, tmp_path), where)
    assert answer.status == 200 and len(answer.body) == int(answer["content-length"])
    assert "forgotten" in caplog.text
    refused(await ask(sited(tree, tmp_path), where), 404)


async def test_a_bundle_that_is_made_anew_after_a_member_changed_has_an_address_that_works(tmp_path: Path) -> None:
    tree = Shelf(FILES, told="size")
    site = sited(tree, tmp_path)
    where = await address(site, "/files/music/album/?pack=tar")
    await ask(site, where)
    tree.write("album/2 second.ogg", new := random.Random(9).randbytes(300_000))
    with suppress(Broken):
        await ask(site, where)
    other = await address(site, "/files/music/album/?pack=tar")
    assert other != where and new in (await ask(site, other)).body


async def test_after_a_restart_sixteen_at_once_read_a_member_for_its_sum_once(tmp_path: Path) -> None:
    where = await address(sited(Shelf(FILES), tmp_path), "/files/music/album/?pack=zip&path=2%20second.ogg")
    tree = Shelf(FILES)
    site = sited(tree, tmp_path)
    answers = await asyncio.gather(*(ask(site, where, headers={"Range": "bytes=-80"}) for _ in range(16)))
    assert len({answer.body for answer in answers}) == 1
    assert tree.opened == ["album/2 second.ogg"]


async def test_the_sum_that_a_range_needs_is_read_once_and_goes_on_when_its_asker_leaves(shelf: Shelf) -> None:
    site = sited(shelf)
    where = await address(site, "/files/music/album/?pack=zip&path=2%20second.ogg")
    leaving = Exchange(site, where, headers={"Range": "bytes=-80"})
    task = asyncio.create_task(leaving.run())
    await asyncio.sleep(0)
    leaving.gone.set()
    async with asyncio.timeout(10):
        await task
    answers = await asyncio.gather(*(ask(site, where, headers={"Range": "bytes=-80"}) for _ in range(16)))
    assert len({answer.body for answer in answers}) == 1
    assert shelf.opened == ["album/2 second.ogg"]


# ── the folder of bundles ──


def aged(folder: Path, seconds: float = OLD) -> None:
    """Time passes."""
    for path in folder.iterdir():
        when = path.lstat().st_mtime - seconds
        os.utime(path, (when, when), follow_symlinks=False)


@pytest.mark.usefixtures("soon")
async def test_bundles_that_nobody_used_for_a_day_are_removed(shelf: Shelf, tmp_path: Path) -> None:
    site = sited(shelf, tmp_path)
    old = await made(site, SONG)
    await ask(site, old)
    await written(tmp_path)
    assert len(os.listdir(tmp_path)) == 2
    aged(tmp_path)
    site = sited(shelf, tmp_path)
    new = await made(site, {**SONG, "name": "new"})
    assert [path.stem for path in tmp_path.iterdir()] == [new.split("/")[2]]
    refused(await ask(site, old), 404)


async def test_a_bundle_that_is_used_stays(shelf: Shelf, tmp_path: Path) -> None:
    site = sited(shelf, tmp_path)
    where = await made(site, SONG)
    aged(tmp_path)
    assert (await ask(site, where)).status == 200
    other = sited(shelf, tmp_path)
    await made(other, {**SONG, "name": "other"})
    assert (await ask(other, where)).status == 200


@pytest.mark.usefixtures("soon")
async def test_what_was_learned_of_a_bundle_stays_as_long_as_it(tmp_path: Path) -> None:
    tree = Shelf(FILES, told="size")
    site = sited(tree, tmp_path)
    where = await address(site, "/files/music/?pack=tar&path=song.mp3")
    await ask(site, where)
    await written(tmp_path)
    aged(tmp_path)
    site = sited(tree, tmp_path)
    assert (await ask(site, where, method="HEAD")).status == 200  # used, so it stays
    site = sited(tree, tmp_path)
    await made(site, {**SONG, "name": "other"})
    tree.write("song.mp3", bytes(20_000))
    refused(await ask(site, where), 409)


async def test_a_bundle_is_for_its_owner_only(shelf: Shelf, tmp_path: Path) -> None:
    await made(sited(shelf, tmp_path / "made"), SONG)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o700
    [path] = (tmp_path / "made").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


GARBAGE = [b"", b"\0" * 100, b"garbage", b"x\x9c\x03\0\0\0\0\x01", random.Random(1).randbytes(10_000)]


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
async def test_garbage_among_bundles_is_none(shelf: Shelf, tmp_path: Path, data: bytes) -> None:
    site = sited(shelf, tmp_path)
    where = await made(site, SONG)
    [path] = tmp_path.iterdir()
    path.write_bytes(data)
    refused(await ask(sited(shelf, tmp_path), where), 404)
    assert await made(sited(shelf, tmp_path), SONG) == where
    assert (await ask(sited(shelf, tmp_path), where)).status == 200


async def test_a_damaged_bundle_is_none(shelf: Shelf, tmp_path: Path) -> None:
    where = await made(sited(shelf, tmp_path), SONG)
    [path] = tmp_path.iterdir()
    whole, chance = path.read_bytes(), random.Random(5)
    for _ in range(60):
        at = chance.randrange(len(whole))
        damaged = whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :]
        path.write_bytes(chance.choice([whole[:at], damaged]))
        assert (await ask(sited(shelf, tmp_path), where)).status in (200, 404)
        if path.read_bytes() != whole:
            refused(await ask(sited(shelf, tmp_path), where), 404)


async def test_the_bundle_of_another_address_is_none(shelf: Shelf, tmp_path: Path) -> None:
    one, other = [await made(sited(shelf, tmp_path), {**SONG, "name": name}) for name in ("one", "other")]
    (tmp_path / f"{one.split('/')[2]}.zip").replace(tmp_path / f"{other.split('/')[2]}.zip")
    for where in (one, other):
        refused(await ask(sited(shelf, tmp_path), where), 404)


@pytest.mark.parametrize(
    "learned",
    [
        b"",
        b"\xff",
        b"00000000 [",
        b'00000000 ["crc", 0, 5]',
        b'["crc", 0, 5]',
        checked(b'["crc", 0]'),
        checked(b'["crc", 0, null]'),
        checked(b'["crc", 99999, 5]') + checked(b'["pin", -5, "x"]'),
        checked(b'["crc", 0, 5]')[:-3],
        checked(b"null") + b"\n\n" + checked(b"{}"),
        checked(b"[" * 100_000),
    ],
    ids=lambda data: data[:30].decode("latin-1"),
)
async def test_garbage_in_what_was_learned_is_nothing_learned(shelf: Shelf, tmp_path: Path, learned: bytes) -> None:
    where = await made(sited(shelf, tmp_path), SONG)
    before = await ask(sited(shelf, tmp_path), where)
    (tmp_path / f"{where.split('/')[2]}.learned").write_bytes(learned)
    answer = await ask(sited(shelf, tmp_path), where)
    assert (answer.status, answer.body) == (200, before.body)


async def test_strange_things_in_the_folder_of_bundles_are_no_hindrance(shelf: Shelf, tmp_path: Path) -> None:
    name = "0" * 32
    (tmp_path / f"{name}.zip").mkdir()
    (tmp_path / f"{name}.tar").symlink_to("nowhere")
    (tmp_path / "caf\udce9").write_bytes(b"")
    (tmp_path / "x.zip.123.new").write_bytes(b"half")
    (tmp_path / ".hidden").write_bytes(b"")
    aged(tmp_path)
    site = sited(shelf, tmp_path)
    where = await made(site, SONG)
    refused(await ask(site, f"/bundles/{name}/x.zip"), 404)
    assert (await ask(sited(shelf, tmp_path), where)).status == 200
    assert not (tmp_path / "x.zip.123.new").exists()


async def test_a_folder_that_cannot_be_written_ends_nothing(
    shelf: Shelf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a file").touch()
    site = sited(shelf, tmp_path / "a file" / "bundles")
    where = await made(site, SONG)
    assert (await ask(site, where)).status == 200
    assert "bundles cannot be kept: not a directory" in caplog.text


async def test_what_may_be_bundled_is_asked_again_after_a_restart(shelf: Shelf, tmp_path: Path) -> None:
    def denied(url: str) -> tuple[Tree, str]:
        raise Denied("no more")

    site = sited(shelf, tmp_path, urls=URLS)
    site.packing.elsewhere = lambda url: (shelf, "song.mp3")
    where = await made(site, {"url": f"{URLS[0]}x", "size": 20_000})
    again = sited(shelf, tmp_path, urls=URLS)
    again.packing.elsewhere = denied
    refused(await ask(again, where), 403)


async def test_nothing_of_time_is_in_the_bytes(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two requests a day apart."""
    before = await ask(sited(shelf, tmp_path), "/files/music/album/?pack=zip")
    now = time.time() + 86_000
    monkeypatch.setattr(time, "time", lambda: now)
    after = await ask(sited(shelf, tmp_path), before["content-location"])
    assert (after.body, after.headers) == (before.body, before.headers)
    anew = await ask(sited(shelf, tmp_path), "/files/music/album/?pack=zip")
    assert (anew.body, anew.headers) == (before.body, before.headers)
