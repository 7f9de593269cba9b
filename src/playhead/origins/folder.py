"""Nothing -> Tree, Store: a folder on this machine that is written to.

A file is written beside where it belongs, as `.NAME.playhead-RANDOM`, in threads and in order, synced and dated, and
then renamed: never over what came to be there meanwhile, unless that is the version that is to be replaced. Such names
are shown to nobody here. After each 8 MiB what is there is synced, and the state says how far it goes, so that a kill
costs no more. Whoever writes a part has a lock on it; what was left of the same file, and nobody goes on with, is
removed.
"""

import asyncio
import ctypes
import errno
import fcntl
import os
import re
import stat
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from secrets import token_hex
from typing import TypeVar

from playhead.blob import Blob, FileSpan, Piece, pieces
from playhead.errors import Changed, Damaged, Denied, Failure, Full, Malformed, NotFound, Unavailable
from playhead.origins.local import LocalTree
from playhead.tree import Entry, Store, segments

CHUNK = 1 << 20  # bytes in a write
PART = 8 << 20  # bytes after which what was written is synced, and can be gone on with
_OURS = re.compile(r"\.(.+)\.playhead-[0-9a-f]{16}", re.DOTALL)
_LONGEST = 255  # bytes of a name
_WRITING = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

_FAILURES: dict[int, type[Failure]] = {
    errno.ENOSPC: Full,
    errno.EDQUOT: Full,
    errno.EACCES: Denied,
    errno.EPERM: Denied,
    errno.EROFS: Denied,
    errno.ELOOP: Denied,
    errno.ENOENT: Changed,  # the folder was there a moment ago
    errno.EEXIST: Malformed,
    errno.ENOTDIR: Malformed,
    errno.EISDIR: Malformed,
    errno.EINVAL: Malformed,
    errno.EILSEQ: Malformed,
    errno.ENAMETOOLONG: Malformed,
    errno.EFBIG: Malformed,
    errno.EIO: Damaged,
}

T = TypeVar("T")


@contextmanager
def _writing(path: str) -> Iterator[None]:
    """An OSError as one of our errors, naming the path inside the tree and nothing of the machine."""
    try:
        yield
    except OSError as error:
        kind = _FAILURES.get(error.errno or 0, Unavailable)
        raise kind(f"{path!r} cannot be written: {os.strerror(error.errno or errno.EIO).lower()}") from error


