"""A file by its ranges: fetched together, merged, bounded; and what happens when they do not come."""

import asyncio
from dataclasses import dataclass, field

import pytest

from playhead import Blob, Damaged, Unavailable
from playhead.blob import Pieces
from playhead.catalogue.tags import tags_of
from playhead.catalogue.view import HEAD, MOST, STEP, TAIL, File, Missing, View, parsed
from tests.catalogue import sounds
from tests.catalogue.sounds import counting


@dataclass(frozen=True, slots=True, eq=False)
class Together(Blob):
    """Gives nothing before as many readers as `meeting` waits for have come."""

    data: bytes
    meeting: asyncio.Barrier

    async def stream(self, start: int, stop: int) -> Pieces:
        async with asyncio.timeout(20):
            await self.meeting.wait()
        yield self.data[start:stop]


@dataclass(frozen=True, slots=True, eq=False)
class Failing(Blob):
    """Fails at the tail, and would wait for ever at the head."""

    ended: list[int] = field(default_factory=list)

    async def stream(self, start: int, stop: int) -> Pieces:
        if start:
            raise Unavailable("the tail cannot be reached")
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.append(start)
        yield b""


async def test_head_and_tail_are_fetched_at_once() -> None:
    data = sounds.mp3(5000) + sounds.id3v1(b"T", b"A", b"B")
    tags = await tags_of(Together(len(data), None, data, asyncio.Barrier(2)), "x.mp3")
    assert (tags.title, tags.bitrate) == ("T", 128)


async def test_a_read_that_fails_ends_the_other_and_is_told_as_it_is() -> None:
    blob = Failing(10**9, None)
    with pytest.raises(Unavailable, match="the tail cannot be reached"):
        async with asyncio.timeout(20):
            await tags_of(blob, "x")
    assert blob.ended == [0]


async def test_a_small_file_is_read_in_one_piece() -> None:
    blob = counting(sounds.mp3(100))
    await tags_of(blob, "x")
    assert blob.read_ == [(0, blob.size)]


async def test_what_is_asked_for_again_is_fetched_once_and_near_things_together() -> None:
    blob = counting(bytes(range(256)) * 4096 * 2)

    def parse(view: View) -> bytes:
        view.need((200_000, 200_010), (205_000, 205_010), (600_000, 600_010))
        return view.read(200_000, 200_010) + view.read(HEAD - 5, HEAD + 5)

    got = await parsed(blob, parse, lambda count: None)
    assert got == blob.data[200_000:200_010] + blob.data[HEAD - 5 : HEAD + 5]
    size = blob.size
    assert blob.read_ == [
        *((0, HEAD), (size - TAIL, size)),
        *((200_000, 205_000 + STEP), (600_000, 600_000 + STEP)),
        (HEAD, HEAD - 5 + STEP),
    ]


async def test_a_parser_that_wants_too_much_or_too_often_is_stopped() -> None:
    blob = counting(bytes(4 * MOST))
    with pytest.raises(Damaged, match="larger than"):
        await parsed(blob, lambda view: view.read(0, 2 * MOST), lambda count: None)
    assert blob.bytes_read == HEAD + TAIL

    def hopping(view: View) -> None:
        for at in range(HEAD, 3 * MOST, 2 * STEP):
            view.read(at, at + 1)

    with pytest.raises(Damaged, match=r"larger than|too many places"):
        await parsed(blob, hopping, lambda count: None)
    assert blob.bytes_read <= 2 * MOST

    def circling(view: View) -> None:
        while True:
            view.read(0, 1)

    async with asyncio.timeout(60):
        with pytest.raises(Damaged, match="circles"):
            await parsed(blob, circling, lambda count: None)


def test_a_view_joins_what_it_is_given_and_tells_what_is_missing() -> None:
    view = View(100)
    for start, stop in [(10, 20), (30, 40), (20, 30), (90, 100)]:
        view.put(start, bytes(range(start, stop)))
    assert view.runs == [(10, bytes(range(10, 40))), (90, bytes(range(90, 100)))]
    assert view.read(15, 35) == bytes(range(15, 35))
    assert view.read(95, 200) == bytes(range(95, 100))
    assert view.read(200, 300) == b""
    assert view.here(35, 50) == bytes(range(35, 40)) and view.here(5, 3) == b""
    with pytest.raises(Missing) as missing:
        view.read(35, 45)
    assert missing.value.spans == [(35, 45)]
    with pytest.raises(Damaged):
        view.exactly(95, 10)


def test_a_window_of_a_view_is_a_file_that_ends_where_it_says() -> None:
    view = View(100)
    view.put(0, bytes(range(100)))
    file = File(view, 10, 90, seen=20)
    assert (file.read(4), file.tell(), file.read(), file.read(5)) == (
        bytes(range(10, 14)),
        4,
        bytes(range(14, 30)),
        b"",
    )
    assert (file.seek(-1, 2), file.read(1), file.seek(0), file.seek(3, 1), file.seek(-9)) == (79, b"", 0, 3, 0)
