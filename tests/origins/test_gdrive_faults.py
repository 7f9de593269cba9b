"""Google Drive that refuses, breaks off, hangs or lies: each told apart, nothing wrong is given, nothing hangs."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from playhead import Ask, Busy, Changed, Damaged, Denied, Failure, NotFound, Tree, Unavailable, Unknown
from playhead.origins.drive import calls, granted
from playhead.origins.drive.accounts import UserLogin
from playhead.origins.drive.exchange import sent_by
from playhead.origins.drive.granted import Login
from playhead.origins.drive.tokens import Tokens
from playhead.origins.fetch import Access, Client
from playhead.origins.gdrive import DriveTree
from playhead.transforms.cached import cached
from playhead.transforms.filling import Cache
from playhead.transforms.listed import listed
from playhead.transforms.reservoir import Reservoir
from playhead.transforms.retry import Patience, retried
from tests.fakes import drive_faults
from tests.fakes.drive_faults import Answer, Fault, Seen
from tests.fakes.drive_files import DOCX
from tests.fakes.gdrive import FakeDrive
from tests.laws import collected
from tests.origins.test_gdrive import asked, drive, later, listing, names, opened, read, tree_of, until

SONG = bytes(range(256)) * 1024  # the fake tells its hash, which it takes long for
Content = Callable[[], Awaitable[object]]


@asynccontextmanager
async def song(folder: Path, **options: object) -> AsyncIterator[tuple[FakeDrive, DriveTree]]:
    """A Drive with two songs that were listed and read."""
    async with FakeDrive() as fake, opened(fake, folder, **options) as tree:
        fake.file("Music", "one.flac", SONG)
        fake.file("Music", "two.flac", SONG[::-1])
        await names(tree, "Music")
        yield fake, tree


async def failing(doing: Awaitable[object]) -> Failure:
    with pytest.raises(Failure) as caught:
        await asyncio.wait_for(doing, 5)
    assert "ya29" not in caught.value.told and "\n" not in caught.value.told
    return caught.value


# ── refusals ──


REFUSALS: list[tuple[str | int, type[Failure], str]] = [
    ("userRateLimitExceeded", Busy, "too many requests"),
    ("rateLimitExceeded", Busy, "too many requests"),
    ("tooManyRequests", Busy, "too many requests"),
    ("dailyLimitExceeded", Busy, "midnight Pacific"),
    ("downloadQuotaExceeded", Busy, "downloaded too often"),
    ("cannotDownloadFile", Denied, "owner does not allow"),
    ("cannotDownloadAbusiveFile", Denied, "acknowledge_abuse = true"),
    ("insufficientFilePermissions", Denied, "has not the right"),
    ("insufficientPermissions", Denied, "playhead login"),
    ("appNotAuthorizedToFile", Denied, "drive.file"),
    ("accessNotConfigured", Denied, "is not enabled"),
    ("domainPolicy", Denied, "administrators"),
    ("somethingNew", Denied, "somethingNew"),
    ("notFound", NotFound, "no such file"),
    ("gone", NotFound, ""),
    ("backendError", Unavailable, "Google failed"),
    (502, Unavailable, "Google failed"),
    (503, Unavailable, "Google failed"),
    (504, Unavailable, "Google failed"),
    (400, Damaged, "does not understand"),
]


async def test_each_refusal_is_told_apart(tmp_path: Path) -> None:
    async with song(tmp_path) as (fake, tree):
        for reason, kind, said in REFUSALS:
            fake.fail("media", reason)
            failure = await failing(tree.open("Music/one.flac"))
            assert isinstance(failure, kind), reason
            assert said in str(failure) and "one.flac" in str(failure)
            tree.calls.over.clear()


@pytest.mark.parametrize("reason", ["userRateLimitExceeded", "tooManyRequests", "serviceUnavailable"])
async def test_how_long_to_wait_is_kept_and_trying_again_succeeds(reason: str, tmp_path: Path) -> None:
    async with song(tmp_path) as (fake, tree):
        fake.fail("media", reason, retry_after=7)
        failure = await failing(tree.open("Music/one.flac"))
        assert failure.again and failure.after == 7
        fake.fail("media", reason, times=3, retry_after=0)
        assert await read(retried(tree, Patience(first=0.01)), "Music/one.flac") == SONG


async def test_a_day_that_is_spent_is_not_waited_for(tmp_path: Path) -> None:
    async with song(tmp_path) as (fake, tree):
        fake.fail("media", "dailyLimitExceeded", times=None)
        with asked(fake, media=1):
            assert ((await failing(retried(tree).open("Music/one.flac"))).after or 0) >= 600


async def test_refusals_of_any_form_are_refusals(tmp_path: Path) -> None:
    """By what the body says where it says something, else by the status; whatever it is."""
    async with song(tmp_path) as (_, tree):
        bodies: list[tuple[bytes, type[Failure]]] = [
            (b'{"error": {"errors": [{"reason": "userRateLimitExceeded"}], "code": 403}}', Busy),
            (b'{"error": {"errors": [{"reason": ["x"]}]}}', Denied),
            (b'{"error": {"errors": [7]}}', Denied),
            (b'{"error": {"errors": {"reason": "notFound"}}}', Denied),
            (b'{"error": "userRateLimitExceeded"}', Denied),
            (b"[1]", Denied),
            (b"<html>Sorry...</html>", Denied),
            (b"", Denied),
            (b"[" * 60_000, Denied),
            (b'{"error": {"errors": [{"reason": "x\x1b[31m' + b"y" * 500 + b'"}]}}', Denied),
            (b" " * 200_000, Denied),
        ]
        for body, kind in bodies:
            with pytest.MonkeyPatch.context() as patch:
                answered(patch, "media", lambda answer: Answer(403, body))  # noqa: B023
                failure = await failing(tree.open("Music/one.flac"))
            assert type(failure) is kind and len(str(failure)) < 300 and "\x1b" not in str(failure)


async def test_a_file_that_is_over_its_quota_is_left_alone_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with song(tmp_path) as (fake, tree):
        fake.fail("media", "downloadQuotaExceeded", times=None)
        first = await failing(tree.open("Music/one.flac"))
        assert isinstance(first, Busy) and first.after == calls.OVER
        fake.faults.clear()
        with asked(fake):
            again = await failing(tree.open("Music/one.flac"))
            assert isinstance(again, Busy) and 0 < (again.after or 0) <= calls.OVER
            await failing(retried(tree).open("Music/one.flac"))
        assert await read(tree, "Music/two.flac") == SONG[::-1]
        until_then = tree.calls.over[fake.named("Music/one.flac")]
        until_then.until = 0
        fake.fail("media", "downloadQuotaExceeded")
        assert (await failing(tree.open("Music/one.flac"))).after == 2 * calls.OVER
        until_then = tree.calls.over[fake.named("Music/one.flac")]
        until_then.until = 0
        assert await read(tree, "Music/one.flac") == SONG
        assert not tree.calls.over


async def test_a_file_may_come_to_its_quota_in_mid_stream(tmp_path: Path) -> None:
    async with song(tmp_path) as (fake, tree):
        blob = await tree.open("Music/one.flac", Ask(0, 1000))
        assert await blob.read(0, 1000) == SONG[:1000]
        fake.fail("media", "downloadQuotaExceeded")
        assert isinstance(await failing(blob.read(100_000)), Busy)
        with asked(fake):
            await failing(blob.read(100_000))


async def test_abuse_is_acknowledged_where_that_is_wanted(tmp_path: Path) -> None:
    async with FakeDrive() as fake:
        fake.file("root", "tool.exe", b"MZ", abusive=True)
        async with opened(fake) as tree:
            assert "acknowledge_abuse" in str(await failing(tree.open("tool.exe")))
        async with opened(fake, abuse=True) as tree:
            assert await read(tree, "tool.exe") == b"MZ"


async def test_what_its_owner_keeps_from_being_downloaded_is_listed_and_not_asked_for(tmp_path: Path) -> None:
    async with drive(tmp_path) as (fake, tree):
        fake.file("root", "locked.pdf", b"x", capabilities={"canDownload": False})
        assert await listing(tree) == {"locked.pdf": 1}
        with asked(fake):
            assert isinstance(await failing(tree.open("locked.pdf")), Denied)


async def test_a_file_that_went_is_not_found_and_forgotten(tmp_path: Path) -> None:
    async with song(tmp_path) as (fake, tree):
        await read(tree, "Music/one.flac")
        fake.delete(fake.named("Music/one.flac"))
        assert isinstance(await failing(tree.open("Music/one.flac")), NotFound)
        assert await names(tree, "Music") == {"two.flac"}


# ── logins ──


async def test_a_token_that_ends_is_renewed_once_also_in_mid_stream(tmp_path: Path) -> None:
    async with FakeDrive() as fake:
        for number in range(20):
            fake.file("Music", f"{number}.flac", SONG)
        granted.write("music", Login("x", "R", ("drive.readonly",)))
        client = Client(fake.url, Access())
        tree = DriveTree(
            "music", client, Tokens(UserLogin("music", "x", "y", f"{fake.url}token"), sent_by(client)), None
        )
        try:
            await names(tree, "Music")
            blobs = [await tree.open(f"Music/{number}.flac", Ask(0, 10)) for number in range(20)]
            assert fake.signin.refreshes == 1
            fake.signin.expire()
            assert await asyncio.gather(*(blob.read(1000) for blob in blobs)) == [SONG[1000:]] * 20
            assert fake.signin.refreshes == 2
            fake.fail("media", "expired", times=1)
            assert await read(tree, "Music/0.flac") == SONG
            fake.signin.revoke()
            failure = await failing(read(tree, "Music/0.flac"))
            assert isinstance(failure, Unknown) and "playhead login music" in str(failure)
        finally:
            await tree.aclose()


async def test_a_token_that_is_refused_twice_is_a_login_that_is_not_accepted(tmp_path: Path) -> None:
    async with song(tmp_path) as (fake, tree):
        fake.fail("media", "authError", times=2)
        with asked(fake, media=2):
            assert isinstance(await failing(tree.open("Music/one.flac")), Unknown)
        fake.fail("changes", "authError", times=1)
        later(tree)
        with asked(fake, changes=2):
            await names(tree, "Music")


# ── broken answers ──


BREAKS = [(how, after) for how in ("reset", "truncated") for after in (None, 0, 1, 100_000)]


@pytest.mark.parametrize(("how", "after"), [*BREAKS, ("hang", None), ("hang", 100_000)])
async def test_bytes_that_break_off_are_an_error_and_gone_on_with(
    how: str, after: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("playhead.origins.fetch.SILENCE", 0.3)
    async with song(tmp_path) as (fake, tree):
        times = 2 if after is None and how != "hang" else 1  # the HTTP client itself asks once more
        fake.fail("media", how, after_bytes=after, times=times)
        failure = await failing(read(tree, "Music/one.flac"))
        assert isinstance(failure, Unavailable)
        fake.fail("media", how, after_bytes=after, times=times)
        with asked(fake, media=1 + times):
            assert await read(retried(tree, Patience(first=0.01)), "Music/one.flac") == SONG
        if after:
            assert fake.of("media")[-1].range != "bytes=0-"


@pytest.mark.parametrize(("how", "after"), [("reset", None), ("reset", 200), ("truncated", 200), ("hang", 0)])
@pytest.mark.parametrize("kind", ["list", "changes", "start"])
async def test_listings_that_break_off_are_an_error_and_never_short(
    how: str, after: int | None, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("playhead.origins.fetch.SILENCE", 0.3)
    async with drive(tmp_path) as (fake, tree):
        for number in range(30):
            fake.file("Music", f"{number}.flac", b"x")
        if kind == "changes":
            await names(tree)
            later(tree)
        fake.fail(kind, how, after_bytes=min(after, 20) if after else after, times=2 if after is None else 1)
        assert isinstance(await failing(names(tree, "Music")), Unavailable)
        assert len(await names(tree, "Music")) == 30


async def test_a_listing_that_broke_off_goes_on_where_it_was(tmp_path: Path) -> None:
    async with song(tmp_path) as (fake, tree):
        for number in range(20):
            fake.file("Large", f"{number:02d}", b"x")
        fake.page_limit = 2
        await tree.find("Large")
        pages = iter(range(100))
        fake.fail(lambda seen: seen.kind == "list" and next(pages) == 6, 503)
        with asked(fake, list=7):
            await failing(names(tree, "Large"))
        with asked(fake, list=4):
            assert len(await names(tree, "Large")) == 20
        assert len(fake.of("list")[-1].query["pageToken"]) > 5


async def test_a_listing_that_broke_off_begins_anew_where_its_page_is_gone_or_files_changed(tmp_path: Path) -> None:
    async with song(tmp_path) as (fake, tree):
        ids = [fake.file("Large", f"{number:02d}", b"x") for number in range(6)]
        fake.page_limit = 2
        await tree.find("Large")
        fake.fail("list pageToken", 503)
        await failing(names(tree, "Large"))
        fake.fail("list pageToken", 400)
        assert len(await names(tree, "Large")) == 6
        tree.index.drop(fake.named("Large"))
        tree.folders.names.clear()
        fake.fail("list pageToken", 503)
        await failing(names(tree, "Large"))
        fake.edit(ids[5], name="renamed")
        later(tree)
        assert await names(tree, "Large") == {"00", "01", "02", "03", "04", "renamed"}


async def test_a_listing_may_begin_with_an_empty_page(tmp_path: Path) -> None:
    async with drive(tmp_path) as (fake, tree):
        fake.empty_first = True
        fake.file("Music", "one.flac", SONG)
        assert await names(tree) == {"Music"} and await names(tree, "Music") == {"one.flac"}
        async with opened(fake) as other:
            assert await read(other, "Music/one.flac") == SONG


async def test_a_listing_that_google_could_not_finish_is_not_shown(tmp_path: Path) -> None:
    async with drive(tmp_path) as (fake, tree):
        fake.file("Music", "one.flac", SONG)
        fake.incomplete = True
        for _ in range(2):
            assert isinstance(await failing(names(tree)), Unavailable)
            assert isinstance(await failing(read(tree, "Music/one.flac")), Unavailable)
        fake.incomplete = False
        assert await names(tree) == {"Music"}


async def test_each_who_waits_is_told_his_own_story(tmp_path: Path) -> None:
    async with drive(tmp_path) as (fake, tree):
        fake.fail("list", 503, times=None)
        fake.latency = 0.02
        again = retried(tree, Patience(attempts=1))
        for failure in await asyncio.gather(*(failing(names(again)) for _ in range(5))):
            assert failure.told.count("tried") == 1


# ── answers that lie ──


def answered(patch: pytest.MonkeyPatch, kind: str, change: Callable[[Answer], Answer], times: int = -1) -> None:
    """Change the fake's answers to requests of a kind; -1: all of them."""
    left = [times]

    async def written(request: web.Request, seen: Seen, answer: Answer, fault: Fault | None) -> web.StreamResponse:
        if seen.kind == kind and left[0]:
            left[0] -= 1
            answer = change(answer)
        return await drive_faults.written(request, seen, answer, fault)

    patch.setattr("tests.fakes.gdrive.written", written)


