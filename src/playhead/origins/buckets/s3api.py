"""One request to S3: signed, within the limits, its errors as ours, its XML read within bounds.

The client is `fetch`'s, so proxies, certificates, time-outs and figures are as for every other origin. A body that
is sent is in memory, for its digests go before it; it leaves in small chunks, so that a server that stops reading is
found.
"""

import asyncio
import os
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import md5, sha256
from typing import NoReturn
from xml.etree import ElementTree

from yarl import URL

from playhead.blob import Blob, Piece, Pieces
from playhead.errors import Damaged, Failure, Unavailable
from playhead.limits import Limits
from playhead.origins.addresses import parsed
from playhead.origins.body import Body
from playhead.origins.buckets import sigv4
from playhead.origins.buckets.bucket import Found, Place, plain_md5, refused
from playhead.origins.fetch import Access, Answered, Client, date, retry_after, translated
from playhead.tree import visible

XML = 16 << 20  # bytes of an answer in XML
REFUSAL = 64 << 10  # bytes of one that says why not
LEAVING = 128 << 10  # bytes that leave at a time

_ENCRYPTED_OTHERWISE = re.compile(r"aws:kms.*", re.IGNORECASE)
_CODE = re.compile(rb"<Code>([A-Za-z0-9]{1,60})</Code>")


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes to be sent, and their digests."""

    bytes: bytes
    md5: str
    sha256: str

    @property
    def headers(self) -> dict[str, str]:
        """By which the service can tell whether the same bytes came."""
        return {"Content-MD5": b64encode(bytes.fromhex(self.md5)).decode()}


NOTHING = Data(b"", md5(b"", usedforsecurity=False).hexdigest(), sigv4.EMPTY)


async def digested(data: bytes) -> Data:
    """Bytes with their digests, made in a thread."""
    return await asyncio.to_thread(
        lambda: Data(data, md5(data, usedforsecurity=False).hexdigest(), sha256(data).hexdigest())
    )


def signing(place: Place) -> sigv4.Signing | None:
    """The keys of a place, or of the environment; None: there are none."""
    region = place.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    key, secret, token = place.key, place.secret, place.token
    if not key and not place.anonymous:
        key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
        token = os.environ.get("AWS_SESSION_TOKEN")
    return sigv4.Signing(key, secret, region, token) if key and secret else None


def address(place: Place, region: str) -> URL:
    """The URL of a bucket, ending in "/". Raises Malformed."""
    china = ".cn" * region.startswith("cn-")
    url = parsed(place.endpoint or f"https://s3.{region}.amazonaws.com{china}").with_query(None)
    path = url.raw_path.rstrip("/")
    if place.path_style:
        return url.with_path(f"{path}/{place.bucket}/", encoded=True)
    return url.with_host(f"{place.bucket}.{url.host}").with_path(f"{path}/", encoded=True)


class Api:
    """Requests to one bucket, signed `by` somebody, or by nobody."""

    def __init__(self, place: Place, by: sigv4.Signing | None, limits: Limits | None = None) -> None:
        self.place, self.by = place, by
        self.base = address(place, by.region if by else place.region or "us-east-1")
        self.client = Client(str(self.base), Access(proxy=place.proxy, ca=place.ca), limits)
        self.bucket = f"{place.kind}:{place.bucket}"

    async def answer(
        self,
        method: str,
        key: str = "",
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        data: Data | None = None,
        *,
        priority: int = 0,
        patience: float | None = None,
        statuses: Sequence[int] = (200, 204, 206),
    ) -> Answered:
        """The answer to a request, which is to be closed; its status one of `statuses`, or why not is raised."""
        path, asked = self.base.raw_path + sigv4.spelled(key), sigv4.asked(query or {})
        url = URL.build(
            scheme=self.base.scheme, authority=self.base.authority, path=path, query_string=asked, encoded=True
        )
        headers = dict(headers or {})
        if self.by:
            host, digest, now = url.host_port_subcomponent or "", (data or NOTHING).sha256, datetime.now(UTC)
            headers = sigv4.signed(self.by, method, host, path, asked, headers, digest, now)
        body = Body(_Held(len(data.bytes), None, data.bytes), 0, len(data.bytes)) if data else None
        response = await self.client.answered(method, url, headers, body, priority=priority, patience=patience)
        if response.status in statuses:
            return response
        await self._refuse(response, self.named(key))

    def named(self, key: str) -> str:
        """What is asked for, as it is called in messages."""
        return f"{self.bucket}/{visible(key)}" if key else self.bucket

    async def _refuse(self, response: Answered, name: str) -> NoReturn:
        try:
            said = await read(response, REFUSAL)
        except Failure:
            said = b""
        code = _CODE.search(said)
        after = retry_after(response.headers.get("Retry-After"))
        raise refused(name, response.status, code[1].decode() if code else "", after=after)

    async def xml(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str] | None = None,
        data: Data | None = None,
        *,
        priority: int = 0,
        patience: float | None = None,
    ) -> ElementTree.Element:
        """The answer to a request whose answer is XML. One that says "200" and then an error is an error."""
        response = await self.answer(method, key, query, headers, data, priority=priority, patience=patience)
        text = await read(response, XML)
        root = await asyncio.to_thread(_parsed, text, self.named(key))
        if _bare(root.tag) == "Error":
            raise refused(self.named(key), 500, text_of(root, "Code"))
        return root

    async def done(self, method: str, key: str, *, statuses: Sequence[int] = (200, 204), **how: object) -> Answered:
        """The answer to a request whose answer has no body that matters; it is closed."""
        response = await self.answer(method, key, statuses=statuses, **how)  # type: ignore[arg-type]
        await read(response, REFUSAL)
        return response


@dataclass(frozen=True, slots=True, eq=False)
class _Held(Blob):
    """Bytes in memory that leave in chunks."""

    data: bytes = field(repr=False)

    async def stream(self, start: int, stop: int) -> Pieces:
        for at in range(start, stop, LEAVING):
            yield memoryview(self.data)[at : min(at + LEAVING, stop)]

    def here(self, start: int, stop: int) -> Sequence[Piece] | None:
        return None


async def read(response: Answered, most: int) -> bytes:
    """The body of an answer, which is closed. Raises Damaged where it is longer than `most`."""
    got = bytearray()
    try:
        with translated(response.url):
            async for chunk in response.content.iter_any():
                response.came(len(chunk))
                got += chunk
                if len(got) > most:
                    raise Damaged(f"{response.url.host}: an answer is longer than {most:,} bytes")
        if response.cut_off:
            raise Unavailable(f"{response.url.host} broke the connection off")
        return bytes(got)
    finally:
        response.close()


def found(key: str, headers: Mapping[str, str], size: int) -> Found:
    """What the headers of an answer tell of an object."""
    kms = _ENCRYPTED_OTHERWISE.fullmatch(headers.get("x-amz-server-side-encryption", ""))
    otherwise = kms or "x-amz-server-side-encryption-customer-algorithm" in headers
    return Found(
        key,
        size,
        date(headers.get("Last-Modified")),
        headers.get("ETag"),
        md5=_noted(headers.get("x-amz-meta-md5chksum", "")) or (None if otherwise else plain_md5(headers.get("ETag"))),
    )


def _noted(text: str) -> str | None:
    """The MD5 that rclone, and we, note beside what is written in parts."""
    try:
        return plain_md5(b64decode(text, validate=True).hex())
    except ValueError:
        return None


# ── XML ──


def _parsed(text: bytes, name: str) -> ElementTree.Element:
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise Damaged(f"{name}: the service answers with XML that defines entities")
    try:
        return ElementTree.fromstring(text.strip())
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise Damaged(f"{name}: the service answers with what is no XML") from error


def _bare(tag: str) -> str:
    return tag.rpartition("}")[2]


def all_of(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    """The children of an element that have a name, in whatever namespace."""
    return [child for child in root if _bare(child.tag) == name]


def text_of(root: ElementTree.Element, name: str) -> str:
    """The text of the first child that has a name; "" where there is none."""
    return next((child.text or "" for child in all_of(root, name)), "")
