"""`playhead import rclone`: the remotes of an rclone.conf become trees of our configuration.

What is brought is added at the end of the file, and nothing there is changed; passwords go into files that only their
owner can read. What cannot be brought is listed with the reason. A remote that a crypt remote lies over is brought but
not served, for it shows nothing but encrypted names; nor is one that is the whole disk.
"""

import base64
import configparser
import csv
import getpass
import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from playhead import config as configuration
from playhead import secrets
from playhead.config import NAME, Config
from playhead.errors import Denied, Malformed, NotFound
from playhead.tree import visible

ENCRYPTED = "RCLONE_ENCRYPT_V0:"
LATER = {"drive", "s3", "webdav", "sftp", "ftp", "dropbox", "onedrive", "b2", "azureblob", "google cloud storage"}

Table = dict[str, "str | bool | list[str] | dict[str, str]"]


class NotBrought(Exception):
    """Why a remote is left out."""


def run(file: str | None, config: Config, place: Path, *, only_print: bool) -> int:
    """Import, and say what was done; returns the exit code: 9 where something was left out."""
    path = Path(file).expanduser() if file else _default()
    made = Imported(remotes(path), set(config.tree))
    made.bring()
    text = "\n".join(_toml(name, table) for name, table in made.tables.items())
    if only_print:
        sys.stdout.write(text)
    elif made.tables:
        _write(text, made.secrets, place)
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
    home = Path.home()
    places = [Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "rclone" / "rclone.conf"]
    places += [home / ".config" / "rclone" / "rclone.conf", home / ".rclone.conf"]
    return next((place for place in places if place.exists()), places[0])


# ── rclone.conf ──


def remotes(path: Path) -> dict[str, dict[str, str]]:
    """The remotes of an rclone.conf, by name. Raises NotFound, Denied or Malformed."""
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise NotFound(f"{path}: there is no such file; name the rclone.conf: `rclone config file` tells") from None
    except PermissionError:
        raise Denied(f"{path}: it may not be read") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Malformed(f"{path}: it cannot be read: {error}") from error
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", ";"))]
    if lines and lines[0] == ENCRYPTED:
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


# ── remotes as trees ──


