"""WebDAV, before real servers (tests/peers/davs.py), and before one that answers as Nextcloud does, or lies."""

import asyncio
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from hashlib import sha1
from pathlib import Path

import pytest
from aiohttp.web_request import BaseRequest

from playhead import (
    Blob,
    Busy,
    Changed,
    Damaged,
    Denied,
    Entry,
    Failure,
    Full,
    Malformed,
    NotFound,
    Unavailable,
    literal,
    walk,
)
from playhead.blob import Pieces
from playhead.limits import Limits
from playhead.origins import fetch, multistatus, propfind
from playhead.origins.fetch import Access, basic
from playhead.origins.local import LocalTree
from playhead.origins.multistatus import Multistatus, Resource
from playhead.origins.webdav import DavTree
from playhead.transforms.listed import listed
from tests.fakes.dav import BASE, Answer, Dav, Fault, answer, cut, document, stall, told
from tests.fakes.origin import settled
from tests.laws import check_tree
from tests.peers import davs

DATA = random.Random(1).randbytes(100_000)
OTHER = random.Random(2).randbytes(100_000)
FILES = {
    "노래.mp3": DATA,
    "two  words.mp3": b"two",
    "a #?%+&;=@:!$'(),[]~.mp3": b"signs",
    "%41%2F.mp3": b"looks encoded",
    "so <b>&amp;.mp3": b"looks like markup",
    "empty": b"",
    "앨범/Disc #1/깊은/01.flac": OTHER,
    "앨범/it's 100%.flac": b"deep",
    ".hidden": b"not hidden from us",
}
WHEN = datetime(2026, 1, 3, 10, 20, 30, tzinfo=UTC)
ALLOWED = Access({"Authorization": basic(davs.USER, davs.PASSWORD)}, fingerprint="ann")
DEADLINE = 20.0  # seconds; less than a place among the connections is waited for

Serve = Callable[[Path, Path], AbstractContextManager[str]]
SERVERS: list[Serve] = [davs.apache, davs.rclone, davs.rclone_with_md5]


def kept(_: str) -> None: ...


@contextmanager
def filled(files: Mapping[str, bytes]) -> Iterator[Path]:
    """A folder of old files, which every user may write: a server that root starts does not stay root."""
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        for path, data in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        for place in (root, *root.rglob("*")):
            place.chmod(0o777 if place.is_dir() else 0o666)
            if place.is_file():
                os.utime(place, (WHEN.timestamp(),) * 2)
        yield root


@pytest.fixture(params=SERVERS, ids=lambda serve: serve.__name__)
def served(request: pytest.FixtureRequest) -> Iterator[tuple[Path, str]]:
    with filled(FILES) as root, filled({}) as scratch, request.param(root, scratch) as url:
        yield root, url


@asynccontextmanager
async def opened(url: str, access: Access = ALLOWED) -> AsyncIterator[DavTree]:
    async with asyncio.timeout(DEADLINE):
        tree = DavTree(url, access)
        try:
            yield tree
        finally:
            await tree.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@asynccontextmanager
async def faked(files: Mapping[str, bytes]) -> AsyncIterator[tuple[Dav, DavTree]]:
    async with Dav(files) as dav:
        tree = DavTree(dav.url)
        try:
            async with asyncio.timeout(DEADLINE):
                yield dav, tree
        finally:
            await tree.aclose()


async def names(tree: DavTree, folder: str = "") -> dict[str, Entry]:
    return {entry.name: entry async for entry in tree.entries(folder)}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SILENCE", 0.3)


# ── real servers ──


async def test_a_real_server_is_its_files(served: tuple[Path, str]) -> None:
    root, url = served
    (root / "nothing in it").mkdir()
    async with opened(url) as tree:
        assert [entry async for entry in tree.entries("nothing in it")] == []
        await check_tree(tree, FILES)
        for path, entry in [pair async for pair in walk(tree)]:
            if not entry.folder:
                assert (entry.size, entry.modified) == (len(FILES[path]), WHEN)
                assert entry.tag is not None and entry.tag == (await tree.find(path)).tag
                assert entry.tag == (await tree.open(path)).tag
        with pytest.raises(NotFound):
            await names(tree, "노래.mp3")
    async with opened(f"{url}{'%EC%95%A8%EB%B2%94'}/") as below:
        await check_tree(below, {path[3:]: data for path, data in FILES.items() if path.startswith("앨범/")})


