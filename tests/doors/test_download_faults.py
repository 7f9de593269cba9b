"""Downloads from origins that lie, change and die: the right bytes, or an error; never a mix, never a hang.

The tables are those in which aria2, axel, curl and wget were seen to write wrong bytes and to report success.
"""

import base64
import hashlib
import random
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from email.utils import formatdate
from itertools import count
from pathlib import Path

import pytest

from playhead.doors import lanes
from tests.downloads import (
    DATA,
    HALF,
    OTHER,
    SIZE,
    SLACK,
    VALIDATORS,
    aligned,
    asked_for,
    behind,
    broken_off,
    clamped,
    exact,
    failed,
    from_the_start,
    get,
    holds,
    hostile_to_if_range,
    html,
    impatient,  # noqa: F401
    left,
    numbered,
    version,
    well,
)
from tests.fakes import origin as lies
from tests.fakes.origin import Answer, Asked, Fault, Origin
from tests.fakes.proxies import HttpProxy
from tests.fakes.relay import Relay, aside
from tests.peers.playing import clean, needs, nginx, until

pytestmark = pytest.mark.timeout(60)  # a hang is a failure


def url(origin: Origin) -> str:
    return f"{origin.url}f"


# ── nothing is wrong ──


@pytest.mark.parametrize("validators", VALIDATORS)
def test_a_download_is_the_file_whatever_tells_its_version(tmp_path: Path, validators: str) -> None:
    with aside(Origin({"f": DATA}, validators=validators)) as origin:
        well(get(url(origin), folder=tmp_path), tmp_path)
        assert {asked.method for asked in origin.requests} == {"GET"}
        assert not [asked for asked in origin.requests if "if-range" in asked.headers]


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_a_file_of_any_size_is_whole(tmp_path: Path, size: int) -> None:
    for options in ([], ["-n", "1"]):
        with aside(Origin({"f": DATA[:size]})) as origin:
            well(get(url(origin), *options, folder=tmp_path), tmp_path, DATA[:size])
        (tmp_path / "f").unlink()


@pytest.mark.parametrize("validators", VALIDATORS)
def test_what_was_broken_off_goes_on_and_is_not_fetched_again(tmp_path: Path, validators: str) -> None:
    with aside(Origin({"f": DATA}, validators=validators)) as origin:
        broken_off(origin, tmp_path)
        well(get(url(origin), folder=tmp_path), tmp_path)
        assert asked_for(origin) <= SIZE - HALF + SLACK


# ── another version of the same length: what aria2, axel, curl and wget mix and call well ──


@pytest.mark.parametrize("validators", VALIDATORS)
def test_a_file_replaced_between_two_runs_is_fetched_anew(tmp_path: Path, validators: str) -> None:
    with aside(Origin({"f": DATA}, validators=validators)) as origin:
        broken_off(origin, tmp_path)
        origin.always["f"] = version(OTHER, validators)
        done = get(url(origin), folder=tmp_path)
        well(done, tmp_path, OTHER)
        assert "anew" in done.err or "changed" in done.err, done.err


@pytest.mark.parametrize("validators", ["etag", "modified", ""])
@pytest.mark.parametrize(
    "data",
    [DATA + b"more", DATA[:-1], OTHER + DATA, OTHER[: HALF - 5], b"", OTHER[:1]],
    ids=["grown", "one byte less", "twice as long", "less than was there", "empty", "one byte"],
)
def test_a_file_of_another_size_is_fetched_anew(tmp_path: Path, validators: str, data: bytes) -> None:
    with aside(Origin({"f": DATA}, validators=validators)) as origin:
        broken_off(origin, tmp_path)
        origin.always["f"] = version(data, validators)
        well(get(url(origin), folder=tmp_path), tmp_path, data)


@pytest.mark.parametrize(
    ("was", "becomes"), [("etag", "modified"), ("modified", "etag"), ("etag", ""), ("", "etag"), ("weak", "etag")]
)
def test_a_file_whose_validators_are_of_another_kind_is_never_mixed(tmp_path: Path, was: str, becomes: str) -> None:
    with aside(Origin({"f": DATA}, validators=was)) as origin:
        broken_off(origin, tmp_path)
        origin.always["f"] = version(OTHER, becomes)
        exact(get(url(origin), folder=tmp_path), tmp_path, *[6] * (becomes == ""), data=OTHER)


def test_a_strong_validator_counts_more_than_bytes_that_agree(tmp_path: Path) -> None:
    """The new version has the same last bytes where the download broke off."""
    mixed = OTHER[: HALF - (1 << 20)] + DATA[HALF - (1 << 20) :]
    for validators in ("etag", "modified"):
        with aside(Origin({"f": DATA}, validators=validators)) as origin:
            broken_off(origin, tmp_path)
            origin.always["f"] = version(mixed, validators)
            well(get(url(origin), folder=tmp_path), tmp_path, mixed)
        (tmp_path / "f").unlink()


