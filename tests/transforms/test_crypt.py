"""Folders of rclone's crypt as trees: what rclone wrote shows and nothing else; what is put there rclone reads."""

import asyncio
import random
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from playhead import Ask, Blob, Changed, Damaged, Denied, Malformed, NotFound, Store, Tree, Unavailable, literal, walk
from playhead.origins.local import LocalTree
from playhead.origins.memory import MemoryTree
from playhead.origins.web import WebTree
from playhead.transforms.cached import cached
from playhead.transforms.crypt import CryptTree, crypt
from playhead.transforms.filling import Cache
from playhead.transforms.listed import listed
from playhead.transforms.names import Names
from playhead.transforms.rclone import HEAD, encrypted, sealed_size
from playhead.transforms.reservoir import Reservoir
from playhead.transforms.sealed import PLAIN, SEALED
from playhead.tree import Entries, Entry, Why
from tests.fakes.origin import Answer, Asked, Origin, hang, settled, status
from tests.laws import check_tree, collected
from tests.peers import servers
from tests.peers.crypts import ENCODED, PLAIN_NAMES, SETTINGS, Setting, on_disk, put, rclone, written
from tests.transforms.quiet import quiet

MIB = 1 << 20
SONG = random.Random(1).randbytes(5 * PLAIN + 77)
FILM = random.Random(2).randbytes(12 * MIB + 5)
FILES = {
    "a.txt": b"a",
    "empty": b"",
    "노래/별이 빛나는 밤.mp3": SONG,
    "노래/둘/block": SONG[:PLAIN],
    "노래/둘/one more.flac": SONG[: PLAIN + 1],
    "!quoted! 1/12. 日本語 é.ogg": b"three",
    "!quoted! 1/.hidden": SONG[:1000],
    "a-v2006-01-02-150405-000.txt": b"an old version",
}
CLEAR = [Setting(contents=False), Setting("off", suffix="", contents=False), Setting("obfuscate", contents=False)]


def over(tree: Tree, setting: Setting) -> Tree:
    return crypt(tree, setting.keys, setting.names(), contents=setting.contents)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Setting], Path]:
    """The folder that rclone made of FILES, for each setting."""
    made: dict[Setting, Path] = {}

    def folder(setting: Setting) -> Path:
        if setting not in made:
            made[setting] = written(FILES, tmp_path_factory.mktemp("crypt"), setting)
        return made[setting]

    return folder


async def hidden(files: Mapping[str, bytes], setting: Setting) -> dict[str, bytes]:
    """The files as they are below, made here."""
    names, key = setting.names(), setting.keys
    return {
        names.path(path.split("/"), folder=False): await encrypted(literal(data), key).read()
        for path, data in files.items()
    }


def kept(_: str) -> None: ...


# ── trees that are watched, and that lie ──


class Through(Tree, Store):
    """Another tree, as it is."""

    def __init__(self, tree: MemoryTree) -> None:
        self.tree = tree

    async def entries(self, folder: str = "") -> Entries:
        async with aclosing(self.tree.entries(folder)) as entries:
            async for entry in entries:
                yield self.seen(entry)

    async def find(self, path: str) -> Entry:
        return self.seen(await self.tree.find(path))

    def seen(self, entry: Entry) -> Entry:
        return entry

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        return await self.tree.open(path, ask)

    async def put(
        self, path: str, blob: Blob, *, replaces: str | None, state: str | None, keep: Callable[[str], None]
    ) -> Entry:
        return await self.tree.put(path, blob, replaces=replaces, state=state, keep=keep)


class Recording(Through):
    """Writes down what is opened, and holds it up until the gate is open."""

    def __init__(self, tree: MemoryTree) -> None:
        super().__init__(tree)
        self.asks: list[Ask] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        self.asks.append(ask)
        await self.gate.wait()
        return await self.tree.open(path, ask)


class Claiming(Through):
    """Says that its files have a size (None: that it does not know)."""

    def __init__(self, tree: MemoryTree, size: int | None) -> None:
        super().__init__(tree)
        self.size = size

    def seen(self, entry: Entry) -> Entry:
        return entry if entry.folder else replace(entry, size=self.size, tag=None)


class Stopping(Through):
    """Keeps a part of what is put, and fails when it is first asked to."""

    def __init__(self, tree: MemoryTree) -> None:
        super().__init__(tree)
        self.states: list[str | None] = []
        self.parts: list[bytes] = []

    async def put(
        self, path: str, blob: Blob, *, replaces: str | None, state: str | None, keep: Callable[[str], None]
    ) -> Entry:
        self.states.append(state)
        self.parts.append(await blob.read())
        if state is None:
            keep("part 1")
            keep("part 2 of 3")
            raise Unavailable("gone")
        return await super().put(path, blob, replaces=replaces, state=state, keep=keep)


