"""MP4 parts as one MP4, against ffmpeg: every picture, when it is shown, and when the sound of it is heard."""

import asyncio
import itertools
import re
import struct
import tracemalloc
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playhead import Blob, Damaged, Malformed, literal
from playhead.blob import Pieces
from playhead.transforms.mp4 import boxes, movie
from playhead.transforms.mp4.film import joined
from playhead.transforms.mp4.runs import Runs
from tests.films import FFMPEG, Seen, copied, made, probed, seen, silent
from tests.laws import check_blob
from tests.peers.playing import needs

Make = Callable[[Path], Sequence[Path]]

SOON = 0.02  # seconds by which sound may be off at a join, for players that count samples
EXACT = 0.002  # the same for times that are written down: what movies' ticks of 1 ms leave

pytestmark = FFMPEG


# ── parts ──


def alike(folder: Path) -> Sequence[Path]:
    """Parts of one encoding, with pictures that are shown in another order than they are decoded in."""
    return [made(folder / f"{n}.mp4", picture=1 + n / 25, sound=1 + n / 25) for n in (3, 1, 8, 2)]


def moov_first(folder: Path) -> Sequence[Path]:
    return [made(folder / "1.mp4", "-movflags", "+faststart"), made(folder / "2.mp4"), made(folder / "3.mp4")]


def other_ticks(folder: Path) -> Sequence[Path]:
    ticks = ("12800", "90000", "30000", "11988")
    return [made(folder / f"{n}.mp4", "-video_track_timescale", n, picture=1.04) for n in ticks]


def film_rates(folder: Path) -> Sequence[Path]:
    rates = ("24000/1001", "25", "30000/1001")
    return [made(folder / f"{n}.mp4", rate=rate, picture=0.9, sound=1) for n, rate in enumerate(rates)]


def other_orders(folder: Path) -> Sequence[Path]:
    """With and without pictures that are decoded before they are shown; the parts' decoders are set up otherwise."""
    options = (["-bf", "0"], ["-bf", "3"], ["-profile:v", "baseline"], ["-refs", "5", "-bf", "1"])
    return [made(folder / f"{n}.mp4", *each) for n, each in enumerate(options)]


def negative_offsets(folder: Path) -> Sequence[Path]:
    return [made(folder / "1.mp4"), made(folder / "2.mp4", "-movflags", "+negative_cts_offsets")]


def no_edit_lists(folder: Path) -> Sequence[Path]:
    return [made(folder / f"{n}.mp4", "-use_editlist", "0") for n in range(3)]


def short_sound(folder: Path) -> Sequence[Path]:
    return [made(folder / f"{n}.mp4", picture=1.4, sound=sound) for n, sound in enumerate((0.6, 1.0, 1.38, 0.7))]


def short_pictures(folder: Path) -> Sequence[Path]:
    return [made(folder / f"{n}.mp4", picture=picture, sound=1.4) for n, picture in enumerate((0.4, 1.0, 1.36))]


def late_sound(folder: Path) -> Sequence[Path]:
    parts = [made(folder / f"{n}.mp4") for n in range(3)]
    late = ("-itsoffset", "0.3")
    return [
        copied(part, folder / f"late {part.name}", "-map", "0:v", "-map", "1:a", before=("-i", str(part), *late))
        for part in parts
    ]


def late_pictures(folder: Path) -> Sequence[Path]:
    parts = [made(folder / f"{n}.mp4") for n in range(3)]
    late = ("-itsoffset", "0.2")
    return [
        parts[0],
        *(
            copied(p, folder / f"late {p.name}", "-map", "1:v", "-map", "0:a", before=("-i", str(p), *late))
            for p in parts
        ),
    ]


def cut_from_one(folder: Path, at: str = "0.32") -> Sequence[Path]:
    """Cut where no picture can be begun at: edit lists hide those from where it can."""
    source = made(folder / "source.mp4", "-g", "20", picture=5, sound=5)
    cuts = [copied(source, folder / f"{n}.mp4", "-t", "1.1", before=("-ss", f"{float(at) + n}")) for n in range(3)]
    return [source, *cuts]


