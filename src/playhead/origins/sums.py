"""Blob -> the digests that stores tell of what they have: while it leaves, before it leaves, or without sending it."""

import asyncio
import re
from collections.abc import Sequence
from contextlib import aclosing
from hashlib import new as hashed

from playhead.blob import Blob, FileSpan, Piece, pieces

CHUNK = 1 << 20  # bytes that are read from a file at a time

_KNOWN = re.compile(r"h:(sha1|md5):([0-9a-f]+)")


class Sums:
    """Digests of bytes as they pass."""

    def __init__(self, *algorithms: str) -> None:
        self.hashes = {name: hashed(name, usedforsecurity=False) for name in algorithms}

    def add(self, chunk: bytes | memoryview) -> None:
        for each in self.hashes.values():
            each.update(chunk)

    @property
    def told(self) -> dict[str, str]:
        """Algorithm -> hexadecimal digest."""
        return {name: each.hexdigest() for name, each in self.hashes.items()}


async def foretold(blob: Blob) -> tuple[str, str] | None:
    """A digest, SHA-1 or MD5, that is known or can be made without waiting for a network; None: there is none yet."""
    if known := _KNOWN.fullmatch(blob.tag or ""):
        return known[1], known[2]
    if (ready := blob.here(0, blob.size)) is None:
        return None
    return "sha1", await asyncio.to_thread(_hashed, "sha1", ready)


async def digest(algorithm: str, blob: Blob) -> str:
    """The digest of a blob, which is read for it, in hexadecimal."""
    sums = Sums(algorithm)
    async with aclosing(pieces(blob, 0, blob.size)) as stream:
        async for piece in stream:
            await asyncio.to_thread(_add, sums, piece)
    return sums.told[algorithm]


def _hashed(algorithm: str, ready: Sequence[Piece]) -> str:
    sums = Sums(algorithm)
    for piece in ready:
        _add(sums, piece)
    return sums.told[algorithm]


def _add(sums: Sums, piece: Piece) -> None:
    if not isinstance(piece, FileSpan):
        sums.add(piece)
        return
    for at in range(0, piece.length, CHUNK):
        sums.add(piece.pread(at, min(piece.length, at + CHUNK)))
