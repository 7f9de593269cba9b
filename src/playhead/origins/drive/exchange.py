"""A question to Google's token endpoint -> its answer, or the Failure that its refusal means.

google-auth asks from a thread; what it sends goes out in the loop, through the source's own client, so that proxy,
certificates and limits hold for it too. What cannot be reached is Unavailable; what is refused is told apart by a
table, with what to do. Answers are strangers': bounded, and quoted without controls and secrets.
"""

import asyncio
import concurrent.futures
import json
import re
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

from playhead import secrets
from playhead.errors import Busy, Damaged, Denied, Failure, Malformed, Unavailable, Unknown
from playhead.origins.addresses import bare
from playhead.origins.drive.granted import Login, is_token, short
from playhead.origins.fetch import Client, date, retry_after, translated
from playhead.tree import visible

LARGEST = 64 << 10  # bytes of an answer
LIFE = 3600.0  # seconds that an access token lives where nobody says
FOREVER = 1e8  # and what nobody may say
PATIENCE = 30.0  # seconds for the answer to a login
SKEW = 120.0  # seconds that clocks may differ

Send = Callable[[str, str, bytes, Mapping[str, str]], Awaitable[tuple[int, Mapping[str, str], bytes]]]
Table = Mapping[str, tuple[type[Failure], str]]

_TIMES = re.compile(r"\b(iat|exp)\b|short-lived")

CONSOLE = "on the Clients page of the Google Cloud console"
CLIENT: Table = {
    "invalid_client": (Denied, f"does not accept client_id and client_secret; compare them with those {CONSOLE}"),
    "deleted_client": (
        Denied,
        f"says that this OAuth client was deleted; make another one {CONSOLE}, put it into the configuration, and run "
        "`playhead login {name}`",
    ),
    "disabled_client": (Denied, f"says that this OAuth client is disabled; see why {CONSOLE}"),
    "unauthorized_client": (
        Denied,
        f"does not let this OAuth client ask in this way; make one of type 'Desktop app' {CONSOLE}, and run "
        "`playhead login {name}`",
    ),
    "access_denied": (
        Denied,
        "was told to refuse access, by the user or by the administrator of the organisation; ask them to allow the app",
    ),
    "admin_policy_enforced": (Denied, "refuses this app by an administrator's policy; ask them to allow it"),
    "org_internal": (Denied, f"lets only members of the app's organisation in; see 'Audience' {CONSOLE}"),
    "invalid_scope": (Denied, "does not grant this access; see `scope` of the tree"),
}
LOGIN: Table = {
    **CLIENT,
    "invalid_grant": (
        Unknown,
        "no longer accepts the login of tree {name}: it was withdrawn, or not used for months, or the app is in "
        "'Testing' (it loses its logins after 7 days; publish it); run `playhead login {name}`",
    ),
}
CODE: Table = {
    **CLIENT,
    "invalid_grant": (Denied, "no longer accepts this answer: each is good once, for minutes; begin again"),
    "redirect_uri_mismatch": (Denied, f"wants an OAuth client of type 'Desktop app'; make one {CONSOLE}"),
}
_KEY = "does not accept the key of service account {who}; was it deleted? Make a new one, and put it into the tree"
_ACT = "does not let {who} act for {subject}: an administrator allows it under 'Domain-wide delegation', with {scopes}"
ACCOUNT: Table = {
    "invalid_grant": (Unknown, _KEY),
    "invalid_client": (Unknown, _KEY),
    "deleted_client": (Denied, "says that service account {who} was deleted"),
    "disabled_client": (Denied, "says that service account {who} is disabled; enable it, or use another"),
    "unauthorized_client": (Denied, _ACT),
    "access_denied": (Denied, _ACT),
    "invalid_scope": (Denied, "does not grant this access; see `scope` of the tree"),
}


