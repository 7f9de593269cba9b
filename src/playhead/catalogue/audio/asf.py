"""View -> Found: ASF (WMA), whose header is objects with a GUID and a length each. Pictures are stepped over."""

from collections.abc import Iterator
from fractions import Fraction
from uuid import UUID

from playhead.catalogue import pictures
from playhead.catalogue.found import TEXT, Found, Sound, Value
from playhead.catalogue.view import View
from playhead.errors import Damaged, Malformed

_OBJECTS = 256
_VALUES = 1024


def _guid(text: str) -> bytes:
    return UUID(text).bytes_le


HEADER = _guid("75B22630-668E-11CF-A6D9-00AA0062CE6C")
_PROPERTIES = _guid("8CABDCA1-A947-11CF-8EE4-00C00C205365")
_STREAM = _guid("B7DC0791-A9B7-11CF-8EE6-00C00C205365")
_SOUND = _guid("F8699E40-5B4D-11CF-A8FD-00805F5C442B")
_CONTENT = _guid("75B22633-668E-11CF-A6D9-00AA0062CE6C")
_EXTENDED = _guid("D2D0A440-E307-11D2-97F0-00A0C95EA850")
_EXTENSION = _guid("5FBF03B5-A92E-11CF-8EE3-00C00C205365")
_METADATA = _guid("C5F8CBEA-5BAF-4877-8467-AA8C44FA4CCA")
_LIBRARY = _guid("44231C94-9498-49D1-A141-1D134E457054")

_ORDER = {_CONTENT: 1, _EXTENDED: 2, _METADATA: 3, _LIBRARY: 4}  # first values before further ones

_CODECS = {
    0x0001: "pcm",
    0x0055: "mp3",
    0x0160: "wma",
    0x0161: "wma",
    0x0162: "wma",
    0x0163: "wma",
    0x000A: "wma",
}
_NAMES = {
    "title": "title",
    "author": "artist",
    "wm/albumtitle": "album",
    "wm/albumartist": "album_artist",
    "wm/composer": "composer",
    "wm/writer": "lyricist",
    "wm/conductor": "conductor",
    "wm/producer": "producer",
    "wm/modifiedby": "remixer",
    "wm/genre": "genre",
    "wm/mood": "mood",
    "wm/contentgroupdescription": "grouping",
    "wm/subtitle": "subtitle",
    "wm/setsubtitle": "disc_title",
    "wm/tracknumber": "track",
    "tracktotal": "tracks",
    "wm/partofset": "disc",
    "wm/year": "date",
    "wm/originalreleasetime": "original_date",
    "wm/originalreleaseyear": "original_date",
    "wm/iscompilation": "compilation",
    "wm/beatsperminute": "bpm",
    "wm/isrc": "isrc",
    "wm/publisher": "label",
    "wm/catalogno": "catalog",
    "wm/barcode": "barcode",
    "wm/language": "language",
    "wm/titlesortorder": "title_sort",
    "wm/albumsortorder": "album_sort",
    "wm/artistsortorder": "artist_sort",
    "wm/albumartistsortorder": "album_artist_sort",
    "wm/composersortorder": "composer_sort",
    "wm/lyrics": "lyrics",
    "description": "comment",
    "copyright": "copyright",
}


def read(view: View, start: int, stop: int) -> Found:
    """A file whose header object is at `start`."""
    found = Found()
    size = int.from_bytes(view.exactly(start + 16, 8), "little")
    if size > stop - start:
        raise Damaged("it ends in the middle of what it says of itself: is it whole?")
    objects = list(_objects(view, start + 30, start + size))
    for guid, at, end in objects[:_OBJECTS]:
        if guid == _EXTENSION:
            objects += _objects(view, at + 22, end)
    for guid, at, end in sorted(objects, key=lambda item: _ORDER.get(item[0], 0)):
        _object(found, view, guid, at, end)
    if not found.sound.codec:
        raise Malformed("no sound is in this ASF file")
    found.sound.size = max(0, stop - start - size)
    return found


