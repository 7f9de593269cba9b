"""What is remembered: over memory, over an honest origin, and where the origin is slow, changed, or gone."""

import asyncio
import json
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from playhead import Ask, Blob, Changed, Entry, Failure, Malformed, NotFound, Tree, Unavailable, Unsized, Why, literal
from playhead.origins.memory import MemoryTree
from playhead.origins.web import WebTree
from playhead.transforms import listed as module
from playhead.transforms.listed import Listed, listed
from playhead.tree import Entries
from tests.fakes import origin as lies
from tests.fakes.origin import Origin, settled
from tests.laws import check_tree, collected

DATA, OTHER = random.Random(1).randbytes(100_000), random.Random(2).randbytes(100_000)
FILES = {"one": DATA, "folder/two": b"two", "folder/inner/three": b"3", "empty": b"", "가 나/\udcff.flac": b"x"}


class Scripted(Tree):
    """Files in memory: counts what it is asked, waits for `gate`, and fails as `failing` says (`late`: at the end).

    `tagged`: do its listings have tags?
    """

    def __init__(self, files: dict[str, bytes], *, tagged: bool = False) -> None:
        self.inner = MemoryTree(files)
        self.files = self.inner.files
        self.asked: Counter[str] = Counter()
        self.asks: list[Ask] = []
        self.tagged, self.closed = tagged, False
        self.failing: Failure | None = None
        self.late = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def _answer(self, kind: str) -> None:
        self.asked[kind] += 1
        await self.gate.wait()
        await asyncio.sleep(0)
        if self.failing and not (self.late and kind == "entries"):
            raise self.failing

    async def entries(self, folder: str = "") -> Entries:
        await self._answer("entries")
        async with aclosing(self.inner.entries(folder)) as entries:
            async for entry in entries:
                yield entry if self.tagged else replace(entry, tag=None)
        if self.failing:
            raise self.failing

    async def find(self, path: str) -> Entry:
        await self._answer("find")
        return await self.inner.find(path)

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        self.asks.append(ask)
        await self._answer("open")
        return literal(await (await self.inner.open(path, ask)).read())  # a blob of its own each time

    async def aclose(self) -> None:
        self.closed = True

    def write(self, path: str, data: bytes) -> None:
        self.files[path] = literal(data)


class Replaced(Exception): ...


@asynccontextmanager
async def remembering(tree: Tree, folder: Path | None = None, **how: float) -> AsyncIterator[Listed]:
    """The tree as listed; no task may be left behind when it is closed."""
    async with asyncio.timeout(10):
        before = asyncio.all_tasks()
        kept = listed(tree, folder, name="origin", **how)
        try:
            yield kept
        finally:
            await kept.aclose()
        await settled(lambda: asyncio.all_tasks() <= before)


@asynccontextmanager
async def serving(files: dict[str, bytes], folder: Path | None, **how: float) -> AsyncIterator[tuple[Origin, Listed]]:
    async with Origin(files) as origin, remembering(WebTree(origin.url), folder, **how) as tree:
        yield origin, tree


async def names(tree: Tree, folder: str = "") -> list[str]:
    return sorted([entry.name async for entry in tree.entries(folder)])


async def all_asked(kept: Listed) -> None:
    """Wait until nothing is being asked in the background."""
    await settled(lambda: not kept.tasks)


# ── the law ──


@pytest.mark.parametrize("tagged", [True, False])
@pytest.mark.parametrize("fresh", [0.0, 60.0])
async def test_it_is_the_tree_that_it_remembers(tmp_path: Path, tagged: bool, fresh: float) -> None:
    async with remembering(Scripted(FILES, tagged=tagged), tmp_path, fresh=fresh) as tree:
        await check_tree(tree, FILES)
        await check_tree(tree, FILES)
    async with remembering(Scripted(FILES, tagged=tagged), tmp_path, fresh=fresh, recheck=0.0) as tree:
        await check_tree(tree, FILES)
    async with remembering(MemoryTree(FILES)) as tree:
        await check_tree(tree, FILES)
    async with remembering(MemoryTree({})) as tree:
        await check_tree(tree, {})