@dataclass(slots=True)
class Imported:
    """The tables that remotes became, the secrets that go beside them, and what was left out."""

    remotes: Mapping[str, Mapping[str, str]]
    taken: set[str]  # names that the configuration has already
    tables: dict[str, Table] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)  # a secret -> the tree that it is of
    names: dict[str, str] = field(default_factory=dict)  # rclone's name -> ours
    left: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    hidden: dict[str, str] = field(default_factory=dict)  # a crypt tree -> what it lies over
    bringing: dict[str, str] = field(default_factory=dict)  # remotes that are being brought, and their names

    def bring(self) -> None:
        """All that can be brought."""
        for remote in self.remotes:
            try:
                self._brought(remote)
            except NotBrought as why:
                self.left[remote] = str(why)
        for name in self.hidden.values():
            if name in self.tables:
                self.tables[name]["serve"] = False

    def told(self) -> Iterator[str]:
        """What was done, in lines for people."""
        for remote, name in self.names.items():
            renamed = f" as {name}" if name != remote else ""
            quiet = " (not served)" if self.tables[name].get("serve") is False else ""
            yield f"brought  {visible(remote)}{renamed}: {self.tables[name]['use']}{quiet}"
        for line in self.notes:
            yield f"note     {visible(line)}"
        for remote, why in self.left.items():
            yield f"left out {visible(remote)}: {visible(why)}"

    def _brought(self, remote: str) -> str:
        """Our name of a remote, brought now if it was not yet. Raises NotBrought."""
        if remote in self.names:
            return self.names[remote]
        if remote not in self.remotes:
            raise NotBrought(f"there is no remote {remote!r}")
        if remote in self.bringing:
            raise NotBrought("it lies over itself")
        if remote in self.left:
            raise NotBrought(f"{remote!r} is left out")
        name = _name(remote)
        if name in self.taken:
            raise NotBrought(f"the configuration has a tree {name!r} already; rename one of them")
        while name in {*self.tables, *self.taken, *self.bringing.values()}:
            name += "-2"
        self.bringing[remote] = name
        before = set(self.secrets)
        try:
            options = self.remotes[remote]
            kind = options.get("type", "")
            if kind not in _KINDS:
                soon = "; a later version brings it" if kind in LATER else ""
                raise NotBrought(f"remotes of type {kind!r} cannot be read yet{soon}")
            table = _KINDS[kind](self, name, options)
            try:
                configuration.parse(_toml(name, table), Path(remote))
            except Malformed as error:
                raise NotBrought(str(error).partition(": ")[2]) from None
            self.tables[name], self.names[remote] = table, name
            return name
        except NotBrought:
            self.hidden.pop(name, None)
            for secret in set(self.secrets) - before:
                if self.owners[secret] == name:
                    del self.secrets[secret]
            raise
        finally:
            del self.bringing[remote]

    def _over(self, text: str, *, by: str = "") -> str:
        """What a remote says that it lies over, as a SOURCE of ours; a tree that `by` hides. Raises NotBrought."""
        if text.startswith("/"):
            return text
        remote, colon, path = text.partition(":")
        if not colon or not remote or "," in remote:
            shown = re.split(r"[,=]", text, maxsplit=1)[0]  # what follows may be a secret
            raise NotBrought(f"{shown!r} is relative, or made on the fly; give it a name in rclone first")
        if self.remotes.get(remote, {}).get("type") == "local":
            if path.startswith("/"):
                return path
            raise NotBrought(f"{text!r} is relative to wherever rclone was started")
        name = _name(remote)
        if remote not in self.remotes or remote in self.names or name not in self.taken:
            name = self._brought(remote)
        if by:
            self.hidden[by] = name
        return f"{name}:{path.strip('/')}"

    def _secret(self, tree: str, key: str, value: str) -> str:
        name = f"{tree}-{key}"
        while name in self.secrets:
            name += "-2"
        self.secrets[name], self.owners[name] = secrets.hide(value), tree
        return f"secret:{name}"

    def _clear(self, text: str) -> str:
        if not text:
            return ""
        from playhead.transforms.rclone import revealed

        try:
            return revealed(text)
        except Malformed:
            raise NotBrought("its password is not as `rclone obscure` writes it") from None

    # ── kinds ──

    def _local(self, name: str, options: Mapping[str, str]) -> Table:
        self.notes.append(f"{name} is the whole disk, so it is not served; name a folder of it as {name}:some/folder")
        return {"use": "local", "root": "/", "serve": False}

    def _http(self, name: str, options: Mapping[str, str]) -> Table:
        try:
            url = urlsplit(options.get("url", ""))
        except ValueError:
            raise NotBrought("its url is not one") from None
        if url.scheme not in ("http", "https") or not url.hostname:
            raise NotBrought("it has no url")
        userinfo, _, host = url.netloc.rpartition("@")
        path = url.path if url.path.endswith("/") else url.path + "/"
        table: Table = {"use": "web", "url": urlunsplit((url.scheme, host, path, url.query, ""))}
        if userinfo:
            user, _, password = userinfo.partition(":")
            table["user"] = unquote(user)
            if password:
                table["password"] = self._secret(name, "password", unquote(password))
        fields = next(csv.reader([options.get("headers", "")]), [])
        headers = {
            key: self._secret(name, f"header-{_name(key)}", value)
            for key, value in zip(fields[::2], fields[1::2], strict=False)
            if value
        }
        if headers:
            table["headers"] = headers
        return table

    def _crypt(self, name: str, options: Mapping[str, str]) -> Table:
        table: Table = {"use": "rclone-crypt", "over": self._over(options.get("remote", ""), by=name)}
        for key in ("password", "password2"):
            if clear := self._clear(options.get(key, "")):
                odd = clear.startswith("obscured:") or re.search(r"[\r\n]", clear)
                table[key] = self._secret(name, key, f"obscured:{options[key]}" if odd else clear)
        if "password" not in table:
            raise NotBrought("it has no password")
        for key in ("filename_encryption", "filename_encoding"):
            if options.get(key):
                table[key] = options[key].lower()
        if suffix := options.get("suffix", ""):
            table["suffix"] = "none" if suffix.lower() == "none" else f".{suffix.removeprefix('.')}"
        for key in ("directory_name_encryption", "no_data_encryption"):
            if options.get(key):
                table[key] = _truth(key, options[key])
        if _truth("pass_bad_blocks", options.get("pass_bad_blocks") or "false"):
            self.notes.append(f"{name}: pass_bad_blocks is not brought; a damaged block is always refused")
        return table

    def _alias(self, name: str, options: Mapping[str, str]) -> Table:
        return {"use": "alias", "over": self._over(options.get("remote", ""))}

    def _union(self, name: str, options: Mapping[str, str]) -> Table:
        upstreams = [re.sub(r":(ro|nc|writeback)$", "", text) for text in _listed(options.get("upstreams", ""), " ")]
        if not upstreams:
            raise NotBrought("it has no upstreams")
        return {"use": "union", "over": [self._over(text) for text in upstreams]}

    def _combine(self, name: str, options: Mapping[str, str]) -> Table:
        folders = {}
        for text in _listed(options.get("upstreams", ""), " "):
            folder, sign, over = text.partition("=")
            if not sign or not folder or "/" in folder:
                raise NotBrought(f"{folder!r} is not the name of a folder with what it is")
            folders[folder] = self._over(over)
        if not folders:
            raise NotBrought("it has no upstreams")
        return {"use": "combine", "folders": folders}


