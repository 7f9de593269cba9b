"""stbl <-> Samples: where the samples of a track are, how long each is, and when it is decoded and shown.

The tables of a box are checked against each other before they are used. They stay columns (of sizes by sample, of
chunks, of runs of times): tracks are cut and put in a row by slicing those, and written as the same boxes again.
ISO/IEC 14496-12, 8.6 and 8.7.
"""

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from playhead.errors import Damaged, Malformed
from playhead.transforms.mp4.boxes import Numbers, child, full, needed, numbers, packed, table
from playhead.transforms.mp4.runs import MOST, Runs

FAR = 0xFFFFFFFF  # offsets beyond it need co64


def _narrow() -> "Numbers[int]":
    return array("I")


def _wide() -> "Numbers[int]":
    return array("Q")


@dataclass(slots=True)
class Samples:
    """The samples of a track. `extend` is for one that was begun empty.

    `each`: bytes in every sample, 0 where `sizes` tells them one by one. `times`: ticks from one to the next.
    `offsets`: ticks from when one is decoded to when it is shown. `sync`: the numbers, from 1, of those that can be
    begun at; None: all. By chunk: where it begins, how many samples it has, which sample description they have.
    """

    count: int = 0
    each: int = 0
    sizes: "Numbers[int]" = field(default_factory=_narrow)
    times: Runs = field(default_factory=Runs)
    offsets: Runs = field(default_factory=Runs)
    sync: "Numbers[int] | None" = None
    begins: "Numbers[int]" = field(default_factory=_wide)
    counts: "Numbers[int]" = field(default_factory=_narrow)
    kinds: "Numbers[int]" = field(default_factory=_narrow)

    def length(self, first: int, stop: int) -> int:
        """Bytes of the samples [first, stop)."""
        return self.each * (stop - first) if self.each else sum(self.sizes[first:stop])

    def extents(self) -> Iterator[tuple[int, int]]:
        """Where each chunk begins and ends."""
        at = 0
        for begin, count in zip(self.begins, self.counts, strict=True):
            yield begin, begin + self.length(at, at + count)
            at += count

    def spread(self) -> Iterator[tuple[int, int, int]]:
        """Runs of samples as (how many, ticks from one to the next, ticks until shown), both runs' borders kept."""
        times, offsets = iter(self.times), iter(self.offsets)
        left = other = delta = offset = 0
        while True:
            if not left:
                left, delta = next(times, (0, 0))
            if not other:
                other, offset = next(offsets, (0, 0))
            if not (count := min(left, other)):
                return
            yield count, delta, offset
            left, other = left - count, other - count

    def shown(self) -> tuple[int, int, int]:
        """When, of all samples, the first is shown, the last is shown, and is over (8.6.1.3: decoded + offset)."""
        at, first, last, end = 0, 1 << 62, -(1 << 62), 0
        for count, delta, offset in self.spread():
            begin, final = at + offset, at + offset + (count - 1) * delta
            first, last, end = min(first, begin), max(last, final), max(end, final + delta)
            at += count * delta
        return (first, last, end) if self.count else (0, 0, 0)

    def cut(self, first: int, stop: int) -> "Samples":
        """The samples [first, stop)."""
        if (first, stop) == (0, self.count):
            return self
        if first >= stop:
            return Samples()
        ends = array("Q", accumulate(self.counts))
        a, b = bisect_right(ends, first), bisect_left(ends, stop)
        begins, counts = self.begins[a : b + 1], self.counts[a : b + 1]
        skipped = first - (ends[a] - self.counts[a])
        begins[0] += self.length(first - skipped, first)
        counts[0] -= skipped
        counts[-1] -= ends[b] - stop
        sync = None if self.sync is None else array("I", (n - first for n in self.sync if first < n <= stop))
        times, offsets = self.times.part(first, stop), self.offsets.part(first, stop)
        sizes = self.sizes[first:stop]
        return Samples(stop - first, self.each, sizes, times, offsets, sync, begins, counts, self.kinds[a : b + 1])

    def extend(self, more: "Samples") -> None:
        """All the samples of another after these. Raises Malformed where that takes too much memory."""
        if not more.count:
            return
        self._extend_sizes(more)
        self._extend_sync(more)
        self.count += more.count
        self.times.extend(more.times)
        self.offsets.extend(more.offsets)
        self.begins.extend(more.begins)
        self.counts.extend(more.counts)
        self.kinds.extend(more.kinds)

    def spell_out(self) -> None:
        """Tell the size of each sample, also where all have one. Raises Malformed where that takes too much memory."""
        self.sizes, self.each = _one_by_one(self), 0

    def _extend_sizes(self, more: "Samples") -> None:
        if not self.count:
            self.each, self.sizes = more.each, more.sizes[:]
        elif not self.each or self.each != more.each:
            self.spell_out()
            self.sizes.extend(_one_by_one(more))

    def _extend_sync(self, more: "Samples") -> None:
        if self.sync is None and more.sync is None:
            return
        if self.count + more.count > MOST:
            raise Malformed(f"more than {MOST:,} samples, of which some can be begun at, and some cannot")
        if self.sync is None:
            self.sync = _all(self.count)
        self.sync.extend(array("I", (n + self.count for n in (_all(more.count) if more.sync is None else more.sync))))

    def later(self, ticks: int) -> bool:
        """Let the last sample last some ticks more, if any; False, and no change, where it cannot."""
        return bool(self.count) and ticks > 0 and self.last(self.times.values[-1] + ticks)

    def last(self, delta: int) -> bool:
        """Let the last sample last some ticks; False, and no change, where it cannot."""
        if not self.count or not 0 < delta <= FAR:
            return False
        self.times.counts[-1] -= 1
        if not self.times.counts[-1]:
            self.times.counts.pop()
            self.times.values.pop()
        self.times.add(1, delta)
        return True


