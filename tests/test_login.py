"""`playhead login`: what a browser brings back is kept, what anybody else brings is refused, and all is said plainly.

The consent page is the fake Google's; the browser is urllib, which follows its redirect to our page.
"""

import argparse
import asyncio
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from playhead import logins, secrets
from playhead.config import Config, parse
from playhead.errors import Denied, Failure, Full, Malformed, Unavailable
from playhead.origins.drive import granted
from playhead.origins.drive.accounts import UserLogin
from playhead.origins.drive.exchange import Send, login_of, sent_by
from playhead.origins.drive.tokens import Tokens
from playhead.origins.fetch import Access, Client
from tests.fakes.gdrive import FakeDrive, threaded

DEADLINE = 20.0
TABLE = {"use": "gdrive", "client_id": "x", "client_secret": "secret:drive"}
NONE = dict.fromkeys(["client_id", "client_secret"])
Browser = Callable[[str], object]


@pytest.fixture(autouse=True)
def own_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAYHEAD_SECRET_DRIVE", "y")


def config(url: str, **changes: Any) -> Config:
    """A configuration with one tree, whose endpoint is a fake's."""
    table = {**TABLE, "endpoint": url, **changes}
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items() if value is not None]
    return parse("\n".join(["[tree.music]", *lines]), Path("playhead.toml"))


async def login(fake: FakeDrive, name: str = "music", **changes: Any) -> int:
    return await logins.run(argparse.Namespace(name=name, headless=False), config(fake.url, **changes))


