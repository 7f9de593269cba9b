"""The trees of a configuration: what is over what, with which keys, and what of it is kept on this disk."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import pyrage  # type: ignore[import-untyped]
import pytest

from playhead import Changed, Denied, Failure, Malformed, NotFound, Tree, assemble, literal, secrets
from playhead.assemble import Trees
from playhead.config import Config, parse
from playhead.origins.local import LocalTree
from playhead.transforms import age, ageheader, rclone
from playhead.transforms.listed import Listed
from playhead.transforms.names import Names
from playhead.works import Works
from tests.fakes.origin import Origin, settled
from tests.laws import check_tree
from tests.peers import crypts
from tests.transforms.test_aescbc import written as in_cbc

MARKER = b"a marker that stands in the clear text and nowhere else, " * 4
SONG = random.Random(1).randbytes(200_000).replace(b"\0", b"\1") + MARKER + b"\1" * 100_000
PLAINS = {"song.flac": SONG, "album/1 - 노래.flac": SONG[:70_001], "album/inner/empty": b""}
PASSWORD, SALT, PASSPHRASE, KEY = "correct-horse", "battery-staple", "wrong-donkey", "0123456789abcdef0123456789ABCDEF"
SECRET, OTHER = (str(pyrage.x25519.Identity.generate()) for _ in "ab")
PUBLIC = str(pyrage.x25519.Identity.from_str(SECRET).to_public())
DEADLINE = 30.0


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The secrets that were read: none before each test."""
    fresh: set[str] = set()
    monkeypatch.setattr(secrets, "_known", fresh)
    return fresh


# ── encrypted folders ──


async def for_rclone(files: Mapping[str, bytes] = PLAINS) -> dict[str, bytes]:
    keys = rclone.keys(PASSWORD, SALT)
    names = Names(keys.name, keys.tweak)
    return {
        names.path(path.split("/"), folder=False): await rclone.encrypted(literal(data), keys).read()
        for path, data in files.items()
    }


async def for_age(
    files: Mapping[str, bytes] = PLAINS, wrap: ageheader.Wrap = ageheader.recipient(PUBLIC)
) -> dict[str, bytes]:
    return {f"{path}.age": await (await age.encrypted(literal(data), [wrap])).read() for path, data in files.items()}


async def for_cbc(files: Mapping[str, bytes] = PLAINS) -> dict[str, bytes]:
    return {path: in_cbc(data, KEY.encode()) for path, data in files.items()}


class Sealing(Protocol):
    async def __call__(self, files: Mapping[str, bytes] = ..., /) -> dict[str, bytes]: ...


FILES: dict[str, Sealing] = {"rclone-crypt": for_rclone, "age": for_age, "aes-cbc": for_cbc}
KEYS = {
    "rclone-crypt": f'password = "{PASSWORD}"\npassword2 = "{SALT}"',
    "age": f'identity = "{SECRET}"',
    "aes-cbc": f'key = "{KEY}"',
}
each_use = pytest.mark.parametrize("use", FILES)


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def table(use: str, over: str, *more: str, name: str = "clear") -> str:
    return "\n".join([f"[tree.{name}]", f'use = "{use}"', f'over = "{over}"', KEYS.get(use, ""), *more, ""])


def base(root: str = "kept", name: str = "base") -> str:
    return f'[tree.{name}]\nuse = "local"\nroot = "{root}"\n'


def read(folder: Path, *tables: str) -> Config:
    return parse("\n".join(tables), folder / "playhead.toml")


def made(folder: Path, *tables: str, name: str = "clear") -> Tree:
    return Trees(read(folder, *tables)).named(name)


# ── what is over what ──


@each_use
async def test_an_encrypted_folder_is_its_files(tmp_path: Path, use: str) -> None:
    put(tmp_path / "kept", await FILES[use]())
    await check_tree(made(tmp_path, table(use, "base"), base()), PLAINS)


OVERS = ["all", "all:", "base:one/two", "base:/one/two/", "{here}/kept/one/two"]


