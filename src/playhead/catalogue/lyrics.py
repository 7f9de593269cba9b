"""Bytes -> Lyrics -> text, LRC, events and OpenSubsonic's structure. Pure: nothing is opened here.

Lyrics come in any charset and as plain text, LRC, SubRip, WebVTT or TTML. What is unmistakable in the content decides
what they are, then the extension; what is nothing else is a plain text. The formats stand in modules of their own; what
they all become is in `verses`.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from playhead import media
from playhead.catalogue import lrc as _lrc
from playhead.catalogue import markup, subtitles, ttml, verses
from playhead.catalogue.verses import LARGEST, LINES, UNKNOWN, Agent, Cue, Kind, Line, Lyrics
from playhead.errors import Malformed

__all__ = [
    "EXTENSIONS",
    "LARGEST",
    "LINES",
    "Agent",
    "Cue",
    "Kind",
    "Line",
    "Lyrics",
    "at",
    "attached",
    "events",
    "layers",
    "lrc",
    "parse",
    "plain",
    "sidecars",
    "structured",
    "sylt",
]

EXTENSIONS = ("ttml", "elrc", "lrc", "vtt", "srt", "txt")  # what tells most first

_MARKED = re.compile(r"\s*(?:<\?xml[^<>]*>\s*)?(?:<!--.{0,2000}?-->\s*)?<(?:[A-Za-z_][\w.-]{0,40}:)?tt[\s>]", re.DOTALL)
_SUFFIX = re.compile(r"[a-z]{2,3}(?:[-_][A-Za-z0-9]{2,8}){0,3}")


# ── reading ──


def parse(data: bytes, name: str = "") -> Lyrics:
    """The lyrics in a file or a tag; `name` is the file's, "" for a tag. Raises Malformed, which names it."""
    return layers(data, name)[0]


def layers(data: bytes, name: str = "") -> tuple[Lyrics, ...]:
    """As `parse`, and the translations and pronunciations that the same file has."""
    called = name.rpartition("/")[2] or "this text"
    try:
        if len(data) > LARGEST:
            raise Malformed(f"lyrics of more than {LARGEST >> 20} MiB are not read")
        found = _read(data, name)
    except Malformed as error:
        raise Malformed(f"{called!r} has no lyrics that can be read: {error}") from error
    lang = _lang(name)
    return tuple(replace(one, lang=lang) if one.lang == UNKNOWN and one.kind == "main" else one for one in found)


def _read(data: bytes, name: str) -> tuple[Lyrics, ...]:
    extension = name.rpartition(".")[2].lower()
    text = verses.tidy(media.to_utf8(data).decode("utf-8"))
    if extension == "ttml" or _MARKED.match(text):
        return ttml.read(markup.decoded(data))
    if text.lstrip().startswith("WEBVTT") or extension in ("srt", "vtt") or subtitles.subtitled(text):
        return (subtitles.read(text),)
    return (_lrc.read(text) if extension in ("lrc", "elrc") or _lrc.stamped(text) else Lyrics(verses.unsynced(text)),)


def sylt(pairs: Iterable[tuple[str, int]], lang: str = UNKNOWN) -> Lyrics:
    """The lyrics of ID3's SYLT: texts with the milliseconds at which they begin. Where texts have line ends in them,
    each is a word or syllable of a line; else each is a line. Raises Malformed where there are too many."""
    told = [(verses.tidy(text), max(0, ms)) for text, ms in pairs]
    if any("\n" in text for text, _ in told):
        lines = list(_syllables(told))
    else:
        lines = [Line(ms, text.strip()) for text, ms in told]
    return Lyrics(verses.synced(lines), synced=bool(lines), lang=verses.language(lang))


def _syllables(told: list[tuple[str, int]]) -> Iterator[Line]:
    parts: list[verses.Part] = []
    verses.check(0, len(told))
    for text, ms in told:
        first, *more = text.split("\n")
        parts.append((first, ms, None))
        for words in more:
            if any(before.strip() for before, _, _ in parts):
                yield verses.line(parts)
            parts = [(words, ms, None)]
    if any(before.strip() for before, _, _ in parts):
        yield verses.line(parts)


# ── names ──


def sidecars(name: str) -> tuple[str, ...]:
    """The names of files of lyrics to look for beside a track, what tells most first."""
    stem = _stem(name)
    return tuple(f"{stem}.{extension}" for extension in EXTENSIONS)


