"""`playhead login NAME`: access to a Google Drive, granted in a browser and kept for a tree of the configuration.

The browser comes back to a page of ours on this machine (RFC 8252) with an answer that only we can use (PKCE, RFC
7636); with --headless the address that it would have come back to is pasted instead. What is asked for is the least
that the tree needs, and is said before; what was granted is said afterwards.
"""

import argparse
import asyncio
import base64
import errno
import html
import json
import os
import re
import secrets as chance
import sys
import threading
import webbrowser
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from playhead import secrets
from playhead.config import Config
from playhead.errors import Denied, Failure, Full, Malformed, Unavailable
from playhead.origins.drive import granted
from playhead.origins.drive.accounts import SCOPES, Doors, doors, scopes_of
from playhead.origins.drive.exchange import CODE, CONSOLE, Refused, Send, login_of, sent_by
from playhead.origins.drive.granted import PREFIX, Login
from playhead.origins.fetch import Access, Client
from playhead.tree import visible

if TYPE_CHECKING:
    from aiohttp.web import BaseRequest, Response

DEADLINE = 600.0  # seconds that the user may take
TELLING = 10.0  # seconds to find out whose Drive it is
TRIES = 5  # that pasting may take
PASTED = 16 << 10  # bytes
_CODE = re.compile(r"[\x21-\x7e]{1,2048}")


@dataclass(frozen=True, slots=True)
class App:
    """Who asks for access, to what, and where."""

    name: str  # of the tree
    client_id: str
    client_secret: str = field(repr=False)
    scopes: tuple[str, ...]
    doors: Doors


async def run(options: argparse.Namespace, config: Config) -> int:
    """Log in, and say what was done; returns the exit code. `options`: `name` and `headless`."""
    app, access = _wanted(options.name, config)
    client = Client(app.doors.token, access)
    try:
        send = sent_by(client)
        _say(f"tree {app.name} asks Google for access, to:")
        for scope in app.scopes:
            _say(f"  - {SCOPES[scope]} ({scope})")
        login = await (_headless if options.headless else _browsed)(app, send)
        login, notes = _granted(app, login)
        async with aclosing(Client(app.doors.about, access)) as asked:
            account, more = await _account(sent_by(asked), app.doors.about, login)
        login, notes = replace(login, account=account), [*notes, *more]
        path = await asyncio.to_thread(_kept, app.name, login)
    finally:
        await client.aclose()
    _say(f"tree {app.name} is logged in{f' as {visible(login.account)}' if login.account else ''}; kept in {path}")
    for note in notes:
        _say(f"note: {note}")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def _wanted(name: str, config: Config) -> tuple[App, Access]:
    """What a tree's table asks for. Raises Malformed."""
    drives = ", ".join(sorted(key for key, tree in config.tree.items() if tree.use == "gdrive"))
    if name not in config.tree:
        raise Malformed(f"{visible(name)!r} is not a tree of the configuration (those at Google: {drives or 'none'})")
    table = config.tree[name]
    if table.use != "gdrive":
        raise Malformed(f"tree {name} is not at Google (use = {table.use!r}): it needs no login")
    if table.service_account:
        raise Malformed(f"tree {name} uses a service account: it needs no login; share the files with that account")
    if not table.client_id or not table.client_secret:
        make = f"make an OAuth client of type 'Desktop app' {CONSOLE}"
        raise Malformed(f"tree {name} has no client_id and client_secret; {make}, and put both into the configuration")
    folder = config.folder
    app = App(
        name,
        secrets.resolve(table.client_id, folder),
        secrets.hide(secrets.resolve(table.client_secret, folder)),
        scopes_of(write=table.write, scope=table.scope),
        doors(table.endpoint),
    )
    access = Access(
        proxy=secrets.resolve(table.proxy, folder) if table.proxy else None,
        ca=str(folder / table.ca) if table.ca else None,
        cert=str(folder / table.cert) if table.cert else None,
    )
    return app, access


# ── the question ──


