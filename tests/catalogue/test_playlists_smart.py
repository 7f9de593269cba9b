"""Smart playlists: what is wrong is named, and what rules mean is told by their own words."""

import json
import operator
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playhead.catalogue.criteria import FIELDS, OPERATORS, Of, folded
from playhead.catalogue.playlists import Group, Rule, Smart, Sort, matches, select, smart
from playhead.errors import Malformed

TODAY = date(2026, 3, 10)

# What Navidrome documents of the format, each once.
DOCUMENTED = [
    '{"name": "Lately", "comment": "of last week", "all": [{"inTheLast": {"lastPlayed": 7}}], "sort": "lastPlayed"}',
    '{"all": [{"any": [{"is": {"loved": true}}, {"gt": {"rating": 2}}]}, {"inTheRange": {"year": [1970, 1979]}}]}',
    '{"all": [{"gt": {"playCount": -1}}],\n "sort": "random", // one a day\n "limit": 7 /* tracks */ }',
    '{"any": [{"lt": {"bpm": 90}}], "sort": "-year, +rating,title", "order": "desc", "limit": 20, "offset": 5}',
    '{"all": [{"is": {"library_id": 3}}, {"isNot": {"genre": "Speech"}}, {"contains": {"artist": "trio"}}]}',
    '{"all": [{"startsWith": {"title": "A"}}, {"endsWith": {"filepath": ".flac"}}, {"notContains": {"comment": "x"}}]}',
    '{"all": [{"after": {"dateAdded": "2024-01-31"}}, {"before": {"releaseDate": "1999-12-31"}}], "limitPercent": 25}',
    '{"all": [{"notInTheLast": {"albumLastPlayed": 365}}], "sort": "random", "refreshDelay": "1w"}',
    '{"all": [{"isMissing": {"mood": true}}, {"isPresent": {"rgTrackGain": true}}]}',
    '{"public": true, "all": [{"inPlaylist": {"path": "../a.nsp"}}, {"notInPlaylist": {"id": "x"}}]}',
]


@pytest.mark.parametrize("text", DOCUMENTED)
def test_what_navidrome_documents_is_read(text: str) -> None:
    assert smart(text.encode()).rules.rules


