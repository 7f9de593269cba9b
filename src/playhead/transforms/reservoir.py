"""Blocks kept on disk once read: per file a sparse data file and a journal; quota, eviction, pins.

A block is claimed, room for it is reserved, its bytes are written, its record is appended: then it is here. So the
quota holds at every moment, and after a kill a block is here only if its record is. Blocks that a journal of an
earlier run names are unsure until their CRC was compared once; a bad one is dropped and fetched again.

Eviction takes runs of 1 MiB, those touched once before those touched again later (so a long read flushes nothing
that is listened to), the oldest first; never a pinned one, nor one that a lease is on: whoever sends a span of the
data file holds a lease. A block is called dropped in the journal before its bytes are punched out, and is filled
again only afterwards, for sent pages are queued by the kernel and not copied. Where holes cannot be punched, whole
files go.

A disk that is full or fails ends the keeping for that write, and for a minute; never the stream. One process has the
folder (a lock); all methods may be called from any thread.
"""

import logging
import os
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from playhead.blob import FileSpan
from playhead.errors import Full
from playhead.transforms import journal
from playhead.transforms.datafile import Claim, DataFile, pwrite
from playhead.transforms.journal import BLOCK, PER_RUN, RUN
from playhead.transforms.kept import (
    CLAIMED,
    GOING,
    KEPT,
    MISSING,
    OVERHEAD,
    UNSURE,
    Kept,
    Lease,
    groups,
    in_runs,
    ranges,
)
from playhead.transforms.shelf import Shelf

LEASE = 16 << 20  # bytes of the longest span given
AGAIN = 120.0  # seconds unread after which a run that is read shows that it is wanted again: one play reads on sooner
MOMENT = 2.0  # seconds for which a touch is not noted again
PROTECTED = 0.8  # of the quota: what runs that were touched again may fill before they compete by age alone
PINNED = 0.5  # of the quota: what pins may hold
BATCH = 32 << 20  # bytes that one eviction frees at least, where the quota is not small

log = logging.getLogger("playhead.cache")


@dataclass(frozen=True, slots=True)
class Summary:
    """The reservoir in numbers, of bytes and blocks."""

    size: int
    used: int
    files: int
    pinned: int
    written: int
    evicted: int
    bad: int


