"""A bucket: where it is, who asks, and what it tells of its objects; what the services behind it have in common.

An object is a key and its bytes; folders are what keys have in common up to a "/". How a service is asked is its own
affair (`s3`, `obstored`); what names and tags come of it is `objects`'.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from playhead.blob import Blob, FileSpan, pieces
from playhead.errors import Busy, Changed, Damaged, Denied, Failure, Full, Malformed, NotFound, Unavailable, Unknown
from playhead.origins.remote import Traffic
from playhead.tree import Ask

SMALL = 8 << 20  # bytes of an object that is sent by one request
READ = 1 << 20  # bytes read from a file at a time
EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")

_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket and who asks for it. Without `key` and `secret`, and not `anonymous`, what the machine has is used.

    `kind` is "s3", "gcs" or "azure". `endpoint` is the service's URL without the bucket; `path_style` says whether the
    bucket stands in the path or in the host's name. `key` and `secret` are S3's; Azure's account key is `secret` (with
    `account`), or `token` is a SAS token; `credentials` is a GCS service account, as JSON or a path to it, and `token`
    an OAuth one. `ca` is a PEM file, `proxy` an http or socks URL.
    """

    kind: str
    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    key: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    anonymous: bool = False
    account: str | None = None
    credentials: str | None = field(default=None, repr=False)
    proxy: str | None = field(default=None, repr=False)
    ca: str | None = None
    path_style: bool = True

    def __post_init__(self) -> None:
        if self.kind not in ("s3", "gcs", "azure"):
            raise Malformed(f"{self.kind!r} is no kind of bucket: s3, gcs, azure")
        if not re.fullmatch(r"[A-Za-z0-9$][A-Za-z0-9._$-]{0,254}", self.bucket):
            raise Malformed(f"{self.bucket!r} cannot be the name of a bucket")
        if bool(self.key) != bool(self.secret) and self.kind == "s3":
            raise Malformed(f"the bucket {self.bucket!r} needs both `access_key` and `secret_key`, or neither")

    @property
    def where(self) -> str:
        """What names the bucket, and tells it from all others."""
        return f"{self.kind} {(self.endpoint or self.account or '').rstrip('/')} {self.bucket}"


@dataclass(frozen=True, slots=True)
class Found:
    """What a service tells of an object. `etag` as it was given; `version` where the service counts those.

    `md5` only where it is known to be that of the bytes, in hexadecimal.
    """

    key: str
    size: int
    modified: datetime | None
    etag: str | None
    version: str | None = None
    md5: str | None = None

    @property
    def validator(self) -> str | None:
        """What changes with the bytes; None where a service has but a weak one."""
        return None if not self.etag or self.etag.startswith("W/") else self.etag.strip('"')


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing: objects, and the folders' names without what is before them and without their "/"."""

    files: list[Found]
    folders: list[str]


class Bucket(Protocol):
    """How a bucket is asked. All raise our errors; `priority` is the place among those that wait for a request."""

    @property
    def traffic(self) -> Traffic: ...

    def pages(self, prefix: str, most: int = 1000) -> AsyncGenerator[Page, None]:
        """What begins with a prefix, up to the next "/", `most` at a time. NotFound: there is no such bucket."""

    async def head(self, key: str, priority: int = 0) -> Found: ...

    async def open(self, key: str, ask: Ask, tag: Callable[[Found], str | None]) -> Blob: ...

    async def put(
        self, key: str, blob: Blob, there: Found | None, state: str | None, keep: Callable[[str], None]
    ) -> Found:
        """Write a blob in place of what is `there` and of nothing else. Raises Changed."""

    async def copy(self, key: str, to: str) -> Found | None:
        """Also at `to`, where nothing is; None: it cannot do that."""

    async def aclose(self) -> None: ...


# ── what they say when they refuse ──


class Unsupported(Malformed):
    """The service does not know what it was asked for."""


class UploadGone(Unavailable):
    """The service no longer knows an upload: it has to begin again."""


