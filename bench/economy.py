"""Benchmarks of what keeping costs others: how little is asked of the origin, and how much memory listeners take."""

import resource
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial

from bench import loads, meters, peers, runs
from bench.delay import Link, delayed
from bench.figures import Column, Goal, Report, Row, Sample, Table, ratio
from bench.ground import MIB, Ground
from bench.kept import emptied, offering
from bench.local import EACH, PACED, SERVED, SOCKETS, WAIT
from bench.peers import NGINX_SLICE, PLAYHEAD_KEPT, RCLONE_FULL, RCLONE_STREAMS, Broken, Server
from bench.player import NARROW, play

SHARERS = (PLAYHEAD_KEPT, RCLONE_FULL)
PLAYERS = (PLAYHEAD_KEPT, NGINX_SLICE, RCLONE_FULL)
PULLERS = (PLAYHEAD_KEPT, NGINX_SLICE, RCLONE_FULL, RCLONE_STREAMS)
HEARERS = (PLAYHEAD_KEPT, NGINX_SLICE)
TOGETHER, AWAY = 50, 0.05
SETTLED = 2.0  # seconds until what was under way has come, or was given up
SLOW = 2_000_000  # bytes per second on each connection to a slow origin
LONGEST = 45  # seconds; a transfer is cut off there, and its speed until then counts
TRACKS, TRACK = 32, 8 * MIB
ARRIVED = 8.0  # seconds, when all listeners have come
SPARE_FILES = 500

FETCHED, ALL = Column("fetched / size", ".3f"), Column("all readers, GiB/s")
UPSTREAM, REQUESTS = Column("fetched, MiB"), Column("requests", ",.0f")
PULLED, TIMES, LINKS = Column("MB/s"), Column("times one connection"), Column("connections afterwards", ",.0f")
EARLY, LATER = Column("resident MB at first", ",.0f"), Column("resident MB at the end", ",.0f")

Measured = Callable[[Server, Link, str], Sample]
Linked = Sequence[tuple[Row, Server | None, Link]]


@contextmanager
def linked(names: Sequence[str], ground: Ground, round_trip: float = 0.0, rate: int = 0) -> Iterator[Linked]:
    """The servers, each with a link of its own to one origin."""
    with ExitStack() as stack:
        within = stack.enter_context(emptied(ground))
        origin = stack.enter_context(peers.nginx(str(ground.folder), within.scratch))
        links = [stack.enter_context(delayed(origin.base, round_trip, rate)) for _ in names]
        yield [
            (*runs.entered(stack, name, link.base, within, False), link)
            for name, link in zip(names, links, strict=True)
        ]


def kept_economy(ground: Ground) -> Report:
    names = [f"shared-{turn}.bin" for turn in range(ground.amount.shared_rounds)]
    with offering(ground, dict.fromkeys(names, ground.amount.shared)) as offered:
        with linked(SHARERS, offered, AWAY) as servers:
            sharing = measured(servers, names, partial(shared, ground), at_once=False)
        with linked(PLAYERS, offered) as servers:
            playing = measured(servers, names, partial(played, ground), at_once=True)
        with linked(PULLERS, offered, rate=SLOW) as servers:
            pulling = measured(servers, names, partial(pulled, ground), at_once=True)
    size = f"{ground.amount.shared >> 20} MiB"
    tables = [
        Table(f"{TOGETHER} readers of one cold file at once", (FETCHED, ALL, REQUESTS), sharing),
        Table(f"A player that leaves after {ground.amount.play_seconds:.0f} s", (UPSTREAM, REQUESTS), playing),
        Table("An origin that gives 2 MB/s on each connection", (PULLED, TIMES, LINKS), pulling),
    ]
    goals = [
        alone(sharing, FETCHED, f"fetched for {TOGETHER} readers", 1.02, "times the file", most=True),
        alone(playing, UPSTREAM, "fetched for a player that leaves", 4, "MiB", most=True),
        alone(pulling, TIMES, "one reader of a slow origin", 8, "times one connection"),
        Goal("all readers vs rclone vfs full", ratio(sharing, ALL.title, PLAYHEAD_KEPT, RCLONE_FULL)),
        Goal(
            "fetched for a player that leaves vs rclone vfs full",
            ratio(playing, UPSTREAM.title, PLAYHEAD_KEPT, RCLONE_FULL),
            most=True,
        ),
        Goal("a slow origin vs rclone, 16 streams", ratio(pulling, PULLED.title, PLAYHEAD_KEPT, RCLONE_STREAMS)),
    ]
    about = (
        f"What is asked of the origin for cold files of {size}. The many readers come at once, through a round trip of "
        f"{AWAY * 1000:.0f} ms; the player takes 40 kB/s of a near origin and goes away in the middle; the slow origin "
        f"has one reader, whose transfer is cut off after {LONGEST} s."
    )
    return Report("kept-economy", "What is asked of the origin", about, tables, goals)


def measured(servers: Linked, names: Sequence[str], measure: Measured, at_once: bool) -> list[Row]:
    """One sample for each file; at once where the servers leave the machine idle, else in turn."""
    with ThreadPoolExecutor(len(servers) if at_once else 1) as pool:
        for name in names:
            runs_of_it = [
                pool.submit(row.attempt, partial(measure, server, link, name))
                for row, server, link in servers
                if server is not None
            ]
            for one in runs_of_it:
                one.result()
            runs.say(name)
    return [row for row, _, _ in servers]