def ended_early(folder: Path) -> Sequence[Path]:
    """Parts whose edit lists end before their media does: what follows is neither shown nor heard."""
    parts = [made(folder / f"{n}.mp4", picture=1.6, sound=1.6) for n in range(4)]
    for n, part in enumerate(parts):
        data = bytearray(part.read_bytes())
        for kind, offset in ((b"mvhd", 20), (b"tkhd", 24), (b"elst", 12)):
            for found in re.finditer(kind, bytes(data)):
                struct.pack_into(">I", data, found.start() + offset, 1000 + 40 * n)
        part.write_bytes(data)
    return parts


def no_sound(folder: Path) -> Sequence[Path]:
    return [made(folder / f"{n}.mp4", sound=0) for n in range(2)]


def no_pictures(folder: Path) -> Sequence[Path]:
    return [made(folder / f"{n}.m4a", picture=0, sound=1 + n / 7) for n in range(5)]


def hevc(folder: Path) -> Sequence[Path]:
    options = ("-c:v", "libx265", "-x265-params", "log-level=none:pools=none", "-tag:v", "hvc1")
    return [made(folder / "1.mp4", *options, picture=0.6), made(folder / "2.mp4", *options, "-bf", "0", picture=0.6)]


def vp9_and_opus(folder: Path) -> Sequence[Path]:
    options = ("-c:v", "libvpx-vp9", "-cpu-used", "8", "-c:a", "libopus", "-ar", "48000")
    return [made(folder / f"{n}.mp4", *options, picture=1, sound=1 + n / 50) for n in range(3)]


def mp3_inside(folder: Path) -> Sequence[Path]:
    return [made(folder / f"{n}.mp4", "-c:a", "libmp3lame", sound=1.2 + n / 50) for n in range(3)]


def extras(folder: Path) -> Sequence[Path]:
    """With subtitles, a timecode and chapters beside what plays."""
    (folder / "chapters").write_text(";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=500\ntitle=one\n", "utf-8")
    (folder / "said.srt").write_text("1\n00:00:00,100 --> 00:00:00,900\nsaid\n", "utf-8")
    beside = ("-i", str(folder / "said.srt"), "-i", str(folder / "chapters"))
    options = ("-map", "0", "-map", "1", "-map_metadata", "2", "-c:s", "mov_text", "-timecode", "01:00:00:00")
    return [copied(made(folder / f"plain {n}.mp4"), folder / f"{n}.mp4", *options, after=beside) for n in range(2)]


OFTEN = [alike, other_ticks, other_orders, no_edit_lists, short_sound, short_pictures, late_sound, cut_from_one,
         ended_early, no_pictures, extras]  # fmt: skip
SELDOM = [moov_first, film_rates, negative_offsets, late_pictures, no_sound, hevc, vp9_and_opus, mp3_inside]
ALL = [*OFTEN, *(pytest.param(make, marks=pytest.mark.torture) for make in SELDOM)]


async def one(parts: Sequence[Path], path: Path) -> tuple[Seen, Blob]:
    """The parts as one, which is also written to a path."""
    whole = await joined([literal(part.read_bytes()) for part in parts])
    path.write_bytes(await whole.read())
    return await asyncio.to_thread(seen, path), whole


def shown_by_tables(data: bytes) -> list[tuple[float, float]]:
    """When each picture is shown for who follows all edits of a file, and for who knows only where the first begins."""
    found, shown, at, now = tables(data), [], 0.0, 0
    track = next((track for track in found.tracks if track.handler == movie.PICTURE), None)
    if track is None:
        return []
    ticks = []
    for count, delta, offset in track.samples.spread():
        ticks += [now + n * delta + offset for n in range(count)]
        now += count * delta
    edits = track.edits or [movie.Edit(1 << 40, 0)]
    lead = edits[0].duration / found.timescale if edits[0].media is None else 0.0
    first = next(edit.media for edit in edits if edit.media is not None)
    for edit in edits:
        begin, length = edit.media, edit.duration / found.timescale
        for tick in ticks:
            if begin is not None and 0 <= (time := (tick - begin) / track.timescale) < length:
                shown.append((at + time, lead + (tick - first) / track.timescale))
        at += length
    return sorted(shown)


