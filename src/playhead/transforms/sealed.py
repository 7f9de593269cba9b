"""Pieces -> Pieces: blocks of 64 KiB that are each sealed with a tag of 16 bytes, opened as they pass; and sealed.

rclone's files and age's are a head and such blocks. What is asked of the blob below is whole blocks. They are worked
on in batches: the first is one block, so that its bytes leave at once, then 1 MiB, in a thread, for the libraries let
go of the interpreter; while one batch leaves, the next is read and opened. One or two blocks cost less where they are
than a thread's turn does.
"""

import asyncio
import mmap
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from playhead.blob import Blob, FileSpan, Piece, Pieces
from playhead.errors import Damaged
from playhead.pool import Pool
from playhead.tree import Ask

PLAIN = 64 << 10  # bytes in a block
TAG = 16  # bytes that its seal adds
SEALED = PLAIN + TAG
BATCH = 15  # blocks that are worked on together, at most: sealed, they fit into 1 MiB
AT_ONCE = 2  # blocks that are worked on where they are, at most

pool = Pool(64)

Work = Callable[[int, memoryview, memoryview], None]
"""Opens or seals blocks, in any thread: the number of the first, their bytes, and room for the result."""


@dataclass(frozen=True, slots=True)
class Side:
    """Blocks in a row, sealed or plain: the width of each, and the bytes of all (the last may be shorter)."""

    width: int
    size: int

    def until(self, block: int) -> int:
        """Where the blocks before a block end."""
        return min(block * self.width, self.size)


def sealed(size: int) -> int:
    """Bytes of the sealed blocks that hold `size` bytes."""
    return size + TAG * -(-size // PLAIN)


def blocks(start: int, stop: int, side: Side) -> tuple[int, int]:
    """The blocks [first, last) that [start, stop) of one side lies in."""
    return start // side.width, -(-stop // side.width)


def widened(ask: Ask, begin: int, *, head: bool = False) -> Ask:
    """What is asked of the sealed file for what was asked of the plain one: whole blocks, which begin at `begin`.

    `head`: with what lies before them, where they are the first.
    """
    if ask.start is None:
        last = -(ask.stop or 0)
        return Ask(None, -(last + PLAIN - 1 + TAG * (last // PLAIN + 2)), ask.why)
    if ask.stop is not None and ask.stop <= ask.start:
        return Ask(0, 0, ask.why)
    first = ask.start // PLAIN
    stop = None if ask.stop is None else begin + SEALED * -(-ask.stop // PLAIN)
    return Ask(0 if head and not first else begin + first * SEALED, stop, ask.why)


async def through(
    upstream: Pieces,
    start: int,
    stop: int,
    source: Side,
    result: Side,
    work: Work,
    ready: Callable[[], Awaitable[object]] | None = None,
) -> Pieces:
    """[start, stop) of the result; `upstream` gives the source's blocks around it, and is closed.

    `ready` is awaited when the first blocks have come, before any is worked on.
    """
    at, last = blocks(start, stop, result)
    taking = _Taking(upstream)

    async def batch(first: int, count: int) -> memoryview:
        taken = await taking.take(source.until(first + count) - source.until(first))
        if ready is not None:
            await ready()
        room = result.until(first + count) - result.until(first)
        if count <= AT_ONCE and (here := at_hand(taken)) is not None:
            return worked(first, here, memoryview(bytearray(room)), work)
        memory, joined = pool.take(), pool.take()
        into = memoryview(memory)[:room]
        await asyncio.get_running_loop().run_in_executor(None, worked, first, taken, into, work, joined)
        pool.put(joined)
        pool.put(memory)  # it is used again when nobody has a view of it any more
        return into

    coming: asyncio.Future[memoryview] | None = None
    async with aclosing(upstream):
        try:
            count = last - at if last - at <= AT_ONCE else 1
            view = await batch(at, count) if count else memoryview(b"")
            while count:
                begin, at = result.until(at), at + count
                count = min(2 * count, BATCH, last - at)
                coming = asyncio.ensure_future(batch(at, count)) if count else None
                yield view[max(0, start - begin) : stop - begin]
                if coming is not None:
                    view, coming = await coming, None
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.wait([coming])


class _Taking:
    """Takes so many bytes from a stream, as pieces."""

    def __init__(self, stream: Pieces) -> None:
        self.stream = stream
        self.left: Piece = b""

    async def take(self, size: int) -> list[Piece]:
        got: list[Piece] = []
        while size:
            piece = self.left if len(self.left) else await anext(self.stream, None)
            if piece is None:
                raise Damaged(f"a stream ended {size:,} bytes early")
            part, self.left = split(piece, size)
            if isinstance(part, FileSpan) and len(part) < size:  # it is good only until the stream goes on
                part = await asyncio.to_thread(part.read)
            got.append(part)
            size -= len(part)
        return got


def split(piece: Piece, size: int) -> tuple[Piece, Piece]:
    """The first `size` bytes of a piece, and the others."""
    if isinstance(piece, FileSpan):
        size = min(size, piece.length)
        rest = FileSpan(piece.file, piece.offset + size, piece.length - size)
        return FileSpan(piece.file, piece.offset, size), rest
    view = memoryview(piece)
    return view[:size], view[size:]


def worked(
    first: int, pieces: Sequence[Piece], room: memoryview, work: Work, memory: mmap.mmap | None = None
) -> memoryview:
    """The blocks that some pieces are, opened or sealed into `room`; `memory` is where pieces may be joined."""
    if len(pieces) == 1 and not isinstance(pieces[0], FileSpan):
        work(first, memoryview(pieces[0]), room)
        return room
    size = sum(map(len, pieces))
    with memoryview(bytearray(size) if memory is None else memory)[:size] as joined:
        at = 0
        for piece in pieces:
            into = joined[at : at + len(piece)]
            if isinstance(piece, FileSpan):
                piece.readinto(into)
            else:
                into[:] = piece
            at += len(piece)
        work(first, joined, room)
    return room


def at_hand(pieces: Sequence[Piece]) -> list[Piece] | None:
    """The pieces in memory, where they can be without waiting for a disk; else None."""
    got: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, FileSpan):
            data = bytearray(piece.length)
            if not hasattr(os, "RWF_NOWAIT"):
                return None
            try:
                if os.preadv(piece.file.fileno(), [data], piece.offset, os.RWF_NOWAIT) < piece.length:
                    return None
            except OSError:
                return None
            piece = memoryview(data)
        got.append(piece)
    return got


def here(blob: Blob, start: int, stop: int, base: int, source: Side, result: Side, work: Work) -> list[Piece] | None:
    """[start, stop) of the result where it is a block or two and they are at hand; `base`: where blocks begin."""
    first, last = blocks(start, stop, result)
    if last - first > AT_ONCE:
        return None
    found = blob.here(base + source.until(first), base + source.until(last))
    ready = at_hand(found) if found is not None else None
    if ready is None:
        return None
    begin = result.until(first)
    try:
        view = worked(first, ready, memoryview(bytearray(result.until(last) - begin)), work)
    except Damaged:
        return None  # `stream` will say so
    return [view[start - begin : stop - begin]]
