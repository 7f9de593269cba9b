"""Blob <-> Blob: the contents of files as rclone's crypt writes them, read by range; and the keys for them.

A file is a head of 32 bytes (a mark and a nonce) and blocks of 64 KiB, each a NaCl secretbox whose nonce is the head's
plus the block's number (rclone, backend/crypt/cipher.go). So a range needs its blocks and the head; sizes follow from
sizes. The last block has no mark: a file that was cut between two blocks looks whole (`crypt` compares what is listed).
"""

import asyncio
import base64
import os
from contextlib import aclosing
from dataclasses import dataclass, field
from hashlib import blake2b, scrypt
from typing import Any, cast

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from nacl import bindings  # also begins libsodium, which is slow until then
from nacl.exceptions import CryptoError

from playhead.blob import Blob, FileSpan, Piece, Pieces, identity, pieces
from playhead.errors import Damaged, Malformed
from playhead.transforms import sealed
from playhead.transforms.sealed import PLAIN, SEALED, TAG, Side, Work, through

try:
    from nacl._sodium import ffi, lib  # type: ignore[import-not-found]
except ImportError:
    ffi = lib = None  # then the public functions, which copy twice

MARK = b"RCLONE\0\0"
NONCE = 24
HEAD = len(MARK) + NONCE
_SALT = bytes.fromhex("A80DF43A8FBD0308A7CAB83E581F86B1")
# rclone's `obscure` hides a password from a glance only: its key is public (fs/config/obscure).
_OBSCURE = bytes.fromhex("9c935b48730a554d6bfd7c63c886a92bd390198eb8128afbf4de162b8b95f638")


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """What the passwords of a crypt remote become: for contents (32 bytes), for names (32), and their tweak (16)."""

    data: bytes
    name: bytes
    tweak: bytes

    @property
    def fingerprint(self) -> str:
        """What stands for them in tags."""
        return blake2b(self.data, digest_size=16, person=b"playhead rclone").hexdigest()


def keys(password: str, salt: str = "") -> Keys:
    """The keys of `password` and `password2`, both in clear (takes 30 ms and 16 MiB)."""
    if not password:
        return Keys(bytes(32), bytes(32), bytes(16))
    made = scrypt(password.encode(), salt=salt.encode() or _SALT, n=1 << 14, r=8, p=1, maxmem=64 << 20, dklen=80)
    return Keys(made[:32], made[32:64], made[64:])


