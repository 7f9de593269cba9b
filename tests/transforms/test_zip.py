"""Plan -> zip: exactly as long as was said, zip64 where it must be and nowhere else, and read by every reader."""

import asyncio
import io
import os
import random
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playhead import Ask, Blob
from playhead.origins.local import LocalTree
from playhead.transforms.packed import Archive
from playhead.transforms.plan import LONGEST, Member, Plan
from playhead.transforms.zip import zip
from tests.archives import GIB, TIMES, Bundle, crc_of_zeros, mixed, of_zeros, planned, random_items, written
from tests.cuts import KINDS, LENT, cut
from tests.laws import check_blob, collected, taken
from tests.unpackers import LIST_ZIP, UNZIP, run

ZIPS = ("zip crc", "zip", "zip mixed")
FULL, FIRST, LAST = 0xFFFFFFFF, 315_532_800, 4_354_819_198  # what 32 bits hold, the first and last time of DOS


async def none(number: int, ask: Ask) -> Blob:
    raise AssertionError("nothing is to be opened")


def dos(time: int) -> int:
    return min(max(time, FIRST), LAST) // 2 * 2


def shown(time: int) -> int:
    """A time as a reader of Unix' field "UT" shows it, which holds what 31 bits can."""
    return time if 0 < time < 1 << 31 else dos(time)


# ── what stands in a zip, read by hand ──


@dataclass
class Header:
    """A local header or one of the directory; `wide` are the numbers of zip64's field."""

    needs: int
    flags: int
    crc: int
    sizes: tuple[int, int]
    name: bytes
    wide: list[int] | None
    unix: int | None
    begin: int = 0
    end: int = 0


def _header(data: bytes, at: int, central: bool) -> Header:
    skipped = 46 if central else 30
    fields = struct.unpack_from("<4s6H3I5H2I" if central else "<4s5H3I2H", data, at)
    assert fields[0] == (b"PK\x01\x02" if central else b"PK\x03\x04")
    needs, flags, method, _, _, crc, *sizes, name, extra = fields[2 if central else 1 : 12 if central else 11]
    if central:
        comment, disk, internal, _, begin = fields[12:]
        assert (fields[1], comment, disk, internal) == (3 << 8 | needs, 0, 0, 0)
    assert method == 0
    end = at + skipped + name + extra
    found = dict(_extras(data[end - extra : end]))
    assert found.keys() <= {1, 0x5455}
    wide = None if 1 not in found else list(struct.unpack(f"<{len(found[1]) // 8}Q", found[1]))
    unix = None if 0x5455 not in found else struct.unpack("<BI", found[0x5455])[1]
    called = data[at + skipped : at + skipped + name]
    return Header(needs, flags, crc, (sizes[0], sizes[1]), called, wide, unix, begin if central else at, end)


