"""Benchmarks of a file on this machine: whole, in small ranges, to slow readers, and over TLS."""

from functools import partial

from bench import loads, meters, runs
from bench.figures import Column, Goal, Report, Row, Sample, Table, ratio
from bench.ground import Ground
from bench.peers import NGINX, PLAYHEAD, RCLONE, RCLONE_TUNED
from bench.runs import BOTH, COST, CPU, CURL, MIDDLE, RATE, SINK, SLOWEST

SERVERS = (PLAYHEAD, NGINX, RCLONE, RCLONE_TUNED)
RCLONES = (RCLONE, RCLONE_TUNED)
WHOLE = (CURL, SINK, CPU, BOTH)
SMALL = (RATE, MIDDLE, SLOWEST, COST)
SERVED, PACED = Column("first byte within 5 s", ",.0f"), Column("kept 40 kB/s", ",.0f")
WAIT = Column("first byte p99, s")
EACH, GROWN = Column("resident KB/reader", ",.1f"), Column("resident MB", ",.0f")
SOCKETS = Column("TCP buffers KB/reader", ",.0f")


def local_get(ground: Ground) -> Report:
    with runs.up(SERVERS, str(ground.folder), ground) as servers:
        rows = runs.in_turn(servers, ground.amount.rounds, runs.whole_file(ground))
    goals = [
        Goal("curl vs nginx", ratio(rows, CURL.title, PLAYHEAD, NGINX), target=1.3),
        Goal("copying sink vs nginx", ratio(rows, SINK.title, PLAYHEAD, NGINX), target=1.3),
        Goal("CPU s/GiB vs nginx", ratio(rows, CPU.title, PLAYHEAD, NGINX), target=0.7, most=True),
        Goal("curl vs rclone", ratio(rows, CURL.title, PLAYHEAD, RCLONE)),
        Goal("curl vs rclone, tuned", ratio(rows, CURL.title, PLAYHEAD, RCLONE_TUNED)),
        Goal("CPU s/GiB vs rclone, tuned", ratio(rows, CPU.title, PLAYHEAD, RCLONE_TUNED), most=True),
    ]
    about = f"A file of {ground.amount.size >> 20} MiB in the page cache, served whole on one connection."
    return Report("local-get", "A local file, whole", about, [Table("", WHOLE, rows)], goals)


def local_ranges(ground: Ground) -> Report:
    with runs.up(SERVERS, str(ground.folder), ground) as servers:
        one = runs.in_turn(servers, ground.amount.rounds, runs.small_ranges(ground, 1))
        many = runs.in_turn(servers, ground.amount.rounds, runs.small_ranges(ground, 64))
    goals = [
        Goal("rps at 64 connections vs the better rclone", ratio(many, RATE.title, PLAYHEAD, *RCLONES), target=1.5),
        Goal("rps at 64 connections vs nginx", ratio(many, RATE.title, PLAYHEAD, NGINX), stretch=0.65),
        Goal("p99 at 64 connections vs nginx", ratio(many, SLOWEST.title, PLAYHEAD, NGINX), most=True),
        Goal("p50 at 1 connection vs nginx", ratio(one, MIDDLE.title, PLAYHEAD, NGINX), most=True),
        Goal(
            "p50 at 1 connection vs the better rclone",
            ratio(one, MIDDLE.title, PLAYHEAD, *RCLONES, least=True),
            most=True,
        ),
    ]
    about = f"Random aligned ranges of 64 KiB of a file of {ground.amount.size >> 20} MiB in the page cache."
    tables = [Table("1 connection", SMALL, one), Table("64 connections", SMALL, many)]
    return Report("local-ranges", "A local file, ranges of 64 KiB", about, tables, goals)


def slow_readers(ground: Ground) -> Report:
    tables, goals = [], []
    for count in ground.amount.readers:
        rows = [Row(name) for name in SERVERS]
        for turn in range(ground.amount.reader_rounds):
            for row in rows:
                row.attempt(partial(crowd, row.name, count, ground))
                runs.say(f"{row.name}: {count:,} readers, round {turn + 1} {row.note or ''}")
        tables.append(Table(f"{count:,} readers", (SERVED, PACED, WAIT, EACH, GROWN, SOCKETS), rows))
        goals += held(rows, count)
    about = (
        "Each reader asks for the whole file and takes 40 kB/s. A fresh server for each run; its resident memory after "
        f"{ground.amount.hold_seconds:.0f} s is compared with that before they came. The kernel's TCP buffers of "
        "both ends are shown apart."
    )
    return Report("slow-readers", "Slow readers", about, tables, goals)


def crowd(name: str, count: int, ground: Ground) -> Sample:
    with runs.one(name, str(ground.folder), ground) as server:
        idle, buffers = meters.resident_bytes(server.group), meters.socket_bytes()
        with loads.slow_readers(server, count, ground.amount.hold_seconds) as seen:
            held = meters.resident_bytes(server.group)
            kernel = meters.socket_bytes() - buffers
        return {
            SERVED.title: seen["served"],
            PACED.title: seen["paced"],
            WAIT.title: seen["wait"],
            EACH.title: (held - idle) / count / 1000,
            GROWN.title: held / 1e6,
            SOCKETS.title: kernel / count / 1000,
        }


def held(rows: list[Row], count: int) -> list[Goal]:
    ours = next(row for row in rows if row.name == PLAYHEAD)
    served, paced, each = ours.median(SERVED.title), ours.median(PACED.title), ours.median(EACH.title)
    return [
        Goal(f"served in time, of {count:,} readers", served, target=count, unit="readers"),
        Goal(f"kept the pace, of {count:,} readers", paced, target=count, unit="readers"),
        Goal(f"resident per reader, {count:,} readers", each, target=20, most=True, unit="KB"),
        Goal(f"resident with {count:,} readers vs nginx", ratio(rows, GROWN.title, PLAYHEAD, NGINX), most=True),
        Goal(
            f"resident with {count:,} readers vs the better rclone",
            ratio(rows, GROWN.title, PLAYHEAD, *RCLONES, least=True),
            most=True,
        ),
    ]


def local_tls(ground: Ground) -> Report:
    with runs.up(SERVERS, str(ground.folder), ground, tls=True) as servers:
        rows = runs.in_turn(servers, ground.amount.rounds, runs.whole_file(ground, sink=False))
        one = runs.in_turn(servers, ground.amount.rounds, runs.small_ranges(ground, 1))
        many = runs.in_turn(servers, ground.amount.rounds, runs.small_ranges(ground, 64))
    goals = [
        Goal("curl vs nginx", ratio(rows, CURL.title, PLAYHEAD, NGINX)),
        Goal("CPU s/GiB vs nginx", ratio(rows, CPU.title, PLAYHEAD, NGINX), most=True),
        Goal("curl vs the better rclone", ratio(rows, CURL.title, PLAYHEAD, *RCLONES)),
        Goal("rps at 64 connections vs nginx", ratio(many, RATE.title, PLAYHEAD, NGINX)),
        Goal("rps at 64 connections vs the better rclone", ratio(many, RATE.title, PLAYHEAD, *RCLONES)),
    ]
    about = "The same file over HTTPS, with a self-signed P-256 certificate."
    tables = [
        Table("Whole", (CURL, CPU, BOTH), rows),
        Table("Ranges of 64 KiB, 1 connection", SMALL, one),
        Table("Ranges of 64 KiB, 64 connections", SMALL, many),
    ]
    return Report("local-tls", "A local file over TLS", about, tables, goals)
