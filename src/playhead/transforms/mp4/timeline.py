"""Tracks of parts -> pieces of a timeline: what of each is shown, from which tick of the whole on.

Times of all tracks are counted in flicks, in which the usual rates of pictures and of sound are whole.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from playhead.errors import Malformed
from playhead.transforms.mp4.descriptions import Description
from playhead.transforms.mp4.movie import NORMAL, SOUND, Edit, Track, common
from playhead.transforms.mp4.runs import MOST
from playhead.transforms.mp4.samples import Samples

FLICKS = 705_600_000  # in a second
_FINEST = 100_000_000  # ticks in a second, where those of the parts are to be whole in it


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown of a track: nothing for `lead` flicks, then its media [start, stop) in its own ticks.

    `length`: flicks in all. `simple`: this says everything; else its edits do. `first`, `last`: when its first and last
    samples would be shown if none were hidden.
    """

    lead: int
    start: int
    stop: int
    length: int
    simple: bool
    first: int
    last: int
    whole: bool  # does it end where its media ends?


def shown(track: Track, timescale: int) -> Shown:
    """What of a track is shown by its edits, which count in a movie's timescale."""
    first, last, end = track.samples.shown()
    edits, lead = list(track.edits), 0
    if edits and edits[0].media is None:
        lead = flicks(edits.pop(0).duration, timescale)
    if not edits:
        start = min(0, first)
        return Shown(lead, start, end, lead + flicks(end - start, track.timescale), True, first, last, True)
    if len(edits) > 1 or edits[0].media is None or edits[0].rate != NORMAL:
        length = lead + sum(flicks(edit.duration, timescale) for edit in edits)
        return Shown(lead, 0, end, length, False, first, last, False)
    start, duration = edits[0].media, edits[0].duration
    # a movie's ticks are coarse: what ends within one of the end ends there. 0 is written for "to the end"
    whole = not duration or (duration + 1) * track.timescale >= (end - start) * timescale
    stop = end if whole else start + -(-duration * track.timescale // timescale)
    length = lead + flicks(max(0, stop - start), track.timescale)
    return Shown(lead, start, stop, length, True, first, last, whole)


def flicks(ticks: int, timescale: int) -> int:
    return rounded(ticks * FLICKS, timescale)


def rounded(value: int, over: int) -> int:
    return (2 * value + over) // (2 * over)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the whole presentation, in flicks, that shows media from a tick on; None: nothing."""

    begin: int
    end: int
    media: int | None
    rate: int = NORMAL


@dataclass(slots=True)
class Spliced:
    """A track of the whole. Its chunks are where they were; of those of silence, `silence` tells what is in them."""

    like: Track  # what the first part says of it
    timescale: int
    descriptions: list[Description] = field(default_factory=list)
    samples: Samples = field(default_factory=Samples)
    spans: list[Span] = field(default_factory=list)
    silence: list[tuple[int, int, bytes]] = field(default_factory=list)  # (part that it is before, chunk, bytes)
    known: dict[bytes, int] = field(default_factory=dict)  # the numbers of the descriptions, by what makes them alike


@dataclass(frozen=True, slots=True)
class Piece:
    """A part's track in the ticks of the whole. `at`: the tick, of the whole, at which `start` is shown."""

    samples: Samples
    shown: Shown
    edits: list[Edit]
    at: int
    start: int
    stop: int
    begin: int  # flicks at which the part begins, and the next one
    end: int
    scale: int  # of the movie that its edits count in
    ticks: tuple[int, int]  # its own timescale and that of the whole


def pieces(
    tracks: Sequence[Track], shows: Sequence[Shown], starts: Sequence[int], scales: Sequence[int]
) -> tuple[Spliced, list[Piece]]:
    """The track that is to be made of the tracks of parts, empty, and its pieces. See `splice.spliced`."""
    if len({track.timescale for track in tracks}) > 1 and sum(track.samples.count for track in tracks) > MOST:
        raise Malformed(f"more than {MOST:,} samples, in units of time that are not all the same")
    whole = Spliced(tracks[0], _timescale(tracks))
    return whole, [
        _piece(whole, track, show, starts[n : n + 2], scale)
        for n, (track, show, scale) in enumerate(zip(tracks, shows, scales, strict=True))
    ]


def _timescale(tracks: Sequence[Track]) -> int:
    own = {track.timescale for track in tracks}
    if tracks[0].handler == SOUND:  # ffmpeg (and so Chromium) takes the ticks that it is to skip for samples
        rate = tracks[0].descriptions[0].rate
        return rate if rate in own else tracks[0].timescale
    ticks = common(*own)
    return ticks if ticks <= _FINEST else max(own)


def _piece(whole: Spliced, track: Track, show: Shown, borders: Sequence[int], scale: int) -> Piece:
    ticks = track.timescale, whole.timescale
    kinds = [_known(whole, description) for description in track.descriptions]
    samples = replace(
        track.samples,
        times=track.samples.times.scaled(*reversed(ticks)),
        offsets=track.samples.offsets.each_scaled(*reversed(ticks)),
        kinds=array("I", (kinds[kind] for kind in track.samples.kinds)),
    )
    at = rounded((borders[0] + show.lead) * whole.timescale, FLICKS)
    start, stop = (time * ticks[1] // ticks[0] for time in (show.start, show.stop))
    return Piece(samples, show, track.edits, at, start, stop, borders[0], borders[1], scale, ticks)


def _known(whole: Spliced, description: Description) -> int:
    """The number of a description among those known, which it joins where none is alike."""
    number = whole.known.setdefault(description.alike, len(whole.descriptions))
    if number == len(whole.descriptions):
        whole.descriptions.append(description)
    return number


def edits(whole: Spliced, pieces: Sequence[Piece], start: int, places: Sequence[int], gaps: Sequence[int]) -> None:
    """The edits of what is shown in a row from a tick of its media on, but for gaps; none where that is all."""
    lead, last = pieces[0].shown.lead, pieces[-1]
    breaks = [n for n, gap in enumerate(gaps) if gap]
    if not (lead or start or breaks) and last.shown.whole:
        return
    if lead:
        whole.spans.append(Span(0, lead, None))
    begins = [(lead, start), *((pieces[n].begin + pieces[n].shown.lead, places[n]) for n in breaks)]
    ends = [*(begin for begin, _ in begins[1:]), last.begin + last.shown.length]
    whole.spans += [Span(begin, end, media) for (begin, media), end in zip(begins, ends, strict=True)]