def get(url: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> tuple[int, str]:
    """The last answer, after redirects."""
    try:
        request = urllib.request.Request(url, method=method, headers=dict(headers or {}))
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            assert answer.headers["Cache-Control"] == "no-store"
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def redirect(url: str) -> str:
    """Where the consent page sends the browser."""

    class Still(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    try:
        urllib.request.build_opener(Still).open(url, timeout=DEADLINE).close()
    except urllib.error.HTTPError as error:
        with error:
            return str(error.headers["Location"])
    raise AssertionError("there was no redirect")


def edited(url: str, **changes: str | None) -> str:
    query = {**dict(parse_qsl(urlsplit(url).query)), **changes}
    return f"{url.partition('?')[0]}?{urlencode({key: text for key, text in query.items() if text is not None})}"


@asynccontextmanager
async def browsing(monkeypatch: pytest.MonkeyPatch, browser: Browser) -> AsyncIterator[list[Any]]:
    """`browser` is called with the URL that is to be opened; what it returns comes into the list."""
    seen: list[Any] = []
    over = asyncio.Event()
    loop = asyncio.get_running_loop()

    def opened(url: str) -> None:
        try:
            seen.append(browser(url))
        except BaseException as error:
            seen.append(error)
        loop.call_soon_threadsafe(over.set)

    monkeypatch.setattr(logins, "_open", opened)
    yield seen
    async with asyncio.timeout(DEADLINE):
        await over.wait()


# ── with a browser here ──


async def test_a_browser_brings_a_login_that_gives_tokens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with FakeDrive() as fake:
        async with browsing(monkeypatch, get) as seen:
            assert await login(fake) == 0
        [(status, page)] = seen
        assert status == 200 and "logged in" in page and "may be closed" in page
        [asked] = fake.of("auth")
        assert asked.query["scope"] == "https://www.googleapis.com/auth/drive.readonly"
        assert (asked.query["access_type"], asked.query["prompt"]) == ("offline", "consent")
        assert asked.query["code_challenge_method"] == "S256" and len(asked.query["state"]) >= 32
        kept = granted.read("music")
        assert (kept.client_id, kept.scopes, kept.account) == ("x", ("drive.readonly",), fake.address)
        client = Client(fake.url, Access())
        tokens = Tokens(UserLogin("music", "x", "y", f"{fake.url}token"), sent_by(client))
        first = await tokens.header()
        assert fake.signin.knows(first) and fake.signin.refreshes == 0  # the one of the login
        assert fake.signin.knows(await tokens.renewed(first)) and fake.signin.refreshes == 1
        await client.aclose()
        out = capsys.readouterr().out
        assert "change nothing (drive.readonly)" in out and fake.address in out and str(granted.place("music")) in out
        for secret in (kept.refresh_token, kept.access_token, first):
            assert secret not in out


async def test_the_page_is_bound_to_this_machine_and_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeDrive() as fake:
        async with browsing(monkeypatch, get):
            await login(fake)
        back = urlsplit(fake.of("auth")[0].query["redirect_uri"])
        assert (back.hostname, back.path) == ("127.0.0.1", "/") and back.port
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", back.port)


async def test_what_is_not_the_answer_is_refused_and_waited_past(monkeypatch: pytest.MonkeyPatch) -> None:
    def browser(url: str) -> dict[str, tuple[int, str]]:
        back = redirect(url)
        twice = f"{back}&state={dict(parse_qsl(urlsplit(back).query))['state']}"
        found = {
            "another path": get(back.replace("/?", "/favicon.ico?")),
            "another method": get(back, "POST"),
            "another host": get(back, headers={"Host": "evil.example"}),
            "nothing": get(back.partition("?")[0]),
            "wrong state": get(edited(back, state="x" * 32)),
            "no state": get(edited(back, state=None)),
            "state of other letters": get(edited(back, state="é")),
            "two states": get(twice),
            "a wrong no": get(edited(back, state="x", code=None, error="access_denied")),
            "no code": get(edited(back, code=None)),
            "an odd code": get(edited(back, code="a b")),
            "many fields": get(f"{back}&{'a=1&' * 200}"),
            "markup": get(edited(back, state="<script>alert(1)</script>")),
        }
        with_it = get(back)
        return {**found, "the answer": with_it}

    async with FakeDrive() as fake:
        async with browsing(monkeypatch, browser) as seen:
            assert await login(fake) == 0
        [found] = seen
        assert {name: status for name, (status, _) in found.items()} == {
            "another path": 404,
            "another method": 404,
            "another host": 404,
            "nothing": 403,
            "wrong state": 403,
            "no state": 403,
            "state of other letters": 403,
            "two states": 403,
            "a wrong no": 403,
            "no code": 403,
            "an odd code": 403,
            "many fields": 403,
            "markup": 403,
            "the answer": 200,
        }
        assert "<script>" not in found["markup"][1] and fake.counts["token"] == 1


async def test_only_the_first_right_answer_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeDrive(latency=0.2) as fake:
        pages: list[tuple[int, str]] = []

        def browser(url: str) -> tuple[int, str]:
            back = redirect(url)
            threads = [threading.Thread(target=lambda: pages.append(get(back))) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return pages[0]

        async with browsing(monkeypatch, browser):
            assert await login(fake) == 0
        assert sorted(status for status, _ in pages) == [200, 410] and fake.counts["token"] == 1


@pytest.mark.parametrize(
    ("error", "words"), [("access_denied", "refuse access"), ("<b>odd</b>", "<b>odd</b>"), ("org_internal", "members")]
)
async def test_a_no_is_told_in_the_browser_and_here(monkeypatch: pytest.MonkeyPatch, error: str, words: str) -> None:
    async with FakeDrive() as fake:
        fake.signin.consent = error
        async with browsing(monkeypatch, get) as seen:
            with pytest.raises(Denied) as caught:
                await login(fake)
        assert words in str(caught.value)
        [(status, page)] = seen
        assert status == 200 and "could not log in" in page and "<b>" not in page
    assert not granted.place("music").exists()


async def test_a_code_that_is_refused_leaves_the_old_login(monkeypatch: pytest.MonkeyPatch) -> None:
    before = granted.Login("x", "R")
    granted.write("music", before)
    async with FakeDrive() as fake:
        async with browsing(monkeypatch, lambda url: get(edited(redirect(url), code="4/stolen"))) as seen:
            with pytest.raises(Denied, match="begin again"):
                await login(fake)
        assert "could not log in" in seen[0][1]
        assert granted.read("music") == before


async def test_a_wrong_client_secret_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAYHEAD_SECRET_DRIVE", "wrong-secret")
    async with FakeDrive() as fake:
        async with browsing(monkeypatch, get) as seen:
            with pytest.raises(Denied, match="client_secret") as caught:
                await login(fake)
        assert "wrong-secret" not in str(caught.value) + seen[0][1]


async def test_nobody_who_answers_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "DEADLINE", 0.1)
    async with FakeDrive() as fake, browsing(monkeypatch, lambda url: None):
        with pytest.raises(Unavailable, match="run it again"):
            await login(fake)


@pytest.mark.parametrize(("write", "scope", "asked"), [(True, None, "drive"), (True, "drive.file", "drive.file")])
async def test_more_access_is_asked_for_only_to_write(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], write: bool, scope: str | None, asked: str
) -> None:
    async with FakeDrive() as fake:
        async with browsing(monkeypatch, get):
            assert await login(fake, write=write, scope=scope) == 0
        assert fake.of("auth")[0].query["scope"] == f"https://www.googleapis.com/auth/{asked}"
    assert f"({asked})" in capsys.readouterr().out and granted.read("music").scopes == (asked,)


async def test_scopes_that_were_unticked_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    narrow = "https://www.googleapis.com/auth/drive.file"
    async with FakeDrive() as fake:
        given = fake.signin._given
        for left, told in ((narrow, "not granted: to see and download all"), ("openid", "")):
            monkeypatch.setattr(fake.signin, "_given", lambda scope, left=left: given(left))
            async with browsing(monkeypatch, get) as seen:
                if told:
                    assert await login(fake, write=True, scope="drive.readonly drive.file") == 0
                    assert told in capsys.readouterr().out
                else:
                    with pytest.raises(Denied, match="tick"):
                        await login(fake, write=True, scope="drive.readonly drive.file")
            assert ("logged in" in seen[0][1]) == bool(told)
    assert granted.read("music").scopes == ("drive.file",)


async def test_an_api_that_is_not_enabled_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with FakeDrive() as fake:
        told = {"error": {"code": 403, "errors": [{"reason": "accessNotConfigured"}]}}

        def telling(client: Client) -> Send:
            send = sent_by(client)

            async def sent(method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Any:
                about = 403, {}, json.dumps(told).encode()
                return about if "about" in url else await send(method, url, body, headers)

            return sent

        monkeypatch.setattr(logins, "sent_by", telling)
        async with browsing(monkeypatch, get):
            assert await login(fake) == 0
        assert "not enabled" in capsys.readouterr().out and granted.read("music").account == ""


@pytest.mark.parametrize("what", [500, "reset", "truncated"])
async def test_a_drive_that_does_not_tell_whose_it_is_is_logged_in_all_the_same(
    monkeypatch: pytest.MonkeyPatch, what: str | int
) -> None:
    async with FakeDrive() as fake:
        fake.fail("about", what, times=None, after_bytes=5 if what == "truncated" else None)
        async with browsing(monkeypatch, get):
            assert await login(fake) == 0
        assert fake.counts["about"] and granted.read("music").account == ""


async def test_a_login_that_cannot_be_kept_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async with FakeDrive() as fake:
        monkeypatch.setattr(granted, "_put", full)
        async with browsing(monkeypatch, get):
            with pytest.raises(Full):
                await login(fake)


# ── what the endpoint may say to a code ──


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, {"access_token": "a", "expires_in": 3600}), "myaccount.google.com/permissions"),
        ((400, {"error": "redirect_uri_mismatch"}), "Desktop app"),
        ((200, {"access_token": "a b", "refresh_token": "r"}), "not a token"),
        ((200, {"access_token": "a", "refresh_token": "r", "expires_in": "soon"}), "not a token"),
        ((200, {"access_token": "a", "refresh_token": "r s"}), "no refresh token"),
        ((200, []), "not a token"),
        ((503, {}), "503"),
    ],
)
async def test_an_answer_that_is_no_login_is_told(answer: tuple[int, Any], words: str) -> None:
    async def send(*_: object) -> tuple[int, Mapping[str, str], bytes]:
        return answer[0], {}, json.dumps(answer[1]).encode()

    with pytest.raises(Failure, match=re.escape(words)):
        await login_of(send, "https://t.example/token", "code", "v", "http://127.0.0.1:9/", "x", "y", "music")


