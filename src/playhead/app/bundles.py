"""Members -> archives that stay what they are for a day: /bundles/{id}/{name}.

An id is the digest of the plan, so equal lists give equal addresses; but where a member is known to be another than
it was, the address is new. The plan, and what was learned since, lie in memory for those used lately and in a folder
for all: a restart, sixteen connections, or a file added to the folder meanwhile change nothing.
"""

import asyncio
import json
import logging
import os
import re
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit
from weakref import WeakValueDictionary

from playhead.blob import Blob, Pieces
from playhead.errors import Busy, Malformed, NotFound
from playhead.transforms.collect import Collecting, gathered
from playhead.transforms.contents import WIRE
from playhead.transforms.learned import Learned
from playhead.transforms.packed import Archive
from playhead.transforms.plan import Member, Plan, Planning, clean
from playhead.transforms.tar import tar
from playhead.transforms.zip import zip
from playhead.tree import Ask, Tree

DAY = 24 * 3600.0  # seconds that a bundle stays after it was last used
LATELY = 64  # bundles in memory
TOUCHED = 60.0  # seconds for which a use is not noted again
KINDS = {"tar": "application/x-tar", "zip": "application/zip"}

log = logging.getLogger("playhead.bundles")

Reach = Callable[[str], tuple[Tree, str]]
"""A member's place -> a tree and a path in it. Raises a Failure where it may not be read."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be asked for: members and bytes of a bundle, and bundles that are being sent at a time."""

    members: int = 100_000
    bytes: int = 10**12
    at_once: int = 16


@dataclass(slots=True, weakref_slot=True)
class Bundle:
    """An archive that has an address."""

    id: str
    kind: str
    archive: Archive
    keys: set[tuple[str, ...]] = field(default_factory=set)  # how it was asked for
    touched: float = 0.0