# ── the law ──


@pytest.mark.parametrize("setting", SETTINGS + CLEAR, ids=str)
async def test_a_folder_that_rclone_wrote_is_its_files(setting: Setting, folders: Callable[[Setting], Path]) -> None:
    for tree in (LocalTree(folders(setting)), MemoryTree(on_disk(folders(setting)))):
        await check_tree(over(tree, setting), FILES)


@pytest.mark.parametrize("setting", SETTINGS + CLEAR, ids=str)
async def test_what_was_made_here_is_its_files_and_rclone_reads_them(setting: Setting, tmp_path: Path) -> None:
    below = MemoryTree({})
    tree = over(below, setting)
    assert isinstance(tree, Store)
    for path, data in FILES.items():
        entry = await tree.put(path, literal(data), replaces=None, state=None, keep=kept)
        assert (entry.name, entry.size, entry.folder) == (path.rpartition("/")[2], len(data), False)
        assert entry == await tree.find(path)
    await check_tree(tree, FILES)
    put({path: await blob.read() for path, blob in below.files.items()}, tmp_path / "sealed")
    put(FILES, tmp_path / "clear")
    rclone("cryptcheck" if setting.contents else "check", str(tmp_path / "clear"), setting.remote(tmp_path / "sealed"))
    path = "노래/별이 빛나는 밤.mp3"
    assert rclone("cat", setting.remote(tmp_path / "sealed", path)) == FILES[path]


def test_rclone_would_say_so_if_a_file_were_another(tmp_path: Path) -> None:
    setting = Setting()
    sealed = written(FILES, tmp_path, setting)
    (tmp_path / "clear" / "a.txt").write_bytes(b"b")
    with pytest.raises(subprocess.CalledProcessError):
        rclone("cryptcheck", str(tmp_path / "clear"), setting.remote(sealed))


@pytest.mark.parametrize("setting", [Setting(), Setting("off"), Setting("obfuscate", folders=False)], ids=str)
async def test_folders_are_folders(setting: Setting, folders: Callable[[Setting], Path]) -> None:
    tree = over(LocalTree(folders(setting)), setting)
    found = {path async for path, entry in walk(tree) if entry.folder}
    assert found == {"노래", "노래/둘", "!quoted! 1"}
    assert all([(await tree.find(path)).folder for path in found])
    assert [entry.name async for entry in tree.entries("노래/둘")]
    for missing in ("no such folder", "a.txt", "노래/셋"):
        with pytest.raises(NotFound):
            [entry async for entry in tree.entries(missing)]


async def test_names_that_differ_in_normal_form_are_two() -> None:
    files = {"Café": b"1", "Cafe\u0301": b"22", "별": b"333"}
    for setting in ENCODED:
        await check_tree(over(MemoryTree(await hidden(files, setting)), setting), files)


async def test_dates_are_those_below(folders: Callable[[Setting], Path]) -> None:
    setting, below = Setting(), LocalTree(folders(Setting()))
    tree, path = over(below, setting), "노래/둘/block"
    under = setting.names().path(path.split("/"), folder=False)
    assert (await tree.find(path)).modified == (await below.find(under)).modified is not None
    assert (await tree.open(path)).modified == (await tree.find(path)).modified
    assert (await tree.find(path)).mark == (await below.find(under)).mark


async def test_the_tag_that_is_listed_is_that_of_the_blob(folders: Callable[[Setting], Path]) -> None:
    for setting in (Setting(), CLEAR[0]):
        tree = over(LocalTree(folders(setting)), setting)
        listed_tags = {path: entry.tag async for path, entry in walk(tree) if not entry.folder}
        for path, tag in listed_tags.items():
            assert tag is not None
            assert tag == (await tree.open(path)).tag == (await tree.find(path)).tag


async def test_other_keys_give_other_tags() -> None:
    below = MemoryTree(await hidden({"f": b"x"}, PLAIN_NAMES))
    other = Setting("off", suffix="", password="another")
    assert (await over(below, PLAIN_NAMES).open("f")).tag != (await over(below, other).open("f")).tag


# ── what is not ours ──

