"""Media -> downloads: each track is fetched as any file is, and where there are several a film is made of them.

Fragments are one blob in a row, so that they come over as many connections as pay, and go on where they broke off. What
a site calls a track stays the same when its addresses do not: by that a part is known again. Tracks lie beside the film
until it is made.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from playhead import secrets
from playhead.blob import Blob, Pieces, concat, cut, identity, literal
from playhead.doors.download import Download, cleaned, other
from playhead.doors.route import Route
from playhead.errors import Damaged, Malformed
from playhead.origins.fetch import Access
from playhead.origins.web import WebBlob, WebTree
from playhead.sites.mux import muxed
from playhead.sites.pages import Medium, Track
from playhead.transforms.retry import Retried, retried
from playhead.tree import Ask, Tree, Why, visible

AT_ONCE = 8  # fragments whose sizes are asked for
_SECRET = {"cookie", "authorization"}
_MARK = "user.playhead.medium"  # an extended attribute of a film that was made


@dataclass(frozen=True, slots=True, eq=False)
class _Row(Blob):
    """Fragments in a row, and what their servers say of their version."""

    whole: Blob
    validator: str | None

    def stream(self, start: int, stop: int) -> Pieces:
        return self.whole.stream(start, stop)


@dataclass(slots=True)
class FromTrack:
    """A track of a medium. See `download.Source`. The trees that it opens are added to `opened`."""

    label: str
    exactly: str
    name: str
    track: Track
    proxy: str | None
    opened: list[Tree]
    servers: dict[str, WebTree] = field(default_factory=dict)
    again: dict[str, Retried] = field(default_factory=dict)

    async def routes(self, ask: Ask) -> list[Route]:
        """One way: the site's."""
        alone = len(self.track.urls) == 1 and not self.track.ranges
        blob = await self._opened(self.track.urls[0], ask) if alone else await self._row()
        return [Route("origin", blob, cap=self.track.most or 1 << 62)]

    async def flow(self) -> Pieces:
        for url, span in _pieces(self.track):
            if span:
                raise Malformed("the site does not say how long a file is that only a part of is meant")
            tree, path = self._tree(url)
            async with aclosing(retried(tree).flow(path)) as stream:
                async for piece in stream:
                    yield piece

    def leave(self) -> bool:
        """There is no other way."""
        return False

    async def _row(self) -> Blob:
        found = dict.fromkeys(self.track.urls, literal(b""))
        waiting = iter(list(found))

        async def ask() -> None:
            for url in waiting:
                found[url] = blob = await self._opened(url, Ask(0, 0, Why.BULK))
                while isinstance(blob, WebBlob) and blob.waiting:
                    blob.waiting.pop().drop()  # it would keep its connection busy

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(ask())
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        whole = concat(_part(found[url], span) for url, span in _pieces(self.track))
        told = [(getattr(blob, "validator", None), blob.size) for blob in found.values()]
        return _Row(whole.size, whole.tag, whole, identity("row", *(each for pair in told for each in pair)))

    async def _opened(self, url: str, ask: Ask) -> Blob:
        tree, path = self._tree(url)
        again = self.again.setdefault(tree.client.base.authority, retried(tree))
        return await again.tried(lambda: tree.open(path, ask))

    def _tree(self, url: str) -> tuple[WebTree, str]:
        """The tree of an address; those of one server share its connections."""
        server = "/".join(url.split("/", 3)[:3])
        if first := self.servers.get(server):
            tree = WebTree(url, client=first.client)
        else:
            tree = self.servers[server] = WebTree(url, _access(self.track.headers, self.proxy))
            self.opened.append(tree)
        if tree.single is None:
            raise Malformed(f"a file of {self.label} has an address that ends in '/'; run yt-dlp itself for it")
        return tree, tree.single


def _pieces(track: Track) -> Iterable[tuple[str, tuple[int, int] | None]]:
    return zip(track.urls, track.ranges or [None] * len(track.urls), strict=True)


def _part(blob: Blob, span: tuple[int, int] | None) -> Blob:
    if span is None:
        return blob
    if span[1] > blob.size:
        raise Damaged(f"the playlist names {span[1] - span[0]:,} bytes that are not in a file of {blob.size:,}")
    return cut(blob, *span)


