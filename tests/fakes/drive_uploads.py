"""Uploads to a fake Google Drive: at once (media, multipart) and resumable, as Google documents them.

Nothing of an upload is to be seen before its last byte is there. Of a chunk that breaks off, whole multiples of 256 KiB
stay; a session tells by 308 and Range how far it is, takes only what follows, and keeps its answer for who asks again.
"""

import asyncio
import base64
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .drive_faults import BREAKS, Answer, Refusal, broken
from .drive_files import Record
from .drive_query import Meta
from .drive_reading import Call, Reading
from .drive_writing import Writing, metadata

if TYPE_CHECKING:
    from .gdrive import FakeDrive

UNIT = 256 << 10


@dataclass(slots=True, eq=False)
class Session:
    meta: Meta
    record: Record | None  # whose content it will be; None: of a new file
    total: int | None  # as announced
    kind: str
    data: bytearray = field(default_factory=bytearray)
    done: Record | None = None
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)


class Uploads:
    def __init__(self, fake: "FakeDrive") -> None:
        self.fake, self.reading, self.writing = fake, Reading(fake), Writing(fake)

    async def begun(self, call: Call) -> Answer:
        if "upload_id" in call.query:  # rclone sends its chunks so, and Google takes them
            return await self.went_on(call)
        way, request = call.query.get("uploadType"), call.request
        id = request.match_info.get("id")
        record = None if id is None else self.reading.found(call, id)
        kind = request.headers.get("Content-Type", "")
        if way == "media":
            return self.writing.told(call, self._put(call, record, {}, await self._whole(call), kind))
        if way == "multipart":
            meta, content, kind = _parts(await self._whole(call), kind)
            return self.writing.told(call, self._put(call, record, metadata(meta), content, kind))
        if way != "resumable":
            raise Refusal("badRequest", "Invalid uploadType")
        meta_sent = metadata(await request.read())
        if record is None:
            self.writing.checked(call, meta_sent)
        length = request.headers.get("X-Upload-Content-Length")
        kind = request.headers.get("X-Upload-Content-Type", "")
        session = "AFake" + secrets.token_urlsafe(24)
        self.fake.sessions[session] = Session(meta_sent, record, int(length) if length else None, kind)
        where = request.rel_url.update_query(upload_id=session)
        headers = {"Location": f"{request.scheme}://{request.host}{where}", "X-GUploader-UploadID": session}
        return Answer(200, b"", headers)

    async def went_on(self, call: Call) -> Answer:
        """One chunk of a session, or the question how far it is (`bytes */N`)."""
        session = self.fake.sessions.get(call.query.get("upload_id", ""))
        if session is None:
            return Answer(404, b"Not Found", {"Content-Type": "text/html; charset=UTF-8"})
        async with session.busy:
            return await self._chunk(call, session)

    async def given_up(self, call: Call) -> Answer:
        gone = self.fake.sessions.pop(call.query.get("upload_id", ""), None)
        return Answer(499 if gone else 404)

    # ── inside ──

    async def _chunk(self, call: Call, session: Session) -> Answer:
        first, end, total = _content_range(call)
        if session.done is not None:
            return self.writing.told(call, session.done)
        total = session.total if total is None else total
        if session.total not in (None, total) or (total is not None and (end or 0) > total):
            raise Refusal("badRequest", "The total size differs from the announced one.")
        if end is None or first is None:
            return self._how_far(call, session, total)
        if first > len(session.data):
            raise Refusal("badRequest", "Invalid request. The chunk does not follow what was received.")
        last = end == total
        if not last and (end - first) % UNIT:
            raise Refusal("badRequest", "Invalid request. Chunks must be multiples of 256 KiB.")
        await self._received(call, session, first, end)
        return self._how_far(call, session, total)

    async def _received(self, call: Call, session: Session, first: int, end: int) -> None:
        """Take a chunk, but not what is here already. What broke off stays in units of 256 KiB."""
        at, before = first, len(session.data)
        try:
            async for piece in _body(call):
                new = piece[max(0, len(session.data) - at) :]
                at += len(piece)
                if at > end:
                    raise Refusal("badRequest", "Invalid request. More bytes than Content-Range says.")
                session.data += new
            if at != end:
                raise Refusal("badRequest", "Invalid request. Fewer bytes than Content-Range says.")
        except BaseException:
            del session.data[max(before, len(session.data) // UNIT * UNIT) :]
            raise

    def _how_far(self, call: Call, session: Session, total: int | None) -> Answer:
        if total is not None and len(session.data) == total:
            data, session.data = bytes(session.data), bytearray()
            session.done = self._put(call, session.record, session.meta, data, session.kind)
            return self.writing.told(call, session.done)
        headers = {"Range": f"bytes=0-{len(session.data) - 1}"} if session.data else {}
        return Answer(308, b"", headers)

    def _put(self, call: Call, record: Record | None, meta: Meta, data: bytes, kind: str) -> Record:
        if record is None:
            return self.writing.made(call, {"mimeType": kind or "application/octet-stream", **meta}, data)
        if record.id not in self.fake.records:
            raise Refusal("notFound", f"File not found: {record.id}.")
        return self.writing.changed(call, record, ({"mimeType": kind} if kind else {}) | meta, data)

    async def _whole(self, call: Call) -> bytes:
        return b"".join([piece async for piece in _body(call)])


async def _body(call: Call) -> AsyncIterator[bytes]:
    """What the request carries, as far as its fault lets it."""
    fault, left = call.fault, float("inf")
    if fault is not None and fault.after_bytes is not None and fault.what in BREAKS:
        left = fault.after_bytes
    async for piece in call.request.content.iter_any():
        if len(piece) >= left:
            yield piece[: int(left)]
            assert fault is not None
            await broken(call.request, str(fault.what))
            raise ConnectionResetError("as the script wants")
        left -= len(piece)
        yield piece


def _content_range(call: Call) -> tuple[int | None, int | None, int | None]:
    """Begin and end (half open) of a chunk, None where it only asks; and the total, where it is told."""
    request = call.request
    header = request.headers.get("Content-Range")
    if header is None:
        if request.content_length is None:
            raise Refusal("badRequest", "Length Required", status=411)
        return 0, request.content_length, request.content_length
    match = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", header.strip())
    if not match or (match[1] and int(match[2]) < int(match[1])):
        raise Refusal("badRequest", "Failed to parse Content-Range header.")
    total = None if match[3] == "*" else int(match[3])
    return (int(match[1]), int(match[2]) + 1, total) if match[1] else (None, None, total)


def _parts(body: bytes, kind: str) -> tuple[bytes, bytes, str]:
    """The metadata and the content of multipart/related (RFC 2387), and the content's type."""
    boundary = re.search(r'boundary="?([^";]+)"?', kind)
    mark = b"--" + boundary[1].encode() if boundary else b"\0"
    begin = body.find(mark)
    line = b"\r\n" if body[begin + len(mark) :].startswith(b"\r\n") else b"\n"
    parts = (line + body[begin:]).split(line + mark)[1:]
    if not boundary or begin < 0 or len(parts) != 3 or not parts[2].startswith(b"--"):
        raise Refusal("badRequest", "Malformed multipart body.")
    meta, content = (part.partition(line + line) for part in parts[:2])
    headers = {
        name.lower(): value.strip() for name, _, value in (row.partition(b":") for row in content[0].split(line))
    }
    data = base64.b64decode(content[2]) if headers.get(b"content-transfer-encoding") == b"base64" else content[2]
    return meta[2], data, headers.get(b"content-type", b"").decode("latin-1")
