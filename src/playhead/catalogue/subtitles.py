"""SubRip and WebVTT -> Lyrics. Pure.

A cue of theirs is a line of lyrics for each of its rows, all with the times of the cue. WebVTT's times within a cue are
those of words, and its voices are agents. What stands outside of cues (numbers, notes, styles, regions)
is left out.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from playhead.catalogue.verses import Agent, Line, Lyrics, Part, cast, check, line, synced
from playhead.errors import Malformed

_TIME = r"(?:([0-9]{1,4}):)?([0-9]{1,3}):([0-9]{1,3})(?:[.,]([0-9]{1,9}))?"
_CUE = re.compile(rf"[ \t]*{_TIME}[ \t]*-->[ \t]*{_TIME}(?:[ \t].*)?")
_LIKE = re.compile(r"^[ \t]*(?:[0-9]{1,4}:)?[0-9]{1,3}:[0-9]{1,3}[.,][0-9]{1,9}[ \t]{0,99}-->", re.MULTILINE)
_TOKEN = re.compile(r"<([^<>]*)>|\{\\[^{}]*\}|([^<{]+|[<{])")
_INNER = re.compile(rf"<(?:{_TIME}|v(?:\.[^\s<>]*)?[ \t]+([^<>]*))>")  # what changes the time or the voice
_MARKUP = re.compile(r"/?(?:b|i|u|s|c|v|ruby|rt|lang|font)(?:[.\s=][^<>]*)?", re.IGNORECASE)
_ENTITY = re.compile(r"&(amp|lt|gt|nbsp|lrm|rlm|quot|apos|#39);")
_ENTITIES = {"amp": "&", "lt": "<", "gt": ">", "nbsp": "\xa0", "lrm": "\u200e", "rlm": "\u200f"}
_ENTITIES |= {"quot": '"', "apos": "'", "#39": "'"}

_Rows = tuple[int, int, list[str]]  # start, end, and the rows of text of a cue


def subtitled(text: str) -> bool:
    """Has this text the times of cues?"""
    return _LIKE.search(text) is not None


def read(text: str) -> Lyrics:
    """What a `tidy` SubRip or WebVTT says. Raises Malformed where it has no cue, or too many."""
    web = text.lstrip().startswith("WEBVTT")
    lines: list[Line] = []
    cues = 0
    for start, end, rows in _cues(text.split("\n")):
        here = _lines(start, end, rows, web)
        lines += here
        cues += sum(len(one.cues) for one in here)
        check(len(lines), cues)
    if not lines:
        raise Malformed("these subtitles have no cue")
    voices = [Agent(one.agent, "voice", one.agent) for one in lines if one.agent]
    return Lyrics(synced(lines), synced=True, agents=cast(lines, voices))


def _cues(rows: list[str]) -> Iterator[_Rows]:
    here: _Rows | None = None
    for row in rows:
        found = _CUE.fullmatch(row)
        if found:
            if here:
                yield _without_number(here)
            start = _ms(found.groups()[:4])
            here = (start, max(start, _ms(found.groups()[4:])), [])
        elif here and row.strip():
            here[2].append(row)
        elif here:
            yield here
            here = None
    if here:
        yield here


def _without_number(cue: _Rows) -> _Rows:
    """A cue that the next one follows without an empty row: the next one's number is none of its text."""
    start, end, rows = cue
    return (start, end, rows[:-1] if rows and rows[-1].strip().isdigit() else rows)


def _lines(start: int, end: int, rows: list[str], web: bool) -> list[Line]:
    """The lines of a cue; what is timed in it are its words."""
    cue = _Cue(start)
    told = [cue.row(row) if web else [_Run("".join(cue.texts(row)), start, None)] for row in rows]
    nexts = dict(zip(cue.times, [*cue.times[1:], end], strict=True))
    timed, lines = len(cue.times) > 1, list[Line]()
    for runs in told:
        parts: list[Part] = [(run.text, run.at, nexts[run.at]) if timed else (run.text, None, None) for run in runs]
        voice = next((run.voice for run in runs if run.text.strip()), None)
        lines.append(line(parts, None if timed else start, end, voice))
    return [one for one in lines if one.text]


@dataclass(slots=True)
class _Run:
    """Words of one time and one voice."""

    text: str
    at: int
    voice: str | None


class _Cue:
    """What the tags of WebVTT have told so far in a cue: they reach over its rows."""

    def __init__(self, start: int) -> None:
        self.times = [start]
        self.voice: str | None = None

    def texts(self, row: str) -> Iterator[str]:
        """What is shown of a row, up to the next time in it."""
        for found in _TOKEN.finditer(row):
            tag, words = found.groups()
            if words or (tag and not _MARKUP.fullmatch(tag)):
                yield words or found[0]

    def row(self, row: str) -> list[_Run]:
        runs: list[_Run] = []
        ends = 0
        for found in _INNER.finditer(row):
            runs.append(self._run(row[ends : found.start()]))
            ends = found.end()
            if found[0].startswith("<v"):
                self.voice = _plain(found[5]).strip() or None
            else:
                self.times.append(max(self.times[-1], _ms(found.groups()[:4])))
        return [*runs, self._run(row[ends:])]

    def _run(self, text: str) -> _Run:
        return _Run(_plain("".join(self.texts(text))), self.times[-1], self.voice)


def _plain(text: str) -> str:
    return _ENTITY.sub(lambda found: _ENTITIES[found[1]], text)


def _ms(groups: tuple[str | None, ...]) -> int:
    hours, minutes, seconds, fraction = groups
    total = (int(hours or 0) * 60 + int(minutes or 0)) * 60 + int(seconds or 0)
    return total * 1000 + int((fraction or "")[:3].ljust(3, "0"))
