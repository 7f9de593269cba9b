"""(rules, a track) -> does it fit? What the fields and operators of smart playlists are, and mean. Pure.

Whatever evaluates rules otherwise (SQL) must agree with `matches`:

- Texts compare without regard to case, as `folded` makes them; "%" and "_" mean themselves. Of a field with several
  values, one that fits is enough. A negation is true wherever what it negates is not, also where nothing is known.
- A missing text is "", a missing count 0, a missing flag false; a missing number or date fits no comparison.
- Dates compare as their ISO 8601 texts do (a moment in UTC as YYYY-MM-DDThh:mm:ssZ), so that a moment of a day comes
  after the day; `is` and the end of a range mean all of the day, month or year that they name. The last n days begin
  n days ago, at midnight UTC.

A row is a mapping from names of fields (small letters) to values: texts, numbers, flags, dates (date, datetime, or text
as above); a list or tuple where there are several; `playlists` is the ids, or paths as the rules have them, of the
playlists that the track is in.
"""

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from typing import Any

Value = str | int | float | bool | tuple[int | float | str, int | float | str]


class Of(Enum):
    """What a field holds."""

    TEXT = "a text"
    TAG = "one or more texts"
    NUMBER = "a number"
    COUNT = "a count"
    FLAG = "true or false"
    DATE = "a date"


TEXTS, NUMBERS = (Of.TEXT, Of.TAG), (Of.NUMBER, Of.COUNT)

_FIELDS = {
    Of.TEXT: """title album discsubtitle comment lyrics sorttitle sortalbum sortartist sortalbumartist albumcomment
        catalognumber filepath filetype codec explicitstatus mbz_album_id mbz_album_artist_id mbz_artist_id
        mbz_recording_id mbz_release_track_id mbz_release_group_id""",
    Of.TAG: """artist albumartist artists albumartists composer lyricist conductor arranger producer director engineer
        mixer remixer djmixer performer writer genre mood grouping releasetype releasecountry releasestatus recordlabel
        media language script key isrc asin barcode copyright encodedby encodersettings license website work subtitle
        movementname albumversion musicbrainz_discid musicbrainz_workid""",
    Of.NUMBER: """tracknumber discnumber year originalyear releaseyear size duration bitrate bitdepth samplerate bpm
        channels tracktotal disctotal movement movementtotal rgtrackgain rgtrackpeak rgalbumgain rgalbumpeak
        averagerating albumduration albumsongcount albumsize library_id""",
    Of.COUNT: "playcount rating albumplaycount albumrating artistplaycount artistrating",
    Of.FLAG: "hascoverart compilation missing loved albumloved artistloved",
    Of.DATE: """date originaldate releasedate dateadded datemodified dateloved lastplayed daterated albumlastplayed
        albumdateloved albumdaterated albumdateadded albumdatemodified artistlastplayed artistdateloved
        artistdaterated""",
}
FIELDS = {name: kind for kind, names in _FIELDS.items() for name in names.split()}
ALIASES = {"albumtype": "releasetype", "recordingdate": "date", "track": "tracknumber", "disc": "discnumber"}


@dataclass(frozen=True, slots=True)
class Rule:
    """One condition. For `inPlaylist` and `notInPlaylist` the field is `id` or `path`."""

    operator: str
    field: str
    value: Value
    kind: Of


@dataclass(frozen=True, slots=True)
class Group:
    """Conditions of which all (`every`) must hold, or any."""

    every: bool
    rules: "tuple[Rule | Group, ...]"


def matches(rules: Rule | Group, row: Mapping[str, Any], today: date) -> bool:
    """Does a track fit? `today` is the day in UTC from which `inTheLast` counts."""
    if isinstance(rules, Group):
        results = (matches(one, row, today) for one in rules.rules)
        return all(results) if rules.every else any(results)
    opposite = NEGATIONS.get(rules.operator)
    return _HOLDS[opposite or rules.operator](rules, row, today) != bool(opposite)


NEGATIONS = {
    "isNot": "is",
    "notContains": "contains",
    "notInTheLast": "inTheLast",
    "notInPlaylist": "inPlaylist",
    "isMissing": "isPresent",
}


def folded(text: str) -> str:
    """A text as it is compared."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def moment(value: Any) -> str:
    """A date as it is compared."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return value.isoformat() if isinstance(value, date) else str(value)


_MISSING: dict[Of, tuple[Any, ...]] = {Of.TEXT: ("",), Of.COUNT: (0,), Of.FLAG: (False,)}
_MADE: dict[Of, Callable[[Any], Any]] = {
    Of.TEXT: lambda value: folded(str(value)),
    Of.TAG: lambda value: folded(str(value)),
    Of.DATE: moment,
    Of.FLAG: bool,
}


def values(field: str, kind: Of, row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a track has in a field, as it is compared."""
    found = row.get(field)
    several = found if isinstance(found, (list, tuple, set, frozenset)) else (found,)
    made = _MADE.get(kind, lambda value: value)
    return tuple(made(one) for one in several if one is not None and one != "") or _MISSING.get(kind, ())


def _any(fits: Callable[[Any, Any], bool]) -> "Callable[[Rule, Mapping[str, Any], date], bool]":
    """An operator that one of a field's values must satisfy, with what the rule says."""

    def holds(rule: Rule, row: Mapping[str, Any], today: date) -> bool:
        told = folded(rule.value) if rule.kind in TEXTS and isinstance(rule.value, str) else rule.value
        return any(fits(one, told) for one in values(rule.field, rule.kind, row))

    return holds


def _is(rule: Rule, row: Mapping[str, Any], today: date) -> bool:
    if rule.kind is Of.DATE:
        return any(one.startswith(rule.value) for one in values(rule.field, rule.kind, row))
    return _EQUAL(rule, row, today)


def _within(one: Any, told: Any) -> bool:
    first, last = told
    return bool(first <= one and (one[: len(last)] if isinstance(one, str) else one) <= last)


def since(days: Any, today: date) -> str:
    """The day on which the last so many days begin."""
    return (today - timedelta(days=days)).isoformat()


def _lately(rule: Rule, row: Mapping[str, Any], today: date) -> bool:
    return any(one >= since(rule.value, today) for one in values(rule.field, rule.kind, row))


def _listed(rule: Rule, row: Mapping[str, Any], today: date) -> bool:
    return rule.value in (row.get("playlists") or ())


def _present(rule: Rule, row: Mapping[str, Any], today: date) -> bool:
    return any(one != "" for one in values(rule.field, rule.kind, row)) == rule.value


_EQUAL = _any(lambda one, told: bool(one == told))
_HOLDS: dict[str, Callable[[Rule, Mapping[str, Any], date], bool]] = {
    "is": _is,
    "gt": _any(lambda one, told: bool(one > told)),
    "lt": _any(lambda one, told: bool(one < told)),
    "contains": _any(lambda one, told: told in one),
    "startsWith": _any(lambda one, told: bool(one.startswith(told))),
    "endsWith": _any(lambda one, told: bool(one.endswith(told))),
    "inTheRange": _any(_within),
    "before": _any(lambda one, told: bool(one < told)),
    "after": _any(lambda one, told: bool(one > told)),
    "inTheLast": _lately,
    "inPlaylist": _listed,
    "isPresent": _present,
}
OPERATORS = (*_HOLDS, *NEGATIONS)
