"""Lyrics of every format become one structure, and that becomes text, LRC, events and what OpenSubsonic wants."""

import codecs
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playhead.catalogue import lyrics
from playhead.catalogue.lyrics import (
    Line,
    Lyrics,
    at,
    attached,
    events,
    layers,
    lrc,
    parse,
    plain,
    sidecars,
    structured,
)
from playhead.catalogue.verses import Agent, Cue
from playhead.errors import Malformed

TTML = """<?xml version="1.0" encoding="UTF-8"?>
<tt xmlns="http://www.w3.org/ns/ttml" xmlns:ttm="http://www.w3.org/ns/ttml#metadata" xml:lang="ja"
 xmlns:itunes="http://music.apple.com/lyric-ttml-internal" itunes:timing="Word"><head><metadata>
<ttm:title>A &amp; B</ttm:title>
<ttm:agent type="group" xml:id="v1000"/><ttm:agent type="person" xml:id="v1"><ttm:name>Ann</ttm:name></ttm:agent>
<iTunesMetadata xmlns="http://music.apple.com/lyric-ttml-internal">
<translations><translation type="subtitle" xml:lang="en"><text for="L1">You and me</text></translation></translations>
<transliterations><transliteration xml:lang="ja-Latn"><text for="L1"><span xmlns="http://www.w3.org/ns/ttml"
 begin="1.0" end="2.0">ki</span><span xmlns="http://www.w3.org/ns/ttml" begin="2" end="3">mi</span></text>
</transliteration></transliterations></iTunesMetadata></metadata></head>
<body dur="00:10.000"><div><p begin="1.0" end="3.5" itunes:key="L1" ttm:agent="v1"><span begin="1.0" end="2.0">君</span>
<span begin="00:02.000" end="3s">と</span><span ttm:role="x-bg" begin="3" end="3.5"><span begin="3">(ah</span><span
 begin="3.2" end="3500ms">-ah)</span></span><span ttm:role="x-translation" xml:lang="de">Du</span></p>
<p begin="00:00:04" dur="1s" ttm:agent="v1000"><span begin="4" end="5">みんな</span></p></div></body></tt>"""

VTT = """WEBVTT - of a song

NOTE not shown

STYLE
::cue { color: red }

one
00:01.000 --> 00:04.000 align:left
<v Bob>Never <00:02.000><b>drink</b> &amp; <00:03.000><c.x>drive</c>
<v.loud Ann>I &lt;3 U

01:00:05.000 --> 01:00:06.000
- plain
"""

SRT = """\ufeff1\r
00:00:01,000 --> 00:00:02,500  X1:0\r
<i>First</i> <font color="red">row</font>\r
{\\an8}second <3\r
\r
2\r
00:00:03,000 --> 00:00:04,000\r
third\r
3\r
00:00:05,000 --> 00:00:06,000\r
fourth\r
"""


def rows(found: Lyrics) -> list[tuple[int | None, str]]:
    return [(line.start_ms, line.text) for line in found.lines]


def words(line: Line) -> list[tuple[int, int | None, str]]:
    return [(cue.start_ms, cue.end_ms, text) for cue, text in zip(line.cues, line.words(), strict=True)]


# ── LRC ──


def test_lines_end_in_each_of_the_three_ways() -> None:
    for end in ("\n", "\r\n", "\r"):
        assert rows(parse(f"[ti:x]{end}[00:01]a{end}[00:02]b".encode())) == [(1000, "a"), (2000, "b")]
        assert rows(parse(f"1{end}00:00:01,0 --> 00:00:02,0{end}a{end}b".encode())) == [(1000, "a"), (1000, "b")]


def test_a_line_is_sung_once_for_each_of_its_times_and_all_are_in_order() -> None:
    found = parse(b"[00:17.2]two\n[00:12.00] [00:45.105]one\n\n[01:00]last\n[00:50.00]\n", "song.lrc")
    assert found.synced
    assert rows(found) == [(12_000, "one"), (17_200, "two"), (45_105, "one"), (50_000, ""), (60_000, "last")]


