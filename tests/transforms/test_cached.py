"""The cache before an origin: each block is asked for once, whoever reads; and nothing is left when they have gone."""

import asyncio
import gc
import os
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from playhead import Ask, Blob, Changed, Failure, Piece, Tree, Unavailable
from playhead.blob import FileSpan, Pieces, literal
from playhead.origins.memory import MemoryTree
from playhead.origins.web import WebTree
from playhead.transforms import flight, shelf
from playhead.transforms.cached import CachedBlob, cached
from playhead.transforms.filling import Cache
from playhead.transforms.journal import BLOCK, RUN
from playhead.transforms.listed import listed
from playhead.transforms.reader import FIRST
from playhead.transforms.reservoir import Reservoir
from playhead.tree import Entries, Entry, Why
from tests.fakes import origin as lies
from tests.fakes.origin import Origin, settled
from tests.laws import check_blob, check_tree, collected, taken

MIB = 1 << 20
SONG = random.Random(1).randbytes(3 * MIB + 77)
FILM = random.Random(2).randbytes(12 * MIB + 5)
TREE = {"song": SONG, "folder/small": SONG[:1000], "folder/inner/block": SONG[:BLOCK], "empty": b""}
DEADLINE = 20.0


@pytest.fixture(params=["memory", "disk"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Where is it kept? In memory alone, or on disk too."""
    return tmp_path / "blocks" if request.param == "disk" else None


@asynccontextmanager
async def caching(folder: Path | None, memory: int = 4 * MIB, size: int = 64 * MIB) -> AsyncIterator[Cache]:
    """A cache; when it is closed nothing may be left: no task, no descriptor, no reader, no memory."""
    gc.collect()
    before = len(others())
    cache = Cache(Reservoir(str(folder), size) if folder else None, memory)
    async with asyncio.timeout(DEADLINE):
        yield cache
        await settled(lambda: cache.streams == 0)
        await settled(lambda: not any(file.fills for file in cache.files.values()))
        await settled(lambda: not cache.queue and cache.writing is None)
        assert cache.held == sum(map(len, cache.ring))
        gc.collect()
        if cache.reservoir:
            cache.reservoir._settle()
            assert not any(any(kept.leases) for kept in cache.reservoir.files.values())
        await cache.aclose()
        await settled(lambda: asyncio.all_tasks() == {asyncio.current_task()})
    await settled(lambda: gc.collect() >= 0 and len(others()) <= before)
    assert len(descriptors()) - len(others()) <= 2 * len(TREE)  # one for each file that is remembered


def others() -> list[str]:
    return [path for path in descriptors() if not path.endswith(".data")]


def descriptors() -> list[str]:
    """What this process has open: a data file for as long as its file is remembered, and nothing else."""
    return [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]


@asynccontextmanager
async def serving(
    folder: Path | None, files: dict[str, bytes] | None = None, *, memory: int = 4 * MIB, **how: object
) -> AsyncIterator[tuple[Origin, Tree, Cache]]:
    """An origin, and its tree as the server reads it."""
    async with caching(folder, memory) as cache, Origin(TREE if files is None else files, **how) as origin:  # type: ignore[arg-type]
        tree = cached(listed(WebTree(origin.url), folder and folder.parent / "listings", name="origin"), cache)
        try:
            yield origin, tree, cache
        finally:
            await tree.aclose()
        await settled(lambda: not origin.links)


def ranges(origin: Origin, path: str) -> list[tuple[int, int]]:
    """What was asked for of a file, as [start, stop)."""
    found = [re.fullmatch(r"bytes=(\d+)-(\d+)", asked.headers["range"]) for asked in origin.of(path)]
    return [(int(match[1]), min(len(origin.files[path]), int(match[2]) + 1)) for match in found if match]


def covers_once(found: list[tuple[int, int]], size: int) -> bool:
    at = 0
    for start, stop in sorted(found):
        if start != at:
            return False
        at = stop
    return at == size


# ── an upstream that is watched and held up ──


@dataclass
class Stream:
    """One stream of the upstream: what was asked, and how far it came."""

    start: int
    stop: int
    at: int
    open: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Watched(Blob):
    data: bytes
    seen: list[Stream]
    limit: list[int]  # bytes may be given up to here; grows
    fail: list[Callable[[Stream], None]]

    async def stream(self, start: int, stop: int) -> Pieces:
        one = Stream(start, stop, start)
        self.seen.append(one)
        try:
            while one.at < stop:
                for fail in self.fail:
                    fail(one)
                while one.at - start >= self.limit[0]:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0)
                end = min(stop, one.at + 16 * 1024)
                piece, one.at = self.data[one.at : end], end
                yield piece
        finally:
            one.open = False


class Upstream(Tree):
    """One file "f", given up to `limit` bytes a stream; `fail` may raise before each piece."""

    def __init__(self, data: bytes, tag: str | None = "v:f") -> None:
        self.data, self.tag = data, tag
        self.seen: list[Stream] = []
        self.limit = [1 << 60]
        self.fail: list[Callable[[Stream], None]] = []

    async def entries(self, folder: str = "") -> Entries:
        yield await self.find("f")

    async def find(self, path: str) -> Entry:
        return Entry("f", size=len(self.data))

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        return Watched(len(self.data), self.tag, self.data, self.seen, self.limit, self.fail)

    @property
    def given(self) -> int:
        return sum(one.at - one.start for one in self.seen)

    @property
    def open_streams(self) -> int:
        return sum(one.open for one in self.seen)


async def got(blob: Blob, start: int, stop: int) -> tuple[bytes, Failure | None]:
    """What a stream gave, and how it failed, if it did."""
    data = b""
    try:
        async with aclosing(blob.stream(start, stop)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                data += taken(piece)
    except Failure as failure:
        return data, failure
    return data, None


# ── the law ──


async def test_a_tree_of_memory_is_itself(folder: Path | None) -> None:
    async with caching(folder) as cache:
        await check_tree(cached(MemoryTree(TREE), cache), TREE)


@pytest.mark.parametrize("validators", ["etag", "modified", "weak", ""])
async def test_an_origin_is_its_files(folder: Path | None, validators: str) -> None:
    async with serving(folder, validators=validators) as (_, tree, _):
        await check_tree(tree, TREE)


@pytest.mark.parametrize("seed", range(3))
async def test_a_blob_is_its_bytes(folder: Path | None, seed: int) -> None:
    async with caching(folder) as cache:
        upstream = Upstream(FILM)
        await check_blob(await cached(upstream, cache).open("f"), FILM, seed=seed, rounds=8)


async def test_with_little_room_on_disk_it_is_the_same(tmp_path: Path) -> None:
    async with caching(tmp_path / "blocks", size=2 * MIB) as cache:
        await check_blob(await cached(Upstream(FILM), cache).open("f"), FILM, rounds=6)


# ── once ──


async def test_reading_a_file_asks_for_each_block_once(folder: Path | None) -> None:
    async with serving(folder, memory=64 * MIB) as (origin, tree, _):
        assert await (await tree.open("song")).read() == SONG
        assert covers_once(ranges(origin, "song"), len(SONG))


async def test_twenty_readers_of_a_cold_file_are_one(folder: Path | None) -> None:
    async def read() -> bytes:
        return await collected((await tree.open("song")).stream(0, len(SONG)))

    async with serving(folder, memory=64 * MIB) as (origin, tree, _):
        assert all(data == SONG for data in await asyncio.gather(*(read() for _ in range(20))))
        assert covers_once(ranges(origin, "song"), len(SONG))


async def test_readers_at_different_offsets_share_what_they_can(folder: Path | None) -> None:
    async with serving(folder, memory=64 * MIB) as (_, tree, cache):
        blob = await tree.open("song")
        starts = [0, 1_000_000, 5, 2_999_999, 1_000_001, 2_000_000]
        parts = await asyncio.gather(*(collected(blob.stream(start, len(SONG))) for start in starts))
        assert parts == [SONG[start:] for start in starts]
        assert cache.fetched <= len(SONG) + len(starts) * RUN  # the same block of two ways to it


async def test_what_was_read_is_not_asked_for_again(folder: Path | None) -> None:
    async with serving(folder, memory=64 * MIB) as (origin, tree, _):
        first = await tree.open("song")
        assert await first.read() == SONG
        count = len(origin.requests)
        assert await (await tree.open("song")).read(5, 2_000_000) == SONG[5:2_000_000]
        assert len(origin.requests) == count


async def test_requests_grow(folder: Path | None) -> None:
    async with serving(folder, {"film": FILM}, memory=64 * MIB) as (origin, tree, _):
        assert await (await tree.open("film")).read() == FILM
        lengths = [stop - start for start, stop in ranges(origin, "film")]
        assert lengths[0] == FIRST
        assert all(after <= 2 * before for before, after in pairwise(lengths))
        assert len(lengths) < 12
        assert covers_once(ranges(origin, "film"), len(FILM))


async def test_a_reader_far_ahead_begins_its_own_request_and_the_former_ends_there(folder: Path | None) -> None:
    async with caching(folder, memory=64 * MIB) as cache:
        upstream = Upstream(FILM)
        upstream.limit[0] = 100_000
        blob = await cached(upstream, cache).open("f")
        slow = asyncio.create_task(got(blob, 0, 6 * MIB))
        await settled(lambda: upstream.given >= 100_000)
        far = asyncio.create_task(got(blob, 3 * MIB, 4 * MIB))
        await settled(lambda: len(upstream.seen) == 2 and upstream.seen[1].at > 3 * MIB)
        upstream.limit[0] = 1 << 60
        assert await far == (FILM[3 * MIB : 4 * MIB], None)
        assert await slow == (FILM[: 6 * MIB], None)
        assert upstream.seen[0].at <= 3 * MIB + 16 * 1024
        assert cache.fetched <= 6 * MIB


async def test_a_reader_a_little_ahead_waits_for_the_request_that_is_on_its_way(folder: Path | None) -> None:
    async with caching(folder) as cache:
        upstream = Upstream(FILM)
        upstream.limit[0] = 100_000
        blob = await cached(upstream, cache).open("f")
        slow = asyncio.create_task(got(blob, 0, MIB))
        await settled(lambda: upstream.given >= 100_000)
        near = asyncio.create_task(got(blob, 500_000, 600_000))
        await asyncio.sleep(0.02)
        upstream.limit[0] = 1 << 60
        assert await near == (FILM[500_000:600_000], None)
        assert await slow == (FILM[:MIB], None)
        assert len(upstream.seen) == 1


@pytest.mark.parametrize("seed", range(6))
async def test_many_readers_who_come_and_go_get_right_bytes(folder: Path | None, seed: int) -> None:
    chance = random.Random(seed)

    async def reader() -> None:
        start = chance.randrange(len(FILM))
        stop = chance.randint(start, len(FILM))
        patience, at = chance.choice([1, 3, 1000]), start
        async with aclosing(blob.stream(start, stop)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                data = taken(piece)
                assert data == FILM[at : at + len(data)]
                at += len(data)
                patience -= 1
                if not patience:
                    return
                await asyncio.sleep(chance.choice([0, 0, 0.001]))
        assert at == stop

    async with caching(folder) as cache:
        blob = await cached(Upstream(FILM), cache).open("f")
        await asyncio.gather(*(reader() for _ in range(12)))


@pytest.mark.parametrize("memory", [4 * MIB, 16 * MIB])
@pytest.mark.parametrize("readers", [1, 4])
async def test_readers_that_pause_do_not_have_a_file_fetched_over_and_over(
    folder: Path | None, memory: int, readers: int
) -> None:
    # shows (memory, and little of it on disk): what is read ahead drives out what was read ahead and not given yet
    async def read(at: int) -> None:
        async with aclosing(blob.stream(at, len(FILM))) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                assert taken(piece) == FILM[at : at + len(piece)]
                at += len(piece)
                del piece
                await asyncio.sleep(0.01)

    async with caching(folder, memory) as cache:
        upstream = Upstream(FILM)
        blob = await cached(upstream, cache).open("f")
        reading = asyncio.gather(*(read(number * 2 * MIB + number) for number in range(readers)))
        while not reading.done():
            await asyncio.sleep(0.01)
            if upstream.given > 4 * len(FILM):
                reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        apart = folder is None and memory < readers * 2 * MIB  # no memory holds what lies between them
        assert upstream.given < (readers if apart else 1.5) * len(FILM)


@pytest.mark.parametrize("ask", [Ask(None, -1000), Ask(0, 2 * MIB)])
async def test_an_answer_that_came_in_one_piece_is_given_before_it_is_dropped(ask: Ask) -> None:
    async with caching(None) as cache:
        upstream = Upstream(SONG)
        blob = await cached(upstream, cache).open("f", ask)
        start = ask.start if ask.start is not None else len(SONG) - 1000
        assert await got(blob, start, len(SONG)) == (SONG[start:], None)
        assert upstream.given <= len(SONG) - start + 2 * BLOCK


# ── leaving ──


@pytest.mark.parametrize(("reached", "ends"), [(0, True), (300_000, True), (2 * MIB - 100_000, False)])
async def test_who_leaves_ends_the_request_unless_it_is_nearly_done(
    folder: Path | None, reached: int, ends: bool
) -> None:
    async with serving(folder, {"film": FILM}) as (origin, tree, cache):
        origin.always["film"] = lies.hang(reached)
        blob = await tree.open("film", Ask(0, 2 * MIB))
        reader = asyncio.create_task(got(blob, 0, 2 * MIB))
        await settled(lambda: cache.streams == 1 and any(f.at >= reached for f in blob.file.fills))  # type: ignore[attr-defined]
        reader.cancel()
        await asyncio.sleep(flight.LINGER + 0.2)
        assert (origin.busy == 0) is ends
        assert (not blob.file.fills) is ends  # type: ignore[attr-defined]


async def test_who_leaves_takes_nothing_from_who_still_waits(folder: Path | None) -> None:
    async with caching(folder) as cache:
        upstream = Upstream(FILM)
        upstream.limit[0] = 200_000
        blob = await cached(upstream, cache).open("f")
        leaving = asyncio.create_task(got(blob, 0, 2 * MIB))
        staying = asyncio.create_task(got(blob, 0, 2 * MIB))
        await settled(lambda: upstream.given >= 200_000)
        leaving.cancel()
        await asyncio.sleep(flight.LINGER + 0.1)
        assert upstream.open_streams == 1
        upstream.limit[0] = 1 << 60
        assert await staying == (FILM[: 2 * MIB], None)
        assert len(upstream.seen) == 1


async def test_who_comes_back_at_once_finds_the_request_still_on_its_way(folder: Path | None) -> None:
    async with caching(folder) as cache:
        upstream = Upstream(FILM)
        upstream.limit[0] = 200_000
        blob = await cached(upstream, cache).open("f")
        leaving = asyncio.create_task(got(blob, 0, 2 * MIB))
        await settled(lambda: upstream.given >= 200_000)
        leaving.cancel()
        await asyncio.sleep(flight.LINGER / 3)
        back = asyncio.create_task(got(blob, 0, 2 * MIB))
        await asyncio.sleep(flight.LINGER)
        upstream.limit[0] = 1 << 60
        assert await back == (FILM[: 2 * MIB], None)
        assert len(upstream.seen) == 1


async def test_a_tree_that_is_closed_ends_its_requests(folder: Path | None) -> None:
    async with caching(folder) as cache:
        upstream = Upstream(FILM)
        upstream.limit[0] = 200_000
        tree = cached(upstream, cache)
        blob = await tree.open("f")
        reader = asyncio.create_task(got(blob, 0, 2 * MIB))
        await settled(lambda: upstream.given >= 200_000)
        reader.cancel()
        await asyncio.sleep(0)
        await tree.aclose()
        assert upstream.open_streams == 0


# ── failures ──


@pytest.mark.parametrize("at", [0, 1, BLOCK, 300_000, RUN, 2_000_000])
async def test_a_failure_comes_after_the_right_bytes_and_the_next_reader_tries_anew(
    folder: Path | None, at: int
) -> None:
    def fail(one: Stream) -> None:
        if one.at >= at:
            raise Unavailable("it is gone")

    async with caching(folder, memory=16 * MIB) as cache:
        upstream = Upstream(FILM)
        upstream.fail.append(fail)
        blob = await cached(upstream, cache).open("f")
        results = await asyncio.gather(*(got(blob, start, 3 * MIB) for start in (0, 0, min(5, at))))
        for start, (data, failure) in zip((0, 0, min(5, at)), results, strict=True):
            assert isinstance(failure, Unavailable)
            assert data == FILM[start : start + len(data)]
            assert start + len(data) >= at - 16 * 1024
        upstream.fail.clear()
        assert await got(blob, 0, 3 * MIB) == (FILM[: 3 * MIB], None)


@pytest.mark.parametrize("fault", [lies.rst(100_000), lies.short(100_000), lies.status(503)])
async def test_what_an_origin_does_wrong_once_is_asked_for_again(folder: Path | None, fault: lies.Fault) -> None:
    async with serving(folder) as (origin, tree, _):
        blob = await tree.open("song")
        origin.script["song"] = [fault]
        data, failure = await got(blob, 0, len(SONG))
        assert isinstance(failure, Unavailable)
        assert SONG.startswith(data)
        assert await got(blob, 0, len(SONG)) == (SONG, None)


async def test_a_file_that_changed_says_so_and_is_the_new_one_when_it_is_opened_again(folder: Path | None) -> None:
    async with serving(folder) as (origin, tree, _):
        blob = await tree.open("song")
        new = origin.files["song"] = random.Random(9).randbytes(2 * MIB)
        data, failure = await got(blob, 0, len(SONG))
        assert isinstance(failure, Changed)
        assert SONG.startswith(data)
        again = await tree.open("song")
        assert again.tag != blob.tag
        assert await again.read() == new


async def test_a_bug_below_is_an_error_and_no_hang(folder: Path | None) -> None:
    def fail(one: Stream) -> None:
        raise ZeroDivisionError("a bug")

    async with caching(folder) as cache:
        upstream = Upstream(FILM)
        upstream.fail.append(fail)
        assert isinstance((await got(await cached(upstream, cache).open("f"), 0, 10))[1], Unavailable)


# ── one round trip ──


@pytest.mark.parametrize(
    ("ask", "start", "stop"),
    [
        (Ask(None, -1000), len(SONG) - 1000, len(SONG)),
        (Ask(None, -100_000), len(SONG) - 100_000, len(SONG)),
        (Ask(1_500_000, 1_500_010), 1_500_000, 1_500_010),
        (Ask(1_500_000, 2_500_000), 1_500_000, 2_500_000),
        (Ask(len(SONG) - 3), len(SONG) - 3, len(SONG)),
        (Ask(len(SONG) - 3, 1 << 40), len(SONG) - 3, len(SONG)),
        (Ask(0, 100), 0, 100),
        (Ask(0, 0), 0, 0),
    ],
    ids=str,
)
@pytest.mark.parametrize("validators", ["etag", ""])
async def test_an_unknown_file_costs_one_request(
    folder: Path | None, ask: Ask, start: int, stop: int, validators: str
) -> None:
    async with serving(folder, validators=validators, memory=16 * MIB) as (origin, tree, _):
        blob = await tree.open("song", ask)
        assert await collected(blob.stream(start, stop)) == SONG[start:stop]
        assert len(origin.of("song")) == 1
        assert "range" in origin.of("song")[0].headers


async def test_a_range_beyond_the_end_of_an_unknown_file_is_an_empty_one(folder: Path | None) -> None:
    async with serving(folder) as (origin, tree, _):
        blob = await tree.open("folder/small", Ask(5000, 6000))
        assert (blob.size, len(origin.of("folder/small"))) == (1000, 1)


@pytest.mark.parametrize("validators", ["", "weak"])
async def test_what_has_no_tag_is_given_in_two_requests_and_not_kept(folder: Path | None, validators: str) -> None:
    async with serving(folder, validators=validators) as (origin, tree, cache):
        for turn in (1, 2):
            blob = await tree.open("song")
            assert not isinstance(blob, CachedBlob)
            assert await blob.read() == SONG
            assert len(origin.of("song")) == 2 * turn
        assert (cache.fetched, cache.held) == (0, 0)
        assert not cache.reservoir or not cache.reservoir.files


@pytest.mark.parametrize("gone", [0, 1, 3])
async def test_who_leaves_a_file_without_a_tag_leaves_no_request_behind(folder: Path | None, gone: int) -> None:
    async with serving(folder, validators="") as (origin, tree, _):
        blob = await tree.open("song")
        async with aclosing(blob.stream(0, len(SONG))) as pieces:  # type: ignore[type-var]
            for _ in range(gone):
                await anext(pieces)
        del blob
        await settled(lambda: origin.busy == 0)


# ── on disk ──


async def test_after_a_restart_nothing_that_was_kept_is_asked_for(tmp_path: Path) -> None:
    files = {"film": FILM, "folder/song": SONG}
    async with serving(tmp_path / "blocks", files, memory=64 * MIB) as (origin, tree, _):
        port = origin.port
        for path, data in files.items():
            blob = await tree.open(path)
            assert await blob.read() == data
            await blob.file.settled()  # type: ignore[attr-defined]
    for _ in "ab":
        async with caching(tmp_path / "blocks") as cache:
            tree = cached(listed(WebTree(f"http://127.0.0.1:{port}/"), tmp_path / "listings", name="origin"), cache)
            for path, data in files.items():
                blob = await tree.open(path)
                assert await blob.read() == data
                assert await blob.read(5, 2_000_000) == data[5:2_000_000]
            assert cache.fetched == 0
            await tree.aclose()


class Tagged(Tree):
    """The file "song" of a tree, always by the same tag; without a tree only what is kept can be read."""

    def __init__(self, tree: Tree | None) -> None:
        self.tree = tree

    def entries(self, folder: str = "") -> Entries:
        raise NotImplementedError

    async def find(self, path: str) -> Entry:
        raise NotImplementedError

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        return Refused(len(SONG), "v:song", literal(SONG) if self.tree else None)


@dataclass(frozen=True, slots=True, eq=False)
class Refused(Blob):
    blob: Blob | None

    def stream(self, start: int, stop: int) -> Pieces:
        assert self.blob, f"[{start}, {stop}) was asked for"
        return self.blob.stream(start, stop)


async def kept_whole(folder: Path) -> Path:
    """SONG, on disk; its data file."""
    async with caching(folder, memory=64 * MIB) as cache:
        blob = await cached(Tagged(cached(MemoryTree({}), cache)), cache).open("song")
        assert await blob.read() == SONG
        await blob.file.settled()  # type: ignore[attr-defined]
        assert blob.file.kept.held(0, len(SONG)) == len(SONG)  # type: ignore[attr-defined]
    [path] = folder.glob("*.data")
    return path


@pytest.mark.parametrize("start", [0, 5, RUN // 2, RUN // 2 + 3 * BLOCK])
@pytest.mark.parametrize("bad", [12, 16, 17, 23, 24, 31, 47])
async def test_a_block_that_was_spoilt_while_down_is_fetched_again(tmp_path: Path, start: int, bad: int) -> None:
    path = await kept_whole(tmp_path / "blocks")
    with path.open("r+b") as file:
        file.seek(bad * BLOCK + 5)
        file.write(b"wrong")
    upstream = Upstream(SONG, "v:song")
    async with caching(tmp_path / "blocks") as cache:
        blob = await cached(upstream, cache).open("f")
        async with asyncio.timeout(5):
            assert await got(blob, start, len(SONG)) == (SONG[start:], None)
        assert upstream.given <= FIRST


async def test_a_disk_that_fails_in_the_middle_ends_no_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(tmp_path / "blocks", {"film": FILM}) as (origin, tree, cache):
        assert cache.reservoir
        written = []
        write = cache.reservoir.write

        def fails(*arguments: object, **how: object) -> bool:
            written.append(arguments)
            return len(written) < 2 and write(*arguments, **how)  # type: ignore[arg-type]

        monkeypatch.setattr(cache.reservoir, "write", fails)
        blob = await tree.open("film")
        assert await collected(blob.stream(0, len(FILM))) == FILM
        assert len(written) > 1
        assert sum(stop - start for start, stop in ranges(origin, "film")) < 1.5 * len(FILM)


@pytest.mark.parametrize("count", [1, 4, 16])
async def test_a_folder_that_goes_away_ends_no_stream(
    tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "SOUND", 0.0)
    async with caching(tmp_path / "blocks") as cache:
        blob = await cached(Upstream(FILM), cache).open("f")
        data = b""
        async with aclosing(blob.stream(0, len(FILM))) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                data += taken(piece)
                count -= 1
                if not count:
                    for path in (tmp_path / "blocks").iterdir():
                        path.unlink()
        assert data == FILM


async def test_what_is_kept_is_here_as_spans(tmp_path: Path) -> None:
    await kept_whole(tmp_path / "blocks")
    async with caching(tmp_path / "blocks") as cache:
        blob = await cached(Tagged(None), cache).open("song")
        assert blob.here(0, len(SONG)) is None
        assert await got(blob, 0, len(SONG)) == (SONG, None)
        ready = blob.here(5, len(SONG))
        assert ready is not None
        assert all(isinstance(piece, FileSpan) for piece in ready)
        assert b"".join(map(taken, ready)) == SONG[5:]
        del ready


@pytest.mark.parametrize("why", list(Why))
async def test_what_nobody_listens_to_goes_first(tmp_path: Path, why: Why) -> None:
    async with caching(tmp_path / "blocks", memory=64 * MIB) as cache:
        blob = await cached(Upstream(SONG), cache).open("f", Ask(why=why))
        assert await blob.read() == SONG
        await blob.file.settled()  # type: ignore[attr-defined]
        kept = blob.file.kept  # type: ignore[attr-defined]
        assert set(kept.wanted) == {0}
        assert all((touched == 0) is (why >= Why.BULK) for touched in kept.touched)


# ── memory ──


async def test_memory_stays_within_its_budget(folder: Path | None) -> None:
    async with caching(folder) as cache:
        most = 0
        blob = await cached(Upstream(FILM), cache).open("f")

        async def reader(start: int) -> None:
            nonlocal most
            async with aclosing(blob.stream(start, len(FILM))) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    most = max(most, cache.held)
                    start += len(taken(piece))
            assert start == len(FILM)

        await asyncio.gather(*(reader(start) for start in range(0, len(FILM), 2 * MIB)))
        assert 0 < most <= cache.memory


async def test_pieces_that_somebody_holds_never_change(folder: Path | None) -> None:
    async with caching(folder) as cache:
        blob = await cached(Upstream(FILM), cache).open("f")
        held: list[tuple[int, Piece]] = []
        at = 0
        async with aclosing(blob.stream(0, len(FILM))) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                if not isinstance(piece, FileSpan):
                    held.append((at, piece))
                at += len(piece)
        for at, piece in held:
            assert taken(piece) == FILM[at : at + len(piece)]
        held.clear()
        del piece


async def test_memory_is_given_back_when_all_is_done(folder: Path | None) -> None:
    async with caching(folder) as cache:
        tree = cached(Upstream(FILM), cache)
        blob = await tree.open("f")
        for start in (0, 5 * MIB, 1):
            async with aclosing(blob.stream(start, len(FILM))) as pieces:  # type: ignore[type-var]
                await anext(pieces)
        await settled(lambda: not blob.file.fills)  # type: ignore[attr-defined]
        await blob.file.settled()  # type: ignore[attr-defined]
        while cache.ring:
            buffer, file = cache.ring.popitem(last=False)
            cache._drop(file, buffer)
        assert cache.held == 0
        assert not blob.file.memory  # type: ignore[attr-defined]
