"""Films and sounds made by ffmpeg, and what ffmpeg sees and hears in a file: every frame, and when each beep begins.

A film beeps for 50 ms, half a second after it begins, so that sound can be compared with pictures.
"""

import json
import shutil
import subprocess
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.peers.playing import clean

FFMPEG = pytest.mark.skipif(
    shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None, reason="not installed: ffmpeg"
)
BEEP = 0.5  # seconds after the beginning
_RATE = 8000  # samples a second in which beeps are looked for
_LOUD = 8000  # of 32,767


def made(path: Path, *options: str, picture: float = 1.2, sound: float = 1.2, rate: str = "25", look: str = "") -> Path:
    """A film of some seconds of pictures and of sound (0: none), encoded as `options` say."""
    command = ["ffmpeg", "-v", "error", "-y"]
    if picture:
        command += ["-f", "lavfi", "-i", f"testsrc2=size=160x120:rate={rate}:duration={picture}{look}"]
    if sound:
        beep = f"if(between(t,{BEEP},{BEEP + 0.05}),0.8*sin(6283*t),0)"
        command += ["-f", "lavfi", "-i", f"aevalsrc='{beep}':s=44100:d={sound}"]
    silent(*command, "-pix_fmt", "yuv420p", "-preset", "veryfast", "-c:a", "aac", *options, str(path))
    return path


def copied(source: Path, path: Path, *options: str, before: Sequence[str] = (), after: Sequence[str] = ()) -> Path:
    """The same media in another file; ffmpeg's options `before` and `after` its input."""
    silent("ffmpeg", "-v", "error", "-y", *before, "-i", str(source), *after, "-c", "copy", *options, str(path))
    return path


def silent(*command: str) -> bytes:
    """What a program prints; it must end with 0, and have complained of nothing."""
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, env=clean())
    assert done.returncode == 0 and not done.stderr, (command, done.returncode, done.stderr.decode("utf-8", "replace"))
    return done.stdout


@dataclass(frozen=True)
class Seen:
    """Digests of the frames of a film and when each is shown, when beeps begin, and how long all is, in seconds.

    `counted`: as players hear them that count samples; `stamped`: as those that go by the times of samples. `began`:
    when the first sample is heard.
    """

    frames: list[str]
    times: list[float]
    counted: list[float]
    stamped: list[float]
    length: float
    began: float


def seen(path: Path) -> Seen:
    """What ffmpeg makes of a file; it must have nothing to complain of."""
    about = probed(path)
    kinds = {stream["codec_type"]: stream for stream in about["streams"]}
    digests, one, other = (path.with_suffix(end) for end in (".digests", ".count.pcm", ".stamp.pcm"))
    command = ["ffmpeg", "-v", "error", "-y", "-i", str(path)]
    if "video" in kinds:
        command += ["-map", "0:v:0", "-vsync", "passthrough", "-enc_time_base", "-1", "-f", "framemd5", str(digests)]
    if "audio" in kinds:
        pcm = ("-f", "s16le", "-ac", "1", "-ar", str(_RATE))
        exact = "aresample=async=100000:min_hard_comp=0.0005:first_pts=0"
        command += ["-map", "0:a:0", *pcm, str(one), "-map", "0:a:0", "-af", exact, *pcm, str(other)]
    silent(*command)
    frames, times = _frames(digests)
    began = max(0.0, float(kinds.get("audio", {}).get("start_time", 0)))
    return Seen(frames, times, _beeps(one), _beeps(other), float(about["format"]["duration"]), began)


def probed(path: Path) -> dict[str, Any]:
    """What ffprobe says of a file and its streams."""
    wanted = "stream=codec_type,codec_name,nb_frames,nb_read_packets,start_time:format=duration"
    found = silent("ffprobe", "-v", "error", "-count_packets", "-show_entries", wanted, "-of", "json", str(path))
    return dict(json.loads(found))


def _frames(path: Path) -> tuple[list[str], list[float]]:
    """The digests of frames, and when they are shown."""
    lines = path.read_text("ascii").splitlines() if path.exists() else []
    ticks = next((Fraction(line.split(": ")[1]) for line in lines if line.startswith("#tb 0")), Fraction(1))
    rows = [line.split(",") for line in lines if not line.startswith("#")]
    return [row[-1].strip() for row in rows], [float(int(row[2]) * ticks) for row in rows]


def _beeps(path: Path) -> list[float]:
    if not path.exists():
        return []
    samples, found, last = array("h", path.read_bytes()), [], -_RATE
    for at, sample in enumerate(samples):
        if abs(sample) > _LOUD:
            if at - last > _RATE // 4:
                found.append(at / _RATE)
            last = at
    return found