class Bundles:
    """`folder`: where they outlive this process; None: nowhere."""

    def __init__(self, reach: Reach, folder: Path | None = None, limits: Limits = Limits()) -> None:
        self.reach, self.folder, self.limits = reach, folder, limits
        self.lately: OrderedDict[str, Bundle] = OrderedDict()
        self.alive: WeakValueDictionary[str, Bundle] = WeakValueDictionary()  # so that one id is one object
        self.asked: dict[tuple[str, ...], asyncio.Task[Bundle]] = {}  # folders that are being planned, or were lately
        self.sending: Counter[str] = Counter()
        self.finding: dict[str, asyncio.Task[Bundle | None]] = {}
        self.swept = 0.0

    # ── making ──

    def collecting(self) -> Collecting:
        """To put members into."""
        return Collecting(self.limits.members, self.limits.bytes)

    async def once(self, key: tuple[str, ...], make: Callable[[], Awaitable[Bundle]], *, fresh: bool) -> Bundle:
        """The bundle that is asked for in some words: planned once for all who ask at a time.

        `fresh` False: as it was planned last, however long ago, for the asker goes on with it.
        """
        task = self.asked.get(key)
        if task is None or (task.done() and (fresh or task.cancelled() or task.exception() is not None)):
            task = self.asked[key] = asyncio.ensure_future(make())
            while len(self.asked) > LATELY:
                del self.asked[next(iter(self.asked))]
        bundle = await asyncio.shield(task)
        bundle.keys.add(key)
        return bundle

    def salted(self, key: tuple[str, ...]) -> bool:
        """Would the bundle that was last asked for so be another one if it were planned again?"""
        task = self.asked.get(key)
        done = task is not None and task.done() and not task.cancelled() and task.exception() is None
        return done and task is not None and bool(task.result().archive.plan.salt)

    async def made(self, planning: Planning, kind: str, *, ready: bool = False) -> Bundle:
        """The bundle of a plan, kept from now on; `ready`: with all CRCs known first, which may take long."""
        if not len(planning.plan):
            raise NotFound("there is nothing to bundle")
        plan = planning.done()
        if await asyncio.to_thread(plan.doubtful):
            plan.salt = token_hex(8)
        pins: dict[int, str] = {}
        if ready and kind == "zip":
            first = await asyncio.to_thread(self._bundle, plan, kind)
            first.archive.learned.path = None
            plan.crcs[:] = type(plan.crcs)("q", await first.archive.contents.all_crcs())
            pins = first.archive.learned.pins
        bundle = await asyncio.to_thread(self._bundle, plan, kind)
        if (there := await self._known(bundle.id)) is not None:
            if not there.archive.learned.changed:
                return there
            plan.salt = token_hex(8)  # equal sizes and times, and yet other bytes
            bundle = await asyncio.to_thread(self._bundle, plan, kind)
        await asyncio.to_thread(self._keep, bundle)
        for number, tag in pins.items():
            bundle.archive.learned.pin(number, tag)
        await bundle.archive.learned.settled()
        return self._remember(bundle)

    def _bundle(self, plan: Plan, kind: str) -> Bundle:
        async def opener(number: int, ask: Ask) -> Blob:
            tree, path = self.reach(plan.places[number])
            return await tree.open(path, ask)

        def gather(numbers: Sequence[int]) -> Sequence[tuple[bytes, str | None]] | None:
            return gathered([self.reach(plan.places[number]) for number in numbers])

        learned = Learned()
        archive = (zip if kind == "zip" else tar)(plan, opener, gather, learned)
        assert archive.tag is not None
        bundle = Bundle(archive.tag.partition(":")[2], kind, archive)
        if self.folder is not None:
            plain = self._path(bundle.id, kind)
            learned.path, learned.failed = plain.with_suffix(".learned"), lambda error: _forgotten(plain, error)
        return bundle

    def sent(self, bundle: Bundle) -> Blob:
        """A bundle as it is sent: not beside too many others."""
        return _Limited(bundle.archive.size, bundle.archive.tag, bundle, self)

    # ── finding ──

    async def find(self, name: str) -> Bundle:
        """A bundle by its id. Raises NotFound."""
        found = await self._known(name)
        if found is None:
            raise NotFound("there is no such bundle, or it was not used for a day; make it anew")
        return found

    async def _known(self, name: str) -> Bundle | None:
        """A bundle in memory, or from disk: read once for all who ask."""
        found = self.alive.get(name)
        if found is None and self.folder is not None and re.fullmatch(r"[0-9a-f]{32}", name):
            if name not in self.finding:
                self.finding[name] = asyncio.ensure_future(asyncio.to_thread(self._read, name))
                self.finding[name].add_done_callback(lambda _: self.finding.pop(name, None))
            found = await asyncio.shield(self.finding[name])
        if found is None:
            return None
        bundle, now = self._remember(found), time.time()
        if self.folder is not None and now - bundle.touched > TOUCHED:
            bundle.touched = now
            await asyncio.to_thread(_touch, self._path(name, bundle.kind))
        return bundle

    def _remember(self, bundle: Bundle) -> Bundle:
        """The one object of its id, among those used lately."""
        bundle = self.alive.setdefault(bundle.id, bundle)
        self.lately[bundle.id] = bundle
        self.lately.move_to_end(bundle.id)
        while len(self.lately) > LATELY:
            self.lately.popitem(last=False)
        return bundle

    # ── on disk ──

    def _path(self, name: str, kind: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{name}.{kind}"

    def _keep(self, bundle: Bundle) -> None:
        if self.folder is None:
            return
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._sweep()
            _written(self._path(bundle.id, bundle.kind), bundle.archive.plan.packed())
        except OSError as error:
            bundle.archive.learned.path = None
            log.warning("bundles cannot be kept: %s", (error.strerror or str(error)).lower())

    def _read(self, name: str) -> Bundle | None:
        for kind in KINDS:
            path = self._path(name, kind)
            try:
                plan = Plan.unpacked(path.read_bytes())
            except (OSError, ValueError):
                continue
            bundle = self._bundle(plan, kind)
            bundle.archive.learned.restore()
            return bundle if bundle.id == name else None
        return None

    def _sweep(self) -> None:
        """Remove those that nobody used for a day."""
        now = time.time()
        if self.folder is None or now - self.swept < 3600:
            return
        self.swept = now
        used: dict[str, float] = {}
        for path in (paths := list(self.folder.iterdir())):
            with suppress(OSError):
                name = path.name.partition(".")[0]
                used[name] = max(used.get(name, 0.0), path.lstat().st_mtime)
        for path in paths:
            with suppress(OSError):
                name = path.name.partition(".")[0]
                if now - used.get(name, now) > DAY and name not in self.alive:
                    path.unlink()


@dataclass(frozen=True, slots=True, eq=False)
class _Limited(Blob):
    bundle: Bundle
    bundles: Bundles

    async def stream(self, start: int, stop: int) -> Pieces:
        sending, name = self.bundles.sending, self.bundle.id
        if name not in sending and len(sending) >= self.bundles.limits.at_once:
            raise Busy(f"{len(sending)} bundles are being sent already; try again in a moment", after=5.0)
        sending[name] += 1
        stream = self.bundle.archive.stream(start, stop)
        try:
            async for piece in stream:
                yield piece
        finally:
            await stream.aclose()
            sending[name] -= 1
            if not sending[name]:
                del sending[name]


def _written(path: Path, data: bytes) -> None:
    new = path.with_name(f"{path.name}.{token_hex(4)}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    new.replace(path)


def _forgotten(plan: Path, error: OSError) -> None:
    """What is learned of a bundle cannot be kept: then the bundle is not, for it could give other bytes later."""
    log.warning("a bundle is forgotten at the end of this process: %s", (error.strerror or str(error)).lower())
    with suppress(OSError):
        plan.unlink()


def _touch(path: Path) -> None:
    for each in (path, path.with_suffix(".learned")):
        with suppress(OSError):
            os.utime(each)


# ── lists ──


def described(data: bytes, kind: str, place: Callable[[str], str]) -> tuple[list[Member], dict[str, Any]]:
    """The members of a list that was sent, as JSON or in mod_zip's form, and what else it says. Raises Malformed.

    `place` makes a place of what the list calls `source` or `url`; members without a size have -1.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("the list is not UTF-8") from None
    if kind.partition(";")[0].strip().lower() == "application/json":
        return _from_json(text, place)
    return [_from_line(line, place) for line in text.replace("\r\n", "\n").split("\n") if line.strip(" \t")], {}


def _from_json(text: str, place: Callable[[str], str]) -> tuple[list[Member], dict[str, Any]]:
    try:
        asked = json.loads(text, parse_constant=_no_number)
        json.dumps(asked, ensure_ascii=False).encode("utf-8", "surrogateescape")  # bytes, but no halves
    except (ValueError, RecursionError):
        raise Malformed("the list is not JSON") from None
    if not isinstance(asked, dict) or not isinstance(asked.get("members"), list):
        raise Malformed('a bundle is asked for as {"kind": "zip", "name": "...", "members": [...]}')
    return [_from_item(item, number, place) for number, item in enumerate(asked["members"])], asked


def _from_item(item: Any, number: int, place: Callable[[str], str]) -> Member:
    source = item.get("source", item.get("url")) if isinstance(item, dict) else None
    if not isinstance(source, str):
        raise Malformed(f"member {number}: a source or a url is wanted")
    where = place(source)
    name, size, mtime = item.get("name", _last(where)), item.get("size", -1), item.get("mtime", 0)
    if not isinstance(name, str) or type(size) is not int or not isinstance(mtime, int | float) or size < -1:
        raise Malformed(f"member {number}: its name, size or mtime is not one")
    tag = item.get("etag") or ""
    if tag and ("://" in source or not isinstance(tag, str)):
        raise Malformed(f"member {number}: an etag is one that /files gave; for a URL it cannot be checked")
    tag = WIRE + tag.strip('"') if tag else ""
    when = int(min(max(mtime, 0), 1 << 40))
    return Member(name, size, mtime=when, tag=tag, crc=_crc(item.get("crc32"), number), place=where)


def _crc(value: Any, number: int) -> int | None:
    if value is None or value == "-":
        return None
    if isinstance(value, str) and re.fullmatch(r"[0-9a-fA-F]{1,8}", value):
        return int(value, 16)
    if type(value) is int and 0 <= value < 1 << 32:
        return value
    raise Malformed(f"member {number}: its crc32 is not one (8 hexadecimal digits, or a number)")


def _from_line(line: str, place: Callable[[str], str]) -> Member:
    """mod_zip's line: CRC-32 or "-", size, location, name."""
    parts = re.split(r"[ \t]+", line.strip(" \t"), maxsplit=3)
    if len(parts) < 3 or not parts[1].isascii() or not parts[1].isdigit():
        raise Malformed(f"{line[:80]!r} is not a line of a list: CRC-32 SIZE LOCATION NAME")
    crc, size, location = parts[:3]
    where = place(location)
    return Member(parts[3] if len(parts) > 3 else _last(where), int(size[:30]), crc=_crc(crc, 0), place=where)


def _last(place: str) -> str:
    """The name of what is at a place."""
    if "://" in place:
        return unquote_to_bytes(urlsplit(place).path.rpartition("/")[2]).decode("utf-8", "replace")
    return place.partition(":")[2].rpartition("/")[2]


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def file_name(name: Any, kind: str) -> str:
    """The name of the archive itself."""
    plain = clean(name).replace("/", "_") if isinstance(name, str) and name else "bundle"
    return plain if plain.endswith(f".{kind}") else f"{plain}.{kind}"
