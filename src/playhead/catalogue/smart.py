"""JSON -> Smart: playlists by rules, as Navidrome's `.nsp` files have them. Pure.

Everything is checked when it is read: an unknown key, field or operator, or a value that does not fit its field, is
Malformed, which says where. Names are read in any case, and comments (`//`, `/* */`) are left out, as Navidrome does.
What rules mean is in `criteria`; `select` is the whole playlist of some tracks, for whatever evaluates it otherwise
(SQL) to agree with.
"""

import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from random import Random
from typing import Any, NoReturn

from playhead import media
from playhead.catalogue import criteria
from playhead.catalogue.criteria import ALIASES, FIELDS, NUMBERS, OPERATORS, TEXTS, Group, Of, Rule, Value
from playhead.errors import Malformed

LARGEST = 256 << 10  # bytes of a file
DEPTH = 16  # groups within each other
RULES = 1000
DAYS = 100_000  # the furthest that "in the last" reaches back

RANDOM = "random"

_TOKEN = re.compile(r'("(?:[^"\\]|\\.)*+(?:"|\\?\Z))|//[^\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)
_DATE = re.compile(r"[0-9]{4}(?:-(?:0[1-9]|1[0-2])(?:-[0-9]{2})?)?")
_DELAY = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|[smhdw])")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_OPERATORS = {name.lower(): name for name in OPERATORS}
_KEYS = ("name", "comment", "all", "any", "sort", "order", "limit", "limitPercent", "offset", "public", "refreshDelay")
_CANONICAL = {name.lower(): name for name in _KEYS}


@dataclass(frozen=True, slots=True)
class Sort:
    """A field that tracks are in the order of; `random` is in none. What is missing comes first, descending last."""

    field: str
    descending: bool
    kind: Of | None  # None: random


@dataclass(frozen=True, slots=True)
class Smart:
    """A smart playlist. At most `limit` tracks, or `percent` of those that fit, but one if any fits; None: all."""

    rules: Group
    sort: tuple[Sort, ...]
    name: str = ""
    comment: str = ""
    limit: int | None = None
    percent: int | None = None
    offset: int = 0
    public: bool | None = None
    refresh_s: float | None = None  # how long the tracks stay as they are


def matches(rule: Smart | Group | Rule, row: Mapping[str, Any], *, today: date | None = None) -> bool:
    """Does a track fit the rules? See `criteria` for what they mean and what a row has."""
    rules = rule.rules if isinstance(rule, Smart) else rule
    return criteria.matches(rules, row, today or datetime.now(UTC).date())


