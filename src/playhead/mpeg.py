"""The headers of MPEG audio: what they say of a frame (ISO/IEC 11172-3, 13818-3)."""

from dataclasses import dataclass

_RATES = [44100, 48000, 32000]
_KBITS = {  # by (MPEG 1, layer)
    (True, 1): [0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
    (True, 2): [0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
    (True, 3): [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
    (False, 1): [0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
    (False, 2): [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
    (False, 3): [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
}


@dataclass(frozen=True, slots=True)
class Frame:
    """Bytes in all, samples a second, channels, samples in it; `kbits` 0: it says no more than how long it is."""

    length: int
    codec: str
    rate: int
    channels: int
    samples: int
    kbits: int
    about: int = 0  # where a Xing header would stand

    def like(self, other: "Frame") -> bool:
        """May both be of one stream?"""
        return (self.codec, self.rate, self.samples) == (other.codec, other.rate, other.samples)


def frame(data: bytes, at: int = 0) -> Frame | None:
    """The frame whose header is at `at` (ISO/IEC 11172-3, 2.4.1.3); None where there is none."""
    if at + 4 > len(data) or data[at] != 0xFF:
        return None
    word = int.from_bytes(data[at : at + 4])
    version, layer, kbits, rate = word >> 19 & 3, 4 - (word >> 17 & 3), word >> 12 & 15, word >> 10 & 3
    if word >> 21 != 0x7FF or version == 1 or layer == 4 or kbits in (0, 15) or rate == 3:
        return None
    first, mono = version == 3, word >> 6 & 3 == 3
    hertz = _RATES[rate] >> (0 if first else 1 if version == 2 else 2)
    samples = 384 if layer == 1 else 1152 if first or layer == 2 else 576
    slot = 4 if layer == 1 else 1
    speed = _KBITS[first, layer][kbits]
    length = (samples // 8 // slot * speed * 1000 // hertz + (word >> 9 & 1)) * slot
    about = 4 + ((17 if mono else 32) if first else (9 if mono else 17))
    return Frame(length, f"mp{layer}", hertz, 1 if mono else 2, samples, speed, about)
