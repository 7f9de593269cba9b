"""A question -> media: yt-dlp, in the process that `playhead.sites.pages` starts for it.

The question is one JSON object on standard input. The answer is JSON on standard output, an object a line: an empty
one whenever yt-dlp asks the network, a medium as soon as it is found, a failure, and that it is the end.

yt-dlp only resolves: no configuration of its own is read, and no file is written. Of its options only those can be
given that choose what is fetched, or say who asks for it.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

from playhead import secrets
from playhead.errors import Busy, Damaged, Denied, Failure, Malformed, NotFound, Unavailable
from playhead.sites.formats import medium
from playhead.tree import visible

Say = Callable[[Mapping[str, Any]], None]

MEMORY = 4 << 30  # bytes that yt-dlp may have
PLAYLIST = 16 << 20  # bytes of a playlist or manifest
SAID = 400  # letters of what yt-dlp says that are passed on

_OPTIONS = """
    -f -S -I --format-sort-reset --format-sort-force --no-format-sort-force --prefer-free-formats
    --no-prefer-free-formats --video-multistreams --no-video-multistreams --audio-multistreams --no-audio-multistreams
    --merge-output-format --playlist-start --playlist-end --playlist-reverse --lazy-playlist --no-playlist
    --yes-playlist --match-filters --match-title --reject-title --date --datebefore --dateafter --min-views --max-views
    --age-limit --write-subs --write-auto-subs --all-subs --sub-format --sub-langs
    -u -p --twofactor --netrc --netrc-location --video-password --ap-mso --ap-username --ap-password --cookies
    --cookies-from-browser --add-headers --user-agent --referer --xff --geo-verification-proxy --impersonate
    --use-extractors --force-generic-extractor --default-search --extractor-args --extractor-retries --socket-timeout
    --sleep-requests --ignore-config --no-plugin-dirs --js-runtimes --no-js-runtimes
    """
_ALLOWED = frozenset(_OPTIONS.split())
_SECRET = ("password", "twofactor", "videopassword", "ap_password")
_OVER: Mapping[str, Any] = {
    "quiet": True,
    "no_warnings": True,
    "noprogress": True,
    "warn_when_outdated": False,
    "ignoreerrors": True,  # in a list the others go on
    "cachedir": False,
    "check_formats": False,  # it would fetch some of each
    "postprocessors": [],
}
_NOISE = re.compile(r"\s*\(caused by .*|; please report this issue on .*|^ERROR:\s*", re.DOTALL)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_QUERY = re.compile(r"(https?://[^\s?#'\"]*)[?#][^\s'\"]*")
_STATUSES: Mapping[int, type[Failure]] = {
    401: Denied,
    402: Denied,
    403: Denied,
    404: NotFound,
    410: NotFound,
    429: Busy,
    451: Denied,
}


def main() -> None:
    """Answer the question on standard input."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (1, 2):  # whoever prints does not spoil the answers
        os.dup2(nothing, number)
    question = json.load(sys.stdin)
    os.dup2(nothing, 0)

    def say(what: Mapping[str, Any]) -> None:
        answers.write(f"{json.dumps(what)}\n")
        answers.flush()

    with suppress(BrokenPipeError):
        try:
            _limit()
            _resolve(question["url"], question["arguments"], question["proxy"], say)
            say({"end": True})
        except Failure as failure:
            say({"failure": type(failure).__name__, "message": failure.told})


