"""Requests -> files in trees that can be written: uploads that go on after any break, as tus 1.0.0 has them.

    POST    /uploads        Upload-Length, Upload-Metadata (tree, path; modified, replaces) -> 201 and an address
    HEAD    /uploads/ID     Upload-Offset: from where to go on
    PATCH   /uploads/ID     bytes from there on, with Upload-Checksum only if they are those
    GET     /uploads/ID     as JSON: size, offset, state, stored, message, status, entry
    DELETE  /uploads/ID     it is not wanted any more

An offset is told only of bytes that are on disk (`spool`). What is whole is stored by tasks of the server (`storing`).
One request writes to an upload at a time; one that has gone silent gives way to the next, for it may be the same client
on another connection. To add files is more than to read: pages of other sites may not, unless they are named, nor may
anybody where the server is open to whoever can reach it, unless that is said.
"""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from playhead.app import tus
from playhead.app.auth import Gate
from playhead.app.listing import as_json
from playhead.app.spool import Limits, Spool, State, Upload
from playhead.app.storing import Noticed, Storing, names
from playhead.blob import literal
from playhead.doors import asgi
from playhead.doors.route import surely
from playhead.errors import Busy, Changed, Denied, Failure, Full, NotFound, Unavailable
from playhead.respond import ERRORS, About, Request, Response, refusal, respond, wire_tag
from playhead.tree import Tree

CHUNK = 1 << 20  # bytes that are written at once
PART = 8 << 20  # bytes after which what came is made certain
STALL = 120.0  # seconds without a byte after which a request is ended
SILENT = 2.0  # and after which it gives way to another
TURN = 4.0  # seconds in which a request waits for one that ends
SWEEP = 600.0  # seconds between looks for what is too old
RESULTS = 1_000  # uploads that have ended, of which it is told what became of them
_WRITING = ("POST", "PATCH", "DELETE")


@dataclass(slots=True, eq=False)
class _Part:
    """What a request brings: bytes from `start` on; `at` is how far they are written."""

    upload: Upload
    start: int
    sum: Any
    wanted: bytes
    task: "asyncio.Task[Any] | None" = field(default_factory=asyncio.current_task)
    heard: float = field(default_factory=time.monotonic)  # when something last came
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    at: int = 0
    held: list[bytes] = field(default_factory=list)
    size: int = 0  # of what is held

    def __post_init__(self) -> None:
        self.at = self.start


