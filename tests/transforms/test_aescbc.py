"""AES-CBC as an older library wrote it: its files are read by range, and what cannot be one is refused."""

import random
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from playhead import Ask, Damaged, Malformed, NotFound, Unavailable, literal
from playhead.origins.local import LocalTree
from playhead.origins.memory import MemoryTree
from playhead.transforms.aescbc import CbcTree, decrypted, key_of, opened
from tests.cuts import KINDS, LENT, Recording, cut, got
from tests.laws import check_blob, check_tree, collected

KEY = key_of("0123456789abcdef0123456789ABCDEF")
LONG = random.Random(1).randbytes((3 << 20) + 5).replace(b"\0", b"\1")
SIZES = [*range(101), 4095, 4096, 4097, 128 << 10, (1 << 20) - 1, 1 << 20, len(LONG)]


def written(data: bytes, key: bytes = KEY) -> bytes:
    """A file as the older library wrote it: 16 random bytes, and the data with 1 to 16 NULs at its end, encrypted."""
    first = random.Random(data[:50]).randbytes(16)
    cipher = Cipher(algorithms.AES(key), modes.CBC(first)).encryptor()
    return first + cipher.update(data + bytes(16 - len(data) % 16)) + cipher.finalize()


@pytest.mark.parametrize("size", SIZES)
async def test_a_file_is_a_blob(size: int) -> None:
    sealed = written(LONG[:size])
    for kind in KINDS:
        await check_blob(await decrypted(cut(kind, sealed), KEY), LONG[:size], rounds=8 if size < 1000 else 3)
        await check_blob(await decrypted(cut(kind, sealed), KEY, size), LONG[:size], rounds=1)


@pytest.mark.parametrize("size", [0, 15, 16, 17, 100])
async def test_every_range_of_a_short_file_is_right(size: int) -> None:
    blob = await decrypted(cut("bytes", written(LONG[:size])), KEY)
    for start in range(size + 1):
        for stop in range(start, size + 1):
            assert await got(blob.stream(start, stop)) == (LONG[start:stop], None), (start, stop)


async def test_spans_are_read_before_their_stream_goes_on() -> None:
    blob = await decrypted(cut(LENT, written(LONG)), KEY)
    assert await got(blob.stream(0, blob.size)) == (LONG, None)


