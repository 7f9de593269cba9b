"""aria2's JSON-RPC over real HTTP and WebSockets: our own server, with an engine that does what each test says."""

import asyncio
import base64
import contextlib
import hmac
import io
import json
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from playhead import NotFound
from playhead.app import aria2, items
from playhead.app import rpc as rpc_module
from playhead.app.auth import Gate
from playhead.app.downloads import BODY, Downloads
from playhead.app.queue import Queue
from playhead.app.site import Site
from playhead.doors import websocket
from playhead.origins.memory import MemoryTree
from tests.app.test_queue import until
from tests.doors import test_server
from tests.doors.test_server import Runs, client, get, serving
from tests.fakes.jobs import Engine
from tests.peers.playing import certificate, needs

run = test_server.run

A, B, C, D = (f"http://h/{name}" for name in "abcd")
TOKEN = "s3cr3t 별"
CORS = "https://ariang.example"


@dataclass
class Caller:
    """Calls a server's /jsonrpc, with a token if it has one."""

    port: int
    session: aiohttp.ClientSession
    queue: Queue
    engine: Engine
    token: str | None = None
    sent: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/jsonrpc"

    def message(self, method: str, *params: Any) -> dict[str, Any]:
        token = [f"token:{self.token}"] if self.token is not None else []
        name = method if "." in method else f"aria2.{method}"
        return {"jsonrpc": "2.0", "id": "q", "method": name, "params": [*token, *params]}

    async def post(self, data: Any, **headers: str) -> tuple[int, Any]:
        """The status of an answer, and what it says."""
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        sent = {"Content-Type": "application/json", **{key.replace("_", "-"): headers[key] for key in headers}}
        async with self.session.post(self.url, data=io.BytesIO(body), headers=sent) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if "json" in answer.content_type else text

    async def __call__(self, method: str, *params: Any) -> Any:
        """The result of a call, or the words of its error."""
        status, said = await self.post(self.message(method, *params))
        assert (said["id"], said["jsonrpc"]) == ("q", "2.0")
        assert status == (200 if "result" in said else 400)
        if "error" in said:
            assert said["error"]["code"] == 1
            return said["error"]["message"]
        return said["result"]

    async def add(self, uri: str, *more: Any) -> str:
        gid = await self("addUri", [uri], *more)
        assert len(gid) == 16, gid
        return str(gid)

    async def runs(self, *uris: str) -> None:
        await until(lambda: self.engine.running() == list(uris))

    async def listen(self, **headers: str) -> aiohttp.ClientWebSocketResponse:
        return await self.session.ws_connect(self.url, headers=headers)


@asynccontextmanager
async def calling(
    home: Path, token: str | None = None, *, at_once: int = 2, gate: Gate = Gate(), **how: Any
) -> AsyncIterator[Caller]:
    """A server that downloads, and who calls it."""
    engine = Engine()
    queue = Queue(engine, home / "downloads", home / "state" / "queue", at_once=at_once, trees=("music",))
    await queue.begin()
    trees = {"music": MemoryTree({"song.mp3": b"song"})}
    site = Site(trees, gate, downloads=Downloads(queue, token), **how)
    try:
        async with serving(site) as port, aiohttp.ClientSession() as session:
            yield Caller(port, session, queue, engine, token)
    finally:
        await queue.aclose()


# ── shapes ──


def shape(path: str, status: str, *, have: str = "0", size: str = "0", **more: Any) -> dict[str, Any]:
    """What aria2 tells of a download that has one address."""
    used = "waiting" if status in ("waiting", "paused") else "used"
    file = {"completedLength": have, "index": "1", "length": size, "path": path, "selected": "true"}
    told = {"completedLength": have, "totalLength": size, "numPieces": "0", "pieceLength": "1048576", "status": status}
    told |= {"connections": "0", "downloadSpeed": "0", "uploadLength": "0", "uploadSpeed": "0"}
    return {**told, "files": [{**file, "uris": [{"status": used, "uri": more.pop("uri", A)}]}], **more}


