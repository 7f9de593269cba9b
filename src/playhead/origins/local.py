"""Nothing -> Tree: a folder on this machine.

Names are hostile: a path is segments, and what it resolves to must lie below the root (links may be followed
out of it only if the configuration says so). Nothing that may wait for a disk runs on the loop, with two
exceptions that keep the hot path short: an open-file cache (path -> descriptor, re-checked by fstat at each
use, and by path at most once a second), and spans of files on local disks, given without a hop to a thread.
Network file systems (FUSE, NFS, CIFS) have neither: they are read in threads.

A file that is written to while it is read raises Changed before its last bytes are given.
"""

import asyncio
import errno
import os
import resource
import stat
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from playhead.blob import Blob, FileSpan, Piece, Pieces, identity
from playhead.errors import Changed, Damaged, Denied, Failure, Full, NotFound, Unavailable
from playhead.tree import Ask, Entries, Entry, Tree, join, segments

READ = 1 << 20  # bytes in a read of a network file system
LAST = 64 << 10  # bytes of a long range that are held back until the file is known not to have changed
RECHECK = 1.0  # seconds for which a path is trusted to lead to the file that is open
INSTANT = 250e-6  # seconds between the opening and the first span of one answer, in which nothing is looked at again
_READING = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
NETWORKED = ("fuse", "nfs", "cifs", "smb", "9p", "ceph", "glusterfs", "afs", "sshfs")

_FAILURES: dict[int, type[Failure]] = {
    errno.ENOENT: NotFound,
    errno.ENOTDIR: NotFound,
    errno.EISDIR: NotFound,
    errno.ENAMETOOLONG: NotFound,
    errno.ENXIO: NotFound,
    errno.ELOOP: Denied,
    errno.EACCES: Denied,
    errno.EPERM: Denied,
    errno.ESTALE: Changed,
    errno.ENOSPC: Full,
    errno.EIO: Damaged,
}


def failure(error: OSError, path: str) -> Failure:
    """An OSError as one of our errors, naming the path inside the tree and nothing of the machine."""
    kind = _FAILURES.get(error.errno or 0, Unavailable)
    return kind(f"{path!r}: {os.strerror(error.errno or errno.EIO).lower()}")


class OpenFile:
    """An open descriptor, closed when nobody holds this any more."""

    __slots__ = ("fd", "key", "modified", "networked", "real", "seen", "size", "tag")

    def __init__(self, fd: int, real: str) -> None:
        self.fd = fd
        self.real = real
        info = os.fstat(fd)
        self.key = _key(info)
        self.size = info.st_size
        self.tag = _tag(real, self.key)
        self.modified = _when(info)
        self.networked = _networked(info.st_dev)
        self.seen = time.monotonic()  # when it was last known to be unchanged

    def fileno(self) -> int:
        return self.fd

    def unchanged(self) -> bool:
        if _key(os.fstat(self.fd)) != self.key:
            return False
        self.seen = time.monotonic()
        return True

    def __del__(self) -> None:
        os.close(self.fd)


def _when(info: os.stat_result) -> datetime | None:
    try:
        return datetime.fromtimestamp(info.st_mtime, UTC)
    except (ValueError, OverflowError, OSError):
        return None  # beyond the years that people count


def _key(info: os.stat_result) -> tuple[int, int, int]:
    return info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _tag(real: str, key: tuple[int, int, int]) -> str:
    """By path, size and times; neither device nor inode, which change when a disk is mounted anew."""
    return identity("l", real, *key) or ""


@lru_cache(maxsize=64)
def _networked(device: int) -> bool:
    """Is this device one that a network may be behind? Unknown where there is no /proc: then no."""
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return False
    number = f"{os.major(device)}:{os.minor(device)}"
    kinds = [line.split(" - ")[1].split()[0] for line in lines if line.split()[2] == number]
    return any(kind.startswith(NETWORKED) for kind in kinds)


@dataclass(frozen=True, slots=True, eq=False)
class LocalBlob(Blob):
    """A regular file as it was when it was opened."""

    path: str
    file: OpenFile

    async def stream(self, start: int, stop: int) -> Pieces:
        if self.file.networked:
            while start < stop:
                data = await asyncio.to_thread(self._pread, start, min(stop, start + READ))
                yield data
                start += len(data)
        elif stop - start > 2 * READ:
            yield self._span(start, stop - LAST)
            yield self._span(stop - LAST, stop)
        elif start < stop:
            yield self._span(start, stop)

    def here(self, start: int, stop: int) -> Sequence[Piece] | None:
        if self.file.networked or stop - start > 2 * READ:
            return None
        if time.monotonic() - self.file.seen >= INSTANT:
            self._check()
        return [FileSpan(self.file, start, stop - start)] if start < stop else []

    def _span(self, start: int, stop: int) -> FileSpan:
        self._check()
        return FileSpan(self.file, start, stop - start)

    def _pread(self, start: int, stop: int) -> bytes:
        try:
            data = FileSpan(self.file, start, stop - start).read()
        except Damaged:
            self._check()
            raise
        self._check()
        return data

    def _check(self) -> None:
        try:
            unchanged = self.file.unchanged()
        except OSError as error:
            raise failure(error, self.path) from error
        if not unchanged:
            raise Changed(f"{self.path!r} was changed while it was being read")


