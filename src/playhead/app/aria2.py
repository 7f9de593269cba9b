"""aria2's methods over the queue of downloads: parameters -> results of its shapes, to the letter.

Numbers are texts, `files` lists one file with its addresses, and the words of errors are those that clients look for.
A GID may be shortened as long as no other begins so. What aria2 has and this has not (torrents, metalinks, limits of
speed) is no method, or an error that says so.
"""

import os
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

from playhead.app.items import STOPPED, Item, State
from playhead.app.queue import Queue
from playhead.errors import Malformed, NotFound
from playhead.version import __version__

TOLD = 11_000  # downloads that one message is told of
AT_ONCE = 64  # downloads that may run at a time
PIECES = 2_048  # that a file is shown as, at most


@dataclass(slots=True)
class Told:
    """How many downloads one message has been told of."""

    count: int = 0

    def add(self, count: int) -> None:
        self.count += count
        if self.count > TOLD:
            raise Malformed(f"a message can be told of at most {TOLD:,} downloads")


@dataclass(frozen=True, slots=True)
class Params:
    """The parameters of a call, by position. Raises Malformed where one is missing or of another type."""

    given: Sequence[Any]

    def text(self, at: int) -> str:
        return str(self._one(at, str))

    def number(self, at: int, least: int | None = None) -> int:
        value = int(self._one(at, int))
        if not -1 << 62 < value < 1 << 62:
            raise Malformed(f"The parameter at {at} has wrong type.")
        if least is not None and value < least:
            what = f"the value must be greater than or equal to {least}."
            raise Malformed(f"The integer parameter at {at} has invalid value: {what}")
        return value

    def list(self, at: int) -> list[Any]:
        found: list[Any] = self._one(at, list)
        return found

    def options(self, at: int) -> dict[str, Any]:
        found: dict[str, Any] = self._one(at, dict)
        return found

    def keys(self, at: int) -> frozenset[str] | None:
        """Those of a status that are wanted; None: all."""
        keys = self.list(at) if self.has(at) else []
        return frozenset(key for key in keys if isinstance(key, str)) if keys else None

    def has(self, at: int) -> bool:
        return len(self.given) > at

    def _one(self, at: int, kind: type) -> Any:
        if not self.has(at):
            raise Malformed(f"The parameter at {at} is required but missing.")
        if type(self.given[at]) is not kind:
            raise Malformed(f"The parameter at {at} has wrong type.")
        return self.given[at]


Method = Callable[[Params, Told], Awaitable[Any]]


