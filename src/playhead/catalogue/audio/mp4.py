"""View -> Found: MP4, M4A, M4B and their like (ISO/IEC 14496-12; what iTunes wrote into them).

Boxes are walked by their headers, down to those that matter: sample tables, which are most of a long book's 2 MB of
headers, are stepped over, and so are covers. A track's own clock tells how long it is, less what an edit list, or
iTunes' own note (iTunSMPB), says was put before and after.
"""

from fractions import Fraction

from playhead.catalogue import pictures
from playhead.catalogue.audio import fragments
from playhead.catalogue.audio.boxes import Box as _Box
from playhead.catalogue.audio.boxes import boxes as _boxes
from playhead.catalogue.found import TEXT, Found, Sound, Value
from playhead.catalogue.view import View
from playhead.errors import Damaged, Malformed

_CODECS = {
    b"mp4a": "aac",
    b"alac": "alac",
    b"ac-3": "ac3",
    b"ec-3": "eac3",
    b"Opus": "opus",
    b"fLaC": "flac",
    b".mp3": "mp3",
    b"lpcm": "pcm",
    b"sowt": "pcm",
    b"twos": "pcm",
    b"samr": "amr",
    b"sawb": "amr",
}
_LOSSLESS = {"alac", "flac", "pcm"}
_NAMES = {
    b"\xa9nam": "title",
    b"\xa9alb": "album",
    b"\xa9ART": "artist",
    b"aART": "album_artist",
    b"\xa9wrt": "composer",
    b"\xa9gen": "genre",
    b"\xa9grp": "grouping",
    b"\xa9wrk": "work",
    b"\xa9mvn": "movement",
    b"\xa9day": "date",
    b"\xa9cmt": "comment",
    b"desc": "comment",
    b"cprt": "copyright",
    b"sonm": "title_sort",
    b"soal": "album_sort",
    b"soar": "artist_sort",
    b"soaa": "album_artist_sort",
    b"soco": "composer_sort",
}


def _child(view: View, at: int, stop: int, *path: bytes) -> _Box | None:
    """The first box of a kind in another, and so on down a path."""
    found = None
    for kind in path:
        found = next((box for box in _boxes(view, at, stop) if box.kind == kind), None)
        if found is None:
            return None
        at, stop = found.body, found.end
    return found


def _in(view: View, box: _Box | None, *path: bytes) -> _Box | None:
    return _child(view, box.body, box.end, *path) if box else None


def _data(view: View, box: _Box | None, most: int = 4096) -> bytes:
    return view.read(box.body, min(box.end, box.body + most)) if box else b""


def read(view: View, start: int, stop: int) -> Found:
    """A file of which the first box is at `start`."""
    movie, size = None, 0
    for box in _boxes(view, start, stop):
        if box.kind == b"mdat":
            size += box.end - box.body
        elif box.kind == b"moov":
            movie = box
        if movie and (size or box.kind == b"moof"):
            break
    if movie is None:
        raise Damaged("it has no moov box, which says what is in it: is it whole?")
    found = Found()
    _tagged(found, view, movie)
    found.sound = _track(view, movie)
    found.sound.size = size
    if found.sound.length is None:  # it is in fragments, each of which knows its own
        found.sound.size = max(0, stop - movie.end)
        found.sound.length = _fragmented(view, movie, stop)
    return found


# ── the sound ──


def _fragmented(view: View, movie: _Box, stop: int) -> Fraction | None:
    track = _sounding(view, movie)
    head = _data(view, _in(view, track, b"tkhd"))
    number = int.from_bytes(head[20:24] if head[:1] == b"\1" else head[12:16])
    clock, _ = _clock(_data(view, _in(view, track, b"mdia", b"mdhd")))
    usual = int.from_bytes(_data(view, _in(view, movie, b"mvex", b"trex"))[12:16])
    return fragments.length(view, movie.end, stop, number, clock, usual)


def _sounding(view: View, movie: _Box) -> _Box:
    for track in _boxes(view, movie.body, movie.end):
        media = _in(view, track, b"mdia") if track.kind == b"trak" else None
        if _data(view, _in(view, media, b"hdlr"))[8:12] == b"soun":
            return track
    raise Malformed("no sound is in this MP4")


