"""Nothing -> objects of a bucket, through obstore: of GCS, of Azure, and of S3 with the credentials of the machine.

obstore ends an answer whose reader is slow, so files are read in `blocks`. Its own attempts are turned off: `retry`
makes them. It cannot go on with an upload that was broken off, and knows no condition for what is written in parts:
there it is looked at before. A folder with a key that obstore takes for no path cannot be listed.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playhead.blob import Blob
from playhead.errors import Changed, Damaged, Malformed, Unavailable
from playhead.limits import Limits
from playhead.origins.buckets import blocks, refusals
from playhead.origins.buckets.blocks import BLOCK, FIRST, Answer, Block, ObjectBlob
from playhead.origins.buckets.bucket import SMALL, Found, Page, Place, Unsupported, chunks, seconds
from playhead.origins.remote import Traffic
from playhead.tree import Ask, Why, visible
from playhead.version import __version__

if TYPE_CHECKING:
    from obstore import ObjectMeta

CONNECT = 10.0  # seconds to connect in
WHOLE = 600.0  # seconds for a block, or a part, from the first byte to the last
LISTING = 900.0  # seconds for all the pages of a folder
PART, LANES = 8 << 20, 4  # bytes of a part that is sent; how many at once


class Obstored:
    """A bucket, asked through obstore. Raises Malformed where obstore is missing, or does not take a place."""

    def __init__(self, place: Place, limits: Limits | None = None) -> None:
        self.place, self.traffic = place, Traffic(limits or Limits())
        self.bucket = f"{place.kind}:{place.bucket}"
        self.store = made(place, silence=blocks.SILENCE)
        self.writing: Any = None
        self.parked: set[Answer] = set()
        self.blocks: set[Block] = set()
        self.closed = False

    def named(self, key: str) -> str:
        """What is asked for, as it is called in messages."""
        return f"{self.bucket}/{visible(key)}" if key else self.bucket

    def came(self, count: int) -> None:
        """So many bytes have come."""
        self.traffic.received += count
        self.traffic.limits.count(count)

    async def aclose(self) -> None:
        self.closed = True
        for answer in list(self.parked):
            answer.drop()
        running = list(self.blocks)
        for block in running:
            block.end(Unavailable(f"{self.bucket}: this source was closed"))
        await asyncio.gather(*(block.task for block in running), return_exceptions=True)

    # ── asking ──

    async def _entered(self, key: str, priority: int, ask: Callable[[Any], Any], within: float) -> Any:
        """What obstore answers; the request's place is to be given back. Counted by its outcome."""
        import obstore

        if self.closed:
            raise Unavailable(f"{self.bucket}: this source was closed")
        await self.traffic.limits.enter(priority)
        try:
            with refusals.translated(self.named(key)):
                async with asyncio.timeout(within):
                    answer = await ask(obstore)
        except BaseException as error:
            self.traffic.limits.leave()
            self.traffic.outcomes[refusals.outcome(error)] += 1
            raise
        self.traffic.outcomes["200"] += 1
        return answer

    async def _answer(self, key: str, priority: int, ask: Callable[[Any], Any], within: float = WHOLE) -> Any:
        answer = await self._entered(key, priority, ask, within)
        self.traffic.limits.leave()
        return answer

    async def head(self, key: str, priority: int = 0) -> Found:
        options = {"head": True}
        result = await self._answer(key, priority, lambda o: o.get_async(self.store, key, options=options), _soon())
        return _found(key, result.meta)

    async def get(self, key: str, range: tuple[int, int] | int, known: Found | None, why: Why) -> Answer:
        """The answer for a range, or for so many last bytes. Raises Changed where it is not of the `known` version."""
        options: dict[str, Any] = {"range": {"suffix": range} if isinstance(range, int) else range}
        if known and known.validator:
            options["if_match"] = known.etag
        result = await self._entered(key, why, lambda o: o.get_async(self.store, key, options=options), _soon())
        found, (start, stop) = _found(key, result.meta), result.range
        answer = Answer(self, result, found, start, stop)
        if known and _differs(known, found):
            answer.drop()
            raise Changed(f"{self.named(key)} is no longer the file that was opened")
        if not isinstance(range, int) and (start, stop) != (range[0], min(range[1], found.size)):
            answer.drop()
            raise Damaged(f"{self.named(key)}: the service sends other bytes than were asked for")
        return answer

    # ── reading ──

    async def open(self, key: str, ask: Ask, tag: Callable[[Found], str | None]) -> Blob:
        wanted = _wanted(ask)
        answer: Answer | None = None
        if not (isinstance(wanted, int) and self.place.kind == "azure"):  # which does not give the last bytes
            with suppress(refusals.Unsatisfied):
                answer = await self.get(key, wanted, None, ask.why)
                answer.park()
        known = answer.found if answer else await self.head(key, ask.why)
        waiting = [answer] if answer else []
        return ObjectBlob(known.size, tag(known), self, known, ask.why, waiting, modified=known.modified)

    async def pages(self, prefix: str, most: int = 1000) -> AsyncGenerator[Page, None]:
        folder = prefix.rstrip("/") or None
        listing = await self._answer(
            folder or "", Why.SCAN, lambda o: o.list_with_delimiter_async(self.store, folder), LISTING
        )
        files = [_found(meta["path"], meta) for meta in listing["objects"]]
        marks = [found for found in files if found.key.startswith(prefix)]  # "folder/" comes as "folder"
        if len(marks) < len(files):
            marks.append(Found(prefix, 0, None, None))
        yield Page(marks, [name[len(prefix) :] for name in listing["common_prefixes"]])

    # ── writing ──

    async def put(
        self, key: str, blob: Blob, there: Found | None, state: str | None, keep: Callable[[str], None]
    ) -> Found:
        self.writing = self.writing or made(self.place, silence=None)
        about = {"mtime": self._time(blob)} if blob.modified else None
        etag = await (self._whole if blob.size <= SMALL else self._in_parts)(key, blob, there, about)
        written = await self.head(key, Why.BULK)
        if etag and written.etag != etag:
            raise Changed(f"{self.named(key)}: somebody else has written it since")
        if written.size != blob.size:
            raise Damaged(f"{self.named(key)}: the service has {written.size:,} bytes of {blob.size:,}")
        return written

    async def _whole(self, key: str, blob: Blob, there: Found | None, about: dict[str, str] | None) -> str | None:
        how: dict[str, Any] = {"use_multipart": False, "mode": _version(there) if there else "create"}
        data = await blob.read()
        made = await self._answer(
            key, Why.BULK, lambda o: o.put_async(self.writing, key, data, attributes=about, **how)
        )
        return made["e_tag"]  # type: ignore[no-any-return]

    async def _in_parts(self, key: str, blob: Blob, there: Found | None, about: dict[str, str] | None) -> str | None:
        how: dict[str, Any] = {"use_multipart": True, "chunk_size": PART, "max_concurrency": LANES}
        within = WHOLE * (1 + blob.size / PART)
        async with aclosing(chunks(blob, 0, blob.size)) as source:
            made = await self._answer(
                key, Why.BULK, lambda o: o.put_async(self.writing, key, source, attributes=about, **how), within
            )
        return made["e_tag"]  # type: ignore[no-any-return]

    def _time(self, blob: Blob) -> str:
        assert blob.modified
        return seconds(blob.modified) if self.place.kind == "s3" else blob.modified.isoformat()

    async def copy(self, key: str, to: str) -> Found | None:
        try:
            await self._answer(key, Why.BULK, lambda o: o.copy_async(self.store, key, to, overwrite=False))
        except Unsupported:
            return None
        return await self.head(to, Why.BULK)


