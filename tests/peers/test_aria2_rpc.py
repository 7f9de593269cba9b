"""The npm package aria2 drives our queue, and aria2c itself answers the same calls in the same shapes."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from playhead import NotFound
from tests.app.test_queue import until
from tests.app.test_rpc import Caller, calling
from tests.fakes.jobs import Engine, Job
from tests.peers.playing import clean, needs, nginx, noise
from tests.peers.servers import _free_port

PACKAGE = "aria2@4.1.2"
TOKEN = "s3cret"
NONE = "0123456789abcdef"  # a GID that no download has
INSTALL = 90  # seconds
SOON = 15.0

pytestmark = [needs("node"), needs("npm")]


@pytest.fixture(scope="session")
def modules(request: pytest.FixtureRequest) -> Path:
    """Where the package and what it needs are: installed once, and kept with pytest's cache."""
    assert request.config.cache is not None
    folder = request.config.cache.mkdir("npm")
    if not (folder / "node_modules" / "aria2").exists():
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), PACKAGE]
        try:
            done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=INSTALL, text=True)
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm did not install {PACKAGE} within {INSTALL} s")
        if done.returncode:
            pytest.skip(f"npm cannot install {PACKAGE}: {done.stderr.strip()[-200:]}")
    return folder / "node_modules"


