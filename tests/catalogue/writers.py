"""The same tags written by mutagen in each of the five ways in which files keep them."""

from pathlib import Path
from typing import Any

import mutagen
from mutagen import apev2, asf, flac, id3, mp4

ARTIST_IDS = ("11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222")
ONE = "33333333-3333-4333-8333-333333333333"

# By the names that Picard gives in Vorbis comments.
PLAIN = {
    "title": ["Jóga"],
    "album": ["Homogenic"],
    "artist": ["Björk feat. 坂本 龍一"],
    "artists": ["Björk", "坂本 龍一"],
    "albumartist": ["Björk"],
    "composer": ["Björk", "Sjón"],
    "conductor": ["Eumir Deodato"],
    "genre": ["Electronic", "Art Pop"],
    "mood": ["Calm"],
    "tracknumber": ["3"],
    "tracktotal": ["12"],
    "discnumber": ["1"],
    "disctotal": ["2"],
    "discsubtitle": ["State of Emergency"],
    "date": ["1997-09-22"],
    "originaldate": ["1996"],
    "compilation": ["1"],
    "bpm": ["84"],
    "comment": ["line one\nline two"],
    "isrc": ["GBBLG9700123"],
    "label": ["One Little Indian"],
    "titlesort": ["Joga"],
    "artistsort": ["Bjork"],
    "musicbrainz_trackid": [ONE],
    "musicbrainz_releasetrackid": [ONE],
    "musicbrainz_albumid": [ONE],
    "musicbrainz_releasegroupid": [ONE],
    "musicbrainz_artistid": list(ARTIST_IDS),
    "musicbrainz_albumartistid": [ARTIST_IDS[0]],
    "replaygain_track_gain": ["-6.54 dB"],
    "replaygain_track_peak": ["0.987654"],
    "replaygain_album_gain": ["+1.20 dB"],
    "replaygain_album_peak": ["1.012"],
    "lyrics": ["All these accidents\nThat happen"],
}

# What must come out of all of them.
EXPECTED = {
    "title": "Jóga",
    "album": "Homogenic",
    "artist": "Björk feat. 坂本 龍一",
    "artists": ("Björk", "坂本 龍一"),
    "album_artist": "Björk",
    "album_artists": ("Björk",),
    "composers": ("Björk", "Sjón"),
    "contributors": (("composer", "Björk"), ("composer", "Sjón"), ("conductor", "Eumir Deodato")),
    "genres": ("Electronic", "Art Pop"),
    "moods": ("Calm",),
    "track": 3,
    "tracks": 12,
    "disc": 1,
    "discs": 2,
    "disc_title": "State of Emergency",
    "date": "1997-09-22",
    "original_date": "1996",
    "compilation": True,
    "bpm": 84,
    "comment": "line one\nline two",
    "isrcs": ("GBBLG9700123",),
    "labels": ("One Little Indian",),
    "title_sort": "Joga",
    "artist_sort": "Bjork",
    "recording_id": ONE,
    "release_track_id": ONE,
    "release_id": ONE,
    "release_group_id": ONE,
    "artist_ids": ARTIST_IDS,
    "album_artist_ids": ARTIST_IDS[:1],
    "track_gain": -6.54,
    "track_peak": 0.987654,
    "album_gain": 1.2,
    "album_peak": 1.012,
}
LYRICS = "All these accidents\nThat happen"

_TEXTS = {
    "title": id3.TIT2,
    "album": id3.TALB,
    "artist": id3.TPE1,
    "albumartist": id3.TPE2,
    "composer": id3.TCOM,
    "conductor": id3.TPE3,
    "genre": id3.TCON,
    "mood": id3.TMOO,
    "discsubtitle": id3.TSST,
    "date": id3.TDRC,
    "originaldate": id3.TDOR,
    "compilation": id3.TCMP,
    "bpm": id3.TBPM,
    "isrc": id3.TSRC,
    "label": id3.TPUB,
    "titlesort": id3.TSOT,
    "artistsort": id3.TSOP,
}
_TXXX = {
    "artists": "ARTISTS",
    "musicbrainz_releasetrackid": "MusicBrainz Release Track Id",
    "musicbrainz_albumid": "MusicBrainz Album Id",
    "musicbrainz_releasegroupid": "MusicBrainz Release Group Id",
    "musicbrainz_artistid": "MusicBrainz Artist Id",
    "musicbrainz_albumartistid": "MusicBrainz Album Artist Id",
}
_MP4 = {
    "title": "\xa9nam",
    "album": "\xa9alb",
    "artist": "\xa9ART",
    "albumartist": "aART",
    "composer": "\xa9wrt",
    "genre": "\xa9gen",
    "date": "\xa9day",
    "comment": "\xa9cmt",
    "titlesort": "sonm",
    "artistsort": "soar",
    "lyrics": "\xa9lyr",
}
_FREEFORM = {
    "musicbrainz_trackid": "MusicBrainz Track Id",
    "musicbrainz_releasetrackid": "MusicBrainz Release Track Id",
    "musicbrainz_albumid": "MusicBrainz Album Id",
    "musicbrainz_releasegroupid": "MusicBrainz Release Group Id",
    "musicbrainz_artistid": "MusicBrainz Artist Id",
    "musicbrainz_albumartistid": "MusicBrainz Album Artist Id",
}
_ASF = {
    "title": "Title",
    "artist": "Author",
    "album": "WM/AlbumTitle",
    "albumartist": "WM/AlbumArtist",
    "artists": "WM/ARTISTS",
    "composer": "WM/Composer",
    "conductor": "WM/Conductor",
    "genre": "WM/Genre",
    "mood": "WM/Mood",
    "tracknumber": "WM/TrackNumber",
    "discnumber": "WM/PartOfSet",
    "discsubtitle": "WM/SetSubTitle",
    "date": "WM/Year",
    "originaldate": "WM/OriginalReleaseTime",
    "compilation": "WM/IsCompilation",
    "bpm": "WM/BeatsPerMinute",
    "comment": "Description",
    "isrc": "WM/ISRC",
    "label": "WM/Publisher",
    "titlesort": "WM/TitleSortOrder",
    "artistsort": "WM/ArtistSortOrder",
    "musicbrainz_trackid": "MusicBrainz/Track Id",
    "musicbrainz_releasetrackid": "MusicBrainz/Release Track Id",
    "musicbrainz_albumid": "MusicBrainz/Album Id",
    "musicbrainz_releasegroupid": "MusicBrainz/Release Group Id",
    "musicbrainz_artistid": "MusicBrainz/Artist Id",
    "musicbrainz_albumartistid": "MusicBrainz/Album Artist Id",
    "lyrics": "WM/Lyrics",
}
_APE = {"tracknumber": "Track", "discnumber": "Disc", "date": "Year"}


