"""A folder as a zip, made by zipstream-ng behind uvicorn: `python -m bench.zipping PORT FOLDER`.

/ is empty, and all else the zip, with its length. It is made in a thread, in pieces of 256 KiB.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn
import zipstream.ng
from zipstream import ZipStream

PIECE = 256 << 10
Message = MutableMapping[str, Any]


def app(folder: str) -> Callable[..., Awaitable[None]]:
    async def answer(scope: Message, receive: object, send: Callable[[Message], Awaitable[None]]) -> None:
        asked = scope["path"] != "/"
        made = await asyncio.to_thread(ZipStream.from_path, folder, sized=True) if asked else b""
        length = [(b"content-length", str(len(made)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        if asked and scope["method"] == "GET":
            pieces = iter(made)
            while piece := await asyncio.to_thread(next, pieces, b""):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return answer


def main() -> None:
    zipstream.ng.READ_BUFFER = PIECE
    uvicorn.run(app(sys.argv[2]), port=int(sys.argv[1]), lifespan="off", log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
