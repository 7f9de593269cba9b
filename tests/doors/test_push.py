"""A push ends with the source's files at the target, or says of each why not; and does nothing twice, or that it must
not."""

import asyncio
import fcntl
import json
import os
import random
import stat
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex

import pytest

from playhead import (
    Ask,
    Blob,
    Busy,
    Changed,
    Damaged,
    Denied,
    Failure,
    Full,
    Malformed,
    NotFound,
    Tree,
    Unavailable,
    Unknown,
    Unsized,
    literal,
    walk,
)
from playhead.blob import FileSpan, Pieces, pieces
from playhead.doors import sending, sent
from playhead.doors.push import Event, Summary, push
from playhead.doors.sent import Begun, Done, Journal
from playhead.origins.folder import LocalStore
from playhead.origins.local import LocalTree
from playhead.origins.memory import MemoryTree
from playhead.transforms.crypt import CryptTree, crypt
from playhead.transforms.retry import Patience
from playhead.tree import Entries, Entry
from tests.fakes.origin import settled
from tests.laws import check_tree
from tests.peers.crypts import Setting, put, rclone
from tests.transforms.quiet import quiet

KIB = 1 << 10
DATA = random.Random(1).randbytes(700 * KIB)
FILES = {
    "Song.MP3": b"\xff\xfbnot tagged",
    "empty.flac": b"",
    "album/1.flac": DATA[: 90 * KIB],
    "album/2.flac": DATA[1 : 90 * KIB],
    "album/disc 2/별.ogg": DATA[:300],
    "note.txt": b"no music",
    "no extension": b"n",
    "big": DATA,
}
LONG_AGO = 1_000_000_000
WHEN = datetime.fromtimestamp(LONG_AGO, UTC)
QUICK = Patience(attempts=3, seconds=20.0, first=0.01, most=0.02, longest=0.2)
PART = 100 * KIB


class Shop(MemoryTree):
    """A store that writes by parts of 100 KiB, and does as it is told. What is asked of it is counted.

    `holding`: does it tell what it holds; `faults`: what is raised before a put, a part, a listing ...
    """

    def __init__(self, files: dict[str, bytes] | None = None, *, holding: bool = True, copying: bool = False) -> None:
        super().__init__(files or {})
        self.holding, self.copying = holding, copying
        self.dates: dict[str, datetime | None] = {}
        self.calls: Counter[str] = Counter()
        self.parts: dict[str, bytes] = {}  # state -> what came so far
        self.came: dict[str, int] = {}  # path -> bytes that were sent for it
        self.faults: dict[str, list[BaseException]] = {}
        self.before: Callable[[str], Awaitable[None]] | None = None
        self.flying = self.most = 0

    def fault(self, what: str) -> None:
        self.calls[what] += 1
        for key in (what, what.partition(" ")[0]):
            if self.faults.get(key):
                raise self.faults[key].pop(0)

    async def entries(self, folder: str = "") -> Entries:
        self.fault(f"list {folder}")
        async with aclosing(super().entries(folder)) as entries:
            async for entry in entries:
                yield entry

    async def find(self, path: str) -> Entry:
        return replace(await super().find(path), modified=self.dates.get(path))

    async def put(
        self, path: str, blob: Blob, *, replaces: str | None, state: str | None, keep: Callable[[str], None]
    ) -> Entry:
        self.flying += 1
        self.most = max(self.most, self.flying)
        try:
            return await self._put(path, blob, replaces, state, keep)
        finally:
            self.flying -= 1

    async def _put(
        self, path: str, blob: Blob, replaces: str | None, state: str | None, keep: Callable[[str], None]
    ) -> Entry:
        self.fault(f"put {path}")
        if self.before is not None:
            await self.before(path)
        there = self.files.get(path)
        if (there and there.tag) != replaces:
            raise Changed(f"{path!r} is there")
        if state is not None and state not in self.parts:
            raise NotFound("there is no such upload")
        held, name = self.parts.get(state or "", b""), state or token_hex(8)
        while len(held) < blob.size:
            self.fault(f"part {path}")
            stop = min(len(held) + PART, blob.size)
            part = await blob.read(len(held), stop)
            self.came[path] = self.came.get(path, 0) + len(part)
            held += part
            self.parts[name] = held
            keep(name)
        self.files[path], self.dates[path] = literal(held), blob.modified
        self.fault(f"answer {path}")
        return await self.find(path)

    async def holds(self, path: str, blob: Blob) -> bool | None:
        self.fault(f"holds {path}")
        return await self.files[path].read() == await blob.read() if self.holding else None

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        self.fault(f"open {path}")
        return await super().open(path, ask)

    async def copy(self, path: str, to: str) -> Entry | None:
        self.fault(f"copy {path}")
        if not self.copying:
            return None
        assert to not in self.files
        self.files[to], self.dates[to] = self.files[path], self.dates[path]
        return await self.find(to)

    async def all(self) -> dict[str, bytes]:
        return {path: await blob.read() for path, blob in self.files.items()}


class Source(MemoryTree):
    """A source of dated files, without tags unless it is said; what fails is said by path."""

    def __init__(self, files: dict[str, bytes], *, tags: bool = True) -> None:
        super().__init__(files)
        self.failing: dict[str, Failure] = {}
        self.tags, self.opened = tags, Counter[str]()
        self.instead: dict[str, Blob] = {}

    async def entries(self, folder: str = "") -> Entries:
        if failure := self.failing.get(folder):
            raise failure
        async with aclosing(super().entries(folder)) as entries:
            async for entry in entries:
                yield replace(entry, modified=WHEN, tag=entry.tag if self.tags else None)

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        self.opened[path] += 1
        if failure := self.failing.get(path):
            raise failure
        if path in self.instead:
            return self.instead[path]
        blob = await super().open(path, ask)
        return Dated(blob.size, blob.tag if self.tags else None, blob, modified=WHEN)