def _soon() -> float:
    """Seconds within which an answer begins."""
    return CONNECT + blocks.SILENCE


def _differs(known: Found, found: Found) -> bool:
    """Is it another version? By its time too, where there is no strong ETag."""
    return (known.etag, known.size) != (found.etag, found.size) or (
        known.validator is None and known.modified != found.modified
    )


def _wanted(ask: Ask) -> tuple[int, int] | int:
    """What the first request is for."""
    if ask.start is None:
        return min(BLOCK, max(1, -(ask.stop or 0)))
    stop = ask.start + FIRST if ask.stop is None else min(ask.stop, ask.start + BLOCK)
    return ask.start, max(ask.start + 1, stop)


def _version(there: Found) -> dict[str, str]:
    """What tells obstore which version may be overwritten."""
    return {name: value for name, value in (("e_tag", there.etag), ("version", there.version)) if value}


def _found(key: str, meta: "ObjectMeta") -> Found:
    return Found(key, meta["size"], meta["last_modified"], meta["e_tag"], meta["version"])


# ── how obstore is told ──


def made(place: Place, silence: float | None) -> Any:
    """obstore's store of a place. Raises Malformed."""
    try:
        from obstore import store
        from obstore.exceptions import BaseError
    except ImportError as error:
        extra = "the extra `objects`: pip install 'playhead[objects]'"
        raise Malformed(f"{place.kind}:{place.bucket} needs {extra}") from error
    kinds: dict[str, tuple[Any, Callable[[Place], dict[str, Any]]]] = {
        "s3": (store.S3Store, _s3),
        "gcs": (store.GCSStore, _gcs),
        "azure": (store.AzureStore, _azure),
    }
    kind, config = kinds[place.kind]
    try:
        settings = {name: value for name, value in config(place).items() if value is not None}
        how = {"client_options": _client(place, silence), "retry_config": _ONCE}
        return kind(place.bucket, config=settings, **how)
    except (BaseError, ValueError, OSError):
        raise Malformed(
            f"{place.kind}:{place.bucket}: a setting of this bucket cannot be used"
        ) from None  # it may be a secret


