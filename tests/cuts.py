"""One run of bytes in the forms that pieces come in, and trees that write down what they are asked."""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from tempfile import TemporaryFile

from playhead import Ask, Blob, Entry, Failure, Piece, Tree, Unsized, literal
from playhead.blob import FileSpan, Pieces
from playhead.origins.memory import MemoryTree
from playhead.tree import Entries
from tests.laws import taken

KINDS = ("bytes", "views", "spans")
LENT = "lent spans"  # their file holds something else as soon as the stream goes on, as it may


@dataclass(frozen=True, slots=True, eq=False)
class Cut(Blob):
    """Bytes that come in odd cuts, some of them empty, as `kind` says."""

    data: bytes
    kind: str
    begun: list[tuple[int, int]] = field(default_factory=list)
    gate: asyncio.Event | None = None

    async def stream(self, start: int, stop: int) -> Pieces:
        self.begun.append((start, stop))
        if self.gate:
            await self.gate.wait()
        chance, stop = random.Random(start), min(stop, len(self.data))
        with TemporaryFile() as file:
            while start < stop:
                length = chance.choice([0, 1, 7, 16, 47, 65, 1000, 65_535, 65_552, 400_000])
                part = self.data[start : min(start + length, stop)]
                if self.kind.endswith("spans"):
                    at = 5 if self.kind == LENT else start
                    os.pwrite(file.fileno(), part, at)
                    yield FileSpan(file, at, len(part))
                    if self.kind == LENT:
                        os.pwrite(file.fileno(), bytes(len(part)), at)
                else:
                    yield memoryview(part) if self.kind == "views" else part
                start += len(part)
                if chance.random() < 0.2:
                    await asyncio.sleep(0)


def cut(kind: str, data: bytes, tag: str | None = "") -> Cut:
    """Bytes as a blob whose pieces are of a kind; tagged by what they are, unless a tag (or None) is given."""
    return Cut(len(data), literal(data).tag if tag == "" else tag, data, kind)


async def got(stream: AsyncIterator[Piece]) -> tuple[bytes, Failure | None]:
    """What a stream gave, and how it failed, if it did."""
    data = bytearray()
    try:
        async with aclosing(stream) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                data += taken(piece)
    except Failure as failure:
        assert "\n" not in str(failure)
        return bytes(data), failure
    return bytes(data), None


class Recording(Tree):
    """Files in memory: writes down what is opened and which ranges are read, and fails as `failing` says.

    The bytes of a file in `gates` come when its gate is open. `tagged`: have its files tags? `sized` False: they can
    only be read from start to end.
    """

    def __init__(self, files: dict[str, bytes], *, tagged: bool = True, sized: bool = True) -> None:
        self.inner, self.tagged, self.sized = MemoryTree(files), tagged, sized
        self.failing: Failure | None = None
        self.gates: dict[str, asyncio.Event] = {}
        self.opened: list[tuple[str, Ask]] = []
        self.read: list[tuple[int, int]] = []
        self.closed = 0

    def write(self, path: str, data: bytes | None) -> None:
        """Another version of a file; None: there is none any more."""
        self.inner.files.pop(path, None)
        if data is not None:
            self.inner.files[path] = literal(data)

    def _answer(self) -> None:
        if self.failing:
            raise self.failing

    async def entries(self, folder: str = "") -> Entries:
        self._answer()
        async with aclosing(self.inner.entries(folder)) as entries:
            async for entry in entries:
                yield self._seen(entry)

    async def find(self, path: str) -> Entry:
        self._answer()
        return self._seen(await self.inner.find(path))

    def _seen(self, entry: Entry) -> Entry:
        return replace(entry, tag=entry.tag if self.tagged else None, size=entry.size if self.sized else None)

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        self._answer()
        self.opened.append((path, ask))
        blob = await self.inner.open(path, ask)
        if not self.sized:
            raise Unsized(f"{path!r} has no size")
        data = await blob.read()
        return Cut(len(data), blob.tag if self.tagged else None, data, "views", self.read, self.gates.get(path))

    async def flow(self, path: str) -> Pieces:
        self._answer()
        data = await (await self.inner.open(path)).read()
        async with aclosing(cut("views", data).stream(0, len(data))) as stream:
            async for piece in stream:
                yield piece

    async def aclose(self) -> None:
        self.closed += 1
