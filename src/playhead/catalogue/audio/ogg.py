"""View -> Found: Ogg (RFC 3533) with Vorbis, Opus, Speex or FLAC in it.

The head says what sounds and what the music is; how long it is stands in the last page of the stream, which is looked
for in the tail. A packet is many pages: what lies far in one, behind a picture, is found by guessing that the pages
between are alike, and believed when the page there bears the number that follows. Streams that were cut out of longer
ones begin at another time than 0, which is taken off; streams in a row (chained) are estimated by their bytes.
"""

from dataclasses import dataclass, field
from fractions import Fraction

from playhead.catalogue import pictures
from playhead.catalogue.audio import comments, flac
from playhead.catalogue.found import Found, Sound, seconds
from playhead.catalogue.view import View, little
from playhead.errors import Damaged, Malformed

_PAGE = 27 + 255  # bytes of the longest header
_LONGEST = 65307  # bytes of the longest page
_STREAMS = 32
_PAGES = 512  # that are walked one after the other


@dataclass(frozen=True, slots=True)
class _Page:
    at: int
    flags: int
    granule: int  # -1: no packet ends here
    serial: int
    number: int
    body: int
    lacing: bytes

    @property
    def end(self) -> int:
        return self.body + sum(self.lacing)

    @property
    def full(self) -> bool:
        """Is it nothing but the middle of a packet?"""
        return bool(self.lacing) and self.lacing.count(255) == len(self.lacing)


def _page(view: View, at: int) -> _Page | None:
    head = view.read(at, at + _PAGE)
    if len(head) < 27 or head[:5] != b"OggS\0" or len(head) < 27 + head[26]:
        return None
    lacing = head[27 : 27 + head[26]]
    granule = int.from_bytes(head[6:14], "little", signed=True)
    serial, number = int.from_bytes(head[14:18], "little"), int.from_bytes(head[18:22], "little")
    return _Page(at, head[5], granule, serial, number, at + 27 + len(lacing), lacing)


def _next(view: View, at: int, serial: int) -> _Page:
    """The next page of a stream, at or after `at`."""
    for _ in range(_PAGES):
        page = _page(view, at)
        if page is None:
            break
        if page.serial == serial:
            return page
        at = page.end
    raise Damaged("its Ogg pages do not follow each other: is it whole?")


@dataclass(slots=True)
class _Packet:
    """A packet as a run: where in the file its bytes lie, as far as that is known."""

    view: View
    serial: int
    extents: list[tuple[int, int, int, int]] = field(
        default_factory=list
    )  # (offset, in the file, length, page's place)
    page: _Page | None = None  # the last one looked at
    whole: bool = False

    @property
    def size(self) -> int:
        return self.extents[-1][0] + self.extents[-1][2] if self.extents else 0

    def extend(self, page: _Page, segment: int) -> int:
        """The part of the packet that begins with a segment of a page; which segment comes after it."""
        before, at = self.size, page.body + sum(page.lacing[:segment])
        end = segment
        while end < len(page.lacing) and page.lacing[end] == 255:
            end += 1
        self.whole = end < len(page.lacing)
        length = sum(page.lacing[segment : end + 1])
        self.extents.append((before, at, length, page.at))
        self.page = page
        return end + 1

    def exactly(self, start: int, length: int) -> bytes:
        got = bytearray()
        while len(got) < length:
            offset, at, size, _ = self._extent(start + len(got))
            skip = start + len(got) - offset
            got += self.view.exactly(at + skip, min(size - skip, length - len(got)))
        return bytes(got)

    def holds(self, stop: int) -> bool:
        return stop <= (self.size if self.whole else self.view.size)

    def place(self, offset: int) -> tuple[str, int, int]:
        begin, at, _, page = self._extent(offset)
        return "ogg", page, at - self.view.read(page + 26, page + 27)[0] - page - 27 + offset - begin

    def _extent(self, offset: int) -> tuple[int, int, int, int]:
        for extent in reversed(self.extents):
            if extent[0] <= offset < extent[0] + extent[2]:
                return extent
        for _ in range(_PAGES):
            if self.whole or self.page is None:
                raise Damaged("one of its packets ends in the middle")
            self._leap(offset)
            page = _next(self.view, self.page.end, self.serial)
            self.extend(page, 0)
            if offset < self.size:
                return self._extent(offset)
        raise Damaged("its comments are scattered over too many pages")

    def _leap(self, offset: int) -> None:
        """Over pages that are all like the last, to the one before that of `offset`."""
        page = self.page
        assert page is not None
        body, stride = page.end - page.body, page.end - page.at
        count = (offset - self.size) // body - 1 if body and page.full else 0
        if count < 2 or page.end + count * stride > self.view.size:
            return
        there = _page(self.view, page.at + count * stride)
        alike = there and (there.lacing, there.serial, there.number) == (page.lacing, page.serial, page.number + count)
        if there and alike:
            self.extents.append((self.size + (count - 1) * body, there.body, body, there.at))
            self.page = there


