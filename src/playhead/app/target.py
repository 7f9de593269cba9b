"""What a request is for: the names in its path, the fields of its query; and how the log calls it."""

import re
from urllib.parse import parse_qs, unquote_to_bytes

from playhead.doors import asgi
from playhead.errors import Malformed


def query(scope: asgi.Scope) -> dict[str, list[str]]:
    """The fields of the query. Raises Malformed."""
    if not (text := scope.get("query_string", b"")):
        return {}
    try:
        return parse_qs(text.decode("latin-1"), keep_blank_values=True, errors="surrogateescape", max_num_fields=1000)
    except ValueError as error:
        raise Malformed("the query has too many fields") from error


def decoded(segment: str) -> str:
    """A segment of a path as a name. Raises Malformed."""
    if "%" not in segment and segment.isascii():
        return segment
    if re.search("%2f", segment, re.IGNORECASE):
        raise Malformed("a name cannot hold a '/' (%2F); it is shown as '\uff0f'")
    return unquote_to_bytes(segment.encode("latin-1")).decode("utf-8", "surrogateescape")


def asked_for(scope: asgi.Scope) -> str:
    """Method and path, for the log."""
    return plain(f"{scope['method']} {asgi.raw_path(scope)}")


def plain(text: str) -> str:
    """What may stand in a line of the log: nothing that steers a terminal."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
