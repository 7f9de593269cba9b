"""Blob -> Blob, Tree -> Tree: files of AES-256-CBC padded with NUL, as an older encrypted music library wrote; reading.

A file is 16 random bytes and blocks of 16; a block needs the one before it and nothing else, so a range is one request.
Between 1 and 16 NULs were added at the end, and nothing says how many: all that end the last block are taken off, and
none before it. A file that itself ended in NULs keeps its length where that is known (`size`).

NOTHING PROTECTS SUCH A FILE: there is no authentication, and a changed byte is not noticed.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from playhead.blob import Blob, FileSpan, Piece, Pieces, identity, pieces
from playhead.errors import Damaged, Malformed
from playhead.tree import Ask, Entries, Entry, Tree

WIDTH = 16
AT_ONCE = 128 << 10  # bytes that are decrypted where they are, at most


def key_of(text: str) -> bytes:
    """The key as it was written: 32 characters of ASCII, used as they are. Raises Malformed."""
    if len(text) != 32 or not text.isascii():
        raise Malformed("a key of these files is 32 characters of ASCII")
    return text.encode()


async def decrypted(blob: Blob, key: bytes, size: int | None = None) -> Blob:
    """Blob -> Blob: what is in a file; `size` where it is known. Raises Damaged where it cannot be such a file."""
    if blob.size < 2 * WIDTH or blob.size % WIDTH:
        raise Damaged(f"{blob.size:,} bytes are not the size of a file of AES-CBC: it was cut, or is another")
    most, told = blob.size - WIDTH, size is not None
    if size is None:
        last = _plain(key, await blob.read(blob.size - 2 * WIDTH))
        size = most - WIDTH + len(last.rstrip(b"\0"))
        if not last.endswith(b"\0"):
            raise Damaged("the file does not end in NULs when decrypted: the key is another, or it was cut")
    if not most - WIDTH <= size < most:
        raise Damaged(f"a file of {size:,} bytes is not in {blob.size:,}")
    tag = _tag(blob.tag, key)
    return Decrypted(size, identity("sized", tag, size) if told else tag, blob, key, modified=blob.modified)


def _tag(tag: str | None, key: bytes) -> str | None:
    return identity("aes-cbc", tag, blake2b(key, digest_size=16, person=b"playhead aescbc").hexdigest())


def _plain(key: bytes, data: bytes | memoryview) -> bytes:
    """The blocks after the first of some."""
    cipher = Cipher(algorithms.AES(key), modes.CBC(bytes(data[:WIDTH]))).decryptor()
    return cipher.update(data[WIDTH:])


@dataclass(frozen=True, slots=True, eq=False)
class Decrypted(Blob):
    """See `decrypted`."""

    blob: Blob
    key: bytes = field(repr=False)

    async def stream(self, start: int, stop: int) -> Pieces:
        if start >= stop:
            return
        at = start // WIDTH * WIDTH  # of what is inside; the block before it lies there outside
        held = b""
        async with aclosing(pieces(self.blob, at, -(-stop // WIDTH) * WIDTH + WIDTH)) as upstream:
            async for piece in upstream:
                for part in _parts(piece):
                    data = held + (await asyncio.to_thread(part.read) if isinstance(part, FileSpan) else bytes(part))
                    whole = len(data) // WIDTH * WIDTH
                    held = data[max(0, whole - WIDTH) :]
                    if whole <= WIDTH:
                        held = data
                        continue
                    large = whole > AT_ONCE
                    work = (self.key, memoryview(data)[:whole])
                    plain = await asyncio.to_thread(_plain, *work) if large else _plain(*work)
                    yield memoryview(plain)[max(0, start - at) : stop - at]
                    at += len(plain)
        if at < stop:
            raise Damaged(f"a stream ended {stop - at:,} bytes early")


def _parts(piece: Piece) -> Sequence[Piece]:
    """A long span of a file as parts of 1 MiB."""
    if not isinstance(piece, FileSpan):
        return [piece]
    end = piece.offset + piece.length
    return [FileSpan(piece.file, at, min(1 << 20, end - at)) for at in range(piece.offset, end, 1 << 20)]


def opened(tree: Tree, key: bytes) -> Tree:
    """Tree -> Tree: every file of a tree decrypted; names stay."""
    return CbcTree(tree, key)


class CbcTree(Tree):
    """See `opened`. How long a file is cannot be told before its end was read."""

    def __init__(self, tree: Tree, key: bytes) -> None:
        self.tree, self.key = tree, key

    async def entries(self, folder: str = "") -> Entries:
        async with aclosing(self.tree.entries(folder)) as entries:
            async for entry in entries:
                yield self._seen(entry)

    def _seen(self, entry: Entry) -> Entry:
        return entry if entry.folder else replace(entry, size=None, tag=_tag(entry.tag, self.key))

    async def find(self, path: str) -> Entry:
        return self._seen(await self.tree.find(path))

    async def open(self, path: str, ask: Ask = Ask()) -> Blob:
        return await decrypted(await self.tree.open(path, _widened(ask)), self.key)

    async def aclose(self) -> None:
        await self.tree.aclose()


def _widened(ask: Ask) -> Ask:
    """What is asked below for what was asked here: whole blocks, and the one before."""
    if ask.start is None:
        return Ask(None, (ask.stop or 0) // WIDTH * WIDTH - 2 * WIDTH, ask.why)
    stop = None if ask.stop is None else (-(-max(ask.stop, ask.start + 1) // WIDTH) + 1) * WIDTH
    return Ask(ask.start // WIDTH * WIDTH, stop, ask.why)