def headers(**changed: str | None) -> Callable[[Answer], Answer]:
    def change(answer: Answer) -> Answer:
        for name, value in changed.items():
            answer.headers.pop(name.replace("_", "-"), None)
            if value is not None:
                answer.headers[name.replace("_", "-")] = value
        return answer

    return change


LIES: list[tuple[Callable[[Answer], Answer], type[Failure]]] = [
    (headers(Content_Range="bytes 5-262143/262144"), Damaged),
    (headers(Content_Range="bytes 0-99/262144"), Damaged),
    (headers(Content_Range="bytes 0-262143/262143"), Damaged),
    (headers(Content_Range="bytes 0-262143/*"), Damaged),
    (headers(Content_Range="bytes x-y/z"), Damaged),
    (headers(Content_Range=None), Damaged),
    (headers(Content_Encoding="gzip"), Damaged),
    (headers(X_Goog_Hash="crc32c=AAAAAA=="), Changed),
    (lambda answer: Answer(206, SONG[:-1], {"Content-Range": "bytes 0-262142/262143"}), Changed),
    (lambda answer: Answer(200, SONG + b"x", {}), Changed),
    (lambda answer: Answer(200, b"", {}), Changed),
    (lambda answer: Answer(416, b"", {"Content-Range": "bytes */0"}), Changed),
    (lambda answer: Answer(200, SONG, {}, chunked=True), Damaged),
]


