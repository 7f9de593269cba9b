"""`playhead get`, as a person meets it: names, files that are there, codes, and what it prints."""

import hashlib
import os
import pty
import random
import re
import select
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from urllib.parse import quote

import pytest

from playhead import gets
from tests.downloads import (
    BLOCK,
    DATA,
    HALF,
    OTHER,
    SIZE,
    asked_for,
    broken_off,
    clamped,
    failed,
    get,
    holds,
    left,
    mark,
    marks,
    on_disk,
    run,
    running,
    version,
    well,
)
from tests.fakes import origin as lies
from tests.fakes.origin import Answer, Asked, Fault, Origin
from tests.fakes.relay import Relay, aside

pytestmark = pytest.mark.timeout(60)
SONG = random.Random(5).randbytes(100_000)
FILES = {
    "album/1 첫째.flac": random.Random(1).randbytes(300_000),
    "album/2 second.flac": random.Random(2).randbytes(70_000),
    "album/booklet/cover.png": random.Random(3).randbytes(5000),
    "album/booklet/empty": b"",
}


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


# ── names ──


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("song.mp3", "song.mp3"),
        ("d/song.mp3", "song.mp3"),
        ("d/노래 하나.mp3", "노래 하나.mp3"),
        ("d/It's a [song] & more;.mp3", "It's a [song] & more;.mp3"),
        ("-rf", "-rf"),
    ],
)
def test_a_file_is_called_as_the_last_segment_of_its_url(tmp_path: Path, path: str, name: str) -> None:
    with aside(Origin({path: SONG})) as origin:
        well(get(f"{origin.url}{quote(path)}?token=secret", folder=tmp_path), tmp_path, SONG, name)
    assert names(tmp_path) == [name]


DISPOSITIONS: list[tuple[str, str]] = [
    ('attachment; filename="song.mp3"', "song.mp3"),
    ("attachment; filename=song.mp3", "song.mp3"),
    ("ATTACHMENT; FILENAME=song.mp3", "song.mp3"),
    ("inline; filename=song.mp3", "song.mp3"),
    ("attachment; filename*=UTF-8''%EB%85%B8%EB%9E%98.mp3", "노래.mp3"),
    ("attachment; filename=\"plain.mp3\"; filename*=UTF-8''%EB%85%B8%EB%9E%98.mp3", "노래.mp3"),
    ("attachment; filename*=UTF-8''%EB%85%B8%EB%9E%98.mp3; filename=\"plain.mp3\"", "노래.mp3"),
    ("attachment; filename*=ISO-8859-1''caf%E9.mp3", "café.mp3"),
    (r'attachment; filename="a \"quoted\" one.mp3"', 'a "quoted" one.mp3'),
    ('attachment; filename="semi; colon.mp3"', "semi; colon.mp3"),
    ("attachment", "f"),
    ("attachment; filename=", "f"),
    ('attachment; filename=""', "f"),
    ("", "f"),
    (";;;===", "f"),
]


@pytest.mark.parametrize(("header", "name"), DISPOSITIONS, ids=[header for header, _ in DISPOSITIONS])
def test_a_file_is_called_as_the_server_proposes(tmp_path: Path, header: str, name: str) -> None:
    with aside(Origin({"f": SONG})) as origin:
        origin.always["f"] = lies.header("Content-Disposition", header)
        well(get(f"{origin.url}f", folder=tmp_path), tmp_path, SONG, name)
    assert names(tmp_path) == [name]


HOSTILE = [
    'attachment; filename="../../owned"',
    'attachment; filename="/etc/owned"',
    r'attachment; filename="..\\..\\owned"',
    r'attachment; filename="C:\\Windows\\owned"',
    'attachment; filename=".."',
    'attachment; filename="."',
    'attachment; filename="/"',
    'attachment; filename="../"',
    'attachment; filename="..."',
    'attachment; filename=".bashrc"',
    'attachment; filename=".ssh/authorized_keys"',
    'attachment; filename=" "',
    'attachment; filename="a\tb\x1b[31mred\x07.mp3"',
    "attachment; filename*=UTF-8''..%2F..%2Fowned",
    "attachment; filename*=UTF-8''a%00b.mp3",
    "attachment; filename*=UTF-8''a%0Ab%1B%5B31m.mp3",
    "attachment; filename*=UTF-8''%2E%2E",
    "attachment; filename*=UTF-8''%FF%FE.mp3",
    "attachment; filename*=nonsense''a.mp3",
    "attachment; filename*=UTF-8''" + "%EB%85%B8" * 200 + ".mp3",
    "attachment; filename*=UTF-8''left%E2%80%AEgpj.exe",
    'attachment; filename="' + "n" * 300 + '.mp3"',
    'attachment; filename="' + "n" * 255 + '"',
    'attachment; filename="x.' + "e" * 300 + '"',
]


