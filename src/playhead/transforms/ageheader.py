"""bytes -> the key of a file: the header of age v1 (C2SP age.md), read and written.

A header is a line that names the version, stanzas that each hold the file key wrapped for somebody, and a MAC over all
of it. Known are X25519, scrypt (a passphrase) and, for reading, mlkem768x25519 (its hybrid with ML-KEM).
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from playhead.errors import Damaged, Denied, Malformed
from playhead.transforms import hpke
from playhead.transforms.hpke import expanded, extracted

VERSION = b"age-encryption.org/v1\n"
KEY = 16  # bytes of a file key
LONGEST = 256 << 10  # bytes of a header
WORK = 18  # log2 of scrypt's cost when we encrypt
MOST_WORK = 20  # and when we decrypt: 1 GiB of memory
_X25519 = b"age-encryption.org/v1/X25519"
_SCRYPT = b"age-encryption.org/v1/scrypt"
_ZERO = bytes(12)


@dataclass(frozen=True, slots=True)
class Stanza:
    """A file key wrapped for somebody, or something that we do not know."""

    arguments: tuple[str, ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Header:
    """`length` in bytes; `signed` is what the MAC is over."""

    stanzas: tuple[Stanza, ...]
    mac: bytes
    signed: bytes
    length: int


# ── reading ──


def _wrong(what: str) -> Damaged:
    return Damaged(f"the header of the age file is not right: {what}")


def unpadded(text: str) -> bytes:
    """Canonical base64 without padding. Raises Damaged."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise _wrong("something is not base64") from None
    if padless(data) != text:
        raise _wrong("base64 that is not canonical")
    return data


def padless(data: bytes) -> str:
    """Base64 without padding."""
    return base64.b64encode(data).decode().rstrip("=")


def parse(data: bytes) -> Header | None:
    """The header that a file begins with; None: it goes on beyond these bytes. Raises Damaged."""
    if not data.startswith(VERSION[: len(data)]):
        raise Damaged("this is not a file of age v1: it does not begin as they do")
    at = len(VERSION)
    stanzas: list[Stanza] = []
    while (line := _line(data, at)) is not None:
        if line.startswith("---"):
            if not re.fullmatch(r"--- [A-Za-z0-9+/]{43}", line):
                raise _wrong("the line of its MAC")
            if not stanzas:
                raise _wrong("it has no stanza")
            if at + len(line) + 1 > LONGEST:
                break
            return Header(tuple(stanzas), unpadded(line[4:]), data[: at + 3], at + len(line) + 1)
        found = _stanza(data, at, line)
        if found is None:
            break
        stanza, at = found
        stanzas.append(stanza)
    if len(data) > LONGEST:
        raise _wrong(f"it is longer than {LONGEST:,} bytes")
    return None


def _line(data: bytes, at: int) -> str | None:
    end = data.find(b"\n", at)
    if end < 0:
        return None
    try:
        return data[at:end].decode("ascii")
    except UnicodeDecodeError:
        raise _wrong("a letter that is not ASCII") from None


def _stanza(data: bytes, at: int, line: str) -> tuple[Stanza, int] | None:
    if not re.fullmatch(r"->(?: [!-~]+)+", line):
        raise _wrong("the first line of a stanza")
    at, body = at + len(line) + 1, ""
    while (text := _line(data, at)) is not None:
        if not re.fullmatch(r"[A-Za-z0-9+/]{0,64}", text):
            raise _wrong("a line in the body of a stanza")
        at, body = at + len(text) + 1, body + text
        if len(text) < 64:
            return Stanza(tuple(line[3:].split(" ")), unpadded(body)), at
    return None


# ── keys of people ──