def select(
    playlist: Smart, rows: Iterable[Mapping[str, Any]], *, today: date | None = None, seed: int = 0
) -> list[Mapping[str, Any]]:
    """The tracks of a smart playlist, in its order; `seed` decides where that is random."""
    day = today or datetime.now(UTC).date()
    found = [row for row in rows if criteria.matches(playlist.rules, row, day)]
    chance = Random(seed)
    most = len(found) if playlist.percent is None else max(1, len(found) * playlist.percent // 100)
    most = most if playlist.limit is None else playlist.limit
    for one in reversed(playlist.sort):
        if one.kind is None:
            chance.shuffle(found)
        else:
            found.sort(key=_key(one.field, one.kind), reverse=one.descending)
    return found[playlist.offset : playlist.offset + most]


def _key(field: str, kind: Of) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    def key(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return criteria.values(field, kind, row)

    return key


# ── reading ──


def smart(data: bytes, tags: Collection[str] = ()) -> Smart:
    """What a `.nsp` file says; `tags` are names of fields beside those that are always known. Raises Malformed."""
    told = _json(data)
    if not isinstance(told, dict):
        raise Malformed("a smart playlist is a JSON object, {...}")
    given = {_key_of(key): value for key, value in told.items()}
    fields = FIELDS | {tag.lower(): Of.TAG for tag in tags if tag.lower() not in FIELDS}
    groups = [name for name in ("all", "any") if name in given]
    if len(groups) != 1:
        raise Malformed("a smart playlist has either 'all' or 'any' with its rules, and not both")
    if given.get("limit") and given.get("limitPercent"):
        raise Malformed("'limit' and 'limitPercent' exclude each other")
    return Smart(
        rules=_Reader(fields).group(groups[0], given[groups[0]], groups[0], 1),
        sort=_sort(_text(given, "sort"), _text(given, "order"), fields),
        name=_text(given, "name"),
        comment=_text(given, "comment"),
        limit=_whole(given, "limit", 1 << 31) or None,
        percent=_whole(given, "limitPercent", 100) or None,
        offset=_whole(given, "offset", 1 << 31),
        public=_flag(given, "public"),
        refresh_s=_delay(_text(given, "refreshDelay")),
    )


def _json(data: bytes) -> Any:
    if len(data) > LARGEST:
        raise Malformed(f"smart playlists of more than {LARGEST >> 10} KiB are not read")
    text = _TOKEN.sub(lambda found: found[1] or " ", media.to_utf8(data).decode("utf-8"))
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"this is not JSON: {error}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    told = dict(pairs)
    if len({key.lower() for key in told}) != len(pairs):
        raise Malformed(f"a key is there twice: {', '.join(sorted(repr(key[:40]) for key, _ in pairs[:8]))}")
    return told


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _key_of(key: str) -> str:
    if key.lower() not in _CANONICAL:
        raise Malformed(f"{key[:40]!r} is unknown; a smart playlist has {', '.join(_KEYS)}")
    return _CANONICAL[key.lower()]


def _text(given: dict[str, Any], key: str) -> str:
    value = given.get(key, "")
    if not isinstance(value, str):
        raise Malformed(f"{key!r} is {_shown(value)}, but takes a text")
    return _plain(value).strip()


def _whole(given: dict[str, Any], key: str, most: int) -> int:
    value = given.get(key, 0)
    if type(value) is not int or not 0 <= value <= most:
        raise Malformed(f"{key!r} is {_shown(value)}, but takes a whole number up to {most}")
    return value


def _flag(given: dict[str, Any], key: str) -> bool | None:
    value = given.get(key)
    if value is not None and type(value) is not bool:
        raise Malformed(f"{key!r} is {_shown(value)}, but takes true or false")
    return value


def _delay(text: str) -> float | None:
    """ "1d12h" in seconds."""
    if not text:
        return None
    parts = _DELAY.findall(text[:200])
    if "".join(number + unit for number, unit in parts) != text:
        raise Malformed(f"'refreshDelay' is {text[:40]!r}, but takes a time like 12h, 1d or 1w2d")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _sort(text: str, order: str, fields: Mapping[str, Of]) -> tuple[Sort, ...]:
    if order.lower() not in ("", "asc", "desc"):
        raise Malformed(f"'order' is {order[:40]!r}, but takes asc or desc")
    found = []
    for part in (text or "title").split(",")[:100]:
        name = part.strip()
        down = name.startswith("-") != (order.lower() == "desc")
        field = _field(name.lstrip("+-").strip(), {**fields, RANDOM: Of.NUMBER}, "sort")
        found.append(Sort(field, down, None if field == RANDOM else fields[field]))
    return tuple(found)


def _field(name: str, fields: Mapping[str, Of], where: str) -> str:
    field = ALIASES.get(name.lower(), name.lower())
    if field not in fields:
        raise Malformed(f"{where}: there is no field {name[:40]!r}")
    return field


def _plain(text: str) -> str:
    """A text without half characters, which JSON can have."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _shown(value: Any) -> str:
    return json.dumps(value)[:60]


class _Reader:
    """Reads rules: at most so many of them in all."""

    def __init__(self, fields: Mapping[str, Of]) -> None:
        self.fields = fields
        self.count = 0

    def group(self, name: str, told: Any, where: str, depth: int) -> Group:
        if depth > DEPTH:
            raise Malformed(f"{where}: more than {DEPTH} groups are within each other")
        if not isinstance(told, list) or not told or not all(isinstance(one, dict) and one for one in told):
            raise Malformed(f"{where}: takes a list of rules, [{{...}}, ...]")
        rules = [
            self._rule(key, value, f"{where}[{number}]", depth)
            for number, one in enumerate(told)
            for key, value in one.items()
        ]
        return Group(name == "all", tuple(rules))

    def _rule(self, key: str, told: Any, where: str, depth: int) -> Rule | Group:
        self.count += 1
        if self.count > RULES:
            raise Malformed(f"more than {RULES:,} rules are not read")
        if key.lower() in ("all", "any"):
            return self.group(key.lower(), told, f"{where}.{key.lower()}", depth + 1)
        operator = _OPERATORS.get(key.lower())
        if operator is None:
            raise Malformed(f"{where}: there is no operator {key[:40]!r}")
        where = f"{where}.{operator}"
        if not isinstance(told, dict) or len(told) != 1:
            raise Malformed(f"{where}: takes one field and its value, {{field: value}}")
        [(name, value)] = told.items()
        if operator in ("inPlaylist", "notInPlaylist"):
            return _membership(operator, name, value, where)
        field = _field(name, self.fields, where)
        kind = self.fields[field]
        return Rule(operator, field, _value(operator, kind, value, f"{where}.{field}"), kind)


def _membership(operator: str, name: str, value: Any, where: str) -> Rule:
    if name.lower() not in ("id", "path") or not isinstance(value, str) or not value:
        raise Malformed(f'{where}: takes a playlist, {{"id": "..."}} or {{"path": "..."}}')
    return Rule(operator, name.lower(), _plain(value), Of.TEXT)


def _value(operator: str, kind: Of, value: Any, where: str) -> Value:
    """A rule's value. Raises Malformed where the operator is none for such a field, or takes another value."""
    for operators, kinds, wanted, check in _TAKES:
        if operator in operators and kind in kinds:
            made = check(value)
            if made is None:
                raise Malformed(f"{where}: is {_shown(value)}, but takes {wanted}")
            return made
    raise Malformed(f"{where}: {operator!r} is not for a field that holds {kind.value}")


def _a_text(value: Any) -> Value | None:
    return _plain(value) if isinstance(value, str) else None


def _a_number(value: Any) -> int | float | None:
    fits = type(value) in (int, float) and math.isfinite(value) and abs(value) < 1 << 63
    return value if fits else None


def _a_flag(value: Any) -> Value | None:
    return value if type(value) is bool else None


def _a_date(value: Any) -> str | None:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        return None
    try:
        date.fromisoformat(value + "-01-01"[len(value) - 4 :])
    except ValueError:
        return None
    return value


def _days(value: Any) -> Value | None:
    return value if type(value) is int and 0 <= value <= DAYS else None


def _two(check: Callable[[Any], Any]) -> Callable[[Any], Value | None]:
    def both(value: Any) -> Value | None:
        first, last = map(check, value) if isinstance(value, list) and len(value) == 2 else (None, None)
        return None if first is None or last is None else (first, last)

    return both


_EVERY = tuple(Of)
_A_DATE = "a date, YYYY-MM-DD"
_TAKES: list[tuple[tuple[str, ...], tuple[Of, ...], str, Callable[[Any], Value | None]]] = [
    (("is", "isNot", "contains", "notContains", "startsWith", "endsWith"), TEXTS, "a text", _a_text),
    (("is", "isNot", "gt", "lt"), NUMBERS, "a number", _a_number),
    (("is", "isNot"), (Of.FLAG,), "true or false", _a_flag),
    (("is", "isNot", "before", "after"), (Of.DATE,), _A_DATE, _a_date),
    (("inTheRange",), NUMBERS, "two numbers, [from, to]", _two(_a_number)),
    (("inTheRange",), (Of.DATE,), "two dates, [from, to]", _two(_a_date)),
    (("inTheLast", "notInTheLast"), (Of.DATE,), f"a number of days up to {DAYS}", _days),
    (("isMissing", "isPresent"), (*TEXTS, Of.NUMBER, Of.DATE), "true or false", _a_flag),
]
