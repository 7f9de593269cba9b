"""What files say of themselves: every format that can be written here, told by ranges and not by whole files."""

import base64
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from playhead import Damaged, Malformed, literal
from playhead.catalogue.embedded import picture_of
from playhead.catalogue.tags import Tags, tags_of
from playhead.catalogue.view import MOST
from tests.catalogue import sounds, writers
from tests.catalogue.sounds import JPEG, PNG, RATE, SAMPLES, counting, encoded, frame, id3, needs_ffmpeg

ORDINARY = 192 * 1024
EXACT = round(SAMPLES * 1000 / RATE)


async def read(data: bytes, name: str = "x") -> tuple[Tags, sounds.Counting]:
    blob = counting(data)
    told: list[int] = []
    tags = await tags_of(blob, name, spent=told.append)
    assert sum(told) == blob.bytes_read and len(told) == len(blob.read_)
    return tags, blob


async def cover(tags: Tags, data: bytes) -> bytes:
    """The one picture; a cut of the file where it has a place."""
    [picture] = tags.pictures
    made = await (await picture_of(literal(data), picture)).read()
    if picture.start is not None:
        assert data[picture.start : picture.start + picture.length] == made
    return made


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sounds.source(tmp_path_factory.mktemp("sounds"))


# name, ffmpeg's options, codec, lossless, bits, how many ms the length may be off that of the source
FORMATS = [
    ("x.mp3", ["-b:a", "128k"], "mp3", False, None, 0),
    ("vbr.mp3", ["-q:a", "4"], "mp3", False, None, 0),
    ("x.flac", [], "flac", True, 16, 0),
    ("x.ogg", ["-c:a", "libvorbis"], "vorbis", False, None, 0),
    ("x.opus", ["-c:a", "libopus"], "opus", False, None, 0),
    ("x.oga", ["-c:a", "flac"], "flac", True, 16, 0),
    ("x.spx", ["-c:a", "libspeex", "-ar", "16000", "-ac", "1"], "speex", False, None, 20),
    ("x.m4a", ["-c:a", "aac"], "aac", False, None, 0),
    ("fast.m4a", ["-c:a", "aac", "-movflags", "+faststart"], "aac", False, None, 0),
    ("alac.m4a", ["-c:a", "alac"], "alac", True, 16, 0),
    ("x.wav", [], "pcm", True, 16, 0),
    ("deep.wav", ["-c:a", "pcm_s24le"], "pcm", True, 24, 0),
    ("x.aiff", [], "pcm", True, 16, 0),
    ("x.wma", ["-c:a", "wmav2"], "wma", False, None, 60),
    ("x.wv", ["-c:a", "wavpack"], "wavpack", True, 16, 0),
    ("x.tta", ["-c:a", "tta"], "tta", True, 16, 0),
]


@needs_ffmpeg
@pytest.mark.parametrize(
    ("name", "options", "codec", "lossless", "bits", "off"), FORMATS, ids=[row[0] for row in FORMATS]
)
async def test_all_that_mutagen_wrote_is_read_in_one_round_trip(
    wav: Path, name: str, options: list[str], codec: str, lossless: bool, bits: int | None, off: int
) -> None:
    path = encoded(wav, name, *options, tagged=False)
    writers.write(path, PNG)
    data = path.read_bytes()
    tags, blob = await read(data, name)
    got = asdict(tags)
    assert {key: got[key] for key in writers.EXPECTED} == writers.EXPECTED
    assert [lyrics.text for lyrics in tags.lyrics] == [writers.LYRICS]
    assert len(blob.read_) <= 2 and blob.bytes_read <= min(ORDINARY, len(data))
    assert (tags.codec, tags.lossless, tags.bits) == (codec, lossless, bits)
    assert tags.sample_rate == (16000 if codec == "speex" else 48000 if codec == "opus" else RATE)
    assert tags.channels == (1 if codec == "speex" else 2)
    assert not tags.estimated
    assert tags.duration_ms is not None and abs(tags.duration_ms - EXACT) <= off
    [picture] = tags.pictures
    assert (picture.kind, picture.type) == (3, "image/png")  # and not the JPEG that the tag claims
    if codec in ("vorbis", "opus", "speex"):
        assert picture.start is None
    assert await cover(tags, data) == PNG


