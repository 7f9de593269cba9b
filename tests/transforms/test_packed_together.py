"""Small members that are read together with their neighbours: the same archive, and no worse when one is amiss."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import aclosing
from zlib import crc32

import pytest

from playhead import Ask, Blob, Changed, NotFound, Unavailable, literal
from playhead.transforms.ahead import TINY
from playhead.transforms.packed import TOGETHER, Archive
from playhead.transforms.plan import Member
from tests.archives import LAYOUTS, Bundle, Item, got, mixed
from tests.laws import check_blob, collected

CHANCE = random.Random(6)
SMALL = [(Member(f"노래/{at}.lrc"), CHANCE.randbytes(100 + at)) for at in range(3000)]
BETWEEN = [*SMALL[:50], (Member("large"), CHANCE.randbytes(400_000)), *SMALL[50:90], (Member("f", folder=True), b"")]


class Gathering:
    """A bundle whose small members can be read together; what is asked of it is written down."""

    def __init__(self, items: list[Item], layout: str = "tar", tag: str | None = "v1") -> None:
        self.bundle, self.tag = Bundle(items, layout), tag
        self.gathered, self.opened = list[list[int]](), list[int]()
        self.instead: dict[int, tuple[bytes, str | None]] = {}
        self.failing: dict[int, Exception | None] = {}  # None: they are to be opened one by one

    def _one(self, number: int) -> tuple[bytes, str | None]:
        return self.instead.get(number, (self.bundle.data[number], self.tag))

    def gather(self, numbers: Sequence[int]) -> Sequence[tuple[bytes, str | None]] | None:
        self.gathered.append(list(numbers))
        for number in self.failing.keys() & set(numbers):
            if (failure := self.failing[number]) is None:
                return None
            raise failure
        return [self._one(number) for number in numbers]

    async def open(self, number: int, ask: Ask) -> Blob:
        self.opened.append(number)
        if failure := self.failing.get(number):
            raise failure
        return literal(*self._one(number))

    def archive(self) -> Archive:
        return self.bundle.archive(self.open, gather=self.gather)


async def right(items: list[Item], layout: str = "tar") -> bytes:
    return await Bundle(items, layout).archive().read()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("items", [SMALL, BETWEEN, mixed()], ids=["small", "between", "mixed"])
async def test_an_archive_is_its_bytes(layout: str, items: list[Item]) -> None:
    await check_blob(Gathering(items, layout).archive(), await right(items, layout), rounds=8)


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_small_members_are_read_together_and_once(layout: str) -> None:
    members = Gathering(SMALL, layout)
    archive = members.archive()
    assert await collected(archive.stream(0, archive.size)) == await right(SMALL, layout)
    assert members.opened == []
    assert [number for run in members.gathered for number in run] == list(range(len(SMALL)))
    sizes = [archive.layout.begins[run[-1] + 1] - archive.layout.begins[run[0]] for run in members.gathered]
    assert max(sizes) <= 4 * TOGETHER and len(members.gathered) < 20


async def test_only_what_is_wholly_asked_for_is_read_together() -> None:
    members = Gathering(SMALL)
    archive = members.archive()
    start, stop = archive.layout.begins[1000] + 700, archive.layout.begins[1050] + 700
    assert await archive.read(start, stop) == (await right(SMALL))[start:stop]
    assert members.gathered == [list(range(1001, 1050))]
    start -= 700
    assert await archive.read(start, stop) == (await right(SMALL))[start:stop]
    assert members.gathered[1:] == [list(range(1000, 1050))]


async def test_large_members_and_too_few_small_ones_are_opened() -> None:
    items = [*SMALL[:3], (Member("large"), bytes(TINY + 1)), *SMALL[3:6], (Member("l"), bytes(TINY + 1))]
    members = Gathering(items)
    archive = members.archive()
    assert await collected(archive.stream(0, archive.size)) == await right(items)
    assert members.gathered == [] and members.opened == list(range(8))


async def test_empty_ones_are_not_asked_for() -> None:
    items = [(Member(f"{at}", folder=at % 3 == 0), b"x" * (at % 2) * (at % 3)) for at in range(60)]
    members = Gathering(items, "zip")
    archive = members.archive()
    assert await collected(archive.stream(0, archive.size)) == await right(items, "zip")
    asked = {number for run in members.gathered for number in run} | set(members.opened)
    assert asked == {at for at, (_, data) in enumerate(items) if data}


async def test_their_crcs_and_tags_are_learned() -> None:
    members = Gathering(SMALL, "zip")
    archive = members.archive()
    await collected(archive.stream(0, archive.layout.begins[-1]))
    assert archive.learned.crcs == {at: crc32(data) for at, (_, data) in enumerate(SMALL)}
    assert archive.learned.pins == dict.fromkeys(range(len(SMALL)), "v1")
    members.gathered.clear()
    assert await archive.read(archive.layout.begins[-1]) == (await right(SMALL, "zip"))[archive.layout.begins[-1] :]
    assert members.gathered == [] and members.opened == []


@pytest.mark.parametrize("layout", ["tar", "zip"])
async def test_those_that_cannot_be_read_together_are_opened_one_by_one(layout: str) -> None:
    members = Gathering(BETWEEN, layout)
    members.failing = {3: None, 60: None}
    archive = members.archive()
    assert await collected(archive.stream(0, archive.size)) == await right(BETWEEN, layout)
    assert len(members.opened) == len(set(members.opened)) and set(range(50)) <= set(members.opened)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("other", [(b"", "v1"), (SMALL[5][1] + b"x", "v1"), (SMALL[5][1], "v2"), (SMALL[5][1], None)])
async def test_another_member_is_changed_and_nothing_of_it_is_given(
    layout: str, other: tuple[bytes, str | None]
) -> None:
    members = Gathering(SMALL[:20], layout)
    archive = members.archive()
    archive.learned.pins[5] = "v1"
    members.instead[5] = other
    data, failure = await got(archive.stream(0, archive.size))
    assert isinstance(failure, Changed) and archive.plan.names[5] in str(failure)
    assert data == (await right(SMALL[:20], layout))[: len(data)]
    assert len(data) <= archive.layout.begins[5] + len(archive.layout.head(5))
    assert 5 not in archive.learned.crcs


@pytest.mark.parametrize("kind", [Unavailable, NotFound])
@pytest.mark.parametrize("layout", ["tar", "zip"])
async def test_a_failure_comes_after_right_bytes_and_the_rest_comes_later(layout: str, kind: type[Exception]) -> None:
    members = Gathering(SMALL, layout)
    archive, whole = members.archive(), await right(SMALL, layout)
    members.failing[2500] = kind("away")
    data, failure = await got(archive.stream(0, archive.size))
    assert isinstance(failure, kind) and data == whole[: len(data)]
    begin = archive.layout.begins[2500]
    assert begin + len(archive.layout.head(2500)) >= len(data) >= begin - 8 * TOGETHER
    members.failing.clear()
    assert data + await collected(archive.stream(len(data), archive.size)) == whole


async def test_what_came_before_a_failure_is_not_withheld() -> None:
    members = Gathering(SMALL[:20])
    members.failing[5] = Unavailable("away")
    archive = members.archive()
    data, _ = await got(archive.stream(0, archive.size))
    assert len(data) >= archive.layout.begins[5]


async def test_no_more_are_read_while_the_reader_stands_still() -> None:
    members = Gathering(SMALL)
    archive = members.archive()
    async with aclosing(archive.stream(0, archive.size)) as stream:
        await anext(stream)
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert len(members.gathered) <= 2 and members.opened == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_small_members_after_a_large_one_are_read_together_too() -> None:
    items = [(Member("large"), bytes(400_000)), *SMALL]
    members = Gathering(items)
    archive = members.archive()
    assert await collected(archive.stream(0, archive.size)) == await right(items)
    assert len(members.opened) < 200
