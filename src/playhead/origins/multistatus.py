"""The multistatus of a WebDAV server -> what it tells of each resource (RFC 4918, 13). Pure; read as its bytes come.

The XML is a stranger's. expat reads it, and a DOCTYPE is refused before anything in it counts: so there are no entities
but XML's own five, and nothing is fetched. Depth, elements, text and what comes without an end are bounded. A document
that does not end, or is none, is Damaged: a listing is never short.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from playhead.errors import Damaged

LARGEST = 96 << 20  # bytes of a document
DEPTH = 32  # elements within each other
RESOURCES = 250_000
ELEMENTS = 40 * RESOURCES
TEXT = 64 << 10  # bytes of a text that is wanted
TOKEN = 4 << 20  # bytes without a beginning or an end of anything

ASKED = b"<d:resourcetype/><d:getcontentlength/><d:getetag/><d:getlastmodified/>"
SUMS = b'<oc:checksums xmlns:oc="http://owncloud.org/ns"/>'

_RESPONSE = ("DAV: multistatus", "DAV: response")
_PROPSTAT = (*_RESPONSE, "DAV: propstat")
_PROP = (*_PROPSTAT, "DAV: prop")
_TYPE = (*_PROP, "DAV: resourcetype")
_CHECKSUM = (*_PROP, "http://owncloud.org/ns checksums", "http://owncloud.org/ns checksum")
_TEXTS = {
    (*_RESPONSE, "DAV: href"): "href",
    (*_RESPONSE, "DAV: status"): "status",
    (*_PROPSTAT, "DAV: status"): "propstat",
    (*_PROP, "DAV: getcontentlength"): "size",
    (*_PROP, "DAV: getetag"): "etag",
    (*_PROP, "DAV: getlastmodified"): "modified",
    _CHECKSUM: "sums",
}
_NAMES = {path[-1] for path in (*_TEXTS, _RESPONSE, _PROPSTAT, _TYPE, (*_TYPE, "DAV: collection"))}
_STATUS = re.compile(r"\s*HTTP/\S+\s+(\d{3})\b")
_SUM = re.compile(r"\b([A-Za-z0-9]{1,16}):([0-9A-Fa-f]{8,128})\b")


def question(*more: bytes) -> bytes:
    """The body of a PROPFIND: what is wanted of each resource."""
    return b'<?xml version="1.0" encoding="utf-8"?><d:propfind xmlns:d="DAV:"><d:prop>%b</d:prop></d:propfind>' % (
        ASKED + b"".join(more)
    )


@dataclass(slots=True)
class Resource:
    """What is told of one href; `told` has size, etag and modified as texts. `folder` is None where it is not told."""

    href: str
    status: int = 200
    folder: bool | None = None
    told: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int | None:
        text = self.told.get("size", "").strip()
        return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None

    @property
    def sums(self) -> dict[str, str]:
        """Checksums of the bytes: algorithm in small letters -> hexadecimal."""
        return {name.lower(): value.lower() for name, value in _SUM.findall(self.told.get("sums", ""))}


class Multistatus:
    """Takes a document by `feed`, then `ended` gives what it says. `name` is whose it is, for messages."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.fed = self.heard = self.elements = 0  # bytes; bytes when something was last heard; elements
        self.path: list[str] = []
        self.text: list[str] | None = None
        self.length = 0
        self.resources: list[Resource] = []
        self.hrefs: list[str] = []
        self.one = Resource("")
        self.told: dict[str, str] = {}  # of a propstat whose status has not come yet
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.StartDoctypeDeclHandler = self._refused

    def feed(self, data: bytes) -> None:
        """More of the document (blocks for about 20 ms a MB). Raises Damaged."""
        if not self.fed:
            data = data.lstrip()  # some servers begin with an empty line
        self.fed += len(data)
        if self.fed > LARGEST:
            raise self._damaged(f"a listing of more than {LARGEST >> 20} MiB")
        self._parsed(lambda: self.parser.Parse(data, False))
        if self.fed - self.heard > TOKEN:
            raise self._damaged("XML that goes on without an end")

    def ended(self) -> list[Resource]:
        """What it said. Raises Damaged where it is not whole."""
        self._parsed(lambda: self.parser.Parse(b"", True))
        return self.resources

    def _parsed(self, parse: Callable[[], Any]) -> None:
        try:
            parse()
        except (expat.ExpatError, ValueError, LookupError) as error:
            raise self._damaged("XML that is broken, or not whole") from error

    def _damaged(self, what: str) -> Damaged:
        return Damaged(f"{self.name} answers with {what}")

    # ── what expat calls ──

    def _refused(self, *_: object) -> None:
        raise self._damaged("XML that defines entities")

    def _start(self, name: str, _: object) -> None:
        self.heard, self.elements = self.fed, self.elements + 1
        if not self.path and name != "DAV: multistatus":
            raise self._damaged("something else than a listing")
        if len(self.path) >= DEPTH or self.elements > ELEMENTS:
            raise self._damaged("XML that no listing is made of")
        self.path.append(name)
        if name not in _NAMES:
            return
        path = tuple(self.path)
        if path in _TEXTS:
            self.text, self.length = [], 0
        elif path == _RESPONSE:
            self.one, self.hrefs = Resource(""), []
        elif path == _PROPSTAT:
            self.told = {}
        elif path == _TYPE:
            self.told["folder"] = ""
        elif path == (*_TYPE, "DAV: collection"):
            self.told["folder"] = "yes"

    def _text(self, text: str) -> None:
        self.heard = self.fed
        if self.text is not None:
            self.text.append(text)
            self.length += len(text)
            if self.length > TEXT:
                raise self._damaged("a text that is too long")

    def _end(self, name: str) -> None:
        self.heard = self.fed
        path = tuple(self.path) if name in _NAMES else ()
        self.path.pop()
        if self.text is not None and path in _TEXTS:
            self._took(_TEXTS[path], "".join(self.text).strip())
            self.text = None
        elif path == _PROPSTAT:
            self._propstat()
        elif path == _RESPONSE:
            self._response()

    def _took(self, kind: str, text: str) -> None:
        if kind == "href":
            self.hrefs.append(text)
        elif kind == "status":
            self.one.status = _status(text)
        elif kind == "sums":
            self.told["sums"] = f"{self.told.get('sums', '')} {text}"[:TEXT]
        else:
            self.told[kind] = text

    def _propstat(self) -> None:
        """What a propstat tells counts only where its status says that it is so."""
        if 200 <= _status(self.told.pop("propstat", "HTTP/1.1 200 OK")) < 300:
            folder = self.told.pop("folder", None)
            if folder is not None:
                self.one.folder = bool(folder)
            self.one.told.update(self.told)

    def _response(self) -> None:
        for href in self.hrefs:
            if len(self.resources) >= RESOURCES:
                raise self._damaged(f"more than {RESOURCES:,} names")
            self.resources.append(Resource(href, self.one.status, self.one.folder, self.one.told))


def _status(text: str) -> int:
    match = _STATUS.match(text)
    return int(match[1]) if match else 500
