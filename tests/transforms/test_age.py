"""age: what its vectors and other programs wrote is read, what is written they read, and the rest is refused."""

import asyncio
import hashlib
import os
import pty
import random
import subprocess
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pyrage  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playhead import Ask, Blob, Damaged, Denied, Failure, Malformed, NotFound, Tree, Unsized, literal, walk
from playhead.blob import Pieces, pieces
from playhead.origins.local import LocalTree
from playhead.origins.memory import MemoryTree
from playhead.transforms import age, ageheader, armor
from playhead.transforms.age import AgeTree, aged, decrypted, encrypted, flowing
from playhead.transforms.ageheader import Identity, Stanza, identities, passphrase, recipient
from playhead.transforms.armor import armored, dearmored
from playhead.transforms.sealed import PLAIN, SEALED, TAG
from tests.cuts import KINDS, LENT, Recording, cut, got
from tests.laws import check_blob, check_tree, collected, taken
from tests.peers.servers import program

MIB = 1 << 20
SIZES = [0, 1, 47, 48, 49, PLAIN - 1, PLAIN, PLAIN + 1, 2 * PLAIN, MIB - 1, MIB, MIB + 1]
DATA = random.Random(1).randbytes(3 * PLAIN + 100)
WHOLE = DATA[: 3 * PLAIN]  # all its chunks are full
LONG = random.Random(2).randbytes(20 * PLAIN + 1000)  # several batches
SECRET, OTHER = (str(pyrage.x25519.Identity.generate()) for _ in "ab")
PUBLIC, OTHER_PUBLIC = (str(pyrage.x25519.Identity.from_str(text).to_public()) for text in (SECRET, OTHER))
KNOWN, STRANGER = identities(SECRET), identities(OTHER)
PASSWORD = "correct 말 battery"
WORK = 4  # log2 of what a passphrase costs here
DEADLINE = 30.0


def of(size: int) -> bytes:
    return LONG[:size]


async def written(data: bytes, *recipients: str) -> bytes:
    """A file of age for some; for SECRET where nobody is named."""
    return await (await encrypted(literal(data), [recipient(text) for text in recipients or [PUBLIC]])).read()


def begin(sealed: bytes) -> int:
    """Where the chunks of a file begin."""
    return sealed.index(b"\n", sealed.index(b"\n--- ") + 1) + 1 + age.NONCE


@asynccontextmanager
async def quiet() -> AsyncIterator[None]:
    """When it is over, no task may be left."""
    async with asyncio.timeout(DEADLINE):
        yield
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def ranged(blob: Blob, known: Sequence[Identity]) -> Pieces:
    """What is in a file, as it is read by range."""
    opened = await decrypted(blob, known)
    async with aclosing(opened.stream(0, opened.size)) as stream:
        async for piece in stream:
            yield piece


async def flowed(blob: Blob, known: Sequence[Identity]) -> Pieces:
    """What is in a file, as it is read from its beginning; its armor taken off before."""
    if armor.is_armor(await blob.read(0, 4096)):
        blob = await dearmored(blob)
    async with aclosing(flowing(pieces(blob, 0, blob.size), known)) as stream:
        async for piece in stream:
            yield piece


Way = Callable[[Blob, Sequence[Identity]], Pieces]
WAYS: dict[str, Way] = {"by range": ranged, "from the beginning": flowed}
both_ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


# ── the vectors ──

VECTORS = Path(__file__).parents[3] / "shared" / "data" / "age"
NAMES = sorted(path.name for path in VECTORS.iterdir()) if VECTORS.is_dir() else []
ABSENT = pytest.param("", marks=pytest.mark.skip(reason=f"the vectors of age are not in {VECTORS}"))
each_vector = pytest.mark.parametrize("name", NAMES or [ABSENT])


@dataclass(frozen=True)
class Vector:
    """A file, who may read it, the kind of failure that is due, and the SHA-256 of what may be given before it."""

    file: bytes
    known: list[Identity]
    failure: type[Failure] | None
    payload: str


def vector(name: str) -> Vector:
    head, _, file = (VECTORS / name).read_bytes().partition(b"\n\n")
    lines = [line.partition(": ") for line in head.decode().split("\n")]
    said = {key: value for key, _, value in lines}
    if said.get("compressed") == "zlib":
        file = zlib.decompress(file)
    try:
        known = [one for key, _, value in lines if key == "identity" for one in identities(value)]
    except Malformed as old:
        assert "newer version" in str(old)
        pytest.skip(str(old))
    known += [passphrase(value) for key, _, value in lines if key == "passphrase"]
    due: dict[str, type[Failure] | None] = {"success": None, "no match": Denied}
    return Vector(file, known, due.get(said["expect"], Damaged), said.get("payload", hashlib.sha256().hexdigest()))


@each_vector
async def test_a_vector_is_read_or_refused_from_its_beginning(name: str) -> None:
    it = vector(name)
    for kind in KINDS:
        data, failure = await got(flowed(cut(kind, it.file), it.known))
        assert type(failure) is (it.failure or type(None)), failure
        assert hashlib.sha256(data).hexdigest() == it.payload


