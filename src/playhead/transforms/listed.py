"""Tree -> Tree: what is in folders, and what files are (size, tag, date), remembered in memory and on disk.

What was told once is told again at once, and asked anew in the reader's back: a kept listing is given where a
newer one does not come in time, and a known file opens without a request; its bytes are asked for when they are
wanted, and checked then to be of the version that was promised. Only the origin's own "there is no such thing"
is believed: what cannot be reached is never empty. Requests are made once for all who ask at the same time, by
tasks of the tree, so that nobody's leaving ends another's. Each folder is a file of JSON, written soon after a
change; a file that is damaged is as none, and a disk that fails leaves the memory.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from playhead.blob import Blob, Piece, Pieces
from playhead.errors import Changed, Failure, NotFound, Unavailable, Unsized
from playhead.transforms import ledger, written
from playhead.transforms.ledger import File, Folder
from playhead.tree import Ask, Entries, Entry, Tree, Why, segments

UNSTEADY = 600.0  # seconds for which a file that changed while it was read is asked after more often
FOLDERS = 2000  # in memory; the others are read again when they are wanted
DELAY = 1.0  # seconds from a change to its writing
QUIET = 1.0  # seconds for which an origin that failed is not asked for what is kept

log = logging.getLogger("playhead.upstream")
T = TypeVar("T")


def listed(
    tree: Tree, folder: Path | None, *, name: str, fresh: float = 5.0, recheck: float = 60.0, patience: float = 0.3
) -> "Listed":
    """A tree that remembers, in memory and below `folder` (None: in memory only).

    `name` stands for the origin and the credentials. A listing is given as it is for `fresh` seconds; then a
    newer one is waited for `patience` seconds. A file that is opened is asked after every `recheck` seconds.
    """
    return Listed(tree, folder, name, fresh, recheck, patience)


@dataclass(frozen=True, slots=True, eq=False)
class _Known(Blob):
    """A file by what is known of it; `held` is the upstream's blob once there is one."""

    listed: "Listed"
    path: str
    why: Why
    held: list[Blob]

    async def stream(self, start: int, stop: int) -> Pieces:
        if start >= stop:
            return
        blob = self._opened() or await self.listed.reopened(self, Ask(start, stop, self.why))
        try:
            async with aclosing(blob.stream(start, stop)) as stream:
                async for piece in stream:
                    self.listed.confirmed(self)
                    yield piece
        except Changed:
            await self.listed.forget(self)
            raise

    def here(self, start: int, stop: int) -> Sequence[Piece] | None:
        return self.held[0].here(start, stop) if self.held else None

    def _opened(self) -> Blob | None:
        if not self.held and (blob := self.listed.opened.get((self.path, self.tag))):
            self.held.append(blob)
        return self.held[0] if self.held else None


