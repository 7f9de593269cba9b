"""The HTTP origin, before an origin that tells the truth, and before one that does not (tests/fakes/origin.py)."""

import asyncio
import gc
import gzip
import logging
import os
import random
import shutil
import socket
import ssl
import subprocess
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from email.utils import formatdate
from pathlib import Path
from threading import Thread
from types import NoneType

import pytest

from playhead import (
    Ask,
    Blob,
    Busy,
    Changed,
    Damaged,
    Denied,
    Failure,
    Malformed,
    NotFound,
    Piece,
    Unavailable,
    Unsized,
)
from playhead.assemble import web
from playhead.blob import Pieces
from playhead.origins import fetch, index
from playhead.origins import web as origin_web
from playhead.origins.fetch import Access
from playhead.origins.web import WebTree
from tests.fakes import origin as lies
from tests.fakes.origin import Asked, Fault, Origin, each, header, settled
from tests.fakes.proxies import HttpProxy, SocksProxy
from tests.laws import ROUNDS, check_blob, check_tree, collected, taken

DATA = random.Random(7).randbytes(1000)
OTHER = random.Random(10).randbytes(1000)  # another version of it
LARGE = random.Random(8).randbytes(300_000)
A, B = 100, 200  # the range that the faults are about
TREE = {"one": DATA, "folder/two": LARGE, "folder/inner/three": b"3", "empty": b""}
DEADLINE = 20.0


@asynccontextmanager
async def serving(
    files: dict[str, bytes] | None = None, access: Access = Access(), *, path: str = "", **how: object
) -> AsyncIterator[tuple[Origin, WebTree]]:
    """An origin and a tree of it; when both are closed, no connection and no task may be left."""
    async with asyncio.timeout(DEADLINE):
        async with Origin({"f": DATA} if files is None else files, **how) as origin:  # type: ignore[arg-type]
            tree = WebTree(origin.url + path, access)
            try:
                yield origin, tree
            finally:
                await tree.aclose()
            await settled(lambda: not origin.links)
        await settled(lambda: asyncio.all_tasks() == {asyncio.current_task()})


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SILENCE", 0.4)
    monkeypatch.setattr(fetch, "CONNECT", 0.4)


async def got(stream: AsyncIterator[Piece]) -> tuple[bytes, Failure | None]:
    """What a stream gave, and how it failed, if it did."""
    data = b""
    try:
        async with aclosing(stream) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                data += taken(piece)
    except Failure as failure:
        assert "\n" not in str(failure)
        return data, failure
    return data, None


async def names(tree: WebTree, folder: str = "") -> list[str]:
    return [entry.name async for entry in tree.entries(folder)]


async def refused(tree: WebTree, kind: type[Failure], says: str | None = None, path: str = "f") -> None:
    """Whatever is wanted of it fails in this way."""
    for wanted in (tree.open, tree.find, tree.flow, lambda _: names(tree)):
        with pytest.raises(kind, match=says):
            doing = wanted(path)
            await (collected(doing) if wanted == tree.flow else doing)  # type: ignore[arg-type, misc]


# ── the law ──


@pytest.mark.parametrize("validators", ["etag", "modified", "weak", "young", ""])
async def test_a_folder_is_its_files(validators: str) -> None:
    async with serving(TREE, validators=validators) as (_, tree):
        await check_tree(tree, TREE)


async def test_a_server_without_ranges_is_read_exactly() -> None:
    async with serving(TREE, ranges=False) as (_, tree):
        await check_tree(tree, TREE)


async def test_a_folder_below_the_root_of_a_server_is_a_tree() -> None:
    async with serving({"가 나/하나": DATA, "가 나/둘/셋": b"3", "out": b""}, path="가 나/") as (_, tree):
        await check_tree(tree, {"하나": DATA, "둘/셋": b"3"})


async def test_a_url_of_one_file_is_a_tree_of_it() -> None:
    async with serving({"d/노래 #1.mp3": DATA}, path="d/%EB%85%B8%EB%9E%98%20%231.mp3?token=a") as (origin, tree):
        assert tree.single == "노래 #1.mp3"
        await check_tree(tree, {"노래 #1.mp3": DATA})
        assert {asked.query for asked in origin.requests} == {"token=a"}


