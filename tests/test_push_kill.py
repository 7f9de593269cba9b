"""A push that is killed at any moment ends, in the end, with exactly the source's bytes at the target, once each.

What is pushed goes through rclone's encryption into a folder. Every sealed byte that reaches the folder is written down
with its nonce before it is written there: a nonce that was used for two contents shows. Run as a program, this is the
push that is killed: SOURCE TARGET JOURNAL SEEN.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from playhead.blob import Blob, FileSpan, Pieces
from playhead.doors import sent
from playhead.doors.push import push
from playhead.origins import folder
from playhead.origins.folder import LocalStore
from playhead.origins.local import LocalTree
from playhead.transforms.crypt import crypt
from playhead.transforms.rclone import Encrypted
from playhead.tree import Entry
from tests.peers.crypts import Setting, put, rclone

DEADLINE = 60.0
MIB = 1 << 20
CHANCE = random.Random(11)
LARGE = ("large/1.flac", "large/2.flac")
FILES = {
    **{f"album {n % 3}/{n}.MP3": CHANCE.randbytes(CHANCE.choice([0, 1, 70_000, 65_536, 200_000])) for n in range(15)},
    **{name: CHANCE.randbytes(4 * MIB + 77) for name in LARGE},
}
FILES["twin of 14.mp3"] = FILES["album 2/14.MP3"]
LONG_AGO = 1_000_000_000


# ── the push ──


@dataclass(frozen=True, slots=True, eq=False)
class Slow(Blob):
    """What is written, written down first; slowly."""

    blob: Blob
    path: str
    seen: Path

    async def stream(self, start: int, stop: int) -> Pieces:
        assert isinstance(self.blob, Encrypted)
        about = {"nonce": self.blob.nonce.hex(), "path": self.path, "at": start}
        fd = os.open(self.seen, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(fd, json.dumps(about).encode() + b"\n")
            async with aclosing(self.blob.stream(start, stop)) as stream:
                async for piece in stream:
                    assert not isinstance(piece, FileSpan)
                    for at in range(0, len(piece), 65536):
                        part = memoryview(piece)[at : at + 65536]
                        assert os.write(fd, part) == len(part)
                        yield part
                        await asyncio.sleep(0.004)
        finally:
            os.close(fd)


class Watched(LocalStore):
    """A folder that writes down what it is given."""

    seen = Path()
    turns = count()

    async def put(
        self, path: str, blob: Blob, *, replaces: str | None, state: str | None, keep: Callable[[str], None]
    ) -> Entry:
        log = self.seen / f"{time.time_ns()}-{next(self.turns)}"
        slow = Slow(blob.size, blob.tag, blob, path, log, modified=blob.modified)
        return await super().put(path, slow, replaces=replaces, state=state, keep=keep)


async def pushed(source: str, target: str, journal: str, seen: str) -> int:
    folder.PART, folder.CHUNK = 256 << 10, 64 << 10
    store = Watched(target)
    store.seen = Path(seen)
    kept = sent.opened(Path(journal))
    tree = crypt(store, Setting().keys, Setting().names())
    print("begun", flush=True)
    summary = await push(LocalTree(source), "", tree, "", at_once=4, overwrite=True, journal=kept)
    kept.close()
    return summary.code


# ── the tests ──


@dataclass(frozen=True, slots=True)
class Place:
    """Where all of it is."""

    folder: Path

    def __getattr__(self, name: str) -> Path:
        return self.folder / name

    def begin(self) -> "subprocess.Popen[bytes]":
        places = [str(self.folder / name) for name in ("source", "target", "state/push.journal", "seen")]
        process = subprocess.Popen([sys.executable, "-m", "tests.test_push_kill", *places], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        return process

    def files(self) -> Iterator[Path]:
        return (path for path in (self.folder / "target").rglob("*") if not path.is_dir())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    put(FILES, tmp_path / "source")
    for path in FILES:
        os.utime(tmp_path / "source" / path, (LONG_AGO, LONG_AGO))
    for name in ("target", "seen"):
        (tmp_path / name).mkdir()
    return Place(tmp_path)


def change(place: Place, chance: random.Random, wanted: dict[str, bytes]) -> None:
    """Another content of a large file, as long as the last one and as old."""
    name = chance.choice(LARGE)
    data = bytearray(wanted[name])
    at = chance.randrange(MIB)
    data[at : at + 1000] = chance.randbytes(len(data[at : at + 1000]))
    with (place.source / name).open("r+b") as file:
        file.seek(at)
        file.write(data[at : at + 1000])
    os.utime(place.source / name, (LONG_AGO, LONG_AGO))
    wanted[name] = bytes(data)


def kill_often(place: Place, kills: int, longest: float, *, changes: bool) -> None:
    chance, wanted = random.Random(kills), dict(FILES)
    for turn in range(kills):
        with place.begin() as process:
            if changes and turn % 3 == 1:  # while it is sent
                time.sleep(chance.uniform(0, longest / 2))
                change(place, chance, wanted)
            time.sleep(chance.uniform(0, longest))
            process.kill()
        if changes and turn % 3 == 2:
            change(place, chance, wanted)
    with place.begin() as process:
        assert process.wait(DEADLINE) == 0
    check(place, wanted)
    before = {path: path.stat().st_mtime_ns for path in place.files()}
    logs = len(list(place.seen.iterdir()))
    with place.begin() as process:
        assert process.wait(DEADLINE) == 0
    assert {path: path.stat().st_mtime_ns for path in place.files()} == before  # nothing is sent twice
    assert len(list(place.seen.iterdir())) == logs


def check(place: Place, wanted: dict[str, bytes]) -> None:
    """The source is as it was, the target is the source, and rclone reads it; no nonce was used for two contents."""
    source = {str(path.relative_to(place.source)): path for path in place.source.rglob("*") if not path.is_dir()}
    assert {name: path.read_bytes() for name, path in source.items()} == wanted
    assert {path.stat().st_mtime for path in source.values()} == {LONG_AGO}
    assert len(list(place.files())) == len(wanted)
    check_nonces(place)
    rclone("copy", Setting().remote(place.target), str(place.folder / "read"))
    read = {str(path.relative_to(place.folder / "read")): path for path in (place.folder / "read").rglob("*.*")}
    assert {name: path.read_bytes() for name, path in read.items()} == wanted
    assert {path.stat().st_mtime for path in read.values()} == {LONG_AGO}


def check_nonces(place: Place) -> None:
    """All that was ever given to the folder under a nonce is the beginning of one sealed file."""
    sealed: dict[str, bytes] = {}
    for log in sorted(place.seen.iterdir()):
        head, _, data = log.read_bytes().partition(b"\n")
        if not head:
            continue  # killed before anything was given
        about = json.loads(head)
        known, at = sealed.get(about["nonce"], b""), about["at"]
        assert at <= len(known), "it was gone on with behind what had been sent"
        overlap = min(len(known) - at, len(data))
        assert data[:overlap] == known[at : at + overlap], f"a nonce was used twice, for {about['path']}"
        sealed[about["nonce"]] = known + data[overlap:] if at + len(data) > len(known) else known
    for path in place.files():
        data = path.read_bytes()
        assert sealed[data[8:32].hex()] == data


def test_a_push_that_is_killed_goes_on_and_ends_with_each_file_once(place: Place) -> None:
    kill_often(place, 5, 0.4, changes=False)


def test_a_push_that_is_killed_while_its_source_changes_takes_a_fresh_nonce(place: Place) -> None:
    kill_often(place, 5, 0.4, changes=True)


@pytest.mark.torture
@pytest.mark.timeout(600)
@pytest.mark.parametrize("changes", [False, True])
def test_a_push_that_is_killed_50_times_ends_with_each_file_once(place: Place, changes: bool) -> None:
    kill_often(place, 50, 0.3, changes=changes)


def kill_when_much_was_sent(place: Place) -> None:
    with place.begin() as process:
        end = time.monotonic() + DEADLINE
        while sum(path.stat().st_size for path in place.files()) < 5 * MIB:
            assert time.monotonic() < end
            time.sleep(0.01)
        process.kill()
    assert any(path.name.startswith(".") and path.stat().st_size >= MIB for path in place.files())


def test_what_was_sent_of_a_file_that_changed_since_is_given_up_with_its_nonce(place: Place) -> None:
    wanted, chance = dict(FILES), random.Random(1)
    for _ in range(2):
        kill_when_much_was_sent(place)
        for _ in range(8):
            change(place, chance, wanted)
    with place.begin() as process:
        assert process.wait(DEADLINE) == 0
    check(place, wanted)


def test_what_was_sent_before_a_kill_is_not_sent_again(place: Place) -> None:
    kill_when_much_was_sent(place)
    with place.begin() as process:
        assert process.wait(DEADLINE) == 0
    check(place, FILES)
    begun = [json.loads(log.read_bytes().partition(b"\n")[0]) for log in sorted(place.seen.iterdir())]
    assert any(about["at"] >= MIB for about in begun)
    given = sum(len(log.read_bytes().partition(b"\n")[2]) for log in place.seen.iterdir())
    assert given <= sum(map(len, FILES.values())) + 4 * (512 << 10)


if __name__ == "__main__":
    sys.exit(asyncio.run(pushed(*sys.argv[1:])))
