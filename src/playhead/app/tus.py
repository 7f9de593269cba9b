"""Headers of tus 1.0.0 -> what they say; and the ways to refuse that only uploads have.

What comes here is from anybody: each value is bounded before it is read, and what cannot be is Malformed.
"""

import hashlib
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlsplit

from playhead.app.spool import LONGEST
from playhead.errors import Busy, Malformed, NotFound
from playhead.tree import segments

METADATA = 16 << 10  # bytes
PATH = 4096  # bytes
DEPTH = 64  # folders
SUMS = {"sha1": hashlib.sha1, "sha256": hashlib.sha256}
ABLE = [
    ("Tus-Version", "1.0.0"),
    ("Tus-Extension", "creation,expiration,checksum,termination"),
    ("Tus-Checksum-Algorithm", ",".join(SUMS)),
]
SENT = (
    "Content-Type, Tus-Resumable, Upload-Checksum, Upload-Length, Upload-Metadata, Upload-Offset, "
    "X-HTTP-Method-Override, X-Requested-With"
)
EXPOSED = (
    "Location, Upload-Offset, Upload-Length, Upload-Metadata, Upload-Expires, Tus-Version, Tus-Resumable, "
    "Tus-Extension, Tus-Max-Size"
)
_SECONDS = 10**11  # larger numbers are milliseconds since 1970, as JavaScript counts


class TooLarge(Malformed):
    """More bytes than there may be."""

    status = 413


class Unlike(Malformed):
    """Not the media type of a part of an upload."""

    status = 415


class Gone(NotFound):
    """An upload that failed: it cannot be gone on with."""

    status = 410


class Stranger(Malformed):
    """Another version of the protocol."""

    status = 412


class Locked(Busy):
    """Another request writes to the upload."""

    status = 423


class Mismatch(Malformed):
    """The bytes are not those of the checksum: they were damaged on their way."""

    status = 460


def count(headers: Mapping[str, str], name: str) -> int:
    """A number of bytes. Raises Malformed."""
    text = headers.get(name, "").strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Malformed(f"{name.title()} is a number of bytes, and not {text[:40]!r}")
    return int(text)


def metadata(text: str) -> dict[str, str]:
    """Upload-Metadata: keys, each with a value in base64 or none. Raises Malformed."""
    if len(text) > METADATA:
        raise Malformed(f"Upload-Metadata has {len(text):,} bytes; {METADATA:,} are the most")
    found: dict[str, str] = {}
    for pair in text.split(",") if text else ():
        key, _, value = pair.strip().partition(" ")
        if not key or key in found:
            raise Malformed("Upload-Metadata has a key twice, or none")
        try:
            found[key] = b64decode(value.strip(), validate=True).decode()
        except (NotBase64, ValueError) as error:
            raise Malformed(f"Upload-Metadata: the value of {key[:40]!r} is not UTF-8 in base64") from error
    return found


def path(text: str) -> str:
    """A path that a file can be given. Raises Malformed."""
    names = segments(text)
    if not names:
        raise Malformed("Upload-Metadata has no `path`, which says where in the tree the file belongs")
    if len(names) > DEPTH or len(text.encode()) > PATH:
        raise Malformed(f"a path has at most {DEPTH} names and {PATH:,} bytes")
    for name in names:
        if any(ord(char) < 32 or ord(char) == 127 for char in name):
            raise Malformed(f"{text!r} has a control character in it")
        if len(name.encode()) > LONGEST:
            raise Malformed(f"{text!r} has a name of {len(name.encode())} bytes; {LONGEST} are the most")
    return text


def modified(text: str | None) -> int | None:
    """When a file was changed, in nanoseconds, from seconds or (beyond 10^11) milliseconds since 1970."""
    if not text:
        return None
    try:
        number = Decimal(text) if len(text) <= 32 else Decimal("NaN")
        nanoseconds = number * (10**6 if abs(number) >= _SECONDS else 10**9)
        if abs(nanoseconds) < 2**63:
            return int(nanoseconds)
    except (InvalidOperation, ValueError, OverflowError):
        pass  # told below
    raise Malformed(f"{text[:40]!r} is no number of seconds since 1970")


def checksum(headers: Mapping[str, str]) -> tuple[Any, bytes]:
    """A digest to be made of what comes, and what it must be; None and nothing where that is not told."""
    if "upload-checksum" not in headers:
        return None, b""
    name, _, value = headers["upload-checksum"].strip().partition(" ")
    if name not in SUMS:
        raise Malformed(f"{name[:40]!r} is no checksum that is known here: {', '.join(SUMS)}")
    try:
        return SUMS[name](), b64decode(value, validate=True)
    except (NotBase64, ValueError) as error:
        raise Malformed("Upload-Checksum is not in base64") from error


def ours(headers: Mapping[str, str]) -> bool:
    """Does a page of this very server ask, or a program that is no browser?"""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if site == "same-origin" or (origin is None and site in (None, "none")):
        return True
    try:
        return origin is not None and urlsplit(origin).netloc == headers.get("host")
    except ValueError:
        return False