def attached(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The names in a folder -> for each track its files of lyrics, what tells most first: `song.lrc`, `song.ko.lrc`
    and `song.flac.lrc` are those of `song.flac`."""
    every = list(names)
    texts: dict[str, set[str]] = {}
    for name in every:
        if "." in name and name.rpartition(".")[2].lower() in EXTENSIONS:
            texts.setdefault(_stem(name), set()).add(name)
            if _lang(name) != UNKNOWN:
                texts.setdefault(_stem(_stem(name)), set()).add(name)
    tracks = [name for name in every if (media.by_name(name) or "").startswith(("audio/", "video/"))]
    found = {name: texts.get(_stem(name), set()) | texts.get(name, set()) for name in tracks}
    return {name: tuple(sorted(those, key=_rank)) for name, those in found.items() if those}


def _rank(name: str) -> tuple[bool, int, str]:
    return (_lang(name) != UNKNOWN, EXTENSIONS.index(name.rpartition(".")[2].lower()), name)


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name


def _lang(name: str) -> str:
    """The language that a name like `song.ko.lrc` tells."""
    stem, dot, suffix = _stem(name.rpartition("/")[2]).rpartition(".")
    told = bool(stem and dot and _SUFFIX.fullmatch(suffix)) and media.by_name(f"a.{suffix}") is None
    return verses.language(suffix) if told else UNKNOWN


# ── writing ──


def plain(lyrics: Lyrics) -> str:
    """The text of all lines, in their order."""
    return "\n".join(line.text for line in lyrics.lines)


def lrc(lyrics: Lyrics) -> str:
    """LRC, enhanced where the times of words are known; a plain text where no times are."""
    return _lrc.write(lyrics)


def at(lyrics: Lyrics, seconds: float) -> int | None:
    """The index of the line that is sung at a time of the track: the last that has begun; None before the first, and
    where the lyrics are not synced."""
    if not lyrics.synced:
        return None
    ms = seconds * 1000 + lyrics.offset_ms
    index = bisect_right(lyrics.lines, ms, key=lambda line: line.start_ms or 0)
    return index - 1 if index else None


def events(lyrics: Lyrics, seconds: float = 0.0) -> Iterator[tuple[float, bytes]]:
    """Server-sent events of a track that plays on from a time, each after how many seconds to wait since the one
    before: `line` with {"index", "start", "text"} as JSON, at once for the line that is being sung; `lyrics` with
    {"lines"} where they are not synced; at last `end`."""
    if not lyrics.synced:
        yield 0.0, _event("lyrics", {"lines": [line.text for line in lyrics.lines]})
    now, index = seconds, at(lyrics, seconds) or 0
    for number, line in enumerate(lyrics.lines[index:] if lyrics.synced else (), index):
        begins = ((line.start_ms or 0) - lyrics.offset_ms) / 1000
        yield max(0.0, begins - now), _event("line", {"index": number, "start": line.start_ms, "text": line.text})
        now = max(now, begins)
    yield 0.0, _event("end", {})


def _event(kind: str, told: dict[str, Any]) -> bytes:
    """One event: JSON has no line ends, so that whatever a line says stays in it."""
    return f"event: {kind}\ndata: {json.dumps(told, ensure_ascii=False)}\n\n".encode()


def structured(lyrics: Iterable[Lyrics], *, enhanced: bool = False) -> list[dict[str, Any]]:
    """OpenSubsonic's `structuredLyrics` of a track: version 1 of songLyrics, or all of version 2 where `enhanced`."""
    return [_structured(one, enhanced) for one in lyrics if enhanced or one.kind == "main"]


def _structured(lyrics: Lyrics, enhanced: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"lang": lyrics.lang, "synced": lyrics.synced, "line": [_row(one) for one in lyrics.lines]}
    told |= {"displayArtist": lyrics.artist} if lyrics.artist else {}
    told |= {"displayTitle": lyrics.title} if lyrics.title else {}
    told |= {"offset": lyrics.offset_ms} if lyrics.offset_ms else {}
    if not enhanced:
        return told
    told["kind"] = lyrics.kind
    cued = [(index, line) for index, line in enumerate(lyrics.lines) if line.cues]
    if not lyrics.synced or not cued:
        return told
    if lyrics.agents:
        told["agents"] = [_filled(id=one.id, role=one.role, name=one.name or None) for one in lyrics.agents]
    main = next((one.id for one in lyrics.agents if one.role == "main"), None)
    told["cueLine"] = [_cue_line(index, line, main) for index, line in cued]
    return told


def _row(line: Line) -> dict[str, Any]:
    return _filled(start=line.start_ms, value=line.text)


def _cue_line(index: int, line: Line, main: str | None) -> dict[str, Any]:
    who = (line.agent or main) if main is not None else None
    cues = [
        _filled(
            start=cue.start_ms,
            end=cue.end_ms,
            byteStart=cue.byte_start,
            byteEnd=cue.byte_end,
            value=word,
        )
        for cue, word in zip(line.cues, line.words(), strict=True)
    ]
    return _filled(index=index, start=line.start_ms, end=line.end_ms, value=line.text, agentId=who, cue=cues)


def _filled(**told: Any) -> dict[str, Any]:
    """Only what is known: OpenSubsonic has no nulls."""
    return {key: value for key, value in told.items() if value is not None}
