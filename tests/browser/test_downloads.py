"""The page of downloads in Chromium, and pages of other sites that call /jsonrpc."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser import test_page
from tests.browser.test_page import CHROMIUM, Complaints
from tests.peers.playing import clean, direct
from tests.peers.servers import python

chromium, complaints, opened, page = test_page.chromium, test_page.complaints, test_page.opened, test_page.page

pytestmark = pytest.mark.skipif(not os.path.exists(CHROMIUM), reason=f"{CHROMIUM} is not there")

ROOT = Path(__file__).parent.parent.parent
HOSTILE = "<img src=x onerror=alert(1)> 별.mp3"
TOKEN = "s3cret"


@contextmanager
def downloading(home: Path, *arguments: str) -> Iterator[str]:
    """A Playhead whose downloads do what their addresses say -> its URL."""
    command = [sys.executable, "-m", "tests.fakes.downloading", str(home), *arguments]
    served = subprocess.Popen(command, stdout=subprocess.PIPE, env=clean(home), cwd=ROOT, text=True)
    try:
        assert served.stdout
        yield served.stdout.readline().strip()
        served.terminate()
        assert served.wait(10) == 0
    finally:
        served.kill()
        served.wait()
        assert served.stdout
        served.stdout.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with downloading(tmp_path_factory.mktemp("playhead")) as url:
        yield url


def call(url: str, method: str, *params: Any) -> Any:
    data = json.dumps({"id": 1, "method": f"aria2.{method}", "params": params}).encode()
    asked = urllib.request.Request(f"{url}jsonrpc", data, {"Content-Type": "application/json"})
    with direct.open(asked, timeout=10) as answer:
        return json.loads(answer.read())["result"]


@pytest.fixture
def url(server: str) -> Iterator[str]:
    """The server, with nothing in its queue."""
    yield server
    for item in [*call(server, "tellActive"), *call(server, "tellWaiting", 0, 99)]:
        call(server, "remove", item["gid"])
    call(server, "purgeDownloadResult")


def row(page: Page, name: str) -> Locator:
    return page.locator(".download", has=page.get_by_text(name, exact=True))


def press(page: Page, name: str, button: str) -> None:
    with page.expect_navigation():
        row(page, name).get_by_role("button", name=button, exact=True).click()


def add(page: Page, address: str) -> None:
    page.get_by_label("Address of a file").fill(address)
    with page.expect_navigation():
        page.get_by_role("button", name="Download", exact=True).click()


def look(page: Page) -> None:
    """Have the script look at once, as it does when somebody comes back to the page."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_a_download_is_added_and_led_through_its_steps(opened: Callable[..., Page], url: str, script: bool) -> None:
    page = opened(java_script_enabled=script)

    def shows(name: str, text: str) -> None:
        if not script:
            page.reload()
        expect(row(page, name)).to_contain_text(text)

    page.goto(url)
    page.get_by_role("link", name="Downloads").click()
    expect(page.locator(".files")).to_have_text("Nothing is being downloaded.")
    add(page, "http://h/half/song.mp3")
    expect(page).to_have_url(f"{url}downloads")
    expect(row(page, "song.mp3").get_by_role("progressbar")).to_be_visible()
    page.wait_for_timeout(300)
    press(page, "song.mp3", "Pause")
    shows("song.mp3", "Paused at 20 kB of 40 kB")
    press(page, "song.mp3", "Resume")
    shows("song.mp3", "2.0 kB/s")
    press(page, "song.mp3", "Remove")
    shows("song.mp3", "Removed")
    press(page, "song.mp3", "Clear")
    expect(row(page, "song.mp3")).to_have_count(0)
    add(page, "http://h/fast/whole.txt")
    shows("whole.txt", "40 kB")
    row(page, "whole.txt").get_by_role("link", name="whole.txt").click()
    expect(page).to_have_url(f"{url}files/downloads/whole.txt")


def test_the_page_stays_true_without_being_loaded_again(page: Page, url: str) -> None:
    page.goto(f"{url}downloads")
    page.evaluate("document.body.dataset.same = 'yes'")
    page.get_by_label("Address of a file").fill("http://h/being/typed")
    gid = call(url, "addUri", ["http://h/half/a.mp3"])
    look(page)
    expect(row(page, "a.mp3")).to_contain_text("20 kB of 40 kB, 2.0 kB/s, 3 connections, 10 s left")
    progress = row(page, "a.mp3").get_by_role("progressbar")
    assert (progress.get_attribute("max"), progress.evaluate("bar => bar.value")) == ("40000", 20_000)
    row(page, "a.mp3").get_by_role("button", name="Remove").focus()
    call(url, "pause", gid)
    expect(row(page, "a.mp3")).to_contain_text("Paused")
    expect(row(page, "a.mp3").get_by_role("button", name="Remove")).to_be_focused()
    call(url, "addUri", ["http://h/fails/no%20such%20file"])
    look(page)
    expect(row(page, "no such file")).to_contain_text("Failed: no such file")
    call(url, "remove", gid)
    look(page)
    expect(row(page, "a.mp3")).to_have_count(0)
    expect(page.get_by_label("Address of a file")).to_have_value("http://h/being/typed")
    assert page.evaluate("document.body.dataset.same") == "yes"


