"""`playhead import rclone`: what becomes of an rclone.conf is what rclone itself reads; the rest is said, and left.

The configurations are made by the real rclone, and so are the encrypted folders.
"""

import asyncio
import base64
import csv
import io
import json
import os
import random
import re
import stat
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from nacl.bindings import crypto_secretbox

from playhead import assemble, cli, config, importing, secrets
from playhead.errors import Denied
from playhead.transforms.rclone import _OBSCURE
from tests.laws import check_tree
from tests.peers import servers
from tests.peers.crypts import WITHIN, on_disk, put
from tests.test_cli import origin, run
from tests.test_cli import own_logs as own_logs

CLEAR = {
    "song.ogg": random.Random(1).randbytes(200_001),
    "empty.txt": b"",
    "album/1 노래.flac": b"one",
    "album/deep/2.flac": b"two",
    "two words/a&b.txt": b"ampersand",
}
MORE = {"song.ogg": b"another song", "more.txt": b"more", "album/3.flac": b"three"}
PASSWORD, SALT = "correct 말 battery", "소금 staple"
LOGIN, TEAM = 'p@ss "word": %41/', 'radio, "one"'
TOKEN = '{"access_token":"ya29.token-of-drive","refresh_token":"1//refresh-of-drive"}'
# Passwords that a file, a line or a list might not keep as they are.
PASSWORDS = {
    "spaces": "  spaces at both ends  ",
    "tabs": "\ttabs\tof all kinds\t",
    "unicode": "päßwört 말 🔑 \u200f\u00a0",
    "decomposed": "pa\u0308sswo\u0308rt",
    "quotes": "\"double\" 'single' `back`",
    "triple": "\"\"\"triple'''",
    "backslash": "back\\slash\\n\\",
    "marks": "#hash ;semicolon =equals [section] $HOME %s {x}",
    "secret": "secret:name",
    "short": "x",
    "long": "long " * 80,
}
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "as-it-comes": {},
    "base64": {"filename_encoding": "base64"},
    "base32768": {"filename_encoding": "base32768"},
    "flat": {"directory_name_encryption": "false"},
    "obfuscated": {"filename_encryption": "obfuscate"},
    "obfuscated-flat": {"filename_encryption": "obfuscate", "directory_name_encryption": "false"},
    "names-off": {"filename_encryption": "off"},
    "suffix": {"filename_encryption": "off", "suffix": ".sealed"},
    "no-suffix": {"filename_encryption": "off", "suffix": "none"},
    "clear-contents": {"no_data_encryption": "true"},
    "no-salt": {"password2": ""},
    "all": {
        "filename_encryption": "standard",
        "filename_encoding": "base64",
        "directory_name_encryption": "true",
        "no_data_encryption": "false",
        "suffix": ".bin",
        "show_mapping": "false",
        "pass_bad_blocks": "true",
    },
}


def rclone(conf: Path, *arguments: str) -> bytes:
    """What rclone says."""
    command = [servers.program("rclone", "rclone"), "--config", str(conf), *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=WITHIN)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def create(conf: Path, name: str, kind: str, **options: str) -> None:
    """A remote, as rclone writes it."""
    given = [f"{key}={value}" for key, value in options.items()]
    rclone(conf, "config", "create", name, kind, *given, "--obscure", "--non-interactive")


def crypt(conf: Path, name: str, over: str | Path, password: str = PASSWORD, **options: str) -> None:
    given = {"remote": str(over), "password": password, "password2": SALT, **options}
    create(conf, name, "crypt", **{key: value for key, value in given.items() if value})


def as_rclone(conf: Path, remote: str) -> dict[str, bytes]:
    """The files of a remote, as rclone reads them."""
    with tempfile.TemporaryDirectory() as folder:
        rclone(conf, "copy", remote, folder)
        return on_disk(Path(folder))


def check(place: Path, source: str, expected: Mapping[str, bytes]) -> None:
    """What a SOURCE with this configuration lists and reads."""

    async def checked() -> None:
        tree, path = assemble.source(source, config.load(place))
        async with aclosing(tree):
            await check_tree(await assemble.rooted(tree, path), expected)

    asyncio.run(checked())


def obscured(text: str) -> str:
    """As `rclone obscure` writes it, which can write no line ends."""
    hidden = bytes(16) + Cipher(algorithms.AES(_OBSCURE), modes.CTR(bytes(16))).encryptor().update(text.encode())
    return base64.urlsafe_b64encode(hidden).decode().rstrip("=")


def listed(*fields: str, delimiter: str = " ") -> str:
    """Fields as rclone lists them: CSV."""
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="").writerow(fields)
    return out.getvalue()


def tables(place: Path) -> dict[str, dict[str, object]]:
    return dict(tomllib.loads(place.read_text("utf-8"))["tree"])


