"""`playhead get`: files, folders and joined parts from anywhere into files here, several at a time.

What goes on is said as lines, on a terminal as a picture, or as JSON.
"""

import asyncio
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

from playhead.config import Config
from playhead.doors.download import Download
from playhead.doors.partial import JOURNAL
from playhead.errors import Failure, Malformed
from playhead.gathering import Gathering, Options
from playhead.progress import amount, bar
from playhead.secrets import scrub
from playhead.transforms import journal
from playhead.tree import visible

AT_ONCE = 4  # files of a folder
TOLD = 1.0  # seconds between lines of progress


async def run(sources: Sequence[str], config: Config, options: Options) -> int:
    """Fetch all SOURCEs; returns the exit code."""
    several, output = len(sources) > 1 and not options.parts, options.output
    if output == "" or options.checksum == "":
        raise Malformed("-o and --checksum want something: an empty text is no name and no digest")
    if several and output and not output.endswith("/") and not Path(output).is_dir():
        raise Malformed(f"several files do not fit into one: end {output!r} with '/', if it is a folder")
    if options.site is not None and (options.parts or options.mirrors or options.checksum):
        raise Malformed("--site goes without --parts, --mirror and --checksum: a page says what there is")
    if several and options.checksum:
        raise Malformed("--checksum is of one file")
    teller = Teller(as_json=options.json)
    gathering = Gathering(config, options)
    task = asyncio.current_task()
    with suppress(NotImplementedError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel if task else lambda: None)
    try:
        return await _all(gathering, sources, teller, options)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None  # what came is journaled
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    finally:
        teller.end()
        await gathering.aclose()


async def _all(gathering: Gathering, sources: Sequence[str], teller: "Teller", options: Options) -> int:
    codes: list[int] = []
    limit = asyncio.Semaphore(AT_ONCE)
    failures: list[Failure] = []

    async def one(download: Download) -> None:
        try:
            codes.append(await _one(download, teller, options))
        except Failure as failure:
            failures.append(failure)
            codes.append(failure.code)
            teller.failed(download, failure)
        finally:
            limit.release()

    async with asyncio.TaskGroup() as group:
        ticking = asyncio.create_task(teller.run())
        try:
            running: set[asyncio.Task[None]] = set()
            for text in [sources] if options.parts else [[text] for text in sources]:
                try:
                    async with aclosing(gathering.downloads(text, teller.say)) as found:
                        async for download in found:
                            await limit.acquire()
                            running.add(group.create_task(one(download)))
                except Failure as failure:
                    failures.append(failure)
                    codes.append(failure.code)
                    teller.refused(failure)
            if running:
                await asyncio.wait(running)
        finally:
            ticking.cancel()
    if not codes:
        raise Malformed("there is nothing to fetch")
    bad = [code for code in codes if code]
    return 0 if not bad else bad[0] if len(codes) == 1 else 9


async def _one(download: Download, teller: "Teller", options: Options) -> int:
    teller.begun(download)
    await download.run()
    teller.done(download)
    if options.on_done and download.state == "complete" and getattr(download, "final", True):
        place = str((download.path or Path()).absolute())  # a name may begin with "-"
        environment = os.environ | {"PLAYHEAD_FILE": place}
        process = await asyncio.create_subprocess_exec(
            "sh",
            "-c",
            options.on_done,
            "playhead",
            place,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
        )
        if code := await process.wait():
            teller.say(f"--on-done ended with {code}: {shlex.quote(options.on_done)}")
            return 9
    return 0