class LocalStore(LocalTree, Store):
    """The folder `root`, which must be there. See LocalTree."""

    def __init__(self, root: str | Path, *, follow_links: bool = False, open_files: int | None = None) -> None:
        super().__init__(root, follow_links=follow_links, open_files=open_files)
        self.left: dict[str, dict[str, list[str]]] = {}  # folder -> stem of a name -> parts found there at first

    # ── what is not shown ──

    def _real(self, path: str) -> str:
        if any(_OURS.fullmatch(name) for name in path.split("/")):
            raise NotFound(f"there is no {path!r}")
        return super()._real(path)

    def _listed(self, folder: str, real: str, item: "os.DirEntry[str]") -> Entry | None:
        return None if _OURS.fullmatch(item.name) else super()._listed(folder, real, item)

    def contents(self, paths: Sequence[str]) -> list[tuple[bytes, str | None]]:
        for path in paths:
            if _OURS.fullmatch(path.rpartition("/")[2]):
                raise NotFound(f"there is no {path!r}")
        return super().contents(paths)

    # ── writing ──

    async def put(
        self, path: str, blob: Blob, *, replaces: str | None, state: str | None, keep: Callable[[str], None]
    ) -> Entry:
        """See Store. The state names the part, and how many bytes of it are certain."""
        part = await _ended(self._begun, path, blob.size, replaces, state or "")
        try:
            async with aclosing(pieces(blob, part.at, blob.size)) as stream:
                await _filled(part, stream, keep)
            entry = await _ended(self._published, part, blob, replaces)
        except BaseException as error:
            if await _ended(part.leave, keep if isinstance(error, Failure) else None):
                self.left[part.place].setdefault(part.stem, []).append(part.temp)
            raise
        finally:
            self.cache.pop(path, None)
        return entry

    async def holds(self, path: str, blob: Blob) -> bool:
        """Compares them by reading both."""
        return await equal(await self.open(path), blob)

    def _begun(self, path: str, size: int, replaces: str | None, state: str) -> "_Part":
        """The part of a file that is to be written, from a state on, if it is one of ours."""
        names = segments(path)
        if not names or any(_OURS.fullmatch(name) for name in names):
            raise Malformed(f"{path!r} is not a name that a file can have here")
        for name in names:
            if len(os.fsencode(name)) > _LONGEST:
                raise Malformed(f"{path!r} has a name of {len(os.fsencode(name))} bytes; {_LONGEST} are the most")
        with _writing(path):
            folder, name = self._spot(path, names, replaces)
            part = _Part(path, folder, name)
            temp, _, at = state.partition(" ")
            part.begin(temp if at.isdigit() and part.own(temp) else None, int(at) if at.isdigit() else 0, size)
            self._clean(part)
            free = os.fstatvfs(part.folder)
            if (room := free.f_bavail * free.f_frsize) < size - part.at:
                part.leave(None)
                raise Full(f"{path!r} needs {size - part.at:,} bytes more, and {room:,} are free")
        return part

    def _spot(self, path: str, names: Sequence[str], replaces: str | None) -> tuple[str, str]:
        """The folder that a file belongs in, which is made where it is missing, and its name there."""
        if replaces is not None:
            self._compare(path, replaces)
            folder, name = os.path.split(self._real(path))
            return folder, name
        folder = self._folder(names[:-1])
        if os.path.lexists(os.path.join(folder, names[-1])):
            raise Changed(f"{path!r} is there already")
        return folder, names[-1]

    def _compare(self, path: str, replaces: str) -> None:
        try:
            there = self._find(path)
        except NotFound as error:
            raise Changed(f"{path!r} is gone") from error
        if there.tag != replaces:
            raise Changed(f"{path!r} is not the version that may be overwritten")

    def _folder(self, names: Sequence[str]) -> str:
        try:
            return self._directory("/".join(names))
        except NotFound:
            if not names:
                raise
        folder = self._folder(names[:-1])
        with suppress(FileExistsError):
            os.mkdir(os.path.join(folder, names[-1]))
            _sync(folder)
        return self._directory("/".join(names))

    def _directory(self, path: str) -> str:
        real = self._real(path)
        if not os.path.isdir(real):
            raise Malformed(f"{path!r} is a file: nothing can be put below it")
        return real

    def _clean(self, part: "_Part") -> None:
        """Remove what was left of the same file before this process began to write to its folder."""
        if part.place not in self.left:
            found = self.left[part.place] = {}
            with os.scandir(part.folder) as scan:
                for item in scan:
                    if match := _OURS.fullmatch(item.name):
                        found.setdefault(match[1], []).append(item.name)
        for temp in self.left[part.place].pop(part.stem, ()):
            if temp != part.temp:
                part.remove(temp)

    def _published(self, part: "_Part", blob: Blob, replaces: str | None) -> Entry:
        """Give a part that is whole its name."""
        with _writing(part.path):
            if part.at != blob.size or os.fstat(part.fd).st_size != blob.size:
                raise Damaged(f"{part.path!r} has {part.at:,} bytes, and not {blob.size:,}")
            part.date(blob.modified)
            os.fsync(part.fd)
            if replaces is None:
                part.link()
            else:
                self._compare(part.path, replaces)
                os.fchmod(part.fd, stat.S_IMODE(os.stat(part.name, dir_fd=part.folder).st_mode))
                os.rename(part.temp, part.name, src_dir_fd=part.folder, dst_dir_fd=part.folder)
            os.fsync(part.folder)
            part.close()
        return self._find(part.path)


