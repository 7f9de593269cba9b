"""path -> Hints: what the names of a file and of its folders say, for files that say nothing themselves. Pure.

"Artist/Album/01 - Title.ext" is how nearly everybody files music. A number is believed where it stands before a title,
folders of discs ("CD2") are looked through, and a year in front of or behind an album's name is its date. A name that
fits nothing is a title, and no more is made up.
"""

import re
from dataclasses import dataclass

from playhead.catalogue.fields import line

_DISC = re.compile(
    r"(?:cd|disc|disk|dvd|disque|диск|vol(?:ume)?\.?)\s*[-_. ]?\s*(\d{1,2})(?:\s*[-–:]\s*(?P<title>.+))?", re.IGNORECASE
)
_IN_ALBUM = re.compile(r"(?P<album>.+?)\s*[-–,]?\s*[(\[]?(?:cd|disc|disk)\s*(?P<disc>\d{1,2})[)\]]?", re.IGNORECASE)
_NUMBER = re.compile(
    r"(?:(?P<disc>\d{1,2})[-.](?P<inner>\d{2,3})|(?P<track>\d{1,3})|(?P<side>[A-H])(?P<cut>\d{1,2}))"
    r"(?:\s*[-–.)_:]+\s*|\s+|(?=[^\W\d_])(?<=\d\d))(?P<rest>\S.*)"
)
_BARE = re.compile(r"(?:track|titel|piste|spur|audiotrack)?\s*[-_ ]?(\d{1,3})", re.IGNORECASE)
_YEAR = re.compile(
    r"(?:[(\[]?(?P<before>(?:19|20)\d\d)[)\]]?\s*[-–. ]\s*)?(?P<name>.+?)(?:\s*[(\[](?P<behind>(?:19|20)\d\d)[)\]])?"
)
_APART = re.compile(r"\s+[-–—]\s+")
_ANYBODY = {
    "music",
    "musik",
    "musique",
    "audio",
    "mp3",
    "flac",
    "ogg",
    "media",
    "downloads",
    "various",
    "unknown artist",
}
_ANYBODY |= {"my music", "songs", "tracks", "unsorted", "unknown album", "incoming", "new", "misc", "compilations"}
_SEVERAL = {"various artists", "va", "various", "v.a.", "compilations", "soundtracks", "ost", "verschiedene"}


@dataclass(frozen=True, slots=True)
class Hints:
    """What a path suggests. `several`: the folder says that the album is by many."""

    title: str
    artist: str | None = None
    album: str | None = None
    album_artist: str | None = None
    track: int | None = None
    disc: int | None = None
    disc_title: str | None = None
    date: str | None = None
    several: bool = False


def inferred(path: str) -> Hints:
    """What the path of a file suggests, of which the tree's root is no part."""
    *folders, name = [segment for segment in path.split("/") if segment] or [""]
    stem = name.rpartition(".")[0] or name
    disc, disc_title, folders = _disc(folders)
    album, date, inner = _album(folders[-1]) if folders else (None, None, None)
    owner = _plain(folders[-2]) if len(folders) > 1 else None
    if album and " - " in album and (owner is None or album.lower().startswith(owner.lower() + " - ")):
        owner, album = (part.strip() for part in album.split(" - ", 1))
        date, album = _dated(album)[1] or date, _dated(album)[0]
    several = bool(owner and owner.lower() in _SEVERAL)
    owner = None if owner is None or owner.lower() in _ANYBODY | _SEVERAL else owner
    found = _named(_plain(stem), owner, album, several or not owner, bool(folders))
    return Hints(
        title=found.title,
        artist=found.artist or owner,
        album=found.album or (None if album is None or album.lower() in _ANYBODY else album),
        album_artist="Various Artists" if several else owner,
        track=found.track,
        disc=found.disc or disc or inner,
        disc_title=disc_title,
        date=date,
        several=several,
    )


def _plain(name: str) -> str:
    """A name as it would be written: "01_some_title" has spaces."""
    name = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\uff0f", "/")
    return line(name if " " in name else name.replace("_", " ")) or "?"


def _disc(folders: list[str]) -> tuple[int | None, str | None, list[str]]:
    match = _DISC.fullmatch(folders[-1].strip()) if folders else None
    if match is None:
        return None, None, folders
    return int(match[1]), line(match["title"] or "") or None, folders[:-1]


def _album(folder: str) -> tuple[str, str | None, int | None]:
    """(album, year, disc) of a folder's name."""
    name, date = _dated(_plain(folder))
    match = _IN_ALBUM.fullmatch(name)
    return (match["album"], date, int(match["disc"])) if match else (name, date, None)


def _dated(name: str) -> tuple[str, str | None]:
    match = _YEAR.fullmatch(name)
    return (match["name"].strip(), match["before"] or match["behind"]) if match else (name, None)


def _named(stem: str, owner: str | None, album: str | None, free: bool, filed: bool) -> Hints:
    """A file's own name: "01 Title"; "Artist - Title" and "Artist - Album - 01 - Title" where the folders agree."""
    track, disc, title = _numbered(stem, filed)
    parts = _APART.split(title)
    known = {name.lower() for name in (owner, album) if name}
    at = next((at for at, part in enumerate(parts[1:3], 1) if _BARE.fullmatch(part)), 0) if track is None else 0
    if at and at + 1 < len(parts):
        number = int(_BARE.fullmatch(parts[at])[1])  # type: ignore[index]
        title = " - ".join(parts[at + 1 :])
        return Hints(title, parts[0], parts[1] if at == 2 and not album else None, track=number or None)
    if len(parts) < 2 or not (parts[0].lower() in known or ((free or track is None) and len(parts) == 2)):
        return Hints(title, track=track, disc=disc)
    rest = parts[2:] if len(parts) > 2 and parts[1].lower() in known else parts[1:]
    inner, _, last = _numbered(" - ".join(rest), False)
    return Hints(last, parts[0], track=track or inner, disc=disc)


def _numbered(stem: str, filed: bool) -> tuple[int | None, int | None, str]:
    """(track, disc, title) of "1-03 Title", "03. Title", "A2 Title", "Track 3".

    A number with only a space behind it is a title's where it has no 0 before it and is high, or is `filed` nowhere.
    """
    bare = _BARE.fullmatch(stem)
    if bare:
        return int(bare[1]) or None if len(bare[1]) < 3 or not stem.isdigit() else None, None, stem
    match = _NUMBER.fullmatch(stem)
    if match is None:
        return None, None, stem
    text, rest = match["track"] or "", match["rest"].strip()
    if text and text[0] != "0" and stem[len(text)] == " " and not _APART.match(stem[len(text) :]):
        if len(text) == 3 and filed and 0 < int(text) % 100 < 50:  # 203 is the third of the second disc
            return int(text) % 100, int(text) // 100, rest
        if not filed or int(text) > 40:
            return None, None, stem
    disc = int(match["disc"]) if match["disc"] else ord(match["side"]) - 64 if match["side"] else None
    return int(match["inner"] or text or match["cut"]) or None, disc, rest
