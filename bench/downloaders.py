"""The downloaders that are compared, each a command: URL -> file. A run is timed, and what was written is compared.

Each peer has its best settings for many connections; a certificate is checked by all but axel. Before a run as much
memory as it writes is touched and let go: where the machine has to get each new page from its host, a download into the
page cache would else measure that.
"""

import hashlib
import mmap
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from bench.ground import MIB
from bench.peers import END_WITHIN, SOURCES, Broken, program

OURS, ARIA, ARIA_PLAIN = "playhead", "aria2c", "aria2c as it comes"
AXEL, CURL, WGET, RCLONE = "axel", "curl", "wget", "rclone"
TARGET = "download.bin"
SPARE = 256 * MIB  # of memory, beyond what a download writes
SLOWEST, PATIENCE = 1_000_000, 60.0  # bytes per second, and seconds more, after which a download is ended
GLANCE = 0.01


@dataclass(frozen=True, slots=True)
class Job:
    url: str
    size: int
    digest: bytes
    folder: Path  # of nobody else
    streams: int | None = None  # None: the downloader's own number
    certificate: Path | None = None

    @property
    def target(self) -> Path:
        return self.folder / TARGET


Command = Callable[[Job], list[str]]


@dataclass(frozen=True, slots=True)
class Fetched:
    """Seconds until the downloader ended, its processor seconds, and the seconds until the disk had all of it."""

    seconds: float
    spent: float
    lasting: float


def playhead(job: Job) -> list[str]:
    streams = [] if job.streams is None else ["-n", str(job.streams)]
    return [sys.executable, "-m", "playhead", "get", job.url, "-o", str(job.target), *streams]


def aria2(job: Job, *options: str) -> list[str]:
    command = [program("aria2c"), "--no-conf", "-q", "-c", "--allow-overwrite=true", "--auto-file-renaming=false"]
    if job.streams is not None:
        command += [f"-x{job.streams}", f"-s{job.streams}", "-k1M"]
    if job.certificate:
        command += [f"--ca-certificate={job.certificate}"]
    return [*command, *options, "-d", str(job.folder), "-o", TARGET, job.url]


def axel(job: Job) -> list[str]:
    """It knows no certificate of an address, so it checks none."""
    unchecked = ["--insecure"] if job.certificate else []
    return [program("axel"), "-q", *unchecked, "-n", str(job.streams), "-o", str(job.target), job.url]


def curl(job: Job) -> list[str]:
    trusted = ["--cacert", str(job.certificate)] if job.certificate else []
    return [program("curl"), "-q", "-s", "-f", "-C", "-", *trusted, "-o", str(job.target), job.url]


def wget(job: Job) -> list[str]:
    trusted = [f"--ca-certificate={job.certificate}"] if job.certificate else []
    return [program("wget"), "--no-config", "-q", "-c", *trusted, "-O", str(job.target), job.url]


def rclone(job: Job) -> list[str]:
    """Its `copyurl` has one connection only; `copyto` from its HTTP remote has as many as it is told."""
    where, _, name = job.url.rpartition("/")
    each = max(1, job.size // (job.streams or 1) // MIB)
    command = [program("rclone"), "--config", os.devnull, "copyto", f":http,url='{where}/':{name}", str(job.target)]
    command += ["--multi-thread-streams", str(job.streams), "--multi-thread-cutoff", "1M"]
    command += ["--multi-thread-chunk-size", f"{each}Mi"]
    return [*command, *(["--ca-cert", str(job.certificate)] if job.certificate else [])]


EVERY: Mapping[str, Command] = {
    OURS: playhead,
    ARIA: aria2,
    ARIA_PLAIN: aria2,
    AXEL: axel,
    RCLONE: rclone,
    CURL: curl,
    WGET: wget,
}


@contextmanager
def emptied(scratch: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="fetched-", dir=scratch))
    try:
        yield folder
    finally:
        rmtree(folder, ignore_errors=True)


def fetched(command: Command, job: Job) -> Fetched:
    """One run into an empty folder, from a beginning that is the same for all."""
    touched(job.size)
    before, began = children(), time.perf_counter()
    completed(command, job)
    seconds, spent = time.perf_counter() - began, children() - before
    file = os.open(job.target, os.O_RDONLY)
    os.fdatasync(file)
    os.close(file)
    lasting = time.perf_counter() - began
    compared(job)
    return Fetched(seconds, spent, lasting)


def completed(command: Command, job: Job) -> None:
    with started(command, job) as process:
        try:
            said = process.communicate(timeout=job.size / SLOWEST + PATIENCE)[1]
        except subprocess.TimeoutExpired:
            raise Broken(f"had not ended after {job.size / SLOWEST + PATIENCE:.0f} s") from None
    if process.returncode:
        lines = said.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise Broken(f"exit {process.returncode}, {lines[-1]}")


@contextmanager
def started(command: Command, job: Job) -> Iterator[subprocess.Popen[bytes]]:
    """The downloader as a group of its own, which is ended on the way out."""
    process = subprocess.Popen(
        command(job),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=environment(job),
    )
    try:
        yield process
    finally:
        killed(process)
        assert process.stderr
        process.stderr.close()


def killed(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait(END_WITHIN)


def environment(job: Job) -> dict[str, str]:
    """Nobody's own configuration, cache or proxy may colour the figures."""
    foreign = [key for key in os.environ if key.lower().endswith("_proxy") or key.startswith("PLAYHEAD_")]
    kept = {key: value for key, value in os.environ.items() if key not in foreign}
    kept |= {f"XDG_{kind}_HOME": str(job.folder / kind.lower()) for kind in ("CONFIG", "DATA", "CACHE", "STATE")}
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, (str(SOURCES), kept.get("PYTHONPATH"))))
    if job.certificate:
        kept["SSL_CERT_FILE"] = str(job.certificate)
    return kept


def children() -> float:
    """Processor seconds of the children that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def touched(size: int) -> None:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
    mmap.mmap(-1, size + SPARE, flags=flags).close()


# ── is it right? ──


def compared(job: Job) -> None:
    found = job.target.stat().st_size
    if found != job.size:
        raise Broken(f"wrote {found:,} of {job.size:,} bytes")
    if digest(job.target, job.size) != job.digest:
        raise Broken("wrote other bytes than those of the file")


def digest(path: Path, size: int) -> bytes:
    """SHA-256 of the first so many bytes, read past the page cache where that can be."""
    found, room = hashlib.sha256(), memoryview(mmap.mmap(-1, MIB))
    with direct(path) as file:
        while size and (got := os.readv(file, [room])):
            found.update(room[: min(got, size)])
            size -= min(got, size)
    return found.digest()


@contextmanager
def direct(path: Path) -> Iterator[int]:
    try:
        file = os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        file = os.open(path, os.O_RDONLY)
    try:
        yield file
    finally:
        os.close(file)
