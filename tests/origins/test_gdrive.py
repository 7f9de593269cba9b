"""Google Drive, against a fake that Google's own client and rclone take for Drive: what is read and what is listed."""

import asyncio
import hashlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from playhead import Ask, Blob, Damaged, Denied, NotFound, Tree, Unavailable, walk
from playhead.limits import Limits
from playhead.origins import gdrive
from playhead.origins.drive import index as kept
from playhead.origins.drive.folders import SHARED
from playhead.origins.fetch import Access, Client
from playhead.origins.gdrive import DriveTree
from tests.fakes.drive_files import DOCX
from tests.fakes.gdrive import FakeDrive
from tests.laws import check_blob, check_tree, collected


class Fixed:
    """Tokens as the fake gives them."""

    def __init__(self, fake: FakeDrive) -> None:
        self.fake, self.used, self.renewals = fake, "", 0

    async def header(self) -> str:
        self.used = self.used or f"Bearer {self.fake.signin.token()}"
        return self.used

    async def renewed(self, used: str) -> str:
        if used == self.used:
            self.renewals += 1
            self.used = f"Bearer {self.fake.signin.token()}"
        return self.used


def ours() -> list[str]:
    """The tasks of Playhead that are under way."""
    codes = [getattr(task.get_coro(), "cr_code", None) for task in asyncio.all_tasks()]
    return [code.co_name for code in codes if code and "/playhead/" in code.co_filename]


def tree_of(fake: FakeDrive, folder: Path | None = None, limits: Limits | None = None, **options: object) -> DriveTree:
    """A tree of this Drive, as after a restart."""
    client = Client(fake.url, Access(), limits)
    return DriveTree("music", client, Fixed(fake), folder, **options)  # type: ignore[arg-type]


@asynccontextmanager
async def opened(fake: FakeDrive, folder: Path | None = None, **options: object) -> AsyncIterator[DriveTree]:
    tree = tree_of(fake, folder, **options)  # type: ignore[arg-type]
    try:
        yield tree
    finally:
        await tree.aclose()
        assert not tree.parked and not ours(), "something was left behind"


@asynccontextmanager
async def drive(folder: Path | None = None, **options: object) -> AsyncIterator[tuple[FakeDrive, DriveTree]]:
    async with FakeDrive() as fake:
        tree = tree_of(fake, folder, **options)  # type: ignore[arg-type]
        try:
            yield fake, tree
        finally:
            await tree.aclose()


@contextmanager
def asked(fake: FakeDrive, **expected: int) -> Iterator[None]:
    """Within it, exactly these requests are made: kind=count."""
    before = fake.counts.copy()
    yield
    assert dict(fake.counts - before) == expected


async def until(true: Callable[[], bool]) -> None:
    """Wait for what a server does in the same loop."""
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def listing(tree: Tree, folder: str = "") -> dict[str, int | None]:
    """The names in a folder with their sizes; folders with None."""
    return {entry.name: entry.size async for entry in tree.entries(folder)}


async def names(tree: Tree, folder: str = "") -> set[str]:
    return set(await listing(tree, folder))


def later(tree: DriveTree) -> None:
    """As if minutes had passed."""
    tree.folders.polled = None


async def read(tree: Tree, path: str) -> bytes:
    return await (await tree.open(path)).read()


FILES = {
    "top.txt": b"on top",
    "empty": b"",
    "Music/one.flac": bytes(range(256)) * 5000,
    "Music/노래 하나.mp3": b"la" * 999,
    "Music/deep/er/still/it's \\ 100% #1?.ogg": b"x" * 70_000,
}


def fill(fake: FakeDrive) -> None:
    for path, data in FILES.items():
        folder, _, name = path.rpartition("/")
        fake.file(folder, name, data)


# ── the law ──


async def test_a_drive_is_its_files(tmp_path: Path) -> None:
    async with FakeDrive() as fake:
        fill(fake)
        async with opened(fake, tmp_path) as tree:
            await check_tree(tree, FILES)
        async with opened(fake, tmp_path) as tree:
            await check_tree(tree, FILES)
            with asked(fake):
                assert await names(tree, "Music") == {"one.flac", "노래 하나.mp3", "deep"}


async def test_a_large_file_is_its_bytes(tmp_path: Path) -> None:
    async with drive(tmp_path) as (fake, tree):
        data = bytes(range(256)) * 24_001
        fake.file("root", "large.wav", data)
        await check_tree(tree, {"large.wav": data})


async def test_a_drive_that_keeps_nothing_is_its_files() -> None:
    async with drive() as (fake, tree):
        fill(fake)
        await check_tree(tree, FILES)


async def test_a_drive_without_hashes_is_its_files(tmp_path: Path) -> None:
    async with drive(tmp_path) as (fake, tree):
        fake.crc_headers = False
        fill(fake)
        for id in list(fake.records):
            if fake.records[id].data is not None:
                fake.edit(id, md5Checksum=None, sha1Checksum=None, sha256Checksum=None)
        await check_tree(tree, FILES)


async def test_an_empty_drive_has_a_root(tmp_path: Path) -> None:
    async with FakeDrive() as fake, opened(fake, tmp_path) as tree:
        await check_tree(tree, {})


# ── how often it is asked ──


async def test_a_known_file_opens_with_one_request_and_seeks_with_one(tmp_path: Path) -> None:
    async with FakeDrive() as fake:
        fill(fake)
        async with opened(fake, tmp_path) as tree:
            assert len([entry async for entry in walk(tree)]) == 9
            with asked(fake, media=1):
                blob = await tree.open("Music/deep/er/still/it's \\ 100% #1?.ogg", Ask(60_000))
                assert await blob.read(60_000) == b"x" * 10_000
            with asked(fake, media=1):
                assert await blob.read(3, 9) == b"x" * 6
            with asked(fake, media=1):
                assert (await (await tree.open("Music/one.flac", Ask(None, -5))).read(1279995)) == bytes(
                    range(251, 256)
                )
            with asked(fake):
                assert await read(tree, "empty") == b""