def test_a_playlist_is_read_with_all_that_it_tells() -> None:
    text = """/* mine */ {"Name": "N // no comment", "comment": "C",
        "ALL": [{"IS": {"Artist": "ABBA"}, "gt": {"year": 5}},
        {"any": [{"isNot": {"albumtype": "live"}}]}], "sort": "-year, +title,random", "order": "DESC", "limit": 0,
        "offset": 3, "limitPercent": 7, "public": false, "refreshDelay": "1d1.5h"}"""
    assert smart(text.encode("utf-16")) == Smart(
        rules=Group(
            True,
            (
                Rule("is", "artist", "ABBA", Of.TAG),
                Rule("gt", "year", 5, Of.NUMBER),
                Group(False, (Rule("isNot", "releasetype", "live", Of.TAG),)),
            ),
        ),
        sort=(Sort("year", False, Of.NUMBER), Sort("title", True, Of.TEXT), Sort("random", True, None)),
        name="N // no comment",
        comment="C",
        limit=None,
        percent=7,
        offset=3,
        public=False,
        refresh_s=91_800.0,
    )
    assert smart(b'{"all":[{"is":{"mytag":"x"}}]}', ["MyTag"]).sort == (Sort("title", False, Of.TEXT),)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not JSON"),
        ("[]", "JSON object"),
        ('{"all": [', "not JSON"),
        ('{"all": [{"is": {"year": NaN}}]}', "NaN"),
        ('{"all": [{"is": {"year": 1e999}}]}', r"all\[0\]\.is\.year: is Infinity, but takes a number"),
        ('{"all": [{"is": {"year": 99999999999999999999}}]}', "but takes a number"),
        ("{}", "either 'all' or 'any'"),
        ('{"all": [{"is": {"year": 1}}], "any": [{"is": {"year": 1}}]}', "not both"),
        ('{"all": []}', "all: takes a list of rules"),
        ('{"all": [{}]}', "all: takes a list of rules"),
        ('{"all": {"is": {"year": 1}}}', "all: takes a list of rules"),
        ('{"all": [{"any": [{"is": {"year": 1}}, 5]}]}', r"all\[0\]\.any: takes a list"),
        ('{"rules": []}', "'rules' is unknown"),
        ('{"all": [{"equals": {"year": 1}}]}', r"all\[0\]: there is no operator 'equals'"),
        ('{"all": [{"is": {"yaer": 1}}]}', r"all\[0\]\.is: there is no field 'yaer'"),
        ('{"all": [{"is": {"year": 1, "title": "x"}}]}', "takes one field"),
        ('{"all": [{"is": 5}]}', "takes one field"),
        ('{"all": [{"is": {"year": "1"}}]}', 'is "1", but takes a number'),
        ('{"all": [{"is": {"year": true}}]}', "but takes a number"),
        ('{"all": [{"is": {"title": 1}}]}', "but takes a text"),
        ('{"all": [{"is": {"title": null}}]}', "but takes a text"),
        ('{"all": [{"is": {"loved": "true"}}]}', "but takes true or false"),
        ('{"all": [{"gt": {"title": "x"}}]}', "'gt' is not for a field that holds a text"),
        ('{"all": [{"contains": {"year": "19"}}]}', "'contains' is not for a field that holds a number"),
        ('{"all": [{"before": {"year": 1990}}]}', "'before' is not for"),
        ('{"all": [{"before": {"dateadded": "soon"}}]}', "but takes a date"),
        ('{"all": [{"after": {"dateadded": "2026-02-30"}}]}', "but takes a date"),
        ('{"all": [{"after": {"dateadded": "0000"}}]}', "but takes a date"),
        ('{"all": [{"inTheRange": {"year": [1]}}]}', "but takes two numbers"),
        ('{"all": [{"inTheRange": {"year": ["1", "2"]}}]}', "but takes two numbers"),
        ('{"all": [{"inTheRange": {"dateadded": [1, 2]}}]}', "but takes two dates"),
        ('{"all": [{"inTheLast": {"lastplayed": "30"}}]}', "but takes a number of days"),
        ('{"all": [{"inTheLast": {"lastplayed": -1}}]}', "but takes a number of days"),
        ('{"all": [{"inTheLast": {"lastplayed": 99999999}}]}', "but takes a number of days"),
        ('{"all": [{"inPlaylist": {"name": "x"}}]}', "takes a playlist"),
        ('{"all": [{"inPlaylist": {"id": 5}}]}', "takes a playlist"),
        ('{"all": [{"isMissing": {"genre": "yes"}}]}', "but takes true or false"),
        ('{"all": [{"isMissing": {"loved": true}}]}', "'isMissing' is not for"),
        ('{"all": [{"is": {"year": 1}, "IS": {"year": 2}}]}', "twice"),
        ('{"all": [{"is": {"year": 1}}], "limit": "5"}', "'limit' is \"5\", but takes a whole number"),
        ('{"all": [{"is": {"year": 1}}], "limit": -1}', "'limit'"),
        ('{"all": [{"is": {"year": 1}}], "limitPercent": 101}', "'limitPercent'"),
        ('{"all": [{"is": {"year": 1}}], "limit": 5, "limitPercent": 5}', "exclude each other"),
        ('{"all": [{"is": {"year": 1}}], "offset": 1.5}', "'offset'"),
        ('{"all": [{"is": {"year": 1}}], "sort": "yaer"}', "sort: there is no field 'yaer'"),
        ('{"all": [{"is": {"year": 1}}], "sort": 5}', "'sort' is 5"),
        ('{"all": [{"is": {"year": 1}}], "order": "up"}', "'order' is 'up'"),
        ('{"all": [{"is": {"year": 1}}], "public": "yes"}', "'public'"),
        ('{"all": [{"is": {"year": 1}}], "refreshDelay": "1 day"}', "'refreshDelay'"),
        ('{"all": [{"is": {"year": 1}}], "name": 7}', "'name' is 7"),
        ('{"all": [' * 20 + '{"is": {"year": 1}}' + "]}" * 20, "groups are within each other"),
        ('{"all": [' + ",".join(['{"is": {"year": 1}}'] * 1001) + "]}", "more than 1,000 rules"),
        ("[" * 100_000, "not JSON"),
        ('{"all": ' + "9" * 5000 + "}", "not JSON"),
        (" " * (256 * 1024 + 1), "more than 256 KiB"),
        ('"\\' * 120_000, "not JSON"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_malformed_and_named(text: str, why: str) -> None:
    with pytest.raises(Malformed, match=why) as caught:
        smart(text.encode())
    assert "\n" not in str(caught.value)


ROW: dict[str, Any] = {
    "title": "Ça va",
    "artist": ["ABBA", "Björn"],
    "genre": [],
    "comment": None,
    "year": 1981,
    "bpm": None,
    "rating": 4,
    "loved": True,
    "dateadded": datetime(2026, 3, 1, 12, tzinfo=UTC),
    "releasedate": "1999-05",
    "lastplayed": None,
    "playlists": {"p1", "a.nsp"},
}


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        ({"is": {"title": "ça VA"}}, True),
        ({"is": {"title": "C\u0327a va"}}, True),
        ({"is": {"title": "Ca va"}}, False),
        ({"is": {"artist": "björn"}}, True),
        ({"isNot": {"artist": "ABBA"}}, False),
        ({"isNot": {"artist": "Agnetha"}}, True),
        ({"isNot": {"genre": "Pop"}}, True),
        ({"isNot": {"bpm": 5}}, True),
        ({"is": {"comment": ""}}, True),
        ({"contains": {"artist": "BB"}}, True),
        ({"contains": {"title": "%"}}, False),
        ({"contains": {"title": "_a"}}, False),
        ({"notContains": {"artist": "bb"}}, False),
        ({"notContains": {"comment": "x"}}, True),
        ({"startsWith": {"artist": "bj"}}, True),
        ({"endsWith": {"title": "VA"}}, True),
        ({"startsWith": {"title": "va"}}, False),
        ({"gt": {"year": 1980}}, True),
        ({"gt": {"year": 1981}}, False),
        ({"lt": {"year": 1981.5}}, True),
        ({"lt": {"bpm": 500}}, False),
        ({"lt": {"playcount": 1}}, True),
        ({"is": {"playcount": 0}}, True),
        ({"is": {"loved": True}}, True),
        ({"is": {"compilation": False}}, True),
        ({"inTheRange": {"year": [1981, 1981]}}, True),
        ({"inTheRange": {"year": [1982, 1990]}}, False),
        ({"inTheRange": {"dateadded": ["2026-03-01", "2026-03-01"]}}, True),
        ({"inTheRange": {"dateadded": ["2026-01", "2026-02"]}}, False),
        ({"inTheRange": {"releasedate": ["1990", "1999"]}}, True),
        ({"is": {"dateadded": "2026-03-01"}}, True),
        ({"is": {"releasedate": "1999"}}, True),
        ({"is": {"releasedate": "1999-05-01"}}, False),
        ({"before": {"dateadded": "2026-03-02"}}, True),
        ({"before": {"dateadded": "2026-03-01"}}, False),
        ({"after": {"dateadded": "2026-03-01"}}, True),
        ({"after": {"dateadded": "2026-03-02"}}, False),
        ({"before": {"lastplayed": "2026-03-02"}}, False),
        ({"inTheLast": {"dateadded": 9}}, True),
        ({"inTheLast": {"dateadded": 8}}, False),
        ({"notInTheLast": {"dateadded": 8}}, True),
        ({"notInTheLast": {"lastplayed": 8}}, True),
        ({"inTheLast": {"lastplayed": 100000}}, False),
        ({"inPlaylist": {"id": "p1"}}, True),
        ({"inPlaylist": {"path": "a.nsp"}}, True),
        ({"notInPlaylist": {"id": "p2"}}, True),
        ({"isMissing": {"genre": True}}, True),
        ({"isMissing": {"artist": True}}, False),
        ({"isMissing": {"comment": False}}, False),
        ({"isPresent": {"bpm": True}}, False),
        ({"isPresent": {"year": True}}, True),
        ({"isPresent": {"lastplayed": False}}, True),
    ],
    ids=str,
)
def test_a_rule_means_what_it_says(rule: dict[str, Any], fits: bool) -> None:
    assert matches(smart(json.dumps({"all": [rule]}).encode()), ROW, today=TODAY) is fits


