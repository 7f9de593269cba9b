"""How Drive is asked: with a token that holds, and its refusals as ours.

Google says 403 for a dozen things: too many requests (wait seconds), a file that was downloaded too often (wait hours,
for this file alone), a project that has spent its day, a file whose owner forbids it. Each is told apart by its reason.
A file that is over its quota is not asked for again until some minutes have passed, then twice as many. A token that
ends while files are read is renewed once for all who read. What many want at once is asked for once (`Once`).
"""

import asyncio
import json
import time
from collections.abc import Callable, Container, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from multidict import CIMultiDictProxy
from yarl import URL

from playhead.errors import Busy, Changed, Damaged, Denied, Failure, Full, NotFound, Unavailable, Unknown
from playhead.origins.body import Body
from playhead.origins.drive.items import FIELDS
from playhead.origins.fetch import Answered, Client, retry_after, translated
from playhead.origins.ranged import Answer, checked, range_header
from playhead.tree import Ask, visible

LARGEST = 64 << 20  # bytes of an answer in JSON
REFUSAL = 64 << 10  # bytes of a refusal that are read
OVER = 600.0  # seconds for which a file that is over its quota is left alone, at first
LONGEST = 6 * 3600.0  # and at most

T = TypeVar("T")


class OverQuota(Busy):
    """A file was downloaded too often: it alone is left alone."""


_DAY = "the project behind `client_id` has spent its requests of the day; they come back at midnight Pacific time"
_REASONS: Mapping[str, tuple[type[Failure], str]] = {
    "userRateLimitExceeded": (Busy, "too many requests a minute of this user"),
    "rateLimitExceeded": (Busy, "too many requests a minute"),
    "sharingRateLimitExceeded": (Busy, "too many requests a minute"),
    "dailyLimitExceeded": (Busy, _DAY),
    "quotaExceeded": (Busy, _DAY),
    "downloadQuotaExceeded": (OverQuota, "it was downloaded too often lately; Google lets it go again within a day"),
    "cannotDownloadFile": (Denied, "its owner does not allow that it is downloaded"),
    "cannotDownloadAbusiveFile": (
        Denied,
        "Google takes it for malware or spam; `acknowledge_abuse = true` downloads it at your own risk, if it is yours",
    ),
    "insufficientFilePermissions": (Denied, "this login has not the right to it"),
    "insufficientPermissions": (Denied, "this login was given less access than that needs; see `playhead login`"),
    "appNotAuthorizedToFile": (
        Denied,
        'with scope = "drive.file" only what this app made can be read; `playhead login` with another `scope`',
    ),
    "accessNotConfigured": (Denied, "the Google Drive API is not enabled in the project behind `client_id`; enable it"),
    "domainPolicy": (Denied, "the administrators of the domain do not allow it"),
    "fileNotDownloadable": (Denied, "it has no bytes: only Google's own pages can show it"),
    "exportSizeLimitExceeded": (Denied, "Google exports no document that is larger than 10 MB"),
    "storageQuotaExceeded": (Full, "there is no room left in this Drive"),
    "teamDriveFileLimitExceeded": (Full, "the shared drive holds as many files as it can"),
    "notFound": (NotFound, "there is no such file, or this login may not see it"),
    "fileNotFound": (NotFound, "there is no such file, or this login may not see it"),
    "numChildrenInNonRootLimitExceeded": (Full, "the folder holds as many files as it can"),
    "conditionNotMet": (Changed, "it is another version by now"),
    "backendError": (Unavailable, "Google failed"),
    "internalError": (Unavailable, "Google failed"),
}
_STATUSES: Mapping[int, tuple[type[Failure], str]] = {
    401: (Unknown, "Google does not accept the login of this source; see `playhead login`"),
    403: (Denied, "Google refuses it"),
    404: (NotFound, "there is no such file, or this login may not see it"),
    409: (Changed, "it is there already"),
    410: (NotFound, "it is no longer there"),
    412: (Changed, "it is another version by now"),
    429: (Busy, "too many requests"),
}