async def test_a_real_server_wants_to_know_who_asks(served: tuple[Path, str]) -> None:
    async with opened(served[1], Access()) as tree:
        for asking in (names(tree), tree.find("empty"), tree.open("empty")):
            with pytest.raises(Denied):
                await asking
        with pytest.raises(Denied):
            await tree.put("new", literal(b"x"), replaces=None, state=None, keep=kept)


async def test_a_file_that_changes_on_a_real_server_is_never_mixed(served: tuple[Path, str]) -> None:
    root, url = served
    async with opened(url) as tree:
        blob = await tree.open("노래.mp3")
        assert await blob.read(0, 10) == DATA[:10]
        (root / "노래.mp3").write_bytes(OTHER)
        with pytest.raises(Changed):
            await blob.read(50_000, 60_000)
        assert await (await tree.open("노래.mp3")).read() == OTHER
        (root / "노래.mp3").unlink()
        with pytest.raises((Changed, NotFound)):
            await blob.read(0, 10)


async def test_what_is_put_on_a_real_server_is_there(served: tuple[Path, str]) -> None:
    root, url = served
    async with opened(url) as tree:
        for path, data in {"새 폴더/a#b/곡 1.mp3": DATA, "새 폴더/a#b/0": b"", "x%41.mp3": b"x"}.items():
            entry = await tree.put(path, literal(data), replaces=None, state=None, keep=kept)
            assert (entry.name, entry.size) == (path.rpartition("/")[2], len(data))
            assert (root / path).read_bytes() == data
            with pytest.raises(Changed):
                await tree.put(path, literal(OTHER), replaces=None, state=None, keep=kept)
            assert (root / path).read_bytes() == data
        assert not [place for place in root.rglob("*") if ".playhead-" in place.name]
        assert set(await names(tree, "새 폴더/a#b")) == {"곡 1.mp3", "0"}


async def test_a_real_server_overwrites_only_the_version_that_was_meant(served: tuple[Path, str]) -> None:
    root, url = served
    async with opened(url) as tree:
        before = (await tree.find("노래.mp3")).tag
        await tree.put("노래.mp3", literal(OTHER), replaces=before, state=None, keep=kept)
        assert (root / "노래.mp3").read_bytes() == OTHER
        for meant, path in ((before, "노래.mp3"), ("v:other", "empty"), ("v:other", "not there")):
            with pytest.raises(Changed):
                await tree.put(path, literal(b"wrong"), replaces=meant, state=None, keep=kept)
        assert (root / "노래.mp3").read_bytes() == OTHER
        assert not [place for place in root.rglob("*") if ".playhead-" in place.name]


async def test_of_two_who_write_at_once_one_is_told(served: tuple[Path, str]) -> None:
    root, url = served
    async with opened(url) as tree:
        both = [tree.put("new/one", literal(data), replaces=None, state=None, keep=kept) for data in (DATA, OTHER)]
        told = await asyncio.gather(*both, return_exceptions=True)
        assert sorted(type(one).__name__ for one in told) == ["Changed", "Entry"]
        assert (root / "new/one").read_bytes() == (DATA if isinstance(told[0], Entry) else OTHER)
        assert [place.name for place in (root / "new").iterdir()] == ["one"]


async def test_an_upload_that_breaks_off_is_not_listed_by_a_real_server(served: tuple[Path, str]) -> None:
    root, url = served
    states: list[str] = []
    async with opened(url) as tree:
        with pytest.raises(Busy):
            await tree.put("앨범/new", Slow(LARGE, fails=True), replaces=None, state=None, keep=states.append)
        assert "new" not in {place.name for place in root.rglob("*")}
        assert set(await names(tree, "앨범")) == {"Disc #1", "it's 100%.flac"}
        await tree.put("앨범/new", Slow(LARGE), replaces=None, state=states[-1], keep=states.append)
        assert (root / "앨범/new").read_bytes() == LARGE
        await settled(lambda: not [place for place in root.rglob("*") if ".playhead-" in place.name])


