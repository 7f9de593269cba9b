"""Nothing -> Tree: a file behind a URL, or a folder behind its index pages.

Opening is one ranged GET for what the reader is about to want, never a HEAD first: size and validator come from its
headers, and the blob's first matching stream goes on with that very answer (see `ranged`).
"""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from os import fsencode
from urllib.parse import quote, unquote_to_bytes

from yarl import URL

from playhead.blob import Blob, Pieces, identity
from playhead.errors import Damaged, Malformed, NotFound, Unavailable, Unsized
from playhead.limits import Limits
from playhead.origins import described, index
from playhead.origins.addresses import bare, shown
from playhead.origins.fetch import Access, Answered, Client, date, translated
from playhead.origins.ranged import Answer, RangedBlob, checked, range_header
from playhead.origins.remote import Remote
from playhead.tree import Ask, Entries, Entry, segments

INDEX = 10_000_000  # bytes of an index page


@dataclass(frozen=True, slots=True, eq=False)
class WebBlob(RangedBlob):
    """A file behind HTTP, and what its server says of it."""

    tree: "WebTree" = field(kw_only=True)
    path: str = field(kw_only=True)
    proposed: str | None = None  # the name that it says the file should have
    media: str | None = None  # its Content-Type
    digests: Mapping[str, bytes] = field(default_factory=dict)  # what it says of the bytes: algorithm -> digest

    async def again(self, ask: Ask) -> Answer:
        return await self.tree.asked(self.tree.url(self.path), ask)