@pytest.mark.parametrize(
    ("stamp", "ms"),
    [
        ("00:12.34", 12_340),
        ("00:12.3", 12_300),
        ("00:12.345", 12_345),
        ("00:12.3456", 12_345),
        ("00:12,34", 12_340),
        ("0:7", 7_000),
        ("123:00.00", 7_380_000),
        ("01:02:50", 62_500),
        ("01:02:03.5", 3_723_500),
        ("01:02:03:50", 3_723_500),
    ],
)
def test_a_time_is_read_in_each_of_its_forms(stamp: str, ms: int) -> None:
    assert parse(f"[{stamp}]x".encode()).lines[0].start_ms == ms


def test_three_numbers_are_hours_where_lines_would_else_come_too_fast() -> None:
    assert rows(parse(b"[00:00:12]a\n[00:00:17]b\n[01:00:22]c")) == [(12_000, "a"), (17_000, "b"), (3_622_000, "c")]
    assert rows(parse(b"[00:12:00]a\n[00:17:20]b\n[00:22:59]c")) == [(12_000, "a"), (17_200, "b"), (22_590, "c")]


def test_tags_are_read_and_a_positive_offset_is_sooner() -> None:
    found = parse(b"[ti: Song ]\n[AR:Band]\n[la:ko]\n[by:x]\n[unknown:y]\n[offset: +500]\n[00:01.00]a\n[Chorus: B]\n")
    assert (found.title, found.artist, found.lang, found.offset_ms) == ("Song", "Band", "ko", 500)
    assert rows(found) == [(1000, "a"), (1000, "[Chorus: B]")]
    assert at(found, 0.49) is None and at(found, 0.5) == 1
    assert parse(b"[offset:-250]\n[00:01]a").offset_ms == -250
    assert parse(b"[offset:soon]\n[00:01]a").offset_ms == 0


def test_words_have_times_and_each_says_its_bytes() -> None:
    [line] = parse("[00:10.00] <00:10.00> 별이  <00:10.50>빛 <00:11.00>나네<00:12.00>".encode()).lines
    assert (line.text, line.start_ms, line.end_ms) == ("별이 빛 나네", 10_000, 12_000)
    assert words(line) == [(10_000, 10_500, "별이"), (10_500, 11_000, "빛"), (11_000, 12_000, "나네")]
    assert (line.cues[1].byte_start, line.cues[1].byte_end) == (7, 9)


def test_words_without_a_last_time_have_no_ends_and_move_with_their_line() -> None:
    found = parse(b"[00:20.00][00:40.00]One [00:21.00]two\n[00:30]<00:31>late\n<00:50>bare")
    assert [words(line) for line in found.lines] == [
        [(20_000, None, "One"), (21_000, None, "two")],
        [(31_000, None, "late")],
        [(40_000, None, "One"), (41_000, None, "two")],
        [(50_000, None, "bare")],
    ]
    assert rows(found)[-1] == (50_000, "bare")


def test_a_time_behind_a_line_is_its_end() -> None:
    assert parse(b"[00:22]end [00:23]").lines == (Line(22_000, "end", 23_000),)


def test_voices_in_lrc_are_agents() -> None:
    found = parse(b"[00:01]v1: <00:01>hey<00:02>\n[00:03]v2: <00:03>ho<00:04>\n[bg: <00:04>ooh <00:05>aah<00:06>]")
    assert [line.agent for line in found.lines] == ["v1", "v2", "bg"]
    assert found.agents == (Agent("v1", "main"), Agent("v2", "voice"), Agent("bg", "bg"))
    assert words(found.lines[2]) == [(4000, 5000, "ooh"), (5000, 6000, "aah")]


# ── other formats ──


def test_a_text_without_times_is_its_lines() -> None:
    found = parse("\r\n\r\n첫째 줄\r\n\r\n  둘째\t\r\n\n".encode(), "song.txt")
    assert (found.synced, rows(found)) == (False, [(None, "첫째 줄"), (None, ""), (None, "둘째")])
    assert plain(found) == "첫째 줄\n\n둘째"
    assert at(found, 5) is None
    assert rows(parse(b"[ti:T]\n[Verse 1: X]\nla [12:30] la", "a.lrc")) == [
        (None, "[Verse 1: X]"),
        (None, "la [12:30] la"),
    ]


def test_subrip_is_a_line_for_each_row_of_a_cue() -> None:
    found = parse(SRT.encode(), "song.srt")
    assert found.lines == (
        Line(1000, "First row", 2500),
        Line(1000, "second <3", 2500),
        Line(3000, "third", 4000),
        Line(5000, "fourth", 6000),
    )
    assert parse(SRT.encode("utf-16"), "") == found


