"""Benchmarks of a folder that rclone's crypt wrote, which an nginx has, and a gateway shows in clear.

Before anything is timed every byte of the file is compared, through each gateway.
"""

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from bench import loads, peers, runs
from bench.delay import Link, delayed
from bench.figures import Column, Goal, Report, Row, Sample, Table, ratio
from bench.ground import MIB, Ground
from bench.kept import FRESH_SIZE, PAUSE, ROUND_TRIPS, emptied, offering
from bench.local import SMALL, WHOLE
from bench.peers import (
    NGINX,
    PLAYHEAD_CRYPT,
    PLAYHEAD_CRYPT_KEPT,
    RCLONE_CRYPT,
    RCLONE_CRYPT_CHUNKS,
    RCLONE_CRYPT_TUNED,
    Broken,
    Server,
)
from bench.player import Player
from bench.runs import COST, CPU, CURL, MIDDLE, RATE, SINK

RCLONES = (RCLONE_CRYPT, RCLONE_CRYPT_TUNED, RCLONE_CRYPT_CHUNKS)
GATEWAYS = (PLAYHEAD_CRYPT, PLAYHEAD_CRYPT_KEPT, *RCLONES)
ENCRYPTED = "encrypted"
WITHIN = 600.0

SEEKS = (5 * MIB, 13 * MIB, 9 * MIB)  # far from each other and from the first
FIRST = 2 * MIB
AT_FIRST, PER_SEEK = Column("requests, file never seen", ".1f"), Column("requests per seek", ".1f")
FETCHED = Column("KiB fetched per seek", ",.0f")
COLD, SEEK = Column("file never seen, ms", ".1f"), Column("seek, ms", ".1f")


def encrypted(ground: Ground, folder: Path) -> Path:
    """The ground's folder as rclone's crypt writes it; it is written once, and read, so that the page cache has it."""
    if not folder.exists():
        started = folder.with_name(f"{folder.name}.new")
        remote = peers.crypted(str(started))
        command = [peers.program("rclone"), "--config", os.devnull, "copy", str(ground.folder), remote]
        subprocess.run(command, check=True, capture_output=True, timeout=WITHIN)
        for path in started.iterdir():
            with path.open("rb", buffering=0) as file:
                os.fsync(file.fileno())
                while file.read(MIB):
                    pass
        started.chmod(0o755)
        started.rename(folder)
    return folder


@contextmanager
def gateways(ground: Ground) -> Iterator[runs.Up]:
    """The gateways, each of which has read the whole file once."""
    with ExitStack() as stack:
        within = stack.enter_context(emptied(ground))
        folder = encrypted(ground, ground.scratch / ENCRYPTED)
        origin = stack.enter_context(peers.nginx(str(folder), within.scratch))
        servers = stack.enter_context(runs.up(GATEWAYS, origin.base, within))
        for row, server in servers:
            if server is not None:
                row.attempt(partial(compared, server, ground.file), counts=False)
        os.sync()
        yield [(row, server if row.note is None else None) for row, server in servers]


def compared(server: Server, file: Path) -> Sample:
    """Every byte of a file, as the server gives it."""
    connection = peers.connect(server.base, timeout=loads.SPARE)
    connection.request("GET", urlsplit(server.url(file.name)).path)
    answer = connection.getresponse()
    if answer.status != 200:
        raise Broken(f"the whole file was answered with status {answer.status}")
    with file.open("rb") as opened:
        while wanted := opened.read(MIB):
            if answer.read(len(wanted)) != wanted:
                raise Broken(f"other bytes than those of the file, before {opened.tell():,}")
    if answer.read(1):
        raise Broken("more bytes than those of the file")
    connection.close()
    return {}


# ── whole, and in ranges ──


