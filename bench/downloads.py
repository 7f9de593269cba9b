"""Benchmarks of downloads into a file, beside the downloaders that people use; every file is compared afterwards.

Where an origin is slow it is one of ours (`throttled.py`), which says what it was asked for; else it is an nginx.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from random import Random

from bench import downloaders, peers, runs
from bench.delay import Passed
from bench.downloaders import ARIA, ARIA_PLAIN, AXEL, CURL, GLANCE, OURS, RCLONE, WGET, Command, Fetched, Job
from bench.figures import Column, Goal, Report, Row, Sample, Table, ratio
from bench.ground import FILE, MIB, Ground
from bench.loads import GIB
from bench.peers import Broken, Missing
from bench.throttled import Origin, throttled

STREAMS, FEW = 16, 4
PINNED, PINNED_FEW = f"{OURS} -n {STREAMS}", f"{OURS} -n {FEW}"
MANY = (OURS, PINNED, ARIA, AXEL, RCLONE)
SINGLE = (ARIA_PLAIN, CURL)
CAPPED = 2_000_000  # bytes per second on each connection
A_SIXTEENTH, A_QUARTER = 16, 4
CAPPED_ROUNDS, KILLED_ROUNDS = 3, 5
TRICKLED, TRICKLE = 6 * MIB, 32_000
AWAY = 0.05
KILLED_RATE, EARLIEST, LATEST = 20_000_000, 0.15, 0.85
SAVING = f"{ARIA}, saving each second"
STARTS_WITHIN, GONE_WITHIN = 30.0, 5.0

SPEED, LASTING, SECONDS = Column("MB/s", ",.1f"), Column("MB/s until on disk", ",.1f"), Column("s")
COST, LINKS, REQUESTS = Column("CPU s/GiB"), Column("connections", ",.0f"), Column("requests", ",.0f")
AGAIN, PART = Column("fetched again, MiB"), Column("% of what had come", ".1f")
WHOLE = (SPEED, LASTING, SECONDS, COST)
COUNTED = (*WHOLE, LINKS, REQUESTS)

FIXED: Mapping[str, tuple[Command, int | None]] = {
    PINNED: (downloaders.playhead, STREAMS),
    PINNED_FEW: (downloaders.playhead, FEW),
    OURS: (downloaders.playhead, None),
    ARIA_PLAIN: (downloaders.aria2, None),
    SAVING: (lambda job: downloaders.aria2(job, "--auto-save-interval=1", "--disk-cache=0"), FEW),
}


@dataclass(frozen=True, slots=True)
class Source:
    """A file that is offered for download; `origin` where it counts what it is asked for."""

    base: str
    file: Path
    size: int
    origin: Origin | None = None
    certificate: Path | None = None

    def passed(self) -> Passed:
        return self.origin.passed() if self.origin else Passed(0, 0, 0, 0)

    def job(self, folder: Path, streams: int | None) -> Job:
        return Job(self.base + FILE, self.size, digest(self.file, self.size), folder, streams, self.certificate)


@cache
def digest(file: Path, size: int) -> bytes:
    return downloaders.digest(file, size)


def tool(name: str, streams: int) -> tuple[Command, int | None]:
    return FIXED[name] if name in FIXED else (downloaders.EVERY[name], streams)


def downloaded(ground: Ground, source: Source, name: str, streams: int = STREAMS) -> Sample:
    command, own = tool(name, streams)
    before = source.passed()
    with downloaders.emptied(ground.scratch) as folder:
        run = downloaders.fetched(command, source.job(folder, own))
    after = source.passed()
    return {
        **figures(run, source.size),
        LINKS.title: after.connections - before.connections,
        REQUESTS.title: after.requests - before.requests,
    }


def figures(run: Fetched, size: int) -> Sample:
    return {
        SPEED.title: size / 1e6 / run.seconds,
        LASTING.title: size / 1e6 / run.lasting,
        SECONDS.title: run.seconds,
        COST.title: run.spent / (size / GIB),
    }


def rows_of(ground: Ground, source: Source, names: Sequence[str]) -> list[runs.Measured]:
    return [(Row(name), partial(downloaded, ground, source, name)) for name in names]


def faster(
    rows: Sequence[Row], targets: Mapping[str, tuple[float | None, float | None]], ours: str = OURS
) -> list[Goal]:
    return [
        Goal(f"{ours} vs {peer}" if ours != OURS else f"MB/s vs {peer}", ratio(rows, SPEED.title, ours, peer), *bounds)
        for peer, bounds in targets.items()
    ]


def cheaper(rows: Sequence[Row], *others: str) -> list[Goal]:
    return [Goal(f"CPU s/GiB vs {peer}", ratio(rows, COST.title, OURS, peer), most=True) for peer in others]


# ── slow on each connection, and far away ──


def get_capped(ground: Ground) -> Report:
    size = ground.amount.size // 2
    least = size // A_SIXTEENTH
    with throttled(ground.file, size, CAPPED) as origin, throttled(ground.file, least, CAPPED) as other:
        measured = rows_of(ground, Source(origin.base, ground.file, size, origin), MANY)
        measured += rows_of(ground, Source(other.base, ground.file, least, other), SINGLE)
        rows = runs.alternating(measured, min(CAPPED_ROUNDS, ground.amount.rounds))
    goals = [
        *faster(rows, {ARIA: (5, 5.8), AXEL: (None, None), RCLONE: (None, None), CURL: (None, None)}),
        *faster(rows, {ARIA: (1, None), AXEL: (1, None)}, PINNED),
        *cheaper(rows, ARIA),
    ]
    about = (
        f"{size >> 20} MiB from an origin that gives {CAPPED / 1e6:g} MB/s on each connection, however many requests "
        f"it carries; {STREAMS} connections, where the downloader is told. `{ARIA_PLAIN}` and `{CURL}`, which have "
        f"one, get {least >> 20} MiB."
    )
    return Report("get-capped", "A download that is slow on each connection", about, [Table("", COUNTED, rows)], goals)


def get_distant(ground: Ground) -> Report:
    size = ground.amount.size
    with throttled(ground.file, size, round_trip=AWAY) as origin:
        source = Source(origin.base, ground.file, size, origin)
        rows = runs.alternating(rows_of(ground, source, (*MANY, CURL)), ground.amount.rounds)
    goals = [
        *faster(rows, {ARIA: (1.6, 2.1), AXEL: (None, 1.5), RCLONE: (None, None), CURL: (None, None)}),
        *faster(rows, {ARIA: (None, None)}, PINNED),
        *cheaper(rows, ARIA, AXEL),
    ]
    about = (
        f"{size >> 20} MiB from an origin {AWAY * 1000:.0f} ms away, which answers as one does over TCP: the handshake "
        "takes a round trip, slow start begins with 10 segments, and no connection has more than 4 MiB under way. "
        f"{STREAMS} connections, where the downloader is told."
    )
    return Report("get-distant", "A download from afar", about, [Table("", COUNTED, rows)], goals)


def get_trickle(ground: Ground) -> Report:
    names = (OURS, PINNED_FEW, ARIA, AXEL, RCLONE, CURL)
    measured = [(Row(name), partial(trickled, ground, name)) for name in names]
    rows = runs.alternating(measured, min(CAPPED_ROUNDS, ground.amount.rounds))
    goals = [
        Goal(f"{ours}: seconds vs {peer}", ratio(rows, SECONDS.title, ours, peer), target, most=True)
        for ours in (OURS, PINNED_FEW)
        for peer, target in ((AXEL, 1.0), (ARIA, None), (CURL, None))
    ]
    about = (
        f"{TRICKLED >> 20} MiB on {FEW} connections, where the downloader is told, from an origin that gives "
        f"{CAPPED / 1e6:g} MB/s on each; but only {TRICKLE // 1000} kB/s on the second that is opened."
    )
    columns = (SECONDS, LINKS, REQUESTS)
    return Report("get-trickle", "A download with a slow connection", about, [Table("", columns, rows)], goals)


def trickled(ground: Ground, name: str) -> Sample:
    with throttled(ground.file, TRICKLED, CAPPED, trickle=TRICKLE) as origin:
        return downloaded(ground, Source(origin.base, ground.file, TRICKLED, origin), name, FEW)


# ── near ──


def get_loopback(ground: Ground) -> Report:
    rows, size = near(ground, tls=False), ground.amount.size >> 20
    goals = [
        *faster(rows, {ARIA: (2, None), AXEL: (None, None), CURL: (1, None), RCLONE: (None, 1)}),
        *cheaper(rows, ARIA, CURL, RCLONE),
    ]
    about = f"{size} MiB from an nginx on this machine; {STREAMS} connections, where the downloader is told."
    return Report("get-loopback", "A download from near", about, [Table("", WHOLE, rows)], goals)


def get_tls(ground: Ground) -> Report:
    rows, size = near(ground, tls=True), ground.amount.size >> 20
    goals = [
        *faster(rows, {ARIA: (None, None), AXEL: (None, None), CURL: (None, None), RCLONE: (None, None)}),
        *cheaper(rows, ARIA, CURL, RCLONE),
    ]
    about = (
        f"{size} MiB over TLS from an nginx on this machine, whose certificate all but axel check; {STREAMS} "
        "connections, where the downloader is told."
    )
    return Report("get-tls", "A download over TLS", about, [Table("", WHOLE, rows)], goals)


def near(ground: Ground, tls: bool) -> list[Row]:
    if tls and ground.certificate is None:
        raise Missing("openssl")
    certificate = ground.certificate if tls else None
    with peers.nginx(str(ground.folder), ground.scratch, certificate) as server:
        trusted = certificate.cert if certificate else None
        source = Source(server.base, ground.file, ground.amount.size, certificate=trusted)
        return runs.alternating(rows_of(ground, source, (*MANY, CURL)), ground.amount.rounds)


# ── killed ──


def get_killed(ground: Ground) -> Report:
    size, some = ground.amount.size // A_QUARTER, Random(6)
    names = (PINNED_FEW, ARIA, SAVING, AXEL, CURL, WGET)
    rows = [Row(name) for name in names]
    for turn in range(rounds := min(KILLED_ROUNDS, ground.amount.rounds)):
        moment = int(size * some.uniform(EARLIEST, LATEST))
        for row in rows:
            row.attempt(partial(interrupted, ground, row.name, size, moment))
        runs.say(f"round {turn + 1} of {rounds}, killed after {moment >> 20} MiB")
    ours = rows[0]
    goals = [
        Goal("fetched again", ours.median(AGAIN.title), target=8, most=True, unit="MiB"),
        *(
            Goal(f"fetched again vs {peer}", ratio(rows, AGAIN.title, ours.name, peer), most=True)
            for peer in (ARIA, SAVING, AXEL)
        ),
    ]
    about = (
        f"What of {size >> 20} MiB comes twice when the downloader is killed (SIGKILL) at a random moment, the same "
        f"for all, and started again. The origin gives {KILLED_RATE / 1e6:g} MB/s to one connection, or to {FEW} "
        "together, and counts what the client's kernel took; what lies in socket buffers counts for everybody."
    )
    return Report("get-killed", "A download that is killed", about, [Table("", (AGAIN, PART, REQUESTS), rows)], goals)


def interrupted(ground: Ground, name: str, size: int, moment: int) -> Sample:
    command, streams = tool(name, FEW)
    rate = KILLED_RATE if name in (CURL, WGET) else KILLED_RATE // FEW
    with throttled(ground.file, size, rate) as origin, downloaders.emptied(ground.scratch) as folder:
        job = Source(origin.base, ground.file, size, origin).job(folder, streams)
        with downloaders.started(command, job) as process:
            awaited(lambda: origin.passed().bytes >= moment, size / KILLED_RATE + STARTS_WITHIN)
            if process.poll() is not None:
                raise Broken("ended before it was killed")
        awaited(lambda: origin.passed().open == 0, GONE_WITHIN)
        had = origin.passed().bytes
        downloaders.completed(command, job)
        awaited(lambda: origin.passed().open == 0, GONE_WITHIN)
        passed = origin.passed()
        downloaders.compared(job)
    again = max(0, passed.bytes - size)
    return {AGAIN.title: again / MIB, PART.title: 100 * again / had, REQUESTS.title: passed.requests}


def awaited(reached: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise Broken(f"waited {seconds:.0f} s for nothing")
        time.sleep(GLANCE)
