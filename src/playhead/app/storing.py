"""A file of the spool -> Store: what was uploaded is pushed to where it belongs.

That is done by tasks of the server, which outlive the request that brought the last byte, and begin again after a
restart: each is one push with a journal in the spool. What may succeed later (the store cannot be reached, is full,
lets us in no more) is tried again for as long as uploads are kept; anything else ends it, and is told to whoever asks.

What lies at the place is replaced only where it is the version that the client has named: it is compared by the very
call that writes (`_Spot`). Files for the same place are stored one after the other, so that one wins also where a
store does not see to that.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from weakref import WeakValueDictionary

from playhead.app.listing import as_json
from playhead.app.spool import Limits, Spool, State, Upload
from playhead.blob import Blob
from playhead.doors import sent
from playhead.doors.push import Event, Summary, push
from playhead.errors import Changed, Failure, Full, NotFound, Unavailable, Unknown
from playhead.origins.local import LocalTree
from playhead.respond import wire_tag
from playhead.tree import Ask, Entries, Entry, Store, Tree

AT_ONCE = 4  # files
FIRST, MOST = 5.0, 600.0  # seconds between attempts
NOTICED = 10.0  # seconds that may be spent on telling that there is something new
END = 10.0  # seconds in which what is stored must end, or be cut off by the end of the process

log = logging.getLogger("playhead.uploads")

Noticed = Callable[[str, str], Awaitable[None]]
"""(name of a tree, a folder in which something is new)"""


def names(agreed: str | None, tag: str | None) -> bool:
    """Does a client's word for a version (a tag, or an ETag) mean this one?"""
    return agreed is not None and tag is not None and agreed in (tag, wire_tag(tag))


class _Spot(Tree, Store):
    """The place of one file in a store, which is never written over but in the version that was `agreed`."""

    def __init__(self, store: Tree, path: str, agreed: str | None) -> None:
        self.tree, self.path, self.agreed = store, path, agreed

    @property
    def store(self) -> Store:
        assert isinstance(self.tree, Store)
        return self.tree

    async def entries(self, folder: str = "") -> Entries:
        """Only what is at the place: its neighbours are nobody's business, and may be many."""
        try:
            yield await self.tree.find(self.path)
        except NotFound:
            return

    async def find(self, path: str) -> Entry:
        return await self.tree.find(path)

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        return await self.tree.open(path, ask)

    async def holds(self, path: str, blob: Blob) -> bool | None:
        return await self.store.holds(path, blob)

    async def put(
        self, path: str, blob: Blob, *, replaces: str | None, state: str | None, keep: Callable[[str], None]
    ) -> Entry:
        if replaces is None and self.agreed is not None:
            raise Changed(f"{path!r} is gone: there is nothing to replace")
        if replaces is not None and not names(self.agreed, replaces):
            there = "is there already" if self.agreed is None else "is not the version that was to be replaced"
            raise Changed(f"{path!r} {there}")
        return await self.store.put(path, blob, replaces=replaces, state=state, keep=keep)


class Storing:
    """The tasks that bring uploads to their stores."""

    def __init__(self, spool: Spool, stores: Mapping[str, Tree], limits: Limits, noticed: Noticed | None) -> None:
        self.spool, self.stores, self.limits, self.noticed = spool, stores, limits, noticed
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.summaries: dict[str, Summary] = {}
        self.room = asyncio.Semaphore(AT_ONCE)
        self.places: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def begin(self, upload: Upload) -> None:
        """Store it, until that has ended one way or the other."""
        task = self.tasks[upload.id] = asyncio.create_task(self._store(upload))
        task.add_done_callback(lambda task: self._ended(upload, task))

    def stored(self, upload: Upload) -> int:
        """How many bytes are certain at the store."""
        if upload.state is State.DONE:
            return upload.size
        summary = self.summaries.get(upload.id)
        return min(upload.size, summary.certain) if summary else 0

    async def end(self, *ids: str) -> None:
        """Stop storing these; they can be gone on with."""
        tasks = [self.tasks[id] for id in ids if id in self.tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=END)

    def _ended(self, upload: Upload, task: "asyncio.Task[None]") -> None:
        self.tasks.pop(upload.id, None)
        self.summaries.pop(upload.id, None)
        if not task.cancelled() and (error := task.exception()):
            log.error("%r could not be stored, in a way that was not foreseen", upload.path, exc_info=error)
            upload.state, upload.message, upload.status = State.FAILED, "a bug of ours; the log says more", 500

    async def _store(self, upload: Upload) -> None:
        pause = FIRST
        while True:
            try:
                entry = await self._stored(upload)
            except Failure as failure:
                if not self._later(failure, upload):
                    return await self._settled(upload, State.FAILED, failure)
                log.warning("%r waits to be stored: %s", upload.path, failure.told)
                upload.message = f"{failure.told}; it is tried again"
                await asyncio.sleep(max(pause, min(failure.after or 0.0, MOST)))
                pause = min(2 * pause, MOST)
            else:
                upload.entry = as_json(entry)
                return await self._settled(upload, State.DONE)

    def _later(self, failure: Failure, upload: Upload) -> bool:
        young = time.time() - upload.touched < self.limits.age
        return young and (failure.again or isinstance(failure, Full | Unknown))

    async def _settled(self, upload: Upload, state: State, failure: Failure | None = None) -> None:
        if state is State.DONE:
            await self._notice(upload)
        upload.message, upload.status = (failure.told, failure.status) if failure else ("", 0)
        try:
            await asyncio.to_thread(self.spool.settle, upload, state)
        except Failure as failed:  # after a restart it is found to be stored already
            log.warning("%r: %s", upload.path, failed.told)
        upload.state = state

    async def _notice(self, upload: Upload) -> None:
        if self.noticed is None:
            return
        try:
            async with asyncio.timeout(NOTICED):
                await self.noticed(upload.tree, upload.path.rpartition("/")[0])
        except (Failure, TimeoutError) as error:
            log.warning("what is listed of %r may be out of date: %s", upload.path, error)

    async def _stored(self, upload: Upload) -> Entry:
        store = self.stores.get(upload.tree)
        if store is None:
            raise Unavailable(f"the tree {upload.tree!r} is not to be written to now")
        place = self.places.setdefault((upload.tree, upload.path), asyncio.Lock())
        async with place, self.room:
            upload.message = ""
            return await self._pushed(upload, store)

    async def _pushed(self, upload: Upload, store: Tree) -> Entry:
        failed: list[Failure] = []

        def told(event: Event) -> None:
            self.summaries[upload.id] = event.summary
            if event.failure is not None:
                failed.append(event.failure)

        source = await asyncio.to_thread(LocalTree, self.spool.inside(upload))
        journal = await asyncio.to_thread(sent.opened, self.spool.place(upload) / "push.journal")
        spot, folder = _Spot(store, upload.path, upload.replaces), upload.path.rpartition("/")[0]
        try:
            await push(source, upload.name, spot, folder, at_once=1, overwrite=True, journal=journal, told=told)
        finally:
            await asyncio.to_thread(journal.close)
            await source.aclose()
        if failed:
            raise failed[0]
        return await store.find(upload.path)
