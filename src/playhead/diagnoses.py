"""A tree of the configuration -> findings: does it answer, does it give what playing needs, and what to do if not.

Every tree is listed. Of one behind a network a few bytes of one file are read twice; where files are encrypted, one is
opened, and the names are counted. Before that each kind is asked what only it can tell. Nothing is written to any of
them, and all of it has `DEADLINE` seconds; what was found until then is told.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from playhead.assemble import Trees, readable
from playhead.config import Config, TreeConfig
from playhead.errors import Damaged, Denied, Failure, Malformed, Unsized
from playhead.progress import amount
from playhead.tree import Ask, Entry, Tree, join, visible
from playhead.works import Works

if TYPE_CHECKING:
    from playhead.origins.remote import Remote
    from playhead.transforms.crypt import CryptTree

DEADLINE = 20.0  # seconds for one tree
LEAVING = 3.0  # seconds to take leave of it
FOLDERS, NAMES = 12, 2000  # that are looked through for a file; names of one folder
LARGE = 64 << 10  # bytes of a file that is worth asking for a part of
FULL = 0.95  # of a Drive
LATE = 300.0  # seconds that our clock may be wrong: services refuse what is off by 15 minutes
YOUNG = timedelta(minutes=2)
WRITES = {"PUT", "MKCOL", "MOVE", "COPY", "DELETE", "PROPPATCH"}  # of a folder's Allow; many name no PUT there


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found: "ok", "note" or "wrong", and a line for people; of which tree, if of one."""

    mark: str
    text: str
    tree: str | None = None


async def examined(name: str, config: Config) -> list[Finding]:
    """What there is to say of a tree."""
    look = _Look(name, config, config.tree[name], Trees(config))
    try:
        async with asyncio.timeout(DEADLINE):
            await look.all()
    except Failure as failure:
        look.wrong(failure.told)
    except TimeoutError:
        look.wrong(f"no answer within {DEADLINE:.0f} s; is it reachable from this machine?")
    finally:
        with suppress(Failure, TimeoutError):
            async with asyncio.timeout(LEAVING):
                await look.leave()
    return look.found


