"""Words with times -> Lyrics. Pure: what every format of lyrics becomes, and nothing of any format.

A line is a text with a beginning; a line whose words have times of their own has a cue for each, which says by
bytes of the line's UTF-8 what it is. Formats give a line as parts (words, start, end), and `line` makes the text and
the cues of them at once, so that offsets always fit the text that is shown. Times are whole milliseconds from the
beginning of the track, as written: `offset_ms` is not in them. How much there may be is bounded here for all formats.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from playhead.errors import Malformed

LARGEST = 2 << 20  # bytes of a file of lyrics
LINES = 20_000
CUES = 200_000

Kind = Literal["main", "translation", "pronunciation"]
Role = Literal["main", "voice", "bg", "group"]
Part = tuple[str, int | None, int | None]  # words, start, end; without a start they are text between timed words

UNKNOWN = "und"  # ISO 639: the language is not told
BACKGROUND = "bg"
_SOMEBODY = "main"

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8}){0,3}")
_SPACE = re.compile(r"[ \t\r\n]+")
_BLANK = " \t\r\n"
# What XML cannot hold, and what no text means: controls but tab and line ends, surrogates, non-characters.
_UNWANTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufeff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Cue:
    """A word or syllable of a line. Bytes count in the line's text as UTF-8; both ends are inclusive, as OpenSubsonic
    has them. Either all cues of a line have an end, or none has."""

    start_ms: int
    end_ms: int | None
    byte_start: int
    byte_end: int


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text; without a start where the lyrics are not synced. `agent` is the id of who sings it."""

    start_ms: int | None
    text: str
    end_ms: int | None = None
    cues: tuple[Cue, ...] = ()
    agent: str | None = None

    def words(self) -> tuple[str, ...]:
        """What the cues say, one after the other."""
        raw = self.text.encode("utf-8")
        return tuple(raw[cue.byte_start : cue.byte_end + 1].decode("utf-8") for cue in self.cues)

    def moved(self, start_ms: int) -> "Line":
        """The same line, sung at another time."""
        by = start_ms - (self.start_ms or 0)
        cues = (
            replace(one, start_ms=one.start_ms + by, end_ms=None if one.end_ms is None else one.end_ms + by)
            for one in self.cues
        )
        return replace(
            self, start_ms=start_ms, end_ms=None if self.end_ms is None else self.end_ms + by, cues=tuple(cues)
        )


@dataclass(frozen=True, slots=True)
class Agent:
    """Who sings: where there are any, exactly one is `main`."""

    id: str
    role: Role
    name: str = ""


@dataclass(frozen=True, slots=True)
class Lyrics:
    """One layer of the lyrics of a track. Synced: every line has a start, and lines are in the order of them.
    `offset_ms` positive: lines come sooner than they say."""

    lines: tuple[Line, ...]
    synced: bool = False
    lang: str = UNKNOWN
    offset_ms: int = 0
    kind: Kind = "main"
    artist: str = ""
    title: str = ""
    agents: tuple[Agent, ...] = ()


def tidy(text: str) -> str:
    """A text without what cannot be written in XML, with one kind of line end."""
    return _UNWANTED.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def language(text: str | None) -> str:
    """A code of a language as written, or "und" where it is none."""
    text = (text or "").strip()
    return text.replace("_", "-") if _LANGUAGE.fullmatch(text) else UNKNOWN


def line(parts: Iterable[Part], start: int | None = None, end: int | None = None, agent: str | None = None) -> Line:
    """A line of timed parts: blanks are one space, and belong to no cue."""
    pieces: list[str] = []
    timed: list[tuple[int, int | None, int, int]] = []
    size, open_end = 0, False  # bytes so far; may a space follow?
    for words, begins, ends in parts:
        words = _SPACE.sub(" ", words)
        words = words if open_end else words.lstrip(" ")
        bare = words.strip(" ")
        if bare and begins is not None:
            first = size + len(words) - len(words.lstrip(" "))
            timed.append((begins, ends, first, first + len(bare.encode("utf-8")) - 1))
        if words:
            pieces.append(words)
            size, open_end = size + len(words.encode("utf-8")), not words.endswith(" ")
    start = timed[0][0] if start is None and timed else start
    return Line(start, "".join(pieces).rstrip(" "), end, _closed(timed, end), agent)


def _closed(timed: Sequence[tuple[int, int | None, int, int]], end: int | None) -> tuple[Cue, ...]:
    """Cues with an end for all or for none: what is missing is the next one's start, for the last the line's end."""
    nexts = [begins for begins, *_ in timed[1:]] + [end]
    ends = (
        [own if own is not None else after for (_, own, _, _), after in zip(timed, nexts, strict=True)] if timed else []
    )
    told = any(own is not None for _, own, _, _ in timed) and None not in ends
    return tuple(
        Cue(begins, max(begins, after) if told and after is not None else None, first, last)
        for (begins, _, first, last), after in zip(timed, ends, strict=True)
    )


def unsynced(text: str) -> tuple[Line, ...]:
    """The lines of a `tidy` text, without empty ones before and after."""
    lines = text.split("\n")
    check(len(lines), 0)
    rows = [row.strip(_BLANK) for row in lines]
    filled = [number for number, row in enumerate(rows) if row]
    return tuple(Line(None, row) for row in rows[filled[0] : filled[-1] + 1]) if filled else ()


def synced(lines: Iterable[Line]) -> tuple[Line, ...]:
    """Lines in the order of time; one without a start begins with the line before it."""
    at, timed = 0, []
    for one in lines:
        at = at if one.start_ms is None else one.start_ms
        timed.append(one if one.start_ms is not None else replace(one, start_ms=at))
    check(len(timed), sum(len(one.cues) for one in timed))
    return tuple(sorted(timed, key=lambda one: one.start_ms or 0))


def cast(lines: Sequence[Line], known: Iterable[Agent] = ()) -> tuple[Agent, ...]:
    """Who sings these lines, in the order of their first. `main` is whoever sings where nobody is told, else the first
    person of them."""
    told = {agent.id: agent for agent in known}
    ids = dict.fromkeys(one.agent for one in lines if one.agent is not None)
    found = [told.get(id, Agent(id, "bg" if id == BACKGROUND else "voice")) for id in ids]
    singers = [agent for agent in found if agent.role == "voice"] or [one for one in found if one.role != "bg"]
    main = singers[0].id if singers else _SOMEBODY
    if any(one.agent is None and one.text for one in lines):
        main = _SOMEBODY
    if found and main not in ids:
        found.insert(0, Agent(main, "main"))
    return tuple(Agent(one.id, "main", one.name) if one.id == main else one for one in found)


def check(lines: int, cues: int) -> None:
    """Raises Malformed where there is more than lyrics can have."""
    if lines > LINES or cues > CUES:
        what = f"{LINES:,} lines" if lines > LINES else f"{CUES:,} timed words"
        raise Malformed(f"these lyrics have more than {what}")
