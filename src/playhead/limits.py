"""What one origin allows: connections at a time, requests a second, bytes a day; shared by all who read from it.

Who wants to send a request enters, and leaves when its answer has been read. Where there is no room, the lowest
priority number goes first, and equals in the order in which they came; nobody waits for ever. A room that is
given to somebody who was cancelled meanwhile goes to the next. Bytes are counted by the day in UTC, and are not
taken back: what is being read goes on, and the next to enter is refused.
"""

import asyncio
import heapq
import logging
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from itertools import count

from playhead.errors import Busy

PATIENCE = 60.0  # seconds for a place; then the reader is told instead of kept
WARNING = 0.8  # of the bytes of a day
DAY = 86_400
EPOCH = date(1970, 1, 1).toordinal()

log = logging.getLogger("playhead.limits")

_Waiter = tuple[int, int, "asyncio.Future[None]"]


class Limits:
    """No limit where an argument is None; without any, entering costs nothing. Belongs to the loop that first waits."""

    def __init__(
        self,
        *,
        rate: float | None = None,
        connections: int | None = None,
        bytes_per_day: int | None = None,
        clock: Callable[[], float] = time.time,
        name: str = "",
    ) -> None:
        self.rate, self.connections, self.bytes_per_day = rate, connections, bytes_per_day
        self.clock, self.name = clock, name
        self.gated = rate is not None or connections is not None
        self.inside = 0
        self.tokens = self.burst = max(1.0, rate or 1.0)
        self.filled = time.monotonic()  # when the tokens were last counted
        self.waiting: list[_Waiter] = []
        self.arrivals = count()
        self.timer: asyncio.TimerHandle | None = None
        self.day, self.bytes, self.told = int(clock() // DAY), 0, 0.0

    # ── places ──

    async def enter(self, priority: int = 0) -> None:
        """Wait for a place; give it back by `leave`. Raises Busy where none came free in time, or the day is spent."""
        self._refuse_if_spent()
        if not self.gated or (not self.waiting and self._take()):
            return
        await self._turn(priority)
        try:
            self._refuse_if_spent()
        except Busy:
            self.leave()
            raise

    def leave(self) -> None:
        if self.gated:
            self.inside -= 1
            self._admit()

    async def _turn(self, priority: int) -> None:
        loop = asyncio.get_running_loop()
        waiter = (priority, next(self.arrivals), loop.create_future())
        heapq.heappush(self.waiting, waiter)
        deadline = loop.call_later(PATIENCE, self._send_away, waiter)
        self._admit()
        try:
            await waiter[2]
        except asyncio.CancelledError:
            self._give_up(waiter)
            raise
        finally:
            deadline.cancel()

    def _send_away(self, waiter: _Waiter) -> None:
        if not waiter[2].done():
            self._forget(waiter)
            text = f"{self._called}no connection came free within {PATIENCE:.0f} s; see `rate` and `connections`"
            waiter[2].set_exception(Busy(text, after=1))

    def _give_up(self, waiter: _Waiter) -> None:
        """A cancelled waiter either still waits, or was given a place that it will never use."""
        if waiter in self.waiting:
            self._forget(waiter)
        elif waiter[2].done() and not waiter[2].cancelled() and not waiter[2].exception():
            self.tokens += 1
            self.leave()

    def _forget(self, waiter: _Waiter) -> None:
        self.waiting.remove(waiter)
        heapq.heapify(self.waiting)
        self._admit()  # the timer was perhaps set for this one

    def _admit(self) -> None:
        """Give places to those who wait, as many as there are; come back when there is a token again."""
        if self.timer:
            self.timer.cancel()
            self.timer = None
        while self.waiting and self._take():
            future = heapq.heappop(self.waiting)[2]
            if not future.done():
                future.set_result(None)
            else:
                self.inside, self.tokens = self.inside - 1, self.tokens + 1
        if self.waiting and self._room() and self.rate:
            pause = (1 - self.tokens) / self.rate
            self.timer = asyncio.get_running_loop().call_later(pause, self._admit)

    def _take(self) -> bool:
        if not self._room() or not self._token():
            return False
        self.inside += 1
        return True

    def _room(self) -> bool:
        return self.connections is None or self.inside < self.connections

    def _token(self) -> bool:
        if self.rate is None:
            return True
        now = time.monotonic()
        self.tokens = min(self.burst, self.tokens + (now - self.filled) * self.rate)
        self.filled = now
        if self.tokens < 1 - 1e-9:
            return False
        self.tokens -= 1
        return True

    # ── bytes of the day ──

    def count(self, bytes: int) -> None:
        """So many bytes have come. Says once a day that most, and once that all of the day's are spent."""
        self._turn_of_day()
        self.bytes += bytes
        if self.bytes_per_day is not None and self.told < 1:
            self._tell(self.bytes_per_day)

    def spent(self) -> tuple[int, int | None]:
        """The bytes of today, and how many there may be."""
        self._turn_of_day()
        return self.bytes, self.bytes_per_day

    def state(self) -> tuple[str, int]:
        """What `restore` takes after a restart: the day as YYYY-MM-DD, and its bytes."""
        self._turn_of_day()
        return date.fromordinal(EPOCH + self.day).isoformat(), self.bytes

    def restore(self, day: str, bytes: int) -> None:
        """Add what was counted before a restart, if that was today; what was told then is not told again."""
        if day == self.state()[0]:
            self.bytes += bytes
            self.told = self._level(self.bytes_per_day) if self.bytes_per_day is not None else 0.0

    def _turn_of_day(self) -> None:
        today = int(self.clock() // DAY)
        if today != self.day:
            self.day, self.bytes, self.told = today, 0, 0.0

    def _level(self, limit: int) -> float:
        return 1.0 if self.bytes >= limit else WARNING if self.bytes >= limit * WARNING else 0.0

    def _tell(self, limit: int) -> None:
        level = self._level(limit)
        if level > self.told:
            self.told = level
            rest = "nothing more is read until midnight UTC" if level == 1 else "at 100 % reading stops until midnight"
            extra = {"origin": self.name, "bytes": self.bytes, "bytes_per_day": limit}
            log.warning("%s%.0f %% of `bytes_per_day` are spent: %s", self._called, level * 100, rest, extra=extra)

    def _refuse_if_spent(self) -> None:
        if self.bytes_per_day is None or self.spent()[0] < self.bytes_per_day:
            return
        text = f"{self._called}today's {self.bytes_per_day:,} bytes are spent; raise `bytes_per_day`, or wait until "
        midnight = datetime.fromtimestamp((self.day + 1) * DAY, UTC)
        raise Busy(f"{text}{midnight:%Y-%m-%d %H:%M} UTC", after=midnight.timestamp() - self.clock())

    @property
    def _called(self) -> str:
        return f"{self.name}: " if self.name else ""
