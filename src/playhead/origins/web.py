"""Nothing -> Tree: a file behind a URL, or a folder behind its index pages.

Opening is one ranged GET for what the reader is about to want, never a HEAD first: size and validator come
from its headers, and the blob's first matching stream goes on with that very answer. Each further range is
checked against what the first promised (status, Content-Range, length, total, validator): another version is
Changed, an answer that cannot be the bytes asked for is Damaged. A server without ranges is read from the
start and the bytes before are dropped; one without a length can only flow.
"""

import asyncio
import re
from collections.abc import Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from os import fsencode
from urllib.parse import quote, unquote_to_bytes

from yarl import URL

from playhead.blob import Blob, Pieces, identity
from playhead.errors import Changed, Damaged, Malformed, NotFound, Unavailable, Unsized
from playhead.limits import Limits
from playhead.origins import described, index
from playhead.origins.fetch import Access, Answered, Client, bare, date, shown, translated
from playhead.origins.receive import received
from playhead.tree import Ask, Entries, Entry, Tree, segments

PATIENCE = 5.0  # seconds for which an answer waits for the stream that it was asked for
NEAR = 192 << 10  # bytes dropped from an answer rather than asking again
LONG = 4 << 20  # bytes of a body for which its socket is read by ourselves
LITTLE, SEVERAL = 64 << 10, 16  # bytes of an answer that ends early; how many such ones are followed
INDEX = 10_000_000  # bytes of an index page

