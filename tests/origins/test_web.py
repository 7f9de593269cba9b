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
from typing import cast

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
from playhead.blob import Pieces
from playhead.origins import fetch, index
from playhead.origins import ranged as origin_ranged
from playhead.origins.fetch import Access
from playhead.origins.web import WebTree
from playhead.places import web
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
    monkeypatch.setattr(origin_ranged, "PATIENCE", 0.1)
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
    monkeypatch.setattr(origin_ranged, "PATIENCE", 0.1)
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
NO_DATES += ["Fri, 31 Dec 9999 23:59:59 -0100"]  # a year later in UTC, where there is none


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
    "a range that is too long": (lies.moved(0, 1), EXACT, EXACT),
    "a range that begins too early": (lies.moved(-1, 0), EXACT, EXACT),
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


async def test_a_range_that_begins_and_ends_too_early_is_refused() -> None:
    async with serving({"f": DATA}) as (origin, tree):
        blob = await tree.open("f", Ask(0, 0))
        origin.always["f"] = lies.moved(-1, -1)
        data, failure = await _faulty(tree, blob)
        assert isinstance(failure, Damaged) and data == b""


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


async def test_an_answer_that_comes_unasked_is_not_taken_for_the_next() -> None:
    async with serving({"f": DATA, "g": LARGE[:1000]}) as (origin, tree):
        evil = b"HTTP/1.1 206 OK\r\nContent-Length: 1000\r\nContent-Range: bytes 0-999/1000\r\n\r\n" + DATA
        origin.script["f"] = [lies.extra(evil, after=0.05)]
        assert await (await tree.open("f")).read() == DATA
        await settled(lambda: origin.busy == 0)
        await asyncio.sleep(0.05)
        assert await (await tree.open("g")).read() == LARGE[:1000]


