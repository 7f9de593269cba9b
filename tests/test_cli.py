"""The command line, as a person meets it: a program, its output, its exit code."""

import base64
import http.server
import json
import logging
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from playhead import __version__, cli, errors

DEADLINE = 10.0
SONG = bytes(range(256)) * 40


def begun(*arguments: str | bytes, **how: Any) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "playhead", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **how,
    )


@contextmanager
def running(*arguments: str | bytes, **how: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """A program that has ended when the test has."""
    process = begun(*arguments, **how)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE)


def run(*arguments: str | bytes, **how: Any) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    with running(*arguments, **how) as process:
        out, err = process.communicate(timeout=DEADLINE)
        return process.returncode, out.decode("utf-8", "surrogateescape"), err.decode()


def failed(code: int, *arguments: str | bytes, **how: Any) -> str:
    """What a command says that ends with a code: one line on standard error, and nothing else."""
    returned, out, err = run(*arguments, **how)
    assert (returned, out) == (code, ""), err
    assert re.fullmatch(r"playhead: [^\n]+\n", err)
    return err


@contextmanager
def serving(*arguments: str, **how: Any) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """`playhead serve` and the URL that it prints, both gone after the test."""
    with running("serve", "--listen", "127.0.0.1:0", *arguments, **how) as process:
        assert process.stdout
        ready, _, _ = select.select([process.stdout], [], [], DEADLINE)
        url = process.stdout.readline().decode().strip() if ready else ""
        assert url.startswith("http"), process.stderr and process.stderr.read1()  # type: ignore[attr-defined]
        yield process, url


def got(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=DEADLINE) as answer:
        return bytes(answer.read())


@pytest.fixture
def music(tmp_path: Path) -> Path:
    folder = tmp_path / "music"
    (folder / "album").mkdir(parents=True)
    (folder / "song.mp3").write_bytes(SONG)
    (folder / "album" / "1.flac").write_bytes(b"one")
    os.utime(folder / "song.mp3", (1_000_000_000, 1_000_000_000))
    return folder


@pytest.fixture
def config(own_home: Path, music: Path) -> Path:
    """The configuration of whoever runs this, with two trees."""
    path = own_home / "config" / "playhead" / "playhead.toml"
    path.parent.mkdir(parents=True)
    path.write_text(f'[tree.music]\nuse = "local"\nroot = "{music}"\n[tree.web-2]\nuse = "web"\nurl = "http://h/"\n')
    return path


