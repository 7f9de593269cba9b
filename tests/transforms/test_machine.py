"""Reservoir and cache before an origin that lies, in any order of events: every byte that is given is right."""

import asyncio
import gc
import os
import random
import shutil
import tempfile
from contextlib import aclosing, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from playhead import Ask, Busy, Changed, Damaged, Unavailable
from playhead.origins.web import WebTree
from playhead.transforms import shelf
from playhead.transforms.cached import cached
from playhead.transforms.filling import Cache
from playhead.transforms.listed import listed
from playhead.transforms.reservoir import Reservoir
from tests.fakes.origin import Origin, instead, rst, short, status
from tests.laws import taken

MIB = 1 << 20
SIZE = 2 * MIB + 100_001
PATHS = ("a", "b", "c")
FAULTS = {"rst": rst(70_000), "503": status(503), "short": short(10), "none": rst(-1)}


def version(path: str, number: int) -> bytes:
    return random.Random(f"{path} {number}").randbytes(SIZE)


class Machine(RuleBasedStateMachine):
    """Three files whose versions change, 3 MiB of disk for them, and 4 MiB of memory."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.versions = {path: [version(path, 0)] for path in PATHS}
        self.seen: dict[str, int] = {}  # tag -> which version it is of
        self.origin = Origin({path: data[0] for path, data in self.versions.items()})
        self.runner.run(self.origin.__aenter__())
        self.begin()

    def begin(self) -> None:
        self.store = Reservoir(str(self.folder / "blocks"), 3 * MIB)
        self.cache = Cache(self.store, 4 * MIB)
        self.tree = cached(listed(WebTree(self.origin.url), self.folder / "listings", name="x"), self.cache)

    @rule(
        path=st.sampled_from(PATHS), start=st.integers(0, SIZE), length=st.integers(0, SIZE), pieces=st.integers(1, 9)
    )
    def read(self, path: str, start: int, length: int, pieces: int) -> None:
        self.runner.run(self._read(path, start, min(SIZE, start + length), pieces))

    @rule(ranges=st.lists(st.tuples(st.sampled_from(PATHS), st.integers(0, SIZE - 1)), min_size=2, max_size=5))
    def read_at_once(self, ranges: list[tuple[str, int]]) -> None:
        async def all_of_them() -> None:
            await asyncio.gather(*(self._read(path, start, SIZE, 1000) for path, start in ranges))

        self.runner.run(all_of_them())

    async def _read(self, path: str, start: int, stop: int, pieces: int) -> None:
        try:
            async with asyncio.timeout(15):
                blob = await self.tree.open(path, Ask(start, stop))
                at = start
                async with aclosing(blob.stream(start, stop)) as stream:  # type: ignore[type-var]
                    async for piece in stream:
                        at = self._right(path, blob.tag, at, taken(piece))
                        pieces -= 1
                        if not pieces:
                            return
                assert at == stop
        except (Unavailable, Changed, Damaged, Busy):
            return

    def _right(self, path: str, tag: str | None, at: int, data: bytes) -> int:
        of = [number for number, whole in enumerate(self.versions[path]) if whole[at : at + len(data)] == data]
        assert of, f"wrong bytes at {at}"
        if len(data) > 16 and tag:
            assert self.seen.setdefault(tag, of[0]) == of[0]
        return at + len(data)

    @rule(path=st.sampled_from(PATHS), kinds=st.lists(st.sampled_from(sorted(FAULTS)), min_size=1, max_size=3))
    def lie(self, path: str, kinds: list[str]) -> None:
        self.origin.script[path] = [FAULTS[kind] for kind in kinds]

    @rule(path=st.sampled_from(PATHS))
    def change(self, path: str) -> None:
        self.versions[path].append(version(path, len(self.versions[path])))
        self.origin.files[path] = self.versions[path][-1]

    @rule(path=st.sampled_from(PATHS))
    def change_for_one_answer(self, path: str) -> None:
        new = version(path, len(self.versions[path]))
        self.versions[path].append(new)
        self.origin.script[path] = [instead(new, ETag=f'"{len(self.versions[path])}"')]

    @rule(seed=st.integers(0, 1000), flips=st.integers(0, 4), killed=st.booleans())
    def restart(self, seed: int, flips: int, killed: bool) -> None:
        self.end(killed)
        chance = random.Random(seed)
        paths = sorted(path for path in (self.folder / "blocks").glob("*.*") if path.stat().st_size)
        for _ in range(flips if paths else 0):
            path = chance.choice(paths)
            data = os.open(path, os.O_RDWR)
            at = chance.randrange(os.fstat(data).st_size)
            os.pwrite(data, bytes([os.pread(data, 1, at)[0] ^ 1 << chance.randrange(8)]), at)
            os.close(data)
        self.begin()

    def end(self, killed: bool) -> None:
        self.runner.run(self.tree.aclose())
        if killed:
            self.runner.run(asyncio.sleep(0.05))
            os.close(self.store.lock_file)
        else:
            self.runner.run(self.cache.aclose())
        gc.collect()

    @invariant()
    def it_takes_no_more_than_it_may(self) -> None:
        size = 0
        for path in (self.folder / "blocks").iterdir():
            with suppress(FileNotFoundError):  # it has just been evicted
                size += path.lstat().st_blocks * 512
        assert size <= 4 * MIB

    def teardown(self) -> None:
        self.end(False)
        self.runner.run(self.origin.__aexit__())
        self.runner.close()
        shutil.rmtree(self.folder)


def run(examples: int, steps: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "SOUND", 0.0)


def test_whatever_happens_every_byte_is_right() -> None:
    run(10, 18)


@pytest.mark.torture
def test_whatever_happens_for_long_every_byte_is_right() -> None:
    run(600, 50)