_CONTENT_RANGE = re.compile(r"bytes\s+(\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.IGNORECASE)
_UNSATISFIED = re.compile(r"bytes\s+\*/(\d{1,18})", re.IGNORECASE)


@dataclass(slots=True, eq=False)
class _Answer:
    """A checked answer: the bytes [start, stop) of a file of `size` bytes, not read yet."""

    response: Answered
    start: int
    stop: int | None
    size: int | None
    validator: str | None
    expiry: asyncio.TimerHandle | None = None
    dropped: bool = False
    loop: asyncio.AbstractEventLoop = field(init=False)
    among: "set[_Answer]" = field(default_factory=set)

    def park(self, among: "set[_Answer]") -> None:
        """Wait for the stream that this answer was asked for; but not for ever, nor beyond the tree's end."""
        self.among = among
        among.add(self)
        self.loop = asyncio.get_running_loop()
        self.expiry = self.loop.call_later(PATIENCE, self.drop)

    def unwanted(self) -> None:
        """Drop it, from whatever thread."""
        with suppress(RuntimeError):  # the loop has ended, and its connections with it
            self.loop.call_soon_threadsafe(self.drop)

    def drop(self) -> None:
        """Nobody wants it any more."""
        if self.expiry:
            self.expiry.cancel()
        self.among.discard(self)
        self.dropped = True
        self.response.close()

    def take(self, start: int, stop: int | None) -> bool:
        """May a stream of [start, stop) go on with this answer? From then on it is that stream's."""
        if self.dropped or not self.start <= start <= self.start + NEAR:
            return False
        if self.stop is not None and (stop is None or stop > self.stop):
            return False
        if self.expiry:
            self.expiry.cancel()
        self.among.discard(self)
        return True

    def _left(self, at: int) -> int:
        return self.stop - at if self.stop is not None else 0

    def _long(self, at: int) -> bool:
        return self._left(at) >= LONG

    async def body(self, start: int, stop: int | None) -> Pieces:
        """The bytes [start, stop) from it (to its end where `stop` is None); then it is closed."""
        at = self.start
        check = described.Check.of(self.response.headers) if stop is None or stop == self.stop else None
        try:
            with translated(self.response.url):
                while stop is None or at < stop:
                    chunk = self.response.content.read_nowait() if self._long(at) else b""
                    if not chunk and self._long(at) and (own := self.response.taken_over()):
                        async with aclosing(received(own, self.response, at, stop or at + self._left(at))) as views:
                            async for view in views:
                                begin, at = at, at + len(view)
                                if check:
                                    check.update(view)
                                if at > start:
                                    yield view[max(0, start - begin) :] if begin < start else view
                        break
                    if not chunk:
                        chunk = await self.response.content.readany()
                    if not chunk:
                        if self.response.content.at_eof():
                            break
                        continue
                    self.response.came(len(chunk))
                    begin, at = at, at + len(chunk)
                    if check:
                        check.update(chunk)
                    if at <= start:
                        continue
                    if begin < start or (stop is not None and at > stop):
                        yield memoryview(chunk)[max(0, start - begin) : None if stop is None else stop - begin]
                    else:
                        yield chunk
            if stop is None and self.response.cut_off:
                raise Unavailable(f"{shown(self.response.url)} broke the connection off")
            if check and check.wrong():
                raise Damaged(f"{shown(self.response.url)} sends bytes that have not the digest that it tells of them")
            if stop is not None and at < stop:
                raise Unavailable(f"{shown(self.response.url)} ended {stop - at:,} bytes early")
        finally:
            self.response.close()  # a connection whose answer was read to its end is kept all the same


@dataclass(frozen=True, slots=True, eq=False)
class WebBlob(Blob):
    """A file behind HTTP as its first answer described it."""

    tree: "WebTree"
    path: str
    validator: str | None
    waiting: list[_Answer]  # none or one: the answer that opened this
    ranged: bool = True  # does the server answer with the range that is asked for?
    proposed: str | None = None  # the name that it says the file should have
    media: str | None = None  # its Content-Type
    digests: Mapping[str, bytes] = field(default_factory=dict)  # what it says of the bytes: algorithm -> digest

    async def stream(self, start: int, stop: int) -> Pieces:
        answer, little = self._waiting(start, stop) if start < stop else None, 0
        while start < stop:  # once, unless the server gives less than was asked for at a time
            answer = answer or await self.tree.ranged(self, start, stop)
            end = min(stop, answer.stop or stop)
            async with aclosing(answer.body(start, end)) as body:
                async for piece in body:
                    yield piece
            if end < stop and self.tag is None:  # nothing would tell whether the next answer is of the same version
                raise Unavailable(f"{shown(answer.response.url)} gives less than was asked for")
            little += end < stop and end - start < LITTLE
            if little > SEVERAL:
                raise Damaged(f"{shown(self.tree._url(self.path))} gives but a few bytes of what it is asked for")
            start, answer = end, None

    def __del__(self) -> None:
        if self.waiting:
            self.waiting[0].unwanted()

    def _waiting(self, start: int, stop: int) -> _Answer | None:
        if self.waiting and self.waiting[0].take(start, stop):
            return self.waiting.pop()
        return None


class WebTree(Tree):
    """The folder behind a URL that ends in "/", else a tree of the one file that the URL names."""

    def __init__(
        self, url: str, access: Access = Access(), limits: Limits | None = None, client: Client | None = None
    ) -> None:
        """`client`: one that another tree of the same server has; then that one's access and limits hold."""
        self.client = client or Client(url, access, limits)
        self.base = bare(url) if client else self.client.base
        self.single = None if self.base.raw_path.endswith("/") else _last(self.base)
        self.parked: set[_Answer] = set()
        self.flowing: dict[str, _Answer] = {}  # path -> an answer without a length, waiting for flow()

    # ── the tree ──

    async def entries(self, folder: str = "") -> Entries:
        if self.single is not None:
            if folder:
                raise NotFound(f"there is no folder {folder!r}")
            yield await self.find(self.single)
            return
        for entry in await self._index(self._url(folder, folder=True)):
            yield entry

    async def find(self, path: str) -> Entry:
        if path == "":
            return Entry("", folder=True)
        name = segments(path)[-1]
        try:
            answer = await self._ask(self._url(path), Ask(0, 0))
        except NotFound:
            if self.single is not None:
                raise
            await self._index(self._url(path, folder=True))
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
            self,
            path,
            answer.validator,
            [answer],
            ranged=status != 200,
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

    def _url(self, path: str, folder: bool = False) -> URL:
        names = segments(path)
        if self.single is not None:
            if names != [self.single]:
                raise NotFound(f"{path!r} is not here")
            return self.base
        quoted = "/".join(quote(fsencode(name), safe="!$&'()*+,;=:@~") for name in names)
        ending = "/" if folder and names else ""
        return URL(f"{self.base.origin()}{self.base.raw_path}{quoted}{ending}", encoded=True)

    def _folder(self, answer: _Answer) -> bool:
        folder = answer.response.url.raw_path.endswith("/")
        if folder and self.single is not None:
            answer.response.close()
            raise Malformed(f"{shown(self.base)} is a folder: end the URL with '/'")
        return folder

    async def _file(self, path: str, ask: Ask | None) -> _Answer:
        answer = await self._ask(self._url(path), ask)
        if self._folder(answer):
            answer.response.close()
            raise NotFound(f"{path!r} is a folder")
        return answer

    def _tag(self, path: str, answer: _Answer) -> str | None:
        """By a strong ETag; else by Last-Modified where that is strong (RFC 9110, 8.8.2.2); else none.

        Of the whole URL, so that a file is the same whichever folder above it the tree begins at.
        """
        headers, place = answer.response.headers, f"{self._url(path)} {self.client.access.fingerprint}"
        etag = headers.get("ETag", "")
        if etag.startswith('"'):
            return identity("v", place, etag)
        modified, now = date(headers.get("Last-Modified")), date(headers.get("Date")) or datetime.now(UTC)
        if modified and now - modified >= timedelta(seconds=60):
            return identity("m", place, headers["Last-Modified"], answer.size)
        return None

    # ── asking ──

    async def ranged(self, blob: WebBlob, start: int, stop: int) -> _Answer:
        """The answer for [start, stop) of a blob that is open. Raises Changed where it is of another version."""
        answer = await self._ask(self._url(blob.path), Ask(start, stop))
        if answer.size != blob.size or answer.validator != blob.validator:
            answer.response.close()
            raise Changed(f"{shown(answer.response.url)} is no longer the file that was opened")
        if answer.start > start or (answer.stop or stop) <= start:
            answer.response.close()
            raise Damaged(f"{shown(answer.response.url)} refuses a range that is in the file")
        return answer

    async def _ask(self, url: URL, ask: Ask | None) -> _Answer:
        """A checked answer to a GET of what is asked (None: without a range)."""
        wanted = _range_header(ask) if ask else None
        response = await self.client.get(url, {"Range": wanted} if wanted else {}, ask.why if ask else 0)
        try:
            if response.status == 416 and ask and (ask.start, ask.stop) != (0, 0):
                response.close()
                return await self._ask(url, Ask(0, 0, ask.why))
            return _checked(response, ask)
        except BaseException:
            response.close()
            raise

    async def _index(self, url: URL) -> list[Entry]:
        response = await self.client.get(url, {"Accept": "text/html"})
        try:
            if response.status != 200 or response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise Damaged(f"{shown(url)} does not send its index page whole and as it is")
            folder = response.url.raw_path.rpartition("/")[0] + "/"
            is_html = response.headers.get("Content-Type", "").startswith(("text/html", "application/xhtml"))
            if not is_html or unquote_to_bytes(folder) != unquote_to_bytes(url.raw_path):
                raise NotFound(f"{shown(url)} is not an index page")
            with translated(url):
                page = await _bounded(response)
            text = page.decode("utf-8", "surrogateescape")
            return await asyncio.to_thread(index.entries, text, f"{response.url.origin()}{folder}")
        finally:
            response.close()


# ── reading answers ──


def _range_header(ask: Ask) -> str:
    if ask.start is None:
        return f"bytes={ask.stop}"
    if ask.stop is None:
        return f"bytes={ask.start}-"
    return f"bytes={ask.start}-{max(ask.start, ask.stop - 1)}"


def _checked(response: Answered, ask: Ask | None) -> _Answer:
    """What an answer to `ask` holds. Raises Damaged where it cannot be what was asked for."""
    headers, name = response.headers, shown(response.url)
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Damaged(f"{name} sends the file encoded as {headers['Content-Encoding']!r}; its ranges mean nothing")
    if headers.get("Transfer-Encoding", "chunked").lower() not in ("chunked", "identity"):
        raise Damaged(f"{name} sends the file in a transfer encoding that nobody asked for")
    validator = _validator(headers)
    length = response.content_length if "Transfer-Encoding" not in headers else None
    if response.status == 416 and ask is not None:
        unsatisfied = _UNSATISFIED.fullmatch(headers.get("Content-Range", "").strip())
        if unsatisfied and unsatisfied[1] == "0":
            return _Answer(response, 0, 0, 0, validator)
        raise Damaged(f"{name} refuses the first byte of the file")
    if response.status == 200:
        return _Answer(response, 0, length, length, validator)
    ranged = headers.get("Content-Range", "").strip()
    if ranged == "bytes 0--1/0":  # how Go says that the file is empty
        return _Answer(response, 0, 0, 0, validator)
    match = _CONTENT_RANGE.fullmatch(ranged)
    if not match or ask is None or headers.get("Content-Type", "").lower().startswith("multipart/byteranges"):
        raise Damaged(f"{name} answers {response.status} without saying which bytes they are")
    start, stop = int(match[1]), int(match[2]) + 1
    size = None if match[3] == "*" else int(match[3])
    if size is None:
        return _unknown_total(response, start, validator)
    if stop > size or not _fits((start, stop), _expected(ask, size)) or (length is not None and length != stop - start):
        raise Damaged(f"{name} sends other bytes than were asked for ({headers['Content-Range']})")
    return _Answer(response, start, stop, size, validator)


def _unknown_total(response: Answered, start: int, validator: str | None) -> _Answer:
    if start:
        raise Unsized(f"{shown(response.url)} does not say how long it is")
    return _Answer(response, NEAR + 1, None, None, validator)  # not to be taken: flow() asks again, without a range


def _validator(headers: Mapping[str, str]) -> str | None:
    """What tells versions apart: a strong ETag, else all that there is."""
    etag, modified = headers.get("ETag", ""), headers.get("Last-Modified", "")
    return etag if etag.startswith('"') else f"{etag} {modified}".strip() or None


def _fits(sent: tuple[int, int], wanted: tuple[int, int]) -> bool:
    """May an answer hold these bytes: all of them, perhaps in whole blocks, or those at the beginning?"""
    return sent[0] <= wanted[0] and (sent[1] >= wanted[1] or (sent[0] == wanted[0] and sent[0] < sent[1]))


def _expected(ask: Ask, size: int) -> tuple[int, int]:
    if ask.start is None:
        return max(0, size + (ask.stop or 0)), size
    stop = size if ask.stop is None else max(ask.stop, ask.start + 1)
    return ask.start, min(stop, size)


async def _bounded(response: Answered) -> bytes:
    page = bytearray()
    async for chunk in response.content.iter_any():
        response.came(len(chunk))
        page += chunk
        if len(page) > INDEX:
            raise Damaged(f"{shown(response.url)}: the index page is larger than {INDEX // 1_000_000} MB")
    return bytes(page)


def _last(url: URL) -> str:
    """The last segment of a URL, as a name that a folder can have."""
    name = unquote_to_bytes(url.raw_path.rpartition("/")[2]).decode("utf-8", "surrogateescape")
    name = name.replace("/", "\uff0f").replace("\0", "")
    return name if name not in ("", ".", "..") else url.host or "file"
