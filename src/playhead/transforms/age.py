"""Blob <-> Blob, Tree -> Tree: files of age v1 (C2SP age.md), read and written by range.

After the header come a nonce and chunks of 64 KiB, each sealed with ChaCha20-Poly1305; the last says that it is the
last. How long a file is can be believed only when that chunk was opened, so it is when the file is: what was cut is
refused before its first byte. From then on a range needs its chunks and nothing else. What has no length is opened
from its beginning, and each chunk is let go when it is known to be right.
"""

import asyncio
import os
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import blake2b

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from playhead.blob import Blob, FileSpan, Piece, Pieces, identity, pieces
from playhead.errors import Damaged, NotFound
from playhead.transforms import ageheader, armor, sealed
from playhead.transforms.ageheader import LONGEST, Identity, Wrap
from playhead.transforms.hpke import expanded, extracted
from playhead.transforms.sealed import PLAIN, SEALED, TAG, Side, through, widened
from playhead.tree import Ask, Entries, Entry, Tree, join, segments

NONCE = 16
HEAD = 4 << 10  # bytes that are read for a header at first
SUFFIX = ".age"
KNOWN = 4096  # files whose keys are remembered
_DAMAGED = "it was changed, or cut"


@dataclass(frozen=True, slots=True)
class Opened:
    """What a header told: where the chunks begin, and their key."""

    begin: int
    key: bytes = field(repr=False)

    @property
    def cipher(self) -> ChaCha20Poly1305:
        return ChaCha20Poly1305(self.key)


def _nonce(chunk: int, *, last: bool) -> bytes:
    return chunk.to_bytes(11) + bytes([last])


def _payload_key(file_key: bytes, nonce: bytes) -> bytes:
    return expanded(extracted(nonce, file_key), b"payload", 32)


def _unwrapped(header: ageheader.Header, data: bytes, known: Sequence[Identity]) -> Opened:
    """The key of the chunks, from the bytes that the header and the nonce are in. May take a second."""
    file_key = ageheader.file_key(header, known)
    nonce = data[header.length : header.length + NONCE]
    if len(nonce) < NONCE:
        raise Damaged("this age file ends within its head")
    return Opened(header.length + NONCE, _payload_key(file_key, nonce))


# ── reading by range ──