@pytest.mark.parametrize("validators", ["etag", "modified", "weak", "young", ""])
async def test_it_is_the_folder_behind_the_url(tmp_path: Path, validators: str) -> None:
    async with Origin(FILES, validators=validators) as origin:
        for fresh in (0.0, 60.0):
            async with remembering(WebTree(origin.url), tmp_path, fresh=fresh) as tree:
                await check_tree(tree, FILES)


async def test_what_has_no_size_flows() -> None:
    async with serving({"f": DATA}, None) as (origin, tree):
        origin.always["f"] = lies.each(lies.whole, lies.chunked)
        for _ in "ab":
            with pytest.raises(Unsized):
                await tree.open("f")
            assert await collected(tree.flow("f")) == DATA


# ── opening ──


async def test_a_second_open_asks_nothing(tmp_path: Path) -> None:
    async with serving({"a/f": DATA}, tmp_path) as (origin, tree):
        assert await (await tree.open("a/f", Ask(0, 10))).read(0, 10) == DATA[:10]
        assert len(origin.requests) == 1
        assert tree.known("a/f") == (len(DATA), (await tree.open("a/f")).tag)
        blob = await tree.open("a/f", Ask(500, 600, Why.SEEK))
        assert (blob.size, (await tree.find("a/f")).size) == (len(DATA), len(DATA))
        assert len(origin.requests) == 1
        assert await blob.read(500, 600) == DATA[500:600]  # the bytes are asked for when they are wanted
        assert await blob.read(7000, 7100) == DATA[7000:7100]
        assert [asked.headers["range"] for asked in origin.of("a/f")[1:]] == ["bytes=500-599", "bytes=7000-7099"]
        assert tree.known("a/other") is None


async def test_streams_ask_for_what_they_want_and_share_what_was_opened() -> None:
    inner = Scripted({"f": DATA})
    async with remembering(inner) as tree:
        await tree.open("f")
        first = await tree.open("f", Ask(3, 9, Why.BULK))
        inner.gate.clear()
        reads = [asyncio.ensure_future(first.read(a, a + 5)) for a in (0, 50)]  # neither waits for the other
        await settled(lambda: len(inner.asks) == 3)
        assert inner.asks[1:] == [Ask(0, 5, Why.BULK), Ask(50, 55, Why.BULK)]
        inner.gate.set()
        assert await asyncio.gather(*reads) == [DATA[:5], DATA[50:55]]
        second = await tree.open("f")
        assert await second.read(1, 2) == DATA[1:2] and len(inner.asks) == 3
        assert second.here(1, 2) == [DATA[1:2]]


async def test_twenty_that_open_at_once_are_one_request() -> None:
    async with serving({"f": DATA}, None) as (origin, tree):
        origin.script["f"] = [lies.late(0.05)]
        opening = [asyncio.ensure_future(tree.open("f", Ask(0, 100))) for _ in range(21)]
        await settled(lambda: len(origin.requests) == 1)
        opening.pop(0).cancel()  # whose leaving ends nothing
        blobs = await asyncio.gather(*opening)
        assert len(origin.requests) == 1
        assert await blobs[0].read(0, 100) == DATA[:100]
        assert len(origin.requests) == 1
        assert await blobs[5].read(1000, 1100) == DATA[1000:1100]


async def test_twenty_that_list_at_once_are_one_request() -> None:
    async with serving(FILES, None) as (origin, tree):
        origin.script["folder/"] = [lies.late(0.05)]
        listing = [asyncio.ensure_future(names(tree, "folder")) for _ in range(21)]
        await settled(lambda: len(origin.requests) == 1)
        listing.pop(0).cancel()
        assert await asyncio.gather(*listing) == [["inner", "two"]] * 20
        assert len(origin.requests) == 1


async def test_what_has_no_tag_is_asked_for_each_time() -> None:
    async with Origin({"f": DATA}, validators="") as origin, remembering(WebTree(origin.url)) as tree:
        blobs = await asyncio.gather(*(tree.open("f", Ask(0, 10)) for _ in range(3)))
        assert len(origin.requests) == 3 and tree.known("f") is None
        assert [await blob.read(0, 10) for blob in blobs] == [DATA[:10]] * 3


async def test_a_listing_with_tags_is_enough_to_open() -> None:
    inner = Scripted({"a/f": DATA}, tagged=True)
    async with remembering(inner) as tree:
        assert await names(tree, "a") == ["f"]
        blob = await tree.open("a/f")
        assert blob.size == len(DATA) and inner.asked == {"entries": 1}
        assert await blob.read(5, 9) == DATA[5:9] and inner.asks == [Ask(5, 9)]


