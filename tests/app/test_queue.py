"""The queue of downloads, with an engine that does what each test says."""

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from playhead import Busy, Damaged, Denied, Failure, Full, Malformed, NotFound, Unavailable
from playhead.app import items, wanted
from playhead.app import queue as queue_module
from playhead.app.items import Item, State
from playhead.app.queue import Queue
from tests.fakes.jobs import Engine, Job

A, B, C, D = (f"http://h/{name}" for name in "abcd")


ADDRESSES = ["http://h/a", "https://user:p@h:8080/a?b=c#d", "http://[::1]:80/", "HTTPS://H", "http://한국.kr/노래.mp3"]
ADDRESSES += ["music:a/b.mp3"]
NO_ADDRESSES: list[Any] = ["", "a", "/etc/passwd", "./a", "file:///etc/passwd", "file://h/etc", "ftp://h/a", "http:a"]
NO_ADDRESSES += ["magnet:?xt=urn:btih:0", "http:///a", "http://", "http://h:99999/", "http://h:0/", "http://h\\@x/"]
NO_ADDRESSES += ["http://h/a\nb", "http://h/\0", "http://[::1/", "data:,a", "other:a", "music:", "music:../a"]
NO_ADDRESSES += ["music:a//b", "music:a\0", "http://h/\ud800", "http://h/" + "a" * 8192, "javascript:alert(1)"]
NO_ADDRESSES += ["http://h\u2028/", "http://h/a\u00a0b", 5, None, ["http://h"]]
FOLDERS = [("", ""), (".", ""), ("a", "a"), ("a/b/", "a/b"), ("a/../b", "b"), ("./a//b", "a/b"), ("노래", "노래")]
FOLDERS += [("-a", "-a")]
NO_FOLDERS = ["..", "../x", "a/../../x", "/", "/etc", "/tmp", "link", "link/x", "in/link/../link", "a\0b", "a\nb"]
NO_FOLDERS += ["a" * 256, "\ud800"]
NAMES = [("a.mp3", "a.mp3"), ("../../etc/passwd", "etc_passwd"), ("a/b", "a_b"), ("..", "unnamed"), ("/", "unnamed")]
NAMES += [("a\0b\n", "a_b_"), ("a\\b", "a_b"), ("C:\\x", "C__x"), ("\ud800", "\ufffd"), ("별.mp3", "별.mp3")]
NO_OPTIONS: list[dict[str, Any]] = [{"split": "many"}, {"split": "0"}, {"split": "-1"}, {"split": "1" * 9}]
NO_OPTIONS += [{"split": 1.5}, {"max-connection-per-server": "x"}, {"checksum": "a\nb"}, {"checksum": ["a"]}]
NO_OPTIONS += [{"user-agent": "a\r\nHost: x"}, {"referer": "x" * 5000}, {"out": 5}, {"out": "a" * 5000}]
NO_OPTIONS += [{"header": "no colon"}, {"header": ["A: b\r\nC: d"]}, {"header": ["A: b\0"]}, {"header": [5]}]
NO_OPTIONS += [{"header": 5}, {"header": [": b"]}, {"header": ["A b: c"]}, {"header": ["A: " + "x" * 70_000]}]
FOREIGN = [b'{"playhead": "queue", "version": 2}\n{"gid": "x"}\n', b"", b"\0" * 5000, b"[]\n", b'"' * 300_000]
FOREIGN += [b"[" * 300_000, b'{"playhead": "queue"}\n', b"SQLite format 3\0", b"\xff\xfe\n"]
NONSENSE: list[dict[str, Any]] = [{"gid": "../../x"}, {"gid": 5}, {"gid": "ABCDEFABCDEFABCD"}, {"state": "active"}]
NONSENSE += [{"state": "bogus"}, {"state": []}, {"uris": []}, {"uris": "http://h/"}, {"uris": [5]}, {"uris": None}]
NONSENSE += [{"options": []}, {"options": {"a": 5}}, {"place": 5}, {"name": None}, {"error": 5}, {"size": -1}]
NONSENSE += [{"size": "9"}, {"have": 1.5}, {"have": None}, {"code": True}, {"size": 1 << 70}, {"name": "x" * 200_000}]


