"""Several connections for one run of bytes: the same bytes in order, no more lanes than pay, none left over."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from playhead import Ask, Blob, Busy, Changed, Damaged, Failure, Piece, Unavailable
from playhead.blob import FileSpan, Pieces, literal
from playhead.origins.memory import MemoryTree
from playhead.origins.web import WebTree
from playhead.transforms import segments
from playhead.transforms.retry import Patience, retried
from playhead.transforms.segments import Lanes, Segmented, segmented
from tests.fakes.origin import Fault, Origin, each, instead, rst, settled, status
from tests.laws import check_blob, check_tree, collected, taken

DATA = random.Random(5).randbytes(400_000)
OTHER = random.Random(6).randbytes(400_000)
FILES = {"f": DATA, "folder/g": DATA[:50_001], "folder/inner/h": b"h", "empty": b""}
NEW = '"another"'


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """All sizes by 128, all times by 10."""
    for name, value in {"LONG": 16 << 10, "SMALL": 4 << 10, "LARGE": 16 << 10, "BLOCK": 512}.items():
        monkeypatch.setattr(segments, name, value)
    for name, seconds in {"PROBE": 0.025, "WINDOW": 0.03}.items():
        monkeypatch.setattr(segments, name, seconds)


@dataclass
class Seen:
    """What was asked of a blob: each range, and how many streams were open at once."""

    ranges: list[tuple[int, int]] = field(default_factory=list)
    open: int = 0
    most: int = 0

    @contextmanager
    def one(self, start: int, stop: int) -> Iterator[None]:
        self.ranges.append((start, stop))
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            yield
        finally:
            self.open -= 1


@dataclass(frozen=True, slots=True, eq=False)
class Paced(Blob):
    """Gives `rate` bytes a second to each stream, or to all together; `fail` may refuse a stream, or a byte of it."""

    data: bytes
    rate: float
    seen: Seen
    fail: Callable[[int, int], None] = lambda start, at: None
    together: bool = False

    async def stream(self, start: int, stop: int) -> Pieces:
        with self.seen.one(start, stop):
            for at in range(start, stop, 2048):
                piece = self.data[at : min(stop, at + 2048)]
                self.fail(start, at)
                await asyncio.sleep(len(piece) / self.rate * (self.seen.open if self.together else 1))
                yield piece


def paced(rate: float = 4e5, tag: str | None = "t", **how: object) -> Paced:
    return Paced(len(DATA), tag, DATA, rate, Seen(), **how)  # type: ignore[arg-type]


def knowing(pays: int, most: int = 16) -> Lanes:
    lanes = Lanes(most)
    lanes.learn(pays, enough=False)
    lanes.latency = 0.01
    return lanes


def busy(*turns: int) -> Callable[[int, int], None]:
    """Refuses these streams, counted from 0 in the order in which they begin."""
    begun = iter(range(10_000))

    def fail(start: int, at: int) -> None:
        if start == at and next(begun) in turns:
            raise Busy("too many")

    return fail


async def got(stream: AsyncIterator[Piece]) -> tuple[bytes, Failure | None]:
    """What a stream gave, and how it failed, if it did."""
    data = b""
    try:
        async with aclosing(stream) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                data += taken(piece)
    except Failure as failure:
        return data, failure
    return data, None


@asynccontextmanager
async def serving(pays: int = 4, **how: object) -> AsyncIterator[tuple[Origin, Segmented]]:
    """An origin and a tree that reads it over lanes; no connection and no task may be left behind."""
    async with asyncio.timeout(20):
        async with Origin(FILES, **how) as origin:  # type: ignore[arg-type]
            tree = Segmented(WebTree(origin.url), knowing(pays))
            try:
                yield origin, tree
            finally:
                await tree.aclose()
            await settled(lambda: not origin.links)
        await settled(lambda: asyncio.all_tasks() == {asyncio.current_task()})


# ── the law ──


@pytest.mark.parametrize("pays", [1, 2, 16])
async def test_a_tree_stays_what_it_is(pays: int) -> None:
    await check_tree(Segmented(MemoryTree(FILES), knowing(pays)), FILES)
    async with serving(pays) as (_, tree):
        await check_tree(tree, FILES)
        assert tree.lanes.streams == 0


async def test_a_slow_blob_stays_what_it_is() -> None:
    blob = paced(4e6)
    await check_blob(Lanes().over(blob), DATA)
    assert blob.seen.open == 0


async def test_file_spans_are_read_before_their_streams_go_on(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(DATA)

    @dataclass(frozen=True, slots=True, eq=False)
    class Spans(Blob):
        async def stream(self, start: int, stop: int) -> Pieces:
            with (tmp_path / "f").open("rb") as file:
                for at in range(start, stop, 3000):
                    await asyncio.sleep(0.0005)
                    yield FileSpan(file, at, min(stop, at + 3000) - at)

    await check_blob(knowing(4).over(Spans(len(DATA), "t")), DATA, rounds=4)
    assert await collected(Lanes().over(Spans(len(DATA), "t")).stream(0, len(DATA))) == DATA


# ── one connection, where that is enough ──


async def test_what_is_short_or_untagged_passes_straight_through() -> None:
    lanes = knowing(8)
    assert lanes.over(untagged := paced(tag=None)) is untagged
    assert lanes.over(short := literal(b"short")) is short
    blob = paced()
    assert await collected(lanes.over(blob).stream(5, 16_000)) == DATA[5:16_000]
    assert blob.seen.ranges == [(5, 16_000)]


async def test_a_fast_origin_is_read_over_one_connection_and_pieces_are_not_touched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(segments, "FAST", 1e5)
    blob, given = paced(1e9), list[Piece]()

    @dataclass(frozen=True, slots=True, eq=False)
    class Fast(Blob):
        async def stream(self, start: int, stop: int) -> Pieces:
            async with aclosing(blob.stream(start, stop)) as pieces:
                async for piece in pieces:
                    given.append(piece)
                    yield piece

    over = Lanes().over(Fast(blob.size, "t"))
    pieces = [piece async for piece in over.stream(0, blob.size)]
    assert len(pieces) == len(given) and all(a is b for a, b in zip(pieces, given, strict=True))
    assert blob.seen.ranges == [(0, blob.size)]


async def test_a_slow_reader_gets_one_connection() -> None:
    blob = paced(4e6)
    async with aclosing(Lanes().over(blob).stream(0, 100_000)) as stream:
        async for _ in stream:
            await asyncio.sleep(0.003)
    assert blob.seen.ranges == [(0, 100_000)]


async def test_what_is_here_is_given_and_size_tag_and_date_are_kept() -> None:
    async with serving() as (_, tree):
        web = await tree.tree.open("f", Ask(0, 0))
        blob = await tree.open("f", Ask(0, 0))
        assert (blob.size, blob.tag, blob.modified) == (web.size, web.tag, web.modified)
        assert blob.here(0, 10) is None
    memory = await segmented(MemoryTree(FILES)).open("f")
    assert [taken(piece) for piece in memory.here(5, 10) or []] == [DATA[5:10]]


async def test_the_answer_that_a_file_was_opened_with_is_used() -> None:
    async with serving(1) as (origin, tree):
        blob = await tree.open("f", Ask(1000, 300_000))
        assert await collected(blob.stream(1000, 300_000)) == DATA[1000:300_000]
        assert len(origin.of("f")) == 1


# ── more lanes while they pay ──


async def test_lanes_double_while_it_pays_and_the_next_stream_begins_with_them() -> None:
    blob, lanes = paced(1.5e5), Lanes(8)
    over = lanes.over(blob)
    assert await collected(over.stream(0, blob.size)) == DATA
    assert 4 <= blob.seen.most <= 8
    assert lanes.pays >= 4
    blob.seen.ranges.clear()
    blob.seen.most = 0
    assert await collected(over.stream(0, blob.size)) == DATA
    assert blob.seen.most >= lanes.pays // 2
    assert blob.seen.ranges[0][0] == 0 and blob.seen.ranges[0][1] <= 16 << 10


async def test_lanes_that_bring_nothing_are_given_up_for_a_while() -> None:
    blob, lanes = paced(4e5, together=True), Lanes()
    assert await collected(lanes.over(blob).stream(0, 150_000)) == DATA[:150_000]
    assert blob.seen.most <= 4
    assert lanes.pays <= 2
    assert not lanes.open_to_more()
    lanes.pays, blob.seen.most = 1, 0
    assert await collected(lanes.over(blob).stream(0, 30_000)) == DATA[:30_000]
    assert blob.seen.most == 1


async def test_knowledge_grows_old(monkeypatch: pytest.MonkeyPatch) -> None:
    lanes = knowing(8)
    assert lanes.known() == 8
    monkeypatch.setattr(segments, "MEMORY", 0.0)
    assert lanes.known() == 1


async def test_all_streams_together_keep_the_cap() -> None:
    blob, lanes = paced(4e5), knowing(8, most=8)
    over = lanes.over(blob)
    many = await asyncio.gather(*(collected(over.stream(k * 50_000, k * 50_000 + 50_000)) for k in range(6)))
    assert many == [DATA[k * 50_000 : k * 50_000 + 50_000] for k in range(6)]
    assert blob.seen.most <= 8 + 5  # each has one, whatever the others have
    assert (lanes.open, lanes.streams, lanes.share()) == (0, 0, 8)
    lanes.streams = 5
    assert lanes.share() == 1 and not lanes.wanted()


async def test_a_reader_that_pauses_is_not_run_ahead_of() -> None:
    blob = paced(1e7)
    async with aclosing(knowing(4).over(blob).stream(0, blob.size)) as stream:
        await anext(stream)
        await asyncio.sleep(0.1)
        assert blob.seen.open == 0
        assert len(blob.seen.ranges) <= 4 + 2


# ── faults ──


@pytest.mark.parametrize("turns", [(2,), (1, 2), (5, 9), (3, 4, 5, 6, 7)])
async def test_a_refused_lane_is_made_up_for_by_the_others(turns: tuple[int, ...]) -> None:
    blob, lanes = paced(1e6, fail=busy(*turns)), knowing(8)
    assert await collected(lanes.over(blob).stream(0, blob.size)) == DATA
    assert lanes.pays <= 4
    assert not lanes.open_to_more()


async def test_an_origin_that_admits_four_gets_four() -> None:
    blob, lanes = paced(1e6), knowing(16)

    def fail(start: int, at: int) -> None:
        if start == at and blob.seen.open > 4:
            raise Busy("four, not more")

    blob = paced(1e6, fail=fail)
    assert await collected(lanes.over(blob).stream(0, blob.size)) == DATA
    assert lanes.pays <= 4


async def test_an_origin_that_admits_one_is_read_over_one() -> None:
    def fail(start: int, at: int) -> None:
        if start == at and blob.seen.open > 1:
            raise Busy("one, not more")

    blob = paced(4e5, fail=fail)
    lanes = Lanes()
    assert await collected(lanes.over(blob).stream(0, 200_000)) == DATA[:200_000]
    assert lanes.pays == 1
    assert len(blob.seen.ranges) <= 5


@pytest.mark.parametrize("kind", [Busy, Unavailable, Changed, Damaged])
@pytest.mark.parametrize("pays", [1, 8])
async def test_a_failure_comes_after_all_bytes_before_it(kind: Callable[[str], Failure], pays: int) -> None:
    broken = 2048 * 60

    def fail(start: int, at: int) -> None:
        if at <= broken < at + 2048:
            raise kind("here")

    blob = paced(1e6, fail=fail)
    data, failure = await got(knowing(pays).over(blob).stream(0, blob.size))
    assert failure and str(failure) == "here"
    assert data == DATA[: len(data)] and broken - 2048 < len(data) <= broken
    assert blob.seen.open == 0


async def test_a_dead_origin_fails_at_once() -> None:
    def fail(start: int, at: int) -> None:
        raise Unavailable("dead")

    blob, began = paced(fail=fail), time.monotonic()
    assert (await got(knowing(16).over(blob).stream(0, blob.size)))[0] == b""
    assert time.monotonic() - began < 1
    assert len(blob.seen.ranges) <= 32


async def test_a_stream_that_ends_early_is_an_error_and_not_the_end() -> None:
    @dataclass(frozen=True, slots=True, eq=False)
    class Short(Blob):
        async def stream(self, start: int, stop: int) -> Pieces:
            yield DATA[start : min(stop, 30_000)]

    for pays in (1, 4):
        data, failure = await got(knowing(pays).over(Short(len(DATA), "t")).stream(0, len(DATA)))
        assert data == DATA[:30_000] and isinstance(failure, Damaged)


@pytest.mark.parametrize("fault", [rst(1000), rst(-1), status(503), status(429)])
async def test_a_lane_that_breaks_off_goes_on_where_it_was(fault: Fault) -> None:
    async with serving() as (origin, tree):
        blob = await tree.open("f", Ask(0, 0))
        origin.script["f"] = [None, None, fault]
        assert await collected(blob.stream(0, blob.size)) == DATA


async def test_over_retries_an_origin_that_breaks_everything_off_is_whole() -> None:
    async with serving() as (origin, tree):
        tree.tree = retried(tree.tree, Patience(first=0.002))
        origin.always["f"] = rst(15_000)
        blob = await tree.open("f", Ask(0, 0))
        assert await collected(blob.stream(0, blob.size)) == DATA
        assert await collected(blob.stream(3, 100_000)) == DATA[3:100_000]


async def test_another_version_is_never_mixed_in() -> None:
    async with serving() as (origin, tree):
        blob = await tree.open("f", Ask(0, 0))
        origin.script["f"] = [None] * 9
        origin.always["f"] = instead(OTHER, ETag=NEW)
        data, failure = await got(blob.stream(0, blob.size))
        assert isinstance(failure, Changed)
        assert data == DATA[: len(data)] and data
        data, failure = await got(blob.stream(0, blob.size))
        assert isinstance(failure, Changed) and not data
        origin.always["f"] = each(instead(OTHER, ETag=NEW), rst(500))
        assert (await got(blob.stream(0, blob.size)))[0] == b""


# ── leaving ──


@pytest.mark.parametrize("after", [0, 1, 30, 80])
async def test_closing_ends_every_lane(after: int) -> None:
    blob, lanes = paced(4e5), Lanes()
    async with aclosing(lanes.over(blob).stream(0, blob.size)) as stream:
        for _ in range(after):
            await anext(stream)
    assert blob.seen.open == 0 and lanes.streams == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("pays", [1, 8])
async def test_cancelling_ends_every_connection(pays: int) -> None:
    async with serving(pays) as (origin, tree):
        blob = await tree.open("f", Ask(0, 0))
        origin.always["f"] = lambda answer, asked: setattr(answer, "rate", 500)  # byte by byte
        reading = asyncio.create_task(collected(blob.stream(0, blob.size)))
        await settled(lambda: origin.busy == pays)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert not any("_fetch" in repr(task) for task in asyncio.all_tasks())
        await settled(lambda: not origin.busy)
