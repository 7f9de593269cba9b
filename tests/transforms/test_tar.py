"""Plan -> tar: exactly as long as was said, the same bytes for ever, and read by every reader."""

import asyncio
import io
import os
import random
import re
import tarfile
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from playhead import Ask, Blob, FileSpan, Malformed
from playhead.origins.local import LocalTree
from playhead.transforms.plan import Member, Plan
from playhead.transforms.tar import tar
from tests.archives import GIB, KIB, MIB, TIMES, Bundle, Zeros, mixed, of_zeros, planned, random_items, written
from tests.cuts import KINDS, LENT, cut
from tests.laws import check_blob, collected, taken
from tests.unpackers import LIST_TAR, UNTAR, run


async def none(number: int, ask: Ask) -> Blob:
    raise AssertionError("nothing is to be opened")


def size(*members: Member | str) -> int:
    return tar(planned(*members), none).size


def blocks(archive: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The header blocks of an archive, each with its data; the checksums must be right."""
    at = 0
    while archive[at] != 0:
        block = archive[at : at + 512]
        assert int(block[148:154], 8) == sum(block[:148] + b" " * 8 + block[156:])
        assert block[257:265] == b"ustar\x0000"
        assert block[345:] == bytes(167)
        length = int.from_bytes(block[125:136]) if block[124] & 128 else int(block[124:135], 8)
        yield block, archive[at + 512 : at + 512 + length]
        at += 512 + length + -length % 512
    assert archive[at:] == bytes(len(archive) - at) and len(archive) - at >= 1024


# ── the law ──


@pytest.fixture(scope="module")
def whole() -> bytes:
    """An archive of members of all kinds, as it comes from members in memory, and as tarfile reads it."""
    bundle = Bundle(mixed())
    data = asyncio.run(bundle.archive().read())
    check_with_tarfile(data, bundle)
    return data


def check_with_tarfile(data: bytes, bundle: Bundle) -> None:
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        members = opened.getmembers()
        assert [member.name for member in members] == bundle.names
        assert [member.mtime for member in members] == list(bundle.plan.mtimes)
        assert [member.mode for member in members] == list(bundle.plan.modes)
        assert {member.name for member in members if member.isdir()} == bundle.folders()
        for at, member in enumerate(members):
            file = opened.extractfile(member)
            assert (file.read() if file else b"") == bundle.data[at]


async def test_a_tar_is_its_bytes(whole: bytes) -> None:
    await check_blob(Bundle(mixed()).archive(), whole)


@pytest.mark.parametrize("kind", [*KINDS, LENT])
async def test_a_tar_of_odd_pieces_is_its_bytes(kind: str, whole: bytes) -> None:
    bundle = Bundle(mixed())

    async def opener(number: int, ask: Ask) -> Blob:
        return cut(kind, bundle.data[number])

    await check_blob(bundle.archive(opener), whole, rounds=8)


async def on_disk(bundle: Bundle, folder: Path) -> LocalTree:
    for number, data in enumerate(bundle.data):
        (folder / f"{number}").write_bytes(data)
    return LocalTree(folder)


async def test_a_tar_of_files_is_its_bytes(tmp_path: Path, whole: bytes) -> None:
    bundle = Bundle(mixed())
    tree = await on_disk(bundle, tmp_path)
    await check_blob(bundle.archive(lambda number, ask: tree.open(f"{number}", ask)), whole)
    await tree.aclose()


async def test_large_files_leave_as_spans(tmp_path: Path) -> None:
    bundle = Bundle([(Member("a"), bytes(3 * MIB)), (Member("b"), b"small")])
    tree = await on_disk(bundle, tmp_path)
    archive = bundle.archive(lambda number, ask: tree.open(f"{number}", ask))
    async with aclosing(archive.stream(0, archive.size)) as stream:
        lengths = [(isinstance(piece, FileSpan), len(taken(piece))) async for piece in stream]
    assert sum(length for span, length in lengths if span) >= 3 * MIB - 64 * KIB
    assert sum(length for _, length in lengths) == archive.size


async def test_an_empty_plan_is_an_empty_tar() -> None:
    await check_blob(tar(planned(), none), bytes(10_240))


# ── as long as was said ──


async def check_random(rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(rounds):
        bundle = Bundle(random_items(chance))
        archive = bundle.archive()
        data = await collected(archive.stream(0, archive.size))
        assert len(data) == archive.size
        check_with_tarfile(data, bundle)
        start = chance.randint(0, archive.size)
        assert await archive.read(start, start + 5000) == data[start : start + 5000]


async def test_what_is_announced_is_what_is_sent() -> None:
    await check_random(200, 1)


@pytest.mark.torture
async def test_what_is_announced_is_what_is_sent_for_thousands_of_plans() -> None:
    await check_random(5000, int(os.environ.get("SEED", "2")))


def test_the_size_is_known_before_anything_is_opened() -> None:
    assert size() == 10_240
    assert size(Member("a", 1)) == 10_240
    assert size(*(Member(f"{at}", 1) for at in range(9))) == 10_240
    assert size(*(Member(f"{at}", 1) for at in range(10))) == 20_480
    assert size(Member("a", GIB)) == -(-(GIB + 3 * 512) // 10_240) * 10_240


@given(
    st.lists(
        st.builds(
            Member,
            st.text("a노/", max_size=9) | st.integers(1, 400).map("n".__mul__),
            st.integers(0, 3000) | st.integers(8 * GIB - 3, 8 * GIB + 3) | st.integers(0, 1 << 50),
            st.booleans(),
            st.sampled_from(TIMES) | st.integers(0, 1 << 41),
        ),
        max_size=8,
    )
)
@settings(max_examples=150, deadline=None)
def test_every_byte_around_the_members_is_counted(members: list[Member]) -> None:
    archive = tar(plan := planned(*members), none)
    begins = archive.layout.begins
    for number, size in enumerate(plan.sizes):
        around = len(archive.layout.head(number)) + len(archive.layout.tail(number, 0))
        assert begins[number + 1] - begins[number] == around + size
        assert begins[number + 1] % 512 == 0
    assert archive.size % 10_240 == 0 and 1024 <= archive.size - begins[-1] < 1024 + 10_240


def test_a_float_time_cannot_make_the_size_wrong() -> None:
    """System 3: a time with a fraction got a header of its own that nobody had counted."""
    with pytest.raises(Malformed):
        size(Member("a", 5, mtime=1_700_000_000.5))  # type: ignore[arg-type]
    whole = [Member(f"{at}", 5, mtime=1_700_000_000) for at in range(20)]
    assert size(*whole) == size(*(Member(f"{at}", 5) for at in range(20))) == -(-(40 * 512 + 1024) // 10_240) * 10_240


@pytest.mark.parametrize("length", [99, 100, 101, 255, 256, 257, 300, 1000, 40_000, 65_525])
async def test_long_names_are_counted(length: int) -> None:
    """System 3: names over 100 characters were not."""
    name = "/".join(["n" * 200] * 200)[:length]
    bundle = Bundle([(Member(name), b"data")] * 20)
    data = await collected(bundle.archive().stream(0, bundle.archive().size))
    assert len(data) == bundle.archive().size
    check_with_tarfile(data, bundle)
    assert len(list(blocks(data))) == sum(1 if len(name) <= 100 else 2 for name in bundle.names)


async def test_korean_names_are_counted() -> None:
    """System 3: of 20 Korean names it announced 4,024,320 bytes, and sent 4,044,800."""
    bundle = Bundle([(Member(f"노래 {at}.ogg", mtime=TIMES[2]), bytes(200_000)) for at in range(20)])
    archive = bundle.archive()
    data = await collected(archive.stream(0, archive.size))
    assert len(data) == archive.size == 4_044_800
    check_with_tarfile(data, bundle)


def test_eight_gigabytes_are_counted() -> None:
    """System 3: a file of 8 GiB and more was not."""
    for length, more in ((8 * GIB - 1, 0), (8 * GIB, 1024), (9 * GIB, 1024)):
        at = tar(planned(Member("a", length)), none).layout.begins[1]
        assert at == 512 + more + length + -length % 512


# ── the same bytes for ever ──


async def test_equal_plans_make_equal_archives() -> None:
    one, other = Bundle(mixed(1000)).archive(), Bundle(mixed(1000)).archive()
    assert (one.size, one.tag) == (other.size, other.tag)
    assert await one.read() == await other.read()
    again = tar(Plan.unpacked(Bundle(mixed(1000)).plan.packed()), Bundle(mixed(1000)).open)
    assert (again.tag, await again.read()) == (one.tag, await one.read())


async def test_another_plan_is_another_archive() -> None:
    items = mixed(1000)
    assert Bundle(items).archive().tag != Bundle(items[1:]).archive().tag
    assert Bundle(items).archive().tag != Bundle(items, "zip").archive().tag


# ── headers ──


async def test_headers_are_plain_where_they_can_be() -> None:
    plain = Bundle([(Member("n" * 100, mtime=0o77777777777), b"x"), (Member("f", folder=True), b"")])
    (file, data), (folder, _) = blocks(await plain.archive().read())
    assert (file[:100], file[156:157], data) == (b"n" * 100, b"0", b"x")
    assert (folder[:3], folder[156:157], folder[124:136]) == (b"f/\0", b"5", b"00000000000\0")
    assert file[100:108] == b"0000644\0" and folder[100:108] == b"0000755\0"
    assert file[136:148] == b"77777777777\0"


async def test_what_does_not_fit_stands_in_a_pax_header_before() -> None:
    rows = [("n" * 101, 0), ("노래", 0), ("a", 0o100000000000), ("노래/" + "n" * 300, 1 << 39)]
    for name, mtime in rows:
        (pax, records), (header, data) = blocks(await Bundle([(Member(name, mtime=mtime), b"x")]).archive().read())
        assert (pax[:17].rstrip(b"\0"), pax[156:157], header[156:157], data) == (b"././@PaxHeader", b"x", b"0", b"x")
        assert header[:100].isascii()
        wanted = [b"path=" + name.encode()] * (name != "a") + [b"mtime=%d" % mtime] * (mtime > 0)
        assert [record.partition(b" ")[2] for record in records.splitlines()] == wanted
        assert all(int(record.partition(b" ")[0]) == len(record) for record in records.splitlines(keepends=True))


@pytest.mark.parametrize("length", [*range(101, 110), *range(980, 1000), *range(9_980, 10_000)])
async def test_the_length_of_a_record_counts_itself(length: int) -> None:
    bundle = Bundle([(Member("n" * length), b"")])
    check_with_tarfile(await bundle.archive().read(), bundle)


@given(st.text("ab./:노", min_size=101, max_size=130))
@example("x../" + "b" * 97)
@example("dir/x/" + "b" * 99)
@example("xC:/" + "b" * 97)
@settings(max_examples=200, deadline=None)
def test_the_names_for_readers_without_pax_are_safe_too(name: str) -> None:
    header = tar(planned(name), none).layout.head(0)[-512:]
    short = header[:100].rstrip(b"\0").decode("ascii")
    assert short and not short.startswith("/") and ".." not in short.split("/") and not re.match("[A-Za-z]:", short)


# ── readers ──


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, whole: bytes) -> Path:
    path = tmp_path_factory.mktemp("tar") / "mixed.tar"
    path.write_bytes(whole)
    return path


@pytest.mark.parametrize("reader", UNTAR)
def test_every_reader_unpacks_it(reader: str, packed: Path, tmp_path: Path) -> None:
    bundle = Bundle(mixed())
    found = UNTAR[reader](packed, tmp_path / "out")
    assert {name: data for name, (data, _) in found.items() if data is not None} == bundle.files()
    assert bundle.folders() <= {name for name, (data, _) in found.items() if data is None}
    most = (1 << 33) - 1 if "busybox" in reader else 1 << 40  # it reads no times from pax
    times = {name: time for name, (data, time) in found.items() if data is not None}
    assert times == {name: min(time, most) for name, time in bundle.times().items()}


def test_7zz_tests_it(packed: Path) -> None:
    assert "Everything is Ok" in run("7zz", "t", packed)


def test_gnu_tar_compares_it(packed: Path, tmp_path: Path) -> None:
    run("tar", "--warning=no-timestamp", "-xpf", packed, folder=tmp_path)
    assert run("tar", "-df", packed, folder=tmp_path) == ""


# ── borders ──

BORDERS = {
    "below 8 GiB": [1, 8 * GIB - 1, 1],
    "8 GiB": [1, 8 * GIB, 1],
    "above 8 GiB": [8 * GIB + 1, 8 * GIB - 512, 1],
    "1 TiB": [1024 * GIB, 1],
    "4 GiB": [4 * GIB - 1, 4 * GIB - 2, 4 * GIB, 5 * GIB, 1],
}


@pytest.fixture(scope="module", params=BORDERS)
def huge(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    sizes = BORDERS[request.param]
    path = tmp_path_factory.mktemp("huge") / "zeros.tar"
    asyncio.run(written(of_zeros(sizes, "tar"), path))
    return path, {f"zeros {at}": size for at, size in enumerate(sizes)}


@pytest.mark.parametrize("reader", LIST_TAR)
def test_every_reader_lists_what_is_huge(reader: str, huge: tuple[Path, dict[str, int]]) -> None:
    path, sizes = huge
    assert LIST_TAR[reader](path) == sizes


def test_sizes_from_8_gib_on_stand_in_pax_and_in_base_256() -> None:
    for length in (8 * GIB - 1, 8 * GIB):
        head = tar(planned(Member("a", length)), none).layout.head(0)
        if length < 8 * GIB:
            assert (len(head), head[124:136]) == (512, b"77777777777\0")
        else:
            assert b" size=%d\n" % length in head[512:1024]
            assert head[-512:][124:136] == b"\x80" + length.to_bytes(11)


async def test_ranges_far_behind_are_right() -> None:
    archive = of_zeros([8 * GIB, 5 * GIB, 3], "tar")
    begins = archive.layout.begins
    assert await archive.read(begins[1], begins[1] + 512) == archive.layout.head(1)
    assert await archive.read(begins[2] - 600, begins[2] + 515) == bytes(600) + archive.layout.head(2) + bytes(3)
    assert await archive.read(archive.size - 20_000) == (
        bytes(20_000 - (archive.size - begins[2])) + archive.layout.head(2) + bytes(archive.size - begins[2] - 512)
    )


@pytest.mark.torture
@pytest.mark.parametrize("sizes", [[8 * GIB - 1, 5], [8 * GIB, 5], [4 * GIB - 1, 4 * GIB, 5]])
async def test_what_is_huge_is_read_to_its_end(sizes: list[int], tmp_path: Path) -> None:
    archive = of_zeros(sizes, "tar")
    path, at = await written(archive, tmp_path / "zeros.tar"), 0
    with path.open("rb") as file:
        async for piece in archive.stream(0, archive.size):
            data = taken(piece)
            assert file.read(len(data)) == data
            at += len(data)
    assert at == archive.size
    assert "Everything is Ok" in run("7zz", "t", path)
    with tarfile.open(path) as opened:
        assert [member.size for member in opened] == sizes
    for reader in (("tar", "-xOf"), ("bsdtar", "-xOf"), ("busybox", "tar", "-xOf")):
        run(*reader, path, "zeros 1" if len(sizes) == 2 else "zeros 2")
    assert Zeros(5, None).crc32()
