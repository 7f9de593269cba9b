"""Drive's files -> entries: what Drive says of a file, and the name that it has in its folder here.

A folder of Drive may hold several files of one name, and names with "/" in them; a path must lead to one file. So
"/" is shown as U+FF0F, and of twins all but the first (by id) get " (2)", " (3)", ... before their extension, passing
over names that are taken. Documents of Google's have no bytes: they are shown as what they are exported as.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeGuard

from playhead.blob import identity
from playhead.errors import Damaged
from playhead.tree import Entry

GOOGLE = "application/vnd.google-apps."
FOLDER, SHORTCUT = f"{GOOGLE}folder", f"{GOOGLE}shortcut"
_OFFICE = "application/vnd.openxmlformats-officedocument."
EXPORTS: Mapping[str, tuple[str, str]] = {  # what is exported as what, with which extension; the others have no bytes
    f"{GOOGLE}document": (f"{_OFFICE}wordprocessingml.document", ".docx"),
    f"{GOOGLE}spreadsheet": (f"{_OFFICE}spreadsheetml.sheet", ".xlsx"),
    f"{GOOGLE}presentation": (f"{_OFFICE}presentationml.presentation", ".pptx"),
    f"{GOOGLE}drawing": ("image/svg+xml", ".svg"),
    f"{GOOGLE}script": (f"{GOOGLE}script+json", ".json"),
}
FIELDS = (
    "id,name,size,md5Checksum,sha256Checksum,createdTime,modifiedTime,mimeType,parents,shortcutDetails,resourceKey,"
    "capabilities/canDownload,headRevisionId,trashed,driveId,version"
)
_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")
_KEYS = re.compile(r"[A-Za-z0-9_-]{1,100}")
_HEX = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Item:
    """One file or folder as Drive tells of it. `target` is what a shortcut leads to, `key` a resource key.

    `revision` tells versions apart, of this login's; `drive` is the shared drive that it lies in.
    """

    id: str
    name: str
    type: str
    size: int | None = None
    hash: str | None = None  # "sha256:HEX" or "md5:HEX"
    revision: str | None = None
    created: str | None = None
    modified: str | None = None
    parents: tuple[str, ...] = ()
    target: str | None = None
    key: str | None = field(default=None, repr=False)
    drive: str | None = None
    download: bool = True

    @property
    def folder(self) -> bool:
        return self.type == FOLDER

    @property
    def export(self) -> tuple[str, str] | None:
        """The media type and extension that a document is exported as."""
        return EXPORTS.get(self.type)

    @property
    def shown(self) -> bool:
        """Is it a folder, or has it bytes? A shortcut has none, until it is known what it leads to."""
        return self.folder or self.export is not None or not self.type.startswith(GOOGLE)

    @property
    def place(self) -> str:
        """The id by which it is asked for."""
        return self.target or self.id

    @property
    def when(self) -> datetime | None:
        try:
            when = datetime.fromisoformat((self.modified or "").replace("Z", "+00:00"))
            return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            return None

    @property
    def tag(self) -> str | None:
        """By the hash of the content, which is the same wherever it lies; else by the revision of this file.

        None for a document: each export of it may have other bytes.
        """
        if self.hash:
            return f"h:{self.hash}"
        return None if self.export else identity("v", "gdrive", self.place, self.revision)

    def entry(self, name: str, export: tuple[int | None, str | None] = (None, None)) -> Entry:
        """As it is called here; `export`: the size and tag of a document's export, where it was made."""
        if self.folder:
            return Entry(name, folder=True)
        size, tag = export if self.export else (self.size, self.tag)
        mark = f"{self.size} {self.hash or self.revision} {self.modified}"
        return Entry(name, False, size, self.when, tag, mark)


def item(found: Any, by: str = "") -> Item | None:
    """What Drive's JSON says, to the login that is known `by` this; None where it is in the trash.

    Raises Damaged where it is not what Drive documents.
    """
    if not isinstance(found, dict):
        raise Damaged("Google tells of a file in a way that it does not document")
    if found.get("trashed") is True:
        return None
    place, name, kind = found.get("id"), _text(found, "name"), _text(found, "mimeType")
    if not is_id(place) or name is None or kind is None:
        raise Damaged("Google tells of a file without its id, name or type")
    document, capabilities = kind.startswith(GOOGLE), found.get("capabilities")
    shortcut = found.get("shortcutDetails") if kind == SHORTCUT else None
    target = shortcut.get("targetId") if isinstance(shortcut, dict) else None
    key = shortcut.get("targetResourceKey") if isinstance(shortcut, dict) else found.get("resourceKey")
    version = _text(found, "version" if document else "headRevisionId")
    return Item(
        id=place,
        name=name,
        type=kind,
        size=None if document else _size(_text(found, "size")),
        hash=_hash(found),
        revision=f"{by} {version}" if version else None,
        created=_text(found, "createdTime"),
        modified=_text(found, "modifiedTime"),
        parents=_ids(found.get("parents")),
        target=target if is_id(target) else None,
        key=key if isinstance(key, str) and _KEYS.fullmatch(key) else None,
        drive=_text(found, "driveId"),
        download=not (isinstance(capabilities, dict) and capabilities.get("canDownload") is False),
    )


