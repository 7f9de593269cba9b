"""HLS playlists: what they stand for, and what is refused rather than joined wrongly."""

import random

import pytest

from playhead.errors import Damaged, Failure, Malformed
from playhead.transforms import hls
from playhead.transforms.hls import Fragment

BASE = "https://site.example/films/one/index.m3u8?key=1"
HERE = "https://site.example/films/one/"
VOD = """#EXTM3U
#EXT-X-VERSION:7
#EXT-X-TARGETDURATION:6
#EXT-X-MEDIA-SEQUENCE:0
#EXTINF:6.0,
a.ts
#EXTINF:6.0,
b.ts
#EXT-X-ENDLIST
"""
MP4 = '#EXTM3U\n#EXT-X-MAP:URI="init.mp4"\n#EXTINF:6,\na.m4s\n#EXTINF:6,\nb.m4s\n#EXT-X-ENDLIST\n'


def urls(text: str, base: str = BASE) -> list[str]:
    return [fragment.url for fragment in hls.stream(text, base).fragments]


def test_fragments_are_given_in_order_with_their_whole_addresses() -> None:
    lines = ["a.ts", "/b.ts?x=1", "../c%20d.ts", "//cdn.example/e.ts", "http://other.example/f.ts", "한.ts"]
    text = "#EXTM3U\n" + "".join(f"#EXTINF:6,\n{line}\n" for line in lines) + "#EXT-X-ENDLIST\n"
    assert urls(text) == [
        f"{HERE}a.ts",
        "https://site.example/b.ts?x=1",
        "https://site.example/films/c%20d.ts",
        "https://cdn.example/e.ts",
        "http://other.example/f.ts",
        f"{HERE}한.ts",
    ]
    assert hls.stream(text, BASE).extension == "ts"


@pytest.mark.parametrize(
    "text", [VOD.replace("\n", "\r\n"), "\ufeff" + VOD, VOD.replace("\n", "\n\n"), VOD + "\n# x\n"]
)
def test_how_lines_end_and_what_is_no_tag_do_not_matter(text: str) -> None:
    assert urls(text) == [f"{HERE}a.ts", f"{HERE}b.ts"]


@pytest.mark.parametrize(
    ("line", "extension"),
    [("a.ts", "ts"), ("a", "ts"), ("a.jpg?b.mp4", "ts"), ("a.AAC", "aac"), ("a.mp3", "mp3"), ("whole.mp4", "mp4")],
)
def test_the_first_fragment_says_what_they_are(line: str, extension: str) -> None:
    assert hls.stream(f"#EXTM3U\n#EXTINF:6,\n{line}\n#EXT-X-ENDLIST", BASE).extension == extension


def test_an_initialisation_comes_before_what_it_is_for_and_only_once() -> None:
    stream = hls.stream(MP4.replace("b.m4s", '#EXT-X-MAP:URI="init.mp4"\nb.m4s'), BASE)
    assert [each.url for each in stream.fragments] == [f"{HERE}init.mp4", f"{HERE}a.m4s", f"{HERE}b.m4s"]
    assert stream.extension == "mp4"