async def test_an_answer_that_cannot_be_the_bytes_is_refused(tmp_path: Path) -> None:
    async with song(tmp_path) as (_, tree):
        await read(tree, "Music/one.flac")
        for number, (change, kind) in enumerate(LIES):
            with pytest.MonkeyPatch.context() as patch:
                answered(patch, "media", change)
                assert type(await failing(read(tree, "Music/one.flac"))) is kind, number
            assert await read(tree, "Music/one.flac") == SONG


async def test_a_server_that_ignores_ranges_is_read_all_the_same(tmp_path: Path) -> None:
    async with song(tmp_path) as (fake, tree):
        fake.fail("media", "whole", times=None)
        blob = await tree.open("Music/one.flac", Ask(200_000))
        assert await blob.read(200_000) == SONG[200_000:]
        assert await blob.read(0, 5) == SONG[:5]


async def test_another_hash_between_ranges_is_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with song(tmp_path) as (fake, tree):
        blob = await tree.open("Music/one.flac", Ask(0, 10))
        assert await blob.read(0, 10) == SONG[:10]
        fake.replace(fake.named("Music/one.flac"), bytes(len(SONG)))
        assert isinstance(await failing(blob.read(1000)), Changed)
        new = await tree.open("Music/one.flac")
        assert await new.read() == bytes(len(SONG)) and new.tag != blob.tag


