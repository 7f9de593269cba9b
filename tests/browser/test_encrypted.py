"""An rclone-crypt folder behind nginx, in Chromium: names in clear, sound at once, a jump in one round trip."""

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser import test_page
from tests.browser.test_page import CHROMIUM, click, names, reached
from tests.peers import crypts
from tests.peers.playing import needs, nginx, playhead, tracks

chromium, complaints, opened, page = test_page.chromium, test_page.complaints, test_page.opened, test_page.page

pytestmark = [
    pytest.mark.skipif(not os.path.exists(CHROMIUM), reason=f"{CHROMIUM} is not there"),
    pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="not installed: ffmpeg"),
]

SECRET = "correct horse"
CONFIG = """
[tree.store]
use = "web"
url = "{url}"
serve = false

[tree.music]
use = "rclone-crypt"
over = "store"
password = "obscured:{password}"
"""


@needs("nginx")
def test_an_encrypted_track_plays_and_jumps(page: Page, tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    shutil.copy(tracks(1)[0], tmp_path / "music" / "별 헤는 밤.ogg")
    remote = f":crypt,remote={tmp_path / 'store'},password={crypts.obscured(SECRET)}:"
    crypts.rclone("copy", str(tmp_path / "music"), remote)
    with nginx(tmp_path / "nginx", tmp_path / "store", rate="300k") as origin:
        config = tmp_path / "playhead.toml"
        config.write_text(CONFIG.format(url=origin.url, password=crypts.obscured(SECRET)))
        with playhead(tmp_path / "playhead", "--config", config) as url:
            page.goto(url)
            assert names(page) == ["별 헤는 밤.ogg"]
            click(page, "별 헤는 밤.ogg")
            reached(page, 0.5)
            duration = page.evaluate("document.querySelector('audio').duration")
            before = len([line for line in origin.asked() if line.name])
            page.evaluate("(to) => { document.querySelector('audio').currentTime = to }", 0.8 * duration)
            reached(page, 0.8 * duration + 0.5)
            page.goto("about:blank")
        asked = [line for line in origin.asked() if line.name]
        assert before and {line.status for line in asked} == {206}
        assert all("별" not in line.name for line in asked)
