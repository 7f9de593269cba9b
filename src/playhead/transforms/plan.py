"""Members -> a frozen plan: what an archive holds, in order, decided before its first byte.

Every byte of an archive follows from its plan: names are cleaned and made unique here, once; sizes, times and tags are
as they were when it was made. So two requests a day apart give the same bytes, and every range can be computed. Columns
and not objects: a member costs some hundred bytes, so there may be a million.
"""

import json
import re
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise

from playhead.errors import Malformed

LONGEST = 65_535  # bytes of a name, as zip's field allows
UNKNOWN = -1
FILE, FOLDER = 0, 1
FILED = -1  # where a folder's number would stand: a file
MOST = 1 << 62  # bytes of all members
_VERSION = 1


class Texts:
    """Texts in a row, in one run of bytes."""

    __slots__ = ("data", "ends")

    def __init__(self, data: bytearray | None = None, ends: "array[int] | None" = None) -> None:
        self.data = bytearray() if data is None else data
        self.ends = array("q") if ends is None else ends

    def append(self, text: str) -> None:
        """One more."""
        self.data += text.encode("utf-8", "surrogateescape")
        self.ends.append(len(self.data))

    def raw(self, at: int) -> bytes:
        """The text at a place, as UTF-8."""
        return bytes(self.data[self.ends[at - 1] if at else 0 : self.ends[at]])

    def __getitem__(self, at: int) -> str:
        return self.raw(at).decode("utf-8", "surrogateescape")

    def __len__(self) -> int:
        return len(self.ends)


@dataclass(frozen=True, slots=True)
class Member:
    """One member. `mtime` in whole seconds; `place` is where its bytes come from, as its maker understands."""

    name: str
    size: int = 0
    folder: bool = False
    mtime: int = 0
    mode: int = 0
    tag: str = ""
    crc: int | None = None
    place: str = ""


@dataclass(slots=True)
class Plan:
    """The columns of the members. Frozen once `Planning.done` gave it."""

    names: Texts = field(default_factory=Texts)
    places: Texts = field(default_factory=Texts)
    tags: Texts = field(default_factory=Texts)
    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    mtimes: "array[int]" = field(default_factory=lambda: array("q"))
    modes: "array[int]" = field(default_factory=lambda: array("H"))
    kinds: bytearray = field(default_factory=bytearray)
    crcs: "array[int]" = field(default_factory=lambda: array("q"))  # UNKNOWN: nobody supplied it
    salt: str = ""  # what tells apart plans that may be of other bytes though they say the same

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, at: int) -> Member:
        crc = self.crcs[at]
        return Member(
            self.names[at],
            self.sizes[at],
            self.kinds[at] == FOLDER,
            self.mtimes[at],
            self.modes[at],
            self.tags[at],
            None if crc == UNKNOWN else crc,
            self.places[at],
        )

    def __iter__(self) -> Iterator[Member]:
        return (self[at] for at in range(len(self)))

    def tag(self, layout: str) -> str:
        """The identity of an archive of this plan, in a layout: equal tags, equal bytes."""
        digest = blake2b(digest_size=16)
        digest.update(f"{_VERSION} {layout} {len(self)} {self.salt}".encode())
        for column in self._columns():
            digest.update(len(column).to_bytes(8, "little"))
            digest.update(column)
        return f"pack:{digest.hexdigest()}"

    def _columns(self) -> list[bytes]:
        texts = (self.names, self.places, self.tags)
        numbers = (self.sizes, self.mtimes, self.modes, self.crcs)
        runs = [bytes(text.data) for text in texts] + [bytes(self.kinds)]
        return runs + [text.ends.tobytes() for text in texts] + [column.tobytes() for column in numbers]

    # ── kept on disk ──

    def packed(self) -> bytes:
        """The plan as bytes."""
        columns = self._columns()
        head = json.dumps(
            {"version": _VERSION, "salt": self.salt, "lengths": [len(column) for column in columns]}
        ).encode()
        return zlib.compress(len(head).to_bytes(4, "little") + head + b"".join(columns), 1)

    def doubtful(self) -> bool:
        """Is there a member of which neither a tag nor a time tells which version it is?"""
        ends, kinds, times = self.tags.ends, self.kinds, self.mtimes
        before = 0
        for at, end in enumerate(ends):
            if end == before and not times[at] and kinds[at] == FILE and self.sizes[at]:
                return True
            before = end
        return False

    @classmethod
    def unpacked(cls, data: bytes) -> "Plan":
        """The plan that `packed` gave. Raises ValueError where these bytes are not one."""
        try:
            raw = memoryview(zlib.decompress(data))
            begin = 4 + int.from_bytes(raw[:4], "little")
            head = json.loads(bytes(raw[4:begin]))
            if head["version"] != _VERSION or not isinstance(head["salt"], str):
                raise ValueError("another version")
            columns = []
            for length in head["lengths"]:
                columns.append(bytes(raw[begin : begin + length]))
                begin += length
            ends, numbers = [_numbers("q", column) for column in columns[4:7]], columns[7:]
            names, places, tags = [Texts(bytearray(run), end) for run, end in zip(columns[:3], ends, strict=True)]
            sizes, mtimes, modes, crcs = map(_numbers, "qqHq", numbers)
            whole = {len(column) for column in (*ends, sizes, mtimes, modes, crcs, columns[3])} == {len(sizes)}
            if not whole or begin != len(raw) or any(map(_disordered, columns[:3], ends)) or min(sizes, default=0) < 0:
                raise ValueError("columns that do not fit")
            return cls(names, places, tags, sizes, mtimes, modes, bytearray(columns[3]), crcs, salt=head["salt"])
        except (zlib.error, KeyError, IndexError, TypeError) as error:
            raise ValueError("not a plan") from error


