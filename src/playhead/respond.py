"""HTTP, without I/O: (request, blob, about) -> response. Conditions and ranges as RFC 9110 orders them.

The body of a response is itself a blob: one range is a cut, several are a concat of literals and cuts,
and Content-Length is its size. So whoever sends a response knows nothing of ranges. Offsets are half-open
inside; inclusive ends exist only where the text of a header is read or written.

    method -> If-Match, If-Unmodified-Since -> If-None-Match, If-Modified-Since -> If-Range, Range -> body
      405            412                                  304                       206, 416        200
"""

import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from functools import lru_cache
from hashlib import blake2b
from urllib.parse import quote

from playhead.blob import Blob, Pieces, concat, literal
from playhead.tree import Ask, visible

# More ranges than this are answered with the whole (nginx and Apache cap them too; a player asks for one).
MAX_RANGES = 64
FILES = "private, no-cache"  # may be kept by the asker's own browser, and asked about before each use
HASHED = "public, max-age=31536000, immutable"  # for URLs that hold a hash of what they give
ERRORS = "no-store"


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked. `headers` by lower-case name; `at` is when, for the strength of dates."""

    method: str
    headers: Mapping[str, str]
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class About:
    """What a blob's bytes do not say: its name, media type, last modification and how it may be cached."""

    name: str = ""
    type: str = "application/octet-stream"
    modified: datetime | None = None
    attachment: bool = False
    cache: str = FILES


@dataclass(frozen=True, slots=True)
class Flow:
    """A body of unknown size: its pieces from start to end."""

    pieces: Pieces


_EMPTY = literal(b"")


@dataclass(frozen=True, slots=True)
class Response:
    """What to answer. HEAD and 304 carry the headers of the body that they leave out."""

    status: int
    headers: list[tuple[str, str]]
    body: Blob | Flow = _EMPTY


_ONE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{0,18})")
_SPEC = re.compile(r"([0-9]*)-([0-9]*)")


class _Unsatisfiable(Exception):
    """A Range header that must be answered with 416."""


def asked(request: Request) -> Ask:
    """What the Range header is about to ask for, told before anything is opened (the first of several ranges)."""
    if request.method == "HEAD":
        return Ask(0, 0)
    text = request.headers.get("range")
    if text is None:
        return Ask()
    try:
        specs = _parse(text)
    except _Unsatisfiable:
        return Ask(0, 0)
    if not specs:
        return Ask()
    first, last = specs[0]
    if first is None:
        return Ask(None, -last) if last else Ask(0, 0)
    return Ask(first, last)


def respond(request: Request, blob: Blob, about: About) -> Response:
    """Answer a GET or HEAD for a blob (RFC 9110, sections 13 to 15)."""
    if request.method not in ("GET", "HEAD"):
        return refusal(405, "only GET and HEAD are possible here", [("Allow", "GET, HEAD")])
    etag = f'"{wire_tag(blob.tag)}"' if blob.tag else None
    modified = about.modified and _whole_seconds(about.modified)
    if modified and modified > (request.at or datetime.now(UTC)):
        modified = None  # a clock is wrong; a date in the future must not be sent (8.8.2.1)
    validators = [("Cache-Control", about.cache)]
    if etag:
        validators.append(("ETag", etag))
    if modified:
        validators.append(("Last-Modified", _http_date(modified)))

    if status := _precondition(request, etag, modified):
        if status == 304:
            return Response(304, validators)
        return refusal(412, "the file is not the one that the condition names")

    headers = [
        *validators,
        ("Accept-Ranges", "bytes"),
        ("Content-Disposition", disposition(about.name, about.attachment)),
        ("X-Content-Type-Options", "nosniff"),
    ]
    try:
        ranges = _ranges(request, blob.size, etag, modified)
    except _Unsatisfiable:
        extra = [("Content-Range", f"bytes */{blob.size}"), ("Accept-Ranges", "bytes")]
        return refusal(416, f"the file has {blob.size} bytes; the range asked for is not in it", extra)
    if not ranges:
        return _sized(200, [("Content-Type", about.type), *headers], blob)
    if len(ranges) == 1:
        start, stop = ranges[0]
        part = ("Content-Range", _content_range(start, stop, blob.size))
        return _sized(206, [("Content-Type", about.type), part, *headers], blob[start:stop])
    return _multipart(blob, about.type, ranges, headers)


