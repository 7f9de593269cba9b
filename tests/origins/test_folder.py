"""A folder that is written to: whole files or none, never over another's, gone on with after a kill, never outside."""

import asyncio
import errno
import fcntl
import os
import random
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from playhead import Blob, Changed, Denied, Full, Malformed, NotFound, Unavailable, literal, walk
from playhead.blob import Pieces
from playhead.origins import folder
from playhead.origins.folder import LocalStore, equal
from playhead.origins.local import LocalTree
from tests.laws import check_tree

MIB = 1 << 20
DATA = random.Random(1).randbytes(5 * MIB + 77)
FILES = {"a.txt": b"a", "empty": b"", "d/e/f.MP3": DATA[:100_000], "d/가": b"2", "d/\udcff": b"3", "d/.hidden": b"4"}
WHEN = datetime(2001, 2, 3, 4, 5, 6, 789000, tzinfo=UTC)


def kept(_: str) -> None: ...


async def put(store: LocalStore, path: str, data: bytes | Blob, *, replaces: str | None = None) -> str | None:
    blob = literal(data) if isinstance(data, bytes) else data
    return (await store.put(path, blob, replaces=replaces, state=None, keep=kept)).tag


@dataclass(frozen=True, slots=True, eq=False)
class Breaking(Blob):
    """Bytes in pieces of 64 KiB that fail at an offset, as often as is said; what was asked for is remembered."""

    data: bytes
    at: int
    failure: BaseException
    times: list[int] = field(default_factory=lambda: [1])
    asked: list[tuple[int, int]] = field(default_factory=list)

    async def stream(self, start: int, stop: int) -> Pieces:
        self.asked.append((start, stop))
        for at in range(start, stop, 65536):
            if at >= self.at and self.times[0]:
                self.times[0] -= 1
                raise self.failure
            yield self.data[at : min(at + 65536, stop)]


def breaking(at: int, failure: BaseException | None = None, data: bytes = DATA) -> Breaking:
    return Breaking(len(data), "t", data, at, failure or Unavailable("gone"), modified=WHEN)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "PART", MIB)


