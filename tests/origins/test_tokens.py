"""Tokens for Google: one request whoever waits, kept and renewed; refusals told apart; no secret in what is said.

Most of it runs against the fake Google Drive over HTTP; what no truthful server would say comes from a script.
"""

import asyncio
import json
import logging
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from playhead import secrets
from playhead.errors import Busy, Damaged, Denied, Failure, Malformed, NotFound, Unavailable, Unknown
from playhead.origins.drive import granted
from playhead.origins.drive import tokens as google
from playhead.origins.drive.accounts import Doors, ServiceAccount, UserLogin, doors, may_write, scopes_of
from playhead.origins.drive.exchange import sent_by
from playhead.origins.drive.granted import Login, from_rclone
from playhead.origins.drive.tokens import Tokens
from playhead.origins.fetch import Access, Client
from tests.fakes.gdrive import FakeDrive
from tests.fakes.proxies import HttpProxy

ENDPOINT = "https://oauth2.example/token"
SECRET = "GOCSPX-the-client's-own"
LOGIN = Login("x", "R", ("drive.readonly",), "ann@example.org")


class Script:
    """A token endpoint that says what it is told to: statuses and bodies in turn, the last one for ever."""

    def __init__(self, *answers: tuple[int, Any] | Exception) -> None:
        self.answers = list(answers)
        self.forms: list[dict[str, str]] = []
        self.before: Callable[[], object] = lambda: None  # called while a request is under way
        self.gate: asyncio.Event | None = None  # holds all requests up
        self.headers: Mapping[str, str] = {}
        self.came, self.ended = asyncio.Event(), asyncio.Event()  # a request: begun, over

    async def __call__(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        assert (method, url) == ("POST", ENDPOINT)
        self.forms.append({key: value for key, [value] in parse_qs(body.decode()).items()})
        self.came.set()
        try:
            if self.gate:
                await self.gate.wait()
            self.before()
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if isinstance(answer, Exception):
                raise answer
            status, told = answer
            return status, self.headers, told if isinstance(told, bytes) else json.dumps(told).encode()
        finally:
            self.ended.set()


def good(token: str = "ya29.new", **more: object) -> tuple[int, Any]:
    return 200, {"access_token": token, "expires_in": 3600, "token_type": "Bearer", **more}


def bad(error: object, said: str = "", status: int = 400) -> tuple[int, Any]:
    return status, {"error": error, "error_description": said}


def scripted(*answers: tuple[int, Any] | Exception, login: Login | None = LOGIN) -> tuple[Tokens, Script]:
    """The tokens of a tree `music`, whose login is kept, and the endpoint that gives them."""
    if login:
        granted.write("music", login)
    script = Script(*answers)
    return again(script), script


def again(script: Script) -> Tokens:
    """As after a restart."""
    return Tokens(UserLogin("music", "x", SECRET, ENDPOINT), script)


async def refused(tokens: Tokens) -> Failure:
    with pytest.raises(Failure) as caught:
        await tokens.header()
    return caught.value


def changed(**values: Any) -> None:
    """Edit the kept login by hand."""
    path = granted.place("music")
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


# ── over HTTP ──


async def test_a_token_opens_the_drive_and_a_refused_one_is_renewed() -> None:
    granted.write("music", LOGIN)
    async with FakeDrive() as fake:
        client = Client(fake.url, Access())
        tokens = Tokens(UserLogin("music", "x", "y", f"{fake.url}token"), sent_by(client))
        first = await tokens.header()
        assert fake.signin.knows(first) and await tokens.header() == first
        fake.signin.expire()
        second = await tokens.renewed(first)
        assert second != first and fake.signin.knows(second) and fake.signin.refreshes == 2
        await tokens.aclose()
        await client.aclose()


async def test_token_requests_go_through_the_proxy_of_the_source() -> None:
    granted.write("music", LOGIN)
    async with FakeDrive() as fake, HttpProxy() as proxy:
        client = Client(fake.url, Access(proxy=proxy.url()))
        tokens = Tokens(UserLogin("music", "x", "y", f"{fake.url}token"), sent_by(client))
        assert fake.signin.knows(await tokens.header())
        assert len(proxy.asked) == 1
        await client.aclose()


@pytest.mark.parametrize("what", [503, "reset", "truncated"])
async def test_an_endpoint_that_fails_is_unavailable_and_asked_again(what: str | int) -> None:
    granted.write("music", LOGIN)
    async with FakeDrive() as fake:
        client = Client(fake.url, Access())
        tokens = Tokens(UserLogin("music", "x", "y", f"{fake.url}token"), sent_by(client))
        fake.fail("token", what, after_bytes=10 if what == "truncated" else None)
        assert (await refused(tokens)).again
        assert fake.signin.knows(await tokens.header()) and fake.counts["token"] == 2
        await client.aclose()


@pytest.mark.parametrize("subject", [None, "ann@example.org"])
async def test_a_service_account_signs_for_its_token(tmp_path: Path, subject: str | None) -> None:
    async with FakeDrive() as fake:
        client = Client(fake.url, Access())
        key = json.dumps(fake.service_account())
        (tmp_path / "key.json").write_text(key)
        for given in (key, str(tmp_path / "key.json")):
            tokens = Tokens(ServiceAccount("music", given, ("drive.readonly",), subject), sent_by(client))
            header = await tokens.header()
            assert fake.signin.knows(header)
            assert fake.signin.scopes[header.removeprefix("Bearer ")].endswith("/auth/drive.readonly")
            assert fake.signin.subjects[-1] == (subject or "")
            assert "service account robot-1@" in await tokens.report()
        assert fake.counts["token"] == 2
        await client.aclose()


async def test_a_service_account_that_is_refused_is_told_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeDrive() as fake:
        client = Client(fake.url, Access())
        path = tmp_path / "key.json"
        ours, other = fake.service_account(), fake.service_account()
        path.write_text(json.dumps({**ours, "private_key": other["private_key"]}))
        tokens = Tokens(ServiceAccount("music", str(path), ("drive",)), sent_by(client))
        failure = await refused(tokens)
        assert isinstance(failure, Unknown) and "robot-1@" in str(failure) and "key" in str(failure)
        assert str(await refused(tokens)) == str(failure) and fake.counts["token"] == 1
        path.write_text(json.dumps(ours))  # the right key: noticed without waiting
        assert fake.signin.knows(await tokens.header())

        import google.auth._helpers as clock

        ahead = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=2)
        monkeypatch.setattr(clock, "utcnow", lambda: ahead)
        late = Tokens(ServiceAccount("music", str(path), ("drive",)), sent_by(client))
        assert "set the clock" in str(await refused(late))
        await client.aclose()


