"""Nothing -> Tree, Store: a dict of bytes. The reference that every other origin is tested against."""

from collections.abc import Callable, Mapping

from playhead.blob import Blob, literal
from playhead.errors import Changed, NotFound
from playhead.tree import Ask, Entries, Entry, Store, Tree, segments


class MemoryTree(Tree, Store):
    """Files given as {path: bytes}. Folders are there because files are in them."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files: dict[str, Blob] = {"/".join(segments(path)): literal(data) for path, data in files.items()}

    async def entries(self, folder: str = "") -> Entries:
        names = segments(folder)
        inside = [path.split("/")[len(names) :] for path in self.files if path.split("/")[: len(names)] == names]
        if names and not any(inside):
            raise NotFound(f"there is no folder {folder!r}")
        for name in dict.fromkeys(rest[0] for rest in inside):
            yield await self.find("/".join([*names, name]))

    async def find(self, path: str) -> Entry:
        names = segments(path)
        if blob := self.files.get(path):
            return Entry(names[-1], size=blob.size, tag=blob.tag)
        if not names or any(other.startswith(path + "/") for other in self.files):
            return Entry(names[-1] if names else "", folder=True)
        raise NotFound(f"there is no {path!r}")

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        segments(path)
        if path not in self.files:
            raise NotFound(f"there is no file {path!r}")
        return self.files[path]

    async def put(
        self, path: str, blob: Blob, *, replaces: str | None, state: str | None, keep: Callable[[str], None]
    ) -> Entry:
        segments(path)
        made = literal(await blob.read())
        there = self.files.get(path)
        if (there and there.tag) != replaces:
            raise Changed(f"{path!r} is not the version that may be overwritten")
        self.files[path] = made
        return await self.find(path)