async def test_nothing_is_learnt_from_a_failure() -> None:
    inner = Scripted({"f": DATA})
    inner.failing = Unavailable("gone")
    async with remembering(inner) as tree:
        failures = await asyncio.gather(*(tree.open("f") for _ in range(3)), return_exceptions=True)
        assert [type(failure) for failure in failures] == [Unavailable] * 3 and inner.asked["open"] == 1
        inner.failing = None
        assert await (await tree.open("f")).read() == DATA
        with pytest.raises(Malformed):
            await tree.open("../f")


# ── versions ──


async def test_a_changed_file_is_changed_once_and_then_the_new_version(tmp_path: Path) -> None:
    for held in (False, True):
        async with serving({"f": DATA}, tmp_path / str(held)) as (origin, tree):
            blob = await tree.open("f")
            assert await blob.read(0, 10) == DATA[:10]
            origin.files["f"] = OTHER
            if not held:
                tree.opened.clear()
                blob = await tree.open("f")
            with pytest.raises(Changed):
                await blob.read(50, 60)
            assert await (await tree.open("f", Ask(50, 60))).read(50, 60) == OTHER[50:60]
            assert await (await tree.open("f")).read() == OTHER


async def test_a_file_that_was_removed_is_not_found_when_its_bytes_are_wanted() -> None:
    async with serving({"f": DATA, "g": b""}, None) as (origin, tree):
        await (await tree.open("f")).read()
        del origin.files["f"]
        blob = await tree.open("f")
        with pytest.raises(NotFound):
            await blob.read()
        with pytest.raises(NotFound):
            await tree.open("f")


async def test_a_file_that_has_lost_its_size_is_changed_and_then_flows() -> None:
    async with serving({"f": DATA}, None) as (origin, tree):
        await (await tree.open("f")).read()
        origin.always["f"] = lies.each(lies.whole, lies.chunked)
        blob = await tree.open("f")
        with pytest.raises(Changed):
            await blob.read()
        with pytest.raises(Unsized):
            await tree.open("f")


async def test_a_known_file_is_asked_after_in_the_background() -> None:
    inner = Scripted({"f": DATA})
    async with remembering(inner, recheck=0.0) as tree:
        old = (await tree.open("f")).tag
        inner.write("f", OTHER)
        inner.gate.clear()
        assert [(await tree.open("f")).tag for _ in range(5)] == [old] * 5
        inner.gate.set()
        await all_asked(tree)
        assert inner.asked == {"open": 1, "find": 1}
        assert (await tree.open("f")).tag == literal(OTHER).tag  # and asks once more
        await all_asked(tree)
        inner.failing = Unavailable("gone")
        await tree.open("f")
        await all_asked(tree)
        assert tree.known("f") == (len(OTHER), literal(OTHER).tag)  # what cannot be asked is kept
        inner.failing, tree.quiet = None, 0.0
        del inner.files["f"]
        await tree.open("f")
        await all_asked(tree)
        assert tree.known("f") is None
        with pytest.raises(NotFound):
            await tree.open("f")


async def test_a_known_file_is_asked_after_once_in_a_while_and_never_when_nobody_opens_it() -> None:
    inner = Scripted({"f": DATA})
    async with remembering(inner) as tree:
        for _ in range(5):
            await (await tree.open("f")).read()
        await all_asked(tree)
        assert inner.asked["find"] == 0  # the bytes that came were of this version
    async with remembering(inner) as tree:
        await tree.find("f")
        for _ in range(5):
            await tree.find("f")
        assert inner.asked["find"] == 1


async def test_a_listing_that_differs_puts_in_doubt_what_was_known() -> None:
    inner = Scripted({"f": DATA, "g": DATA, "h": b"h"})
    async with remembering(inner, fresh=0.0) as tree:
        await names(tree)
        for path in "fgh":
            await tree.open(path)
        inner.write("f", b"longer" + OTHER)
        del inner.files["h"]
        await names(tree)
        assert [tree.known(path) is not None for path in "fgh"] == [False, True, False]
        assert await (await tree.open("f")).read() == b"longer" + OTHER


# ── listings ──