def test_ranges_go_on_where_the_last_one_ended_and_are_given_as_one() -> None:
    text = """#EXTM3U
#EXT-X-PLAYLIST-TYPE:VOD
#EXT-X-MAP:URI="f.mp4",BYTERANGE="100"
#EXT-X-BYTERANGE:50@100
f.mp4
#EXT-X-BYTERANGE:70
f.mp4
#EXT-X-BYTERANGE:30@500
f.mp4
#EXT-X-BYTERANGE:8@0
g.mp4
h.mp4
"""
    f, g, h = (f"{HERE}{name}.mp4" for name in "fgh")
    assert hls.stream(text, BASE).fragments == (
        Fragment(f, (0, 220)),
        Fragment(f, (500, 530)),
        Fragment(g, (0, 8)),
        Fragment(h),
    )


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("", Damaged, "is none"),
        ("<html>not found</html>", Damaged, "is none"),
        (VOD.replace("#EXT-X-ENDLIST\n", ""), Malformed, "live"),
        ("#EXTM3U\n#EXT-X-ENDLIST\n", Damaged, "empty"),
        (VOD.replace("a.ts", '#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0x1\na.ts'), Malformed, "encrypted"),
        (VOD.replace("b.ts", '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://k"\nb.ts'), Malformed, "encrypted"),
        (VOD.replace("b.ts", "#EXT-X-KEY:\nb.ts"), Malformed, "encrypted"),
        (VOD.replace("b.ts", "#EXT-X-GAP\nb.ts"), Malformed, "hole"),
        (VOD.replace("a.ts", '#EXT-X-DEFINE:NAME="x",VALUE="y"\n{$x}.ts'), Malformed, "variables"),
        (VOD.replace("a.ts", "#EXT-X-I-FRAMES-ONLY\na.ts"), Malformed, "pictures"),
        ("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n", Malformed, "list of playlists"),
        (MP4.replace("b.m4s", '#EXT-X-MAP:URI="other.mp4"\nb.m4s'), Malformed, "changes its encoding"),
        (VOD.replace("b.ts", '#EXT-X-MAP:URI="init.mp4"\nb.ts'), Malformed, "changes its encoding"),
        (MP4.replace("b.m4s", "#EXT-X-DISCONTINUITY\nb.m4s"), Malformed, "begin anew"),
        (MP4.replace('#EXT-X-MAP:URI="init.mp4"\n', ""), Malformed, "without its initialisation"),
        (MP4.replace('URI="init.mp4"', ""), Damaged, "address"),
        (VOD.replace("a.ts", "file:///etc/passwd"), Malformed, "not of http"),
        (VOD.replace("a.ts", "data:text/plain,x"), Malformed, "not of http"),
        (VOD.replace("a.ts", "http://[::1/x"), Damaged, "address"),
        (VOD.replace("a.ts", "a\x00.ts"), Damaged, "address"),
        (VOD.replace("a.ts", "a" * 9000), Damaged, "address"),
        (VOD.replace("a.ts", "#EXT-X-BYTERANGE:5\na.ts"), Damaged, "where a range of bytes begins"),
        (
            VOD.replace("a.ts", "#EXT-X-BYTERANGE:5@0\na.ts\n#EXT-X-BYTERANGE:5"),
            Damaged,
            "where a range of bytes begins",
        ),
        (VOD.replace("a.ts", "#EXT-X-BYTERANGE:x@y\na.ts"), Damaged, "'x@y'"),
        (VOD.replace("a.ts", "#EXT-X-BYTERANGE:-5@3\na.ts"), Damaged, "'-5@3'"),
        (VOD.replace("a.ts", f"#EXT-X-BYTERANGE:{'9' * 30}@0\na.ts"), Damaged, "range of bytes"),
        (VOD.replace("a.ts", "#EXT-X-BYTERANGE:0@0\na.ts"), Damaged, "empty range"),
    ],
)
def test_what_is_not_one_stream_of_bytes_is_refused(text: str, kind: type[Failure], says: str) -> None:
    with pytest.raises(kind, match=says):
        hls.stream(text, BASE)


def test_times_of_mpeg_ts_may_begin_anew() -> None:
    assert urls(VOD.replace("b.ts", "#EXT-X-DISCONTINUITY\nb.ts")) == [f"{HERE}a.ts", f"{HERE}b.ts"]


def test_a_playlist_without_end_is_refused_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hls, "MOST", 100)
    lines = "a.ts\n" * 100
    assert len(urls(f"#EXTM3U\n{lines}#EXT-X-ENDLIST")) == 100
    with pytest.raises(Malformed, match="more than 100"):
        hls.stream(f"#EXTM3U\n{lines}a.ts\n#EXT-X-ENDLIST", BASE)


def test_garbage_gives_fragments_or_a_failure_and_nothing_else() -> None:
    chance = random.Random(1)
    words = [
        *MP4.split("\n"),
        *VOD.split("\n"),
        "#EXT-X-BYTERANGE:1@2",
        '#EXT-X-MAP:URI="',
        "\x00",
        "http://",
        '"',
        "=,",
    ]
    for _ in range(2000):
        text = "#EXTM3U\n" + "\n".join(chance.choices(words, k=chance.randrange(12)))
        cut = chance.randrange(len(text) + 1)
        try:
            stream = hls.stream(text[:cut] + chance.choice(["", "\n", ":", "@"]) + text[cut:], BASE)
        except Failure:
            continue
        assert all(each.url.startswith(("http://", "https://")) for each in stream.fragments)