async def test_a_local_file_is_a_blob(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(written(LONG))
    below = await LocalTree(tmp_path).open("f")
    blob = await decrypted(below, KEY)
    await check_blob(blob, LONG, rounds=6)
    assert blob.modified == below.modified


@pytest.mark.parametrize(
    ("start", "stop", "asked"),
    [
        (0, 1, (0, 32)),
        (0, 16, (0, 32)),
        (15, 17, (0, 48)),
        (16, 17, (16, 48)),
        (1000, 2000, (992, 2016)),
        (0, len(LONG), (0, len(LONG) // 16 * 16 + 32)),
    ],
)
async def test_a_range_is_one_stream_of_whole_blocks_and_the_one_before(
    start: int, stop: int, asked: tuple[int, int]
) -> None:
    below = cut("bytes", written(LONG))
    blob = await decrypted(below, KEY)
    below.begun.clear()
    assert await collected(blob.stream(start, stop)) == LONG[start:stop]
    assert below.begun == [asked]


async def test_an_empty_range_asks_for_nothing() -> None:
    below = cut("bytes", written(LONG))
    blob = await decrypted(below, KEY)
    below.begun.clear()
    for at in (0, 16, 32):
        assert await got(blob.stream(at, at)) == (b"", None)
    assert all(start == stop for start, stop in below.begun)


@pytest.mark.parametrize("at", [1, 5, 15, 17, 100])
async def test_an_empty_range_within_a_block_is_empty(at: int) -> None:
    blob = await decrypted(cut("bytes", written(LONG[:200])), KEY)
    assert await got(blob.stream(at, at)) == (b"", None)


async def test_to_open_a_file_is_to_read_its_last_two_blocks_or_nothing() -> None:
    below = cut("bytes", written(LONG))
    await decrypted(below, KEY)
    assert below.begun == [(below.size - 32, below.size)]
    below.begun.clear()
    await decrypted(below, KEY, len(LONG))
    assert below.begun == []


@pytest.mark.parametrize("count", [1, 15, 16, 17, 200])
@pytest.mark.parametrize("size", [0, 16, 256, 4096])
async def test_nulls_at_the_end_of_whole_blocks_are_kept(size: int, count: int) -> None:
    data = LONG[:size] + bytes(count + -count % 16)
    await check_blob(await decrypted(literal(written(data)), KEY), data, rounds=4)


@pytest.mark.parametrize("size", [1, 20, 60, 1000])
@pytest.mark.parametrize("count", [1, 3, 40])
async def test_nulls_at_the_end_are_kept_where_the_size_is_known(size: int, count: int) -> None:
    data = LONG[:size] + bytes(count)
    await check_blob(await decrypted(literal(written(data)), KEY, len(data)), data, rounds=4)
    short = await decrypted(literal(written(data)), KEY)
    assert len(data) - 15 <= short.size <= len(data)
    assert await short.read() == data[: short.size]
    assert data[short.size :].strip(b"\0") == b""


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 31, 33, 47, 49, 1001])
async def test_a_file_of_an_impossible_size_is_refused(size: int) -> None:
    for known in (None, 0, 10):
        with pytest.raises(Damaged, match="not the size"):
            await decrypted(literal(written(LONG)[:size]), KEY, known)


@pytest.mark.parametrize("size", [-1, 0, 99, 95, 112, 113, 128, 10_000])
async def test_a_size_that_the_file_cannot_have_is_refused(size: int) -> None:
    sealed = written(LONG[:100])
    with pytest.raises(Damaged):
        await decrypted(literal(sealed), KEY, size if size != 99 else 95)
    for right in (96, 99, 111):
        assert (await decrypted(literal(sealed), KEY, right)).size == right


async def test_a_file_that_was_cut_between_blocks_is_most_often_noticed() -> None:
    sealed = written(LONG[:1000])
    for size in range(32, len(sealed), 16):
        with pytest.raises(Damaged, match="cut"):
            await decrypted(literal(sealed[:size]), KEY)


async def test_a_wrong_key_is_refused_or_gives_garbage() -> None:
    chance, refused = random.Random(3), 0
    for _ in range(600):
        key = key_of(chance.randbytes(16).hex())
        try:
            blob = await decrypted(literal(written(LONG[:50])), key)
        except Damaged as failure:
            refused += 1
            assert key.decode() not in str(failure)
            continue
        assert 48 <= blob.size < 64
        assert len(await blob.read()) == blob.size and await blob.read() != LONG[:50]
    assert 560 <= refused < 600


async def test_a_changed_byte_is_not_noticed_and_spoils_two_blocks() -> None:
    sealed = bytearray(written(LONG[:1000]))
    sealed[16 + 100] ^= 1
    data = await (await decrypted(literal(bytes(sealed)), KEY)).read()
    assert data[:96] + data[128:] == LONG[:96] + LONG[128:1000]
    assert data != LONG[:1000]


async def test_what_ends_early_is_damaged_and_nothing_wrong_is_given() -> None:
    sealed = written(LONG)
    blob = await decrypted(cut("views", sealed), KEY)
    for size in (0, 1, 16, 17, 31, 32, 33, 1000, len(sealed) - 1, len(sealed) - 16):
        object.__setattr__(blob, "blob", cut("views", sealed[:size], "t"))
        data, failure = await got(blob.stream(0, blob.size))
        assert type(failure) is Damaged
        assert data == LONG[: len(data)] and len(data) <= max(0, size - 16)


@pytest.mark.parametrize("text", ["", "x" * 31, "x" * 33, "x" * 31 + "é", "별" * 32, "x" * 16])
def test_what_is_no_key_is_refused_and_not_told(text: str) -> None:
    with pytest.raises(Malformed) as told:
        key_of(text)
    assert not text or text not in str(told.value)


async def test_tags_are_of_the_file_and_the_key_and_no_key_is_in_what_things_are_called() -> None:
    below = literal(written(LONG[:50]))
    one = await decrypted(below, KEY)
    assert one.tag == (await decrypted(below, KEY)).tag not in (None, below.tag)
    assert one.tag != (await decrypted(below, KEY, 51)).tag
    assert one.tag != (await decrypted(below, key_of("x" * 32), 50)).tag
    assert (await decrypted(literal(written(b""), None), KEY)).tag is None
    assert KEY.decode() not in f"{one!r} {one.tag} {CbcTree(MemoryTree({}), KEY)!r}"


# ── trees ──

PLAINS = {"song.enc": LONG, "folder/two": b"two", "folder/inner/three": b"", "가 나/\udcff": b"0123456789abcdef" * 2}


def sealed_files() -> dict[str, bytes]:
    return {path: written(data) for path, data in PLAINS.items()}


async def test_a_tree_is_what_is_in_its_files(tmp_path: Path) -> None:
    for path, data in sealed_files().items():
        place = tmp_path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    files = sealed_files()
    for tree in (MemoryTree(files), Recording(files), Recording(files, tagged=False), LocalTree(tmp_path)):
        await check_tree(opened(tree, KEY), PLAINS)


async def test_what_was_changed_is_read_anew() -> None:
    inner = Recording({"f": written(LONG[:100])})
    tree = opened(inner, KEY)
    before = await tree.open("f")
    inner.write("f", written(LONG[:1000]))
    blob = await tree.open("f")
    assert blob.tag != before.tag
    await check_blob(blob, LONG[:1000])


async def test_what_is_asked_below_holds_what_is_asked_here() -> None:
    inner = Recording({"f": written(LONG)})
    tree, size = opened(inner, KEY), len(written(LONG))
    for ask, start, stop in ((Ask(), 0, size), (Ask(5, 6), 0, 32), (Ask(1000, 2000), 992, 2016), (Ask(70), 64, size)):
        await tree.open("f", ask)
        below = inner.opened[-1][1]
        assert below.start is not None and below.start <= start
        assert below.stop is None or below.stop >= stop
    await tree.open("f", Ask(None, -100))
    below = inner.opened[-1][1]
    assert below.start is None and below.stop is not None and size + below.stop <= (len(LONG) - 100) // 16 * 16


async def test_what_cannot_be_had_is_told_and_closing_closes() -> None:
    inner = Recording({"f": written(LONG), "short": b"x" * 33})
    tree = opened(inner, KEY)
    with pytest.raises(NotFound):
        await tree.open("nothing")
    with pytest.raises(Damaged):
        await tree.open("short")
    inner.failing = Unavailable("not now")
    for question in (tree.open("f"), tree.find("f"), collected(tree.flow("f"))):
        with pytest.raises(Unavailable, match="not now"):
            await question
    await tree.aclose()
    assert inner.closed == 1
