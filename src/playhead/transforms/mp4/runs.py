"""Numbers, one for each sample of a track, kept as stts and ctts keep them: how many times, then which.

Nothing here is as long as there are samples: a box of a few bytes may speak of billions.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from operator import mul

MOST = 1 << 24  # samples that may be written one by one, where they cannot be in runs


def _counts() -> "array[int]":
    return array("Q")


def _values() -> "array[int]":
    return array("q")


@dataclass(frozen=True, slots=True)
class Runs:
    """`counts[n]` samples have the number `values[n]`."""

    counts: "array[int]" = field(default_factory=_counts)
    values: "array[int]" = field(default_factory=_values)

    def add(self, count: int, value: int) -> None:
        """Some more samples with one number."""
        if not count:
            return
        if self.values and self.values[-1] == value:
            self.counts[-1] += count
        else:
            self.counts.append(count)
            self.values.append(value)

    def extend(self, more: "Runs") -> None:
        """All the samples of another."""
        if more.counts:
            self.add(more.counts[0], more.values[0])
            self.counts.extend(more.counts[1:])
            self.values.extend(more.values[1:])

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.counts, self.values, strict=True)

    def __len__(self) -> int:
        """How many samples."""
        return sum(self.counts)

    def total(self) -> int:
        """The sum of all their numbers."""
        return sum(map(mul, self.counts, self.values))

    def commonest(self) -> int:
        """The number that most samples in one run have; 0 where there are none."""
        return max(self, default=(0, 0))[1]

    def part(self, first: int, stop: int) -> "Runs":
        """The samples [first, stop)."""
        ends = array("Q", accumulate(self.counts))
        a, b = bisect_right(ends, first), bisect_left(ends, stop)
        counts, values = self.counts[a : b + 1], self.values[a : b + 1]
        if first >= stop or not counts:
            return Runs()
        counts[-1] -= ends[min(b, len(ends) - 1)] - min(stop, ends[-1])
        counts[0] -= first - (ends[a] - self.counts[a])
        return Runs(counts, values)

    def before(self, time: int) -> int:
        """How many samples begin before a time, where the numbers are durations."""
        at = seen = 0
        for count, value in self:
            if at + count * value >= time:
                return seen + (min(count, max(0, -((at - time) // value))) if value else 0)
            at, seen = at + count * value, seen + count
        return seen

    def plus(self, more: int) -> "Runs":
        """Each number greater by `more`."""
        return Runs(self.counts, array("q", (value + more for value in self.values)))

    def scaled(self, times: int, over: int) -> "Runs":
        """Durations in units of another length, rounded so that the error of their sum stays below one."""
        if times == over:
            return self
        if all(value * times % over == 0 for value in self.values):
            return Runs(self.counts, array("q", (value * times // over for value in self.values)))
        made, at = Runs(), 0
        for count, value in self:
            for _ in range(count):
                made.add(1, (at + value) * times // over - at * times // over)
                at += value
        return made

    def each_scaled(self, times: int, over: int) -> "Runs":
        """Numbers in units of another length, each rounded by itself."""
        return Runs(self.counts, array("q", (value * times // over for value in self.values)))
