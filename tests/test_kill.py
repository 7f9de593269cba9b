"""A server that is killed at any moment gives right bytes afterwards, and has what it had kept."""

import asyncio
import json
import random
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import TracebackType

import pytest

from tests.fakes.origin import Origin
from tests.test_cli import DEADLINE, got, serving

BLOCK = 64 << 10
pytestmark = [  # a client whose server is killed leaves its socket to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
FILES = {f"album/{number}.flac": random.Random(number).randbytes(5_000_000 + 777 * number) for number in range(12)}
FIRST = "album/0.flac"


class Away(AbstractContextManager["Away"]):
    """An origin in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.origin = Origin(FILES)

    def __enter__(self) -> "Away":
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self.origin.__aenter__(), self.loop).result(DEADLINE)
        return self

    def stop(self) -> None:
        if not self.loop.is_closed():
            asyncio.run_coroutine_threadsafe(self.origin.__aexit__(), self.loop).result(DEADLINE)
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@pytest.fixture
def away() -> Iterator[Away]:
    with Away() as away:
        yield away


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "playhead.toml"
    path.write_text(f'memory = "32 MiB"\n[reservoir]\nfolder = "{tmp_path}/kept"\nsize = "48 MiB"\nfree = 0\n')
    return path


def part(url: str, path: str, start: int, stop: int) -> bytes:
    request = urllib.request.Request(f"{url}files/music/{path}", headers={"Range": f"bytes={start}-{stop - 1}"})
    with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
        assert answer.status == 206
        return bytes(answer.read())


def check(url: str, chance: random.Random, count: int = 1) -> None:
    """Random ranges, each byte of them."""
    for _ in range(count):
        path, data = chance.choice(list(FILES.items()))
        start = chance.randrange(len(data))
        stop = min(len(data), start + chance.choice([1, 1000, 100_000, 3_000_000]))
        assert part(url, path, start, stop) == data[start:stop]


def kept_blocks(url: str) -> int:
    [count] = re.findall(rb'playhead_blocks_total{what="kept"} (\d+)', got(url + "metrics"))
    return int(count)


def until(true: Callable[[], bool], within: float = DEADLINE) -> None:
    end = time.monotonic() + within
    while not true():
        assert time.monotonic() < end, "it did not come to be so in time"
        time.sleep(0.02)


@contextmanager
def busy(url: str, seed: str, wrong: list[BaseException], threads: int = 3) -> Iterator[None]:
    """Readers of random ranges, until the server is no more."""
    ending = threading.Event()

    def read(number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        while not ending.is_set():
            try:
                check(url, chance)
            except AssertionError as error:
                wrong.append(error)
            except Exception:
                return  # it was killed

    running = [threading.Thread(target=read, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        ending.set()
        for thread in running:
            thread.join()


def flip(folder: Path, chance: random.Random) -> None:
    """One bit of each file of the reservoir."""
    for path in sorted(folder.glob("blocks/*.*")):
        if size := path.stat().st_size:
            with path.open("r+b") as file:
                at = chance.randrange(size)
                file.seek(at)
                old = file.read(1)[0]
                file.seek(at)
                file.write(bytes([old ^ 1 << chance.randrange(8)]))


def taken(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.glob("blocks/*"))


def kill_often(away: Away, config: Path, tmp_path: Path, kills: int, longest: float) -> None:
    chance = random.Random(kills)
    for turn in range(kills):
        wrong: list[BaseException] = []
        with serving("--config", str(config), away.origin.url) as (process, url):
            check(url, chance, 4)
            with busy(url, f"{kills} {turn}", wrong):
                time.sleep(chance.uniform(0.2, longest))
                process.kill()
                process.wait()
        assert not wrong
        assert taken(tmp_path / "kept") <= (48 << 20) + (1 << 20)
        if turn % 3 == 2:
            flip(tmp_path / "kept", chance)
    with serving("--config", str(config), away.origin.url) as (_, url):
        for path, data in FILES.items():
            assert got(f"{url}files/music/{path}") == data


def test_a_server_that_is_killed_gives_right_bytes_afterwards(away: Away, config: Path, tmp_path: Path) -> None:
    kill_often(away, config, tmp_path, 10, 0.7)


@pytest.mark.torture
def test_a_server_that_is_killed_200_times_gives_right_bytes_afterwards(
    away: Away, config: Path, tmp_path: Path
) -> None:
    kill_often(away, config, tmp_path, 200, 1.5)


def test_what_was_kept_is_not_fetched_again_and_plays_without_the_origin(away: Away, config: Path) -> None:
    data = FILES[FIRST]
    with serving("--config", str(config), away.origin.url) as (process, url):
        listing = json.loads(got(url + "files/music/album/?as=json"))
        got(url + "files/music/?as=json")
        assert got(f"{url}files/music/{FIRST}") == data
        until(lambda: kept_blocks(url) == -(-len(data) // BLOCK))
        time.sleep(1.5)  # for the listings to be written
        process.kill()
        process.wait()
    asked = len(away.origin.of(FIRST))
    with serving("--config", str(config), away.origin.url) as (process, url):
        assert got(f"{url}files/music/{FIRST}") == data
        time.sleep(0.1)
        bodies = [one for one in away.origin.of(FIRST)[asked:] if one.headers.get("range") != "bytes=0-0"]
        assert not bodies  # it may be asked whether it changed, not for its bytes
        process.kill()
        process.wait()
    with serving("--config", str(config), away.origin.url) as (process, url):
        away.stop()
        assert [entry["name"] for entry in json.loads(got(url + "files/music/?as=json"))["entries"]] == ["album"]
        again = json.loads(got(url + "files/music/album/?as=json"))
        assert [one["name"] for one in again["entries"]] == [one["name"] for one in listing["entries"]]
        assert got(f"{url}files/music/{FIRST}") == data
        assert part(url, FIRST, 1_000_000, 4_000_000) == data[1_000_000:4_000_000]
        with pytest.raises(urllib.error.HTTPError) as refused:
            got(f"{url}files/music/album/11.flac")
        assert refused.value.code == 503


@pytest.mark.parametrize("seed", range(3))
def test_bits_that_flipped_while_it_was_down_are_never_served(
    away: Away, config: Path, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    paths = list(FILES)[:6]
    with serving("--config", str(config), away.origin.url) as (process, url):
        for path in paths:
            assert got(f"{url}files/music/{path}") == FILES[path]
        with suppress(AssertionError):
            until(lambda: kept_blocks(url) >= 6 * 77, 2)
        process.kill()
        process.wait()
    flip(tmp_path / "kept", chance)
    with serving("--config", str(config), away.origin.url) as (_, url):
        for path in paths:
            data = FILES[path]
            start = chance.randrange(len(data))
            assert part(url, path, start, len(data)) == data[start:]
            assert got(f"{url}files/music/{path}") == data
