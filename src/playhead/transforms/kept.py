"""What is here of one file, in memory: the state of each block, when each run was touched, and who is being sent it."""

import os
from array import array
from collections import deque
from collections.abc import Iterator
from hashlib import blake2b

from playhead.transforms import journal
from playhead.transforms.datafile import DataFile
from playhead.transforms.journal import BLOCK, PER_RUN

OVERHEAD = 8 << 10  # bytes that an empty data file and a new journal take
MISSING, KEPT, UNSURE, CLAIMED, GOING = range(5)  # states of a block in memory
_DOUBTED = bytes.maketrans(bytes([KEPT]), bytes([UNSURE]))
_LOST = bytes.maketrans(bytes([KEPT, UNSURE]), bytes([MISSING, MISSING]))


class Lease:
    """A data file as a span names it; while it lives, nothing of its runs is evicted."""

    __slots__ = ("_fd", "_file", "_kept", "_over", "_runs")

    def __init__(self, kept: "Kept", file: DataFile, runs: range, over: "deque[tuple[array[int], range]]") -> None:
        self._kept, self._file, self._runs, self._fd, self._over = kept, file, runs, file.fd, over
        for run in runs:
            kept.leases[run] += 1

    def fileno(self) -> int:
        return self._fd

    def __del__(self) -> None:
        self._over.append((self._kept.leases, self._runs))  # counted down by whoever next has the lock


class Kept:
    """What is here of one file: the state of each block, and of each run when it was touched."""

    def __init__(self, folder: str, tag: str, size: int, name: str) -> None:
        self.tag, self.size, self.name = tag, size, name
        self.key = key_of(tag)
        self.path = os.path.join(folder, self.key)
        self.file: DataFile | None = None
        self.begun = False  # is there a journal?
        self.checked = 0.0
        self.records = 0
        self.seed = journal.seed(tag, size, name)
        blocks, runs = journal.blocks_of(size), journal.runs_of(size)
        self.states = bytearray(blocks)
        self.crcs = array("I", bytes(4 * blocks))
        self.touched = array("d", bytes(8 * runs))  # by the wall clock, for it outlives a run of ours
        self.wanted = bytearray(runs)  # touched again later
        self.pinned = bytearray(runs)
        self.leases = array("i", bytes(4 * runs))

    def here(self, start: int, stop: int) -> int:
        """How many bytes from `start` on, up to `stop`, are kept and known to be right."""
        return self._extent(start, stop, b"\x01")

    def held(self, start: int, stop: int) -> int:
        """The same with those whose CRC was not compared yet."""
        return self._extent(start, stop, b"\x01\x02")

    def _extent(self, start: int, stop: int, which: bytes) -> int:
        first = start // BLOCK
        states = self.states[first : -(-stop // BLOCK)]
        count = len(states) - len(states.lstrip(which))
        return max(0, min(stop, (first + count) * BLOCK) - start)

    def doubt(self) -> None:
        """Nothing is known to be right any more: it is to be compared again."""
        self.states[:] = self.states.translate(_DOUBTED)

    def lose(self) -> None:
        """Nothing that was here is here any more."""
        self.states[:] = self.states.translate(_LOST)

    def bytes_in(self, run: int) -> int:
        """Bytes of a run that are on disk."""
        states = self.states[run * PER_RUN : (run + 1) * PER_RUN]
        return BLOCK * (len(states) - states.count(MISSING) - states.count(CLAIMED))

    @property
    def bytes(self) -> int:
        """Bytes of the whole that are on disk, counted in blocks."""
        return BLOCK * (self.states.count(KEPT) + self.states.count(UNSURE))


def key_of(tag: str) -> str:
    """The name that a file's blocks have in the folder."""
    return blake2b(tag.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def beside(kept: Kept) -> int:
    """Bytes that a file takes on disk beside those of its blocks."""
    return OVERHEAD + 16 * kept.records if kept.begun else 0


def groups(states: bytearray, first: int, last: int, wanted: int) -> Iterator[tuple[int, int]]:
    """The longest ranges of blocks in [first, last) with a state."""
    yield from ranges([block for block in range(first, min(last, len(states))) if states[block] == wanted])


def ranges(blocks: list[int]) -> Iterator[tuple[int, int]]:
    first = 0
    for at in range(1, len(blocks) + 1):
        if at == len(blocks) or blocks[at] != blocks[at - 1] + 1:
            yield blocks[first], blocks[at - 1] + 1
            first = at


def in_runs(blocks: int) -> Iterator[tuple[int, int]]:
    for first in range(0, blocks, PER_RUN):
        yield first, min(first + PER_RUN, blocks)