def test_webvtt_has_words_and_voices() -> None:
    found = parse(VTT.encode(), "song.vtt")
    assert rows(found) == [(1000, "Never drink & drive"), (3000, "I <3 U"), (3_605_000, "- plain")]
    assert words(found.lines[0]) == [(1000, 2000, "Never"), (2000, 3000, "drink &"), (3000, 4000, "drive")]
    assert [line.agent for line in found.lines] == ["Bob", "Ann", None]
    assert {agent.id: agent.role for agent in found.agents} == {"main": "main", "Bob": "voice", "Ann": "voice"}


def test_ttml_has_words_agents_background_and_translations() -> None:
    main, *others = layers(TTML.encode(), "song.ttml")
    assert (main.lang, main.title, main.synced, main.kind) == ("ja", "A & B", True, "main")
    assert rows(main) == [(1000, "君 と"), (3000, "(ah-ah)"), (4000, "みんな")]
    assert words(main.lines[0]) == [(1000, 2000, "君"), (2000, 3000, "と")]
    assert words(main.lines[1]) == [(3000, 3200, "(ah"), (3200, 3500, "-ah)")]
    assert [line.agent for line in main.lines] == ["v1", "bg", "v1000"]
    assert main.agents == (Agent("v1", "main", "Ann"), Agent("bg", "bg"), Agent("v1000", "group"))
    told = {(one.kind, one.lang): rows(one) for one in others}
    assert told == {
        ("translation", "de"): [(1000, "Du")],
        ("translation", "en"): [(1000, "You and me")],
        ("pronunciation", "ja-Latn"): [(1000, "kimi")],
    }


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1:2", 62_000),
        ("01:02:03.045", 3_723_045),
        ("90", 90_000),
        ("1.5s", 1500),
        ("250ms", 250),
        ("2m", 120_000),
        ("1h", 3_600_000),
        ("00:00:01:15", 1500),
        ("60f", 2000),
        ("5t", 500),
    ],
)
def test_ttml_times_are_read_in_each_of_their_forms(text: str, ms: int) -> None:
    head = '<tt xmlns="http://www.w3.org/ns/ttml" xmlns:p="http://www.w3.org/ns/ttml#parameter" p:frameRate="30"'
    found = parse(f'{head} p:tickRate="10"><body><p begin="{text}">x</p></body></tt>'.encode())
    assert found.lines[0].start_ms == ms


def test_pronunciations_within_a_line_are_a_layer_and_ends_are_all_or_none() -> None:
    roman = '<span xmlns:m="m" m:role="x-roman" xml:lang="ko-Latn">byeol</span>'
    spans = '<span begin="1" end="2">별</span> <span begin="2">빛</span>'
    text = f'<tt xmlns="http://www.w3.org/ns/ttml"><body><p begin="1">{spans}{roman}</p></body></tt>'
    main, other = layers(text.encode())
    assert words(main.lines[0]) == [(1000, None, "별"), (2000, None, "빛")]
    assert (other.kind, other.lang, rows(other)) == ("pronunciation", "ko-Latn", [(1000, "byeol")])
    [filled] = parse(text.replace('<p begin="1">', '<p begin="1" end="4">').encode()).lines
    assert words(filled) == [(1000, 2000, "별"), (2000, 4000, "빛")]


def test_nothing_ends_before_it_begins() -> None:
    assert words(parse(b"[00:05]<00:05>a<00:03>").lines[0]) == [(5000, 5000, "a")]
    assert parse(b"1\n00:00:05,000 --> 00:00:03,000\na").lines == (Line(5000, "a", 5000),)


def test_line_timed_ttml_has_no_words() -> None:
    text = TTML.replace('itunes:timing="Word"', 'itunes:timing="Line"')
    assert not any(line.cues for line in parse(text.encode()).lines)


def test_id3_texts_with_line_ends_are_syllables_and_else_lines() -> None:
    found = lyrics.sylt([("Hel", 100), ("lo", 200), ("\nyou", 300), (" there\n", 400)], "eng")
    assert (rows(found), found.lang, found.synced) == ([(100, "Hello"), (300, "you there")], "eng", True)
    assert words(found.lines[1]) == [(300, None, "you"), (400, None, "there")]
    assert rows(lyrics.sylt([("two", 2000), ("one", 1000)])) == [(1000, "one"), (2000, "two")]
    assert not lyrics.sylt([]).synced


