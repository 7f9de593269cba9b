"""How often a push tries again what may succeed later, and when it takes the store for dead.

A file that fails while others do well is given up after some attempts without progress. Where nothing has gone well for
a minute, the first file that notices is given up, and the second ends the push: one line, not one for each file.
"""

import random
import time
from asyncio import sleep
from collections.abc import Callable
from dataclasses import dataclass, field

from playhead.errors import Failure
from playhead.transforms.retry import Patience

PATIENCE = Patience(attempts=6, seconds=60.0, first=0.5, most=16.0, longest=60.0)


class Over(Exception):
    """The push ends, because of a failure that is not of one file."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.told)
        self.failure = failure


@dataclass(slots=True)
class Trial:
    """The attempts at one thing since it last came further."""

    tried: int = 0
    since: float = 0.0


@dataclass(slots=True)
class Trials:
    """What all trials of a push share. `under_way(since)`: is there something that goes on since before then?"""

    patience: Patience
    under_way: Callable[[float], bool]
    fine: float = field(default_factory=time.monotonic)  # when something last went well
    bad: float | None = None  # since when nothing has
    lost: int = 0

    def well(self) -> None:
        """Something went well."""
        self.fine, self.bad, self.lost = time.monotonic(), None, 0

    async def again(self, failure: Failure, trial: Trial, *, ours: bool = False) -> None:
        """Wait before another attempt. Raises the failure where there is to be none, or Over: but not for what the
        source does (`ours`), which is of one file.
        """
        if not failure.again:
            raise failure
        now = time.monotonic()
        trial.since = now if not trial.tried else trial.since
        trial.tried += 1
        self.bad = now if self.bad is None else self.bad
        patience, after = self.patience, failure.after or 0.0
        if after > patience.longest:
            raise failure if ours else Over(failure)
        ceiling = min(patience.most, patience.first * 2 ** (trial.tried - 1))
        pause = max(after, random.uniform(ceiling / 2, ceiling))
        if now + pause - self.bad > patience.seconds:
            self._late(failure)
        if trial.tried >= patience.attempts and self.fine > trial.since:
            failure.add_note(f"tried {trial.tried} times in a row")
            raise failure
        await sleep(pause)

    def _late(self, failure: Failure) -> None:
        assert self.bad is not None
        failure.add_note(f"nothing went well for {time.monotonic() - self.bad:.0f} s")
        if not self.under_way(self.bad):
            self.lost += 1
        if self.lost > 1:
            raise Over(failure)
        raise failure
