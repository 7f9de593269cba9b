"""The ratios as an SVG bar chart: a bar to the right means that Playhead does better than the peer, to the left worse.

The scale is logarithmic around 1, so that twice as good and half as good are equally long. Where less is better the
ratio is turned over. Colours follow the reader's light or dark setting; the background stays the page's.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LABELS, RIGHT, LINE, TOP = 860, 400, 70, 22, 64
MARKS = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16, 32, 64, 128, 256)
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 } .quiet { fill: #59636e; font-size: 11px }
.better { fill: #1a7f37 } .worse { fill: #bc4c00 }
line { stroke: #d1d9e0 } .one { stroke: #59636e; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .quiet { fill: #9198a1 }
  .better { fill: #3fb950 } .worse { fill: #db6d28 }
  line { stroke: #3d444d } .one { stroke: #9198a1 }
}"""


@dataclass(frozen=True, slots=True)
class Bar:
    label: str
    ratio: float
    most: bool  # less is better

    @property
    def good(self) -> float:
        return 1 / self.ratio if self.most and self.ratio > 0 else self.ratio


@dataclass(frozen=True, slots=True)
class Group:
    title: str
    bars: Sequence[Bar]


@dataclass(frozen=True, slots=True)
class Scale:
    low: float
    high: float

    def at(self, value: float) -> float:
        part = (math.log2(value) - self.low) / (self.high - self.low)
        return LABELS + min(1.0, max(0.0, part)) * (WIDTH - LABELS - RIGHT)


def fitted(groups: Sequence[Group]) -> Scale:
    values = [math.log2(bar.good) for group in groups for bar in group.bars if 0 < bar.good < math.inf]
    return Scale(min(-1, *map(math.floor, values), 0), max(1, *map(math.ceil, values), 0))


def drawn(groups: Sequence[Group]) -> str:
    scale = fitted(groups)
    height = TOP + sum(LINE * (len(group.bars) + 1) + 10 for group in groups) + 10
    inside = [*frame(scale, height), *rows(groups, scale)]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">'
    title = "<title>Playhead beside its peers</title>"
    return "\n".join([head, title, f"<style>{STYLE}\n</style>", *inside, "</svg>\n"])


def frame(scale: Scale, height: int) -> Iterator[str]:
    yield words(0, 18, "How many times better than the peer (1 = equal)", "title")
    yield words(0, 36, "Green: Playhead is better; orange: the peer is.", "quiet")
    for mark in MARKS:
        if scale.low <= math.log2(mark) <= scale.high:
            x = scale.at(mark)
            kind = "one" if mark == 1 else "grid"
            yield f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{height - 6}"/>'
            yield words(x, TOP - 12, f"{mark:g}" if mark >= 1 else f"1/{1 / mark:g}", "quiet", "middle")


def rows(groups: Sequence[Group], scale: Scale) -> Iterator[str]:
    y = TOP
    for group in groups:
        y += LINE
        yield words(0, y - 6, group.title, "title")
        for bar in group.bars:
            y += LINE
            yield from line(bar, y - 6, scale)
        y += 10


def line(bar: Bar, y: int, scale: Scale) -> Iterator[str]:
    one, end = scale.at(1), scale.at(bar.good) if bar.good > 0 else LABELS
    kind = "better" if bar.good >= 1 else "worse"
    yield words(12, y, bar.label)
    left, long = min(one, end), max(1.0, abs(end - one))
    yield f'<rect class="{kind}" x="{left:.1f}" y="{y - 11}" width="{long:.1f}" height="14" rx="2"/>'
    yield words(max(one, end) + 5, y, f"{bar.good:.2f}", "quiet")


def words(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'