# ── which trees log in ──


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("other", {}, "'other' is not a tree"),
        ("music", {"use": "local", "root": "x", "endpoint": None, **NONE}, "needs no login"),
        ("music", {"service_account": "key.json"}, "service account: it needs no login"),
        ("music", {"client_secret": None}, "client_secret"),
        ("music", {"client_secret": "secret:nowhere"}, "there is no secret"),
        ("music", {"scope": "drive.everything"}, "drive.readonly"),
    ],
)
async def test_a_tree_that_cannot_log_in_says_why(name: str, changes: dict[str, Any], words: str) -> None:
    async with FakeDrive() as fake:
        with pytest.raises(Malformed) as caught:
            await login(fake, name, **changes)
        assert words in str(caught.value) and caught.value.code == 2 and not fake.requests


async def test_nothing_is_sent_in_clear() -> None:
    with pytest.raises(Malformed, match="https only"):
        await logins.run(argparse.Namespace(name="music", headless=False), config("http://google.example/"))


def test_a_browser_in_this_terminal_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    class Text(logins.webbrowser.GenericBrowser):
        opened = 0

        def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:
            Text.opened += 1
            return True

    text = logins.webbrowser.GenericBrowser("true")
    monkeypatch.delenv("BROWSER", raising=False)
    monkeypatch.setattr(text, "open", lambda url: pytest.fail("it was opened"))
    monkeypatch.setattr(logins.webbrowser, "get", lambda: text)
    logins._open("http://127.0.0.1:9/")
    monkeypatch.setattr(logins.webbrowser, "get", lambda: Text("true"))
    logins._open("http://127.0.0.1:9/")
    assert Text.opened == 1  # one with a window


# ── with a browser elsewhere, as a program ──

