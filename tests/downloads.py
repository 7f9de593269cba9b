"""`playhead get` as a person runs it: in this process where that is as good, else in its own; and origins that fail it.

with aside(Origin({"f": DATA})) as origin:
    broken_off(origin, tmp_path)               # about half of it is there
    done = get(origin.url + "f", folder=tmp_path)
assert done.code == 0 and (tmp_path / "f").read_bytes() == DATA
"""

import asyncio
import contextlib
import hashlib
import io
import json
import logging
import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any
from unittest import mock
from zlib import crc32

import pytest

from playhead import cli
from playhead.origins import fetch, receive
from tests.fakes import origin as lies
from tests.fakes.origin import Answer, Asked, Fault, Origin

SIZE = (5 << 20) + 4321
HALF = (5 << 19) + 1111
DATA = random.Random(1).randbytes(SIZE)
OTHER = random.Random(2).randbytes(SIZE)  # another version of it, as long
BLOCK = 64 << 10  # what is not a whole block is fetched again
SLACK = 256 << 10  # bytes that may be asked for twice, or not at all when they were not put down for certain
VALIDATORS = ("etag", "modified", "weak", "young", "")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Its last line on standard error."""
        return (self.err.strip().splitlines() or [""])[-1]

    @property
    def events(self) -> list[dict[str, Any]]:
        """What `--json` printed: each line is an event."""
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is noticed at once."""
    for module in (fetch, receive):
        monkeypatch.setattr(module, "SILENCE", 0.4)
    monkeypatch.setattr(fetch, "CONNECT", 0.4)


@contextlib.contextmanager
def _own_logs() -> Iterator[None]:
    """`cli.main` sets up logging for its process; here that ends with the command."""
    loggers = [logging.root, *(logging.getLogger(name) for name in ("playhead", "uvicorn", "asyncio"))]
    handlers, levels = logging.root.handlers[:], [logger.level for logger in loggers]
    try:
        yield
    finally:
        logging.root.handlers[:] = handlers
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _no_longer_than(seconds: float) -> Iterator[None]:
    """A command that hangs is cancelled, and fails with TimeoutError: uvloop swallows what a signal raises."""
    loops: list[asyncio.AbstractEventLoop] = []
    factory = cli._loop_factory() or asyncio.new_event_loop

    def made() -> asyncio.AbstractEventLoop:
        loops.append(factory())
        return loops[-1]

    def cancel() -> None:
        for task in asyncio.all_tasks(loops[-1]):
            task.cancel()

    def exited(code: int) -> None:
        raise TimeoutError(f"not within {seconds:.0f} s")

    timer = threading.Timer(seconds, lambda: loops[-1].call_soon_threadsafe(cancel))
    timer.start()
    try:
        with mock.patch.object(cli, "_loop_factory", lambda: made), mock.patch.object(os, "_exit", exited):
            yield
    finally:
        timer.cancel()
        timer.join()


@contextlib.contextmanager
def _pauses(none: bool) -> Iterator[None]:
    """Those that are random are none; what an origin asks for is waited for."""
    with mock.patch.object(random, "uniform", lambda low, high: 0.0 if none else (low + high) / 2):
        yield


def get(*arguments: str | Path, folder: Path, stdin: str = "", seconds: float = 10.0, hasty: bool = True) -> Ended:
    """`playhead get ARGUMENTS` within a folder, in this process; if `hasty`, it tries again without a pause."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    before = sys.stdin
    with _own_logs(), contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        sys.stdin = io.TextIOWrapper(io.BytesIO(stdin.encode()), "utf-8")
        try:
            with _no_longer_than(seconds), _pauses(hasty):
                code = cli.main(["get", *map(str, arguments)])
        except SystemExit as exit:  # argparse
            code = int(exit.code or 0)
        finally:
            sys.stdin = before
    texts = [stream.buffer.getvalue().decode("utf-8", "surrogateescape") for stream in (out, err)]
    assert "Traceback" not in texts[1], texts[1]
    return Ended(code, *texts)


def begun(*arguments: str | Path, folder: Path, **how: Any) -> "subprocess.Popen[bytes]":
    """`playhead get ARGUMENTS` within a folder, as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "playhead", "get", *map(str, arguments)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **how,
    )


def run(*arguments: str | Path, folder: Path, seconds: float = 30.0, **how: Any) -> Ended:
    """`playhead get ARGUMENTS` within a folder, as a process, to its end."""
    with running(*arguments, folder=folder, **how) as process:
        out, err = process.communicate(timeout=seconds)
        return Ended(process.returncode, out.decode("utf-8", "surrogateescape"), err.decode())


