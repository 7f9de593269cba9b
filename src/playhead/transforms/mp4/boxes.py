"""bytes <-> boxes of ISO base media files (ISO/IEC 14496-12, 4.2): what MP4 and QuickTime are made of.

A box says how long it is; that is compared with where it must end before anything in it is believed. Tables are read
and written whole, as arrays, so that a box of many numbers costs about as much memory as its bytes.
"""

import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from playhead.errors import Damaged

HEADER = 16  # bytes that are enough for any header
_CHILDREN = 10_000  # boxes in a box: files have a few dozen
_SHORT = 0xFFFFFFFF  # the most that 32 bits say

Numbers = array  # of "I" (32 bits), "Q" (64 bits) or "i" (32 bits, signed)


@dataclass(frozen=True, slots=True)
class Box:
    """Where a box begins, its body begins, and both end."""

    kind: bytes
    begin: int
    body: int
    end: int


def box(head: bytes | memoryview, at: int, limit: int) -> Box:
    """The box at `at`, whose first 16 bytes are in `head`, and which must end by `limit`. Raises Damaged."""
    if len(head) < 8:
        raise Damaged("it ends inside a box")
    size, kind = struct.unpack_from(">I4s", head)
    length = 8
    if size == 1:
        if len(head) < HEADER:
            raise Damaged("it ends inside a box")
        (size,), length = struct.unpack_from(">Q", head, 8), HEADER
    elif size == 0:
        size = limit - at
    if not length <= size <= limit - at:
        raise Damaged(f"a box of {size:,} bytes does not fit into the {limit - at:,} that are there: is it whole?")
    return Box(kind, at, at + length, at + size)


def children(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The boxes in the body of a box, as (kind, body). Fewer than 8 bytes at its end are nothing."""
    at = count = 0
    while at + 8 <= len(data):
        if count == _CHILDREN:
            raise Damaged(f"a box has more than {_CHILDREN:,} boxes in it")
        found = box(data[at : at + HEADER], at, len(data))
        yield found.kind, data[found.body : found.end]
        at, count = found.end, count + 1


def child(data: memoryview, *path: bytes) -> memoryview | None:
    """The body of the first box of a kind in another, and so on down a path; None where there is none."""
    for kind in path:
        found = next((body for name, body in children(data) if name == kind), None)
        if found is None:
            return None
        data = found
    return data


def needed(data: memoryview, *path: bytes) -> memoryview:
    """The same, which must be there. Raises Damaged."""
    found = child(data, *path)
    if found is None:
        raise Damaged(f"it has no {'/'.join(kind.decode() for kind in path)} box")
    return found


def boxed(kind: bytes, *bodies: bytes | bytearray | memoryview) -> bytes:
    """A box with a header of 8 bytes."""
    return b"".join([struct.pack(">I4s", 8 + sum(map(len, bodies)), kind), *bodies])


def full(kind: bytes, version: int, flags: int, *bodies: bytes | bytearray) -> bytes:
    """A box that begins with a version and flags (4.2.2)."""
    return boxed(kind, struct.pack(">I", version << 24 | flags), *bodies)


def media_header(size: int) -> bytes:
    """The header of an mdat with a body of `size` bytes."""
    return struct.pack(">I4s", 8 + size, b"mdat") if size + 8 <= _SHORT else struct.pack(">I4sQ", 1, b"mdat", 16 + size)


def version(body: memoryview) -> int:
    """The version at the beginning of a full box."""
    return body[0] if len(body) >= 4 else _short()


def numbers(code: str, data: bytes | memoryview) -> "Numbers[int]":
    """A column of big-endian numbers."""
    values = array(code, bytes(data))
    if sys.byteorder == "little":
        values.byteswap()
    return values


def table(code: str, body: memoryview, columns: int = 1) -> "Numbers[int]":
    """The rows of a full box that holds how many they are, then them."""
    if len(body) < 8:
        _short()
    (count,) = struct.unpack_from(">I", body, 4)
    stop = 8 + count * columns * array(code).itemsize
    if stop > len(body):
        _short()
    return numbers(code, body[8:stop])


def _short() -> int:
    raise Damaged("a box is shorter than what it says that it holds")


def packed(values: "Numbers[int]") -> bytes:
    """The bytes of a column. The array is not to be used afterwards."""
    if sys.byteorder == "little":
        values.byteswap()
    return values.tobytes()
