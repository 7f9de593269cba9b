"""Many files as one, from the Files page in Chromium: what is chosen, or all."""

import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser import test_page
from tests.browser.test_page import CHROMIUM, HOSTILE, Complaints
from tests.peers.playing import at, playhead

chromium, complaints, opened, page = test_page.chromium, test_page.complaints, test_page.opened, test_page.page

pytestmark = pytest.mark.skipif(not os.path.exists(CHROMIUM), reason=f"{CHROMIUM} is not there")

KOREAN, QUOTED = "별 헤는 밤 #1 (100%).ogg", 'it\'s <b>"bold"<∕b> & +1;=?.txt'
STRANGE = [*HOSTILE, "전각\u3000공백.txt".encode(), "no\u00a0break.txt".encode()]
FILES = {
    KOREAN: "별".encode() * 1000,
    QUOTED: b"quoted",
    "plain.txt": b"plain",
    "folder & more/in it.txt": b"in it",
    "folder & more/더/deep.txt": b"deep",
}
LONG = {f"{number:03} {'긴 이름의 노래 ' * 5}.ogg": b"%d" % number for number in range(150)}


def put(folder: Path, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        place = os.fsencode(folder) + b"/" + os.fsencode(path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        Path(os.fsdecode(place)).write_bytes(data)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("library")
    put(made / "album", FILES)
    put(made / "hostile", {os.fsdecode(name): name for name in STRANGE})
    put(made / "many", LONG)
    return made


@pytest.fixture(scope="module")
def url(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with playhead(tmp_path_factory.mktemp("playhead"), library) as served:
        yield served


@pytest.fixture(autouse=True)
def downloads_end_a_navigation(complaints: Complaints) -> None:
    complaints.expected.append("net::ERR_ABORTED")  # what becomes a download is no page


def box(page: Page, name: str) -> Locator:
    return page.get_by_role("checkbox", name=f"Choose {name}", exact=True)


def pressed(page: Page, kind: str = "zip") -> tuple[str, Path]:
    """The name and the place of what pressing a button downloads."""
    with page.expect_download() as download:
        page.get_by_role("button", name=kind, exact=True).click()
    return download.value.suggested_filename, Path(download.value.path())


def zipped(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as zip:
        assert zip.testzip() is None
        return {info.filename: zip.read(info) for info in zip.infolist() if not info.is_dir()}


def test_exactly_what_is_chosen_is_downloaded(page: Page, url: str) -> None:
    page.goto(at(url, "album") + "/")
    box(page, KOREAN).check()
    box(page, QUOTED).check()
    name, path = pressed(page)
    assert name == "album.zip"
    assert zipped(path) == {KOREAN: FILES[KOREAN], QUOTED: FILES[QUOTED]}


def test_where_nothing_is_chosen_all_is_downloaded(page: Page, url: str) -> None:
    page.goto(at(url, "album") + "/")
    name, path = pressed(page)
    assert name == "album.zip"
    assert zipped(path) == {f"album/{path}": data for path, data in FILES.items()}
    assert path.stat().st_size == int(page.request.head(page.url + "?pack=zip").headers["content-length"])


def test_a_tar_is_downloaded_too(page: Page, url: str) -> None:
    page.goto(at(url, "album") + "/")
    box(page, KOREAN).check()
    name, path = pressed(page, "tar")
    assert name == f"{KOREAN}.tar"
    with tarfile.open(path) as tar:
        assert [(info.name, read.read()) for info in tar if (read := tar.extractfile(info))] == [
            (KOREAN, FILES[KOREAN])
        ]


def test_a_folder_that_is_chosen_comes_with_what_is_in_it(page: Page, url: str) -> None:
    page.goto(at(url, "album") + "/")
    box(page, "folder & more").check()
    name, path = pressed(page)
    assert name == "folder & more.zip"
    assert zipped(path) == {path: data for path, data in FILES.items() if path.startswith("folder")}


def test_the_root_is_called_as_its_tree(page: Page, url: str) -> None:
    page.goto(url)
    box(page, "album").check()
    box(page, "hostile").check()
    box(page, "hostile").uncheck()
    name, path = pressed(page)
    assert name == "album.zip"
    assert set(zipped(path)) == {f"album/{path}" for path in FILES}
    box(page, "hostile").check()
    assert pressed(page)[0] == "music.zip"


def test_any_name_that_can_be_shown_can_be_chosen(page: Page, url: str) -> None:
    page.goto(at(url, "hostile") + "/")
    boxes = page.get_by_role("checkbox").all()
    for each in boxes:
        each.check()
    choosable = {name for name in STRANGE if b"\n" not in name and b"\xff" not in name}
    assert len(boxes) == len(choosable)
    _, path = pressed(page)
    assert sorted(zipped(path).values()) == sorted(choosable)


def test_all_includes_what_cannot_be_chosen(page: Page, url: str) -> None:
    page.goto(at(url, "hostile") + "/")
    assert sorted(zipped(pressed(page)[1]).values()) == sorted(STRANGE)


def test_many_files_of_long_names_can_be_chosen(page: Page, url: str) -> None:
    page.goto(at(url, "many") + "/")
    page.evaluate("document.querySelectorAll('input[name=path]').forEach(box => { box.checked = true })")
    assert zipped(pressed(page)[1]) == LONG


def test_the_page_says_whether_all_or_the_chosen_are_meant(page: Page, url: str) -> None:
    page.goto(at(url, "album") + "/")
    everything, chosen = page.get_by_text("Download all as"), page.get_by_text("Download the chosen as")
    expect(everything).to_be_visible()
    expect(chosen).to_be_hidden()
    box(page, KOREAN).check()
    expect(everything).to_be_hidden()
    expect(chosen).to_be_visible()
    box(page, KOREAN).uncheck()
    expect(everything).to_be_visible()


def test_choosing_opens_and_plays_nothing(page: Page, url: str) -> None:
    page.goto(at(url, "album") + "/")
    for name in (KOREAN, QUOTED, "plain.txt"):
        box(page, name).check()
    assert page.locator(".bar").count() == 0
    assert page.locator("dialog[open]").count() == 0
    expect(page).to_have_url(at(url, "album") + "/")


def test_it_works_without_script(opened: Callable[..., Page], url: str) -> None:
    page = opened(java_script_enabled=False)
    page.goto(at(url, "album") + "/")
    box(page, KOREAN).check()
    box(page, QUOTED).check()
    assert zipped(pressed(page)[1]) == {KOREAN: FILES[KOREAN], QUOTED: FILES[QUOTED]}
    page.reload()
    box(page, "plain.txt").check()
    name, path = pressed(page, "tar")
    assert name == "plain.txt.tar"
    assert tarfile.is_tarfile(path)


def tab_to(page: Page, label: str) -> None:
    """Press Tab until something of this label, or this text, has the focus."""
    said = "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent"
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(said) == label:
            return
    pytest.fail(f"no Tab leads to {label!r}")


@pytest.mark.parametrize("key", ["Enter", " "])
def test_it_works_by_keyboard_alone(page: Page, url: str, key: str) -> None:
    page.goto(at(url, "album") + "/")
    for name in sorted([KOREAN, QUOTED], key=lambda name: names(page).index(name)):
        tab_to(page, f"Choose {name}")
        page.keyboard.press(" ")
        expect(box(page, name)).to_be_checked()
    tab_to(page, "zip")
    with page.expect_download() as download:
        page.keyboard.press(key)
    assert zipped(Path(download.value.path())) == {KOREAN: FILES[KOREAN], QUOTED: FILES[QUOTED]}


def names(page: Page) -> list[str]:
    return page.locator(".row .label").all_text_contents()


def test_what_has_the_focus_is_seen(page: Page, url: str) -> None:
    page.goto(at(url, "album") + "/")
    tab_to(page, f"Choose {KOREAN}")
    shown = "getComputedStyle(document.activeElement)"
    page.wait_for_function(f"{shown}.opacity === '1' && {shown}.outlineStyle !== 'none'")


@pytest.mark.parametrize("width", [320, 1440])
def test_the_buttons_make_the_page_no_wider(opened: Callable[..., Page], url: str, width: int) -> None:
    page = opened(viewport={"width": width, "height": 800})
    for folder in ("album", "hostile"):
        page.goto(at(url, folder) + "/")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for name in ("zip", "tar"):
            expect(page.get_by_role("button", name=name, exact=True)).to_be_in_viewport()


def test_a_folder_of_nothing_offers_nothing(page: Page, library: Path, url: str) -> None:
    (library / "empty").mkdir()
    try:
        page.goto(at(url, "empty") + "/")
        assert page.get_by_role("button", name="zip").count() == 0
    finally:
        shutil.rmtree(library / "empty")


def test_below_a_prefix_it_is_downloaded_too(page: Page, library: Path, tmp_path: Path) -> None:
    (tmp_path / "playhead.toml").write_text('prefix = "/p"\n', "utf-8")
    with playhead(tmp_path / "home", library / "album", "--config", tmp_path / "playhead.toml") as url:
        page.goto(url)
        box(page, "plain.txt").check()
        name, path = pressed(page)
        assert (name, zipped(path)) == ("plain.txt.zip", {"plain.txt": b"plain"})
        page.goto("about:blank")
