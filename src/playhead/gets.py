"""`playhead get`: files, folders and joined parts from anywhere into files here, several at a time.

Each SOURCE is a file of a tree, or a folder whose files are fetched one by one. A URL is read from its origin directly,
through proxies, or from mirrors, over as many connections as pay.
"""

import asyncio
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playhead import assemble
from playhead.assemble import Trees
from playhead.blob import Blob, Pieces
from playhead.config import Config
from playhead.doors import digests
from playhead.doors.download import Download, cleaned, holder
from playhead.doors.lanes import Host, Rate, Route
from playhead.doors.partial import JOURNAL
from playhead.errors import Changed, Failure, Malformed
from playhead.origins.web import WebTree
from playhead.progress import amount, bar
from playhead.secrets import scrub
from playhead.transforms import journal
from playhead.transforms.retry import Retried, retried
from playhead.tree import Ask, Tree, Why, join, visible, walk

AT_ONCE = 4  # files of a folder
MOST = 128  # connections to one server
TOLD = 1.0  # seconds between lines of progress
SAMPLE = 64 << 10  # bytes of a mirror that are compared at each of three places


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says, or its caller in Python."""

    output: str | None = None
    streams: int | None = None
    proxies: Sequence[str] = ()
    mirrors: Sequence[str] = ()
    checksum: str | None = None
    limit: float | None = None
    exists: str = "refuse"
    parts: bool = False
    on_done: str | None = None
    json: bool = False


# ── where it comes from ──


@dataclass(slots=True)
class FromTree:
    """A file of a tree, by one or several ways. See `download.Source`."""

    label: str
    exactly: str
    name: str
    ways: list[tuple[str, Tree, str]]  # what a way is called, a tree, and a path in it
    mirrors: int = 0  # so many of the last ways are other servers'
    again: dict[int, Retried] = field(default_factory=dict)

    async def routes(self, ask: Ask) -> list[Route]:
        """The ways that work. Raises what is wrong with the first, if none does."""
        found: list[Route] = []
        failed: list[Failure] = []
        for number, (name, tree, path) in enumerate(self.ways):
            first = number == len(self.ways) - 1 and not found
            try:
                blob = await self._opened(number, tree, path, ask if not found else Ask(0, 0, ask.why), patient=first)
                if found and number >= len(self.ways) - self.mirrors:
                    await _equal(found[0].blob, blob)
                elif found and (blob.size, blob.tag) != (found[0].blob.size, found[0].blob.tag):
                    raise Changed("it is another version there")
                found.append(Route(name, blob))
            except _Silent:  # nothing has come from the first: the mirror takes its place
                print(f"playhead: {scrub(found[0].name)} is left out: it breaks off", file=sys.stderr)
                found = [Route(name, blob)]
            except Failure as failure:
                failed.append(failure)
                if len(self.ways) > 1:
                    print(f"playhead: {scrub(name)} is left out: {scrub(failure.told)}", file=sys.stderr)
        if not found:
            raise failed[0]
        return found

    async def _opened(self, number: int, tree: Tree, path: str, ask: Ask, *, patient: bool) -> Blob:
        if not patient:
            return await tree.open(path, ask)
        return await self._retried(number, tree).tried(lambda: tree.open(path, ask))

    def _retried(self, number: int, tree: Tree) -> Retried:
        return self.again.setdefault(number, retried(tree))

    def flow(self) -> Pieces:
        _, tree, path = self.ways[0]
        return self._retried(0, tree).flow(path)


class _Silent(Exception):
    """The first way gives nothing to compare with."""


async def _equal(blob: Blob, other: Blob) -> None:
    """Raises Changed where a mirror's file is not the same: its size, or what is at three places of it."""
    if blob.size != other.size:
        raise Changed(f"it has {other.size:,} bytes there, not {blob.size:,}")
    for at in sorted({0, max(0, blob.size // 2 - SAMPLE), max(0, blob.size - SAMPLE)}):
        end = min(blob.size, at + SAMPLE)
        try:
            known = await blob.read(at, end)
        except Failure as failure:
            if at:
                return  # what could be compared is the same
            raise _Silent from failure
        if known != await other.read(at, end):
            raise Changed("its bytes are others there")


@dataclass(slots=True)
class FromParts:
    """Several files as one."""

    label: str
    exactly: str
    name: str
    files: list[FromTree]

    async def routes(self, ask: Ask) -> list[Route]:
        """One way: all the parts, in a row."""
        from playhead.transforms.parts import whole

        opened = [(await file.routes(Ask(0, 0, Why.BULK)))[0].blob for file in self.files]
        return [
            Route("origin", await whole([(file.name, blob) for file, blob in zip(self.files, opened, strict=True)]))
        ]

    def flow(self) -> Pieces:
        raise Malformed("parts are joined only where their sizes are known")


class Gathering:
    """SOURCEs -> downloads. Owns the trees that it opens."""

    def __init__(self, config: Config, options: Options) -> None:
        self.known, self.options = Trees(config), options
        self.opened: list[Tree] = []
        self.hosts: dict[str, Host] = {}
        self.rate, self.taken = Rate(options.limit), set[Path]()

    async def aclose(self) -> None:
        """Give all connections back."""
        for tree in self.opened:
            await tree.aclose()

    def host(self, tree: Tree) -> Host:
        """What is known of the server of a tree."""
        name = tree.base.authority if isinstance(tree, WebTree) else ""
        return self.hosts.setdefault(name, Host(MOST, rate=self.rate, taken=self.taken))

    async def downloads(self, sources: Sequence[str], said: Callable[[str], None]) -> AsyncGenerator[Download, None]:
        """What is to be fetched. Raises a Failure where a SOURCE is not one."""
        if self.options.parts:
            yield await self._joined(sources, said)
            return
        for text in sources:
            tree, path = self._source(text)
            entry = None if isinstance(tree, WebTree) and tree.single is not None else await tree.find(path)
            if entry is None or not entry.folder:
                yield self._download(self._from(text, tree, path), tree, said, self._place(several=len(sources) > 1))
                continue
            folder = self._folder(cleaned(path or _last(text)), several=len(sources) > 1 or bool(path))
            async with aclosing(walk(tree, path)) as found:
                async for inner, each in found:
                    if not each.folder:
                        place = _below(folder, inner[len(path) :].strip("/"))
                        yield self._download(self._from(text, tree, inner), tree, said, _always(place))

    def _source(self, text: str) -> tuple[Tree, str]:
        tree, path = self.known.bare(text)
        self.opened.append(tree)
        if isinstance(tree, WebTree) and tree.single is not None:
            path = tree.single
        return tree, path

    def _from(self, text: str, tree: Tree, path: str) -> FromTree:
        label = f"{_shown(text)} {path}" if path and path not in text else _shown(text)
        name = path.rpartition("/")[2] or _last(text)
        if not isinstance(tree, WebTree):
            return FromTree(label, f"{text} {path}", name, [("origin", tree, path)])
        ways: list[tuple[str, Tree, str]] = []
        for proxy in self.options.proxies or ["direct"]:
            given = None if proxy == "direct" else proxy
            way = assemble.via(tree, given) if self.options.proxies else tree
            self.opened.append(way)
            ways.append((_shown(given) if given else "the direct way", way, path))
        for mirror in self.options.mirrors:
            other, inner = self._source(mirror)
            ways.append((_shown(mirror), other, inner))
        return FromTree(label, f"{text} {path}", name, ways, len(self.options.mirrors))

    def _download(self, source: Any, tree: Tree, said: Callable[[str], None], place: Callable[[str], Path]) -> Download:
        options = self.options
        given = [digests.parsed(options.checksum)] if options.checksum is not None else []
        return Download(
            source, place, self.host(tree), streams=options.streams, digests=given, exists=options.exists, said=said
        )

    async def _joined(self, sources: Sequence[str], said: Callable[[str], None]) -> Download:
        from playhead.transforms.parts import expanded, ordered

        texts = [each for text in sources for each in expanded(text)]
        opened = [(text, *self._source(text)) for text in texts]
        if len(opened) == 1 and (await opened[0][1].find(opened[0][2])).folder:
            text, tree, folder = opened[0]
            names = [entry.name async for entry in tree.entries(folder) if not entry.folder]
            opened = [(f"{text}/{name}", tree, join(folder, name)) for name in names]
        files = {self._unique(text, path): self._from(text, tree, path) for text, tree, path in opened}
        parts = [files[name] for name in ordered(list(files))]
        exactly = "\n".join(part.exactly for part in parts)
        source = FromParts(f"parts of {parts[0].label}", exactly, parts[0].name, parts)
        return self._download(source, opened[0][1], said, self._place(several=False))

    @staticmethod
    def _unique(text: str, path: str) -> str:
        return path.rpartition("/")[2] or _last(text)

    # ── where it goes ──

    def _place(self, *, several: bool) -> Callable[[str], Path]:
        output = self.options.output
        if output is None:
            return lambda name: Path(name)
        if several or output.endswith("/") or Path(output).is_dir():
            return lambda name: holder(Path(output) / name)
        return lambda name: Path(output)

    def _folder(self, name: str, *, several: bool) -> Path:
        output = Path(self.options.output or ".")
        return output / name if several or self.options.output is None else output


def _always(place: Path) -> Callable[[str], Path]:
    return lambda name: holder(place)


def _below(folder: Path, path: str) -> Path:
    """Where a file of a folder goes, its names cleaned one by one."""
    return folder.joinpath(*[cleaned(name) for name in path.split("/")])


def _last(text: str) -> str:
    """What a SOURCE calls its file or folder."""
    path = urlsplit(text).path if "://" in text else text.partition(":")[2] or text
    return path.rstrip("/").rpartition("/")[2] or urlsplit(text).hostname or "download"


def _shown(text: str) -> str:
    """A SOURCE without what may be secret: user, password and query."""
    if "://" not in text:
        return text
    parts = urlsplit(text)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


# ── doing it ──


async def run(sources: Sequence[str], config: Config, options: Options) -> int:
    """Fetch all SOURCEs; returns the exit code."""
    several, output = len(sources) > 1 and not options.parts, options.output
    if output == "" or options.checksum == "":
        raise Malformed("-o and --checksum want something: an empty text is no name and no digest")
    if several and output and not output.endswith("/") and not Path(output).is_dir():
        raise Malformed(f"several files do not fit into one: end {output!r} with '/', if it is a folder")
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
    if options.on_done and download.state == "complete":
        environment = os.environ | {"PLAYHEAD_FILE": str(download.path)}
        process = await asyncio.create_subprocess_exec(
            "sh",
            "-c",
            options.on_done,
            "playhead",
            str(download.path),
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
            self.say(f"{visible(download.name)}: {failure.told}")
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