async def test_a_real_server_copies(served: tuple[Path, str]) -> None:
    root, url = served
    async with opened(url) as tree:
        made = await tree.copy("노래.mp3", "kopie/노래 2.mp3")
        assert made is not None and made.size == len(DATA)
        assert (root / "kopie/노래 2.mp3").read_bytes() == DATA
        with pytest.raises(Changed):
            await tree.copy("empty", "노래.mp3")
        with pytest.raises(NotFound):
            await tree.copy("not there", "elsewhere")


async def test_a_server_that_tells_digests_knows_what_it_holds() -> None:
    with filled(FILES) as root, filled({}) as scratch, davs.rclone_with_md5(root, scratch) as url:
        async with opened(url) as tree:
            assert await tree.holds("노래.mp3", literal(DATA)) is True
            assert await tree.holds("노래.mp3", literal(OTHER)) is False
            assert await tree.holds("empty", literal(OTHER)) is False
            with pytest.raises(NotFound):
                await tree.holds("앨범", literal(OTHER))


# ── one that answers as Nextcloud does ──


async def test_nextcloud_is_its_files() -> None:
    async with faked(FILES) as (dav, tree):
        await check_tree(tree, FILES)
        assert (await names(tree))["노래.mp3"].modified == datetime(2026, 1, 3, 10, tzinfo=UTC)
        assert all(headers["Depth"] != "infinity" for how, _, headers in dav.asked if how == "PROPFIND")


async def test_what_was_listed_is_opened_without_asking() -> None:
    async with faked(FILES) as (dav, tree):
        known = listed(tree, None, name="x")
        await anext(known.entries())
        await asyncio.sleep(0)
        dav.asked.clear()
        blob = await known.open("노래.mp3")
        assert dav.asked == []
        assert await blob.read(10, 20) == DATA[10:20]
        assert dav.of("GET") == ["노래.mp3"] and not dav.of("PROPFIND")
        await known.aclose()


@pytest.mark.parametrize("form", ['W/"{}"', "{}", "", '"{}" x'])
async def test_only_a_strong_etag_is_a_tag(form: str) -> None:
    async with faked({"a": b"one"}) as (dav, tree):
        dav.listed = lambda kept: form.format(kept.version)
        assert (await names(tree))["a"].tag is None
        assert (await tree.find("a")).tag is None
        assert (await names(tree))["a"].mark != ""


async def test_a_server_whose_listings_have_etags_of_their_own_is_found_out() -> None:
    for sent in ('"other"', 'W/"1"', ""):
        async with faked({"a": b"one", "b": b"two"}) as (dav, tree):
            dav.sent = lambda kept, sent=sent: sent  # type: ignore[misc]
            assert (await names(tree))["a"].tag is not None
            await tree.open("a")
            assert not tree.agrees
            assert [entry.tag for entry in (await names(tree)).values()] == [None, None]


async def test_a_file_that_changed_is_no_reason_to_doubt_the_listing() -> None:
    async with faked({"a": b"one"}) as (dav, tree):
        await names(tree)
        dav.put("a", b"other")
        blob = await tree.open("a")
        assert tree.agrees
        assert (await tree.find("a")).tag == blob.tag is not None


async def test_one_connection_is_enough() -> None:
    async with Dav({"a": b"one", "c.html": b"<p>"}) as dav, asyncio.timeout(DEADLINE):
        tree = DavTree(dav.url, limits=Limits(connections=1))
        await names(tree)
        dav.sent = lambda kept: '"other"'
        assert await (await tree.open("a")).read() == b"one"
        dav.faults["GET"] = [answer(200, "<p>", Content_Type="text/html")] * 2
        assert await (await tree.open("c.html")).read() == b"<p>"
        await tree.put("b", literal(DATA), replaces=None, state=None, keep=kept)
        await tree.aclose()