@asynccontextmanager
async def queued(home: Path, at_once: int = 2, **how: Any) -> AsyncIterator[tuple[Queue, Engine]]:
    """A queue that has begun, on what is kept in a folder."""
    engine = Engine()
    queue = Queue(engine, home / "downloads", home / "state" / "queue", at_once=at_once, **how)
    await queue.begin()
    try:
        yield queue, engine
    finally:
        await queue.aclose()


async def until(found: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not found():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def running(queue: Queue, engine: Engine, *uris: str) -> None:
    await until(lambda: engine.running() == list(uris))


def states(queue: Queue) -> dict[str, str]:
    return {item.uris[0]: item.state.value for item in queue.items.values()}


def heard(queue: Queue) -> list[tuple[str, str]]:
    """What it tells from now on: (event, address)."""
    said: list[tuple[str, str]] = []
    queue.listeners.add(lambda event, gid: said.append((event.removeprefix("onDownload"), queue.items[gid].uris[0])))
    return said


# ── running ──


async def test_so_many_run_at_a_time_in_the_order_asked(tmp_path: Path) -> None:
    async with queued(tmp_path) as (queue, engine):
        for uri in (A, B, C, D):
            await queue.add([uri], {})
        await running(queue, engine, A, B)
        assert states(queue) == {A: "active", B: "active", C: "waiting", D: "waiting"}
        engine.of(B).done()
        await running(queue, engine, A, C)
        engine.of(A).fail(NotFound("gone"))
        await running(queue, engine, C, D)
        assert states(queue) == {A: "error", B: "complete", C: "active", D: "active"}


async def test_more_run_when_the_limit_is_raised_and_none_is_ended_when_it_is_lowered(tmp_path: Path) -> None:
    async with queued(tmp_path, at_once=1) as (queue, engine):
        for uri in (A, B, C, D):
            await queue.add([uri], {})
        await running(queue, engine, A)
        queue.limit(3)
        await running(queue, engine, A, B, C)
        queue.limit(1)
        engine.of(A).done()
        engine.of(B).done()
        await until(lambda: states(queue)[B] == "complete")
        assert engine.running() == [C]


async def test_a_job_is_told_addresses_options_and_a_folder_inside(tmp_path: Path) -> None:
    async with queued(tmp_path) as (queue, engine):
        await queue.add([A, B], {"dir": "x/y", "out": "../n", "header": ["A: b", "C: d"], "split": 4, "bogus": "z"})
        await running(queue, engine, A)
        assert engine.jobs[0].uris == (A, B)
        folder = str(tmp_path / "downloads" / "x" / "y")
        assert engine.jobs[0].options == {"dir": folder, "out": "n", "header": "A: b\nC: d", "split": "4"}


async def test_what_a_job_knows_is_known_while_it_runs_and_after(tmp_path: Path) -> None:
    async with queued(tmp_path) as (queue, engine):
        item = await queue.add([A], {"dir": "x"})
        await running(queue, engine, A)
        engine.of(A).learn(size=100, have=40, rate=7.5, connections=3, name="song.mp3")
        queue.look(item)
        assert (item.size, item.have, item.rate, item.connections, item.path) == (100, 40, 7.5, 3, "x/song.mp3")
        engine.of(A).done()
        await until(lambda: item.state is State.COMPLETE)
        assert (item.size, item.have, item.rate, item.connections, item.path) == (100, 100, 0.0, 0, "x/song.mp3")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFound("it is gone"), 3),
        (Unavailable("no network"), 6),
        (Full("no room"), 9),
        (Damaged("bad"), 22),
        (Denied("no"), 24),
        (Malformed("what"), 28),
        (Busy("later"), 29),
        (Failure("who knows"), 1),
    ],
)
async def test_why_a_download_failed_is_told(tmp_path: Path, error: Failure, code: int) -> None:
    async with queued(tmp_path) as (queue, engine):
        item = await queue.add([A], {})
        await running(queue, engine, A)
        engine.of(A).fail(error)
        await until(lambda: item.state is State.ERROR)
        assert (item.code, item.error) == (code, str(error))
        engine.refused[B] = error
        refused = await queue.add([B], {})
        await until(lambda: refused.state is State.ERROR)
        assert (refused.code, refused.error) == (code, str(error))