def through(shortcut: Item, target: Item) -> Item:
    """A shortcut with what it leads to: its own name and folder, the other's bytes."""
    return replace(
        target,
        id=shortcut.id,
        name=shortcut.name,
        parents=shortcut.parents,
        target=target.id,
        key=shortcut.key or target.key,
    )


def is_id(text: object) -> TypeGuard[str]:
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def _text(found: Mapping[str, Any], name: str) -> str | None:
    value = found.get(name)
    if value is not None and not isinstance(value, str):
        raise Damaged(f"Google tells of a file whose {name} is no text")
    return value


def _ids(found: object) -> tuple[str, ...]:
    return tuple(each for each in found if is_id(each)) if isinstance(found, list) else ()


def _size(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None


def _hash(found: Mapping[str, Any]) -> str | None:
    for name in ("sha256", "md5"):
        value = _text(found, f"{name}Checksum")
        if value and _HEX.fullmatch(value):
            return f"{name}:{value}"
    return None


# ── names ──


def named(items: Iterable[Item]) -> dict[str, Item]:
    """What is in a folder by the names that it has here."""
    shown = [(_shown(each), each) for each in sorted(items, key=lambda each: each.id) if each.shown]
    taken = {name for name, _ in shown}
    names: dict[str, Item] = {}
    numbers: dict[str, int] = {}  # name -> the last one that was tried for it
    for name, each in shown:
        names[_twin(name, taken, numbers, each.folder) if name in names else name] = each
    return names


def own(name: str) -> bool:
    """Has a file of this name in Drive the same name here?"""
    return _shown(Item("", name, "")) == name


def alone(name: str) -> bool:
    """Is this the name here of files of this very name alone, and of none that is called otherwise in Drive?"""
    return own(name) and name != "_" and not _REPLACED & set(name) and not name.lower().endswith(_EXTENSIONS)


_REPLACED = frozenset("\uff0f\u2400\uff0e\uff5b?")
_EXTENSIONS = tuple(extension for _, extension in EXPORTS.values())


def _shown(each: Item) -> str:
    name = each.name.replace("/", "\uff0f").replace("\0", "\u2400")
    name = name.encode("utf-8", "replace").decode()  # JSON can hold half a character
    extension = each.export[1] if each.export else ""
    if extension and not name.lower().endswith(extension):
        name += extension
    if _BRACED.fullmatch(name):  # as a path, it would be an id
        return "\uff5b" + name[1:]
    return name.replace(".", "\uff0e") if name in (".", "..") else name or "_"


def _twin(name: str, taken: set[str], numbers: dict[str, int], folder: bool) -> str:
    stem, dot, extension = ("", "", "") if folder else name.rpartition(".")
    if not stem:
        stem, dot, extension = name, "", ""
    while True:
        numbers[name] = numbers.get(name, 1) + 1
        if (other := f"{stem} ({numbers[name]}){dot}{extension}") not in taken:
            taken.add(other)
            return other


_PASTED = re.compile(
    r"https://(?:drive|docs)\.google\.com/(?:[^?#]*?/)?(?:file|document|spreadsheets|presentation|drawings)"
    r"(?:/u/[0-9]+)?/d/(?P<file>[A-Za-z0-9_-]{10,200})(?:[/?#]|$)"
    r"|https://drive\.google\.com/(?:[^?#]*?/)?folders/(?P<folder>[A-Za-z0-9_-]{10,200})(?:[/?#]|$)"
    r"|https://(?:(?:drive|docs)\.google\.com/(?:[^?#]*?/)?(?:open|uc|folderview)"
    r"|drive\.usercontent\.google\.com/(?:download|uc))\?(?:[^#]*&)?id=(?P<id>[A-Za-z0-9_-]{10,200})(?:[&#]|$)"
)
_KEY = re.compile(r"[?&]resourcekey=([A-Za-z0-9_-]{1,100})(?:[&#]|$)")
_BRACED = re.compile(r"\{([A-Za-z0-9_-]{10,200})(?:!([A-Za-z0-9_-]{1,100}))?\}")


def pasted(url: str) -> str | None:
    """A link as Drive's pages show it -> the path that leads there: "{ID}", or "{ID!RESOURCEKEY}"."""
    if not (match := _PASTED.match(url)):
        return None
    key = _KEY.search(url)
    return f"{{{match['file'] or match['folder'] or match['id']}{'!' + key[1] if key else ''}}}"


def braced(name: str) -> tuple[str, str | None] | None:
    """The id and resource key that the first name of a path gives, if it gives one."""
    match = _BRACED.fullmatch(name)
    return (match[1], match[2]) if match else None


def unkeyed(path: str) -> str:
    """A path as it may be told: without a resource key."""
    return re.sub(r"^(\{[A-Za-z0-9_-]+)![A-Za-z0-9_-]+\}", r"\1}", path)
