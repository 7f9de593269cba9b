"""Downloads that are killed at any moment, whose journals are torn, and which start twice: right bytes afterwards.

What was put down in the journal was on the disk before; what a kill costs is bounded; and what nobody can explain
is never thrown away in silence.
"""

import hashlib
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from tests.downloads import (
    DATA,
    HALF,
    OTHER,
    SIZE,
    broken_off,
    failed,
    get,
    holds,
    impatient,  # noqa: F401
    left,
    run,
    running,
    version,
    well,
)
from tests.fakes.origin import Origin
from tests.fakes.relay import Relay, aside
from tests.peers.playing import needs, nginx

pytestmark = [
    pytest.mark.timeout(90),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # a client that is killed leaves its socket
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
LOST = 8 << 20  # bytes that one kill may cost
MANY = random.Random(3).randbytes(40_000_003)
PART, JOURNAL = "f.part", "f.part.journal"


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def killed_when(true: Callable[[], bool], *arguments: str, folder: Path, number: int = signal.SIGKILL) -> bool:
    """Run a download and end it when something is so; was it ended, not done before?"""
    with running(*arguments, folder=folder) as process:
        until = time.monotonic() + 60
        while not true() and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.001)
        if process.poll() is None:
            process.send_signal(number)
        _, err = process.communicate(timeout=20)
        assert process.returncode in (-number, 128 + number, 130, 0), (process.returncode, err)
        return process.returncode != 0


def kill_often(url: str, folder: Path, kills: int, longest: float) -> None:
    """Kill a download so many times, at random moments; it must not be done before."""
    chance = random.Random(kills)
    for _ in range(kills):
        end = time.monotonic() + chance.uniform(0.1, longest)
        assert killed_when(lambda end=end: time.monotonic() > end, url, folder=folder)  # type: ignore[misc]
        assert not (folder / "f").exists()


def test_killed_ten_times_it_has_the_right_bytes(tmp_path: Path) -> None:
    with aside(Origin({"f": MANY})) as origin, aside(Relay(origin.port, 10e6)) as relay:
        kill_often(f"{relay.url}f", tmp_path, 10, 0.9)
        relay.rate = 1e9
        well(run(f"{relay.url}f", folder=tmp_path), tmp_path, MANY)
        assert relay.passed <= len(MANY) + 10 * LOST


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_download_that_is_ended_late_has_at_most_8_mib_fetched_again(tmp_path: Path, number: int) -> None:
    with aside(Origin({"f": MANY})) as origin, aside(Relay(origin.port, 40e6)) as relay:
        assert killed_when(lambda: relay.passed > 30_000_000, f"{relay.url}f", folder=tmp_path, number=number)
        assert left(tmp_path) == [PART, JOURNAL]
        passed, before = 0, relay.passed
        well(run(f"{relay.url}f", folder=tmp_path), tmp_path, MANY)
        passed = relay.passed - before
        assert passed <= len(MANY) - 30_000_000 + LOST
        if number == signal.SIGINT:  # it had the time to put all down
            assert relay.passed <= len(MANY) + (4 << 20)


def test_a_slow_download_that_is_killed_keeps_all_but_its_last_seconds(tmp_path: Path) -> None:
    """aria2 and axel keep nothing here: they put down what they have after 60 and 10 seconds."""
    data = MANY[:8_000_000]
    with aside(Origin({"f": data})) as origin, aside(Relay(origin.port, 2e6)) as relay:
        assert killed_when(lambda: relay.passed > 4_500_000, f"{relay.url}f", folder=tmp_path)
        relay.rate, relay.passed = 1e9, 0
        well(run(f"{relay.url}f", folder=tmp_path), tmp_path, data)
        assert relay.passed < 8_000_000 - 2_000_000


