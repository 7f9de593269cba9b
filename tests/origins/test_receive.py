"""Long bodies, which are read from the socket itself: every byte, once, and every way in which they can break."""

import asyncio
import os
from contextlib import aclosing
from pathlib import Path
from random import Random

import pytest

from playhead import Ask, Unavailable
from playhead.origins import receive
from playhead.origins.ranged import LONG
from playhead.origins.web import WebTree
from playhead.pool import SIZE, Pool
from tests.fakes.origin import Answer, Asked, Fault, Origin, settled, short
from tests.laws import collected, taken

FILM = Random(1).randbytes(3 * LONG + 12_345)


def parted(first: int) -> Fault:
    """The head and the first bytes of the body come apart from the rest."""

    def edit(answer: Answer, asked: Asked) -> None:
        answer.more, answer.body = answer.body[first:], answer.body[:first]
        answer.headers["Content-Length"] = str(len(answer.body) + len(answer.more))
        answer.more_after = 0.02

    return edit


@pytest.mark.parametrize("first", [0, 1, 70_000, LONG, 2 * LONG + 1])
async def test_what_came_with_the_head_is_not_lost(first: int) -> None:
    async with Origin({"film": FILM}) as origin:
        tree = WebTree(origin.url)
        for _ in range(3):
            origin.script["film"] = [parted(first)]
            blob = await tree.open("film")
            assert await blob.read() == FILM
        await tree.aclose()
        await settled(lambda: not origin.open)


async def test_what_came_while_nobody_read_is_not_lost() -> None:
    async with Origin({"film": FILM}) as origin:
        tree = WebTree(origin.url)
        for pause in (0.01, 0.1, 0.3):
            blob = await tree.open("film")
            await asyncio.sleep(pause)
            assert await blob.read() == FILM
        await tree.aclose()


async def test_a_body_in_chunks_is_left_to_the_parser() -> None:
    def chunked(answer: Answer, asked: Asked) -> None:
        answer.chunked = True

    async with Origin({"film": FILM}) as origin:
        origin.always["film"] = chunked
        tree = WebTree(origin.url)
        blob = await tree.open("film", Ask(0, len(FILM)))
        assert await blob.read() == FILM
        assert await collected(blob.stream(5, len(FILM) - 5)) == FILM[5:-5]
        await tree.aclose()


@pytest.mark.parametrize(("start", "stop"), [(0, len(FILM)), (1, len(FILM)), (70_001, 2 * LONG + 5), (LONG, LONG * 2)])
async def test_any_long_range_is_its_bytes(start: int, stop: int) -> None:
    async with Origin({"film": FILM}) as origin:
        tree = WebTree(origin.url)
        blob = await tree.open("film")
        got = await asyncio.gather(*(collected(blob.stream(start, stop)) for _ in range(4)))
        assert all(data == FILM[start:stop] for data in got)
        await tree.aclose()


@pytest.mark.parametrize("missing", [1, 70_000, 2 * LONG])
async def test_a_body_that_ends_early_is_never_whole(missing: int) -> None:
    async with Origin({"film": FILM}) as origin:
        origin.script["film"] = [short(missing)]
        tree = WebTree(origin.url)
        blob = await tree.open("film")
        got = b""
        with pytest.raises(Unavailable):
            async with aclosing(blob.stream(0, blob.size)) as stream:  # type: ignore[type-var]
                async for piece in stream:
                    got += taken(piece)
        assert FILM.startswith(got)
        await tree.aclose()


async def test_silence_in_the_middle_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receive, "SILENCE", 0.2)

    def silent(answer: Answer, asked: Asked) -> None:
        answer.cut, answer.ending = LONG + 5, "hang"

    async with Origin({"film": FILM}) as origin:
        origin.script["film"] = [silent]
        tree = WebTree(origin.url)
        blob = await tree.open("film")
        with pytest.raises(Unavailable, match="silent"):
            await blob.read()
        await tree.aclose()


async def test_nothing_is_left_open_by_who_leaves() -> None:
    async with Origin({"film": FILM}) as origin:
        tree = WebTree(origin.url)
        await (await tree.open("film")).read(0, 10)
        before = len(list(Path("/proc/self/fd").iterdir())) if os.path.isdir("/proc/self/fd") else 0
        for _ in range(20):
            blob = await tree.open("film")
            async with aclosing(blob.stream(0, blob.size)) as stream:  # type: ignore[type-var]
                async for piece in stream:
                    assert FILM.startswith(taken(piece))
                    break
        await settled(lambda: origin.open <= 1)
        if before:
            assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
        await tree.aclose()


def test_memory_is_used_again_only_when_nobody_looks_at_it() -> None:
    pool = Pool(4)
    first = pool.take()
    view = memoryview(first)[:100]
    first[:5] = b"bytes"
    pool.put(first)
    assert pool.take() is not first
    assert bytes(view[:5]) == b"bytes"
    view.release()
    assert pool.take() is first
    assert len(first) == SIZE


async def test_a_body_that_is_read_from_its_socket_ends_with_its_tree() -> None:
    async with Origin({"film": FILM}) as origin:
        tree = WebTree(origin.url)
        async with aclosing((await tree.open("film")).stream(0, len(FILM))) as stream:
            got = 0
            with pytest.raises(Unavailable, match="closed"):
                async for piece in stream:
                    got += len(piece)
                    if got > LONG // 2:
                        await tree.aclose()
        assert got < len(FILM)
