"""An account of Google's -> an access token: a user's login, or a service account.

A login's access token is kept beside it, and used by every process until it ends; what Google makes of the refresh
token is kept too. Everything here waits (for files, for google-auth), so it is called in a thread.
"""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from playhead import secrets
from playhead.errors import Failure, Malformed, NotFound, Unknown
from playhead.origins.drive import granted
from playhead.origins.drive.exchange import ACCOUNT, LOGIN, Requests, address, fresh
from playhead.origins.drive.granted import PREFIX, Login
from playhead.tree import visible

EARLY = 60.0  # seconds before its end that a token is renewed
SCOPES = {
    "drive.readonly": "see and download all files of this Google Drive, and change nothing",
    "drive.file": "see and change only those files that Playhead itself has made",
    "drive": "see, change and delete all files of this Google Drive",
}

log = logging.getLogger("playhead.upstream")


@dataclass(frozen=True, slots=True)
class Doors:
    """Where Google asks for consent, gives tokens, and tells whose Drive it is."""

    auth: str = "https://accounts.google.com/o/oauth2/v2/auth"
    token: str = "https://oauth2.googleapis.com/token"  # noqa: S105
    about: str = "https://www.googleapis.com/drive/v3/about"


def doors(endpoint: str | None) -> Doors:
    """Google's, or all of them at another place. Raises Malformed."""
    if not endpoint:
        return Doors()
    base = address(endpoint).rstrip("/")
    return Doors(f"{base}/auth", f"{base}/token", f"{base}/drive/v3/about")


def scopes_of(*, write: bool, scope: str | None = None) -> tuple[str, ...]:
    """The access that a tree needs, and no more: `scope` (one, or several with spaces), or what `write` takes.

    Raises Malformed.
    """
    scopes = tuple((scope or ("drive" if write else "drive.readonly")).split())
    for name in scopes:
        if name not in SCOPES:
            raise Malformed(f"scope: {visible(name)[:60]!r} is not one of {', '.join(SCOPES)}")
    if write and not may_write(scopes):
        raise Malformed('write = true needs scope = "drive", or "drive.file" for files that Playhead made')
    return scopes


