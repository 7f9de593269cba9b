"""Paths -> items: the folders of a Drive as they were listed, and what its change feed says became of them.

A path leads to an id by the folders on its way. What was listed is remembered (`index`); the feed tells what became of
it: one small request for everything, also of the time when nobody looked. A file in a folder that was not listed is
asked for by its name, so that a large folder need not be listed for it.

What the feed tells while a folder is being listed is applied to that listing too: it may be of pages that had come
before. Where the feed does not follow (after a break, or in another shared drive), nothing is remembered.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from playhead.errors import Damaged, Failure, Malformed, NotFound, Unavailable
from playhead.origins.drive import shortcuts
from playhead.origins.drive.calls import Calls, Once, keyed
from playhead.origins.drive.index import Change, Index
from playhead.origins.drive.items import FIELDS, Item, alone, braced, is_id, item, named, unkeyed
from playhead.tree import segments, visible

PAGE = 1000  # entries of an answer
PAGES = 5000  # of a folder; more are a server that has no end
FEED = 50  # pages of changes after which everything is asked for anew instead
FOLDERS = 500  # in memory
BROKEN = 20  # listings that broke off and are remembered
FRESH = 2.0  # seconds for which the feed is not read again, for listings and for versions that were never read
STALE = 60.0  # and for all else; nor is a folder looked at again that was given by its id
SHARED = "shared-with-me"  # stands for the place where that is

log = logging.getLogger("playhead.upstream")


@dataclass(slots=True)
class Folders:
    """The folders below `root` (an item), of the shared drive `drive` where one is given."""

    calls: Calls
    index: Index
    root: Item
    drive: str | None = None
    once: Once = field(default_factory=Once)
    names: OrderedDict[str, dict[str, Item]] = field(default_factory=OrderedDict)  # folders as they are shown
    partial: dict[str, tuple[list[Item], str]] = field(default_factory=dict)  # listings that broke off, and their page
    during: dict[str, list[Change]] = field(default_factory=dict)  # folders that are being listed -> changes meanwhile
    settling: asyncio.Lock = field(default_factory=asyncio.Lock)  # of a listing, or of what the feed tells
    given: dict[str, tuple[float, Item]] = field(default_factory=dict)  # folders by their ids and keys
    lately: tuple[tuple[str, str, float | None], float, Item] | None = (
        None  # what was asked for by name, where nothing is kept
    )
    changes: int = 0  # pages of the feed that told of something
    polled: float | None = None  # when the feed was last read

    async def aclose(self) -> None:
        await self.once.aclose()
        await asyncio.to_thread(self.index.close)

    async def forgotten(self, found: Item) -> None:
        """What is remembered of a file was wrong: ask anew."""
        for parent in found.parents or (self.root.place,):
            self.names.pop(parent, None)
            await asyncio.to_thread(self.index.drop, parent)

    # ── paths ──

    async def chain(self, path: str) -> list[Item]:
        """Where a path leads, with the folders on its way from the root. Raises NotFound."""
        chain, names = [await self.top()], segments(path)
        if names and (given := braced(names[0])):
            chain, names = [await self._by_id(*given)], names[1:]
        for name in names:
            child = await self._child(chain[-1], name) if chain[-1].folder else None
            if child is None or (child.folder and child.place in {each.place for each in chain}):
                raise NotFound(f"there is no {unkeyed(path)!r}")
            chain.append(child)
        return chain

    async def inside(self, path: str) -> dict[str, Item]:
        """What is in the folder at a path. A shortcut to a folder on the way there is not shown: it would never end."""
        await self._followed()
        chain = await self.chain(path)
        if not chain[-1].folder:
            raise NotFound(f"{unkeyed(path)!r} is not a folder")
        names = await self.listing(chain[-1])
        if chain[0].place == "root":
            chain[0] = await self.top()  # its id was perhaps told by listing it
        around = {each.place for each in chain}
        return {name: each for name, each in names.items() if not (each.folder and each.place in around)}

    async def top(self) -> Item:
        """The topmost folder."""
        if self.root.place == "root" and (real := await asyncio.to_thread(self.index.fact, "root")):
            self.root = replace(self.root, id=real)  # as the feed calls it
        return self.root

    async def _by_id(self, place: str, key: str | None) -> Item:
        when, known = self.given.get(f"{place}!{key}", (0.0, None))
        if known is not None and time.monotonic() - when < STALE:
            return known
        found = item(await self.calls.told(place, key), self.calls.by)
        if found is None:
            raise NotFound(f"{place}: it is in the trash")
        found = await shortcuts.through(self.calls, replace(found, key=found.key or key))
        if not found.shown:
            raise NotFound(f"{place}: it has no bytes, and Google exports it as nothing")
        if found.folder:
            self.given[f"{place}!{key}"] = time.monotonic(), found
        return found

    async def _child(self, folder: Item, name: str) -> Item | None:
        if (known := await self.remembered(folder.place)) is not None:
            return known.get(name)
        return await self._single(folder, name) or (await self.listing(folder)).get(name)

    async def _single(self, folder: Item, name: str) -> Item | None:
        """A file of this very name, if it is the only one: so that a large folder need not be listed for it."""
        if folder.place == SHARED or not alone(name):
            return None
        if known := await asyncio.to_thread(self.index.single, folder.place, name):
            return known
        key = folder.place, name, self.polled
        if self.lately and self.lately[0] == key and time.monotonic() - self.lately[1] < FRESH:
            return self.lately[2]
        before, found = self.changes, await self.called(folder, name)
        if len(found) != 1 or not found[0].shown or found[0].export:
            return None
        async with self.settling:
            token = await asyncio.to_thread(self.index.fact, "token")
            if token is not None and self.changes == before and self._follows(folder):
                await asyncio.to_thread(self.index.keep_single, await self._real(folder, found), found[0])
            elif token is None and self.changes == before:
                self.lately = key, time.monotonic(), found[0]
        return found[0]

    async def called(self, folder: Item, name: str) -> list[Item]:
        """What Drive itself finds in a folder under a name, by now."""
        quoted = name.replace("\\", "\\\\").replace("'", "\\'")
        query = f"'{folder.place}' in parents and name = '{quoted}' and trashed = false"
        async with aclosing(self._pages(query, folder, "")) as pages:
            items = [each async for more, _ in pages for each in more]
        return [each for each in items if each.name == name]  # Drive does not mind capitals

    async def still(self, found: Item) -> bool:
        """Is a file the version that it was, as far as the feed tells?"""
        await self.caught_up(FRESH)
        now = await asyncio.to_thread(self.index.item, found.id)
        return now is None or (now.place, now.tag) == (found.place, found.tag)

    # ── listings ──

    async def remembered(self, place: str) -> dict[str, Item] | None:
        if place not in self.names:
            before = self.changes
            items = await asyncio.to_thread(self.index.folder, place)
            if items is None:
                return None
            if self.changes != before:  # these may be what was there before
                return named(items)
            self.names[place] = named(items)
            while len(self.names) > FOLDERS:
                self.names.popitem(last=False)
        self.names.move_to_end(place)
        return self.names[place]

    async def listing(self, folder: Item) -> dict[str, Item]:
        """What is in a folder by name: as it was listed, or listed now; then the feed tells what becomes of it."""
        folder = await self.top() if folder.place == "root" else folder
        if (known := await self.remembered(folder.place)) is not None:
            return known
        return await self.once.run(f"list {folder.place}", lambda: self._list(folder))

    async def _list(self, folder: Item) -> dict[str, Item]:
        if self._follows(folder):
            await self._followed()
            self.during[folder.place] = []
        try:
            items = await self._listed(folder)
            place = await self._real(folder, items)
            async with self.settling:
                changes = self.during.get(folder.place)
                if changes is None or (changes and place == SHARED):
                    return named(items)
                await asyncio.to_thread(self.index.keep, place, items, changes)
                self.names.pop(place, None)
        finally:
            self.during.pop(folder.place, None)
        known = await self.remembered(place)
        return named(items) if known is None else known

    def _follows(self, folder: Item) -> bool:
        """Does the feed tell of what is in this folder?"""
        return self.drive is None or folder.drive == self.drive

    async def _real(self, folder: Item, items: Sequence[Item]) -> str:
        """The id of a folder that was listed, also of the topmost: the feed calls it by that."""
        if folder.place != "root":
            return folder.place
        real: object = next((each.parents[0] for each in items if each.parents), None)
        if not is_id(real := real or (await self.calls.told("root", None)).get("id")):
            raise Damaged("Google does not tell the id of the topmost folder")
        await asyncio.to_thread(self.index.remember, "root", real)
        return real

    async def empty(self, folder: Item) -> None:
        """We have just made this folder: nothing is in it that the feed will not tell."""
        if self._follows(folder) and await asyncio.to_thread(self.index.fact, "token") is not None:
            await asyncio.to_thread(self.index.keep, folder.place, [])

    async def _listed(self, folder: Item) -> list[Item]:
        query = f"'{folder.place}' in parents and trashed = false"
        if folder.place == SHARED:
            query = "sharedWithMe = true and trashed = false"
        items, page = self.partial.pop(folder.place, ([], ""))
        resumed = bool(page)
        try:
            async with aclosing(self._pages(query, folder, page)) as pages:
                async for more, following in pages:
                    items += more
                    page, resumed = following, False
            return await shortcuts.followed(self.calls, items)
        except Failure as failure:
            if failure.again and page and not self.during.get(folder.place):
                self.partial[folder.place] = items, page  # whoever tries again goes on from here
                while len(self.partial) > BROKEN:
                    del self.partial[next(iter(self.partial))]
            elif resumed and not failure.again:  # that page is no longer known
                return await self._listed(folder)
            raise

    async def _pages(self, query: str, folder: Item, page: str) -> AsyncGenerator[tuple[list[Item], str], None]:
        """The pages of an answer from one on, each with the token of the next."""
        before = {page}
        while len(before) <= PAGES:
            items, page = await self._page(query, folder, page)
            yield items, page
            if not page:
                return
            if page in before:
                raise Damaged("Google gives the same page of a folder again and again")
            before.add(page)
        raise Damaged(f"Google gives more than {PAGES:,} pages of a folder")

    async def _page(self, query: str, folder: Item, page: str) -> tuple[list[Item], str]:
        params: dict[str, object] = {
            "q": query,
            "pageSize": PAGE,
            "fields": f"nextPageToken,incompleteSearch,files({FIELDS})",
            "supportsAllDrives": True,
            "includeItemsFromAllDrives": True,
        }
        params |= {"corpora": "drive", "driveId": self.drive} if self.drive and self._follows(folder) else {}
        params |= {"pageToken": page} if page else {}
        what = f"the folder {visible(folder.name)!r}" if folder.name else "the folder"
        found = await self.calls.json("drive/v3/files", what, params, headers=keyed(folder.place, folder.key))
        if found.get("incompleteSearch") is True:
            raise Unavailable(f"{what}: Google could not look through all of it")
        files, following = found.get("files"), found.get("nextPageToken") or ""
        if not isinstance(files, list) or not isinstance(following, str):
            raise Damaged(f"{what}: Google's answer is not what it documents")
        return [each for each in (item(file, self.calls.by) for file in files) if each], following

    # ── the feed ──

    async def caught_up(self, within: float) -> None:
        """Read the feed, unless it was read within so many seconds. Raises why it cannot be."""
        if not self._recent(within):
            await self.once.run("feed", self._poll)

    def catching_up(self, within: float) -> "asyncio.Task[None] | None":
        """The reading of the feed that is under way, or begins now; None where it was read within so many seconds."""
        return None if self._recent(within) else self.once.begun("feed", self._poll)

    def _recent(self, within: float) -> bool:
        return self.polled is not None and time.monotonic() - self.polled < within

    async def _poll(self) -> None:
        token = await asyncio.to_thread(self.index.fact, "token")
        began = time.monotonic()
        try:
            if self.names if token is None else not await self._read_feed(token):
                await self._begun_anew()
        except (NotFound, Damaged, Malformed):
            log.info("the change feed cannot be gone on with; folders are listed anew")
            await self._begun_anew()
        self.polled = began

    async def _begun_anew(self) -> None:
        """Nothing that is remembered is followed by the feed."""
        async with self.settling:
            for known in (self.names, self.partial, self.during, self.given):
                known.clear()
            self.changes += 1
            await asyncio.to_thread(self.index.clear)

    async def _read_feed(self, token: str) -> bool:
        """Take in what changed since `token`; False where asking for everything is less, or is needed."""
        params = self._where() | {
            "pageSize": PAGE,
            "fields": f"nextPageToken,newStartPageToken,changes(fileId,removed,file({FIELDS}))",
            "includeRemoved": True,
            "includeItemsFromAllDrives": True,
        }
        for _ in range(FEED):
            found = await self.calls.json("drive/v3/changes", "the change feed", params | {"pageToken": token})
            changes, following = found.get("changes"), found.get("nextPageToken") or found.get("newStartPageToken")
            if not isinstance(changes, list) or not isinstance(following, str):
                raise Damaged("the change feed: Google's answer is not what it documents")
            if not await self._applied([each for each in map(self._change, changes) if each], following):
                return False
            if not found.get("nextPageToken"):
                return True
            token = following
        return False

    def _change(self, change: Any) -> Change | None:
        """What became of a file; None where it is of something else."""
        if not isinstance(change, dict):
            raise Damaged("the change feed: Google's answer is not what it documents")
        place = change.get("fileId")
        if not is_id(place):
            return None
        return place, None if change.get("removed") is True else item(change.get("file"), self.calls.by)

    async def _applied(self, changes: list[Change], token: str) -> bool:
        """Take in what the feed tells; False where there is no index any more that it was of."""
        async with self.settling:
            touched = await asyncio.to_thread(self.index.apply, changes, token)
            if not changes or touched is None:
                return touched is not None
            self.partial.clear()
            self.given.clear()
            for known in self.during.values():
                known += changes
            if self.root.place == SHARED:  # nothing else tells what is shared since, or no longer
                await asyncio.to_thread(self.index.drop, SHARED)
                touched.add(SHARED)
            self._differ(touched)
        return True

    async def learnt(self, new: Item) -> None:
        """What we have made is known without asking."""
        async with self.settling:
            self.lately = None
            touched = await asyncio.to_thread(self.index.apply, [(new.id, new)], None) or ()
            self._differ([place for place in touched if not self._joined(place, new)])
            for known in self.during.values():
                known.append((new.id, new))

    def _joined(self, place: str, new: Item) -> bool:
        """Take a new file in among the names of a folder, where it changes no other's; so that a full one is not named
        anew for each."""
        names = self.names.get(place)
        if names is None or place not in new.parents or new.export or not alone(new.name):
            return False
        if names.get(new.name, new).id != new.id:
            return False
        names[new.name] = new
        return True

    def _differ(self, places: Iterable[str]) -> None:
        self.changes += 1
        for place in places:
            self.names.pop(place, None)

    async def _followed(self) -> None:
        """From here on the feed is remembered: before something is listed, so that no change falls between."""
        if await asyncio.to_thread(self.index.fact, "token") is None:
            await self.once.run("start", self._start)

    async def _start(self) -> None:
        if await asyncio.to_thread(self.index.fact, "token") is not None:
            return
        found = await self.calls.json("drive/v3/changes/startPageToken", "the change feed", self._where())
        if not isinstance(token := found.get("startPageToken"), str):
            raise Damaged("the change feed: Google's answer is not what it documents")
        await self._begun_anew()
        await asyncio.to_thread(self.index.remember, "token", token)

    def _where(self) -> dict[str, object]:
        return {"supportsAllDrives": True} | ({"driveId": self.drive} if self.drive else {})
