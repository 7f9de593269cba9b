"""`playhead push`: what it says, what its code is, and what it refuses."""

import argparse
import asyncio
import json
import os
from pathlib import Path

import pytest

from playhead.assemble import Trees
from playhead.config import Config
from playhead.doors.sending import Summary
from playhead.errors import Busy, Full, Malformed, NotFound
from playhead.origins.folder import LocalStore
from playhead.pushing import Teller, run
from playhead.secrets import state_folder
from playhead.transforms.crypt import crypt
from playhead.tree import Tree
from tests.peers.crypts import Setting, on_disk, put

FILES = {"a/1.MP3": b"one", "b.flac": b"two!", "\udcff\x1b[1m": b"3"}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    put(FILES, tmp_path / "source")
    for path in (tmp_path / "source").rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    (tmp_path / "target").mkdir()
    return tmp_path


@pytest.fixture(autouse=True)
def stores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target is a folder; with "crypt:" before it, what is in it is encrypted."""

    def store(self: Trees, text: str) -> tuple[Tree, str]:
        made = LocalStore(text.removeprefix("crypt:"))
        return (crypt(made, Setting().keys, Setting().names()) if text.startswith("crypt:") else made), ""

    monkeypatch.setattr(Trees, "store", store, raising=False)


def options(place: Path, **given: object) -> argparse.Namespace:
    named = {"folder": str(place / "source"), "target": str(place / "target"), "at_once": 8, "overwrite": False}
    return argparse.Namespace(**{**named, "verify": False, "dry_run": False, "json": False, **given})


async def interrupted(given: argparse.Namespace) -> int:
    """What the command line makes of it: a KeyboardInterrupt in a task would end the loop."""
    try:
        return await run(given, Config())
    except KeyboardInterrupt:
        return 130


async def test_it_pushes_and_says_how_it_ended(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert await run(options(place), Config()) == 0
    assert on_disk(place / "target") == FILES == on_disk(place / "source")
    assert "playhead: 3 sent (8 B), 0 already there, 0 failed" in capfd.readouterr().err
    (place / "target" / "b.flac").write_bytes(b"another")
    assert await run(options(place), Config()) == 9
    said = capfd.readouterr()
    assert "'b.flac' is another version at the target; --overwrite replaces it\n" in said.err
    assert "0 sent (0 B), 2 already there, 1 failed" in said.err and said.out == ""


async def test_it_says_what_goes_on_as_json(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (place / "target" / "b.flac").write_bytes(b"another")
    assert await run(options(place, json=True), Config()) == 9
    events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert events[0] == {
        "event": "begin",
        "source": str(place / "source"),
        "target": str(place / "target"),
        "dry_run": False,
    }
    of = {path: [event for event in events if event.get("path") == path] for path in FILES}
    assert of["a/1.MP3"] == [
        {"event": "file", "path": "a/1.MP3", "size": 3},
        {"event": "done", "path": "a/1.MP3", "size": 3, "how": "sent"},
    ]
    [failed] = of["b.flac"]
    assert (failed["event"], failed["code"]) == ("failed", 5) and "another version" in failed["message"]
    assert len(of["\udcff\x1b[1m"]) == 2
    assert {name: events[-1][name] for name in ("event", "found", "sent", "copied", "already", "failed", "bytes")} == {
        "event": "summary",
        "found": 3,
        "sent": 2,
        "copied": 0,
        "already": 0,
        "failed": 1,
        "bytes": 4,
    }


async def test_a_dry_run_lists_what_would_be_sent(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert await run(options(place, dry_run=True), Config()) == 0
    said = capfd.readouterr()
    assert sorted(said.out.splitlines()) == ["a/1.MP3: 3 B", "b.flac: 4 B", "�_[1m: 1 B"]
    assert "3 would be sent (8 B)" in said.err and on_disk(place / "target") == {}


@pytest.mark.parametrize("kind", ["", "crypt:"])
@pytest.mark.parametrize("inside", [".", "a", "a/new"])
async def test_a_target_within_the_source_is_refused(place: Path, kind: str, inside: str) -> None:
    (place / "source" / inside).mkdir(exist_ok=True)
    (place / "link").symlink_to(place / "source" / inside)
    for target in (place / "source" / inside, place / "link"):
        with pytest.raises(Malformed, match="into itself"):
            await run(options(place, target=f"{kind}{target}"), Config())
    assert on_disk(place / "source") == FILES
    assert await run(options(place, folder=str(place / "source/a"), target=f"{kind}{place}/target"), Config()) == 0


async def test_the_journal_is_in_the_state_folder_and_names_neither(place: Path) -> None:
    await run(options(place), Config())
    await run(options(place, folder=str(place / "source" / "a" / "..")), Config())
    await run(options(place, folder=str(place / "source" / "a")), Config())
    names = {path.name for path in (state_folder() / "push").iterdir()}
    assert len(names) == 4 and not any(text in name for name in names for text in ("source", "target"))


async def test_a_push_that_goes_on_is_alone_and_interrupted_says_that_it_goes_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    waiting = asyncio.Event()

    async def put(*given: object, **named: object) -> None:
        waiting.set()
        await asyncio.sleep(60)

    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "put", put)
        pushing = asyncio.create_task(interrupted(options(place)))
        await asyncio.wait_for(waiting.wait(), 20)
        with pytest.raises(Busy, match="another process"):
            await run(options(place), Config())
        pushing.cancel()
        assert await pushing == 130
    assert "interrupted; the same command goes on from here" in capfd.readouterr().err
    assert await run(options(place), Config()) == 0
    assert on_disk(place / "target") == FILES


async def test_what_ends_it_all_says_that_it_goes_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*given: object, **named: object) -> None:
        raise Full("no room")

    monkeypatch.setattr(LocalStore, "put", full)
    with pytest.raises(Full) as caught:
        await run(options(place), Config())
    assert caught.value.told == "no room; the same command goes on from here"


async def test_what_is_not_there_is_not_found(place: Path) -> None:
    with pytest.raises(NotFound):
        await run(options(place, folder=str(place / "nothing")), Config())


async def test_progress_is_one_line_of_what_is_certain(place: Path) -> None:
    teller = Teller("a", "b", as_json=False, dry_run=False)
    summary = Summary(found=120, size=1000, sent=30, already=4, failed=1, done_bytes=250)
    assert teller._line(summary) == (
        "[█████···············] 25% 250 B of 1.0 kB, 0 B/s, 34 of 120 files so far, 1 failed"
    )
    teller.recent[0] = (teller.recent[0][0] - 5, 0)
    summary.listed, summary.done_bytes = True, 500
    line = teller._line(summary)
    assert ("50% 500 B of 1.0 kB" in line and "5 s left" in line) or "4 s left" in line
    assert "so far" not in line