async def test_a_young_listing_is_given_as_it_is() -> None:
    inner = Scripted(FILES)
    async with remembering(inner, fresh=60.0) as tree:
        for _ in range(3):
            assert await names(tree) == ["empty", "folder", "one", "가 나"]
            assert (await tree.find("one")).size == len(DATA)
            assert (await tree.find("folder")).folder
        assert inner.asked == {"entries": 1}
        inner.write("new", b"")
        assert not (await tree.find("new")).folder  # not listed then: asked for


async def test_an_old_listing_is_asked_for_again() -> None:
    inner = Scripted({"a": b""})
    async with remembering(inner, fresh=0.0) as tree:
        assert await names(tree) == ["a"]
        inner.write("b", b"")
        assert await names(tree) == ["a", "b"]
        inner.files.clear()
        assert await names(tree) == []  # an empty one that comes is one
        assert await names(tree) == []


async def test_a_slow_origin_is_not_waited_for_where_something_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    inner = Scripted({"a": b""})
    async with remembering(inner, fresh=0.0, patience=0.02) as tree:
        assert await names(tree) == ["a"]
        inner.write("b", b"")
        inner.gate.clear()
        for _ in range(3):
            assert await names(tree) == ["a"]
            assert (await tree.find("a")).size == 0
        assert inner.asked == {"entries": 2, "find": 1}
        assert len(caplog.records) == 1 and caplog.records[0].levelno == logging.WARNING
        inner.gate.set()
        await all_asked(tree)
        assert await names(tree) == ["a", "b"]


@pytest.mark.parametrize("late", [False, True])
async def test_what_cannot_be_reached_is_never_empty(late: bool, caplog: pytest.LogCaptureFixture) -> None:
    inner = Scripted({"a": b"", "b/c": b""})
    async with remembering(inner, fresh=0.0) as tree:
        inner.late = late
        for outage in (1, 2):
            assert await names(tree) == ["a", "b"]
            inner.failing = Unavailable("gone")
            for _ in range(3):
                assert await names(tree) == ["a", "b"]
            with pytest.raises(Unavailable):
                await names(tree, "b")  # never listed: not empty either
            assert len(caplog.records) == outage
            inner.failing = None


async def test_an_origin_that_fails_is_left_alone_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = Scripted({"a": b""})
    async with remembering(inner, fresh=0.05) as tree:
        await names(tree)
        inner.failing = Unavailable("gone")
        await asyncio.sleep(0.06)
        for _ in range(5):
            assert await names(tree) == ["a"]
            assert (await tree.find("a")).name == "a"
        assert inner.asked == {"entries": 2}
        await asyncio.sleep(0.06)
        inner.failing = None
        inner.write("b", b"")
        assert await names(tree) == ["a", "b"]


async def test_the_origins_own_no_is_believed(tmp_path: Path) -> None:
    inner = Scripted({"folder/a": DATA, "b": b""})
    async with remembering(inner, tmp_path, fresh=0.0) as tree:
        assert await names(tree, "folder") == ["a"]
        del inner.files["folder/a"]
        for question in (names(tree, "folder"), tree.find("folder/a"), tree.find("folder"), tree.open("folder/a")):
            with pytest.raises(NotFound):
                await question
        inner.failing = Unavailable("gone")
        for question in (names(tree, "folder"), tree.open("folder/a")):
            with pytest.raises(Unavailable):
                await question


# ── on disk ──


async def test_with_the_origin_gone_it_is_all_still_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(FILES, tmp_path, fresh=0.0) as (origin, tree):
        await check_tree(tree, FILES)
        tag = (await tree.open("one")).tag
        url = origin.url
    async with remembering(WebTree(url), tmp_path, fresh=0.0) as tree:
        assert await names(tree) == ["empty", "folder", "one", "가 나"]
        assert await names(tree, "가 나") == ["\udcff.flac"]
        for path, data in FILES.items():
            assert (await tree.find(path)).size == len(data)
            blob = await tree.open(path)
            assert blob.size == len(data)
        assert (await tree.find("folder/inner")).folder
        blob = await tree.open("one")
        assert blob.tag == tag and blob.modified == datetime(2026, 1, 3, 10, tzinfo=UTC)
        with pytest.raises(Unavailable):
            await blob.read()
        with pytest.raises(Unavailable):
            await tree.open("never/seen")
        assert len(caplog.records) == 1


