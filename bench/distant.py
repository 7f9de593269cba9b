"""Benchmarks of many distant files as one: small ones, and a range of a huge archive. The origin is an nginx, with a
delaying proxy before it."""

import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import loads, peers, runs
from bench.archived import (
    ALBUM,
    SMALL,
    TAR,
    WITHIN,
    Bundle,
    Item,
    album,
    fresh,
    items,
    right,
    small,
    tracks,
)
from bench.delay import Link, delayed
from bench.economy import SETTLED
from bench.figures import Column, Goal, Report, Row, Sample, Table, ratio
from bench.ground import Ground
from bench.kept import PAUSE, ROUND_TRIPS, emptied
from bench.peers import PLAYHEAD, PLAYHEAD_KEPT, Broken, Server
from bench.player import Player

AWAY = 0.05
AT_ONCE = 96  # transfers of curl
FIRST, SECONDS = Column("first byte, ms", ".1f"), Column("all, s")
REQUESTS, LINKS = Column("requests", ",.1f"), Column("connections", ",.0f")
DIRECT = f"curl -Z, {AT_ONCE} at a time"

HUGE, VAST = 500, 100_000_000  # how many sparse files there are, and the size of each
LAST, FETCHED = Column("last byte, ms", ".1f"), Column("fetched, KiB", ",.0f")


# ── distant files ──


def pack_remote(ground: Ground) -> Report:
    number, title = ground.amount.small, f"{AWAY * 1000:.0f} ms"
    with ExitStack() as stack:
        within = stack.enter_context(emptied(ground))
        laid = stack.enter_context(album(within, number, small))
        origin = stack.enter_context(peers.nginx(str(laid.folder), laid.scratch))
        link, other = [stack.enter_context(delayed(origin.base, AWAY)) for _ in range(2)]
        server, members = stack.enter_context(runs.one(PLAYHEAD, link.base, laid)), items(laid)
        row = Row(PLAYHEAD)
        row.attempt(partial(right, partial(fresh, server, members, TAR), TAR, laid), counts=False)
        runs.say(f"{row.name}: {row.note or 'is right'}")
        direct = partial(one_by_one, other, laid)
        rows = runs.alternating(
            [(row, partial(gathered, server, link, members)), (Row(DIRECT), direct)], ground.amount.rounds
        )
    first = row.median(FIRST.title)
    goals = [
        Goal(f"all of {number:,} files", row.median(SECONDS.title), target=15, most=True, unit="s"),
        Goal(
            f"first byte of the archive beyond the round trip of {title}",
            None if first is None else first - AWAY * 1000,
            target=20,
            most=True,
            unit="ms",
        ),
        Goal(f"all vs {DIRECT}", ratio(rows, SECONDS.title, PLAYHEAD, DIRECT), most=True),
    ]
    about = (
        f"{number:,} files of {SMALL >> 10} KiB that an nginx has, {title} away, as one tar: a new bundle each time, "
        f"whose list tells the sizes, through a gateway that keeps nothing. One after the other would take "
        f"{number * AWAY:,.0f} s. Beside it curl fetches the files themselves through a link of its own; a link is a "
        "program in Python, and may be what is measured."
    )
    tables = [
        Table("", (FIRST, SECONDS, REQUESTS, LINKS), rows[:1]),
        Table("The files themselves", (SECONDS, REQUESTS, LINKS), rows[1:]),
    ]
    return Report("pack-remote", "Small distant files as one archive", about, tables, goals)


def gathered(server: Server, link: Link, members: Sequence[Item]) -> Sample:
    before = link.passed()
    bundle = fresh(server, members, TAR)
    if link.passed().requests != before.requests:
        raise Broken("the origin was asked for what the list tells")
    first, last = loads.into_sink(bundle.server, bundle.size, bundle.path)
    return {FIRST.title: first * 1000, SECONDS.title: last, **passed(link, before.requests, before.connections)}


def passed(link: Link, requests: int, connections: int) -> Sample:
    now = link.passed()
    return {REQUESTS.title: now.requests - requests, LINKS.title: now.connections - connections}


