"""Blob -> an object of S3: by one request if it is small, else in parts that stay when the writing is broken off.

The parts are read in order, several are on their way at once, and each that has arrived is in the state that is kept:
the id of the upload, and what each part was. Going on sends the rest. The object appears when the last request puts the
parts together, on the condition that what was there is there still; where a service knows no conditions, it is looked
at directly before. Each part goes with digests that the service compares; what it tells of the whole is compared after.
"""

import asyncio
import json
import re
from base64 import b64encode
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import md5
from typing import Any, Protocol
from xml.sax.saxutils import escape

from playhead.blob import Blob
from playhead.errors import Changed, Damaged, Denied, Failure, NotFound
from playhead.origins.buckets.bucket import SMALL, Found, Unsupported, UploadGone, in_parts, plain_md5, seconds
from playhead.origins.buckets.s3api import Api, all_of, digested, found, text_of
from playhead.origins.sums import digest
from playhead.tree import Why

PART = 8 << 20  # bytes of a part, at least
MOST = 10_000  # parts of an object
LANES = 4  # parts on their way at once
MEMORY = 256 << 20  # bytes of parts in memory: where they are large, fewer are on their way
ANSWERING = 120.0  # seconds that the service may be silent for when it has got bytes
FINISHING = 600.0  # seconds that putting the parts together may be silent for
USUAL = (5 << 20, 8 << 20, 16 << 20, 64 << 20)  # bytes of the parts that other programs write
_KNOWN = re.compile(r"h:md5:([0-9a-f]{32})")
LONGEST = 4 << 20  # characters of a state

Keep = Callable[[str], None]


class Writable(Protocol):
    """What is written to."""

    api: Api
    conditional: bool  # does the service know conditions? So it is believed, until it says no

    async def head(self, key: str, priority: int = 0) -> Found: ...


async def put(bucket: Writable, key: str, blob: Blob, there: Found | None, state: str | None, keep: Keep) -> Found:
    """Write a blob in place of what is `there`. Raises Changed where something else is."""
    if blob.size <= SMALL:
        return await _whole(bucket, key, blob, there, keep)
    upload = await _begun(bucket, key, blob, there, state, keep)
    try:
        await upload.send()
        return await upload.finish()
    except (Changed, Damaged):
        await upload.abort()
        raise


async def written(there: Found, blob: Blob, state: str) -> bool:
    """Is what is there what the writing with this state wrote, though the last answer was lost?"""
    known = _State.read(state, there.key, blob)
    if known is None or there.size != blob.size:
        return False
    if known.whole or len(known.parts) < known.count:
        return bool(known.whole) and there.md5 == known.whole
    return there.validator == known.joined() or (there.md5 is not None and there.md5 == await digest("md5", blob))


async def _conditionally(
    bucket: Writable, key: str, there: Found | None, send: Callable[[dict[str, str]], Awaitable[str]]
) -> str:
    """Send what takes the place of what is there and of nothing else; the ETag that the service answers."""
    if bucket.conditional:
        try:
            return await send({"If-None-Match": "*"} if there is None else {"If-Match": there.etag or ""})
        except Unsupported:
            bucket.conditional = False
    await _unchanged(bucket, key, there)
    return await send({})


async def _unchanged(bucket: Writable, key: str, there: Found | None) -> None:
    try:
        now: Found | None = await bucket.head(key, Why.BULK)
    except NotFound:
        now = None
    if (now and now.etag) != (there and there.etag):
        raise Changed(f"{bucket.api.named(key)}: somebody else has written it")


async def _compared(bucket: Writable, made: Found, size: int, etag: str, expected: str | None) -> Found:
    """What is there now, if it is what was written: its size, and its ETag where that follows from the bytes."""
    name = bucket.api.named(made.key)
    if etag and made.validator != etag:
        raise Changed(f"{name}: somebody else has written it since")
    if made.size == size and (expected is None or made.validator == expected):
        return made
    with suppress(Failure):
        await bucket.api.done("DELETE", made.key, priority=Why.BULK)
    raise Damaged(f"{name}: the service has other bytes than were sent; they are removed")


def _about(blob: Blob) -> dict[str, str]:
    """What is kept beside the bytes, as rclone writes it: when they changed, and their MD5 where it is known."""
    about = {"Content-Type": "application/octet-stream"}
    if blob.modified:
        about["x-amz-meta-mtime"] = seconds(blob.modified)
    if known := _KNOWN.fullmatch(blob.tag or ""):
        about["x-amz-meta-md5chksum"] = b64encode(bytes.fromhex(known[1])).decode()
    return about


# ── in one request ──


async def _whole(bucket: Writable, key: str, blob: Blob, there: Found | None, keep: Keep) -> Found:
    data = await digested(await blob.read())
    if len(data.bytes) != blob.size:
        raise Damaged(f"{bucket.api.named(key)}: what was to be sent has {len(data.bytes):,} bytes")
    keep(_State(key, blob.tag, blob.size, whole=data.md5).text())
    known: list[Found] = []

    async def send(condition: dict[str, str]) -> str:
        headers = {**_about(blob), **data.headers, **condition}
        answer = await bucket.api.done("PUT", key, headers=headers, data=data, priority=Why.BULK, patience=ANSWERING)
        known.append(found(key, answer.headers, blob.size))
        return known[-1].validator or ""

    etag = await _conditionally(bucket, key, there, send)
    if known[-1].validator == data.md5:  # the service tells the digest of what it has: no need to look
        return known[-1]
    made = await bucket.head(key, Why.BULK)
    return await _compared(bucket, made, blob.size, etag, data.md5 if known[-1].md5 else None)


