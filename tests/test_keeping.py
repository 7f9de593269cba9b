"""`playhead cache` and what is kept, as a person meets them: a program, a folder, an origin that comes and goes."""

import asyncio
import json
import re
import time
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from threading import Thread

import pytest

from tests.fakes.origin import Origin
from tests.test_cli import DEADLINE, failed, got, run, serving

SONG = Random(1).randbytes(1_500_000)
FILES = {"a.ogg": SONG, "b/노래.flac": SONG[:300_001], "b/empty.txt": b""}


class Server:
    """An origin in a thread of its own."""

    def __init__(self, files: dict[str, bytes], **how: object) -> None:
        self.origin = Origin(files, **how)  # type: ignore[arg-type]
        self.loop = asyncio.new_event_loop()
        self.thread = Thread(target=self.loop.run_forever, daemon=True)

    def begin(self) -> None:
        if not self.thread.is_alive():
            self.thread.start()
        asyncio.run_coroutine_threadsafe(self.origin.__aenter__(), self.loop).result(DEADLINE)

    def end(self) -> None:
        asyncio.run_coroutine_threadsafe(self.origin.__aexit__(), self.loop).result(DEADLINE)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(DEADLINE)
        self.loop.close()

    @property
    def url(self) -> str:
        return self.origin.url

    def bytes_of(self, path: str) -> int:
        """Bytes of a file that were asked for."""
        return sum(last - first + 1 for asked in self.origin.of(path) for first, last in [_asked(asked.headers)])


def _asked(headers: dict[str, str]) -> tuple[int, int]:
    match = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("range", ""))
    return (int(match[1]), int(match[2])) if match else (0, -1)


@contextmanager
def begun(files: dict[str, bytes] = FILES, **how: object) -> Iterator[Server]:
    server = Server(files, **how)
    server.begin()
    try:
        yield server
        server.end()
    finally:
        server.close()


@pytest.fixture
def origin() -> Iterator[Server]:
    with begun() as server:
        yield server


def blocks(home: Path) -> Path:
    return home / "cache" / "playhead" / "blocks"


def test_at_first_nothing_is_kept() -> None:
    code, out, err = run("cache")
    assert (code, err) == (0, "")
    assert " in 0 files" in out


def test_what_was_warmed_is_shown_and_played_without_the_origin(origin: Server, own_home: Path) -> None:
    code, out, err = run("cache", "warm", origin.url)
    assert (code, out) == (0, "3 files, 1.8 MB kept\n"), err
    assert origin.bytes_of("a.ogg") == len(SONG)
    shown = run("cache", "show")[1]
    assert re.search(r"\[█{40}\] 100% of +1\.5 MB +a\.ogg\n", shown)
    assert "노래.flac" in shown
    asked = len(origin.origin.requests)
    with serving(origin.url) as (_, url):
        assert got(f"{url}files/music/a.ogg") == SONG
    assert all(_asked(one.headers) in ((0, 0), (0, -1)) for one in origin.origin.requests[asked:])
    origin.end()
    with serving(origin.url) as (_, url):
        assert got(f"{url}files/music/a.ogg") == SONG
        listing = json.loads(got(f"{url}files/music/?as=json"))
        assert [entry["name"] for entry in listing["entries"]] == ["b", "a.ogg"]
        assert got(f"{url}files/music/b/%EB%85%B8%EB%9E%98.flac") == SONG[:300_001]
    origin.begin()


def test_a_pin_is_shown_and_taken_back(origin: Server) -> None:
    assert run("cache", "pin", f"{origin.url}a.ogg")[:2] == (0, "1 file, 1.5 MB kept and pinned\n")
    assert "pinned a.ogg" in run("cache")[1]
    assert run("cache", "unpin", f"{origin.url}a.ogg")[:2] == (0, "1 file, 0 B no longer pinned\n")
    assert "pinned" not in run("cache")[1]


def test_a_flipped_bit_is_found_and_fetched_again(origin: Server, own_home: Path) -> None:
    run("cache", "warm", f"{origin.url}a.ogg")
    assert run("cache", "verify")[0] == 0
    [data] = blocks(own_home).glob("*.data")
    with data.open("r+b") as file:
        file.seek(700_000)
        byte = file.read(1)[0]
        file.seek(700_000)
        file.write(bytes([byte ^ 4]))
    with serving(origin.url) as (_, url):
        assert got(f"{url}files/music/a.ogg") == SONG
        _until(lambda: b'playhead_blocks_total{what="kept"} 1.0' in got(f"{url}metrics"))
    with data.open("r+b") as file:
        file.seek(700_000)
        file.write(bytes([byte ^ 4]))
    code, out, _ = run("cache", "verify")
    assert code == 6
    assert "1 bad  a.ogg" in out
    assert run("cache", "verify")[0] == 0


def test_clear_leaves_nothing(origin: Server, own_home: Path) -> None:
    run("cache", "warm", origin.url)
    assert run("cache", "clear")[0] == 0
    assert [path.name for path in blocks(own_home).iterdir()] == ["lock"]
    assert not (own_home / "cache" / "playhead" / "listings").exists()


def test_while_a_server_has_the_folder_it_can_be_shown_only(origin: Server) -> None:
    with serving(origin.url) as (_, url):
        got(f"{url}files/music/a.ogg")
        _until(lambda: "100%" in run("cache")[1])
        for arguments in (["verify"], ["clear"], ["warm", origin.url], ["pin", origin.url]):
            assert "in use by a running playhead" in failed(7, "cache", *arguments)


