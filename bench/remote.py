"""Benchmarks of passing on a file that another server has: an nginx with an index page; nothing is kept."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from bench import peers, runs
from bench.figures import Goal, Report, Row, Table, ratio
from bench.ground import Ground
from bench.local import SMALL, WHOLE
from bench.peers import NGINX, PLAYHEAD, RCLONE, RCLONE_CHUNKS, RCLONE_TUNED, Server
from bench.runs import CPU, CURL, MIDDLE, RATE, SINK

GATEWAYS = (PLAYHEAD, NGINX, RCLONE, RCLONE_TUNED, RCLONE_CHUNKS)
RCLONES = (RCLONE, RCLONE_TUNED, RCLONE_CHUNKS)
ORIGIN = "the origin itself"


@contextmanager
def gateways(ground: Ground) -> Iterator[runs.Up]:
    """The gateways, and the origin as a row of its own: what is left when nothing stands between."""
    with ExitStack() as stack:
        origin = stack.enter_context(peers.nginx(str(ground.folder), ground.scratch))
        with runs.up(GATEWAYS, origin.base, ground) as servers:
            direct: Sequence[tuple[Row, Server | None]] = [(Row(ORIGIN), origin)]
            yield [*servers, *direct]


def remote_get(ground: Ground) -> Report:
    with gateways(ground) as servers:
        rows = runs.in_turn(servers, ground.amount.rounds, runs.whole_file(ground))
    goals = [
        Goal("curl vs the best rclone", ratio(rows, CURL.title, PLAYHEAD, *RCLONES), target=0.95, stretch=1.2),
        Goal("copying sink vs the best rclone", ratio(rows, SINK.title, PLAYHEAD, *RCLONES), target=0.95, stretch=1.2),
        Goal("CPU s/GiB vs the best rclone", ratio(rows, CPU.title, PLAYHEAD, *RCLONES, least=True), most=True),
        Goal("curl vs nginx", ratio(rows, CURL.title, PLAYHEAD, NGINX)),
        Goal("CPU s/GiB vs nginx", ratio(rows, CPU.title, PLAYHEAD, NGINX), most=True),
    ]
    about = (
        f"A file of {ground.amount.size >> 20} MiB read through each gateway from the same origin. "
        "The processor time is the gateway's alone."
    )
    return Report("remote-get", "A remote file, whole", about, [Table("", WHOLE, rows)], goals)


def remote_ranges(ground: Ground) -> Report:
    with gateways(ground) as servers:
        one = runs.in_turn(servers, ground.amount.rounds, runs.small_ranges(ground, 1))
        many = runs.in_turn(servers, ground.amount.rounds, runs.small_ranges(ground, 64))
    goals = [
        Goal(
            "p50 at 1 connection vs the best rclone",
            ratio(one, MIDDLE.title, PLAYHEAD, *RCLONES, least=True),
            target=0.4,
            stretch=0.2,
            most=True,
        ),
        Goal(
            "p50 at 1 connection vs rclone, tuned",
            ratio(one, MIDDLE.title, PLAYHEAD, RCLONE_TUNED),
            target=0.4,
            stretch=0.2,
            most=True,
        ),
        Goal("p50 at 1 connection vs nginx", ratio(one, MIDDLE.title, PLAYHEAD, NGINX), most=True),
        Goal("rps at 64 connections vs the best rclone", ratio(many, RATE.title, PLAYHEAD, *RCLONES)),
        Goal("rps at 64 connections vs nginx", ratio(many, RATE.title, PLAYHEAD, NGINX)),
    ]
    about = (
        "Random aligned ranges of 64 KiB through each gateway. `rclone, small chunks` is tuned for ranges "
        "(`--vfs-read-chunk-size 64Ki` beside the rest)."
    )
    tables = [Table("1 connection", SMALL, one), Table("64 connections", SMALL, many)]
    return Report("remote-ranges", "A remote file, ranges of 64 KiB", about, tables, goals)
