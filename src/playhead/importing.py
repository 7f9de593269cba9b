"""`playhead import rclone`: the remotes of an rclone.conf become trees of our configuration.

What is brought is added at the end of the file, and nothing there is changed; passwords go into files that only their
owner can read, and so do logins to Google Drive. What cannot be brought is listed with the reason. What becomes of
each remote is told by `remotes`.
"""

import base64
import configparser
import getpass
import os
import sys
import unicodedata
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from playhead import config as configuration
from playhead import secrets
from playhead.config import Config
from playhead.errors import Denied, Malformed, NotFound
from playhead.origins.drive import granted
from playhead.origins.drive.granted import Login
from playhead.remotes import Imported, toml
from playhead.tree import visible

ENCRYPTED = "RCLONE_ENCRYPT_V0:"


def run(file: str | None, config: Config, place: Path, *, only_print: bool) -> int:
    """Import, and say what was done; returns the exit code: 9 where something was left out."""
    path = Path(file).expanduser() if file else _default()
    made = Imported(remotes(path), set(config.tree))
    made.bring()
    if made.through:
        made.notes.append(f"{', '.join(made.through)}: read through rclone, {_needed(path)}")
    text = "\n".join(toml(name, table) for name, table in made.tables.items())
    if only_print:
        sys.stdout.write(text)
    elif made.tables:
        _write(text, made.secrets, made.logins, place)
    if not made.remotes:
        print(f"there are no remotes in {path}")
    for line in made.told():
        print(line, file=sys.stderr if only_print else sys.stdout)
    if made.tables and not only_print:
        print(f"written to {place}; try `playhead ls {next(reversed(made.tables))}:`")
    return 9 if made.left else 0


def _default() -> Path:
    """Where rclone itself looks for its configuration."""
    if named := os.environ.get("RCLONE_CONFIG"):
        return Path(named)
    places = _places()
    return next((place for place in places if place.exists()), places[0])


def _places() -> list[Path]:
    """Where rclone looks, in order, unless RCLONE_CONFIG says otherwise."""
    home = Path.home()
    folders = [Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config"), home / ".config"]
    return [*(folder / "rclone" / "rclone.conf" for folder in folders), home / ".rclone.conf"]


def _needed(path: Path) -> str:
    """What trees that rclone reads need of a configuration of rclone's."""
    needs = [f"with its configuration {visible(str(path))}"]
    if path.resolve() not in [place.resolve() for place in _places()]:
        needs.append("which RCLONE_CONFIG has to name")
    if _is_encrypted(_lines(_text(path))):
        needs.append("which is encrypted: RCLONE_CONFIG_PASS has to give its password")
    return ", ".join(needs)


# ── rclone.conf ──


def remotes(path: Path) -> dict[str, dict[str, str]]:
    """The remotes of an rclone.conf, by name. Raises NotFound, Denied or Malformed."""
    text = _text(path)
    lines = _lines(text)
    if _is_encrypted(lines):
        text = _opened("".join(lines[1:]), path)
    text = "\n".join(line.strip() for line in text.splitlines())  # rclone knows no continued lines
    parser = configparser.RawConfigParser(strict=False, default_section="", comment_prefixes=("#", ";"))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(text)
    except configparser.Error as error:
        line = getattr(error, "lineno", None)
        raise Malformed(f"{path}{f':{line}' if line else ''}: this is not an rclone.conf") from None
    return {name: {key: _unquoted(value) for key, value in parser[name].items()} for name in parser.sections()}


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise NotFound(f"{path}: there is no such file; name the rclone.conf: `rclone config file` tells") from None
    except PermissionError:
        raise Denied(f"{path}: it may not be read") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Malformed(f"{path}: it cannot be read: {error}") from error


def _lines(text: str) -> list[str]:
    """The lines that say something."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", ";"))]


def _is_encrypted(lines: list[str]) -> bool:
    return bool(lines) and lines[0] == ENCRYPTED


def _unquoted(value: str) -> str:
    """A value without the quotes that rclone's parser knows."""
    for quote in ('"""', "`"):
        if len(value) >= 2 * len(quote) and value.startswith(quote) and value.endswith(quote):
            return value[len(quote) : -len(quote)]
    return value


def _opened(text: str, path: Path) -> str:
    """An encrypted rclone.conf in clear: a secretbox whose key is made of the password (fs/config/crypt.go)."""
    from nacl.bindings import crypto_secretbox_open_easy
    from nacl.exceptions import CryptoError

    password = os.environ.get("RCLONE_CONFIG_PASS")
    if password is None:
        if not sys.stdin.isatty():
            raise Denied(f"{path} is encrypted; give its password in the variable RCLONE_CONFIG_PASS")
        password = getpass.getpass(f"password of {path}: ")
    secrets.hide(password)
    try:
        data = base64.b64decode(text, validate=True)
        normal = unicodedata.normalize("NFKC", password)
        key = sha256(f"[{normal}][rclone-config]".encode()).digest()
        return crypto_secretbox_open_easy(data[24:], data[:24], key).decode()
    except CryptoError:
        raise Denied(f"{path}: this is not its password, or the file was changed") from None
    except Exception as error:
        raise Malformed(f"{path}: it is encrypted, and damaged: {error}") from error


# ── our configuration ──


def _write(text: str, hidden: Mapping[str, str], logins: Mapping[str, Login], place: Path) -> None:
    """Add tables to the configuration, and their secrets beside it. Raises Malformed; then nothing was added."""
    folder, place = place.parent / "secrets", Path(os.path.realpath(place))
    before = place.read_bytes().decode() if place.exists() else ""
    after = before + "\n" * (bool(before) and not before.endswith("\n")) + "\n" * bool(before) + text
    configuration.parse(after, place)
    try:
        logins = {name: login for name, login in logins.items() if not _has_login(name, login)}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, value in hidden.items():
            if (folder / name).exists() and (folder / name).read_bytes() != f"{value}\n".encode():
                raise Malformed(f"{folder / name} is there already and holds something else; move it away")
        for name, value in hidden.items():
            _private(folder / name, value + "\n")
        for name, login in logins.items():
            granted.write(name, login)
        mode = place.stat().st_mode & 0o777 if place.exists() else 0o600
        new = place.with_name(place.name + ".new")
        _private(new, after)
        new.chmod(mode)
        new.replace(place)
    except OSError as error:
        raise Malformed(f"{error.filename or place} cannot be written: {error.strerror}") from error


def _has_login(name: str, login: Login) -> bool:
    """Has a tree of this name a login of the same client? It stays. Raises Malformed where it is another's."""
    try:
        there = granted.read(name)
    except NotFound:
        return False
    if there.client_id != login.client_id:
        raise Malformed(f"{granted.place(name)} is there already and is of another client_id; move it away")
    return True


def _private(path: Path, text: str) -> None:
    """A file that only its owner can read."""
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(text.encode())
