"""moov <-> Movie: the tracks of an MP4 file as values, and the one movie that is made of them again.

Only what plays is read: pictures, sound and subtitles. Timecodes, hints, metadata and the tracks that hold chapters are
left out, and every reference to them with them. ISO/IEC 14496-12, 8.
"""

import struct
from dataclasses import dataclass
from math import gcd

from playhead.errors import Damaged, Malformed
from playhead.transforms.mp4 import descriptions, samples
from playhead.transforms.mp4.boxes import boxed, child, children, full, needed, version
from playhead.transforms.mp4.descriptions import Description
from playhead.transforms.mp4.samples import Samples

PICTURE, SOUND = b"vide", b"soun"
_KEPT = {PICTURE, SOUND, b"sbtl", b"subt", b"text", b"clcp"}
_HEADERS = {b"vmhd", b"smhd", b"nmhd", b"sthd", b"gmhd"}
_TRACKS, _EDITS = 64, 10_000
_TICKS = 1 << 31  # ticks in a second, at most
NORMAL = 0x10000  # a rate of 1
_SHORT = 0xFFFFFFFF

FRAGMENTED = "it is fragmented MP4; make it one piece first: ffmpeg -i PART -c copy -movflags +faststart NEW"


@dataclass(frozen=True, slots=True)
class Edit:
    """A stretch of a track's presentation: `duration` in the movie's ticks, `media` in the track's; None: nothing."""

    duration: int
    media: int | None
    rate: int = NORMAL


@dataclass(frozen=True, slots=True)
class Track:
    """A track. `placed` is the end of its tkhd (layer to height); `about` its language; `handling`, `header`: boxes."""

    handler: bytes
    timescale: int
    descriptions: list[Description]
    samples: Samples
    edits: list[Edit]
    placed: bytes
    enabled: int
    about: bytes
    handling: bytes
    header: bytes

    @property
    def matrix(self) -> bytes:
        """How its picture is turned: a, b, c, d of the matrix with what is between them."""
        return self.placed[8:28]


@dataclass(frozen=True, slots=True)
class Movie:
    """The tracks of a file, and how many ticks a second its edits count in."""

    timescale: int
    tracks: list[Track]


# ── reading ──


def read(moov: memoryview) -> Movie:
    """The movie that a file describes. Raises Malformed for what cannot be joined, Damaged."""
    try:
        return _movie(moov)
    except (struct.error, IndexError):
        raise Damaged("a box is shorter than what it says that it holds") from None


def _movie(moov: memoryview) -> Movie:
    if child(moov, b"cmov") is not None:
        raise Malformed("its moov is compressed, as QuickTime once did")
    if child(moov, b"mvex") is not None:
        raise Malformed(FRAGMENTED)
    mvhd = needed(moov, b"mvhd")
    timescale = _timescale(mvhd, 20 if version(mvhd) else 12)
    boxes = [body for kind, body in children(moov) if kind == b"trak"]
    if len(boxes) > _TRACKS:
        raise Malformed(f"it has more than {_TRACKS} tracks")
    chapters = {number for trak in boxes for number in _chapters(trak)}
    tracks = [_track(trak) for trak in boxes if _plays(trak) and _number(trak) not in chapters]
    if not tracks:
        raise Malformed("it has neither pictures nor sound")
    return Movie(timescale, tracks)


def _timescale(body: memoryview, at: int) -> int:
    (ticks,) = struct.unpack_from(">I", body, at)
    if not 0 < ticks < _TICKS:
        raise Damaged("it does not say how long a tick is")
    return int(ticks)


def _number(trak: memoryview) -> int:
    tkhd = needed(trak, b"tkhd")
    return int(struct.unpack_from(">I", tkhd, 20 if version(tkhd) else 12)[0])


def _chapters(trak: memoryview) -> list[int]:
    found = child(trak, b"tref", b"chap")
    return [] if found is None else [int.from_bytes(found[at : at + 4]) for at in range(0, len(found), 4)]


def _plays(trak: memoryview) -> bool:
    return bytes(needed(trak, b"mdia", b"hdlr")[8:12]) in _KEPT


