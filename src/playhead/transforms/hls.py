"""Text -> fragments: an HLS media playlist (RFC 8216) as the files, and pieces of files, that are one stream in a row.

MPEG-TS and packed sound go on from fragment to fragment as bytes do; fragmented MP4 needs the initialisation before the
first, and only there. What is more than bytes in a row is refused: what is encrypted, still being made, has holes, or
begins anew with other descriptions. Pieces of one file that follow each other are given as one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urljoin, urlsplit

from playhead.errors import Damaged, Malformed

MOST, LONG = 100_000, 8192  # fragments; letters of an address
_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^",]*)')
_NUMBERS = re.compile(r"(\d{1,15})(?:@(\d{1,15}))?")
_MP4 = {"mp4", "m4s", "m4v", "m4a", "m4f", "cmfv", "cmfa", "mov"}
_PACKED = {"aac": "aac", "mp3": "mp3", "ac3": "ac3", "ec3": "eac3"}
_REFUSED = {
    "#EXT-X-STREAM-INF": "is a list of playlists, not a playlist",
    "#EXT-X-I-FRAMES-ONLY": "has only single pictures in it",
    "#EXT-X-DEFINE": "has variables in it, which only a player fills in",
    "#EXT-X-SKIP": "leaves out what came before it",
    "#EXT-X-GAP": "has a hole: a fragment of it is not there",
}
_REMEDY = "run yt-dlp itself, which can let ffmpeg fetch it"


@dataclass(frozen=True, slots=True)
class Fragment:
    """A file at an address, or only the bytes [start, stop) of it."""

    url: str
    span: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """Fragments that are one stream in a row. `extension` is that of the file that they are then."""

    fragments: tuple[Fragment, ...]
    extension: str


@dataclass(slots=True)
class _Reading:
    """How far a playlist was read."""

    base: str
    fragments: list[Fragment]
    beginning: Fragment | None = None  # the initialisation
    piece: str = ""  # what EXT-X-BYTERANGE says of the next fragment
    whole: bool = False  # does it say that nothing more will come?
    anew: bool = False  # do times begin anew somewhere?


def stream(text: str, base: str) -> Stream:
    """What a media playlist found at an address stands for. Raises Malformed where its bytes are not one stream."""
    lines = text.removeprefix("\ufeff").split("\n")
    if not lines[0].startswith("#EXTM3U"):
        raise Damaged("what should be an HLS playlist is none")
    reading = _Reading(base, [])
    for line in lines[1:]:
        _read(reading, line.strip())
    if not reading.whole:
        raise Malformed(f"the HLS playlist is of a live stream, which has no end; {_REMEDY}")
    if not reading.fragments:
        raise Damaged("the HLS playlist is empty")
    begins = [reading.beginning] if reading.beginning else []
    return Stream(tuple(_merged([*begins, *reading.fragments])), _extension(reading))


def _read(reading: _Reading, line: str) -> None:
    tag, _, value = line.partition(":")
    if not line:
        return
    if not line.startswith("#"):
        _add(reading, line)
    elif tag in _REFUSED:
        raise Malformed(f"the HLS playlist {_REFUSED[tag]}; {_REMEDY}")
    elif tag == "#EXT-X-KEY" and _attributes(value).get("METHOD") != "NONE":
        raise Malformed(f"the HLS stream is encrypted; {_REMEDY}")
    elif tag == "#EXT-X-MAP":
        _begin(reading, _attributes(value))
    elif tag == "#EXT-X-BYTERANGE":
        reading.piece = value
    elif tag == "#EXT-X-DISCONTINUITY":
        reading.anew = reading.anew or bool(reading.fragments)
    elif tag == "#EXT-X-ENDLIST" or (tag == "#EXT-X-PLAYLIST-TYPE" and value.strip() == "VOD"):
        reading.whole = True


def _attributes(value: str) -> Mapping[str, str]:
    """An attribute list (RFC 8216, 4.2); the values without their quotes."""
    return {found[1]: found[2].strip().strip('"') for found in _ATTRIBUTE.finditer(value)}


def _add(reading: _Reading, line: str) -> None:
    if len(reading.fragments) >= MOST:
        raise Malformed(f"the HLS playlist has more than {MOST:,} fragments")
    url = _address(reading.base, line)
    span = _span(reading.piece, url, reading.fragments) if reading.piece else None
    reading.fragments.append(Fragment(url, span))
    reading.piece = ""


def _begin(reading: _Reading, found: Mapping[str, str]) -> None:
    """The initialisation. Raises Malformed where it is another one than was given before."""
    url = _address(reading.base, found.get("URI", ""))
    piece = found.get("BYTERANGE", "")
    made = Fragment(url, _span(piece if "@" in piece else f"{piece}@0", url, []) if piece else None)
    if made != reading.beginning and (reading.beginning or reading.fragments):
        raise Malformed(f"the HLS stream changes its encoding midway; {_REMEDY}")
    reading.beginning = made


def _address(base: str, line: str) -> str:
    try:
        url = urljoin(base, line)
        parts = urlsplit(url)
    except ValueError:
        raise Damaged("the HLS playlist has an address in it that cannot be one") from None
    if not line or len(url) > LONG or not url.isprintable():
        raise Damaged("the HLS playlist has an address in it that cannot be one")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Malformed(f"the HLS playlist has an address in it that is not of http or https; {_REMEDY}")
    return url


def _span(text: str, url: str, before: Sequence[Fragment]) -> tuple[int, int]:
    """`n@o`, or `n`: n bytes from where the fragment before ended, in the same file (RFC 8216, 4.3.2.2)."""
    found = _NUMBERS.fullmatch(text.strip())
    if not found:
        raise Damaged(f"the HLS playlist has {text[:40]!r} in it where a range of bytes should be")
    start, last = found[2], before[-1] if before else None
    if start is None:
        if last is None or last.url != url or last.span is None:
            raise Damaged("the HLS playlist does not say where a range of bytes begins")
        start = str(last.span[1])
    if not int(found[1]):
        raise Damaged("the HLS playlist has an empty range of bytes in it")
    return int(start), int(start) + int(found[1])


def _merged(fragments: Sequence[Fragment]) -> list[Fragment]:
    """The same bytes, with neighbours that are pieces of one file in a row as one."""
    merged = [fragments[0]]
    for each in fragments[1:]:
        last = merged[-1]
        if last.span and each.span and last.url == each.url and last.span[1] == each.span[0]:
            merged[-1] = replace(last, span=(last.span[0], each.span[1]))
        else:
            merged.append(each)
    return merged


def _extension(reading: _Reading) -> str:
    ending = urlsplit(reading.fragments[0].url).path.rpartition(".")[2].lower()
    if reading.beginning:
        if reading.anew:
            raise Malformed(f"the times of the HLS stream begin anew midway; {_REMEDY}")
        return "mp4"
    if ending in _MP4:
        if len(_merged(reading.fragments)) > 1:
            raise Malformed(f"the HLS stream is MP4 without its initialisation; {_REMEDY}")
        return "mp4"
    return _PACKED.get(ending, "ts")
