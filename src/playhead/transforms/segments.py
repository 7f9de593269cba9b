"""Tree -> Tree, Blob -> Blob: one run of bytes over several connections, where one is slower than its reader.

A long stream begins as the one plain request that it would be anyway. Where its reader then mostly waits, the
rest is fetched as segments by several lanes at once and given in order: 2, 4, 8, 16 lanes, for as long as twice
as many bring at least a quarter more. What was found holds for the origin, so that the next stream begins there.
An origin that refuses a lane gets half as many, and the segment is fetched once more. Lanes run ahead of the
reader by two segments more than there are lanes, no further.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace

from playhead.blob import Blob, FileSpan, Piece, Pieces
from playhead.errors import Damaged, Failure
from playhead.tree import Ask, Entries, Entry, Tree

LONG = 2 << 20  # bytes of a stream that is worth the trouble
SMALL, LARGE = 512 << 10, 2 << 20  # bytes of a segment
BLOCK = 64 << 10  # segments begin at multiples of it
FAST = 48e6  # bytes a second that no lanes could better
PROBE = 0.25  # seconds after which one connection is judged
WINDOW = 0.3  # seconds, and then until SMALL bytes came or 2 s have passed, after which a number of lanes is judged
GAIN = 1.25  # times as fast: what twice as many lanes must bring
HOLD = 60.0  # seconds before more lanes are tried again
MEMORY = 600.0  # seconds before one connection is given another chance


def segmented(tree: Tree, *, most: int = 16) -> "Segmented":
    """The same tree; its long streams come over up to `most` connections, of all streams together."""
    return Segmented(tree, Lanes(most))


class Lanes:
    """What is known of one origin, and shared by all streams from it: how many connections pay."""

    def __init__(self, most: int = 16) -> None:
        self.most, self.streams, self.open = most, 0, 0  # open: streams from below, of all streams given
        self.pays, self.learnt, self.held = 1, 0.0, 0.0
        self.pace, self.latency = 0.0, 0.1  # bytes a second of one lane; seconds before its first

    def over(self, blob: Blob) -> Blob:
        """The same blob through these lanes; itself, where it is short or its parts might not fit together."""
        if blob.tag is None or blob.size < LONG or self.most < 2:
            return blob
        return _Segmented(blob.size, blob.tag, blob, self, modified=blob.modified)

    def share(self) -> int:
        """How many lanes one stream may have."""
        return max(1, self.most // max(1, self.streams))

    @contextmanager
    def one(self) -> Iterator[None]:
        """A stream from below that is open."""
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1

    def known(self) -> int:
        """How many lanes a stream begins with."""
        return min(self.share(), self.pays if time.monotonic() - self.learnt < MEMORY else 1)

    def open_to_more(self) -> bool:
        return time.monotonic() >= self.held

    def wanted(self) -> bool:
        """Should a stream over one connection that is too slow have more?"""
        return self.share() > 1 and (self.known() > 1 or self.open_to_more())

    def lead(self) -> int:
        """Bytes that one connection reads on while the first lanes begin: a quarter of a second of it."""
        return BLOCK + max(2 * BLOCK, min(SMALL, int(self.pace / 4)))

    def learn(self, pays: int, *, enough: bool) -> None:
        """So many lanes pay; `enough`: more do not, or were refused."""
        self.pays, self.learnt = pays, time.monotonic()
        if enough:
            self.held = self.learnt + HOLD

    def segment(self) -> int:
        """Bytes of a segment: half a second of a lane, more where asking takes long."""
        return max(SMALL, min(LARGE, int(self.pace * (0.5 + 3 * self.latency)) // BLOCK * BLOCK))


class Segmented(Tree):
    """`lanes` tells how many connections were found to pay."""

    def __init__(self, tree: Tree, lanes: Lanes) -> None:
        self.tree, self.lanes = tree, lanes

    def entries(self, folder: str = "") -> Entries:
        return self.tree.entries(folder)

    async def find(self, path: str) -> Entry:
        return await self.tree.find(path)

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        return self.lanes.over(await self.tree.open(path, ask))

    def flow(self, path: str) -> Pieces:
        return self.tree.flow(path)

    async def aclose(self) -> None:
        await self.tree.aclose()


@dataclass(frozen=True, slots=True, eq=False)
class _Segmented(Blob):
    blob: Blob
    lanes: Lanes

    def stream(self, start: int, stop: int) -> Pieces:
        if stop - start < LONG:
            return self.blob.stream(start, stop)
        return _streamed(self.blob, self.lanes, start, stop)

    def here(self, start: int, stop: int) -> Sequence[Piece] | None:
        return self.blob.here(start, stop)


async def _streamed(blob: Blob, lanes: Lanes, at: int, stop: int) -> Pieces:
    """By turns over one connection and over lanes, as either is found to be better."""
    crowd = _Crowd(blob, lanes)
    lanes.streams += 1
    try:
        while at < stop:
            if (known := lanes.known()) > 1:
                crowd.begin(at, stop, known)
            else:
                with lanes.one():
                    async with aclosing(_alone(blob, lanes, crowd, at, stop)) as pieces:
                        async for piece in pieces:
                            at += len(piece)
                            yield piece
            async with aclosing(crowd.pieces()) as pieces:
                async for piece in pieces:
                    at += len(piece)
                    yield piece
    finally:
        lanes.streams -= 1
        await crowd.aclose()


async def _alone(blob: Blob, lanes: Lanes, crowd: "_Crowd", at: int, stop: int) -> Pieces:
    """One connection for all of it; or up to a border, behind which it has called for a crowd."""
    meter, border = _Meter(), stop
    async with aclosing(blob.stream(at, stop)) as pieces:
        async for piece in pieces:
            meter.arrived(len(piece))
            if border < stop and at + len(piece) >= border:
                yield _first(piece, border - at)
                return
            at += len(piece)
            yield piece
            if meter.slow() and border == stop and stop - at >= LONG and lanes.wanted():
                lanes.pace = meter.rate
                border = (at + lanes.lead()) // BLOCK * BLOCK
                crowd.begin(border, stop, max(2, lanes.known()), after=meter.rate)
    if at < border:
        raise Damaged("a stream ended before all its bytes were there")


def _first(piece: Piece, length: int) -> Piece:
    if len(piece) == length:
        return piece
    return replace(piece, length=length) if isinstance(piece, FileSpan) else memoryview(piece)[:length]


class _Meter:
    """How fast one stream comes, and whether its reader waits for it; window by window, from the first piece on."""

    __slots__ = ("asked", "bytes", "rate", "since", "waited")

    def __init__(self) -> None:
        self.asked, self.since, self.bytes = 0.0, 0.0, 0
        self.waited, self.rate = 0.0, 0.0

    def arrived(self, length: int) -> None:
        if self.since:
            self.bytes += length
            self.waited += time.monotonic() - self.asked

    def slow(self) -> bool:
        """Asked before the next piece is: was it too slow, in a window that is over now?"""
        self.asked = now = time.monotonic()
        took = now - self.since
        if self.since and took < PROBE:
            return False
        first, self.since, self.rate = not self.since, now, self.bytes / took
        verdict = not first and self.waited > took / 2 and self.rate < FAST
        self.bytes, self.waited = 0, 0.0
        return verdict


@dataclass(slots=True, eq=False)
class _Segment:
    """The bytes up to `stop` that a lane fetches: `at` is how far it came, `wide` how many lanes were wanted then."""

    at: int
    stop: int
    wide: int = 0
    done: bool = False
    again: bool = False
    failure: Exception | None = None
    pieces: deque[Piece] = field(default_factory=deque)


class _Crowd:
    """The lanes of one stream, and the segments between them and its reader."""

    def __init__(self, blob: Blob, lanes: Lanes) -> None:
        self.blob, self.lanes = blob, lanes
        self.at = self.stop = 0  # what is not given to a lane yet
        self.ahead: deque[_Segment] = deque()
        self.spoilt: list[_Segment] = []  # to be fetched once more
        self.tasks: set[asyncio.Task[None]] = set()
        self.news = asyncio.Event()
        self.want, self.alone = 1, 0
        self.before: float | None = None  # the rate before the doubling that is being judged
        self.burst = self.refused = 0  # of so many lanes, so many were refused
        self.idle = 0.0  # since when the reader has been waiting
        self._measure()

    def begin(self, at: int, stop: int, want: int, after: float | None = None) -> None:
        """Fetch [at, stop); `after`: while one connection, at that rate, still reads what comes before."""
        self.at, self.stop, self.want = at, stop, want
        self.alone = 0 if after is None else 1
        self.before = after if self.lanes.known() == 1 else None
        self._measure()
        self._fill()

    async def pieces(self) -> Pieces:
        """What was begun, in order, as it comes."""
        self.alone = 0
        self._measure()
        self._fill()
        while self.ahead or self.at < self.stop:
            if not self.ahead:  # the lanes that end now will take what is left
                await self._wait()
                continue
            head = self.ahead[0]
            while head.pieces:
                yield head.pieces.popleft()
            if head.failure:
                raise head.failure
            if head.done:
                self.ahead.popleft()
                self._fill()
            else:
                await self._wait()

    async def aclose(self) -> None:
        self.stop = self.at
        self.spoilt.clear()
        if tasks := list(self.tasks):
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait(self) -> None:
        self.news.clear()
        self.idle = time.monotonic()
        await self.news.wait()
        self.waited += self._waiting()
        self.idle = 0.0

    def _waiting(self) -> float:
        """Seconds of this window for which the reader has been waiting now."""
        return max(0.0, time.monotonic() - max(self.idle, self.since)) if self.idle else 0.0

    # ── lanes ──

    def _fill(self) -> None:
        wide = min(self.want, self.lanes.share()) - self.alone
        while len(self.tasks) < wide and self._room() and (segment := self._next(wide)):
            segment.wide = self.want
            self.lanes.open += 1
            self.tasks.add(task := asyncio.create_task(self._fetch(segment)))
            task.add_done_callback(self._ended)

    def _room(self) -> bool:
        """One lane is every stream's right."""
        return self.lanes.open < self.lanes.most or not (self.tasks or self.alone)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self.lanes.open -= 1
        self.news.set()
        self._fill()

    def _next(self, wide: int) -> _Segment | None:
        if self.spoilt:
            self.spoilt.sort(key=lambda segment: -segment.at)
            return self.spoilt.pop()
        if self.at >= self.stop or len(self.ahead) >= wide + 2:
            return None
        fair = (self.stop - self.at) // self.want // BLOCK * BLOCK  # so that all lanes end together
        stop = min(self.stop, self.at + max(SMALL, min(self.lanes.segment(), fair)))
        segment, self.at = _Segment(self.at, stop), stop
        self.ahead.append(segment)
        return segment

    async def _fetch(self, segment: _Segment) -> None:
        try:
            await self._read(segment)
            segment.done = True
        except Exception as error:  # whatever it is, it is the reader's
            self._failed(segment, error)

    async def _read(self, segment: _Segment) -> None:
        began, first = time.monotonic(), True
        async with aclosing(self.blob.stream(segment.at, segment.stop)) as pieces:
            async for piece in pieces:
                if first:
                    self.lanes.latency, first = min(1.0, time.monotonic() - began), False
                data = await asyncio.to_thread(piece.read) if isinstance(piece, FileSpan) else piece
                segment.at += len(data)
                segment.pieces.append(data)
                if segment is self.ahead[0]:
                    self.news.set()
                self._count(len(data))
        if segment.at < segment.stop:
            raise Damaged("a stream ended before all its bytes were there")

    def _failed(self, segment: _Segment, error: Exception) -> None:
        if not isinstance(error, Failure) or not error.again or segment.again:
            segment.failure, self.stop = error, self.at
            return
        segment.again = True
        self.spoilt.append(segment)
        if len(self.tasks) + self.alone > 1:  # else it is not the number of lanes that is refused
            self._refused(segment)

    def _refused(self, segment: _Segment) -> None:
        """Half as many lanes; fewer, where more than half of those that began together were refused."""
        if segment.wide >= self.want:
            self.burst, self.refused = segment.wide, 1
            self._narrow(self.want // 2)
        elif segment.wide == self.burst:
            self.refused += 1
            self._narrow(min(self.want, self.burst - self.refused))

    def _narrow(self, want: int) -> None:
        self.want, self.before = max(1, want), None
        self.lanes.learn(self.want, enough=True)
        if self.want == 1:
            self.stop = self.at  # the rest comes over one plain connection

    # ── does it pay? ──

    def _measure(self) -> None:
        """A new window, which begins when those that were just begun can have given something."""
        self.since, self.arrived, self.waited = time.monotonic() + self.lanes.latency, 0, 0.0

    def _count(self, length: int) -> None:
        took = time.monotonic() - self.since
        if took > 0 and not self.alone and self.at < self.stop:  # at the end there is not work for all
            self.arrived += length
            if took >= WINDOW and (self.arrived >= SMALL or took >= 2):
                self._weigh(self.arrived / took, self.waited + self._waiting() > took / 2)

    def _weigh(self, rate: float, starved: bool) -> None:
        """Was the last doubling worth it; is there to be another? Not where the reader has enough."""
        share, before, self.before = self.lanes.share(), self.before, None
        self.lanes.pace = rate / min(self.want, share)
        if self.want > share:
            self.want = share  # others came, and nothing can be told from this window
        elif before is not None and starved:
            self._judge(rate >= GAIN * before)
        if starved and self.want < share and self.lanes.open_to_more():
            self.want, self.before = min(2 * self.want, share), rate
        self._measure()
        self._fill()

    def _judge(self, pays: bool) -> None:
        if pays:
            self.lanes.learn(self.want, enough=False)
        else:
            self._narrow(self.want // 2)
