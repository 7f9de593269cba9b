"""Who may ask. Open mode: without users, whoever sits at this machine, and nobody else.

A page elsewhere on the web can make a browser send requests to 127.0.0.1. So a request that names a foreign
host (DNS rebinding), comes from a foreign page, or was passed on by a proxy is refused. `--no-login` opens
the server to whoever can reach it, and drops these checks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from playhead.errors import Denied, Malformed

_FORWARDING = frozenset(("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"))
REMEDY = "start `playhead serve` with --no-login to let in whoever can reach it"


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Is this a name or address of this very machine?"""
    host = host.lower().strip("[]").removesuffix(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=1024)
def _own(host: str) -> bool:
    return is_loopback(_hostname(f"//{host}"))


def networks(texts: Sequence[str]) -> list[IPv4Network | IPv6Network]:
    """Addresses and networks of trusted proxies. Raises Malformed."""
    try:
        return [ip_network(text, strict=False) for text in texts]
    except ValueError as error:
        raise Malformed(f"trusted_proxies: {error}") from error


@dataclass(frozen=True, slots=True)
class Gate:
    """Lets requests in. `login`: False where everybody may come. `cors`: origins of pages that may read answers."""

    login: bool = True
    cors: Sequence[str] = ()
    trusted: Sequence[IPv4Network | IPv6Network] = ()

    def admit(self, headers: Mapping[str, str]) -> None:
        """Raises Denied where the request does not come from this machine's own user."""
        if not self.login:
            return
        if not _FORWARDING.isdisjoint(headers):
            found = ", ".join(_FORWARDING.intersection(headers))
            raise Denied(f"this server is open to its own machine only, and {found} says that a proxy asks; {REMEDY}")
        host = headers.get("host", "localhost")
        if not _own(host):
            raise Denied(f"this server is open to its own machine only, not as {host!r}; {REMEDY}")
        origin = headers.get("origin")
        if origin in self.cors:
            return
        own = origin is None or (is_loopback(_hostname(origin)) and urlsplit(origin).netloc == host)
        if not own or headers.get("sec-fetch-site") == "cross-site":
            raise Denied(f"this server does not answer pages of other sites; name them in `cors`, or {REMEDY}")

    def client(self, address: str, headers: Mapping[str, str]) -> str:
        """The address of who asks: X-Forwarded-For's last that no trusted proxy added, if a trusted proxy sent it."""
        hops = [hop.strip() for hop in headers.get("x-forwarded-for", "").split(",") if hop.strip()]
        while hops and self._trusts(address):
            address = hops.pop()
        return address

    def _trusts(self, address: str) -> bool:
        try:
            return any(ip_address(address) in network for network in self.trusted)
        except ValueError:
            return False

    def allow(self, headers: Mapping[str, str]) -> list[tuple[str, str]]:
        """The CORS headers of an answer; none unless the configuration names origins."""
        if not self.cors:
            return []
        origin = headers.get("origin")
        if origin is None or origin not in self.cors:
            return [("Vary", "Origin")]
        exposed = "Content-Range, Accept-Ranges, Content-Length, ETag"
        return [("Vary", "Origin"), ("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", exposed)]


@lru_cache(maxsize=1024)
def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