# ── one request, whoever waits ──


async def test_twenty_at_once_make_one_request() -> None:
    tokens, script = scripted(good("a"), good("b"), good("c"))
    assert {await one for one in asyncio.as_completed([tokens.header() for _ in range(20)])} == {"Bearer a"}
    assert len(script.forms) == 1
    found = await asyncio.gather(*(tokens.renewed("Bearer a") for _ in range(20)))
    assert set(found) == {"Bearer b"} and len(script.forms) == 2
    assert await tokens.renewed("Bearer a") == "Bearer b" and len(script.forms) == 2  # one who comes late


async def test_one_who_leaves_does_not_end_the_request_of_the_others() -> None:
    tokens, script = scripted(good())
    script.gate = asyncio.Event()
    waiting = [asyncio.create_task(tokens.header()) for _ in range(5)]
    await script.came.wait()
    waiting[0].cancel()
    await asyncio.wait([waiting[0]])
    script.gate.set()
    assert waiting[0].cancelled() and set(await asyncio.gather(*waiting[1:])) == {"Bearer ya29.new"}
    assert len(script.forms) == 1


async def test_those_who_wait_together_fail_each_with_its_own_error() -> None:
    tokens, _ = scripted(bad("invalid_grant"))
    first, second = await asyncio.gather(refused(tokens), refused(tokens))
    first.add_note("while opening a.mp3")
    assert first is not second and "a.mp3" not in second.told


async def test_a_request_that_hangs_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(google, "DEADLINE", 0.1)
    tokens, script = scripted(good())
    script.gate = asyncio.Event()
    assert isinstance(await refused(tokens), Unavailable)
    await script.ended.wait()
    script.gate = None
    assert await tokens.header() == "Bearer ya29.new"


