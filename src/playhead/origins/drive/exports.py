"""Documents -> Blobs: what Google exports, fetched once and kept as files of a known size.

An export has no ranges and no length before it has come; kept under the version of its document, it is a file as any
other. Google promises no equal bytes for two exports of one version: so the tag is by the bytes, whose digest is in the
name of the file. The least recently used go when there are more than `ROOM` bytes.
"""

import asyncio
import os
import re
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from playhead.blob import Blob, FileSpan, Piece, Pieces, identity
from playhead.errors import Damaged, Full, Unavailable
from playhead.origins.drive.calls import Once
from playhead.origins.drive.items import Item
from playhead.origins.local import OpenFile

ROOM = 1 << 30  # bytes of exports that are kept
LARGEST = 256 << 20  # bytes of one; Google's own limit is far lower
DAY = 86_400.0  # seconds after which a part that was left behind is removed

_KEPT = re.compile(r"([0-9a-f]{32})-([0-9a-f]{32})")


@dataclass(frozen=True, slots=True, eq=False)
class Exported(Blob):
    """The bytes of an export."""

    file: OpenFile

    async def stream(self, start: int, stop: int) -> Pieces:
        for piece in self.here(start, stop):
            yield piece

    def here(self, start: int, stop: int) -> list[Piece]:
        return [FileSpan(self.file, start, stop - start)] if start < stop else []


@dataclass(frozen=True, slots=True)
class _Kept:
    size: int
    digest: str


class Exports:
    """Kept in a folder (None: one that goes with this)."""

    def __init__(self, folder: Path | None) -> None:
        self.own: tempfile.TemporaryDirectory[str] | None = None
        self.folder, self.lock = folder, threading.Lock()
        self.kept: dict[str, _Kept] | None = None  # by the version of a document
        self.once = Once()
        self.whole: set[str] = set()  # files that were compared with their digests

    async def about(self, item: Item) -> tuple[int | None, str | None]:
        """The size and tag of a document's export, where it was made."""
        kept = (await self._all()).get(_version(item)) if item.export and item.revision else None
        return (kept.size, _tag(item, kept)) if kept else (None, None)

    async def _all(self) -> dict[str, _Kept]:
        if self.kept is None:
            found = await asyncio.to_thread(self._found)
            if self.kept is None:
                self.kept = found
        return self.kept

    def _found(self) -> dict[str, _Kept]:
        found: dict[str, _Kept] = {}
        if self.folder is None:
            return found
        with suppress(OSError), os.scandir(self.folder) as files:
            for file in files:
                if match := _KEPT.fullmatch(file.name):
                    found[match[1]] = _Kept(file.stat().st_size, match[2])
        return found

    async def open(self, item: Item, fetch: Callable[[], AsyncGenerator[bytes, None]]) -> Blob:
        """The export of a document, which `fetch` gives; made once for all who want it."""
        version, everything = _version(item), await self._all()
        for _ in range(2):
            if version not in everything or item.revision is None:
                await self.once.run(version, lambda: self._fetched(version, fetch))
            kept = everything[version]
            if file := await asyncio.to_thread(self._opened, f"{version}-{kept.digest}", kept):
                return Exported(file.size, _tag(item, kept), file, modified=item.when)
            everything.pop(version, None)  # it was removed, or spoiled
        raise Unavailable("an export cannot be kept: it is removed or spoiled at once")

    def _place(self) -> Path:
        """The folder, made where it is not there."""
        with self.lock:
            if self.folder is None:
                self.own = tempfile.TemporaryDirectory(prefix="playhead-")
                self.folder = Path(self.own.name)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self.folder

    def _opened(self, name: str, kept: _Kept) -> OpenFile | None:
        """A file that is as it was kept; it is read once, to know that."""
        assert self.folder
        try:
            if (
                name not in self.whole
                and blake2b((self.folder / name).read_bytes(), digest_size=16).hexdigest() != kept.digest
            ):
                return None
            self.whole.add(name)
            file = OpenFile(os.open(self.folder / name, os.O_RDONLY | os.O_CLOEXEC), name)
            with suppress(OSError):
                os.utime(file.fd)
        except OSError:
            return None
        return file if file.size == kept.size else None

    async def _fetched(self, version: str, fetch: Callable[[], AsyncGenerator[bytes, None]]) -> None:
        try:
            folder = await asyncio.to_thread(self._place)
            kept = await self._written(folder / f".{version}.{os.getpid()}.new", version, fetch)
        except OSError as error:
            raise Full(f"an export cannot be kept: {os.strerror(error.errno or 0).lower()}") from error
        (await self._all())[version] = kept

    async def _written(self, new: Path, version: str, fetch: Callable[[], AsyncGenerator[bytes, None]]) -> _Kept:
        size, digest = 0, blake2b(digest_size=16)
        try:
            with new.open("wb") as file:
                async with aclosing(fetch()) as chunks:
                    async for chunk in chunks:
                        size += len(chunk)
                        if size > LARGEST:
                            raise Damaged(f"the export is larger than {LARGEST >> 20} MiB")
                        digest.update(chunk)
                        await asyncio.to_thread(file.write, chunk)
            kept = _Kept(size, digest.hexdigest())
            await asyncio.to_thread(self._settled, new, new.with_name(f"{version}-{kept.digest}"))
        finally:
            with suppress(OSError):
                new.unlink()
        return kept

    @staticmethod
    def _settled(new: Path, path: Path) -> None:
        """Keep it, and give up the least recently used for room."""
        with new.open("rb") as file:
            os.fsync(file.fileno())
        new.replace(path)
        with os.scandir(path.parent) as files:
            known = sorted((file.stat().st_mtime, file.stat().st_size, file.path) for file in files)
        total = sum(size for _, size, _ in known)
        for when, size, name in known:
            left = os.path.basename(name).startswith(".")
            if (total > ROOM and not left and name != str(path)) or (left and time.time() - when > DAY):
                with suppress(OSError):
                    os.unlink(name)
                total -= size

    async def aclose(self) -> None:
        await self.once.aclose()
        if self.own:
            await asyncio.to_thread(self.own.cleanup)


def _version(item: Item) -> str:
    return blake2b(f"{item.place} {item.type} {item.revision}".encode(), digest_size=16).hexdigest()


def _tag(item: Item, kept: _Kept) -> str | None:
    return identity("v", "gdrive", item.place, kept.digest)
