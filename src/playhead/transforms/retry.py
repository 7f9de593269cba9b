"""Tree -> Tree: tries again what may succeed later, and goes on from the byte that was reached.

Only failures that say so (`again`) are met with another attempt, after a jittered, growing pause, or after as
long as the origin asks for. Whatever arrives begins the count anew. A stream goes on only where its tag
promises that the rest is of the same bytes. All attempts of a tree draw on one budget, which successes fill: an
origin that is dead empties it, and from then on fails at once. A listing is gathered first, so that no folder is
ever given twice, or short.
"""

import random
import time
from asyncio import sleep
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from playhead.blob import Blob, Piece, Pieces
from playhead.errors import Failure
from playhead.tree import Ask, Entries, Entry, Tree

BLOCK = 64 << 10  # bytes that count as one success

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long to try without progress. The first pause is up to `first` seconds, each twice the last.

    `seconds` bounds attempts and pauses together, but one more attempt is always made. An origin that asks for
    more than `longest` seconds is not waited for. Each retry costs 1 of `budget`, each success gives `back`.
    """

    attempts: int = 4
    seconds: float = 20.0
    first: float = 0.1
    most: float = 16.0
    longest: float = 30.0
    budget: float = 10.0
    back: float = 0.2


def retried(tree: Tree, patience: Patience = Patience()) -> "Retried":
    """The same tree, trying again what may succeed later."""
    return Retried(tree, patience)


class Retried(Tree):
    """`retries` counts all attempts but the first ones; `tokens` is what is left of the budget."""

    def __init__(self, tree: Tree, patience: Patience) -> None:
        self.tree, self.patience = tree, patience
        self.retries, self.tokens = 0, patience.budget

    async def entries(self, folder: str = "") -> Entries:
        for entry in await self.tried(lambda: self._listing(folder)):
            yield entry

    async def find(self, path: str) -> Entry:
        return await self.tried(lambda: self.tree.find(path))

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        blob = await self.tried(lambda: self.tree.open(path, ask))
        return _Resumed(blob.size, blob.tag, blob, self, modified=blob.modified)

    def flow(self, path: str) -> Pieces:
        return self.resumed(lambda at: self.tree.flow(path), goes_on=False)

    async def aclose(self) -> None:
        await self.tree.aclose()

    async def _listing(self, folder: str) -> list[Entry]:
        async with aclosing(self.tree.entries(folder)) as entries:
            return [entry async for entry in entries]

    async def tried(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """What an attempt gives, which is made again where that may help."""
        trial = _Trial(self)
        while True:
            try:
                got = await attempt()
            except Failure as failure:
                if not await trial.goes_on(failure):
                    raise
            else:
                self.earn(1)
                return got

    async def resumed(self, begin: Callable[[int], Pieces], goes_on: bool) -> Pieces:
        """The pieces that `begin(0)` gives; after a failure, those of `begin(bytes given so far)`."""
        at, trial = 0, _Trial(self)
        while True:
            try:
                async with aclosing(begin(at)) as stream:
                    async for piece in stream:
                        at += len(piece)
                        yield piece
                        self.earn(len(piece) / BLOCK)
                        trial.progress()
                self.earn(1)
                return
            except Failure as failure:
                if (at and not goes_on) or not await trial.goes_on(failure):
                    raise

    def earn(self, successes: float) -> None:
        self.tokens = min(self.patience.budget, self.tokens + self.patience.back * successes)

    def spend(self) -> bool:
        """May there be one more retry? Then it is counted."""
        if self.tokens < 1:
            return False
        self.tokens, self.retries = self.tokens - 1, self.retries + 1
        return True


@dataclass(frozen=True, slots=True, eq=False)
class _Resumed(Blob):
    blob: Blob
    tree: Retried

    def stream(self, start: int, stop: int) -> Pieces:
        return self.tree.resumed(lambda at: self.blob.stream(start + at, stop), self.tag is not None)

    def here(self, start: int, stop: int) -> Sequence[Piece] | None:
        return self.blob.here(start, stop)


class _Trial:
    """One thing that is tried until it succeeds, or patience ends. Time with the reader does not count."""

    __slots__ = ("since", "tree", "tried")

    def __init__(self, tree: Retried) -> None:
        self.tree = tree
        self.progress()

    def progress(self) -> None:
        self.tried, self.since = 0, time.monotonic()

    async def goes_on(self, failure: Failure) -> bool:
        """Wait before another attempt; False where there is to be none."""
        self.tried += 1
        pause = self._pause(failure)
        if pause is None or not self.tree.spend():
            if failure.again:
                failure.add_note(f"tried {self.tried} time{'s' * (self.tried > 1)} in a row")
            return False
        await sleep(pause)
        return True

    def _pause(self, failure: Failure) -> float | None:
        patience, after = self.tree.patience, failure.after or 0.0
        if not failure.again or self.tried >= patience.attempts or after > patience.longest:
            return None
        ceiling = min(patience.most, patience.first * 2 ** (self.tried - 1))
        pause = max(after, random.uniform(0, ceiling))
        late = time.monotonic() - self.since + pause > patience.seconds
        return None if late and self.tried > 1 else pause
