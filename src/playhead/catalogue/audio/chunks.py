"""View -> Found: files of chunks: WAV (RIFF, RF64), AIFF, DSF and DSDIFF. An ID3 tag is a chunk among others.

Chunks are walked by their headers. The length of sound is its bytes, divided; a file that is still being written, or
was broken off, says more than there are, or nothing: then what is there counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from playhead.catalogue.audio import id3
from playhead.catalogue.found import Found, Sound, seconds
from playhead.catalogue.view import View, little
from playhead.errors import Damaged

_CHUNKS = 256
_TEXT = 64 * 1024
_INFO = {
    b"INAM": "title",
    b"IART": "artist",
    b"IPRD": "album",
    b"IALB": "album",
    b"IGNR": "genre",
    b"ICRD": "date",
    b"ICMT": "comment",
    b"ITRK": "track",
    b"IPRT": "track",
    b"TRCK": "track",
    b"ICOP": "copyright",
    b"IMUS": "composer",
    b"IWRI": "lyricist",
}
_AIFF = {b"NAME": "title", b"AUTH": "artist", b"ANNO": "comment", b"(c) ": "copyright"}
_WAVE = {1: "pcm", 3: "pcm", 6: "alaw", 7: "mulaw", 0x50: "mp2", 0x55: "mp3", 0xFF: "aac", 0x2000: "ac3", 0x2001: "dts"}


@dataclass(frozen=True, slots=True)
class _Chunk:
    kind: bytes
    body: int
    end: int


def _chunks(view: View, at: int, stop: int, order: str, width: int = 4, wide: int = 0) -> Iterator[_Chunk]:
    """Chunks of a name of 4 bytes and a length; `wide` is how long `data` is where 32 bits do not tell."""
    for _ in range(_CHUNKS):
        head = view.read(at, min(at + 4 + width, stop))
        if len(head) < 4 + width:
            return
        size = int.from_bytes(head[4:], "big" if order == "big" else "little")
        if head[:4] == b"data" and wide and size == 0xFFFFFFFF:
            size = wide
        if head[:4] == b"data" and size == 0:
            size = stop - at  # nobody came back to write it
        body = at + 4 + width
        yield _Chunk(head[:4], body, min(body + size, stop))
        at = body + size + (size & 1)


def _tag(view: View, chunk: _Chunk) -> list[Found]:
    tag = id3.read(view, chunk.body, chunk.end)
    return [tag[0]] if tag else []


def wave(view: View, start: int, stop: int) -> Found:
    """WAV."""
    found, tags, data, samples = Found(), [], 0, 0
    for chunk in _chunks_of_wave(view, start + 12, stop):
        if chunk.kind == b"fmt ":
            _wave_format(found.sound, view.read(chunk.body, min(chunk.end, chunk.body + 40)))
        elif chunk.kind == b"fact":
            samples = int.from_bytes(view.read(chunk.body, chunk.body + 4), "little")
        elif chunk.kind == b"data":
            data = chunk.end - chunk.body
        elif chunk.kind in (b"id3 ", b"ID3 "):
            tags += _tag(view, chunk)
        elif chunk.kind == b"LIST" and view.read(chunk.body, chunk.body + 4) == b"INFO":
            _info(found, view, chunk)
    if not found.sound.rate:
        raise Damaged("it has no fmt chunk, which WAV begins with")
    _wave_length(found.sound, data, samples)
    info, found.fields = Found(fields=found.fields), {}
    found.take([*tags, info])
    return found


def _chunks_of_wave(view: View, start: int, stop: int) -> Iterator[_Chunk]:
    wide = 0
    if view.read(start - 12, start - 8) in (b"RF64", b"BW64") and view.read(start, start + 4) == b"ds64":
        wide = int.from_bytes(view.read(start + 16, start + 24), "little")
    return _chunks(view, start, stop, "little", wide=wide)


def _wave_format(sound: Sound, data: bytes) -> None:
    if len(data) < 16:
        return
    kind = little(data, 24, 2) if little(data, 0, 2) == 0xFFFE else little(data, 0, 2)
    sound.codec = _WAVE.get(kind, f"wav:{kind:04x}")
    sound.lossless = kind in (1, 3)
    sound.channels, sound.rate, sound.bits = (
        little(data, 2, 2),
        little(data, 4, 4),
        little(data, 14, 2) if kind in (1, 3) else 0,
    )
    sound.kbits = round(little(data, 8, 4) * 8 / 1000)
    sound.gain = 0.0
    sound.padding = little(data, 12, 2) if kind in (1, 3) else 0  # bytes a sample; taken back by `_wave_length`


def _wave_length(sound: Sound, data: int, samples: int) -> None:
    frame, sound.padding, sound.size = sound.padding, 0, data
    if frame:
        sound.length = seconds(data // frame, sound.rate)
    elif samples:
        sound.length = seconds(samples, sound.rate)
    elif sound.kbits:
        sound.length, sound.guessed = seconds(data * 8, sound.kbits * 1000), True


def _info(found: Found, view: View, chunk: _Chunk) -> None:
    for item in _chunks(view, chunk.body + 4, chunk.end, "little"):
        if item.kind in _INFO and item.end - item.body <= _TEXT:
            found.add(_INFO[item.kind], view.read(item.body, item.end).split(b"\0")[0].strip())


def aiff(view: View, start: int, stop: int) -> Found:
    """AIFF and AIFF-C."""
    found, tags = Found(), []
    for chunk in _chunks(view, start + 12, stop, "big"):
        if chunk.kind == b"COMM":
            _aiff_format(found.sound, view.read(chunk.body, min(chunk.end, chunk.body + 22)))
        elif chunk.kind == b"SSND":
            found.sound.size = max(0, chunk.end - chunk.body - 8)
        elif chunk.kind in (b"ID3 ", b"id3 "):
            tags += _tag(view, chunk)
        elif chunk.kind in _AIFF and chunk.end - chunk.body <= _TEXT:
            found.add(_AIFF[chunk.kind], view.read(chunk.body, chunk.end).split(b"\0")[0].strip())
    if not found.sound.rate:
        raise Damaged("it has no COMM chunk, which says what an AIFF file holds")
    own, found.fields = Found(fields=found.fields), {}
    found.take([*tags, own])
    return found


def _aiff_format(sound: Sound, data: bytes) -> None:
    if len(data) < 18:
        return
    exponent, fraction = int.from_bytes(data[8:10]) & 0x7FFF, int.from_bytes(data[10:18])
    shift = 16383 + 63 - exponent
    sound.rate = fraction >> shift if 0 <= shift < 64 else 0
    sound.channels, sound.bits = int.from_bytes(data[:2]), int.from_bytes(data[6:8])
    kind = data[18:22] or b"NONE"
    sound.codec = (
        "pcm"
        if kind in (b"NONE", b"sowt", b"twos", b"fl32", b"FL32", b"fl64", b"FL64", b"in24")
        else (kind.decode("latin-1").strip().lower())
    )
    sound.lossless = sound.codec == "pcm"
    sound.length = seconds(int.from_bytes(data[2:6]), sound.rate)


def dsf(view: View, start: int, stop: int) -> Found:
    """DSF: a header that says where its ID3 tag is, then how it sounds."""
    head = view.exactly(start, 80)
    found = Found(Sound("dsd", True, little(head, 56, 4), little(head, 52, 4), 1))
    found.sound.length = seconds(little(head, 64, 8), little(head, 56, 4))
    at = little(head, 20, 8)
    found.sound.size = max(0, (at or stop - start) - 92)
    tag = id3.read(view, start + at) if 92 <= at < stop - start else None
    found.take([tag[0]] if tag else [])
    return found


def dsdiff(view: View, start: int, stop: int) -> Found:
    """DSDIFF."""
    found, frames, every = Found(Sound("dsd", True, bits=1)), 0, 0
    for chunk in _chunks(view, start + 16, stop, "big", 8):
        if chunk.kind == b"PROP":
            _dsdiff_format(found.sound, view, chunk)
        elif chunk.kind == b"DSD ":
            found.sound.size = chunk.end - chunk.body
        elif chunk.kind == b"DST ":
            found.sound.codec, found.sound.size = "dst", chunk.end - chunk.body
            head = view.read(chunk.body, chunk.body + 18)
            frames, every = int.from_bytes(head[12:16]), int.from_bytes(head[16:18])
        elif chunk.kind == b"ID3 ":
            found.take(_tag(view, chunk))
        elif chunk.kind == b"DIIN":
            _dsdiff_texts(found, view, chunk)
    if not found.sound.rate or not found.sound.channels:
        raise Damaged("it does not say how it sounds")
    bits = found.sound.size * 8 // found.sound.channels
    found.sound.length = seconds(frames, every) if every else seconds(bits, found.sound.rate)
    return found


def _dsdiff_format(sound: Sound, view: View, chunk: _Chunk) -> None:
    for part in _chunks(view, chunk.body + 4, chunk.end, "big", 8):
        if part.kind == b"FS  ":
            sound.rate = int.from_bytes(view.read(part.body, part.body + 4))
        elif part.kind == b"CHNL":
            sound.channels = int.from_bytes(view.read(part.body, part.body + 2))


def _dsdiff_texts(found: Found, view: View, chunk: _Chunk) -> None:
    for part in _chunks(view, chunk.body, chunk.end, "big", 8):
        name = {b"DITI": "title", b"DIAR": "artist"}.get(part.kind)
        if name and 4 < part.end - part.body <= _TEXT and name not in found.fields:
            found.add(name, view.read(part.body + 4, part.end).split(b"\0")[0].strip())
