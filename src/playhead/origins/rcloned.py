"""Nothing -> Tree: any remote of an installed rclone, read through `rclone rcd` (see `rcd`).

Names come from rclone's calls, bytes from its GETs, whose only validator is the date, to a second: so no file has a tag
that was changed within the last minute (RFC 9110, 8.8.2.2). The tag is made of a digest where the remote tells one
without reading the file, else of date and size; opening asks for the digest and the first bytes at the same time.
What rclone says when it fails is told apart by a table.
"""

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from os import fsencode
from typing import Any
from urllib.parse import quote

from yarl import URL

from playhead.blob import Blob, identity
from playhead.errors import Busy, Changed, Damaged, Denied, Failure, Malformed, NotFound, Unavailable, Unknown, Unsized
from playhead.limits import Limits
from playhead.origins import rcd
from playhead.origins.fetch import Answered, Client, date
from playhead.origins.ranged import Answer, RangedBlob
from playhead.origins.web import WebTree, bounded
from playhead.secrets import fingerprint, scrub
from playhead.tree import Ask, Entries, Entry, join, segments, visible

PATIENCE = 60.0  # seconds of silence of a file
LISTING = 300.0  # of a call: rclone says nothing until it knows everything
LARGEST = 128 << 20  # bytes of an answer to a call
REFUSAL = 64 << 10  # bytes of an answer that says why not
YOUNG = timedelta(seconds=60)

DIGESTS = ("sha256", "sha512", "sha1", "md5", "blake3", "whirlpool", "dropbox", "hidrive", "mailru", "quickxor")
CHANGING = re.compile(r"token|expir|auth_code|verif|session|updated|last_|cookie", re.IGNORECASE)

_YEAR_1 = datetime(2001, 1, 1, tzinfo=UTC)  # as the year 1 is read in a header
_REMOTE = re.compile(r"([\w.+@][\w.+@ -]*):(.*)", re.DOTALL)
_WRAPPED = re.compile(
    r"^(?:panic received: |fatal error: |error in ListJSON: |failed to find object: |failed to make Fs: )+"
)


def _table(*rows: tuple[str, type[Failure], str]) -> list[tuple[re.Pattern[str], type[Failure], str]]:
    return [(re.compile(text, re.IGNORECASE), kind, what) for text, kind, what in rows]


