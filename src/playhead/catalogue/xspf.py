"""XSPF <-> Playlist. Pure.

Places are URIs there: what has a scheme is kept as written, else it is a path, without its percent-encoding. We encode
whatever is not a plain letter, figure or "-._~/" in paths, so that no reader can take "#", "?", "%" or "&" for
something else; names in no charset keep their bytes.
"""

import re
from collections.abc import Iterator
from urllib.parse import quote, unquote
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

from playhead.catalogue import markup
from playhead.catalogue.tracklist import Item, Playlist, check, is_url, is_windows, one_line, seconds, url
from playhead.errors import Malformed

NAMESPACE = "http://xspf.org/ns/0/"
_WHAT = "this XSPF"
_SLASHES = re.compile("/{2,}")


def read(text: str) -> Playlist:
    """What an XSPF says. Raises Malformed."""
    root = markup.elements(text, _WHAT)
    if markup.local(root) != "playlist":
        raise Malformed(f"{_WHAT} begins with <{markup.local(root)[:40]}>, not <playlist>")
    tracks = [one for within in root if markup.local(within) == "trackList" for one in within]
    tracks = [one for one in tracks if markup.local(one) == "track"]
    check(len(tracks))
    return Playlist(_told(root, "title"), tuple(map(_item, tracks)))


def _item(track: Element) -> Item:
    duration = _told(track, "duration")
    known = duration.isascii() and duration.isdigit() and len(duration) < 13
    return Item(
        _place(_told(track, "location")),
        _told(track, "title"),
        _told(track, "creator"),
        _told(track, "album"),
        seconds(int(duration) / 1000) if known else None,
    )


def _told(element: Element, name: str) -> str:
    found = next((one for one in element if markup.local(one) == name), None)
    return one_line("".join(found.itertext())) if found is not None else ""


def _place(location: str) -> str:
    """A URL as written; else the path that the reference means. Where decoding would make another reference of it, it
    stays as it is."""
    if is_url(location):
        return location
    path = unquote(location, errors="surrogateescape")
    return location if is_url(path) or path.count("/") != location.count("/") else path


# ── writing ──


def write(playlist: Playlist) -> str:
    """A playlist as XSPF 1."""
    return "".join(_written(playlist))


def _written(playlist: Playlist) -> Iterator[str]:
    yield f'<?xml version="1.0" encoding="UTF-8"?>\n<playlist version="1" xmlns="{NAMESPACE}">\n'
    yield from _elements("  ", title=playlist.title)
    yield "  <trackList>\n"
    for item in playlist.entries:
        yield "    <track>\n"
        milliseconds = str(item.duration_s * 1000) if item.duration_s else ""
        place = _reference(item.location)
        told = {"location": place, "title": item.title, "creator": item.artist, "album": item.album}
        yield from _elements("      ", **told, duration=milliseconds)
        yield "    </track>\n"
    yield "  </trackList>\n</playlist>\n"


def _elements(indent: str, **told: str) -> Iterator[str]:
    for name, value in told.items():
        if value := one_line(value):
            yield f"{indent}<{name}>{escape(value)}</{name}>\n"


def _reference(location: str) -> str:
    if is_url(location):
        return url(location)
    if is_windows(location):
        return "file:///" + quote(location.replace("\\", "/"), safe="/:", errors="surrogateescape")
    path = _SLASHES.sub("/", location)
    return quote(path, safe="/", errors="surrogateescape")
