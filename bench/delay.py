"""A link with latency in front of a server: `python -m bench.delay PORT SECONDS [BYTES-PER-SECOND]`.

These kernels have no netem, so a proxy holds back what passes: each direction by half of the round trip, in ticks of
1 ms, with at most 16 MiB under way in each. A rate is that of every connection for itself, from the server. The TCP
handshake is not delayed and slow start not imitated: a new connection costs no round trip of its own.

The first line on standard output is the proxy's port. Each line on standard input is answered with the counters as
JSON; its end ends the process. What counts is what the gateway's side took, not what waits here.
"""

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bench.peers import Broken

WINDOW = 16 << 20
CHUNK = 256 << 10
TICK = 0.001
SMOOTH = 0.02  # a connection with a rate is read in pieces of this many seconds
HERE = Path(__file__).resolve().parent.parent
END_WITHIN = 5.0


@dataclass(frozen=True, slots=True)
class Passed:
    """What went over the link so far; `bytes` are those from the server, `open` the connections now."""

    connections: int
    open: int
    requests: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Link:
    """A server's URL with the link before it."""

    base: str
    process: subprocess.Popen[str]

    def passed(self) -> Passed:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return Passed(**json.loads(self.process.stdout.readline()))


@contextmanager
def delayed(base: str, round_trip: float = 0.0, rate: int = 0) -> Iterator[Link]:
    """The link in a process of its own, to the server of a URL."""
    where = urlsplit(base)
    command = [sys.executable, "-m", "bench.delay", str(where.port), str(round_trip), str(rate)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HERE, text=True)
    assert process.stdin and process.stdout
    try:
        port = process.stdout.readline().strip()
        if not port:
            raise Broken("the delaying proxy did not start")
        yield Link(f"http://127.0.0.1:{port}{where.path}", process)
    finally:
        process.kill()
        process.wait(END_WITHIN)
        process.stdout.close()
        process.stdin.close()


# ── the process ──


@dataclass(slots=True, eq=False)
class Way:
    """One direction of a connection: pieces in order, each with the time when it is due; an empty one is the end."""

    source: socket.socket
    sink: socket.socket
    delay: float
    rate: int
    waiting: deque[tuple[float, memoryview]] = field(default_factory=deque)
    held: int = 0
    free: float = 0.0  # when the line has sent what it was given
    ended: bool = False
    blocked: bool = False

    @property
    def chunk(self) -> int:
        return max(2048, int(self.rate * SMOOTH)) if self.rate else CHUNK

    def put(self, piece: bytes, now: float) -> None:
        if self.rate:
            self.free = now = max(self.free, now) + len(piece) / self.rate
        self.waiting.append((now + self.delay, memoryview(piece)))
        self.held += len(piece)
        self.ended = not piece

    def deliver(self, now: float) -> int:
        """Send what is due; returns how much the sink took."""
        taken, self.blocked = 0, False
        while self.waiting and self.waiting[0][0] <= now:
            due, piece = self.waiting.popleft()
            if not piece:
                self.sink.shutdown(socket.SHUT_WR)
                break
            try:
                sent = self.sink.send(piece)
            except BlockingIOError:
                sent = 0
            taken += sent
            if sent < len(piece):
                self.waiting.appendleft((due, piece[sent:]))
                self.blocked = True
                break
        self.held -= taken
        return taken


@dataclass(slots=True, eq=False)
class Pair:
    """Both directions of a connection, and the events each socket is watched for."""

    asking: Way
    answering: Way
    watched: dict[int, int] = field(default_factory=dict)
    dropped: float | None = None  # when a reset arrives at the other end

    @property
    def ways(self) -> tuple[Way, Way]:
        return self.asking, self.answering

    @property
    def over(self) -> bool:
        return all(way.ended and not way.waiting for way in self.ways)

    @property
    def idle(self) -> bool:
        return self.dropped is None and not any(way.waiting for way in self.ways)


