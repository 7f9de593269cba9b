"""LRC <-> Lyrics: `[mm:ss.xx]line`, enhanced `[mm:ss.xx]<mm:ss.xx>word <mm:ss.xx>word`. Pure.

Stamps at the beginning of a line are when it is sung, once for each; stamps within it, in either kind of bracket, are
when its words are, and one after the last word is when that ends. `[offset:+n]` is kept as it is, positive for sooner.
`[a:b:c]` without a fraction is read as minutes, seconds and hundredths, which it mostly is; but where most lines would
then be less than half a second apart, as hours, minutes and seconds. Lines without a stamp belong to the time of the
one before; a file without any stamp is a plain text.
"""

import re
from itertools import pairwise

from playhead.catalogue import verses
from playhead.catalogue.verses import BACKGROUND, UNKNOWN, Line, Lyrics, Part

_TIME = r"[0-9]{1,4}(?::[0-9]{1,3}){1,3}(?:[.,][0-9]{1,9})?"
_LEADING = re.compile(rf"[ \t]*\[({_TIME})\]")
_STAMPED = re.compile(rf"^[ \t]*(?:\[{_TIME}\]|<{_TIME}>|\[bg:[ \t]*<{_TIME}>)", re.MULTILINE)
_INNER = re.compile(rf"\[({_TIME})\]|<({_TIME})>")
_AMBIGUOUS = re.compile(r"^[ \t]*\[([0-9]{1,2}):([0-9]{2}):([0-9]{2})\]", re.MULTILINE)
_TAG = re.compile(r"\[([A-Za-z#_]{1,20}):([^\n]*)\]")
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}")
_VOICE = re.compile(rf"[ \t]*(v[0-9]{{1,4}}):(?=[ \t]*<{_TIME}>)[ \t]*")
_VOICED = re.compile(r"v[0-9]{1,4}")
_BACKGROUND = re.compile(r"[ \t]*\[bg:(.*)\][ \t]*", re.IGNORECASE)
_KNOWN = {"ti", "ar", "al", "au", "by", "la", "lang", "language", "length", "offset", "re", "tool", "ve", "id", "#"}
_KNOWN |= {"lr", "sign", "hash", "total", "qq", "kana", "encoding"}
_CLOSE = 500  # ms between lines, below which nobody sings


def read(text: str) -> Lyrics:
    """What a `tidy` LRC file says; unsynced where it has no stamps. Raises Malformed where it says too much."""
    hours, timed, cues = _in_hours(text), stamped(text), 0
    tags: dict[str, str] = {}
    lines: list[Line] = []
    for row in text.split("\n"):
        tag = _TAG.fullmatch(row.strip())
        if tag and tag[1].lower() != BACKGROUND and (tag[1].lower() in _KNOWN or (timed and not lines)):
            tags.setdefault(tag[1].lower(), tag[2].strip())
            continue
        here = _lines(row, hours, cues) if timed else [Line(None, row)]
        cues += sum(len(one.cues) for one in here)
        lines += here
        verses.check(len(lines), cues)
    offset = tags.get("offset", "").replace(" ", "")
    lines = [one for one in lines if one.text or one.start_ms is not None] if timed else lines
    return Lyrics(
        lines=verses.synced(lines) if timed else verses.unsynced("\n".join(one.text for one in lines)),
        synced=timed,
        lang=verses.language(tags.get("la") or tags.get("lang") or tags.get("language")),
        offset_ms=int(offset) if timed and _NUMBER.fullmatch(offset) else 0,
        artist=tags.get("ar", ""),
        title=tags.get("ti", ""),
        agents=verses.cast(lines),
    )


def stamped(text: str) -> bool:
    """Does a line of this text begin with a time?"""
    return _STAMPED.search(text) is not None


