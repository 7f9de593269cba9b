"""Entries -> the Files page; the queue -> the page of downloads, as HTML that works without script.

`files.js` adds the viewer, `upload.js` what is dropped on a folder, `downloads.js` keeps what is shown of the queue
true.

Every name is escaped here and nowhere else. The page holds no inline script or style; what it is made of is
served under URLs that hold a hash, so that a browser keeps it for ever and never mixes versions.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
_ASSETS = ("files.css", "files.js", "upload.js", "sending.js", "downloads.js", "icon.svg")
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


def trees(prefix: str, names: Sequence[str], under_way: int | None = None) -> str:
    """The page that lists the trees; `under_way`: how many downloads are, None where there is no queue of them."""
    rows = "".join(_row(f"{prefix}/files/{quoted(name)}/", Entry(name, folder=True)) for name in names)
    head = _to_downloads(prefix, under_way) + "<h1>Files</h1>"
    return _document(prefix, "Playhead", head, rows or _empty("No source is configured."))


def folder(
    prefix: str,
    tree: str,
    path: str,
    entries: Sequence[Entry],
    following: str | None,
    *,
    alone: bool,
    under_way: int | None = None,
    adding: bool = False,
) -> str:
    """The page of one folder. `following`: the last name shown, where more follow; `alone`: there is no other tree;
    `under_way`: see trees; `adding`: may files be added to it?
    """
    here = f"{prefix}/files/{quoted(tree)}/" + "".join(f"{quoted(name)}/" for name in path.split("/") if path)
    rows = [_row(here + quoted(entry.name) + "/" * entry.folder, entry, chosen=True) for entry in entries]
    if following is not None:
        rows.append(
            f'<li class="more"><a href="{escape(here)}?after={quote(fsencode(following), safe="")}">More</a></li>'
        )
    title = path.rpartition("/")[2] or tree
    head = _to_downloads(prefix, under_way) + _crumbs(prefix, tree, path, alone) + (_PACK if entries else "")
    form = f'<form id="pack" method="get" action="{escape(here)}"></form>'
    adds = _adds(prefix, tree, path) if adding else ""
    scripts = ("files.js", "upload.js") if adds else ("files.js",)
    return _document(prefix, title, form + head, "".join(rows) or _empty("This folder is empty."), adds, scripts)


def _adds(prefix: str, tree: str, path: str) -> str:
    """Where files are dropped, for the script that sends them; not in folders whose names none may be given."""
    if re.search(r"[\0-\x1f\x7f\ud800-\udfff]", tree + path):
        return ""
    place = f'data-to="{escape(prefix)}/uploads" data-tree="{escape(tree)}" data-path="{escape(path)}"'
    by = f'data-by="{_url(prefix, "sending.js")}"'
    return f'<section id="adding" aria-label="Add files" {place} {by} hidden></section>'


def _to_downloads(prefix: str, under_way: int | None) -> str:
    if under_way is None:
        return ""
    count = f' <span class="count">{under_way}</span>' if under_way else ""
    return f'<a class="aside" href="{escape(prefix)}/downloads">Downloads{count}</a>'


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


# ── downloads ──


@dataclass(frozen=True, slots=True)
class Row:
    """A download as it is shown. `place`: its folder, where that has a name; `folder` and `file`: addresses."""

    gid: str
    name: str
    state: str
    error: str
    place: str
    size: int | None
    have: int
    rate: int
    connections: int
    folder: str = ""
    file: str = ""
    said: str = ""  # all that in a line

    def __post_init__(self) -> None:
        object.__setattr__(self, "said", _said(self))


def downloads(prefix: str, rows: Sequence[Row], more: int, *, controls: bool, problem: str = "", url: str = "") -> str:
    """The page of the queue. `more` are not shown; `controls`: may it be changed; `problem`: why `url` was refused."""
    action = f'method="post" action="{escape(prefix)}/downloads"'
    head = f'<nav aria-label="Folders"><ol><li><a href="{escape(prefix)}/">Files</a></li></ol></nav><h1>Downloads</h1>'
    if controls:
        head += _ADD.format(action=action, url=escape(url))
    if problem:
        head += f'<p class="problem" role="alert">{_shown(problem)}</p>'
    if controls and rows:
        head += _ALL.format(action=action)
    shown = [_download(row, action if controls else "") for row in rows]
    if more:
        shown.append(_empty(f"And {more:,} more."))
    empty = _empty("Nothing is being downloaded.")
    return _document(prefix, "Downloads", head, "".join(shown) or empty, scripts=("downloads.js",))


_ADD = (
    '<form class="add" {action}><input name="url" type="url" required placeholder="https://" value="{url}" '
    'aria-label="Address of a file" autocomplete="off"><button name="do" value="add">Download</button></form>'
)
_ALL = (
    '<form class="acts all" {action}><button name="do" value="pause-all">Pause all</button>'
    '<button name="do" value="unpause-all">Resume all</button>'
    '<button name="do" value="purge">Clear finished</button></form>'
)
_ACTS = {
    "active": (("pause", "Pause"), ("remove", "Remove")),
    "waiting": (("pause", "Pause"), ("remove", "Remove")),
    "paused": (("unpause", "Resume"), ("remove", "Remove")),
    "error": (("again", "Try again"), ("forget", "Clear")),
    "removed": (("again", "Try again"), ("forget", "Clear")),
    "complete": (("forget", "Clear"),),
}


def _download(row: Row, action: str) -> str:
    name = f'<span class="label">{_shown(row.name)}</span>'
    if row.file:
        name = f'<a class="label" href="{escape(row.file)}">{_shown(row.name)}</a>'
    place = f'<a href="{escape(row.folder)}">{_shown(row.place)}</a>' if row.folder else _shown(row.place)
    place = f'<span class="place">in {place}</span>' if row.place else ""
    progress = ""
    if row.state in ("active", "waiting", "paused"):
        done = f' max="{row.size}" value="{min(row.have, row.size)}"' if row.size else ""
        done = done or ("" if row.state == "active" else ' value="0"')  # without a value it moves
        progress = f'<progress aria-label="{_shown(row.name)}"{done}></progress>'
    buttons = "".join(f'<button name="do" value="{do}">{said}</button>' for do, said in _ACTS[row.state])
    acts = f'<form class="acts" {action}><input type="hidden" name="gid" value="{row.gid}">{buttons}</form>'
    return (
        f'<li class="row download" id="{row.gid}" data-state="{row.state}"><span class="mark {_kind(row.name)}"></span>'
        f'<div class="what">{name}{progress}<span class="said">{_shown(row.said)}</span>'
        f"{place}</div>{acts if action else ''}</li>"
    )


def _said(row: Row) -> str:
    """How far it is, in words."""
    so_far = f"{_bytes(row.have)} of {_bytes(row.size)}" if row.size is not None else _bytes(row.have)
    if row.state == "active":
        left = [_left((row.size - row.have) / row.rate)] if row.size and row.rate else []
        many = [f"{row.connections} connections"] if row.connections > 1 else []
        return ", ".join([so_far, f"{_bytes(row.rate)}/s", *many, *left])
    if row.state == "error":
        return f"Failed: {row.error}"
    if row.state == "complete":
        return _bytes(row.size or row.have)
    word = row.state.capitalize()
    return f"{word} at {so_far}" if row.have else word


def _left(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s left"
    return f"{seconds / 60:.0f} min left" if seconds < 5400 else f"{seconds / 3600:.1f} h left"


# ── the document ──


def _document(
    prefix: str, title: str, head: str, rows: str, adds: str = "", scripts: Sequence[str] = ("files.js",)
) -> str:
    return "".join(_parts(prefix, title, head, rows, adds, scripts))


def _parts(prefix: str, title: str, head: str, rows: str, adds: str, scripts: Sequence[str]) -> Iterator[str]:
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="color-scheme" content="light dark">'
    yield f"<title>{_shown(title)}</title>"
    yield f'<link rel="icon" href="{_url(prefix, "icon.svg")}">'
    yield f'<link rel="stylesheet" href="{_url(prefix, "files.css")}">'
    for script in scripts:
        yield f'<script type="module" src="{_url(prefix, script)}"></script>'
    yield f"</head><body><header>{head}"
    if "files.js" in scripts:
        yield '<input id="filter" type="search" placeholder="Filter" aria-label="Filter this folder" hidden>'
    yield "</header>"
    yield f'{adds}<main><ul class="files">{rows}</ul></main></body></html>'
