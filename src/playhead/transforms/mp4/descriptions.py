"""Sample descriptions (the entries of stsd, ISO/IEC 14496-12 8.5.2): which codec, whether two are alike, and silence.

Two parts of one encoding differ in what a muxer measured of each (bit rates, in btrt and esds), which no decoder needs:
such are alike, and one of them serves for both.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from playhead.errors import Damaged, Malformed
from playhead.transforms.mp4.boxes import boxed, children, needed

_SAME = {b"avc3": b"avc1", b"hev1": b"hvc1"}  # one codec; parameter sets may stand among the samples as well
_MOST, _LONG = 64, 1 << 20  # descriptions of one track, and bytes of each
_SEALED = {b"encv", b"enca", b"encs", b"enct", b"drms", b"drmi", b"drmt"}
_LOSSLESS = {b"fLaC", b"alac"}  # whose last sample is short, and decodes to no more than it lasts
_PICTURE, _SOUND = 86, (36, 52, 72)  # where boxes begin: after a picture's fields; after those of sound, by version
_AAC = {0x40, 0x66, 0x67, 0x68}  # kinds of objects in esds, ISO/IEC 14496-1 7.2.6.6
_AAC_LC, _SBR, _PS = 2, 5, 29  # audio object types, ISO/IEC 14496-3 1.5.1


@dataclass(frozen=True, slots=True)
class Description:
    """One entry. `codec` as people write it; `alike` is equal where one decoder, set up once, takes both."""

    raw: bytes
    codec: str
    alike: bytes
    form: str = ""  # what must be the same in all of a track, for people
    rate: int = 0  # samples of sound a second
    bytes_per_frame: int = 0  # of sound that is not compressed, else 0
    silence: bytes = b""  # one sample of it, where it is known how to make it

    @property
    def whole(self) -> bool:
        """Does every sample decode to as much sound as the others, whatever is said of the last one?"""
        return self.codec.encode() not in _LOSSLESS and not self.bytes_per_frame


def read(stsd: memoryview, handler: bytes) -> list[Description]:
    """The descriptions of a track. Raises Malformed for encrypted media, Damaged."""
    boxes = list(children(stsd[8:]))
    if not 0 < len(boxes) <= _MOST:
        raise Damaged(f"a track has {len(boxes):,} sample descriptions")
    return [_description(kind, body, handler) for kind, body in boxes]


def _description(kind: bytes, body: memoryview, handler: bytes) -> Description:
    if kind in _SEALED:
        raise Malformed("it is encrypted, and can only be played by who has its key")
    if not 8 <= len(body) <= _LONG:
        raise Damaged(f"a sample description of {len(body):,} bytes is none")
    # the reference (bytes 6 and 7) is to the one file that there will be
    raw = boxed(kind, bytes(6), b"\0\1", body[8:])
    codec = _SAME.get(kind, kind).decode("ascii", "replace")
    if handler == b"vide":
        return Description(raw, codec, _alike(raw, _PICTURE), "{}x{}".format(*struct.unpack_from(">2H", raw, 32)))
    if handler != b"soun":
        return Description(raw, codec, raw)
    return _sound(raw, codec)


def _sound(raw: bytes, codec: str) -> Description:
    version, channels, bits, rate = struct.unpack_from(">H6x2H4xH", raw, 16)
    alike = _alike(raw, _SOUND[min(version, 2)])
    if codec in ("twos", "sowt", "raw ", "in24", "in32", "fl32", "fl64", "lpcm", "ipcm", "fpcm", "NONE"):
        return Description(raw, codec, alike, f"{rate} Hz", rate, bytes_per_frame=channels * bits // 8)
    kind, told = _decoder(raw)
    codec = f"{codec}.{kind:02x}" if kind else codec
    setup = _aac(told) if kind in _AAC else _Setup(0, 0, 0)
    return Description(raw, codec, alike, f"{setup.rate or rate} Hz", rate, silence=_silence(setup))


def _alike(raw: bytes, at: int) -> bytes:
    try:
        boxes = [(kind, body) for kind, body in children(memoryview(raw)[at:]) if kind != b"btrt"]
    except Damaged:  # fields of a version that we do not know
        return raw
    return raw[:at] + b"".join([kind + (_setup(body) if kind == b"esds" else bytes(body)) for kind, body in boxes])


# ── esds: descriptors in descriptors (ISO/IEC 14496-1, 7.2.6) ──


def _descriptors(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    while len(data) >= 2:
        tag, size, at = data[0], 0, 1
        for at in range(1, min(5, len(data))):
            size = size << 7 | data[at] & 0x7F
            if not data[at] & 0x80:
                break
        yield tag, data[at + 1 : at + 1 + size]
        data = data[at + 1 + size :]


def _setup(esds: memoryview) -> bytes:
    """What a decoder is told: the kind of its object, and its own setup; b"" where that is not understood."""
    for tag, stream in _descriptors(esds[4:]):
        flags = stream[2] if tag == 3 and len(stream) > 2 else 0xFF
        if flags & 0xE0:  # of other streams, or kept elsewhere: not in files
            continue
        for inner, decoder in _descriptors(stream[3:]):
            if inner == 4 and len(decoder) >= 13:
                own = next((bytes(data) for kind, data in _descriptors(decoder[13:]) if kind == 5), b"")
                return bytes(decoder[:1]) + own
    return bytes(esds)


def _decoder(raw: bytes) -> tuple[int, bytes]:
    try:
        found = _setup(needed(memoryview(raw)[_SOUND[0] :], b"esds"))
    except Damaged:
        return 0, b""
    return (found[0], found[1:]) if found else (0, b"")


# ── parameter sets of H.264 and H.265 (ISO/IEC 14496-15, 5.3.3.1 and 8.3.3.1) ──


def parameter_sets(found: list[Description]) -> list[bytes]:
    """What each description tells its decoder, as it is told among samples; [] where that cannot be for all of them."""
    told = [_parameters(description.raw) for description in found]
    if not all(sets for _, sets in told) or len({length for length, _ in told}) > 1:
        return []
    return [b"".join(len(unit).to_bytes(length) + unit for unit in sets) for length, sets in told]


def _parameters(raw: bytes) -> tuple[int, list[bytes]]:
    """How long the length of a unit is, and the units."""
    try:
        boxes = dict(children(memoryview(raw)[_PICTURE:]))
        if (avcc := boxes.get(b"avcC")) is not None:
            first, at = _units(avcc, 6, avcc[5] & 31)
            second, _ = _units(avcc, at + 1, avcc[at])
            return (avcc[4] & 3) + 1, first + second
        if (hvcc := boxes.get(b"hvcC")) is not None:
            return (hvcc[21] & 3) + 1, _arrays(hvcc)
    except (Damaged, IndexError, struct.error):
        pass
    return 0, []


def _arrays(hvcc: memoryview) -> list[bytes]:
    units, at = [], 23
    for _ in range(hvcc[22]):
        (count,) = struct.unpack_from(">H", hvcc, at + 1)
        found, at = _units(hvcc, at + 3, count)
        units += found
    return units


def _units(data: memoryview, at: int, count: int) -> tuple[list[bytes], int]:
    units = []
    for _ in range(count):
        (size,) = struct.unpack_from(">H", data, at)
        units.append(bytes(data[at + 2 : at + 2 + size]))
        at += 2 + size
    return units, at


# ── silence ──


class _Bits:
    """Bits, read from the first on."""

    def __init__(self, data: bytes) -> None:
        self.value, self.left = int.from_bytes(data), 8 * len(data)

    def take(self, count: int) -> int:
        self.left -= count
        return self.value >> self.left & (1 << count) - 1 if self.left >= 0 else 0


@dataclass(frozen=True, slots=True)
class _Setup:
    """What an AAC decoder is told (ISO/IEC 14496-3, 1.6.2.1): kind of object, samples a second, arrangement."""

    kind: int
    rate: int
    channels: int


def _aac(setup: bytes) -> _Setup:
    bits = _Bits(setup)
    kind, rate, channels = bits.take(5), _rate(bits), bits.take(4)
    if kind in (_SBR, _PS):
        _rate(bits)
        kind = bits.take(5)
    return _Setup(kind, rate, channels)


def _rate(bits: _Bits) -> int:
    index = bits.take(4)
    return bits.take(24) if index == 15 else _RATES[index] if index < len(_RATES) else 0


_RATES = [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350]


def _silence(setup: _Setup) -> bytes:
    """A sample of AAC-LC without any sound, for an arrangement of channels; b"" where it is not known how."""
    known = setup.kind == _AAC_LC and 0 < setup.channels < len(_ELEMENTS)
    return _frame(_ELEMENTS[setup.channels]) if known else b""


# Which elements each arrangement of channels has (1.6.3.5): of one channel, of two, or of low tones.
_ELEMENTS = ["", "1", "2", "12", "121", "122", "122L", "1222L"]
_KINDS = {"1": "000", "2": "001", "L": "011"}
_BODIES = {
    "1": "0" * 22,  # a gain, a window, and neither pulses nor noise shaping nor gain control
    "2": "1" + "0" * 35,  # in one window; then the same for each of the two
    "L": "0" * 22,
}


def _frame(elements: str) -> bytes:
    """A raw data block (4.4.2.1) whose elements have no bands: nothing is heard, at any volume."""
    numbers = [elements[:at].count(element) for at, element in enumerate(elements)]
    blocks = [_KINDS[kind] + f"{n:04b}" + _BODIES[kind] for kind, n in zip(elements, numbers, strict=True)]
    bits = "".join(blocks) + "111"
    size = -(-len(bits) // 8)
    return int(bits.ljust(8 * size, "0"), 2).to_bytes(size)
