"""View -> Found: ID3 tags, version 1 and 2 (2.2 to 2.4), wherever in a file they stand.

The frames are walked by their headers, and only those that can matter are read: pictures are noted by their place, and
what is private, huge or compressed beyond reason is stepped over. What is left is a small tag, and mutagen reads that.
Where a whole tag is unsynchronised (2.3) no frame's place follows from its length, so only its beginning is read.
"""

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from playhead.catalogue import pictures
from playhead.catalogue.found import TEXT, Found, Lyrics, Value, squashed
from playhead.catalogue.view import View
from playhead.errors import Damaged

_TAGS = 8  # tags in a row, at most
_FRAMES = 1024  # of one tag, at most
_VALUES = 256  # of one frame, at most
_SYNCED = 32 * 1024  # bytes of a frame of synchronised lyrics
_BEGINNING = 256 * 1024  # of an unsynchronised tag

_PICTURES = (b"APIC", b"PIC")
_WANTED = {b"COM", b"ULT", b"SLT", b"UFI", b"IPL", b"GP1", b"MVN", b"RVA"}
_WANTED |= {b"COMM", b"USLT", b"SYLT", b"UFID", b"IPLS", b"GRP1", b"MVNM", b"RVA2", b"PIC", b"APIC"}

_NAMES = {
    "TIT1": "grouping",
    "GRP1": "grouping",
    "TIT2": "title",
    "TIT3": "subtitle",
    "TALB": "album",
    "TPE1": "artist",
    "TPE2": "album_artist",
    "TPE3": "conductor",
    "TPE4": "remixer",
    "TCOM": "composer",
    "TEXT": "lyricist",
    "TCON": "genre",
    "TMOO": "mood",
    "TRCK": "track",
    "TPOS": "disc",
    "TSST": "disc_title",
    "TDRC": "date",
    "TDOR": "original_date",
    "TDRL": "release_date",
    "TCMP": "compilation",
    "TBPM": "bpm",
    "TSRC": "isrc",
    "TPUB": "label",
    "TCOP": "copyright",
    "TLAN": "language",
    "TSOT": "title_sort",
    "TSOA": "album_sort",
    "TSOP": "artist_sort",
    "TSO2": "album_artist_sort",
    "TSOC": "composer_sort",
    "MVNM": "movement",
}
_NOT_COMMENTS = ("itun", "id3v1", "songs-db", "mp3gain", "cddb")  # how descriptions of machines' comments begin


def leading(view: View, at: int) -> tuple[list[Found], int]:
    """The tags that begin at `at`, and where they end."""
    found = []
    for _ in range(_TAGS):
        tag = read(view, at)
        if tag is None:
            break
        found.append(tag[0])
        at = tag[1]
    return found, at


def read(view: View, at: int, limit: int | None = None) -> tuple[Found, int] | None:
    """The tag (version 2) that begins at `at` and where it ends; None where there is none."""
    head = view.read(at, at + 10)
    if len(head) < 10 or head[:3] != b"ID3" or head[3] not in (2, 3, 4) or max(head[6:10]) > 127:
        return None
    version, flags = head[3], head[5]
    stop = at + 10 + _syncsafe(head[6:10])
    end = stop + (10 if version == 4 and flags & 0x10 else 0)
    stop = min(stop, view.size, limit or view.size)
    whole = bool(flags & 0x80)
    if whole and version < 4:
        tag = _Tag(_unsynchronised(view.read(at + 10, min(stop, at + 10 + _BEGINNING))), version, flags)
        tag.at = at + 10
    else:
        tag = _Tag(view, version, flags, at + 10, stop)
    return tag.found(), end


def appended(view: View, stop: int) -> tuple[Found, int] | None:
    """The tag whose footer ends at `stop`, and where it begins; None where there is none."""
    foot = view.read(max(0, stop - 10), stop)
    if foot[:3] != b"3DI" or len(foot) < 10 or foot[3] != 4 or max(foot[6:10]) > 127:
        return None
    at = stop - 20 - _syncsafe(foot[6:10])
    tag = read(view, at) if at >= 0 else None
    return (tag[0], at) if tag else None


def _syncsafe(data: bytes) -> int:
    value = 0
    for byte in data:
        value = value << 7 | byte & 0x7F
    return value


def _unsynchronised(data: bytes) -> bytes:
    return data.replace(b"\xff\x00", b"\xff")