@dataclass(frozen=True, slots=True)
class Asked:
    """One question to the user: where the answer goes, and what makes it ours."""

    app: App
    redirect: str
    state: str = field(default_factory=lambda: chance.token_urlsafe(24), repr=False)
    verifier: str = field(default_factory=lambda: chance.token_urlsafe(48), repr=False)

    @property
    def url(self) -> str:
        """What the browser is to open."""
        challenge = base64.urlsafe_b64encode(sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "client_id": self.app.client_id,
            "redirect_uri": self.redirect,
            "response_type": "code",
            "scope": " ".join(PREFIX + scope for scope in self.app.scopes),
            "state": self.state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "access_type": "offline",
            "prompt": "consent",
        }
        return f"{self.app.doors.auth}?{urlencode(query)}"

    def code(self, query: str) -> str:
        """What an answer is good for. Raises Malformed where it is none to this question, Denied where it is no."""
        try:
            found = parse_qs(query, keep_blank_values=True, max_num_fields=50)
        except ValueError:
            found = {}
        states, codes, errors = (found.get(key, []) for key in ("state", "code", "error"))
        if len(states) != 1 or not chance.compare_digest(states[0].encode(), self.state.encode()):
            raise Malformed("this is not the answer to this login")
        if errors:
            raise Refused(errors[0], "", 0.0).failure(CODE, name=self.app.name)
        if len(codes) != 1 or not _CODE.fullmatch(codes[0]):
            raise Malformed("there is no code in this answer")
        return codes[0]

    async def login(self, code: str, send: Send) -> Login:
        """What a code is good for. Raises a Failure."""
        app = self.app
        return await login_of(
            send, app.doors.token, code, self.verifier, self.redirect, app.client_id, app.client_secret, app.name
        )


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(DEADLINE):
            yield
    except TimeoutError:
        raise Unavailable(f"nobody answered within {DEADLINE / 60:.0f} minutes; run it again") from None


# ── with a browser on this machine ──


async def _browsed(app: App, send: Send) -> Login:
    """The login that a browser on this machine brings."""
    async with _listening() as page:
        asked = page.asked = Asked(app, f"http://127.0.0.1:{page.port}/")
        _say(f"a browser opens; if it does not, open this yourself on this machine:\n\n  {asked.url}\n")
        _say("(is the browser on another machine? end this, and use --headless)")
        threading.Thread(target=_open, args=(asked.url,), daemon=True).start()
        async with _in_time():
            answer = await page.answer
        try:
            if isinstance(answer, Failure):
                raise answer
            login = await asked.login(answer, send)
            _granted(app, login)
        except Failure as failure:
            page.told.set_result(f"Playhead could not log in: {secrets.scrub(str(failure))}.")
            raise
        page.told.set_result("Playhead is logged in.")
        return login


def _open(url: str) -> None:
    """Open a URL in a browser with a window; one in a terminal would take ours."""
    with suppress(webbrowser.Error, OSError):
        browser = webbrowser.get()
        if type(browser) is not webbrowser.GenericBrowser or os.environ.get("BROWSER"):
            browser.open(url)


