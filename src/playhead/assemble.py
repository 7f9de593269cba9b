"""The composition root: the only place that knows every concrete class, and the order they are put together in.

The pipeline of a remote tree:  web (limits) -> retried -> segmented -> listed -> cached (reservoir) -> decrypted
"""

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes, urlsplit

from playhead import secrets
from playhead.config import NAME, Config, TreeConfig
from playhead.errors import Busy, Denied, Malformed, NotFound
from playhead.origins.local import LocalTree
from playhead.places import BUCKETS, Places, rcloned, web
from playhead.tree import Entry, Store, Tree, below, segments
from playhead.works import Works, folder_of

if TYPE_CHECKING:
    from playhead.app.downloads import Downloads
    from playhead.app.items import Start
    from playhead.app.site import Site
    from playhead.app.uploads import Uploads
    from playhead.origins.remote import Remote

ORIGINS = ("web", "webdav", "gdrive", "rclone", *BUCKETS)  # the uses that stand for an origin behind a network
WRITTEN = ("local", "webdav", "gdrive", *BUCKETS)
LAID = ("alias", "rclone-crypt")  # and those that are written through what they lie over

log = logging.getLogger("playhead")


@dataclass(slots=True)
class Trees:
    """The trees of a configuration, each made when it is first named, and shared by all that are over it.

    With `works`, what is read from remote ones is kept there, unless their tables say otherwise.
    """

    config: Config
    works: Works | None = None
    made: dict[tuple[str, bool], Tree] = field(default_factory=dict)
    making: list[str] = field(default_factory=list)
    urls: dict[tuple[str, bool], tuple[Tree, str]] = field(default_factory=dict)
    stores: dict[str, Tree] = field(default_factory=dict)
    origins: dict[str, tuple["Remote", Tree]] = field(default_factory=dict)  # by name or URL, nothing kept yet

    def named(self, name: str, *, keep: bool = True) -> Tree:
        """The tree of a table of the configuration; with `keep` False nothing of it is kept. Raises Malformed."""
        if (name, keep) not in self.made:
            if name in self.making:
                raise Malformed(f"the tree {name!r} is over itself: {' over '.join([*self.making, name])}")
            self.making.append(name)
            try:
                self.made[name, keep] = self._made(name, self.config.tree[name], keep)
            finally:
                self.making.pop()
        return self.made[name, keep]

    def source(self, text: str, *, keep: bool = True) -> tuple[Tree, str]:
        """A SOURCE -> a tree and a path in it. Raises Malformed, NotFound or Denied.

        Contains "://": a URL. NAME:path, where NAME is a tree of the configuration: that. Else a path.
        """
        if drive := self._pasted(text):
            return self.named(drive[0], keep=keep), drive[1]
        if "://" in text:
            if (text, keep) not in self.urls:
                tree = self._remote(text, lambda: web(text), keep=keep)
                self.urls[text, keep] = tree, web(text).single or ""
            return self.urls[text, keep]
        name, colon, path = text.partition(":")
        if colon and NAME.fullmatch(name):
            if name == "rclone" and ":" in path and name not in self.config.tree:
                return self._remote(text, lambda: rcloned(path), keep=keep), ""
            if name not in self.config.tree:
                known = ", ".join(sorted(self.config.tree)) or "none; see `[tree.NAME]` in the documentation"
                what = f"{name!r} is not a tree of the configuration (known: {known})"
                raise Malformed(f"{what}; a path begins with './'")
            path = path.strip("/")
            segments(path)
            return self.named(name, keep=keep), path
        return _on_this_machine(text)

    def _pasted(self, text: str) -> tuple[str, str] | None:
        """A link as Drive's pages show it, after NAME: or alone, -> a tree at Google and a path in it."""
        if "google.com/" not in text:
            return None
        from playhead.origins.drive.items import pasted

        name, _, link = text.partition(":")
        drives = [key for key, table in self.config.tree.items() if table.use == "gdrive"]
        if path := pasted(link):
            return (name, path) if name in drives else None
        if not (path := pasted(text)):
            return None
        if not drives:
            raise Malformed('that is a link into Google Drive; describe a `[tree.NAME]` with use = "gdrive" first')
        return drives[0], path

    def store(self, text: str) -> tuple[Tree, str]:
        """A SOURCE that is written to: a tree that is a Store, and a path in it. Raises Malformed.

        A path of this machine, or NAME:path, where the table says `write = true` or lies over one that does.
        """
        name, colon, path = text.partition(":")
        if "://" in text or not (colon and NAME.fullmatch(name)):
            if "://" in text:
                raise Malformed(
                    'a URL alone cannot be written to; describe it as a `[tree.NAME]`, as of use = "webdav"'
                )
            return _folder_here(text)
        if name not in self.config.tree:
            return self.source(text)  # which says what is known
        path = path.strip("/")
        segments(path)
        return self.written(name), path

    def written(self, name: str) -> Tree:
        """The tree of a table, as a Store. Raises Malformed where it cannot be written to."""
        if name not in self.stores:
            table = self.config.tree[name]
            self.stores[name] = self._written(name, table)
        return self.stores[name]

    def writable(self, name: str) -> bool:
        """Does the table, or the one that it lies over, say `write = true`?"""
        table = self.config.tree[name]
        if table.use in LAID:
            below = table.over[0].partition(":")[0]
            return below in self.config.tree and below != name and self.writable(below)
        return table.write

    def _written(self, name: str, table: TreeConfig) -> Tree:
        if table.use in LAID:
            over, _, path = table.over[0].partition(":")
            if over not in self.config.tree:
                what = "lies over a path or a URL; describe that as a `[tree.NAME]` with `write = true`"
                raise Malformed(f"tree {name} is not to be written to: it {what}, and name it in `over`")
            self.named(name, keep=False)  # raises where it is over itself
            path = path.strip("/")
            segments(path)
            tree = self.written(over)
            tree = below(tree, path, Entry(path.rpartition("/")[2], folder=True)) if path else tree
            made = tree if table.use == "alias" else Places(self.config).opened(name, table, tree)[0]
        elif table.use not in WRITTEN:
            raise Malformed(f"tree {name} cannot be written to: use = {table.use!r} only reads")
        elif not table.write:
            raise Malformed(f"tree {name} is not to be written to; say `write = true` in its table")
        elif table.use == "local":
            from playhead.origins.folder import LocalStore

            made = LocalStore(self.config.folder / _home(table.root or ""), follow_links=table.follow_links)
        else:
            self.named(name, keep=False)
            made = self.origins[name][0]
        if not isinstance(made, Store):
            raise Malformed(f"tree {name} cannot be written to: use = {table.use!r} only reads")
        return made

    def bare(self, text: str, *, keep: bool = False) -> tuple[Tree, str]:
        """A SOURCE for one who retries and counts connections himself: the origin alone, where it is one."""
        tree, path = self.source(text, keep=keep)
        return next((origin for origin, read in self.origins.values() if read is tree), tree), path

    def elsewhere(self, url: str) -> tuple[Tree, str]:
        """A URL that a bundle names: one tree for all of a server, so that its connections are shared.

        One with a query has a tree of its own over those connections, which nobody remembers, and keeps nothing.
        """
        parts = urlsplit(url)
        if "@" in parts.netloc or parts.path in ("", "/"):
            return self.source(url)
        server = f"{parts.scheme}://{parts.netloc}/"
        tree, _ = self.source(server)
        if not parts.query:
            return tree, unquote_to_bytes(parts.path[1:]).decode("utf-8", "surrogateescape")
        from playhead.origins.web import WebTree

        origin = self.origins[server][0]
        single = WebTree(url, client=origin.client if isinstance(origin, WebTree) else None)
        return read(single, None), single.single or ""

    def _made(self, name: str, table: TreeConfig, keep: bool) -> Tree:
        if table.use == "local":
            if table.write:
                return self.written(name)  # which does not show what is half written
            return LocalTree(self.config.folder / _home(table.root or ""), follow_links=table.follow_links)
        if table.use in ORIGINS:
            make = partial(Places(self.config).origin, name, table)
            return self._remote(name, make, keep=keep and bool(table.keep))
        if table.use == "union":
            from playhead.transforms.union import union

            return union([self._over(text, keep) for text in table.over])
        if table.use == "combine":
            from playhead.transforms.union import combined

            return combined({folder: self._over(text, keep) for folder, text in table.folders.items()})
        plain = table.keep == "plain" and keep and self.works is not None
        tree = self._over(table.over[0], keep and bool(table.keep) and not plain)
        if table.use != "alias":
            tree, known_by = Places(self.config).opened(name, table, tree)
            if plain and self.works is not None:
                tree = self.works.kept(tree, f"{name} {table.over[0]} {known_by}")
        return tree

    def _remote(self, name: str, make: Callable[[], "Remote"], *, keep: bool) -> Tree:
        """An origin as it is read; the same one, with its limits, whether what is read is kept or not."""
        if name not in self.origins:
            origin = make()
            self.origins[name] = origin, read(origin, self.works)
        origin, tree = self.origins[name]
        return kept(origin, tree, self.works) if keep else tree

    def _over(self, text: str, keep: bool) -> Tree:
        """What a tree is over: a SOURCE (relative paths from the configuration's folder), or a tree's name alone."""
        if text in self.config.tree:
            text += ":"
        elif "://" not in text and not (":" in text and NAME.fullmatch(text.partition(":")[0])):
            place = self.config.folder / _home(text)
            text = f"{text}:" if NAME.fullmatch(text) and not place.exists() else str(place)  # or a name, misspelt
        tree, path = self.source(text, keep=keep)
        return below(tree, path, Entry(path.rpartition("/")[2], folder=True)) if path else tree


