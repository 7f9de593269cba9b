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

from playhead import checks
from playhead.errors import Malformed

NAME = re.compile(r"[a-z][a-z0-9-]*")
# use -> the keys that it needs ("|": or), and those that it may have beside `serve`
_REMOTE = "proxy ca rate connections bytes_per_day keep"
_WEB = f"headers user password bearer cert {_REMOTE}"
_BUCKET = f"root endpoint region anonymous path_style {_REMOTE} write"
_CRYPT = "password2 filename_encryption filename_encoding directory_name_encryption suffix no_data_encryption"
USES: Mapping[str, tuple[str, str]] = {
    "local": ("root", "follow_links write"),
    "web": ("url", _WEB),
    "webdav": ("url", f"{_WEB} write"),
    "gdrive": (
        "client_id|service_account",
        f"client_secret subject scope root drive shared_with_me acknowledge_abuse endpoint {_REMOTE} cert write",
    ),
    "s3": ("bucket", f"access_key secret_key token {_BUCKET}"),
    "gcs": ("bucket", f"service_account token {_BUCKET}"),
    "azure": ("bucket account", f"secret_key token {_BUCKET}"),
    "rclone": ("remote", "rate connections bytes_per_day keep"),
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
    write: bool = False
    client_id: str | None = None
    client_secret: str | None = None
    service_account: str | None = None
    subject: str | None = None
    scope: str | None = None
    drive: str | None = None
    shared_with_me: bool = False
    acknowledge_abuse: bool = False
    endpoint: str | None = None
    bucket: str | None = None
    region: str | None = None
    access_key: str | None = None
    secret_key: str | None = None
    token: str | None = None
    account: str | None = None
    anonymous: bool = False
    path_style: bool = True
    remote: str | None = None


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


def _reservoir(value: Any) -> ReservoirConfig:
    return ReservoirConfig(**_checked(checks.table(value), ReservoirConfig, "reservoir"))


def _downloads(value: Any) -> DownloadsConfig:
    return DownloadsConfig(**_checked(checks.table(value), DownloadsConfig, "downloads"))


def _bundles(value: Any) -> BundlesConfig:
    return BundlesConfig(**_checked(checks.table(value), BundlesConfig, "bundles"))


def _log(value: Any) -> LogConfig:
    return LogConfig(**_checked(checks.table(value), LogConfig, "log"))


def _trees(value: Any) -> dict[str, TreeConfig]:
    found = {}
    for name, table in checks.table(value).items():
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


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "prefix": checks.prefix,
    "trusted_proxies": checks.texts,
    "cors": checks.origins,
    "bundles": _bundles,
    "downloads": _downloads,
    "members": checks.many,
    "bytes": checks.at_least(1),
    "at_once": checks.count,
    "urls": checks.prefixes,
    "log": _log,
    "tree": _trees,
    "level": checks.one_of(*LEVELS),
    "format": checks.one_of(*FORMATS),
    "use": checks.one_of(*USES),
    "follow_links": checks.truth,
    "write": checks.truth,
    "shared_with_me": checks.truth,
    "acknowledge_abuse": checks.truth,
    "anonymous": checks.truth,
    "path_style": checks.truth,
    "headers": checks.headers,
    "memory": checks.at_least(16 << 20),
    "reservoir": _reservoir,
    "size": checks.at_least(16 << 20),
    "free": checks.size,
    "rate": checks.number,
    "connections": checks.count,
    "bytes_per_day": checks.at_least(1),
    "keep": checks.keeping,
    "serve": checks.truth,
    "over": checks.one_or_more,
    "folders": checks.folders,
    "filename_encryption": checks.one_of("standard", "obfuscate", "off"),
    "filename_encoding": checks.one_of("base32", "base64", "base32768"),
    "directory_name_encryption": checks.truth,
    "no_data_encryption": checks.truth,
}


def _checked(table: dict[str, Any], kind: type, at: str) -> dict[str, Any]:
    """The values of a table, each checked. Raises _Wrong for the first that is not right."""
    allowed = [known.name for known in fields(kind) if (kind, known.name) != (Config, "folder")]
    for key, value in table.items():
        if key not in allowed:
            raise _Wrong(at, key, f"unknown; known here: {', '.join(allowed)}")
        try:
            check: Callable[[Any], Any] = _CHECKS.get(key, checks.text)
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
