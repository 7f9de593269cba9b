"""Numbered parts: their names, their order, and how what they are decides how they become one file."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from playhead import Blob, Damaged, Malformed, literal
from playhead.transforms import mp3
from playhead.transforms.parts import MOST, expanded, ordered, whole
from tests.films import made, probed, seen, silent
from tests.laws import check_blob

FFMPEG = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="not installed: ffmpeg")


# ── names ──


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("ep[1-3].mp4", ["ep1.mp4", "ep2.mp4", "ep3.mp4"]),
        ("ep[08-11].mp4", ["ep08.mp4", "ep09.mp4", "ep10.mp4", "ep11.mp4"]),
        ("ep[8-11]", ["ep8", "ep9", "ep10", "ep11"]),
        ("ep[098-101]", ["ep098", "ep099", "ep100", "ep101"]),
        ("[0-1]", ["0", "1"]),
        ("x[7-7]y", ["x7y"]),
        ("s[1-2]/e[01-02].ts", ["s1/e01.ts", "s1/e02.ts", "s2/e01.ts", "s2/e02.ts"]),
        ("http://[::1]:80/ep[1-2]?t=[3]", ["http://[::1]:80/ep1?t=[3]", "http://[::1]:80/ep2?t=[3]"]),
        ("plain.mp4", ["plain.mp4"]),
        ("[a-b] [1-] [-2] [1-2-3] {1,2} *.mp4", ["[a-b] [1-] [-2] [1-2-3] {1,2} *.mp4"]),
        ("별[1-2]", ["별1", "별2"]),
        ("", [""]),
    ],
)
def test_a_range_stands_for_each_of_its_numbers(pattern: str, names: list[str]) -> None:
    assert expanded(pattern) == names


@pytest.mark.parametrize("pattern", ["[1-10001]", "[1-200][1-200]", "[0-999999999]", "[0-1]" * 500])
def test_a_pattern_stands_for_no_more_names_than_anyone_has_parts(pattern: str) -> None:
    with pytest.raises(Malformed, match="10,000 names"):
        expanded(pattern)
    assert len(expanded("[1-10000]")) == MOST


def test_a_range_goes_up() -> None:
    with pytest.raises(Malformed, match=r"write \[1-12\]"):
        expanded("ep[12-1].mp4")


@pytest.mark.parametrize(
    "names",
    [
        ["ep9.mp4", "ep10.mp4", "ep11.mp4"],
        ["ep09.mp4", "ep10.mp4"],
        ["s1e1", "s1e2", "s2e1", "s2e2", "s3e1"],
        ["1 of 3.mp4", "2 of 3.mp4", "3 of 3.mp4"],
        ["part 1 (720p)", "part 2 (1080p)", "part 3 (480p)"],
        ["x.aa", "x.ab", "x.ac"],
        ["film.z.ay", "film.z.az", "film.z.ba"],
        ["film.001", "film.002", "film.003"],
        ["7.ts", "8.ts"],
        ["alone.mp4"],
        [],
    ],
)
def test_names_are_put_in_the_order_in_which_people_count(names: list[str]) -> None:
    if "film.z.ay" in names:
        names = [f"film.z.{one}{other}" for one, other in itertools.product("ab", "abcdefghijklmnopqrstuvwxyz")][:28]
    for order in itertools.islice(itertools.permutations(names), 24):
        assert ordered(order) == names


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["ep1.mp4", "ep2.mp4", "ep4.mp4"], "'ep3.mp4' is missing between 'ep2.mp4' and 'ep4.mp4'"),
        (["ep12", "ep09", "ep10"], "'ep11' is missing between 'ep10' and 'ep12'"),
        (["ep08", "ep10"], "'ep09' is missing"),
        (["s1e1", "s1e2", "s1e4", "s2e1"], "'s1e3' is missing"),
        (["s1e1", "s1e2", "s3e1", "s3e2"], "'s2e2' is missing"),
        (["x.aa", "x.ac"], "'x.ab' is missing"),
        (["ep1", "ep999999999999999999"], "'ep2' is missing"),
        (["ep1.mp4", "ep01.mp4"], "'ep1.mp4' and 'ep01.mp4' have the same number"),
        (["ep1.mp4", "ep2.mp4", "ep2.mp4"], "'ep2.mp4' and 'ep2.mp4' have the same number"),
        (["one.mp4", "two.mp4"], "'one.mp4' and 'two.mp4' are not numbered alike; give the parts as a list"),
        (["a1", "b2"], "not numbered alike"),
        (["a1", "a2b3"], "not numbered alike"),
        (["a", "a"], "not numbered alike"),
    ],
)
def test_a_gap_or_a_number_that_two_have_is_refused(names: list[str], said: str) -> None:
    with pytest.raises(Malformed) as raised:
        ordered(names)
    assert said in str(raised.value)


# ── parts ──


def packets(size: int, count: int, first: int = 0) -> bytes:
    """Packets of MPEG-TS that hold nothing, of 188, 192 or 204 bytes."""
    return (bytes(4 if size == 192 else 0) + b"\x47\x1f\xff\x10").ljust(size, b"\xff") * count


async def test_one_part_is_itself() -> None:
    part = literal(b"whatever it is")
    assert await whole([("x.mp4", part)]) is part


@pytest.mark.parametrize("size", [188, 192, 204])
async def test_transport_streams_go_on_as_bytes(size: int) -> None:
    parts = [packets(size, count) for count in (1000, 2, 7)]
    joined = await whole([(f"{n}.ts", literal(part)) for n, part in enumerate(parts)])
    await check_blob(joined, b"".join(parts))
    assert joined.tag == (await whole([("other", literal(part)) for part in parts])).tag


@pytest.mark.parametrize(
    "names",
    [["f.001", "f.002", "f.003"], ["f.part1", "f.part2", "f.part3"], ["f.aa", "f.ab", "f.ac"], ["xaa", "xab", "xac"]],
)
@pytest.mark.parametrize("begins", [b"PK\3\4", b"\0\0\0\x20ftypisom", packets(188, 5), b"7z\xbc\xaf"], ids=bytes.hex)
async def test_pieces_of_a_file_are_put_together_again(names: list[str], begins: bytes) -> None:
    data = begins.ljust(3000, b"\x12")
    parts = [literal(data[at : at + 1000]) for at in range(0, 3000, 1000)]
    await check_blob(await whole(list(zip(names, parts, strict=True))), data)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([("1.webm", b"\x1aE\xdf\xa3"), ("2.webm", b"\x1aE\xdf\xa3")], "'1.webm' is of no kind"),
        ([("1.ts", packets(188, 9)), ("2.ts", b"<html>not found</html>")], "'1.ts' is MPEG-TS, '2.ts' is of no kind"),
        ([("1.ts", packets(188, 9)), ("2.mp4", b"\0\0\0\x20ftypisom")], "'1.ts' is MPEG-TS, '2.mp4' is MP4"),
        ([("a.part1.rar", b"Rar!\x1a\7\0"), ("a.part2.rar", b"Rar!\x1a\7\0")], "unrar"),
        ([("a.part1", b"Rar!\x1a\7\0"), ("a.part2", b"Rar!\x1a\7\0")], "unrar"),
        ([("1.txt", b""), ("2.txt", b"")], "of no kind"),
        ([], "no parts"),
    ],
)
async def test_what_nothing_would_play_is_refused_with_a_remedy(parts: list[tuple[str, bytes]], said: str) -> None:
    with pytest.raises(Malformed) as raised:
        await whole([(name, literal(data)) for name, data in parts])
    assert said in str(raised.value)
    assert not parts or " with " in str(raised.value)
    assert "\n" not in str(raised.value)


async def test_a_name_cannot_break_the_line_that_tells_of_it() -> None:
    with pytest.raises(Malformed) as raised:
        await whole([("a\n\x1b[2J.mp4", literal(b"x" * 99)), ("b", literal(b"y" * 99))])
    assert raised.value.args[0].isprintable()


async def test_more_parts_than_anyone_has_are_refused() -> None:
    part = literal(packets(188, 2))
    with pytest.raises(Malformed, match="10,000 parts"):
        await whole([(f"{n}.ts", part) for n in range(MOST + 1)])


@FFMPEG
async def test_mp4_parts_become_one_mp4_whatever_they_are_called(tmp_path: Path) -> None:
    parts = [made(tmp_path / f"{n}.mp4").read_bytes() for n in range(2)]
    for names in (["1.mp4", "2.mp4"], ["f.001", "f.002"]):
        joined = await whole([(name, literal(part)) for name, part in zip(names, parts, strict=True)])
        (tmp_path / "whole.mp4").write_bytes(await joined.read())
        assert float(probed(tmp_path / "whole.mp4")["format"]["duration"]) == pytest.approx(2.4, abs=0.002)
    with pytest.raises(Damaged, match=r"^2\.mp4: "):
        await whole([("1.mp4", literal(parts[0])), ("2.mp4", literal(parts[1][:-1]))])


@FFMPEG
async def test_a_joined_transport_stream_shows_every_picture(tmp_path: Path) -> None:
    parts = [made(tmp_path / f"{n}.ts", "-bf", "0", sound=0) for n in range(3)]
    joined = await whole([(part.name, literal(part.read_bytes())) for part in parts])
    (tmp_path / "whole.ts").write_bytes(await joined.read())
    assert len(seen(tmp_path / "whole.ts").frames) == sum(len(seen(part).frames) for part in parts)


# ── MP3 ──


def mp3s(folder: Path, *options: str, count: int = 3) -> list[Path]:
    return [
        made(folder / f"{n}.mp3", *options, "-metadata", f"title={n}", picture=0, sound=0.9 + n / 3)
        for n in range(count)
    ]


def length(path: Path) -> float:
    return float(probed(path)["format"]["duration"])


def decoded(path: Path) -> int:
    """How many samples there are in a file, by decoding all of them."""
    return len(silent("ffmpeg", "-v", "error", "-i", str(path), "-f", "s16le", "-ac", "1", "-")) // 2


OPTIONS = [("-c:a", "libmp3lame", "-q:a", "5"), ("-c:a", "libmp3lame", "-b:a", "64k", "-ar", "22050"),
           ("-c:a", "libmp3lame", "-b:a", "128k", "-id3v2_version", "0", "-ac", "2")]  # fmt: skip


@FFMPEG
@pytest.mark.parametrize("options", OPTIONS, ids=["of varying rate", "of MPEG 2", "without tags"])
async def test_joined_mp3_says_how_long_all_of_it_is(options: tuple[str, ...], tmp_path: Path) -> None:
    parts = mp3s(tmp_path, *options)
    joined = await whole([(part.name, literal(part.read_bytes())) for part in parts])
    path = tmp_path / "whole.mp3"
    path.write_bytes(await joined.read())
    await check_blob(joined, path.read_bytes())
    rate = 22050 if "22050" in options else 44100
    frames = 576 if rate == 22050 else 1152
    said, there = length(path), decoded(path) / rate
    assert said == pytest.approx(sum(map(length, parts)), abs=0.001)
    assert said == pytest.approx(there, abs=3 * frames / rate)
    assert path.read_bytes().count(b"Xing") + path.read_bytes().count(b"Info") == 1
    assert path.read_bytes().count(b"ID3") == (0 if "0" in options else 1)


@FFMPEG
async def test_a_place_in_joined_mp3_is_found_by_its_table(tmp_path: Path) -> None:
    """The parts have different rates, so that the middle of the bytes is not the middle of the time."""
    made(tmp_path / "1.mp3", "-c:a", "libmp3lame", "-b:a", "32k", picture=0, sound=4)
    made(tmp_path / "2.mp3", "-c:a", "libmp3lame", "-b:a", "320k", picture=0, sound=4)
    parts = [literal((tmp_path / name).read_bytes()) for name in ("1.mp3", "2.mp3")]
    data = await (await whole([("1.mp3", parts[0]), ("2.mp3", parts[1])])).read()
    found = await mp3.found(literal(data), b"")
    assert found
    assert found.places[50] / 256 == pytest.approx(parts[0].size / len(data), abs=0.03)
    assert list(found.places) == sorted(found.places)


@FFMPEG
async def test_tags_are_read_past_however_long_they_are(tmp_path: Path) -> None:
    part = mp3s(tmp_path, *OPTIONS[0], count=1)[0].read_bytes()
    picture = b"ID3\4\0\0\0\x0c\0\0" + bytes(12 << 14)  # 192 KiB
    plain = await whole([("1", literal(part)), ("2", literal(part))])
    tagged = await whole([("1", literal(part)), ("2", literal(picture + part))])
    assert await tagged.read() == await plain.read()


@FFMPEG
async def test_parts_that_do_not_all_say_how_long_they_are_are_joined_without_saying_it(tmp_path: Path) -> None:
    said, silent_ = mp3s(tmp_path, *OPTIONS[0], count=1)[0], tmp_path / "x.mp3"
    made(silent_, *OPTIONS[0], "-write_xing", "0", picture=0, sound=1)
    data = await (await whole([("1", literal(said.read_bytes())), ("2", literal(silent_.read_bytes()))])).read()
    assert b"Xing" not in data and b"Info" not in data
    (tmp_path / "whole.mp3").write_bytes(data)
    assert decoded(tmp_path / "whole.mp3") > 44100 * 1.9


NO_MP3: list[tuple[str, Callable[[], Blob]]] = [
    ("only a tag", lambda: literal(b"ID3\4\0\0\0\0\0\0")),
    ("a tag that goes on beyond the end", lambda: literal(b"ID3\4\0\0\x7f\x7f\x7f\x7f" + bytes(99))),
    ("tags without end", lambda: literal(b"ID3\4\0\0\0\0\0\0" * 9000)),
    ("a frame alone by chance", lambda: literal(b"\xff\xfb\x90\x64" + b"text" * 9000)),
    ("a frame of a rate that is none", lambda: literal(b"\xff\xfb\xfc\x64" + bytes(9000))),
]


@pytest.mark.parametrize("data", [row[1]() for row in NO_MP3], ids=[row[0] for row in NO_MP3])
async def test_what_only_looks_like_mp3_is_none(data: Blob) -> None:
    assert await mp3.found(data, await data.read(0, 65536)) is None
