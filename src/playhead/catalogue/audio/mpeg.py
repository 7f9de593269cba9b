"""View -> Sound: frames without a container: MP1, MP2, MP3 (ISO/IEC 11172-3, 13818-3) and AAC in ADTS (13818-7).

A first frame of Xing's, LAME's or VBRI's says how many frames there are, to the sample where LAME wrote it. Without
one, frames of one bit rate in head and tail mean that all are alike; else those that are here give an estimate.
"""

import re
from collections.abc import Callable
from fractions import Fraction

from playhead.catalogue.found import Found, Sound, seconds
from playhead.catalogue.view import View
from playhead.errors import Malformed
from playhead.mpeg import Frame, frame

_SEARCHED = 128 * 1024  # bytes that the first frame is looked for in
_LOOK = 8 * 1024  # bytes that are looked at at least
_SYNC = re.compile(rb"\xff(?:[\xe2-\xe7\xf2-\xf7\xfa-\xff][\x10-\xef]|[\xf0\xf1\xf8\xf9])", re.DOTALL)
_RUN = 3  # frames in a row that are no accident
_SAMPLED = 96 * 1024
_ADTS_RATES = [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350]


def _adts(data: bytes, at: int) -> Frame | None:
    head = data[at : at + 7]
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
        return None
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    channels = (head[2] & 1) << 2 | head[3] >> 6
    samples = 1024 * ((head[6] & 3) + 1)
    rate = _ADTS_RATES[head[2] >> 2 & 15]
    return Frame(length, "aac", rate, 8 if channels == 7 else channels, samples, 0) if length >= 7 else None


_Walk = tuple[int, int, set[int], set[int]]
_Parser = Callable[[bytes, int], Frame | None]


def read(view: View, start: int, stop: int) -> Found:
    """Frames somewhere from `start` on. Raises Malformed where there are none."""
    at, parse, first = _found(view, start, stop)
    sound = Sound(first.codec, False, first.rate, first.channels, size=stop - at)
    data = view.read(at, min(at + max(first.length, 256), stop))
    if not _told(sound, data, first, at, stop):
        _estimate(view, sound, parse, first, at, stop)
    return Found(sound)


def _found(view: View, start: int, stop: int) -> tuple[int, _Parser, Frame]:
    """Where the first frame is, how its kind is read, and it."""
    low = start
    while low < min(start + _SEARCHED, stop):
        data = view.read(low, min(low + _LOOK, stop))
        data = view.here(low, min(_SAMPLED, stop - low))
        end = low + len(data) >= stop
        at = -1
        while match := _SYNC.search(data, at + 1):
            at = match.start()
            for parse in (frame, _adts):
                if (first := _run(data, at, parse, end)) is not None:
                    return low + at, parse, first
        if end:
            break
        low += max(1, len(data) - 6 * 1024)  # three frames may lie across the border
    raise Malformed("there is no MPEG audio in it")


def _run(data: bytes, at: int, parse: _Parser, end: bool) -> Frame | None:
    """The first of some frames in a row; fewer are enough where the file ends after them."""
    first = frame = parse(data, at)
    if first is None or (first.about and _tells(data, at, first)):
        return first
    for _ in range(_RUN - 1):
        at += frame.length if frame else 0
        frame = parse(data, at)
        if frame is None or not frame.like(first):
            whole = at == len(data) or (end and at + 3 >= len(data) and at <= len(data))
            return first if whole and end else None
    return first


def _tells(data: bytes, at: int, first: Frame) -> bool:
    """Is it a frame that is there to say how many there are?"""
    return data[at + first.about : at + first.about + 4] in (b"Xing", b"Info") or data[at + 36 : at + 40] == b"VBRI"


# ── how long it is ──


def _told(sound: Sound, data: bytes, first: Frame, at: int, stop: int) -> bool:
    """Says the first frame how many there are?"""
    head = data[first.about :].ljust(16, b"\0")
    if head[:4] in (b"Xing", b"Info") and head[7] & 1:
        frames = int.from_bytes(head[8:12])
        place = 12 + 4 * (head[7] >> 1 & 1) + 100 * (head[7] >> 2 & 1) + 4 * (head[7] >> 3 & 1)
        sound.delay, sound.padding = _silence(head[place : place + 36])
    elif data[36:40] == b"VBRI":
        frames = int.from_bytes(data[50:54])
    else:
        return False
    sound.size = max(0, stop - at - first.length)
    samples = frames * first.samples
    least = sound.size * 8 * first.rate // (first.samples * 2_000_000)  # no frame is longer than at 2 Mbit/s
    if not least <= frames <= sound.size // 4 + 1:
        return False
    if samples <= sound.delay + sound.padding:
        sound.delay = sound.padding = 0
    sound.length = seconds(samples - sound.delay - sound.padding, first.rate)
    return sound.length is not None


def _silence(lame: bytes) -> tuple[int, int]:
    """(delay, padding) in samples, of what LAME (and who writes as it does) adds to a Xing header."""
    if len(lame) < 24 or not lame[:4].isascii() or not lame[:3].isalpha():
        return 0, 0
    packed = int.from_bytes(lame[21:24])
    return packed >> 12, packed & 0xFFF


def _estimate(view: View, sound: Sound, parse: _Parser, first: Frame, at: int, stop: int) -> None:
    head = view.here(at, min(_SAMPLED, stop - at))
    count, size, speeds, lengths = _walked(head, 0, parse, first)
    whole = at + size >= stop - max(first.length, 1024)
    tail = _tail(view, parse, first, at, stop)
    frames = Fraction(count) if whole else Fraction((stop - at) * (count + tail[0]), max(1, size + tail[1]))
    if first.kbits and speeds | tail[2] == {first.kbits}:
        sound.kbits = first.kbits
        if not whole:
            length = Fraction(first.kbits * 125 * first.samples, first.rate)  # some have a byte more than others
            alike = lengths | tail[3] == {first.length}
            frames = Fraction(round((stop - at) / (first.length if alike else length)))
    else:
        sound.guessed = not whole
    sound.length = frames * first.samples / first.rate


def _tail(view: View, parse: _Parser, first: Frame, at: int, stop: int) -> _Walk:
    low = max(at, stop - 32 * 1024)
    data = view.read(low, stop)
    begin = -1
    while match := _SYNC.search(data, begin + 1, 8 * 1024):
        begin = match.start()
        found = _run(data, begin, parse, False)
        if found and found.like(first):
            return _walked(data, begin, parse, first)
    return 0, 0, set(), set()


def _walked(data: bytes, at: int, parse: _Parser, first: Frame) -> _Walk:
    """(frames, bytes, bit rates, lengths) of the frames that lie whole in `data` from `at` on."""
    begin, count, speeds, lengths = at, 0, set(), set()
    while (frame := parse(data, at)) and frame.like(first) and at + frame.length <= len(data):
        speeds.add(frame.kbits)
        lengths.add(frame.length)
        count, at = count + 1, at + frame.length
    return count, at - begin, speeds, lengths
