"""Nothing -> access tokens for the requests of a source at Google.

At most one token request is under way, whoever waits for it; it is nobody's in particular, so one who leaves does not
end it. A token is renewed a minute before it ends, while the old one is still used. A refusal is remembered for a
minute, or until the file that it is about changes: a new login is taken without a restart.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from playhead.errors import Failure, Malformed, Unavailable
from playhead.origins.drive.accounts import Token
from playhead.origins.drive.exchange import Requests, Send

DEADLINE = 30.0  # seconds for a token
ALIVE = 10.0  # seconds before its end that a token is still used while it is renewed
REST = 5.0  # seconds between attempts to renew one that is still used
REMEMBERED = 60.0  # seconds that a refusal stands


class Grant(Protocol):
    """What tokens are asked for with. Its methods are called in a thread, one at a time."""

    @property
    def known_by(self) -> str:
        """What stands for the account in tags; "" while it is not known."""

    @property
    def scopes(self) -> tuple[str, ...]:
        """What it is allowed, as far as is known."""

    def stamp(self) -> object:
        """Changes when what it is read from does."""

    def token(self, ask: Requests, refused: str) -> Token:
        """A token, not the one of the header `refused`. Raises a Failure."""

    def told(self) -> str:
        """What it is, for people. Raises a Failure."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    failure: Failure
    stamp: object
    until: float


class Tokens:
    """The access tokens of one source. Belongs to the loop that it is first used in."""

    def __init__(self, grant: Grant, send: Send, close: Callable[[], Awaitable[None]] | None = None) -> None:
        """`close` gives back what `send` sends with."""
        _installed()
        self._close = close
        self.grant, self._send = grant, send
        self._token: Token | None = None
        self._flight: asyncio.Task[Token] | None = None
        self._refused = ""  # the header that was refused last
        self._refusal: _Refusal | None = None
        self._rests = 0.0  # until then, one that is still used is not renewed
        self._closed = False

    @property
    def known_by(self) -> str:
        """What stands for the account in tags, and for what is kept: the same after a new login of it."""
        return self.grant.known_by

    @property
    def scopes(self) -> tuple[str, ...]:
        """What was granted, as "drive.readonly"; known once a token was had."""
        return self.grant.scopes

    async def header(self) -> str:
        """The Authorization header of a request. Raises Unknown, Denied, Malformed, Unavailable, Busy or Damaged."""
        now, current = time.time(), self._token
        if current is not None and now < current.stale:
            return current.header
        if current is None or now > current.expires - ALIVE:
            return (await self._next()).header
        if self._rests < time.monotonic():
            self._rests = time.monotonic() + REST
            self._begun()
        return current.header

    async def renewed(self, used: str) -> str:
        """Another header than `used`, which was answered by 401. Raises as `header`."""
        if self._token is not None and self._token.header != used:
            return await self.header()
        self._refused, self._token = used, None
        for _ in range(2):  # the first may be one that had begun before
            if (header := (await self._next()).header) != used:
                return header
            self._token = None
        raise Unavailable("Google refuses an access token, and gives the same one again; try again later")

    async def report(self) -> str:
        """What the tokens are of, for people, after one was asked for anew. Raises as `header`."""
        header = await self.header()
        if self._token is not None and self._token.kept:
            await self.renewed(header)
        return await asyncio.to_thread(self.grant.told)

    async def aclose(self) -> None:
        """End what is under way."""
        self._closed = True
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait([self._flight])
        if self._close is not None:
            await self._close()

    async def _next(self) -> Token:
        flight = self._begun()
        try:
            return await asyncio.shield(flight)
        except Failure as failure:
            raise type(failure)(str(failure), after=failure.after) from failure  # each who waits adds its own notes
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if flight.cancelled() and task is not None and not task.cancelling():
                raise Unavailable("this source was closed") from None
            raise

    def _begun(self) -> "asyncio.Task[Token]":
        if self._closed:
            raise Unavailable("this source was closed")
        if self._flight is None or self._flight.done():
            self._flight = asyncio.create_task(self._fetched())
            self._flight.add_done_callback(lambda flight: flight.cancelled() or flight.exception())
        return self._flight

    async def _fetched(self) -> Token:
        ask = Requests(self._send, asyncio.get_running_loop(), DEADLINE)
        try:
            async with asyncio.timeout(DEADLINE):
                self._token = await asyncio.to_thread(self._asked, ask)
            return self._token
        except TimeoutError:
            raise Unavailable(f"Google gave no token within {DEADLINE:.0f} s; try again later") from None
        finally:
            ask.stop()

    def _asked(self, ask: Requests) -> Token:
        stamp, before = self.grant.stamp(), self._refusal
        if before is not None and before.stamp == stamp and time.monotonic() < before.until:
            raise before.failure
        try:
            found = self.grant.token(ask, self._refused)
        except Failure as failure:
            self._refusal = None if failure.again else _Refusal(failure, stamp, time.monotonic() + REMEMBERED)
            raise
        self._refusal = None
        return found


def _installed() -> None:
    try:
        import google.auth  # noqa: F401
    except ImportError:
        raise Malformed("Google Drive needs the extra `gdrive`: pip install 'playhead[gdrive]'") from None
