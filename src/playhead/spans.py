"""A set of half-open ranges of offsets: what is there, and what is missing.

Kept as two sorted lists of borders, disjoint and never touching, so that a question costs one
bisection and a file read in order is one range however it arrived.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Spans:
    """Offsets that have been added, as few ranges [start, stop) as can be."""

    __slots__ = ("_starts", "_stops")

    def __init__(self, spans: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for start, stop in spans:
            self.add(start, stop)

    def add(self, start: int, stop: int) -> None:
        """Add [start, stop), joining it with every range it touches."""
        if start >= stop:
            return
        first = bisect_left(self._stops, start)
        last = bisect_right(self._starts, stop)
        if first < last:
            start = min(start, self._starts[first])
            stop = max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]

    def covers(self, start: int, stop: int) -> bool:
        """Is every offset of [start, stop) in the set? An empty range always is."""
        if start >= stop:
            return True
        at = bisect_right(self._starts, start) - 1
        return at >= 0 and self._stops[at] >= stop

    def missing(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The ranges of [start, stop) that are not in the set, in order."""
        gaps = []
        at = bisect_right(self._stops, start)
        while start < stop:
            if at == len(self._starts) or self._starts[at] >= stop:
                gaps.append((start, stop))
                break
            if self._starts[at] > start:
                gaps.append((start, self._starts[at]))
            start = self._stops[at]
            at += 1
        return gaps

    @property
    def total(self) -> int:
        """How many offsets are in the set."""
        return sum(self._stops) - sum(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._starts, self._stops, strict=True))

    def __len__(self) -> int:
        return len(self._starts)

    def __repr__(self) -> str:
        return f"Spans({list(self)!r})"
