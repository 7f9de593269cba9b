"""Benchmarks of a Google Drive that is read: what it is asked for when a file is played, and when a folder is listed.

The Drive is the fake of the tests (`fakedrive.py`), which begins each answer a round trip after its request. Each
gateway has one of its own, which counts, and has listed the folder before: nothing more needs to be known of its files.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import loads, peers, runs
from bench.commands import PLAYHEAD, Ran, environment, ran
from bench.fakedrive import Drive, content, faked
from bench.figures import FAULTS, Column, Goal, Report, Row, Sample, Table, ratio
from bench.ground import MIB, Ground
from bench.kept import COLD, FRESH_SIZE, HOT, HOT_ASKS, HOT_SECONDS, SEEK, emptied
from bench.peers import KEPT_SIZE, RCLONE, RCLONE_BEST, RCLONE_CHUNKS, RCLONE_FULL, RCLONE_SMALL, Server
from bench.player import Player, play

OURS, KEEPING = peers.PLAYHEAD, peers.PLAYHEAD_KEPT
RCLONES = (RCLONE, RCLONE_CHUNKS, RCLONE_FULL)
GATEWAYS = (OURS, KEEPING, *RCLONES)
AWAY = 0.1
MOST = 8  # files, which every gateway's fake has in memory
SETTLED = 0.5  # seconds until what was under way has come, or was given up
FOLDER = "Music"
FIRST, SEEKS = 0, (10 * MIB, 4 * MIB, 13 * MIB)
LISTED, EMPTY = 10_000, 0
LISTING_ROUNDS, WITHIN = 3, 300.0
AGAIN = ", again"

AT_FIRST, PER_SEEK = Column("media requests, first", ".1f"), Column("media requests per seek", ".1f")
PLAYED, FEED, BESIDE = Column("media requests", ".1f"), Column("for changes", ".1f"), Column("other requests", ".1f")
REQUESTS, SECONDS = Column("requests", ",.0f"), Column("s")


# ── playing ──


@dataclass(frozen=True, slots=True)
class Up:
    """A gateway, the Drive that it reads from, and where its figures go: of looking into a file, and of playing it."""

    drive: Drive
    looked: Row
    played: Row
    server: Server | None


@contextmanager
def playhead(drive: Drive, scratch: Path, kept: bool) -> Iterator[Server]:
    port, home = peers.free_port(), scratch / "home"
    more = "" if kept else "keep = false\n"
    keeping = f'\n[reservoir]\nsize = "{KEPT_SIZE}"\nfolder = "{home / "kept"}"\n' if kept else ""
    extra = environment(home, drive.table("drive", more) + keeping)
    command = [*PLAYHEAD, "serve", "--listen", f"127.0.0.1:{port}"]
    base = f"http://127.0.0.1:{port}/files/drive/{FOLDER}/"
    with peers.running(KEEPING if kept else OURS, command, base, scratch, extra) as server:
        yield server


@contextmanager
def rclone(name: str, options: Sequence[str], drive: Drive, scratch: Path) -> Iterator[Server]:
    port = peers.free_port()
    command = [peers.program("rclone"), "serve", "http", f"g:{FOLDER}", "--addr", f"127.0.0.1:{port}"]
    command += [*drive.rclone(), "--cache-dir", str(scratch / "kept"), *options]
    with peers.running(name, command, f"http://127.0.0.1:{port}/", scratch) as server:
        yield server


Start = Callable[[Drive, Path], AbstractContextManager[Server]]
STARTS: Mapping[str, Start] = {
    OURS: partial(playhead, kept=False),
    KEEPING: partial(playhead, kept=True),
    RCLONE: partial(rclone, RCLONE, ()),
    RCLONE_CHUNKS: partial(rclone, RCLONE_CHUNKS, RCLONE_SMALL),
    RCLONE_FULL: partial(rclone, RCLONE_FULL, (*RCLONE_BEST, "--vfs-cache-mode", "full")),
}


def entered(stack: ExitStack, name: str, count: int, ground: Ground) -> Up:
    """A gateway that has listed the folder."""
    scratch = ground.scratch / name.replace(" ", "-").replace(",", "")
    scratch.mkdir()
    drive = stack.enter_context(faked(scratch / "drive", AWAY))
    drive.fill(FOLDER, count, FRESH_SIZE)
    looked, played, server = Row(name), Row(name), None
    try:
        server = stack.enter_context(STARTS[name](drive, scratch))  # which is ready once it has listed the folder
    except FAULTS as reason:
        looked.fail(reason)
        played.fail(reason)
    runs.say(f"{name}: {looked.note or 'up'}")
    return Up(drive, looked, played, server)


def drive_requests(ground: Ground) -> Report:
    files, plays = min(MOST, ground.amount.fresh), ground.amount.shared_rounds
    with ExitStack() as stack:
        within = stack.enter_context(emptied(ground))
        gateways = [entered(stack, name, files + plays + 1, within) for name in GATEWAYS]
        for number in range(files + 1):
            for one in gateways:
                if one.server is not None:
                    one.looked.attempt(partial(looked_into, one.drive, one.server, number), counts=number > 0)
            runs.say(f"file {number} of {files}")
        for number in range(files + 1, files + plays + 1):
            at_once([partial(one.played.attempt, partial(played, ground, one, number)) for one in gateways])
            runs.say(f"played {number - files} of {plays}")
    looked, heard = [one.looked for one in gateways], [one.played for one in gateways]
    away = f"{AWAY * 1000:.0f} ms"
    about = (
        f"Files of {FRESH_SIZE >> 20} MiB in a Google Drive {away} away, through gateways that have listed their "
        f"folder. Looking into a file that was never read: 64 KiB from its beginning, then from {len(SEEKS)} other "
        "places, then what was read before, on a connection that is open. Playing one takes "
        f"{ground.amount.play_seconds:.0f} s of it at 320 kbit/s from the beginning, and leaves. Requests for tokens "
        "are not counted. `for changes` are those for what has changed in the whole Drive."
    )
    tables = [
        Table("Looked into", (COLD, SEEK, HOT, AT_FIRST, PER_SEEK, FEED, BESIDE), looked),
        Table("Played", (PLAYED, FEED, BESIDE), heard),
    ]
    return Report("drive-requests", "Playing from Google Drive", about, tables, [*asked_goals(looked, heard)])


def at_once(measures: Sequence[Callable[[], None]]) -> None:
    """They leave the machine idle."""
    with ThreadPoolExecutor(len(measures)) as pool:
        for one in [pool.submit(measure) for measure in measures]:
            one.result()


def looked_into(drive: Drive, server: Server, number: int) -> Sample:
    name, data = f"{number:05d}.bin", content(number, FRESH_SIZE)
    waits, counts, again = [], [drive.asked()], list[float]()
    with Player(server) as player:
        for start in (FIRST, *SEEKS):
            waits.append(player.ask(name, start, data[start : start + loads.RANGE]) * 1000)
            time.sleep(SETTLED)
            counts.append(drive.asked())
        began = time.monotonic()
        while len(again) < HOT_ASKS and time.monotonic() - began < HOT_SECONDS:
            again.append(player.ask(name, FIRST, data[: loads.RANGE]) * 1000)
    first, sought = counts[1] - counts[0], counts[-1] - counts[1]
    return {
        COLD.title: waits[0],
        SEEK.title: statistics.median(waits[1:]),
        HOT.title: statistics.median(again),
        AT_FIRST.title: first.media,
        PER_SEEK.title: sought.media / len(SEEKS),
        FEED.title: first.feed + sought.feed,
        BESIDE.title: first.others + sought.others,
    }


def played(ground: Ground, one: Up, number: int) -> Sample:
    assert one.server
    before = one.drive.asked()
    play(one.server, f"{number:05d}.bin", loads.READER_RATE, ground.amount.play_seconds)
    time.sleep(SETTLED)
    asked = one.drive.asked() - before
    return {PLAYED.title: asked.media, FEED.title: asked.feed, BESIDE.title: asked.others}


def asked_goals(looked: Sequence[Row], heard: Sequence[Row]) -> Iterator[Goal]:
    for name, prefix in ((OURS, ""), (KEEPING, "keeping, ")):
        row, plays = (next(row for row in rows if row.name == name) for rows in (looked, heard))
        for column, what in ((AT_FIRST, "of a file never read"), (PER_SEEK, "per seek")):
            yield Goal(f"{prefix}media requests {what}", row.median(column.title), 1, most=True, unit="requests")
        for of, what in ((row, "looked into"), (plays, "played")):
            title = f"{prefix}other requests for a listed file, {what}"
            yield Goal(title, of.median(BESIDE.title), 0, most=True, unit="requests")
        for column, what in ((COLD, "file never read"), (SEEK, "seek")):
            wait = row.median(column.title)
            beyond = None if wait is None else wait - AWAY * 1000
            yield Goal(f"{prefix}{what}, beyond the round trip", beyond, most=True, unit="ms")
            best = ratio(looked, column.title, name, *RCLONES, least=True)
            yield Goal(f"{prefix}{what} vs the best rclone", best, most=True)
    yield Goal("media requests per play vs rclone", ratio(heard, PLAYED.title, OURS, RCLONE), most=True)
    yield Goal(
        "keeping, media requests per play vs rclone vfs full",
        ratio(heard, PLAYED.title, KEEPING, RCLONE_FULL),
        most=True,
    )


# ── listing ──


def drive_listing(ground: Ground) -> Report:
    rows = [Row(name + suffix) for suffix in ("", AGAIN) for name in (OURS, RCLONE)]
    with emptied(ground) as within, faked(within.scratch / "drive", AWAY) as drive:
        drive.fill(FOLDER, LISTED, EMPTY)
        for turn in range(rounds := min(LISTING_ROUNDS, ground.amount.rounds)):
            home = within.scratch / f"home-{turn}"
            for row in rows:
                row.attempt(partial(listed, drive, row.name.removesuffix(AGAIN), home, within.scratch / "said"))
            runs.say(f"round {turn + 1} of {rounds}")
    ours = next(row for row in rows if row.name == OURS + AGAIN)
    goals = [
        Goal("requests vs rclone", ratio(rows, REQUESTS.title, OURS, RCLONE), 1, most=True),
        Goal("seconds vs rclone", ratio(rows, SECONDS.title, OURS, RCLONE), most=True),
        Goal("requests, again", ours.median(REQUESTS.title), 1, most=True, unit="requests"),
        Goal("seconds, again, vs rclone", ratio(rows, SECONDS.title, OURS + AGAIN, RCLONE + AGAIN), most=True),
    ]
    about = (
        f"A folder of {LISTED:,} files in a Google Drive {AWAY * 1000:.0f} ms away, by `playhead ls` and `rclone "
        "lsf`, and once more by another process. Requests for tokens are not counted."
    )
    columns = (REQUESTS, SECONDS)
    return Report("drive-listing", "Listing a folder of Google Drive", about, [Table("", columns, rows)], goals)


def listed(drive: Drive, name: str, home: Path, said: Path) -> Sample:
    before = drive.asked()
    run = list_by(drive, name, home, said)
    if (lines := sorted(line.split()[-1] for line in run.said.decode().splitlines())) != [
        f"{number:05d}.bin" for number in range(LISTED)
    ]:
        raise peers.Broken(f"listed {len(lines):,} of {LISTED:,} names, or others")
    return {REQUESTS.title: (drive.asked() - before).requests, SECONDS.title: run.seconds}


def list_by(drive: Drive, name: str, home: Path, said: Path) -> Ran:
    extra = environment(home, drive.table("drive"))
    if name == OURS:
        return ran([*PLAYHEAD, "ls", f"drive:{FOLDER}"], extra, WITHIN, said)
    return ran([peers.program("rclone"), "lsf", f"g:{FOLDER}", *drive.rclone()], extra, WITHIN, said)