async def test_a_page_that_stands_for_a_folder_is_no_file() -> None:
    async with faked({"a/b": b"one", "c.html": b"<p>"}) as (dav, tree):
        page = answer(200, "<html>the folder</html>", Content_Type="text/html; charset=utf-8")
        dav.faults["GET"] = [page, None]
        with pytest.raises(NotFound):
            await tree.open("a")
        dav.faults["GET"] = [page, page]
        assert (await tree.open("c.html")).size == len("<html>the folder</html>")


# ── listings that are not as they should be ──


HREFS = {
    f"{BASE}a%20b": "a b",
    f"{BASE}%ea%b0%80": "가",
    f"{BASE}가나": "가나",
    f"{BASE}100%": "100%",
    f"{BASE}%FF": "\udcff",
    f"{BASE}who?#.mp3": "who?#.mp3",
    "plain": "plain",
    "./dotted": "dotted",
    f"/{BASE}/twice//slashed": None,
    f"//remote.php{BASE}x": None,
    "http://127.0.0.1:{port}" + f"{BASE}whole": "whole",
    "HTTP://127.0.0.1:{port}" + f"{BASE}large": "large",
    f"http://elsewhere{BASE}foreign": None,
    f"{BASE}deeper/down": None,
    "/remote.php/dav/files/bob/other": None,
    f"{BASE}..": None,
    f"{BASE}%2e%2e": None,
    f"{BASE}%2e%2e/up": None,
    f"{BASE}a%2Fb": None,
    f"{BASE}a%00b": None,
    f"{BASE}.playhead-0123456789abcdef.tmp": None,
}
FILE = "<d:resourcetype/><d:getcontentlength>3</d:getcontentlength>"
SELF = told(BASE, "<d:resourcetype><d:collection/></d:resourcetype>")


async def test_hrefs_are_read_as_they_come_and_what_is_elsewhere_is_left_out() -> None:
    async with faked({}) as (dav, tree):
        body = SELF + "".join(told(href.replace("{port}", str(dav.port)), FILE) for href in HREFS)
        dav.faults["PROPFIND"] = [answer(207, document(body))]
        assert set(await names(tree)) == {name for name in HREFS.values() if name}


async def test_a_server_behind_a_proxy_may_call_itself_otherwise() -> None:
    async with faked({}) as (dav, tree):
        inner = "http://inner:8080" + BASE
        body = SELF.replace(BASE, inner) + told(f"{inner}a", FILE) + told(f"http://other{BASE}b", FILE)
        dav.faults["PROPFIND"] = [answer(207, document(body))]
        assert set(await names(tree)) == {"a"}


async def test_what_a_server_tells_of_one_resource_is_of_that_one() -> None:
    gone, hidden, broken = (f"HTTP/1.1 {status}" for status in ("404 Not Found", "403 Forbidden", "500 Oh"))
    async with faked({}) as (dav, tree):
        body = told(f"{BASE}no-size", FILE, status=hidden) + told(f"{BASE}folder/", FILE, status=gone)
        for status, name in ((gone, "gone"), (hidden, "kept")):
            body += f"<d:response><d:href>{BASE}{name}</d:href><d:status>{status}</d:status></d:response>"
        dav.faults["PROPFIND"] = [answer(207, document(SELF + body))]
        found = await names(tree)
        assert {name: (entry.folder, entry.size) for name, entry in found.items()} == {
            "no-size": (False, None),
            "folder": (True, None),
            "kept": (False, None),
        }
        body += f"<d:response><d:href>{BASE}x</d:href><d:status>{broken}</d:status></d:response>"
        dav.faults["PROPFIND"] = [answer(207, document(SELF + body))]
        with pytest.raises(Unavailable):
            await names(tree)
        for status, kind in ((gone, NotFound), (hidden, Denied), (broken, Unavailable)):
            one = f"<d:response><d:href>{BASE}x</d:href><d:status>{status}</d:status></d:response>"
            dav.faults["PROPFIND"] = [answer(207, document(one))]
            with pytest.raises(kind):
                await tree.find("x")


