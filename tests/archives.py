"""What archives are made of in tests: plans with their bytes, members without end, and files that are mostly holes."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

from playhead import Ask, Blob, Failure, Piece, Unavailable, literal
from playhead.blob import Pieces
from playhead.transforms.ahead import Gather
from playhead.transforms.contents import Opener
from playhead.transforms.crc import combined
from playhead.transforms.learned import Learned
from playhead.transforms.packed import Archive
from playhead.transforms.plan import FOLDER, Member, Plan, Planning
from playhead.transforms.tar import tar
from playhead.transforms.zip import zip
from tests.laws import taken

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
ZEROS = bytes(MIB)
LAYOUTS = ("tar", "zip crc", "zip", "zip mixed")  # how many CRCs are supplied: all, none, every other

# 1970 and just after, the last second of 31 bits and the first beyond, the last of DOS's years, of eleven octal
# digits, and beyond both.
TIMES = (0, 1, 1_700_000_001, 2**31 - 1, 2**31 + 5, 4_354_819_198, 8_589_934_591, 8_650_000_001)

Item = tuple[Member, bytes]


class Bundle:
    """A plan, the bytes of its members by their number, and which of them were opened."""

    def __init__(self, items: Iterable[Item], layout: str = "tar") -> None:
        planning, whole = Planning(), list[bytes]()
        for at, (member, data) in enumerate(items):
            supplied = crc32(data) if layout == "zip crc" or (layout == "zip mixed" and at % 2) else None
            supplied = None if member.folder else supplied
            planning.add(replace(member, size=len(data), crc=supplied, place=str(at)))
            whole.append(data)
        self.layout, self.plan, self.opened = layout, planning.done(), list[int]()
        self.data = [whole[int(member.place)] for member in self.plan]
        self.names = [member.name.rstrip("/") for member in self.plan]

    async def open(self, number: int, ask: Ask) -> Blob:
        self.opened.append(number)
        return literal(self.data[number])

    def archive(
        self, opener: Opener | None = None, learned: Learned | None = None, gather: Gather | None = None
    ) -> Archive:
        return archived(self.layout, self.plan, opener or self.open, learned, gather)

    def files(self) -> dict[str, bytes]:
        kinds = self.plan.kinds
        return {name: self.data[at] for at, name in enumerate(self.names) if kinds[at] != FOLDER}

    def times(self) -> dict[str, int]:
        return {name: self.plan.mtimes[at] for at, name in enumerate(self.names) if self.plan.kinds[at] != FOLDER}

    def folders(self) -> set[str]:
        return set(self.names) - set(self.files())


def archived(
    layout: str, plan: Plan, opener: Opener, learned: Learned | None = None, gather: Gather | None = None
) -> Archive:
    return (tar if layout == "tar" else zip)(plan, opener, gather, learned)


def planned(*members: Member | str) -> Plan:
    planning = Planning()
    for member in members:
        planning.add(Member(member) if isinstance(member, str) else member)
    return planning.done()


# ── members of all kinds ──


def mixed(large: int = 3 * MIB) -> list[Item]:
    """Each size at which something changes, folders, and names that are long, Korean or both."""
    chance = random.Random(7)
    sizes = {"a": 0, "b.txt": 1, "511": 511, "512": 512, "513": 513, "read ahead": 256 * KIB, "not": 256 * KIB + 1}
    items = [(Member(f"sizes/{name}", mtime=TIMES[2]), chance.randbytes(size)) for name, size in sizes.items()]
    items += [(Member(f"times/{time}", mtime=time), chance.randbytes(30)) for time in TIMES]
    items += [(Member("folder/empty", folder=True, mtime=TIMES[2]), b""), (Member("folder", folder=True), b"")]
    items += [(Member(name, mtime=TIMES[2], mode=0o600), chance.randbytes(700)) for name in LONG]
    return [*items, (Member("large.flac"), chance.randbytes(large)), (Member("last"), b"the last")]


LONG = (
    "n" * 100,
    "n" * 101,
    f"{'f' * 99}/n",
    f"{'f' * 100}/{'g' * 100}/{'h' * 100}/{'n' * 200}",
    "노래/별 헤는 밤.ogg",
    f"{'노' * 80}/{'래' * 80}.mp3",
    "é",
)
_NAMES = (
    *LONG,
    *(
        "song.ogg",
        "song.ogg",
        "song",
        "a",
        "a/b",
        "a/b/c",
        "노래",
        "노래/노래",
        ".hidden",
        "../../up",
        "/root",
        "x/../y",
    ),
    *("C:\\Windows\\x", "nul\0name", "bad\udcff", "", "..", "x/./y//z", "new\nline", f"{'../' * 90}x"),
)


def random_items(chance: random.Random) -> list[Item]:
    """A plan as nobody would write it."""
    return [_random_item(chance) for _ in range(chance.randint(0, 12))]


def _random_item(chance: random.Random) -> Item:
    name = chance.choice([chance.choice(_NAMES), "n" * chance.randint(95, 105), "노" * chance.randint(30, 36)])
    data = chance.randbytes(chance.choice([0, 0, 1, 511, 512, 513, 1000, chance.randint(0, 20_000)]))
    folder = chance.random() < 0.15
    member = Member(name, folder=folder, mtime=chance.choice(TIMES), mode=chance.choice([0, 0o644, 0o755]))
    return member, b"" if folder else data


# ── members that are watched, and that fail ──


class Watched:
    """The members of a bundle: what is opened and read of them is written down, and they fail as they are told.

    `broken`: number -> the byte at which its stream fails, -1: it cannot be opened. `tag`: that of each. `known`: do
    they know their CRCs? `gate`: nothing is read before it is set.
    """

    def __init__(self, bundle: "Bundle", step: int = 5000, tag: str | None = "v1", *, known: bool = False) -> None:
        self.bundle, self.step, self.tag, self.known = bundle, step, tag, known
        self.opened: list[int] = []
        self.asks: list[Ask] = []
        self.reads: list[tuple[int, int, int]] = []
        self.open_now = self.most = 0
        self.broken: dict[int, int] = {}
        self.instead: dict[int, Blob] = {}
        self.gate = asyncio.Event()
        self.gate.set()

    async def open(self, number: int, ask: Ask) -> Blob:
        self.opened.append(number)
        self.asks.append(ask)
        await asyncio.sleep(0)
        if self.broken.get(number) == -1:
            raise Unavailable("away")
        if number in self.instead:
            return self.instead[number]
        data = self.bundle.data[number]
        return (_Knowing if self.known else _Member)(len(data), self.tag, data, number, self)


@dataclass(frozen=True, slots=True, eq=False)
class _Member(Blob):
    data: bytes
    number: int
    all: Watched

    async def stream(self, start: int, stop: int) -> Pieces:
        of, broken = self.all, self.all.broken.get(self.number, stop)
        of.reads.append((self.number, start, stop))
        of.open_now += 1
        of.most = max(of.most, of.open_now)
        try:
            await of.gate.wait()
            for at in range(start, stop, of.step):
                await asyncio.sleep(0)
                end = min(stop, at + of.step)
                if at <= broken < end:
                    if at < broken:
                        yield self.data[at:broken]
                    raise Unavailable("broken")
                yield self.data[at:end]
        finally:
            of.open_now -= 1


class _Knowing(_Member):
    __slots__ = ()

    def crc32(self) -> int | None:
        return crc32(self.data)


async def got(stream: AsyncIterator[Piece]) -> tuple[bytes, Failure | None]:
    """What a stream gave, and how it failed, if it did; no task may be left behind."""
    data, before = bytearray(), asyncio.all_tasks()
    try:
        async with asyncio.timeout(30), aclosing(stream) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                data += taken(piece)
    except Failure as failure:
        return bytes(data), failure
    finally:
        assert not asyncio.all_tasks() - before
    return bytes(data), None


# ── more bytes than there is room for ──


@dataclass(frozen=True, slots=True, eq=False)
class Zeros(Blob):
    """As many zeros as its size says; it knows its CRC."""

    def crc32(self) -> int | None:
        return crc_of_zeros(self.size)

    async def stream(self, start: int, stop: int) -> Pieces:
        for at in range(start, stop, MIB):
            yield ZEROS[: stop - at]


def crc_of_zeros(count: int) -> int:
    blocks, last = divmod(count, MIB)
    return combined([crc32(ZEROS)] * blocks + [crc32(ZEROS[:last])], MIB, last)


def of_zeros(sizes: Iterable[int], layout: str, name: str = "zeros {}") -> Archive:
    """An archive of members of zeros."""
    planning = Planning()
    for at, size in enumerate(sizes):
        supplied = crc_of_zeros(size) if layout == "zip crc" else None
        planning.add(Member(name.format(at), size, mtime=TIMES[2], crc=supplied))
    plan = planning.done()

    async def opener(number: int, ask: Ask) -> Blob:
        return Zeros(plan.sizes[number], None)

    return archived(layout, plan, opener)


async def written(archive: Archive, path: Path) -> Path:
    """An archive of zeros as a file: what stands between the members is written, they are holes."""
    layout, sizes = archive.layout, archive.plan.sizes
    with path.open("wb") as file:
        for number, size in enumerate(sizes):
            begin, end = layout.begins[number], layout.begins[number + 1]
            data = begin + len(layout.head(number))
            for start, stop in ((begin, data), (data + size, end)):
                file.seek(start)
                file.write(await archive.read(start, stop))
        file.seek(layout.begins[-1])
        file.write(await archive.read(layout.begins[-1]))
        assert file.tell() == archive.size
    return path
