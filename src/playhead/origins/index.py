"""The index pages that HTTP servers make of folders -> entries. Pure.

nginx, Apache, `rclone serve http`, `python -m http.server` and whatever looks like them: a page of links.
What counts is where a link leads: to a name directly in the folder, on the same server. All else (other
hosts and schemes, parents, sorting links, deeper paths) is ignored. Sizes and dates are taken only where
they are exact: Apache's "1.2M" is not.
"""

import re
from datetime import UTC, datetime
from html import unescape
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

from playhead.errors import Damaged
from playhead.tree import Entry

MAX_LINKS = 100_000
DETAILS = 400  # characters behind a link that are looked at

# What nginx writes behind a link: "21-Nov-2026 06:16      12345"; and rclone: "12345 2026-11-21 06:16:05.4 +0000 UTC".
_NGINX = re.compile(r"^\s+(?P<date>\d{2}-[A-Z][a-z]{2}-\d{4} \d{2}:\d{2}) +(?P<size>\d{1,18})\s*(?:\n|$)")
_RCLONE = re.compile(r"^\s*(?P<size>\d{1,18})\s+(?P<date>\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2})\S* \+0000 UTC")
_DETAILS = [(_NGINX, "%d-%b-%Y %H:%M"), (_RCLONE, "%Y-%m-%d %H:%M:%S")]


_TAG = re.compile(r"""<(/?[a-z][^\s/>]*+)((?:[^"'>]++|"[^"]*+"|'[^']*+')*+)>""", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""([^\s=/"'>]++)(?:\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s"'>]++)))?""")
_OPAQUE = {  # what no links are in, with the end of each
    "<!--": re.compile("-->"),
    "<script": re.compile("</script", re.IGNORECASE),
    "<style": re.compile("</style", re.IGNORECASE),
}
LONGEST = 2048  # characters of a tag; a longer one is passed over up to its first ">"


def entries(page: str, url: str) -> list[Entry]:
    """The entries of the folder whose index page, at `url` (ending in "/"), this is."""
    found: dict[str, Entry] = {}
    for href, after in _links(page):
        if name := _name(href, url):
            folder = name.endswith("/")
            size, modified = (None, None) if folder else _details(after)
            found.setdefault(name.rstrip("/"), Entry(name.rstrip("/"), folder, size, modified))
    return list(found.values())


def _links(page: str) -> list[tuple[str, str]]:
    """Every link of a page, with the text between its end and the next one. Takes time in step with the page."""
    links: list[tuple[str, list[str]]] = []
    at, inside = 0, False
    while at < len(page):
        begin = page.find("<", at)
        if links and not inside:
            links[-1][1].append(page[at : begin if begin >= 0 else len(page)])
        if begin < 0:
            break
        tag, at = _tag(page, begin)
        if tag is None:
            continue
        name = tag[1].lower()
        if name == "/a":
            inside = False
        elif name == "a" and (href := _href(tag[2])) is not None:
            if len(links) >= MAX_LINKS:
                raise Damaged(f"the index page has more than {MAX_LINKS:,} links")
            links.append((href, []))
            inside = True
    return [(href, unescape("".join(after))[:DETAILS]) for href, after in links]


def _tag(page: str, begin: int) -> tuple[re.Match[str] | None, int]:
    """The tag that begins at a "<", if it is one, and where to go on."""
    opening = page[begin : begin + 8].lower()
    for start, ending in _OPAQUE.items():
        if opening.startswith(start):
            found = ending.search(page, begin)
            return None, found.end() if found else len(page)
    tag = _TAG.match(page, begin, begin + LONGEST)
    if tag:
        return tag, tag.end()
    if not opening[1:2].isalpha() and opening[1:2] not in ("/", "!", "?"):
        return None, begin + 1  # only a sign
    end = page.find(">", begin)
    return None, end + 1 if end >= 0 else len(page)


def _href(attributes: str) -> str | None:
    for attribute in _ATTRIBUTE.finditer(attributes):
        if attribute[1].lower() == "href":
            return unescape(attribute[2] or attribute[3] or attribute[4] or "")
    return None


def _name(href: str, url: str) -> str | None:
    """The name directly in the folder that a link leads to ("/" at the end: a folder), or None."""
    try:
        base, target = urlsplit(url), urlsplit(urljoin(url, href.strip()))
    except ValueError:
        return None
    if (target.scheme, target.netloc) != (base.scheme, base.netloc) or target.query or href.startswith(("?", "#")):
        return None
    try:
        above, path = _bytes(base.path)[:-1], _bytes(target.path)
    except UnicodeEncodeError:
        return None
    inside = path[len(above) :]
    if path[: len(above)] != above or not 1 <= len(inside) <= 2 or inside[1:] not in ([], [b""]):
        return None
    raw, name = target.path, inside[0].decode("utf-8", "surrogateescape")
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        return None
    return name + "/" * raw.endswith("/")


def _bytes(path: str) -> list[bytes]:
    """The segments of a path, however they are quoted."""
    return [unquote_to_bytes(segment) for segment in path.encode("utf-8", "surrogateescape").split(b"/")]


def _details(text: str) -> tuple[int | None, datetime | None]:
    for pattern, form in _DETAILS:
        if match := pattern.search(text):
            try:
                return int(match["size"]), datetime.strptime(match["date"], form).replace(tzinfo=UTC)
            except ValueError:
                return int(match["size"]), None
    return None, None
