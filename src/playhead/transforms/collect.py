"""Tree -> members: what is at some paths of a tree, in the order in which people count, ready to be planned.

Sizes come from listings; a file is opened only where its listing tells none. Names are relative to the folder that a
path is in, so that a folder unpacks as a folder.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

from playhead.errors import Malformed
from playhead.transforms.plan import Member, Planning
from playhead.tree import Ask, Entry, Tree, Why, join


class Collecting:
    """Adds what is at paths to a plan. Raises Malformed beyond `members` or `size` bytes."""

    def __init__(self, members: int, size: int) -> None:
        self.planning, self.members, self.size = Planning(), members, size

    async def add(self, tree: Tree, path: str, place: Callable[[str], str], name: str | None = None) -> None:
        """A file, or a folder with all that is below it, under a name (default: its own; the root's files: none)."""
        entry = await tree.find(path) if path else Entry("", folder=True)
        name = entry.name if name is None else name
        if not entry.folder:
            await self._file(tree, path, entry, name, place)
            return
        waiting = [(path, name, entry)]
        while waiting:
            path, name, entry = waiting.pop()
            if name:
                self.member(Member(name, folder=True, mtime=_seconds(entry)))
            async with aclosing(tree.entries(path)) as entries:
                found = sorted([entry async for entry in entries], key=natural)
            for inner in found:
                if not inner.folder:
                    await self._file(tree, join(path, inner.name), inner, join(name, inner.name), place)
            folders = [inner for inner in reversed(found) if inner.folder]
            waiting += [(join(path, inner.name), join(name, inner.name), inner) for inner in folders]

    async def _file(self, tree: Tree, path: str, entry: Entry, name: str, place: Callable[[str], str]) -> None:
        size, tag = entry.size, entry.tag
        if size is None:
            blob = await tree.open(path, Ask(0, 0, Why.BULK))
            size, tag = blob.size, blob.tag
        self.member(Member(name, size, mtime=_seconds(entry), tag=tag or "", place=place(path)))

    def member(self, member: Member) -> None:
        """One more member."""
        if len(self.planning.plan) >= self.members:
            raise Malformed(f"a bundle may have {self.members:,} members; see `[bundles]` in the configuration")
        self.planning.add(member)
        if self.planning.bytes > self.size:
            raise Malformed(f"a bundle may hold {self.size:,} bytes; see `[bundles]` in the configuration")

    def all(self, members: Sequence[Member]) -> None:
        """Many more."""
        for member in members:
            self.member(member)


def gathered(places: Sequence[tuple[Tree, str]]) -> Sequence[tuple[bytes, str | None]] | None:
    """The whole of some small files of one tree, where it can read them together (blocks)."""
    if not places:
        return []
    tree = places[0][0]
    if any(other is not tree for other, _ in places):
        return None
    return tree.contents([path for _, path in places])


def _seconds(entry: Entry) -> int:
    return int(entry.modified.timestamp()) if entry.modified else 0


def natural(entry: Entry) -> tuple[Any, ...]:
    """As people count: 2 before 10."""
    parts = re.split(r"(\d+)", entry.name.casefold())
    return ([(0, int(part[:18]), part) if part.isdecimal() else (1, 0, part) for part in parts if part], entry.name)
