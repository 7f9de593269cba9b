"""Media types by name and by head, and the charsets of texts."""

import codecs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playhead import media

# What these formats really begin with.
HEADS = [
    ("flac", b"fLaC\x00\x00\x00\x22\x10\x00\x10\x00", "audio/flac"),
    ("mp3 with ID3", b"ID3\x04\x00\x00\x00\x00\x0f\x76TIT2", "audio/mpeg"),
    ("mp3, MPEG 1 layer 3", b"\xff\xfb\x90\x64" + bytes(413), "audio/mpeg"),
    ("mp3, MPEG 2 layer 3", b"\xff\xf3\x40\xc4" + bytes(200), "audio/mpeg"),
    ("mp3 with a checksum", b"\xff\xfa\x92\x60" + bytes(413), "audio/mpeg"),
    ("vorbis", b"OggS\x00\x02" + bytes(22) + b"\x01\x1e\x01vorbis", "audio/ogg"),
    ("opus", b"OggS\x00\x02" + bytes(22) + b"\x01\x13OpusHead\x01\x02", "audio/ogg"),
    ("theora", b"OggS\x00\x02" + bytes(22) + b"\x01\x2a\x80theora\x03\x02\x01", "video/ogg"),
    ("m4a", b"\x00\x00\x00\x20ftypM4A \x00\x00\x02\x00M4A mp42isom", "audio/mp4"),
    ("m4b", b"\x00\x00\x00\x20ftypM4B \x00\x00\x02\x00", "audio/mp4"),
    ("mp4", b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41", "video/mp4"),
    ("mp42", b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom", "video/mp4"),
    ("mov", b"\x00\x00\x00\x14ftypqt  \x20\x05\x03\x00qt  ", "video/quicktime"),
    ("avif", b"\x00\x00\x00\x20ftypavif\x00\x00\x00\x00avifmif1", "image/avif"),
    ("heic", b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "image/heic"),
    ("wav", b"RIFF\x24\x08\x00\x00WAVEfmt \x10\x00\x00\x00", "audio/wav"),
    ("avi", b"RIFF\x24\x08\x00\x00AVI LIST", "video/x-msvideo"),
    ("webp", b"RIFF\x24\x08\x00\x00WEBPVP8 ", "image/webp"),
    ("aiff", b"FORM\x00\x00\x10\x00AIFFCOMM", "audio/aiff"),
    ("midi", b"MThd\x00\x00\x00\x06\x00\x01", "audio/midi"),
    ("wavpack", b"wvpk\x18\x00\x00\x00\x10\x04", "audio/x-wavpack"),
    ("monkey's audio", b"MAC \x96\x0f\x00\x00", "audio/x-ape"),
    ("dsf", b"DSD \x1c\x00\x00\x00\x00\x00\x00\x00", "audio/x-dsf"),
    ("webm", b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\x82\x84webmB\x87", "video/webm"),
    ("matroska", b"\x1a\x45\xdf\xa3\xa3B\x86\x81\x01B\xf7\x81\x01B\x82\x88matroskaB\x87", "video/x-matroska"),
    ("transport stream", (b"\x47\x40\x00\x10" + bytes(184)) * 2, "video/mp2t"),
    ("png", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "image/png"),
    ("jpeg", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", "image/jpeg"),
    ("jpeg with EXIF", b"\xff\xd8\xff\xe1\x1c\x00Exif\x00\x00", "image/jpeg"),
    ("gif", b"GIF89a\x10\x00\x10\x00", "image/gif"),
    ("bmp", b"BM\x36\x00\x0c\x00\x00\x00\x00\x00\x36\x00\x00\x00", "image/bmp"),
    ("pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "application/pdf"),
    ("zip", b"PK\x03\x04\x14\x00\x00\x00\x08\x00", "application/zip"),
    ("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", "application/gzip"),
    ("7z", b"7z\xbc\xaf\x27\x1c\x00\x04", "application/x-7z-compressed"),
    ("xz", b"\xfd7zXZ\x00\x00\x04\xe6\xd6", "application/x-xz"),
    ("zstd", b"\x28\xb5\x2f\xfd\x04\x58", "application/zstd"),
    ("rar", b"Rar!\x1a\x07\x01\x00", "application/x-rar-compressed"),
    ("tar", b"song.mp3".ljust(257, b"\0") + b"ustar\x0000" + bytes(247), "application/x-tar"),
    ("text", b"just some words\n", "text/plain"),
    ("korean text", "별이 빛나는 밤\n".encode(), "text/plain"),
    ("CP949 text", "별이 빛나는 밤\r\n".encode("cp949"), "text/plain"),
    ("UTF-16 text", codecs.BOM_UTF16_LE + "별".encode("utf-16-le"), "text/plain"),
    ("UTF-16 text, big end first", codecs.BOM_UTF16_BE + "a별".encode("utf-16-be"), "text/plain"),
    ("nothing", b"", "application/octet-stream"),
    ("zeros", bytes(512), "application/octet-stream"),
    ("a program", b"\x7fELF\x02\x01\x01" + bytes(9), "application/octet-stream"),
]


@pytest.mark.parametrize(("head", "kind"), [row[1:] for row in HEADS], ids=[row[0] for row in HEADS])
def test_a_type_is_told_by_the_first_bytes(head: bytes, kind: str) -> None:
    assert media.by_head(head) == kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("song.mp3", "audio/mpeg"),
        ("SONG.MP3", "audio/mpeg"),
        ("song.flac", "audio/flac"),
        ("song.m4a", "audio/mp4"),
        ("song.opus", "audio/ogg"),
        ("song.live.wav", "audio/wav"),
        ("film.mkv", "video/x-matroska"),
        ("film.webm", "video/webm"),
        ("cover.JPG", "image/jpeg"),
        ("lyrics.lrc", "text/plain"),
        ("list.m3u8", "application/vnd.apple.mpegurl"),
        ("album.tar", "application/x-tar"),
        ("page.html", "text/html"),
        ("별.txt", "text/plain"),
        (".mp3", "audio/mpeg"),
        ("mp3", None),
        ("song", None),
        ("song.", None),
        ("", None),
        ("song.mp3.", None),
        ("song.unheard", None),
        ("a.mp3/b", None),
    ],
)
def test_a_type_is_told_by_the_name(name: str, kind: str | None) -> None:
    assert media.by_name(name) == kind


@pytest.mark.parametrize(
    "page",
    [
        b"<!doctype html><script>alert(1)</script>",
        b"<html><body>",
        b"<HTML>",
        b"  \n<script>alert(1)</script>",
        b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'>",
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'>",
        b"GIF8<script>alert(1)</script>",
        codecs.BOM_UTF8 + b"<!doctype html>",
    ],
)
def test_nothing_is_called_html_for_what_its_bytes_look_like(page: bytes) -> None:
    assert media.by_head(page) in ("text/plain", "image/gif")


@given(st.binary(max_size=512))
@settings(max_examples=300, deadline=None)
def test_any_bytes_have_a_type_that_a_browser_does_not_run(head: bytes) -> None:
    kind = media.by_head(head)
    assert "/" in kind
    assert "html" not in kind
    assert "xml" not in kind
    assert "script" not in kind


@given(st.text(max_size=30))
@settings(deadline=None)
def test_any_name_has_a_type_or_none(name: str) -> None:
    assert media.by_name(name) is None or "/" in (media.by_name(name) or "")


def test_texts_are_the_types_whose_charset_must_be_told() -> None:
    texts = ["text/plain", "text/html", "text/csv", "application/xml", "application/xspf+xml", "image/svg+xml"]
    assert all(map(media.is_text, texts))
    assert not any(map(media.is_text, ["audio/mpeg", "application/octet-stream", "application/json", "image/png"]))


# ── charsets ──

KOREAN = "동해물과 백두산이 마르고 닳도록\n하느님이 보우하사 우리나라 만세\n무궁화 삼천리 화려강산\n"
UNCOMMON = "똠방각하와 펲시콜라를 마시는 숖\n" + KOREAN  # syllables that CP949 has and EUC-KR has not
JAPANESE = "君が代は千代に八千代にさざれ石のいわおとなりて\nこけのむすまで、カタカナもあります。\n"
CHINESE = "起来！不愿做奴隶的人们！\n把我们的血肉，筑成我们新的长城！\n中华民族到了最危险的时候，\n"
TAIWANESE = "三民主義，吾黨所宗，以建民國，以進大同，\n咨爾多士，為民前鋒，夙夜匪懈，主義是從。\n"
FRENCH = "Allons enfants de la Patrie, le jour de gloire est arrivé !\nL'étendard sanglant est levé, où ça ? Là-bas.\n"
GERMAN = "Freude, schöner Götterfunken, Tochter aus Elysium,\nwir betreten feuertrunken, Himmlische, dein Heiligtum.\n"
RUSSIAN = "Широка страна моя родная, много в ней лесов, полей и рек!\nЯ другой такой страны не знаю,\n"

TEXTS = [
    ("utf-8", KOREAN, "utf-8", "utf-8"),
    ("utf-8 with a mark", KOREAN, "utf-8-sig", "utf-8"),
    ("ascii", "plain words\n", "ascii", "utf-8"),
    ("cp949", UNCOMMON, "cp949", "euc-kr"),
    ("cp949, one line", "별이 빛나는 밤에\n", "cp949", "euc-kr"),
    ("cp949, one word", "사랑", "cp949", "euc-kr"),
    ("cp949 with quotes", "“사랑”… ‘이별’ 〈노래〉\n" + KOREAN, "cp949", "euc-kr"),
    ("cp949 among ascii", "[ti:Love Story]\n[00:12.00]사랑해 baby\n[00:15.00]I love you\n", "cp949", "euc-kr"),
    ("euc-kr", KOREAN, "euc_kr", "euc-kr"),
    ("shift-jis", JAPANESE, "cp932", "shift_jis"),
    ("shift-jis, one line", "さくら さくら やよいのそらは\n", "cp932", "shift_jis"),
    ("euc-jp", JAPANESE, "euc_jp", "euc-jp"),
    ("gb18030", CHINESE, "gb18030", "gb18030"),
    ("gbk", CHINESE, "gbk", "gb18030"),
    ("big5", TAIWANESE, "big5", "big5"),
    ("latin-1, french", FRENCH, "latin-1", "windows-1252"),
    ("latin-1, german", GERMAN, "latin-1", "windows-1252"),
    ("windows-1252", "“L’été”… " + FRENCH, "cp1252", "windows-1252"),
    ("windows-1251", RUSSIAN, "cp1251", "windows-1251"),
    ("koi8-r", RUSSIAN, "koi8_r", "koi8-r"),
]
MARKED = [
    (codecs.BOM_UTF16_LE + KOREAN.encode("utf-16-le"), "utf-16le"),
    (codecs.BOM_UTF16_BE + KOREAN.encode("utf-16-be"), "utf-16be"),
    (codecs.BOM_UTF8 + KOREAN.encode(), "utf-8"),
]


@pytest.mark.parametrize(("text", "codec", "label"), [row[1:] for row in TEXTS], ids=[row[0] for row in TEXTS])
def test_a_charset_is_told_by_the_name_that_browsers_know(text: str, codec: str, label: str) -> None:
    assert media.charset(text.encode(codec)) == label


@pytest.mark.parametrize(("text", "codec", "label"), [row[1:] for row in TEXTS], ids=[row[0] for row in TEXTS])
def test_a_text_becomes_utf8_without_a_mark(text: str, codec: str, label: str) -> None:
    assert media.to_utf8(text.encode(codec)).decode("utf-8") == text


@pytest.mark.parametrize(("data", "label"), MARKED, ids=[label for _, label in MARKED])
def test_a_byte_order_mark_settles_the_charset_and_is_not_kept(data: bytes, label: str) -> None:
    assert media.charset(data) == label
    assert media.to_utf8(data).decode("utf-8") == KOREAN


@pytest.mark.parametrize(("text", "codec", "label"), [row[1:] for row in TEXTS], ids=[row[0] for row in TEXTS])
def test_a_text_cut_inside_a_character_has_the_same_charset(text: str, codec: str, label: str) -> None:
    data = (text * 40).encode(codec)
    for cut in range(1, 5):
        assert media.charset(data[:-cut], whole=False) == label


def test_a_text_that_ends_inside_a_character_is_no_utf8_where_it_is_whole() -> None:
    data = "별".encode() * 10
    assert media.charset(data[:-1], whole=False) == "utf-8"
    assert media.charset(data[:-1], whole=True) != "utf-8"


def test_an_empty_text_is_utf8() -> None:
    assert media.charset(b"") == "utf-8"
    assert media.to_utf8(b"") == b""


def test_what_cannot_be_decoded_is_replaced_and_never_an_error() -> None:
    assert "�" in media.to_utf8(codecs.BOM_UTF8 + b"\xff").decode("utf-8")


@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_bytes_have_a_charset_that_browsers_know(data: bytes, whole: bool) -> None:
    known = {"utf-8", "utf-16le", "utf-16be", *media._LEGACY.values()}
    assert media.charset(data, whole=whole) in known
    media.to_utf8(data).decode("utf-8")