async def test_without_a_hash_the_feed_tells_that_it_is_another_version(tmp_path: Path) -> None:
    async with song(tmp_path) as (fake, tree):
        fake.crc_headers = False
        blob = await tree.open("Music/one.flac", Ask(0, 10))
        assert await blob.read(0, 10) == SONG[:10]
        fake.replace(fake.named("Music/one.flac"), bytes(len(SONG)))
        later(tree)
        assert isinstance(await failing(blob.read(1000)), Changed)


async def test_hashes_are_the_same_in_whatever_order_google_sends_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with song(tmp_path) as (_, tree):
        blob = await tree.open("Music/one.flac", Ask(0, 10))
        crc = blob.validator  # type: ignore[attr-defined]
        answered(monkeypatch, "media", headers(X_Goog_Hash=f"md5=AAAA, {crc}"))
        assert await blob.read(1000) == SONG[1000:]
        assert await read(tree, "Music/one.flac") == SONG


async def test_a_resource_key_is_kept_where_drive_does_not_repeat_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with drive(tmp_path) as (fake, tree):
        file = fake.file(None, "old.mp3", SONG, resourceKey="0-secret")
        answered(monkeypatch, "get", lambda answer: Answer(200, bytes(answer.body).replace(b'"resourceKey"', b'"x"')))
        assert await read(tree, f"{{{file}!0-secret}}") == SONG


