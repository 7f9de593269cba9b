"""A folder -> archives of it: Playhead's bundles, a pipe from GNU tar, a zip that zipstream-ng makes behind uvicorn.

Each is moved into something that throws it away or into one buffer, and said with what its maker spent on it. `right`
unpacks one and compares every member with its file.
"""

import json
import os
import resource
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from bench import loads, meters, peers
from bench.delay import HERE
from bench.figures import Column
from bench.ground import MIB, Ground
from bench.kept import LAST_WEEK, offering
from bench.peers import Broken, Missing, Server
from bench.runs import SINK

ALBUM = "album"
TAR, ZIP = "tar", "zip"
GNU_TAR, ZIPSTREAM = "GNU tar", "zipstream-ng"
CAT = Column("curl or cat, GiB/s")
ZIPPED = "/all.zip"
WITHIN = 600.0
SMALL = 10 << 10
FRESH = count()

Item = dict[str, object]
Fill = Callable[[Path], object]


# ── what is archived ──


@contextmanager
def album(ground: Ground, number: int, fill: Fill) -> Iterator[Ground]:
    """A ground whose folder has an album of so many files, and beside it the small file for the check."""
    with offering(ground, {}) as offered:
        folder = offered.folder / ALBUM
        folder.mkdir(0o755)
        for track in range(number):
            path = folder / f"track-{track:06d}.bin"
            fill(path)
            os.utime(path, (time.time() - LAST_WEEK,) * 2)
        os.sync()
        yield offered


def small(path: Path) -> None:
    path.write_bytes(os.urandom(SMALL))


def tracks(ground: Ground) -> list[Path]:
    return sorted((ground.folder / ALBUM).iterdir())


def items(ground: Ground, sized: bool = True, crcs: Sequence[int] = ()) -> list[Item]:
    """The album as the list of a bundle, with what may be told of each member."""
    found: list[Item] = []
    for path in tracks(ground):
        name = f"{ALBUM}/{path.name}"
        found.append({"source": f"music:{name}", "name": name, **({"size": path.stat().st_size} if sized else {})})
    return [item | {"crc32": crc} for item, crc in zip(found, crcs, strict=True)] if crcs else found


# ── archives of Playhead ──


@dataclass(frozen=True, slots=True)
class Bundle:
    """An archive that has an address; the server's base is that of its site."""

    server: Server
    path: str
    size: int


def site(server: Server) -> Server:
    where = urlsplit(server.base)
    return replace(server, base=f"{where.scheme}://{where.netloc}")


def listed(members: Sequence[Item], kind: str) -> bytes:
    """A list that nobody posted before, for the first member has another name: nothing is known of its bundle."""
    first: Item = members[0] | {"name": f"{ALBUM}/track-000000.{next(FRESH):06d}.bin"}
    return json.dumps({"kind": kind, "name": ALBUM, "members": [first, *members[1:]]}).encode()