def shared(ground: Ground, server: Server, link: Link, name: str) -> Sample:
    before = link.passed()
    speed = loads.together(server, ground.amount.shared, name, TOGETHER)
    time.sleep(SETTLED)
    after = link.passed()
    return {
        FETCHED.title: (after.bytes - before.bytes) / ground.amount.shared,
        ALL.title: speed,
        REQUESTS.title: after.requests - before.requests,
    }


def played(ground: Ground, server: Server, link: Link, name: str) -> Sample:
    time.sleep(SETTLED)
    before = link.passed()
    play(server, name, loads.READER_RATE, ground.amount.play_seconds)
    time.sleep(SETTLED)
    after = link.passed()
    return {UPSTREAM.title: (after.bytes - before.bytes) / MIB, REQUESTS.title: after.requests - before.requests}


def pulled(ground: Ground, server: Server, link: Link, name: str) -> Sample:
    speed = pull(server, name)
    return {PULLED.title: speed / 1e6, TIMES.title: speed / SLOW, LINKS.title: link.passed().open}


def pull(server: Server, name: str) -> float:
    """Bytes per second of a whole file, or of as much of it as comes in time."""
    told = "%{http_code} %{size_download} %{time_total}"
    command = [peers.program("curl"), "-s", "-o", "/dev/null", "-w", told, "-m", str(LONGEST), server.url(name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST + loads.SPARE)
    status, got, seconds = done.stdout.split()
    if done.returncode not in (0, 28) or status != "200":  # 28: its time was over
        raise Broken(f"curl got {got} bytes, status {status}, exit {done.returncode}")
    return int(got) / float(seconds)


def alone(rows: Sequence[Row], column: Column, what: str, target: float | None, unit: str, most: bool = False) -> Goal:
    ours = next(row for row in rows if row.name == PLAYHEAD_KEPT)
    return Goal(what, ours.median(column.title), target=target, most=most, unit=unit)


# ── listeners ──


def kept_listeners(ground: Ground) -> Report:
    tables, goals = [], []
    names = [f"track-{number}.bin" for number in range(TRACKS)]
    with offering(ground, dict.fromkeys(names, TRACK)) as offered:
        for count in dict.fromkeys(min(count, most_listeners()) for count in ground.amount.listeners):
            rows = [Row(name) for name in HEARERS]
            for turn in range(ground.amount.listener_rounds):
                for row in rows:
                    row.attempt(partial(audience, row.name, count, offered, names))
                    runs.say(f"{row.name}: {count:,} listeners, round {turn + 1} {row.note or ''}")
            columns = (SERVED, PACED, WAIT, EACH, EARLY, LATER, SOCKETS)
            tables.append(Table(f"{count:,} listeners", columns, rows))
            goals += heard(rows, count)
    about = (
        f"Each listener takes one of {TRACKS} kept tracks of {TRACK >> 20} MiB at 320 kbit/s. A fresh server for each "
        f"run, which has fetched every track before; its resident memory {early(ground):.0f} s after the first came, "
        f"and after {ground.amount.listen_seconds:.0f} s, is compared with that before they came."
    )
    return Report("kept-listeners", "Listeners of kept tracks", about, tables, goals)


def most_listeners() -> int:
    """A server may need two descriptors for each, of which it cannot have more than the system allows."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 1_000_000 if hard == resource.RLIM_INFINITY else (hard - SPARE_FILES) // 2


def early(ground: Ground) -> float:
    return min(ARRIVED, ground.amount.listen_seconds / 2)


def audience(name: str, count: int, ground: Ground, names: Sequence[str]) -> Sample:
    marks = (early(ground), ground.amount.listen_seconds)
    with ExitStack() as stack:
        within = stack.enter_context(emptied(ground))
        origin = stack.enter_context(peers.nginx(str(ground.folder), within.scratch))
        server = stack.enter_context(runs.one(name, origin.base, within))
        for _ in range(2):  # fetched, then read back into memory
            for file in names:
                loads.curl(server, TRACK, file)
        idle, buffers = meters.resident_bytes(server.group), meters.socket_bytes()
        report = stack.enter_context(loads.listeners(server, count, marks, names, NARROW))
        report()
        first = meters.resident_bytes(server.group)
        seen = report()
        last, kernel = meters.resident_bytes(server.group), meters.socket_bytes() - buffers
    return {
        SERVED.title: seen["served"],
        PACED.title: seen["paced"],
        WAIT.title: seen["wait"],
        EACH.title: (last - idle) / count / 1000,
        EARLY.title: first / 1e6,
        LATER.title: last / 1e6,
        SOCKETS.title: kernel / count / 1000,
    }


def heard(rows: Sequence[Row], count: int) -> list[Goal]:
    ours = next(row for row in rows if row.name == PLAYHEAD_KEPT)
    first, last = ours.median(EARLY.title), ours.median(LATER.title)
    growth = None if first is None or last is None else last / first
    crowd = f"{count:,} listeners"
    return [
        alone(rows, SERVED, f"served in time, of {crowd}", count, "listeners"),
        alone(rows, PACED, f"kept the pace, of {crowd}", count, "listeners"),
        alone(rows, EACH, f"resident per listener, {crowd}", None, "KB", most=True),
        Goal(f"resident at the end vs at first, {crowd}", growth, most=True, unit="times"),
        Goal(
            f"resident with {crowd} vs nginx slice",
            ratio(rows, LATER.title, PLAYHEAD_KEPT, NGINX_SLICE),
            most=True,
        ),
    ]