@pytest.mark.parametrize("seed", range(max(1, ROUNDS // 4)))
async def test_whatever_it_answers_no_byte_is_wrong(seed: int, impatient: None) -> None:
    chance = random.Random(seed)
    faults = [fault for name, (fault, _, _) in FAULTS.items() if "drips" not in name]
    faults += [*VERSIONS.values(), *[lies.rst(chance.randint(0, 900)) for _ in range(10)], *[None] * 20]
    async with serving({"f": DATA, "other": DATA}) as (origin, tree):
        blob = await tree.open("f", Ask(0, 10))
        origin.script["f"] = chance.choices(faults, k=60)

        async def read() -> None:
            for _ in range(5):
                start, stop = sorted(chance.choices(range(1001), k=2))
                data, failure = await got(blob.stream(start, stop))
                assert data == DATA[start:stop] if failure is None else DATA[start:stop].startswith(data)

        await asyncio.gather(*(read() for _ in range(8)))
        await settled(lambda: origin.busy == 0)


async def test_descriptors_do_not_grow_with_failures(impatient: None) -> None:
    async with serving({"f": DATA}) as (origin, tree):
        await (await tree.open("f")).read()
        before = _descriptors()
        faults = [lies.rst(5), lies.short(5), lies.status(503), lies.zipped, lies.garbage(), lies.redirect("/f")]
        for fault in faults * 10:
            origin.always["f"] = fault
            with pytest.raises(Failure):
                await (await tree.open("f")).read()
        await settled(lambda: origin.busy == 0)
        assert _descriptors() <= before + 4


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# ── when to try again ──


async def test_it_says_when_to_try_again() -> None:
    in_a_minute = formatdate(time.time() + 60, usegmt=True)
    said = {"3": (3, 3), "0": (0, 0), in_a_minute: (50, 61), lies.OLD: (0, 0), "soon": (None, None), "-1": (None, None)}
    async with serving() as (origin, tree):
        for code, kind in ((429, Busy), (503, Unavailable)):
            for text, (least, most) in said.items():
                origin.always["f"] = lies.status(code, Retry_After=text)
                with pytest.raises(kind) as caught:
                    await tree.open("f")
                assert caught.value.again
                after = caught.value.after
                assert after is None if least is None else after is not None and least <= after <= most


async def test_a_burst_of_503_fails_those_reads_and_no_other() -> None:
    async with serving() as (origin, tree):
        chance = random.Random(3)
        script = [lies.status(503) if chance.random() < 0.1 else None for _ in range(100)]
        blob, origin.script["f"] = await tree.open("f", Ask(0, 10)), list(script)
        for fault in script:
            data, failure = await got(blob.stream(A, B))
            assert (data, type(failure)) == ((b"", Unavailable) if fault else (DATA[A:B], NoneType))


# ── without a length, and nothing at all ──

LENGTHLESS = {
    "chunks": each(lies.whole, lies.chunked),
    "HTTP/1.0": each(lies.whole, lies.old),
    "no total": lies.total("*"),
}


@pytest.mark.parametrize("name", LENGTHLESS)
@pytest.mark.parametrize("ask", [Ask(), Ask(5), Ask(5, 9), Ask(None, -5)])
async def test_a_file_without_a_length_flows_exactly(name: str, ask: Ask) -> None:
    def spoiled(answer: lies.Answer, asked: Asked) -> None:
        if "range" in asked.headers:
            LENGTHLESS[name](answer, asked)
        else:
            each(lies.whole, lies.chunked)(answer, asked)

    async with serving({"f": LARGE}) as (origin, tree):
        origin.always["f"] = spoiled
        assert (await tree.find("f")).size is None
        with pytest.raises(Unsized):
            await tree.open("f", ask)
        assert await collected(tree.flow("f")) == LARGE
        assert await collected(tree.flow("f")) == LARGE


async def test_two_flows_of_one_file_do_not_disturb_each_other() -> None:
    async with serving({"f": LARGE}) as (origin, tree):
        origin.always["f"] = LENGTHLESS["chunks"]
        for _ in "ab":
            with pytest.raises(Unsized):
                await tree.open("f")
        assert await asyncio.gather(collected(tree.flow("f")), collected(tree.flow("f"))) == [LARGE, LARGE]


async def test_a_file_with_a_length_flows_too() -> None:
    async with serving({"f": LARGE}) as (_, tree):
        assert await collected(tree.flow("f")) == LARGE


async def test_a_refusal_never_flows() -> None:
    async with serving() as (origin, tree):
        for fault in (lies.unsatisfied, each(lies.unsatisfied, header("Content-Range", "bytes */0"))):
            origin.always["f"] = fault
            data, failure = await got(tree.flow("f"))
            assert data == b""
            assert failure


def inverted(answer: lies.Answer, asked: Asked) -> None:
    """What Go's net/http answers to a suffix of an empty file."""
    if "=-" in asked.headers["range"]:
        answer.status, answer.headers["Content-Range"] = 206, "bytes 0--1/0"


EMPTY = {"200": header("X-Nothing", ""), "416": lies.unsatisfied, "206 of nothing": inverted}


@pytest.mark.parametrize("name", EMPTY)
async def test_the_empty_file_is_empty(name: str) -> None:
    def ranges_only(answer: lies.Answer, asked: Asked) -> None:
        if "range" in asked.headers:
            EMPTY[name](answer, asked)

    async with serving({"f": b""}) as (origin, tree):
        origin.always["f"] = ranges_only
        for ask in (Ask(), Ask(0, 0), Ask(5), Ask(None, -5)):
            blob = await tree.open("f", ask)
            assert (blob.size, await blob.read()) == (0, b"")
        assert (await tree.find("f")).size == 0
        assert await collected(tree.flow("f")) == b""


# ── redirects and credentials ──


async def test_a_signed_url_that_has_run_out_is_asked_for_again() -> None:
    async with serving() as (origin, tree):
        lies.expiring(origin, "f")
        await check_blob(await tree.open("f"), DATA, rounds=4)


async def test_a_signature_that_is_refused_is_denied() -> None:
    async with serving() as (origin, tree):
        lies.expiring(origin, "f")
        blob = await tree.open("f", Ask(0, 10))
        origin.always["f"] = lies.redirect("/signed/f?sig=stale")
        with pytest.raises(Denied):
            await blob.read(A, B)


@pytest.mark.parametrize("location", ["/한", "/%ED%95%9C x", "/한%20x"])
async def test_a_redirect_to_a_name_that_is_not_encoded_is_followed(location: str) -> None:
    async with serving({"f": b"", "한": DATA, "한 x": DATA}) as (origin, tree):
        origin.always["f"] = lies.redirect(location)
        assert await (await tree.open("f")).read() == DATA


async def test_a_redirect_to_bytes_that_are_no_utf8_is_followed() -> None:
    async with serving({"f": b"", "\udcff": DATA, "\udcff x": DATA}) as (origin, tree):
        for location in ("/\udcff", "/\udcff%20x"):
            origin.always["f"] = lies.redirect(location)
            assert await (await tree.open("f")).read() == DATA


PHRASE = "Opensesame77"
WAYS: dict[str, dict[str, object]] = {
    "in the URL": {"userinfo": f"aladdin:{PHRASE}@"},
    "basic": {"user": "aladdin", "password": PHRASE},
    "bearer": {"bearer": PHRASE},
    "headers": {"headers": {"X-Token": PHRASE, "Cookie": f"session={PHRASE}"}},
}
SHOWN = {
    "in the URL": {"authorization": fetch.basic("aladdin", PHRASE)},
    "basic": {"authorization": fetch.basic("aladdin", PHRASE)},
    "bearer": {"authorization": f"Bearer {PHRASE}"},
    "headers": {"x-token": PHRASE, "cookie": f"session={PHRASE}"},
}


def let_in(url: str, way: str, path: str = "") -> WebTree:
    more = dict(WAYS[way])
    return web(url.replace("//", f"//{more.pop('userinfo', '')}") + path, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("way", WAYS)
async def test_credentials_go_to_the_origin_alone(way: str) -> None:
    async with (
        Origin({"d/f": DATA, "d/g": DATA}, wants=SHOWN[way]) as origin,
        Origin({"f": DATA}) as other,
        aclosing(let_in(origin.url, way)) as tree,
    ):
        assert await (await tree.open("d/f")).read() == DATA
        assert await names(tree, "d") == ["f", "g"]
        origin.always["d/g"] = lies.redirect("/d/f")
        assert await (await tree.open("d/g")).read() == DATA
        origin.always["d/g"] = lies.redirect(other.url + "f")
        assert await (await tree.open("d/g")).read() == DATA
        assert set(other.requests[0].headers) <= {"host", "accept", "accept-encoding", "user-agent", "range"}
        assert other.requests[0].headers["range"] == "bytes=0-"


@pytest.mark.parametrize("way", WAYS)
async def test_wrong_credentials_are_denied(way: str) -> None:
    async with (
        Origin({"f": DATA}, wants={"authorization": "other"}) as origin,
        aclosing(let_in(origin.url, way)) as tree,
    ):
        await refused(tree, Denied, "credentials")


@pytest.mark.parametrize("way", [*WAYS, "in the query"])
async def test_secrets_are_in_no_error_and_no_log(way: str, impatient: None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    query = f"?token={PHRASE}" if way == "in the query" else ""
    faults = [fault for name, (fault, first, _) in FAULTS.items() if NoneType not in first and "silence in" not in name]
    async with Origin({"f": DATA}) as origin:
        tree = web(origin.url + "f" + query) if query else let_in(origin.url, way)
        for fault in [
            *faults,
            lies.redirect(f"http://127.0.0.1:9/x?sig={PHRASE}"),
            lies.redirect(f"ftp://u:{PHRASE}@h/"),
        ]:
            origin.always["f"] = fault
            with pytest.raises(Failure) as caught:
                await collected(tree.flow("f"))
                await (await tree.open("f")).read()
            assert PHRASE not in f"{caught.value} {caught.value!r} {getattr(caught.value, '__notes__', '')}"
        await tree.aclose()
    assert caplog.records
    for record in caplog.records:
        assert PHRASE not in f"{record.getMessage()} {record.__dict__}"


WITH_LOGIN = ["http://u:{}@[::1/", "http://u:{}@h:99999/", "http://u:{}@h:port/", "ftp://u:{}@h/", "http://u:{}@/f"]
WITH_LOGIN += ["http://h:port/f?token={}", "ftp://h/f?token={}", "http://[::1/f?token={}"]


@pytest.mark.parametrize("url", WITH_LOGIN)
def test_a_url_that_is_none_is_refused_without_telling_its_secret(url: str) -> None:
    with pytest.raises(Malformed) as caught:
        web(url.format(PHRASE))
    assert PHRASE not in str(caught.value)


@pytest.mark.parametrize("url", ["http:///f", "http://", "https:f", "//h/f", "h/f", "http://h:-1/", "http://[::1]x/"])
def test_what_is_no_url_is_malformed(url: str) -> None:
    with pytest.raises(Malformed):
        web(url)


async def test_a_header_that_would_be_two_is_malformed() -> None:
    async with Origin({"f": DATA}) as origin:
        with pytest.raises(Malformed):
            async with aclosing(web(origin.url, headers={"X-Token": "a\r\nX-Evil: b"})) as tree:
                await tree.open("f")
        assert not origin.requests


# ── not to be reached ──


async def test_a_refused_connection_is_unavailable() -> None:
    async with Origin({}) as origin:
        pass
    async with aclosing(WebTree(origin.url)) as tree:
        await refused(tree, Unavailable, "cannot be reached")


async def test_a_connection_that_is_never_accepted_is_unavailable(impatient: None) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        async with asyncio.timeout(DEADLINE), aclosing(WebTree(f"http://127.0.0.1:{full.getsockname()[1]}/")) as tree:
            with pytest.raises(Unavailable, match="did not accept"):
                await tree.open("f")
        for client in waiting:
            client.close()


async def test_a_name_that_is_not_known_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    async with aclosing(WebTree("http://files.example/")) as tree:
        with pytest.raises(Unavailable, match="name cannot be resolved"):
            await tree.open("f")


async def test_a_name_server_that_is_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, impatient: None) -> None:
    def slow(*_: object, **__: object) -> None:
        time.sleep(2)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    began = time.monotonic()
    async with aclosing(WebTree("http://files.example/")) as tree:
        with pytest.raises(Unavailable):
            await tree.open("f")
    assert time.monotonic() - began < 1.5


async def test_a_name_of_several_hosts_is_reached_at_the_one_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = socket.getaddrinfo

    def two(host: str, port: int, *more: object, **named: object) -> list[object]:
        return [*asked("127.0.0.9", port, type=socket.SOCK_STREAM), *asked("127.0.0.1", port, type=socket.SOCK_STREAM)]

    async with Origin({"f": DATA}) as origin:
        monkeypatch.setattr(socket, "getaddrinfo", two)
        async with aclosing(WebTree(f"http://files.example:{origin.port}/")) as tree:
            assert await (await tree.open("f")).read() == DATA


# ── certificates ──

_SUBJECTS = {
    "server": "subjectAltName=IP:127.0.0.1,DNS:files.example",
    "elsewhere": "subjectAltName=DNS:elsewhere.example",
    "client": "subjectAltName=DNS:client.example",
    "other": "subjectAltName=DNS:other.example",
}


@pytest.fixture(scope="session")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem, and certificates with their keys that it has signed (NAME.pem); and alone.pem, which it has not."""
    folder = tmp_path_factory.mktemp("papers")
    if not shutil.which("openssl"):
        pytest.skip("openssl is missing: install the package openssl")
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]

    def make(name: str, *more: str) -> None:
        key, cert = folder / f"{name}.key", folder / f"{name}.crt"
        command = [*new, "-subj", f"/CN={name}", "-keyout", key, "-out", cert, *more]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
        (folder / f"{name}.pem").write_bytes(cert.read_bytes() + key.read_bytes())

    make("ca", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    for name, extension in _SUBJECTS.items():
        signed = ["-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key")]
        make(name, *signed, "-addext", extension, "-addext", "basicConstraints=critical,CA:FALSE")
    make("alone", "-addext", "subjectAltName=IP:127.0.0.1")
    return folder


def shown_by(papers: Path, name: str, *, wants_one: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=papers / "ca.crt")
    context.load_cert_chain(papers / f"{name}.pem")
    context.verify_mode = ssl.CERT_REQUIRED if wants_one else ssl.CERT_NONE
    return context


async def test_a_certificate_of_our_own_authority_is_trusted(papers: Path) -> None:
    access = Access(ca=str(papers / "ca.crt"))
    async with serving(TREE, access, tls=shown_by(papers, "server")) as (_, tree):
        await check_tree(tree, TREE)


@pytest.mark.parametrize("name", ["alone", "elsewhere"])
async def test_a_certificate_that_is_not_trusted_is_denied_with_a_hint(papers: Path, name: str) -> None:
    async with serving(None, Access(ca=str(papers / "ca.crt")), tls=shown_by(papers, name)) as (origin, tree):
        await refused(tree, Denied, r"certificate is not trusted.*`ca`")
        assert not origin.requests


async def test_an_authority_that_we_do_not_know_is_denied_with_a_hint(papers: Path) -> None:
    async with serving(tls=shown_by(papers, "server")) as (_, tree):
        with pytest.raises(Denied, match="`ca`"):
            await tree.open("f")


async def test_a_client_certificate_is_shown(papers: Path) -> None:
    access = Access(ca=str(papers / "ca.crt"), cert=str(papers / "client.pem"))
    async with serving(None, access, tls=shown_by(papers, "server", wants_one=True)) as (_, tree):
        await check_blob(await tree.open("f"), DATA, rounds=4)


@contextmanager
def picky(papers: Path, version: ssl.TLSVersion) -> Iterator[str]:
    """A server that wants a certificate, and says why it refuses one (asyncio's only closes the connection)."""
    context = shown_by(papers, "server", wants_one=True)
    context.minimum_version = context.maximum_version = version

    def serve() -> None:
        with suppress(OSError):
            while True:
                with listening.accept()[0] as client, client.dup() as open_still, suppress(OSError):
                    client.settimeout(5)
                    open_still.settimeout(5)
                    with suppress(ssl.SSLError):
                        context.wrap_socket(client, server_side=True).close()
                    open_still.shutdown(socket.SHUT_WR)
                    while open_still.recv(65536):  # a reset would overtake what it has said
                        pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"https://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(10)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize("cert", [None, "alone.pem"])
async def test_a_client_certificate_that_is_not_accepted_is_denied_with_a_hint(
    papers: Path, cert: str | None, version: ssl.TLSVersion
) -> None:
    access = Access(ca=str(papers / "ca.crt"), cert=str(papers / cert) if cert else None)
    with picky(papers, version) as url:
        async with asyncio.timeout(DEADLINE), aclosing(WebTree(url, access)) as tree:
            if version is ssl.TLSVersion.TLSv1_2:
                await refused(tree, Denied, "`cert`")
                return
            # The alert comes after our side of the handshake is done, and a reset may overtake it.
            with pytest.raises((Denied, Unavailable)) as caught:
                await tree.open("f")
            assert isinstance(caught.value, Unavailable) or "`cert`" in str(caught.value)


async def test_a_client_certificate_is_not_shown_to_another_host(papers: Path) -> None:
    access = Access(ca=str(papers / "ca.crt"), cert=str(papers / "client.pem"))
    wanting = shown_by(papers, "server", wants_one=True)
    async with Origin({"f": DATA}, tls=wanting) as other, serving(None, access, tls=wanting) as (origin, tree):
        origin.always["f"] = lies.redirect(other.url + "f")
        with pytest.raises((Denied, Unavailable)):
            await tree.open("f")
        assert not other.requests


@pytest.mark.parametrize("file", ["missing.pem", "client.key", "."])
@pytest.mark.parametrize("role", ["ca", "cert"])
def test_certificate_files_that_are_none_are_malformed(papers: Path, role: str, file: str) -> None:
    with pytest.raises(Malformed, match="certificate files"):
        web("https://127.0.0.1/", **{role: str(papers / file)})  # type: ignore[arg-type]


async def test_a_redirect_from_https_to_http_is_denied(papers: Path) -> None:
    access = Access(ca=str(papers / "ca.crt"))
    async with Origin({"f": DATA}) as other, serving(None, access, tls=shown_by(papers, "server")) as (origin, tree):
        origin.always["f"] = lies.redirect(other.url + "f")
        with pytest.raises(Denied, match="from https to http"):
            await tree.open("f")
        assert not other.requests


async def test_http_where_https_is_spoken_and_the_other_way_round_fail(papers: Path, impatient: None) -> None:
    async with Origin({"f": DATA}) as plain, Origin({"f": DATA}, tls=shown_by(papers, "server")) as safe:
        for url in (plain.url.replace("http", "https"), safe.url.replace("https", "http")):
            async with asyncio.timeout(DEADLINE), aclosing(WebTree(url)) as tree:
                with pytest.raises((Denied, Damaged, Unavailable)):
                    await tree.open("f")


async def test_a_handshake_that_never_ends_is_unavailable(impatient: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        async with asyncio.timeout(DEADLINE), aclosing(WebTree(url)) as tree:
            with pytest.raises(Unavailable):
                await tree.open("f")


@pytest.mark.parametrize("fault", [lies.rst(50), lies.short(50), lies.hang(50)], ids=["reset", "end", "silence"])
async def test_faults_under_tls_are_the_same(papers: Path, fault: Fault, impatient: None) -> None:
    access = Access(ca=str(papers / "ca.crt"))
    async with serving(None, access, tls=shown_by(papers, "server")) as (origin, tree):
        origin.always["f"] = fault
        data, failure = await got((await tree.open("f")).stream(0, 1000))
        assert type(failure) is Unavailable
        assert DATA.startswith(data)


# ── proxies ──

PROXIES = [HttpProxy, SocksProxy]


@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("login", ["", "user:pa%20ss"])
async def test_a_proxy_is_used_for_everything(kind: type[HttpProxy | SocksProxy], login: str) -> None:
    async with (
        asyncio.timeout(DEADLINE),
        Origin(TREE) as origin,
        kind(login.replace("%20", " "), hosts={"files.example:80": origin.port}) as proxy,
    ):
        async with aclosing(web("http://files.example/", proxy=proxy.url(login))) as tree:
            await check_tree(tree, TREE)
        assert origin.connections <= len(proxy.asked)
        assert all("files.example" in asked for asked in proxy.asked)
        assert not any("proxy-authorization" in asked.headers for asked in origin.requests)


@pytest.mark.parametrize("kind", PROXIES)
async def test_a_proxy_is_used_for_https(kind: type[HttpProxy | SocksProxy], papers: Path) -> None:
    async with (
        asyncio.timeout(DEADLINE),
        Origin({"f": DATA}, tls=shown_by(papers, "server")) as origin,
        kind("user:pass", hosts={"files.example:443": origin.port}) as proxy,
    ):
        url, through, ca = "https://files.example/", proxy.url("user:pass"), str(papers / "ca.crt")
        async with aclosing(web(url, proxy=through, ca=ca)) as tree:
            await check_blob(await tree.open("f"), DATA, rounds=4)
        async with aclosing(web(url, proxy=through)) as tree:
            with pytest.raises(Denied, match="`ca`"):
                await tree.open("f")


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("login", ["", "user:wrong"])
@pytest.mark.parametrize("kind", PROXIES)
async def test_a_proxy_that_wants_other_credentials_is_told(
    kind: type[HttpProxy | SocksProxy], login: str, scheme: str
) -> None:
    async with kind("user:pass") as proxy, aclosing(web(f"{scheme}://127.0.0.1:9/", proxy=proxy.url(login))) as tree:
        with pytest.raises((Unavailable, Denied), match="proxy") as caught:
            await tree.open("f")
        assert "wrong" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("kind", PROXIES)
async def test_a_silent_proxy_is_unavailable(kind: type[HttpProxy | SocksProxy], scheme: str, impatient: None) -> None:
    async with kind(silent=True) as proxy, aclosing(web(f"{scheme}://127.0.0.1:9/", proxy=proxy.url())) as tree:
        async with asyncio.timeout(3):
            with pytest.raises(Unavailable):
                await tree.open("f")


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("kind", PROXIES)
async def test_a_proxy_that_breaks_off_is_unavailable(kind: type[HttpProxy | SocksProxy], scheme: str) -> None:
    async with kind() as proxy, aclosing(web(f"{scheme}://127.0.0.1:9/", proxy=proxy.url())) as tree:
        with pytest.raises(Unavailable):  # nobody listens at port 9, and the proxy just leaves
            await tree.open("f")


@pytest.mark.parametrize("kind", PROXIES)
async def test_a_proxy_that_is_not_there_is_unavailable(kind: type[HttpProxy | SocksProxy]) -> None:
    async with kind() as proxy:
        pass
    async with aclosing(web("http://127.0.0.1:9/", proxy=proxy.url())) as tree:
        with pytest.raises(Unavailable):
            await tree.open("f")


async def test_a_socks_proxy_that_refuses_is_unavailable() -> None:
    async with SocksProxy() as proxy, aclosing(web("http://files.example/", proxy=proxy.url())) as tree:
        for code in range(1, 9):
            proxy.refusing = code
            with pytest.raises((Unavailable, Denied)):
                await tree.open("f")


NO_PROXIES = ["nonsense", "socks9://h:1", "ftp://h:1", "socks5://h:99999", "http://[::1", "http://", "h:3128"]


@pytest.mark.parametrize("proxy", NO_PROXIES)
async def test_a_proxy_that_is_no_url_is_malformed(proxy: str) -> None:
    with pytest.raises(Malformed, match="proxy"):
        async with aclosing(web("http://127.0.0.1:9/", proxy=proxy)) as tree:
            await tree.open("f")


@pytest.mark.parametrize("kind", PROXIES)
async def test_the_credentials_of_a_proxy_are_in_no_error_and_no_log(
    kind: type[HttpProxy | SocksProxy], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with kind("user:other") as proxy:
        async with aclosing(web("http://127.0.0.1:9/", proxy=proxy.url(f"user:{PHRASE}"))) as tree:
            with pytest.raises(Failure) as caught:
                await tree.open("f")
        assert PHRASE not in f"{caught.value} {caught.value!r}"
    assert PHRASE not in caplog.text


# ── names ──

NAMES = [
    "노래.mp3",
    "100%.mp3",
    "%41%2F%00.mp3",
    "a#b.mp3",
    "a?b=c.mp3",
    "two  words.mp3",
    " before and after ",
    "a+b.mp3",
    "a&amp;b;c=d,e.mp3",
    'it\'s "so" <b>.mp3',
    "back\\slash.mp3",
    "http:colon",
    "~tilde~",
    "...",
    "-",
    "tab\tbell\x07.mp3",
    "Cafe\u0301 Café",
    "🎵",
    "\udcff\udcfe\udced\udca0\udc80.mp3",
    "가" * 85,
    "x" * 255,
]


@pytest.mark.parametrize("name", NAMES, ids=[str(number) for number in range(len(NAMES))])
async def test_a_name_goes_out_and_comes_back(name: str) -> None:
    files = {name: DATA, f"in/{name}/{name}": b"in"}
    async with serving(files) as (origin, tree):
        await check_tree(tree, files)
        assert origin.of(name)
        assert all(asked.target.isascii() and "#" not in asked.target for asked in origin.requests)


async def test_names_that_differ_in_normal_form_are_two() -> None:
    files = {"Café": DATA, "Cafe\u0301": OTHER}
    async with serving(files) as (_, tree):
        await check_tree(tree, files)


# ── index pages ──


async def listed(page: bytes | str, **how: Fault) -> list[str]:
    """The names that an index page at d/ is taken for."""
    async with serving({"d/f": DATA}) as (origin, tree):
        origin.pages["d/"] = page if isinstance(page, bytes) else page.encode("utf-8", "surrogateescape")
        origin.always |= {name.replace("d", "d/"): fault for name, fault in how.items()}
        return sorted(await names(tree, "d"))


async def test_links_that_lead_elsewhere_are_no_entries() -> None:
    links = ["../", "/d/", "./", "?C=N;O=D", "#top", "/e", "e/f", "//other.example/d/x", "https://127.0.0.1/d/x"]
    links += ["mailto:a@b", "javascript:x()", "/d/../x", "%2e%2e", "%2e", "a%2Fb", "a%00b", "http://[::1", "x?y", ""]
    page = "".join(f'<a href="{link}">x</a>\n' for link in links)
    assert await listed(page + "<a href='f'>f</a><a name=x>y</a><a href>z</a>") == ["f"]


async def test_links_are_taken_as_servers_write_them() -> None:
    links = ["f", "./g", "/d/h", "i/", "%ED%95%9C", "한글", "j&amp;k", "l%20m", "n o", "100%"]
    page = "".join(f"<a href='{link}'>x</a>\n" for link in [*links, *links])
    assert await listed(page) == sorted(["f", "g", "h", "i", "한", "한글", "j&k", "l m", "n o", "100%"])


async def test_links_are_taken_however_they_are_written() -> None:
    page = "<A HREF=a>x</A><a\n class='c' href = 'b' >x</a><a title=\"href='no'\" href=c>x</a>"
    page += "<area href=no><!-- <a href=no> --><abbr href=no>x</abbr>"
    assert await listed(page + "<a data-href=no>x</a>") == ["a", "b", "c"]


@pytest.mark.parametrize("raw", ["\udcff.mp3", "\udcb0\udca1 \udcb3\udcaa.mp3"])
async def test_a_link_of_raw_bytes_keeps_them(raw: str) -> None:
    assert await listed(f"<a href='{raw}'>x</a>") == [raw]


@pytest.mark.parametrize("link", ["/%ed%95%9c/f", "/%ED%95%9C/f", "/한/f", "f", "./f", "../%ed%95%9c/f"])
@pytest.mark.parametrize("base", ["한/", "%ED%95%9C/", "%ed%95%9c/", "x/../한/", "x/.././%ED%95%9C/"])
async def test_a_folder_is_the_same_however_it_is_written(base: str, link: str) -> None:
    async with serving({"한/f": DATA}, path=base) as (origin, tree):
        origin.pages["한/"] = f"<a href='{link}'>f</a>".encode()
        assert await names(tree) == ["f"]
        assert await (await tree.open("f")).read() == DATA


async def test_an_index_page_in_gzip_is_not_an_empty_folder() -> None:
    with pytest.raises(Damaged):
        await listed("<a href='f'>f</a>", d=lies.zipped)


@pytest.mark.parametrize("code", [206, 416])
async def test_a_part_of_an_index_page_is_not_a_folder(code: int) -> None:
    def partial(answer: lies.Answer, asked: Asked) -> None:
        answer.status = code

    with pytest.raises(Damaged):
        await listed("<a href='f'>f</a>", d=partial)


@pytest.mark.parametrize("fault", [lies.rst(50), lies.short(50), each(lies.chunked, lies.cut(50)), lies.hang(50)])
async def test_an_index_page_that_breaks_off_is_not_a_short_folder(fault: Fault, impatient: None) -> None:
    with pytest.raises(Unavailable):
        await listed("<a href='f'>f</a>" * 100, d=fault)


async def test_a_folder_that_redirects_elsewhere_is_not_that_page() -> None:
    def login(answer: lies.Answer, asked: Asked) -> None:
        answer.headers["Content-Type"], answer.body = "text/html", b"<a href='login2'>Log in</a>"

    async with serving({"d/f": DATA, "login": b""}) as (origin, tree):
        origin.always |= {"d/": lies.redirect("/login"), "login": login}
        with pytest.raises(Failure):
            await names(tree, "d")


async def test_a_folder_that_redirects_to_its_own_page_is_listed() -> None:
    def page(answer: lies.Answer, asked: Asked) -> None:
        answer.headers["Content-Type"], answer.body = "text/html", b"<a href='f'>f</a><a href='/e'>e</a>"

    async with serving({"d/f": DATA, "d/index.html": b""}) as (origin, tree):
        origin.always |= {"d/": lies.redirect("index.html"), "d/index.html": page}
        assert await names(tree, "d") == ["f"]


async def test_what_is_no_page_is_no_folder() -> None:
    async with serving() as (origin, tree):
        origin.always[""] = header("Content-Type", "audio/mpeg")
        with pytest.raises(NotFound, match="not an index page"):
            await names(tree)


async def test_an_index_page_of_more_than_ten_megabytes_is_damaged() -> None:
    with pytest.raises(Damaged, match="larger than 10 MB"):
        await listed(b"<a href='f'>f</a>" + b"x" * 10_000_000)


async def test_an_index_page_of_more_than_100_000_links_is_damaged() -> None:
    page = b"".join(b"<a href=%d>" % number for number in range(100_001))
    with pytest.raises(Damaged, match="more than 100,000 links"):
        await listed(page)


async def test_an_index_page_of_100_000_links_is_a_folder() -> None:
    page = b"".join(b"<a href=%d>" % number for number in range(100_000))
    assert len(await listed(page)) == 100_000


HOSTILE = {
    "lines": "<a href='x'>x</a>" + "\n" * 12_000,
    "tags": "<a " * 5_000,
    "values": "<a href='" * 3_000,
    "comments": "<!--" * 15_000,
    "declarations": "<![CDATA[" * 40_000,
    "instructions": "<?" * 60_000,
    "ends": "</" * 80_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_index_page_takes_no_longer_than_its_length(name: str) -> None:
    began = time.process_time()
    assert len(index.entries(HOSTILE[name], "http://h/")) <= 1
    assert time.process_time() - began < 0.5


async def test_an_earlier_answer_that_is_still_read_takes_nothing_of_the_next_one_on_its_connection() -> None:
    """The earlier one is in memory, its connection is used again; a long body is then read from the bare socket."""
    data = random.Random(5).randbytes(14 << 20)
    async with Origin({"f": data}) as origin, aclosing(WebTree(origin.url)) as tree:
        early = (await tree.open("f", Ask(0, (3 << 20) // 2))).stream(0, (3 << 20) // 2)
        before = [await anext(early)]
        await settled(lambda: not origin.busy)  # all of it was sent
        await asyncio.sleep(0.1)
        origin.script["f"] = [lies.halting(0.002)]
        later = (await tree.open("f", Ask(4 << 20, None))).stream(4 << 20, len(data))
        after = [bytes(cast(bytes, await anext(later))) for _ in range(10)]
        before += [piece async for piece in early]  # which would have the connection read on
        await asyncio.sleep(0.2)
        after += [bytes(cast(bytes, piece)) async for piece in later]
        assert b"".join(after) == data[4 << 20 :] and origin.connections == 1
        assert b"".join(bytes(cast(bytes, piece)) for piece in before) == data[: (3 << 20) // 2]
