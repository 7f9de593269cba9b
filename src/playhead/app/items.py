"""A download of the queue <-> a line of JSON; all the lines <-> a file that is replaced whole.

The first line says what the file is. A line that is torn or foreign is one download that is not known; the others are.
What cannot be read is never lost: before such a file is written anew, it is copied aside.
"""

import asyncio
import fcntl
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from secrets import token_hex
from typing import Protocol

from playhead.errors import Busy

MOST = 64 << 20  # bytes of a file that is read
HEAD = {"playhead": "queue", "version": 1}
TEXT = 128 << 10  # characters of any text in it

log = logging.getLogger("playhead.queue")


class Job(Protocol):
    """One download that runs."""

    @property
    def size(self) -> int | None:
        """In bytes; None until it is known."""

    @property
    def have(self) -> int:
        """Bytes that are on disk for certain."""

    @property
    def rate(self) -> float:
        """Bytes a second, now."""

    @property
    def connections(self) -> int:
        """How many it has open."""

    @property
    def name(self) -> str:
        """Of the target; it is known after the first answer."""

    @property
    def path(self) -> Path | None:
        """Where the whole file is, or what there is of it."""

    async def run(self) -> None:
        """Until whole and published. Raises a Failure. Cancelling it pauses: what is there stays on disk."""


Start = Callable[[Sequence[str], Mapping[str, str]], Job]
"""(addresses; options: dir, out, checksum, split, header ...) -> a job. Raises a Failure."""


class State(StrEnum):
    """As aria2 calls them."""

    ACTIVE = "active"
    WAITING = "waiting"
    PAUSED = "paused"
    ERROR = "error"
    COMPLETE = "complete"
    REMOVED = "removed"


STOPPED = (State.ERROR, State.COMPLETE, State.REMOVED)


@dataclass(slots=True, eq=False)
class Item:
    """One download. `next`: what it becomes when its task has ended, where somebody asked for that."""

    gid: str
    uris: tuple[str, ...]
    options: dict[str, str]
    place: str = ""  # of its folder, below the downloads folder
    state: State = State.WAITING
    code: int = 0  # aria2's number of the error
    error: str = ""
    name: str = ""
    size: int | None = None
    have: int = 0
    next: State | None = None
    job: Job | None = None
    task: "asyncio.Task[None] | None" = None
    line: bytes | None = None  # as it is in the file; None: it changed since

    def look(self) -> bool:
        """Note what its job knows by now. True where that is something to keep."""
        if self.job is None:
            return False
        before = self.name, self.size
        self.name, self.size, self.have = self.job.name or self.name, self.job.size, self.job.have
        return before != (self.name, self.size)

    @property
    def rate(self) -> float:
        """Bytes a second now."""
        return self.job.rate if self.job else 0.0

    @property
    def connections(self) -> int:
        return self.job.connections if self.job else 0

    @property
    def path(self) -> str:
        """Below the downloads folder; empty until its name is known."""
        return f"{self.place}/{self.name}".lstrip("/") if self.name else ""

    def packed(self) -> bytes:
        """Its line."""
        if self.line is None:
            state = self.next or self.state
            kept = {"gid": self.gid, "state": State.WAITING if state is State.ACTIVE else state}
            for key in ("uris", "options", "place", "code", "error", "name", "size", "have"):
                kept[key] = getattr(self, key)
            self.line = json.dumps(kept).encode() + b"\n"
        return self.line


def unpacked(line: bytes) -> Item:
    """The download of a line. Raises ValueError, TypeError or KeyError."""
    kept = json.loads(line)
    uris, options, state = kept["uris"], kept["options"], State(kept["state"])
    texts = [*uris, *options, *options.values(), kept["place"], kept["error"], kept["name"]]
    numbers = [kept["code"], kept["have"], kept["size"] or 0]
    if not re.fullmatch("[0-9a-f]{16}", kept["gid"]) or not isinstance(uris, list) or not uris:
        raise ValueError("it is not what was written")
    if any(not isinstance(text, str) or len(text) > TEXT for text in texts):
        raise ValueError("one of its texts is none")
    if any(type(number) is not int or not 0 <= number < 1 << 63 for number in numbers) or state is State.ACTIVE:
        raise ValueError("one of its numbers is none")
    more = {key: kept[key] for key in ("place", "code", "error", "name", "size", "have")}
    return Item(kept["gid"], tuple(uris), dict(options), state=state, **more)


def read(file: Path) -> list[Item]:
    """The downloads of a file, in its order; of an unreadable one, those that can be read."""
    try:
        with file.open("rb") as opened:
            lines = opened.read(MOST + 1).splitlines()
    except FileNotFoundError:
        return []
    found: dict[str, Item] = {}
    odd = 0
    if sum(map(len, lines)) > MOST or not lines or not _is_ours(lines[0]):
        odd, lines = 1, []
    for line in lines[1:]:
        try:
            item = unpacked(line)
            found[item.gid] = item
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            odd += 1
    if odd:
        log.warning("not all of the queue of downloads can be read; it is kept as %s", _aside(file).name)
    return list(found.values())


def _is_ours(line: bytes) -> bool:
    try:
        return bool(json.loads(line) == HEAD)
    except (ValueError, RecursionError):
        return False


def _aside(file: Path) -> Path:
    aside = file.with_name(f"{file.name}.{token_hex(4)}.aside")
    shutil.copyfile(file, aside)
    aside.chmod(0o600)
    return aside


def write(file: Path, lines: Iterable[bytes]) -> None:
    """In place of what was there, whole or not at all, and on disk when it returns. Raises OSError."""
    fresh = file.with_name(f"{file.name}.{token_hex(4)}.tmp")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(json.dumps(HEAD).encode() + b"\n")
            out.writelines(lines)
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(file)
    except OSError:
        with suppress(OSError):
            fresh.unlink()
        raise
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def held(file: Path) -> int:
    """A descriptor that keeps other processes from this queue until it is closed. Raises Busy."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(f"{file}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise Busy("another process runs this queue of downloads; end it first") from error
    return fd
