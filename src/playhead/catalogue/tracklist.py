"""Titles and places -> Playlist. Pure: what every format of playlists becomes, and where its places are in a tree.

A place is a path, relative to the playlist's folder or absolute, or a URL. Playlists are written on other machines: a
path may be Windows', percent-encoded, or begin at the root of a disk that is not ours. `readings` gives all that it can
mean, and never a path that leads out of the tree.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, unquote

from playhead.catalogue.verses import tidy
from playhead.errors import Malformed

LARGEST = 4 << 20  # bytes of a playlist
MOST = 50_000  # entries

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,30}://")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_BREAKS = re.compile("[\t\n\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_HERE = re.compile(r"(?:\./+)++")
_UP = re.compile(r"\\\.\.(?:[\\/]|$)|(?:^|/)\.\.\\")  # ".." beside a backslash
_RESERVED = ";/?:@&=+$,#%[]!'()*~-._"  # what a URL may have as it is


@dataclass(frozen=True, slots=True)
class Item:
    """An entry: `location` is a path or URL, "" where the playlist tells a title only. What is not told is ""."""

    location: str
    title: str = ""
    artist: str = ""
    album: str = ""
    duration_s: int | None = None


@dataclass(frozen=True, slots=True)
class Playlist:
    """What a playlist's file says."""

    title: str = ""
    entries: tuple[Item, ...] = ()


def check(entries: int) -> None:
    """Raises Malformed where a playlist has more than can be read."""
    if entries > MOST:
        raise Malformed(f"it has more than {MOST:,} entries")


def one_line(text: str) -> str:
    """A text as it can stand in one line of any format."""
    return _BREAKS.sub(" ", tidy(text)).strip()


def seconds(value: float) -> int | None:
    """A duration in whole seconds; None for what stands for none."""
    return round(value) if 0 < value < 1e8 else None


def is_url(location: str) -> bool:
    return _URL.match(location) is not None


def is_windows(location: str) -> bool:
    """Does a path begin with a drive of Windows?"""
    return _DRIVE.match(location) is not None


def bare(path: str) -> str:
    """A path without the "./" that keeps it from being taken for something else."""
    here = _HERE.match(path)
    return path[here.end() :] if here else path


def rows(text: str) -> list[str]:
    """The lines of a text, with nothing around them."""
    return [row.strip(" \t") for row in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]


def url(location: str) -> str:
    """A URL in ASCII, without what ends lines."""
    return quote(location, safe=_RESERVED, errors="surrogateescape")


def resolve(location: str, folder: str = "") -> str | None:
    """The path in a tree, or the URL, that a place most probably means for a playlist in a folder of the tree; None
    where it leads out of the tree, or nowhere. Absolute paths count from the root of the tree."""
    return next(iter(readings(location, folder)), None)


def readings(location: str, folder: str = "") -> tuple[str, ...]:
    """All that a place can mean, likeliest first; see `resolve`."""
    if is_url(location) and location[:7].lower() != "file://":
        return (location,)
    found = (_inside(path, folder) for path in _paths(location))
    return tuple(dict.fromkeys(path for path in found if path))


def _paths(location: str) -> Iterator[str]:
    if is_url(location):
        host, _, path = location[7:].partition("/")
        if host.lower() in ("", "localhost"):
            decoded = _decoded(f"/{path}")
            yield decoded.replace("\\", "/")[3:] if is_windows(decoded[1:]) else decoded
        return
    if is_windows(location):
        yield location[2:].replace("\\", "/")
        return
    windows = location.replace("\\", "/")
    if "/" not in location:
        yield windows
    yield location
    yield _decoded(location)
    yield windows


def _decoded(path: str) -> str:
    """Without percent-encoding, but where that would make more folders of it."""
    return "/".join(
        part if "/" in unquote(part) else unquote(part, errors="surrogateescape") for part in path.split("/")
    )


def _inside(path: str, folder: str) -> str | None:
    """A path within the tree, or None: ".." never leads out of it, also where "\\" is taken for a separator."""
    *above, last = path.split("/")
    if last in ("", ".", "..") or "\0" in path or _UP.search(path):
        return None
    names = [] if path.startswith("/") else [name for name in folder.split("/") if name]
    for name in above:
        if name == "..":
            if not names:
                return None
            names.pop()
        elif name not in ("", "."):
            names.append(name)
    return "/".join((*names, last))
