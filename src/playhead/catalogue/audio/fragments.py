"""View -> seconds: how long an MP4 in fragments is, whose head does not say.

Its index does (sidx, where it is streamed from), or the table at its end (mfra) tells where the last fragment is and at
which time it begins; that fragment's own samples are added.
"""

from fractions import Fraction

from playhead.catalogue.audio.boxes import Box, boxes
from playhead.catalogue.view import View

_TABLE = 256 * 1024  # bytes of a table that are read, at most


def length(view: View, start: int, stop: int, track: int, clock: int, usual: int) -> Fraction | None:
    """The length in seconds of what is in [start, stop), behind the moov box; None where nothing tells.

    `track` is its number, `clock` its ticks a second, `usual` the ticks of a sample where a fragment does not tell.
    """
    head = next(boxes(view, start, stop), None)
    if head is not None and head.kind == b"sidx":
        return _indexed(view.read(head.body, min(head.end, head.body + _TABLE)))
    last = _last(view, start, stop, track)
    ticks = last[0] + _ticks(view, last[1], stop, track, usual) if last else 0
    return Fraction(ticks, clock) if ticks and clock else None


def _indexed(data: bytes) -> Fraction | None:
    scale, at = int.from_bytes(data[8:12]), 28 if data[:1] == b"\1" else 20
    count = int.from_bytes(data[at + 2 : at + 4])
    entries = range(at + 4, min(len(data), at + 4 + 12 * count), 12)
    ticks = sum(int.from_bytes(data[entry + 4 : entry + 8]) for entry in entries)
    return Fraction(ticks, scale) if scale and ticks else None


def _last(view: View, start: int, stop: int, track: int) -> tuple[int, int] | None:
    """(time, place) of the last fragment of a track that the table at the end names."""
    size = int.from_bytes(view.read(max(start, stop - 4), stop))
    if not 16 <= size <= min(_TABLE, stop - start) or view.read(stop - size + 4, stop - size + 8) != b"mfra":
        return None
    for box in boxes(view, stop - size + 8, stop):
        data = view.read(box.body, box.end)
        if box.kind != b"tfra" or int.from_bytes(data[4:8]) != track:
            continue
        wide, lengths, count = 8 if data[:1] == b"\1" else 4, data[11], int.from_bytes(data[12:16])
        row = 2 * wide + sum((lengths >> shift & 3) + 1 for shift in (0, 2, 4))
        entry = data[16 + row * (count - 1) :] if count else b""
        place = int.from_bytes(entry[wide : 2 * wide])
        return (int.from_bytes(entry[:wide]), place) if start <= place < stop else None
    return None


def _ticks(view: View, at: int, stop: int, track: int, usual: int) -> int:
    """How long the samples are that one fragment has of a track."""
    moof = next(boxes(view, at, stop), None)
    runs = boxes(view, moof.body, moof.end) if moof and moof.kind == b"moof" else iter(())
    return sum(_of_run(view, run, track, usual) for run in runs if run.kind == b"traf")


def _of_run(view: View, fragment: Box, track: int, usual: int) -> int:
    total = 0
    for box in boxes(view, fragment.body, fragment.end):
        data = view.read(box.body, min(box.end, box.body + _TABLE)) if box.kind in (b"tfhd", b"trun") else b""
        flags = int.from_bytes(data[1:4])
        if box.kind == b"tfhd":
            if int.from_bytes(data[4:8]) != track:
                return 0
            at = 8 + (8 if flags & 1 else 0) + (4 if flags & 2 else 0)
            usual = int.from_bytes(data[at : at + 4]) if flags & 8 else usual
        elif box.kind == b"trun":
            total += _of_samples(data, flags, usual)
    return total


def _of_samples(data: bytes, flags: int, usual: int) -> int:
    count, at = int.from_bytes(data[4:8]), 8 + (4 if flags & 1 else 0) + (4 if flags & 4 else 0)
    if not flags & 0x100:
        return min(count, 1 << 20) * usual
    row = 4 * (flags >> 8 & 15).bit_count()
    return sum(int.from_bytes(data[place : place + 4]) for place in range(at, min(len(data), at + row * count), row))