class Refused(Exception):
    """The token endpoint said no: `error` is its name for why, `said` its words, `ahead` how far our clock is."""

    def __init__(self, error: str, said: str, ahead: float) -> None:
        super().__init__(error)
        self.error, self.said, self.ahead = error, said, ahead

    def failure(self, table: Table, **names: str) -> Failure:
        """What it means for a tree."""
        if self.said.startswith("Invalid JWT") and _TIMES.search(self.said):
            off = f" is {abs(self.ahead) / 60:.0f} minutes {'ahead' if self.ahead > 0 else 'behind'}"
            wrong = off if abs(self.ahead) >= SKEW else " may be wrong"
            return Denied(
                f"Google refuses what this machine signed, for its clock{wrong}; set the clock{self._quote()}"
            )
        kind, what = table.get(self.error, (Denied, "refuses a token for tree {name}"))
        told = what.format(**{name: visible(text) for name, text in names.items()})
        return kind(f"Google {told}{self._quote()}")

    def _quote(self) -> str:
        words = self.error if not self.said else f"{self.error}: {self.said}"
        return f" ({visible(secrets.scrub(words))[:200]})"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the token endpoint, as google-auth reads it."""

    status: int
    headers: Mapping[str, str]
    data: bytes = field(repr=False)


def accepted(url: str, status: int, headers: Mapping[str, str], data: bytes) -> Answer:
    """The answer that gives a token, checked. Raises Refused, or Unavailable, Busy or Damaged."""
    headers = {name.lower(): value for name, value in headers.items()}
    host = urlsplit(url).hostname
    if len(data) > LARGEST:
        raise Damaged(f"{host} answers a token request with more than {LARGEST:,} bytes")
    if status == 200:
        return Answer(status, headers, _token(data, f"{host}"))
    error, said = _named(data)
    if status == 429:
        raise Busy(
            f"{host} says that there were too many token requests", after=retry_after(headers.get("retry-after"))
        )
    if (
        status >= 500
        or status in (407, 408)
        or error in ("internal_failure", "server_error", "temporarily_unavailable")
    ):
        raise Unavailable(f"{host} answers a token request with {status}; try again later")
    if not error:
        raise Unavailable(f"{host} answers {status} instead of a token; is a proxy or a network's login in between?")
    there = date(headers.get("date"))
    raise Refused(error, said, (datetime.now(UTC) - there).total_seconds() if there else 0.0)


def _token(data: bytes, host: str) -> bytes:
    """What is used of an answer (RFC 6749, 5.1), each value as it must be. Raises Damaged."""
    try:
        found = json.loads(data)
        token, seconds = found["access_token"], float(found.get("expires_in", LIFE))
        bearer = found.get("token_type", "").lower() in ("", "bearer")
        if not is_token(token) or not bearer or not 0 <= seconds < FOREVER:
            raise ValueError("it is not a bearer token")
        refresh, scope = found.get("refresh_token"), found.get("scope")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        what = f"{host} answers with what is not a token; is a proxy or a network's login in between?"
        raise Damaged(what) from None
    used = {"access_token": secrets.hide(token, brief=True), "expires_in": int(seconds)}
    used |= {"refresh_token": secrets.hide(refresh)} if is_token(refresh) else {}
    used |= {"scope": scope} if isinstance(scope, str) else {}
    return json.dumps(used).encode()


def _named(data: bytes) -> tuple[str, str]:
    """Why it refuses: in a word ("" where it does not say), and in a sentence."""
    try:
        record = json.loads(data)
        error, said = record["error"], record.get("error_description")
        if isinstance(error, dict):  # as Google's other services say it
            inner: dict[str, Any] = error
            error, said = inner.get("status"), inner.get("message")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "", ""
    return (error if isinstance(error, str) else "", said if isinstance(said, str) else "")


class Requests:
    """google-auth's way to send (its `transport.Request`): called in a thread, sent by `send` in a loop."""

    def __init__(self, send: Send, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self.send, self.loop, self.until = send, loop, time.monotonic() + seconds
        self.over = threading.Event()
        self.future: concurrent.futures.Future[tuple[int, Mapping[str, str], bytes]] | None = None

    def stop(self) -> None:
        """Nobody waits any more."""
        self.over.set()
        if self.future:
            self.future.cancel()

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: object,
    ) -> Answer:
        left, host = self.until - time.monotonic(), urlsplit(url).hostname
        if timeout is not None:
            left = min(left, timeout)
        if self.over.is_set() or self.loop.is_closed() or left <= 0:
            raise Unavailable(f"a token of {host} was asked for too late")
        sending = self._sent(method, url, body or b"", headers or {}, left)
        future = self.future = asyncio.run_coroutine_threadsafe(sending, self.loop)
        if self.over.is_set():
            future.cancel()
        try:
            return accepted(url, *future.result(left + 1))
        except concurrent.futures.CancelledError:
            raise Unavailable(f"{host}: asking for a token was given up") from None
        except (TimeoutError, OSError):
            future.cancel()
            raise Unavailable(f"{host} gave no token in time") from None

    async def _sent(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], seconds: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        async with asyncio.timeout(seconds):
            return await self.send(method, url, body, headers)