async def test_a_signed_url_is_sent_as_it_was_given() -> None:
    target = "d/%66ile?path=a%2Fb%3Fc&to=%7Eme&sig=a+b%2B%3D%3D~"
    async with serving({"d/file": DATA}, path=target) as (origin, tree):
        assert await (await tree.open("file")).read() == DATA
        assert origin.requests[0].target == f"/{target}"


async def test_a_url_of_a_folder_without_its_slash_says_so() -> None:
    async with serving({"d/f": DATA}, path="d") as (_, tree):
        await refused(tree, Malformed, "end the URL with '/'", path="d")


async def test_a_folder_is_not_read_as_a_file() -> None:
    async with serving({"d/f": DATA}) as (_, tree):
        with pytest.raises(NotFound):
            await tree.open("d")
        with pytest.raises(NotFound):
            await collected(tree.flow("d"))


async def test_twenty_streams_at_once_are_their_bytes() -> None:
    files = {f"{number}": random.Random(number).randbytes(500_000 + number) for number in range(20)}
    async with serving(files) as (origin, tree):

        async def read(name: str) -> bool:
            return await (await tree.open(name)).read() == files[name]

        assert all(await asyncio.gather(*map(read, files)))
        assert len(origin.requests) == 20


async def test_many_readers_of_one_blob_do_not_disturb_each_other() -> None:
    async with serving({"f": LARGE}) as (_, tree):
        await check_blob(await tree.open("f"), LARGE, rounds=20)


# ── one round trip ──


ASKS = [
    (Ask(), "bytes=0-", slice(0, None)),
    (Ask(3, 8), "bytes=3-7", slice(3, 8)),
    (Ask(990), "bytes=990-", slice(990, None)),
    (Ask(None, -4), "bytes=-4", slice(-4, None)),
    (Ask(0, 1), "bytes=0-0", slice(0, 1)),
]


@pytest.mark.parametrize("data", [DATA, LARGE], ids=["short", "long"])
@pytest.mark.parametrize(("ask", "wanted", "part"), ASKS, ids=[wanted for _, wanted, _ in ASKS])
async def test_a_cold_read_is_one_request(ask: Ask, wanted: str, part: slice, data: bytes) -> None:
    async with serving({"f": data}) as (origin, tree):
        blob = await tree.open("f", ask)
        await asyncio.sleep(0.02)  # an answer that has come in full waits as well
        start, stop, _ = part.indices(blob.size)
        assert await collected(blob.stream(start, stop)) == data[part]
        assert [(asked.method, asked.headers["range"]) for asked in origin.requests] == [("GET", wanted)]
        assert origin.requests[0].headers["accept-encoding"] == "identity"


async def test_the_empty_file_is_one_request() -> None:
    async with serving({"f": b""}) as (origin, tree):
        assert await (await tree.open("f")).read() == b""
        assert len(origin.requests) == 1


async def test_nothing_asks_for_heads_first() -> None:
    async with serving(TREE) as (origin, tree):
        await check_tree(tree, TREE)
        assert {asked.method for asked in origin.requests} == {"GET"}


async def test_a_file_without_a_length_flows_in_one_request() -> None:
    async with serving() as (origin, tree):
        origin.always["f"] = each(lies.whole, lies.chunked)
        with pytest.raises(Unsized):
            await tree.open("f")
        assert await collected(tree.flow("f")) == DATA
        assert len(origin.requests) == 1


async def test_ranges_that_are_read_to_their_end_share_a_connection() -> None:
    async with serving() as (origin, tree):
        blob = await tree.open("f", Ask(0, 10))
        for start in range(0, 100, 10):
            assert await collected(blob.stream(start, start + 10)) == DATA[start : start + 10]
        assert (len(origin.requests), origin.connections) == (10, 1)


async def test_a_kept_connection_that_the_origin_has_closed_is_no_failure() -> None:
    async with serving() as (origin, tree):
        assert await (await tree.open("f")).read() == DATA
        for link in list(origin.links):
            link.reset()
        assert await (await tree.open("f")).read() == DATA


# ── answers that wait ──