def test_names_and_errors_are_texts(page: Page, url: str) -> None:
    call(url, "addUri", ["http://h/half/a"], {"out": HOSTILE, "dir": "<b>"})
    call(url, "addUri", ["http://h/fails/%3Cimg%20src%3Dx%20onerror%3Dalert(2)%3E"])
    for _ in range(2):
        page.goto(f"{url}downloads")
        expect(row(page, HOSTILE)).to_contain_text("20 kB of 40 kB")
        expect(page.get_by_text("Failed: <img src=x onerror=alert(2)>")).to_be_visible()
        expect(row(page, HOSTILE).get_by_role("link", name="<b>")).to_be_visible()
        with page.expect_response("**/api/downloads"):
            look(page)
        assert page.locator(".files img, .files b").count() == 0


def test_an_address_that_is_refused_is_shown_with_the_reason(page: Page, url: str, complaints: Complaints) -> None:
    complaints.expected.append("400 (Bad Request)")
    page.goto(f"{url}downloads")
    add(page, "ftp://h/a")
    expect(page.get_by_role("alert")).to_contain_text("'ftp://h/a' cannot be downloaded")
    expect(page.get_by_label("Address of a file")).to_have_value("ftp://h/a")
    add(page, "http://h/half/a.mp3")
    expect(row(page, "a.mp3")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


@pytest.mark.parametrize("width", [320, 1440])
def test_the_page_fits_any_width(opened: Callable[..., Page], url: str, width: int) -> None:
    call(url, "addUri", ["http://h/half/a"], {"out": "긴 이름의 노래" * 10 + ".mp3"})
    call(url, "addUri", [f"http://h/fails/{'x' * 300}"])
    page = opened(viewport={"width": width, "height": 800})
    page.goto(f"{url}downloads")
    expect(page.locator(".download")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for button in page.get_by_role("button").all():
        box = button.bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= width


CALLS = """async ([url, token]) => {
  const params = (address) => token ? [`token:${token}`, [address]] : [[address]];
  const call = (name) => JSON.stringify({ id: 1, method: "aria2.addUri", params: params(`http://h/half/${name}`) });
  const post = (name, how) => fetch(`${url}jsonrpc`, { method: "POST", body: call(name), ...how });
  const json = { headers: { "Content-Type": "application/json" } };
  await post("plain", { mode: "no-cors" }).catch(() => {});
  return {
    fetch: await post("fetched", json).then((answer) => answer.status, () => "refused"),
    socket: await new Promise((resolve) => {
      const socket = new WebSocket(`${url.replace("http", "ws")}jsonrpc`);
      socket.onopen = () => socket.send(call("socket"));
      socket.onmessage = (event) => resolve("result" in JSON.parse(event.data));
      socket.onerror = () => resolve("refused");
    }),
  };
}"""


def test_a_page_of_another_site_adds_nothing(page: Page, url: str, tmp_path: Path, complaints: Complaints) -> None:
    complaints.expected += ["jsonrpc", "403 (Forbidden)"]
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "index.html").write_text(
        f'<form method="post" action="{url}downloads"><input name="do" value="add">'
        '<input name="url" value="http://h/half/form"><button>Press</button></form>',
        "utf-8",
    )
    (tmp_path / "scratch").mkdir()
    with python(tmp_path / "evil", tmp_path / "scratch") as evil:
        page.goto(evil)
        assert page.evaluate(CALLS, [url, None]) == {"fetch": "refused", "socket": "refused"}
        page.get_by_role("button", name="Press").click()
        expect(page.get_by_text("does not answer pages of other sites")).to_be_visible()
    assert call(url, "getGlobalStat")["numActive"] == call(url, "getGlobalStat")["numWaiting"] == "0"


def test_a_page_that_the_configuration_names_calls_with_the_token(
    page: Page, tmp_path: Path, complaints: Complaints
) -> None:
    for name in ("ariang", "scratch"):
        (tmp_path / name).mkdir()
    with python(tmp_path / "ariang", tmp_path / "scratch") as ariang:
        complaints.expected.append("net::ERR_ABORTED")  # an answer that the page may not see
        with downloading(tmp_path / "home", TOKEN, ariang.rstrip("/")) as url:
            page.goto(ariang)
            assert page.evaluate(CALLS, [url, TOKEN]) == {"fetch": 200, "socket": True}
            page.goto("about:blank")