BOMB = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "ha"}">' for n in range(12))
BAD = {
    "entities": f"<?xml version='1.0'?><!DOCTYPE d [{BOMB}]><d:multistatus xmlns:d='DAV:'>&l11;</d:multistatus>",
    "a file of ours": "<!DOCTYPE d [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>" + document(SELF + "&e;")[21:],
    "a DTD from elsewhere": "<!DOCTYPE d SYSTEM 'http://127.0.0.1:1/d'><d:multistatus xmlns:d='DAV:'/>",
    "nothing": "",
    "no XML": "hello",
    "a page": "<html><body/></html>",
    "something else": "<d:error xmlns:d='DAV:'/>",
    "cut": document(SELF + told(f"{BASE}a", FILE))[:-20],
    "more after it": document(SELF) + document(SELF),
    "another folder": document(told("/elsewhere/", FILE)),
    "an entity": document(SELF + "&unknown;"),
    "a strange encoding": document(SELF).replace('"1.0"?', '"1.0" encoding="no-such"?'),
    "a text without end": document(told("x" * 100_000, FILE)),
    "elements in elements": document("<a>" * 1_000_000 + "</a>" * 1_000_000),
}


@pytest.mark.parametrize("what", BAD)
async def test_what_is_no_listing_is_never_a_short_one(what: str) -> None:
    async with faked({}) as (dav, tree):
        dav.faults["PROPFIND"] = [answer(207, BAD[what])] * 2
        with pytest.raises(Damaged) as told_of:
            await names(tree)
        assert "\n" not in str(told_of.value)
        with pytest.raises(Damaged):
            await tree.find("a")


def test_what_goes_on_for_ever_is_left_early(monkeypatch: pytest.MonkeyPatch) -> None:
    head, piece = b'<d:multistatus xmlns:d="DAV:">', b" " * (1 << 20)
    for begin, more in (
        (head + b"<!--", piece),
        (head + b"<a b='", piece),
        (head + b"<a", piece),
        (head, b"<a/>" * 9999),
    ):
        monkeypatch.setattr(multistatus, "ELEMENTS", 100_000)
        reader = Multistatus("x")
        reader.feed(begin)
        with pytest.raises(Damaged):
            for _ in range(20):
                reader.feed(more)
        assert reader.fed < 10 << 20
    monkeypatch.setattr(multistatus, "LARGEST", 3 << 20)
    reader = Multistatus("x")
    reader.feed(head)
    with pytest.raises(Damaged, match="3 MiB"):
        for _ in range(20):
            reader.feed(piece)
    monkeypatch.setattr(multistatus, "RESOURCES", 10)
    with pytest.raises(Damaged):
        Multistatus("x").feed(document(SELF * 11).encode())


def test_a_listing_is_the_same_however_it_is_cut_up() -> None:
    whole = ("\n" + document("".join(told(f"{BASE}{n}", FILE) for n in range(5)))).encode()
    wanted = [Resource(f"{BASE}{n}", 200, False, {"size": "3"}) for n in range(5)]
    for step in (1, 7, len(whole)):
        reader = Multistatus("x")
        for at in range(0, len(whole), step):
            reader.feed(whole[at : at + step])
        assert reader.ended() == wanted


async def test_a_listing_that_is_broken_off_is_never_a_short_one() -> None:
    async with faked({}) as (dav, tree):

        async def broken(dav: Dav, request: BaseRequest) -> None:
            await asyncio.sleep(0)
            transport = request.transport
            body = document(SELF + told(f"{BASE}a", FILE))
            transport.write(f"HTTP/1.1 207 M\r\nContent-Length: {len(body)}\r\n\r\n{body[:-9]}".encode())
            transport.close()
            await asyncio.sleep(3600)

        dav.faults["PROPFIND"] = [broken]
        with pytest.raises(Unavailable):
            await names(tree)


