"""A witnessed blob is its bytes; what is read again is the same or Changed, and no other byte is given before that."""

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from playhead import Blob, Changed, Unavailable, literal
from playhead.blob import Pieces
from playhead.origins.local import LocalTree
from playhead.transforms.rclone import Keys, encrypted
from playhead.transforms.witnessed import RUN, witnessed
from tests.laws import check_blob, collected

DATA = random.Random(3).randbytes(3 * RUN + 12345)


@dataclass(frozen=True, slots=True, eq=False)
class Changing(Blob):
    """Bytes that may change under whoever reads them; in pieces of so many."""

    data: bytearray
    width: int = 100_000
    asked: list[tuple[int, int]] = field(default_factory=list)

    async def stream(self, start: int, stop: int) -> Pieces:
        self.asked.append((start, stop))
        for at in range(start, stop, self.width):
            yield bytes(self.data[at : min(at + self.width, stop)])


def changing(data: bytes = DATA, width: int = 100_000) -> Changing:
    return Changing(len(data), "t", bytearray(data), width)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def got(stream: AsyncIterator[bytes], most: int) -> bytes:
    """What a stream gives until it has given so much, and is left."""
    data = b""
    async with aclosing(stream) as pieces:  # type: ignore[type-var]
        async for piece in pieces:
            data += bytes(piece)
            if len(data) >= most:
                break
    return data


@pytest.mark.parametrize("size", [0, 1, RUN - 1, RUN, RUN + 1, len(DATA)])
async def test_it_is_its_bytes(size: int, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(DATA[:size])
    blobs = [literal(DATA[:size]), changing(DATA[:size]), await LocalTree(tmp_path).open("f")]
    for seed, blob in enumerate(blobs):
        await check_blob(witnessed(blob), DATA[:size], seed=seed)
        assert witnessed(blob).tag == blob.tag


async def test_what_was_read_from_the_beginning_on_has_its_digest() -> None:
    blob = witnessed(changing())
    assert blob.so_far() == (0, sha256(b""))
    for start, stop in ((0, 100), (100, RUN + 7), (RUN + 7, RUN + 8), (2 * RUN, 3 * RUN)):  # the last leaves a gap
        await collected(blob.stream(start, stop))
    assert blob.so_far() == (RUN + 8, sha256(DATA[: RUN + 8]))
    assert await blob.prefix(RUN + 8) == sha256(DATA[: RUN + 8])
    assert await blob.prefix(2 * RUN + 3) == sha256(DATA[: 2 * RUN + 3])
    assert await blob.prefix(1000) == sha256(DATA[:1000])
    await collected(blob.stream(0, blob.size))
    assert blob.so_far() == (len(DATA), sha256(DATA))


async def test_parts_in_a_row_are_read_once_and_only_what_is_read_again_is_read_wider() -> None:
    below = changing()
    blob = witnessed(below)
    parts = [(0, 300_000), (300_000, RUN + 5), (RUN + 5, len(DATA))]
    for start, stop in parts:
        assert await collected(blob.stream(start, stop)) == DATA[start:stop]
    assert below.asked == parts
    assert await collected(blob.stream(RUN + 100, RUN + 200)) == DATA[RUN + 100 : RUN + 200]
    assert below.asked[-1] == (RUN, 2 * RUN)


@pytest.mark.parametrize("width", [1000, RUN, 5 * RUN])
@pytest.mark.parametrize("at", [0, 299_999, 300_000, RUN - 1, RUN + 3, len(DATA) - 1])
async def test_no_byte_of_a_part_that_changed_is_given_when_it_is_read_again(at: int, width: int) -> None:
    below = changing(width=width)
    blob = witnessed(below)
    for start, stop in ((0, 300_000), (300_000, len(DATA))):
        await collected(blob.stream(start, stop))
    below.data[at] ^= 1
    given = b""
    with pytest.raises(Changed):
        async with aclosing(blob.stream(0, blob.size)) as stream:
            async for piece in stream:
                given += bytes(piece)  # type: ignore[arg-type]
    assert DATA.startswith(given) and len(given) <= at
    assert isinstance(blob.failure, Changed)


async def test_a_part_that_was_broken_off_is_witnessed_as_far_as_it_was_given() -> None:
    """What was given may have been sent: so other bytes must not follow, however little it was."""
    for count in (1, 1000, 250_000, RUN - 1, RUN + 1):
        below = changing(width=1000)
        blob = witnessed(below)
        first = await got(blob.stream(0, blob.size), count)
        below.data[len(first) - 1] ^= 1
        with pytest.raises(Changed):
            await collected(blob.stream(0, blob.size))


async def test_what_was_given_and_then_failed_below_is_witnessed() -> None:
    @dataclass(frozen=True, slots=True, eq=False)
    class Failing(Changing):
        async def stream(self, start: int, stop: int) -> Pieces:
            yield bytes(self.data[start : start + 1000])
            raise Unavailable("gone")

    below = Failing(len(DATA), "t", bytearray(DATA))
    blob = witnessed(below)
    with pytest.raises(Unavailable):
        await collected(blob.stream(0, blob.size))
    assert isinstance(blob.failure, Unavailable)
    below.data[5] ^= 1
    with pytest.raises(Changed):
        await collected(blob.stream(0, blob.size))


async def test_what_was_not_read_may_be_anything() -> None:
    below = changing()
    blob = witnessed(below)
    await collected(blob.stream(0, RUN))
    below.data[RUN + 1] ^= 1
    assert await collected(blob.stream(0, blob.size)) == bytes(below.data)


async def test_many_readers_at_once_get_its_bytes() -> None:
    blob, chance = witnessed(changing(width=70_000)), random.Random(5)
    ranges = [sorted(chance.randrange(len(DATA)) for _ in "ab") for _ in range(40)]
    got = await asyncio.gather(*(collected(blob.stream(a, b)) for a, b in ranges))
    assert got == [DATA[a:b] for a, b in ranges]


async def test_a_file_that_is_written_to_while_its_end_is_read_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(DATA)
    os.utime(path, (1, 1))
    blob, written = await LocalTree(tmp_path).open("f"), list[int]()

    @dataclass(frozen=True, slots=True, eq=False)
    class Written(Blob):
        """The file, written to when its last span has been taken."""

        async def stream(self, start: int, stop: int) -> Pieces:
            async with aclosing(blob.stream(start, stop)) as stream:
                async for piece in stream:
                    start += len(piece)
                    if start == blob.size and not written:
                        written.append(path.write_bytes(DATA[:-1] + b"?"))
                    yield piece

    given = b""
    with pytest.raises(Changed):
        async with aclosing(witnessed(Written(blob.size, blob.tag)).stream(0, blob.size)) as stream:
            async for piece in stream:
                given += bytes(piece)  # type: ignore[arg-type]
    assert written and DATA.startswith(given) and len(given) < len(DATA)


async def test_what_is_encrypted_twice_with_a_nonce_is_the_same_or_nothing() -> None:
    below, keys = changing(), Keys(bytes(32), bytes(32), bytes(16))
    sealed = encrypted(witnessed(below), keys, bytes(24))
    first = await collected(sealed.stream(0, sealed.size))
    below.data[2 * RUN + 9] ^= 1
    second = b""
    with pytest.raises(Changed):
        async with aclosing(sealed.stream(0, sealed.size)) as stream:
            async for piece in stream:
                second += bytes(piece)  # type: ignore[arg-type]
    assert first.startswith(second) and len(second) < 2 * RUN + 2000
