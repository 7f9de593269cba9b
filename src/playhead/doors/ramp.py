"""Bytes as they come -> how many connections to have: more of them for as long as more bring more.

One at first; then four times as many, as soon as those that were begun have given something for a moment, while that
pays; what did not pay is taken back. An origin that refuses one gets half as many. Later it is tried once more.
"""

import time

WINDOW = 0.06  # seconds, or half of what a first byte takes, after which a number is judged
LONG = 0.6  # seconds of such a window at most, where it does not seem to pay
STEP = 4  # times as many
FAR = 0.03  # seconds to a first byte, from which on the smaller numbers are not tried: each would cost as long
GAIN = 1.3  # times as fast: what that must bring
MANY, RISE = 16, 1.15  # from so many on, none are added while those that there are still become faster by that
FAST = 250e6  # bytes a second of one connection that more could not better
HOLD = 20.0  # seconds before more are tried again


class Ramp:
    """`want` is how many there should be; `fixed`: as many as somebody has asked for."""

    def __init__(self, most: int, fixed: int | None = None) -> None:
        self.most, self.fixed = fixed or most, fixed
        self.want = fixed or 1
        self.before, self.fewer = 0.0, 1  # the pace with the number before this one, and that number
        self.lately = 0.0  # the pace in the last window
        self.far = False
        self.since = self.held = 0.0
        self.bytes = 0
        self.pace = 0.0  # bytes a second of all together, lately

    def count(self, length: int) -> None:
        """So many bytes have come."""
        self.bytes += length

    def begun(self, latency: float) -> None:
        """All that were wanted have given their first byte: what comes from now on is measured."""
        self.far = latency > FAR
        if not self.since:
            self.since, self.bytes = time.monotonic(), 0
            self.window = max(WINDOW, min(LONG, latency / 2))

    def judge(self) -> None:
        """Are there to be more? Not before a window is over."""
        now = time.monotonic()
        if not self.since or now - self.since < self.window:
            return
        self.pace = self.bytes / (now - self.since)
        if self.fixed is None and now >= self.held:
            self._weigh(self.pace)
        else:
            self.since, self.bytes, self.window = now, 0, LONG

    def _weigh(self, pace: float) -> None:
        pays, rises, self.lately = pace >= self.before * GAIN, pace > self.lately * RISE, pace
        if self.before and not pays and self.window < LONG:
            self.window = min(LONG, self.window * 3)  # what comes in bursts is looked at for longer
        elif self.before and not pays:
            self.settle(self.fewer)
        elif pace / self.want >= FAST or self.want >= self.most:
            self.settle(self.want)
        elif self.want >= MANY and rises:
            self.since, self.bytes = time.monotonic(), 0  # they have begun slowly, as connections do
        else:
            self.before, self.fewer = pace, self.want
            more = MANY if self.want < MANY and self.far else self.want * STEP
            self.want, self.since, self.lately = min(self.most, more), 0.0, 0.0

    def settle(self, want: int) -> None:
        """So many, for a while."""
        self.want, self.before, self.fewer = max(1, want), 0.0, max(1, want)
        self.since, self.held = 0.0, time.monotonic() + HOLD

    def refused(self, open: int) -> None:
        """The origin refuses one more than so many."""
        if self.fixed is None or open:
            self.settle(min(self.want, max(1, open)))
            self.fixed = None
