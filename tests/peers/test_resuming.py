"""Archives that exist nowhere, fetched by programs that are killed again and again: in the end each byte is right.

And where a member fails on its way, each program sees a failed transfer, has a prefix of the right archive, and goes
on to its end when the origin is well again.
"""

import asyncio
import hashlib
import os
import random
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from playhead import Ask, Blob, literal
from playhead.origins.local import LocalTree
from playhead.transforms.collect import Collecting
from playhead.transforms.packed import Archive
from playhead.transforms.plan import Plan
from playhead.transforms.tar import tar
from playhead.transforms.zip import zip as zipped
from tests.fakes import origin as lies
from tests.fakes.origin import OLD, Answer, Asked, Fault, Origin
from tests.fakes.relay import Relay, aside
from tests.peers import crypts
from tests.peers.playing import clean, direct, needs, nginx, noise, playhead, run, until

WHEN = 1_700_000_040  # on a whole minute, as index pages tell it
RATE = 12e6  # bytes a second, so that a program that is killed had something left to do
PLACES = ("local", "nginx", "crypt")
KINDS = ("tar", "zip")
CURL = ("curl", "-q", "-sS", "--fail", "--noproxy", "*", "--max-time", "120")

pytestmark = [needs("curl"), pytest.mark.timeout(240)]


# ── what is fetched ──


