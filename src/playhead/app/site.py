"""The server that people use: routes -> trees -> responses.

    /files/{tree}/{path}   a file, or a folder (as a page, or as JSON by Accept or ?as=json)
                           ?pack=tar|zip: a folder, or the `path=`s of it, as one archive
    /assets/{hash}/{name}  what the page is made of
    /bundles               POST a list of members -> the address of their archive; /bundles/{id}/{name}: the archive
    /healthz /readyz       is it alive, is it ready
    /metrics               what is counted, for Prometheus
    /uploads               files to be added to trees that can be written, as tus has them; /uploads/{id}: one of them
    /downloads /jsonrpc    the queue of downloads: its page, and aria2's JSON-RPC; /api/downloads: the page as JSON
    /                      the page

A path is decoded here, once, segment by segment: a "/" hidden as %2F is refused, bytes that are not UTF-8
are kept. What the trees raise becomes one line of text with the right status, and says nothing of the machine.
"""

import asyncio
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace
from urllib.parse import quote

from playhead import media, metrics
from playhead.app import page, target
from playhead.app.auth import Gate
from playhead.app.downloads import Downloads
from playhead.app.listing import as_json, paged
from playhead.app.packing import Packing
from playhead.app.uploads import Uploads
from playhead.blob import Blob, identity, literal
from playhead.doors import asgi
from playhead.errors import Changed, Failure, Malformed, NotFound, Unsized
from playhead.respond import ERRORS, FILES, HASHED, About, Request, Response, asked, flowing, refusal, respond
from playhead.tree import Ask, Tree, segments

LIST = 32 << 20  # bytes of a list of members
LABELLED = 256 << 10  # bytes of a text that are looked at for its charset
ROUTES = 4096  # paths that are remembered
CONVERTED = 16 << 20  # bytes of the longest text that ?text=utf-8 converts
# Files that a browser would run at our address: they get none of our rights.
_ACTIVE = ("text/html", "application/xhtml+xml", "image/svg+xml", "application/xml", "application/xspf+xml")
_CAGE = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; media-src 'self'"

log = logging.getLogger("playhead.request")
errors = logging.getLogger("playhead.server")


