"""(name, first bytes) -> media type and charset. Pure.

The name's extension decides where it is one we know; else the first 512 bytes do. Nothing is ever called
HTML for what its bytes look like. A text is labelled with the charset it is in: UTF-8 only if it decodes
as such, else what it most probably is, by names that browsers know (WHATWG Encoding).
"""

import codecs
import re
from collections.abc import Callable

HEAD = 512

_TYPES = {
    "audio/aac": "aac",
    "audio/aiff": "aif aiff",
    "audio/basic": "au",
    "audio/flac": "flac",
    "audio/midi": "mid midi",
    "audio/mp4": "m4a m4b",
    "audio/mpeg": "mp3 mp2",
    "audio/mpegurl": "m3u",
    "audio/ogg": "ogg oga opus spx",
    "audio/wav": "wav",
    "audio/webm": "weba",
    "audio/x-ape": "ape",
    "audio/x-dsf": "dsf",
    "audio/x-matroska": "mka",
    "audio/x-ms-wma": "wma",
    "audio/x-musepack": "mpc",
    "audio/x-wavpack": "wv",
    "video/mp2t": "ts m2ts mts",
    "video/mp4": "mp4 m4v",
    "video/mpeg": "mpg mpeg vob",
    "video/ogg": "ogv",
    "video/quicktime": "mov",
    "video/webm": "webm",
    "video/x-flv": "flv",
    "video/x-matroska": "mkv",
    "video/x-ms-wmv": "wmv",
    "video/x-msvideo": "avi",
    "image/avif": "avif",
    "image/bmp": "bmp",
    "image/gif": "gif",
    "image/heic": "heic",
    "image/jpeg": "jpg jpeg",
    "image/png": "png",
    "image/svg+xml": "svg",
    "image/tiff": "tif tiff",
    "image/webp": "webp",
    "image/x-icon": "ico",
    "text/css": "css",
    "text/csv": "csv",
    "text/html": "html htm",
    "text/javascript": "js mjs",
    "text/markdown": "md",
    "text/plain": "txt text log cue lrc nfo srt ass ssa ini cfg conf toml yaml yml py c h sh rst diff patch",
    "text/vtt": "vtt",
    "application/epub+zip": "epub",
    "application/gzip": "gz tgz",
    "application/json": "json",
    "application/octet-stream": "bin exe dll img dat enc",
    "application/pdf": "pdf",
    "application/vnd.apple.mpegurl": "m3u8",
    "application/x-7z-compressed": "7z",
    "application/x-bittorrent": "torrent",
    "application/x-bzip2": "bz2",
    "application/x-iso9660-image": "iso",
    "application/x-rar-compressed": "rar",
    "application/x-tar": "tar",
    "application/x-xz": "xz",
    "application/xhtml+xml": "xhtml",
    "application/xml": "xml",
    "application/xspf+xml": "xspf",
    "application/zip": "zip",
    "application/zstd": "zst",
}
_BY_EXTENSION = {extension: kind for kind, extensions in _TYPES.items() for extension in extensions.split()}

