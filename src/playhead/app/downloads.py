"""Requests -> the queue of downloads.

    /jsonrpc         aria2's JSON-RPC: POST, GET with the token, or a WebSocket
    /downloads       the page, and what its forms post
    /api/downloads   what the page shows, as JSON

To add downloads is more than to read, so a page of another site that may read (`cors`) needs the token to do it, and so
does everybody where the server is open to whoever can reach it: there the page only shows. Without a token a call is
posted as JSON, which no page of another site can do unasked. With it, browser extensions may call as well, which are
pages of nowhere.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from urllib.parse import parse_qs, unquote, urlsplit

from playhead.app import page
from playhead.app.auth import Gate
from playhead.app.items import Item, State
from playhead.app.queue import Queue
from playhead.app.rpc import Rpc
from playhead.blob import literal
from playhead.errors import Busy, Denied, Failure, Malformed, NotFound
from playhead.respond import ERRORS, About, Request, Response, refusal, respond
from playhead.tree import visible

BODY = 8 << 20  # bytes of a message
FORM = 64 << 10  # bytes of a form
SHOWN = 200  # downloads of a kind that the page shows
_EXTENSIONS = ("chrome-extension://", "moz-extension://", "safari-web-extension://")
_JSON = ("application/json", "application/json-rpc", "application/jsonrequest")
_CALLS = About(type="application/json-rpc", cache=ERRORS)
_DOCUMENT = About(type="application/json", cache=ERRORS)
_HTML = About(type="text/html; charset=utf-8", cache=ERRORS)


class Downloads:
    """The queue for a site. `tree`: which of its trees shows the downloads folder, and with `playing` also the files
    that are still under way; `token`: what callers of /jsonrpc must know.
    """

    def __init__(
        self, queue: Queue, token: str | None = None, *, tree: str | None = None, playing: bool = False
    ) -> None:
        self.queue, self.tree, self.playing = queue, tree, playing
        self.rpc = Rpc(queue, token)

    # ── who may ──

    def admit(self, gate: Gate, headers: Mapping[str, str]) -> None:
        """Let a call of /jsonrpc in. Raises Denied."""
        if self.rpc.token is None:
            gate.admit(headers)
            if not gate.login:
                raise Denied("this server is open to whoever can reach it, so /jsonrpc needs a token")
            if headers.get("origin") in gate.cors and not _own(headers):
                raise Denied("a page of another site may not add downloads without a token")
        elif headers.get("origin", "").startswith(_EXTENSIONS):
            gate.admit({name: headers[name] for name in headers if name not in ("origin", "sec-fetch-site")})
        else:
            gate.admit(headers)

    def _admit_form(self, gate: Gate, headers: Mapping[str, str]) -> None:
        if not gate.login:
            raise Denied("this server is open to whoever can reach it, so its page adds no downloads; /jsonrpc does")
        if not _own(headers) and headers.get("sec-fetch-site") != "same-origin":
            raise Denied("this is not a form of our own page; programs use /jsonrpc")

    # ── requests ──

    @staticmethod
    def most(path: str) -> int:
        """How many bytes may be posted there; 0: nothing."""
        return {"/jsonrpc": BODY, "/downloads": FORM}.get(path, 0)

    async def respond(
        self,
        request: Request,
        path: str,
        query: Mapping[str, list[str]],
        body: bytes | None,
        gate: Gate,
        prefix: str,
    ) -> Response:
        """Answer a request for one of our paths. Raises a Failure."""
        posted = request.method == "POST" and path in ("jsonrpc", "downloads")
        if not posted and request.method not in ("GET", "HEAD"):
            return refusal(405, "only GET, HEAD and POST are possible here", [("Allow", "GET, HEAD, POST")])
        if path == "jsonrpc":
            return await self.call(request, query, body)
        if path == "downloads":
            return await self.posted(request, gate, prefix, body) if posted else self.shown(gate, prefix)
        if path == "api/downloads":
            return self.listed(prefix)
        raise NotFound("there is nothing here")

    async def call(self, request: Request, query: Mapping[str, list[str]], body: bytes | None) -> Response:
        """A message in a body or in a query -> its answer."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if request.method != "POST":
            if self.rpc.token is None:
                raise Denied("without a token a call is posted; a GET is what any page can have a browser send")
            if "jsoncallback" in query:
                raise Malformed("JSONP is not spoken here: it would give what is answered to any page")
            body = _asked(query)
        elif self.rpc.token is None and kind not in _JSON:
            raise Malformed("a call is posted with `Content-Type: application/json`")
        if body is None:
            raise Malformed(f"a message has at most {BODY:,} bytes")
        status, text = await self.rpc.answer(body)
        return replace(respond(Request("GET", {}), literal(text.encode(), None), _CALLS), status=status)

    # ── the page ──

    def count(self) -> int:
        """How many wait or run."""
        return len(self.queue.line) + len(self.queue.active)

    def listed(self, prefix: str) -> Response:
        """What the page shows, as JSON."""
        rows, more = self._rows(prefix)
        data = {"downloads": [asdict(row) for row in rows], "more": more}
        return respond(Request("GET", {}), literal(json.dumps(data).encode(), None), _DOCUMENT)

    def shown(self, gate: Gate, prefix: str, problem: str = "", url: str = "") -> Response:
        """The page; `problem`: why what was asked for was not done, with the `url` of it."""
        html = page.downloads(prefix, *self._rows(prefix), controls=gate.login, problem=problem, url=url)
        answer = respond(Request("GET", {}), literal(html.encode("utf-8", "replace"), None), _HTML)
        # "no-referrer" would make a browser send `Origin: null` with a form, which is refused.
        answer.headers.extend([("Content-Security-Policy", page.POLICY), ("Referrer-Policy", "same-origin")])
        return answer

    async def posted(self, request: Request, gate: Gate, prefix: str, body: bytes | None) -> Response:
        """What a form of the page asks for -> the page again."""
        self._admit_form(gate, request.headers)
        form = _form(body)
        try:
            await self._act(form.get("do", ""), form)
        except (Busy, NotFound):
            pass  # it has changed since the page was made, which shows that anew
        except Failure as failure:
            problem = self.shown(gate, prefix, str(failure), form.get("url", ""))
            return replace(problem, status=failure.status)
        await self.queue.saved()
        return refusal(303, "see the page", [("Location", f"{prefix}/downloads")])

    async def _act(self, do: str, form: Mapping[str, str]) -> None:
        queue = self.queue
        if do == "add":
            item = await queue.add([form.get("url", "").strip()], {"out": form.get("out", "").strip()})
            queue.look(item)
            return
        of_all = {"pause-all": queue.pause_all, "unpause-all": queue.unpause_all, "purge": queue.purge}
        of_one = {
            "pause": queue.pause,
            "unpause": queue.unpause,
            "remove": queue.remove,
            "again": queue.again,
            "forget": queue.forget,
        }
        if do in of_all:
            of_all[do]()
        elif do in of_one:
            of_one[do](queue.find(form.get("gid", "")))
        else:
            raise Malformed("this is not a form of our own page")

    def _rows(self, prefix: str) -> tuple[list[page.Row], int]:
        """What is shown, and how many more there are."""
        kinds = list(self.queue.active.values()), self.queue.line, list(self.queue.stopped.values())[::-1]
        shown = [self._row(self.queue.look(item), prefix) for kind in kinds for item in kind[:SHOWN]]
        return shown, sum(map(len, kinds)) - len(shown)

    def _row(self, item: Item, prefix: str) -> page.Row:
        name, folder, file = item.name or _named(item), "", ""
        if self.tree is not None:
            root = f"{prefix}/files/{page.quoted(self.tree)}/"
            folder = root + "".join(f"{page.quoted(part)}/" for part in item.place.split("/") if part)
            file = folder + page.quoted(item.name)
        if not item.name or not (item.state is State.COMPLETE or self.playing):
            file = ""
        numbers = item.size, item.have, int(item.rate), item.connections
        place = item.place or self.tree or ""
        return page.Row(item.gid, visible(name), item.state.value, item.error, place, *numbers, folder, file)