_KINDS: Mapping[str, Callable[[Imported, str, Mapping[str, str]], Table]] = {
    "local": Imported._local,
    "http": Imported._http,
    "crypt": Imported._crypt,
    "alias": Imported._alias,
    "union": Imported._union,
    "combine": Imported._combine,
}


def _truth(key: str, text: str) -> bool:
    """As Go's ParseBool reads it."""
    if text not in ("1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"):
        raise NotBrought(f"{key} is neither true nor false")
    return text[0] in "1tT"


def _listed(text: str, delimiter: str) -> list[str]:
    """rclone's lists: CSV, by commas or by spaces."""
    rows = list(csv.reader([text], delimiter=delimiter))
    return [item for row in rows for item in row if item]


def _name(text: str) -> str:
    """A name of rclone's as one of ours."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return name if NAME.fullmatch(name) else f"remote-{name}".rstrip("-")


# ── our configuration ──


def _toml(name: str, table: Table) -> str:
    lines = [f"{_key(key)} = {_value(value)}" for key, value in table.items()]
    return "\n".join([f"[tree.{name}]", *lines]) + "\n"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return key if re.fullmatch(r"[\w-]+", key, re.ASCII) else _value(key)


def _write(text: str, hidden: Mapping[str, str], place: Path) -> None:
    """Add tables to the configuration, and their secrets beside it. Raises Malformed; then nothing was added."""
    folder, place = place.parent / "secrets", Path(os.path.realpath(place))
    before = place.read_bytes().decode() if place.exists() else ""
    after = before + "\n" * (bool(before) and not before.endswith("\n")) + "\n" * bool(before) + text
    configuration.parse(after, place)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, value in hidden.items():
            if (folder / name).exists() and (folder / name).read_bytes() != f"{value}\n".encode():
                raise Malformed(f"{folder / name} is there already and holds something else; move it away")
        for name, value in hidden.items():
            _private(folder / name, value + "\n")
        mode = place.stat().st_mode & 0o777 if place.exists() else 0o600
        new = place.with_name(place.name + ".new")
        _private(new, after)
        new.chmod(mode)
        new.replace(place)
    except OSError as error:
        raise Malformed(f"{error.filename or place} cannot be written: {error.strerror}") from error


def _private(path: Path, text: str) -> None:
    """A file that only its owner can read."""
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(text.encode())