def _track(view: View, movie: _Box) -> Sound:
    track = _sounding(view, movie)
    media = _in(view, track, b"mdia")
    sound = _described(_data(view, _in(view, media, b"minf", b"stbl", b"stsd")))
    clock, length = _clock(_data(view, _in(view, media, b"mdhd")))
    _measure(view, sound, movie, track, clock, length)
    return sound


def _clock(data: bytes) -> tuple[int, int]:
    """(ticks a second, length in ticks) of an mdhd or mvhd box."""
    wide = data[:1] == b"\1"
    at, size = (20, 8) if wide else (12, 4)
    length = int.from_bytes(data[at + 4 : at + 4 + size])
    return int.from_bytes(data[at : at + 4]), 0 if length == (1 << 8 * size) - 1 else length


def _measure(view: View, sound: Sound, movie: _Box, track: _Box, clock: int, length: int) -> None:
    scale, whole = _clock(_data(view, _in(view, movie, b"mvhd")))
    sound.rate = sound.rate or clock
    edits = _data(view, _in(view, track, b"edts", b"elst"))
    told = _edited(edits, clock, scale, length) if clock and scale else None
    if told:
        sound.length, sound.delay = told
    elif clock and length:
        sound.length = Fraction(length, clock)
    if sound.length is None and scale:
        extended = _data(view, _in(view, movie, b"mvex", b"mehd"))
        ticks = int.from_bytes(extended[4:12] if extended[:1] == b"\1" else extended[4:8]) or whole
        sound.length = Fraction(ticks, scale) if ticks else None


def _edited(data: bytes, clock: int, scale: int, length: int) -> tuple[Fraction, int] | None:
    """(length, delay in ticks) of the edit list that has but one stretch of sound; None of any other."""
    wide = data[:1] == b"\1"
    size = 8 if wide else 4
    found = None
    for at in range(8, min(len(data), 8 + 8 * (2 * size + 4)), 2 * size + 4):
        span = Fraction(int.from_bytes(data[at : at + size]), scale)
        begin = int.from_bytes(data[at + size : at + 2 * size], signed=True)
        if begin < 0:
            continue
        if found:
            return None
        rest = Fraction(length - begin, clock)  # finer than the span, which counts by the film's clock
        near = span == 0 or (length and abs(rest - span) <= Fraction(2, scale))
        found = (rest if near and rest > 0 else span, begin)
    return found if found and found[0] > 0 else None