class Proxy:
    def __init__(self, port: int, round_trip: float, rate: int) -> None:
        self.server, self.delay, self.rate = ("127.0.0.1", port), round_trip / 2, rate
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.listener.setblocking(False)
        self.connections = self.requests = self.bytes = 0
        self.poll = select.epoll()
        self.poll.register(self.listener, select.EPOLLIN)
        self.poll.register(sys.stdin, select.EPOLLIN)
        self.pairs: dict[int, Pair] = {}  # by the descriptor of either socket
        self.busy: set[Pair] = set()

    def run(self) -> None:
        print(self.listener.getsockname()[1], flush=True)
        while True:
            for descriptor, event in self.poll.poll(TICK if self.busy else None):
                if descriptor == self.listener.fileno():
                    self.accept()
                elif descriptor == sys.stdin.fileno():
                    if not self.answer():
                        return
                elif pair := self.pairs.get(descriptor):
                    self.wake(pair, descriptor, event)
            now = time.monotonic()
            for pair in list(self.busy):
                self.advance(pair, now)

    def answer(self) -> bool:
        asked = os.read(sys.stdin.fileno(), 4096)
        for _ in range(asked.count(b"\n")):
            passed = Passed(self.connections, len(self.pairs) // 2, self.requests, self.bytes)
            print(json.dumps(asdict(passed)), flush=True)
        return bool(asked)

    def accept(self) -> None:
        near, _ = self.listener.accept()
        try:
            far = socket.create_connection(self.server, timeout=END_WITHIN)
        except OSError:
            near.close()
            return
        # What lies in our own buffer counts as taken, so there is little of it.
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CHUNK // 2)
        for end in (near, far):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = Pair(Way(near, far, self.delay, 0), Way(far, near, self.delay, self.rate))
        self.connections += 1
        for way in pair.ways:
            self.pairs[way.source.fileno()] = pair
            self.poll.register(way.source, 0)
        self.watch(pair)

    def watch(self, pair: Pair) -> None:
        """Read where there is room, write where it was refused."""
        for way, back in (pair.ways, pair.ways[::-1]):
            descriptor = way.source.fileno()
            wanted = select.EPOLLIN if way.held < WINDOW and not way.ended else 0
            wanted |= select.EPOLLOUT if back.blocked else 0
            wanted = wanted or select.EPOLLET  # a hang-up, which is always told, then is told once
            if pair.watched.get(descriptor, 0) != wanted:
                self.poll.modify(descriptor, wanted)
                pair.watched[descriptor] = wanted

    def wake(self, pair: Pair, descriptor: int, event: int) -> None:
        way = next(way for way in pair.ways if way.source.fileno() == descriptor)
        if event & select.EPOLLIN:
            try:
                piece = way.source.recv(way.chunk)
            except BlockingIOError:
                return
            except OSError:
                self.drop(pair)
                return
            if way is pair.asking:
                self.requests += piece.count(b" HTTP/1.1\r\n")
            way.put(piece, time.monotonic())
            self.watch(pair)
        elif event & select.EPOLLERR:
            self.drop(pair)
        self.busy.add(pair)

    def drop(self, pair: Pair) -> None:
        """One end has reset the connection; the other learns of it after half a round trip."""
        pair.dropped = time.monotonic() + self.delay
        for way in pair.ways:
            self.poll.unregister(way.source)
            del self.pairs[way.source.fileno()]
        self.busy.add(pair)

    def advance(self, pair: Pair, now: float) -> None:
        if pair.dropped is None:
            try:
                pair.asking.deliver(now)
                self.bytes += pair.answering.deliver(now)
            except OSError:
                self.drop(pair)
        if pair.dropped is None and pair.over:
            self.drop(pair)
        if pair.dropped is None:
            self.watch(pair)
        elif pair.dropped <= now:
            pair.dropped = None
            for way in pair.ways:
                way.waiting.clear()
                way.source.close()
        if pair.idle:
            self.busy.discard(pair)


def main() -> None:
    port, round_trip, rate = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0
    Proxy(port, round_trip, rate).run()


if __name__ == "__main__":
    main()