PROBED = [
    ("a.aac", ["-c:a", "aac"], False),
    ("a.ac3", ["-c:a", "ac3"], True),
    ("a.mka", ["-c:a", "flac"], True),
    ("opus.mka", ["-c:a", "libopus"], True),
    ("a.webm", ["-c:a", "libopus"], True),
    ("a.wma", ["-c:a", "wmav2"], True),
    ("a.mp2", ["-c:a", "mp2"], True),
    ("cbr.mp3", ["-b:a", "192k", "-write_xing", "0"], True),
    ("fragments.mp4", ["-c:a", "aac", "-movflags", "frag_keyframe+empty_moov", "-frag_duration", "1000000"], True),
    ("dash.mp4", ["-c:a", "aac", "-movflags", "dash+global_sidx", "-frag_duration", "1000000"], True),
    ("alaw.wav", ["-c:a", "pcm_alaw"], True),
    ("float.wav", ["-c:a", "pcm_f32le"], True),
    ("big.wav", ["-rf64", "always"], True),
]


@needs_ffmpeg
@pytest.mark.parametrize(("name", "options", "exact"), PROBED, ids=[row[0] for row in PROBED])
async def test_lengths_are_those_that_ffprobe_finds_to_a_millisecond(
    wav: Path, name: str, options: list[str], exact: bool
) -> None:
    path = encoded(wav, name, *options)
    tags, blob = await read(path.read_bytes(), name)
    expected = sounds.probed(path) if exact else EXACT
    assert tags.duration_ms is not None
    assert abs(tags.duration_ms - expected) <= (1 if exact else 300)
    assert tags.estimated is (not exact)
    assert blob.bytes_read <= ORDINARY
    if path.suffix in (".mka", ".webm", ".wma", ".wav"):
        assert (tags.title, tags.artists, tags.album, tags.track) == ("Jóga 日本", ("Björk",), "Homogenic", 3)


@needs_ffmpeg
async def test_what_encoders_added_is_told_and_not_counted(wav: Path) -> None:
    tags, _ = await read(encoded(wav, "gap.mp3", "-b:a", "128k").read_bytes())
    assert tags.delay > 0 and tags.padding > 0
    assert (SAMPLES + tags.delay + tags.padding) % 1152 == 0
    tags, _ = await read(encoded(wav, "gap.m4a", "-c:a", "aac").read_bytes())
    assert tags.delay == 1024 and tags.duration_ms == EXACT


@needs_ffmpeg
async def test_a_variable_bit_rate_that_nobody_counted_is_estimated_and_said_to_be(wav: Path) -> None:
    plain = ["-write_xing", "0", "-id3v2_version", "0", "-write_id3v1", "0"]
    data = encoded(wav, "free.mp3", "-q:a", "4", *plain, tagged=False).read_bytes()
    tags, blob = await read(data * 20)
    assert tags.estimated and tags.duration_ms is not None
    assert abs(tags.duration_ms - 20 * EXACT) < EXACT
    assert blob.bytes_read <= ORDINARY


async def test_a_constant_bit_rate_is_counted_to_the_frame_without_reading_all() -> None:
    tags, blob = await read(sounds.mp3(5000))
    assert tags.duration_ms == round(5000 * 1152 * 1000 / 44100) and not tags.estimated
    assert (tags.bitrate, blob.bytes_read) == (128, 128 * 1024)


# ── pictures that are larger than all that may be read ──

HUGE = PNG + bytes(10_000_000)