VERSE = "[00:01.00]{}\n[00:05.00]{}\n"


@pytest.mark.parametrize(
    ("codec", "lines"),
    [
        ("cp949", ("별이 빛나는 밤에 홀로 앉아", "그대 이름을 불러 봅니다 똠방각하")),
        ("cp932", ("夜空に光る星のように", "きみの名前を呼んでいる")),
        ("gb18030", ("月亮代表我的心，你问我爱你有多深", "轻轻的一个吻，已经打动我的心")),
        ("big5", ("月亮代表我的心，你問我愛你有多深", "輕輕的一個吻，已經打動我的心")),
        ("cp1252", ("Où est passé l'été", "Déjà la fête est finie, chère amie")),
        ("utf-8-sig", ("별 ☆ 夜 é", "둘")),
        ("utf-16", ("별 ☆ 夜 é", "둘")),
    ],
)
def test_any_charset_is_read(codec: str, lines: tuple[str, str]) -> None:
    assert rows(parse(VERSE.format(*lines).encode(codec), "a.lrc")) == [(1000, lines[0]), (5000, lines[1])]
    assert rows(parse(codecs.BOM_UTF16_BE + VERSE.format(*lines).encode("utf-16-be"))) == [
        (1000, lines[0]),
        (5000, lines[1]),
    ]


# ── names ──


def test_lyrics_lie_beside_their_track_by_name_and_language() -> None:
    assert sidecars("01. Song.flac") == tuple(f"01. Song.{one}" for one in ("ttml", "elrc", "lrc", "vtt", "srt", "txt"))
    names = [
        "a.flac",
        "a.txt",
        "a.LRC",
        "a.ko.lrc",
        "a.flac.lrc",
        "a.zh-Hant.ttml",
        "b.mp3",
        "ab.lrc",
        "b.png",
        "c.opus",
    ]
    assert attached(names) == {"a.flac": ("a.LRC", "a.flac.lrc", "a.txt", "a.zh-Hant.ttml", "a.ko.lrc")}
    assert parse(b"[00:01]x", "a.ko.lrc").lang == "ko"
    assert parse(b"[00:01]x", "a.zh_Hant.lrc").lang == "zh-Hant"
    assert parse(b"[la:ja]\n[00:01]x", "a.ko.lrc").lang == "ja"
    assert parse(b"[00:01]x", "a.wav.lrc").lang == "und"


# ── writing ──


def test_the_line_that_is_sung_is_the_last_that_has_begun() -> None:
    found = parse(b"[00:01]a\n[00:02]b\n[00:02]c\n[00:04]d")
    assert [at(found, second) for second in (0.999, 1, 1.999, 2, 3.9, 4, 1e9)] == [None, 0, 0, 2, 2, 3, 3]