_SIGNATURES = [  # (offset, bytes, type)
    (0, b"fLaC", "audio/flac"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"FORM", "audio/aiff"),
    (0, b"MThd", "audio/midi"),
    (0, b"wvpk", "audio/x-wavpack"),
    (0, b"MAC ", "audio/x-ape"),
    (0, b"DSD ", "audio/x-dsf"),
    (8, b"WAVE", "audio/wav"),
    (8, b"AVI ", "video/x-msvideo"),
    (8, b"WEBP", "image/webp"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (0, b"BM", "image/bmp"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"\x1f\x8b", "application/gzip"),
    (0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (0, b"\xfd7zXZ\0", "application/x-xz"),
    (0, b"\x28\xb5\x2f\xfd", "application/zstd"),
    (0, b"Rar!\x1a\x07", "application/x-rar-compressed"),
    (257, b"ustar", "application/x-tar"),
]

_BOMS = [(codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16le"), (codecs.BOM_UTF16_BE, "utf-16be")]

# What legacy texts are, likeliest first where several fit: (Python codec, name that browsers know).
_LEGACY = {
    "cp949": "euc-kr",
    "cp932": "shift_jis",
    "euc_jp": "euc-jp",
    "gb18030": "gb18030",
    "big5hkscs": "big5",
    "cp1251": "windows-1251",
    "koi8_r": "koi8-r",
    "cp1253": "windows-1253",
    "cp1254": "windows-1254",
    "cp1250": "windows-1250",
    "cp1252": "windows-1252",
}


def _mostly(script: str, share: float) -> Callable[[str], bool]:
    """Is at least this share of the characters beyond ASCII in a script?"""
    one = re.compile(script)

    def fits(text: str) -> bool:
        beyond = [char for char in text if char > "\x7f"]
        return sum(bool(one.match(char)) for char in beyond) >= share * len(beyond)

    return fits


def _western(text: str) -> bool:
    """Accented letters among many plain ones: not another alphabet read wrongly."""
    beyond = sum(char > "\x7f" for char in text)
    return beyond * 3 <= sum(map(str.isalpha, text)) and _WESTERN(text)


_WESTERN = _mostly("[À-ÖØ-öø-ÿŒœŸ‘’“”«»–—…·¡¿°©®€£§´]", 1.0)
_HANGUL = _mostly("[가-힣ㄱ-ㅣ·…‘’“”「」『』〈〉《》、。～♪♡♥★☆※→]", 1.0)
_KANA = _mostly("[ぁ-ヿ]", 0.4)
# Short texts are too short for statistics: what they turn out to be written in settles it.
_SCRIPTS = [
    ("euc_kr", _HANGUL),
    ("cp932", _KANA),
    ("euc_jp", _KANA),
    ("cp949", _HANGUL),
    ("cp1252", _western),
]
_CODECS = {label: codec for codec, label in _LEGACY.items()}


def by_name(name: str) -> str | None:
    """The media type that a file's name tells, or None."""
    _, dot, extension = name.rpartition(".")
    return _BY_EXTENSION.get(extension.lower()) if dot else None


def by_head(head: bytes) -> str:
    """The media type that a file's first bytes tell."""
    if any(head.startswith(bom) for bom, _ in _BOMS):
        return "text/plain"
    for offset, magic, kind in _SIGNATURES:
        if head.startswith(magic, offset):
            return kind
    if head.startswith(b"OggS"):
        return "video/ogg" if b"\x80theora" in head else "audio/ogg"
    if head[4:8] == b"ftyp":
        return _iso_brand(head[8:12])
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "video/webm" if b"webm" in head else "video/x-matroska"
    if len(head) > 188 and head[0] == head[188] == 0x47:
        return "video/mp2t"
    if len(head) > 3 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x06 and head[2] >> 4 not in (0, 15):
        return "audio/mpeg"
    return "text/plain" if looks_like_text(head) else "application/octet-stream"


def _iso_brand(brand: bytes) -> str:
    if brand in (b"M4A ", b"M4B "):
        return "audio/mp4"
    return {b"avif": "image/avif", b"heic": "image/heic", b"qt  ": "video/quicktime"}.get(brand, "video/mp4")


def looks_like_text(head: bytes) -> bool:
    """No byte that a text would not have."""
    return bool(head) and not any(byte < 32 and byte not in b"\t\n\f\r\x1b" for byte in head)


def is_text(kind: str) -> bool:
    """Is this a type whose charset a reader must be told?"""
    return kind.startswith("text/") or kind in ("application/xml", "application/xspf+xml", "image/svg+xml")


def charset(data: bytes, *, whole: bool = True) -> str:
    """The charset of a text, by the name that browsers know. Not `whole`: the end may be cut inside a character."""
    for bom, label in _BOMS:
        if data.startswith(bom):
            return label
    if _decoded(data, "utf-8", whole) is not None:
        return "utf-8"
    for codec, fits in _SCRIPTS:
        text = _decoded(data, codec, whole)
        if text is not None and fits(text):
            return _LEGACY.get(codec, "euc-kr")
    return _likeliest(data if whole else data.rpartition(b"\n")[0] or data, 1 if whole else 4)


def _decoded(data: bytes, codec: str, whole: bool) -> str | None:
    try:
        return codecs.getincrementaldecoder(codec)().decode(data, whole)
    except UnicodeDecodeError:
        return None


def _likeliest(data: bytes, cuts: int) -> str:
    """By statistics; up to `cuts` - 1 bytes at the end may belong to a character that is cut."""
    from charset_normalizer import from_bytes

    for end in range(len(data), len(data) - cuts, -1):
        fitting = [codec for codec in _LEGACY if _decoded(data[:end], codec, True) is not None]
        best = from_bytes(data[:end], cp_isolation=fitting).best() if fitting else None
        if best and best.encoding in _LEGACY:
            return _LEGACY[best.encoding]
    return "windows-1252"


def to_utf8(data: bytes) -> bytes:
    """A text in any charset as UTF-8, without a byte order mark; what cannot be decoded becomes U+FFFD."""
    label = charset(data)
    for bom, marked in _BOMS:
        if label == marked:
            data = data.removeprefix(bom)
    return data.decode(_CODECS.get(label, label), "replace").encode("utf-8")