FOREIGN = ["README.md", "desktop.ini", "Plain/노래.mp3", ".bzEmpty", "\udcff"]


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s.mode != "off" or s.suffix], ids=str)
async def test_files_with_foreign_names_are_not_shown(setting: Setting, folders: Callable[[Setting], Path]) -> None:
    foreign = dict.fromkeys(FOREIGN, b"foreign")
    tree = over(MemoryTree({**on_disk(folders(setting)), **foreign}), setting)
    await check_tree(tree, FILES)
    for name in FOREIGN:
        with pytest.raises(NotFound):
            await tree.open(name)


async def test_of_another_password_nothing_is_shown(folders: Callable[[Setting], Path]) -> None:
    for setting in ENCODED:
        other = replace(setting, password="another")
        tree = over(LocalTree(folders(setting)), other)
        assert [path async for path, entry in walk(tree) if not entry.folder] == []
        with pytest.raises(NotFound):
            await tree.open("a.txt")


async def test_with_another_password_for_contents_alone_nothing_is_read() -> None:
    tree = over(MemoryTree(await hidden({"f": SONG}, PLAIN_NAMES)), Setting("off", suffix="", password="another"))
    for ask in (Ask(), Ask(2 * PLAIN)):
        blob = await tree.open("f", ask)
        with pytest.raises(Damaged, match="password is another"):
            await blob.read(ask.start or 0)


def by_hand(names: Names, name: bytes) -> str:
    """A name that no remote would encrypt, encrypted."""
    fill = 16 - len(name) % 16
    return names.encode(names.eme.encrypted(name + bytes([fill]) * fill))


BAD = [b"..", b".", b"a/b", b"/", b"../x", b"", b"\0", b"a\0b", b"x/../../etc/passwd"]


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("setting", ENCODED, ids=str)
async def test_hostile_names_are_never_shown(setting: Setting, name: bytes) -> None:
    names, sealed = setting.names(), await encrypted(literal(b"x"), setting.keys).read()
    bad = by_hand(names, name)
    good = names.hidden("f", False)
    tree = over(MemoryTree({bad: sealed, f"{names.hidden('d', True)}/{bad}": sealed, good: sealed}), setting)
    assert {path async for path, _ in walk(tree)} == {"d", "f"}
    for wrong in ("..", ".", "d/..", "a/b", "x/../../etc/passwd", "\0"):
        with pytest.raises((Malformed, NotFound)):
            await tree.open(wrong)


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("setting", ENCODED, ids=str)
async def test_hostile_folders_are_never_shown(setting: Setting, name: bytes) -> None:
    names, sealed = setting.names(), await encrypted(literal(b"x"), setting.keys).read()
    bad = by_hand(names, name)
    tree = over(MemoryTree({f"{bad}/{names.hidden('f', False)}": sealed, f"{bad}/{bad}": sealed}), setting)
    assert {path async for path, _ in walk(tree)} == (set() if setting.folders else {bad, f"{bad}/f"})


async def test_hostile_names_of_other_modes_are_never_shown() -> None:
    sealed = await encrypted(literal(b"x"), Setting().keys).read()
    for setting, bad in (
        (Setting("off"), ["...bin", "..bin", ".bin"]),
        (
            Setting("obfuscate"),
            [Setting("obfuscate").names().hidden(name, False) for name in ("..", ".")] + ["!..", "!."],
        ),
        (Setting("obfuscate"), ["!...", "0.", "7..", "7..."]),
    ):
        tree = over(MemoryTree(dict.fromkeys(bad, sealed)), setting)
        assert [entry.name async for entry in tree.entries()] == []


@pytest.mark.parametrize(
    ("setting", "made"),
    [
        (Setting(), lambda name: name.upper()),
        (Setting("standard", "base64"), lambda name: name[:-1] + chr(ord(name[-1]) + 1)),
        (Setting("obfuscate"), lambda name: "12.abc"),
        (Setting("obfuscate"), lambda name: "1. Intro.mp3"),
        (Setting("obfuscate"), lambda name: "!.utf8"),
        (Setting("obfuscate"), lambda name: "07" + name),
    ],
    ids=["upper case", "spare bits", "a number", "a track", "quoted", "zeros"],
)
async def test_whatever_is_listed_can_be_found_and_opened(setting: Setting, made: Callable[[str], str]) -> None:
    """Names that decrypt, though encryption would not have made them."""
    name = made(setting.names().hidden("a name", False))
    tree = over(MemoryTree({name: await encrypted(literal(b"x"), setting.keys).read()}), setting)
    for entry in [entry async for entry in tree.entries()]:
        assert await tree.find(entry.name)
        assert await (await tree.open(entry.name)).read() == b"x"


# ── sizes ──


