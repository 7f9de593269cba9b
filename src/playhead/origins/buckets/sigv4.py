"""A request to S3 -> its headers with AWS Signature Version 4 in Authorization. Pure: no clock, no network.

What is signed is the method, the path and the query as they are on the wire, the host, every header given, and the
SHA-256 of the body; so `path` and `query` here must be sent as they are returned by `spelled` and `asked`.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from urllib.parse import quote

EMPTY = sha256(b"").hexdigest()  # the digest of no body
_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Signing:
    """Who signs, and for which region. `token` belongs to keys that expire."""

    key: str = field(repr=False)
    secret: str = field(repr=False)
    region: str
    token: str | None = field(default=None, repr=False)
    service: str = "s3"


def spelled(path: str) -> str:
    """A path as it is signed and sent: everything quoted but letters, digits, "-._~" and "/"."""
    return quote(path, safe="/-._~")


def asked(query: Mapping[str, str]) -> str:
    """A query as it is signed and sent: quoted, and sorted by name."""
    pairs = sorted((quote(name, safe="-._~"), quote(value, safe="-._~")) for name, value in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def signed(
    by: Signing, method: str, host: str, path: str, query: str, headers: Mapping[str, str], digest: str, now: datetime
) -> dict[str, str]:
    """The headers to send: those given, and what signing adds. `digest` is the SHA-256 of the body, in hexadecimal."""
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    added = {"x-amz-content-sha256": digest, "x-amz-date": stamp}
    if by.token:
        added["x-amz-security-token"] = by.token
    lower = {name.lower(): " ".join(value.split()) for name, value in {**headers, **added, "host": host}.items()}
    names = ";".join(sorted(lower))
    lines = [f"{name}:{lower[name]}\n" for name in sorted(lower)]
    request = "\n".join([method, path, query, "".join(lines), names, digest])
    scope = f"{stamp[:8]}/{by.region}/{by.service}/aws4_request"
    text = "\n".join([_ALGORITHM, stamp, scope, sha256(request.encode()).hexdigest()])
    signature = hmac.new(_day_key(by, stamp[:8]), text.encode(), sha256).hexdigest()
    authorization = f"{_ALGORITHM} Credential={by.key}/{scope},SignedHeaders={names},Signature={signature}"
    return {**headers, **added, "Authorization": authorization}


def _day_key(by: Signing, day: str) -> bytes:
    """The key that signs on one day, in one region, for one service."""
    made = f"AWS4{by.secret}".encode()
    for part in (day, by.region, by.service, "aws4_request"):
        made = hmac.new(made, part.encode(), sha256).digest()
    return made
