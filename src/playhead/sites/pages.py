"""A page of a site -> media: what yt-dlp makes of it, each as soon as it is known.

yt-dlp runs in a process of its own (`playhead.sites.resolver`), so that whatever it or a site does can neither hang nor
fill this one, print, or ask anybody. It fetches no media itself, and goes through a list as fast as the media are
taken: the addresses of one are young when they are used.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from playhead import errors
from playhead.errors import Damaged, Failure, Unavailable
from playhead.tree import visible

QUIET = 120.0  # seconds in which yt-dlp must ask the network for something, or find something
LINE = 64 << 20  # bytes that may be said of one medium


@dataclass(frozen=True, slots=True)
class Track:
    """One stream of a medium: a file, or fragments that are joined as bytes.

    `urls` in order; `ranges`, where there are any, has for each the bytes [start, stop) that are meant, or None: all.
    `headers` is what the site wants to be sent, with cookies; `most` how many bytes it likes to be asked for at a time.
    `key` is what the site calls it, the same whenever it is asked, as its addresses are not.
    """

    urls: tuple[str, ...]
    headers: Mapping[str, str]
    extension: str
    ranges: tuple[tuple[int, int] | None, ...] = ()
    key: str = ""
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Medium:
    """One thing to be played: `name.extension`, of one track, or of several that are put together.

    `name` is clean, and short enough for endings. `subtitles`: language, URL, extension.
    """

    name: str
    tracks: tuple[Track, ...]
    subtitles: tuple[tuple[str, str, str], ...] = ()
    extension: str = ""

    @property
    def muxes(self) -> bool:
        """Is it another file than its one track?"""
        return len(self.tracks) > 1 or self.tracks[0].extension != self.extension


async def resolved(url: str, arguments: Sequence[str], *, proxy: str | None = None) -> AsyncGenerator[Medium, None]:
    """What there is to fetch on a page, each as soon as it is known; `arguments` are options of yt-dlp.

    Raises Malformed for options that cannot be given here; after all that could be had: why the rest could not.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "playhead.sites.resolver"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,  # without a terminal it can ask nobody; what it starts ends with it
        limit=LINE,
    )
    try:
        await _ask(process, {"url": url, "arguments": list(arguments), "proxy": proxy or ""})
        while (found := await _told(process, url)) is not None:
            if "medium" in found:
                yield _medium(found["medium"])
    finally:
        await _end(process)


async def _ask(process: asyncio.subprocess.Process, question: Mapping[str, Any]) -> None:
    assert process.stdin
    with suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(json.dumps(question).encode())
        await process.stdin.drain()
    process.stdin.close()


async def _told(process: asyncio.subprocess.Process, url: str) -> Mapping[str, Any] | None:
    """What yt-dlp says next; None: that was all. Raises the Failure that it tells of."""
    assert process.stdout
    try:
        async with asyncio.timeout(QUIET):
            line = await process.stdout.readline()
    except TimeoutError:
        raise Unavailable(f"{_shown(url)}: yt-dlp has got no further for {QUIET:.0f} s") from None
    except ValueError:
        raise Damaged(f"{_shown(url)}: the site tells more of one medium than there is room for") from None
    if not line:
        raise Unavailable(f"{_shown(url)}: yt-dlp ended before it was done (code {await process.wait()})")
    found: dict[str, Any] = json.loads(line)
    if "failure" in found:
        kind: type[Failure] = getattr(errors, found["failure"])
        raise kind(found["message"])
    return None if "end" in found else found


async def _end(process: asyncio.subprocess.Process) -> None:
    """End it, with all that it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.communicate()


def _medium(found: Mapping[str, Any]) -> Medium:
    tracks = tuple(
        Track(**each | {"urls": tuple(each["urls"]), "ranges": tuple(span and tuple(span) for span in each["ranges"])})
        for each in found["tracks"]
    )
    subtitles = tuple((language, url, extension) for language, url, extension in found["subtitles"])
    return Medium(found["name"], tracks, subtitles, found["extension"])


def _shown(url: str) -> str:
    """A page without what may be secret: user, password and query."""
    scheme, colon, rest = visible(url)[:500].partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{colon}{host.rpartition('@')[2]}{slash}{path}".partition("?")[0].partition("#")[0]
