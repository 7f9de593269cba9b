"""Plan -> Blob: a tar (POSIX.1-2001 pax), every byte of which follows from the plan.

A member is a header of 512 bytes, its data, and zeros up to the next 512. What the header's fields cannot hold goes
into a pax header before it: names beyond 100 bytes or ASCII, times beyond 2242, sizes from 8 GiB on, the last also in
base 256, for one widespread reader knows only that. The end is two blocks of zeros, and zeros up to 10,240 as GNU's.
"""

from array import array
from collections.abc import AsyncGenerator, Awaitable, Callable

from playhead.transforms.ahead import Gather, Layout
from playhead.transforms.contents import Contents, Opener
from playhead.transforms.learned import Learned
from playhead.transforms.packed import Archive
from playhead.transforms.plan import FOLDER, Plan

BLOCK = 512
RECORD = 10_240
LAYOUT = "tar 1"
_MOST = 0o77777777777  # what 11 octal digits hold: a size, or a time
_PAX = b"././@PaxHeader"


def tar(plan: Plan, opener: Opener, gather: Gather | None = None, learned: Learned | None = None) -> Archive:
    """Plan -> Blob: the members of a plan as a tar; `opener` gives the bytes of each."""
    begins = array("q", bytes(8 * (len(plan) + 1)))
    at = 0
    for number in range(len(plan)):
        begins[number] = at
        size = plan.sizes[number]
        at += BLOCK + _before(plan, number) + size + -size % BLOCK
    begins[len(plan)] = at
    size = -(-(at + 2 * BLOCK) // RECORD) * RECORD
    contents = Contents(plan, opener, learned or Learned())
    return Archive(size, plan.tag(LAYOUT), contents, _Tar(plan, begins), gather)


class _Tar(Layout):
    def __init__(self, plan: Plan, begins: "array[int]") -> None:
        self.plan, self.begins = plan, begins

    def head(self, number: int) -> bytes:
        plan = self.plan
        name, size, mtime = plan.names.raw(number), plan.sizes[number], plan.mtimes[number]
        kind = b"5" if plan.kinds[number] == FOLDER else b"0"
        header = _header(_short(name), plan.modes[number], size, mtime, kind)
        records = _records(name, size, mtime)
        if not records:
            return header
        return _header(_PAX, 0o644, len(records), 0, b"x") + records + bytes(-len(records) % BLOCK) + header

    def tail(self, number: int, crc: int) -> bytes:
        return bytes(-self.plan.sizes[number] % BLOCK)

    async def end(self, start: int, stop: int, crc: Callable[[int], Awaitable[int]]) -> AsyncGenerator[bytes, None]:
        yield bytes(stop - start)


def _before(plan: Plan, number: int) -> int:
    """Bytes of the pax header of a member, with its own header."""
    name, size, mtime = plan.names.raw(number), plan.sizes[number], plan.mtimes[number]
    if len(name) <= 100 and size <= _MOST and mtime <= _MOST and name.isascii():
        return 0
    length = len(_records(name, size, mtime))
    return BLOCK + length + -length % BLOCK


def _records(name: bytes, size: int, mtime: int) -> bytes:
    """What the header cannot hold, as pax records."""
    made = []
    if len(name) > 100 or not name.isascii():
        made.append(_record(b"path", name))
    if size > _MOST:
        made.append(_record(b"size", str(size).encode()))
    if mtime > _MOST:
        made.append(_record(b"mtime", str(mtime).encode()))
    return b"".join(made)


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH key=value\\n`, whose length counts itself."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + len(str(len(rest)))
    length = len(rest) + len(str(length))
    return str(length).encode() + rest


def _short(name: bytes) -> bytes:
    """A name in ASCII, for readers that know no pax."""
    if len(name) <= 100 and name.isascii():
        return name
    plain = name.decode("utf-8").encode("ascii", "replace").replace(b"?", b"_")
    if len(plain) <= 100:
        return plain
    last = plain.rstrip(b"/").rpartition(b"/")[2].replace(b":", b"_")
    return last[-99:] + b"/" * plain.endswith(b"/")


def _header(name: bytes, mode: int, size: int, mtime: int, kind: bytes) -> bytes:
    """A header block, its checksum in it."""
    length = b"%011o\0" % size if size <= _MOST else b"\x80" + size.to_bytes(11)
    head = b"%b%07o\0%b%b%b%011o\0        %b" % (
        name.ljust(100, b"\0"), mode, b"0000000\0", b"0000000\0", length, min(mtime, _MOST), kind,
    )  # fmt: skip
    block = head + bytes(100) + b"ustar\00000" + bytes(80) + bytes(BLOCK - 345)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
