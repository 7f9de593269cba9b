"""The configuration: a TOML file -> frozen values, every key checked, every error naming its line.

Only `assemble` and `cli` read it; what is built gets the two or three values that it needs.
"""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from playhead.errors import Malformed

NAME = re.compile(r"[a-z][a-z0-9-]*")
# use -> the keys that it needs ("|": or), and those that it may have beside `serve`
_WEB = "headers user password bearer proxy ca cert rate connections bytes_per_day keep"
_CRYPT = "password2 filename_encryption filename_encoding directory_name_encryption suffix no_data_encryption"
USES: Mapping[str, tuple[str, str]] = {
    "local": ("root", "follow_links"),
    "web": ("url", _WEB),
    "rclone-crypt": ("over password", f"{_CRYPT} keep"),
    "age": ("over identity|passphrase", "keep"),
    "aes-cbc": ("over key", "keep"),
    "alias": ("over", ""),
    "union": ("over", ""),
    "combine": ("folders", ""),
}
LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")


@dataclass(frozen=True, slots=True)
class TreeConfig:
    """`[tree.NAME]`: where files come from. Secrets may be given as "secret:NAME"."""

    use: str
    root: str | None = None
    follow_links: bool = False
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    password: str | None = None
    bearer: str | None = None
    proxy: str | None = None
    ca: str | None = None
    cert: str | None = None
    rate: float | None = None
    connections: int | None = None
    bytes_per_day: int | None = None
    keep: bool | str = True
    serve: bool = True
    over: tuple[str, ...] = ()
    folders: Mapping[str, str] = field(default_factory=dict)
    password2: str | None = None
    filename_encryption: str = "standard"
    filename_encoding: str = "base32"
    directory_name_encryption: bool = True
    suffix: str = ".bin"
    no_data_encryption: bool = False
    identity: str | None = None
    passphrase: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class ReservoirConfig:
    """`[reservoir]`: where what was read is kept, how much of it, and how much of the disk is left free. In bytes."""

    folder: str | None = None
    size: int | None = None
    free: int = 1 << 30


@dataclass(frozen=True, slots=True)
class BundlesConfig:
    """`[bundles]`: how many members and bytes one may have, how many are sent at once, which URLs it may name."""

    members: int = 100_000
    bytes: int = 10**12
    at_once: int = 16
    urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DownloadsConfig:
    """`[downloads]`: the folder that the queue fetches into (none: no queue), how many at once, /jsonrpc's token."""

    folder: str | None = None
    at_once: int = 3
    token: str | None = None


@dataclass(frozen=True, slots=True)
class LogConfig:
    """`[log]`: from which level on, and as text or JSON."""

    level: str = "warning"
    format: str = "text"


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file. `folder` is where it lies: relative paths in it are meant from there."""

    listen: str = "127.0.0.1:4040"
    prefix: str = ""
    trusted_proxies: tuple[str, ...] = ()
    cors: tuple[str, ...] = ()
    tls_cert: str | None = None
    tls_key: str | None = None
    memory: int = 256 << 20
    reservoir: ReservoirConfig = ReservoirConfig()
    bundles: BundlesConfig = BundlesConfig()
    downloads: DownloadsConfig = DownloadsConfig()
    log: LogConfig = LogConfig()
    tree: Mapping[str, TreeConfig] = field(default_factory=dict)
    folder: Path = Path()


def default_path() -> Path:
    """Where the configuration lies unless --config says otherwise."""
    if named := os.environ.get("PLAYHEAD_CONFIG"):
        return Path(named)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "playhead" / "playhead.toml"


def load(path: Path | None = None) -> Config:
    """The configuration at a path; at the default place it may be absent. Raises Malformed."""
    named = path is not None or "PLAYHEAD_CONFIG" in os.environ
    path = path or default_path()
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        if named:
            raise Malformed(f"{path}: there is no such configuration file") from None
        return Config(folder=path.parent)
    except (OSError, UnicodeDecodeError) as error:
        raise Malformed(f"{path}: the configuration cannot be read: {error}") from error
    return parse(text, path)


def parse(text: str, path: Path) -> Config:
    """The configuration that a text is. Raises Malformed, with the line where it can be told."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Malformed(f"{path}: {error}") from error
    try:
        return Config(**_checked(table, Config, ""), folder=path.parent)
    except _Wrong as wrong:
        line = _line(text, wrong.table, wrong.key)
        raise Malformed(f"{path}{f':{line}' if line else ''}: {wrong}") from None