async def test_a_bug_ends_one_download_and_tells_nothing_of_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with queued(tmp_path) as (queue, engine):
        first, _ = await queue.add([A], {}), await queue.add([B], {})
        await running(queue, engine, A, B)
        engine.of(A).fail(ZeroDivisionError("secret"))
        await until(lambda: first.state is State.ERROR)
        assert (first.code, first.error) == (1, "a bug of ours; the log says more")
        assert engine.running() == [B]
    assert "ZeroDivisionError" in caplog.text


async def test_one_that_failed_can_be_tried_again(tmp_path: Path) -> None:
    async with queued(tmp_path) as (queue, engine):
        item = await queue.add([A], {})
        await running(queue, engine, A)
        with pytest.raises(Busy):
            queue.again(item)
        engine.of(A).fail(Unavailable("no network"))
        await until(lambda: item.state is State.ERROR)
        queue.again(item)
        await running(queue, engine, A)
        assert (states(queue), item.code, item.error, queue.stopped) == ({A: "active"}, 0, "", {})


# ── pausing and removing ──


async def test_a_pause_ends_the_job_and_lets_the_next_run(tmp_path: Path) -> None:
    async with queued(tmp_path, at_once=1) as (queue, engine):
        first = await queue.add([A], {})
        await queue.add([B], {})
        await running(queue, engine, A)
        said = heard(queue)
        queue.pause(first)
        await running(queue, engine, B)
        assert engine.of(A).cancelled
        assert states(queue) == {A: "paused", B: "active"}
        assert said == [("Pause", A), ("Start", B)]
        queue.unpause(first)
        engine.of(B).done()
        await running(queue, engine, A)
        assert len(engine.jobs) == 3


async def test_what_goes_on_asks_for_the_name_that_it_had(tmp_path: Path) -> None:
    async with queued(tmp_path) as (queue, engine):
        item = await queue.add([A], {})
        await running(queue, engine, A)
        engine.of(A).learn(name="learned (2).mp3", size=10, have=4)
        queue.pause(item)
        await until(lambda: item.state is State.PAUSED)
        assert (item.size, item.have) == (10, 4)
        queue.unpause(item)
        await running(queue, engine, A)
        assert engine.of(A).options["out"] == "learned (2).mp3"


async def test_never_two_jobs_of_one_download_run_at_once(tmp_path: Path) -> None:
    async with queued(tmp_path) as (queue, engine):
        item = await queue.add([A], {})
        await running(queue, engine, A)
        first = engine.of(A)
        first.stubborn = True
        for _ in range(3):
            queue.pause(item)
            await until(lambda: first.cancelled)
            queue.unpause(item)
            await asyncio.sleep(0.01)
        assert (len(engine.jobs), states(queue)) == (1, {A: "active"})
        first.let_go.set()
        await until(lambda: len(engine.jobs) == 2)
        await running(queue, engine, A)


async def test_a_job_that_is_ending_keeps_its_place_among_those_that_run(tmp_path: Path) -> None:
    async with queued(tmp_path, at_once=1) as (queue, engine):
        item = await queue.add([A], {})
        await running(queue, engine, A)
        engine.of(A).stubborn = True
        await queue.add([B], {})
        queue.pause(item)
        await until(lambda: engine.of(A).cancelled)
        assert engine.running() == [A]
        engine.of(A).let_go.set()
        await running(queue, engine, B)


@pytest.mark.parametrize("step", ["pause", "remove"])
async def test_one_that_is_whole_before_it_can_be_ended_is_complete(tmp_path: Path, step: str) -> None:
    async with queued(tmp_path) as (queue, engine):
        item = await queue.add([A], {})
        await running(queue, engine, A)
        engine.of(A).learn(size=5, have=5, nearly=True)
        getattr(queue, step)(item)
        await until(lambda: item.task is None)
        assert (states(queue), list(queue.stopped.values())) == ({A: "complete"}, [item])


