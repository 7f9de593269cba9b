"""The reference: files in memory."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playhead import Blob, Changed, Malformed, NotFound, literal, walk
from playhead.blob import Pieces
from playhead.origins.memory import MemoryTree
from tests.laws import check_tree

FILES = {
    "a.mp3": b"music",
    "empty": b"",
    "album/1.flac": b"one",
    "album/2.flac": b"two" * 1000,
    "album/art/cover.jpg": b"\xff\xd8",
    "AC∕DC.mp3": b"x",
    "\udcff.txt": b"not UTF-8",
    "100% #1?.flac": b"y",
}


def kept(_: str) -> None: ...


async def test_it_is_its_files() -> None:
    await check_tree(MemoryTree(FILES), FILES)


async def test_an_empty_tree_has_a_root() -> None:
    await check_tree(MemoryTree({}), {})
    assert [entry async for entry in MemoryTree({}).entries()] == []


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=5)


@given(st.lists(st.lists(names.filter(lambda name: name not in (".", "..")), min_size=2, max_size=3), max_size=5))
@settings(max_examples=50, deadline=None)
def test_any_names_make_a_tree(paths: list[list[str]]) -> None:
    files = {"/".join(path): b"/".join(name.encode() for name in path) for path in paths}
    files = {path: data for path, data in files.items() if not any(o.startswith(path + "/") for o in files)}
    asyncio.run(check_tree(MemoryTree(files), files))


@pytest.mark.parametrize("path", ["../x", "/a", "a//b", "a/", ".", "a\0b"])
def test_a_path_that_is_none_is_refused_when_it_is_made(path: str) -> None:
    with pytest.raises(Malformed):
        MemoryTree({path: b""})


async def test_what_is_not_there_cannot_be_listed() -> None:
    for path in ("nothing", "a.mp3", "album/1.flac"):
        with pytest.raises(NotFound):
            [entry async for entry in MemoryTree(FILES).entries(path)]


async def test_a_listing_has_sizes_and_tags() -> None:
    tree = MemoryTree(FILES)
    for path, entry in [pair async for pair in walk(tree)]:
        if not entry.folder:
            assert (entry.size, entry.tag) == (len(FILES[path]), (await tree.open(path)).tag)


async def test_what_is_put_is_there() -> None:
    tree = MemoryTree({})
    entry = await tree.put("a/b.mp3", literal(b"one"), replaces=None, state=None, keep=kept)
    assert (entry.name, entry.size) == ("b.mp3", 3)
    await check_tree(tree, {"a/b.mp3": b"one"})
    await tree.put("a/b.mp3", literal(b"two!"), replaces=entry.tag, state=None, keep=kept)
    await check_tree(tree, {"a/b.mp3": b"two!"})


async def test_another_version_is_never_overwritten() -> None:
    tree = MemoryTree({"a": b"one"})
    for replaces in (None, "v:other"):
        with pytest.raises(Changed):
            await tree.put("a", literal(b"two"), replaces=replaces, state=None, keep=kept)
    with pytest.raises(Changed):
        await tree.put("b", literal(b"two"), replaces="v:other", state=None, keep=kept)
    await check_tree(tree, {"a": b"one"})


async def test_nothing_is_put_outside() -> None:
    tree = MemoryTree({})
    for path in ("../x", "/x", "a//b", "a\0"):
        with pytest.raises(Malformed):
            await tree.put(path, literal(b""), replaces=None, state=None, keep=kept)


async def test_of_two_writers_at_once_one_wins() -> None:
    class Slow(Blob):
        async def stream(self, start: int, stop: int) -> Pieces:
            await asyncio.sleep(0)
            yield b"ab"[start:stop]

    tree = MemoryTree({})
    puts = [tree.put("f", Slow(2, None), replaces=None, state=None, keep=lambda state: None) for _ in range(2)]
    done = await asyncio.gather(*puts, return_exceptions=True)
    assert sorted(type(each).__name__ for each in done) == ["Changed", "Entry"]
