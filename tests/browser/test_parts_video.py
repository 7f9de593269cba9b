"""Twelve MP4 parts as one film in Chromium, while most of them are not there yet.

Each part is of one colour, so that a picture tells which part it is of. A part that is held back answers nothing, as
one that is being downloaded; what was asked of it is written down.
"""

import asyncio
import os
import threading
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from random import Random

import pytest
import uvicorn
from playwright.sync_api import Page

from playhead import Blob
from playhead.app.site import Site
from playhead.blob import Pieces
from playhead.doors import server
from playhead.origins.memory import MemoryTree
from playhead.transforms.mp4.film import joined
from tests.browser import test_page
from tests.browser.test_page import CHROMIUM, Complaints
from tests.films import FFMPEG, made, probed

chromium, complaints, opened, page = test_page.chromium, test_page.complaints, test_page.opened, test_page.page

pytestmark = [
    pytest.mark.skipif(not os.path.exists(CHROMIUM), reason=f"{CHROMIUM} is not there"),
    FFMPEG,
]

PARTS = 12
LENGTH = 1.6  # seconds of a part, and a little more of each
HEAD = 64 << 10


@dataclass(frozen=True, slots=True, eq=False)
class Held(Blob):
    """Bytes, of which those from `there` on are given, and the others only later. `asked`: where somebody has read."""

    data: bytes
    there: "array[int]" = field(default_factory=lambda: array("q", [0]))
    asked: "array[int]" = field(default_factory=lambda: array("q"))

    def hold(self, before: int) -> None:
        """Give nothing of what is before an offset."""
        self.there[0] = before

    async def stream(self, start: int, stop: int) -> Pieces:
        while start < stop:
            self.asked.append(start)
            async with asyncio.timeout(60):
                while start < self.there[0]:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            piece = self.data[start : min(stop, start + (16 << 10))]
            yield piece
            start += len(piece)