async def test_an_answer_that_nobody_takes_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin_web, "PATIENCE", 0.1)
    large = bytes(40 << 20)
    async with serving({"f": large}) as (origin, tree):
        blob = await tree.open("f")
        assert origin.busy == 1
        await settled(lambda: origin.open == 0)
        assert await collected(blob.stream(5, 10)) == bytes(5)
        assert len(origin.requests) == 2


async def test_an_answer_whose_blob_is_gone_is_closed() -> None:
    async with serving({"f": bytes(40 << 20)}) as (origin, tree):
        blob = await tree.open("f")
        assert origin.busy == 1
        del blob
        await settled(lambda: origin.open == 0)


async def test_an_answer_without_a_length_that_nobody_takes_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin_web, "PATIENCE", 0.1)
    async with serving() as (origin, tree):
        origin.script["f"] = [each(lies.whole, lies.chunked, lies.hang(10)), each(lies.whole, lies.chunked)]
        with pytest.raises(Unsized):
            await tree.open("f")
        await settled(lambda: origin.open == 0)
        assert await collected(tree.flow("f")) == DATA


async def test_a_stream_that_is_closed_early_closes_its_connection() -> None:
    async with serving({"f": bytes(40 << 20)}) as (origin, tree):
        for _ in range(3):
            blob = await tree.open("f")
            async with aclosing(blob.stream(0, blob.size)) as stream:
                await anext(stream)
                assert origin.busy == 1
            await settled(lambda: origin.open == 0)


async def test_a_flow_that_is_closed_early_closes_its_connection() -> None:
    async with serving({"f": bytes(40 << 20)}) as (origin, tree):
        async with aclosing(tree.flow("f")) as stream:
            await anext(stream)
        await settled(lambda: origin.open == 0)


@pytest.mark.parametrize("fault", [lies.hang(), lies.hang(5)], ids=["before the head", "in the body"])
async def test_a_reader_that_is_cancelled_closes_its_connection(fault: Fault) -> None:
    async with serving() as (origin, tree):
        origin.always["f"] = fault
        reading = asyncio.ensure_future(collected(tree.flow("f")))
        await settled(lambda: origin.busy == 1)
        reading.cancel()
        await asyncio.wait([reading])
        await settled(lambda: origin.open == 0)


async def test_a_listing_that_is_cancelled_closes_its_connection() -> None:
    async with serving({"d/f": DATA}) as (origin, tree):
        origin.always["d/"] = lies.hang(5)
        reading = asyncio.ensure_future(names(tree, "d"))
        await settled(lambda: origin.busy == 1)
        reading.cancel()
        await asyncio.wait([reading])
        await settled(lambda: origin.open == 0)


async def test_a_reader_that_pauses_for_longer_than_the_silence_loses_nothing(impatient: None) -> None:
    large = random.Random(9).randbytes(24 << 20)
    async with serving({"f": large}) as (_, tree):
        blob, data = await tree.open("f"), bytearray()
        async with aclosing(blob.stream(0, blob.size)) as stream:
            async for piece in stream:
                if not data:
                    await asyncio.sleep(1.0)
                data += taken(piece)
        assert data == large


async def test_a_reader_that_pauses_holds_the_origin_back() -> None:
    async with serving({"f": bytes(64 << 20)}) as (origin, tree):
        blob = await tree.open("f")
        async with aclosing(blob.stream(0, blob.size)) as stream:
            await anext(stream)
            await asyncio.sleep(0.3)
            assert origin.sent < 32 << 20


async def test_a_tree_that_is_closed_fails_as_one_of_ours() -> None:
    async with serving() as (_, tree):
        blob = await tree.open("f", Ask(0, 0))
        await tree.aclose()
        await refused(tree, Failure)
        with pytest.raises(Failure):
            await blob.read(5, 10)


def test_a_tree_that_is_closed_closes_the_answers_that_wait() -> None:
    kept: list[Blob] = []

    async def open_two() -> None:
        async with serving({"f": bytes(40 << 20), "g": DATA}) as (origin, tree):
            origin.always["g"] = each(lies.whole, lies.chunked, lies.hang(10))
            kept.append(await tree.open("f"))
            with pytest.raises(Unsized):
                await tree.open("g")

    gc.collect()
    asyncio.run(open_two())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        kept.clear()
        gc.collect()
    assert [str(warning.message) for warning in said] == []


