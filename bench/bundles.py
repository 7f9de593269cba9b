"""Benchmarks of many files of this machine as one, beside GNU tar and zipstream-ng; and of the memory that it takes.

Before anything is timed, every archive is unpacked and compared with its files.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import loads, meters, peers, runs
from bench.archived import (
    ALBUM,
    CAT,
    GNU_TAR,
    SMALL,
    TAR,
    WITHIN,
    ZIP,
    ZIPPED,
    ZIPSTREAM,
    Bundle,
    Item,
    Moved,
    album,
    fetched,
    fresh,
    items,
    listed,
    piped,
    posted,
    right,
    small,
    told,
    tracks,
    zipper,
)
from bench.delay import HERE
from bench.figures import FAULTS, Column, Goal, Report, Row, Sample, Table, ratio
from bench.ground import MIB, Ground, made
from bench.kept import emptied
from bench.peers import PLAYHEAD, Broken, Server
from bench.player import play
from bench.runs import CPU, SINK
from playhead.transforms.crc import crc32

LARGE = 10  # how many large files there are
BIGGER = ("-b", "512")  # records of 256 KiB
OURS_TAR, OURS_READY, OURS_ZIP = "playhead tar", "playhead zip, CRCs in the list", "playhead zip"
OURS_FOLDER, GNU_TUNED = "playhead ?pack=tar", f"{GNU_TAR} {' '.join(BIGGER)}"
MOVED = (CAT, SINK, CPU)
TOLD, ASKED = "the list tells the sizes", "the server looks for them"
POST, POST_CPU = Column("POST /bundles, ms", ",.0f"), Column("server CPU, ms", ",.0f")

TRICKLE, GLANCE = 10_000_000, 0.25  # bytes per second of a slow reader; seconds between looks at the memory
LOCAL, REMOTE = "playhead, local files", "playhead, files of a server"
IDLE, HELD = Column("idle, MB", ",.0f"), Column("with the bundle, MB", ",.0f")
STREAMING, MOST = Column("streaming, MB", ",.0f"), Column("at most ever, MB", ",.0f")
PLANS = (1_000, 100_000, 1_000_000)
EMPTY, PLANNED = Column("before, MB", ",.0f"), Column("with the plan, MB", ",.0f")
LAID, PLANNING = Column("with the tar of it, MB", ",.0f"), Column("planning, s")


def moved(ground: Ground, move: Callable[[Column], Moved]) -> Sample:
    """An archive several times into curl or cat, and into the copying sink."""
    taken = {column.title: [move(column) for _ in range(ground.amount.gets)] for column in (CAT, SINK)}
    every = [one for some in taken.values() for one in some]
    speeds = {title: runs.mean([one.speed for one in some]) for title, some in taken.items()}
    return speeds | {CPU.title: sum(one.spent for one in every) * loads.GIB / sum(one.size for one in every)}


def bundled(ground: Ground, name: str, make: Callable[[], Bundle], kind: str) -> runs.Measured:
    """The row of a bundle, which is looked at first."""
    row = Row(name)
    row.attempt(partial(right, make, kind, ground), counts=False)
    runs.say(f"{name}: {row.note or 'is right'}")
    return row, partial(moved, ground, partial(fetched, make))


def tarring(ground: Ground, name: str, options: Sequence[str] = ()) -> runs.Measured:
    return Row(name), partial(moved, ground, partial(piped, ground, options))


def zipstreaming(ground: Ground, stack: ExitStack) -> runs.Measured:
    try:
        server = stack.enter_context(zipper(ground))
    except FAULTS as reason:
        row = Row(ZIPSTREAM)
        row.fail(reason)
        return row, dict
    return bundled(ground, ZIPSTREAM, partial(told, server, ZIPPED), ZIP)


# ── large files ──


def pack_large(ground: Ground) -> Report:
    size = ground.amount.packed
    with ExitStack() as stack:
        within = stack.enter_context(emptied(ground))
        laid = stack.enter_context(album(within, LARGE, partial(made, size=size)))
        server = stack.enter_context(runs.one(PLAYHEAD, str(laid.folder), laid))
        plain, ready = items(laid), items(laid, crcs=[checksum(path) for path in tracks(laid)])
        rows = runs.alternating(
            [
                bundled(laid, OURS_TAR, partial(fresh, server, plain, TAR), TAR),
                bundled(laid, OURS_READY, partial(fresh, server, ready, ZIP), ZIP),
                bundled(laid, OURS_ZIP, partial(fresh, server, plain, ZIP), ZIP),
                tarring(laid, GNU_TAR),
                tarring(laid, GNU_TUNED, BIGGER),
                zipstreaming(laid, stack),
            ],
            ground.amount.rounds,
        )
    goals = [
        *faster(rows, "tar", OURS_TAR, GNU_TAR, target=2, stretch=5),
        *faster(rows, "zip with CRCs in the list", OURS_READY, GNU_TAR, target=2),
        *faster(rows, "zip", OURS_ZIP, ZIPSTREAM, target=1.5),
        *faster(rows, "tar", OURS_TAR, GNU_TUNED),
        *cheaper(rows, ("tar", OURS_TAR, GNU_TAR), ("zip", OURS_ZIP, ZIPSTREAM)),
    ]
    about = (
        f"{LARGE} files of {size >> 20} MiB in the page cache as one archive. Playhead's are bundles over HTTP, new "
        f"ones each time, so that no CRC is known from before; {GNU_TAR} writes into a pipe; {ZIPSTREAM} streams 256 "
        "KiB at a time from a thread behind uvicorn. The processor time is that of the server, or of tar alone."
    )
    return Report("pack-large", "Large files as one archive", about, [Table("", MOVED, rows)], goals)


def checksum(path: Path) -> int:
    crc = 0
    with path.open("rb", buffering=0) as file:
        while piece := file.read(MIB):
            crc = crc32(piece, crc)
    return crc


def faster(
    rows: Sequence[Row], what: str, ours: str, theirs: str, target: float | None = None, stretch: float | None = None
) -> list[Goal]:
    into = "curl vs" if theirs == ZIPSTREAM else "curl vs cat of"
    return [
        Goal(f"{what}, {into} {theirs}", ratio(rows, CAT.title, ours, theirs), target, stretch),
        Goal(f"{what}, copying sink vs {theirs}", ratio(rows, SINK.title, ours, theirs), target, stretch),
    ]


def cheaper(rows: Sequence[Row], *pairs: tuple[str, str, str]) -> list[Goal]:
    return [
        Goal(f"{what}, CPU s/GiB vs {theirs}", ratio(rows, CPU.title, ours, theirs), most=True)
        for what, ours, theirs in pairs
    ]


# ── small files ──


def pack_small(ground: Ground) -> Report:
    number = ground.amount.small
    with ExitStack() as stack:
        within = stack.enter_context(emptied(ground))
        laid = stack.enter_context(album(within, number, small))
        server = stack.enter_context(runs.one(PLAYHEAD, str(laid.folder), laid))
        plain, unsized = items(laid), items(laid, sized=False)
        rows = runs.alternating(
            [
                bundled(laid, OURS_TAR, partial(fresh, server, plain, TAR), TAR),
                bundled(laid, OURS_FOLDER, partial(told, server, f"/files/music/{ALBUM}/?pack=tar"), TAR),
                tarring(laid, GNU_TAR),
                tarring(laid, GNU_TUNED, BIGGER),
            ],
            ground.amount.rounds,
        )
        making = runs.alternating(
            [
                (Row(TOLD), partial(posting, server, plain)),
                (Row(ASKED), partial(posting, server, unsized)),
            ],
            ground.amount.rounds,
        )
    goals = [
        *faster(rows, "tar", OURS_TAR, GNU_TAR, target=0.6),
        *faster(rows, "?pack=tar", OURS_FOLDER, GNU_TAR),
        *faster(rows, "tar", OURS_TAR, GNU_TUNED),
        *cheaper(rows, ("tar", OURS_TAR, GNU_TAR), ("?pack=tar", OURS_FOLDER, GNU_TAR)),
        *(Goal(f"POST /bundles, {row.name}", row.median(POST.title), most=True, unit="ms") for row in making),
    ]
    about = (
        f"{number:,} files of {SMALL >> 10} KiB in the page cache as one tar: a new bundle each time, whose making is "
        "shown apart; the folder by `?pack=tar`, which is listed and planned each time before its first byte; and "
        f"{GNU_TAR} into a pipe. The processor time is that of the server, or of tar alone."
    )
    tables = [Table("", MOVED, rows), Table("Making a bundle of them", (POST, POST_CPU), making)]
    return Report("pack-small", "Small files as one archive", about, tables, goals)


def posting(server: Server, members: Sequence[Item]) -> Sample:
    body = listed(members, TAR)
    before, began = meters.processor_seconds(server.group), time.perf_counter()
    posted(server, body)
    took, spent = time.perf_counter() - began, meters.processor_seconds(server.group) - before
    return {POST.title: took * 1000, POST_CPU.title: spent * 1000}


# ── memory ──


def pack_memory(ground: Ground) -> Report:
    number, rounds = ground.amount.members, ground.amount.shared_rounds
    with ExitStack() as stack:
        within = stack.enter_context(emptied(ground))
        laid = stack.enter_context(album(within, number, small))
        origin = stack.enter_context(peers.nginx(str(laid.folder), laid.scratch))
        members = items(laid)
        sources = {LOCAL: str(laid.folder), REMOTE: origin.base}
        served = runs.alternating(
            [(Row(name), partial(trickled, sources[name], laid, members)) for name in sources], rounds
        )
    planned = runs.alternating([(Row(f"{count:,} members"), partial(planning, count)) for count in PLANS], rounds)
    largest = planned[-1]
    goals = [
        Goal(f"{row.name}, streaming {number:,} members", row.median(STREAMING.title), most=True, unit="MB")
        for row in served
    ] + [
        Goal(f"{what}, {largest.name}", largest.median(column.title), target=500, most=True, unit="MB")
        for column, what in ((LAID, "a plan and its tar"), (MOST, "making it"))
    ]
    about = (
        f"Resident memory. A tar of {number:,} files of {SMALL >> 10} KiB goes to a reader that takes "
        f"{TRICKLE // 1_000_000} MB/s, from a fresh server each time, for {ground.amount.trickle_seconds:.0f} s; and "
        "plans of made-up members, each in a process of its own. `At most ever` includes what was given back."
    )
    tables = [
        Table(f"A server that streams {number:,} members", (IDLE, HELD, STREAMING, MOST), served),
        Table("A plan", (EMPTY, PLANNED, LAID, MOST, PLANNING), planned),
    ]
    return Report("pack-memory", "The memory that archives take", about, tables, goals)


def trickled(source: str, ground: Ground, members: Sequence[Item]) -> Sample:
    with emptied(ground) as within, runs.one(PLAYHEAD, source, within) as server, ThreadPoolExecutor(1) as pool:
        idle, bundle = meters.resident_bytes(server.group), fresh(server, members, TAR)
        held = streaming = meters.resident_bytes(server.group)
        playing = pool.submit(play, bundle.server, bundle.path, TRICKLE, ground.amount.trickle_seconds)
        while not playing.done():
            streaming = max(streaming, meters.resident_bytes(server.group))
            time.sleep(GLANCE)
        playing.result()
        most = meters.status_bytes(server.group, "VmHWM")
        counted(bundle, len(members))
    found = {IDLE: idle, HELD: held, STREAMING: streaming, MOST: most}
    return {column.title: bytes / 1e6 for column, bytes in found.items()}


def counted(bundle: Bundle, number: int) -> None:
    """All of it to `tar t`."""
    command = [peers.program("curl"), "-s", "-f", bundle.server.url(bundle.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
        listing = [peers.program("tar"), "tf", "-"]
        names = subprocess.run(listing, stdin=curl.stdout, check=True, capture_output=True, timeout=WITHIN).stdout
    if (found := names.count(b"\n")) != number or curl.returncode:
        raise Broken(f"tar t tells of {found} members, not {number}; curl's exit {curl.returncode}")


def planning(number: int) -> Sample:
    command = [sys.executable, "-m", "bench.plans", str(number)]
    done = subprocess.run(command, capture_output=True, check=True, cwd=HERE, timeout=WITHIN)
    told = json.loads(done.stdout)
    if told["members"] != number:
        raise Broken(f"a plan of {told['members']} members, not {number}")
    sizes = {EMPTY: "before", PLANNED: "plan", LAID: "tar", MOST: "most"}
    return {column.title: told[key] / 1e6 for column, key in sizes.items()} | {PLANNING.title: told["planning"]}