def read(view: View, start: int, stop: int) -> Found:
    """An Ogg file whose first page is at `start`."""
    first, serials = _sounding(view, start)
    packet = _Packet(view, first.serial)
    packet.extend(first, 0)
    head = packet.exactly(0, min(packet.size, 128))
    sound = _sound(head)
    found, begin = _commented(view, first, sound.codec)
    found.sound = sound
    sound.size = max(0, stop - begin)
    _measure(view, sound, begin, stop, first.serial, serials)
    return found


def _sounding(view: View, at: int) -> tuple[_Page, set[int]]:
    """The first page of the first stream that sounds, and the numbers of all streams that begin here."""
    found, serials = None, set()
    for _ in range(_STREAMS):
        page = _page(view, at)
        if page is None or not page.flags & 2:
            break
        serials.add(page.serial)
        if found is None and _codec(view.read(page.body, page.body + 8)):
            found = page
        at = page.end
    if found is None:
        raise Malformed("no Vorbis, Opus, Speex or FLAC is in this Ogg file")
    return found, serials


_CODECS = {b"\x01vorbis": "vorbis", b"OpusHead": "opus", b"Speex   ": "speex", b"\x7fFLAC": "flac"}


def _codec(head: bytes) -> str:
    return next((codec for magic, codec in _CODECS.items() if head.startswith(magic)), "")


def _sound(head: bytes) -> Sound:
    codec = _codec(head)
    if codec == "vorbis" and len(head) >= 28:
        return Sound(
            codec, False, little(head, 12, 4), head[11], kbits=max(0, round(little(head, 20, 4, signed=True) / 1000))
        )
    if codec == "opus" and len(head) >= 19:
        return Sound(
            codec, False, 48000, head[9], delay=little(head, 10, 2), gain=little(head, 16, 2, signed=True) / 256
        )
    if codec == "speex" and len(head) >= 68:
        return Sound(
            codec,
            False,
            little(head, 36, 4),
            little(head, 48, 4),
            kbits=max(0, round(little(head, 52, 4, signed=True) / 1000)),
        )
    if codec == "flac" and len(head) >= 51:
        return flac.streaminfo(head[17:51])
    raise Damaged("its first packet is too short: is it whole?")


def _commented(view: View, first: _Page, codec: str) -> tuple[Found, int]:
    """What the second packet tells, and where sound begins at the earliest."""
    page = _next(view, first.end, first.serial)
    packet = _Packet(view, first.serial)
    segment = packet.extend(page, 0)
    prefix = {"vorbis": 7, "opus": 8, "flac": 4}.get(codec, 0)
    if packet.exactly(0, prefix)[:8] not in (b"\x03vorbis", b"OpusTags") and codec in ("vorbis", "opus"):
        raise Damaged("its comments are not where they belong: is it whole?")
    found = comments.read(packet, prefix)
    if codec == "flac":
        _pictures(found, view, packet, segment)
    return found, packet.page.at if packet.page else first.end


