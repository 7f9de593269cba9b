"""Benchmarks of gateways that keep what was read: how long a first byte takes, how fast kept bytes leave, and how fast
they are fetched. The origin is an nginx; where it is far, a delaying proxy stands before it."""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench import loads, meters, peers, runs
from bench.delay import delayed
from bench.figures import Column, Goal, Report, Row, Sample, Table, ratio
from bench.ground import FILE, MIB, Ground, made
from bench.local import SMALL, WHOLE
from bench.peers import NGINX_SLICE, PLAYHEAD_KEPT, RCLONE_FULL, RCLONE_TUNED
from bench.player import Player
from bench.runs import CPU, CURL, RATE, SINK

ROUND_TRIPS = (0.05, 0.3)
FRESH_SIZE = 16 * MIB
SOUGHT = 10 * MIB
HOT_ASKS, HOT_SECONDS = 50, 1.0
PAUSE = 0.2
LAST_WEEK = 7 * 86400
KEEPERS = (PLAYHEAD_KEPT, NGINX_SLICE, RCLONE_FULL)
WAITERS = (PLAYHEAD_KEPT, NGINX_SLICE, RCLONE_FULL, RCLONE_TUNED)
OVER_TLS = f"{PLAYHEAD_KEPT}, TLS"
COLD, SEEK, HOT = Column("cold, ms", ".1f"), Column("after a seek, ms", ".1f"), Column("hot p50, ms")
FILLED = Column("cold fill, GiB/s")


