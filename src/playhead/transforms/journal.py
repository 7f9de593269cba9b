"""bytes on disk -> which blocks of a file are there: an append-only journal beside each data file.

    header   magic, version, block size, size of the file, its tag, a name for people, CRC-32 of all that
    record   block, CRC-32 of its bytes, state, CRC-32 of the three (seeded by the header's)       16 bytes each

The last record of a block counts. A record whose check does not hold is passed over, and what is left of a torn one
at the end is cut off: so a journal can only say too little, never what is not so, and a block that it names is
believed when its bytes have the CRC. A journal of another version is nobody's business but its own: Foreign.
"""

import errno
import os
import struct
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from playhead.transforms.crc import crc32

VERSION = 1
BLOCK = 64 << 10
RUN = 1 << 20  # what is written, remembered as recent and evicted together
PER_RUN = RUN // BLOCK

HERE, DROPPED, PINNED, UNPINNED = 1, 2, 3, 4  # states of a record; the last two are about the run of a block

_MAGIC = b"playhead"
_FIXED = struct.Struct("<8sHHIQHH")
_RECORD = struct.Struct("<IIII")


class Foreign(Exception):
    """A journal of another version of the format, which is left as it is."""


class Torn(Exception):
    """Not a journal: it can be begun anew."""


@dataclass(slots=True)
class Contents:
    """What a journal says: the file's tag, size and name; block -> CRC-32 of those that are here; pinned runs."""

    tag: str
    size: int
    name: str
    blocks: dict[int, int] = field(default_factory=dict)
    pinned: set[int] = field(default_factory=set)
    records: int = 0
    length: int = 0  # bytes of it that are whole


def header(tag: str, size: int, name: str) -> bytes:
    """The beginning of a journal."""
    texts = tag.encode("utf-8", "surrogateescape"), name.encode("utf-8", "surrogateescape")[:1024]
    head = _FIXED.pack(_MAGIC, VERSION, 0, BLOCK, size, len(texts[0]), len(texts[1])) + b"".join(texts)
    return head + struct.pack("<I", crc32(head))


def records(seed: int, entries: Iterable[tuple[int, int, int]]) -> bytes:
    """(block, CRC-32, state) as they are appended; `seed` is the header's CRC."""
    lines = []
    for entry in entries:
        body = struct.pack("<III", *entry)
        lines.append(body + struct.pack("<I", crc32(body, seed)))
    return b"".join(lines)


def seed(tag: str, size: int, name: str) -> int:
    """What the checks of a journal's records begin with."""
    return int.from_bytes(header(tag, size, name)[-4:], "little")


def read(data: bytes) -> Contents:
    """What a journal says. Raises Foreign or Torn where it is none of ours."""
    found, start, begin = _header(data)
    count = blocks_of(found.size)
    for block, crc, state in _records(data, start, begin):
        found.records += 1
        if block >= count:
            continue
        if state == HERE:
            found.blocks[block] = crc
        elif state == DROPPED:
            found.blocks.pop(block, None)
        elif state == PINNED:
            found.pinned.add(block // PER_RUN)
        elif state == UNPINNED:
            found.pinned.discard(block // PER_RUN)
    found.length = len(data) - (len(data) - start) % _RECORD.size
    return found


def _header(data: bytes) -> tuple[Contents, int, int]:
    try:
        magic, version, _, block, size, tag_length, name_length = _FIXED.unpack_from(data)
    except struct.error as error:
        raise Torn from error
    if magic != _MAGIC:
        raise Torn
    if version != VERSION or block != BLOCK:
        raise Foreign(f"version {version} of the format, blocks of {block} bytes")
    end = _FIXED.size + tag_length + name_length
    if len(data) < end + 4 or crc32(data[:end]) != int.from_bytes(data[end : end + 4], "little"):
        raise Torn
    tag = data[_FIXED.size : _FIXED.size + tag_length].decode("utf-8", "surrogateescape")
    name = data[_FIXED.size + tag_length : end].decode("utf-8", "surrogateescape")
    return Contents(tag, size, name), end + 4, crc32(data[:end])


def _records(data: bytes, start: int, begin: int) -> Iterator[tuple[int, int, int]]:
    whole = len(data) - (len(data) - start) % _RECORD.size
    for at in range(start, whole, _RECORD.size):
        block, crc, state, check = _RECORD.unpack_from(data, at)
        if crc32(data[at : at + 12], begin) == check:
            yield block, crc, state


def blocks_of(size: int) -> int:
    """How many blocks a file of so many bytes has."""
    return -(-size // BLOCK)


def runs_of(size: int) -> int:
    """How many runs a file of so many bytes has."""
    return -(-size // RUN)


def crcs(data: memoryview) -> "array[int]":
    """The CRC-32 of each block of a run of bytes that begins at a block."""
    return array("I", [crc32(data[at : at + BLOCK]) for at in range(0, len(data), BLOCK)])


def append(path: str, data: bytes) -> None:
    """Add to a journal; what could only be written in part is taken back. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        before = os.fstat(fd).st_size
        if os.write(fd, data) != len(data):
            os.ftruncate(fd, before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(fd)
