"""A login <-> a file: what Google granted to a tree of the configuration, kept for this installation.

One JSON file a tree, $XDG_STATE_HOME/playhead/logins/NAME.json, that only its owner can read; written aside and put in
place whole. The client's secret is not in it: that comes from the configuration, which is the one place to change it,
and the file alone lets nobody in. The access token is, so that a restart asks nobody. What a running process renews is
written only over the login that it renewed, never over a later one.
"""

import json
import math
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Any

from playhead import secrets
from playhead.errors import Busy, Denied, Malformed, NotFound

VERSION = 1
LARGEST = 64 << 10  # bytes of a file
PATIENCE = 5.0  # seconds that another process may take to write
PREFIX = "https://www.googleapis.com/auth/"  # of what Google calls scopes
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_TOKEN = re.compile(r"[\x21-\x7e]{1,8192}")  # what a header can hold


@dataclass(frozen=True, slots=True)
class Login:
    """What was granted: to which OAuth client, by which account ("": not known), with which scopes, and when.

    `access_token` opens doors until `expires` (seconds since 1970); "" where there is none.
    """

    client_id: str
    refresh_token: str = field(repr=False)
    scopes: tuple[str, ...] = ()  # as "drive.readonly"
    account: str = ""
    obtained: datetime = field(default_factory=lambda: datetime.now(UTC))
    access_token: str = field(default="", repr=False)
    expires: float = 0.0

    def __post_init__(self) -> None:
        secrets.hide(self.refresh_token)
        secrets.hide(self.access_token, brief=True)


def is_token(value: object) -> bool:
    """Can it be a token? One is sent in a header, so it has neither spaces nor controls."""
    return isinstance(value, str) and _TOKEN.fullmatch(value) is not None


def short(scopes: str) -> tuple[str, ...]:
    """Scopes as we name them: without what they all begin with."""
    return tuple(sorted({scope.removeprefix(PREFIX) for scope in scopes.split()}))


def place(name: str) -> Path:
    """Where the login of a tree is kept. Raises Malformed."""
    if not _NAME.fullmatch(name):
        raise Malformed(f"{name[:100]!r} cannot be the name of a tree: a-z, 0-9 and '-' are wanted")
    return secrets.state_folder() / "logins" / f"{name}.json"


def stamp(path: Path) -> tuple[int, ...] | None:
    """What changes when a file does; None where there is none."""
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


# ── reading ──


def read(name: str) -> Login:
    """The login of a tree. Raises NotFound, Denied or Malformed; each says what to do."""
    path, remedy = place(name), f"`playhead login {name}` makes a new one"
    try:
        data = _content(path)
        return _parsed(json.loads(data) if len(data) <= LARGEST else None)
    except FileNotFoundError:
        raise NotFound(f"tree {name} has no login yet; run `playhead login {name}`") from None
    except OSError as error:
        what = (error.strerror or "").lower()
        raise Denied(f"the login of tree {name}, {path}, cannot be read ({what}); make it yours, or {remedy}") from None
    except _Open:
        raise Denied(f"the login of tree {name} can be read by others: `chmod 600 {path}`; {remedy}") from None
    except _Newer:
        raise Malformed(f"the login of tree {name} was written by a later version; use that, or {remedy}") from None
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        raise Malformed(f"the login of tree {name}, {path}, is damaged; move it away: {remedy}") from None


def _content(path: Path) -> bytes:
    """What is in a file of ours, or a little more than may be. Raises OSError, ValueError or _Open."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise ValueError("it is not a file")
        if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise _Open
        return os.read(fd, LARGEST + 1)
    finally:
        os.close(fd)


class _Open(Exception):
    """Others may read it."""


class _Newer(Exception):
    """A version of the format that we do not know."""


def _parsed(record: Any) -> Login:
    if not isinstance(record, dict) or type(record["version"]) is not int:
        raise ValueError("it is not what was written")
    if record["version"] != VERSION:
        raise _Newer
    refresh, access, expires = record["refresh_token"], record["access_token"], record["expires"]
    texts = [record["client_id"], record["account"], *record["scopes"]]
    if not is_token(refresh) or (access and not is_token(access)) or not all(isinstance(text, str) for text in texts):
        raise ValueError("it is not what was written")
    if isinstance(expires, bool) or not isinstance(expires, int | float) or not math.isfinite(expires):
        raise ValueError("it is not what was written")
    obtained = datetime.fromisoformat(record["obtained"]).astimezone(UTC)
    return Login(texts[0], refresh, tuple(texts[2:]), texts[1], obtained, access, float(expires))


# ── writing ──


def write(name: str, login: Login) -> Path:
    """Keep a login in place of any other of that tree; returns where. Raises OSError, or Busy."""
    path = place(name)
    with _locked(path.parent):
        _put(path, login)
    return path


def renew(name: str, was: Login, now: Login) -> None:
    """Keep what became of a login, unless another one was made since. Raises OSError, or a Failure."""
    path = place(name)
    with _locked(path.parent):
        if read(name).refresh_token == was.refresh_token:
            _put(path, now)


def _put(path: Path, login: Login) -> None:
    record = {
        "version": VERSION,
        "client_id": login.client_id,
        "account": login.account,
        "scopes": list(login.scopes),
        "obtained": login.obtained.isoformat(),
        "refresh_token": login.refresh_token,
        "access_token": login.access_token,
        "expires": login.expires,
    }
    fresh = path.with_name(f"{path.name}.{token_hex(4)}.new")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(json.dumps(record, indent=1).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        with suppress(OSError):
            fresh.unlink()
        raise
    _synced(path.parent)


def _synced(folder: Path) -> None:
    if os.name != "posix":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The folder, ours alone, and in it nobody else who writes. Waits a moment for them, in this thread."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    if os.name == "posix" and stat.S_IMODE(folder.stat().st_mode) & 0o077:
        folder.chmod(0o700)
    fd = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(fd, folder)
        yield
    finally:
        os.close(fd)


def _lock(fd: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:
        return
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise Busy(f"another process has held {folder} for {PATIENCE:.0f} s; try again") from None
            time.sleep(0.02)


# ── what rclone has ──


def from_rclone(token: str, client_id: str, client_secret: str, scope: str = "") -> Login:
    """The login that an rclone remote has in its option `token`. Raises Malformed, which says what to do instead."""
    own = "make an OAuth client of your own (type 'Desktop app'), put client_id and client_secret into the tree"
    if not client_id or not client_secret:
        raise Malformed(f"it uses rclone's own OAuth client, which is being retired; {own}, and run `playhead login`")
    try:
        record: Any = json.loads(token) if len(token) <= LARGEST else {}
        refresh = record["refresh_token"]
    except (ValueError, TypeError, KeyError, RecursionError):
        record, refresh = {}, None
    if not is_token(refresh):
        raise Malformed("its token is not one that can be renewed; run `playhead login` for it")
    scopes = short((scope or "drive").replace(",", " "))
    login = Login(client_id, refresh, scopes)
    access, expires = record.get("access_token"), _seconds(record.get("expiry"))
    return replace(login, access_token=access, expires=expires) if is_token(access) and expires else login


def _seconds(text: object) -> float:
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return 0.0