async def check_in_step(parts: Sequence[Path], path: Path) -> None:
    """Compare what ffmpeg makes of parts with what it makes of the parts as one."""
    known = {part: seen(part) for part in dict.fromkeys(parts)}
    alone = [known[part] for part in parts]
    whole, blob = await one(parts, path)
    starts = list(accumulate((part.length for part in alone), initial=0.0))
    stamped = [start + at for part, start in zip(alone, starts, strict=False) for at in part.stamped]
    times = [start + at for part, start in zip(alone, starts, strict=False) for at in part.times]
    assert whole.length == pytest.approx(starts[-1], abs=EXACT * len(parts))
    assert whole.frames == [frame for part in alone for frame in part.frames]
    assert whole.times == pytest.approx(times, abs=EXACT * len(parts))
    by_tables = shown_by_tables(path.read_bytes())
    assert [at for at, _ in by_tables] == pytest.approx(times, abs=EXACT * len(parts))
    assert [at for _, at in by_tables] == pytest.approx(times, abs=5 * EXACT * len(parts))
    assert whole.stamped == pytest.approx(stamped, abs=EXACT * len(parts))
    # who counts samples begins when the first of them is to be heard
    assert [at + whole.began for at in whole.counted] == pytest.approx(stamped, abs=SOON)
    await check_blob(blob, path.read_bytes(), rounds=4)


@pytest.mark.parametrize("make", ALL, ids=[make.__name__ for make in (*OFTEN, *SELDOM)])
async def test_every_picture_is_shown_and_every_sound_is_heard_when_its_part_says(make: Make, tmp_path: Path) -> None:
    await check_in_step(make(tmp_path), tmp_path / "whole.mp4")


async def test_sound_is_not_more_out_of_step_at_the_last_of_many_joins(tmp_path: Path) -> None:
    """What each of these parts lacks of sound, or has too much of, would make 0.1 s of 14 parts, or more."""
    short, long = made(tmp_path / "short.mp4", sound=1.191), made(tmp_path / "long.mp4", picture=1.16, sound=1.169)
    await check_in_step([short, long] * 7, tmp_path / "whole.mp4")


@pytest.mark.torture
async def test_what_is_hidden_does_not_come_back_at_a_join(tmp_path: Path) -> None:
    """ffmpeg cuts between two pictures: the first that it shows is shown half a picture late, here as everywhere."""
    parts = cut_from_one(tmp_path, "0.3")
    alone = [seen(part) for part in parts]
    whole, _ = await one(parts, tmp_path / "whole.mp4")
    assert whole.frames == [frame for part in alone for frame in part.frames]
    assert whole.times[len(alone[0].frames)] == pytest.approx(alone[0].length + 0.02, abs=EXACT)


@pytest.mark.torture
async def test_a_part_with_many_edits_keeps_all_of_them(tmp_path: Path) -> None:
    await one(cut_from_one(tmp_path), tmp_path / "edited.mp4")
    parts = [made(tmp_path / "first.mp4"), tmp_path / "edited.mp4", made(tmp_path / "last.mp4")]
    alone = [seen(part) for part in parts]
    whole, _ = await one(parts, tmp_path / "whole.mp4")
    starts = accumulate((part.length for part in alone), initial=0.0)
    times = [start + at for part, start in zip(alone, starts, strict=False) for at in part.times]
    by_tables = shown_by_tables((tmp_path / "whole.mp4").read_bytes())
    assert whole.frames == [frame for part in alone for frame in part.frames]
    assert [at for at, _ in by_tables] == pytest.approx(times, abs=EXACT)


CHANNELS = [2, *(pytest.param(n, marks=pytest.mark.torture) for n in (4, 5, 6, 8))]


@pytest.mark.parametrize("channels", CHANNELS)
async def test_silence_is_sound_to_a_decoder_however_many_channels_there_are(channels: int, tmp_path: Path) -> None:
    part = made(tmp_path / "part.mp4", "-ac", str(channels), picture=1, sound=0.7)
    await check_in_step([part] * 3, tmp_path / "whole.mp4")


