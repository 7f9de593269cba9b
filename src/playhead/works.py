"""What the remote trees of one process share: the cache, the folder of kept listings, the bytes of the day.

All of it lies in one folder: `blocks/` (the reservoir's), `listings/`, `days.json`. Another process that has the
blocks, or a folder that cannot be used, ends no work: then nothing is kept, and that is said once.
"""

import asyncio
import json
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playhead.config import Config
from playhead.errors import Busy
from playhead.metrics import Figure, plain
from playhead.tree import Tree

if TYPE_CHECKING:
    from playhead.origins.remote import Remote
    from playhead.transforms.filling import Cache
    from playhead.transforms.reservoir import Reservoir
    from playhead.transforms.retry import Retried

SIZE = 10 * 10**9  # bytes that are kept, unless the configuration says so; at most a tenth of the disk
SAVED = 60.0  # seconds between savings of the bytes of the day
SCRUBBED = 5.0  # seconds between comparisons of one run of what is kept with its checksums

log = logging.getLogger("playhead.cache")


def folder_of(config: Config) -> Path:
    """Where all of it lies."""
    if config.reservoir.folder:
        return config.folder / Path(config.reservoir.folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "playhead"


def size_of(config: Config) -> int:
    """How many bytes may be kept."""
    if config.reservoir.size is not None:
        return config.reservoir.size
    place = folder_of(config)
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return min(SIZE, shutil.disk_usage(place).total // 10)
    except OSError:
        return SIZE


def reservoir(config: Config) -> "Reservoir":
    """The kept blocks. Raises Busy where another process has them, OSError where the folder cannot be used."""
    from playhead.transforms.reservoir import Reservoir

    return Reservoir(str(folder_of(config) / "blocks"), size_of(config), config.reservoir.free)


@dataclass(slots=True)
class Works:
    """See above. `pipes`: the remote trees, each as its origin and with its retries."""

    config: Config
    cache: "Cache | None" = None
    pipes: list[tuple["Remote", "Retried"]] = field(default_factory=list)
    tending: "asyncio.Task[None] | None" = None
    days: dict[str, Any] | None = None

    def kept(self, tree: Tree, name: str) -> Tree:
        """A remote tree whose listings and blocks are kept."""
        from playhead.transforms.cached import cached
        from playhead.transforms.listed import listed

        return cached(listed(tree, folder_of(self.config) / "listings", name=name), self._cache())

    def _cache(self) -> "Cache":
        from playhead.transforms.filling import Cache

        if self.cache is None:
            self.cache = Cache(self._reservoir(), self.config.memory)
        return self.cache

    def _reservoir(self) -> "Reservoir | None":
        folder = folder_of(self.config)
        try:
            return reservoir(self.config)
        except Busy:
            log.warning("another playhead keeps its files in %s; this one goes on without keeping", folder)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            log.warning("%s cannot be used (%s); going on without keeping", folder, why)
        return None

    # ── the bytes of the day ──

    def restore(self, origin: "Remote") -> None:
        """Go on with the bytes that were fetched earlier on this day."""
        if origin.traffic.limits.bytes_per_day is None:
            return
        if self.days is None:
            self.days = _read(folder_of(self.config) / "days.json")
        known = self.days.get(origin.place)
        if isinstance(known, list) and len(known) == 2 and isinstance(known[0], str) and type(known[1]) is int:
            origin.traffic.limits.restore(known[0], known[1])

    def _save(self) -> None:
        spent = {origin.place: origin.traffic.limits.state() for origin, _ in self.pipes if _limited(origin)}
        if not spent:
            return
        path = folder_of(self.config) / "days.json"
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.with_suffix(".new").write_text(json.dumps({**(self.days or {}), **spent}), "utf-8")
            path.with_suffix(".new").replace(path)
        except OSError as error:
            log.warning("%s cannot be written: %s", path, error.strerror)

    # ── its life ──

    def begin(self) -> None:
        """Save from time to time, and look for what the disk has spoiled, until it is closed."""
        self.tending = asyncio.create_task(self._tend())

    async def _tend(self) -> None:
        saved = time.monotonic()
        while True:
            await asyncio.sleep(SCRUBBED)
            if self.cache and self.cache.reservoir:
                await asyncio.to_thread(self.cache.reservoir.scrub)
            if time.monotonic() - saved >= SAVED:
                saved = time.monotonic()
                await asyncio.to_thread(self._save)

    async def aclose(self) -> None:
        """After its trees were closed."""
        if self.tending:
            self.tending.cancel()
            await asyncio.wait([self.tending])
        await asyncio.to_thread(self._save)
        if self.cache:
            await self.cache.aclose()

    # ── what is counted ──

    def figures(self) -> list[Figure]:
        """For /metrics."""
        return [*self._of_origins(), *self._of_cache()]

    def _of_origins(self) -> Iterator[Figure]:
        requests: Counter[tuple[str, ...]] = Counter()
        retries: Counter[tuple[str, ...]] = Counter()
        spent: dict[tuple[str, ...], float] = {}
        allowed: dict[tuple[str, ...], float] = {}
        for origin, again in self.pipes:
            name = origin.place
            for outcome, count in origin.traffic.outcomes.items():
                requests[name, outcome] += count
            retries[(name,)] += again.retries
            if _limited(origin):
                so_far, limit = origin.traffic.limits.spent()
                spent[(name,)], allowed[(name,)] = so_far, limit or 0
        text = "Requests sent to origins, by status (`failed`: no answer)."
        yield Figure("playhead_upstream_requests", text, "counter", dict(requests), ("origin", "outcome"))
        yield Figure("playhead_retries", "Requests that were sent again.", "counter", dict(retries), ("origin",))
        yield Figure("playhead_day_bytes", "Bytes fetched today (UTC).", "gauge", spent, ("origin",))
        yield Figure("playhead_day_bytes_limit", "Bytes allowed a day.", "gauge", allowed, ("origin",))

    def _of_cache(self) -> Iterator[Figure]:
        fetched = sum(origin.traffic.received for origin, _ in self.pipes)
        yield plain("playhead_fetched_bytes", "Bytes that came from origins.", "counter", fetched)
        if self.cache is None:
            return
        files = list(self.cache.files.values())
        states: dict[tuple[str, ...], float] = {
            ("reading",): self.cache.streams,
            ("filling",): sum(len(file.fills) for file in files),
        }
        yield Figure("playhead_cache_streams", "Readers of remote files, and fills.", "gauge", states, ("state",))
        yield plain("playhead_buffer_bytes", "Memory that holds bytes on their way.", "gauge", self.cache.held)
        if self.cache.reservoir is not None:
            kept = self.cache.reservoir.summary()
            yield plain("playhead_kept_bytes", "Bytes kept on disk.", "gauge", kept.used)
            yield plain("playhead_kept_bytes_limit", "Bytes that may be kept.", "gauge", kept.size)
            blocks: dict[tuple[str, ...], float] = {("kept",): kept.written, ("evicted",): kept.evicted}
            blocks[("damaged",)] = kept.bad
            yield Figure("playhead_blocks", "Blocks of 64 KiB by what became of them.", "counter", blocks, ("what",))


def _limited(origin: "Remote") -> bool:
    return origin.traffic.limits.bytes_per_day is not None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