def _extras(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        kind, length = struct.unpack_from("<2H", data)
        assert len(data) >= 4 + length
        yield kind, data[4 : 4 + length]
        data = data[4 + length :]


def of(number: int, wide: bool) -> int:
    return FULL if wide else number


async def check_structure(archive: Archive, crcs: list[int]) -> None:
    """Every header says what the plan says, in as few bytes as it can."""
    plan, begins = archive.plan, archive.layout.begins
    directory, at = await archive.read(begins[-1]), 0
    for number, member in enumerate(plan):
        begin, size, crc = begins[number], member.size, crcs[number]
        wide, far, described = size >= FULL, begin >= FULL, member.crc is None and size > 0
        local = _header(await archive.read(begin, min(begin + 70_000, begins[number + 1])), 0, central=False)
        central = _header(directory, at, central=True)
        at = central.end
        for header in (local, central):
            assert header.name == member.name.encode()
            assert header.flags == (0 if member.name.isascii() else 1 << 11) | (1 << 3 if described else 0)
            assert header.unix == (member.mtime if 0 < member.mtime < 1 << 31 else None)
        assert (local.needs, central.needs) == (45 if wide else 20, 45 if wide or far else 20)
        given = 0 if described else size
        assert (local.crc, local.sizes) == (0 if described else crc, (of(given, wide),) * 2)
        assert (central.crc, central.sizes, central.begin) == (crc, (of(size, wide),) * 2, of(begin, far))
        assert local.wide == ([given, given] if wide else None)
        assert (central.wide or []) == [size, size] * wide + [begin] * far
        after = await archive.read(begin + local.end + size, begins[number + 1])
        assert after == struct.pack("<4sI2Q" if wide else "<4s3I", b"PK\x07\x08", crc, size, size) * described
    check_ending(directory[at:], len(plan), begins[-1], at)


def check_ending(end: bytes, count: int, begin: int, size: int) -> None:
    numbers = (min(count, 0xFFFF), min(count, 0xFFFF), min(size, FULL), min(begin, FULL))
    assert struct.unpack("<4s4H2IH", end[-22:]) == (b"PK\x05\x06", 0, 0, *numbers, 0)
    if count < 0xFFFF and begin < FULL and size < FULL:
        assert len(end) == 22
        return
    first = (b"PK\x06\x06", 44, 3 << 8 | 45, 45, 0, 0, count, count, size, begin)
    assert struct.unpack("<4sQ2H2I4Q", end[:56]) == first
    assert struct.unpack("<4sIQI", end[56:-22]) == (b"PK\x06\x07", 0, begin + size, 1)


def check_with_zipfile(data: bytes, bundle: Bundle) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        infos = opened.infolist()
        assert [info.filename for info in infos] == [member.name for member in bundle.plan]
        assert {info.filename.rstrip("/") for info in infos if info.is_dir()} == bundle.folders()
        assert [info.external_attr >> 16 & 0o777 for info in infos] == list(bundle.plan.modes)
        for at, info in enumerate(infos):
            assert opened.read(info) == bundle.data[at]


# ── the law ──


@pytest.fixture(scope="module")
def wholes() -> dict[str, bytes]:
    """Zips of members of all kinds, as they come from members in memory, and as zipfile reads them."""
    made = {}
    for layout in ZIPS:
        bundle = Bundle(mixed(), layout)
        made[layout] = asyncio.run(bundle.archive().read())
        check_with_zipfile(made[layout], bundle)
    return made


@pytest.mark.parametrize("layout", ZIPS)
async def test_a_zip_is_its_bytes(layout: str, wholes: dict[str, bytes]) -> None:
    archive = Bundle(mixed(), layout).archive()
    await check_blob(archive, wholes[layout])
    await check_structure(archive, [crc32(data) for data in Bundle(mixed()).data])


@pytest.mark.parametrize("kind", [*KINDS, LENT])
@pytest.mark.parametrize("layout", ["zip crc", "zip"])
async def test_a_zip_of_odd_pieces_is_its_bytes(layout: str, kind: str, wholes: dict[str, bytes]) -> None:
    bundle = Bundle(mixed(), layout)

    async def opener(number: int, ask: Ask) -> Blob:
        return cut(kind, bundle.data[number])

    await check_blob(bundle.archive(opener), wholes[layout], rounds=6)


@pytest.mark.parametrize("layout", ZIPS)
async def test_a_zip_of_files_is_its_bytes(layout: str, tmp_path: Path, wholes: dict[str, bytes]) -> None:
    bundle = Bundle(mixed(), layout)
    for number, data in enumerate(bundle.data):
        (tmp_path / f"{number}").write_bytes(data)
    tree = LocalTree(tmp_path)
    await check_blob(bundle.archive(lambda number, ask: tree.open(f"{number}", ask)), wholes[layout])
    await tree.aclose()


async def test_an_empty_plan_is_an_empty_zip() -> None:
    await check_blob(zip(planned(), none), b"PK\x05\x06" + bytes(18))


# ── as long as was said ──


async def check_random(rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(rounds):
        bundle = Bundle(random_items(chance), chance.choice(ZIPS))
        archive = bundle.archive()
        data = await collected(archive.stream(0, archive.size))
        assert len(data) == archive.size
        check_with_zipfile(data, bundle)
        start = chance.randint(0, archive.size)
        assert await bundle.archive().read(start, start + 5000) == data[start : start + 5000]


async def test_what_is_announced_is_what_is_sent() -> None:
    await check_random(200, 1)


@pytest.mark.torture
async def test_what_is_announced_is_what_is_sent_for_thousands_of_plans() -> None:
    await check_random(5000, int(os.environ.get("SEED", "2")))


_MEMBERS = st.builds(
    Member,
    st.text("a노/", max_size=9) | st.integers(1, 400).map("n".__mul__),
    st.integers(0, 3000) | st.integers(FULL - 3, FULL + 3) | st.integers(0, 1 << 45),
    st.booleans(),
    st.sampled_from(TIMES) | st.integers(0, 1 << 41),
    crc=st.none() | st.integers(0, FULL),
)


@given(st.lists(_MEMBERS, max_size=8))
@settings(max_examples=150, deadline=None)
def test_every_byte_around_the_members_is_counted(members: list[Member]) -> None:
    archive = zip(plan := planned(*members), none)
    layout = archive.layout
    for number, size in enumerate(plan.sizes):
        around = len(layout.head(number)) + len(layout.tail(number, 5))
        assert layout.begins[number + 1] - layout.begins[number] == around + size

    async def crc(number: int) -> int:
        return 5

    async def end() -> int:
        return sum([len(part) async for part in layout.end(0, archive.size - layout.begins[-1], crc)])

    assert asyncio.run(end()) == archive.size - layout.begins[-1]


@pytest.mark.parametrize("folder", [False, True])
async def test_the_longest_name_is_read_back(folder: bool) -> None:
    bundle = Bundle([(Member("n" * (LONGEST - 1), folder=folder), b"")], "zip")
    check_with_zipfile(await bundle.archive().read(), bundle)


# ── the same bytes for ever ──


@pytest.mark.parametrize("layout", ZIPS)
async def test_equal_plans_make_equal_archives(layout: str) -> None:
    one, other = Bundle(mixed(1000), layout).archive(), Bundle(mixed(1000), layout).archive()
    assert (one.size, one.tag) == (other.size, other.tag)
    assert await one.read() == await other.read()
    again = zip(Plan.unpacked(Bundle(mixed(1000), layout).plan.packed()), Bundle(mixed(1000)).open)
    assert (again.tag, await again.read()) == (one.tag, await one.read())


@pytest.mark.parametrize("layout", ZIPS)
async def test_what_was_learned_moves_nothing(layout: str) -> None:
    bundle = Bundle(mixed(1000), layout)
    archive = bundle.archive()
    first = await archive.read()
    assert await archive.read() == first
    assert await collected(bundle.archive().stream(0, archive.size)) == first
    backwards = bundle.archive()
    parts = [await backwards.read(at, at + 999) for at in range(archive.size // 999 * 999, -1, -999)]
    assert b"".join(reversed(parts)) == first


async def test_more_crcs_or_fewer_are_another_archive() -> None:
    assert len({Bundle(mixed(1000), layout).archive().tag for layout in ("tar", *ZIPS)}) == 4


# ── readers ──


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, wholes: dict[str, bytes]) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("zip")
    for layout, data in wholes.items():
        (folder / f"{layout}.zip").write_bytes(data)
    return {layout: folder / f"{layout}.zip" for layout in wholes}


@pytest.mark.parametrize("layout", ZIPS)
@pytest.mark.parametrize("reader", UNZIP)
def test_every_reader_unpacks_it(reader: str, layout: str, packed: dict[str, Path], tmp_path: Path) -> None:
    if reader == "ZipInputStream" and layout != "zip crc":
        pytest.skip("ZipInputStream reads no data descriptor after a stored member")
    bundle = Bundle(mixed())
    found = UNZIP[reader](packed[layout], tmp_path / "out")
    assert {name: data for name, (data, _) in found.items() if data is not None} == bundle.files()
    assert bundle.folders() <= {name for name, (data, _) in found.items() if data is None}
    if reader == "busybox":
        return  # it gives files the present time
    see = dos if reader == "zipfile" else shown
    most = 4_000_000_000 if reader == "unzip" else LAST  # for it 2100 is a leap year
    times = {name: time for name, (data, time) in found.items() if data is not None}
    wanted = {name: see(time) for name, time in bundle.times().items()}
    assert {name: time for name, time in times.items() if wanted[name] <= most} == {
        name: time for name, time in wanted.items() if time <= most
    }


@pytest.mark.parametrize("layout", ZIPS)
def test_every_reader_tests_it(layout: str, packed: dict[str, Path]) -> None:
    assert "No errors detected" in run("unzip", "-t", packed[layout])
    assert "Everything is Ok" in run("7zz", "t", packed[layout])
    with zipfile.ZipFile(packed[layout]) as opened:
        assert opened.testzip() is None


@pytest.mark.parametrize("layout", ZIPS)
def test_zipinfo_sees_no_more_than_there_must_be(layout: str, packed: dict[str, Path]) -> None:
    said, members = run("zipinfo", "-v", packed[layout]), Bundle(mixed(), layout).plan
    described = sum(member.crc is None and member.size > 0 for member in members)
    lines = said.splitlines()

    def count(begin: str, end: str) -> int:
        return sum(line.strip().startswith(begin) and line.endswith(end) for line in lines)

    assert count("minimum software version required to extract:", " 2.0") == len(members)
    assert count("extended local header:", " yes") == described
    assert count("extended local header:", " no") == len(members) - described
    assert count("compression method:", " none (stored)") == len(members)
    assert count("file system or operating system of origin:", " Unix") == len(members)
    assert "PKWARE 64-bit" not in said and "rw-------" in said


async def test_modes_of_files_and_folders_are_unix(tmp_path: Path) -> None:
    bundle = Bundle([(Member("run", mode=0o755), b"#!"), (Member("f", folder=True, mode=0o700), b"")], "zip crc")
    (tmp_path / "a.zip").write_bytes(await bundle.archive().read())
    lines = run("zipinfo", "-l", tmp_path / "a.zip").splitlines()
    assert [line.split()[0] for line in lines if line.endswith((" run", " f/"))] == ["-rwxr-xr-x", "drwx------"]


# ── borders ──


def sizes_of(border: str, layout: str) -> list[int]:
    """Members of zeros around what 32 bits hold; "at n": a second member or the directory begins at n."""
    around = 30 + len("zeros 0") + 9 + (0 if layout == "zip crc" else 16)
    at = {"4 GiB - 2": 4 * GIB - 2, "4 GiB - 1": 4 * GIB - 1, "4 GiB": 4 * GIB}
    at |= {"5 GiB": 5 * GIB, "8 GiB - 1": 8 * GIB - 1, "8 GiB": 8 * GIB}
    kind, _, number = border.partition(": ")
    return {
        "member of": [at[number], 1],
        "last of": [1, at[number]],
        "member at": [at[number] - around, 1, 0],
        "directory at": [at[number] - around],
    }[kind]


BORDERS = [
    *(f"member of: {size}" for size in ("4 GiB - 2", "4 GiB - 1", "4 GiB", "5 GiB", "8 GiB - 1", "8 GiB")),
    *(
        f"{what}: {at}"
        for what in ("last of", "member at", "directory at")
        for at in ("4 GiB - 2", "4 GiB - 1", "4 GiB")
    ),
]


@pytest.fixture(scope="module", params=[f"{layout}, {border}" for layout in ("zip crc", "zip") for border in BORDERS])
def huge(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int], Archive]:
    layout, _, border = request.param.partition(", ")
    sizes = sizes_of(border, layout)
    archive = of_zeros(sizes, layout)
    path = tmp_path_factory.mktemp("huge") / "zeros.zip"
    asyncio.run(written(archive, path))
    return path, sizes, archive


def misread_by_unzip(sizes: list[int]) -> bool:
    """It takes the size of a member for a mark that the next one has its size in zip64's field, whoever wrote it."""
    return sizes[0] == FULL


@pytest.mark.parametrize("reader", LIST_ZIP)
def test_every_reader_lists_what_is_huge(reader: str, huge: tuple[Path, list[int], Archive]) -> None:
    path, sizes, _ = huge
    if reader == "unzip" and misread_by_unzip(sizes):
        pytest.skip("unzip 6.0 misreads what follows a member of exactly 4 GiB - 1, whoever wrote it")
    assert LIST_ZIP[reader](path) == {f"zeros {at}": size for at, size in enumerate(sizes)}


async def test_zip64_stands_where_a_number_needs_it(huge: tuple[Path, list[int], Archive]) -> None:
    _, sizes, archive = huge
    await check_structure(archive, [crc_of_zeros(size) for size in sizes])


@pytest.mark.parametrize("count", [pytest.param(65_534, marks=pytest.mark.torture), 65_535, 65_536])
async def test_zip64_stands_where_the_members_are_too_many(count: int, tmp_path: Path) -> None:
    names = [f"{at:05}" for at in range(count)]
    archive = zip(planned(*names), none)
    data = await collected(archive.stream(0, archive.size))
    assert len(data) == archive.size == count * (30 + 5 + 46 + 5) + (22 if count < 65_535 else 98)
    check_ending(data[count * (30 + 5 + 46 + 5) :], count, count * 35, count * 51)
    (tmp_path / "many.zip").write_bytes(data)
    for reader in LIST_ZIP.values():
        assert reader(tmp_path / "many.zip") == dict.fromkeys(names, 0)


@pytest.mark.torture
@pytest.mark.parametrize("layout", ["zip crc", "zip"])
@pytest.mark.parametrize("border", BORDERS)
async def test_what_is_huge_is_read_to_its_end(layout: str, border: str, tmp_path: Path) -> None:
    archive = of_zeros(sizes_of(border, layout), layout)
    path, at = await written(archive, tmp_path / "zeros.zip"), 0
    with path.open("rb") as file:
        async for piece in archive.stream(0, archive.size):
            data = taken(piece)
            assert file.read(len(data)) == data
            at += len(data)
    assert at == archive.size
    assert misread_by_unzip(list(archive.plan.sizes)) or "No errors detected" in run("unzip", "-t", path)
    assert "Everything is Ok" in run("7zz", "t", path)
    with zipfile.ZipFile(path) as opened:
        assert opened.testzip() is None