def _disordered(run: bytes, ends: "array[int]") -> bool:
    """Are these not the ends of the texts in a run?"""
    return (
        (ends[-1] if ends else 0) != len(run) or any(b < a for a, b in pairwise(ends)) or (ends and ends[0] < 0) is True
    )


def _numbers(kind: str, data: bytes) -> "array[int]":
    made = array(kind)
    made.frombytes(data)
    return made


# ── making one ──


class Planning:
    """Collects members; `done` freezes them.

    Folders are numbered, and each knows what is in it by name: so that long names, deep folders and many equal names
    cost no more than their letters.
    """

    def __init__(self) -> None:
        self.plan = Plan()
        self.bytes = 0
        self.inside: list[dict[str, int]] = [{}]  # of each folder: a name in it -> its number, or FILED
        self.above: list[tuple[int, str]] = [(0, "")]  # of each folder: the one that it is in, and its name there
        self.renamed: dict[tuple[int, str], int] = {}  # folders that could not have the name that was wanted
        self.counts: dict[tuple[int, str], int] = {}  # how far the numbers of a name have come
        self.written: set[int] = set()  # folders that are members

    def add(self, member: Member) -> None:
        """One more. Raises Malformed for a name, a time or a size that no archive can hold; then nothing was added."""
        name = clean(member.name)
        if type(member.size) is not int or type(member.mtime) is not int:
            raise Malformed(f"{name!r}: its size and time must be whole numbers")
        if not 0 <= member.size < MOST or self.bytes + member.size >= MOST:
            raise Malformed(f"{name!r}: {member.size} is not a size that an archive can hold")
        if _HALVES.search(member.place) or _HALVES.search(member.tag):
            raise Malformed(f"{name!r}: where it is, or its tag, is not a text")
        _checked(name)
        *folders, last = name.split("/")
        node = self._folder(folders)
        if not member.folder:
            given = self._other(node, last) if last in self.inside[node] else last
            name = _checked(self._path(node) + given)
            self.inside[node][given] = FILED
            self._append(member, name, member.size)
        elif (node := self._folder([last], node)) not in self.written:
            name = _checked(self._path(node))
            self.written.add(node)
            self._append(member, name, 0)

    def _append(self, member: Member, name: str, size: int) -> None:
        plan = self.plan
        plan.names.append(name)
        plan.places.append(member.place)
        plan.tags.append(member.tag)
        plan.sizes.append(size)
        plan.mtimes.append(max(0, min(member.mtime, (1 << 40) - 1)))
        plan.modes.append((member.mode or (0o755 if member.folder else 0o644)) & 0o777)
        plan.kinds.append(FOLDER if member.folder else FILE)
        plan.crcs.append(UNKNOWN if member.crc is None else member.crc)
        self.bytes += size

    def done(self) -> Plan:
        """The plan. Nothing may be added any more."""
        self.inside, self.above = [], []
        for known in (self.renamed, self.counts, self.written):
            known.clear()
        return self.plan

    def _folder(self, parts: list[str], node: int = 0) -> int:
        """The folder of some names below another; under another name where a file has that one."""
        for part in parts:
            there = self.inside[node].get(part)
            if there is not None and there != FILED:
                node = there
            elif (node, part) in self.renamed:
                node = self.renamed[node, part]
            else:
                given = part if there is None else self._other(node, part, folder=True)
                child = len(self.inside)
                self.inside.append({})
                self.above.append((node, given))
                self.inside[node][given] = child
                if given != part:
                    self.renamed[node, part] = child
                node = child
        return node

    def _path(self, node: int) -> str:
        names = []
        while node:
            node, name = self.above[node]
            names.append(f"{name}/")
        return "".join(reversed(names))

    def _other(self, node: int, last: str, *, folder: bool = False) -> str:
        """A name like one that is taken: "song (2).ogg"."""
        stem, dot, extension = last.rpartition(".")
        if not stem or folder:
            stem, dot, extension = last, "", ""
        number = self.counts.get((node, last), 2)
        while (made := f"{stem} ({number}){dot}{extension}") in self.inside[node]:
            number += 1
        self.counts[node, last] = number + 1
        return made


def _checked(name: str) -> str:
    if (length := len(name.encode().rstrip(b"/"))) >= LONGEST:
        raise Malformed(f"a name of {length:,} bytes is too long for an archive: {name[:60]!r}...")
    return name


_UNSAFE = re.compile(r"[\0-\x1f\x7f-\x9f]")
_HALVES = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # of pairs; the others stand for bytes


def clean(name: str) -> str:
    """A name as every reader takes it: UTF-8, relative, without "..", backslashes, controls or a drive.

    What is not UTF-8 becomes U+FFFD; what is left with nothing is called "unnamed".
    """
    text = _HALVES.sub("\ufffd", name).encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\\", "/")
    parts = [_UNSAFE.sub("_", part) for part in text.split("/") if part not in ("", ".", "..")]
    if parts and re.fullmatch(r"[A-Za-z]:.*", parts[0]):
        parts[0] = parts[0].replace(":", "_", 1)
    return "/".join(parts) or "unnamed"
