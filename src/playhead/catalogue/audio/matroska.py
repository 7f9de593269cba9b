"""View -> Found: Matroska and WebM (RFC 9559): the elements Info, Tracks and Tags, found through the SeekHead.

Clusters, cues and attachments' bytes are stepped over; covers among the attachments are noted by their place.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from playhead.catalogue import pictures
from playhead.catalogue.found import TEXT, Found, Sound
from playhead.catalogue.view import View
from playhead.errors import Damaged, Malformed

_ELEMENTS = 2048  # in one element, at most
_SEGMENT, _SEEKHEAD, _INFO, _TRACKS, _TAGS, _FILES = (
    0x18538067,
    0x114D9B74,
    0x1549A966,
    0x1654AE6B,
    0x1254C367,
    0x1941A469,
)
_CLUSTER = 0x1F43B675
_TOP = {_INFO, _TRACKS, _TAGS, _FILES}
_CODECS = {"A_MPEG/L3": "mp3", "A_MPEG/L2": "mp2", "A_PCM/INT/LIT": "pcm", "A_PCM/INT/BIG": "pcm", "A_TTA1": "tta"}
_CODECS |= {"A_WAVPACK4": "wavpack", "A_PCM/FLOAT/IEEE": "pcm"}
_LOSSLESS = {"flac", "alac", "pcm", "wavpack", "tta", "truehd"}
_ALBUM, _TRACK = 50, 30  # of a target: what is said of the album, and of the track; many name neither
_OF_ALBUM = {
    "title": "album",
    "artist": "album_artist",
    "part_number": "discnumber",
    "total_parts": "tracktotal",
    "date_released": "date",
}
_OF_TRACK = {"part_number": "tracknumber", "date_released": "date", "date_recorded": "date", "total_parts": ""}


@dataclass(frozen=True, slots=True)
class _Element:
    id: int
    body: int
    end: int


def _elements(view: View, at: int, stop: int) -> Iterator[_Element]:
    for _ in range(_ELEMENTS):
        head = view.read(at, min(at + 12, stop))
        if len(head) < 2 or not head[0] or head[0] < 0x10:
            return
        wide = 9 - head[0].bit_length()
        first = head[wide : wide + 1]
        if not first or not first[0]:
            return
        long = 9 - first[0].bit_length()
        size = int.from_bytes(head[wide : wide + long]) & (1 << 7 * long) - 1
        body = at + wide + long
        if size == (1 << 7 * long) - 1 or body + size > stop:  # not told, or broken off
            size = stop - body
        yield _Element(int.from_bytes(head[:wide]), body, body + size)
        at = body + size


def _inside(view: View, element: _Element, most: int = TEXT) -> Iterator[tuple[int, bytes]]:
    """(id, bytes) of the elements in one; of long ones only the beginning."""
    for part in _elements(view, element.body, element.end):
        yield part.id, view.read(part.body, min(part.end, part.body + most))


def read(view: View, start: int, stop: int) -> Found:
    """A file whose EBML header is at `start`."""
    segment = next((part for part in _elements(view, start, stop) if part.id == _SEGMENT), None)
    if segment is None:
        raise Damaged("it has no segment: is it whole?")
    found = Found()
    for part in _tops(view, segment):
        if part.id == _INFO:
            found.sound.length = _length(view, part)
            found.add("title", dict(_inside(view, part)).get(0x7BA9, b"").decode("utf-8", "replace").rstrip("\0"))
        elif part.id == _TRACKS:
            found.sound = _tracks(view, part, found.sound.length)
        elif part.id == _TAGS:
            _tags(found, view, part)
        else:
            _files(found, view, part)
    if not found.sound.codec:
        raise Malformed("no sound is in this Matroska file")
    found.sound.size = segment.end - segment.body
    return found


def _tops(view: View, segment: _Element) -> list[_Element]:
    """The elements that matter, each once: those before the first cluster, and those that the SeekHead names."""
    found: dict[int, _Element] = {}
    places: list[int] = []
    for part in _elements(view, segment.body, segment.end):
        if part.id == _SEEKHEAD:
            places += _places(view, part)
        elif part.id in _TOP:
            found.setdefault(part.id, part)
        elif part.id == _CLUSTER:
            break
    view.need(*((segment.body + place, segment.body + place + 12) for place in places if place < view.size))
    for place in places:
        for part in _elements(view, segment.body + place, segment.end):
            if part.id in _TOP:
                found.setdefault(part.id, part)
            break
    return [found[id] for id in (_INFO, _TRACKS, _TAGS, _FILES) if id in found]


def _places(view: View, head: _Element) -> list[int]:
    places = []
    for seek in _elements(view, head.body, head.end):
        told = dict(_inside(view, seek, 16))
        if int.from_bytes(told.get(0x53AB, b"")) in _TOP:
            places.append(int.from_bytes(told.get(0x53AC, b"")))
    return places[:16]


def _length(view: View, info: _Element) -> Fraction | None:
    told = dict(_inside(view, info, 16))
    scale = int.from_bytes(told.get(0x2AD7B1, b"")) or 1_000_000
    length = _float(told.get(0x4489, b""))
    return Fraction(length) * scale / 1_000_000_000 if 0 < length < 1e15 else None


def _float(data: bytes) -> float:
    value = struct.unpack(">f" if len(data) == 4 else ">d", data)[0] if len(data) in (4, 8) else 0.0
    return value if value == value else 0.0


def _tracks(view: View, tracks: _Element, length: Fraction | None) -> Sound:
    for entry in _elements(view, tracks.body, tracks.end):
        told = dict(_inside(view, entry, 4096)) if entry.id == 0xAE else {}
        if int.from_bytes(told.get(0x83, b"")) != 2:
            continue
        name = told.get(0x86, b"").decode("ascii", "replace").rstrip("\0")
        codec = _CODECS.get(name, name.removeprefix("A_").split("/")[0].lower())
        sound = Sound(codec, codec in _LOSSLESS, length=length)
        view_of = dict(_loose(told.get(0xE1, b"")))
        sound.rate = round(_float(view_of.get(0xB5, b"")) or 8000)
        sound.channels = int.from_bytes(view_of.get(0x9F, b"\1"))
        sound.bits = int.from_bytes(view_of.get(0x6264, b"")) if sound.lossless else 0
        return sound
    return Sound(length=length)


def _loose(data: bytes) -> Iterator[tuple[int, bytes]]:
    view = View(len(data))
    view.put(0, data)
    return _inside(view, _Element(0, 0, len(data)))


def _tags(found: Found, view: View, tags: _Element) -> None:
    for tag in _elements(view, tags.body, tags.end):
        if tag.id != 0x7373:
            continue
        parts = list(_elements(view, tag.body, tag.end))
        level = _TRACK
        for part in parts:
            if part.id == 0x63C0:
                level = int.from_bytes(dict(_inside(view, part, 16)).get(0x68CA, b"")) or level
        for part in parts:
            if part.id == 0x67C8:
                told = dict(_inside(view, part))
                name = told.get(0x45A3, b"").decode("utf-8", "replace").rstrip("\0").lower()
                names = _OF_ALBUM if level >= _ALBUM and name not in ("", "genre") else _OF_TRACK
                text = told.get(0x4487, b"").decode("utf-8", "replace").rstrip("\0")
                found.named(names.get(name, name), text)


def _files(found: Found, view: View, files: _Element) -> None:
    for file in _elements(view, files.body, files.end):
        for part in _elements(view, file.body, file.end):
            if part.id == 0x465C and len(found.pictures) < pictures.COUNT:
                head = view.read(part.body, min(part.end, part.body + pictures.SNIFFED))
                found.pictures += pictures.placed(pictures.FRONT, head, part.body, part.end - part.body)