@pytest.mark.parametrize("options", [("-ac", "6"), ("-b:a", "24k")], ids=str)
async def test_sound_may_be_encoded_in_another_way(options: tuple[str, ...], tmp_path: Path) -> None:
    parts = [made(tmp_path / "1.mp4"), made(tmp_path / "2.mp4", *options, sound=0.8), made(tmp_path / "3.mp4")]
    whole = await joined([literal(part.read_bytes()) for part in parts])
    (tmp_path / "whole.mp4").write_bytes(await whole.read())
    about = probed(tmp_path / "whole.mp4")
    assert float(about["format"]["duration"]) == pytest.approx(3.6, abs=0.01)
    assert all(stream["nb_frames"] == stream["nb_read_packets"] for stream in about["streams"])


async def test_parts_of_one_encoding_share_a_description_whatever_was_measured_of_each(tmp_path: Path) -> None:
    """Their descriptions differ in bit rates: a decoder that is set up anew at each join loses a moment of sound."""
    parts = [made(tmp_path / f"{n}.mp4", sound=1 + n, picture=1) for n in range(2)]
    alone = [tables(part.read_bytes()) for part in parts]
    assert alone[0].tracks[1].descriptions[0].raw != alone[1].tracks[1].descriptions[0].raw
    whole = await joined([literal(part.read_bytes()) for part in parts])
    assert [len(track.descriptions) for track in tables(await whole.read()).tracks] == [1, 1]


@needs("mpv")
async def test_mpv_plays_the_whole_to_its_end(tmp_path: Path) -> None:
    await one(other_orders(tmp_path), tmp_path / "whole.mp4")
    options = ("--no-config", "--vo=null", "--ao=pcm", "--ao-pcm-file=/dev/null", "--untimed", "--really-quiet")
    assert silent("mpv", *options, str(tmp_path / "whole.mp4")) == b""


# ── what is read ──


@dataclass(frozen=True, slots=True, eq=False)
class Counted(Blob):
    """Bytes, of which it is written down which ones were asked for."""

    data: bytes
    asked: list[tuple[int, int]] = field(default_factory=list)

    async def stream(self, start: int, stop: int) -> Pieces:
        self.asked.append((start, stop))
        yield self.data[start:stop]


def counted(data: bytes, tag: str | None = None) -> Counted:
    return Counted(len(data), tag, data)


def box_at(data: bytes, kind: bytes) -> boxes.Box:
    """The first box of a kind in a file."""
    at = 0
    while (found := boxes.box(data[at : at + 16], at, len(data))).kind != kind:
        at = found.end
    return found


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A film whose moov is at its end, and whose media is longer than what is read at once."""
    folder = tmp_path_factory.mktemp("film")
    return made(folder / "film.mp4", "-b:v", "2M", "-g", "10", look=",noise=alls=60", picture=2, sound=2).read_bytes()


@pytest.fixture(scope="module")
def ready(film: bytes, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The same with its moov first."""
    folder = tmp_path_factory.mktemp("ready")
    (folder / "film.mp4").write_bytes(film)
    return copied(folder / "film.mp4", folder / "ready.mp4", "-movflags", "+faststart").read_bytes()


async def test_a_part_whose_moov_is_first_costs_one_request_and_none_where_its_head_is_known(ready: bytes) -> None:
    parts = [counted(ready), counted(ready)]
    await joined(parts, heads=[b"", ready[:65536]])
    assert [part.asked for part in parts] == [[(0, 65536)], []]


async def test_a_part_whose_moov_is_last_costs_two_requests_and_nothing_of_its_media(film: bytes) -> None:
    part = counted(film)
    await joined([part, part])
    moov = box_at(film, b"moov")
    assert moov.begin > 100_000
    assert sorted(part.asked) == sorted([(0, 65536), (moov.begin, len(film))] * 2)


