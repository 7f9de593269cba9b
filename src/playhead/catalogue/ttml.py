"""TTML -> Lyrics: one for the song, and one for each translation and pronunciation. Pure.

A `p` is a line, a `span` with a `begin` in it a word; times count from the beginning of the track, however deep they
stand, as Apple and those who write like it have it. `ttm:agent` says who sings. What stands within a `span` of the role
x-bg is a line of its own, of the agent `bg`. Translations stand either in spans of the role x-translation (x-roman for
pronunciations), or in the head, by the key of their line; where both do, the head counts.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from playhead.catalogue import markup, verses
from playhead.catalogue.verses import BACKGROUND, Agent, Kind, Line, Lyrics, Part, Role
from playhead.errors import Malformed

_WHAT = "this TTML"
_CLOCK = re.compile(r"(?:([0-9]{1,4}):)?(?:([0-9]{1,3}):)?([0-9]{1,9})(?:[.,]([0-9]{1,9}))?(s)?")
_FRAMES = re.compile(r"([0-9]{1,4}):([0-9]{1,3}):([0-9]{1,3}):([0-9]{1,9})")
_OFFSET = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(h|m|s|ms|f|t)")
_UNITS = {"h": 3_600_000.0, "m": 60_000.0, "s": 1000.0, "ms": 1.0}
_ROLES: dict[str, Role] = {"group": "group"}
_HEAD: dict[str, Kind] = {"translation": "translation", "transliteration": "pronunciation"}
_INLINE: dict[str, Kind] = {"x-translation": "translation", "x-roman": "pronunciation"}


def read(text: str) -> tuple[Lyrics, ...]:
    """The song first, then its translations and pronunciations. Raises Malformed."""
    root = markup.elements(text, _WHAT)
    if markup.local(root) != "tt":
        raise Malformed(f"{_WHAT} begins with <{markup.local(root)[:40]}>, not <tt>")
    body = _Body(_Clock(root))
    for paragraph in markup.outermost(root, lambda one: markup.local(one) == "p"):
        body.take(paragraph)
    if not body.lines:
        raise Malformed(f"{_WHAT} has no line")
    title = next((markup.text(one) for one in markup.named(root, "title")), "")
    timed = any(one.start_ms is not None for one in body.lines)
    lang = verses.language(root.get(markup.LANG))
    lines = verses.synced(body.lines) if timed else tuple(body.lines)
    main = Lyrics(lines, timed, lang, title=title, agents=verses.cast(lines, list(_agents(root))))
    layers = body.layers | _head(root, body)
    others = (Lyrics(_layer(rows, timed), timed, code, kind=kind, title=title) for (kind, code), rows in layers.items())
    return (main, *others)


def _layer(lines: list[Line], timed: bool) -> tuple[Line, ...]:
    return verses.synced(lines) if timed else tuple(lines)


def _agents(root: Element) -> Iterator[Agent]:
    for one in markup.named(root, "agent"):
        name = next((markup.text(found) for found in markup.named(one, "name")), "")
        yield Agent(one.get(markup.ID, ""), _ROLES.get(markup.attribute(one, "type"), "voice"), name)


def _head(root: Element, body: "_Body") -> dict[tuple[Kind, str], list[Line]]:
    """The translations in the head, with the times of the lines that they are of."""
    layers: dict[tuple[Kind, str], list[Line]] = {}
    for one in root.iter():
        kind = _HEAD.get(markup.local(one))
        if kind is None:
            continue
        for row in one:
            of = body.keys.get(row.get("for", "-"))
            parts = [] if of is None else list(body.parts(row))
            if of is not None and any(words.strip() for words, _, _ in parts):
                body.count(parts)
                made = verses.line(parts, of.start_ms, of.end_ms)
                layers.setdefault((kind, verses.language(one.get(markup.LANG))), []).append(made)
    return layers


@dataclass(slots=True)
class _Body:
    """What the lines of the body say, one after the other."""

    clock: "_Clock"
    lines: list[Line] = field(default_factory=list)
    layers: dict[tuple[Kind, str], list[Line]] = field(default_factory=dict)
    keys: dict[str, Line] = field(default_factory=dict)
    total: int = 0
    cues: int = 0

    def take(self, paragraph: Element) -> None:
        """A line, and those that stand within it: background voices and translations."""
        start, end = self.clock.span(paragraph)
        who = markup.attribute(paragraph, "agent") or None
        made = self._sung(paragraph, start, end, who)
        self.keys.setdefault(markup.attribute(paragraph, "key"), made)
        self._within(paragraph, start, end)

    def _within(self, element: Element, start: int | None, end: int | None) -> None:
        for inner in markup.outermost(element, lambda one: markup.attribute(one, "role").startswith("x-")):
            role = markup.attribute(inner, "role")
            if role in _INLINE:
                self._translated(inner, _INLINE[role], start, end)
            elif role == "x-bg":
                self._sung(inner, *self.clock.span(inner), BACKGROUND)
                self._within(inner, start, end)

    def _sung(self, element: Element, start: int | None, end: int | None, who: str | None) -> Line:
        parts = list(self.parts(element))
        self.count(parts)
        made = verses.line(parts, start, end, who)
        if made.text:
            self.lines.append(made)
        return made

    def _translated(self, element: Element, kind: Kind, start: int | None, end: int | None) -> None:
        words = markup.text(element)
        self.count([])
        if words:
            layer = (kind, verses.language(element.get(markup.LANG)))
            self.layers.setdefault(layer, []).append(Line(start, verses.tidy(words), end))

    def count(self, parts: list[Part]) -> None:
        self.total, self.cues = self.total + 1, self.cues + len(parts)
        verses.check(self.total, self.cues)

    def parts(self, element: Element, start: int | None = None, end: int | None = None) -> Iterator[Part]:
        """The words of an element with their times; what has a role is not among them."""
        if element.text:
            yield (verses.tidy(element.text), start, end)
        for inner in element:
            if markup.local(inner) == "br":
                yield (" ", None, None)
            elif not markup.attribute(inner, "role").startswith("x-"):
                begins, ends = self.clock.span(inner) if self.clock.words else (None, None)
                yield from self.parts(inner, *((start, end) if begins is None else (begins, ends)))
            if inner.tail:
                yield (verses.tidy(inner.tail), start, end)


class _Clock:
    """The times of a document, in its own frames and ticks."""

    def __init__(self, root: Element) -> None:
        self.words = markup.attribute(root, "timing").lower() != "line"
        self.frame = 1000 / _rate(markup.attribute(root, "frameRate"), 30)
        self.tick = 1000 / _rate(markup.attribute(root, "tickRate"), 1)

    def span(self, element: Element) -> tuple[int | None, int | None]:
        """When an element begins and ends."""
        begin, end, length = (self.ms(element.get(name)) for name in ("begin", "end", "dur"))
        if begin is None:
            return (None, None)
        end = begin + length if end is None and length is not None else end
        return (begin, None if end is None else max(begin, end))

    def ms(self, text: str | None) -> int | None:
        """A time in milliseconds; None where there is none. Raises Malformed where it is none."""
        if text is None or not text.strip():
            return None
        text = text.strip()
        if found := _CLOCK.fullmatch(text):
            first, second, seconds, fraction, _ = found.groups()
            hours, minutes = (first, second) if second else (None, first)
            total = (int(hours or 0) * 60 + int(minutes or 0)) * 60 + int(seconds)
            return total * 1000 + int((fraction or "")[:3].ljust(3, "0"))
        if found := _FRAMES.fullmatch(text):
            hours, minutes, seconds, frames = map(int, found.groups())
            return ((hours * 60 + minutes) * 60 + seconds) * 1000 + round(frames * self.frame)
        if found := _OFFSET.fullmatch(text):
            unit = {"f": self.frame, "t": self.tick}.get(found[2]) or _UNITS[found[2]]
            return round(float(found[1]) * unit)
        raise Malformed(f"{_WHAT} has a time that is none: {text[:40]!r}")


def _rate(text: str, default: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 and int(text) else default
