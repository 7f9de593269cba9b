"""What a fake Google Drive says no with, and how it breaks: error bodies, scripted faults, the end of an answer.

`Refusal` is an error as Google words it. `Faults` is the script: each rule matches requests and spoils so many of
them. `written` sends an answer as its fault allows: cut short, reset, slow, or never.
"""

import asyncio
import gzip
import json
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from aiohttp import web

CHUNK = 256 << 10

# reason -> (status, domain, message, location)
REASONS: dict[str, tuple[int, str, str, str]] = {
    "badRequest": (400, "global", "Bad Request", ""),
    "invalid": (400, "global", "Invalid Value", ""),
    "invalidParameter": (400, "global", "Invalid field selection", "parameter:fields"),
    "required": (400, "global", "Required parameter", ""),
    "authError": (401, "global", "Invalid Credentials", "header:Authorization"),
    "userRateLimitExceeded": (403, "usageLimits", "User Rate Limit Exceeded", ""),
    "rateLimitExceeded": (403, "usageLimits", "Rate Limit Exceeded", ""),
    "dailyLimitExceeded": (403, "usageLimits", "Daily Limit Exceeded", ""),
    "downloadQuotaExceeded": (403, "global", "The download quota for this file has been exceeded.", ""),
    "quotaExceeded": (
        403,
        "usageLimits",
        "The download quota for this file has been exceeded",
        "other:quota.download",
    ),  # as some answers still word it
    "storageQuotaExceeded": (403, "global", "The user's Drive storage quota has been exceeded.", ""),
    "cannotDownloadFile": (403, "global", "This file cannot be downloaded by the user.", ""),
    "cannotDownloadAbusiveFile": (
        403,
        "global",
        "This file has been identified as malware or spam and cannot be downloaded.",
        "parameter:acknowledgeAbuse",
    ),
    "fileNotDownloadable": (
        403,
        "global",
        "Only files with binary content can be downloaded. Use Export with Docs Editors files.",
        "parameter:alt",
    ),
    "fileNotExportable": (403, "global", "Export only supports Docs Editors files.", ""),
    "exportSizeLimitExceeded": (403, "global", "This file is too large to be exported.", ""),
    "fieldNotWritable": (403, "global", "The resource body includes fields which are not directly writable.", ""),
    "insufficientFilePermissions": (
        403,
        "global",
        "The user does not have sufficient permissions for this file.",
        "",
    ),
    "appNotAuthorizedToFile": (
        403,
        "global",
        "The user has not granted the app read access to the file.",
        "header:Authorization",
    ),
    "insufficientPermissions": (403, "global", "Insufficient Permission", "header:Authorization"),
    "notFound": (404, "global", "File not found: .", "parameter:fileId"),
    "fileIdInUse": (409, "global", "A file already exists with the provided ID.", ""),
    "gone": (410, "global", "Gone", ""),
    "requestedRangeNotSatisfiable": (416, "global", "Request range not satisfiable", "header:Range"),
    "tooManyRequests": (429, "usageLimits", "Rate Limit Exceeded", ""),
    "backendError": (500, "global", "Backend Error", ""),
    "serviceUnavailable": (503, "global", "Service unavailable. Please try again.", ""),
}
_BY_STATUS = {
    400: "badRequest",
    401: "authError",
    403: "insufficientFilePermissions",
    404: "notFound",
    409: "fileIdInUse",
    410: "gone",
    416: "requestedRangeNotSatisfiable",
    429: "tooManyRequests",
    500: "backendError",
    503: "serviceUnavailable",
}
_SAID_AS = {"tooManyRequests": "rateLimitExceeded", "serviceUnavailable": "backendError"}  # the reason on the wire
BREAKS = ("hang", "reset", "truncated")
WAYS = {"reset", "truncated", "hang", "lost", "drip", "expired", "whole", "flipped"}  # faults that are no error body


@dataclass(slots=True)
class Seen:
    """One request as it came and as it was answered. `status` 0: not (yet) answered. `sent`: bytes of the body."""

    kind: str
    method: str
    path: str
    query: dict[str, str]
    range: str | None
    headers: Mapping[str, str]
    status: int = 0
    sent: int = 0

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}?" + "&".join(f"{name}={value}" for name, value in self.query.items())


@dataclass(slots=True)
class Answer:
    status: int
    body: bytes | memoryview = b""
    headers: dict[str, str] = field(default_factory=dict)
    chunked: bool = False


def said(thing: object, status: int = 200, headers: Mapping[str, str] = MappingProxyType({})) -> Answer:
    """An answer in JSON."""
    body = json.dumps(thing, indent=1, ensure_ascii=False).encode()
    return Answer(status, body, {"Content-Type": "application/json; charset=UTF-8", **headers})


