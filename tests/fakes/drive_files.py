"""What is in a fake Google Drive: files by id, the folders they are in, and the feed of changes, in memory.

`folder`, `file`, `doc`, `shortcut`, `drive`, `replace`, `edit`, `trash`, `delete` fill and change it. Each bumps
`version` (and `headRevisionId`, where the content changes) and writes the feed, as Google does: one change a file, of
the folder alone where a folder is trashed with all in it.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import quote

from .drive_query import Meta

APPS = "application/vnd.google-apps."
FOLDER, SHORTCUT, DOC = APPS + "folder", APPS + "shortcut", APPS + "document"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
EXPORTS = {
    DOC: [DOCX, "application/pdf", "text/plain", "text/html", "application/vnd.oasis.opendocument.text"],
    APPS + "spreadsheet": [XLSX, "application/pdf", "text/csv"],
    APPS + "presentation": [PPTX, "application/pdf", "text/plain"],
    APPS + "drawing": ["image/svg+xml", "image/png", "application/pdf"],
}
EXPORT = "/feeds/download/documents/export/Export"  # the path of an exportLink
BEGIN = datetime(2026, 1, 3, 10, tzinfo=UTC)
CRC_LIMIT = 1 << 20  # larger content gets no crc32c: it is computed in Python
_MAY = "canDownload canEdit canCopy canDelete canRename canTrash canListChildren canAddChildren canModifyContent"


@dataclass(slots=True, eq=False)
class Record:
    """A file, folder, shortcut or document: all that may be told of it, and its bytes where it has some."""

    meta: Meta
    data: bytes | None = None
    exports: dict[str, bytes] = field(default_factory=dict)
    abusive: bool = False
    crc32c: str | None = None

    @property
    def id(self) -> str:
        return str(self.meta["id"])


@dataclass(frozen=True, slots=True)
class Change:
    number: int
    time: str
    removed: bool
    drive: str | None


class Files:
    def __init__(self, address: str = "ann@example.com") -> None:
        self.address = address
        self.records: dict[str, Record] = {}
        self.drives: dict[str, Meta] = {}
        self.children: dict[str, dict[str, None]] = {}
        self.feed: dict[str, Change] = {}  # file id -> its last change, oldest first
        self.next_change = 1
        self._made = 0
        self._ticks = 0
        self.root = self._id("0A", 19)
        self._keep(Record({"id": self.root, "name": "My Drive", "mimeType": FOLDER, "ownedByMe": True}))

    # ── to fill it ──

    def folder(self, path: str | Sequence[str], name: str | None = None, **fields: Any) -> str:
        """The id of the folder at `path` ("Music/AC", or names one by one), made as far as it is missing.

        `path` may also be the id of a folder. With `name`, always a new folder of that name in it: so there may be
        twins, and names with "/".
        """
        at = self._place(path)
        if name is None:
            return at
        return self.new(name, FOLDER, at, fields).id

    def file(self, where: str | Sequence[str] | None, name: str, data: bytes, **fields: Any) -> str:
        """A new file in a folder (its id or path; None: in none, as what others share is); its id.

        `fields` are those of the API; None takes one away. Besides: `abusive`, `shared` (with me, by another).
        """
        mime = fields.pop("mimeType", "application/octet-stream")
        record = self.new(name, mime, self._place(where), fields, data=bytes(data))
        return record.id

    def doc(
        self,
        where: str | Sequence[str] | None,
        name: str,
        exports: Mapping[str, bytes] | None = None,
        *,
        mimeType: str = DOC,
        **fields: Any,
    ) -> str:
        """A new document of Google's, which has no bytes but can be exported: `exports` is media type -> bytes."""
        made = dict(exports or {kind: f"{name} as {kind}".encode() for kind in EXPORTS[mimeType]})
        return self.new(name, mimeType, self._place(where), {"size": "1024", **fields}, exports=made).id

    def shortcut(self, where: str | Sequence[str] | None, name: str, target: str, **fields: Any) -> str:
        """A new shortcut to the file or folder of the id `target`, which need not exist."""
        record = self.records.get(target)
        details = {"targetId": target, "targetMimeType": record.meta["mimeType"] if record else "text/plain"}
        if record and "resourceKey" in record.meta:
            details["targetResourceKey"] = record.meta["resourceKey"]
        fields = {"shortcutDetails": details, "size": "0", **fields}
        return self.new(name, SHORTCUT, self._place(where), fields).id

    def drive(self, name: str) -> str:
        """A new shared drive; its id, which is also that of its topmost folder."""
        made = self._id("0A", 19)
        self.drives[made] = {"kind": "drive#drive", "id": made, "name": name, "createdTime": self.now()}
        self._keep(Record({"id": made, "name": name, "mimeType": FOLDER, "driveId": made}))
        return made

    # ── to change it ──

    def replace(self, id: str, data: bytes, **fields: Any) -> None:
        """New content, hence a new revision."""
        record = self.records[id]
        record.data = bytes(data)
        self._hashed(record)
        record.meta["modifiedTime"] = self.now()
        self.edit(id, **fields)

    def edit(self, id: str, **fields: Any) -> None:
        """New values of fields of the API; None takes one away."""
        record = self.records[id]
        before = record.meta.get("parents", [])
        self._set(record, fields)
        for parent in before:
            self.children.get(parent, {}).pop(id, None)
        self._keep(record)

    def trash(self, id: str, trashed: bool = True) -> None:
        """Into the bin, with all that is in it; or out of it again."""
        self.edit(id, trashed=trashed or None, explicitlyTrashed=trashed or None)
        for inner in self._below(id):
            if not inner.meta.get("explicitlyTrashed"):
                self._set(inner, {"trashed": trashed or None})

    def delete(self, id: str) -> None:
        """Away for good, with all that is in it."""
        gone = [self.records[id], *self._below(id)]
        self._changed(gone[0], removed=True)
        for record in gone:
            del self.records[record.id]
            self.children.pop(record.id, None)
            for parent in record.meta.get("parents", []):
                self.children.get(parent, {}).pop(record.id, None)

    # ── to look at it ──

    def meta(self, id: str) -> Meta:
        return self.records[id].meta

    def named(self, path: str) -> str:
        """The id of what is at a path; KeyError where nothing is. The oldest of twins."""
        at = self.root
        for part in filter(None, path.split("/")):
            at = next((id for id in self.children.get(at, {}) if self.meta(id)["name"] == part), "")
            if not at:
                raise KeyError(path)
        return at

    def now(self) -> str:
        """A clock that goes on by a second at each look."""
        self._ticks += 1
        return (BEGIN + timedelta(seconds=self._ticks)).strftime("%Y-%m-%dT%H:%M:%S.000Z")

    # ── inside ──

    def _place(self, where: str | Sequence[str] | None) -> str:
        if where is None:
            return ""
        if isinstance(where, str) and (where in self.records or where == "root"):
            return self.root if where == "root" else where
        at = self.root
        for part in where.split("/") if isinstance(where, str) else where:
            if part:
                found = (id for id in self.children.get(at, {}) if self._is(id, part, FOLDER))
                at = next(found, None) or self.new(part, FOLDER, at, {}).id
        return at

    def _is(self, id: str, name: str, mime: str) -> bool:
        meta = self.meta(id)
        return bool(meta["name"] == name and meta["mimeType"] == mime)

    def new(
        self,
        name: str,
        mime: str,
        parent: str,
        fields: Mapping[str, Any],
        data: bytes | None = None,
        exports: dict[str, bytes] | None = None,
    ) -> Record:
        now, fields = self.now(), dict(fields)
        meta: Meta = {"kind": "drive#file", "id": fields.pop("id", None) or self.new_id(), "name": name}
        meta |= {"mimeType": mime, "createdTime": now, "modifiedTime": now, "ownedByMe": True, "spaces": ["drive"]}
        meta["capabilities"] = dict.fromkeys(_MAY.split(), True)
        if parent:
            meta["parents"] = [parent]
            if drive := self.records[parent].meta.get("driveId"):
                meta |= {"driveId": drive, "teamDriveId": drive, "ownedByMe": False}
        if exports:
            base = f"https://docs.google.com{EXPORT}?id={meta['id']}&exportFormat="
            meta["exportLinks"] = {kind: base + quote(kind, safe="") for kind in exports}
        record = Record(meta, data, exports or {}, bool(fields.pop("abusive", False)))
        if fields.pop("shared", False):
            user = {"kind": "drive#user", "displayName": "Bob", "emailAddress": "bob@example.com"}
            meta |= {"shared": True, "sharedWithMeTime": now, "ownedByMe": False, "sharingUser": user}
        self._hashed(record)
        self._set(record, fields)
        self._keep(record)
        return record

    def _set(self, record: Record, fields: Mapping[str, Any]) -> None:
        for name, value in fields.items():
            if value is None:
                record.meta.pop(name, None)
            elif name == "capabilities":
                record.meta[name] = record.meta[name] | value
            else:
                record.meta[name] = str(value) if name == "size" else value

    def _hashed(self, record: Record) -> None:
        """All that follows from the content."""
        if (data := record.data) is None:
            return
        record.crc32c = None
        for name in ("md5", "sha1", "sha256"):
            record.meta[f"{name}Checksum"] = hashlib.new(name, data, usedforsecurity=False).hexdigest()
        record.meta["size"] = record.meta["quotaBytesUsed"] = str(len(data))
        record.meta["headRevisionId"] = self._id("0B", 49)

    def _keep(self, record: Record) -> None:
        self.records[record.id] = record
        for parent in record.meta.get("parents", []):
            self.children.setdefault(parent, {})[record.id] = None
        for name in ("trashed", "starred", "explicitlyTrashed"):
            record.meta.setdefault(name, False)
        record.meta["version"] = str(int(record.meta.get("version", 0)) + 1)
        self._changed(record)

    def _changed(self, record: Record, removed: bool = False) -> None:
        self.feed.pop(record.id, None)
        self.feed[record.id] = Change(self.next_change, self.now(), removed, record.meta.get("driveId"))
        self.next_change += 1

    def _below(self, id: str) -> Iterator[Record]:
        for inner in list(self.children.get(id, {})):
            yield self.records[inner]
            yield from self._below(inner)

    def new_id(self) -> str:
        return self._id("1", 33)

    def _id(self, begin: str, length: int) -> str:
        """Ids look like Google's, and are the same in each run."""
        self._made += 1
        text = base64.urlsafe_b64encode(hashlib.blake2b(str(self._made).encode()).digest()).decode()
        return begin + text[: length - len(begin)]


def crc32c_of(record: Record) -> str | None:
    """X-Goog-Hash's CRC-32C in Base64; None where the content is too large for Python."""
    if record.crc32c is None and record.data is not None and len(record.data) <= CRC_LIMIT:
        record.crc32c = base64.b64encode(crc32c(record.data).to_bytes(4, "big")).decode()
    return record.crc32c


def crc32c(data: bytes) -> int:
    """Castagnoli's, RFC 3720 B.4."""
    table, crc = _table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@cache
def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table
