"""Nothing -> Blob: a file behind HTTP, read by ranges whose answers are checked.

A file is known by its first answer: size and validator come from its headers, and the first stream that it fits goes on
with that very answer. Each further answer is checked against what the first promised (status, Content-Range, length,
total, validator): another version is Changed, an answer that cannot be the bytes asked for is Damaged. A server without
ranges is read from the start and the bytes before are dropped; one without a length can only flow.
"""

import asyncio
import re
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from playhead.blob import Blob, Pieces
from playhead.errors import Changed, Damaged, Unavailable, Unsized
from playhead.origins import described
from playhead.origins.addresses import shown
from playhead.origins.fetch import Answered, translated
from playhead.origins.receive import received
from playhead.tree import Ask

PATIENCE = 5.0  # seconds for which an answer waits for the stream that it was asked for
NEAR = 192 << 10  # bytes dropped from an answer rather than asking again
LONG = 4 << 20  # bytes of a body for which its socket is read by ourselves
LITTLE, SEVERAL = 64 << 10, 16  # bytes of an answer that ends early; how many such ones are followed

_CONTENT_RANGE = re.compile(r"bytes\s+(\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.IGNORECASE)
_UNSATISFIED = re.compile(r"bytes\s+\*/(\d{1,18})", re.IGNORECASE)


@dataclass(slots=True, eq=False)
class Answer:
    """A checked answer: the bytes [start, stop) of a file of `size` bytes, not read yet."""

    response: Answered
    start: int
    stop: int | None
    size: int | None
    validator: str | None
    expiry: asyncio.TimerHandle | None = None
    dropped: bool = False
    loop: asyncio.AbstractEventLoop = field(init=False, repr=False)
    among: "set[Answer]" = field(default_factory=set)

    def park(self, among: "set[Answer]") -> None:
        """Wait for the stream that this answer was asked for; but not for ever, nor beyond the tree's end."""
        self.among = among
        among.add(self)
        self.loop = asyncio.get_running_loop()
        self.expiry = self.loop.call_later(PATIENCE, self.drop)

    def unwanted(self) -> None:
        """Drop it, from whatever thread."""
        with suppress(RuntimeError):  # the loop has ended, and its connections with it
            self.loop.call_soon_threadsafe(self.drop)

    def drop(self) -> None:
        """Nobody wants it any more."""
        if self.expiry:
            self.expiry.cancel()
        self.among.discard(self)
        self.dropped = True
        self.response.close()

    def take(self, start: int, stop: int | None) -> bool:
        """May a stream of [start, stop) go on with this answer? From then on it is that stream's."""
        if self.dropped or not self.start <= start <= self.start + NEAR:
            return False
        if self.stop is not None and (stop is None or stop > self.stop):
            return False
        if self.expiry:
            self.expiry.cancel()
        self.among.discard(self)
        return True

    def _left(self, at: int) -> int:
        return self.stop - at if self.stop is not None else 0

    def _long(self, at: int) -> bool:
        return self._left(at) >= LONG

    async def body(self, start: int, stop: int | None) -> Pieces:
        """The bytes [start, stop) from it (to its end where `stop` is None); then it is closed."""
        at = self.start
        check = described.Check.of(self.response.headers) if stop is None or stop == self.stop else None
        try:
            with translated(self.response.url):
                while stop is None or at < stop:
                    chunk = self.response.content.read_nowait() if self._long(at) else b""
                    if not chunk and self._long(at) and (own := self.response.taken_over()):
                        async with aclosing(received(own, self.response, at, stop or at + self._left(at))) as views:
                            async for view in views:
                                begin, at = at, at + len(view)
                                if check:
                                    check.update(view)
                                if at > start:
                                    yield view[max(0, start - begin) :] if begin < start else view
                        break
                    if not chunk:
                        chunk = await self.response.content.readany()
                    if not chunk:
                        if self.response.content.at_eof():
                            break
                        continue
                    self.response.came(len(chunk))
                    begin, at = at, at + len(chunk)
                    if check:
                        check.update(chunk)
                    if at <= start:
                        continue
                    if begin < start or (stop is not None and at > stop):
                        yield memoryview(chunk)[max(0, start - begin) : None if stop is None else stop - begin]
                    else:
                        yield chunk
            if stop is None and self.response.cut_off:
                raise Unavailable(f"{shown(self.response.url)} broke the connection off")
            if check and check.wrong():
                raise Damaged(f"{shown(self.response.url)} sends bytes that have not the digest that it tells of them")
            if stop is not None and at < stop:
                raise Unavailable(f"{shown(self.response.url)} ended {stop - at:,} bytes early")
        finally:
            self.response.close()  # a connection whose answer was read to its end is kept all the same


@dataclass(frozen=True, slots=True, eq=False)
class RangedBlob(Blob):
    """A file as its first answer described it; that answer is `waiting`, until a stream takes it."""

    validator: str | None
    waiting: list[Answer]
    ranged: bool = True  # does the server answer with the range that is asked for?

    @abstractmethod
    async def again(self, ask: Ask) -> Answer:
        """The checked answer to one more question for this file."""

    async def stream(self, start: int, stop: int) -> Pieces:
        answer, little = self._waiting(start, stop) if start < stop else None, 0
        while start < stop:  # once, unless the server gives less than was asked for at a time
            answer = answer or await self._asked(start, stop)
            end = min(stop, answer.stop or stop)
            async with aclosing(answer.body(start, end)) as body:
                async for piece in body:
                    yield piece
            if end < stop and self.tag is None:  # nothing would tell whether the next answer is of the same version
                raise Unavailable(f"{shown(answer.response.url)} gives less than was asked for")
            little += end < stop and end - start < LITTLE
            if little > SEVERAL:
                raise Damaged(f"{shown(answer.response.url)} gives but a few bytes of what it is asked for")
            start, answer = end, None

    def __del__(self) -> None:
        if self.waiting:
            self.waiting[0].unwanted()

    def _waiting(self, start: int, stop: int) -> Answer | None:
        if self.waiting and self.waiting[0].take(start, stop):
            return self.waiting.pop()
        return None

    async def _asked(self, start: int, stop: int) -> Answer:
        """The answer for [start, stop). Raises Changed where it is of another version."""
        answer = await self.again(Ask(start, stop))
        if answer.size != self.size or answer.validator != self.validator:
            answer.response.close()
            raise Changed(f"{shown(answer.response.url)} is no longer the file that was opened")
        if answer.start > start or (answer.stop or stop) <= start:
            answer.response.close()
            raise Damaged(f"{shown(answer.response.url)} refuses a range that is in the file")
        return answer


# ── reading answers ──


def range_header(ask: Ask) -> str:
    if ask.start is None:
        return f"bytes={ask.stop}"
    if ask.stop is None:
        return f"bytes={ask.start}-"
    return f"bytes={ask.start}-{max(ask.start, ask.stop - 1)}"


def checked(response: Answered, ask: Ask | None) -> Answer:
    """What an answer to `ask` holds. Raises Damaged where it cannot be what was asked for."""
    headers, name = response.headers, shown(response.url)
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Damaged(f"{name} sends the file encoded as {headers['Content-Encoding']!r}; its ranges mean nothing")
    if headers.get("Transfer-Encoding", "chunked").lower() not in ("chunked", "identity"):
        raise Damaged(f"{name} sends the file in a transfer encoding that nobody asked for")
    validator = validator_of(headers)
    length = response.content_length if "Transfer-Encoding" not in headers else None
    if response.status == 416 and ask is not None:
        unsatisfied = _UNSATISFIED.fullmatch(headers.get("Content-Range", "").strip())
        if unsatisfied and unsatisfied[1] == "0":
            return Answer(response, 0, 0, 0, validator)
        raise Damaged(f"{name} refuses the first byte of the file")
    if response.status == 200:
        return Answer(response, 0, length, length, validator)
    ranged = headers.get("Content-Range", "").strip()
    if ranged == "bytes 0--1/0":  # how Go says that the file is empty
        return Answer(response, 0, 0, 0, validator)
    match = _CONTENT_RANGE.fullmatch(ranged)
    if not match or ask is None or headers.get("Content-Type", "").lower().startswith("multipart/byteranges"):
        raise Damaged(f"{name} answers {response.status} without saying which bytes they are")
    start, stop = int(match[1]), int(match[2]) + 1
    size = None if match[3] == "*" else int(match[3])
    if size is None:
        return _unknown_total(response, start, validator)
    if stop > size or not _fits((start, stop), _expected(ask, size)) or (length is not None and length != stop - start):
        raise Damaged(f"{name} sends other bytes than were asked for ({headers['Content-Range']})")
    return Answer(response, start, stop, size, validator)


def _unknown_total(response: Answered, start: int, validator: str | None) -> Answer:
    if start:
        raise Unsized(f"{shown(response.url)} does not say how long it is")
    return Answer(response, NEAR + 1, None, None, validator)  # not to be taken: flow() asks again, without a range


def validator_of(headers: Mapping[str, str]) -> str | None:
    """What tells versions apart: a strong ETag, else all that there is."""
    etag, modified = headers.get("ETag", ""), headers.get("Last-Modified", "")
    return etag if etag.startswith('"') else f"{etag} {modified}".strip() or None


def _fits(sent: tuple[int, int], wanted: tuple[int, int]) -> bool:
    """May an answer hold these bytes: all of them, perhaps in whole blocks, or those at the beginning?"""
    return sent[0] <= wanted[0] and (sent[1] >= wanted[1] or (sent[0] == wanted[0] and sent[0] < sent[1]))


def _expected(ask: Ask, size: int) -> tuple[int, int]:
    if ask.start is None:
        return max(0, size + (ask.stop or 0)), size
    stop = size if ask.stop is None else max(ask.stop, ask.start + 1)
    return ask.start, min(stop, size)
