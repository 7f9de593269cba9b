"""[Blob] -> Blob: numbered parts as one file; what they are decides how they are joined.

Their first bytes say what they are: MPEG-TS goes on from part to part as bytes do, MP3 nearly so, MP4 parts become one
MP4, and what a file was merely split into (`.001`, `.part1`, `.aa`) is put together again. Parts of different kinds and
of any other are refused: bytes in a row that nothing plays are no file.

Names come before: `ep[1-12].mp4` is twelve of them, and numbered names are put in the order in which people count, none
missing.
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product

from playhead.blob import Blob, concat
from playhead.errors import Malformed
from playhead.transforms import mp3
from playhead.transforms.mp4 import film
from playhead.transforms.mp4.film import HEAD, together
from playhead.tree import visible

MOST = 10_000  # parts
_AT_ONCE = 4  # parts that are read at a time
_RANGE = re.compile(r"\[([0-9]{1,9})-([0-9]{1,9})\]")
_DIGITS = re.compile(r"([0-9]{1,18})")
_SPLIT = re.compile(r"\.([0-9]{3}|part[0-9]{1,4})$", re.IGNORECASE)
_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof", b"sidx"}
_TS, _MP3, _MP4, _RAR = "MPEG-TS", "MP3", "MP4", "RAR"
_REMEDY = "get them one by one, and join them with what made them (video: ffmpeg, its filter `concat`)"


# ── names ──


def expanded(pattern: str) -> list[str]:
    """The names that a pattern stands for: each `[n-m]` in it all numbers from n to m, with n's zeros before them.

    A name without such ranges stands for itself. Raises Malformed for ranges that go down, or give too many names.
    """
    texts = _RANGE.split(pattern)[::3]
    ranges = [_numbers(found[1], found[2]) for found in _RANGE.finditer(pattern)]
    count = 1
    for numbers in ranges:
        count *= len(numbers)
        if count > MOST:
            raise Malformed(f"{visible(pattern)!r} stands for more than {MOST:,} names")
    widths = [len(found[1]) if found[1].startswith("0") else 0 for found in _RANGE.finditer(pattern)]
    return [_filled(texts, numbers, widths) for numbers in product(*ranges)]


def _numbers(first: str, last: str) -> range:
    if int(last) < int(first):
        raise Malformed(f"[{first}-{last}] goes down; write [{last}-{first}]")
    return range(int(first), int(last) + 1)


def _filled(texts: Sequence[str], numbers: Sequence[int], widths: Sequence[int]) -> str:
    filled = [f"{number:0{width}}" for number, width in zip(numbers, widths, strict=True)]
    return "".join(text for both in zip(texts, [*filled, ""], strict=True) for text in both)


@dataclass(frozen=True, slots=True)
class _Name:
    """A name as texts with numbers between them (every second piece), and what those numbers are."""

    name: str
    pieces: list[str]
    values: tuple[int, ...]

    def instead(self, column: int, value: int) -> str:
        """The name with another number at a place."""
        piece = self.pieces[2 * column + 1]
        written = f"{value:0{len(piece) if piece[0] == '0' else 0}}" if piece.isdecimal() else _spelled(value)
        return "".join([*self.pieces[: 2 * column + 1], written, *self.pieces[2 * column + 2 :]])


def ordered(names: Sequence[str]) -> list[str]:
    """Names that differ in their numbers only (or in `.aa`, `.ab`), as people count.

    Raises Malformed where one is missing between two others, two have one number, or they are not numbered alike.
    """
    if len(names) < 2:
        return list(names)
    rows = [_lettered(name) for name in names] if lettered(names) else [_numbered(name) for name in names]
    for row in rows[1:]:
        if row.pieces[::2] != rows[0].pieces[::2] or not row.values:
            both = f"{visible(rows[0].name)!r} and {visible(row.name)!r}"
            raise Malformed(f"{both} are not numbered alike; give the parts as a list, in their order")
    columns = _columns(rows)
    rows.sort(key=lambda row: [row.values[column] for column in columns])
    for row, after in pairwise(rows):
        _next(row, after, columns)
    return [row.name for row in rows]


def _numbered(name: str) -> _Name:
    pieces = _DIGITS.split(name)
    return _Name(name, pieces, tuple(map(int, pieces[1::2])))


def _columns(rows: Sequence[_Name]) -> list[int]:
    """Which of their numbers count the parts: one that all have another of, closest together; else all that vary."""
    columns = list(zip(*(row.values for row in rows), strict=True))
    distinct = [number for number, column in enumerate(columns) if len(set(column)) == len(column)]
    if distinct:
        return [min(distinct, key=lambda number: max(columns[number]) - min(columns[number]))]
    return [number for number, column in enumerate(columns) if len(set(column)) > 1]


def _next(row: _Name, after: _Name, columns: Sequence[int]) -> None:
    """Raises Malformed where a name is not the next one after another."""
    both = f"{visible(row.name)!r} and {visible(after.name)!r}"
    changed = next((column for column in columns if row.values[column] != after.values[column]), None)
    if changed is None:
        raise Malformed(f"{both} have the same number; leave one of them out")
    wanted = row.values[changed] + 1
    if after.values[changed] != wanted:
        raise Malformed(f"{visible(row.instead(changed, wanted))!r} is missing between {both}")


def lettered(names: Sequence[str]) -> bool:
    """Do names end as `split` names pieces: in aa, ab and so on, after the same text?"""
    return (
        len(names) > 1
        and len({name[:-2] for name in names}) == 1
        and all(re.fullmatch("[a-z]{2}", name[-2:]) for name in names)
        and any(name.endswith("aa") for name in names)
    )


def _lettered(name: str) -> _Name:
    return _Name(name, [name[:-2], name[-2:], ""], (26 * ord(name[-2]) + ord(name[-1]) - 27 * ord("a"),))


def _spelled(value: int) -> str:
    return chr(ord("a") + value // 26) + chr(ord("a") + value % 26)


# ── parts ──


async def whole(parts: Sequence[tuple[str, Blob]]) -> Blob:
    """Parts with their names, in order, as one file; one part is itself.

    Raises Malformed where they cannot be joined, with what can be done; Damaged where one is not whole.
    """
    if not parts:
        raise Malformed("there are no parts to join")
    names, blobs = [name for name, _ in parts], [blob for _, blob in parts]
    if len(blobs) == 1:
        return blobs[0]
    if len(blobs) > MOST:
        raise Malformed(f"there are more than {MOST:,} parts")
    lock = asyncio.Semaphore(_AT_ONCE)
    looks = await together(_looked(blob, lock) for blob in blobs)
    kinds = {look.kind for look in looks}
    if kinds == {_MP4}:
        return await film.joined(blobs, [visible(name) for name in names], [look.head for look in looks])
    if kinds == {_MP3}:
        return mp3.joined(blobs, [look.sound for look in looks if look.sound])
    if kinds == {_TS} or (kinds != {_RAR} and _split(names)):
        return concat(blobs)
    raise Malformed(_refused(names, looks))


@dataclass(frozen=True, slots=True)
class _Look:
    """How a part begins: its first bytes, what they are (\"\": nothing known), and what MP3 says of itself."""

    head: bytes
    kind: str
    sound: mp3.Part | None = None


async def _looked(blob: Blob, lock: asyncio.Semaphore) -> _Look:
    async with lock:
        head = await blob.read(0, HEAD)
        if head[4:8] in _BOXES:
            return _Look(head, _MP4)
        if head.startswith(b"Rar!\x1a\x07"):
            return _Look(head, _RAR)
        if any(_packets(head, first, size) for first, size in ((0, 188), (4, 192), (0, 204))):
            return _Look(head, _TS)
        found = await mp3.found(blob, head)
        return _Look(head, _MP3, found) if found else _Look(head, "")


def _packets(head: bytes, first: int, size: int) -> bool:
    """Do packets of a size, of MPEG-TS, begin here? Five of them, or as many as there are."""
    begins = head[first : first + 5 * size : size]
    return len(begins) > 1 and set(begins) == {0x47}


def _split(names: Sequence[str]) -> bool:
    """Are they named as the pieces of one file?"""
    return lettered(names) or all(_SPLIT.search(name) for name in names)


def _refused(names: Sequence[str], looks: Sequence[_Look]) -> str:
    named: dict[str, str] = {}  # of each kind, the first
    for name, look in zip(names, looks, strict=True):
        named.setdefault(look.kind, visible(name))
    if set(named) == {_RAR}:
        return f"{named[_RAR]!r} is a volume of an archive; get the parts one by one, and unpack them with unrar"
    said = ", ".join(f"{name!r} is {kind or 'of no kind that can be joined'}" for kind, name in named.items())
    return f"the parts are not all MPEG-TS, MP3 or MP4, nor named as pieces of one file: {said}; {_REMEDY}"
