"""Files of one push with the same content, so that it is sent once, and copied by the store for the others.

Where the source's tags are digests of the content (`h:`), equal ones are equal files. Files on this machine that are
equally long are compared first by their ends, and then by all of it; the first of them is sent meanwhile, and those
that are equal wait for it. Nothing is read of a remote file for this.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import sha256

from playhead.errors import Failure
from playhead.transforms.witnessed import Witnessed, witnessed
from playhead.tree import Ask, Tree, Why

END = 64 << 10  # bytes at either end of a file that are looked at first


@dataclass(slots=True, eq=False)
class Twin:
    """A file that is sent: where it is and where it goes; once it is there, its SHA-256 and its tag there."""

    place: str
    to: str
    sha256: str | None = None
    tag: str | None = None
    there: "asyncio.Future[bool]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def settle(self, there: bool) -> None:
        """It is at the target now, or will not be."""
        if not self.there.done():
            self.there.set_result(there)


@dataclass(slots=True)
class _Alike:
    """Files that are alike so far: the first alone, until there is a second; then each by what is looked at next."""

    first: Twin | None = None
    by_key: "dict[str, _Alike]" = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Twins:
    """The files of one push."""

    def __init__(self, source: Tree) -> None:
        self.source = source
        self.by_tag: dict[str, Twin] = {}
        self.by_size: dict[int, _Alike] = {}
        self.known: dict[int, dict[str, Twin]] = {}  # by size and SHA-256, sent by earlier pushes

    def add(self, twin: Twin, tag: str | None, size: int) -> None:
        """A file that is at the target already."""
        twin.settle(True)
        if not size or tag is None:
            return
        if tag.startswith("h:"):
            self.by_tag.setdefault(tag, twin)
        elif tag.startswith("l:") and twin.sha256:
            self.known.setdefault(size, {})[twin.sha256] = twin

    async def claim(self, mine: Twin, blob: Witnessed) -> Twin | None:
        """Another file with these bytes, once it is at the target; None: this is to be sent, and is the first now."""
        if not blob.size or blob.tag is None:
            return None
        if blob.tag.startswith("h:"):
            while (other := self.by_tag.setdefault(blob.tag, mine)) is not mine:
                if await asyncio.shield(other.there):
                    return other
                if self.by_tag[blob.tag] is other:
                    self.by_tag[blob.tag] = mine
            return None
        if not blob.tag.startswith("l:"):
            return None
        known = self.known.get(blob.size)
        return (known and known.get(await _whole(blob))) or await self._alike(mine, blob)

    async def _alike(self, mine: Twin, blob: Witnessed) -> Twin | None:
        alike = self.by_size.setdefault(blob.size, _Alike())
        for key in (_ends, _whole):
            async with alike.lock:
                if alike.first is None and not alike.by_key:
                    alike.first = mine
                    return None
                await self._look(alike, key)
                alike = alike.by_key.setdefault(await key(blob), _Alike())
        other = alike.first
        if other is not None and await asyncio.shield(other.there):
            return other if other.sha256 == await _whole(blob) else None  # as it was sent, not as it is now
        if alike.first is other:
            alike.first = mine
            return None
        return await self._alike(mine, blob)

    async def _look(self, alike: _Alike, key: Callable[[Witnessed], Awaitable[str]]) -> None:
        """Look closer at the first, now that there is a second."""
        first, alike.first = alike.first, None
        if first is not None:
            try:
                blob = witnessed(await self.source.open(first.place, Ask(why=Why.BULK)))
                alike.by_key[await key(blob)] = _Alike(first)
            except Failure:
                return  # it is gone; whoever sends it says so


async def _ends(blob: Witnessed) -> str:
    head = await blob.read(0, END)
    return sha256(head + await blob.read(max(END, blob.size - END), blob.size)).hexdigest()


async def _whole(blob: Witnessed) -> str:
    return await blob.prefix(blob.size)