@contextlib.contextmanager
def running(*arguments: str | Path, folder: Path, **how: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that has ended when the test has."""
    process = begun(*arguments, folder=folder, **how)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def left(folder: Path, name: str = "f") -> list[str]:
    """What there is of a target in a folder."""
    return sorted(found for found in os.listdir(folder) if found == name or found.startswith(f"{name}.part"))


def holds(path: Path, *versions: bytes) -> bool:
    """Is this file just one of these versions? (pytest would take long to show where they differ.)"""
    return path.read_bytes() in versions


def on_disk(folder: Path) -> dict[str, str]:
    """The files in a folder and below: what `marks` makes of their paths and bytes."""
    return marks({str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()})


def marks(files: dict[str, bytes]) -> dict[str, str]:
    return {path: mark(data) for path, data in files.items()}


def mark(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def well(done: Ended, folder: Path, data: bytes = DATA, name: str = "f") -> None:
    """It ended well: the file is there with just these bytes, and nothing is beside it."""
    assert done.code == 0, done.err
    assert (folder / name).stat().st_size == len(data)
    assert holds(folder / name, data), "wrong bytes"
    assert [one for one in left(folder, name) if not re.search(r"\.part\.old", one)] == [name]


def failed(done: Ended, folder: Path, *codes: int, name: str = "f") -> None:
    """It ended with one of these codes and a line that says why; nothing has the name of the target."""
    assert done.code in codes, (done.code, done.err)
    assert done.err.strip() and done.said.startswith("playhead: "), done.err
    assert not (folder / name).exists()


def exact(done: Ended, folder: Path, *codes: int, data: bytes = DATA) -> None:
    """Exactly right, or an error with one of these codes."""
    if done.code == 0:
        well(done, folder, data)
    else:
        failed(done, folder, *codes)


# ── what fails ──


def until_byte(limit: int) -> Fault:
    """The file is there up to a byte; then connections end, and what is behind it is not found."""

    def edit(answer: Answer, asked: Asked) -> None:
        start = answer.span[0]
        if start + 3 * BLOCK > limit:  # it asks again for a block or two
            lies.status(404)(answer, asked)
        elif start + len(answer.body) > limit:
            lies.short(limit - start)(answer, asked)

    return edit


def broken_off(origin: Origin, folder: Path, *options: str, at: int = HALF, path: str = "f") -> int:
    """A download that ends when it has the bytes before `at`; how many bytes of the file it was sent."""
    before = origin.sent
    origin.always[path] = until_byte(at)
    done = get(f"{origin.url}{path}", "-n", "1", *options, folder=folder)
    del origin.always[path]
    name = path.rpartition("/")[2]
    failed(done, folder, 3, 7, name=name)  # 7: what has no strong validator is asked for again from before the break
    assert (folder / f"{name}.part").exists() and (folder / f"{name}.part.journal").exists(), left(folder)
    sent, origin.sent = origin.sent - before, 0
    origin.requests.clear()
    return sent


def asked_for(origin: Origin, path: str = "f") -> int:
    """How many bytes of a file were asked for, in all requests."""
    size, asked = len(origin.files[path]), 0
    for one in origin.of(path):
        first, _, last = one.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")
        asked += min(size, int(last or size) + 1) - int(first)
    return asked


def behind(start: int, fault: Fault) -> Fault:
    """A fault in answers for what is not at the very beginning; the others are right."""

    def edit(answer: Answer, asked: Asked) -> None:
        if answer.span[0] >= start:
            fault(answer, asked)

    return edit


def clamped(most: int) -> Fault:
    """206 with at most so many bytes of what is asked for."""

    def edit(answer: Answer, asked: Asked) -> None:
        start, stop = answer.span
        if answer.status == 206 and stop - start > most:
            lies.moved(0, start + most - stop)(answer, asked)

    return edit


def aligned(block: int) -> Fault:
    """206 from the block in which the range begins to the end of that in which it ends."""

    def edit(answer: Answer, asked: Asked) -> None:
        start, stop = answer.span
        if answer.status == 206:
            end = min(len(answer.data), -(-stop // block) * block)
            lies.moved(start // block * block - start, end - stop)(answer, asked)

    return edit


def from_the_start(answer: Answer, asked: Asked) -> None:
    """206 with no Content-Range, and the file from its first byte."""
    lies.whole(answer, asked)
    answer.status = 206


def numbered() -> Fault:
    """Each answer has another ETag; the bytes are the same."""
    count = 0

    def edit(answer: Answer, asked: Asked) -> None:
        nonlocal count
        count += 1
        answer.headers["ETag"] = f'"node-{count}"'

    return edit


def hostile_to_if_range(answer: Answer, asked: Asked) -> None:
    """200 and the whole wherever If-Range holds an ETag, though nothing changed."""
    if asked.headers.get("if-range", "").startswith('"'):
        lies.whole(answer, asked)


def version(data: bytes, validators: str = "etag") -> Fault:
    """Another version of the file, with validators of its own of a kind."""
    mark = f'"v{crc32(data)}"'
    later = formatdate(1_767_520_800 + crc32(data) % 1_000_000, usegmt=True)  # after lies.OLD
    headers = {
        "etag": {"ETag": mark, "Last-Modified": later},
        "modified": {"Last-Modified": later},
        "weak": {"ETag": f"W/{mark}"},
        "young": {"Last-Modified": formatdate(usegmt=True)},
        "": {},
    }[validators]

    def edit(answer: Answer, asked: Asked) -> None:
        lies.instead(data)(answer, asked)
        answer.headers.update(headers)

    return edit


def html(text: bytes = b"<html><body>Please log in</body></html>") -> Fault:
    """A page that says 200 and is not the file."""

    def edit(answer: Answer, asked: Asked) -> None:
        answer.status, answer.body, answer.headers = 200, text, {"Content-Type": "text/html; charset=utf-8"}

    return edit