async def test_closing_ends_those_who_wait() -> None:
    tokens, script = scripted(good())
    script.gate = asyncio.Event()
    waiting = [asyncio.create_task(refused(tokens)) for _ in range(3)]
    await script.came.wait()
    await tokens.aclose()
    assert {type(await task) for task in [*waiting, asyncio.create_task(refused(tokens))]} == {Unavailable}
    async with asyncio.timeout(5):
        await script.ended.wait()  # the request itself too
    assert len(script.forms) == 1


async def test_a_token_given_again_though_refused_ends_the_attempts() -> None:
    tokens, script = scripted(good("same"))
    with pytest.raises(Unavailable):
        await tokens.renewed(await tokens.header())
    assert len(script.forms) <= 3


# ── kept ──


async def test_a_restart_asks_nobody() -> None:
    tokens, script = scripted(good("a"))
    assert await tokens.header() == await again(script).header() == "Bearer a"
    assert len(script.forms) == 1
    assert "kept" not in repr(tokens.grant) and granted.read("music").account == "ann@example.org"


async def test_what_another_process_renewed_is_used() -> None:
    tokens, script = scripted(good("a"), good("b"))
    other = again(script)
    await tokens.header()
    await other.renewed("Bearer a")
    assert await tokens.renewed("Bearer a") == "Bearer b" and len(script.forms) == 2


async def test_a_refresh_token_that_changes_is_kept() -> None:
    tokens, script = scripted(good("a", refresh_token="R2"), good("b"))
    await tokens.header()
    assert granted.read("music").refresh_token == "R2"
    await again(script).renewed("Bearer a")
    assert [form["refresh_token"] for form in script.forms] == ["R", "R2"]


async def test_a_refresh_token_that_cannot_be_kept_is_used_and_kept_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tokens, script = scripted(good("a", refresh_token="R2"), good("b"), good("c"))
    with monkeypatch.context() as patch:
        patch.setattr(granted, "_put", _no_room)
        assert await tokens.header() == "Bearer a"
        assert await tokens.renewed("Bearer a") == "Bearer b"
    assert "could not be kept" in caplog.text and "R2" not in caplog.text.replace("[secret]", "")
    assert await tokens.renewed("Bearer b") == "Bearer c"
    assert [form["refresh_token"] for form in script.forms] == ["R", "R2", "R2"]
    assert granted.read("music").refresh_token == "R2"


def _no_room(path: Path, login: Login) -> None:
    raise OSError(28, "No space left on device", str(path))


async def test_a_token_is_renewed_before_its_end_without_anyone_waiting() -> None:
    tokens, script = scripted(good("a", expires_in=100), good("b"))
    assert await tokens.header() == "Bearer a"
    _age(tokens, 70)  # 30 s are left
    script.gate = asyncio.Event()
    assert [await tokens.header() for _ in range(5)] == ["Bearer a"] * 5
    script.gate.set()
    assert tokens._flight
    await tokens._flight
    assert await tokens.header() == "Bearer b" and len(script.forms) == 2


async def test_a_token_at_its_end_is_waited_for() -> None:
    tokens, script = scripted(good("a", expires_in=100), good("b"))
    await tokens.header()
    _age(tokens, 95)
    assert await tokens.header() == "Bearer b" and len(script.forms) == 2


async def test_a_token_is_used_to_its_end_while_the_endpoint_is_down() -> None:
    tokens, script = scripted(good("a", expires_in=100), Unavailable("down"))
    await tokens.header()
    _age(tokens, 70)
    for _ in range(10):
        assert await tokens.header() == "Bearer a"
        await asyncio.sleep(0.01)
    assert len(script.forms) == 2  # it was tried, and is left in peace for a while
    _age(tokens, 25)
    assert isinstance(await refused(tokens), Unavailable)


def _age(tokens: Tokens, seconds: float) -> None:
    """As if so much time had passed."""
    assert tokens._token
    tokens._token = replace(tokens._token, expires=tokens._token.expires - seconds, stale=tokens._token.stale - seconds)
    changed(expires=tokens._token.expires)


