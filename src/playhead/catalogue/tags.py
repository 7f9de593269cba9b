"""Blob -> Tags: what an audio file says of itself, read from a few ranges of it and never from all of it.

Tags may stand before, in and behind a container, and several kinds at once: the container's own win, then those that
are richer (ID3v2, APEv2, ID3v1); a field that one lacks is taken from the next. Texts that come without a charset are
looked at together, so that even a title of two letters is read as what it is. A name is needed for messages only: what
a file is its bytes tell. What cannot be read is Damaged or Malformed, with the reason.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

from playhead.blob import Blob
from playhead.catalogue import fields
from playhead.catalogue.audio import ape, asf, chunks, flac, id3, matroska, mp4, mpeg, ogg, others
from playhead.catalogue.charsets import charset, decoded
from playhead.catalogue.found import ROLES, Found, Sound, Value
from playhead.catalogue.found import Lyrics as Raw
from playhead.catalogue.pictures import Picture
from playhead.catalogue.view import Missing, View, parsed
from playhead.errors import Damaged, Failure, Malformed

_LYRICS = 16  # texts of one file, at most
_LINES = 4096


@dataclass(frozen=True, slots=True)
class Lyrics:
    """`language`: ISO 639-2, "" where it is not told. Either a `text`, or `lines` of (milliseconds, text)."""

    language: str
    text: str = ""
    lines: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Tags:
    """What a file says of its music and of its sound; None, "", () and False for what it does not.

    `artist` and `album_artist` are the credits as they are printed, `artists` and `album_artists` the names in them.
    Dates are YYYY[-MM[-DD]]. Gains are in dB to ReplayGain's level; `output_gain` is what an Opus decoder adds itself.
    `contributors` are (role, name). `duration_ms` is without the encoder's `delay` and `padding` (samples), to the
    sample where the format tells; `estimated` where it does not. `bitrate` in kbit/s, `sample_rate` in Hz.
    """

    title: str | None = None
    subtitle: str | None = None
    album: str | None = None
    album_version: str | None = None
    artist: str | None = None
    artists: tuple[str, ...] = ()
    album_artist: str | None = None
    album_artists: tuple[str, ...] = ()
    composers: tuple[str, ...] = ()
    contributors: tuple[tuple[str, str], ...] = ()
    genres: tuple[str, ...] = ()
    moods: tuple[str, ...] = ()
    groupings: tuple[str, ...] = ()
    works: tuple[str, ...] = ()
    movement: str | None = None
    track: int | None = None
    tracks: int | None = None
    disc: int | None = None
    discs: int | None = None
    disc_title: str | None = None
    date: str | None = None
    original_date: str | None = None
    release_date: str | None = None
    compilation: bool = False
    explicit: bool = False
    bpm: int | None = None
    comment: str | None = None
    copyright: str | None = None
    isrcs: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    catalog: str | None = None
    barcode: str | None = None
    language: str | None = None
    release_types: tuple[str, ...] = ()
    title_sort: str | None = None
    album_sort: str | None = None
    artist_sort: str | None = None
    album_artist_sort: str | None = None
    composer_sort: str | None = None
    recording_id: str | None = None
    release_track_id: str | None = None
    release_id: str | None = None
    release_group_id: str | None = None
    artist_ids: tuple[str, ...] = ()
    album_artist_ids: tuple[str, ...] = ()
    track_gain: float | None = None
    track_peak: float | None = None
    album_gain: float | None = None
    album_peak: float | None = None
    output_gain: float = 0.0
    lyrics: tuple[Lyrics, ...] = ()
    pictures: tuple[Picture, ...] = ()
    duration_ms: int | None = None
    estimated: bool = False
    bitrate: int | None = None
    sample_rate: int | None = None
    channels: int | None = None
    bits: int | None = None
    codec: str = ""
    lossless: bool = False
    delay: int = 0
    padding: int = 0


def _unheard(count: int) -> None: ...


async def tags_of(blob: Blob, name: str, *, spent: Callable[[int], None] = _unheard) -> Tags:
    """What a file says. `name` is for messages; `spent` is told the bytes of each range that was fetched.

    Raises Malformed where it is no audio file that we know, Damaged where it is one and cannot be read, and what
    reading the blob raises.
    """
    if not blob.size:
        raise Malformed(f"{name!r} is empty")
    try:
        return await parsed(blob, _tags, spent)
    except (Damaged, Malformed) as failure:
        failure.args = (f"{name!r}: {failure}",)
        raise


def _tags(view: View) -> Tags:
    try:
        return _made(_found(view))
    except (Missing, Failure):
        raise
    except (ValueError, LookupError, ArithmeticError, struct.error, TypeError, RecursionError) as error:
        raise Damaged(f"its tags make no sense ({type(error).__name__})") from error


# ── which file it is ──

_Reader = Callable[[View, int, int], Found]
_MAGIC: list[tuple[int, bytes, _Reader]] = [
    (0, b"fLaC", flac.read),
    (0, b"OggS", ogg.read),
    (4, b"ftyp", mp4.read),
    (8, b"WAVE", chunks.wave),
    (8, b"AIFF", chunks.aiff),
    (8, b"AIFC", chunks.aiff),
    (0, b"DSD ", chunks.dsf),
    (0, b"FRM8", chunks.dsdiff),
    (0, asf.HEADER, asf.read),
    (0, b"\x1a\x45\xdf\xa3", matroska.read),
    (0, b"wvpk", others.wavpack),
    (0, b"MAC ", others.monkeys),
    (0, b"MPCK", others.musepack),
    (0, b"MP+", others.musepack),
    (0, b"tBaK", others.tak),
    (0, b"TTA1", others.trueaudio),
    (0, b"OFR ", others.optimfrog),
    (0, b"\x0b\x77", others.ac3),
    (0, b"ADIF", others.adif),
    (0, b"MThd", others.midi),
    (4, b"moov", mp4.read),
    (4, b"mdat", mp4.read),
]


def _found(view: View) -> Found:
    before, start = id3.leading(view, 0)
    behind, stop = _behind(view, start)
    head = view.read(start, start + 16)
    reader = next((read for at, magic, read in _MAGIC if head.startswith(magic, at)), None)
    if reader is not None:
        found = reader(view, start, stop)
        found.take([*behind, *before] if reader in _APE_FIRST else [*before, *behind])
        return found
    found = Found()
    found.take([*before, *behind])
    try:
        found.sound = mpeg.read(view, start, stop).sound
    except Malformed:
        if not found.fields:
            raise Malformed("it is no audio file that can be read") from None
        raise Damaged("it has tags, and no sound that can be read: is it whole?") from None
    return found


_APE_FIRST = {others.wavpack, others.monkeys, others.musepack, others.tak, others.optimfrog}


def _behind(view: View, start: int) -> tuple[list[Found], int]:
    """The tags at the end, the richest first, and where the sound ends before them."""
    stop, found = view.size, []
    last = id3.first_version(view.read(max(start, stop - 128), stop))
    stop -= 128 if last else 0
    for _ in range(4):
        tag = ape.before(view, stop) or id3.appended(view, stop) or _lyrics3(view, stop)
        if tag is None or tag[1] < start:
            break
        found.append(tag[0])
        stop = tag[1]
    return [*found, last] if last else found, stop


def _lyrics3(view: View, stop: int) -> tuple[Found, int] | None:
    """A Lyrics3 2.00 tag; nobody reads it any more, but it is no sound."""
    foot = view.read(max(0, stop - 15), stop)
    if foot[6:] != b"LYRICS200" or not foot[:6].isdigit() or int(foot[:6]) + 15 > stop:
        return None
    return Found(), stop - 15 - int(foot[:6])


# ── what it says ──


def _made(found: Found) -> Tags:
    texts = _Texts(found)
    tags = replace(texts.names(), **texts.numbers(), **texts.gains(), **texts.ids())  # type: ignore[arg-type]
    lyrics = tuple(made for raw in found.lyrics[:_LYRICS] if (made := texts.lyrics(raw)))
    sound = _gapless(found.sound, texts.first("gapless"))
    return replace(_heard(tags, sound), lyrics=lyrics, pictures=tuple(found.pictures))


class _Texts:
    """The fields of a file, as texts: in the charset that suits all of those without one."""

    def __init__(self, found: Found) -> None:
        unknown = [value for values in found.fields.values() for value in values if isinstance(value, bytes)]
        unknown += [raw.text[:400] for raw in found.lyrics if isinstance(raw.text, bytes)]
        self.charset = charset([value[:400] for value in unknown[:64]])
        self.fields = {name: [self.text(value) for value in values] for name, values in found.fields.items()}

    def text(self, value: Value) -> str:
        return decoded(value, self.charset) if isinstance(value, bytes) else value

    def all(self, name: str) -> list[str]:
        return self.fields.get(name, [])

    def first(self, name: str) -> str:
        return next((text for text in self.all(name) if text.strip()), "")

    def line(self, name: str) -> str | None:
        return fields.line(self.first(name)) or None

    def credit(self, name: str) -> str | None:
        """Several artists in fields of their own are printed as one line."""
        return fields.line(", ".join(fields.names(self.all(name), r"(?!)"))) or None

    def names(self) -> Tags:
        artist, album_artist = self.credit("artist"), self.credit("album_artist")
        contributors = [(role, name) for role in ROLES for name in fields.names(self.all(role))]
        return Tags(
            **{name: self.line(name) for name in _LINES_OF},  # type: ignore[arg-type]
            artist=artist,
            artists=self._people("artist", artist),
            album_artist=album_artist,
            album_artists=self._people("album_artist", album_artist),
            composers=fields.names(self.all("composer")),
            contributors=tuple(dict.fromkeys(contributors))[: 2 * fields.NAMES],
            genres=fields.genres(self.all("genre")),
            moods=fields.names(self.all("mood")),
            groupings=fields.names(self.all("grouping")),
            works=fields.names(self.all("work")),
            labels=fields.names(self.all("label")),
            isrcs=fields.isrcs(self.all("isrc")),
            release_types=tuple(text.lower() for text in fields.names(self.all("release_type"), r";\s*|/")),
            comment=fields.lines(self.first("comment")) or None,
        )

    def _people(self, name: str, credit: str | None) -> tuple[str, ...]:
        """The names in a credit: a list of them (Picard's) wins over the credit itself."""
        ids = len(fields.uuids(self.all(f"{name}_ids")))
        return fields.listed(self.all(f"{name}s"), credit or "", ids) or fields.names(self.all(name))

    def numbers(self) -> dict[str, object]:
        track, tracks = fields.counted(self.first("track"))
        disc, discs = fields.counted(self.first("disc"))
        return {
            "track": track,
            "tracks": fields.counted(self.first("tracks"))[0] or tracks,
            "disc": disc,
            "discs": fields.counted(self.first("discs"))[0] or discs,
            "date": self._date("date"),
            "original_date": self._date("original_date"),
            "release_date": self._date("release_date"),
            "compilation": fields.yes(self.first("compilation")),
            "explicit": self.first("explicit").strip() in ("1", "4"),
            "bpm": fields.whole(self.first("bpm")),
        }

    def _date(self, name: str) -> str | None:
        """The most exact of the dates that are told."""
        found = [date for text in self.all(name) if (date := fields.date(text))]
        return max(found, key=len) if found else None

    def gains(self) -> dict[str, object]:
        gains: dict[str, object] = {}
        for kind in ("track", "album"):
            gain = fields.decibels(self.first(f"{kind}_gain"))
            gains[f"{kind}_gain"] = fields.r128(self.first(f"r128_{kind}")) if gain is None else gain
            gains[f"{kind}_peak"] = fields.peak(self.first(f"{kind}_peak"))
        return gains

    def ids(self) -> dict[str, object]:
        one = {
            f"{name}_id": next(iter(fields.uuids(self.all(name))), None)
            for name in ("recording", "release_track", "release", "release_group")
        }
        return one | {name: fields.uuids(self.all(name)) for name in ("artist_ids", "album_artist_ids")}

    def lyrics(self, raw: Raw) -> Lyrics | None:
        lines = tuple((time, fields.line(self.text(text))) for time, text in raw.lines[:_LINES] if time >= 0)
        text = fields.lines(self.text(raw.text), fields.LYRICS)
        return Lyrics(raw.language, "" if lines else text, lines) if lines or text else None


_LINES_OF = [
    *("title", "subtitle", "album", "album_version", "movement", "disc_title", "copyright", "catalog", "barcode"),
    *("language", "title_sort", "album_sort", "artist_sort", "album_artist_sort", "composer_sort"),
]


def _gapless(sound: Sound, text: str) -> Sound:
    """The sound as iTunes' own note says it is, where it can be believed."""
    told = fields.gapless(text) if text and sound.rate else None
    if told is None:
        return sound
    length = Fraction(told[2], sound.rate)
    if sound.length is not None and abs(sound.length - length) > 1:
        return sound
    return replace(sound, length=length, delay=told[0], padding=told[1], guessed=False)


def _heard(tags: Tags, sound: Sound) -> Tags:
    length = sound.length if sound.length and sound.length < 1_000_000 else None
    bitrate = round(sound.size * 8 / length / 1000) if length and sound.size else 0
    return replace(
        tags,
        duration_ms=round(length * 1000) if length else None,
        estimated=sound.guessed,
        bitrate=min(bitrate, 1_000_000) or sound.kbits or None,
        sample_rate=sound.rate or None,
        channels=sound.channels or None,
        bits=sound.bits or None,
        codec=sound.codec[:16],
        lossless=sound.lossless,
        delay=sound.delay,
        padding=sound.padding,
        output_gain=sound.gain,
    )
