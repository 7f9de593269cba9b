"""Buckets, before two servers of S3 (moto's and rclone's), and a way to them on which things go wrong.

Whatever is not S3's alone runs twice: by requests that we sign, and through obstore.
"""

import asyncio
import hashlib
import logging
import os
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from playhead import (
    Ask,
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
    Unknown,
    literal,
)
from playhead.limits import Limits
from playhead.origins import fetch
from playhead.origins.buckets import blocks, multipart, obstored, sigv4
from playhead.origins.buckets.bucket import Place, seconds
from playhead.origins.buckets.obstored import Obstored
from playhead.origins.objects import TWIN, ObjectTree
from playhead.tree import walk
from tests.fakes.between import Asked, Between, Happens, cut, flipped, lost, says, silent, unconditional
from tests.laws import check_tree, collected, taken
from tests.peers import crypts, servers

pytest.importorskip("moto", reason="moto is missing: pip install 'moto[s3,server]'")
pytest.importorskip("obstore", reason="obstore is missing: pip install obstore")

KEY, SECRET = "AKIDEXAMPLEKEY", "SecretThatNobodyMayRead"
MIB = 1 << 20
CHANCE = random.Random(11)
BIG = CHANCE.randbytes(30 * MIB)
LARGE = BIG[: 17 * MIB]  # three parts
FILES = {
    "a.mp3": b"music",
    "empty": b"",
    "앨범/노래 1.flac": b"one" * 30_000,
    "앨범/a+b %25 100%#?&=;.flac": b"two",
    "deep/er/and/deeper/x": b"3",
    "big.flac": BIG[: 20 * MIB],
}
KINDS = ("signed", "obstore")
WHEN = datetime(2020, 2, 3, 4, 5, 6, 789_000, tzinfo=UTC)
DEADLINE = 20.0


def kept(_: str) -> None: ...


@pytest.fixture(scope="module")
def moto() -> Iterator[int]:
    """The port of a server in which whatever is asked for by a test has a bucket of its own."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@pytest.fixture(autouse=True)
def _no_keys_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "AZURE_"))]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """The port of rclone's server, which looks at signatures, and the folder of its bucket."""
    folder, scratch = tmp_path_factory.mktemp("served"), tmp_path_factory.mktemp("scratch")
    (folder / "bucket").mkdir()
    port = servers._free_port()
    command = [servers.program("rclone", "rclone"), "serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}"]
    options = ["--auth-key", f"{KEY},{SECRET}", "--config", os.devnull, "--vfs-cache-mode", "off"]
    with servers._running([*command, *options], port, scratch):
        yield port, folder / "bucket"


class Shelf:
    """moto's bucket of one test, from behind."""

    def __init__(self, name: str) -> None:
        from moto.s3.models import s3_backends

        self.name, self.backend = name, s3_backends["123456789012"]["aws"]
        self.backend.create_bucket(name, "us-east-1")

    def put(self, key: str, data: bytes = b"", **how: object) -> None:
        self.backend.put_object(self.name, key, data, **how)

    def delete(self, key: str) -> None:
        self.backend.delete_object(self.name, key)

    def keys(self) -> list[str]:
        return list(self.backend.buckets[self.name].keys)

    def data(self, key: str) -> bytes:
        value: bytes = self.backend.get_object(self.name, key).value
        return value

    def publish(self, key: str) -> None:
        from moto.s3.models import get_canned_acl

        self.backend.put_bucket_acl(self.name, get_canned_acl("public-read"))
        self.backend.put_object_acl(self.name, key, get_canned_acl("public-read"))

    def uploads(self) -> list[str]:
        return list(self.backend.buckets[self.name].multiparts)


@pytest.fixture
def shelf(moto: int, request: pytest.FixtureRequest) -> Shelf:
    return Shelf(f"b{hashlib.sha256(request.node.name.encode()).hexdigest()[:30]}")


def place(port: int, bucket: str = "bucket", prefix: str = "") -> Place:
    url = f"http://127.0.0.1:{port}"
    return Place("s3", bucket, prefix, endpoint=url, region="us-east-1", key=KEY, secret=SECRET)


@asynccontextmanager
async def opened(
    where: Place, kind: str = "signed", limits: Limits | None = None, fingerprint: str = ""
) -> AsyncIterator[ObjectTree]:
    tree = ObjectTree(where, limits, fingerprint=fingerprint)
    if kind == "obstore":
        await tree.aclose()
        tree.service = Obstored(where, limits)
        tree.traffic = tree.service.traffic
    try:
        yield tree
    finally:
        await tree.aclose()


async def put(tree: ObjectTree, path: str, data: bytes, replaces: str | None = None, state: str | None = None) -> Entry:
    return await tree.put(path, literal(data), replaces=replaces, state=state, keep=kept)


async def names(tree: ObjectTree, folder: str = "") -> list[str]:
    return sorted([entry.name + "/" * entry.folder async for entry in tree.entries(folder)])