# ── in parts ──


@dataclass(slots=True)
class _State:
    """What is known of a writing: an upload and its parts (number -> MD5, ETag), or the MD5 of the `whole`."""

    key: str
    tag: str | None
    size: int
    upload: str = ""
    part: int = 0
    parts: dict[int, tuple[str, str]] = field(default_factory=dict)
    whole: str = ""

    @property
    def count(self) -> int:
        return -(-self.size // self.part)

    def joined(self) -> str:
        """The ETag that S3 gives to what is made of these parts."""
        digests = b"".join(bytes.fromhex(self.parts[number][0]) for number in range(1, self.count + 1))
        return f"{md5(digests, usedforsecurity=False).hexdigest()}-{self.count}"

    def plain(self) -> bool:
        """Are the ETags of all the parts their MD5s?"""
        return all(made == etag for made, etag in self.parts.values())

    def text(self) -> str:
        parts = {number: made if made == etag else f"{made} {etag}" for number, (made, etag) in self.parts.items()}
        return json.dumps([self.key, self.tag, self.size, self.upload, self.part, parts, self.whole])

    @classmethod
    def parsed(cls, text: str) -> "_State | None":
        """The state that a text is; None where it is none."""
        try:
            if len(text) > LONGEST:
                return None
            key, tag, size, upload, part, parts, whole = json.loads(text)
            made = {int(number): _part(value) for number, value in parts.items()}
            if not (isinstance(key, str) and isinstance(upload, str) and isinstance(whole, str)):
                return None
            state = cls(key, tag, int(size), upload, int(part), made, whole)
            sane = whole or (upload and state.part >= PART and state.count <= MOST)
            return state if sane and all(0 < number <= state.count for number in made) else None
        except (ValueError, TypeError, AttributeError, RecursionError):
            return None

    @classmethod
    def read(cls, text: str | None, key: str, blob: Blob) -> "_State | None":
        """The state of writing this blob there; None: it is another's, or cannot be known to be this one's."""
        state = cls.parsed(text or "")
        same = state and blob.tag is not None and (state.key, state.tag, state.size) == (key, blob.tag, blob.size)
        return state if same else None


def _part(value: str) -> tuple[str, str]:
    made, _, etag = value.partition(" ")
    if plain_md5(made) != made:
        raise ValueError("it is no MD5")
    return made, etag or made


def part_size(size: int) -> int:
    """Bytes of a part: at least `PART`, and such that there are never more than `MOST`."""
    least = -(-size // MOST)
    return max(PART, -(-least // 2**20) * 2**20)


async def _begun(
    bucket: Writable, key: str, blob: Blob, there: Found | None, text: str | None, keep: Keep
) -> "_Upload":
    """The upload to go on with, or a new one."""
    old = _State.parsed(text or "")
    if (state := _State.read(text, key, blob)) and state.upload:
        upload = _Upload(bucket, blob, there, state, keep)
        with suppress(UploadGone):
            await upload.look()
            return upload
    elif old and old.upload and old.key == key:  # of a content that is no more
        await _Upload(bucket, blob, there, old, keep).abort()
    root = await bucket.api.xml("POST", key, {"uploads": ""}, _about(blob), priority=Why.BULK)
    made = text_of(root, "UploadId").strip()
    if not made or len(made) > 4096:
        raise Damaged(f"{bucket.api.named(key)}: the service does not say which upload it began")
    return _Upload(bucket, blob, there, _State(key, blob.tag, blob.size, made, part_size(blob.size)), keep)


@dataclass(slots=True, eq=False)
class _Upload:
    """An upload that was begun, and goes on."""

    bucket: Writable
    blob: Blob
    there: Found | None
    state: _State
    keep: Keep
    sent: int = 0  # bytes of the parts of this call, which are in `hashed`
    hashed: Any = field(default_factory=partial(md5, usedforsecurity=False))

    @property
    def lanes(self) -> int:
        return max(1, min(LANES, MEMORY // self.state.part - 2))

    async def look(self) -> None:
        """Forget the parts that the service does not have (any more). Raises UploadGone."""
        try:
            has = {number: etag async for number, etag in self._listed()}
        except (Denied, Unsupported):
            return  # it may not be asked: what was kept is believed, for the end would fail otherwise
        self.state.parts = {n: known for n, known in self.state.parts.items() if has.get(n) == known[1]}

    async def _listed(self) -> AsyncGenerator[tuple[int, str], None]:
        query = {"uploadId": self.state.upload}
        while True:
            root = await self.bucket.api.xml("GET", self.state.key, query, priority=Why.BULK)
            for item in all_of(root, "Part"):
                number, size = text_of(item, "PartNumber").strip(), text_of(item, "Size").strip()
                if number.isdecimal() and size == str(self._length(int(number))):
                    yield int(number), text_of(item, "ETag").strip().strip('"')
            marker = text_of(root, "NextPartNumberMarker").strip()
            if text_of(root, "IsTruncated").strip() != "true":
                return
            if not marker or marker == query.get("part-number-marker"):
                raise Damaged(f"{self.bucket.api.named(self.state.key)}: a list of parts goes on without saying where")
            query["part-number-marker"] = marker

    def _length(self, number: int) -> int:
        return min(self.state.part, self.state.size - (number - 1) * self.state.part)

    async def send(self) -> None:
        """Send the parts that are missing."""
        running: set[asyncio.Task[None]] = set()
        try:
            async with aclosing(self._missing()) as parts:
                async for number, data in parts:
                    running.add(asyncio.create_task(self._sent(number, data)))
                    while len(running) >= self.lanes:
                        running = await _settled(running)
            while running:
                running = await _settled(running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _missing(self) -> AsyncGenerator[tuple[int, bytes], None]:
        """The parts that were not sent, read in order; each run of them is one stream of the blob."""
        number, size = 1, self.state.part
        while number <= self.state.count:
            if number in self.state.parts:
                number += 1
                continue
            end = next((n for n in range(number, self.state.count) if n + 1 in self.state.parts), self.state.count)
            stop = min(end * size, self.state.size)
            async with aclosing(in_parts(self.blob, (number - 1) * size, stop, size)) as parts:
                async for data in parts:
                    self.sent += len(data)
                    await asyncio.to_thread(self.hashed.update, data)
                    yield number, data
                    number += 1

    async def _sent(self, number: int, bytes: bytes) -> None:
        data, key = await digested(bytes), self.state.key
        query = {"partNumber": str(number), "uploadId": self.state.upload}
        answer = await self.bucket.api.done(
            "PUT", key, query=query, headers=data.headers, data=data, priority=Why.BULK, patience=ANSWERING
        )
        told = found(key, answer.headers, len(bytes))
        if not told.validator or told.md5 not in (None, data.md5):
            raise Damaged(f"{self.bucket.api.named(key)}: the service has another part {number} than was sent")
        self.state.parts[number] = data.md5, told.validator
        self.keep(self.state.text())

    async def finish(self) -> Found:
        """Put the parts together, and compare."""
        await _unchanged(self.bucket, self.state.key, self.there)
        etag = await _conditionally(self.bucket, self.state.key, self.there, self._complete)
        expected = self.state.joined() if self.state.plain() and etag.endswith(f"-{self.state.count}") else None
        made = await self.bucket.head(self.state.key, Why.BULK)
        whole = plain_md5(made.etag)
        if whole and whole != etag:  # rclone's server tells the ETag of the parts first, and then the MD5
            if whole != await self._md5():
                raise Changed(f"{self.bucket.api.named(self.state.key)}: there are other bytes than were sent")
            etag, expected = whole, None
        return await _compared(self.bucket, made, self.state.size, etag, expected)

    async def _md5(self) -> str:
        """That of the whole, known if all of it was sent by this call; else it is read for it."""
        return self.hashed.hexdigest() if self.sent == self.state.size else await digest("md5", self.blob)

    async def _complete(self, condition: dict[str, str]) -> str:
        parts = "".join(
            f'<Part><PartNumber>{number}</PartNumber><ETag>"{escape(self.state.parts[number][1])}"</ETag></Part>'
            for number in range(1, self.state.count + 1)
        )
        data = await digested(f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode())
        root = await self.bucket.api.xml(
            "POST",
            self.state.key,
            {"uploadId": self.state.upload},
            {"Content-Type": "application/xml", **condition},
            data,
            priority=Why.BULK,
            patience=FINISHING,
        )
        return text_of(root, "ETag").strip().strip('"')

    async def abort(self) -> None:
        """Have the service forget the parts, if it will."""
        with suppress(Failure):
            await self.bucket.api.done(
                "DELETE", self.state.key, query={"uploadId": self.state.upload}, priority=Why.BULK
            )


async def _settled(running: "set[asyncio.Task[None]]") -> "set[asyncio.Task[None]]":
    """Those that still run, when at least one has ended. Raises what a part failed with."""
    ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    for task in ended:
        task.result()
    return running


# ── comparing with what others wrote ──


async def same(there: Found, blob: Blob) -> bool:
    """Is an object that was written in parts these bytes, in parts of a size that programs use? False: who knows."""
    _, _, count = (there.validator or "").partition("-")
    if not count.isdecimal() or len(count) > 5:
        return False
    sizes = {size for size in (part_size(blob.size), *USUAL) if -(-blob.size // size) == int(count)}
    for size in sizes:
        digests = b""
        async with aclosing(in_parts(blob, 0, blob.size, size)) as parts:
            async for data in parts:
                digests += bytes.fromhex((await digested(data)).md5)
        if there.validator == f"{md5(digests, usedforsecurity=False).hexdigest()}-{count}":
            return True
    return False
