"""CRCs that nobody supplied: learned as bytes pass, asked of what keeps the file, or read for; once, and remembered."""

import asyncio
import random
from contextlib import aclosing
from pathlib import Path
from zlib import crc32

import pytest

from playhead import Changed, Failure, Unavailable, literal
from playhead.origins.local import LocalTree
from playhead.transforms.contents import READERS
from playhead.transforms.learned import Learned
from playhead.transforms.packed import Archive
from playhead.transforms.plan import Member
from playhead.transforms.zip import _Zip
from tests.archives import MIB, Bundle, Watched, got
from tests.fakes.origin import settled
from tests.laws import collected

CHANCE = random.Random(4)
ITEMS = [(Member(f"{at}.ogg"), CHANCE.randbytes(size)) for at, size in enumerate([1000, 300_000, 0, 5, 270_000, 700])]
RIGHT = {at: crc32(data) for at, (_, data) in enumerate(ITEMS) if data}


def watched(*, known: bool = False, step: int = 5000) -> tuple[Watched, Archive, list[int]]:
    """Members, an archive of them, and the numbers whose CRCs it learned, in that order."""
    members, learned = Watched(Bundle(ITEMS, "zip"), step, known=known), list[int]()
    return members, members.bundle.archive(members.open, Learned(_Heard(learned))), learned


class _Heard(dict[int, int]):
    """CRCs; the numbers of those that are put in are written down."""

    def __init__(self, numbers: list[int]) -> None:
        self.numbers = numbers

    def __setitem__(self, number: int, crc: int) -> None:
        super().__setitem__(number, crc)
        self.numbers.append(number)


def directory(archive: Archive, number: int = 0) -> int:
    """Where the entry of a member in the directory begins."""
    assert isinstance(archive.layout, _Zip)
    return archive.layout.begins[-1] + archive.layout.entries[number]


def tail(archive: Archive, number: int) -> int:
    """Where the data descriptor of a member begins."""
    return archive.layout.begins[number + 1] - (16 if archive.plan.sizes[number] else 0)


async def whole() -> bytes:
    return await Bundle(ITEMS, "zip").archive().read()


# ── learned as bytes pass ──


@pytest.mark.parametrize("step", [1, 5000, MIB])
async def test_they_are_learned_while_a_stream_passes(step: int) -> None:
    members, archive, learned = watched(step=max(step, 100))
    assert await collected(archive.stream(0, directory(archive))) == (await whole())[: directory(archive)]
    assert archive.learned.crcs == RIGHT and learned == [0, 1, 3, 4, 5]
    members.opened.clear()
    assert await archive.read(directory(archive)) == (await whole())[directory(archive) :]
    assert members.opened == [] and learned == [0, 1, 3, 4, 5]


async def test_streams_at_once_learn_each_once() -> None:
    _, archive, learned = watched()
    data = await asyncio.gather(*(collected(archive.stream(0, archive.size)) for _ in range(4)))
    assert set(data) == {await whole()} and sorted(learned) == list(RIGHT)


async def test_they_are_learned_while_files_pass(tmp_path: Path) -> None:
    for at, (_, data) in enumerate(ITEMS):
        (tmp_path / f"{at}").write_bytes(data)
    (tmp_path / "1").write_bytes(large := CHANCE.randbytes(3 * MIB + 5))
    items = [*ITEMS[:1], (ITEMS[1][0], large), *ITEMS[2:]]
    tree = LocalTree(tmp_path)
    archive = Bundle(items, "zip").archive(lambda number, ask: tree.open(f"{number}", ask))
    await collected(archive.stream(0, archive.layout.begins[-1]))
    assert archive.learned.crcs == RIGHT | {1: crc32(large)}
    await tree.aclose()


async def test_a_range_that_is_not_the_whole_member_teaches_nothing() -> None:
    _, archive, learned = watched()
    begin = archive.layout.begins[1] + len(archive.layout.head(1))
    await archive.read(begin + 1, tail(archive, 1))
    await archive.read(begin, tail(archive, 1) - 1)
    assert learned == []
    await archive.read(begin, tail(archive, 1))
    assert (learned, archive.learned.crcs) == ([1], {1: RIGHT[1]})