def names(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*") if not path.is_dir()}


# ── what is written ──


async def test_what_is_put_is_there_with_its_bytes_and_its_time(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for path, data in FILES.items():
        blob = Breaking(len(data), "t", data, MIB, Unavailable(""), modified=WHEN)
        entry = await store.put(path, blob, replaces=None, state=None, keep=kept)
        assert entry == await store.find(path)
        assert (entry.size, entry.modified) == (len(data), WHEN)
        assert entry.tag == (await store.open(path)).tag
    await check_tree(store, FILES)
    await check_tree(LocalTree(tmp_path), FILES)


async def test_a_file_of_this_machine_is_put_by_its_spans(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    (tmp_path / "from" / "f").write_bytes(DATA)
    blob = await LocalTree(tmp_path / "from").open("f")
    await put(LocalStore(tmp_path / "to"), "f", blob)
    assert (tmp_path / "to" / "f").read_bytes() == DATA
    times = [(tmp_path / place / "f").stat().st_mtime_ns for place in ("from", "to")]
    assert abs(times[0] - times[1]) < 2000


async def test_nothing_is_listed_before_it_is_whole_and_parts_are_never_shown(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    (tmp_path / "d").mkdir()

    @dataclass(frozen=True, slots=True, eq=False)
    class Looking(Blob):
        async def stream(self, start: int, stop: int) -> Pieces:
            for at in range(start, stop, MIB):
                assert [path async for path, _ in walk(store)] == ["d"]
                yield DATA[at : min(at + MIB, stop)]
                assert len(names(tmp_path)) == 1
            (temp,) = names(tmp_path)
            for call in (store.find, store.open):
                with pytest.raises(NotFound):
                    await call(temp)
            with pytest.raises(NotFound):
                store.contents([temp])

    await put(store, "d/f", Looking(len(DATA), "t"))
    assert names(tmp_path) == {"d/f"}


@pytest.mark.parametrize(
    "path",
    ["", "../x", "a/../b", "/a", "a//b", "a\0b", ".", "x" * 256, "가" * 86, ".f.playhead-0123456789abcdef", "a.txt/f"],
)
async def test_what_is_no_name_is_refused_by_name(tmp_path: Path, path: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.txt").write_bytes(b"a")
    with pytest.raises(Malformed) as caught:
        await put(LocalStore(tmp_path / "root"), path, b"x")
    assert repr(path)[1:8] in str(caught.value) or "a.txt" in str(caught.value)
    assert "\n" not in str(caught.value) and str(tmp_path) not in str(caught.value)
    assert names(tmp_path) == {"root/a.txt"}


@pytest.mark.parametrize("length", [200, 229, 230, 255])
async def test_a_name_as_long_as_may_be_is_written_and_gone_on_with(tmp_path: Path, length: int) -> None:
    store, name, states = LocalStore(tmp_path), "x" * length, list[str]()
    blob = breaking(3 * MIB)
    with pytest.raises(Unavailable):
        await store.put(name, blob, replaces=None, state=None, keep=states.append)
    await LocalStore(tmp_path).put(name, blob, replaces=None, state=states[-1], keep=kept)
    assert blob.asked[-1][0] >= 2 * MIB
    assert (tmp_path / name).read_bytes() == DATA and len(names(tmp_path)) == 1


async def test_a_link_never_leads_a_file_out_of_the_folder(tmp_path: Path) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    root.mkdir()
    out.mkdir()
    (out / "f").write_bytes(b"theirs")
    (root / "d").symlink_to(out)
    (root / "f").symlink_to(out / "f")
    (root / "dangling").symlink_to(out / "new")
    store = LocalStore(root)
    for path, kind in (("d/f", Denied), ("d/new", Denied), ("d/e/new", Denied), ("f", Changed), ("dangling", Changed)):
        with pytest.raises(kind):
            await put(store, path, b"x")
    with pytest.raises(Denied):
        await put(store, "f", b"x", replaces="t")
    assert names(out) == {"f"} and (out / "f").read_bytes() == b"theirs"


async def test_a_link_within_the_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "l").symlink_to("d")
    store = LocalStore(tmp_path)
    tag = await put(store, "l/f", b"1")
    (tmp_path / "f").symlink_to("d/f")
    await put(store, "f", b"22", replaces=(await store.find("f")).tag)
    assert (tmp_path / "d" / "f").read_bytes() == b"22" and (tmp_path / "f").is_symlink()
    assert tag != (await store.find("l/f")).tag


# ── versions ──


async def test_a_file_that_is_there_is_never_overwritten_unless_it_is_the_version_that_may_be(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    first = await put(store, "f", b"one")
    with pytest.raises(Changed):
        await put(store, "f", b"two")
    (tmp_path / "f").chmod(0o640)
    second = await put(store, "f", b"two!", replaces=(await store.find("f")).tag)
    for replaces in (first, "nonsense"):
        with pytest.raises(Changed):
            await put(store, "f", b"three", replaces=replaces)
    with pytest.raises(Changed):
        await put(store, "g", b"three", replaces=second)
    assert await (await store.open("f")).read() == b"two!"
    assert names(tmp_path) == {"f"} and (tmp_path / "f").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("renaming", [True, False], ids=["renameat2", "link"])
@pytest.mark.parametrize("replaces", [True, False])
async def test_what_comes_to_be_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renaming: bool, replaces: bool
) -> None:
    if not renaming:
        monkeypatch.setattr(folder, "_libc", None)
    store = LocalStore(tmp_path)
    tag = await put(store, "f", b"old") if replaces else None

    @dataclass(frozen=True, slots=True, eq=False)
    class Racing(Blob):
        async def stream(self, start: int, stop: int) -> Pieces:
            yield b"mine"
            (tmp_path / "f").write_bytes(b"theirs")

    with pytest.raises(Changed):
        await put(store, "f", Racing(4, "t"), replaces=tag)
    assert (tmp_path / "f").read_bytes() == b"theirs" and names(tmp_path) == {"f"}
    await put(store, "g", b"g")
    assert names(tmp_path) == {"f", "g"} and (tmp_path / "g").stat().st_nlink == 1


async def test_of_many_that_write_one_file_one_wins(tmp_path: Path) -> None:
    stores = [LocalStore(tmp_path), LocalStore(tmp_path)]
    results = await asyncio.gather(
        *(put(stores[n % 2], "d/e/f", bytes([n]) * 100_000) for n in range(10)), return_exceptions=True
    )
    won = [n for n, result in enumerate(results) if isinstance(result, str)]
    assert len(won) == 1 and all(isinstance(result, str | Changed) for result in results)
    assert (tmp_path / "d/e/f").read_bytes() == bytes(won) * 100_000
    assert names(tmp_path) == {"d/e/f"}


async def test_it_holds_what_it_holds(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    await put(store, "f", DATA)
    assert await store.holds("f", literal(DATA))
    for other in (DATA[:-1], DATA[:-1] + b"?", b"?" + DATA[1:], DATA + b"?", b""):
        assert not await store.holds("f", literal(other))
    with pytest.raises(NotFound):
        await store.holds("g", literal(DATA))


async def test_equal_blobs_are_equal_however_they_come() -> None:
    assert await equal(breaking(9 * MIB), literal(DATA)) and await equal(literal(b""), literal(b""))
    assert not await equal(breaking(9 * MIB), literal(DATA[: 2 * MIB] + b"?" + DATA[2 * MIB + 1 :]))


# ── going on ──


async def test_what_was_written_is_gone_on_with_by_another_process(tmp_path: Path) -> None:
    states = list[str]()
    blob = breaking(3 * MIB + 500_000)
    with pytest.raises(Unavailable):
        await LocalStore(tmp_path).put("d/f", blob, replaces=None, state=None, keep=states.append)
    assert [int(state.split()[1]) for state in states] == [MIB, 2 * MIB, 3 * MIB]
    for certain in states:
        assert len(names(tmp_path)) == 1
        (temp,) = (tmp_path / "d").iterdir()
        assert temp.read_bytes() == DATA[: temp.stat().st_size] and temp.stat().st_size >= 3 * MIB, certain
    await LocalStore(tmp_path).put("d/f", blob, replaces=None, state=states[-1], keep=kept)
    assert blob.asked == [(0, len(DATA)), (3 * MIB, len(DATA))]
    assert (tmp_path / "d/f").read_bytes() == DATA and names(tmp_path) == {"d/f"}


async def test_what_was_written_behind_what_is_certain_is_written_again(tmp_path: Path) -> None:
    """It may be of another version, or not have come to the disk."""
    states = list[str]()
    with pytest.raises(Unavailable):
        await LocalStore(tmp_path).put("f", breaking(4 * MIB), replaces=None, state=None, keep=states.append)
    (temp,) = tmp_path.iterdir()
    temp.write_bytes(DATA[: 2 * MIB] + bytes(4 * MIB))
    await LocalStore(tmp_path).put("f", literal(DATA), replaces=None, state=states[1], keep=kept)
    assert (tmp_path / "f").read_bytes() == DATA


@pytest.mark.parametrize(
    "state",
    [
        "x",
        "../../f 5",
        ".f.playhead-0123456789abcdef 5",
        ".g.playhead-{0} 1048576",
        "{1} -1",
        "{1} 99999999",
        "{1}",
        " ",
    ],
)
async def test_a_state_that_is_not_of_this_file_is_begun_anew_and_what_was_left_is_removed(
    tmp_path: Path, state: str
) -> None:
    with pytest.raises(Unavailable):
        await LocalStore(tmp_path).put("f", breaking(2 * MIB), replaces=None, state=None, keep=kept)
    (temp,) = tmp_path.iterdir()
    (tmp_path / "other").write_bytes(b"theirs")
    text = state.format(temp.name[-16:], temp.name)
    await LocalStore(tmp_path).put("f", literal(DATA), replaces=None, state=text, keep=kept)
    assert (tmp_path / "f").read_bytes() == DATA
    assert names(tmp_path) == {"f", "other"}


async def test_a_part_that_another_process_writes_is_neither_gone_on_with_nor_removed(tmp_path: Path) -> None:
    states = list[str]()
    with pytest.raises(Unavailable):
        await LocalStore(tmp_path).put("f", breaking(2 * MIB), replaces=None, state=None, keep=states.append)
    (temp,) = tmp_path.iterdir()
    before = temp.read_bytes()
    with temp.open("rb") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        await LocalStore(tmp_path).put("f", literal(DATA), replaces=None, state=states[-1], keep=kept)
        assert temp.read_bytes() == before
    assert (tmp_path / "f").read_bytes() == DATA


async def test_a_link_in_place_of_a_part_is_not_written_through(tmp_path: Path) -> None:
    states = list[str]()
    with pytest.raises(Unavailable):
        await LocalStore(tmp_path).put("f", breaking(2 * MIB), replaces=None, state=None, keep=states.append)
    (temp,) = tmp_path.iterdir()
    temp.unlink()
    (tmp_path / "theirs").write_bytes(bytes(3 * MIB))
    temp.symlink_to(tmp_path / "theirs")
    await LocalStore(tmp_path).put("f", literal(DATA), replaces=None, state=states[-1], keep=kept)
    assert (tmp_path / "theirs").read_bytes() == bytes(3 * MIB)
    assert (tmp_path / "f").read_bytes() == DATA


async def test_a_part_that_was_given_up_for_another_version_is_removed_by_the_same_process(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with pytest.raises(Changed):
        await store.put("f", breaking(2 * MIB, Changed("")), replaces=None, state=None, keep=kept)
    assert len(names(tmp_path)) == 1
    await put(store, "f", b"new")
    assert names(tmp_path) == {"f"}


async def test_of_little_nothing_is_left(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for failure in (Unavailable("gone"), RuntimeError("a bug"), asyncio.CancelledError()):
        with pytest.raises(type(failure)):
            await put(store, "f", breaking(200_000, failure))
        assert names(tmp_path) == set()


async def test_whoever_is_cancelled_leaves_what_is_certain(tmp_path: Path) -> None:
    states, written = list[str](), asyncio.Event()

    @dataclass(frozen=True, slots=True, eq=False)
    class Endless(Blob):
        async def stream(self, start: int, stop: int) -> Pieces:
            for at in range(start, 3 * MIB, 65536):
                yield DATA[at : at + 65536]
            written.set()
            await asyncio.sleep(60)

    putting = asyncio.create_task(
        LocalStore(tmp_path).put("f", Endless(len(DATA), "t"), replaces=None, state=None, keep=states.append)
    )
    await written.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    await LocalStore(tmp_path).put("f", literal(DATA), replaces=None, state=states[-1], keep=kept)
    assert (tmp_path / "f").read_bytes() == DATA and names(tmp_path) == {"f"}


# ── disks ──


def failing(name: str, number: int, real: Callable[..., object], after: int = 0) -> Callable[..., object]:
    count = [0]

    def call(*given: object, **named: object) -> object:
        count[0] += 1
        if count[0] > after:
            raise OSError(number, os.strerror(number))
        return real(*given, **named)

    return call


async def test_a_disk_that_becomes_full_is_full_and_what_came_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = list[str]()
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", failing("pwrite", errno.ENOSPC, os.pwrite, after=50))
        blob = breaking(9 * MIB)
        with pytest.raises(Full, match="'f' cannot be written: no space left"):
            await LocalStore(tmp_path).put("f", blob, replaces=None, state=None, keep=states.append)
    assert int(states[-1].split()[1]) > 3 * MIB - 70_000
    await LocalStore(tmp_path).put("f", blob, replaces=None, state=states[-1], keep=kept)
    assert (tmp_path / "f").read_bytes() == DATA and names(tmp_path) == {"f"}


async def test_what_does_not_fit_is_refused_before_it_is_written(tmp_path: Path) -> None:
    @dataclass(frozen=True, slots=True, eq=False)
    class Huge(Blob):
        def stream(self, start: int, stop: int) -> Pieces:
            raise AssertionError("nothing is to be read")

    with pytest.raises(Full, match="are free"):
        await put(LocalStore(tmp_path), "f", Huge(1 << 60, "t"))
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    ("call", "number", "kind"),
    [
        ("fsync", errno.EIO, "Damaged"),
        ("mkdir", errno.EACCES, "Denied"),
        ("mkdir", errno.EROFS, "Denied"),
        ("pwrite", errno.EFBIG, "Malformed"),
        ("pwrite", errno.EDQUOT, "Full"),
        ("fdatasync", errno.EIO, "Damaged"),
    ],
)
async def test_what_fails_is_told_and_nothing_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, kind: str
) -> None:
    monkeypatch.setattr(os, call, failing(call, number, getattr(os, call)))
    with pytest.raises(Exception, match="cannot be written") as caught:
        await put(LocalStore(tmp_path), "d/f", DATA)
    assert type(caught.value).__name__ == kind and str(tmp_path) not in str(caught.value)
    assert not (tmp_path / "d" / "f").exists()


async def test_a_short_stream_is_never_published(tmp_path: Path) -> None:
    @dataclass(frozen=True, slots=True, eq=False)
    class Short(Blob):
        async def stream(self, start: int, stop: int) -> Pieces:
            yield DATA[: self.size - 1]

    with pytest.raises(Exception, match="and not"):
        await put(LocalStore(tmp_path), "f", Short(1000, "t"))
    assert names(tmp_path) == set()


async def test_an_open_file_that_was_replaced_is_not_read_as_the_new_one(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    tag = await put(store, "f", DATA)
    old = await store.open("f")
    await put(store, "f", DATA[::-1], replaces=tag)
    assert await (await store.open("f")).read() == DATA[::-1]
    with suppress(Changed):
        async with aclosing(old.stream(0, 100)) as stream:
            async for piece in stream:
                assert piece.read() == DATA[:100]  # type: ignore[union-attr]
