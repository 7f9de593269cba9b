"""Playlists of others are read, ours are read back by others, and no place leads out of the tree."""

import shutil
import subprocess
import wave
import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import unquote, urljoin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playhead.catalogue import playlists
from playhead.catalogue.playlists import Item, Playlist, m3u8, read, readings, resolve, xspf
from playhead.errors import Malformed

M3U = """\ufeff#EXTM3U\r
#PLAYLIST:Evening, all\r
#EXTINF:123 tvg-id="a,b" group-title="x",Band - Song, one - live\r
#EXTALB:Album\r
Band/Song.mp3\r
\r
# a comment
#EXTINF:-1,Only a title
#EXTART:
./#1 & 50% of what?.mp3
#EXTINF:61.6,A-ha - B - C
#EXTART:A-ha - B
C:\\Music\\c.flac
http://example.com/a%20b?c=d&e=f#g
file:///home/me/%EB%B3%84.mp3
../up/별.ogg
"""

XSPF = """<?xml version="1.0" encoding="UTF-8"?>
<playlist version="1" xmlns="http://xspf.org/ns/0/" xmlns:vlc="http://www.videolan.org/vlc/playlist/ns/0/">
<title>A &amp; B</title><trackList>
<track><location>Band/%EB%B3%84%20%23%3F%25.mp3</location><creator>Band</creator><title>별</title><album>X</album>
<duration>61600</duration><extension application="x"><vlc:id>0</vlc:id></extension></track>
<track><location>http://example.com/a%20b</location><duration>soon</duration></track>
<track><title>lost</title></track><track><location>a%2Fb.mp3</location></track></trackList></playlist>"""

PLS = """[playlist]
NumberOfEntries=2
File2=http://example.com/b
file1 = a b.mp3
TITLE1=Band - One
Length1=60
Length2=-1
"""


def test_m3u_is_read_with_all_that_it_tells() -> None:
    assert read(M3U.encode(), "a.m3u8") == Playlist(
        "Evening, all",
        (
            Item("Band/Song.mp3", "Song, one - live", "Band", "Album", 123),
            Item("#1 & 50% of what?.mp3", "Only a title"),
            Item("C:\\Music\\c.flac", "C", "A-ha - B", "", 62),
            Item("http://example.com/a%20b?c=d&e=f#g"),
            Item("file:///home/me/%EB%B3%84.mp3"),
            Item("../up/별.ogg"),
        ),
    )


def test_blanks_between_artist_and_title_belong_to_neither() -> None:
    assert read(b"#EXTINF:1,A  -  B\nx").entries == (Item("x", "B", "A", "", 1),)


def test_xspf_is_read_and_its_places_are_paths() -> None:
    assert read(XSPF.encode(), "a.xspf") == Playlist(
        "A & B",
        (
            Item("Band/별 #?%.mp3", "별", "Band", "X", 62),
            Item("http://example.com/a%20b"),
            Item("", "lost"),
            Item("a%2Fb.mp3"),
        ),
    )


def test_pls_is_read_in_the_order_of_its_numbers() -> None:
    assert read(PLS.encode(), "a.pls").entries == (
        Item("a b.mp3", "One", "Band", "", 60),
        Item("http://example.com/b"),
    )
    assert read(PLS.encode(), "unnamed") == read(PLS.encode(), "a.pls")


@pytest.mark.parametrize("codec", ["cp949", "utf-16", "utf-8"])
def test_any_charset_is_read(codec: str) -> None:
    path = "가요/별이 빛나는 밤에.mp3"
    assert read(f"#EXTM3U\n#EXTINF:1,가수 - 별이 빛나는 밤\n{path}\n".encode(codec), "a.m3u").entries == (
        Item(path, "별이 빛나는 밤", "가수", "", 1),
    )
    track = "<playlist><trackList><track><title>Été</title></track></trackList></playlist>"
    assert read(f'<?xml version="1.0" encoding="ISO-8859-1"?>{track}'.encode("latin-1")).entries[0].title == "Été"