@contextmanager
def offering(ground: Ground, files: Mapping[str, int]) -> Iterator[Ground]:
    """A ground whose origin has these files, and a small one for the check; all are old enough to be trusted."""
    folder = Path(tempfile.mkdtemp(prefix="offered-", dir=ground.scratch))
    folder.chmod(0o755)
    try:
        for name, size in {FILE: MIB, **files}.items():
            made(folder / name, size)
            os.utime(folder / name, (time.time() - LAST_WEEK,) * 2)
        yield replace(ground, folder=folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def emptied(ground: Ground) -> Iterator[Ground]:
    """A ground with scratch of its own: what is kept there is deleted on the way out."""
    scratch = Path(tempfile.mkdtemp(prefix="emptied-", dir=ground.scratch))
    scratch.chmod(0o755)
    try:
        yield replace(ground, scratch=scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


# ── the first byte ──


def kept_latency(ground: Ground) -> Report:
    names = [f"track-{number}.bin" for number in range(ground.amount.fresh + 1)]
    tables, goals = [], []
    with offering(ground, dict.fromkeys(names, FRESH_SIZE)) as offered:
        for round_trip in ROUND_TRIPS:
            rows = first_bytes(offered, names, round_trip)
            title = f"{round_trip * 1000:.0f} ms"
            tables.append(Table(f"{title} round trip", (COLD, SEEK, HOT), rows))
            goals += [*within(rows, round_trip, title), *compared(rows, title)]
    about = (
        "From sending a request for 64 KiB, on a connection that is open, to the first byte of its body. Cold: the "
        f"first request for a file of {FRESH_SIZE >> 20} MiB; after a seek: then for its middle; hot: then what was "
        "read before. A proxy delays what passes between gateway and origin, but not the TCP handshake."
    )
    return Report("kept-latency", "The first byte of a distant file", about, tables, goals)


def first_bytes(ground: Ground, names: list[str], round_trip: float) -> list[Row]:
    with ExitStack() as stack:
        within = stack.enter_context(emptied(ground))
        origin = stack.enter_context(peers.nginx(str(ground.folder), within.scratch))
        link = stack.enter_context(delayed(origin.base, round_trip))
        servers = [*stack.enter_context(runs.up(WAITERS, link.base, within))]
        row, server = runs.entered(stack, PLAYHEAD_KEPT, link.base, within, tls=True)
        row.name = OVER_TLS
        servers.append((row, server))
        for turn, name in enumerate(names):
            for row, server in servers:
                if server is not None:
                    row.attempt(partial(visited, server, ground.folder / name), counts=turn > 0)
                    time.sleep(round_trip + PAUSE)
            runs.say(f"{round_trip * 1000:.0f} ms, file {turn} of {len(names) - 1}")
        return [row for row, _ in servers]


def visited(server: peers.Server, file: Path) -> Sample:
    with file.open("rb") as opened:
        start = opened.read(loads.RANGE)
        opened.seek(SOUGHT)
        middle = opened.read(loads.RANGE)
    with Player(server) as player:
        cold, seek = player.ask(file.name, 0, start), player.ask(file.name, SOUGHT, middle)
        began, again = time.monotonic(), list[float]()
        while len(again) < HOT_ASKS and time.monotonic() - began < HOT_SECONDS:
            again.append(player.ask(file.name, 0, start))
    hot = statistics.median(again)
    return {COLD.title: cold * 1000, SEEK.title: seek * 1000, HOT.title: hot * 1000}


def within(rows: list[Row], round_trip: float, title: str) -> list[Goal]:
    ours = next(row for row in rows if row.name == PLAYHEAD_KEPT)
    goals = []
    for column, what in ((COLD, "cold"), (SEEK, "after a seek")):
        median = ours.median(column.title)
        beyond = None if median is None else median - round_trip * 1000
        goals.append(Goal(f"{what} beyond the round trip of {title}", beyond, target=15, most=True, unit="ms"))
    return [*goals, Goal(f"hot p50 at {title}", ours.median(HOT.title), target=0.5, most=True, unit="ms")]


def compared(rows: list[Row], title: str) -> list[Goal]:
    return [
        Goal(f"{what} at {title} vs {peer}", ratio(rows, column.title, PLAYHEAD_KEPT, peer), most=True)
        for column, what in ((COLD, "cold"), (SEEK, "after a seek"), (HOT, "hot p50"))
        for peer in (RCLONE_FULL, NGINX_SLICE)
    ]


# ── kept files ──


def kept_hot(ground: Ground) -> Report:
    with ExitStack() as stack:
        within = stack.enter_context(emptied(ground))
        origin = stack.enter_context(peers.nginx(str(ground.folder), within.scratch))
        servers = stack.enter_context(runs.up(KEEPERS, origin.base, within))
        for row, server in servers:
            if server is not None:
                row.attempt(partial(fetched, server, ground), counts=False)
        os.sync()
        rows = runs.in_turn(servers, ground.amount.rounds, runs.whole_file(ground))
        one = runs.in_turn(servers, ground.amount.rounds, runs.small_ranges(ground, 1))
        many = runs.in_turn(servers, ground.amount.rounds, runs.small_ranges(ground, 64))
    goals = [
        Goal("curl vs nginx slice", ratio(rows, CURL.title, PLAYHEAD_KEPT, NGINX_SLICE), target=1.0),
        Goal("copying sink vs nginx slice", ratio(rows, SINK.title, PLAYHEAD_KEPT, NGINX_SLICE), target=1.0),
        Goal("CPU s/GiB vs nginx slice", ratio(rows, CPU.title, PLAYHEAD_KEPT, NGINX_SLICE), most=True),
        Goal("curl vs rclone vfs full", ratio(rows, CURL.title, PLAYHEAD_KEPT, RCLONE_FULL)),
        Goal(
            "rps at 64 connections vs rclone vfs full",
            ratio(many, RATE.title, PLAYHEAD_KEPT, RCLONE_FULL),
            target=1.5,
        ),
        Goal("rps at 64 connections vs nginx slice", ratio(many, RATE.title, PLAYHEAD_KEPT, NGINX_SLICE)),
        Goal("rps at 1 connection vs nginx slice", ratio(one, RATE.title, PLAYHEAD_KEPT, NGINX_SLICE)),
        Goal("rps at 1 connection vs rclone vfs full", ratio(one, RATE.title, PLAYHEAD_KEPT, RCLONE_FULL)),
    ]
    about = f"A remote file of {ground.amount.size >> 20} MiB that each gateway has fetched once before, and keeps."
    tables = [
        Table("Whole", WHOLE, rows),
        Table("Ranges of 64 KiB, 1 connection", SMALL, one),
        Table("Ranges of 64 KiB, 64 connections", SMALL, many),
    ]
    return Report("kept-hot", "A kept file", about, tables, goals)


def fetched(server: peers.Server, ground: Ground) -> Sample:
    return {CURL.title: loads.curl(server, ground.amount.size)}


# ── the cold fill ──


def kept_fill(ground: Ground) -> Report:
    rows = [Row(name) for name in KEEPERS]
    with peers.nginx(str(ground.folder), ground.scratch) as origin:
        for turn in range(-1, ground.amount.rounds):
            first = turn % len(rows)  # for what one leaves in memory helps or hinders the next
            for row in rows[first:] + rows[:first]:
                row.attempt(partial(filled, row.name, origin.base, ground), counts=turn >= 0)
            runs.say(f"round {turn + 1} of {ground.amount.rounds}")
    goals = [
        Goal("cold fill vs nginx slice", ratio(rows, FILLED.title, PLAYHEAD_KEPT, NGINX_SLICE), target=2.0),
        Goal("cold fill vs rclone vfs full", ratio(rows, FILLED.title, PLAYHEAD_KEPT, RCLONE_FULL), target=2.5),
        Goal("CPU s/GiB vs nginx slice", ratio(rows, CPU.title, PLAYHEAD_KEPT, NGINX_SLICE), most=True),
        Goal("CPU s/GiB vs rclone vfs full", ratio(rows, CPU.title, PLAYHEAD_KEPT, RCLONE_FULL), most=True),
    ]
    about = (
        f"A file of {ground.amount.size >> 20} MiB that was never read, whole into curl; a fresh server and an empty "
        "cache each time, and another server first in each round. The processor time is the gateway's alone; where "
        "the machine has to get each new page from its host, much of it is for the pages."
    )
    return Report(
        "kept-fill", "The first reading of a file that is kept", about, [Table("", (FILLED, CPU), rows)], goals
    )


def filled(name: str, source: str, ground: Ground) -> Sample:
    size = ground.amount.size
    with emptied(ground) as within, peers.EVERY[name](source, within.scratch) as server:
        before = meters.processor_seconds(server.group)
        speed = loads.curl(server, size)
        spent = meters.processor_seconds(server.group) - before
        loads.check(server, ground.file)
    os.sync()
    return {FILLED.title: speed, CPU.title: spent / (size / loads.GIB)}
