"""A command that is run to its end, by somebody who has nothing else of ours: -> seconds, processor time, memory."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import downloaders, meters
from bench.downloaders import Job
from bench.peers import Broken

PLAYHEAD = (sys.executable, "-m", "playhead")
GLANCE = 50  # milliseconds between two looks at the memory
TAIL = 300  # characters of what a failed command said


@dataclass(frozen=True, slots=True)
class Ran:
    """Wall seconds, processor seconds, the most bytes that were resident at once, and what it printed."""

    seconds: float
    spent: float
    peak: int
    said: bytes


def environment(home: Path, config: str = "") -> dict[str, str]:
    """That of a Playhead which has this configuration, and keeps all that is its own in `home`."""
    home.mkdir(exist_ok=True)
    (home / "playhead.toml").write_text(config)
    kept = downloaders.environment(Job("", 0, b"", home))
    return kept | {"PLAYHEAD_CONFIG": str(home / "playhead.toml")}


def ran(command: Sequence[str], extra: Mapping[str, str], within: float, said: Path) -> Ran:
    """One run; `said` is a file for what it prints. Raises Broken where it fails, or has not ended in time."""
    before, began = downloaders.children(), time.perf_counter()
    with said.open("wb") as out, said.with_suffix(".err").open("wb") as err:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True, env={**extra}
        )
    try:
        peak = watched(process.pid, began + within)
        seconds = time.perf_counter() - began
    finally:
        downloaders.killed(process)
    if process.returncode:
        words = said.with_suffix(".err").read_text(errors="replace").strip()[-TAIL:] or "it said nothing"
        raise Broken(f"exit {process.returncode}, {' '.join(words.split())}")
    return Ran(seconds, downloaders.children() - before, peak, said.read_bytes())


def watched(pid: int, until: float) -> int:
    """Waits for the end of a process; the most memory that it had."""
    peak, end = 0, os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(end, select.POLLIN)
        while not poll.poll(GLANCE):
            peak = max(peak, meters.status_bytes(pid, "VmHWM"))
            if time.perf_counter() > until:
                raise Broken("had not ended in time")
    finally:
        os.close(end)
    return peak