async def test_after_a_restart_the_feed_is_read_beside_the_bytes(tmp_path: Path) -> None:
    async with FakeDrive() as fake:
        fill(fake)
        async with opened(fake, tmp_path) as tree:
            await read(tree, "top.txt")
            [entry async for entry in walk(tree)]
        async with opened(fake, tmp_path) as tree:
            with asked(fake, media=1, changes=1):
                assert await read(tree, "Music/노래 하나.mp3") == FILES["Music/노래 하나.mp3"]
            with asked(fake, media=1):
                assert await read(tree, "top.txt") == b"on top"


async def test_a_large_folder_is_three_pages_and_then_one_request(tmp_path: Path) -> None:
    async with drive(tmp_path) as (fake, tree):
        folder = fake.folder("large")
        for number in range(2500):
            fake.file(folder, f"{number:04d}", b"x")
        await names(tree)
        later(tree)
        with asked(fake, list=3, changes=1):
            assert len(await names(tree, "large")) == 2500
        later(tree)
        with asked(fake, changes=1):
            assert len(await names(tree, "large")) == 2500
        with asked(fake):
            assert len(await names(tree, "large")) == 2500


async def test_the_first_listing_of_all_is_a_token_and_pages(tmp_path: Path) -> None:
    async with drive(tmp_path) as (fake, tree):
        fake.page_limit = 10
        for number in range(15):
            fake.file("root", f"{number}", b"x")
        with asked(fake, start=1, list=2):
            assert len(await names(tree)) == 15


async def test_a_file_in_a_folder_that_was_not_listed_is_asked_for_by_name_once(tmp_path: Path) -> None:
    async with FakeDrive() as fake:
        fill(fake)
        async with opened(fake, tmp_path) as tree:
            with asked(fake, list=2, media=1):
                assert await read(tree, "Music/one.flac") == FILES["Music/one.flac"]
            await names(tree)  # from now on the feed is followed
            with asked(fake, list=1, media=1):
                assert await read(tree, "Music/one.flac") == FILES["Music/one.flac"]
            with asked(fake, media=1):
                assert await read(tree, "Music/one.flac") == FILES["Music/one.flac"]
        async with opened(fake, tmp_path) as tree:
            with asked(fake, media=1, changes=1):
                assert await read(tree, "Music/one.flac") == FILES["Music/one.flac"]
            fake.replace(fake.named("Music/one.flac"), b"new")
            later(tree)
            assert (await tree.find("Music/one.flac")).size == 3
            assert await read(tree, "Music/one.flac") == b"new"


async def test_a_name_in_other_capitals_is_another_name(tmp_path: Path) -> None:
    async with drive(tmp_path) as (fake, tree):
        fill(fake)
        for path in ("music/one.flac", "Music/ONE.flac", "TOP.txt"):
            with pytest.raises(NotFound):
                await tree.open(path)


async def test_many_who_list_at_once_ask_once(tmp_path: Path) -> None:
    async with drive(tmp_path) as (fake, tree):
        fill(fake)
        fake.latency = 0.02
        with asked(fake, start=1, list=1):
            assert all(await asyncio.gather(*(names(tree) for _ in range(20))))
        later(tree)
        with asked(fake, changes=1):
            await asyncio.gather(*(names(tree) for _ in range(20)))


async def test_whoever_leaves_takes_nobody_with_him(tmp_path: Path) -> None:
    async with FakeDrive() as fake, opened(fake, tmp_path) as tree:
        fill(fake)
        fake.latency = 0.05
        first, second = asyncio.create_task(names(tree)), asyncio.create_task(names(tree))
        await asyncio.sleep(0.02)
        first.cancel()
        assert len(await second) == 3
        last = asyncio.create_task(names(tree, "Music"))
        await asyncio.sleep(0.02)
        last.cancel()
        await asyncio.wait([last])
        await asyncio.sleep(0)
        assert not tree.folders.once.tasks and not tree.folders.during


async def test_twenty_streams_at_once_wait_for_nothing_but_their_own(tmp_path: Path) -> None:
    async with drive(tmp_path) as (fake, tree):
        data = bytes(range(256)) * 8192
        for number in range(20):
            fake.file("Music", f"{number}.flac", data)
        await names(tree, "Music")
        fake.latency = 0.1
        got = await asyncio.gather(*(read(tree, f"Music/{number}.flac") for number in range(20)))
        assert got == [data] * 20
        assert fake.media_most == 20 and fake.counts["media"] == 20


async def test_one_connection_is_enough(tmp_path: Path) -> None:
    async with FakeDrive() as fake:
        fill(fake)
        async with opened(fake, tmp_path) as tree:
            [entry async for entry in walk(tree)]
        async with opened(fake, tmp_path, limits=Limits(connections=1)) as tree:
            fake.replace(fake.named("top.txt"), b"replaced")
            for _ in range(2):
                with asked(fake, media=1, changes=1):
                    assert await asyncio.wait_for(read(tree, "top.txt"), 4) == b"replaced"
                later(tree)


@pytest.mark.parametrize("ask", [Ask(10**9), Ask(0, 10**9), Ask(6), Ask(None, -(10**9)), Ask(3, 3), Ask(None, None)])
async def test_whatever_is_asked_a_file_opens(ask: Ask, tmp_path: Path) -> None:
    async with drive(tmp_path) as (fake, tree):
        fill(fake)
        assert await (await tree.open("top.txt", ask)).read() == b"on top"