@needs_ffmpeg
@pytest.mark.parametrize(
    "name", ["x.mp3", "x.flac", "x.m4a", "x.wma", "x.wv", "x.wav", "x.aiff", "x.tta", "x.opus", "x.ogg"]
)
async def test_a_picture_of_10_mb_is_stepped_over_and_only_its_place_is_told(wav: Path, name: str) -> None:
    path = encoded(wav, "huge-" + name, *(["-c:a", "libvorbis"] if name == "x.ogg" else []), tagged=False)
    writers.write(path, HUGE)
    data = path.read_bytes()
    tags, blob = await read(data, name)
    got = asdict(tags)
    assert {key: got[key] for key in writers.EXPECTED} == writers.EXPECTED
    assert tags.duration_ms is not None
    assert blob.bytes_read <= ORDINARY + 64 * 1024
    [picture] = tags.pictures
    assert (picture.kind, picture.type) == (3, "image/png")
    if name in ("x.opus", "x.ogg"):
        assert picture.start is None and picture.length > len(HUGE)
    assert await cover(tags, data) == HUGE


async def test_comments_behind_a_picture_in_ogg_are_found_by_the_numbers_of_pages() -> None:
    block = struct.pack(">II", 3, 9) + b"image/png" + bytes(20) + len(HUGE).to_bytes(4) + HUGE
    coded = b"METADATA_BLOCK_PICTURE=" + base64.b64encode(block)
    data = sounds.opus(b"TITLE=before", coded, b"ARTIST=behind", samples=96_000)
    tags, blob = await read(data)
    assert await cover(tags, data) == HUGE
    with pytest.raises(Damaged, match="picture"):
        await cover(tags, data[:5_000_000])
    assert (tags.title, tags.artists, tags.duration_ms) == ("before", ("behind",), 2000)
    assert [picture.type for picture in tags.pictures] == ["image/png"]
    assert blob.bytes_read <= ORDINARY and len(blob.read_) <= 5


@needs_ffmpeg
async def test_the_sample_tables_of_a_long_book_are_not_read(wav: Path) -> None:
    path = encoded(wav, "book.m4a", "-c:a", "aac", tagged=False)
    writers.write(path)
    data = path.read_bytes()
    moov = data.rindex(b"moov") - 4
    film = bytearray(data[moov:])
    table = 3_000_000
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        at = film.index(kind) - 4
        film[at : at + 4] = (int.from_bytes(film[at : at + 4]) + table).to_bytes(4)
    at = film.index(b"stsz") - 4
    film[at:at] = table.to_bytes(4) + b"free" + bytes(table - 8)
    tags, blob = await read(data[:moov] + bytes(film))
    assert (tags.title, tags.duration_ms) == ("Jóga", EXACT)
    assert blob.bytes_read <= ORDINARY


# ── ID3 in all its ways ──


@pytest.mark.parametrize("version", [2, 3, 4])
async def test_every_version_of_id3_is_read_with_its_picture(version: int) -> None:
    names = ["TT2", "TP1", "TAL", "TRK", "TYE"] if version == 2 else ["TIT2", "TPE1", "TALB", "TRCK", "TYER"]
    texts = ["Jóga", "Björk", "Homogenic", "3/12", "1997"]
    frames = [frame(name, b"\1" + text.encode("utf-16"), version) for name, text in zip(names, texts, strict=True)]
    data = id3(*frames, sounds.picture_frame(PNG, version), version=version, padding=500) + sounds.mp3()
    tags, _ = await read(data)
    assert (tags.title, tags.artists, tags.album, tags.track, tags.tracks, tags.date) == (
        "Jóga", ("Björk",), "Homogenic", 3, 12, "1997",
    )  # fmt: skip
    assert await cover(tags, data) == PNG
    assert tags.duration_ms == round(60 * 1152 * 1000 / 44100)


async def test_a_tag_unsynchronised_as_a_whole_is_read_and_its_picture_has_no_place() -> None:
    body = frame("TIT2", b"\1" + "ÿþ".encode("utf-16"), 3) + sounds.picture_frame(JPEG, 3)
    twisted = body.replace(b"\xff", b"\xff\x00")
    data = b"ID3\x03\x00\x80" + sounds.syncsafe(len(twisted)) + twisted + sounds.mp3()
    tags, _ = await read(data)
    assert tags.title == "ÿþ"
    assert [(picture.type, picture.start) for picture in tags.pictures] == [("image/jpeg", None)]
    assert await cover(tags, data) == JPEG