class _Page:
    """What the browser comes back to. The first right answer counts; all else is refused, and waited past."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.port = 0
        self.asked: Asked | None = None
        self.answer: asyncio.Future[str | Failure] = loop.create_future()
        self.told: asyncio.Future[str] = loop.create_future()

    async def shown(self, request: "BaseRequest") -> "Response":
        """The answer to a request."""
        own = request.headers.get("Host") == f"127.0.0.1:{self.port}"
        if not own or request.path != "/" or request.method != "GET" or self.asked is None:
            return _page(404, "There is nothing here.")
        answer: str | Failure
        try:
            answer = self.asked.code(request.rel_url.raw_query_string)
        except Malformed as failure:
            return _page(403, f"Playhead refuses this: {failure}.")
        except Failure as failure:
            answer = failure
        if self.answer.done():
            return _page(410, "Playhead has had an answer to this login already.")
        self.answer.set_result(answer)
        return _page(200, await asyncio.shield(self.told))


def _page(status: int, text: str) -> "Response":
    from aiohttp.web import Response

    title = "<!doctype html><html lang=en><meta charset=utf-8><title>Playhead</title>"
    more = "" if status == 404 else "<p>This window may be closed."
    body = f"{title}<p>{html.escape(text)}{more}</html>\n"
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    response = Response(status=status, text=body, content_type="text/html", headers=headers)
    response.force_close()
    return response


@asynccontextmanager
async def _listening() -> AsyncIterator[_Page]:
    """A page at a free port of this machine, which nobody else can reach."""
    from aiohttp import web

    page = _Page()
    runner = web.ServerRunner(web.Server(page.shown, access_log=None), shutdown_timeout=2.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        page.port = runner.addresses[0][1]
        yield page
    finally:
        if not page.told.done():
            page.told.set_result("Playhead no longer waits for this login.")
        await runner.cleanup()


# ── with a browser elsewhere ──


async def _headless(app: App, send: Send) -> Login:
    """The login that is pasted."""
    asked = Asked(app, f"http://127.0.0.1:{49152 + chance.randbelow(16384)}/")
    _say(f"open this in a browser on any machine, and allow the access:\n\n  {asked.url}\n")
    _say(f"The browser then goes to {asked.redirect}, which does not load: that is as it should be.")
    _say("Copy the whole address from the browser's address bar, and paste it here:")
    async with _in_time():
        for left in reversed(range(TRIES)):
            text = await _line()
            try:
                return await asked.login(_pasted(text, asked), send)
            except Malformed as failure:
                if not left:
                    raise
                _say(f"{failure}; paste the whole address, or the code in it:")
    raise AssertionError("the last try returns or raises")


def _pasted(text: str, asked: Asked) -> str:
    """The code in what was pasted: an address, a part of one, or the code itself. Raises Malformed or Denied."""
    text = text.strip().strip("'\"")
    if re.search(r"[?&]|://|(^|[^\w])(code|state|error)=", text):
        return asked.code(urlsplit(text).query if "?" in text else text)
    code = unquote(text)
    if not _CODE.fullmatch(code):
        raise Malformed("this is neither an address nor a code")
    return code


async def _line() -> str:
    """A line of standard input. Raises Malformed at its end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[bytes] = loop.create_future()
    threading.Thread(target=_read, args=(loop, future), daemon=True).start()
    data = await future
    if not data:
        raise Denied("nothing was pasted")
    return data.decode("utf-8", "replace")


def _read(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[bytes]") -> None:
    """A line, in a thread that may wait for ever: it does not keep the program from ending."""
    data = b""
    with suppress(OSError, ValueError):
        fd = sys.stdin.fileno()
        while b"\n" not in data.lstrip() and len(data) < PASTED and (more := os.read(fd, 4096)):
            data += more
    with suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(_bring, future, data.strip())


def _bring(future: "asyncio.Future[bytes]", data: bytes) -> None:
    if not future.done():
        future.set_result(data)


# ── what came of it ──


def _granted(app: App, login: Login) -> tuple[Login, list[str]]:
    """The login, with what is to be said of it. Raises Denied where it is good for nothing."""
    if not login.scopes:  # RFC 6749, 5.1: what was asked for
        return replace(login, scopes=app.scopes), []
    missing = [scope for scope in app.scopes if scope not in login.scopes and "drive" not in login.scopes]
    if not set(SCOPES) & set(login.scopes):
        raise Denied("access to the files was not granted; log in again, and tick what the page asks for")
    return login, [f"not granted: to {SCOPES[scope]} ({scope}); log in again to change that" for scope in missing]


async def _account(send: Send, about: str, login: Login) -> tuple[str, list[str]]:
    """Whose Drive it is, where that can be told; and what is to be said of it."""
    headers = {"Authorization": f"Bearer {login.access_token}"}
    try:
        async with asyncio.timeout(TELLING):
            status, _, data = await send("GET", f"{about}?{urlencode({'fields': 'user(emailAddress)'})}", b"", headers)
        if status == 403 and re.search(rb"accessNotConfigured|SERVICE_DISABLED", data):
            where = "https://console.cloud.google.com/apis/library/drive.googleapis.com"
            return "", [
                f"the Google Drive API is not enabled in the project of this OAuth client; enable it at {where}"
            ]
        account = json.loads(data)["user"]["emailAddress"] if status == 200 else ""
        return (account if isinstance(account, str) else "")[:320], []
    except (Failure, TimeoutError, ValueError, TypeError, KeyError, RecursionError):
        return "", []


def _kept(name: str, login: Login) -> str:
    """Keep a login; returns where. Raises Full, Denied or Busy."""
    try:
        return str(granted.write(name, login))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Full("there is no room on the disk to keep the login") from None
        what = f"{error.filename or secrets.state_folder()}: {(error.strerror or '').lower()}"
        raise Denied(f"the login cannot be kept: {what}; make the folder yours, or set XDG_STATE_HOME") from None