def revealed(text: str) -> str:
    """A password that `rclone obscure` wrote, in clear. Raises Malformed."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        if len(data) < 16:
            raise ValueError("too short")
        cipher = Cipher(algorithms.AES(_OBSCURE), modes.CTR(data[:16]))
        return cipher.decryptor().update(data[16:]).decode()
    except ValueError as error:
        raise Malformed("this is not what `rclone obscure` writes; give the password itself?") from error


def plain_size(size: int) -> int:
    """The bytes in an encrypted file of `size` bytes. Raises Damaged where none has that size."""
    if size < HEAD or ((left := (size - HEAD) % SEALED) and left <= TAG):
        raise Damaged(f"{size:,} bytes are not the size of a file that rclone encrypted: it was cut, or is another")
    return size - HEAD - TAG * -(-(size - HEAD) // SEALED)


def sealed_size(size: int) -> int:
    """The bytes of the encrypted file that holds `size` bytes."""
    return HEAD + sealed.sealed(size)


@dataclass(slots=True)
class Head:
    """The nonce of a file, once it was read."""

    nonce: bytes | None = None

    def take(self, data: bytes) -> None:
        """Raises Damaged where these bytes are not the head of a file that rclone encrypted."""
        if data[: len(MARK)] != MARK or len(data) < HEAD:
            raise Damaged("this is not a file that rclone encrypted: it does not begin as they do")
        self.nonce = data[len(MARK) : HEAD]


def decrypted(blob: Blob, key: Keys, head: Head | None = None) -> Blob:
    """Blob -> Blob: what is in an encrypted file. Raises Damaged where its size cannot be right."""
    tag = identity("rclone", blob.tag, key.fingerprint)
    return Decrypted(plain_size(blob.size), tag, blob, key, head or Head(), modified=blob.modified)


@dataclass(frozen=True, slots=True, eq=False)
class Decrypted(Blob):
    """See `decrypted`."""

    blob: Blob
    key: Keys = field(repr=False)
    head: Head

    def _sides(self) -> tuple[Side, Side]:
        return Side(SEALED, self.blob.size - HEAD), Side(PLAIN, self.size)

    async def stream(self, start: int, stop: int) -> Pieces:
        if start >= stop:
            return
        source, result = self._sides()
        first, last = sealed.blocks(start, stop, result)
        work = _opening(self.key, self.head)
        reading: asyncio.Future[bytes] | None = None
        if self.head.nonce is None and first == 0:
            upstream = self._after_head(HEAD + source.until(last))
        else:
            upstream = pieces(self.blob, HEAD + source.until(first), HEAD + source.until(last))
            reading = asyncio.ensure_future(self.blob.read(0, HEAD)) if self.head.nonce is None else None

        async def ready() -> None:
            if reading is not None:
                self.head.take(await reading)

        try:
            async with aclosing(through(upstream, start, stop, source, result, work, ready)) as opened:
                async for piece in opened:
                    yield piece
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.wait([reading])

    async def _after_head(self, stop: int) -> Pieces:
        """The sealed bytes up to `stop`, the head taken from before them."""
        head = b""
        async with aclosing(pieces(self.blob, 0, stop)) as upstream:
            async for piece in upstream:
                if len(head) < HEAD:
                    part, piece = sealed.split(piece, HEAD - len(head))
                    head += await asyncio.to_thread(part.read) if isinstance(part, FileSpan) else bytes(part)
                    if len(head) == HEAD:
                        self.head.take(head)
                if len(piece):
                    yield piece

    def here(self, start: int, stop: int) -> list[Piece] | None:
        if self.head.nonce is None or start >= stop:
            return None if start < stop else []
        return sealed.here(self.blob, start, stop, HEAD, *self._sides(), _opening(self.key, self.head))


async def flowing(upstream: Pieces, key: Keys) -> Pieces:
    """What is in an encrypted file that comes as a stream, block by block; where it ends cannot be checked."""
    held, head, number = bytearray(), Head(), 0
    async with aclosing(upstream):
        async for piece in upstream:
            held += await asyncio.to_thread(piece.read) if isinstance(piece, FileSpan) else piece
            if head.nonce is None:
                if len(held) < HEAD:
                    continue
                head.take(bytes(held[:HEAD]))
                del held[:HEAD]
            while len(held) > SEALED:
                yield _flowed(held, SEALED, key, head, number)
                number += 1
    if head.nonce is None:
        head.take(bytes(held))
    if held:
        yield _flowed(held, len(held), key, head, number)


def _flowed(held: bytearray, size: int, key: Keys, head: Head, number: int) -> memoryview:
    block, room = memoryview(bytes(held[:size])), memoryview(bytearray(max(0, size - TAG)))
    del held[:size]
    if size <= TAG:
        raise Damaged(f"block {number} was cut")
    _opening(key, head)(number, block, room)
    return room


def encrypted(blob: Blob, key: Keys, nonce: bytes | None = None) -> Blob:
    """Blob -> Blob: a file as rclone would encrypt it. The same `nonce` (24 bytes; else random) gives the same bytes.

    Never use a nonce for two contents: who has both files then learns how they differ.
    """
    nonce = nonce or os.urandom(NONCE)
    tag = identity("rclone-sealed", blob.tag, key.fingerprint, nonce.hex())
    return Encrypted(sealed_size(blob.size), tag, blob, key, nonce, modified=blob.modified)


@dataclass(frozen=True, slots=True, eq=False)
class Encrypted(Blob):
    """See `encrypted`."""

    blob: Blob
    key: Keys = field(repr=False)
    nonce: bytes

    async def stream(self, start: int, stop: int) -> Pieces:
        if start < min(HEAD, stop):
            yield (MARK + self.nonce)[start:stop]
        start, stop = max(0, start - HEAD), stop - HEAD
        if start >= stop:
            return
        source, result = Side(PLAIN, self.blob.size), Side(SEALED, self.size - HEAD)
        first, last = sealed.blocks(start, stop, result)
        upstream = pieces(self.blob, source.until(first), source.until(last))
        async with aclosing(through(upstream, start, stop, source, result, _sealing(self.key, self.nonce))) as made:
            async for piece in made:
                yield piece


def _counted(nonce: bytes, block: int) -> bytes:
    """The nonce of a block: the file's plus its number, as little-endian counters."""
    return ((int.from_bytes(nonce, "little") + block) % (1 << 8 * NONCE)).to_bytes(NONCE, "little")


def _opening(key: Keys, head: Head) -> Work:
    def opened(first: int, source: memoryview, room: memoryview) -> None:
        assert head.nonce is not None
        bad = _opened(first, source, room, head.nonce, key.data)
        if bad is not None:
            where = f"block {bad} (bytes {bad * PLAIN:,} and on)"
            raise Damaged(f"{where} fails its authentication: it was changed, or the password is another")

    return opened


def _opened(first: int, source: memoryview, room: memoryview, nonce: bytes, key: bytes) -> int | None:
    """Open blocks into their places; returns the first that is not authentic.

    It raises nothing, for a traceback would hold the buffers that are lent to the library here.
    """
    inside, outside = _address(room), _address(source)
    for at in range(-(-len(source) // SEALED)):
        size = min(SEALED, len(source) - at * SEALED)
        if not _open(inside, outside, at, size, _counted(nonce, first + at), key):
            return first + at
    return None


def _sealing(key: Keys, nonce: bytes) -> Work:
    def made(first: int, source: memoryview, room: memoryview) -> None:
        for at in range(-(-len(source) // PLAIN)):
            plain = bytes(source[at * PLAIN : (at + 1) * PLAIN])
            box = bindings.crypto_secretbox_easy(plain, _counted(nonce, first + at), key.data)
            room[at * SEALED : at * SEALED + len(box)] = box

    return made


def _address(view: memoryview) -> Any:
    return view if ffi is None else ffi.from_buffer("unsigned char[]", view)


def _open(inside: Any, outside: Any, at: int, size: int, nonce: bytes, key: bytes) -> bool:
    """Open the block `at` of `outside` into its place `inside`; False: it is not authentic."""
    if lib is not None:
        done = lib.crypto_secretbox_open_easy(inside + at * PLAIN, outside + at * SEALED, size, nonce, key)
        return cast(int, done) == 0
    try:
        box = bytes(outside[at * SEALED : at * SEALED + size])
        inside[at * PLAIN : at * PLAIN + size - TAG] = bindings.crypto_secretbox_open_easy(box, nonce, key)
    except CryptoError:
        return False
    return True
