"""Programs that people use get the bytes that are there: from a folder, and from nginx behind Playhead."""

import email
import email.policy
import hashlib
import os
import pty
import re
import select
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.peers.playing import (
    LYRICS,
    Nginx,
    at,
    certificate,
    clean,
    direct,
    needs,
    nginx,
    noise,
    playhead,
    run,
    tracks,
)

SIZE = 100_003
BIG = 40 << 20
KOREAN = "옛날 노래 가사집\n" + LYRICS
CURL = ("curl", "-q", "-sS", "--fail", "--noproxy", "*")


@dataclass(frozen=True, slots=True)
class Served:
    """A running Playhead, the folder that it serves, and the nginx between them, if there is one."""

    url: str
    folder: Path
    origin: Nginx | None

    def at(self, name: str) -> str:
        return at(self.url, name)

    def data(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("library")
    (made / "some noise.bin").write_bytes(noise(SIZE))
    (made / "big.bin").write_bytes(noise(BIG, seed=1))
    (made / "text_sample").write_text(LYRICS * 40, "utf-8")
    (made / "가사.txt").write_bytes((KOREAN * 20).encode("cp949"))
    old = time.time() - 3600  # a date that is itself a validator
    for path in made.iterdir():
        os.utime(path, (old, old))
    return made


@pytest.fixture(scope="module", params=["folder", "nginx"])
def served(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("served")
    with ExitStack() as stack:
        origin = None
        if request.param == "nginx":
            if shutil.which("nginx") is None:
                pytest.skip("not installed: nginx")
            origin = stack.enter_context(nginx(home / "nginx", folder))
        url = stack.enter_context(playhead(home / "playhead", origin.url if origin else folder))
        yield Served(url, folder, origin)


@pytest.fixture(scope="module")
def track(folder: Path) -> str:
    """A real track in the library."""
    (path,) = tracks(1)
    shutil.copy(path, folder / path.name)
    return path.name


def statuses(head: Path) -> list[int]:
    """The statuses in what `curl --dump-header` wrote."""
    return [int(status) for status in re.findall(r"^HTTP/\S+ (\d+)", head.read_text("latin-1"), re.MULTILINE)]


def on_a_terminal(*command: str) -> str:
    """What a program shows on a terminal."""
    here, there = pty.openpty()
    shown, deadline = b"", time.monotonic() + 30
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=there, stderr=there, env=clean())
    try:
        os.close(there)
        while time.monotonic() < deadline:
            if select.select([here], [], [], 0.2)[0]:
                try:
                    shown += os.read(here, 1 << 16)
                except OSError:  # the other end is closed: that was all
                    break
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        os.close(here)
    return shown.decode("utf-8", "replace").replace("\r\n", "\n")


# ── curl ──


@needs("curl")
@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("0-0", 0, 1), ("5-", 5, SIZE), ("-7", SIZE - 7, SIZE), ("99999-200000", 99_999, SIZE), ("0-", 0, SIZE)],
)
def test_curl_gets_the_range_it_asks_for(served: Served, asked: str, start: int, stop: int, tmp_path: Path) -> None:
    got = run(*CURL, "--dump-header", tmp_path / "head", "-r", asked, served.at("some noise.bin"))
    assert statuses(tmp_path / "head") == [206]
    assert f"content-range: bytes {start}-{stop - 1}/{SIZE}" in (tmp_path / "head").read_text("latin-1").lower()
    assert got == served.data("some noise.bin")[start:stop]


@needs("curl")
def test_curl_gets_several_ranges_as_parts(served: Served, tmp_path: Path) -> None:
    body = run(*CURL, "--dump-header", tmp_path / "head", "-r", "0-9,5000-5999,-5", served.at("some noise.bin"))
    head = (tmp_path / "head").read_bytes().partition(b"\r\n")[2]
    message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    data, parts = served.data("some noise.bin"), list(message.iter_parts())
    assert statuses(tmp_path / "head") == [206]
    assert [part["Content-Range"] for part in parts] == [
        f"bytes {span}/{SIZE}" for span in ("0-9", "5000-5999", f"{SIZE - 5}-{SIZE - 1}")
    ]
    separated = body.split(b"\r\n--" + (message.get_boundary() or "").encode())
    bodies = [part.partition(b"\r\n\r\n")[2] for part in separated[1:-1]]
    assert bodies == [data[:10], data[5000:6000], data[-5:]]


@needs("curl")
def test_curl_is_told_where_a_range_beyond_the_end_would_be(served: Served, tmp_path: Path) -> None:
    head = tmp_path / "head"
    run(*CURL, "--dump-header", head, "-r", f"{SIZE}-", served.at("some noise.bin"), check=False)
    assert statuses(head) == [416]
    assert f"content-range: bytes */{SIZE}" in head.read_text("latin-1").lower()