def crypt_get(ground: Ground) -> Report:
    with gateways(ground) as servers:
        rows = runs.in_turn(servers, ground.amount.rounds, runs.whole_file(ground))
    goals = [
        Goal("curl vs the best rclone", ratio(rows, CURL.title, PLAYHEAD_CRYPT, *RCLONES), target=2.0),
        Goal("copying sink vs the best rclone", ratio(rows, SINK.title, PLAYHEAD_CRYPT, *RCLONES), target=2.0),
        Goal(
            "CPU s/GiB vs the best rclone",
            ratio(rows, CPU.title, PLAYHEAD_CRYPT, *RCLONES, least=True),
            target=0.7,
            most=True,
        ),
        Goal("curl vs rclone crypt", ratio(rows, CURL.title, PLAYHEAD_CRYPT, RCLONE_CRYPT)),
        Goal("keeping, curl vs the best rclone", ratio(rows, CURL.title, PLAYHEAD_CRYPT_KEPT, *RCLONES)),
        Goal(
            "keeping, CPU s/GiB vs the best rclone",
            ratio(rows, CPU.title, PLAYHEAD_CRYPT_KEPT, *RCLONES, least=True),
            most=True,
        ),
    ]
    about = (
        f"A file of {ground.amount.size >> 20} MiB that rclone's crypt wrote, read in clear through each gateway from "
        "the same origin. `keeping` has read it once before, and keeps it as it came: encrypted. The processor time is "
        "the gateway's alone."
    )
    return Report("crypt-get", "An encrypted file, whole", about, [Table("", WHOLE, rows)], goals)


def crypt_ranges(ground: Ground) -> Report:
    with gateways(ground) as servers:
        one = runs.in_turn(servers, ground.amount.rounds, runs.small_ranges(ground, 1))
        many = runs.in_turn(servers, ground.amount.rounds, runs.small_ranges(ground, 64))
    goals = [
        Goal(
            "rps at 1 connection vs the best rclone",
            ratio(one, RATE.title, PLAYHEAD_CRYPT, *RCLONES),
            target=8,
            stretch=11,
        ),
        Goal(
            "rps at 64 connections vs the best rclone",
            ratio(many, RATE.title, PLAYHEAD_CRYPT, *RCLONES),
            target=40,
            stretch=84,
        ),
        *(
            Goal(f"rps at {count} vs {peer}", ratio(rows, RATE.title, PLAYHEAD_CRYPT, peer))
            for rows, count in ((one, "1 connection"), (many, "64 connections"))
            for peer in (RCLONE_CRYPT, RCLONE_CRYPT_TUNED)
        ),
        Goal(
            "p50 at 1 connection vs the best rclone",
            ratio(one, MIDDLE.title, PLAYHEAD_CRYPT, *RCLONES, least=True),
            most=True,
        ),
        Goal(
            "CPU per request at 64 connections vs the best rclone",
            ratio(many, COST.title, PLAYHEAD_CRYPT, *RCLONES, least=True),
            most=True,
        ),
        Goal(
            "keeping, rps at 1 connection vs the best rclone",
            ratio(one, RATE.title, PLAYHEAD_CRYPT_KEPT, *RCLONES),
        ),
        Goal(
            "keeping, rps at 64 connections vs the best rclone",
            ratio(many, RATE.title, PLAYHEAD_CRYPT_KEPT, *RCLONES),
        ),
    ]
    about = (
        f"Random aligned ranges of 64 KiB of a file of {ground.amount.size >> 20} MiB that rclone's crypt wrote, in "
        "clear through each gateway. `keeping` has read the file once before; `small chunks` is rclone tuned for "
        "ranges (`--vfs-read-chunk-size 64Ki` beside the rest)."
    )
    tables = [Table("1 connection", SMALL, one), Table("64 connections", SMALL, many)]
    return Report("crypt-ranges", "An encrypted file, ranges of 64 KiB", about, tables, goals)


# ── seeks ──


@dataclass(frozen=True, slots=True)
class Origin:
    """An nginx that writes down what it is asked for, and the link to it."""

    log: Path
    link: Link

    def passed(self) -> tuple[int, int]:
        """Requests that it has answered so far, and bytes that the gateway took."""
        return self.log.read_bytes().count(b"\n"), self.link.passed().bytes


def origin_of(stack: ExitStack, folder: Path, scratch: Path, round_trip: float) -> Origin:
    handle, name = tempfile.mkstemp(prefix="asked-", dir=scratch)
    os.close(handle)
    location = f"root {folder}; autoindex on; access_log {name} asked;"
    form = "log_format asked '$request_method $status $body_bytes_sent';"
    server = stack.enter_context(peers.configured(NGINX, location, str(folder), scratch, None, http=form))
    return Origin(Path(name), stack.enter_context(delayed(server.base, round_trip)))