def plain_size(size: int) -> int:
    """The bytes in chunks of `size` bytes. Raises Damaged where no chunks have that size."""
    left = size % SEALED
    if size < TAG or 0 < left < TAG or (left == TAG and size > TAG):
        raise Damaged("this age file has a last chunk that cannot be: it was cut, or something follows")
    return size - TAG * -(-size // SEALED)


async def unlocked(
    blob: Blob, known: Sequence[Identity], turn: AbstractAsyncContextManager[None] | None = None
) -> tuple[Blob, Opened]:
    """A file, its armor taken off, and what its header told. Raises Damaged, or Denied where nothing opens it."""
    head = await blob.read(0, HEAD)
    if armor.is_armor(head):
        blob = await armor.dearmored(blob)
        head = await blob.read(0, HEAD)
    while (header := ageheader.parse(head)) is None or len(head) < min(header.length + NONCE, blob.size):
        if len(head) == blob.size or len(head) > LONGEST:
            raise Damaged("the header of this age file has no end")
        head += await blob.read(len(head), 4 * len(head))
    async with turn or nullcontext():  # a passphrase takes much memory
        return blob, await asyncio.to_thread(_unwrapped, header, head, known)


async def decrypted(blob: Blob, known: Sequence[Identity]) -> Blob:
    """Blob -> Blob: what is in an age file, once its last chunk was found right. Raises Damaged or Denied."""
    inner, opened = await unlocked(blob, known)
    made = _made(inner, opened, _tag(blob.tag, known))
    await made.verify()
    return made


def _tag(tag: str | None, known: Sequence[Identity]) -> str | None:
    """The tag of what is in a file that somebody may read."""
    return identity("age", tag, *(somebody.mark for somebody in known))


def _made(inner: Blob, opened: Opened, tag: str | None) -> "Decrypted":
    size = plain_size(inner.size - opened.begin)
    return Decrypted(size, tag, inner, opened, modified=inner.modified)


@dataclass(frozen=True, slots=True, eq=False)
class Decrypted(Blob):
    """See `decrypted`."""

    blob: Blob
    opened: Opened

    def _sides(self) -> tuple[Side, Side]:
        return Side(SEALED, self.blob.size - self.opened.begin), Side(PLAIN, self.size)

    async def verify(self) -> None:
        """Raises Damaged where the last chunk is not right: then the size is not either."""
        last = max(0, -(-self.size // PLAIN) - 1)
        data = await self.blob.read(self.opened.begin + last * SEALED)
        self._open(last, memoryview(data), memoryview(bytearray(max(0, len(data) - TAG))))

    def stream(self, start: int, stop: int) -> Pieces:
        source, result = self._sides()
        first, last = sealed.blocks(start, stop, result)
        begin = self.opened.begin
        upstream = pieces(self.blob, begin + source.until(first), begin + source.until(last))
        return through(upstream, start, stop, source, result, self._open)

    def here(self, start: int, stop: int) -> list[Piece] | None:
        if start >= stop:
            return []
        return sealed.here(self.blob, start, stop, self.opened.begin, *self._sides(), self._open)

    def _open(self, first: int, source: memoryview, room: memoryview) -> None:
        cipher, end = self.opened.cipher, max(0, -(-self.size // PLAIN) - 1)
        for at in range(-(-len(source) // SEALED)):
            chunk, into = source[at * SEALED : (at + 1) * SEALED], room[at * PLAIN : (at + 1) * PLAIN]
            _open(cipher, first + at, chunk, into, last=first + at == end)


def _open(cipher: ChaCha20Poly1305, number: int, chunk: memoryview, into: memoryview, *, last: bool) -> None:
    try:
        if hasattr(cipher, "decrypt_into") and len(into):
            cipher.decrypt_into(_nonce(number, last=last), chunk, None, into)
        else:
            into[:] = cipher.decrypt(_nonce(number, last=last), chunk, None)
    except InvalidTag:
        raise Damaged(
            f"chunk {number} (bytes {number * PLAIN:,} and on) fails its authentication: {_DAMAGED}"
        ) from None


# ── reading from the beginning ──


async def flowing(upstream: Pieces, known: Sequence[Identity]) -> Pieces:
    """What is in an age file that comes as a stream, chunk by chunk. Raises Damaged or Denied."""
    held = bytearray()
    async with aclosing(upstream), aclosing(_bytes_of(upstream)) as raw, aclosing(armor.flowing(raw)) as coming:
        while (header := ageheader.parse(bytes(held))) is None or len(held) < header.length + NONCE:
            piece = await anext(coming, None)
            if piece is None:
                raise Damaged("this age file ends within its head")
            held += piece
        opened = await asyncio.to_thread(_unwrapped, header, bytes(held), known)
        del held[: opened.begin]
        number, ended = 0, False
        piece = b""
        while piece is not None and not (ended and held):
            held += piece
            while len(held) >= SEALED and not ended:
                data, ended = _flowed(opened, number, held)
                number += 1
                yield data
            piece = await anext(coming, None)
        if held and not ended:
            if len(held) < TAG or (len(held) == TAG and number):
                raise Damaged(f"the last chunk of this age file cannot be: {_DAMAGED}")
            data, ended = _flowed(opened, number, held)
            yield data
        if not ended or held:
            raise Damaged("this age file goes on after its last chunk" if ended else "this age file has no last chunk")


async def _bytes_of(stream: Pieces) -> AsyncGenerator[bytes | memoryview, None]:
    async for piece in stream:
        yield await asyncio.to_thread(piece.read) if isinstance(piece, FileSpan) else piece


def _flowed(opened: Opened, number: int, held: bytearray) -> tuple[bytes, bool]:
    """The next chunk, opened, and whether it is the last; only that one may be shorter than the others."""
    chunk = memoryview(bytes(held[:SEALED]))
    del held[:SEALED]
    into = memoryview(bytearray(len(chunk) - TAG))
    try:
        _open(opened.cipher, number, chunk, into, last=len(chunk) < SEALED)
        return bytes(into), len(chunk) < SEALED
    except Damaged:
        if len(chunk) < SEALED:
            raise
    _open(opened.cipher, number, chunk, into, last=True)
    return bytes(into), True


# ── writing ──


async def encrypted(blob: Blob, recipients: Sequence[Wrap]) -> Blob:
    """Blob -> Blob: a file of age for some (see `ageheader.recipient`), or for who knows a passphrase, alone."""
    file_key, nonce = os.urandom(ageheader.KEY), os.urandom(NONCE)
    stanzas = [await asyncio.to_thread(wrap, file_key) for wrap in recipients]
    head = ageheader.written(stanzas, file_key) + nonce
    size = len(head) + blob.size + TAG * max(1, -(-blob.size // PLAIN))
    tag = identity("age-sealed", blob.tag, blake2b(head, digest_size=16).hexdigest())
    return Encrypted(size, tag, blob, head, _payload_key(file_key, nonce), modified=blob.modified)


@dataclass(frozen=True, slots=True, eq=False)
class Encrypted(Blob):
    """See `encrypted`."""

    blob: Blob
    head: bytes
    key: bytes = field(repr=False)

    async def stream(self, start: int, stop: int) -> Pieces:
        if start < min(len(self.head), stop):
            yield self.head[start:stop]
        start, stop = max(0, start - len(self.head)), stop - len(self.head)
        if start >= stop:
            return
        source, result = Side(PLAIN, self.blob.size), Side(SEALED, self.size - len(self.head))
        first, last = sealed.blocks(start, stop, result)
        upstream = pieces(self.blob, source.until(first), source.until(last))
        async with aclosing(through(upstream, start, stop, source, result, self._seal)) as made:
            async for piece in made:
                yield piece

    def _seal(self, first: int, source: memoryview, room: memoryview) -> None:
        cipher, end = ChaCha20Poly1305(self.key), max(0, -(-self.blob.size // PLAIN) - 1)
        for at in range(-(-len(room) // SEALED)):
            chunk = source[at * PLAIN : (at + 1) * PLAIN]
            made = cipher.encrypt(_nonce(first + at, last=first + at == end), chunk, None)
            room[at * SEALED : at * SEALED + len(made)] = made


# ── names ──


def aged(tree: Tree, known: Sequence[Identity]) -> Tree:
    """Tree -> Tree: files that end in .age, opened and shown without it; others are not shown."""
    return AgeTree(tree, known)


@dataclass(frozen=True, slots=True)
class Version:
    """What is remembered of a file whose key is known."""

    tag: str | None
    size: int
    modified: datetime | None


class AgeTree(Tree):
    """See `aged`. Keys of files are remembered by the version of the file; one passphrase is tried at a time.

    A file that is not encrypted is none of this tree's: whoever can write there could else put one in another's place.
    """

    def __init__(self, tree: Tree, known: Sequence[Identity]) -> None:
        self.tree, self.known = tree, known
        self.opened: OrderedDict[str, tuple[Version, Opened]] = OrderedDict()
        self.turn = asyncio.Semaphore(1)

    def _seen(self, path: str, entry: Entry) -> Entry:
        size, name = None, entry.name.removesuffix(SUFFIX)
        if known := self.opened.get(path):
            version, opened = known
            same = version.tag == entry.tag if entry.tag else version.modified == entry.modified
            size = plain_size(version.size - opened.begin) if same and version.size == entry.size else None
        return replace(entry, name=name, size=size, tag=_tag(entry.tag, self.known))

    async def entries(self, folder: str = "") -> Entries:
        async with aclosing(self.tree.entries(folder)) as entries:
            found = [entry async for entry in entries]
        files = {entry.name for entry in found if not entry.folder and entry.name.removesuffix(SUFFIX)}
        for entry in found:
            if entry.folder and entry.name + SUFFIX not in files:
                yield entry
            elif entry.name in files and entry.name.endswith(SUFFIX):
                yield self._seen(join(folder, entry.name), entry)

    async def find(self, path: str) -> Entry:
        if segments(path):
            try:
                entry = await self.tree.find(path + SUFFIX)
                if not entry.folder:
                    return self._seen(path + SUFFIX, entry)
            except NotFound:
                pass
        entry = await self.tree.find(path)
        if not entry.folder:
            raise NotFound(f"{path!r} is not encrypted")
        return entry

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        if not segments(path):
            raise NotFound("this is a folder")
        path, known = path + SUFFIX, self.opened.get(path + SUFFIX)
        blob = await self.tree.open(path, widened(ask, known[1].begin) if known else Ask(0, HEAD, ask.why))
        tag = _tag(blob.tag, self.known)
        if known and blob.tag is not None and (known[0].tag, known[0].size) == (blob.tag, blob.size):
            return _made(blob, known[1], tag)
        inner, opened = await unlocked(blob, self.known, self.turn)
        made = _made(inner, opened, tag)
        await made.verify()
        if inner is blob and blob.tag is not None:  # where armor is, it is looked at anew
            self.opened[path] = Version(blob.tag, blob.size, blob.modified), opened
            self.opened.move_to_end(path)
            while len(self.opened) > KNOWN:
                self.opened.popitem(last=False)
        return made

    async def flow(self, path: str) -> Pieces:
        async with aclosing(flowing(self.tree.flow(path + SUFFIX), self.known)) as flow:
            async for piece in flow:
                yield piece

    async def aclose(self) -> None:
        await self.tree.aclose()