@needs("curl")
def test_curl_resumes_what_it_has_a_part_of(served: Served, tmp_path: Path) -> None:
    data = served.data("some noise.bin")
    (tmp_path / "part").write_bytes(data[:30_000])
    run(*CURL, "-C", "-", "--dump-header", tmp_path / "head", "-o", tmp_path / "part", served.at("some noise.bin"))
    assert statuses(tmp_path / "head") == [206]
    assert (tmp_path / "part").read_bytes() == data


@needs("curl")
def test_curl_head_tells_size_and_ranges_and_sends_no_body(served: Served) -> None:
    head = run(*CURL, "--head", served.at("some noise.bin")).decode("latin-1").lower()
    assert head.startswith("http/1.1 200")
    for line in (f"content-length: {SIZE}", "accept-ranges: bytes", 'etag: "', "content-type: application/octet"):
        assert line in head


@needs("curl")
def test_curl_does_not_get_again_what_it_has(served: Served, tmp_path: Path) -> None:
    url, etag, body = served.at("some noise.bin"), tmp_path / "etag", tmp_path / "body"
    status = ("-o", body, "-w", "%{http_code}")
    assert run(*CURL, "--etag-save", etag, "-R", *status, url) == b"200"
    assert etag.read_text().strip().strip('"')
    assert body.read_bytes() == served.data("some noise.bin")
    assert run(*CURL, "--etag-compare", etag, *status, url) == b"304"
    assert run(*CURL, "-z", body, *status, url) == b"304"
    assert run(*CURL, "-z", "2001-01-01", *status, url) == b"200"
    etag.write_text('"another"')
    assert run(*CURL, "--etag-compare", etag, *status, url) == b"200"
    assert body.read_bytes() == served.data("some noise.bin")


@needs("curl")
def test_a_slow_curl_gets_everything(served: Served) -> None:
    got = run(*CURL, "--limit-rate", "2M", "-r", f"-{3 << 20}", served.at("big.bin"))
    assert got == served.data("big.bin")[-(3 << 20) :]


@needs("curl")
def test_curl_over_tls_gets_ranges_and_the_whole(folder: Path, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("not installed: openssl")
    cert, key = certificate(tmp_path / "tls")
    trusting = (*CURL, "--cacert", cert)
    with playhead(tmp_path / "playhead", folder, "--tls-cert", cert, "--tls-key", key) as url:
        assert url.startswith("https://")
        data = (folder / "big.bin").read_bytes()
        assert run(*trusting, "-r", "5-1000004", at(url, "big.bin")) == data[5:1_000_005]
        assert run(*trusting, "-r", "-7", at(url, "big.bin")) == data[-7:]
        assert hashlib.sha256(run(*trusting, at(url, "big.bin"))).digest() == hashlib.sha256(data).digest()
        context = ssl.create_default_context(cafile=str(cert))
        with urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        ).open(url, timeout=20) as page:
            assert b"big.bin" in page.read()


# ── downloaders ──


@needs("wget")
def test_wget_resumes_what_it_has_a_part_of(served: Served, tmp_path: Path) -> None:
    data = served.data("some noise.bin")
    (tmp_path / "some noise.bin").write_bytes(data[:70_001])
    run("wget", "--no-config", "--no-proxy", "-q", "-c", "-P", tmp_path, "--tries=1", served.at("some noise.bin"))
    assert (tmp_path / "some noise.bin").read_bytes() == data
    assert sorted(os.listdir(tmp_path)) == ["some noise.bin"]


@needs("aria2c")
def test_aria2_gets_a_file_over_eight_connections(served: Served, tmp_path: Path) -> None:
    digest = hashlib.sha256(served.data("big.bin")).hexdigest()
    run(
        *("aria2c", "--no-conf", "--no-netrc", "--all-proxy=", "-x8", "-s8", "-k1M", "--file-allocation=none"),
        *("--max-tries=1", f"--checksum=sha-256={digest}", "-d", tmp_path, "-o", "big.bin", served.at("big.bin")),
    )
    assert hashlib.sha256((tmp_path / "big.bin").read_bytes()).hexdigest() == digest
    if served.origin:
        starts = {asked.range for asked in served.origin.asked() if asked.name == "big.bin"}
        assert len(starts) >= 8


