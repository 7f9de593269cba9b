"""URLs as they are asked for, and as they may be shown: without user, password or query, for there secrets are."""

import re
from urllib.parse import quote

from yarl import URL

from playhead.errors import Malformed


def bare(text: str) -> URL:
    """A URL as it is asked for: without user, password and fragment. Raises Malformed."""
    return parsed(text).with_user(None).with_fragment(None)


def parsed(text: str) -> URL:
    """A URL of http or https, exactly as it was given. Raises Malformed, without what may be a secret."""
    bare = re.sub(r"//.*@", "//", re.sub(r"[?#].*", "", text))
    try:
        url = URL(text)
        if text.isascii() and text.isprintable() and " " not in text and "/." not in text:
            url = URL(text, encoded=True)
        _ = url.port
    except ValueError as error:
        raise Malformed(f"{bare!r} is not a URL") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise Malformed(f"{bare!r} is not an http or https URL")
    return url


def quoted(location: str) -> str:
    """A Location header with what must not stand in a URL quoted, and all else as it was."""
    return quote(location.strip().encode("utf-8", "surrogateescape"), safe="%/:?#[]@!$&'()*+,;=~-._")


def proxy_of(text: str | None) -> URL | None:
    try:
        url = URL(text or "")
        _ = url.port
    except ValueError:
        url = URL("")
    if text and (url.scheme not in ("http", "https", "socks4", "socks5", "socks5h") or not url.host):
        raise Malformed("the proxy of this source is not a URL as http://host:3128 or socks5://host:1080")
    return url if text else None


def shown(url: URL) -> str:
    """A URL as it may be logged: without user, password or query."""
    bare = url.with_query(None).with_fragment(None)
    return str(bare.with_user(None) if bare.host else bare)
