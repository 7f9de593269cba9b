"""Trying again: the same bytes whatever breaks off, no attempt where it cannot help, and an end to it."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from email.utils import formatdate

import pytest

from playhead import Ask, Blob, Busy, Changed, Damaged, Failure, NotFound, Piece, Unavailable
from playhead.blob import Pieces
from playhead.origins.memory import MemoryTree
from playhead.origins.web import WebTree
from playhead.transforms import retry
from playhead.transforms.retry import Patience, Retried, retried
from playhead.tree import Entries, Entry
from tests.fakes.origin import Fault, Origin, each, header, instead, rst, settled, short, status
from tests.laws import check_blob, check_tree, collected, taken

DATA = random.Random(3).randbytes(200_000)
OTHER = random.Random(4).randbytes(200_000)
FILES = {"f": DATA, "folder/g": DATA[:7777], "folder/inner/h": b"h", "empty": b""}
QUICK = Patience(first=0.002)


@asynccontextmanager
async def serving(patience: Patience = QUICK, **how: object) -> AsyncIterator[tuple[Origin, Retried]]:
    """An origin and a tree of it that tries again; no connection and no task may be left behind."""
    async with asyncio.timeout(20):
        async with Origin(FILES, **how) as origin:  # type: ignore[arg-type]
            tree = retried(WebTree(origin.url), patience)
            try:
                yield origin, tree
            finally:
                await tree.aclose()
            await settled(lambda: not origin.links)
        await settled(lambda: asyncio.all_tasks() == {asyncio.current_task()})


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


class Failing(MemoryTree):
    """Fails as `failures` say, one for each call, before it does what it should."""

    def __init__(self, failures: list[Failure]) -> None:
        super().__init__(FILES)
        self.failures, self.calls = failures, 0

    def _fail(self) -> None:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)

    async def entries(self, folder: str = "") -> Entries:
        async with aclosing(super().entries(folder)) as entries:
            yield await anext(entries)
            self._fail()
            async for entry in entries:
                yield entry

    async def find(self, path: str) -> Entry:
        self._fail()
        return await super().find(path)

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        self._fail()
        return await super().open(path, ask)

    async def flow(self, path: str) -> Pieces:
        self._fail()
        yield DATA[:100]
        self._fail()
        yield DATA[100:]


# ── the law ──


async def test_a_tree_stays_what_it_is() -> None:
    await check_tree(retried(MemoryTree(FILES)), FILES)
    async with serving() as (_, tree):
        await check_tree(tree, FILES)
    assert tree.retries == 0


@pytest.mark.parametrize("fault", [rst(-1), rst(100), short(3), status(503), status(429, Retry_After="0")])
async def test_every_other_request_fails_and_nobody_notices(fault: Fault) -> None:
    spoilt = 0

    def every_other(answer: object, asked: object) -> None:
        nonlocal spoilt
        spoilt += 1
        if spoilt % 2:
            fault(answer, asked)  # type: ignore[arg-type]

    async with serving(Patience(attempts=50, first=0.002, budget=1000)) as (origin, tree):
        for path in FILES:
            origin.always[path] = every_other
            await check_blob(await tree.open(path), FILES[path])
            assert (await tree.find(path)).size == len(FILES[path])
        assert tree.retries > 5


async def test_what_is_here_is_given_and_size_tag_and_date_are_kept() -> None:
    plain = await MemoryTree(FILES).open("f")
    blob = await retried(MemoryTree(FILES)).open("f")
    assert (blob.size, blob.tag, blob.modified) == (plain.size, plain.tag, plain.modified)
    assert [bytes(taken(piece)) for piece in blob.here(5, 10) or []] == [DATA[5:10]]
    async with serving() as (_, tree):
        web = await tree.open("f", Ask(0, 0))
        assert web.here(0, 10) is None
        assert web.modified


# ── streams ──


async def test_a_stream_goes_on_from_the_byte_reached() -> None:
    async with serving() as (origin, tree):
        blob = await tree.open("f", Ask(1000, 150_000))
        origin.script["f"] = [rst(50_000), None]
        assert await collected(blob.stream(1000, 150_000)) == DATA[1000:150_000]  # by the answer it was opened with
        origin.requests.clear()
        assert await collected(blob.stream(2000, 150_000)) == DATA[2000:150_000]
        assert [asked.headers["range"] for asked in origin.of("f")] == ["bytes=2000-149999", "bytes=52000-149999"]
        assert tree.retries == 1


async def test_progress_begins_the_count_anew() -> None:
    async with serving() as (origin, tree):
        blob = await tree.open("f", Ask(0, 0))
        origin.script["f"] = [rst(20_000)] * 9
        assert await collected(blob.stream(0, blob.size)) == DATA
        assert tree.retries == 9


async def test_without_a_tag_only_the_start_is_tried_again() -> None:
    async with serving(validators="") as (origin, tree):
        blob = await tree.open("f", Ask(0, 0))
        origin.script["f"] = [status(503), status(503)]
        assert await collected(blob.stream(0, 500)) == DATA[:500]
        origin.script["f"] = [rst(20_000)]
        data, failure = await got(blob.stream(0, blob.size))
        assert isinstance(failure, Unavailable)
        assert data == DATA[: len(data)] and data
        assert tree.retries == 2


async def test_another_version_is_never_mixed_in() -> None:
    async with serving() as (origin, tree):
        blob = await tree.open("f", Ask(0, 0))
        origin.script["f"] = [rst(30_000), instead(OTHER, ETag='"other"')]
        data, failure = await got(blob.stream(0, blob.size))
        assert isinstance(failure, Changed)
        assert data == DATA[:30_000]
        assert len(origin.of("f")) == 3


async def test_a_flow_is_tried_again_until_its_first_byte() -> None:
    tree = Failing([Unavailable("no")])
    assert await collected(retried(tree, QUICK).flow("f")) == DATA
    tree = Failing([])
    tree.failures = [Unavailable("no")]
    flow = retried(tree, QUICK).flow("f")
    assert taken(await anext(flow)) == DATA[:100]
    tree.failures = [Unavailable("in the middle")]
    assert (await got(flow))[1] is not None


async def test_closing_and_cancelling_leave_nothing_behind() -> None:
    async with serving(Patience(first=10)) as (origin, tree):
        blob = await tree.open("f", Ask(0, 0))
        async with aclosing(blob.stream(0, blob.size)) as stream:
            await anext(stream)
        await settled(lambda: not origin.busy)
        origin.always["f"] = status(503)
        reading = asyncio.create_task(collected(blob.stream(0, blob.size)))
        await settled(lambda: tree.retries == 1)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading


# ── names ──


async def test_a_listing_is_given_once_and_whole() -> None:
    tree = retried(Failing([Unavailable("half way"), Busy("again")]), QUICK)
    names = [entry.name async for entry in tree.entries()]
    assert names == ["f", "folder", "empty"]
    dead = retried(Failing([Unavailable("half way")] * 9), QUICK)
    names = []
    with pytest.raises(Unavailable):
        async for entry in dead.entries():
            names.append(entry.name)
    assert not names


@pytest.mark.parametrize("kind", [NotFound, Changed, Damaged])
async def test_what_cannot_be_cured_is_not_tried_again(kind: Callable[[str], Failure]) -> None:
    under = Failing([kind("so it is")])
    with pytest.raises(Failure, match="so it is") as failed:
        await retried(under, QUICK).find("f")
    assert under.calls == 1
    assert not hasattr(failed.value, "__notes__")


# ── pauses and ends ──


@pytest.mark.parametrize("how", ["seconds", "date"])
async def test_retry_after_is_kept(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def note(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(retry, "sleep", note)
    async with serving() as (origin, tree):
        after = "9" if how == "seconds" else formatdate(time.time() + 9, usegmt=True)
        origin.script["f"] = [status(503, Retry_After=after), status(503)]
        await tree.open("f", Ask(0, 0))
        assert 7 < pauses[0] <= 9
        assert pauses[1] <= 0.004


async def test_an_origin_that_wants_long_pauses_is_not_waited_for() -> None:
    async with serving() as (origin, tree):
        origin.script["f"] = [status(429, Retry_After="31")]
        with pytest.raises(Busy) as failed:
            await tree.open("f")
        assert failed.value.after == 31
        assert failed.value.__notes__ == ["tried 1 time in a row"]
        assert tree.retries == 0


async def test_the_last_failure_says_how_often_it_was_tried() -> None:
    under = Failing([Unavailable(str(number)) for number in range(9)])
    with pytest.raises(Unavailable, match="3") as failed:
        await retried(under, QUICK).find("f")
    assert str(failed.value) == "3"
    assert failed.value.__notes__ == ["tried 4 times in a row"]
    assert under.calls == 4


async def test_time_ends_patience_too() -> None:
    under = Failing([Busy("later", after=0.05) for _ in range(9)])
    with pytest.raises(Busy):
        await retried(under, Patience(attempts=99, seconds=0.12, first=0.001)).find("f")
    assert under.calls == 3
    under = Failing([Busy("later", after=0.05) for _ in range(9)])
    with pytest.raises(Busy):
        await retried(under, Patience(seconds=0.01, first=0.001)).find("f")
    assert under.calls == 2  # one more attempt is always made


async def test_a_dead_origin_fails_fast_once_the_budget_is_spent() -> None:
    async with serving() as (origin, tree):
        blob = await tree.open("f", Ask(0, 0))
        origin.always["f"] = status(503)
        began = time.monotonic()
        for _ in range(20):
            with pytest.raises(Unavailable):
                await blob.read()
        assert tree.retries == 10
        assert len(origin.of("f")) == 1 + 20 + 10
        assert time.monotonic() - began < 3
        del origin.always["f"]
        for _ in range(5):
            assert await blob.read() == DATA
        origin.script["f"] = [status(503)]
        assert await blob.read() == DATA  # successes have filled it again


async def test_a_refused_connection_ends_in_bounded_time() -> None:
    async with serving() as (origin, tree):
        assert origin.server
        origin.server.close()
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await tree.find("f")
        assert time.monotonic() - began < 3


async def test_bytes_of_a_failing_answer_count_once() -> None:
    async with serving() as (origin, tree):
        blob = await tree.open("f", Ask(0, 0))
        origin.script["f"] = [each(header("X", "y"), short(1)), rst(0), rst(1)]
        assert await collected(blob.stream(10, 5000)) == DATA[10:5000]
