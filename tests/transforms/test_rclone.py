"""The contents of rclone's crypt: what rclone wrote is read, what is written rclone reads; the rest is refused."""

import asyncio
import os
import random
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playhead import Blob, Damaged, Failure, Malformed, Piece, Unavailable
from playhead.blob import FileSpan, Pieces, literal
from playhead.origins.local import LocalTree
from playhead.transforms import rclone as crypt
from playhead.transforms.rclone import (
    HEAD,
    MARK,
    NONCE,
    Head,
    Keys,
    decrypted,
    encrypted,
    keys,
    plain_size,
    revealed,
    sealed_size,
)
from playhead.transforms.sealed import PLAIN, SEALED, TAG
from tests.laws import check_blob, collected, taken
from tests.peers.crypts import PASSWORD, PLAIN_NAMES, SALT, Setting, on_disk, put, rclone, written
from tests.transforms.quiet import quiet

MIB = 1 << 20
SIZES = [0, 1, PLAIN - 1, PLAIN, PLAIN + 1, MIB - 1, MIB, MIB + 1]
LAST = 40
DATA = random.Random(1).randbytes(LAST * PLAIN + 1000)  # batches of every length, and a last block that is short
WHOLE = DATA[: 6 * PLAIN]  # and one whose blocks are all whole
KEY = PLAIN_NAMES.keys
NONCES = [
    bytes(NONCE),
    bytes(range(NONCE)),
    b"\xff" * NONCE,
    b"\xff" * 8 + bytes(16),
    b"\xfe" + b"\xff" * 15 + bytes(8),
]


def of(size: int) -> bytes:
    return random.Random(size).randbytes(size)


