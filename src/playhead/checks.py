"""Values of a configuration, checked: functions that give a value as it is used; a ValueError says what is wanted."""

import re
from collections.abc import Callable
from typing import Any


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text in quotes is wanted")
    return value


def truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false is wanted")
    return value


def texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("a list of texts is wanted")
    return tuple(text(item) for item in value)


def one_or_more(value: Any) -> tuple[str, ...]:
    if "" in (found := (value,) if isinstance(value, str) else texts(value)):
        raise ValueError("an empty text names nothing; a tree, a folder or a URL is wanted")
    return found


def folders(value: Any) -> dict[str, str]:
    for name, found in headers(value).items():
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise ValueError(f"{name!r} cannot be the name of a folder")
        one_or_more(found)
    return headers(value)


def keeping(value: Any) -> bool | str:
    if not isinstance(value, bool) and value != "plain":
        raise ValueError('true, false or "plain" is wanted')
    return bool(value) if isinstance(value, bool) else str(value)


def headers(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError('a table of names and values is wanted, as { X-Name = "value" }')
    return {name: text(found) for name, found in value.items()}


def prefix(value: Any) -> str:
    if text(value) and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", value):
        raise ValueError('a path as "/music" is wanted')
    return str(value)


def origins(value: Any) -> tuple[str, ...]:
    for origin in texts(value):
        if not re.fullmatch(r"https?://[^/\s]+", origin):
            raise ValueError(f'{origin!r} is not an origin as "https://example.org"')
    return texts(value)


def one_of(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"one of {', '.join(choices)} is wanted")
        return str(value)

    return check


_UNITS = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}
_UNITS |= {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


def size(value: Any) -> int:
    """Bytes: a number, or a text as "10 GB" or "256MiB"."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)\s*([A-Za-z]*)", str(value)) if value is not True else None
    if match is None or isinstance(value, bool | list | dict) or match[2].lower() not in _UNITS:
        raise ValueError('a size is wanted, as 1000000, "256 MiB" or "10 GB"')
    return int(float(match[1]) * _UNITS[match[2].lower()])


def at_least(least: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if (found := size(value)) < least:
            raise ValueError(f"at least {least:,} bytes are wanted")
        return found

    return check


def number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise ValueError("a number above 0 is wanted")
    return float(value)


def count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 10_000:
        raise ValueError("a whole number from 1 to 9999 is wanted")
    return value


def many(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 10_000_000:
        raise ValueError("a whole number from 1 to 10,000,000 is wanted")
    return value


def prefixes(value: Any) -> tuple[str, ...]:
    for prefix in texts(value):
        if not re.fullmatch(r"https?://[^/\s]+/\S*", prefix):
            raise ValueError(f'{prefix!r} is not the beginning of URLs as "https://example.org/music/"')
    return texts(value)


def table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("a table is wanted")
    return value