async def test_a_tree_that_is_closed_ends_its_streams() -> None:
    async with serving({"f": bytes(40 << 20)}) as (_, tree):
        blob = await tree.open("f")
        stream = blob.stream(0, blob.size)
        await anext(stream)
        await tree.aclose()
        _, failure = await got(stream)
        assert failure


async def test_three_hundred_idle_streams_do_not_make_another_wait_for_ever() -> None:
    async with serving({"f": DATA, "g": DATA}) as (origin, tree):
        origin.always["f"] = lies.hang(1)
        streams: list[Pieces] = []
        try:
            async with asyncio.timeout(6):
                for _ in range(300):
                    streams.append((await tree.open("f")).stream(0, 1000))
                    assert await anext(streams[-1]) == DATA[:1]
                assert await (await tree.open("g")).read() == DATA
        finally:
            for stream in streams:
                await stream.aclose()


# ── tags ──

KINDS = [("etag", "v:"), ("modified", "m:"), ("weak", ""), ("young", ""), ("", "")]


@pytest.mark.parametrize(("validators", "kind"), KINDS)
async def test_a_tag_is_made_of_a_strong_validator_only(validators: str, kind: str) -> None:
    async with serving({"f": DATA, "g": DATA}, validators=validators) as (origin, tree):
        tags = [(await tree.open(path)).tag for path in ("f", "f", "g")]
        assert (await tree.find("f")).tag == tags[0]
        if not kind:
            assert tags == [None] * 3
            return
        assert tags[0] and tags[0].startswith(kind)
        assert tags[0] == tags[1] != tags[2]
        origin.files["f"] = LARGE
        assert (await tree.open("f")).tag not in (None, *tags)


async def test_a_tag_does_not_depend_on_what_was_asked_first() -> None:
    async with serving({"f": DATA}, validators="modified") as (_, tree):
        asks = (Ask(), Ask(0, 0), Ask(5, 9), Ask(None, -3), Ask(2000))
        assert len({(await tree.open("f", ask)).tag for ask in asks}) == 1


MODIFIED = [(59, False), (61, True), (-5, False)]


@pytest.mark.parametrize(("age", "strong"), MODIFIED)
async def test_a_date_is_strong_a_minute_before_the_answer(age: int, strong: bool) -> None:
    async with serving(validators="") as (origin, tree):
        now = time.time() - 86400  # the clock that counts is the origin's
        date, modified = formatdate(now, usegmt=True), formatdate(now - age, usegmt=True)
        origin.always["f"] = each(header("Date", date), header("Last-Modified", modified))
        assert ((await tree.open("f")).tag is not None) == strong


NO_DATES = ["yesterday", "", "0", "Fri, 31 Feb 2026 10:00:00 GMT", "Fri, 31 Dec 99999 10:00:00 GMT"]


@pytest.mark.parametrize("text", NO_DATES)
async def test_a_date_that_is_none_tags_nothing(text: str) -> None:
    async with serving(validators="") as (origin, tree):
        origin.always["f"] = header("Last-Modified", text)
        blob = await tree.open("f")
        assert (blob.tag, blob.modified) == (None, None)
        assert await blob.read() == DATA


@pytest.mark.parametrize("etag", ["abc", "W/", "", "'abc'", 'w/"abc"'])
async def test_what_is_no_strong_etag_tags_nothing(etag: str) -> None:
    async with serving(validators="") as (origin, tree):
        origin.always["f"] = header("ETag", etag)
        assert (await tree.open("f")).tag is None


async def test_files_of_different_credentials_never_share_a_tag(papers: Path) -> None:
    async with Origin({"f": DATA}) as origin:
        url, tags = origin.url, []
        ways: list[dict[str, str]] = [
            {"url": url},
            {"url": url.replace("//", "//u:one@")},
            {"url": url.replace("//", "//u:two@")},
            {"url": url, "bearer": "one"},
            {"url": url, "bearer": "two"},
            {"url": url, "user": "u", "password": "three"},
            {"url": url, "cert": str(papers / "client.pem")},
            {"url": url, "cert": str(papers / "other.pem")},
        ]
        for way in ways:
            for tree in (web(**way), web(**way)):  # type: ignore[arg-type]
                tags.append((await tree.open("f")).tag)
                await tree.aclose()
        tags.append(await _tag(web(url, headers={"X-Token": "one"})))
        tags.append(await _tag(web(url, headers={"X-Token": "two"})))
        assert None not in tags
        assert tags[0:16:2] == tags[1:16:2]
        assert len(set(tags)) == len(ways) + 2