def _pictures(found: Found, view: View, packet: _Packet, segment: int) -> None:
    """The blocks that follow in an Ogg FLAC file; a picture lies in one piece only where one page holds it."""
    for _ in range(pictures.COUNT):
        page = packet.page
        if page is None or not packet.whole:
            return
        if segment >= len(page.lacing):
            page, segment = _next(view, page.end, page.serial), 0
        packet = _Packet(view, page.serial)
        segment = packet.extend(page, segment)
        head = packet.exactly(0, min(packet.size, pictures.HEADER))
        if head[:1] == b"\xff":
            return
        header = pictures.flac(head[4:]) if head[:1] in (b"\x06", b"\x86") else None
        if header:
            kind, at, size = header
            inside = packet.whole and 4 + at + size <= packet.size
            start = packet.extents[0][1] + 4 + at if inside else None
            _, place, skip = packet.place(4 + at) if not inside else ("", 0, 0)
            found.pictures += pictures.placed(kind, head[4 + at :], start, size, "" if inside else "pages", place, skip)


# ── how long it is ──


def _measure(view: View, sound: Sound, begin: int, stop: int, serial: int, serials: set[int]) -> None:
    clock = 48000 if sound.codec == "opus" else sound.rate
    last = _last(view, begin, stop, serial, serials)
    if last is None or not clock:
        sound.length, sound.guessed = _guess(view, begin, stop, serial, clock), True
    elif sound.codec != "flac" or sound.length is None:
        samples = last - _began(view, begin, serial, sound)
        sound.length = seconds(samples - (sound.delay if sound.codec == "opus" else 0), clock)


def _last(view: View, begin: int, stop: int, serial: int, serials: set[int]) -> int | None:
    """The time of the last page of a stream; None where the file ends with one that did not begin with it."""
    for reach in (32 * 1024, _LONGEST + 64, 2 * _LONGEST + 64):
        low = max(begin, stop - reach)
        data = view.read(low, stop)
        at = len(data)
        while (at := data.rfind(b"OggS\0", 0, at)) >= 0:
            page = _page(view, low + at)
            if page and page.serial not in serials:
                return None
            if page and page.serial == serial and page.granule >= 0:
                return page.granule
        if low == begin:
            break
    return None


def _guess(view: View, begin: int, stop: int, serial: int, clock: int) -> Fraction | None:
    """By how far the pages come that are here already."""
    at, time, heard = begin, 0, len(view.here(begin, _LONGEST))
    while (page := _page(view, at)) and page.end <= begin + heard:
        time = max(time, page.granule) if page.serial == serial else time
        at = page.end
        if at + _PAGE > begin + heard:
            break
    length = seconds(time, clock)
    return length * (stop - begin) / (at - begin) if length else None


def _began(view: View, begin: int, serial: int, sound: Sound) -> int:
    """The time at which a stream begins: that of its first page that ends a packet of sound, less what is in it."""
    at = begin
    for _ in range(8):
        page = _page(view, at)
        if page is None:
            return 0
        if page.serial == serial and page.granule > 0:
            return _offset(view, page, sound)
        at = page.end
    return 0


def _offset(view: View, page: _Page, sound: Sound) -> int:
    packets = sum(length < 255 for length in page.lacing)
    if sound.codec == "opus":
        return max(0, page.granule - _opus_samples(view, page))
    if sound.codec == "vorbis":  # at most 8192 samples a packet; less than a second is not told from none
        early = page.granule - packets * 8192
        return page.granule - packets * 1024 if early > sound.rate else 0
    return 0


def _opus_samples(view: View, page: _Page) -> int:
    """Samples of the packets that end in a page (RFC 6716, 3.1)."""
    at, total, fresh = page.body, 0, not page.flags & 1
    for length in page.lacing:
        if fresh and length:
            toc = view.read(at, at + 2)
            config, code = (toc or b"\0")[0] >> 3, (toc or b"\0")[0] & 3
            if config < 12:
                size = (480, 960, 1920, 2880)[config & 3]
            elif config < 16:
                size = (480, 960)[config & 1]
            else:
                size = 120 << (config & 3)
            total += size * (1 if code == 0 else 2 if code < 3 else (toc[1:2] or b"\1")[0] & 63)
        fresh = length < 255
        at += length
    return total


def bodies(data: bytes) -> bytes:
    """What is in the pages of one stream that `data` begins with, the last of which may be broken off."""
    view, made, at = View(len(data)), [], 0
    view.put(0, data)
    first = _page(view, 0)
    while first and (page := _page(view, at)):
        if page.serial == first.serial:
            made.append(data[page.body : page.end])
        at = page.end
    return b"".join(made)
