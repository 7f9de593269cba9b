"""The folder of kept files, a sparse data file and a journal each: found after a kill, opened, begun, forgotten.

Blocks that a journal of an earlier run names are unsure until their CRC was compared once. What is torn is removed,
what another version of the format wrote is left. Files removed under our feet are noticed within a second, and begun
anew. A disk that is full or fails ends the writing for a minute, and is said once.

One process has the folder (a lock). See `reservoir` for what is read, written and evicted.
"""

import errno
import logging
import os
import resource
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from weakref import WeakValueDictionary

from playhead.transforms import journal
from playhead.transforms.datafile import DataFile, locked, on_disk, private, punched, remove
from playhead.transforms.journal import BLOCK, PER_RUN
from playhead.transforms.kept import KEPT, MISSING, OVERHEAD, UNSURE, Kept, beside, groups, key_of

SOUND = 1.0  # seconds for which a data file is believed to be the one in the folder
PAUSE = 60.0  # seconds without writing after the disk failed
LARGEST = 256 << 30  # bytes of a file beyond which nothing of it is kept (its states would take much memory)

log = logging.getLogger("playhead.cache")


class Shelf:
    """The files of a folder, and what is known of each. Raises Busy where another process has the folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self.lock_file = locked(os.path.join(folder, "lock"))
        self.lock = threading.Lock()  # held for moments: the loop takes it too
        self.loading, self.journals = threading.Lock(), threading.Lock()  # held while a journal is read, or written
        self.known: WeakValueDictionary[str, Kept] = WeakValueDictionary()
        self.foreign: set[str] = set()  # files of another version of the format
        self.files: dict[str, Kept] = {}  # those that something is kept of
        self.open: OrderedDict[str, Kept] = OrderedDict()  # those whose data file is open
        self.most_open = max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        self.waiting: dict[str, tuple[int, float]] = {}  # key -> bytes, last use: files of earlier runs, not read yet
        self.used = 0  # bytes on disk
        self.pause_until = 0.0
        self.said: set[str] = set()
        self.punches = True
        self._find()
        self.punches = self._can_punch()

    def _can_punch(self) -> bool:
        """Can holes be punched into files here?"""
        path = os.path.join(self.folder, "lock.new")
        try:
            file = DataFile(path, BLOCK, create=True)
            punched(file.fd, 0, BLOCK)
        except OSError:
            return False
        finally:
            remove(path)
        return True

    def close(self) -> None:
        """Give the folder up; the times of last use are left for the next run."""
        for kept in list(self.files.values()):
            if kept.begun and kept.touched:
                with suppress(OSError):
                    os.utime(f"{kept.path}.journal", (time.time(), max(kept.touched)))
        os.close(self.lock_file)

    # ── files ──

    def _find(self) -> None:
        with os.scandir(self.folder) as scan:
            names = {item.name: item.stat(follow_symlinks=False) for item in scan if item.name != "lock"}
        for name, info in names.items():
            key, _, kind = name.partition(".")
            if kind == "journal" and len(key) == 32:
                data = names.get(f"{key}.data")
                size = OVERHEAD + (data.st_blocks * 512 if data else 0) + info.st_size
                self.waiting[key] = size, info.st_mtime
            elif (kind == "data" and f"{key}.journal" not in names) or kind == "new":
                remove(os.path.join(self.folder, name))  # its journal was never begun, or is gone; or was not finished
        self.used = sum(size for size, _ in self.waiting.values())

    def kept(self, tag: str, size: int, name: str = "") -> Kept | None:
        """What is here of the file with a tag (blocks: it may read a journal); None: it cannot be kept."""
        if size > LARGEST:
            return None
        key = key_of(tag)
        with self.loading:
            found = self.known.get(key) or self._loaded(key)
            if key in self.foreign:
                return None
            if found is None or found.size != size or found.tag != tag:
                if found is not None:  # a promise was broken, by whoever made the tag
                    self._forget(found)
                found = Kept(self.folder, tag, size, name)
            self.known[key] = found
        if found.file is None and found.begun:
            self._open(found)
        return found

    def all(self) -> list[Kept]:
        """Every file that something is kept of (blocks: it reads journals)."""
        with self.loading:
            for key in list(self.waiting):
                self._loaded(key)
        with self.lock:
            return list(self.files.values())

    def _loaded(self, key: str) -> Kept | None:
        """A file of an earlier run, from its journal; what cannot be used of it is removed, what is foreign is left."""
        if key not in self.waiting:
            return None
        used, last = self.waiting[key]
        path = os.path.join(self.folder, key)
        try:
            with open(f"{path}.journal", "rb") as file:
                contents = journal.read(file.read())
            if key_of(contents.tag) != key or contents.size > LARGEST:
                raise journal.Torn
            os.truncate(f"{path}.journal", contents.length)
        except journal.Foreign:
            del self.waiting[key]  # its bytes count, and stay
            self.foreign.add(key)
            return None
        except (OSError, journal.Torn, UnicodeError):
            del self.waiting[key]
            for ending in ("data", "journal"):
                remove(f"{path}.{ending}")
            with self.lock:
                self.used -= used
            return None
        kept = Kept(self.folder, contents.tag, contents.size, contents.name)
        kept.begun, kept.records = True, contents.records
        for block, crc in contents.blocks.items():
            kept.states[block], kept.crcs[block] = UNSURE, crc
        for run in range(len(kept.touched)):
            kept.touched[run] = last
        for run in contents.pinned:
            kept.pinned[run] = 1
        with self.lock:
            recorded = kept.bytes + beside(kept)
            self.used += recorded - used
            self.files[key] = self.known[key] = kept
            del self.waiting[key]
        self._open(kept)
        if used > recorded + BLOCK:  # a kill came between the bytes and their record
            for first, last in list(groups(kept.states, 0, len(kept.states), MISSING)):
                self._hole(kept, first * BLOCK, (last - first) * BLOCK)
        return kept

    def _open(self, kept: Kept) -> None:
        try:
            file = DataFile(f"{kept.path}.data", on_disk(kept.size), create=False)
        except (FileNotFoundError, IsADirectoryError):
            self._forget(kept)
        except OSError as error:
            self._trouble(error)  # it is not open now; perhaps it is later
        else:
            if file.cut:
                with self.lock:
                    kept.doubt()
            self._opened(kept, file)

    def _opened(self, kept: Kept, file: DataFile) -> DataFile:
        """The data file is open now; so many as may be, those used longest ago are closed."""
        with self.lock:
            kept.file, kept.checked = file, time.monotonic()
            self.open[kept.key] = kept
            self.open.move_to_end(kept.key)
            while len(self.open) > self.most_open:
                self.open.popitem(last=False)[1].file = None
        return file

    def _forget(self, kept: Kept) -> int:
        """Nothing of this file is here any more (its files are gone, or not to be believed); the bytes freed."""
        with self.lock:
            freed = kept.bytes + beside(kept)
            self.used -= freed
            kept.lose()
            kept.begun, kept.records, kept.file = False, 0, None
            self.open.pop(kept.key, None)
            self.files.pop(kept.key, None)
            for ending in ("data", "journal"):
                remove(f"{kept.path}.{ending}")
        return freed

    def _sound(self, kept: Kept) -> bool:
        """Is the open data file still the one in the folder, and as long as it must be? Looked at once a second."""
        now = time.monotonic()
        if kept.file is None or now - kept.checked < SOUND:
            return kept.file is not None
        kept.checked = now
        try:
            info = os.fstat(kept.file.fd)
        except OSError:
            return False
        return info.st_nlink > 0 and info.st_size >= on_disk(kept.size)

    def _file_of(self, kept: Kept) -> DataFile:
        """The data file to write to, made where it is not there."""
        with self.lock:
            kept.checked = 0.0
            file, sound = kept.file, self._sound(kept)
        if file is not None and sound:
            return file
        if file is not None:
            self._forget(kept)
        return self._opened(kept, DataFile(f"{kept.path}.data", on_disk(kept.size), create=True))

    # ── journals and holes ──

    def _record(self, kept: Kept, entries: list[tuple[int, int, int]]) -> None:
        path, data = f"{kept.path}.journal", journal.records(kept.seed, entries)
        with self.journals:
            if kept.begun and (kept.records > 4 * len(kept.states) + 1024 or not os.path.exists(path)):
                self._rewrite(kept)
            journal.append(path, data if kept.begun else journal.header(kept.tag, kept.size, kept.name) + data)
            kept.begun = True
            kept.records += len(entries)

    def _rewrite(self, kept: Kept) -> None:
        """A journal that has grown long, or was removed, is written anew (what is being written comes after that)."""
        entries = [(at, kept.crcs[at], journal.HERE) for at, state in enumerate(kept.states) if state in (KEPT, UNSURE)]
        entries += [(run * PER_RUN, 0, journal.PINNED) for run, pinned in enumerate(kept.pinned) if pinned]
        new = f"{kept.path}.new"
        with open(new, "wb", opener=private) as file:
            file.write(journal.header(kept.tag, kept.size, kept.name) + journal.records(kept.seed, entries))
        os.replace(new, f"{kept.path}.journal")
        with self.lock:
            self.used -= 16 * (kept.records - len(entries))
        kept.records = len(entries)

    def _hole(self, kept: Kept, start: int, length: int) -> None:
        try:
            file = kept.file or DataFile(f"{kept.path}.data", on_disk(kept.size), create=False)
            punched(file.fd, start, length)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                self.punches = False
            else:
                self._trouble(error)

    # ── trouble ──

    def _trouble(self, error: OSError) -> None:
        """The disk is full or fails: keep nothing for a while."""
        self.pause_until = time.monotonic() + PAUSE
        self._say(f"the cache cannot be used now: {os.strerror(error.errno or errno.EIO).lower()}; going on without it")

    @property
    def paused(self) -> bool:
        """Is nothing written now, since the disk was full or failed?"""
        return time.monotonic() < self.pause_until

    def _say(self, line: str) -> None:
        """Once a line, until things went well for a while."""
        if line not in self.said:
            self.said.add(line)
            log.warning("%s", line)
            timer = threading.Timer(10 * PAUSE, self.said.discard, [line])
            timer.daemon = True
            timer.start()