def test_all_and_any_are_what_they_are_called() -> None:
    yes, no = {"is": {"year": 1981}}, {"is": {"year": 1}}
    for name, rules, fits in [("all", [yes, no], False), ("any", [yes, no], True), ("any", [no], False)]:
        assert matches(smart(json.dumps({name: rules}).encode()), ROW) is fits
    assert matches(smart(json.dumps({"all": [yes, {"any": [no, {"all": [yes]}]}]}).encode()), ROW)


def test_the_last_days_begin_with_all_of_their_first() -> None:
    rule = smart(b'{"all": [{"inTheLast": {"dateadded": 9}}]}')
    for first in (date(2026, 3, 1), datetime(2026, 3, 1, tzinfo=UTC), "2026-03-01"):
        assert matches(rule, {"dateadded": first}, today=TODAY)
    assert not matches(rule, {"dateadded": datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC)}, today=TODAY)


def test_a_moment_belongs_to_its_day_in_utc() -> None:
    rule = smart(b'{"all": [{"is": {"dateadded": "2026-03-01"}}]}')
    early = datetime(2026, 3, 2, 3, tzinfo=timezone(timedelta(hours=9)))
    assert matches(rule, {"dateadded": early})
    assert matches(rule, {"dateadded": datetime(2026, 3, 1, 23)})
    assert matches(rule, {"dateadded": date(2026, 3, 1)}) and matches(rule, {"dateadded": "2026-03-01T00:00:00Z"})