@pytest.mark.parametrize(
    ("location", "folder", "found"),
    [
        ("a.mp3", "", "a.mp3"),
        ("a.mp3", "x/y", "x/y/a.mp3"),
        ("./b/./a.mp3", "x", "x/b/a.mp3"),
        ("../a.mp3", "x/y", "x/a.mp3"),
        ("../../a.mp3", "x", None),
        ("a/../../../b", "x", None),
        ("/a//b.mp3", "x", "a/b.mp3"),
        ("/../etc/passwd", "", None),
        ("b\\c.mp3", "x", "x/b/c.mp3"),
        ("..\\..\\c.mp3", "x", None),
        ("C:\\Music\\c.mp3", "x", "Music/c.mp3"),
        ("c:/Music/c.mp3", "x", "Music/c.mp3"),
        ("\\\\host\\share\\c.mp3", "x", "host/share/c.mp3"),
        ("file:///a%20b/%EB%B3%84.mp3", "x", "a b/별.mp3"),
        ("FILE://localhost/a.mp3", "x", "a.mp3"),
        ("file:///C:/Music/c.mp3", "x", "Music/c.mp3"),
        ("file:///a/%2e%2e/%2e%2e/b", "x", None),
        ("file:///..%2f..%2fb", "", "..%2f..%2fb"),
        ("file://other/a.mp3", "x", None),
        ("https://example.com/../a?b", "x", "https://example.com/../a?b"),
        ("", "x", None),
        (".", "", None),
        ("..", "x", None),
        ("a/", "x", None),
        ("a/.", "x", None),
        ("a/..\\b", "x", "x/b"),
        ("a\0b", "x", None),
        ("100%.mp3", "", "100%.mp3"),
    ],
)
def test_a_place_is_a_path_in_the_tree_a_url_or_nothing(location: str, folder: str, found: str | None) -> None:
    assert resolve(location, folder) == found


def test_a_place_that_can_mean_several_things_gives_all_of_them() -> None:
    assert readings("a%20b.mp3", "x") == ("x/a%20b.mp3", "x/a b.mp3")
    assert readings("a\\b.mp3") == ("a/b.mp3", "a\\b.mp3")
    assert readings("x/a\\b.mp3") == ("x/a\\b.mp3", "x/a/b.mp3")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(
        st.sampled_from(["..", ".", "a", "/", "\\", "%2e", "%2F", "%5c", "file://", "C:", "\0", "%00"]), max_size=9
    )
)
def test_no_place_leads_out_of_the_tree(parts: list[str]) -> None:
    for found in readings("".join(parts), "x/y"):
        assert not {"", ".", ".."} & set(found.split("/")) and "\0" not in found
        assert ".." not in found.replace("\\", "/").split("/")


TEXT = st.text(st.sampled_from("ab -,\"'#?%&<>[]:=\\/별é\n\r\t\x85\u2028\x01"), max_size=12)
NAME = st.text(st.sampled_from("ab -,\"'#?%&<>[]:=+~별é\u2028"), min_size=1, max_size=8).filter(
    lambda name: name == name.strip(" ") and name not in (".", "..")
)
PATH = st.lists(NAME, min_size=1, max_size=3).map("/".join)
PLACE = st.one_of(PATH, PATH.map("/{}".format), PATH.map("../{}".format), st.just("http://h/a%20b?c=d&e=f#g"))
ITEM = st.builds(Item, PLACE, TEXT, TEXT, TEXT, st.one_of(st.none(), st.integers(1, 99_999)))
LIST = st.builds(Playlist, TEXT, st.lists(ITEM, max_size=4).map(tuple))


def flat(text: str) -> str:
    """A text as one line, without controls."""
    for broken in ("\r\n", *"\r\n\t\x85\u2028"):
        text = text.replace(broken, " ")
    return text.replace("\x01", "").strip()


def expected(item: Item) -> Item:
    return Item(item.location, flat(item.title), flat(item.artist), flat(item.album), item.duration_s)


def same(found: Playlist, given: Playlist) -> None:
    assert found == Playlist(flat(given.title), tuple(map(expected, given.entries)))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(LIST)
def test_what_is_written_is_read_back(given: Playlist) -> None:
    same(read(m3u8(given), "a.m3u8"), given)
    same(read(xspf(given), "a.xspf"), given)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(LIST)
def test_the_simplest_readers_find_the_same_places(given: Playlist) -> None:
    places = [item.location for item in given.entries]
    lines = m3u8(given).decode("utf-8").split("\n")
    assert [line.removeprefix("./") for line in lines if line and not line.startswith("#")] == places
    space = {"x": "http://xspf.org/ns/0/"}
    found = [one.text or "" for one in ET.fromstring(xspf(given)).iterfind(".//x:track/x:location", space)]
    base = "http://t/x/y/"
    for reference, place in zip(found, places, strict=True):
        if not place.startswith("http://"):
            assert not set(reference) & set("?#&<> ") and reference.isascii()
            assert unquote(urljoin(base, reference)) == base + place if place[:1] not in "./" else True
        assert unquote(reference) == unquote(place) if "http://" in place else unquote(reference) == place


