"""Blob -> a file of Drive: by one request where it is small, else by a resumable session, part by part.

Drive lets several files have one name, and knows no "only if there is none". So each new file gets its id from Drive
before it is sent (a request whose answer was lost is not made twice), and where two writers made the same name, the one
that was made first stays. What Drive has then is compared with what was sent, by MD5 and size.
(https://developers.google.com/workspace/drive/api/guides/manage-uploads)
"""

import asyncio
import hashlib
import json
import mimetypes
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from datetime import UTC
from functools import partial
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from yarl import URL

from playhead.blob import Blob, FileSpan, concat, literal, pieces
from playhead.errors import Changed, Damaged, Denied, Failure, Malformed, NotFound, Unavailable
from playhead.origins.addresses import parsed
from playhead.origins.body import Body
from playhead.origins.drive.calls import keyed, told
from playhead.origins.drive.folders import FRESH, SHARED
from playhead.origins.drive.items import FIELDS, FOLDER, Item, braced, is_id, item, own, unkeyed
from playhead.origins.fetch import Answered
from playhead.tree import Entry, join, segments, visible

if TYPE_CHECKING:
    from playhead.origins.gdrive import DriveTree

CHUNK = 256 << 10  # bytes that are sent at a time
SMALL = 5 << 20  # bytes that go in one request, as Google advises
PART = 32 << 20  # bytes of a part; a multiple of 256 KiB
PATIENCE = 300.0  # seconds that Google may take to store what it has
IDS = 100  # are asked for at a time
KIND = "application/octet-stream"
_ASKED: dict[str, object] = {"fields": FIELDS, "supportsAllDrives": True}


@dataclass(frozen=True, slots=True)
class _State:
    """How far an upload is: the id of the file, whether that was there before, and the session."""

    id: str | None = None
    over: bool = False
    session: str | None = None

    def __str__(self) -> str:
        return json.dumps([self.id, self.over, self.session])

    @staticmethod
    def read(text: str | None) -> "_State":
        with suppress(ValueError, TypeError, RecursionError):
            place, over, session = json.loads(text or "")
            if is_id(place) and isinstance(over, bool) and (session is None or isinstance(session, str)):
                return _State(place, over, session)
        return _State()


async def put(
    tree: "DriveTree", path: str, blob: Blob, replaces: str | None, state: str | None, keep: Callable[[str], None]
) -> Entry:
    """See `Store.put`."""
    name = path.rpartition("/")[2]
    parent, known = await _parent(tree, path), _State.read(state)
    there = await _there(tree, parent, name)
    if there is None if replaces is None else there and there.tag == replaces:  # folders and documents have none
        sent, new = await _Upload(tree, parent, name, blob, there, keep).made(known), there is None
    elif state and there and await holds(there, blob):  # the answer to it was lost
        sent, new = there, there.id == known.id and not known.over
    else:
        raise Changed(f"{visible(unkeyed(path))} is not the version that may be overwritten, or no longer there")
    if new:
        await _first(tree, parent, name, sent)
    await tree.folders.learnt(sent)
    return sent.entry(name)


async def holds(found: Item, blob: Blob) -> bool | None:
    """See `Store.holds`."""
    if found.size is not None and found.size != blob.size:
        return False
    if found.hash is None:
        return None
    kind, _, digest = found.hash.partition(":")
    return await _digest(blob, blob.size, hashlib.new(kind, usedforsecurity=False)) == digest


async def copied(tree: "DriveTree", found: Item, to: str) -> Entry | None:
    """See `Store.copy`."""
    name = to.rpartition("/")[2]
    parent = await _parent(tree, to)
    if await _there(tree, parent, name) is not None:
        raise Changed(f"{visible(unkeyed(to))} is there already")
    body = {"name": name, "parents": [parent.place]} | ({"modifiedTime": found.modified} if found.modified else {})
    path, headers = f"drive/v3/files/{found.place}/copy", keyed(found.place, found.key)
    answer = await tree.calls.json(path, visible(found.name), _ASKED, method="POST", headers=headers, body=body)
    copy = _item(tree, answer, unkeyed(to))
    if (copy.size, copy.hash) != (found.size, found.hash):
        await _removed(tree, copy)
        raise Damaged(f"{visible(unkeyed(to))}: Google's copy is not like what it is of")
    await _first(tree, parent, name, copy)
    await tree.folders.learnt(copy)
    return copy.entry(name)