async def test_what_waits_is_forgotten_and_what_runs_is_ended_when_it_is_removed(tmp_path: Path) -> None:
    async with queued(tmp_path, at_once=1) as (queue, engine):
        first, second = await queue.add([A], {}), await queue.add([B], {})
        await running(queue, engine, A)
        said = heard(queue)
        queue.remove(second)
        assert states(queue) == {A: "active"}
        queue.remove(first)
        with pytest.raises(NotFound):
            queue.remove(first)
        await until(lambda: first.state is State.REMOVED)
        assert (engine.of(A).cancelled, said, list(queue.stopped.values())) == (True, [("Stop", A)], [first])
        with pytest.raises(NotFound):
            queue.remove(first)
        queue.forget(first)
        assert queue.items == {}


async def test_a_pause_that_has_not_ended_yet_can_become_a_removal(tmp_path: Path) -> None:
    async with queued(tmp_path) as (queue, engine):
        item = await queue.add([A], {})
        await running(queue, engine, A)
        engine.of(A).stubborn = True
        queue.pause(item)
        queue.remove(item)
        with pytest.raises(Busy):
            queue.pause(item)
        with pytest.raises(Busy):
            queue.unpause(item)
        await until(lambda: engine.of(A).cancelled)
        engine.of(A).let_go.set()
        await until(lambda: item.state is State.REMOVED)


async def test_each_step_is_possible_only_from_where_it_leads_on(tmp_path: Path) -> None:
    async with queued(tmp_path, at_once=1) as (queue, engine):
        active, waiting = await queue.add([A], {}), await queue.add([B], {})
        paused, complete = await queue.add([C], {"pause": "true"}), await queue.add([D], {}, 0)
        queue.limit(2)
        await running(queue, engine, A, D)
        engine.of(D).done()
        queue.limit(1)
        await until(lambda: complete.state is State.COMPLETE)
        can = {
            queue.pause: [active, waiting],
            queue.unpause: [paused],
            queue.forget: [complete],
            queue.again: [],
        }
        for step, possible in can.items():
            for item in (active, waiting, paused, complete):
                if item not in possible:
                    with pytest.raises(Busy, match=item.gid):
                        step(item)
        assert states(queue) == {A: "active", B: "waiting", C: "paused", D: "complete"}


async def test_all_can_be_paused_and_go_on(tmp_path: Path) -> None:
    async with queued(tmp_path) as (queue, engine):
        for uri in (A, B, C):
            await queue.add([uri], {})
        await running(queue, engine, A, B)
        queue.pause_all()
        await until(lambda: set(states(queue).values()) == {"paused"})
        queue.unpause_all()
        await until(lambda: len(engine.running()) == 2)
        assert sorted(states(queue).values()) == ["active", "active", "waiting"]


# ── order ──


async def test_a_download_can_be_put_anywhere_in_the_line(tmp_path: Path) -> None:
    async with queued(tmp_path, at_once=0) as (queue, _):
        for uri in (A, B, C):
            await queue.add([uri], {})
        await queue.add([D], {}, 1)

        def line() -> str:
            return "".join(item.uris[0][-1] for item in queue.line)

        assert line() == "adbc"
        first = queue.line[0]
        steps = [
            (0, "POS_END", 3, "dbca"),
            (-1, "POS_END", 2, "dbac"),
            (1, "POS_CUR", 3, "dbca"),
            (-2, "POS_CUR", 1, "dabc"),
        ]
        for position, how, to, shown in [*steps, (-99, "POS_SET", 0, "adbc"), (99, "POS_SET", 3, "dbca")]:
            assert queue.move(first, position, how) == to
            assert line() == shown
        with pytest.raises(Malformed):
            queue.move(first, 0, "POS_BEST")


async def test_only_what_waits_has_a_position(tmp_path: Path) -> None:
    async with queued(tmp_path) as (queue, engine):
        item = await queue.add([A], {})
        await running(queue, engine, A)
        with pytest.raises(NotFound):
            queue.move(item, 0, "POS_SET")


# ── bounds ──