@pytest.mark.parametrize("header", HOSTILE, ids=[header[:50] for header in HOSTILE])
def test_a_name_that_a_server_proposes_can_do_no_harm(tmp_path: Path, header: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "here").mkdir()
    with aside(Origin({"f": SONG})) as origin:
        origin.always["f"] = lies.header("Content-Disposition", header)
        done = get(f"{origin.url}f", folder=tmp_path / "in" / "here")
    assert done.code == 0, done.err
    assert names(tmp_path) == ["in"] and names(tmp_path / "in") == ["here"]
    [name] = names(tmp_path / "in" / "here")
    assert holds(tmp_path / "in" / "here" / name, SONG)
    assert not name.startswith(".") and name.strip()
    assert len(os.fsencode(name)) <= 255
    assert not any(ord(char) < 32 or char in "\x7f\u202e" for char in name)
    assert "\x1b" not in done.err + done.out and "\x07" not in done.err + done.out
    if ".mp3" in header and len(header) > 200:
        assert name.endswith(".mp3")


@pytest.mark.parametrize("path", ["%2e%2e", "a%2F..%2F..%2Fowned", "..%5Cowned", "%00", ".hidden", "%0a", "%20"])
def test_a_name_from_a_url_can_do_no_harm(tmp_path: Path, path: str) -> None:
    (tmp_path / "here").mkdir()
    with aside(Origin({}, ranges=True)) as origin:
        origin.files |= dict.fromkeys(("..", "a/../../owned", "..\\owned", "\x00", ".hidden", "\n", " "), SONG)
        done = get(f"{origin.url}{path}", folder=tmp_path / "here")
    assert names(tmp_path) == ["here"]
    for name in names(tmp_path / "here"):
        assert not name.startswith(".") and name.strip() and "\n" not in name, (path, name)
    assert done.code in (0, 2, 3), done.err


def test_a_name_of_the_greatest_length_can_be_given(tmp_path: Path) -> None:
    with aside(Origin({"f": SONG})) as origin:
        for name in ("n" * 255, "나" * 85, "n" * 250):
            done = get(f"{origin.url}f", "-o", name, folder=tmp_path)
            if done.code:
                failed(done, tmp_path, 2, name=name)
                assert names(tmp_path) == []
            else:
                well(done, tmp_path, SONG, name)
                (tmp_path / name).unlink()


def test_the_place_is_a_file_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with aside(Origin({"f": SONG})) as origin:
        for place, path in [
            ("name.mp3", "name.mp3"),
            ("folder", "folder/f"),
            ("folder/other", "folder/other"),
            ("new/", "new/f"),
            (str(tmp_path / "absolute"), "absolute"),
        ]:
            assert get(f"{origin.url}f", "-o", place, folder=tmp_path).code == 0
            assert holds(tmp_path / path, SONG)
    assert sorted(on_disk(tmp_path)) == ["absolute", "folder/f", "folder/other", "name.mp3", "new/f"]


def test_the_name_that_is_given_counts_more_than_the_servers(tmp_path: Path) -> None:
    with aside(Origin({"f": SONG})) as origin:
        origin.always["f"] = lies.header("Content-Disposition", "attachment; filename=theirs")
        well(get(f"{origin.url}f", "-o", "mine", folder=tmp_path), tmp_path, SONG, "mine")
        (tmp_path / "folder").mkdir()
        assert get(f"{origin.url}f", "-o", "folder", folder=tmp_path).code == 0
    assert names(tmp_path / "folder") == ["theirs"]


