"""The page of downloads, its forms and its JSON, called without a server."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from playhead import NotFound, Unavailable
from playhead.app import downloads as downloads_module
from playhead.app import page
from playhead.app.auth import Gate
from playhead.app.downloads import Downloads
from playhead.app.items import State
from playhead.app.queue import Queue
from playhead.app.site import Site
from playhead.origins.memory import MemoryTree
from tests.app.asgi_client import HOST, Answer, ask
from tests.app.test_bundles import Post
from tests.app.test_queue import A, B, C, queued, states, until
from tests.app.test_site import Page, refused
from tests.fakes.jobs import Engine

OWN = {"Origin": f"http://{HOST}"}
HOSTILE = "<img src=x onerror=alert(1)>\"'&.mp3"


@asynccontextmanager
async def shown(
    home: Path, gate: Gate = Gate(), prefix: str = "", **how: Any
) -> AsyncIterator[tuple[Site, Queue, Engine]]:
    """A site with a queue, whose downloads folder is its tree `music`."""
    async with queued(home) as (queue, engine):
        downloads = Downloads(queue, **{"tree": "music", **how})
        yield Site({"music": MemoryTree({"a": b""})}, gate, prefix, downloads=downloads), queue, engine


async def post(site: Site, headers: dict[str, str] = OWN, target: str = "/downloads", **form: str) -> Answer:
    sent = {"Content-Type": "application/x-www-form-urlencoded", **headers}
    exchange = Post(site, target, urlencode(form).encode(), headers=sent)
    await exchange.run()
    return exchange.answer()


async def rows(site: Site) -> list[dict[str, Any]]:
    answer = await ask(site, "/api/downloads")
    assert (answer.status, answer["content-type"], answer["cache-control"]) == (200, "application/json", "no-store")
    found: list[dict[str, Any]] = json.loads(answer.body)["downloads"]
    return found


async def test_a_form_adds_a_download_and_others_lead_it_through_its_steps(tmp_path: Path) -> None:
    async with shown(tmp_path) as (site, queue, engine):
        answer = await post(site, do="add", url=f" {A} ")
        assert (answer.status, answer["location"]) == (303, "/downloads")
        await until(engine.running)
        [item] = queue.items.values()
        for do, state in [("pause", "paused"), ("unpause", "active"), ("remove", "removed"), ("again", "active")]:
            assert (await post(site, do=do, gid=item.gid)).status == 303
            await until(lambda state=state: states(queue) == {A: state})
        for do, state in [("pause-all", "paused"), ("unpause-all", "active")]:
            assert (await post(site, do=do)).status == 303
            await until(lambda state=state: states(queue) == {A: state})
        await until(lambda: engine.running() == [A])
        engine.of(A).done()
        await until(lambda: item.state is State.COMPLETE)
        assert (await post(site, do="forget", gid=item.gid)).status == 303
        assert queue.items == {}
        await post(site, do="add", url=B)
        await until(engine.running)
        engine.of(B).fail(NotFound("gone"))
        await until(lambda: states(queue) == {B: "error"})
        await post(site, do="purge")
        assert queue.items == {}


async def test_a_step_that_is_not_possible_any_more_shows_the_page_anew(tmp_path: Path) -> None:
    async with shown(tmp_path) as (site, queue, _):
        item = await queue.add([A], {"pause": "true"})
        for do, gid in [
            ("pause", item.gid),
            ("forget", item.gid),
            ("again", item.gid),
            ("remove", "0" * 16),
            ("pause", ""),
        ]:
            assert (await post(site, do=do, gid=gid)).status == 303
        assert states(queue) == {A: "paused"}


@pytest.mark.parametrize("url", ["ftp://h/a", "file:///etc/passwd", "", "nonsense", f"http://h/{'a' * 9000}", HOSTILE])
async def test_an_address_that_is_refused_is_shown_again_with_the_reason(tmp_path: Path, url: str) -> None:
    async with shown(tmp_path) as (site, queue, _):
        answer = await post(site, do="add", url=url)
        assert (answer.status, queue.items) == (400, {})
        found = Page(answer)
        assert ("img", {"src": "x", "onerror": "alert(1)"}) not in found.tags
        [field] = [attributes for tag, attributes in found.tags if tag == "input" and attributes["name"] == "url"]
        assert field["value"] == url
        assert "an address is" in found.shown or "cannot be downloaded" in found.shown


NO_FORMS: list[dict[str, str]] = [
    {},
    {"Origin": "null"},
    {"Origin": "http://evil.example"},
    {"Origin": "https://ariang.example"},
    {"Origin": f"http://{HOST}", "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": f"http://{HOST}", "Host": "evil.example"},
]


@pytest.mark.parametrize("headers", NO_FORMS, ids=str)
async def test_no_form_of_another_page_is_heard(tmp_path: Path, headers: dict[str, str]) -> None:
    async with shown(tmp_path, Gate(cors=["https://ariang.example"])) as (site, queue, _):
        refused(await post(site, headers, do="add", url=A), 403)
        assert queue.items == {}


async def test_a_form_of_our_own_page_is_heard_however_the_browser_says_so(tmp_path: Path) -> None:
    async with shown(tmp_path) as (site, queue, _):
        for headers in (OWN, {"Sec-Fetch-Site": "same-origin"}, {**OWN, "Sec-Fetch-Site": "same-origin"}):
            assert (await post(site, headers, do="add", url=A)).status == 303
        assert len(queue.items) == 3


async def test_what_is_no_form_of_ours_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shown(tmp_path) as (site, queue, _):
        assert (await post(site, do="nonsense")).status == 400
        assert (await post(site)).status == 400
        for body in (b"\xff", b"no field", b"&".join([b"a=b"] * 20)):
            exchange = Post(site, "/downloads", body, headers=OWN)
            await exchange.run()
            refused(exchange.answer(), 400)
        monkeypatch.setattr(downloads_module, "FORM", 100)
        refused(await post(site, do="add", url=A + "a" * 100), 400)
        assert queue.items == {}
        refused(await ask(site, "/downloads", method="PUT"), 405)
        refused(await ask(site, "/downloads/", method="POST"), 405)
        refused(await ask(site, "/api/nothing"), 404)
        refused(await ask(site, "/api/downloads", method="POST"), 405)


async def test_where_everybody_may_come_the_page_only_shows(tmp_path: Path) -> None:
    async with shown(tmp_path, Gate(login=False), token="s3cret") as (site, queue, _):
        refused(await post(site, do="add", url=A), 403)
        await queue.add([A], {})
        found = Page(await ask(site, "/downloads", headers={"Host": "music.example"}))
        assert {"form", "button", "input"}.isdisjoint(tag for tag, _ in found.tags)
        assert "a" in found.shown


async def test_how_far_each_is_can_be_read(tmp_path: Path) -> None:
    async with shown(tmp_path) as (site, queue, engine):
        await queue.add([A], {"dir": "x y"})
        await queue.add([B], {})
        await queue.add([C], {"pause": "true"})
        await until(lambda: len(engine.running()) == 2)
        engine.of(A).learn(size=45_000_000, have=12_000_000, rate=3_000_000.0, connections=4, name=HOSTILE)
        engine.of(B).learn(have=1500, rate=10.0, connections=1)
        first, second, third = await rows(site)
        assert first["said"] == "12 MB of 45 MB, 3.0 MB/s, 4 connections, 11 s left"
        assert second["said"] == "1.5 kB, 10 B/s"
        assert third["said"] == "Paused"
        assert (first["name"], first["place"], first["folder"]) == (HOSTILE, "x y", "/files/music/x%20y/")
        assert (first["file"], first["state"], first["have"], first["size"]) == ("", "active", 12_000_000, 45_000_000)
        found = Page(await ask(site, "/downloads"))
        progress = [attributes for tag, attributes in found.tags if tag == "progress"]
        assert [(one.get("value"), one.get("max")) for one in progress] == [
            ("12000000", "45000000"),
            (None, None),
            ("0", None),
        ]
        assert HOSTILE in found.shown
        assert "img" not in {tag for tag, _ in found.tags}
        engine.of(A).done()
        engine.of(B).fail(Unavailable(f"{HOSTILE} cannot be reached"))
        await until(lambda: not engine.running())
        failed, whole = [row for row in await rows(site) if row["state"] != "paused"]
        assert (failed["state"], failed["said"]) == ("error", f"Failed: {HOSTILE} cannot be reached")
        assert (whole["said"], whole["file"]) == ("45 MB", "/files/music/x%20y/" + page.quoted(HOSTILE))
        found = Page(await ask(site, "/downloads"))
        assert "img" not in {tag for tag, _ in found.tags}
        links = [attributes["href"] for tag, attributes in found.tags if tag == "a"]
        assert whole["file"] in links
        assert "/files/music/x%20y/" in links


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "1 s"), (89, "89 s"), (300, "5 min"), (5400, "1.5 h"), (1e9, "277777.8 h")]
)
async def test_the_time_that_is_left_is_told_roughly(tmp_path: Path, seconds: float, said: str) -> None:
    row = page.Row("0" * 16, "a", "active", "", "", size=int(seconds * 1000), have=0, rate=1000, connections=1)
    assert row.said.endswith(f", {said} left")


async def test_a_file_under_way_has_an_address_where_its_tree_shows_it(tmp_path: Path) -> None:
    for playing, address in [(False, ""), (True, "/files/music/a.mp3")]:
        async with shown(tmp_path / str(playing), playing=playing) as (site, queue, engine):
            await queue.add([A], {})
            await until(engine.running)
            assert (await rows(site))[0]["file"] == ""
            engine.of(A).learn(name="a.mp3")
            assert (await rows(site))[0]["file"] == address


async def test_without_a_tree_nothing_is_linked(tmp_path: Path) -> None:
    async with shown(tmp_path, tree=None) as (site, queue, engine):
        await queue.add([A], {"dir": "x"})
        await until(engine.running)
        engine.of(A).learn(name="a.mp3", size=1).done()
        await until(lambda: not engine.running())
        [row] = await rows(site)
        assert (row["file"], row["folder"], row["place"]) == ("", "", "x")


@pytest.mark.parametrize(
    ("uri", "name"),
    [("http://h/x/a%20b.mp3?token=1#2", "a b.mp3"), ("http://h/", "h"), ("http://h", "h"), ("http://u:p@h:1/?x", "h")],
)
async def test_a_download_without_a_name_is_called_by_its_address_without_its_secrets(
    tmp_path: Path, uri: str, name: str
) -> None:
    async with shown(tmp_path) as (site, queue, _):
        await queue.add([uri], {"pause": "true"})
        assert (await rows(site))[0]["name"] == name
        assert "token" not in (await ask(site, "/downloads")).text


async def test_of_very_many_some_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads_module, "SHOWN", 2)
    async with shown(tmp_path) as (site, queue, _):
        for _ in range(5):
            await queue.add([A], {"pause": "true"})
        answer = await ask(site, "/api/downloads")
        data = json.loads(answer.body)
        assert (len(data["downloads"]), data["more"]) == (2, 3)
        assert "And 3 more." in Page(await ask(site, "/downloads")).shown


async def test_every_page_leads_to_the_downloads_and_says_how_many_there_are(tmp_path: Path) -> None:
    async with shown(tmp_path, prefix="/p") as (site, queue, _):
        await queue.add([A], {"pause": "true"})
        for target in ("/p/", "/p/files/music/"):
            found = Page(await ask(site, target))
            assert found.links("aside") == ["/p/downloads"]
            assert "Downloads 1" in found.shown
        found = Page(await ask(site, "/p/downloads"))
        assert {attributes["action"] for tag, attributes in found.tags if tag == "form"} == {"/p/downloads"}
        assert (await post(site, target="/p/downloads", do="purge"))["location"] == "/p/downloads"
    without = Page(await ask(Site({"music": MemoryTree({"a": b""})}), "/"))
    assert without.links("aside") == []


async def test_the_page_runs_no_script_but_its_own_and_lets_a_form_say_where_it_is_from(tmp_path: Path) -> None:
    async with shown(tmp_path) as (site, _, _):
        answer = await ask(site, "/downloads")
        assert answer["content-security-policy"] == page.POLICY
        assert answer["referrer-policy"] == "same-origin"
        assert answer["cache-control"] == "no-store"
        assert answer["content-type"] == "text/html; charset=utf-8"
        scripts = [attributes for tag, attributes in Page(answer).tags if tag == "script"]
        [script] = [attributes["src"] for attributes in scripts]
        assert (await ask(site, script)).status == 200
        assert (await ask(site, "/downloads", method="HEAD")).status == 200
