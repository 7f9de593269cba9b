"""A file that is still being downloaded is read as it will be: from its beginning, and from where nothing has come."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from playhead import Blob, Changed, NotFound, Unavailable
from playhead.app.incoming import Incoming
from playhead.config import Config
from playhead.doors.download import Download
from playhead.origins.local import LocalTree
from playhead.starting import Starting
from tests.fakes import origin as lies
from tests.fakes.origin import Origin, settled

DATA = random.Random(6).randbytes((12 << 20) + 777)


@asynccontextmanager
async def fetching(origin: Origin, folder: Path) -> AsyncIterator[tuple[Incoming, Download, "asyncio.Task[None]"]]:
    """A download that runs, and the folder as it is served."""
    job = Starting(Config())([f"{origin.url}film.mp4"], {"dir": str(folder), "split": "1"})
    task = asyncio.create_task(job.run())
    tree = Incoming(LocalTree(folder), folder, lambda: [job])
    try:
        await settled(lambda: (job.partial is not None and job.partial.written > 0) or task.done())
        yield tree, job, task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task
        await tree.aclose()


async def test_it_is_there_from_its_first_bytes_on_and_whole_to_its_reader(tmp_path: Path) -> None:
    async with Origin({"film.mp4": DATA}) as origin:
        origin.always["film.mp4"] = lies.halting(0.005)
        async with fetching(origin, tmp_path) as (tree, _job, task):
            entries = [entry async for entry in tree.entries()]
            assert [(entry.name, entry.size) for entry in entries] == [("film.mp4", len(DATA))]
            assert await (await tree.open("film.mp4")).read() == DATA
            await task
        assert (tmp_path / "film.mp4").read_bytes() == DATA


async def test_a_reader_far_ahead_is_served_before_what_lies_between(tmp_path: Path) -> None:
    async with Origin({"film.mp4": DATA}) as origin:
        origin.always["film.mp4"] = lies.halting(0.02)
        async with fetching(origin, tmp_path) as (tree, job, _):
            blob = await tree.open("film.mp4")
            at = 10 << 20
            assert await blob.read(at, at + 1000) == DATA[at : at + 1000]
            assert job.partial is not None and job.partial.written < len(DATA) // 2
            assert blob.here(at, at + 1000) and not blob.here(at - (2 << 20), at)


async def test_a_reader_goes_on_when_it_is_whole_and_has_its_name(tmp_path: Path) -> None:
    async with Origin({"film.mp4": DATA}) as origin, fetching(origin, tmp_path) as (tree, _, task):
        blob = await tree.open("film.mp4")
        await task
        assert await blob.read() == DATA


async def test_a_reader_of_a_download_that_ends_early_is_told(tmp_path: Path) -> None:
    async with Origin({"film.mp4": DATA}) as origin:
        origin.always["film.mp4"] = lies.halting(0.02)
        async with fetching(origin, tmp_path) as (tree, _, task):
            blob: Blob = await tree.open("film.mp4")
            reading = asyncio.create_task(blob.read())
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises((Unavailable, Changed)):
                async with asyncio.timeout(5):
                    await reading


async def test_a_reader_never_gets_two_versions_where_the_file_is_fetched_anew(tmp_path: Path) -> None:
    """The part is the same file, in which another version is written from then on."""
    other = random.Random(7).randbytes(len(DATA))
    async with Origin({"film.mp4": DATA}) as origin:
        origin.always["film.mp4"] = lies.halting(0.005)
        async with fetching(origin, tmp_path) as (tree, job, task):
            blob = await tree.open("film.mp4")
            first = await blob.read(0, 64 << 10)
            before = job.partial
            origin.files["film.mp4"] = other
            for link in list(origin.links):
                link.abort()
            await settled(lambda: task.done() or (job.partial is not before and job.partial.written > 1 << 20))
            assert first == DATA[: 64 << 10] and blob.here(0, 1000) is None
            with pytest.raises(Changed):
                await blob.read(0, 64 << 10)
            await task
        assert (tmp_path / "film.mp4").read_bytes() == other


async def test_where_nothing_tells_the_version_a_reader_far_ahead_waits_its_turn(tmp_path: Path) -> None:
    """A second answer might be of another version, with nothing before it to compare it with."""
    async with Origin({"film.mp4": DATA}, validators="") as origin:
        origin.always["film.mp4"] = lies.halting(0.002)
        async with fetching(origin, tmp_path) as (tree, _, _task):
            blob = await tree.open("film.mp4")
            at = 10 << 20
            assert await blob.read(at, at + 1000) == DATA[at : at + 1000]
            assert len(origin.requests) == 1


async def test_what_a_download_keeps_beside_its_target_is_not_shown(tmp_path: Path) -> None:
    for name in ("a.part", "a.part.journal", "a.part.old", "a.part.old.2", "b.ogg"):
        (tmp_path / name).write_bytes(b"x")
    tree = Incoming(LocalTree(tmp_path), tmp_path, list)
    assert [entry.name async for entry in tree.entries()] == ["b.ogg"]
    with pytest.raises(NotFound):
        await tree.open("a.part")
    await tree.aclose()
