"""An engine for a queue whose downloads do what the test says, and nothing else.

engine = Engine()          Queue(engine, ...)
engine.of("http://h/a").learn(size=9, name="a")          .done()          .fail(NotFound("..."))
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path


class Job:
    """A download. Cancelled, a `stubborn` one goes on until `let_go` is set, and one that is `nearly` done is done."""

    def __init__(self, uris: Sequence[str], options: Mapping[str, str]) -> None:
        self.uris, self.options = tuple(uris), dict(options)
        self.size: int | None = None
        self.have = 0
        self.rate = 0.0
        self.connections = 0
        self.name = ""
        self.path: Path | None = None
        self.outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.let_go = asyncio.Event()
        self.stubborn = self.nearly = self.running = self.cancelled = False

    async def run(self) -> None:
        self.running = True
        try:
            await self.outcome
        except asyncio.CancelledError:
            self.cancelled = True
            if self.stubborn:
                await self.let_go.wait()
            if not self.nearly:
                raise
        finally:
            self.running = False
            self.connections, self.rate = 0, 0.0

    def learn(self, **known: object) -> "Job":
        for key, value in known.items():
            setattr(self, key, value)
        return self

    def done(self) -> None:
        self.have = self.size or 0
        self.outcome.set_result(None)

    def fail(self, error: BaseException) -> None:
        self.outcome.set_exception(error)


class Engine:
    """Makes jobs, and remembers them. What is in `refused` is raised when that address is asked for."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.refused: dict[str, Exception] = {}

    def __call__(self, uris: Sequence[str], options: Mapping[str, str]) -> Job:
        if uris[0] in self.refused:
            raise self.refused[uris[0]]
        self.jobs.append(Job(uris, options))
        return self.jobs[-1]

    def of(self, uri: str) -> Job:
        """The latest job of an address."""
        return next(job for job in reversed(self.jobs) if job.uris[0] == uri)

    def running(self) -> list[str]:
        """Addresses, sorted: those that begin at a time do so in any order."""
        return sorted(job.uris[0] for job in self.jobs if job.running)
