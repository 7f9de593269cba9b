"""The ground every benchmark stands on: how much is measured, the file that is served, what machine this is."""

import datetime
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import meters, peers

MIB = 1 << 20
FILE = "random.bin"
PROGRAMS = (
    ("nginx", "-v"),
    ("rclone", "version"),
    ("curl", "--version"),
    ("wrk", "-v"),
    ("aria2c", "--version"),
    ("axel", "--version"),
    ("wget", "--version"),
)


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is measured: a quick look, or figures to publish."""

    rounds: int
    size: int
    gets: int
    wrk_seconds: int
    readers: tuple[int, ...]
    reader_rounds: int
    hold_seconds: float
    fresh: int  # files that are each read for the first time
    shared: int  # size of the file that many read at once, and that a slow origin has
    shared_rounds: int
    play_seconds: float
    listeners: tuple[int, ...]
    listener_rounds: int
    listen_seconds: float
    packed: int  # size of each large file of an archive
    small: int  # small files of an archive
    members: int  # of the archive that memory is measured with
    trickle_seconds: float  # for which somebody takes it slowly


FULL = Amount(
    rounds=5,
    size=1024 * MIB,
    gets=3,
    wrk_seconds=4,
    readers=(1000, 5000),
    reader_rounds=5,
    hold_seconds=8.0,
    fresh=15,
    shared=200 * MIB,
    shared_rounds=3,
    play_seconds=30.0,
    listeners=(1000, 5000, 10000),
    listener_rounds=3,
    listen_seconds=30.0,
    packed=100 * MIB,
    small=10_000,
    members=100_000,
    trickle_seconds=20.0,
)
QUICK = Amount(
    rounds=3,
    size=256 * MIB,
    gets=3,
    wrk_seconds=2,
    readers=(200, 1000),
    reader_rounds=3,
    hold_seconds=5.0,
    fresh=4,
    shared=64 * MIB,
    shared_rounds=1,
    play_seconds=8.0,
    listeners=(200, 1000),
    listener_rounds=1,
    listen_seconds=10.0,
    packed=16 * MIB,
    small=1_000,
    members=10_000,
    trickle_seconds=5.0,
)


@dataclass(frozen=True, slots=True)
class Ground:
    amount: Amount
    folder: Path
    scratch: Path
    certificate: peers.Certificate | None

    @property
    def file(self) -> Path:
        return self.folder / FILE


@contextmanager
def laid(amount: Amount) -> Iterator[Ground]:
    room = Path(tempfile.mkdtemp(prefix="playhead-bench-", dir=disk()))
    try:
        folder, scratch = room / "served", room / "scratch"
        folder.mkdir()
        scratch.mkdir()
        made(folder / FILE, amount.size)
        yield Ground(amount, folder, scratch, signed(scratch))
    finally:
        shutil.rmtree(room, ignore_errors=True)


def disk() -> str | None:
    """A folder on a disk: /tmp may be memory, and memory served as a file is another measurement."""
    return os.environ.get("TMPDIR") or ("/var/tmp" if os.access("/var/tmp", os.W_OK) else None)


def made(path: Path, size: int) -> None:
    """Written, and read once, so that all of it is in the page cache."""
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
        os.fsync(file.fileno())
    with path.open("rb", buffering=0) as file:
        while file.read(MIB):
            pass


def signed(scratch: Path) -> peers.Certificate | None:
    if shutil.which("openssl") is None:
        return None
    certificate = peers.Certificate(scratch / "cert.pem", scratch / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(certificate.key), "-out", str(certificate.cert)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return certificate


def machine() -> str:
    """One line on what is measured with."""
    parts = [
        f"{datetime.date.today():%d %B %Y}".lstrip("0"),
        f"{os.cpu_count()} cores ({model()})",
        f"{os.sysconf('SC_PHYS_PAGES') * meters.PAGE / (1 << 30):.0f} GiB",
        f"Linux {platform.release()}",
        f"Python {platform.python_version()}",
        *(version(name, option) for name, option in PROGRAMS),
    ]
    return ", ".join(parts)


def model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def version(name: str, option: str) -> str:
    """`nginx version: nginx/1.22.1`, `rclone v1.75.2`, `GNU Wget 1.21.3 built on ...` -> name and number."""
    try:
        done = subprocess.run([peers.program(name), option], capture_output=True, text=True, timeout=20)
    except peers.Missing:
        return f"no {name}"
    line = (done.stdout + done.stderr).split("\n")[0].replace("nginx version: nginx/", "nginx ")
    words = line.replace("aria2 version", "aria2").removeprefix("GNU ").split()
    return " ".join(words[:2])