async def test_a_range_of_the_whole_reads_that_range_of_a_part_only(film: bytes, ready: bytes) -> None:
    parts = [counted(film), counted(ready), counted(film)]
    whole = await joined(parts)
    for part in parts:
        part.asked.clear()
    data = await whole.read()
    assert whole.size == len(data)
    for part in parts:
        part.asked.clear()
    at = data.index(film[50_000:50_100]) + 10
    assert await whole.read(at, at + 50) == film[50_010:50_060]
    assert [part.asked for part in parts] == [[(50_010, 50_060)], [], []]
    header = boxes.box(data[:16], 0, len(data)).end + (box_at(data, b"moov").end - box_at(data, b"moov").begin)
    assert data[header + 4 : header + 8] == b"mdat"
    assert await whole.read(0, header) == data[:header]
    assert [part.asked for part in parts] == [[(50_010, 50_060)], [], []]


async def test_the_tag_is_made_of_the_tags_of_the_parts(film: bytes, ready: bytes) -> None:
    def tag(*tags: str | None) -> Coroutine[Any, Any, Blob]:
        return joined([counted(data, tag) for data, tag in zip((film, ready), tags, strict=True)])

    assert (await tag("v:a", "v:b")).tag == (await tag("v:a", "v:b")).tag is not None
    assert (await tag("v:a", "v:c")).tag not in (None, (await tag("v:a", "v:b")).tag)
    assert (await tag("v:a", None)).tag is None


# ── how files are laid out ──


def tables(data: bytes) -> movie.Movie:
    """What a file says of its tracks."""
    moov = box_at(data, b"moov")
    return movie.read(memoryview(data)[moov.body : moov.end])


def media(data: bytes) -> list[list[bytes]]:
    """The samples of each track of a file, by its own tables."""
    found = []
    for track in tables(data).tracks:
        samples, sizes = [], iter(track.samples.sizes or [track.samples.each] * track.samples.count)
        for begin, count in zip(track.samples.begins, track.samples.counts, strict=True):
            for size in itertools.islice(sizes, count):
                samples.append(data[begin : begin + size])
                begin += size
        found.append(samples)
    return found


def moved(data: bytes, by: Callable[[int], int]) -> bytes:
    """A file of which every chunk is said to be further on."""
    made, at = bytearray(data), 0
    while (at := data.find(b"stco", at + 1)) > 0:
        (count,) = struct.unpack_from(">I", data, at + 8)
        for place in range(at + 12, at + 12 + 4 * count, 4):
            (offset,) = struct.unpack_from(">I", data, place)
            struct.pack_into(">I", made, place, offset + by(offset))
    return bytes(made)


def with_boxes_between(data: bytes) -> bytes:
    mdat = box_at(data, b"mdat")
    more = boxes.boxed(b"free", bytes(90_000)) + boxes.boxed(b"uuid", bytes(90_000)) + boxes.boxed(b"wide")
    data = moved(data, lambda _: len(more))
    return data[: mdat.begin] + more + data[mdat.begin :] + boxes.boxed(b"free", bytes(20))


def with_a_long_header(data: bytes) -> bytes:
    mdat = box_at(data, b"mdat")
    head = struct.pack(">I4sQ", 1, b"mdat", mdat.end - mdat.body + 16)
    data = moved(data, lambda _: 16 - (mdat.body - mdat.begin))
    return data[: mdat.begin] + head + data[mdat.body :]


