"""The Files page in Chromium, as people use it. No test here may leave a complaint in the browser's console."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urljoin

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright

from playhead.tree import visible
from tests.peers.playing import LYRICS, at, clean, needs, nginx, playhead, run, tracks

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required"),
]
SOON = 10_000  # ms in which what is awaited must have come

pytestmark = [
    pytest.mark.skipif(not os.path.exists(CHROMIUM), reason=f"{CHROMIUM} is not there"),
    pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="not installed: ffmpeg"),
]

HOSTILE = [
    b"<img src=x onerror=alert(1)>.txt",
    b"<script>alert(1)<.txt",
    b"quote \" and ' both.txt",
    b"#hash.txt",
    b"100% sure.txt",
    b"%41 %2F %.txt",
    b"what? why?.txt",
    b"this & that &amp; &lt;.txt",
    b"back\\slash;semi+plus=equals.txt",
    b"javascript:alert(1).txt",
    b"new\nline and\ttab.txt",
    b"..two dots.txt",
    "한국어 노래.txt".encode(),
    "🎵 그리고 👩‍👩‍👧.txt".encode(),
    "e\u0301 is not \u00e9.txt".encode(),
    b"not utf-8: \xff\xfe caf\xe9.txt",
    b"b" * 200 + b".txt",
]


def content(name: bytes) -> str:
    return f"in the file {name!r}\n"


def shown(name: bytes) -> str:
    return visible(os.fsdecode(name))


# ── what is served ──


def film(path: Path, picture: str, seconds: float) -> None:
    run("ffmpeg", "-v", "error", "-f", "lavfi", "-i", f"testsrc=size={picture}:rate=10", "-t", str(seconds), path)


def sound(path: Path, seconds: float) -> None:
    run("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=440:sample_rate=44100", "-t", str(seconds), path)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("library")
    album, things, broken, hostile = (made / name for name in ("album", "things", "broken", "<script>alert(1)<"))
    for folder in (album, things, broken, hostile / "script>", made / "empty"):
        folder.mkdir(parents=True)
    sound(album / "1 first.ogg", 1)
    shutil.copy(album / "1 first.ogg", album / "2 second.ogg")
    sound(album / "10 last.ogg", 30)
    film(album / "cover.png", "320x240", 0.1)
    film(things / "film.webm", "160x120", 2)
    for name in ("Café 1.png", "Café 2.png"):
        shutil.copy(album / "cover.png", things / name)
    (broken / "damaged.ogg").write_bytes(b"OggS but no more than that")
    (broken / "empty.ogg").touch()
    (things / "가사.txt").write_bytes((LYRICS * 5).encode("cp949"))
    (things / "text_sample").write_text(LYRICS, "utf-8")
    (things / "page.html").write_text("<title>one</title><script>document.title = 'ran'</script>said", "utf-8")
    for number in range(1, 4):
        (things / f"note {number}.txt").write_text(f"the note {number}\n", "utf-8")
    (hostile / "script>" / "deep.txt").write_text("deep\n", "utf-8")
    for name in HOSTILE:
        with open(os.fsencode(hostile) + b"/" + name, "w", encoding="utf-8") as file:
            file.write(content(name))
    return made


@pytest.fixture(scope="module")
def url(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with playhead(tmp_path_factory.mktemp("playhead"), library) as served:
        yield served


# ── the browser ──


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    home = tmp_path_factory.mktemp("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=ARGUMENTS,
            env={**clean(home), "PULSE_RUNTIME_PATH": str(home)},
            timeout=30_000,
        )
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Complaints:
    """What a page complained of, but for what a test says that it expects."""

    heard: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def listen(self, page: Page) -> None:
        def failed(request: Request) -> None:
            # A player breaks requests off when it has enough and when it jumps; who leaves a page, those for its icon.
            broken_off = request.failure == "net::ERR_ABORTED" and request.url.endswith((".ogg", ".webm", "/icon.svg"))
            if not broken_off:
                self.heard.append(f"{request.failure}: {request.url}")

        page.on("console", lambda line: self.heard.append(f"{line.type}: {line.text} ({line.location['url']})"))
        page.on("pageerror", lambda error: self.heard.append(f"thrown: {error}"))
        page.on("crash", lambda _: self.heard.append("the page crashed"))
        page.on("requestfailed", failed)
        page.on("dialog", lambda dialog: (self.heard.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def unexpected(self) -> list[str]:
        ignored = [*self.expected, "/favicon.ico"]
        return [line for line in self.heard if not any(known in line for known in ignored)]


@pytest.fixture
def complaints() -> Complaints:
    return Complaints()


@pytest.fixture
def opened(chromium: Browser, complaints: Complaints) -> Iterator[Callable[..., Page]]:
    """Opens pages, each in a profile of its own; then none of them may have complained."""
    contexts: list[BrowserContext] = []

    def open_page(**options: object) -> Page:
        context = chromium.new_context(**options)  # type: ignore[arg-type]
        contexts.append(context)
        context.set_default_timeout(SOON)
        context.add_init_script("addEventListener('securitypolicyviolation', e => console.error(e.violatedDirective))")
        page = context.new_page()
        complaints.listen(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints.unexpected() == []


@pytest.fixture
def page(opened: Callable[..., Page]) -> Page:
    return opened()


def names(page: Page) -> list[str]:
    return page.locator(".row:not([hidden]) .name > :last-child").all_text_contents()


def row(page: Page, name: str) -> str:
    """The selector of the row of a file."""
    segment = quote(os.fsencode(name), safe="!$&'()*+,;=:@~")
    return f'.row:has(.name[href$="/{segment}"])'


def click(page: Page, name: str) -> None:
    page.click(f"{row(page, name)} .name")


def reached(page: Page, seconds: float, player: str = "audio") -> None:
    """Returns once the player has played up to a time."""
    wanted = "([player, seconds]) => document.querySelector(player)?.currentTime >= seconds"
    page.wait_for_function(wanted, arg=[player, seconds])


def title(page: Page) -> str:
    return page.locator("dialog .title").inner_text()


def focused(page: Page) -> str:
    """The name of the row that has the focus."""
    return str(page.evaluate("document.activeElement.querySelector(':scope > :last-child')?.textContent ?? ''"))


# ── playing ──


@needs("nginx")
def test_a_track_behind_nginx_plays_and_jumps_by_ranges_alone(page: Page, tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    for path in tracks(3):
        shutil.copy(path, tmp_path / "music")
    played, *others = sorted(path.name for path in (tmp_path / "music").iterdir())
    # At this rate the whole track would take 16 s: a jump must not wait for what it jumps over.
    with nginx(tmp_path / "nginx", tmp_path / "music", rate="300k") as origin:
        with playhead(tmp_path / "playhead", origin.url) as url:
            page.goto(url)
            assert names(page) == [played, *others]
            click(page, played)
            reached(page, 0.5)
            duration = page.evaluate("document.querySelector('audio').duration")
            assert duration > 100
            page.evaluate("(to) => { document.querySelector('audio').currentTime = to }", 0.8 * duration)
            reached(page, 0.8 * duration + 0.5)
            assert page.evaluate("document.querySelector('audio').currentTime") < 0.8 * duration + 10
            page.goto("about:blank")
        asked = [line for line in origin.asked() if line.name]
    assert {line.name for line in asked} == {played}
    assert {line.method for line in origin.asked()} == {"GET"}
    assert {line.status for line in asked} == {206}
    size = (tmp_path / "music" / played).stat().st_size
    assert sum(line.sent for line in asked) < 1.1 * size  # nothing is fetched twice


def test_the_address_of_a_track_plays_by_itself(page: Page, url: str) -> None:
    page.goto(at(url, "album", "10 last.ogg"))
    assert page.evaluate("document.contentType") == "audio/ogg"
    reached(page, 0.5, "video")
    page.evaluate("document.querySelector('video').currentTime = 24")
    reached(page, 24.5, "video")


def test_the_next_track_follows_in_the_order_shown(page: Page, url: str) -> None:
    page.goto(at(url, "album") + "/")
    assert names(page) == ["1 first.ogg", "2 second.ogg", "10 last.ogg", "cover.png"]
    click(page, "1 first.ogg")
    expect(page.locator(".row.current .name")).to_have_text("1 first.ogg")
    for name in ("2 second.ogg", "10 last.ogg"):
        expect(page.locator(".bar .title")).to_have_text(name)
        expect(page.locator(".row.current .name")).to_have_text(name)
        assert page.title() == name
    reached(page, 0.3)
    page.get_by_role("button", name="Previous").click()
    expect(page.locator(".bar .title")).to_have_text("2 second.ogg")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".bar")).to_have_count(0)
    expect(page.locator(".row.current")).to_have_count(0)
    expect(page).to_have_url(at(url, "album") + "/")


def test_a_picture_stays_open_when_the_next_track_begins(page: Page, url: str) -> None:
    page.goto(at(url, "album") + "/")
    click(page, "2 second.ogg")
    reached(page, 0.1)
    click(page, "cover.png")
    expect(page.locator(".bar .title")).to_have_text("10 last.ogg")
    reached(page, 0.3)
    expect(page.locator("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_hidden()
    expect(page.locator(".row.current .name")).to_have_text("10 last.ogg")


def test_the_space_bar_pauses_and_plays(page: Page, url: str) -> None:
    page.goto(at(url, "album") + "/")
    click(page, "10 last.ogg")
    reached(page, 0.2)
    page.evaluate("document.activeElement.blur()")
    for paused in (True, False):
        page.keyboard.press(" ")
        page.wait_for_function("(paused) => document.querySelector('audio').paused === paused", arg=paused)


def test_a_track_that_cannot_be_played_says_why(page: Page, url: str, complaints: Complaints) -> None:
    complaints.expected.append("416")
    page.goto(at(url, "broken") + "/")
    for name in ("damaged.ogg", "empty.ogg"):
        click(page, name)
        expect(page.locator(".bar .title")).to_have_text(name)
        expect(page.locator(".bar .state")).to_contain_text("cannot")
        page.get_by_role("button", name="Stop").click()


# ── names and folders ──


def test_names_are_shown_as_text_and_nothing_runs(page: Page, url: str) -> None:
    page.goto(at(url, "<script>alert(1)<") + "/")
    assert sorted(names(page)) == sorted(["script>", *map(shown, HOSTILE)])
    assert page.locator("main img, main script, h1 *").count() == 0
    assert page.locator("h1").inner_text() == "<script>alert(1)<"
    assert page.title() == "<script>alert(1)<"


def test_every_name_opens_in_the_viewer(page: Page, url: str) -> None:
    page.goto(at(url, "<script>alert(1)<") + "/")
    for name in HOSTILE:
        click(page, os.fsdecode(name))
        expect(page.locator("dialog pre")).to_have_text(content(name), use_inner_text=False)
        assert page.locator("dialog .title").text_content() == shown(name)
        page.keyboard.press("Escape")
        expect(page.locator("dialog")).to_be_hidden()


def test_every_name_opens_by_its_own_address(page: Page, url: str) -> None:
    page.goto(at(url, "<script>alert(1)<") + "/")
    links = [urljoin(url, str(link.get_attribute("href"))) for link in page.locator(".name").all()]
    said = set()
    for link in links[1:]:
        page.goto(link)
        said.add(page.locator("body").inner_text().strip())
    assert said == {content(name).strip() for name in HOSTILE}


def test_folders_lead_down_and_breadcrumbs_up(page: Page, url: str) -> None:
    page.goto(url)
    assert names(page) == ["<script>alert(1)<", "album", "broken", "empty", "things"]
    page.get_by_text("<script>alert(1)<").click()
    page.get_by_text("script>", exact=True).click()
    assert page.locator("h1").inner_text() == "script>"
    assert page.locator("nav a").all_text_contents() == ["music", "<script>alert(1)<"]
    assert names(page) == ["deep.txt"]
    page.locator("nav a").last.click()
    expect(page.locator("h1")).to_have_text("<script>alert(1)<")
    page.locator("nav a").click()
    expect(page.locator("h1")).to_have_text("music")
    page.get_by_text("empty").click()
    expect(page.locator("main")).to_have_text("This folder is empty.")


@pytest.mark.parametrize("width", [320, 390, 1440])
def test_no_name_makes_the_page_wider_than_the_window(opened: Callable[..., Page], url: str, width: int) -> None:
    page = opened(viewport={"width": width, "height": 800})
    for path in ("<script>alert(1)<", "album", "empty"):
        page.goto(at(url, path) + "/")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.goto(at(url, "<script>alert(1)<") + "/")
    click(page, "b" * 200 + ".txt")
    expect(page.locator("dialog pre")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.querySelector('dialog').scrollWidth") <= width


# ── the viewer ──


def test_a_picture_is_shown(page: Page, url: str) -> None:
    page.goto(at(url, "things") + "/")
    click(page, "Café 1.png")
    page.wait_for_function("() => document.querySelector('dialog img')?.naturalWidth === 320")
    assert title(page) == "Café 1.png"


def test_a_film_plays_and_ends_with_the_viewer(page: Page, url: str) -> None:
    page.goto(at(url, "things") + "/")
    click(page, "film.webm")
    reached(page, 0.3, "dialog video")
    assert page.evaluate("document.querySelector('video').videoWidth") == 160
    page.get_by_role("button", name="Close").click()
    expect(page.locator("video")).to_have_count(0)


def test_a_click_on_a_film_pauses_it(page: Page, url: str) -> None:
    page.goto(at(url, "things") + "/")
    click(page, "film.webm")
    reached(page, 0.1, "dialog video")
    page.locator("dialog video").click()
    page.wait_for_function("() => document.querySelector('video').paused && !document.querySelector('video').ended")


def test_a_korean_text_of_a_legacy_charset_is_shown_right(page: Page, url: str) -> None:
    page.goto(at(url, "things") + "/")
    click(page, "가사.txt")
    expect(page.locator("dialog pre")).to_have_text(LYRICS * 5, use_inner_text=False)
    assert title(page) == "가사.txt"


def test_texts_opened_by_themselves_are_read_in_their_charset(page: Page, url: str) -> None:
    for name, charset, times in (("가사.txt", "EUC-KR", 5), ("text_sample", "UTF-8", 1)):
        page.goto(at(url, "things", name))
        assert page.evaluate("document.characterSet") == charset
        assert page.locator("body").inner_text().split() == (LYRICS * times).split()


def test_a_file_without_extension_opens_by_a_click(page: Page, url: str) -> None:
    page.goto(at(url, "things") + "/")
    click(page, "text_sample")
    expect(page.locator("body")).to_contain_text(LYRICS.splitlines()[1])
    expect(page).to_have_url(at(url, "things", "text_sample"))


def test_a_html_file_runs_nothing_and_is_shown_as_text(page: Page, url: str, complaints: Complaints) -> None:
    complaints.expected.append("page.html")  # the browser tells that it blocked a script
    page.goto(at(url, "things", "page.html"))
    assert page.locator("body").inner_text() == "said"
    assert page.title() == "one"
    page.goto(at(url, "things") + "/")
    click(page, "page.html")
    expect(page.locator("dialog pre")).to_contain_text("<script>document.title")


def test_back_closes_the_viewer_and_forward_opens_it(page: Page, url: str) -> None:
    page.goto(at(url, "things") + "/")
    click(page, "note 1.txt")
    expect(page.locator("dialog pre")).to_have_text("the note 1\n")
    page.go_back()
    expect(page.locator("dialog")).to_be_hidden()
    expect(page).to_have_url(at(url, "things") + "/")
    page.go_forward()
    expect(page.locator("dialog pre")).to_have_text("the note 1\n")


def test_an_address_that_names_a_file_opens_it_in_its_folder(page: Page, url: str) -> None:
    page.goto(at(url, "things") + "/#" + quote("가사.txt"))
    expect(page.locator("dialog pre")).to_contain_text(LYRICS.splitlines()[0])
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_hidden()
    expect(page).to_have_url(at(url, "things") + "/")


# ── keys ──


def test_keys_open_move_and_close(page: Page, url: str) -> None:
    page.goto(at(url, "things") + "/")
    for _ in range(50):
        page.keyboard.press("Tab")
        if focused(page) == "note 1.txt":
            break
    page.keyboard.press("Enter")
    expect(page.locator("dialog pre")).to_have_text("the note 1\n")
    for key, text in (("ArrowRight", "2"), ("ArrowRight", "3"), ("ArrowLeft", "2")):
        page.keyboard.press(key)
        expect(page.locator("dialog pre")).to_have_text(f"the note {text}\n")
        assert title(page) == f"note {text}.txt"
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_hidden()
    assert focused(page).startswith("note")


def test_the_filter_narrows_what_is_shown(page: Page, url: str) -> None:
    page.goto(at(url, "things") + "/")
    everything = names(page)
    page.keyboard.press("/")
    page.keyboard.type("cafe")
    assert names(page) == ["Café 1.png", "Café 2.png"]
    for typed, left in (("2 NOTE", ["note 2.txt"]), ("가사", ["가사.txt"]), ("nothing such", []), ("", everything)):
        page.fill("#filter", typed)
        assert names(page) == left


def test_a_small_folder_has_no_filter(page: Page, url: str) -> None:
    page.goto(at(url, "album") + "/")
    expect(page.locator(".row .copy").first).to_be_attached()
    assert page.locator("#filter").is_hidden()


# ── links ──


def test_the_address_of_a_file_is_copied(page: Page, url: str) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(at(url, "things") + "/")
    for place in (row(page, "가사.txt"), "dialog"):
        page.hover(row(page, "가사.txt")) if place != "dialog" else click(page, "가사.txt")
        page.evaluate("navigator.clipboard.writeText('')")
        page.locator(f"{place} .copy").click()
        expect(page.locator(f"{place} .copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == at(url, "things", "가사.txt")


def test_a_download_is_the_file(page: Page, url: str, library: Path, complaints: Complaints) -> None:
    complaints.expected.append("net::ERR_ABORTED")  # what becomes a download is no page
    page.goto(at(url, "things") + "/")
    page.hover(row(page, "가사.txt"))
    with page.expect_download() as download:
        page.click(f"{row(page, '가사.txt')} .get")
    assert download.value.suggested_filename == "가사.txt"
    assert Path(download.value.path()).read_bytes() == (library / "things" / "가사.txt").read_bytes()
    click(page, "Café 1.png")
    with page.expect_download() as download:
        page.click("dialog .get")
    assert Path(download.value.path()).read_bytes() == (library / "things" / "Café 1.png").read_bytes()


def test_all_is_there_without_script(opened: Callable[..., Page], url: str) -> None:
    page = opened(java_script_enabled=False)
    page.goto(at(url, "things") + "/")
    assert len(names(page)) == 9
    click(page, "note 1.txt")
    assert page.locator("body").inner_text().strip() == "the note 1"
    expect(page).to_have_url(at(url, "things", "note 1.txt"))


# ── where it is served ──


@needs("nginx")
def test_an_origin_that_has_gone_is_told_in_a_line(
    page: Page, library: Path, complaints: Complaints, tmp_path: Path
) -> None:
    complaints.expected.append("503")
    with nginx(tmp_path / "nginx", library) as origin, playhead(tmp_path / "playhead", origin.url) as url:
        page.goto(at(url, "album") + "/")
        origin.stop()
        click(page, "1 first.ogg")
        expect(page.locator(".bar .state")).to_contain_text("cannot be reached")
        click(page, "cover.png")
        expect(page.locator("dialog .view")).to_contain_text("cannot be reached")
        answer = page.goto(at(url, "things") + "/")
        assert answer
        assert answer.status == 503
        line = page.locator("body").inner_text()
        assert "cannot be reached" in line
        assert "\n" not in line.strip()


def test_the_page_works_below_a_prefix_and_with_several_trees(page: Page, library: Path, tmp_path: Path) -> None:
    configuration = tmp_path / "playhead.toml"
    configuration.write_text(f'prefix = "/p"\n[tree.other]\nuse = "local"\nroot = "{library / "album"}"\n', "utf-8")
    with playhead(tmp_path / "home", library, "--config", configuration) as url:
        assert url.endswith("/p/")
        page.goto(url)
        assert sorted(names(page)) == ["music", "other"]
        page.get_by_text("other").click()
        click(page, "10 last.ogg")
        reached(page, 0.2)
        expect(page).to_have_url(f"{url}files/other/#10%20last.ogg")
        page.locator("nav a").click()
        page.get_by_text("music").click()
        page.get_by_text("things").click()
        assert page.locator("nav a").all_text_contents() == ["Files", "music"]
        click(page, "note 2.txt")
        expect(page.locator("dialog pre")).to_have_text("the note 2\n")
        page.goto(at(url, "things"))
        expect(page).to_have_url(at(url, "things") + "/")