class WebTree(Remote):
    """The folder behind a URL that ends in "/", else a tree of the one file that the URL names."""

    def __init__(
        self, url: str, access: Access = Access(), limits: Limits | None = None, client: Client | None = None
    ) -> None:
        """`client`: one that another tree of the same server has; then that one's access and limits hold."""
        self.client = self.traffic = client or Client(url, access, limits)
        self.base = bare(url) if client else self.client.base
        self.place = f"{self.base.scheme}://{self.base.authority}"  # without a path, for that may be a secret
        self.known_by = f"{self.base} {self.client.access.fingerprint}"
        self.single = None if self.base.raw_path.endswith("/") else _last(self.base)
        self.parked: set[Answer] = set()
        self.flowing: dict[str, Answer] = {}  # path -> an answer without a length, waiting for flow()

    # ── the tree ──

    async def entries(self, folder: str = "") -> Entries:
        if self.single is not None:
            if folder:
                raise NotFound(f"there is no folder {folder!r}")
            yield await self.find(self.single)
            return
        for entry in await self._index(self.url(folder, folder=True)):
            yield entry

    async def find(self, path: str) -> Entry:
        if path == "":
            return Entry("", folder=True)
        name = segments(path)[-1]
        try:
            answer = await self.asked(self.url(path), Ask(0, 0))
        except NotFound:
            if self.single is not None:
                raise
            await self._index(self.url(path, folder=True))
            return Entry(name, folder=True)
        answer.response.close()
        if self._folder(answer):
            return Entry(name, folder=True)
        modified = date(answer.response.headers.get("Last-Modified"))
        mark = f"{answer.size} {answer.validator}"
        return Entry(name, False, answer.size, modified, self._tag(path, answer), mark)

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        answer = await self._file(path, ask)
        answer.park(self.parked)
        if answer.size is None:
            if other := self.flowing.pop(path, None):
                other.drop()
            self.flowing[path] = answer
            raise Unsized(f"{shown(answer.response.url)} does not say how long it is")
        headers, status = answer.response.headers, answer.response.status
        return WebBlob(
            answer.size,
            self._tag(path, answer),
            validator=answer.validator,
            waiting=[answer],
            ranged=status != 200,
            tree=self,
            path=path,
            proposed=described.file_name(headers.get("Content-Disposition")),
            media=headers.get("Content-Type"),
            digests=described.digests(headers, whole=status == 200),
            modified=date(headers.get("Last-Modified")),
        )

    async def flow(self, path: str) -> Pieces:
        answer = self.flowing.pop(path, None)
        if answer is None or not answer.take(0, None):
            answer = await self._file(path, None)
        async with aclosing(answer.body(0, None)) as body:
            async for piece in body:
                yield piece

    async def aclose(self) -> None:
        for answer in list(self.parked):
            answer.drop()
        await self.client.aclose()

    # ── names and identity ──

    def url(self, path: str, folder: bool = False) -> URL:
        names = segments(path)
        if self.single is not None:
            if names != [self.single]:
                raise NotFound(f"{path!r} is not here")
            return self.base
        quoted = "/".join(quote(fsencode(name), safe="!$&'()*+,;=:@~") for name in names)
        ending = "/" if folder and names else ""
        return URL(f"{self.base.origin()}{self.base.raw_path}{quoted}{ending}", encoded=True)

    def _folder(self, answer: Answer) -> bool:
        folder = answer.response.url.raw_path.endswith("/")
        if folder and self.single is not None:
            answer.response.close()
            raise Malformed(f"{shown(self.base)} is a folder: end the URL with '/'")
        return folder

    async def _file(self, path: str, ask: Ask | None) -> Answer:
        answer = await self.asked(self.url(path), ask)
        if self._folder(answer):
            answer.response.close()
            raise NotFound(f"{path!r} is a folder")
        return answer

    def _tag(self, path: str, answer: Answer) -> str | None:
        """By a strong ETag; else by Last-Modified where that is strong (RFC 9110, 8.8.2.2); else none.

        Of the whole URL, so that a file is the same whichever folder above it the tree begins at.
        """
        headers, place = answer.response.headers, f"{self.url(path)} {self.client.access.fingerprint}"
        etag = headers.get("ETag", "")
        if etag.startswith('"'):
            return identity("v", place, etag)
        modified, now = date(headers.get("Last-Modified")), date(headers.get("Date")) or datetime.now(UTC)
        if modified and now - modified >= timedelta(seconds=60):
            return identity("m", place, headers["Last-Modified"], answer.size)
        return None

    # ── asking ──

    async def asked(self, url: URL, ask: Ask | None) -> Answer:
        """A checked answer to a GET of what is asked (None: without a range)."""
        wanted = range_header(ask) if ask else None
        response = await self.got(url, {"Range": wanted} if wanted else {}, ask.why if ask else 0)
        try:
            if response.status == 416 and ask and (ask.start, ask.stop) != (0, 0):
                response.close()
                return await self.asked(url, Ask(0, 0, ask.why))
            return checked(response, ask)
        except BaseException:
            response.close()
            raise

    async def got(self, url: URL, headers: Mapping[str, str], priority: int) -> Answered:
        """The answer to a GET, its status one of 200, 206 and 416."""
        return await self.client.get(url, headers, priority)

    async def _index(self, url: URL) -> list[Entry]:
        response = await self.client.get(url, {"Accept": "text/html"})
        try:
            if response.status != 200 or response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise Damaged(f"{shown(url)} does not send its index page whole and as it is")
            folder = response.url.raw_path.rpartition("/")[0] + "/"
            is_html = response.headers.get("Content-Type", "").startswith(("text/html", "application/xhtml"))
            if not is_html or unquote_to_bytes(folder) != unquote_to_bytes(url.raw_path):
                raise NotFound(f"{shown(url)} is not an index page")
            page = await bounded(response, INDEX, "index page")
            text = page.decode("utf-8", "surrogateescape")
            return await asyncio.to_thread(index.entries, text, f"{response.url.origin()}{folder}")
        finally:
            response.close()


async def bounded(response: Answered, most: int, what: str) -> bytes:
    """The whole body of an answer. Raises Damaged where it is longer than `most`."""
    page = bytearray()
    with translated(response.url):
        async for chunk in response.content.iter_any():
            response.came(len(chunk))
            page += chunk
            if len(page) > most:
                raise Damaged(f"{shown(response.url)}: the {what} is larger than {most // 1_000_000} MB")
    if response.cut_off:
        raise Unavailable(f"{shown(response.url)} broke the connection off")
    return bytes(page)


def _last(url: URL) -> str:
    """The last segment of a URL, as a name that a folder can have."""
    name = unquote_to_bytes(url.raw_path.rpartition("/")[2]).decode("utf-8", "surrogateescape")
    name = name.replace("/", "\uff0f").replace("\0", "")
    return name if name not in ("", ".", "..") else url.host or "file"
