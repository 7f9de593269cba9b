"""What we say on standard error: one line an event, as text or as JSON, with no secret in it."""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from playhead.secrets import Scrubber, scrub

_OWN = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class Text(logging.Formatter):
    """`HH:MM:SS line`, with the level where it is a warning or worse."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        if record.levelno < logging.WARNING:
            return line
        time, _, rest = line.partition(" ")
        return f"{time} {record.levelname.lower()}: {rest}"


class Json(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        event = {"time": when, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        event |= {name: _scrubbed(value) for name, value in record.__dict__.items() if name not in _OWN}
        if record.exc_text:
            event["traceback"] = record.exc_text
        return json.dumps(event, default=str)


def _scrubbed(value: Any) -> Any:
    """A value as JSON can hold it, without secrets however deep."""
    if isinstance(value, Mapping):
        return {scrub(str(key)): _scrubbed(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_scrubbed(inner) for inner in value]
    return value if value is None or isinstance(value, int | float) else scrub(str(value))


def begin(level: str, form: str) -> None:
    """Write the records of this program from `level` on to standard error, as "text" or "json"."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json() if form == "json" else Text())
    handler.addFilter(Scrubber())
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.WARNING)
    logging.getLogger("playhead").setLevel(level.upper())
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL if level != "debug" else logging.DEBUG)
