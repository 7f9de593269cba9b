"""Routes, a part -> the bytes of a file, fetched over several connections at once and written down.

A lane is a connection, which fetches a stretch of what is missing. One that has nothing left takes over the end of the
stretch that would be ready last; one that is far slower than the others gives all of its stretch up. A route is a way
to the origin: directly, through a proxy, or to another server with the same file; new lanes go where lanes are fast,
and a route that fails is left. What a player waits for is fetched first.

What has come is in the file and in its journal within a second, or 8 MiB: more is not taken from the network before.
"""

import asyncio
import random
import time
from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress

from playhead.blob import FileSpan, Piece
from playhead.doors.partial import MISSING, Partial
from playhead.doors.ramp import Ramp
from playhead.doors.route import Host, Lane, Route, surely
from playhead.doors.writer import Writer
from playhead.errors import Changed, Damaged, Denied, Failure, NotFound
from playhead.pool import Pool
from playhead.transforms.journal import BLOCK

WORTH = 4  # times as long as a first byte takes: what a lane must have to do, to be worth a connection
LITTLE, FEW, GATHERED = 64 << 10, 4, 0.01  # bytes; lanes; seconds that small pieces gather in, where there are many
LIMITED = 4  # connections, where a rate that one of them may reach is the limit
TICK = 0.05  # seconds between looks at what goes on
UNSURE = 6 << 20  # bytes that are written and not journaled, at most
SYNCED = 2 << 20, 0.5  # bytes, or seconds, after which what was written is journaled
SILENT = 5.0  # seconds for which a lane may wait for its first byte while others get theirs
SLOW, AGE = 0.15, 1.0  # of the median pace: a lane is slow; seconds for which it may be
PATIENCE, ODD = 6, 3  # failures in a row, and answers that cannot be right, that end a route
CROWDED = 2.0  # seconds before a connection is opened again to a server that refused one more
LONGEST = 120.0  # seconds that a server may ask us to wait
NEAR = 1 << 20  # bytes before which a lane comes soon enough to where a player waits


