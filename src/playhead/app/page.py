"""Entries -> the Files page, as HTML: it works without script, and `files.js` adds the viewer.

Every name is escaped here and nowhere else. The page holds no inline script or style; what it is made of is
served under URLs that hold a hash, so that a browser keeps it for ever and never mixes versions.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from hashlib import blake2b
from html import escape
from importlib.resources import files
from os import fsencode
from urllib.parse import quote

from playhead import media
from playhead.tree import Entry, visible

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_ASSETS = ("files.css", "files.js", "icon.svg")
_TEXT_TOO = (
    "audio/mpegurl",
    "application/json",
    "application/xml",
    "application/xspf+xml",
    "application/vnd.apple.mpegurl",
)


@cache
def _assets() -> dict[str, tuple[str, bytes]]:
    """URL below /assets/ -> (name, bytes)."""
    folder = files("playhead.app") / "player"
    found = {}
    for name in _ASSETS:
        data = (folder / name).read_bytes()
        found[f"{blake2b(data, digest_size=8).hexdigest()}/{name}"] = name, data
    return found


def asset(path: str) -> tuple[str, bytes] | None:
    """The name and bytes of a part of the page, by its URL below /assets/."""
    return _assets().get(path)


def _url(prefix: str, name: str) -> str:
    return next(f"{prefix}/assets/{path}" for path, (found, _) in _assets().items() if found == name)


def quoted(name: str) -> str:
    """A name as a segment of a URL, also where it is not UTF-8."""
    return quote(fsencode(name), safe="!$&'()*+,;=:@~")


def trees(prefix: str, names: Sequence[str]) -> str:
    """The page that lists the trees."""
    rows = "".join(_row(f"{prefix}/files/{quoted(name)}/", Entry(name, folder=True)) for name in names)
    return _document(prefix, "Playhead", "<h1>Files</h1>", rows or _empty("No source is configured."))


def folder(prefix: str, tree: str, path: str, entries: Sequence[Entry], following: str | None, *, alone: bool) -> str:
    """The page of one folder. `following`: the last name shown, where more follow; `alone`: there is no other tree."""
    here = f"{prefix}/files/{quoted(tree)}/" + "".join(f"{quoted(name)}/" for name in path.split("/") if path)
    rows = [_row(here + quoted(entry.name) + "/" * entry.folder, entry, chosen=True) for entry in entries]
    if following is not None:
        rows.append(
            f'<li class="more"><a href="{escape(here)}?after={quote(fsencode(following), safe="")}">More</a></li>'
        )
    title = path.rpartition("/")[2] or tree
    head = _crumbs(prefix, tree, path, alone) + (_PACK if entries else "")
    form = f'<form id="pack" method="get" action="{escape(here)}"></form>'
    return _document(prefix, title, form + head, "".join(rows) or _empty("This folder is empty."))


# As one file: what is chosen, or all. It works without script, for it is a form.
_PACK = (
    '<div class="pack"><span class="all">Download all as</span><span class="some">Download the chosen as</span>'
    '<button form="pack" name="pack" value="zip">zip</button>'
    '<button form="pack" name="pack" value="tar">tar</button></div>'
)


def _crumbs(prefix: str, tree: str, path: str, alone: bool) -> str:
    steps = [] if alone else [("Files", f"{prefix}/")]
    at = f"{prefix}/files/{quoted(tree)}/"
    steps.append((tree, at))
    for name in path.split("/") if path else ():
        at += quoted(name) + "/"
        steps.append((name, at))
    *above, (last, _) = steps
    links = "".join(f'<li><a href="{escape(url)}">{_shown(name)}</a></li>' for name, url in above)
    return f'<nav aria-label="Folders"><ol>{links}</ol></nav><h1>{_shown(last)}</h1>'


def _row(url: str, entry: Entry, *, chosen: bool = False) -> str:
    kind = "folder" if entry.folder else _kind(entry.name)
    size = "" if entry.size is None else _bytes(entry.size)
    when = _time(entry.modified) if entry.modified else '<span class="when"></span>'
    href = escape(url)
    tools = "" if entry.folder else f'<a class="get" href="{href}?download" download title="Download">Download</a>'
    choose = ""
    if chosen and not re.search(r"[\r\n\0\ud800-\udfff]", entry.name):  # what a form cannot send as it is
        name = escape(entry.name)
        choose = f'<input type="checkbox" form="pack" name="path" value="{name}" aria-label="Choose {name}">'
    return (
        f'<li class="row" data-kind="{kind}"><span class="choose">{choose}</span>'
        f'<a class="name" href="{href}"><span class="mark {kind}"></span>'
        f'<span class="label">{_shown(entry.name)}</span></a>'
        f'<span class="size">{size}</span>{when}<span class="tools">{tools}</span></li>'
    )


def _kind(name: str) -> str:
    """What the viewer can do with a file: audio, video, image, text or other."""
    found = media.by_name(name) or ""
    if found in _TEXT_TOO:
        return "text"
    kind = found.partition("/")[0]
    return kind if kind in ("audio", "video", "image", "text") else "other"


def _time(when: datetime) -> str:
    utc = when.astimezone(UTC)
    return f'<time class="when" datetime="{utc:%Y-%m-%dT%H:%MZ}">{utc:%Y-%m-%d %H:%M} UTC</time>'


def _shown(name: str) -> str:
    return escape(visible(name))


def _bytes(size: int) -> str:
    value, units = float(size), iter(("B", "kB", "MB", "GB", "TB", "PB"))
    unit = next(units)
    while value >= 999.5 and unit != "PB":
        value, unit = value / 1000, next(units)
    return f"{value:.0f} {unit}" if unit == "B" or value >= 9.95 else f"{value:.1f} {unit}"


def _empty(line: str) -> str:
    return f'<li class="empty">{line}</li>'


def _document(prefix: str, title: str, head: str, rows: str) -> str:
    return "".join(_parts(prefix, title, head, rows))


def _parts(prefix: str, title: str, head: str, rows: str) -> Iterator[str]:
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="color-scheme" content="light dark">'
    yield f"<title>{_shown(title)}</title>"
    yield f'<link rel="icon" href="{_url(prefix, "icon.svg")}">'
    yield f'<link rel="stylesheet" href="{_url(prefix, "files.css")}">'
    yield f'<script type="module" src="{_url(prefix, "files.js")}"></script></head><body>'
    yield f'<header>{head}<input id="filter" type="search" placeholder="Filter" aria-label="Filter this folder" hidden>'
    yield "</header>"
    yield f'<main><ul class="files">{rows}</ul></main></body></html>'