# ── folders and names ──


async def _parent(tree: "DriveTree", path: str) -> Item:
    """The folder that a file is to be in, made where it is not there. Raises Malformed, Denied."""
    names = segments(path)
    if not names or braced(path):
        raise Malformed("a file needs a name")
    for number, name in enumerate(names):
        if not own(name) and not (number == 0 and braced(name)):
            raise Malformed(f"{visible(name)!r} is not a name that a file can have here")
    parent = await _made(tree, path.rpartition("/")[0])
    if parent.place == SHARED:
        raise Denied("nothing can be put beside what others share; name a folder of it")
    return parent


async def _made(tree: "DriveTree", path: str) -> Item:
    """The folder at a path, made where it is not there; once, whoever wants it."""
    at, done = await tree.folders.top(), ""
    for name in segments(path):
        done = join(done, name)
        if braced(done):
            at = (await tree.folders.chain(done))[-1]
        else:
            make = partial(_folder, tree, at, name)
            if (found := await _there(tree, at, name)) is None:
                found = await tree.folders.once.run(f"make {done}", make)
            at = found
        if not at.folder:
            raise Malformed(f"{visible(unkeyed(done))} is a file, and not a folder")
    return at


async def _folder(tree: "DriveTree", parent: Item, name: str) -> Item:
    if parent.place == SHARED:
        raise Denied("no folder can be made beside what others share; name a folder of it")
    body = {"id": await _fresh_id(tree), "name": name, "mimeType": FOLDER, "parents": [parent.place]}
    new = _item(tree, await tree.calls.json("drive/v3/files", visible(name), _ASKED, method="POST", body=body), name)
    first = min([new, *await tree.folders.called(parent, name)], key=_age)
    if first.id != new.id:
        await _removed(tree, new)
    await tree.folders.learnt(first)
    if first is new:
        await tree.folders.empty(new)
    return first


async def _there(tree: "DriveTree", parent: Item, name: str) -> Item | None:
    await tree.folders.caught_up(FRESH)
    return (await tree.folders.listing(parent)).get(name)


def _age(each: Item) -> tuple[str, str]:
    return each.created or "", each.id


async def _first(tree: "DriveTree", parent: Item, name: str, sent: Item) -> None:
    """Raises Changed where somebody else has made the same name before, as Drive itself says; what we made goes."""
    if any(_age(each) < _age(sent) for each in await tree.folders.called(parent, name) if each.id != sent.id):
        await _removed(tree, sent)
        raise Changed(f"{visible(name)}: somebody else has put a file of this name there at the same time")


async def _removed(tree: "DriveTree", each: Item) -> None:
    """Remove what we have just made; into the bin, where no more is allowed, as in shared drives."""
    url, what = tree.calls.url(f"drive/v3/files/{each.id}", {"supportsAllDrives": True}), visible(each.name)
    try:
        (await tree.calls.send("DELETE", url, what, statuses=(200, 204))).close()
    except NotFound:
        return
    except Denied:
        await tree.calls.json(f"drive/v3/files/{each.id}", what, _ASKED, method="PATCH", body={"trashed": True})


async def _fresh_id(tree: "DriveTree") -> str:
    while not tree.ids:
        await tree.folders.once.run("ids", lambda: _more_ids(tree))
    return tree.ids.pop()


async def _more_ids(tree: "DriveTree") -> None:
    params = {"count": IDS, "space": "drive", "type": "files"}
    found = (await tree.calls.json("drive/v3/files/generateIds", "new ids", params)).get("ids")
    tree.ids.extend(each for each in found if is_id(each)) if isinstance(found, list) else None
    if not tree.ids:
        raise Damaged("Google gives no ids for new files")


