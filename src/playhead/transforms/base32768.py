"""bytes <-> str: base32768 with the letters that rclone's crypt uses, 15 bits in each.

The letters are blocks of 32 consecutive characters that every file system keeps apart and none changes. What is left
at the end is filled with ones: up to 7 bits become one letter of 128 others, more one of the 32,768.
"""

from bisect import bisect_right

# Ranges of characters, of 32 * n each, in order: the values 0 to 32,767.
_RANGES = """
4a0-4c0 500-520 680-6c0 760-7a0 7c0-7e0 1000-1020 10a0-10c0 1100-1160 1180-11a0 11e0-1240 1260-1280 12e0-1300
1320-1340 13a0-13e0 1420-1660 16a0-16e0 1780-17a0 1820-1860 18c0-18e0 1980-19a0 19e0-1a00 1a20-1a40 1bc0-1be0
1c00-1c20 1d00-1d20 21e0-2200 22c0-22e0 2340-23e0 2400-2420 2500-2760 2780-27c0 2800-2980 29a0-29c0 2a20-2a60
2a80-2ac0 2ae0-2b60 2c00-2c20 2c80-2ce0 2d00-2d20 2d40-2d60 2ea0-2ee0 31c0-31e0 3400-4da0 4dc0-9fc0 a000-a480
a4a0-a4c0 a500-a600 a640-a660 a6a0-a6e0 a700-a760 a780-a7a0 a840-a860
"""


def _starts(ranges: str) -> list[int]:
    """The first character of each block of 32."""
    pairs = [pair.split("-") for pair in ranges.split()]
    return [at for first, end in pairs for at in range(int(first, 16), int(end, 16), 32)]


_LONG, _SHORT = _starts(_RANGES), _starts("180-1a0 240-2a0")[:4]


def encode(data: bytes) -> str:
    """The letters that stand for some bytes."""
    value, left = int.from_bytes(data), 8 * len(data)
    letters = []
    while left >= 15:
        left -= 15
        letters.append(_letter(value >> left & 0x7FFF, _LONG))
    if left:
        width, starts = (7, _SHORT) if left <= 7 else (15, _LONG)
        rest = (value & (1 << left) - 1) << width - left
        letters.append(_letter(rest | (1 << width - left) - 1, starts))
    return "".join(letters)


def decode(text: str) -> bytes:
    """The bytes that letters stand for. Raises ValueError where they stand for none."""
    value = width = 0
    for at, letter in enumerate(text):
        if (found := _value(letter, _LONG)) is not None:
            value, width = value << 15 | found, width + 15
        elif (found := _value(letter, _SHORT)) is not None and at == len(text) - 1:
            value, width = value << 7 | found, width + 7
        else:
            raise ValueError(f"{letter!r} is not a letter of base32768 here")
    spare = width % 8
    if value & (1 << spare) - 1 != (1 << spare) - 1:
        raise ValueError("the last letter of base32768 is not filled with ones")
    return (value >> spare).to_bytes(width // 8)


def _letter(value: int, starts: list[int]) -> str:
    return chr(starts[value >> 5] + (value & 31))


def _value(letter: str, starts: list[int]) -> int | None:
    at = bisect_right(starts, ord(letter)) - 1
    within = ord(letter) - starts[at]
    return at << 5 | within if at >= 0 and within < 32 else None