class Listed(Tree):
    """See `listed`."""

    def __init__(
        self, tree: Tree, folder: Path | None, name: str, fresh: float, recheck: float, patience: float
    ) -> None:
        self.tree, self.folder, self.name = tree, folder, name
        self.fresh, self.recheck, self.patience = fresh, recheck, patience
        self.folders: OrderedDict[str, Folder] = OrderedDict()
        self.opened: WeakValueDictionary[tuple[str, str | None], Blob] = WeakValueDictionary()
        self.tasks: dict[tuple[str, str], asyncio.Task[Any]] = {}
        self.anew: dict[str, object] = {}  # folders that were written to since their listing began
        self.unsteady: dict[str, float] = {}  # files that lately were not what was known -> when
        self.quiet = 0.0  # until when the origin is left alone
        self.warned: set[str] = set()
        self.dirty: set[str] = set()
        self.writing = asyncio.Lock()
        self.timer: asyncio.TimerHandle | None = None
        self.saving: asyncio.Task[None] | None = None
        self.closed = False

    # ── the tree ──

    async def entries(self, folder: str = "") -> Entries:
        segments(folder)
        if written.marking.get():
            self.anew[folder] = object()
            if len(self.anew) > FOLDERS:
                del self.anew[next(iter(self.anew))]
            return
        for entry in (await self._listing(folder)).values():
            yield entry

    async def find(self, path: str) -> Entry:
        if not segments(path):
            return Entry("", folder=True)
        kept, name = await self._place(path)
        entry = kept.entry(name)
        if entry and (name in kept.files or _young(kept.listed, self.fresh) or self._quiet()):
            return entry
        return await self._newer(self._task("find", path, partial(self._find, path)), entry, self.patience)

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        segments(path)
        kept, name = await self._place(path)
        if file := kept.files.get(name):
            self._revalidate(path, file)
            return _Known(file.size, file.tag, self, path, ask.why, [], modified=file.modified)
        kind = f"open {ask.start} {ask.stop}"  # what is asked from elsewhere has its own answer, at the same time
        first = (kind, path) not in self.tasks
        blob = await _result(self._task(kind, path, partial(self._open, path, ask)))
        if blob.tag is None:
            return blob if first else await self.tree.open(path, ask)
        return _Known(blob.size, blob.tag, self, path, ask.why, [blob], modified=blob.modified)

    def flow(self, path: str) -> Pieces:
        return self.tree.flow(path)

    async def aclose(self) -> None:
        self.closed = True
        try:
            tasks = list(self.tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self.timer:
                self.timer.cancel()
            if self.saving:
                await self.saving
            await self._save()
        finally:
            await self.tree.aclose()

    def known(self, path: str) -> tuple[int, str] | None:
        """The size and tag of a file, where they are in memory."""
        file = self._remembered(path)
        return (file.size, file.tag) if file else None

    # ── asking the origin ──

    async def _listing(self, folder: str) -> dict[str, Entry]:
        kept, anew = await self._kept(folder), folder in self.anew
        if kept.entries is not None and ((_young(kept.listed, self.fresh) and not anew) or self._quiet()):
            return kept.entries
        if anew and (older := self.tasks.get(("list", folder))):
            await asyncio.wait([older])  # it may have begun before what was written was there
        task = self._task("list", folder, partial(self._list, folder))
        return await self._newer(task, kept.entries, None if anew else self.patience)

    async def _list(self, folder: str) -> dict[str, Entry]:
        began, anew = time.time(), self.anew.get(folder)
        try:
            async with aclosing(self.tree.entries(folder)) as entries:
                listing = {entry.name: entry async for entry in entries}
        except NotFound:
            kept = await self._kept(folder)
            if kept.entries is not None:
                kept.entries, kept.listed = None, 0.0
                self._touch(kept)
            raise
        kept = await self._kept(folder)
        self._compare(kept, listing, began)
        if kept.entries != listing:
            self._touch(kept)
        kept.entries, kept.listed = listing, time.time()
        if self.anew.get(folder) is anew:
            self.anew.pop(folder, None)
        return listing

    async def _find(self, path: str) -> Entry:
        before = self._remembered(path)
        try:
            entry = await self.tree.find(path)
        except NotFound:
            kept, name = await self._place(path)
            self._drop(kept, name)
            if kept.entries and name in kept.entries:
                kept.entries = {other: kept.entries[other] for other in kept.entries if other != name}
                self._touch(kept)
            raise
        kept, name = await self._place(path)
        if kept.files.get(name) is before:  # else somebody has learnt better meanwhile
            self._learn(kept, name, entry)
        return entry

    async def _open(self, path: str, ask: Ask) -> Blob:
        blob = await self.tree.open(path, ask)
        if blob.tag is not None:
            kept, name = await self._place(path)
            self._learn(kept, name, Entry(name, False, blob.size, blob.modified, blob.tag))
            self.opened[path, blob.tag] = blob
        return blob

    async def reopened(self, known: _Known, ask: Ask) -> Blob:
        """The upstream's blob of what is known. Raises Changed where that is another version by now."""
        changed = Changed(f"{known.path!r} is no longer the file that it was when it was last opened")
        try:
            blob = await self.tree.open(known.path, ask)
        except NotFound:
            await self.forget(known)
            raise
        except Unsized as failure:
            await self.forget(known)
            raise changed from failure
        if (blob.size, blob.tag) != (known.size, known.tag):
            await self.forget(known)
            raise changed
        if not known.held:
            known.held.append(blob)
            self.opened[known.path, known.tag] = blob
        return blob  # nothing may wait from here on: its answer is for the stream that asked

    def _revalidate(self, path: str, file: File) -> None:
        lately = time.time() - self.unsteady.get(path, 0.0) < UNSTEADY
        if (
            not self.closed
            and not self._quiet()
            and not _young(file.checked, self.fresh / 5 if lately else self.recheck)
        ):
            file.checked = time.time()
            self._task("find", path, partial(self._find, path))

    def _task(self, kind: str, path: str, doing: Callable[[], Coroutine[Any, Any, T]]) -> "asyncio.Task[T]":
        """The one task that does it now, for whoever wants it."""
        if self.closed:
            raise Unavailable(f"{path!r} cannot be asked for: this source was closed")
        key = kind, path
        if key not in self.tasks:
            self.tasks[key] = asyncio.create_task(doing())
            self.tasks[key].add_done_callback(partial(self._ended, key))
        return self.tasks[key]

    def _ended(self, key: tuple[str, str], task: "asyncio.Task[Any]") -> None:
        self.tasks.pop(key, None)
        failure = None if task.cancelled() else task.exception()
        if failure is None or isinstance(failure, NotFound):
            self.quiet = 0.0
            self.warned.discard("failed")
        elif not isinstance(failure, Failure):
            log.error("asking for %r failed in a way that was not foreseen", key[1], exc_info=failure)
        elif failure.again:
            self.quiet = time.monotonic() + min(QUIET, self.fresh)

    async def _newer(self, task: "asyncio.Task[T]", kept: T | None, patience: float | None) -> T:
        """What the task gives; where that fails, or takes too long, what is kept, if anything is."""
        try:
            newer = await _result(task, None if kept is None else patience)
        except NotFound:
            raise
        except (Failure, TimeoutError) as failure:
            if kept is None or self.closed:
                raise
            self._warn(failure)
            return kept
        self.warned -= {"slow", "failed"}
        return newer

    def _warn(self, failure: Exception) -> None:
        kind = "slow" if isinstance(failure, TimeoutError) else "failed"
        if not self.warned & {kind, "failed"}:
            log.warning("what was listed before is shown: %s", failure)
        self.warned.add(kind)

    def _quiet(self) -> bool:
        return time.monotonic() < self.quiet

    # ── what is known ──

    async def _place(self, path: str) -> tuple[Folder, str]:
        folder, _, name = path.rpartition("/")
        return await self._kept(folder), name

    async def _kept(self, path: str) -> Folder:
        if path not in self.folders:
            file = self._file(path)
            read = await asyncio.to_thread(ledger.read, file, path) if file else Folder(path)
            self.folders.setdefault(path, read)
            self._evict()
        self.folders.move_to_end(path)
        return self.folders[path]

    def _learn(self, kept: Folder, name: str, entry: Entry) -> None:
        """What the origin says of a file now: it is the one that is known, or another, or one to be asked for."""
        file, now = kept.files.get(name), time.time()
        if file and _agrees(entry, file):
            file.checked = now
        elif not entry.folder and entry.size is not None and entry.tag is not None:
            kept.files[name] = File(entry.size, entry.tag, entry.modified, now)
            self._touch(kept)
        else:
            self._drop(kept, name)

    def _compare(self, kept: Folder, listing: dict[str, Entry], began: float) -> None:
        """Drop what a new listing puts in doubt, and learn what it says; but not of files asked after since."""
        for name, file in list(kept.files.items()):
            before, after = (kept.entries or {}).get(name), listing.get(name)
            differs = before != after if before else after and not _agrees(replace(after, modified=None), file)
            if differs and file.checked < began:
                self._drop(kept, name)
        for name, entry in listing.items():
            known = kept.files.get(name)
            if entry.tag is not None and (known is None or known.checked < began):
                self._learn(kept, name, entry)

    async def forget(self, known: _Known) -> None:
        """The origin must be asked again."""
        self.unsteady[known.path] = time.time()
        if len(self.unsteady) > FOLDERS:
            del self.unsteady[next(iter(self.unsteady))]
        kept, name = await self._place(known.path)
        self.opened.pop((known.path, known.tag), None)
        if (file := kept.files.get(name)) and file.tag == known.tag:
            self._drop(kept, name)

    def _drop(self, kept: Folder, name: str) -> None:
        if kept.files.pop(name, None):
            self._touch(kept)

    def confirmed(self, known: _Known) -> None:
        """The origin has just given bytes of this version."""
        file = self._remembered(known.path)
        if file and file.tag == known.tag:
            file.checked = time.time()

    def _remembered(self, path: str) -> File | None:
        folder, _, name = path.rpartition("/")
        return self.folders[folder].files.get(name) if folder in self.folders else None

    # ── on disk ──

    def _file(self, path: str) -> Path | None:
        whole = f"{len(self.name)}:{self.name}{path}".encode("utf-8", "surrogatepass")
        return self.folder and self.folder / f"{blake2b(whole, digest_size=16).hexdigest()}.json"

    def _touch(self, kept: Folder) -> None:
        """It has changed: write it soon."""
        if self.folder is None or kept.foreign:
            return
        self.dirty.add(kept.path)
        if self.timer is None and not self.closed:
            self.timer = asyncio.get_running_loop().call_later(DELAY, self._start_saving)

    def _start_saving(self) -> None:
        self.timer, self.saving = None, asyncio.create_task(self._save())

    async def _save(self) -> None:
        async with self.writing:
            kept = [replace(self.folders[path], files=dict(self.folders[path].files)) for path in self.dirty]
            self.dirty.clear()
            failure = await asyncio.to_thread(ledger.write, [(self._file(each.path), each) for each in kept])
            if failure and "disk" not in self.warned:
                log.warning("listings cannot be kept on disk, but in memory only: %s", failure.strerror)
            self.warned |= {"disk"} if failure else set()
        self._evict()

    def _evict(self) -> None:
        if self.dirty or self.writing.locked():
            return  # what is not on disk yet must not be read from there
        while len(self.folders) > FOLDERS:
            self.folders.popitem(last=False)


async def _result(task: "asyncio.Task[T]", within: float | None = None) -> T:
    """What a task gives that others wait for too; whoever waits may leave alone. Raises TimeoutError."""
    await asyncio.wait([task], timeout=within)
    if not task.done():
        raise TimeoutError(f"the origin has not answered in {within} s")
    if task.cancelled():
        raise Unavailable("this source was closed")
    return task.result()


def _young(when: float, within: float) -> bool:
    return 0 <= time.time() - when < within


def _agrees(entry: Entry, file: File) -> bool:
    """May it be the file that is known? The tag decides where there is one, else the date."""
    if entry.folder or entry.size not in (None, file.size):
        return False
    return entry.tag == file.tag if entry.tag else entry.modified in (None, file.modified)