def remote(origin: "Remote", works: Works | None = None) -> Tree:
    """An origin as it is read: tried again, over several connections, and kept in `works`."""
    return kept(origin, read(origin, works), works)


def kept(origin: "Remote", tree: Tree, works: Works | None) -> Tree:
    """What is read of an origin, kept in `works`."""
    return works.kept(tree, origin.known_by) if works else tree


def read(origin: "Remote", works: Works | None) -> Tree:
    """An origin tried again, and over several connections."""
    from playhead.transforms.retry import retried
    from playhead.transforms.segments import segmented

    again = retried(origin)
    tree = segmented(again, most=min(16, origin.traffic.limits.connections or 16))
    if works is not None:
        works.pipes.append((origin, again))
        works.restore(origin)
    return tree


def source(text: str, config: Config, works: Works | None = None) -> tuple[Tree, str]:
    """A SOURCE of the command line -> a tree and a path in it: see `Trees.source`."""
    return Trees(config, works).source(text)


def _on_this_machine(text: str) -> tuple[Tree, str]:
    if "\0" in text:
        raise Malformed("a path has no NUL in it")
    place = os.path.abspath(_home(text))
    if os.path.isdir(place):
        return LocalTree(place), ""
    if not os.path.lexists(place):
        _reachable(place, text)
        raise NotFound(f"{text[:200]!r}: there is no such file or folder")
    folder, name = os.path.split(place)
    return LocalTree(folder), name