async def test_frames_unsynchronised_one_by_one_are_read() -> None:
    body = (b"\1" + "ÿþ".encode("utf-16")).replace(b"\xff", b"\xff\x00")
    picture = frame("APIC", b"\0image/jpeg\0\3\0" + JPEG.replace(b"\xff", b"\xff\x00"), 4, 2)
    data = id3(frame("TIT2", body, 4, 2), picture) + sounds.mp3()
    tags, _ = await read(data)
    assert tags.title == "ÿþ"
    assert [(picture.type, picture.start) for picture in tags.pictures] == [("image/jpeg", None)]
    assert await cover(tags, data) == JPEG


async def test_sizes_that_itunes_wrote_plainly_into_2_4_are_believed_where_a_frame_follows() -> None:
    text = b"\3" + b"x" * 299
    first = b"TIT2" + len(text).to_bytes(4) + b"\0\0" + text
    tags, _ = await read(id3(first, frame("TPE1", b"\3Someone")) + sounds.mp3())
    assert (tags.title, tags.artists) == ("x" * 299, ("Someone",))


async def test_a_tag_behind_the_sound_with_a_footer_is_found() -> None:
    tag = id3(frame("TIT2", b"\3Behind"), footer=True)
    tags, _ = await read(sounds.mp3() + tag + sounds.id3v1(b"Old", b"Somebody", b""))
    assert (tags.title, tags.artists, tags.estimated) == ("Behind", ("Somebody",), False)
    assert tags.duration_ms == round(60 * 1152 * 1000 / 44100)


async def test_ape_and_id3v1_at_the_end_fill_what_the_richer_lack_and_are_no_sound() -> None:
    behind = sounds.apev2({"Title": "Ape", "Album": "Of Ape", "Genre": "Rock"})
    old = sounds.id3v1(b"Old", b"Old artist", b"Old album", year=b"1999", track=7, genre=17)
    data = id3(frame("TIT2", b"\3Rich")) + sounds.mp3() + behind + old
    tags, _ = await read(data)
    assert (tags.title, tags.album, tags.artists, tags.date, tags.track) == (
        "Rich",
        "Of Ape",
        ("Old artist",),
        "1999",
        7,
    )
    assert tags.duration_ms == round(60 * 1152 * 1000 / 44100)
    tags, _ = await read(sounds.mp3() + old)
    assert (tags.title, tags.genres) == ("Old", ("Rock",))


async def test_synced_lyrics_are_lines_with_their_times() -> None:
    lines = [("First", 0), ("\nsec", 1500), ("ond", 1700), ("\nthird", 3000)]
    body = b"\3eng\2\1\0" + b"".join(text.encode() + b"\0" + time.to_bytes(4) for text, time in lines)
    tags, _ = await read(id3(frame("SYLT", body)) + sounds.mp3())
    assert [(lyrics.language, lyrics.lines) for lyrics in tags.lyrics] == [
        ("eng", ((0, "First"), (1500, "second"), (3000, "third")))
    ]


async def test_itunes_note_on_gaps_is_exact_where_it_fits() -> None:
    note = f"\0 00000000 00000240 000003A8 {58000:016X} 00000000".encode()
    tags, _ = await read(id3(frame("COMM", b"\0engiTunSMPB" + note)) + sounds.mp3(52))
    assert (tags.delay, tags.padding, tags.duration_ms, tags.comment) == (0x240, 0x3A8, round(58000 / 44.1), None)
    note = f"\0 00000000 00000240 000003A8 {10**12:016X} 00000000".encode()
    tags, _ = await read(id3(frame("COMM", b"\0engiTunSMPB" + note)) + sounds.mp3(52))
    assert tags.duration_ms == round(52 * 1152 / 44.1)


