"""Playhead with downloads that do what their addresses say, as a process of its own that prints its URL.

    python -m tests.fakes.downloading FOLDER [TOKEN ORIGIN]

.../fast/NAME is whole at once, .../half/NAME stays at its half, .../fails/TEXT fails with that text.
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from playhead import NotFound
from playhead.app.auth import Gate
from playhead.app.downloads import Downloads
from playhead.app.queue import Queue
from playhead.app.site import Site
from playhead.doors import server
from playhead.origins.local import LocalTree

SIZE = 40_000


class Job:
    def __init__(self, uris: Sequence[str], options: Mapping[str, str]) -> None:
        *_, self.kind, last = uris[0].split("/")
        self.text, self.options = unquote(last), options
        self.size: int | None = None
        self.have, self.rate, self.connections = 0, 0.0, 0
        self.name = ""
        self.path: Path | None = None

    async def run(self) -> None:
        if self.kind == "fails":
            raise NotFound(self.text)
        self.name, self.size = self.options.get("out", self.text), SIZE
        while self.kind == "half":
            self.have, self.rate, self.connections = min(self.have + SIZE // 10, SIZE // 2), 2000.0, 3
            await asyncio.sleep(0.05)
        folder = Path(self.options["dir"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / self.name).write_bytes(b"x" * SIZE)
        self.have = SIZE


async def main(home: Path, token: str | None = None, *cors: str) -> None:
    (home / "downloads").mkdir(parents=True, exist_ok=True)
    queue = Queue(Job, home / "downloads", home / "state" / "queue")
    await queue.begin()
    tree = LocalTree(home / "downloads")
    site = Site({"downloads": tree}, Gate(cors=cors), downloads=Downloads(queue, token, tree="downloads"))
    sock = server.listen("127.0.0.1", 0)
    print(f"http://127.0.0.1:{sock.getsockname()[1]}/", flush=True)
    await server.serve(site, sock)
    await queue.aclose()
    await tree.aclose()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