async def test_an_entry_is_kept_as_it_was(tmp_path: Path) -> None:
    class One(MemoryTree):
        async def entries(self, folder: str = "") -> Entries:
            for entry in kept:
                yield entry

    kept = [
        Entry("\udcff\udc80 \n\"'\\.flac", False, 1 << 40, datetime(2020, 1, 2, 3, 4, 5, 678, UTC), None, "mark"),
        Entry("folder", True),
        Entry("tag", False, 0, None, "h:x", None),
    ]
    async with remembering(One({}), tmp_path) as tree:
        assert [entry async for entry in tree.entries()] == kept
    broken = Scripted({})
    broken.failing = Unavailable("gone")
    async with remembering(broken, tmp_path, fresh=0.0) as tree:
        assert [entry async for entry in tree.entries()] == kept
        assert (await tree.open("tag")).size == 0
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o600]


async def test_it_is_written_soon_and_not_only_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DELAY", 0.01)
    async with remembering(Scripted(FILES), tmp_path) as tree:
        await names(tree)
        await settled(lambda: len(list(tmp_path.glob("*.json"))) == 1)
        await tree.open("folder/two")
        await settled(lambda: len(list(tmp_path.glob("*.json"))) == 2)
        assert {len(file.name) for file in tmp_path.iterdir()} == {32 + len(".json")}


async def test_another_origin_has_other_files(tmp_path: Path) -> None:
    async with remembering(Scripted(FILES), tmp_path) as tree:
        await names(tree)
    inner = Scripted({})
    other = listed(inner, tmp_path, name="another", fresh=60.0)
    assert await names(other) == []
    await other.aclose()
    assert inner.closed


def damages() -> list[Callable[[str], str | bytes]]:
    def edited(**values: object) -> Callable[[str], str]:
        return lambda text: json.dumps(json.loads(text) | values)

    file, row = [1, "t", None], ["a", False, 1, None, None, None]
    no_names: list[object] = ["", "..", "a/b", "a\0", 1, None, []]
    no_tags: list[object] = [None, 1, []]
    return [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text[:-1],
        lambda text: b"\xff\xfe\x00" * 50,
        lambda text: "[" * 100_000,
        lambda text: "1" * 10_000,
        lambda text: "[]",
        lambda text: "{}",
        edited(folder="another"),
        edited(listed=7),
        edited(listed="yesterday"),
        edited(listed="0001-01-01T00:00:00+23:00"),
        edited(entries={"a": 1}),
        edited(entries=[row[:-1]]),
        edited(entries=["abcdef"]),
        *(edited(entries=[[name, *row[1:]]]) for name in no_names),
        *(edited(entries=[["a", False, size, None, None, None]]) for size in (-1, 1.5, True, "1", 1 << 70)),
        edited(entries=[["a", 1, 1, None, None, None]]),
        edited(entries=[["a", False, 1, "2020-99-99", None, None]]),
        edited(entries=[["a", False, 1, None, 5, []]]),
        edited(files=[]),
        edited(files={"a": file[:2]}),
        edited(files={"../a": file}),
        *(edited(files={"a": [size, "t", None]}) for size in (None, -1, False)),
        *(edited(files={"a": [1, tag, None]}) for tag in no_tags),
    ]


@pytest.mark.parametrize("damage", damages())
async def test_a_damaged_file_is_as_none(tmp_path: Path, damage: Callable[[str], str | bytes]) -> None:
    async with remembering(Scripted({"a": DATA}, tagged=True), tmp_path) as tree:
        await names(tree)
    (file,) = tmp_path.iterdir()
    harmed = damage(file.read_text())
    file.write_bytes(harmed if isinstance(harmed, bytes) else harmed.encode())
    inner = Scripted({"a": DATA}, tagged=True)
    async with remembering(inner, tmp_path, fresh=60.0) as tree:
        assert tree.known("a") is None
        assert await names(tree) == ["a"]
        assert await (await tree.open("a")).read() == DATA
        assert inner.asked["entries"] == 1
    assert json.loads(file.read_text())["version"] == 1


async def test_a_file_of_another_version_is_left_alone(tmp_path: Path) -> None:
    async with remembering(Scripted({"a": DATA}), tmp_path) as tree:
        await names(tree)
    (file,) = tmp_path.iterdir()
    file.write_text('{"version": 2, "what": "ever"}')
    async with remembering(Scripted({"a": DATA}), tmp_path, fresh=60.0) as tree:
        await check_tree(tree, {"a": DATA})
    assert file.read_text() == '{"version": 2, "what": "ever"}'


