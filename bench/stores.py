"""Places that a folder is copied to, each as Playhead and as rclone are told of it, and what is in them afterwards.

All are as far away as is asked: the Drive begins each answer so much later, before the others is a link. What they hold
is read from behind, not through what they were filled by.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from bench import peers
from bench.delay import delayed
from bench.fakedrive import faked
from bench.ground import MIB, Ground

KEY, SECRET, BUCKET = "benchmark", "not-a-secret-at-all", "bucket"
DRIVE, DAV, S3 = "Google Drive", "WebDAV", "S3"
# rclone's own advice for each, where its usual settings are for more careful times
SMALL = ("--transfers", "16", "--checkers", "16")


@dataclass(frozen=True, slots=True)
class Store:
    """`table` makes `store:` of Playhead's configuration, `remote` and `options` are rclone's; paths are joined to it.

    `small` and `large` are what makes rclone faster there, for many small files and for a large one. `held` gives the
    SHA-256 of each file below a path.
    """

    table: str
    remote: str
    options: tuple[str, ...]
    small: tuple[str, ...]
    large: tuple[str, ...]
    asked: Callable[[], int]
    held: Callable[[str], Mapping[str, str]]
    remove: Callable[[str], None]


@contextmanager
def drive(ground: Ground, away: float) -> Iterator[Store]:
    with faked(ground.scratch / "drive", away) as fake:
        yield Store(
            fake.table("store", "write = true\n"),
            "g:",
            tuple(fake.rclone()),
            (*SMALL, "--drive-pacer-min-sleep", "10ms"),
            ("--drive-chunk-size", "64Mi"),
            lambda: fake.asked().requests,
            fake.held,
            fake.remove,
        )


@contextmanager
def webdav(ground: Ground, away: float) -> Iterator[Store]:
    folder, conf = ground.scratch / "dav", ground.scratch / "dav.conf"
    folder.mkdir()
    with served("webdav", folder, ground) as server, delayed(server.base, away) as link:
        conf.write_text(f"[d]\ntype = webdav\nvendor = rclone\nurl = {link.base}\n")
        yield Store(
            f'[tree.store]\nuse = "webdav"\nurl = "{link.base}"\nwrite = true\n',
            "d:",
            ("--config", str(conf)),
            SMALL,
            (),
            lambda: link.passed().requests,
            lambda path: digests(folder / path),
            lambda path: rmtree(folder / path),
        )


@contextmanager
def s3(ground: Ground, away: float) -> Iterator[Store]:
    folder, conf = ground.scratch / "s3", ground.scratch / "s3.conf"
    (folder / BUCKET).mkdir(parents=True)
    with served("s3", folder, ground, "--auth-key", f"{KEY},{SECRET}") as server, delayed(server.base, away) as link:
        keys = f"access_key_id = {KEY}\nsecret_access_key = {SECRET}\n"
        conf.write_text(f"[s]\ntype = s3\nprovider = Rclone\nregion = us-east-1\nendpoint = {link.base}\n{keys}")
        keys = f'access_key = "{KEY}"\nsecret_key = "{SECRET}"\n'
        where = f'bucket = "{BUCKET}"\nregion = "us-east-1"\nendpoint = "{link.base}"\n'
        yield Store(
            f'[tree.store]\nuse = "s3"\n{where}{keys}write = true\n',
            f"s:{BUCKET}/",
            ("--config", str(conf)),
            SMALL,
            ("--s3-upload-concurrency", "8", "--s3-chunk-size", "16Mi"),
            lambda: link.passed().requests,
            lambda path: digests(folder / BUCKET / path),
            lambda path: rmtree(folder / BUCKET / path),
        )


@contextmanager
def served(kind: str, folder: Path, ground: Ground, *more: str) -> Iterator[peers.Server]:
    port = peers.free_port()
    command = [peers.program("rclone"), "serve", kind, str(folder), "--addr", f"127.0.0.1:{port}"]
    command += ["--config", os.devnull, "--vfs-cache-mode", "off", *more]
    with peers.running(f"rclone {kind}", command, f"http://127.0.0.1:{port}/", ground.scratch) as server:
        yield server


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file below a folder."""
    return {str(path.relative_to(folder)): digest(path) for path in folder.rglob("*") if path.is_file()}


def digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(MIB):
            found.update(piece)
    return found.hexdigest()


EVERY = {DRIVE: drive, DAV: webdav, S3: s3}
