"""`playhead ls` and `playhead cat`: what is in a folder, and what is in a file, on standard output."""

import asyncio
import json
import sys
from contextlib import aclosing

from playhead import assemble
from playhead.app import listing
from playhead.blob import FileSpan, Pieces, pieces
from playhead.config import Config
from playhead.errors import Unsized
from playhead.tree import Ask, Entries, Entry, Tree, visible


async def ls(source: str, config: Config, *, as_json: bool) -> int:
    """Print what is in a folder; returns the exit code."""
    tree, path = assemble.source(source, config)
    try:
        entries = sorted([entry async for entry in _listed(tree, path)], key=listing.order)
        if as_json:
            print(
                json.dumps(
                    {"path": path, "entries": [listing.as_json(entry) for entry in entries], "next": None}, indent=1
                )
            )
        else:
            sys.stdout.writelines(_line(entry) for entry in entries)
        return 0
    finally:
        await tree.aclose()


async def _listed(tree: Tree, path: str) -> Entries:
    entry = await tree.find(path)
    if not entry.folder:
        yield entry
        return
    async with aclosing(tree.entries(path)) as entries:
        async for entry in entries:
            yield entry


def _line(entry: Entry) -> str:
    """One line of a listing; what would steer the terminal is replaced."""
    size = "-" if entry.size is None else f"{entry.size:,}"
    when = entry.modified.astimezone().strftime("%Y-%m-%d %H:%M") if entry.modified else "-"
    return f"{size:>18}  {when:<16}  {visible(entry.name)}{'/' * entry.folder}\n"


async def cat(source: str, config: Config, start: int, length: int | None) -> int:
    """Write `length` bytes of a file from `start` on (None: to its end) to standard output; returns the exit code."""
    tree, path = assemble.source(source, config)
    try:
        stop = None if length is None else start + length
        try:
            blob = await tree.open(path, Ask(start, stop))
        except Unsized:
            await _write(_between(tree.flow(path), start, stop))
        else:
            stop = blob.size if stop is None else min(stop, blob.size)
            await _write(pieces(blob, min(start, stop), stop))
        return 0
    finally:
        await tree.aclose()


async def _between(stream: Pieces, start: int, stop: int | None) -> Pieces:
    at = 0
    async with aclosing(stream):
        async for piece in stream:
            assert isinstance(piece, bytes | memoryview)
            begin, at = at, at + len(piece)
            if at > start:
                yield memoryview(piece)[max(0, start - begin) : None if stop is None else max(0, stop - begin)]
            if stop is not None and at >= stop:
                return


async def _write(stream: Pieces) -> None:
    out = sys.stdout.buffer
    async with aclosing(stream):
        async for piece in stream:
            if isinstance(piece, FileSpan):
                for at in range(0, piece.length, 1 << 20):
                    data = await asyncio.to_thread(piece.pread, at, min(at + (1 << 20), piece.length))
                    await asyncio.to_thread(out.write, data)
            else:
                await asyncio.to_thread(out.write, piece)
    await asyncio.to_thread(out.flush)