def _one_by_one(samples: Samples) -> "Numbers[int]":
    if samples.each and samples.count > MOST:
        raise Malformed(f"more than {MOST:,} samples of one size beside others of another")
    return array("I", [samples.each]) * samples.count if samples.each else samples.sizes


def _all(count: int) -> "Numbers[int]":
    return array("I", range(1, count + 1))


# ── reading ──


def read(stbl: memoryview) -> Samples:
    """The samples that the tables of a track tell of. Raises Damaged where they contradict each other."""
    each, count, sizes = _sizes(stbl)
    begins = _begins(stbl)
    counts, kinds = _chunks(table("I", needed(stbl, b"stsc"), 3), len(begins))
    times, offsets = _runs(needed(stbl, b"stts"), "I"), Runs()
    if (ctts := child(stbl, b"ctts")) is not None:
        offsets = _runs(ctts, "i")  # signed in version 1; and in version 0 as it is written
    stss = child(stbl, b"stss")
    sync = None if stss is None else table("I", stss)
    if sum(counts) != count or len(times) != count or len(offsets) > count:
        raise Damaged("its tables do not agree on how many samples a track has")
    if sync is not None and any(not 0 < n <= count for n in sync):
        raise Damaged("its tables tell of samples that it has not")
    offsets.add(count - len(offsets), 0)
    return Samples(count, each, sizes, times, offsets, sync, begins, counts, kinds)


def _sizes(stbl: memoryview) -> tuple[int, int, "Numbers[int]"]:
    body = child(stbl, b"stsz")
    if body is None:
        return _compact(needed(stbl, b"stz2"))
    each, count = struct.unpack_from(">2I", body, 4)
    if each:
        return each, count, _narrow()
    return 0, count, _column("I", body, count, 4)


