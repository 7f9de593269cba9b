"""(name, texts) -> what they mean: names, lists of names, numbers, dates, gains. Pure.

Texts of strangers are cleaned before anything is made of them: no controls, no marks that turn the writing around, one
space at a time, no more characters than a name or a comment needs.
"""

import re
from collections.abc import Sequence
from functools import cache

NAME, COMMENT, LYRICS = 500, 16_000, 200_000  # characters, at most
NAMES = 64

_UNSEEN = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 127, *range(128, 133), *range(134, 160)], None)
_UNSEEN |= dict.fromkeys([0x61C, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF, 0xFFFE, 0xFFFF], None)
_UNSEEN |= dict.fromkeys(range(0xFFF0, 0xFFF9), None)
_BREAKS = re.compile(r"\r\n?|[\n\x85\u2028\u2029]")
_SURROGATES = re.compile("[\ud800-\udfff]")


def line(text: str, most: int = NAME) -> str:
    """A text as one line."""
    return " ".join(_SURROGATES.sub("\ufffd", text[: 4 * most].translate(_UNSEEN)).split())[:most].strip()


def lines(text: str, most: int = COMMENT) -> str:
    """A text whose lines stay apart."""
    text = _SURROGATES.sub("\ufffd", _BREAKS.sub("\n", text[: 2 * most])).translate(_UNSEEN).replace("\t", " ")
    return "\n".join(part.rstrip() for part in text.split("\n"))[:most].strip("\n ")


def names(texts: Sequence[str], separators: str = r";\s+|\s+/\s+") -> tuple[str, ...]:
    """Names of a list; several in one text are parted by "; " or " / " (never by a bare "/", which AC/DC has)."""
    split = [line(name) for text in texts for part in text.split("\0") for name in re.split(separators, part)]
    return tuple(dict.fromkeys(name for name in split if name))[:NAMES]


def listed(texts: Sequence[str], credit: str, ids: int) -> tuple[str, ...]:
    """The artists of a field that lists them (ARTISTS).

    ID3v2.3 joins them by "/": they are parted where as many ids are told, or the credit names each, but not the whole.
    """
    found = names(texts)
    if len(found) == 1 and "/" in found[0]:
        parts = [part.strip() for part in found[0].split("/")]
        folded = credit.casefold()
        apart = all(part and part.casefold() in folded for part in parts) and found[0].casefold() not in folded
        if all(parts) and (apart or len(parts) == ids):
            return tuple(dict.fromkeys(parts))[:NAMES]
    return found


# ── genres ──


@cache
def _genres() -> list[str]:
    from mutagen.id3 import TCON

    return list(TCON.GENRES)


_NUMBERED = re.compile(r"\((\d{1,3}|RX|CR)\)")
_SHORT = {"RX": "Remix", "CR": "Cover"}


def genres(texts: Sequence[str]) -> tuple[str, ...]:
    """Genres, also those that are numbers: "(17)Rock", "17", "(4)(51)"."""
    found: list[str] = []
    for text in texts:
        for part in re.split(r"\0|;\s*|\s+/\s+", text):
            found += _numbered(part.strip())
    cleaned = [line(genre) for genre in found]
    unique: dict[str, str] = {}
    for genre in filter(None, cleaned):
        unique.setdefault(genre.casefold(), genre)
    return tuple(unique.values())[:NAMES]


def _numbered(text: str) -> list[str]:
    found = []
    while match := _NUMBERED.match(text):
        found.append(_SHORT.get(match[1]) or _genre(match[1]))
        text = text[match.end() :]
    text = text.removeprefix("(") if text.startswith("((") else text
    return [*found, _genre(text)] if text and _genre(text) not in found else found


def _genre(text: str) -> str:
    if not text.isascii() or not text.isdigit() or len(text) > 3:
        return text
    return _genres()[int(text)] if int(text) < len(_genres()) else ""


# ── numbers ──

_OF = re.compile(r"(\d{1,5})(?:\s*(?:/|of|-)\s*(\d{1,5}))?", re.ASCII)


def counted(text: str) -> tuple[int | None, int | None]:
    """(number, how many there are) of "3", "03/12", "3 of 12", "A3"; None for what is not told, and for 0."""
    match = _OF.search(text)
    if match is None or text.lstrip().startswith("-"):
        return None, None
    return int(match[1]) or None, int(match[2] or 0) or None


def whole(text: str) -> int | None:
    """A number that is more than 0, also of "128.00"."""
    match = re.match(r"\s*(\d{1,6})(?:[.,](\d))?", text, re.ASCII)
    value = int(match[1]) + (int(match[2] or 0) >= 5) if match else 0
    return value or None


def yes(text: str) -> bool:
    return text.strip().lower() in ("1", "true", "yes", "y", "t")