class Teller:
    """Says what goes on: lines, a picture on a terminal, or JSON."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.live = not as_json and sys.stderr.isatty()
        self.downloads: list[Download] = []
        self.since: dict[int, float] = {}
        self.seen: set[int] = set()
        self.wide = 0

    def begun(self, download: Download) -> None:
        self.downloads.append(download)
        self.since[id(download)] = time.monotonic()

    def say(self, line: str) -> None:
        """Something that a person should know."""
        if self.as_json:
            self._json({"event": "note", "message": scrub(line)})
            return
        self._clear()
        print(f"playhead: {scrub(line)}".encode("utf-8", "backslashreplace").decode(), file=sys.stderr, flush=True)

    def refused(self, failure: Failure) -> None:
        if self.as_json:
            self._json({"event": "error", "message": scrub(failure.told), "code": failure.code})
        else:
            self.say(failure.told)

    def failed(self, download: Download, failure: Failure) -> None:
        self._start(download)
        if self.as_json:
            error = {"event": "error", "message": scrub(failure.told), "code": failure.code}
            self._json(self._about(download, error))
        else:
            name = visible(download.name)
            self.say(failure.told if name in failure.told else f"{name}: {failure.told}")
        self._over(download)

    def done(self, download: Download) -> None:
        took = time.monotonic() - self.since[id(download)]
        already = download.state == "already"
        self._start(download)
        if self.as_json:
            self._json(self._about(download, {"event": "done", "seconds": round(took, 3), "already": already}))
        elif already:
            self.say(f"{visible(str(download.path))} is already here")
        else:
            pace = amount(int(((download.size or 0) - download.fetched) / max(0.001, took)))
            self.say(f"{visible(str(download.path))}: {amount(download.size or 0)} in {took:.1f} s, {pace}/s")
        self._over(download)

    def _over(self, download: Download) -> None:
        self.downloads.remove(download)
        self.since.pop(id(download), None)
        self.seen.discard(id(download))

    async def run(self) -> None:
        """Progress, until it is cancelled."""
        while True:
            await asyncio.sleep(0.2 if self.live else TOLD if self.as_json else 5 * TOLD)
            for download in list(self.downloads):
                self._start(download)
                if self.as_json:
                    self._json(self._about(download, {"event": "progress"}))
                elif not self.live and download.size is not None:
                    self.say(_line(download))
            if self.live:
                self._picture()

    def _start(self, download: Download) -> None:
        if self.as_json and download.size is not None and id(download) not in self.seen:
            self.seen.add(id(download))
            self._json(self._about(download, {"event": "start", "source": scrub(download.source.label)}))

    def _about(self, download: Download, event: dict[str, Any]) -> dict[str, Any]:
        rate, left = download.rate, (download.size or 0) - download.have
        return {
            **event,
            "name": visible(download.name),
            "path": str(download.path) if download.path else None,
            "size": download.size,
            "have": download.have,
            "rate": int(rate),
            "eta": round(left / rate, 1) if rate and download.size is not None else None,
            "connections": [
                {"route": scrub(lane.route.name), "at": lane.at, "stop": lane.stop, "rate": int(lane.pace)}
                for lane in (download.lanes.open if download.lanes else [])
            ],
            "state": download.state,
        }

    def _json(self, event: dict[str, Any]) -> None:
        print(json.dumps(event), flush=True)

    def _picture(self) -> None:
        if not self.downloads:
            return
        self._clear()
        line = " | ".join(_line(download) for download in self.downloads[:2])
        more = f" and {len(self.downloads) - 2} more" if len(self.downloads) > 2 else ""
        self.wide = min(len(line + more), os.get_terminal_size(sys.stderr.fileno()).columns - 1)
        print(f"{line}{more}"[: self.wide], end="\r", file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self.live and self.wide:
            print(" " * self.wide, end="\r", file=sys.stderr)
            self.wide = 0

    def end(self) -> None:
        self._clear()


def _line(download: Download) -> str:
    size, have, rate = download.size, download.have, download.rate
    if size is None:
        return f"{visible(download.name)}: {amount(have)}"
    if download.state == "verifying":
        return f"{visible(download.name)}: verifying, {amount(download.checked)} of {amount(size)}"
    share = have / size if size else 1.0
    left = f", {int((size - have) / rate)} s left" if rate else ""
    ways = f", {download.connections} connections" if download.connections != 1 else ""
    what = f"{amount(have)} of {amount(size)}, {amount(int(rate))}/s"
    return f"{visible(download.name)}: [{bar(share, 20)}] {share:.0%} {what}{left}{ways}"


# ── what lies there ──


def status(places: Sequence[str], *, as_json: bool) -> int:
    """What was begun and not finished, in folders or of targets (blocks)."""
    found: list[Path] = []
    for text in places or ["."]:
        if "://" in text:
            raise Malformed("--status is of folders and files here, not of URLs")
        place = Path(text)
        found += sorted(place.glob(f"*{JOURNAL}")) if place.is_dir() else [place.with_name(place.name + JOURNAL)]
    for path in found:
        with suppress(OSError, journal.Torn, journal.Foreign):
            contents = journal.read(path.read_bytes())
            have = min(contents.size, len(contents.blocks) * journal.BLOCK)
            name = path.name.removesuffix(JOURNAL)
            if as_json:
                event = {"event": "status", "name": visible(name), "size": contents.size, "have": have}
                print(json.dumps({**event, "path": str(path.with_name(name)), "source": scrub(contents.name)}))
            else:
                share = have / contents.size if contents.size else 0.0
                what = f"[{bar(share, 20)}] {share:.0%} {amount(have)} of {amount(contents.size)}"
                print(f"{visible(name)}: {what}, from {scrub(visible(contents.name))}")
    return 0