async def test_there_is_an_end_to_what_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "MOST", 3)
    async with queued(tmp_path, at_once=1) as (queue, _):
        for uri in (A, B, C):
            await queue.add([uri], {})
        with pytest.raises(Busy, match="3 downloads already"):
            await queue.add([D], {})
        queue.remove(queue.find(next(gid for gid, item in queue.items.items() if item.uris == (C,))))
        await queue.add([D], {})


async def test_there_is_an_end_to_what_is_kept_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "BYTES", 20_000)
    async with queued(tmp_path) as (queue, _):
        big = f"http://h/{'x' * 8000}"
        first, _ = await queue.add([big], {}), await queue.add([big], {})
        with pytest.raises(Busy):
            await queue.add([big], {})
        queue.remove(first)
        await until(lambda: first.gid in queue.stopped)
        queue.purge()
        await queue.add([big], {})
        await queue.saved()
        assert queue.bytes == sum(len(item.packed()) for item in queue.items.values()) <= 20_000


async def test_the_oldest_results_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "RESULTS", 2)
    async with queued(tmp_path) as (queue, engine):
        for uri in (A, B, C):
            item = await queue.add([uri], {})
            await until(lambda uri=uri: uri in engine.running())
            engine.of(uri).done()
            await until(lambda item=item: item.state is State.COMPLETE)
        assert [item.uris[0] for item in queue.stopped.values()] == [B, C]
        assert (len(queue.items), queue.stopped_total) == (2, 3)


async def test_a_gid_may_be_chosen_once(tmp_path: Path) -> None:
    async with queued(tmp_path) as (queue, _):
        assert (await queue.add([A], {"gid": "00000000000000Ab"})).gid == "00000000000000ab"
        with pytest.raises(Busy, match="another download"):
            await queue.add([B], {"gid": "00000000000000ab"})
        for odd in ("ab", "zzzzzzzzzzzzzzzz", "-000000000000001", "0x00000000000001", "0_00000000000001"):
            with pytest.raises(Malformed):
                await queue.add([B], {"gid": odd})


# ── what may be downloaded, and where to ──


@pytest.mark.parametrize("uri", ADDRESSES)
def test_what_may_be_asked_for(uri: str) -> None:
    assert wanted.addresses([uri], {"music"}) == (uri,)


def test_spaces_in_an_address_are_escaped() -> None:
    assert wanted.addresses([" http://h/a b "]) == ("http://h/a%20b",)


@pytest.mark.parametrize("uri", NO_ADDRESSES)
def test_what_may_not_be_asked_for(uri: Any) -> None:
    with pytest.raises((Malformed, Denied)):
        wanted.addresses([uri], {"music"})


def test_an_address_that_is_not_allowed_is_refused_also_beside_others() -> None:
    for uris in ([A, "file:///etc/passwd"], [], [A] * 65):
        with pytest.raises(Malformed):
            wanted.addresses(uris)


@pytest.mark.parametrize(("dir", "place"), FOLDERS)
def test_a_folder_below_is_taken(tmp_path: Path, dir: str, place: str) -> None:
    assert wanted.place(tmp_path / "d", dir) == place
    assert wanted.place(tmp_path / "d", str(tmp_path / "d" / dir)) == place


@pytest.mark.parametrize("dir", NO_FOLDERS)
def test_a_folder_elsewhere_is_refused(tmp_path: Path, dir: str) -> None:
    (tmp_path / "d" / "in").mkdir(parents=True)
    (tmp_path / "dd").mkdir()
    (tmp_path / "d" / "link").symlink_to(tmp_path / "dd")
    (tmp_path / "d" / "in" / "link").symlink_to("/")
    with pytest.raises((Denied, Malformed)):
        wanted.place(tmp_path / "d", dir)


def test_a_folder_that_begins_alike_is_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(Denied):
        wanted.place(tmp_path / "d", str(tmp_path / "dd"))


