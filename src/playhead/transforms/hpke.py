"""HPKE (RFC 9180), its base mode, for receiving: MLKEM768-X25519 with HKDF-SHA256 and ChaCha20-Poly1305.

The key encapsulation joins ML-KEM-768 and X25519 as X-Wing does (draft-connolly-cfrg-xwing-kem), so that both must be
broken to read a message.
"""

import hashlib
import hmac
from math import ceil

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from playhead.errors import Malformed

_SUITE = b"HPKE" + bytes.fromhex("647a00010003")
_LABEL = rb"\.//^\ ".strip()
_CIPHERTEXT = 1088  # bytes of ML-KEM-768's


def extracted(salt: bytes, secret: bytes) -> bytes:
    """HKDF-Extract with SHA-256 (RFC 5869)."""
    return hmac.digest(salt or bytes(32), secret, "sha256")


def expanded(key: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand with SHA-256 (RFC 5869)."""
    made = block = b""
    for number in range(1, ceil(length / 32) + 1):
        block = hmac.digest(key, block + info + bytes([number]), "sha256")
        made += block
    return made[:length]


class Secret:
    """A secret key, from its seed of 32 bytes. Raises Malformed where the installed cryptography has no ML-KEM."""

    def __init__(self, seed: bytes) -> None:
        try:
            from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
        except ImportError:
            raise Malformed("keys with ML-KEM need a newer version of the package `cryptography`") from None
        data = hashlib.shake_256(seed).digest(96)
        try:
            self.lattice = MLKEM768PrivateKey.from_seed_bytes(data[:64])
        except UnsupportedAlgorithm:
            raise Malformed(
                "keys with ML-KEM need a newer version of OpenSSL below the package `cryptography`"
            ) from None
        self.curve = X25519PrivateKey.from_private_bytes(data[64:])
        self.public = self.curve.public_key().public_bytes_raw()

    def opened(self, enc: bytes, sealed: bytes, info: bytes) -> bytes | None:
        """What is sealed; None: it is for another key. Raises ValueError where `enc` cannot be right."""
        if len(enc) != _CIPHERTEXT + 32:
            raise ValueError("the length of an encapsulated key")
        share = enc[_CIPHERTEXT:]
        from_curve = self.curve.exchange(X25519PublicKey.from_public_bytes(share))
        from_lattice = self.lattice.decapsulate(enc[:_CIPHERTEXT])
        shared = hashlib.sha3_256(from_lattice + from_curve + share + self.public + _LABEL).digest()
        context = b"\0" + _extract(b"", b"psk_id_hash", b"") + _extract(b"", b"info_hash", info)
        secret = _extract(shared, b"secret", b"")
        key, nonce = _expand(secret, b"key", context, 32), _expand(secret, b"base_nonce", context, 12)
        try:
            return ChaCha20Poly1305(key).decrypt(nonce, sealed, b"")
        except InvalidTag:
            return None


def _extract(salt: bytes, label: bytes, secret: bytes) -> bytes:
    return extracted(salt, b"HPKE-v1" + _SUITE + label + secret)


def _expand(key: bytes, label: bytes, info: bytes, length: int) -> bytes:
    return expanded(key, length.to_bytes(2) + b"HPKE-v1" + _SUITE + label + info, length)
