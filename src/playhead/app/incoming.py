"""The folder of downloads -> Tree: its files, and those that are still on their way as they will be."""

from collections.abc import Callable, Iterable
from contextlib import aclosing
from pathlib import Path

from playhead.blob import Blob, Pieces
from playhead.doors.coming import Coming, coming
from playhead.doors.download import Download
from playhead.doors.partial import JOURNAL, OLD, PART
from playhead.errors import NotFound
from playhead.tree import Ask, Entries, Entry, Tree


class Incoming(Tree):
    """`tree` is the folder's own, `running` gives the downloads that are under way."""

    def __init__(self, tree: Tree, folder: Path, running: Callable[[], Iterable[object]]) -> None:
        self.tree, self.folder, self.running = tree, folder, running

    def _coming(self) -> dict[str, Download]:
        """The downloads under way, by their paths here."""
        found = {}
        for job in self.running():
            if isinstance(job, Download) and job.target is not None and job.state in ("running", "verifying"):
                target = Path(job.target)
                if target.is_relative_to(self.folder):
                    found[target.relative_to(self.folder).as_posix()] = job
        return found

    async def entries(self, folder: str = "") -> Entries:
        names = set()
        for path, job in self._coming().items():
            above, _, name = path.rpartition("/")
            if above == folder and (blob := coming(job)) is not None:
                names.add(name)
                yield _entry(name, blob)
        async with aclosing(self.tree.entries(folder)) as entries:
            async for entry in entries:
                if entry.name not in names and (entry.folder or not _ours(entry.name)):
                    yield entry

    async def find(self, path: str) -> Entry:
        if (blob := self._blob(path)) is not None:
            return _entry(path.rpartition("/")[2], blob)
        if _ours(path):
            raise NotFound(f"there is no file {path!r}")
        return await self.tree.find(path)

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        if (blob := self._blob(path)) is not None:
            return blob
        if _ours(path):
            raise NotFound(f"there is no file {path!r}")
        return await self.tree.open(path, ask)

    def flow(self, path: str) -> Pieces:
        return self.tree.flow(path)

    async def aclose(self) -> None:
        await self.tree.aclose()

    def _blob(self, path: str) -> Coming | None:
        job = self._coming().get(path)
        return coming(job) if job is not None else None


def _entry(name: str, blob: Coming) -> Entry:
    return Entry(name, False, blob.size, blob.modified, blob.tag)


def _ours(path: str) -> bool:
    """Is this what a download keeps beside its target?"""
    return path.endswith((PART, JOURNAL)) or OLD in path.rpartition("/")[2]