def test_urllib_gets_the_whole_and_ranges(served: Served) -> None:
    data, url = served.data("some noise.bin"), served.at("some noise.bin")
    with direct.open(url, timeout=20) as answer:
        assert answer.read() == data
        tag = answer.headers["ETag"]
    for condition, status, expected in ((tag, 206, data[10:20]), ('"another"', 200, data)):
        request = urllib.request.Request(url, headers={"Range": "bytes=10-19", "If-Range": condition})
        with direct.open(request, timeout=20) as answer:
            assert (answer.status, answer.read()) == (status, expected)
    with pytest.raises(urllib.error.HTTPError) as refused:
        direct.open(served.at("no such file"), timeout=20)
    with refused.value as answer:
        assert (answer.status, answer.read().count(b"\n")) == (404, 1)


# ── texts ──


@needs("http")
def test_httpie_shows_korean_of_a_file_without_extension(served: Served) -> None:
    shown = on_a_terminal("http", "--ignore-stdin", "--pretty=format", "GET", served.at("text_sample"))
    assert "content-type: text/plain; charset=utf-8" in shown.lower()
    assert LYRICS * 40 in shown


@needs("http")
def test_httpie_shows_a_korean_text_of_a_legacy_charset(served: Served) -> None:
    shown = on_a_terminal("http", "--ignore-stdin", "--pretty=format", "GET", served.at("가사.txt"))
    assert "content-type: text/plain; charset=euc-kr" in shown.lower()
    assert KOREAN * 20 in shown
    shown = on_a_terminal("http", "--ignore-stdin", "--pretty=format", "GET", served.at("가사.txt"), "text==utf-8")
    assert "content-type: text/plain; charset=utf-8" in shown.lower()
    assert KOREAN * 20 in shown


@needs("curl")
def test_a_text_arrives_as_it_is_unless_utf_8_is_asked_for(served: Served) -> None:
    assert run(*CURL, served.at("가사.txt")) == (KOREAN * 20).encode("cp949")
    assert run(*CURL, served.at("가사.txt") + "?text=utf-8") == (KOREAN * 20).encode("utf-8")
    assert run(*CURL, served.at("text_sample")) == (LYRICS * 40).encode("utf-8")


# ── players ──


@needs("ffprobe")
def test_ffprobe_finds_the_duration(served: Served, track: str) -> None:
    probe = ("ffprobe", "-v", "error", "-show_entries", "format=duration,size:stream=codec_name", "-of", "csv=p=0")
    assert run(*probe, served.at(track)) == run(*probe, served.folder / track)


@needs("ffmpeg")
def test_ffmpeg_decodes_the_same_after_a_jump(served: Served, track: str) -> None:
    def decoded(source: str) -> bytes:
        return run("ffmpeg", "-v", "error", "-ss", "150", "-i", source, "-t", "2", "-f", "s16le", "-")

    assert len(decoded(served.at(track))) > 100_000
    assert decoded(served.at(track)) == decoded(str(served.folder / track))


@needs("ffprobe")
def test_ffprobe_reads_packets_near_the_end(served: Served, track: str) -> None:
    probe = ("ffprobe", "-v", "error", "-read_intervals", "190%+#20", "-show_packets", "-show_data_hash", "md5")
    packets = run(*probe, "-of", "csv", served.at(track))
    assert packets.count(b"packet,") == 20
    assert packets == run(*probe, "-of", "csv", served.folder / track)


@needs("mpv")
def test_mpv_plays_from_four_fifths_on(served: Served, track: str) -> None:
    silent = ("--no-config", "--ytdl=no", "--load-scripts=no", "--vo=null", "--ao=null", "--start=80%", "--length=1")
    shown = on_a_terminal("mpv", *silent, "--term-status-msg=at ${=time-pos} of ${=duration};", served.at(track))
    told = [(float(at), float(of)) for at, of in re.findall(r"at ([\d.]+) of ([\d.]+);", shown)]
    assert told, shown
    (first, duration), (last, _) = told[0], told[-1]  # the last is told some time before the end
    assert 0.8 * duration - 0.1 < first < last < 0.8 * duration + 1.1
    assert last - first > 0.3
    assert "Exiting... (End of file)" in shown


# ── what the origin sees ──


@needs("curl")
@pytest.mark.parametrize("served", ["nginx"], indirect=True)
def test_the_origin_is_asked_for_ranges_only(served: Served) -> None:
    assert served.origin
    for options in ((), ("--head",), ("-r", "5-9"), ("-r", "-7"), ("-r", "0-1,9-10")):
        run(*CURL, *options, served.at("some noise.bin"))
    asked = [line for line in served.origin.asked() if line.name]  # by all tests before this one too
    assert len(asked) >= 5
    assert {line.method for line in asked} == {"GET"}
    assert [line for line in asked if not line.range] == []