class Authorization(Protocol):
    """Where the Authorization header comes from."""

    async def header(self) -> str: ...

    async def renewed(self, used: str) -> str: ...


@dataclass(slots=True)
class _Over:
    until: float
    pause: float
    why: str


@dataclass(slots=True)
class Calls:
    """Requests to one Drive: `client` is for its endpoint (https://www.googleapis.com/), `by` stands for the login."""

    client: Client
    tokens: Authorization
    abuse: bool = False
    by: str = ""
    over: dict[str, _Over] = field(default_factory=dict)  # files that are over their quota

    def url(self, path: str, params: Mapping[str, object]) -> URL:
        texts = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in params.items()}
        return self.client.base.with_path(f"{self.client.base.path.rstrip('/')}/{path}").with_query(texts)

    async def send(
        self,
        method: str,
        url: URL,
        what: str,
        headers: Mapping[str, str] = {},
        body: bytes | Callable[[], Body] | None = None,
        *,
        statuses: Container[int] = (200,),
        priority: int = 0,
        patience: float | None = None,
    ) -> Answered:
        """The answer, one of `statuses`; it is to be closed. Raises what a refusal means, about `what`.

        `body` is called for each attempt.
        """
        used = await self.tokens.header()
        for attempt in range(2):
            self.client.headers["Authorization"] = used
            sent = body() if callable(body) else body
            response = await self.client.answered(method, url, headers, sent, priority=priority, patience=patience)
            if response.status in statuses:
                return response
            try:
                if response.status != 401 or attempt:
                    raise await refusal(response, what)
            finally:
                response.close()
            used = await self.tokens.renewed(used)
        raise AssertionError("the second answer is returned or raised")

    async def json(
        self,
        path: str,
        what: str,
        params: Mapping[str, object],
        *,
        method: str = "GET",
        headers: Mapping[str, str] = {},
        body: object = None,
    ) -> dict[str, Any]:
        """What Drive answers. Raises Damaged where it is no JSON."""
        sent = None if body is None else json.dumps(body).encode()
        kind = {"Content-Type": "application/json; charset=UTF-8"} if sent is not None else {}
        response = await self.send(method, self.url(path, params), what, {**kind, **headers}, sent)
        return await told(response, what)

    async def told(self, place: str, key: str | None) -> dict[str, Any]:
        """What Drive says of one file."""
        params = {"supportsAllDrives": True, "fields": FIELDS}
        return await self.json(f"drive/v3/files/{place}", place, params, headers=keyed(place, key))

    async def media(self, place: str, key: str | None, what: str, ask: Ask) -> Answer:
        """The checked answer for a range of a file's bytes."""
        self._refuse_if_over(place)
        params: dict[str, object] = {"alt": "media", "supportsAllDrives": True}
        if self.abuse:
            params["acknowledgeAbuse"] = True
        headers = {"Range": range_header(ask)} | keyed(place, key)
        url = self.url(f"drive/v3/files/{place}", params)
        try:
            response = await self.send("GET", url, what, headers, statuses=(200, 206, 416), priority=ask.why)
        except OverQuota as failure:
            failure.after = self._over(place, str(failure))
            raise
        self.over.pop(place, None)
        try:
            answer = checked(response, ask)
        except BaseException:
            response.close()
            raise
        answer.validator = _hash(response.headers) or answer.validator
        return answer

    def _refuse_if_over(self, place: str) -> None:
        over = self.over.get(place)
        if over and (left := over.until - time.monotonic()) > 0:
            raise OverQuota(over.why, after=left)

    def _over(self, place: str, why: str) -> float:
        before = self.over.get(place)
        pause = min(LONGEST, before.pause * 2) if before else OVER
        self.over[place] = _Over(time.monotonic() + pause, pause, why)
        while len(self.over) > 10_000:
            del self.over[next(iter(self.over))]
        return pause


