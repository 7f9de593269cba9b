"""What a reader finds in a file: its sound, and fields by name, as yet undecoded where no charset is given.

Every format has names of its own for the same fields. Those that people write themselves (Vorbis comments, APEv2 items,
ID3's TXXX, MP4's freeform atoms, ASF attributes) are compared without case, spaces and underscores, in one table.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

from playhead.catalogue.pictures import Picture

Value = str | bytes  # bytes: a text whose charset nobody tells
Fields = dict[str, list[Value]]

VALUES = 64  # of one field, at most
TEXT = 256 * 1024  # bytes of one value, at most; longer ones are left out


@dataclass(slots=True)
class Lyrics:
    """`language` as the file tells it (ISO 639-2; "" where it does not). `lines`: (milliseconds, text)."""

    language: str
    text: Value = ""
    lines: list[tuple[int, Value]] = field(default_factory=list)


@dataclass(slots=True)
class Sound:
    """How a track sounds; 0, None or "" for what is not told.

    `length` in seconds, without `delay` and `padding`, the samples of silence that an encoder added at either end.
    `guessed`: the length is an estimate. `size`: bytes of sound. `gain` in dB: what a decoder adds of itself.
    """

    codec: str = ""
    lossless: bool = False
    rate: int = 0
    channels: int = 0
    bits: int = 0
    length: Fraction | None = None
    guessed: bool = False
    kbits: int = 0
    size: int = 0
    delay: int = 0
    padding: int = 0
    gain: float = 0.0


@dataclass(slots=True)
class Found:
    """What one part of a file tells."""

    sound: Sound = field(default_factory=Sound)
    fields: Fields = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)
    lyrics: list[Lyrics] = field(default_factory=list)

    def add(self, name: str, *values: Value) -> None:
        """Values of a field by its name in `NAMES`, after those that it has."""
        there = self.fields.setdefault(name, [])
        there.extend(value for value in values[: VALUES - len(there)] if value and len(value) <= TEXT)

    def named(self, name: str, *values: Value) -> None:
        """The same by a name that people write; one that means nothing to us is left out."""
        known = NAMES.get(squashed(name))
        if known == "lyrics":
            self.lyrics.extend(Lyrics("", value) for value in values[:VALUES] if value and len(value) <= TEXT)
        elif known:
            self.add(known, *values)

    def take(self, others: Iterable["Found"]) -> None:
        """What others tell that this one does not."""
        for other in others:
            for name, values in other.fields.items():
                self.fields.setdefault(name, values)
            self.pictures = self.pictures or other.pictures
            self.lyrics = self.lyrics or other.lyrics


def seconds(samples: int, rate: int) -> Fraction | None:
    """How long so many samples are; None where that is not told."""
    return Fraction(samples, rate) if rate > 0 and samples > 0 else None


def squashed(name: str) -> str:
    return "".join(char for char in name.lower() if char not in " _-/:")


_SPELLINGS = {
    "title": "title",
    "subtitle": "subtitle version",
    "album": "album",
    "album_version": "albumversion",
    "artist": "artist author",
    "artists": "artists",
    "album_artist": "albumartist band",
    "album_artists": "albumartists",
    "genre": "genre",
    "mood": "mood",
    "grouping": "grouping contentgroup contentgroupdescription",
    "work": "work",
    "movement": "movement movementname",
    "track": "tracknumber track",
    "tracks": "totaltracks tracktotal trackc tracks",
    "disc": "discnumber disc disk partofset",
    "discs": "totaldiscs disctotal discc discs",
    "disc_title": "discsubtitle setsubtitle",
    "date": "date year",
    "original_date": "originaldate originalyear origyear originalreleaseyear originalreleasetime",
    "release_date": "releasedate releasetime",
    "compilation": "compilation iscompilation itunescompilation",
    "bpm": "bpm tempo beatsperminute",
    "comment": "comment comments description",
    "copyright": "copyright",
    "isrc": "isrc",
    "label": "label organization publisher recordlabel",
    "catalog": "catalognumber",
    "barcode": "barcode",
    "language": "language",
    "release_type": "releasetype musicbrainzalbumtype musicbrainztype",
    "explicit": "itunesadvisory explicit",
    "title_sort": "titlesort titlesortorder",
    "album_sort": "albumsort albumsortorder",
    "artist_sort": "artistsort artistsortorder artistssort",
    "album_artist_sort": "albumartistsort albumartistsortorder albumartistssort",
    "composer_sort": "composersort composersortorder",
    "recording": "musicbrainztrackid musicbrainzrecordingid",
    "release_track": "musicbrainzreleasetrackid",
    "release": "musicbrainzalbumid musicbrainzreleaseid",
    "release_group": "musicbrainzreleasegroupid",
    "artist_ids": "musicbrainzartistid",
    "album_artist_ids": "musicbrainzalbumartistid",
    "track_gain": "replaygaintrackgain",
    "track_peak": "replaygaintrackpeak",
    "album_gain": "replaygainalbumgain",
    "album_peak": "replaygainalbumpeak",
    "r128_track": "r128trackgain",
    "r128_album": "r128albumgain",
    "gapless": "itunsmpb",
    "lyrics": "lyrics unsyncedlyrics unsynchronisedlyrics syncedlyrics",
    "composer": "composer",
    "lyricist": "lyricist writer",
    "conductor": "conductor",
    "remixer": "remixer mixartist modifiedby",
    "arranger": "arranger",
    "producer": "producer",
    "engineer": "engineer",
    "mixer": "mixer",
    "djmixer": "djmixer",
    "performer": "performer",
}
NAMES = {spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings.split()}
ROLES = ["composer", "lyricist", "conductor", "remixer", "arranger", "producer", "engineer", "mixer", "djmixer"]
ROLES += ["performer"]