class _Tag:
    """The frames of a tag: in a file, or in memory once it was unsynchronised (their places are then unknown)."""

    def __init__(self, source: View | bytes, version: int, flags: int, start: int = 0, stop: int | None = None) -> None:
        self.view = source if isinstance(source, View) else View(len(source))
        self.known = isinstance(source, View)
        if isinstance(source, bytes):
            self.view.put(0, source)
        self.version, self.flags = version, flags
        self.start, self.stop = start, self.view.size if stop is None else stop
        self.header = 6 if version == 2 else 10
        self.at = 0  # where in the file what is in memory begins

    def found(self) -> Found:
        found, kept = Found(), []
        for name, flags, start, stop in self._frames():
            if name in _PICTURES:
                self._picture(found, flags, start, stop)
            elif (name in _WANTED or name[:1] == b"T") and stop - start <= (_SYNCED if name[:1] == b"S" else TEXT):
                data, flags = self._opened(self.view.read(start, stop), flags)
                kept.append(self._frame(name, data, flags))
        _decode(found, b"".join(kept), self.version, self.flags & 0x80)
        return found

    def _frames(self) -> Iterator[tuple[bytes, int, int, int]]:
        """(name, flags, start, stop) of what is in each frame."""
        at = self._begin()
        for _ in range(_FRAMES):
            head = self.view.read(at, min(at + self.header, self.stop))
            name = head[: 3 if self.version == 2 else 4]
            if len(head) < self.header or not _is_name(name):
                return
            start = at + self.header
            at = start + self._size(head, start)
            if at > self.stop:  # broken off, or rubbish: what is there of a text may still be one
                return
            if self.version == 3 and name[-1] == 0:  # 2.3 with the names of 2.2
                name = name[:3]
            yield name, int.from_bytes(head[8:10]) if self.version > 2 else 0, start, at

    def _begin(self) -> int:
        if self.version == 2 or not self.flags & 0x40:
            return self.start
        data = self.view.read(self.start, self.start + 4)
        if _is_name(data):  # an extended header is announced, and is not there
            return self.start
        return self.start + (_syncsafe(data) if self.version == 4 else 4 + int.from_bytes(data))

    def _size(self, head: bytes, start: int) -> int:
        """Bytes in a frame. In 2.4 they are syncsafe, but some programs write them plain: the next frame tells."""
        if self.version == 2:
            return int.from_bytes(head[3:6])
        plain = int.from_bytes(head[4:8])
        if self.version == 3 or plain < 128:
            return plain
        safe = _syncsafe(head[4:8])
        if max(head[4:8]) > 127 or (not self._follows(start + safe) and self._follows(start + plain)):
            return plain
        return safe

    def _follows(self, at: int) -> bool:
        """May a frame, or the end, be here?"""
        head = self.view.read(at, min(at + 4, self.stop))
        return at == self.stop or (at < self.stop and (_is_name(head) or not any(head)))

    def _opened(self, data: bytes, flags: int) -> tuple[bytes, int]:
        """A frame without compression. A bomb becomes an empty one."""
        if not flags & (0x80 if self.version == 3 else 0x08) or self.version == 2:
            return _marked(data, self.version, flags), flags
        try:
            opener = zlib.decompressobj()
            plain = opener.decompress(data[4:], TEXT)
            return (plain, 0) if opener.eof else (b"", 0)
        except zlib.error:
            return b"", 0

    def _frame(self, name: bytes, data: bytes, flags: int) -> bytes:
        wide = data[:1] in (b"\1", b"\2")
        if not data or (name[:1] in b"TIM" and data.count(b"\0\0" if wide else b"\0") > _VALUES):
            return b""
        if self.version == 2:
            return name + len(data).to_bytes(3) + data
        return name.ljust(4, b"\0") + _sized(len(data), self.version) + flags.to_bytes(2) + data

    def _picture(self, found: Found, flags: int, start: int, stop: int) -> None:
        if self.version == 4:
            start += (4 if flags & 1 else 0) + (1 if flags & 0x40 else 0)
        if flags & (0xC0 if self.version == 3 else 0x0C) or len(found.pictures) >= pictures.COUNT or start >= stop:
            return  # compressed, encrypted, or too many
        head = self.view.read(start, min(start + pictures.HEADER, stop))
        twisted = self.version == 4 and bool(flags & 2 or self.flags & 0x80)
        head = _unsynchronised(head) if twisted else head
        header = pictures.id3(head, self.version == 2)
        if header:
            kind, at = header
            if self.known and not twisted:
                found.pictures += pictures.placed(kind, head[at:], start + at, stop - start - at)
            elif twisted:
                found.pictures += pictures.placed(kind, head[at:], None, stop - start, "frame", start, at)
            else:
                found.pictures += pictures.placed(kind, head[at:], None, stop - start - at, "tag", self.at, start + at)


def _is_name(name: bytes) -> bool:
    return (
        len(name) >= 3
        and all(48 <= char <= 57 or 65 <= char <= 90 for char in name[:3])
        and (len(name) == 3 or name[3] in (0, 32) or 48 <= name[3] <= 57 or 65 <= name[3] <= 90)
    )


def _sized(size: int, version: int) -> bytes:
    if version == 3:
        return size.to_bytes(4)
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))


def _marked(data: bytes, version: int, flags: int) -> bytes:
    """A frame that calls itself UTF-8 and is not, as one of unknown charset."""
    if data[:1] == b"\x03" and not flags:
        try:
            data.decode()
        except UnicodeDecodeError:
            return b"\0" + data[1:]
    return data