async def test_a_listing_that_drips_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(propfind, "WHOLE", 0.3)

    async def drip(dav: Dav, request: BaseRequest) -> None:
        transport = request.transport
        transport.write(b"HTTP/1.1 207 M\r\nContent-Length: 99999\r\n\r\n<")
        while True:
            transport.write(b" ")
            await asyncio.sleep(0.02)

    async with faked({}) as (dav, tree):
        dav.faults["PROPFIND"] = [drip]
        with pytest.raises(Unavailable):
            await names(tree)


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (200, Malformed, "no WebDAV"),
        (405, Malformed, "no WebDAV"),
        (501, Malformed, "no WebDAV"),
        (401, Denied, "credentials"),
        (403, Denied, "refuses"),
        (404, NotFound, "no such"),
        (429, Busy, "too many"),
        (500, Unavailable, "500"),
        (503, Unavailable, "503"),
    ],
)
async def test_a_refusal_says_what_it_is(status: int, kind: type[Failure], says: str) -> None:
    async with faked({"a": b"one"}) as (dav, tree):
        dav.faults["PROPFIND"] = [answer(status, "<p>", Retry_After="7")] * 2
        for asking in (names(tree), tree.find("a")):
            with pytest.raises(kind, match=says) as told_of:
                await asking
            assert told_of.value.after == (7 if status != 200 else told_of.value.after)


def test_a_url_that_is_no_folder_is_refused() -> None:
    with pytest.raises(Malformed, match="'/'"):
        DavTree("http://127.0.0.1/dav")


# ── writing ──


class Slow(Blob):
    """Bytes that come a little at a time, as from a network."""

    __slots__ = ("data", "fails")

    def __init__(self, data: bytes, tag: str | None = "v:1", fails: bool = False) -> None:
        for name, value in {"size": len(data), "tag": tag, "modified": WHEN, "data": data, "fails": fails}.items():
            object.__setattr__(self, name, value)

    async def stream(self, start: int, stop: int) -> Pieces:
        for at in range(start, stop, 50_000):
            if self.fails and at:
                raise Busy("the source is busy")
            await asyncio.sleep(0)
            yield self.data[at : min(stop, at + 50_000)]


LARGE = random.Random(3).randbytes(5_000_000)


async def test_nextcloud_is_told_digest_and_date() -> None:
    with filled({"song": DATA}) as root:
        async with faked({}) as (dav, tree):
            local = LocalTree(root)
            entry = await tree.put("a/song", await local.open("song"), replaces=None, state=None, keep=kept)
            sent = next(headers for how, _, headers in dav.asked if how == "PUT")
            assert sent["OC-Checksum"] == f"SHA1:{sha1(DATA).hexdigest()}"
            assert (sent["X-OC-Mtime"], sent["Content-Length"]) == (str(int(WHEN.timestamp())), str(len(DATA)))
            assert entry.tag == (await tree.open("a/song")).tag is not None
            assert await tree.holds("a/song", literal(DATA)) is True
            assert await tree.holds("a/song", literal(OTHER)) is False
            await local.aclose()


async def test_nothing_is_listed_before_it_is_whole() -> None:
    async with faked({"a/b": b"one"}) as (dav, tree):
        seen: list[str] = []

        async def looks(dav: Dav, request: BaseRequest) -> None:
            dav.files["a/.playhead-0123456789abcdef.tmp"] = dav.put("x", b"half")
            del dav.files["x"]
            seen.extend(await names(tree, "a"))

        dav.faults["PUT"] = [looks]
        await tree.put("a/new", literal(DATA), replaces=None, state=None, keep=kept)
        assert seen == ["b"]


