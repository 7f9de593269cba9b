"""The configuration: every key checked, every error naming its line."""

from pathlib import Path

import pytest

from playhead import Denied, Malformed, assemble, secrets
from playhead.config import Config, LogConfig, ReservoirConfig, TreeConfig, default_path, load, parse
from playhead.origins.local import LocalTree
from playhead.origins.web import WebTree
from playhead.tree import Tree

PLACE = Path("/etc/playhead/playhead.toml")

WHOLE = """
listen = "[::1]:8080"
prefix = "/my-music"
trusted_proxies = ["10.0.0.0/8", "::1"]
cors = ["https://player.example", "http://localhost:5000"]
tls_cert = "cert.pem"
tls_key = "key.pem"

memory = "64MiB"
[reservoir]
folder = "kept"
size = "10 GB"
free = 1073741824
[log]
level = "debug"
format = "json"

[tree.music]
use = "local"
root = "~/Music"
follow_links = true

[tree.cloud-2]
use = "web"
url = "https://example.org/music/"
headers = { X-Api-Key = "secret:api" }
user = "me"
password = "secret:cloud"
proxy = "socks5://127.0.0.1:1080"
ca = "ca.pem"
cert = "client.pem"
rate = 2.5
connections = 4
bytes_per_day = "50 GB"
keep = false
"""


def test_every_key_is_read() -> None:
    assert parse(WHOLE, PLACE) == Config(
        listen="[::1]:8080",
        prefix="/my-music",
        trusted_proxies=("10.0.0.0/8", "::1"),
        cors=("https://player.example", "http://localhost:5000"),
        tls_cert="cert.pem",
        tls_key="key.pem",
        log=LogConfig("debug", "json"),
        tree={
            "music": TreeConfig("local", root="~/Music", follow_links=True),
            "cloud-2": TreeConfig(
                "web",
                url="https://example.org/music/",
                headers={"X-Api-Key": "secret:api"},
                user="me",
                password="secret:cloud",
                proxy="socks5://127.0.0.1:1080",
                ca="ca.pem",
                cert="client.pem",
                rate=2.5,
                connections=4,
                bytes_per_day=50 * 10**9,
                keep=False,
            ),
        },
        memory=64 << 20,
        reservoir=ReservoirConfig("kept", 10 * 10**9, 1 << 30),
        folder=Path("/etc/playhead"),
    )


def test_nothing_is_needed() -> None:
    assert parse("", PLACE) == Config(folder=Path("/etc/playhead"))
    assert parse("", PLACE).listen == "127.0.0.1:4040"
    assert parse('prefix = ""', PLACE).prefix == ""


def test_the_ways_to_write_a_table_mean_the_same() -> None:
    written = [
        '[tree.music]\nuse = "local"\nroot = "/m"\n[log]\nlevel = "info"',
        'tree.music = { use = "local", root = "/m" }\nlog = { level = "info" }',
        '[tree]\nmusic = { use = "local", root = "/m" }\n[log]\nlevel = "info"',
        'tree.music.use = "local"\ntree.music.root = "/m"\nlog.level = "info"',
        '[tree."music"]\nuse = "local"\nroot = "/m"\n[ log ]\nlevel = "info"',
    ]
    assert len({str(parse(text, PLACE)) for text in written}) == 1