@pytest.mark.parametrize("place", ["no such folder/x", "a file/x", "a file/", "/dev/null/x", ""])
def test_a_place_that_cannot_be_ends_with_2(tmp_path: Path, place: str) -> None:
    (tmp_path / "a file").write_bytes(b"precious")
    with aside(Origin({"f": SONG})) as origin:
        failed(get(f"{origin.url}f", "-o", place, folder=tmp_path), tmp_path, 2, 4, name="x")
    assert on_disk(tmp_path) == marks({"a file": b"precious"})


# ── what is there already ──


@pytest.mark.parametrize("validators", ["etag", "modified"])
def test_what_is_there_already_is_not_fetched_again(tmp_path: Path, validators: str) -> None:
    with aside(Origin({"f": DATA}, validators=validators)) as origin:
        well(get(f"{origin.url}f", folder=tmp_path), tmp_path)
        origin.requests.clear()
        done = get(f"{origin.url}f", folder=tmp_path)
        well(done, tmp_path)
        assert "already here" in done.out + done.err
        assert asked_for(origin) <= BLOCK


def test_what_has_the_checksum_is_already_here(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(DATA)
    with aside(Origin({"f": DATA})) as origin:
        done = get(f"{origin.url}f", *checksum("sha256", DATA), folder=tmp_path)
        well(done, tmp_path)
        assert "already here" in done.out + done.err


def checksum(algorithm: str, data: bytes) -> list[str]:
    value = f"{zlib.crc32(data):08x}" if algorithm == "crc32" else hashlib.new(algorithm, data).hexdigest()
    return ["--checksum", f"{algorithm}:{value}"]


def test_what_is_there_and_not_the_same_is_left_alone(tmp_path: Path) -> None:
    """Of another size, of the same size, and of an older version of the same file."""
    with aside(Origin({"f": DATA})) as origin:
        for precious in (b"precious", OTHER):
            (tmp_path / "f").write_bytes(precious)
            done = get(f"{origin.url}f", folder=tmp_path)
            assert done.code == 2, done.err
            assert "--overwrite" in done.said and "--rename" in done.said
            assert on_disk(tmp_path) == marks({"f": precious})
        (tmp_path / "f").unlink()
        well(get(f"{origin.url}f", folder=tmp_path), tmp_path)
        origin.always["f"] = version(OTHER)
        assert get(f"{origin.url}f", folder=tmp_path).code == 2
        assert on_disk(tmp_path) == marks({"f": DATA})


def test_a_file_that_was_edited_since_is_not_taken_for_what_was_fetched(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as origin:
        well(get(f"{origin.url}f", folder=tmp_path), tmp_path)
        with (tmp_path / "f").open("r+b") as file:
            file.seek(1000)
            file.write(b"edited")
        os.utime(tmp_path / "f", (1_800_000_000, 1_800_000_000))
        assert get(f"{origin.url}f", folder=tmp_path).code == 2
        assert b"edited" in (tmp_path / "f").read_bytes()


def test_overwriting_replaces_it_when_the_new_one_is_whole(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"precious")
    with aside(Origin({"f": DATA})) as origin:
        origin.always["f"] = lies.status(404)
        assert get(f"{origin.url}f", "--overwrite", folder=tmp_path).code == 3
        assert (tmp_path / "f").read_bytes() == b"precious"
        origin.script["f"], origin.always["f"] = [lies.rst(HALF)], lies.status(403)
        assert get(f"{origin.url}f", "--overwrite", "-n", "1", folder=tmp_path).code == 4
        assert (tmp_path / "f").read_bytes() == b"precious"
        origin.always.clear()
        well(get(f"{origin.url}f", "--overwrite", folder=tmp_path), tmp_path)


def test_renaming_finds_a_name_that_is_free(tmp_path: Path) -> None:
    precious = {"song.tar.gz": b"1", "song.tar (2).gz": b"2"}
    for name, data in precious.items():
        (tmp_path / name).write_bytes(data)
    with aside(Origin({"song.tar.gz": SONG, "plain": DATA})) as origin:
        assert get(f"{origin.url}song.tar.gz", "--rename", folder=tmp_path).code == 0
        for _ in range(3):
            assert get(f"{origin.url}plain", "--rename", folder=tmp_path).code == 0
    found = on_disk(tmp_path)
    assert {name: found[name] for name in precious} == marks(precious)
    assert list(found.values()).count(mark(SONG)) == 1
    assert sorted(name for name in found if name.startswith("plain")) in (
        ["plain", "plain (2)", "plain (3)"],
        ["plain"],  # the same, already here
    )


def test_a_file_that_comes_to_be_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    def appears(answer: Answer, asked: Asked) -> None:
        clamped(1 << 20)(answer, asked)
        if answer.span[0]:
            (tmp_path / "f").write_bytes(b"precious")

    with aside(Origin({"f": DATA})) as origin:
        origin.always["f"] = appears
        done = get(f"{origin.url}f", folder=tmp_path)
        assert done.code in (0, 2), done.err
        assert holds(tmp_path / "f", b"precious")
        if done.code:
            origin.always.clear()
            origin.requests.clear()
            well(get(f"{origin.url}f", "--overwrite", folder=tmp_path), tmp_path)
            assert asked_for(origin) < BLOCK + SIZE // 2, "what was fetched is gone"


def test_a_file_has_the_rights_that_new_files_have(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with aside(Origin({"f": SONG})) as origin:
            well(get(f"{origin.url}f", folder=tmp_path), tmp_path, SONG)
    finally:
        os.umask(before)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640


def test_a_folder_or_a_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "f").mkdir()
    with aside(Origin({"f": SONG})) as origin:
        for options in ([], ["--overwrite"]):
            assert get(f"{origin.url}f", *options, folder=tmp_path).code == 2
            assert get(f"{origin.url}f", "-o", "pipe", *options, folder=tmp_path).code == 2
    assert (tmp_path / "pipe").is_fifo() and (tmp_path / "f").is_dir()


# ── checksums ──


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512", "crc32"])
@pytest.mark.parametrize("resumed", [False, True], ids=["fresh", "resumed"])
def test_a_checksum_decides(tmp_path: Path, algorithm: str, resumed: bool) -> None:
    with aside(Origin({"f": DATA})) as origin:
        if resumed:
            broken_off(origin, tmp_path)
        done = get(f"{origin.url}f", *checksum(algorithm, OTHER), folder=tmp_path)
        failed(done, tmp_path, 6)
        kept = [name for name in left(tmp_path) if (tmp_path / name).read_bytes() == DATA]
        assert kept, "what was fetched is gone"
        again = get(f"{origin.url}f", *checksum(algorithm, DATA), folder=tmp_path)
        assert again.code == 0, again.err
        assert holds(tmp_path / "f", DATA)


def test_a_checksum_is_checked_where_there_is_no_length(tmp_path: Path) -> None:
    with aside(Origin({"f": SONG}, ranges=False)) as origin:
        origin.always["f"] = lies.each(lies.whole, lies.chunked)
        failed(get(f"{origin.url}f", *checksum("sha256", b""), folder=tmp_path), tmp_path, 6)
        for name in left(tmp_path):
            (tmp_path / name).unlink()
        well(get(f"{origin.url}f", *checksum("sha256", SONG), folder=tmp_path), tmp_path, SONG)


@pytest.mark.parametrize("wrong", ["sha256:12", "sha256", "rot13:1234", "md5:" + "g" * 32, "", ":", "crc32:123456789"])
def test_a_checksum_that_is_none_is_wrong_usage(tmp_path: Path, wrong: str) -> None:
    with aside(Origin({"f": SONG})) as origin:
        assert get(f"{origin.url}f", "--checksum", wrong, folder=tmp_path).code == 2
        assert origin.requests == []
    assert names(tmp_path) == []


# ── codes ──


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (lies.status(404), 3),
        (lies.status(410), 3),
        (lies.status(401), 4),
        (lies.status(403), 4),
        (lies.status(418), 6),
        (lies.redirect("/f"), 6),
        (lies.redirect("ftp://h/f"), 6),
        (lies.redirect("file:///etc/passwd"), 6),
    ],
    ids=["404", "410", "401", "403", "418", "a circle", "ftp", "a file"],
)
def test_how_it_fails_is_in_its_code_and_one_line(tmp_path: Path, fault: Fault, code: int) -> None:
    with aside(Origin({"f": SONG})) as origin:
        origin.always["f"] = fault
        done = get(f"{origin.url}f", folder=tmp_path)
    assert done.code == code or (code == 6 and done.code in (2, 4, 7)), done.err
    assert done.out == "" and "f" in done.said and done.said.startswith("playhead: ")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-n", "0", "URL"],
        ["-n", "x", "URL"],
        ["-n", "100000", "URL"],
        ["--limit", "fast", "URL"],
        ["--limit", "-1", "URL"],
        ["--proxy", "nonsense", "URL"],
        ["--proxy", "ftp://h/", "URL"],
        ["--overwrite", "--rename", "URL"],
        ["-o", "x", "URL", "URL"],
        ["ftp://h/f"],
        ["http://"],
        ["nothing:x"],
        ["-i", "no such file"],
        ["--mirror", "nonsense", "URL"],
    ],
    ids=lambda arguments: " ".join(arguments) or "nothing",
)
def test_wrong_usage_ends_with_2(tmp_path: Path, arguments: list[str]) -> None:
    with aside(Origin({"f": SONG})) as origin:
        done = get(*(origin.url + "f" if one == "URL" else one for one in arguments), folder=tmp_path)
        assert done.code in ((2, 3) if {"no such file", "nonsense"} & {*arguments} else (2,)), (done.code, done.err)
        assert origin.requests == []
    assert names(tmp_path) == []


