"""Tree -> Store: every file below a folder of one tree, into a folder of another.

The source is walked while what was found is sent, several files at once; each folder of the target is listed when its
first file comes, unless the listing above shows that it is not there. So nothing waits for all of either to be listed,
and a file whose name is not at the target costs no request but its own. A file or a folder that fails is told of, and
stops nothing else; a store that is full, or lets nobody in, or has died, ends the push with that failure.

What is at the target is never overwritten unless that is asked for, and nothing of the source is ever changed.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import NoReturn, TypeVar

from playhead.doors.sending import Event, File, How, Listing, Sending, Summary
from playhead.doors.sent import Journal
from playhead.doors.trials import PATIENCE, Over, Trial
from playhead.errors import Denied, Failure, Malformed, NotFound
from playhead.origins.local import LocalTree
from playhead.transforms.retry import Patience
from playhead.tree import Entry, Tree, join

AT_ONCE = 16  # files
AHEAD = 512  # files that are found before they are sent, at most
LISTINGS = 8  # folders of the target that are listed at once
DEEPEST = 256  # folders within folders; more are a circle of links

__all__ = ["Event", "Summary", "push"]

T = TypeVar("T")


async def push(
    source: Tree,
    folder: str,
    store: Tree,
    to: str,
    *,
    at_once: int = AT_ONCE,
    overwrite: bool = False,
    verify: bool = False,
    dry_run: bool = False,
    journal: Journal | None = None,
    told: Callable[[Event], None] = lambda event: None,
    patience: Patience = PATIENCE,
) -> Summary:
    """Copy what is below `folder` of a tree (or the one file that it is) to the folder `to` of another that is a Store.

    `overwrite`: replace other versions. `verify`: read what is there, and what was sent, and compare each byte.
    `dry_run`: only tell what would be sent. Each thing that happens is `told`, in the loop; a file that fails only so.
    Raises NotFound where there is no such folder, Malformed where the target cannot be written, and what ended it all:
    Full, Unknown, Unavailable, Busy. What the journal has is gone on with, then and after a kill.
    """
    how = How(overwrite, verify, dry_run, patience)
    pushing = _Push(Sending(source, store, how, journal, told), folder, to, at_once)
    pushing.sending.tell("begin")
    try:
        await pushing.run()
    finally:
        pushing.sending.tell("summary")
    return pushing.sending.summary


class _Push:
    def __init__(self, sending: Sending, folder: str, to: str, at_once: int) -> None:
        self.sending, self.folder, self.to, self.at_once = sending, folder, to, at_once
        self.queue: asyncio.Queue[File | None] = asyncio.Queue(AHEAD)
        self.listings: set[Listing] = set()
        self.places = asyncio.Semaphore(LISTINGS)

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._walk())
                for _ in range(self.at_once):
                    group.create_task(self._work())
        except BaseExceptionGroup as failures:
            _raise(failures)
        finally:
            left = list(self.listings)
            for listing in left:
                listing.cancel()
            if left:
                await asyncio.wait(left)

    async def _work(self) -> None:
        while (file := await self.queue.get()) is not None:
            await self.sending.send(file)

    # ── the source ──

    async def _walk(self) -> None:
        """Find all files of the source."""
        root = await self._again(lambda: self.sending.source.find(self.folder))
        listing = self._listing(self.to, "", None)
        if root.folder:
            waiting = [(self.folder, "", listing, 0)]
            while waiting:
                place, path, listing, depth = waiting.pop()
                try:
                    folders = await self._folder(place, path, listing)
                except Failure as failure:
                    if not path:
                        raise
                    self.sending.failed(path, failure)
                    continue
                for name in folders:
                    below = join(path, name)
                    if depth >= DEEPEST or await _circular(self.sending.source, join(place, name)):
                        self.sending.failed(below, Malformed(f"{below!r} is a link that leads back to where it is"))
                        continue
                    there = self._listing(join(self.to, below), name, listing)
                    waiting.append((join(place, name), below, there, depth + 1))
        else:
            await self._found(File(self.folder, root.name, join(self.to, root.name), root, listing))
        self.sending.summary.listed = True
        for _ in range(self.at_once):
            await self.queue.put(None)

    async def _folder(self, place: str, path: str, listing: Listing) -> list[str]:
        """Find the files of one folder; returns its folders."""
        seen: dict[str, bool] = {}

        async def read() -> None:
            async with aclosing(self.sending.source.entries(place)) as entries:
                async for entry in entries:
                    if entry.name not in seen:
                        seen[entry.name] = entry.folder
                        if not entry.folder:
                            below = join(path, entry.name)
                            to = join(self.to, below)
                            await self._found(File(join(place, entry.name), below, to, entry, listing))

        await self._again(read)
        return [name for name, folder in seen.items() if folder]

    async def _found(self, file: File) -> None:
        self.sending.summary.found += 1
        self.sending.summary.size += file.entry.size or 0
        await self.queue.put(file)

    async def _again(self, attempt: Callable[[], Awaitable[T]]) -> T:
        trial = Trial()
        while True:
            try:
                return await attempt()
            except Failure as failure:
                await self.sending.trials.again(failure, trial)

    # ── the target ──

    def _listing(self, folder: str, name: str, above: Listing | None) -> Listing:
        """What is in a folder of the target, being read."""
        listing = asyncio.create_task(self._listed(folder, name, above))
        self.listings.add(listing)
        listing.add_done_callback(self._ended)
        return listing

    def _ended(self, listing: Listing) -> None:
        self.listings.discard(listing)
        if not listing.cancelled():
            listing.exception()  # whoever wants it hears of it

    async def _listed(self, folder: str, name: str, above: Listing | None) -> dict[str, Entry]:
        if above is not None:
            there = (await asyncio.shield(above)).get(name)
            if there is None:
                return {}
            if not there.folder:
                raise Malformed(f"{folder!r} is a file at the target: nothing can be put below it")

        async def read() -> dict[str, Entry]:
            async with aclosing(self.sending.target.entries(folder)) as entries:
                return {entry.name: entry async for entry in entries}

        async with self.places:
            try:
                return await self._again(read)
            except NotFound:
                return {}
            except Denied as failure:
                if above is not None:
                    raise
                raise Over(failure) from failure


async def _circular(tree: Tree, path: str) -> bool:
    """Is a folder of this machine a link to one that it lies in?"""
    return isinstance(tree, LocalTree) and await asyncio.to_thread(_leads_back, os.path.join(tree.root, path))


def _leads_back(place: str) -> bool:
    real, parent = os.path.realpath(place), os.path.realpath(os.path.dirname(place))
    return parent == real or parent.startswith(real.rstrip("/") + "/")


def _raise(failures: BaseExceptionGroup[BaseException]) -> NoReturn:
    """What ended the push."""
    flat = [error for error in failures.exceptions if not isinstance(error, BaseExceptionGroup)]
    over = next((error for error in flat if isinstance(error, Over)), None)
    raise over.failure if over else flat[0] if flat else failures