# ── signatures ──


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "body", "signature"),
    [
        (
            "GET",
            "/test.txt",
            {},
            {"Range": "bytes=0-9"},
            b"",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            "/test$file.text",
            {},
            {"Date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
            b"Welcome to Amazon S3.",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        ("GET", "/", {"lifecycle": ""}, {}, b"", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "GET",
            "/",
            {"prefix": "J", "max-keys": "2"},
            {},
            b"",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_signatures_are_those_of_the_published_examples(
    method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes, signature: str
) -> None:
    by = sigv4.Signing("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1")
    digest, now = hashlib.sha256(body).hexdigest(), datetime(2013, 5, 24, tzinfo=UTC)
    host, text = "examplebucket.s3.amazonaws.com", sigv4.asked(query)
    made = sigv4.signed(by, method, host, sigv4.spelled(path), text, headers, digest, now)
    assert made["Authorization"].endswith(f"Signature={signature}")
    assert "wJalr" not in repr(by) and "AKIA" not in repr(by)


# ── laws ──


@pytest.mark.parametrize("kind", KINDS)
async def test_a_bucket_is_its_files(moto: int, shelf: Shelf, kind: str) -> None:
    limits = Limits(connections=8)
    async with opened(place(moto, shelf.name, "folder/"), kind, limits) as tree:
        for path, data in FILES.items():
            entry = await put(tree, path, data)
            assert (entry.name, entry.size, entry.tag) == (path.split("/")[-1], len(data), (await tree.find(path)).tag)
        await check_tree(tree, FILES)
        for path, entry in [pair async for pair in walk(tree)]:
            if not entry.folder:
                assert entry.tag == (await tree.open(path)).tag
                assert entry.modified == (await tree.find(path)).modified == (await tree.open(path)).modified
        assert tree.traffic.received > sum(map(len, FILES.values()))
    assert sorted(shelf.keys()) == sorted(f"folder/{path}" for path in FILES)
    await asyncio.sleep(0)
    assert limits.inside == 0


async def test_a_bucket_of_rclone_is_its_files_and_rclone_reads_what_was_put(peer: tuple[int, Path]) -> None:
    port, folder = peer
    async with opened(place(port, prefix="laws")) as tree:
        for path, data in FILES.items():
            blob = replace(literal(data), modified=WHEN)  # type: ignore[type-var]
            await tree.put(path, blob, replaces=None, state=None, keep=kept)
        await check_tree(tree, FILES)
    for path, data in FILES.items():
        assert (folder / "laws" / path).read_bytes() == data
    remote = f":s3,provider=Rclone,endpoint='http://127.0.0.1:{port}/',access_key_id={KEY},secret_access_key={SECRET}:"
    told = await asyncio.to_thread(crypts.rclone, "md5sum", f"{remote}bucket/laws")
    assert {line[34:]: line[:32] for line in told.decode().splitlines()} == {
        path: hashlib.md5(data).hexdigest() for path, data in FILES.items()
    }
    listed = await asyncio.to_thread(crypts.rclone, "lsjson", "-R", "--files-only", f"{remote}bucket/laws")
    assert listed.count(b'"ModTime":"2020-02-03T04:05:06.789') == len(FILES)


def test_times_are_written_as_rclone_writes_them() -> None:
    assert seconds(WHEN) == "1580702706.789"
    assert seconds(datetime(1970, 1, 1, tzinfo=UTC)) == "0"
    assert seconds(datetime(1969, 12, 31, 23, 59, 58, 500_000, tzinfo=UTC)) == "-1.5"
    assert seconds(datetime(2020, 1, 1, 0, 0, 10, tzinfo=UTC)) == "1577836810"


# ── listings ──


@pytest.mark.parametrize("kind", KINDS)
async def test_a_listing_of_several_pages_is_whole(moto: int, shelf: Shelf, kind: str) -> None:
    for number in range(1500):
        shelf.put(f"f/{number:04}")
        if number % 3 == 0:
            shelf.put(f"f/{number:04}.d/inside")
    async with opened(place(moto, shelf.name), kind) as tree:
        listed = await names(tree, "f")
        assert listed == sorted([f"{n:04}" for n in range(1500)] + [f"{n:04}.d/" for n in range(0, 1500, 3)])


async def test_odd_keys_are_hidden_and_spoil_nothing(moto: int, shelf: Shelf) -> None:
    odd = ["a//b", "/lead", "d/./x", "d/../y", "d//", "..", "\0", "d/n\0l"]
    for key in [*odd, "plain", "d/in", "marked/", "con\x01trol", "AC／DC"]:
        shelf.put(key, b"x")
    async with opened(place(moto, shelf.name)) as tree:
        assert await names(tree) == ["AC／DC", "a/", "con\x01trol", "d/", "marked/", "plain"]
        assert await names(tree, "d") == ["in"]
        assert await names(tree, "a") == await names(tree, "marked") == []
        for path in ("con\x01trol", "AC／DC"):
            assert await (await tree.open(path)).read() == b"x"
        for path in ("marked", "\udcff", "\udcff/x"):
            with pytest.raises(NotFound):
                await tree.open(path)


async def test_a_key_that_obstore_takes_for_no_path_is_told(moto: int, shelf: Shelf) -> None:
    shelf.put("d/../y")
    shelf.put("e/f")
    async with opened(place(moto, shelf.name), "obstore") as tree:
        with pytest.raises(Damaged, match="name"):
            await names(tree, "d")
        assert await names(tree, "e") == ["f"]
        with pytest.raises(NotFound):
            await tree.open("con\x01trol")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_file_and_a_folder_of_one_name_are_both_there(moto: int, shelf: Shelf, kind: str) -> None:
    for key in ("a", "a/b", "a-b", "c／/d"):
        shelf.put(key, key.encode())
    async with opened(place(moto, shelf.name), kind) as tree:
        assert await names(tree) == sorted(["a", "a-b", f"a{TWIN}/", "c／/"])
        assert not (await tree.find("a")).folder
        assert (await tree.find(f"a{TWIN}")).folder
        assert await names(tree, f"a{TWIN}") == ["b"]
        found = {path: await (await tree.open(path)).read() async for path, entry in walk(tree) if not entry.folder}
    assert found == {"a": b"a", "a-b": b"a-b", f"a{TWIN}/b": b"a/b", "c／/d": "c／/d".encode()}


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_not_there_is_not_found(moto: int, shelf: Shelf, kind: str) -> None:
    async with opened(place(moto, shelf.name), kind) as tree:
        assert await names(tree) == []
        for wrong in ("nothing", "no/thing"):
            with pytest.raises(NotFound):
                await names(tree, wrong)
            with pytest.raises(NotFound):
                await tree.find(wrong)
    async with opened(place(moto, "no-such-bucket"), kind) as tree:
        with pytest.raises(NotFound, match="bucket"):
            await names(tree)
        with pytest.raises(NotFound):
            await tree.open("x")
        with pytest.raises(NotFound):
            await put(tree, "x", b"")


async def test_a_listing_that_never_ends_or_is_no_listing_is_damaged(moto: int) -> None:
    page = b"<ListBucketResult><IsTruncated>true</IsTruncated>%s</ListBucketResult>"
    wrong = [
        page % b"<NextContinuationToken>same</NextContinuationToken>",
        page % b"",
        b"not XML",
        b'<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>',
        b"<r><Contents><Key>k</Key><Size>-1</Size></Contents></r>",
        b"<r><Contents><Key>d/k</Key><Size>1</Size></Contents></r>",
    ]
    async with Between(moto) as way, opened(place(way.port)) as tree:
        for text in wrong:
            way.fault = lambda asked, text=text: says("200 OK", body=text)  # type: ignore[misc]
            with pytest.raises(Damaged):
                await names(tree)


# ── versions ──


@pytest.mark.parametrize("kind", KINDS)
async def test_two_ranges_are_never_of_two_versions(moto: int, shelf: Shelf, kind: str) -> None:
    shelf.put("f", LARGE[: 3 * MIB])
    async with opened(place(moto, shelf.name), kind) as tree:
        blob = await tree.open("f")
        assert await blob.read(0, 10) == LARGE[:10]
        shelf.put("f", LARGE[MIB : 4 * MIB])
        with pytest.raises(Changed):
            await blob.read(2 * MIB, 2 * MIB + 10)
        again = await tree.open("f")
        assert again.tag != blob.tag
        assert await again.read() == LARGE[MIB : 4 * MIB]
    async with Between(moto) as way, opened(place(way.port, shelf.name), kind) as tree:
        blob = await tree.open("f")
        await blob.read(0, 10)
        await blob.read(2 * MIB, 3 * MIB)
        assert "if-match" in way.requests[-1].headers
        way.fault = lambda asked: unconditional  # it must be found out without the service's help too
        shelf.put("f", LARGE[: 3 * MIB])
        with pytest.raises(Changed):
            await blob.read(2 * MIB, 2 * MIB + 10)
        again = await tree.open("f")
        assert await again.read() == LARGE[: 3 * MIB]
        shelf.delete("f")
        with pytest.raises(NotFound):
            await again.read(5, 10)


async def test_a_server_that_knows_no_if_match_is_found_out(peer: tuple[int, Path]) -> None:
    async with opened(place(peer[0])) as tree:
        first = await put(tree, "changing", b"one one one")
        blob = await tree.open("changing", Ask(0, 3))
        await put(tree, "changing", b"two two two", replaces=first.tag)
        with pytest.raises(Changed):
            await blob.read(4, 7)


async def test_tags_are_of_place_key_version_and_credentials(moto: int, shelf: Shelf) -> None:
    shelf.put("d/f", b"same")
    shelf.put("d/g", b"same")

    async def tag(path: str, prefix: str = "", fingerprint: str = "") -> str:
        async with opened(place(moto, shelf.name, prefix), fingerprint=fingerprint) as tree:
            found = (await tree.find(path)).tag
            assert found and found.startswith("v:")
            return found

    assert await tag("d/f") == await tag("f", "d")
    assert len({await tag("d/f"), await tag("d/g"), await tag("d/f", fingerprint="other")}) == 3


@pytest.mark.parametrize("kind", KINDS)
async def test_objects_are_bytes_as_they_are_stored(moto: int, shelf: Shelf, kind: str) -> None:
    import gzip

    data = gzip.compress(b"text " * 1000)
    shelf.put("f.gz", data)
    shelf.backend.get_object(shelf.name, "f.gz").set_metadata({"Content-Encoding": "gzip"})
    async with opened(place(moto, shelf.name), kind) as tree:
        assert await (await tree.open("f.gz")).read() == data


# ── credentials ──


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("403 Forbidden", "ExpiredToken", Denied),
        ("400 Bad Request", "", Denied),
        ("400 Bad Request", "AuthorizationHeaderMalformed", Malformed),
        ("301 Moved Permanently", "PermanentRedirect", Malformed),
        ("403 Forbidden", "RequestTimeTooSkewed", Denied),
        ("400 Bad Request", "SomethingElse", Damaged),
        ("429 Too Many Requests", "", Busy),
        ("507 Insufficient Storage", "", Full),
        ("200 OK", "InternalError", Unavailable),  # an error in the body of what said that all was well
        ("200 OK", "SlowDown", Busy),
    ],
)
async def test_refusals_are_told_apart(moto: int, status: str, code: str, expected: type[Failure]) -> None:
    body = f"<Error><Code>{code}</Code><Message>hush</Message></Error>".encode() if code else b""
    async with Between(moto) as way, opened(place(way.port)) as tree:
        way.fault = lambda asked: says(status, body=body)
        with pytest.raises(expected) as caught:
            await names(tree)
    assert type(caught.value) is expected and "hush" not in caught.value.told


async def test_wrong_keys_are_denied_and_never_told(peer: tuple[int, Path], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "playhead")
    right = place(peer[0])
    for kind in KINDS:
        for wrong in (replace(right, secret="WrongSecret"), replace(right, key="WRONGKEYID")):
            async with opened(wrong, kind) as tree:
                for asking in (names(tree), tree.open("f"), put(tree, "f", b"x")):
                    with pytest.raises((Denied, Unknown), match="secret") as caught:
                        await asking
                    said = caught.value.told + repr(caught.value) + repr(caught.value.__cause__) + caplog.text
                    assert not any(text in said for text in ("WrongSecret", "WRONGKEYID", "Signature=", KEY, SECRET))


def test_nothing_shows_a_secret() -> None:
    texts = {"key": "hush1", "secret": "hush2", "token": "hush3", "credentials": "hush4", "proxy": "http://u:hush5@h"}
    where = Place("s3", "bucket", endpoint="http://127.0.0.1:1", **texts)
    tree = ObjectTree(where)
    for shown in (repr(where), tree.place, tree.known_by, tree.where, where.where):
        assert "hush" not in shown


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "ftp"},
        {"bucket": "a/b"},
        {"bucket": ""},
        {"key": "k"},
        {"endpoint": "not a url", "key": "k", "secret": "s"},
        {"prefix": "a/../b"},
    ],
)
def test_a_place_that_is_none_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(Malformed):
        ObjectTree(Place(**{"kind": "s3", "bucket": "bucket", **wrong}))  # type: ignore[arg-type]


