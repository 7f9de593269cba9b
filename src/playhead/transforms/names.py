"""str <-> str: the names that rclone's crypt gives to files and folders.

`standard`: each name is padded to blocks of 16 bytes (PKCS #7), encrypted by EME, and written in base32hex, base64 or
base32768. `obfuscate`: its letters are rotated, which hides nothing from whoever looks twice. `off`: a file gets a
suffix. The names of folders may be left as they are. The date that rclone puts at a file's end for an old version
(-v2006-01-02-150405-000) stays outside.
"""

import base64
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache

from playhead.transforms import base32768
from playhead.transforms.eme import MOST, WIDTH, Eme

_VERSION = re.compile(r"-v\d{4}-\d{2}-\d{2}-\d{6}-\d{3}\Z", re.ASCII)


class NotOurs(ValueError):
    """A name that these keys and settings did not make."""


def _from_base32(text: str) -> bytes:
    if text.endswith("="):
        raise ValueError("padding")
    return base64.b32hexdecode(text.upper() + "=" * (-len(text) % 8))


def _from_base64(text: str) -> bytes:
    if not re.fullmatch(r"[\w-]*", text, re.ASCII):
        raise ValueError("not base64")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


ENCODINGS: Mapping[str, tuple[Callable[[bytes], str], Callable[[str], bytes]]] = {
    "base32": (lambda data: base64.b32hexencode(data).decode().rstrip("=").lower(), _from_base32),
    "base64": (lambda data: base64.urlsafe_b64encode(data).decode().rstrip("="), _from_base64),
    "base32768": (base32768.encode, base32768.decode),
}
MODES = ("standard", "obfuscate", "off")


class Names:
    """`key` (32 bytes) and `tweak` (16) are of the names alone; `folders`: are the names of folders encrypted too?"""

    def __init__(
        self,
        key: bytes,
        tweak: bytes,
        *,
        mode: str = "standard",
        encoding: str = "base32",
        folders: bool = True,
        suffix: str = ".bin",
    ) -> None:
        self.mode, self.folders, self.suffix = mode, folders and mode != "off", suffix
        self.turn = sum(key)
        self.eme = Eme(key, tweak)
        self.encode, self.decode = ENCODINGS[encoding]
        self.hidden = lru_cache(1 << 14)(self._hidden)
        self.shown = lru_cache(1 << 16)(self._shown)

    # ── paths ──

    def path(self, names: list[str], *, folder: bool) -> str:
        """The path on the other side of the names of a path. Raises ValueError for a name that cannot be encrypted."""
        made = [self.hidden(name, True) for name in names[:-1]] + [self.hidden(name, folder) for name in names[-1:]]
        return "/".join(made)

    def _hidden(self, name: str, folder: bool) -> str:
        if self.mode == "off":
            return name if folder else name + self.suffix
        if folder and not self.folders:
            return name
        name, version = (name, "") if folder else _parted(name)
        changed = self._encrypted(name) if self.mode == "standard" else self._turned(name)
        return _joined(changed, version)

    def _shown(self, name: str, folder: bool) -> str:
        if self.mode == "off":
            return name if folder else self._without_suffix(name)
        if folder and not self.folders:
            return name
        name, version = (name, "") if folder else _parted(name)
        changed = self._decrypted(name) if self.mode == "standard" else self._turned_back(name)
        return _joined(changed, version)

    def _without_suffix(self, name: str) -> str:
        shown = name.removesuffix(self.suffix)
        if (self.suffix and shown == name) or not shown:
            raise NotOurs(f"it does not end in {self.suffix!r}")
        return shown

    # ── standard ──

    def _encrypted(self, name: str) -> str:
        if not name:
            return ""
        data = name.encode("utf-8", "surrogateescape")
        fill = WIDTH - len(data) % WIDTH
        if len(data) + fill > MOST:
            raise ValueError(f"a name of {len(data):,} bytes cannot be encrypted: {MOST - 1:,} are the most")
        return self.encode(self.eme.encrypted(data + bytes([fill]) * fill))

    def _decrypted(self, name: str) -> str:
        if not name:
            return ""
        try:
            data = self.eme.decrypted(self.decode(name))
        except ValueError as error:
            raise NotOurs(f"it is not in the encoding of encrypted names: {error}") from error
        fill = data[-1]
        if not 0 < fill <= WIDTH or data[-fill:] != bytes([fill]) * fill:
            raise NotOurs("it was encrypted with another password, or not at all")
        return data[:-fill].decode("utf-8", "surrogateescape")

    # ── obfuscate ──

    def _turned(self, name: str) -> str:
        if not name:
            return ""
        try:
            name.encode()
        except UnicodeEncodeError:
            return "!." + name  # not UTF-8: left as it is
        sign = sum(map(ord, name)) % 256
        return f"{sign}." + "".join([_turned_letter(letter, sign + self.turn) for letter in name])

    def _turned_back(self, name: str) -> str:
        if not name:
            return ""
        sign, dot, rest = name.partition(".")
        if sign == "!" and dot:
            return rest
        if not dot or not re.fullmatch(r"\d{1,3}", sign, re.ASCII):
            raise NotOurs("it does not begin with a number and a dot")
        turn, shown, quoted = int(sign) + self.turn, [], False
        for letter in rest:
            if letter == "!" and not quoted:
                quoted = True
                continue
            if "\ud800" <= letter <= "\udfff":
                raise NotOurs("it is not UTF-8")
            shown.append(letter if quoted else _turned_letter(letter, turn, back=True))
            quoted = False
        return "".join(shown)


def _parted(name: str) -> tuple[str, str]:
    """A name without the date of its version, and that date: before the last extension (rclone's lib/version)."""
    stem, dot, extension = name.rpartition(".")
    if not stem:
        stem, dot, extension = name, "", ""
    if (found := _VERSION.search(stem)) is None:
        return name, ""
    try:  # the year 0000, which Python has not, had a 29th of February
        datetime.strptime(re.sub("^-v0000", "-v2000", found[0][:19]), "-v%Y-%m-%d-%H%M%S")
    except ValueError:
        return name, ""
    return stem[: found.start()] + dot + extension, found[0]


def _joined(name: str, version: str) -> str:
    """The date of a version goes before the extension, if there is one."""
    stem, dot, extension = name.rpartition(".")
    return f"{stem}{version}.{extension}" if version and dot and stem else name + version


_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _turned_letter(letter: str, turn: int, *, back: bool = False) -> str:
    """A letter rotated within those of its kind, by a number that `turn` gives."""
    code = ord(letter)
    if letter == "!" and not back:
        return "!!"
    if "0" <= letter <= "9":
        first, count, by = 48, 10, turn % 9 + 1
    elif letter in _LETTERS:
        at = _LETTERS.index(letter) + (turn % 25 + 1) * (-1 if back else 1)
        return _LETTERS[at % 52]
    elif 0xA0 <= code <= 0xFF:
        first, count, by = 0xA0, 96, turn % 95 + 1
    elif code >= 0x100:
        first, count, by = code - code % 256, 256, turn % 127 + 1
    else:
        return letter
    turned = first + (code - first + (-by if back else by)) % count
    return "!" + letter if 0xD800 <= turned < 0xE000 and not back else chr(turned)