async def test_the_account_is_known_by_the_same_after_a_new_login_of_it_only() -> None:
    tokens, script = scripted(good())
    before = tokens.known_by
    await tokens.header()
    granted.write("music", replace(LOGIN, refresh_token="R3", obtained=datetime.now(UTC)))
    assert before and tokens.known_by == again(script).known_by == before
    granted.write("music", replace(LOGIN, account="bob@example.org"))
    assert again(script).known_by != before
    unknown = replace(LOGIN, account="")
    granted.write("music", unknown)
    assert len({before, again(script).known_by}) == 2


# ── refused ──


async def test_a_login_that_is_no_longer_accepted_is_asked_about_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, script = scripted(bad("invalid_grant", "Token has been expired or revoked."))
    failures = [await refused(tokens) for _ in range(3)]
    assert {type(failure) for failure in failures} == {Unknown} and len(script.forms) == 1
    for words in ("tree music", "7 days", "`playhead login music`", "expired or revoked"):
        assert words in str(failures[0])
    later = time.monotonic() + google.REMEMBERED
    monkeypatch.setattr(google.time, "monotonic", lambda: later)
    await refused(tokens)
    assert len(script.forms) == 2


async def test_a_new_login_is_taken_without_a_restart() -> None:
    tokens, script = scripted(bad("invalid_grant"), good())
    await refused(tokens)
    granted.write("music", replace(LOGIN, refresh_token="R2"))
    assert await tokens.header() == "Bearer ya29.new"
    assert [form["refresh_token"] for form in script.forms] == ["R", "R2"]


async def test_a_login_made_while_the_old_one_is_refused_is_taken_at_once() -> None:
    tokens, script = scripted(bad("invalid_grant"), good())
    script.before = lambda: granted.write("music", replace(LOGIN, refresh_token="R2"))
    assert await tokens.header() == "Bearer ya29.new" and len(script.forms) == 2


async def test_a_login_made_while_the_old_one_is_renewed_is_not_overwritten() -> None:
    tokens, script = scripted(good("a", refresh_token="R1b"), good("b"))
    script.before = lambda: granted.write("music", replace(LOGIN, refresh_token="R2"))
    await tokens.header()
    assert granted.read("music").refresh_token == "R2"
    script.before = lambda: None
    await tokens.renewed("Bearer a")
    assert script.forms[-1]["refresh_token"] == "R2"


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (bad("invalid_client", "The OAuth client was not found.", 401), Denied, "client_secret"),
        (bad("deleted_client", "The OAuth client was deleted.", 401), Denied, "`playhead login music`"),
        (bad("disabled_client"), Denied, "disabled"),
        (bad("unauthorized_client", "Unauthorized", 401), Denied, "Desktop app"),
        (bad("access_denied", "", 403), Denied, "administrator"),
        (bad("admin_policy_enforced"), Denied, "policy"),
        (bad("org_internal"), Denied, "organisation"),
        (bad("invalid_scope"), Denied, "scope"),
        (bad("something_new", "with reasons"), Denied, "something_new: with reasons"),
        (bad({"status": "PERMISSION_DENIED"}), Denied, "PERMISSION_DENIED"),
        (bad("invalid_grant", "\x1b[2J\u202eBad\r\nRequest" + "x" * 10_000), Unknown, "_[2J_Bad__Request"),
        (bad("internal_failure"), Unavailable, "try again"),
        (bad("rate_limit_exceeded", "", 429), Busy, "too many"),
        ((500, b"oops"), Unavailable, "500"),
        ((503, {"error": "invalid_grant"}), Unavailable, "503"),
        ((403, b"<html>please log in to the hotel's network"), Unavailable, "in between"),
        ((302, b""), Unavailable, "302"),
        ((407, b""), Unavailable, "407"),
        ((400, b"[" * 60_000), Unavailable, "400"),
        ((400, b"x" * 100_000), Damaged, "65,536"),
        (OSError("no route"), Unavailable, "no token in time"),
    ],
)
async def test_refusals_are_told_apart(answer: tuple[int, Any] | Exception, kind: type[Failure], words: str) -> None:
    tokens, script = scripted(answer)
    failure = await refused(tokens)
    assert type(failure) is kind and words in str(failure), str(failure)
    assert "\n" not in str(failure) and len(str(failure)) < 600
    await refused(tokens)
    assert len(script.forms) == (2 if failure.again else 1)