async def test_a_folder_that_became_a_link_to_elsewhere_is_refused_when_it_begins(tmp_path: Path) -> None:
    async with queued(tmp_path, at_once=0) as (queue, engine):
        item = await queue.add([A], {"dir": "x"})
        (tmp_path / "downloads").mkdir()
        (tmp_path / "downloads" / "x").symlink_to(tmp_path)
        queue.limit(1)
        await until(lambda: item.state is State.ERROR)
        assert (item.code, engine.jobs) == (24, [])


@pytest.mark.parametrize(("out", "name"), NAMES)
def test_a_name_is_one_clean_name(out: str, name: str) -> None:
    assert wanted.options({"out": out}) == {"out": name}


def test_a_long_name_is_cut_and_keeps_its_ending() -> None:
    name = wanted.name("별" * 500 + ".mp3")
    assert name.endswith("별.mp3")
    assert len(name.encode()) <= wanted.NAME
    assert len(wanted.name("a." + "b" * 500).encode()) <= wanted.NAME


@pytest.mark.parametrize("given", NO_OPTIONS)
def test_options_that_make_no_sense_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(Malformed, match=next(iter(given))):
        wanted.options(given)


def test_options_may_be_what_they_mean_and_unknown_ones_are_left_out() -> None:
    given = {"split": 8, "continue": True, "header": "A: b\nC: d\n", "seed-ratio": "1.0", "out": "", "referer": ""}
    assert wanted.options(given) == {"split": "8", "continue": "true", "header": "A: b\nC: d"}


async def test_options_can_be_changed_while_it_does_not_run(tmp_path: Path) -> None:
    async with queued(tmp_path) as (queue, engine):
        item = await queue.add([A], {"pause": "true", "split": "2", "dir": "x"})
        await queue.change(item, {"out": "n", "dir": "y"})
        with pytest.raises(Denied):
            await queue.change(item, {"dir": "/etc"})
        queue.unpause(item)
        await running(queue, engine, A)
        options = {"split": "2", "out": "n", "dir": str(tmp_path / "downloads" / "y")}
        assert engine.of(A).options == options
        with pytest.raises(Busy):
            await queue.change(item, {"out": "m"})


# ── restarts ──


async def test_all_is_as_it_was_after_a_restart_and_what_ran_goes_on(tmp_path: Path) -> None:
    async with queued(tmp_path) as (queue, engine):
        for uri in (A, B, C, D):
            await queue.add([uri, "http://mirror/"], {"dir": "x", "header": ["A: b"]})
        await queue.add(["http://h/failed"], {}, 0)
        await running(queue, engine, A, B)
        engine.of(B).learn(size=9, name="b.mp3", have=4)
        engine.of(A).done()
        await until(lambda: engine.running() == [B, "http://h/failed"])
        engine.of("http://h/failed").fail(NotFound("it is gone"))
        await running(queue, engine, B, C)
        queue.pause(queue.line[-1])
        before = {
            gid: (item.uris, item.options, item.place, item.error, item.code) for gid, item in queue.items.items()
        }
        order = [B, C, D]
    async with queued(tmp_path, at_once=0) as (queue, engine):
        assert states(queue) == {A: "complete", B: "waiting", C: "waiting", D: "paused", "http://h/failed": "error"}
        after = {gid: (item.uris, item.options, item.place, item.error, item.code) for gid, item in queue.items.items()}
        assert after == before
        assert sorted(item.uris[0] for item in queue.line) == order
        queue.limit(2)
        await until(lambda: len(engine.running()) == 2)
        assert engine.of(B).options == {"dir": str(tmp_path / "downloads" / "x"), "header": "A: b", "out": "b.mp3"}


async def test_what_was_saved_outlives_the_end_of_the_process_at_once(tmp_path: Path) -> None:
    """The file is looked at as a crash would leave it, after each answer, while other changes are being written."""
    async with queued(tmp_path, at_once=0) as (queue, _):
        chance = random.Random(1)

        async def one(number: int) -> None:
            item = await queue.add([f"http://h/{number}"], {})
            await queue.saved()
            assert item.gid in {found.gid for found in items.read(queue.state)}
            if chance.random() < 0.5:
                queue.remove(item)
                await queue.saved()
                assert item.gid not in {found.gid for found in items.read(queue.state)}

        await asyncio.gather(*[one(number) for number in range(60)])
        assert {item.gid for item in items.read(queue.state)} == set(queue.items)