async def test_volume_frames_and_r128_are_gains() -> None:
    body = b"track\0\1" + struct.pack(">h", -1536) + b"\x10\x80\x00"
    tags, _ = await read(id3(frame("RVA2", body)) + sounds.mp3())
    assert tags.track_gain == -3.0
    tags, _ = await read(sounds.opus(b"R128_TRACK_GAIN=-1280", b"R128_ALBUM_GAIN=256", gain=-512))
    assert (tags.track_gain, tags.album_gain, tags.output_gain) == (0.0, 6.0, -2.0)


# ── Ogg ──


async def test_opus_is_as_long_as_its_last_page_says_less_what_is_skipped() -> None:
    tags, _ = await read(sounds.opus(samples=123_456))
    assert (tags.duration_ms, tags.delay, tags.sample_rate) == (2572, 312, 48000)


async def test_a_stream_that_was_cut_out_of_a_longer_one_is_as_long_as_itself() -> None:
    data = bytearray(sounds.opus(samples=480_000))
    at = data.index(b"OggS", data.index(b"OggS", 1) + 1)
    while at >= 0:
        time = int.from_bytes(data[at + 6 : at + 14], "little")
        data[at + 6 : at + 14] = (time + 10**8).to_bytes(8, "little")
        at = data.find(b"OggS", at + 1)
    tags, _ = await read(bytes(data))
    assert tags.duration_ms == 10_000


async def test_streams_in_a_row_are_not_told_for_one_but_estimated() -> None:
    one = sounds.opus(b"TITLE=First", samples=48_000 * 30)
    tags, _ = await read(one + sounds.opus(b"TITLE=Second", serial=2, samples=48_000 * 30))
    assert tags.title == "First"
    assert tags.estimated and tags.duration_ms is not None
    assert abs(tags.duration_ms - 60_000) < 3000


# ── what nothing here can encode, by hand ──

HANDMADE: list[tuple[str, Callable[[], bytes], str, int]] = [
    ("x.ape", lambda: sounds.monkeys() + sounds.apev2({"Title": "T", "Artist": "A\0B"}), "ape", 3000),
    ("x.mpc", lambda: sounds.musepack() + sounds.apev2({"Title": "T", "Artist": "A\0B"}), "musepack", 2599),
    ("x.ofr", lambda: sounds.optimfrog() + sounds.apev2({"Title": "T", "Artist": "A\0B"}, False), "optimfrog", 1000),
    ("x.tak", lambda: sounds.tak() + sounds.apev2({"Title": "T", "Artist": "A\0B"}), "tak", 2000),
    (
        "x.dsf",
        lambda: sounds.dsf(id3(frame("TIT2", b"\3T"), frame("TPE1", b"\3A\0B"))),
        "dsd",
        1000,
    ),
    (
        "x.dff",
        lambda: sounds.dff(id3(frame("TIT2", b"\3T"), frame("TPE1", b"\3A\0B"))),
        "dsd",
        100,
    ),
]


@pytest.mark.parametrize(("name", "make", "codec", "length"), HANDMADE, ids=[row[0] for row in HANDMADE])
async def test_formats_that_are_rarely_written_are_read(
    name: str, make: Callable[[], bytes], codec: str, length: int
) -> None:
    tags, _ = await read(make(), name)
    assert (tags.title, tags.artists, tags.codec, tags.duration_ms) == ("T", ("A", "B"), codec, length)


async def test_an_id3_tag_before_any_container_is_stepped_over() -> None:
    before = id3(frame("TIT2", b"\3Before"), sounds.picture_frame(HUGE))
    tags, blob = await read(before + sounds.monkeys() + sounds.apev2({"Artist": "Own"}))
    assert (tags.title, tags.artists, tags.codec) == ("Before", ("Own",), "ape")
    assert blob.bytes_read <= ORDINARY


# ── legacy charsets, and what strangers put into texts ──