class Uploads:
    """Uploads into the trees `stores`, each of which is a Store; `folder`: where they wait.

    `noticed(tree, folder)` is awaited before one is called done; `everybody`: also where the server is open to whoever
    can reach it; `cors`: origins of pages of other sites that may upload (and which the Gate must let in, too).
    """

    def __init__(
        self,
        stores: Mapping[str, Tree],
        folder: Path,
        *,
        limits: Limits = Limits(),
        noticed: Noticed | None = None,
        everybody: bool = False,
        cors: Sequence[str] = (),
    ) -> None:
        self.stores, self.limits, self.everybody, self.cors = stores, limits, everybody, cors
        self.spool = Spool(folder)
        self.storing = Storing(self.spool, stores, limits, noticed)
        self.uploads: dict[str, Upload] = {}
        self.parts: dict[str, _Part] = {}  # those that are being received
        self.sweeping: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Go on with what waits. Raises Busy where another process has the folder, Unavailable."""
        for upload in await asyncio.to_thread(self.spool.begin):
            self.uploads[upload.id] = upload
            if upload.state is State.STORING:
                self.storing.begin(upload)
            elif upload.state is State.RECEIVING and upload.offset == upload.size:
                with suppress(Failure):  # it is asked for once more, or grows old
                    await self._whole(upload)
        self.sweeping = asyncio.create_task(self._sweep())

    async def aclose(self) -> None:
        """End what is under way; it is gone on with when this begins again."""
        if self.sweeping is None:
            return
        self.sweeping.cancel()
        await asyncio.wait([self.sweeping])
        self.sweeping = None
        for part in list(self.parts.values()):
            if part.task:
                part.task.cancel()
            await part.ended.wait()
        await self.storing.end(*self.uploads)
        self.spool.close()

    # ── who may ──

    def offered(self, gate: Gate, tree: str) -> bool:
        """May files be added to this tree by a page of ours?"""
        return tree in self.stores and self.sweeping is not None and (gate.login or self.everybody)

    def _admit(self, gate: Gate, headers: Mapping[str, str]) -> None:
        if not gate.login and not self.everybody:
            raise Denied("this server is open to whoever can reach it, so nothing is uploaded to it")
        if not tus.ours(headers) and headers.get("origin") not in self.cors:
            raise Denied("a page of another site may not upload to this server")

    # ── requests ──

    async def respond(
        self, request: Request, id: str, gate: Gate, address: str, receive: asgi.Receive | None = None
    ) -> Response:
        """Answer a request for `address` (id: "") or below it; its body, if it has one, is read from `receive`."""
        headers = request.headers
        method = headers.get("x-http-method-override", request.method).upper()
        try:
            if method == "OPTIONS":
                return self._able(headers)
            self._admit(gate, headers)
            answer = await self._answer(Request(method, headers), id, address, receive)
        except Failure as failure:
            answer = refusal(failure.status, failure.told)
            if failure.after is not None:
                answer.headers.append(("Retry-After", str(int(failure.after) + 1)))
        answer.headers.append(("Tus-Resumable", "1.0.0"))
        if headers.get("origin") in self.cors:
            answer.headers.append(("Access-Control-Expose-Headers", tus.EXPOSED))
        return answer

    def _able(self, headers: Mapping[str, str]) -> Response:
        """What is possible here; and what a page of another site may do that is named."""
        able = [*tus.ABLE, ("Tus-Max-Size", str(self.limits.bytes))]
        if headers.get("origin") in self.cors:
            able.append(("Access-Control-Allow-Methods", "GET, HEAD, POST, PATCH, DELETE"))
            able.append(("Access-Control-Allow-Headers", tus.SENT))
        return Response(204, able)

    async def _answer(self, request: Request, id: str, address: str, receive: asgi.Receive | None) -> Response:
        method = request.method
        if self.sweeping is None:
            raise Unavailable("the server is about to end; go on with the next one", after=1.0)
        if method in _WRITING and request.headers.get("tus-resumable") != "1.0.0":
            raise tus.Stranger("uploads are spoken of here as tus 1.0.0 does, with `Tus-Resumable: 1.0.0`")
        if not id:
            if method == "POST":
                return await self._create(request, address)
            return refusal(405, "only POST is possible here", [("Allow", "POST, OPTIONS")])
        upload = self.uploads.get(id)
        if upload is None:
            raise NotFound("there is no such upload, or it is forgotten")
        if method == "HEAD":
            return await self._told(upload)
        if method == "GET":
            return self._shown(upload)
        if method == "PATCH" and receive is not None:
            return await self._patch(upload, request.headers, receive)
        if method == "DELETE":
            return await self._delete(upload)
        allow = [("Allow", "GET, HEAD, PATCH, DELETE, OPTIONS")]
        return refusal(405, "only GET, HEAD, PATCH and DELETE are possible here", allow)

    # ── a new one ──

    async def _create(self, request: Request, address: str) -> Response:
        said = request.headers.get("upload-metadata", "")
        size, about = tus.count(request.headers, "upload-length"), tus.metadata(said)
        tree, path = about.get("tree", ""), tus.path(about.get("path", ""))
        store = self.stores.get(tree)
        if store is None:
            raise NotFound(f"there is no tree {tree!r} that files can be added to")
        if size > self.limits.bytes:
            raise tus.TooLarge(f"{path!r} has {size:,} bytes; {self.limits.bytes:,} are the most")
        replaces = about["replaces"].strip().strip('"') if about.get("replaces") else None
        upload = Upload(tree, path, size, tus.modified(about.get("modified")), replaces, said)
        if refused := await self._taken(store, upload, request):
            return refused
        free = await asyncio.to_thread(self.spool.free)
        self._room(upload, free)
        self.uploads[upload.id] = upload
        try:
            await surely(self._make(upload))
        except BaseException:
            if upload.state is State.RECEIVING:  # nobody has learned its address
                await self._forgotten(upload)
            raise
        await self._prune()
        return Response(201, [("Location", f"{address}/{upload.id}"), *self._expires(upload), ("Content-Length", "0")])

    async def _make(self, upload: Upload) -> None:
        await asyncio.to_thread(self.spool.make, upload)
        if not upload.size:
            await self._whole(upload)

    async def _taken(self, store: Tree, upload: Upload, request: Request) -> Response | None:
        """Why it cannot become what it is to be, with what lies there: so that a client can ask what to do."""
        path, there = upload.path, None
        try:
            there = await store.find(path)
        except NotFound:
            if upload.replaces is None:
                return None
            problem = "is gone: there is nothing to replace"
        else:
            if names(upload.replaces, there.tag) and not there.folder:
                return None
            problem = "is a folder" if there.folder else "is there already"
            problem = problem if upload.replaces is None else "is not the version that was to be replaced"
        line, etag = f"{path!r} {problem}", there.tag and f'"{wire_tag(there.tag)}"' if there else None
        if "application/json" not in request.headers.get("accept", ""):
            return refusal(409, line, [("ETag", etag)] if etag else None)
        return _document({"message": line, "etag": etag, "entry": as_json(there) if there else None}, 409)

    def _room(self, upload: Upload, free: int) -> None:
        """Raises Busy or Full."""
        waiting = [other for other in self.uploads.values() if other.under_way]
        if len(waiting) >= self.limits.count:
            raise Busy(f"{len(waiting):,} uploads are under way; begin when some have ended", after=5.0)
        held = sum(other.size for other in waiting)
        if held + upload.size > self.limits.bytes:
            raise Full(f"uploads under way have {held:,} bytes, and may have {self.limits.bytes:,}; begin later")
        coming = sum(other.size - other.offset for other in waiting if other.state is State.RECEIVING)
        if (room := free - coming - self.limits.free) < upload.size:
            raise Full(f"{upload.path!r} has {upload.size:,} bytes; the server has room for {max(0, room):,}")

    def _expires(self, upload: Upload) -> list[tuple[str, str]]:
        until = datetime.fromtimestamp(upload.touched + self.limits.age, UTC)
        return [("Upload-Expires", format_datetime(until, usegmt=True)), ("Cache-Control", ERRORS)]

    # ── how far it is ──

    async def _told(self, upload: Upload) -> Response:
        await self._turn(upload)
        if upload.state is State.FAILED:
            raise tus.Gone(upload.message)
        headers = [("Upload-Offset", str(upload.offset)), ("Upload-Length", str(upload.size))]
        return Response(200, [*headers, ("Upload-Metadata", upload.said), *self._expires(upload)])

    def _shown(self, upload: Upload) -> Response:
        kept = ("tree", "path", "size", "offset", "state", "message", "status", "entry")
        return _document({**{name: getattr(upload, name) for name in kept}, "stored": self.storing.stored(upload)})

    async def _turn(self, upload: Upload) -> None:
        """Wait until no other request writes to an upload. Raises Locked."""
        until = time.monotonic() + TURN
        while (part := self.parts.get(upload.id)) is not None:
            if part.task and time.monotonic() - part.heard > SILENT:
                part.task.cancel()
            elif time.monotonic() > until:
                raise tus.Locked("another request writes to this upload", after=1.0)
            with suppress(TimeoutError):
                await asyncio.wait_for(part.ended.wait(), 0.2)
        if upload.id not in self.uploads:
            raise NotFound("there is no such upload any more")

    # ── bytes ──

    async def _patch(self, upload: Upload, headers: Mapping[str, str], receive: asgi.Receive) -> Response:
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/offset+octet-stream":
            raise tus.Unlike("bytes of an upload come as `Content-Type: application/offset+octet-stream`")
        at = tus.count(headers, "upload-offset")
        await self._turn(upload)
        if upload.state is State.FAILED:
            raise tus.Gone(upload.message)
        if at != upload.offset:
            raise Changed(f"the upload has {upload.offset:,} bytes, and goes on from there")
        if "content-length" in headers and at + tus.count(headers, "content-length") > upload.size:
            raise tus.TooLarge(f"the upload has {upload.size:,} bytes in all")
        if upload.state is State.RECEIVING:
            part = self.parts[upload.id] = _Part(upload, at, *tus.checksum(headers))
            try:
                await self._receive(part, receive)
            finally:
                del self.parts[upload.id]
                part.ended.set()
        return Response(204, [("Upload-Offset", str(upload.offset)), *self._expires(upload)])

    async def _receive(self, part: _Part, receive: asgi.Receive) -> None:
        """Write what comes. What has come when it breaks off is certain, too, unless it is to be compared first."""
        try:
            await self._read(part, receive)
        except BaseException:
            if part.sum is None:
                with suppress(Failure):
                    await surely(self._certain(part))
            raise
        if part.sum is not None and part.sum.digest() != part.wanted:
            raise tus.Mismatch("the bytes that came are not those that were sent; send them again")
        await surely(self._certain(part))

    async def _read(self, part: _Part, receive: asgi.Receive) -> None:
        try:
            async for data in asgi.incoming(receive, STALL):
                part.heard = time.monotonic()
                if part.at + part.size + len(data) > part.upload.size:
                    raise tus.TooLarge(f"the upload has {part.upload.size:,} bytes in all")
                part.held.append(data)
                part.size += len(data)
                if part.size >= CHUNK:
                    await surely(self._write(part))
                    if part.sum is None and part.at - part.upload.offset >= PART:
                        await surely(self._certain(part))
        except (TimeoutError, asgi.Left) as error:
            raise Unavailable("the rest of the request did not come") from error
        await surely(self._write(part))

    async def _write(self, part: _Part) -> None:
        held, part.held, part.size = part.held, [], 0

        def write() -> int:
            for data in held if part.sum is not None else ():
                part.sum.update(data)
            return self.spool.write(part.upload, part.at, held)

        part.at = await asyncio.to_thread(write)

    async def _certain(self, part: _Part) -> None:
        """What has come is on disk; and if that is all of it, it is to be stored."""
        if part.held:
            await self._write(part)
        if part.at > part.upload.offset:
            await asyncio.to_thread(self.spool.certain, part.upload, part.at)
            if part.at == part.upload.size:
                await self._whole(part.upload)
            elif await asyncio.to_thread(self.spool.free) < self.limits.free:
                raise Full("the server's disk is nearly full; go on later")

    async def _whole(self, upload: Upload) -> None:
        await asyncio.to_thread(self.spool.whole, upload)
        self.storing.begin(upload)

    # ── ending ──

    async def _delete(self, upload: Upload) -> Response:
        self.uploads.pop(upload.id, None)  # so that nobody begins to write to it now
        part = self.parts.get(upload.id)
        if part is not None and part.task:
            part.task.cancel()
            await part.ended.wait()
        await self.storing.end(upload.id)
        await self._forgotten(upload)
        return Response(204, [])

    async def _forgotten(self, upload: Upload) -> None:
        self.uploads.pop(upload.id, None)
        await surely(asyncio.to_thread(self.spool.remove, upload))

    async def _prune(self) -> None:
        """Of those that have ended, only the latest are told of."""
        ended = sorted((each for each in self.uploads.values() if not each.under_way), key=lambda each: each.touched)
        for old in ended[:-RESULTS]:
            await self._forgotten(old)

    async def _sweep(self) -> None:
        """Remove what nobody goes on with, from time to time."""
        while True:
            now = time.time()
            for upload in list(self.uploads.values()):
                stands = upload.state is not State.STORING and upload.id not in self.parts
                if stands and now - upload.touched > self.limits.age:
                    await self._forgotten(upload)
            await asyncio.sleep(SWEEP)


def _document(fields: Mapping[str, Any], status: int = 200) -> Response:
    about = About(type="application/json", cache=ERRORS)
    return replace(respond(Request("GET", {}), literal(json.dumps(fields).encode("ascii"), None), about), status=status)