def test_a_second_server_goes_on_without_keeping_and_says_so(origin: Server, own_home: Path) -> None:
    with serving(origin.url) as (_, first), serving(origin.url) as (process, second):
        assert got(f"{second}files/music/a.ogg") == SONG
        assert got(f"{first}files/music/b/") is not None
        process.terminate()
        _, err = process.communicate(timeout=DEADLINE)
        assert err.decode().count("another playhead keeps its files") == 1
        assert not list(blocks(own_home).glob("*.data"))


def test_a_folder_that_cannot_be_used_is_said_and_ends_nothing(origin: Server, own_home: Path) -> None:
    (own_home / "cache").mkdir(parents=True)
    (own_home / "cache" / "playhead").write_text("a file, not a folder")
    with serving(origin.url) as (process, url):
        assert got(f"{url}files/music/a.ogg") == SONG
        process.terminate()
        assert b"cannot be used" in process.communicate(timeout=DEADLINE)[1]
    assert "cannot be used" in failed(7, "cache", "verify")


@pytest.mark.parametrize("arguments", [["warm"], ["show", "x"], ["pin"], ["clear", "all"]], ids=" ".join)
def test_a_source_is_given_where_one_is_wanted(arguments: list[str]) -> None:
    assert "SOURCE" in failed(2, "cache", *arguments)


def test_what_is_on_this_machine_is_not_kept(tmp_path: Path) -> None:
    assert "nothing to fetch" in failed(2, "cache", "warm", str(tmp_path))


def test_what_cannot_be_warmed_is_named(origin: Server) -> None:
    failed(3, "cache", "warm", f"{origin.url}none.ogg")
    failed(7, "cache", "warm", "http://127.0.0.1:1/")
    with begun({"a": b"x" * 100_000}, validators="") as other:
        code, out, err = run("cache", "warm", other.url)
        assert code == 9
        assert "1 failed" in out
        assert "validator" in err


def test_a_tree_that_is_not_to_be_kept_is_not(origin: Server, own_home: Path) -> None:
    config = own_home / "config" / "playhead" / "playhead.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'[tree.music]\nuse = "web"\nurl = "{origin.url}"\nkeep = false\n')
    with serving() as (_, url):
        assert got(f"{url}files/music/a.ogg") == got(f"{url}files/music/a.ogg") == SONG
    assert not blocks(own_home).exists()


def test_the_quota_of_the_configuration_holds(own_home: Path, tmp_path: Path) -> None:
    config = own_home / "config" / "playhead" / "playhead.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'[reservoir]\nfolder = "{tmp_path}/kept"\nsize = "16 MiB"\n')
    files = {f"{name}.bin": Random(name).randbytes(6_000_000) for name in "abcdef"}
    with begun(files) as other:
        with serving(other.url) as (_, url):
            for name, data in files.items():
                assert got(f"{url}files/music/{name}") == data
                time.sleep(0.1)
                taken = sum(path.stat().st_blocks * 512 for path in (tmp_path / "kept" / "blocks").iterdir())
                assert taken <= (16 << 20) + (1 << 20)
        assert taken > 8 << 20


def test_bytes_of_the_day_are_counted_over_a_restart_and_end(own_home: Path) -> None:
    config = own_home / "config" / "playhead" / "playhead.toml"
    config.parent.mkdir(parents=True)
    with begun(FILES | {"c.ogg": SONG[::-1]}) as other:
        config.write_text(f'[tree.music]\nuse = "web"\nurl = "{other.url}"\nbytes_per_day = 1000000\n')
        with serving() as (process, url):
            assert got(f"{url}files/music/b/%EB%85%B8%EB%9E%98.flac") == SONG[:300_001]
            process.terminate()
            process.communicate(timeout=DEADLINE)
        with serving() as (process, url):
            with suppress(OSError):  # the day may be spent before its last request
                got(f"{url}files/music/a.ogg")
            with pytest.raises(urllib.error.HTTPError) as refused:
                got(f"{url}files/music/c.ogg")
            assert refused.value.code == 429
            assert int(refused.value.headers["Retry-After"]) > 0
            refused.value.close()
            spent = re.search(rb"playhead_day_bytes\{[^}]*\} ([0-9.e+]+)", got(f"{url}metrics"))
            assert spent and float(spent[1]) > 1_000_000
            process.terminate()
            assert b"bytes_per_day" in process.communicate(timeout=DEADLINE)[1]


def test_metrics_tell_what_was_served_fetched_and_kept(origin: Server) -> None:
    with serving(origin.url) as (_, url):
        for _ in range(2):
            got(f"{url}files/music/a.ogg")
        _until(lambda: b'playhead_blocks_total{what="kept"} 23.0' in got(f"{url}metrics"))
        text = got(f"{url}metrics").decode()
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(figures["playhead_served_bytes_total"]) >= 2 * len(SONG)
    assert float(figures["playhead_fetched_bytes_total"]) >= len(SONG)
    assert 0.4 < float(figures["playhead_amplification"]) < 0.6
    assert float(figures['playhead_first_byte_seconds_count{from="fetched"}']) == 1
    assert float(figures['playhead_first_byte_seconds_count{from="kept"}']) >= 1
    assert any(name.startswith("playhead_upstream_requests_total{") for name in figures)
    assert "playhead_retries_total" in text
    assert figures['playhead_cache_streams{state="reading"}'] == "0.0"


def _until(true: object) -> None:
    until = time.monotonic() + DEADLINE
    while not true():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.05)