def told(found: Lyrics, seconds: float) -> list[tuple[float, str, dict[str, Any]]]:
    made = []
    for wait, event in events(found, seconds):
        kind, data, *rest = event.decode().split("\n")
        assert rest == ["", ""]
        made.append((wait, kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return made


def test_events_begin_with_the_line_being_sung_and_wait_for_the_others() -> None:
    found = parse("[offset:+500]\n[00:01.00]하나\n[00:03.00]\n[00:04.50]three\n".encode())
    assert told(found, 1.5) == [
        (0.0, "line", {"index": 0, "start": 1000, "text": "하나"}),
        (1.0, "line", {"index": 1, "start": 3000, "text": ""}),
        (1.5, "line", {"index": 2, "start": 4500, "text": "three"}),
        (0.0, "end", {}),
    ]
    assert [wait for wait, *_ in told(found, 0)] == [0.5, 2.0, 1.5, 0.0]
    assert [kind for _, kind, _ in told(found, 99)] == ["line", "end"]


def test_events_of_a_text_without_times_are_all_of_it() -> None:
    assert told(parse(b"a\nb"), 7) == [(0.0, "lyrics", {"lines": ["a", "b"]}), (0.0, "end", {})]
    assert told(Lyrics(()), 0)[-1] == (0.0, "end", {})


def test_no_text_can_end_an_event() -> None:
    line = Line(0, "a\n\nevent: x\rdata: y")
    [(_, event), _] = events(Lyrics((line,), synced=True))
    assert event.count(b"\n") == 3 and b"\r" not in event


def test_what_opensubsonic_gets_is_that_of_its_two_versions() -> None:
    found = layers(TTML.encode())
    [first] = structured(found)
    assert first == {
        "lang": "ja",
        "synced": True,
        "displayTitle": "A & B",
        "line": [
            {"start": 1000, "value": "君 と"},
            {"start": 3000, "value": "(ah-ah)"},
            {"start": 4000, "value": "みんな"},
        ],
    }
    second, *others = structured(found, enhanced=True)
    assert [one["kind"] for one in (second, *others)] == ["main", "translation", "translation", "pronunciation"]
    assert second["agents"] == [
        {"id": "v1", "role": "main", "name": "Ann"},
        {"id": "bg", "role": "bg"},
        {"id": "v1000", "role": "group"},
    ]
    assert second["cueLine"][0] == {
        "index": 0,
        "start": 1000,
        "end": 3500,
        "value": "君 と",
        "agentId": "v1",
        "cue": [
            {"start": 1000, "end": 2000, "byteStart": 0, "byteEnd": 2, "value": "君"},
            {"start": 2000, "end": 3000, "byteStart": 4, "byteEnd": 6, "value": "と"},
        ],
    }
    assert "cueLine" not in others[0] and "agents" not in others[2]
    assert structured([parse(b"a\nb")], enhanced=True)[0]["line"] == [{"value": "a"}, {"value": "b"}]
    assert structured([parse(b"[offset:-7]\n[00:01]a")])[0]["offset"] == -7


WORD = st.text("abc별夜é'-,", min_size=1, max_size=6)
TIMES = st.integers(0, 5_999_999)


@st.composite
def timed_lines(draw: st.DrawFn) -> Line:
    start = draw(TIMES)
    said = draw(st.lists(WORD, max_size=5))
    if not said or draw(st.booleans()):
        return Line(start, " ".join(said))
    cues, text, now = [], "", start
    ended = draw(st.booleans())
    for word in said:
        text += " " if text and draw(st.booleans()) else ""
        at, size = len(text.encode()), len(word.encode())
        begin, now = now, now + draw(st.integers(1, 5000))
        cues.append(Cue(begin, draw(st.integers(begin, now)) if ended else None, at, at + size - 1))
        text += word
    return Line(start, text, cues[-1].end_ms, tuple(cues))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(timed_lines(), min_size=1, max_size=6), st.integers(-9999, 9999), WORD, st.sampled_from(["und", "ko"]))
def test_what_is_written_as_lrc_is_read_back(lines: list[Line], offset: int, title: str, lang: str) -> None:
    ordered = tuple(sorted(lines, key=lambda line: line.start_ms or 0))
    found = Lyrics(ordered, True, lang, offset, title=title, artist="A - B")
    assert parse(lrc(found).encode(), "a.lrc") == found


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.lists(WORD, max_size=4).map(" ".join), max_size=6))
def test_a_plain_text_is_read_back(said: list[str]) -> None:
    found = parse("\n".join(said).encode(), "a.txt")
    assert parse(lrc(found).encode()) == parse(plain(found).encode()) == found


# ── strangers' ──


@pytest.mark.parametrize(
    ("data", "name", "why"),
    [
        (b"x" * (lyrics.LARGEST + 1), "a.txt", "more than 2 MiB"),
        (b"[1:1]\n" * (lyrics.LINES + 1), "a.lrc", "more than 20,000 lines"),
        (b"[00:01][00:02]" * (lyrics.LINES + 1) + b"x", "a.lrc", None),
        (b"".join(b"[%d:%02d]" % divmod(n, 60) for n in range(99_999)) + b"x", "a.lrc", "more than 20,000 lines"),
        (b"".join(b"[00:%02d]" % n for n in range(60)) + b"<00:01>a " * 9999, "a.lrc", "more than 200,000 timed words"),
        (b'<!DOCTYPE tt [<!ENTITY a "aaa">]><tt><body><p>&a;</p></body></tt>', "a.ttml", "DOCTYPE"),
        (b"<tt><body><p>x</p>", "a.ttml", "broken, or not whole"),
        (b"<tt>" + b"<p>" * 99, "a.ttml", "nested too deep"),
        (b"<html><p>x</p></html>", "a.ttml", "not <tt>"),
        (b"<tt><body/></tt>", "a.ttml", "no line"),
        (b"<tt><body><p begin='soon'>x</p></body></tt>", "a.ttml", "'soon'"),
        (b"no cue", "a.srt", "no cue"),
        (b"", "a.vtt", "no cue"),
    ],
)
def test_what_cannot_be_lyrics_is_malformed_and_named(data: bytes, name: str, why: str | None) -> None:
    if why is None:
        assert len(parse(data, name).lines) == 2
        return
    with pytest.raises(Malformed, match=why) as caught:
        parse(data, f"folder/{name}")
    assert repr(name) in str(caught.value) and "\n" not in str(caught.value)


