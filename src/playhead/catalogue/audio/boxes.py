"""View -> boxes of ISO base media files (ISO/IEC 14496-12, 4.2), by their headers only."""

from collections.abc import Iterator
from dataclasses import dataclass

from playhead.catalogue.view import View
from playhead.errors import Damaged

_COUNT = 2048  # in one box, at most


@dataclass(frozen=True, slots=True)
class Box:
    kind: bytes
    body: int
    end: int


def boxes(view: View, at: int, stop: int) -> Iterator[Box]:
    """The boxes in [at, stop). Raises Damaged where one does not fit."""
    for _ in range(_COUNT):
        if at + 8 > stop:
            return
        head = view.read(at, min(at + 16, stop))
        size, kind, length = int.from_bytes(head[:4]), head[4:8], 8
        if size == 1:
            size, length = int.from_bytes(head[8:16]), 16
        elif size == 0:
            size = stop - at
        if size == 0 or len(head) < 8:
            return
        if not length <= size <= stop - at:
            if kind == b"mdat":  # it was broken off, or is still being written
                yield Box(kind, at + length, stop)
                return
            raise Damaged(f"a box of {size:,} bytes does not fit into the {stop - at:,} that are there: is it whole?")
        yield Box(kind, at + length, at + size)
        at += size
