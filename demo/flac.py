"""Two channels of 16-bit sound, tags and a picture -> the bytes of one FLAC file. Pure.

The subset of the format (RFC 9639) that a small encoder needs: fixed predictors, Rice codes in sixteen
partitions, and the side channel in place of whichever channel is dearer. Bits are put together as a text of
0 and 1 and turned into bytes once a frame: in Python nothing is quicker.
"""

import hashlib
import struct
import sys
from array import array
from collections.abc import Sequence
from operator import sub
from typing import TypeAlias

BLOCK = 4096
PARTITIONS = 4  # 2 to this power in every whole block
SEEK_STEP = 10  # frames from one seek point to the next
VENDOR = "Playhead demo library"

Samples: TypeAlias = "array[int]"


def encode(left: Samples, right: Samples, rate: int, tags: dict[str, str], cover: bytes, cover_size: int) -> bytes:
    """The whole file; the cover is a square PNG of that many pixels a side."""
    frames = [
        _frame(number, rate, left[at : at + BLOCK].tolist(), right[at : at + BLOCK].tolist())
        for number, at in enumerate(range(0, len(left), BLOCK))
    ]
    blocks = [
        (0, _stream_info(frames, rate, left, right)),
        (3, _seek_table(frames, len(left))),
        (4, _comments(tags)),
        (6, _picture(cover, cover_size)),
    ]
    return b"fLaC" + _metadata(blocks) + b"".join(frames)


def _metadata(blocks: list[tuple[int, bytes]]) -> bytes:
    last = len(blocks) - 1
    return b"".join(
        bytes([kind | (0x80 if at == last else 0)]) + len(body).to_bytes(3, "big") + body
        for at, (kind, body) in enumerate(blocks)
    )


def _stream_info(frames: list[bytes], rate: int, left: Samples, right: Samples) -> bytes:
    sizes = [len(frame) for frame in frames]
    shape = rate << 44 | (2 - 1) << 41 | (16 - 1) << 36 | len(left)
    return (
        BLOCK.to_bytes(2, "big") * 2
        + min(sizes).to_bytes(3, "big")
        + max(sizes).to_bytes(3, "big")
        + shape.to_bytes(8, "big")
        + _digest(left, right)
    )


def _digest(left: Samples, right: Samples) -> bytes:
    both = array("h", bytes(4 * len(left)))
    both[0::2] = left
    both[1::2] = right
    if sys.byteorder == "big":
        both.byteswap()
    return hashlib.md5(both.tobytes(), usedforsecurity=False).digest()


def _seek_table(frames: list[bytes], length: int) -> bytes:
    points = []
    offset = 0
    for number, frame in enumerate(frames):
        if number % SEEK_STEP == 0:
            first = number * BLOCK
            held = min(BLOCK, length - first)
            points.append(first.to_bytes(8, "big") + offset.to_bytes(8, "big") + held.to_bytes(2, "big"))
        offset += len(frame)
    return b"".join(points)


def _comments(tags: dict[str, str]) -> bytes:
    texts = [f"{name}={value}".encode() for name, value in tags.items()]
    listed = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    vendor = VENDOR.encode()
    return len(vendor).to_bytes(4, "little") + vendor + len(texts).to_bytes(4, "little") + listed


def _picture(png: bytes, size: int) -> bytes:
    front_cover, depth, colours = 3, 24, 0
    kind, about = b"image/png", b"Cover"
    shape = struct.pack(">4I", size, size, depth, colours)
    return struct.pack(">I", front_cover) + _sized(kind) + _sized(about) + shape + _sized(png)


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _frame(number: int, rate: int, left: list[int], right: list[int]) -> bytes:
    """One block of samples, coded as the two cheapest of left, right and their difference."""
    side = list(map(sub, left, right))
    guesses = [_guess(left), _guess(right), _guess(side)]
    dearest = max(range(3), key=lambda at: guesses[at][0])
    layout, first, second = [(9, 2, 1), (8, 0, 2), (1, 0, 1)][dearest]
    channels = (left, right, side)
    bits = "".join(_subframe(channels[at], guesses[at][1], 17 if at == 2 else 16) for at in (first, second))
    bits += "0" * (-len(bits) % 8)
    frame = _frame_header(number, rate, len(left), layout) + int(bits, 2).to_bytes(len(bits) // 8, "big")
    return frame + _crc16(frame).to_bytes(2, "big")


def _frame_header(number: int, rate: int, length: int, layout: int) -> bytes:
    rate_code = {32000: 8, 44100: 9, 48000: 10}[rate]
    length_code, length_bytes = (12, b"") if length == BLOCK else (7, (length - 1).to_bytes(2, "big"))
    head = bytes([0xFF, 0xF8, length_code << 4 | rate_code, layout << 4 | 4 << 1])
    head += chr(number).encode() + length_bytes
    return head + bytes([_crc8(head)])


def _guess(block: list[int]) -> tuple[int, int]:
    """What the block would cost, about, and the predictor's order that makes it so, from a look at its middle."""
    middle = len(block) // 2
    look = block[max(0, middle - 150) : middle + 150]
    costs = []
    for order in range(min(5, len(block))):
        costs.append((sum(map(abs, look)), order))
        look = list(map(sub, look[1:], look))
    return min(costs)


def _subframe(block: list[int], order: int, width: int) -> str:
    rest = block
    for _ in range(order):
        rest = list(map(sub, rest[1:], rest))
    warm = "".join(f"{sample & (1 << width) - 1:0{width}b}" for sample in block[:order])
    return f"0001{order:03b}0{warm}{_residual(rest, len(block), order)}"


def _residual(rest: Sequence[int], length: int, order: int) -> str:
    power = PARTITIONS if length == BLOCK else 0
    step = length >> power
    bits = [f"00{power:04b}"]
    at = 0
    for stop in range(step - order, len(rest) + 1, step):
        part = rest[at:stop]
        mean = sum(map(abs, part)) // max(1, len(part))
        codes = _CODES[min(14, mean.bit_length())]
        bits.append(f"{codes.low_bits:04b}")
        bits.extend(map(codes.__getitem__, part))
        at = stop
    return "".join(bits)


class _RiceCodes(dict[int, str]):
    """The Rice code of every number asked for so far, with so many low bits written as they are."""

    def __init__(self, low_bits: int) -> None:
        super().__init__()
        self.low_bits = low_bits

    def __missing__(self, number: int) -> str:
        folded = 2 * number if number >= 0 else -2 * number - 1
        high = folded >> self.low_bits
        code = self[number] = "0" * high + f"{folded & (1 << self.low_bits) - 1 | 1 << self.low_bits:b}"
        return code


_CODES = [_RiceCodes(low_bits) for low_bits in range(15)]


def _crc_table(polynomial: int, width: int) -> list[int]:
    table = []
    for byte in range(256):
        crc = byte << width - 8
        for _ in range(8):
            crc = crc << 1 ^ (polynomial if crc >> width - 1 else 0)
        table.append(crc & (1 << width) - 1)
    return table


_CRC8 = _crc_table(0x107, 8)
_CRC16 = _crc_table(0x18005, 16)


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc = _CRC8[crc ^ byte]
    return crc


def _crc16(data: bytes) -> int:
    crc = 0
    table = _CRC16
    for byte in data:
        crc = (crc & 0xFF) << 8 ^ table[crc >> 8 ^ byte]
    return crc
