"""[Blob] -> Blob: MP4 parts, each of which plays by itself, as one MP4 that plays from its first byte.

Of each part only its moov is read, by hopping from box to box. The moov of the whole is computed from those and stands
first; behind it are cuts of the parts, in order, that nobody has read yet. So the whole has its exact size, and any
range of it is ranges of the parts: nothing is fetched before it is wanted, and nothing is kept a second time.

Here the parts are read, and what cannot be joined is refused; `splice` puts their tracks on one timeline, `layout` says
where the media comes to stand.
"""

import asyncio
import struct
from array import array
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, TypeVar

from playhead.blob import Blob
from playhead.errors import Damaged, Malformed
from playhead.transforms.mp4 import movie
from playhead.transforms.mp4.boxes import HEADER, box
from playhead.transforms.mp4.layout import Sources, laid
from playhead.transforms.mp4.movie import FRAGMENTED, PICTURE, SOUND, Movie, Track
from playhead.transforms.mp4.samples import Samples
from playhead.transforms.mp4.splice import spliced
from playhead.transforms.mp4.timeline import FLICKS, Shown, Spliced, shown

T = TypeVar("T")

HEAD = 64 << 10  # bytes at the beginning of a part in which its moov is looked for first
_REST = 8 << 20  # bytes after the media that are read at once
_TABLES, _ALL_TABLES = 64 << 20, 128 << 20  # bytes of one moov, and of all
_BOXES = 1000
_AT_ONCE = 4  # parts that are read at a time
_LONGEST = 10_000_000  # seconds
_REMEDY = "encode it as the others are, or join them with ffmpeg (its filter `concat`)"
_MAIN = {PICTURE: "pictures", SOUND: "sound"}
_FORM = {PICTURE: "picture", SOUND: "sound"}


async def joined(parts: Sequence[Blob], names: Sequence[str] = (), heads: Sequence[bytes] = ()) -> Blob:
    """MP4 parts as one MP4. `names` are for messages; `heads` the first bytes of each, where they were read before.

    Raises Malformed for parts that cannot be joined, Damaged for those that are not whole.
    """
    if not parts:
        raise Malformed("there are no parts to join")
    titles = [*names, *(f"part {number}" for number in range(len(names) + 1, len(parts) + 1))]
    given = [*heads, *(b"" for _ in parts[len(heads) :])]
    room, lock = _Room(_ALL_TABLES), asyncio.Semaphore(_AT_ONCE)
    found = await together(
        _read(part, title, head, room, lock) for part, title, head in zip(parts, titles, given, strict=True)
    )
    return await asyncio.to_thread(_whole, parts, found, titles)


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What all of them give; the first failure ends the others."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


# ── reading ──


@dataclass(slots=True)
class _Room:
    """How many bytes of tables may still be read."""

    left: int

    def take(self, size: int) -> None:
        self.left -= size
        if size > _TABLES or self.left < 0:
            raise Malformed(f"tables of more than {_TABLES >> 20} MiB (all together: {_ALL_TABLES >> 20})")


@dataclass(frozen=True, slots=True)
class _Part:
    ftyp: bytes
    movie: Movie
    shows: list[Shown]

    @property
    def length(self) -> int:
        return max(show.length for show in self.shows)


@contextmanager
def _naming(title: str) -> Iterator[None]:
    """Failures of a part say which part it is."""
    try:
        yield
    except (Malformed, Damaged) as failure:
        raise type(failure)(f"{title}: {failure}") from failure


async def _read(part: Blob, title: str, head: bytes, room: _Room, lock: asyncio.Semaphore) -> _Part:
    async with lock:
        with _naming(title):
            ftyp, moov = await _found(part, head, room)
            return await asyncio.to_thread(_understood, ftyp, moov, part.size)


async def _found(part: Blob, head: bytes, room: _Room) -> tuple[bytes, bytes]:
    """The bodies of ftyp (or nothing) and moov."""
    at, base, window, ftyp = 0, 0, head, b""
    for _ in range(_BOXES):
        if at - base + min(HEADER, part.size - at) > len(window):
            base, window = at, await part.read(at, at + _ahead(at, part.size - at))
        found = box(window[at - base :][:HEADER], at, part.size)
        body = window[found.body - base : found.end - base]
        if found.kind == b"moov":
            room.take(found.end - found.begin)
            at = found.body + len(body)
            return ftyp, body + (await part.read(at, found.end) if at < found.end else b"")
        if found.kind in (b"moof", b"styp", b"sidx"):
            raise Malformed(FRAGMENTED)
        if found.kind == b"ftyp" and len(body) == found.end - found.body:
            ftyp = body
        at = found.end
        if at + 8 > part.size:
            break
    raise Damaged("there is no moov in it: it is not whole, or no MP4")


