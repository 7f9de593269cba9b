"""A Google Drive that is not Google's, for whoever asks for Google's names: `python -m bench.fakedrive LATENCY FOLDER`.

The fake of the tests in a process of its own, behind a proxy and under certificates of a CA that it makes in FOLDER. It
begins each answer LATENCY seconds after the request came; connections cost nothing. Playhead and rclone reach it the
same way: through the proxy, over TLS.

The first line on standard output says where it is. Each line on standard input is a command in JSON, answered by a line
of JSON; the end of them ends the process.
"""

import asyncio
import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.delay import END_WITHIN, HERE
from bench.peers import Broken, Missing

if TYPE_CHECKING:
    from tests.fakes.gdrive import FakeDrive

ACCOUNT, RCLONE_CONF = "account.json", "rclone.conf"
GOOGLES = "https://oauth2.googleapis.com/token"


@dataclass(frozen=True, slots=True)
class Asked:
    """What it was asked for so far: files' bytes, what has changed in all of it, and the rest but sign-in."""

    media: int
    feed: int
    others: int

    def __sub__(self, before: "Asked") -> "Asked":
        return Asked(self.media - before.media, self.feed - before.feed, self.others - before.others)

    @property
    def requests(self) -> int:
        return self.media + self.feed + self.others


@dataclass(frozen=True, slots=True)
class Drive:
    """A fake Drive that runs. `folder` has a service account's file and an rclone.conf, whose remote is "g"."""

    folder: Path
    proxy: str
    ca: Path
    process: subprocess.Popen[str]

    def do(self, command: str, *arguments: object) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps([command, *arguments]) + "\n")
        self.process.stdin.flush()
        if not (line := self.process.stdout.readline()):
            raise Broken("the fake Drive has ended")
        return json.loads(line)

    def asked(self) -> Asked:
        return Asked(*self.do("asked"))

    def fill(self, path: str, count: int, size: int) -> None:
        """So many files FOLDER/00000.bin ..., as `content` makes them."""
        self.do("fill", path, count, size)

    def held(self, path: str) -> Mapping[str, str]:
        """The SHA-256 of each file below a folder."""
        return dict(self.do("held", path))

    def remove(self, path: str) -> None:
        self.do("remove", path)

    def table(self, name: str, more: str = "") -> str:
        """The tree of a configuration in `folder`."""
        signed = f'service_account = "{self.folder / ACCOUNT}"\nproxy = "{self.proxy}"\nca = "{self.ca}"\n'
        return f'[tree.{name}]\nuse = "gdrive"\n{signed}{more}'

    def rclone(self) -> list[str]:
        """The options with which rclone takes it for Google's."""
        return ["--config", str(self.folder / RCLONE_CONF), "--http-proxy", self.proxy, "--ca-cert", str(self.ca)]


@contextmanager
def faked(folder: Path, latency: float = 0.0) -> Iterator[Drive]:
    """The fake in a process of its own; what it needs is written into `folder`, which is made."""
    folder.mkdir()
    log = folder / "fake.log"
    command = [sys.executable, "-m", "bench.fakedrive", str(latency), str(folder)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, cwd=HERE, text=True
        )
    assert process.stdin and process.stdout
    try:
        if not (line := process.stdout.readline()):
            said = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise (Missing if "ModuleNotFound" in said[-1] else Broken)(f"the fake Drive did not start: {said[-1]}")
        proxy, ca = json.loads(line)
        yield Drive(folder, proxy, Path(ca), process)
    finally:
        process.kill()
        process.wait(END_WITHIN)
        process.stdout.close()
        process.stdin.close()


def content(number: int, size: int) -> bytes:
    return random.Random(number).randbytes(size)


# ── the process ──


def asked(fake: "FakeDrive") -> list[int]:
    media, feed = fake.counts["media"], fake.counts["changes"]
    return [media, feed, len(fake.requests) - media - feed - fake.counts["token"]]


def fill(fake: "FakeDrive", path: str, count: int, size: int) -> None:
    folder = fake.folder(path)
    for number in range(count):
        fake.file(folder, f"{number:05d}.bin", content(number, size))


def held(fake: "FakeDrive", path: str) -> dict[str, str]:
    found: dict[str, str] = {}
    waiting = [(fake.named(path), "")]
    while waiting:
        folder, before = waiting.pop()
        for id in fake.children.get(folder, {}):
            record = fake.records[id]
            name = before + record.meta["name"]
            if record.data is None:
                waiting.append((id, f"{name}/"))
            elif name in found:
                raise Broken(f"there are two {name}")
            else:
                found[name] = hashlib.sha256(record.data).hexdigest()
    return found


def remove(fake: "FakeDrive", path: str) -> None:
    fake.delete(fake.named(path))
    fake.sessions.clear()
    fake.requests.clear()
    fake.counts.clear()


COMMANDS: Mapping[str, Callable[..., object]] = {"asked": asked, "fill": fill, "held": held, "remove": remove}


async def run(latency: float, folder: Path) -> None:
    from tests.fakes.drive_proxy import fronted
    from tests.fakes.gdrive import FakeDrive

    reader = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with FakeDrive(latency=latency, crc_headers=False) as fake, fronted(fake, folder) as front:
        (folder / ACCOUNT).write_text(json.dumps(fake.service_account(GOOGLES)))
        (folder / ACCOUNT).chmod(0o600)
        (folder / RCLONE_CONF).write_text(front.rclone_config())
        print(json.dumps([front.proxy, str(front.ca)]), flush=True)
        while line := await reader.readline():
            command, *arguments = json.loads(line)
            print(json.dumps(COMMANDS[command](fake, *arguments)), flush=True)
        os._exit(0)


def main() -> None:
    latency, folder = sys.argv[1:]
    asyncio.run(run(float(latency), Path(folder)))


if __name__ == "__main__":
    main()