@needs("aria2c", "curl", "wget")
@pytest.mark.parametrize("program", ["aria2c", "curl", "wget"])
def test_other_programs_mix_the_versions(tmp_path: Path, program: str) -> None:
    """Which shows that the origin above does what the tables say."""
    command = {
        "aria2c": ["aria2c", "--no-conf", "--all-proxy=", "-q", "-c", "-x4", "-k1M", "-o", "f"],
        "curl": ["curl", "-q", "-sS", "--noproxy", "*", "-C", "-", "-o", "f"],
        "wget": ["wget", "--no-config", "--no-proxy", "-q", "-c", "-O", "f"],
    }[program]
    (tmp_path / "f").write_bytes(DATA[:HALF])
    with aside(Origin({"f": OTHER})) as origin:
        done = subprocess.run([*command, url(origin)], cwd=tmp_path, env=clean(), timeout=30)
    assert done.returncode == 0
    whole = 5 << 19  # the blocks of aria2
    assert holds(tmp_path / "f", DATA[:HALF] + OTHER[HALF:], DATA[:whole] + OTHER[whole:])


@needs("axel", "nginx")
def test_axel_mixes_the_versions(tmp_path: Path) -> None:
    """It goes on only from a state of its own, and speaks HTTP/1.0, which the origin above does not."""
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "f").write_bytes(DATA)
    command = ["axel", "-q", "-n", "2", "-o", "f"]
    with nginx(tmp_path / "nginx", tmp_path / "www") as origin:
        port = int(origin.url.rpartition(":")[2].strip("/"))
        with aside(Relay(port, 5e6)) as relay:
            with subprocess.Popen([*command, f"{relay.url}f"], cwd=tmp_path, env=clean()) as process:
                until(lambda: relay.passed > 2_000_000 or None)
                process.terminate()
            (tmp_path / "www" / "f").write_bytes(OTHER)
            relay.rate = 1e9
            done = subprocess.run([*command, f"{relay.url}f"], cwd=tmp_path, env=clean(), timeout=30)
    assert done.returncode == 0
    assert (tmp_path / "f").stat().st_size == SIZE
    assert not holds(tmp_path / "f", DATA, OTHER)


# ── another version on the way ──


def from_request(number: int, fault: Fault) -> Fault:
    """Right answers until so many requests have come."""
    numbers = count()

    def edit(answer: Answer, asked: Asked) -> None:
        if next(numbers) >= number:
            fault(answer, asked)

    return edit


@pytest.mark.parametrize("validators", VALIDATORS)
@pytest.mark.parametrize("streams", ["1", "4"])
@pytest.mark.parametrize("at", [1, 2])
def test_a_file_that_changes_on_the_way_is_fetched_anew(tmp_path: Path, validators: str, streams: str, at: int) -> None:
    """The first connection ends half way, so that there is something to mix."""
    with aside(Origin({"f": DATA}, validators=validators)) as origin:
        origin.script["f"] = [lies.rst(HALF), *[None] * (at - 1)]
        origin.always["f"] = version(OTHER, validators)
        done = get(url(origin), "-n", streams, folder=tmp_path)
        assert done.code == 0, done.err
        assert holds(tmp_path / "f", OTHER, DATA)  # DATA: it had asked for all before
        assert left(tmp_path) == ["f"]


@pytest.mark.parametrize("validators", ["etag", "modified"])
def test_a_file_that_changes_with_every_request_is_given_up_and_never_mixed(tmp_path: Path, validators: str) -> None:
    made: list[bytes] = []

    def changing(answer: Answer, asked: Asked) -> None:
        made.append(len(made).to_bytes(4, "big") + DATA[4:])
        version(made[-1], validators)(answer, asked)
        if validators == "modified":
            answer.headers["Last-Modified"] = formatdate(1_700_000_000 + len(made), usegmt=True)
        if asked.headers.get("range", "bytes=0-").startswith("bytes=0-"):
            lies.rst(HALF)(answer, asked)

    with aside(Origin({"f": DATA})) as origin:
        origin.always["f"] = changing
        failed(get(url(origin), folder=tmp_path), tmp_path, 5)
        assert len(made) < 50


