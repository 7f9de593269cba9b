"""Trees -> Tree: several as one, either laid over each other or side by side.

In a union a name that several trees have is the first one's; folders of one name are one folder. A tree that does not
answer ends a listing: what is missing must never look as if it were gone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TypeVar

from playhead.blob import Blob, Pieces
from playhead.errors import NotFound
from playhead.tree import Ask, Entries, Entry, Tree, segments

T = TypeVar("T")


def union(trees: Sequence[Tree]) -> Tree:
    """Trees -> Tree: laid over each other."""
    return UnionTree(trees)


class UnionTree(Tree):
    """See `union`."""

    def __init__(self, trees: Sequence[Tree]) -> None:
        self.trees = list(trees)

    async def entries(self, folder: str = "") -> Entries:
        seen: dict[str, Entry] = {}
        tasks = [asyncio.ensure_future(self._listing(tree, folder)) for tree in self.trees]
        try:
            listings = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if all(listing is None for listing in listings):
            raise NotFound(f"there is no folder {folder!r}")
        for listing in listings:
            for entry in listing or ():
                seen.setdefault(entry.name, entry)
        for entry in seen.values():
            yield entry

    async def _listing(self, tree: Tree, folder: str) -> list[Entry] | None:
        try:
            async with aclosing(tree.entries(folder)) as entries:
                return [entry async for entry in entries]
        except NotFound:
            return None

    async def find(self, path: str) -> Entry:
        return (await self._first(path, lambda tree: tree.find(path)))[1]

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        _, blob = await self._first(path, lambda tree: self._opened(tree, path, ask))
        if blob is None:
            raise NotFound(f"{path!r} is a folder")
        return blob

    async def _opened(self, tree: Tree, path: str, ask: Ask) -> Blob | None:
        """The file; None where the tree has a folder there, which hides files of later trees."""
        try:
            return await tree.open(path, ask)
        except NotFound:
            if (await tree.find(path)).folder:
                return None
            raise

    async def flow(self, path: str) -> Pieces:
        tree, _ = await self._first(path, lambda tree: tree.find(path))
        async with aclosing(tree.flow(path)) as stream:
            async for piece in stream:
                yield piece

    async def _first(self, path: str, wanted: Callable[[Tree], Awaitable[T]]) -> tuple[Tree, T]:
        """What the first tree that has a path gives. Raises NotFound, or why one that may have it does not answer."""
        for tree in self.trees:
            try:
                return tree, await wanted(tree)
            except NotFound:
                continue
        raise NotFound(f"there is no {path!r}")

    async def aclose(self) -> None:
        for tree in self.trees:
            await tree.aclose()


def combined(trees: Mapping[str, Tree]) -> Tree:
    """Trees -> Tree: side by side, each as a folder."""
    return CombinedTree(trees)


class CombinedTree(Tree):
    """See `combined`."""

    def __init__(self, trees: Mapping[str, Tree]) -> None:
        self.trees = dict(trees)

    def _within(self, path: str) -> tuple[Tree, str]:
        name, _, rest = "/".join(segments(path)).partition("/")
        if name not in self.trees:
            raise NotFound(f"there is no {path!r}")
        return self.trees[name], rest

    async def entries(self, folder: str = "") -> Entries:
        if not folder:
            for name in self.trees:
                yield Entry(name, folder=True)
            return
        tree, path = self._within(folder)
        async with aclosing(tree.entries(path)) as entries:
            async for entry in entries:
                yield entry

    async def find(self, path: str) -> Entry:
        if not path:
            return Entry("", folder=True)
        tree, rest = self._within(path)
        return await tree.find(rest) if rest else Entry(path, folder=True)

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        tree, rest = self._within(path)
        return await tree.open(rest, ask)

    def flow(self, path: str) -> Pieces:
        tree, rest = self._within(path)
        return tree.flow(rest)

    async def aclose(self) -> None:
        for tree in self.trees.values():
            await tree.aclose()
