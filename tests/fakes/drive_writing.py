"""What a fake Google Drive answers to those who change it, without bytes: folders, names, places, the bin, copies."""

import json
from typing import TYPE_CHECKING, Any

from . import drive_query as asked_for
from .drive_faults import Answer, Refusal
from .drive_files import FOLDER, Record
from .drive_query import BRIEF, Meta
from .drive_reading import Call, Reading

if TYPE_CHECKING:
    from .gdrive import FakeDrive

WRITABLE = asked_for.names(
    "id name mimeType parents modifiedTime createdTime description starred trashed appProperties properties"
    " shortcutDetails originalFilename copyRequiresWriterPermission writersCanShare contentHints folderColorRgb"
    " viewedByMeTime kind"
)


class Writing:
    def __init__(self, fake: "FakeDrive") -> None:
        self.fake, self.reading = fake, Reading(fake)

    async def ids(self, call: Call) -> Answer:
        """Ids for files to come: with one, an upload may be sent twice and is done once."""
        made = [self.fake.new_id() for _ in range(call.number("count", 10, 1000))]
        self.fake.generated.update(made)
        return call.told({"kind": "drive#generatedIds", "space": "drive", "ids": made}, asked_for.IDS, "*")

    async def create(self, call: Call) -> Answer:
        meta = metadata(await call.request.read())
        return self.told(call, self.made(call, meta, None))

    async def update(self, call: Call) -> Answer:
        meta = metadata(await call.request.read())
        record = self.reading.found(call, call.request.match_info["id"])
        return self.told(call, self.changed(call, record, meta, None))

    async def delete(self, call: Call) -> Answer:
        record = self.reading.found(call, call.request.match_info["id"])
        self._may(record, "canDelete")
        self.fake.delete(record.id)
        return Answer(204)

    async def empty_trash(self, call: Call) -> Answer:
        for record in list(self.fake.records.values()):
            if record.meta["trashed"] and record.id in self.fake.records:
                self.fake.delete(record.id)
        return Answer(204)

    async def copy(self, call: Call) -> Answer:
        meta = metadata(await call.request.read())
        record = self.reading.found(call, call.request.match_info["id"])
        self._may(record, "canCopy")
        if record.meta["mimeType"] == FOLDER:
            raise Refusal("cannotCopyFile", "This file cannot be copied by the user.")
        kept = {
            name: record.meta[name] for name in ("name", "mimeType", "parents", "modifiedTime") if name in record.meta
        }
        return self.told(call, self.made(call, kept | meta, record.data, dict(record.exports)))

    # ── also for uploads ──

    def told(self, call: Call, record: Record) -> Answer:
        return call.told(record.meta, asked_for.FILE, BRIEF)

    def made(self, call: Call, meta: Meta, data: bytes | None, exports: dict[str, bytes] | None = None) -> Record:
        """A new file of what a client sent. Names may be taken: there will be twins."""
        fields = dict(meta)
        self.checked(call, fields)
        parent = fields.pop("parents", ["root"])[0]
        mime = fields.pop("mimeType", "application/octet-stream")
        if data is None and not mime.startswith("application/vnd.google-apps."):
            data = b""
        return self.fake.new(
            fields.pop("name", "Untitled"), mime, self.reading.found(call, parent).id, fields, data, exports
        )

    def checked(self, call: Call, meta: Meta) -> None:
        """Refuse what Google would, before any byte of content is taken."""
        parents = meta.get("parents", ["root"])
        if not isinstance(parents, list) or len(parents) != 1:
            raise Refusal("badRequest", "A file must have exactly one parent.")
        folder = self.reading.found(call, parents[0])
        if folder.meta["mimeType"] != FOLDER:
            raise Refusal("badRequest", "The specified parent is not a folder.")
        self._may(folder, "canAddChildren")
        if (id := meta.get("id")) is not None:
            if id in self.fake.records:
                raise Refusal("fileIdInUse")
            if id not in self.fake.generated:
                raise Refusal("badRequest", "The provided file ID is not usable.")

    def changed(self, call: Call, record: Record, meta: Meta, data: bytes | None) -> Record:
        """New metadata, and new content where `data` is given."""
        fields: dict[str, Any] = {name: value for name, value in meta.items() if name not in ("id", "kind")}
        self._may(record, "canEdit")
        if "parents" in fields:
            raise Refusal("fieldNotWritable", "The parents field is not directly writable in update requests.")
        parents = [one for one in record.meta.get("parents", []) if one not in self._ids(call, "removeParents")]
        parents += [self.reading.found(call, one).id for one in self._ids(call, "addParents")]
        if len(parents) > 1:
            raise Refusal("cannotAddParent", "Increasing the number of parents is not allowed")
        if parents != record.meta.get("parents", []):
            fields["parents"] = parents
        if "trashed" in fields:
            self.fake.trash(record.id, bool(fields.pop("trashed")))
        if data is not None:
            self.fake.replace(record.id, data, **fields)
        elif fields:
            self.fake.edit(record.id, **fields)
        return record

    def _ids(self, call: Call, name: str) -> list[str]:
        ids = [id for id in call.query.get(name, "").split(",") if id]
        return [self.fake.root if id == "root" else id for id in ids]

    def _may(self, record: Record, what: str) -> None:
        if not record.meta.get("capabilities", {}).get(what, True):
            raise Refusal("insufficientFilePermissions")


def metadata(body: bytes) -> Meta:
    """What a client says of a file; refused where it is no JSON object, or says what nobody may."""
    try:
        meta = json.loads(body or b"{}")
    except ValueError as error:
        raise Refusal("badRequest", "Parse Error") from error
    if not isinstance(meta, dict):
        raise Refusal("badRequest", "Parse Error")
    if meta.keys() - WRITABLE.keys():
        raise Refusal("fieldNotWritable")
    return meta
