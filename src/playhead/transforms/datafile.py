"""A sparse file of blocks, as the system gives it: opened, written past the page cache, punched, locked.

Every call that only some systems have has a branch for the others.
"""

import ctypes
import errno
import fcntl
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from playhead.errors import Busy
from playhead.transforms.journal import BLOCK, blocks_of

DIRECT = 4096  # alignment of unbuffered writes


class DataFile:
    """An open data file, closed when nobody holds it any more."""

    __slots__ = ("cut", "fd", "path")

    def __init__(self, path: str, size: int, *, create: bool) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0), 0o600)
        self.cut = os.fstat(self.fd).st_size < size  # something was taken from it, or it is new
        if self.cut:
            os.ftruncate(self.fd, size)

    def fileno(self) -> int:
        return self.fd

    def there(self) -> bool:
        """Is it still the file of a name?"""
        try:
            return os.fstat(self.fd).st_nlink > 0
        except OSError:
            return False

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)


@dataclass(frozen=True, slots=True)
class Claim:
    """Blocks that are being written, and their bytes."""

    blocks: range
    data: memoryview


def pwrite(file: DataFile, claims: Iterable[Claim], direct: bool) -> None:
    """Write all of it: past the page cache where that is wanted and can be, for fresh pages cost more than the disk."""
    fd = _unbuffered(file) if direct else None
    try:
        for claim in claims:
            data, at = claim.data, claim.blocks.start * BLOCK
            if fd is not None and len(data) % DIRECT == 0 and _passed(fd, data, at):
                continue
            while data:
                count = os.pwrite(file.fd, data, at)
                data, at = data[count:], at + count
    finally:
        if fd is not None:
            os.close(fd)


def _unbuffered(file: DataFile) -> int | None:
    """A descriptor of a data file that goes past the page cache; None where the system has none for it."""
    if not hasattr(os, "O_DIRECT"):
        return None
    try:
        return os.open(file.path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECT)
    except OSError:
        return None


def _passed(fd: int, data: memoryview, at: int) -> bool:
    try:
        return os.pwrite(fd, data, at) == len(data)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return False
        raise


def on_disk(size: int) -> int:
    return blocks_of(size) * BLOCK


def locked(path: str) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN):
            raise Busy("another process has the folder of the cache") from error
        raise
    return fd


def remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


def private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


_KEEP_SIZE, _PUNCH_HOLE = 1, 2


def punched(fd: int, start: int, length: int) -> None:
    """Give the disk back what a range of a file takes; it then reads as zeros. Raises OSError."""
    if not hasattr(_libc, "fallocate64"):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    mode, offset, count = ctypes.c_int(_KEEP_SIZE | _PUNCH_HOLE), ctypes.c_int64(start), ctypes.c_int64(length)
    if _libc.fallocate64(fd, mode, offset, count) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


_libc = ctypes.CDLL(None, use_errno=True)
