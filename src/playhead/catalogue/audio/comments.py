"""Run -> Found: Vorbis comments, wherever they lie: a block of a FLAC file, a packet of Ogg, Opus' and Speex's too.

A run gives bytes by their offset in it, so that a picture of 10 MB among the comments is stepped over.
"""

from typing import Protocol

from playhead.catalogue import pictures
from playhead.catalogue.found import TEXT, Found
from playhead.errors import Damaged

_COUNT = 4096  # comments, at most
_KEY = 64  # bytes of a long comment that are enough for its name


class Run(Protocol):
    """Bytes by their offset."""

    def exactly(self, start: int, length: int) -> bytes:
        """Raises Damaged where there are not so many."""

    def holds(self, stop: int) -> bool:
        """May there be so many bytes?"""

    def place(self, offset: int) -> tuple[str, int, int]:
        """(how a picture's text lies in the file, where that begins, what to skip there)."""


def read(run: Run, at: int) -> Found:
    """What the comments that begin at `at` tell."""
    found = Found()
    at += 4 + _length(run, at)
    count, at = int.from_bytes(run.exactly(at, 4), "little"), at + 4
    for _ in range(min(count, _COUNT)):
        length = _length(run, at)
        _comment(found, run, at + 4, length)
        at += 4 + length
    return found


def _length(run: Run, at: int) -> int:
    length = int.from_bytes(run.exactly(at, 4), "little")
    if not run.holds(at + 4 + length):
        raise Damaged(f"it has a comment of {length:,} bytes, which do not fit into it")
    return length


def _comment(found: Found, run: Run, at: int, length: int) -> None:
    key, _, rest = run.exactly(at, min(length, _KEY)).partition(b"=")
    name = key.decode("latin-1").upper()
    if name in ("METADATA_BLOCK_PICTURE", "COVERART"):
        _picture(found, run, name, at + len(key) + 1, length - len(key) - 1)
    elif length <= TEXT and len(key) < _KEY:
        data = run.exactly(at, length)[len(key) + 1 :] if length > _KEY else rest
        try:
            found.named(name, data.decode())
        except UnicodeDecodeError:
            found.named(name, data)


def _picture(found: Found, run: Run, name: str, at: int, length: int) -> None:
    if len(found.pictures) >= pictures.COUNT or length <= 0:
        return
    head = run.exactly(at, min(length, pictures.HEADER))
    coding, place, skip = run.place(at)
    found.pictures += pictures.as_text(head, length, name == "COVERART", coding, place, skip)
