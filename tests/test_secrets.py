"""No secret in what we write, and a key of our own."""

import io
import json
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from playhead import Failure, places, secrets
from playhead.logs import Json, Text
from playhead.secrets import HIDDEN, Scrubber, fingerprint, hide, scrub, state_folder

SECRET = "correct horse battery"


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The secrets that were read: none before each test."""
    fresh: set[str] = set()
    monkeypatch.setattr(secrets, "_known", fresh)
    return fresh


# ── texts ──


def test_a_secret_that_was_read_is_scrubbed_wherever_it_stands() -> None:
    assert hide(SECRET) == SECRET
    assert scrub(f"it is {SECRET!r}, I said {SECRET}") == f"it is '{HIDDEN}', I said {HIDDEN}"


def test_a_secret_that_begins_like_another_leaves_no_rest() -> None:
    for number in range(50):  # in whichever order they are kept
        hide(f"{number:04d}-begin")
        hide(f"{number:04d}-begin-and-end")
    shown = scrub(" ".join(f"{number:04d}-begin-and-end" for number in range(50)))
    assert "end" not in shown


def test_a_text_without_secrets_stays_as_it_is() -> None:
    for text in (
        "",
        "nothing to see",
        "GET /files/music/a%20b.mp3 bytes=0-4 -> 206, 5 bytes in 1 ms",
        "http://example.org/music/?page=2&sort=name",
        "https://example.org/a@b/c",
        "user@example.org",
        "'별.mp3': no such file or directory",
    ):
        assert scrub(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "http://me:hunter22@example.org/music/",
        "https://hunter22@example.org/",
        "socks5://me:hunter22@127.0.0.1:1080 cannot be reached",
        "http://me:hun@hunter22@example.org/",
        "http://me:hunter22%40x@example.org/",
        "see http://example.org/?token=hunter22",
        "http://example.org/x?a=1&token=hunter22&b=2",
        "http://example.org/x?TOKEN=hunter22",
        "http://example.org/x?access_token=hunter22",
        "http://example.org/x?api_key=hunter22",
        "http://example.org/x?X-Amz-Signature=hunter22&X-Amz-Credential=hunter22",
        "http://example.org/x?sig=hunter22;x=1",
        "GET /rest/stream?u=me&t=hunter22&s=hunter22",
        "GET /rest/stream?u=me&p=hunter22",
        "{'password': 1} /x?password=hunter22'",
        "Authorization: Basic hunter22",
        "authorization: bearer hunter22",
        "Authorization: Token hunter22",
        "{'Authorization': 'Bearer hunter22'}",
        '{"Authorization": "hunter22"}',
        "Proxy-Authorization: Basic hunter22",
    ],
)
def test_what_looks_like_a_secret_is_scrubbed_though_nobody_named_it(text: str) -> None:
    assert "hunter22" not in scrub(text)
    assert HIDDEN in scrub(text)


def test_the_rest_of_a_url_is_still_shown() -> None:
    shown = scrub("http://me:hunter22@example.org/music/?page=2&token=x&sort=name")
    assert shown == f"http://{HIDDEN}@example.org/music/?page=2&token={HIDDEN}&sort=name"


# ── logs ──


@pytest.fixture(params=[Text, Json], ids=["text", "json"])
def log(request: pytest.FixtureRequest) -> Iterator[tuple[logging.Logger, Callable[[], str]]]:
    """A logger as `logs.begin` makes it, and what it has written."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(request.param())
    handler.addFilter(Scrubber())
    logger = logging.getLogger("tests.secrets")
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel("DEBUG")
    try:
        yield logger, written.getvalue
    finally:
        logger.removeHandler(handler)
        logger.propagate = True


Log = tuple[logging.Logger, Callable[[], str]]


class Url:
    """What is logged is not always a text."""

    def __str__(self) -> str:
        return f"http://me:{SECRET}@example.org/"


def _message(logger: logging.Logger) -> None:
    logger.warning(f"it is {SECRET}")


def _argument(logger: logging.Logger) -> None:
    logger.warning("it is %s of %d", SECRET, 2)


def _object(logger: logging.Logger) -> None:
    logger.warning("at %s", Url())


def _mapping(logger: logging.Logger) -> None:
    logger.warning("it is %(it)s", {"it": SECRET})


def _field(logger: logging.Logger) -> None:
    logger.warning("an event", extra={"url": f"/x?token={SECRET}", "status": 200})


def _object_field(logger: logging.Logger) -> None:
    logger.warning("an event", extra={"url": Url()})


def _deep_field(logger: logging.Logger) -> None:
    logger.warning("an event", extra={"headers": {"X-Key": [SECRET]}})


