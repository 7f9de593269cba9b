"""Blob <-> Blob: age's ASCII armor (C2SP age.md, "ASCII armor"; RFC 7468, strict), read and written by range.

Every line but the last holds 48 bytes as 64 letters, so where a byte stands follows from how lines end. The beginning
and the end are looked at when it is opened; every line that is read is checked: its length, its end, its letters.
"""

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from math import ceil

from playhead.blob import Blob, Pieces, identity, pieces
from playhead.errors import Damaged
from playhead.transforms.sealed import Side, blocks, through

BEGIN, END = b"-----BEGIN AGE ENCRYPTED FILE-----", b"-----END AGE ENCRYPTED FILE-----"
HELD, WIDTH = 48, 64  # bytes in a line, and letters
SPACE = 1 << 10  # bytes of white space that may stand before and after
_BLANK = b" \t\r\n"


def is_armor(head: bytes) -> bool:
    """Does a file that begins so hold armor?"""
    return head.lstrip(_BLANK).startswith(BEGIN)


async def dearmored(blob: Blob) -> Blob:
    """Blob -> Blob: what is in the armor. Raises Damaged where it is not armor, or was cut."""
    edge = SPACE + len(END) + 2 * WIDTH + 8
    head, tail = await asyncio.gather(blob.read(0, edge), blob.read(max(0, blob.size - edge)))
    start = len(head) - len(head.lstrip(_BLANK)) + len(BEGIN)
    ending = head[start : start + 2] if head[start : start + 2] == b"\r\n" else head[start : start + 1]
    if not is_armor(head) or ending not in (b"\n", b"\r\n"):
        raise Damaged("this is not age's armor: its first line is not right")
    start += len(ending)
    end = blob.size - (len(tail) - len(tail.rstrip(_BLANK))) - len(END)
    if not tail.rstrip(_BLANK).endswith(ending + END) or end <= start:
        raise Damaged("age's armor does not end as it must: it was cut, or something follows")
    line = WIDTH + len(ending)
    count = ceil((end - start) / line)
    last = (await blob.read(start + (count - 1) * line, end))[: -len(ending)]
    size = (count - 1) * HELD + len(_decoded(last, count - 1))
    return _Armor(size, identity("dearmored", blob.tag), blob, start, end, ending, modified=blob.modified)


def _decoded(line: bytes, number: int) -> bytes:
    try:
        data = base64.b64decode(line, validate=True)
    except binascii.Error:
        data = b""
    if not data or base64.b64encode(data) != line or len(line) > WIDTH:
        raise Damaged(f"line {number + 2} of age's armor is not canonical base64")
    return data


@dataclass(frozen=True, slots=True, eq=False)
class _Armor(Blob):
    blob: Blob
    begin: int
    end: int
    ending: bytes

    def stream(self, start: int, stop: int) -> Pieces:
        source = Side(WIDTH + len(self.ending), self.end - self.begin)
        result = Side(HELD, self.size)
        return _lines(self.blob, start, stop, self.begin, source, result, self._opened)

    def _opened(self, first: int, source: memoryview, room: memoryview) -> None:
        width, data = WIDTH + len(self.ending), bytes(source)
        for at in range(ceil(len(data) / width)):
            line = data[at * width : (at + 1) * width]
            held = _decoded(line[: -len(self.ending)], first + at) if line.endswith(self.ending) else b""
            if len(held) != len(room[at * HELD : (at + 1) * HELD]):
                raise Damaged(f"line {first + at + 2} of age's armor has not the length that it must have")
            room[at * HELD : (at + 1) * HELD] = held


async def flowing(upstream: AsyncGenerator[bytes | memoryview, None]) -> AsyncGenerator[bytes, None]:
    """A stream, and where it is armor what is in it. Raises Damaged."""
    held, lines, begun = b"", 0, False
    async for piece in upstream:
        held += piece
        if not begun:
            start = held.lstrip(_BLANK)
            if len(start) < len(BEGIN) + 2 and BEGIN.startswith(start[: len(BEGIN)]) and len(held) < 2 * SPACE:
                continue
            begun = True
            if not start.startswith(BEGIN):
                yield held
                async for piece in upstream:
                    yield bytes(piece)
                return
            held = start
        *whole, held = held.split(b"\n")
        made = []
        for line in whole:
            lines += 1
            made.append(_flowed(line.removesuffix(b"\r"), lines))
            if made[-1] is None:
                held += await _rest(upstream)
                if held.strip(_BLANK):
                    raise Damaged("something follows age's armor")
                yield b"".join(part for part in made if part)
                return
        yield b"".join(part for part in made if part)
    if not begun:
        yield held
    elif held.rstrip(_BLANK) != END:
        raise Damaged("age's armor does not end as it must: it was cut")


async def _rest(upstream: AsyncGenerator[bytes | memoryview, None]) -> bytes:
    rest = b""
    async for piece in upstream:
        rest += bytes(piece)
        if len(rest) > SPACE:
            break
    return rest


def _flowed(line: bytes, number: int) -> bytes | None:
    """What is in a line; None: it is the last."""
    if number == 1:
        if line != BEGIN:
            raise Damaged("this is not age's armor: its first line is not right")
        return b""
    return None if line == END else _decoded(line, number - 2)


def armored(blob: Blob) -> Blob:
    """Blob -> Blob: age's armor around some bytes, at least one."""
    lines = ceil(blob.size / HELD)
    letters = ceil(blob.size / 3) * 4 + lines
    size = len(BEGIN) + 1 + letters + len(END) + 1
    return _Armored(size, identity("armored", blob.tag), blob, letters, modified=blob.modified)


@dataclass(frozen=True, slots=True, eq=False)
class _Armored(Blob):
    blob: Blob
    letters: int

    async def stream(self, start: int, stop: int) -> Pieces:
        first, last = BEGIN + b"\n", END + b"\n"
        begin, end = len(first), len(first) + self.letters
        if start < begin:
            yield first[start:stop]
        if (a := max(start, begin) - begin) < (b := min(stop, end) - begin):
            source, result = Side(HELD, self.blob.size), Side(WIDTH + 1, self.letters)
            async with aclosing(_lines(self.blob, a, b, 0, source, result, _made)) as made:
                async for piece in made:
                    yield piece
        if stop > end:
            yield last[max(0, start - end) : stop - end]


def _made(first: int, source: memoryview, room: memoryview) -> None:
    lines = [base64.b64encode(source[at : at + HELD]) + b"\n" for at in range(0, len(source), HELD)]
    room[:] = b"".join(lines)


def _lines(
    blob: Blob, start: int, stop: int, base: int, source: Side, result: Side, work: Callable[..., None]
) -> Pieces:
    """Lines come a thousand at a time, for a line is short."""
    first, last = blocks(start, stop, result)
    many = 1024
    upstream = pieces(blob, base + source.until(first // many * many), base + source.until(ceil(last / many) * many))

    def several(group: int, data: memoryview, room: memoryview) -> None:
        work(group * many, data, room)

    wide = Side(source.width * many, source.size), Side(result.width * many, result.size)
    return through(upstream, start, stop, *wide, several)