class LocalTree(Tree):
    """The folder `root` (or, where `root` is a file, a tree of that one name).

    Raises NotFound or Denied at once where it cannot be read.
    """

    def __init__(self, root: str | Path, *, follow_links: bool = False, open_files: int | None = None) -> None:
        self.root = os.path.realpath(root)
        self.follow_links = follow_links
        self.cache: OrderedDict[str, tuple[LocalBlob, float]] = OrderedDict()
        self.open_files = open_files or max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        try:
            with os.scandir(self.root):
                pass
        except OSError as error:
            raise failure(error, str(root)) from error

    async def entries(self, folder: str = "") -> Entries:
        for entry in await asyncio.to_thread(self._list, folder):
            yield entry

    async def find(self, path: str) -> Entry:
        return await asyncio.to_thread(self._find, path)

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        held = self.cache.get(path)
        if held is None or not held[0].file.unchanged():
            return self._hold(path, await asyncio.to_thread(self._open, path, None))
        if time.monotonic() - held[1] <= RECHECK:
            self.cache.move_to_end(path)
            return held[0]
        self._hold(path, held[0].file)  # for whoever else asks meanwhile
        try:
            return self._hold(path, await asyncio.to_thread(self._open, path, held[0].file))
        except Failure:
            self.cache.pop(path, None)
            raise

    def contents(self, paths: Sequence[str]) -> list[tuple[bytes, str | None]]:
        folders: dict[str, str] = {}
        return [self._content(path, folders) for path in paths]

    def _content(self, path: str, folders: dict[str, str]) -> tuple[bytes, str | None]:
        folder, _, name = path.rpartition("/")
        if folder not in folders:
            folders[folder] = self._real(folder)
        if name in ("", ".", "..") or "\0" in name:
            segments(path)
        real = f"{folders[folder].rstrip('/')}/{name}"
        try:
            fd = os.open(real, _READING)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise failure(error, path) from error
            real = self._real(path)  # a link, which may lead elsewhere below the root
            fd = self._descriptor(real, path)
        try:
            before = os.fstat(fd)
            if not stat.S_ISREG(before.st_mode):
                raise NotFound(f"{path!r} is not a file")
            data = os.read(fd, before.st_size + 1)
            if _key(os.fstat(fd)) != _key(before) or len(data) != before.st_size:
                raise Changed(f"{path!r} was changed while it was being read")
        except OSError as error:
            raise failure(error, path) from error
        finally:
            os.close(fd)
        return data, _tag(real, _key(before))

    def _descriptor(self, real: str, path: str) -> int:
        try:
            return os.open(real, _READING)
        except OSError as error:
            raise failure(error, path) from error

    async def aclose(self) -> None:
        self.cache.clear()

    def _hold(self, path: str, file: OpenFile) -> LocalBlob:
        blob = LocalBlob(file.size, file.tag, path, file, modified=file.modified)
        if not file.networked:
            self.cache[path] = blob, time.monotonic()
            self.cache.move_to_end(path)
            while len(self.cache) > self.open_files:
                self.cache.popitem(last=False)
        return blob

    def _real(self, path: str) -> str:
        """Where a path leads. Raises Denied where that is not below the root."""
        names = segments(path)
        if any("/" in name or os.sep in name for name in names):
            raise NotFound(f"{path!r} is not here")
        try:
            real = os.path.realpath(os.path.join(self.root, *names), strict=True)
        except OSError as error:
            raise failure(error, path) from error
        except ValueError as error:
            raise NotFound(f"{path!r} is not a name that a file can have") from error
        if not self.follow_links and not self._inside(real):
            raise Denied(f"{path!r} is a link that leads out of the folder")
        return real

    def _inside(self, real: str) -> bool:
        return real == self.root or real.startswith(self.root.rstrip("/") + "/")

    def _open(self, path: str, held: OpenFile | None) -> OpenFile:
        real = self._real(path)
        try:
            if held and held.real == real and _key(os.stat(real)) == held.key and held.unchanged():
                return held
            fd = os.open(real, _READING)
        except OSError as error:
            raise failure(error, path) from error
        file = OpenFile(fd, real)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise NotFound(f"{path!r} is not a file" if path else "this is a folder, not a file")
        return file

    def _find(self, path: str) -> Entry:
        real = self._real(path)
        try:
            return self._entry(segments(path)[-1] if path else "", real, os.stat(real))
        except OSError as error:
            raise failure(error, path) from error

    def _entry(self, name: str, real: str, info: os.stat_result) -> Entry:
        modified = _when(info)
        if stat.S_ISDIR(info.st_mode):
            return Entry(name, folder=True, modified=modified)
        if not stat.S_ISREG(info.st_mode):
            raise NotFound(f"{name!r} is neither a file nor a folder")
        mark = f"{info.st_size} {info.st_mtime_ns}"
        return Entry(name, False, info.st_size, modified, _tag(real, _key(info)), mark)

    def _list(self, folder: str) -> list[Entry]:
        real = self._real(folder)
        try:
            with os.scandir(real) as scan:
                return [entry for item in scan if (entry := self._listed(folder, real, item))]
        except OSError as error:
            raise failure(error, folder) from error

    def _listed(self, folder: str, real: str, item: "os.DirEntry[str]") -> Entry | None:
        """One entry of a folder; None for what vanished meanwhile, leads out, or is neither file nor folder."""
        try:
            if item.is_symlink():
                return self._find(join(folder, item.name))
            return self._entry(item.name, os.path.join(real, item.name), item.stat())
        except (OSError, NotFound, Denied):
            return None
