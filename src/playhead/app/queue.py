"""Downloads in order -> those that run: so many at a time, and all of them again after a restart.

A download is in one of three places: it waits (or is paused) in a line, it runs as a task, or it has stopped. Pausing
and removing one that runs cancels its task; what becomes of it is settled when that has ended, so that never two
tasks write one file. What was asked for is on disk when `saved` returns: one write for all changes until then. Trying
again is the business of the job itself.
"""

import asyncio
import logging
import os
import re
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from playhead.app import items, wanted
from playhead.app.items import STOPPED, Item, Start, State
from playhead.errors import (
    Busy,
    Changed,
    Damaged,
    Denied,
    Failure,
    Full,
    Malformed,
    NotFound,
    Unavailable,
    Unknown,
    Unsized,
)

MOST = 10_000  # downloads that wait or run
BYTES = 48 << 20  # of all that is kept of them
RESULTS = 1_000  # stopped ones that are kept
LOOK = 2.0  # seconds after which what the jobs have learned is noted
END = 10.0  # seconds that jobs have to end in

log = logging.getLogger("playhead.queue")

Listener = Callable[[str, str], None]
"""(event as aria2 calls it, GID)"""


class Queue:
    """The downloads into a folder. `state`: the file that they are kept in; `trees`: names that NAME:path may have."""

    def __init__(
        self, start: Start, folder: Path, state: Path, *, at_once: int = 3, trees: Container[str] = ()
    ) -> None:
        self.start, self.folder, self.state, self.at_once, self.trees = start, folder, state, at_once, trees
        self.items: dict[str, Item] = {}
        self.line: list[Item] = []  # those that wait or are paused, in order
        self.active: dict[str, Item] = {}
        self.stopped: dict[str, Item] = {}  # oldest first
        self.stopped_total = 0  # since this process began
        self.listeners: set[Listener] = set()
        self.bytes = 0
        self.lock = -1
        self.changes = self.written = 0
        self.writing: asyncio.Task[None] | None = None
        self.looking: asyncio.TimerHandle | None = None
        self.open = False

    # ── beginning and ending ──

    async def begin(self) -> None:
        """Go on with what is kept. Raises Busy where another process does, Unavailable where it cannot be read."""
        try:
            self.lock = await asyncio.to_thread(items.held, self.state)
            found = await asyncio.to_thread(items.read, self.state)
        except OSError as error:
            await self.aclose()
            raise Unavailable(f"the queue of downloads cannot be read: {_reason(error)}") from error
        for item in found:
            self._enlist(item, self.stopped if item.state in STOPPED else None)
        self.open = True
        self._fill()

    async def aclose(self) -> None:
        """End the jobs, which go on when the queue begins again."""
        self.open = False
        if self.looking:
            self.looking.cancel()
        tasks = [item.task for item in self.active.values() if item.task]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=END)
        await self.saved()
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    # ── what can be asked of it ──

    def find(self, gid: str) -> Item:
        """Raises NotFound."""
        if gid not in self.items:
            raise NotFound(f"GID {gid} is not found")
        return self.items[gid]

    def look(self, item: Item) -> Item:
        """The same, knowing what its job knows by now."""
        if item.look():
            self._changed(item)
        return item

    async def add(self, uris: Sequence[Any], given: Mapping[str, Any], position: int | None = None) -> Item:
        """A new download, at a position of the line or behind it. Raises a Failure where it is not allowed."""
        options = wanted.options(given)
        item = Item(_gid(given), wanted.addresses(uris, self.trees), options)
        item.place = await asyncio.to_thread(wanted.place, self.folder, wanted.text("dir", given.get("dir", "")))
        if wanted.text("pause", given.get("pause", "")) == "true":
            item.state = State.PAUSED
        self._room(item)
        self._enlist(item, None, position)
        self._changed(item)
        self._fill()
        return item

    async def change(self, item: Item, given: Mapping[str, Any]) -> None:
        """Other options for a download that does not run. Raises a Failure."""
        options, dir = wanted.options(given), wanted.text("dir", given.get("dir", item.place))
        place = await asyncio.to_thread(wanted.place, self.folder, dir)
        if item not in self.line:
            raise Busy(f"GID#{item.gid} cannot be changed now; pause it first")
        item.options, item.place = item.options | options, place
        self._changed(item)

    def pause(self, item: Item) -> None:
        """Raises Busy where that is not possible now."""
        if item.task and item.next in (None, State.WAITING):
            self._end(item, State.PAUSED)
        elif item.state is State.WAITING:
            item.state = State.PAUSED
            self._changed(item)
        else:
            raise Busy(f"GID#{item.gid} cannot be paused now")

    def unpause(self, item: Item) -> None:
        """Raises Busy where that is not possible now."""
        if item.task and item.next is State.PAUSED:
            item.next = State.WAITING
        elif item.state is State.PAUSED:
            item.state = State.WAITING
        else:
            raise Busy(f"GID#{item.gid} cannot be unpaused now")
        self._changed(item)
        self._fill()

    def remove(self, item: Item) -> None:
        """Forget one that waits, end one that runs; its files stay. Raises NotFound where it has stopped."""
        if item.gid in self.stopped or item.next is State.REMOVED:
            raise NotFound(f"Active Download not found for GID#{item.gid}")
        if item.task:
            self._end(item, State.REMOVED)
        else:
            self._forget(item)

    def again(self, item: Item) -> None:
        """Put one that failed or was removed into the line once more. Raises Busy where it did neither."""
        if item.state not in (State.ERROR, State.REMOVED):
            raise Busy(f"GID#{item.gid} cannot be tried again now")
        del self.stopped[item.gid]
        item.state, item.code, item.error = State.WAITING, 0, ""
        self.line.append(item)
        self._changed(item)
        self._fill()

    def forget(self, item: Item) -> None:
        """Drop the result of one that has stopped. Raises Busy where it has not."""
        if item.gid not in self.stopped:
            raise Busy(f"Could not remove download result of GID#{item.gid}")
        self._forget(item)

    def purge(self) -> None:
        """Drop the results of all that have stopped."""
        for item in list(self.stopped.values()):
            self._forget(item)

    def pause_all(self) -> None:
        for item in [*self.active.values(), *self.line]:
            with suppress(Busy):
                self.pause(item)

    def unpause_all(self) -> None:
        for item in [*self.line, *self.active.values()]:
            with suppress(Busy):
                self.unpause(item)

    def move(self, item: Item, position: int, how: str) -> int:
        """To a position of the line, from its beginning, its end or where it is. Raises NotFound or Malformed."""
        if item not in self.line:
            raise NotFound(f"GID#{item.gid} not found in the waiting queue.")
        at, last = self.line.index(item), len(self.line) - 1
        base = {"POS_SET": 0, "POS_CUR": at, "POS_END": last}.get(how)
        if base is None:
            raise Malformed("Illegal argument.")
        to = min(max(base + position, 0), last)
        self.line.insert(to, self.line.pop(at))
        self._changed()
        return to

    # ── running ──

    def limit(self, at_once: int) -> None:
        """Run so many at a time from now on; those that run already are left."""
        self.at_once = at_once
        self._fill()

    def _fill(self) -> None:
        if not self.open:
            return
        for item in [item for item in self.line if item.state is State.WAITING]:
            if len(self.active) >= self.at_once:
                break
            self._begin(item)

    def _begin(self, item: Item) -> None:
        self.line.remove(item)
        self.active[item.gid] = item
        item.state, item.code, item.error = State.ACTIVE, 0, ""
        item.task = asyncio.create_task(self._run(item))
        item.task.add_done_callback(lambda task: self._ended(item, task))
        self.looking = self.looking or asyncio.get_running_loop().call_later(LOOK, self._look)
        self._tell("onDownloadStart", item)

    async def _run(self, item: Item) -> None:
        """The name that was learned is asked for when it goes on, so that it goes on with the same file."""
        place = await asyncio.to_thread(wanted.place, self.folder, item.place)
        options = item.options | ({"out": item.name} if item.name else {})
        item.job = self.start(item.uris, options | {"dir": os.path.join(self.folder, place)})
        await item.job.run()

    def _end(self, item: Item, then: State) -> None:
        """Cancel what runs; `then` is what it becomes. Where it was asked before, only that is changed."""
        asked, item.next = item.next, then
        if asked is None and item.task:
            item.task.cancel()
        self._changed(item)

    def _ended(self, item: Item, task: "asyncio.Task[None]") -> None:
        item.look()
        item.job = item.task = None
        then, item.next = item.next, None
        del self.active[item.gid]
        error = None if task.cancelled() else task.exception()
        if not task.cancelled() and error is None:
            item.state, item.have = State.COMPLETE, item.size or item.have
        elif then is not None or error is None:
            item.state = then or State.WAITING
        else:
            item.state, item.code, item.error = State.ERROR, *_told(error)
        if item.state is State.REMOVED:
            item.code = 31  # aria2's number of "removed by the user"
        if item.state in STOPPED:
            self._stop(item)
        else:
            self.line.insert(0, item)
        self._changed(item)
        if event := _EVENTS.get(item.state):
            self._tell(event, item)
        self._fill()

    def _stop(self, item: Item) -> None:
        self.stopped[item.gid] = item
        self.stopped_total += 1
        while len(self.stopped) > RESULTS:
            self._forget(next(iter(self.stopped.values())))

    def _tell(self, event: str, item: Item) -> None:
        for listener in list(self.listeners):
            listener(event, item.gid)

    # ── what is kept ──

    def _room(self, item: Item) -> None:
        if not self.open:
            raise Unavailable("the queue of downloads is not running")
        if item.gid in self.items:
            raise Busy(f"GID {item.gid} is that of another download")
        there = len(self.line) + len(self.active)
        if there >= MOST or self.bytes + len(item.packed()) > BYTES:
            raise Busy(f"there are {there:,} downloads already; remove some, or wait until they are done")

    def _enlist(self, item: Item, stopped: dict[str, Item] | None, position: int | None = None) -> None:
        self.items[item.gid] = item
        self.bytes += len(item.packed())
        if stopped is not None:
            stopped[item.gid] = item
        else:
            self.line.insert(len(self.line) if position is None else position, item)

    def _forget(self, item: Item) -> None:
        self.bytes -= len(item.packed())
        del self.items[item.gid]
        self.stopped.pop(item.gid, None)
        if item in self.line:
            self.line.remove(item)
        self._changed()

    def _look(self) -> None:
        self.looking = None
        for item in self.active.values():
            self.look(item)
        if self.active:
            self.looking = asyncio.get_running_loop().call_later(LOOK, self._look)

    def _changed(self, *changed: Item) -> None:
        for item in changed:
            if item.gid in self.items:
                self.bytes -= len(item.packed())
                item.line = None
                self.bytes += len(item.packed())
        self.changes += 1
        if self.writing is None and self.lock >= 0:
            self.writing = asyncio.create_task(self._write())

    async def saved(self) -> None:
        """Returns when all that was asked for until now is on disk, or cannot be written, which the log says."""
        wanted = self.changes
        while self.written < wanted and self.writing:
            await asyncio.shield(self.writing)

    async def _write(self) -> None:
        try:
            while self.written < self.changes:
                changes = self.changes
                everything = [*self.active.values(), *self.line, *self.stopped.values()]
                lines = [item.packed() for item in everything]
                try:
                    await asyncio.to_thread(items.write, self.state, lines)
                except OSError as error:
                    log.warning("the queue of downloads cannot be kept: %s", _reason(error))
                self.written = changes
        finally:
            self.writing = None


_EVENTS = {
    State.PAUSED: "onDownloadPause",
    State.REMOVED: "onDownloadStop",
    State.COMPLETE: "onDownloadComplete",
    State.ERROR: "onDownloadError",
}
# aria2's numbers: 1 unknown, 3 not found, 6 network, 8 cannot be resumed, 9 disk full, 22 bad answer, 24 not allowed,
# 28 bad option, 29 overloaded.
_CODES: dict[type[BaseException], int] = {
    NotFound: 3,
    Unavailable: 6,
    Changed: 8,
    Full: 9,
    Damaged: 22,
    Unsized: 22,
    Unknown: 24,
    Denied: 24,
    Malformed: 28,
    Busy: 29,
}


def _told(error: BaseException) -> tuple[int, str]:
    if isinstance(error, Failure):
        return _CODES.get(type(error), 1), str(error)
    log.error("a bug of ours in a download", exc_info=error)
    return 1, "a bug of ours; the log says more"


def _gid(given: Mapping[str, Any]) -> str:
    asked = wanted.text("gid", given.get("gid", ""))
    if asked and not re.fullmatch("[0-9a-fA-F]{16}", asked):
        raise Malformed(f"Invalid GID {asked[:32]}")
    return asked.lower() or token_hex(8)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()
