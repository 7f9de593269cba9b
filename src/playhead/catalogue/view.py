"""Blob -> whatever a parser makes of it: parsed from ranges of a file, never from all of it.

A parser is a plain function of a `View`: the bytes of a file that are in memory. Where it looks for others it is broken
off by `Missing`, they are fetched, and it begins again: so it may run in a thread and never waits for a network there.
The head and the tail, where nearly everything is, come first and together: one round trip. What is fetched for one file
is bounded, and so is how often; a file that wants more is damaged, or means harm.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TypeVar

from playhead.blob import Blob
from playhead.errors import Damaged

HEAD = 64 * 1024
TAIL = 64 * 1024
STEP = 16 * 1024  # the least that is fetched after that, and more where it goes on
MOST = 1024 * 1024  # bytes of one file
ROUNDS = 24  # times that a parser begins
_READS = 5_000  # by a parser of strangers, some of which go round for ever
_CALLS = 200_000  # times that a file's bytes are looked at; those of a good one are a few hundred times

_CIRCLES = "what it says of itself goes round in circles"

Span = tuple[int, int]
T = TypeVar("T")


def little(data: bytes, at: int, size: int, *, signed: bool = False) -> int:
    """A little-endian number in some bytes."""
    return int.from_bytes(data[at : at + size], "little", signed=signed)


class Missing(Exception):
    """A parser looked for bytes that are not here yet."""

    def __init__(self, spans: Sequence[Span]) -> None:
        super().__init__(spans)
        self.spans = spans


class View:
    """A file of `size` bytes, some of which are here."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.runs: list[tuple[int, bytes]] = []  # in order, apart from each other
        self.calls = 0

    def put(self, start: int, data: bytes) -> None:
        """Bytes that are here now, none of which was before."""
        at = bisect_right(self.runs, start, key=lambda run: run[0])
        if at < len(self.runs) and self.runs[at][0] == start + len(data):
            data += self.runs.pop(at)[1]
        if at and self.runs[at - 1][0] + len(self.runs[at - 1][1]) == start:
            at -= 1
            start, before = self.runs.pop(at)
            data = before + data
        self.runs.insert(at, (start, data))

    def read(self, start: int, stop: int) -> bytes:
        """The bytes [start, stop), as many of them as the file has. Raises Missing."""
        stop = min(stop, self.size)
        if start >= stop:
            return b""
        data = self.here(start, stop - start)
        if len(data) < stop - start:
            raise Missing([(start, stop)])
        return data

    def exactly(self, start: int, length: int) -> bytes:
        """So many bytes. Raises Missing; Damaged where the file ends before."""
        data = self.read(start, start + length)
        if len(data) < length:
            raise Damaged("it ends in the middle of what it says of itself: is it whole?")
        return data

    def here(self, start: int, most: int) -> bytes:
        """Up to `most` bytes from `start` on, as far as they are here without a gap."""
        self.calls += 1
        if self.calls > _CALLS:
            raise Damaged(_CIRCLES)
        at = bisect_right(self.runs, start, key=lambda run: run[0]) - 1
        if at < 0 or start < 0:
            return b""
        begin, data = self.runs[at]
        return data[start - begin : start - begin + most]

    def need(self, *spans: Span) -> None:
        """Raises Missing, at once for all of these that are not here."""
        lacking = [(a, min(b, self.size)) for a, b in spans if len(self.here(a, b - a)) < min(b, self.size) - a]
        if lacking:
            raise Missing(lacking)

    @property
    def held(self) -> int:
        return sum(len(data) for _, data in self.runs)


class File:
    """[start, stop) of a view as a file that is read and sought in; only the first `seen` bytes of it can be read."""

    def __init__(self, view: View, start: int, stop: int, seen: int = HEAD) -> None:
        self.view, self.start, self.stop, self.seen = view, start, stop, seen
        self.at = self.reads = 0

    def read(self, size: int = -1) -> bytes:
        self.reads += 1
        if self.reads > _READS:
            raise Damaged(_CIRCLES)
        room = min(self.seen, self.stop - self.start) - self.at
        size = room if size < 0 else min(size, room)
        data = self.view.read(self.start + self.at, self.start + self.at + size) if size > 0 else b""
        self.at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = max(0, offset + (0, self.at, self.stop - self.start)[whence])
        return self.at

    def tell(self) -> int:
        return self.at


def first(size: int) -> list[Span]:
    """What is fetched before anything is known: the head and the tail; all of a small file."""
    if size <= HEAD + TAIL:
        return [(0, size)]
    return [(0, HEAD), (size - TAIL, size)]


async def parsed(blob: Blob, parse: Callable[[View], T], spent: Callable[[int], None]) -> T:
    """What `parse` makes of a blob, in a thread. `spent` is told how many bytes each range had.

    Raises Damaged where a megabyte, or two dozen looks, are not enough for it; and what reading the blob raises.
    """
    view = View(blob.size)
    wanted = first(blob.size)
    for number in range(ROUNDS):
        await _fetch(blob, view, wanted, spent)
        try:
            return await asyncio.to_thread(parse, view)
        except Missing as missing:
            wanted = _widened(view, missing.spans, STEP * (1 + number // 4))
        if view.held + sum(stop - start for start, stop in wanted) > MOST:
            raise Damaged(f"its tags are larger than {MOST // 1024:,} KiB, or it is damaged")
    raise Damaged("what it says of itself is scattered over too many places")


async def _fetch(blob: Blob, view: View, spans: Sequence[Span], spent: Callable[[int], None]) -> None:
    reads = [asyncio.ensure_future(blob.read(*span)) for span in spans]
    try:
        got = await asyncio.gather(*reads)
    finally:
        for read in reads:
            read.cancel()
        await asyncio.gather(*reads, return_exceptions=True)
    for (start, stop), data in zip(spans, got, strict=True):
        if len(data) != stop - start:
            raise Damaged(f"{len(data):,} bytes came instead of {stop - start:,}")
        spent(len(data))
        view.put(start, data)


def _widened(view: View, spans: Sequence[Span], step: int = STEP) -> list[Span]:
    """What to fetch for these: at least `step` bytes at a time, nothing that is here, near ones together."""
    wanted: list[Span] = []
    for start, stop in sorted(spans):
        stop = min(max(stop, start + step), view.size)
        if wanted and start - wanted[-1][1] < STEP:
            wanted[-1] = (wanted[-1][0], max(wanted[-1][1], stop))
        else:
            wanted.append((start, stop))
    return [gap for span in wanted for gap in _gaps(view, span)]


def _gaps(view: View, span: Span) -> list[Span]:
    start, stop = span
    gaps = []
    for begin, data in view.runs:
        if begin < stop and begin + len(data) > start:
            gaps.append((start, begin))
            start = begin + len(data)
    gaps.append((start, stop))
    return [(a, b) for a, b in gaps if a < b]