def colour(number: int) -> tuple[int, int, int]:
    """The colour of a part; of any two parts they differ by 80 in one of red, green and blue."""
    return (number % 3) * 110 + 10, (number // 3 % 2) * 110 + 30, (number // 6) * 110 + 30


def part_at(shown: list[int]) -> int:
    """The part of which a colour is."""
    return min(range(PARTS), key=lambda n: sum(abs(a - b) for a, b in zip(colour(n), shown, strict=True)))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, chance, made_of = tmp_path_factory.mktemp("films"), Random(3), []
    for number in range(PARTS):
        red, green, blue = colour(number)
        look = f",lutrgb=r={red}:g={green}:b={blue},noise=alls=20:allf=t"
        options = ["-b:v", "1200k", *(["-movflags", "+faststart"] if number % 2 else [])]
        options += ["-profile:v", "baseline"] if number % 5 == 4 else ["-bf", str(number % 4)]
        length = LENGTH + chance.randrange(10) / 100
        made_of.append(made(folder / f"ep{number + 1}.mp4", *options, picture=length, sound=length - 0.07, look=look))
    return made_of


@contextmanager
def serving(blob: Blob) -> Iterator[str]:
    """Our server with one file, in a thread -> the URL of the file."""
    tree = MemoryTree({})
    tree.files["film.mp4"] = blob
    sock = server.listen("127.0.0.1", 0)
    running = uvicorn.Server(server.uvicorn_of(Site({"music": tree})).config)
    thread = threading.Thread(target=lambda: asyncio.run(running.serve(sockets=[sock])))
    thread.start()
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/files/music/film.mp4"
    finally:
        running.should_exit = True
        thread.join(10)
    assert not thread.is_alive()


COLOUR = """() => {
  const video = document.querySelector('video'), canvas = document.createElement('canvas')
  canvas.width = canvas.height = 8
  const drawn = canvas.getContext('2d')
  drawn.drawImage(video, 0, 0, 8, 8)
  const data = drawn.getImageData(0, 0, 8, 8).data, sums = [0, 0, 0]
  for (let at = 0; at < data.length; at++) if (at % 4 < 3) sums[at % 4] += data[at] / 64
  return sums
}"""
JUMP = "time => { const video = document.querySelector('video'); video.currentTime = time; return video.play() }"


def shown(page: Page) -> int:
    """The part of which the picture is that is now shown."""
    return part_at(page.evaluate(COLOUR))


def played(page: Page, seconds: float) -> None:
    wanted = """seconds => {
      const video = document.querySelector('video')
      return video.error ? video.error.message : video.currentTime >= seconds && !video.seeking && video.readyState > 1
    }"""
    assert page.wait_for_function(wanted, arg=seconds).json_value() is True


def test_twelve_parts_play_and_jump_over_each_join_while_others_are_missing(
    page: Page, complaints: Complaints, films: list[Path]
) -> None:
    complaints.expected.append("net::ERR_ABORTED")  # what a player breaks off when it jumps
    parts = [Held(len(data), f"v:{n}", data) for n, data in enumerate(film.read_bytes() for film in films)]
    with ThreadPoolExecutor(1) as other:  # playwright has a loop in this thread
        whole = other.submit(asyncio.run, joined(parts)).result()
    lengths = [float(probed(film)["format"]["duration"]) for film in films]
    starts = list(accumulate(lengths, initial=0.0))
    for part in parts:
        assert part.size > 2 * HEAD
        assert len(part.asked) < part.size // HEAD + 2
        part.hold(part.size)
        del part.asked[:]
    parts[0].hold(0)
    with serving(whole) as url:
        page.goto(url)
        page.wait_for_function("document.querySelector('video').readyState > 1")
        assert page.evaluate("document.querySelector('video').duration") == pytest.approx(starts[-1], abs=0.05)
        assert shown(page) == 0
        assert [part.asked.tolist() for part in parts[2:]] == [[]] * (PARTS - 2)
        chance, joins = Random(4), list(range(1, PARTS))
        chance.shuffle(joins)
        for join in joins:
            for number, part in enumerate(parts):  # Chromium asks for blocks, which may begin in the part before
                part.hold(0 if number in (join - 1, join) else part.size - HEAD if number == join - 2 else part.size)
            page.evaluate(JUMP, starts[join] - 0.15)
            played(page, starts[join] - 0.1)
            played(page, starts[join] + 0.1)
            page.evaluate("document.querySelector('video').pause()")
            page.evaluate("time => { document.querySelector('video').currentTime = time }", starts[join] - 0.06)
            page.wait_for_function("!document.querySelector('video').seeking")
            assert shown(page) == join - 1
            page.evaluate("time => { document.querySelector('video').currentTime = time }", starts[join] + 0.02)
            page.wait_for_function("!document.querySelector('video').seeking")
            assert shown(page) == join
        page.goto("about:blank")
        for part in parts:
            part.hold(0)


LISTEN = """async () => {
  const video = document.querySelector('video'), context = new AudioContext()
  const heard = [], listening = context.createScriptProcessor(2048, 1, 1)
  let last = -1
  listening.onaudioprocess = event => {
    if (Math.max(...event.inputBuffer.getChannelData(0)) < 0.3) return
    if (context.currentTime - last > 0.3) heard.push(video.currentTime)
    last = context.currentTime
  }
  context.createMediaElementSource(video).connect(listening)
  listening.connect(context.destination)
  await video.play()
  await new Promise(ended => { video.onended = ended })
  return heard
}"""


def test_sound_stays_with_its_picture_where_parts_have_less_of_it(
    page: Page, complaints: Complaints, tmp_path: Path
) -> None:
    """Chromium counts samples of sound: it would be 0.25 s early in the second of these parts, 0.5 s in the third."""
    complaints.expected += ["net::ERR_ABORTED", "ScriptProcessorNode"]
    part = made(tmp_path / "part.mp4", picture=1, sound=0.75).read_bytes()
    with ThreadPoolExecutor(1) as other:
        whole = other.submit(asyncio.run, joined([Held(len(part), None, part) for _ in range(4)])).result()
    with serving(whole) as url:
        page.goto(url)
        page.evaluate("document.querySelector('video').pause()")
        heard = page.evaluate(f"async () => {{ document.querySelector('video').currentTime = 0; return ({LISTEN})() }}")
        page.goto("about:blank")
    assert heard and max(heard) > 1  # where there is much else to do, the page does not hear every beep
    assert all(abs(at - 0.5 - round(at - 0.5)) < 0.12 for at in heard), heard
