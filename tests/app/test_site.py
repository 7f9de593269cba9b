"""The server's application, called without a server."""

import asyncio
import json
import logging
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest

from playhead import Ask, Blob, Busy, Changed, Entry, Failure, NotFound, Tree, Unavailable, Unsized, literal
from playhead.app import listing as listings
from playhead.app.auth import REMEDY, Gate
from playhead.app.site import Site
from playhead.blob import Pieces
from playhead.doors.asgi import Broken
from playhead.origins.local import LocalTree
from playhead.origins.memory import MemoryTree
from playhead.tree import Entries
from tests.app.asgi_client import Answer, Exchange, ask

KOREAN = "동해물과 백두산이 마르고 닳도록\n하느님이 보우하사 우리나라 만세\n"
SONG = bytes(range(256)) * 40


def memory(**files: bytes) -> Site:
    return Site({"music": MemoryTree({"song.mp3": SONG, **files})})


@pytest.fixture
def local(tmp_path: Path) -> Callable[[dict[str, bytes]], Site]:
    """A site over a real folder."""

    def make(files: dict[str, bytes], **how: Any) -> Site:
        for path, data in files.items():
            place = tmp_path / "root" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        return Site({"music": LocalTree(tmp_path / "root")}, **how)

    return make


class Page(HTMLParser):
    """What a page holds: (tag, attributes) of everything, and the text of each link."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.shown = ""
        self.feed(answer.body.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.shown += data

    def links(self, kind: str = "name") -> list[str]:
        return [found["href"] for tag, found in self.tags if tag == "a" and found.get("class") == kind]

    def more(self) -> str | None:
        after = [found["href"] for tag, found in self.tags if tag == "a" and "?after=" in found.get("href", "")]
        return after[0] if after else None


def refused(answer: Answer, status: int | tuple[int, ...]) -> None:
    """What every error is: one line of text that nobody keeps."""
    assert answer.status in ((status,) if isinstance(status, int) else status)
    assert answer["content-type"] == "text/plain; charset=utf-8"
    assert answer["cache-control"] == "no-store"
    assert answer["x-content-type-options"] == "nosniff"
    assert answer.text.count("\n") == 1
    assert answer.text.endswith("\n")
    assert answer.get("etag") is None


# ── files ──


async def test_a_file_is_given_with_its_type_length_and_validators(local: Callable[..., Site]) -> None:
    answer = await ask(local({"song.mp3": SONG}), "/files/music/song.mp3")
    assert (answer.status, answer.body) == (200, SONG)
    assert answer["content-type"] == "audio/mpeg"
    assert answer["content-length"] == str(len(SONG))
    assert answer["accept-ranges"] == "bytes"
    assert answer["cache-control"] == "private, no-cache"
    assert answer["content-disposition"].startswith("inline;")
    assert re.fullmatch(r'"[\w-]{22}"', answer["etag"])
    assert answer["last-modified"].endswith(" GMT")


async def test_a_range_of_a_file_is_given(local: Callable[..., Site]) -> None:
    site = local({"song.mp3": SONG})
    for header, part in [("bytes=5-9", SONG[5:10]), ("bytes=-5", SONG[-5:]), ("bytes=0-0", SONG[:1])]:
        answer = await ask(site, "/files/music/song.mp3", headers={"Range": header})
        assert (answer.status, answer.body) == (206, part)
    several = await ask(site, "/files/music/song.mp3", headers={"Range": "bytes=0-1,5-6"})
    assert several["content-type"].startswith("multipart/byteranges; boundary=")
    refused(await ask(site, "/files/music/song.mp3", headers={"Range": "bytes=99999-"}), 416)


async def test_a_long_file_is_given_whole(local: Callable[..., Site]) -> None:
    long = os.urandom(1 << 16) * 50
    answer = await ask(local({"film.mkv": long}), "/files/music/film.mkv")
    assert answer.body == long


async def test_an_empty_file_is_given() -> None:
    for header in ({}, {"Range": "bytes=0-"}):
        answer = await ask(memory(**{"empty.mp3": b""}), "/files/music/empty.mp3", headers=header)
        assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    "target", ["/files/music/song.mp3", "/files/music/", "/", "/healthz", "/nothing", "/files/music"]
)
async def test_head_has_the_headers_of_get_and_no_body(target: str) -> None:
    head, got = await ask(memory(), target, method="HEAD"), await ask(memory(), target)
    assert (head.status, head.headers, head.body) == (got.status, got.headers, b"")


async def test_what_the_reader_has_is_not_sent_again() -> None:
    for target in ("/files/music/song.mp3", "/files/music/", "/files/music/?as=json"):
        etag = (await ask(memory(), target))["etag"]
        answer = await ask(memory(), target, headers={"If-None-Match": etag})
        assert (answer.status, answer.body) == (304, b"")


async def test_a_download_is_an_attachment_with_its_name() -> None:
    answer = await ask(memory(**{"별.mp3": b"x"}), "/files/music/%EB%B3%84.mp3?download")
    assert answer["content-disposition"] == "attachment; filename=\"_.mp3\"; filename*=UTF-8''%EB%B3%84.mp3"
    assert answer["content-type"] == "audio/mpeg"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_other_methods_are_refused(method: str) -> None:
    answer = await ask(memory(), "/files/music/song.mp3", method=method)
    refused(answer, 405)
    assert answer["allow"] == "GET, HEAD"


async def test_it_is_alive_and_ready() -> None:
    for target in ("/healthz", "/readyz"):
        answer = await ask(memory(), target)
        assert (answer.status, answer.body, answer["cache-control"]) == (200, b"ok\n", "no-store")


# ── names ──

HOSTILE = [
    "AC∕DC.mp3",
    "100% done.mp3",
    "%2e%2e.mp3",
    "%2F.mp3",
    "#1?.mp3",
    "a&b=c+d;e.mp3",
    "a b.mp3",
    " .mp3",
    'it\'s "q".mp3',
    "back\\slash.mp3",
    "..\\..\\x.mp3",
    "a:b@c!$*(),~.mp3",
    "http:x.mp3",
    "<script>alert(1)<∕script>.mp3",
    "<img src=x onerror=alert(1)>.mp3",
    "\"><svg onload='alert(1)'>.mp3",
    "new\nline\r.mp3",
    "\x1b[31m.mp3",
    ".hidden",
    "...",
    "별이 빛나는 밤.mp3",
    "\udcff\udcfe.mp3",
    "caf\udce9.mp3",
    "caf\udcea.mp3",
    "caf\udceb.mp3",
    "n" * 251 + ".mp3",
]


async def test_every_name_leads_from_the_page_back_to_its_file(local: Callable[..., Site]) -> None:
    files = {name: name.encode("utf-8", "surrogateescape") for name in HOSTILE}
    files |= {f"folder {name[:100]}/in {name[:100]}": name.encode("utf-8", "surrogateescape") for name in HOSTILE}
    site = local(files)
    assert await _found(site, "/files/music/") == sorted(files.values())


async def _found(site: Site, target: str) -> list[bytes]:
    """The bytes of every file that links lead to from a folder's page on."""
    page = Page(await ask(site, target))
    found = []
    for href in page.links():
        assert href.isascii()
        answer = await ask(site, href)
        assert answer.status == 200
        found += await _found(site, href) if href.endswith("/") else [answer.body]
    return sorted(found)