PROGRAM = """
import argparse, asyncio, os, sys
sys.path.insert(0, os.getcwd())
from playhead import logins
from playhead.errors import Failure
from tests.test_login import config
url, headless, deadline = sys.argv[1], sys.argv[2] == "headless", sys.argv[3]
logins.DEADLINE = float(deadline)
options = argparse.Namespace(name="music", headless=headless)
try:
    with asyncio.Runner() as runner:
        code = runner.run(logins.run(options, config(url)))
except Failure as failure:
    print(failure, file=sys.stderr)
    code = failure.code
except KeyboardInterrupt:
    code = 130
sys.exit(code)
"""


@contextmanager
def program(fake: FakeDrive, how: str = "headless", deadline: float = 60) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, fake.url, how, str(deadline)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "BROWSER": "true %s"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE)


def said(process: "subprocess.Popen[bytes]", pattern: str) -> "re.Match[str]":
    """What a program prints, as soon as it is what is waited for; nothing is taken beyond it."""
    assert process.stdout
    text = ""
    while not (found := re.search(pattern, text)):
        assert select.select([process.stdout], [], [], DEADLINE)[0], text
        more = os.read(process.stdout.fileno(), 1)
        assert more, text
        text += more.decode()
    return found


def asked(process: "subprocess.Popen[bytes]") -> str:
    """The URL that a program wants opened."""
    return said(process, r"\n\n  (http\S+)\n")[1]


def test_what_is_pasted_logs_in() -> None:
    with threaded(FakeDrive()) as fake:
        for shape in (
            lambda back: back,
            lambda back: f"  '{back}'  ",
            lambda back: f"\n{back}\n\n",
            lambda back: back.partition("://")[2],
            lambda back: back.partition("?")[2],
            lambda back: dict(parse_qsl(urlsplit(back).query))["code"],
            lambda back: dict(parse_qsl(urlsplit(back).query))["code"].replace("/", "%2F"),
        ):
            granted.place("music").unlink(missing_ok=True)
            with program(fake) as process:
                back = redirect(asked(process))
                assert urlsplit(back).hostname == "127.0.0.1"
                out, err = process.communicate(f"{shape(back)}\n".encode(), timeout=DEADLINE)
                assert (process.returncode, err) == (0, b""), (out, err)
            assert granted.read("music").refresh_token in fake.signin.refresh_tokens


def test_what_is_pasted_wrong_is_asked_for_again() -> None:
    with threaded(FakeDrive()) as fake, program(fake) as process:
        back = redirect(asked(process))
        assert process.stdin
        for wrong in ("http://127.0.0.1:1/?state=other&code=4/x", edited(back, state=None), "what?", "two words"):
            process.stdin.write(f"{wrong}\n".encode())
            process.stdin.flush()
            said(process, "; paste the whole address")
        out, err = process.communicate(f"{back}\n".encode(), timeout=DEADLINE)
        assert (process.returncode, err) == (0, b""), (out, err)


def test_nothing_pasted_ends_it() -> None:
    with threaded(FakeDrive()) as fake, program(fake) as process:
        _, err = process.communicate(b"", timeout=DEADLINE)
        assert (process.returncode, err) == (4, b"nothing was pasted\n")


def test_a_no_that_is_pasted_ends_it() -> None:
    with threaded(FakeDrive()) as fake, program(fake) as process:
        fake.signin.consent = "access_denied"
        _, err = process.communicate(f"{redirect(asked(process))}\n".encode(), timeout=DEADLINE)
        assert process.returncode == 4 and b"refuse access" in err


def test_one_who_never_pastes_is_not_waited_for_for_ever() -> None:
    with threaded(FakeDrive()) as fake, program(fake, deadline=0.5) as process:
        assert process.wait(DEADLINE) == 7
        assert process.stderr and b"nobody answered" in process.stderr.read()


@pytest.mark.parametrize("how", ["headless", "browser"])
def test_ctrl_c_ends_it_cleanly(how: str) -> None:
    with threaded(FakeDrive()) as fake, program(fake, how) as process:
        url = asked(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 130
        assert process.stderr and process.stderr.read() == b""
        if how == "browser":
            with pytest.raises(urllib.error.URLError):
                urllib.request.urlopen(redirect(url), timeout=DEADLINE)
    assert not granted.place("music").exists()


def test_the_browser_that_the_user_has_named_is_opened(tmp_path: Path) -> None:
    opener = tmp_path / "browser.py"
    opener.write_text("import sys, urllib.request; urllib.request.urlopen(sys.argv[1]).read()")
    with threaded(FakeDrive()) as fake:
        process = subprocess.run(
            [sys.executable, "-c", PROGRAM, fake.url, "browser", "60"],
            env={**os.environ, "BROWSER": f"{sys.executable} {opener} %s"},
            capture_output=True,
            timeout=DEADLINE,
        )
        assert (process.returncode, process.stderr) == (0, b"")
    assert secrets.scrub(process.stdout.decode()) and granted.read("music").scopes == ("drive.readonly",)