async def test_a_busy_endpoint_says_when_to_come_back() -> None:
    tokens, script = scripted(bad("slow_down", "", 429))
    script.headers = {"RETRY-AFTER": "7"}
    assert (await refused(tokens)).after == 7


@pytest.mark.parametrize("hours", [-3, 2])
async def test_a_wrong_clock_is_told(hours: int) -> None:
    said = "Invalid JWT: Token must be a short-lived token (60 minutes). Check your iat and exp values"
    async with FakeDrive() as fake:
        key = json.dumps({**fake.service_account(), "token_uri": ENDPOINT})
    script = Script(bad("invalid_grant", said))
    script.headers = {"Date": formatdate(time.time() - hours * 3600, usegmt=True)}
    failure = await refused(Tokens(ServiceAccount("music", key, ("drive",)), script))
    assert isinstance(failure, Denied) and "set the clock" in str(failure)
    assert f"{abs(hours) * 60} minutes {'ahead' if hours > 0 else 'behind'}" in str(failure)


@pytest.mark.parametrize("error", ["unauthorized_client", "access_denied"])
async def test_a_service_account_that_may_not_act_for_somebody_is_told(error: str) -> None:
    async with FakeDrive() as fake:
        key = json.dumps(fake.service_account())
    account = ServiceAccount("music", key, ("drive.readonly",), "ann@example.org", token_uri=ENDPOINT)
    failure = await refused(Tokens(account, Script(bad(error, "", 401))))
    for words in ("robot-1@", "ann@example.org", "Domain-wide delegation", "auth/drive.readonly"):
        assert isinstance(failure, Denied) and words in str(failure)


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b"",
        b"\xff",
        b"[" * 60_000,
        b"null",
        [],
        "ya29",
        {},
        {"access_token": None},
        {"access_token": ""},
        {"access_token": "two words"},
        {"access_token": "a\r\nX-Evil: 1"},
        {"access_token": "x" * 20_000},
        {"access_token": ["a"]},
        {"access_token": "a", "expires_in": "soon"},
        {"access_token": "a", "expires_in": 1e300},
        {"access_token": "a", "expires_in": -1e300},
        {"access_token": "a", "expires_in": {}},
        {"access_token": "a", "expires_in": float("nan")},
        {"access_token": "a", "token_type": "mac"},
        {"access_token": "a", "token_type": 7},
        {"access_token": "x" * 70_000},
    ],
)
async def test_what_is_not_a_token_is_damaged(answer: Any) -> None:
    tokens, _ = scripted((200, answer))
    assert isinstance(await refused(tokens), Damaged)
    assert granted.read("music") == LOGIN


@pytest.mark.parametrize("odd", [7, "", "two words", None, "a\nb"])
async def test_an_odd_refresh_token_does_not_replace_the_good_one(odd: object) -> None:
    tokens, _ = scripted(good(refresh_token=odd))
    await tokens.header()
    assert granted.read("music").refresh_token == "R"


async def test_no_secret_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    login = replace(LOGIN, refresh_token="1//refresh-secret", access_token="ya29.old-secret", expires=1.0)
    echo = f"we got 1//refresh-secret and {SECRET}, not ya29.old-secret"
    tokens, script = scripted(bad("invalid_grant", echo), login=login)
    failure = await refused(tokens)
    script.answers = [good("ya29.new-secret")]
    granted.write("music", replace(login, refresh_token="1//other-secret"))
    header = await tokens.header()
    said = [repr(thing) for thing in (tokens, tokens.grant, tokens._token, login, failure, failure.__cause__)]
    for text in [*said, str(failure), caplog.text, secrets.scrub(header)]:
        for secret in ("refresh-secret", "old-secret", "new-secret", "other-secret", SECRET):
            assert secret not in text, text


# ── the file of a login ──