def _ahead(at: int, left: int) -> int:
    """How much to read where a box begins: behind the media there is little but the moov."""
    return left if at and left <= _REST else min(left, HEAD)


def _understood(ftyp: bytes, moov: bytes, size: int) -> _Part:
    found = movie.read(memoryview(moov))
    if any(end > size for track in found.tracks for _, end in track.samples.extents()):
        raise Damaged("its media goes on beyond its end: it is not whole")
    shows = [shown(track, found.timescale) for track in found.tracks]
    if not 0 <= max(show.length for show in shows) <= _LONGEST * FLICKS:
        raise Damaged("it does not say how long it is")
    return _Part(ftyp, found, shows)


# ── which tracks go together ──


def _rows(parts: Sequence[_Part], titles: Sequence[str]) -> list[list[int]]:
    """For each track of the whole, its number in each part. Raises Malformed where pictures or sound do not match."""
    keys = [[_key(track) for track in part.movie.tracks] for part in parts]
    rows = []
    for key in dict.fromkeys(keys[0]):
        found = [[number for number, other in enumerate(own) if other == key] for own in keys]
        if len({len(numbers) for numbers in found}) == 1:
            rows += [list(row) for row in zip(*found, strict=True)]
    for own, title in zip(keys, titles, strict=True):
        _same_kinds(keys[0], own, title)
    for row in rows:
        _same_form([part.movie.tracks[number] for part, number in zip(parts, row, strict=True)], titles)
    return rows


def _key(track: Track) -> tuple[bytes, str]:
    return track.handler, ", ".join(dict.fromkeys(kind.codec for kind in track.descriptions))


def _same_kinds(first: list[tuple[bytes, str]], own: list[tuple[bytes, str]], title: str) -> None:
    for handler, what in _MAIN.items():
        wanted, has = (sorted(codec for kind, codec in keys if kind == handler) for keys in (first, own))
        if wanted != has:
            raise Malformed(f"{title}: its {what}: {_listed(has)}, and the first part's: {_listed(wanted)}; {_REMEDY}")


def _listed(codecs: list[str]) -> str:
    return " and ".join(codecs) if codecs else "none"


def _same_form(tracks: Sequence[Track], titles: Sequence[str]) -> None:
    wanted = tracks[0].descriptions[0].form
    for track, title in zip(tracks, titles, strict=True):
        for kind in track.descriptions:
            if kind.form != wanted:
                what = _FORM[track.handler]
                raise Malformed(f"{title}: its {what} is {kind.form}, and the first part's {wanted}; {_REMEDY}")
        if track.handler == PICTURE and track.matrix != tracks[0].matrix:
            raise Malformed(f"{title}: its picture is turned another way than the first part's; {_REMEDY}")


# ── the whole ──


def _whole(blobs: Sequence[Blob], parts: Sequence[_Part], titles: Sequence[str]) -> Blob:
    rows = _rows(parts, titles)
    starts = list(accumulate((part.length for part in parts), initial=0))
    if starts[-1] > _LONGEST * FLICKS:
        raise Malformed(f"the parts last longer than {_LONGEST:,} s together")
    sources = Sources()
    for number, blob in enumerate(blobs):
        sources.add(blob, number)
    try:
        tracks = [_track(parts, row, starts, sources) for row in rows]
        return laid(sources, parts[0].ftyp, tracks)
    except (OverflowError, struct.error):
        raise Malformed("the parts are too long for one MP4") from None


def _track(parts: Sequence[_Part], row: list[int], starts: list[int], sources: Sources) -> Spliced:
    """A track of the whole, its chunks at addresses."""
    tracks = [part.movie.tracks[number] for part, number in zip(parts, row, strict=True)]
    placed = [replace(track, samples=_moved(track.samples, sources.bases[n])) for n, track in enumerate(tracks)]
    shows = [part.shows[number] for part, number in zip(parts, row, strict=True)]
    return spliced(placed, shows, starts, [part.movie.timescale for part in parts])


def _moved(samples: Samples, base: int) -> Samples:
    return replace(samples, begins=array("Q", (begin + base for begin in samples.begins)))
