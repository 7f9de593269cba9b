"""Nothing -> Tree, Store: a folder of a WebDAV server (RFC 4918): Nextcloud, ownCloud, Apache, a NAS.

Reading is `propfind`'s. Writing is a PUT to a hidden name in the same folder, a look at what is there then, and a MOVE
that replaces nothing, or the version that may be replaced. WebDAV has no way to go on with a PUT: the state that is
kept is the hidden name, so that what is left over is taken away, and whether all is there, so that it is only moved.
Digests are compared where the server tells some: ownCloud and Nextcloud do, and rclone.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from os import urandom

from yarl import URL

from playhead.blob import Blob
from playhead.errors import Busy, Changed, Damaged, Denied, Failure, Full, Malformed, NotFound, Unavailable
from playhead.limits import Limits
from playhead.origins.addresses import shown
from playhead.origins.body import Body
from playhead.origins.fetch import Access, Client
from playhead.origins.multistatus import SUMS, Resource
from playhead.origins.propfind import HIDDEN, DavFolder, Table, answered, remember
from playhead.origins.sums import Sums, digest, foretold
from playhead.tree import Ask, Entry, Store, join, segments

STORING = 300.0  # seconds of silence while a server stores what it was sent
FORETOLD = 8 << 20  # bytes of a file that is read once more before it is sent, for its digest
LEAVING = 5.0  # seconds to take away what was begun
AGAIN = 0.2  # seconds until that is tried again

_READ_ONLY = Denied, "the server does not let this be written"
_UNWRITTEN: Table = {
    405: _READ_ONLY,
    501: _READ_ONLY,
    409: (Unavailable, "the folder that it should be in is gone"),
    412: (Changed, "it is not the version that was meant"),
    413: (Denied, "the server takes no file that is as large"),
    423: (Busy, "somebody has locked it"),
    507: (Full, "the server has no room left"),
}


class DavTree(DavFolder, Store):
    """The folder behind a URL, which ends in "/"."""

    def __init__(
        self, url: str, access: Access = Access(), limits: Limits | None = None, client: Client | None = None
    ) -> None:
        super().__init__(url, access, limits, client)
        self.folders: OrderedDict[str, str] = OrderedDict()  # that are there
        self.conditional = True  # does MOVE know conditions on what it replaces?
        self.absolute = True  # does it take a whole URL as its destination?
        self.making = asyncio.Lock()
        self.moving: set[str] = set()  # paths that something is being moved to

    async def put(
        self, path: str, blob: Blob, *, replaces: str | None, state: str | None, keep: Callable[[str], None]
    ) -> Entry:
        """See Store. A server that is silent while it stores is waited for."""
        upload = _Upload.of(path, blob, state)
        if upload.whole and await self._arrived(path, blob, upload):
            return await self._stored(path, blob, {})
        sums: dict[str, str] = {}
        try:
            if replaces is not None or blob.size > FORETOLD:  # else the MOVE, which replaces nothing, finds out
                await self._require(path, replaces)
            if not upload.whole:
                await self._make(path.rpartition("/")[0])
                await self._anew(upload)
                keep(upload.state)
                sums = await self._send(upload.temp, blob)
                upload.whole = True
            keep(upload.state)
            await self._move(upload.temp, path, replaces)
        except BaseException as failure:
            definite = isinstance(failure, Failure) and not failure.again
            if upload.begun and (definite or not upload.whole):  # else it may have been moved: going on finds out
                upload.whole = False
                keep(upload.state)
                await self._remove(upload.temp)
            raise
        return await self._stored(path, blob, sums)

    async def _arrived(self, path: str, blob: Blob, upload: "_Upload") -> bool:
        """Is what had come whole in its place by now? Else it is still to be moved, or sent anew."""
        try:
            upload.whole = (await self.find(upload.temp)).size == blob.size
            return False
        except NotFound:
            upload.whole = False
        with suppress(NotFound):
            return await self.holds(path, blob) is not False
        return False

    async def _anew(self, upload: "_Upload") -> None:
        """Begin under a new name, for a server may still be writing what was broken off under the last one."""
        if upload.begun:
            await self._remove(upload.temp)
            upload.temp = join(upload.temp.rpartition("/")[0], _hidden())
        upload.begun = True

    async def _require(self, path: str, replaces: str | None) -> None:
        """Raises Changed where what is at a path is not what may be replaced."""
        try:
            there = await self.find(path)
        except NotFound:
            if replaces is None:
                return
            raise Changed(f"{path!r} is no longer there") from None
        if there.folder:
            raise Changed(f"{path!r} is a folder")
        if replaces is None or replaces != (there.tag or await self._told(path)):
            raise Changed(f"{path!r} is not the version that may be overwritten")

    async def _told(self, path: str) -> str | None:
        """The tag that opening a file gives, where listings give none."""
        answer = await self._file(path, Ask(0, 0))
        answer.response.close()
        return self._tag(path, answer)

    async def _make(self, folder: str) -> None:
        """Make a folder, and those that it is in, where they are not there yet."""
        async with self.making:
            names = folder.split("/") if folder else []
            for count in range(len(names)):
                await self._made("/".join(names[: count + 1]))

    async def _made(self, folder: str) -> None:
        if folder in self.folders:
            return
        if not await self._is_folder(folder):
            try:
                await self._done("MKCOL", self.url(folder, folder=True), {}, (200, 201, 405))
            except Denied:  # as Apache says where somebody else has made it meanwhile
                if not await self._is_folder(folder):
                    raise
        remember(self.folders, folder, "")

    async def _is_folder(self, path: str) -> bool:
        """Raises Changed where it is a file."""
        try:
            there = await self.find(path)
        except NotFound:
            return False
        if not there.folder:
            raise Changed(f"{path!r} is a file, not a folder")
        return True

    async def _send(self, temp: str, blob: Blob) -> dict[str, str]:
        """Store a blob under a hidden name, and look at what is there then; its digests."""
        sums, url, headers = Sums("sha1", "md5"), self.url(temp), await _about(blob)
        body = Body(blob, 0, blob.size, sums.add)
        response = await self.client.answered("PUT", url, headers, body, patience=STORING)
        response.close()
        if response.status in (404, 409):
            self.folders.clear()
            raise Unavailable(f"{shown(url)}: the folder that it should be in is gone")
        if response.status in (400, 412) and "OC-Checksum" in headers:
            raise Damaged(f"{shown(url)}: other bytes arrived than were sent")
        answered(response, (200, 201, 204), _UNWRITTEN)
        told = f"{response.headers.get('OC-Checksum', '')} SHA1:{response.headers.get('X-Hash-SHA1', '')}"
        _alike(temp, blob, sums.told, Resource("", told={"sums": told, "size": str(blob.size)}))
        _alike(temp, blob, sums.told, await self.resource(temp, SUMS))
        return sums.told

    async def _move(self, temp: str, path: str, replaces: str | None) -> None:
        """Give what was stored its name. The server is told what it may replace, where it knows such conditions."""
        if path in self.moving:
            raise Changed(f"{path!r} is being written by somebody else")
        self.moving.add(path)
        try:
            if replaces is not None:
                await self._require(path, replaces)
            etag = self.etags.get(path) if replaces is not None and self.conditional else None
            if etag:
                try:
                    return await self._to("MOVE", temp, path, "T", {"If": f"<{self.url(path)}> ([{etag}])"})
                except Changed:
                    await self._require(path, replaces)
                    self.conditional = False  # it has not changed: the server does not know the condition
            await self._to("MOVE", temp, path, "F" if replaces is None else "T", {})
        finally:
            self.moving.discard(path)

    async def _to(self, method: str, path: str, to: str, overwrite: str, more: Mapping[str, str]) -> None:
        destination = self.url(to)
        for whole in (True, False):
            if whole and not self.absolute:
                continue
            place = str(destination) if whole else destination.raw_path
            headers = {"Destination": place, "Overwrite": overwrite, **more}
            response = await self.client.answered(method, self.url(path), headers, patience=STORING)
            response.close()
            if response.status not in (400, 502) or not whole:
                break
            self.absolute = False  # behind a proxy a server may not know its own name, or that it is https
        if response.status == 404 and method == "MOVE":
            raise Unavailable(f"{shown(self.url(path))}: what was stored is gone, or moved already")
        answered(response, (201, 204), _UNWRITTEN)

    async def _stored(self, path: str, blob: Blob, sums: Mapping[str, str]) -> Entry:
        found = await self.resource(path, SUMS)
        _alike(path, blob, sums, found)
        self.note(path, found)
        return self.entry(path, found)

    async def _remove(self, path: str) -> None:
        with suppress(Failure, TimeoutError):
            async with asyncio.timeout(LEAVING):
                while True:
                    try:
                        return await self._done("DELETE", self.url(path), {}, (200, 204, 404))
                    except Busy:  # the server has not seen yet that nothing more comes
                        await asyncio.sleep(AGAIN)

    async def _done(self, method: str, url: URL, headers: Mapping[str, str], statuses: Container[int]) -> None:
        response = await self.client.answered(method, url, headers, patience=STORING)
        response.close()
        answered(response, statuses, _UNWRITTEN)

    async def holds(self, path: str, blob: Blob) -> bool | None:
        found = await self._of_file(path)
        if found.size is not None and found.size != blob.size:
            return False
        for name in ("sha1", "md5"):
            if name in found.sums:
                return found.sums[name] == await digest(name, blob)
        return None

    async def copy(self, path: str, to: str) -> Entry | None:
        source = await self._of_file(path)
        await self._require(to, None)
        await self._make(to.rpartition("/")[0])
        try:
            await self._to("COPY", path, to, "F", {})
        except Denied:
            return None
        copied = await self.resource(to, SUMS)
        if copied.size != source.size:
            raise Damaged(f"{to!r} is not as long as {path!r}, which it is a copy of")
        self.note(to, copied)
        return self.entry(to, copied)

    async def _of_file(self, path: str) -> Resource:
        found = await self.resource(path, SUMS)
        if found.folder:
            raise NotFound(f"{path!r} is a folder")
        return found


@dataclass(slots=True)
class _Upload:
    """How far the writing of a blob is: what may be at its hidden name, and whether that is `whole`."""

    temp: str
    same: str  # stands for the version that is sent
    begun: bool = False
    whole: bool = False

    @classmethod
    def of(cls, path: str, blob: Blob, state: str | None) -> "_Upload":
        if not segments(path):
            raise Malformed("a file needs a name")
        folder, same = path.rpartition("/")[0], _same(blob)
        name, known, whole = [*(state or "").split(" "), "", "", ""][:3]
        if not HIDDEN.fullmatch(name):
            return cls(join(folder, _hidden()), same)
        return cls(join(folder, name), same, True, whole == "whole" and known == same != "")

    @property
    def state(self) -> str:
        return f"{self.temp.rpartition('/')[2]} {self.same} {'whole' if self.whole else ''}"


def _hidden() -> str:
    return f".playhead-{urandom(8).hex()}.tmp"


def _same(blob: Blob) -> str:
    return blake2b(f"{blob.size} {blob.tag}".encode(), digest_size=16).hexdigest() if blob.tag else ""


async def _about(blob: Blob) -> dict[str, str]:
    """The headers of a PUT. Those that begin with X and OC are ownCloud's and Nextcloud's; others know some of them."""
    headers = {"Content-Type": "application/octet-stream", "X-Hash": "sha1"}
    if blob.size <= FORETOLD and (known := await foretold(blob)):
        headers["OC-Checksum"] = f"{known[0].upper()}:{known[1]}"
    if blob.modified and blob.modified.timestamp() > 0:
        headers["X-OC-Mtime"] = str(int(blob.modified.timestamp()))
    return headers


def _alike(path: str, blob: Blob, sums: Mapping[str, str], found: Resource) -> None:
    """Raises Damaged where what the server tells of a file is not so of what was sent."""
    if found.size != blob.size:
        raise Damaged(f"{path!r}: the server has {found.size} bytes of {blob.size} that were sent")
    if any(found.sums.get(name, value) != value for name, value in sums.items()):
        raise Damaged(f"{path!r}: the server has other bytes than were sent")