@dataclass(frozen=True, slots=True, eq=False)
class Dated(Blob):
    blob: Blob

    def stream(self, start: int, stop: int) -> Pieces:
        return pieces(self.blob, start, stop)


@dataclass(frozen=True, slots=True, eq=False)
class Turning(Blob):
    """A file whose reads after the first ones find that it changed."""

    data: bytes
    good: list[int]

    async def stream(self, start: int, stop: int) -> Pieces:
        if not self.good[0]:
            raise Changed("it was changed while it was read")
        self.good[0] -= 1
        yield self.data[start:stop]


@dataclass
class Told:
    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def failures(self) -> dict[str, Failure]:
        return {event.path: event.failure for event in self.events if event.failure is not None}

    def how(self) -> dict[str, str]:
        return {event.path: event.how for event in self.events if event.kind == "done"}


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def local(tmp_path: Path) -> Path:
    put(FILES, tmp_path / "source")
    for path in (tmp_path / "source").rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    return tmp_path / "source"


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "state" / "push" / "x.journal"


async def pushed(source: Tree, store: Tree, journal: Path | None = None, to: str = "to", **options: object) -> Summary:
    kept = sent.opened(journal) if journal else None
    try:
        given = {"patience": QUICK, **options}
        return await push(source, "", store, to, journal=kept, **given)  # type: ignore[arg-type]
    finally:
        if kept:
            kept.close()


def under(files: dict[str, bytes], to: str = "to") -> dict[str, bytes]:
    return {f"{to}/{path}": data for path, data in files.items()}


# ── what comes to be ──


@pytest.mark.parametrize("at_once", [1, 8])
@pytest.mark.parametrize("kind", ["shop", "crypt", "folder", "crypt in a folder"])
async def test_every_file_is_at_the_target_whatever_it_is_called_and_a_second_time_nothing_is_sent(
    local: Path, tmp_path: Path, journal: Path, told: Told, kind: str, at_once: int
) -> None:
    """Also `.MP3`, what has no tags, what is empty, and what is no music."""
    (tmp_path / "target").mkdir()
    below: Tree = LocalStore(tmp_path / "target") if "folder" in kind else Shop()
    store = crypt(below, Setting().keys, Setting().names()) if "crypt" in kind else below
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in local.rglob("*") if path.is_file()}
    async with quiet():
        summary = await pushed(LocalTree(local), store, journal, told=told, at_once=at_once)
        assert (summary.sent, summary.failed, summary.code, summary.listed) == (len(FILES), 0, 0, True)
        assert summary.found == len(FILES) and summary.size == summary.certain == sum(map(len, FILES.values()))
        assert told.how() == dict.fromkeys(FILES, "sent")
        await check_tree(store, under(FILES))
        for again in (journal, None):  # with what is known, and without
            summary = await pushed(LocalTree(local), store, again, told=told)
            assert (summary.sent, summary.already, summary.failed) == (0, len(FILES), 0)
        verified = await pushed(LocalTree(local), store, journal, verify=True)
        assert (verified.sent, verified.already) == (0, len(FILES))
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in local.rglob("*") if path.is_file()}
    assert before == after  # nothing of the source is moved, deleted, or written to
    kinds = [event.kind for event in told.events]
    assert kinds[0] == "begin" and kinds.count("summary") == 3 and kinds[-1] == "summary"