def with_media_in_two_boxes(data: bytes) -> bytes:
    mdat = box_at(data, b"mdat")
    chunks = sorted(begin for track in tables(data).tracks for begin in track.samples.begins)
    border = chunks[len(chunks) // 2]
    between = boxes.boxed(b"skip", bytes(70_000))
    first, second = (
        struct.pack(">I4s", 8 + border - mdat.body, b"mdat"),
        struct.pack(">I4s", 8 + mdat.end - border, b"mdat"),
    )
    data = moved(data, lambda offset: 8 - (mdat.body - mdat.begin) + (len(between) + 8 if offset >= border else 0))
    return data[: mdat.begin] + first + data[mdat.body : border] + between + second + data[border:]


def with_media_to_the_end(data: bytes) -> bytes:
    """Without a size: whatever follows is media."""
    mdat, moov = box_at(data, b"mdat"), box_at(data, b"moov")
    data = moved(data, lambda _: moov.end - moov.begin)
    return (
        data[: mdat.begin] + data[moov.begin : moov.end] + struct.pack(">I4s", 0, b"mdat") + data[mdat.body : mdat.end]
    )


LAYOUTS = [with_boxes_between, with_a_long_header, with_media_in_two_boxes, with_media_to_the_end]


@pytest.mark.parametrize("layout", LAYOUTS, ids=[layout.__name__ for layout in LAYOUTS])
async def test_parts_may_be_laid_out_as_the_format_allows(layout: Callable[[bytes], bytes], film: bytes) -> None:
    # some versions of ffmpeg write a `free` box before the media: no header of 16 bytes fits otherwise
    other = layout(film)
    assert media(other) == media(film)
    plain, whole = (
        await (await joined([literal(film), literal(film)])).read(),
        await joined([literal(other), literal(film)]),
    )
    data = await whole.read()
    assert media(data) == media(plain)
    assert len(data) < len(plain) + 100


@dataclass(frozen=True, slots=True, eq=False)
class Padded(Blob):
    """Bytes, and zeros to a size that no test wants to hold."""

    data: bytes

    async def stream(self, start: int, stop: int) -> Pieces:
        while start < stop:
            piece = self.data[start:stop] or bytes(min(1 << 20, stop - start))
            yield piece
            start += len(piece)


async def test_what_is_longer_than_32_bits_say_is_still_found(film: bytes) -> None:
    """Three parts of 3 GiB: the last picture of each is as long as that."""
    moov = box_at(film, b"moov")
    pictures = next(track.samples for track in tables(film).tracks if track.handler == movie.PICTURE)
    last, size = max(zip(pictures.begins, range(len(pictures.begins)), strict=True))[0], 3 << 30
    data = bytearray(with_media_to_the_end(film))
    at = data.index(struct.pack(">I", pictures.sizes[-1]), data.index(b"stsz") + 12 + 4 * (pictures.count - 1))
    struct.pack_into(">I", data, at, size)
    parts = [Padded(last + (moov.end - moov.begin) + size + 100, "v:1", bytes(data)) for _ in range(3)]
    whole = await joined(parts)
    head = await whole.read(0, 65536)
    at = box_at(head, b"moov").end
    mdat = boxes.box(head[at : at + 16], at, whole.size)
    assert whole.size > 9 << 30
    assert b"co64" in head and b"stco" not in head and mdat.body - mdat.begin == 16
    own = next(track.samples for track in tables(head).tracks if track.handler == movie.PICTURE)
    first = own.begins[list(accumulate(own.counts)).index(2 * pictures.count) + 1]
    assert first > 1 << 32
    assert await whole.read(first, first + 1000) == film[pictures.begins[0] :][:1000]


# ── what cannot be joined ──


def _encrypted(folder: Path) -> Path:
    key = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "0" * 32, "-encryption_kid", "1" * 32)
    return copied(made(folder / "plain.mp4"), folder / "encrypted.mp4", *key)


def _turned(folder: Path) -> Path:
    return copied(made(folder / "plain.mp4"), folder / "turned.mp4", "-metadata:s:v", "rotate=90")


REFUSED: list[tuple[str, Callable[[Path], Path], str]] = [
    ("fragmented", lambda f: made(f / "x.mp4", "-movflags", "frag_keyframe+empty_moov"), "fragmented MP4; make it"),
    ("encrypted", _encrypted, "encrypted"),
    ("other pictures", lambda f: made(f / "x.mp4", "-c:v", "mpeg4"), "its pictures: mp4v, and .* avc1; encode"),
    ("other sound", lambda f: made(f / "x.mp4", "-c:a", "libmp3lame"), r"mp4a\.6b, and .* mp4a\.40"),
    ("no sound", lambda f: made(f / "x.mp4", sound=0), "its sound: none"),
    ("no pictures", lambda f: made(f / "x.mp4", picture=0), "its pictures: none"),
    ("other size", lambda f: made(f / "x.mp4", "-vf", "scale=64:48"), "64x48, and the first part's 160x120; encode"),
    ("other rate", lambda f: made(f / "x.mp4", "-ar", "48000"), "48000 Hz, and the first part's 44100 Hz"),
    ("turned", _turned, "turned another way"),
    ("only subtitles", lambda f: _said(f), "pictures"),
]