async def test_sizes_are_told_without_opening() -> None:
    for setting in (Setting(), Setting("off"), Setting("obfuscate")):
        below = Recording(MemoryTree(await hidden(FILES, setting)))
        tree = over(below, setting)
        sizes = {path: entry.size async for path, entry in walk(tree) if not entry.folder}
        assert sizes == {path: len(data) for path, data in FILES.items()}
        assert {path: (await tree.find(path)).size for path in FILES} == sizes
        assert below.asks == []


async def test_a_size_that_is_not_known_below_is_not_known() -> None:
    tree = over(Claiming(MemoryTree(await hidden(FILES, PLAIN_NAMES)), None), PLAIN_NAMES)
    assert {entry.size async for _, entry in walk(tree)} == {None}
    await check_tree(tree, FILES)


async def test_a_file_of_an_impossible_size_is_listed_without_one_and_refused_when_it_is_opened() -> None:
    for data in (b"", b"RCLONE\0\0", bytes(HEAD + 5), b"not encrypted at all, by nobody" * 3):
        tree = over(MemoryTree({"f": data[:40]}), PLAIN_NAMES)
        assert [(entry.name, entry.size) async for entry in tree.entries()] == [("f", None)]
        assert (await tree.find("f")).size is None
        for ask in (Ask(), Ask(PLAIN), Ask(None, -1)):
            with pytest.raises(Damaged):
                await tree.open("f", ask)


CUT = HEAD + 3 * SEALED  # between two blocks, so that it looks whole


@pytest.mark.parametrize("ask", [Ask(), Ask(PLAIN + 5), Ask(None, -5), Ask(0, 0)])
async def test_a_file_that_is_not_as_long_as_it_was_listed_is_damaged(ask: Ask) -> None:
    whole = await encrypted(literal(SONG), PLAIN_NAMES.keys).read()
    for data, claimed in ((whole[:CUT], len(whole)), (whole, CUT), (whole[:HEAD], len(whole))):
        async with quiet():
            tree = over(Claiming(MemoryTree({"노래": data}), claimed), PLAIN_NAMES)
            assert [entry.name async for entry in tree.entries()] == ["노래"]
            with pytest.raises(Damaged, match=f"lists {claimed:,} bytes of a file that has {len(data):,}"):
                await tree.open("노래", ask)


async def test_a_file_that_changed_since_it_was_listed_is_served() -> None:
    key, names = Setting().keys, Setting().names()
    name = names.hidden("노래", False)
    below = MemoryTree({name: await encrypted(literal(SONG), key).read()})
    tree = crypt(below, key, names)
    for data in (SONG[: 3 * PLAIN], SONG * 2, b"", SONG):
        assert [entry.name async for entry in tree.entries()] == ["노래"]  # the size that it has now is remembered
        below.files[name] = literal(await encrypted(literal(data), key).read())
        for ask in (Ask(), Ask(min(len(data), PLAIN)), Ask(None, -7)):
            assert await (await tree.open("노래", ask)).read() == data
        assert (await tree.find("노래")).size == len(data)
        await check_tree(tree, {"노래": data})


async def test_a_new_version_is_read_with_its_own_head() -> None:
    key = PLAIN_NAMES.keys
    below = Recording(MemoryTree({"f": await encrypted(literal(SONG), key).read()}))
    tree = over(below, PLAIN_NAMES)
    assert await (await tree.open("f", Ask(PLAIN))).read(PLAIN) == SONG[PLAIN:]
    new = random.Random(3).randbytes(len(SONG))  # as long as the one before
    below.tree.files["f"] = literal(await encrypted(literal(new), key).read())
    for ask in (Ask(PLAIN), Ask(), Ask(None, -5)):
        blob = await tree.open("f", ask)
        assert await blob.read(PLAIN) == new[PLAIN:]
        assert await blob.read() == new


async def test_files_without_a_tag_are_read_and_their_heads_are_not_remembered() -> None:
    sealed = await encrypted(literal(SONG), PLAIN_NAMES.keys).read()
    below = MemoryTree({"f": b"x"})
    below.files["f"] = literal(sealed, None)
    tree = over(below, PLAIN_NAMES)
    for ask in (Ask(), Ask(2 * PLAIN), Ask(None, -9)):
        blob = await tree.open("f", ask)
        assert blob.tag is None
        assert await blob.read(2 * PLAIN) == SONG[2 * PLAIN :]
    below.files["f"] = literal(await encrypted(literal(SONG[::-1]), PLAIN_NAMES.keys).read(), None)
    blob = await tree.open("f", Ask(2 * PLAIN))
    assert await blob.read(2 * PLAIN) == SONG[::-1][2 * PLAIN :]


# ── what is asked below ──


