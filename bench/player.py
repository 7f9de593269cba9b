"""Clients that behave as players do: one that times its first bytes, one that takes its time and leaves early."""

import socket
import struct
import time
from contextlib import AbstractContextManager
from types import TracebackType
from urllib.parse import urlsplit

from bench.peers import Broken, Server, any_certificate

PATIENCE = 60.0
PIECE = 64 << 10
STEP = 0.1
NARROW = 64 << 10  # the receive buffer of a client that takes little at a time


class Player(AbstractContextManager["Player"]):
    """One open keep-alive connection."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.link = connected(server)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.link.close()

    def ask(self, file: str, start: int, wanted: bytes) -> float:
        """Seconds from sending the request for this range until the first byte of its body; all of it is compared."""
        return self.fetch(file, start, wanted)[0]

    def fetch(self, file: str, start: int, wanted: bytes) -> tuple[float, float]:
        """The same seconds, and those until the last byte."""
        request = head(self.server, file, f"Range: bytes={start}-{start + len(wanted) - 1}\r\n")
        began = time.perf_counter()
        self.link.sendall(request)
        got = bytearray()
        while not (body := got.partition(b"\r\n\r\n")[2]):
            got += self.more()
        waited = time.perf_counter() - began
        if not got.startswith(b"HTTP/1.1 206"):
            raise Broken(f"the range was answered {bytes(got[:40])!r}")
        while len(body) < len(wanted):
            body += self.more()
        whole = time.perf_counter() - began
        if body != wanted:
            raise Broken(f"a wrong answer to the range at {start}")
        return waited, whole

    def more(self) -> bytes:
        piece = self.link.recv(PIECE)
        if not piece:
            raise Broken("the connection ended in the middle of an answer")
        return piece


def connected(server: Server, buffer: int = 0) -> socket.socket:
    where = urlsplit(server.base)
    link = socket.socket()
    if buffer:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    link.settimeout(PATIENCE)
    link.connect((where.hostname, where.port))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return any_certificate().wrap_socket(link) if where.scheme == "https" else link


def head(server: Server, file: str, lines: str = "") -> bytes:
    where = urlsplit(server.url(file))
    return f"GET {where.path} HTTP/1.1\r\nHost: {where.netloc}\r\n{lines}\r\n".encode()


def play(server: Server, file: str, rate: int, seconds: float) -> None:
    """Take a file from its beginning at a rate, and go away in the middle of it."""
    with connected(server, NARROW) as link:
        link.sendall(head(server, file))
        began = time.monotonic()
        first = link.recv(PIECE)
        if not first.startswith(b"HTTP/1.1 200"):
            raise Broken(f"the player was answered {first[:40]!r}")
        taken = len(first)
        while (passed := time.monotonic() - began) < seconds:
            due = int(rate * passed) - taken
            if due > 0:
                got = link.recv(min(due, PIECE))
                taken += len(got)
                if not got:
                    raise Broken(f"the connection ended after {taken} bytes")
            else:
                time.sleep(STEP)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if taken < rate * (seconds - 1):
        raise Broken(f"the player had {taken} bytes after {seconds:.0f} s")