async def test_every_name_leads_from_the_json_back_to_its_file(local: Callable[..., Site]) -> None:
    site = local({name: name.encode("utf-8", "surrogateescape") for name in HOSTILE})
    listing = json.loads((await ask(site, "/files/music/?as=json")).body)
    assert {entry["name"] for entry in listing["entries"]} == set(HOSTILE)
    for entry in listing["entries"]:
        answer = await ask(site, "/files/music/" + quote(os.fsencode(entry["name"]), safe=""))
        assert answer.body == entry["name"].encode("utf-8", "surrogateescape")


async def test_names_are_shown_as_text_and_never_as_markup() -> None:
    names = [name for name in HOSTILE if "/" not in name]
    folder = "<b>folder & co</b>".replace("/", "∕")
    site = memory(**{f"{folder}/{name}": b"x" for name in names})
    for target in ("/files/music/", f"/files/music/{quote(folder, safe='')}/"):
        page = Page(await ask(site, target))
        assert {tag for tag, _ in page.tags}.isdisjoint({"img", "svg", "b", "object", "iframe"})
        assert [found.get("src", "").startswith("/assets/") for tag, found in page.tags if tag == "script"] == [True]
        assert not any(name.startswith("on") or name == "style" for _, found in page.tags for name in found)
    assert "<script>alert(1)<∕script>.mp3" in page.shown
    assert folder in page.shown


async def test_a_name_sent_without_quoting_is_found() -> None:
    site = memory(**{"별.txt": b"star"})
    answer = await ask(site, "/files/music/별.txt".encode())  # as curl sends it
    assert (answer.status, answer.body) == (200, b"star")


async def test_a_server_that_gives_no_raw_path_is_served_all_the_same() -> None:
    site = memory(**{"a b.txt": b"x"})
    exchange = Exchange(site, "/files/music/a%20b.txt")
    del exchange.scope["raw_path"]  # ASGI: optional
    await exchange.run()
    assert (exchange.answer().status, exchange.answer().body) == (200, b"x")


async def test_a_slash_inside_a_name_is_refused() -> None:
    for target in ("/files/music/a%2Fb.mp3", "/files/music/a%2fb.mp3", "/files/music%2Fsong.mp3", "/files/music/%2F/"):
        answer = await ask(memory(**{"a/b.mp3": b"x"}), target)
        refused(answer, 400)
        assert "%2F" in answer.text


SECRET = b"not for you"


@pytest.mark.parametrize(
    "path",
    [
        "../secret",
        "..",
        "../",
        "sub/../../secret",
        "%2e%2e/secret",
        "%2E%2E/secret",
        ".%2e/secret",
        "%2e./secret",
        "sub/%2e%2e/%2e%2e/secret",
        "..%2fsecret",
        "..%2Fsecret",
        "%2e%2e%2fsecret",
        "%252e%252e/secret",
        "%252e%252e%252fsecret",
        "..%5csecret",
        "..\\secret",
        "%2e%2e%5csecret",
        "....//secret",
        ".../...//secret",
        "..;/secret",
        "..%00/secret",
        "..%0d%0a/secret",
        "..%20/secret",
        "%20../secret",
        "..%09/secret",
        "%c0%ae%c0%ae/secret",
        "%c0%ae%c0%ae%c0%afsecret",
        "%e0%80%ae%e0%80%ae/secret",
        "%ef%bc%8e%ef%bc%8e/secret",
        "..%c0%afsecret",
        "..%ef%bc%8fsecret",
        "%u002e%u002e/secret",
        "/secret",
        "//secret",
        "./secret",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "%2Fetc/passwd",
        "file:///etc/passwd",
        "song.mp3/../../secret",
        "song.mp3%00",
        "song.mp3%00.txt",
        "%00",
        "out",
        "away/secret",
        "away/",
        "~root/secret",
        "$HOME/secret",
    ],
)
async def test_nothing_outside_the_folder_is_given(local: Callable[..., Site], tmp_path: Path, path: str) -> None:
    site = local({"song.mp3": b"x", "sub/x": b"x"})
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "root" / "out").symlink_to("../secret")
    (tmp_path / "root" / "away").symlink_to("..")
    for target in (f"/files/music/{path}", f"/files/music/sub/../{path}", f"/files/{path}", f"/{path}"):
        for query in ("", "?as=json", "?text=utf-8"):
            answer = await ask(site, target + query)
            refused(answer, (400, 403, 404))
            assert SECRET not in answer.body
            assert str(tmp_path) not in answer.text