PIECES = [
    "[00:01.00]",
    "<00:02>",
    "[",
    "<",
    ">",
    "]",
    "[bg:",
    "[ti:",
    "v1:",
    "{\\",
    "}",
    "&amp;",
    "<v A>",
    "-->",
    "\n",
    "\r",
]
PIECES += [
    "00:01.000 --> 00:02.000",
    "WEBVTT\n\n",
    "\n\n1\n",
    " ",
    "별",
    "\0",
    "\ufeff",
    "<tt>",
    "<p begin='1'>",
    "</p>",
    "</tt>",
]
PIECES += ["<span begin='2s'>", "</span>", "<body>", "</body>", "x", "[00:00:01]", "\u2028", "\ud7ff", "<!--", "]]>"]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(PIECES), max_size=24).map("".join), st.sampled_from(["", *lyrics.EXTENSIONS]))
def test_whatever_comes_is_lyrics_in_order_or_malformed(text: str, extension: str) -> None:
    try:
        found = layers(text.encode(), f"a.{extension}")
    except Malformed:
        return
    for one in found:
        _sound(one)


def _sound(found: Lyrics) -> None:
    """It keeps every promise of Lyrics, Line and Cue."""
    starts = [line.start_ms for line in found.lines]
    assert starts == sorted(start for start in starts if start is not None) if found.synced else not any(starts)
    for line in found.lines:
        size = len(line.text.encode())
        assert all(0 <= cue.byte_start <= cue.byte_end < size for cue in line.cues)
        assert len({cue.end_ms is None for cue in line.cues}) < 2
        assert all(word and word == word.strip(" ") for word in line.words())
    told = structured([found], enhanced=True)[0]
    json.dumps(told)
    if told.get("agents"):
        assert [one["role"] for one in told["agents"]].count("main") == 1
        ids = {one["id"] for one in told["agents"]}
        assert all(line["agentId"] in ids for line in told["cueLine"])
    assert all(wait >= 0 for wait, _ in events(found, 1.0))
    assert parse(lrc(found).encode()).synced == found.synced or not found.lines


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.binary(max_size=200), st.sampled_from(lyrics.EXTENSIONS))
def test_any_bytes_are_lyrics_or_malformed(data: bytes, extension: str) -> None:
    try:
        _ = [_sound(one) for one in layers(data, f"a.{extension}")]
    except Malformed:
        pass


HUGE = 160 << 10  # so much that whatever is not linear does not end within the time that a test has


@pytest.mark.parametrize(
    ("begin", "again", "name"),
    [
        ("", "[00:01.00]", "a.lrc"),
        ("", "[00:", "a.lrc"),
        ("[bg:", "] ", "a.lrc"),
        ("[ti:", "] ", "a.lrc"),
        ("", " ", "a.lrc"),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\n", "<", "a.vtt"),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\n", "<v ", "a.vtt"),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\n", "<00:01.000>w", "a.vtt"),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\n{\\", "<", "a.vtt"),
        ("1\n00:00:01,000 --> 00:00:02,000\n", "{\\", "a.srt"),
        ("<!--", "-", "a"),
        ("<tt><body>" + "<p>" * 16, "la ", "a.ttml"),
    ],
)
def test_nothing_takes_more_than_its_length(begin: str, again: str, name: str) -> None:
    try:
        parse((begin + again * (HUGE // len(again))).encode(), name)
    except Malformed:
        pass