def test_what_a_predecessor_wrote_wrong_is_right() -> None:
    """System 0 wrote "&" as "%29", and neither "#", "?", "%" nor Korean letters encoded."""
    given = Playlist("", (Item("AC&DC/#1 50%? 별.mp3", "A & B <C>\nD"),))
    written = xspf(given).decode()
    assert "<location>AC%26DC/%231%2050%25%3F%20%EB%B3%84.mp3</location>" in written
    assert "<title>A &amp; B &lt;C&gt; D</title>" in written
    assert "#EXTINF:-1,A & B <C> D\nAC&DC/#1 50%? 별.mp3\n" in m3u8(given).decode()


def test_names_in_no_charset_keep_their_bytes_in_xspf() -> None:
    given = Playlist("", (Item("a\udcff\n.mp3"),))
    assert read(xspf(given), "a.xspf") == given
    assert resolve(read(xspf(given)).entries[0].location) == "a\udcff\n.mp3"


@pytest.mark.parametrize("location", ["", "a\nb.mp3", "a.mp3 ", "a\udcff.mp3"])
def test_what_m3u_cannot_say_is_an_error(location: str) -> None:
    with pytest.raises(Malformed, match="take XSPF"):
        m3u8(Playlist("", (Item(location),)))


@pytest.mark.parametrize(
    ("data", "name", "why"),
    [
        (b"#" * (playlists.LARGEST + 1), "a.m3u", "more than 4 MiB"),
        (b"x\n" * (playlists.MOST + 1), "a.m3u", "more than 50,000 entries"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:6\na.ts\n", "a.m3u8", "HLS"),
        (b'{"all": []}', "a.m3u", "smart playlist"),
        (b"<html/>", "a.m3u", "not <playlist>"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><playlist/>', "a.xspf", "DOCTYPE"),
        (b"<playlist><trackList>", "a.xspf", "broken, or not whole"),
        (b"", "a.xspf", "broken, or not whole"),
    ],
)
def test_what_is_no_playlist_is_malformed_and_named(data: bytes, name: str, why: str) -> None:
    with pytest.raises(Malformed, match=why) as caught:
        read(data, f"folder/{name}")
    assert repr(name) in str(caught.value) and "\n" not in str(caught.value)


PIECES = [
    "#EXTM3U\n",
    "#EXTINF:",
    "1",
    ",",
    '"',
    " - ",
    "a",
    "\n",
    "\r",
    "./",
    "../",
    "[playlist]\n",
    "File1=",
    "Title1=",
]
PIECES += [
    "Length1=9",
    "<playlist>",
    "<trackList>",
    "<track>",
    "<location>",
    "</location>",
    "</track>",
    "%",
    "\0",
    "&amp;",
]
PIECES += ["</trackList></playlist>", "#PLAYLIST:", "#EXTART:", "http://", "별", "\ufeff"]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(PIECES), max_size=20).map("".join), st.sampled_from(["", *playlists.EXTENSIONS]))
def test_whatever_comes_is_a_playlist_or_malformed(text: str, extension: str) -> None:
    try:
        found = read(text.encode(), f"a.{extension}")
    except Malformed:
        return
    assert read(xspf(found)).title == found.title
    for item in found.entries:
        readings(item.location, "x")
        assert "\n" not in item.title + item.artist + item.album


@pytest.mark.parametrize(
    ("begin", "again", "end"),
    [("", "./", ""), ("#EXTINF:1", '"', "\nx"), ("#EXTINF:1", '",', "\nx"), ("#EXTINF:", " ", "\nx"), ("", "%41", "")],
)
def test_nothing_takes_more_than_its_length(begin: str, again: str, end: str) -> None:
    for item in read((begin + again * ((200 << 10) // len(again)) + end).encode(), "a.m3u").entries:
        readings(item.location, "x")


@pytest.mark.skipif(not shutil.which("mpv"), reason="mpv is not installed")
def test_a_player_opens_the_files_that_an_m3u_names(tmp_path: Path) -> None:
    names = ["#1 a&b.wav", "50% what?.wav", "x: 별.wav", " blank.wav", 'd/it\'s "e".wav']
    (tmp_path / "d").mkdir()
    for name in names:
        with wave.open(str(tmp_path / name), "wb") as made:
            made.setparams((1, 2, 8000, 0, "NONE", ""))
            made.writeframes(bytes(160))
    (tmp_path / "a.m3u8").write_bytes(m3u8(Playlist("T", tuple(Item(name, "A\nB", "C") for name in names))))
    command = ["mpv", "--no-config", "--vo=null", "--ao=null", "--untimed", "--term-playing-msg=<${path}>"]
    done = subprocess.run([*command, f"--playlist={tmp_path}/a.m3u8"], capture_output=True, timeout=60)
    opened = [line.strip()[1:-1] for line in done.stdout.decode().splitlines() if line.strip().startswith("<")]
    assert [str(Path(path)) for path in opened] == [str(tmp_path / name) for name in names]
