"""What an earlier downloader did wrong, each in a test: threads that wrote blocks without looking at what came.

It split files into blocks of 2 MiB, pickled its state beside them, and called done whatever had the size.
"""

import hashlib
import os
import pickle
import random
import threading
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.downloads import (
    DATA,
    HALF,
    OTHER,
    SIZE,
    SLACK,
    behind,
    broken_off,
    exact,
    failed,
    get,
    impatient,  # noqa: F401
    left,
    marks,
    on_disk,
    run,
    version,
    well,
)
from tests.fakes import origin as lies
from tests.fakes.origin import Answer, Asked, Origin
from tests.fakes.relay import aside

pytestmark = pytest.mark.timeout(60)
BLOCK = 2 << 20


def test_a_file_smaller_than_a_block_is_fetched(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA[:1000], "g": DATA[: BLOCK - 1]})) as origin:
        well(get(f"{origin.url}f", folder=tmp_path), tmp_path, DATA[:1000])
        well(get(f"{origin.url}g", folder=tmp_path), tmp_path, DATA[: BLOCK - 1], "g")


def test_size_and_ranges_are_learnt_from_the_first_answer_and_nothing_asks_for_heads(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA[:1000]})) as origin:
        well(get(f"{origin.url}f", folder=tmp_path), tmp_path, DATA[:1000])
        assert [asked.method for asked in origin.requests] == ["GET"]


def test_a_server_that_ignores_ranges_does_not_make_the_file_longer(tmp_path: Path) -> None:
    """Two blocks had each written the whole body: 7,340,155 bytes of 5,243,003."""
    with aside(Origin({"f": DATA[:5_243_003]})) as origin:
        origin.always["f"] = lies.whole
        well(get(f"{origin.url}f", "-n", "2", folder=tmp_path), tmp_path, DATA[:5_243_003])


def test_no_byte_is_asked_for_twice(tmp_path: Path) -> None:
    """A loop without its end had asked for each block twice."""
    with aside(Origin({"f": DATA})) as origin:
        well(get(f"{origin.url}f", "-n", "4", folder=tmp_path), tmp_path)
        ranges = [asked.headers.get("range", "") for asked in origin.of("f")]
        assert len(ranges) == len(set(ranges))


@pytest.mark.parametrize("code", [400, 403, 404, 429, 500, 503])
def test_an_error_does_not_leave_an_empty_file_under_the_name(tmp_path: Path, code: int) -> None:
    """Which the next run had taken for the file."""
    with aside(Origin({"f": DATA})) as origin:
        origin.always["f"] = lies.status(code)
        failed(get(f"{origin.url}f", folder=tmp_path), tmp_path, 3, 4, 6, 7)
        origin.always.clear()
        well(get(f"{origin.url}f", folder=tmp_path), tmp_path)