# ── what mutagen reads ──


def _decode(found: Found, frames: bytes, version: int, flags: int) -> None:
    from mutagen import MutagenError
    from mutagen.id3 import ID3

    if not frames:
        return
    head = struct.pack(">3sBBB4s", b"ID3", version, 0, flags if version == 4 else 0, _sized(len(frames), 4))
    try:
        tag: Any = ID3(BytesIO(head + frames), load_v1=False)  # type: ignore[no-untyped-call]
    except (MutagenError, ValueError, KeyError, IndexError, TypeError, struct.error, zlib.error) as error:
        raise Damaged(f"its ID3 tag cannot be read ({type(error).__name__})") from error
    for frame in tag.values():
        reader = _READERS.get(frame.FrameID, _text)
        reader(found, frame)


def _value(frame: Any, text: str) -> Value:
    """A text, or its bytes where the frame says Latin-1, which many have written for any charset of theirs."""
    text = text.rstrip("\0")
    if frame.encoding == 0 and not text.isascii():
        return text.encode("latin-1", "replace")
    return text


def _text(found: Found, frame: Any) -> None:
    if frame.FrameID in _NAMES and hasattr(frame, "text"):
        found.add(_NAMES[frame.FrameID], *(_value(frame, str(text)) for text in _texts(frame)))


def _texts(frame: Any) -> list[Any]:
    return frame.text if isinstance(frame.text, list) else [frame.text]


def _named(found: Found, frame: Any) -> None:
    found.named(frame.desc, *(_value(frame, text) for text in _texts(frame)))


def _comment(found: Found, frame: Any) -> None:
    if frame.desc.lower().startswith("itunsmpb"):
        found.add("gapless", *_texts(frame))
    elif not frame.desc.lower().startswith(_NOT_COMMENTS):
        values = [_value(frame, text) for text in _texts(frame)]
        found.fields["comment"] = found.fields.get("comment", []) if frame.desc else []
        found.add("comment", *values)


def _unsynced(found: Found, frame: Any) -> None:
    if frame.text:
        found.lyrics.append(Lyrics(_language(frame), _value(frame, frame.text)))


def _synced(found: Found, frame: Any) -> None:
    """Lines begin where a text begins with a newline; without any, each text is a line. Only milliseconds are told."""
    if frame.format != 2 or frame.type not in (0, 1) or not frame.text:
        return
    parted = any(text.startswith("\n") for text, _ in frame.text[1:])
    lines: list[tuple[int, str]] = []
    for text, time in frame.text:
        if parted and lines and not text.startswith("\n"):
            lines[-1] = (lines[-1][0], lines[-1][1] + text)
        else:
            lines.append((time, text))
    found.lyrics.append(Lyrics(_language(frame), "", [(time, _value(frame, text)) for time, text in lines]))


def _language(frame: Any) -> str:
    code = frame.lang.strip("\0 ").lower()
    return code if code.isascii() and code.isalpha() and code not in ("xxx", "und") else ""


def _identifier(found: Found, frame: Any) -> None:
    if frame.owner == "http://musicbrainz.org":
        found.add("recording", frame.data.decode("ascii", "ignore"))


def _people(found: Found, frame: Any) -> None:
    for role, name in frame.people[:64]:
        known = squashed(role) if frame.FrameID == "TIPL" else "performer"
        named = f"{name} ({role})" if known == "performer" else name
        found.named({"djmix": "djmixer", "mix": "mixer"}.get(known, known), _value(frame, named))


def _volume(found: Found, frame: Any) -> None:
    kind = frame.desc.lower()
    if kind in ("track", "album") and frame.channel == 1:
        found.add(f"{kind}_gain", f"{frame.gain:.2f}")
        if frame.peak:
            found.add(f"{kind}_peak", f"{frame.peak:.6f}")


_READERS = {
    "TXXX": _named,
    "COMM": _comment,
    "USLT": _unsynced,
    "SYLT": _synced,
    "UFID": _identifier,
    "TIPL": _people,
    "TMCL": _people,
    "RVA2": _volume,
}


# ── version 1 ──


def first_version(data: bytes) -> Found | None:
    """The 128 bytes of a tag of version 1 or 1.1; None where they are none."""
    if len(data) != 128 or data[:3] != b"TAG":
        return None
    found = Found()
    for name, start, stop in [("title", 3, 33), ("artist", 33, 63), ("album", 63, 93), ("date", 93, 97)]:
        found.add(name, data[start:stop].split(b"\0")[0].strip())
    comment = data[97:127]
    if comment[28] == 0 and comment[29]:
        found.add("track", str(comment[29]))
        comment = comment[:28]
    found.add("comment", comment.split(b"\0")[0].strip())
    if data[127] < 255:
        found.add("genre", str(data[127]))
    return found