class Refusal(Exception):
    """An error as the Drive API words it."""

    def __init__(
        self,
        reason: str,
        message: str = "",
        location: str = "",
        status: int = 0,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        usual, self.domain, text, place = REASONS.get(reason, (status or 403, "global", reason, ""))
        self.reason, self.status = _SAID_AS.get(reason, reason), status or usual
        self.message, self.location, self.headers = message or text, location or place, headers
        super().__init__(f"{self.status} {self.reason}: {self.message}")

    def answer(self) -> Answer:
        error: dict[str, Any] = {"domain": self.domain, "reason": self.reason, "message": self.message}
        if self.location:
            error["locationType"], _, error["location"] = self.location.partition(":")
        body = {"error": {"errors": [error], "code": self.status, "message": self.message}}
        return said(body, self.status, self.headers)


@dataclass(slots=True, eq=False)
class Fault:
    """One rule of the script; see FakeDrive.fail. `used`: how many requests it has spoiled."""

    match: str | Callable[[Seen], bool]
    what: str | int
    times: int | None = 1
    after_bytes: int | None = None
    retry_after: float | None = None
    rate: float | None = None
    used: int = 0

    def fits(self, seen: Seen) -> bool:
        if self.times is not None and self.used >= self.times:
            return False
        if callable(self.match):
            return self.match(seen)
        return all(word in ("*", seen.kind) or word in seen.line for word in self.match.split())

    def refuse(self) -> None:
        """Raise the error that this rule stands for, where it is one."""
        if self.what in WAYS:
            return
        reason = _BY_STATUS.get(self.what, "backendError") if isinstance(self.what, int) else self.what
        status = self.what if isinstance(self.what, int) else 0
        more = {} if self.retry_after is None else {"Retry-After": f"{self.retry_after:g}"}
        raise Refusal(reason, status=status, headers=more)


class Faults(list[Fault]):
    """The script: the first rule that fits a request and is not used up spoils it."""

    def of(self, seen: Seen) -> Fault | None:
        for fault in self:
            if fault.fits(seen):
                fault.used += 1
                return fault
        return None


async def forever() -> None:
    """Until the client leaves or the fake ends: both cancel the handler."""
    await asyncio.Event().wait()


def reset(request: web.BaseRequest) -> None:
    """End the connection by RST."""
    if (transport := request.transport) is not None:
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


async def written(request: web.Request, seen: Seen, answer: Answer, fault: Fault | None) -> web.StreamResponse:
    """Send an answer as its fault allows."""
    way = fault.what if fault is not None else ""
    body = memoryview(answer.body)
    headers = dict(answer.headers)
    if _wants_gzip(request) and headers.get("Content-Type", "").startswith("application/json") and len(body) > 512:
        body, headers["Content-Encoding"] = memoryview(gzip.compress(body, 1)), "gzip"
    if way == "flipped" and body:
        spoiled = bytearray(body)
        spoiled[min((fault and fault.after_bytes) or 0, len(body) - 1)] ^= 1
        body = memoryview(spoiled)
    response = web.StreamResponse(status=answer.status, headers=headers)
    if answer.chunked:
        response.enable_chunked_encoding()
    else:
        response.content_length = len(body)
    seen.status = answer.status
    cut = fault.after_bytes if fault is not None and way in BREAKS else None
    await response.prepare(request)
    if request.method != "HEAD" and answer.status not in (204, 304):
        rate = (fault.rate or 1000.0) if fault is not None and way == "drip" else 0.0
        await _poured(request, response, seen, body[:cut], rate)
    if cut is not None and fault is not None:
        await broken(request, str(way))
    else:
        await response.write_eof()
    return response


async def _poured(
    request: web.Request, response: web.StreamResponse, seen: Seen, body: memoryview, rate: float
) -> None:
    step = max(1, int(rate / 20)) if rate else CHUNK
    for at in range(0, len(body), step):
        piece = body[at : at + step]
        await response.write(bytes(piece) if len(piece) < CHUNK else piece)
        seen.sent += len(piece)
        if rate:
            await asyncio.sleep(len(piece) / rate)


async def broken(request: web.Request, way: str) -> None:
    """End a connection: "reset", "truncated" (in order), or "hang" until the client does."""
    if way == "hang":
        await forever()
    if (transport := request.transport) is None:
        return
    if way == "reset":
        await asyncio.sleep(0.02)  # what is sent so far arrives first
        reset(request)
    else:
        transport.close()


def _wants_gzip(request: web.Request) -> bool:
    """Google compresses only for those who say so twice."""
    return all("gzip" in request.headers.get(name, "") for name in ("Accept-Encoding", "User-Agent"))
