"""Bytes as they come -> files on this machine, where what is uploaded waits until it is whole and stored.

Each upload is a folder whose name nobody can guess: `bytes/NAME`, and a journal. The journal's first line says what it
is to become; each further line how many bytes are certain, written after they were synced, or what became of it. A
line is a CRC-32 and JSON; the first that is not whole ends the journal, and is cut off. So an upload goes on after a
kill or a power cut from where its journal says; what its file has beyond that is cut off, too.

One process has the spool: it holds a lock. All of it is its owner's alone. Everything here blocks, but for `Upload`.
"""

import errno
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from secrets import token_hex
from typing import Any
from zlib import crc32

from playhead.errors import Busy, Damaged, Failure, Full, Malformed, Unavailable

VERSION = 1
LONGEST = 255  # bytes of a name
_ID = re.compile(r"[0-9a-f]{32}")
_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_FAILURES: dict[int, type[Failure]] = {
    errno.ENOSPC: Full,
    errno.EDQUOT: Full,
    errno.EFBIG: Full,
    errno.ENAMETOOLONG: Malformed,
    errno.EILSEQ: Malformed,
    errno.EINVAL: Malformed,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What may wait in a spool."""

    count: int = 1_000  # uploads that are not stored yet
    bytes: int = 100 * 10**9  # of all of them together, and so of each
    free: int = 1 << 30  # bytes of the disk that are left to others
    age: float = 86_400.0  # seconds without progress after which one is removed, and for which results are told


class State(StrEnum):
    """What an upload is at."""

    RECEIVING, STORING, DONE, FAILED = "receiving", "storing", "done", "failed"


@dataclass(slots=True, eq=False)
class Upload:
    """A file that is uploaded. `replaces`: the version that it may overwrite, as its tag or ETag; `modified`: in
    nanoseconds since 1970; `said`: its metadata as the client gave them.
    """

    tree: str
    path: str
    size: int
    modified: int | None = None
    replaces: str | None = None
    said: str = ""
    id: str = field(default_factory=lambda: token_hex(16))
    offset: int = 0  # bytes that are certain
    state: State = State.RECEIVING
    message: str = ""  # why it failed, or what is waited for
    status: int = 0  # HTTP's, of the failure
    entry: dict[str, Any] | None = None  # what it became
    touched: float = field(default_factory=time.time)  # when it last came further

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def under_way(self) -> bool:
        return self.state in (State.RECEIVING, State.STORING)


class Spool:
    """The folder in which uploads wait."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = -1

    def begin(self) -> list[Upload]:
        """What is there. Raises Busy where another process has it, Unavailable where it cannot be used."""
        with _written("the uploads"):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.folder.chmod(0o700)
            self.lock = os.open(self.folder / "lock", _FLAGS | os.O_CREAT, 0o600)
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.close()
                raise Busy("another process receives uploads in this folder; end it first") from None
            ids = [name for name in os.listdir(self.folder) if _ID.fullmatch(name)]
            return [upload for id in ids if (upload := self._found(id))]

    def close(self) -> None:
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    def free(self) -> int:
        """Bytes that the disk has left."""
        with _written("the uploads"):
            info = os.statvfs(self.folder)
        return info.f_bavail * info.f_frsize

    # ── where things are ──

    def place(self, upload: Upload) -> Path:
        return self.folder / upload.id

    def inside(self, upload: Upload) -> Path:
        """The folder that holds the file, and nothing else."""
        return self.folder / upload.id / "bytes"

    def _file(self, upload: Upload) -> int:
        return os.open(self.inside(upload) / upload.name, _FLAGS)

    # ── one upload ──

    def make(self, upload: Upload) -> None:
        """Room for an upload, on disk when this returns."""
        with _written(upload.path):
            try:
                self.inside(upload).mkdir(parents=True, mode=0o700)
                self.place(upload).chmod(0o700)
                os.close(os.open(self.inside(upload) / upload.name, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600))
                _sync(self.inside(upload))
                self._note(upload, _about(upload), os.O_CREAT | os.O_EXCL)
                _sync(self.place(upload))
                _sync(self.folder)
            except BaseException:
                self.remove(upload)
                raise

    def write(self, upload: Upload, at: int, data: Sequence[bytes]) -> int:
        """Write what has come; returns where that ends. It is not certain yet. Raises Full."""
        with _written(upload.path):
            fd = self._file(upload)
            try:
                for piece in data:
                    view = memoryview(piece)
                    while view:
                        count = os.pwrite(fd, view, at)
                        at, view = at + count, view[count:]
            finally:
                os.close(fd)
        return at

    def certain(self, upload: Upload, at: int) -> None:
        """All bytes before `at` are on disk, and the journal says so, when this returns."""
        with _written(upload.path):
            fd = self._file(upload)
            try:
                os.fdatasync(fd)
            finally:
                os.close(fd)
            self._note(upload, {"certain": at})
        upload.offset, upload.touched = at, time.time()

    def whole(self, upload: Upload) -> None:
        """It has all its bytes: now it is dated, and to be stored."""
        with _written(upload.path):
            fd = self._file(upload)
            try:
                if os.fstat(fd).st_size != upload.size:
                    raise Damaged(f"{upload.path!r} has not the bytes that came; upload it again")
                if upload.modified is not None:
                    with suppress(OverflowError):
                        os.utime(fd, ns=(upload.modified, upload.modified))
                os.fsync(fd)
            finally:
                os.close(fd)
            self._note(upload, {"state": State.STORING})
        upload.state, upload.touched = State.STORING, time.time()

    def settle(self, upload: Upload, state: State) -> None:
        """It was stored, or failed: note that; its bytes go."""
        said = {"state": state, "message": upload.message, "status": upload.status, "entry": upload.entry}
        with _written(upload.path):
            self._note(upload, said)
        upload.touched = time.time()
        self._empty(upload)

    def _empty(self, upload: Upload) -> None:
        shutil.rmtree(self.inside(upload), ignore_errors=True)
        for left in self.place(upload).glob("push.*"):
            left.unlink(missing_ok=True)

    def remove(self, upload: Upload) -> None:
        """Nothing of it is left."""
        with suppress(OSError):
            os.unlink(self.place(upload) / "journal")  # first, so that what a kill leaves is no upload
        shutil.rmtree(self.place(upload), ignore_errors=True)

    # ── the journal ──

    def _note(self, upload: Upload, fields: dict[str, Any], flags: int = 0) -> None:
        text = json.dumps(fields, separators=(",", ":")).encode("ascii")
        line = b"%08x %s\n" % (crc32(text), text)
        fd = os.open(self.place(upload) / "journal", _FLAGS | os.O_APPEND | flags, 0o600)
        try:
            before = os.fstat(fd).st_size
            try:
                if os.write(fd, line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fdatasync(fd)
            except OSError:
                os.ftruncate(fd, before)
                raise
        finally:
            os.close(fd)

    def _found(self, id: str) -> Upload | None:
        """An upload as its journal tells of it; None where that is not ours to read. What was never begun goes."""
        upload = Upload("", "", 0, id=id)
        try:
            with (self.folder / id / "journal").open("r+b") as file:
                begun = False
                for fields in _lines(file):
                    begun = _take(upload, fields, begun=begun)
                upload.touched = os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            begun = False
        except _Foreign:
            return None
        if not begun:
            self.remove(upload)
            return None
        if not upload.under_way:
            self._empty(upload)
        return upload if not upload.under_way or self._cut(upload) else None

    def _cut(self, upload: Upload) -> bool:
        """Cut off what is not certain; where there is less, the upload is gone."""
        try:
            fd = self._file(upload)
            try:
                if os.fstat(fd).st_size >= upload.offset:
                    if upload.state is State.RECEIVING:
                        os.ftruncate(fd, upload.offset)
                    return True
            finally:
                os.close(fd)
        except FileNotFoundError:
            pass
        self.remove(upload)
        return False


class _Foreign(Exception):
    """A journal of another version."""


def _lines(file: Any) -> Iterator[dict[str, Any]]:
    """The whole lines of a journal; what is behind them is cut off."""
    at = 0
    for line in file:
        text = line[9:-1]
        if not line.endswith(b"\n") or line[:9] != b"%08x " % crc32(text):
            break
        at += len(line)
        yield json.loads(text)
    file.truncate(at)


def _about(upload: Upload) -> dict[str, Any]:
    kept = {name: getattr(upload, name) for name in ("tree", "path", "size", "modified", "replaces", "said")}
    return {"playhead": "upload", "version": VERSION, **kept}


def _take(upload: Upload, fields: dict[str, Any], *, begun: bool) -> bool:
    """What a line says."""
    if not begun:
        if (fields.pop("playhead", None), fields.pop("version", None)) != ("upload", VERSION):
            raise _Foreign
    elif "certain" in fields:
        fields = {"offset": fields["certain"]}
    if "state" in fields:
        fields["state"] = State(fields["state"])
        upload.offset = upload.size
    for name, value in fields.items():
        setattr(upload, name, value)
    return True


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _written(what: str) -> Iterator[None]:
    """An OSError as one of our errors, naming the upload and nothing of the machine."""
    try:
        yield
    except OSError as error:
        kind = _FAILURES.get(error.errno or 0, Unavailable)
        why = os.strerror(error.errno or errno.EIO).lower()
        raise kind(f"{what!r} cannot be received: {why}") from error
