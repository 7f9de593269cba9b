"""The remotes of an rclone.conf -> tables of our configuration, what goes beside them, and what was left out.

What a remote lies over is brought before it. A remote that shows nothing but encrypted names is not served, nor is the
whole disk. A bucket is a part of a path for rclone and a tree for us: those that other remotes name become trees of
their own. What we do not read ourselves, rclone does, where it is installed: `use = "rclone"`.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from playhead import config as configuration
from playhead import remotetables, secrets
from playhead.errors import Malformed
from playhead.origins.drive.granted import Login
from playhead.remotetables import BUCKETS, ByRclone, Making, NotBrought, Options, Table, name_of, revealed, truth
from playhead.tree import visible

PATIENCE = 20.0  # seconds for rclone to say which kinds it knows
TAKES = re.compile(r"[\w.+@][\w.+@ -]*")  # the names of remotes that rclone takes


@dataclass
class Imported:
    """The tables that remotes became, the secrets and logins that go beside them, and what was left out."""

    remotes: Mapping[str, Options]
    taken: set[str]  # names that the configuration has already
    tables: dict[str, Table] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    logins: dict[str, Login] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)  # a secret -> the tree that it is of
    names: dict[str, str] = field(default_factory=dict)  # rclone's name, or REMOTE:BUCKET -> ours
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

    @property
    def through(self) -> list[str]:
        """The trees that rclone reads."""
        return [name for name, table in self.tables.items() if table["use"] == "rclone"]

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

    # ── one remote ──

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
        name = name_of(remote)
        if name in self.taken:
            raise NotBrought(f"the configuration has a tree {name!r} already; rename one of them")
        return self._made(remote, self._free(name), self._table)

    def _free(self, name: str) -> str:
        while name in {*self.tables, *self.taken, *self.bringing.values()}:
            name += "-2"
        return name

    def _made(self, remote: str, name: str, make: Callable[[str, str], Table]) -> str:
        """The table of a remote, checked, under a name; nothing is left of it where it cannot be."""
        self.bringing[remote] = name
        try:
            table = make(remote, name)
            try:
                configuration.parse(toml(name, table), Path(remote))
            except Malformed as error:
                raise NotBrought(str(error).partition(": ")[2]) from None
        except (NotBrought, ByRclone):
            self.hidden.pop(name, None)
            self.logins.pop(name, None)
            self._forget(name)
            raise
        finally:
            del self.bringing[remote]
        self.tables[name], self.names[remote] = table, name
        return name

    def _forget(self, name: str) -> None:
        for secret in [secret for secret, owner in self.owners.items() if owner == name]:
            del self.secrets[secret], self.owners[secret]

    def _table(self, remote: str, name: str) -> Table:
        options = self.remotes[remote]
        kind = options.get("type", "")
        if kind in _OVER:
            return _OVER[kind](self, name, options)
        making = Making(name, partial(self._secret, name))
        try:
            if kind not in remotetables.ALONE:
                raise ByRclone(_buckets(name, kind))
            table = remotetables.ALONE[kind](making, options)
        except ByRclone as why:
            self._forget(name)
            return self._by_rclone(remote, name, kind, str(why))
        self._note(making)
        return table

    def _note(self, making: Making) -> None:
        self.notes += making.notes
        if making.login:
            self.logins[making.name] = making.login

    def _by_rclone(self, remote: str, name: str, kind: str, why: str) -> Table:
        """A remote that the installed rclone reads."""
        if not self._kinds:
            raise NotBrought(f"remotes of type {kind!r} need rclone, which is not installed here{why and f'; {why}'}")
        if kind not in self._kinds or not TAKES.fullmatch(remote):
            raise NotBrought(
                f"remotes of type {kind!r} cannot be read: the rclone that is installed does not know them"
            )
        if why:
            self.notes.append(f"{name} is read through rclone: {why}")
        return {"use": "rclone", "remote": f"{remote}:"}

    @cached_property
    def _kinds(self) -> set[str]:
        """The kinds of remotes that the installed rclone knows; none where there is none."""
        program = shutil.which("rclone")
        if program is None:
            return set()
        said = b"[]"
        with suppress(OSError, subprocess.TimeoutExpired):
            asked = [program, "config", "providers", "--ask-password=false"]
            said = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE).stdout
        try:
            known = json.loads(said)
            return {text for each in known for key in ("Name", "Prefix") if isinstance(text := each.get(key), str)}
        except (ValueError, TypeError, AttributeError, RecursionError):
            return set()

    def _secret(self, tree: str, key: str, value: str) -> str:
        name = f"{tree}-{key}"
        while name in self.secrets:
            name += "-2"
        self.secrets[name], self.owners[name] = secrets.hide(value), tree
        return f"secret:{name}"

    # ── what it lies over ──

    def _over(self, text: str, *, by: str = "") -> str:
        """What a remote says that it lies over, as a SOURCE of ours; a tree that `by` hides. Raises NotBrought."""
        if text.startswith("/"):
            return text
        remote, colon, path = text.partition(":")
        if not colon or not remote or "," in remote:
            shown = re.split(r"[,=]", text, maxsplit=1)[0]  # what follows may be a secret
            raise NotBrought(f"{shown!r} is relative, or made on the fly; give it a name in rclone first")
        kind = self.remotes.get(remote, {}).get("type", "")
        if kind == "local":
            if path.startswith("/"):
                return path
            raise NotBrought(f"{text!r} is relative to wherever rclone was started")
        path = path.strip("/")
        bucket, _, rest = path.partition("/")
        if kind in BUCKETS and bucket and (name := self._bucket(remote, bucket, kind)):
            path = rest.strip("/")
        else:
            name = name_of(remote)
            if remote not in self.remotes or remote in self.names or name not in self.taken:
                name = self._brought(remote)
        if by:
            self.hidden[by] = name
        return f"{name}:{path}"

    def _bucket(self, remote: str, bucket: str, kind: str) -> str | None:
        """Our name of one bucket of a remote; None where rclone is to read it."""
        if known := self.names.get(f"{remote}:{bucket}"):
            return known
        name = name_of(f"{remote}-{bucket}")
        if name in self.taken:  # brought by an earlier import
            return name
        try:
            return self._made(f"{remote}:{bucket}", self._free(name), partial(self._bucket_table, remote, bucket, kind))
        except ByRclone as why:
            if not self._kinds:
                raise NotBrought(f"it needs rclone, which is not installed here; {why}") from None
            if (line := f"{remote}:{bucket} is read through rclone: {why}") not in self.notes:
                self.notes.append(line)
            return None

    def _bucket_table(self, remote: str, bucket: str, kind: str, _: str, name: str) -> Table:
        making = Making(name, partial(self._secret, name))
        table = BUCKETS[kind](making, self.remotes[remote], bucket)
        self._note(making)
        return {**table, "serve": False}

    # ── kinds that lie over others ──

    def _local(self, name: str, options: Options) -> Table:
        self.notes.append(f"{name} is the whole disk, so it is not served; name a folder of it as {name}:some/folder")
        return {"use": "local", "root": "/", "serve": False}

    def _crypt(self, name: str, options: Options) -> Table:
        table: Table = {"use": "rclone-crypt", "over": self._over(options.get("remote", ""), by=name)}
        for key in ("password", "password2"):
            if clear := revealed(options.get(key, "")):
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
                table[key] = truth(key, options[key])
        if truth("pass_bad_blocks", options.get("pass_bad_blocks") or "false"):
            self.notes.append(f"{name}: pass_bad_blocks is not brought; a damaged block is always refused")
        return table

    def _alias(self, name: str, options: Options) -> Table:
        return {"use": "alias", "over": self._over(options.get("remote", ""))}

    def _union(self, name: str, options: Options) -> Table:
        upstreams = [re.sub(r":(ro|nc|writeback)$", "", text) for text in _listed(options)]
        if not upstreams:
            raise NotBrought("it has no upstreams")
        return {"use": "union", "over": [self._over(text) for text in upstreams]}

    def _combine(self, name: str, options: Options) -> Table:
        folders = {}
        for text in _listed(options):
            folder, sign, over = text.partition("=")
            if not sign or not folder or "/" in folder:
                raise NotBrought(f"{folder!r} is not the name of a folder with what it is")
            folders[folder] = self._over(over)
        if not folders:
            raise NotBrought("it has no upstreams")
        return {"use": "combine", "folders": folders}


_OVER: Mapping[str, Callable[[Imported, str, Options], Table]] = {
    "local": Imported._local,
    "crypt": Imported._crypt,
    "alias": Imported._alias,
    "union": Imported._union,
    "combine": Imported._combine,
}


def _buckets(name: str, kind: str) -> str:
    """Why rclone reads a remote of a kind that has no table."""
    if kind not in BUCKETS:
        return ""
    return f'it is all buckets; a table with use = "{remotetables.USES[kind]}" and bucket = "..." reads one without it'


def _listed(options: Options) -> list[str]:
    return [item for item in remotetables.listed(options.get("upstreams", ""), " ") if item]


# ── as TOML ──


def toml(name: str, table: Table) -> str:
    """A table as our configuration has it."""
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
