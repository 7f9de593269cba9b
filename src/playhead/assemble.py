"""The composition root: the only place that knows every concrete class, and the order they are put together in.

The pipeline of a remote tree:  web (limits) -> retried -> segmented -> listed -> cached (reservoir)
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from playhead import secrets
from playhead.app.auth import Gate, networks
from playhead.app.site import Site
from playhead.config import NAME, Config, TreeConfig
from playhead.errors import Denied, Malformed, NotFound
from playhead.origins.local import LocalTree
from playhead.tree import Tree, below, segments
from playhead.works import Works

if TYPE_CHECKING:
    from playhead.origins.web import WebTree


def tree_of(config: TreeConfig, folder: Path, works: Works | None = None) -> Tree:
    """The tree that a table of the configuration describes; `folder` is where relative paths are meant from.

    With `works`, what is read from a remote one is kept there, unless the table says otherwise.
    """
    if config.use == "local":
        return LocalTree(folder / _home(config.root or ""), follow_links=config.follow_links)
    origin = web(
        config.url or "",
        headers={name: secrets.resolve(value, folder) for name, value in config.headers.items()},
        user=config.user,
        password=secrets.resolve(config.password, folder) if config.password else None,
        bearer=secrets.resolve(config.bearer, folder) if config.bearer else None,
        proxy=secrets.resolve(config.proxy, folder) if config.proxy else None,
        ca=str(folder / config.ca) if config.ca else None,
        cert=str(folder / config.cert) if config.cert else None,
        rate=config.rate,
        connections=config.connections,
        bytes_per_day=config.bytes_per_day,
    )
    return remote(origin, works, keep=config.keep)


def remote(origin: "WebTree", works: Works | None = None, *, keep: bool = True) -> Tree:
    """An origin as it is read: tried again, over several connections, and kept in `works`."""
    from playhead.transforms.retry import retried
    from playhead.transforms.segments import segmented

    again = retried(origin)
    tree = segmented(again, most=min(16, origin.client.limits.connections or 16))
    if works is None:
        return tree
    works.pipes.append((origin, again))
    works.restore(origin)
    return works.kept(tree, f"{origin.base} {origin.client.access.fingerprint}") if keep else tree


def web(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    user: str | None = None,
    password: str | None = None,
    bearer: str | None = None,
    proxy: str | None = None,
    ca: str | None = None,
    cert: str | None = None,
    rate: float | None = None,
    connections: int | None = None,
    bytes_per_day: int | None = None,
) -> "WebTree":
    """A URL as a tree, with what it takes to be let in, and what may be asked of it."""
    from playhead.limits import Limits
    from playhead.origins.fetch import Access, basic
    from playhead.origins.web import WebTree

    sent = dict(headers or {})
    if user is not None:
        sent["Authorization"] = basic(user, secrets.hide(password or ""))
    elif bearer is not None:
        sent["Authorization"] = f"Bearer {secrets.hide(bearer)}"
    for value in sent.values():
        secrets.hide(value)
    userinfo = url.partition("://")[2].partition("/")[0].rpartition("@")[0]
    if userinfo:
        secrets.hide(unquote(userinfo.partition(":")[2]))
    known_by = secrets.fingerprint(userinfo, cert or "", *(f"{name}: {value}" for name, value in sorted(sent.items())))
    limits = Limits(rate=rate, connections=connections, bytes_per_day=bytes_per_day)
    made = WebTree(url, Access(sent, proxy, ca, cert, known_by), limits)
    limits.name = made.base.host or ""
    return made


def source(text: str, config: Config, works: Works | None = None) -> tuple[Tree, str]:
    """A SOURCE of the command line -> a tree and a path in it. Raises Malformed, NotFound or Denied.

    Contains "://": a URL. NAME:path, where NAME is a tree of the configuration: that. Else a path.
    """
    if "://" in text:
        origin = web(text)
        return remote(origin, works), origin.single or ""
    name, colon, path = text.partition(":")
    if colon and NAME.fullmatch(name):
        if name not in config.tree:
            known = ", ".join(sorted(config.tree)) or "none; see `[tree.NAME]` in the documentation"
            raise Malformed(f"{name!r} is not a tree of the configuration (known: {known}); a path begins with './'")
        path = path.strip("/")
        segments(path)
        return tree_of(config.tree[name], config.folder, works), path
    place = os.path.abspath(_home(text))
    if os.path.isdir(place):
        return LocalTree(place), ""
    if not os.path.lexists(place):
        _reachable(place, text)
        raise NotFound(f"{text!r}: there is no such file or folder")
    folder, name = os.path.split(place)
    return LocalTree(folder), name


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


async def site(sources: Sequence[str], config: Config, works: Works, *, login: bool) -> Site:
    """The server's application: the configuration's trees, and the SOURCEs as music, music2, ...

    Raises the Failure of a SOURCE that cannot be read now.
    """
    trees: dict[str, Tree] = {}
    for text in sources:
        name = next(f"music{n if n > 1 else ''}" for n in range(1, 10_000) if f"music{n if n > 1 else ''}" not in trees)
        trees[name] = await rooted(*source(text, config, works))
        await readable(trees[name])
    for name, described in config.tree.items():
        if name in trees:
            raise Malformed(f"a SOURCE on the command line is called {name!r}, as a tree of the configuration is")
        trees[name] = tree_of(described, config.folder, works)
    if not trees:
        raise Malformed("there is nothing to serve: give a folder or a URL, or describe a `[tree.NAME]`")
    return Site(trees, Gate(login, config.cors, networks(config.trusted_proxies)), config.prefix, works.figures)


async def readable(tree: Tree) -> None:
    """Raises why the root of a tree cannot be listed."""
    async with aclosing(tree.entries("")) as entries:
        async for _ in entries:
            return