def flowing(request: Request, pieces: Pieces, about: About) -> Response:
    """Answer a GET or HEAD for what has no size: from start to end, without ranges or validators."""
    return Response(
        200,
        [
            ("Content-Type", about.type),
            ("Cache-Control", about.cache),
            ("Accept-Ranges", "none"),
            ("Content-Disposition", disposition(about.name, about.attachment)),
            ("X-Content-Type-Options", "nosniff"),
        ],
        Flow(pieces),
    )


def refusal(status: int, line: str, headers: list[tuple[str, str]] | None = None) -> Response:
    """An error as one line of plain text."""
    body = literal((line + "\n").encode("utf-8", "replace"))
    kept = [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", ERRORS)]
    return _sized(status, [*kept, ("X-Content-Type-Options", "nosniff"), *(headers or [])], body)


def _sized(status: int, headers: list[tuple[str, str]], body: Blob) -> Response:
    return Response(status, [*headers, ("Content-Length", str(body.size))], body)


# ── conditions, in the order of RFC 9110 section 13.2.2 ──


@lru_cache(maxsize=4096)
def wire_tag(tag: str) -> str:
    """A blob's tag as the inside of an ETag: short, and telling nothing of where the blob is kept."""
    digest = blake2b(tag.encode("utf-8", "surrogateescape"), digest_size=16).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def _precondition(request: Request, etag: str | None, modified: datetime | None) -> int:
    """412 or 304 where a condition says so, else 0."""
    headers = request.headers
    if (wanted := headers.get("if-match")) is not None:
        if wanted.strip() != "*" and etag not in _etags(wanted):
            return 412
    elif modified and (since := _date(headers.get("if-unmodified-since"))) and modified > since:
        return 412
    if (known := headers.get("if-none-match")) is not None:
        weak = [tag.removeprefix("W/") for tag in _etags(known)]
        return 304 if known.strip() == "*" or (etag and etag in weak) else 0
    if modified and (since := _date(headers.get("if-modified-since"))) and modified <= since:
        return 304
    return 0


@lru_cache(maxsize=4096)
def _whole_seconds(when: datetime) -> datetime:
    return when.astimezone(UTC).replace(microsecond=0)


@lru_cache(maxsize=4096)
def _http_date(when: datetime) -> str:
    return format_datetime(when, usegmt=True)


def _etags(text: str) -> list[str]:
    return [tag.strip() for tag in text.split(",")]


def _date(text: str | None) -> datetime | None:
    """An HTTP date; None where it is not one (then the condition is ignored, as the RFC asks)."""
    if text is None:
        return None
    try:
        when = parsedate_to_datetime(text)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def _range_applies(request: Request, etag: str | None, modified: datetime | None) -> bool:
    """If-Range (13.1.5): a strong tag, or an exact date that is itself strong (8.8.2.2)."""
    wanted = request.headers.get("if-range")
    if wanted is None:
        return True
    wanted = wanted.strip()
    if '"' in wanted[:3]:
        return etag is not None and wanted == etag
    now = request.at or datetime.now(UTC)
    return modified is not None and _date(wanted) == modified and now - modified >= timedelta(seconds=60)


# ── ranges, section 14 ──


def _ranges(request: Request, size: int, etag: str | None, modified: datetime | None) -> list[tuple[int, int]]:
    """The half-open ranges to give, in the order asked, overlapping ones merged; none: give the whole."""
    text = request.headers.get("range")
    if text is None or request.method != "GET" or not _range_applies(request, etag, modified):
        return []
    specs = _parse(text)
    if not specs or size == 0 or len(specs) > MAX_RANGES:
        return []
    ranges = [found for spec in specs if (found := _satisfy(spec, size))]
    if not ranges:
        raise _Unsatisfiable
    if len(ranges) == 1:
        return ranges
    if sum(stop - start for start, stop in ranges) > size:
        return []
    return _merge(ranges)


@lru_cache(maxsize=256)
def _parse(text: str) -> list[tuple[int | None, int | None]]:
    """`bytes=2-4,9-,-5` as [(2, 5), (9, None), (None, 5)]; empty for another unit, which is ignored.

    Raises _Unsatisfiable where any of them is malformed.
    """
    if one := _ONE.fullmatch(text):  # what nearly everybody asks
        start, last = int(one[1]), one[2]
        if not last or int(last) >= start:
            return [(start, int(last) + 1 if last else None)]
    unit, equals, rest = text.strip().partition("=")
    if unit.lower() != "bytes" or not equals:
        return []
    specs = [_spec(item.strip(" \t")) for item in rest.split(",") if item.strip(" \t")]
    if not specs:
        raise _Unsatisfiable
    return specs


def _spec(text: str) -> tuple[int | None, int | None]:
    match = _SPEC.fullmatch(text)
    if match is None or text == "-":
        raise _Unsatisfiable
    first, last = match.groups()
    if not first:
        return None, _number(last)
    if not last:
        return _number(first), None
    start, stop = _number(first), _number(last) + 1
    if stop <= start:
        raise _Unsatisfiable
    return start, stop


def _number(text: str) -> int:
    """A decimal of any length; beyond all files it need not be exact (and int() refuses 4,300 digits)."""
    if len(text) > 18:
        text = text.lstrip("0")
        return int(text or "0") if len(text) <= 18 else 10**18
    return int(text)


def _satisfy(spec: tuple[int | None, int | None], size: int) -> tuple[int, int] | None:
    first, last = spec
    if first is None:
        return (max(0, size - last), size) if last else None
    return (first, min(size, size if last is None else last)) if first < size else None


def _merge(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Overlapping ranges become one, standing where the first of them stood."""
    merged: list[tuple[int, int]] = []
    for start, stop in ranges:
        touched = [(a, b) for a, b in merged if a < stop and start < b]
        if not touched:
            merged.append((start, stop))
            continue
        whole = min(start, *(a for a, _ in touched)), max(stop, *(b for _, b in touched))
        merged = [whole if span == touched[0] else span for span in merged if span not in touched[1:]]
    return merged


def _content_range(start: int, stop: int, size: int) -> str:
    return f"bytes {start}-{stop - 1}/{size}"


def _multipart(blob: Blob, kind: str, ranges: list[tuple[int, int]], headers: list[tuple[str, str]]) -> Response:
    """multipart/byteranges (14.6). The boundary follows from the tag and the ranges: equal requests, equal bytes."""
    boundary = blake2b(
        f"{blob.tag} {blob.size} {ranges}".encode("utf-8", "surrogateescape"), digest_size=16
    ).hexdigest()
    parts: list[Blob] = []
    for start, stop in ranges:
        shown = _content_range(start, stop, blob.size)
        head = f"\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {shown}\r\n\r\n"
        parts += [literal(head.encode("latin-1"), tag=None), blob[start:stop]]
    parts.append(literal(f"\r\n--{boundary}--\r\n".encode("ascii"), tag=None))
    return _sized(206, [("Content-Type", f"multipart/byteranges; boundary={boundary}"), *headers], concat(parts))


# ── names ──

_UNSAFE = {ord(char): "_" for char in '/\\"%'}


@lru_cache(maxsize=4096)
def disposition(name: str, attachment: bool) -> str:
    """Content-Disposition (RFC 6266, 8187): an ASCII name for old readers first, the true one after it."""
    kind = "attachment" if attachment else "inline"
    if not name:
        return kind
    name = visible(name)
    plain = name.translate(_UNSAFE).encode("ascii", "replace").decode("ascii").replace("?", "_")
    true = name.replace("/", "_").replace("\\", "_")
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(true, safe='!#$&+-.^_`|~')}"