# ── what changed while we were down, or up ──


def change(fake: FakeDrive) -> set[str]:
    """One change of each kind in the folder "Music", which then has these names."""
    fake.file("Music", "added.mp3", b"added")
    fake.replace(fake.named("Music/same.mp3"), b"SAME")
    fake.replace(fake.named("Music/other.mp3"), b"of another size")
    fake.edit(fake.named("Music/old name.mp3"), name="new name.mp3")
    fake.edit(fake.named("Music/moved.mp3"), parents=[fake.folder("Elsewhere")])
    fake.edit(fake.named("Elsewhere/coming.mp3"), parents=[fake.folder("Music")])
    fake.trash(fake.named("Music/trashed.mp3"))
    fake.delete(fake.named("Music/deleted.mp3"))
    fake.trash(fake.named("Music/Album"))
    fake.edit(fake.named("Music/Box"), name="Case")
    fake.edit(fake.named("Music/Gone"), parents=[fake.folder("Elsewhere")])
    return {"added.mp3", "same.mp3", "other.mp3", "new name.mp3", "coming.mp3", "Case"}


def before_changes(fake: FakeDrive) -> None:
    for name in ("same", "other", "old name", "moved", "trashed", "deleted"):
        fake.file("Music", f"{name}.mp3", b"same")
    for name in ("Music/Album", "Music/Box", "Music/Gone"):
        fake.file(name, "in it.mp3", b"inside")
    fake.file("Elsewhere", "coming.mp3", b"coming")


async def check_changes(fake: FakeDrive, tree: DriveTree, expected: set[str]) -> None:
    assert await names(tree, "Music") == expected
    assert await names(tree, "Elsewhere") == {"moved.mp3", "Gone"}
    data = {"added": b"added", "same": b"SAME", "other": b"of another size", "new name": b"same", "coming": b"coming"}
    for name, content in data.items():
        assert await read(tree, f"Music/{name}.mp3") == content
        assert (await tree.find(f"Music/{name}.mp3")).size == len(content)
    assert await read(tree, "Music/Case/in it.mp3") == await read(tree, "Elsewhere/Gone/in it.mp3") == b"inside"
    for gone in ("old name.mp3", "moved.mp3", "trashed.mp3", "deleted.mp3", "Album/in it.mp3", "Box/in it.mp3"):
        with pytest.raises(NotFound):
            await tree.open(f"Music/{gone}")


async def test_what_changed_while_we_were_down_is_seen(tmp_path: Path) -> None:
    async with FakeDrive() as fake:
        before_changes(fake)
        async with opened(fake, tmp_path) as tree:
            [entry async for entry in walk(tree)]
        expected = change(fake)
        async with opened(fake, tmp_path) as tree:
            with asked(fake, changes=1):
                assert await names(tree, "Music") == expected
            await check_changes(fake, tree, expected)


async def test_what_changes_while_we_look_is_seen(tmp_path: Path) -> None:
    async with FakeDrive() as fake, opened(fake, tmp_path) as tree:
        before_changes(fake)
        [entry async for entry in walk(tree)]
        expected = change(fake)
        later(tree)
        await check_changes(fake, tree, expected)
        fake.trash(fake.named("Music/Album"), False)
        later(tree)
        assert await read(tree, "Music/Album/in it.mp3") == b"inside"


async def test_a_file_that_was_replaced_meanwhile_opens_as_it_is_now(tmp_path: Path) -> None:
    """Of the same size: the bytes alone do not show it."""
    async with FakeDrive() as fake:
        fake.file("Music", "one.mp3", b"old content")
        async with opened(fake, tmp_path) as tree:
            await names(tree, "Music")
        fake.replace(fake.named("Music/one.mp3"), b"new content")
        async with opened(fake, tmp_path) as tree:
            blob = await tree.open("Music/one.mp3")
            assert await blob.read() == b"new content"
            assert blob.tag == (await tree.find("Music/one.mp3")).tag


async def test_a_version_that_was_never_read_is_not_taken_for_another(tmp_path: Path) -> None:
    """Replaced by as many bytes seconds after the feed was read: its tag must be that of its bytes."""
    async with FakeDrive() as fake, opened(fake, tmp_path) as tree:
        id = fake.file("root", "one.mp3", b"old content")
        old = [entry.tag async for entry in tree.entries()]
        fake.replace(id, b"new content")
        assert tree.folders.polled
        tree.folders.polled -= 10
        blob = await tree.open("one.mp3")
        assert (await blob.read(), [blob.tag] == old) == (b"new content", False)


async def test_a_version_that_was_read_is_told_by_googles_hash(tmp_path: Path) -> None:
    """Even before the feed is read again."""
    async with FakeDrive() as fake, opened(fake, tmp_path) as tree:
        id = fake.file("root", "one.mp3", b"old content")
        await names(tree)
        tag = (await tree.open("one.mp3")).tag
        fake.replace(id, b"new content")
        with asked(fake, media=2, list=1):
            blob = await tree.open("one.mp3")
        assert (await blob.read(), blob.tag == tag) == (b"new content", False)


async def test_a_folder_that_changes_while_it_is_listed_is_listed_as_it_is_then(tmp_path: Path) -> None:
    """What the feed tells between the first page and the last is not lost."""
    async with FakeDrive() as fake, opened(fake, tmp_path) as tree:
        folder, fake.page_limit = fake.folder("Music"), 2
        ids = [fake.file(folder, f"{number}.mp3", b"x") for number in range(6)]
        await names(tree)
        fault = fake.fail("list pageToken", "drip", rate=4000.0)
        slow = asyncio.create_task(names(tree, "Music"))
        await until(lambda: fault.used > 0)
        fake.edit(ids[5], name="renamed.mp3")  # was on the first page
        fake.delete(ids[4])
        fake.file(folder, "new.mp3", b"new")
        later(tree)
        await names(tree)  # reads the feed
        await slow
        later(tree)
        assert await names(tree, "Music") == {"0.mp3", "1.mp3", "2.mp3", "3.mp3", "renamed.mp3", "new.mp3"}


