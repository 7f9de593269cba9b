"""How runs are made: all servers up together, one run of each in turn, and a first round that does not count.

Turns, because loopback speed drifts with the machine: what disturbs one server's run disturbs the others' as well.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from bench import loads, meters, peers
from bench.figures import FAULTS, Column, Row, Sample
from bench.ground import Ground
from bench.peers import Missing, Server

Measure = Callable[[Server], Sample]
Up = Sequence[tuple[Row, Server | None]]
Measured = tuple[Row, Callable[[], Sample]]
CURL, SINK = Column("curl, GiB/s"), Column("copying sink, GiB/s")
CPU, BOTH = Column("server CPU s/GiB", ".3f"), Column("server and client CPU s/GiB", ".3f")
RATE, MIDDLE, SLOWEST = Column("rps", ",.0f"), Column("p50, ms"), Column("p99, ms")
COST = Column("server CPU µs/request", ".0f")


@contextmanager
def up(names: Sequence[str], source: str, ground: Ground, tls: bool = False) -> Iterator[Up]:
    """The named servers; one that is missing or fails to start, or answers wrongly, keeps its row, with the reason."""
    with ExitStack() as stack:
        yield [entered(stack, name, source, ground, tls) for name in names]


def entered(stack: ExitStack, name: str, source: str, ground: Ground, tls: bool) -> tuple[Row, Server | None]:
    row, server = Row(name), None
    try:
        server = stack.enter_context(one(name, source, ground, tls))
    except FAULTS as reason:
        row.fail(reason)
    say(f"{name}: {row.note or 'up'}")
    return row, server


@contextmanager
def one(name: str, source: str, ground: Ground, tls: bool = False) -> Iterator[Server]:
    if tls and ground.certificate is None:
        raise Missing("openssl")
    with peers.EVERY[name](source, ground.scratch, ground.certificate if tls else None) as server:
        loads.check(server, ground.file)
        yield server


def in_turn(servers: Up, rounds: int, measure: Measure) -> list[Row]:
    """The rows with one sample for each round; a failed server's row is left as it is."""
    rows = [Row(row.name, note=row.note) for row, _ in servers]
    for turn in range(-1, rounds):
        for row, (_, server) in zip(rows, servers, strict=True):
            if server is not None:
                row.attempt(partial(measure, server), counts=turn >= 0)
        say(f"round {turn + 1} of {rounds}")
    return rows


def alternating(measured: Sequence[Measured], rounds: int) -> list[Row]:
    """The rows, each measured once in each round; the first round does not count."""
    for turn in range(-1, rounds):
        for row, measure in measured:
            row.attempt(measure, counts=turn >= 0)
        say(f"round {turn + 1} of {rounds}")
    return [row for row, _ in measured]


def whole_file(ground: Ground, sink: bool = True) -> Measure:
    """Full GETs into curl and, where asked, into the copying sink."""

    def measure(server: Server) -> Sample:
        size, gets = ground.amount.size, ground.amount.gets
        before, client = meters.processor_seconds(server.group), meters.own_seconds()
        sample = {CURL.title: mean(loads.curl(server, size) for _ in range(gets))}
        if sink:
            sample[SINK.title] = mean(loads.copying_sink(server, size) for _ in range(gets))
        spent, client = meters.processor_seconds(server.group) - before, meters.own_seconds() - client
        passed = size / loads.GIB * gets * len(sample)
        return sample | {CPU.title: spent / passed, BOTH.title: (spent + client) / passed}

    return measure


def small_ranges(ground: Ground, connections: int) -> Measure:
    def measure(server: Server) -> Sample:
        before = meters.processor_seconds(server.group)
        seen = loads.ranges(server, ground.amount.size, connections, ground.amount.wrk_seconds)
        spent = meters.processor_seconds(server.group) - before
        return {
            RATE.title: seen.rate,
            MIDDLE.title: seen.middle,
            SLOWEST.title: seen.slowest,
            COST.title: spent / seen.requests * 1e6,
        }

    return measure


def mean(speeds: Iterator[float] | Sequence[float]) -> float:
    """The mean speed of equal amounts: the harmonic mean."""
    inverses = [1 / speed for speed in speeds]
    return len(inverses) / sum(inverses)


def say(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)