def snapshot(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """The files below a folder: what is in each, its mode, and when it was written."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns) for path in files}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is hidden in one test is not scrubbed in others."""
    monkeypatch.setattr(secrets, "_known", set())


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where rclone, and we, look for its configuration."""
    path = tmp_path / "rclone.conf"
    monkeypatch.setenv("PATH", str(Path(servers.program("rclone", "rclone")).parent), prepend=os.pathsep)
    monkeypatch.setenv("RCLONE_CONFIG", str(path))
    monkeypatch.delenv("RCLONE_CONFIG_PASS", raising=False)
    return path


@pytest.fixture
def place(own_home: Path) -> Path:
    """Our configuration, which is not there yet."""
    return own_home / "config" / "playhead" / "playhead.toml"


class Bring:
    """`playhead import rclone` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        code = cli.main(["import", "rclone", *arguments])
        return code, *self.capsys.readouterr()

    def fails(self, code: int, *arguments: str) -> str:
        """What it says when it ends with a code: one line on standard error, and nothing else."""
        returned, out, err = self(*arguments)
        assert (returned, out) == (code, ""), err
        assert re.fullmatch(r"playhead: [^\n]+\n", err)
        return err


@pytest.fixture
def bring(own_logs: None, capsys: pytest.CaptureFixture[str]) -> Bring:
    return Bring(capsys)


@pytest.fixture
def clear(tmp_path: Path) -> Path:
    put(CLEAR, tmp_path / "clear")
    return tmp_path / "clear"


# ── every kind of remote, in one file ──


@dataclass(frozen=True, slots=True)
class World:
    """An rclone.conf with every kind of remote, and what was said when it was brought into a configuration."""

    conf: Path
    place: Path
    folder: Path
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Where every user may read: a server that root starts may not stay root."""
    with tempfile.TemporaryDirectory() as made:
        home = Path(made)
        folder, scratch = home / "served", home / "scratch"
        folder.mkdir()
        scratch.mkdir()
        put(CLEAR, folder / "clear")
        put(MORE, folder / "more")
        login = base64.b64encode(f"me:{LOGIN}".encode()).decode()
        wanted = f"if ($http_authorization != 'Basic {login}') {{ return 401; }}"
        wanted += f" if ($http_x_team != '{TEAM}') {{ return 403; }}"
        with servers.nginx(folder, scratch, f"charset utf-8; {wanted}") as url:
            conf = _every_remote(home / "rclone.conf", folder, url)
            environment = {**os.environ, "RCLONE_CONFIG": str(conf), "XDG_CONFIG_HOME": str(home / "config")}
            said = run("import", "rclone", "-v", env=environment, umask=0)
            yield World(conf, home / "config" / "playhead" / "playhead.toml", folder, *said)


def _every_remote(conf: Path, folder: Path, url: str) -> Path:
    login = url.replace("://", "://me:p%40ss%20%22word%22%3A%20%2541%2F@")
    headers = listed("X-Team", TEAM, "X-Other", "other value", delimiter=",")
    create(conf, "disk", "local")
    create(conf, "web", "http", url=login.rstrip("/"), headers=headers)
    create(conf, "link", "alias", remote="web:clear")
    create(conf, "link-of-link", "alias", remote="link:album/")
    create(conf, "folder", "alias", remote=str(folder / "more"))
    create(conf, "disk-link", "alias", remote=f"disk:{folder}/clear/two words")
    for name, setting in SETTINGS.items():
        crypt(conf, f"crypt-{name}", folder / f"sealed-{name}", **setting)
        rclone(conf, "copy", str(folder / "clear"), f"crypt-{name}:")
    for name, password in PASSWORDS.items():
        crypt(conf, f"pass-{name}", folder / f"pass-{name}", password, password2=password[::-1])
        rclone(conf, "copy", str(folder / "more"), f"pass-{name}:")
    crypt(conf, "crypt-web", "web:sealed-as-it-comes")
    create(conf, "sealed-link", "alias", remote="web:sealed-flat")
    crypt(conf, "crypt-alias-web", "sealed-link:", directory_name_encryption="false")
    crypt(conf, "part", "sealed-link:album", directory_name_encryption="false")
    crypt(conf, "inner", folder / "twice")
    crypt(conf, "twice", "inner:below/it", "another password")
    rclone(conf, "copy", str(folder / "clear"), "twice:")
    create(conf, "link-of-crypt", "alias", remote="crypt-alias-web:album")
    upstreams = listed("web:clear/two words:ro", str(folder / "more"), "link:two words:nc", "link-of-crypt:deep:ro")
    create(conf, "both", "union", upstreams=upstreams)
    create(conf, "over", "union", upstreams=f"{folder}/more:ro crypt-web: link:")
    sides = listed("a b=web:clear/two words", "sealed=crypt-web:album", f"here=disk:{folder}/more", "two=over:")
    create(conf, "sides", "combine", upstreams=sides)
    create(conf, "end", "alias", remote="sides:two/album")
    return conf


WHOLE = (
    "link",
    "link-of-link",
    "folder",
    "disk-link",
    "crypt-web",
    "crypt-alias-web",
    "part",
    "twice",
    "link-of-crypt",
)
SEVERAL = ("both", "over", "sides", "end")
REMOTES = (*WHOLE, *SEVERAL, *(f"crypt-{name}" for name in SETTINGS), *(f"pass-{name}" for name in PASSWORDS))


def test_every_remote_is_brought_and_all_went_well(world: World) -> None:
    assert world.code == 0, world.out + world.err
    names = rclone(world.conf, "listremotes").decode().replace(":", "").split()
    assert sorted(tables(world.place)) == sorted(config.load(world.place).tree) == sorted(names)
    for name in names:
        assert re.search(rf"^brought  {name}: ", world.out, re.MULTILINE)
    assert "left out" not in world.out
    assert world.err == ""
    assert set(REMOTES) < set(names)


@pytest.mark.parametrize("name", REMOTES)
def test_it_lists_and_reads_what_rclone_does(world: World, name: str) -> None:
    files = as_rclone(world.conf, f"{name}:")
    assert files
    check(world.place, f"{name}:", files)


def test_a_whole_server_is_what_rclone_reads_and_so_is_a_folder_of_the_disk(world: World) -> None:
    check(world.place, "web:", as_rclone(world.conf, "web:"))
    check(world.place, f"disk:{world.folder}/clear", CLEAR)


def test_the_folders_that_rclone_encrypted_hold_what_was_given_to_it(world: World) -> None:
    for name in SETTINGS:
        check(world.place, f"crypt-{name}:", CLEAR)
    for name in PASSWORDS:
        check(world.place, f"pass-{name}:album", {"3.flac": b"three"})


@pytest.mark.parametrize("name", ["crypt-alias-web", "twice", "over"])
def test_ls_and_cat_show_it(world: World, name: str) -> None:
    environment = {**os.environ, "PLAYHEAD_CONFIG": str(world.place)}
    code, out, err = run("ls", "--json", f"{name}:album", env=environment)
    assert (code, err) == (0, "")
    shown = {entry["name"] for entry in json.loads(out)["entries"]}
    assert shown == {line.rstrip("/") for line in rclone(world.conf, "lsf", f"{name}:album").decode().splitlines()}
    code, out, err = run("cat", f"{name}:song.ogg", "--length", "1000", env=environment)
    assert (code, err) == (0, "")
    assert out.encode("utf-8", "surrogateescape") == rclone(world.conf, "cat", "--count", "1000", f"{name}:song.ogg")


def test_the_command_that_is_suggested_works(world: World) -> None:
    hint = re.search(r"; try `playhead ls (\S+)`$", world.out.strip())
    assert hint
    code, out, err = run("ls", hint[1], env={**os.environ, "PLAYHEAD_CONFIG": str(world.place)})
    assert (code, err) == (0, "")
    assert out


def test_the_tables_say_what_rclone_said(world: World) -> None:
    made = tables(world.place)
    url = str(made["web"].pop("url"))
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url)
    web = {"use": "web", "user": "me", "password": "secret:web-password", "serve": False}
    web["headers"] = {"X-Team": "secret:web-header-x-team", "X-Other": "secret:web-header-x-other"}
    assert made["web"] == web
    assert made["disk"] == {"use": "local", "root": "/", "serve": False}
    assert made["disk-link"] == {"use": "alias", "over": f"{world.folder}/clear/two words"}
    assert made["crypt-all"] == {
        "use": "rclone-crypt",
        "over": str(world.folder / "sealed-all"),
        "password": "secret:crypt-all-password",
        "password2": "secret:crypt-all-password2",
        "filename_encryption": "standard",
        "filename_encoding": "base64",
        "suffix": ".bin",
        "directory_name_encryption": True,
        "no_data_encryption": False,
    }
    over = ["web:clear/two words", f"{world.folder}/more", "link:two words", "link-of-crypt:deep"]
    assert made["both"] == {"use": "union", "over": over}
    folders = {"a b": "web:clear/two words", "sealed": "crypt-web:album", "here": f"{world.folder}/more"}
    assert made["sides"] == {"use": "combine", "folders": {**folders, "two": "over:"}}


def test_what_shows_encrypted_names_and_what_is_the_whole_disk_is_not_served(world: World) -> None:
    quiet = {name for name, table in tables(world.place).items() if table.get("serve") is False}
    assert quiet == {"disk", "web", "sealed-link", "inner"}
    assert set(re.findall(r"^brought  (\S+): \S+ \(not served\)$", world.out, re.MULTILINE)) == quiet


def test_what_is_not_brought_of_a_remote_is_noted(world: World) -> None:
    assert "note     disk is the whole disk" in world.out
    assert "note     crypt-all: pass_bad_blocks is not brought" in world.out


def test_no_secret_is_written_in_clear_or_said(world: World) -> None:
    passwords = [*PASSWORDS.values(), *(word[::-1] for word in PASSWORDS.values()), PASSWORD, SALT, LOGIN, TEAM]
    toml = world.place.read_text("utf-8")
    for clear in (*passwords, "another password", "other value", "p%40ss"):
        if len(clear) > 1:
            for text in (toml, world.out, world.err):
                assert clear not in text
                assert json.dumps(clear)[1:-1] not in text
    written = re.findall(r"^password2? = (.*)$", world.conf.read_text("utf-8"), re.MULTILINE)
    assert len(written) > 2 * len(PASSWORDS)
    assert not any(text in said for text in written for said in (toml, world.out, world.err))


def test_only_their_owner_can_read_the_files_that_are_made(world: World) -> None:
    folder = world.place.parent / "secrets"
    assert mode(world.place) == 0o600
    assert mode(folder) == 0o700
    hidden = list(folder.iterdir())
    named = re.findall(r'"secret:([^"]+)"', world.place.read_text("utf-8"))
    assert sorted(path.name for path in hidden) == sorted(set(named))
    assert {mode(path) for path in hidden} == {0o600}
    assert sorted(path.name for path in world.place.parent.iterdir()) == ["playhead.toml", "secrets"]


# ── what is left out ──


def without_rclone(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on; whatever the test needs of it comes before."""
    monkeypatch.setenv("PATH", "")


def test_what_cannot_be_read_is_left_out_with_the_reason(
    bring: Bring, conf: Path, place: Path, clear: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(conf, "box", "pcloud", token=TOKEN, config_is_local="false")
    crypt(conf, "safe", "box:sealed")
    create(conf, "link", "alias", remote="safe:")
    create(conf, "some", "union", upstreams=f"{clear} link:")
    create(conf, "mem", "memory")
    create(conf, "folder", "alias", remote=str(clear))
    without_rclone(monkeypatch)
    code, out, err = bring()
    assert (code, err) == (9, "")
    assert out.splitlines() == [
        "brought  folder: alias",
        "left out box: remotes of type 'pcloud' need rclone, which is not installed here",
        "left out safe: 'box' is left out",
        "left out link: 'safe' is left out",
        "left out some: 'link' is left out",
        "left out mem: remotes of type 'memory' need rclone, which is not installed here",
        f"written to {place}; try `playhead ls folder:`",
    ]
    assert tables(place) == {"folder": {"use": "alias", "over": str(clear)}}
    assert list((place.parent / "secrets").iterdir()) == []


def test_a_crypt_that_stands_before_what_it_lies_over_says_the_same(
    bring: Bring, conf: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crypt(conf, "safe", "box:sealed")
    create(conf, "box", "pcloud", token=TOKEN, config_is_local="false")
    without_rclone(monkeypatch)
    code, out, _ = bring()
    assert code == 9
    assert re.findall("^left out (.*?):.*'pcloud' need rclone, which is not installed", out, re.M) == ["safe", "box"]
    assert not place.parent.exists()


LEFT = [
    ("type = alias\nremote = none:x", "there is no remote 'none'"),
    ("type = alias\nremote = ./x", "relative"),
    ("type = alias\nremote = x/y", "relative"),
    ("type = alias\nremote = here:x", "relative to wherever rclone was started"),
    ("type = alias\nremote = :local:/x", "made on the fly"),
    ("type = alias\nremote = here,nounc=true:/x", "made on the fly"),
    ("type = alias", "relative"),
    ("type = http", "no url"),
    ("type = http\nurl = ftp://h/", "no url"),
    ("type = http\nurl = https:///x", "no url"),
    ("type = crypt\nremote = /x", "no password"),
    ("type = crypt\nremote = /x\npassword = in clear!", "not as `rclone obscure` writes it"),
    ("type = crypt\nremote = /x\npassword = c2hvcnQ", "not as `rclone obscure` writes it"),
    ("type = union", "no upstreams"),
    ("type = combine\nupstreams =", "no upstreams"),
    ("type = combine\nupstreams = /x", "not the name of a folder with what it is"),
    ("type = combine\nupstreams = a/b=/x", "not the name of a folder with what it is"),
    ("type = combine\nupstreams = =/x", "not the name of a folder with what it is"),
    ("type = HTTP\nurl = http://h/", "type 'HTTP' cannot be read: the rclone that is installed does not know them"),
    ("url = http://h/", "type '' cannot be read"),
]


@pytest.mark.parametrize(("options", "why"), LEFT)
def test_what_is_not_right_is_left_out_alone(bring: Bring, conf: Path, place: Path, options: str, why: str) -> None:
    conf.write_text(f"[here]\ntype = local\n\n[wrong]\n{options}\n\n[good]\ntype = alias\nremote = /tmp\n")
    code, out, err = bring()
    assert (code, err) == (9, "")
    assert re.search(r"^left out wrong: (.*)$", out, re.MULTILINE)[1].count(why) == 1  # type: ignore[index]
    assert sorted(tables(place)) == ["good", "here"]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("[a]\ntype = alias\nremote = a:x", {"a"}),
        ("[a]\ntype = alias\nremote = b:\n[b]\ntype = alias\nremote = a:", {"a", "b"}),
        ("[a]\ntype = union\nupstreams = /tmp b:\n[b]\ntype = combine\nupstreams = x=/tmp y=a:", {"a", "b"}),
        (f"[a]\ntype = crypt\nremote = b:\npassword = {obscured('clear')}\n[b]\ntype = alias\nremote = a:", {"a", "b"}),
        ("[c]\ntype = alias\nremote = a:\n[a]\ntype = alias\nremote = b:\n[b]\ntype = alias\nremote = a:", set("abc")),
    ],
)
def test_what_lies_over_itself_is_left_out(bring: Bring, conf: Path, place: Path, text: str, left: set[str]) -> None:
    conf.write_text(f"{text}\n[good]\ntype = alias\nremote = /tmp\n")
    code, out, err = bring()
    assert (code, err) == (9, "")
    assert set(re.findall(r"^left out (\w): ", out, re.MULTILINE)) == left
    assert "lies over itself" in out
    assert sorted(tables(place)) == ["good"]
    config.load(place)


# ── names ──


def test_names_become_names_of_ours(bring: Bring, conf: Path, place: Path, tmp_path: Path) -> None:
    wanted = {
        "UPPER": "upper",
        "My Music.2": "my-music-2",
        "a@b+c": "a-b-c",
        "_under_": "under",
        "1st": "remote-1st",
        "노래": "remote",
        "ünï 말": "n",
    }
    for number, remote in enumerate(wanted):
        put({f"{number}.txt": remote.encode()}, tmp_path / str(number))
        create(conf, remote, "alias", remote=str(tmp_path / str(number)))
    code, out, err = bring()
    assert (code, err) == (0, "")
    assert sorted(tables(place)) == sorted(wanted.values())
    for number, (remote, name) in enumerate(wanted.items()):
        assert f"brought  {remote} as {name}: alias\n" in out
        check(place, f"{name}:", {f"{number}.txt": remote.encode()})


def test_two_that_become_one_name_are_two_trees_with_their_own_secrets(
    bring: Bring, conf: Path, place: Path, tmp_path: Path
) -> None:
    remotes = ["My Music", "my-music", "my_music", "말", "노래"]
    for number, remote in enumerate(remotes):
        put({f"{number}.txt": remote.encode()}, tmp_path / "clear" / str(number))
        crypt(conf, remote, tmp_path / str(number), f"password {number}", password2=f"salt {number}")
        rclone(conf, "copy", str(tmp_path / "clear" / str(number)), f"{remote}:")
    create(conf, "end", "alias", remote="my_music:")
    code, out, err = bring()
    assert (code, err) == (0, "")
    names = ["my-music", "my-music-2", "my-music-2-2", "remote", "remote-2"]
    assert list(tables(place)) == [*names, "end"]
    for number, (remote, name) in enumerate(zip(remotes, names, strict=True)):
        assert re.search(rf"^brought  {remote}( as {name})?: rclone-crypt$", out, re.MULTILINE)
        check(place, f"{name}:", {f"{number}.txt": remote.encode()})
    check(place, "end:", {"2.txt": b"my_music"})


def test_what_would_steer_the_terminal_is_not_shown(bring: Bring, conf: Path) -> None:
    conf.write_text("[a\x1b[31m\x07]\ntype = alias\nremote = /tmp\n[b\x1b]\ntype = \x1b[2J\n")
    _, out, err = bring()
    assert "brought  a_[31m_ as a-31m: alias" in out
    assert "left out b_: " in out
    assert "\x1b" not in out + err


# ── our configuration ──

EXISTING = """# my configuration, as I like it
listen = "127.0.0.1:4041"\t# tabs,   and spaces

[tree."music"]   # 노래
use = 'local'
root = "/tmp"
# the end"""


@pytest.mark.parametrize("end", ["\n", "", "\n\n  \n# really\n"], ids=["line", "no line", "comment"])
def test_what_stands_in_the_configuration_stays_as_it_is(bring: Bring, conf: Path, place: Path, end: str) -> None:
    existing = (EXISTING + end).encode()
    place.parent.mkdir(parents=True)
    place.write_bytes(existing)
    place.chmod(0o640)
    create(conf, "good", "alias", remote="/tmp")
    assert bring()[0] == 0
    after = place.read_bytes()
    assert after.startswith(existing)
    assert after[len(existing) :].decode().strip() == '[tree.good]\nuse = "alias"\nover = "/tmp"'
    assert mode(place) == 0o640
    assert sorted(config.load(place).tree) == ["good", "music"]


def test_a_second_import_changes_nothing_and_says_so(bring: Bring, conf: Path, place: Path, clear: Path) -> None:
    crypt(conf, "My Safe", clear)
    create(conf, "disk", "local")
    assert bring()[0] == 0
    before = snapshot(place.parent)
    code, out, err = bring()
    assert (code, err) == (9, "")
    assert out.splitlines() == [
        f"left out {remote}: the configuration has a tree '{name}' already; rename one of them"
        for remote, name in (("My Safe", "my-safe"), ("disk", "disk"))
    ]
    assert snapshot(place.parent) == before


def test_what_is_new_is_added_to_what_was_brought_before(bring: Bring, conf: Path, place: Path, clear: Path) -> None:
    crypt(conf, "first", clear)
    assert bring()[0] == 0
    before = snapshot(place.parent)
    crypt(conf, "second", clear, "other password")
    code, out, _ = bring()
    assert code == 9
    assert "brought  second: rclone-crypt\n" in out
    assert place.read_bytes().startswith(before.pop(str(place))[0])
    assert sorted(config.load(place).tree) == ["first", "second"]
    assert before.items() <= snapshot(place.parent).items()


def test_print_shows_the_tables_and_writes_nothing(
    bring: Bring, conf: Path, place: Path, tmp_path: Path, clear: Path
) -> None:
    crypt(conf, "safe", clear)
    conf.write_text(f"{conf.read_text()}\n[mem]\ntype = none\n")
    before = snapshot(tmp_path)
    code, out, err = bring("--print")
    assert code == 9
    safe = {"use": "rclone-crypt", "over": str(clear), "password": "secret:safe-password"}
    assert tomllib.loads(out) == {"tree": {"safe": {**safe, "password2": "secret:safe-password2"}}}
    assert err.splitlines()[0] == "brought  safe: rclone-crypt"
    assert err.splitlines()[1].startswith("left out mem: ")
    assert len(err.splitlines()) == 2
    assert PASSWORD not in out + err
    assert snapshot(tmp_path) == before
    assert not place.parent.exists()


def test_a_secret_that_holds_something_else_is_not_overwritten_and_nothing_is_added(
    bring: Bring, conf: Path, place: Path, clear: Path
) -> None:
    crypt(conf, "first", clear)
    crypt(conf, "second", clear)
    folder = place.parent / "secrets"
    folder.mkdir(parents=True, mode=0o700)
    place.write_text("# mine\n")
    (folder / "second-password").write_text("mine\n")
    before = snapshot(place.parent)
    said = bring.fails(2)
    assert str(folder / "second-password") in said
    assert "mine" not in said
    assert PASSWORD not in said
    assert snapshot(place.parent) == before


def test_a_secret_that_is_there_already_is_no_hindrance(bring: Bring, conf: Path, place: Path, clear: Path) -> None:
    crypt(conf, "safe", clear.parent / "sealed")
    rclone(conf, "copy", str(clear), "safe:")
    assert bring()[0] == 0
    place.write_text("# begun anew\n")
    assert bring()[0] == 0
    check(place, "safe:", CLEAR)


def test_a_configuration_that_is_not_right_is_left_alone(bring: Bring, conf: Path, place: Path, clear: Path) -> None:
    crypt(conf, "safe", clear)
    place.parent.mkdir(parents=True)
    for text in ("tree = { a = { use = 'local', root = '/' } }\n", "unknown = 1\n", "not toml"):
        place.write_text(text)
        bring.fails(2)
        assert [path.name for path in place.parent.iterdir()] == ["playhead.toml"]
        assert place.read_text() == text


def test_where_nothing_can_be_written_it_is_said(bring: Bring, conf: Path, place: Path, clear: Path) -> None:
    crypt(conf, "safe", clear)
    place.parent.mkdir(parents=True)
    (place.parent / "secrets").write_text("a file, not a folder")
    assert "cannot be written" in bring.fails(2)
    assert not place.exists()


def test_the_configuration_that_is_named_gets_the_tables(bring: Bring, conf: Path, place: Path, tmp_path: Path) -> None:
    put({"a": b"a"}, tmp_path / "clear")
    crypt(conf, "safe", tmp_path / "sealed")
    rclone(conf, "copy", str(tmp_path / "clear"), "safe:")
    other = tmp_path / "other" / "my.toml"
    other.parent.mkdir()
    other.write_text("")
    code, out, err = bring("--config", str(other))
    assert (code, err) == (0, "")
    assert f"written to {other}" in out
    assert not place.exists()
    assert mode(other.parent / "secrets" / "safe-password") == 0o600
    check(other, "safe:", {"a": b"a"})


# ── where rclone's configuration lies, and what it may be instead ──


def test_it_is_looked_for_where_rclone_keeps_it(
    bring: Bring, own_home: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RCLONE_CONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    places = [tmp_path / ".rclone.conf", tmp_path / ".config" / "rclone" / "rclone.conf"]
    places += [own_home / "config" / "rclone" / "rclone.conf", tmp_path / "named.conf"]
    for number, path in enumerate(places):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"[at{number}]\ntype = alias\nremote = /tmp\n")
        if path.name == "named.conf":
            monkeypatch.setenv("RCLONE_CONFIG", str(path))
        asked = subprocess.run([servers.program("rclone", "rclone"), "config", "file"], capture_output=True, text=True)
        assert asked.stdout.splitlines()[-1] == str(path)
        assert tomllib.loads(bring("--print")[1])["tree"].keys() == {f"at{number}"}
    given = bring(str(places[0]), "--print")
    assert tomllib.loads(given[1])["tree"].keys() == {"at0"}


def test_a_file_that_is_not_there_ends_with_3(bring: Bring, conf: Path, place: Path) -> None:
    assert str(conf) in bring.fails(3)
    assert "none.conf" in bring.fails(3, "none.conf")
    assert not place.parent.exists()


NOT_ONE = {
    "words": b"just some words\n",
    "toml": b'listen = "127.0.0.1:1"\n[tree.x]\nuse = "local"\n',
    "json": b'{"web": {"type": "http"}}\n',
    "a line without =": b"[web]\ntype = http\nnonsense\n",
    "zeros": bytes(5000),
    "garbage": random.Random(2).randbytes(5000),
    "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "utf-16": "[web]\ntype = http\n".encode("utf-16"),
    "torn in a name": b"[web",
    "torn in a letter": "[web]\ntype = alias\nremote = /노".encode()[:-1],
    "another encryption": b"# Encrypted\n\nRCLONE_ENCRYPT_V9:\nAAAA\n",
}


@pytest.mark.parametrize("name", NOT_ONE)
def test_what_is_not_an_rclone_conf_is_refused(bring: Bring, conf: Path, place: Path, name: str) -> None:
    conf.write_bytes(NOT_ONE[name])
    assert str(conf) in bring.fails(2)
    assert not place.parent.exists()


def test_a_folder_is_not_an_rclone_conf(bring: Bring, tmp_path: Path) -> None:
    assert str(tmp_path) in bring.fails(2, str(tmp_path))


def test_a_file_that_was_torn_gives_what_is_whole(bring: Bring, conf: Path, place: Path, clear: Path) -> None:
    create(conf, "whole", "alias", remote=str(clear))
    crypt(conf, "torn", clear)
    text = conf.read_text()
    conf.write_text(
        text[: text.index("password2 = ")].replace("[torn]", f"[torn]\nremote = {clear}") + "password2 = abc"
    )
    code, out, _ = bring()
    assert code == 9
    assert "left out torn: its password is not as `rclone obscure` writes it" in out
    assert sorted(tables(place)) == ["whole"]


def test_a_file_that_may_not_be_read_ends_with_4(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf.write_text("[a]\n")

    def refused(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(Denied, match="may not be read") as denied:
        importing.remotes(conf)
    assert denied.value.code == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything; the refusal is simulated above")
def test_a_file_of_somebody_else_ends_with_4(bring: Bring, conf: Path, place: Path) -> None:
    conf.write_text("[a]\n")
    conf.chmod(0)
    assert str(conf) in bring.fails(4)
    assert not place.parent.exists()


# ── an encrypted rclone.conf ──


def sealed(conf: Path, password: str) -> None:
    """Encrypt it, as rclone does."""
    given = conf.with_name("given")
    given.write_text(password, "utf-8")
    command = f"cat {given}"
    rclone(conf, "config", "encryption", "set", "--password-command", command)
    given.unlink()
    assert b"RCLONE_ENCRYPT_V0:" in conf.read_bytes()


@pytest.mark.parametrize("password", ["hunter22", "  sp aces  ", "päßwört 말", "quo\"te's \\ $x", "x"])
def test_an_encrypted_file_is_opened_by_its_password(
    bring: Bring, conf: Path, place: Path, clear: Path, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    crypt(conf, "safe", clear)
    sealed(conf, password)
    monkeypatch.setenv("RCLONE_CONFIG_PASS", password)
    assert rclone(conf, "listremotes") == b"safe:\n"
    code, out, err = bring("-v")
    assert (code, err) == (0, "")
    assert sorted(tables(place)) == ["safe"]
    assert (place.parent / "secrets" / "safe-password").read_text("utf-8") == PASSWORD + "\n"
    assert len(password) < 4 or password not in out


def test_without_its_password_or_with_another_it_ends_with_4(
    bring: Bring, conf: Path, place: Path, clear: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crypt(conf, "safe", clear)
    sealed(conf, "the password")
    assert "RCLONE_CONFIG_PASS" in bring.fails(4)
    for wrong in ("", "another one", "the password ", "The password"):
        monkeypatch.setenv("RCLONE_CONFIG_PASS", wrong)
        said = bring.fails(4)
        assert not wrong or wrong not in said
    assert not place.parent.exists()


def test_on_a_terminal_the_password_is_asked_for(
    conf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    create(conf, "good", "alias", remote="/tmp")
    sealed(conf, "the password")
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda prompt: asked.append(prompt) or "the password")
    assert importing.remotes(conf) == {"good": {"type": "alias", "remote": "/tmp"}}
    assert asked == [f"password of {conf}: "]
    monkeypatch.setattr("getpass.getpass", lambda _: "another")
    with pytest.raises(Denied):
        importing.remotes(conf)
    assert capsys.readouterr() == ("", "")


def by_hand(text: bytes, password: str) -> bytes:
    """An encrypted file, as fs/config/crypt.go describes it."""
    nonce = random.Random(text).randbytes(24)
    box = crypto_secretbox(text, nonce, sha256(f"[{password}][rclone-config]".encode()).digest())
    return b"# Encrypted rclone configuration File\n\nRCLONE_ENCRYPT_V0:\n" + base64.b64encode(nonce + box)


def _damages() -> Iterator[tuple[str, bytes, Sequence[int]]]:
    whole = by_hand(b"[good]\ntype = alias\nremote = /tmp\n", "hunter22")
    head, _, body = whole.rpartition(b"\n")
    yield "no letters at all", head + b"\n", (2, 4)
    yield "not base64", head + b"\n!!!" + body[3:], (2,)
    yield "a stray =", head + b"\n" + body[:40] + b"=" + body[41:], (2, 4)
    yield "one letter changed", head + b"\n" + body[:50] + (b"A" if body[50:51] != b"A" else b"B") + body[51:], (4,)
    yield "one letter less", whole[:-1], (2, 4)
    yield "four letters less", whole[:-4], (2, 4)
    yield "torn in the nonce", head + b"\n" + body[:16], (2, 4)
    yield "torn in the tag", head + b"\n" + body[:40], (2, 4)
    yield "another alphabet", whole.replace(body, body.translate(bytes.maketrans(b"ABCDEFGH", b"-_-_-_-_"))), (2,)
    yield "not a text", by_hand(b"\xff\xfe[good]\ntype", "hunter22"), (2,)
    yield "not an rclone.conf", by_hand(b"nonsense", "hunter22"), (2,)


DAMAGES = {name: (data, codes) for name, data, codes in _damages()}


def test_what_is_encrypted_by_hand_is_read_as_rclone_reads_it(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RCLONE_CONFIG_PASS", "hunter22")
    whole = by_hand(b"[good]\ntype = alias\nremote = /tmp\n", "hunter22")
    for text in (whole, whole + b"\n", whole.replace(b"\n", b"\r\n"), re.sub(rb"(\w{20})(?=\w)", rb"\1\n", whole)):
        conf.write_bytes(text if text.count(b"RCLONE_ENCRYPT_V0:") else whole)
        assert rclone(conf, "listremotes") == b"good:\n"
        assert importing.remotes(conf) == {"good": {"type": "alias", "remote": "/tmp"}}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_encrypted_file_is_refused(
    bring: Bring, conf: Path, place: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, codes = DAMAGES[name]
    conf.write_bytes(data)
    monkeypatch.setenv("RCLONE_CONFIG_PASS", "hunter22")
    code, out, err = bring()
    assert code in codes
    assert out == ""
    assert re.fullmatch(r"playhead: [^\n]+\n", err)
    assert "hunter22" not in err
    assert str(conf) in err
    assert not place.parent.exists()


# ── what was wrong once ──


def test_a_remote_over_one_that_becomes_the_same_name_is_two_trees(
    bring: Bring, conf: Path, place: Path, clear: Path
) -> None:
    create(conf, "music", "alias", remote=str(clear))
    conf.write_text(f"[Music]\ntype = alias\nremote = music:album\n\n{conf.read_text()}")
    assert bring()[0] == 0
    assert len(tables(place)) == 2
    for name in tables(place):
        asyncio.run(_readable(place, name))


async def _readable(place: Path, name: str) -> None:
    tree, _ = assemble.source(f"{name}:", config.load(place))
    await assemble.readable(tree)


def test_a_second_name_that_is_taken_is_not_taken_again(bring: Bring, conf: Path, place: Path) -> None:
    place.parent.mkdir(parents=True)
    place.write_text('[tree.my-music-2]\nuse = "local"\nroot = "/tmp"\n')
    for remote in ("My Music", "my-music", "other"):
        create(conf, remote, "alias", remote="/tmp")
    assert bring()[0] in (0, 9)
    assert {"my-music", "my-music-2", "other"} <= set(config.load(place).tree)


@pytest.mark.parametrize(
    "text",
    [
        "[x]\ntype = http\nurl = http://h/\nheaders = X-A,one11,x_a,two22\n",
        "[x]\ntype = http\nurl = http://h/\nheaders = Password,one11\n"
        "[x-header]\ntype = http\nurl = http://me:two22@h/\n",
    ],
    ids=["headers", "trees"],
)
def test_every_secret_has_a_file_of_its_own(bring: Bring, conf: Path, place: Path, text: str) -> None:
    conf.write_text(text)
    assert bring()[0] == 0
    assert sorted(path.read_text() for path in (place.parent / "secrets").iterdir()) == ["one11\n", "two22\n"]


def test_a_password2_that_is_empty_is_none(bring: Bring, conf: Path, place: Path, clear: Path) -> None:
    create(conf, "safe", "crypt", remote=f"{clear.parent}/sealed", password=PASSWORD, password2="")
    assert "password2 = " in conf.read_text()
    rclone(conf, "copy", str(clear), "safe:")
    assert bring()[0] == 0
    check(place, "safe:", CLEAR)


def test_a_user_without_a_password_has_an_empty_one(bring: Bring, conf: Path, place: Path, clear: Path) -> None:
    with origin(clear, "me:") as url:
        create(conf, "web", "http", url=url.replace("://", "://me@"))
        assert rclone(conf, "cat", "web:album/deep/2.flac") == b"two"
        assert bring()[0] == 0
        check(place, "web:album/deep", {"2.flac": b"two"})


def test_a_password_that_begins_as_ours_do_is_itself(bring: Bring, conf: Path, place: Path, clear: Path) -> None:
    crypt(conf, "safe", clear.parent / "sealed", "obscured:hello")
    rclone(conf, "copy", str(clear), "safe:")
    assert bring()[0] == 0
    check(place, "safe:", CLEAR)


@pytest.mark.parametrize("password", ["ends with a line\n", "carriage\rreturn"], ids=["line", "carriage"])
def test_a_password_with_line_ends_is_itself(bring: Bring, conf: Path, place: Path, clear: Path, password: str) -> None:
    conf.write_text(f"[safe]\ntype = crypt\nremote = {clear.parent}/sealed\npassword = {obscured(password)}\n")
    rclone(conf, "copy", str(clear), "safe:")
    assert bring()[0] == 0
    check(place, "safe:", CLEAR)


OPTIONS = [
    {"filename_encryption": "off", "suffix": "sealed"},
    {"filename_encryption": "off", "suffix": "None"},
    {"no_data_encryption": "1"},
    {"no_data_encryption": "T"},
    {"directory_name_encryption": "t"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options_mean_what_rclone_makes_of_them(
    bring: Bring, conf: Path, place: Path, clear: Path, options: dict[str, str]
) -> None:
    crypt(conf, "safe", clear.parent / "sealed", **options)
    rclone(conf, "copy", str(clear), "safe:")
    assert bring()[0] == 0
    check(place, "safe:", CLEAR)


@pytest.mark.parametrize(
    "options",
    [
        {"type": "http", "url": "http://[::1/"},
        {"type": "crypt", "remote": "/tmp", "password": obscured("clear"), "filename_encryption": "rot13"},
        {"type": "crypt", "remote": "/tmp", "password": obscured("clear"), "filename_encoding": "base1"},
    ],
    ids=["url", "encryption", "encoding"],
)
def test_options_that_cannot_be_are_left_out_alone(
    bring: Bring, conf: Path, place: Path, options: dict[str, str]
) -> None:
    lines = "\n".join(f"{key} = {value}" for key, value in options.items())
    conf.write_text(f"[good]\ntype = alias\nremote = /tmp\n\n[wrong]\n{lines}\n")
    code, out, _ = bring()
    assert code == 9
    assert "left out wrong: " in out
    assert sorted(tables(place)) == ["good"]


def test_a_secret_that_holds_no_text_is_not_overwritten(bring: Bring, conf: Path, place: Path, clear: Path) -> None:
    crypt(conf, "safe", clear)
    (place.parent / "secrets").mkdir(parents=True)
    (place.parent / "secrets" / "safe-password").write_bytes(b"\xff\xfe\n")
    assert "safe-password" in bring.fails(2)


@pytest.mark.parametrize(
    "remote", [":http,url='https://me:hunter22@h/':", ":webdav,url='https://h/',pass=hunter22:x"], ids=["url", "pass"]
)
def test_what_is_made_on_the_fly_is_not_said_with_its_password(bring: Bring, conf: Path, remote: str) -> None:
    conf.write_text(f"[wrong]\ntype = alias\nremote = {remote}\n")
    code, out, err = bring()
    assert code == 9
    assert "hunter22" not in out + err


def test_what_is_left_out_leaves_nothing_behind(bring: Bring, conf: Path, place: Path, clear: Path) -> None:
    create(conf, "web", "http", url="http://127.0.0.1:1/")
    crypt(conf, "safe", "web:sealed")
    conf.write_text(re.sub("password2 = .*", "password2 = !", conf.read_text()))
    assert bring()[0] == 9
    assert list((place.parent / "secrets").iterdir()) == []
    assert "serve" not in tables(place)["web"]


def test_a_configuration_with_other_line_ends_keeps_them(bring: Bring, conf: Path, place: Path) -> None:
    existing = (EXISTING + "\n").replace("\n", "\r\n").encode()
    place.parent.mkdir(parents=True)
    place.write_bytes(existing)
    create(conf, "good", "alias", remote="/tmp")
    assert bring()[0] == 0
    assert place.read_bytes().startswith(existing)


def test_a_configuration_that_is_a_link_stays_one(bring: Bring, conf: Path, place: Path, tmp_path: Path) -> None:
    (tmp_path / "dotfiles.toml").write_text("# mine\n")
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path / "dotfiles.toml")
    create(conf, "good", "alias", remote="/tmp")
    assert bring()[0] == 0
    assert place.is_symlink()
    assert "[tree.good]" in (tmp_path / "dotfiles.toml").read_text()


@pytest.mark.parametrize("password", ["ﬁne", "pa\u0308sswort"], ids=["ligature", "decomposed"])
def test_an_encrypted_file_is_opened_by_its_password_however_it_is_composed(
    bring: Bring, conf: Path, place: Path, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(conf, "good", "alias", remote="/tmp")
    sealed(conf, password)
    monkeypatch.setenv("RCLONE_CONFIG_PASS", password)
    assert rclone(conf, "listremotes") == b"good:\n"
    assert bring()[0] == 0
    assert sorted(tables(place)) == ["good"]


BY_HAND = {
    "indented": b"[good]\n  type = alias\n    remote = /tmp\n",
    "colons": b"[good]\ntype: alias\nremote: /tmp\n",
    "quotes": b"[good]\ntype = alias\nremote = `/tmp`\n",
    "triple quotes": b'[good]\ntype = alias\nremote = """/tmp"""\n',
    "mark": b"\xef\xbb\xbf[good]\ntype = alias\nremote = /tmp\n",
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_file_that_was_written_by_hand_is_read_as_rclone_reads_it(
    bring: Bring, conf: Path, place: Path, name: str
) -> None:
    conf.write_bytes(BY_HAND[name])
    assert json.loads(rclone(conf, "config", "dump")) == {"good": {"type": "alias", "remote": "/tmp"}}
    assert bring()[0] == 0
    assert tables(place) == {"good": {"use": "alias", "over": "/tmp"}}


def test_a_file_without_remotes_is_said_to_have_none(bring: Bring, conf: Path, place: Path) -> None:
    conf.write_text("# nothing yet\n")
    _, out, err = bring()
    assert out + err
    assert not place.exists()
