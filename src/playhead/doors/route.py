"""What a download is made over: routes to the bytes, lanes on them, the server behind them, and the rate of all.

A route is a way to the origin: directly, through a proxy, or to another server with the same file. A lane is one
connection, which fetches a stretch of what is missing.
"""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playhead.blob import Blob


@dataclass(slots=True, eq=False)
class Route:
    """A way to the bytes."""

    name: str
    blob: Blob
    lanes: int = 0
    pace: float = 0.0  # bytes a second of one of its lanes
    failed: int = 0  # times in a row, without a byte between them
    odd: int = 0  # answers in a row that could not be right
    until: float = 0.0  # not to be asked before
    cap: int = 1 << 62  # bytes that a request may ask for
    dead: bool = False


@dataclass(slots=True, eq=False)
class Lane:
    """A connection, and its stretch. From `base` on it has written nothing; from `at` on nothing has come yet.

    `asked` is where its request ends, `stop` where its stretch does.
    """

    route: Route
    base: int
    stop: int
    at: int = 0
    asked: int = 0
    since_asked: int = 0  # where its request began
    began: float = 0.0
    first: float = 0.0  # when its first byte came
    counted: int = 0
    since: float = 0.0
    pace: float = 0.0
    given_up: bool = False
    ending: bool = False
    task: "asyncio.Task[None] | None" = None

    @property
    def left(self) -> int:
        return self.stop - self.at

    def measure(self, now: float) -> None:
        """Its pace, over the last moments."""
        took = now - max(self.since, self.began)
        if took >= 0.2:
            lately = self.counted / took
            self.pace = lately if not self.pace else (self.pace + lately) / 2
            self.counted, self.since = 0, now


async def surely(work: Coroutine[Any, Any, None]) -> None:
    """Do it to its end, however often this is cancelled meanwhile; then raise that."""
    task, cancelled = asyncio.ensure_future(work), False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
        except BaseException:
            break
    if cancelled:
        task.exception()
        raise asyncio.CancelledError
    task.result()


@dataclass(slots=True)
class Rate:
    """Bytes a second that all downloads of a process together may have; None: as many as come."""

    limit: float | None = None
    ready: float = 0.0

    async def passed(self, length: int) -> None:
        """Wait so that so many bytes are within the limit."""
        if self.limit:
            now = time.monotonic()
            self.ready = max(self.ready, now - 0.2) + length / self.limit
            if self.ready > now:
                await asyncio.sleep(self.ready - now)


@dataclass(slots=True)
class Host:
    """A server, and the connections that all downloads of a process together have to it."""

    most: int = 64
    open: int = 0
    rate: Rate = field(default_factory=Rate)
    taken: set[Path] = field(default_factory=set)  # targets of this run
