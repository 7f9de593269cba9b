"""Headers of an answer -> what they say of the file: the name that it should have, and digests of its bytes.

Content-Disposition is RFC 6266's; digests are RFC 9530's Repr-Digest, its forerunner Digest (RFC 3230), and what object
stores send. All of it comes from a stranger: what cannot be read is not there.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from hashlib import new as hashed
from urllib.parse import unquote_to_bytes

_STRONG = {"sha-256": "sha256", "sha-512": "sha512", "sha-384": "sha384"}
_WEAK = {"sha": "sha1", "sha-1": "sha1", "md5": "md5"}  # against accidents only
_SENT = {"x-amz-checksum-sha256": "sha256", "x-amz-checksum-sha1": "sha1", "x-amz-checksum-crc32": "crc32"}
_ITEM = re.compile(r"(?<![A-Za-z0-9-])([A-Za-z0-9-]{1,32})\s*=\s*:?([A-Za-z0-9+/=]+):?")
_EXTENDED = re.compile(r"filename\*\s*=\s*([\w-]+)'[\w-]*'([^\s;,]+)", re.IGNORECASE)
_QUOTED = re.compile(r'filename\s*=\s*"((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_TOKEN = re.compile(r"filename\s*=\s*([^\s\";]+)", re.IGNORECASE)


def file_name(disposition: str | None) -> str | None:
    """The name that Content-Disposition proposes, as it came: it is not clean yet."""
    text = (disposition or "")[:8192]
    if extended := _EXTENDED.search(text):
        charset = extended[1].lower()
        if charset in ("utf-8", "iso-8859-1"):  # RFC 8187 wants no other
            return unquote_to_bytes(extended[2]).decode(charset, "replace")
    if quoted := _QUOTED.search(text):
        return _recoded(re.sub(r"\\(.)", r"\1", quoted[1]))
    token = _TOKEN.search(text)
    return _recoded(token[1]) if token else None


def _recoded(text: str) -> str:
    """A name whose bytes were UTF-8, though headers are Latin-1 or were taken with surrogates."""
    for charset in ("latin-1", "utf-8"):
        try:
            return text.encode(charset, "surrogateescape").decode("utf-8")
        except UnicodeError:
            continue
    return text


def digests(headers: Mapping[str, str], *, whole: bool) -> dict[str, bytes]:
    """Algorithm -> digest of the whole file; `whole`: the answer holds all of it."""
    found: dict[str, bytes] = {}
    for name in ("Repr-Digest", "Digest"):
        for key, value in _ITEM.findall(headers.get(name, "")[:4096]):
            if algorithm := (_STRONG | _WEAK).get(key.lower()):
                _put(found, algorithm, value)
    for key, value in _ITEM.findall(headers.get("x-goog-hash", "")[:4096]):
        if key == "md5":
            _put(found, "md5", value)
    for name, algorithm in _SENT.items():
        _put(found, algorithm, headers.get(name, ""))
    if whole:
        _put(found, "md5", headers.get("Content-MD5", ""))
    return found


class Check:
    """The bytes of one answer, against the digest that it tells of them (RFC 9530, Content-Digest)."""

    def __init__(self, algorithm: str, value: bytes) -> None:
        self.hash, self.value = hashed(algorithm, usedforsecurity=False), value

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> "Check | None":
        """What there is to check of an answer; None: nothing."""
        found: dict[str, bytes] = {}
        for key, value in _ITEM.findall(headers.get("Content-Digest", "")[:4096]):
            if algorithm := _STRONG.get(key.lower()):
                _put(found, algorithm, value)
        return next((cls(*item) for item in found.items()), None)

    def update(self, data: bytes | memoryview) -> None:
        """More of its bytes."""
        self.hash.update(data)

    def wrong(self) -> bool:
        """All have come: are they others?"""
        return self.hash.digest() != self.value


def _put(found: dict[str, bytes], algorithm: str, text: str) -> None:
    try:
        value = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return
    if value and len(value) == (4 if algorithm == "crc32" else hashed(algorithm, usedforsecurity=False).digest_size):
        found.setdefault(algorithm, value)
