"""Pieces -> a track of sound: each part's sound where it is to be heard, by times and by the count of samples.

A codec's first samples (its priming) and last ones (its padding) are not to be heard. At a join they are left out where
they would overlap what is heard, and gaps are filled with silence where it is known how to make it: players that go by
the times of samples hear each part when they should, and those that count samples (Chromium) are never off by more than
half a sample (12 ms of AAC), which no number of parts adds up.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from playhead.transforms.mp4.runs import Runs
from playhead.transforms.mp4.samples import Samples
from playhead.transforms.mp4.timeline import Piece, Spliced, edits, rounded

_SILENT = 1 << 20  # samples of silence in a row, at most
_GAPS = 1000  # in the sound of a part, at most, if they are to be filled


def countable(piece: Piece) -> bool:
    """Can samples of it be left out at either end?"""
    return piece.shown.simple and piece.samples.sync is None and not any(piece.samples.offsets.values)


@dataclass(slots=True)
class _Reached:
    """Where the whole has got to: the tick at which its last sample begins, and the end as a player counts it."""

    begun: int = -1
    counted: int = 0


def sound(whole: Spliced, pieces: Sequence[Piece]) -> bool:
    """Splice what consists of samples that are alike. False, with nothing done, where that cannot be."""
    made = Spliced(whole.like, whole.timescale, whole.descriptions)
    reached = _Reached()
    for number, piece in enumerate(pieces):
        origin = piece.at - pieces[0].at + pieces[0].start - piece.start  # where its first sample would begin
        first = _first_heard(piece, reached, origin) if number else 0
        stop = _last_heard(piece) if number < len(pieces) - 1 else piece.samples.times.before(piece.stop)
        if first < stop and not _heard(made, reached, number, piece.samples, first, stop, origin):
            return False
    if not made.samples.count:
        return False
    whole.samples, whole.silence = made.samples, made.silence
    edits(whole, pieces, pieces[0].start, [], [])
    return True


def _first_heard(piece: Piece, reached: _Reached, origin: int) -> int:
    """The sample to go on with: the first that overlaps less than half of one, but at most one before those heard."""
    times = piece.samples.times
    heard = max(0, times.before(piece.start + 1) - 1)
    free = times.before(reached.counted - times.commonest() // 2 - origin)
    return max(min(max(free, heard - 1), heard + 1), times.before(reached.begun + 1 - origin))


def _last_heard(piece: Piece) -> int:
    """How many samples there are until the last of which at least half is heard."""
    times = piece.samples.times
    return times.before(piece.stop - times.commonest() // 2)


def _heard(whole: Spliced, reached: _Reached, part: int, own: Samples, first: int, stop: int, origin: int) -> bool:
    """Add the samples [first, stop) of a part that begins at `origin`, and silence where there are gaps before them.

    False where that cannot be.
    """
    one, begin = max(1, own.times.commonest()), origin + own.times.part(0, first).total()
    for count in _unbroken(own.times.part(first, stop), one):
        more = own.cut(first, first + count)
        if not whole.samples.count:
            if begin:
                return False
        elif not _silence(whole, reached, begin, one, part) or not whole.samples.last(begin - reached.begun):
            return False
        whole.samples.extend(more)
        first, begin, final = first + count, begin + more.times.total(), more.times.values[-1]
        reached.begun = begin - final
        reached.counted += count * one if whole.descriptions[more.kinds[-1]].whole else more.times.total()
    return True


def _unbroken(times: Runs, one: int) -> list[int]:
    """How many samples there are until each gap, and the end; one run of all where there are too many gaps."""
    counts: list[int] = []
    count = 0
    for number, value in times:
        if 2 * value < 3 * one:
            count += number
            continue
        if len(counts) + number > _GAPS:
            return [len(times)]
        counts += [count + 1, *([1] * (number - 1))]
        count = 0
    return [*counts, count] if count else counts


def _silence(whole: Spliced, reached: _Reached, begin: int, one: int, part: int) -> bool:
    """Fill a gap before what begins at a tick, as nearly as whole samples can. False where times do not allow it."""
    kind = whole.samples.kinds[-1]
    silent = whole.descriptions[kind].silence
    count = min(rounded(begin - reached.counted, one), (begin - reached.begun - 1) // one)
    if not silent or not 0 < count <= _SILENT:
        return True
    if not whole.samples.last(begin - count * one - reached.begun):
        return False
    whole.silence.append((part, len(whole.samples.begins), silent * count))
    times, offsets = Runs(), Runs()
    times.add(count, one)
    offsets.add(count, 0)
    chunk = array("Q", [0]), array("I", [count]), array("I", [kind])
    whole.samples.extend(Samples(count, len(silent), array("I"), times, offsets, None, *chunk))
    reached.begun, reached.counted = begin - one, reached.counted + count * one
    return True
