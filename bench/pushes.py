"""Benchmarks of a folder that is copied to where people keep files, beside `rclone copy`; all of it is compared there.

Each run has a place of its own in the store, and a copier that knows nothing of earlier ones.
"""

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from shutil import rmtree

from bench import downloaders, peers, runs, stores
from bench.commands import PLAYHEAD, environment, ran
from bench.figures import FAULTS, Column, Goal, Report, Row, Sample, Table, ratio
from bench.ground import MIB, Ground
from bench.kept import LAST_WEEK, emptied
from bench.loads import GIB
from bench.peers import Broken
from bench.stores import Store

OURS, MORE = "playhead", "playhead -n 16"
RCLONE, TUNED = "rclone copy", "rclone copy, tuned"
SMALLEST, LARGEST, FOLDERS = 4 << 10, 40 << 10, 20
PART = 5  # of the small files of an archive
HALF = 2  # of the whole file of other benchmarks, where it is a quick look
AWAY = 0.05
ROUNDS = 3
SLOWEST, FEWEST, PATIENCE = 5 * MIB, 5, 60.0  # bytes and files per second, and seconds more

SPEED, FILES = Column("MB/s", ",.1f"), Column("files/s", ",.1f")
EACH, REQUESTS = Column("requests per file"), Column("requests", ",.0f")
SECONDS, COST, SPENT = Column("s"), Column("CPU s/GiB"), Column("CPU s")
PEAK = Column("peak resident MB", ",.0f")
numbers = count()


@dataclass(frozen=True, slots=True)
class Source:
    folder: Path
    files: Mapping[str, str]  # and the SHA-256 of each
    size: int

    @property
    def within(self) -> float:
        return self.size / SLOWEST + len(self.files) / FEWEST + PATIENCE


@contextmanager
def small_files(ground: Ground) -> Iterator[Source]:
    some, size, amount = Random(7), 0, ground.amount.small // PART
    with sourced(ground) as folder:
        for number in range(amount):
            place = folder / f"{number % FOLDERS:02d}" / f"{number:05d}.bin"
            place.parent.mkdir(exist_ok=True)
            data = some.randbytes(some.randrange(SMALLEST, LARGEST))
            place.write_bytes(data)
            size += len(data)
        yield Source(folder, aged(folder), size)


@contextmanager
def large_file(ground: Ground) -> Iterator[Source]:
    size = ground.amount.size if ground.amount.size >= GIB else ground.amount.size // HALF
    with sourced(ground) as folder:
        with (folder / "large.bin").open("wb") as file, ground.file.open("rb") as other:
            for _ in range(size // MIB):
                file.write(other.read(MIB))
        yield Source(folder, aged(folder), size)


@contextmanager
def sourced(ground: Ground) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="pushed-", dir=ground.scratch))
    try:
        yield folder
    finally:
        rmtree(folder, ignore_errors=True)


def aged(folder: Path) -> Mapping[str, str]:
    """The digests of what was made, which now is as old as most files are."""
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - LAST_WEEK,) * 2)
    return stores.digests(folder)


# ── one run ──


def command(store: Store, name: str, source: Source, to: str, tuned: Sequence[str]) -> list[str]:
    if name in (OURS, MORE):
        options = ["-n", "16"] if name == MORE else []
        return [*PLAYHEAD, "push", *options, str(source.folder), f"store:{to}"]
    options = list(tuned) if name == TUNED else []
    return [peers.program("rclone"), "copy", str(source.folder), f"{store.remote}{to}", *store.options, *options]