def _hash(headers: CIMultiDictProxy[str]) -> str | None:
    """What Google says that the bytes of the whole file are known by; the first of several, in a fixed order."""
    hashes = ",".join(headers.getall("X-Goog-Hash", ())).split(",")
    return min((each.strip() for each in hashes if "=" in each), default=None)


def keyed(place: str, key: str | None) -> dict[str, str]:
    """The header that files shared by old links want."""
    return {"X-Goog-Drive-Resource-Keys": f"{place}/{key}"} if key else {}


async def told(response: Answered, what: str) -> dict[str, Any]:
    """An answer in JSON, read to its end and closed."""
    try:
        data = await _read(response, LARGEST)
        found = await asyncio.to_thread(json.loads, data) if len(data) > 1 << 18 else json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{what}: Google's answer is not JSON") from error
    finally:
        response.close()
    if not isinstance(found, dict):
        raise Damaged(f"{what}: Google's answer is not what it documents")
    return found


async def _read(response: Answered, most: int) -> bytes:
    data = bytearray()
    with translated(response.url):
        async for chunk in response.content.iter_any():
            response.came(len(chunk))
            data += chunk
            if len(data) > most:
                raise Damaged(f"an answer of Google's is longer than {most >> 20} MiB")
    if response.content_length is not None and len(data) < response.content_length:
        raise Unavailable("Google broke an answer off")
    return bytes(data)


async def refusal(response: Answered, what: str) -> Failure:
    """What a refusal means."""
    reason, status = "", response.status
    try:
        found = json.loads(await _read(response, REFUSAL))
        error = found.get("error") if isinstance(found, dict) else None
        listed = error.get("errors") if isinstance(error, dict) else None
        first = listed[0] if isinstance(listed, list) and listed else None
        reason = str(first.get("reason", "")) if isinstance(first, dict) else ""
    except (ValueError, RecursionError, Failure):
        pass  # the status says enough
    after = retry_after(response.headers.get("Retry-After"))
    failed = Unavailable, "Google failed"
    kind, text = (
        _REASONS.get(reason)
        or _STATUSES.get(status)
        or (failed if status >= 500 else (Damaged, "Google does not understand it"))
    )
    shown = f" ({visible(reason)[:60]})" if reason else f" ({status})"
    if kind is Busy and text is _DAY:
        after = after or 3600.0
    return kind(f"{what}: {text}{shown}", after=after)


class Once:
    """What many wait for: at most one task for each name. It is nobody's, and ends when nobody waits any more."""

    def __init__(self) -> None:
        self.tasks: dict[str, asyncio.Task[Any]] = {}
        self.waiting: dict[asyncio.Task[Any], int] = {}
        self.closed = False

    def begun(self, name: str, doing: Callable[[], Coroutine[Any, Any, T]]) -> "asyncio.Task[T]":
        """The task of this name: the one that there is, or a new one."""
        if self.closed:
            raise Unavailable("this source was closed")
        if name not in self.tasks:
            task = self.tasks[name] = asyncio.create_task(doing())
            self.waiting[task] = 0
            task.add_done_callback(lambda task: self._ended(name, task))
        return self.tasks[name]

    async def run(self, name: str, doing: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What the task of this name gives."""
        task = self.begun(name, doing)
        self.waiting[task] += 1
        try:
            await asyncio.wait([task])
        finally:
            if not task.done():
                self.waiting[task] -= 1
                if not self.waiting[task]:
                    self._drop(name, task)
                    task.cancel()
        if task.cancelled():
            raise Unavailable("this source was closed")
        if isinstance(failure := task.exception(), Failure):
            raise type(failure)(str(failure), after=failure.after) from failure  # each who waits adds its own notes
        return task.result()

    def _ended(self, name: str, task: "asyncio.Task[Any]") -> None:
        self._drop(name, task)
        self.waiting.pop(task, None)
        if not task.cancelled():
            task.exception()  # whoever waits is told

    def _drop(self, name: str, task: "asyncio.Task[Any]") -> None:
        if self.tasks.get(name) is task:
            del self.tasks[name]

    async def aclose(self) -> None:
        self.closed = True
        tasks = list(self.waiting)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
