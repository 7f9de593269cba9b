"""Playhead: play, mount, bundle and download files from where they are kept, from the first byte."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from playhead.blob import Blob, FileSpan, Piece, concat, cut, deferred, literal
from playhead.errors import (
    Busy,
    Changed,
    Damaged,
    Denied,
    Failure,
    Full,
    Malformed,
    NotFound,
    Unavailable,
    Unknown,
    Unsized,
)
from playhead.respond import About, Request, Response, asked, respond
from playhead.tree import Ask, Entry, Store, Tree, Why, lift, walk
from playhead.version import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable, Sequence
    from pathlib import Path

__all__ = [
    "About",
    "Ask",
    "Blob",
    "Busy",
    "Changed",
    "Damaged",
    "Denied",
    "Entry",
    "Failure",
    "FileSpan",
    "Full",
    "Malformed",
    "NotFound",
    "Piece",
    "Request",
    "Response",
    "Store",
    "Tree",
    "Unavailable",
    "Unknown",
    "Unsized",
    "Why",
    "__version__",
    "asked",
    "concat",
    "cut",
    "deferred",
    "download",
    "lift",
    "literal",
    "once",
    "open",
    "respond",
    "tar",
    "walk",
    "zip",
]


def open(
    source: "str | Path",
    *,
    headers: Mapping[str, str] | None = None,
    user: str | None = None,
    password: str | None = None,
    bearer: str | None = None,
    proxy: str | None = None,
    ca: str | None = None,
    cert: str | None = None,
) -> Tree:
    """A folder on this machine, or a URL, as a tree for async code.

    A URL that ends in "/" is a folder read through its index pages, any other the one file it names. What
    follows is for URLs: headers to send, a user name and password or a bearer token, a proxy (http:// or
    socks5://), an own CA and a client certificate with its key (PEM files). Raises Malformed for what is not
    a URL; NotFound and Denied for folders.
    """
    from playhead import assemble, places

    if "://" in str(source):
        origin = places.web(
            str(source), headers=headers, user=user, password=password, bearer=bearer, proxy=proxy, ca=ca, cert=cert
        )
        return assemble.remote(origin)
    from playhead.origins.local import LocalTree

    return LocalTree(source)


async def download(
    source: "str | Blob",
    target: "str | Path",
    *,
    streams: int | None = None,
    proxies: "Sequence[str]" = (),
    mirrors: "Sequence[str]" = (),
    checksum: str | None = None,
    limit: float | None = None,
    exists: str = "refuse",
) -> "Path":
    """Fetch a URL, a file or a folder of a tree, or a blob into a file (or a folder); returns where it is.

    Resumable: called again after an interruption it goes on, with the same version only. `streams` is the number of
    connections (None: as many as pay), `checksum` ALG:HEX, `limit` bytes a second, `exists` what to do where the
    target is there: "refuse", "overwrite" or "rename". Raises a Failure; what came stays beside the target.
    """
    from pathlib import Path

    from playhead.gathering import Options
    from playhead.starting import fetched

    options = Options(
        streams=streams,
        proxies=tuple(proxies),
        mirrors=tuple(mirrors),
        checksum=checksum,
        limit=limit,
        exists=exists,
    )
    return await fetched(source, Path(target), options)


def tar(members: "Iterable[tuple[str, Blob | bytes] | tuple[str, Blob | bytes, float]]") -> Blob:
    """Members, each as (name, blob or bytes) or (name, blob or bytes, time in seconds), as one tar.

    The size is exact before the first byte; equal members give equal bytes, so any range of it can be read, and
    a transfer resumed. Names are made relative and unique. Raises Malformed for what no archive can hold; reading
    raises Changed where a blob is not what it was.
    """
    from playhead.transforms.members import packed

    return packed(members, "tar")


def zip(members: "Iterable[tuple[str, Blob | bytes] | tuple[str, Blob | bytes, float]]") -> Blob:
    """The same as one zip, its members stored as they are (APPNOTE 6.3.10)."""
    from playhead.transforms.members import packed

    return packed(members, "zip")


def once(source: "Iterable[bytes] | AsyncIterable[bytes]", size: int) -> Blob:
    """What an iterator gives, of which the size is known, as a blob that can be read once from its beginning.

    Reading raises Damaged where it gives fewer or more bytes, and Malformed where it is read out of order.
    """
    from playhead.transforms.members import once

    return once(source, size)