_CODES: dict[str, tuple[type[Failure], str]] = {
    "NoSuchBucket": (NotFound, "there is no such bucket"),
    "NoSuchKey": (NotFound, "there is no such object"),
    "InvalidAccessKeyId": (Unknown, "the service does not know `access_key`"),
    "SignatureDoesNotMatch": (Unknown, "`secret_key` does not fit `access_key`"),
    "ExpiredToken": (Denied, "`token` has expired"),
    "InvalidToken": (Denied, "`token` is not valid"),
    "RequestTimeTooSkewed": (Denied, "this machine's clock differs too much from the service's"),
    "PermanentRedirect": (Malformed, "the bucket is in another region; see `region` and `endpoint`"),
    "AuthorizationHeaderMalformed": (Malformed, "the bucket is in another region; see `region`"),
    "IllegalLocationConstraintException": (Malformed, "the bucket is in another region; see `region`"),
    "BadDigest": (Damaged, "other bytes arrived than were sent"),
    "XAmzContentSHA256Mismatch": (Damaged, "other bytes arrived than were sent"),
    "KeyTooLongError": (Malformed, "the name is longer than the service takes"),
    "InvalidObjectState": (Denied, "the object is archived, and has to be restored before it can be read"),
    "QuotaExceeded": (Full, "there is no room left"),
    "RequestTimeout": (Unavailable, "the service waited for us in vain"),
    "ConditionalRequestConflict": (Unavailable, "somebody else is writing it"),
    "OperationAborted": (Unavailable, "somebody else is writing it"),
    "NoSuchUpload": (UploadGone, "the service has forgotten the upload"),
    "NotImplemented": (Unsupported, "the service cannot do this"),
    "SlowDown": (Busy, "the service says that there were too many requests"),
}
_STATUSES: dict[int, tuple[type[Failure], str]] = {
    301: _CODES["PermanentRedirect"],
    307: _CODES["PermanentRedirect"],
    401: (Unknown, "the service wants other credentials; see `access_key`, `secret_key` and `token`"),
    403: (Denied, "the service refuses it to these credentials; see `access_key`, `secret_key` and `token`"),
    404: _CODES["NoSuchKey"],
    407: (Unavailable, "the proxy wants credentials"),
    408: _CODES["RequestTimeout"],
    409: _CODES["OperationAborted"],
    410: _CODES["NoSuchKey"],
    412: (Changed, "it is not the version that was meant"),
    416: (Damaged, "the service refuses a range that is in the object"),
    429: _CODES["SlowDown"],
    501: _CODES["NotImplemented"],
    507: _CODES["QuotaExceeded"],
}


def refused(name: str, status: int, code: str = "", *, after: float | None = None) -> Failure:
    """What a status and S3's code of an error mean for what is called `name`."""
    kind, what = _CODES.get(code) or _STATUSES.get(status) or _other(status, code)
    if status == 400 and not code:  # to a HEAD, which cannot say more
        kind, what = Denied, "the service refuses the request; see `region`, `access_key`, `secret_key` and `token`"
    if kind in (Denied, Unknown) and code in _CODES and "`" in what:
        what += "; see `access_key`, `secret_key` and `token`"
    return kind(f"{name}: {what}", after=after)


def _other(status: int, code: str) -> tuple[type[Failure], str]:
    said = f"{status} {code}" if re.fullmatch(r"[A-Za-z0-9]{1,60}", code) else str(status)
    return Unavailable if status >= 500 else Damaged, f"the service answers {said}"


# ── times, digests, bytes ──


def seconds(when: datetime) -> str:
    """A time as rclone writes it into an object's metadata: decimal seconds since 1970."""
    micros = (when - EPOCH) // timedelta(microseconds=1)
    whole, rest = divmod(abs(micros), 1_000_000)
    return f"{'-' * (micros < 0)}{whole}.{rest:06d}".rstrip("0").rstrip(".")


def plain_md5(etag: str | None) -> str | None:
    """An ETag that looks like an MD5."""
    text = (etag or "").strip('"').lower()
    return text if _MD5.fullmatch(text) else None


async def in_parts(blob: Blob, start: int, stop: int, size: int) -> AsyncGenerator[bytes, None]:
    """The bytes [start, stop) of a blob, read in order, in parts of a size; the last may be shorter."""
    part, got = bytearray(), 0
    async with aclosing(chunks(blob, start, stop)) as stream:
        async for piece in stream:
            got, at = got + len(piece), 0
            while at < len(piece):
                take = min(len(piece) - at, size - len(part))
                part += memoryview(piece)[at : at + take]
                at += take
                if len(part) == size:
                    yield bytes(part)
                    part.clear()
    if got != stop - start:
        raise Damaged(f"what was to be sent has {got:,} bytes instead of {stop - start:,}")
    if part:
        yield bytes(part)


async def chunks(blob: Blob, start: int, stop: int) -> AsyncGenerator[bytes | memoryview, None]:
    """The bytes [start, stop) of a blob in memory: what are spans of files is read a little at a time."""
    async with aclosing(pieces(blob, start, stop)) as stream:
        async for piece in stream:
            if not isinstance(piece, FileSpan):
                yield piece
                continue
            for at in range(0, piece.length, READ):
                yield await asyncio.to_thread(piece.pread, at, min(piece.length, at + READ))