@dataclass(slots=True)
class _Look:
    name: str
    config: Config
    table: TreeConfig
    trees: Trees
    found: list[Finding] = field(default_factory=list)
    tree: Tree | None = None

    def ok(self, text: str) -> None:
        self.found.append(Finding("ok", text, self.name))

    def note(self, text: str) -> None:
        self.found.append(Finding("note", text, self.name))

    def wrong(self, text: str) -> None:
        self.found.append(Finding("wrong", text, self.name))

    async def all(self) -> None:
        self.tree = self.trees.named(self.name, keep=False)
        origin = self.trees.origins[self.name][0] if self.name in self.trees.origins else None
        if before := _BEFORE.get(self.table.use):
            await before(self, origin)
        await readable(self.tree)
        self.ok("reachable and readable")
        if origin is not None:
            await self._part(origin)
            self._day(origin)
        elif self.table.use in ("rclone-crypt", "age", "aes-cbc"):
            await self._sealed()
        elif self.table.use == "local":
            self._writable()

    async def leave(self) -> None:
        if self.tree is not None:
            await self.tree.aclose()

    def _writable(self) -> None:
        root = self.config.folder / os.path.expanduser(self.table.root or "")
        if self.table.write and not os.access(root, os.W_OK | os.X_OK):
            self.wrong(f"it says `write = true`, but this user may not write to {root}")

    # ── a part of a file ──

    async def _part(self, origin: "Remote") -> None:
        """Are ranges honoured, how soon does the first byte come, and can what comes be kept?"""
        sample = await _sample(origin, least=LARGE)
        if sample is None:
            return self.note("no file was found in its first folders, so none was read")
        path, size = sample[0], sample[1].size
        if size is None:
            size = (await origin.find(path)).size
        middle = (size or 0) // 2
        began = time.perf_counter()
        try:
            blob = await origin.open(path, Ask(middle, middle + 2))
        except Unsized:
            return self.note(
                f"{visible(path)} has no size that is known: it is read from its start, and cannot be kept"
            )
        if blob.size < 2:
            return self.note("no file with more than a byte was found in its first folders, so none was read")
        if not getattr(blob, "ranged", True):
            self.note(
                f"{visible(path)}: the server sends the whole file where a part is asked for, so seeking is slow, and "
                "nothing can be resumed"
            )
        else:
            first = await blob.read(middle, min(middle + 2, blob.size))
            took = max(1.0, (time.perf_counter() - began) * 1000)
            begin = max(0, middle - 2)
            if (await blob.read(begin, min(middle + 4, blob.size)))[middle - begin :][:2] != first:
                return self.wrong(f"{visible(path)}: two requests for the same bytes were answered with different ones")
            self.ok(f"parts of files are given as asked for; the first byte came after {took:.0f} ms")
        if blob.tag is None:
            self._untold(path, blob.modified)

    def _untold(self, path: str, modified: datetime | None) -> None:
        if modified is not None and datetime.now(UTC) - modified < YOUNG:
            return self.note(f"{visible(path)} was changed just now, and is not kept until its date can be trusted")
        self.note(
            f"nothing tells the versions of {visible(path)} apart (no ETag, no date), so it cannot be kept, nor resumed"
        )

    def _day(self, origin: "Remote") -> None:
        if self.table.bytes_per_day is None:
            return
        Works(self.config).restore(origin)
        spent, most = origin.traffic.limits.spent()
        share = spent / (most or 1)
        (self.wrong if share >= 1 else self.note if share >= 0.8 else self.ok)(
            f"{amount(spent)} of {amount(most or 0)} (`bytes_per_day`) were read today; they begin anew at midnight UTC"
        )

    # ── encrypted files ──

    async def _sealed(self) -> None:
        """Does the password fit, and does all that is there belong?"""
        from playhead.transforms.age import AgeTree
        from playhead.transforms.crypt import CryptTree

        assert self.tree is not None
        if isinstance(self.tree, CryptTree) and not await self._names(self.tree):
            return
        if isinstance(self.tree, AgeTree):
            await self._unsealed(self.tree)
        sample = await _sample(self.tree, least=1)
        if sample is None:
            return self.note("no file was found in its first folders, so its password was not tried")
        try:
            blob = await self.tree.open(sample[0], Ask(0, 1))
            await blob.read(0, min(1, blob.size))
        except (Damaged, Denied) as failure:
            return self.wrong(f"{visible(sample[0])} cannot be opened; is it the right password or key? {failure.told}")
        if self.table.use == "aes-cbc":
            return self.note("its key opens files, right or wrong: AES-CBC has no authentication")
        self.ok("its password or key opens what is there")

    async def _names(self, tree: "CryptTree") -> bool:
        """Are there names that these passwords made, or none at all?"""
        below = {entry.name for entry in await _first(tree.tree, "")}
        made = {tree.names.hidden(entry.name, entry.folder) for entry in await _first(tree, "")}
        strange = sorted(below - made)
        if below and not made:
            self.wrong(
                f"none of the {len(below)} names there was made with this password; compare `password`, `password2` "
                "and `filename_encryption`, and is `over` the folder that is encrypted?"
            )
        elif strange:
            self._strangers(strange, len(below))
        return bool(made) or not below

    async def _unsealed(self, tree: Tree) -> None:
        below = await _first(getattr(tree, "tree", tree), "")
        strange = [entry.name for entry in below if not entry.folder and not entry.name.endswith(".age")]
        if strange:
            self._strangers(strange, len(below))

    def _strangers(self, names: list[str], among: int) -> None:
        self.note(
            f"{len(names)} of {among} names there are not encrypted as these, as {visible(names[0])!r}: not shown"
        )

    # ── Google Drive ──

    async def drive(self, origin: Any) -> None:
        """The login and its access, the room there is, and what is refused before anything is read."""
        from playhead.origins.drive.accounts import may_write

        told = await origin.tokens.report()
        self.ok(f"{told}; a token was given just now")
        scopes = origin.tokens.scopes
        if self.table.write and not may_write(scopes):
            remedy = "share it with more" if self.table.service_account else f"run `playhead login {self.name}`"
            self.wrong(f"it says `write = true`, but its login only reads; {remedy}")
        elif self.table.write:
            self.ok("its login allows writing")
        about = await origin.calls.json("drive/v3/about", "this Drive", {"fields": "storageQuota(limit,usage)"})
        quota = about.get("storageQuota")
        self._room(quota if isinstance(quota, Mapping) else {})

    def _room(self, quota: Mapping[str, object]) -> None:
        used, limit = (_number(quota.get(key)) for key in ("usage", "limit"))
        if used is None or self.table.drive:
            return
        if limit == 0 and self.table.service_account:
            if self.table.write:
                self.note("a service account has no room of its own: write to a shared drive (`drive`)")
        elif limit is None:
            self.ok(f"{amount(used)} of this Drive are used, and there is no limit")
        else:
            full = self.table.write and used >= FULL * limit
            (self.note if full else self.ok)(f"{amount(used)} of {amount(limit)} are used in this Drive")

    # ── WebDAV ──

    async def webdav(self, origin: Any) -> None:
        """What the server says that it can do: it need not be so, but it is all that can be known without writing."""
        response = await origin.client.answered("OPTIONS", origin.base, {})
        response.close()
        classes = ", ".join(response.headers.getall("DAV", []))
        if response.status < 400 and classes:
            self.ok(f"it speaks WebDAV (classes {visible(classes)[:100]})")
        else:
            self.note("it does not say that it speaks WebDAV; is the URL the one that the server's WebDAV page names?")
        allowed = {name.strip().upper() for text in response.headers.getall("Allow", []) for name in text.split(",")}
        if not self.table.write:
            return
        if response.status >= 400 or not allowed:
            self.note("it does not say whether it lets files be written")
        elif allowed & WRITES:
            self.ok("it says that it lets files be written")
        else:
            self.wrong(
                f"it says `write = true`, but the server only allows {visible(', '.join(sorted(allowed)))[:200]}"
            )

    # ── buckets ──

    async def bucket(self, origin: Any) -> None:
        """Where the bucket is, and what time it is there."""
        from playhead.origins.buckets.s3 import S3
        from playhead.origins.fetch import date

        if not isinstance(origin.service, S3):
            return
        api = origin.service.api
        response = await api.answer("HEAD", "", statuses=range(200, 600))
        response.close()
        region, now = response.headers.get("x-amz-bucket-region", ""), date(response.headers.get("Date"))
        if api.by and region and region != api.by.region:
            self.wrong(f'the bucket is in the region {visible(region)[:50]}; say `region = "{visible(region)[:50]}"`')
        ahead = (datetime.now(UTC) - now).total_seconds() if now else 0.0
        if abs(ahead) >= LATE:
            which = "ahead" if ahead > 0 else "behind"
            self.wrong(f"this machine's clock is {abs(ahead) / 60:.0f} minutes {which} of the service's; set it")

    # ── rclone ──

    async def rclone(self, origin: Any) -> None:
        """Which rclone it is. Whether it knows the remote is told by the first listing."""
        self.ok(f"read through {await _version(origin.rcd.program)}")