class Reservoir(Shelf):
    """The folder of kept blocks. Raises Busy where another process has it, OSError where it cannot be used.

    `size`: bytes that it may take on disk. `free`: bytes of the disk that are left to others.
    """

    def __init__(self, folder: str, size: int, free: int = 0) -> None:
        super().__init__(folder)
        self.size, self.free = size, free
        self.over: deque[tuple[array[int], range]] = deque()  # leases that ended
        self.written = self.evicted = self.bad = 0  # blocks
        self.scrubbing: Iterator[tuple[Kept, int]] = iter(())  # what is to be compared next
        self.room_until, self.room = 0.0, 0  # what the disk had to spare when it was last asked

    # ── reading ──

    def lease(self, kept: Kept, start: int, stop: int, *, touch: bool = True) -> FileSpan | None:
        """The longest span from `start` on, up to `stop`, that can be given now; None: there is none.

        Where the data file is not open, or is not the one in the folder any more, `kept` opens it or begins anew.
        """
        stop = min(stop, start + LEASE)
        with self.lock:
            length = kept.here(start, stop)
            if not length or kept.file is None:
                return None
            if sound := self._sound(kept):
                runs = range(start // RUN, (start + length - 1) // RUN + 1)
                lease = self._leased(kept, runs)
        if not sound:
            self._forget(kept)
            self._say("files of the cache were removed or cut; what they held is fetched again")
            return None
        if touch:
            now = time.time()
            for run in runs:
                if now - kept.touched[run] > MOMENT:
                    kept.wanted[run] |= 0 < kept.touched[run] < now - AGAIN
                    kept.touched[run] = now
        return FileSpan(lease, start, length)

    def _leased(self, kept: Kept, runs: range) -> Lease:
        assert kept.file is not None
        self._settle()
        return Lease(kept, kept.file, runs, self.over)

    def _settle(self) -> None:
        """Count down the leases that ended."""
        while self.over:
            leases, runs = self.over.popleft()
            for run in runs:
                leases[run] -= 1

    def check(self, kept: Kept, start: int, stop: int) -> None:
        """Compare the CRC of each unsure block in [start, stop); bad ones are dropped (blocks: it reads)."""
        for first, last in list(groups(kept.states, start // BLOCK, -(-stop // BLOCK), UNSURE)):
            self._compare(kept, first, last)

    def _compare(self, kept: Kept, first: int, last: int) -> int:
        """Compare the blocks [first, last) of a run or two; returns how many were bad."""
        with self.lock:
            if kept.file is None:
                return 0
            lease = self._leased(kept, range(first // PER_RUN, (last - 1) // PER_RUN + 1))
        try:
            data = os.pread(lease.fileno(), min(kept.size, last * BLOCK) - first * BLOCK, first * BLOCK)
        except OSError as error:
            self._trouble(error)
            data = b""
        del lease
        found = dict(zip(range(first, last), journal.crcs(memoryview(data)), strict=False))
        bad: list[int] = []
        sent: list[int] = []
        with self.lock:
            self._settle()
            for block in range(first, last):
                if kept.states[block] not in (UNSURE, KEPT):
                    continue
                if found.get(block) == kept.crcs[block]:
                    kept.states[block] = KEPT
                    continue
                (sent if kept.states[block] == KEPT and kept.leases[block // PER_RUN] else bad).append(block)
                kept.states[block] = GOING
            self.bad += len(bad) + len(sent)
        if bad or sent:
            self._say("blocks of the cache were damaged; they are fetched again")
            self._punch(kept, bad)
            self._punch(kept, sent, holes=False)  # somebody is being sent them: they can only get better
        return len(bad) + len(sent)

    # ── writing ──

    def write(
        self, kept: Kept, parts: Sequence[tuple[int, memoryview]], *, cold: bool = False, direct: bool = False
    ) -> bool:
        """Keep bytes, given as (offset, bytes), that begin at a block and end at one, or at the file's end.

        False: not all are kept. `cold`: nobody listens to them (a copy, a scan); they go first. `direct`: past the
        page cache, for which the bytes must begin at a page of memory.
        """
        if self.paused:
            return False
        claims = [claim for start, data in parts for claim in self._claimed(kept, start, data)]
        if not claims:
            return False
        with suppress(OSError):
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
        blocks = [block for claim in claims for block in claim.blocks]
        need, reserved = len(blocks) * (BLOCK + 16) + OVERHEAD * (not kept.begun), False
        try:
            self._reserve(need)
            reserved = True
            file = self._file_of(kept)
            pwrite(file, claims, direct)
            crcs = [crc for claim in claims for crc in journal.crcs(claim.data)]
            self._record(kept, [(block, crc, journal.HERE) for block, crc in zip(blocks, crcs, strict=True)])
        except (Full, OSError) as error:
            self._unclaim(kept, claims, need * reserved)
            if isinstance(error, OSError):
                self._trouble(error)
            else:
                self._say(str(error))
            return False
        found = dict(zip(blocks, crcs, strict=True))
        if self._are_here(kept, found, file, 0.0 if cold else time.time()):
            return True
        self._forget(kept)  # its files were removed meanwhile
        with self.lock:
            self.used -= len(blocks) * BLOCK
        return False

    def _claimed(self, kept: Kept, start: int, data: memoryview) -> list["Claim"]:
        """The blocks of some bytes that nobody has, nor is about to write; they are ours to write now."""
        first, last = start // BLOCK, -(-(start + len(data)) // BLOCK)
        with self.lock:
            found = list(groups(kept.states, first, last, MISSING))
            for a, b in found:
                kept.states[a:b] = bytes([CLAIMED]) * (b - a)
        return [Claim(range(a, b), data[(a - first) * BLOCK : (b - first) * BLOCK]) for a, b in found]

    def _unclaim(self, kept: Kept, claims: list["Claim"], reserved: int) -> None:
        for claim in claims:
            self._hole(kept, claim.blocks.start * BLOCK, len(claim.blocks) * BLOCK)
        with self.lock:
            self.used -= reserved
            for claim in claims:
                kept.states[claim.blocks.start : claim.blocks.stop] = bytes([MISSING]) * len(claim.blocks)

    def _are_here(self, kept: Kept, crcs: dict[int, int], file: DataFile, now: float) -> bool:
        with self.lock:
            written = kept.begun and file.there()
            for block, crc in crcs.items():
                kept.crcs[block], kept.states[block] = crc, KEPT if written else MISSING
            if not written:
                return False
            self.files[kept.key] = kept
            self.written += len(crcs)
            for run in {block // PER_RUN for block in crcs}:
                kept.touched[run] = now
        return True

    # ── room ──

    def _reserve(self, need: int) -> None:
        """Count `need` bytes as used, after as many have been made free. Raises Full where that cannot be."""
        for _ in range(8):
            with self.lock:
                limit = min(self.size, self.used + self._spare())
                if self.used + need <= limit:
                    self.used += need
                    self.room -= need
                    return
                short = self.used + need - limit
            if not self._evict(max(short, min(BATCH, self.size // 16), self.size // 256)):
                break
        raise Full("the cache is full of what is pinned or being sent; going on without keeping")

    def _spare(self) -> int:
        """Bytes that the disk has to spare beyond what is left to others; asked anew twice a second."""
        now = time.monotonic()
        if now >= self.room_until:
            info = os.statvfs(self.folder)
            self.room, self.room_until = info.f_bavail * info.f_frsize - self.free, now + 0.5
        return self.room

    def _evict(self, need: int) -> int:
        """Free at least `need` bytes, if that can be; returns how many."""
        freed = 0
        for _, key, run in self._oldest():
            if freed >= need:
                break
            kept = self.files.get(key)
            if run is None:  # of an earlier run of ours: it goes whole
                with self.loading:
                    kept = self._loaded(key)
            if kept is not None:
                freed += self._drop(kept, range(len(kept.touched)) if run is None or not self.punches else [run])
        self.room_until = 0.0
        return freed

    def _oldest(self) -> list[tuple[tuple[int, float], str, int | None]]:
        """What may go, as (touched again, touched when), key and run; what should go first is first."""
        found: list[tuple[tuple[int, float], str, int | None]] = []
        again = 0
        with self.lock:
            files = list(self.files.items())
            found += [((0, last), key, None) for key, (_, last) in self.waiting.items()]
        for key, kept in files:  # without the lock, for it takes long; changes meanwhile are seen when it is dropped
            for run, touched in enumerate(kept.touched):
                if size := kept.bytes_in(run):
                    again += size * kept.wanted[run]
                    found.append(((kept.wanted[run], touched), key, run))
        if again > PROTECTED * self.size:
            found = [((0, age[1]), key, run) for age, key, run in found]
        return sorted(found, key=lambda item: item[0])

    def _drop(self, kept: Kept, runs: Iterable[int]) -> int:
        """Evict runs, but those pinned or under a lease; returns the bytes freed."""
        with self.lock:
            self._settle()
            free = [run for run in runs if not kept.pinned[run] and not kept.leases[run]]
            going = [
                block
                for run in free
                for block in range(run * PER_RUN, min((run + 1) * PER_RUN, len(kept.states)))
                if kept.states[block] in (KEPT, UNSURE)
            ]
            whole = len(going) * BLOCK == kept.bytes and not any(kept.leases) and not any(kept.pinned)
            whole = whole and CLAIMED not in kept.states and GOING not in kept.states
            if not whole:
                if not self.punches:
                    return 0
                for block in going:
                    kept.states[block] = GOING
            self.evicted += len(going)
        return self._forget(kept) if whole else self._punch(kept, going)

    def _punch(self, kept: Kept, going: list[int], *, holes: bool = True) -> int:
        """Record that blocks are dropped, then take their bytes off the disk; returns how many bytes."""
        if not going:
            return 0
        recorded = 16 * len(going)
        try:
            self._record(kept, [(block, 0, journal.DROPPED) for block in going])
        except OSError as error:
            self._trouble(error)  # their bytes still go: by its CRC nobody believes a hole
            recorded = 0
        for first, last in ranges(going) if holes and self.punches else ():
            self._hole(kept, first * BLOCK, (last - first) * BLOCK)
        with self.lock:
            for block in going:
                kept.states[block] = MISSING
            self.used += recorded - BLOCK * len(going)
        return BLOCK * len(going) - recorded

    # ── what people ask for ──

    def pin(self, kept: Kept, start: int, stop: int, *, on: bool = True) -> None:
        """Hold (or no longer) the runs of [start, stop) that are kept. Raises Full beyond half of the quota."""
        runs = [run for run in range(start // RUN, -(-stop // RUN)) if kept.pinned[run] != on] if start < stop else []
        more = sum(min(RUN, kept.size - run * RUN) for run in runs)
        if on and self.pinned() + more > PINNED * self.size:
            raise Full(f"pins may hold half of the cache's {self.size:,} bytes, and that is used up")
        for run in runs:
            kept.pinned[run] = on
        if kept.begun and runs:
            self._record(kept, [(run * PER_RUN, 0, journal.PINNED if on else journal.UNPINNED) for run in runs])
            with self.lock:
                self.used += 16 * len(runs)

    def pinned(self) -> int:
        """Bytes that pins hold."""
        return sum(kept.bytes_in(run) for kept in self.all() for run, pinned in enumerate(kept.pinned) if pinned)

    def verify(self, told: Callable[[Kept, int], None] = lambda kept, bad: None) -> int:
        """Compare everything with its CRC; bad blocks are dropped. Returns how many there were."""
        total = 0
        for kept in self.all():
            if kept.file is None:
                self._open(kept)
            bad = sum(self._compare(kept, first, last) for first, last in in_runs(len(kept.states)))
            told(kept, bad)
            total += bad
        return total

    def scrub(self) -> None:
        """Compare the next run of what is kept with its checksums (blocks: it reads)."""
        for kept, run in self.scrubbing:
            if kept.begun and kept.file is not None and kept.bytes_in(run):
                self._compare(kept, run * PER_RUN, min((run + 1) * PER_RUN, len(kept.states)))
                return
        self.scrubbing = iter([(kept, run) for kept in self.all() for run in range(len(kept.touched))])

    def clear(self, kept: Kept | None = None) -> int:
        """Drop all that is kept of a file, or of every file, pinned or not, but what is being sent; the bytes freed."""
        freed = 0
        for one in [kept] if kept else self.all():
            self.pin(one, 0, one.size, on=False)
            freed += self._drop(one, range(len(one.touched)))
        return freed

    def summary(self) -> Summary:
        """The reservoir in numbers."""
        with self.lock:
            files = list(self.files.values())
            pinned = sum(kept.bytes_in(run) for kept in files for run, held in enumerate(kept.pinned) if held)
            count = len(files) + len(self.waiting)
            return Summary(self.size, self.used, count, pinned, self.written, self.evicted, self.bad)