async def _tag(tree: WebTree) -> str | None:
    try:
        return (await tree.open("f")).tag
    finally:
        await tree.aclose()


# ── faults: what it may answer, and what must come of it at the first answer and at a later range ──

EXACT = (NoneType,)
CHUNKS = b"HTTP/1.1 206 OK\r\nTransfer-Encoding: %b\r\nContent-Range: bytes 100-199/1000\r\nETag: %b\r\n\r\n"


def framed(body: bytes, coding: bytes = b"chunked") -> Fault:
    """A right head with this after it."""

    def edit(answer: lies.Answer, asked: Asked) -> None:
        answer.raw = CHUNKS % (coding, answer.headers["ETag"].encode()) + body

    return edit


def disguised(answer: lies.Answer, asked: Asked) -> None:
    """multipart/byteranges that also has the Content-Range of a single part, and no length."""
    shown = answer.headers["Content-Range"]
    lies.multipart(answer, asked)
    answer.headers["Content-Range"], answer.chunked = shown, True


def unsatisfied_but_for_one(answer: lies.Answer, asked: Asked) -> None:
    if asked.headers.get("range") != "bytes=0-0":
        lies.unsatisfied(answer, asked)


def hinted(answer: lies.Answer, asked: Asked) -> None:
    """Two answers of the kind that only announces one."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
    answer.raw = hints + lies.head(answer) + answer.body


def many_headers(answer: lies.Answer, asked: Asked) -> None:
    answer.headers |= {f"X-{number}": "x" for number in range(20_000)}


ZIPPED = gzip.compress(DATA[A:B])
zipped_transfer = framed(b"%x\r\n%b\r\n0\r\n\r\n" % (len(ZIPPED), ZIPPED), b"gzip, chunked")
broken_chunks = framed(b"5\r\n" + DATA[A : A + 5] + b"\r\nzz\r\n")
Expected = tuple[type[Failure] | type[None], ...]
FAULTS: dict[str, tuple[Fault, Expected, Expected]] = {
    # ranges
    "200 to a range": (lies.whole, EXACT, EXACT),
    "a range one byte later": (lies.moved(1, 1), (Damaged,), (Damaged,)),
    "a range one byte earlier": (lies.moved(-1, -1), (Damaged,), (Damaged,)),
    "a Content-Range one byte later": (lies.moved(1, 1, honest=False), (Damaged,), (Damaged,)),
    "a range that is too short": (lies.moved(0, -1), (Damaged,), (Damaged,)),
    "a Content-Range that is too short": (lies.moved(0, -1, honest=False), (Damaged,), (Damaged,)),
    "a range that is too long": (lies.moved(0, 1), (Damaged,), (Damaged,)),
    "a range that begins too early": (lies.moved(-1, 0), (Damaged,), (Damaged,)),
    "a total that is too large": (lies.total(1007), EXACT, (Changed,)),
    "a total inside the range": (lies.total(150), (Damaged,), (Damaged,)),
    "a total before the range": (lies.total(50), (Damaged,), (Damaged,)),
    "no total": (lies.total("*"), (Unsized,), (Changed, Damaged, Unsized)),
    "no Content-Range": (header("Content-Range", None), (Damaged,), (Damaged,)),
    "a Content-Range in capitals": (header("Content-Range", "BYTES 100-199/1000"), EXACT, EXACT),
    "an inverted Content-Range": (header("Content-Range", "bytes 199-100/1000"), (Damaged,), (Damaged,)),
    "a Content-Range of items": (header("Content-Range", "items 100-199/1000"), (Damaged,), (Damaged,)),
    "a Content-Range of words": (header("Content-Range", "bytes all/1000"), (Damaged,), (Damaged,)),
    "multipart": (lies.multipart, (Damaged,), (Damaged,)),
    "multipart in disguise": (disguised, (Damaged,), (Damaged,)),
    "416 to everything": (lies.unsatisfied, (Damaged,), (Damaged,)),
    "416 to all but the first byte": (unsatisfied_but_for_one, (Damaged,), (Damaged,)),
    "416 without a size": (each(lies.unsatisfied, header("Content-Range", None)), (Damaged,), (Damaged,)),
    # encodings
    "gzip": (lies.zipped, (Damaged,), (Damaged,)),
    "gzip of the whole": (each(lies.whole, lies.zipped), (Damaged,), (Damaged,)),
    "gzip of the transfer": (zipped_transfer, (Damaged,), (Damaged,)),
    # redirects
    "a redirect": (lies.redirect("/other"), EXACT, EXACT),
    "a redirect that is kept": (lies.redirect("/other", 307), EXACT, EXACT),
    "a redirect to another URL of it": (lies.redirect("/%6Fther?a=%2F&b#c"), EXACT, EXACT),
    "a redirect to nowhere": (lies.redirect("/nowhere"), (NotFound,), (NotFound,)),
    "a redirect in a circle": (lies.redirect("/f"), (Unavailable,), (Unavailable,)),
    "a redirect to a file": (lies.redirect("file:///etc/passwd"), (Denied,), (Denied,)),
    "a redirect to ftp": (lies.redirect("ftp://127.0.0.1/f"), (Denied,), (Denied,)),
    "a redirect to data": (lies.redirect("data:text/plain,evil"), (Denied,), (Denied,)),
    "a redirect to no URL": (lies.redirect("http://[::1"), (Damaged,), (Damaged,)),
    "a redirect to no port": (lies.redirect("http://127.0.0.1:99999/"), (Damaged,), (Damaged,)),
    "a redirect without a place": (lies.status(302), (Damaged,), (Damaged,)),
    # refusals
    "401": (lies.status(401, WWW_Authenticate="Basic"), (Denied,), (Denied,)),
    "403": (lies.status(403), (Denied,), (Denied,)),
    "404": (lies.status(404), (NotFound,), (NotFound,)),
    "407": (lies.status(407), (Unavailable,), (Unavailable,)),
    "408": (lies.status(408), (Unavailable,), (Unavailable,)),
    "410": (lies.status(410), (NotFound,), (NotFound,)),
    "429": (lies.status(429, Retry_After="3"), (Busy,), (Busy,)),
    "429 and nonsense": (lies.status(429, Retry_After="²"), (Busy,), (Busy,)),
    "500": (lies.status(500), (Unavailable,), (Unavailable,)),
    "503": (lies.status(503, Retry_After="Wed, 21 Oct 2099 07:28:00 GMT"), (Unavailable,), (Unavailable,)),
    "204": (lies.status(204), (Damaged,), (Damaged,)),
    "304": (lies.status(304), (Damaged,), (Damaged,)),
    "418": (lies.status(418), (Damaged,), (Damaged,)),
    # time
    "silence": (lies.hang(), (Unavailable,), (Unavailable,)),
    "silence before the body": (lies.hang(0), (Unavailable,), (Unavailable,)),
    "silence in the body": (lies.hang(5), (Unavailable,), (Unavailable,)),
    "silence before the last byte": (lies.hang(99), (Unavailable,), (Unavailable,)),
    "a body that drips": (lies.drip(200), EXACT, EXACT),
    "a head that drips": (lies.slow_head(500), EXACT, EXACT),
    "a late answer": (lies.late(0.1), EXACT, EXACT),
    # connections
    "a reset in place of an answer": (lies.rst(-1), (Unavailable,), (Unavailable,)),
    "an end in place of an answer": (lies.short(-1), (Unavailable,), (Unavailable,)),
    "a reset in the body": (lies.rst(50), (Unavailable,), (Unavailable,)),
    "an end in the body": (lies.short(50), (Unavailable,), (Unavailable,)),
    "more than was announced": (lies.extra(b"more"), (NoneType, Damaged), (NoneType, Damaged)),
    "HTTP/1.0": (lies.old, EXACT, EXACT),
    "HTTP/1.0 that ends early": (each(lies.old, lies.cut(50)), (Unavailable,), (Unavailable,)),
    "the whole without a length": (each(lies.whole, lies.old), (Unsized,), (Changed,)),
    "chunks": (lies.chunked, EXACT, EXACT),
    "chunks of the whole": (each(lies.whole, lies.chunked), (Unsized,), (Changed,)),
    "chunks that end early": (each(lies.chunked, lies.cut(50)), (Unavailable,), (Unavailable,)),
    "chunks that are none": (broken_chunks, (Damaged, Unavailable), (Damaged, Unavailable)),
    "hints before the answer": (hinted, EXACT, EXACT),
    # not HTTP
    "garbage": (lies.garbage(), (Damaged,), (Damaged,)),
    "a TLS alert": (lies.garbage(b"\x15\x03\x01\x00\x02\x02\x46"), (Damaged, Unavailable), (Damaged, Unavailable)),
    "a length that is none": (header("Content-Length", "abc"), (Damaged,), (Damaged,)),
    "a negative length": (header("Content-Length", "-5"), (Damaged,), (Damaged,)),
    "a head of a megabyte": (lies.huge_head(), (Damaged,), (Damaged,)),
    "20,000 headers": (many_headers, (Damaged,), (Damaged,)),
}


@pytest.mark.parametrize("when", ["first", "later"])
@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_gives_right_bytes_or_the_right_failure(name: str, when: str, impatient: None) -> None:
    fault, first, later = FAULTS[name]
    async with serving({"f": DATA, "other": DATA}) as (origin, tree):
        blob = await tree.open("f", Ask(0, 0)) if when == "later" else None
        origin.always["f"] = fault
        data, failure = await _faulty(tree, blob)
        assert type(failure) in (first if blob is None else later), repr(failure)
        assert DATA[A:B] == data if failure is None else DATA[A:B].startswith(data)
        del origin.always["f"]
        await settled(lambda: origin.busy == 0)
        assert await (await tree.open("f")).read() == DATA, "the fault is still on a connection"


async def _faulty(tree: WebTree, blob: Blob | None) -> tuple[bytes, Failure | None]:
    try:
        blob = blob or await tree.open("f", Ask(A, B))
    except Failure as failure:
        return b"", failure
    return await got(blob.stream(A, B))


VERSIONS = {
    "another ETag": lies.instead(OTHER, ETag='"2"', Last_Modified=lies.OLD),
    "another date": lies.instead(OTHER, Last_Modified="Sun, 04 Jan 2026 10:00:00 GMT"),
    "no validator": lies.instead(OTHER),
    "the same bytes without a validator": lies.instead(DATA),
    "a longer one": lies.instead(OTHER + b"x", ETag='"2"'),
    "one that ends in the range": lies.instead(OTHER[:150], ETag='"2"'),
    "one that ends before the range": lies.instead(OTHER[:50], ETag='"2"'),
    "an empty one": lies.instead(b"", ETag='"2"'),
    "an empty one, with 416": each(lies.instead(b"", ETag='"2"'), lies.unsatisfied),
    "the whole of another one": each(lies.instead(OTHER, ETag='"2"'), lies.whole),
}


@pytest.mark.parametrize("validators", ["etag", "modified"])
@pytest.mark.parametrize("name", VERSIONS)
async def test_bytes_of_two_versions_are_never_mixed(name: str, validators: str) -> None:
    async with serving(validators=validators) as (origin, tree):
        blob = await tree.open("f", Ask(0, 10))
        origin.always["f"] = VERSIONS[name]
        assert await collected(blob.stream(0, 10)) == DATA[:10]  # the answer that opened it
        for start, stop in ((A, B), (0, 1), (990, 1000)):
            data, failure = await got(blob.stream(start, stop))
            assert (data, type(failure)) == (b"", Changed), repr(failure)


async def test_a_version_of_another_size_under_the_same_validator_is_another() -> None:
    async with serving() as (origin, tree):
        blob = await tree.open("f", Ask(0, 10))
        origin.always["f"] = lies.total(1001)
        with pytest.raises(Changed):
            await blob.read(A, B)


async def test_another_version_can_be_opened_at_once() -> None:
    async with serving() as (origin, tree):
        before = await tree.open("f", Ask(0, 10))
        origin.files["f"] = LARGE
        after = await tree.open("f", Ask(0, 10))
        assert (before.size, after.size) == (1000, 300_000)
        assert before.tag != after.tag
        assert await after.read() == LARGE


async def test_416_where_a_range_reaches_beyond_the_end_is_survived() -> None:
    async with serving() as (origin, tree):
        origin.always["f"] = lies.unsatisfied_past_the_end
        blob = await tree.open("f", Ask(990, 5000))
        assert await collected(blob.stream(990, 1000)) == DATA[990:]
        await check_blob(blob, DATA)


async def test_a_range_beyond_the_end_opens_the_file() -> None:
    async with serving() as (_, tree):
        for ask in (Ask(1000), Ask(5000, 6000), Ask(None, -5000)):
            blob = await tree.open("f", ask)
            assert await blob.read() == DATA


# ── connections that break, at every byte ──

SMALL = random.Random(11).randbytes(40)
BORDERS = [k * 65536 + d for k in (1, 2) for d in (-1, 0, 1)] + [0, 1, 199_999]
BREAKS = {"reset": lies.rst, "end": lies.short}


@pytest.mark.parametrize("breaking", BREAKS)
@pytest.mark.parametrize("when", ["first", "later"])
async def test_a_body_that_breaks_at_any_byte_gives_a_true_beginning_and_fails(breaking: str, when: str) -> None:
    async with serving({"f": SMALL}) as (origin, tree):
        for at in range(40):
            await _broken(origin, tree, SMALL, BREAKS[breaking](at), when == "later")
            await settled(lambda: origin.busy == 0)


@pytest.mark.parametrize("breaking", BREAKS)
@pytest.mark.parametrize("when", ["first", "later"])
async def test_a_body_that_breaks_near_a_border_gives_a_true_beginning_and_fails(breaking: str, when: str) -> None:
    large = LARGE[:200_000]
    async with serving({"f": large}) as (origin, tree):
        for at in BORDERS:
            await _broken(origin, tree, large, BREAKS[breaking](at), when == "later")


async def _broken(origin: Origin, tree: WebTree, data: bytes, fault: Fault, later: bool) -> None:
    origin.script["f"] = [None, fault] if later else [fault]
    try:
        blob = await tree.open("f", Ask(0, 0) if later else Ask())
    except Unavailable:
        return  # where it broke before the head had been read
    read, failure = await got(blob.stream(0, len(data)))
    assert type(failure) is Unavailable
    assert data.startswith(read) and len(read) < len(data)


@pytest.mark.parametrize("ending", ["rst", "fin"])
async def test_a_head_that_breaks_at_any_byte_is_a_failure(ending: str) -> None:
    async with serving({"f": SMALL}) as (origin, tree):
        head = len(lies.head(origin.answer(Asked("GET", "/f", "f", "", {"host": "", "range": "bytes=0-"}, 0))))
        for at in range(0, head, 3):
            origin.always["f"] = lies.beheaded(at, ending)
            with pytest.raises((Unavailable, Damaged)):
                await tree.open("f")
            await settled(lambda: origin.busy == 0)


@pytest.mark.parametrize("breaking", [lies.cut, lies.rst], ids=["end", "reset"])
async def test_a_flow_in_chunks_that_breaks_at_any_byte_fails(breaking: Callable[[int], Fault]) -> None:
    async with serving({"f": SMALL}) as (origin, tree):
        for at in range(41):
            origin.always["f"] = each(lies.whole, lies.chunked, breaking(at))
            read, failure = await got(tree.flow("f"))
            assert type(failure) is Unavailable
            assert SMALL.startswith(read)
            await settled(lambda: origin.busy == 0)


async def test_a_flow_of_a_known_length_that_breaks_fails() -> None:
    async with serving({"f": SMALL}) as (origin, tree):
        for at in range(40):
            origin.always["f"] = lies.short(at)
            read, failure = await got(tree.flow("f"))
            assert type(failure) is Unavailable
            assert SMALL.startswith(read)


