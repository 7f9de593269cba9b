"""One who reads on from an offset: what it waits for, and what is read ahead of it.

The first request is for what was asked, 256 KiB at least; each is twice as long as the one before, and is sent when
the first byte of that has come. What is asked for beyond the reader is at most what it takes in 20 s, and 32 MiB;
where nothing can be kept it must also stay in memory, so the budget is shared out.
"""

import asyncio
import time

from playhead.transforms.filling import LONG, MOST, File
from playhead.transforms.flight import Fill, whole_blocks
from playhead.transforms.journal import BLOCK, RUN
from playhead.transforms.kept import Kept
from playhead.transforms.reservoir import Reservoir

FIRST = 256 << 10  # bytes of the shortest first request
PLAIN = 8 << 20  # bytes of the longest first request, where its end was named
AHEAD = 20.0  # seconds of a reader's own pace that are read ahead of it
LEAST = 1 << 20  # bytes that are read ahead, at least
NEAR = 1 << 20  # bytes that a reader waits for a fill to come, rather than begin its own


class Reader:
    """One who reads on from `start`, and what is read ahead for it."""

    def __init__(self, file: File, start: int, stop: int) -> None:
        self.file, self.start, self.at, self.began = file, start, start, time.monotonic()
        file.readers.add(self)
        self.end = whole_blocks(start, stop, file.size)[1]
        first = first_request(start, None if stop == file.size else stop)
        self.length = first[1] - first[0]
        self.held: set[Fill] = set()
        file.cache.streams += 1

    def leave(self) -> None:
        """It wants nothing more."""
        self.file.readers.discard(self)
        self.file.cache.streams -= 1
        for fill in self.held:
            fill.release()
        self.held.clear()

    def hold(self, fill: Fill) -> Fill:
        """It wants what a fill brings."""
        if fill not in self.held:
            self.held.add(fill)
            fill.hold()
            self.length = min(MOST, max(self.length, 2 * (fill.stop - fill.start)))
        return fill

    def pass_by(self, at: int) -> None:
        """It has come to `at`: fills that end before are nothing to it any more."""
        for fill in [fill for fill in self.held if fill.stop <= at]:
            self.held.discard(fill)
            fill.release()

    def window(self, at: int) -> int:
        """Bytes to have ready ahead of it."""
        pace = (at - self.start) / max(1.0, time.monotonic() - self.began)
        wanted, cache = int(min(MOST, max(LEAST, AHEAD * pace))), self.file.cache
        if cache.lasting(self.file):
            return wanted
        return min(wanted, max(FIRST, cache.memory // (2 * max(1, cache.streams))))  # it must stay in memory till then

    def look_ahead(self, at: int) -> None:
        """Begin to read what it will want soon."""
        self.at = at
        if self.held:
            self.pass_by(at)
        window = self.window(at)
        limit = min(self.end, at + window)
        early = False
        for fill in self.file.fills:
            if fill.start < limit and fill.stop > at:
                self.hold(fill)
                early = early or not _well_on(fill)
        edge = at if early else self.file.known(at, limit)
        if edge == at:
            return  # not yet; or it is about to ask for that itself
        if limit - edge >= min(self.length, window // 2, self.end - edge) and edge < self.end:
            self.begin(edge, limit)

    def begin(self, start: int, limit: int) -> Fill:
        """Begin the next request, twice as long as the one before; not beyond `limit`."""
        start, limit = whole_blocks(start, max(limit, start + 1), self.file.size)
        stop = min(limit, start + self.length)
        at = min(stop, start + BLOCK)
        while at < stop and self.file.known(at, at + 1) == at:
            at = min(stop, at + BLOCK)
        return self.hold(self.file.begin(start, at))

    async def wait(self, at: int) -> None:
        """Return when there may be something at `at`. Raises why it cannot be had."""
        file, reservoir = self.file, self.file.cache.reservoir
        if file.kept is not None and reservoir is not None and file.kept.held(at, at + 1):
            stop = min(self.end, at + RUN)
            file.kept = await asyncio.to_thread(_checked, reservoir, file.kept, at, stop)
            if file.ready(at, at + 1) is not None:
                return
        fill = file.covering(at)
        if fill is not None and at - fill.at > NEAR:  # it would take too long: that one goes up to here only
            fill.stop, fill = at // BLOCK * BLOCK, None
        if fill is None:
            fill = self.begin(at, max(self.end, at + FIRST) if at == self.start else at + self.window(at))
        self.hold(fill)
        await fill.beyond(at)
        if fill.failure is not None and fill.at <= at:
            raise fill.failure


def _well_on(fill: Fill) -> bool:
    """Has a fill come so far that the next may begin? With its first byte; a long one with its half."""
    return fill.at > fill.start and (fill.stop - fill.start < LONG or fill.at >= (fill.start + fill.stop) // 2)


def _checked(reservoir: Reservoir, kept: Kept, start: int, stop: int) -> Kept | None:
    """What is kept, its file open and the CRCs of [start, stop) compared."""
    found = reservoir.kept(kept.tag, kept.size, kept.name)
    if found is not None:
        reservoir.check(found, start, stop)
    return found


def first_request(start: int, stop: int | None) -> tuple[int, int]:
    """The whole blocks that are asked for first, for who wants [start, stop) or reads on to the end."""
    length = FIRST if stop is None else max(FIRST, min(stop - start, PLAIN))
    first = start // BLOCK * BLOCK
    return first, max(first + FIRST, -(-(start + length) // BLOCK) * BLOCK if stop is not None else 0)