@pytest.mark.parametrize("over", OVERS)
@each_use
async def test_a_tree_is_over_a_tree_a_folder_in_one_or_a_path(tmp_path: Path, use: str, over: str) -> None:
    put(tmp_path / "kept" / "one" / "two", await FILES[use]())
    tables = base(), base("kept/one/two", "all"), table(use, over.format(here=tmp_path))
    await check_tree(made(tmp_path, *tables), PLAINS)


@pytest.mark.parametrize("over", ["enc", "./enc", "../{here}/enc"])
async def test_a_relative_path_is_meant_from_where_the_configuration_lies(tmp_path: Path, over: str) -> None:
    put(tmp_path / "enc", await for_age())
    await check_tree(made(tmp_path, table("age", over.format(here=tmp_path.name))), PLAINS)


async def test_a_path_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    put(tmp_path / "home" / "enc", await for_age())
    await check_tree(made(tmp_path / "etc", table("age", "~/enc")), PLAINS)


@each_use
async def test_a_tree_is_over_a_url(tmp_path: Path, use: str) -> None:
    async with asyncio.timeout(DEADLINE), Origin(await FILES[use]()) as origin:
        for tables in ([table(use, origin.url)], [f'[tree.web]\nuse = "web"\nurl = "{origin.url}"', table(use, "web")]):
            tree = made(tmp_path, *tables)
            await check_tree(tree, PLAINS)
            await tree.aclose()


async def test_a_folder_may_be_called_otherwise_and_trees_be_laid_over_and_beside_each_other(tmp_path: Path) -> None:
    put(tmp_path / "kept" / "enc", await for_age())
    put(tmp_path / "kept" / "plain", {"song.flac": b"another", "new/n": b"n"})
    tables = [
        base(),
        table("age", "base:enc"),
        table("alias", "clear:album", name="album"),
        '[tree.both]\nuse = "union"\nover = ["base:plain", "clear"]',
        '[tree.one]\nuse = "union"\nover = "clear"',
        '[tree.beside]\nuse = "combine"\nfolders = { "음악" = "clear", plain = "base:plain", "c d" = "album:inner" }',
    ]
    trees = Trees(read(tmp_path, *tables))
    await check_tree(trees.named("album"), {"1 - 노래.flac": SONG[:70_001], "inner/empty": b""})
    await check_tree(trees.named("both"), PLAINS | {"song.flac": b"another", "new/n": b"n"})
    await check_tree(trees.named("one"), PLAINS)
    plain = {"plain/song.flac": b"another", "plain/new/n": b"n", "c d/empty": b""}
    await check_tree(trees.named("beside"), {f"음악/{path}": data for path, data in PLAINS.items()} | plain)


async def test_a_source_names_what_is_in_a_tree(tmp_path: Path) -> None:
    put(tmp_path / "kept", await for_age())
    config = read(tmp_path, base(), table("age", "base"))
    tree, path = assemble.source("clear:album/1 - 노래.flac", config)
    assert await (await tree.open(path)).read() == SONG[:70_001]
    for wrong in ("clear:../x", "clear:a//b"):
        with pytest.raises(Malformed):
            assemble.source(wrong, config)


@pytest.mark.parametrize("use", ["alias", "union", "rclone-crypt", "age", "aes-cbc"])
@pytest.mark.parametrize("over", ["clear", "clear:", "clear:folder"])
def test_a_tree_cannot_be_over_itself(tmp_path: Path, use: str, over: str) -> None:
    with pytest.raises(Malformed, match="clear over clear"):
        made(tmp_path, table(use, over))


def test_a_ring_of_trees_is_refused_and_named(tmp_path: Path) -> None:
    ring = [table("age", "b", name="a"), table("alias", "c:x", name="b")]
    closed = [
        table("aes-cbc", "a", name="c"),
        '[tree.c]\nuse = "union"\nover = ["./", "a:y"]',
        '[tree.c]\nuse = "combine"\nfolders = { x = "a" }',
    ]
    for last in closed:
        trees = Trees(read(tmp_path, *ring, last))
        for first, chain in (("a", "a over b over c over a"), ("b", "b over c over a over b")) * 2:
            with pytest.raises(Malformed, match=chain):
                trees.named(first)
    assert not trees.making


