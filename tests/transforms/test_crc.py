"""CRC-32 of a whole from those of its blocks: what zlib says of the whole."""

import gc
import random
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from playhead.transforms.crc import combined, crc32


def of_blocks(data: bytes, width: int) -> int:
    blocks = [data[at : at + width] for at in range(0, len(data), width)]
    return combined([zlib.crc32(block) for block in blocks], width, len(blocks[-1]) if blocks else 0)


@given(st.binary(max_size=3000), st.integers(1, 3500))
@example(b"", 1)
@example(b"\0", 1)
@example(bytes(1000), 1000)
@example(bytes(1000), 999)
@example(b"\xff" * 1000, 1)
@settings(max_examples=200, deadline=None)
def test_blocks_make_the_crc_of_the_whole(data: bytes, width: int) -> None:
    assert of_blocks(data, width) == zlib.crc32(data)


@given(st.lists(st.binary(max_size=60), max_size=20))
@settings(max_examples=100, deadline=None)
def test_it_is_counted_on_over_any_pieces(parts: list[bytes]) -> None:
    crc = 0
    for part in parts:
        crc = crc32(memoryview(part), crc)
    assert crc == zlib.crc32(b"".join(parts)) == crc32(b"".join(parts))


@pytest.mark.parametrize("width", [65_536, 1 << 20, (1 << 20) - 1])
def test_blocks_as_large_as_those_on_disk(width: int) -> None:
    data = random.Random(width).randbytes((5 << 20) + 17)
    assert of_blocks(data, width) == zlib.crc32(data)
    assert of_blocks(data[: 4 * width], width) == zlib.crc32(data[: 4 * width])


def test_no_blocks_are_nothing_and_one_block_is_itself() -> None:
    assert combined([], 65_536, 0) == 0
    assert combined([0x12345678], 65_536, 9) == 0x12345678
    assert combined([0xFFFFFFFF], 65_536, 65_536) == 0xFFFFFFFF


def test_an_empty_last_block_changes_nothing() -> None:
    assert combined([zlib.crc32(b"four"), zlib.crc32(b"")], 4, 0) == zlib.crc32(b"four")


def test_halves_make_five_gigabytes() -> None:
    crc, size = zlib.crc32(bytes(5 << 20)), 5 << 20
    for _ in range(10):
        crc, size = combined([crc, crc], size, size), size * 2
    assert size == 5 << 30
    mib = zlib.crc32(bytes(1 << 20))
    assert crc == combined([mib] * 5120, 1 << 20, 1 << 20)


@pytest.mark.torture
def test_five_gigabytes_are_what_zlib_says() -> None:
    mib, crc = random.Random(5).randbytes(1 << 20), 0
    for _ in range(5120):
        crc = zlib.crc32(mib, crc)
    assert crc == combined([zlib.crc32(mib)] * 5120, 1 << 20, 1 << 20)


def test_files_of_many_lengths_do_not_fill_the_memory() -> None:
    def tables() -> int:
        return sum(isinstance(held, list) and len(held) == 256 for held in gc.get_objects())

    before = tables()
    for last in range(1, 151):
        combined([1, 2], 65_536, last)
    assert tables() - before < 4 * 100
