"""Files that are dropped on the Files page, or chosen there, in Chromium: over breaks, kills and reloads."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import CDPSession, Locator, Page, Request, expect

from tests.app.test_uploads import served
from tests.browser import test_page
from tests.browser.test_page import CHROMIUM, Complaints
from tests.peers.playing import noise

chromium, complaints, opened, page = test_page.chromium, test_page.complaints, test_page.opened, test_page.page

pytestmark = pytest.mark.skipif(not os.path.exists(CHROMIUM), reason=f"{CHROMIUM} is not there")

HOSTILE = "<script>alert(1)<.mp3"
KOREAN = "동해물과 백두산이.txt"
LARGE = noise(4_000_000, 3)
RATE = 1_500_000  # bytes a second, where something is to happen on the way


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[str]:
    with served(home) as (url, _):
        yield url


@pytest.fixture
def url(server: str, home: Path, request: pytest.FixtureRequest) -> str:
    """A folder of its own."""
    name = request.node.name
    (home / "root" / name).mkdir()
    return f"{server}files/music/{name}/"


@pytest.fixture
def root(url: str, home: Path, request: pytest.FixtureRequest) -> Path:
    return home / "root" / str(request.node.name)


@pytest.fixture
def mine(tmp_path: Path) -> Callable[..., list[str]]:
    def make(files: dict[str, bytes]) -> list[str]:
        for path, data in files.items():
            place = tmp_path / "mine" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
            os.utime(place, (1_600_000_000, 1_600_000_000))
        return [str(tmp_path / "mine" / path) for path in files]

    return make


def there(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def names(page: Page) -> list[str]:
    return page.locator(".files .name .label").all_text_contents()


def choose(page: Page, paths: list[str]) -> None:
    page.get_by_label("Files to add").set_input_files(paths)


def sending(page: Page, name: str) -> Locator:
    return page.locator(".sending .row", has=page.get_by_text(name, exact=True))


def added(page: Page, line: str) -> None:
    expect(page.get_by_role("status")).to_have_text(line)
    expect(page.locator(".sending .row")).to_have_count(0)


def slowed(page: Page, rate: int = RATE) -> CDPSession:
    cdp = page.context.new_cdp_session(page)
    slow(cdp, rate)
    return cdp


def slow(cdp: CDPSession, rate: int, *, offline: bool = False) -> None:
    limits = {"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": rate}
    cdp.send("Network.emulateNetworkConditions", limits)


def drag(page: Page, paths: list[str], *kinds: str) -> None:
    """What is dragged over the page from elsewhere."""
    cdp = page.context.new_cdp_session(page)
    data = {"items": [], "files": paths, "dragOperationsMask": 1}
    for kind in kinds:
        cdp.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": data})


def half(page: Page, name: str) -> None:
    """Returns once some of a file is sent."""
    bar = sending(page, name).get_by_role("progressbar")
    expect(bar).to_have_js_property("max", len(LARGE))
    for _ in range(500):
        if bar.evaluate("bar => bar.value") > 0:
            return
        page.wait_for_timeout(20)
    raise TimeoutError(name)


class Patched:
    """The offsets from which bytes were sent."""

    def __init__(self, page: Page) -> None:
        self.offsets: list[int] = []
        page.on("request", self._asked)

    def _asked(self, request: Request) -> None:
        if request.method == "PATCH":
            self.offsets.append(int(request.headers["upload-offset"]))


def test_files_and_a_folder_are_dropped_and_listed(page: Page, url: str, root: Path, mine: Callable[..., Any]) -> None:
    files = {HOSTILE: b"a" * 300, KOREAN: KOREAN.encode(), "album/1.mp3": LARGE, "album/깊은 곳/b.txt": b""}
    paths = mine(files)
    page.goto(url)
    page.evaluate("document.body.dataset.same = 'yes'")
    assert names(page) == []
    dropped = [*paths[:2], str(Path(paths[2]).parent)]
    drag(page, dropped, "dragEnter", "dragOver")
    expect(page.locator("body")).to_have_class("dropping")
    drag(page, dropped, "drop")
    expect(page.locator("body")).not_to_have_class("dropping")
    added(page, "4 files added.")
    expect(page.locator(".files .row")).to_have_count(3)
    assert names(page) == ["album", HOSTILE, KOREAN]
    assert there(root) == files
    assert (root / KOREAN).stat().st_mtime == 1_600_000_000
    assert page.evaluate("document.body.dataset.same") == "yes"
    expect(page.get_by_role("button", name="zip")).to_be_visible()  # there is something to download now
    page.click(f".files .row:has-text('{KOREAN}') .name")  # and the viewer knows the new rows
    expect(page.locator("dialog pre")).to_have_text(KOREAN)


def test_the_keyboard_chooses(page: Page, url: str, root: Path, mine: Callable[..., Any]) -> None:
    page.goto(url)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="choose files").press("Enter")
    assert chooser.value.is_multiple()
    chooser.value.set_files(mine({"a.txt": b"a"}))
    added(page, "1 file added.")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="a folder").press("Enter")
    mine({"folder/b.txt": b"b", "folder/c/d.txt": b"d"})
    chooser.value.set_files(str(Path(mine({"folder/b.txt": b"b"})[0]).parent))
    added(page, "2 files added.")
    assert there(root) == {"a.txt": b"a", "folder/b.txt": b"b", "folder/c/d.txt": b"d"}


def test_a_lost_connection_and_a_pause_are_gone_on_from(
    page: Page, url: str, root: Path, mine: Callable[..., Any], complaints: Complaints
) -> None:
    complaints.expected += ["ERR_INTERNET_DISCONNECTED", "ERR_ABORTED"]
    page.goto(url)
    cdp, patched = slowed(page), Patched(page)
    choose(page, mine({"large.mp3": LARGE}))
    half(page, "large.mp3")
    slow(cdp, RATE, offline=True)
    expect(sending(page, "large.mp3")).to_contain_text("it goes on by itself")
    slow(cdp, RATE)
    expect(sending(page, "large.mp3")).to_contain_text("/s")
    sending(page, "large.mp3").get_by_role("button", name="Pause").click()
    expect(sending(page, "large.mp3")).to_contain_text("Paused at")
    slow(cdp, -1)
    sending(page, "large.mp3").get_by_role("button", name="Resume").click()
    added(page, "1 file added.")
    assert there(root) == {"large.mp3": LARGE}
    assert patched.offsets.count(0) == 1 and len(patched.offsets) > 2


def test_a_killed_server_and_a_reloaded_page_are_gone_on_from(
    page: Page, tmp_path: Path, mine: Callable[..., Any], complaints: Complaints
) -> None:
    complaints.expected += ["ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "ERR_ABORTED"]
    paths = mine({"large.mp3": LARGE})
    with served(tmp_path) as (url, process):
        page.goto(url)
        slowed(page)
        choose(page, paths)
        half(page, "large.mp3")
        process.kill()
        process.wait()
        expect(sending(page, "large.mp3")).to_contain_text("it goes on by itself")
    with served(tmp_path, urlsplit(url).port or 0) as (url, _):
        expect(sending(page, "large.mp3")).to_contain_text("/s")
        page.close()  # as if it were left
        page = page.context.new_page()
        complaints.listen(page)
        patched = Patched(page)
        page.goto(url)
        choose(page, paths)
        added(page, "1 file added.")
        assert patched.offsets[0] > 0
        assert there(tmp_path / "root") == {"large.mp3": LARGE}


def test_what_is_there_already_is_asked_about(
    page: Page, url: str, root: Path, mine: Callable[..., Any], complaints: Complaints
) -> None:
    complaints.expected.append("409 (Conflict)")
    for name in ("both.txt", "both (2).txt", "replaced.txt", "skipped.txt", HOSTILE):
        (root / name).write_bytes(b"there")
    page.goto(url)
    paths = mine({name: f"mine: {name}".encode() for name in ("both.txt", "replaced.txt", "skipped.txt", HOSTILE)})
    answers = [("Keep both", "1 file added."), ("Replace", "1 file added."), ("Skip", "1 not added.")]
    for path, (choice, line) in zip(paths, answers, strict=False):
        choose(page, [path])
        dialog = page.get_by_role("dialog", name=f"“{Path(path).name}” is there already")
        expect(dialog).to_contain_text("There: 5 B")
        dialog.get_by_role("button", name=choice).click()
        added(page, line)
    choose(page, [paths[0], paths[2], paths[3]])  # for all of them
    page.get_by_role("checkbox", name="Do the same").check()
    page.get_by_role("button", name="Replace").click()
    added(page, "3 files added.")
    choose(page, [paths[1]])  # the same once more
    added(page, "1 file added.")
    assert there(root) == {
        "both.txt": b"mine: both.txt",
        "both (2).txt": b"there",
        "both (3).txt": b"mine: both.txt",
        "replaced.txt": b"mine: replaced.txt",
        "skipped.txt": b"mine: skipped.txt",
        HOSTILE: b"mine: " + HOSTILE.encode(),
    }
    expect(page.locator(".files .row", has_text="both (3).txt")).to_be_visible()
    expect(page.locator(".files .row", has_text="replaced.txt").locator(".size")).to_have_text("18 B")


@pytest.mark.parametrize("width", [320, 1440])
def test_the_page_fits_any_width_and_tells_what_failed(
    opened: Callable[..., Page], server: str, home: Path, mine: Callable[..., Any], complaints: Complaints, width: int
) -> None:
    complaints.expected += ["ERR_ABORTED", "400 (Bad Request)"]
    page = opened(viewport={"width": width, "height": 800})
    folder = home / "root" / f"width {width}"
    folder.mkdir()
    page.goto(f"{server}files/music/width%20{width}/")
    folder.rmdir()
    folder.write_bytes(b"a file now")
    cdp, long = slowed(page, 200_000), [f"{'긴 이름의 노래' * 8}.mp3", f"{'x' * 200}.mp3"]
    choose(page, mine(dict.fromkeys(long, LARGE)))
    expect(page.locator(".sending .row")).to_have_count(2)
    choose(page, mine({"small.txt": b"small"}))
    failed = sending(page, "small.txt")
    expect(failed).to_contain_text("Failed: ")
    expect(failed).to_contain_text("is a file")
    expect(failed.get_by_role("button", name="Retry")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for button in page.locator(".sending button").all():
        box = button.bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= width
    for name in long:
        sending(page, name).get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("status")).to_have_text("2 not added, 1 failed.")
    folder.unlink()
    slow(cdp, -1)
    failed.get_by_role("button", name="Retry").click()
    added(page, "1 file added.")
    assert there(folder) == {"small.txt": b"small"}


def test_without_script_the_page_offers_nothing_that_does_not_work(opened: Callable[..., Page], url: str) -> None:
    page = opened(java_script_enabled=False)
    page.goto(url)
    expect(page.locator("#adding")).to_be_hidden()
    assert page.locator("#adding *").count() == 0