def first_block(at: int) -> int:
    return HEAD + at // PLAIN * SEALED


async def test_a_file_never_seen_is_opened_twice_at_once_from_the_middle_and_once_from_then_on() -> None:
    async with quiet():
        below = Recording(MemoryTree(await hidden({"f": SONG}, Setting())))
        tree = over(below, Setting())
        below.gate.clear()
        opening = asyncio.create_task(tree.open("f", Ask(2 * PLAIN + 9, 3 * PLAIN + 1, Why.SEEK)))
        for _ in range(5):
            await asyncio.sleep(0)
        blocks = Ask(first_block(2 * PLAIN), first_block(4 * PLAIN), Why.SEEK)
        assert len(below.asks) == 2 and blocks in below.asks
        (head,) = [ask for ask in below.asks if ask != blocks]
        assert (head.start, head.stop) == (0, HEAD)
        below.gate.set()
        blob = await opening
        assert await blob.read(2 * PLAIN + 9, 3 * PLAIN + 1) == SONG[2 * PLAIN + 9 : 3 * PLAIN + 1]
        assert len(below.asks) == 2
        for start in (4 * PLAIN, 0, len(SONG) - 1):
            blob = await tree.open("f", Ask(start))
            assert await blob.read(start) == SONG[start:]
        assert [ask.start for ask in below.asks[2:]] == [first_block(4 * PLAIN), 0, first_block(len(SONG) - 1)]


@pytest.mark.parametrize("why", [Why.SEEK, Why.BULK, Why.SCAN])
async def test_both_openings_say_what_the_read_is_for(why: Why) -> None:
    below = Recording(MemoryTree(await hidden({"f": SONG}, Setting())))
    await over(below, Setting()).open("f", Ask(2 * PLAIN, None, why))
    assert [ask.why for ask in below.asks] == [why, why]


async def test_a_file_never_seen_is_opened_once_from_the_beginning() -> None:
    below = Recording(MemoryTree(await hidden({"f": SONG}, Setting())))
    tree = over(below, Setting())
    for ask in (Ask(0, 10), Ask(2 * PLAIN, 3 * PLAIN)):
        blob = await tree.open("f", ask)
        assert ask.start is not None
        assert await blob.read(ask.start, ask.stop) == SONG[ask.start : ask.stop]
    assert [(ask.start, ask.stop) for ask in below.asks] == [(0, HEAD + SEALED), (HEAD + 2 * SEALED, HEAD + 3 * SEALED)]


@pytest.mark.parametrize("last", [1, 77, 78, PLAIN, len(SONG), 2 * len(SONG)])
async def test_what_is_asked_from_the_end_covers_the_blocks_of_it(last: int) -> None:
    below = Recording(MemoryTree(await hidden({"f": SONG}, Setting())))
    blob = await over(below, Setting()).open("f", Ask(None, -last))
    assert await blob.read(max(0, len(SONG) - last)) == SONG[-last:]
    (ask,) = [ask for ask in below.asks if ask.start is None]
    needed = sealed_size(len(SONG)) - first_block(max(0, len(SONG) - last))
    assert ask.stop is not None and needed <= -ask.stop <= max(needed, sealed_size(last)) + 3 * SEALED


async def test_a_folder_of_names_alone_is_asked_for_what_was_asked() -> None:
    below = Recording(MemoryTree({Setting().names().hidden("f", False): SONG}))
    tree = over(below, CLEAR[0])
    for ask in (Ask(), Ask(5, 10), Ask(None, -3), Ask(2 * PLAIN)):
        assert await (await tree.open("f", ask)).read() == SONG
    assert below.asks == [Ask(), Ask(5, 10), Ask(None, -3), Ask(2 * PLAIN)]


@pytest.mark.parametrize("ask", [Ask(), Ask(3 * PLAIN), Ask(None, -1)])
async def test_what_is_not_there_is_not_found_and_nothing_is_left_behind(ask: Ask) -> None:
    async with quiet():
        tree = over(MemoryTree(await hidden(FILES, Setting())), Setting())
        for path in ("no such file", "노래", "x" * 3000, f"{'y' * 3000}/f"):
            with pytest.raises(NotFound):
                await tree.open(path, ask)
            if path != "노래":
                with pytest.raises(NotFound):
                    await tree.find(path)


@pytest.mark.parametrize("first", ["head", "blocks"])
async def test_of_two_openings_that_fail_nobody_else_hears(first: str) -> None:
    class Failing(Through):
        async def open(self, path: str, ask: Ask = Ask()) -> Blob:
            if (ask.start == 0) != (first == "head"):
                await asyncio.sleep(0.01)
            raise Unavailable("dead")

    async with quiet():
        tree = over(Failing(MemoryTree({})), PLAIN_NAMES)
        with pytest.raises(Unavailable, match="dead"):
            await tree.open("f", Ask(PLAIN))


