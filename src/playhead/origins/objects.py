"""Nothing -> Tree, Store: a bucket of S3, GCS or Azure, or a folder in one.

S3 is asked by requests that we sign ourselves (`s3`); GCS, Azure, and S3 with the credentials of the machine it runs on
go through obstore (`obstored`), which knows those. What is common is here: names, tags, and who may overwrite what.

Folders are what keys have in common; the objects "folder/" that some programs write to mark them are not shown. An
ETag tells versions of a key apart and is no digest of the content, so tags are of place, key and ETag. A file "a"
beside "a/b" keeps its name, and the folder is shown as "a" with U+FF0F at its end. Keys that no path can name (with an
empty segment, ".", ".." or NUL in them) are not shown.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from playhead.blob import Blob, identity
from playhead.errors import Changed, Damaged, Malformed, NotFound
from playhead.limits import Limits
from playhead.origins.buckets import multipart
from playhead.origins.buckets.bucket import Bucket, Found, Page, Place, plain_md5
from playhead.origins.buckets.s3 import S3
from playhead.origins.buckets.s3api import Api, signing
from playhead.origins.remote import Remote
from playhead.origins.sums import digest
from playhead.tree import Ask, Entries, Entry, Store, Why, segments

LONGEST = 1024  # bytes of a key
TWIN = "\uff0f"  # ends the name of a folder that has the name of a file beside it


def _service(place: Place, limits: Limits | None) -> Bucket:
    by = signing(place) if place.kind == "s3" else None
    if place.kind == "s3" and (by or place.anonymous):
        return S3(Api(place, by, limits))
    from playhead.origins.buckets.obstored import Obstored  # not needed where we sign

    return Obstored(place, limits)


class ObjectTree(Remote, Store):
    """The objects of a bucket below a prefix. Raises Malformed where a place cannot be one.

    Writing to S3 can go on after it was broken off; to GCS and Azure, and with the machine's own credentials, it
    begins again.
    """

    def __init__(self, place: Place, limits: Limits | None = None, *, name: str = "", fingerprint: str = "") -> None:
        """`name` is shown to people; `fingerprint` stands for the credentials."""
        self.prefix = segments(place.prefix.strip("/"))
        self.service = _service(place, limits)
        self.traffic = self.service.traffic
        self.place = name or f"{place.kind}:{place.bucket}"
        self.where = f"{place.where} {fingerprint}"
        self.known_by = f"{self.where} {'/'.join(self.prefix)}"

    async def aclose(self) -> None:
        await self.service.aclose()

    # ── names ──

    def _spelled(self, path: str, *, folder: bool = False) -> list[str]:
        """The keys that a path may stand for: itself, and what it is beside a file of the same name."""
        names = segments(path)
        inner = names if folder else names[:-1]
        plain = [name.removesuffix(TWIN) if name != TWIN else name for name in inner]
        ways = [names] if plain == inner else [names, plain + names[len(inner) :]]
        keys = ["/".join([*self.prefix, *way]) for way in ways]
        try:
            "".join(keys).encode()
        except UnicodeEncodeError as error:
            raise NotFound(f"{path!r} is not a name that an object can have") from error
        return [f"{key}/" if key else "" for key in keys] if folder else keys

    def _tag(self, found: Found) -> str | None:
        return identity("v", self.where, found.key, found.validator)

    def _entry(self, name: str, found: Found) -> Entry:
        return Entry(name, False, found.size, found.modified, self._tag(found), f"{found.size} {found.etag}")

    # ── the tree ──

    async def entries(self, folder: str = "") -> Entries:
        for prefix in self._spelled(folder, folder=True):
            there = False
            async with aclosing(self.service.pages(prefix)) as pages:
                async for entry in self._shown(prefix, pages):
                    there = True
                    if entry is not None:
                        yield entry
            if there or not folder:
                return
        raise NotFound(f"there is no folder {folder!r} in {self.place}")

    async def _shown(self, prefix: str, pages: AsyncGenerator[Page, None]) -> AsyncGenerator[Entry | None, None]:
        """The entries of a folder; None for each key that is there and is not shown."""
        files: set[str] = set()
        async for page in pages:
            for found in page.files:
                name = found.key.removeprefix(prefix)
                if "/" in name:
                    raise Damaged(f"{self.place}: the service lists what is in folders as if it were beside them")
                files.add(name)
                yield self._entry(name, found) if _possible(name) else None
            for name in page.folders:
                yield Entry(name + TWIN if name in files else name, folder=True) if _possible(name) else None

    async def find(self, path: str) -> Entry:
        if path == "":
            return Entry("", folder=True)
        name = segments(path)[-1]
        for key in self._spelled(path):
            try:
                return self._entry(name, await self.service.head(key, Why.SCAN))
            except NotFound:
                continue
        for prefix in self._spelled(path, folder=True):
            async with aclosing(self.service.pages(prefix, most=1)) as pages:
                async for page in pages:
                    if page.files or page.folders:
                        return Entry(name, folder=True)
        raise NotFound(f"there is no {path!r} in {self.place}")

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        missing = NotFound("this is a folder, not a file")
        for key in self._spelled(path) if path else []:
            try:
                return await self.service.open(key, ask, self._tag)
            except NotFound as error:
                missing = error
        raise missing

    # ── the store ──

    async def put(
        self, path: str, blob: Blob, *, replaces: str | None, state: str | None, keep: Callable[[str], None]
    ) -> Entry:
        """See Store. The state is the id of S3's upload and what its parts were; elsewhere there is none."""
        key = self._writable(path)
        there = await self._there(key)
        if (there is not None) != (replaces is not None) or (there and self._tag(there) != replaces):
            if not (there and state and await multipart.written(there, blob, state)):
                raise Changed(f"{path!r} in {self.place} is not the version that may be overwritten")
            return self._entry(segments(path)[-1], there)
        return self._entry(segments(path)[-1], await self.service.put(key, blob, there, state, keep))

    def _writable(self, path: str) -> str:
        try:
            key = self._spelled(path)[0] if path else ""
        except NotFound as error:
            raise Malformed(str(error)) from error
        if any(name.endswith(TWIN) for name in path.split("/")[:-1]):
            raise Malformed(f"{path!r}: beside a file of the same name, a folder cannot be written to")
        if not path or len(key.encode()) > LONGEST:
            raise Malformed(f"{path!r} cannot be a key: it is empty, or longer than {LONGEST:,} bytes")
        return key

    async def _there(self, key: str) -> Found | None:
        try:
            return await self.service.head(key, Why.BULK)
        except NotFound:
            return None

    async def holds(self, path: str, blob: Blob) -> bool | None:
        there = await self.service.head(self._spelled(path)[0], Why.BULK)
        if there.size != blob.size:
            return False
        if (known := there.md5 or plain_md5(there.etag)) is not None:
            return await digest("md5", blob) == known or (False if there.md5 else None)
        return await multipart.same(there, blob) or None

    async def copy(self, path: str, to: str) -> Entry | None:
        found = await self.service.copy(self._spelled(path)[0], self._writable(to))
        return self._entry(segments(to)[-1], found) if found else None


def _possible(name: str) -> bool:
    """Can a path name it?"""
    return name not in ("", ".", "..") and "\0" not in name
