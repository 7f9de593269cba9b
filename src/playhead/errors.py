"""The few ways to fail: whose fault it is, and whether trying again may help.

Every error that crosses a module's border is one of these. Foreign errors (OSError, aiohttp's, ...)
are translated once, where they enter, by a table. Each kind carries the answer for every kind of
asker: an HTTP status, an errno for mounts, an exit code for the command line.
"""

import errno as _errno
from typing import ClassVar


class Failure(Exception):
    """Base of all. The text is one line for a person; it names the thing and holds no secret.

    `after` is how many seconds to wait before trying again, where whoever refused us has said so.
    """

    status: ClassVar[int] = 500
    errno: ClassVar[int] = _errno.EIO
    code: ClassVar[int] = 1
    again: ClassVar[bool] = False  # may the same request succeed later?

    def __init__(self, message: str, *, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after

    @property
    def told(self) -> str:
        """The text with what was added on its way up (`add_note`)."""
        return "; ".join([str(self), *getattr(self, "__notes__", ())])


class NotFound(Failure):
    """There is no such file, folder or tree."""

    status, errno, code = 404, _errno.ENOENT, 3


class Unknown(Failure):
    """We do not know who is asking: credentials are missing or wrong."""

    status, errno, code = 401, _errno.EACCES, 4


class Denied(Failure):
    """We (or the origin) know who is asking, and refuse."""

    status, errno, code = 403, _errno.EACCES, 4


class Malformed(Failure):
    """The question makes no sense: a bad path, URL, option or configuration."""

    status, errno, code = 400, _errno.EINVAL, 2


class Changed(Failure):
    """The file is no longer the one that was opened; its bytes must not be mixed."""

    status, errno, code = 409, _errno.ESTALE, 5


class Damaged(Failure):
    """The origin answered with something that cannot be the bytes asked for."""

    status, errno, code = 502, _errno.EIO, 6


class Full(Failure):
    """There is no room left on the disk."""

    status, errno, code = 507, _errno.ENOSPC, 8


class Unsized(Failure):
    """The origin does not say how long this is: it can only be read from start to end (Tree.flow)."""

    status, errno, code = 501, _errno.EOPNOTSUPP, 6


class Busy(Failure):
    """Too many requests; the same one may succeed later."""

    status, errno, code, again = 429, _errno.EAGAIN, 7, True


class Unavailable(Failure):
    """Cannot be reached now; the same request may succeed later."""

    status, errno, code, again = 503, _errno.EAGAIN, 7, True