def _said(folder: Path) -> Path:
    (folder / "said.srt").write_text("1\n00:00:00,100 --> 00:00:00,900\nsaid\n", "utf-8")
    silent("ffmpeg", "-v", "error", "-i", str(folder / "said.srt"), "-c:s", "mov_text", str(folder / "x.mp4"))
    return folder / "x.mp4"


@pytest.mark.parametrize(("make", "said"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_what_cannot_be_joined_is_refused_with_its_name_and_a_remedy(
    make: Callable[[Path], Path], said: str, film: bytes, tmp_path: Path
) -> None:
    parts = [literal(film), literal(make(tmp_path).read_bytes())]
    with pytest.raises(Malformed, match=f"^other.mp4: .*{said}") as raised:
        await joined(parts, names=["film.mp4", "other.mp4"])
    assert "\n" not in str(raised.value)


async def test_no_parts_are_refused() -> None:
    with pytest.raises(Malformed, match="no parts"):
        await joined([])


@pytest.mark.parametrize("data", [b"", b"short", b"no MP4 at all, but longer than a header", bytes(100_000)], ids=len)
async def test_what_is_no_mp4_is_damaged(data: bytes, film: bytes) -> None:
    with pytest.raises(Damaged, match=r"^part 2: "):
        await joined([literal(film), literal(data)])


async def test_the_first_failure_ends_the_reading_of_the_other_parts(film: bytes) -> None:
    class Silent(Counted):
        async def stream(self, start: int, stop: int) -> Pieces:
            await asyncio.Event().wait()
            yield b""

    async with asyncio.timeout(5):
        with pytest.raises(Damaged, match="part 2"):
            await joined([Silent(len(film), None, film), literal(film[:1000])])
    assert asyncio.all_tasks() == {asyncio.current_task()}


# ── runs ──

RUNS = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 9)), max_size=8)


def spelt(runs: Runs) -> list[int]:
    return [value for count, value in runs for _ in range(count)]


@given(RUNS, st.integers(0, 45), st.integers(0, 45), st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=150, deadline=None)
def test_runs_are_the_numbers_that_they_stand_for(
    rows: list[tuple[int, int]], first: int, stop: int, times: int, over: int
) -> None:
    runs, numbers = Runs(), [value for count, value in rows for _ in range(count)]
    for count, value in rows:
        runs.add(count, value)
    assert spelt(runs) == numbers
    assert (len(runs), runs.total()) == (len(numbers), sum(numbers))
    first, stop = min(first, len(numbers)), min(stop, len(numbers))
    assert spelt(runs.part(first, stop)) == numbers[first:stop]
    assert runs.before(first) == sum(begin < first for begin in list(accumulate(numbers, initial=0))[:-1])
    ends = list(accumulate(spelt(runs.scaled(times, over))))
    assert all(abs(end - exact * times / over) <= 1 for end, exact in zip(ends, accumulate(numbers), strict=True))
    twice = runs.part(0, len(numbers))
    twice.extend(runs)
    assert spelt(twice) == numbers * 2


# ── hostile files ──


async def test_no_beginning_of_a_part_passes_for_the_whole_of_it(film: bytes, ready: bytes) -> None:
    chance = Random(1)
    ends = [(data, chance.randrange(len(data))) for data in (film, ready) for _ in range(60)]
    mdat, moov = box_at(ready, b"mdat"), box_at(film, b"moov")
    ends += [(ready, mdat.body), (ready, mdat.end - 1), (film, moov.begin), (film, len(film) - 1)]
    for data, end in ends:
        with pytest.raises(Damaged):
            await joined([literal(data[:end]), literal(film)])