def pushed(ground: Ground, store: Store, name: str, source: Source, tuned: Sequence[str]) -> Sample:
    to = f"run-{next(numbers)}"
    downloaders.touched(source.size)
    with emptied(ground) as within:
        extra, before = environment(within.scratch / "home", store.table), store.asked()
        try:
            copy = command(store, name, source, to, tuned)
            run = ran(copy, extra, source.within, within.scratch / "said")
            asked = store.asked() - before
            compared(source, store.held(to))
        finally:
            removed(store, to)
    return {
        SPEED.title: source.size / 1e6 / run.seconds,
        FILES.title: len(source.files) / run.seconds,
        EACH.title: asked / len(source.files),
        REQUESTS.title: asked,
        SECONDS.title: run.seconds,
        COST.title: run.spent / (source.size / GIB),
        SPENT.title: run.spent,
        PEAK.title: run.peak / 1e6,
    }


def compared(source: Source, held: Mapping[str, str]) -> None:
    if held != source.files:
        same = sum(held.get(name) == digest for name, digest in source.files.items())
        raise Broken(f"{same:,} of {len(source.files):,} files are there as they were, and {len(held):,} in all")


def removed(store: Store, to: str) -> None:
    try:
        store.remove(to)
    except (OSError, KeyError):
        pass  # there is nothing, and the run says why


# ── the benchmarks ──


def push_small(ground: Ground) -> Report:
    with small_files(ground) as source:
        tables = [*measured(ground, source, (OURS, MORE, RCLONE, TUNED), (FILES, EACH, SPENT, PEAK), small=True)]
    goals: list[Goal] = []
    for table in tables:
        goals += beside(table, FILES, {RCLONE: (1.5, None), TUNED: (None, 1.0)})
        goals.append(Goal(f"{table.caption}: -n 16 vs {TUNED}", ratio(table.rows, FILES.title, MORE, TUNED)))
    about = (
        f"{len(source.files):,} files of {SMALLEST >> 10} to {LARGEST >> 10} KiB in {FOLDERS} folders, {far()}. Tuned, "
        "rclone has 16 transfers and 16 checkers, and may ask the Drive 100 times a second instead of 10."
    )
    return Report("push-small", "Copying small files to a store", about, tables, goals)


def push_large(ground: Ground) -> Report:
    with large_file(ground) as source:
        tables = [*measured(ground, source, (OURS, RCLONE, TUNED), (SPEED, COST, PEAK, REQUESTS), small=False)]
    goals: list[Goal] = []
    for table in tables:
        goals += beside(table, SPEED, {RCLONE: (1.0, None), TUNED: (None, None)})
        goals.append(
            Goal(f"{table.caption}: CPU s/GiB vs {RCLONE}", ratio(table.rows, COST.title, OURS, RCLONE), most=True)
        )
    about = (
        f"A file of {source.size >> 20} MiB, {far()}. Tuned, rclone sends parts of 64 MiB to the Drive, and 8 of 16 "
        "MiB at once to S3."
    )
    return Report("push-large", "Copying a large file to a store", about, tables, goals)


def far() -> str:
    return (
        f"to stores that are {AWAY * 1000:.0f} ms away: a Google Drive that is not Google's, and folders of this "
        "machine behind `rclone serve webdav` and `rclone serve s3`. A handshake takes no time. The processor time is "
        "the copier's alone"
    )


def measured(
    ground: Ground, source: Source, names: Sequence[str], columns: Sequence[Column], small: bool
) -> Iterator[Table]:
    for title, opened in stores.EVERY.items():
        runs.say(title)
        rows = [Row(name) for name in names]
        try:
            with emptied(ground) as within, opened(within, AWAY) as store:
                tuned = store.small if small else store.large
                each = [(row, partial(pushed, within, store, row.name, source, tuned)) for row in rows]
                runs.alternating(each, min(ROUNDS, ground.amount.rounds))
        except FAULTS as reason:
            for row in rows:
                row.fail(reason)
        yield Table(title, columns, rows)


def beside(table: Table, column: Column, targets: Mapping[str, tuple[float | None, float | None]]) -> Iterator[Goal]:
    for peer, bounds in targets.items():
        what = f"{table.caption}: {column.title} vs {peer}"
        yield Goal(what, ratio(table.rows, column.title, OURS, peer), *bounds)
