"""obstore's errors as ours. Their texts hold URLs, and what a server said: none of it is passed on.

What a server answered is told by status and code only in those texts; so they are looked for there.
"""

import re
from types import TracebackType

from playhead.errors import Changed, Damaged, Denied, Failure, NotFound, Unavailable
from playhead.origins.buckets.bucket import Unsupported, refused

_STATUS = re.compile(r"status code: (\d{3})\b")
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,60})</Code>")
_SEE = "see `access_key`, `secret_key` and `token`"
_KINDS: dict[str, tuple[type[Failure], str]] = {
    "FileNotFoundError": (NotFound, "there is no such object"),
    "NotFoundError": (NotFound, "there is no such object"),
    "PreconditionError": (Changed, "it is not the version that was meant"),
    "AlreadyExistsError": (Changed, "it is not the version that was meant"),
    "PermissionDeniedError": (
        Denied,
        f"the service refuses it to these credentials; {_SEE}",
    ),
    "UnauthenticatedError": (Denied, f"the service wants other credentials; {_SEE}"),
    "NotSupportedError": (Unsupported, "the service cannot do this"),
    "NotImplementedError": (Unsupported, "the service cannot do this"),
    "InvalidPathError": (Damaged, "the folder holds an object whose name obstore refuses to list"),
    "ValueError": (NotFound, "it is not a name that obstore takes"),
    "TimeoutError": (Unavailable, "the service was silent for too long"),
}
_TEXTS: tuple[tuple[str, type[Failure], str], ...] = (
    (r"certificate|UnknownIssuer", Denied, "its certificate is not trusted; see `ca`"),
    (
        r"169\.254\.|metadata\.google|[Cc]redential",
        Denied,
        f"there are no credentials for it; {_SEE}",
    ),
    (r"TimedOut|timed out|kind: Timeout", Unavailable, "the service was silent for too long"),
    (r"kind: Connect", Unavailable, "the service cannot be reached"),
    (r"MissingEtag|NoHeader|ContentRange|UnexpectedRange", Damaged, "the service's answer makes no sense"),
)


class Unsatisfied(Damaged):
    """The service refuses a range, or gives it as if it were no range: the object may be empty."""


class translated:
    """obstore's errors as ours, about what is called `name`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, Exception) and not isinstance(error, Failure):
            raise failure(self.name, error) from None  # its text holds what is not to be told


def failure(name: str, error: Exception) -> Failure:
    """What an error of obstore means for what is called `name`."""
    text = str(error)
    status, code = _STATUS.search(text), _CODE.search(text)
    if (status and status[1] == "416") or (not status and re.search("NotPartial|StartTooLarge", text)):
        return Unsatisfied(f"{name}: the service refuses a range that is in the object")
    if status:
        return refused(name, int(status[1]), code[1] if code else "")
    kind = _KINDS.get(type(error).__name__) or next(
        ((kind, what) for pattern, kind, what in _TEXTS if re.search(pattern, text)),
        (Unavailable, "the service broke the connection off"),
    )
    return kind[0](f"{name}: {kind[1]}")


def outcome(error: BaseException) -> str:
    """What a request is counted as."""
    return str(error.status) if isinstance(error, Failure) and not error.again else "failed"
