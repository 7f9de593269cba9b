"""bytes -> bytes: EME, a cipher as wide as its message, over AES-256 (Halevi and Rogaway, 2003).

rclone encrypts names with it: up to 128 blocks of 16 bytes, every bit of which depends on every bit of the name. The
field's elements are little-endian, as in rclone's.
"""

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

WIDTH = 16
MOST = 128 * WIDTH  # bytes


class Eme:
    """The cipher for a key of 32 bytes and a tweak of 16."""

    def __init__(self, key: bytes, tweak: bytes) -> None:
        self.cipher = Cipher(algorithms.AES(key), modes.ECB())
        self.tweak = int.from_bytes(tweak, "little")
        element, self.masks = int.from_bytes(self._aes(bytes(WIDTH), encrypt=True), "little"), []
        for _ in range(MOST // WIDTH):
            element = _doubled(element)
            self.masks.append(element)

    def encrypted(self, message: bytes) -> bytes:
        """A message of 1 to 128 whole blocks, encrypted."""
        return self._mixed(message, encrypt=True)

    def decrypted(self, message: bytes) -> bytes:
        """The same back."""
        return self._mixed(message, encrypt=False)

    def _aes(self, data: bytes, *, encrypt: bool) -> bytes:
        return (self.cipher.encryptor() if encrypt else self.cipher.decryptor()).update(data)

    def _mixed(self, message: bytes, *, encrypt: bool) -> bytes:
        if not 0 < len(message) <= MOST or len(message) % WIDTH:
            raise ValueError(f"{len(message)} bytes are not 1 to 128 blocks of 16")
        masks = self.masks[: len(message) // WIDTH]
        first = _blocks(self._aes(_masked(_blocks(message), masks), encrypt=encrypt))
        into = self.tweak
        for block in first:
            into ^= block
        out = int.from_bytes(self._aes(into.to_bytes(WIDTH, "little"), encrypt=encrypt), "little")
        mask, total, second = into ^ out, out ^ self.tweak, [0]
        for block in first[1:]:
            mask = _doubled(mask)
            second.append(block ^ mask)
            total ^= second[-1]
        second[0] = total
        return _masked(_blocks(self._aes(_masked(second, [0] * len(second)), encrypt=encrypt)), masks)


def _doubled(element: int) -> int:
    """Twice an element of GF(2^128), modulo x^128 + x^7 + x^2 + x + 1."""
    element <<= 1
    return element ^ (1 << 128 | 0x87) if element >> 128 else element


def _blocks(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + WIDTH], "little") for at in range(0, len(data), WIDTH)]


def _masked(blocks: list[int], masks: list[int]) -> bytes:
    return b"".join([(block ^ mask).to_bytes(WIDTH, "little") for block, mask in zip(blocks, masks, strict=True)])