def may_write(scopes: Sequence[str]) -> bool:
    """Do they allow to write anything?"""
    return not {"drive", "drive.file"}.isdisjoint(scopes)


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, until it `expires` (seconds since 1970); to be renewed from `stale` on."""

    text: str = field(repr=False)
    expires: float
    stale: float
    kept: bool = False  # was it there already?

    @property
    def header(self) -> str:
        """As it is sent."""
        return f"Bearer {self.text}"


def token(text: str, expires: float, *, kept: bool = False) -> Token:
    """A token that was just given, or kept; one with a short life is renewed at half of it."""
    left = expires - time.time()
    return Token(text, expires, expires - min(EARLY, max(0.0, left / 2)), kept)


# ── a user's login ──


@dataclass(slots=True)
class UserLogin:
    """A login that `playhead login NAME` has made, with the OAuth client that it was made with."""

    name: str
    client_id: str
    client_secret: str = field(repr=False)
    token_uri: str = Doors().token
    login: Login | None = field(default=None, repr=False)  # as it was read last
    unsaved: tuple[str, Login] | None = field(default=None, repr=False)  # a refresh token, and what became of it
    marks: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        secrets.hide(self.client_secret)

    @property
    def known_by(self) -> str:
        if self.login is None:
            try:
                self._read()
            except Failure:
                return _mark(self.marks, f"login {self.name}")
        assert self.login
        return _mark(self.marks, self.login.account or f"{self.login.client_id} {self.login.obtained}")

    @property
    def scopes(self) -> tuple[str, ...]:
        return self.login.scopes if self.login else ()

    def stamp(self) -> object:
        return granted.stamp(granted.place(self.name))

    def told(self) -> str:
        login = self._read()
        who = f" as {visible(login.account)}" if login.account else ""
        return f"logged in{who} since {login.obtained:%Y-%m-%d}, may {_allowed(login.scopes)}"

    def token(self, ask: Requests, refused: str) -> Token:
        login = self._read()
        try:
            return self._token(ask, login, refused)
        except Unknown:
            newer = self._read()
            if newer.refresh_token == login.refresh_token:
                raise
            return self._token(ask, newer, refused)

    def _token(self, ask: Requests, login: Login, refused: str) -> Token:
        kept = token(login.access_token, login.expires, kept=True)
        if login.access_token and kept.header != refused and time.time() < kept.expires - EARLY:
            return kept
        from google.oauth2 import credentials as oauth2

        made: Any = oauth2.Credentials
        credentials = made(
            None,
            refresh_token=login.refresh_token,
            token_uri=self.token_uri,
            client_id=self.client_id,
            client_secret=self.client_secret,
        )
        text, expires = fresh(credentials, ask, LOGIN, name=self.name)
        now = replace(login, access_token=text, expires=expires, refresh_token=credentials.refresh_token)
        self._keep(login, now)
        return token(text, expires)

    def _read(self) -> Login:
        try:
            login = granted.read(self.name)
        except NotFound as failure:
            raise Unknown(str(failure)) from None
        if self.unsaved and self.unsaved[0] == login.refresh_token:
            login = self.unsaved[1]
        if login.client_id != self.client_id:
            raise Unknown(
                f"the login of tree {self.name} was made with another client_id; run `playhead login {self.name}`"
            )
        self.login = login
        return login

    def _keep(self, was: Login, now: Login) -> None:
        self.login = now
        try:
            if self.unsaved and self.unsaved[1] is was:
                was = replace(was, refresh_token=self.unsaved[0])
            granted.renew(self.name, was, now)
            self.unsaved = None
        except (OSError, Failure) as error:
            if now.refresh_token != was.refresh_token:
                self.unsaved = was.refresh_token, now
            why = error if isinstance(error, Failure) else (error.strerror or "").lower()
            log.warning("tree %s: its renewed login could not be kept (%s)", self.name, why)


def _mark(marks: dict[str, str], who: str) -> str:
    if who not in marks:
        marks[who] = secrets.fingerprint("google", who)
    return marks[who]


def _allowed(scopes: Sequence[str]) -> str:
    return "; ".join(SCOPES.get(scope, visible(scope)) for scope in scopes) or "nothing"


# ── a service account ──


@dataclass(slots=True)
class ServiceAccount:
    """The key of a service account: its JSON, or the path of the file that it is in; may act for a `subject`."""

    name: str
    key: str = field(repr=False)
    scopes: tuple[str, ...]
    subject: str | None = None
    token_uri: str | None = None  # None: as the key says
    marks: dict[str, str] = field(default_factory=dict)

    @property
    def known_by(self) -> str:
        try:
            who = self._info()["client_email"]
        except Failure:
            who = f"account {self.name}"
        return _mark(self.marks, f"{who} {self.subject or ''}")

    def stamp(self) -> object:
        return granted.stamp(Path(self.key)) if self._is_path() else None

    def told(self) -> str:
        acting = f" for {visible(self.subject)}" if self.subject else ""
        return f"service account {visible(self._info()['client_email'])}{acting}, may {_allowed(self.scopes)}"

    def token(self, ask: Requests, refused: str) -> Token:
        from google.oauth2 import service_account

        made: Any = service_account.Credentials
        info = self._info()
        try:
            credentials = made.from_service_account_info(
                info, scopes=[PREFIX + scope for scope in self.scopes], subject=self.subject
            )
        except Exception:  # whatever the key's parser says, the key may be in it
            raise self._wrong("its private_key cannot be read") from None
        names = {"name": self.name, "who": info["client_email"], "subject": self.subject or "others"}
        names["scopes"] = " ".join(PREFIX + scope for scope in self.scopes)
        return token(*fresh(credentials, ask, ACCOUNT, **names))

    def _is_path(self) -> bool:
        return not self.key.lstrip().startswith("{")

    def _info(self) -> dict[str, str]:
        """What a key must say, checked. Raises NotFound or Malformed."""
        try:
            found = json.loads(self._text())
            kind = found.get("type")
        except (ValueError, AttributeError, RecursionError):
            raise self._wrong("it is not JSON") from None
        if kind != "service_account":
            what = (
                "an OAuth client: give client_id and client_secret"
                if {"installed", "web"} & set(found)
                else "another kind"
            )
            raise self._wrong(f"it is {what}")
        info = {key: found.get(key) for key in ("client_email", "private_key", "private_key_id")}
        for key, value in info.items():
            if not isinstance(value, str) or not value:
                raise self._wrong(f"it has no {key}")
        secrets.hide(info["private_key"])
        return {**info, "token_uri": address(self.token_uri or str(found.get("token_uri") or Doors().token))}

    def _text(self) -> str:
        if not self._is_path():
            return self.key
        try:
            with open(self.key, encoding="utf-8") as file:
                return file.read(granted.LARGEST)
        except FileNotFoundError:
            raise NotFound(
                f"tree {self.name}: there is no file {self.key!r} with the key of its service account"
            ) from None
        except (OSError, ValueError) as error:
            what = (error.strerror or "").lower() if isinstance(error, OSError) else "it is not text"
            raise Malformed(f"tree {self.name}: the key of its service account cannot be read: {what}") from None

    def _wrong(self, what: str) -> Malformed:
        told = f"tree {self.name}: `service_account` wants the JSON key of a service account, or its file"
        return Malformed(f"{told}; {what}")