_LOGIN = Unknown, "rclone has no valid login for it any more; run: rclone config reconnect {name}:"
_SAID = _table(
    (r"Failed to load config file.*RCLONE_CONFIG_PASS", Malformed, "rclone's configuration is encrypted: put its "
     "password into RCLONE_CONFIG_PASS"),
    (r"Failed to load config file", Malformed, "rclone cannot read its configuration ({said})"),
    (r"didn't find section in config file", Malformed, "rclone has no remote of this name (known: {known})"),
    (r"didn't find backend called|unknown (?:type|backend)", Malformed, "this rclone does not know its kind ({said})"),
    (r"(?:^|[:,] )(?:directory|object|file|bucket|container) not found$", NotFound, "there is no {path!r}"),
    (r"is a directory not a file$", NotFound, "{path!r} is a folder"),
    (r": not a directory$|is a file not a directory$", NotFound, "{path!r} is a file"),
    (r"invalid_grant|token (?:has )?expired|expired.{0,9}token|empty token found", *_LOGIN),
    (r"no such host|connection refused|network is unreachable|i/o timeout|connection reset|TLS handshake timeout",
     Unavailable, "rclone cannot reach it ({said})"),
    (r"couldn't fetch token|oauth2?:|failed to refresh token", *_LOGIN),
    (r"rate.?limit|too many requests|slow.?down|\bquotaExceeded|\b429\b|downloadQuota", Busy, "there were too many "
     "requests ({said})"),
    (r"\b401\b|unauthori[sz]ed|unable to authenticate|authentication fail|login (?:incorrect|fail)", Denied,
     "it wants other credentials; see `rclone config` ({said})"),
    (r"\b403\b|forbidden|access ?denied|permission denied", Denied, "it refuses ({said})"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is known of a remote: the digest that its listings tell for nothing, whether they tell dates for nothing
    too, and what stands for how it is set up."""

    digest: str | None
    dated: bool
    known_by: str


@dataclass(frozen=True, slots=True, eq=False)
class RcloneBlob(RangedBlob):
    """A file of a remote."""

    tree: "RcloneTree" = field(kw_only=True)
    path: str = field(kw_only=True)

    async def again(self, ask: Ask) -> Answer:
        return await self.tree.asked(self.tree.url(self.path), ask)


class RcloneTree(WebTree):
    """A folder of a remote: "REMOTE:path", as rclone's own configuration names it."""

    def __init__(
        self, remote: str, limits: Limits | None = None, *, config: str | None = None, program: str = "rclone"
    ) -> None:
        """`config`: a file other than the one that rclone takes by itself."""
        self.name, self.fs, self.root = _parsed(remote)
        self.rcd = rcd.shared(program, config, self)
        super().__init__(self.rcd.url, client=Client(self.rcd.url, self.rcd.access, limits))
        self.place = f"rclone:{self.name}"
        self.known_by = f"rclone {self.fs}{self.root} {rcd.setup_of(config)}"
        self.kind: _Kind | None = None
        self.knowing = asyncio.Lock()

    async def aclose(self) -> None:
        await super().aclose()
        await asyncio.to_thread(rcd.released, self.rcd, self)

    # ── the tree ──

    async def entries(self, folder: str = "") -> Entries:
        kind, path = await self._known(), self._full(folder)
        options = {"noMimeType": True, "noModTime": not kind.dated, **_digests(kind)}
        told = await self._call("operations/list", path, fs=self.fs, remote=path, opt=options)
        items = told.get("list") or []
        if not isinstance(items, list):
            raise Damaged(f"{self.place}: rclone answers with something else than a listing")
        if not items and folder and not (await self.find(folder)).folder:  # buckets have no folders of their own
            raise NotFound(f"{folder!r} is a file")
        for entry in await asyncio.to_thread(self._listed, folder, items, kind):
            yield entry

    async def find(self, path: str) -> Entry:
        return (await self._found(path))[0] if segments(path) else Entry("", folder=True)

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        if not segments(path):
            raise NotFound("the root is a folder")
        kind = await self._known()
        for _ in range(2):
            entry, answer = await self._both(path, ask) if kind.digest else (None, await self._answer(path, ask))
            modified = _known_date(date(answer.response.headers.get("Last-Modified")))
            if entry is None or (entry.size, entry.modified) == (answer.size, modified):
                break
            answer.response.close()  # it changed between the two
        else:
            raise Changed(f"{self.place}: {path!r} changes while it is opened")
        assert answer.size is not None
        tag = entry.tag if entry else self._made(path, answer.size, modified, None, kind)
        answer.park(self.parked)
        return RcloneBlob(
            answer.size,
            tag,
            validator=answer.validator,
            waiting=[answer],
            ranged=answer.response.status != 200,
            tree=self,
            path=path,
            modified=modified,
        )

    # ── names and identity ──

    def url(self, path: str, folder: bool = False) -> URL:
        quoted = quote(fsencode(self._full(path)), safe="/!$&'()*+,;=:@~")
        return URL(f"{self.rcd.url}{quote(f'[{self.fs}]')}/{quoted}", encoded=True)

    def _full(self, path: str) -> str:
        return "/".join([*segments(self.root), *segments(path)])

    def _made(
        self, path: str, size: int | None, modified: datetime | None, digest: str | None, kind: _Kind
    ) -> str | None:
        """The tag of a file; None where it may change again without being seen to."""
        if size is None or modified is None or datetime.now(UTC) - modified < YOUNG:
            return None
        place = f"rclone {self.fs} {self._full(path)} {kind.known_by}"
        return identity("v", place, digest) if digest else identity("m", place, modified.isoformat(), size)

    def _entry(self, path: str, item: Mapping[str, Any], kind: _Kind) -> Entry:
        name, folder = path.rpartition("/")[2], item.get("IsDir") is True
        told, size, hashes = item.get("ModTime"), item.get("Size"), item.get("Hashes")
        modified = _when(told) if isinstance(told, str) and (kind.dated or not folder) else None
        if folder:
            return Entry(name, True, None, modified)
        size = size if isinstance(size, int) and size >= 0 else None
        value = hashes.get(kind.digest) if isinstance(hashes, dict) and kind.digest else None
        digest = f"{kind.digest}:{value}" if isinstance(value, str) and value else None
        return Entry(
            name, False, size, modified, self._made(path, size, modified, digest, kind), f"{size} {told} {digest}"
        )

    def _listed(self, folder: str, items: list[Any], kind: _Kind) -> list[Entry]:
        found: dict[str, Entry] = {}
        for item in items:
            name = item.get("Name") if isinstance(item, dict) else None
            if not isinstance(name, str) or not _is_name(name):
                continue
            if name in found:  # some remotes have twins; which of them a path means only rclone knows
                found[name] = Entry(name, found[name].folder and item.get("IsDir") is True)
            else:
                found[name] = self._entry(join(folder, name), item, kind)
        return list(found.values())

    # ── asking rclone ──

    async def _found(self, path: str, priority: int = 0) -> tuple[Entry, _Kind]:
        kind, full = await self._known(), self._full(path)
        options = {"noMimeType": True, **_digests(kind)}
        told = await self._call("operations/stat", path, priority, fs=self.fs, remote=full, opt=options)
        item = told.get("item")
        if not isinstance(item, dict):
            raise NotFound(f"{self.place}: there is no {path!r}")
        return self._entry(path, item, kind), kind

    async def _both(self, path: str, ask: Ask) -> tuple[Entry, Answer]:
        """What is told of a file, and its first bytes. It is asked for first: else many who hold answers could wait for
        each other where connections are few."""
        await self._ready()
        finding = asyncio.ensure_future(self._found(path, ask.why))
        await asyncio.sleep(0)
        answer = None
        try:
            answer = await self._answer(path, ask)
            return (await finding)[0], answer
        except BaseException:
            if answer:
                answer.response.close()
            raise
        finally:
            finding.cancel()
            await asyncio.wait([finding])
            if not finding.cancelled():
                finding.exception()

    async def _answer(self, path: str, ask: Ask) -> Answer:
        """The answer for a file, and its size. rclone answers in nonsense where that is not known, or passed."""
        try:
            answer = await self._file(path, ask)
        except Damaged:
            entry = await self.find(path)
            if entry.size is None and not entry.folder:
                raise Unsized(f"{self.place}: {path!r} has no size that is known") from None
            if not ask.start or entry.size is None or ask.start < entry.size:
                raise
            answer = await self._file(path, Ask(0, 0, ask.why))
        if answer.size is None:
            answer.response.close()
            raise Unsized(f"{self.place}: {path!r} has no size that is known")
        return answer

    async def got(self, url: URL, headers: Mapping[str, str], priority: int) -> Answered:
        response = await self._sent("GET", url, headers, None, priority, PATIENCE)
        if response.status in (200, 206, 416):
            return response
        raise await self._failure(await _read(response, REFUSAL), url.path.partition("]/")[2])

    async def _call(self, command: str, path: str, priority: int = 0, **given: Any) -> dict[str, Any]:
        """What a call of rclone's gives. Raises the Failure that its error means."""
        url, question = URL(self.rcd.url + command), json.dumps(given).encode()
        response = await self._sent("POST", url, {"Content-Type": "application/json"}, question, priority, LISTING)
        body = await _read(response, LARGEST)
        if response.status != 200:
            raise await self._failure(body, path)
        try:
            told = await asyncio.to_thread(json.loads, body)
        except (ValueError, RecursionError) as error:
            raise Damaged(f"{self.place}: rclone answers with what is no JSON") from error
        if not isinstance(told, dict):
            raise Damaged(f"{self.place}: rclone answers with something else than was asked for")
        return told

    async def _sent(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None, priority: int, patience: float
    ) -> Answered:
        """The answer to a question, which is asked once more of another process where the first ends."""
        await self._ready()
        try:
            return await self.client.answered(method, url, headers, body, priority=priority, patience=patience)
        except Unavailable:
            if self.client.closed or not await asyncio.to_thread(self.rcd.ended):
                raise
        await self._ready()
        return await self.client.answered(method, url, headers, body, priority=priority, patience=patience)

    async def _ready(self) -> None:
        if self.client.closed:
            raise Unavailable(f"{self.place}: this source was closed")
        if not self.rcd.alive:
            await asyncio.to_thread(self.rcd.start)

    async def _known(self) -> _Kind:
        """What the remote is like: asked for once."""
        if self.kind is not None:
            return self.kind
        async with self.knowing:
            if self.kind is None:
                told = await self._call("operations/fsinfo", "", fs=self.fs)
                setup = await self._call("config/dump", "")
                self.kind = await asyncio.to_thread(_kind, told, setup, self.name)
            return self.kind

    async def _failure(self, body: bytes, path: str) -> Failure:
        """What rclone's refusal means."""
        text = _said(body)
        said = visible(scrub(text))[:200]
        for pattern, kind, what in _SAID:
            if pattern.search(text):
                known = ", ".join(await self._remotes()) or "none; see `rclone config`" if "{known}" in what else ""
                return kind(f"{self.place}: {what.format(name=self.name, path=path, said=said, known=known)}")
        return Unavailable(f"{self.place}: rclone says: {said}")

    async def _remotes(self) -> list[str]:
        told = (await self._call("config/listremotes", "")).get("remotes")
        return sorted(map(str, told)) if isinstance(told, list) else []


def _parsed(remote: str) -> tuple[str, str, str]:
    """ "REMOTE:path" -> the remote's name, what rclone is to begin at, and the path from there."""
    match = _REMOTE.fullmatch(remote)
    if match is None:
        raise Malformed(f"{visible(scrub(remote))!r} is not REMOTE:path, with a remote of rclone's configuration")
    name, path = match[1], match[2]
    fs = f"{name}:/" if path.startswith("/") else f"{name}:"  # for some, "/" is not where they begin
    root = path.removeprefix("/").removesuffix("/")
    segments(root)
    return name, fs, root


def _kind(told: Mapping[str, Any], setup: Mapping[str, Any], name: str) -> _Kind:
    features, hashes = told.get("Features"), told.get("Hashes")
    features = features if isinstance(features, dict) else {}
    has = hashes if isinstance(hashes, list) and not features.get("SlowHash") else []
    digest = next((each for each in DIGESTS if each in has), None)
    return _Kind(digest, not features.get("SlowModTime"), fingerprint(json.dumps(_setup(setup, name))))


def _setup(setup: Mapping[str, Any], name: str) -> dict[str, list[tuple[str, str]]]:
    """How a remote, and those that it is over, are set up; without what changes by itself."""
    found: dict[str, list[tuple[str, str]]] = {}
    waiting = [name]
    while waiting:
        one = waiting.pop()
        section = setup.get(one)
        if one in found or not isinstance(section, dict):
            continue
        found[one] = sorted((key, str(value)) for key, value in section.items() if not CHANGING.search(key))
        waiting += [other for _, value in found[one] for other in re.findall(r"([\w.+@-][\w.+@ -]*):", value)]
    return found


def _digests(kind: _Kind) -> dict[str, Any]:
    return {"showHash": True, "hashTypes": [kind.digest]} if kind.digest else {}


def _when(text: str) -> datetime | None:
    """A date, to the second, as HTTP tells it."""
    try:
        return _known_date(datetime.fromisoformat(text).astimezone(UTC).replace(microsecond=0))
    except (ValueError, OverflowError):
        return None


def _known_date(when: datetime | None) -> datetime | None:
    """A date that is one: what has none has the same for ever, and so says nothing of changes."""
    return None if when is None or when.year <= 1970 or when == _YEAR_1 else when


def _is_name(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def _said(body: bytes) -> str:
    """The error in an answer of rclone's, in one line."""
    try:
        told = json.loads(body)
        text = str(told["error"]) if isinstance(told, dict) and "error" in told else ""
    except (ValueError, RecursionError):
        text = ""
    return _WRAPPED.sub("", " ".join(text.split())) or "nothing that can be understood"


async def _read(response: Answered, most: int) -> bytes:
    try:
        return await bounded(response, most, "answer")
    finally:
        response.close()
