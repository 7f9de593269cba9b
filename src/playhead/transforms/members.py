"""Things -> an archive, and an iterator -> a Blob: what the Python functions `tar`, `zip` and `once` make."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field, replace

from playhead.blob import Blob, Pieces, literal
from playhead.errors import Damaged, Malformed
from playhead.transforms.plan import Member, Planning
from playhead.transforms.tar import tar
from playhead.transforms.zip import zip
from playhead.tree import Ask

Thing = Blob | bytes


def packed(members: Iterable[tuple[str, Thing] | tuple[str, Thing, float]], kind: str) -> Blob:
    """See `playhead.tar`."""
    planning, blobs = Planning(), []
    for name, thing, *rest in members:
        blob = _blob(thing)
        when = float(rest[0]) if rest else blob.modified.timestamp() if blob.modified else 0.0
        before = len(planning.plan)
        planning.add(Member(name, blob.size, mtime=max(0, int(when)), tag=blob.tag or ""))
        blobs += [blob] * (len(planning.plan) - before)

    async def opener(number: int, ask: Ask) -> Blob:
        return blobs[number]

    archive = (tar if kind == "tar" else zip)(planning.done(), opener)
    return archive if all(blob.tag for blob in blobs) else replace(archive, tag=None)


def _blob(thing: Thing) -> Blob:
    if isinstance(thing, Blob):
        return thing
    if isinstance(thing, bytes):
        return literal(thing)
    raise Malformed(f"{type(thing).__name__} is not a blob or bytes")


def once(source: Iterable[bytes] | AsyncIterable[bytes], size: int) -> Blob:
    """See `playhead.once`."""
    return _Once(size, None, aiter(source) if isinstance(source, AsyncIterable) else iter(source))


@dataclass(frozen=True, slots=True, eq=False)
class _Once(Blob):
    source: Iterator[bytes] | AsyncIterator[bytes]
    state: dict[str, int] = field(default_factory=lambda: {"at": 0})
    left: list[memoryview] = field(default_factory=list)

    async def stream(self, start: int, stop: int) -> Pieces:
        if start != self.state["at"]:
            raise Malformed(f"what comes from an iterator is read once, in order: {start} is not {self.state['at']}")
        if start == stop == self.size and not self.left and await self._more():
            raise Damaged(f"an iterator gives more than the {self.size:,} bytes that were announced")
        while start < stop:
            piece = self.left.pop() if self.left else await self._next()
            if len(piece) > stop - start:
                self.left.append(piece[stop - start :])
                piece = piece[: stop - start]
            start = self.state["at"] = start + len(piece)
            if start == self.size and (self.left or await self._more()):
                raise Damaged(f"an iterator gives more than the {self.size:,} bytes that were announced")
            yield piece

    async def _next(self) -> memoryview:
        missing = object()
        if isinstance(self.source, AsyncIterator):
            piece = await anext(self.source, missing)
        else:
            piece = await asyncio.to_thread(next, self.source, missing)
        if piece is missing:
            raise Damaged(f"an iterator ended {self.size - self.state['at']:,} bytes early")
        return memoryview(piece).cast("B")  # type: ignore[arg-type]

    async def _more(self) -> bool:
        try:
            while not len(await self._next()):
                pass
        except Damaged:
            return False
        return True
