"""What a push has done, for the next one: a journal of lines, on disk before what it tells of goes on.

A line is a CRC-32 and JSON; a path is either begun (the state that the store keeps, and what of the source had been
read by then) or done (the version of the source, its SHA-256, and the version at the target). Lines are only appended;
the first that is not whole ends the journal, and is cut off. What was begun is synced before it is answered, many
threads by one fsync; what is done need not be: the next push asks the store then. When most lines are outdated the
journal is written anew.

One process has a journal: it holds a lock on a file beside it. Both are their owner's alone.
"""

import errno
import fcntl
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from playhead.errors import Busy, Failure, Full, Malformed

VERSION = 1
SLACK = 1 << 20  # bytes of outdated lines that are never worth writing the journal anew
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class Begun:
    """A file that is being sent: the version of its source, the store's state, and the SHA-256 of the first `read`
    bytes of the source, which had been read when that state was kept."""

    tag: str | None
    size: int
    state: str
    read: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Done:
    """A file that is at the target: the version of its source, its SHA-256 if known, and the version of the target."""

    tag: str | None
    size: int
    sha256: str | None
    there: str | None


class Journal:
    """Made by `opened`. From any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = self.held = -1
        self.lines: dict[str, bytes] = {}  # path -> the JSON of its last line
        self.live = 0  # bytes of these
        self.length = 0  # bytes of the file
        self.written = self.synced = 0  # lines, ever
        self.lock, self.syncing = threading.Lock(), threading.Lock()

    # ── what it says ──

    def begun(self, path: str) -> Begun | None:
        fields = self._fields(path, "begun")
        return Begun(**fields) if fields else None

    def done(self, path: str) -> Done | None:
        fields = self._fields(path, "done")
        return Done(**fields) if fields else None

    def _fields(self, path: str, what: str) -> dict[str, Any] | None:
        line = self.lines.get(path)
        fields: dict[str, Any] = json.loads(line) if line else {}
        return fields if fields.pop(what, None) is not None else None

    @property
    def unfinished(self) -> int:
        """Files that were begun, and are not done."""
        return sum(line.startswith(b'{"begun"') for line in list(self.lines.values()))

    # ── writing (blocks) ──

    def keep(self, path: str, begun: Begun) -> None:
        """A file goes on from here; on disk when this returns. Raises Full, or Malformed."""
        with _written(self.path):
            self._sync(self._append(path, {"begun": path, **asdict(begun)}))

    def finish(self, path: str, done: Done) -> None:
        """A file is at the target."""
        with _written(self.path):
            self._append(path, {"done": path, **asdict(done)})
            self._shorten()

    def drop(self, path: str) -> None:
        """Nothing is known of a file any more."""
        with _written(self.path):
            if path in self.lines:
                self._sync(self._append(path, {"dropped": path}))

    def _append(self, path: str, fields: dict[str, Any]) -> int:
        """Returns how many lines there are now."""
        text = json.dumps(fields, separators=(",", ":")).encode("ascii")
        with self.lock:
            if self.fd < 0:
                return 0
            _all(self.fd, line := _checked(text))
            self.length += len(line)
            self.written += 1
            self._remember(path, text, dropped="dropped" in fields)
            return self.written

    def _remember(self, path: str, text: bytes, *, dropped: bool) -> None:
        self.live -= len(self.lines.pop(path, b""))
        if not dropped:
            self.lines[path] = text
            self.live += len(text)

    def _sync(self, line: int) -> None:
        """Everything up to a line is on disk."""
        with self.syncing:
            if self.synced < line and self.fd >= 0:
                with self.lock:
                    written = self.written
                os.fdatasync(self.fd)
                self.synced = written
        self._shorten()

    def _shorten(self) -> None:
        """Write it anew without what is outdated, where that is most of it."""
        if self.length <= 2 * self.live + 10 * len(self.lines) + SLACK:
            return
        with self.syncing, self.lock:
            if self.fd < 0:
                return
            fresh = self.path.with_suffix(".new")
            fd = os.open(fresh, _FLAGS | os.O_TRUNC | os.O_APPEND, 0o600)
            try:
                data = b"".join([_header(), *map(_checked, self.lines.values())])
                _all(fd, data)
                os.fsync(fd)
                os.rename(fresh, self.path)
            except BaseException:
                os.close(fd)
                raise
            os.close(self.fd)
            self.fd, self.length, self.synced = fd, len(data), self.written
            _sync_folder(self.path.parent)

    # ── its life ──

    def _read(self) -> None:
        """Take up what is there; the rest of what is torn is cut off. Raises Malformed for another version."""
        data = bytearray()
        while piece := os.pread(self.fd, 1 << 24, len(data)):
            data += piece
        at = 0
        while (end := data.find(b"\n", at)) >= 0:
            text = bytes(data[at + 9 : end])
            if data[at : at + 9] != b"%08x " % crc32(text) or not self._take(text, first=at == 0):
                break
            at = end + 1
        os.ftruncate(self.fd, at)
        if not at:
            _all(self.fd, _header())
        self.length = at or len(_header())

    def _take(self, text: bytes, *, first: bool) -> bool:
        fields = json.loads(text)
        if first:
            if fields != {"playhead": "push", "version": VERSION}:
                raise Malformed(f"{self.path} is a journal of another version of playhead; move it away")
            return True
        what, path = next(iter(fields.items()))
        self._remember(path, text, dropped=what == "dropped")
        return True

    def close(self) -> None:
        with self.syncing, self.lock:
            for fd in (self.fd, self.held):
                if fd >= 0:
                    os.close(fd)
            self.fd = self.held = -1


def opened(path: Path) -> Journal:
    """The journal at a path, with what an earlier push left (blocks).

    Raises Busy where another process has it, Malformed or Full where it cannot be written.
    """
    made = Journal(path)
    try:
        with _written(path):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.parent.chmod(0o700)
            made.held = os.open(path.with_suffix(".lock"), _FLAGS, 0o600)
            try:
                fcntl.flock(made.held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy("this is being pushed to the same place by another process; wait until that ends") from None
            made.fd = os.open(path, _FLAGS | os.O_APPEND, 0o600)
            made._read()
            _sync_folder(path.parent)
    except BaseException:
        made.close()
        raise
    return made


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """What fails here, as ours, naming the file."""
    try:
        yield
    except OSError as error:
        kind: type[Failure] = Full if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else Malformed
        why = os.strerror(error.errno or 0).lower()
        raise kind(f"the journal {path} cannot be written: {why}; see XDG_STATE_HOME") from error


def _header() -> bytes:
    return _checked(b'{"playhead":"push","version":%d}' % VERSION)


def _checked(text: bytes) -> bytes:
    return b"%08x %s\n" % (crc32(text), text)


def _all(fd: int, data: bytes) -> None:
    """Append; what could only be written in part is taken back."""
    before, view = os.fstat(fd).st_size, memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError:
        with suppress(OSError):
            os.ftruncate(fd, before)
        raise


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
