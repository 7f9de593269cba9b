"""Names: trees of entries, and what a reader may say before it reads.

A path is segments joined by "/", never beginning with one; "" is the root. A name is one segment,
compared as given and never normalised; bytes that are not UTF-8 are kept by surrogateescape.
A tree owns its connection and belongs to the loop it was made in; the blobs it gives own nothing.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum

from playhead.blob import Blob, Pieces, pieces
from playhead.errors import Malformed, NotFound


class Why(IntEnum):
    """What a read is for. Lower numbers go first where there is not room for all."""

    PLAY, SEEK, NEXT, PIN, BULK, SCAN = range(6)


@dataclass(frozen=True, slots=True)
class Ask:
    """What the reader is about to want: a hint that saves a round trip, never a promise.

    [start, stop), to the end where `stop` is None; the last n bytes as start=None, stop=-n.
    """

    start: int | None = 0
    stop: int | None = None
    why: Why = Why.PLAY


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a folder.

    `size` in bytes, None where it is not known without reading. `tag` only if the listing itself gives a
    validator of the content. `mark` changes when the file has probably changed: for rescans, never for bytes.
    """

    name: str
    folder: bool = False
    size: int | None = None
    modified: datetime | None = None
    tag: str | None = None
    mark: str | None = None


Entries = AsyncGenerator[Entry, None]


class Tree(ABC):
    """Names for blobs."""

    @abstractmethod
    def entries(self, folder: str = "") -> Entries:
        """What is in a folder, in any order. Raises NotFound, or why it cannot be told: never a short list."""

    @abstractmethod
    async def find(self, path: str) -> Entry:
        """The entry at a path; the root is a folder named "". Raises NotFound."""

    @abstractmethod
    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        """The file at a path. Raises NotFound (also for a folder), or Unsized: then use `flow`."""

    async def flow(self, path: str) -> Pieces:
        """The file from start to end, also where its size is not known."""
        blob = await self.open(path)
        async with aclosing(pieces(blob, 0, blob.size)) as stream:
            async for piece in stream:
                yield piece

    def contents(self, paths: Sequence[str]) -> Sequence[tuple[bytes, str | None]] | None:
        """The whole of some small files and their tags, where that needs no network; None: open them one by one.

        Blocks: from a thread. Raises as `open` does.
        """
        return None

    async def aclose(self) -> None:
        """Give the connection back. Streams that are open fail."""


class Store(ABC):
    """A tree that can be written."""

    @abstractmethod
    async def put(
        self, path: str, blob: Blob, *, replaces: str | None, state: str | None, keep: Callable[[str], None]
    ) -> Entry:
        """Write a blob at a path, dated `blob.modified`; nothing is listed there before it is whole.

        `replaces` is the tag of the version that may be overwritten; None: there must be none. Raises Changed
        otherwise. `keep(state)` is called after each durable part; given a `state`, the writing goes on from it, and
        the blob is read from there on, in order. Folders that are missing are made. What the store tells of the
        bytes that it has (a checksum) is compared with those that were sent; Damaged where they differ. Raises
        Unavailable or Busy where the same call, with the state kept last, may succeed later.
        """

    async def holds(self, path: str, blob: Blob) -> bool | None:
        """Has the file at a path these very bytes? None: nothing tells without reading it. Raises NotFound."""
        return None

    async def copy(self, path: str, to: str) -> Entry | None:
        """The file at `path` also at `to`, where nothing is yet, by the store itself; None: it cannot do that."""
        return None


def segments(path: str) -> list[str]:
    """The names that a path is made of. Raises Malformed for "..", ".", empty names and NUL."""
    names = path.split("/") if path else []
    for name in names:
        if name in ("", ".", "..") or "\0" in name:
            raise Malformed(f"{path!r} is not a path: it has an empty name, '.', '..' or NUL in it")
    return names


def join(folder: str, name: str) -> str:
    """The path of a name in a folder."""
    return f"{folder}/{name}" if folder else name


# Controls, and the marks that turn the direction of writing: "gpj.exe" must not be shown as "exe.jpg".
_UNSEEN = dict.fromkeys(
    [*range(32), 127, *range(128, 160), 0x61C, 8206, 8207, *range(8232, 8239), *range(8294, 8298)], "_"
)


