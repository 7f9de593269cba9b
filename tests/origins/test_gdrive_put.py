"""Files put into Google Drive: once each, whole or not at all, whatever breaks on the way."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from playhead import Blob, Changed, Damaged, Denied, Entry, Failure, Malformed, NotFound, Unavailable, literal
from playhead.blob import Pieces
from playhead.errors import Full
from playhead.origins.drive import uploads
from playhead.origins.drive.folders import SHARED
from playhead.origins.gdrive import DriveTree
from playhead.transforms.rclone import keys
from tests.fakes.drive_faults import Answer
from tests.fakes.drive_files import DOCX, FOLDER, Record
from tests.fakes.gdrive import FakeDrive
from tests.laws import check_tree
from tests.origins.test_gdrive import asked, later, listing, names, opened, read, until
from tests.origins.test_gdrive_faults import answered

MIB = 1 << 20
UNIT = 256 << 10


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads in parts of 1 MiB from 1 MiB on: the same, with fewer bytes."""
    monkeypatch.setattr(uploads, "SMALL", MIB)
    monkeypatch.setattr(uploads, "PART", MIB)


@asynccontextmanager
async def store(folder: Path | None = None, **options: object) -> AsyncIterator[tuple[FakeDrive, DriveTree]]:
    async with FakeDrive(crc_headers=False) as fake, opened(fake, folder, **options) as tree:
        yield fake, tree


