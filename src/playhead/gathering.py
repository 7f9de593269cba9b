"""SOURCEs -> downloads: what is fetched, by which ways, and into which files.

Each SOURCE is a file of a tree, or a folder whose files are fetched one by one. A URL is read from its origin directly,
through proxies, or from mirrors.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playhead import places
from playhead.assemble import Trees
from playhead.blob import Blob, Pieces
from playhead.config import Config
from playhead.doors import digests
from playhead.doors.download import Download, cleaned, holder
from playhead.doors.route import Host, Rate, Route
from playhead.errors import Changed, Failure, Malformed
from playhead.origins.web import WebTree
from playhead.transforms.retry import Retried, retried
from playhead.tree import Ask, Tree, Why, join, walk

MOST = 64  # connections to one server
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
    site: Sequence[str] | None = None  # SOURCEs are pages, resolved by yt-dlp with these options of it
    on_done: str | None = None
    json: bool = False


@dataclass(slots=True)
class FromTree:
    """A file of a tree, by one or several ways. See `download.Source`."""

    label: str
    exactly: str
    name: str
    ways: list[tuple[str, Tree, str]]  # what a way is called, a tree, and a path in it
    mirrors: int = 0  # so many of the last ways are other servers'
    proven: bool = False  # there is a digest, which would tell another version from this one
    said: Callable[[str], None] = lambda line: None  # told what a person should know
    left: int = 0  # so many of the first ways are not asked any more
    again: dict[int, Retried] = field(default_factory=dict)

    async def routes(self, ask: Ask) -> list[Route]:
        """The ways that work. Raises what is wrong with the first, if none does."""
        found: list[Route] = []
        failed: list[Failure] = []
        for number, (name, tree, path) in list(enumerate(self.ways))[self.left :]:
            proven = self.proven or bool(found and getattr(found[0].blob, "digests", None))
            if found and not proven and number >= len(self.ways) - self.mirrors:
                break  # it may be another version there, and nothing would tell
            first = number == len(self.ways) - 1 and not found
            try:
                blob = await self._opened(number, tree, path, ask if not found else Ask(0, 0, ask.why), patient=first)
                if found and number >= len(self.ways) - self.mirrors:
                    await _equal(found[0].blob, blob)
                elif found and (blob.size, blob.tag) != (found[0].blob.size, found[0].blob.tag):
                    raise Changed("it is another version there")
                found.append(Route(name, blob))
            except _Silent:  # nothing has come from the first: the mirror takes its place
                self.said(f"{found[0].name} is left out: it breaks off")
                found = [Route(name, blob)]
            except Failure as failure:
                failed.append(failure)
                if len(self.ways) > 1:
                    self.said(f"{name} is left out: {failure.told}")
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
        _, tree, path = self.ways[self.left]
        return self._retried(self.left, tree).flow(path)

    def leave(self) -> bool:
        """Ask the first server no more; False where there is no mirror to go to."""
        mirrors = len(self.ways) - self.mirrors
        self.left = max(self.left + 1, mirrors)
        return not self.proven and self.left < len(self.ways)


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

    def leave(self) -> bool:
        """There is no other way."""
        return False


@dataclass(slots=True)
class FromBlob:
    """Bytes that somebody holds."""

    label: str
    exactly: str
    name: str
    whole: Blob

    async def routes(self, ask: Ask) -> list[Route]:
        """One way."""
        return [Route("origin", self.whole)]

    def flow(self) -> Pieces:
        return self.whole.stream(0, self.whole.size)

    def leave(self) -> bool:
        """There is no other way."""
        return False


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

    def host(self, tree: Tree | None) -> Host:
        """What is known of the server of a tree."""
        return self.hosts.setdefault(authority(tree), Host(MOST, rate=self.rate, taken=self.taken))

    async def downloads(self, sources: Sequence[str], said: Callable[[str], None]) -> AsyncGenerator[Download, None]:
        """What is to be fetched. Raises a Failure where a SOURCE is not one."""
        if self.options.parts:
            yield await self._joined(sources, said)
            return
        if self.options.site is not None:
            for text in sources:
                async with aclosing(self._on_page(text, self.options.site, said)) as downloads:
                    async for download in downloads:
                        yield download
            return
        for text in sources:
            tree, path = self._source(text)
            entry = None if isinstance(tree, WebTree) and tree.single is not None else await tree.find(path)
            if entry is None or not entry.folder:
                place = self._place(several=len(sources) > 1)
                yield self._download(self._from(text, tree, path, said), tree, said, place)
                continue
            folder = self._folder(cleaned(path or last(text)), several=len(sources) > 1 or bool(path))
            async with aclosing(walk(tree, path)) as found:
                async for inner, each in found:
                    if not each.folder:
                        target = _below(folder, inner[len(path) :].strip("/"))
                        yield self._download(self._from(text, tree, inner, said), tree, said, _always(target))

    def blob(self, blob: Blob, name: str) -> Download:
        """The download of a blob that is at hand."""
        return self._download(FromBlob(name, f"{name} {blob.tag}", name, blob), None, lambda line: None, self._place())

    def _source(self, text: str) -> tuple[Tree, str]:
        tree, path = self.known.bare(text)
        self.opened.append(tree)
        if isinstance(tree, WebTree) and tree.single is not None:
            path = tree.single
        return tree, path

    def _from(self, text: str, tree: Tree, path: str, said: Callable[[str], None]) -> FromTree:
        label = f"{shown(text)} {path}" if path and path not in text else shown(text)
        name = path.rpartition("/")[2] or last(text)
        if not isinstance(tree, WebTree):
            return FromTree(label, f"{text} {path}", name, [("origin", tree, path)])
        ways: list[tuple[str, Tree, str]] = []
        for proxy in self.options.proxies or ["direct"]:
            given = None if proxy == "direct" else proxy
            way = places.via(tree, given) if self.options.proxies else tree
            self.opened.append(way)
            ways.append((shown(given) if given else "the direct way", way, path))
        for mirror in self.options.mirrors:
            other, inner = self._source(mirror)
            ways.append((shown(mirror), other, inner))
        proven = self.options.checksum is not None
        return FromTree(label, f"{text} {path}", name, ways, len(self.options.mirrors), proven, said)

    def _download(
        self, source: Any, tree: Tree | None, said: Callable[[str], None], place: Callable[[str], Path]
    ) -> Download:
        options = self.options
        given = [digests.parsed(options.checksum)] if options.checksum is not None else []
        return Download(
            source, place, self.host(tree), streams=options.streams, digests=given, exists=options.exists, said=said
        )

    async def _on_page(
        self, page: str, arguments: Sequence[str], said: Callable[[str], None]
    ) -> AsyncGenerator[Download, None]:
        """What there is to fetch on a page of a site. Raises a Failure, also after some of it."""
        from playhead.sites.pages import Track, resolved
        from playhead.sites.tracks import FromTrack, Tracked, planned

        options, proxy = self.options, next((each for each in self.options.proxies if each != "direct"), None)

        def make(track: Track, name: str, place: Callable[[str], Path]) -> Tracked:
            source = FromTrack(shown(page), f"{page} {track.key}", name, track, proxy, self.opened)
            host = self.hosts.setdefault(urlsplit(track.urls[0]).netloc, Host(MOST, rate=self.rate, taken=self.taken))
            return Tracked(source, place, host, streams=options.streams, exists=options.exists, said=said)

        async with aclosing(resolved(page, arguments, proxy=proxy)) as media:
            async for medium in media:
                several = self._place(several=options.output is not None and options.output.endswith("/"))
                for found in planned(medium, shown(page), several, make, exists=options.exists, taken=self.taken):
                    yield found

    async def _joined(self, sources: Sequence[str], said: Callable[[str], None]) -> Download:
        from playhead.transforms.parts import expanded, ordered

        texts = [each for text in sources for each in expanded(text)]
        opened = [(text, *self._source(text)) for text in texts]
        if len(opened) == 1 and (await opened[0][1].find(opened[0][2])).folder:
            text, tree, folder = opened[0]
            names = [entry.name async for entry in tree.entries(folder) if not entry.folder]
            opened = [(f"{text}/{name}", tree, join(folder, name)) for name in names]
        files = {self._unique(text, path): self._from(text, tree, path, said) for text, tree, path in opened}
        parts = [files[name] for name in ordered(list(files))]
        exactly = "\n".join(part.exactly for part in parts)
        source = FromParts(f"parts of {parts[0].label}", exactly, parts[0].name, parts)
        return self._download(source, opened[0][1], said, self._place(several=False))

    @staticmethod
    def _unique(text: str, path: str) -> str:
        return path.rpartition("/")[2] or last(text)

    # ── where it goes ──

    def _place(self, *, several: bool = False) -> Callable[[str], Path]:
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


def last(text: str) -> str:
    """What a SOURCE calls its file or folder."""
    path = urlsplit(text).path if "://" in text else text.partition(":")[2] or text
    return path.rstrip("/").rpartition("/")[2] or urlsplit(text).hostname or "download"


def shown(text: str) -> str:
    """A SOURCE without what may be secret: user, password and query."""
    if "://" not in text:
        return text
    parts = urlsplit(text)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def authority(tree: Tree | None) -> str:
    return tree.base.authority if isinstance(tree, WebTree) else ""
