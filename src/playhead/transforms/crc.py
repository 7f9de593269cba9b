"""CRC-32 as zip counts it: of bytes, and of a whole from those of its blocks."""

from collections.abc import Sequence
from functools import lru_cache

try:
    from isal.isal_zlib import crc32
except ImportError:  # ten times slower, and there everywhere
    from zlib import crc32

__all__ = ["combined", "crc32"]

_POLYNOMIAL = 0xEDB88320


def combined(crcs: Sequence[int], width: int, last: int) -> int:
    """The CRC of blocks in a row, from the CRC of each; all have `width` bytes but the last, which has `last`."""
    total = 0
    if not crcs:
        return total
    for crc in crcs[:-1]:
        total = _shifted(total, width) ^ crc
    return _product(total, _power(8 * last)) ^ crcs[-1]


def _shifted(crc: int, count: int) -> int:
    """The CRC after `count` zero bytes more, its own conditioning left out (as zlib's crc32_combine)."""
    a, b, c, d = _tables(count)
    return a[crc & 255] ^ b[crc >> 8 & 255] ^ c[crc >> 16 & 255] ^ d[crc >> 24]


@lru_cache(4)
def _tables(count: int) -> tuple[list[int], ...]:
    """For each byte of a CRC, what it becomes after `count` zero bytes."""
    by = _power(8 * count)
    return tuple([[_product(value << shift, by) for value in range(256)] for shift in (0, 8, 16, 24)])


def _product(a: int, b: int) -> int:
    """The product of two polynomials modulo CRC-32's, their bits reversed: the highest bit is x^0."""
    made = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            made ^= b
        b = b >> 1 ^ _POLYNOMIAL if b & 1 else b >> 1
    return made


def _power(exponent: int) -> int:
    """x to the power of `exponent`."""
    made, base = 1 << 31, 1 << 30
    while exponent:
        if exponent & 1:
            made = _product(made, base)
        base = _product(base, base)
        exponent >>= 1
    return made