def _folder_here(text: str) -> tuple[Tree, str]:
    """A path of this machine that is written to: the nearest folder that is there, and the rest."""
    from playhead.origins.folder import LocalStore

    place, rest = Path(os.path.abspath(_home(text))), ""
    while not place.is_dir() and place != place.parent:
        rest = f"{place.name}/{rest}" if rest else place.name
        place = place.parent
    return LocalStore(place), rest


def _home(text: str) -> str:
    """A path with "~" as the home that it stands for; a name that only begins so is left as it is."""
    return os.path.expanduser(text)


def _reachable(place: str, text: str) -> None:
    """Raises Denied where a folder on the way may not be looked into."""
    try:
        os.lstat(place)
    except PermissionError as error:
        raise Denied(f"{text!r}: {os.strerror(error.errno or 0).lower()}") from error
    except OSError:
        return


async def rooted(tree: Tree, path: str) -> Tree:
    """The tree with what is at a path as its root."""
    return below(tree, path, await tree.find(path)) if path else tree


async def site(
    sources: Sequence[str],
    config: Config,
    works: Works,
    *,
    login: bool,
    downloads: Path | None = None,
    start: "Start | None" = None,
) -> "Site":
    """The server's application: the configuration's trees, and the SOURCEs as music, music2, ...

    With `downloads` also the queue into that folder, whose jobs `start` makes. Raises the Failure of a SOURCE that
    cannot be read now.
    """
    from playhead.app.auth import Gate, networks
    from playhead.app.bundles import Limits
    from playhead.app.packing import Packing
    from playhead.app.site import Site

    trees: dict[str, Tree] = {}
    known = Trees(config, works)
    for text in sources:
        name = next(f"music{n if n > 1 else ''}" for n in range(1, 10_000) if f"music{n if n > 1 else ''}" not in trees)
        trees[name] = await rooted(*known.source(text))
        await readable(trees[name])
    for name, described in config.tree.items():
        if name in trees:
            raise Malformed(f"a SOURCE on the command line is called {name!r}, as a tree of the configuration is")
        if described.serve:
            trees[name] = known.named(name)
    if not trees and downloads is None:
        raise Malformed("there is nothing to serve: give a folder or a URL, or describe a `[tree.NAME]`")
    queue = await _queue(trees, config, downloads, start) if downloads and start else None
    packing = Packing(trees, config.prefix, config.bundles.urls, known.elsewhere)
    packing.bundles.folder = folder_of(config) / "bundles"
    packing.bundles.limits = Limits(config.bundles.members, config.bundles.bytes, config.bundles.at_once)
    gate = Gate(login, config.cors, networks(config.trusted_proxies))
    uploads = await _uploads(known, trees, works)
    return Site(trees, gate, config.prefix, works.figures, packing, downloads=queue, uploads=uploads)