class _Part:
    """A file on its way: `at` bytes were written, `certain` of them can be gone on with (blocks, all of it)."""

    def __init__(self, path: str, place: str, name: str) -> None:
        self.fd = self.folder = -1
        self.path, self.place, self.name = path, place, name
        fits = len(os.fsencode(name)) + len(".") + len(".playhead-") + 16 <= _LONGEST
        self.stem = name if fits else blake2b(os.fsencode(name), digest_size=16).hexdigest()
        self.temp = f".{self.stem}.playhead-{token_hex(8)}"
        self.at = self.certain = 0
        self.folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def own(self, temp: str) -> bool:
        match = _OURS.fullmatch(temp)
        return match is not None and match[1] == self.stem and "/" not in temp

    def begin(self, temp: str | None, certain: int, size: int) -> None:
        """Go on with a part, or begin a new one."""
        if temp and certain <= size and (fd := self._locked(temp, 0)) is not None:
            if os.fstat(fd).st_size >= certain:
                os.ftruncate(fd, certain)
                self.fd, self.temp, self.at, self.certain = fd, temp, certain, certain
                return
            os.close(fd)
        fd = self._locked(self.temp, os.O_CREAT | os.O_EXCL)
        if fd is None:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self.fd = fd

    def _locked(self, temp: str, flags: int) -> int | None:
        """A plain file that no other has a lock on; None where there is none."""
        try:
            fd = os.open(temp, _WRITING | flags, 0o666, dir_fd=self.folder)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.EISDIR):
                return None
            raise
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                with suppress(OSError):  # a file system without locks
                    try:
                        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        os.close(fd)
                        return None
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None

    def remove(self, temp: str) -> None:
        with suppress(OSError):
            if (fd := self._locked(temp, 0)) is not None:
                os.unlink(temp, dir_fd=self.folder)
                os.close(fd)

    def write(self, data: Sequence[Piece]) -> None:
        with _writing(self.path):
            for piece in data:
                for at in range(0, len(piece), CHUNK):
                    stop = min(at + CHUNK, len(piece))
                    run = piece.pread(at, stop) if isinstance(piece, FileSpan) else memoryview(piece)[at:stop]
                    self._write(memoryview(run))

    def _write(self, run: memoryview) -> None:
        while run:
            count = os.pwrite(self.fd, run, self.at)
            self.at, run = self.at + count, run[count:]

    def keep(self, keep: Callable[[str], None]) -> None:
        """Make what was written certain, and say so."""
        with _writing(self.path):
            os.fdatasync(self.fd)
            if not self.certain:
                os.fsync(self.folder)
        self.certain = self.at
        keep(f"{self.temp} {self.at}")

    def leave(self, keep: Callable[[str], None] | None) -> bool:
        """It is not whole: what came stays if it is worth it, and if it is told how far it goes; does it?"""
        if self.fd < 0:
            return False
        with suppress(OSError, Failure):
            if keep is not None and self.at - self.certain >= CHUNK:
                self.keep(keep)
        with suppress(OSError):
            if not self.certain:
                os.unlink(self.temp, dir_fd=self.folder)
        self.close()
        return bool(self.certain)

    def date(self, modified: datetime | None) -> None:
        if modified is not None:
            when = (modified - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
            with suppress(OverflowError):
                os.utime(self.fd, ns=(when, when))

    def link(self) -> None:
        """Give it its name, if nothing has that. Raises Changed."""
        try:
            if not _renamed(self.folder, self.temp, self.name):
                os.link(self.temp, self.name, src_dir_fd=self.folder, dst_dir_fd=self.folder, follow_symlinks=False)
                os.unlink(self.temp, dir_fd=self.folder)
        except FileExistsError:
            raise Changed(f"{self.path!r} came to be while it was written") from None

    def close(self) -> None:
        for fd in (self.fd, self.folder):
            if fd >= 0:
                os.close(fd)
        self.fd = self.folder = -1

    def __del__(self) -> None:
        self.close()


async def _filled(part: _Part, stream: AsyncGenerator[Piece, None], keep: Callable[[str], None]) -> None:
    """Write a stream, in as few turns of threads as can be."""
    held: list[Piece] = []
    size = 0
    async for piece in stream:
        held.append(piece)
        size += len(piece)
        if isinstance(piece, FileSpan) or size >= CHUNK:  # a span is good only until the stream goes on
            await _ended(part.write, held)
            held, size = [], 0
            if part.at - part.certain >= PART:
                await _ended(part.keep, keep)
    await _ended(part.write, held)


async def _ended(work: Callable[..., T], *given: object) -> T:
    """What a thread does, waited for also when whoever wants it is cancelled: it uses files that are closed then."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *given))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()
        raise


def _sync(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


_NOREPLACE = 1
_libc = ctypes.CDLL(None, use_errno=True)


def _renamed(folder: int, old: str, new: str) -> bool:
    """Rename to a name that nothing has; False: this system cannot. Raises FileExistsError."""
    if not hasattr(_libc, "renameat2"):
        return False
    if _libc.renameat2(folder, os.fsencode(old), folder, os.fsencode(new), _NOREPLACE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS):
        return False
    raise OSError(number, os.strerror(number))


# ── equality ──


async def equal(one: Blob, other: Blob) -> bool:
    """Are the bytes of two blobs the same? Reads both, as far as they are."""
    if one.size != other.size:
        return False
    async with aclosing(_runs(one)) as left, aclosing(_runs(other)) as right:
        async for run in left:
            if run != await anext(right, b""):
                return False
    return True


async def _runs(blob: Blob) -> AsyncGenerator[bytes, None]:
    """A blob in pieces of 1 MiB."""
    held = bytearray()
    async with aclosing(pieces(blob, 0, blob.size)) as stream:
        async for piece in stream:
            for at in range(0, len(piece), CHUNK):
                stop = min(at + CHUNK, len(piece))
                if isinstance(piece, FileSpan):
                    held += await asyncio.to_thread(piece.pread, at, stop)
                else:
                    held += memoryview(piece)[at:stop]
                if len(held) >= CHUNK:
                    yield bytes(held[:CHUNK])
                    del held[:CHUNK]
    if held:
        yield bytes(held)
