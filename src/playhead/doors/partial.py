"""What has come so far of a file that is being downloaded: `NAME.part`, and beside it a journal of its blocks.

A block is journaled only after it is on disk (fdatasync), and believed later only if its bytes have the CRC that the
journal says: so a kill costs what was not journaled yet, and a crash of the machine no wrong byte. The journal is the
reservoir's; it begins with the tag and the size of the version that the blocks are of. When all of it is there and
right, the file gets its name (rename, and the folder synced), and the journal goes.

One process has a part: it holds a lock on the journal. What lies there and cannot be explained is put aside as
`NAME.part.old`, never written over.
"""

import ctypes
import errno
import fcntl
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

from playhead.blob import FileSpan
from playhead.errors import Damaged, Denied, Failure, Full, Malformed
from playhead.transforms import journal
from playhead.transforms.journal import BLOCK, DROPPED, HERE, blocks_of
from playhead.tree import visible

MISSING, WRITTEN, CERTAIN = range(3)  # of a block: to be fetched; in the file; journaled
DIRECT = 4096  # alignment of writes past the page cache
PART, JOURNAL, OLD = ".part", ".part.journal", ".part.old"
LONGEST = 255 - len(JOURNAL)  # bytes of a name that leaves room for the others
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Partial:
    """The part of `target`. Made by `opened`; `said` is what there is to say of what was found."""

    def __init__(self, target: Path, tag: str, size: int, source: str, exactly: str) -> None:
        self.fd = self.direct = self.log = -1
        self.target, self.tag, self.size = target, tag, size
        self.source = f"{source} #{blake2b(exactly.encode('utf-8', 'surrogateescape'), digest_size=8).hexdigest()}"
        self.part, self.journal = beside(target, PART), beside(target, JOURNAL)
        self.seed = journal.seed(tag, size, self.source)
        self.states = bytearray()  # of its blocks, once there is room for them
        self.crcs: dict[int, int] = {}  # of blocks that are written and not journaled yet
        self.have = 0  # bytes that are journaled
        self.written = 0  # bytes that are in the file
        self.said: list[str] = []
        self.broken: Failure | None = None  # why nothing can be journaled any more
        self.doubtful = False  # it was begun from an address with another query
        self.lock, self.syncing = threading.Lock(), threading.Lock()

    # ── what is there ──

    def length(self, block: int) -> int:
        """Bytes of a block."""
        return min(BLOCK, self.size - block * BLOCK)

    def missing(self, start: int = 0) -> Iterator[tuple[int, int]]:
        """The runs of bytes that are to be fetched, from a block on."""
        block, count = start // BLOCK, len(self.states)
        while (first := self.states.find(MISSING, block)) >= 0:
            rest = self.states[first:]
            block = first + len(rest) - len(rest.lstrip(b"\0"))
            yield first * BLOCK, min(self.size, block * BLOCK)
            if block >= count:
                return

    def held(self, start: int) -> int:
        """How many bytes from an offset on are in the file."""
        first = start // BLOCK
        rest = self.states[first : first + 1024]
        count = len(rest) - len(rest.lstrip(b"\1\2"))
        return max(0, min(self.size, (first + count) * BLOCK) - start)

    @property
    def whole(self) -> bool:
        return MISSING not in self.states

    def span(self, start: int, length: int) -> FileSpan:
        """Bytes that are held, as they lie in the file."""
        return FileSpan(self, start, length)

    def fileno(self) -> int:
        return self.fd

    # ── writing ──

    def write(self, at: int, data: memoryview) -> None:
        """Put whole blocks into the file (blocks). Raises Full, or Denied."""
        crcs = journal.crcs(data)
        with writing(self.part):
            self._put(at, data)
        first = at // BLOCK
        with self.lock:
            for block, crc in enumerate(crcs, first):
                if self.states[block] == MISSING:
                    self.states[block], self.crcs[block] = WRITTEN, crc
                    self.written += self.length(block)

    def _put(self, at: int, data: memoryview) -> None:
        while self.direct >= 0 and data.nbytes >= DIRECT and at % DIRECT == 0:
            try:
                count = os.pwrite(self.direct, data[: len(data) // DIRECT * DIRECT], at)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                break
            at, data = at + count, data[count:]
        while data:
            count = os.pwrite(self.fd, data, at)
            at, data = at + count, data[count:]

    def sync(self) -> None:
        """Journal what was written (blocks): the data first on disk, then the journal. Raises Full, or Denied."""
        with self.syncing:
            if self.broken:  # the system tells an error of the disk once
                raise self.broken
            with self.lock:
                fresh, self.crcs = self.crcs, {}
            if not fresh:
                return
            try:
                with writing(self.part):
                    os.fdatasync(self.fd)
                    _appended(self.log, journal.records(self.seed, [(at, crc, HERE) for at, crc in fresh.items()]))
                    os.fdatasync(self.log)
            except Failure as failure:
                self.broken = failure
                raise
            with self.lock:
                for block in fresh:
                    self.states[block] = CERTAIN
                    self.have += self.length(block)

    def forget(self, blocks: range) -> None:
        """These are to be fetched again (blocks)."""
        with self.syncing, self.lock, writing(self.part):
            gone = [block for block in blocks if self.states[block] != MISSING]
            entries = [(block, 0, DROPPED) for block in gone if self.states[block] == CERTAIN]
            _appended(self.log, journal.records(self.seed, entries))
            for block in gone:
                self.have -= self.length(block) * (self.states[block] == CERTAIN)
                self.written -= self.length(block)
                self.states[block] = MISSING
                self.crcs.pop(block, None)

    def begin_anew(self) -> None:
        """Nothing that is there counts (blocks)."""
        with self.lock, writing(self.part):
            os.ftruncate(self.log, 0)
            _all(self.log, journal.header(self.tag, self.size, self.source))
            self.states, self.crcs = bytearray(len(self.states)), {}
            self.have = self.written = 0

    def append(self, data: memoryview) -> None:
        """Add to what has no size yet (blocks). It is journaled by nobody."""
        with writing(self.part):
            while data:
                count = os.pwrite(self.fd, data, self.size)
                self.size, data = self.size + count, data[count:]

    # ── its life ──

    def trim(self) -> None:
        """Nothing is in the file but what belongs there (blocks)."""
        with writing(self.part):
            if os.fstat(self.fd).st_size != self.size:
                os.ftruncate(self.fd, self.size)

    def publish(self, *, over: bool = False) -> None:
        """All is there and right: give it its name (blocks). `over`: whatever has that name now.

        Raises Malformed where something came to have it meanwhile; then the part stays.
        """
        self.sync()
        with writing(self.target):
            os.fsync(self.fd)
            if not os.path.samestat(os.fstat(self.fd), os.lstat(self.part)):
                raise Damaged(f"{visible(str(self.part))!r} was replaced by something else while it was fetched")
            try:
                (os.rename if over else _renamed)(self.part, self.target)
            except FileExistsError:
                what = f"{visible(str(self.target))!r} came to be while it was fetched"
                raise Malformed(f"{what}; all of it is in {self.part.name}") from None
            self.journal.unlink(missing_ok=True)
            _sync_folder(self.target.parent)
        self.close()

    def aside(self) -> Path:
        """Put the part where nobody goes on with it, though all of it is there (blocks)."""
        self.sync()
        place = _aside(self.part)
        self.journal.unlink(missing_ok=True)
        self.close()
        return place

    def close(self) -> None:
        """Give the files back; what is journaled stays."""
        for fd in (self.fd, self.direct, self.log):
            if fd >= 0:
                with suppress(OSError):
                    os.close(fd)
        self.fd = self.direct = self.log = -1

    def __del__(self) -> None:
        self.close()


def opened(
    target: Path, tag: str, size: int, source: str, exactly: str = "", *, plain: bool = False, replaces: bool = False
) -> Partial:
    """The part of a target, with what an earlier run left of the same version (blocks).

    `source` is where it comes from, as people may see it, `exactly` the same with what they may not; `plain`: what
    comes now is no version of anything, and must not replace one, unless `replaces`. Raises Full, Denied, Damaged, or
    Malformed where another process has it.
    """
    made = Partial(target, tag, size, source.encode("utf-8", "replace")[:900].decode("utf-8", "ignore"), exactly)
    try:
        with writing(made.part):
            made.log = _locked(made)
            found = _found(made, plain, replaces)
            if found is None:
                os.ftruncate(made.log, 0)
                _all(made.log, journal.header(tag, size, made.source))
            made.fd = os.open(made.part, _FLAGS, 0o666)
            _reserve(made, found)
            made.states = bytearray(blocks_of(size))
            if hasattr(os, "O_DIRECT"):
                with suppress(OSError):
                    made.direct = os.open(made.part, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECT)
            if found is not None:
                _believed(made, found)
    except BaseException:
        made.close()
        raise
    return made


def _locked(made: Partial) -> int:
    log = os.open(made.journal, _FLAGS | os.O_APPEND, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(log).st_mode):
            raise Malformed(f"{visible(str(made.journal))!r} is there, and is no plain file; take it away")
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(log).st_nlink == 0:  # its holder has just finished
            raise BlockingIOError
    except (OSError, Failure) as error:
        os.close(log)
        if isinstance(error, BlockingIOError):
            who = _holder(made.journal)
            raise Malformed(f"{visible(made.target.name)} is being downloaded by another process{who}") from error
        raise
    return log


def _holder(path: Path) -> str:
    """The process that has a lock on a file, where the system tells it."""
    try:
        inode = str(path.stat().st_ino)
        lines = [line.split() for line in Path("/proc/locks").read_text("ascii").splitlines()]
    except (OSError, UnicodeDecodeError):
        return ""
    return next((f" ({line[4]})" for line in lines if len(line) > 5 and line[5].rpartition(":")[2] == inode), "")


def _found(made: Partial, plain: bool, replaces: bool) -> journal.Contents | None:
    """What the journal of an earlier run says, if it is of the same version; what cannot be explained is put aside."""
    data = os.pread(made.log, os.fstat(made.log).st_size, 0)
    there = os.path.lexists(made.part)
    try:
        found = journal.read(data)
    except (journal.Torn, journal.Foreign):
        found = None
    if found is not None and found.blocks and plain and not replaces and found.tag.startswith("web:"):
        what = f"the server sends a page, or no version, in place of {visible(made.target.name)}"
        raise Damaged(f"{what}; what was fetched stays (--overwrite begins anew)")
    if found is not None and found.blocks and found.tag == made.tag and found.size != made.size and not replaces:
        what = f"the server says {made.size:,} bytes of {visible(made.target.name)}, and {found.size:,} before"
        raise Damaged(f"{what}, though it is the same version; what was fetched stays (--overwrite begins anew)")
    made.doubtful = found is not None and found.name != made.source
    changed = found is not None and (found.tag, found.size) != (made.tag, made.size)
    if (
        found is None
        or found.name.rpartition(" #")[0] != made.source.rpartition(" #")[0]
        or (changed and made.doubtful)
    ):
        if there and (os.lstat(made.part).st_size or os.path.islink(made.part)):
            what = "of another source" if found else "without a journal that can be read"
            made.said.append(f"{made.part.name} is {what}; it is now {_aside(made.part).name}")
        return None
    if not there or os.path.islink(made.part):
        return None
    if made.doubtful:  # what is added must be read together with what is there
        made.source, made.seed = found.name, journal.seed(found.tag, found.size, found.name)
    if changed:
        made.said.append(f"{visible(made.target.name)} has changed since; it is fetched anew")
        return None
    os.ftruncate(made.log, found.length)
    return found


def _reserve(made: Partial, found: journal.Contents | None) -> None:
    """Room for all of it, before anything is fetched. Raises OSError where there is none."""
    if found is None:
        os.ftruncate(made.fd, 0)
    taken = os.fstat(made.fd).st_blocks * 512
    free = os.statvfs(made.part.parent)
    if free.f_bavail * free.f_frsize < made.size - taken:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if made.size and taken < made.size:
        try:
            _fallocate(made.fd, made.size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
                raise


def _believed(made: Partial, found: journal.Contents) -> None:
    """Take up the blocks whose bytes are what the journal says."""
    there = os.fstat(made.fd).st_size
    for block, crc in found.blocks.items():
        length = made.length(block)
        if block * BLOCK + length > there:
            continue
        data = os.pread(made.fd, length, block * BLOCK)
        if len(data) == length and journal.crcs(memoryview(data))[0] == crc:
            made.states[block] = CERTAIN
            made.have += length
    made.written = made.have


def beside(target: Path, ending: str) -> Path:
    """A file beside a target."""
    return target.with_name(target.name + ending)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What fails here, as ours, naming the file."""
    try:
        yield
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        kind: type[Failure] = Full if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else Denied
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP):
            kind = Malformed
        raise kind(f"{visible(str(path))} cannot be written: {why}") from error


def _aside(part: Path) -> Path:
    """Rename what is there to what nothing is called yet."""
    stem = part.with_name(part.name.removesuffix(PART) + OLD)
    place, number = stem, 2
    while os.path.lexists(place):
        place, number = stem.with_name(f"{stem.name}.{number}"), number + 1
    os.rename(part, place)
    return place


def _all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _appended(log: int, data: bytes) -> None:
    """Add to a journal; what could only be written in part is taken back."""
    before = os.fstat(log).st_size
    try:
        _all(log, data)
    except OSError:
        os.ftruncate(log, before)
        raise


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


_KEEP_SIZE = 1
_HERE, _NOREPLACE = -100, 1


def _renamed(old: Path, new: Path) -> None:
    """Rename to a name that nothing has. Raises FileExistsError."""
    if hasattr(_libc, "renameat2"):
        if _libc.renameat2(_HERE, os.fsencode(old), _HERE, os.fsencode(new), _NOREPLACE) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(number, os.strerror(number), str(new))
    if os.path.lexists(new):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new))
    os.rename(old, new)


def _fallocate(fd: int, size: int) -> None:
    """Room on the disk, while the file keeps the length that it has. Raises OSError."""
    if not hasattr(_libc, "fallocate64"):
        return
    if _libc.fallocate64(fd, ctypes.c_int(_KEEP_SIZE), ctypes.c_int64(0), ctypes.c_int64(size)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


_libc = ctypes.CDLL(None, use_errno=True)