async def _uploads(known: Trees, trees: dict[str, Tree], works: Works) -> "Uploads | None":
    """What takes files for the trees that can be written, where there are such; another server's spool is its own."""
    from playhead.app.uploads import Uploads
    from playhead.transforms.written import written

    stores = {name: known.written(name) for name in trees if name in known.config.tree and known.writable(name)}
    if not stores:
        return None
    place = secrets.state_folder() / f"uploads-{secrets.fingerprint('uploads', str(known.config.folder))[:16]}"
    uploads = Uploads(stores, place, noticed=lambda name, folder: written(trees[name], folder))
    try:
        await uploads.begin()
    except Busy:
        log.warning("another playhead takes files for these trees; this one does not")
        return None
    return uploads


async def _queue(trees: dict[str, Tree], config: Config, folder: Path, start: "Start") -> "Downloads":
    """The queue of downloads, and its folder among the trees. Raises Malformed, Busy or Unavailable."""
    from playhead.app.downloads import Downloads
    from playhead.app.incoming import Incoming
    from playhead.app.queue import Queue

    if "downloads" in trees:
        raise Malformed("a tree is called 'downloads', as the folder of the downloads is")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise Malformed(f"the folder of downloads, {str(folder)!r}, cannot be made: {why}") from error
    folder = folder.resolve()
    state = secrets.state_folder() / f"downloads-{secrets.fingerprint(str(folder))[:16]}"
    queue = Queue(start, folder, state, at_once=config.downloads.at_once, trees=tuple(trees))
    await queue.begin()
    trees["downloads"] = Incoming(LocalTree(folder), folder, lambda: [item.job for item in queue.active.values()])
    token = config.downloads.token
    if token is not None:
        token = secrets.hide(secrets.resolve(token, config.folder))
    return Downloads(queue, token, tree="downloads", playing=True)


async def readable(tree: Tree) -> None:
    """Raises why the root of a tree cannot be listed."""
    async with aclosing(tree.entries("")) as entries:
        async for _ in entries:
            return