@contextmanager
def origin(folder: Path, user: str = "") -> Iterator[str]:
    """A server of another kind over a folder, which may want a user and a password."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def do_GET(self) -> None:
            wanted = f"Basic {base64.b64encode(user.encode()).decode()}"
            if user and self.headers.get("Authorization") != wanted:
                self.send_error(401)
            else:
                super().do_GET()

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def own_logs() -> Iterator[None]:
    """`cli.main` sets up logging for its process; in this one that ends with the test."""
    loggers = [logging.root, *(logging.getLogger(name) for name in ("playhead", "uvicorn", "asyncio"))]
    handlers, levels = logging.root.handlers[:], [logger.level for logger in loggers]
    yield
    logging.root.handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def free_port() -> int:
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# ── the program ──


def test_the_version_is_told() -> None:
    assert run("--version") == (0, f"playhead {__version__}\n", "")


def test_help_names_every_command_and_exit_code() -> None:
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    for word in ("serve", "ls", "cat", "doctor", "exit codes:", "130 interrupted", "141"):
        assert word in out


def test_every_failure_has_an_exit_code_that_help_explains() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.Failure)]
    for kind in kinds:
        assert re.search(rf"(^|\s){kind.code} ", cli.CODES)


@pytest.mark.parametrize("command", ["serve", "ls", "cat", "doctor"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: playhead {command}")


def test_help_starts_at_once() -> None:
    took = []
    while not took or (min(took) >= 0.4 and len(took) < 6):  # 0.2 s is meant; a busy machine may take longer
        began = time.perf_counter()
        run("--help")
        took.append(time.perf_counter() - began)
    assert min(took) < 0.4


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["play"],
        ["ls"],
        ["cat"],
        ["ls", "a", "b"],
        ["ls", "--nothing", "."],
        ["cat", "--offset", "-1", "x"],
        ["cat", "--offset", "1k", "x"],
        ["cat", "--length", "", "x"],
        ["cat", "--length", "²", "x"],
        ["serve", "--listen"],
    ],
)
def test_wrong_usage_ends_with_2_and_how_to_use_it(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert err.startswith("usage: playhead")


# ── ls ──


def test_ls_shows_sizes_dates_and_names(music: Path) -> None:
    code, out, err = run("ls", str(music), env=os.environ | {"TZ": "UTC"})
    assert (code, err) == (0, "")
    folder, song = out.splitlines()
    assert folder.split()[0] == "-"
    assert folder.endswith("  album/")
    assert song == "            10,240  2001-09-09 01:46  song.mp3"


def test_ls_as_json_is_what_the_server_gives(music: Path) -> None:
    code, out, err = run("ls", "--json", str(music))
    assert (code, err) == (0, "")
    listing = json.loads(out)
    assert (listing["path"], listing["next"]) == ("", None)
    assert [entry["name"] for entry in listing["entries"]] == ["album", "song.mp3"]
    assert set(listing["entries"][1]) == {"name", "folder", "size", "modified", "tag"}
    assert (listing["entries"][1]["size"], listing["entries"][1]["modified"]) == (10_240, "2001-09-09T01:46:40Z")


def test_ls_of_a_file_is_that_file(music: Path) -> None:
    assert run("ls", str(music / "song.mp3"))[1].endswith("  song.mp3\n")
    assert [entry["name"] for entry in json.loads(run("ls", "--json", str(music / "song.mp3"))[1])["entries"]] == [
        "song.mp3"
    ]


NASTY = ["new\nline", "\x1b[2Jcleared", "bell\x07", "\u202egnp.exe", "\udcff", "\x9b31m", "별"]


def test_ls_shows_names_so_that_they_steer_no_terminal(tmp_path: Path) -> None:
    for name in NASTY:
        (tmp_path / name).touch()
    code, out, _ = run("ls", str(tmp_path))
    assert code == 0
    assert len(out.splitlines()) == len(NASTY)
    assert all(line.isprintable() for line in out.split("\n"))
    assert "별" in out
    assert {entry["name"] for entry in json.loads(run("ls", "--json", str(tmp_path))[1])["entries"]} == set(NASTY)


def test_ls_can_be_written_where_not_every_character_can(tmp_path: Path) -> None:
    (tmp_path / "별.mp3").touch()
    code, out, err = run("ls", str(tmp_path), env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert (code, err) == (0, "")
    assert out.count("\n") == 1


# ── cat ──


def test_cat_writes_the_bytes_of_a_file(music: Path) -> None:
    with running("cat", str(music / "song.mp3")) as process:
        assert process.communicate(timeout=DEADLINE) == (SONG, b"")
        assert process.returncode == 0


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--offset", "5"], SONG[5:]),
        (["--length", "5"], SONG[:5]),
        (["--offset", "100", "--length", "7"], SONG[100:107]),
        (["--offset", "10230", "--length", "100"], SONG[10230:]),
        (["--offset", "10240"], b""),
        (["--offset", "99999999999999999999", "--length", "5"], b""),
        (["--length", "0"], b""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_cat_writes_a_part_of_a_file(music: Path, options: list[str], part: bytes) -> None:
    with running("cat", *options, str(music / "song.mp3")) as process:
        assert process.communicate(timeout=DEADLINE) == (part, b"")
        assert process.returncode == 0


def test_cat_takes_names_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "caf\udce9").write_bytes(b"x")
    assert run("cat", os.fsencode(tmp_path / "caf\udce9")) == (0, "x", "")


@pytest.mark.parametrize("command", ["cat", "ls"])
def test_a_reader_that_closes_the_pipe_ends_it_quietly(tmp_path: Path, command: str) -> None:
    if command == "cat":
        with (tmp_path / "big").open("wb") as file:
            file.truncate(200 << 20)
        source = tmp_path / "big"
    else:
        source = tmp_path
        for number in range(3000):
            (tmp_path / f"{number:0200}").touch()
    with running(command, str(source)) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.read(1)
        process.stdout.close()
        assert process.wait(DEADLINE) == 141
        assert process.stderr.read() == b""
        process.stdout = None


def test_a_reader_that_closed_before_the_first_byte_ends_it_quietly(music: Path) -> None:
    for arguments in (["ls", str(music)], ["cat", str(music / "song.mp3")]):
        reader, writer = os.pipe()
        os.close(reader)
        process = subprocess.run(
            [sys.executable, "-m", "playhead", *arguments], stdout=writer, stderr=subprocess.PIPE, timeout=DEADLINE
        )
        os.close(writer)
        assert (process.returncode, process.stderr) == (141, b"")


def test_cat_can_be_interrupted_while_its_reader_pauses(tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(50 << 20)
    with running("cat", str(tmp_path / "big")) as process:
        assert process.stdout
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130


# ── sources ──


def test_a_tree_of_the_configuration_is_named_before_a_colon(config: Path) -> None:
    assert run("ls", "music:")[1].endswith("  song.mp3\n")
    assert run("ls", "music:album")[1].endswith("  1.flac\n")
    assert run("ls", "music:/album/")[1].endswith("  1.flac\n")
    assert run("cat", "music:album/1.flac") == (0, "one", "")


@pytest.mark.parametrize("command", ["ls", "cat", "serve"])
def test_an_unknown_name_ends_with_2_and_tells_the_known_ones(config: Path, command: str) -> None:
    said = failed(2, command, "musik:album")
    assert "'musik'" in said
    assert "music, web-2" in said


def test_without_a_configuration_there_are_no_names() -> None:
    assert "none" in failed(2, "ls", "music:")


def test_a_path_with_a_colon_begins_with_a_dot(tmp_path: Path, config: Path) -> None:
    (tmp_path / "music:b").write_bytes(b"a path")
    (tmp_path / "a:b").write_bytes(b"a path")
    (tmp_path / "C:b").write_bytes(b"not a name")
    assert run("cat", "./music:b", cwd=tmp_path) == (0, "a path", "")
    assert run("cat", "./a:b", cwd=tmp_path) == (0, "a path", "")
    assert run("cat", "C:b", cwd=tmp_path) == (0, "not a name", "")
    failed(2, "cat", "a:b", cwd=tmp_path)


def test_a_home_is_meant_by_a_tilde(music: Path, tmp_path: Path) -> None:
    assert run("cat", "~/music/album/1.flac", env=os.environ | {"HOME": str(tmp_path)}) == (0, "one", "")


def test_a_name_that_begins_with_a_tilde_and_is_nobodys_home_is_a_name(tmp_path: Path) -> None:
    (tmp_path / "~draft.mp3").write_bytes(b"x")
    assert run("cat", "~draft.mp3", cwd=tmp_path) == (0, "x", "")


def test_what_is_not_there_ends_with_3(music: Path, config: Path) -> None:
    for source in (str(music / "nothing"), "music:nothing", "./music:", str(music / "song.mp3" / "x")):
        assert "no" in failed(3, "cat", source)
    failed(3, "ls", "nothing")
    failed(3, "cat", str(music))
    failed(3, "cat", "music:album")
    failed(3, "serve", str(music / "nothing"))


def test_an_error_is_one_line_whatever_the_name(tmp_path: Path) -> None:
    for name in ("new\nline \x1b[2J", "별 \udcff"):
        said = failed(3, "cat", os.fsencode(str(tmp_path / name)))
        assert said[:-1].isprintable()


def test_what_leads_out_of_the_folder_ends_with_4(music: Path, config: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    (music / "out").symlink_to("../secret")
    failed(4, "cat", "music:out")


def test_what_is_no_path_ends_with_2(config: Path) -> None:
    for source in ("music:../secret", "music:a//b", "music:a/./b"):
        failed(2, "cat", source)


def test_a_wrong_configuration_ends_with_2_and_its_line(config: Path, music: Path) -> None:
    config.write_text('listen = "127.0.0.1:1"\nlisen = 1\n')
    for arguments in (["cat", str(music)], ["serve", str(music)], ["doctor"]):
        assert f"{config}:2: lisen: unknown" in failed(2, *arguments)


def test_another_configuration_can_be_named(config: Path, tmp_path: Path, music: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text('[tree.films]\nuse = "local"\nroot = "music/album"\n')
    assert run("cat", "films:1.flac", "--config", str(other)) == (0, "one", "")
    assert run("cat", "films:1.flac", env=os.environ | {"PLAYHEAD_CONFIG": str(other)}) == (0, "one", "")
    failed(2, "ls", "films:")
    assert "no such" in failed(2, "ls", str(music), "--config", str(tmp_path / "nothing.toml"))


def test_a_url_is_a_file_or_a_folder(music: Path) -> None:
    with origin(music) as url:
        assert run("cat", url + "album/1.flac") == (0, "one", "")
        assert [entry["name"] for entry in json.loads(run("ls", "--json", url)[1])["entries"]] == ["album", "song.mp3"]
        assert run("cat", "--offset", "1", "--length", "1", url + "album/1.flac") == (0, "n", "")
        failed(3, "cat", url + "nothing")


def test_nothing_is_left_open_at_the_end(music: Path) -> None:
    with origin(music) as url:
        for arguments in (["ls", url], ["cat", url + "song.mp3"], ["cat", str(music / "song.mp3")]):
            code, _, err = run(*arguments, env=os.environ | {"PYTHONWARNINGS": "always::ResourceWarning"})
            assert (code, err) == (0, "")


def test_an_origin_that_is_not_there_ends_with_7() -> None:
    failed(7, "cat", f"http://127.0.0.1:{free_port()}/song.mp3")


def test_what_is_no_url_ends_with_2() -> None:
    for url in ("ftp://example.org/", "http://", "http://[/", "http://h:port/"):
        failed(2, "cat", url)


def test_credentials_of_a_url_are_used_and_never_shown(music: Path) -> None:
    with origin(music, user="me:hunter22") as url:
        host = url.removeprefix("http://")
        assert run("cat", f"http://me:hunter22@{host}album/1.flac") == (0, "one", "")
        for arguments in (
            ["-v", f"http://me:hunter22@{host}album/1.flac"],
            [f"http://me:hunter33@{host}?token=hunter44"],
        ):
            _, out, err = run("cat", *arguments)
            assert "hunter" not in out + err
            assert err
        failed(4, "cat", f"http://me:wrong-one@{host}song.mp3")


def test_every_request_is_one_line_where_it_is_wanted(music: Path) -> None:
    with origin(music) as url:
        code, out, err = run("cat", "-v", url + "album/1.flac")
        assert (code, out) == (0, "one")
        assert re.fullmatch(rf"\d\d:\d\d:\d\d GET {url}album/1.flac bytes=0- -> 200 in \d+ ms\n", err)


# ── serve ──


def test_serve_prints_where_it_serves(music: Path) -> None:
    with serving(str(music)) as (_, url):
        assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d*/", url)
        assert got(url + "files/music/song.mp3") == SONG
        assert b"song.mp3" in got(url)


def test_serve_serves_sources_and_trees(music: Path, config: Path) -> None:
    config.write_text(config.read_text().replace("tree.music", "tree.films"))
    with serving(str(music / "album"), str(music / "song.mp3")) as (_, url):
        assert got(url + "files/music/1.flac") == b"one"
        assert got(url + "files/music2/song.mp3") == SONG
        assert got(url + "files/films/album/1.flac") == b"one"


def test_serve_takes_its_options_from_the_configuration(music: Path, config: Path) -> None:
    port = free_port()
    config.write_text(f'listen = "127.0.0.1:{port}"\nprefix = "/p"\n' + config.read_text())
    with running("serve") as process:
        assert process.stdout
        assert select.select([process.stdout], [], [], DEADLINE)[0]
        assert process.stdout.readline().decode().strip() == f"http://127.0.0.1:{port}/p/"
        assert got(f"http://127.0.0.1:{port}/p/files/music/album/1.flac") == b"one"


def test_serve_writes_a_line_for_each_request_where_it_is_wanted(music: Path) -> None:
    with serving("-v", str(music)) as (process, url):
        got(url + "files/music/album/1.flac?token=hunter22")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=DEADLINE)
    said = err.decode()
    assert re.search(
        r"^\d\d:\d\d:\d\d 127\.0\.0\.1 GET /files/music/album/1\.flac - -> 200, 3 bytes in \d+ ms$", said, re.M
    )
    assert "hunter22" not in said


def test_serve_is_silent_where_nothing_is_wrong(music: Path) -> None:
    with serving(str(music)) as (process, url):
        got(url + "files/music/song.mp3")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=DEADLINE)
    assert (out, err, process.returncode) == (b"", b"", 0)


def test_serve_logs_json_where_the_configuration_says_so(music: Path, config: Path) -> None:
    config.write_text('log = { level = "info", format = "json" }\n' + config.read_text())
    with serving() as (process, url):
        got(url + "files/music/album/1.flac")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=DEADLINE)
    [event] = [json.loads(line) for line in err.decode().splitlines()]
    assert (event["status"], event["bytes"], event["client"]) == (200, 3, "127.0.0.1")


def test_a_port_that_is_taken_ends_with_2(music: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        said = failed(2, "serve", str(music), "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert "in use" in said


@pytest.mark.parametrize(
    "listen",
    ["nonsense", "127.0.0.1", ":4040", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1", "", "²:²"],
)
def test_what_is_no_address_ends_with_2(music: Path, listen: str) -> None:
    failed(2, "serve", str(music), f"--listen={listen}")


def test_a_host_that_is_not_this_machine_ends_with_2(music: Path) -> None:
    failed(2, "serve", str(music), "--no-login", "--listen", "192.0.2.1:0")
    failed(2, "serve", str(music), "--no-login", "--listen", "nothing.invalid:0")


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "example.org:0"])
def test_others_are_let_in_only_where_it_is_said(music: Path, listen: str) -> None:
    assert "--no-login" in failed(2, "serve", str(music), "--listen", listen)


def test_with_no_login_whoever_reaches_it_is_let_in(music: Path) -> None:
    with serving(str(music), "--no-login", "--listen", "0.0.0.0:0") as (_, url):
        port = url.rstrip("/").rpartition(":")[2]
        request = urllib.request.Request(f"http://127.0.0.1:{port}/files/music/album/1.flac")
        request.add_header("Host", "elsewhere.example")
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            assert answer.read() == b"one"


def test_nothing_to_serve_ends_with_2() -> None:
    assert "nothing to serve" in failed(2, "serve", "--listen", "127.0.0.1:0")


def test_a_name_that_is_there_twice_ends_with_2(music: Path, config: Path) -> None:
    assert "'music'" in failed(2, "serve", str(music), "--listen", "127.0.0.1:0")


def test_a_source_that_cannot_be_read_is_told_before_it_listens(
    music: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], own_logs: None
) -> None:
    def refuse(*_: object) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)  # root may read everything
    assert cli.main(["serve", str(music), "--listen", "127.0.0.1:0"]) == 4
    out, err = capfd.readouterr()
    assert out == ""
    assert "permission denied" in err


def test_a_folder_that_may_not_be_looked_into_is_told_as_ours(
    music: Path, monkeypatch: pytest.MonkeyPatch, own_logs: None
) -> None:
    stat = os.stat

    def refuse(path: Any, **how: Any) -> Any:
        if str(path).startswith(str(music)):
            raise PermissionError(13, "Permission denied")
        return stat(path, **how)

    monkeypatch.setattr(os, "stat", refuse)
    monkeypatch.setattr(os, "lstat", refuse)
    assert cli.main(["ls", str(music / "album")]) in (3, 4)


def test_a_proxy_that_is_no_address_ends_with_2(music: Path, config: Path) -> None:
    config.write_text('trusted_proxies = ["nonsense"]\n' + config.read_text())
    assert "nonsense" in failed(2, "serve")


def test_a_certificate_that_is_none_ends_with_2(music: Path, tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("nonsense")
    (tmp_path / "key.pem").write_text("nonsense")
    serve = ["serve", str(music), "--listen", "127.0.0.1:0"]
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    failed(2, *serve, "--tls-cert", cert, "--tls-key", key)
    failed(2, *serve, "--tls-cert", cert)
    failed(2, *serve, "--tls-key", key)
    assert "nothing.pem" in failed(2, *serve, "--tls-cert", str(tmp_path / "nothing.pem"), "--tls-key", key)
    failed(2, *serve, "--tls-cert", str(tmp_path), "--tls-key", key)


@contextmanager
def paused(url: str, path: str) -> Iterator[socket.socket]:
    """A client that has begun to read a file, and reads no more."""
    host, _, port = url.removeprefix("http://").rstrip("/").partition(":")
    with closing(socket.create_connection((host, int(port)), timeout=DEADLINE)) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        assert sock.recv(100).startswith(b"HTTP/1.1 200 ")
        yield sock


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_within_five_seconds(music: Path, number: int, code: int) -> None:
    with serving(str(music)) as (process, _):
        process.send_signal(number)
        assert process.wait(5) == code


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_within_five_seconds_though_a_client_pauses(music: Path, number: int, code: int) -> None:
    with (music / "film.mkv").open("wb") as file:
        file.truncate(100 << 20)
    with serving(str(music)) as (process, url), paused(url, "/files/music/film.mkv"), paused(url, "/healthz"):
        process.send_signal(number)
        assert process.wait(5) == code


def test_a_client_that_is_ending_gets_the_rest_of_its_file(music: Path) -> None:
    data = os.urandom(1 << 20) * 8
    (music / "film.mkv").write_bytes(data)
    with serving(str(music)) as (process, url), paused(url, "/files/music/film.mkv") as sock:
        process.send_signal(signal.SIGTERM)
        rest = bytearray()
        while part := sock.recv(1 << 20):
            rest += part
        assert bytes(rest).endswith(data[-1000:])
        assert process.wait(5) == 0


# ── doctor ──


def test_doctor_finds_nothing_wrong(config: Path, music: Path) -> None:
    config.write_text(f'[tree.music]\nuse = "local"\nroot = "{music}"\n')
    code, out, err = run("doctor")
    assert (code, err) == (0, "")
    assert "tree music: reachable and readable" in out
    assert all(re.match(r" *(ok|note)  \S", line) for line in out.splitlines())


def test_doctor_without_a_configuration_says_what_to_do() -> None:
    code, out, _ = run("doctor")
    assert code == 0
    assert "playhead.toml" in out


def test_doctor_ends_with_9_where_a_source_is_wrong(config: Path, music: Path) -> None:
    dead = f"http://me:hunter22@127.0.0.1:{free_port()}/?token=hunter33"
    config.write_text(
        f'[tree.music]\nuse = "local"\nroot = "{music}"\n'
        f'[tree.gone]\nuse = "local"\nroot = "{music}/nothing"\n'
        f'[tree.dead]\nuse = "web"\nurl = "{dead}"\n'
        '[tree.locked]\nuse = "web"\nurl = "http://example.org/"\npassword = "secret:nowhere"\n'
    )
    code, out, err = run("doctor")
    assert (code, err) == (9, "")
    marks = dict(re.findall(r" *(\w+)  tree (\w+):", out, re.M))
    assert set(re.findall(r"wrong  tree (\w+):", out)) == {"gone", "dead", "locked"}
    assert "ok" in marks
    assert "hunter" not in out


def test_doctor_ends_with_9_where_nothing_can_be_kept(own_home: Path) -> None:
    (own_home / "file").touch()
    code, out, err = run("doctor", env=os.environ | {"XDG_STATE_HOME": str(own_home / "file")})
    assert (code, err) == (9, "")
    assert "XDG_STATE_HOME" in out
