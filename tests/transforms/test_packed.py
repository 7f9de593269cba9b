"""An archive as a blob: what it opens, how far ahead, and what becomes of members that fail or change."""

import asyncio
import gc
import random
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

import pytest

from playhead import Ask, Blob, Changed, Failure, Unavailable, literal
from playhead.blob import Pieces
from playhead.respond import wire_tag
from playhead.transforms import ahead, packed
from playhead.transforms.ahead import MANY
from playhead.transforms.contents import WIRE
from playhead.transforms.packed import Archive
from playhead.transforms.plan import FOLDER, Member
from playhead.tree import Why
from tests.archives import KIB, LAYOUTS, Bundle, Item, Watched, got, mixed
from tests.laws import check_blob, collected, taken

CHANCE = random.Random(3)
SMALL = [(Member(f"노래/{at}.lrc"), CHANCE.randbytes(1000 + at)) for at in range(40)]
LARGE = [(Member(f"f/{at}.flac"), CHANCE.randbytes(300_000)) for at in range(4)]
ALL = [*SMALL[:3], *LARGE[:2], (Member("empty"), b""), (Member("folder", folder=True), b""), *SMALL[3:6], *LARGE[2:]]


def watched(
    items: list[Item], layout: str = "tar", step: int = 5000, tag: str | None = "v1"
) -> tuple[Watched, Archive]:
    members = Watched(Bundle(items, layout), step, tag)
    return members, members.bundle.archive(members.open)


async def right(items: list[Item], layout: str = "tar") -> bytes:
    return await Bundle(tagged(items, ""), layout).archive().read()


def tagged(items: list[Item], tag: str) -> list[Item]:
    return [(replace(member, tag=tag), data) for member, data in items]


def data_of(archive: Archive, number: int) -> int:
    """Where the bytes of a member begin."""
    return archive.layout.begins[number] + len(archive.layout.head(number))


def within(archive: Archive, start: int, stop: int) -> set[int]:
    """The members that have bytes in [start, stop)."""
    sizes = archive.plan.sizes
    places = [(data_of(archive, number), size) for number, size in enumerate(sizes)]
    return {number for number, (at, size) in enumerate(places) if size and at < stop and at + size > start}


async def idle() -> None:
    """Until nothing more happens by itself."""
    for _ in range(300):
        await asyncio.sleep(0)