_ONCE = {"max_retries": 0, "retry_timeout": timedelta(seconds=1)}


def _client(place: Place, silence: float | None) -> dict[str, Any]:
    options: dict[str, Any] = {
        "timeout": timedelta(seconds=WHOLE),
        "connect_timeout": timedelta(seconds=CONNECT),
        "allow_http": (place.endpoint or "").startswith("http://"),
        "user_agent": f"playhead/{__version__}",
    }
    if silence:
        options["read_timeout"] = timedelta(seconds=silence)
    if place.proxy:
        options["proxy_url"] = place.proxy
    if place.ca:
        options["root_certificate"] = Path(place.ca).read_bytes()
    return options


def _s3(place: Place) -> dict[str, Any]:
    endpoint = place.endpoint
    if endpoint and not place.path_style:
        scheme, _, rest = endpoint.partition("://")
        endpoint = f"{scheme}://{place.bucket}.{rest}"
    return {
        "access_key_id": place.key,
        "secret_access_key": place.secret,
        "session_token": place.token,
        "region": place.region,
        "endpoint": endpoint,
        "skip_signature": True if place.anonymous else None,
        "virtual_hosted_style_request": not place.path_style,
    }


def _gcs(place: Place) -> dict[str, Any]:
    inline = (place.credentials or "").lstrip().startswith("{")
    return {
        "service_account_key": place.credentials if inline else None,
        "service_account": None if inline else place.credentials,
        "bearer_token": place.token,
        "base_url": place.endpoint,
        "skip_signature": True if place.anonymous else None,
    }


def _azure(place: Place) -> dict[str, Any]:
    return {
        "account_name": place.account,
        "account_key": place.secret,
        "sas_key": place.token,
        "endpoint": place.endpoint,
        "skip_signature": True if place.anonymous else None,
    }