def _in_hours(text: str) -> bool:
    """Is [a:b:c] hours, minutes, seconds here?"""
    stamps = [tuple(map(int, found)) for found in _AMBIGUOUS.findall(text)]
    if len(stamps) < 2 or any(c > 59 for _, _, c in stamps):
        return False
    times = sorted({(a * 60 + b) * 1000 + c * 10 for a, b, c in stamps})
    gaps = sorted(after - before for before, after in pairwise(times))
    return bool(gaps) and gaps[(len(gaps) - 1) // 2] < _CLOSE


def _lines(row: str, hours: bool, cues: int) -> list[Line]:
    """The lines of a row of the file: one for each time at its beginning. There are so many cues before it."""
    background = _BACKGROUND.fullmatch(row)
    if background:
        return [_line(background[1], None, hours, BACKGROUND)]
    starts: list[int] = []
    at = 0
    while found := _LEADING.match(row, at):
        starts.append(_ms(found[1], hours))
        at = found.end()
    voice = _VOICE.match(row, at)
    first = _line(row[voice.end() if voice else at :], starts[0] if starts else None, hours, voice and voice[1])
    starts = list(dict.fromkeys(starts))
    verses.check(len(starts), cues + len(starts) * len(first.cues))
    return [first, *(first.moved(start) for start in starts[1:])]


def _line(rest: str, start: int | None, hours: bool, agent: str | None) -> Line:
    return verses.line(_words(rest, start, hours), start, _last(rest, hours), agent)


def _words(rest: str, start: int | None, hours: bool) -> list[Part]:
    """The timed words of what follows the times at the beginning of a line."""
    stamps = list(_INNER.finditer(rest))
    if not stamps:
        return [(rest, None, None)]
    before, times = rest[: stamps[0].start()], [_time(stamp, hours) for stamp in stamps]
    untils = [*(stamp.start() for stamp in stamps[1:]), len(rest)]
    texts = [rest[stamp.end() : until] for stamp, until in zip(stamps, untils, strict=True)]
    if texts[-1].strip():
        ends: list[int | None] = [None] * len(times)
    elif len(times) == 1:
        return [(before, None, None)]
    else:
        ends = [*times[1:], None]
    parts: list[Part] = [(before, start, times[0] if ends[0] is not None else None)]
    return parts + list(zip(texts, times, ends, strict=True))


def _last(rest: str, hours: bool) -> int | None:
    """When a line ends, where a time after its last word says so."""
    stamps = list(_INNER.finditer(rest))
    return _time(stamps[-1], hours) if stamps and not rest[stamps[-1].end() :].strip() else None


def _time(stamp: re.Match[str], hours: bool) -> int:
    return _ms(stamp[1] or stamp[2], hours)


def _ms(stamp: str, hours: bool) -> int:
    whole, _, fraction = stamp.replace(",", ".").partition(".")
    numbers = whole.split(":")
    if not fraction and (len(numbers) == 4 or (len(numbers) == 3 and not hours)):
        fraction = numbers.pop()
    total = 0
    for number in numbers:
        total = total * 60 + int(number)
    return total * 1000 + int(fraction[:3].ljust(3, "0"))


# ── writing ──


def write(lyrics: Lyrics) -> str:
    """Lyrics as LRC, with the times of words where they are known. What is not synced has no stamps."""
    header = [("ti", lyrics.title), ("ar", lyrics.artist), ("la", "" if lyrics.lang == UNKNOWN else lyrics.lang)]
    if lyrics.offset_ms:
        header.append(("offset", f"{lyrics.offset_ms:+d}"))
    rows = [f"[{key}:{' '.join(value.split())}]" for key, value in header if value.strip()]
    rows += [_written(one) for one in lyrics.lines]
    return "\n".join(rows) + "\n" if rows else ""


def _written(line: Line) -> str:
    if line.start_ms is None:
        return line.text
    text = " ".join(line.text.split("\n"))
    if not line.cues:
        return f"[{_stamp(line.start_ms)}]{text}"
    words = _with_stamps(line)
    if line.agent == BACKGROUND:
        return f"[{BACKGROUND}:{words}]"
    voice = f"{line.agent}: " if line.agent and _VOICED.fullmatch(line.agent) else ""
    return f"[{_stamp(line.start_ms)}]{voice}{words}"


def _with_stamps(line: Line) -> str:
    """A line's text with a stamp before each timed word, and one behind it where the next does not say when it ends."""
    raw, at = line.text.encode("utf-8"), 0
    pieces: list[str] = []
    for cue, after, word in zip(line.cues, [*line.cues[1:], None], line.words(), strict=True):
        pieces += [raw[at : cue.byte_start].decode("utf-8"), f"<{_stamp(cue.start_ms)}>", word]
        at = cue.byte_end + 1
        if cue.end_ms is not None and (after is None or after.start_ms != cue.end_ms):
            pieces.append(f"<{_stamp(cue.end_ms)}>")
    return "".join(pieces) + raw[at:].decode("utf-8")


def _stamp(ms: int) -> str:
    """mm:ss.xx, or with milliseconds where hundredths would not say it."""
    ms = max(0, ms)
    minutes, rest = divmod(ms, 60_000)
    fraction = f"{rest % 1000:03d}" if rest % 10 else f"{rest % 1000 // 10:02d}"
    return f"{minutes:02d}:{rest // 1000:02d}.{fraction}"