async def bytes_of(blob: Blob) -> bytes:
    return await blob.read()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all sizes, by size, as rclone encrypts them."""
    return written({str(size): of(size) for size in SIZES}, tmp_path_factory.mktemp("rclone"), PLAIN_NAMES)


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


# ── what may lie below ──


@dataclass(frozen=True, slots=True, eq=False)
class Odd(Blob):
    """Pieces of odd lengths, some of them empty."""

    data: bytes

    async def stream(self, start: int, stop: int) -> Pieces:
        chance = random.Random(start)
        while start < stop:
            length = chance.choice([0, 1, 7, TAG, 31, 1000, SEALED - 1, SEALED, 3 * SEALED + 5, 400_000])
            yield memoryview(self.data)[start : min(stop, start + length)]
            start += length
            if chance.random() < 0.3:
                await asyncio.sleep(0)


@dataclass(frozen=True, slots=True, eq=False)
class Lent(Blob):
    """Spans of files that hold something else as soon as the stream goes on, as they may."""

    data: bytes

    async def stream(self, start: int, stop: int) -> Pieces:
        chance = random.Random(start)
        with TemporaryFile() as file:
            while start < stop:
                part = self.data[start : min(stop, start + chance.choice([11, 40_000, SEALED, 300_000]))]
                os.pwrite(file.fileno(), part, 5)
                yield FileSpan(file, 5, len(part))
                start += len(part)
                os.pwrite(file.fileno(), bytes(len(part)), 5)


@dataclass(frozen=True, slots=True, eq=False)
class Here(Blob):
    """What is at hand at once, as spans of a file and as memory."""

    data: bytes
    file: Any

    async def stream(self, start: int, stop: int) -> Pieces:
        for piece in self.here(start, stop):
            yield piece

    def here(self, start: int, stop: int) -> Sequence[Piece]:
        half = (start + stop) // 2
        return [FileSpan(self.file, start, half - start), memoryview(self.data)[half:stop]]


@dataclass(frozen=True, slots=True, eq=False)
class Counted(Blob):
    """Writes down each range as it is begun; pieces come when `gate` is open; `fail` may raise before each."""

    data: bytes
    begun: list[tuple[int, int]] = field(default_factory=list)
    open: list[int] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    fail: Callable[[int], None] = lambda at: None

    async def stream(self, start: int, stop: int) -> Pieces:
        self.begun.append((start, stop))
        self.open.append(start)
        try:
            for at in range(start, stop, 50_000):
                await self.gate.wait()
                self.fail(at)
                yield memoryview(self.data)[at : min(stop, at + 50_000)]
        finally:
            self.open.remove(start)


def counted(data: bytes, *, held: bool = False, **how: Any) -> Counted:
    blob = Counted(len(data), "t", data, **how)
    if not held:
        blob.gate.set()
    return blob


KINDS: dict[str, Callable[[bytes, Any], Blob]] = {
    "bytes": lambda data, file: literal(data),
    "odd pieces": lambda data, file: Odd(len(data), "t", data),
    "lent spans": lambda data, file: Lent(len(data), "t", data),
    "at hand": lambda data, file: Here(len(data), "t", data, file),
}
Below = Callable[[bytes], Blob]


@pytest.fixture(params=KINDS)
def below(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Below]:
    """Makes blobs of one of these kinds."""
    with ExitStack() as files:

        def make(data: bytes) -> Blob:
            file = files.enter_context(TemporaryFile())
            file.write(data)
            file.flush()
            return KINDS[request.param](data, file)

        yield make


# ── rclone's own files ──


@pytest.mark.parametrize("known", [False, True], ids=["cold", "known"])
@pytest.mark.parametrize("size", SIZES)
async def test_what_rclone_wrote_is_read(folder: Path, size: int, known: bool, below: Below) -> None:
    data = (folder / str(size)).read_bytes()
    head = Head(data[len(MARK) : HEAD]) if known else None
    await check_blob(decrypted(below(data), KEY, head), of(size))


@pytest.mark.parametrize("size", SIZES)
async def test_what_rclone_wrote_is_read_from_a_folder(folder: Path, size: int) -> None:
    blob = await LocalTree(folder).open(str(size))
    await check_blob(decrypted(blob, KEY), of(size))
    assert decrypted(blob, KEY).modified == blob.modified


async def test_100_megabytes_that_rclone_wrote_are_read(tmp_path: Path) -> None:
    data = of(100_000_000)
    folder = written({"film": data}, tmp_path, PLAIN_NAMES)
    await check_blob(decrypted(await LocalTree(folder).open("film"), KEY), data, rounds=3)
    (tmp_path / "clear" / "film").unlink()
    (folder / "film").unlink()


@pytest.mark.parametrize("at", [PLAIN, 5 * PLAIN - 1, 5 * PLAIN + 1, len(DATA) - 1])
@pytest.mark.parametrize("length", [1, PLAIN, 2 * PLAIN + 3, 17 * PLAIN])
async def test_a_cold_read_in_the_middle_is_right_whatever_lies_below(at: int, length: int, below: Below) -> None:
    sealed = await encrypted(literal(DATA), KEY).read()
    stop = min(len(DATA), at + length)
    assert await collected(decrypted(below(sealed), KEY).stream(at, stop)) == DATA[at:stop]


@pytest.mark.parametrize("salt", ["", "다른 소금"])
async def test_the_passwords_of_rclone_are_those_here(tmp_path: Path, salt: str) -> None:
    setting = Setting("off", suffix="", password="비밀번호 🔑", salt=salt)
    folder = written({"f": DATA}, tmp_path, setting)
    blob = await LocalTree(folder).open("f")
    assert await decrypted(blob, keys("비밀번호 🔑", salt)).read() == DATA


def test_the_empty_password_is_keys_of_zeros_and_potato_is_as_stated() -> None:
    assert keys("") == keys("", "salt") == Keys(bytes(32), bytes(32), bytes(16))
    assert keys("potato").data.hex().upper().startswith("7455C71AB17C865B")
    assert len({keys("a"), keys("b"), keys("a", "b"), keys("b", "a")}) == 4


# ── what is written ──


@pytest.mark.parametrize("nonce", NONCES, ids=lambda nonce: nonce.hex()[:20])
async def test_rclone_reads_what_is_written(tmp_path: Path, nonce: bytes) -> None:
    # nonces whose counter is carried over, and goes round
    files = {str(size): of(size) for size in SIZES}
    made = {name: await encrypted(literal(data), KEY, nonce).read() for name, data in files.items()}
    put(made, tmp_path / "sealed")
    rclone("copy", PLAIN_NAMES.remote(tmp_path / "sealed"), str(tmp_path / "clear"))
    assert on_disk(tmp_path / "clear") == files
    place = PLAIN_NAMES.remote(tmp_path / "sealed", str(MIB + 1))
    for start, count in ((PLAIN - 3, 10), (MIB - 1, 5), (MIB, 1), (3 * PLAIN, PLAIN)):
        said = rclone("cat", "--offset", str(start), "--count", str(count), place)
        assert said == of(MIB + 1)[start : start + count]


@pytest.mark.parametrize("size", SIZES)
async def test_with_the_nonce_of_rclone_the_bytes_are_those_of_rclone(folder: Path, size: int, below: Below) -> None:
    theirs = (folder / str(size)).read_bytes()
    await check_blob(encrypted(below(of(size)), KEY, theirs[len(MARK) : HEAD]), theirs)


async def test_equal_nonces_give_equal_bytes_and_tags_and_others_do_not() -> None:
    one, same = (encrypted(literal(DATA), KEY, bytes(NONCE)) for _ in "ab")
    assert one.tag == same.tag is not None
    assert await one.read() == await same.read()
    others = [
        encrypted(literal(DATA), KEY),
        encrypted(literal(DATA), KEY),
        encrypted(literal(DATA), keys("x"), bytes(24)),
    ]
    assert len({one.tag, *(other.tag for other in others)}) == 4
    assert len({await blob.read(0, HEAD) for blob in (one, *others[:2])}) == 3
    assert len({await blob.read(HEAD) for blob in (one, *others)}) == 4


def test_tags_are_of_the_contents_and_the_key() -> None:
    blob = literal(bytes(100))
    assert decrypted(blob, KEY).tag == decrypted(blob, KEY, Head(bytes(NONCE))).tag is not None
    assert decrypted(blob, KEY).tag not in (blob.tag, decrypted(blob, keys("x")).tag)
    assert decrypted(blob, KEY).tag != decrypted(literal(bytes(99)), KEY).tag
    assert decrypted(literal(bytes(100), None), KEY).tag is None
    assert encrypted(literal(b"", None), KEY).tag is None


near = st.builds(lambda blocks, by: max(0, blocks * PLAIN + by), st.integers(0, LAST), st.integers(-3, 3))


@given(st.one_of(near, st.integers(0, 300_000)), near, near, st.binary(min_size=NONCE, max_size=NONCE), st.booleans())
@settings(max_examples=80, deadline=None)
def test_what_is_encrypted_is_decrypted(size: int, one: int, other: int, nonce: bytes, odd: bool) -> None:
    data = DATA[:size]
    start, stop = sorted((min(one, len(data)), min(other, len(data))))

    async def check() -> None:
        below = Odd(len(data), "t", data) if odd else literal(data)
        back = decrypted(encrypted(below, KEY, nonce), KEY)
        assert back.size == len(data)
        assert await collected(back.stream(start, stop)) == data[start:stop]
        assert await back.read() == data

    asyncio.run(check())


# ── sizes ──


@given(st.integers(0, 1 << 60))
def test_sizes_come_back(size: int) -> None:
    assert plain_size(sealed_size(size)) == size


def test_of_the_sizes_of_short_files_all_are_told_or_refused() -> None:
    made = {sealed_size(size): size for size in range(2 * PLAIN + 10)}
    for size in range(sealed_size(2 * PLAIN + 9) + 1):
        if size in made:
            assert plain_size(size) == made[size]
        else:
            with pytest.raises(Damaged, match="not the size"):
                plain_size(size)


@pytest.mark.parametrize("size", [0, 1, HEAD - 1, HEAD + 1, HEAD + TAG, HEAD + SEALED + 1, HEAD + SEALED + TAG])
async def test_a_file_of_an_impossible_size_is_refused(size: int) -> None:
    sealed = await encrypted(literal(DATA), KEY).read()
    with pytest.raises(Damaged, match="was cut"):
        decrypted(literal(sealed[:size]), KEY)


# ── what was changed ──


def flipped(at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]


def with_blocks(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        blocks = [data[at : at + SEALED] for at in range(HEAD, len(data), SEALED)]
        return data[:HEAD] + b"".join(change(blocks))

    return changed


def block(number: int, at: int = 0) -> int:
    return HEAD + number * SEALED + at


def a_block_of_another_file(blocks: list[bytes]) -> list[bytes]:
    other = asyncio.run(bytes_of(encrypted(literal(DATA), KEY)))  # of the same key and bytes
    return [*blocks[:2], other[block(2) : block(3)], *blocks[3:]]


END = sealed_size(len(DATA))
CHANGES: dict[str, tuple[Callable[[bytes], bytes], int]] = {
    "nonce": (flipped(len(MARK)), 0),
    "last of the nonce": (flipped(HEAD - 1), 0),
    "first tag": (flipped(block(0)), 0),
    "first block": (flipped(block(0, TAG)), 0),
    "end of the first block": (flipped(block(1) - 1), 0),
    "second tag": (flipped(block(1, 3)), 1),
    "middle block": (flipped(block(10, 40_000)), 10),
    "last tag": (flipped(block(LAST, 5)), LAST),
    "last byte": (flipped(END - 1), LAST),
    "cut inside a block": (lambda data: data[: block(5, 1000)], 5),
    "cut by a byte": (lambda data: data[:-1], LAST),
    "cut by a byte and filled": (lambda data: data[:-1] + b"\0", LAST),
    "two swapped": (with_blocks(lambda b: [*b[:3], b[4], b[3], *b[5:]]), 3),
    "turned round": (with_blocks(lambda b: [*b[-2::-1], b[-1]]), 0),
    "one repeated": (with_blocks(lambda b: [*b[:3], b[2], *b[3:]]), 3),
    "one left out": (with_blocks(lambda b: [*b[:7], *b[8:]]), 7),
    "first left out": (with_blocks(lambda b: b[1:]), 0),
    "the first appended": (with_blocks(lambda b: [*b, b[0]]), LAST),
    "all appended": (with_blocks(lambda b: b + b), LAST),
    "bytes appended": (lambda data: data + bytes(100), LAST),
    "of another file": (with_blocks(a_block_of_another_file), 2),
    "zeros": (with_blocks(lambda b: [*b[:9], bytes(SEALED), *b[10:]]), 9),
}


@pytest.fixture(scope="module")
def sealed() -> bytes:
    return asyncio.run(bytes_of(encrypted(literal(DATA), KEY)))


@pytest.fixture(scope="module")
def spoiled(sealed: bytes) -> dict[str, bytes]:
    return {name: change(sealed) for name, (change, _) in CHANGES.items()}


def naming(number: int) -> str:
    return rf"block {number} \(bytes {number * PLAIN:,} and on\)"


@pytest.mark.parametrize("what", CHANGES)
async def test_a_block_that_was_changed_is_refused_and_named(
    spoiled: dict[str, bytes], what: str, below: Below
) -> None:
    async with quiet():
        blob, number = decrypted(below(spoiled[what]), KEY), CHANGES[what][1]
        data, failure = await got(blob.stream(0, blob.size))
        assert data == DATA[: len(data)] and len(data) <= number * PLAIN
        assert type(failure) is Damaged and re.match(naming(number), str(failure))
        if number * PLAIN < blob.size:
            data, failure = await got(blob.stream(number * PLAIN, blob.size))
            assert data == b"" and type(failure) is Damaged and re.match(naming(number), str(failure))


@pytest.mark.parametrize("what", CHANGES)
async def test_a_block_that_was_changed_is_not_here(spoiled: dict[str, bytes], what: str, sealed: bytes) -> None:
    number, data = CHANGES[what][1], spoiled[what]
    blob = decrypted(literal(data), KEY, Head(data[len(MARK) : HEAD]))
    start = number * PLAIN
    for stop in (start + 1, min(blob.size, start + PLAIN), blob.size):
        assert blob.here(start, stop) is None
    if start > 0 and blob.size > start:
        assert blob.here(start - 1, start + 1) is None
    if start >= PLAIN:
        assert b"".join(map(taken, blob.here(start - PLAIN, start) or [])) == DATA[start - PLAIN : start]


async def test_the_blocks_beside_one_that_was_changed_are_read(spoiled: dict[str, bytes]) -> None:
    blob = decrypted(literal(spoiled["middle block"]), KEY)
    assert await collected(blob.stream(0, 10 * PLAIN)) == DATA[: 10 * PLAIN]
    assert await collected(blob.stream(11 * PLAIN, blob.size)) == DATA[11 * PLAIN :]
    assert blob.here(10 * PLAIN - 1, 10 * PLAIN) and not blob.here(10 * PLAIN, 10 * PLAIN + 1)


@pytest.mark.parametrize("change", [lambda b: [*b, b[0]], lambda b: [*b, b[-1]], lambda b: [*b, bytes(SEALED)]])
async def test_a_block_after_whole_blocks_is_refused(change: Callable[[list[bytes]], list[bytes]]) -> None:
    blob = decrypted(literal(with_blocks(change)(await encrypted(literal(WHOLE), KEY).read())), KEY)
    data, failure = await got(blob.stream(0, blob.size))
    assert WHOLE.startswith(data)
    assert type(failure) is Damaged and re.match(naming(6), str(failure))


@pytest.mark.parametrize("at", range(len(MARK)))
async def test_a_file_without_the_mark_is_refused(sealed: bytes, at: int, below: Below) -> None:
    async with quiet():
        for start in (0, 7 * PLAIN):
            blob = decrypted(below(flipped(at)(sealed)), KEY)
            data, failure = await got(blob.stream(start, blob.size))
            assert data == b""
            assert type(failure) is Damaged and "not a file that rclone encrypted" in str(failure)
            assert blob.here(start, start + 1) is None


@pytest.mark.parametrize("start", [0, 5, PLAIN, 12 * PLAIN, len(DATA) - 1])
@pytest.mark.parametrize("other", [keys("another"), keys(PASSWORD), keys(SALT, PASSWORD), keys(PASSWORD.upper(), SALT)])
async def test_a_wrong_password_is_refused(sealed: bytes, start: int, other: Keys) -> None:
    blob = decrypted(literal(sealed), other)
    data, failure = await got(blob.stream(start, blob.size))
    assert data == b""
    assert type(failure) is Damaged and re.match(naming(start // PLAIN), str(failure))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_is_done_to_a_file_its_bytes_are_right_as_far_as_they_come(choice: st.DataObject) -> None:
    blob = encrypted(literal(WHOLE), KEY, bytes(NONCE))
    data = bytearray(asyncio.run(bytes_of(blob)))
    for _ in range(choice.draw(st.integers(1, 3))):
        at = choice.draw(st.integers(0, len(data) - 1))
        data[at] ^= choice.draw(st.integers(1, 255))
    stop = choice.draw(st.integers(HEAD, len(data)))
    start = choice.draw(st.integers(0, len(WHOLE)))

    async def check() -> None:
        try:
            spoiled = decrypted(literal(bytes(data[:stop])), KEY)
        except Damaged:
            return
        begin = min(start, spoiled.size)
        seen, _ = await got(spoiled.stream(begin, spoiled.size))
        assert seen == WHOLE[begin : begin + len(seen)]

    asyncio.run(check())


async def test_a_blob_below_that_ends_early_is_damaged(sealed: bytes) -> None:
    @dataclass(frozen=True, slots=True, eq=False)
    class Short(Blob):
        limit: int

        async def stream(self, start: int, stop: int) -> Pieces:
            yield sealed[start : min(stop, self.limit)]

    async with quiet():
        for limit in (0, 5, HEAD, HEAD + 7, block(9), block(9, 100), END - 1):
            for start in (0, 8 * PLAIN + 1):
                data, failure = await got(decrypted(Short(END, "t", limit), KEY).stream(start, len(DATA)))
                assert data == DATA[start : start + len(data)]
                assert type(failure) is Damaged
        sealing = encrypted(Short(END, "t", 100_000), KEY, bytes(NONCE))
        data, failure = await got(sealing.stream(0, sealing.size))
        assert type(failure) is Damaged and len(data) <= block(1)


# ── what is asked below ──


async def test_a_cold_read_from_the_beginning_is_one_stream_below(sealed: bytes) -> None:
    for start in (0, 5, PLAIN - 1):
        under = counted(sealed)
        blob = decrypted(under, KEY)
        assert await collected(blob.stream(start, 2 * PLAIN)) == DATA[start : 2 * PLAIN]
        assert under.begun == [(0, block(2))]
        assert await collected(blob.stream(7 * PLAIN + 1, 8 * PLAIN + 1)) == DATA[7 * PLAIN + 1 : 8 * PLAIN + 1]
        assert under.begun[1:] == [(block(7), block(9))]


async def test_a_cold_read_elsewhere_is_two_streams_below_that_are_begun_at_once_and_one_from_then_on(
    sealed: bytes,
) -> None:
    async with quiet():
        under = counted(sealed, held=True)
        blob = decrypted(under, KEY)
        reading = asyncio.create_task(collected(blob.stream(PLAIN, 3 * PLAIN + 1)))
        for _ in range(5):
            await asyncio.sleep(0)
        assert sorted(under.begun) == [(0, HEAD), (block(1), block(4))]
        under.gate.set()
        assert await reading == DATA[PLAIN : 3 * PLAIN + 1]
        assert len(under.begun) == 2
        for start, stop in ((0, 5), (15 * PLAIN, 15 * PLAIN + 1), (0, len(DATA))):
            assert await collected(blob.stream(start, stop)) == DATA[start:stop]
        assert under.begun[2:] == [(block(0), block(1)), (block(15), block(16)), (block(0), END)]


async def test_with_a_head_that_is_known_every_read_is_one_stream_below(sealed: bytes) -> None:
    under = counted(sealed)
    blob = decrypted(under, KEY, Head(sealed[len(MARK) : HEAD]))
    for start, stop in ((0, 1), (PLAIN - 1, PLAIN + 1), (len(DATA) - 1, len(DATA))):
        assert await collected(blob.stream(start, stop)) == DATA[start:stop]
    assert under.begun == [(block(0), block(1)), (block(0), block(2)), (block(LAST), END)]


async def test_nothing_is_asked_below_for_nothing(sealed: bytes) -> None:
    under = counted(sealed)
    for blob in (decrypted(under, KEY), encrypted(under, KEY)):
        for at in (0, 5, PLAIN, blob.size):
            assert await collected(blob.stream(at, at)) == b""
            assert b"".join(map(taken, blob.here(at, at) or [])) == b""
        assert await blob.read(0, 0) == b""
    assert await collected(encrypted(under, KEY).stream(3, HEAD)) != b""
    assert under.begun == []


async def test_the_first_block_is_given_while_the_next_have_not_come(sealed: bytes) -> None:
    def fail(at: int) -> None:
        if at > block(1):
            raise Unavailable("not yet")

    async with quiet(), aclosing(decrypted(counted(sealed, fail=fail), KEY).stream(0, len(DATA))) as stream:
        assert taken(await anext(stream)) == DATA[:PLAIN]


async def test_pieces_that_are_kept_stay_as_they_were(sealed: bytes) -> None:
    """A transport may hold a view unsent for as long as it likes."""
    blob = decrypted(literal(sealed), KEY)

    async def kept(start: int) -> tuple[int, list[Piece]]:
        return start, [piece async for piece in blob.stream(start, blob.size)]

    reads = await asyncio.gather(*(kept(number * 9000) for number in range(12)))
    reads += await asyncio.gather(*(kept(number * 70_000) for number in range(12)))
    for start, pieces in reads:
        assert b"".join(map(taken, pieces)) == DATA[start:]


# ── failing and leaving ──


@pytest.mark.parametrize("start", [0, 5 * PLAIN])
async def test_a_failure_below_is_passed_on_and_nobody_else_hears_of_it(sealed: bytes, start: int) -> None:
    def fail(at: int) -> None:
        raise Unavailable("dead")

    async with quiet():
        for blob in (decrypted(counted(sealed, fail=fail), KEY), encrypted(counted(sealed, fail=fail), KEY)):
            data, failure = await got(blob.stream(start, blob.size))
            assert len(data) <= HEAD and type(failure) is Unavailable and str(failure) == "dead"


@pytest.mark.parametrize("broken", [0, 1, 2, 5, 20, LAST])
async def test_a_failure_comes_after_bytes_that_are_right(sealed: bytes, broken: int) -> None:
    def fail(at: int) -> None:
        if at + 50_000 > block(broken):
            raise Unavailable("here")

    async with quiet():
        data, failure = await got(decrypted(counted(sealed, fail=fail), KEY).stream(0, len(DATA)))
        assert type(failure) is Unavailable
        assert DATA.startswith(data) and len(data) <= broken * PLAIN


@pytest.mark.parametrize("start", [0, 5 * PLAIN + 1])
@pytest.mark.parametrize("after", [0, 1, 2, 4])
@pytest.mark.parametrize("kind", ["decrypted", "encrypted"])
async def test_a_stream_that_is_closed_early_leaves_nothing_behind(
    sealed: bytes, kind: str, after: int, start: int
) -> None:
    async with quiet():
        under = counted(sealed if kind == "decrypted" else DATA)
        blob = decrypted(under, KEY) if kind == "decrypted" else encrypted(under, KEY)
        async with aclosing(blob.stream(start, blob.size)) as stream:
            for _ in range(after):
                await anext(stream)
        assert under.open == []


@pytest.mark.parametrize("start", [0, 5 * PLAIN + 1])
async def test_a_stream_that_is_cancelled_while_it_waits_leaves_nothing_behind(sealed: bytes, start: int) -> None:
    async with quiet():
        under = counted(sealed, held=True)
        reading = asyncio.create_task(collected(decrypted(under, KEY).stream(start, len(DATA))))
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(under.open) == 1 + (start > 0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert under.open == []


@pytest.mark.parametrize("what", ["second tag", "middle block"])
async def test_what_fails_behind_a_stream_that_is_closed_is_not_reported(spoiled: dict[str, bytes], what: str) -> None:
    async with quiet():
        blob = decrypted(counted(spoiled[what]), KEY)
        async with aclosing(blob.stream(0, blob.size)) as stream:
            async for _ in stream:
                await asyncio.sleep(0.05)  # the next batch is worked on meanwhile
                break


KEEPING = """
import asyncio, gc, sys
from playhead import Damaged, literal
from playhead.transforms.rclone import decrypted, encrypted, keys