# ── folders ──

TREE = {"10.mp3": b"x" * 10, "2.mp3": b"xx", "Album/1.flac": b"x", "album b/1.flac": b"x", "Z/y": b"", "a.txt": b"a"}
ORDER = ["Album/", "album b/", "Z/", "2.mp3", "10.mp3", "a.txt", "song.mp3"]


async def test_a_folder_is_a_page() -> None:
    answer = await ask(memory(**TREE), "/files/music/")
    assert (answer.status, answer["content-type"]) == (200, "text/html; charset=utf-8")
    page = Page(answer)
    assert [unquote(href) for href in page.links()] == [f"/files/music/{name}" for name in ORDER]
    assert [unquote(href) for href in page.links("get")] == [f"/files/music/{name}?download" for name in ORDER[3:]]


async def test_a_folder_is_json_where_it_is_asked_for(local: Callable[..., Site], tmp_path: Path) -> None:
    site = local(TREE)
    os.utime(tmp_path / "root" / "a.txt", (1_000_000_000, 1_000_000_000.5))
    for target, headers in [("/files/music/?as=json", {}), ("/files/music/", {"Accept": "application/json"})]:
        answer = await ask(site, target, headers=headers)
        assert answer["content-type"] == "application/json"
        listing = json.loads(answer.body)
        assert set(listing) == {"path", "entries", "next"}
        assert (listing["path"], listing["next"]) == ("", None)
        assert [entry["name"] + "/" * entry["folder"] for entry in listing["entries"]] == ORDER[:-1]
        text = next(entry for entry in listing["entries"] if entry["name"] == "a.txt")
        assert set(text) == {"name", "folder", "size", "modified", "tag"}
        assert (text["size"], text["folder"], text["modified"]) == (1, False, "2001-09-09T01:46:40Z")
    assert json.loads((await ask(site, "/files/music/Album/?as=json")).body)["path"] == "Album"


async def test_a_cache_keeps_the_page_and_the_json_apart() -> None:
    page, data = await ask(memory(), "/files/music/"), await ask(memory(), "/files/music/?as=json")
    assert "Accept" in page.all("vary")
    assert page["etag"] != data["etag"]


async def test_an_empty_folder_says_so() -> None:
    assert "empty" in Page(await ask(Site({"music": MemoryTree({})}), "/files/music/")).shown


async def test_the_names_above_a_folder_lead_there() -> None:
    site = Site({"music": MemoryTree({"a b/c&d/x": b""}), "more": MemoryTree({})})
    page = Page(await ask(site, "/files/music/a%20b/c%26d/"))
    above = [found["href"] for tag, found in page.tags if tag == "a" and "class" not in found]
    assert above == ["/", "/files/music/", "/files/music/a%20b/"]
    for href in above:
        assert (await ask(site, href)).status == 200


async def test_the_first_page_is_the_one_tree_or_the_list_of_trees() -> None:
    assert Page(await ask(memory(), "/")).links() == ["/files/music/song.mp3"]
    several = Site({"music": MemoryTree({}), "films": MemoryTree({})})
    assert Page(await ask(several, "/")).links() == ["/files/music/", "/files/films/"]
    assert (await ask(Site({}), "/")).status == 200


async def test_ten_thousand_names_are_given_at_once_and_the_rest_after_them() -> None:
    names = [f"{number}.mp3" for number in range(20_001)]
    site = Site({"music": MemoryTree(dict.fromkeys(names, b""))})
    after, found = "", []
    for expected in (10_000, 10_000, 1):
        listing = json.loads((await ask(site, f"/files/music/?as=json&after={quote(after)}")).body)
        assert len(listing["entries"]) == expected
        found += [entry["name"] for entry in listing["entries"]]
        after = listing["next"] or ""
    assert listing["next"] is None
    assert found == names


PAGED = {name: b"" for name in HOSTILE if name not in (".hidden", "...")} | {
    f"folder{name[:100]}/x": b"" for name in HOSTILE
}