async def test_what_is_pushed_through_encryption_rclone_reads(local: Path, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    await pushed(LocalTree(local), crypt(LocalStore(tmp_path / "target"), Setting().keys, Setting().names()), to="")
    rclone("cryptcheck", str(local), Setting().remote(tmp_path / "target"))


async def test_a_single_file_goes_into_the_folder(local: Path) -> None:
    shop = Shop()
    summary = await push(LocalTree(local), "album/1.flac", shop, "music")
    assert await shop.all() == {"music/1.flac": FILES["album/1.flac"]} and summary.code == 0


async def test_what_is_not_there_or_cannot_be_written_says_so(local: Path) -> None:
    with pytest.raises(NotFound):
        await push(LocalTree(local), "no such folder", Shop(), "")
    with pytest.raises(Malformed, match="cannot be written"):
        await push(LocalTree(local), "", LocalTree(local), "to")


async def test_a_dry_run_says_what_would_be_sent_and_sends_nothing(local: Path, journal: Path, told: Told) -> None:
    shop = Shop(under({"Song.MP3": FILES["Song.MP3"], "big": b"another"}))
    before = await shop.all()
    summary = await pushed(LocalTree(local), shop, journal, told=told, dry_run=True)
    assert await shop.all() == before and not any(call.startswith(("put", "copy")) for call in shop.calls)
    assert told.how() == {path: "already" if path == "Song.MP3" else "would" for path in FILES if path != "big"}
    assert list(told.failures()) == ["big"] and summary.code == 9
    assert journal.read_bytes().count(b"\n") == 1


async def test_files_are_sent_while_both_sides_are_still_being_listed(local: Path) -> None:
    """The second listing of the source comes when the first file is at the target, and not before."""
    shop = Shop()

    class Waiting(LocalTree):
        async def entries(self, folder: str = "") -> Entries:
            if folder:
                await settled(lambda: bool(shop.files))
            async with aclosing(super().entries(folder)) as entries:
                async for entry in entries:
                    yield entry

    assert (await pushed(Waiting(local), shop)).sent == len(FILES)


async def test_several_files_are_sent_at_once_and_no_more_than_may_be(local: Path) -> None:
    shop = Shop()

    async def before(path: str) -> None:
        await asyncio.sleep(0.01)

    shop.before = before
    await pushed(LocalTree(local), shop, at_once=3)
    assert shop.most == 3


async def test_a_target_that_is_not_there_costs_one_listing_and_no_question_of_any_file(local: Path) -> None:
    shop = Shop()
    await pushed(LocalTree(local), shop)
    assert [call for call in shop.calls if not call.startswith(("put", "part", "answer"))] == ["list to"]


async def test_an_unchanged_tree_needs_only_the_listings(local: Path, journal: Path) -> None:
    shop = Shop()
    await pushed(LocalTree(local), shop, journal)
    shop.calls.clear()
    await pushed(LocalTree(local), shop, journal)
    assert shop.calls == {"list to": 1, "list to/album": 1, "list to/album/disc 2": 1}


async def test_the_index_may_be_lost_and_nothing_is_lost_or_sent_again(local: Path, journal: Path) -> None:
    shop = Shop()
    await pushed(LocalTree(local), shop, journal)
    journal.unlink()
    shop.came.clear()
    summary = await pushed(LocalTree(local), shop, journal)
    assert summary.already == len(FILES) and shop.came == {}


# ── what is there already ──


async def test_another_version_is_never_overwritten_unless_that_is_asked_for(
    local: Path, journal: Path, told: Told
) -> None:
    for kind in ("longer", "as long"):
        theirs = b"theirs" if kind == "longer" else FILES["Song.MP3"][::-1]
        shop = Shop(under({"Song.MP3": theirs}))
        summary = await pushed(LocalTree(local), shop, told=told)
        assert (summary.sent, summary.failed, summary.code) == (len(FILES) - 1, 1, 9)
        assert isinstance(failure := told.failures()["Song.MP3"], Changed) and "--overwrite" in failure.told
        assert (await shop.all())["to/Song.MP3"] == theirs
        assert (await pushed(LocalTree(local), shop, overwrite=True)).sent == 1
        assert await shop.all() == under(FILES)


async def test_a_version_that_came_meanwhile_is_not_overwritten_either(local: Path, told: Told) -> None:
    for overwrite in (False, True):
        shop = Shop(under({"Song.MP3": b"listed"}))

        async def before(path: str, shop: Shop = shop) -> None:
            if path == "to/Song.MP3":
                shop.files[path] = literal(b"theirs")
            elif path == "to/big":
                shop.files[path] = literal(DATA)  # the very same

        shop.before = before
        await pushed(LocalTree(local), shop, told=told, overwrite=overwrite)
        assert (await shop.all())["to/Song.MP3"] == b"theirs" or not overwrite
        assert list(told.failures()) == ["Song.MP3"] and told.how()["big"] == "sent"


@pytest.mark.parametrize(
    ("later", "data", "already", "read"),
    [
        (timedelta(), b"\xff\xfbnot tagged", True, False),  # equal sizes and times are believed
        (timedelta(seconds=1.9), b"\xff\xfbnot tagged", True, False),
        (timedelta(seconds=-1.9), b"\xff\xfbNOT TAGGED", True, False),
        (timedelta(seconds=2.1), b"\xff\xfbnot tagged", True, True),
        (timedelta(days=9), b"\xff\xfbNOT TAGGED", False, True),
        (timedelta(), b"shorter", False, False),
        (None, b"\xff\xfbnot tagged", True, True),
    ],
)
async def test_a_store_that_tells_nothing_is_asked_for_size_and_time_and_then_for_its_bytes(
    local: Path, told: Told, later: timedelta | None, data: bytes, already: bool, read: bool
) -> None:
    shop = Shop(under({"Song.MP3": data}), holding=False)
    shop.dates["to/Song.MP3"] = None if later is None else WHEN + later
    await pushed(LocalTree(local), shop, told=told)
    assert (told.how().get("Song.MP3") == "already") == already
    assert bool(shop.calls["open to/Song.MP3"]) == read
    assert ("Song.MP3" in told.failures()) != already


async def test_verifying_reads_every_byte_that_is_there_and_that_was_sent(local: Path, told: Told) -> None:
    wrong = FILES["big"][:-1] + b"?"
    shop = Shop(under({"big": wrong, "Song.MP3": FILES["Song.MP3"]}), holding=False)
    shop.dates = dict.fromkeys(shop.files, WHEN)

    async def before(path: str) -> None:
        if path == "to/note.txt":
            shop.faults["answer to/note.txt"] = []

    shop.before = before
    await pushed(LocalTree(local), shop, told=told, verify=True)
    assert isinstance(told.failures()["big"], Changed)
    assert shop.calls["open to/big"] == shop.calls["open to/album/1.flac"] == shop.calls["open to/Song.MP3"] == 1
    assert (await pushed(LocalTree(local), shop, told=told, verify=True, overwrite=True)).failed == 0
    assert await shop.all() == under(FILES)


async def test_what_verifying_finds_wrong_after_it_was_sent_is_damaged(told: Told) -> None:
    class Lying(Shop):
        async def open(self, path: str, ask: Ask = Ask()) -> Blob:
            return literal(b"?" + (await (await super().open(path, ask)).read())[1:])

    await pushed(Source({"a": b"1234"}), Lying(), told=told, verify=True)
    assert isinstance(told.failures()["a"], Damaged)


async def test_a_folder_in_place_of_a_file_and_a_file_in_place_of_a_folder_are_told_and_stay(
    local: Path, told: Told
) -> None:
    shop = Shop(under({"big/inside": b"1", "album": b"2"}))
    summary = await pushed(LocalTree(local), shop, told=told, overwrite=True)
    assert set(told.failures()) == {"big", "album/1.flac", "album/2.flac", "album/disc 2/별.ogg"}
    assert all(isinstance(failure, Malformed) for failure in told.failures().values())
    assert summary.sent == len(FILES) - 4 and summary.code == 9


# ── equal files ──

TWINS = {"a/1": DATA, "a/2": DATA, "b/3": DATA, "b/4": DATA[:-1] + b"?", "c": b"?" + DATA[1:], "d": b"s", "e": b"s"}


@pytest.mark.parametrize("at_once", [1, 8])
@pytest.mark.parametrize("local_files", [True, False])
async def test_equal_files_are_sent_once_and_copied_by_the_store(
    tmp_path: Path, told: Told, journal: Path, local_files: bool, at_once: int
) -> None:
    middle = bytearray(DATA)
    middle[len(DATA) // 2] ^= 1
    files = {**TWINS, "middle": bytes(middle)}
    put(files, tmp_path / "source")
    source = LocalTree(tmp_path / "source") if local_files else Source(files)
    shop = Shop(copying=True)
    async with quiet():
        summary = await pushed(source, shop, journal, told=told, at_once=at_once)
    assert await shop.all() == under(files)
    assert (summary.sent, summary.copied, summary.failed) == (5, 3, 0)
    assert sum(shop.came.values()) == 4 * len(DATA) + 1
    put({"a/later/f": DATA}, tmp_path / "source")
    if not local_files:
        source.files["a/later/f"] = literal(DATA)  # type: ignore[union-attr, attr-defined]
    summary = await pushed(source, shop, journal, at_once=1)  # a twin of what an earlier push has sent
    assert (summary.sent, summary.copied, summary.already) == (0, 1, len(files))


async def test_a_twin_of_what_could_not_be_sent_is_sent(told: Told) -> None:
    shop = Shop(copying=True)
    shop.faults["part"] = [Denied("no")]
    summary = await pushed(Source({"a": DATA, "b": DATA}), shop, told=told)
    assert (summary.sent, summary.copied, summary.failed) == (1, 0, 1)


async def test_what_was_replaced_at_the_target_meanwhile_is_not_copied(told: Told) -> None:
    shop = Shop(copying=True)

    async def after() -> None:
        await settled(lambda: "to/a" in shop.files)
        shop.files["to/a"] = literal(b"theirs")

    class Slow(Source):
        async def open(self, path: str, ask: Ask = Ask()) -> Blob:
            if path == "b":
                await after()
            return await super().open(path, ask)

    summary = await pushed(Slow({"a": DATA, "b": DATA}), shop, told=told)
    assert (summary.sent, summary.copied) == (2, 0) and (await shop.all())["to/b"] == DATA


async def test_a_file_that_is_equal_only_to_what_another_has_become_is_no_twin_of_what_was_sent(tmp_path: Path) -> None:
    put({"a": DATA, "later/b": DATA[::-1]}, tmp_path)

    class Writing(LocalTree):
        async def open(self, path: str, ask: Ask = Ask()) -> Blob:
            if path == "later/b":
                (tmp_path / "a").write_bytes(DATA[::-1])
            return await super().open(path, ask)

    shop = Shop(copying=True)
    summary = await pushed(Writing(tmp_path), shop, at_once=1)
    assert (summary.sent, summary.copied) == (2, 0)
    assert await shop.all() == under({"a": DATA, "later/b": DATA[::-1]})


@pytest.mark.parametrize("failure", [Denied("too large"), Unavailable("gone"), NotFound("no")])
async def test_what_cannot_be_copied_is_sent(failure: Failure) -> None:
    shop = Shop(copying=True)
    shop.faults["copy"] = [failure]
    summary = await pushed(Source({"a": DATA, "b": DATA}), shop)
    assert (summary.sent, summary.copied, summary.failed) == (2, 0, 0)


async def test_a_copy_in_an_encrypted_tree_is_of_the_sealed_file(tmp_path: Path) -> None:
    put(TWINS, tmp_path / "source")
    below = Shop(copying=True)
    tree = crypt(below, Setting().keys, Setting().names())
    summary = await pushed(LocalTree(tmp_path / "source"), tree)
    assert summary.copied == 3
    await check_tree(tree, under(TWINS))


async def test_an_encrypted_tree_tells_what_it_holds_by_the_nonce_that_is_there() -> None:
    below = Shop()
    tree = crypt(below, Setting().keys, Setting().names())
    assert isinstance(tree, CryptTree)
    await tree.put("f", literal(DATA), replaces=None, state=None, keep=lambda state: None)
    assert await tree.holds("f", literal(DATA)) is True
    for other in (DATA[:-1], DATA[:-1] + b"?", b""):
        assert await tree.holds("f", literal(other)) is False
    with pytest.raises(NotFound):
        await tree.holds("g", literal(DATA))
    below.holding = False
    assert await tree.holds("f", literal(DATA)) is None
    (hidden,) = below.files
    below.files[hidden] = literal(b"?" + (await below.files[hidden].read())[1:])
    assert await tree.holds("f", literal(DATA)) is False


async def test_the_nonce_is_kept_before_anything_leaves(journal: Path) -> None:
    below = Shop()
    tree = crypt(below, Setting().keys, Setting().names())
    nonces: list[str] = []

    async def before(path: str) -> None:
        [begun] = [line for line in journal.read_bytes().splitlines() if b"begun" in line]
        nonces.append(json.loads(begun[9:])["state"].split()[1])

    below.before = before
    await pushed(Source({"f": DATA}), tree, journal)
    assert below.came and [(await blob.read(8, 32)).hex() for blob in below.files.values()] == nonces


# ── what fails ──


async def test_what_cannot_be_read_or_written_stops_nothing_else_and_is_told_by_name(told: Told) -> None:
    files = {**FILES, "closed/x": b"1", "bad": b"2", "unsized": b"3", "refused": b"4"}
    source, shop = Source(files), Shop()
    source.failing = {"closed": Denied("'closed': denied"), "bad": Damaged("worn out"), "unsized": Unsized("no size")}
    shop.faults["put to/refused"] = [Malformed("'to/refused' is no name here")]
    summary = await pushed(source, shop, told=told)
    assert {path: type(failure) for path, failure in told.failures().items()} == {
        "closed": Denied,
        "bad": Damaged,
        "unsized": Unsized,
        "refused": Malformed,
    }
    assert (summary.sent, summary.failed, summary.code) == (len(FILES), 4, 9)
    assert await shop.all() == under(FILES)


async def test_one_file_that_fails_gives_its_own_code(told: Told) -> None:
    source = Source({"bad": b"2"})
    source.failing = {"bad": Denied("no")}
    assert (await pushed(source, Shop(), told=told)).code == Denied.code


async def test_a_checksum_that_differs_after_it_was_sent_is_one_failure_and_no_end(told: Told) -> None:
    shop = Shop()
    shop.faults["answer to/album/1.flac"] = [Damaged("the store has another checksum")]
    summary = await pushed(Source(FILES), shop, told=told)
    assert (summary.sent, summary.failed) == (len(FILES) - 1, 1)
    assert isinstance(told.failures()["album/1.flac"], Damaged)


@pytest.mark.parametrize("failure", [Unavailable("gone"), Busy("slow down", after=0.02)])
async def test_what_may_succeed_later_is_tried_again_from_where_it_was(failure: Failure, told: Told) -> None:
    shop = Shop()
    shop.faults = {"part to/big": [], "put": [failure], "list": [failure]}

    async def before(path: str) -> None:
        if path == "to/big" and not shop.faults["part to/big"] and len(shop.parts) < 2:
            shop.faults["part to/big"] = []

    fourth = iter(range(100))
    fault = shop.fault

    def at_the_fourth(what: str) -> None:
        if what == "part to/big" and next(fourth) in (3, 5):
            raise failure
        fault(what)

    shop.fault = at_the_fourth  # type: ignore[method-assign]
    shop.before = before
    summary = await pushed(Source(FILES), shop, told=told)
    assert (summary.sent, summary.failed) == (len(FILES), 0)
    assert shop.came["to/big"] == len(DATA)  # each part once
    assert await shop.all() == under(FILES)


async def test_an_answer_that_does_not_come_is_no_second_upload(told: Told) -> None:
    for holding in (True, False):
        shop = Shop(holding=holding)
        shop.faults["answer to/big"] = [Unavailable("the connection broke off")]
        summary = await pushed(Source(FILES), shop, told=told)
        assert (summary.sent, summary.failed) == (len(FILES), 0)
        assert shop.came["to/big"] == len(DATA)


async def test_one_file_that_never_succeeds_is_given_up_while_the_others_do(told: Told) -> None:
    shop = Shop()

    async def before(path: str) -> None:
        if path == "to/big":
            raise Unavailable("not this one")
        await asyncio.sleep(0.02)

    shop.before = before
    files = {**FILES, **{f"x{n}": bytes([n]) for n in range(60)}}
    summary = await pushed(Source(files), shop, told=told, at_once=2)
    assert list(told.failures()) == ["big"] and summary.sent == len(files) - 1
    assert "in a row" in told.failures()["big"].told


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("count", [1, 500])
async def test_a_store_that_is_dead_ends_it_in_time_with_one_line(told: Told, count: int, encrypted: bool) -> None:
    class Dead(Shop):
        async def put(self, *given: object, **named: object) -> Entry:  # type: ignore[override]
            self.calls["put"] += 1
            raise Unavailable("nobody answers")

    shop, source = Dead(), Source({f"{n}": bytes([n % 256]) for n in range(count)})
    store: Tree = crypt(shop, Setting().keys, Setting().names()) if encrypted else shop
    soon = replace(QUICK, seconds=0.3)
    async with asyncio.timeout(10):
        if count == 1:
            assert (await pushed(source, store, told=told, patience=soon)).code == Unavailable.code
        else:
            with pytest.raises(Unavailable, match="nobody answers") as caught:
                await pushed(source, store, told=told, patience=soon)
            assert "nothing went well for" in caught.value.told
    assert len(told.failures()) == 1 and told.events[-1].kind == "summary"
    assert shop.calls["put"] < 600


@pytest.mark.parametrize(
    "failure", [Full("no room"), Unknown("who are you"), Busy("the day's quota is spent", after=3600)]
)
async def test_what_would_be_of_every_file_ends_it_at_once(told: Told, failure: Failure) -> None:
    shop = Shop()
    shop.faults["part"] = [failure] * 8
    with pytest.raises(type(failure)):
        await pushed(Source(FILES), shop, told=told, at_once=1)
    assert told.failures() == {} and len(shop.parts) <= 1 and told.events[-1].kind == "summary"


async def test_a_target_that_cannot_be_listed_is_not_taken_for_empty(told: Told) -> None:
    shop = Shop(under(FILES))
    shop.faults["list to"] = [Denied("'to': denied")]
    with pytest.raises(Denied, match="denied"):
        await pushed(Source({**FILES, "new": b"1"}), shop, told=told)
    assert not any(call.startswith("put") for call in shop.calls)


async def test_a_source_that_is_over_its_quota_stops_no_other_file(told: Told) -> None:
    source = Source({"a": b"1", "b": b"2", "c": b"3"})
    source.failing["b"] = Busy("b: downloaded too often", after=600)
    summary = await pushed(source, Shop({}), told=told)
    assert (summary.sent, summary.failed) == (2, 1)


async def test_links_that_lead_in_circles_are_told_and_not_followed(local: Path, told: Told) -> None:
    (local / "album" / "again").symlink_to("..")
    (local / "itself").symlink_to(".")
    (local / "fine").symlink_to("album/disc 2")
    (local / "broken").symlink_to("nowhere")
    os.mkfifo(local / "pipe")
    shop = Shop()
    await pushed(LocalTree(local), shop, told=told)
    assert await shop.all() == under({**FILES, "fine/별.ogg": FILES["album/disc 2/별.ogg"]})
    assert set(told.failures()) == {"album/again", "itself"}


async def test_a_bug_is_not_hidden() -> None:
    shop = Shop()
    shop.faults["put"] = [ZeroDivisionError("a bug")]
    with pytest.raises(ZeroDivisionError):
        await pushed(Source(FILES), shop)


async def test_whoever_is_interrupted_leaves_nothing_running_and_goes_on_later(local: Path, journal: Path) -> None:
    shop = Shop()
    async with quiet():

        async def before(path: str) -> None:
            if len(shop.files) > 2:
                await asyncio.sleep(60)

        shop.before = before
        pushing = asyncio.create_task(pushed(LocalTree(local), shop, journal, at_once=2))
        await settled(lambda: shop.flying == 2 and len(shop.files) > 2)
        pushing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pushing
    shop.before = None
    done = set(shop.files)
    shop.calls.clear()
    assert (await pushed(LocalTree(local), shop, journal)).failed == 0
    assert await shop.all() == under(FILES) and not any(f"put {path}" in shop.calls for path in done)


# ── a source that changes ──


@pytest.mark.parametrize("good", [0, 1, 3])
async def test_a_source_that_changes_while_it_is_sent_is_begun_anew_with_a_fresh_nonce(
    told: Told, journal: Path, good: int
) -> None:
    below, source = Shop(), Source({**FILES, "big": DATA[::-1]})
    tree = crypt(below, Setting().keys, Setting().names())
    source.instead["big"] = first = Turning(len(DATA), "t", DATA, [good])

    class Opening(Source):
        async def open(self, path: str, ask: Ask = Ask()) -> Blob:
            if path == "big" and self.opened[path]:
                self.instead.clear()
            return await super().open(path, ask)

    source.__class__ = Opening
    summary = await pushed(source, tree, journal, told=told)
    assert (summary.sent, summary.failed) == (len(FILES), 0) and first.good == [0]
    await check_tree(tree, under({**FILES, "big": DATA[::-1]}))
    begun = [json.loads(line[9:]) for line in journal.read_bytes().splitlines() if b'"begun":"big"' in line]
    nonces = [fields["state"].split()[1] for fields in begun]
    assert len(set(nonces)) == 2
    [sealed] = [await blob.read() for blob in below.files.values() if blob.size > len(DATA)]
    assert sealed[8:32].hex() == nonces[-1] != nonces[0]


@pytest.mark.parametrize("good", [0, 1, 3])
async def test_nothing_that_came_of_a_source_before_it_changed_is_in_what_is_sent_then(good: int) -> None:
    source, shop = Source({"big": DATA[::-1]}), Shop()
    first = Turning(len(DATA), "t", DATA, [good])

    async def open(path: str, ask: Ask = Ask()) -> Blob:
        source.opened[path] += 1
        return first if source.opened[path] == 1 else await MemoryTree.open(source, path)

    source.open = open  # type: ignore[method-assign]
    assert (await pushed(source, shop)).sent == 1
    assert await shop.all() == {"to/big": DATA[::-1]}


async def test_a_source_that_does_not_come_to_rest_is_told(told: Told) -> None:
    source = Source(FILES)
    source.instead["big"] = Turning(len(DATA), "t", DATA, [0])
    summary = await pushed(source, Shop(), told=told)
    assert isinstance(told.failures()["big"], Changed) and "at rest" in told.failures()["big"].told
    assert summary.sent == len(FILES) - 1 and source.opened["big"] == 2


async def test_a_file_of_this_machine_that_is_written_to_while_it_is_sent_ends_as_the_last_version(
    local: Path, tmp_path: Path
) -> None:
    (tmp_path / "target").mkdir()
    tree = crypt(LocalStore(tmp_path / "target"), Setting().keys, Setting().names())
    store, changed = tree.tree, []  # type: ignore[attr-defined]

    class Writing(LocalStore):
        async def put(self, path: str, blob: Blob, **named: object) -> Entry:  # type: ignore[override]
            if blob.size > len(DATA) and not changed:
                changed.append(await blob.read(0, 100_000))
                (local / "big").write_bytes(DATA[::-1])
                os.utime(local / "big", (LONG_AGO, LONG_AGO))
            return await super().put(path, blob, **named)  # type: ignore[arg-type]

    store.__class__ = Writing
    assert (await pushed(LocalTree(local), tree)).failed == 0
    await check_tree(tree, under({**FILES, "big": DATA[::-1]}))
    (sealed,) = [
        path for path in (tmp_path / "target").rglob("*") if path.is_file() and path.stat().st_size > len(DATA)
    ]
    assert changed and sealed.read_bytes()[8:32] != changed[0][8:32]


# ── going on ──


async def cut_off(source: Tree, shop: Shop, journal: Path, store: Tree | None = None) -> None:
    """A push that ends when three parts of `big` were sent."""
    shop.faults["part"] = []
    fault, parts = shop.fault, Counter[str]()

    def ending(what: str) -> None:
        parts[what] += what.startswith("part")
        if parts[what] > 3:
            raise Full("no room")
        fault(what)

    shop.fault = ending  # type: ignore[method-assign]
    with pytest.raises(Full):
        await pushed(source, store or shop, journal, to="")
    del shop.fault
    assert not shop.faults["part"]


async def test_what_was_sent_is_gone_on_with_by_the_next_push(local: Path, journal: Path) -> None:
    shop = Shop()
    await cut_off(LocalTree(local), shop, journal)
    await pushed(LocalTree(local), shop, journal, to="")
    assert shop.came["big"] == len(DATA) and await shop.all() == FILES


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("how", ["tag", "bytes", "size", "tag lost"])
async def test_what_was_sent_of_another_version_is_not_gone_on_with(
    local: Path, journal: Path, how: str, encrypted: bool
) -> None:
    """Neither where the version differs, nor where only the bytes do that had been read by then."""
    shop = Shop()
    store: Tree = crypt(shop, Setting().keys, Setting().names()) if encrypted else shop
    source = Source({"big": DATA})
    await cut_off(source, shop, journal, store)
    [(upload, first)] = shop.parts.items()
    data = {"tag": DATA[::-1], "bytes": b"?" + DATA[1:], "size": DATA + b"1", "tag lost": b"?" + DATA[1:]}[how]
    if how == "bytes":  # a source whose tag promises too much
        source.instead["big"] = Dated(len(data), literal(DATA).tag, literal(data), modified=WHEN)
    else:
        source = Source({"big": data}, tags=how != "tag lost")
    await pushed(source, store, journal, to="")
    await check_tree(store, {"big": data})
    assert shop.parts[upload] == first  # nothing was added to it
    if encrypted:
        assert len({part[8:32] for part in shop.parts.values()}) == 2


async def test_a_file_without_a_version_is_gone_on_with_only_unencrypted(journal: Path) -> None:
    for encrypted in (False, True):
        shop = Shop()
        store: Tree = crypt(shop, Setting().keys, Setting().names()) if encrypted else shop
        source = Source({"big": DATA}, tags=False)
        await cut_off(source, shop, journal, store)
        await pushed(source, store, journal, to="")
        await check_tree(store, {"big": DATA})
        assert len(shop.parts) == 1 + encrypted
        journal.unlink()


async def test_a_file_that_was_changed_a_moment_ago_is_not_gone_on_with(local: Path, journal: Path) -> None:
    """Its times might not tell, were it changed again."""
    shop = Shop()
    os.utime(local / "big")
    await cut_off(LocalTree(local), shop, journal)
    await pushed(LocalTree(local), shop, journal, to="")
    assert len([data for data in shop.parts.values() if len(data) >= 3 * PART]) == 2
    assert await shop.all() == FILES


async def test_an_upload_that_the_store_has_forgotten_is_begun_anew(local: Path, journal: Path) -> None:
    shop = Shop()
    await cut_off(LocalTree(local), shop, journal)
    shop.parts.clear()
    summary = await pushed(LocalTree(local), shop, journal, to="")
    assert summary.failed == 0 and await shop.all() == FILES


# ── the journal ──


def begun(**changes: object) -> Begun:
    return replace(Begun("t", 10, "state", 5, "ab" * 32), **changes)  # type: ignore[arg-type]


DONE = Done("t", 10, "cd" * 32, "there")


def test_a_journal_remembers_for_its_owner_alone(journal: Path) -> None:
    made = sent.opened(journal)
    made.keep("a", begun())
    made.keep("a", begun(state="s2", read=7))
    made.finish("d/가\udcff\n", DONE)
    made.keep("gone", begun())
    made.drop("gone")
    for _ in range(2):
        assert made.begun("a") == begun(state="s2", read=7) and made.done("a") is None
        assert made.done("d/가\udcff\n") == DONE and made.begun("gone") is made.done("b") is None
        made.close()
        made = sent.opened(journal)
    made.close()
    assert stat.S_IMODE(journal.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in journal.parent.iterdir()} == {0o600}


def test_a_torn_journal_is_as_long_as_it_is_whole(journal: Path) -> None:
    made = sent.opened(journal)
    made.keep("a", begun())
    whole = journal.stat().st_size
    made.finish("b", DONE)
    made.close()
    data = journal.read_bytes()
    for cut in range(len(data)):
        journal.write_bytes(data[:cut])
        made = sent.opened(journal)
        assert (made.begun("a") is not None) == (cut >= whole) and made.done("b") is None
        made.keep("c", begun(size=cut))
        made.close()
        again = sent.opened(journal)
        assert again.begun("c") == begun(size=cut)
        again.close()
    journal.write_bytes(data[: whole + 12] + b"?" + data[whole + 13 :])
    made = sent.opened(journal)
    assert made.begun("a") == begun() and made.done("b") is None
    made.close()


def test_what_is_kept_is_on_the_disk_when_it_is_said_so(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    real = os.fdatasync

    def sync(fd: int) -> None:
        real(fd)
        synced.append(os.pread(fd, 1 << 20, 0))

    made = sent.opened(journal)
    monkeypatch.setattr(os, "fdatasync", sync)
    made.keep("a", begun())
    assert b'"begun":"a"' in synced[-1]
    made.drop("a")
    assert b'"dropped":"a"' in synced[-1]
    made.close()


def test_a_journal_that_grows_is_written_anew(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent, "SLACK", 5000)
    made = sent.opened(journal)
    made.finish("kept", DONE)
    for read in range(500):
        made.keep("a", begun(read=read))
    assert journal.stat().st_size < 8000
    made.close()
    again = sent.opened(journal)
    assert again.begun("a") == begun(read=499) and again.done("kept") == DONE
    again.close()


def test_many_threads_write_one_journal(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent, "SLACK", 2000)
    made = sent.opened(journal)

    async def write() -> None:
        await asyncio.gather(
            *(asyncio.to_thread(made.keep, f"{n % 40}", begun(read=n)) for n in range(200)),
            *(asyncio.to_thread(made.finish, f"done {n}", DONE) for n in range(50)),
        )

    asyncio.run(write())
    made.close()
    again = sent.opened(journal)
    assert len(again.lines) == 90
    again.close()


def test_one_process_has_a_journal(journal: Path) -> None:
    made = sent.opened(journal)
    with pytest.raises(Busy, match="by another process"):
        sent.opened(journal)
    made.close()
    sent.opened(journal).close()


@pytest.mark.parametrize("version", [2, "x"])
def test_a_journal_of_another_version_is_neither_read_nor_written(journal: Path, version: object) -> None:
    sent.opened(journal).close()
    data = sent._checked(json.dumps({"playhead": "push", "version": version}).encode())
    journal.write_bytes(data)
    with pytest.raises(Malformed, match="another version"):
        sent.opened(journal)
    assert journal.read_bytes() == data


def test_a_disk_without_room_for_the_journal_is_full(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = sent.opened(journal)
    before, real = journal.read_bytes(), os.write

    def write(fd: int, data: memoryview) -> int:
        if len(data) < 20:
            raise OSError(28, "no space")
        return real(fd, data[:-10])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        with pytest.raises(Full, match="journal"):
            made.keep("a", begun())
    assert journal.read_bytes() == before and made.begun("a") is None
    made.keep("a", begun())
    made.close()


async def test_a_journal_that_is_damaged_costs_no_wrong_byte(local: Path, journal: Path) -> None:
    shop, chance = Shop(), random.Random(4)
    await cut_off(LocalTree(local), shop, journal)
    data = journal.read_bytes()
    for _ in range(10):
        at = chance.randrange(len(data))
        journal.write_bytes(data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :])
        fresh = Shop()
        assert (await pushed(LocalTree(local), fresh, journal, to="")).failed == 0
        assert await fresh.all() == FILES


async def test_the_same_lock_is_of_the_journal_that_was_written_anew(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sent, "SLACK", 0)
    made: Journal = sent.opened(journal)
    for read in range(50):
        made.keep("a", begun(read=read))
    with pytest.raises(Busy):
        sent.opened(journal)
    with journal.with_suffix(".lock").open("rb") as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    made.close()


async def test_a_summary_counts_what_is_certain_and_what_is_on_its_way(local: Path) -> None:
    shop, seen = Shop(), list[tuple[int, int]]()
    summaries: list[Summary] = []

    async def before(path: str) -> None:
        if path == "to/big":
            seen.append((summaries[0].certain, summaries[0].given))

    def told(event: Event) -> None:
        summaries.append(event.summary)

    shop.before = before
    summary = await pushed(LocalTree(local), shop, told=told)
    assert all(certain <= given <= summary.size for certain, given in seen)
    assert summary.certain == summary.given == summary.size and not summary.flying


def test_times_are_near_as_stores_keep_them() -> None:
    assert sending._near(WHEN, WHEN + timedelta(seconds=2)) and not sending._near(WHEN, None)


async def test_names_of_every_kind_come_to_the_target(tmp_path: Path) -> None:
    files = {"a\nb": b"1", "\udcff": b"2", "-rf": b"3", "…／…": b"4", "d/..a": b"5", "{}'\" $(x)": b"6"}
    put(files, tmp_path / "source")
    (tmp_path / "target").mkdir()
    store = LocalStore(tmp_path / "target")
    assert (await pushed(LocalTree(tmp_path / "source"), store, to="")).failed == 0
    assert {path async for path, entry in walk(store) if not entry.folder} == set(files)


async def test_spans_of_files_are_sent_as_bytes(local: Path) -> None:
    """They are good only until the stream goes on, and are looked at before they leave."""

    class Looking(Shop):
        async def _put(self, path: str, blob: Blob, *given: object) -> Entry:  # type: ignore[override]
            async with aclosing(pieces(blob, 0, blob.size)) as stream:
                assert not any([isinstance(piece, FileSpan) async for piece in stream])
            return await super()._put(path, blob, *given)  # type: ignore[arg-type]

    assert (await pushed(LocalTree(local), Looking())).failed == 0