def test_only_its_owner_can_read_a_login() -> None:
    path = granted.write("music", LOGIN)
    assert path == granted.place("music") and granted.read("music") == LOGIN
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {item.name for item in path.parent.iterdir()} == {"music.json", ".lock"}
    path.parent.chmod(0o755)
    granted.write("music", LOGIN)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_write_that_fails_leaves_the_old_login(monkeypatch: pytest.MonkeyPatch) -> None:
    path = granted.write("music", LOGIN)
    monkeypatch.setattr(os, "fsync", lambda fd: _no_room(path, LOGIN))
    with pytest.raises(OSError):
        granted.write("music", replace(LOGIN, refresh_token="R2"))
    assert granted.read("music") == LOGIN and {item.name for item in path.parent.iterdir()} == {"music.json", ".lock"}


def test_one_who_writes_waits_for_another_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(granted, "PATIENCE", 0.05)
    with granted._locked(granted.write("music", LOGIN).parent), pytest.raises(Busy):
        granted.write("music", LOGIN)
    granted.write("music", LOGIN)


def _replaced_by(make: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda path: (path.unlink(), make(path))


@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        (Path.unlink, NotFound, "no login yet"),
        (lambda path: path.chmod(0o640), Denied, "chmod 600"),
        (lambda path: changed(version=2), Malformed, "later version"),
        (lambda path: path.write_bytes(b""), Malformed, "damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), Malformed, "damaged"),
        (lambda path: path.write_bytes(b"[" * 60_000), Malformed, "damaged"),
        (lambda path: path.write_bytes(b" " * 70_000 + path.read_bytes()), Malformed, "damaged"),
        (lambda path: path.write_bytes(b"[]"), Malformed, "damaged"),
        (lambda path: changed(version="1"), Malformed, "damaged"),
        (lambda path: changed(refresh_token="a b"), Malformed, "damaged"),
        (lambda path: changed(access_token="a\nb"), Malformed, "damaged"),
        (lambda path: changed(expires=float("inf")), Malformed, "damaged"),
        (lambda path: changed(scopes=[1]), Malformed, "damaged"),
        (lambda path: changed(obtained="yesterday"), Malformed, "damaged"),
        (_replaced_by(os.mkfifo), Malformed, "damaged"),
        (_replaced_by(Path.mkdir), Malformed, "damaged"),
    ],
)
async def test_a_login_that_cannot_be_used_says_what_to_do(
    spoil: Callable[[Path], object], kind: type[Failure], words: str
) -> None:
    tokens, script = scripted(good())
    spoil(granted.place("music"))
    with pytest.raises(kind) as caught:
        granted.read("music")
    assert words in str(caught.value) and "playhead login music" in str(caught.value)
    failure = await refused(tokens)
    assert str(failure) == str(caught.value) and not script.forms
    assert isinstance(failure, Unknown if kind is NotFound else kind)


async def test_a_login_of_another_client_is_not_used() -> None:
    tokens, script = scripted(good(), login=replace(LOGIN, client_id="other"))
    failure = await refused(tokens)
    assert isinstance(failure, Unknown) and "another client_id" in str(failure) and not script.forms


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "A", "a.json", "a\n", "é"])
def test_only_the_name_of_a_tree_names_a_login(name: str) -> None:
    with pytest.raises(Malformed):
        granted.place(name)


# ── what is asked for, and by whom ──


def test_the_least_access_is_asked_for() -> None:
    assert scopes_of(write=False) == ("drive.readonly",) and scopes_of(write=True) == ("drive",)
    assert scopes_of(write=True, scope="drive.file") == ("drive.file",)
    assert scopes_of(write=True, scope="drive.readonly drive.file") == ("drive.readonly", "drive.file")
    for write, scope in ((True, "drive.readonly"), (False, "drive.everything"), (False, "drive,drive.file")):
        with pytest.raises(Malformed, match="scope"):
            scopes_of(write=write, scope=scope)
    assert may_write(["drive.file"]) and not may_write(["drive.readonly"])


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("{", "not JSON"),
        ("{" * 60_000, "not JSON"),
        ('{"installed": {"client_id": "x"}}', "client_id and client_secret"),
        ('{"type": "authorized_user"}', "another kind"),
        ('{"type": "service_account"}', "no client_email"),
        ('{"type": "service_account", "client_email": "a@b", "private_key": 7}', "no private_key"),
        (
            '{"type": "service_account", "client_email": "a@b", "private_key": "k", "private_key_id": "1"}',
            "private_key cannot be read",
        ),
        ("/nowhere/key.json", "no file"),
    ],
)
async def test_what_is_not_a_service_account_is_told(key: str, words: str) -> None:
    failure = await refused(Tokens(ServiceAccount("music", key, ("drive",)), Script(good())))
    assert isinstance(failure, Malformed | NotFound) and words in str(failure) and "tree music" in str(failure)


