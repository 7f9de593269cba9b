"""Blob -> Store: one file of a push, until it is at the target, or cannot be.

Is it there already? The journal knows, by the versions of both; else the store says whether it has these very bytes;
else equal sizes and times are believed, and where only the times differ the target is read. Then it is copied from a
twin, or sent, from where an earlier push stopped if the source is still the same as far as it was read. What is read of
it is witnessed; a source that changes meanwhile is begun anew once. What may succeed later is tried again, with the
state that the store kept last.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from playhead.doors.sent import Begun, Done, Journal
from playhead.doors.trials import Over, Trial, Trials
from playhead.doors.twins import Twin, Twins
from playhead.errors import Changed, Damaged, Denied, Failure, Full, Malformed, NotFound, Unknown
from playhead.origins.folder import equal
from playhead.transforms.retry import Patience
from playhead.transforms.witnessed import Witnessed, witnessed
from playhead.tree import Ask, Entry, Store, Tree, Why

NEAR = timedelta(seconds=2)  # times that differ by less are the same: some stores keep seconds
SETTLED = timedelta(seconds=2)  # a file changed since then may change once more without its tag telling

Listing = asyncio.Task[dict[str, Entry]]


@dataclass(slots=True)
class Flying:
    """A file that is being sent: how far it is certain, how far it was read, and since when."""

    blob: Witnessed
    certain: int = 0
    since: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Summary:
    """What a push has come to so far: files of the source, and bytes. `listed`: all of the source has been found."""

    found: int = 0
    size: int = 0
    listed: bool = False
    sent: int = 0
    copied: int = 0
    already: int = 0
    failed: int = 0
    sent_bytes: int = 0  # of the files that were sent
    done_bytes: int = 0  # of all files that are at the target
    codes: list[int] = field(default_factory=list)
    flying: dict[str, Flying] = field(default_factory=dict)

    @property
    def certain(self) -> int:
        """Bytes that are at the target, verified by the store where it can."""
        return self.done_bytes + sum(one.certain for one in list(self.flying.values()))

    @property
    def given(self) -> int:
        """The same, with what is on its way."""
        return self.done_bytes + sum(max(one.certain, one.blob.seen.given) for one in list(self.flying.values()))

    @property
    def code(self) -> int:
        """The exit code."""
        return 0 if not self.codes else self.codes[0] if self.found == 1 else 9


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: `kind` is begin, file, done, failed or summary; `how` (of done) sent, copied, already,
    or would, where it is only said what would be sent."""

    kind: str
    summary: Summary
    path: str = ""
    size: int | None = None
    how: str = ""
    failure: Failure | None = None


@dataclass(slots=True)
class File:
    """A file of the source: where it is, its path below what is pushed, where it goes, and what lies there."""

    place: str
    path: str
    to: str
    entry: Entry
    listing: Listing
    blob: Witnessed | None = None
    state: str | None = None  # what the store kept last
    looked: bool = False  # the journal was asked for it
    told: bool = False  # that it is sent
    anew: bool = False  # it has changed once
    twin: Twin | None = None  # what it is known by to others
    other: Twin | None = None  # another that is the same
    refused: Failure | None = None  # why the source did not open it
    trial: Trial = field(default_factory=Trial)


@dataclass(frozen=True, slots=True)
class How:
    """How a push is done. `patience`: with a store that fails."""

    overwrite: bool
    verify: bool
    dry_run: bool
    patience: Patience


