"""Tree -> Tree: each block is read from upstream once, whoever asks, ahead of who listens, and kept.

A reader (see `reader`) takes what is there: a span of the reservoir's file, or memory that a fill (see `flight`) has
just filled. What is not there is being read by somebody's fill, or the reader begins one. Fills run at the origin's
speed, never at a slow client's; all their buffers together (see `filling`) stay below one budget. What is asked of
the tree below is whole blocks, and the very ones that the first fill will want.

Nothing is kept of what has no tag.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from weakref import WeakSet

from playhead.blob import Blob, Piece, Pieces
from playhead.transforms.crc import combined
from playhead.transforms.filling import Cache, File
from playhead.transforms.journal import BLOCK
from playhead.transforms.reader import Reader, first_request
from playhead.transforms.reservoir import LEASE
from playhead.tree import Ask, Entries, Entry, Tree, Why


@dataclass(frozen=True, slots=True, eq=False)
class CachedBlob(Blob):
    """A file that is read through the cache."""

    file: File

    async def stream(self, start: int, stop: int) -> Pieces:
        file, at = self.file, start
        if start >= stop:
            return
        reader = Reader(file, start, stop)
        try:
            while at < stop:
                reader.look_ahead(at)
                piece = file.ready(at, stop)
                if piece is None:
                    await reader.wait(at)
                    continue
                yield piece
                at += len(piece)
        finally:
            reader.leave()

    def crc32(self) -> int | None:
        """The CRC-32 of the whole, where all of it is kept: then its blocks' checksums tell."""
        kept = self.file.kept
        if kept is None or kept.held(0, self.size) < self.size:
            return None
        return combined(kept.crcs, BLOCK, self.size - (len(kept.crcs) - 1) * BLOCK)

    def here(self, start: int, stop: int) -> Sequence[Piece] | None:
        kept, reservoir = self.file.kept, self.file.cache.reservoir
        if start >= stop:
            return []
        if kept is None or reservoir is None or stop - start > LEASE:
            return None
        span = reservoir.lease(kept, start, stop, touch=not self.file.cold)
        return [span] if span is not None and span.length == stop - start else None


@dataclass(frozen=True, slots=True, eq=False)
class Unkept(Blob):
    """A file without a tag: read through, its opening answer (which ends at `border`) and what follows it in one go."""

    blob: Blob
    border: int

    async def stream(self, start: int, stop: int) -> Pieces:
        if not start < self.border < stop:
            async with aclosing(self.blob.stream(start, stop)) as stream:
                async for piece in stream:
                    yield piece
            return
        rest = self.blob.stream(self.border, stop)
        following = asyncio.ensure_future(anext(rest))
        try:
            async with aclosing(self.blob.stream(start, self.border)) as stream:
                async for piece in stream:
                    yield piece
            yield await following
            async for piece in rest:
                yield piece
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await rest.aclose()


def cached(tree: Tree, cache: Cache) -> Tree:
    """Tree -> Tree: what is read stays, and is read once."""
    return CachedTree(tree, cache)


class CachedTree(Tree):
    """See `cached`."""

    def __init__(self, tree: Tree, cache: Cache) -> None:
        self.tree, self.cache = tree, cache
        self.files: WeakSet[File] = WeakSet()

    def entries(self, folder: str = "") -> Entries:
        return self.tree.entries(folder)

    async def find(self, path: str) -> Entry:
        return await self.tree.find(path)

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        wide = _widened(ask)
        blob = await self.tree.open(path, wide)
        if blob.tag is None and wide.start is not None and wide.stop and blob.size > wide.stop:
            return Unkept(blob.size, None, blob, wide.stop, modified=blob.modified)
        if blob.tag is None or not blob.size:
            return blob
        begins = wide.start if wide.start is not None else max(0, blob.size + (wide.stop or 0))
        file = await self.cache.file(blob, path, begins)
        file.cold = ask.why >= Why.BULK
        self.files.add(file)
        return CachedBlob(blob.size, blob.tag, file, modified=blob.modified)

    def flow(self, path: str) -> Pieces:
        return self.tree.flow(path)

    async def aclose(self) -> None:
        for file in list(self.files):
            for fill in list(file.fills):
                await fill.end()
        await self.tree.aclose()


def _widened(ask: Ask) -> Ask:
    """What is asked upstream for what was asked here: whole blocks, as the first request of a reader."""
    if ask.start is None:
        return Ask(None, (ask.stop or 0) - BLOCK, ask.why)
    if ask.stop is not None and ask.stop <= ask.start:
        return ask
    return Ask(*first_request(ask.start, ask.stop), ask.why)