def write(path: Path, picture: bytes | None = None) -> None:
    """All of PLAIN into a file that has no tags yet, and a front cover (PNG)."""
    file: Any = mutagen.File(path)
    if isinstance(file, mp4.MP4):
        _write_mp4(file, picture)
    elif isinstance(file, asf.ASF):
        _write_asf(file, picture)
    elif isinstance(file, apev2.APEv2File):
        _write_ape(file, picture)
    elif hasattr(file, "ID3") or type(file).__name__ in ("AIFF", "WAVE", "DSF", "DSDIFF"):
        _write_id3(file, picture)
    else:
        _write_vorbis(file, picture)
    file.save()


def _write_id3(file: Any, picture: bytes | None) -> None:
    if file.tags is None:
        file.add_tags()
    for name, kind in _TEXTS.items():
        file.tags.add(kind(encoding=3, text=PLAIN[name]))
    for name, called in _TXXX.items():
        file.tags.add(id3.TXXX(encoding=3, desc=called, text=PLAIN[name]))
    for name in ("track_gain", "track_peak", "album_gain", "album_peak"):
        file.tags.add(id3.TXXX(encoding=3, desc=f"replaygain_{name}", text=PLAIN[f"replaygain_{name}"]))
    file.tags.add(id3.TRCK(encoding=3, text="3/12"))
    file.tags.add(id3.TPOS(encoding=3, text="1/2"))
    file.tags.add(id3.COMM(encoding=3, lang="eng", desc="", text=PLAIN["comment"]))
    file.tags.add(id3.COMM(encoding=3, lang="eng", desc="iTunNORM", text=" 00000000 00000000"))
    file.tags.add(id3.USLT(encoding=3, lang="eng", desc="", text=LYRICS))
    file.tags.add(id3.UFID(owner="http://musicbrainz.org", data=ONE.encode()))
    if picture:
        file.tags.add(id3.APIC(encoding=3, mime="image/jpeg", type=3, desc="cover", data=picture))


def _write_vorbis(file: Any, picture: bytes | None) -> None:
    if file.tags is None:
        file.add_tags()
    for name, values in PLAIN.items():
        file[name] = values
    if picture:
        block = flac.Picture()
        block.type, block.mime, block.data = 3, "image/jpeg", picture
        if isinstance(file, flac.FLAC):
            file.add_picture(block)
        else:
            import base64

            file["metadata_block_picture"] = [base64.b64encode(block.write()).decode()]


def _write_mp4(file: Any, picture: bytes | None) -> None:
    file.delete()
    for name, values in PLAIN.items():
        if name in _MP4:
            file[_MP4[name]] = values
        elif name not in ("tracknumber", "tracktotal", "discnumber", "disctotal", "compilation", "bpm"):
            called = _FREEFORM.get(name, name.upper())
            file[f"----:com.apple.iTunes:{called}"] = [value.encode() for value in values]
    file["trkn"], file["disk"], file["cpil"], file["tmpo"] = [(3, 12)], [(1, 2)], True, [84]
    if picture:
        file["covr"] = [mp4.MP4Cover(picture, mp4.MP4Cover.FORMAT_JPEG)]


def _write_asf(file: Any, picture: bytes | None) -> None:
    for name, values in PLAIN.items():
        if name not in ("tracktotal", "disctotal"):
            file[_ASF.get(name, name)] = [
                "3/12" if name == "tracknumber" else "1/2" if name == "discnumber" else v for v in values
            ]
    if picture:
        body = b"\3" + len(picture).to_bytes(4, "little") + "image/jpeg\0cover\0".encode("utf-16-le") + picture
        file["WM/Picture"] = [asf.ASFByteArrayAttribute(body)]


def _write_ape(file: Any, picture: bytes | None) -> None:
    if file.tags is None:
        file.add_tags()
    for name, values in PLAIN.items():
        if name not in ("tracktotal", "disctotal"):
            file[_APE.get(name, name)] = (
                ["3/12"] if name == "tracknumber" else ["1/2"] if name == "discnumber" else values
            )
    if picture:
        file["Cover Art (Front)"] = apev2.APEValue(b"cover.png\0" + picture, apev2.BINARY)