class Sending:
    """What the files of a push share."""

    def __init__(
        self, source: Tree, target: Tree, how: How, journal: Journal | None, told: Callable[[Event], None]
    ) -> None:
        if not isinstance(target, Store):
            raise Malformed("what is there cannot be written: it can only be read")
        self.source, self.target, self.store, self.how = source, target, target, how
        self.journal, self.told, self.summary = journal, told, Summary()
        self.twins, self.copies = Twins(source), True
        self.trials = Trials(how.patience, self._under_way)

    def _under_way(self, since: float) -> bool:
        return any(one.since < since for one in self.summary.flying.values())

    def tell(self, kind: str, path: str = "", size: int | None = None, how: str = "") -> None:
        self.told(Event(kind, self.summary, path, size, how))

    def failed(self, path: str, failure: Failure) -> None:
        """A file cannot be sent, or a folder not be listed; the others go on."""
        self.summary.failed += 1
        self.summary.codes.append(failure.code)
        self.told(Event("failed", self.summary, path, failure=failure))

    # ── one file ──

    async def send(self, file: File) -> None:
        """Bring a file to the target. Raises Over."""
        there = False
        try:
            how = await self._tried(file)
            there = True
        except Failure as failure:
            self.failed(file.path, failure)
        else:
            self._count(file, how)
        finally:
            self.summary.flying.pop(file.path, None)
            if file.twin is not None:
                file.twin.settle(there)

    def _count(self, file: File, how: str) -> None:
        size = file.blob.size if file.blob else file.entry.size or 0
        self.summary.done_bytes += size
        if how == "already":
            self.summary.already += 1
        elif how == "copied":
            self.summary.copied += 1
        else:
            self.summary.sent += 1
            self.summary.sent_bytes += size
        self.tell("done", file.path, size, how)

    async def _tried(self, file: File) -> str:
        while True:
            try:
                how = await self._attempt(file)
            except Failure as failure:
                await self._again(file, failure)
            else:
                self.trials.well()
                return how

    async def _again(self, file: File, failure: Failure) -> None:
        """Make ready for another attempt. Raises the failure where there is to be none."""
        blob, ours = file.blob, failure is file.refused
        self.summary.flying.pop(file.path, None)
        if blob is not None and blob.failure is not None:
            failure, ours = blob.failure, True  # whatever the store made of it
            blob.seen.failure = None
            if isinstance(failure, Changed):
                return await self._forget(file)
        if isinstance(failure, Full | Unknown) and not ours:
            raise Over(failure)
        await self.trials.again(failure, file.trial, ours=ours)

    async def _forget(self, file: File) -> None:
        """The source has changed: nothing that is known of it counts, and what came of it is not gone on with."""
        if file.anew:
            raise Changed(f"{file.path!r} changes while it is sent; push it when it is at rest")
        file.anew, file.blob, file.state, file.looked = True, None, None, True
        if file.twin is not None:  # others may wait for what it was
            file.twin.settle(False)
        file.twin = file.other = None
        await self._drop(file)

    async def _attempt(self, file: File) -> str:
        there = (await asyncio.shield(file.listing)).get(file.entry.name)
        if there is not None and (known := self._known(file, file.entry.tag, file.entry.size, there)):
            return self._already(file, known.sha256, file.entry.tag, file.entry.size or 0, there)
        if file.blob is None:
            try:
                file.blob = witnessed(await self.source.open(file.place, Ask(why=Why.BULK)))
            except Failure as failure:
                file.refused = failure
                raise
        replaces = None
        if there is not None:
            if (known := self._known(file, file.blob.tag, file.blob.size, there)) or await self._same(file, there):
                sha256 = known.sha256 if known else self._sha256(file.blob)
                await self._finish(file, sha256, there)
                return self._already(file, sha256, file.blob.tag, file.blob.size, there)
            replaces = await self._replaced(file, there)
        if self.how.dry_run:
            return "would"
        if not file.told:
            self.tell("file", file.path, file.blob.size)
            file.told = True
        copy = await self._copied(file) if replaces is None else None
        entry = copy or await self._put(file, replaces)
        if self.how.verify and not await equal(file.blob, await self.target.open(file.to)):
            raise Damaged(f"{file.path!r} is not the same at the target; --overwrite sends it again")
        await self._finish(file, self._sha256(file.blob), entry)
        return "copied" if copy else "sent"

    # ── what is there ──

    def _known(self, file: File, tag: str | None, size: int | None, there: Entry) -> Done | None:
        """What the journal says of it, if both versions are still those."""
        done = self.journal.done(file.path) if self.journal and not self.how.verify else None
        if done is None or None in (tag, there.tag) or (done.tag, done.size, done.there) != (tag, size, there.tag):
            return None
        return done

    def _already(self, file: File, sha256: str | None, tag: str | None, size: int, there: Entry) -> str:
        if file.twin is None and self.copies:
            self.twins.add(Twin(file.place, file.to, sha256, there.tag), tag, size)
        return "already"

    async def _same(self, file: File, there: Entry) -> bool:
        """Is what is there the source's very bytes?"""
        blob = file.blob
        assert blob is not None
        if there.folder or there.size not in (None, blob.size):
            return False
        if not self.how.verify:
            if there.tag is not None and there.tag == blob.tag and there.tag.startswith("h:"):
                return True
            if (holds := await self.store.holds(file.to, blob)) is not None:
                return holds
            if there.size is not None and _near(there.modified, blob.modified):
                return True
        return await equal(blob, await self.target.open(file.to, Ask(why=Why.BULK)))

    async def _replaced(self, file: File, there: Entry) -> str:
        """The version that may be overwritten. Raises why none may be."""
        if there.folder:
            raise Malformed(f"{file.path!r} is a folder at the target")
        if not self.how.overwrite:
            raise Changed(f"{file.path!r} is another version at the target; --overwrite replaces it")
        tag = there.tag or (await self.target.find(file.to)).tag
        if tag is None:
            raise Denied(f"{file.path!r}: the store does not tell versions apart, so none is overwritten")
        return tag

    # ── sending ──

    async def _copied(self, file: File) -> Entry | None:
        """A copy that the store has made of a file with the same bytes; None: there is none, or it makes none."""
        assert file.blob is not None
        if not self.copies:
            return None
        if file.twin is None:
            file.twin = Twin(file.place, file.to)
            file.other = await self.twins.claim(file.twin, file.blob)
        other, file.other = file.other, None  # tried once
        if other is None or (other.tag is not None and (await self.target.find(other.to)).tag != other.tag):
            return None
        try:
            entry = await self.store.copy(other.to, file.to)
        except (NotFound, Denied, Malformed):
            return None
        self.copies = self.copies and entry is not None
        return entry

    async def _put(self, file: File, replaces: str | None) -> Entry:
        blob = file.blob
        assert blob is not None
        state = await self._state(file)
        blob.seen.given = 0
        flying = self.summary.flying[file.path] = Flying(blob)
        try:
            return await self.store.put(file.to, blob, replaces=replaces, state=state, keep=self._keeper(file, flying))
        except Changed:
            if blob.failure is not None:
                raise
            if (there := await self._appeared(file)) is None:
                raise
            return there
        except (NotFound, Malformed, Damaged):
            if state is None or blob.failure is not None:
                raise
            file.state = None  # the store knows nothing of it any more
            await self._drop(file)
            return await self._put(file, replaces)

    async def _appeared(self, file: File) -> Entry | None:
        """What is at the target now, if it is this very file: it was sent, though the answer did not come."""
        try:
            there = await self.target.find(file.to)
            return there if await self._same(file, there) else None
        except NotFound:
            return None

    def _keeper(self, file: File, flying: Flying) -> Callable[[str], None]:
        """What the store keeps goes into the journal, with what had been read of the source by then."""

        def keep(state: str) -> None:
            blob = flying.blob
            read, sha256 = blob.so_far()
            if self.journal is not None:
                self.journal.keep(file.path, Begun(_settled(blob), blob.size, state, read, sha256))
            file.state = state
            if blob.seen.given:  # a part was sent, and this is not only what is kept before
                flying.certain, file.trial.tried = min(read, blob.seen.given), 0
                self.trials.well()

        return keep

    async def _state(self, file: File) -> str | None:
        """The state to go on from: what was kept last, or what the journal has of this very version."""
        blob = file.blob
        assert blob is not None
        if file.looked or self.journal is None:
            return file.state
        file.looked = True
        begun = self.journal.begun(file.path)
        if begun is None:
            return None
        same = (begun.tag, begun.size) == (blob.tag, blob.size) and begun.read <= blob.size
        if same and await blob.prefix(begun.read) == begun.sha256:
            file.state = begun.state
            return begun.state
        await self._drop(file)
        return None

    async def _drop(self, file: File) -> None:
        if self.journal is not None and not self.how.dry_run:
            await asyncio.to_thread(self.journal.drop, file.path)

    async def _finish(self, file: File, sha256: str | None, there: Entry) -> None:
        """It is at the target: into the journal, and for those that are the same."""
        blob = file.blob
        assert blob is not None
        if file.twin is not None:
            file.twin.sha256, file.twin.tag = sha256, there.tag
        if self.journal is not None and not self.how.dry_run:
            done = Done(_settled(blob), blob.size, sha256, there.tag)
            await asyncio.to_thread(self.journal.finish, file.path, done)

    def _sha256(self, blob: Witnessed) -> str | None:
        read, sha256 = blob.so_far()
        return sha256 if read == blob.size else None


def _near(one: datetime | None, other: datetime | None) -> bool:
    return one is not None and other is not None and abs(one - other) <= NEAR


def _settled(blob: Witnessed) -> str | None:
    """The tag of a file; "" where it was changed so lately that it might change again and have the same."""
    fresh = blob.tag is not None and blob.modified is not None and abs(datetime.now(UTC) - blob.modified) < SETTLED
    return "" if fresh and not (blob.tag or "").startswith("h:") else blob.tag