async def test_a_stream_that_was_left_teaches_only_what_has_passed() -> None:
    _, archive, _ = watched()
    async with aclosing(archive.stream(0, archive.size)) as stream:
        await anext(stream)
    assert set(archive.learned.crcs) <= {0}
    assert all(RIGHT[number] == crc for number, crc in archive.learned.crcs.items())


async def test_the_descriptor_of_a_member_that_passed_in_part_is_right() -> None:
    members, archive, learned = watched()
    at = tail(archive, 1)
    assert await archive.read(at - 1000, at + 16) == (await whole())[at - 1000 : at + 16]
    assert members.opened == [1, 1] and learned == [1]


async def test_what_was_learned_serves_every_archive_that_shares_it() -> None:
    members, archive, _ = watched()
    await collected(archive.stream(0, archive.size))
    members.opened.clear()
    other = members.bundle.archive(members.open, archive.learned)
    assert await other.read(directory(other)) == (await whole())[directory(other) :]
    kept = members.bundle.archive(members.open, Learned(dict(archive.learned.crcs)))
    assert await kept.read(directory(kept)) == (await whole())[directory(kept) :]
    assert members.opened == []


# ── asked of what keeps the file ──


async def test_a_blob_that_knows_its_crc_is_not_read_for_it() -> None:
    members, archive, learned = watched(known=True)
    assert await archive.read(directory(archive)) == (await whole())[directory(archive) :]
    assert members.reads == [] and sorted(members.opened) == sorted(learned) == list(RIGHT)
    assert archive.learned.crcs == RIGHT


async def test_a_blob_that_knows_its_crc_is_read_once_as_it_passes() -> None:
    members, archive, learned = watched(known=True)
    assert await collected(archive.stream(0, archive.size)) == await whole()
    assert members.opened == learned == list(RIGHT)
    assert sorted(number for number, _, _ in members.reads) == learned


async def test_a_blob_that_does_not_know_its_crc_yet_is_read() -> None:
    class Forgetful(type(literal(b""))):  # type: ignore[misc]
        def crc32(self) -> None:
            return None

    members, archive, _ = watched()
    for at in RIGHT:
        members.instead[at] = Forgetful(len(ITEMS[at][1]), "v1", ITEMS[at][1])
    assert await archive.read(directory(archive)) == (await whole())[directory(archive) :]
    assert await collected(archive.stream(0, archive.size)) == await whole()


# ── read for the directory ──


async def test_the_end_alone_reads_nothing_and_an_entry_its_member_alone() -> None:
    members, archive, learned = watched()
    assert await archive.read(archive.size - 22) == (await whole())[-22:]
    assert members.opened == []
    for number in (4, 0):
        begin = directory(archive, number)
        assert await archive.read(begin + 3, begin + 20) == (await whole())[begin + 3 : begin + 20]
    assert members.opened == learned == [4, 0]


async def test_the_directory_asked_first_reads_each_member_once() -> None:
    members, archive, learned = watched()
    assert await archive.read(directory(archive)) == (await whole())[directory(archive) :]
    assert sorted(members.opened) == sorted(learned) == list(RIGHT)
    assert [(start, stop) for _, start, stop in members.reads] == [(0, len(ITEMS[at][1])) for at in members.opened]
    members.opened.clear()
    assert await archive.read(directory(archive, 3)) == (await whole())[directory(archive, 3) :]
    assert members.opened == []


async def test_a_descriptor_alone_reads_its_member_alone() -> None:
    members, archive, _ = watched()
    at = tail(archive, 4)
    assert await archive.read(at, at + 16) == (await whole())[at : at + 16]
    assert members.opened == [4]


async def test_many_readers_at_once_read_once() -> None:
    members, archive, learned = watched()
    ranges = [(directory(archive, at % 5), archive.size) for at in range(20)]
    ranges.append((tail(archive, 1), tail(archive, 1) + 4))
    found = await asyncio.gather(*(archive.read(start, stop) for start, stop in ranges))
    data = await whole()
    assert found == [data[start:stop] for start, stop in ranges]
    assert sorted(members.opened) == sorted(learned) == list(RIGHT)