def _bech32(text: str) -> tuple[str, bytes]:
    """BIP 173's encoding, without its limit of length. Raises Malformed."""
    letters = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    prefix, one, rest = text.lower().rpartition("1")
    if text not in (text.lower(), text.upper()) or not one or any(letter not in letters for letter in rest):
        raise Malformed("this is not a key of age")
    values = [letters.index(letter) for letter in rest]
    expanded_prefix = [ord(letter) >> 5 for letter in prefix] + [0] + [ord(letter) & 31 for letter in prefix]
    check = 1
    for value in expanded_prefix + values:
        top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ value
        for bit, factor in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= factor if top >> bit & 1 else 0
    number = sum(value << 5 * at for at, value in enumerate(reversed(values[:-6])))
    spare = 5 * (len(values) - 6) % 8
    if check != 1 or len(values) < 6 or spare > 4 or number & (1 << spare) - 1:
        raise Malformed("this key of age was mistyped: its checksum is not right")
    return prefix, (number >> spare).to_bytes(5 * (len(values) - 6) // 8)


Unwrap = Callable[[Stanza], bytes | None]
"""A stanza -> the wrapped file key's plaintext; None: it is not for us. Raises Damaged."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody who may read: what opens stanzas of a kind."""

    kind: str
    unwrap: Unwrap = field(repr=False)
    mark: str = field(repr=False)  # what stands for the secret in tags


def identities(text: str) -> list[Identity]:
    """The secret keys in the text of an identity file, one a line. Raises Malformed."""
    lines = [line.strip() for line in text.splitlines()]
    found = [_identity(line) for line in lines if line and not line.startswith("#")]
    if not found:
        raise Malformed("there is no secret key of age here: one begins with AGE-SECRET-KEY-1")
    return found


def _identity(line: str) -> Identity:
    prefix, data = _bech32(line)
    if prefix == "age-secret-key-" and len(data) == 32:
        return Identity("X25519", _x25519(X25519PrivateKey.from_private_bytes(data)), _mark(data))
    if prefix == "age-secret-key-pq-" and len(data) == 32:
        return Identity("mlkem768x25519", _hybrid(hpke.Secret(data)), _mark(data))
    raise Malformed("this is not a secret key of age that is known here (X25519, or its hybrid with ML-KEM)")


def _mark(secret: bytes) -> str:
    return hashlib.blake2b(secret, digest_size=16, person=b"playhead age").hexdigest()


def _arguments(stanza: Stanza, count: int) -> Sequence[str]:
    if len(stanza.arguments) != count + 1 or len(stanza.body) != KEY + 16:
        raise _wrong(f"the arguments or the body of its {stanza.arguments[0]} stanza")
    return stanza.arguments[1:]


def _x25519(secret: X25519PrivateKey) -> Unwrap:
    own = secret.public_key().public_bytes_raw()

    def unwrap(stanza: Stanza) -> bytes | None:
        share = unpadded(_arguments(stanza, 1)[0])
        try:
            shared = secret.exchange(X25519PublicKey.from_public_bytes(share))
        except ValueError:
            raise _wrong("the share of its X25519 stanza") from None
        return _unsealed(expanded(extracted(share + own, shared), _X25519, 32), stanza.body)

    return unwrap


def _hybrid(secret: hpke.Secret) -> Unwrap:
    def unwrap(stanza: Stanza) -> bytes | None:
        enc = unpadded(_arguments(stanza, 1)[0])
        try:
            return secret.opened(enc, stanza.body, b"age-encryption.org/mlkem768x25519")
        except ValueError:
            raise _wrong("the share of its mlkem768x25519 stanza") from None

    return unwrap


def passphrase(text: str) -> Identity:
    """Whoever knows a passphrase."""

    def unwrap(stanza: Stanza) -> bytes | None:
        salt, work = _arguments(stanza, 2)
        if len(raw := unpadded(salt)) != 16 or not re.fullmatch(r"[1-9]\d?", work, re.ASCII):
            raise _wrong("the arguments of its scrypt stanza")
        if int(work) > MOST_WORK:
            raise _wrong(f"its passphrase costs 2^{work}, and more than 2^{MOST_WORK} is refused")
        return _unsealed(_stretched(text, raw, int(work)), stanza.body)

    return Identity("scrypt", unwrap, _mark(text.encode()))


def _stretched(text: str, salt: bytes, work: int) -> bytes:
    memory = (128 * 8 << work) + (4 << 20)
    return hashlib.scrypt(text.encode(), salt=_SCRYPT + salt, n=1 << work, r=8, p=1, maxmem=memory, dklen=32)


def _unsealed(key: bytes, body: bytes) -> bytes | None:
    try:
        return ChaCha20Poly1305(key).decrypt(_ZERO, body, None)
    except InvalidTag:
        return None


def file_key(header: Header, known: Iterable[Identity]) -> bytes:
    """The key of a file (takes a second for a passphrase). Raises Damaged, or Denied where none of these opens it."""
    kinds = [stanza.arguments[0] for stanza in header.stanzas]
    if "scrypt" in kinds and len(kinds) > 1:
        raise _wrong("a passphrase stands beside others")
    known = list(known)
    for stanza in header.stanzas:
        for somebody in known:
            key = somebody.unwrap(stanza) if somebody.kind == stanza.arguments[0] else None
            if key is not None:
                if not hmac.compare_digest(_mac(key, header.signed), header.mac):
                    raise _wrong("its MAC: it was changed")
                return key
    raise Denied("none of the keys or passphrases that were given opens this age file")


def _mac(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(expanded(extracted(b"", key), b"header", 32), signed, "sha256")


# ── writing ──


Wrap = Callable[[bytes], Stanza]


def recipient(text: str) -> Wrap:
    """Somebody to encrypt for: a public key, age1... Raises Malformed."""
    prefix, data = _bech32(text)
    if prefix != "age" or len(data) != 32:
        raise Malformed("this is not a public key of age that can be written for here: one begins with age1")

    def wrap(key: bytes) -> Stanza:
        own = X25519PrivateKey.generate()
        share = own.public_key().public_bytes_raw()
        shared = own.exchange(X25519PublicKey.from_public_bytes(data))
        wrapped = ChaCha20Poly1305(expanded(extracted(share + data, shared), _X25519, 32)).encrypt(_ZERO, key, None)
        return Stanza(("X25519", padless(share)), wrapped)

    return wrap


def for_passphrase(text: str, work: int = WORK) -> Wrap:
    """To encrypt for whoever knows a passphrase, alone."""

    def wrap(key: bytes) -> Stanza:
        salt = os.urandom(16)
        wrapped = ChaCha20Poly1305(_stretched(text, salt, work)).encrypt(_ZERO, key, None)
        return Stanza(("scrypt", padless(salt), str(work)), wrapped)

    return wrap


def written(stanzas: Iterable[Stanza], key: bytes) -> bytes:
    """The header that holds a file key."""
    text = VERSION.decode()
    for stanza in stanzas:
        body = padless(stanza.body)
        lines = [body[at : at + 64] for at in range(0, len(body) + 1, 64)]
        text += "-> " + " ".join(stanza.arguments) + "\n" + "\n".join(lines) + "\n"
    signed = text.encode() + b"---"
    return signed + b" " + padless(_mac(key, signed)).encode() + b"\n"