def _compact(body: memoryview) -> tuple[int, int, "Numbers[int]"]:
    """stz2 (8.7.3.3): sizes of 4, 8 or 16 bits."""
    bits, count = struct.unpack_from(">BI", body, 7)
    if bits == 16:
        return 0, count, array("I", _column("H", body, count, 2))
    if bits == 8:
        return 0, count, array("I", _column("B", body, count, 1))
    if bits != 4:
        raise Damaged("its table of sizes is of no kind that there is")
    pairs = _column("B", body, (count + 1) // 2, 1)
    return 0, count, array("I", (half for pair in pairs for half in (pair >> 4, pair & 15)))[:count]


def _column(code: str, body: memoryview, count: int, width: int) -> "Numbers[int]":
    if 12 + count * width > len(body):
        raise Damaged("its table of sizes is too short")
    return numbers(code, body[12 : 12 + count * width])


def _begins(stbl: memoryview) -> "Numbers[int]":
    if (stco := child(stbl, b"stco")) is not None:
        return array("Q", table("I", stco))
    return table("Q", needed(stbl, b"co64"))


def _chunks(rows: "Numbers[int]", count: int) -> tuple["Numbers[int]", "Numbers[int]"]:
    """How many samples each chunk has, and of which description (from 0)."""
    counts, kinds = _narrow(), _narrow()
    firsts = [*rows[0::3], count + 1]
    if count and (len(firsts) == 1 or firsts[0] != 1):
        raise Damaged("its tables do not say what its chunks hold")
    for at, (per, kind) in enumerate(zip(rows[1::3], rows[2::3], strict=True)):
        chunks = min(firsts[at + 1], count + 1) - firsts[at]
        if chunks < 0 or not kind:
            raise Damaged("its tables do not say what its chunks hold")
        counts.extend(array("I", [per]) * chunks)
        kinds.extend(array("I", [kind - 1]) * chunks)
    return counts, kinds


def _runs(body: memoryview, code: str) -> Runs:
    rows = table("I", body, 2)
    values = array("q", rows[1::2] if code == "I" else array("i", rows[1::2].tobytes()))
    made = Runs(array("Q", rows[0::2]), values)
    if 0 not in made.counts:
        return made
    kept = Runs()
    for count, value in made:
        kept.add(count, value)
    return kept


# ── writing ──


def written(samples: Samples, descriptions: list[bytes], origin: int, wide: bool) -> bytes:
    """The boxes in stbl; chunks begin at `origin` plus what is said. Raises Malformed where a number has no room."""
    try:
        return b"".join(_boxes(samples, descriptions, origin, wide))
    except OverflowError:
        raise Malformed("its times or sizes are greater than an MP4 can say") from None


def _boxes(samples: Samples, descriptions: list[bytes], origin: int, wide: bool) -> Iterator[bytes]:
    yield full(b"stsd", 0, 0, struct.pack(">I", len(descriptions)), *descriptions)
    yield _written_runs(b"stts", 0, samples.times)
    if any(samples.offsets.values):
        yield _written_runs(b"ctts", int(min(samples.offsets.values) < 0), samples.offsets)
    if samples.sync is not None:
        yield _written(b"stss", samples.sync[:])
    yield _written(b"stsc", _rows(samples), 3)
    sizes = packed(samples.sizes[:])
    yield full(b"stsz", 0, 0, struct.pack(">2I", samples.each, samples.count), sizes)
    begins = array("Q" if wide else "I", (begin + origin for begin in samples.begins))
    yield _written(b"co64" if wide else b"stco", begins)


def _written(kind: bytes, values: "Numbers[int]", columns: int = 1, version: int = 0) -> bytes:
    return full(kind, version, 0, struct.pack(">I", len(values) // columns), packed(values))


def _written_runs(kind: bytes, version: int, runs: Runs) -> bytes:
    rows = array("I", bytes(8 * len(runs.counts)))
    rows[0::2] = array("I", runs.counts)
    rows[1::2] = array("I", array("i" if version else "I", runs.values).tobytes())
    return _written(kind, rows, 2, version)


def _rows(samples: Samples) -> "Numbers[int]":
    rows, before = _narrow(), (0, -1)
    for number, now in enumerate(zip(samples.counts, samples.kinds, strict=True), 1):
        if now != before:
            rows.extend((number, now[0], now[1] + 1))
            before = now
    return rows