def library(folder: Path, *, large: bool = False) -> Path:
    """Files of every length, about 30 MB of them; `large`: more than 4 GiB, most of which are holes."""
    files = {
        "album/1 첫째.flac": noise(11_000_003, 1),
        "album/2 second.flac": noise(7_000_000, 2),
        "album/booklet/cover.png": noise(300_000, 3),
        "album/booklet/empty": b"",
        "3 third.flac": noise(9_000_001, 4),
        **{f"many/{number}.txt": noise(1000 + number, number) for number in range(40)},
    }
    crypts.put(files, folder)
    if large:
        for name, size, seed in (("album/0 huge.bin", (4 << 30) + 12_345, 5), ("album/5.bin", 700_000_000, 6)):
            with (folder / name).open("wb") as file:
                file.truncate(size)
                for at in (0, size // 3, size // 2, size - 500_000):
                    file.seek(at)
                    file.write(noise(500_000, seed + at))
    dated(folder)
    return folder


def dated(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (WHEN, WHEN))


async def archived(folder: Path, kind: str, *, web: bool = False) -> Archive:
    """The archive of a folder, made in this process; index pages of the `web` tell no dates of folders."""
    collecting, tree = Collecting(100_000, 1 << 60), LocalTree(folder)
    await collecting.add(tree, "", lambda path: path)
    plan = collecting.planning.done()
    for number, member in enumerate(plan):
        plan.mtimes[number] *= not (web and member.folder)

    async def opener(number: int, ask: Ask) -> Blob:
        return await tree.open(plan.places[number], ask)

    return (tar if kind == "tar" else zipped)(plan, opener)


async def bytes_of(folder: Path, kind: str) -> bytes:
    return await (await archived(folder, kind)).read()


def digest_of(folder: Path, kind: str, *, web: bool = False) -> tuple[int, str]:
    """The size of the archive of a folder, and its SHA-256."""

    async def digest() -> tuple[int, str]:
        archive, sha = await archived(folder, kind, web=web), hashlib.sha256()
        async with aclosing(archive.stream(0, archive.size)) as pieces:
            async for piece in pieces:
                for at in range(0, len(piece), 16 << 20):
                    stop = min(at + (16 << 20), len(piece))
                    sha.update(piece[at:stop] if isinstance(piece, bytes | memoryview) else piece.pread(at, stop))
        return archive.size, sha.hexdigest()

    return asyncio.run(digest())


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def address(url: str, kind: str, folder: str = "music/") -> tuple[str, int]:
    """Where the archive of a folder stays, below the server, and its size."""
    request = urllib.request.Request(f"{url}files/{folder}?pack={kind}", method="HEAD")
    with direct.open(request, timeout=30) as answer:
        assert answer.headers["Accept-Ranges"] == "bytes"
        return answer.headers["Content-Location"].removeprefix("/"), int(answer.headers["Content-Length"])


@dataclass(frozen=True, slots=True)
class Served:
    """A running Playhead, and the folder of which it serves what comes from somewhere else."""

    url: str
    folder: Path
    place: str

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port
        return port


_CRYPT = """
[tree.store]
use = "web"
url = "{url}"
serve = false
[tree.music]
use = "rclone-crypt"
over = "store"
password = "{password}"
password2 = "{salt}"
"""


@contextmanager
def serving(place: str, folder: Path, home: Path) -> Iterator[Served]:
    """A folder from this machine, from nginx, or encrypted by rclone from nginx."""
    with ExitStack() as stack:
        arguments: list[str | Path] = [folder]
        if place == "nginx":
            arguments = [stack.enter_context(nginx(home / "nginx", folder)).url]
        if place == "crypt":
            sealed = home / "sealed"
            sealed.mkdir(parents=True)
            crypts.rclone("copy", str(folder), crypts.Setting().remote(sealed))
            dated(sealed)
            url = stack.enter_context(nginx(home / "nginx", sealed)).url
            config = home / "playhead.toml"
            config.write_text(_CRYPT.format(url=url, password=crypts.PASSWORD, salt=crypts.SALT), "utf-8")
            arguments = ["--config", config]
        yield Served(stack.enter_context(playhead(home / "playhead", *arguments)), folder, place)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module", params=PLACES)
def served(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    if request.param != "local" and shutil.which("nginx") is None:
        pytest.skip("not installed: nginx")
    with serving(request.param, folder, tmp_path_factory.mktemp(request.param)) as server:
        yield server


# ── who fetches it ──


@dataclass(frozen=True, slots=True)
class Client:
    """A program that resumes: its arguments before the address, and how long it lives until it is killed.

    `straight`: it writes from start to end, so that a file that is as long as it should be is whole.
    """

    command: Callable[[Path], tuple[str | Path, ...]]
    lives: tuple[float, float]
    straight: bool


def _aria2(path: Path) -> tuple[str | Path, ...]:
    quiet = ("--no-conf", "--no-netrc", "--all-proxy=", "--summary-interval=0", "--console-log-level=warn")
    pieces = (
        "-x16",
        "-s16",
        "-k1M",
        "--file-allocation=none",
        "--auto-save-interval=1",
        "--auto-file-renaming=false",
        "--allow-overwrite=true",
    )
    return ("aria2c", *quiet, *pieces, "-d", path.parent, "-o", path.name)


CLIENTS = {
    "curl": Client(lambda path: (*CURL, "-C", "-", "-o", path), (0.3, 0.8), True),
    "wget": Client(
        lambda path: ("wget", "--no-config", "--no-proxy", "-q", "-c", "--tries=1", "-O", path), (0.3, 0.8), True
    ),
    "aria2c": Client(_aria2, (1.2, 1.7), False),  # it notes what it has once a second
    "axel": Client(lambda path: ("axel", "-n8", "-q", "-o", path), (1.2, 1.7), False),
}


def fetched(client: Client, url: str, path: Path, size: int, seed: str, within: float = 100.0) -> int:
    """Start a program until it ends well, and kill it (-9) whenever it has lived for some time; how often it was."""
    chance, kills, until = random.Random(seed), 0, time.monotonic() + within
    home = path.parent / "home"
    home.mkdir(exist_ok=True)
    (home / ".axelrc").write_text("save_state_interval = 1\n")
    while True:
        assert time.monotonic() < until, f"killed {kills} times, and it has {path.stat().st_size:,} of {size:,} bytes"
        with (home / "said").open("wb") as said:
            command = [str(part) for part in (*client.command(path), url)]
            process = subprocess.Popen(command, stdout=said, stderr=said, stdin=subprocess.DEVNULL, env=clean(home))
        try:
            code = process.wait(chance.uniform(*client.lives) * 1.05**kills)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
            continue
        if code and client.straight and path.stat().st_size == size:
            return kills  # it was killed between its last byte and its end, and there is nothing left to ask for
        if code and b"No state file" in (home / "said").read_bytes():
            path.unlink()  # axel was killed before it had noted anything: it can only begin anew
            continue
        assert code == 0, f"{code}: {(home / 'said').read_text('utf-8', 'replace')[-2000:]}"
        return kills


def readable(path: Path, kind: str, files: int) -> None:
    """The archive is read to its end by those that people have."""
    if kind == "tar":
        listed = run("tar", "-tf", path, seconds=600)
        assert sum(not line.endswith(b"/") for line in listed.splitlines()) == files
    else:
        run("unzip", "-tq", path, seconds=900)


def count(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


@needs(*CLIENTS)
@pytest.mark.parametrize("kind", KINDS)
def test_programs_that_are_killed_again_and_again_have_the_archive_in_the_end(
    served: Served, kind: str, tmp_path: Path
) -> None:
    where, size = address(served.url, kind)

    def fetch(name: str) -> tuple[int, str]:
        path = tmp_path / name / "archive"
        path.parent.mkdir()
        with aside(Relay(served.port, RATE)) as relay:
            kills = fetched(CLIENTS[name], relay.url + where, path, size, f"{served.place} {name} {kind}")
        assert kills, name
        readable(path, kind, count(served.folder))
        return path.stat().st_size, sha256(path)

    with ThreadPoolExecutor() as pool:
        had = dict(zip(CLIENTS, pool.map(fetch, CLIENTS), strict=True))
    assert had == dict.fromkeys(CLIENTS, digest_of(served.folder, kind, web=served.place != "local"))


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_more_than_4_gib_are_fetched_by_programs_that_are_killed_every_few_seconds(
    place: str, kind: str, tmp_path: Path
) -> None:
    folder = library(tmp_path / "library", large=True)
    right = digest_of(folder, kind, web=place != "local")
    assert right[0] > 4 << 30
    with serving(place, folder, tmp_path / "server") as served:
        where, size = address(served.url, kind)
        path = tmp_path / "archive"
        for name, client in CLIENTS.items():
            often = Client(client.command, (2.0, 3.0), client.straight)
            kills = fetched(often, served.url + where, path, size, f"{place} {name} {kind}", within=900.0)
            print(f"{name} was killed {kills} times")
            assert kills, name
            assert (size, sha256(path)) == right, name
            readable(path, kind, count(folder))
            path.unlink()


@needs("nginx")
def test_an_archive_is_asked_of_the_origin_once(folder: Path, tmp_path: Path) -> None:
    """Sixteen connections list nothing, and what one of them has brought is not brought again."""
    with nginx(tmp_path / "nginx", folder) as origin, playhead(tmp_path / "playhead", origin.url) as url:
        where, size = address(url, "tar")
        listings = [asked for asked in origin.asked() if not asked.name]
        path = tmp_path / "archive"
        run(*_aria2(path), url + where)
        assert sha256(path) == digest_of(folder, "tar", web=True)[1]
        asked = origin.asked()
        assert listings == [line for line in asked if not line.name]
        assert sum(line.sent for line in asked if line.name) < 1.2 * size


def test_a_file_that_was_added_breaks_no_resume(folder: Path, tmp_path: Path) -> None:
    crypts.put({path: (folder / path).read_bytes() for path in ("3 third.flac", "many/1.txt")}, tmp_path / "own")
    own, path = tmp_path / "own", tmp_path / "archive"
    dated(own)
    right = digest_of(own, "zip")
    with playhead(tmp_path / "home", own) as url:
        where, _ = address(url, "zip")
        run(*CURL, "-r", "0-5000000", "-o", path, url + where)
        (own / "0 added.flac").write_bytes(noise(100_000))
        (own / "many" / "0 added.txt").write_bytes(b"added")
        run(*CURL, "-C", "-", "-o", path, url + where)
        assert sha256(path) == right[1]
    with playhead(tmp_path / "home", own) as url:  # a restart
        path.write_bytes(path.read_bytes()[:6_000_000])
        run(*CURL, "-C", "-", "-o", path, url + where)
        assert sha256(path) == right[1]


# ── members that fail ──

FILES = {
    "1 first.bin": noise(300_001, 21),
    "2 spoiled.bin": noise(6_000_000, 22),
    "3 third.bin": noise(400_000, 23),
    "small/a": noise(500, 24),
    "small/b": noise(700, 25),
}
SPOILED = "2 spoiled.bin"
DATA = FILES[SPOILED]

BECOMES: dict[str, Fault] = {
    "cut": lies.short(0),
    "reset": lies.rst(-1),
    "refused": lies.status(503),
    "changed": lies.instead(DATA[::-1], ETag='"other"', Last_Modified=OLD),
    "grown": lies.instead(DATA + noise(100_000), ETag='"longer"', Last_Modified=OLD),
    "shorter": lies.instead(DATA[:-100_000], ETag='"shorter"', Last_Modified=OLD),
    "gone": lies.status(404),
}


def spoiled(at: int, then: Fault) -> Fault:
    """The file as it is up to a byte; there the connection breaks, and from then on it is what `then` makes of it."""
    reached = False

    def edit(answer: Answer, asked: Asked) -> None:
        nonlocal reached
        start, stop = answer.span
        if reached or answer.status not in (200, 206):
            then(answer, asked)
        elif start <= at < stop:
            reached = True
            lies.rst(at - start)(answer, asked)

    return edit


@dataclass(frozen=True, slots=True)
class Failing:
    """A running Playhead over an origin that tells lies, as two trees: one is kept on this disk, one is not."""

    url: str
    origin: Origin
    bundles: Path

    def right(self, where: str) -> bytes:
        """The archive at an address, made in this process of its plan and of what the origin has."""
        _, name, title = where.split("/")
        kind = title.rpartition(".")[2]
        plan = Plan.unpacked((self.bundles / f"{name}.{kind}").read_bytes())

        async def opener(number: int, ask: Ask) -> Blob:
            blob = literal(self.origin.files[plan.places[number].partition(":")[2]])
            return replace(blob, tag=plan.tags[number] or None)

        return asyncio.run((tar if kind == "tar" else zipped)(plan, opener).read())


_BOTH = """
[tree.kept]
use = "web"
url = "{url}"
[tree.passed]
use = "web"
url = "{url}"
keep = false
"""


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Failing]:
    home = tmp_path_factory.mktemp("failing")
    with aside(Origin({})) as origin:
        (home / "playhead.toml").write_text(_BOTH.format(url=origin.url))
        with playhead(home / "home", "--config", home / "playhead.toml") as url:
            yield Failing(url, origin, home / "home" / "cache" / "playhead" / "bundles")


def fails_and_is_taken_up(failing: Failing, tree: str, kind: str, becomes: str, at: int, path: Path) -> None:
    """A member that breaks at a byte, and becomes something else: failed transfers, until all is well again."""
    origin, folder = failing.origin, f"{tree} {kind} {becomes} {at}"
    origin.files |= {f"{folder}/{name}": data for name, data in FILES.items()}
    where, _ = address(failing.url, kind, f"{tree}/{quote(folder)}/")
    right, member = failing.right(where), f"{folder}/{SPOILED}"
    origin.always[member] = spoiled(at, BECOMES[becomes])
    curl = (*CURL, "-C", "-", "-o", path, failing.url + where)
    for _ in "ab":
        assert subprocess.run(curl, capture_output=True, env=clean(), timeout=60).returncode != 0
        got = path.read_bytes() if path.exists() else b""
        assert right.startswith(got), f"{len(got):,} bytes, of which some are wrong"
        assert len(got) <= right.index(DATA) + at
    origin.always.clear()
    until(lambda: subprocess.run(curl, capture_output=True, env=clean(), timeout=60).returncode == 0 or None, 10)
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(right).digest()
    readable(path, kind, len(FILES))


@pytest.mark.parametrize(("tree", "kind"), [("kept", "tar"), ("passed", "zip")])
@pytest.mark.parametrize("becomes", BECOMES)
def test_a_member_that_fails_fails_the_transfer_which_is_taken_up_later(
    failing: Failing, tree: str, kind: str, becomes: str, tmp_path: Path
) -> None:
    at = random.Random(f"{tree} {kind} {becomes}").choice([1, 65_536, 3_141_593, len(DATA) - 1])
    fails_and_is_taken_up(failing, tree, kind, becomes, at, tmp_path / "archive")


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tree", ["kept", "passed"])
@pytest.mark.parametrize("becomes", BECOMES)
def test_a_member_that_fails_at_any_byte_fails_the_transfer(
    failing: Failing, tree: str, kind: str, becomes: str, tmp_path: Path
) -> None:
    chance = random.Random(f"{tree} {kind} {becomes}")
    borders = [0, 1, 65_535, 65_536, 262_143, 262_144, 4 << 20, len(DATA) - 65_536, len(DATA) - 1]
    for at in [*borders, *(chance.randrange(len(DATA)) for _ in range(20))]:
        path = tmp_path / f"{at}"
        fails_and_is_taken_up(failing, tree, kind, becomes, at, path)
        path.unlink()


@pytest.mark.parametrize(
    ("change", "kind"), [("written to", "tar"), ("cut", "zip"), ("cut", "tar"), ("removed", "zip")]
)
def test_a_file_of_this_machine_that_changes_on_its_way_fails_the_transfer(
    kind: str, change: str, tmp_path: Path
) -> None:
    crypts.put({**FILES, SPOILED: noise(24_000_000, 26)}, tmp_path / "own")
    dated(tmp_path / "own")
    spoiled, path = tmp_path / "own" / SPOILED, tmp_path / "archive"
    right = asyncio.run(bytes_of(tmp_path / "own", kind))
    with playhead(tmp_path / "home", tmp_path / "own") as url:
        where, _ = address(url, kind)
        curl = subprocess.Popen([*CURL, "--limit-rate", "16M", "-o", path, url + where], env=clean())
        until(lambda: (path.exists() and path.stat().st_size > 1_000_000) or None)
        if change == "written to":
            with spoiled.open("r+b") as file:
                file.write(b"other")
        elif change == "cut":
            os.truncate(spoiled, 100)
        else:
            (tmp_path / "own" / "3 third.bin").unlink()
        assert curl.wait(60) != 0
    # Not compared: the kernel sends the pages of a file as they are when they leave. But it never ends well.
    assert path.stat().st_size < len(right)
    assert subprocess.run([*CURL, "-C", "-", "-o", path, url + where], env=clean(), capture_output=True).returncode != 0
