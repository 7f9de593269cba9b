"""What plays and what is played: Playhead as a process, an nginx that keeps count, and a library of known bytes.

Every wait has a deadline, everything listens on loopback, and only what was started here is ended.
"""

import json
import os
import random
import select
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, unquote

import pytest

MUSIC = Path("/usr/share/games/singularity/music")  # Debian's package singularity-music: real tracks, free ones
START = 20.0  # seconds in which a server must be there, and in which it must have ended
LYRICS = "나의 살던 고향은 꽃 피는 산골\n복숭아꽃 살구꽃 아기 진달래\n울긋불긋 꽃 대궐 차린 동네\n"

T = TypeVar("T")

direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skips a test where a program that it runs is absent."""
    missing = [name for name in programs if shutil.which(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def tracks(count: int) -> list[Path]:
    """Real tracks, in order of their names; skips where they are not there."""
    found = sorted(MUSIC.glob("*.ogg"))[:count]
    if len(found) < count:
        pytest.skip("the package singularity-music is not installed")
    return found


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def clean(home: Path | None = None) -> dict[str, str]:
    """The environment of a program under test: no proxies, no configuration of whoever runs the tests."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith(("PLAYHEAD_", "XDG_", "LC_"))
    }
    kept |= {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
    if home:
        folders = ("CONFIG", "STATE", "CACHE", "DATA")
        kept |= {"HOME": str(home)} | {f"XDG_{name}_HOME": str(home / name.lower()) for name in folders}
    return kept


def until(found: Callable[[], T | None], seconds: float = 10.0, step: float = 0.02) -> T:
    """What `found` gives, once it gives something. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (value := found()) is not None:
            return value
        time.sleep(step)
    raise TimeoutError(f"not within {seconds:.0f} s")


# ── Playhead ──


@contextmanager
def playhead(home: Path, *arguments: str | Path) -> Iterator[str]:
    """`playhead serve ARGUMENTS` on a free port -> its URL; it must end well, having complained of nothing."""
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "playhead", "serve", *map(str, arguments), "--listen", "127.0.0.1:0"]
    errors = home / "stderr"
    with errors.open("wb") as log:
        served = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=clean(home), cwd=home)
    try:
        yield _first_line(served, errors)
        served.terminate()
        assert served.wait(START) == 0, errors.read_text("utf-8", "replace")
        assert "Traceback" not in errors.read_text("utf-8", "replace"), errors.read_text("utf-8", "replace")
    finally:
        served.kill()
        served.wait()
        assert served.stdout
        served.stdout.close()


def _first_line(served: "subprocess.Popen[bytes]", errors: Path) -> str:
    assert served.stdout
    ready, _, _ = select.select([served.stdout], [], [], START)
    line = served.stdout.readline().decode() if ready else ""
    assert line.startswith("http") and line.endswith("/\n"), errors.read_text("utf-8", "replace")
    return line.strip()


# ── nginx ──


@dataclass(frozen=True, slots=True)
class Asked:
    """One line of nginx's access log."""

    request: str
    range: str
    status: int
    sent: int

    @property
    def method(self) -> str:
        return self.request.split(" ")[0]

    @property
    def name(self) -> str:
        """The last segment of the path, decoded; empty for a folder."""
        return unquote(self.request.split(" ")[1].rpartition("/")[2])


@dataclass(frozen=True, slots=True)
class Nginx:
    """A running nginx with index pages."""

    url: str
    log: Path
    process: "subprocess.Popen[bytes]"

    def asked(self) -> list[Asked]:
        """What it was asked until now. A request is logged when its answer has ended."""
        return [Asked(**json.loads(line)) for line in self.log.read_text("utf-8").splitlines()]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(START)


_CONFIGURATION = """
{user} daemon off; worker_processes 1; pid {home}/nginx.pid; error_log {home}/error.log;
events {{ worker_connections 512; }}
http {{
  log_format counted escape=json
    '{{"request":"$request","range":"$http_range","status":$status,"sent":$body_bytes_sent}}';
  access_log {home}/access.log counted;
  client_body_temp_path {home}/a; proxy_temp_path {home}/b; fastcgi_temp_path {home}/c;
  uwsgi_temp_path {home}/d; scgi_temp_path {home}/e;
  default_type application/octet-stream; types {{ audio/ogg ogg; text/plain txt; }}
  server {{ listen 127.0.0.1:{port}; root {root}; autoindex on; autoindex_exact_size on; limit_rate {rate}; }}
}}
"""


@contextmanager
def nginx(home: Path, root: Path, rate: str = "0") -> Iterator[Nginx]:
    """nginx over the folder `root`, each answer at most `rate` bytes a second ("0": as fast as it can).

    It inherits a socket that already listens (as in its own upgrades), so no port can be lost to another.
    """
    home.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        configuration = home / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""  # else the worker may not read the test's folders
        configuration.write_text(_CONFIGURATION.format(home=home, port=port, root=root, rate=rate, user=user), "utf-8")
        fd = listening.fileno()
        process = subprocess.Popen(
            [
                shutil.which("nginx") or "nginx",
                "-p",
                str(home),
                "-c",
                str(configuration),
                "-e",
                str(home / "error.log"),
            ],
            env=clean(home) | {"NGINX": f"{fd};"},
            pass_fds=[fd],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    try:
        url = f"http://127.0.0.1:{port}/"
        with direct.open(url, timeout=START) as answer:
            answer.read()
        (home / "access.log").write_bytes(b"")
        yield Nginx(url, home / "access.log", process)
    finally:
        process.terminate()
        try:
            process.wait(START)
        finally:
            process.kill()
            process.wait()


# ── clients ──


def run(*command: str | Path, check: bool = True, seconds: float = 60.0) -> bytes:
    """What a program prints; it must end with 0."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=seconds,
        env=clean(),
    )
    assert not check or done.returncode == 0, (command, done.returncode, done.stderr.decode("utf-8", "replace"))
    return done.stdout


def at(url: str, *names: str) -> str:
    """The URL of a file in the tree `music` of a server."""
    return f"{url}files/music/" + "/".join(quote(name) for name in names)


def certificate(home: Path) -> Sequence[Path]:
    """A certificate of 127.0.0.1 that vouches for itself, and its key."""
    home.mkdir(parents=True, exist_ok=True)
    cert, key = home / "cert.pem", home / "key.pem"
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert)  # fmt: skip
    return cert, key