OPPOSITES = [
    ("is", "isNot"),
    ("contains", "notContains"),
    ("inTheLast", "notInTheLast"),
    ("inPlaylist", "notInPlaylist"),
]
OPPOSITES += [("isMissing", "isPresent")]
OPERANDS = {
    Of.TEXT: st.sampled_from(["", "a", "A", "ab", "é", "É"]),
    Of.NUMBER: st.integers(-3, 3) | st.sampled_from([0.5, -0.5]),
    Of.FLAG: st.booleans(),
    Of.DATE: st.sampled_from(["2026", "2026-03", "2026-03-01", "2026-03-02", "2025-12-31"]),
}
OPERANDS |= {Of.TAG: OPERANDS[Of.TEXT], Of.COUNT: OPERANDS[Of.NUMBER]}
MOMENTS = st.sampled_from(["2026-03-01T00:00:00Z", "2026-03-01T23:59:59Z", "2026-02-28T12:00:00Z"]) | OPERANDS[Of.DATE]


@st.composite
def questions(draw: st.DrawFn) -> tuple[str, str, Any, Any]:
    """An operator, a field, what the rule says, and what the track has."""
    field = draw(st.sampled_from(sorted(FIELDS)))
    kind = FIELDS[field]
    name = draw(st.sampled_from(sorted(OPERATORS)))
    operand = draw(OPERANDS[kind])
    if name == "inTheRange":
        operand = [operand, draw(OPERANDS[kind])]
    elif name in ("inTheLast", "notInTheLast"):
        operand = draw(st.integers(0, 12))
    elif name in ("isMissing", "isPresent"):
        operand = draw(st.booleans())
    elif name in ("inPlaylist", "notInPlaylist"):
        field, operand = "id", draw(st.sampled_from(["p1", "p2"]))
    one = MOMENTS if kind is Of.DATE else OPERANDS[kind]
    has = draw(st.none() | (st.lists(one, max_size=2) if kind is Of.TAG else one))
    return name, field, operand, has


@settings(max_examples=150, deadline=None, derandomize=True)
@given(questions())
def test_each_rule_is_plain_arithmetic_or_refused(question: tuple[str, str, Any, Any]) -> None:
    """The same, once more, by the shortest means: comparisons of what a track has, one value at a time."""
    name, field, operand, has = question
    try:
        rule = smart(json.dumps({"any": [{name: {field: operand}}]}).encode())
    except Malformed:
        assert not _allowed(name, FIELDS.get(field, Of.TEXT))
        return
    row = {"playlists": ["p1"], field: has}
    opposite = next((there for pair in OPPOSITES for here, there in (pair, pair[::-1]) if here == name), None)
    assert matches(rule, row, today=TODAY) == _answer(name, field, operand, has)
    if opposite:
        other = smart(json.dumps({"any": [{opposite: {field: operand}}]}).encode())
        assert matches(other, row, today=TODAY) != matches(rule, row, today=TODAY)


def _allowed(name: str, kind: Of) -> bool:
    groups = {
        "is isNot": set(Of),
        "gt lt": {Of.NUMBER, Of.COUNT},
        "contains notContains startsWith endsWith": {Of.TEXT, Of.TAG},
        "inTheRange": {Of.NUMBER, Of.COUNT, Of.DATE},
        "before after inTheLast notInTheLast": {Of.DATE},
        "isMissing isPresent": {Of.TEXT, Of.TAG, Of.NUMBER, Of.DATE},
        "inPlaylist notInPlaylist": set(Of),
    }
    return next(kind in kinds for names, kinds in groups.items() if name in names.split())