ODD = [bytes(1), b"\1", b"\xff", bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0", bytes(8)]


def damaged(data: bytes, moov: boxes.Box, chance: Random) -> bytes:
    """A file with some bytes of its moov made others, such as tables have."""
    made = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 5, 30])):
        at = chance.randrange(moov.begin, moov.end)
        odd = chance.choice(ODD)
        made[at : at + len(odd)] = odd if chance.random() < 0.7 else chance.randbytes(len(odd))
    return bytes(made[: len(data)])


@pytest.mark.parametrize("rounds", [100, pytest.param(5_000, marks=pytest.mark.torture)])
async def test_a_damaged_part_costs_neither_time_nor_memory(rounds: int, tmp_path: Path) -> None:
    part = cut_from_one(tmp_path)[1].read_bytes()
    moov, chance, refused = box_at(part, b"moov"), Random(2), 0
    tracemalloc.start()
    try:
        for _ in range(rounds):
            parts = [literal(part), literal(damaged(part, moov, chance)), literal(part)]
            chance.shuffle(parts)
            try:
                async with asyncio.timeout(10):
                    whole = await joined(parts)
            except (Malformed, Damaged) as failure:
                assert "\n" not in str(failure)
                refused += 1
            else:
                assert len(await whole.read()) == whole.size
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()
    assert rounds // 10 < refused < rounds


def table(kind: bytes, count: int, *rows: int, head: tuple[int, ...] = ()) -> bytes:
    return boxes.full(kind, 0, 0, struct.pack(f">{len(head)}I", *head), struct.pack(f">{1 + len(rows)}I", count, *rows))


HUGE = [
    ("samples of one size", b"stsz", table(b"stsz", 0xFFFFFFFF, head=(1,))),
    ("sizes that are not there", b"stsz", table(b"stsz", 0xFFFFFFFF, head=(0,))),
    ("times that are not there", b"stts", table(b"stts", 0xFFFFFFFF)),
    ("times beyond all", b"stts", table(b"stts", 2, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF)),
    ("chunks of everything", b"stsc", table(b"stsc", 1, 1, 0xFFFFFFFF, 1)),
    ("chunks that come late", b"stsc", table(b"stsc", 1, 0x7FFFFFFF, 1, 1)),
    ("places that are not there", b"stco", table(b"stco", 0xFFFFFFFF)),
    ("edits without end", b"elst", table(b"elst", 0xFFFFFFFF)),
    ("a compact table", b"stsz", boxes.full(b"stz2", 0, 0, struct.pack(">II", 7, 0xFFFFFFFF))),
]


@pytest.mark.parametrize(("kind", "instead"), [row[1:] for row in HUGE], ids=[row[0] for row in HUGE])
async def test_tables_that_say_too_much_are_refused_at_once(kind: bytes, instead: bytes, film: bytes) -> None:
    moov = box_at(film, b"moov")
    data = film[: moov.begin] + replaced(film[moov.begin : moov.end], kind, instead) + film[moov.end :]
    tracemalloc.start()
    try:
        with pytest.raises((Malformed, Damaged)):
            await joined([literal(film), literal(data)])
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


INSIDE = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts"}


def replaced(data: bytes, kind: bytes, instead: bytes) -> bytes:
    """A box, in which each box of a kind, however deep, is another."""
    found = boxes.box(data[:16], 0, len(data))
    if found.kind == kind:
        return instead
    if found.kind not in INSIDE:
        return data
    inner = boxes.children(memoryview(data)[8:])
    return boxes.boxed(found.kind, *(replaced(boxes.boxed(name, body), kind, instead) for name, body in inner))


async def test_a_moov_that_is_too_long_is_not_read() -> None:
    part = Padded(1 << 33, None, struct.pack(">I4sQ", 1, b"moov", 1 << 33))
    with pytest.raises(Malformed, match="64 MiB"):
        await joined([part])


async def test_boxes_without_end_are_not_followed() -> None:
    with pytest.raises(Damaged, match="no moov"):
        await joined([literal(boxes.boxed(b"free") * 20_000)])