def _objects(view: View, at: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """(GUID, where the body begins, where it ends)."""
    for _ in range(_OBJECTS):
        if at + 24 > stop:
            return
        head = view.exactly(at, 24)
        size = int.from_bytes(head[16:], "little")
        if not 24 <= size <= stop - at:
            raise Damaged(f"an object of {size:,} bytes does not fit into the {stop - at:,} that are there")
        yield head[:16], at + 24, at + size
        at += size


def _object(found: Found, view: View, guid: bytes, at: int, stop: int) -> None:
    if guid == _PROPERTIES:
        data = view.exactly(at, 64)
        ticks = Fraction(int.from_bytes(data[40:48], "little"), 10_000_000)
        before = Fraction(int.from_bytes(data[56:64], "little"), 1000)
        found.sound.length = ticks - before if ticks > before else ticks or None
    elif guid == _STREAM and view.exactly(at, 16) == _SOUND and not found.sound.codec:
        _stream(found.sound, view.exactly(at + 54, 16))
    elif guid == _CONTENT:
        _content(found, view, at, stop)
    elif guid == _EXTENDED:
        _extended(found, view, at, stop)
    elif guid in (_METADATA, _LIBRARY):
        _metadata(found, view, at, stop)


def _stream(sound: Sound, data: bytes) -> None:
    """A WAVEFORMATEX."""
    number = int.from_bytes(data[:2], "little")
    sound.codec, sound.lossless = _CODECS.get(number, "wma"), number in (1, 0x163)
    sound.channels, sound.rate = int.from_bytes(data[2:4], "little"), int.from_bytes(data[4:8], "little")
    sound.kbits = round(int.from_bytes(data[8:12], "little") * 8 / 1000)
    sound.bits = int.from_bytes(data[14:16], "little") if sound.lossless else 0


def _content(found: Found, view: View, at: int, stop: int) -> None:
    head = view.exactly(at, 10)
    at += 10
    for index, name in enumerate(["title", "author", "copyright", "description", ""]):
        size = int.from_bytes(head[2 * index : 2 * index + 2], "little")
        if name and at + size <= stop:
            _add(found, name, _text(view.exactly(at, size)))
        at += size


def _extended(found: Found, view: View, at: int, stop: int) -> None:
    count, at = int.from_bytes(view.exactly(at, 2), "little"), at + 2
    for _ in range(min(count, _VALUES)):
        size = int.from_bytes(view.exactly(at, 2), "little")
        name = _text(view.exactly(at + 2, size))
        head = view.exactly(at + 2 + size, 4)
        at += 6 + size
        at = _value(found, view, name, int.from_bytes(head[:2], "little"), at, int.from_bytes(head[2:], "little"), stop)


def _metadata(found: Found, view: View, at: int, stop: int) -> None:
    count, at = int.from_bytes(view.exactly(at, 2), "little"), at + 2
    for _ in range(min(count, _VALUES)):
        head = view.exactly(at, 12)
        name_size, kind = int.from_bytes(head[4:6], "little"), int.from_bytes(head[6:8], "little")
        name = _text(view.exactly(at + 12, name_size))
        at = _value(found, view, name, kind, at + 12 + name_size, int.from_bytes(head[8:], "little"), stop)


def _value(found: Found, view: View, name: str, kind: int, at: int, size: int, stop: int) -> int:
    """Takes what a value tells; where it ends."""
    if at + size > stop:
        raise Damaged(f"a value of {size:,} bytes does not fit into its tags")
    if name.lower() == "wm/picture" and kind == 1:
        header = pictures.asf(view.exactly(at, min(size, pictures.HEADER)))
        if header and len(found.pictures) < pictures.COUNT and header[1] + header[2] <= size:
            head = view.exactly(at + header[1], min(header[2], pictures.SNIFFED))
            found.pictures += pictures.placed(header[0], head, at + header[1], header[2])
    elif kind == 0 and size <= TEXT:
        _add(found, name, _text(view.exactly(at, size)))
    elif kind in (2, 3, 4, 5) and size <= 8:
        _add(found, name, str(int.from_bytes(view.exactly(at, size), "little")))
    return at + size


def _text(data: bytes) -> str:
    return data[: len(data) // 2 * 2].decode("utf-16-le", "replace").rstrip("\0")


def _add(found: Found, name: str, value: Value) -> None:
    known = _NAMES.get(name.lower())
    if known == "lyrics":
        found.named(known, value)
    elif known:
        found.add(known, value)
    elif name.lower() == "wm/track":  # counts from 0
        found.fields.setdefault("track", [str(int(value) + 1)] if str(value).isdigit() else [])
    else:
        found.named(name.removeprefix("WM/"), value)
