"""Contents, layout -> Blob: the bytes of an archive, computed where they are asked for.

A layout says where each member begins and what stands around it; the members' own bytes come from their blobs, as file
spans where these give them. Members that come next are made ready while the present one leaves. Small pieces leave
together. A member that is not what the plan says ends the stream there, never a byte later.
"""

import asyncio
from bisect import bisect_right
from contextlib import aclosing
from dataclasses import dataclass

from playhead.blob import Blob, FileSpan, Piece, Pieces
from playhead.errors import Failure
from playhead.transforms.ahead import Ahead, Gather, Layout
from playhead.transforms.contents import Contents
from playhead.transforms.learned import Learned
from playhead.transforms.plan import Plan

TOGETHER = 256 << 10  # bytes of small pieces that leave as one
SOON = 0.02  # seconds that a small piece waits for others


@dataclass(frozen=True, slots=True, eq=False)
class Archive(Blob):
    """An archive of the members that `contents` gives."""

    contents: Contents
    layout: Layout
    gather: Gather | None = None

    @property
    def plan(self) -> Plan:
        return self.contents.plan

    @property
    def learned(self) -> Learned:
        return self.contents.learned

    async def stream(self, start: int, stop: int) -> Pieces:
        if start >= stop:
            return
        async with aclosing(_joined(self._parts(start, stop))) as joined:
            async for piece in joined:
                yield piece

    async def _parts(self, start: int, stop: int) -> Pieces:
        begins, count = self.layout.begins, len(self.plan)
        number = min(max(0, bisect_right(begins, start) - 1), count)
        ahead, begun = Ahead(self.contents, self.layout, self.gather, number, start, stop), False
        try:
            while number < count and begins[number] < stop:
                if (run := ahead.run(number)) and (made := await ahead.gathered(run)) is not None:
                    begun, number = True, run.stop
                    yield made
                    continue
                async with aclosing(self._member(number, start, stop, ahead, begun=begun)) as member:
                    async for piece in member:
                        begun = True
                        yield piece
                number += 1
        finally:
            await ahead.aclose()
        if stop > begins[count]:
            base = begins[count]
            async with aclosing(self.layout.end(max(0, start - base), stop - base, self.contents.crc)) as end:
                async for piece in end:
                    yield piece

    async def _member(self, number: int, start: int, stop: int, ahead: Ahead, *, begun: bool) -> Pieces:
        head, size = self.layout.head(number), self.plan.sizes[number]
        at = self.layout.begins[number]
        before = head[max(0, start - at) : stop - at] if start < at + len(head) else b""
        at += len(head)
        a, b = max(0, start - at), min(size, stop - at)
        wants = self.layout.wants(number)
        if a < b:
            async with aclosing(self._data(number, a, b, ahead, counted=wants)) as data:
                if begun and before:
                    yield before  # so that no reader takes what ends here for a whole archive
                first = await anext(data)
                if before and not begun:
                    yield before  # a first member that cannot be had is an error without any byte
                yield first
                async for piece in data:
                    yield piece
        elif before:
            yield before
        at += size
        if stop > at:
            tail = self.layout.tail(number, await self.contents.crc(number) if wants else 0)
            yield tail[max(0, start - at) : stop - at]

    async def _data(self, number: int, start: int, stop: int, ahead: Ahead, *, counted: bool) -> Pieces:
        with self.contents.named(number):
            blob = await ahead.take(number)
        async with aclosing(self.contents.data(blob, number, start, stop, counted=counted)) as data:
            async for piece in data:
                yield piece


async def _joined(parts: Pieces) -> Pieces:
    """The same bytes, small pieces in memory joined; but none waits for a piece that is long in coming."""
    small: list[bytes | memoryview] = []
    held = 0
    coming: asyncio.Future[Piece | None] | None = None
    try:
        while True:
            coming = asyncio.ensure_future(anext(parts, None))
            if small and not (await asyncio.wait([coming], timeout=SOON))[0]:
                yield b"".join(small)
                small, held = [], 0
            try:
                part = await coming
            except Failure:
                if small:  # what came before is right, and need not be sent again
                    yield b"".join(small)
                raise
            if isinstance(part, FileSpan) and part.length <= TOGETHER // 4:
                part = await asyncio.to_thread(part.read)
            if part is not None and not isinstance(part, FileSpan) and len(part) < TOGETHER:
                small.append(part)
                held += len(part)
            if small and (part is None or held >= TOGETHER or part is not small[-1]):
                yield b"".join(small)
                small, held = [], 0
            if part is None:
                return
            if isinstance(part, FileSpan) or len(part) >= TOGETHER:
                yield part
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.wait([coming])
            if not coming.cancelled():
                coming.exception()  # nobody waits for it any more
        await parts.aclose()