@dataclass
class Node:
    """The package in a node of its own."""

    process: asyncio.subprocess.Process
    events: list[tuple[str, str]] = field(default_factory=list)

    async def ask(self, act: str, *all: Any) -> Any:
        """What it says to this: {"result": ...} or {"error": {...}}. Events that come before are remembered."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"do": act, "with": all}).encode() + b"\n")
        while "event" in (said := await self.line()):
            self.events.append((said["event"], said["gid"]))
        return said

    async def line(self) -> dict[str, Any]:
        assert self.process.stdout
        async with asyncio.timeout(SOON):
            said: dict[str, Any] = json.loads(await self.process.stdout.readline())
        assert "broken" not in said, said
        return said

    async def call(self, *all: Any) -> Any:
        """The result of a call, or the words of its error."""
        said = await self.ask("call", *all)
        return said["result"] if "result" in said else said["error"]["message"]

    async def told(self, event: str, gid: str) -> None:
        """Returns once this has happened."""
        while (event, gid) not in self.events:
            said = await self.line()
            self.events.append((said["event"], said["gid"]))
        self.events.remove((event, gid))


@asynccontextmanager
async def driving(modules: Path, url: str, token: str | None) -> AsyncIterator[Node]:
    """The package, connected to a server."""
    script = Path(__file__).with_name("aria2_client.js")
    process = await asyncio.create_subprocess_exec(
        "node", str(script), str(modules), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=clean(), limit=1 << 22
    )
    try:
        node, parts = Node(process), urlsplit(url)
        options = {"host": parts.hostname, "port": parts.port, "secret": token or "", "path": parts.path}
        assert await node.ask("connect", options) == {"result": None}
        yield node
    finally:
        assert process.stdin
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 5)
        except TimeoutError:
            process.kill()
            await process.wait()


# ── the package drives our queue ──

A, B, C = (f"http://h/{name}" for name in "abc")


@pytest.mark.parametrize("way", ["http", "websocket"])
@pytest.mark.parametrize("token", [None, TOKEN], ids=["open", "token"])
async def test_the_package_drives_the_queue(tmp_path: Path, modules: Path, way: str, token: str | None) -> None:
    async with calling(tmp_path, token, at_once=1) as call, driving(modules, call.url, token) as node:
        if way == "websocket":
            await node.ask("open")
        assert "version" in await node.call("getVersion")
        first = await node.call("addUri", [A], {"dir": "music", "out": "first.mp3", "header": ["A: b"]})
        await call.runs(A)
        second, third = await node.call("addUri", [B], {"pause": "true"}), await node.call("addUri", [C], {}, 0)
        assert [item["gid"] for item in await node.call("tellWaiting", 0, 9)] == [third, second]
        assert await node.call("changePosition", third, 1, "POS_SET") == 1
        call.engine.of(A).learn(size=1000, have=250, rate=50.5, connections=4, name="first.mp3")
        told = await node.call("tellStatus", first, ["status", "totalLength", "completedLength", "connections"])
        assert told == {"status": "active", "totalLength": "1000", "completedLength": "250", "connections": "4"}
        assert (await node.call("getGlobalStat"))["downloadSpeed"] == "50"
        assert await node.call("pause", first) == first
        await call.runs(C)
        assert await node.call("unpause", first) == first
        call.engine.of(C).done()
        await call.runs(A)
        assert call.engine.of(A).options["out"] == "first.mp3"
        assert await node.call("unpause", second) == second
        assert await node.call("remove", first) == first
        await call.runs(B)
        call.engine.of(B).fail(NotFound("it is gone"))
        await call.runs()
        stopped = await node.call("tellStopped", 0, 9, ["gid", "status", "errorMessage"])
        said = [("complete", third, ""), ("removed", first, ""), ("error", second, "it is gone")]
        assert [(item["status"], item["gid"], item["errorMessage"]) for item in stopped] == said
        assert await node.call("tellStatus", NONE) == f"GID {NONE} is not found"
        assert await node.call("purgeDownloadResult") == "OK"
        if way == "websocket":
            for event, gid in [("Start", third), ("Complete", third), ("Stop", first), ("Error", second)]:
                await node.told(event, gid)
            assert await node.ask("close") == {"result": None}
        assert call.queue.items == {}


@pytest.mark.parametrize("way", ["http", "websocket"])
async def test_the_package_sends_batches_and_several_calls_in_one(tmp_path: Path, modules: Path, way: str) -> None:
    async with calling(tmp_path, TOKEN) as call, driving(modules, call.url, TOKEN) as node:
        if way == "websocket":
            await node.ask("open")
        several = (await node.ask("multicall", ["getGlobalStat"], ["tellStatus", NONE], ["addUri", [A]]))["result"]
        assert (several[0][0]["numActive"], several[1]["code"], len(several[2][0])) == ("0", 1, 16)
        batch = (await node.ask("batch", ["getGlobalStat"], ["tellStatus", NONE]))["result"]
        assert batch[0]["result"]["numActive"] == "1"
        assert batch[1]["error"] == {"code": 1, "message": f"GID {NONE} is not found"}
        assert "addUri" in (await node.ask("listMethods"))["result"]
        assert "onDownloadStart" in (await node.ask("listNotifications"))["result"]


async def test_the_package_is_refused_without_the_token(tmp_path: Path, modules: Path) -> None:
    async with calling(tmp_path, TOKEN) as call, driving(modules, call.url, None) as node:
        assert await node.ask("call", "addUri", [A]) == {"error": {"code": 1, "message": "Unauthorized"}}
        assert call.queue.items == {}


# ── aria2c answers the same ──


@asynccontextmanager
async def aria2c(home: Path) -> AsyncIterator[str]:
    """aria2 itself, which downloads one at a time -> its URL."""
    (home / "downloads").mkdir(parents=True)
    port = _free_port()
    process = await asyncio.create_subprocess_exec(
        *["aria2c", "--no-conf", "--enable-rpc", f"--rpc-listen-port={port}", f"--rpc-secret={TOKEN}", "--quiet"],
        *[f"--dir={home / 'downloads'}", "-j1", "--file-allocation=none", f"--stop-with-process={os.getpid()}"],
        stdin=subprocess.DEVNULL,
        env=clean(home),
        cwd=home,
    )
    try:
        for _ in range(500):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            except OSError:
                assert process.returncode is None
                await asyncio.sleep(0.02)
        yield f"http://127.0.0.1:{port}/jsonrpc"
    finally:
        process.kill()
        await process.wait()


class Both:
    """aria2c and we, asked the same, of downloads with the same GIDs."""

    def __init__(self, theirs: str, ours: Caller) -> None:
        self.theirs, self.ours, self.added = theirs, ours, 0

    async def ask(self, method: str, *params: Any, token: str | None = TOKEN) -> list[tuple[int, Any]]:
        """Status and answer of aria2c, and of us."""
        name = method if "." in method else f"aria2.{method}"
        given = [f"token:{token}", *params] if token else list(params)
        answers = []
        for url in (self.theirs, self.ours.url):
            data = {"id": "q", "jsonrpc": "2.0", "method": name, "params": given}
            async with self.ours.session.post(url, json=data) as answer:
                answers.append((answer.status, json.loads(await answer.text())))
        return answers

    async def add(self, uri: str, options: dict[str, str] | None = None, *more: Any) -> str:
        self.added += 1
        gid = f"{self.added:02x}00000000000000"
        answers = await self.ask("addUri", [uri], {**(options or {}), "gid": gid}, *more)
        assert [said["result"] for _, said in answers] == [gid, gid]
        return gid

    async def until(self, gid: str, **known: str) -> None:
        """Returns once both tell this of a download."""
        told: list[Any] = []
        async with asyncio.timeout(SOON):
            while told != [known, known]:
                await asyncio.sleep(0.01)
                told = [said["result"] for _, said in await self.ask("tellStatus", gid, list(known))]


def shaped(value: Any) -> Any:
    """Keys and types; of texts only whether they are numbers, and of lists what is first."""
    if isinstance(value, tuple):
        return value[0], shaped(value[1])
    if isinstance(value, dict):
        return {key: shaped(one) for key, one in value.items() if key != "bitfield"}
    if isinstance(value, list):
        return [shaped(one) for one in value[:1]]
    return "number" if isinstance(value, str) and value.isdecimal() else type(value).__name__


@needs("aria2c", "nginx")
async def test_aria2c_and_we_answer_in_the_same_shapes_and_words(tmp_path: Path) -> None:
    (tmp_path / "origin").mkdir()
    for name in ("slow.bin", "slow2.bin", "slow3.bin", "slow4.bin"):
        (tmp_path / "origin" / name).write_bytes(noise(3_000_000))
    (tmp_path / "origin" / "small.bin").write_bytes(noise(5000))
    async with AsyncExitStack() as stack:
        origin = stack.enter_context(nginx(tmp_path / "nginx", tmp_path / "origin", rate="100k"))
        theirs = await stack.enter_async_context(aria2c(tmp_path / "theirs"))
        ours = await stack.enter_async_context(calling(tmp_path / "ours", TOKEN, at_once=1))
        await compare(Both(theirs, ours), origin.url, ours.engine)


async def compare(both: Both, url: str, engine: Engine) -> None:
    slow = [f"{url}slow.bin", f"{url}slow2.bin", f"{url}slow3.bin", f"{url}slow4.bin"]

    async def alike(*call: Any, token: str | None = TOKEN, exactly: bool = False) -> None:
        theirs, ours = await both.ask(*call, token=token)
        if not exactly and "error" not in theirs[1]:
            theirs, ours = shaped(theirs), shaped(ours)
        assert theirs == ours, call

    async def begun(uri: str) -> Job:
        await until(lambda: engine.running() == [uri])
        return engine.of(uri)

    complete = await both.add(f"{url}small.bin", {"out": "o.bin"})
    (await begun(f"{url}small.bin")).learn(size=5000, name="o.bin").done()
    await both.until(complete, status="complete")
    failed = await both.add(f"{url}missing.bin")
    (await begun(f"{url}missing.bin")).fail(NotFound("Resource not found"))
    await both.until(failed, status="error")

    active = await both.add(slow[0])
    (await begun(slow[0])).learn(size=3_000_000, have=5, rate=5.0, connections=1, name="slow.bin")
    waiting = [await both.add(uri) for uri in slow[1:]]
    paused = await both.add(f"{url}small.bin", {"pause": "true"}, 1)
    await both.until(active, totalLength="3000000")

    for gid in (active, waiting[0], paused, complete, failed):
        for method in ("tellStatus", "getFiles", "getUris", "getServers", "getPeers"):
            await alike(method, gid)
        await alike("tellStatus", gid, ["gid", "status", "errorCode", "nothing"], exactly=True)
        await alike("tellStatus", gid[:2], ["gid"], exactly=True)
        for method in ("unpause", "removeDownloadResult") if gid in (active, waiting[0]) else ("pause",):
            await alike(method, gid)
    for gid in (complete, failed):
        for method in ("remove", "unpause"):
            await alike(method, gid)
        await alike("changePosition", gid, 0, "POS_SET")
    await alike("changePosition", active, 0, "POS_SET")
    await alike("tellStatus", "0", ["gid"])

    for call in (("getGlobalStat",), ("getVersion",), ("getSessionInfo",), ("tellActive",), ("tellStopped", 0, 9)):
        await alike(*call)
    await alike("tellActive", ["gid"], exactly=True)
    positions = [(0, "POS_END"), (-1, "POS_END"), (1, "POS_CUR"), (-2, "POS_CUR"), (99, "POS_SET"), (0, "POS_X")]
    for position, how in positions:
        await alike("changePosition", waiting[0], position, how, exactly=True)
        await alike("tellWaiting", 0, 9, ["gid", "status"], exactly=True)
    for method in ("tellWaiting", "tellStopped"):
        for offset, count in [(0, 2), (1, 9), (-1, 2), (-2, 2), (-9, 2), (9, 2), (1, 0), (0, -1)]:
            await alike(method, offset, count, ["gid"], exactly=True)

    gid = NONE
    odd: list[tuple[Any, ...]] = [("nope",), ("tellStatus",), ("tellStatus", 5), ("tellStatus", gid)]
    odd += [("tellStatus", "zz"), ("tellStatus", gid + "0"), ("tellActive", 5), ("tellWaiting",), ("addUri",)]
    odd += [("tellWaiting", "0", 1), ("addUri", "http://h/"), ("addUri", []), ("addUri", slow, [])]
    odd += [("addUri", slow, {}, -1), ("pause", gid), ("remove", gid), ("getOption", gid), ("changeOption", gid, {})]
    odd += [("removeDownloadResult", gid), ("changeGlobalOption", {"max-concurrent-downloads": "1"})]
    odd += [("system.multicall",), ("system.nope",)]
    for call in odd:
        await alike(*call)
    token = f"token:{TOKEN}"
    calls: list[Any] = [{"methodName": "aria2.getGlobalStat", "params": [token]}, {"methodName": "x"}, 3, {}]
    calls += [{"methodName": "system.multicall", "params": []}, {"methodName": "aria2.pause", "params": [token, gid]}]
    await alike("system.multicall", calls, token=None)
    await alike("getVersion", token=None)

    await alike("remove", waiting[1], exactly=True)
    await alike("tellStatus", waiting[1])
    await alike("remove", active, exactly=True)
    await both.until(active, status="removed")
    await alike("tellStatus", active)
    await alike("removeDownloadResult", active, exactly=True)
    await alike("tellStatus", active)
    for method in ("pauseAll", "unpauseAll", "purgeDownloadResult"):
        await alike(method, exactly=True)
    await alike("tellStopped", 0, 9, exactly=True)