def _track(trak: memoryview) -> Track:
    tkhd, mdia = needed(trak, b"tkhd"), needed(trak, b"mdia")
    mdhd, hdlr, minf = (needed(mdia, kind) for kind in (b"mdhd", b"hdlr", b"minf"))
    stbl = needed(minf, b"stbl")
    handler = bytes(hdlr[8:12])
    placed, about = bytes(tkhd[44 if version(tkhd) else 32 :][:52]), bytes(mdhd[32 if version(mdhd) else 20 :][:4])
    if len(placed) < 52 or len(about) < 4:
        raise Damaged("a track's header is too short")
    _here(minf)
    kinds, own = descriptions.read(needed(stbl, b"stsd"), handler), samples.read(stbl)
    _sized(kinds, own)
    timescale = _timescale(mdhd, 20 if version(mdhd) else 12)
    header = b"".join(boxed(kind, body) for kind, body in children(minf) if kind in _HEADERS)
    handling = boxed(b"hdlr", hdlr)
    return Track(handler, timescale, kinds, own, _edits(trak), placed, tkhd[3] & 15, about, handling, header)


def _here(minf: memoryview) -> None:
    dref = child(minf, b"dinf", b"dref")
    if dref is not None and any(len(body) < 4 or not body[3] & 1 for _, body in children(dref[8:])):
        raise Malformed("its media is in other files")


def _sized(kinds: list[Description], own: Samples) -> None:
    if own.kinds and max(own.kinds) >= len(kinds):
        raise Damaged("a track has samples without a description")
    if own.each and any(kind.bytes_per_frame > own.each for kind in kinds):
        raise Malformed("its sound is counted as QuickTime once did")


def _edits(trak: memoryview) -> list[Edit]:
    elst = child(trak, b"edts", b"elst")
    if elst is None:
        return []
    form = ">QqI" if version(elst) else ">IiI"
    (count,), width = struct.unpack_from(">I", elst, 4), struct.calcsize(form)
    if count > _EDITS:
        raise Malformed(f"a track has more than {_EDITS:,} edits")
    rows = [struct.unpack_from(form, elst, 8 + at * width) for at in range(count)]
    return [Edit(duration, None if media < 0 else media, rate) for duration, media, rate in rows]


# ── writing ──


@dataclass(frozen=True, slots=True)
class Written:
    """A track as it is to be written; `edits` and `duration` in the movie's ticks."""

    like: Track
    timescale: int
    descriptions: list[bytes]
    samples: Samples
    edits: list[Edit]
    duration: int


def written(tracks: list[Written], timescale: int, origin: int, wide: bool) -> bytes:
    """The moov of some tracks, whose media begins at `origin`; `wide`: with offsets of 64 bits."""
    duration = max(track.duration for track in tracks)
    form, times = _times(timescale, duration, ">QQIQ", ">IIII")
    end = struct.pack(">IH10x9i24xI", NORMAL, 0x100, NORMAL, 0, 0, 0, NORMAL, 0, 0, 0, 0x40000000, len(tracks) + 1)
    head = full(b"mvhd", form, 0, times, end)
    return boxed(b"moov", head, *(_trak(track, n, origin, wide) for n, track in enumerate(tracks, 1)))


def _times(timescale: int, duration: int, wide: str, narrow: str) -> tuple[int, bytes]:
    form = int(duration > _SHORT)
    return form, struct.pack(wide if form else narrow, 0, 0, timescale, duration)


def _trak(track: Written, number: int, origin: int, wide: bool) -> bytes:
    form = int(track.duration > _SHORT)
    ids = struct.pack(">QQI4xQ8x" if form else ">III4xI8x", 0, 0, number, track.duration)
    head = full(b"tkhd", form, track.like.enabled, ids, track.like.placed)
    return boxed(b"trak", head, _edts(track.edits), _mdia(track, origin, wide))


def _edts(edits: list[Edit]) -> bytes:
    if not edits:
        return b""
    form = int(any(max(edit.duration, edit.media or 0) >= 1 << 31 for edit in edits))
    rows = [(edit.duration, -1 if edit.media is None else edit.media, edit.rate) for edit in edits]
    listed = b"".join(struct.pack(">QqI" if form else ">IiI", *row) for row in rows)
    return boxed(b"edts", full(b"elst", form, 0, struct.pack(">I", len(rows)), listed))


def _mdia(track: Written, origin: int, wide: bool) -> bytes:
    form, times = _times(track.timescale, track.samples.times.total(), ">QQIQ", ">IIII")
    here = boxed(b"dinf", full(b"dref", 0, 0, struct.pack(">I", 1), full(b"url ", 0, 1)))
    stbl = boxed(b"stbl", samples.written(track.samples, track.descriptions, origin, wide))
    minf = boxed(b"minf", track.like.header, here, stbl)
    return boxed(b"mdia", full(b"mdhd", form, 0, times, track.like.about), track.like.handling, minf)


def common(*timescales: int) -> int:
    """The least timescale in which the ticks of others are whole."""
    least = 1
    for timescale in timescales:
        least = least * timescale // gcd(least, timescale)
    return least
