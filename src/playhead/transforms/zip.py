"""Plan -> Blob: a zip (APPNOTE 6.3.10) with stored members, every byte of which follows from the plan.

A member whose CRC the plan supplies has it in its header, as every reader likes best; one whose CRC nobody supplied has
it in a data descriptor after its bytes. That is decided by the plan alone: CRCs that are learned later are written
where the layout has room for them, and move nothing. zip64's fields stand where a number needs them, and nowhere else.
Names are UTF-8 and say so; times are in UTC, and once more as Unix counts them.
"""

import struct
from array import array
from bisect import bisect_right
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime

from playhead.transforms.ahead import Gather, Layout
from playhead.transforms.contents import Contents, Opener
from playhead.transforms.learned import Learned
from playhead.transforms.packed import Archive
from playhead.transforms.plan import FOLDER, UNKNOWN, Plan

LAYOUT = "zip 1"
_FULL, _MANY = 0xFFFFFFFF, 0xFFFF  # what 32 and 16 bits cannot say: it stands in zip64's fields
_DESCRIPTOR, _UTF8 = 1 << 3, 1 << 11
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_UNIX = 3 << 8  # made by: attributes are those of Unix
_TOGETHER = 64 << 10  # bytes of the directory that are given at once


def zip(plan: Plan, opener: Opener, gather: Gather | None = None, learned: Learned | None = None) -> Archive:
    """Plan -> Blob: the members of a plan as a zip; `opener` gives the bytes of each."""
    count = len(plan)
    begins, entries = array("q", bytes(8 * (count + 1))), array("q", bytes(8 * (count + 1)))
    at = central = 0
    for number in range(count):
        begins[number], entries[number] = at, central
        name, size = _name_length(plan, number), plan.sizes[number]
        wide = size >= _FULL
        stamp = len(_stamp(plan.mtimes[number]))
        central += _CENTRAL.size + name + _extra_length(wide, wide, at >= _FULL) + stamp
        at += _LOCAL.size + name + 20 * wide + stamp + size + (24 if wide else 16) * _described(plan, number)
    begins[count], entries[count] = at, central
    layout = _Zip(plan, begins, entries)
    contents = Contents(plan, opener, learned or Learned())
    return Archive(at + central + len(layout.last), plan.tag(LAYOUT), contents, layout, gather)


def _name_length(plan: Plan, number: int) -> int:
    ends = plan.names.ends
    return ends[number] - (ends[number - 1] if number else 0)


def _extra_length(*wide: bool) -> int:
    """Bytes of zip64's field that holds some numbers of 8 bytes."""
    return 4 + 8 * sum(wide) if any(wide) else 0


def _described(plan: Plan, number: int) -> bool:
    """Does a data descriptor follow the member? Where it has bytes, and nobody supplied their CRC."""
    return plan.crcs[number] == UNKNOWN and plan.sizes[number] > 0


class _Zip(Layout):
    def __init__(self, plan: Plan, begins: "array[int]", entries: "array[int]") -> None:
        self.plan, self.begins, self.entries = plan, begins, entries
        self.last = _ending(len(plan), begins[len(plan)], entries[len(plan)])

    def wants(self, number: int) -> bool:
        return _described(self.plan, number)

    def head(self, number: int) -> bytes:
        plan, name, size = self.plan, self.plan.names.raw(number), self.plan.sizes[number]
        wide, described = size >= _FULL, _described(plan, number)
        extra = struct.pack("<2H2Q", 1, 16, *((0, 0) if described else (size, size))) if wide else b""
        extra += _stamp(plan.mtimes[number])
        crc, short = (0, 0) if described else (max(0, plan.crcs[number]), _FULL if wide else size)
        if described and wide:
            short = _FULL  # so that a reader looks into zip64's field, and knows the descriptor's width
        head = (b"PK\x03\x04", 45 if wide else 20, _flags(plan, number), 0, *_dos(plan.mtimes[number]))
        return _LOCAL.pack(*head, crc, short, short, len(name), len(extra)) + name + extra

    def tail(self, number: int, crc: int) -> bytes:
        size = self.plan.sizes[number]
        if not _described(self.plan, number):
            return b""
        return struct.pack("<4sI2Q" if size >= _FULL else "<4s3I", b"PK\x07\x08", crc, size, size)

    async def end(self, start: int, stop: int, crc: Callable[[int], Awaitable[int]]) -> AsyncGenerator[bytes, None]:
        central = self.entries[len(self.plan)]
        number, made = _at(self.entries, start), bytearray()
        while number < len(self.plan) and self.entries[number] < stop:
            entry = self._entry(number, await crc(number))
            base = self.entries[number]
            made += entry[max(0, start - base) : stop - base]
            number += 1
            if len(made) >= _TOGETHER:
                yield bytes(made)
                made.clear()
        if stop > central:
            made += self.last[max(0, start - central) : stop - central]
        if made:
            yield bytes(made)

    def _entry(self, number: int, crc: int) -> bytes:
        plan, name, size, offset = self.plan, self.plan.names.raw(number), self.plan.sizes[number], self.begins[number]
        wide, far = size >= _FULL, offset >= _FULL
        numbers = [size, size] * wide + [offset] * far
        extra = struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers) if numbers else b""
        extra += _stamp(plan.mtimes[number])
        folder = plan.kinds[number] == FOLDER
        attributes = (plan.modes[number] | (0o040000 if folder else 0o100000)) << 16 | 0x10 * folder
        needs = 45 if wide or far else 20
        short = _FULL if wide else size
        head = (b"PK\x01\x02", _UNIX | needs, needs, _flags(plan, number), 0, *_dos(plan.mtimes[number]))
        rest = (crc, short, short, len(name), len(extra), 0, 0, 0, attributes, _FULL if far else offset)
        return _CENTRAL.pack(*head, *rest) + name + extra


def _at(begins: "array[int]", offset: int) -> int:
    return max(0, bisect_right(begins, offset) - 1)


def _flags(plan: Plan, number: int) -> int:
    ascii_name = plan.names.raw(number).isascii()
    return (0 if ascii_name else _UTF8) | (_DESCRIPTOR if _described(plan, number) else 0)


def _stamp(mtime: int) -> bytes:
    """The time of last modification as Unix counts it (Info-ZIP's field "UT"), where it is known and fits."""
    return struct.pack("<2HBI", 0x5455, 5, 1, mtime) if 0 < mtime < 1 << 31 else b""


def _dos(mtime: int) -> tuple[int, int]:
    """Time and date as DOS wrote them, in UTC, within the years that it knew."""
    when = datetime.fromtimestamp(min(max(mtime, 315_532_800), 4_354_819_198), UTC)
    time = when.hour << 11 | when.minute << 5 | when.second // 2
    return time, (when.year - 1980) << 9 | when.month << 5 | when.day


def _ending(count: int, central: int, size: int) -> bytes:
    """What follows the directory: its own place, in zip64's form before the old one where that cannot say it."""
    wide = count >= _MANY or central >= _FULL or size >= _FULL
    short = min(count, _MANY), min(count, _MANY), min(size, _FULL), min(central, _FULL)
    end = _END.pack(b"PK\x05\x06", 0, 0, *short, 0)
    if not wide:
        return end
    end64 = _END64.pack(b"PK\x06\x06", _END64.size - 12, _UNIX | 45, 45, 0, 0, count, count, size, central)
    return end64 + _LOCATOR.pack(b"PK\x06\x07", 0, central + size, 1) + end