def test_a_password_and_a_token_are_not_shown_or_written_down(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as origin:
        secret = f"{origin.url.replace('//', '//user:pass-word@')}f?token=to-ken"
        origin.script["f"], origin.always["f"] = [lies.rst(HALF)], lies.status(404)
        shown = [get(secret, "-n", "1", "--json", folder=tmp_path), get("--status", folder=tmp_path)]
        journal = (tmp_path / "f.part.journal").read_bytes()
        origin.always.clear()
        shown.append(get(secret, "-v", folder=tmp_path))
        assert shown[-1].code == 0
    for done in shown:
        assert "pass-word" not in done.out + done.err and "to-ken" not in done.out + done.err
    assert b"pass-word" not in journal
    assert b"to-ken" not in journal or (tmp_path / "f.part.journal").stat().st_mode & 0o77 == 0


# ── several at once ──


def test_several_urls_are_several_files(tmp_path: Path) -> None:
    files = {f"{number}.bin": random.Random(number).randbytes(50_000 * number) for number in range(12)}
    with aside(Origin(files)) as origin:
        assert get(*(f"{origin.url}{name}" for name in files), "-o", "new/", folder=tmp_path).code == 0
    assert on_disk(tmp_path / "new") == marks(files)


def test_where_some_fail_the_others_are_fetched_and_it_ends_with_9(tmp_path: Path) -> None:
    with aside(Origin({"a": SONG, "b": SONG, "c": SONG})) as origin:
        origin.always["b"] = lies.status(403)
        done = get(*(f"{origin.url}{name}" for name in ("a", "b", "c", "none")), folder=tmp_path)
        assert done.code == 9
        assert on_disk(tmp_path) == marks({"a": SONG, "c": SONG})
        told = [line for line in done.err.splitlines() if line.startswith("playhead: ")]
        assert [name for name in ("b", "none") if any(f"/{name}" in line or f" {name}" in line for line in told)]
        origin.always.clear()
        assert get(*(f"{origin.url}{name}" for name in ("a", "b", "c")), folder=tmp_path).code == 0


def test_where_all_fail_alike_the_code_says_how(tmp_path: Path) -> None:
    with aside(Origin({})) as origin:
        assert get(f"{origin.url}a", f"{origin.url}b", folder=tmp_path).code in (3, 9)


def test_files_of_the_same_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    with aside(Origin({"a/f": SONG, "b/f": DATA})) as origin:
        done = get(f"{origin.url}a/f", f"{origin.url}b/f", folder=tmp_path)
        if done.code:
            assert done.code in (2, 9), done.err
            assert set(on_disk(tmp_path).values()) <= {mark(SONG), mark(DATA)}
        else:
            assert sorted(on_disk(tmp_path).values()) == sorted([mark(SONG), mark(DATA)])
        done = get("--rename", f"{origin.url}a/f", f"{origin.url}b/f", "-o", "new/", folder=tmp_path)
        assert done.code == 0, done.err
        assert sorted(on_disk(tmp_path / "new").values()) == sorted([mark(SONG), mark(DATA)])


def test_a_list_of_urls_comes_from_a_file_or_a_pipe(tmp_path: Path) -> None:
    with aside(Origin({"a": SONG, "b": DATA, "노래": b"3"})) as origin:
        listed = f"# songs\n{origin.url}a\n\n  {origin.url}b  \r\n{origin.url}{quote('노래')}\n"
        (tmp_path / "list").write_text(listed)
        assert get("-i", "list", "-o", "one/", folder=tmp_path).code == 0
        assert get("-i", "-", "-o", "two/", folder=tmp_path, stdin=listed).code == 0
    assert on_disk(tmp_path / "one") == on_disk(tmp_path / "two") == marks({"a": SONG, "b": DATA, "노래": b"3"})


def test_a_list_that_is_no_list_ends_with_2(tmp_path: Path) -> None:
    for data in (b"\xff\xfe\x00nothing", b"\0" * 1000, b"ftp://h/x\n", b"x" * (1 << 20)):
        (tmp_path / "list").write_bytes(data)
        done = get("-i", "list", folder=tmp_path)
        assert done.code in (2, 3, 9), (data[:10], done.err)
        assert all(len(line) < 2000 for line in done.err.splitlines())
        assert names(tmp_path) == ["list"]


# ── folders and trees ──


def test_a_folder_is_fetched_with_all_that_is_in_it(tmp_path: Path) -> None:
    with aside(Origin(FILES)) as origin:
        assert get(f"{origin.url}album/", folder=tmp_path).code == 0
        origin.requests.clear()
        assert get(f"{origin.url}album/", folder=tmp_path).code == 0  # a second time: it is all there
        assert asked_for(origin, "album/1 첫째.flac") <= BLOCK
    found = on_disk(tmp_path)
    assert {name.removeprefix("album/"): data for name, data in found.items()} == marks(
        {name.removeprefix("album/"): data for name, data in FILES.items()}
    )


def test_a_folder_goes_on_where_it_was_broken_off(tmp_path: Path) -> None:
    with aside(Origin(FILES)) as origin:
        origin.always["album/2 second.flac"] = lies.status(503)
        assert get(f"{origin.url}album/", folder=tmp_path).code in (7, 9)
        origin.always.clear()
        origin.requests.clear()
        assert get(f"{origin.url}album/", folder=tmp_path).code == 0
    assert sorted(on_disk(tmp_path).values()) == sorted(marks(FILES).values())


def test_names_in_an_index_page_can_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    hostile = ["../owned", "..%2Fowned", "%2e%2e/owned", "..%2F..%2Fowned", "/owned", "%2e%2e", "a%00b", "n" * 400]
    page = "".join(f'<a href="{name}">{name}</a>' for name in [*hostile, "good"])
    with aside(
        Origin({"d/good": SONG, "owned": b"owned", "d/../owned": b"owned", "d/../../owned": b"owned"})
    ) as origin:
        origin.pages["d/"] = page.encode()
        done = get(f"{origin.url}d/", folder=tmp_path / "here")
    assert done.code in (0, 2, 3, 9), done.err
    assert names(tmp_path) == ["here"]
    assert mark(SONG) in on_disk(tmp_path / "here").values()
    for path in (tmp_path / "here").rglob("*"):
        assert path.resolve().is_relative_to(tmp_path / "here")


def test_a_tree_of_the_configuration_and_a_file_of_this_machine_are_sources(tmp_path: Path) -> None:
    (tmp_path / "music" / "album").mkdir(parents=True)
    (tmp_path / "music" / "album" / "song.mp3").write_bytes(SONG)
    (tmp_path / "here").mkdir()
    config = tmp_path / "playhead.toml"
    config.write_text(f'[tree.music]\nuse = "local"\nroot = "{tmp_path}/music"\n')
    assert get("--config", config, "music:album/song.mp3", folder=tmp_path / "here").code == 0
    assert get("--config", config, "music:album", "-o", "new/", folder=tmp_path / "here").code == 0
    assert get(tmp_path / "music" / "album" / "song.mp3", "-o", "copy", folder=tmp_path / "here").code == 0
    assert set(on_disk(tmp_path / "here").values()) == {mark(SONG)}
    assert len(on_disk(tmp_path / "here")) == 3


def test_a_file_is_not_fetched_onto_itself(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(SONG)
    for options in ([], ["--overwrite"]):
        get("./f", *options, folder=tmp_path)
        assert holds(tmp_path / "f", SONG)


PIECES = {f"x.00{number}": DATA[begin:end] for number, begin, end in ((1, 0, 1000), (2, 1000, HALF), (3, HALF, SIZE))}


@pytest.mark.parametrize("given", ["a pattern", "in any order", "a folder"])
def test_parts_become_one_file(tmp_path: Path, given: str) -> None:
    with aside(Origin(PIECES)) as origin:
        sources = {
            "a pattern": [f"{origin.url}x.00[1-3]"],
            "in any order": [f"{origin.url}x.00{number}" for number in (3, 1, 2)],
            "a folder": [origin.url],
        }[given]
        well(get("--parts", *sources, "-o", "whole", folder=tmp_path), tmp_path, name="whole")


def test_parts_of_which_one_is_missing_or_ends_early_become_no_file(tmp_path: Path) -> None:
    with aside(Origin(PIECES)) as origin:
        for fault, code in ((lies.status(404), 3), (lies.short(1000), 7)):
            origin.always["x.003"] = fault
            done = get("--parts", f"{origin.url}x.00[1-3]", "-o", "whole", folder=tmp_path)
            failed(done, tmp_path, code, name="whole")
        origin.always.clear()
        well(get("--parts", f"{origin.url}x.00[1-3]", "-o", "whole", folder=tmp_path), tmp_path, name="whole")


def test_a_part_that_changed_between_two_runs_is_not_mixed_in(tmp_path: Path) -> None:
    with aside(Origin(PIECES)) as origin:
        origin.always["x.003"] = lies.short(1000)
        failed(get("--parts", f"{origin.url}x.00[1-3]", "-o", "whole", folder=tmp_path), tmp_path, 7, name="whole")
        origin.always.clear()
        origin.files["x.002"] = OTHER[1000:HALF]
        done = get("--parts", f"{origin.url}x.00[1-3]", "-o", "whole", folder=tmp_path)
        well(done, tmp_path, DATA[:1000] + OTHER[1000:HALF] + DATA[HALF:], name="whole")


# ── what it prints ──


def test_json_is_lines_of_events_and_nothing_else(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA, "g": SONG})) as origin:
        origin.always["none"] = lies.status(404)
        done = get("--json", *(f"{origin.url}{name}" for name in ("f", "none", "g")), folder=tmp_path)
        assert done.code == 9
    events = done.events
    assert {one["event"] for one in events} <= {"start", "progress", "done", "error"}
    kinds = [one["event"] for one in events]
    assert (kinds.count("start") >= 2, kinds.count("done"), kinds.count("error")) == (True, 2, 1)
    assert all("\x1b" not in line for line in done.out.splitlines())