class Methods:
    """What can be called, by name."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.session = token_hex(20)
        self.named: dict[str, Method] = {
            "aria2.addUri": self._add,
            "aria2.remove": self._remove,
            "aria2.forceRemove": self._remove,
            "aria2.pause": self._pause,
            "aria2.forcePause": self._pause,
            "aria2.pauseAll": self._pause_all,
            "aria2.forcePauseAll": self._pause_all,
            "aria2.unpause": self._unpause,
            "aria2.unpauseAll": self._unpause_all,
            "aria2.tellStatus": self._tell_status,
            "aria2.tellActive": self._tell_active,
            "aria2.tellWaiting": self._tell_waiting,
            "aria2.tellStopped": self._tell_stopped,
            "aria2.getUris": self._uris,
            "aria2.getFiles": self._files,
            "aria2.getPeers": self._peers,
            "aria2.getServers": self._servers,
            "aria2.changePosition": self._position,
            "aria2.getOption": self._option,
            "aria2.changeOption": self._change_option,
            "aria2.getGlobalOption": self._global_option,
            "aria2.changeGlobalOption": self._change_global_option,
            "aria2.getGlobalStat": self._stat,
            "aria2.purgeDownloadResult": self._purge,
            "aria2.removeDownloadResult": self._forget,
            "aria2.getVersion": self._version,
            "aria2.getSessionInfo": self._session,
            "aria2.saveSession": self._save,
        }

    def _item(self, params: Params) -> Item:
        """The download that the first parameter names."""
        text = params.text(0)
        if not re.fullmatch("[0-9a-fA-F]{1,16}", text):
            raise Malformed(f"Invalid GID {text[:100]}")
        if text in self.queue.items:
            return self.queue.items[text]
        found = [gid for gid in self.queue.items if gid.startswith(text.lower())]
        if len(found) > 1:
            raise Malformed(f"GID {text} is not unique")
        return self.queue.find(found[0] if found else text)

    async def _add(self, params: Params, told: Told) -> str:
        uris = params.list(0)
        options = params.options(1) if params.has(1) else {}
        position = params.number(2) if params.has(2) else None
        if position is not None and position < 0:
            raise Malformed("Position must be greater than or equal to 0.")
        return (await self.queue.add(uris, options, position)).gid

    async def _remove(self, params: Params, told: Told) -> str:
        item = self._item(params)
        self.queue.remove(item)
        return item.gid

    async def _pause(self, params: Params, told: Told) -> str:
        item = self._item(params)
        self.queue.pause(item)
        return item.gid

    async def _unpause(self, params: Params, told: Told) -> str:
        item = self._item(params)
        self.queue.unpause(item)
        return item.gid

    async def _pause_all(self, params: Params, told: Told) -> str:
        self.queue.pause_all()
        return "OK"

    async def _unpause_all(self, params: Params, told: Told) -> str:
        self.queue.unpause_all()
        return "OK"

    async def _forget(self, params: Params, told: Told) -> str:
        self.queue.forget(self._item(params))
        return "OK"

    async def _purge(self, params: Params, told: Told) -> str:
        self.queue.purge()
        return "OK"

    async def _position(self, params: Params, told: Told) -> int:
        return self.queue.move(self._item(params), params.number(1), params.text(2))

    async def _tell_status(self, params: Params, told: Told) -> dict[str, Any]:
        return self._told([self._item(params)], params.keys(1), told)[0]

    async def _tell_active(self, params: Params, told: Told) -> list[dict[str, Any]]:
        return self._told(list(self.queue.active.values()), params.keys(0), told)

    async def _tell_waiting(self, params: Params, told: Told) -> list[dict[str, Any]]:
        return self._some(self.queue.line, params, told)

    async def _tell_stopped(self, params: Params, told: Told) -> list[dict[str, Any]]:
        return self._some(list(self.queue.stopped.values()), params, told)

    def _some(self, items: list[Item], params: Params, told: Told) -> list[dict[str, Any]]:
        """(offset, number, keys): from the offset on; where it is negative, from there back to the beginning."""
        offset, count, keys = params.number(0), params.number(1, least=0), params.keys(2)
        if offset < 0:
            items, offset = items[::-1], -offset - 1
        return self._told(items[offset : offset + count], keys, told)

    def _told(self, items: list[Item], keys: frozenset[str] | None, told: Told) -> list[dict[str, Any]]:
        told.add(len(items))
        wanted = [(key, tell) for key, tell in _STATUS.items() if keys is None or key in keys]
        every = [[(key, tell(self.queue.look(item), self.queue)) for key, tell in wanted] for item in items]
        return [{key: value for key, value in pairs if value is not None} for pairs in every]

    async def _uris(self, params: Params, told: Told) -> list[dict[str, str]]:
        item = self._item(params)
        if item.state in STOPPED:
            raise NotFound(f"No URI data is available for GID#{item.gid}")
        return _uris(item)

    async def _files(self, params: Params, told: Told) -> list[dict[str, Any]]:
        return _files(self.queue.look(self._item(params)), self.queue)

    async def _peers(self, params: Params, told: Told) -> list[Any]:
        item = self._item(params)
        if item.state in STOPPED:
            raise NotFound(f"No peer data is available for GID#{item.gid}")
        return []

    async def _servers(self, params: Params, told: Told) -> list[dict[str, Any]]:
        item = self._item(params)
        if item.state is not State.ACTIVE:
            raise NotFound(f"No active download for GID#{item.gid}")
        uri = item.uris[0]
        return [{"index": "1", "servers": [{"uri": uri, "currentUri": uri, "downloadSpeed": _rate(item)}]}]

    async def _option(self, params: Params, told: Told) -> dict[str, str]:
        item = self._item(params)
        return {**item.options, "dir": _dir(item, self.queue)}

    async def _change_option(self, params: Params, told: Told) -> str:
        await self.queue.change(self._item(params), params.options(1))
        return "OK"

    async def _global_option(self, params: Params, told: Told) -> dict[str, str]:
        return {"dir": str(self.queue.folder), "max-concurrent-downloads": str(self.queue.at_once)}

    async def _change_global_option(self, params: Params, told: Told) -> str:
        options = params.options(0)
        known = "max-concurrent-downloads"
        if others := options.keys() - {known}:
            raise Malformed(f"option {min(others)[:100]} cannot be changed while this runs; {known} can")
        if known in options:
            text = str(options[known])
            if not re.fullmatch("[1-9][0-9]?", text) or int(text) > AT_ONCE:
                raise Malformed(f"option {known}: a number from 1 to {AT_ONCE} is wanted")
            self.queue.limit(int(text))
        return "OK"

    async def _stat(self, params: Params, told: Told) -> dict[str, str]:
        queue = self.queue
        numbers = {
            "downloadSpeed": int(sum(item.rate for item in queue.active.values())),
            "numActive": len(queue.active),
            "numStopped": len(queue.stopped),
            "numStoppedTotal": queue.stopped_total,
            "numWaiting": len(queue.line),
            "uploadSpeed": 0,
        }
        return {key: str(number) for key, number in numbers.items()}

    async def _version(self, params: Params, told: Told) -> dict[str, Any]:
        return {"enabledFeatures": ["HTTPS", "Message Digest"], "version": __version__}

    async def _session(self, params: Params, told: Told) -> dict[str, str]:
        return {"sessionId": self.session}

    async def _save(self, params: Params, told: Told) -> str:
        await self.queue.saved()
        return "OK"


# ── shapes ──


def _dir(item: Item, queue: Queue) -> str:
    return os.path.join(queue.folder, item.place).rstrip("/") or "/"


def _rate(item: Item) -> str:
    return str(int(item.rate))


def _piece(item: Item) -> int:
    """Bytes of a piece: as many times 1 MiB as keep the pieces few."""
    piece = 1 << 20
    while (item.size or 0) > piece * PIECES:
        piece *= 2
    return piece


def _pieces(item: Item) -> int:
    return -(-(item.size or 0) // _piece(item))


def _bitfield(item: Item) -> str | None:
    """Which pieces are here: of a whole file all. Of a part it is not told, for the jobs keep no pieces."""
    if item.state is not State.COMPLETE or not item.size:
        return None
    bits = "1" * _pieces(item)
    bits += "0" * (-len(bits) % 8)
    return f"{int(bits, 2):0{len(bits) // 4}x}"


def _uris(item: Item) -> list[dict[str, str]]:
    used = item.state not in (State.WAITING, State.PAUSED)
    return [{"status": "used" if used and not at else "waiting", "uri": uri} for at, uri in enumerate(item.uris)]


def _files(item: Item, queue: Queue) -> list[dict[str, Any]]:
    path = os.path.join(queue.folder, item.path) if item.path else ""
    length = {"completedLength": str(item.have), "index": "1", "length": str(item.size or 0)}
    return [{**length, "path": path, "selected": "true", "uris": _uris(item)}]


def _stopped(item: Item, text: str) -> str | None:
    return text if item.state in STOPPED else None


_STATUS: dict[str, Callable[[Item, Queue], Any]] = {
    "bitfield": lambda item, queue: _bitfield(item),
    "completedLength": lambda item, queue: str(item.have),
    "connections": lambda item, queue: str(item.connections),
    "dir": _dir,
    "downloadSpeed": lambda item, queue: _rate(item),
    "errorCode": lambda item, queue: _stopped(item, str(item.code)),
    "errorMessage": lambda item, queue: _stopped(item, item.error),
    "files": _files,
    "gid": lambda item, queue: item.gid,
    "numPieces": lambda item, queue: str(_pieces(item)),
    "pieceLength": lambda item, queue: str(_piece(item)),
    "status": lambda item, queue: item.state.value,
    "totalLength": lambda item, queue: str(item.size or 0),
    "uploadLength": lambda item, queue: "0",
    "uploadSpeed": lambda item, queue: "0",
}
