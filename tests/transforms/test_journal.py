"""The journal of a kept file: it can only say too little, never what is not so."""

import errno
import os
import random
import struct
from pathlib import Path

import pytest

from playhead.transforms import journal
from playhead.transforms.journal import BLOCK, DROPPED, HERE, PER_RUN, PINNED, RUN, UNPINNED, Contents, Foreign, Torn

SIZE = 40 * BLOCK + 7
TAG, NAME = "v:a tag", "album/별 \udcff.flac"
ENTRIES = [(0, 11, HERE), (3, 12, HERE), (3, 0, DROPPED), (17, 13, HERE), (16, 0, PINNED), (40, 14, HERE)]
RECORD = 16


def written(entries: list[tuple[int, int, int]], tag: str = TAG, size: int = SIZE, name: str = NAME) -> bytes:
    return journal.header(tag, size, name) + journal.records(journal.seed(tag, size, name), entries)


def test_what_was_written_is_read() -> None:
    found = journal.read(written(ENTRIES))
    assert (found.tag, found.size, found.name) == (TAG, SIZE, NAME)
    assert (found.blocks, found.pinned) == ({0: 11, 17: 13, 40: 14}, {1})
    assert (found.records, found.length) == (len(ENTRIES), len(written(ENTRIES)))


@pytest.mark.parametrize("seed", range(20))
def test_the_last_record_of_a_block_counts(seed: int) -> None:
    chance = random.Random(seed)
    blocks: dict[int, int] = {}
    pinned: set[int] = set()
    entries = []
    for _ in range(200):
        entries.append((chance.randrange(41), chance.getrandbits(32), chance.choice([HERE, DROPPED, PINNED, UNPINNED])))
        block, crc, state = entries[-1]
        if state == HERE:
            blocks[block] = crc
        elif state == DROPPED:
            blocks.pop(block, None)
        else:
            (pinned.add if state == PINNED else pinned.discard)(block // PER_RUN)
    found = journal.read(written(entries))
    assert (found.blocks, found.pinned) == (blocks, pinned)


@pytest.mark.parametrize("state", [HERE, DROPPED, PINNED, UNPINNED, 0, 5, 2**32 - 1])
def test_a_block_beyond_the_file_is_none(state: int) -> None:
    found = journal.read(written([(41, 1, state), (2**32 - 1, 1, state)]))
    assert (found.blocks, found.pinned) == ({}, set())


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, RUN, 5 * RUN + 1, 1 << 40])
def test_a_file_has_as_many_blocks_and_runs_as_cover_it(size: int) -> None:
    assert BLOCK * (journal.blocks_of(size) - 1) < size <= BLOCK * journal.blocks_of(size)
    assert RUN * (journal.runs_of(size) - 1) < size <= RUN * journal.runs_of(size)
    assert journal.read(written([], size=size)).size == size


@pytest.mark.parametrize("lost", range(1, 2 * RECORD + 1))
def test_a_torn_tail_loses_the_torn_records_and_no_others(lost: int) -> None:
    data = written(ENTRIES)[:-lost]
    whole = len(ENTRIES) - -(-lost // RECORD)
    found = journal.read(data)
    assert found == journal.read(written(ENTRIES[:whole]))
    assert found.length == len(written(ENTRIES[:whole]))


def test_a_journal_goes_on_behind_a_torn_tail_that_was_cut_off() -> None:
    torn = written(ENTRIES)[:-5]
    data = torn[: journal.read(torn).length] + journal.records(journal.seed(TAG, SIZE, NAME), [(5, 15, HERE)])
    assert journal.read(data).blocks == {0: 11, 17: 13, 5: 15}


def test_any_bit_that_flips_is_ignored_or_noticed() -> None:
    data = written(ENTRIES)
    recorded = {(block, crc) for block, crc, state in ENTRIES if state == HERE}
    for bit in range(8 * len(data)):
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        try:
            found = journal.read(bytes(spoilt))
        except (Foreign, Torn):
            assert bit // 8 < len(journal.header(TAG, SIZE, NAME))
            continue
        assert (found.tag, found.size, found.name) == (TAG, SIZE, NAME)
        assert found.blocks.items() <= recorded
        assert found.pinned <= {1}
        assert found.records >= len(ENTRIES) - 1


@pytest.mark.parametrize("seed", range(200))
def test_what_is_spoilt_in_many_places_never_names_what_was_not_recorded(seed: int) -> None:
    chance = random.Random(seed)
    spoilt = bytearray(written(ENTRIES))
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(journal.header(TAG, SIZE, NAME)), len(spoilt))
        spoilt[at] = chance.randrange(256)
    found = journal.read(bytes(spoilt))
    assert found.blocks.items() <= {(block, crc) for block, crc, state in ENTRIES if state == HERE}


def test_records_of_another_journal_are_ignored() -> None:
    other = journal.records(journal.seed("another tag", SIZE, NAME), ENTRIES)
    assert journal.read(journal.header(TAG, SIZE, NAME) + other).blocks == {}


@pytest.mark.parametrize("at", range(len(written([]))))
def test_a_header_that_is_cut_is_torn(at: int) -> None:
    with pytest.raises(Torn):
        journal.read(written([])[:at])


@pytest.mark.parametrize("data", [b"", b"x", b"playhead", b"PLAYHEAD" + bytes(100), bytes(4096)])
def test_what_is_no_journal_is_torn(data: bytes) -> None:
    with pytest.raises(Torn):
        journal.read(data)


@pytest.mark.parametrize(
    ("version", "block"), [(0, BLOCK), (2, BLOCK), (65535, BLOCK), (1, BLOCK // 2), (1, 2 * BLOCK)]
)
def test_another_version_or_block_size_is_foreign(version: int, block: int) -> None:
    data = written(ENTRIES)
    with pytest.raises(Foreign):
        journal.read(data[:8] + struct.pack("<HHI", version, 0, block) + data[16:])


def test_a_long_name_is_cut_and_a_long_tag_is_not() -> None:
    found = journal.read(written(ENTRIES, tag="t" * 3000, name="n" * 3000))
    assert (len(found.tag), len(found.name)) == (3000, 1024)


def test_a_name_that_is_cut_in_the_middle_of_a_letter_can_be_read() -> None:
    assert journal.read(written(ENTRIES, name="x" + "별" * 1000)).blocks == {0: 11, 17: 13, 40: 14}


def test_checksums_are_by_block() -> None:
    data = random.Random(1).randbytes(2 * BLOCK + 5)
    assert list(journal.crcs(memoryview(data))) == [
        journal.crc32(data[:BLOCK]),
        journal.crc32(data[BLOCK : 2 * BLOCK]),
        journal.crc32(data[2 * BLOCK :]),
    ]


# ── on disk ──


def test_what_is_appended_is_there(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal.append(str(path), written(ENTRIES[:2]))
    journal.append(str(path), journal.records(journal.seed(TAG, SIZE, NAME), ENTRIES[2:]))
    assert journal.read(path.read_bytes()) == journal.read(written(ENTRIES))
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_could_be_appended_only_in_part_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "j"
    journal.append(str(path), written(ENTRIES))
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    with pytest.raises(OSError) as failed:
        journal.append(str(path), bytes(100))
    assert failed.value.errno == errno.ENOSPC
    assert path.read_bytes() == written(ENTRIES)


def test_a_link_in_place_of_a_journal_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "j").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        journal.append(str(tmp_path / "j"), b"x")
    assert not (tmp_path / "elsewhere").exists()


def test_contents_begin_empty() -> None:
    assert journal.read(written([])) == Contents(TAG, SIZE, NAME, length=len(written([])))
