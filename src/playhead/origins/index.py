"""The index pages that HTTP servers make of folders -> entries. Pure.

nginx, Apache, `rclone serve http`, `python -m http.server` and whatever looks like them: a page of links.
What counts is where a link leads: to a name directly in the folder, on the same server. All else (other
hosts and schemes, parents, sorting links, deeper paths) is ignored. Sizes and dates are taken only where
they are exact: Apache's "1.2M" is not.
"""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

from playhead.errors import Damaged
from playhead.tree import Entry

MAX_LINKS = 100_000

# What nginx writes behind a link: "21-Nov-2026 06:16      12345"; and rclone: "12345 2026-11-21 06:16:05.4 +0000 UTC".
_NGINX = re.compile(r"^\s+(?P<date>\d{2}-[A-Z][a-z]{2}-\d{4} \d{2}:\d{2})\s+(?P<size>\d{1,18})\s*$", re.MULTILINE)
_RCLONE = re.compile(r"^\s*(?P<size>\d{1,18})\s+(?P<date>\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2})\S* \+0000 UTC")
_DETAILS = [(_NGINX, "%d-%b-%Y %H:%M"), (_RCLONE, "%Y-%m-%d %H:%M:%S")]


class _Page(HTMLParser):
    """Every link of a page, and the text that follows it up to the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[tuple[str, list[str]]] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href") if tag == "a" else None
        if href is None:
            return
        if len(self.links) >= MAX_LINKS:
            raise Damaged(f"the index page has more than {MAX_LINKS:,} links")
        self.links.append((href, []))
        self.inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.links and not self.inside:
            self.links[-1][1].append(data)


def entries(page: str, url: str) -> list[Entry]:
    """The entries of the folder whose index page, at `url` (ending in "/"), this is."""
    reader = _Page()
    reader.feed(page)
    reader.close()
    found: dict[str, Entry] = {}
    for href, after in reader.links:
        if name := _name(href, url):
            folder = name.endswith("/")
            size, modified = (None, None) if folder else _details("".join(after))
            found.setdefault(name.rstrip("/"), Entry(name.rstrip("/"), folder, size, modified))
    return list(found.values())


def _name(href: str, url: str) -> str | None:
    """The name directly in the folder that a link leads to ("/" at the end: a folder), or None."""
    try:
        base, target = urlsplit(url), urlsplit(urljoin(url, href.strip()))
    except ValueError:
        return None
    if (target.scheme, target.netloc) != (base.scheme, base.netloc) or target.query or href.startswith(("?", "#")):
        return None
    if not target.path.startswith(base.path):
        return None
    raw = target.path[len(base.path) :]
    if not raw or "/" in raw.rstrip("/") or raw.endswith("//"):
        return None
    name = unquote_to_bytes(raw.rstrip("/")).decode("utf-8", "surrogateescape")
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        return None
    return name + "/" * raw.endswith("/")


def _details(text: str) -> tuple[int | None, datetime | None]:
    for pattern, form in _DETAILS:
        if match := pattern.search(text):
            try:
                return int(match["size"]), datetime.strptime(match["date"], form).replace(tzinfo=UTC)
            except ValueError:
                return int(match["size"]), None
    return None, None