def _traceback(logger: logging.Logger) -> None:
    try:
        raise ValueError(f"it was {SECRET}")
    except ValueError:
        logger.exception("it failed")


def _chain(logger: logging.Logger) -> None:
    try:
        try:
            raise ValueError(f"it was {SECRET}")
        except ValueError as error:
            raise KeyError("other") from error
    except KeyError as error:
        error.add_note(f"with {SECRET}")
        logger.exception("it failed")


def _stack(logger: logging.Logger) -> None:
    logger.warning("here", stack_info=True, extra={"why": SECRET})


@pytest.mark.parametrize(
    "say", [_message, _argument, _object, _mapping, _field, _object_field, _deep_field, _traceback, _chain, _stack]
)
def test_no_secret_is_written_to_the_log(log: Log, say: Callable[[logging.Logger], None]) -> None:
    hide(SECRET)
    logger, written = log
    say(logger)
    assert written()
    assert SECRET not in written()


def test_a_secret_is_not_written_by_the_next_handler_either(log: Log) -> None:
    hide(SECRET)
    logger, written = log
    _traceback(logger)
    _argument(logger)
    assert SECRET not in written()
    assert HIDDEN in written()


def test_a_wrong_call_of_the_log_stops_nothing(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logger, _ = log
    logger.warning("%d files", "three")  # logging never raises: a log line is not worth a request


def test_a_line_of_json_holds_the_event() -> None:
    record = logging.makeLogRecord({"msg": "GET %s", "args": ("/x",), "levelno": 30, "levelname": "WARNING"})
    record.__dict__ |= {"status": 206, "url": "/x"}
    event = json.loads(Json().format(record))
    assert (event["message"], event["level"], event["status"], event["url"]) == ("GET /x", "warning", 206, "/x")
    assert event["time"].endswith("+00:00")


def test_a_line_of_json_is_one_line_whatever_it_says() -> None:
    record = logging.makeLogRecord({"msg": "two\nlines \udcff 별", "levelname": "INFO"})
    assert "\n" not in Json().format(record)
    assert json.loads(Json().format(record))["message"] == "two\nlines \udcff 별"


def test_a_line_of_text_has_its_level_from_warnings_on() -> None:
    for number, name, shown in [
        (20, "INFO", " hello"),
        (30, "WARNING", " warning: hello"),
        (40, "ERROR", " error: hello"),
    ]:
        record = logging.makeLogRecord({"msg": "hello", "levelno": number, "levelname": name})
        assert Text().format(record).endswith(shown)


# ── credentials of sources ──


def test_what_a_url_is_opened_with_is_a_secret(known: set[str]) -> None:
    places.web("http://me:hunter%2B22@example.org/")
    places.web("http://example.org/", headers={"X-Key": "the key"}, bearer="the token")
    places.web("http://example.org/", user="me", password="the password")
    for secret in ("hunter+22", "the key", "the token", "Bearer the token", "the password"):
        assert secret not in scrub(f"it is {secret}.")


def test_the_credentials_of_a_tree_are_not_in_its_repr() -> None:
    tree = places.web("http://me:hunter22@example.org/", headers={"X-Key": "the key"}, proxy="http://a:pass4@p/")
    shown = f"{tree.client.access!r} {tree.base!r} {tree!r}"
    assert not any(secret in shown for secret in ("hunter22", "the key", "pass4"))


# ── our own key ──


def test_a_fingerprint_is_stable_and_tells_credentials_apart() -> None:
    assert fingerprint("me", "one") == fingerprint("me", "one")
    made = [
        fingerprint(*parts) for parts in [("me", "one"), ("me", "two"), ("m", "eone"), ("meone",), ("", "me"), ("me",)]
    ]
    assert len(set(made)) == len(made)
    assert fingerprint() == fingerprint("") == fingerprint("", "") == ""
    assert "one" not in fingerprint("me", "one")


def test_the_key_can_be_read_by_its_owner_only(own_home: Path) -> None:
    fingerprint("x")
    assert state_folder() == own_home / "state" / "playhead"
    key = state_folder() / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(state_folder().stat().st_mode) == 0o700
    assert len(key.read_bytes()) == 32
    assert os.listdir(state_folder()) == ["key"]


def test_another_installation_has_another_fingerprint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = fingerprint("me")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert fingerprint("me") != here


def test_processes_that_begin_at_once_have_one_key() -> None:
    code = "from playhead.secrets import fingerprint; print(fingerprint('me'))"
    begun = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(6)]
    made = {process.communicate(timeout=20)[0].strip() for process in begun}
    assert made == {fingerprint("me")}


def test_where_no_key_can_be_kept_it_is_told_as_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(Failure):
        fingerprint("me")
