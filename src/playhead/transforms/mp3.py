"""[Blob] -> Blob: MP3 parts as one MP3.

Frames need no container, so that parts are joined by their bytes; but what stands before the frames of a part is about
that part. Tags (ID3v2) of all but the first are left out, and so is a first frame that holds no sound but how long the
part is (Xing's, or VBRI's): in the middle it is a moment of silence, and at the beginning it would say that the whole
is as long as its first part. Where every part says how long it is, such a frame is written for the whole.
"""

import struct
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from playhead.blob import Blob, concat, cut, literal
from playhead.mpeg import Frame, frame

_TAG = 10  # bytes of a tag's header
_TAGS = 8  # tags in a row, at most
_FRAME = 2048  # bytes that are enough for the first frame, and the header of the next


@dataclass(frozen=True, slots=True)
class Part:
    """Where the tags of a part end and its sound begins; its first frame; how many it says it has (0: it does not)."""

    tags: int
    sound: int
    frame: bytes
    like: Frame
    frames: int
    places: bytes  # of each hundredth of the time, how many 256ths of the bytes are before it


async def found(part: Blob, head: bytes) -> Part | None:
    """How a part begins, whose first bytes are `head`; None where it is no MP3."""
    at = 0
    for _ in range(_TAGS):
        window = await _at(part, head, at, _TAG)
        if window[:3] != b"ID3":
            break
        size = 0
        for seven in window[6:10]:
            size = size << 7 | seven & 0x7F
        at += _TAG + size + (_TAG if window[5] & 0x10 else 0)
    data = await _at(part, head, at, _FRAME)
    first = frame(data)
    if first is None or (frame(data, first.length) is None and at + first.length + 4 <= part.size):
        return None
    return _part(at, data[: first.length], first)


async def _at(part: Blob, head: bytes, at: int, size: int) -> bytes:
    stop = min(at + size, part.size)
    return head[at:stop] if stop <= len(head) else await part.read(at, stop) if at < stop else b""


def _part(at: int, data: bytes, first: Frame) -> Part:
    if data[first.about : first.about + 4] in (b"Xing", b"Info"):
        frames, places = _xing(data[first.about + 4 :])
        return Part(at, at + first.length, data, first, frames, places)
    if data[36:40] == b"VBRI" and len(data) >= 54:
        return Part(at, at + first.length, data, first, int.from_bytes(data[50:54]), b"")
    return Part(at, at, data, first, 0, b"")


def _xing(data: bytes) -> tuple[int, bytes]:
    """How many frames there are (0: it does not say), and where their bytes are."""
    flags, at = int.from_bytes(data[:4]), 4
    frames = int.from_bytes(data[at : at + 4]) if flags & 1 else 0
    at += 4 * (flags & 1) + 4 * (flags >> 1 & 1)
    places = data[at : at + 100] if flags & 4 else b""
    return frames, places if len(places) == 100 else b""


def joined(blobs: Sequence[Blob], parts: Sequence[Part]) -> Blob:
    """MP3 parts as one MP3."""
    sound = [cut(blob, min(part.sound, blob.size), blob.size) for blob, part in zip(blobs, parts, strict=True)]
    return concat([cut(blobs[0], 0, parts[0].tags), literal(_about(sound, parts)), *sound])


def _about(sound: Sequence[Blob], parts: Sequence[Part]) -> bytes:
    """A frame without sound that says how long all of them are; nothing where that is not known."""
    like = parts[0].like
    same = all((part.like.rate, part.like.samples) == (like.rate, like.samples) for part in parts)
    data = bytearray(parts[0].frame[: like.about].ljust(like.length, b"\0"))
    if not same or not all(part.frames for part in parts) or like.length < like.about + 116:
        return b""
    frames, size = sum(part.frames for part in parts), like.length + sum(blob.size for blob in sound)
    if max(frames, size) >= 1 << 32:
        return b""
    data[4 : like.about] = bytes(like.about - 4)
    places = _places(sound, parts, like.length, size)
    data[like.about : like.about + 116] = struct.pack(">4s3I100s", b"Xing", 7, frames, size, places)
    return bytes(data)


def _places(sound: Sequence[Blob], parts: Sequence[Part], before: int, size: int) -> bytes:
    """For each hundredth of the time, how many 256ths of the bytes are before it."""
    frames = list(accumulate((part.frames for part in parts), initial=0))
    bases = list(accumulate((blob.size for blob in sound), initial=before))
    made = bytearray()
    for hundredth in range(100):
        at = frames[-1] * hundredth / 100
        number = min(bisect_right(frames, at), len(parts)) - 1
        inside = (at - frames[number]) / parts[number].frames
        places = parts[number].places
        share = places[min(99, int(inside * 100))] / 256 if places else inside
        made.append(min(255, int((bases[number] + share * sound[number].size) * 256 / size)))
    return bytes(made)