@pytest.mark.parametrize(
    ("codec", "title", "artist", "album"),
    [
        ("cp949", "난 알아요", "서태지와 아이들", "Seo Taiji"),
        ("cp932", "桜", "宇多田ヒカル", "First Love"),
        ("gbk", "朋友", "周杰伦", "叶惠美"),
        ("big5", "聽海", "張惠妹", "Bad Boy"),
        ("cp1251", "Группа крови", "Кино", "Звезда по имени Солнце"),
        ("cp1252", "Jóga", "Björk", "Homogenic"),
        ("utf-8", "Jóga", "坂本", "Ж"),
    ],
)
async def test_latin_1_that_is_none_becomes_what_it_is(codec: str, title: str, artist: str, album: str) -> None:
    texts = [text.encode(codec) for text in (title, artist, album)]
    frames = [frame(name, b"\0" + text, 3) for name, text in zip(["TIT2", "TPE1", "TALB"], texts, strict=True)]
    tags, _ = await read(id3(*frames, version=3) + sounds.mp3())
    assert (tags.title, tags.artist, tags.album) == (title, artist, album)
    if max(map(len, texts)) <= 30:
        tags, _ = await read(sounds.mp3() + sounds.id3v1(*texts))
        assert (tags.title, tags.artist, tags.album) == (title, artist, album)


async def test_texts_are_cleaned_and_bounded() -> None:
    nasty = "a\x00\x1b[31mb\u202ec\td\r\ne" + "<script>" + "x" * 10_000
    texts = [f"TITLE={nasty}".encode(), "COMMENT=one\r\n\r\n two\x07\u2028three\n\n".encode(), b"ARTIST= \x01 "]
    tags, _ = await read(sounds.opus(*texts))
    assert tags.title is not None and tags.title.startswith("a[31mbc d e<script>xxx") and len(tags.title) == 500
    assert tags.comment == "one\n\n two\nthree"
    assert (tags.artist, tags.artists) == (None, ())


# ── what must not hurt ──

