"""Many slow readers in one process: `python -m bench.readers URL COUNT RATE BUFFER SECONDS[,...] FILE ...`.

The rate is in bytes per second; the buffer is that of each socket for receiving, 0 for what the kernel thinks best.
Each reader asks for one whole file of the folder at the URL, the files in turn, and takes bytes at its rate, catching
up after a late first byte as a player does. After so many seconds from the beginning a line of JSON is printed, one for
each mark; after the last the readers stay, reading nothing, until standard input closes.
"""

import json
import resource
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

WAVE = 200  # connections that may be under way at once, so that no listener's queue overflows
SLICES, TICK = 10, 0.01  # a tenth of the readers is served each tick
SERVED = 500  # but not many more than this, or serving them would take longer than the tick
FIRST_BYTE = 5.0  # a listener waits no longer
LATE = 1.0  # a reader kept the pace when it is not further behind than this
STAY = 60.0


@dataclass(slots=True)
class Reader:
    link: socket.socket
    ask: bytes
    began: float
    asked: bool = False
    first: float | None = None
    got: int = 0
    fault: str | None = None

    @property
    def wait(self) -> float:
        return STAY if self.first is None else self.first - self.began


class Crowd:
    def __init__(self, url: str, files: Sequence[str], count: int, rate: float, narrow: int) -> None:
        where = urlsplit(url)
        self.address = (where.hostname, where.port)
        self.asks = [f"GET {where.path}{file} HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode() for file in files]
        self.count, self.rate, self.narrow = count, rate, narrow
        self.slices = max(SLICES, count // SERVED)
        self.readers: dict[int, Reader] = {}
        self.order: list[Reader] = []
        self.under_way = 0
        self.poll = select.epoll()
        self.buffer = memoryview(bytearray(256 << 10))

    def hold(self, end: float) -> None:
        turn = 0
        while (now := time.monotonic()) < end:
            self.enter()
            for descriptor, event in self.poll.poll(TICK, 1024):
                self.wake(self.readers[descriptor], event)
            for reader in self.order[turn % self.slices :: self.slices]:
                if reader.first is not None and reader.fault is None:
                    self.take(reader, now)
            turn += 1
            time.sleep(max(0.0, now + TICK - time.monotonic()))

    def enter(self) -> None:
        while len(self.order) < self.count and self.under_way < WAVE:
            link = socket.socket()
            link.setblocking(False)
            if self.narrow:
                link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.narrow)
            reader = Reader(link, self.asks[len(self.order) % len(self.asks)], time.monotonic())
            link.connect_ex(self.address)
            self.readers[link.fileno()] = reader
            self.order.append(reader)
            self.poll.register(link, select.EPOLLOUT)
            self.under_way += 1

    def wake(self, reader: Reader, event: int) -> None:
        if not reader.asked:
            reader.asked = True
            self.under_way -= 1
            self.attempt(reader, lambda: reader.link.send(reader.ask))
            self.poll.modify(reader.link, select.EPOLLIN)
        elif event:
            self.poll.unregister(reader.link)
            self.attempt(reader, lambda: self.greet(reader))

    def greet(self, reader: Reader) -> None:
        head = reader.link.recv(4096)
        reader.first, reader.got = time.monotonic(), len(head)
        if not head.startswith(b"HTTP/1.1 200"):
            reader.fault = head[:40].decode("latin-1") or "closed"

    def take(self, reader: Reader, now: float) -> None:
        due = int(self.rate * (now - reader.began)) - reader.got
        if due > 0:
            self.attempt(reader, lambda: self.read(reader, due))

    def read(self, reader: Reader, due: int) -> None:
        count = reader.link.recv_into(self.buffer, min(due, len(self.buffer)))
        reader.got += count
        if not count:
            reader.fault = "closed"

    def attempt(self, reader: Reader, act: Callable[[], object]) -> None:
        try:
            act()
        except BlockingIOError:
            pass
        except OSError as error:
            reader.fault = type(error).__name__

    def report(self) -> dict[str, float]:
        now = time.monotonic()
        well = [reader for reader in self.order if reader.fault is None]
        waits = sorted(reader.wait for reader in well if reader.wait < STAY)
        return {
            "served": sum(wait <= FIRST_BYTE for wait in waits),
            "paced": sum(
                reader.wait <= FIRST_BYTE and reader.got >= self.rate * (now - reader.began - LATE) for reader in well
            ),
            "faults": sum(reader.fault is not None for reader in self.order),
            "wait": waits[len(waits) * 99 // 100] if waits else STAY,
        }

    def leave(self) -> None:
        for reader in self.order:
            reader.link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            reader.link.close()


def main() -> None:
    url, count, rate, buffer, marks, *files = sys.argv[1:]
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    crowd, began = Crowd(url, files, int(count), float(rate), int(buffer)), time.monotonic()
    for mark in marks.split(","):
        crowd.hold(began + float(mark))
        print(json.dumps(crowd.report()), flush=True)
    select.select([sys.stdin], [], [], STAY)
    crowd.leave()


if __name__ == "__main__":
    main()