def _described(data: bytes) -> Sound:
    """What the first sample entry of an stsd box tells."""
    entry = data[16 : 8 + int.from_bytes(data[8:12])]
    if len(entry) < 28:
        raise Damaged("it does not describe its sound")
    codec = _CODECS.get(data[12:16], data[12:16].decode("latin-1").strip().lower())
    sound = Sound(codec, codec in _LOSSLESS, int.from_bytes(entry[24:26]), int.from_bytes(entry[16:18]))
    rest = entry[28:] if entry[8:10] == b"\0\0" else entry[44:]
    if codec == "alac" and (at := rest.find(b"alac")) >= 0 and len(rest) >= at + 32:
        own = rest[at + 8 :]
        sound.bits, sound.channels, sound.rate = own[5], own[9], int.from_bytes(own[20:24])
        sound.kbits = round(int.from_bytes(own[16:20]) / 1000)
    elif codec in _LOSSLESS:
        sound.bits = int.from_bytes(entry[18:20])
    if codec == "flac" and (at := rest.find(b"dfLa")) >= 0 and len(rest) >= at + 42:
        packed = int.from_bytes(rest[at + 22 : at + 30])
        sound.rate, sound.channels, sound.bits = packed >> 44, (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1
    if (at := rest.find(b"esds")) >= 0:
        _described_by_esds(sound, rest[at + 8 :])
    return sound


def _described_by_esds(sound: Sound, data: bytes) -> None:
    """Of nested descriptors (ISO/IEC 14496-1, 7.2.6): 3 holds 4 holds 5, which is the codec's own."""
    at, tag = 0, data[:1]
    while at < len(data) and tag in (b"\3", b"\4", b"\5"):
        at += 1
        size = 0
        while at < len(data):
            size, at = size << 7 | data[at] & 0x7F, at + 1
            if data[at - 1] < 0x80:
                break
        if tag == b"\3" and len(data) > at + 2:
            flags = data[at + 2]
            at += 3 + (2 if flags & 0x80 else 0) + (2 if flags & 0x20 else 0)
        elif tag == b"\4" and len(data) >= at + 13:
            sound.codec = {0x69: "mp3", 0x6B: "mp3", 0xA5: "ac3", 0xA6: "eac3", 0xDD: "vorbis"}.get(
                data[at], sound.codec
            )
            sound.kbits = round(int.from_bytes(data[at + 9 : at + 13]) / 1000)
            at += 13
        else:
            _configured(sound, data[at : at + size])
            return
        tag = data[at : at + 1]


_AAC_RATES = [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350]


def _configured(sound: Sound, data: bytes) -> None:
    """AAC's own description (ISO/IEC 14496-3, 1.6.2.1), where it is written plainly."""
    if sound.codec != "aac" or len(data) < 2:
        return
    packed = int.from_bytes(data[:2])
    kind, rate, channels = packed >> 11, packed >> 7 & 15, packed >> 3 & 15
    if kind in (5, 29) and len(data) >= 3:
        rate = (packed & 7) << 1 | data[2] >> 7
        channels = 2 if kind == 29 else channels
    if kind < 31 and rate < len(_AAC_RATES):
        sound.rate = _AAC_RATES[rate]
    if kind < 31 and channels:
        sound.channels = 8 if channels == 7 else channels


# ── the tags ──


def _tagged(found: Found, view: View, movie: _Box) -> None:
    for path in ((b"udta", b"meta"), (b"meta",)):
        meta = _in(view, movie, *path)
        if meta is None:
            continue
        body = meta.body + (0 if view.read(meta.body + 4, meta.body + 8) == b"hdlr" else 4)
        items = _child(view, body, meta.end, b"ilst")
        if items:
            _items(found, view, items)
            return


def _items(found: Found, view: View, items: _Box) -> None:
    for item in _boxes(view, items.body, items.end):
        if item.kind == b"covr":
            _covers(found, view, item)
        elif item.end - item.body <= TEXT:
            name = _freeform(view, item) if item.kind == b"----" else ""
            for box in _boxes(view, item.body, item.end):
                if box.kind == b"data" and box.end - box.body > 8:
                    data = view.read(box.body, box.end)
                    _item(found, item.kind, name, int.from_bytes(data[1:4]), data[8:])


def _freeform(view: View, item: _Box) -> str:
    box = _in(view, item, b"name")
    return _data(view, box, 256)[4:].decode("utf-8", "replace")


def _covers(found: Found, view: View, item: _Box) -> None:
    for box in _boxes(view, item.body, item.end):
        if box.kind == b"data" and len(found.pictures) < pictures.COUNT:
            head = view.read(box.body, min(box.end, box.body + 8 + pictures.SNIFFED))
            found.pictures += pictures.placed(pictures.FRONT, head[8:], box.body + 8, box.end - box.body - 8)


def _item(found: Found, kind: bytes, name: str, form: int, data: bytes) -> None:
    if kind == b"----":
        found.named(name, _text(form, data))
    elif kind in _NAMES:
        field = _NAMES[kind]
        if kind != b"desc" or "comment" not in found.fields:
            found.add(field, _text(form, data))
    elif kind == b"\xa9lyr":
        found.named("lyrics", _text(form, data))
    elif kind in (b"trkn", b"disk") and len(data) >= 6:
        field = "track" if kind == b"trkn" else "disc"
        found.add(field, str(int.from_bytes(data[2:4])))
        found.add(f"{field}s", str(int.from_bytes(data[4:6])))
    elif kind == b"gnre" and "genre" not in found.fields:
        found.add("genre", str(int.from_bytes(data[-2:]) - 1))
    elif kind in (b"cpil", b"tmpo", b"rtng"):
        field = {b"cpil": "compilation", b"tmpo": "bpm", b"rtng": "explicit"}[kind]
        found.add(field, str(int.from_bytes(data[:8])))


def _text(form: int, data: bytes) -> Value:
    if form == 2:
        return data.decode("utf-16-be", "replace")
    if form in (21, 22) and len(data) <= 8:
        return str(int.from_bytes(data, signed=form == 21))
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