CLAIMED = 2**31 - 1
HOSTILE: list[tuple[str, Callable[[], bytes], type[Exception]]] = [
    ("empty", lambda: b"", Malformed),
    ("one byte", lambda: b"\xff", Malformed),
    ("text", lambda: b"This is not music.\n" * 20_000, Malformed),
    ("zeros", lambda: bytes(3_000_000), Malformed),
    ("ones", lambda: b"\xff" * 3_000_000, Malformed),
    ("page", lambda: b"<!doctype html><html>" + b"x" * 999, Malformed),
    ("2 GB comment in Ogg", lambda: sounds.ogg_page(1, 0, 0, b"OpusHead\1\2" + bytes(9), flags=2)
     + sounds.ogg_page(1, 1, 0, b"OpusTags" + sounds.comments(b"A=b", claimed=CLAIMED)) + bytes(9000), Damaged),
    ("2 GB comment in FLAC", lambda: b"fLaC\0\0\0\x22" + bytes(10) + b"\x0a\xc4\x42\xf0" + bytes(20) + b"\x84\0\0\x20"
     + sounds.comments(b"A=b", claimed=CLAIMED) + bytes(9000), Damaged),
    ("2 GB vendor", lambda: b"fLaC\0\0\0\x22" + bytes(10) + b"\x0a\xc4\x42\xf0" + bytes(20) + b"\x84\0\0\x20"
     + b"\xff\xff\xff\x7f" + bytes(9000), Damaged),
    ("blocks without end", lambda: b"fLaC" + b"\1\0\0\0" * 500_000, Damaged),
    ("box too long", lambda: b"\0\0\0\x10ftypM4A \0\0\0\0\x7f\xff\xff\xffmoov" + bytes(99), Damaged),
    ("box in boxes", lambda: b"\0\0\0\x10ftypM4A \0\0\0\0" + (2_000_000).to_bytes(4) + b"moov"
     + b"\0\0\0\x08trak" * 249_999, Malformed),
    ("no moov", lambda: b"\0\0\0\x10ftypM4A \0\0\0\0" + (1000).to_bytes(4) + b"mdat" + bytes(992), Damaged),
    ("pages in a circle", lambda: sounds.ogg_page(1, 0, 0, b"OpusHead\1\2" + bytes(9), flags=2)
     + sounds.ogg_page(2, 0, 0, flags=0) * 100_000, Damaged),
    ("frames without end", lambda: id3(*[frame("TXXX", b"\0a\0b")] * 60_000) + bytes(100), Malformed),
    ("tag longer than its file", lambda: b"ID3\4\0\0\x7f\x7f\x7f\x7f" + frame("TIT2", b"\3T") + bytes(50), Damaged),
    ("packets in a circle", lambda: b"MPCKXX\0" + bytes(99), Damaged),
    ("chunks without end", lambda: b"RIFF\xff\xff\xff\xffWAVE" + b"junk\0\0\0\0" * 200_000, Damaged),
    ("objects without end", lambda: bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
     + struct.pack("<QIH", 2_000_000, 9, 0) + (bytes(16) + struct.pack("<Q", 24)) * 90_000, Malformed),
    ("elements without end", lambda: b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff" + b"\xec\x80" * 900_000, Malformed),
]  # fmt: skip


@pytest.mark.parametrize(("make", "kind"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
async def test_what_is_no_music_is_refused_in_one_line_within_bounds(
    make: Callable[[], bytes], kind: type[Exception]
) -> None:
    data = make()
    blob = counting(data)
    with pytest.raises(kind) as caught:
        await tags_of(blob, "ev\nil.mp3")
    assert "\n" not in str(caught.value) and "evil" not in str(caught.value) and "il.mp3" in str(caught.value)
    assert blob.bytes_read <= MOST


def _bomb() -> bytes:
    return len(zlib.compress(bytes(50_000_000))).to_bytes(4) + zlib.compress(bytes(50_000_000))


BENIGN: list[tuple[str, Callable[[], bytes]]] = [
    ("many terminators", lambda: id3(frame("TPE1", b"\0" + b"a\0" * 100_000), frame("TIT2", b"\3T"))),
    ("a bomb", lambda: id3(frame("TPE1", _bomb(), 3, 0x80), frame("TIT2", b"\3T", 3), version=3)),
    ("a private frame of 5 MB", lambda: id3(frame("PRIV", bytes(5_000_000)), frame("TIT2", b"\3T"))),
    ("a comment of 5 MB", lambda: id3(frame("COMM", b"\3eng\0" + b"x" * 5_000_000), frame("TIT2", b"\3T"))),
    ("rubbish frames", lambda: id3(frame("TIT2", b"\3T"), b"\xff" * 400)),
    ("bytes that are no UTF-8", lambda: id3(frame("TIT2", b"\3T"), frame("TPE1", b"\3\xff\xfe\xfd"))),
]  # fmt: skip


@pytest.mark.parametrize("make", [row[1] for row in BENIGN], ids=[row[0] for row in BENIGN])
async def test_what_can_be_read_is_read_beside_what_cannot(make: Callable[[], bytes]) -> None:
    data = make() + sounds.mp3()
    tracemalloc.start()
    tags, blob = await read(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert tags.title == "T" and tags.duration_ms
    assert blob.bytes_read <= ORDINARY * 2 and peak < 8 * 1024 * 1024


async def test_tags_larger_than_a_megabyte_are_refused_saying_so() -> None:
    texts = [b"COMMENT=" + bytes([65 + at % 26]) * 60_000 for at in range(40)]
    with pytest.raises(Damaged, match="its tags are larger than 1,024 KiB"):
        await read(sounds.opus(*texts))


SINGULARITY = Path("/usr/share/games/singularity/music")


@pytest.mark.skipif(not SINGULARITY.is_dir(), reason="singularity-music is not installed")
@needs_ffmpeg
async def test_real_music_is_told_as_it_is() -> None:
    files = sorted(SINGULARITY.rglob("*.ogg"))
    assert len(files) >= 16
    for path in files[:6] + files[-2:]:
        tags, blob = await read(path.read_bytes(), path.name)
        assert (tags.title, tags.artists, tags.codec) == (path.stem, ("Maxstack",), "vorbis")
        assert tags.album is not None and tags.album.startswith("Endgame: Singularity")
        assert tags.duration_ms is not None and abs(tags.duration_ms - sounds.probed(path)) <= 1
        assert len(blob.read_) == 2 and blob.bytes_read <= ORDINARY