@pytest.mark.parametrize("days", [-1, 1])
async def test_a_listing_of_yesterday_or_tomorrow_is_old(tmp_path: Path, days: int) -> None:
    async with remembering(Scripted({"a": DATA}), tmp_path) as tree:
        await names(tree)
    (file,) = tmp_path.iterdir()
    when = (datetime.now(UTC) + timedelta(days=days)).isoformat()
    file.write_text(json.dumps(json.loads(file.read_text()) | {"listed": when}))
    inner = Scripted({"b": DATA})
    async with remembering(inner, tmp_path, fresh=60.0) as tree:
        assert await names(tree) == ["b"]


async def test_a_disk_that_fails_leaves_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "DELAY", 0.0)
    (tmp_path / "file").write_text("no folder")
    async with remembering(Scripted(FILES), tmp_path / "file" / "folder", fresh=60.0) as tree:
        for path in FILES:
            await tree.open(path)
            await settled(lambda: not tree.dirty and not tree.writing.locked())
        await check_tree(tree, FILES)
    assert len(caplog.records) == 1 and "disk" in caplog.text
    assert (tmp_path / "file").read_text() == "no folder"


async def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tree = listed(Scripted({"a": b""}), tmp_path, name="origin")
    file = tree._file("")
    assert file
    (file / "in the way").mkdir(parents=True)
    assert await names(tree) == ["a"]
    await tree.aclose()
    assert list(tmp_path.iterdir()) == [file] and len(caplog.records) == 1


async def test_only_so_many_folders_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOLDERS", 3)
    monkeypatch.setattr(module, "DELAY", 0.01)
    files = {f"{n}/f": b"%d" % n for n in range(10)}
    inner = Scripted(files)
    async with remembering(inner, tmp_path, fresh=60.0) as tree:
        for path in files:
            await tree.open(path)
        await settled(lambda: len(tree.folders) <= 3)
        assert tree.known("9/f") and tree.known("0/f") is None
        inner.failing = Unavailable("gone")
        for path in files:
            assert (await tree.open(path)).size == 1  # read again from disk
        assert len(tree.folders) <= 3
    async with remembering(Scripted(files)) as tree:
        await check_tree(tree, files)
        assert len(tree.folders) <= 3


# ── the end ──


async def test_nothing_is_left_of_it_when_it_is_closed(tmp_path: Path) -> None:
    inner = Scripted({"a": b"", "b": b""})
    async with asyncio.timeout(5):
        tree = listed(inner, tmp_path, name="origin", fresh=0.0, recheck=0.0, patience=0.01)
        await names(tree)
        await tree.open("a")
        inner.gate.clear()
        await names(tree)
        await tree.open("a")
        waiting = asyncio.ensure_future(tree.open("b"))
        await settled(lambda: len(tree.tasks) == 3)
        await tree.aclose()
        with pytest.raises(Unavailable):
            await waiting
        assert asyncio.all_tasks() == {asyncio.current_task()} and inner.closed
        for question in (names(tree), tree.open("b"), tree.find("b")):
            with pytest.raises(Unavailable):
                await question
        await tree.aclose()
        (file,) = tmp_path.iterdir()
        assert set(json.loads(file.read_text())["files"]) == {"a"}


async def test_an_error_of_ours_in_the_background_is_told(caplog: pytest.LogCaptureFixture) -> None:
    class Wrong(Scripted):
        async def find(self, path: str) -> Entry:
            raise Replaced("a bug")

    async with remembering(Wrong({"f": DATA}), recheck=0.0) as tree:
        await tree.open("f")
        await tree.open("f")
        await all_asked(tree)
        assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_it_is_quick(tmp_path: Path) -> None:
    """Opening what is known waits for nothing: no thread, no request."""
    inner = Scripted({"f": DATA})
    async with remembering(inner, tmp_path) as tree:
        await tree.open("f")
        began = time.perf_counter()
        for _ in range(1000):
            opening: Awaitable[Blob] = tree.open("f")
            with pytest.raises(StopIteration):
                next(opening.__await__())
        assert time.perf_counter() - began < 1