@pytest.mark.parametrize("fault", [cut, stall, answer(507), answer(423), answer(413), answer(403), answer(500)])
async def test_an_upload_that_fails_leaves_nothing(fault: Fault, impatient: None) -> None:
    states: list[str] = []
    async with faked({"a/b": b"one"}) as (dav, tree):
        dav.faults["PUT"] = [fault]
        with pytest.raises((Unavailable, Full, Busy, Denied)):  # more than the buffers of two sockets hold
            await tree.put("a/new", Slow(LARGE * 8), replaces=None, state=None, keep=states.append)
        assert len(dav.of("DELETE")) == 1 and dav.of("DELETE") == dav.of("PUT")
        assert set(dav.files) == {"a/b"}
        await tree.put("a/new", Slow(LARGE), replaces=None, state=states[-1], keep=states.append)
        assert dav.of("DELETE") == [dav.of("PUT")[0]] * 2 and dav.of("PUT")[0] != dav.of("PUT")[1]
        assert dav.files["a/new"].data == LARGE


@pytest.mark.parametrize(
    ("status", "kind"), [(507, Full), (423, Busy), (413, Denied), (401, Denied), (409, Unavailable), (429, Busy)]
)
async def test_a_refusal_to_store_says_what_it_is(status: int, kind: type[Failure]) -> None:
    async with faked({}) as (dav, tree):
        dav.faults["PUT"] = [answer(status)]
        with pytest.raises(kind):
            await tree.put("new", literal(b"x"), replaces=None, state=None, keep=kept)


async def test_a_source_that_fails_is_what_is_told() -> None:
    async with faked({}) as (dav, tree):
        with pytest.raises(Busy, match="the source"):
            await tree.put("new", Slow(LARGE, fails=True), replaces=None, state=None, keep=kept)
        await asyncio.sleep(0.05)
        assert dav.files == {}


async def test_one_who_leaves_leaves_nothing() -> None:
    async with faked({}) as (dav, tree):
        dav.faults["PUT"] = [stall]
        writing = asyncio.create_task(tree.put("new", Slow(LARGE), replaces=None, state=None, keep=kept))
        await settled(lambda: bool(dav.of("PUT")))
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert dav.of("DELETE") == dav.of("PUT") and dav.files == {}


async def test_other_bytes_than_were_sent_are_never_given_the_name() -> None:
    def spoilt(how: str) -> Fault:
        async def stores(dav: Dav, request: BaseRequest) -> Answer:
            data = await request.read()
            sent = sha1(data).hexdigest() if how == "silently" else "0" * 40
            data = data[:-1] if how == "short" else b"!" + data[1:]
            path = dav.of("PUT")[-1]
            dav.put(path, data, f"SHA1:{sha1(data).hexdigest()} MD5:{'0' * 32}")
            headers = {"X-Hash-SHA1": sent} if how == "told" else {}
            return await answer(201, **headers)(dav, request)

        return stores

    for how in ("short", "told", "silently"):
        async with faked({}) as (dav, tree):
            dav.faults["PUT"] = [spoilt(how)]
            with pytest.raises(Damaged):
                await tree.put("new", literal(DATA), replaces=None, state=None, keep=kept)
            assert dav.files == {}


async def test_a_move_whose_answer_is_lost_is_not_made_twice() -> None:
    for moved in (True, False):
        states: list[str] = []
        async with faked({}) as (dav, tree):

            async def lost(dav: Dav, request: BaseRequest, moved: bool = moved) -> None:
                if moved:
                    await dav._move(request, dav.of("MOVE")[-1])
                request.transport.abort()
                await asyncio.sleep(3600)

            dav.faults["MOVE"] = [lost]
            with pytest.raises(Unavailable):
                await tree.put("new", Slow(DATA), replaces=None, state=None, keep=states.append)
            entry = await tree.put("new", Slow(DATA), replaces=None, state=states[-1], keep=states.append)
            assert len(dav.of("PUT")) == 1  # all of it had come
            assert (entry.name, entry.size) == ("new", len(DATA))
            assert {path: kept.data for path, kept in dav.files.items()} == {"new": DATA}


async def test_what_was_stored_of_another_version_is_not_moved() -> None:
    states: list[str] = []
    async with faked({}) as (dav, tree):
        dav.faults["MOVE"] = [answer(503)]
        with pytest.raises(Unavailable):
            await tree.put("new", Slow(DATA, "v:1"), replaces=None, state=None, keep=states.append)
        await tree.put("new", Slow(OTHER, "v:2"), replaces=None, state=states[-1], keep=states.append)
        assert {path: kept.data for path, kept in dav.files.items()} == {"new": OTHER}