LOCAL = 'use = "local"\nroot = "/m"\n'


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ('lisen = "x"', 1, "lisen"),
        ('\n# a note\nlisten = "127.0.0.1:1"\nlisen = "x"\n', 4, "lisen"),
        ('# lisen = "as it was"\nlisen = "x"', 2, "lisen"),
        ('"lisen" = 1', 1, "lisen"),
        ("folder = 'x'", 1, "folder"),
        ('[log]\nlevel = "info"\nlvl = "x"', 3, "log.lvl"),
        ('log.lvl = "x"', 1, "log.lvl"),
        ('prefix = "/a"\nlog = { lvl = "x" }', 2, "log.lvl"),
        ("[reservior]\nsize = 1", 1, "reservior"),
        ('\n[trees.music]\nuse = "local"', 2, "trees"),
        (f"[tree.music]\n{LOCAL}rot = 1", 4, "tree.music.rot"),
        (f"[ tree . music ]\n{LOCAL}rot = 1", 4, "tree.music.rot"),
        (f'[tree."music"]\n{LOCAL}rot = 1', 4, "tree.music.rot"),
        (f"[tree.a]\n{LOCAL}[tree.b]\n{LOCAL}rot = 1", 7, "tree.b.rot"),
        ('tree.music = { use = "local", rot = "/x" }', 1, "tree.music.rot"),
        ('[tree]\nmusic = { use = "local", rot = "/x" }', 2, "tree.music.rot"),
        ('tree.music.use = "local"\ntree.music.rot = "/x"', 2, "tree.music.rot"),
        (f'[tree.music]\n{LOCAL}[tree.music.heders]\nX = "1"', 4, "tree.music.heders"),
        (f'[tree.music]\n{LOCAL}[log]\nroot = "x"', 5, "log.root"),
    ],
)
def test_an_unknown_key_is_an_error_that_names_its_line(text: str, line: int, key: str) -> None:
    with pytest.raises(Malformed) as told:
        parse(text, PLACE)
    assert str(told.value).startswith(f"{PLACE}:{line}: {key}: unknown; known here: ")


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("listen = 4040", 1, "listen"),
        ("prefix = 5", 1, "prefix"),
        ('prefix = "music"', 1, "prefix"),
        ('prefix = "/"', 1, "prefix"),
        ('prefix = "/a/"', 1, "prefix"),
        ('prefix = "/a//b"', 1, "prefix"),
        ('prefix = "/a b"', 1, "prefix"),
        ('prefix = "/a?b"', 1, "prefix"),
        ('prefix = "/음악"', 1, "prefix"),  # a URL's path is ASCII: nothing would ever be found there
        ('trusted_proxies = "10.0.0.0/8"', 1, "trusted_proxies"),
        ("trusted_proxies = [10]", 1, "trusted_proxies"),
        ("cors = true", 1, "cors"),
        ('cors = ["*"]', 1, "cors"),
        ('cors = [\n  "https://a.example",\n  "https://b.example/",\n]', 1, "cors"),
        ('cors = ["player.example"]', 1, "cors"),
        ("cors = [1]", 1, "cors"),
        ("tls_cert = 1", 1, "tls_cert"),
        ("tls_key = []", 1, "tls_key"),
        ('log = "info"', 1, "log"),
        ('\nlog.level = "loud"', 2, "log.level"),
        ("[log]\nlevel = 3", 2, "log.level"),
        ("[log]\nlevel = []", 2, "log.level"),
        ('[log]\nlevel = "info"\nformat = "xml"', 3, "log.format"),
        ('memory = "a lot"', 1, "memory"),
        ("memory = 1000", 1, "memory"),
        ("memory = -1", 1, "memory"),
        ("memory = true", 1, "memory"),
        ('memory = "1 PB"', 1, "memory"),
        ("reservoir = 1", 1, "reservoir"),
        ('[reservoir]\nsize = "1 kB"', 2, "reservoir.size"),
        ("[reservoir]\nfree = []", 2, "reservoir.free"),
        ("[reservoir]\nfolder = 1", 2, "reservoir.folder"),
        (f"[tree.music]\n{LOCAL}rate = 0", 4, "tree.music.rate"),
        (f"[tree.music]\n{LOCAL}rate = true", 4, "tree.music.rate"),
        (f"[tree.music]\n{LOCAL}connections = 0", 4, "tree.music.connections"),
        (f"[tree.music]\n{LOCAL}connections = 1.5", 4, "tree.music.connections"),
        (f'[tree.music]\n{LOCAL}bytes_per_day = "none"', 4, "tree.music.bytes_per_day"),
        (f"[tree.music]\n{LOCAL}keep = 1", 4, "tree.music.keep"),
        ("tree = 1", 1, "tree"),
        ("[tree]\nmusic = 1", 2, "tree.music"),
        (f"[tree.Music]\n{LOCAL}", 1, "tree.Music"),
        (f"[tree.1]\n{LOCAL}", 1, "tree.1"),
        (f'[tree."a b"]\n{LOCAL}', 1, "tree.a b"),
        ('[tree.music]\nroot = "/m"', 1, "tree.music"),
        ('[tree.music]\nuse = "local"', 1, "tree.music"),
        ('[tree.music]\nuse = "local"\nroot = ""', 1, "tree.music"),
        ('[tree.music]\nuse = "web"\nroot = "/m"', 1, "tree.music"),
        ('tree.music = { use = "web" }', 1, "tree.music"),
        ('[tree.a]\nuse = "web"\nurl = "http://a/"\n[tree.b]\nuse = "ftp"', 5, "tree.b.use"),
        ("[tree.music]\nuse = 1", 2, "tree.music.use"),
        ('[tree.music]\nuse = "local"\nroot = 5', 3, "tree.music.root"),
        (f"[tree.music]\n{LOCAL}follow_links = 1", 4, "tree.music.follow_links"),
        (f'[tree.music]\n{LOCAL}headers = "X: 1"', 4, "tree.music.headers"),
        (f"[tree.music]\n{LOCAL}headers = {{ X = 1 }}", 4, "tree.music.headers"),
        (f"[tree.music]\n{LOCAL}[tree.music.headers]\nX = 1", 4, "tree.music.headers"),
        (f"[tree.music]\n{LOCAL}user = 1", 4, "tree.music.user"),
        (f"[tree.music]\n{LOCAL}password = 1", 4, "tree.music.password"),
        (f"[tree.music]\n{LOCAL}bearer = 1", 4, "tree.music.bearer"),
        (f"[tree.music]\n{LOCAL}proxy = 1", 4, "tree.music.proxy"),
        (f"[tree.music]\n{LOCAL}ca = 1", 4, "tree.music.ca"),
        (f"[tree.music]\n{LOCAL}cert = 1", 4, "tree.music.cert"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_its_line(text: str, line: int, key: str) -> None:
    with pytest.raises(Malformed) as told:
        parse(text, PLACE)
    assert str(told.value).startswith(f"{PLACE}:{line}: {key}: ")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("text", ["listen = ", "[log", "a = 1\na = 2", 'listen = "x" prefix = "y"', "\x00"])
def test_what_is_not_toml_is_an_error_that_names_the_place(text: str) -> None:
    with pytest.raises(Malformed) as told:
        parse(text, PLACE)
    assert str(told.value).startswith(f"{PLACE}: ")
    assert "line " in str(told.value) or "end of document" in str(told.value)


def test_a_value_is_never_shown_where_it_may_be_a_secret() -> None:
    with pytest.raises(Malformed) as told:
        parse(f'[tree.music]\n{LOCAL}password = ["hunter22"]', PLACE)
    assert "hunter22" not in str(told.value)


# ── where it lies ──


def test_it_lies_in_the_users_configuration(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_path() == own_home / "config" / "playhead" / "playhead.toml"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert default_path() == Path("/home/somebody/.config/playhead/playhead.toml")
    monkeypatch.setenv("PLAYHEAD_CONFIG", "/etc/other.toml")
    assert default_path() == Path("/etc/other.toml")


def test_without_a_file_there_the_defaults_hold() -> None:
    assert load() == Config(folder=default_path().parent)


def test_the_file_there_is_read() -> None:
    default_path().parent.mkdir(parents=True)
    default_path().write_text('listen = "127.0.0.1:1"')
    assert load().listen == "127.0.0.1:1"
    assert load().folder == default_path().parent


def test_a_file_that_was_named_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Malformed, match="no such"):
        load(tmp_path / "nothing.toml")
    monkeypatch.setenv("PLAYHEAD_CONFIG", str(tmp_path / "nothing.toml"))
    with pytest.raises(Malformed, match="no such"):
        load()


def test_a_file_that_cannot_be_read_is_malformed(tmp_path: Path) -> None:
    with pytest.raises(Malformed):
        load(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'listen = "\xff"')
    with pytest.raises(Malformed):
        load(tmp_path / "latin.toml")


# ── what it makes ──


def made(table: TreeConfig, folder: Path) -> Tree:
    return assemble.Trees(Config(tree={"music": table}, folder=folder)).named("music")


async def test_a_relative_root_is_meant_from_where_the_configuration_lies(tmp_path: Path) -> None:
    (tmp_path / "songs").mkdir()
    tree = made(TreeConfig("local", root="songs"), tmp_path)
    assert isinstance(tree, LocalTree)
    assert tree.root == str(tmp_path / "songs")


def sent(config: TreeConfig, folder: Path) -> dict[str, str]:
    tree = made(config, folder).tree.tree  # type: ignore[attr-defined]
    assert isinstance(tree, WebTree)
    return tree.client.headers


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The secrets that were read: none before each test."""
    fresh: set[str] = set()
    monkeypatch.setattr(secrets, "_known", fresh)
    return fresh


def test_secrets_are_read_for_headers_and_passwords(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: set[str]
) -> None:
    monkeypatch.setenv("PLAYHEAD_SECRET_THE_ONE", "hunter22")
    web = {"use": "web", "url": "http://example.org/"}
    headers = sent(TreeConfig(**web, headers={"X-Key": "secret:the-one", "X": "plain"}), tmp_path)
    assert (headers["X-Key"], headers["X"]) == ("hunter22", "plain")
    assert sent(TreeConfig(**web, bearer="secret:the-one"), tmp_path)["Authorization"] == "Bearer hunter22"
    basic = sent(TreeConfig(**web, user="me", password="secret:the-one"), tmp_path)["Authorization"]
    assert basic == "Basic bWU6aHVudGVyMjI="
    assert {"hunter22", basic} <= known


def test_a_secret_comes_from_a_file_that_only_its_owner_can_read(tmp_path: Path, known: set[str]) -> None:
    file = tmp_path / "secrets" / "cloud"
    file.parent.mkdir()
    file.write_text("hunter22\n")
    for mode in (0o644, 0o640, 0o604, 0o660, 0o601):
        file.chmod(mode)
        with pytest.raises(Denied, match="chmod 600"):
            secrets.resolve("secret:cloud", tmp_path)
    for mode in (0o600, 0o400):
        file.chmod(mode)
        assert secrets.resolve("secret:cloud", tmp_path) == "hunter22"


def test_the_environment_comes_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: set[str]
) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "cloud").write_text("from the file")
    monkeypatch.setenv("PLAYHEAD_SECRET_CLOUD", "from the environment")
    assert secrets.resolve("secret:cloud", tmp_path) == "from the environment"


def test_a_secret_that_is_nowhere_says_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(Malformed) as told:
        secrets.resolve("secret:cloud-2", tmp_path)
    assert "PLAYHEAD_SECRET_CLOUD_2" in str(told.value)
    assert "secrets/cloud-2" in str(told.value)


@pytest.mark.parametrize("name", ["", "../key", "a/b", "A", "-a", "a b", "a\0", "/etc/passwd"])
def test_the_name_of_a_secret_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(Malformed):
        secrets.resolve(f"secret:{name}", tmp_path)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"], ids=["a folder", "not a text"])
def test_a_secret_that_cannot_be_read_is_told_as_ours(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "secrets" / "cloud"
    file.parent.mkdir()
    if content is None:
        file.mkdir(mode=0o700)
    else:
        file.write_bytes(content)
        file.chmod(0o600)
    with pytest.raises((Malformed, Denied)):
        secrets.resolve("secret:cloud", tmp_path)


def test_what_is_no_secret_is_itself(tmp_path: Path) -> None:
    assert secrets.resolve("plain", tmp_path) == "plain"
