"""Tracks -> Blob: their moov, and behind it the media of what they were made of, as cuts that nobody has read yet.

Chunks are addressed as if all sources stood one behind the other. The runs of addresses in which there are chunks are
the media of the whole, in the order of the parts; what lies between them is left out.

Where the parts of a track were encoded with other parameters than each other, each has a sample description of its own,
which players that set their decoder up once (Chromium) never read. So the parameter sets are also written before every
sample at which can be begun.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise

from playhead.blob import Blob, concat, cut, literal
from playhead.errors import Malformed
from playhead.transforms.mp4 import movie
from playhead.transforms.mp4.boxes import boxed, media_header
from playhead.transforms.mp4.descriptions import parameter_sets
from playhead.transforms.mp4.movie import PICTURE, Edit, Written, common
from playhead.transforms.mp4.samples import FAR, Samples
from playhead.transforms.mp4.timeline import FLICKS, Spliced

_NEAR = 64 << 10  # bytes between two runs of media that are not worth two cuts
_RUNS = 100_000
_TICKS = 90_000  # in a second of the whole's edits, where those of the parts need none finer
_FTYP = b"isom\0\0\2\0isomiso2mp41"

Run = tuple[int, int]


class Sources:
    """What the whole is cut from. An address is an offset in all of it, one behind the other."""

    def __init__(self) -> None:
        self.blobs: list[Blob] = []
        self.bases = [0]  # the address at which each begins, and where the last one ends
        self.ranks: list[float] = []  # in which order they are wanted
        self.marks: list[int] = []  # addresses before which something is written
        self.notes: list[Blob] = []  # what
        self.grown = [0]  # how much before each mark, and in all

    def add(self, blob: Blob, rank: float) -> int:
        """One more; returns its address."""
        self.blobs.append(blob)
        self.bases.append(self.bases[-1] + blob.size)
        self.ranks.append(rank)
        return self.bases[-2]

    def write(self, notes: list[tuple[int, Blob]]) -> None:
        """Write something before what stands at some addresses, which ascend."""
        self.marks, self.notes = [address for address, _ in notes], [note for _, note in notes]
        self.grown = list(accumulate((note.size for note in self.notes), initial=0))

    def owner(self, address: int) -> int:
        """The number of the source that an address is in."""
        return bisect_right(self.bases, address) - 1

    def order(self, run: Run) -> tuple[float, int]:
        """By this, runs are sorted into the order in which they are wanted."""
        return self.ranks[self.owner(run[0])], run[0]

    def length(self, start: int, stop: int) -> int:
        """Bytes of [start, stop), with what is written there."""
        marks = self.grown[bisect_left(self.marks, stop)] - self.grown[bisect_left(self.marks, start)]
        return stop - start + marks

    def cut(self, run: Run) -> Iterator[Blob]:
        """The bytes of a run of addresses that are all of one source."""
        number = self.owner(run[0])
        blob, base = self.blobs[number], self.bases[number]
        first, last = bisect_left(self.marks, run[0]), bisect_left(self.marks, run[1])
        borders = [run[0], *self.marks[first:last], run[1]]
        for number, (start, stop) in enumerate(pairwise(borders), first - 1):
            if number >= first:
                yield self.notes[number]
            yield cut(blob, start - base, stop - base)


def laid(sources: Sources, ftyp: bytes, tracks: Sequence[Spliced]) -> Blob:
    """The header, and behind it the runs that the tracks need."""
    _add_silence(sources, tracks)
    runs = _runs([track.samples for track in tracks], sources)
    if not runs:
        raise Malformed("there is no media in the parts")
    _add_parameters(sources, tracks)
    media = concat(blob for run in sorted(runs, key=sources.order) for blob in sources.cut(run))
    for track in tracks:
        _place(track.samples, runs, sources)
    brand, head = boxed(b"ftyp", ftyp or _FTYP), media_header(media.size)
    written, scale = _written(tracks)
    size = len(brand) + len(movie.written(written, scale, 0, wide=True)) + len(head)
    wide = size + media.size > FAR
    if not wide:
        size -= 4 * sum(len(track.samples.begins) for track in tracks)
    return concat([literal(brand + movie.written(written, scale, size, wide) + head), media])


def _add_silence(sources: Sources, tracks: Sequence[Spliced]) -> None:
    """Silence stands before the part at whose beginning it is heard, so that who reads on comes by it."""
    for track in tracks:
        for part, chunk, silent in track.silence:
            track.samples.begins[chunk] = sources.add(literal(silent), part - 0.5)


# ── parameter sets ──


def _add_parameters(sources: Sources, tracks: Sequence[Spliced]) -> None:
    pictures = [track for track in tracks if track.like.handler == PICTURE and len(track.descriptions) > 1]
    if len(pictures) != 1 or not _apart(tracks):
        return
    track = pictures[0]
    sets = parameter_sets(track.descriptions)
    if not sets:
        return
    track.samples.spell_out()
    notes = [literal(found) for found in sets]
    marks = []
    for number, address, kind in _beginnings(track.samples):
        marks.append((address, notes[kind]))
        track.samples.sizes[number] += len(sets[kind])
    sources.write(sorted(marks, key=lambda mark: mark[0]))


def _apart(tracks: Sequence[Spliced]) -> bool:
    """Is no byte part of two samples?"""
    chunks = sorted(run for track in tracks for run in track.samples.extents() if run[0] < run[1])
    return all(one[1] <= other[0] for one, other in pairwise(chunks))


def _beginnings(samples: Samples) -> list[tuple[int, int, int]]:
    """The samples at which can be begun: their numbers from 0, addresses and descriptions."""
    found, number = [], 0
    sync = None if samples.sync is None else set(samples.sync)
    for begin, count, kind in zip(samples.begins, samples.counts, samples.kinds, strict=True):
        for at in range(number, number + count):
            if sync is None or at + 1 in sync:
                found.append((at, begin, kind))
            begin += samples.sizes[at]
        number += count
    return found


# ── where the media is, and comes to stand ──


def _runs(tracks: list[Samples], sources: Sources) -> list[Run]:
    """The runs of addresses in which all chunks are, in order, each of one source."""
    found: list[Run] = []
    for samples in tracks:
        found += _close((run for run in samples.extents() if run[0] < run[1]), sources)
    return _close(sorted(found), sources)


def _close(runs: Iterable[Run], sources: Sources) -> list[Run]:
    """Runs, of which those that follow each other closely in one source are one."""
    found: list[Run] = []
    start = stop = end = -1  # the run so far, and the end of its source
    for begin, until in runs:
        if start <= begin < end and begin <= stop + _NEAR:
            stop = max(stop, until)
            continue
        if start >= 0:
            found.append((start, stop))
        if len(found) > _RUNS:
            raise Malformed(f"the media of the parts is in more than {_RUNS:,} places")
        start, stop, end = begin, until, sources.bases[sources.owner(begin) + 1]
    return [*found, (start, stop)] if start >= 0 else found


def _place(samples: Samples, runs: list[Run], sources: Sources) -> None:
    """Move chunks from their addresses to where the runs that they are in come to stand."""
    begins, places, at = [run[0] for run in runs], {}, 0
    for run in sorted(runs, key=sources.order):
        places[run] = at
        at += sources.length(*run)
    for number, begin in enumerate(samples.begins):
        run = runs[max(0, bisect_right(begins, begin) - 1)]
        inside = min(max(begin, run[0]), run[1])  # of a chunk without any bytes, nobody asks where it is
        samples.begins[number] = places[run] + sources.length(run[0], inside)


# ── the moov ──


def _written(tracks: Sequence[Spliced]) -> tuple[list[Written], int]:
    """The tracks as they are to be written, and the timescale of their edits."""
    scale = _TICKS
    if any(len(track.spans) > 1 for track in tracks):
        finer = common(scale, *(track.timescale for track in tracks))
        scale = finer if finer <= FLICKS else FLICKS
    return [_as_written(track, scale) for track in tracks], scale


def _as_written(track: Spliced, scale: int) -> Written:
    edits = [
        Edit(_ticks(span.end, scale) - _ticks(span.begin, scale), span.media, span.rate)
        for span in track.spans
        if _ticks(span.end, scale) > _ticks(span.begin, scale)
    ]
    total = track.samples.times.total()
    duration = sum(edit.duration for edit in edits) if edits else -(-total * scale // track.timescale)
    descriptions = [description.raw for description in track.descriptions]
    return Written(track.like, track.timescale, descriptions, track.samples, edits, duration)


def _ticks(flicks: int, scale: int) -> int:
    return -(-flicks * scale // FLICKS)