async def test_the_server_is_told_what_may_be_overwritten() -> None:
    async with faked({"a": b"one"}) as (dav, tree):
        tag = (await tree.find("a")).tag

        async def meanwhile(dav: Dav, request: BaseRequest) -> None:
            dav.put("a", b"somebody else's")

        dav.faults["MOVE"] = [meanwhile]
        with pytest.raises(Changed):
            await tree.put("a", literal(b"mine"), replaces=tag, state=None, keep=kept)
        assert {path: kept.data for path, kept in dav.files.items()} == {"a": b"somebody else's"}
        dav.faults["MOVE"] = [meanwhile]
        with pytest.raises(Changed):
            await tree.put("b", literal(b"mine"), replaces=(await tree.find("a")).tag, state=None, keep=kept)


async def test_a_server_that_knows_no_conditions_is_asked_directly_before() -> None:
    async with faked({"a": b"one", "b": b"two"}) as (dav, tree):
        dav.conditions = False
        for path in "ab":
            await tree.put(path, literal(b"mine"), replaces=(await tree.find(path)).tag, state=None, keep=kept)
        assert [how for how, _, _ in dav.asked].count("MOVE") == 3  # and it is not tried again
        assert {path: kept.data for path, kept in dav.files.items()} == {"a": b"mine", "b": b"mine"}


async def test_without_etags_in_listings_the_tag_that_opening_gives_is_compared() -> None:
    async with faked({"a": b"one"}) as (dav, tree):
        dav.listed = lambda kept: ""
        tag = (await tree.open("a")).tag
        await tree.put("a", literal(b"mine"), replaces=tag, state=None, keep=kept)
        assert dav.files["a"].data == b"mine"
        with pytest.raises(Changed):
            await tree.put("a", literal(b"again"), replaces=tag, state=None, keep=kept)


async def test_a_server_that_does_not_know_its_own_name_is_given_the_path() -> None:
    async with faked({}) as (dav, tree):
        dav.faults["MOVE"] = [answer(502), None, None]
        for path in "ab":
            await tree.put(path, literal(b"x"), replaces=None, state=None, keep=kept)
        places = [headers["Destination"] for how, _, headers in dav.asked if how == "MOVE"]
        assert places == [f"{dav.url}a", f"{BASE}a", f"{BASE}b"]


async def test_a_folder_that_goes_away_is_made_again() -> None:
    async with faked({}) as (dav, tree):
        await tree.put("a/b/c", literal(b"x"), replaces=None, state=None, keep=kept)
        dav.folders -= {"a", "a/b"}
        dav.files.clear()
        with pytest.raises(Unavailable):
            await tree.put("a/b/d", literal(b"x"), replaces=None, state=None, keep=kept)
        await tree.put("a/b/d", literal(b"x"), replaces=None, state=None, keep=kept)
        assert set(dav.files) == {"a/b/d"}
        with pytest.raises(Changed, match="not a folder"):
            await tree.put("a/b/d/e", literal(b"x"), replaces=None, state=None, keep=kept)


async def test_a_server_that_cannot_copy_says_so() -> None:
    async with faked({"a": b"one"}) as (dav, tree):
        dav.faults["COPY"] = [answer(405)]
        assert await tree.copy("a", "b") is None
        assert (await tree.copy("a", "b") or Entry("")).size == 3


async def test_silence_while_it_stores_is_waited_for(impatient: None) -> None:
    async def thinks(dav: Dav, request: BaseRequest) -> Answer:
        stored = await dav._put(request, dav.of("PUT")[-1])
        await asyncio.sleep(0.6)
        return stored

    async with faked({}) as (dav, tree):
        dav.faults["PUT"] = [thinks]
        began = time.monotonic()
        await tree.put("new", literal(DATA), replaces=None, state=None, keep=kept)
        assert time.monotonic() - began > 2 * fetch.SILENCE
        assert dav.files["new"].data == DATA