async def test_an_opening_that_is_cancelled_leaves_nothing_behind() -> None:
    async with quiet():
        below = Recording(MemoryTree(await hidden({"f": SONG}, Setting())))
        below.gate.clear()
        opening = asyncio.create_task(over(below, Setting()).open("f", Ask(PLAIN)))
        await settled(lambda: len(below.asks) == 2)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening


# ── writing ──


def writable(below: Tree, setting: Setting = Setting()) -> CryptTree:
    tree = over(below, setting)
    assert isinstance(tree, CryptTree)
    return tree


async def test_a_version_replaces_the_one_that_it_is_said_to_replace() -> None:
    for setting in (Setting(), CLEAR[0]):
        tree = writable(MemoryTree({}), setting)
        first = await tree.put("노래/f", literal(b"one"), replaces=None, state=None, keep=kept)
        second = await tree.put("노래/f", literal(b"two!"), replaces=first.tag, state=None, keep=kept)
        assert second.tag != first.tag and second.size == 4
        for replaces in (None, first.tag, "nonsense"):
            with pytest.raises(Changed):
                await tree.put("노래/f", literal(b"three"), replaces=replaces, state=None, keep=kept)
        await check_tree(tree, {"노래/f": b"two!"})


async def test_a_version_that_is_not_there_is_not_replaced() -> None:
    for setting in (CLEAR[0], Setting()):
        below = MemoryTree({})
        with pytest.raises(Changed):
            await writable(below, setting).put("f", literal(b"x"), replaces="t", state=None, keep=kept)
        assert below.files == {}


async def test_a_tag_of_the_tree_below_is_none_of_a_version_here() -> None:
    below = MemoryTree({})
    tree = writable(below)
    await tree.put("f", literal(b"one"), replaces=None, state=None, keep=kept)
    (under,) = below.files.values()
    with pytest.raises(Changed):
        await tree.put("f", literal(b"two"), replaces=under.tag, state=None, keep=kept)


async def test_two_versions_have_two_nonces() -> None:
    below = MemoryTree({})
    tree = writable(below)
    entry, nonces = await tree.put("f", literal(SONG), replaces=None, state=None, keep=kept), set()
    for _ in range(5):
        (blob,) = below.files.values()
        nonces.add(await blob.read(0, HEAD))
        entry = await tree.put("f", literal(SONG), replaces=entry.tag, state=None, keep=kept)
    assert len(nonces) == 5


async def test_what_is_put_again_with_the_kept_state_has_the_same_nonce() -> None:
    below, states = Stopping(MemoryTree({})), list[str]()
    tree = writable(below)
    with pytest.raises(Unavailable):
        await tree.put("노래", literal(SONG), replaces=None, state=None, keep=states.append)
    assert len(states) == 3 and below.tree.files == {}
    entry = await tree.put("노래", literal(SONG), replaces=None, state=states[-1], keep=states.append)
    assert below.states == [None, "part 2 of 3"]
    assert below.parts[0] == below.parts[1]
    assert entry.size == len(SONG)
    await check_tree(tree, {"노래": SONG})


LONG = [
    (Setting(), "가" * 80),
    (Setting(), "x" * 160),
    (Setting("standard", "base64"), "x" * 200),
    (Setting("standard", "base32768"), "x" * 200),
    (Setting("off"), "x" * 252),
    (Setting("obfuscate"), "x" * 254),
    (Setting(), "x" * 2048),
    (Setting("standard", "base32768"), "가" * 700),
]


@pytest.mark.parametrize(
    ("setting", "name"), LONG, ids=lambda value: str(len(value)) if isinstance(value, str) else None
)
async def test_a_name_that_becomes_too_long_is_refused_before_anything_is_written(setting: Setting, name: str) -> None:
    below = Stopping(MemoryTree({}))
    tree = writable(below, setting)
    paths = [name, f"d/{name}"] if setting.mode == "off" else [name, f"d/{name}", f"{name}/f"]
    for path in paths:
        with pytest.raises(Malformed, match=r"255 are the most|2,047 are the most") as caught:
            await tree.put(path, literal(b"x"), replaces=None, state=None, keep=kept)
        assert "\n" not in str(caught.value) and name[:20] in str(caught.value)
    assert below.states == [] and below.tree.files == {}