_BEFORE: Mapping[str, Callable[[_Look, Any], Awaitable[None]]] = {
    "gdrive": _Look.drive,
    "webdav": _Look.webdav,
    "s3": _Look.bucket,
    "rclone": _Look.rclone,
}


async def _version(program: str) -> str:
    """What rclone calls itself. Raises Malformed where there is none."""
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "version",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        from playhead.origins.rcd import REMEDY

        raise Malformed(f"{program} is not installed, and this tree needs it; {REMEDY}") from error
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return visible(said.decode("utf-8", "replace").partition("\n")[0])[:60] or program


async def _first(tree: Tree, folder: str) -> list[Entry]:
    """The first names of a folder."""
    entries: list[Entry] = []
    async with aclosing(tree.entries(folder)) as listing:
        async for entry in listing:
            entries.append(entry)
            if len(entries) >= NAMES:
                break
    return entries


async def _sample(tree: Tree, least: int) -> tuple[str, Entry] | None:
    """A file of at least so many bytes in the first folders, or the largest that is there; None where there is none.

    One without a known size comes last: to open it may take all of it.
    """
    waiting, best, unsized = [""], None, None
    for _ in range(FOLDERS):
        if not waiting:
            break
        folder = waiting.pop(0)
        for entry in await _first(tree, folder):
            path = join(folder, entry.name)
            if entry.folder:
                waiting.append(path)
            elif entry.size is None:
                unsized = unsized or (path, entry)
            elif entry.size >= least:
                return path, entry
            elif entry.size and (best is None or entry.size > (best[1].size or 0)):
                best = path, entry
    return best or unsized


def _number(text: object) -> int | None:
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 19 else None
