"""What a server costs, read from /proc: the processor time and the memory of its whole process group.

The processor time includes that of children which have already ended. Memory is what is resident, and beside it what
the kernel holds in TCP buffers for all sockets of the machine: a slow reader costs both.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def fields(pid: int) -> list[str]:
    """Everything after the name in /proc/PID/stat; the first one is the state."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def members(group: int) -> Iterator[tuple[int, list[str]]]:
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            found = fields(int(name))
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(found[2]) == group:
            yield int(name), found


def processor_seconds(group: int) -> float:
    return sum(sum(map(int, found[11:15])) for _, found in members(group)) / TICKS


def own_seconds() -> float:
    """This process and its ended children. On loopback the client may be charged for part of the sending."""
    return sum(os.times()[:4])


def resident_bytes(group: int) -> int:
    return sum(status_bytes(pid, "VmRSS") for pid, _ in members(group))


def status_bytes(pid: int, key: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return int(found[0]) * 1024 if found else 0


def socket_bytes() -> int:
    """What the kernel holds in the TCP buffers of all sockets, both ends of a loopback connection included."""
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        words = line.split()
        if words[0] == "TCP:":
            return int(words[words.index("mem") + 1]) * PAGE
    return 0


def busy_cores(seconds: float = 1.0) -> float:
    """How many cores the machine is using now; near zero before a benchmark, or its figures say little."""
    before, began = spent(), time.monotonic()
    time.sleep(seconds)
    return (spent() - before) / (time.monotonic() - began)


def spent() -> float:
    all_cores = Path("/proc/stat").read_text().split("\n")[0].split()[1:]
    user, nice, system, _idle, _wait, hard, soft, *_ = map(int, all_cores)
    return (user + nice + system + hard + soft) / TICKS