def _answer(name: str, field: str, operand: Any, has: Any) -> bool:
    if name in ("inPlaylist", "notInPlaylist"):
        return (operand == "p1") == (name == "inPlaylist")
    kind = FIELDS[field]
    several = [one for one in (has if isinstance(has, list) else [has]) if one is not None and one != ""]
    if name in ("isMissing", "isPresent"):
        return bool(several) == (operand == (name == "isPresent"))
    if not several:
        several = {Of.TEXT: [""], Of.COUNT: [0], Of.FLAG: [False]}.get(kind, [])
    if kind in (Of.TEXT, Of.TAG):
        several, operand = [one.casefold() for one in several], operand.casefold()
    return {
        "is": lambda: any(one[: len(operand)] == operand if kind is Of.DATE else one == operand for one in several),
        "isNot": lambda: not _answer("is", field, operand, has),
        "gt": lambda: any(map(operator.gt, several, [operand] * 9)),
        "lt": lambda: any(map(operator.lt, several, [operand] * 9)),
        "contains": lambda: any(operand in one for one in several),
        "notContains": lambda: not any(operand in one for one in several),
        "startsWith": lambda: any(one[: len(operand)] == operand for one in several),
        "endsWith": lambda: any(one.endswith(operand) for one in several),
        "inTheRange": lambda: any(
            operand[0] <= one and (one[: len(operand[1])] if kind is Of.DATE else one) <= operand[1] for one in several
        ),
        "before": lambda: any(one < operand for one in several),
        "after": lambda: any(one > operand for one in several),
        "inTheLast": lambda: any(one >= str(date.fromordinal(TODAY.toordinal() - operand)) for one in several),
        "notInTheLast": lambda: not _answer("inTheLast", field, operand, has),
    }[name]()


ROWS: list[dict[str, Any]] = [
    {"title": "b", "year": 2000, "rating": 1},
    {"title": "A", "year": 1990, "rating": 5},
    {"title": "c", "year": None, "rating": 5},
    {"title": "d", "year": 1990, "rating": None},
]


@pytest.mark.parametrize(
    ("more", "titles"),
    [
        ({}, "Abcd"),
        ({"order": "desc"}, "dcbA"),
        ({"sort": "year,title"}, "cAdb"),
        ({"sort": "year,-title"}, "cdAb"),
        ({"sort": "year,-title", "order": "desc"}, "bAdc"),
        ({"sort": "-rating,title", "limit": 2}, "Ac"),
        ({"limit": 2, "offset": 1}, "bc"),
        ({"offset": 9}, ""),
        ({"limitPercent": 50}, "Ab"),
        ({"limitPercent": 1}, "A"),
    ],
    ids=str,
)
def test_tracks_are_chosen_in_their_order(more: dict[str, Any], titles: str) -> None:
    playlist = smart(json.dumps({"all": [{"gt": {"playcount": -1}}], **more}).encode())
    assert "".join(row["title"] for row in select(playlist, ROWS)) == titles


def test_a_random_order_has_every_track_once_and_is_the_seeds() -> None:
    playlist = smart(b'{"all": [{"gt": {"playcount": -1}}], "sort": "random"}')
    orders = {tuple(row["title"] for row in select(playlist, ROWS, seed=seed)) for seed in range(40)}
    assert len(orders) > 10 and all(sorted(order) == ["A", "b", "c", "d"] for order in orders)
    assert select(playlist, ROWS, seed=7) == select(playlist, ROWS, seed=7)
    assert select(smart(b'{"all": [{"is": {"year": 5}}], "limitPercent": 10}'), ROWS) == []


def test_texts_are_compared_without_case_and_composed() -> None:
    assert folded("STRASSE") == folded("straße") and folded("e\u0301") == folded("É")


KEYS = st.sampled_from(["all", "any", "is", "year", "title", "limit", "sort", "\ud800"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.floats(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(JSON)
def test_any_json_is_a_playlist_or_malformed(told: Any) -> None:
    try:
        playlist = smart(json.dumps({"all": told} if isinstance(told, list) else told).encode())
    except Malformed:
        return
    select(playlist, ROWS)