def _limit() -> None:
    """No page can have us fill the memory."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _resolve(url: str, arguments: Sequence[str], proxy: str, say: Say) -> None:
    try:
        import yt_dlp
    except ImportError as error:
        raise Malformed("a page of a site needs the extra `sites`: pip install 'playhead[sites]'") from error
    screened(arguments)
    params: dict[str, Any] = _understood(lambda: yt_dlp.parse_options(["--ignore-config", *arguments]).ydl_opts)
    for secret in (urlsplit(url).query, urlsplit(url).fragment):
        secrets.hide(secret)
        secrets.hide(unquote(secret))
    try:
        ydl = yt_dlp.YoutubeDL({**params, **_OVER, "proxy": proxy})
        resolver = Resolver(ydl, say)
    except Exception as error:
        raise Malformed(f"yt-dlp: {_line(str(error))}") from error
    try:
        ydl.extract_info(url, force_generic_extractor=params["force_generic_extractor"])
    except (Failure, BrokenPipeError):
        raise
    except Exception as error:  # yt-dlp's own, and whatever a page makes it stumble over
        raise _failure(error, str(error) or type(error).__name__) from error
    resolver.end(url)


# ── options ──


def screened(arguments: Sequence[str]) -> None:
    """Raises Malformed for options that cannot be given here, before any of them has an effect."""
    from yt_dlp.options import create_parser

    parser = create_parser()
    for group in (parser, *parser.option_groups):
        for option in group.option_list:
            if _ALLOWED.isdisjoint(str(option).split("/")):
                option.process = _forbidden
    values, rest = _understood(lambda: parser.parse_args(list(arguments)))
    for secret in [*(getattr(values, name) for name in _SECRET), *values.headers.values()]:
        secrets.hide(secret or "")
    if rest:
        raise Malformed(f"{visible(rest[0])!r} is no option of yt-dlp; pages are given before the --")
    _asking_nobody(values)
    if any(":" in runtime for runtime in getattr(values, "js_runtimes", [])):
        raise Malformed("--js-runtimes can name a runtime here (deno, node), and no place where it is")
    if values.cookiefile is not None and not os.path.isfile(values.cookiefile):
        raise Malformed(f"there is no file of cookies {visible(values.cookiefile)!r}")


def _forbidden(name: str, *_: object) -> NoReturn:
    kinds = "what is fetched (-f, -S, -I, --match-filters, --write-subs) or say who asks (--cookies, -u, --add-headers)"
    raise Malformed(f"yt-dlp's {visible(name)} cannot be given here: only options that choose {kinds} can")


def _asking_nobody(values: Any) -> None:
    for user, password in (("username", "password"), ("ap_username", "ap_password")):
        if getattr(values, user) is not None and getattr(values, password) is None:
            raise Malformed("yt-dlp is given a user and no password, and cannot ask for it: give -p, or --netrc")
    if values.format == "-" or "-" in (values.match_filter or []):
        raise Malformed("yt-dlp cannot ask what to fetch: say it by -f and --match-filters")


def _understood(parse: Callable[[], Any]) -> Any:
    import optparse

    try:
        return parse()
    except optparse.OptParseError as error:
        raise Malformed(f"yt-dlp: {_line(str(error).rpartition('error: ')[2])}") from error


# ── what yt-dlp finds ──


class Resolver:
    """Tells of what yt-dlp finds, in place of yt-dlp's downloading it. See `formats.Site`."""

    def __init__(self, ydl: Any, say: Say) -> None:
        self.ydl, self.say, self.asking = ydl, say, ydl.urlopen
        self.failures: list[Failure] = []
        self.names: set[str] = set()
        ydl.urlopen, ydl.process_info, ydl.trouble = self.urlopen, self.process_info, self.trouble

    def urlopen(self, request: Any) -> Any:
        self.say({})
        return self.asking(request)

    def trouble(self, message: str | None = None, tb: object = None, is_error: bool = True) -> None:
        if is_error:
            self.failures.append(_failure(sys.exception(), message or ""))

    def process_info(self, info: dict[str, Any]) -> None:
        """What yt-dlp would download now."""
        if self.ydl._match_entry(info) is not None:
            return
        title = visible(str(info.get("title")))[:100]
        try:
            found = medium(info, self.names, self)
        except Failure as failure:
            self.failures.append(type(failure)(f"{title!r}: {failure}"))
        except Exception as error:
            self.failures.append(_failure(error, f"{title!r}: {error}"))
        else:
            self.names.add(found.name)
            self.say({"medium": asdict(found)})

    def end(self, url: str) -> None:
        """Raises why something could not be had."""
        if self.failures:
            first, more = self.failures[0], len(self.failures) - 1
            raise type(first)(f"{first}; and {more:,} more could not be had" if more else str(first))
        if not self.names:
            raise NotFound(f"{_line(url)}: there is nothing to fetch on it, or the options leave nothing")

    def fetched(self, url: str, headers: Mapping[str, str]) -> tuple[bytes, str]:
        """A small file, whole, and the address where it was found. Raises a Failure."""
        from yt_dlp.networking.common import Request

        try:
            with self.ydl.urlopen(Request(url, headers=dict(headers))) as response:
                data: bytes = response.read(PLAYLIST + 1)
                told, coded = response.get_header("Content-Length"), response.get_header("Content-Encoding")
                place = str(response.url)
        except BrokenPipeError:
            raise
        except Exception as error:
            raise _failure(error, f"a playlist of it cannot be had: {error}") from error
        if len(data) > PLAYLIST:
            raise Malformed(f"a playlist of it has more than {PLAYLIST >> 20} MiB")
        if told and told.isdecimal() and not coded and len(data) != int(told):
            raise Unavailable("a playlist of it was cut off; try again")
        return data, place

    def cookie(self, url: str) -> str | None:
        """The cookies that an address is to be sent."""
        found: str | None = self.ydl.cookiejar.get_cookie_header(url)
        return found


# ── errors ──


def _failure(error: BaseException | None, message: str) -> Failure:
    """What went wrong in yt-dlp, as ours."""
    from yt_dlp.networking.exceptions import HTTPError, RequestError
    from yt_dlp.utils import ExtractorError, GeoRestrictedError, UnsupportedError

    text, cause = _line(message), getattr(error, "cause", None) or error
    if isinstance(error, Failure):
        return error
    if isinstance(cause, HTTPError):
        status = int(cause.status)
        return _STATUSES.get(status, Unavailable if status >= 500 else Damaged)(text)
    if isinstance(cause, RequestError | OSError):
        return Unavailable(text)
    if isinstance(error, GeoRestrictedError):
        return Denied(text)
    if isinstance(error, UnsupportedError):
        return NotFound(f"{text}: there is nothing on this page that yt-dlp knows how to fetch")
    if "format is not available" in text:
        return Malformed(f"{text.partition('. Use --list')[0]}; choose another one by -f")
    if isinstance(error, ExtractorError) and error.expected:
        return NotFound(text)
    return Damaged(f"yt-dlp stumbles over it: {text}; a newer yt-dlp may not")


def _line(message: str) -> str:
    """One line of what yt-dlp says, without what may be secret."""
    text = _QUERY.sub(r"\1", _COLOUR.sub("", message))
    return visible(secrets.scrub(" ".join(_NOISE.sub("", text).split())))[:SAID]


if __name__ == "__main__":
    main()