def one_by_one(link: Link, ground: Ground) -> Sample:
    """The files themselves, as many at a time as Playhead opens before their turn."""
    config, before = ground.scratch / "curl.config", link.passed()
    urls = [f"{link.base}{ALBUM}/{path.name}" for path in tracks(ground)]
    config.write_text("".join(f'url = "{url}"\noutput = "/dev/null"\n' for url in urls))
    command = [peers.program("curl"), "-s", "-Z", "--parallel-max", str(AT_ONCE), "-K", str(config)]
    began = time.perf_counter()
    done = subprocess.run([*command, "-w", "%{http_code} %{size_download}\\n"], capture_output=True, timeout=WITHIN)
    seconds, got = time.perf_counter() - began, done.stdout.splitlines().count(f"200 {SMALL}".encode())
    if done.returncode or got != len(urls):
        raise Broken(f"curl got {got} of {len(urls)} files, exit {done.returncode}")
    return {SECONDS.title: seconds, **passed(link, before.requests, before.connections)}


# ── a range of a huge one ──


def pack_range(ground: Ground) -> Report:
    tables, goals = [], []
    with emptied(ground) as within, album(within, HUGE, sparse) as laid:
        for round_trip in ROUND_TRIPS:
            rows, title = looked(laid, round_trip), f"{round_trip * 1000:.0f} ms"
            tables.append(Table(f"{title} round trip", (FIRST, LAST, REQUESTS, FETCHED), rows))
            goals += beyond(rows, round_trip, title)
    about = (
        f"64 KiB out of the middle of a tar of {HUGE * VAST / 1e9:,.0f} GB, which would hold {HUGE} files of "
        f"{VAST // 1_000_000} MB that an nginx has; each time in another file, never looked at before. The list tells "
        "the sizes, and making the bundle asks the origin nothing. From sending the request, on a connection that is "
        "open, to the first byte of its body and to the last. A proxy delays what passes between gateway and origin, "
        "but not the TCP handshake. `keeping` fetches whole pieces, and reads ahead."
    )
    return Report("pack-range", "A range of a huge archive", about, tables, goals)


def sparse(path: Path) -> None:
    """Nothing but zeros, and what will be looked at."""
    with path.open("wb") as file:
        file.truncate(VAST)
        file.seek(VAST // 2)
        file.write(os.urandom(loads.RANGE))


def looked(ground: Ground, round_trip: float) -> list[Row]:
    with ExitStack() as stack:
        within = stack.enter_context(emptied(ground))
        origin = stack.enter_context(peers.nginx(str(ground.folder), within.scratch))
        measured, members = list[tuple[Row, Server, Link, Bundle]](), items(ground)
        for name in (PLAYHEAD, PLAYHEAD_KEPT):
            link = stack.enter_context(delayed(origin.base, round_trip))
            server = stack.enter_context(runs.one(name, link.base, within))
            time.sleep(SETTLED + round_trip)  # a gateway that keeps goes on with what the check asked for
            before = link.passed().requests
            bundle = fresh(server, members, TAR)
            if link.passed().requests != before:
                raise Broken("the origin was asked for what the list tells")
            measured.append((Row(name), server, link, bundle))
        for turn in range(ground.amount.fresh + 1):
            for row, _, link, bundle in measured:
                track = HUGE // 2 + turn
                look = partial(glimpse, bundle, link, tracks(ground)[track], track, round_trip)
                row.attempt(look, counts=turn > 0)
            runs.say(f"{round_trip * 1000:.0f} ms, range {turn} of {ground.amount.fresh}")
        return [row for row, *_ in measured]


def glimpse(bundle: Bundle, link: Link, file: Path, track: int, round_trip: float) -> Sample:
    """The middle of a member, whose place follows from the sizes: each has a header, and ends on 512 bytes."""
    with file.open("rb") as opened:
        opened.seek(VAST // 2)
        wanted = opened.read(loads.RANGE)
    place = track * (512 + VAST + -VAST % 512) + 512 + VAST // 2
    with Player(bundle.server) as player:
        before = link.passed()
        first, last = player.fetch(bundle.path, place, wanted)
        time.sleep(round_trip + PAUSE)  # what goes on is counted too
        after = link.passed()
    return {
        FIRST.title: first * 1000,
        LAST.title: last * 1000,
        REQUESTS.title: after.requests - before.requests,
        FETCHED.title: (after.bytes - before.bytes) / 1024,
    }


def beyond(rows: Sequence[Row], round_trip: float, title: str) -> list[Goal]:
    ours = next(row for row in rows if row.name == PLAYHEAD)
    goals = []
    for column, what in ((FIRST, "first byte"), (LAST, "last byte")):
        median = ours.median(column.title)
        over = None if median is None else median - round_trip * 1000
        goals.append(Goal(f"{what} beyond the round trip of {title}", over, target=20, most=True, unit="ms"))
    asked = ours.median(REQUESTS.title)
    return [*goals, Goal(f"asked of the origin at {title}", asked, target=1, most=True, unit="requests")]