async def test_a_signed_claim_is_not_sent_in_clear() -> None:
    async with FakeDrive() as fake:
        key = json.dumps(fake.service_account("http://example.org/token"))
    failure = await refused(Tokens(ServiceAccount("music", key, ("drive",)), Script(good())))
    assert isinstance(failure, Malformed) and "https only" in str(failure)


async def test_the_doctor_hears_of_a_login_and_whether_it_is_still_good() -> None:
    tokens, script = scripted(good("a"), good("b"), bad("invalid_grant"))
    told = await tokens.report()
    assert "ann@example.org" in told and "change nothing" in told and len(script.forms) == 1
    restarted = again(script)
    await restarted.report()  # the kept token proves nothing: it is asked
    assert len(script.forms) == 2
    with pytest.raises(Unknown):
        await again(script).report()


# ── rclone's ──

RCLONE = {
    "access_token": "ya29.r",
    "token_type": "Bearer",
    "refresh_token": "1//r",
    "expiry": "2020-01-01T00:00:00.123456789+02:00",
}


async def test_the_token_of_an_rclone_remote_becomes_a_login() -> None:
    login = from_rclone(json.dumps(RCLONE), "x", SECRET, "drive.readonly")
    assert (login.client_id, login.refresh_token, login.scopes) == ("x", "1//r", ("drive.readonly",))
    tokens, script = scripted(good(), login=login)
    assert await tokens.header() == "Bearer ya29.new" and script.forms[0]["refresh_token"] == "1//r"
    alive = {**RCLONE, "expiry": (datetime.now(UTC) + timedelta(minutes=30)).isoformat()}
    tokens, script = scripted(good(), login=from_rclone(json.dumps(alive), "x", SECRET))
    assert await tokens.header() == "Bearer ya29.r" and not script.forms and tokens.scopes == ("drive",)


@pytest.mark.parametrize(
    "token", ["", "{", "[]", "null", "[" * 60_000, "{}", '{"refresh_token": 7}', '{"refresh_token": "a b"}']
)
def test_a_token_of_rclone_that_cannot_be_renewed_is_told(token: str) -> None:
    with pytest.raises(Malformed, match="playhead login"):
        from_rclone(token, "x", SECRET)


@pytest.mark.parametrize("odd", [{"expiry": "never"}, {"expiry": 7}, {"access_token": "a\nb"}, {"access_token": None}])
def test_an_odd_access_token_of_rclone_is_left(odd: dict[str, object]) -> None:
    assert from_rclone(json.dumps({**RCLONE, **odd}), "x", SECRET).access_token == ""


def test_rclones_own_client_is_not_brought() -> None:
    with pytest.raises(Malformed, match=r"retired.*client_id"):
        from_rclone(json.dumps(RCLONE), "", "")


# ── what is installed ──


def test_without_google_auth_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.auth", None)
    with pytest.raises(Malformed, match=r"pip install 'playhead\[gdrive\]'"):
        scripted(good())


def test_neither_requests_nor_google_auth_is_loaded_by_import() -> None:
    code = (
        "import sys, asyncio, playhead.logins\n"
        "assert not any(name.startswith('google') for name in sys.modules)\n"
        "from playhead.origins.drive.exchange import Requests, LOGIN, fresh\n"
        "from google.oauth2.credentials import Credentials\n"
        "from google.oauth2 import service_account\n"
        "assert 'requests' not in sys.modules and 'urllib3' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_the_endpoints_of_google_are_those_that_it_documents() -> None:
    assert doors(None) == Doors(
        "https://accounts.google.com/o/oauth2/v2/auth",
        "https://oauth2.googleapis.com/token",
        "https://www.googleapis.com/drive/v3/about",
    )
    assert doors("http://127.0.0.1:9/").token == "http://127.0.0.1:9/token"
    with pytest.raises(Malformed, match="https only"):
        doors("http://192.0.2.1/")