def decibels(text: str) -> float | None:
    """A gain: "-6.54 dB". None where it is none, or no gain that music has."""
    match = re.match(r"\s*([+-]?\d{1,3}(?:[.,]\d{1,8})?)\s*(?:dB)?\s*$", text, re.ASCII | re.IGNORECASE)
    value = float(match[1].replace(",", ".")) if match else None
    return value if value is not None and abs(value) < 100 else None


def peak(text: str) -> float | None:
    match = re.match(r"\s*(\d{1,2}(?:[.,]\d{1,12})?)\s*$", text, re.ASCII)
    return float(match[1].replace(",", ".")) if match else None


def r128(text: str) -> float | None:
    """A gain in 256ths of a decibel to -23 LUFS (RFC 7845, 5.2.1), as one to ReplayGain's -18."""
    match = re.match(r"\s*([+-]?\d{1,5})\s*$", text, re.ASCII)
    return round(int(match[1]) / 256 + 5, 2) if match and abs(int(match[1])) <= 32768 else None


def gapless(text: str) -> tuple[int, int, int] | None:
    """(delay, padding, samples without them) of iTunSMPB."""
    parts = text.split()
    try:
        delay, padding, samples = (int(part, 16) for part in parts[1:4])
    except ValueError:
        return None
    return (delay, padding, samples) if max(delay, padding) < 1 << 20 and 0 < samples < 1 << 48 else None


# ── dates ──

_MONTHS = {
    name: number
    for number, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1
    )
}
_FORMS = [
    re.compile(r"(?P<y>\d{4})[-/.](?P<m>\d{1,2})(?:[-/.](?P<d>\d{1,2}))?(?!\d)"),
    re.compile(r"(?P<y>(?:1[89]|20)\d\d)(?P<m>\d\d)(?P<d>\d\d)(?!\d)"),
    re.compile(r"(?P<d>\d{1,2})\.\s?(?P<m>\d{1,2})\.\s?(?P<y>\d{4})(?!\d)"),
    re.compile(r"(?P<a>\d{1,2})/(?P<b>\d{1,2})/(?P<y>\d{4})(?!\d)"),
    re.compile(r"(?P<y>\d{4})\s*[年년]\s*(?P<m>\d{1,2})\s*[月월](?:\s*(?P<d>\d{1,2})\s*[日일])?"),
    re.compile(r"(?:(?P<d>\d{1,2})(?:st|nd|rd|th)?\.?\s+)?(?P<n>[A-Za-z]{3,9})\.?,?\s+(?P<y>\d{4})(?!\d)"),
    re.compile(r"(?P<n>[A-Za-z]{3,9})\.?\s+(?P<d>\d{1,2})(?:st|nd|rd|th)?,?\s+(?P<y>\d{4})(?!\d)"),
    re.compile(r"(?<!\d)(?P<y>\d{4})(?!\d)"),
]


def date(text: str) -> str | None:
    """YYYY[-MM[-DD]] of a date in any common form; parts that make no sense are left out."""
    text = line(text, 80)
    for form in _FORMS:
        match = form.search(text)
        found = _iso(match.groupdict()) if match else None
        if found:
            return found
    return None


def _iso(parts: dict[str, str | None]) -> str | None:
    year, month, day = int(parts["y"] or 0), int(parts.get("m") or 0), int(parts.get("d") or 0)
    if name := parts.get("n"):
        month = _MONTHS.get(name[:3].lower(), 0)
        if not month:
            return None
    if "a" in parts:  # which of them is the month is told only where the other cannot be
        one, two = int(parts["a"] or 0), int(parts["b"] or 0)
        month, day = (one, two) if two > 12 else (two, one) if one > 12 or one == two else (0, 0)
    if not 1000 <= year <= 2999:
        return None
    if not 1 <= month <= 12:
        return f"{year:04}"
    longest = 30 if month in (4, 6, 9, 11) else 31
    if month == 2:
        longest = 29 if year % 4 == 0 and (year % 100 or year % 400 == 0) else 28
    return f"{year:04}-{month:02}-{day:02}" if 1 <= day <= longest else f"{year:04}-{month:02}"


# ── identifiers ──

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


def uuids(texts: Sequence[str]) -> tuple[str, ...]:
    """MusicBrainz identifiers, however they are joined."""
    found = [match.lower() for text in texts for match in _UUID.findall(text)]
    return tuple(dict.fromkeys(found))[:NAMES]


def isrcs(texts: Sequence[str]) -> tuple[str, ...]:
    found = [
        match for text in texts for match in re.findall(r"[A-Z]{2}[A-Z0-9]{3}\d{7}", re.sub(r"[-\s]", "", text.upper()))
    ]
    return tuple(dict.fromkeys(found))[:NAMES]