def test_json_of_a_failure_tells_its_code(tmp_path: Path) -> None:
    with aside(Origin({})) as origin:
        done = get("--json", f"{origin.url}none", folder=tmp_path)
    assert done.code == 3
    [error] = [one for one in done.events if one["event"] == "error"]
    assert 3 in error.values(), error


def test_progress_counts_what_is_there_and_never_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the server has no ranges, and where connections end."""
    monkeypatch.setattr(gets, "TOLD", 0.05)
    with aside(Origin({"f": DATA})) as origin, aside(Relay(origin.port, 12e6)) as relay:
        for fault in (None, lies.whole, lies.short(600_000)):
            if fault:
                origin.always["f"] = fault
            done = get("--json", f"{relay.url}f", folder=tmp_path)
            assert done.code == 0, done.err
            (tmp_path / "f").unlink()
            told = [_done(one) for one in done.events if one["event"] == "progress"]
            assert len(told) > 2
            assert told == sorted(told)
            assert all(0 <= value <= SIZE for value in told)
            assert any(SIZE in one.values() for one in done.events if one["event"] == "done")


def _done(event: dict[str, object]) -> int:
    value = next(event[name] for name in ("done", "bytes", "have", "fetched", "at") if name in event)
    assert isinstance(value, int)
    return value


def test_without_a_terminal_there_are_plain_lines(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as origin:
        done = get(f"{origin.url}f", folder=tmp_path)
    assert done.out == "" or done.out.strip() in ("f", str(tmp_path / "f"), "./f")
    assert not any(char in done.err for char in "\r\x1b\b")


def test_on_a_terminal_a_bar_grows(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    shown, until = b"", time.monotonic() + 30
    with aside(Origin({"f": DATA})) as origin, aside(Relay(origin.port, 10e6)) as relay:
        command = [sys.executable, "-m", "playhead", "get", f"{relay.url}f"]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs, cwd=tmp_path
        )
        os.close(theirs)
        try:
            while time.monotonic() < until:
                if select.select([ours], [], [], 0.1)[0]:
                    try:
                        shown += os.read(ours, 1 << 16)
                    except OSError:  # the other side is closed
                        break
            assert process.wait(10) == 0
        finally:
            process.kill()
            process.wait()
            os.close(ours)
    text = shown.decode()
    assert re.search(r"f: \[.+\] \d+% .+ of 5\.2 MB", text) and text.count("\r") > 2
    assert all(int(share) <= 100 for share in re.findall(r"(\d+)%", text))
    assert re.search(r"playhead: f: 5\.2 MB in .+\r\n$", text)


def test_a_closed_output_ends_it_as_a_closed_pipe_does_or_not_at_all(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as origin, running("--json", f"{origin.url}f", folder=tmp_path) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        process.stdout = None
        assert process.wait(20) in (0, 141)
        assert b"Traceback" not in process.stderr.read()
    assert left(tmp_path) != ["f"] or holds(tmp_path / "f", DATA)


def test_status_tells_of_what_is_unfinished_without_asking_anyone(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as origin:
        broken_off(origin, tmp_path)
        before = on_disk(tmp_path)
        done = get("--status", folder=tmp_path)
        assert done.code == 0, done.err
        assert "f" in done.out and "%" in done.out
        assert origin.requests == []
    assert on_disk(tmp_path) == before


def test_when_it_is_done_a_command_is_run(tmp_path: Path) -> None:
    name = 'It\'s; $(touch owned) `touch owned` "x".mp3'
    with aside(Origin({name: SONG})) as origin:
        script = tmp_path / "then"
        script.write_text('#!/bin/sh\nprintf "%s|" "$@" > told; env | grep -i playhead >> told; exit 0\n')
        script.chmod(0o755)
        (tmp_path / "here").mkdir()
        done = get(f"{origin.url}{quote(name)}", "--on-done", str(script), folder=tmp_path / "here")
        assert done.code == 0, done.err
        assert name in (tmp_path / "here" / "told").read_text()
        assert "owned" not in names(tmp_path / "here")


def test_no_command_is_run_when_it_fails(tmp_path: Path) -> None:
    with aside(Origin({"f": SONG})) as origin:
        origin.always["f"] = lies.status(404)
        assert get(f"{origin.url}f", "--on-done", "touch told", folder=tmp_path).code == 3
    assert names(tmp_path) == []


# ── being stopped, and a limit ──


def test_interrupted_it_ends_with_130_and_goes_on_later(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as origin, aside(Relay(origin.port, 2e6)) as relay:
        with running(f"{relay.url}f", folder=tmp_path) as process:
            until = time.monotonic() + 20
            while relay.passed < 1_500_000:
                assert time.monotonic() < until
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=10)
            assert process.returncode == 130
            assert b"Traceback" not in err
        assert left(tmp_path) == ["f.part", "f.part.journal"]
        relay.rate, relay.passed = 1e9, 0
        well(run(f"{relay.url}f", folder=tmp_path), tmp_path)
        assert relay.passed < SIZE - 500_000


def test_a_rate_is_not_exceeded(tmp_path: Path) -> None:
    with aside(Origin({"f": DATA})) as origin:
        began = time.monotonic()
        well(get("--limit", "4MB", "-n", "4", f"{origin.url}f", folder=tmp_path), tmp_path)
        assert time.monotonic() - began > SIZE / 4e6 - 0.5


def test_a_file_gets_the_date_that_the_server_tells(tmp_path: Path) -> None:
    with aside(Origin({"f": SONG}, validators="modified")) as origin:
        well(get(f"{origin.url}f", folder=tmp_path), tmp_path, SONG)
    assert (tmp_path / "f").stat().st_mtime == 1767434400  # lies.OLD


def test_help_says_what_each_option_does(tmp_path: Path) -> None:
    done = get("--help", folder=tmp_path)
    assert done.code == 0
    for option in ("-i", "-o", "-n", "--proxy", "--mirror", "--checksum", "--limit", "--overwrite", "--rename"):
        assert option in done.out
