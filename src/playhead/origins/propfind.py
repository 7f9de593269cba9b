"""Nothing -> Tree: a folder of a WebDAV server (RFC 4918), as far as it is read.

Names come from PROPFIND, of one folder at a time, bytes from the same GETs as every URL's (`web`). A listing gives a
tag only by a strong ETag, and the same one as opening does, so that what was listed need not be asked for again; where
a server's listings and files are found to differ in that, its listings give none. What may be a page that a server made
of a folder is looked at by PROPFIND.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Container, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote_to_bytes

from yarl import URL

from playhead.blob import Blob, identity
from playhead.errors import Damaged, Denied, Failure, Malformed, NotFound, Unavailable
from playhead.limits import Limits
from playhead.origins.addresses import shown
from playhead.origins.fetch import Access, Answered, Client, accepted, date, retry_after, translated
from playhead.origins.multistatus import Multistatus, Resource, question
from playhead.origins.ranged import Answer, RangedBlob
from playhead.origins.web import WebTree
from playhead.tree import Ask, Entries, Entry, join

LISTING = 120.0  # seconds that a server may think about a listing
WHOLE = 600.0  # seconds that a listing may take
BATCH = 256 << 10  # bytes of a listing that are read at a time
KNOWN = 16_384  # ETags of listings that are remembered
YOUNG = timedelta(seconds=60)  # for which an ETag may be weak (RFC 9110, 8.8.2.2)

_STRONG = re.compile(r'"[^"\x00-\x20]*"')
_ABSOLUTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)(.*)", re.DOTALL)
HIDDEN = re.compile(r"\.playhead-[0-9a-f]{16}\.tmp")  # what is being written; Nextcloud and ownCloud take no ".part"

Table = Mapping[int, tuple[type[Failure], str]]
_NONE = Malformed, "there is no WebDAV here; is the URL the one that the server's WebDAV page names?"
_UNLISTED: Table = {200: _NONE, 405: _NONE, 501: _NONE}


def answered(response: Answered, statuses: Container[int], others: Table) -> Answered:
    """The answer itself, or the Failure that its status means, by `others` where they have it."""
    if response.status in statuses or response.status not in others:
        return accepted(response, statuses)
    response.close()
    kind, what = others[response.status]
    raise kind(f"{shown(response.url)}: {what}", after=retry_after(response.headers.get("Retry-After")))


class DavFolder(WebTree):
    """The folder behind a URL, which ends in "/", as far as it is read."""

    def __init__(
        self, url: str, access: Access = Access(), limits: Limits | None = None, client: Client | None = None
    ) -> None:
        super().__init__(url, access, limits, client)
        if self.single is not None:
            raise Malformed(f"{shown(self.base)} is not a folder: end the URL with '/'")
        self.etags: OrderedDict[str, str] = OrderedDict()  # path -> the strong ETag that a listing gave
        self.agrees = True  # does GET give the ETags that listings do?

    # ── reading ──

    async def entries(self, folder: str = "") -> Entries:
        try:
            final, found = await self._propfind(self.url(folder, folder=True), 1)
        except Damaged:  # so Apache answers where a file is asked for as a folder
            if folder and not (await self.find(folder)).folder:
                raise NotFound(f"{folder!r} is a file") from None
            raise
        for entry, resource in await asyncio.to_thread(self._listed, folder, final, found):
            self.note(join(folder, entry.name), resource)
            yield entry

    async def find(self, path: str) -> Entry:
        if path == "":
            return Entry("", folder=True)
        found = await self.resource(path)
        self.note(path, found)
        return self.entry(path, found)

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        blob = await super().open(path, ask)
        listed = self.etags.get(path) if self.agrees else None
        if listed and isinstance(blob, RangedBlob) and blob.validator != listed:
            await self._compare(path, blob)
        return blob

    async def got(self, url: URL, headers: Mapping[str, str], priority: int) -> Answered:
        response = await self.client.answered("GET", url, headers, priority=priority)
        if response.status in (405, 501):
            response.close()
            raise NotFound(f"{shown(url)} is a folder")
        return accepted(response)

    async def _file(self, path: str, ask: Ask | None) -> Answer:
        """The answer for a file; where it may be the page that a server makes of a folder, that is asked for."""
        answer = await super()._file(path, ask)
        headers = answer.response.headers
        page = headers.get("Content-Type", "").startswith("text/html")
        if not page or "ETag" in headers or "Last-Modified" in headers:
            return answer
        answer.response.close()  # who holds an answer must not wait for another, where connections are few
        if (await self.find(path)).folder:
            raise NotFound(f"{path!r} is a folder")
        return await super()._file(path, ask)

    async def _compare(self, path: str, blob: RangedBlob) -> None:
        """A file has not the ETag that was listed. Has it changed, or do listings have ETags of their own?"""
        for answer in blob.waiting:
            answer.drop()  # who holds an answer must not wait for another, where connections are few
        with suppress(Failure):
            await self.find(path)
        listed, validator = self.etags.get(path), blob.validator or ""
        young = blob.modified is None or datetime.now(UTC) - blob.modified < YOUNG  # whose ETag may still be weak
        if listed and validator != listed and not (young and validator.startswith(f"W/{listed}")):
            self.agrees = False

    def note(self, path: str, found: Resource) -> None:
        if _STRONG.fullmatch(etag := found.told.get("etag", "")):
            remember(self.etags, path, etag)
        else:
            self.etags.pop(path, None)

    # ── PROPFIND ──

    async def _propfind(self, url: URL, depth: int, *more: bytes) -> tuple[URL, list[Resource]]:
        """What is told of a resource, and of those in it; and the URL that it was found at."""
        headers = {"Depth": str(depth), "Content-Type": 'application/xml; charset="utf-8"'}
        response = await self.client.answered("PROPFIND", url, headers, question(*more), patience=LISTING)
        answered(response, (207,), _UNLISTED)
        try:
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise Damaged(f"{shown(url)} sends its listing encoded, though nobody asked for that")
            with translated(url):
                async with asyncio.timeout(WHOLE):
                    return response.url, await _read(response)
        finally:
            response.close()

    async def resource(self, path: str, *more: bytes) -> Resource:
        """What is told of one path. Raises NotFound."""
        final, found = await self._propfind(self.url(path), 0, *more)
        place = _names(final.raw_path)
        for resource in found:
            if _split(resource.href, final)[1] == place:
                self._refuse(path, resource)
                return resource
        raise Damaged(f"{shown(final)}: the server tells of other paths than were asked for; does a proxy change them?")

    def _refuse(self, path: str, resource: Resource) -> None:
        status = resource.status
        if status in (404, 410):
            raise NotFound(f"there is no {path!r}")
        if status in (401, 403):
            raise Denied(f"{shown(self.base)}: the server refuses to tell of {path!r}")
        if status >= 300:
            raise Unavailable(f"{shown(self.base)}: the server tells {status} of {path!r}")

    def _listed(self, folder: str, final: URL, found: list[Resource]) -> list[tuple[Entry, Resource]]:
        """The entries of a folder. What lies elsewhere is not of it, whatever it is called."""
        place = _names(final.raw_path)
        ours = {None, *(_split(str(url), final)[0] for url in (final, self.base))}
        split = [(*_split(resource.href, final), resource) for resource in found]
        own = [(authority, resource) for authority, names, resource in split if names == place]
        for authority, resource in own:
            self._refuse(folder, resource)
            ours.add(authority)  # behind a proxy a server may call itself otherwise
            if resource.folder is False:
                raise NotFound(f"{folder!r} is a file")
        entries: dict[str, tuple[Entry, Resource]] = {}
        for authority, names, resource in split:
            if authority in ours and len(names) == len(place) + 1 and names[:-1] == place:
                name = names[-1].decode("utf-8", "surrogateescape")
                if self._shows(join(folder, name), name, resource):
                    entries.setdefault(name, (self.entry(join(folder, name), resource), resource))
        if not own and not entries:
            raise Damaged(f"{shown(final)}: the server lists another folder; does a proxy change its paths?")
        return list(entries.values())

    def _shows(self, path: str, name: str, resource: Resource) -> bool:
        if name in ("", ".", "..") or "/" in name or "\0" in name or HIDDEN.fullmatch(name):
            return False
        if resource.status >= 500:
            self._refuse(path, resource)
        return resource.status not in (404, 410)

    def entry(self, path: str, found: Resource) -> Entry:
        name, told = path.rpartition("/")[2], found.told
        modified = date(told.get("modified"))
        if found.folder or (found.folder is None and found.href.endswith("/")):
            return Entry(name, True, None, modified)
        etag, size, tag = told.get("etag", ""), found.size, None
        if self.agrees and _STRONG.fullmatch(etag):
            tag = identity("v", f"{self.url(path)} {self.client.access.fingerprint}", etag)
        return Entry(name, False, size, modified, tag, f"{etag} {size} {told.get('modified', '')}")


async def _read(response: Answered) -> list[Resource]:
    """A multistatus as it comes."""
    reader, held = Multistatus(shown(response.url)), bytearray()
    async for chunk in response.content.iter_any():
        response.came(len(chunk))
        held += chunk
        if len(held) >= BATCH:
            await asyncio.to_thread(reader.feed, bytes(held))
            held.clear()
    if response.cut_off:
        raise Unavailable(f"{shown(response.url)} broke the connection off")
    await asyncio.to_thread(reader.feed, bytes(held))
    return reader.ended()


def _split(href: str, base: URL) -> tuple[str | None, list[bytes]]:
    """The server that an href names, if it does, and the names of its path, however they are quoted."""
    authority, path = None, href
    if absolute := _ABSOLUTE.fullmatch(href):
        scheme = absolute[1].lower()
        authority = f"{scheme}://{absolute[2].lower().removesuffix(':443' if scheme == 'https' else ':80')}"
        path = absolute[3]
    elif not href.startswith("/"):
        path = f"{base.raw_path.rpartition('/')[0]}/{href}"
    return authority, _names(path)


def _names(path: str) -> list[bytes]:
    return [unquote_to_bytes(name) for name in path.split("/") if name not in ("", ".")]


def remember(among: OrderedDict[str, str], key: str, value: str) -> None:
    among[key] = value
    among.move_to_end(key)
    while len(among) > KNOWN:
        among.popitem(last=False)