def test_an_error_in_some_blocks_does_not_leave_holes(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as origin:
        origin.script["f"] = [lies.rst(HALF)]
        origin.always["f"] = behind(1, lies.status(403))
        exact(get(f"{origin.url}f", folder=tmp_path), tmp_path, 4)  # 0 where the reset left nothing of the first answer


@pytest.mark.usefixtures("impatient")
def test_a_connection_that_stalls_does_not_stall_the_download(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as origin:
        origin.script["f"] = [lies.hang(BLOCK)]
        well(get(f"{origin.url}f", "-n", "1", folder=tmp_path), tmp_path)


@pytest.mark.usefixtures("impatient")
def test_where_all_connections_stall_it_ends(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as origin:
        origin.always["f"] = lies.hang(0)
        failed(get(f"{origin.url}f", folder=tmp_path), tmp_path, 7)


def test_a_connection_that_is_reset_leaves_no_hole(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as origin:
        origin.script["f"] = [lies.rst(HALF), lies.rst(3), lies.short(70_000)]
        well(get(f"{origin.url}f", folder=tmp_path), tmp_path)


def test_a_file_that_changed_between_two_runs_is_not_mixed(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as origin:
        broken_off(origin, tmp_path)
        origin.always["f"] = version(OTHER)
        well(get(f"{origin.url}f", folder=tmp_path), tmp_path, OTHER)


class Evil:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.place}/owned'",)


@pytest.mark.parametrize("name", ["f.info", "f.part.journal", "f.part", "f.part.info"])
def test_a_state_that_is_a_program_is_not_run(tmp_path: Path, name: str) -> None:
    (tmp_path / "f.part").write_bytes(DATA[:HALF])
    (tmp_path / name).write_bytes(pickle.dumps((Evil(tmp_path), [[0, HALF, SIZE]])))
    with aside(Origin({"f": DATA})) as origin:
        get(f"{origin.url}f", folder=tmp_path)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99], ids=["empty", "half", "nearly all"])
def test_a_torn_state_is_no_error(tmp_path: Path, share: float) -> None:
    with aside(Origin({"f": DATA})) as origin:
        broken_off(origin, tmp_path)
        state = tmp_path / "f.part.journal"
        state.write_bytes(state.read_bytes()[: int(state.stat().st_size * share)])
        well(get(f"{origin.url}f", folder=tmp_path), tmp_path)


def test_a_state_whose_file_is_gone_is_no_error(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as origin:
        broken_off(origin, tmp_path)
        (tmp_path / "f.part").unlink()
        well(get(f"{origin.url}f", folder=tmp_path), tmp_path)


@pytest.mark.parametrize("at", [BLOCK - 1, BLOCK, BLOCK + 1, SIZE - 1])
def test_a_block_of_which_one_byte_is_missing_is_not_finished(tmp_path: Path, at: int) -> None:
    with aside(Origin({"f": DATA})) as origin:
        broken_off(origin, tmp_path, at=at)
        well(get(f"{origin.url}f", folder=tmp_path), tmp_path)


def test_what_a_resumed_download_has_is_not_fetched_again(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as origin:
        broken_off(origin, tmp_path, at=SIZE - 300_000)
        well(get(f"{origin.url}f", folder=tmp_path), tmp_path)
        assert origin.sent < 300_000 + 2 * SLACK


def test_a_second_run_of_a_whole_job_finds_it_done(tmp_path: Path) -> None:
    """It had ended with a ValueError each time."""
    files = {f"part {number}.mp4": random.Random(number).randbytes(60_000) for number in range(4)}
    with aside(Origin(files)) as origin:
        urls = [f"{origin.url}{quote(name)}" for name in files]
        origin.always["part 2.mp4"] = lies.status(404)
        assert get(*urls, folder=tmp_path).code == 9
        origin.always.clear()
        assert get(*urls, folder=tmp_path).code == 0
        assert get(*urls, folder=tmp_path).code == 0
    assert on_disk(tmp_path) == marks(files)


def test_progress_does_not_count_holes(tmp_path: Path) -> None:
    """The size of a sparse file had said 100% long before; and 140% where ranges were ignored."""
    with aside(Origin({"f": DATA})) as origin:
        broken_off(origin, tmp_path)
        done = get("--status", folder=tmp_path)
        assert done.code == 0 and "100%" not in done.out + done.err
        origin.always["f"] = lies.whole
        done = get("--json", f"{origin.url}f", folder=tmp_path)
        well(done, tmp_path)
        numbers = [value for one in done.events for value in one.values() if type(value) is int]
        assert max(numbers) <= SIZE


def test_after_an_error_the_program_ends(tmp_path: Path) -> None:
    """Threads that nobody had told had kept it alive for ever."""
    before = threading.active_count()
    with aside(Origin({"f": DATA})) as origin:
        origin.script["f"], origin.always["f"] = [lies.rst(HALF)], lies.status(403)
        assert run(f"{origin.url}f", folder=tmp_path, seconds=15).code == 4
        assert get(f"{origin.url}f", folder=tmp_path).code == 4
    assert threading.active_count() == before


def test_a_body_that_is_too_long_is_not_taken_for_whole(tmp_path: Path) -> None:
    """It had been enough to have the size, or more."""
    with aside(Origin({"f": DATA[:70_000]})) as origin:

        def longer(answer: Answer, asked: Asked) -> None:
            answer.body += b"more"
            answer.headers["Content-Length"] = str(len(answer.body))

        origin.always["f"] = longer
        failed(get(f"{origin.url}f", folder=tmp_path), tmp_path, 6)


def test_the_state_goes_when_all_is_checked_not_before(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as origin:
        failed(get(f"{origin.url}f", "--checksum", "md5:" + "0" * 32, folder=tmp_path), tmp_path, 6)
        assert [name for name in left(tmp_path) if (tmp_path / name).stat().st_size == SIZE]


def test_the_md5_that_is_known_is_checked(tmp_path: Path) -> None:
    md5 = hashlib.md5(DATA).hexdigest()
    with aside(Origin({"f": OTHER, "g": DATA})) as origin:
        failed(get(f"{origin.url}f", "--checksum", f"md5:{md5}", folder=tmp_path), tmp_path, 6)
        well(get(f"{origin.url}g", "--checksum", f"md5:{md5}", folder=tmp_path), tmp_path, name="g")


@pytest.mark.parametrize("title", ["It's", "AC/DC", "a'b\"c", "..", "%s%n", "{vid}", "*?", "a\nb"])
def test_a_title_with_any_character_is_a_name(tmp_path: Path, title: str) -> None:
    """A quote had broken the list for the joining, a slash the path."""
    with aside(Origin({"f": DATA[:5000]})) as origin:
        header = f"attachment; filename*=UTF-8''{quote(title + '[0].mp4', safe='')}"
        origin.always["f"] = lies.header("Content-Disposition", header)
        assert get(f"{origin.url}f", folder=tmp_path).code == 0
    [path] = tmp_path.iterdir()
    assert path.read_bytes() == DATA[:5000] and path.name.endswith("[0].mp4")


def test_no_proxy_is_used_that_nobody_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of the strangers that it had asked became the proxy of all requests."""
    with aside(Origin({"f": DATA[:5000]})) as origin:
        dead = "http://127.0.0.1:9/"
        assert get("--proxy", dead, f"{origin.url}f", folder=tmp_path).code == 7
        well(get(f"{origin.url}f", folder=tmp_path), tmp_path, DATA[:5000])
