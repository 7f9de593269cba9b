"""The loads put on a server: whole files into a sink, small ranges through wrk, and readers that are slow.

Each load checks what it got, by status and by count, and raises `Broken` rather than quote a figure for wrong bytes.
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

from bench.ground import FILE, MIB
from bench.peers import Broken, Server, connect, program

GIB = 1 << 30
RANGE = 64 << 10
SLOWEST = 20 * MIB  # bytes per second; a server below this is ended, not waited for
RANGES = Path(__file__).with_name("ranges.lua")
HERE = Path(__file__).resolve().parent.parent
READER_RATE = 40_000
SPARE = 60.0


@dataclass(frozen=True, slots=True)
class Ranges:
    """What wrk saw: requests per second, and the waits in milliseconds."""

    rate: float
    middle: float
    slowest: float
    requests: int


def check(server: Server, file: Path) -> None:
    """A few ranges are compared with the file before anything is timed."""
    size, some = file.stat().st_size, Random(1)
    for start in (0, size - RANGE, *(some.randrange(size - RANGE) for _ in range(6))):
        with file.open("rb") as opened:
            opened.seek(start)
            wanted = opened.read(RANGE)
        url, asked = server.url(file.name), f"bytes={start}-{start + RANGE - 1}"
        connection = connect(url, timeout=30.0)
        connection.request("GET", urlsplit(url).path, headers={"Range": asked})
        answer = connection.getresponse()
        if answer.status != 206 or answer.read() != wanted:
            raise Broken(f"a wrong answer to the range at {start}: status {answer.status}")
        connection.close()


def curl(server: Server, size: int, file: str = FILE) -> float:
    """GiB/s of the whole file into curl, which throws it away."""
    told = "%{http_code} %{size_download} %{time_total}"
    limit = size / SLOWEST + SPARE
    command = [program("curl"), "-s", "-k", "-o", "/dev/null", "-w", told, "-m", f"{limit:.0f}", server.url(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit + 5)
    status, got, seconds = done.stdout.split()
    if done.returncode != 0 or status != "200" or int(got) != size:
        raise Broken(f"curl got {got} of {size} bytes, status {status}, exit {done.returncode}")
    return size / GIB / float(seconds)


def copying_sink(server: Server, size: int, file: str = FILE) -> float:
    """GiB/s of the whole file into one buffer of 1 MiB, as a program reads that does something with the bytes."""
    return size / GIB / into_sink(server, size, file)[1]


def into_sink(server: Server, size: int, file: str) -> tuple[float, float]:
    """Seconds until the first byte of the whole file, and until the last."""
    where = urlsplit(server.url(file))
    target = f"{where.path}?{where.query}" if where.query else where.path
    buffer, first, began = memoryview(bytearray(MIB)), 0.0, time.perf_counter()
    with socket.create_connection((where.hostname, where.port), timeout=SPARE) as link:
        link.sendall(f"GET {target} HTTP/1.1\r\nHost: {where.netloc}\r\nConnection: close\r\n\r\n".encode())
        start = link.recv(64 << 10)
        head, parted, body = start.partition(b"\r\n\r\n")
        if not parted or b" 200 " not in head.split(b"\r\n")[0]:
            raise Broken(f"the sink was answered {head[:60]!r}")
        got = len(body)
        if got:
            first = time.perf_counter() - began
        while got < size and (count := link.recv_into(buffer)):
            got += count
            spent = time.perf_counter() - began
            first = first or spent
            if spent > size / SLOWEST + SPARE:
                raise Broken(f"the sink had {got} of {size} bytes when its time was over")
    if got != size:
        raise Broken(f"the sink got {got} of {size} bytes")
    return first, time.perf_counter() - began


def ranges(server: Server, size: int, connections: int, seconds: int) -> Ranges:
    """Random aligned ranges of 64 KiB over the whole file, the same sequence for every server."""
    command = [program("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(RANGES)]
    command += [server.url(FILE), "--", str(size), str(RANGE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + SPARE)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        raise Broken(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
    seen = json.loads(lines[-1])
    wrong = {kind: count for kind, count in seen["errors"].items() if count}
    if wrong or not seen["requests"]:
        raise Broken(f"wrk saw errors: {wrong or 'no answer at all'}")
    each = seen["bytes"] / seen["requests"]
    # wrk counts what it reads, also of answers which its end cut short.
    if not RANGE * 0.98 <= each <= RANGE * 1.1 + connections * RANGE / seen["requests"]:
        raise Broken(f"an answer had {each:.0f} bytes, not {RANGE}")
    rate = seen["requests"] / (seen["duration"] / 1e6)
    return Ranges(rate, seen["p50"] / 1000, seen["p99"] / 1000, seen["requests"])


def together(server: Server, size: int, file: str, count: int) -> float:
    """GiB/s of all of so many readers, who ask for the same whole file at once."""
    limit = size * count / SLOWEST + SPARE
    command = [program("curl"), "-s", "-Z", "--parallel-immediate", "--parallel-max", str(count), "-m", f"{limit:.0f}"]
    command += ["-w", "%{http_code} %{size_download}\\n", *(["-o", "/dev/null", server.url(file)] * count)]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit + 5)
    seconds = time.perf_counter() - began
    whole = done.stdout.splitlines().count(f"200 {size}")
    if done.returncode != 0 or whole != count:
        raise Broken(f"{whole} of {count} readers got the whole file, exit {done.returncode}")
    return size * count / GIB / seconds


@contextmanager
def slow_readers(server: Server, count: int, hold: float) -> Iterator[dict[str, float]]:
    """Readers in a process of their own. They stay connected, at the end of their hold, while the block runs."""
    with listeners(server, count, [hold], [FILE]) as report:
        yield report()


@contextmanager
def listeners(
    server: Server, count: int, marks: Sequence[float], files: Sequence[str], buffer: int = 0
) -> Iterator[Callable[[], dict[str, float]]]:
    """Slow readers of several files. Each call waits for the report of the next mark, in seconds from the beginning.

    A receive buffer, where given, keeps the kernel from taking in most of a file at once, as a real network would.
    """
    command = [sys.executable, "-m", "bench.readers", server.base, str(count), str(READER_RATE)]
    command += [str(buffer), ",".join(map(str, marks)), *files]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HERE, text=True)
    assert process.stdout and process.stdin
    lines = process.stdout

    def report() -> dict[str, float]:
        line = lines.readline()  # the process has a deadline of its own
        if not line:
            raise Broken("the readers ended without a report")
        return dict(json.loads(line))

    try:
        yield report
        process.stdin.close()
        process.wait(SPARE)
    finally:
        process.kill()
        process.wait(SPARE)
