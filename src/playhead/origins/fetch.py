"""One GET to an origin: credentials, proxies, certificates, redirects, time-outs; errors as ours.

Time-outs are on connecting and on silence, never on the whole. Credentials go to the origin alone, not to
where it redirects. A URL is shown without user, password or query, for there secrets are.
"""

import asyncio
import base64
import logging
import os
import re
import socket
import ssl
import sys
import time
from collections.abc import Container, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from yarl import URL

from playhead.errors import Busy, Damaged, Denied, Failure, Malformed, NotFound, Unavailable
from playhead.limits import Limits
from playhead.origins.addresses import bare, parsed, proxy_of, quoted, shown
from playhead.origins.body import Body
from playhead.origins.remote import Traffic
from playhead.version import __version__

CONNECT = 10.0  # seconds to connect in
SILENCE = 30.0  # seconds without a byte
REDIRECTS = 10

log = logging.getLogger("playhead.upstream")

_STATUSES: dict[int, tuple[type[Failure], str]] = {
    401: (Denied, "the server wants other credentials than it was given"),
    403: (Denied, "the server refuses it"),
    404: (NotFound, "the server has no such file"),
    407: (Unavailable, "the proxy wants credentials"),
    408: (Unavailable, "the server waited for us in vain"),
    410: (NotFound, "the server no longer has it"),
    429: (Busy, "the server says that there were too many requests"),
}


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach an origin. `ca` and `cert` are PEM files (`cert` with its key); `proxy` an http or socks URL; `unix`
    the path of a socket on this machine that it listens on.

    `fingerprint` stands for the credentials in tags: blobs of different credentials never share one.
    """

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    proxy: str | None = field(default=None, repr=False)
    ca: str | None = None
    cert: str | None = None
    fingerprint: str = ""
    unix: str | None = None


def basic(user: str, password: str) -> str:
    """The Authorization header of a user name and password (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


class Answered(aiohttp.ClientResponse):
    """An answer whose connection counts among its origin's until it is closed."""

    client: "Client | None" = None
    guard: "_Guarded | None" = None

    async def start(self, connection: "Connection") -> "Answered":
        if isinstance(connection.protocol, _Guarded):
            self.guard = connection.protocol
        await super().start(connection)
        return self

    def close(self) -> None:
        super().close()
        if self.client is not None:
            self.client.limits.leave()
            self.client = None

    def taken_over(self) -> socket.socket | None:
        """The socket that the rest of the body is to be read from, by whoever asked; None where that cannot be.

        Only after all that had come before was read. The connection is not used again.
        """
        connection = self.connection
        transport = connection.transport if connection else None
        framed = "Transfer-Encoding" in self.headers or self.content_length is None  # then the parser must read it
        if transport is None or framed or self.content.at_eof():
            return None
        sock = transport.get_extra_info("socket")
        if sock is None or transport.get_extra_info("sslcontext") is not None:
            return None
        assert connection is not None and isinstance(connection.protocol, _Guarded)
        connection.protocol.given_away = True
        transport.pause_reading()
        return socket.socket(sock.family, socket.SOCK_STREAM, fileno=os.dup(sock.fileno()))

    @property
    def forsaken(self) -> bool:
        """Was its source closed meanwhile? A socket that was taken over does not end with it."""
        return self.client is not None and self.client.closed

    @property
    def cut_off(self) -> bool:
        """Did the connection end with an error? A body without a length does not show it."""
        return self.guard is not None and self.guard.broken

    def came(self, count: int) -> None:
        """So many bytes of the body have come."""
        if self.client is not None:
            self.client.received += count
            self.client.limits.count(count)


class _Guarded(ResponseHandler):
    """A connection that is not used again once something came on it that nobody asked for.

    One whose socket was given away never reads again: whoever still reads an earlier answer from memory would have it
    do so, and it would take what is another's.
    """

    given_away = False
    broken = False  # did it end with an error?

    def connection_lost(self, exc: BaseException | None, *more: object) -> None:
        self.broken = exc is not None
        super().connection_lost(exc, *more)

    def resume_reading(self, *how: bool, **more: bool) -> None:  # as aiohttp's versions differ
        if not self.given_away:
            super().resume_reading(*how, **more)

    def is_connected(self) -> bool:
        return super().is_connected() and not self.should_close


class Client(Traffic):
    """Sends requests to the origin of `base`, as `access` says. Belongs to the loop of its first request."""

    def __init__(self, base: str, access: Access, limits: Limits | None = None) -> None:
        super().__init__(limits or Limits())
        url = parsed(base)
        self.base = bare(base)
        self.access, self.headers = access, dict(access.headers)
        if url.user is not None and "authorization" not in {name.lower() for name in self.headers}:
            self.headers["Authorization"] = basic(url.user, url.password or "")
        if any(not char.isprintable() for item in self.headers.items() for char in "".join(item)):
            raise Malformed("a header of this source holds the end of a line, or another control character")
        self.session: aiohttp.ClientSession | None = None
        self.closed = False
        self.proxy = proxy_of(access.proxy)
        self.tls, self.foreign_tls = _tls(access.ca, access.cert), _tls(access.ca, None)

    async def aclose(self) -> None:
        self.closed = True
        if self.session:
            await self.session.close()

    async def get(self, url: URL, headers: Mapping[str, str], priority: int = 0) -> Answered:
        """The answer to a GET, redirects followed, its status one of 200, 206 and 416; it is to be closed.

        Where the origin's limits make requests wait, those of a lower `priority` go first.
        """
        return accepted(await self.answered("GET", url, headers, priority=priority))

    async def answered(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: "bytes | Body | None" = None,
        *,
        priority: int = 0,
        patience: float | None = None,
    ) -> Answered:
        """The answer to a request, whatever its status; it is to be closed. Redirects of what only reads are followed.

        `patience`: the seconds of silence that are waited for the answer, where it may take longer than usual.
        """
        asked, target = url, url
        for _ in range(REDIRECTS):
            await self.limits.enter(priority)
            try:
                response = await self._send(method, target, headers, body, patience)
            except BaseException:
                self.limits.leave()
                self.outcomes["failed"] += 1
                raise
            response.client = self
            self.outcomes[str(response.status)] += 1
            location = response.headers.get("Location")
            reads = method in ("GET", "HEAD", "PROPFIND")
            if not reads or response.status not in (301, 302, 303, 307, 308) or not location:
                return response
            response.close()
            target = self._redirected(target, location)
        raise Unavailable(f"{shown(asked)} redirects more than {REDIRECTS} times")

    def _redirected(self, url: URL, location: str) -> URL:
        try:
            target = url.join(URL(quoted(location), encoded=True))
            _ = target.port
        except ValueError as error:
            raise Damaged(f"{shown(url)} redirects to what is not a URL") from error
        if target.scheme not in ("http", "https") or not target.host:
            raise Denied(f"{shown(url)} redirects to another scheme")
        if url.scheme == "https" and target.scheme == "http":
            raise Denied(f"{shown(url)} redirects from https to http")
        return target.with_user(None)

    async def _send(
        self, method: str, url: URL, headers: Mapping[str, str], body: "bytes | Body | None", patience: float | None
    ) -> Answered:
        if self.closed:
            raise Unavailable(f"{shown(url)}: this source was closed")
        began, own = time.perf_counter(), url.origin() == self.base.origin()
        sent: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {}
        if patience is not None:
            sent["timeout"] = _timeout(patience)
        watch = body.sent(SILENCE) if isinstance(body, Body) else nullcontext()
        if isinstance(body, Body):
            headers = {**headers, "Content-Length": str(body.length)}
            sent["data"] = body.chunks()
        with translated(url):
            async with watch:
                response = await self._session().request(
                    method,
                    url,
                    headers={**self.headers, **headers} if own else _public(headers),
                    allow_redirects=False,
                    proxy=None if self._socks() else self.proxy,
                    ssl=self.tls if own else self.foreign_tls,
                    **sent,
                )
        if log.isEnabledFor(logging.INFO):
            took = time.perf_counter() - began
            asked = headers.get("Range", "-")
            extra = {"url": shown(url), "range": asked, "status": response.status, "seconds": round(took, 4)}
            log.info(
                "%s %s %s -> %d in %.0f ms", method, extra["url"], asked, response.status, took * 1000, extra=extra
            )
        assert isinstance(response, Answered)
        return response

    def _socks(self) -> bool:
        return self.proxy is not None and self.proxy.scheme.startswith("socks")

    def _session(self) -> aiohttp.ClientSession:
        if self.session is None:
            connector: aiohttp.BaseConnector
            if self._socks():
                connector = _socks_connector(str(self.proxy))
            elif self.access.unix:
                connector = aiohttp.UnixConnector(self.access.unix, limit=0, keepalive_timeout=60)
            else:
                connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
            # aiohttp would take what came unasked on an idle connection for the next answer; no public way prevents it.
            setattr(connector, "_factory", partial(_Guarded, loop=asyncio.get_running_loop()))  # noqa: B010
            self.session = aiohttp.ClientSession(
                connector=connector,
                timeout=_timeout(SILENCE),
                headers={"User-Agent": f"playhead/{__version__}", "Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                read_bufsize=1 << 20,
                response_class=Answered,
            )
        return self.session


def _public(headers: Mapping[str, str]) -> dict[str, str]:
    """What a server that we were sent to may know of a request: the others may be keys."""
    return {
        name: value for name, value in headers.items() if name.lower() in ("range", "accept", "depth", "content-type")
    }


def _timeout(silence: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=CONNECT, sock_connect=CONNECT, sock_read=silence)


def _socks_connector(proxy: str) -> aiohttp.BaseConnector:
    try:
        from aiohttp_socks import ProxyConnector
    except ImportError as error:
        raise Malformed("a SOCKS proxy needs the extra `socks`: pip install 'playhead[socks]'") from error
    made: aiohttp.BaseConnector = ProxyConnector.from_url(
        proxy.replace("socks5h://", "socks5://"), limit=0, keepalive_timeout=60
    )
    return made


def accepted(response: Answered, statuses: Container[int] = (200, 206, 416)) -> Answered:
    """The answer itself, or the Failure that its status means."""
    if response.status in statuses:
        return response
    response.close()
    unavailable = Unavailable, f"the server answers {response.status}"
    kind, what = _STATUSES.get(response.status, unavailable if response.status >= 500 else (Damaged, unavailable[1]))
    raise kind(f"{shown(response.url)}: {what}", after=retry_after(response.headers.get("Retry-After")))


def retry_after(text: str | None) -> float | None:
    """Seconds to wait (RFC 9110, 10.2.3), given as seconds or as a date."""
    if text and text.isascii() and text.strip().isdigit():
        return float(text.strip()[:9])
    when = date(text)
    return max(0.0, (when - datetime.now(UTC)).total_seconds()) if when else None


def date(text: str | None) -> datetime | None:
    try:
        when = parsedate_to_datetime(text or "")
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def _tls(ca: str | None, cert: str | None) -> ssl.SSLContext | bool:
    if not ca and not cert:
        return True
    try:
        context = ssl.create_default_context(cafile=ca)
        if cert:
            context.load_cert_chain(cert)
    except (OSError, ssl.SSLError) as error:
        raise Malformed(f"the certificate files of this source cannot be used: {error}") from error
    return context


# ── errors ──


class translated:
    """aiohttp's errors as ours."""

    def __init__(self, url: URL) -> None:
        self.url = url

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and isinstance(
            error, (aiohttp.ClientError, OSError, TimeoutError, EOFError, RuntimeError, *_socks_errors())
        ):
            raise _failure(error, shown(self.url)) from error


def _socks_errors() -> tuple[type[Exception], ...]:
    if "aiohttp_socks" not in sys.modules:  # no proxy was asked for
        return ()
    try:
        from aiohttp_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError
    except ImportError:
        return ()
    return ProxyError, ProxyConnectionError, ProxyTimeoutError


def _certificate_trouble(error: BaseException | None) -> bool:
    """Is a certificate behind this: the server's, or the one that it wants of us?"""
    while error is not None:
        if isinstance(error, ssl.SSLError) and re.search("CERT|UNKNOWN_CA|HANDSHAKE|ALERT", error.reason or ""):
            return True
        error = error.__cause__ or error.__context__
    return False


def _failure(error: BaseException, url: str) -> Failure:
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError) or (
        _certificate_trouble(error)
    ):
        return Denied(f"{url}: its certificate is not trusted, or it wants one; see `ca` and `cert`")
    if isinstance(error, _socks_errors()):
        return Unavailable(f"{url} cannot be reached through the proxy")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Unavailable(f"{url}: the host's name cannot be resolved")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        wants = "wants credentials" if error.status == 407 else f"answers {error.status}"
        return Unavailable(f"{url} cannot be reached: the proxy {wants}")
    if isinstance(error, aiohttp.InvalidURL):
        return Malformed(f"{url} is not a URL")
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Unavailable(f"{url} did not accept a connection within {CONNECT:.0f} s")
    if isinstance(error, TimeoutError):
        return Unavailable(f"{url} was silent for {SILENCE:.0f} s")
    if isinstance(error, aiohttp.ClientResponseError):
        return Damaged(f"{url} does not answer in HTTP")
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | ConnectionError | RuntimeError):
        return Unavailable(f"{url} broke the connection off")
    return Unavailable(f"{url} cannot be reached")
