"""M3U and PLS <-> Playlist. Pure.

M3U is a line for each place, with EXTINF, EXTART and EXTALB before it. `#EXTINF:-1,Artist - Title` is split at its
first " - "; where that would be wrong, EXTART says who the artist is, also when we write. A path that a reader might
take for a comment or a URL is written with "./" before it. What no M3U can say is an error, not a wrong line.
"""

import re
from collections.abc import Iterator

from playhead.catalogue.tracklist import Item, Playlist, bare, check, is_url, is_windows, one_line, rows, seconds, url
from playhead.errors import Malformed

_BETWEEN = " - "
_DURATION = re.compile(r"[ \t]*(-?[0-9]{1,9}(?:\.[0-9]{1,9})?)")
_ATTRIBUTES = re.compile(r'[^",]*+(?:"[^"]*+"[^",]*+)*+,')  # up to the comma that no quotes are around
_HLS = re.compile(r"^#EXT-X-(?:TARGETDURATION|STREAM-INF)", re.MULTILINE)
_BREAKING = re.compile("[\n\r\0\ud800-\udfff]")
_TAKEN = re.compile(r"[# \t]|[^/]*:")  # what a reader takes for a comment, for nothing, or for a URL
_PLS = re.compile(r"(file|title|length)([0-9]{1,6})[ \t]*=(.*)", re.IGNORECASE)


def read(text: str) -> Playlist:
    """What an M3U says. Raises Malformed for HLS, which is a stream in parts and no list of tracks."""
    if _HLS.search(text):
        raise Malformed("it is an HLS stream, not a list of tracks")
    title, told, entries = "", dict[str, str](), list[Item]()
    for row in rows(text):
        if row.startswith("#"):
            key, _, value = row[1:].partition(":")
            told[key.strip().upper()] = one_line(value)
        elif row:
            entries.append(_item(row, told))
            title, told = title or told.get("PLAYLIST", ""), {}
            check(len(entries))
    return Playlist(title or told.get("PLAYLIST", ""), tuple(entries))


def _item(row: str, told: dict[str, str]) -> Item:
    duration, shown = _extinf(told.get("EXTINF", ""))
    artist, title = split(shown)
    if "EXTART" in told:
        artist = told["EXTART"]
        title = shown.removeprefix(f"{artist}{_BETWEEN}").strip() if artist else shown
    return Item(bare(row), title, artist, told.get("EXTALB", ""), duration)


def _extinf(value: str) -> tuple[int | None, str]:
    """Seconds and what is shown; between them attributes may stand, with commas in quotes."""
    found = _DURATION.match(value)
    rest = value[found.end() :] if found else value
    comma = _ATTRIBUTES.match(rest)
    shown = rest[comma.end() :] if comma else rest.partition(",")[2]
    return (seconds(float(found[1])) if found else None, shown.strip())


def split(shown: str) -> tuple[str, str]:
    """ "Artist - Title" -> both; the artist is "" where nothing is between."""
    artist, between, title = shown.partition(_BETWEEN)
    return (artist.strip(), title.strip()) if between else ("", shown)


def read_pls(text: str) -> Playlist:
    """What a PLS says, in the order of its numbers."""
    told: dict[int, dict[str, str]] = {}
    for row in rows(text):
        if found := _PLS.fullmatch(row):
            told.setdefault(int(found[2]), {})[found[1].lower()] = found[3].strip()
            check(len(told))
    return Playlist("", tuple(_numbered(told[number]) for number in sorted(told) if told[number].get("file")))


def _numbered(told: dict[str, str]) -> Item:
    artist, title = split(one_line(told.get("title", "")))
    length = _DURATION.match(told.get("length", ""))
    return Item(bare(told["file"]), title, artist, "", seconds(float(length[1])) if length else None)


# ── writing ──


def write(playlist: Playlist) -> str:
    """A playlist as M3U. Raises Malformed for a path that M3U cannot hold."""
    title = one_line(playlist.title)
    lines = ["#EXTM3U", *([f"#PLAYLIST:{title}"] if title else [])]
    for item in playlist.entries:
        lines += _lines(item)
    return "\n".join(lines) + "\n"


def _lines(item: Item) -> Iterator[str]:
    artist, title, album = one_line(item.artist), one_line(item.title), one_line(item.album)
    shown = f"{artist}{_BETWEEN}{title}" if artist and title else title
    if shown or artist or item.duration_s:
        yield f"#EXTINF:{item.duration_s or -1},{shown}"
    if split(shown) != (artist, title):
        yield f"#EXTART:{artist}"
    if album:
        yield f"#EXTALB:{album}"
    yield _location(item.location)


def _location(location: str) -> str:
    if is_url(location):
        return url(location)
    if not location or location.endswith((" ", "\t")) or _BREAKING.search(location):
        raise Malformed(f"the place {location!r} cannot stand in an M3U; take XSPF")
    safe = is_windows(location) or not _TAKEN.match(location)
    return location if safe else f"./{location}"