@pytest.fixture
def unbuffered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece leaves at once, as it came."""
    monkeypatch.setattr(packed, "TOGETHER", 1)


# ── the law ──


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_an_archive_is_its_bytes(layout: str) -> None:
    members, archive = watched(ALL, layout)
    await check_blob(archive, await right(ALL, layout))
    assert members.open_now == 0


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_every_cut_of_a_small_archive_is_right(layout: str, unbuffered: None) -> None:
    items = [(Member("a"), b"abc"), (Member("노"), b""), (Member("f", folder=True), b""), (Member("b"), b"defgh")]
    _, archive = watched(items, layout, 2)
    whole = await right(items, layout)
    stop = min(archive.size, 4000)
    borders = sorted({*range(0, stop, 97), *_borders(archive), *range(max(0, archive.size - 200), archive.size, 13)})
    for start in borders:
        for end in borders:
            if start <= end:
                assert await archive.read(start, end) == whole[start:end]


def _borders(archive: Archive) -> set[int]:
    """The bytes at which something begins or ends, and those beside them."""
    ends = set(archive.layout.begins)
    for number, size in enumerate(archive.plan.sizes):
        ends |= {data_of(archive, number), data_of(archive, number) + size}
    return {min(archive.size, max(0, end + by)) for end in ends for by in (-1, 0, 1)} | {archive.size}


# ── what is opened ──


@pytest.mark.parametrize("layout", ["tar", "zip crc", "zip"])
async def test_nothing_is_opened_before_the_first_bytes_of_a_member_are_asked_for(layout: str) -> None:
    members, archive = watched([(Member(f"{at}"), b"x" * 1000) for at in range(10_000)], layout)
    assert archive.size > 10_000_000 and archive.tag
    await archive.read(0, data_of(archive, 0))
    await archive.read(archive.size - 20)
    async with aclosing(archive.stream(0, archive.size)):
        await idle()
    assert members.opened == []


@pytest.mark.parametrize("layout", ["tar", "zip crc", "zip"])
async def test_a_range_in_the_middle_opens_only_the_members_in_it(layout: str) -> None:
    items = [(Member(f"{at}"), bytes([at % 251]) * 1000) for at in range(10_000)]
    members, archive = watched(items, layout)
    middle = archive.size // 2
    for start in (middle, middle + 500, data_of(archive, 5000), archive.layout.begins[5000]):
        members.opened.clear()
        data = await archive.read(start, start + 64 * KIB)
        assert set(members.opened) == within(archive, start, start + 64 * KIB)
        assert len(members.opened) <= len(set(members.opened)) + 1  # the first once more, for its CRC
        assert b"".join(items[5010][1:]) in data


@pytest.mark.parametrize("layout", ["zip crc", "tar"])
async def test_the_end_of_an_archive_opens_nothing(layout: str) -> None:
    members, archive = watched(ALL, layout)
    assert len(await archive.read(archive.layout.begins[-1])) == archive.size - archive.layout.begins[-1]
    assert members.opened == []


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_an_empty_range_opens_nothing(layout: str) -> None:
    members, archive = watched(ALL, layout)
    for at in sorted(_borders(archive)):
        assert await collected(archive.stream(at, at)) == b""
    assert members.opened == []


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_each_member_is_opened_once_and_for_what_is_wanted_of_it(layout: str) -> None:
    members, archive = watched(ALL, layout)
    await collected(archive.stream(0, archive.size))
    full = [number for number, size in enumerate(archive.plan.sizes) if size]
    assert members.opened == full
    assert members.asks == [Ask(0, None, Why.BULK)] * len(full)
    members.asks.clear()
    at = data_of(archive, 3)
    await archive.read(at + 10, at + 20)
    assert members.asks == [Ask(10, 20, Why.BULK)]


# ── ahead ──


async def test_members_are_opened_ahead_but_not_too_many(unbuffered: None) -> None:
    members, archive = watched([(Member(f"{at}"), b"x") for at in range(500)])
    begun = most = 0
    async for piece in archive.stream(0, archive.size):
        begun += len(piece) == 1
        await idle() if begun < 5 else await asyncio.sleep(0)
        most = max(most, len(members.opened) - begun)
    assert MANY // 2 < most <= MANY + 1  # and the one whose turn it is
    assert members.most > 1


async def test_members_are_read_ahead_but_not_too_much(unbuffered: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "BUDGET", 1_000_000)
    members, archive = watched([(Member(f"{at}"), bytes(100_000)) for at in range(50)])
    passed = most = 0
    async for piece in archive.stream(0, archive.size):
        passed += len(piece)
        await idle()
        most = max(most, 100_000 * len(members.reads) - passed)
    assert 500_000 < most <= 1_000_000 + ahead.SMALL


async def test_the_next_large_member_is_opened_ahead_but_not_read(unbuffered: None) -> None:
    members, archive = watched(LARGE)
    async with aclosing(archive.stream(0, archive.size)) as stream:
        for _ in range(3):
            await anext(stream)
        await idle()
        assert members.opened == [0, 1]
        assert [number for number, _, _ in members.reads] == [0]


@pytest.mark.parametrize("layout", ["tar", "zip"])
async def test_none_is_opened_while_the_reader_stands_still(layout: str) -> None:
    members, archive = watched([(Member(f"{at}"), bytes(2000)) for at in range(2000)], layout)
    async with aclosing(archive.stream(0, archive.size)) as stream:
        first = await anext(stream)
        await idle()
        opened = len(members.opened)
        await idle()
        assert len(members.opened) == opened <= len(first) // 2000 + MANY + 1
        assert members.open_now == 0


@pytest.mark.parametrize("after", [0, 1, 2, 5, 20])
@pytest.mark.parametrize("layout", ["tar", "zip"])
async def test_closing_early_ends_everything(layout: str, after: int, unbuffered: None) -> None:
    members, archive = watched(ALL, layout, 500)
    async with aclosing(archive.stream(0, archive.size)) as stream:
        for _ in range(after):
            await anext(stream)
    assert members.open_now == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("items", [SMALL, LARGE])
async def test_leaving_while_a_member_is_waited_for_ends_everything(items: list[Item]) -> None:
    members, archive = watched(items)
    members.gate.clear()
    reading = asyncio.create_task(collected(archive.stream(0, archive.size)))
    await idle()
    assert members.open_now
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert members.open_now == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


# ── pieces ──


async def test_small_pieces_leave_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "SOON", 1e9)
    _, archive = watched([(Member(f"{at}"), b"x") for at in range(2000)])
    pieces = [len(piece) async for piece in archive.stream(0, archive.size)]
    assert len(pieces) <= archive.size // packed.TOGETHER + 1


async def test_what_is_there_does_not_wait_for_the_next_member() -> None:
    """It waits a moment for others (SOON), but not for as long as an origin may take."""
    members, archive = watched([(Member("a"), b"a" * 1000), (Member("b"), bytes(400_000))])
    members.gate.clear()
    members.instead[0] = literal(b"a" * 1000, "v1")
    async with aclosing(archive.stream(0, archive.size)) as stream:
        async with asyncio.timeout(3):
            first = taken(await anext(stream))
        assert first == (await right([(Member("a"), b"a" * 1000), (Member("b"), bytes(400_000))]))[: len(first)]
        members.gate.set()


async def test_a_failure_that_comes_when_nobody_waits_is_no_complaint(caplog: pytest.LogCaptureFixture) -> None:
    members, archive = watched([(Member("a"), b"a" * 1000), (Member("b"), bytes(400_000))])
    members.gate.clear()
    members.instead[0] = literal(b"a" * 1000, "v1")
    members.broken[1] = 0
    async with aclosing(archive.stream(0, archive.size)) as stream:
        await anext(stream)
        members.gate.set()
        await idle()
    gc.collect()
    await idle()
    assert not caplog.records


@pytest.mark.torture
async def test_memory_stays_flat_over_a_hundred_thousand_members() -> None:
    archive = Bundle([(Member(f"{at}"), b"x" * 50) for at in range(100_000)], "zip crc").archive(_one)
    passed, blocks = 0, list[int]()
    async for piece in archive.stream(0, archive.layout.begins[-1]):
        passed += len(piece)
        if passed * 10 > archive.size * (len(blocks) + 1):
            gc.collect()
            blocks.append(sys.getallocatedblocks())
    assert max(blocks[1:]) - blocks[1] < 5_000


async def _one(number: int, ask: Ask) -> Blob:
    return literal(b"x" * 50, None)


async def test_memory_holds_no_more_than_is_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "BUDGET", 1 << 20)
    members, archive = watched([(Member(f"{at}"), bytes(10_000)) for at in range(3000)], "zip crc")
    members.bundle.data[:] = [bytes(10_000)] * 3000
    tracemalloc.start()
    try:
        async for _ in archive.stream(0, archive.size):
            members.opened.clear()
            members.reads.clear()
            members.asks.clear()
        assert tracemalloc.get_traced_memory()[1] < 6 << 20
    finally:
        tracemalloc.stop()


# ── members that are not what they were ──

OTHERS: dict[str, Callable[[bytes], Blob]] = {
    "shorter": lambda data: literal(data[:-300], "v1"),
    "longer": lambda data: literal(data + bytes(300), "v1"),
    "empty": lambda data: literal(b"", "v1"),
    "another version": lambda data: literal(data[::-1], "v2"),
    "untagged": lambda data: literal(data, None),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("items", [SMALL[:6], LARGE], ids=["small", "large"])
@pytest.mark.parametrize("layout", ["tar", "zip crc", "zip"])
async def test_another_member_is_changed_and_nothing_of_it_is_given(layout: str, items: list[Item], other: str) -> None:
    items = tagged(items, "v1")
    members, archive = watched(items, layout)
    members.instead[2] = OTHERS[other](items[2][1])
    whole = await right(items, layout)
    data, failure = await got(archive.stream(0, archive.size))
    assert isinstance(failure, Changed) and archive.plan.names[2] in str(failure)
    assert data == whole[: len(data)] and len(data) <= data_of(archive, 2)
    begin = data_of(archive, 2) + 5
    data, failure = await got(archive.stream(begin, archive.size))
    assert isinstance(failure, Changed) and data == b""
    assert await archive.read(data_of(archive, 3)) == whole[data_of(archive, 3) :] if layout != "zip" else True


async def test_an_archive_is_never_misaligned_by_a_member_of_another_size() -> None:
    """System 3: of three members of which one was 300 bytes short or long, tar listed one, without an error."""
    for by in (-300, 300):
        members, archive = watched(items := SMALL[:3])
        members.instead[0] = literal((items[0][1] + bytes(300))[: len(items[0][1]) + by], "v1")
        data, failure = await got(archive.stream(0, archive.size))
        assert isinstance(failure, Changed)
        assert data == (await right(items))[: len(data)] and len(data) <= data_of(archive, 0)


async def test_a_tag_that_was_learned_is_demanded_later() -> None:
    members, archive = watched(ALL, tag="v1")
    assert not archive.learned.pins
    begin, end = data_of(archive, 0), archive.layout.begins[1]
    await archive.read(begin, begin + 1)
    assert archive.learned.pins == {0: "v1"}
    members.tag = "v2"
    again = members.bundle.archive(members.open, archive.learned)
    for other in (archive, again):
        data, failure = await got(other.stream(begin + 1, end))
        assert isinstance(failure, Changed) and data == b""
    assert archive.learned.pins == {0: "v1"}
    members.tag = "v1"
    assert await archive.read() == await right(ALL)
    assert set(archive.learned.pins.values()) == {"v1"}


async def test_what_has_no_tag_pins_none() -> None:
    members, archive = watched(SMALL, tag=None)
    whole = await right(SMALL)
    assert await archive.read() == whole
    assert not archive.learned.pins
    members.tag = "v1"
    assert await archive.read() == whole
    assert len(archive.learned.pins) == len(SMALL)


async def test_a_tag_in_the_plan_needs_no_pin() -> None:
    _, archive = watched(tagged(SMALL, "v1"), tag="v1")
    await archive.read()
    assert not archive.learned.pins


async def test_a_tag_may_be_given_as_http_shows_it() -> None:
    members, archive = watched(items := tagged(SMALL, WIRE + wire_tag("v1")), tag="v1")
    assert await archive.read() == await right(items)
    for other in ("v2", None):
        members.tag = other
        assert isinstance((await got(archive.stream(0, archive.size)))[1], Changed)


# ── members that fail ──


@pytest.mark.parametrize("broken", [-1, 0, 1, 700, 999])
@pytest.mark.parametrize("items", [SMALL[:6], LARGE], ids=["small", "large"])
@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_failure_comes_after_right_bytes_and_the_rest_comes_later(
    layout: str, items: list[Item], broken: int
) -> None:
    members, archive = watched(items, layout, 600)
    whole = await right(items, layout)
    members.broken[2] = broken
    data, failure = await got(archive.stream(0, archive.size))
    assert isinstance(failure, Unavailable) and str(failure) in ("broken", "away")
    assert data == whole[: len(data)] and len(data) <= data_of(archive, 2) + max(0, broken)
    assert members.open_now == 0
    del members.broken[2]
    rest, failure = await got(archive.stream(len(data), archive.size))
    assert failure is None and data + rest == whole


@pytest.mark.parametrize("broken", [-1, 0, 700])
@pytest.mark.parametrize("items", [SMALL[:6], LARGE], ids=["small", "large"])
@pytest.mark.parametrize("part", ["bytes", "crc"])
async def test_a_failure_names_its_member_in_a_note(part: str, items: list[Item], broken: int) -> None:
    members, archive = watched(items, "zip", 600)
    members.broken[2] = broken
    start = 0 if part == "bytes" else archive.layout.begins[-1]
    _, failure = await got(archive.stream(start, archive.size))
    assert failure and archive.plan.names[2] in "\n".join(getattr(failure, "__notes__", []))


@pytest.mark.parametrize("items", [SMALL[:6], LARGE], ids=["small", "large"])
async def test_what_came_before_a_failure_is_not_withheld(items: list[Item]) -> None:
    members, archive = watched(items)
    members.broken[2] = 700
    data, _ = await got(archive.stream(0, archive.size))
    assert len(data) >= archive.layout.begins[2]


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_cut_at_every_interesting_byte_is_made_up_for(
    layout: str, unbuffered: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "SMALL", 0)
    items = [(Member("a"), CHANCE.randbytes(513)), (Member("노"), b"1"), (Member("c"), CHANCE.randbytes(1024))]
    members, archive = watched(items, layout, 100)
    whole = await right(items, layout)
    for number, (_, data) in enumerate(items):
        for at in sorted({0, 1, 99, 100, 101, 511, 512, len(data) - 2, len(data) - 1} & set(range(len(data)))):
            members.broken = {number: at}
            first, failure = await got(members.bundle.archive(members.open).stream(0, archive.size))
            assert isinstance(failure, Unavailable)
            begin = data_of(archive, number)
            assert first == whole[: begin + at] or (at == 0 and first == whole[: archive.layout.begins[number]])
            members.broken.clear()
            rest, failure = await got(members.bundle.archive(members.open).stream(len(first), archive.size))
            assert failure is None and first + rest == whole


async def test_a_reader_that_leaves_anywhere_finds_the_rest_later() -> None:
    items = mixed(300_000)
    for layout in LAYOUTS:
        whole = await right(items, layout)
        for at in random.Random(1).sample(range(len(whole)), 12):
            first = await collected(Bundle(items, layout).archive().stream(0, at))
            rest = await collected(Bundle(items, layout).archive().stream(at, len(whole)))
            assert first + rest == whole


async def test_a_member_that_fails_ahead_fails_in_its_turn() -> None:
    members, archive = watched(LARGE)
    members.broken[3] = -1
    data, failure = await got(archive.stream(0, archive.size))
    assert failure and len(data) > archive.layout.begins[2]
    data, failure = await got(archive.stream(0, archive.layout.begins[3]))
    assert failure is None and len(data) == archive.layout.begins[3]


# ── members that break the law ──


@pytest.mark.parametrize("items", [SMALL[:6], LARGE], ids=["small", "large"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("by", [-300, 300])
async def test_a_stream_that_is_short_or_long_is_an_error_and_misaligns_nothing(
    by: int, layout: str, items: list[Item]
) -> None:
    """System 3: the rest of the archive followed at the wrong place, without an error."""
    members, archive = watched(items, layout)
    data = items[2][1]
    members.instead[2] = _Lying(len(data), "v1", (data + bytes(300))[: len(data) + by])
    found, failure = await got(archive.stream(0, archive.size))
    assert isinstance(failure, Failure)
    assert found == (await right(items, layout))[: len(found)]
    assert 2 not in archive.learned.crcs


async def test_a_crc_is_never_learned_from_a_stream_that_was_short() -> None:
    members, archive = watched(SMALL, "zip")
    members.instead[2] = _Lying(len(SMALL[2][1]), "v1", SMALL[2][1][:-1])
    _, failure = await got(archive.stream(archive.layout.begins[-1], archive.size))
    assert isinstance(failure, Failure)
    assert 2 not in archive.learned.crcs


@dataclass(frozen=True, slots=True, eq=False)
class _Lying(Blob):
    """It says one size and gives another."""

    data: bytes

    async def stream(self, start: int, stop: int) -> Pieces:
        yield self.data[start : stop if stop < self.size else None]


def test_folders_have_no_bytes_to_open() -> None:
    _, archive = watched(ALL)
    assert [archive.plan.sizes[at] for at, kind in enumerate(archive.plan.kinds) if kind == FOLDER] == [0]
