"""An rclone-crypt folder in Google Drive, in Chromium: it plays and jumps, also when a token ends meanwhile."""

import json
import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser import test_page
from tests.browser.test_page import CHROMIUM, click, names, reached
from tests.fakes.gdrive import FakeDrive, threaded
from tests.peers import crypts
from tests.peers.playing import playhead, tracks

chromium, complaints, opened, page = test_page.chromium, test_page.complaints, test_page.opened, test_page.page

pytest.importorskip("google.auth")
pytestmark = [
    pytest.mark.skipif(not os.path.exists(CHROMIUM), reason=f"{CHROMIUM} is not there"),
    pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="not installed: ffmpeg"),
]

SECRET = "correct horse"
CONFIG = """
[tree.drive]
use = "gdrive"
service_account = "account.json"
endpoint = "{url}"
serve = false

[tree.music]
use = "rclone-crypt"
over = "drive:Encrypted"
password = "obscured:{password}"
"""


def filled(fake: FakeDrive, folder: Path) -> None:
    """A folder that rclone has encrypted, as the folder "Encrypted" of a Drive."""
    for place in (path for path in folder.rglob("*") if path.is_file()):
        inside = place.relative_to(folder).parent
        fake.file("/".join(("Encrypted", *inside.parts)), place.name, place.read_bytes())


def test_an_encrypted_track_in_drive_plays_and_jumps(page: Page, tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    shutil.copy(tracks(1)[0], tmp_path / "music" / "별 헤는 밤.ogg")
    remote = f":crypt,remote={tmp_path / 'store'},password={crypts.obscured(SECRET)}:"
    crypts.rclone("copy", str(tmp_path / "music"), remote)
    with threaded(FakeDrive(latency=0.05)) as fake:
        filled(fake, tmp_path / "store")
        (tmp_path / "account.json").write_text(json.dumps(fake.service_account()))
        (tmp_path / "playhead.toml").write_text(CONFIG.format(url=fake.url, password=crypts.obscured(SECRET)))
        with playhead(tmp_path / "playhead", "--config", tmp_path / "playhead.toml") as url:
            page.goto(url)
            assert names(page) == ["별 헤는 밤.ogg"]
            click(page, "별 헤는 밤.ogg")
            reached(page, 0.5)
            fake.signin.expire()
            duration = page.evaluate("document.querySelector('audio').duration")
            page.evaluate("(to) => { document.querySelector('audio').currentTime = to }", 0.8 * duration)
            reached(page, 0.8 * duration + 0.5)
            media = fake.of("media")
            assert media and {seen.status for seen in media} <= {206, 401}
            page.goto("about:blank")
