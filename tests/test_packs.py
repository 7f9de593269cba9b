"""`playhead pack`, as a person meets it, and `playhead.tar`, `playhead.zip` and `playhead.once` in Python."""

import asyncio
import errno
import hashlib
import io
import os
import pty
import random
import select
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import playhead
from playhead import Blob, Damaged, Malformed, literal
from tests.fakes import origin as lies
from tests.fakes.origin import Origin
from tests.fakes.relay import Relay, aside
from tests.laws import check_blob, taken
from tests.test_cli import DEADLINE, failed, running

ALBUM = {
    "1 첫째.ogg": random.Random(1).randbytes(100_000),
    "2 second.ogg": random.Random(2).randbytes(1_000_000),
    "booklet/cover.png": random.Random(3).randbytes(5000),
    "booklet/deep/empty": b"",
    "quote \" and ' and <b>.txt": b"quoted",
}
LONG = 220 << 20  # more than three times what is on disk for certain


def put(folder: Path, files: dict[str, bytes]) -> Path:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def on_disk(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def members(data: bytes | Path, kind: str = "tar") -> dict[str, bytes]:
    """The files in an archive."""
    file = data.open("rb") if isinstance(data, Path) else io.BytesIO(data)
    with file:
        if kind == "tar":
            with tarfile.open(fileobj=file) as tar:
                return {info.name: read.read() for info in tar if (read := tar.extractfile(info))}
        with zipfile.ZipFile(file) as zip:
            assert zip.testzip() is None
            return {info.filename: zip.read(info) for info in zip.infolist() if not info.is_dir()}


def packed(*arguments: str | Path, **how: Any) -> bytes:
    """What `playhead pack` writes to a pipe, when all goes well."""
    with running("pack", *map(str, arguments), **how) as process:
        out, err = process.communicate(timeout=DEADLINE * 3)
        assert (process.returncode, err) == (0, b"")
        return out


def into(path: Path, *arguments: str | Path, **how: Any) -> None:
    """`playhead pack -o PATH`, when all goes well: then there is nothing beside it."""
    assert packed(*arguments, "-o", path, **how) == b""
    assert left(path) == [path.name]


def left(path: Path) -> list[str]:
    """What there is of a target."""
    return sorted(name for name in os.listdir(path.parent) if name == path.name or name.startswith(f"{path.name}.part"))


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture
def album(tmp_path: Path) -> Path:
    put(tmp_path / "album", ALBUM)
    (tmp_path / "album" / "no files").mkdir()
    return tmp_path / "album"


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """A folder of more bytes than are written in a moment, most of them holes."""
    folder = put(tmp_path / "long", {"1 first": b"first", "3 third": b"third"})
    with (folder / "2 long").open("wb") as file:
        file.truncate(LONG)
        for at in range(0, LONG, LONG // 8):
            file.seek(at)
            file.write(random.Random(at).randbytes(100_000))
    return folder


# ── into a pipe ──


@pytest.mark.parametrize("program", ["tar", "bsdtar"])
def test_a_folder_goes_through_a_pipe_into_tar(album: Path, tmp_path: Path, program: str) -> None:
    (tmp_path / "out").mkdir()
    with running("pack", str(album)) as process:
        try:
            tar = subprocess.run([program, "-xf", "-", "-C", str(tmp_path / "out")], stdin=process.stdout, timeout=30)
        except FileNotFoundError:
            pytest.skip(f"not installed: {program}")
        assert (process.wait(DEADLINE), tar.returncode) == (0, 0)
    assert on_disk(tmp_path / "out") == ALBUM
    assert (tmp_path / "out" / "no files").is_dir()


def test_a_zip_goes_through_a_pipe(album: Path) -> None:
    assert members(packed("--zip", album), "zip") == ALBUM


def test_a_file_keeps_its_name_and_date(album: Path) -> None:
    os.utime(album / "2 second.ogg", (1_000_000_000, 1_000_000_000))
    with tarfile.open(fileobj=io.BytesIO(packed(album / "2 second.ogg"))) as tar:
        assert [(info.name, info.size, info.mtime) for info in tar] == [("2 second.ogg", 1_000_000, 1_000_000_000)]


def test_the_same_bytes_come_each_time_and_also_into_a_file(album: Path, tmp_path: Path) -> None:
    for kind in ("--tar", "--zip"):
        into(tmp_path / f"out{kind}", kind, album)
        assert packed(kind, album) == packed(kind, album, "-o", "-") == (tmp_path / f"out{kind}").read_bytes()


def test_a_reader_that_closes_the_pipe_ends_it_quietly(long: Path) -> None:
    with running("pack", str(long)) as process:
        assert process.stdout
        assert process.stderr
        assert len(process.stdout.read(100)) == 100
        process.stdout.close()
        assert process.wait(DEADLINE) == 141
        assert process.stderr.read() == b""
        process.stdout = None


def test_head_of_it_ends_it_with_141(long: Path) -> None:
    pack = f'"{sys.executable}" -m playhead pack "{long}"'
    done = subprocess.run(
        ["bash", "-c", f'{pack} | head -c 100 | wc -c; echo "${{PIPESTATUS[0]}}"'],
        capture_output=True,
        timeout=DEADLINE * 2,
    )
    assert (done.stdout.split(), done.stderr) == ([b"100", b"141"], b"")


def test_an_archive_is_not_written_to_a_terminal(album: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        for output in ([], ["-o", "-"]):
            process = subprocess.run(
                [sys.executable, "-m", "playhead", "pack", str(album), *output],
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=subprocess.PIPE,
                timeout=DEADLINE,
            )
            assert process.returncode == 2
            assert process.stderr.count(b"\n") == 1
            assert b"-o FILE" in process.stderr
        assert select.select([ours], [], [], 0.1)[0] == []
    finally:
        os.close(ours)
        os.close(theirs)


# ── what is packed ──


def test_a_name_that_ends_in_zip_is_a_zip(album: Path, tmp_path: Path) -> None:
    for name, options, kind in [
        ("a.zip", [], "zip"),
        ("a.tar", [], "tar"),
        ("a", [], "tar"),
        ("b.zip", ["--tar"], "tar"),
        ("b.tar", ["--zip"], "zip"),
    ]:
        into(tmp_path / name, *options, album)
        assert members(tmp_path / name, kind) == ALBUM


def test_tar_and_zip_at_once_is_wrong_usage(album: Path) -> None:
    with running("pack", "--tar", "--zip", str(album)) as process:
        out, err = process.communicate(timeout=DEADLINE)
        assert (process.returncode, out) == (2, b"")
        assert err.startswith(b"usage: playhead pack")


def test_sources_of_equal_names_stay_apart(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        put(tmp_path / name, {"song.mp3": name.encode(), f"{name}.txt": b"", "album/1.ogg": name.encode()})
    songs = packed(*(tmp_path / name / "song.mp3" for name in "abc"))
    assert members(songs) == {"song.mp3": b"a", "song (2).mp3": b"b", "song (3).mp3": b"c"}
    folders = members(packed(tmp_path / "a", tmp_path / "b"))
    assert sorted(folders.values()) == [b"", b"", b"a", b"a", b"b", b"b"]
    same = members(packed("--zip", tmp_path / "a" / "song.mp3", tmp_path / "a" / "song.mp3"), "zip")
    assert same == {"song.mp3": b"a", "song (2).mp3": b"a"}


def test_sources_are_of_any_kind_and_in_their_order(album: Path, tmp_path: Path) -> None:
    config = tmp_path / "playhead.toml"
    config.write_text(f'[tree.music]\nuse = "local"\nroot = "{album}"\n')
    with aside(Origin({"folder/from far.ogg": b"far", "one.ogg": b"one"})) as origin:
        data = packed(
            *(
                "--config",
                config,
                f"{origin.url}folder/",
                "music:booklet",
                f"{origin.url}one.ogg",
                album / "2 second.ogg",
            )
        )
    assert list(members(data).items()) == [
        ("from far.ogg", b"far"),
        ("booklet/cover.png", ALBUM["booklet/cover.png"]),
        ("booklet/deep/empty", b""),
        ("one.ogg", b"one"),
        ("2 second.ogg", ALBUM["2 second.ogg"]),
    ]


def test_what_is_not_there_ends_with_3_before_the_first_byte(album: Path, tmp_path: Path) -> None:
    failed(3, "pack", str(album), "nothing", cwd=tmp_path)
    for sources in (["nothing"], [str(album), str(album / "nothing")]):
        failed(3, "pack", *sources, "-o", str(tmp_path / "out.tar"), cwd=tmp_path)
        assert left(tmp_path / "out.tar") == []


def test_an_unknown_tree_ends_with_2_and_an_empty_folder_with_3(tmp_path: Path) -> None:
    failed(2, "pack", "nothing:x")
    (tmp_path / "empty").mkdir()
    assert "nothing to pack" in failed(3, "pack", str(tmp_path / "empty"))


def test_an_archive_that_lies_in_its_own_folder_does_not_hold_itself(album: Path) -> None:
    into(album / "all.tar", album)
    assert members(album / "all.tar") == ALBUM


# ── into a file ──


def test_a_file_that_is_there_is_not_written_over(album: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.tar"
    target.write_bytes(b"precious")
    assert "--replace" in failed(2, "pack", str(album), "-o", str(target))
    assert (target.read_bytes(), left(target)) == (b"precious", ["out.tar"])
    into(target, album, "--replace")
    assert members(target) == ALBUM


def test_what_replaces_a_file_does_so_when_it_is_whole(album: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.tar"
    target.write_bytes(b"precious")
    with aside(Origin({"a/1.ogg": bytes(400_000), "a/2.ogg": bytes(400_000)})) as origin:
        origin.always["a/2.ogg"] = lies.short(100)
        with running("pack", f"{origin.url}a/", "-o", str(target), "--replace") as process:
            process.communicate(timeout=DEADLINE * 3)
            assert process.returncode
        assert target.read_bytes() == b"precious"
        origin.always.clear()
        into(target, f"{origin.url}a/", "--replace")
    assert members(target) == {"1.ogg": bytes(400_000), "2.ogg": bytes(400_000)}


@pytest.mark.parametrize("target", ["no such folder/x.tar", "a file/x.tar", "a folder", "", "/dev/null/x"])
@pytest.mark.parametrize("options", [[], ["--replace"]], ids=["", "replace"])
def test_a_target_that_cannot_be_ends_with_2(album: Path, tmp_path: Path, target: str, options: list[str]) -> None:
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a file").write_bytes(b"precious")
    failed(2, "pack", str(album), "-o", target, *options, cwd=tmp_path)
    assert (tmp_path / "a file").read_bytes() == b"precious"
    assert sorted(os.listdir(tmp_path)) == ["a file", "a folder", "album"]


@pytest.mark.parametrize("options", [[], ["--replace"]], ids=["", "replace"])
def test_what_is_no_file_is_not_replaced_by_one(album: Path, tmp_path: Path, options: list[str]) -> None:
    """As /dev/null is none."""
    os.mkfifo(tmp_path / "pipe")
    failed(2, "pack", str(album), "-o", str(tmp_path / "pipe"), *options)
    assert (tmp_path / "pipe").is_fifo()
    assert left(tmp_path / "pipe") == ["pipe"]


def killed(target: Path, *arguments: str | Path, after: float) -> bool:
    """Run `playhead pack -o` and kill it after some seconds, unless it is done before; was it killed?"""
    with running("pack", *map(str, arguments), "-o", str(target)) as process:
        try:
            _, err = process.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(DEADLINE)
            return not target.exists()  # else it was done in that very moment
        assert (process.returncode, err) == (0, b"")
        return False


def ended_at(target: Path, size: int, *arguments: str | Path, number: int = signal.SIGKILL) -> None:
    """Run `playhead pack -o`, and end it when it has written so many bytes."""
    part = target.with_name(f"{target.name}.part")
    with running("pack", *map(str, arguments), "-o", str(target)) as process:
        until = time.monotonic() + DEADLINE * 2
        while not part.exists() or part.stat().st_size < size:
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.002)
        process.send_signal(number)
        assert process.wait(DEADLINE) == (130 if number == signal.SIGINT else -number)
    assert left(target) == [f"{target.name}.part", f"{target.name}.part.plan"]


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_killed_at_any_moment_it_goes_on(long: Path, tmp_path: Path, kind: str) -> None:
    target, chance, kills = tmp_path / f"out.{kind}", random.Random(kind), 0
    into(tmp_path / f"right.{kind}", long)
    ended_at(target, 50 << 20, long)
    ended_at(target, 130 << 20, long)
    while killed(target, long, after=chance.uniform(0.2, 0.6) * 1.15**kills):
        kills += 1
        assert kills < 25
    assert not (tmp_path / f"out.{kind}.part").exists()
    assert sha256(target) == sha256(tmp_path / f"right.{kind}")


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_killed_100_times_it_goes_on(long: Path, tmp_path: Path, kind: str) -> None:
    target, chance, kills = tmp_path / f"out.{kind}", random.Random(kind), 0
    into(tmp_path / f"right.{kind}", long)
    while kills < 100:
        began = kills
        while killed(target, long, after=chance.uniform(0.2, 0.8) * 1.15 ** (kills - began)):
            kills += 1
        assert sha256(target) == sha256(tmp_path / f"right.{kind}")
        target.unlink()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_what_was_written_is_not_written_again(long: Path, tmp_path: Path, number: int) -> None:
    target = tmp_path / "out.tar"
    ended_at(target, 150 << 20, long, number=number)
    with (tmp_path / "out.tar.part").open("r+b") as part:
        part.seek(5000)
        part.write(b"marked")
    into(target, long)
    assert target.read_bytes()[5000:5006] == b"marked"


def test_what_came_from_far_is_not_fetched_again(tmp_path: Path) -> None:
    """Also where it is less than what is put on the disk at once."""
    files = {f"a/{number}.ogg": random.Random(number).randbytes(4_000_000) for number in range(8)}
    target = tmp_path / "out.tar"
    with aside(Origin(files)) as origin, aside(Relay(origin.port, 30e6)) as relay:
        ended_at(target, 16_000_000, f"{relay.url}a/")
        origin.requests.clear()
        into(target, f"{relay.url}a/")
        assert members(target) == {path[2:]: data for path, data in files.items()}
        assert origin.of("a/0.ogg") == []


FAR = {f"a/{number}.ogg": random.Random(number).randbytes(300_000) for number in range(4)}
NEAR = {path[2:]: data for path, data in FAR.items()}


def broken_off(origin: Origin, target: Path, *options: str) -> str:
    """A run that ends at a member that is gone for a while; what it says."""
    origin.script["a/2.ogg"], origin.always["a/2.ogg"] = [None], lies.status(404)  # it is there when it is looked for
    said = failed(3, "pack", f"{origin.url}a/", "-o", str(target), *options)
    origin.always.clear()
    assert left(target) == [f"{target.name}.part", f"{target.name}.part.plan"]
    return said


@pytest.mark.parametrize("state", ["no part", "an empty part", "a longer part", "no plan", "half a plan", "garbage"])
def test_it_goes_on_with_whatever_is_left(tmp_path: Path, state: str) -> None:
    target = tmp_path / "out.tar"
    part, plan = tmp_path / "out.tar.part", tmp_path / "out.tar.part.plan"
    with aside(Origin(FAR)) as origin:
        broken_off(origin, target)
        if state == "no part":
            part.unlink()
        elif state == "an empty part":
            part.write_bytes(b"")
        elif state == "a longer part":
            part.write_bytes(part.read_bytes() + bytes(2_000_000))
        else:  # then what is there cannot be trusted
            part.write_bytes(b"wrong" * 1000)
            plan.unlink()
        if state in ("half a plan", "garbage"):
            plan.write_bytes(b"half" if state == "half a plan" else random.Random(1).randbytes(500))
        into(target, f"{origin.url}a/")
    assert members(target) == NEAR


def test_a_plan_that_outlived_its_archive_is_not_gone_on_with(tmp_path: Path) -> None:
    """As it does where the program is killed between the last two things that it does."""
    target, plan = tmp_path / "out.tar", tmp_path / "out.tar.part.plan"
    with aside(Origin(FAR)) as origin:
        broken_off(origin, target)
        kept = plan.read_bytes()
        into(target, f"{origin.url}a/")
        plan.write_bytes(kept)
        origin.files["a/0 added.ogg"] = b"added"
        into(target, f"{origin.url}a/", "--replace")
    assert members(target) == {**NEAR, "0 added.ogg": b"added"}


def test_another_list_of_sources_begins_anew(tmp_path: Path, album: Path) -> None:
    target = tmp_path / "out.tar"
    with aside(Origin(FAR)) as origin:
        broken_off(origin, target)
        into(target, album)
    assert members(target) == ALBUM


def test_another_kind_begins_anew(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with aside(Origin(FAR)) as origin:
        broken_off(origin, target, "--tar")
        into(target, "--zip", f"{origin.url}a/")
    assert members(target, "zip") == NEAR


def test_a_file_that_was_added_between_two_runs_is_not_in_it(tmp_path: Path) -> None:
    target = tmp_path / "out.tar"
    with aside(Origin(FAR)) as origin:
        broken_off(origin, target)
        origin.files["a/0 added.ogg"] = b"added"
        into(target, f"{origin.url}a/")
    assert members(target) == NEAR


# ── members that fail ──


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (lies.status(404), 3),
        (lies.status(403), 4),
        (lies.instead(bytes(300_000), ETag='"other"'), 5),
        (lies.status(503), 7),
        (lies.short(1000), 7),
    ],
    ids=["gone", "denied", "changed", "unavailable", "cut"],
)
def test_a_member_that_fails_ends_it_with_its_code_and_a_later_run_goes_on(
    tmp_path: Path, fault: lies.Fault, code: int
) -> None:
    target = tmp_path / "out.tar"
    with aside(Origin(FAR)) as origin:
        right = packed(f"{origin.url}a/")
        origin.script["a/2.ogg"], origin.always["a/2.ogg"] = [None], fault  # the first looks at its size
        failed(code, "pack", f"{origin.url}a/", "-o", str(target))
        assert left(target) == ["out.tar.part", "out.tar.part.plan"]
        assert right.startswith((tmp_path / "out.tar.part").read_bytes())
        origin.always.clear()
        into(target, f"{origin.url}a/")
        assert target.read_bytes() == right


@pytest.mark.parametrize("kind", ["--tar", "--zip"])
def test_a_member_that_fails_ends_a_pipe_with_its_code_and_a_part(kind: str) -> None:
    with aside(Origin(FAR)) as origin:
        right = packed(kind, f"{origin.url}a/")
        origin.script["a/2.ogg"], origin.always["a/2.ogg"] = [None], lies.status(404)
        with running("pack", kind, f"{origin.url}a/") as process:
            out, err = process.communicate(timeout=DEADLINE)
            assert (process.returncode, err.count(b"\n")) == (3, 1)
        assert right.startswith(out)
        assert len(out) < len(right)


def test_the_failure_names_the_member(tmp_path: Path) -> None:
    with aside(Origin(FAR)) as origin:
        assert "2.ogg" in broken_off(origin, tmp_path / "out.tar")


def test_a_file_that_vanishes_on_the_way_ends_it(long: Path, tmp_path: Path) -> None:
    target, last = tmp_path / "out.tar", long / "3 third"
    right = packed(long)
    ended_at(target, 1 << 20, long)
    last.unlink()
    failed(3, "pack", str(long), "-o", str(target))
    assert left(target) == ["out.tar.part", "out.tar.part.plan"]
    assert right.startswith((tmp_path / "out.tar.part").read_bytes())


def test_a_file_that_changed_between_two_runs_ends_it_and_the_remedy_is_told(long: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.tar"
    ended_at(target, 100 << 20, long)
    (long / "3 third").write_bytes(b"THIRD")
    said = failed(5, "pack", str(long), "-o", str(target))
    assert left(target) == ["out.tar.part", "out.tar.part.plan"]
    assert "3 third" in said
    assert f"{target}.part.plan" in said
    (tmp_path / "out.tar.part.plan").unlink()
    into(target, long)
    assert members(target)["3 third"] == b"THIRD"


# ── disks that are full ──


def test_a_full_device_ends_it_with_8(album: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "playhead", "pack", str(album)],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=DEADLINE,
        )
    assert (done.returncode, done.stderr.count(b"\n")) == (8, 1), done.stderr.decode()


def test_a_full_disk_ends_it_with_8_and_with_room_it_goes_on(album: Path, tmp_path: Path) -> None:
    """On a file system in memory that only these commands see."""
    (tmp_path / "disk").mkdir()
    pack = f'"{sys.executable}" -m playhead pack "{album}" -o disk/out.tar'
    script = [
        "mount -t tmpfs -o size=500k none disk || exit 77",
        f'{pack}; echo "code $?"; ls disk',
        "mount -o remount,size=50m disk || exit 77",
        f'{pack}; echo "code $?"; ls disk; cp disk/out.tar out.tar',
    ]
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", "\n".join(script)]
    try:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE * 2)
    except FileNotFoundError:
        pytest.skip("not installed: unshare")
    if done.returncode == 77 or "unshare:" in done.stderr:
        pytest.skip("no file system may be mounted here")
    assert done.stdout.split("\n")[:-1] == ["code 8", "out.tar.part", "out.tar.part.plan", "code 0", "out.tar"]
    assert done.stderr.count("\n") == 1, done.stderr
    assert members(tmp_path / "out.tar") == ALBUM


# ── the bar ──


def on_a_terminal(*arguments: str | Path, out: int = subprocess.DEVNULL) -> str:
    """What `playhead pack` shows where standard error is a terminal."""
    ours, theirs = pty.openpty()
    shown, until = b"", time.monotonic() + DEADLINE * 2
    try:
        command = [sys.executable, "-m", "playhead", "pack", *map(str, arguments)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=theirs)
        os.close(theirs)
        while time.monotonic() < until:
            ready, _, _ = select.select([ours], [], [], 0.1)
            try:
                shown += os.read(ours, 1 << 16) if ready else b""
            except OSError as error:
                assert error.errno == errno.EIO  # the other side is closed: that was all
                break
        assert process.wait(DEADLINE) == 0
    finally:
        os.close(ours)
    return shown.decode()


def test_a_bar_grows_on_a_terminal(long: Path, tmp_path: Path) -> None:
    for output in ("-", tmp_path / "out.tar"):
        shown = on_a_terminal(long, "-o", output)
        *lines, last, end = shown.replace("\r\n", "\n").replace("\n", "\r\n").split("\r")
        assert end == "\n"
        assert "100%" in last
        assert "230.7 MB of 230.7 MB" in last
        assert len(lines) > 1
        assert all(len(line) <= 79 and line.isprintable() for line in lines)


def test_without_a_terminal_there_is_no_bar(album: Path, tmp_path: Path) -> None:
    into(tmp_path / "out.tar", album)  # which complains of anything on standard error


# ── in Python ──


def together(kind: str) -> Any:
    return playhead.tar if kind == "tar" else playhead.zip


MEMBERS: list[tuple[str, Blob | bytes]] = [
    ("one.ogg", literal(random.Random(1).randbytes(300_000))),
    ("folder/별.txt", b"star"),
    ("empty", b""),
    ("n" * 200, random.Random(2).randbytes(513)),
]


@pytest.mark.parametrize("kind", ["tar", "zip"])
async def test_an_archive_is_a_blob_of_an_exact_size(kind: str) -> None:
    blob = together(kind)(MEMBERS)
    data = await blob.read()
    assert blob.size == len(data)
    await check_blob(blob, data)
    assert list(members(data, kind).items()) == [
        (name, thing if isinstance(thing, bytes) else await thing.read()) for name, thing in MEMBERS
    ]


@pytest.mark.parametrize("kind", ["tar", "zip"])
async def test_equal_members_are_equal_archives(kind: str) -> None:
    one, other = together(kind)(MEMBERS), together(kind)(iter(MEMBERS))
    assert (one.size, one.tag) == (other.size, other.tag)
    assert await one.read() == await other.read()
    changed = together(kind)([*MEMBERS[:-1], ("last", b"x")])
    assert changed.tag != one.tag


async def test_sizes_are_known_before_any_byte_is_read() -> None:
    for kind in ("tar", "zip"):
        for count in (0, 1, 511, 512, 513, 300_000):
            blob = together(kind)([("a", playhead.once(never(), count)), ("b" * 150, playhead.once(never(), 5))])
            same = together(kind)([("a", bytes(count)), ("b" * 150, bytes(5))])
            assert blob.size == same.size == len(await same.read())


def never() -> Iterator[bytes]:
    yield pytest.fail("nobody asked for a byte")


async def test_an_archive_of_nothing_is_an_empty_archive() -> None:
    assert await playhead.tar([]).read() == bytes(10_240)
    assert members(await playhead.zip([]).read(), "zip") == {}


async def test_names_are_made_safe_and_unique() -> None:
    data = await playhead.tar([("../a", b"1"), ("/a", b"2"), ("a", b"3"), ("C:\\x", b"4"), ("", b"5")]).read()
    assert members(data) == {"a": b"1", "a (2)": b"2", "a (3)": b"3", "C_/x": b"4", "unnamed": b"5"}


async def test_times_are_those_that_are_given(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    os.utime(tmp_path / "file", (1_600_000_000, 1_600_000_000))
    tree = playhead.open(tmp_path)
    blob = await tree.open("file")
    data = await playhead.tar(
        [("a", b"", 1_700_000_000.9), ("b", b""), ("c", blob), ("d", blob, 5), ("e", b"", -5)]
    ).read()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert [info.mtime for info in tar] == [1_700_000_000, 0, 1_600_000_000, 5, 0]
    await tree.aclose()


@pytest.mark.parametrize(
    "wrong", [[("a", 5)], [("a", "text")], [("a", None)], [("n" * 70_000, b"")], [("a", Path("x"))]], ids=str
)
def test_what_no_archive_can_hold_is_malformed(wrong: Any) -> None:
    for kind in ("tar", "zip"):
        with pytest.raises(Malformed):
            together(kind)(wrong)


async def test_an_archive_may_be_in_an_archive() -> None:
    inner = playhead.zip(MEMBERS)
    outer = await playhead.tar([("inner.zip", inner)]).read()
    assert members(members(outer)["inner.zip"], "zip").keys() == {name for name, _ in MEMBERS}


# ── once ──

SONG = random.Random(5).randbytes(200_000)


def cuts(data: bytes = SONG) -> Iterator[bytes]:
    chance, at = random.Random(1), 0
    while at < len(data):
        length = chance.choice([0, 1, 1000, 65_536])
        yield data[at : at + length]
        at += length


async def awaited(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


SOURCES: list[Any] = [
    list(cuts()),
    lambda: cuts(),
    lambda: awaited(cuts()),
    lambda: map(bytearray, cuts()),
    lambda: (memoryview(piece) for piece in cuts()),
    lambda: [SONG],
]


@pytest.mark.parametrize("source", SOURCES, ids=["list", "generator", "async", "bytearrays", "views", "one piece"])
async def test_an_iterator_is_a_blob_that_is_read_once(source: Any) -> None:
    blob = playhead.once(source() if callable(source) else source, len(SONG))
    assert (blob.size, blob.tag) == (len(SONG), None)
    assert await blob.read() == SONG
    with pytest.raises(Malformed, match="once"):
        await blob.read()


async def test_an_iterator_is_read_in_order_in_parts() -> None:
    blob = playhead.once(cuts(), len(SONG))
    assert await blob.read(0, 5) == SONG[:5]
    assert await blob.read(5, 100_001) == SONG[5:100_001]
    for start, stop in ((0, 5), (100_000, 100_005), (100_002, 100_005)):
        with pytest.raises(Malformed, match="in order"):
            await blob.read(start, stop)
    assert await blob.read(100_001, len(SONG)) == SONG[100_001:]


async def test_a_reading_that_was_broken_off_goes_on() -> None:
    blob = playhead.once(cuts(), len(SONG))
    got = b""
    while len(got) < len(SONG):
        async with aclosing(blob.stream(len(got), len(SONG))) as stream:
            got += taken(await anext(stream))
    assert got == SONG


@pytest.mark.parametrize("announced", [len(SONG) + 1, len(SONG) * 2, len(SONG) - 1, 1, 0])
async def test_an_iterator_of_another_length_is_damaged(announced: int) -> None:
    for source in (cuts(), awaited(cuts()), [SONG]):
        blob, got = playhead.once(source, announced), b""
        with pytest.raises(Damaged, match="iterator"):
            async with aclosing(blob.stream(0, announced)) as stream:
                async for piece in stream:
                    got += taken(piece)
        assert len(got) < max(1, announced)  # never something that looks whole


@pytest.mark.parametrize("kind", ["tar", "zip"])
async def test_an_archive_of_an_iterator_of_another_length_fails(kind: str) -> None:
    for announced in (len(SONG) + 1, len(SONG) - 1):
        blob, got = (
            together(kind)([("first", b"first"), ("song", playhead.once(cuts(), announced)), ("last", b"x")]),
            b"",
        )
        with pytest.raises(Damaged):
            async with aclosing(blob.stream(0, blob.size)) as stream:
                async for piece in stream:
                    got += taken(piece)
        assert len(got) < blob.size


@pytest.mark.parametrize("kind", ["tar", "zip"])
async def test_iterators_may_be_members(kind: str) -> None:
    things = [(f"{at}", playhead.once(awaited(cuts(SONG[at:])), len(SONG) - at)) for at in range(5)]
    blob = together(kind)([*things, ("same", SONG)])
    data = await blob.read()
    assert members(data, kind) == {**{f"{at}": SONG[at:] for at in range(5)}, "same": SONG}
    with pytest.raises(Malformed):
        await blob.read(0, 100_000)


async def test_the_error_of_an_iterator_comes_through() -> None:
    def breaking() -> Iterator[bytes]:
        yield SONG[:1000]
        raise ZeroDivisionError("mine")

    for source in (breaking(), awaited(breaking())):
        blob = playhead.tar([("song", playhead.once(source, len(SONG)))])
        with pytest.raises(ZeroDivisionError, match="mine"):
            await blob.read()


async def test_what_does_not_give_bytes_is_refused() -> None:
    with pytest.raises(TypeError):
        playhead.once(5, 5)  # type: ignore[arg-type]
    for wrong in (["text"], [5], [None]):
        with pytest.raises((TypeError, playhead.Failure)):
            await playhead.once(wrong, 5).read()  # type: ignore[arg-type]


async def test_an_iterator_that_waits_does_not_hold_the_loop() -> None:
    def slow() -> Iterator[bytes]:
        time.sleep(0.3)
        yield b"slow"

    reading = asyncio.ensure_future(playhead.once(slow(), 4).read())
    turns = 0
    while not reading.done():
        await asyncio.sleep(0.01)
        turns += 1
    assert reading.result() == b"slow"
    assert turns > 3