def _item(tree: "DriveTree", found: dict[str, Any], what: str) -> Item:
    """A file that was just made."""
    if (new := item(found, tree.calls.by)) is None:
        raise Damaged(f"{visible(what)}: Google has thrown it away")
    return new


# ── one file ──


@dataclass(slots=True)
class _Upload:
    """A new file, or the next version of `over`."""

    tree: "DriveTree"
    parent: Item
    name: str
    blob: Blob
    over: Item | None
    keep: Callable[[str], None]
    state: _State = _State()
    earlier: bool = False  # was it found whole, and not made by now?

    @property
    def what(self) -> str:
        return visible(self.name)

    async def made(self, known: _State) -> Item:
        """The file, once Drive has all of it, as it was sent; begun earlier, where that is `known`."""
        fits = known.id == self.over.place if self.over else known.id is not None
        if fits and known.over == (self.over is not None):
            self.state = known
        else:
            place = self.over.place if self.over else await _fresh_id(self.tree)
            await self._kept(_State(place, self.over is not None))
        send = self._at_once if self.blob.size <= SMALL else self._by_parts
        found, digest = await send()
        sent = _item(self.tree, found, self.name)
        if sent.size != self.blob.size or (found.get("md5Checksum") or digest) != digest:
            if self.earlier:
                raise Changed(f"{self.what}: what was sent earlier is another version")
            if self.over is None:
                await _removed(self.tree, sent)
            raise Damaged(f"{self.what}: Google has other bytes than were sent")
        return sent

    async def _kept(self, state: _State) -> None:
        self.state = state
        await asyncio.to_thread(self.keep, str(state))

    def _about(self) -> bytes:
        about: dict[str, Any] = {
            "mimeType": self.over.type if self.over else mimetypes.guess_type(self.name)[0] or KIND
        }
        if when := self.blob.modified:
            about["modifiedTime"] = when.astimezone(UTC).isoformat(timespec="milliseconds")[:23] + "Z"
        if self.over is None:
            about |= {"id": self.state.id, "name": self.name, "parents": [self.parent.place]}
        return json.dumps(about).encode()

    async def _begin(self, kind: str, headers: dict[str, str], body: bytes | Callable[[], Body]) -> Answered:
        path = "upload/drive/v3/files" + (f"/{self.over.place}" if self.over else "")
        url, method = self.tree.calls.url(path, {"uploadType": kind, **_ASKED}), "PATCH" if self.over else "POST"
        keys = keyed(self.over.place, self.over.key) if self.over else {}
        return await self.tree.calls.send(method, url, self.what, headers | keys, body, patience=PATIENCE)

    async def _at_once(self) -> tuple[dict[str, Any], str]:
        data = await self.blob.read()
        mark = token_hex(16)
        head = f"--{mark}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode() + self._about()
        head += f"\r\n--{mark}\r\nContent-Type: {KIND}\r\n\r\n".encode()
        chunks = [head, *(data[at : at + CHUNK] for at in range(0, len(data), CHUNK)), f"\r\n--{mark}--\r\n".encode()]
        whole = concat([literal(chunk, None) for chunk in chunks])
        headers = {"Content-Type": f'multipart/related; boundary="{mark}"'}
        digest = (await asyncio.to_thread(hashlib.md5, data, usedforsecurity=False)).hexdigest()
        try:
            response = await self._begin("multipart", headers, lambda: Body(whole, 0, whole.size))
        except Changed:
            return await self._there_already(), digest
        return await told(response, self.what), digest

    async def _there_already(self) -> dict[str, Any]:
        """What an earlier request with this id has made: it was heard after all."""
        if self.over is not None:
            raise Changed(f"{self.what}: it is another version by now")
        found = await self.tree.calls.json(f"drive/v3/files/{self.state.id}", self.what, _ASKED)
        if found.get("name") != self.name:
            raise Changed(f"{self.what}: its id is another file's")
        self.earlier = True
        return found

    async def _by_parts(self) -> tuple[dict[str, Any], str]:
        at, answer = await self._reached() if self.state.session else (-1, None)
        if at < 0:
            try:
                await self._kept(replace(self.state, session=await self._session()))
            except Changed:
                at, answer = self.blob.size, await self._there_already()
        at, digest = max(at, 0), hashlib.md5(usedforsecurity=False)
        if at:
            await _digest(self.blob, at, digest)
        while answer is None:
            stop = min(self.blob.size, at + PART)
            if self.over is not None and stop == self.blob.size:
                await self._unchanged(self.over)
            response, digest = await self._part(at, stop, digest)
            if response.status == 308:
                reached = _received(response)
                response.close()
                if reached != stop or stop == self.blob.size:  # the rest is asked for by whoever tries again
                    raise Unavailable(f"{self.what}: Google has {reached:,} bytes of it, and not the {stop:,} sent")
                at = stop
                await self._kept(self.state)
            else:
                answer = await told(response, self.what)
        return answer, digest.hexdigest()

    async def _unchanged(self, over: Item) -> None:
        """Raises Changed where what is to be replaced became another version meanwhile; asked before the last part."""
        await self.tree.folders.caught_up(0)
        now = await asyncio.to_thread(self.tree.index.item, over.id)
        if now is not None and now.tag != over.tag:
            raise Changed(f"{self.what} became another version while it was sent")

    async def _session(self) -> str:
        headers = {
            "Content-Type": "application/json; charset=UTF-8",
            "X-Upload-Content-Type": KIND,
            "X-Upload-Content-Length": str(self.blob.size),
        }
        response = await self._begin("resumable", headers, self._about())
        response.close()
        if (session := response.headers.get("Location", "")) and self._ours(session):
            return session
        raise Damaged(f"{self.what}: Google names no place to send it to")

    def _ours(self, session: str) -> bool:
        """Is a session's address Google's? Else the bytes would go elsewhere."""
        try:
            return parsed(session).origin() == self.tree.client.base.origin()
        except (Failure, ValueError):
            return False

    async def _reached(self) -> tuple[int, dict[str, Any] | None]:
        """How many bytes Drive has, -1 where it has forgotten the session; and its answer, where it has all."""
        if not self._ours(self.state.session or ""):
            return -1, None
        try:
            response = await self._sent({"Content-Range": f"bytes */{self.blob.size}"}, b"")
        except (NotFound, Changed, Damaged):
            return -1, None
        if response.status != 308:
            self.earlier = True
            return self.blob.size, await told(response, self.what)
        response.close()
        reached = _received(response)
        return (reached, None) if reached < self.blob.size else (-1, None)

    async def _part(self, at: int, stop: int, digest: Any) -> "tuple[Answered, Any]":
        """The answer to one part; and the digest after it."""
        after = digest

        def body() -> Body:
            nonlocal after
            after = digest.copy()
            return Body(self.blob, at, stop, after.update)

        return await self._sent({"Content-Range": f"bytes {at}-{stop - 1}/{self.blob.size}"}, body), after

    async def _sent(self, headers: dict[str, str], body: Callable[[], Body] | bytes) -> Answered:
        url = URL(self.state.session or "", encoded=True)
        return await self.tree.calls.send(
            "PUT", url, self.what, headers, body, statuses=(200, 201, 308), patience=PATIENCE
        )


def _received(response: Answered) -> int:
    """How many bytes a session has, by its Range header: `bytes=0-LAST`; none: nothing."""
    _, _, last = response.headers.get("Range", "").rpartition("-")
    return int(last) + 1 if last.isascii() and last.isdigit() and len(last) < 19 else 0


async def _digest(blob: Blob, stop: int, digest: Any) -> str:
    """The digest after the first `stop` bytes of a blob, in hexadecimal."""
    async with aclosing(pieces(blob, 0, stop)) as stream:
        async for piece in stream:
            if isinstance(piece, FileSpan):
                for at in range(0, piece.length, 1 << 20):
                    part = FileSpan(piece.file, piece.offset + at, min(1 << 20, piece.length - at))
                    await asyncio.to_thread(lambda part=part: digest.update(part.read()))  # type: ignore[misc]
            else:
                await asyncio.to_thread(digest.update, piece)
    return str(digest.hexdigest())