def _access(headers: Mapping[str, str], proxy: str | None) -> Access:
    told = [f"{name}: {secrets.hide(value)}" for name, value in sorted(headers.items()) if name.lower() in _SECRET]
    return Access(dict(headers), proxy, fingerprint=secrets.fingerprint(*told))


# ── films ──


class Tracked(Download):
    """The download of a medium, or of one of its tracks: with the last of them the film is made.

    `final`: is what it leaves what was asked for?
    """

    film: "Film | None" = None
    number = 0  # of the film's tracks
    final = True

    async def run(self) -> None:
        if self.film and await self.film.there():
            self.target, self.state = self.film.target, "already"
            return
        await super().run()
        if self.film:
            self.final = False
            try:
                await self.film.came(self)
            except BaseException:
                self.state = "failed"
                raise


@dataclass(slots=True, eq=False)
class Film:
    """A file that is made of tracks, when all of them are there."""

    medium: Medium
    target: Path
    exists: str
    paths: dict[int, Path] = field(default_factory=dict)  # of its tracks

    async def there(self) -> bool:
        """Was it made before? Raises Malformed where something else has its name."""
        if self.exists == "overwrite" or not os.path.lexists(self.target):
            return False
        with suppress(OSError, AttributeError):
            if await asyncio.to_thread(os.getxattr, self.target, _MARK) == self._mark():
                return True
        what = f"{visible(str(self.target))!r} is there already, and is not known to be the same file"
        raise Malformed(f"{what}: give --overwrite or --rename, or another name by -o")

    async def came(self, download: Tracked) -> None:
        """One of its tracks is there; with the last one, make it."""
        assert download.target
        self.paths[download.number] = download.target
        if len(self.paths) < len(self.medium.tracks):
            return
        download.state, tracks = "joining", [path for _, path in sorted(self.paths.items())]
        await muxed(tracks, self.target, over=self.exists == "overwrite")
        await asyncio.to_thread(self._made)
        download.target, download.state, download.final = self.target, "complete", True

    def _made(self) -> None:
        with suppress(OSError, AttributeError):
            os.setxattr(self.target, _MARK, self._mark())
        for path in self.paths.values():
            path.unlink(missing_ok=True)

    def _mark(self) -> bytes:
        """What is noted of the film: what it was made of, and when it was not touched any more."""
        of = identity("film", *(track.key for track in self.medium.tracks))
        return f"{of} {self.target.stat().st_mtime_ns}".encode()


Make = Callable[[Track, str, Callable[[str], Path]], Tracked]


def planned(
    medium: Medium, page: str, place: Callable[[str], Path], make: Make, *, exists: str, taken: set[Path]
) -> list[Tracked]:
    """The downloads of a medium, and of its subtitles, which are called as it is.

    `make` gives that of a track, which has a name and a place; `page` is for people. Raises Malformed, where the film
    would be called as another one.
    """
    name = cleaned(f"{medium.name}.{medium.extension}")
    if not medium.muxes:
        found = [make(medium.tracks[0], name, lambda proposed: place(name))]
        return [*found, *_subtitles(medium, place(name), make)]
    target = place(name)
    if exists == "rename" and (os.path.lexists(target) or target in taken):
        target = other(target, taken)
    if target in taken:
        raise Malformed(f"two media of {page} are called {visible(str(target))!r}: give --rename, or fetch them apart")
    taken.add(target)
    film = Film(medium, target, exists)
    there = exists == "refuse" and os.path.lexists(target)  # then one of them says what that means
    tracks = [_beside(film, make, number) for number in range(1 if there else len(medium.tracks))]
    return [*tracks, *_subtitles(medium, target, make)]


def _subtitles(medium: Medium, target: Path, make: Make) -> Iterable[Tracked]:
    main = medium.tracks[0]
    sent = {name: value for name, value in main.headers.items() if name.lower() not in _SECRET}
    for language, url, extension in medium.subtitles:
        track = Track((url,), sent, extension, key=f"{main.key} {language}")
        path = target.with_name(cleaned(f"{target.stem}.{language}.{extension}"))
        yield make(track, path.name, _always(path))


def _always(path: Path) -> Callable[[str], Path]:
    return lambda proposed: path


def _beside(film: Film, make: Make, number: int) -> Tracked:
    track = film.medium.tracks[number]
    name = f"{film.target.name}.{number}.{track.extension}"
    made = make(track, name, _always(film.target.with_name(name)))
    made.film, made.number = film, number
    return made
