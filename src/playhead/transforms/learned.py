"""What is learned of a plan's members while they are read, on disk before it counts.

A listing may tell neither the version of a file nor its CRC; whoever reads the file learns them. A version binds all
that is sent later, so it is on disk before the first byte that it was learned with leaves (`settled`): else a process
that was killed could go on with another version of the same member. A CRC is only worth having, and may come later.

The file is a journal: a line each, with its own check, so that a torn or foreign line is nothing learned.
"""

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from playhead.transforms.crc import crc32

T = TypeVar("T", int, str)
SOON = 2.0  # seconds after which a CRC is on disk


def _shrug(error: OSError) -> None:
    """It is not kept, then."""


@dataclass(slots=True)
class Learned:
    """CRC-32s and tags by the numbers of members; `changed`: one was found not to be what it was.

    `path`: where the journal is; `failed` is called once where it cannot be written, and may raise a Failure.
    """

    crcs: dict[int, int] = field(default_factory=dict)
    pins: dict[int, str] = field(default_factory=dict)
    path: Path | None = None
    failed: Callable[[OSError], None] = _shrug
    changed: bool = False
    lines: list[str] = field(default_factory=list)  # not on disk yet
    versions: int = 0  # so many of them are versions
    writing: "asyncio.Task[None] | None" = None
    later: asyncio.TimerHandle | None = None
    broken: Exception | None = None  # what `failed` raised

    def crc(self, number: int, crc: int) -> None:
        """The CRC-32 of a member is known."""
        new = number not in self.crcs and self._put(self.crcs, "crc", number, crc)
        if new and self.writing is None and self.later is None:
            self.later = asyncio.get_running_loop().call_later(SOON, self._begin)

    def pin(self, number: int, tag: str) -> None:
        """The version of a member is known."""
        if number not in self.pins and self._put(self.pins, "pin", number, tag):
            self.versions += 1

    def _put(self, known: dict[int, T], kind: str, number: int, value: T) -> bool:
        """Remember something; is there a journal, where it is to be written too?"""
        known[number] = value
        if self.path is not None:
            self.lines.append(_line(kind, number, value))
        return self.path is not None

    async def settled(self) -> None:
        """Wait until each version that was learned so far is on disk."""
        while self.versions and self.path is not None:
            self._begin()
            if self.writing is None:
                break
            await asyncio.shield(self.writing)
        if self.broken is not None:
            raise self.broken

    def _begin(self) -> None:
        if self.later is not None:
            self.later.cancel()
            self.later = None
        if self.writing is None and self.lines:
            self.writing = asyncio.ensure_future(self._written())

    async def _written(self) -> None:
        lines, versions = self.lines, self.versions
        self.lines = []
        try:
            if self.path is not None:
                await asyncio.to_thread(_append, self.path, "".join(lines), certain=versions > 0)
            self.versions -= versions
        except OSError as error:
            self.path = None
            try:
                self.failed(error)
            except Exception as failure:
                self.broken = failure
        except BaseException:
            self.lines = lines + self.lines
            raise
        finally:
            self.writing = None

    def restore(self) -> None:
        """Take up what the journal says (blocks)."""
        if self.path is None:
            return
        try:
            lines = self.path.read_bytes().splitlines()
        except OSError:
            return
        for line in lines:
            match _read(line):
                case ["crc", int(number), int(crc)]:
                    self.crcs[number] = crc
                case ["pin", int(number), str(tag)]:
                    self.pins[number] = tag


def _line(*entry: str | int) -> str:
    text = json.dumps(entry)
    return f"{crc32(text.encode()):08x} {text}\n"


def _read(line: bytes) -> object:
    """What a line says; None where its check does not hold."""
    check, _, text = line.partition(b" ")
    try:
        return json.loads(text) if int(check, 16) == crc32(text) else None
    except (ValueError, RecursionError):
        return None


def _append(path: Path, text: str, *, certain: bool) -> None:
    """Add lines, after what a torn one may have left; `certain`: they are on disk when this returns."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(b"\n" + text.encode())
        file.flush()
        if certain:
            os.fdatasync(file.fileno())
