"""Ranges of an object -> a stream, in blocks that come whether they are read or not.

For clients that end an answer whose reader is slow. Each block is a task's, which never waits for the reader; it is
asked for when half of the one before has come, and at most two are ahead of the reader. Each is pinned to the version
that was opened; the first may be the answer that opened it.
"""

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from playhead.blob import Blob, Pieces
from playhead.errors import Damaged, Failure, Unavailable
from playhead.origins.buckets.bucket import Found
from playhead.origins.buckets.refusals import translated
from playhead.origins.remote import Traffic
from playhead.tree import Why

SILENCE = 30.0  # seconds without a byte
PATIENCE = 5.0  # seconds for which an answer waits for the stream that it was asked for
NEAR = 192 << 10  # bytes dropped from an answer rather than asking again
FIRST, BLOCK = 1 << 20, 4 << 20  # bytes of the first block of a stream, and of the longest
AHEAD = 2  # blocks ahead of the reader
CHUNK = 64 << 10  # bytes that are given at a time, at least


class Source(Protocol):
    """Who is asked for blocks."""

    traffic: Traffic
    parked: "set[Answer]"
    blocks: "set[Block]"

    def named(self, key: str) -> str: ...

    def came(self, count: int) -> None: ...

    async def get(self, key: str, range: tuple[int, int] | int, known: Found | None, why: Why) -> "Answer": ...


@dataclass(slots=True, eq=False)
class Answer:
    """The bytes [start, stop) of an object, not read yet. Its request is counted until it is dropped."""

    service: Source
    result: Any  # obstore's GetResult; None: it was dropped
    found: Found
    start: int
    stop: int
    expiry: asyncio.TimerHandle | None = None

    def park(self) -> None:
        """Wait for the stream that this was asked for; but not for ever."""
        self.service.parked.add(self)
        self.expiry = asyncio.get_running_loop().call_later(PATIENCE, self.drop)

    def take(self, start: int) -> bool:
        """May a stream go on with this answer? From then on it is that stream's."""
        if self.result is None or not self.start <= start <= self.start + NEAR or start >= self.stop:
            return False
        self._unpark()
        return True

    def _unpark(self) -> None:
        if self.expiry:
            self.expiry.cancel()
        self.service.parked.discard(self)

    def drop(self) -> None:
        """Nobody reads it any more. Its connection ends with the last reference to it."""
        self._unpark()
        if self.result is not None:
            self.result = None
            self.service.traffic.limits.leave()


@dataclass(slots=True, eq=False)
class Block:
    """A run of a stream, which comes whether it is read or not."""

    blob: "ObjectBlob"
    start: int
    stop: int
    answer: Answer | None
    before: "Block | None"
    ready: deque[bytes] = field(default_factory=deque)
    got: int = 0
    half: asyncio.Event = field(default_factory=asyncio.Event)
    more: asyncio.Event = field(default_factory=asyncio.Event)
    failure: Failure | None = None
    over: bool = False
    task: "asyncio.Task[None]" = field(init=False)

    def __post_init__(self) -> None:
        self.blob.service.blocks.add(self)
        self.task = asyncio.create_task(self._come())

    async def _come(self) -> None:
        try:
            if self.before:
                await self.before.half.wait()
            self.answer = self.answer or await self._asked()
            await self._read(self.answer)
        except Failure as failure:
            self.failure = failure
        finally:
            self._ended()

    def _ended(self) -> None:
        if self.answer:
            self.answer.drop()
        self.before, self.over = None, True
        self.blob.service.blocks.discard(self)
        self.half.set()
        self.more.set()

    async def _asked(self) -> Answer:
        blob = self.blob
        answer = await blob.service.get(blob.known.key, (self.start, self.stop), blob.known, blob.why)
        if answer.start != self.start or answer.stop != self.stop:
            answer.drop()
            raise Damaged(f"{blob.service.named(blob.known.key)}: the service sends other bytes than were asked for")
        return answer

    async def _read(self, answer: Answer) -> None:
        service, at = self.blob.service, answer.start
        assert answer.result is not None
        name = service.named(self.blob.known.key)
        with translated(name):
            stream = answer.result.stream(min_chunk_size=CHUNK)
            while at < self.stop:
                async with asyncio.timeout(SILENCE):
                    chunk = await anext(stream, None)
                if chunk is None:
                    break
                begin, at = at, at + len(chunk)
                service.came(len(chunk))
                self._give(bytes(memoryview(chunk)[max(0, self.start - begin) : self.stop - begin]))
        if at < self.stop:
            raise Unavailable(f"{name} ended {self.stop - at:,} bytes early")

    def _give(self, data: bytes) -> None:
        self.ready.append(data)
        self.got += len(data)
        self.more.set()
        if 2 * self.got >= self.stop - self.start:
            self.half.set()

    async def pieces(self) -> Pieces:
        while True:
            while self.ready:
                if data := self.ready.popleft():
                    yield data
            if self.failure:
                raise self.failure
            if self.over:
                break
            self.more.clear()
            await self.more.wait()
        if self.got < self.stop - self.start:
            await self.task  # what it failed with is none of the failures that were foreseen
            raise Unavailable(f"{self.blob.service.named(self.blob.known.key)} ended early")

    def end(self, failure: Failure) -> None:
        """Nothing more comes; whoever reads on is told so."""
        self.failure = self.failure or failure
        self.task.cancel()
        self._ended()  # a task that was cancelled before it began does not


@dataclass(frozen=True, slots=True, eq=False)
class ObjectBlob(Blob):
    """An object as its first answer described it."""

    service: Source
    known: Found
    why: Why
    waiting: list[Answer]
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def __del__(self) -> None:
        if self.waiting:
            with suppress(RuntimeError):  # the loop has ended
                self.loop.call_soon_threadsafe(self.waiting[0].drop)

    async def stream(self, start: int, stop: int) -> Pieces:
        if start >= stop:
            return
        answer = self.waiting.pop() if self.waiting and self.waiting[0].take(start) else None
        blocks, at, size, last = deque[Block](), start, FIRST, None
        gone = Unavailable(f"{self.service.named(self.known.key)}: nobody reads it any more")
        try:
            while at < stop or blocks:
                while at < stop and len(blocks) <= AHEAD:
                    end = min(stop, answer.stop if answer else at + size)
                    last = Block(self, at, end, answer, last)
                    blocks.append(last)
                    at, size, answer = end, min(BLOCK, 2 * size), None
                given = blocks[0].pieces()
                try:
                    async for piece in given:
                        yield piece
                finally:
                    await given.aclose()
                blocks.popleft()
        finally:
            for block in blocks:
                block.end(gone)
            await asyncio.gather(*(block.task for block in blocks), return_exceptions=True)
