"""What is known of a folder <-> a file on disk: its entries, and the size and tag of each file that was opened.

One JSON file a folder, written aside and put in place whole; only its owner may read it. One that is torn, hostile or
of another folder is as none at all; one of another version of the format is left as it is.
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from types import NoneType
from typing import Any

from playhead.errors import Malformed
from playhead.tree import Entry, segments

VERSION = 1


@dataclass(slots=True)
class File:
    """What a file was when the origin was last asked, at `checked` (0: before this process)."""

    size: int
    tag: str
    modified: datetime | None
    checked: float = 0.0


@dataclass(slots=True)
class Folder:
    """What is known of a folder. Its `entries` (None: never listed) are replaced, never changed in place."""

    path: str
    listed: float = 0.0
    entries: dict[str, Entry] | None = None
    files: dict[str, File] = field(default_factory=dict)
    foreign: bool = False  # kept on disk in a format that is not ours to overwrite

    def entry(self, name: str) -> Entry | None:
        """As it was listed, and as opening has taught."""
        entry, file = (self.entries or {}).get(name), self.files.get(name)
        if file is None:
            return entry
        entry = Entry(name) if entry is None or entry.folder else entry
        return replace(entry, size=file.size, tag=file.tag, modified=file.modified)


def read(file: Path, path: str) -> Folder:
    """What is kept of the folder `path`; nothing where it cannot be read."""
    try:
        return _parsed(json.loads(file.read_bytes()), path)
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError, Malformed):
        return Folder(path)


def _parsed(record: Any, path: str) -> Folder:
    if _is(record, dict)["version"] != VERSION:
        return Folder(path, foreign=True)
    if record["folder"] != path:
        raise ValueError("it is of another folder")
    when, rows = _date(record["listed"]), _is(record["entries"], list, NoneType)
    entries = None if rows is None else {entry.name: entry for entry in map(_entry, rows)}
    files = {}
    for name, (size, tag, modified) in _is(record["files"], dict).items():
        files[_name(name)] = File(_is(size, int), _is(tag, str), _date(modified))
    return Folder(path, when.timestamp() if when else 0.0, entries, files)


def _entry(row: Any) -> Entry:
    name, folder, size, modified, tag, mark = _is(row, list)
    size, tag, mark = _is(size, int, NoneType), _is(tag, str, NoneType), _is(mark, str, NoneType)
    return Entry(_name(name), _is(folder, bool), size, _date(modified), tag, mark)


def _is(value: Any, *kinds: type) -> Any:
    if type(value) not in kinds or (type(value) is int and not 0 <= value < 1 << 63):
        raise ValueError("it is not what was written")
    return value


def _name(value: Any) -> str:
    if segments(_is(value, str)) != [value]:
        raise ValueError("it is not one name")
    return str(value)


def _date(value: Any) -> datetime | None:
    return None if value is None else datetime.fromisoformat(_is(value, str)).astimezone(UTC)


def write(folders: list[tuple[Path | None, Folder]]) -> OSError | None:
    """Write them all; returns how one failed, if any did."""
    failed = None
    for file, kept in folders:
        assert file
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if kept.entries is None and not kept.files:
                file.unlink(missing_ok=True)
            else:
                _put(file, "\n".join(_lines(kept)))
        except OSError as failure:
            failed = failure
    return failed


def _put(file: Path, text: str) -> None:
    """In place of what was there, whole or not at all; only its owner may read it."""
    fresh = file.with_name(f"{file.name}.{token_hex(4)}.tmp")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(text)
        fresh.replace(file)
    except OSError:
        with suppress(OSError):
            fresh.unlink()
        raise


def _lines(kept: Folder) -> list[str]:
    """A record as JSON, a name a line: one call for all would hold the interpreter for too long."""
    when = datetime.fromtimestamp(kept.listed, UTC).isoformat() if kept.listed else None
    head = json.dumps({"version": VERSION, "folder": kept.path, "listed": when})
    rows = [_row(e.name, e.folder, e.size, e.modified, e.tag, e.mark) for e in (kept.entries or {}).values()]
    files = [f"{json.dumps(name)}: {_row(f.size, f.tag, f.modified)}" for name, f in kept.files.items()]
    entries = ["[", ",\n".join(rows), "]"] if kept.entries is not None else ["null"]
    return [f'{head[:-1]}, "entries":', *entries, ', "files": {', ",\n".join(files), "}}"]


def _row(*values: object) -> str:
    return json.dumps([value.isoformat() if isinstance(value, datetime) else value for value in values])