@pytest.mark.parametrize("over", ["nothing", "nothing:", "nothing:folder"])
@pytest.mark.parametrize("use", ["alias", "union", "age"])
def test_what_is_no_tree_is_malformed_and_told_with_those_that_are(tmp_path: Path, use: str, over: str) -> None:
    (tmp_path / "kept").mkdir()
    with pytest.raises(Malformed, match=r"'nothing' .*base, clear"):
        made(tmp_path, base(), table(use, over))


def test_a_path_that_leads_nowhere_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        made(tmp_path, '[tree.clear]\nuse = "alias"\nover = "./nothing"')


async def test_each_tree_is_made_once_and_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []

    class Counted(LocalTree):
        def __init__(self, root: str | Path, **how: bool) -> None:
            counted.append(str(root))
            super().__init__(root, **how)

    monkeypatch.setattr(assemble, "LocalTree", Counted)
    put(tmp_path / "kept", await for_age())
    tables = [
        base(),
        table("age", "base"),
        table("alias", "clear:album", name="one"),
        '[tree.two]\nuse = "union"\nover = ["clear", "base", "one"]',
        '[tree.three]\nuse = "combine"\nfolders = { a = "clear", b = "base:album" }',
    ]
    trees = Trees(read(tmp_path, *tables))
    for name in ("three", "two", "one", "clear", "base"):
        trees.named(name)
        assert trees.named(name) is trees.named(name)
    assert counted == [str(tmp_path / "kept")]


# ── keys ──

Written = Callable[[str], str]


