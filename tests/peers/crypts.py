"""rclone's crypt, as the program that it is: what it writes and reads, and how it calls what it writes."""

import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from playhead.transforms.names import ENCODINGS, Names
from playhead.transforms.rclone import Keys, keys
from tests.peers import servers

PASSWORD, SALT = "correct 말 battery", "소금 staple"
WITHIN = 60.0


def rclone(*arguments: str, given: bytes = b"") -> bytes:
    """What it says, or CalledProcessError."""
    command = [servers.program("rclone", "rclone"), "--config", os.devnull, *arguments]
    return subprocess.run(command, input=given, capture_output=True, check=True, timeout=WITHIN).stdout


@lru_cache(64)
def obscured(text: str) -> str:
    return rclone("obscure", "-", given=text.encode() + b"\n").decode().strip()


@lru_cache(8)
def made(password: str = PASSWORD, salt: str = SALT) -> Keys:
    return keys(password, salt)


@dataclass(frozen=True, slots=True)
class Setting:
    """How a crypt remote is set up, for both sides."""

    mode: str = "standard"
    encoding: str = "base32"
    folders: bool = True
    suffix: str = ".bin"
    contents: bool = True
    password: str = PASSWORD
    salt: str = SALT

    @property
    def keys(self) -> Keys:
        return made(self.password, self.salt)

    def names(self) -> Names:
        how = {"mode": self.mode, "encoding": self.encoding, "suffix": self.suffix}
        return Names(self.keys.name, self.keys.tweak, folders=self.folders, **how)

    def remote(self, folder: Path | str = "/nowhere", path: str = "") -> str:
        """A path in it, as rclone is told."""
        options: Mapping[str, str] = {
            "remote": str(folder),
            "password": obscured(self.password),
            **({"password2": obscured(self.salt)} if self.salt else {}),
            "filename_encryption": self.mode,
            "filename_encoding": self.encoding,
            "directory_name_encryption": str(self.folders).lower(),
            "suffix": self.suffix or "none",
            "no_data_encryption": str(not self.contents).lower(),
        }
        return f":crypt,{','.join(f'{name}={value}' for name, value in options.items())}:{path}"

    def called(self, kind: str, paths: Iterable[str]) -> list[str]:
        """What it makes of paths; `kind` is "encode" or "decode". No name may have a newline in it."""
        said = rclone("backend", kind, self.remote(), "--", *paths)
        return said.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")

    def __str__(self) -> str:
        flat, clear = ["flat"] * (not self.folders), ["clear"] * (not self.contents)
        return "-".join([self.mode, self.encoding, self.suffix.strip(".") or "bare", *flat, *clear])


PLAIN_NAMES = Setting("off", suffix="")  # only contents are encrypted
ENCODED = [Setting("standard", encoding, folders) for encoding in ENCODINGS for folders in (True, False)]
SETTINGS = [*ENCODED, Setting("obfuscate"), Setting("obfuscate", folders=False), Setting("off"), PLAIN_NAMES]


def written(files: Mapping[str, bytes], folder: Path, setting: Setting) -> Path:
    """A folder as rclone writes it, with these files in it."""
    clear, sealed = folder / "clear", folder / "sealed"
    put(files, clear)
    sealed.mkdir(exist_ok=True)
    rclone("copy", str(clear), setting.remote(sealed))
    return sealed


def put(files: Mapping[str, bytes], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def on_disk(folder: Path) -> dict[str, bytes]:
    """The files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
