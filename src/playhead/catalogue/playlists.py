"""Bytes <-> Playlist: M3U, PLS and XSPF are read, M3U8 and XSPF written. Pure: nothing is opened here.

Any charset is read; UTF-8 is written. Smart playlists, which say what tracks are in them instead of which, are in
`smart`; `smart`, `matches` and `select` are given on from there.
"""

from playhead import media
from playhead.catalogue import m3u as _m3u
from playhead.catalogue import markup
from playhead.catalogue import xspf as _xspf
from playhead.catalogue.criteria import Group, Rule
from playhead.catalogue.smart import Smart, Sort, matches, select, smart
from playhead.catalogue.tracklist import LARGEST, MOST, Item, Playlist, readings, resolve
from playhead.errors import Malformed

__all__ = [
    "EXTENSIONS",
    "LARGEST",
    "MOST",
    "Group",
    "Item",
    "Playlist",
    "Rule",
    "Smart",
    "Sort",
    "m3u8",
    "matches",
    "read",
    "readings",
    "resolve",
    "select",
    "smart",
    "xspf",
]

EXTENSIONS = ("m3u8", "m3u", "pls", "xspf")


def read(data: bytes, name: str = "") -> Playlist:
    """What a playlist's file says. Raises Malformed, which names it."""
    called = name.rpartition("/")[2] or "this playlist"
    try:
        if len(data) > LARGEST:
            raise Malformed(f"playlists of more than {LARGEST >> 20} MiB are not read")
        return _read(data, name.rpartition(".")[2].lower())
    except Malformed as error:
        raise Malformed(f"{called!r} cannot be read: {error}") from error


def _read(data: bytes, extension: str) -> Playlist:
    text = media.to_utf8(data).decode("utf-8")
    begins = text.lstrip("\ufeff \t\r\n")[:10].lower()
    if extension == "nsp" or begins.startswith("{"):
        raise Malformed("it is a smart playlist, which has rules and no entries")
    if extension == "xspf" or begins.startswith("<"):
        return _xspf.read(markup.decoded(data))
    if begins == "[playlist]" or extension == "pls":
        return _m3u.read_pls(text)
    return _m3u.read(text)


def m3u8(playlist: Playlist) -> bytes:
    """A playlist as M3U in UTF-8. Raises Malformed for a path that M3U cannot hold (line ends, blanks at its end)."""
    return _m3u.write(playlist).encode("utf-8")


def xspf(playlist: Playlist) -> bytes:
    """A playlist as XSPF 1."""
    return _xspf.write(playlist).encode("utf-8")