async def test_an_empty_root_fills(tmp_path: Path) -> None:
    async with FakeDrive() as fake:
        async with opened(fake, tmp_path) as tree:
            assert await names(tree) == set()
            fake.file("root", "first.mp3", b"x")
            later(tree)
            assert await names(tree) == {"first.mp3"}
        fake.file("root", "second.mp3", b"x")
        async with opened(fake, tmp_path) as tree:
            with asked(fake, changes=1):
                assert await names(tree) == {"first.mp3", "second.mp3"}


async def test_many_changes_are_read_page_by_page(tmp_path: Path) -> None:
    async with drive(tmp_path) as (fake, tree):
        fake.folder("Music")
        await names(tree, "Music")
        for number in range(5):
            fake.file("Music", f"{number}.mp3", b"x")
        fake.page_limit = 2
        later(tree)
        with asked(fake, changes=3):
            assert len(await names(tree, "Music")) == 5


async def test_more_changes_than_there_are_files_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("playhead.origins.drive.folders.FEED", 2)
    async with drive(tmp_path) as (fake, tree):
        fake.folder("Music")
        await names(tree, "Music")
        for number in range(9):
            fake.file("Music", f"{number}.mp3", b"x")
        fake.page_limit = 2
        later(tree)
        assert len(await names(tree, "Music")) == 9
        later(tree)
        with asked(fake, changes=1):
            assert len(await names(tree, "Music")) == 9


@pytest.mark.parametrize("how", [400, 404, 410])
async def test_where_the_feed_cannot_be_gone_on_with_all_is_listed_anew(how: int, tmp_path: Path) -> None:
    async with FakeDrive() as fake:
        before_changes(fake)
        async with opened(fake, tmp_path) as tree:
            [entry async for entry in walk(tree)]
        expected = change(fake)
        fake.fail("changes", how)
        async with opened(fake, tmp_path) as tree:
            await check_changes(fake, tree, expected)
            assert fake.counts["start"] == 2
            fake.file("Music", "later.mp3", b"x")
            later(tree)
            with asked(fake, changes=1):
                assert await names(tree, "Music") == {*expected, "later.mp3"}


async def test_a_feed_that_fails_shows_nothing_wrong_and_is_read_later(tmp_path: Path) -> None:
    async with FakeDrive() as fake:
        before_changes(fake)
        async with opened(fake, tmp_path) as tree:
            [entry async for entry in walk(tree)]
        expected = change(fake)
        async with opened(fake, tmp_path) as tree:
            fake.fail("changes", 503)
            with pytest.raises(Unavailable):
                await names(tree, "Music")
            await check_changes(fake, tree, expected)


async def test_a_feed_that_hangs_keeps_no_file_from_being_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gdrive, "WAIT", 0.1)
    async with FakeDrive() as fake:
        fill(fake)
        async with opened(fake, tmp_path) as tree:
            await names(tree)
        async with opened(fake, tmp_path) as tree:
            fake.fail("changes", "hang", times=None)
            assert await asyncio.wait_for(read(tree, "top.txt"), 3) == b"on top"


# ── what is kept ──


async def test_a_damaged_index_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    async with FakeDrive() as fake:
        fill(fake)
        for spoiled in (b"no database", b"", None):
            async with opened(fake, tmp_path) as tree:
                assert len(await names(tree)) == 3
            async with opened(fake, tmp_path) as tree:
                with asked(fake, changes=1):
                    assert len(await names(tree)) == 3
            if spoiled is None:  # the header is good, and what follows is not
                spoiled = path.read_bytes()[:4096] + bytes(len(path.read_bytes()) - 4096)
            path.write_bytes(spoiled)
        async with opened(fake, tmp_path) as tree:
            await check_tree(tree, FILES)
        async with opened(fake, tmp_path) as tree:
            with asked(fake, changes=1):
                assert len(await names(tree)) == 3


async def test_entries_of_the_index_that_cannot_be_read_are_listed_anew(tmp_path: Path) -> None:
    async with FakeDrive() as fake:
        fill(fake)
        for text in ("{}", "[1, 2]", "[" * 100_000, "", "\x00"):
            async with opened(fake, tmp_path) as tree:
                await names(tree)
            with sqlite3.connect(tmp_path / "index.sqlite") as db:
                db.execute("update items set item = ?", (text,))
            db.close()
            async with opened(fake, tmp_path) as tree:
                assert await names(tree) == {"top.txt", "empty", "Music"}


async def test_an_index_of_another_version_is_not_read(tmp_path: Path) -> None:
    async with FakeDrive() as fake:
        fill(fake)
        async with opened(fake, tmp_path) as tree:
            await names(tree)
        for version, left in ((1, False), (kept.VERSION + 1, True)):
            with sqlite3.connect(tmp_path / "index.sqlite") as db:
                db.execute(f"pragma user_version = {version}")
                db.execute("delete from items")
            db.close()
            async with opened(fake, tmp_path) as tree:
                assert len(await names(tree)) == 3
            with sqlite3.connect(tmp_path / "index.sqlite") as db:
                assert (db.execute("pragma user_version").fetchone()[0] == version) == left
            db.close()