async def test_a_pause_that_has_not_ended_yet_is_a_pause_after_a_crash(tmp_path: Path) -> None:
    async with queued(tmp_path) as (queue, engine):
        item = await queue.add([A], {})
        await running(queue, engine, A)
        engine.of(A).stubborn = True
        queue.pause(item)
        await queue.saved()
        assert [found.state for found in items.read(queue.state)] == [State.PAUSED]
        engine.of(A).let_go.set()


async def test_a_name_that_was_learned_is_known_after_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "LOOK", 0.01)
    async with queued(tmp_path) as (queue, engine):
        await queue.add([A], {})
        await running(queue, engine, A)
        engine.of(A).learn(name="a.mp3", size=7)
        await until(lambda: [(item.name, item.size) for item in items.read(queue.state)] == [("a.mp3", 7)])
        changes = queue.changes
        await asyncio.sleep(0.05)
        assert queue.changes == changes  # what is learned is written once


async def filled(home: Path) -> Path:
    """The file of a queue of four downloads."""
    async with queued(home, at_once=0) as (queue, _):
        for uri in (A, B, C, D):
            await queue.add([uri], {})
    return queue.state


async def test_a_torn_file_loses_only_what_is_torn_and_is_kept(tmp_path: Path) -> None:
    file = await filled(tmp_path)
    whole = file.read_bytes()
    ends = [at for at, byte in enumerate(whole) if byte == 10]
    for cut in [*range(0, len(whole), 37), *ends, len(whole) - 2]:
        file.write_bytes(whole[:cut])
        async with queued(tmp_path, at_once=0) as (queue, _):
            complete = [A, B, C, D][: max(0, sum(end <= cut for end in ends) - 1)]
            assert [item.uris[0] for item in queue.line] == complete
            await queue.add(["http://h/new"], {})
        asides = list(file.parent.glob("*.aside"))
        assert [aside.read_bytes() for aside in asides] == ([] if cut in ends else [whole[:cut]])
        for aside in asides:
            aside.unlink()


@pytest.mark.parametrize("written", FOREIGN, ids=lambda written: repr(written[:20]))
async def test_a_file_that_is_not_ours_is_kept_aside(tmp_path: Path, written: bytes) -> None:
    file = tmp_path / "state" / "queue"
    file.parent.mkdir()
    file.write_bytes(written)
    async with queued(tmp_path, at_once=0) as (queue, _):
        assert queue.items == {}
        await queue.add([A], {})
    [aside] = file.parent.glob("*.aside")
    assert aside.read_bytes() == written
    assert aside.stat().st_mode & 0o777 == 0o600
    async with queued(tmp_path, at_once=0) as (queue, _):
        assert states(queue) == {A: "waiting"}


@pytest.mark.parametrize("change", NONSENSE, ids=lambda change: str(change)[:40])
async def test_a_line_that_makes_no_sense_loses_no_other(tmp_path: Path, change: dict[str, Any]) -> None:
    file = await filled(tmp_path)
    head, first, second, *rest = file.read_bytes().splitlines()
    file.write_bytes(b"\n".join([head, first, json.dumps({**json.loads(second), **change}).encode(), *rest, b""]))
    async with queued(tmp_path, at_once=0) as (queue, _):
        assert [item.uris[0] for item in queue.line] == [A, C, D]
    assert len(list(file.parent.glob("*.aside"))) == 1


async def test_a_folder_elsewhere_in_the_file_is_refused_when_it_begins(tmp_path: Path) -> None:
    file = await filled(tmp_path)
    file.write_text(file.read_text().replace('"place": ""', '"place": "../../etc"'))
    async with queued(tmp_path) as (queue, engine):
        await until(lambda: set(states(queue).values()) == {"error"})
        assert (engine.jobs, {item.code for item in queue.items.values()}) == ([], {24})