async def test_a_file_of_another_size_than_was_listed_opens_as_it_is_now(tmp_path: Path) -> None:
    async with song(tmp_path) as (fake, tree):
        fake.replace(fake.named("Music/one.flac"), b"shorter")
        blob = await tree.open("Music/one.flac")
        assert await blob.read() == b"shorter" and blob.tag == (await tree.find("Music/one.flac")).tag


LISTED = '{"nextPageToken": %s, "files": %s}'
FILE: dict[str, Any] = {"id": "1abcdefghijk", "name": "x", "mimeType": "text/plain", "parents": ["0A"]}


LISTINGS = [
    b"",
    b"null",
    b"[]",
    b'"files"',
    b"7",
    b"{",
    b'{"files": {}}',
    b'{"files": "x"}',
    b'{"files": null}',
    b'{"files": [], "nextPageToken": 7}',
    b'{"files": [], "nextPageToken": ["x"]}',
    b'{"files": [[]]}',
    b'{"files": [null]}',
    json.dumps({"files": [{**FILE, "size": 12}]}).encode(),
    json.dumps({"files": [{**FILE, "id": "../x"}]}).encode(),
    json.dumps({"files": [{**FILE, "name": 5}]}).encode(),
    json.dumps({"files": [{"id": FILE["id"]}]}).encode(),
    b"[" * 200_000,
    b'{"files": ' + b"[" * 200_000,
    b'{"files": [], "x": ' + b"9" * 10_000 + b"}",
    b"\xff\xfe\x00",
    b"<html>Sign in to the hotel</html>",
]


