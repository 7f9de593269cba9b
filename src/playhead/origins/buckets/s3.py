"""Nothing -> objects of a bucket behind S3's protocol, by requests that we sign ourselves.

Opening is one ranged GET, never a HEAD first; each further range is asked for with If-Match, and checked (`ranged`).
Objects are bytes as they are stored, whatever their Content-Encoding says. A server's listing is taken with its names
quoted, as some names cannot stand in XML. Writing is `multipart`'s.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast
from urllib.parse import unquote_plus
from xml.etree.ElementTree import Element

from yarl import URL

from playhead.blob import Blob
from playhead.errors import Changed, Damaged, NotFound, Unsized
from playhead.origins.buckets import multipart, sigv4
from playhead.origins.buckets.bucket import Found, Page
from playhead.origins.buckets.s3api import Api, all_of, found, text_of
from playhead.origins.fetch import Answered
from playhead.origins.ranged import Answer, RangedBlob, checked, range_header
from playhead.tree import Ask, Why

PAGE = 1000  # names of a listing at a time: S3 gives no more
LARGEST_COPY = 5 << 30  # bytes that one request copies
COPYING = 600.0  # seconds that copying may be silent for


@dataclass(frozen=True, slots=True)
class _Stored:
    """An answer without what its headers say of the encoding: ranges are of the bytes that are stored."""

    headers: Mapping[str, str]
    url: URL
    status: int
    content_length: int | None


@dataclass(frozen=True, slots=True, eq=False)
class ObjectBlob(RangedBlob):
    """An object as its first answer described it."""

    service: "S3" = field(kw_only=True)
    key: str = field(kw_only=True)
    why: Why = field(kw_only=True)

    async def again(self, ask: Ask) -> Answer:
        validator = self.validator or ""
        condition = {"If-Match": validator} if validator.startswith('"') else {}
        return await self.service.get(self.key, Ask(ask.start, ask.stop, self.why), condition)


class S3:
    """A bucket, asked by signed requests."""

    def __init__(self, api: Api) -> None:
        self.api, self.traffic = api, api.client
        self.parked: set[Answer] = set()
        self.conditional = True

    async def aclose(self) -> None:
        for answer in list(self.parked):
            answer.drop()
        await self.api.client.aclose()

    # ── reading ──

    async def pages(self, prefix: str, most: int = PAGE) -> AsyncGenerator[Page, None]:
        query = {"list-type": "2", "delimiter": "/", "encoding-type": "url", "prefix": prefix, "max-keys": str(most)}
        while True:
            root = await self.api.xml("GET", "", query)
            yield _page(root, prefix, self.api.bucket)
            if text_of(root, "IsTruncated").strip() != "true":
                return
            token = text_of(root, "NextContinuationToken")
            if not token or token == query.get("continuation-token"):
                raise Damaged(f"{self.api.bucket}: a listing goes on without saying where")
            query["continuation-token"] = token

    async def head(self, key: str, priority: int = 0) -> Found:
        response = await self.api.answer("HEAD", key, priority=priority, statuses=(200,))
        response.close()
        length = response.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or len(length) > 18:
            raise Damaged(f"{self.api.named(key)}: the service does not say how long it is")
        return found(key, response.headers, int(length))

    async def get(self, key: str, ask: Ask, condition: Mapping[str, str]) -> Answer:
        """The checked answer for what is asked of an object. Raises Changed where the condition does not hold."""
        headers = {"Range": range_header(ask), **condition}
        response = await self.api.answer("GET", key, None, headers, priority=ask.why, statuses=(200, 206, 416))
        try:
            if response.status == 416:
                raise _Unsatisfied(f"{self.api.named(key)}: the service refuses a range that is in the object")
            return _checked(response, ask)
        except BaseException:
            response.close()
            raise

    async def open(self, key: str, ask: Ask, tag: Callable[[Found], str | None]) -> Blob:
        try:
            answer = await self.get(key, ask, {})
        except _Unsatisfied:
            return await self._unsatisfied(key, ask, tag)
        if answer.size is None:
            answer.response.close()
            raise Unsized(f"{self.api.named(key)}: the service does not say how long it is")
        answer.park(self.parked)
        known = found(key, answer.response.headers, answer.size)
        return self._blob(known, answer.validator, ask, tag, [answer])

    async def _unsatisfied(self, key: str, ask: Ask, tag: Callable[[Found], str | None]) -> Blob:
        """An object that is empty, or shorter than the reader thought."""
        known = await self.head(key, ask.why)
        if not known.size:
            return self._blob(known, known.etag, ask, tag, [])
        if (ask.start, ask.stop) == (0, 0):
            raise Damaged(f"{self.api.named(key)}: the service refuses the first byte of the object")
        return await self.open(key, Ask(0, 0, ask.why), tag)

    def _blob(
        self, known: Found, validator: str | None, ask: Ask, tag: Callable[[Found], str | None], waiting: list[Answer]
    ) -> Blob:
        return ObjectBlob(
            known.size,
            tag(known),
            validator,
            waiting,
            service=self,
            key=known.key,
            why=ask.why,
            modified=known.modified,
        )

    # ── writing ──

    async def put(
        self, key: str, blob: Blob, there: Found | None, state: str | None, keep: Callable[[str], None]
    ) -> Found:
        return await multipart.put(self, key, blob, there, state, keep)

    async def copy(self, key: str, to: str) -> Found | None:
        known = await self.head(key)
        if known.size > LARGEST_COPY:
            return None
        try:
            await self.head(to)
        except NotFound:
            pass
        else:
            raise Changed(f"{self.api.named(to)} is there already")
        source = {"x-amz-copy-source": sigv4.spelled(f"/{self.api.place.bucket}/{key}")}
        if known.etag:
            source["x-amz-copy-source-if-match"] = known.etag
        await self.api.xml("PUT", to, {}, source, patience=COPYING)
        copied = await self.head(to)
        if copied.size != known.size:
            raise Damaged(f"{self.api.named(to)} has {copied.size:,} bytes; what it is a copy of has {known.size:,}")
        return copied


class _Unsatisfied(Damaged):
    """The service refuses a range."""


def _checked(response: Answered, ask: Ask) -> Answer:
    headers, status = response.headers.copy(), response.status
    headers.popall("Content-Encoding", None)
    if status == 200 and "Content-Range" in headers:  # so does rclone's server, and the range is what was asked for
        status = 206
    stored = _Stored(headers, response.url, status, response.content_length)
    answer = checked(cast(Answered, stored), ask)
    answer.response = response
    return answer


# ── listings ──


def _page(root: Element, prefix: str, bucket: str) -> Page:
    def plain(text: str) -> str:
        return unquote_plus(text, errors="strict") if quoted else text

    quoted = text_of(root, "EncodingType").strip() == "url"
    try:
        files = [_object(item, plain(text_of(item, "Key"))) for item in all_of(root, "Contents")]
        folders = [plain(text_of(item, "Prefix")) for item in all_of(root, "CommonPrefixes")]
    except ValueError as error:
        raise Damaged(f"{bucket}: the service lists what cannot be read") from error
    if not all(key.startswith(prefix) for key in [*(file.key for file in files), *folders]):
        raise Damaged(f"{bucket}: the service lists other names than it was asked for")
    return Page(files, [name.removeprefix(prefix).removesuffix("/") for name in folders])


def _object(item: Element, key: str) -> Found:
    size, etag = text_of(item, "Size").strip(), text_of(item, "ETag").strip()
    if not size.isascii() or not size.isdigit() or len(size) > 18:
        raise ValueError("a size is not a number")
    return Found(key, int(size), _when(text_of(item, "LastModified")), etag or None)


def _when(text: str) -> datetime | None:
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