async def test_a_second_process_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    file = await filled(tmp_path)
    async with queued(tmp_path, at_once=0) as (queue, _):
        before = file.read_bytes()
        second = Queue(Engine(), tmp_path / "downloads", file)
        with pytest.raises(Busy, match="another process"):
            await second.begin()
        with pytest.raises(Unavailable):
            await second.add([A], {})
        await second.aclose()
        assert file.read_bytes() == before
        await queue.add([A], {})
    assert file.read_bytes() != before


async def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    file = await filled(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in file.parent.iterdir()) == ["queue", "queue.lock"]


async def test_a_disk_that_takes_nothing_stops_no_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with queued(tmp_path) as (queue, engine):
        with monkeypatch.context() as broken:
            broken.setattr(os, "fsync", lambda fd: os.write(-1, b""))
            item = await queue.add([A], {})
            await queue.saved()
            assert "cannot be kept: bad file descriptor" in caplog.text
            assert [path.name for path in queue.state.parent.iterdir()] == ["queue.lock"]
        await running(queue, engine, A)
        engine.of(A).done()
        await until(lambda: item.state is State.COMPLETE)
        await queue.saved()
        assert [found.gid for found in items.read(queue.state)] == [item.gid]


async def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "state" / "queue").mkdir(parents=True)
    with pytest.raises(Unavailable, match="is a directory"):
        await Queue(Engine(), tmp_path, tmp_path / "state" / "queue").begin()


async def test_the_end_waits_for_jobs_but_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "END", 0.05)
    async with queued(tmp_path) as (queue, engine):
        await queue.add([A], {})
        await running(queue, engine, A)
        engine.of(A).stubborn = True
    engine.of(A).let_go.set()
    assert [item.state for item in items.read(queue.state)] == [State.WAITING]


async def test_nothing_is_written_after_the_end(tmp_path: Path) -> None:
    file = await filled(tmp_path)
    async with queued(tmp_path, at_once=0) as (queue, _):
        pass
    queue.remove(queue.line[0])
    await queue.saved()
    await asyncio.sleep(0.01)
    assert len(items.read(file)) == 4


async def test_no_job_begins_after_the_end(tmp_path: Path) -> None:
    async with queued(tmp_path, at_once=1) as (queue, engine):
        await queue.add([A], {})
        await queue.add([B], {})
        await running(queue, engine, A)
    assert len(engine.jobs) == 1
    assert engine.jobs[0].cancelled


async def test_any_steps_leave_a_queue_that_reads_the_same(tmp_path: Path) -> None:
    """Random steps: each download is in exactly one place, so many run at a time, and the file says what is so."""
    chance = random.Random(5)
    async with queued(tmp_path) as (queue, engine):

        def finish() -> None:
            job: Job = chance.choice(engine.jobs)
            if job.running and not job.outcome.done():
                chance.choice([job.done, lambda: job.fail(NotFound("gone"))])()

        def step(item: Item) -> None:
            steps: list[Callable[[Item], Any]] = [queue.pause, queue.unpause, queue.remove, queue.forget, queue.again]
            chance.choice([*steps, lambda item: queue.move(item, chance.randrange(-3, 4), "POS_CUR")])(item)

        for number in range(400):
            if number % 4 == 0:
                await queue.add(
                    [f"http://h/{number}"], {"pause": chance.choice(["true", "false"])}, chance.randrange(5)
                )
            try:
                step(chance.choice(list(queue.items.values())))
            except (Busy, NotFound):
                pass
            if engine.jobs:
                finish()
            await asyncio.sleep(0)
            placed = [*queue.line, *queue.active.values(), *queue.stopped.values()]
            assert len(placed) == len(queue.items) == len({item.gid for item in placed})
            assert len(queue.active) <= 2
            assert len(set(engine.running())) == len(engine.running()) <= 2
            assert all((item.task is not None) == (item.gid in queue.active) for item in placed)
        await queue.saved()
        kept = {item.gid: (item.uris, item.state) for item in items.read(queue.state)}
        waits = State.WAITING
        assert kept == {
            gid: (item.uris, item.next or (waits if item.state is State.ACTIVE else item.state))
            for gid, item in queue.items.items()
        }
        assert queue.bytes == sum(len(item.packed()) for item in queue.items.values())
