"""The reservoir: whatever happens to its folder, it gives right bytes or none, and never takes more than it may."""

import errno
import gc
import itertools
import mmap
import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from playhead import Busy, Damaged
from playhead.blob import FileSpan
from playhead.errors import Full
from playhead.transforms import journal, reservoir, shelf
from playhead.transforms.journal import BLOCK, RUN
from playhead.transforms.kept import Kept
from playhead.transforms.reservoir import Reservoir
from playhead.transforms.shelf import LARGEST

MIB = 1 << 20
SIZE = 2 * RUN + 5 * BLOCK + 77  # of a file, unless said otherwise
OPEN: list[Reservoir] = []


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is looked at once a while is looked at each time; and whatever a test opened is closed."""
    monkeypatch.setattr(shelf, "SOUND", 0.0)
    monkeypatch.setattr(reservoir, "AGAIN", 0.0)
    monkeypatch.setattr(reservoir, "MOMENT", 0.0)
    yield
    gc.collect()
    while OPEN:
        with suppress(OSError):
            os.close(OPEN.pop().lock_file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "blocks"


def opened(folder: Path, size: int = 64 * MIB, free: int = 0) -> Reservoir:
    OPEN.append(Reservoir(str(folder), size, free))
    return OPEN[-1]


def killed(store: Reservoir) -> None:
    """Its process is no more, and said nothing."""
    OPEN.remove(store)
    os.close(store.lock_file)


def closed(store: Reservoir) -> None:
    OPEN.remove(store)
    store.close()


def bytes_of(tag: str, size: int = SIZE) -> bytes:
    return random.Random(tag).randbytes(size)


def file_of(store: Reservoir, tag: str, size: int = SIZE) -> Kept:
    kept = store.kept(tag, size, f"name of {tag}")
    assert kept is not None
    return kept


def write(store: Reservoir, kept: Kept, start: int = 0, stop: int | None = None, **how: bool) -> bool:
    """Keep [start, stop), written in runs as fills do; True: all of it is kept."""
    data, stop = bytes_of(kept.tag, kept.size), kept.size if stop is None else stop
    for at in range(start // RUN * RUN, stop, RUN):
        a, b = max(start, at), min(stop, at + RUN)
        memory = memoryview(mmap.mmap(-1, RUN))  # begins at a page
        memory[: b - a] = data[a:b]
        store.write(kept, [(a, memory[: b - a])], **how)
    return kept.held(start, stop) == stop - start


def filled(store: Reservoir, tag: str, size: int = SIZE, **how: bool) -> Kept:
    kept = file_of(store, tag, size)
    assert write(store, kept, **how)
    return kept


def given(store: Reservoir, kept: Kept) -> int:
    """How many bytes are given, each of them right."""
    data, count = bytes_of(kept.tag, kept.size), 0
    for at in range(0, kept.size, BLOCK):
        span = store.lease(kept, at, min(at + BLOCK, kept.size), touch=False)
        if span is not None:
            assert (span.offset, span.read()) == (at, data[at : at + span.length])
            count += span.length
    return count


def checked(store: Reservoir, kept: Kept) -> int:
    """The same, after what was unsure was compared."""
    store.check(kept, 0, kept.size)
    return given(store, kept)


def on_disk(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.iterdir())


def accounted(store: Reservoir) -> int:
    """What `used` must be when nothing is going on."""
    beside = sum(shelf.beside(kept) for kept in store.files.values())
    return sum(kept.bytes for kept in store.files.values()) + beside + sum(size for size, _ in store.waiting.values())


def flip(path: Path, chance: random.Random, count: int = 1) -> None:
    with path.open("r+b") as file:
        for _ in range(count):
            at = chance.randrange(path.stat().st_size)
            file.seek(at)
            old = file.read(1)[0]
            file.seek(at)
            file.write(bytes([old ^ 1 << chance.randrange(8)]))


# ── writing and reading ──


def test_what_was_written_is_given(folder: Path) -> None:
    store = opened(folder)
    kept = filled(store, "a")
    span = store.lease(kept, 0, SIZE)
    assert span is not None
    assert (span.length, span.read()) == (SIZE, bytes_of("a"))
    assert store.used == accounted(store)
    assert on_disk(folder) <= store.used


def test_nothing_is_given_of_what_was_not_written(folder: Path) -> None:
    store = opened(folder)
    kept = file_of(store, "a")
    assert store.lease(kept, 0, SIZE) is None
    assert write(store, kept, BLOCK, 3 * BLOCK)
    assert store.lease(kept, 0, SIZE) is None
    assert store.lease(kept, 3 * BLOCK, SIZE) is None
    span = store.lease(kept, BLOCK + 5, SIZE)
    assert span is not None
    assert span.read() == bytes_of("a")[BLOCK + 5 : 3 * BLOCK]


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1, RUN, RUN + 1, 3 * RUN])
@pytest.mark.parametrize("direct", [False, True])
def test_files_of_any_size_are_kept(folder: Path, size: int, direct: bool) -> None:
    store = opened(folder)
    assert given(store, filled(store, "a", size, direct=direct)) == size
    killed(store)
    again = opened(folder)
    assert checked(again, file_of(again, "a", size)) == size


def test_a_span_is_no_longer_than_a_lease(folder: Path) -> None:
    store = opened(folder)
    kept = filled(store, "a", 17 * MIB)
    span = store.lease(kept, 5, 17 * MIB)
    assert span is not None
    assert span.length == reservoir.LEASE


def test_blocks_that_are_here_are_not_written_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(folder)
    kept = file_of(store, "a")
    write(store, kept, BLOCK, 2 * BLOCK)
    offsets = []
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: offsets.append(at) or pwrite(fd, data, at))
    assert write(store, kept, 0, RUN)
    assert offsets == [0, 2 * BLOCK]
    assert (store.used, given(store, kept)) == (accounted(store), RUN)


@pytest.mark.parametrize("seed", range(4))
def test_threads_that_write_and_read_at_the_same_time_get_right_bytes(folder: Path, seed: int) -> None:
    store = opened(folder, 8 * MIB)
    wrong: list[BaseException] = []

    def busy(number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        try:
            for _ in range(12):
                kept = file_of(store, f"f{chance.randrange(5)}")
                write(store, kept, chance.randrange(3) * RUN, SIZE)
                store.check(kept, 0, SIZE)
                given(store, kept)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=busy, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert store.used <= store.size
    assert on_disk(folder) <= store.size + MIB


def test_a_size_beyond_the_largest_is_not_kept(folder: Path) -> None:
    assert opened(folder).kept("a", LARGEST + 1) is None


def test_a_promise_that_was_broken_begins_anew(folder: Path) -> None:
    store = opened(folder)
    filled(store, "a")
    other = file_of(store, "a", SIZE + 1)
    assert given(store, other) == 0
    assert (store.used, accounted(store)) == (0, 0)
    assert write(store, other)
    assert given(store, other) == SIZE + 1


def test_one_folder_is_for_one_process(folder: Path) -> None:
    store = opened(folder)
    with pytest.raises(Busy):
        Reservoir(str(folder), MIB)
    closed(store)
    opened(folder)


# ── restarts ──


@pytest.mark.parametrize("end", [closed, killed])
def test_what_was_kept_is_unsure_after_a_restart_and_given_once_it_was_compared(folder: Path, end: object) -> None:
    store = opened(folder)
    filled(store, "a")
    write(store, file_of(store, "b"), RUN, SIZE)
    used = store.used
    end(store)  # type: ignore[operator]
    again = opened(folder)
    assert again.used <= used + 2 * reservoir.OVERHEAD
    for tag, size in (("a", SIZE), ("b", SIZE - RUN)):
        kept = file_of(again, tag)
        assert (given(again, kept), kept.held(SIZE - size, SIZE)) == (0, size)
        assert checked(again, kept) == size
    assert again.used == accounted(again) == used


def test_a_file_can_be_kept_on_after_a_restart(folder: Path) -> None:
    store = opened(folder)
    write(store, file_of(store, "a"), 0, RUN)
    killed(store)
    again = opened(folder)
    kept = file_of(again, "a")
    assert write(again, kept)
    assert checked(again, kept) == SIZE
    killed(again)
    last = opened(folder)
    assert checked(last, file_of(last, "a")) == SIZE


def test_the_order_of_use_outlives_a_restart(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1e9
    monkeypatch.setattr("time.time", lambda: now)
    store = opened(folder, 16 * MIB)
    for tag in "abc":
        now += 100
        filled(store, tag, 4 * RUN)
    now += 100
    a = file_of(store, "a", 4 * RUN)
    assert store.lease(a, 0, RUN)
    del a
    closed(store)
    again = opened(folder, 16 * MIB)
    filled(again, "d", 5 * RUN)
    here = {tag: file_of(again, tag, 4 * RUN).held(0, 4 * RUN) for tag in "abc"}
    assert here == {"a": 4 * RUN, "b": 0, "c": 4 * RUN}


def test_a_journal_that_was_written_anew_says_what_is_here(folder: Path) -> None:
    store = opened(folder)
    kept = filled(store, "a", 2 * RUN)
    store._record(kept, [(RUN // BLOCK, 0, journal.UNPINNED)])  # so that the limit is passed by a write
    before = 0
    while before <= kept.records:
        before = kept.records
        store._drop(kept, [0])
        assert write(store, kept, 0, RUN)
    assert given(store, kept) == 2 * RUN
    killed(store)
    again = opened(folder)
    assert checked(again, file_of(again, "a", 2 * RUN)) == 2 * RUN


def test_what_a_kill_left_unrecorded_does_not_stay_on_the_disk(folder: Path) -> None:
    store = opened(folder)
    kept = file_of(store, "a", 8 * RUN)
    write(store, kept, 0, BLOCK)
    with (folder / f"{kept.key}.data").open("r+b") as file:
        file.seek(RUN)
        file.write(bytes_of("x", 6 * RUN))  # as by writers that were killed before they could record it
    killed(store)
    again = opened(folder)
    assert checked(again, file_of(again, "a", 8 * RUN)) == BLOCK
    assert on_disk(folder) <= again.used + 64 * 1024


def test_what_was_left_half_done_is_removed(folder: Path) -> None:
    store = opened(folder)
    kept = filled(store, "a")
    killed(store)
    (folder / f"{'0' * 32}.data").write_bytes(bytes(RUN))
    (folder / f"{kept.key}.new").write_bytes(bytes(RUN))
    again = opened(folder)
    assert checked(again, file_of(again, "a")) == SIZE
    assert on_disk(folder) <= again.used


# ── what must never be given ──


@pytest.mark.parametrize("seed", range(40))
def test_bits_that_flipped_while_down_are_never_given(folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    store = opened(folder)
    for tag in "abc":
        filled(store, tag)
    killed(store)
    for path in folder.iterdir():
        if path.name != "lock" and chance.random() < 0.8:
            flip(path, chance, chance.randint(1, 3))
    again = opened(folder)
    for tag in "abc":
        kept = file_of(again, tag)
        checked(again, kept)
        write(again, kept)
        assert checked(again, kept) == SIZE
    assert again.used == accounted(again)
    assert on_disk(folder) <= again.used + MIB


def test_one_bad_block_costs_one_block(folder: Path) -> None:
    store = opened(folder)
    path = Path(filled(store, "a").path + ".data")
    killed(store)
    with path.open("r+b") as file:
        file.seek(5 * BLOCK)
        file.write(b"wrong")
    again = opened(folder)
    kept = file_of(again, "a")
    assert checked(again, kept) == SIZE - BLOCK
    assert (again.bad, again.used) == (1, accounted(again))
    assert write(again, kept)
    assert checked(again, kept) == SIZE


def test_verifying_finds_what_flipped_while_running(folder: Path) -> None:
    store = opened(folder)
    a, b = filled(store, "a"), filled(store, "b")
    flip(Path(a.path + ".data"), random.Random(1))
    told = []
    assert store.verify(lambda kept, bad: told.append((kept.tag, bad))) == 1
    assert sorted(told) == [("a", 1), ("b", 0)]
    assert given(store, a) >= SIZE - BLOCK
    assert given(store, b) == SIZE


def test_a_bad_block_is_dropped_though_others_of_its_run_are_being_sent(folder: Path) -> None:
    store = opened(folder)
    path = Path(filled(store, "a").path + ".data")
    killed(store)
    with path.open("r+b") as file:
        file.seek(12 * BLOCK)
        file.write(b"wrong")
    again = opened(folder)
    kept = file_of(again, "a")
    again.check(kept, 0, 4 * BLOCK)
    span = again.lease(kept, 0, 4 * BLOCK)
    assert span is not None
    again.check(kept, 4 * BLOCK, RUN)
    assert not kept.held(12 * BLOCK, 13 * BLOCK)
    assert span.read() == bytes_of("a")[: 4 * BLOCK]


@pytest.mark.parametrize("ending", ["data", "journal"])
@pytest.mark.parametrize("down", [True, False])
@pytest.mark.parametrize("open_", [True, False])
@pytest.mark.parametrize("how", ["removed", "cut", "emptied", "unreadable"])
def test_files_that_are_spoilt_give_right_bytes_or_none(
    folder: Path, ending: str, down: bool, open_: bool, how: str
) -> None:
    # shows (cut and emptied data files, running, not open): reopening fills the file up with zeros, which are given
    store = opened(folder)
    kept = filled(store, "a")
    path = Path(f"{kept.path}.{ending}")
    if down:
        killed(store)
    elif not open_:
        kept.file = None  # as when too many files are open
        store.open.clear()
    if how == "removed":
        path.unlink()
    elif how == "unreadable":
        path.unlink()
        path.mkdir()
    else:
        os.truncate(path, 0 if how == "emptied" else path.stat().st_size // 2)
    if down:
        store = opened(folder)
    kept = file_of(store, "a")
    with suppress(Damaged):
        given(store, kept)
    checked(store, file_of(store, "a"))
    if how != "unreadable":
        kept = file_of(store, "a")
        assert write(store, kept)
        assert checked(store, kept) == SIZE
        assert store.used == accounted(store)


def test_a_journal_that_was_removed_while_running_is_made_again(folder: Path) -> None:
    store = opened(folder)
    kept = file_of(store, "a")
    write(store, kept, 0, RUN)
    Path(kept.path + ".journal").unlink()
    write(store, kept)
    assert given(store, kept) >= SIZE - RUN
    killed(store)
    again = opened(folder)
    assert checked(again, file_of(again, "a")) >= SIZE - RUN


def test_a_folder_that_was_removed_while_running_is_made_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(folder)
    kept = filled(store, "a")
    shutil.rmtree(folder)
    assert store.lease(kept, 0, SIZE) is None
    store.room_until = 0.0
    assert given(store, kept) == 0
    for tag in "ab":
        write(store, file_of(store, tag))
        store.pause_until = 0.0
        kept = file_of(store, tag)
        assert write(store, kept)
        assert given(store, kept) == SIZE
    assert store.used == accounted(store)


def test_files_of_another_version_are_left_alone(folder: Path) -> None:
    store = opened(folder)
    kept = filled(store, "a")
    killed(store)
    path = Path(kept.path + ".journal")
    path.write_bytes(path.read_bytes()[:8] + b"\x63\x00" + path.read_bytes()[10:])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    again = opened(folder, 4 * MIB)
    assert again.kept("a", SIZE) is None
    for tag in "bcd":
        write(again, file_of(again, tag))
        checked(again, file_of(again, tag))
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert on_disk(folder) <= again.size + MIB


# ── room ──


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [4 * MIB, 16 * MIB])
def test_it_never_takes_more_than_it_may(folder: Path, seed: int, size: int) -> None:
    chance = random.Random(seed)
    store = opened(folder, size)
    for turn in range(60):
        kept = file_of(store, f"f{chance.randrange(8)}")
        start = chance.randrange(0, SIZE, BLOCK)
        write(store, kept, start, min(SIZE, start + chance.choice([BLOCK, 3 * BLOCK, RUN])))
        given(store, kept)
        assert store.used <= size
        assert on_disk(folder) <= size + MIB
        if turn % 20 == 19:
            assert store.used == accounted(store)
            killed(store)
            del kept
            store = opened(folder, size)


@pytest.mark.parametrize("loaded", [False, True])
def test_files_of_an_earlier_run_make_room(folder: Path, loaded: bool) -> None:
    # shows (loaded): a file that was loaded but not opened is called freed without its bytes being punched out
    store = opened(folder, 16 * MIB)
    for number in range(2):
        filled(store, f"f{number}", 7 * RUN)
    killed(store)
    again = opened(folder, 16 * MIB)
    if loaded:
        assert len(again.all()) == 2
    for number in range(20):
        kept = file_of(again, f"g{number}", 3 * RUN)
        assert write(again, kept)
        assert given(again, kept) == 3 * RUN
        assert on_disk(folder) <= 17 * MIB


def test_a_quota_that_became_smaller_is_kept(folder: Path) -> None:
    store = opened(folder, 32 * MIB)
    for number in range(10):
        filled(store, f"f{number}")
    killed(store)
    again = opened(folder, 8 * MIB)
    filled(again, "new")
    assert on_disk(folder) <= 9 * MIB


def test_many_files_do_not_open_more_than_a_few(folder: Path) -> None:
    store = opened(folder)
    store.most_open = 4
    all_kept = [filled(store, f"f{number}", BLOCK) for number in range(12)]
    assert len(store.open) == 4
    assert sum(kept.file is not None for kept in all_kept) == 4
    for kept in all_kept:
        assert given(store, file_of(store, kept.tag, BLOCK)) == BLOCK
    assert len(store.open) == 4


def test_what_is_not_open_can_be_evicted_in_part(folder: Path) -> None:
    store = opened(folder, 16 * MIB)
    store.most_open = 1
    for number in range(12):
        filled(store, f"f{number}", 7 * RUN)
        assert on_disk(folder) <= 17 * MIB


def the_rest(store: Reservoir, kept: Kept) -> list[int]:
    """The runs of a file that are here."""
    return [run for run in range(len(kept.touched)) if kept.held(run * RUN, (run + 1) * RUN)]


def evicted_in_order(order: list[tuple[Kept, int]]) -> int:
    """How many runs are gone; those that stand first in an order must be gone first."""
    here = [bool(kept.held(run * RUN, (run + 1) * RUN)) for kept, run in order]
    assert here == sorted(here)
    return here.count(False)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at it is ten seconds later."""
    ticks = itertools.count(10**9, 10)
    monkeypatch.setattr("time.time", lambda: float(next(ticks)))