async def test_an_index_of_another_login_is_not_read(tmp_path: Path) -> None:
    async with FakeDrive() as ann, FakeDrive() as bob:
        ann.file("root", "ann's", b"x")
        bob.file("root", "bob's", b"x")
        async with opened(ann, tmp_path, known_by="ann") as tree:
            assert await names(tree) == {"ann's"}
        async with opened(bob, tmp_path, known_by="bob") as tree:
            assert await names(tree) == {"bob's"}
        async with opened(bob, tmp_path, known_by="bob") as tree:
            with asked(bob, changes=1):
                assert await names(tree) == {"bob's"}


async def test_an_index_that_another_process_has_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "PATIENCE", 0.05)
    async with FakeDrive() as fake:
        fill(fake)
        async with opened(fake, tmp_path) as first:
            await names(first)
            async with opened(fake, tmp_path) as second:
                assert len(await names(second)) == 3
                fake.file("root", "new", b"x")
                for tree in (second, first):
                    later(tree)
                    assert len(await names(tree)) == 4
        async with opened(fake, tmp_path) as tree:
            with asked(fake, changes=1):
                assert len(await names(tree)) == 4


async def test_an_index_that_fails_in_the_middle_is_kept_in_memory(tmp_path: Path) -> None:
    async with FakeDrive() as fake, opened(fake, tmp_path) as tree:
        fill(fake)
        await names(tree, "Music")
        assert tree.index.db
        tree.index.db.execute("drop table items")
        fake.file("Music", "new.mp3", b"x")
        for _ in range(3):
            later(tree)
            assert "new.mp3" in await names(tree, "Music")
        fake.delete(fake.named("Music/new.mp3"))
        later(tree)
        assert "new.mp3" not in await names(tree, "Music")


@pytest.mark.parametrize("table", ["facts", "items", "seen"])
async def test_what_is_in_memory_goes_with_an_index_that_fails(table: str, tmp_path: Path) -> None:
    """For nothing would tell what became of it."""
    async with FakeDrive() as fake, opened(fake, tmp_path) as tree:
        fill(fake)
        assert await names(tree) and await names(tree, "Music")
        assert tree.index.db
        tree.index.db.execute(f"drop table {table}")
        fake.replace(fake.named("Music/노래 하나.mp3"), b"al" * 999)
        later(tree)
        blob = await tree.open("Music/노래 하나.mp3")
        assert await blob.read() == b"al" * 999
        assert blob.tag == f"h:sha256:{hashlib.sha256(b'al' * 999).hexdigest()}"


async def test_what_is_in_memory_goes_where_the_feed_is_begun_anew(tmp_path: Path) -> None:
    async with FakeDrive() as fake, opened(fake, tmp_path) as tree:
        fill(fake)
        await names(tree, "Music")
        assert tree.index.db
        tree.index.db.execute("drop table items")
        tree.folders.polled = 1e12
        await names(tree, "Music/deep")
        fake.delete(fake.named("Music/one.flac"))
        later(tree)
        assert "one.flac" not in await names(tree, "Music")


async def test_a_folder_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    async with drive(tmp_path / "file" / "folder") as (fake, tree):
        fill(fake)
        await check_tree(tree, FILES)


async def test_a_closed_tree_says_so(tmp_path: Path) -> None:
    async with drive(tmp_path) as (fake, tree):
        fill(fake)
        blob = await tree.open("Music/one.flac")
        waiting = asyncio.create_task(names(tree))
        await asyncio.sleep(0)
        await tree.aclose()
        await tree.aclose()
        results = await asyncio.gather(waiting, names(tree), read(tree, "top.txt"), blob.read(), return_exceptions=True)
        assert all(isinstance(each, Unavailable) for each in results)


# ── twins and ids ──


async def test_twins_are_files_of_their_own_also_after_a_restart(tmp_path: Path) -> None:
    async with FakeDrive() as fake:
        ids = sorted(fake.file("Music", "x.mp3", b"") for _ in range(100))
        for number, id in enumerate(ids):
            fake.replace(id, f"content {number}".encode())
        album = [fake.new("Album", "application/vnd.google-apps.folder", fake.folder("Music"), {}).id for _ in range(2)]
        for id in album:
            fake.file(id, "y.mp3", id.encode())
        expected = {f"Music/x ({number + 1}).mp3": f"content {number}".encode() for number in range(1, 100)}
        expected |= {"Music/x.mp3": b"content 0", "Music/Album/y.mp3": min(album).encode()}
        expected["Music/Album (2)/y.mp3"] = max(album).encode()
        for _ in range(2):
            async with opened(fake, tmp_path) as tree:
                assert {path async for path, entry in walk(tree) if not entry.folder} == set(expected)
                for path in ("Music/x.mp3", "Music/x (100).mp3", "Music/Album/y.mp3", "Music/Album (2)/y.mp3"):
                    assert await read(tree, path) == expected[path]


async def test_a_name_leads_to_the_same_file_whether_its_folder_was_listed_or_not(tmp_path: Path) -> None:
    async with FakeDrive() as fake:
        folder = fake.folder("Music")
        for name in ("a/b", "a\uff0fb", "x.docx", "", "_", "..", "\uff0e\uff0e", "what?", "plain"):
            fake.file(folder, name, name.encode("utf-8", "surrogatepass"))
        fake.doc(folder, "x", {DOCX: b"exported"})
        async with opened(fake, tmp_path / "1") as tree:
            listed = {name: await read(tree, f"Music/{name}") for name in await names(tree, "Music")}
        assert len(set(listed.values())) == len(listed) == 10
        for name, data in listed.items():
            async with opened(fake) as tree:
                assert await read(tree, f"Music/{name}") == data


