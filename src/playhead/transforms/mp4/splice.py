"""Tracks -> Track: the tracks of parts in a row on one timeline, where each part begins when the one before is over.

A part is as long as its longest track; of a shorter one the last sample lasts until the part's end. Players differ in
what they make of edit lists (some know only the first edit) and of times (some play sound by counting its samples), so
that a track is spliced in the plainest of three ways that shows the same:

- flat: the samples in a row, shown by one edit. What edits say of each part goes into the times of its samples. What a
  part decodes but does not show (it was cut where no picture can be begun at) comes in single ticks before its
  beginning, which a further edit leaves out: who does not know that, drops it as too late to be shown.
- sound: see `sound`.
- edited: everything in a row, shown by every edit of every part. For parts that are edited in some other way.
"""

import itertools
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from playhead.errors import Malformed
from playhead.transforms.mp4.movie import NORMAL, SOUND, Track
from playhead.transforms.mp4.runs import Runs
from playhead.transforms.mp4.samples import Samples
from playhead.transforms.mp4.sound import countable, sound
from playhead.transforms.mp4.timeline import Piece, Shown, Span, Spliced, edits, flicks, pieces

_MOST = 1 << 21  # samples of parts that hide some
_NEVER = 1 << 62  # a tick that none reaches


def spliced(tracks: Sequence[Track], shows: Sequence[Shown], starts: Sequence[int], scales: Sequence[int]) -> Spliced:
    """One track of the tracks of parts; part n begins at `starts[n]` flicks, and its edits count in `scales[n]`."""
    whole, found = pieces(tracks, shows, starts, scales)
    if tracks[0].handler == SOUND and all(map(countable, found)) and sound(whole, found):
        return whole
    if _flat(whole, found):
        return whole
    return _edited(whole, found)


# ── flat ──


@dataclass(frozen=True, slots=True)
class _Row:
    """Samples of a part, without those that are decoded after all that are shown.

    `key`: how many are decoded before any that is shown. `ahead`: ticks from when the next one is decoded to when the
    part is shown from. `hidden`, `late`: numbers of those that would be shown before that, and after the part's end.
    """

    samples: Samples
    key: int
    ahead: int
    hidden: frozenset[int] = frozenset()
    late: frozenset[int] = frozenset()


def _hides(piece: Piece) -> bool:
    """Is some of it not shown?"""
    return piece.shown.first < piece.shown.start or piece.shown.last >= piece.shown.stop


def _row(piece: Piece, first: bool, last: bool) -> _Row | None:
    """What is needed of a part, if it is the first or the last or neither; None where nothing of it is shown."""
    samples = piece.samples
    if not _hides(piece):
        return _Row(samples, 0, piece.start)
    decoded, at = _ticks_of(samples)
    seen = [number for number, tick in enumerate(at) if piece.start <= tick < piece.stop]
    if not seen:
        return None
    count, key = seen[-1] + 1, seen[0]
    if first:  # what is hidden before the first part begins, the first edit hides
        hidden, ahead, key = frozenset[int](), min(at[number] for number in seen) - decoded[key], 0
    else:
        hidden, ahead = frozenset(n for n in range(count) if at[n] < piece.start), piece.start - decoded[key]
    late = frozenset(n for n in range(count) if at[n] >= piece.stop and not last)  # those of the last, its edit hides
    return _Row(samples.cut(0, count), key, ahead, hidden, late)


def _ticks_of(samples: Samples) -> "tuple[array[int], array[int]]":
    """When each sample is decoded, and when it is shown."""
    decoded, at, now = array("q"), array("q"), 0
    for count, delta, offset in samples.spread():
        for _ in range(count):
            decoded.append(now)
            at.append(now + offset)
            now += delta
    return decoded, at