@pytest.mark.usefixtures("clock")
class TestEviction:
    """Two files of 7 MiB in 16 MiB, and then more."""

    @pytest.mark.parametrize("more", range(2, 9))
    def test_the_oldest_go_first(self, folder: Path, more: int) -> None:
        store = opened(folder, 16 * MIB)
        a, b = filled(store, "a", 7 * RUN), filled(store, "b", 7 * RUN)
        filled(store, "c", more * RUN)
        gone = evicted_in_order([(kept, run) for kept in (a, b) for run in range(7)])
        assert more - 2 <= gone <= more

    @pytest.mark.parametrize("more", range(2, 9))
    def test_what_is_touched_again_stays(self, folder: Path, more: int) -> None:
        store = opened(folder, 16 * MIB)
        a, b = filled(store, "a", 7 * RUN), filled(store, "b", 7 * RUN)
        assert store.lease(a, 2 * RUN, 4 * RUN)
        filled(store, "c", more * RUN)
        gone = evicted_in_order([(a, 0), (a, 1), *((a, run) for run in range(4, 7)), *((b, run) for run in range(7))])
        assert more - 2 <= gone <= more
        assert the_rest(store, a)[:2] == [2, 3] or 2 in the_rest(store, a)

    @pytest.mark.parametrize("more", range(2, 9))
    def test_what_is_cold_goes_first(self, folder: Path, more: int) -> None:
        store = opened(folder, 16 * MIB)
        a, b = filled(store, "a", 7 * RUN), filled(store, "b", 7 * RUN, cold=True)
        filled(store, "c", more * RUN)
        evicted_in_order([(kept, run) for kept in (b, a) for run in range(7)])

    @pytest.mark.parametrize("more", range(2, 6))
    def test_where_nearly_all_was_touched_again_age_alone_counts(self, folder: Path, more: int) -> None:
        store = opened(folder, 16 * MIB)
        a = filled(store, "a", 14 * RUN)
        assert store.lease(a, 0, 14 * RUN)
        filled(store, "b", RUN)
        write(store, file_of(store, "c", more * RUN))
        assert evicted_in_order([(a, run) for run in range(14)]) >= 1

    def test_a_long_read_does_not_flush_what_is_listened_to(self, folder: Path) -> None:
        store = opened(folder, 16 * MIB)
        a = filled(store, "a", 5 * RUN)
        assert store.lease(a, 0, 5 * RUN)
        write(store, file_of(store, "film", 40 * RUN))
        assert given(store, a) == 5 * RUN

    def test_what_is_played_once_however_slowly_goes_before_what_is_played_again(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = 1e9
        monkeypatch.setattr(reservoir, "AGAIN", 120.0)
        monkeypatch.setattr(reservoir, "MOMENT", 2.0)
        monkeypatch.setattr(time, "time", lambda: clock)
        store = opened(folder, 16 * MIB)

        def play(kept: Kept) -> None:
            nonlocal clock
            for at in range(0, kept.size, BLOCK):  # as at 320 kbit/s
                clock += BLOCK / 40_000
                assert store.lease(kept, at, at + BLOCK)

        song = filled(store, "song", 5 * RUN)
        play(song)
        clock += 600
        play(song)
        clock += 600
        once = filled(store, "once", 8 * RUN)
        play(once)
        filled(store, "more", 6 * RUN)
        assert given(store, song) == song.size
        assert once.bytes <= 5 * RUN


def test_a_span_stays_right_whatever_is_evicted(folder: Path) -> None:
    store = opened(folder, 8 * MIB)
    spans = []
    for tag in "ab":
        span = store.lease(filled(store, tag), RUN, SIZE)
        assert span is not None
        spans.append((tag, span))
    for number in range(10):
        write(store, file_of(store, f"f{number}"))
        assert on_disk(folder) <= 9 * MIB
    for tag, span in spans:
        assert span.read() == bytes_of(tag)[RUN:SIZE]
    span = None
    spans.clear()
    store.clear()
    assert not any(given(store, file_of(store, tag)) for tag in "ab")


def test_where_all_is_being_sent_nothing_more_is_kept(folder: Path) -> None:
    store = opened(folder, 4 * MIB)
    kept = filled(store, "a", 3 * RUN)
    span = store.lease(kept, 0, 3 * RUN)
    assert span is not None
    assert not write(store, file_of(store, "b"))
    assert span.read() == bytes_of("a", 3 * RUN)
    assert store.pause_until == 0.0
    assert store.used <= 4 * MIB
    del span
    b = file_of(store, "b")
    write(store, b)
    assert given(store, b) > 0
    assert store.used == accounted(store)


def test_leases_end_with_their_spans(folder: Path) -> None:
    store = opened(folder)
    kept = filled(store, "a")
    spans: list[FileSpan | None] = [store.lease(kept, at, SIZE) for at in range(0, SIZE, BLOCK)]
    assert all(kept.leases)
    spans.clear()
    store._settle()
    assert not any(kept.leases)


def test_pins_stay(folder: Path) -> None:
    store = opened(folder, 16 * MIB)
    kept = filled(store, "a", 5 * RUN)
    store.pin(kept, RUN, 3 * RUN)
    assert store.pinned() == 2 * RUN
    for number in range(30):
        filled(store, f"f{number}")
    assert the_rest(store, kept) == [1, 2]
    killed(store)
    again = opened(folder, 16 * MIB)
    for number in range(30):
        filled(again, f"g{number}")
    kept = file_of(again, "a", 5 * RUN)
    again.check(kept, 0, 5 * RUN)
    assert given(again, kept) == 2 * RUN
    again.pin(kept, 0, 5 * RUN, on=False)
    for number in range(30):
        filled(again, f"h{number}")
    assert given(again, kept) == 0
    assert on_disk(folder) <= 17 * MIB


def test_pins_hold_half_at_most(folder: Path) -> None:
    store = opened(folder, 16 * MIB)
    a, b = filled(store, "a", 5 * RUN), filled(store, "b", 5 * RUN)
    store.pin(a, 0, 5 * RUN)
    with pytest.raises(Full):
        store.pin(b, 0, 5 * RUN)
    store.pin(b, 0, 3 * RUN)
    assert store.pinned() == 8 * RUN


def test_what_is_pinned_already_can_be_pinned_again(folder: Path) -> None:
    store = opened(folder, 16 * MIB)
    kept = filled(store, "a", 6 * RUN)
    store.pin(kept, 0, 6 * RUN)
    store.pin(kept, 0, 6 * RUN)
    assert store.pinned() == 6 * RUN


def test_pins_are_accounted_for(folder: Path) -> None:
    store = opened(folder, 16 * MIB)
    kept = filled(store, "a", 6 * RUN)
    for on in (True, False) * 5:
        store.pin(kept, 0, 6 * RUN, on=on)
    assert store.used == accounted(store)
    store.clear()
    assert store.used == accounted(store) == 0


def test_clearing_leaves_nothing_but_what_is_being_sent(folder: Path) -> None:
    store = opened(folder)
    a, b = filled(store, "a"), filled(store, "b")
    store.pin(b, 0, SIZE)
    span = store.lease(a, 0, BLOCK)
    assert span is not None
    store.clear()
    assert span.read() == bytes_of("a")[:BLOCK]
    assert (given(store, a), given(store, b)) == (RUN, 0)
    del span
    store.clear()
    assert [path.name for path in folder.iterdir()] == ["lock"]
    assert store.used == accounted(store) == 0


def test_others_are_left_their_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(folder, 16 * MIB, free=10 * MIB)
    room = 15 * MIB
    real = os.statvfs(folder)

    class Disk:
        f_frsize = real.f_frsize

        @property
        def f_bavail(self) -> int:
            return (room - on_disk(folder)) // self.f_frsize

    monkeypatch.setattr(os, "statvfs", lambda _: Disk())
    for number in range(10):
        store.room_until = 0.0
        write(store, file_of(store, f"f{number}"))
        assert on_disk(folder) <= 6 * MIB
    assert given(store, file_of(store, "f9")) > RUN


# ── disks that fail ──


def failing(number: int) -> object:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("where", ["os.pwrite", "journal.append", "os.statvfs", "os.ftruncate", "half"])
@pytest.mark.parametrize("begun", [False, True])
def test_a_disk_that_fails_ends_the_keeping_for_a_while(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, where: str, begun: bool
) -> None:
    store = opened(folder)
    kept = file_of(store, "a")
    if begun:
        assert write(store, kept, 0, BLOCK)
    store.room_until = 0.0
    pwrite = os.pwrite
    with monkeypatch.context() as patch:
        if where == "half":
            turns = iter([True])
            patch.setattr(
                os,
                "pwrite",
                lambda fd, data, at: pwrite(fd, data[:5000], at) if next(turns, None) else failing(number)(),  # type: ignore[operator]
            )
        elif where == "journal.append":
            patch.setattr(journal, "append", failing(number))
        else:
            patch.setattr(where, failing(number))
        written = write(store, kept)
        assert not written or (where, begun) == ("os.ftruncate", True)
        if not written:
            assert (store.used, given(store, kept)) == (accounted(store), BLOCK * begun)
            assert on_disk(folder) <= store.used + 8192
            assert not write(store, kept)
    store.pause_until = 0.0
    store.room_until = 0.0
    assert write(store, file_of(store, "a"))
    assert given(store, kept) == SIZE
    assert store.used == accounted(store)
    killed(store)
    again = opened(folder)
    assert checked(again, file_of(again, "a")) == SIZE


def test_a_disk_that_cannot_be_read_gives_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(folder)
    filled(store, "a")
    killed(store)
    again = opened(folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", failing(errno.EIO))
        again.check(file_of(again, "a"), 0, SIZE)
    assert given(again, file_of(again, "a")) == 0
    again.pause_until = 0.0
    assert write(again, file_of(again, "a"))
    assert checked(again, file_of(again, "a")) == SIZE


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
def test_a_file_that_cannot_be_opened_now_is_not_thrown_away(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store = opened(folder)
    filled(store, "a")
    killed(store)
    again = opened(folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing(number))
        with suppress(OSError):
            again.kept("a", SIZE)
    assert checked(again, file_of(again, "a")) == SIZE


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSYS])
def test_where_holes_cannot_be_punched_whole_files_go(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(shelf, "punched", failing(number))
    store = opened(folder, 16 * MIB)
    for turn in range(12):
        kept = file_of(store, f"f{turn}", 4 * RUN)
        assert write(store, kept)
        assert given(store, kept) == 4 * RUN
        assert on_disk(folder) <= 17 * MIB
    assert store.used == accounted(store)


def test_where_holes_cannot_be_punched_bad_blocks_are_not_given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "punched", failing(errno.EOPNOTSUPP))
    store = opened(folder)
    path = Path(filled(store, "a").path + ".data")
    killed(store)
    flip(path, random.Random(3))
    again = opened(folder)
    kept = file_of(again, "a")
    assert checked(again, kept) < SIZE
    assert write(again, kept)
    assert checked(again, kept) == SIZE
    killed(again)
    last = opened(folder)
    assert checked(last, file_of(last, "a")) == SIZE


def test_its_folder_and_files_are_for_its_user_alone(folder: Path) -> None:
    filled(opened(folder), "a")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
