"""View -> Found: APE tags (versions 1 and 2), at the end of MP3, Monkey's Audio, Musepack, WavPack and TAK."""

from playhead.catalogue import pictures
from playhead.catalogue.found import TEXT, Found, Value
from playhead.catalogue.view import View

_FOOTER = 32
_ITEMS = 512
_KEY = 255
_KINDS = {"cover art (front)": 3, "cover art (back)": 4, "cover art (artist)": 8, "cover art (icon)": 1}


def before(view: View, stop: int) -> tuple[Found, int] | None:
    """The tag whose footer ends at `stop`, and where it begins; None where there is none."""
    foot = view.read(max(0, stop - _FOOTER), stop)
    if foot[:8] != b"APETAGEX" or len(foot) < _FOOTER:
        return None
    version, size, count, flags = (int.from_bytes(foot[at : at + 4], "little") for at in (8, 12, 16, 20))
    begin = stop - size
    if not _FOOTER <= size <= stop:
        return Found(), stop - _FOOTER
    start = begin - _FOOTER if flags >> 31 and begin >= _FOOTER else begin
    return _items(view, begin, stop - _FOOTER, count, version >= 2000), start


def at(view: View, start: int) -> tuple[Found, int] | None:
    """The tag whose header is at `start`, and where it ends; None where there is none."""
    head = view.read(start, start + _FOOTER)
    if head[:8] != b"APETAGEX" or len(head) < _FOOTER:
        return None
    size, count = int.from_bytes(head[12:16], "little"), int.from_bytes(head[16:20], "little")
    stop = start + _FOOTER + size
    return (_items(view, start + _FOOTER, stop - _FOOTER, count, True), stop) if stop <= view.size else None


def _items(view: View, at: int, stop: int, count: int, utf8: bool) -> Found:
    found = Found()
    for _ in range(min(count, _ITEMS)):
        head = view.read(at, min(at + 9 + _KEY, stop))
        end = head.find(b"\0", 8)
        if end < 0:
            break
        size, flags = int.from_bytes(head[:4], "little"), int.from_bytes(head[4:8], "little")
        key, at = head[8:end].decode("latin-1"), at + end + 1
        if at + size > stop:
            break
        if flags >> 1 & 3 == 1:
            _binary(found, view, key.lower(), at, size)
        elif flags >> 1 & 3 == 0 and size <= TEXT:
            values = view.read(at, at + size).split(b"\0")
            found.named(key, *(_text(value, utf8) for value in values))
        at += size
    return found


def _text(value: bytes, utf8: bool) -> Value:
    try:
        return value.decode() if utf8 else value
    except UnicodeDecodeError:
        return value


def _binary(found: Found, view: View, key: str, at: int, size: int) -> None:
    """A picture is a file name, a zero, and its bytes."""
    if not key.startswith("cover art") or len(found.pictures) >= pictures.COUNT:
        return
    head = view.read(at, at + min(size, pictures.HEADER))
    begin = head.find(b"\0") + 1
    found.pictures += pictures.placed(_KINDS.get(key, 0), head[begin:], at + begin, size - begin)