class Site:
    """An ASGI application over trees by name."""

    def __init__(
        self,
        trees: Mapping[str, Tree],
        gate: Gate = Gate(),
        prefix: str = "",
        figures: Callable[[], Iterable[metrics.Figure]] = tuple,
        packing: Packing | None = None,
        downloads: Downloads | None = None,
        uploads: Uploads | None = None,
    ) -> None:
        self.trees, self.gate, self.prefix, self.figures = trees, gate, prefix, figures
        self.packing = packing or Packing(trees, prefix)
        self.downloads, self.uploads = downloads, uploads
        self.sockets = frozenset((f"{prefix}/jsonrpc",) if downloads else ())  # where there are WebSockets
        self.served = metrics.Served()
        self.labels: OrderedDict[str, str] = OrderedDict()  # tag and name -> media type with charset
        self.routes: dict[bytes, tuple[Tree, str, About]] = {}  # paths asked for lately -> files whose name tells all

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        if scope["type"] == "websocket":
            return await self._socket(scope, receive, send)
        if scope.get("method") == "POST" and (most := self._most(asgi.raw_path(scope))):
            with suppress(Failure):  # who is refused is told so below, and nothing of theirs is read
                self._admit(scope, asgi.request(scope))
                scope["playhead.body"] = await asgi.received(receive, most)
        if scope.get("method") not in ("GET", "HEAD") and self._uploading(scope):
            scope["playhead.receive"] = receive  # its body is read as it comes, and so the client's leaving is seen
            await self._serve(scope, send)
        elif "playhead.cancels" in scope.get("extensions", ()):  # our server ends the task of who leaves
            await self._serve(scope, send)
        elif scope["type"] == "http":
            await asgi.while_connected(self._serve(scope, send), receive)

    async def _socket(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        try:
            if not self.downloads or asgi.raw_path(scope) not in self.sockets:
                raise NotFound("there is no WebSocket here")
            self.downloads.admit(self.gate, asgi.request({**scope, "method": "GET"}).headers)
        except Failure as failure:
            return await send({"type": "websocket.close", "reason": str(failure)})
        await self.downloads.rpc.converse(receive, send)

    def _uploading(self, scope: asgi.Scope) -> bool:
        return self.uploads is not None and asgi.raw_path(scope).startswith(f"{self.prefix}/uploads/")

    def _most(self, path: str) -> int:
        """How many bytes may be posted there; 0: nothing."""
        if path == f"{self.prefix}/bundles":
            return LIST
        return self.downloads.most(path.removeprefix(self.prefix)) if self.downloads else 0

    def _admit(self, scope: asgi.Scope, request: Request) -> None:
        if self.downloads and asgi.raw_path(scope) in self.sockets:
            self.downloads.admit(self.gate, request.headers)
        else:
            self.gate.admit(request.headers)

    async def _serve(self, scope: asgi.Scope, send: asgi.Send) -> None:
        began, request, sent = time.perf_counter(), asgi.request(scope), asgi.Sent()
        self.served.streams += 1
        try:
            await self._first_or_second(scope, send, request, sent)
        except asgi.Broken as broken:
            errors.warning("%s broke off: %s", target.asked_for(scope), broken)
            if "playhead.reset" not in scope.get("extensions", {}):
                raise
        finally:
            self._count(sent, began)
            if log.isEnabledFor(logging.INFO):
                self._log(scope, request, sent, time.perf_counter() - began)

    async def _first_or_second(self, scope: asgi.Scope, send: asgi.Send, request: Request, sent: asgi.Sent) -> None:
        """Answer; where the file changed before its first byte was sent, once more, with the new version."""
        for again in (True, False):
            try:
                return await asgi.send(await self._answer(scope, request), scope, send, sent)
            except Failure as failure:
                if not (again and isinstance(failure, Changed)):
                    return await asgi.send(self._dressed(request, _refused(failure)), scope, send, sent)

    def _count(self, sent: asgi.Sent, began: float) -> None:
        served = self.served
        served.streams -= 1
        served.answers[sent.status] = served.answers.get(sent.status, 0) + 1  # += asks Counter.__missing__, and slowly
        served.bytes += sent.bytes
        if sent.began and sent.status in (200, 206):
            (served.kept if sent.ready else served.fetched).add(sent.began - began)

    def _log(self, scope: asgi.Scope, request: Request, sent: asgi.Sent, took: float) -> None:
        client = target.plain(self.gate.client((scope.get("client") or ["-"])[0], request.headers))
        asked_for, ranged = target.asked_for(scope), target.plain(request.headers.get("range", "-"))
        extra = {"client": client, "request": asked_for, "range": ranged, "status": sent.status, "bytes": sent.bytes}
        text = f"{client} {asked_for} {ranged} -> {sent.status}, {sent.bytes} bytes in {took * 1000:.0f} ms"
        log.info("%s", text, extra={**extra, "seconds": round(took, 4)})

    # ── routes ──

    async def _answer(self, scope: asgi.Scope, request: Request) -> Response:
        try:
            self._admit(scope, request)
            response = await self._again(scope, request) or await self._route(scope, request)
        except Failure:
            raise
        except Exception:
            errors.exception("a bug of ours at %s", target.asked_for(scope))
            response = refusal(500, "a bug of ours; the log says more")
        return self._dressed(request, response)

    def _dressed(self, request: Request, response: Response) -> Response:
        if self.gate.cors:
            response.headers.extend(self.gate.allow(request.headers))
        return response

    async def _again(self, scope: asgi.Scope, request: Request) -> Response | None:
        """The answer where this very path was asked for before, and nothing but its bytes need be looked at."""
        raw: bytes = scope.get("raw_path") or b""
        known = self.routes.get(raw)
        if known is None or scope["query_string"] or request.method not in ("GET", "HEAD"):
            return None
        tree, path, about = known
        try:
            blob = await tree.open(path, asked(request))
        except (NotFound, Unsized):
            del self.routes[raw]
            return None
        if blob.modified != about.modified:
            about = replace(about, modified=blob.modified)
            self.routes[raw] = tree, path, about
        return respond(request, blob, about)

    async def _route(self, scope: asgi.Scope, request: Request) -> Response:
        raw = asgi.raw_path(scope)
        if not raw.startswith(self.prefix + "/"):
            raise NotFound("there is nothing here")
        kind, _, rest = raw[len(self.prefix) + 1 :].partition("/")
        if kind == "uploads" and self.uploads:
            base, receive = f"{self.prefix}/uploads", scope.get("playhead.receive")
            return await self.uploads.respond(request, rest, self.gate, base, receive)
        if request.method == "OPTIONS" and self.gate.cors:
            return _preflight(raw in self.sockets)
        query = target.query(scope)
        if self.downloads and kind in ("jsonrpc", "downloads", "api"):
            body = scope.get("playhead.body")
            path = raw[len(self.prefix) + 1 :]
            return await self.downloads.respond(request, path, query, body, self.gate, self.prefix)
        if kind == "bundles" and request.method == "POST" and not rest:
            return await self.packing.posted(request, _body(scope), query)
        if request.method not in ("GET", "HEAD"):
            return refusal(405, "only GET and HEAD are possible here", [("Allow", "GET, HEAD")])
        if kind == "files" and rest:
            return await self._files(request, rest, query, scope)
        if kind == "bundles" and rest:
            return await self.packing.get(request, rest)
        if kind == "assets":
            return _asset(request, rest)
        if kind in ("healthz", "readyz") and not rest:
            return respond(request, literal(b"ok\n"), About(type="text/plain; charset=utf-8", cache=ERRORS))
        if kind == "metrics" and not rest:
            text = await asyncio.to_thread(metrics.shown, self.served, self.figures())
            return respond(request, literal(text, None), About(type=metrics.TYPE, cache=ERRORS))
        if kind == "" and not rest:
            return await self._home(request, query)
        raise NotFound("there is nothing here")

    async def _home(self, request: Request, query: Mapping[str, list[str]]) -> Response:
        if len(self.trees) == 1:
            name, tree = next(iter(self.trees.items()))
            return await self._folder(request, name, tree, "", query)
        return self._page(request, page.trees(self.prefix, list(self.trees), self._under_way()))

    async def _files(self, request: Request, rest: str, query: Mapping[str, list[str]], scope: asgi.Scope) -> Response:
        names = [target.decoded(segment) for segment in rest.split("/")]
        tree = self.trees.get(names[0])
        if tree is None:
            raise NotFound(f"there is no tree {names[0]!r}")
        path = "/".join(names[1:])
        if path == "" and len(names) == 1:
            return _moved(self.prefix, rest, scope)
        if "pack" in query:
            return await self.packing.folder(request, names[0], path.removesuffix("/"), query)
        if path == "" or path.endswith("/"):
            return await self._folder(request, names[0], tree, path.removesuffix("/"), query)
        try:
            return await self._file(request, tree, path, query, scope)
        except NotFound:
            if (await tree.find(path)).folder:
                return _moved(self.prefix, rest, scope)
            raise

    # ── files ──

    async def _file(
        self, request: Request, tree: Tree, path: str, query: Mapping[str, list[str]], scope: asgi.Scope
    ) -> Response:
        name = path.rpartition("/")[2]
        kind = media.by_name(name)
        attachment, converted = "download" in query, query.get("text") == ["utf-8"]
        try:
            blob = await tree.open(path, Ask() if converted or media.is_text(kind or "") else asked(request))
        except Unsized:
            label = _unseen(kind)
            return _caged(flowing(request, tree.flow(path), About(name, label, attachment=attachment)), label)
        modified = blob.modified
        if converted:
            blob, label = await _as_utf8(blob), "text/plain; charset=utf-8"
        else:
            blob, label = await self._labelled(blob, name, kind)
        about = About(name, label, modified, attachment)
        if kind == label and not query and not _active(label) and (raw := scope.get("raw_path")):
            self._remember(raw, tree, path, about)
        return _caged(respond(request, blob, about), label)

    def _remember(self, raw: bytes, tree: Tree, path: str, about: About) -> None:
        if len(self.routes) >= ROUTES:
            self.routes.clear()
        self.routes[raw] = tree, path, about

    async def _labelled(self, blob: Blob, name: str, kind: str | None) -> tuple[Blob, str]:
        """The blob (in memory now, where it is a short text) and its media type with charset."""
        if kind and not media.is_text(kind):
            return blob, kind
        known = f"{blob.tag} {name}"
        if blob.tag and known in self.labels:
            self.labels.move_to_end(known)
            return blob, self.labels[known]
        short = blob.size <= LABELLED
        head = await blob.read(0, LABELLED if kind or short else media.HEAD)
        kind = kind or media.by_head(head[: media.HEAD])
        if media.is_text(kind):
            label = await asyncio.to_thread(media.charset, head, whole=short)
            kind = f"{kind}; charset={label}"
        if blob.tag:
            self.labels[known] = kind
            while len(self.labels) > 4096:
                self.labels.popitem(last=False)
        return literal(head, blob.tag) if short else blob, kind

    # ── folders ──

    async def _folder(
        self, request: Request, name: str, tree: Tree, path: str, query: Mapping[str, list[str]]
    ) -> Response:
        segments(path)
        async with aclosing(tree.entries(path)) as entries:
            listed = [entry async for entry in entries]
        shown, following = await asyncio.to_thread(paged, listed, query.get("after", [""])[0])
        wants_json = query.get("as") == ["json"] or "application/json" in request.headers.get("accept", "")
        if wants_json:
            data = {"path": path, "entries": [as_json(entry) for entry in shown], "next": following}
            return _document(request, json.dumps(data).encode("ascii"), "application/json")
        alone, under_way = len(self.trees) == 1, self._under_way()
        adding = self.uploads is not None and self.uploads.offered(self.gate, name)
        html = page.folder(self.prefix, name, path, shown, following, alone=alone, under_way=under_way, adding=adding)
        return self._page(request, html)

    def _under_way(self) -> int | None:
        return self.downloads.count() if self.downloads else None

    def _page(self, request: Request, html: str) -> Response:
        response = _document(request, html.encode("utf-8", "replace"), "text/html; charset=utf-8")
        response.headers.extend([("Content-Security-Policy", page.POLICY), ("Referrer-Policy", "no-referrer")])
        return response


# ── answers ──


def _document(request: Request, data: bytes, kind: str) -> Response:
    response = respond(request, literal(data), About(type=kind, cache=FILES))
    response.headers.append(("Vary", "Accept"))
    return response


def _asset(request: Request, rest: str) -> Response:
    found = page.asset(rest)
    if found is None:
        raise NotFound("there is no such part of the page")
    name, data = found
    kind = media.by_name(name) or "application/octet-stream"
    return respond(
        request, literal(data), About(name, kind + "; charset=utf-8" * kind.startswith("text"), cache=HASHED)
    )


def _preflight(calls: bool) -> Response:
    """What a page of another site may send; `calls`: to /jsonrpc."""
    sent = "Content-Type" if calls else "Range, If-Range, If-Match, If-None-Match, If-Modified-Since"
    headers = [
        ("Access-Control-Allow-Methods", "GET, POST" if calls else "GET, HEAD"),
        ("Access-Control-Allow-Headers", sent),
        ("Access-Control-Max-Age", "86400"),
    ]
    return Response(204, headers)


def _moved(prefix: str, rest: str, scope: asgi.Scope) -> Response:
    question = scope.get("query_string", b"").decode("latin-1")
    target = f"{prefix}/files/{rest}/{f'?{question}' if question else ''}"
    return refusal(308, "this is a folder", [("Location", quote(target, safe="/%?&=+!$'()*,;:@~", encoding="latin-1"))])


def _refused(failure: Failure) -> Response:
    after = [("Retry-After", str(int(failure.after) + 1))] if failure.after is not None else []
    return refusal(failure.status, failure.told, after)


def _caged(response: Response, label: str) -> Response:
    if _active(label):
        response.headers.append(("Content-Security-Policy", _CAGE))
    return response


def _active(label: str) -> bool:
    return label.partition(";")[0] in _ACTIVE


async def _as_utf8(blob: Blob) -> Blob:
    if blob.size > CONVERTED:
        raise Malformed(f"the text has {blob.size:,} bytes; ?text=utf-8 converts at most {CONVERTED:,}")
    data = await asyncio.to_thread(media.to_utf8, await blob.read())
    return literal(data, identity("utf-8", blob.tag))


def _unseen(kind: str | None) -> str:
    """The type of what has no size, and so cannot be looked at first."""
    return f"{kind}; charset=utf-8" if kind and media.is_text(kind) else kind or "application/octet-stream"


def _body(scope: asgi.Scope) -> bytes:
    body: bytes | None = scope.get("playhead.body")
    if body is None:
        raise Malformed(f"a list may have {LIST:,} bytes")
    return body
