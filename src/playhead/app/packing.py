"""Requests -> bundles: ?pack= on a folder, POST /bundles, and GET /bundles/{id}/{name}.

`?pack=` plans the folder anew for who begins at its beginning, and goes on with the same plan for who asks for a range;
an address below /bundles never changes what it gives. What a list may name: files of our trees, and URLs that begin as
one that the configuration allows.
"""

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from playhead.app.bundles import DAY, KINDS, Bundle, Bundles, described, file_name
from playhead.blob import literal
from playhead.errors import Denied, Malformed, NotFound
from playhead.respond import ERRORS, About, Request, Response, respond, wire_tag
from playhead.transforms.contents import everyone
from playhead.transforms.plan import Member
from playhead.tree import Ask, Tree, Why, segments

AFTER_HEAD = 60.0  # seconds in which a GET is given what a HEAD was told of
OPENED = 32  # members whose sizes are asked for at a time

Elsewhere = Callable[[str], tuple[Tree, str]]


def _nowhere(url: str) -> tuple[Tree, str]:
    raise Denied("bundles of URLs are not allowed here")


class Packing:
    """Bundles of the trees of a site; `urls`: how URLs begin that may be named, `elsewhere` opens them."""

    def __init__(
        self, trees: Mapping[str, Tree], prefix: str, urls: Sequence[str] = (), elsewhere: Elsewhere = _nowhere
    ) -> None:
        self.trees, self.prefix, self.urls, self.elsewhere = trees, prefix, tuple(urls), elsewhere
        self.bundles = Bundles(self.reach)
        self.looked: dict[tuple[str, ...], float] = {}  # what HEAD was asked of, and when

    # ── what may be named ──

    def reach(self, place: str) -> tuple[Tree, str]:
        """See Bundles."""
        if "://" in place:
            return self.elsewhere(self._allowed(place))
        name, _, path = place.partition(":")
        if name not in self.trees:
            raise NotFound(f"there is no tree {name!r}")
        return self.trees[name], path

    def _allowed(self, url: str) -> str:
        path = unquote_to_bytes(url.partition("://")[2].partition("?")[0].partition("/")[2])
        odd = re.search(r"[^!-~\x80-\U0010ffff]|[#\\]", url)  # what parsers of URLs drop, or read otherwise
        if odd or not any(url.startswith(prefix) for prefix in self.urls) or b".." in path.split(b"/"):
            raise Denied("a bundle may not name this URL; see `urls` in [bundles] of the configuration")
        return url

    def _place(self, source: str) -> str:
        """What a list calls a source: a URL, NAME:path, or an address of ours, /files/NAME/path."""
        if "://" in source:
            return self._allowed(source)
        ours = f"{self.prefix}/files/"
        if source.startswith(ours):
            names = [_decoded(name) for name in source[len(ours) :].split("/")]
            if any("/" in name for name in names):
                raise Malformed("a name cannot hold a '/' (%2F)")
            source = f"{names[0]}:{'/'.join(names[1:])}"
        name, _, path = source.partition(":")
        segments(path)
        if name not in self.trees:
            raise NotFound(f"there is no tree {name!r}")
        return source

    # ── requests ──

    async def folder(self, request: Request, name: str, path: str, query: Mapping[str, list[str]]) -> Response:
        """A folder, or some paths in it (`path=` repeated), as one archive."""
        kind = _kind(query.get("pack", [""])[0])
        paths = [f"{path}/{inner}".strip("/") for inner in query.get("path", [])] or [path]
        ready = query.get("zip") == ["ready"]
        for each in paths:
            segments(each)
        title = paths[0].rpartition("/")[2] if len(paths) == 1 else path.rpartition("/")[2]
        key = (kind, str(ready), name, *paths)
        found = self._known(request, key)
        if found is None:
            fresh = "range" not in request.headers
            if request.method == "HEAD":
                self.looked = {**self.looked, key: time.monotonic()} if len(self.looked) < 64 else {}
            elif time.monotonic() - self.looked.pop(key, -AFTER_HEAD) < AFTER_HEAD and self.bundles.salted(key):
                fresh = False  # it asks for what it was just told of
            found = await self.bundles.once(key, lambda: self._planned(name, paths, kind, ready), fresh=fresh)
        return self._answer(request, found, file_name(title or name, kind))

    async def _planned(self, name: str, paths: Sequence[str], kind: str, ready: bool) -> Bundle:
        collecting = self.bundles.collecting()
        for path in paths:
            await collecting.add(self.trees[name], path, lambda path: f"{name}:{path}")
        return await self.bundles.made(collecting.planning, kind, ready=ready)

    def _known(self, request: Request, key: tuple[str, ...]) -> Bundle | None:
        """The bundle whose tag a condition names, so that a resumed transfer goes on with the same."""
        wanted = request.headers.get("if-range", request.headers.get("if-match", "")).strip()
        for bundle in self.bundles.lately.values():
            if key in bundle.keys and wanted == _etag(bundle):
                return bundle
        return None

    async def posted(self, request: Request, body: bytes, query: Mapping[str, list[str]]) -> Response:
        """A list -> the address of its bundle, as JSON."""
        members, asked = await asyncio.to_thread(described, body, request.headers.get("content-type", ""), self._place)
        kind = _kind(asked.get("kind", query.get("kind", ["zip"])[0]))
        title, ready = asked.get("name", query.get("name", [""])[0]), asked.get("ready", query.get("zip") == ["ready"])
        collecting = self.bundles.collecting()
        await asyncio.to_thread(collecting.all, await self._sized(members))
        bundle = await self.bundles.made(collecting.planning, kind, ready=ready is True)
        data: dict[str, Any] = {
            "url": self._url(bundle, file_name(title, kind)),
            "size": bundle.archive.size,
            "etag": _etag(bundle),
            "expires": f"{datetime.now(UTC) + timedelta(seconds=DAY):%Y-%m-%dT%H:%M:%SZ}",
        }
        answer = respond(Request("GET", {}), literal(json.dumps(data).encode(), None), _JSON)
        return replace(answer, status=201, headers=[*answer.headers, ("Location", data["url"])])

    async def _sized(self, members: list[Member]) -> list[Member]:
        """The members, with the sizes that the list did not tell."""
        limit = asyncio.Semaphore(OPENED)

        async def sized(member: Member) -> Member:
            if member.size >= 0:
                return member
            async with limit:
                tree, path = self.reach(member.place)
                blob = await tree.open(path, Ask(0, 0, Why.BULK))
            return replace(member, size=blob.size, tag=member.tag or blob.tag or "")

        if all(member.size >= 0 for member in members):
            return members
        return await everyone([sized(member) for member in members])

    async def get(self, request: Request, rest: str) -> Response:
        """A bundle by its address."""
        name, _, title = rest.partition("/")
        bundle = await self.bundles.find(name)
        shown = unquote_to_bytes(title).decode("utf-8", "replace")
        return self._answer(request, bundle, file_name(shown, bundle.kind))

    def _answer(self, request: Request, bundle: Bundle, title: str) -> Response:
        answer = respond(request, self.bundles.sent(bundle), About(title, KINDS[bundle.kind], attachment=True))
        answer.headers.append(("Content-Location", self._url(bundle, title)))
        return answer

    def _url(self, bundle: Bundle, title: str) -> str:
        return f"{self.prefix}/bundles/{bundle.id}/{quote(title.encode('utf-8', 'replace'), safe='')}"


def _etag(bundle: Bundle) -> str:
    return f'"{wire_tag(bundle.archive.tag or "")}"'


def _decoded(segment: str) -> str:
    return unquote_to_bytes(segment).decode("utf-8", "surrogateescape")


_JSON = About(type="application/json", cache=ERRORS)


def _kind(text: Any) -> str:
    if not isinstance(text, str) or text not in KINDS:
        raise Malformed(f"{text!r} is no kind of archive; tar and zip are")
    return str(text)
