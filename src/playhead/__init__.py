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
    "lift",
    "literal",
    "open",
    "respond",
    "walk",
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
    from playhead import assemble

    if "://" in str(source):
        origin = assemble.web(
            str(source), headers=headers, user=user, password=password, bearer=bearer, proxy=proxy, ca=ca, cert=cert
        )
        return assemble.remote(origin)
    from playhead.origins.local import LocalTree

    return LocalTree(source)
