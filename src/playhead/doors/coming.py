"""Download -> Blob: a file that is still on its way, as it will be.

What is in the part already is given as a span of it; where a reader is ahead of that, the download fetches from there
first, and the reader waits. So a film plays from its first second, or from the middle, while the rest still comes.
"""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from playhead.blob import Blob, FileSpan, Piece, Pieces, identity
from playhead.doors.download import Download
from playhead.doors.partial import Partial
from playhead.errors import Changed, Unavailable
from playhead.tree import visible

SPAN = 1 << 20  # bytes that are given at once
PATIENCE = 60.0  # seconds for which a reader waits for the next ones


class _Open:
    """A descriptor of our own: the part may be closed, and have its name, while it is read."""

    def __init__(self, fd: int) -> None:
        self.fd = os.dup(fd)

    def fileno(self) -> int:
        return self.fd

    def __del__(self) -> None:
        with suppress(OSError, AttributeError):
            os.close(self.fd)


@dataclass(frozen=True, slots=True, eq=False)
class Coming(Blob):
    """See above."""

    download: Download
    partial: Partial
    file: _Open

    def here(self, start: int, stop: int) -> Sequence[Piece] | None:
        if self.download.partial is not self.partial or self.partial.held(start) < stop - start:
            return None
        return [FileSpan(self.file, start, stop - start)] if start < stop else []

    async def stream(self, start: int, stop: int) -> Pieces:
        while start < stop:
            self._same()
            length = min(self.partial.held(start), stop - start, SPAN)
            if length:
                yield FileSpan(self.file, start, length)
                start += length
            else:
                await self._more(start)

    def _same(self) -> None:
        """Raises Changed where the file is fetched anew: what the part holds from then on is another version."""
        if self.download.partial is not self.partial:
            raise Changed(f"{visible(self.download.name)} has changed while it was downloaded")

    async def _more(self, at: int) -> None:
        """Wait for what is at an offset. Raises Unavailable where it does not come."""
        download, lanes = self.download, self.download.lanes
        if lanes is None or lanes.over:
            raise Unavailable(f"the download of {visible(download.name)} does not go on now")
        lanes.want(at)
        news = lanes.news
        if self.partial.held(at):
            return
        try:
            async with asyncio.timeout(PATIENCE):
                await news.wait()
        except TimeoutError:
            raise Unavailable(f"nothing came of {visible(download.name)} for {PATIENCE:.0f} s") from None


def coming(download: Download) -> Coming | None:
    """What there is of a download; None: it is not known yet, or nothing that can be read."""
    partial, blob = download.partial, download.blob
    if partial is None or blob is None or partial.fd < 0:
        return None
    tag = identity("coming", partial.tag, partial.size)
    return Coming(partial.size, tag, download, partial, _Open(partial.fd), modified=blob.modified)
