"""Several trees as one: laid over each other, or side by side; nothing is hidden by what cannot be reached."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from playhead import Ask, Damaged, Entry, Failure, Malformed, NotFound, Tree, Unavailable, Unsized, Why
from playhead.origins.local import LocalTree
from playhead.origins.memory import MemoryTree
from playhead.transforms.union import CombinedTree, UnionTree, combined, union
from playhead.tree import Entries
from tests.cuts import Recording
from tests.laws import check_tree, collected

ONE = {"a": b"one", "both": b"first", "folder/x": b"x1", "folder/both": b"first", "only one/y": b"y"}
TWO = {"b": b"two", "both": b"second, longer", "folder/z": b"z2", "folder/both": b"second", "only two/w": b"w"}
THREE = {"c": b"three", "both": b"third", "a": b"third", "folder/inner/deep": b"d", "가 나/\udcff": b"u"}
BOTH = TWO | ONE
ALL = THREE | TWO | ONE


async def listed(tree: Tree, folder: str = "") -> list[str]:
    return sorted([entry.name async for entry in tree.entries(folder)])


class Slow(Recording):
    """Answers when `gate` is open; fails at the end of a listing, if it does."""

    def __init__(self, files: dict[str, bytes], failing: Failure | None = None) -> None:
        super().__init__(files)
        self.gate = asyncio.Event()
        self.late = failing

    async def entries(self, folder: str = "") -> Entries:
        async with aclosing(super().entries(folder)) as entries:
            async for entry in entries:
                yield entry
        await self.gate.wait()
        if self.late:
            raise self.late


# ── laid over each other ──


async def test_a_union_is_all_that_is_in_its_trees(tmp_path: Path) -> None:
    for path, data in TWO.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    await check_tree(union([MemoryTree(ONE), MemoryTree(TWO)]), BOTH)
    await check_tree(union([MemoryTree(ONE), LocalTree(tmp_path), Recording(THREE)]), ALL)
    await check_tree(union([union([MemoryTree(ONE), MemoryTree(TWO)]), MemoryTree(THREE)]), ALL)
    await check_tree(union([MemoryTree(ONE)]), ONE)
    await check_tree(union([MemoryTree({}), MemoryTree(ONE), MemoryTree({})]), ONE)
    await check_tree(union([MemoryTree({}), MemoryTree({})]), {})


async def test_the_first_that_has_a_name_is_the_one() -> None:
    for trees, first in (
        ((ONE, TWO, THREE), b"first"),
        ((TWO, THREE, ONE), b"second, longer"),
        ((THREE, ONE), b"third"),
    ):
        tree = union([MemoryTree(files) for files in trees])
        assert await (await tree.open("both")).read() == first
        assert await collected(tree.flow("both")) == first
        assert (await tree.find("both")).size == len(first)
        assert [entry.size async for entry in tree.entries() if entry.name == "both"] == [len(first)]


async def test_folders_of_one_name_are_one_folder() -> None:
    tree = union([MemoryTree(ONE), MemoryTree(TWO), MemoryTree(THREE)])
    assert await listed(tree, "folder") == ["both", "inner", "x", "z"]
    assert await listed(tree) == sorted(["a", "b", "both", "c", "folder", "only one", "only two", "가 나"])


async def test_a_name_is_what_the_first_tree_says_that_it_is() -> None:
    folder, file = {"x/inside": b"inside"}, {"x": b"a file"}
    tree = union([MemoryTree(file), MemoryTree(folder)])
    assert not (await tree.find("x")).folder and [entry.folder async for entry in tree.entries()] == [False]
    assert await (await tree.open("x")).read() == b"a file"
    tree = union([MemoryTree(folder), MemoryTree(file)])
    assert (await tree.find("x")).folder and [entry.folder async for entry in tree.entries()] == [True]
    with pytest.raises(NotFound):
        await collected(tree.flow("x"))
    with pytest.raises(NotFound):
        await tree.open("x")


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("kind", [Unavailable, Damaged])
async def test_a_tree_that_cannot_be_reached_ends_the_listing(at: int, kind: Callable[[str], Failure]) -> None:
    trees = [Recording(files) for files in (ONE, TWO, THREE)]
    tree = union(trees)
    trees[at].failing = kind("not now")
    seen: list[Entry] = []
    for folder in ("", "folder", "only one", "nothing"):
        with pytest.raises(Failure, match="not now"):
            async with aclosing(tree.entries(folder)) as entries:
                seen.extend([entry async for entry in entries])
    assert not seen
    trees[at].failing = None
    assert "folder" in await listed(tree)


async def test_a_listing_that_fails_at_its_end_is_none() -> None:
    slow = Slow(TWO, Unavailable("not now"))
    slow.gate.set()
    with pytest.raises(Unavailable, match="not now"):
        await listed(union([MemoryTree(ONE), slow]))


async def test_a_file_before_the_tree_that_cannot_be_reached_is_read_and_one_behind_it_is_not() -> None:
    trees = [Recording(files) for files in (ONE, TWO, THREE)]
    tree = union(trees)
    trees[1].failing = Unavailable("not now")
    assert await (await tree.open("a")).read() == b"one"
    assert await collected(tree.flow("a")) == b"one"
    for path in ("b", "c", "nothing"):  # who knows what the second one has?
        for question in (tree.open(path), tree.find(path), collected(tree.flow(path))):
            with pytest.raises(Unavailable, match="not now"):
                await question


async def test_nobody_is_asked_behind_the_first_that_has_a_file() -> None:
    trees = [Recording(ONE), Recording(TWO)]
    ask = Ask(1, 2, Why.SEEK)
    await union(trees).open("both", ask)
    assert [tree.opened for tree in trees] == [[("both", ask)], []]


async def test_listings_are_asked_for_at_once() -> None:
    trees = [Slow(ONE), Slow(TWO)]
    asking = asyncio.ensure_future(listed(union(trees)))
    await asyncio.sleep(0)
    trees[1].gate.set()
    trees[0].gate.set()
    assert await asking == sorted({path.partition("/")[0] for path in BOTH})


@pytest.mark.parametrize("how", ["it fails", "nobody waits any more"])
async def test_a_listing_that_ends_leaves_nothing_behind(how: str) -> None:
    slow, broken = Slow(TWO), Slow(ONE, Unavailable("not now") if how == "it fails" else None)
    asking = asyncio.ensure_future(listed(union([broken, slow])))
    for _ in range(5):
        await asyncio.sleep(0)
    if how == "it fails":
        broken.gate.set()
        with pytest.raises(Unavailable):
            await asking
    else:
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    for _ in range(3):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_is_nowhere_is_not_found() -> None:
    tree = union([MemoryTree(ONE), MemoryTree(TWO)])
    for path in ("nothing", "folder/nothing", "a/nothing", "no folder/x"):
        for question in (tree.open(path), tree.find(path), collected(tree.flow(path)), listed(tree, path)):
            with pytest.raises(NotFound):
                await question
    for path in ("", "folder"):
        with pytest.raises(NotFound):
            await tree.open(path)
    with pytest.raises(NotFound):
        await listed(tree, "a")


async def test_a_file_without_a_size_flows_through_a_union() -> None:
    tree = union([Recording({"other": b""}), Recording(ONE, sized=False), Recording(TWO)])
    with pytest.raises(Unsized):
        await tree.open("both")
    assert await collected(tree.flow("both")) == b"first"
    assert (await tree.find("both")).size is None


async def test_closing_a_union_closes_all() -> None:
    trees = [Recording(ONE), Recording(TWO)]
    await UnionTree(trees).aclose()
    assert [tree.closed for tree in trees] == [1, 1]


# ── side by side ──

ASIDE = {f"{name}/{path}": data for name, files in (("one", ONE), ("두 번째", TWO)) for path, data in files.items()}


def side_by_side(one: Tree | None = None) -> Tree:
    return combined({"one": one or MemoryTree(ONE), "두 번째": MemoryTree(TWO)})


async def test_a_combination_is_its_trees_as_folders() -> None:
    await check_tree(side_by_side(), ASIDE)
    await check_tree(side_by_side(union([MemoryTree(ONE), MemoryTree({})])), ASIDE)
    await check_tree(combined({"in": side_by_side()}), {f"in/{path}": data for path, data in ASIDE.items()})
    await check_tree(combined({}), {})


async def test_its_root_is_its_names() -> None:
    tree = side_by_side()
    assert [entry async for entry in tree.entries()] == [Entry("one", folder=True), Entry("두 번째", folder=True)]
    assert await tree.find("") == Entry("", folder=True)
    assert await tree.find("one") == Entry("one", folder=True)
    for path in ("", "one", "one/folder"):
        with pytest.raises(NotFound):
            await tree.open(path)
        with pytest.raises(NotFound):
            await collected(tree.flow(path))


async def test_what_is_not_in_a_combination_is_not_found() -> None:
    tree = side_by_side()
    for path in ("nothing", "a", "nothing/a", "one/nothing", "One/a", "two/b"):
        for question in (tree.open(path), tree.find(path), listed(tree, path)):
            with pytest.raises(NotFound):
                await question
        with pytest.raises(NotFound):
            await collected(tree.flow(path))


@pytest.mark.parametrize(
    "path", ["../one", "/one", "one/", "one//a", "one/../두 번째/b", ".", "one/./a", "one/a\0", "/"]
)
async def test_what_is_no_path_is_refused(path: str) -> None:
    for tree in (side_by_side(), union([MemoryTree(ONE), MemoryTree(TWO)])):
        for question in (tree.open(path), tree.find(path), listed(tree, path)):
            with pytest.raises((Malformed, NotFound)):
                await question
        with pytest.raises((Malformed, NotFound)):
            await collected(tree.flow(path))


async def test_a_tree_that_cannot_be_reached_spoils_its_own_folder_only() -> None:
    broken = Recording(ONE)
    broken.failing = Unavailable("not now")
    tree = side_by_side(broken)
    assert await listed(tree) == ["one", "두 번째"]
    assert await listed(tree, "두 번째") == ["b", "both", "folder", "only two"]
    assert await (await tree.open("두 번째/b")).read() == b"two"
    for question in (listed(tree, "one"), tree.open("one/a"), tree.find("one/a"), collected(tree.flow("one/a"))):
        with pytest.raises(Unavailable, match="not now"):
            await question


async def test_what_is_asked_of_a_combination_is_asked_of_the_one_and_what_has_no_size_flows() -> None:
    inner = Recording(ONE, sized=False)
    tree, ask = side_by_side(inner), Ask(1, 2, Why.SEEK)
    with pytest.raises(Unsized):
        await tree.open("one/folder/x", ask)
    assert inner.opened == [("folder/x", ask)]
    assert await collected(tree.flow("one/folder/x")) == b"x1"


async def test_closing_a_combination_closes_all() -> None:
    trees = [Recording(ONE), Recording(TWO)]
    await CombinedTree({"a": trees[0], "b": trees[1]}).aclose()
    assert [tree.closed for tree in trees] == [1, 1]
