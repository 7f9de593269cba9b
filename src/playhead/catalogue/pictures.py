"""bytes -> Picture: where an embedded picture lies in its file, and what it is. No picture is read.

What a tag says of a picture's type is a claim; its first bytes tell. Headers of ID3's APIC, of FLAC's pictures (which
Ogg and Matroska's friends carry as text) and of ASF's are read from a short beginning.
"""

import base64
import binascii
from dataclasses import dataclass

from playhead import media

HEADER = 1024  # bytes that a picture's header and its own first bytes are looked for in
SNIFFED = 32
COUNT = 32  # pictures of one file, at most

FRONT, OTHER = 3, 0  # of ID3v2's picture types, which all formats use


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture in a file.

    `kind`: ID3v2's picture type (3: front cover). `type`: its media type by its first bytes. [start, start + length)
    are its bytes in the file; `start` is None where they do not lie there in one piece as they are, and `length` is
    then what they take up there. Those are found by `coding`, `place` and `skip`: see `embedded.picture_of`.
    """

    kind: int
    type: str
    start: int | None
    length: int
    coding: str = ""
    place: int = 0
    skip: int = 0


def sniffed(head: bytes) -> str | None:
    """The media type of a picture by its first bytes; None where it is none that we know."""
    if head[4:8] == b"ftyp":
        return {b"avif": "image/avif", b"heic": "image/heic", b"mif1": "image/heic"}.get(head[8:12])
    if head[:4] in (b"II*\0", b"MM\0*"):
        return "image/tiff"
    kind = media.by_head(head)
    return kind if kind.startswith("image/") else None


def placed(
    kind: int, head: bytes, start: int | None, length: int, coding: str = "", place: int = 0, skip: int = 0
) -> list[Picture]:
    """The picture whose first bytes are `head`, as a list; an empty one where it is no picture."""
    found = sniffed(head[:SNIFFED]) if length > 0 else None
    kind = kind if 0 <= kind <= 20 else OTHER
    return [Picture(kind, found, start, length, coding, place, skip)] if found else []


def id3(head: bytes, old: bool) -> tuple[int, int] | None:
    """(picture type, where the picture begins) of an APIC frame's body, of a PIC frame's where it is `old`."""
    mime = 4 if old else head.find(b"\0", 1) + 1
    if mime <= 0 or mime >= len(head):
        return None
    at = mime + 1
    if head[0] not in (1, 2):
        end = head.find(b"\0", at) + 1
        return (head[mime], end) if end > 0 else None
    while at + 2 <= len(head):
        if head[at : at + 2] == b"\0\0":
            return head[mime], at + 2
        at += 2
    return None


def flac(head: bytes) -> tuple[int, int, int] | None:
    """(picture type, where the picture begins, how long it is) of a FLAC picture block's body (RFC 9639, 8.8)."""
    mime = int.from_bytes(head[4:8])
    about = 12 + mime + int.from_bytes(head[8 + mime : 12 + mime])
    if len(head) < about + 20:
        return None
    return int.from_bytes(head[:4]), about + 20, int.from_bytes(head[about + 16 : about + 20])


def asf(head: bytes) -> tuple[int, int, int] | None:
    """(picture type, where the picture begins, how long it is) of a WM/Picture value."""
    at = 5
    for _ in range(2):  # media type and description, each ended by a zero
        while head[at : at + 2] not in (b"\0\0", b"", head[at : at + 1]):
            at += 2
        at += 2
    return (head[0], at, int.from_bytes(head[1:5], "little")) if at < len(head) else None


def as_text(head: bytes, size: int, bare: bool, coding: str, place: int, skip: int) -> list[Picture]:
    """The picture of a FLAC picture block, or a `bare` one, written as base64 of `size` bytes that begin so."""
    try:
        data = base64.b64decode(head[: len(head) // 4 * 4])
    except binascii.Error:
        return []
    found = (FRONT, 0, 0) if bare else flac(data)
    return placed(found[0], data[found[1] :], None, size, coding, place, skip) if found else []