def test_a_file_that_changes_on_the_way_and_has_no_length_any_more_is_fetched_anew(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as origin:
        origin.script["f"] = [lies.short(HALF), version(OTHER)]
        origin.always["f"] = lies.each(version(OTHER), lies.whole, lies.chunked)
        well(get(url(origin), "-n", "1", folder=tmp_path), tmp_path, OTHER)


def test_a_file_that_grows_on_the_way_is_one_of_its_versions(tmp_path: Path) -> None:
    """As a log does, without any validator: each version begins with the one before."""
    sizes = count(SIZE // 2, 100_000)
    versions: list[bytes] = []

    def growing(answer: Answer, asked: Asked) -> None:
        versions.append((DATA + OTHER)[: next(sizes)])
        lies.instead(versions[-1])(answer, asked)

    with aside(Origin({"f": DATA}, validators="")) as origin:
        origin.always["f"] = growing
        done = get(url(origin), folder=tmp_path)
        if done.code:
            failed(done, tmp_path, 5)
        else:
            assert holds(tmp_path / "f", *versions)


def test_what_is_gone_between_two_runs_ends_it_and_what_was_there_stays(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as origin:
        broken_off(origin, tmp_path)
        origin.always["f"] = lies.status(404)
        failed(get(url(origin), folder=tmp_path), tmp_path, 3)
        origin.always.clear()
        origin.requests.clear()
        well(get(url(origin), folder=tmp_path), tmp_path)
        assert asked_for(origin) <= SIZE - HALF + SLACK


# ── validators that tell nothing ──


def test_a_cdn_that_is_hostile_to_if_range_is_gone_on_with(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as origin:
        broken_off(origin, tmp_path)
        origin.always["f"] = hostile_to_if_range
        well(get(url(origin), folder=tmp_path), tmp_path)
        assert asked_for(origin) <= SIZE - HALF + SLACK


@pytest.mark.parametrize("resumed", [False, True], ids=["fresh", "resumed"])
@pytest.mark.parametrize("modified", [None, lies.OLD], ids=["", "modified"])
def test_an_etag_that_differs_between_nodes_is_proved_or_explained(
    tmp_path: Path, resumed: bool, modified: str | None
) -> None:
    fault = lies.each(lies.header("Last-Modified", modified), numbered())
    with aside(Origin({"f": DATA})) as origin:
        if resumed:
            broken_off(origin, tmp_path)
        origin.script["f"] = [lies.each(fault, lies.rst(HALF))]
        origin.always["f"] = fault
        done = get(url(origin), folder=tmp_path)
        exact(done, tmp_path, 5)
        assert done.code == 0 or "another version each time" in done.said, done.err


def test_over_one_connection_an_etag_that_differs_between_nodes_does_not_matter(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as origin:
        origin.always["f"] = numbered()
        well(get(url(origin), "-n", "1", folder=tmp_path), tmp_path)


# ── answers that are not what was asked for ──

OTHERWISE: dict[str, tuple[Fault, tuple[int, ...]]] = {
    # what is right, though it is not just what was asked for
    "200 and the whole": (lies.whole, (0,)),
    "200 and the whole, without Accept-Ranges": (lies.each(lies.whole, lies.header("Accept-Ranges", None)), (0,)),
    "at most 300 000 bytes": (clamped(300_000), (0,)),
    "whole blocks of 4096": (aligned(4096), (0,)),
    "whole blocks of 1 MiB": (aligned(1 << 20), (0,)),
    "chunked": (lies.chunked, (0,)),
    "more after the end": (lies.extra(b"more" * 100), (0, 6)),
    "HTTP/1.0": (lies.old, (0,)),
    "no total": (lies.total("*"), (0, 6)),
    # what cannot be right
    "1000 bytes later, it says": (lies.moved(1000, 1000, honest=False), (6,)),
    "1000 bytes later": (lies.moved(1000, 1000), (6,)),
    "1000 bytes earlier, it says": (lies.moved(-1000, -1000, honest=False), (0, 6)),
    "1000 bytes earlier": (lies.moved(-1000, -1000), (0, 6)),
    "one byte later": (lies.moved(1), (6,)),
    "one byte earlier, and one less": (lies.moved(-1, -1, honest=False), (0, 6)),
    "longer than it is": (lies.moved(0, 10, honest=False), (0, 6, 7)),
    "shorter than it is": (lies.moved(0, -10, honest=False), (0, 6, 7)),
    "no Content-Range": (lies.header("Content-Range", None), (0, 6)),
    "no Content-Range, from the start": (from_the_start, (0, 6)),
    "another total": (lies.total(SIZE + 1), (5, 6)),
    "a smaller total": (lies.total(SIZE - 1), (5, 6)),
    "an impossible total": (lies.total(5), (5, 6)),
    "items": (lies.header("Content-Range", f"items 0-{SIZE - 1}/{SIZE}"), (0, 6)),
    "a number of 60 digits": (lies.header("Content-Range", f"bytes 0-{'9' * 60}/{'9' * 61}"), (6,)),
    "a negative number": (lies.header("Content-Range", f"bytes -5-{SIZE}/{SIZE}"), (0, 6)),
    "nonsense": (lies.header("Content-Range", "bytes zero to all"), (0, 6)),
    "multipart": (lies.multipart, (0, 6)),
    "gzip": (lies.zipped, (0, 6)),
    "416": (lies.unsatisfied, (0, 6)),
    "416 of an empty file": (lies.each(lies.unsatisfied, lies.header("Content-Range", "bytes */0")), (5, 6)),
    "204": (lies.status(204), (6,)),
    "304": (lies.status(304), (6,)),
    "a page": (html(), (5, 6, 7)),
    "a page as long as the file": (html(b"<html>" * (SIZE // 6) + b"." * (SIZE % 6)), (5, 6, 7)),
    "another file's page": (lies.instead(b"<html>no</html>", Content_Type="text/html"), (5, 6, 7)),
    "no HTTP": (lies.garbage(), (6, 7)),
    "a huge head": (lies.huge_head(), (6, 7)),
    "half a head": (lies.beheaded(40), (6, 7)),
}


@pytest.mark.parametrize("what", OTHERWISE)
def test_an_answer_to_a_later_part_is_right_or_refused(tmp_path: Path, what: str) -> None:
    """The first connection ends half way; all answers behind the beginning are of this kind."""
    fault, codes = OTHERWISE[what]
    with aside(Origin({"f": DATA})) as origin:
        origin.script["f"] = [lies.rst(HALF)]
        origin.always["f"] = behind(1, fault)
        done = get(url(origin), folder=tmp_path)
        exact(done, tmp_path, *codes)
        assert codes != (0,) or done.code == 0, done.err
        assert len(origin.requests) < 200


# These say only that the file is another one now.
SO_NOW = ("416 of an empty file", "another file's page")


@pytest.mark.parametrize("what", [what for what in OTHERWISE if what not in SO_NOW])
def test_an_answer_to_a_resuming_request_is_right_or_refused(tmp_path: Path, what: str) -> None:
    """And what was there is still there: where it was refused, a later run goes on from it."""
    fault, codes = OTHERWISE[what]
    with aside(Origin({"f": DATA})) as origin:
        broken_off(origin, tmp_path)
        origin.always["f"] = fault
        done = get(url(origin), folder=tmp_path)
        exact(done, tmp_path, *codes)
        assert codes != (0,) or done.code == 0, done.err
        if done.code:
            origin.always.clear()
            origin.requests.clear()
            well(get(url(origin), folder=tmp_path), tmp_path)
            assert asked_for(origin) <= SIZE - HALF + SLACK


@pytest.mark.parametrize("what", [what for what in OTHERWISE if what not in SO_NOW and "page" not in what])
def test_an_answer_to_the_first_request_is_right_or_refused(tmp_path: Path, what: str) -> None:
    fault, codes = OTHERWISE[what]
    with aside(Origin({"f": DATA})) as origin:
        origin.always["f"] = fault
        exact(get(url(origin), folder=tmp_path), tmp_path, *{0, 5, 6, 7, *codes})
        assert len(origin.requests) < 100


ONCE: dict[str, Fault] = {
    "cut": lies.short(100_000),
    "reset": lies.rst(100_000),
    "reset before the answer": lies.rst(-1),
    "closed before the answer": lies.short(-1),
    "half a head": lies.beheaded(40),
    "503": lies.status(503),
    "500": lies.status(500),
    "502": lies.status(502),
    "429": lies.status(429),
    "408": lies.status(408),
    "silent": lies.hang(),
    "silent in the middle": lies.hang(200_000),
}


@pytest.mark.parametrize("what", ONCE)
@pytest.mark.usefixtures("impatient")
def test_a_fault_now_and_then_is_gone_over(tmp_path: Path, what: str) -> None:
    with aside(Origin({"f": DATA})) as origin:
        origin.script["f"] = [ONCE[what], None, ONCE[what], None]
        well(get(url(origin), "-n", "2", folder=tmp_path), tmp_path)


def test_connections_that_are_cut_again_and_again_are_gone_on_with(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as origin:
        origin.always["f"] = lies.short(200_000)
        well(get(url(origin), folder=tmp_path), tmp_path)
        assert len(origin.requests) < 2 * SIZE // 200_000 + 20


@pytest.mark.parametrize("streams", ["1", "4"])
@pytest.mark.usefixtures("impatient")
def test_a_fault_on_every_connection_ends_it_with_7_and_what_there_is_stays(tmp_path: Path, streams: str) -> None:
    for fault in (lies.status(503), lies.rst(-1), lies.hang()):
        with aside(Origin({"f": DATA})) as origin:
            origin.script["f"] = [lies.short(HALF)]
            origin.always["f"] = fault
            failed(get(url(origin), "-n", streams, folder=tmp_path), tmp_path, 7)
            assert len(origin.requests) < 60
            assert "f.part" in left(tmp_path)
            origin.always.clear()
            origin.requests.clear()
            well(get(url(origin), folder=tmp_path), tmp_path)
            assert asked_for(origin) <= SIZE - HALF + SLACK + (1 << 20)  # what was in memory when it ended is lost
        (tmp_path / "f").unlink()


@pytest.mark.usefixtures("impatient")
def test_an_origin_that_is_down_ends_it_with_7_and_a_later_run_goes_on(tmp_path: Path) -> None:
    origin = Origin({"f": DATA})
    with aside(origin):
        broken_off(origin, tmp_path)
    failed(get(url(origin), folder=tmp_path), tmp_path, 7)
    with aside(origin):
        well(get(url(origin), folder=tmp_path), tmp_path)
        assert asked_for(origin) <= SIZE - HALF + SLACK


def test_one_connection_that_drips_does_not_hold_the_others_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would need eight minutes for its share."""
    monkeypatch.setattr(lanes, "AGE", 0.2)
    with aside(Origin({"f": DATA})) as origin:
        dripping: list[int] = []

        def one_drips(answer: Answer, asked: Asked) -> None:
            if answer.span[0] and (not dripping or asked.connection == dripping[0]):
                dripping[:] = [asked.connection]
                lies.drip(2000)(answer, asked)

        origin.always["f"] = one_drips
        well(get(url(origin), "-n", "4", folder=tmp_path), tmp_path)
        assert dripping, "there was no second connection"


# ── lengths ──


@pytest.mark.parametrize("size", [SIZE, 100, 65_536])
def test_one_missing_byte_at_the_end_is_missed(tmp_path: Path, size: int) -> None:
    with aside(Origin({"f": DATA[:size]})) as origin:

        def short(answer: Answer, asked: Asked) -> None:
            if answer.span[1] == size:
                lies.short(len(answer.body) - 1)(answer, asked)

        origin.always["f"] = short
        failed(get(url(origin), folder=tmp_path), tmp_path, 7)
        origin.always.clear()
        well(get(url(origin), folder=tmp_path), tmp_path, DATA[:size])


@pytest.mark.parametrize("size", [10**13, 10**17, 10**18 - 1, 10**30])
@pytest.mark.parametrize("how", ["206", "200"])
def test_a_size_that_no_disk_has_is_refused(tmp_path: Path, size: int, how: str) -> None:
    def huge(answer: Answer, asked: Asked) -> None:
        if how == "206":
            lies.total(size)(answer, asked)
        else:
            lies.whole(answer, asked)
            answer.headers["Content-Length"] = str(size)
            lies.cut(1000)(answer, asked)

    with aside(Origin({"f": DATA})) as origin:
        origin.always["f"] = huge
        failed(get(url(origin), folder=tmp_path), tmp_path, 6, 7, 8)
    assert sum((tmp_path / name).stat().st_blocks for name in left(tmp_path)) < 1000


UNSIZED = {
    "chunked": lies.each(lies.whole, lies.chunked),
    "until the end of the connection": lies.each(lies.whole, lies.old),
}


@pytest.mark.parametrize("how", UNSIZED)
@pytest.mark.parametrize("size", [0, 1, 70_000, SIZE])
def test_a_file_without_a_length_is_whole(tmp_path: Path, how: str, size: int) -> None:
    with aside(Origin({"f": DATA[:size]}, ranges=False)) as origin:
        origin.always["f"] = UNSIZED[how]
        well(get(url(origin), folder=tmp_path), tmp_path, DATA[:size])
        assert len(origin.requests) <= 2


@pytest.mark.parametrize("how", UNSIZED)
@pytest.mark.parametrize("at", [0, 1, 100_000, SIZE - 1])
def test_a_file_without_a_length_that_breaks_off_is_not_published(tmp_path: Path, how: str, at: int) -> None:
    fault = lies.cut(at) if how == "chunked" else lies.rst(at)
    with aside(Origin({"f": DATA}, ranges=False)) as origin:
        origin.always["f"] = lies.each(UNSIZED[how], fault)
        failed(get(url(origin), folder=tmp_path), tmp_path, 6, 7)
        origin.always["f"] = UNSIZED[how]
        well(get(url(origin), folder=tmp_path), tmp_path)


def test_a_server_without_ranges_gives_the_file_over_one_connection(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA}, ranges=False)) as origin:
        well(get(url(origin), folder=tmp_path), tmp_path)
        assert origin.sent < SIZE + (8 << 20)


@pytest.mark.parametrize("how", ["200", "206"])
def test_what_is_encoded_is_refused(tmp_path: Path, how: str) -> None:
    with aside(Origin({"f": DATA}, ranges=how == "206")) as origin:
        origin.always["f"] = lies.zipped
        failed(get(url(origin), folder=tmp_path), tmp_path, 6)
        assert {asked.headers.get("accept-encoding") for asked in origin.requests} == {"identity"}


# ── too many requests ──


@pytest.mark.parametrize(
    ("code", "how", "at"), [(429, "seconds", "first"), (503, "seconds", "later"), (429, "date", "later")]
)
def test_nobody_asks_again_before_the_time_that_the_origin_names(tmp_path: Path, code: int, how: str, at: str) -> None:
    times: list[float] = []
    until = 0.0

    def refuse(answer: Answer, asked: Asked) -> None:
        nonlocal until
        until = time.time() + 1 if how == "seconds" else float(int(time.time()) + 2)
        lies.status(code, Retry_After="1" if how == "seconds" else formatdate(until, usegmt=True))(answer, asked)

    def note(answer: Answer, asked: Asked) -> None:
        times.append(time.time())

    with aside(Origin({"f": DATA})) as origin:
        origin.script["f"] = [*[lies.rst(HALF)] * (at == "later"), refuse]
        origin.always["f"] = note
        well(get(url(origin), "-n", "1", folder=tmp_path), tmp_path)
    assert until
    assert [when for when in times if when < until - 0.05] == []


def test_an_origin_that_allows_two_connections_is_asked_over_two(tmp_path: Path) -> None:
    refusals = 0

    with aside(Origin({"f": DATA})) as origin:

        def crowded(answer: Answer, asked: Asked) -> None:
            nonlocal refusals
            if origin.busy > 2:
                refusals += 1
                lies.status(429)(answer, asked)
            else:
                answer.wait = 0.02

        origin.always["f"] = crowded
        well(get(url(origin), "-n", "8", folder=tmp_path, hasty=False), tmp_path)
        assert refusals < 30


def test_an_origin_that_asks_for_an_hour_is_not_waited_for(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as origin:
        origin.always["f"] = lies.status(429, Retry_After="3600")
        failed(get(url(origin), folder=tmp_path), tmp_path, 7)
        assert len(origin.requests) < 10


# ── URLs that expire ──


@pytest.mark.parametrize("code", [403, 410])
def test_a_signed_url_that_expired_is_asked_for_again(tmp_path: Path, code: int) -> None:
    with aside(Origin({"f": DATA})) as origin:
        lies.expiring(origin, "f")
        check = origin.always["signed/f"]

        def coded(answer: Answer, asked: Asked) -> None:
            check(answer, asked)
            if answer.status == 403:
                answer.status = code
            else:
                clamped(700_000)(answer, asked)

        origin.always["signed/f"] = coded
        well(get(url(origin), folder=tmp_path), tmp_path)


def test_a_signed_url_that_expires_in_the_middle_is_asked_for_again(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as origin:
        lies.expiring(origin, "f")
        origin.script["signed/f"] = [lies.rst(HALF)]
        well(get(url(origin), "-n", "1", folder=tmp_path), tmp_path)
        assert len(origin.of("f")) >= 2
        assert sum(len(one.headers.get("range", "")) > 0 for one in origin.of("signed/f")) >= 2


@pytest.mark.parametrize(("code", "ends"), [(403, 4), (401, 4), (410, 3), (404, 3)])
def test_a_refusal_of_the_url_itself_is_not_tried_again_and_again(tmp_path: Path, code: int, ends: int) -> None:
    with aside(Origin({"f": DATA})) as origin:
        origin.script["f"] = [lies.rst(HALF)]
        origin.always["f"] = lies.status(code)
        failed(get(url(origin), folder=tmp_path), tmp_path, ends)
        assert len(origin.requests) < 12


# ── digests that the origin sends ──


def digest(algorithm: str, data: bytes) -> str:
    return f"{algorithm}=:{base64.b64encode(hashlib.new(algorithm.replace('-', ''), data).digest()).decode()}:"


@pytest.mark.parametrize("algorithm", ["sha-256", "sha-512"])
@pytest.mark.parametrize("resumed", [False, True], ids=["fresh", "resumed"])
def test_the_digest_that_the_origin_tells_is_checked(tmp_path: Path, algorithm: str, resumed: bool) -> None:
    for data, code in ((OTHER, 6), (DATA, 0)):
        with aside(Origin({"f": DATA})) as origin:
            if resumed:
                broken_off(origin, tmp_path)
            origin.always["f"] = lies.header("Repr-Digest", digest(algorithm, data))
            done = get(url(origin), folder=tmp_path)
        if code:
            failed(done, tmp_path, code)
            kept = [name for name in left(tmp_path) if (tmp_path / name).stat().st_size >= SIZE]
            assert kept, "what was fetched is gone"
            for name in left(tmp_path):
                (tmp_path / name).unlink()
        else:
            well(done, tmp_path)


@pytest.mark.parametrize(
    ("value", "codes"),
    [
        (f"{digest('md5', OTHER)}, {digest('sha-256', DATA)}", (0, 6)),
        (f"{digest('sha-256', DATA)}, {digest('sha-512', OTHER)}", (6,)),
        ("unixsum=:AAAA:", (0,)),
        ("sha-256=:not base64:", (0, 6)),
        ("sha-256=:AAAA:", (0, 6)),
        ("sha-256", (0, 6)),
        ("=:" * 5000, (0, 6)),
    ],
    ids=["another algorithm", "two that disagree", "unknown", "no base64", "too short", "no value", "long"],
)
def test_digests_that_cannot_be_used_harm_nothing(tmp_path: Path, value: str, codes: tuple[int, ...]) -> None:
    with aside(Origin({"f": DATA})) as origin:
        origin.always["f"] = lies.header("Repr-Digest", value)
        done = get(url(origin), folder=tmp_path)
        assert done.code in codes, done.err
        exact(done, tmp_path, *codes)


@pytest.mark.parametrize("right", [True, False])
def test_the_digest_of_what_one_answer_holds_is_checked(tmp_path: Path, right: bool) -> None:
    """Content-Digest is of the bytes of that answer; wrong ones are fetched again, or refused."""

    def digested(answer: Answer, asked: Asked) -> None:
        wrong = bytearray(answer.body)
        wrong[len(wrong) // 2] ^= 1
        answer.headers["Content-Digest"] = digest("sha-256", answer.body)
        if not right:
            answer.body = bytes(wrong)

    with aside(Origin({"f": DATA})) as origin:
        origin.always["f"] = digested
        done = get(url(origin), folder=tmp_path)
        well(done, tmp_path) if right else failed(done, tmp_path, 6)


# ── several ways and places ──


def test_two_ways_are_both_used(tmp_path: Path) -> None:
    with ExitStack() as stack:
        origin = stack.enter_context(aside(Origin({"f": DATA})))
        proxy = stack.enter_context(aside(HttpProxy()))
        origin.always["f"] = lies.late(0.02)
        done = get("--proxy", proxy.url(), "--proxy", "direct", "-n", "4", url(origin), folder=tmp_path)
        well(done, tmp_path)
        through = len(proxy.asked)
        assert 0 < through < len(origin.requests)


def test_a_way_that_is_dead_is_dropped_and_told_once(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as origin, aside(HttpProxy()) as proxy:
        dead = proxy.url()
        live = get("--proxy", dead, url(origin), folder=tmp_path)
        well(live, tmp_path)
    (tmp_path / "f").unlink()
    with aside(Origin({"f": DATA})) as origin:
        done = get("--proxy", dead, "--proxy", "direct", "-n", "4", url(origin), folder=tmp_path)
        well(done, tmp_path)
        assert done.err.count(dead.rpartition(":")[2]) == 1, done.err


@pytest.mark.usefixtures("impatient")
def test_a_way_that_is_silent_or_refuses_is_dropped(tmp_path: Path) -> None:
    for wrong in (HttpProxy(silent=True), HttpProxy("user:password")):
        with aside(Origin({"f": DATA})) as origin, aside(wrong) as proxy:
            done = get("--proxy", proxy.url(), "--proxy", "direct", url(origin), folder=tmp_path)
            well(done, tmp_path)
        (tmp_path / "f").unlink()


def test_only_dead_ways_end_it_with_7(tmp_path: Path) -> None:
    with aside(HttpProxy()) as proxy:
        dead = proxy.url()
    with aside(Origin({"f": DATA})) as origin:
        failed(get("--proxy", dead, url(origin), folder=tmp_path), tmp_path, 7)
        assert origin.requests == []  # never silently direct


def test_two_mirrors_are_both_used(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as one, aside(Origin({"g": DATA}, validators="modified")) as other:
        one.always["f"] = other.always["g"] = lies.late(0.02)
        done = get(url(one), "--mirror", f"{other.url}g", *sha256(DATA), "-n", "4", folder=tmp_path)
        well(done, tmp_path)
        assert one.requests and other.requests


def sha256(data: bytes) -> list[str]:
    return ["--checksum", f"sha256:{hashlib.sha256(data).hexdigest()}"]


@pytest.mark.parametrize(
    "fault",
    [lies.status(404), lies.status(503), lies.rst(-1), lies.instead(OTHER[:-1]), lies.instead(b""), html()],
    ids=["gone", "down", "cut", "shorter", "empty", "page"],
)
def test_a_mirror_that_is_of_no_use_is_dropped(tmp_path: Path, fault: Fault) -> None:
    with aside(Origin({"f": DATA})) as origin, aside(Origin({"f": DATA})) as mirror:
        mirror.always["f"] = fault
        well(get(url(origin), "--mirror", url(mirror), folder=tmp_path), tmp_path)


def test_a_mirror_takes_over_where_the_first_url_is_dead(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as origin, aside(Origin({"f": DATA})) as mirror:
        origin.script["f"] = [lies.rst(HALF)]
        origin.always["f"] = lies.status(503)
        well(get(url(origin), "--mirror", url(mirror), folder=tmp_path), tmp_path)


def test_a_mirror_with_other_bytes_is_never_mixed_in(tmp_path: Path) -> None:
    """It has the same length; and where a checksum is given, it is found."""
    for options in ([], sha256(DATA)):
        with aside(Origin({"f": DATA})) as origin, aside(Origin({"f": OTHER})) as mirror:
            origin.always["f"] = mirror.always["f"] = lies.late(0.02)
            done = get(url(origin), "--mirror", url(mirror), *options, "-n", "4", folder=tmp_path)
            exact(done, tmp_path, 5, 6)
        for name in left(tmp_path):
            (tmp_path / name).unlink()


def test_a_mirror_that_differs_in_a_little_is_never_mixed_in(tmp_path: Path) -> None:
    """Equal at its ends and in the middle, where one might look. Without a checksum nobody could tell."""
    near = bytearray(DATA)
    for at in range(300_000, SIZE - 300_000, 150_000):
        if abs(at - SIZE // 2) > 150_000:
            near[at : at + 40_000] = bytes(40_000)
    for options in ([], sha256(DATA)):
        with aside(Origin({"f": DATA})) as origin, aside(Origin({"f": bytes(near)})) as mirror:
            origin.always["f"] = mirror.always["f"] = lies.late(0.02)
            done = get(url(origin), "--mirror", url(mirror), *options, "-n", "4", folder=tmp_path)
            exact(done, tmp_path, 2, 5, 6)
        for name in left(tmp_path):
            (tmp_path / name).unlink()


# ── all of it at once ──

NOW_AND_THEN: list[Fault] = [
    *(fault for what, (fault, _) in OTHERWISE.items() if "page" not in what and what not in SO_NOW),
    *(lies.short(at) for at in (0, 1, 65_535, 65_536, 300_000)),
    *(lies.rst(at) for at in (-1, 0, 70_001, 1_000_000)),
    *(lies.status(code) for code in (403, 404, 429, 500, 503)),
    lies.hang(100_000),
]


def chaos(origin: Origin, folder: Path, seed: str) -> None:
    """Runs of one download with faults at random, until it is there; it may become another version meanwhile."""
    chance = random.Random(seed)
    versions = [DATA[: chance.choice([SIZE, SIZE, 700_000, 65_536, 5])]]
    origin.validators, often = chance.choice(VALIDATORS), chance.choice([0.1, 0.3, 0.6])
    small = clamped(chance.choice([100_000, 300_000, SIZE]))  # so that there are many requests

    def spoil(answer: Answer, asked: Asked) -> None:
        if len(versions) > 1:
            version(versions[-1], origin.validators)(answer, asked)
        small(answer, asked)
        if chance.random() < often:
            chance.choice(NOW_AND_THEN)(answer, asked)
        if chance.random() < 0.01 and len(versions) < 3:
            versions.append(chance.choice([OTHER, OTHER[: len(versions[0])], OTHER + DATA]))

    origin.files["f"], origin.always["f"] = versions[0], spoil
    for _ in range(6):
        done = get(url(origin), "-n", str(chance.choice([1, 2, 4, 8])), folder=folder, seconds=20)
        if done.code == 0:
            break
        failed(done, folder, 3, 4, 5, 6, 7)
    else:
        origin.always["f"] = version(versions[-1], origin.validators) if len(versions) > 1 else lies.late(0)
        done = get(url(origin), folder=folder)
        assert done.code == 0, done.err
    assert holds(folder / "f", *versions), f"seed {seed}"


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.usefixtures("impatient")
def test_any_mixture_of_faults_ends_in_one_version_or_an_error(tmp_path: Path, seed: int) -> None:
    with aside(Origin({})) as origin:
        chaos(origin, tmp_path, f"{seed}")


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("impatient")
def test_any_of_500_mixtures_of_faults_ends_in_one_version_or_an_error(tmp_path: Path) -> None:
    for seed in range(500):
        (tmp_path / f"{seed}").mkdir()
        with aside(Origin({})) as origin:
            chaos(origin, tmp_path / f"{seed}", f"many {seed}")
        shutil.rmtree(tmp_path / f"{seed}")


# ── disks ──


def in_little_room(tmp_path: Path, *commands: str) -> tuple[list[str], str]:
    """Run commands in a folder `disk` with 500 kB, on a file system in memory that only they see."""
    (tmp_path / "disk").mkdir()
    script = ["mount -t tmpfs -o size=500k none disk || exit 77", *commands]
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", "\n".join(script)]
    if shutil.which("unshare") is None:
        pytest.skip("not installed: unshare")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    if done.returncode == 77 or "unshare:" in done.stderr:
        pytest.skip("no file system may be mounted here")
    return done.stdout.splitlines(), done.stderr


def command(address: str) -> str:
    return f'(cd disk; "{sys.executable}" -m playhead get {address}); echo "code $?"'


def test_a_disk_without_room_is_noticed_before_a_byte_is_fetched(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as origin, aside(Relay(origin.port, 2e6)) as relay:
        out, err = in_little_room(tmp_path, command(f"{relay.url}f"), "ls -A disk")
        assert out[0] == "code 8", err
        assert "f" not in out
        assert relay.passed < SIZE // 2  # the first answer had begun


def test_a_disk_that_fills_ends_it_with_8_and_with_room_it_goes_on(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA}, ranges=False)) as origin:
        origin.always["f"] = UNSIZED["chunked"]
        room = "mount -o remount,size=50m disk || exit 77"
        out, err = in_little_room(
            tmp_path, command(url(origin)), "ls -A disk", room, command(url(origin)), "sha256sum <disk/f", "ls -A disk"
        )
        assert out[0] == "code 8", err
        assert "f" not in out[1 : out.index("code 0")]
        assert out[-2:] == [f"{hashlib.sha256(DATA).hexdigest()}  -", "f"]


def test_until_it_is_whole_nothing_has_the_name_of_the_target(tmp_path: Path) -> None:
    """And what is there takes the room of a part, under the name of a part."""
    with aside(Origin({"f": DATA})) as origin:
        seen: list[list[str]] = []

        def look(answer: Answer, asked: Asked) -> None:
            seen.append(left(tmp_path))

        origin.always["f"] = lies.each(look, clamped(1 << 20))
        well(get(url(origin), folder=tmp_path), tmp_path)
        assert any("f.part" in names for names in seen)
        assert not any("f" in names for names in seen)