async def test_a_listing_that_is_not_what_google_documents_is_refused(tmp_path: Path) -> None:
    async with drive(tmp_path) as (fake, tree):
        fake.file("root", "one.flac", b"x")
        for body in LISTINGS:
            with pytest.MonkeyPatch.context() as patch:
                answered(patch, "list", lambda answer: Answer(200, body))  # noqa: B023
                assert isinstance(await failing(names(tree)), Damaged), body[:80]
                assert isinstance(await failing(tree.find("one.flac")), Damaged), body[:80]
        assert await names(tree) == {"one.flac"}


FEEDS = [
    b"[]",
    b"{}",
    b'{"changes": {}, "newStartPageToken": "9"}',
    b'{"changes": [], "newStartPageToken": 9}',
    b'{"changes": [7], "newStartPageToken": "9"}',
    b'{"changes": [{"fileId": "1abcdefghijk", "file": []}], "newStartPageToken": "9"}',
    b'{"changes": [{"fileId": "1abcdefghijk"}], "newStartPageToken": "9"}',
    b'{"changes": [{"fileId": "1abcdefghijk", "file": {"id": "1abcdefghijk"}}], "newStartPageToken": "9"}',
    b'{"changes": []}',
]


async def test_a_feed_that_is_not_what_google_documents_makes_all_be_listed_anew(tmp_path: Path) -> None:
    async with song(tmp_path) as (fake, tree):
        expected = {"one.flac", "two.flac"}
        for number, body in enumerate(FEEDS):
            fake.file("Music", f"{number}", b"x")
            expected.add(f"{number}")
            later(tree)
            with pytest.MonkeyPatch.context() as patch:
                answered(patch, "changes", lambda answer: Answer(200, body), times=1)  # noqa: B023
                assert await names(tree, "Music") == expected, body


async def test_changes_of_other_things_than_files_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with song(tmp_path) as (fake, tree):
        body = b'{"changes": [{"type": "drive", "driveId": "0A"}, {"fileId": 7}], "newStartPageToken": "%d"}'
        answered(monkeypatch, "changes", lambda answer: Answer(200, body % fake.next_change), times=1)
        later(tree)
        with asked(fake, changes=1):
            assert await names(tree, "Music") == {"one.flac", "two.flac"}


async def test_a_start_of_the_feed_that_is_none_is_refused(tmp_path: Path) -> None:
    async with drive(tmp_path) as (_, tree):
        for body in (b"{}", b'{"startPageToken": 7}', b"[]"):
            with pytest.MonkeyPatch.context() as patch:
                answered(patch, "start", lambda answer: Answer(200, body))  # noqa: B023
                assert isinstance(await failing(names(tree)), Damaged)
        assert await names(tree) == set()


