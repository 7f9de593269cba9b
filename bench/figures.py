"""What a benchmark found: samples of each server, the goals they are held against, and both as text.

A figure is the median of its samples with the least and the greatest beside it. A goal compares Playhead with a peer;
a ratio is one of two medians.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from subprocess import SubprocessError

from bench.peers import Broken, Missing

Sample = Mapping[str, float]
FAULTS = (Missing, Broken, OSError, ValueError, SubprocessError, HTTPException)


@dataclass(frozen=True, slots=True)
class Column:
    """One measured quantity; its key is the heading, unit included."""

    title: str
    form: str = ".2f"

    def text(self, values: Sequence[float]) -> str:
        low, middle, high = (format(pick(values), self.form) for pick in (min, statistics.median, max))
        return middle if low == high else f"{middle} ({low}-{high})"


@dataclass(slots=True)
class Row:
    name: str
    samples: list[Sample] = field(default_factory=list)
    note: str | None = None  # why there are no figures

    def median(self, title: str) -> float | None:
        return statistics.median(sample[title] for sample in self.samples) if self.samples else None

    def cells(self, columns: Sequence[Column]) -> list[str]:
        if not self.samples:
            note = self.note or "not measured"
            return [self.name, note.partition(":")[0], *("" for _ in columns[1:])]
        return [self.name, *(column.text([sample[column.title] for sample in self.samples]) for column in columns)]

    def attempt(self, measure: Callable[[], Sample], counts: bool = True) -> None:
        """One run more, unless the server has already failed: then its figures are withdrawn and the reason stays."""
        if self.note is not None:
            return
        try:
            sample = measure()
        except FAULTS as reason:
            self.fail(reason)
        else:
            if counts:
                self.samples.append(sample)

    def fail(self, reason: Exception) -> None:
        self.note = f"not installed: {reason}" if isinstance(reason, Missing) else f"failed: {reason}"
        self.samples.clear()


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of comparison: `value` is a ratio where the unit is "x", else a quantity of Playhead alone."""

    what: str
    value: float | None
    target: float | None = None
    stretch: float | None = None
    most: bool = False  # the target is a ceiling: less is better
    unit: str = "x"

    def cells(self) -> list[str]:
        return [self.what, self.show(self.value), self.bound(self.target), self.bound(self.stretch), self.verdict()]

    def show(self, value: float | None) -> str:
        if value is None:
            return "-"
        return f"{value:.2f} x" if self.unit == "x" else f"{value:,.4g} {self.unit}"

    def bound(self, value: float | None) -> str:
        return "-" if value is None else f"{'<=' if self.most else '>='} {value:,g} {self.unit}"

    def met(self, bound: float | None) -> bool:
        if bound is None or self.value is None:
            return False
        return self.value <= bound if self.most else self.value >= bound

    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        if self.target is None and self.stretch is None:
            return ""
        if self.met(self.stretch):
            return "stretch reached"
        return "reached" if self.met(self.target) else "missed" if self.target is not None else "stretch missed"


@dataclass(frozen=True, slots=True)
class Table:
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Report:
    name: str
    title: str
    about: str
    tables: Sequence[Table]
    goals: Sequence[Goal]

    def markdown(self) -> str:
        parts = [f"## {self.title}", self.about]
        for table in self.tables:
            heads = ["server", *(column.title for column in table.columns)]
            parts += [table.caption, grid(heads, (row.cells(table.columns) for row in table.rows))]
            parts += [f"{row.name} {row.note}" for row in table.rows if row.note]
        heads = ["playhead", "measured", "target", "stretch", ""]
        parts.append(grid(heads, (goal.cells() for goal in self.goals)))
        return "\n\n".join(filter(None, parts))


def ratio(rows: Sequence[Row], title: str, ours: str, *theirs: str, least: bool = False) -> float | None:
    """Our median over the peer's; of several peers, over the best (`least`: the smallest is the best)."""
    medians = {row.name: value for row in rows if (value := row.median(title)) is not None}
    others = [medians[name] for name in theirs if name in medians]
    if ours not in medians or not others:
        return None
    other = min(others) if least else max(others)
    return medians[ours] / other if other > 0 else math.inf


def grid(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    table = [list(heads), *(list(line) for line in lines)]
    widths = [max(3, *(len(line[column]) for line in table)) for column in range(len(heads))]
    shown = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in table]
    shown.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in shown)
