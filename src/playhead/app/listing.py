"""Entries of a folder -> what is shown of them: in order, page by page, as JSON."""

from datetime import UTC
from typing import Any

from playhead.transforms.collect import natural
from playhead.tree import Entry

PAGE = 10_000  # entries of a folder in one answer


def order(entry: Entry) -> tuple[Any, ...]:
    """Folders first; then as people count: 2 before 10."""
    return (not entry.folder, *natural(entry))


def paged(entries: list[Entry], after: str) -> tuple[list[Entry], str | None]:
    """One page of a folder, and what to ask for `after` it ("name/" for a folder); None: that was all."""
    entries.sort(key=order)
    if after:
        border = order(Entry(after.removesuffix("/"), folder=after.endswith("/")))
        entries = [entry for entry in entries if order(entry) > border]
    shown = entries[:PAGE]
    return shown, shown[-1].name + "/" * shown[-1].folder if len(entries) > PAGE else None


def as_json(entry: Entry) -> dict[str, Any]:
    """An entry as clients get it."""
    when = entry.modified.astimezone(UTC).isoformat(timespec="seconds") if entry.modified else None
    return {
        "name": entry.name,
        "folder": entry.folder,
        "size": entry.size,
        "modified": when.replace("+00:00", "Z") if when else None,
        "tag": entry.tag,
    }