async def test_a_file_whose_name_looks_like_an_id_is_itself(tmp_path: Path) -> None:
    async with drive(tmp_path) as (fake, tree):
        other = fake.file(None, "elsewhere", b"by id", shared=True)
        fake.file("root", f"{{{other}}}", b"by name")
        await check_tree(tree, {f"\uff5b{other}}}": b"by name"})
        assert await read(tree, f"{{{other}}}") == b"by id"


async def test_an_id_leads_to_its_file_wherever_it_is(tmp_path: Path) -> None:
    async with drive(tmp_path) as (fake, tree):
        fill(fake)
        file, folder = fake.named("Music/one.flac"), fake.named("Music/deep")
        entry = await tree.find(f"{{{file}}}")
        assert (entry.name, entry.size) == ("one.flac", 1_280_000)
        with asked(fake, get=1, media=1):
            await read(tree, f"{{{file}}}")
        await check_blob(await tree.open(f"{{{file}}}"), FILES["Music/one.flac"])
        assert await names(tree, f"{{{folder}}}/er/still") == {"it's \\ 100% #1?.ogg"}
        with asked(fake, media=1):
            assert await read(tree, f"{{{folder}}}/er/still/it's \\ 100% #1?.ogg") == b"x" * 70_000
        assert (await tree.find(f"{{{folder}}}")).folder
        for path in (f"{{{file}}}/x", f"{{{folder}}}/nothing", "{0123456789}", "{0123456789}/x"):
            with pytest.raises(NotFound):
                await tree.open(path)
        fake.trash(file)
        with pytest.raises(NotFound):
            await tree.open(f"{{{file}}}")


async def test_a_resource_key_opens_what_is_shared_by_an_old_link_and_is_not_told(tmp_path: Path) -> None:
    async with drive(tmp_path) as (fake, tree):
        file = fake.file(None, "old.mp3", b"shared", resourceKey="0-secret")
        folder = fake.folder("Shared")
        fake.edit(folder, resourceKey="0-hidden", parents=None)
        fake.file(folder, "in it.mp3", b"inside")
        with pytest.raises(NotFound):
            await tree.open(f"{{{file}}}")
        assert await read(tree, f"{{{file}!0-secret}}") == b"shared"
        assert await names(tree, f"{{{folder}!0-hidden}}") == {"in it.mp3"}
        assert await read(tree, f"{{{folder}!0-hidden}}/in it.mp3") == b"inside"
        with pytest.raises(NotFound):
            await names(tree, f"{{{folder}}}")
        blob = await tree.open(f"{{{file}!0-secret}}")
        assert "0-secret" not in repr(blob)
        for path in (
            f"{{{file}!0-wrong}}",
            f"{{{folder}!0-hidden}}/x",
            f"{{{folder}!0-hidden}}",
            f"{{{file}!0-secret}}/x",
        ):
            with pytest.raises(NotFound) as caught:
                await tree.open(path)
            assert "0-" not in caught.value.told
        with pytest.raises(NotFound) as caught:
            await names(tree, f"{{{file}!0-secret}}")
        assert "0-" not in caught.value.told


async def test_a_form_has_no_bytes(tmp_path: Path) -> None:
    async with drive(tmp_path) as (fake, tree):
        ids = [
            fake.new(kind, f"application/vnd.google-apps.{kind}", fake.root, {}).id for kind in ("form", "site", "map")
        ]
        assert await names(tree) == set()
        fake.edit(ids[0], name="renamed")
        later(tree)
        with asked(fake, changes=1):
            assert await names(tree) == set()
        with pytest.raises(NotFound, match="no bytes"):
            await tree.open(f"{{{ids[0]}}}")


# ── shortcuts ──


async def test_a_shortcut_is_what_it_leads_to(tmp_path: Path) -> None:
    async with FakeDrive() as fake:
        fill(fake)
        fake.shortcut("Links", "song", fake.named("Music/one.flac"))
        fake.shortcut("Links", "all of it", fake.named("Music"))
        fake.shortcut("Links", "dangling", "1gone567890")
        gone = fake.folder("Gone")
        fake.shortcut("Links", "folder that is gone", gone)
        fake.shortcut("Links", "link to a link", fake.named("Links/song"))
        fake.delete(gone)
        inner = {path.removeprefix("Music/"): data for path, data in FILES.items() if path.startswith("Music/")}
        expected = FILES | {f"Links/all of it/{path}": data for path, data in inner.items()}
        expected["Links/song"] = FILES["Music/one.flac"]
        for _ in range(2):
            async with opened(fake, tmp_path) as tree:
                await check_tree(tree, expected)


async def test_a_shortcut_to_a_folder_above_is_not_walked_for_ever(tmp_path: Path) -> None:
    async with drive(tmp_path) as (fake, tree):
        fill(fake)
        fake.shortcut("Music/deep", "up", fake.named("Music"))
        fake.shortcut("Music/deep", "top", fake.root)
        fake.shortcut("root", "self", fake.root)
        fake.shortcut("Left", "right", fake.folder("Right"))
        fake.shortcut("Right", "left", fake.folder("Left"))
        found = {path async for path, _ in walk(tree)}
        assert {"Left/right", "Right/left"} <= found
        assert not found & {"self", "Music/deep/up", "Music/deep/top", "Left/right/left", "Right/left/right"}
        for path in ("self/top.txt", "Music/deep/up/one.flac", "Left/right/left"):
            with pytest.raises(NotFound):
                await tree.find(path)