@pytest.mark.parametrize("size", [1, 2, 7])
async def test_the_pages_of_a_folder_hold_each_name_once(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(listings, "PAGE", size)
    site = Site({"music": MemoryTree(PAGED)})
    everything = {path.partition("/")[0] + "/" * ("/" in path) for path in PAGED}
    target: str | None = "/files/music/"
    found: list[str] = []
    while target and len(found) <= len(everything):
        page = Page(await ask(site, target))
        found += [unquote(href.removeprefix("/files/music/"), errors="surrogateescape") for href in page.links()]
        target = page.more()
    assert sorted(found) == sorted(everything)


@pytest.mark.parametrize("size", [1, 2, 7])
async def test_the_json_of_a_folder_holds_each_name_once(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(listings, "PAGE", size)
    site = Site({"music": MemoryTree(PAGED)})
    everything = {path.partition("/")[0] + "/" * ("/" in path) for path in PAGED}
    after: str | None = ""
    found: list[str] = []
    while after is not None and len(found) <= len(everything):
        query = quote(after.encode("utf-8", "surrogateescape"), safe="")
        listing = json.loads((await ask(site, f"/files/music/?as=json&after={query}")).body)
        found += [entry["name"] + "/" * entry["folder"] for entry in listing["entries"]]
        after = listing["next"]
    assert sorted(found) == sorted(everything)


async def test_a_listing_goes_on_where_it_was_though_the_name_is_gone() -> None:
    site = Site({"music": MemoryTree(dict.fromkeys(("a", "c"), b""))})
    listing = json.loads((await ask(site, "/files/music/?as=json&after=b")).body)
    assert [entry["name"] for entry in listing["entries"]] == ["c"]


async def test_a_folder_without_its_slash_is_moved() -> None:
    site = memory(**{"a b/c/x": b""})
    for target in ("/files/music", "/files/music/a%20b", "/files/music/a%20b/c"):
        answer = await ask(site, target)
        assert (answer.status, answer["location"]) == (308, target + "/")
        assert (await ask(site, answer["location"])).status == 200


async def test_a_folder_that_is_moved_keeps_its_question() -> None:
    answer = await ask(memory(**{"a/x": b""}), "/files/music/a?as=json")
    assert answer["location"] == "/files/music/a/?as=json"


async def test_a_file_with_a_slash_is_not_there(local: Callable[..., Site]) -> None:
    refused(await ask(memory(), "/files/music/song.mp3/"), 404)
    refused(await ask(local({"song.mp3": b"x"}), "/files/music/song.mp3/"), 404)


@pytest.mark.parametrize(
    "target",
    [
        "/nothing",
        "/files",
        "/files/",
        "/files/other/",
        "/files/other/song.mp3",
        "/files/music/nothing",
        "/files/music/nothing/",
        "/files/music/song.mp3/x",
        "/files/Music/song.mp3",
        "//files/music/song.mp3",
        "/files//song.mp3",
        "/healthz/x",
        "/assets/x/files.js",
        "/assets/../site.py",
        "/assets",
        "/index.html",
        "/favicon.ico",
    ],
)
async def test_what_is_not_there_is_not_found(target: str) -> None:
    refused(await ask(memory(), target), 404)


async def test_everything_lies_below_the_prefix() -> None:
    site = Site({"music": MemoryTree({"a b.mp3": b"x", "sub/y": b"y"}), "more": MemoryTree({})}, prefix="/my/player")
    for href in Page(await ask(site, "/my/player/")).links():
        assert href.startswith("/my/player/files/")
        assert (await ask(site, href)).status == 200
    assert await _found(site, "/my/player/files/music/") == [b"x", b"y"]
    assert (await ask(site, "/my/player/files/music"))["location"] == "/my/player/files/music/"
    assert (await ask(site, "/my/player/healthz")).status == 200
    page = Page(await ask(site, "/my/player/files/music/"))
    assert all(
        url.startswith("/my/player/") for _, found in page.tags for url in [found.get("href"), found.get("src")] if url
    )
    for outside in ("/", "/files/music/a%20b.mp3", "/my", "/my/players/", "/healthz", "/my/player/../healthz"):
        refused(await ask(site, outside), 404)


# ── texts ──


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("text_sample", KOREAN.encode(), "text/plain; charset=utf-8"),
        ("text_sample", KOREAN.encode("cp949"), "text/plain; charset=euc-kr"),
        ("lyrics.txt", KOREAN.encode(), "text/plain; charset=utf-8"),
        ("lyrics.txt", KOREAN.encode("cp949"), "text/plain; charset=euc-kr"),
        ("lyrics.lrc", KOREAN.encode("cp949"), "text/plain; charset=euc-kr"),
        ("lyrics.txt", KOREAN.encode("utf-16"), "text/plain; charset=utf-16le"),
        ("lyrics.txt", (KOREAN * 9000).encode("cp949"), "text/plain; charset=euc-kr"),  # longer than is looked at
        ("lyrics.txt", (KOREAN * 9000).encode(), "text/plain; charset=utf-8"),
        ("long_text", (KOREAN * 9000).encode("cp949"), "text/plain; charset=euc-kr"),
        ("long_text", ("a" + KOREAN * 9000).encode("cp949"), "text/plain; charset=euc-kr"),
        ("long_text", ("a" + KOREAN * 9000).encode(), "text/plain; charset=utf-8"),
        ("long_text", ("aa" + KOREAN * 9000).encode(), "text/plain; charset=utf-8"),
        ("words", b"plain words", "text/plain; charset=utf-8"),
        ("page.html", KOREAN.encode("cp949"), "text/html; charset=euc-kr"),
        ("page", b"<!doctype html><script>alert(1)</script>", "text/plain; charset=utf-8"),
        ("picture", b"\x89PNG\r\n\x1a\n" + bytes(99), "image/png"),
        ("song", b"fLaC" + bytes(99), "audio/flac"),
        ("nothing", b"", "application/octet-stream"),
        ("nothing.txt", b"", "text/plain; charset=utf-8"),
    ],
)
async def test_a_text_is_labelled_with_its_charset(
    local: Callable[..., Site], name: str, data: bytes, kind: str
) -> None:
    site = local({name: data})
    for _ in "again":
        answer = await ask(site, f"/files/music/{name}")
        assert (answer.status, answer["content-type"]) == (200, kind)
        assert answer.body == data
    part = await ask(site, f"/files/music/{name}", headers={"Range": "bytes=3-9"})
    assert part.body == data[3:10]


