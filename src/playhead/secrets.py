"""Secrets: where they come from, and how they stay out of what we write.

`secret:NAME` in the configuration is read from the environment (PLAYHEAD_SECRET_NAME), else from a file
`secrets/NAME` beside the configuration that only its owner can read, else from the system's keyring (where
the package `keyring` is installed). Every secret that was read is scrubbed from every log line and error.
"""

import logging
import os
import re
import stat
from collections import deque
from hashlib import blake2b
from pathlib import Path
from secrets import token_bytes, token_hex

from playhead.errors import Denied, Malformed

HIDDEN = "[secret]"
KEY = 32  # bytes
_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_known: set[str] = set()
_brief: deque[str] = deque(maxlen=256)  # secrets that live for an hour

# What looks like a secret wherever it stands: credentials in a URL, and parameters and headers named like one.
_PATTERNS = [
    re.compile(r"(?<=://)[^/\s]+(?=@)"),
    re.compile(
        r"(?<=[?&;])((?:[\w-]*(?:token|key|secret|password|signature|sig|credential)|p|t|s)=)[^&\s\"']+", re.IGNORECASE
    ),
    re.compile(r"(authorization\W{1,4})[^\r\n\"',}]+", re.IGNORECASE),
]


def state_folder() -> Path:
    """Where this installation's own keys and sockets are: $XDG_STATE_HOME/playhead."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "playhead"


def resolve(text: str, folder: Path) -> str:
    """A value of the configuration: itself, or the secret that `secret:NAME` names. Raises Malformed or Denied."""
    name = text.removeprefix("secret:")
    if name == text:
        return text
    if not _NAME.fullmatch(name):
        raise Malformed(f"{text!r}: the name of a secret is made of a-z, 0-9, '_' and '-'")
    variable = "PLAYHEAD_SECRET_" + name.upper().replace("-", "_")
    found = os.environ.get(variable) or _from_file(folder / "secrets" / name) or _from_keyring(name)
    if not found:
        where = f"the variable {variable}, the file secrets/{name} beside the configuration, or the keyring"
        raise Malformed(f"there is no secret {name!r}; put it into {where}")
    return hide(found)


def _from_file(path: Path) -> str | None:
    try:
        with path.open(encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise Denied(f"the file of the secret {path.name!r} can be read by others; `chmod 600` it")
            return file.read().rstrip("\r\n")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise Malformed(f"the file of the secret {path.name!r} cannot be read: {error}") from error


def _from_keyring(name: str) -> str | None:
    try:
        import keyring
        import keyring.errors
    except ImportError:
        return None
    try:
        return keyring.get_password("playhead", name)
    except keyring.errors.KeyringError:
        return None


def hide(secret: str, *, brief: bool = False) -> str:
    """Remember a secret, so that it is scrubbed from now on (`brief`: until many others have followed); returns it."""
    if len(secret) < 4:
        return secret
    if not brief:
        _known.add(secret)
    elif secret not in _brief:
        _brief.append(secret)
    return secret


def scrub(text: str) -> str:
    """The text without secrets."""
    for secret in sorted((*_known, *_brief), key=len, reverse=True):  # one may begin like another
        text = text.replace(secret, HIDDEN)
    for pattern in _PATTERNS:
        text = pattern.sub(lambda match: (match[1] if match.lastindex else "") + HIDDEN, text)
    return text


class Scrubber(logging.Filter):
    """Scrubs every log record that passes, with its fields and its traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception:  # a wrong call of the log must not stop what it tells of
            message = f"{record.msg} {record.args}"
        record.msg, record.args = scrub(message), ()
        for name, value in record.__dict__.items():
            if isinstance(value, str) and name not in ("msg", "name", "levelname", "pathname"):
                record.__dict__[name] = scrub(value)
        if record.exc_info:
            record.exc_text = scrub(logging.Formatter().formatException(record.exc_info))
        return True


def fingerprint(*parts: str) -> str:
    """What stands for credentials in tags: a digest keyed with this installation's own key; "" for none."""
    if not any(parts):
        return ""
    return blake2b("\0".join(parts).encode(), key=_server_key(), digest_size=16).hexdigest()


def _server_key() -> bytes:
    path = state_folder() / "key"
    try:
        if path.is_file() and len(key := path.read_bytes()) == KEY:
            return key
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f"key.{os.getpid()}.{token_hex(4)}")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(token_bytes(KEY))
            file.flush()
            os.fsync(fd)
        if path.is_file() and path.stat().st_size != KEY:
            path.unlink()  # torn by a crash
        try:
            os.link(fresh, path)  # whoever was first wins
        except FileExistsError:
            pass
        fresh.unlink()
        return path.read_bytes()
    except OSError as error:
        raise Malformed(f"{path.parent} cannot hold our key: {error}; make it yours, or set XDG_STATE_HOME") from error
