"""Remote files as one archive: each defect of the program that it comes after (system 3), and none of them here."""

import asyncio
import io
import random
import tarfile
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import pytest

from playhead import Ask, Failure
from playhead.origins.web import WebTree
from playhead.transforms.packed import Archive
from playhead.transforms.plan import Member
from tests.archives import LAYOUTS, Bundle, got
from tests.fakes.origin import Fault, Origin, extra, instead, rst, settled, short, status, zipped
from tests.laws import check_blob, collected

CHANCE = random.Random(8)
ITEMS = [(Member(f"노래/{at} 별.ogg"), CHANCE.randbytes(size)) for at, size in enumerate([300_000, 900, 280_000, 5000])]


@dataclass
class Remote:
    origin: Origin
    bundle: Bundle
    archive: Archive
    whole: bytes


@asynccontextmanager
async def remote(layout: str = "tar") -> AsyncIterator[Remote]:
    """An archive of four files of an origin; no connection and no task may be left behind."""
    bundle = Bundle(ITEMS, layout)
    async with asyncio.timeout(30), Origin({f"{at}": data for at, data in enumerate(bundle.data)}) as origin:
        tree = WebTree(origin.url)
        archive = bundle.archive(lambda number, ask: tree.open(f"{number}", ask))
        try:
            yield Remote(origin, bundle, archive, await Bundle(ITEMS, layout).archive().read())
        finally:
            await tree.aclose()
    await settled(lambda: asyncio.all_tasks() == {asyncio.current_task()})


def data_of(archive: Archive, number: int) -> int:
    return archive.layout.begins[number] + len(archive.layout.head(number))


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_remote_files_are_one_archive(layout: str) -> None:
    async with remote(layout) as found:
        await check_blob(found.archive, found.whole, rounds=4)


async def test_each_file_is_asked_for_once() -> None:
    async with remote() as found:
        assert await collected(found.archive.stream(0, found.archive.size)) == found.whole
        assert sorted(asked.path for asked in found.origin.requests) == ["0", "1", "2", "3"]


async def test_a_range_asks_for_that_range_of_a_file() -> None:
    async with remote() as found:
        at = data_of(found.archive, 2) + 1000
        assert await found.archive.read(at, at + 500) == found.whole[at : at + 500]
        assert [(asked.path, asked.headers["range"]) for asked in found.origin.requests] == [("2", "bytes=1000-1499")]


FAULTS: dict[str, Fault] = {
    "short": short(500),
    "short by 300": lambda answer, asked: short(len(answer.body) - 300)(answer, asked),
    "nothing": short(0),
    "no answer": short(-1),
    "reset": rst(700),
    "an error page": status(404),
    "an error": status(500),
    "a shorter file": instead(bytes(600)),
    "a longer file": instead(bytes(400_000)),
    "gzip": zipped,
    "another file": lambda answer, asked: instead(answer.data[::-1], ETag='"2"')(answer, asked),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("layout", ["tar", "zip"])
async def test_no_fault_of_an_origin_makes_a_wrong_archive(layout: str, number: int, fault: str) -> None:
    """System 3: short and long files misaligned the archive, error pages and gzip were archived as the file."""
    async with remote(layout) as found:
        archive = found.archive
        archive.learned.pins[number] = (await archive.contents.opener(number, Ask(0, 0))).tag or ""
        found.origin.always[f"{number}"] = FAULTS[fault]
        data, failure = await got(archive.stream(0, archive.size))
        assert isinstance(failure, Failure)
        assert data == found.whole[: len(data)] and len(data) < data_of(archive, number + 1)
        del found.origin.always[f"{number}"]
        rest, failure = await got(archive.stream(len(data), archive.size))
        assert failure is None and data + rest == found.whole


async def test_bytes_after_the_end_of_a_file_are_no_part_of_it() -> None:
    async with remote() as found:
        for at in range(4):
            found.origin.always[f"{at}"] = extra(b"more" * 100)
        data, failure = await got(found.archive.stream(0, found.archive.size))
        assert data == found.whole if failure is None else data == found.whole[: len(data)]


async def test_the_connection_is_closed_when_the_reader_leaves() -> None:
    """System 3: the upstream was read on after the client had left."""
    async with remote() as found:
        found.origin.always["2"] = lambda answer, asked: setattr(answer, "rate", 500)  # byte by byte
        reading = asyncio.create_task(collected(found.archive.stream(0, found.archive.size)))
        await settled(lambda: len(found.origin.of("2")) == 1)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await settled(lambda: not found.origin.busy)


async def test_the_next_file_is_asked_for_before_its_turn() -> None:
    """System 3: a gap at each file, for strictly one followed the other."""
    async with remote() as found, aclosing(found.archive.stream(0, found.archive.size)) as stream:
        await anext(stream)
        before = len(found.origin.requests)
        assert before > 1  # the next one's, for the first was in the first piece


async def test_what_was_left_unfinished_is_no_archive() -> None:
    """System 3: with one file 300 bytes short, tarfile listed one of three members and reported no error."""
    async with remote() as found:
        found.origin.always["2"] = FAULTS["short by 300"]
        data, failure = await got(found.archive.stream(0, found.archive.size))
        assert isinstance(failure, Failure) and len(data) < found.archive.size
        with pytest.raises(tarfile.ReadError), tarfile.open(fileobj=io.BytesIO(data)) as opened:
            for member in opened:
                opened.extractfile(member)