def visible(name: str) -> str:
    """A name as it may be shown to people: what steers terminals or turns the writing around is replaced."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace").translate(_UNSEEN)


async def walk(tree: Tree, folder: str = "") -> AsyncGenerator[tuple[str, Entry], None]:
    """Every entry below a folder with its path; a folder comes before what is in it."""
    waiting = [folder]
    while waiting:
        folder = waiting.pop()
        async with aclosing(tree.entries(folder)) as entries:
            async for entry in entries:
                path = join(folder, entry.name)
                if entry.folder:
                    waiting.append(path)
                yield path, entry


def below(tree: Tree, path: str, entry: Entry) -> Tree:
    """Tree -> Tree: only what is at a path: a folder becomes the root, a file its one entry. A Store stays one."""
    kind = _StoreBelow if isinstance(tree, Store) else _Below
    return kind(tree, path, entry)


class _Below(Tree):
    def __init__(self, tree: Tree, path: str, entry: Entry) -> None:
        self.tree, self.path, self.entry = tree, path, entry

    def _under(self, path: str) -> str:
        names = segments(path)
        if self.entry.folder:
            return "/".join([self.path, *names] if self.path else names)
        if names != [self.entry.name]:
            raise NotFound(f"{path!r} is not here")
        return self.path

    async def entries(self, folder: str = "") -> Entries:
        if not self.entry.folder and folder == "":
            yield await self.tree.find(self.path)
            return
        async with aclosing(self.tree.entries(self._under(folder))) as entries:
            async for entry in entries:
                yield entry

    async def find(self, path: str) -> Entry:
        if path == "":
            return Entry("", folder=True)
        return await self.tree.find(self._under(path))

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        return await self.tree.open(self._under(path), ask)

    def flow(self, path: str) -> Pieces:
        return self.tree.flow(self._under(path))

    def contents(self, paths: Sequence[str]) -> Sequence[tuple[bytes, str | None]] | None:
        return self.tree.contents([self._under(path) for path in paths])

    async def aclose(self) -> None:
        await self.tree.aclose()


class _StoreBelow(_Below, Store):
    @property
    def store(self) -> Store:
        assert isinstance(self.tree, Store)
        return self.tree

    async def put(
        self, path: str, blob: Blob, *, replaces: str | None, state: str | None, keep: Callable[[str], None]
    ) -> Entry:
        return await self.store.put(self._under(path), blob, replaces=replaces, state=state, keep=keep)

    async def holds(self, path: str, blob: Blob) -> bool | None:
        return await self.store.holds(self._under(path), blob)

    async def copy(self, path: str, to: str) -> Entry | None:
        return await self.store.copy(self._under(path), self._under(to))


def lift(
    tree: Tree,
    through: Callable[[Blob], Awaitable[Blob]],
    size: Callable[[int], int | None],
    ask: Callable[[Ask], Ask] = lambda ask: ask,
) -> Tree:
    """Tree -> Tree: every blob passed through a transform.

    `size` gives the size afterwards from the size before (None where it cannot be told), for the listings;
    `ask` gives what is wanted of the blob before from what is wanted afterwards.
    """
    return _Lifted(tree, through, size, ask)


class _Lifted(Tree):
    def __init__(
        self,
        tree: Tree,
        through: Callable[[Blob], Awaitable[Blob]],
        size: Callable[[int], int | None],
        ask: Callable[[Ask], Ask],
    ) -> None:
        self.tree, self.through, self.size, self.ask = tree, through, size, ask

    def _seen(self, entry: Entry) -> Entry:
        size = None if entry.size is None else self.size(entry.size)
        return entry if entry.folder else replace(entry, size=size, tag=None)

    async def entries(self, folder: str = "") -> Entries:
        async with aclosing(self.tree.entries(folder)) as entries:
            async for entry in entries:
                yield self._seen(entry)

    async def find(self, path: str) -> Entry:
        return self._seen(await self.tree.find(path))

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        return await self.through(await self.tree.open(path, self.ask(ask)))

    async def aclose(self) -> None:
        await self.tree.aclose()
