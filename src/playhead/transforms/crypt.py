"""Tree -> Tree: a folder that rclone's crypt wrote, names and contents in clear.

A file that begins to be read at its beginning is one request; a file never seen that is read elsewhere is two at once,
for its head and its blocks; and one from then on, for heads are remembered by the version of the file.

A file that was cut between two blocks looks whole: so its size is compared with the one that was listed.
"""

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable
from contextlib import aclosing
from hashlib import blake2b
from typing import Any

from playhead.blob import Blob, Pieces, identity
from playhead.errors import Damaged, Malformed, NotFound
from playhead.transforms.names import Names
from playhead.transforms.rclone import HEAD, NONCE, Head, Keys, decrypted, encrypted, flowing, plain_size, sealed_size
from playhead.transforms.sealed import widened
from playhead.tree import Ask, Entries, Entry, Store, Tree, Why, join, segments

KNOWN = 4096  # files whose heads and sizes are remembered
LONGEST = 255  # bytes of a name that file systems take


def crypt(tree: Tree, key: Keys, names: Names, *, contents: bool = True) -> Tree:
    """Tree -> Tree: a folder that rclone's crypt wrote, in clear. `contents` False: only its names are encrypted."""
    return CryptTree(tree, key, names, contents)


class CryptTree(Tree, Store):
    """See `crypt`. What has a name that these keys did not make is not shown, as with rclone."""

    def __init__(self, tree: Tree, key: Keys, names: Names, sealed: bool) -> None:
        self.tree, self.key, self.names, self.sealed = tree, key, names, sealed
        self.heads: OrderedDict[str, tuple[str | None, int, Head]] = OrderedDict()
        self.sizes: OrderedDict[str, int] = OrderedDict()  # as they were listed

    def _hidden(self, path: str, *, folder: bool) -> str:
        try:
            return self.names.path(segments(path), folder=folder)
        except ValueError as error:
            raise NotFound(f"{path!r} cannot be here: {error}") from error

    def _seen(self, entry: Entry, name: str) -> Entry:
        if entry.folder or not self.sealed:
            return Entry(name, entry.folder, entry.size, entry.modified, entry.tag, entry.mark)
        try:
            size = None if entry.size is None else plain_size(entry.size)
        except Damaged:
            size = None  # opening it says so
        return Entry(name, False, size, entry.modified, identity("rclone", entry.tag, self.key.fingerprint), entry.mark)

    async def entries(self, folder: str = "") -> Entries:
        hidden = self._hidden(folder, folder=True)
        async with aclosing(self.tree.entries(hidden)) as entries:
            count = 0
            async for entry in entries:
                count += 1
                if count % 64 == 0:
                    await asyncio.sleep(0)  # names take time
                name = self._shown(entry)
                if name is None:
                    continue
                if entry.size is not None:
                    _remember(self.sizes, join(hidden, entry.name), entry.size)
                yield self._seen(entry, name)

    def _shown(self, entry: Entry) -> str | None:
        """The name of what was listed below; None where these keys did not make it."""
        try:
            name = self.names.shown(entry.name, entry.folder)
            ours = len(segments(name)) == 1 and self.names.hidden(name, entry.folder) == entry.name
        except (ValueError, Malformed):
            return None
        return name if ours else None

    async def find(self, path: str) -> Entry:
        if not path:
            return Entry("", folder=True)
        name, tried = path.rpartition("/")[2], ""
        for folder in (False, True):
            hidden = self._hidden(path, folder=folder)
            if hidden == tried:
                break
            tried = hidden
            try:
                entry = await self.tree.find(hidden)
            except NotFound:
                continue
            if entry.folder == folder or hidden == self._hidden(path, folder=not folder):
                return self._seen(entry, name)
        raise NotFound(f"there is no {path!r}")

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        hidden = self._hidden(path, folder=False)
        if not self.sealed:
            return await self.tree.open(hidden, ask)
        wide, known = widened(ask, HEAD, head=True), self.heads.get(hidden)
        if known is None and wide.start != 0:
            first = asyncio.ensure_future(self._first(hidden, ask.why))
            try:
                blob = await self.tree.open(hidden, wide)
                known = await first
            finally:
                first.cancel()
                await asyncio.wait([first])
        else:
            blob = await self.tree.open(hidden, wide)
        head = known[2] if known and known[:2] == (blob.tag, blob.size) else Head()
        if blob.tag is not None:
            _remember(self.heads, hidden, (blob.tag, blob.size, head))
        await self._compare(hidden, blob.size)
        return decrypted(blob, self.key, head)

    async def _first(self, hidden: str, why: Why) -> tuple[str | None, int, Head]:
        """The head of a file, asked for while its blocks are."""
        blob = await self.tree.open(hidden, Ask(0, HEAD, why))
        head = Head()
        head.take(await blob.read(0, HEAD))
        return blob.tag, blob.size, head

    async def _compare(self, hidden: str, size: int) -> None:
        """Raises Damaged where a file is not as long as its folder says."""
        if self.sizes.get(hidden, size) == size:
            return
        entry = await self.tree.find(hidden)
        if entry.size is not None:
            _remember(self.sizes, hidden, entry.size)
            if entry.size != size:
                raise Damaged(f"the folder lists {entry.size:,} bytes of a file that has {size:,}: was it cut?")

    async def put(
        self, path: str, blob: Blob, *, replaces: str | None, state: str | None, keep: Callable[[str], None]
    ) -> Entry:
        """See Store. The state is the nonce and what the store below keeps, so that what is there stays usable.

        The nonce is kept before anything leaves, and used again only to go on with what is there below.
        """
        store, hidden = self._store(), self._sealed_name(path)
        same = blake2b((blob.tag or os.urandom(16).hex()).encode(), digest_size=16).hexdigest()
        known, nonce, below = [*(state or "").split(" ", 2), "", ""][:3]
        if known != same or not below:  # another content: never with the same nonce
            nonce, below = os.urandom(NONCE).hex(), ""
        made = encrypted(blob, self.key, bytes.fromhex(nonce)) if self.sealed else blob
        there = await self._below(hidden, replaces)
        if self.sealed and not below:
            await asyncio.to_thread(keep, f"{same} {nonce} ")
        entry = await store.put(
            hidden, made, replaces=there, state=below or None, keep=lambda state: keep(f"{same} {nonce} {state}")
        )
        return self._seen(entry, path.rpartition("/")[2])

    def _store(self) -> Store:
        if not isinstance(self.tree, Store):
            raise Malformed("what lies below cannot be written")
        return self.tree

    def _sealed_name(self, path: str) -> str:
        """The path below of a file that is to be written. Raises Malformed where none can be."""
        try:
            hidden = self.names.path(segments(path), folder=False)
        except ValueError as error:
            raise Malformed(f"{path!r}: {error}") from error
        if len(longest := max(map(os.fsencode, hidden.split("/")), key=len)) > LONGEST:
            raise Malformed(
                f"{path!r} has a name that is {len(longest)} bytes long when encrypted; {LONGEST} are the most"
            )
        return hidden

    async def holds(self, path: str, blob: Blob) -> bool | None:
        """See Store: what this blob would be with the nonce of the file that is there, as the store below compares."""
        hidden = self._hidden(path, folder=False)
        if not self.sealed:
            return await self._store().holds(hidden, blob)
        there = await self.tree.open(hidden, Ask(0, HEAD))
        if there.size != sealed_size(blob.size):
            return False
        head = Head()
        try:
            head.take(await there.read(0, HEAD))
        except Damaged:
            return False
        return await self._store().holds(hidden, encrypted(blob, self.key, head.nonce))

    async def copy(self, path: str, to: str) -> Entry | None:
        """See Store: the same sealed bytes under two names."""
        entry = await self._store().copy(self._hidden(path, folder=False), self._sealed_name(to))
        return entry and self._seen(entry, to.rpartition("/")[2])

    async def _below(self, hidden: str, replaces: str | None) -> str | None:
        """The tag below of the version that has the tag `replaces` here."""
        if replaces is None or not self.sealed:
            return replaces
        try:
            entry = await self.tree.find(hidden)
        except NotFound:
            return replaces  # and so Changed below
        return entry.tag if self._seen(entry, "").tag == replaces else f"not {entry.tag}"

    async def flow(self, path: str) -> Pieces:
        stream = self.tree.flow(self._hidden(path, folder=False))
        async with aclosing(flowing(stream, self.key) if self.sealed else stream) as flow:
            async for piece in flow:
                yield piece

    async def aclose(self) -> None:
        await self.tree.aclose()


def _remember(among: OrderedDict[str, Any], key: str, value: Any) -> None:
    among[key] = value
    among.move_to_end(key)
    while len(among) > KNOWN:
        among.popitem(last=False)