async def test_a_name_that_becomes_as_long_as_may_be_is_written(tmp_path: Path) -> None:
    # 143 bytes are 144 when filled, and 231 letters; another block would be 257
    for setting, name in ((Setting(), "x" * 143), (Setting("off"), "x" * 251)):
        below = MemoryTree({})
        await writable(below, setting).put(name, literal(b"x"), replaces=None, state=None, keep=kept)
        put({path: await blob.read() for path, blob in below.files.items()}, tmp_path / setting.mode)
        assert rclone("cat", setting.remote(tmp_path / setting.mode, name)) == b"x"


async def test_what_cannot_be_written_says_so(folders: Callable[[Setting], Path]) -> None:
    with pytest.raises(Malformed, match="cannot be written"):
        await writable(LocalTree(folders(Setting()))).put("f", literal(b""), replaces=None, state=None, keep=kept)


@pytest.mark.parametrize("path", ["../x", "a/../b", "/a", "a//b", "a\0b", "."])
async def test_nothing_is_put_at_what_is_no_path(path: str) -> None:
    below = MemoryTree({})
    with pytest.raises(Malformed):
        await writable(below).put(path, literal(b""), replaces=None, state=None, keep=kept)
    assert below.files == {}


# ── secrets ──


async def test_no_key_is_in_a_tree_or_in_its_failures() -> None:
    setting = Setting()
    key = setting.keys
    tree = over(MemoryTree({"x": b"y"}), setting)
    said = repr(tree) + str(tree) + repr(setting.names())
    for path in ("no such file", "x" * 5000):
        with pytest.raises(NotFound) as caught:
            await tree.open(path)
        said += f"{caught.value} {caught.value!r}"
    for secret in (key.data, key.name, key.tweak):
        assert secret.hex() not in said and repr(secret)[2:-1] not in said


# ── the whole pipeline ──

HIDDEN = Setting().names().path(["영화", "별.mkv"], folder=False)


@dataclass(frozen=True, slots=True)
class Pipeline:
    origin: Origin
    tree: Tree
    cache: Cache

    def gets(self) -> list[str]:
        """What was asked for of the film."""
        assert {asked.method for asked in self.origin.requests} <= {"GET"}
        return [asked.headers["range"] for asked in self.origin.of(HIDDEN)]


@asynccontextmanager
async def pipeline(folder: Path, files: Mapping[str, bytes], *, remembering: bool = True) -> AsyncIterator[Pipeline]:
    """An origin of encrypted files, and what the server puts over it; `remembering` what it has seen of folders."""
    async with quiet(), Origin(await hidden(files, Setting())) as origin:
        cache = Cache(Reservoir(str(folder / "blocks"), 256 * MIB), 32 * MIB)
        web: Tree = WebTree(origin.url)
        if remembering:
            web = listed(web, folder / "listings", name="origin")
        tree = over(cached(web, cache), Setting())
        try:
            yield Pipeline(origin, tree, cache)
        finally:
            await tree.aclose()
            await cache.aclose()


async def read(tree: Tree, start: int, length: int = 100_000) -> bool:
    """Opens the film for a part of it, and reads that."""
    blob = await tree.open("영화/별.mkv", Ask(start, start + length, Why.SEEK))
    return await collected(blob.stream(start, start + length)) == FILM[start : start + length]


@pytest.mark.parametrize("remembering", [True, False])
async def test_through_the_pipeline_a_folder_is_its_files(tmp_path: Path, remembering: bool) -> None:
    async with pipeline(tmp_path, FILES, remembering=remembering) as pipe:
        await check_tree(pipe.tree, FILES)


async def test_a_cold_seek_is_two_requests_a_later_one_is_one_and_the_same_again_is_none(tmp_path: Path) -> None:
    async with pipeline(tmp_path, {"영화/별.mkv": FILM}) as pipe:
        assert await read(pipe.tree, 6 * MIB + 5)
        assert len(pipe.gets()) == 2
        assert await read(pipe.tree, 10 * MIB + 17)
        assert len(pipe.gets()) == 3
        for start in (6 * MIB + 5, 10 * MIB + 17, 6 * MIB + 50_000):
            assert await read(pipe.tree, start, 50_000)
        assert await read(pipe.tree, 0)  # the request for the head has brought the blocks behind it
        assert len(pipe.gets()) == 3
        assert len(pipe.origin.requests) == 3


