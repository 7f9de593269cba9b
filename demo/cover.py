"""Two album covers, drawn in code -> the bytes of a PNG each. Pure, and always the same."""

import math
import struct
import zlib
from collections.abc import Callable
from functools import cache
from itertools import pairwise

SIZE = 600

Colour = tuple[float, float, float]
Stops = list[tuple[float, str]]
Cover = Callable[[int, int, float], float]


def sunrise() -> bytes:
    """The sun over four ridges in the mist."""
    sheet = Sheet([(0, "17234f"), (0.3, "51468a"), (0.47, "aa638f"), (0.6, "f09a86"), (0.72, "fdd09a")])
    for radius in (150, 205, 262, 320):
        sheet.ring(300, 372, radius, 1.6, "ffe9cf", 0.30 - radius / 1600)
    sheet.glow(300, 372, 330, "ffcf8a", 0.75)
    sheet.disc(300, 372, 92, "fff4d6", "ffc878")
    sheet.ridge(lambda x: 402 + 20 * math.sin(x / 83 + 1.1) + 8 * math.sin(x / 31), "c97f93", "e9a795", 110)
    sheet.ridge(lambda x: 446 + 26 * math.sin(x / 109 + 3.9) + 7 * math.sin(x / 37 + 2), "8b5a88", "b97b93", 110)
    sheet.ridge(lambda x: 498 + 24 * math.sin(x / 97 + 0.4) + 6 * math.sin(x / 29 + 1), "4d3b74", "7a5587", 100)
    sheet.ridge(lambda x: 552 + 18 * math.sin(x / 127 + 2.6) + 5 * math.sin(x / 41), "1c1f4a", "362f66", 80)
    return sheet.png()


def lanterns() -> bytes:
    """Paper lanterns in the dusk, and their light on the water."""
    shore = 384
    sheet = Sheet(
        [(0, "0a1033"), (0.35, "1d2a5f"), (0.56, "465a8c"), (0.639, "8a7d9b"), (0.641, "34487c"), (1, "050a22")]
    )
    sheet.ridge(lambda x: 352 + 17 * math.sin(x / 90 + 4.2) + 6 * math.sin(x / 33), "232c5c", "39477a", 36, shore)
    sheet.ridge(lambda x: 369 + 9 * math.sin(x / 61 + 1) + 4 * math.sin(x / 23), "141b42", "222d5e", 18, shore)
    for x, y, radius in ((118, 232, 30), (215, 118, 21), (300, 262, 48), (404, 156, 26), (492, 246, 36), (548, 92, 14)):
        sheet.glow(x, y, radius * 4.2, "ff9a4a", 0.55)
        sheet.disc(x, y, radius, "ffe7b0", "f0823f")
        sheet.gleam(x, shore + (shore - y) * 0.5 + 10, radius * 1.25, radius * 2.6, shore + 3, "ffb066", 0.8)
    return sheet.png()


class Sheet:
    """A square of pixels, drawn from back to front; colours are texts such as "ffcc88"."""

    def __init__(self, stops: Stops) -> None:
        self.rows = [[_between(stops, y / SIZE)] * SIZE for y in range(SIZE)]

    def glow(self, cx: float, cy: float, radius: float, colour: str, strength: float) -> None:
        """Light that fades away from a point."""
        self._lay(cx, cy, radius, radius, _colour(colour), lambda _, __, far: strength * max(0.0, 1 - far) ** 2)

    def disc(self, cx: float, cy: float, radius: float, top: str, bottom: str) -> None:
        high, low = _colour(top), _colour(bottom)
        for y in range(max(0, int(cy - radius) - 1), min(SIZE, int(cy + radius) + 2)):
            shade = _mix(high, low, min(1, max(0, (y - cy + radius) / (2 * radius))))
            row = self.rows[y]
            for x in range(max(0, int(cx - radius) - 1), min(SIZE, int(cx + radius) + 2)):
                row[x] = _mix(row[x], shade, min(1, max(0, radius + 0.5 - math.hypot(x - cx, y - cy))))

    def ring(self, cx: float, cy: float, radius: float, width: float, colour: str, strength: float) -> None:
        def cover(_: int, __: int, far: float) -> float:
            return strength * min(1, max(0, (width + 1) / 2 - abs(far * (radius + 2) - radius)))

        self._lay(cx, cy, radius + 2, radius + 2, _colour(colour), cover)

    def gleam(self, cx: float, cy: float, across: float, down: float, top: float, colour: str, strength: float) -> None:
        """A light's reflection below a line, broken by ripples that widen towards us."""

        def cover(x: int, y: int, far: float) -> float:
            near = y - top
            if near < 0:
                return 0
            ripple = 0.5 + 0.5 * math.sin(18 * math.sqrt(near + 4) + 0.8 * math.sin(x / 9 + y / 5))
            return strength * float(max(0.0, 1 - far) ** 1.3) * ripple

        self._lay(cx, cy, across, down, _colour(colour), cover)

    def ridge(self, edge: Callable[[float], float], top: str, bottom: str, depth: float, floor: int = SIZE) -> None:
        """Everything from a curve down to the floor; its colour changes over so many pixels."""
        high, low = _colour(top), _colour(bottom)
        edges = [edge(x) for x in range(SIZE)]
        for y in range(int(min(edges)), floor):
            row = self.rows[y]
            for x, line in enumerate(edges):
                if y > line - 1:
                    shade = _mix(high, low, min(1, max(0, (y - line) / depth)))
                    row[x] = _mix(row[x], shade, min(1, y - line + 1))

    def _lay(
        self,
        cx: float,
        cy: float,
        across: float,
        down: float,
        colour: Colour,
        cover: Callable[[int, int, float], float],
    ) -> None:
        """Blend a colour into an ellipse, by cover(x, y, 0 in the middle to 1 at its edge)."""
        for y in range(max(0, int(cy - down)), min(SIZE, int(cy + down) + 1)):
            row = self.rows[y]
            for x in range(max(0, int(cx - across)), min(SIZE, int(cx + across) + 1)):
                strength = cover(x, y, math.hypot((x - cx) / across, (y - cy) / down))
                if strength > 0:
                    row[x] = _mix(row[x], colour, strength)

    def png(self) -> bytes:
        """The sheet as a file, dithered so that the gradients show no bands."""
        data = b"".join(b"\0" + self._bytes(y) for y in range(SIZE))
        header = struct.pack(">IIBBBBB", SIZE, SIZE, 8, 2, 0, 0, 0)
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(data, 9)), (b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
            for kind, body in chunks
        )

    def _bytes(self, y: int) -> bytes:
        grain = _GRAIN[y % 4] * (SIZE // 4)
        return bytes([int(part + bit) for pixel, bit in zip(self.rows[y], grain, strict=True) for part in pixel])


_GRAIN = [[(rank + 0.5) / 16 for rank in row] for row in ((0, 8, 2, 10), (12, 4, 14, 6), (3, 11, 1, 9), (15, 7, 13, 5))]


@cache
def _colour(text: str) -> Colour:
    red, green, blue = bytes.fromhex(text)
    return red, green, blue


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    keep = 1 - share
    return one[0] * keep + other[0] * share, one[1] * keep + other[1] * share, one[2] * keep + other[2] * share


def _between(stops: Stops, at: float) -> Colour:
    for (low, one), (high, other) in pairwise(stops):
        if at < high:
            return _mix(_colour(one), _colour(other), (at - low) / (high - low))
    return _colour(stops[-1][1])