def _flat(whole: Spliced, pieces: Sequence[Piece]) -> bool:
    """Splice so that all media is shown in a row. False, with nothing done, where edits say something else."""
    if not all(piece.shown.simple and piece.samples.count for piece in pieces):
        return False
    if sum(piece.samples.count for piece in pieces if _hides(piece)) > _MOST:
        raise Malformed(f"more than {_MOST:,} samples, some of which are not to be shown")
    rows = [row for n, piece in enumerate(pieces) if (row := _row(piece, n == 0, n == len(pieces) - 1))]
    if len(rows) < len(pieces):
        return False
    crowds = [len(one.late) + len(other.hidden) for one, other in pairwise(rows)]
    gaps = [0, *(crowd + 1 if crowd else 0 for crowd in crowds)]
    ahead = max(
        rows[0].ahead - min(0, pieces[0].start), *(row.ahead + gap for row, gap in zip(rows, gaps, strict=True))
    )
    start = pieces[0].start + ahead - rows[0].ahead
    shifts = accumulate(gaps)
    places = [piece.at - pieces[0].at + start + shift for piece, shift in zip(pieces, shifts, strict=True)]
    bases = [0, *(place - ahead - row.key for place, row in zip(places[1:], rows[1:], strict=True)), _NEVER]
    afters = [*(place - gap for place, gap in zip(places[1:], gaps[1:], strict=True)), _NEVER]
    made, begun = Samples(), 0  # the tick at which the last sample is decoded
    for n, (piece, row) in enumerate(zip(pieces, rows, strict=True)):
        more = _in_place(row, piece.start, places[n], afters[n], bases[n], bases[n + 1])
        if more is None or (n and not made.last(bases[n] - begun)):
            return False
        made.extend(more)
        begun = bases[n] + more.times.total() - more.times.values[-1]
    whole.samples = made
    edits(whole, pieces, start, places, gaps)
    return True


def _in_place(row: _Row, start: int, place: int, after: int, base: int, until: int) -> Samples | None:
    """The samples of a part, shown so that `start` is at `place`, and decoded from `base` on and before `until`.

    Those that are hidden are shown in the ticks before that, one each; those that are late, in the ticks from `after`
    on. None where there is no time to decode them.
    """
    times, count = row.samples.times, row.samples.count
    plain = not row.key and not row.hidden and not row.late
    if plain and base + times.total() - times.values[-1] < until:
        return replace(row.samples, offsets=row.samples.offsets.plus(place - start - base))
    if base + count > until:
        return None
    decoded, at = _ticks_of(row.samples)
    key = decoded[row.key]
    ticks = [base + min(n, row.key) + max(0, tick - key) for n, tick in enumerate(decoded)]
    ticks = [min(tick, until - count + n) for n, tick in enumerate(ticks)]
    crowd, later = itertools.count(place - len(row.hidden)), itertools.count(after + 1)
    offsets, deltas = Runs(), Runs()
    for n, tick in enumerate(ticks):
        shown = next(crowd) if n in row.hidden else next(later) if n in row.late else place + at[n] - start
        offsets.add(1, shown - tick)
    for tick, following in pairwise(ticks):
        deltas.add(1, following - tick)
    deltas.add(1, times.values[-1])
    return replace(row.samples, times=deltas, offsets=offsets)


# ── edited ──


def _edited(whole: Spliced, pieces: Sequence[Piece]) -> Spliced:
    """Splice by every edit of every part, so that none shows anything of the part after it."""
    whole.samples, whole.spans, base, over = Samples(), [], 0, 0
    for piece in pieces:
        first, _, end = piece.samples.shown()
        if whole.samples.later(over - first - base):
            base = over - first
        over = base + end
        whole.samples.extend(piece.samples)
        at = piece.begin
        for length, media, rate in _stretches(piece):
            whole.spans.append(Span(at, at + length, None if media is None else base + media, rate))
            at += length
        if at < piece.end and piece is not pieces[-1]:
            whole.spans.append(Span(at, piece.end, None))
        base += piece.samples.times.total()
    if not whole.samples.count:
        raise Malformed("a track has no samples in any part")
    return whole


def _stretches(piece: Piece) -> list[tuple[int, int | None, int]]:
    """The edits of a part as (flicks, tick of its media, rate)."""
    if piece.shown.simple:
        lead = [(piece.shown.lead, None, NORMAL)] if piece.shown.lead else []
        return [*lead, (piece.shown.length - piece.shown.lead, max(0, piece.start), NORMAL)]
    own, all_ = piece.ticks
    return [
        (flicks(edit.duration, piece.scale), None if edit.media is None else edit.media * all_ // own, edit.rate)
        for edit in piece.edits
    ]