def in_the_environment(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Written:
    def write(value: str) -> str:
        monkeypatch.setenv("PLAYHEAD_SECRET_ONE", value)
        return "secret:one"

    return write


def in_a_file(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Written:
    def write(value: str) -> str:
        file = folder / "secrets" / "one"
        file.parent.mkdir(exist_ok=True)
        file.write_text(value + "\n")
        file.chmod(0o600)
        return "secret:one"

    return write


WAYS: dict[str, Callable[[pytest.MonkeyPatch, Path], Written]] = {
    "in clear": lambda monkeypatch, folder: lambda value: value,
    "in the environment": in_the_environment,
    "in a file": in_a_file,
}


@pytest.fixture(params=WAYS)
def given(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Written:
    """Puts a secret somewhere, and gives what stands for it in the configuration."""
    return WAYS[request.param](monkeypatch, tmp_path)


def hidden(*texts: str) -> bool:
    return not any(text in secrets.scrub(f"it is {text!r}, {text}.") for text in texts)


@pytest.mark.parametrize("obscured", [False, True])
async def test_a_password_of_rclone_is_given_in_clear_or_obscured(
    tmp_path: Path, given: Written, obscured: bool
) -> None:
    put(tmp_path / "kept", await for_rclone())
    one, two = (f"obscured:{crypts.obscured(text)}" if obscured else text for text in (PASSWORD, SALT))
    lines = ["[tree.clear]", 'use = "rclone-crypt"', 'over = "base"']
    tree = made(tmp_path, *lines, f'password = "{given(one)}"', f'password2 = "{two}"', base())
    await check_tree(tree, PLAINS)
    assert hidden(PASSWORD, SALT, one, two)


async def test_an_obscured_password_is_as_secret_as_what_it_hides(tmp_path: Path) -> None:
    put(tmp_path / "kept", await for_rclone())
    text = crypts.obscured(PASSWORD)
    made(tmp_path, base(), table("rclone-crypt", "base").replace(PASSWORD, f"obscured:{text}"))
    assert hidden(PASSWORD, f"obscured:{text}")
    assert hidden(text)


SETTINGS = [*crypts.SETTINGS, crypts.Setting(salt=""), crypts.Setting("off", suffix=".secret")]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
async def test_a_folder_of_rclone_is_read_however_it_was_set_up(tmp_path: Path, setting: crypts.Setting) -> None:
    crypts.written(PLAINS, tmp_path, setting)
    how = [
        f'password = "{setting.password}"',
        f'password2 = "{setting.salt}"' if setting.salt else "",
        f'filename_encryption = "{setting.mode}"',
        f'filename_encoding = "{setting.encoding}"',
        f"directory_name_encryption = {str(setting.folders).lower()}",
        f'suffix = "{setting.suffix or "none"}"',
        f"no_data_encryption = {str(not setting.contents).lower()}",
    ]
    tables = base("sealed"), "\n".join(['[tree.clear]\nuse = "rclone-crypt"\nover = "base"', *how])
    await check_tree(made(tmp_path, *tables), PLAINS)


def with_identity(text: str) -> str:
    return f'[tree.clear]\nuse = "age"\nover = "base"\nidentity = "{text}"\n'


async def test_an_identity_is_given_as_itself(tmp_path: Path, given: Written) -> None:
    put(tmp_path / "kept", await for_age())
    await check_tree(made(tmp_path, with_identity(given(SECRET)), base()), PLAINS)
    assert hidden(SECRET)


@pytest.mark.parametrize("name", ["keys.txt", "./deep/keys.txt", "{here}/keys.txt", "~/keys.txt"])
async def test_an_identity_is_in_a_file_beside_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: Written, name: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    put(tmp_path / "kept", await for_age())
    for place in (tmp_path / "keys.txt", tmp_path / "deep" / "keys.txt"):
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"# created: today\n# public key: {PUBLIC}\n{OTHER}\n{SECRET}\n")
    await check_tree(made(tmp_path, with_identity(given(name.format(here=tmp_path))), base()), PLAINS)
    assert hidden(SECRET, OTHER)
    assert not hidden(PUBLIC)


async def test_a_passphrase_opens_too(tmp_path: Path, given: Written) -> None:
    put(tmp_path / "kept", await for_age(wrap=ageheader.for_passphrase(PASSPHRASE, 4)))
    tables = base(), f'[tree.clear]\nuse = "age"\nover = "base"\npassphrase = "{given(PASSPHRASE)}"'
    await check_tree(made(tmp_path, *tables), PLAINS)
    await check_tree(made(tmp_path, *tables, f'identity = "{OTHER}"'), PLAINS)
    assert hidden(PASSPHRASE, OTHER)


async def test_a_key_is_given_and_hidden_and_warned_of(
    tmp_path: Path, given: Written, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path / "kept", await for_cbc())
    tree = made(tmp_path, base(), f'[tree.clear]\nuse = "aes-cbc"\nover = "base"\nkey = "{given(KEY)}"')
    await check_tree(tree, PLAINS)
    assert hidden(KEY)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "clear" in record.getMessage() and "authentication" in record.getMessage()
    assert KEY not in caplog.text


@each_use
async def test_with_other_keys_nothing_is_read_and_nothing_is_told(
    tmp_path: Path, use: str, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path / "kept", await FILES[use]())
    changed = table(use, "base").replace(PASSWORD, "another-one").replace(SECRET, OTHER).replace(KEY, "x" * 32)
    tree = made(tmp_path, base(), changed)
    with pytest.raises(Failure) as told:
        await (await tree.open("song.flac")).read()
    assert use != "age" or type(told.value) is Denied
    said = f"{told.value} {caplog.text} {tree!r}"
    assert not any(text in said for text in ("another-one", SALT, SECRET, OTHER, "x" * 32))


WRONG = {
    "password": (f'password = "obscured:{PASSWORD}"', "rclone-crypt", PASSWORD),
    "password2": (f'password = "x"\npassword2 = "obscured:{SALT}"', "rclone-crypt", SALT),
    "a mistyped key": (f'identity = "{SECRET[:-1]}"', "age", SECRET[:-1]),
    "a key whose beginning is mistyped": (f'identity = "AGE-SECERT{SECRET[10:]}"', "age", SECRET[16:]),
    "a public key": (f'identity = "{PUBLIC}"', "age", "\0"),
    "no file": ('identity = "nothing.txt"', "age", "\0"),
    "a folder": ('identity = "."', "age", "\0"),
    "an empty file": ('identity = "empty"', "age", "\0"),
    "not a text": ('identity = "binary"', "age", "\0"),
    "a NUL": (r'identity = "a\u0000b"', "age", "\0"),
    "a short key": (f'key = "{KEY[:-1]}"', "aes-cbc", KEY[:-1]),
    "not ASCII": (f'key = "{KEY[:-1]}별"', "aes-cbc", KEY[:-1]),
    "no such secret": ('key = "secret:nothing"', "aes-cbc", "\0"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_key_that_is_none_is_malformed_and_not_told(tmp_path: Path, what: str) -> None:
    put(tmp_path, {"kept/f": b"", "empty": b"", "binary": b"\xff\xfe"})
    line, use, secret = WRONG[what]
    with pytest.raises(Malformed) as told:
        made(tmp_path, base(), f'[tree.clear]\nuse = "{use}"\nover = "base"\n{line}')
    assert secret not in str(told.value)
    assert "\n" not in str(told.value)


# ── what is kept ──


@asynccontextmanager
async def working(folder: Path, url: str, *tables: str) -> AsyncIterator[tuple[Trees, Works]]:
    """The trees of a configuration whose `cloud` is at a URL, and which keeps what is read in `reservoir`."""
    kept = '[reservoir]\nfolder = "reservoir"\nsize = "64 MiB"\nfree = 0\n'
    config = read(folder, kept, f'[tree.cloud]\nuse = "web"\nurl = "{url}"', *tables)
    works = Works(config)
    trees = Trees(config, works)
    async with asyncio.timeout(DEADLINE):
        try:
            yield trees, works
        finally:
            for tree in trees.made.values():
                await tree.aclose()
            await works.aclose()
        await settled(lambda: asyncio.all_tasks() == {asyncio.current_task()})


async def read_all(tree: Tree) -> None:
    for path, data in PLAINS.items():
        assert await (await tree.open(path)).read() == data
    await check_tree(tree, PLAINS)


def blocks(folder: Path) -> bytes:
    """All that is kept of files' contents."""
    return b"".join(path.read_bytes() for path in sorted((folder / "reservoir").rglob("*.data")))


def anything(folder: Path) -> bytes:
    """All that is kept, also of names."""
    files = [path for path in sorted((folder / "reservoir").rglob("*")) if path.is_file()]
    return b"".join(str(path).encode() + path.read_bytes() for path in files)


def crypted(files: Mapping[str, bytes]) -> bytes:
    """A run of bytes in the middle of the encrypted song."""
    return max(files.values(), key=len)[1000:1500]


@each_use
@pytest.mark.parametrize("keep", ["keep = true", ""])
async def test_what_is_kept_is_kept_as_it_came(tmp_path: Path, use: str, keep: str) -> None:
    async with Origin(files := await FILES[use]()) as origin:
        async with working(tmp_path, origin.url, table(use, "cloud", keep)) as (trees, _):
            await read_all(trees.named("clear"))
        assert crypted(files) in blocks(tmp_path)
        assert MARKER not in anything(tmp_path)
        assert use != "rclone-crypt" or b"song.flac" not in anything(tmp_path)


@each_use
async def test_what_is_kept_plain_is_kept_in_clear_and_nothing_else_is(tmp_path: Path, use: str) -> None:
    async with Origin(files := await FILES[use]()) as origin:
        async with working(tmp_path, origin.url, table(use, "cloud", 'keep = "plain"')) as (trees, _):
            await read_all(trees.named("clear"))
        assert MARKER in blocks(tmp_path)
        assert crypted(files) not in anything(tmp_path)
        assert SECRET.encode() not in anything(tmp_path) and KEY.encode() not in anything(tmp_path)


@each_use
@pytest.mark.parametrize("over", ["cloud", "{url}"])
async def test_what_is_not_kept_is_not_kept(tmp_path: Path, use: str, over: str) -> None:
    async with Origin(await FILES[use]()) as origin:
        tables = table(use, over.format(url=origin.url), "keep = false")
        async with working(tmp_path, origin.url, tables) as (trees, works):
            await read_all(trees.named("clear"))
            assert works.cache is None
        assert blocks(tmp_path) == b""


@pytest.mark.parametrize("keep", ["false", '"plain"'])
@pytest.mark.parametrize("over", ["cloud", "{url}"])
async def test_what_one_tree_keeps_another_over_the_same_does_not(tmp_path: Path, over: str, keep: str) -> None:
    async with Origin(files := await for_age()) as origin:
        over = over.format(url=origin.url)
        tables = [table("age", over, name="keeps"), table("age", over, f"keep = {keep}")]
        async with working(tmp_path, origin.url, *tables) as (trees, _):
            trees.named("keeps")
            await read_all(trees.named("clear"))
        assert crypted(files) not in blocks(tmp_path)


async def test_a_source_that_is_not_kept_is_kept_by_nobody_over_it(tmp_path: Path) -> None:
    async with Origin(await for_age()) as origin:
        tables = [
            f'[tree.fleeting]\nuse = "web"\nurl = "{origin.url}"\nkeep = false',
            table("age", "fleeting"),
            table("alias", "clear", name="one"),
            '[tree.two]\nuse = "union"\nover = ["one", "clear"]',
        ]
        async with working(tmp_path, origin.url, *tables) as (trees, _):
            for name in ("clear", "one", "two"):
                await read_all(trees.named(name))
        assert blocks(tmp_path) == b""


@each_use
async def test_without_works_nothing_is_kept_whatever_is_said(tmp_path: Path, use: str) -> None:
    async with Origin(await FILES[use]()) as origin:
        tree = made(tmp_path, table(use, origin.url, 'keep = "plain"'))
        await read_all(tree)
        await tree.aclose()
    assert not (tmp_path / "reservoir").exists()


@each_use
@pytest.mark.parametrize("keep", ["true", '"plain"'])
async def test_what_is_kept_is_read_without_its_origin(tmp_path: Path, use: str, keep: str) -> None:
    tables = table(use, "cloud", f"keep = {keep}")
    async with Origin(await FILES[use]()) as origin, working(tmp_path, origin.url, tables) as (trees, _):
        await read_all(trees.named("clear"))
    async with working(tmp_path, origin.url, tables) as (trees, _):
        tree = trees.named("clear")
        assert [entry.name async for entry in tree.entries("album")]
        for path, data in PLAINS.items():
            assert await (await tree.open(path)).read() == data


def at_once(tree: Tree) -> None:
    """From now on the origin is asked after each file whenever it is opened."""
    while not isinstance(tree, Listed):
        tree = tree.tree  # type: ignore[attr-defined]
    tree.fresh = tree.recheck = 0.0


async def opened(tree: Tree, path: str) -> bytes:
    """What is there now; nothing where that is not the time for it."""
    try:
        return await (await tree.open(path)).read()
    except Changed:
        return b""


@each_use
@pytest.mark.parametrize("keep", ["true", '"plain"'])
async def test_what_was_changed_at_its_origin_is_read_anew(tmp_path: Path, use: str, keep: str) -> None:
    new = {path: data[::-1] for path, data in PLAINS.items()}  # the same sizes and dates, other tags
    tables = table(use, "cloud", f"keep = {keep}")
    async with Origin(await FILES[use]()) as origin, working(tmp_path, origin.url, tables) as (trees, _):
        at_once(tree := trees.named("clear"))
        await read_all(tree)
        origin.files = await FILES[use](new)
        for _ in range(20):
            if (data := await opened(tree, "song.flac")) == new["song.flac"]:
                break
            await asyncio.sleep(0.02)
        assert data == new["song.flac"]


async def test_the_limits_of_an_origin_hold_for_all_that_are_over_it(tmp_path: Path) -> None:
    tables = [
        '[tree.limited]\nuse = "web"\nurl = "http://127.0.0.1:1/"\nrate = 2\nconnections = 1\nbytes_per_day = "1 MB"',
        table("age", "limited", name="one"),
        table("age", "limited", 'keep = "plain"', name="two"),
        table("age", "limited", "keep = false", name="three"),
    ]
    async with working(tmp_path, "http://127.0.0.1:1/", *tables) as (trees, works):
        for name in ("limited", "one", "two", "three"):
            trees.named(name)
        assert len({id(origin.client.limits) for origin, _ in works.pipes}) == 1


# ── what is served ──


async def test_a_tree_is_served_unless_its_table_says_otherwise(tmp_path: Path) -> None:
    put(tmp_path / "kept", await for_age())
    config = read(tmp_path, base() + "serve = false\n", table("age", "base"), table("alias", "clear", name="again"))
    works = Works(config)
    site = await assemble.site([], config, works, login=False)
    assert set(site.trees) == {"clear", "again"}
    await check_tree(site.trees["again"], PLAINS)
    for tree in site.trees.values():
        await tree.aclose()  # each, though they are over the same
    await works.aclose()


@each_use
async def test_trees_over_the_same_are_closed_with_each(tmp_path: Path, use: str) -> None:
    async with Origin(await FILES[use]()) as origin:
        tables = [table(use, "cloud"), table(use, "cloud", 'keep = "plain"', name="plain")]
        tables += ['[tree.all]\nuse = "union"\nover = ["cloud", "clear", "plain"]']
        async with working(tmp_path, origin.url, *tables) as (trees, _):
            await read_all(trees.named("plain"))
            await read_all(trees.named("clear"))
            trees.named("all")


async def test_urls_of_a_bundle_share_the_connections_of_their_server_and_leave_nothing(tmp_path: Path) -> None:
    async with Origin({"get": b"by query", "plain": b"by path"}) as origin:
        known = Trees(read(tmp_path))
        for number in range(20):
            tree, path = known.elsewhere(f"{origin.url}get?file={number}")
            assert await (await tree.open(path)).read() == b"by query"
        tree, path = known.elsewhere(f"{origin.url}plain")
        assert await (await tree.open(path)).read() == b"by path"
        assert {asked.query for asked in origin.of("get")} == {f"file={number}" for number in range(20)}
        assert origin.connections < 5 and len(known.origins) == len(known.urls) == 1
        await tree.aclose()


LAID = 'use = "rclone-crypt"\npassword = "hunter22"\n'


@pytest.mark.parametrize("over", ["enc", "./enc", "nowhere"])
def test_what_lies_over_a_path_is_not_written_to(tmp_path: Path, over: str) -> None:
    """A path in `over` says nothing of writing; and nothing is made where the command happens to run."""
    with pytest.raises(Malformed, match="write = true"):
        Trees(read(tmp_path, f'[tree.music]\n{LAID}over = "{over}"')).store("music:")


@pytest.mark.parametrize(
    ("table", "why"), [('use = "rclone"\nremote = "b:"', "only reads"), (LAID + 'over = "s:x"', "`write")]
)
def test_what_cannot_be_written_to_says_why(tmp_path: Path, table: str, why: str) -> None:
    known = Trees(read(tmp_path, f'[tree.s]\nuse = "local"\nroot = "{tmp_path}"\n[tree.t]\n{table}'))
    with pytest.raises(Malformed, match=why):
        known.store("t:")


async def test_a_folder_that_is_written_to_does_not_show_what_is_half_written(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / ".song.ogg.playhead-0123456789abcdef").write_bytes(b"half")
    (tmp_path / "in" / "song.ogg").write_bytes(b"whole")
    tree = made(tmp_path, '[tree.a]\nuse = "local"\nroot = "in"\nwrite = true', name="a")
    assert [entry.name async for entry in tree.entries("")] == ["song.ogg"]