def content(size: int, seed: int = 0) -> bytes:
    unit = hashlib.sha512(str(seed).encode()).digest()
    return (unit * (size // 64 + 1))[:size]


class Kept(list[str]):
    """The states that an upload has kept."""

    @property
    def last(self) -> str | None:
        return self[-1] if self else None


async def put(
    tree: DriveTree, path: str, data: bytes | Blob, replaces: str | None = None, kept: Kept | None = None
) -> Entry:
    kept, blob = Kept() if kept is None else kept, data if isinstance(data, Blob) else literal(data)
    return await asyncio.wait_for(tree.put(path, blob, replaces=replaces, state=kept.last, keep=kept.append), 30)


def inside(fake: FakeDrive, folder: str = "") -> list[tuple[str, bytes | None]]:
    """What Drive has in a folder, twins and all, in the bin or not."""
    records = [fake.records[id] for id in fake.children.get(fake.named(folder), {})]
    return sorted((record.meta["name"], record.data) for record in records)


async def failing(tree: DriveTree, path: str, data: bytes | Blob, **more: object) -> Failure:
    with pytest.raises(Failure) as caught:
        await put(tree, path, data, **more)  # type: ignore[arg-type]
    told = caught.value.told
    assert "ya29" not in told and "upload_id" not in told and "\n" not in told
    return caught.value


@dataclass(frozen=True, slots=True, eq=False)
class Told(Blob):
    """A blob that remembers what was read of it, and fails, or waits, where it is told to."""

    data: bytes
    reads: list[tuple[int, int]]
    fails: tuple[int, Failure] | None = None

    async def stream(self, start: int, stop: int) -> Pieces:
        self.reads.append((start, stop))
        for at in range(start, stop, UNIT):
            if self.fails and at >= self.fails[0]:
                raise self.fails[1]
            yield self.data[at : min(stop, at + UNIT)]


def cut(fake: FakeDrive, how: str = "reset", after: int | None = 9) -> None:
    """Spoil the second part of the next upload."""
    fake.fail(lambda seen: "bytes 1048576-" in seen.headers.get("Content-Range", ""), how, after_bytes=after)


def told(data: bytes, **more: object) -> Told:
    return Told(len(data), None, data, [], **more)  # type: ignore[arg-type]


# ── whole files ──


@pytest.mark.parametrize("size", [0, 1, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 70 * MIB])
async def test_what_is_put_is_there(size: int, tmp_path: Path) -> None:
    async with store(tmp_path) as (fake, tree):
        data, when = content(size), datetime(2020, 2, 29, 12, 30, 15, 250_000, tzinfo=UTC)
        await put(tree, "Music/first", b"x")
        tree.folders.polled = 1e12
        with asked(fake, upload=1 if size <= 5 * MIB else 2 + size // (32 * MIB), list=1):
            entry = await put(tree, "Music/one.flac", literal_at(data, when))
        assert (entry.name, entry.size, entry.modified) == ("one.flac", size, when)
        assert inside(fake, "Music") == [("first", b"x"), ("one.flac", data)]
        assert fake.meta(fake.named("Music/one.flac"))["modifiedTime"] == "2020-02-29T12:30:15.250Z"
        with asked(fake):
            assert await tree.find("Music/one.flac") == entry
        assert await read(tree, "Music/one.flac") == data
        assert await tree.holds("Music/one.flac", literal(data)) is True
        assert await tree.holds("Music/one.flac", literal(data + b"x")) is False
        assert await tree.holds("Music/first", literal(b"y")) is False


def literal_at(data: bytes, when: datetime) -> Blob:
    return replace(literal(data), modified=when)


async def test_a_tree_that_was_put_is_its_files(tmp_path: Path) -> None:
    files = {
        "a/b/c.txt": b"deep",
        "a/it's \\ 100%?.ogg": b"x" * 999,
        "top": b"",
        "a/노래.mp3": b"la",
        "a/x.docx": b"no doc",
    }
    async with store(tmp_path) as (fake, tree):
        for path, data in files.items():
            await put(tree, path, data)
        await check_tree(tree, files)
        async with opened(fake) as other:
            await check_tree(other, files)


async def test_files_have_the_type_that_their_names_say(tmp_path: Path) -> None:
    async with store(tmp_path) as (fake, tree):
        for name, kind in (
            ("a.mp3", "audio/mpeg"),
            ("b.unknown", "application/octet-stream"),
            ("c", "application/octet-stream"),
        ):
            entry = await put(tree, name, b"x")
            assert fake.meta(fake.named(name))["mimeType"] == kind
        fake.edit(fake.named("c"), mimeType="audio/flac")
        later(tree)
        await put(tree, "c", b"y", entry.tag)
        assert fake.meta(fake.named("c"))["mimeType"] == "audio/flac"


# ── versions ──


@pytest.mark.parametrize("size", [3, 2 * MIB + 5])
async def test_a_version_is_replaced_only_by_who_knows_it(size: int, tmp_path: Path, small_parts: None) -> None:
    async with store(tmp_path) as (fake, tree):
        first = await put(tree, "one.flac", content(size))
        for replaces in (None, "v:other"):
            assert isinstance(await failing(tree, "one.flac", b"two", replaces=replaces), Changed)
        assert isinstance(await failing(tree, "other.flac", b"two", replaces=first.tag), Changed)
        id = fake.named("one.flac")
        second = await put(tree, "one.flac", content(size, 2), first.tag)
        assert second.tag != first.tag and inside(fake) == [("one.flac", content(size, 2))]
        assert fake.named("one.flac") == id
        assert isinstance(await failing(tree, "one.flac", b"three", replaces=first.tag), Changed)
        assert await read(tree, "one.flac") == content(size, 2)


async def test_a_version_that_somebody_else_wrote_meanwhile_is_seen(tmp_path: Path) -> None:
    async with store(tmp_path) as (fake, tree):
        entry = await put(tree, "one.flac", b"ours")
        fake.replace(fake.named("one.flac"), b"theirs")
        later(tree)
        assert isinstance(await failing(tree, "one.flac", b"again", replaces=entry.tag), Changed)
        assert await read(tree, "one.flac") == b"theirs"


async def test_no_folder_and_no_document_is_overwritten(tmp_path: Path) -> None:
    async with store(tmp_path) as (fake, tree):
        fake.folder("Music")
        fake.doc("root", "Plan", {DOCX: b"exported"})
        await tree.open("Plan.docx")
        tag = (await tree.find("Plan.docx")).tag
        for path in ("Music", "Plan.docx"):
            for replaces in (None, tag):
                assert isinstance(await failing(tree, path, b"x", replaces=replaces), Changed)
        assert isinstance(await failing(tree, "Plan.docx/x", b"x"), Malformed)
        assert await names(tree) == {"Music", "Plan.docx"}


async def test_names_that_would_be_others_there_are_refused(tmp_path: Path) -> None:
    async with store(tmp_path) as (fake, tree):
        for path in ("", "{0123456789}", "a/{0123456789}", "\udcff.mp3", "a/\udcff/x", "../x", "a//b", "/a", "a\0"):
            assert isinstance(await failing(tree, path, b"x"), Malformed)
        assert inside(fake) == []


async def test_what_is_put_below_an_id_is_in_that_folder(tmp_path: Path) -> None:
    async with store(tmp_path) as (fake, tree):
        folder, file = fake.folder("Music/deep"), fake.file("root", "file", b"x")
        await put(tree, f"{{{folder}}}/er/one.flac", b"one")
        assert inside(fake, "Music/deep/er") == [("one.flac", b"one")]
        assert isinstance(await failing(tree, f"{{{file}}}/one.flac", b"one"), Malformed)
        assert isinstance(await failing(tree, "{0123456789}/one.flac", b"one"), NotFound)
        assert {name for name, _ in inside(fake)} == {"Music", "file"}


async def test_a_shared_drive_and_a_folder_can_be_written_and_what_others_share_cannot(tmp_path: Path) -> None:
    async with FakeDrive() as fake:
        team = fake.drive("Team")
        for number, root in enumerate(({"drive": team}, {"root": fake.folder("Mine")})):
            async with opened(fake, tmp_path / str(number), **root) as tree:
                await put(tree, "a/one.flac", b"one")
                await check_tree(tree, {"a/one.flac": b"one"})
        async with opened(fake, tmp_path, root=SHARED) as tree:
            for path in ("one.flac", "a/one.flac"):
                assert isinstance(await failing(tree, path, b"one"), Denied)


async def test_what_a_shortcut_leads_to_is_replaced(tmp_path: Path) -> None:
    async with store(tmp_path) as (fake, tree):
        entry = await put(tree, "Music/one.flac", b"one")
        fake.shortcut("root", "link", fake.named("Music/one.flac"))
        later(tree)
        await put(tree, "link", b"two", entry.tag)
        later(tree)
        assert await read(tree, "link") == await read(tree, "Music/one.flac") == b"two"
        assert await names(tree) == {"Music", "link"}


# ── many at once ──


async def test_folders_are_made_once(tmp_path: Path) -> None:
    async with store(tmp_path) as (fake, tree):
        fake.latency = 0.01
        await asyncio.gather(*(put(tree, f"a/b/c/{number}", b"x") for number in range(20)))
        assert len(inside(fake, "a/b/c")) == 20
        assert [record.meta["name"] for record in fake.records.values() if record.meta["mimeType"] == FOLDER] == [
            "My Drive", "a", "b", "c"
        ]  # fmt: skip
        assert fake.counts["create"] == 3 and fake.counts["ids"] == 1 and fake.counts["start"] == 1


async def test_of_two_who_make_the_same_folder_both_find_one(tmp_path: Path) -> None:
    async with FakeDrive() as fake, opened(fake, tmp_path / "1") as one, opened(fake, tmp_path / "2") as two:
        fake.latency = 0.01
        for _ in range(3):
            await asyncio.gather(names(one), names(two))
        await asyncio.gather(*(put(tree, f"a/b/{name}", b"x") for tree, name in ((one, "1"), (two, "2"))))
        folders = [record for record in fake.records.values() if record.meta["mimeType"] == FOLDER]
        assert sorted(record.meta["name"] for record in folders) == ["My Drive", "a", "b"]
        assert len(inside(fake, "a/b")) == 2


@pytest.mark.parametrize("size", [5, MIB + 5])
async def test_of_two_who_put_the_same_name_one_stays(size: int, tmp_path: Path, small_parts: None) -> None:
    async with FakeDrive() as fake, opened(fake, tmp_path / "1") as one, opened(fake, tmp_path / "2") as two:
        for round in range(4):
            fake.latency = 0.005 * (round % 2)
            await asyncio.gather(names(one), names(two))
            done = await asyncio.gather(
                *(put(tree, f"{round}.flac", content(size, n)) for n, tree in enumerate((one, two))),
                return_exceptions=True,
            )
            won = [n for n, each in enumerate(done) if isinstance(each, Entry)]
            assert len(won) == 1 and isinstance(done[1 - won[0]], Changed)
            found = [data for name, data in inside(fake) if name == f"{round}.flac"]
            assert found == [content(size, won[0])]


async def test_whoever_was_there_first_stays_whatever_the_ids(tmp_path: Path) -> None:
    """One has put a file and is content, when the other's comes, whose id is lower or higher."""
    async with FakeDrive() as fake, opened(fake, tmp_path / "1") as one, opened(fake, tmp_path / "2") as two:
        await asyncio.gather(put(one, "x", b""), put(two, "y", b""))
        for tree, ids in ((one, "1"), (two, "2")):
            tree.folders.polled = 1e12  # the feed is not read: it comes late
            tree.ids.sort(reverse=ids == "2")
        for path, first, second in (("a", one, two), ("b", two, one)):
            await put(first, path, b"first")
            assert isinstance(await failing(second, path, b"second"), Changed)
            assert dict(inside(fake))[path] == b"first" and len(inside(fake)) == len(dict(inside(fake)))


async def test_a_rival_is_seen_where_a_listing_begins_with_an_empty_page(tmp_path: Path) -> None:
    async with FakeDrive() as fake, opened(fake, tmp_path / "1") as one, opened(fake, tmp_path / "2") as two:
        fake.empty_first = True
        await asyncio.gather(names(one), names(two))
        await put(one, "a", b"first")
        two.folders.polled = 1e12
        assert isinstance(await failing(two, "a", b"second"), Changed)
        assert inside(fake) == [("a", b"first")]


async def test_what_may_not_be_removed_goes_into_the_bin(tmp_path: Path) -> None:
    async with FakeDrive() as fake, opened(fake, tmp_path / "1") as one, opened(fake, tmp_path / "2") as two:
        await asyncio.gather(names(one), names(two))
        await put(one, "a", b"first")
        two.folders.polled = 1e12
        fake.fail("delete", "insufficientFilePermissions")
        assert isinstance(await failing(two, "a", b"second"), Changed)
        assert [data for _, data in inside(fake)] == [b"first", b"second"]
        async with opened(fake) as other:
            assert await listing(other) == {"a": 5}


# ── broken on the way ──


@pytest.mark.parametrize("size", [5, 3 * MIB + 5])
@pytest.mark.parametrize("what", ["new", "over"])
async def test_an_answer_that_is_lost_makes_no_twin(size: int, what: str, tmp_path: Path, small_parts: None) -> None:
    async with store(tmp_path) as (fake, tree):
        replaces = (await put(tree, "one.flac", b"old")).tag if what == "over" else None
        for lost in range(20):
            kept, requests = Kept(), iter(range(1000))
            fault = fake.fail(lambda seen: seen.kind == "upload" and next(requests) == lost, "lost")  # noqa: B023
            data, attempts = content(size, lost), 0
            while True:
                attempts += 1
                later(tree)
                try:
                    entry = await put(tree, "one.flac", data, replaces, kept)
                    break
                except Unavailable:
                    assert attempts < 5
            assert inside(fake) == [("one.flac", data)] and await read(tree, "one.flac") == data
            if not fault.used:
                break
            if what == "over":
                replaces = entry.tag
            else:
                fake.delete(fake.named("one.flac"))
                later(tree)
        assert lost == (1 if size == 5 else 5)


@pytest.mark.parametrize("kind", ["ids", "create", "list", "start", "changes"])
async def test_other_answers_that_are_lost_make_no_twins(kind: str, tmp_path: Path) -> None:
    async with store(tmp_path) as (fake, tree):
        if kind == "changes":
            await names(tree)
            later(tree)
        fault, kept = fake.fail(kind, "lost"), Kept()
        for _ in range(4):
            try:
                await put(tree, "a/one.flac", b"one", kept=kept)
                break
            except Unavailable:
                later(tree)
        assert fault.used and inside(fake, "a") == [("one.flac", b"one")]
        assert [name for name, _ in inside(fake)] == ["a"]


@pytest.mark.parametrize("how", ["reset", "truncated"])
async def test_an_upload_that_was_cut_goes_on_where_it_was(how: str, tmp_path: Path, small_parts: None) -> None:
    async with store(tmp_path) as (fake, tree):
        data, kept = content(3 * MIB + 5), Kept()
        cut(fake, how, after=600 << 10)
        assert isinstance(await failing(tree, "one.flac", data, kept=kept), Unavailable)
        assert await names(tree) == set(), "nothing is listed before it is whole"
        async with opened(fake) as again:  # as after a restart
            with asked(fake, upload=3, list=2, start=1, get=1):
                await put(again, "one.flac", data, kept=kept)
        went_on = [seen.headers["Content-Range"] for seen in fake.of("upload")[-3:]]
        assert went_on == ["bytes */3145733", "bytes 1572864-2621439/3145733", "bytes 2621440-3145732/3145733"]
        assert inside(fake) == [("one.flac", data)]


async def test_a_session_that_has_expired_is_begun_anew(tmp_path: Path, small_parts: None) -> None:
    async with store(tmp_path) as (fake, tree):
        data, kept = content(3 * MIB), Kept()
        cut(fake)
        await failing(tree, "one.flac", data, kept=kept)
        fake.sessions.clear()
        with asked(fake, upload=5, list=1):  # how far, a session, three parts
            await put(tree, "one.flac", data, kept=kept)
        assert inside(fake) == [("one.flac", data)]


async def test_a_session_that_expired_after_its_file_was_whole_is_found(tmp_path: Path, small_parts: None) -> None:
    async with store(tmp_path) as (fake, tree):
        data, kept = content(2 * MIB), Kept()
        cut(fake, "lost", None)
        await failing(tree, "one.flac", data, kept=kept)
        fake.sessions.clear()
        for _ in range(2):
            await put(tree, "one.flac", data, kept=kept)
            assert inside(fake) == [("one.flac", data)]
            tree.folders.polled = 1e12  # and also where the feed did not tell of it yet
            tree.index.keep(fake.root, [])
            tree.folders.names.clear()
        assert isinstance(await failing(tree, "one.flac", data[::-1], kept=kept), Changed)
        assert inside(fake) == [("one.flac", data)]


@pytest.mark.parametrize(
    "state",
    [
        "",
        "null",
        "7",
        "[]",
        '["../about", false, null]',
        '["1abc", 1, null]',
        '["1abc", false, 7]',
        "[" * 100_000,
        '["1abcdefghijk", true, "https://example.org/upload"]',
    ],
)
async def test_a_state_that_is_none_is_begun_anew(state: str, tmp_path: Path, small_parts: None) -> None:
    async with store(tmp_path) as (fake, tree):
        data = content(2 * MIB)
        await put(tree, "one.flac", data, kept=Kept([state]))
        assert inside(fake) == [("one.flac", data)]


async def test_a_state_leads_to_no_other_file_and_no_other_host(tmp_path: Path, small_parts: None) -> None:
    async with store(tmp_path) as (fake, tree):
        victim = fake.file("root", "victim", b"theirs")
        await names(tree)
        for size in (5, 2 * MIB):
            for path in ("new", "victim"):
                state = json.dumps([victim, False, None])
                assert isinstance(await failing(tree, path, content(size), kept=Kept([state])), Changed)
                assert fake.records[victim].data == b"theirs"
        assert isinstance(await failing(tree, "new", b"theirs", kept=Kept([state])), Changed)
        async with FakeDrive() as other:
            kept = Kept([json.dumps([None, False, None])])
            cut(fake)
            await failing(tree, "one.flac", content(2 * MIB), kept=kept)
            id, over, session = json.loads(kept[-1])
            kept.append(json.dumps([id, over, session.replace(fake.url, other.url)]))
            await put(tree, "one.flac", content(2 * MIB), kept=kept)
            assert not other.requests


async def test_a_state_of_another_kind_is_not_gone_on_with(tmp_path: Path, small_parts: None) -> None:
    """A new file was begun, and then there was one: the session would make a twin."""
    async with store(tmp_path) as (fake, tree):
        data, kept = content(2 * MIB), Kept()
        cut(fake)
        await failing(tree, "one.flac", data, kept=kept)
        fake.file("root", "one.flac", b"theirs")
        later(tree)
        assert isinstance(await failing(tree, "one.flac", data, kept=kept), Changed)
        tag = (await tree.find("one.flac")).tag
        await put(tree, "one.flac", data, tag, kept)
        assert inside(fake) == [("one.flac", data)]
        kept.clear()
        cut(fake)
        await failing(tree, "one.flac", data[::-1], replaces=(await tree.find("one.flac")).tag, kept=kept)
        fake.delete(fake.named("one.flac"))
        later(tree)
        await put(tree, "one.flac", data[::-1], kept=kept)
        assert inside(fake) == [("one.flac", data[::-1])]


async def test_a_source_that_changed_meanwhile_is_never_mixed(tmp_path: Path, small_parts: None) -> None:
    async with store(tmp_path) as (fake, tree):
        kept = Kept()
        cut(fake)
        await failing(tree, "one.flac", content(3 * MIB, 1), kept=kept)
        assert isinstance(await failing(tree, "one.flac", content(3 * MIB, 2), kept=kept), Damaged)
        assert inside(fake) == []


async def test_a_source_that_fails_is_what_is_raised(tmp_path: Path, small_parts: None) -> None:
    async with store(tmp_path) as (_, tree):
        for size in (MIB, 3 * MIB):
            for at in (0, size // 2):
                trouble = Changed("the source has changed")
                assert await failing(tree, "one.flac", told(content(size), fails=(at, trouble))) is trouble
                assert await names(tree) == set()


async def test_parts_are_read_once_and_in_order(tmp_path: Path, small_parts: None) -> None:
    async with store(tmp_path) as (_, tree):
        blob = told(content(3 * MIB + 5))
        await put(tree, "one.flac", blob)
        assert blob.reads == [(at * MIB, min(blob.size, (at + 1) * MIB)) for at in range(4)]


async def test_a_token_that_ends_in_a_long_upload_is_renewed(tmp_path: Path, small_parts: None) -> None:
    async with store(tmp_path) as (fake, tree):
        data = content(3 * MIB)
        fake.fail(lambda seen: "bytes 1048576-" in seen.headers.get("Content-Range", ""), 401)
        await put(tree, "one.flac", data)
        assert inside(fake) == [("one.flac", data)]
        assert tree.tokens.renewals == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [5, 2 * MIB])
async def test_other_bytes_than_were_sent_are_removed(size: int, tmp_path: Path, small_parts: None) -> None:
    async with store(tmp_path) as (fake, tree):
        real = fake.new

        def new(
            name: str, mime: str, parent: str, fields: dict[str, object], data: bytes | None, exports: object
        ) -> Record:
            return real(name, mime, parent, fields, data and b"?" + data[1:], exports)  # type: ignore[arg-type]

        fake.new = new  # type: ignore[assignment, method-assign]
        assert isinstance(await failing(tree, "one.flac", content(size)), Damaged)
        fake.new = real  # type: ignore[method-assign]
        assert inside(fake) == []
        await put(tree, "one.flac", content(size))


async def test_what_was_not_ours_is_not_removed(tmp_path: Path) -> None:
    """A version that arrives damaged stays: there is nothing else of the file."""
    async with store(tmp_path) as (fake, tree):
        entry = await put(tree, "one.flac", b"one")
        real = fake.replace
        fake.replace = lambda id, data, **fields: real(id, b"?" + data[1:], **fields)  # type: ignore[method-assign]
        assert isinstance(await failing(tree, "one.flac", b"two", replaces=entry.tag), Damaged)
        assert inside(fake) == [("one.flac", b"?wo")]


@pytest.mark.parametrize("location", ["https://example.org/upload?upload_id=x", "/upload", "", "http://[", "ftp://x/"])
async def test_a_session_elsewhere_is_refused(
    location: str, tmp_path: Path, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(answer: Answer) -> Answer:
        answer.headers["Location"] = location
        return answer

    answered(monkeypatch, "upload", elsewhere)
    async with store(tmp_path) as (fake, tree):
        assert isinstance(await failing(tree, "one.flac", content(2 * MIB)), Damaged)
        assert fake.counts["upload"] == 1


@pytest.mark.parametrize("size", [5, 2 * MIB])
async def test_a_drive_that_is_full_says_so(size: int, tmp_path: Path, small_parts: None) -> None:
    async with store(tmp_path) as (fake, tree):
        fake.fail("upload", "storageQuotaExceeded")
        assert isinstance(await failing(tree, "one.flac", content(size)), Full)
        assert inside(fake) == []


async def test_a_server_that_stops_reading_or_answering_is_given_up(
    tmp_path: Path, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("playhead.origins.fetch.SILENCE", 0.3)
    monkeypatch.setattr(uploads, "PATIENCE", 0.3)
    monkeypatch.setattr(uploads, "PART", 32 * MIB)
    async with store(tmp_path) as (fake, tree):
        fake.fail("PUT", "hang", after_bytes=UNIT)  # more than the kernel takes
        assert isinstance(await failing(tree, "large", told(content(24 * MIB))), Unavailable)
        data, kept = content(2 * MIB), Kept()
        for after in (2 * MIB, None):
            fake.fail("PUT", "hang", after_bytes=after)
            assert isinstance(await failing(tree, "one.flac", data, kept=kept), Unavailable)
        fake.fail("POST uploadType=multipart", "hang")
        assert isinstance(await failing(tree, "small", b"x"), Unavailable)
        monkeypatch.undo()
        await put(tree, "one.flac", data, kept=kept)
        assert inside(fake) == [("one.flac", data)]


async def test_a_server_that_claims_too_much_is_not_believed(small_parts: None) -> None:
    for claimed in ("bytes=0-99999999", "bytes=0-2097151", "bytes=0-x", "bytes=0-" + "9" * 30, ""):
        with pytest.MonkeyPatch.context() as patch:
            async with store() as (fake, tree):
                data, kept = content(2 * MIB), Kept()

                def claim(answer: Answer) -> Answer:
                    if answer.status == 308:
                        answer.headers["Range"] = claimed  # noqa: B023
                    return answer

                answered(patch, "upload", claim)
                for _ in range(2):
                    assert isinstance(await failing(tree, "one.flac", data, kept=kept), Unavailable)
                patch.undo()
                await put(tree, "one.flac", data, kept=kept)
                assert inside(fake) == [("one.flac", data)]


# ── copies ──


async def test_a_copy_is_made_by_drive_itself(tmp_path: Path) -> None:
    async with store(tmp_path) as (fake, tree):
        await put(tree, "Music/one.flac", literal_at(b"one", datetime(2020, 1, 1, tzinfo=UTC)))
        with asked(fake, copy=1, list=2, create=1):
            entry = await tree.copy("Music/one.flac", "Other/two.flac")
        assert entry and (entry.name, entry.size, entry.modified) == ("two.flac", 3, datetime(2020, 1, 1, tzinfo=UTC))
        await check_tree(tree, {"Music/one.flac": b"one", "Other/two.flac": b"one"})
        for path, to, kind in (
            ("Music/one.flac", "Other/two.flac", Changed),
            ("Music/none", "x", NotFound),
            ("Music", "x", NotFound),
            ("Music/one.flac", "", Malformed),
        ):
            with pytest.raises(kind):
                await tree.copy(path, to)


async def test_a_copy_of_what_an_old_link_shares_carries_its_key(tmp_path: Path) -> None:
    async with store(tmp_path) as (fake, tree):
        file = fake.file(None, "old.mp3", b"x", resourceKey="0-k")
        assert await tree.copy(f"{{{file}!0-k}}", "mine.mp3")
        assert await read(tree, "mine.mp3") == b"x"


async def test_what_drive_has_is_told_by_its_hash(tmp_path: Path) -> None:
    async with store(tmp_path) as (fake, tree):
        id = fake.file("root", "one", b"one")
        assert await tree.holds("one", literal(b"one")) is True
        fake.edit(id, sha256Checksum=None)
        later(tree)
        assert await tree.holds("one", literal(b"one")) is True
        assert await tree.holds("one", literal(b"two")) is False
        fake.edit(id, md5Checksum=None)
        later(tree)
        assert await tree.holds("one", literal(b"two")) is None
        with pytest.raises(NotFound):
            await tree.holds("none", literal(b""))


async def test_encrypted_files_are_put_and_gone_on_with(tmp_path: Path, small_parts: None) -> None:
    from playhead.transforms.crypt import crypt
    from playhead.transforms.names import Names

    async with store(tmp_path) as (fake, tree):
        key = keys("password", "")
        sealed: Any = crypt(tree, key, Names(key.name, key.tweak))
        data, kept = content(3 * MIB), Kept()
        cut(fake)
        with pytest.raises(Unavailable):
            await sealed.put("Music/one.flac", literal(data), replaces=None, state=None, keep=kept.append)
        await sealed.put("Music/one.flac", literal(data), replaces=None, state=kept.last, keep=kept.append)
        await check_tree(sealed, {"Music/one.flac": data})
        assert len(fake.records) == 3


async def test_closing_ends_what_is_under_way(tmp_path: Path) -> None:
    async with FakeDrive() as fake:
        async with opened(fake, tmp_path) as tree:
            fault = fake.fail("create", "hang")
            putting = asyncio.create_task(put(tree, "a/one.flac", b"x"))
            await until(lambda: fault.used > 0)
        assert isinstance((await asyncio.gather(putting, return_exceptions=True))[0], Unavailable)


async def test_a_file_that_somebody_edits_while_it_is_replaced_stays(tmp_path: Path) -> None:
    async with store(tmp_path) as (fake, tree):
        id = fake.file("root", "song", b"old")
        before, kept = (await tree.find("song")).tag, list[str]()

        def keep(state: str) -> None:
            kept.append(state)
            if len(kept) == 3:  # the first part is there
                fake.replace(id, b"what somebody wrote meanwhile")

        blob = literal(bytes(70_000_000))
        with pytest.raises(Changed):
            await tree.put("song", blob, replaces=before, state=None, keep=keep)
        assert len(kept) >= 3
        later(tree)
        assert await read(tree, "song") == b"what somebody wrote meanwhile"
