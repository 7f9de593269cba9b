"""View -> Found: FLAC (RFC 9639). Blocks are walked by their headers; pictures and seek tables are not read."""

from dataclasses import dataclass
from fractions import Fraction

from playhead.catalogue import pictures
from playhead.catalogue.audio import comments
from playhead.catalogue.found import Found, Sound, seconds
from playhead.catalogue.view import View
from playhead.errors import Damaged

_BLOCKS = 1024


@dataclass(frozen=True, slots=True)
class _Block:
    """Bytes of a file as a run."""

    view: View
    start: int
    stop: int

    def exactly(self, start: int, length: int) -> bytes:
        return self.view.exactly(self.start + start, length)

    def holds(self, stop: int) -> bool:
        return self.start + stop <= self.stop

    def place(self, offset: int) -> tuple[str, int, int]:
        return "text", self.start + offset, 0


def read(view: View, start: int, stop: int) -> Found:
    """A FLAC file of which "fLaC" is at `start`."""
    found, at, last = Found(), start + 4, False
    for _ in range(_BLOCKS):
        head = view.exactly(at, 4)
        last, kind, size = bool(head[0] & 0x80), head[0] & 0x7F, int.from_bytes(head[1:])
        at += 4
        if kind == 0:
            found.sound = streaminfo(view.exactly(at, 34))
        elif kind == 4 and not found.fields:
            found.take([comments.read(_Block(view, at, stop), 0)])
        elif kind == 6:
            size = max(size, picture(found, view, at, stop))
        at += size
        if at > stop:
            raise Damaged("it ends in the middle of what it says of itself: is it whole?")
        if last:
            break
    if not found.sound.rate:
        raise Damaged("it has no STREAMINFO block, which FLAC begins with")
    found.sound.size = max(0, stop - at)
    if found.sound.length is None and found.sound.size:
        found.sound.length = _counted(view, at, stop, found.sound.rate)
    return found


def streaminfo(data: bytes) -> Sound:
    """What a STREAMINFO block tells (8.2)."""
    packed = int.from_bytes(data[10:18])
    rate, samples = packed >> 44, packed & (1 << 36) - 1
    sound = Sound("flac", True, rate, (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1)
    sound.length = seconds(samples, rate)
    return sound


def picture(found: Found, view: View, at: int, stop: int) -> int:
    """Notes the picture of a block; how long it says it is, which some blocks' lengths do not."""
    header = pictures.flac(view.read(at, min(at + pictures.HEADER, stop)))
    if header is None or at + header[1] + header[2] > stop or len(found.pictures) >= pictures.COUNT:
        return 0
    kind, begin, size = header
    head = view.read(at + begin, at + begin + min(size, pictures.SNIFFED))
    found.pictures += pictures.placed(kind, head, at + begin, size)
    return begin + size


# ── a stream that does not say how long it is: its last frame does ──


def _counted(view: View, start: int, stop: int, rate: int) -> Fraction | None:
    first = _frame(view.read(start, start + 16))
    data = view.read(max(start, stop - 32 * 1024), stop)
    at = len(data)
    while first and (at := data.rfind(b"\xff", 0, at)) >= 0:
        last = _frame(data[at : at + 16])
        if last and last[2] == first[2]:
            number, count, variable = last
            return seconds((number if variable else number * first[1]) + count, rate)
    return None


def _frame(data: bytes) -> tuple[int, int, bool] | None:
    """(frame's or sample's number, samples in it, is it the sample's?) of a frame header (9.1); None if it is none."""
    if len(data) < 16 or data[0] != 0xFF or data[1] & 0xFE != 0xF8 or data[3] & 1:
        return None
    number, at = _coded(data, 4)
    if number < 0:
        return None
    size, rate = data[2] >> 4, data[2] & 15
    if size in (6, 7):
        count, at = int.from_bytes(data[at : at + size - 5]) + 1, at + size - 5
    else:
        count = {0: 0, 1: 192}.get(size, 576 << size - 2 if size < 6 else 1 << size)
    at += {12: 1, 13: 2, 14: 2}.get(rate, 0)
    return (number, count, bool(data[1] & 1)) if count and data[at] == _crc8(data[:at]) else None


def _coded(data: bytes, at: int) -> tuple[int, int]:
    """A number coded as UTF-8 does, and where it ends; negative where it is none."""
    first = data[at]
    more = 0 if first < 0x80 else 8 - (first ^ 0xFF).bit_length() - 1
    if first in (0xFE,):
        more = 6
    if more < 0 or more > 6 or 0x80 <= first < 0xC0:
        return -1, at
    value = first & (0x7F >> more if more == 0 else 0x3F >> more)
    for byte in data[at + 1 : at + 1 + more]:
        if byte & 0xC0 != 0x80:
            return -1, at
        value = value << 6 | byte & 0x3F
    return value, at + 1 + more


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 7) & 0xFF if crc & 0x80 else crc << 1
    return crc