@each_vector
async def test_a_vector_is_read_or_refused_by_range(name: str) -> None:
    it = vector(name)
    allowed, _ = await got(flowed(literal(it.file), it.known))
    for kind in KINDS:
        data, failure = await got(ranged(cut(kind, it.file), it.known))
        assert type(failure) is (it.failure or type(None)), failure
        assert allowed.startswith(data)
        if not failure:
            assert hashlib.sha256(data).hexdigest() == it.payload


# ── the law ──


@pytest.fixture(scope="module")
def files() -> dict[int, bytes]:
    """Files of age by the sizes of what is in them, as pyrage writes them."""
    return {size: pyrage.encrypt(of(size), [pyrage.x25519.Recipient.from_str(PUBLIC)]) for size in SIZES}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
async def test_what_pyrage_wrote_is_a_blob(files: dict[int, bytes], size: int, kind: str) -> None:
    async with quiet():
        await check_blob(await decrypted(cut(kind, files[size]), KNOWN), of(size), rounds=6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
async def test_what_is_written_is_a_blob_that_pyrage_reads(size: int, kind: str) -> None:
    async with quiet():
        made = await encrypted(cut(kind, of(size)), [recipient(PUBLIC)])
        sealed = await made.read()
        await check_blob(made, sealed, rounds=6)
        assert pyrage.decrypt(sealed, [pyrage.x25519.Identity.from_str(SECRET)]) == of(size)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
async def test_armor_is_a_blob_that_holds_a_blob(size: int, kind: str) -> None:
    async with quiet():
        made = armored(cut(kind, of(size)))
        text = await made.read()
        await check_blob(made, text, rounds=4)
        if size:
            await check_blob(await dearmored(cut(kind, text)), of(size), rounds=4)


@pytest.mark.parametrize("size", [1, 47, 48, 49, 96, PLAIN, MIB + 1])
async def test_lines_of_armor_may_end_as_on_windows_and_blanks_may_stand_around(size: int) -> None:
    text = (await armored(literal(of(size))).read()).replace(b"\n", b"\r\n")
    for around in (text, text.removesuffix(b"\r\n"), b" \r\n\t\n" + text + b"\n \t\r\n" * 100):
        await check_blob(await dearmored(literal(around)), of(size), rounds=3)


@pytest.mark.parametrize("way", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
async def test_an_armored_file_of_age_is_a_blob(way: bytes) -> None:
    text = (await armored(literal(await written(DATA))).read()).replace(b"\n", way)
    for kind in KINDS:
        await check_blob(await decrypted(cut(kind, text), KNOWN), DATA, rounds=4)


async def test_a_local_file_is_a_blob(tmp_path: Path) -> None:
    (tmp_path / "f.age").write_bytes(await written(LONG))
    (tmp_path / "f").write_bytes(LONG)
    tree = LocalTree(tmp_path)
    await check_blob(await decrypted(await tree.open("f.age"), KNOWN), LONG)
    made = await encrypted(await tree.open("f"), [recipient(PUBLIC)])
    assert await (await decrypted(literal(await made.read()), KNOWN)).read() == LONG
    assert made.modified == (await tree.open("f")).modified


@pytest.mark.parametrize("what", ["read", "written", "armored", "dearmored", "read from its beginning"])
async def test_spans_are_read_before_their_stream_goes_on(what: str) -> None:
    sealed = await written(LONG)
    text = await armored(literal(sealed)).read()
    if what == "read":
        assert await got(ranged(cut(LENT, sealed), KNOWN)) == (LONG, None)
    elif what == "written":
        made = await encrypted(cut(LENT, LONG), [recipient(PUBLIC)])
        assert await got(ranged(literal(await made.read()), KNOWN)) == (LONG, None)
    elif what == "armored":
        assert await armored(cut(LENT, sealed)).read() == text
    elif what == "dearmored":
        blob = await dearmored(cut(LENT, text))
        assert await got(blob.stream(0, blob.size)) == (sealed, None)
    else:
        assert await got(flowed(cut(LENT, sealed), KNOWN)) == (LONG, None)


async def test_a_range_asks_for_its_chunks_and_nothing_else() -> None:
    sealed = await written(DATA)
    below = cut("bytes", sealed)
    blob = await decrypted(below, KNOWN)
    below.begun.clear()
    await collected(blob.stream(PLAIN + 5, 2 * PLAIN + 1))
    assert below.begun == [(begin(sealed) + SEALED, begin(sealed) + 3 * SEALED)]
    below.begun.clear()
    assert await collected(blob.stream(0, 1)) == DATA[:1]
    assert below.begun == [(begin(sealed), begin(sealed) + SEALED)]


async def test_what_is_at_hand_below_is_at_hand() -> None:
    blob = await decrypted(literal(await written(DATA)), KNOWN)
    assert [taken(piece) for piece in blob.here(PLAIN - 5, PLAIN + 5) or []] == [DATA[PLAIN - 5 : PLAIN + 5]]
    assert blob.here(7, 7) == []
    assert (await decrypted(cut("bytes", await written(DATA)), KNOWN)).here(0, 5) is None


async def test_tags_are_of_the_file_and_its_key() -> None:
    sealed = literal(await written(DATA))
    one, same = await decrypted(sealed, KNOWN), await decrypted(sealed, KNOWN)
    assert one.tag == same.tag is not None
    assert one.tag != sealed.tag
    assert one.tag != (await decrypted(literal(await written(DATA)), KNOWN)).tag
    assert (await decrypted(literal(sealed.data, None), KNOWN)).tag is None  # type: ignore[attr-defined]
    assert (await encrypted(literal(DATA, None), [recipient(PUBLIC)])).tag is None


async def test_what_is_written_twice_is_written_differently() -> None:
    one, other = await written(DATA), await written(DATA)
    assert one[begin(one) :][:SEALED] != other[begin(other) :][:SEALED]


@both_ways
async def test_closing_early_leaves_nothing_behind(way: Way) -> None:
    sealed = await written(LONG)
    async with quiet(), aclosing(way(cut("views", sealed), KNOWN)) as stream:
        await anext(stream)


# ── other programs ──


@pytest.mark.parametrize("made", [False, True], ids=["binary", "armored"])
async def test_pyrage_writes_for_many_and_each_reads(made: bool) -> None:
    for_both = [pyrage.x25519.Recipient.from_str(text) for text in (OTHER_PUBLIC, PUBLIC)]
    sealed = pyrage.encrypt(DATA, for_both, armored=made)
    for known in (KNOWN, STRANGER, [*STRANGER, *KNOWN]):
        assert await (await decrypted(literal(sealed), known)).read() == DATA


@pytest.mark.parametrize("made", [False, True], ids=["binary", "armored"])
async def test_what_is_written_for_many_pyrage_reads(made: bool) -> None:
    sealed = literal(await written(DATA, OTHER_PUBLIC, PUBLIC))
    for secret in (SECRET, OTHER):
        text = await (armored(sealed) if made else sealed).read()
        assert pyrage.decrypt(text, [pyrage.x25519.Identity.from_str(secret)]) == DATA


@pytest.mark.torture  # pyrage takes ten seconds over its passphrase
async def test_pyrage_writes_for_a_passphrase() -> None:
    sealed = pyrage.passphrase.encrypt(DATA, PASSWORD)
    assert await (await decrypted(literal(sealed), [*KNOWN, passphrase(PASSWORD)])).read() == DATA


async def test_what_is_written_for_a_passphrase_pyrage_reads() -> None:
    sealed = await (await encrypted(literal(DATA), [ageheader.for_passphrase(PASSWORD, WORK)])).read()
    assert pyrage.passphrase.decrypt(sealed, PASSWORD) == DATA


def run(name: str, *arguments: str, given: bytes = b"") -> bytes:
    """What a program of Debian's `age` says, or CalledProcessError; the test is skipped where it is not installed."""
    command = [program(name, "age"), *arguments]
    return subprocess.run(command, input=given, capture_output=True, check=True, timeout=DEADLINE).stdout


def prompted(name: str, *arguments: str) -> None:
    """The same for who asks for a passphrase (twice, at most) at a terminal."""
    command = [program("setsid", "util-linux"), "--ctty", "--wait", program(name, "age"), *arguments]
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{PASSWORD}\n{PASSWORD}\n".encode())
        subprocess.run(command, stdin=theirs, capture_output=True, check=True, timeout=DEADLINE)
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.fixture
def keygen() -> tuple[str, str]:
    """What `age-keygen` writes: the identity file, and the public key in it."""
    text = run("age-keygen").decode()
    [public] = [line.rpartition(" ")[2] for line in text.splitlines() if "public key" in line]
    return text, public


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("how", [(), ("--armor",)], ids=["binary", "armored"])
async def test_what_age_writes_is_read(keygen: tuple[str, str], size: int, how: tuple[str, ...]) -> None:
    sealed = run("age", "--encrypt", *how, "--recipient", keygen[1], given=of(size))
    for way in WAYS.values():
        assert await got(way(literal(sealed), identities(keygen[0]))) == (of(size), None)


@pytest.mark.parametrize("size", SIZES)
async def test_what_is_written_age_reads(keygen: tuple[str, str], tmp_path: Path, size: int) -> None:
    (tmp_path / "key").write_text(keygen[0])
    sealed = literal(await written(of(size), OTHER_PUBLIC, keygen[1]))
    for blob in (sealed, armored(sealed)):
        assert run("age", "--decrypt", "--identity", str(tmp_path / "key"), given=await blob.read()) == of(size)


async def test_age_and_a_passphrase_both_ways(tmp_path: Path) -> None:
    plain, theirs, ours, back = (tmp_path / name for name in ("plain", "theirs", "ours", "back"))
    plain.write_bytes(DATA)
    prompted("age", "--encrypt", "--passphrase", "--output", str(theirs), str(plain))
    assert await (await decrypted(literal(theirs.read_bytes()), [passphrase(PASSWORD)])).read() == DATA
    ours.write_bytes(await (await encrypted(literal(DATA), [ageheader.for_passphrase(PASSWORD, WORK)])).read())
    prompted("age", "--decrypt", "--output", str(back), str(ours))
    assert back.read_bytes() == DATA


# ── what was changed ──


def flipped(data: bytes, at: int, bit: int = 0x10) -> bytes:
    return data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]


@pytest.fixture(scope="module")
def sealed() -> bytes:
    return asyncio.run(written(DATA))


@both_ways
async def test_no_bit_of_a_header_may_be_flipped(sealed: bytes, way: Way) -> None:
    mac = sealed.index(b"\n---") + 1
    for at in range(begin(sealed)):
        data, failure = await got(way(literal(flipped(sealed, at, 1 << at % 8)), KNOWN))
        assert data == b""
        own = at < len(ageheader.VERSION) or at >= mac  # the rest may look as if it were for somebody else
        assert type(failure) is Damaged or (type(failure) is Denied and not own), at


CHUNKS = 4


@both_ways
@pytest.mark.parametrize("number", range(CHUNKS))
@pytest.mark.parametrize("at", [0, 20, -1], ids=["its first byte", "inside", "its seal"])
async def test_no_bit_of_a_chunk_may_be_flipped(sealed: bytes, way: Way, number: int, at: int) -> None:
    first = begin(sealed) + number * SEALED
    spoiled = flipped(sealed, (first if at >= 0 else min(first + SEALED, len(sealed))) + at)
    data, failure = await got(way(literal(spoiled), KNOWN))
    assert type(failure) is Damaged and f"chunk {number} " in str(failure)
    assert data == DATA[: len(data)] and len(data) <= number * PLAIN
    if way is flowed:
        assert len(data) == number * PLAIN
    if number == CHUNKS - 1 and way is ranged:
        assert data == b""  # the last is opened before any is given


@pytest.mark.parametrize("number", range(CHUNKS - 1))
async def test_what_was_not_changed_is_still_read_by_range(sealed: bytes, number: int) -> None:
    blob = await decrypted(literal(flipped(sealed, begin(sealed) + number * SEALED + 99)), KNOWN)
    at = number * PLAIN
    assert blob.here(at, at + 5) is None
    for start, stop in ((at, at + 1), (max(0, at - 1), at + PLAIN), (at + PLAIN - 1, at + PLAIN)):
        assert await got(blob.stream(start, stop)) != (DATA[start:stop], None)
    for start, stop in ((0, at), (at + PLAIN, len(DATA))):
        assert await blob.read(start, stop) == DATA[start:stop]


BORDERS = [0, 1, 15, 16, 17, 18, 1000]


@both_ways
@pytest.mark.parametrize("plain", [b"", b"x", DATA[:PLAIN], WHOLE, DATA], ids=["none", "one", "full", "three", "four"])
async def test_a_file_that_was_cut_is_refused(way: Way, plain: bytes) -> None:
    sealed = await written(plain)
    first, mac = begin(sealed), sealed.index(b"\n---")
    head = {0, 1, 20, 21, 22, 23, mac, mac + 1, mac + 4, first - 17, first - 16, first - 15, first - 1}
    chunks = {first + n * SEALED + by for n in range(CHUNKS + 1) for by in (*BORDERS, *(-by for by in BORDERS))}
    ends = {len(sealed) - by for by in BORDERS[1:]}
    for size in sorted(head | chunks | ends):
        if not 0 <= size < len(sealed):
            continue
        data, failure = await got(way(literal(sealed[:size]), KNOWN))
        assert type(failure) is Damaged, size
        assert data == plain[: len(data)]
        if way is ranged:
            assert data == b""  # it is refused before its first byte
        else:
            assert len(data) == min(max(0, size - first) // SEALED, max(0, len(plain) - 1) // PLAIN) * PLAIN


Change = Callable[[list[bytes]], list[bytes]]
CHANGES: dict[str, Change] = {
    "the first two swapped": lambda c: [c[1], c[0], *c[2:]],
    "two in the middle swapped": lambda c: [c[0], c[2], c[1], c[3]],
    "the last swapped": lambda c: [*c[:2], c[3], c[2]],
    "turned round": lambda c: c[::-1],
    "the first repeated": lambda c: [c[0], *c],
    "one in the middle left out": lambda c: [c[0], *c[2:]],
    "the first left out": lambda c: c[1:],
    "the last left out": lambda c: c[:-1],
    "one before the last left out": lambda c: [*c[:2], c[3]],
    "the last repeated": lambda c: [*c, c[-1]],
    "the first appended": lambda c: [*c, c[0]],
    "all appended": lambda c: c + c,
    "a byte appended": lambda c: [*c, b"\0"],
    "15 bytes appended": lambda c: [*c, bytes(15)],
    "16 bytes appended": lambda c: [*c, bytes(16)],
    "a chunk of zeros appended": lambda c: [*c, bytes(SEALED)],
    "zeros in the middle": lambda c: [c[0], bytes(SEALED), *c[2:]],
    "a line appended": lambda c: [*c, b"\n"],
    "another file's first": lambda c: [asyncio.run(written(DATA))[-len(b"".join(c)) :][:SEALED], *c[1:]],
}


@both_ways
@pytest.mark.parametrize("plain", [WHOLE + DATA[:PLAIN], DATA], ids=["full", "short"])
@pytest.mark.parametrize("what", CHANGES)
def test_chunks_have_their_places(way: Way, what: str, plain: bytes) -> None:
    sealed = asyncio.run(written(plain))
    first = begin(sealed)
    chunks = [sealed[at : at + SEALED] for at in range(first, len(sealed), SEALED)]
    assert len(chunks) == CHUNKS
    spoiled = sealed[:first] + b"".join(CHANGES[what](chunks))

    async def check() -> None:
        data, failure = await got(way(literal(spoiled), KNOWN))
        assert type(failure) is Damaged
        assert data == plain[: len(data)]
        assert way is flowed or len(data) < len(plain)

    asyncio.run(check())


async def test_a_file_whose_nonce_is_another_files_is_refused(sealed: bytes) -> None:
    other, at = await written(DATA), begin(sealed)
    with pytest.raises(Damaged):
        await decrypted(literal(sealed[: at - age.NONCE] + other[at - age.NONCE :]), KNOWN)


async def test_chunks_of_zeros_are_no_chunks(sealed: bytes) -> None:
    for size in (0, TAG, TAG + 1, SEALED, SEALED + TAG + 1):
        for way in WAYS.values():
            data, failure = await got(way(literal(sealed[: begin(sealed)] + bytes(size)), KNOWN))
            assert (data, type(failure)) == (b"", Damaged)


@both_ways
@pytest.mark.parametrize("size", [0, 1, 22, 5000, 300_000])
async def test_what_is_no_file_of_age_is_refused(way: Way, size: int) -> None:
    endless = b"-> X25519 abc\n" + (b"A" * 64 + b"\n") * (size // 65)
    for file in (bytes(size), b"\n" * size, ageheader.VERSION + endless, b"age-encryption.org/v2\n" + endless):
        data, failure = await got(way(literal(file), KNOWN))
        assert (data, type(failure)) == (b"", Damaged)


async def test_a_long_header_is_read_and_an_endless_one_is_not_waited_for() -> None:
    grease = Stanza(("grease", *("x" * 50 for _ in range(20))), bytes(100_000))
    sealed = await (await encrypted(literal(DATA), [lambda key: grease, recipient(PUBLIC)])).read()
    for way in WAYS.values():
        assert await got(way(cut("bytes", sealed), KNOWN)) == (DATA, None)

    async def endless() -> Pieces:
        yield ageheader.VERSION + b"-> grease\n"
        while True:
            yield (b"A" * 64 + b"\n") * 100

    async with asyncio.timeout(DEADLINE):
        assert type((await got(flowing(endless(), KNOWN)))[1]) is Damaged


def greased(size: int) -> ageheader.Wrap:
    return lambda key: Stanza(("grease",), bytes(size))


@both_ways
@pytest.mark.parametrize(("size", "allowed"), [(190_000, True), (200_000, False), (500_000, False)])
async def test_a_header_may_be_so_long_and_not_longer(way: Way, size: int, allowed: bool) -> None:
    sealed = await (await encrypted(literal(DATA), [greased(size), recipient(PUBLIC)])).read()
    assert (begin(sealed) - age.NONCE <= ageheader.LONGEST) is allowed
    for kind in KINDS:
        data, failure = await got(way(cut(kind, sealed), KNOWN))
        assert (data, type(failure)) == ((DATA, type(None)) if allowed else (b"", Damaged))


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
async def test_armor_that_was_changed_is_refused(sealed: bytes, ending: bytes) -> None:
    text = (await armored(literal(sealed)).read()).replace(b"\n", ending)
    lines = text.split(ending)
    changes = [
        text[:-30],
        text[: len(text) // 2],
        ending.join([*lines[:9], *lines[10:]]),
        ending.join([*lines[:9], lines[9][:-4], *lines[10:]]),
        ending.join([*lines[:9], lines[9] + b"AAAA", *lines[10:]]),
        ending.join([*lines[:9], b"", *lines[9:]]),
        ending.join([*lines[:9], b" " + lines[9][1:], *lines[10:]]),
        ending.join([*lines[:9], lines[10], lines[9], *lines[11:]]),
        ending.join([*lines[:-3], lines[-3] + b"=", *lines[-2:]]),
        text + text,
        text + b"x",
        b"x" + text,
        text.replace(ending, b"\r", 1),
        text.replace(ending, b"\n\r", 5),
        ending.join(lines[:9]) + b"xx"[: len(ending)] + ending.join(lines[9:]),
        ending.join(lines[:9]) + b"  "[: len(ending)] + ending.join(lines[9:]),
    ]
    for number, changed in enumerate(changes):
        for way in WAYS.values():
            data, failure = await got(way(literal(changed), KNOWN))
            assert type(failure) is Damaged, number
            assert data == DATA[: len(data)] and len(data) < len(DATA)


async def test_a_wrong_line_is_refused_by_who_reads_it_and_by_nobody_else() -> None:
    text = await armored(literal(DATA)).read()
    lines = text.split(b"\n")
    lines[1500] = b"*" + lines[1500][1:]
    blob = await dearmored(literal(b"\n".join(lines)))
    assert await blob.read(0, 1024 * 48) == DATA[: 1024 * 48]
    with pytest.raises(Damaged, match="line 1501 "):
        await blob.read(1499 * 48, 1499 * 48 + 1)


edits = st.tuples(st.integers(0, 1 << 20), st.integers(0, 80), st.binary(max_size=80))


@given(st.booleans(), edits)
@settings(max_examples=150, deadline=None)
def test_any_other_file_is_refused(in_armor: bool, edit: tuple[int, int, bytes]) -> None:
    async def check() -> None:
        file = await written(DATA[:100])
        file = await armored(literal(file)).read() if in_armor else file
        at = edit[0] % (len(file) + 1)
        changed = file[:at] + edit[2] + file[at + edit[1] :]
        blank = in_armor and changed.strip() == file.strip()
        for way in WAYS.values():
            data, failure = await got(way(literal(changed), KNOWN))
            if changed == file or (blank and failure is None):
                assert (data, failure) == (DATA[:100], None)
            else:
                assert isinstance(failure, Damaged | Denied)
                assert data in (b"", DATA[:100])

    asyncio.run(check())


# ── who may read ──


@both_ways
async def test_who_has_not_the_key_is_denied(sealed: bytes, way: Way) -> None:
    for known in ([], STRANGER, [passphrase(PASSWORD)], [*STRANGER, passphrase("")]):
        data, failure = await got(way(literal(sealed), known))
        assert (data, type(failure)) == (b"", Denied)


@both_ways
async def test_who_has_not_the_passphrase_is_denied(way: Way) -> None:
    sealed = await (await encrypted(literal(DATA), [ageheader.for_passphrase(PASSWORD, WORK)])).read()
    for known in (KNOWN, [passphrase("")], [passphrase(PASSWORD + " ")]):
        data, failure = await got(way(literal(sealed), known))
        assert (data, type(failure)) == (b"", Denied)
    assert await got(way(literal(sealed), [passphrase("x"), passphrase(PASSWORD)])) == (DATA, None)


def test_an_identity_file_has_notes_and_several_keys() -> None:
    text = f"# created: 2026-01-01\r\n# public key: {PUBLIC}\r\n{SECRET}\r\n\r\n  {OTHER}  \n\n"
    assert [one.kind for one in identities(text)] == ["X25519", "X25519"]


NO_KEYS = [
    *("", "\n\n", "# only a note", "hello", "1", "AGE1", "별", PUBLIC, SECRET + "q", SECRET + "\0", SECRET[:-1]),
    *("AGE-SECRET-KEY-1", "AGE-SECRET-KEY-PQ-1", "AGE-PLUGIN-YUBIKEY-1QQQ", "-----BEGIN OPENSSH PRIVATE KEY-----"),
    *(SECRET.replace("1", "", 1), SECRET[:20] + SECRET[20:].lower(), f"{SECRET}\n{SECRET[:-1]}", f"{SECRET} {OTHER}"),
]


@pytest.mark.parametrize("text", NO_KEYS, ids=range(len(NO_KEYS)))
def test_what_is_no_secret_key_is_refused_and_not_told(text: str) -> None:
    with pytest.raises(Malformed) as told:
        identities(text)
    assert SECRET[20:-1] not in str(told.value)


@pytest.mark.parametrize("at", range(len("AGE-SECRET-KEY-"), 74, 3))
def test_a_mistyped_key_is_refused(at: int) -> None:
    other = "Q" if SECRET[at] != "Q" else "P"
    for mistyped in (SECRET[:at] + other + SECRET[at + 1 :], SECRET[:at] + SECRET[at + 1 :]):
        with pytest.raises(Malformed):
            identities(mistyped)


@pytest.mark.parametrize("text", ["", SECRET, PUBLIC[:-1], PUBLIC + "q", "age1", "ssh-ed25519 AAAA"], ids=range(6))
def test_what_is_no_public_key_is_refused_and_not_told(text: str) -> None:
    with pytest.raises(Malformed) as told:
        recipient(text)
    assert SECRET[20:] not in str(told.value)


def for_work(work: str) -> bytes:
    """A file for a passphrase that is said to cost so much."""
    key = bytes(16)
    head = ageheader.written([Stanza(("scrypt", ageheader.padless(bytes(16)), work), bytes(32))], key)
    return head + bytes(16 + TAG)


@both_ways
@pytest.mark.parametrize("work", ["21", "22", "30", "63", "99", "100", "0", "-1", "1x", "01", "+1", "9" * 5000])
async def test_a_passphrase_that_costs_too_much_is_refused_and_not_computed(
    way: Way, work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashlib, "scrypt", lambda *_, **__: pytest.fail("it was computed"))
    _, failure = await got(way(literal(for_work(work)), [passphrase(PASSWORD)]))
    assert type(failure) is Damaged


async def test_the_most_that_a_passphrase_may_cost_is_let_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def scrypt(password: bytes, *, n: int, maxmem: int, **_: object) -> bytes:
        asked.append(n)
        assert maxmem >= 128 * 8 * n
        return bytes(32)

    monkeypatch.setattr(hashlib, "scrypt", scrypt)
    for work in (1, 18, 20):
        with pytest.raises(Denied):
            await decrypted(literal(for_work(str(work))), [passphrase(PASSWORD)])
    assert asked == [1 << 1, 1 << 18, 1 << 20]


async def test_no_secret_is_in_what_things_are_called(sealed: bytes) -> None:
    blob = await decrypted(literal(sealed), KNOWN)
    assert isinstance(blob, age.Decrypted)
    made = await encrypted(literal(b""), [recipient(PUBLIC)])
    assert isinstance(made, age.Encrypted)
    raw = ageheader._bech32(SECRET)[1]
    tree = AgeTree(MemoryTree({}), KNOWN)
    shown = f"{blob!r} {blob.opened!r} {made!r} {KNOWN!r} {passphrase(PASSWORD)!r} {tree!r} {tree.opened!r} {blob.tag}"
    for secret in (blob.opened.key, made.key, raw):
        assert repr(secret)[2:-1] not in shown and secret.hex() not in shown
    assert SECRET not in shown and PASSWORD not in shown


# ── names ──

PLAINS = {"song.flac": DATA, "folder/two": b"two", "folder/inner/three": b"3", "empty": b"", "가 나/\udcff.flac": b"x"}


async def sealed_files() -> dict[str, bytes]:
    return {f"{path}.age": await written(data) for path, data in PLAINS.items()}


def local(folder: Path, files: dict[str, bytes]) -> LocalTree:
    for path, data in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return LocalTree(folder)


async def listed(tree: Tree) -> list[str]:
    return sorted([path async for path, _ in walk(tree)])


async def test_a_tree_is_what_is_in_its_files(tmp_path: Path) -> None:
    files = await sealed_files()
    for tree in (MemoryTree(files), Recording(files), Recording(files, tagged=False), local(tmp_path, files)):
        async with quiet():
            await check_tree(it := aged(tree, KNOWN), PLAINS)
            await check_tree(it, PLAINS)  # and once its keys are known


async def test_what_is_not_encrypted_is_not_there(tmp_path: Path) -> None:
    files = {**await sealed_files(), "cover.jpg": b"\xff\xd8", "folder/notes.txt": b"notes", ".age": b"no name is left"}
    for tree in (MemoryTree(files), local(tmp_path, files)):
        await check_tree(aged(tree, KNOWN), PLAINS)
        for path in ("cover.jpg", "folder/notes.txt", ".age"):
            with pytest.raises(NotFound):
                await aged(tree, KNOWN).find(path)
            with pytest.raises(NotFound):
                await aged(tree, KNOWN).open(path)


async def test_armored_files_are_opened_too() -> None:
    text = await armored(literal(await written(DATA))).read()
    tree = aged(MemoryTree({"lf.age": text, "crlf.age": text.replace(b"\n", b"\r\n")}), KNOWN)
    for path in ("lf", "crlf"):
        await check_blob(await tree.open(path), DATA, rounds=3)


async def test_armored_files_flow_as_they_are_read() -> None:
    text = await armored(literal(await written(DATA))).read()
    await check_tree(aged(MemoryTree({"f.age": text}), KNOWN), {"f": DATA})


async def test_where_both_names_are_there_the_encrypted_one_is_meant() -> None:
    sealed = await written(DATA)
    files = {"a": b"plain", "a.age": sealed, "b/c.age": sealed, "b.age": sealed, "d.age.age": await written(sealed)}
    tree = aged(MemoryTree(files), KNOWN)
    assert await listed(tree) == ["a", "b", "d.age"]
    for path, data in {"a": DATA, "b": DATA, "d.age": sealed}.items():
        assert not (await tree.find(path)).folder
        assert await (await tree.open(path)).read() == data


async def test_a_folder_keeps_its_name() -> None:
    files = {"x.age/f.age": await written(DATA), "x.age/y.age/g.age": await written(b"g")}
    tree = aged(MemoryTree(files), KNOWN)
    await check_tree(tree, {"x.age/f": DATA, "x.age/y.age/g": b"g"})
    assert await listed(tree) == ["x.age", "x.age/f", "x.age/y.age", "x.age/y.age/g"]


async def test_a_folder_is_found_under_its_own_name_only() -> None:
    tree = aged(MemoryTree({"x.age/f.age": await written(DATA)}), KNOWN)
    with pytest.raises(NotFound):
        [entry async for entry in tree.entries("x")]
    with pytest.raises(NotFound):
        await tree.open("x")
    with pytest.raises(NotFound):
        await tree.find("x")


async def test_how_long_a_file_is_is_known_once_it_was_opened() -> None:
    tree = aged(MemoryTree(await sealed_files()), KNOWN)
    entries = [entry async for entry in tree.entries()]
    assert {entry.name: entry.size for entry in entries if not entry.folder} == {"song.flac": None, "empty": None}
    assert (await tree.find("song.flac")).size is None
    await tree.open("song.flac")
    assert (await tree.find("song.flac")).size == len(DATA)
    entries = [entry async for entry in tree.entries()]
    assert {entry.name: entry.size for entry in entries if not entry.folder} == {"song.flac": len(DATA), "empty": None}
    await tree.open("empty")
    assert (await tree.find("empty")).size == 0


async def test_a_header_is_read_once() -> None:
    files = {"f.age": await written(DATA)}
    inner, first = Recording(files), begin(files["f.age"])
    tree = aged(inner, KNOWN)
    assert await (await tree.open("f")).read() == DATA
    assert min(inner.read)[0] == 0
    inner.read.clear()
    inner.opened.clear()
    for _ in range(3):
        blob = await tree.open("f", Ask(2 * PLAIN, 2 * PLAIN + 10))
        assert inner.read == []
        assert await blob.read(2 * PLAIN, 2 * PLAIN + 10) == DATA[2 * PLAIN :][:10]
        assert inner.read == [(first + 2 * SEALED, first + 3 * SEALED)]
        inner.read.clear()
    assert [(path, ask.start, ask.stop) for path, ask in inner.opened] == 3 * [("f.age", *_chunks(first, 2, 3))]


def _chunks(begin: int, first: int, last: int) -> tuple[int, int]:
    return begin + first * SEALED, begin + last * SEALED


async def test_what_has_no_tag_is_opened_anew_each_time() -> None:
    inner = Recording({"f.age": await written(DATA)}, tagged=False)
    tree = aged(inner, KNOWN)
    assert await (await tree.open("f")).read() == DATA
    inner.write("f.age", await written(LONG))
    assert await (await tree.open("f")).read() == LONG


async def test_a_file_that_was_changed_is_read_anew(tmp_path: Path) -> None:
    inner = Recording({"f.age": await written(DATA)})
    tree = aged(inner, KNOWN)
    before = await tree.open("f")
    for data, others in ((DATA[::-1], []), (LONG, []), (b"", [OTHER_PUBLIC])):  # the first is as long as before
        inner.write("f.age", await written(data, *others, PUBLIC))
        blob = await tree.open("f")
        assert blob.tag != before.tag and (await tree.find("f")).size == len(data)
        await check_blob(blob, data, rounds=3)
    inner.write("f.age", await written(DATA, OTHER_PUBLIC))
    with pytest.raises(Denied):
        await tree.open("f")
    inner.write("f.age", (await written(DATA))[:-1])
    with pytest.raises(Damaged):
        await tree.open("f")
    inner.write("f.age", None)
    with pytest.raises(NotFound):
        await tree.open("f")


async def test_another_file_of_the_same_size_is_not_told_to_be_as_long() -> None:
    one, other = await written(DATA[:1000]), await written(DATA[:902], PUBLIC, OTHER_PUBLIC)  # a stanza is 98 bytes
    assert len(one) == len(other)
    inner = Recording({"f.age": one})
    tree = aged(inner, KNOWN)
    await tree.open("f")
    inner.write("f.age", other)
    assert (await tree.find("f")).size in (None, 902)


@pytest.mark.parametrize("stays", [False, True])
async def test_a_plain_file_never_comes_in_place_of_an_encrypted_one(stays: bool) -> None:
    inner = Recording({"f.age": await written(DATA)})
    tree = aged(inner, KNOWN)
    await tree.open("f")
    inner.write("f", b"plain")
    if stays:
        assert await (await tree.open("f")).read() == DATA
        return
    inner.write("f.age", None)
    with pytest.raises(NotFound):
        await tree.open("f")
    with pytest.raises(NotFound):
        await tree.find("f")


async def test_only_so_many_keys_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(age, "KNOWN", 2)
    files = {f"{n}.age": await written(b"%d" % n) for n in range(5)}
    tree = AgeTree(MemoryTree(files), KNOWN)
    for n in range(5):
        await tree.open(f"{n}")
    assert list(tree.opened) == ["3.age", "4.age"]
    await check_tree(tree, {f"{n}": b"%d" % n for n in range(5)})


async def test_what_has_no_size_flows() -> None:
    tree = aged(Recording(await sealed_files(), sized=False), KNOWN)
    for path, data in PLAINS.items():
        with pytest.raises(Unsized):
            await tree.open(path)
        assert await collected(tree.flow(path)) == data
        assert (await tree.find(path)).size is None
    with pytest.raises(NotFound):
        await collected(tree.flow("nothing"))


async def test_a_flow_that_ends_early_is_damaged_and_a_strangers_is_denied() -> None:
    inner = Recording({"f.age": (await written(DATA))[:-1]}, sized=False)
    data, failure = await got(aged(inner, KNOWN).flow("f"))
    assert (data, type(failure)) == (WHOLE, Damaged)
    data, failure = await got(aged(inner, STRANGER).flow("f"))
    assert (data, type(failure)) == (b"", Denied)


async def test_what_is_for_others_is_denied_and_remembered_by_nobody() -> None:
    tree = AgeTree(MemoryTree({"f.age": await written(DATA, OTHER_PUBLIC), "g.age": await written(DATA)}), KNOWN)
    for _ in range(2):
        with pytest.raises(Denied):
            await tree.open("f")
    assert not tree.opened
    assert await (await tree.open("g")).read() == DATA


async def test_a_passphrase_opens_many_files_at_once() -> None:
    files = {}
    for n in range(8):
        blob = await encrypted(literal(b"%d" % n), [ageheader.for_passphrase(PASSWORD, WORK)])
        files[f"{n}.age"] = await blob.read()
    tree = aged(MemoryTree(files), [*KNOWN, passphrase(PASSWORD)])
    async with quiet():
        blobs = await asyncio.gather(*(tree.open(f"{n}") for n in range(8)))
        assert [await blob.read() for blob in blobs] == [b"%d" % n for n in range(8)]


async def test_a_file_that_does_not_come_keeps_nobody_from_another() -> None:
    files = {"slow.age": await written(DATA), "f.age": await written(DATA)}
    inner, gate = Recording(files), asyncio.Event()
    inner.gates["slow.age"] = gate
    tree = aged(inner, KNOWN)
    async with quiet():
        slow = asyncio.ensure_future(tree.open("slow"))
        await asyncio.sleep(0.01)
        try:
            async with asyncio.timeout(1):
                assert await (await tree.open("f")).read() == DATA
        finally:
            gate.set()
            assert await (await slow).read() == DATA


async def test_what_cannot_be_reached_is_told_and_closing_closes() -> None:
    inner = Recording({"f.age": await written(DATA)})
    tree = aged(inner, KNOWN)
    inner.failing = Denied("not now")
    for question in (tree.open("f"), tree.find("f"), listed(tree), collected(tree.flow("f"))):
        with pytest.raises(Denied, match="not now"):
            await question
    await tree.aclose()
    assert inner.closed == 1