def test_without_obstore_what_needs_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    ObjectTree(Place("s3", "bucket", key="k", secret="s"))  # signed: needs none
    with pytest.raises(Malformed, match=r"playhead\[objects\]"):
        ObjectTree(Place("gcs", "bucket"))


async def test_a_token_is_signed_and_sent(moto: int, shelf: Shelf) -> None:
    shelf.put("f", b"x")
    async with Between(moto) as way, opened(replace(place(way.port, shelf.name), token="hush")) as tree:
        await tree.find("f")
    assert way.requests[0].headers["x-amz-security-token"] == "hush"
    assert "x-amz-security-token" in way.requests[0].headers["authorization"].split("SignedHeaders=")[1]


async def test_a_public_bucket_is_read_without_a_signature(moto: int, shelf: Shelf) -> None:
    shelf.put("f", b"free")
    shelf.publish("f")
    async with Between(moto) as way:
        where = replace(place(way.port, shelf.name), key=None, secret=None, anonymous=True)
        for kind in KINDS:
            async with opened(where, kind) as tree:
                assert await (await tree.open("f")).read() == b"free"
                assert await names(tree) == ["f"]
        assert not any("authorization" in asked.headers for asked in way.requests)


# ── reading when things go wrong ──


def shrunk(monkeypatch: pytest.MonkeyPatch, silence: float) -> None:
    monkeypatch.setattr(fetch, "SILENCE", silence)
    monkeypatch.setattr(blocks, "SILENCE", silence)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_slow_reader_gets_all_the_bytes(
    moto: int, shelf: Shelf, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrunk(monkeypatch, 1.0)
    monkeypatch.setattr(obstored, "WHOLE", 1.0)
    shelf.put("f", BIG[: 20 * MIB])
    async with opened(place(moto, shelf.name), kind) as tree:
        blob, got, rested = await tree.open("f"), bytearray(), False
        async with aclosing(blob.stream(0, blob.size)) as stream:  # type: ignore[type-var]
            async for piece in stream:
                got += taken(piece)
                if len(got) >= MIB and not rested:
                    rested = True
                    await asyncio.sleep(1.2)
        assert bytes(got) == BIG[: 20 * MIB]


SLOW_DOWN = says("503 Slow Down", "Retry-After: 7\r\n", b"<Error><Code>SlowDown</Code></Error>")
FAULTS: dict[str, tuple[Happens, type[Failure]]] = {
    "cut": (cut(700_000), Unavailable),
    "reset": (cut(700_000, reset=True), Unavailable),
    "cut at once": (cut(0), Unavailable),
    "slow down": (SLOW_DOWN, Busy),
    "broken": (says("500 Oops", body=b"<Error><Code>InternalError</Code></Error>"), Unavailable),
    "silent": (silent, Unavailable),
    "another range": (says("206 Partial", 'Content-Range: bytes 5-9/3145728\r\nETag: "x"\r\n', b"wrong"), Failure),
    "no range": (says("200 OK", 'ETag: "x"\r\nLast-Modified: Sat, 03 Jan 2026 10:00:00 GMT\r\n', b"wrong"), Failure),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_faulty_way_gives_right_bytes_or_a_failure(
    moto: int, shelf: Shelf, kind: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrunk(monkeypatch, 1.0 if fault == "silent" else 10.0)
    happens, expected = FAULTS[fault]
    shelf.put("f", LARGE[: 3 * MIB])
    limits = Limits(connections=4)
    async with Between(moto) as way, opened(place(way.port, shelf.name), kind, limits) as tree:
        blob = await tree.open("f", Ask(0, 10))
        way.fault = lambda asked: happens
        got = bytearray()
        with pytest.raises(expected):
            async with asyncio.timeout(DEADLINE), aclosing(blob.stream(1000, blob.size)) as stream:  # type: ignore[type-var]
                async for piece in stream:
                    got += taken(piece)
        assert LARGE[1000:].startswith(bytes(got))
        if "range" not in fault:
            with pytest.raises(expected) as caught:
                async with asyncio.timeout(DEADLINE):
                    await (await tree.open("f")).read()
            if kind == "signed" and expected is Busy:
                assert caught.value.after == 7
        way.fault = lambda asked: None
        assert await blob.read() == LARGE[: 3 * MIB]
        await asyncio.sleep(0)
    assert limits.inside == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_leaving_early_gives_the_place_back(moto: int, shelf: Shelf, kind: str) -> None:
    shelf.put("f", LARGE)
    limits = Limits(connections=1)
    async with opened(place(moto, shelf.name), kind, limits) as tree:
        for _ in range(3):
            blob = await tree.open("f")
            async with aclosing(blob.stream(0, blob.size)) as stream:  # type: ignore[type-var]
                assert LARGE.startswith(taken(await anext(stream)))
        blob = await tree.open("f")  # and nobody reads it
        del blob
        await asyncio.sleep(0)
        async with asyncio.timeout(DEADLINE):
            assert await collected((await tree.open("f")).stream(0, 3 * MIB)) == LARGE[: 3 * MIB]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_closed_tree_fails_clearly(moto: int, shelf: Shelf, kind: str) -> None:
    shelf.put("f", LARGE)
    async with opened(place(moto, shelf.name), kind) as tree:
        blob = await tree.open("f")
        async with aclosing(blob.stream(0, blob.size)) as stream:  # type: ignore[type-var]
            got = 0
            async for piece in stream:
                got += len(piece)
                if got > 5 * MIB:
                    break
            await tree.aclose()
            with pytest.raises(Unavailable):
                async with asyncio.timeout(DEADLINE):
                    async for _ in stream:
                        pass
        for asking in (tree.open("f"), names(tree), put(tree, "g", b"")):
            with pytest.raises(Unavailable, match="closed"):
                await asking


async def test_a_host_that_is_not_there_is_unavailable() -> None:
    for kind in KINDS:
        async with opened(replace(place(1), secret="hush"), kind) as tree:
            for asking in (names(tree), tree.open("f"), put(tree, "f", b"x")):
                with pytest.raises(Unavailable) as caught:
                    await asking
                assert "hush" not in caught.value.told


# ── writing ──


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0, 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 30 * MIB])
async def test_what_is_put_is_there(moto: int, shelf: Shelf, kind: str, size: int) -> None:
    seen: list[list[str]] = []
    async with opened(place(moto, shelf.name), kind) as tree:
        blob = replace(literal(BIG[:size]), modified=WHEN)  # type: ignore[type-var]
        entry = await tree.put("d/f", blob, replaces=None, state=None, keep=lambda _: seen.append(shelf.keys()))
        assert (entry.name, entry.size) == ("f", size)
        assert entry.tag == (await tree.open("d/f")).tag == (await tree.find("d/f")).tag
    assert shelf.data("d/f") == BIG[:size]
    assert shelf.backend.get_object(shelf.name, "d/f").metadata["x-amz-meta-mtime"] == "1580702706.789"
    assert not any(seen)  # nothing was listed before it was whole
    assert not shelf.uploads()


async def test_a_local_file_is_put(moto: int, shelf: Shelf, tmp_path: Path) -> None:
    from playhead.origins.local import LocalTree

    (tmp_path / "f").write_bytes(LARGE)
    async with opened(place(moto, shelf.name)) as tree:
        await tree.put("f", await LocalTree(tmp_path).open("f"), replaces=None, state=None, keep=kept)
        assert await tree.holds("f", await LocalTree(tmp_path).open("f"))
    assert shelf.data("f") == LARGE


class Interrupted(Exception): ...


def parts_of(way: Between) -> list[str]:
    return [asked.target for asked in way.requests if "partNumber=" in asked.target]


def after(count: int, states: list[str]) -> Callable[[str], None]:
    def keep(state: str) -> None:
        if len(states) < count:
            states.append(state)
        if len(states) == count:  # and what arrives after that is not known either
            raise Interrupted

    return keep


@pytest.fixture
def one_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    """No part is on its way when another has arrived: moto takes and forgets parts in threads that do not agree."""
    monkeypatch.setattr(multipart, "LANES", 1)


@pytest.mark.parametrize("server", ["moto", "rclone"])
async def test_what_was_broken_off_goes_on(server: str, request: pytest.FixtureRequest, shelf: Shelf) -> None:
    """The parts that have arrived are not sent again, and the blob is read from the first that has not."""
    port = request.getfixturevalue("moto") if server == "moto" else request.getfixturevalue("peer")[0]
    bucket = shelf.name if server == "moto" else "bucket"
    states: list[str] = []
    async with Between(port) as way, opened(place(way.port, bucket)) as tree:
        with pytest.raises(Interrupted):
            await tree.put("f", literal(LARGE), replaces=None, state=None, keep=after(2, states))
        assert "f" not in await names(tree)
        await way.settled()
        way.requests.clear()
        await tree.put("f", literal(LARGE), replaces=None, state=states[-1], keep=kept)
        assert len(parts_of(way)) == 1
        assert await (await tree.open("f")).read() == LARGE


async def test_parts_that_the_service_lost_are_sent_again(moto: int, shelf: Shelf, one_lane: None) -> None:
    states: list[str] = []
    async with Between(moto) as way, opened(place(way.port, shelf.name)) as tree:
        with pytest.raises(Interrupted):
            await tree.put("f", literal(LARGE), replaces=None, state=None, keep=after(3, states))
        upload = shelf.backend.buckets[shelf.name].multiparts[shelf.uploads()[0]]
        upload.parts.pop(3)
        upload.partlist.remove(3)
        await way.settled()
        way.requests.clear()
        await tree.put("f", literal(LARGE), replaces=None, state=states[-1], keep=kept)
        assert len(parts_of(way)) == 1
    assert shelf.data("f") == LARGE


@pytest.mark.parametrize("refusal", ["403 Forbidden", "501 Not Implemented"])
async def test_where_parts_may_not_be_listed_the_state_is_believed(
    moto: int, shelf: Shelf, refusal: str, one_lane: None
) -> None:
    states: list[str] = []
    async with Between(moto) as way, opened(place(way.port, shelf.name)) as tree:
        with pytest.raises(Interrupted):
            await tree.put("f", literal(LARGE), replaces=None, state=None, keep=after(2, states))
        await way.settled()
        way.requests.clear()
        way.fault = lambda asked: says(refusal) if asked.method == "GET" and "uploadId=" in asked.target else None
        await tree.put("f", literal(LARGE), replaces=None, state=states[-1], keep=kept)
        assert len(parts_of(way)) == 1
    assert shelf.data("f") == LARGE


@pytest.mark.parametrize("state", ["", "{}", "[]", "nonsense", '["f", 1, 2, 3, 4, 5, 6]', "[" * 5000])
async def test_a_state_that_is_none_begins_again(moto: int, shelf: Shelf, state: str) -> None:
    async with opened(place(moto, shelf.name)) as tree:
        await put(tree, "f", LARGE[: 9 * MIB], state=state)
    assert shelf.data("f") == LARGE[: 9 * MIB]


async def test_an_upload_that_was_forgotten_begins_again(moto: int, shelf: Shelf, one_lane: None) -> None:
    states: list[str] = []
    async with opened(place(moto, shelf.name)) as tree:
        with pytest.raises(Interrupted):
            await tree.put("f", literal(LARGE), replaces=None, state=None, keep=after(2, states))
        shelf.backend.buckets[shelf.name].multiparts.clear()
        await put(tree, "f", LARGE, state=states[-1])
    assert shelf.data("f") == LARGE


async def test_another_content_begins_again_and_the_old_parts_go(moto: int, shelf: Shelf, one_lane: None) -> None:
    states: list[str] = []
    other = LARGE[: 9 * MIB]
    async with opened(place(moto, shelf.name)) as tree:
        with pytest.raises(Interrupted):
            await tree.put("f", literal(LARGE), replaces=None, state=None, keep=after(2, states))
        assert shelf.uploads()
        await put(tree, "f", other, state=states[-1])
    assert shelf.data("f") == other
    assert not shelf.uploads()


@pytest.mark.parametrize("size", [5, 9 * MIB])
@pytest.mark.parametrize("server", ["moto", "rclone"])
async def test_an_answer_that_was_lost_is_no_other_writer(
    server: str, size: int, request: pytest.FixtureRequest, shelf: Shelf
) -> None:
    port = request.getfixturevalue("moto") if server == "moto" else request.getfixturevalue("peer")[0]
    path, data, states = f"lost{size}", LARGE[:size], list[str]()
    async with Between(port) as way, opened(place(way.port, shelf.name if server == "moto" else "bucket")) as tree:

        def last(asked: Asked) -> Happens | None:
            ending = asked.method == "POST" and "uploadId=" in asked.target
            return lost if ending or (asked.method == "PUT" and "?" not in asked.target) else None

        way.fault = last
        with pytest.raises(Unavailable):
            await tree.put(path, literal(data), replaces=None, state=None, keep=states.append)
        way.fault = lambda asked: None
        entry = await tree.put(path, literal(data), replaces=None, state=states[-1], keep=kept)
        assert entry.tag == (await tree.find(path)).tag
        with pytest.raises(Changed):  # but what others wrote is
            await tree.put(path, literal(data[1:]), replaces=None, state=states[-1], keep=kept)
        assert await (await tree.open(path)).read() == data


@pytest.mark.parametrize("kind", KINDS)
async def test_only_the_version_that_was_meant_is_overwritten(moto: int, shelf: Shelf, kind: str) -> None:
    for size in (3, 9 * MIB):
        path = f"f{size}"
        async with opened(place(moto, shelf.name), kind) as tree:
            with pytest.raises(Changed):
                await put(tree, path, b"x" * size, replaces="v:of what is not there")
            first = await put(tree, path, b"x" * size)
            with pytest.raises(Changed):
                await put(tree, path, b"y" * size)
            second = await put(tree, path, b"z" * size, replaces=first.tag)
            assert second.tag != first.tag
            with pytest.raises(Changed):
                await put(tree, path, b"y" * size, replaces=first.tag)
        assert shelf.data(path) == b"z" * size


@pytest.mark.parametrize("kind", KINDS)
async def test_of_two_writers_one_is_told(moto: int, shelf: Shelf, kind: str) -> None:
    class Meeting(Between):
        """Both have looked before either writes; and one has looked again before the other writes."""

        async def answer(self, asked: Asked) -> bytes:
            if asked.method == "PUT":
                await both.wait()
                if writing.locked():
                    await over.wait()
                await writing.acquire()
            return await super().answer(asked)

    both, writing, over = asyncio.Barrier(2), asyncio.Lock(), asyncio.Event()
    async with Meeting(moto) as way, opened(place(way.port, shelf.name), kind) as tree:
        writers = [asyncio.ensure_future(put(tree, "f", data)) for data in (b"one", b"two")]
        await asyncio.wait(writers, return_when=asyncio.FIRST_COMPLETED)
        writing.release()
        over.set()
        told = await asyncio.gather(*writers, return_exceptions=True)
    assert {type(outcome) for outcome in told} == {Entry, Changed}
    assert shelf.data("f") == (b"one" if isinstance(told[0], Entry) else b"two")


@pytest.mark.parametrize("conditions", [True, False])
async def test_who_wrote_while_parts_were_sent_is_not_overwritten(
    moto: int, shelf: Shelf, conditions: bool, one_lane: None
) -> None:
    async with Between(moto) as way, opened(place(way.port, shelf.name)) as tree:
        way.fault = lambda asked: None if conditions else unconditional
        with pytest.raises(Changed):
            await tree.put("f", literal(LARGE), replaces=None, state=None, keep=lambda _: shelf.put("f", b"theirs"))
    assert shelf.data("f") == b"theirs"
    assert not shelf.uploads()


@pytest.mark.parametrize("size", [5, 9 * MIB])
async def test_a_service_without_conditions_is_looked_at_before(moto: int, shelf: Shelf, size: int) -> None:
    async with Between(moto) as way, opened(place(way.port, shelf.name)) as tree:
        conditions = ("if-none-match", "if-match")
        refusal = says("501 Not Implemented", body=b"<Error><Code>NotImplemented</Code></Error>")

        def refusing(asked: Asked) -> Happens | None:
            return refusal if asked.method != "GET" and any(name in asked.headers for name in conditions) else None

        def another(asked: Asked) -> Happens | None:
            if refusing(asked):
                shelf.put("g", b"theirs")
            return refusing(asked)

        way.fault = another
        with pytest.raises(Changed):
            await put(tree, "g", LARGE[:size])
        way.fault = refusing
        first = await put(tree, "f", LARGE[:size])
        with pytest.raises(Changed):
            await put(tree, "f", b"other")
        await put(tree, "f", LARGE[1 : size + 1], replaces=first.tag)
    assert shelf.data("f") == LARGE[1 : size + 1]
    assert shelf.data("g") == b"theirs"


@pytest.mark.parametrize("size", [5, 9 * MIB])
async def test_a_bit_that_flips_on_the_way_is_found(moto: int, shelf: Shelf, size: int, one_lane: None) -> None:
    async with Between(moto) as way, opened(place(way.port, shelf.name)) as tree:
        way.fault = lambda asked: flipped if asked.method == "PUT" else None
        with pytest.raises(Damaged):
            await put(tree, "f", LARGE[:size])
        sent = [asked for asked in way.requests if asked.method == "PUT"]
        assert all("content-md5" in asked.headers and "x-amz-content-sha256" in asked.headers for asked in sent)
    assert shelf.keys() == []
    assert not shelf.uploads()


async def test_a_service_that_slows_down_says_when_to_come_back(moto: int, shelf: Shelf) -> None:
    states: list[str] = []
    async with Between(moto) as way, opened(place(way.port, shelf.name)) as tree:
        way.fault = lambda asked: SLOW_DOWN if "partNumber=3" in asked.target else None
        with pytest.raises(Busy) as caught:
            await tree.put("f", literal(LARGE), replaces=None, state=None, keep=states.append)
        assert caught.value.after == 7
        await way.settled()
        way.fault = lambda asked: None
        await tree.put("f", literal(LARGE), replaces=None, state=states[-1] if states else None, keep=kept)
    assert shelf.data("f") == LARGE


@pytest.mark.parametrize("size", [5, 9 * MIB])
async def test_a_service_that_takes_nothing_is_no_hang(
    moto: int, shelf: Shelf, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multipart, "ANSWERING", 0.5)
    async with Between(moto) as way, opened(place(way.port, shelf.name)) as tree:
        way.fault = lambda asked: silent if asked.method == "PUT" else None
        with pytest.raises(Unavailable):
            async with asyncio.timeout(DEADLINE):
                await put(tree, "f", LARGE[:size])


async def test_what_the_blob_fails_with_is_told(moto: int, shelf: Shelf) -> None:
    from playhead.blob import concat, deferred

    async def fails() -> Blob:
        raise Unavailable("the source is gone")

    for kind in KINDS:
        for size in (5, 9 * MIB):
            blob = concat([literal(LARGE[:size]), deferred(5, None, fails)])
            async with opened(place(moto, shelf.name), kind) as tree:
                with pytest.raises(Unavailable, match="the source is gone"):
                    await tree.put("f", blob, replaces=None, state=None, keep=kept)
    assert shelf.keys() == []


@pytest.mark.parametrize("path", ["", "a//b", "../x", "\udcff", "x" * 1025, "a\0b"])
async def test_what_cannot_be_a_key_is_refused(moto: int, shelf: Shelf, path: str) -> None:
    async with opened(place(moto, shelf.name)) as tree:
        with pytest.raises(Malformed):
            await put(tree, path, b"")
    assert shelf.keys() == []


def test_parts_are_never_too_many() -> None:
    for size in (9 * MIB, 80_000 * MIB, 80_001 * MIB, 5 << 40):
        part = multipart.part_size(size)
        assert part >= 8 * MIB and -(-size // part) <= 10_000


# ── what is there already ──


@pytest.mark.parametrize("kind", KINDS)
async def test_holds_tells_what_can_be_told(moto: int, shelf: Shelf, kind: str) -> None:
    sure = kind == "signed"  # obstore does not say how an object is encrypted
    async with opened(place(moto, shelf.name), kind) as tree:
        await put(tree, "small", b"one")
        assert await tree.holds("small", literal(b"one")) is True
        assert await tree.holds("small", literal(b"two")) is (False if sure else None)
        assert await tree.holds("small", literal(b"longer")) is False
        await put(tree, "large", LARGE)
        assert await tree.holds("large", literal(LARGE)) is True
        assert await tree.holds("large", literal(LARGE[:-1] + b"x")) is None
        known = literal(LARGE, f"h:md5:{hashlib.md5(LARGE).hexdigest()}")
        await tree.put("known", known, replaces=None, state=None, keep=kept)
        assert await tree.holds("known", literal(LARGE)) is True
        assert await tree.holds("known", literal(LARGE[:-1] + b"x")) is (False if sure else None)
        with pytest.raises(NotFound):
            await tree.holds("nothing", literal(b""))
        shelf.put("secret", b"one", encryption="aws:kms")
        assert await tree.holds("secret", literal(b"two")) is None


async def test_the_service_copies_where_nothing_is(moto: int, shelf: Shelf) -> None:
    shelf.put("노래 +%.mp3", b"song")
    async with opened(place(moto, shelf.name)) as tree:
        entry = await tree.copy("노래 +%.mp3", "d/copy")
        assert entry and (entry.name, entry.size) == ("copy", 4)
        assert entry.tag == (await tree.find("d/copy")).tag
        with pytest.raises(Changed):
            await tree.copy("노래 +%.mp3", "d/copy")
        with pytest.raises(NotFound):
            await tree.copy("nothing", "d/other")
    assert shelf.data("d/copy") == b"song"


# ── GCS and Azure, whose servers are not here: the same code before obstore's store in memory ──


@pytest.mark.parametrize("kind", ["gcs", "azure"])
async def test_other_kinds_of_bucket_are_their_files(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from obstore.store import MemoryStore

    store = MemoryStore()
    monkeypatch.setattr(obstored, "made", lambda where, silence: store)
    tree = ObjectTree(Place(kind, "bucket", account="someone"))
    for path, data in FILES.items():
        entry = await put(tree, path, data)
        with pytest.raises(Changed):
            await put(tree, path, b"other")
        await put(tree, path, data, replaces=entry.tag)
    await check_tree(tree, FILES)
    assert await tree.copy("a.mp3", "b.mp3")
    with pytest.raises(Changed):
        await tree.copy("a.mp3", "b.mp3")
    await tree.aclose()


@pytest.mark.parametrize(
    "where",
    [
        Place("azure", "container", endpoint="http://127.0.0.1:1", account="someone", secret="aHVzaA=="),
        Place("azure", "container", endpoint="http://127.0.0.1:1", account="someone", token="sv=1&sig=aHVzaA"),
        Place("gcs", "bucket", endpoint="http://127.0.0.1:1", token="aHVzaA"),
    ],
)
async def test_other_kinds_tell_no_secret_either(where: Place) -> None:
    tree = ObjectTree(where)
    with pytest.raises(Unavailable) as caught:
        await names(tree)
    assert "aHVzaA" not in caught.value.told + repr(caught.value.__cause__) + repr(tree.service.traffic)
    await tree.aclose()
    with pytest.raises(Malformed) as refused:
        ObjectTree(Place("gcs", "bucket", credentials='{"private_key": "aHVzaA"}'))
    assert "aHVzaA" not in refused.value.told + repr(refused.value.__cause__)