async def test_what_a_shortcut_leads_to_may_change(tmp_path: Path) -> None:
    async with FakeDrive() as fake, opened(fake, tmp_path) as tree:
        fill(fake)
        song = fake.named("Music/one.flac")
        fake.shortcut("Links", "song", song)
        assert await listing(tree, "Links") == {"song": 1_280_000}
        await read(tree, "Links/song")
        fake.replace(song, b"new")
        later(tree)
        assert await listing(tree, "Links") == {"song": 3}
        assert await read(tree, "Links/song") == b"new"
        fake.trash(song)
        later(tree)
        assert await listing(tree, "Links") == {}
        fake.trash(song, False)
        later(tree)
        assert await listing(tree, "Links") == {"song": 3}
        fake.delete(song)
        later(tree)
        assert await listing(tree, "Links") == {}


async def test_a_shortcut_that_is_made_later_is_seen(tmp_path: Path) -> None:
    async with FakeDrive() as fake, opened(fake, tmp_path) as tree:
        fill(fake)
        assert await names(tree) == {"top.txt", "empty", "Music"}
        fake.shortcut("root", "song", fake.named("Music/one.flac"))
        fake.shortcut("root", "folder", fake.named("Music/deep"))
        later(tree)
        assert await listing(tree) == {"top.txt": 6, "empty": 0, "Music": None, "song": 1_280_000, "folder": None}
        await check_blob(await tree.open("song"), FILES["Music/one.flac"])


async def test_many_shortcuts_are_followed_a_few_at_a_time(tmp_path: Path) -> None:
    async with drive(tmp_path) as (fake, tree):
        fill(fake)
        for number in range(30):
            fake.shortcut("Links", f"{number}", fake.named("Music/one.flac"))
        fake.latency = 0.01
        with asked(fake, start=1, list=2, get=30):
            assert len(await names(tree, "Links")) == 30


async def test_shortcuts_that_cannot_be_followed_now_make_no_short_listing(tmp_path: Path) -> None:
    async with FakeDrive() as fake, opened(fake, tmp_path) as tree:
        fill(fake)
        for number in range(20):
            fake.shortcut("Links", f"{number}", fake.named("Music/one.flac"))
        fake.fail("get", 503)
        with pytest.raises(Unavailable):
            await names(tree, "Links")
        assert not ours()
        assert len(await names(tree, "Links")) == 20


async def test_a_shortcut_carries_the_resource_key_of_its_target(tmp_path: Path) -> None:
    async with drive(tmp_path) as (fake, tree):
        target = fake.file(None, "old.mp3", b"shared", resourceKey="0-secret")
        fake.shortcut("root", "link.mp3", target)
        await check_tree(tree, {"link.mp3": b"shared"})


# ── other places ──


async def test_a_shared_drive_is_its_files(tmp_path: Path) -> None:
    async with FakeDrive() as fake:
        fill(fake)
        team = fake.drive("Team")
        fake.file(team, "plan.txt", b"the plan")
        fake.file(fake.new("Music", "application/vnd.google-apps.folder", team, {}).id, "song.mp3", b"la")
        expected = {"plan.txt": b"the plan", "Music/song.mp3": b"la"}
        async with opened(fake, tmp_path, drive=team) as tree:
            await check_tree(tree, expected)
        fake.file(team, "new.txt", b"new")
        async with opened(fake, tmp_path, drive=team) as tree:
            with asked(fake, changes=1):
                assert await names(tree) == {"plan.txt", "Music", "new.txt"}
            await check_tree(tree, {**expected, "new.txt": b"new"})
        async with opened(fake) as tree:
            assert await names(tree) == {"top.txt", "empty", "Music"}


async def test_a_shortcut_out_of_a_shared_drive_shows_all_and_stays_true(tmp_path: Path) -> None:
    """The feed of a shared drive does not tell of what lies elsewhere."""
    async with FakeDrive() as fake, opened(fake, tmp_path, drive=(team := fake.drive("Team"))) as tree:
        fill(fake)
        fake.shortcut(team, "mine", fake.named("Music"))
        fake.shortcut(team, "song", fake.named("top.txt"))
        assert await names(tree) == {"mine", "song"}
        assert await names(tree, "mine") == {"one.flac", "노래 하나.mp3", "deep"}
        assert await read(tree, "mine/deep/er/still/it's \\ 100% #1?.ogg") == b"x" * 70_000
        fake.file("Music", "new.mp3", b"new")
        later(tree)
        assert await names(tree, "mine") == {"one.flac", "노래 하나.mp3", "deep", "new.mp3"}
        assert await read(tree, "mine/new.mp3") == b"new"


async def test_a_shortcut_into_a_shared_drive_is_read_and_followed(tmp_path: Path) -> None:
    async with FakeDrive() as fake, opened(fake, tmp_path) as tree:
        team = fake.drive("Team")
        plan = fake.file(team, "plan.txt", b"the plan")
        fake.shortcut("root", "plan", plan)
        fake.shortcut("root", "team", team)
        await check_tree(tree, {"plan": b"the plan", "team/plan.txt": b"the plan"})
        fake.replace(plan, b"another")
        later(tree)
        assert await read(tree, "plan") == await read(tree, "team/plan.txt") == b"another"


async def test_a_folder_may_be_the_root(tmp_path: Path) -> None:
    async with FakeDrive() as fake:
        fill(fake)
        expected = {path.removeprefix("Music/"): data for path, data in FILES.items() if path.startswith("Music/")}
        for _ in range(2):
            async with opened(fake, tmp_path, root=fake.named("Music")) as tree:
                await check_tree(tree, expected)


async def test_what_others_share_is_a_tree(tmp_path: Path) -> None:
    async with FakeDrive() as fake, opened(fake, tmp_path, root=SHARED) as tree:
        fill(fake)
        song = fake.file(None, "song.mp3", b"shared", shared=True)
        album = fake.folder("Album")
        fake.edit(album, parents=None, sharedWithMeTime=fake.now())
        fake.file(album, "in it.mp3", b"inside")
        await check_tree(tree, {"song.mp3": b"shared", "Album/in it.mp3": b"inside"})
        with asked(fake, media=1):
            await read(tree, "song.mp3")
        fake.replace(song, b"anew")
        fake.file(None, "more.mp3", b"more", shared=True)
        later(tree)
        assert await names(tree) == {"song.mp3", "Album", "more.mp3"}
        assert await read(tree, "song.mp3") == b"anew"


