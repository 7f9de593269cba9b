"""The two little languages of the Drive API: `q`, which files are meant, and `fields`, what is told of them."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .drive_faults import Refusal

Meta = dict[str, Any]
Shape = dict[str, Any]  # name -> the shape below it; None: whatever is below
Mask = dict[str, Any]  # name -> the mask below it; None: all of it


def names(text: str) -> Shape:
    return dict.fromkeys(text.split())


USER = names("kind displayName photoLink me permissionId emailAddress")
FILE: Shape = names(
    "appProperties clientEncryptionDetails contentHints contentRestrictions copyRequiresWriterPermission createdTime"
    " description downloadRestrictions driveId explicitlyTrashed exportLinks fileExtension folderColorRgb"
    " fullFileExtension hasAugmentedPermissions hasThumbnail headRevisionId iconLink id imageMediaMetadata"
    " inheritedPermissionsDisabled isAppAuthorized kind labelInfo linkShareMetadata md5Checksum mimeType modifiedByMe"
    " modifiedByMeTime modifiedTime name originalFilename ownedByMe parents permissionIds permissions properties"
    " quotaBytesUsed resourceKey sha1Checksum sha256Checksum shared sharedWithMeTime size spaces starred teamDriveId"
    " thumbnailLink thumbnailVersion trashed trashedTime version videoMediaMetadata viewedByMe viewedByMeTime"
    " viewersCanCopyContent webContentLink webViewLink writersCanShare"
) | {
    "shortcutDetails": names("targetId targetMimeType targetResourceKey"),
    "capabilities": names(
        "canAddChildren canChangeViewersCanCopyContent canComment canCopy canDelete canDownload canEdit"
        " canListChildren canModifyContent canMoveItemWithinDrive canReadRevisions canRemoveChildren canRename"
        " canShare canTrash canUntrash"
    ),
    "lastModifyingUser": USER,
    "owners": USER,
    "sharingUser": USER,
    "trashingUser": USER,
}
DRIVE = names("kind id name createdTime hidden capabilities restrictions colorRgb themeId orgUnitId")
FILE_LIST: Shape = names("kind nextPageToken incompleteSearch") | {"files": FILE}
DRIVE_LIST: Shape = names("kind nextPageToken") | {"drives": DRIVE}
CHANGE: Shape = names("kind type changeType time removed fileId driveId teamDriveId") | {"file": FILE, "drive": DRIVE}
CHANGE_LIST: Shape = names("kind nextPageToken newStartPageToken") | {"changes": CHANGE}
ABOUT: Shape = names(
    "kind storageQuota importFormats exportFormats maxImportSizes maxUploadSize appInstalled canCreateDrives"
    " canCreateTeamDrives folderColorPalette driveThemes teamDriveThemes"
) | {"user": USER}
START: Shape = names("kind startPageToken")
IDS: Shape = names("kind space ids")

BRIEF = "kind,id,name,mimeType,resourceKey"  # what is told of a file to those who ask for nothing

# ── fields ──


def masked(thing: Meta, fields: str, shape: Shape) -> Meta:
    """`thing` as `fields` wants it; 400 for a field that there is not."""
    cut: Meta = _kept(thing, mask(fields, shape))
    return cut


def mask(fields: str, shape: Shape) -> Mask:
    words = re.findall(r"[\w*]+|[,()/]|\S", fields)
    found = _fields(words, shape)
    if words:
        raise _no_field(words[0])
    return found


def _fields(words: list[str], shape: Shape | None) -> Mask:
    found: Mask = {}
    while True:
        name, below = _field(words, shape)
        old = found.get(name, {})
        found[name] = None if below is None or old is None else {**old, **below}
        if not words or words[0] != ",":
            return found
        words.pop(0)


def _field(words: list[str], shape: Shape | None) -> tuple[str, Mask | None]:
    name = words.pop(0) if words else ""
    if not re.fullmatch(r"\w+|\*", name) or (name != "*" and shape is not None and name not in shape):
        raise _no_field(name)
    under = None if shape is None or name == "*" else shape[name]
    if words and words[0] == "/":
        words.pop(0)
        return name, dict([_field(words, under)])
    if words and words[0] == "(":
        words.pop(0)
        below = _fields(words, under)
        if not words or words.pop(0) != ")":
            raise _no_field(name)
        return name, below
    return name, None


def _no_field(name: str) -> Refusal:
    return Refusal("invalidParameter", f"Invalid field selection {name}")


def _kept(thing: Any, wanted: Mask | None) -> Any:
    if wanted is None:
        return thing
    if isinstance(thing, list):
        return [_kept(one, wanted) for one in thing]
    if not isinstance(thing, dict):
        return thing
    if "*" in wanted:
        return {name: _kept(value, wanted.get(name, wanted["*"])) for name, value in thing.items()}
    return {name: _kept(thing[name], below) for name, below in wanted.items() if name in thing}


# ── q ──


@dataclass(frozen=True, slots=True)
class Query:
    """Which files are meant. `parents`: all that are lie in one of these folders; None: they may lie anywhere."""

    test: Callable[[Meta], bool]
    parents: frozenset[str] | None = None


_WORDS = re.compile(r"\s*('(?:\\.|[^'\\])*'|[()]|!=|<=|>=|[<>=]|[\w.]+)", re.S)
_TEXTS = {"name", "mimeType", "modifiedTime", "createdTime", "viewedByMeTime", "sharedWithMeTime"}
_FLAGS = {"trashed", "starred"}


def parsed(q: str, root: str) -> Query:
    """The files that `q` means; 400 where it is not of the language."""
    words, at = [], 0
    text = q.rstrip()
    while at < len(text):
        if not (match := _WORDS.match(text, at)):
            raise _no_query()
        words.append(match[1])
        at = match.end()
    if not words:
        return Query(lambda meta: True)
    query = _any(words, root)
    if words:
        raise _no_query()
    return query


def _any(words: list[str], root: str) -> Query:
    """`and` and `or` bind alike: Google reads them from left to right."""
    one = _term(words, root)
    while words and words[0] in ("and", "or"):
        one = (_both if words.pop(0) == "and" else _either)(one, _term(words, root))
    return one


def _either(one: Query, other: Query) -> Query:
    parents = None if one.parents is None or other.parents is None else one.parents | other.parents
    return Query(lambda meta: one.test(meta) or other.test(meta), parents)


def _both(one: Query, other: Query) -> Query:
    parents = other.parents if one.parents is None else one.parents
    return Query(lambda meta: one.test(meta) and other.test(meta), parents)


def _term(words: list[str], root: str) -> Query:
    word = _next(words)
    if word == "not":
        other = _term(words, root)
        return Query(lambda meta: not other.test(meta))
    if word == "(":
        inside = _any(words, root)
        if _next(words) != ")":
            raise _no_query()
        return inside
    if word.startswith("'"):
        return _in(_text(word), words, root)
    if word == "sharedWithMe":
        return _shared(words)
    return _compared(word, _next(words), _next(words))


def _shared(words: list[str]) -> Query:
    wanted = True
    if words and words[0] in ("=", "!="):
        wanted = (words.pop(0) == "=") == (_next(words) == "true")
    return Query(lambda meta: ("sharedWithMeTime" in meta) == wanted)


def _in(value: str, words: list[str], root: str) -> Query:
    if _next(words) != "in":
        raise _no_query()
    where = _next(words)
    if where == "parents":
        folder = root if value == "root" else value
        return Query(lambda meta: folder in meta.get("parents", ()), frozenset([folder]))
    if where in ("owners", "writers", "readers"):
        return Query(lambda meta: meta.get("ownedByMe", False) if value == "me" else False)
    raise _no_query()


def _compared(name: str, operator: str, word: str) -> Query:
    if name in _FLAGS and operator in ("=", "!=") and word in ("true", "false"):
        wanted = (operator == "=") == (word == "true")
        return Query(lambda meta: bool(meta.get(name)) == wanted)
    if name not in _TEXTS or not word.startswith("'"):
        raise _no_query()
    value = _text(word)
    if operator == "contains" and name == "name":
        return Query(lambda meta: any(part.startswith(value.casefold()) for part in _parts(meta["name"])))
    tests: dict[str, Callable[[str, str], bool]] = {
        "=": lambda a, b: a.casefold() == b.casefold(),  # as Google compares names
        "!=": lambda a, b: a.casefold() != b.casefold(),
        "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b,
        "contains": lambda a, b: a.startswith(b),
    }
    if operator not in tests:
        raise _no_query()
    test = tests[operator]
    return Query(lambda meta: test(meta.get(name, ""), value))


def _parts(name: str) -> list[str]:
    return [name.casefold(), *re.split(r"\W+", name.casefold())]


def _next(words: list[str]) -> str:
    if not words:
        raise _no_query()
    return words.pop(0)


def _text(word: str) -> str:
    return re.sub(r"\\(.)", r"\1", word[1:-1], flags=re.S)


def _no_query() -> Refusal:
    return Refusal("invalid", "Invalid Value", "parameter:q")