def fresh(credentials: Any, ask: Requests, table: Table, **names: str) -> tuple[str, float]:
    """A new access token of google-auth's credentials, and when it expires. Raises a Failure."""
    from google.auth.exceptions import GoogleAuthError

    try:
        credentials.refresh(ask)
    except Refused as refused:
        raise refused.failure(table, **names) from None
    except GoogleAuthError as error:
        raise Unavailable(f"google-auth gives no token ({type(error).__name__}); try again later") from error
    return str(credentials.token), credentials.expiry.replace(tzinfo=UTC).timestamp()


async def login_of(
    send: Send, token_uri: str, code: str, verifier: str, redirect: str, client_id: str, client_secret: str, name: str
) -> Login:
    """The login that the answer to a request for access is good for (RFC 6749 4.1.3, RFC 7636). Raises a Failure."""
    fields = {
        "grant_type": "authorization_code",
        "code": secrets.hide(code),
        "code_verifier": secrets.hide(verifier),
        "redirect_uri": redirect,
        "client_id": client_id,
        "client_secret": client_secret,
    }
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    now = time.time()
    try:
        async with asyncio.timeout(PATIENCE):
            answer = await send("POST", token_uri, urlencode(fields).encode(), kind)
        found = json.loads(accepted(token_uri, *answer).data)
    except Refused as refused:
        raise refused.failure(CODE, name=name) from None
    except TimeoutError:
        raise Unavailable(f"{urlsplit(token_uri).hostname} gave no token in time") from None
    if "refresh_token" not in found:
        raise Denied(
            "Google gave access for an hour only (no refresh token): it does so where the app has access already; "
            "remove it at https://myaccount.google.com/permissions, and log in again"
        )
    scopes, expires = short(found.get("scope", "")), now + found["expires_in"]
    return Login(client_id, found["refresh_token"], scopes, access_token=found["access_token"], expires=expires)


def address(text: str) -> str:
    """The URL of an endpoint that tokens go to: https, or on this machine. Raises Malformed."""
    url = bare(text)
    if url.scheme != "https" and url.host not in ("127.0.0.1", "::1", "localhost"):
        raise Malformed(f"{url.host}: tokens go to https only")
    return str(url)


def sent_by(client: Client) -> Send:
    """Requests of tokens, sent as a client sends; answers are read up to a little more than they may have."""

    async def send(
        method: str, url: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        target = bare(url)
        response = await client.answered(method, target, headers, body or None)
        try:
            data = b""
            with translated(target):
                while len(data) <= LARGEST and (more := await response.content.read(LARGEST)):
                    data += more
            return response.status, response.headers, data
        finally:
            response.close()

    return send