@pytest.mark.torture
@pytest.mark.timeout(3600)
@needs("nginx")
def test_killed_200_times_over_500_mb_it_has_the_right_bytes(tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    (tmp_path / "here").mkdir()
    with (tmp_path / "www" / "f").open("wb") as file:
        for seed in range(500):
            file.write(random.Random(seed).randbytes(1_000_000))
    right = sha256(tmp_path / "www" / "f")
    with ExitStack() as stack:
        origin = stack.enter_context(nginx(tmp_path / "nginx", tmp_path / "www"))
        relay = stack.enter_context(aside(Relay(int(origin.url.rpartition(":")[2].strip("/")), 6e6)))
        kill_often(f"{relay.url}f", tmp_path / "here", 200, 1.2)
        relay.rate = 1e9
        assert run(f"{relay.url}f", folder=tmp_path / "here", seconds=600).code == 0
        assert sha256(tmp_path / "here" / "f") == right
        assert relay.passed <= 500_000_000 + 200 * LOST


def test_killed_while_it_gets_its_name_it_is_whole_or_goes_on(tmp_path: Path) -> None:
    """A part that has all its bytes, and a name that was given before the journal went."""
    with aside(Origin({"f": DATA})) as origin:
        broken_off(origin, tmp_path, at=SIZE - 1)
        journal = (tmp_path / JOURNAL).read_bytes()
        well(get(f"{origin.url}f", folder=tmp_path), tmp_path)
        (tmp_path / JOURNAL).write_bytes(journal)
        done = get(f"{origin.url}f", "--overwrite", folder=tmp_path)
        well(done, tmp_path)


# ── what is on the disk before what ──


@needs("strace")
def test_the_data_are_on_the_disk_before_the_journal_says_so_and_the_name_comes_last(tmp_path: Path) -> None:
    calls = "fdatasync,fsync,write,pwrite64,pwritev,pwritev2,writev,rename,renameat,renameat2,unlink,unlinkat"
    (tmp_path / "here").mkdir()
    command = ["strace", "-f", "-y", "-s", "0", "-o", str(tmp_path / "trace"), "-e", f"trace={calls}"]
    with aside(Origin({"f": MANY})) as origin, aside(Relay(origin.port, 25e6)) as relay:
        done = subprocess.run(
            [*command, sys.executable, "-m", "playhead", "get", f"{relay.url}f"],
            cwd=tmp_path / "here",
            capture_output=True,
            timeout=60,
        )
    if b"ptrace" in done.stderr:
        pytest.skip("nothing may be traced here")
    assert done.returncode == 0, done.stderr
    assert holds(tmp_path / "here" / "f", MANY)
    events = traced((tmp_path / "trace").read_text("utf-8", "replace"), tmp_path / "here")
    first, named = events.index("write part"), events.index("rename")
    claims = [at for at, what in enumerate(events) if what == "write journal" and at > first]
    assert len(claims) >= len(MANY) // LOST
    for former, claim in pairwise([first, *claims]):
        assert "sync part" in events[former:claim], events[former : claim + 1]
    for claim, later in pairwise([*claims, named]):
        assert "sync journal" in events[claim:later], events[claim : later + 1]
    last = max(at for at, what in enumerate(events) if what == "write part")
    assert last < events.index("sync part", last) < named
    assert events.count("rename") == 1
    assert "sync folder" in events[named:]


def traced(text: str, folder: Path) -> list[str]:
    """What happened to a download, in order: a call of another thread counts when it has returned."""
    waiting: dict[str, str] = {}
    events = []
    for line in text.splitlines():
        thread, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            waiting[thread] = call
            if what := _meant(call, folder):
                events.append(f"began {what}")
        elif call.startswith("<..."):
            if what := _meant(waiting.pop(thread, ""), folder):
                events.append(what)
        elif what := _meant(call, folder):
            events += [f"began {what}", what]
    return events


def _meant(call: str, folder: Path) -> str | None:
    name, _, rest = call.partition("(")
    if name.startswith("rename") and '"' in rest:
        return "rename" if re.search(r'f\.part"', rest) and not re.search(r'\.journal[^"]*"', rest) else None
    found = re.match(r"\d+<([^>]*)>", rest)
    if not found:
        return None
    kind = {str(folder / PART): "part", str(folder / JOURNAL): "journal", str(folder): "folder"}.get(found[1])
    verb = "sync" if "sync" in name else "write"
    return f"{verb} {kind}" if kind else None


# ── journals that are not what they were ──


def _torn(share: float) -> Callable[[Path], None]:
    def tear(folder: Path) -> None:
        data = (folder / JOURNAL).read_bytes()
        (folder / JOURNAL).write_bytes(data[: int(len(data) * share)])

    return tear


def _flipped(share: float) -> Callable[[Path], None]:
    def flip(folder: Path) -> None:
        data = bytearray((folder / JOURNAL).read_bytes())
        data[min(len(data) - 1, int(len(data) * share))] ^= 4
        (folder / JOURNAL).write_bytes(data)

    return flip


def _journal(data: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / JOURNAL).write_bytes(data)

    return write


def _zeroed(folder: Path) -> None:
    (folder / JOURNAL).write_bytes(bytes((folder / JOURNAL).stat().st_size))


def _zero_tail(folder: Path) -> None:
    data = (folder / JOURNAL).read_bytes()
    (folder / JOURNAL).write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


def _garbage_tail(folder: Path) -> None:
    with (folder / JOURNAL).open("ab") as file:
        file.write(random.Random(1).randbytes(333))


def _part_cut(folder: Path) -> None:
    os.truncate(folder / PART, 100_000)


def _part_gone(folder: Path) -> None:
    (folder / PART).unlink()


def _part_empty(folder: Path) -> None:
    os.truncate(folder / PART, 0)


def _part_longer(folder: Path) -> None:
    with (folder / PART).open("ab") as file:
        file.write(b"more" * 10_000)


def _part_folder(folder: Path) -> None:
    (folder / PART).unlink()
    (folder / PART).mkdir()


def _journal_folder(folder: Path) -> None:
    (folder / JOURNAL).unlink()
    (folder / JOURNAL).mkdir()


STATES: dict[str, Callable[[Path], None]] = {
    **{f"torn at {share:.0%}": _torn(share) for share in (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)},
    **{f"a bit wrong at {share:.0%}": _flipped(share) for share in (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.999)},
    "empty": _journal(b""),
    "gone": lambda folder: (folder / JOURNAL).unlink(),
    "zeroed": _zeroed,
    "half of it zeroed": _zero_tail,
    "something after it": _garbage_tail,
    "noise": _journal(random.Random(5).randbytes(5000)),
    "very long": _journal(random.Random(5).randbytes(3 << 20)),
    "of another program": _journal(b"d8:announce" + bytes(200)),
    "JSON": _journal(b'{"version": 999999, "size": 1e400, "spans": [[0, 5243000]]}\n'),
    "deep JSON": _journal(b"[" * 100_000),
    "the part is shorter": _part_cut,
    "the part is gone": _part_gone,
    "the part is empty": _part_empty,
    "the part is longer": _part_longer,
    "the part is a folder": _part_folder,
    "the journal is a folder": _journal_folder,
}


@pytest.mark.parametrize("state", STATES)
def test_whatever_the_journal_is_the_bytes_are_right_and_none_is_thrown_away(tmp_path: Path, state: str) -> None:
    with aside(Origin({"f": DATA})) as origin:
        broken_off(origin, tmp_path)
        STATES[state](tmp_path)
        done = get(f"{origin.url}f", folder=tmp_path)
        if done.code:  # it says what to do
            failed(done, tmp_path, 2, 6, 7)
            assert ".part" in done.err
        else:
            well(done, tmp_path)


def test_a_part_that_nobody_can_explain_is_kept(tmp_path: Path) -> None:
    """The user's own file, it may be."""
    precious = b"precious" * 50_000
    for journal in (None, b"", b"noise" * 100):
        folder = tmp_path / f"{journal!r}"[:9]
        folder.mkdir()
        (folder / PART).write_bytes(precious)
        if journal is not None:
            (folder / JOURNAL).write_bytes(journal)
        with aside(Origin({"f": DATA})) as origin:
            done = get(f"{origin.url}f", folder=folder)
        if done.code:
            failed(done, folder, 2)
            assert PART in done.err
        else:
            assert holds(folder / "f", DATA)
        assert [name for name in left(folder) if (folder / name).read_bytes() == precious], left(folder)


def test_parts_that_were_kept_are_not_written_over_by_the_next(tmp_path: Path) -> None:
    kept = [b"first" * 1000, b"second" * 1000, b"third" * 1000]
    with aside(Origin({"f": DATA})) as origin:
        for data in kept:
            (tmp_path / PART).write_bytes(data)
            get(f"{origin.url}f", "--overwrite", folder=tmp_path)
    there = [path.read_bytes() for path in tmp_path.iterdir()]
    assert all(data in there for data in kept)


@pytest.mark.parametrize("same", [True, False], ids=["same validators", "others"])
def test_the_journal_of_another_url_is_not_gone_on_with(tmp_path: Path, same: bool) -> None:
    with aside(Origin({"f": DATA, "other/f": OTHER}, validators="modified" if same else "etag")) as origin:
        broken_off(origin, tmp_path)
        done = get(f"{origin.url}other/f", folder=tmp_path)
        if done.code:
            failed(done, tmp_path, 2, 5)
            assert PART in done.err
            assert (tmp_path / PART).read_bytes().startswith(DATA[:100_000])
        else:
            well(done, tmp_path, OTHER)


def test_an_older_journal_costs_only_what_came_since(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as origin:
        broken_off(origin, tmp_path, at=1 << 20)
        older = (tmp_path / JOURNAL).read_bytes()
        broken_off(origin, tmp_path, at=4 << 20)
        (tmp_path / JOURNAL).write_bytes(older)
        well(get(f"{origin.url}f", folder=tmp_path), tmp_path)


def test_an_older_part_than_its_journal_is_not_believed(tmp_path: Path) -> None:
    """As after a restored backup, or a file system that lost what it had promised."""
    with aside(Origin({"f": DATA})) as origin:
        broken_off(origin, tmp_path)
        with (tmp_path / PART).open("r+b") as part:
            part.seek(1 << 20)
            part.write(bytes(1 << 20))
        done = get(f"{origin.url}f", folder=tmp_path)
        well(done, tmp_path) if done.code == 0 else failed(done, tmp_path, 6)


@pytest.mark.parametrize("name", [JOURNAL, "f.info", "f.part.state"])
def test_no_state_is_ever_run(tmp_path: Path, name: str) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/owned",)

    with aside(Origin({"f": DATA})) as origin:
        (tmp_path / PART).write_bytes(DATA[:HALF])
        (tmp_path / name).write_bytes(pickle.dumps(Evil()))
        get(f"{origin.url}f", folder=tmp_path)
    assert not (tmp_path / "owned").exists()


def test_links_in_the_place_of_its_files_are_not_written_through(tmp_path: Path) -> None:
    """Whoever may write into the folder may not make it write elsewhere."""
    (tmp_path / "here").mkdir()
    (tmp_path / "precious").write_bytes(b"precious")
    for name in (PART, JOURNAL):
        (tmp_path / "here" / name).symlink_to(tmp_path / "precious")
        with aside(Origin({"f": DATA})) as origin:
            get(f"{origin.url}f", folder=tmp_path / "here")
        assert (tmp_path / "precious").read_bytes() == b"precious"
        shutil.rmtree(tmp_path / "here")
        (tmp_path / "here").mkdir()


# ── one at a time ──


def test_a_second_process_for_the_same_target_is_refused_and_told_who(tmp_path: Path) -> None:
    with aside(Origin({"f": MANY})) as origin, aside(Relay(origin.port, 8e6)) as relay:
        with running(f"{relay.url}f", folder=tmp_path) as first:
            until = time.monotonic() + 20
            while relay.passed < 1_000_000:
                assert time.monotonic() < until and first.poll() is None
                time.sleep(0.01)
            second = run(f"{relay.url}f", folder=tmp_path)
            assert second.code in (2, 7), second.err
            assert str(first.pid) in second.said
            relay.rate = 1e9
            assert first.communicate(timeout=30) and first.returncode == 0
        assert holds(tmp_path / "f", MANY)


def test_what_a_killed_process_left_does_not_lock_the_next_one_out(tmp_path: Path) -> None:
    with aside(Origin({"f": MANY[:8_000_000]})) as origin, aside(Relay(origin.port, 4e6)) as relay:
        assert killed_when(lambda: relay.passed > 1_000_000, f"{relay.url}f", folder=tmp_path)
        relay.rate = 1e9
        well(run(f"{relay.url}f", folder=tmp_path), tmp_path, MANY[:8_000_000])


def test_a_file_that_changed_while_the_download_was_killed_is_fetched_anew(tmp_path: Path) -> None:
    data, other = MANY[:20_000_000], MANY[20_000_000:40_000_000]
    with aside(Origin({"f": data})) as origin, aside(Relay(origin.port, 20e6)) as relay:
        assert killed_when(lambda: relay.passed > 12_000_000, f"{relay.url}f", folder=tmp_path)
        origin.always["f"] = version(other)
        relay.rate = 1e9
        well(run(f"{relay.url}f", folder=tmp_path), tmp_path, other)


@pytest.mark.parametrize("validators", ["weak", ""])
def test_a_killed_download_without_a_strong_validator_is_not_mixed(tmp_path: Path, validators: str) -> None:
    """Every connection had got somewhere; at each such place the new bytes differ."""
    data, other = MANY[:20_000_000], MANY[20_000_000:40_000_000]
    with aside(Origin({"f": data}, validators=validators)) as origin, aside(Relay(origin.port, 20e6)) as relay:
        assert killed_when(lambda: relay.passed > 12_000_000, f"{relay.url}f", folder=tmp_path)
        origin.always["f"] = version(other, validators)
        relay.rate = 1e9
        well(run(f"{relay.url}f", folder=tmp_path), tmp_path, other)