async def test_without_listings_a_cold_seek_is_two_requests_and_the_same_blob_is_read_again_without(
    tmp_path: Path,
) -> None:
    async with pipeline(tmp_path, {"영화/별.mkv": FILM}, remembering=False) as pipe:
        start, stop = 6 * MIB + 5, 6 * MIB + 100_005
        blob = await pipe.tree.open("영화/별.mkv", Ask(start, stop))
        for _ in range(2):
            assert await collected(blob.stream(start, stop)) == FILM[start:stop]
        assert len(pipe.gets()) == 2
        assert await read(pipe.tree, 10 * MIB)
        assert len(pipe.gets()) == 3


async def test_a_cold_read_from_the_beginning_is_one_request(tmp_path: Path) -> None:
    async with pipeline(tmp_path, {"영화/별.mkv": FILM}) as pipe:
        assert await read(pipe.tree, 0)
        assert len(pipe.gets()) == 1
        assert await read(pipe.tree, 8 * MIB)
        assert len(pipe.gets()) == 2


@pytest.mark.parametrize("later", ["bytes=0-", "bytes=-"])
async def test_a_cold_read_of_the_end_is_two_requests_whichever_is_answered_first(tmp_path: Path, later: str) -> None:
    def slowly(answer: Answer, asked: Asked) -> None:
        answer.wait = 0.1 * asked.headers["range"].startswith(later)

    async with pipeline(tmp_path, {"영화/별.mkv": FILM}, remembering=False) as pipe:
        pipe.origin.always[HIDDEN] = slowly
        blob = await pipe.tree.open("영화/별.mkv", Ask(None, -100_000))
        assert await blob.read(len(FILM) - 100_000) == FILM[-100_000:]
        assert len(pipe.gets()) == 2


@pytest.mark.parametrize("remembering", [True, False])
async def test_the_two_requests_of_a_cold_seek_are_sent_at_once(tmp_path: Path, remembering: bool) -> None:
    async with pipeline(tmp_path, {"영화/별.mkv": FILM}, remembering=remembering) as pipe:
        pipe.origin.always[HIDDEN] = hang()
        reading = asyncio.create_task(read(pipe.tree, 6 * MIB))
        try:
            await settled(lambda: len(pipe.gets()) == 2)  # neither has been answered
        finally:
            reading.cancel()
            await asyncio.wait([reading])


async def test_a_file_known_from_before_a_restart_is_read_without_a_request(tmp_path: Path) -> None:
    async with pipeline(tmp_path, {"영화/별.mkv": FILM}) as pipe:
        files = {HIDDEN: pipe.origin.files[HIDDEN]}
        assert await read(pipe.tree, 6 * MIB)
    async with pipeline(tmp_path, {}) as pipe:
        pipe.origin.files.update(files)
        assert await read(pipe.tree, 6 * MIB)
        assert all(asked.headers.get("range") in (None, "bytes=0-0") for asked in pipe.origin.of(HIDDEN))


async def test_a_failing_origin_fails_in_its_own_way(tmp_path: Path) -> None:
    async with pipeline(tmp_path, {"영화/별.mkv": FILM}, remembering=False) as pipe:
        for fault, kind in ((status(503), Unavailable), (status(404), NotFound), (status(403), Denied)):
            for start in (0, 6 * MIB):
                pipe.origin.always[HIDDEN] = fault
                with pytest.raises(kind):
                    await read(pipe.tree, start)
        pipe.origin.always.clear()
        assert await read(pipe.tree, 6 * MIB)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Where nginx may read, whoever it runs as."""
    with TemporaryDirectory() as made:
        Path(made).chmod(0o777)
        yield Path(made)


async def test_a_folder_behind_nginx_is_its_files_with_their_sizes(scratch: Path) -> None:
    files = {"영화/별.mkv": FILM, **FILES}
    put(await hidden(files, Setting()), scratch / "sealed")
    for inside in [scratch / "sealed", *(scratch / "sealed").rglob("*")]:
        inside.chmod(0o755)
    log = scratch / "access.log"
    with servers.nginx(scratch / "sealed", scratch, f"charset utf-8; access_log {log};") as url:
        cache = Cache(Reservoir(str(scratch / "blocks"), 256 * MIB), 32 * MIB)
        tree = over(cached(listed(WebTree(url), scratch / "listings", name="nginx"), cache), Setting())
        try:
            assert await read(tree, 6 * MIB)
            await settled(lambda: log.read_text().count(HIDDEN) == 2)
            assert await read(tree, 10 * MIB)
            assert await read(tree, 6 * MIB)
            await settled(lambda: log.read_text().count(HIDDEN) == 3)
            assert {path: entry.size async for path, entry in walk(tree) if not entry.folder} == {
                path: len(data) for path, data in files.items()
            }
            await check_tree(tree, files)
        finally:
            await tree.aclose()
            await cache.aclose()
