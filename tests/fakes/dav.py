"""A WebDAV server that answers as Nextcloud does, until it is told to do otherwise.

    async with Dav({"a/b": b"..."}) as dav:
        dav.faults["PUT"] = [answer(507)]      # the first PUT is refused, the next is stored

A fault is asked instead of the server; None from it lets the server go on. What came is in `asked`.
"""

import asyncio
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha1
from html import escape
from urllib.parse import quote, unquote_to_bytes, urlsplit

from aiohttp import web
from aiohttp.web_request import BaseRequest

BASE = "/remote.php/dav/files/ann/"
OLD = "Sat, 03 Jan 2026 10:00:00 GMT"

Answer = web.StreamResponse | None
Fault = Callable[["Dav", BaseRequest], Awaitable[Answer]]


@dataclass(slots=True)
class Kept:
    data: bytes
    version: int
    sums: str = ""

    @property
    def etag(self) -> str:
        return f'"{self.version:032x}"'


def answer(status: int, body: str | bytes = "", **headers: str) -> Fault:
    """A fault that only answers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def told(_: "Dav", request: BaseRequest) -> Answer:
        return web.Response(status=status, body=body.encode() if isinstance(body, str) else body, headers=named)

    return told


async def cut(_: "Dav", request: BaseRequest) -> Answer:
    """The connection breaks when a little of the request's body has come."""
    await request.content.readany()
    assert request.transport is not None
    request.transport.abort()
    await asyncio.sleep(3600)
    return None


async def stall(_: "Dav", request: BaseRequest) -> Answer:
    """The server reads nothing and says nothing."""
    await asyncio.sleep(3600)
    return None


