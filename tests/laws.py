"""The law of every origin and transform: a blob is its bytes, a tree is its names.

await check_blob(blob, b"...")          any range, alone or many at once, or broken off half way
await check_tree(tree, {"a/b": b"..."}) the same for every file, and the listings agree
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing

import pytest

from playhead import Ask, Blob, Malformed, NotFound, Piece, Tree, walk
from playhead.blob import FileSpan

ROUNDS = int(os.environ.get("ROUNDS", "12"))


def taken(piece: Piece) -> bytes:
    return piece.read() if isinstance(piece, FileSpan) else bytes(piece)


async def collected(stream: AsyncIterator[Piece]) -> bytes:
    async with aclosing(stream) as pieces:  # type: ignore[type-var]
        return b"".join([taken(piece) async for piece in pieces])


async def check_blob(blob: Blob, expected: bytes, *, seed: int = 0, rounds: int = ROUNDS) -> None:
    """Compare random ranges of a blob with the bytes that it must be."""
    chance = random.Random(seed)
    assert blob.size == len(expected)
    assert await blob.read() == expected
    ranges = [_range(chance, blob.size) for _ in range(rounds)]
    for start, stop in ranges:
        assert await collected(blob.stream(start, stop)) == expected[start:stop]
        if (ready := blob.here(start, stop)) is not None:
            assert b"".join(map(taken, ready)) == expected[start:stop]
    at_once = await asyncio.gather(*(collected(blob.stream(start, stop)) for start, stop in ranges))
    assert at_once == [expected[start:stop] for start, stop in ranges]
    await _broken_off(blob, expected)
    start, stop = _range(chance, blob.size)
    assert await blob[start:stop].read() == expected[start:stop]


def _range(chance: random.Random, size: int) -> tuple[int, int]:
    borders = [0, 1, size - 1, size, chance.randint(0, size), chance.randint(0, size)]
    start, stop = sorted(max(0, min(size, chance.choice(borders))) for _ in "ab")
    return start, stop


async def _broken_off(blob: Blob, expected: bytes) -> None:
    stream = blob.stream(0, blob.size)
    async with aclosing(stream):  # type: ignore[type-var]
        got = taken(await anext(stream, b""))
    assert expected.startswith(got)


async def check_tree(tree: Tree, expected: Mapping[str, bytes], *, seed: int = 0) -> None:
    """Compare the names of a tree, and every blob under them, with what must be there."""
    found = {path: entry async for path, entry in walk(tree) if not entry.folder}
    assert set(found) == set(expected)
    for path, data in expected.items():
        entry = await tree.find(path)
        assert not entry.folder
        assert entry.size in (None, len(data))
        assert found[path].size in (None, len(data))
        for ask in (Ask(), Ask(0, 0), Ask(None, -7), Ask(len(data) // 2, len(data) // 2 + 10)):
            blob = await tree.open(path, ask)
            assert blob.size == len(data)
            assert await blob.read() == data
        assert blob.tag == (await tree.open(path)).tag
        await check_blob(blob, data, seed=seed, rounds=4)
        assert await collected(tree.flow(path)) == data
    assert (await tree.find("")).folder
    for folder in {path.rpartition("/")[0] for path in expected}:
        assert (await tree.find(folder)).folder
        with pytest.raises(NotFound):
            await tree.open(folder or "no such file")
    for missing in ("no such file", "no such folder/file"):
        with pytest.raises(NotFound):
            await tree.open(missing)
    for wrong in ("../x", "a/../b", "./a", "/a", "a//b", "a\0b"):
        with pytest.raises((Malformed, NotFound)):
            await tree.open(wrong)
