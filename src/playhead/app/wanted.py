"""Hostile addresses and options -> what may be downloaded, and where to.

An address is an http or https URL with a host, or NAME:path in a tree that is served; never a file of this machine.
A target stays inside the downloads folder: `dir` is in it also when links are followed, and `out` is one clean name.
The options are aria2's; those that a download of ours has no use for are left out, as aria2 leaves out what it does
not know.
"""

import os
import re
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playhead.errors import Denied, Malformed
from playhead.transforms.plan import clean
from playhead.tree import segments

URIS = 64  # addresses of one download: the file, and its mirrors
URI = 8192  # characters of one
VALUE = 4096  # characters of an option
HEADERS = 64 << 10  # characters of all headers
NAME = 240  # bytes of a name, so that a suffix has room beside it

KEPT = frozenset(
    [
        "out",
        "checksum",
        "header",
        "referer",
        "user-agent",
        "http-user",
        "http-passwd",
        "split",
        "max-connection-per-server",
        "max-download-limit",
        "allow-overwrite",
        "auto-file-renaming",
        "continue",
    ]
)
_COUNTS = ("split", "max-connection-per-server")
_CONTROL = re.compile(r"[\0-\x1f\x7f-\x9f\ud800-\udfff]")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*")
_TREE = re.compile(r"([a-z][a-z0-9-]*):(.+)", re.DOTALL)


def addresses(uris: Sequence[Any], trees: Container[str] = ()) -> tuple[str, ...]:
    """The addresses of one file. Raises Malformed or Denied where one of them may not be asked for."""
    if not uris:
        raise Malformed("URI is not provided.")
    if len(uris) > URIS:
        raise Malformed(f"a download has at most {URIS} addresses")
    return tuple(_address(uri, trees) for uri in uris)


def _address(given: Any, trees: Container[str]) -> str:
    if not isinstance(given, str) or not 0 < len(given) <= URI:
        raise Malformed(f"an address is a text of 1 to {URI:,} characters")
    uri = str(given)
    named = _TREE.fullmatch(uri)
    if named and "://" not in uri and named[1] in trees:
        segments(named[2])
        return uri
    uri = uri.strip().replace(" ", "%20")
    try:
        parts = urlsplit(uri)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not uri.isprintable() or "\\" in uri:  # parsers of URLs drop some, or read them otherwise
        raise Malformed(f"{uri[:200]!r} cannot be downloaded: it is no http or https URL, and no NAME:path of a tree")
    return uri


def options(given: Mapping[str, Any]) -> dict[str, str]:
    """What a download is told: texts of one line, but `header`, which has one a line. Raises Malformed."""
    kept = {}
    for key in KEPT.intersection(given):
        value = _SPECIAL.get(key, text)(key, given[key])
        if value:
            kept[key] = value
    for key in _COUNTS:
        if key in kept and not re.fullmatch("[1-9][0-9]{0,3}", kept[key]):
            raise Malformed(f"option {key}: {kept[key]!r} is no number from 1 on")
    return kept


def text(key: str, value: Any) -> str:
    """The value of an option, which aria2 has as texts and some clients send as what it means. Raises Malformed."""
    if isinstance(value, bool | int):
        value = str(value).lower()
    if not isinstance(value, str) or len(value) > VALUE or _CONTROL.search(value):
        raise Malformed(f"option {key}: a text of one line is wanted, of at most {VALUE:,} characters")
    return value


def _headers(key: str, value: Any) -> str:
    lines = value.split("\n") if isinstance(value, str) else value
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise Malformed("option header: a list of texts is wanted")
    lines = [line for line in lines if line]
    if any(not _HEADER.fullmatch(line) or _CONTROL.search(line.replace("\t", " ")) for line in lines):
        raise Malformed("option header: one of them is not as `Name: value`")
    if sum(map(len, lines)) > HEADERS:
        raise Malformed(f"option header: they have at most {HEADERS:,} characters")
    return "\n".join(lines)


def _out(key: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > VALUE:
        raise Malformed(f"option out: a text is wanted, of at most {VALUE:,} characters")
    return name(value) if value else ""


_SPECIAL = {"header": _headers, "out": _out}


def name(text: str) -> str:
    """One name that any file system takes, with its ending also where it must be cut."""
    whole = clean(text).replace("/", "_")
    if len(whole.encode()) <= NAME:
        return whole
    stem, ending = os.path.splitext(whole)
    ending = ending if len(ending.encode()) <= 20 else ""
    return stem.encode()[: NAME - len(ending.encode())].decode("utf-8", "ignore") + ending


def place(folder: Path, dir: str) -> str:
    """A folder as its path below the downloads folder ("": that itself). It waits for the disk.

    Raises Denied where it is elsewhere, Malformed where it is no path.
    """
    if _CONTROL.search(dir) or len(dir) > VALUE or any(len(part.encode()) > 255 for part in dir.split("/")):
        raise Malformed("option dir: it is no path of a folder")
    root = os.path.realpath(folder)
    target = os.path.realpath(os.path.join(root, dir))
    if os.path.commonpath([root, target]) != root:
        raise Denied(f"option dir: {dir!r} is not inside of the downloads folder")
    return os.path.relpath(target, root) if target != root else ""