@dataclass(slots=True)
class Dav:
    """`listed` and `sent` make the ETag of a file as PROPFIND and GET tell it; `conditions`: does MOVE know `If`?"""

    given: Mapping[str, bytes]
    files: dict[str, Kept] = field(default_factory=dict)
    folders: set[str] = field(default_factory=lambda: {""})
    faults: defaultdict[str, list[Fault | None]] = field(default_factory=lambda: defaultdict(list))
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    listed: Callable[[Kept], str] = lambda kept: kept.etag
    sent: Callable[[Kept], str] = lambda kept: kept.etag
    conditions: bool = True
    version: int = 0
    port: int = 0
    server: asyncio.Server | None = None
    handling: web.Server | None = None

    async def __aenter__(self) -> "Dav":
        for path, data in self.given.items():
            self.put(path, data)
        self.handling = web.Server(self._handle)
        self.server = await asyncio.get_running_loop().create_server(self.handling, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.server and self.handling
        self.server.close()
        await self.handling.shutdown(0.01)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{BASE}"

    def put(self, path: str, data: bytes, sums: str = "") -> Kept:
        self.version += 1
        self.files[path] = kept = Kept(data, self.version, sums)
        names = path.split("/")[:-1]
        self.folders.update("/".join(names[: count + 1]) for count in range(len(names)))
        return kept

    def of(self, method: str) -> list[str]:
        return [path for how, path, _ in self.asked if how == method]

    async def _handle(self, request: BaseRequest) -> web.StreamResponse:
        path = _path(request.raw_path)
        self.asked.append((request.method, path, dict(request.headers)))
        faults = self.faults[request.method]
        fault = faults.pop(0) if faults else None
        if fault and (told := await fault(self, request)) is not None:
            return told
        doing = getattr(self, f"_{request.method.lower()}", None)
        return await doing(request, path) if doing else web.Response(status=501)

    # ── methods ──

    async def _propfind(self, request: BaseRequest, path: str) -> web.StreamResponse:
        await request.read()
        if path not in self.files and path not in self.folders:
            return web.Response(status=404, body=b"<d:error xmlns:d='DAV:'/>")
        every = [path]
        if request.headers["Depth"] == "1":
            every += [name for name in (*self.folders, *self.files) if name and name.rpartition("/")[0] == path]
        body = "".join(self.response(name) for name in dict.fromkeys(every))
        return web.Response(status=207, body=document(body).encode(), content_type="application/xml")

    async def _get(self, request: BaseRequest, path: str) -> web.StreamResponse:
        if path in self.folders:
            return web.Response(status=405)
        if path not in self.files:
            return web.Response(status=404)
        kept = self.files[path]
        headers = {"Last-Modified": OLD, "Content-Type": "application/octet-stream", "OC-Checksum": kept.sums}
        if etag := self.sent(kept):
            headers["ETag"] = etag
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
        if not wanted:
            return web.Response(body=kept.data, headers=headers)
        size = len(kept.data)
        start = int(wanted[1]) if wanted[1] else max(0, size - int(wanted[2]))
        stop = min(size, int(wanted[2]) + 1) if wanted[1] and wanted[2] else size
        if start >= size:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        return web.Response(status=206, body=kept.data[start:stop], headers=headers)

    async def _put(self, request: BaseRequest, path: str) -> web.StreamResponse:
        data = b"".join([chunk async for chunk in request.content.iter_any()])
        if path.endswith(".part"):
            return web.Response(status=400)
        if path.rpartition("/")[0] not in self.folders:
            return web.Response(status=409)
        new = path not in self.files
        kept = self.put(path, data, request.headers.get("OC-Checksum", ""))
        headers = {"OC-ETag": kept.etag, "ETag": kept.etag, "X-OC-MTime": "accepted"}
        if request.headers.get("X-Hash") == "sha1":
            headers["X-Hash-SHA1"] = sha1(data).hexdigest()
        return web.Response(status=201 if new else 204, headers=headers)

    async def _mkcol(self, request: BaseRequest, path: str) -> web.StreamResponse:
        if path in self.folders or path in self.files:
            return web.Response(status=405)
        if path.rpartition("/")[0] not in self.folders:
            return web.Response(status=409)
        self.folders.add(path)
        return web.Response(status=201)

    async def _delete(self, request: BaseRequest, path: str) -> web.StreamResponse:
        return web.Response(status=204 if self.files.pop(path, None) else 404)

    async def _move(self, request: BaseRequest, path: str) -> web.StreamResponse:
        return self._take(request, path, keep=False)

    async def _copy(self, request: BaseRequest, path: str) -> web.StreamResponse:
        return self._take(request, path, keep=True)

    def _take(self, request: BaseRequest, path: str, *, keep: bool) -> web.StreamResponse:
        to = _path(urlsplit(request.headers["Destination"]).path)
        there = self.files.get(to)
        if path not in self.files:
            return web.Response(status=404)
        if there and request.headers.get("Overwrite") == "F":
            return web.Response(status=412)
        condition = re.fullmatch(r'<([^>]*)> \(\[("[^"]*")\]\)', request.headers.get("If", ""))
        if condition:
            target = self.files.get(_path(urlsplit(condition[1]).path))
            if not self.conditions or target is None or target.etag != condition[2]:
                return web.Response(status=412)
        self.files[to] = self.files[path]
        if not keep:
            del self.files[path]
        return web.Response(status=204 if there else 201)

    # ── what it tells ──

    def response(self, path: str) -> str:
        """One resource, as Nextcloud tells of it."""
        href = BASE + quote(path.encode("utf-8", "surrogateescape"))
        if path in self.folders:
            return told(
                href if href.endswith("/") else f"{href}/",
                "<d:resourcetype><d:collection/></d:resourcetype><d:getetag>&quot;5f&quot;</d:getetag>"
                "<oc:size>10</oc:size><nc:has-preview>false</nc:has-preview>",
                "<d:getcontentlength/><oc:checksums/>",
            )
        kept = self.files[path]
        sums = f"<oc:checksums><oc:checksum>{kept.sums}</oc:checksum></oc:checksums>" if kept.sums else ""
        etag = escape(self.listed(kept))
        return told(
            href,
            f"<d:resourcetype/><d:getcontentlength>{len(kept.data)}</d:getcontentlength>"
            f"<d:getetag>{etag}</d:getetag><d:getlastmodified>{OLD}</d:getlastmodified>{sums}",
            "<oc:size/>",
        )


def told(href: str, has: str, lacks: str = "", status: str = "HTTP/1.1 200 OK") -> str:
    """One response of a multistatus."""
    missing = f"<d:propstat><d:prop>{lacks}</d:prop><d:status>HTTP/1.1 404 Not Found</d:status></d:propstat>" * bool(
        lacks
    )
    return (
        f"<d:response><d:href>{escape(href)}</d:href><d:propstat><d:prop>{has}</d:prop>"
        f"<d:status>{status}</d:status></d:propstat>{missing}</d:response>"
    )


def document(body: str) -> str:
    return (
        '<?xml version="1.0"?><d:multistatus xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns" '
        f'xmlns:oc="http://owncloud.org/ns" xmlns:nc="http://nextcloud.org/ns">{body}</d:multistatus>'
    )


def _path(raw: str) -> str:
    assert raw.startswith(BASE) or raw + "/" == BASE, raw
    return unquote_to_bytes(raw[len(BASE) :].rstrip("/")).decode("utf-8", "surrogateescape")
