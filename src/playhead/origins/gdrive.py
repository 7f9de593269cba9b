"""Nothing -> Tree, Store: a Google Drive, or a folder of one, or a shared drive.

A path leads to an id by the folders on its way (`folders`). A file that is known opens with one ranged GET of its
bytes, and nothing else; where Drive's change feed was not read for a minute, it is read beside that request. Bytes are
pinned to the version that was listed: by size, and by the hash that Google sends with them. That hash is learnt when a
version is first read; then the feed must have been read just before. Nothing waits for anything but its own answers.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from playhead.blob import Blob, literal
from playhead.errors import Changed, Damaged, Denied, NotFound, Unavailable
from playhead.origins.drive.calls import Authorization, Calls, keyed
from playhead.origins.drive.exports import Exports
from playhead.origins.drive.folders import FRESH, STALE, Folders
from playhead.origins.drive.index import Index
from playhead.origins.drive.items import EXPORTS, FOLDER, Item, braced, named, unkeyed
from playhead.origins.fetch import Client, translated
from playhead.origins.ranged import Answer, RangedBlob
from playhead.origins.remote import Remote
from playhead.tree import Ask, Entries, Entry, Store, segments, visible

WAIT = 5.0  # seconds that a file which is open waits for the feed


@dataclass(frozen=True, slots=True, eq=False)
class DriveBlob(RangedBlob):
    """A file of Drive."""

    tree: "DriveTree" = field(kw_only=True, repr=False)
    item: Item = field(kw_only=True)
    proposed: str | None = None  # the name that it has there

    async def again(self, ask: Ask) -> Answer:
        answer = await self.tree.calls.media(self.item.place, self.item.key, visible(self.item.name), ask)
        try:
            if answer.validator is None and not await self.tree.folders.still(self.item):
                raise Changed(f"{visible(self.item.name)} is no longer the file that was opened")
        except BaseException:
            answer.response.close()
            raise
        return answer


class DriveTree(Remote, Store):
    """`name` is the tree's; `root` a folder's id, or "root", or `SHARED`; `drive` a shared drive's id.

    `folder` is where the index and exports are kept; None: in memory, for as long as this lives.
    """

    def __init__(
        self,
        name: str,
        client: Client,
        tokens: Authorization,
        folder: Path | None,
        *,
        root: str = "root",
        drive: str | None = None,
        abuse: bool = False,
        known_by: str = "",
    ) -> None:
        self.place, self.traffic = f"gdrive:{name}", client
        self.known_by = f"gdrive {name} {drive} {root} {known_by}"
        self.client, self.tokens = client, tokens
        self.calls = Calls(client, tokens, abuse, self.known_by)
        self.index = Index(folder / "index.sqlite" if folder else None, self.known_by)
        self.exports = Exports(folder / "exports" if folder else None)
        top = Item(drive if drive and root == "root" else root, "", FOLDER, drive=drive)
        self.folders = Folders(self.calls, self.index, top, drive)
        self.parked: set[Answer] = set()
        self.ids: list[str] = []  # for new files

    # ── the tree ──

    async def entries(self, folder: str = "") -> Entries:
        await self.folders.caught_up(FRESH)
        for name, each in (await self.folders.inside(folder)).items():
            yield each.entry(name, await self.exports.about(each))

    async def find(self, path: str) -> Entry:
        if not segments(path):
            return Entry("", folder=True)
        await self.folders.caught_up(FRESH)
        found, name = (await self.folders.chain(path))[-1], path.rpartition("/")[2]
        if braced(path):
            name = next(iter(named([found])))
        return found.entry(name, await self.exports.about(found))

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        try:
            found = await self._file(path)
        except NotFound:  # as far as was known
            await self.folders.caught_up(FRESH)
            found = await self._file(path)
        try:
            return await self._confirmed(path, found, ask)
        except (NotFound, Changed):
            await self.folders.forgotten(found)
            newer = await self._file(path)
            if _same(newer, found):
                raise
            return await self._opened(newer, await self._seen(newer), ask)

    async def aclose(self) -> None:
        for answer in list(self.parked):
            answer.drop()
        await self.folders.aclose()
        await self.exports.aclose()
        await self.client.aclose()
        if closing := getattr(self.tokens, "aclose", None):
            await closing()

    async def put(
        self, path: str, blob: Blob, *, replaces: str | None, state: str | None, keep: Callable[[str], None]
    ) -> Entry:
        from playhead.origins.drive.uploads import put

        return await put(self, path, blob, replaces, state, keep)

    async def holds(self, path: str, blob: Blob) -> bool | None:
        from playhead.origins.drive.uploads import holds

        await self.folders.caught_up(FRESH)
        return await holds(await self._file(path), blob)

    async def copy(self, path: str, to: str) -> Entry | None:
        from playhead.origins.drive.uploads import copied

        await self.folders.caught_up(FRESH)
        return await copied(self, await self._file(path), to)

    # ── files ──

    async def _file(self, path: str) -> Item:
        found = (await self.folders.chain(path))[-1]
        if found.folder:
            raise NotFound(f"{unkeyed(path)!r} is a folder")
        return found

    async def _confirmed(self, path: str, found: Item, ask: Ask) -> Blob:
        """A file as it was listed, and as the feed says while it is opened."""
        told, seen = self.folders.changes, await self._seen(found)
        feed = None if braced(path) else self.folders.catching_up(STALE if seen else FRESH)
        if feed and self.client.limits.connections is not None:  # it may want the place that the answer would hold
            await asyncio.wait([feed], timeout=WAIT)
            if self.folders.changes != told:
                return await self._opened(newer := await self._file(path), await self._seen(newer), ask)
        blob = await self._opened(found, seen, ask)
        if feed:
            await asyncio.wait([feed], timeout=WAIT)
        if self.folders.changes != told and not _same(newer := await self._file(path), found):
            return await self._opened(newer, await self._seen(newer), ask)  # the other's answer is dropped with it
        if not seen and found.tag and isinstance(blob, DriveBlob) and blob.validator and (not feed or _done(feed)):
            await asyncio.to_thread(self.index.see, found.place, found.tag, blob.validator)
        return blob

    async def _seen(self, found: Item) -> str | None:
        """What the bytes of this version were known by when they were first read."""
        return await asyncio.to_thread(self.index.seen, found.place, found.tag)

    async def _opened(self, found: Item, seen: str | None, ask: Ask) -> Blob:
        what = visible(found.name)
        if not found.download:
            raise Denied(f"{what}: its owner does not allow that it is downloaded")
        if found.export:
            return await self.exports.open(found, lambda: self._exported(found))
        if found.size == 0:
            return literal(b"", found.tag)
        answer = await self.calls.media(found.place, found.key, what, _within(ask, found.size))
        try:
            _pin(found, seen, answer)
        except BaseException:
            answer.response.close()
            raise
        answer.park(self.parked)
        return DriveBlob(
            answer.size or 0,
            found.tag,
            validator=answer.validator,
            waiting=[answer],
            ranged=answer.response.status != 200,
            tree=self,
            item=found,
            proposed=found.name,
            modified=found.when,
        )

    async def _exported(self, found: Item) -> AsyncGenerator[bytes, None]:
        kind, what = EXPORTS[found.type][0], visible(found.name)
        url = self.calls.url(f"drive/v3/files/{found.place}/export", {"mimeType": kind})
        response = await self.calls.send("GET", url, what, keyed(found.place, found.key))
        try:
            with translated(response.url):
                async for chunk in response.content.iter_any():
                    response.came(len(chunk))
                    yield chunk
            if response.cut_off:
                raise Unavailable(f"{what}: Google broke the export off")
        finally:
            response.close()


def _within(ask: Ask, size: int | None) -> Ask:
    """What is asked for of a file, so that there is such a range in it."""
    if size is None:
        return ask
    start = max(0, size + (ask.stop or 0)) if ask.start is None else ask.start
    stop = None if ask.start is None else ask.stop
    return Ask(start if start < size else 0, stop, ask.why)


def _pin(found: Item, seen: str | None, answer: Answer) -> None:
    """Raises Changed where an answer cannot be of the version that was listed."""
    if answer.size is None:
        raise Damaged(f"{visible(found.name)}: Google does not say how long it is")
    if found.size not in (None, answer.size) or (seen and answer.validator and seen != answer.validator):
        raise Changed(f"{visible(found.name)} is no longer the file that was listed")


def _same(one: Item, other: Item) -> bool:
    return (one.place, one.tag, one.revision) == (other.place, other.tag, other.revision)


def _done(task: "asyncio.Task[None]") -> bool:
    return task.done() and not task.cancelled() and task.exception() is None
