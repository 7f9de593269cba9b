"""A file -> is it what somebody said that it is: digests, and how people write them."""

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from playhead.blob import HasFileno
from playhead.errors import Malformed
from playhead.transforms.crc import crc32

SIZES = {"crc32": 4, "md5": 16, "sha1": 20, "sha224": 28, "sha256": 32, "sha384": 48, "sha512": 64, "blake2b": 64}
STEP = 4 << 20


@dataclass(frozen=True, slots=True)
class Digest:
    """What the bytes of a file must give; `algorithm` is one of SIZES."""

    algorithm: str
    value: bytes

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.value.hex()}"


def parsed(text: str) -> Digest:
    """ALG:HEX, as `sha256:9f86d0...` (also `sha-256=`). Raises Malformed."""
    name, _, value = text.replace("=", ":", 1).partition(":")
    algorithm = re.sub(r"[-_]", "", name.strip().lower())
    size = SIZES.get(algorithm)
    if size is None:
        raise Malformed(f"{name!r} is no digest that is known here; {', '.join(SIZES)} are")
    if not re.fullmatch(rf"[0-9a-fA-F]{{{2 * size}}}", value.strip()):
        raise Malformed(f"a {algorithm} has {2 * size} hexadecimal digits")
    return Digest(algorithm, bytes.fromhex(value.strip()))


class _Hash(Protocol):
    def update(self, data: memoryview, /) -> object: ...

    def digest(self) -> bytes: ...


class _Crc32:
    def __init__(self) -> None:
        self.value = 0

    def update(self, data: memoryview, /) -> None:
        self.value = crc32(data, self.value)

    def digest(self) -> bytes:
        return self.value.to_bytes(4, "big")


def wrong(file: HasFileno, size: int, digests: list[Digest], passed: Callable[[int], None]) -> Digest | None:
    """The first of some digests that a file does not have (blocks); `passed` is told of bytes that were read."""
    hashes: list[_Hash] = [
        _Crc32() if digest.algorithm == "crc32" else hashlib.new(digest.algorithm, usedforsecurity=False)
        for digest in digests
    ]
    room, at = memoryview(bytearray(min(STEP, max(1, size)))), 0
    while at < size:
        count = os.preadv(file.fileno(), [room[: min(STEP, size - at)]], at)
        if not count:
            return digests[0] if digests else None
        for each in hashes:
            each.update(room[:count])
        at += count
        passed(count)
    return next((digest for digest, each in zip(digests, hashes, strict=True) if each.digest() != digest.value), None)