def _own(headers: Mapping[str, str]) -> bool:
    """Does a page of this very server ask?"""
    try:
        return "origin" in headers and urlsplit(headers["origin"]).netloc == headers.get("host")
    except ValueError:
        return False


def _asked(query: Mapping[str, list[str]]) -> bytes:
    """A call, or where no method is named a batch, as a query has it."""
    try:
        params = base64.b64decode(query.get("params", [""])[0].replace(" ", "+"), validate=True) or b"[]"
        if "method" not in query:
            return params if "params" in query else b""
        call = {"id": query.get("id", [None])[0], "method": query["method"][0], "params": json.loads(params)}
        return json.dumps(call).encode()
    except (ValueError, RecursionError, binascii.Error):
        return b""


def _form(body: bytes | None) -> dict[str, str]:
    if body is None:
        raise Malformed(f"a form has at most {FORM:,} bytes")
    try:
        fields = parse_qs(body.decode(), max_num_fields=16, strict_parsing=bool(body))
    except ValueError:
        raise Malformed("this is not a form of our own page") from None
    return {name: values[0] for name, values in fields.items()}


def _named(item: Item) -> str:
    """What to call a download whose name is not known yet."""
    if "://" not in item.uris[0]:
        return item.uris[0].rpartition("/")[2]
    parts = urlsplit(item.uris[0])
    return item.options.get("out") or unquote(parts.path.rpartition("/")[2]) or parts.hostname or "a download"