async def test_a_download_is_told_of_as_aria2_does(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        folder = str(tmp_path / "downloads")
        gid = await call.add(A, {"dir": "x"})
        known = {"gid": gid, "dir": f"{folder}/x"}
        await call.runs(A)
        assert await call("tellStatus", gid) == shape("", "active", **known)
        call.engine.of(A).learn(size=3_000_000, have=7, rate=12.7, connections=4, name="a b.mp3")
        going = {"connections": "4", "downloadSpeed": "12", "numPieces": "3"}
        part = shape(f"{folder}/x/a b.mp3", "active", have="7", size="3000000", **known, **going)
        assert await call("tellStatus", gid) == part
        assert await call("getFiles", gid) == part["files"]
        assert await call("getUris", gid) == part["files"][0]["uris"] == [{"status": "used", "uri": A}]
        servers = [{"index": "1", "servers": [{"currentUri": A, "downloadSpeed": "12", "uri": A}]}]
        assert (await call("getServers", gid), await call("getPeers", gid)) == (servers, [])
        call.engine.of(A).done()
        await call.runs()
        ended = {"bitfield": "e0", "numPieces": "3", "errorCode": "0", "errorMessage": ""}
        whole = shape(f"{folder}/x/a b.mp3", "complete", have="3000000", size="3000000", **known, **ended)
        assert await call("tellStatus", gid) == whole


async def test_what_failed_was_removed_or_waits_is_told_of_as_aria2_does(tmp_path: Path) -> None:
    async with calling(tmp_path, at_once=1) as call:
        dir = str(tmp_path / "downloads")
        failed, removed = await call.add(A), await call.add(B)
        waiting, paused = await call.add(C), await call.add(D, {"pause": "true"})
        await call.runs(A)
        call.engine.of(A).fail(NotFound("it is gone"))
        await call.runs(B)
        await call("remove", removed)
        await call.runs(C)
        assert await call("pause", waiting) == waiting
        await call.runs()
        error = {"errorCode": "3", "errorMessage": "it is gone"}
        assert await call("tellStatus", failed) == shape("", "error", gid=failed, dir=dir, **error)
        by_us = {"errorCode": "31", "errorMessage": "", "uri": B}
        assert await call("tellStatus", removed) == shape("", "removed", gid=removed, dir=dir, **by_us)
        assert await call("tellStatus", waiting) == shape("", "paused", gid=waiting, dir=dir, uri=C)
        assert await call("tellStatus", paused) == shape("", "paused", gid=paused, dir=dir, uri=D)


async def test_the_pieces_of_a_great_file_are_few(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        gid = await call.add(A)
        await call.runs(A)
        call.engine.of(A).learn(size=(1 << 41) + 1)
        told = await call("tellStatus", gid, ["numPieces", "pieceLength"])
        assert (int(told["numPieces"]), int(told["pieceLength"])) == (1025, 1 << 31)
        call.engine.of(A).done()
        await call.runs()
        assert len((await call("tellStatus", gid, ["bitfield"]))["bitfield"]) == 258


async def test_the_numbers_of_all_are_told(tmp_path: Path) -> None:
    async with calling(tmp_path, at_once=1) as call:
        for uri in (A, B, C):
            await call.add(uri)
        await call.runs(A)
        call.engine.of(A).done()
        await call.runs(B)
        call.engine.of(B).learn(rate=99.9)
        counts = {"numActive": "1", "numStopped": "1", "numStoppedTotal": "1", "numWaiting": "1"}
        assert await call("getGlobalStat") == {**counts, "downloadSpeed": "99", "uploadSpeed": "0"}
        assert await call("purgeDownloadResult") == "OK"
        counts["numStopped"] = "0"
        assert await call("getGlobalStat") == {**counts, "downloadSpeed": "99", "uploadSpeed": "0"}


async def test_only_what_is_wanted_is_told(tmp_path: Path) -> None:
    async with calling(tmp_path, at_once=1) as call:
        first, second = await call.add(A), await call.add(B)
        await call.runs(A)
        assert await call("tellStatus", first, ["gid", "status", "bogus", 5]) == {"gid": first, "status": "active"}
        assert await call("tellActive", ["gid"]) == [{"gid": first}]
        assert await call("tellWaiting", 0, 9, ["status", "errorCode"]) == [{"status": "waiting"}]
        assert await call("tellStatus", second, []) == await call("tellStatus", second)
        assert await call("tellStatus", second, [5]) == {}


async def test_a_part_of_the_line_is_told_from_either_end(tmp_path: Path) -> None:
    async with calling(tmp_path, at_once=0) as call:
        gids = [await call.add(uri) for uri in (A, B, C, D)]
        names = dict(zip(gids, "abcd", strict=True))
        parts = [
            (0, 9, "abcd"),
            (2, 1, "c"),
            (9, 2, ""),
            (1, 0, ""),
            (-1, 2, "dc"),
            (-2, 2, "cb"),
            (-4, 9, "a"),
            (-9, 2, ""),
        ]
        for offset, count, told in parts:
            found = await call("tellWaiting", offset, count, ["gid"])
            assert "".join(names[item["gid"]] for item in found) == told, (offset, count)
        assert await call("changePosition", gids[0], 0, "POS_END") == 3


async def test_a_gid_may_be_shortened_where_no_other_begins_so(tmp_path: Path) -> None:
    async with calling(tmp_path, at_once=0) as call:
        for gid in ("abcd000000000001", "abcd000000000002", "ef00000000000000"):
            await call.add(A, {"gid": gid})
        assert (await call("tellStatus", "EF", ["gid"]))["gid"] == "ef00000000000000"
        assert await call("tellStatus", "abcd") == "GID abcd is not unique"
        assert await call("tellStatus", "abce") == "GID abce is not found"


async def test_options_are_told_and_changed(tmp_path: Path) -> None:
    async with calling(tmp_path, at_once=0) as call:
        folder = str(tmp_path / "downloads")
        gid = await call.add(A, {"dir": "x", "header": ["A: b", "C: d"], "split": "4", "seed-ratio": "1.0"})
        assert await call("getOption", gid) == {"dir": f"{folder}/x", "header": "A: b\nC: d", "split": "4"}
        again = await call.add(A, await call("getOption", gid))  # as AriaNg does to try again
        assert await call("getOption", again) == await call("getOption", gid)
        assert await call("changeOption", gid, {"dir": folder, "split": "2"}) == "OK"
        assert await call("getOption", gid) == {"dir": folder, "header": "A: b\nC: d", "split": "2"}
        assert await call("getGlobalOption") == {"dir": folder, "max-concurrent-downloads": "0"}
        assert await call("changeGlobalOption", {"max-concurrent-downloads": "1"}) == "OK"
        await call.runs(A)
        assert "cannot be changed now" in await call("changeOption", gid, {"split": "3"})


async def test_a_position_in_the_line_may_be_asked_for(tmp_path: Path) -> None:
    async with calling(tmp_path, at_once=0) as call:
        first, second = await call.add(A), await call.add(B, {}, 0)
        assert [item["gid"] for item in await call("tellWaiting", 0, 9, ["gid"])] == [second, first]
        assert len(await call("addUri", [C], {}, 1 << 61)) == 16


async def test_what_it_is_and_can_is_told(tmp_path: Path) -> None:
    async with calling(tmp_path, TOKEN) as call:
        assert sorted(await call("getVersion")) == ["enabledFeatures", "version"]
        assert len((await call("getSessionInfo"))["sessionId"]) == 40
        assert await call("saveSession") == "OK"
        call.token = None  # these need none
        methods = await call("system.listMethods")
        assert {"aria2.addUri", "aria2.tellStatus", "system.multicall"} <= set(methods)
        assert "aria2.onDownloadComplete" in await call("system.listNotifications")


async def test_a_download_goes_through_its_steps(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        gid = await call.add(A)
        await call.runs(A)
        for pause, unpause in [("pause", "unpause"), ("forcePause", "unpause")]:
            assert await call(pause, gid) == gid
            await call.runs()
            assert (await call("tellStatus", gid, ["status"]))["status"] == "paused"
            assert await call(unpause, gid) == gid
            await call.runs(A)
        for every in ("pauseAll", "unpauseAll", "forcePauseAll", "unpauseAll"):
            assert await call(every) == "OK"
        await call.runs(A)
        assert await call("forceRemove", gid) == gid
        await call.runs()
        assert [item["gid"] for item in await call("tellStopped", 0, 9)] == [gid]
        assert await call("removeDownloadResult", gid) == "OK"
        assert await call("tellStopped", -1, 9) == []


# ── errors ──

MISSING, WRONG = "The parameter at 0 is required but missing.", "The parameter at 0 has wrong type."
NEGATIVE = "The integer parameter at 1 has invalid value: the value must be greater than or equal to 0."
NONE = "0123456789abcdef"
ERRORS: list[tuple[str, list[Any], str]] = [
    ("nope", [], "No such method: aria2.nope"),
    ("addTorrent", ["x"], "No such method: aria2.addTorrent"),
    ("shutdown", [], "No such method: aria2.shutdown"),
    ("system.shutdown", [], "No such method: system.shutdown"),
    ("tellStatus", [], MISSING),
    ("tellStatus", [5], WRONG),
    ("tellStatus", [NONE], f"GID {NONE} is not found"),
    ("tellStatus", ["zz"], "Invalid GID zz"),
    ("tellStatus", [NONE + "0"], f"Invalid GID {NONE}0"),
    ("tellActive", [5], WRONG),
    ("tellWaiting", [], MISSING),
    ("tellWaiting", ["0", 1], WRONG),
    ("tellWaiting", [True, 1], WRONG),
    ("tellWaiting", [1.0, 1], WRONG),
    ("tellWaiting", [1 << 70, 1], WRONG),
    ("tellWaiting", [0, -3], NEGATIVE),
    ("addUri", [], MISSING),
    ("addUri", ["http://h/"], WRONG),
    ("addUri", [[]], "URI is not provided."),
    ("addUri", [[A], []], "The parameter at 1 has wrong type."),
    ("addUri", [[A], {}, -1], "Position must be greater than or equal to 0."),
    ("pause", [NONE], f"GID {NONE} is not found"),
    ("remove", [NONE], f"GID {NONE} is not found"),
    ("getOption", [NONE], f"GID {NONE} is not found"),
    ("changePosition", [NONE], f"GID {NONE} is not found"),
    ("system.multicall", [], MISSING),
]


async def test_errors_have_the_words_of_aria2(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        for method, params, words in ERRORS:
            assert await call(method, *params) == words, (method, params)


async def test_what_is_not_possible_now_has_the_words_of_aria2(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        gid = await call.add(A)
        await call.runs(A)
        assert await call("unpause", gid) == f"GID#{gid} cannot be unpaused now"
        assert await call("removeDownloadResult", gid) == f"Could not remove download result of GID#{gid}"
        assert await call("changePosition", gid, 0, "POS_SET") == f"GID#{gid} not found in the waiting queue."
        waiting = await call.add(B, {"pause": "true"})
        assert await call("pause", waiting) == f"GID#{waiting} cannot be paused now"
        assert await call("changePosition", waiting, 0, "POS_BEST") == "Illegal argument."
        assert await call("getServers", waiting) == f"No active download for GID#{waiting}"
        call.engine.of(A).done()
        await call.runs()
        assert await call("remove", gid) == f"Active Download not found for GID#{gid}"
        assert await call("pause", gid) == f"GID#{gid} cannot be paused now"
        assert await call("getUris", gid) == f"No URI data is available for GID#{gid}"
        assert await call("getPeers", gid) == f"No peer data is available for GID#{gid}"


@pytest.mark.parametrize(
    "uri", ["file:///etc/passwd", "/etc/passwd", "ftp://h/a", "magnet:?xt=urn:btih:0", "other:a", ""]
)
async def test_only_urls_and_files_of_trees_can_be_added(tmp_path: Path, uri: str) -> None:
    async with calling(tmp_path) as call:
        said = await call("addUri", [uri])
        assert "cannot be downloaded" in said or "an address is" in said
        assert call.queue.items == {}
        await call.add("music:song.mp3")


async def test_nothing_is_added_outside_of_the_folder(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        for dir in ("/etc", "..", "x/../../y", str(tmp_path)):
            assert "is not inside of the downloads folder" in await call("addUri", [A], {"dir": dir})
        assert call.queue.items == {}
        gid = await call.add(A, {"dir": str(tmp_path / "downloads" / "x"), "out": "../../etc/passwd"})
        await call.runs(A)
        assert call.engine.of(A).options == {"dir": str(tmp_path / "downloads" / "x"), "out": "etc_passwd"}
        assert await call("getOption", gid) == {"dir": str(tmp_path / "downloads" / "x"), "out": "etc_passwd"}


async def test_options_of_a_server_that_cannot_be_changed_say_so(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        assert "max-overall-download-limit cannot" in await call(
            "changeGlobalOption", {"max-overall-download-limit": "1K"}
        )
        for wrong in ("0", "65", "abc", "-1", "1" * 5000, None, []):
            assert "from 1 to 64" in await call("changeGlobalOption", {"max-concurrent-downloads": wrong})
        assert call.queue.at_once == 2


NESTED = b'{"jsonrpc":"2.0","id":1,"method":"aria2.getVersion","params":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
NO_CALLS: list[tuple[bytes, int, Any]] = [
    (b"{not json", -32700, None),
    (b"", -32700, None),
    (b"3", -32700, None),
    (b"\xff\xfe\xfd", -32700, None),
    (NESTED, -32700, None),
    (b'{"id": NaN, "method": "aria2.getVersion"}', -32700, None),
    (b'{"id": ' + b"9" * 5000 + b"}", -32700, None),
    (b"{}", -32600, None),
    (b'{"id": 7}', -32600, 7),
    (b'{"method": "aria2.getVersion"}', -32600, None),
    (b'{"id": [1], "method": 5}', -32600, None),
    (b'{"id": "x", "method": "aria2.getVersion", "params": {"a": 1}}', -32602, "x"),
]


async def test_what_is_no_call_is_answered_as_json_rpc_says(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        for data, code, id in NO_CALLS:
            status, said = await call.post(data)
            assert (status, said["error"]["code"], said["id"]) == (400, code, id), data[:60]


async def test_a_batch_is_answered_call_by_call(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        calls = [call.message("getGlobalStat"), 5, {**call.message("tellStatus", NONE), "id": 2}, call.message("nope")]
        status, said = await call.post(calls)
        assert status == 200
        assert said[0]["result"]["numActive"] == "0"
        assert [one["error"]["code"] for one in said[1:]] == [-32600, 1, 1]
        assert [one["id"] for one in said] == ["q", None, 2, "q"]
        assert await call.post([]) == (200, [])


async def test_several_calls_in_one_are_answered_one_by_one(tmp_path: Path) -> None:
    async with calling(tmp_path, TOKEN) as call:
        token = f"token:{TOKEN}"
        calls: list[Any] = [{"methodName": "aria2.addUri", "params": [token, [A]]}]
        calls += [
            {"methodName": "aria2.tellStatus", "params": [token, NONE]},
            {"methodName": "aria2.nope", "params": [token]},
        ]
        calls += [{"methodName": "system.multicall", "params": [[]]}, 3, {"x": 1}, {"methodName": "aria2.getVersion"}]
        status, said = await call.post({"id": 1, "method": "system.multicall", "params": [calls]})
        assert (status, said["id"], len(said["result"][0][0])) == (200, 1, 16)
        errors = [f"GID {NONE} is not found", "No such method: aria2.nope", "Recursive system.multicall forbidden."]
        errors += ["system.multicall expected struct.", "Missing methodName.", "Unauthorized"]
        assert said["result"][1:] == [{"code": 1, "message": words} for words in errors]


async def test_one_message_asks_for_so_much_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_module, "CALLS", 5)
    monkeypatch.setattr(aria2, "TOLD", 5)
    async with calling(tmp_path, at_once=0) as call:
        for _ in range(4):
            await call.add(A)
        status, said = await call.post([call.message("getVersion")] * 6)
        assert (status, said["error"]["message"]) == (400, "a batch has at most 5 calls")
        several = {"methodName": "aria2.getVersion", "params": []}
        assert await call("system.multicall", [several] * 6) == "system.multicall takes at most 5 calls"
        _, said = await call.post([call.message("system.multicall", [several] * 4)] * 2)
        assert [len(one) for one in said[1]["result"]] == [1, 2, 2, 2]
        assert said[1]["result"][3]["message"] == "a message has at most 5 calls"
        assert len(await call("tellWaiting", 0, 99)) == 4
        _, said = await call.post([call.message("tellWaiting", 0, 99)] * 2)
        assert said[1]["error"]["message"] == "a message can be told of at most 5 downloads"


async def test_a_message_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        call_it = json.dumps(call.message("getVersion")).encode()
        status, said = await call.post(call_it + b" " * (BODY - len(call_it)))
        assert (status, "result" in said) == (200, True)
        status, said = await call.post(call_it + b" " * (BODY - len(call_it) + 1))
        assert (status, said) == (400, "a message has at most 8,388,608 bytes\n")


async def test_what_was_answered_is_on_disk(tmp_path: Path) -> None:
    async with calling(tmp_path, at_once=0) as call:
        gids = [await call.add(A) for _ in range(3)]
        assert [item.gid for item in items.read(call.queue.state)] == gids
        await call("remove", gids[1])
        await call("pause", gids[2])
        assert [(item.gid, item.state) for item in items.read(call.queue.state)] == [
            (gids[0], "waiting"),
            (gids[2], "paused"),
        ]


async def test_a_bug_is_one_error_and_tells_nothing_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with calling(tmp_path) as call:
        monkeypatch.setattr(call.queue, "purge", lambda: 1 / 0)
        assert await call("purgeDownloadResult") == "a bug of ours; the log says more"
        assert "ZeroDivisionError" in caplog.text


# ── who may ──


async def test_without_its_token_nothing_can_be_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_module, "WRONG_SECONDS", 0)
    async with calling(tmp_path, TOKEN) as call:
        for token in (None, "", "wrong", TOKEN + "x", TOKEN[:-1], "\ud800"):
            call.token = token
            for method, *params in (("addUri", [A]), ("tellActive",), ("getVersion",), ("nope",)):
                assert await call(method, *params) == "Unauthorized"
        assert call.queue.items == {}
        call.token = TOKEN
        await call.add(A)


async def test_a_token_that_nobody_asked_for_is_left_out(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        call.token = "whatever"
        await call.add(A)


async def test_a_message_tries_one_token_and_wrong_ones_take_their_time_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[bytes] = []
    asleep = most = 0
    now = asyncio.sleep

    def compare(given: bytes, token: bytes) -> bool:
        compared.append(given)
        return given == token

    async def sleep(seconds: float) -> None:
        nonlocal asleep, most
        asleep += 1
        most = max(most, asleep)
        await now(0.01)
        asleep -= 1

    async with calling(tmp_path, TOKEN) as call:
        monkeypatch.setattr(hmac, "compare_digest", compare)
        monkeypatch.setattr(rpc_module.asyncio, "sleep", sleep)
        guesses = [{"id": n, "method": "aria2.getVersion", "params": [f"token:{n}"]} for n in range(20)]
        right = call.message("getVersion")
        answers = await asyncio.gather(*[call.post([*guesses, right]) for _ in range(3)])
        assert all(one["error"]["message"] == "Unauthorized" for _, said in answers for one in said)
        assert (compared, most) == ([b"0"] * 3, 1)
        compared.clear()
        assert (await call.post(right))[0] == 200
        assert compared == [TOKEN.encode()]


FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:1"},
    {"Origin": "http://[::1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Host": "evil.example"},
    {"X-Forwarded-For": "1.2.3.4"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize("token", [None, TOKEN])
async def test_no_page_of_another_site_can_call(tmp_path: Path, headers: dict[str, str], token: str | None) -> None:
    async with calling(tmp_path, token, gate=Gate(cors=[CORS])) as call:
        status, said = await call.post(call.message("addUri", [A]), **headers)
        assert (status, type(said)) == (403, str)
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await call.listen(**headers)
        assert call.queue.items == {}


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_what_a_page_can_post_unasked_is_no_call(tmp_path: Path, kind: str) -> None:
    async with calling(tmp_path) as call:
        status, said = await call.post(call.message("addUri", [A]), Content_Type=kind)
        assert (status, said) == (400, "a call is posted with `Content-Type: application/json`\n")
        assert call.queue.items == {}
    async with calling(tmp_path, TOKEN) as call:
        assert (await call.post(call.message("getVersion"), Content_Type=kind))[0] == 200


async def test_a_page_that_may_read_needs_the_token_to_call(tmp_path: Path) -> None:
    gate = Gate(cors=[CORS])
    async with calling(tmp_path, gate=gate) as call:
        assert (await call.post(call.message("addUri", [A]), Origin=CORS))[0] == 403
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await call.listen(Origin=CORS)
        own = f"http://127.0.0.1:{call.port}"
        assert (await call.post(call.message("addUri", [A]), Origin=own))[0] == 200
    async with calling(tmp_path, TOKEN, gate=gate) as call:
        assert (await call.post(call.message("addUri", [A]), Origin=CORS))[0] == 200
        async with await call.listen(Origin=CORS) as listening:
            assert not listening.closed


async def test_a_page_of_another_site_is_told_that_it_may(tmp_path: Path) -> None:
    async with calling(tmp_path, TOKEN, gate=Gate(cors=[CORS])) as call:
        asks = {
            "Origin": CORS,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        }
        async with call.session.options(call.url, headers=asks) as answer:
            assert answer.status == 204
            assert answer.headers["Access-Control-Allow-Origin"] == CORS
            assert "POST" in answer.headers["Access-Control-Allow-Methods"]
            assert answer.headers["Access-Control-Allow-Headers"] == "Content-Type"
        async with call.session.post(call.url, json=call.message("getVersion"), headers={"Origin": CORS}) as answer:
            assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, CORS)
            assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("origin", ["chrome-extension://abcdef", "moz-extension://1-2-3"])
async def test_extensions_of_browsers_can_call_with_the_token(tmp_path: Path, origin: str) -> None:
    async with calling(tmp_path, TOKEN) as call:
        headers = {"Origin": origin, "Sec_Fetch_Site": "cross-site"}
        assert (await call.post(call.message("addUri", [A]), **headers))[0] == 200
        assert (await call.post(call.message("addUri", [A]), **headers, Host="evil.example"))[0] == 403
        async with await call.listen(Origin=origin) as listening:
            await listening.send_json(call.message("getVersion"))
            assert "result" in await listening.receive_json()
    async with calling(tmp_path) as call:
        assert (await call.post(call.message("addUri", [A]), **headers))[0] == 403


async def test_where_everybody_may_come_the_token_is_needed(tmp_path: Path) -> None:
    async with calling(tmp_path, gate=Gate(login=False)) as call:
        assert await call.post(call.message("addUri", [A])) == (
            403,
            "this server is open to whoever can reach it, so /jsonrpc needs a token\n",
        )
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await call.listen()
        assert call.queue.items == {}
    async with calling(tmp_path, TOKEN, gate=Gate(login=False)) as call:
        assert (await call.post(call.message("addUri", [A]), Host="music.example"))[0] == 200


def asked(method: str | None, params: Any, **more: str) -> str:
    encoded = base64.b64encode(json.dumps(params).encode()).decode()
    return urlencode({**({"method": method} if method else {}), "id": "q", "params": encoded, **more})


async def test_a_call_can_be_asked_for_in_an_address_with_the_token_alone(tmp_path: Path) -> None:
    async with calling(tmp_path, TOKEN) as call:

        async def ask(query: str) -> tuple[int, str]:
            async with call.session.get(f"{call.url}?{query}") as answer:
                return answer.status, await answer.text()

        status, text = await ask(asked("aria2.addUri", [f"token:{TOKEN}", [A]]))
        assert (status, json.loads(text)["id"]) == (200, "q")
        status, text = await ask(asked(None, [call.message("getVersion")]))
        assert (status, len(json.loads(text))) == (200, 1)
        status, text = await ask(asked("aria2.getVersion", []))
        assert (status, json.loads(text)["error"]["message"]) == (400, "Unauthorized")
        status, text = await ask(asked("aria2.getVersion", [f"token:{TOKEN}"], jsoncallback="f"))
        assert (status, text.startswith("JSONP is not spoken")) == (400, True)
        for query in (
            "",
            "method=aria2.getVersion&id=1&params=!",
            "method=aria2.getVersion&params=e30%3D",
            "params=e30=",
        ):
            assert (await ask(query))[0] == 400, query
        call.queue.pause_all()
    async with (
        calling(tmp_path / "open") as call,
        call.session.get(f"{call.url}?{asked('aria2.addUri', [[A]])}") as answer,
    ):
        assert answer.status == 403
        assert call.queue.items == {}


async def test_there_is_no_queue_where_none_is_served(tmp_path: Path) -> None:
    async with serving(Site({"music": MemoryTree({})})) as port, aiohttp.ClientSession() as session:
        for path in ("jsonrpc", "downloads", "api/downloads"):
            async with session.get(f"http://127.0.0.1:{port}/{path}") as answer:
                assert answer.status == 404
        with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
            await session.ws_connect(f"http://127.0.0.1:{port}/jsonrpc")


async def test_below_a_prefix_it_answers_there(tmp_path: Path) -> None:
    async with calling(tmp_path, prefix="/p") as call:
        async with call.session.post(call.url, json=call.message("getVersion")) as answer:
            assert answer.status == 404
        url = f"http://127.0.0.1:{call.port}/p/jsonrpc"
        async with call.session.post(url, json=call.message("getVersion")) as answer:
            assert answer.status == 200
        async with call.session.ws_connect(url) as listening:
            await listening.send_json(call.message("getVersion"))
            assert "result" in await listening.receive_json()


# ── WebSockets ──


async def heard(listening: aiohttp.ClientWebSocketResponse) -> tuple[str, str]:
    """The next notification: its name and its GID."""
    said = await asyncio.wait_for(listening.receive_json(), 5)
    assert said.keys() == {"jsonrpc", "method", "params"}, said
    [params] = said["params"]
    return said["method"].removeprefix("aria2.onDownload"), params["gid"]


def test_who_listens_is_told_what_happens_after_the_answer_to_what_led_to_it(run: Runs, tmp_path: Path) -> None:
    async def main() -> None:
        async with calling(tmp_path, TOKEN, at_once=1) as call, await call.listen() as listening:
            await listening.send_json(call.message("addUri", [A]))
            gid = (await listening.receive_json())["result"]
            assert await heard(listening) == ("Start", gid)
            for step, told in [("pause", "Pause"), ("unpause", "Start")]:
                await listening.send_json(call.message(step, gid))
                assert (await listening.receive_json())["result"] == gid
                assert await heard(listening) == (told, gid)
            await call.runs(A)
            call.engine.of(A).fail(NotFound("gone"))
            assert await heard(listening) == ("Error", gid)
            second = await call.add(B)
            assert await heard(listening) == ("Start", second)
            await call.runs(B)
            call.engine.of(B).done()
            assert await heard(listening) == ("Complete", second)
            third = await call.add(C)
            assert await heard(listening) == ("Start", third)
            await call("remove", third)
            assert await heard(listening) == ("Stop", third)

    run(main)


async def test_all_who_listen_are_told_but_only_those_with_the_token(tmp_path: Path) -> None:
    async with calling(tmp_path, TOKEN) as call:  # noqa: SIM117
        async with await call.listen() as first, await call.listen() as second, await call.listen() as stranger:
            for listening in (first, second):
                await listening.send_json(call.message("getVersion"))
                await listening.receive_json()
            await stranger.send_json({"id": 1, "method": "aria2.getVersion", "params": []})
            assert (await stranger.receive_json())["error"]["message"] == "Unauthorized"
            gid = await call.add(A)
            assert await heard(first) == await heard(second) == ("Start", gid)
            await stranger.send_json({"id": 2, "method": "system.listMethods"})
            assert (await stranger.receive_json())["id"] == 2  # and nothing before it
    async with calling(tmp_path / "open") as call, await call.listen() as listening:
        gid = await call.add(A)
        assert await heard(listening) == ("Start", gid)


async def test_what_is_no_call_is_answered_and_the_talk_goes_on(tmp_path: Path) -> None:
    async with calling(tmp_path) as call, await call.listen() as listening:
        for text, code in [("{bad", -32700), ("{}", -32600), ('{"id":1,"method":"aria2.nope"}', 1)]:
            await listening.send_str(text)
            assert (await listening.receive_json())["error"]["code"] == code
        await listening.send_str("[]")
        assert await listening.receive_json() == []
        await listening.send_bytes(b"{}")
        assert (await listening.receive()).data == 1003


async def test_a_long_message_is_taken_and_one_that_is_too_long_ends_the_talk(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        async with await call.listen() as listening:
            text = json.dumps(call.message("getVersion"))
            await listening.send_str(text + " " * (websocket.MESSAGE - len(text)))
            assert "result" in await listening.receive_json()
            await listening.send_str(text + " " * (websocket.MESSAGE - len(text) + 1))
            assert (await listening.receive()).data == 1009
        assert await call("tellActive") == []


async def test_so_many_may_listen_and_the_next_when_one_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc_module, "SOCKETS", 2)
    async with calling(tmp_path) as call, await call.listen(), await call.listen() as second:
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await call.listen()
        await second.close()
        async with await call.listen() as third:
            await third.send_json(call.message("getVersion"))
            assert "result" in await third.receive_json()


KEY = "Sec-WebSocket-Key: " + base64.b64encode(bytes(16)).decode()
ASKS = ("Upgrade: websocket", "Connection: keep-alive, Upgrade", "Sec-WebSocket-Version: 13", KEY)


def frame(data: bytes, first: int = 0x81) -> bytes:
    """A frame as a client sends it: masked, with zeros."""
    length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    return bytes([first]) + length + bytes(4) + data


@pytest.mark.parametrize("path", ["/", "/files/music/song.mp3", "/downloads", "/jsonrpc/", "/jsonrpc%2f", "/nothing"])
async def test_no_other_path_becomes_a_websocket(tmp_path: Path, path: str) -> None:
    async with calling(tmp_path) as call, client(call.port) as c:
        c.ask(get(path, *ASKS))
        status, headers = await c.head()
        assert status in (200, 404)
        assert "upgrade" not in headers


NO_UPGRADES = [
    ("GET", [KEY, *ASKS[:2], "Sec-WebSocket-Version: 8"]),
    ("GET", ASKS[:3]),
    ("GET", [*ASKS[:3], "Sec-WebSocket-Key: AAAA"]),
    ("GET", [*ASKS[:3], "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!=="]),
    ("GET", [*ASKS[1:], "Upgrade: h2c"]),
    ("GET", [ASKS[0], *ASKS[2:]]),
    ("GET", [*ASKS, "Content-Length: 2"]),
    ("POST", ASKS),
    ("HEAD", ASKS),
]


@pytest.mark.parametrize(("method", "lines"), NO_UPGRADES)
async def test_what_asks_in_another_way_stays_http(tmp_path: Path, method: str, lines: list[str]) -> None:
    async with calling(tmp_path) as call, client(call.port) as c:
        c.ask(get("/jsonrpc", *lines, method=method))
        if "Content-Length: 2" in lines:
            c.ask(b"{}")
        status, headers = await c.head()
        assert status in (400, 403)
        assert "upgrade" not in headers
        await call.add(A)


async def test_a_request_behind_another_does_not_become_a_websocket(tmp_path: Path) -> None:
    async with calling(tmp_path) as call, client(call.port) as c:
        c.ask(get("/files/music/song.mp3"), get("/jsonrpc", *ASKS))
        assert (await c.answer())[2] == b"song"
        assert (await c.head())[0] == 403


async def test_who_talks_before_it_was_let_in_is_cut_off(tmp_path: Path) -> None:
    async with calling(tmp_path) as call, client(call.port) as c:
        c.ask(get("/jsonrpc", *ASKS) + frame(b"{}"))
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await c.head()
            await c.reader.readexactly(1)


async def test_a_websocket_can_follow_requests_on_one_connection(tmp_path: Path) -> None:
    async with calling(tmp_path) as call, client(call.port) as c:
        c.ask(get("/files/music/song.mp3"))
        assert (await c.answer())[2] == b"song"
        head = get("/jsonrpc", *ASKS)
        c.ask(head[:-1])
        await asyncio.sleep(0.01)
        c.ask(head[-1:])
        status, headers = await c.head()
        assert (status, headers["sec-websocket-accept"]) == (101, "icx+yqv66kxgm0fcwalwlflwtai=")
        half = frame(b'{"id":1,', 0x01) + frame(b"", 0x89) + frame(b'"method":"system.listNotifications"}', 0x80)
        for at in range(0, len(half), 7):
            c.ask(half[at : at + 7])
            await asyncio.sleep(0)
        assert await c.reader.readexactly(2) == b"\x8a\x00"  # the pong to a ping between two parts
        assert (await c.reader.readexactly(2))[:1] == b"\x81"


ODD_FRAMES = [
    (b"\x81\x02{}", 1002),  # no mask
    (frame(b"{}", 0xC1), 1002),  # a bit that means nothing
    (frame(b"{}", 0x83), 1002),  # an opcode that means nothing
    (frame(b"{}", 0x80), 1002),  # the rest of nothing
    (frame(b"\xff\xff"), 1007),  # no UTF-8
    (frame(b"x" * 126, 0x89), 1002),  # a ping that is too long
    (frame(b"\x00\x01", 0x88), 1002),  # a close with a code that is none
    (b"\x81\xff" + b"\xff" * 12, 1002),  # a length that is none
    (frame(b"\x03\xe8", 0x88), 1000),
    (frame(b"", 0x88), None),
    (b"GET / HTTP/1.1\r\n\r\n", 1002),
]


@pytest.mark.parametrize(("data", "code"), ODD_FRAMES)
def test_frames_that_make_no_sense_end_the_talk(run: Runs, tmp_path: Path, data: bytes, code: int | None) -> None:
    async def main() -> None:
        async with calling(tmp_path) as call:
            async with client(call.port) as c:
                c.ask(get("/jsonrpc", *ASKS))
                assert (await c.head())[0] == 101
                c.ask(data)
                said = await asyncio.wait_for(c.reader.read(), 5)
                assert said[:1] == b"\x88"
                assert said[2:4] == (code.to_bytes(2, "big") if code else b"")
            await until(lambda: call.queue.listeners == set())

    run(main)


def test_who_is_not_heard_of_is_left_and_who_answers_is_not(
    run: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "PING_SECONDS", 0.05)

    async def main() -> None:
        async with calling(tmp_path) as call, await call.listen() as listening, client(call.port) as silent:
            silent.ask(get("/jsonrpc", *ASKS))
            assert (await silent.head())[0] == 101
            reading = asyncio.ensure_future(listening.receive())  # answers pings
            assert await silent.reader.readexactly(2) == b"\x89\x00"
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(silent.reader.read(), 5) == b""
            await until(lambda: len(call.queue.listeners) == 1)
            await asyncio.sleep(0.2)
            gid = await call.add(A)
            assert gid in (await asyncio.wait_for(reading, 5)).data

    run(main)


def test_who_does_not_read_costs_little_and_is_left(run: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "PING_SECONDS", 0.3)

    async def main() -> None:
        async with calling(tmp_path, at_once=0) as call, client(call.port) as c:
            for _ in range(300):
                await call.queue.add([A], {})
            c.ask(get("/jsonrpc", *ASKS))
            assert (await c.head())[0] == 101
            asking = frame(json.dumps(call.message("tellWaiting", 0, 300)).encode() + b" " * 60_000)
            taken = 0
            with contextlib.suppress(ConnectionError):
                for _ in range(500):  # 30 MB, and 70 MB of answers, if they were all taken and made
                    c.ask(asking)
                    await asyncio.wait_for(c.writer.drain(), 5)
                    taken += 1
            assert taken < 500
            await until(lambda: call.queue.listeners == set())
            assert (await call.session.get(f"http://127.0.0.1:{call.port}/healthz")).status == 200

    run(main)


async def test_who_does_not_take_what_it_is_told_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_module, "EVENTS", 10)
    taken, sent = asyncio.Event(), list[dict[str, Any]]()
    listener = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if not sent:
            return {"type": "websocket.connect"}
        listener.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "websocket.send":
            await taken.wait()

    async with calling(tmp_path, at_once=0) as call:
        talking = asyncio.ensure_future(rpc_module.Rpc(call.queue).converse(receive, send))
        await listener.wait()
        [hear] = call.queue.listeners
        for number in range(50):
            hear("onDownloadStart", f"{number:016x}")
            await asyncio.sleep(0)
        assert len(hear.__self__.events) == 11  # type: ignore[attr-defined]
        taken.set()
        await until(lambda: sent[-1]["type"] == "websocket.close")
        assert (len(sent), sent[-1]["code"]) == (3, 1008)
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)


def test_the_end_of_the_server_is_told_and_waits_for_nobody(run: Runs, tmp_path: Path) -> None:
    async def main() -> None:
        async with contextlib.AsyncExitStack() as outer:
            session = await outer.enter_async_context(aiohttp.ClientSession())
            async with calling(tmp_path) as call:
                silent = await outer.enter_async_context(client(call.port))
                silent.ask(get("/jsonrpc", *ASKS))
                assert (await silent.head())[0] == 101
                listening = await session.ws_connect(call.url)
            assert (await listening.receive()).data == 1012
            assert await silent.reader.read(2) == b"\x88\x11"

    run(main)


@needs("openssl")
def test_it_is_spoken_under_tls_too(run: Runs, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path / "tls")
    trusting = ssl.create_default_context(cafile=str(cert))

    async def main() -> None:
        queue = Queue(Engine(), tmp_path / "downloads", tmp_path / "state" / "queue")
        await queue.begin()
        site = Site({}, downloads=Downloads(queue))
        async with serving(site, (str(cert), str(key))) as port, aiohttp.ClientSession() as session:
            url = f"https://127.0.0.1:{port}/jsonrpc"
            async with session.ws_connect(url, ssl=trusting) as listening:
                await listening.send_json({"id": 1, "method": "aria2.addUri", "params": [[A]]})
                gid = (await listening.receive_json())["result"]
                assert await heard(listening) == ("Start", gid)
        await queue.aclose()

    run(main)


async def test_a_websocket_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        async with await call.listen():
            pass
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            async with await call.listen() as listening:
                await listening.send_json(call.message("getVersion"))
                await listening.receive_json()
        await until(lambda: call.queue.listeners == set())
        await asyncio.sleep(0.05)
        assert len(os.listdir("/proc/self/fd")) <= before