def posted(server: Server, body: bytes) -> Bundle:
    connection = peers.connect(server.base, timeout=loads.SPARE)
    connection.request("POST", "/bundles", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    told = answer.read()
    connection.close()
    if answer.status != 201:
        raise Broken(f"the list was answered {answer.status}: {told[:200]!r}")
    made = json.loads(told)
    return Bundle(site(server), made["url"], made["size"])


def fresh(server: Server, members: Sequence[Item], kind: str) -> Bundle:
    return posted(server, listed(members, kind))


def told(server: Server, path: str) -> Bundle:
    """An archive that is made as it is asked for, and whose length is told before."""
    connection = peers.connect(server.base, timeout=loads.SPARE)
    connection.request("HEAD", path)
    answer = connection.getresponse()
    connection.close()
    if answer.status != 200:
        raise Broken(f"{path} was answered {answer.status}")
    return Bundle(site(server), path, int(answer.headers["Content-Length"]))


# ── moving them ──


@dataclass(frozen=True, slots=True)
class Moved:
    """How much it was, in GiB/s, and the processor seconds of who made it."""

    size: int
    speed: float
    spent: float


def fetched(make: Callable[[], Bundle], column: Column) -> Moved:
    """A bundle over HTTP, into curl or into the copying sink; what its making takes is not counted."""
    bundle = make()
    load = loads.copying_sink if column is SINK else loads.curl
    before = meters.processor_seconds(bundle.server.group)
    speed = load(bundle.server, bundle.size, bundle.path)
    return Moved(bundle.size, speed, meters.processor_seconds(bundle.server.group) - before)


def piped(ground: Ground, options: Sequence[str], column: Column) -> Moved:
    """The album from GNU tar through a pipe, into `cat > /dev/null` or into one buffer of 1 MiB."""
    command = [peers.program("tar"), *options, "-cf", "-", "-C", str(ground.folder), ALBUM]
    size, before, began = tarred(ground, options), children(), time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as tar:
        assert tar.stdout
        if column is SINK:
            got = swallowed(tar.stdout)
            code, spent = tar.wait(WITHIN), children() - before
        else:
            with subprocess.Popen(["cat"], stdin=tar.stdout, stdout=subprocess.DEVNULL) as cat:
                tar.stdout.close()
                code, spent = tar.wait(WITHIN), children() - before  # cat is not waited for yet, nor counted
                got = -1 if cat.wait(WITHIN) else size
    seconds = time.perf_counter() - began
    if code or got != size:
        raise Broken(f"tar gave {got} of {size} bytes, exit {code}")
    return Moved(size, size / loads.GIB / seconds, spent)


def tarred(ground: Ground, options: Sequence[str]) -> int:
    """The size of GNU tar's archive: headers, the files, two blocks of zeros, in records of 20 blocks or as told."""
    record = 512 * (int(options[-1]) if options else 20)
    size = 512 + sum(512 + path.stat().st_size + -path.stat().st_size % 512 for path in tracks(ground)) + 1024
    return size + -size % record


def swallowed(pipe: IO[bytes]) -> int:
    buffer, got = bytearray(MIB), 0
    while number := os.readv(pipe.fileno(), [buffer]):
        got += number
    return got


def children() -> float:
    """Processor seconds of the children that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def zipper(ground: Ground) -> AbstractContextManager[Server]:
    """The album as a zip by zipstream-ng."""
    if find_spec("zipstream") is None:
        raise Missing(f"{ZIPSTREAM} (pip install {ZIPSTREAM})")
    port = peers.free_port()
    command = [sys.executable, "-m", "bench.zipping", str(port), str(ground.folder / ALBUM)]
    base = f"http://127.0.0.1:{port}/"
    return peers.running(ZIPSTREAM, command, base, ground.scratch, {"PYTHONPATH": str(HERE)})


# ── are they right? ──


def right(make: Callable[[], Bundle], kind: str, ground: Ground) -> dict[str, float]:
    """A bundle is fetched into a file, and unpacked."""
    bundle, archive = make(), ground.scratch / f"archive.{kind}"
    command = [peers.program("curl"), "-s", "-f", "-o", str(archive), bundle.server.url(bundle.path)]
    try:
        subprocess.run(command, check=True, timeout=WITHIN)
        if archive.stat().st_size != bundle.size:
            raise Broken(f"the archive has {archive.stat().st_size} of {bundle.size} bytes")
        by_tar(archive, tracks(ground)) if kind == TAR else by_zip(archive, tracks(ground))
    finally:
        archive.unlink(missing_ok=True)
    return {}


def by_tar(archive: Path, files: Sequence[Path]) -> None:
    names = subprocess.run(
        [peers.program("tar"), "tf", archive], check=True, capture_output=True, timeout=WITHIN
    ).stdout
    if (number := sum(not name.endswith(b"/") for name in names.splitlines())) != len(files):
        raise Broken(f"tar t tells of {number} members, not {len(files)}")
    with tarfile.open(archive) as opened:
        members = sorted((member for member in opened if member.isfile()), key=lambda member: member.name)
        for member, file in zip(members, files, strict=True):
            content = opened.extractfile(member)
            assert content
            same(content, file)


def by_zip(archive: Path, files: Sequence[Path]) -> None:
    with zipfile.ZipFile(archive) as opened:
        members = sorted((member for member in opened.infolist() if not member.is_dir()), key=lambda one: one.filename)
        for member, file in zip(members, files, strict=True):
            with opened.open(member) as content:
                same(content, file)


def same(content: IO[bytes], file: Path) -> None:
    with file.open("rb") as opened:
        while wanted := opened.read(MIB):
            if content.read(len(wanted)) != wanted:
                raise Broken(f"other bytes than those of {file.name}, before {opened.tell():,}")
    if content.read(1):
        raise Broken(f"more than the file {file.name}")