# ── documents ──


async def test_documents_are_files_of_what_they_are_exported_as(tmp_path: Path) -> None:
    async with FakeDrive() as fake:
        doc = fake.doc("Docs", "Plan", {DOCX: b"exported" * 1000})
        fake.doc("Docs", "Sums", mimeType="application/vnd.google-apps.spreadsheet")
        fake.doc("Docs", "Talk", mimeType="application/vnd.google-apps.presentation")
        async with opened(fake, tmp_path) as tree:
            assert await listing(tree, "Docs") == {"Plan.docx": None, "Sums.xlsx": None, "Talk.pptx": None}
            assert (await tree.find("Docs/Plan.docx")).size is None
            with asked(fake, export=1):
                blobs = await asyncio.gather(*(tree.open("Docs/Plan.docx") for _ in range(10)))
                for blob in blobs:
                    await check_blob(blob, b"exported" * 1000)
            found = await tree.find("Docs/Plan.docx")
            assert (found.size, found.tag) == (8000, blobs[0].tag) and found.tag
            assert (await listing(tree, "Docs"))["Plan.docx"] == 8000
        async with opened(fake, tmp_path) as tree:
            assert (await tree.find("Docs/Plan.docx")).tag == found.tag
            with asked(fake):
                assert await read(tree, "Docs/Plan.docx") == b"exported" * 1000
            fake.records[doc].exports[DOCX] = b"rewritten"
            fake.edit(doc, name="Plan B")
            later(tree)
            with asked(fake, export=1, changes=1):
                assert (await tree.find("Docs/Plan B.docx")).size is None
                assert await read(tree, "Docs/Plan B.docx") == b"rewritten"
            assert (await tree.find("Docs/Plan B.docx")).tag != found.tag


async def test_two_exports_of_one_version_never_share_a_tag(tmp_path: Path) -> None:
    """Google may zip the same document twice in different ways."""
    async with FakeDrive() as fake:
        doc = fake.doc("root", "Plan", {DOCX: b"zipped on Monday"})
        async with opened(fake, tmp_path / "1") as tree:
            first = await tree.open("Plan.docx")
        fake.records[doc].exports[DOCX] = b"zipped on Friday"
        async with opened(fake, tmp_path / "2") as tree:
            second = await tree.open("Plan.docx")
            assert await second.read() == b"zipped on Friday"
        assert first.tag and second.tag and first.tag != second.tag


async def test_an_export_that_was_removed_or_spoiled_is_made_again(tmp_path: Path) -> None:
    async with FakeDrive() as fake:
        fake.doc("root", "Plan", {DOCX: b"exported"})
        for spoiled in (None, b"", b"ruined!!", b"exported and more"):
            async with opened(fake, tmp_path) as tree:
                assert await read(tree, "Plan.docx") == b"exported"
            (file,) = (tmp_path / "exports").iterdir()
            if spoiled is None:
                file.unlink()
            else:
                file.write_bytes(spoiled)
            async with opened(fake, tmp_path) as tree:
                with asked(fake, export=1, changes=1):
                    assert await read(tree, "Plan.docx") == b"exported"


@pytest.mark.parametrize("how", ["truncated", "reset"])
async def test_an_export_that_broke_off_is_never_kept(how: str, tmp_path: Path) -> None:
    async with FakeDrive() as fake, opened(fake, tmp_path) as tree:
        fake.doc("root", "Plan", {DOCX: b"exported" * 100_000})
        fake.fail("export", how, after_bytes=300_000)
        with pytest.raises(Unavailable):
            await tree.open("Plan.docx")
        assert not list((tmp_path / "exports").iterdir())
        assert (await tree.find("Plan.docx")).size is None
        assert await read(tree, "Plan.docx") == b"exported" * 100_000


async def test_an_export_that_google_finds_too_large_is_refused_with_why(tmp_path: Path) -> None:
    async with drive(tmp_path) as (fake, tree):
        fake.doc("root", "Plan")
        fake.fail("export", "exportSizeLimitExceeded")
        with pytest.raises(Denied, match="10 MB"):
            await tree.open("Plan.docx")


async def test_an_export_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("playhead.origins.drive.exports.LARGEST", 1000)
    async with drive(tmp_path) as (fake, tree):
        fake.doc("root", "Plan", {DOCX: b"x" * 2000})
        with pytest.raises(Damaged):
            await tree.open("Plan.docx")
        assert not list((tmp_path / "exports").iterdir())


async def test_old_exports_go_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("playhead.origins.drive.exports.ROOM", 2500)
    async with drive(tmp_path) as (fake, tree):
        for number in range(4):
            fake.doc("root", f"{number}", {DOCX: f"{number}".encode() * 1000})
        for number in range(4):
            assert await read(tree, f"{number}.docx") == f"{number}".encode() * 1000
        assert len(list((tmp_path / "exports").iterdir())) == 2
        assert await read(tree, "0.docx") == b"0" * 1000


async def test_exports_without_a_folder_go_with_their_tree() -> None:
    async with FakeDrive() as fake:
        fake.doc("root", "Plan", {DOCX: b"exported"})
        async with opened(fake) as tree:
            blob: Blob = await tree.open("Plan.docx")
            place = tree.exports.folder
            assert await blob.read() == await collected(tree.flow("Plan.docx")) == b"exported"
        assert place and not place.exists() and await blob.read() == b"exported"
