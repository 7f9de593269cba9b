"""What a fake Google Drive answers to those who only look: files, bytes, listings, changes."""

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from . import drive_query as asked_for
from .drive_faults import Answer, Fault, Refusal, Seen, said
from .drive_files import EXPORTS, FOLDER, Change, Record, crc32c_of
from .drive_query import BRIEF, Meta, Shape, masked

if TYPE_CHECKING:
    from .gdrive import FakeDrive


@dataclass(slots=True)
class Call:
    """One request on its way to an answer."""

    request: web.Request
    seen: Seen
    fault: Fault | None

    @property
    def query(self) -> dict[str, str]:
        return self.seen.query

    def says(self, name: str) -> bool:
        return self.query.get(name) == "true"

    def number(self, name: str, usual: int, most: int) -> int:
        text = self.query.get(name, str(usual))
        if not re.fullmatch(r"\d{1,9}", text) or not 1 <= int(text) <= most:
            raise Refusal("invalid", f"Invalid value '{text}'.", f"parameter:{name}", 400)
        return int(text)

    def told(self, thing: Meta, shape: Shape, usual: str, status: int = 200) -> Answer:
        """`thing` as the request's `fields` wants it."""
        return said(masked(thing, self.query.get("fields") or usual, shape), status)


class Reading:
    def __init__(self, fake: "FakeDrive") -> None:
        self.fake = fake
        self._pages: dict[str, tuple[object, list[str], int]] = {}  # page token -> what was asked, all ids, where

    # ── reading ──

    def found(self, call: Call, id: str) -> Record:
        """The record of an id that this caller may see, or 404."""
        record = self.fake.records.get(self.fake.root if id == "root" else id)
        if record is None or not self._may_see(call, record):
            raise Refusal("notFound", f"File not found: {id}.")
        return record

    def _may_see(self, call: Call, record: Record) -> bool:
        if "driveId" in record.meta and not (call.says("supportsAllDrives") or call.says("supportsTeamDrives")):
            return call.seen.kind in ("media", "export")  # as rclone relies on
        wanted = record.meta.get("resourceKey")
        shown = call.request.headers.get("X-Goog-Drive-Resource-Keys", "")
        return wanted is None or f"{record.id}/{wanted}" in (pair.strip() for pair in shown.split(","))

    async def get(self, call: Call) -> Answer:
        record = self.found(call, call.request.match_info["id"])
        if call.query.get("alt") == "media":
            return self._media(call, record)
        return call.told(record.meta, asked_for.FILE, BRIEF)

    def _media(self, call: Call, record: Record) -> Answer:
        if record.data is None:
            raise Refusal("fileNotDownloadable")
        if not record.meta["capabilities"]["canDownload"]:
            raise Refusal("cannotDownloadFile")
        if record.abusive and not call.says("acknowledgeAbuse"):
            raise Refusal("cannotDownloadAbusiveFile")
        headers = {
            "Content-Type": record.meta["mimeType"],
            "Content-Disposition": "attachment",
            "Cache-Control": "private, max-age=0, must-revalidate",
            "Server": "UploadServer",
        }
        if self.fake.crc_headers and (crc := crc32c_of(record)):
            headers["X-Goog-Hash"] = f"crc32c={crc}"
        size = len(record.data)
        whole = call.fault is not None and call.fault.what == "whole"
        span = None if whole else _span(call.seen.range, size)
        if span is None:
            return Answer(200, record.data, headers)
        if span[0] >= span[1]:
            raise Refusal("requestedRangeNotSatisfiable", headers={"Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{size}"
        return Answer(206, memoryview(record.data)[slice(*span)], headers)

    async def export(self, call: Call) -> Answer:
        record = self.found(call, call.request.match_info.get("id") or call.query.get("id", ""))
        kind = call.query.get("mimeType") or call.query.get("exportFormat", "")
        if not record.exports:
            raise Refusal("fileNotExportable")
        if kind not in record.exports:
            raise Refusal("badRequest", "The requested conversion is not supported.", "parameter:convertTo")
        return Answer(200, record.exports[kind], {"Content-Type": kind, "Server": "ESF"}, chunked=True)

    # ── listing ──

    async def listed(self, call: Call) -> Answer:
        if (token := call.query.get("pageToken")) is not None:
            asked, ids, at = self._pages.get(token, (None, [], 0))
            if asked != _asked(call):
                raise Refusal("invalid", "Invalid Value", "parameter:pageToken")
        else:
            ids, at = self._matching(call), 0
        size = call.number("pageSize", 100, 1000)
        end = min(len(ids), at + min(size, self.fake.page_limit or size))
        if self.fake.empty_first and token is None:
            end = 0
        page = [self.fake.records[id].meta for id in ids[at:end] if id in self.fake.records]
        told: Meta = {"kind": "drive#fileList", "incompleteSearch": self.fake.incomplete, "files": page}
        if end < len(ids):
            told["nextPageToken"] = "~!!~" + secrets.token_urlsafe(12)
            self._pages[told["nextPageToken"]] = (_asked(call), ids, end)
        return call.told(told, asked_for.FILE_LIST, f"kind,nextPageToken,incompleteSearch,files({BRIEF})")

    def _matching(self, call: Call) -> list[str]:
        """The ids of the files that are meant, in order: newest first, where none is asked for."""
        query = asked_for.parsed(call.query.get("q", ""), self.fake.root)
        shown = self._corpus(call)
        if query.parents is None:
            ids = list(self.fake.records)
        else:
            for parent in query.parents:
                if parent not in self.fake.records or not self._may_see(call, self.fake.records[parent]):
                    raise Refusal("notFound", "File not found: .")
            ids = [id for parent in query.parents for id in self.fake.children.get(parent, {})]
            ids = list(dict.fromkeys(ids))
        metas = [meta for id in reversed(ids) if shown(meta := self.fake.records[id].meta) and query.test(meta)]
        for key in reversed([key for key in call.query.get("orderBy", "").split(",") if key]):
            metas.sort(key=_order(key.split()[0]), reverse=key.endswith(" desc"))
        return [meta["id"] for meta in metas]

    def _corpus(self, call: Call) -> Callable[[Meta], bool]:
        drive = call.query.get("driveId") or call.query.get("teamDriveId")
        corpora = call.query.get("corpora", "drive" if drive else "user")
        include = call.says("includeItemsFromAllDrives") or call.says("includeTeamDriveItems")
        every = include and (call.says("supportsAllDrives") or call.says("supportsTeamDrives"))
        if corpora in ("drive", "allDrives") and not every:
            raise Refusal("badRequest", "The includeItemsFromAllDrives parameter must be set to true.")
        if corpora == "drive" and drive not in self.fake.drives:
            raise Refusal("notFound", f"Shared drive not found: {drive}", "parameter:driveId")
        roots = {self.fake.root, *self.fake.drives}
        if corpora == "drive":
            return lambda meta: meta.get("driveId") == drive and meta["id"] not in roots
        return lambda meta: (every or "driveId" not in meta) and meta["id"] not in roots

    # ── the rest that can be read ──

    async def about(self, call: Call) -> Answer:
        if not call.query.get("fields"):
            raise Refusal("required", "The 'fields' parameter is required for this method.", "parameter:fields", 400)
        used = sum(len(record.data or b"") for record in self.fake.records.values())
        user = {"kind": "drive#user", "displayName": "Ann", "me": True, "emailAddress": self.fake.address}
        quota = {"limit": str(15 << 30), "usage": str(used), "usageInDrive": str(used), "usageInDriveTrash": "0"}
        told: Meta = {"kind": "drive#about", "user": user, "storageQuota": quota, "exportFormats": EXPORTS}
        told |= {"importFormats": {}, "maxUploadSize": str(5 << 40), "canCreateDrives": True, "appInstalled": False}
        return call.told(told, asked_for.ABOUT, "*")

    async def drives(self, call: Call) -> Answer:
        call.number("pageSize", 10, 100)
        told = {"kind": "drive#driveList", "drives": list(self.fake.drives.values())}
        return call.told(told, asked_for.DRIVE_LIST, "kind,nextPageToken,drives(kind,id,name)")

    async def drive(self, call: Call) -> Answer:
        id = call.request.match_info["id"]
        if id not in self.fake.drives:
            raise Refusal("notFound", f"Shared drive not found: {id}", "parameter:driveId")
        return call.told(self.fake.drives[id], asked_for.DRIVE, "kind,id,name")

    # ── changes ──

    async def start(self, call: Call) -> Answer:
        told = {"kind": "drive#startPageToken", "startPageToken": str(self.fake.next_change)}
        return call.told(told, asked_for.START, "*")

    async def changes(self, call: Call) -> Answer:
        """The last change of each file since a token. Tokens are numbers in the feed, and never expire."""
        token = call.query.get("pageToken", "")
        if not re.fullmatch(r"\d{1,18}", token) or not 1 <= int(token) <= self.fake.next_change:
            raise Refusal("invalid", "Invalid Value", "parameter:pageToken")
        size = call.number("pageSize", 100, 1000)
        size = min(size, self.fake.page_limit or size)
        shown = self._feed_shown(call)
        due = [(id, one) for id, one in self.fake.feed.items() if one.number >= int(token) and shown(id, one)]
        told: Meta = {"kind": "drive#changeList", "changes": [self._change(id, one) for id, one in due[:size]]}
        if len(due) > size:
            told["nextPageToken"] = str(due[size][1].number)
        else:
            told["newStartPageToken"] = str(self.fake.next_change)
        usual = "kind,nextPageToken,newStartPageToken,changes(kind,type,changeType,time,removed,fileId,driveId"
        return call.told(told, asked_for.CHANGE_LIST, f"{usual},file({BRIEF}))")

    def _feed_shown(self, call: Call) -> Callable[[str, Change], bool]:
        drive, removed = call.query.get("driveId"), call.query.get("includeRemoved") != "false"
        every = call.says("includeItemsFromAllDrives") and call.says("supportsAllDrives")
        if drive and drive not in self.fake.drives:
            raise Refusal("notFound", f"Shared drive not found: {drive}", "parameter:driveId")

        def shown(id: str, change: Change) -> bool:
            if id == self.fake.root or (change.removed and not removed):
                return False
            return change.drive == drive if drive else (every or change.drive is None)

        return shown

    def _change(self, id: str, change: Change) -> Meta:
        told: Meta = {"kind": "drive#change", "time": change.time, "removed": change.removed}
        if id in self.fake.drives:
            return told | {"changeType": "drive", "type": "drive", "driveId": id, "drive": self.fake.drives[id]}
        told |= {"changeType": "file", "type": "file", "fileId": id}
        if not change.removed:
            told["file"] = self.fake.records[id].meta
        return told


def _asked(call: Call) -> object:
    """What makes a page token good for another request too."""
    return [call.query.get(name) for name in ("q", "corpora", "driveId", "orderBy", "includeItemsFromAllDrives")]


def _order(key: str) -> Callable[[Meta], Any]:
    if key == "folder":
        return lambda meta: meta["mimeType"] != FOLDER
    if key == "recency":
        key = "modifiedTime"
    if key == "name_natural":
        return lambda meta: [part.zfill(20) if part.isdigit() else part for part in re.split(r"(\d+)", meta["name"])]
    if key not in ("name", "modifiedTime", "createdTime", "viewedByMeTime", "sharedWithMeTime", "quotaBytesUsed"):
        raise Refusal("invalid", "Invalid Value", "parameter:orderBy")
    return lambda meta: meta.get(key, "").casefold()


def _span(header: str | None, size: int) -> tuple[int, int] | None:
    """Half open; empty where it lies behind the end; None for the whole, also where several are asked for."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", (header or "").strip())
    if not match or match[0].endswith("=-"):
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size if int(last) else 0
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1 if last else size)