async def test_pages_that_never_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("playhead.origins.drive.folders.PAGES", 20)
    for tokens in (['"same"'], ['"a"', '"b"'], [f'"{number}"' for number in range(1000)]):
        turn = iter(tokens * 100)
        with pytest.MonkeyPatch.context() as patch:
            async with drive(tmp_path) as (fake, tree):
                answered(patch, "list", lambda answer: Answer(200, (LISTED % (next(turn), "[]")).encode()))  # noqa: B023
                assert isinstance(await failing(names(tree)), Damaged)
                assert fake.counts["list"] <= 21


async def test_a_feed_that_never_ends_is_not_read_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with song(tmp_path) as (fake, tree):
        body = b'{"changes": [], "nextPageToken": "1"}'
        answered(monkeypatch, "changes", lambda answer: Answer(200, body))
        later(tree)
        assert await names(tree, "Music") == {"one.flac", "two.flac"}
        assert fake.counts["changes"] <= 51


async def test_an_answer_that_is_too_large_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "LARGEST", 1 << 20)
    async with drive(tmp_path) as (fake, tree):
        answered(monkeypatch, "list", lambda answer: Answer(200, b" " * (100 << 20)), times=1)
        assert isinstance(await failing(names(tree)), Damaged)
        assert fake.of("list")[0].sent < 50 << 20
        assert await names(tree) == set()


# ── Google is away ──


@asynccontextmanager
async def kept(fake: FakeDrive, folder: Path) -> AsyncIterator[tuple[DriveTree, Tree]]:
    """A Drive with all that `serve` puts in front of it."""
    origin = tree_of(fake, folder / "drive")
    cache = Cache(Reservoir(str(folder / "blocks"), 1 << 26, 0), 1 << 26)
    tree = cached(listed(retried(origin, Patience(first=0.01)), folder / "listings", name="music"), cache)
    try:
        yield origin, tree
    finally:
        await tree.aclose()
        await cache.aclose()


async def test_the_music_goes_on_while_google_is_away(tmp_path: Path) -> None:
    async with FakeDrive() as fake:
        fake.file("Music", "one.flac", SONG)
        fake.doc("Music", "Notes", {DOCX: b"exported"})
        async with kept(fake, tmp_path) as (_, tree):
            await names(tree, "Music")
            assert await read(tree, "Music/one.flac") == SONG
            async with fake.down():
                assert await names(tree, "Music") == {"one.flac", "Notes.docx"}
                assert await read(tree, "Music/one.flac") == SONG
            assert await read(tree, "Music/Notes.docx") == b"exported"
        async with fake.down(), kept(fake, tmp_path) as (_, tree):
            assert await names(tree, "Music") == {"one.flac", "Notes.docx"}
            assert await read(tree, "Music/one.flac") == SONG
        fake.replace(fake.named("Music/one.flac"), SONG[::-1])
        async with kept(fake, tmp_path) as (origin, tree):
            await origin.folders.caught_up(0)
            async with asyncio.timeout(5):
                while await read(tree, "Music/one.flac") != SONG[::-1]:
                    assert await names(tree, "Music")
                    await asyncio.sleep(0.05)


async def test_a_stream_goes_on_after_google_was_away(tmp_path: Path) -> None:
    async with FakeDrive() as fake:
        fake.file("Music", "one.flac", SONG)
        async with opened(fake, tmp_path) as origin:
            tree = retried(origin, Patience(first=0.05))
            fault = fake.fail("media", "hang", after_bytes=100_000)
            blob = await tree.open("Music/one.flac")
            reading = asyncio.create_task(collected(blob.stream(0, blob.size)))
            await until(lambda: fault.used == 1 and fake.of("media")[0].sent >= 100_000)
            async with fake.down():
                await asyncio.sleep(0.05)
            assert await reading == SONG


async def test_nothing_secret_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with FakeDrive() as fake, opened(fake, tmp_path) as tree:
        file = fake.file(None, "old.mp3", b"x", resourceKey="0-secret")
        await names(tree)
        await read(tree, f"{{{file}!0-secret}}")
        fake.fail("media", 503)
        await failing(read(tree, f"{{{file}!0-secret}}"))
    assert "ya29" not in caplog.text and "0-secret" not in caplog.text
