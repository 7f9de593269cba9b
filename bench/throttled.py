"""An origin that is slow on purpose: `python -m bench.throttled FILE SIZE RATE ROUND-TRIP TRICKLE`.

It gives the first SIZE bytes of a file, whatever path is asked for. A rate is in bytes per second and that of every
connection for itself, however many requests it carries; TRICKLE is the one of the second connection that is opened; 0
is none. The kernel paces (SO_MAX_PACING_RATE, in segments as on Ethernet) what a thread for each connection hands it by
sendfile: that is exact, and costs next to nothing beside the clients that are measured.

With a round trip, in seconds, it answers as a distant server would seem to: a connection's first answer takes two, for
the handshake, any other one; then slow start, and never more than a window of 4 MiB a round trip.

The first line on standard output is the port. Each line on standard input is answered with the counters as JSON; its
end ends the process. A byte counts when the client's kernel has acknowledged it.
"""

import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from email.utils import formatdate
from pathlib import Path

from bench.delay import HERE, Passed
from bench.peers import Broken

SO_MAX_PACING_RATE = 47
SEGMENT, FIRST_SEGMENTS = 1448, 10
WINDOW = 4 << 20
HEAD = 64 << 10
ACKED = struct.Struct("=120xQ")  # tcpi_bytes_acked in struct tcp_info
END_WITHIN = 5.0
RANGE = re.compile(rb"\r\nrange: *bytes=(\d+)-(\d*) *\r\n", re.IGNORECASE)
IF_RANGE = re.compile(rb"\r\nif-range: *([^\r]*?) *\r\n", re.IGNORECASE)
STAYS, GOES = (re.compile(rb"\r\nconnection:[^\r]*" + word, re.IGNORECASE) for word in (b"keep-alive", b"close"))


@dataclass(frozen=True, slots=True)
class Origin:
    base: str
    process: subprocess.Popen[str]

    def passed(self) -> Passed:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return Passed(**json.loads(self.process.stdout.readline()))


@contextmanager
def throttled(file: Path, size: int, rate: int = 0, round_trip: float = 0.0, trickle: int = 0) -> Iterator[Origin]:
    """The origin in a process of its own."""
    command = [sys.executable, "-m", "bench.throttled", str(file), *map(str, (size, rate, round_trip, trickle))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HERE, text=True)
    assert process.stdin and process.stdout
    try:
        port = process.stdout.readline().strip()
        if not port:
            raise Broken("the throttled origin did not start")
        yield Origin(f"http://127.0.0.1:{port}/", process)
    finally:
        process.kill()
        process.wait(END_WITHIN)
        process.stdout.close()
        process.stdin.close()


# ── the process ──


@dataclass(frozen=True, slots=True)
class Offered:
    """What is given, to everybody the same."""

    file: int
    size: int
    etag: str
    modified: str
    round_trip: float

    def asked(self, head: bytes) -> tuple[int, int] | None:
        """The range, half-open, that a request has a right to; None: the whole file."""
        found, condition = RANGE.search(head), IF_RANGE.search(head)
        if found is None or (condition and condition[1].decode() not in (self.etag, self.modified)):
            return None
        start = int(found[1])
        return start, min(self.size, int(found[2] or self.size - 1) + 1)

    def head(self, part: tuple[int, int] | None) -> bytes:
        start, stop = part or (0, self.size)
        status = "200 OK" if part is None else "206 Partial Content"
        length, more = stop - start, "" if part is None else f"Content-Range: bytes {start}-{stop - 1}/{self.size}\r\n"
        if length <= 0:
            status, length, more = "416 Range Not Satisfiable", 0, f"Content-Range: bytes */{self.size}\r\n"
        return (
            f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{more}ETag: {self.etag}\r\n"
            f"Last-Modified: {self.modified}\r\nDate: {formatdate(usegmt=True)}\r\nAccept-Ranges: bytes\r\n"
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()


class Connection:
    """One client: its requests, one after the other, until it goes away."""

    def __init__(self, link: socket.socket, offered: Offered) -> None:
        self.link, self.offered = link, offered
        self.requests = self.heads = 0
        self.window = SEGMENT * FIRST_SEGMENTS
        self.already = self.acked()

    def acked(self) -> int:
        return int(ACKED.unpack(self.link.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, ACKED.size))[0])

    def taken(self) -> int:
        """Bytes of bodies that the client's kernel has."""
        return max(0, self.acked() - self.already - self.heads)

    def run(self) -> None:
        time.sleep(self.offered.round_trip)
        kept = b""
        while True:
            head, parted, kept = kept.partition(b"\r\n\r\n")
            if parted:
                self.answer(head + b"\r\n")
                if last(head):
                    self.link.shutdown(socket.SHUT_WR)
                continue
            got = self.link.recv(HEAD)
            if not got or len(head) > HEAD:
                return
            kept = head + got

    def answer(self, asked: bytes) -> None:
        self.requests += 1
        time.sleep(self.offered.round_trip)
        part = self.offered.asked(asked)
        head = self.offered.head(part)
        self.heads += len(head)
        self.link.sendall(head)
        if not asked.startswith(b"HEAD "):
            self.give(*(part or (0, self.offered.size)))

    def give(self, start: int, stop: int) -> None:
        while start < stop:
            slow = bool(self.offered.round_trip) and self.window < WINDOW
            until = min(stop, start + self.window) if slow else stop
            while start < until:
                start += os.sendfile(self.link.fileno(), self.offered.file, start, until - start)
            if slow and start < stop:
                time.sleep(self.offered.round_trip)
                self.window *= 2


def last(head: bytes) -> bool:
    """Does the connection end with the answer to this request?"""
    old = head.partition(b"\r\n")[0].endswith(b"HTTP/1.0")
    return GOES.search(head) is not None or (old and STAYS.search(head) is None)


class Throttle:
    def __init__(self, offered: Offered, rate: int, trickle: int) -> None:
        self.offered, self.rate, self.trickle = offered, rate, trickle
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
        self.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")  # which always is there
        self.lock = threading.Lock()
        self.live: set[Connection] = set()
        self.connections = self.requests = self.bytes = 0

    def run(self) -> None:
        threading.Thread(target=self.tell, daemon=True).start()
        print(self.listener.getsockname()[1], flush=True)
        while True:
            link, _ = self.listener.accept()
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            rate = self.trickle if self.trickle and self.connections == 2 else self.rate
            if rate:
                link.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, rate)
            connection = Connection(link, self.offered)
            with self.lock:
                self.live.add(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: Connection) -> None:
        try:
            connection.run()
        except OSError:
            pass  # the client went away
        with self.lock:
            self.live.discard(connection)
            self.requests += connection.requests
            self.bytes += connection.taken()
        connection.link.close()

    def tell(self) -> None:
        for _ in sys.stdin:
            with self.lock:
                requests = self.requests + sum(one.requests for one in self.live)
                sent = self.bytes + sum(one.taken() for one in self.live)
                passed = Passed(self.connections, len(self.live), requests, sent)
            print(json.dumps(asdict(passed)), flush=True)
        os._exit(0)


def main() -> None:
    path, size, rate, round_trip, trickle = sys.argv[1:]
    away, file = float(round_trip), os.open(path, os.O_RDONLY)
    modified = os.fstat(file).st_mtime - 86400  # long ago, so that it may be trusted
    etag = f'"{int(modified):x}-{int(size):x}"'
    limit = int(WINDOW / away) if away else 0
    offered = Offered(file, int(size), etag, formatdate(modified, usegmt=True), away)
    Throttle(offered, int(rate) or limit, int(trickle)).run()


if __name__ == "__main__":
    main()