async def keeps(data, key):
    try:
        await decrypted(literal(data), key).read()
    except Damaged as failure:
        kept = failure  # so that the failure, its frames and what they hold are a cycle

async def main(number):
    key = keys("")
    data = bytearray(await encrypted(literal(bytes(10 << 16)), key).read())
    data[32 + number * 65552] ^= 1
    for _ in range(20):
        await keeps(bytes(data), key)
        gc.collect()

asyncio.run(main(int(sys.argv[1])))
"""


@pytest.mark.parametrize("number", [0, 1, 5])
def test_a_failure_that_somebody_keeps_does_not_bring_the_process_down(number: int) -> None:
    """In a process of its own: a buffer that the collector finds still lent is a segmentation fault."""
    answer = subprocess.run([sys.executable, "-c", KEEPING, str(number)], capture_output=True, text=True)
    assert (answer.returncode, answer.stderr) == (0, "")


async def test_many_readers_of_one_blob_do_not_disturb_each_other(sealed: bytes) -> None:
    blob = decrypted(Odd(len(sealed), "t", sealed), KEY)
    starts = [random.Random(9).randrange(len(DATA)) for _ in range(30)]
    parts = await asyncio.gather(*(collected(blob.stream(start, len(DATA))) for start in starts))
    assert parts == [DATA[start:] for start in starts]


# ── at hand ──


async def test_what_is_at_hand_is_the_same_bytes_or_none(sealed: bytes, below: Below) -> None:
    cold, blob = (decrypted(below(sealed), KEY, head) for head in (None, Head(sealed[len(MARK) : HEAD])))
    chance, found = random.Random(3), 0
    for _ in range(60):
        start = chance.randrange(len(DATA))
        stop = min(len(DATA), start + chance.choice([1, 1000, PLAIN, 5 * PLAIN]))
        assert cold.here(start, stop) is None
        if (ready := blob.here(start, stop)) is not None:
            found += 1
            assert b"".join(map(taken, ready)) == DATA[start:stop]
    assert bool(found) == (below(sealed).here(0, 1) is not None)


# ── secrets ──


def test_no_key_is_in_what_is_said_of_anything() -> None:
    key, data = keys("a secret password", "a secret salt"), bytes(HEAD)
    things: list[object] = [
        key,
        decrypted(literal(data), key),
        encrypted(literal(data), key),
        (key,),
        Setting().names(),
    ]
    for thing in things:
        for said in (repr(thing), str(thing), f"{thing}", f"{thing!r}"):
            for secret in (key.data, key.name, key.tweak):
                assert repr(secret)[2:-1] not in said and secret.hex() not in said.lower()
            assert "secret" not in said
    assert key.fingerprint not in (key.data.hex(), key.name.hex())
    assert key.fingerprint != keys("another").fingerprint


@pytest.mark.parametrize("what", ["first block", "cut inside a block"])
async def test_no_key_is_in_a_failure(spoiled: dict[str, bytes], what: str) -> None:
    blob = decrypted(literal(spoiled[what]), KEY)
    _, failure = await got(blob.stream(0, blob.size))
    assert KEY.data.hex() not in str(failure) and PASSWORD not in str(failure)


# ── without cffi ──


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crypt, "lib", None)
    monkeypatch.setattr(crypt, "ffi", None)


@pytest.mark.parametrize("size", [*SIZES, len(DATA)])
async def test_without_cffi_the_bytes_are_the_same(bare: None, size: int, below: Below) -> None:
    data = DATA if size == len(DATA) else of(size)
    sealed = encrypted(literal(data), KEY, bytes(NONCE))
    await check_blob(decrypted(below(await sealed.read()), KEY), data, rounds=6)
    await check_blob(sealed, await sealed.read(), rounds=3)


@pytest.mark.parametrize("what", CHANGES)
async def test_without_cffi_what_was_changed_is_refused(bare: None, spoiled: dict[str, bytes], what: str) -> None:
    blob, number = decrypted(literal(spoiled[what]), KEY), CHANGES[what][1]
    data, failure = await got(blob.stream(0, blob.size))
    assert data == DATA[: len(data)] and len(data) <= number * PLAIN
    assert type(failure) is Damaged and re.match(naming(number), str(failure))
    assert blob.here(number * PLAIN, number * PLAIN + 1) is None


def test_cffi_is_there_where_the_tests_run() -> None:
    assert vars(crypt)["lib"] is not None and vars(crypt)["ffi"] is not None


# ── passwords that rclone obscured ──


@pytest.mark.parametrize("text", ["", "a", "potato", "비밀번호 🔑", "p" * 300, " spaces ", 'quo"te\\s', "=", "-dash"])
def test_what_rclone_obscured_is_revealed(text: str) -> None:
    hidden = [rclone("obscure", "--", text).decode().strip() for _ in "ab"]
    assert [revealed(each) for each in hidden] == [text, text]
    assert hidden[0] != hidden[1]


@pytest.mark.parametrize(
    ("hidden", "text"),
    [
        ("YWFhYWFhYWFhYWFhYWFhYQ", ""),
        ("YWFhYWFhYWFhYWFhYWFhYXMaGgIlEQ", "potato"),
        ("YmJiYmJiYmJiYmJiYmJiYp3gcEWbAw", "potato"),
    ],
)
def test_the_examples_of_rclone_are_revealed(hidden: str, text: str) -> None:
    assert revealed(hidden) == text


@pytest.mark.parametrize(
    "text",
    ["", "a", "potato", "=", "a b", "비밀번호", "\udcff", "YWFhYWFhYWFhYWFhYWFhYQ\n", "\0", "*" * 40, "YWFh" * 5 + "Y"],
)
def test_what_rclone_did_not_obscure_is_refused(text: str) -> None:
    with pytest.raises(Malformed, match="rclone obscure") as caught:
        revealed(text)
    assert not text.strip() or len(text) < 3 or text not in str(caught.value)


@given(st.one_of(st.text(max_size=60), st.text("abcXYZ019-_=", min_size=20, max_size=80)))
@settings(max_examples=300, deadline=None)
def test_garbage_is_revealed_as_text_or_refused(text: str) -> None:
    try:
        assert isinstance(revealed(text), str)
    except Malformed:
        pass