class _Wrong(Exception):
    def __init__(self, table: str, key: str, what: str) -> None:
        super().__init__(f"{f'{table}.' if table else ''}{key}: {what}")
        self.table, self.key = table, key


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text in quotes is wanted")
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false is wanted")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("a list of texts is wanted")
    return tuple(_text(item) for item in value)


def _one_or_more(value: Any) -> tuple[str, ...]:
    if "" in (found := (value,) if isinstance(value, str) else _texts(value)):
        raise ValueError("an empty text names nothing; a tree, a folder or a URL is wanted")
    return found


def _folders(value: Any) -> dict[str, str]:
    for name, text in _headers(value).items():
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise ValueError(f"{name!r} cannot be the name of a folder")
        _one_or_more(text)
    return _headers(value)


def _keeping(value: Any) -> bool | str:
    if not isinstance(value, bool) and value != "plain":
        raise ValueError('true, false or "plain" is wanted')
    return bool(value) if isinstance(value, bool) else str(value)


def _headers(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError('a table of names and values is wanted, as { X-Name = "value" }')
    return {name: _text(text) for name, text in value.items()}


def _prefix(value: Any) -> str:
    if _text(value) and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", value):
        raise ValueError('a path as "/music" is wanted')
    return str(value)


def _origins(value: Any) -> tuple[str, ...]:
    for origin in _texts(value):
        if not re.fullmatch(r"https?://[^/\s]+", origin):
            raise ValueError(f'{origin!r} is not an origin as "https://example.org"')
    return _texts(value)


def _one_of(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"one of {', '.join(choices)} is wanted")
        return str(value)

    return check


_UNITS = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}
_UNITS |= {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


def size(value: Any) -> int:
    """Bytes: a number, or a text as "10 GB" or "256MiB"."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)\s*([A-Za-z]*)", str(value)) if value is not True else None
    if match is None or isinstance(value, bool | list | dict) or match[2].lower() not in _UNITS:
        raise ValueError('a size is wanted, as 1000000, "256 MiB" or "10 GB"')
    return int(float(match[1]) * _UNITS[match[2].lower()])


def _at_least(least: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if (found := size(value)) < least:
            raise ValueError(f"at least {least:,} bytes are wanted")
        return found

    return check


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise ValueError("a number above 0 is wanted")
    return float(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 10_000:
        raise ValueError("a whole number from 1 to 9999 is wanted")
    return value


def _many(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 10_000_000:
        raise ValueError("a whole number from 1 to 10,000,000 is wanted")
    return value


def _reservoir(value: Any) -> ReservoirConfig:
    return ReservoirConfig(**_checked(_table(value), ReservoirConfig, "reservoir"))


def _downloads(value: Any) -> DownloadsConfig:
    return DownloadsConfig(**_checked(_table(value), DownloadsConfig, "downloads"))


def _bundles(value: Any) -> BundlesConfig:
    return BundlesConfig(**_checked(_table(value), BundlesConfig, "bundles"))


def _prefixes(value: Any) -> tuple[str, ...]:
    for prefix in _texts(value):
        if not re.fullmatch(r"https?://[^/\s]+/\S*", prefix):
            raise ValueError(f'{prefix!r} is not the beginning of URLs as "https://example.org/music/"')
    return _texts(value)


def _log(value: Any) -> LogConfig:
    return LogConfig(**_checked(_table(value), LogConfig, "log"))


def _trees(value: Any) -> dict[str, TreeConfig]:
    found = {}
    for name, table in _table(value).items():
        if not NAME.fullmatch(name):
            raise _Wrong("tree", name, "a name is made of a-z, 0-9 and '-', and begins with a letter")
        if not isinstance(table, dict):
            raise _Wrong("tree", name, "a table is wanted")
        tree = _checked(table, TreeConfig, f"tree.{name}")
        needed, allowed = USES[tree["use"]] if "use" in tree else ("use", "")
        for keys in needed.split():
            if not any(tree.get(key) for key in keys.split("|")):
                raise _Wrong("tree", name, f"{keys.replace('|', ' or ')!r} is missing")
        for key in tree:
            if key not in f"use serve {needed.replace('|', ' ')} {allowed}".split():
                raise _Wrong(f"tree.{name}", key, f"means nothing where use = {tree['use']!r}")
        if len(tree.get("over", ())) > 1 and tree["use"] != "union":
            raise _Wrong(f"tree.{name}", "over", "one text is wanted")
        found[name] = TreeConfig(**tree)
    return found


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("a table is wanted")
    return value


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "prefix": _prefix,
    "trusted_proxies": _texts,
    "cors": _origins,
    "bundles": _bundles,
    "downloads": _downloads,
    "members": _many,
    "bytes": _at_least(1),
    "at_once": _count,
    "urls": _prefixes,
    "log": _log,
    "tree": _trees,
    "level": _one_of(*LEVELS),
    "format": _one_of(*FORMATS),
    "use": _one_of(*USES),
    "follow_links": _truth,
    "headers": _headers,
    "memory": _at_least(16 << 20),
    "reservoir": _reservoir,
    "size": _at_least(16 << 20),
    "free": size,
    "rate": _number,
    "connections": _count,
    "bytes_per_day": _at_least(1),
    "keep": _keeping,
    "serve": _truth,
    "over": _one_or_more,
    "folders": _folders,
    "filename_encryption": _one_of("standard", "obfuscate", "off"),
    "filename_encoding": _one_of("base32", "base64", "base32768"),
    "directory_name_encryption": _truth,
    "no_data_encryption": _truth,
}


def _checked(table: dict[str, Any], kind: type, at: str) -> dict[str, Any]:
    """The values of a table, each checked. Raises _Wrong for the first that is not right."""
    allowed = [known.name for known in fields(kind) if (kind, known.name) != (Config, "folder")]
    for key, value in table.items():
        if key not in allowed:
            raise _Wrong(at, key, f"unknown; known here: {', '.join(allowed)}")
        try:
            check: Callable[[Any], Any] = _CHECKS.get(key, _text)
            table[key] = check(value)
        except ValueError as error:
            raise _Wrong(at, key, str(error)) from error
    return table


def _line(text: str, table: str, key: str) -> int | None:
    """The line that a key of a table stands on: as `key =`, as a header, or inside `table = { key = ...`."""
    wanted = [*(table.split(".") if table else []), key]
    context: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+([^\]]+)\]+", line):
            context = _keys(header[1])
            if context[: len(wanted)] == wanted:
                return number
        elif assigned := re.match(r"""\s*([\w."' -]+?)\s*=(.*)""", line):
            path = [*context, *_keys(assigned[1])]
            if path[: len(wanted)] == wanted:
                return number
            if path == wanted[:-1] and re.search(rf"[{{,]\s*[\"']?{re.escape(key)}[\"']?\s*=", assigned[2]):
                return number
    return None


def _keys(dotted: str) -> list[str]:
    """`a . "b c"` as [a, b c]."""
    return [
        part[0] or part[1] or part[2] for part in re.findall(r"""\s*(?:"([^"]*)"|'([^']*)'|([\w-]+))\s*\.?""", dotted)
    ]