async def test_a_text_that_changes_its_charset_is_labelled_anew(local: Callable[..., Site], tmp_path: Path) -> None:
    site = local({"a.txt": KOREAN.encode()})
    assert (await ask(site, "/files/music/a.txt"))["content-type"].endswith("utf-8")
    (tmp_path / "root" / "a.txt").write_bytes(KOREAN.encode("cp949"))
    assert (await ask(site, "/files/music/a.txt"))["content-type"].endswith("euc-kr")


@pytest.mark.parametrize("codec", ["cp949", "utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["lyrics.txt", "text_sample"])
async def test_any_text_can_be_had_as_utf8(codec: str, name: str) -> None:
    site = memory(**{name: KOREAN.encode(codec)})
    answer = await ask(site, f"/files/music/{name}?text=utf-8")
    assert (answer.status, answer["content-type"]) == (200, "text/plain; charset=utf-8")
    assert answer.text == KOREAN
    part = await ask(site, f"/files/music/{name}?text=utf-8", headers={"Range": "bytes=0-2"})
    assert (part.status, part.body) == (206, KOREAN.encode()[:3])
    assert answer["etag"] != (await ask(site, f"/files/music/{name}")).get("etag")


async def test_what_is_too_long_to_convert_is_refused() -> None:
    long = Failing(1 << 40, None, 0, Unavailable("nobody should read it"))
    refused(await ask(Site({"music": Stub(long)}), "/files/music/a.txt?text=utf-8"), 400)


# ── what a browser may do with it ──


async def test_the_page_runs_its_own_script_only() -> None:
    for target in ("/", "/files/music/"):
        answer = await ask(memory(), target)
        policy = dict(part.strip().partition(" ")[::2] for part in answer["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["form-action"] == "'self'"  # a form asks for what is chosen as one archive
        assert answer["referrer-policy"] == "no-referrer"
        assert answer["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["a.html", "a.HTM", "a.svg", "a.xhtml", "a.xml", "a.xspf"])
@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-4"}, {"Range": "bytes=0-1,4-5"}])
async def test_a_file_that_a_browser_would_run_is_caged(name: str, headers: dict[str, str]) -> None:
    answer = await ask(memory(**{name: b"<script>alert(1)</script>"}), f"/files/music/{name}", headers=headers)
    policy = answer["content-security-policy"]
    assert policy.startswith("sandbox;")
    assert "allow-" not in policy
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


async def test_a_converted_page_is_plain_text() -> None:
    answer = await ask(memory(**{"a.html": b"<script>"}), "/files/music/a.html?text=utf-8")
    assert answer["content-type"] == "text/plain; charset=utf-8"


async def test_what_the_page_is_made_of_is_kept_for_ever() -> None:
    page = Page(await ask(memory(), "/"))
    urls = [url for _, found in page.tags for url in (found.get("src"), found.get("href")) if url and "/assets/" in url]
    assert len(urls) == 3
    kinds = set()
    for url in urls:
        answer = await ask(memory(), url)
        assert (answer.status, answer["cache-control"]) == (200, "public, max-age=31536000, immutable")
        kinds.add(answer["content-type"].partition(";")[0])
    assert kinds == {"text/css", "text/javascript", "image/svg+xml"}


# ── CORS ──

PLAYER = "https://player.example"


def shared() -> Site:
    return Site({"music": MemoryTree({"song.mp3": SONG})}, Gate(cors=[PLAYER]))


async def test_no_other_site_may_read_answers_unless_it_is_named() -> None:
    for headers in ({}, {"Origin": "http://127.0.0.1:4040"}, {"Origin": PLAYER}):
        answer = await ask(memory(), "/files/music/song.mp3", headers=headers)
        assert not [name for name, _ in answer.headers if name.lower().startswith("access-control-")]


async def test_a_named_site_may_read_answers_and_errors() -> None:
    for target in ("/files/music/song.mp3", "/files/music/nothing", "/files/music/?as=json"):
        answer = await ask(shared(), target, headers={"Origin": PLAYER, "Sec-Fetch-Site": "cross-site"})
        assert answer["access-control-allow-origin"] == PLAYER
        assert "Content-Range" in answer["access-control-expose-headers"]
        assert "Origin" in answer.all("vary")
        assert answer.get("access-control-allow-credentials") is None


async def test_an_answer_without_an_origin_says_that_it_depends_on_it() -> None:
    answer = await ask(shared(), "/files/music/song.mp3")
    assert "Origin" in answer.all("vary")
    assert answer.get("access-control-allow-origin") is None


async def test_a_named_site_may_ask_for_ranges() -> None:
    asking = {"Origin": PLAYER, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range"}
    answer = await ask(shared(), "/files/music/song.mp3", method="OPTIONS", headers=asking)
    assert answer.status == 204
    assert answer["access-control-allow-origin"] == PLAYER
    assert "Range" in answer["access-control-allow-headers"]
    assert "GET" in answer["access-control-allow-methods"]


@pytest.mark.parametrize(
    "origin", ["https://player.example.evil", "http://player.example", "null", "https://x.player.example"]
)
async def test_a_site_that_is_not_named_may_neither_read_nor_ask(origin: str) -> None:
    for method in ("GET", "OPTIONS"):
        answer = await ask(shared(), "/files/music/song.mp3", method=method, headers={"Origin": origin})
        refused(answer, 403)
        assert answer.get("access-control-allow-origin") is None


# ── open mode ──

FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "http://127.0.0.1.evil.example:4040"},
    {"Origin": "http://localhost:5000"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://["},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    {"Host": "evil.example"},
    {"Host": "evil.example:4040"},
    {"Host": "127.0.0.1.evil.example"},
    {"Host": "localhost.evil.example"},
    {"Host": "127.0.0.1@evil.example"},
    {"Host": "192.168.1.5:4040"},
    {"Host": "0.0.0.0:4040"},
    {"Host": ""},
    {"Host": "["},
    {"X-Forwarded-For": "10.0.0.1"},
    {"X-Forwarded-Host": "evil.example"},
    {"X-Forwarded-Proto": "https"},
    {"X-Real-IP": "10.0.0.1"},
    {"Forwarded": "for=10.0.0.1"},
    {"Via": "1.1 proxy"},
]
OWN = [
    {},
    {"Host": "localhost:4040"},
    {"Host": "LOCALHOST"},
    {"Host": "localhost."},
    {"Host": "127.0.0.1"},
    {"Host": "127.1.2.3:8000"},
    {"Host": "[::1]:4040"},
    {"Host": "music.localhost:4040"},
    {"Origin": "http://127.0.0.1:4040"},
    {"Host": "localhost:4040", "Origin": "http://localhost:4040", "Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "same-origin"},
]


def _shown(headers: dict[str, str]) -> str:
    return " ".join(f"{name}:{value}" for name, value in headers.items()) or "plain"


@pytest.mark.parametrize("headers", FOREIGN, ids=_shown)
@pytest.mark.parametrize("target", ["/", "/files/music/song.mp3", "/files/music/?as=json", "/nothing"])
async def test_a_request_from_elsewhere_is_refused_with_what_to_do(headers: dict[str, str], target: str) -> None:
    answer = await ask(memory(), target, headers=headers)
    refused(answer, 403)
    assert REMEDY in answer.text
    assert "--no-login" in answer.text


@pytest.mark.parametrize("headers", OWN, ids=_shown)
async def test_a_request_from_this_machine_is_let_in(headers: dict[str, str]) -> None:
    assert (await ask(memory(), "/files/music/song.mp3", headers=headers)).status == 200


@pytest.mark.parametrize("headers", FOREIGN + OWN, ids=_shown)
async def test_everybody_is_let_in_where_no_login_is_wanted(headers: dict[str, str]) -> None:
    site = Site({"music": MemoryTree({"song.mp3": SONG})}, Gate(login=False))
    assert (await ask(site, "/files/music/song.mp3", headers=headers)).status == 200


async def test_a_request_without_a_host_is_let_in() -> None:
    exchange = Exchange(memory(), "/files/music/song.mp3")
    exchange.scope["headers"] = []  # HTTP/1.0
    await exchange.run()
    assert exchange.answer().status == 200


@pytest.mark.parametrize(
    ("address", "forwarded", "client"),
    [
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "6.6.6.6, 1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "1.2.3.4, 10.0.0.2", "1.2.3.4"),
        ("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.2, 10.0.0.3", "1.2.3.4"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", " , ,", "10.0.0.1"),
        ("9.9.9.9", "1.2.3.4", "9.9.9.9"),
        ("9.9.9.9", None, "9.9.9.9"),
        ("", "1.2.3.4", ""),
        ("::1", "1.2.3.4", "1.2.3.4"),
    ],
)
async def test_the_address_that_a_trusted_proxy_tells_is_the_clients(
    caplog: pytest.LogCaptureFixture, address: str, forwarded: str | None, client: str
) -> None:
    gate = Gate(login=False, trusted=[ip_network("10.0.0.0/8"), ip_network("::1/128")])
    site = Site({"music": MemoryTree({"song.mp3": SONG})}, gate)
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    with caplog.at_level(logging.INFO, "playhead.request"):
        await ask(site, "/files/music/song.mp3", headers=headers, client=address)
    assert caplog.records[-1].client == client
    assert caplog.records[-1].getMessage().startswith(f"{client} GET /files/music/song.mp3 - -> 200, {len(SONG)} bytes")


async def test_a_line_of_the_log_steers_no_terminal(caplog: pytest.LogCaptureFixture) -> None:
    headers = {"Range": "bytes=\x9b2J", "X-Forwarded-For": "\x9b31m"}
    gate = Gate(login=False, trusted=[ip_network("127.0.0.0/8")])
    with caplog.at_level(logging.INFO, "playhead.request"):
        await ask(Site({"music": MemoryTree({})}, gate), b"/files/music/\x9b31m", headers=headers)
    assert caplog.records[-1].getMessage().isprintable()


# ── trees that fail ──


class Stub(Tree):
    """A tree of one file; what a test says happens when it is opened."""

    def __init__(self, *opened: Blob | Failure) -> None:
        self.opened = list(opened)

    async def entries(self, folder: str = "") -> Entries:
        yield Entry("song.mp3")

    async def find(self, path: str) -> Entry:
        return Entry(path)

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        result = self.opened.pop(0) if len(self.opened) > 1 else self.opened[0]
        if isinstance(result, Failure):
            raise result
        return result


@dataclass(frozen=True, slots=True, eq=False)
class Failing(Blob):
    """Gives some bytes, then fails."""

    given: int
    failure: Exception

    async def stream(self, start: int, stop: int) -> Pieces:
        if self.given:
            yield b"o" * self.given
        raise self.failure


NEW = literal(b"the new version", "v:new")
OLD = Failing(100, "v:old", 0, Changed("it is another"))


@pytest.mark.parametrize("name", ["song.mp3", "lyrics.txt", "unnamed"])
@pytest.mark.parametrize("first", [OLD, Changed("it is another")], ids=["while read", "while opened"])
async def test_a_file_that_changed_before_its_first_byte_is_served_anew(name: str, first: Blob | Failure) -> None:
    answer = await ask(Site({"music": Stub(first, NEW)}), f"/files/music/{name}")
    assert (answer.status, answer.body) == (200, b"the new version")


@pytest.mark.parametrize("name", ["song.mp3", "lyrics.txt"])
async def test_a_file_that_changes_again_and_again_is_refused(name: str) -> None:
    refused(await ask(Site({"music": Stub(OLD)}), f"/files/music/{name}"), 409)


@pytest.mark.parametrize(
    ("failure", "status", "after"),
    [
        (NotFound("not there"), 404, None),
        (Unavailable("not now"), 503, None),
        (Unavailable("not now", after=2.5), 503, "3"),
        (Busy("too much", after=10), 429, "11"),
    ],
)
@pytest.mark.parametrize("while_read", [True, False])
async def test_a_failure_before_the_first_byte_has_its_status(
    failure: Failure, status: int, after: str | None, while_read: bool
) -> None:
    opened = Failing(100, "v:old", 0, failure) if while_read else failure
    answer = await ask(Site({"music": Stub(opened)}), "/files/music/song.mp3")
    refused(answer, status)
    assert answer.text == f"{failure}\n"
    assert answer.get("retry-after") == after


async def test_a_bug_of_ours_is_told_to_the_log_only(caplog: pytest.LogCaptureFixture) -> None:
    class Buggy(Stub):
        async def open(self, path: str, ask: Ask = Ask()) -> Blob:
            raise KeyError("/home/somebody/secret")

    answer = await ask(Site({"music": Buggy()}), "/files/music/song.mp3")
    refused(answer, 500)
    assert "somebody" not in answer.text
    assert "somebody" in caplog.text


@pytest.mark.parametrize("failure", [Changed("other"), Unavailable("gone"), RuntimeError("a bug")])
async def test_a_failure_in_the_middle_never_ends_like_a_whole_answer(failure: Exception) -> None:
    exchange = Exchange(Site({"music": Stub(Failing(100, "v:old", 10, failure))}), "/files/music/song.mp3")
    with pytest.raises(Broken):
        async with asyncio.timeout(5):
            await exchange.run()
    assert exchange.messages[0]["status"] == 200
    assert exchange.body == b"o" * 10
    assert not exchange.whole


async def test_where_the_server_can_reset_a_connection_it_is_told_to() -> None:
    told = []
    extensions = {"playhead.reset": lambda: told.append(True)}
    site = Site({"music": Stub(Failing(100, "v:old", 10, Unavailable("gone")))})
    exchange = Exchange(site, "/files/music/song.mp3", scope={"extensions": extensions})
    async with asyncio.timeout(5):
        await exchange.run()
    assert told == [True]
    assert not exchange.whole


# ── what has no size ──


class Radio(Stub):
    """What can only be read from start to end."""

    def __init__(self, pieces: int) -> None:
        self.pieces, self.given, self.closed = pieces, 0, asyncio.Event()

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        raise Unsized("nobody knows how long it is")

    async def flow(self, path: str) -> Pieces:
        try:
            for _ in range(self.pieces):
                self.given += 1
                yield b"x" * 1000
                await asyncio.sleep(0)
        finally:
            self.closed.set()


async def test_what_has_no_size_flows_without_ranges() -> None:
    radio = Radio(20)
    answer = await ask(Site({"music": radio}), "/files/music/live.mp3", headers={"Range": "bytes=5-9"})
    assert (answer.status, answer.body) == (200, b"x" * 20_000)
    assert answer["accept-ranges"] == "none"
    assert answer["content-type"] == "audio/mpeg"
    for name in ("content-length", "content-range", "etag"):
        assert answer.get(name) is None
    assert radio.closed.is_set()


async def test_the_head_of_what_has_no_size_reads_nothing_of_it() -> None:
    radio = Radio(20)
    answer = await ask(Site({"music": radio}), "/files/music/live.mp3", method="HEAD")
    assert (answer.status, answer["accept-ranges"], radio.given) == (200, "none", 0)


# ── readers that pause and leave ──


@dataclass(frozen=True, slots=True, eq=False)
class Counting(Blob):
    """Tells how many pieces were taken from its stream, and whether that was closed."""

    taken: list[int] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def stream(self, start: int, stop: int) -> Pieces:
        try:
            for at in range(start, stop, 1000):
                self.taken.append(at)
                yield b"x" * min(1000, stop - at)
                await asyncio.sleep(0)
        finally:
            self.closed.set()


@asynccontextmanager
async def running(exchange: Exchange) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.ensure_future(exchange.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def still() -> None:
    """Long enough for whatever would go on to go on."""
    for _ in range(200):
        await asyncio.sleep(0)
    await asyncio.sleep(0.02)


async def test_a_reader_that_pauses_is_not_read_ahead_for() -> None:
    blob = Counting(1_000_000, "v:counting")
    exchange = Exchange(Site({"music": Stub(blob)}), "/files/music/song.mp3")
    async with running(exchange) as task:
        await until(lambda: len(exchange.messages) > 5)
        exchange.reading.clear()
        await still()
        taken = len(blob.taken)
        await still()
        assert len(blob.taken) == taken < 900
        assert taken <= len(exchange.messages) + 1
        exchange.reading.set()
        await asyncio.wait_for(task, 5)
    assert exchange.answer().body == b"x" * 1_000_000


async def test_a_reader_that_pauses_is_not_read_ahead_for_where_there_is_no_size() -> None:
    radio = Radio(1000)
    exchange = Exchange(Site({"music": radio}), "/files/music/live.mp3")
    async with running(exchange) as task:
        await until(lambda: len(exchange.messages) > 5)
        exchange.reading.clear()
        await still()
        assert radio.given <= len(exchange.messages) + 1
        exchange.reading.set()
        await asyncio.wait_for(task, 5)
    assert len(exchange.answer().body) == 1_000_000


async def test_a_reader_that_pauses_does_not_stop_another() -> None:
    site = Site({"music": Stub(Counting(100_000, "v:counting"))})
    paused = Exchange(site, "/files/music/song.mp3")
    async with running(paused):
        await until(lambda: len(paused.messages) > 2)
        paused.reading.clear()
        assert len((await ask(site, "/files/music/other.mp3")).body) == 100_000


async def test_a_large_piece_leaves_in_small_messages() -> None:
    exchange = Exchange(Site({"music": Stub(literal(bytes(1_000_000), "v:1"))}), "/files/music/song.mp3")
    await exchange.run()
    assert len(exchange.answer().body) == 1_000_000
    assert max(len(message.get("body", b"")) for message in exchange.messages) <= 65_536


@dataclass(frozen=True, slots=True, eq=False)
class Waiting(Blob):
    """Gives a piece, then waits for its origin for ever."""

    before: bytes = b"some"
    waits: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def stream(self, start: int, stop: int) -> Pieces:
        try:
            if self.before:
                yield self.before
            self.waits.set()
            await asyncio.Event().wait()
        finally:
            self.closed.set()


@pytest.mark.parametrize("before", [b"", b"some"], ids=["before the first byte", "in the middle"])
async def test_a_client_that_leaves_ends_the_reading_behind_it(before: bytes) -> None:
    blob = Waiting(1000, "v:waiting", before)
    exchange = Exchange(Site({"music": Stub(blob)}), "/files/music/song.mp3")
    async with running(exchange) as task:
        await asyncio.wait_for(blob.waits.wait(), 5)
        exchange.gone.set()
        await asyncio.wait_for(blob.closed.wait(), 1)
        await asyncio.wait_for(task, 1)
    assert not exchange.whole


async def test_a_client_that_leaves_while_the_file_is_being_opened_ends_that() -> None:
    opening, closed = asyncio.Event(), asyncio.Event()

    class Slow(Stub):
        async def open(self, path: str, ask: Ask = Ask()) -> Blob:
            try:
                opening.set()
                await asyncio.Event().wait()
                raise AssertionError
            finally:
                closed.set()

    exchange = Exchange(Site({"music": Slow()}), "/files/music/song.mp3")
    async with running(exchange):
        await asyncio.wait_for(opening.wait(), 5)
        exchange.gone.set()
        await asyncio.wait_for(closed.wait(), 1)


async def test_a_client_that_leaves_while_it_does_not_read_ends_the_reading_behind_it() -> None:
    blob = Counting(1_000_000, "v:counting")
    exchange = Exchange(Site({"music": Stub(blob)}), "/files/music/song.mp3")
    async with running(exchange) as task:
        await until(lambda: len(exchange.messages) > 5)
        exchange.reading.clear()
        exchange.gone.set()
        await asyncio.wait_for(blob.closed.wait(), 1)
        await asyncio.wait_for(task, 1)


async def test_a_client_that_leaves_ends_what_has_no_size() -> None:
    radio = Radio(10**9)
    exchange = Exchange(Site({"music": radio}), "/files/music/live.mp3")
    async with running(exchange) as task:
        await until(lambda: len(exchange.messages) > 5)
        exchange.gone.set()
        await asyncio.wait_for(radio.closed.wait(), 1)
        await asyncio.wait_for(task, 1)


async def test_a_request_that_the_server_cancels_ends_the_reading_behind_it() -> None:
    blob = Waiting(1000, "v:waiting")
    exchange = Exchange(Site({"music": Stub(blob)}), "/files/music/song.mp3")
    async with running(exchange) as task:
        await asyncio.wait_for(blob.waits.wait(), 5)
        task.cancel()
        await asyncio.wait_for(blob.closed.wait(), 1)


async def test_other_kinds_of_scope_are_left_alone() -> None:
    async def never(*_: object) -> Any:
        raise AssertionError

    await Site({})({"type": "lifespan"}, never, never)