async def test_reading_goes_on_when_the_asker_leaves() -> None:
    members, archive, learned = watched()
    members.gate.clear()
    begin = directory(archive, 4)
    asking = asyncio.create_task(archive.read(begin, begin + 20))
    await settled(lambda: bool(members.reads))
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    members.gate.set()
    await settled(lambda: not archive.contents.reading)
    assert learned == members.opened == [4] and archive.learned.crcs == {4: RIGHT[4]}
    assert await archive.read(begin, begin + 20) == (await whole())[begin : begin + 20]
    assert members.opened == [4]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_one_who_leaves_takes_nothing_from_those_who_stay() -> None:
    members, archive, _ = watched()
    members.gate.clear()
    begin = directory(archive, 4)
    first, second = (asyncio.create_task(archive.read(begin, begin + 20)) for _ in "ab")
    await settled(lambda: bool(members.reads))
    first.cancel()
    members.gate.set()
    assert await second == (await whole())[begin : begin + 20]
    assert members.opened == [4]


# ── failing ──


async def test_a_failure_reaches_all_who_asked_and_is_not_remembered() -> None:
    members, archive, learned = watched()
    members.broken[1] = 100_000
    asked = [archive.read(directory(archive, 1), directory(archive, 2)) for _ in range(5)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(failure, Unavailable) for failure in found)
    assert not archive.contents.reading and not archive.learned.crcs and learned == []
    members.broken.clear()
    assert await archive.read() == await whole()


async def test_entries_before_a_failure_are_right_and_the_rest_comes_later() -> None:
    members, archive, _ = watched()
    members.broken[4] = 100
    data, failure = await got(archive.stream(directory(archive), archive.size))
    assert isinstance(failure, Unavailable)
    members.broken.clear()
    at = directory(archive) + len(data)
    assert data + await archive.read(at) == (await whole())[directory(archive) :]


async def test_a_member_that_has_changed_gives_no_crc() -> None:
    members, archive, learned = watched()
    members.instead[1] = literal(ITEMS[1][1][:-1], "v1")
    data, failure = await got(archive.stream(directory(archive, 1), archive.size))
    assert isinstance(failure, Changed) and data == b""
    await archive.read(directory(archive, 4), directory(archive, 5))
    members.instead[4] = literal(ITEMS[4][1][::-1], "v2")
    data, failure = await got(
        members.bundle.archive(members.open, Learned(pins=archive.learned.pins)).stream(
            directory(archive, 4), archive.size
        )
    )
    assert isinstance(failure, Changed) and data == b""
    assert learned == [4]


async def test_a_failure_that_nobody_waits_for_any_more_is_no_complaint(caplog: pytest.LogCaptureFixture) -> None:
    members, archive, _ = watched()
    members.gate.clear()
    asking = asyncio.create_task(archive.read(directory(archive, 4)))
    await settled(lambda: bool(members.reads))
    asking.cancel()
    members.broken[4] = 0
    members.gate.set()
    await settled(lambda: not archive.contents.reading)
    del asking
    await asyncio.sleep(0)
    assert not caplog.records


# ── all of them ──


async def test_all_are_read_a_few_at_a_time_and_given_in_order() -> None:
    items = [(Member(f"{at}"), CHANCE.randbytes(20_000)) for at in range(40)]
    members = Watched(Bundle([*items, (Member("f", folder=True), b"")], "zip"), 1000)
    archive = members.bundle.archive(members.open)
    assert await archive.contents.all_crcs() == [crc32(data) for _, data in items] + [0]
    assert members.most == READERS and len(members.opened) == 40


async def test_all_that_are_supplied_are_read_for_nothing() -> None:
    members = Watched(Bundle(ITEMS, "zip crc"))
    assert await members.bundle.archive(members.open).contents.all_crcs() == [crc32(data) for _, data in ITEMS]
    assert members.opened == []


async def test_one_of_all_that_fails_is_a_failure() -> None:
    members, archive, _ = watched()
    members.broken[1] = 5
    with pytest.raises(Failure):
        await archive.contents.all_crcs()
    await settled(lambda: not archive.contents.reading)
    members.broken.clear()
    assert await archive.contents.all_crcs() == [crc32(data) for _, data in ITEMS]