class Lanes:
    """All lanes of one download. `said` is told what a person should know."""

    def __init__(
        self,
        routes: Sequence[Route],
        partial: Partial,
        host: Host,
        *,
        streams: int | None = None,
        said: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.routes, self.partial, self.host, self.said = list(routes), partial, host, said
        # Where nothing certain tells the version, there is one lane, and each answer is compared where it begins.
        self.careful = any(route.blob.tag is None for route in routes)
        self.alone = self.careful or not all(getattr(route.blob, "ranged", True) for route in routes)
        most = min(host.most, LIMITED) if host.rate.limit else host.most
        self.ramp = Ramp(1 if self.alone else most, 1 if self.alone else streams)
        self.open: list[Lane] = []
        self.gaps: list[tuple[int, int]] = []  # what no lane has, in order
        self.torn: dict[int, bytes] = {}  # beginnings of blocks, where lanes broke off
        self.wanted: list[int] = []  # where players wait
        self.news = asyncio.Event()  # something was written
        self.due, self.synced = asyncio.Event(), asyncio.Event()
        self.over = False
        self.broken: BaseException | None = None  # what the disk has failed with
        self.latency = 0.0
        self.given_up = 0
        self.pool = Pool(64)
        self.threads = ThreadPoolExecutor(4, "playhead-write")

    # ── from outside ──

    async def run(self) -> None:
        """Until all is written and journaled. Raises a Failure; what came is journaled all the same."""
        self.gaps = list(self.partial.missing())
        syncing = asyncio.create_task(self._syncing())
        try:
            while not self.partial.whole:
                self._fill()
                tasks = [lane.task for lane in self.open if lane.task]
                await asyncio.wait([*tasks, syncing], timeout=TICK, return_when=asyncio.FIRST_COMPLETED)
                if syncing.done():
                    syncing.result()
                if self.broken:
                    raise self.broken
                for lane in [lane for lane in self.open if lane.task and lane.task.done()]:
                    self._ended(lane)
                self._look()
                if not self.open and not self.gaps:
                    self.gaps = list(self.partial.missing())
        finally:
            await surely(self._end(syncing))
        await asyncio.to_thread(self.partial.sync)

    async def _end(self, syncing: "asyncio.Task[None]") -> None:
        tasks = [lane.task for lane in self.open if lane.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        syncing.cancel()
        await asyncio.gather(syncing, return_exceptions=True)
        self.host.open -= len(self.open)
        self.open.clear()
        self.threads.shutdown()
        self.pulse()
        with suppress(Failure):
            await asyncio.to_thread(self.partial.sync)

    def want(self, at: int) -> None:
        """A player waits for what is at an offset. Where there may be but one lane, it waits until that is there."""
        if self.alone:
            return
        at = at // BLOCK * BLOCK
        if at not in self.wanted and not any(lane.at <= at + BLOCK and at - NEAR < lane.at for lane in self.open):
            self.wanted.append(at)

    def pulse(self) -> None:
        """Wake all who wait for something to be written."""
        self.news.set()
        self.news = asyncio.Event()

    @property
    def pace(self) -> float:
        """Bytes a second, now."""
        return sum(lane.pace for lane in self.open)

    # ── who fetches what ──

    def _fill(self) -> None:
        """Begin as many lanes as there should be."""
        while self.wanted and (route := self._route()):
            at = self.wanted.pop(0)
            if stretch := self._from(at):
                self._begin(route, stretch)
        while len(self.open) < self.ramp.want and self.host.open < max(self.host.most, 1):
            route = self._route()
            if route is None:
                if not self.open and all(route.dead for route in self.routes):
                    raise Damaged("there is no way left to the file")
                return
            stretch = self._stretch(route)
            if stretch is None:
                return
            self._begin(route, stretch)

    def _route(self) -> Route | None:
        """Where the next lane goes: to whichever has the fewest for its pace."""
        now = time.monotonic()
        ready = [route for route in self.routes if not route.dead and route.until <= now]
        best = max((route.pace for route in ready), default=0.0)
        return min(ready, key=lambda route: (route.lanes + 1) / (route.pace or best or 1.0), default=None)

    def _begin(self, route: Route, stretch: tuple[int, int]) -> None:
        start, stop = stretch
        torn = b"" if self.careful else self.torn.pop(start, b"")
        lane = Lane(route, start, stop, at=start + len(torn), began=time.monotonic())
        self.open.append(lane)
        route.lanes += 1
        self.host.open += 1
        lane.task = asyncio.create_task(self._fetch(lane, torn))

    def _stretch(self, route: Route) -> tuple[int, int] | None:
        """What a new lane fetches: of what nobody has, else the end of another's stretch."""
        if not self.gaps:
            return self._stolen(route)
        start, stop = self.gaps.pop(0)
        idle = max(1, self.ramp.want - len(self.open) - len(self.gaps))
        share = -(-(stop - start) // idle // BLOCK) * BLOCK
        least = int(route.pace * WORTH * self.latency) // BLOCK * BLOCK  # else asking takes longer than being given
        border = min(stop, start + max(share, 4 * BLOCK, least))
        self._free(border, stop)
        return start, border

    def _stolen(self, route: Route) -> tuple[int, int] | None:
        busy = [lane for lane in self.open if lane.first and lane.left > 2 * BLOCK and not lane.ending]
        mine = route.pace or (_middle(lane.pace for lane in busy) if busy else 0.0)
        lane = max(busy, key=lambda lane: lane.left / max(1.0, lane.pace), default=None)
        if lane is None or not mine or not lane.pace:
            return None
        eta = lane.left / max(1.0, lane.pace)
        if eta < WORTH * self.latency + 0.05:
            return None
        if lane.pace < SLOW * mine and eta > 2 * (self.latency + lane.left / mine):
            self._give_up(lane)
            return self._stretch(route)
        border = lane.stop - int(lane.left * mine / (mine + lane.pace))
        border = -(-border // BLOCK) * BLOCK
        if border >= lane.stop:
            return None
        stop, lane.stop = lane.stop, border
        return border, stop

    def _from(self, at: int) -> tuple[int, int] | None:
        """What is to be fetched from an offset on, taken from whoever has it."""
        for number, (start, stop) in enumerate(self.gaps):
            if start <= at < stop:
                del self.gaps[number]
                self._free(start, at)
                return at, stop
        for lane in self.open:
            if lane.at < at < lane.stop:
                stop, lane.stop = lane.stop, at
                return at, stop
        return None

    def _free(self, start: int, stop: int) -> None:
        if start < stop:
            insort(self.gaps, (start, stop))

    def _give_up(self, lane: Lane) -> None:
        """Nobody waits for this lane any more; what it has not brought is free."""
        lane.given_up = lane.ending = True
        self._free(lane.at // BLOCK * BLOCK, lane.stop)
        lane.stop = lane.at // BLOCK * BLOCK
        if lane.task:
            lane.task.cancel()

    # ── one lane ──

    @staticmethod
    def _request(lane: Lane) -> int:
        """Where a lane's next request ends: at the end of its stretch, for each request begins slowly again."""
        return min(lane.stop, lane.at + max(BLOCK, lane.route.cap // BLOCK * BLOCK))

    async def _fetch(self, lane: Lane, torn: bytes) -> None:
        writer = Writer(self, lane, torn)
        try:
            while lane.at < lane.stop:
                lane.asked, lane.since_asked = self._request(lane), lane.at
                began = time.monotonic()
                known = await self._known(writer) if self.careful else b""
                async with aclosing(lane.route.blob.stream(lane.at - len(known), lane.asked)) as stream:
                    async for piece in stream:
                        if not lane.first:
                            lane.first = time.monotonic()
                            took = lane.first - began
                            self.latency = (self.latency + took) / 2 if self.latency else took
                        if known:
                            piece, known = _compared(piece, known)
                        await self._came(lane, writer, piece)
                        if lane.stop <= lane.at < lane.asked:
                            break
                if lane.at < min(lane.asked, lane.stop):
                    raise Damaged("a stream ended before all its bytes were there")
                lane.route.odd = 0
        except Damaged:
            writer.doubted = lane.since_asked  # what came with it is not to be trusted either
            raise
        finally:
            lane.ending = True
            await surely(writer.end())

    async def _known(self, writer: Writer) -> bytes:
        """What is just before where a lane asks from, to be fetched once more and compared."""
        await writer.flush()
        await writer.settled()
        before, known = writer.lane.base - BLOCK, b""
        if before >= 0 and self.partial.states[before // BLOCK] != MISSING:
            known = await asyncio.to_thread(self.partial.span(before, BLOCK).read)
        return known + writer.held()

    async def _came(self, lane: Lane, writer: Writer, piece: Piece) -> None:
        data = memoryview(await asyncio.to_thread(piece.read) if isinstance(piece, FileSpan) else piece)
        data = data[: max(0, lane.left)]
        lane.counted += len(data)
        self.ramp.count(len(data))
        if data and not self.careful:
            lane.route.failed = 0
        await self.host.rate.passed(len(data))
        await writer.put(data)
        if len(data) < LITTLE and len(self.open) > FEW and lane.left:
            await asyncio.sleep(GATHERED)  # more will be there then: each piece costs as much as a larger one

    def _ended(self, lane: Lane) -> None:
        self.open.remove(lane)
        if lane.first and not lane.pace:  # it was over before it was measured
            lane.pace = lane.counted / max(0.01, time.monotonic() - lane.began)
            self._weighed(lane)
        lane.route.lanes -= 1
        self.host.open -= 1
        assert lane.task is not None
        self._free(lane.base, lane.stop)
        error = None if lane.task.cancelled() else lane.task.exception()
        if isinstance(error, Failure) and not (lane.given_up and error.again):
            self._failed(lane.route, error)
        elif error is not None and not lane.given_up:
            raise error

    def _failed(self, route: Route, failure: Failure) -> None:
        """A lane of a route has failed: wait, ask for less, have fewer, or leave the route. Raises what is final."""
        now, fresh = time.monotonic(), time.monotonic() >= route.until
        odd = isinstance(failure, Denied | NotFound | Damaged)  # of a file that was there a moment ago
        if isinstance(failure, Changed) or not (failure.again or odd):
            raise failure
        others, after = sum(lane.route is route for lane in self.open), failure.after or 0.0
        if others:
            self.ramp.refused(len(self.open))
        route.failed += fresh
        route.odd += odd and fresh
        if odd and not others:
            route.cap = max(1 << 20, min(route.cap, 32 << 20) // 4)
        if others:
            after = min(after, CROWDED)  # it says so of one more, not of those that it lets in
        pause = max(min(after, LONGEST), random.uniform(0.5, 1) * min(16.0, 0.2 * 2 ** min(route.failed, 8)))
        route.until = max(route.until, now + pause)
        if not others and (after > LONGEST or route.failed >= PATIENCE or route.odd >= ODD):
            route.dead = True
            alive = [other for other in self.routes if not other.dead]
            if not alive:
                raise failure
            self.said(f"{route.name} is left out: {failure.told}")

    # ── looking after them ──

    def _look(self) -> None:
        now = time.monotonic()
        for lane in self.open:
            if lane.first:
                lane.measure(now)
                self._weighed(lane)
        begun = sum(lane.first > 0 for lane in self.open)
        if self.open and (begun >= self.ramp.want or begun == len(self.open)):
            self.ramp.begun(self.latency)
        self.ramp.judge()
        self._relieve(now)

    @staticmethod
    def _weighed(lane: Lane) -> None:
        """Its route is as fast as its lanes are, the faster ones more: a slow one may be alone with it."""
        share = 0.5 if lane.pace > lane.route.pace else 0.05
        lane.route.pace += share * (lane.pace - lane.route.pace)

    def _relieve(self, now: float) -> None:
        """Give up a lane that is far slower than the others, a few times."""
        known = [lane for lane in self.open if lane.pace and not lane.ending]
        if self.given_up >= 8:
            return
        for lane in self.open if known else ():
            if not lane.first and not lane.ending and now - lane.began > max(SILENT, 8 * self.latency):
                self.given_up += 1
                self._give_up(lane)
                return
        if len(known) < 3:
            return
        usual = _middle(lane.pace for lane in known)
        for lane in known:
            late = lane.left / lane.pace > 2 * (self.latency + lane.left / usual) + AGE
            if lane.pace < SLOW * usual and now - lane.began > AGE and late:
                self.given_up += 1
                self._give_up(lane)
                return

    async def _syncing(self) -> None:
        """Journal what was written, soon after it was."""
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(SYNCED[1]):
                        await self.due.wait()
                self.due.clear()
                await asyncio.to_thread(self.partial.sync)
                self.synced.set()
                self.synced = asyncio.Event()
        finally:
            self.over = True
            self.synced.set()

    async def written(self) -> None:
        """Something was written: wait while too much of it is not journaled."""
        self.pulse()
        while (unsure := self.partial.written - self.partial.have) >= SYNCED[0]:
            self.due.set()
            if unsure < UNSURE or self.over:
                return
            await self.synced.wait()


def _middle(numbers: Iterable[float]) -> float:
    """The median."""
    ordered = sorted(numbers)
    return ordered[len(ordered) // 2]


def _compared(piece: Piece, known: bytes) -> tuple[Piece, bytes]:
    """What is new of a piece that begins with what is known, and what is still to come of that. Raises Changed."""
    data = memoryview(piece.read() if isinstance(piece, FileSpan) else piece)
    length = min(len(data), len(known))
    if data[:length] != known[:length]:
        raise Changed("the file is another one than a moment ago")
    return data[length:], known[length:]