def crypt_seeks(ground: Ground) -> Report:
    names = [f"track-{number}.bin" for number in range(ground.amount.fresh + 1)]
    tables, goals = [], []
    with offering(ground, dict.fromkeys(names, FRESH_SIZE)) as offered, emptied(offered) as within:
        folder = encrypted(offered, within.scratch / ENCRYPTED)
        for round_trip in ROUND_TRIPS:
            rows = sought(within, folder, names, round_trip)
            title = f"{round_trip * 1000:.0f} ms"
            tables.append(Table(f"{title} round trip", (AT_FIRST, PER_SEEK, FETCHED, COLD, SEEK), rows))
            goals += [*asked_for(rows, title), *waited(rows, round_trip, title)]
    about = (
        f"64 KiB out of the middle of an encrypted file of {FRESH_SIZE >> 20} MiB that the gateway never saw, then "
        f"{len(SEEKS)} times from elsewhere in it. Requests are counted from the access log of the origin, bytes as "
        "the gateway took them. The wait is from sending the request, on a connection that is open, to the first byte "
        "of the body. A proxy delays what passes between gateway and origin, but not the TCP handshake. `keeping` "
        "also reads ahead."
    )
    return Report("crypt-seeks", "Cold seeks in an encrypted file", about, tables, goals)


def sought(ground: Ground, folder: Path, names: Sequence[str], round_trip: float) -> list[Row]:
    """The rows; each gateway has an origin, and a link to it, of its own."""
    with ExitStack() as stack:
        within = stack.enter_context(emptied(ground))
        servers: list[tuple[Row, Server | None, Origin]] = []
        for name in GATEWAYS:
            origin = origin_of(stack, folder, within.scratch, round_trip)
            servers.append((*runs.entered(stack, name, origin.link.base, within, False), origin))
        for turn, name in enumerate(names):
            for row, server, origin in servers:
                if server is not None:
                    measure = partial(jumped, server, origin, ground.folder / name, round_trip)
                    row.attempt(measure, counts=turn > 0)
            runs.say(f"{round_trip * 1000:.0f} ms, file {turn} of {len(names) - 1}")
        return [row for row, _, _ in servers]


def jumped(server: Server, origin: Origin, file: Path, round_trip: float) -> Sample:
    """One file: where it is looked into first, then the seeks."""
    waits, counts = [], [origin.passed()]
    with Player(server) as player, file.open("rb") as opened:
        for start in (FIRST, *SEEKS):
            opened.seek(start)
            waits.append(player.ask(file.name, start, opened.read(loads.RANGE)) * 1000)
            time.sleep(round_trip + PAUSE)  # what goes on is counted too
            counts.append(origin.passed())
    (before, _), (first, sent), *_, (last, all_sent) = counts
    return {
        AT_FIRST.title: first - before,
        PER_SEEK.title: (last - first) / len(SEEKS),
        FETCHED.title: (all_sent - sent) / len(SEEKS) / 1024,
        COLD.title: waits[0],
        SEEK.title: statistics.median(waits[1:]),
    }


def asked_for(rows: Sequence[Row], title: str) -> list[Goal]:
    ours = next(row for row in rows if row.name == PLAYHEAD_CRYPT)
    return [
        Goal(f"per seek at {title}", ours.median(PER_SEEK.title), target=1, most=True, unit="requests"),
        Goal(
            f"requests per seek at {title} vs the best rclone",
            ratio(rows, PER_SEEK.title, PLAYHEAD_CRYPT, *RCLONES, least=True),
            target=0.5,
            most=True,
        ),
    ]


def waited(rows: Sequence[Row], round_trip: float, title: str) -> list[Goal]:
    ours = next(row for row in rows if row.name == PLAYHEAD_CRYPT)
    goals = []
    for column, what in ((COLD, "file never seen"), (SEEK, "seek")):
        median = ours.median(column.title)
        beyond = None if median is None else median - round_trip * 1000
        goals.append(Goal(f"{what}, beyond the round trip of {title}", beyond, most=True, unit="ms"))
        versus = ratio(rows, column.title, PLAYHEAD_CRYPT, *RCLONES, least=True)
        goals.append(Goal(f"{what} at {title} vs the best rclone", versus, most=True))
    return goals
