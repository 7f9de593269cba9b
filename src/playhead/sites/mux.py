"""Tracks -> a file, by ffmpeg: pictures and sound that came apart, or in a container that few play, put together.

They are copied as they are. ffmpeg opens nothing but the files that it is given, whatever those say, and the target is
there when it is whole.
"""

import asyncio
import json
import os
import re
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from playhead.doors.partial import beside, writing
from playhead.errors import Failure, Full, Malformed
from playhead.tree import visible

TAIL = 4096  # bytes of what ffmpeg complains of that are read
NEAR = 1.0  # seconds within which tracks begin that are on one timeline
PART = ".mux.part"  # of what ffmpeg writes

_FORMATS = {"mp4": "mp4", "m4v": "mp4", "m4a": "ipod", "mov": "mov", "mkv": "matroska", "mka": "matroska"} | {
    "webm": "webm", "weba": "webm", "ts": "mpegts", "3gp": "3gp", "ogg": "ogg", "ogv": "ogv", "opus": "opus",
    "mp3": "mp3", "aac": "adts", "flac": "flac", "flv": "flv", "avi": "avi", "wav": "wav",
}  # fmt: skip
_READ = "mov,mp4,matroska,webm,mpegts,mpeg,mpegvideo,aac,mp3,ac3,eac3,ogg,flac,wav,flv,avi,h264,hevc,asf"
_WHO = re.compile(r"^\[[^\]]{1,80} @ 0x[0-9a-f]+\]")  # in front of a complaint
_TIMED = {"mov", "matroska", "mpegts"}  # containers whose tracks say when they begin


async def muxed(tracks: Sequence[Path], target: Path, *, over: bool = False) -> None:
    """Put all pictures and sound of some files into one, as they are; the target is there when it is whole.

    `over`: whatever has its name now. Raises Malformed where there is no ffmpeg, or it cannot; Full, Denied.
    """
    program, kind = shutil.which("ffmpeg"), _FORMATS.get(target.suffix[1:].lower())
    if program is None:
        raise Malformed(f"{_named(target)} is to be put together by ffmpeg, which is not installed: install ffmpeg")
    if kind is None:
        raise Malformed(f"{_named(target)} is of no kind that tracks can be put into; choose .mp4, .webm or .mkv")
    _free(target, over)
    part = beside(target, PART)
    command = [program, "-nostdin", "-v", "error", "-y"]
    for path, offset in zip(tracks, await _offsets(tracks), strict=True):
        command += ["-itsoffset", f"{offset:.6f}", *_opened(path)]
    for number in range(len(tracks)):
        command += ["-map", f"{number}:v?", "-map", f"{number}:a?"]
    quick = ["-movflags", "+faststart"] if kind in ("mp4", "ipod", "mov", "3gp") else []
    try:
        code, said = await _run(*command, "-c", "copy", *quick, "-f", kind, f"file:{os.path.abspath(part)}")
        if code:
            raise _refused(target, said)
        await asyncio.to_thread(_published, part, target, over)
    finally:
        with suppress(OSError):
            part.unlink()


def _opened(path: Path) -> list[str]:
    """Arguments that have ffmpeg open a file, whatever its name, and no other file or address that it may name."""
    return ["-protocol_whitelist", "file", "-format_whitelist", _READ, "-i", f"file:{os.path.abspath(path)}"]


async def _offsets(tracks: Sequence[Path]) -> list[float]:
    """Seconds by which each track begins after the first one. ffmpeg alone would let all of them begin at once."""
    program = shutil.which("ffprobe")
    if program is None or len(tracks) < 2:
        return [0.0] * len(tracks)
    begins = [await _begins(program, path) for path in tracks]
    known = [begin for begin in begins if begin is not None]
    if len(known) < len(tracks) or max(known) - min(known) > NEAR:
        return [0.0] * len(tracks)
    return [begin - min(known) for begin in known]


async def _begins(program: str, path: Path) -> float | None:
    """When a track begins, in seconds; None where its container does not say."""
    shown = ("-v", "error", "-show_entries", "format=format_name,start_time", "-of", "json")
    code, said = await _run(program, *shown, *_opened(path))
    try:
        about = json.loads(said)["format"]
        return float(about["start_time"]) if _TIMED & set(about["format_name"].split(",")) and not code else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


async def _run(*command: str) -> tuple[int, str]:
    """Run a program to its end: its code, and the last of what it prints."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout
    tail = b""
    try:
        while chunk := await process.stdout.read(1 << 16):
            tail = (tail + chunk)[-TAIL:]
        return await process.wait(), tail.decode("utf-8", "replace")
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.communicate()


def _refused(target: Path, said: str) -> Failure:
    lines = [visible(_WHO.sub("", line).strip()) for line in said.splitlines() if line.strip()]
    if "No space left on device" in said:
        return Full(f"{_named(target)} cannot be put together: no space left on device")
    why = (lines or ["it does not say why"])[0][:300]
    remedy = "choose other formats by -f, or --merge-output-format mkv"
    return Malformed(f"ffmpeg cannot put {_named(target)} together: {why}; {remedy}")


def _free(target: Path, over: bool) -> None:
    if os.path.lexists(target) and not over:
        raise Malformed(f"{_named(target)} is there already: give --overwrite or --rename, or another name by -o")


def _published(part: Path, target: Path, over: bool) -> None:
    """Give what is whole its name, for certain (blocks)."""
    with writing(target):
        with part.open("rb") as file:
            os.fsync(file.fileno())
        _free(target, over)
        os.replace(part, target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _named(target: Path) -> str:
    return repr(visible(str(target)))
