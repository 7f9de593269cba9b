"""Make a small library of music, for whoever has none at hand: python demo/make_library.py FOLDER [--behind]

Two albums with covers, five pieces as FLAC, the words to one of them. All of it is made here, of numbers, and
comes out the same every time. A folder that has it already is left as it is. With --behind it returns when the
first piece is there and makes the rest in the background.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cover
import flac
import sound
from pieces import ALBUMS, Album, Piece

VERSION = "1"
ARTIST = "The Playhead Ensemble"
LICENCE = "https://creativecommons.org/publicdomain/zero/1.0/"
READ_ME = """\
The music, the words and the pictures in this folder were made by a program that comes with Playhead: no one \
played or recorded them.
You may copy, change, play and share them as you like, for any purpose, without asking: they are given to the \
public domain (CC0 1.0).
"""


def main() -> None:
    folders = [argument for argument in sys.argv[1:] if argument != "--behind"]
    if len(folders) != 1:
        sys.exit("usage: python demo/make_library.py FOLDER [--behind]")
    try:
        for _ in make(Path(folders[0])):
            if "--behind" in sys.argv and hasattr(os, "fork"):
                sys.argv.remove("--behind")
                if os.fork():
                    print("the rest of the demo library is being made; reload the page to see it", flush=True)
                    return
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit(f"the demo library could not be made: {error}")


def make(folder: Path) -> Iterator[str]:
    """Fill the folder, piece by piece, unless this version of the library is in it."""
    stamp = folder.with_name(f"{folder.name}.version")
    if stamp.is_file() and stamp.read_text("utf-8").strip() == VERSION:
        return
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "Read me.txt", READ_ME.encode())
    for album in ALBUMS:
        yield from make_album(folder / album.title, album)
    write(stamp, f"{VERSION}\n".encode())


def make_album(folder: Path, album: Album) -> Iterator[str]:
    folder.mkdir(parents=True, exist_ok=True)
    picture: bytes = getattr(cover, album.picture)()
    write(folder / "cover.png", picture)
    for number, piece in enumerate(album.pieces, 1):
        begun = time.monotonic()
        name = f"{number:02} {piece.title}"
        left, right = sound.perform(piece.score)
        write(folder / f"{name}.flac", encoded(album, number, piece, left, right, picture))
        if piece.lyrics:
            write(folder / f"{name}.lrc", piece.lyrics.encode())
        seconds = len(left) / sound.RATE
        print(f"{album.title}/{name}: {seconds:.0f} s of music in {time.monotonic() - begun:.1f} s", flush=True)
        yield name


def encoded(album: Album, number: int, piece: Piece, left: flac.Samples, right: flac.Samples, picture: bytes) -> bytes:
    tags = {
        "TITLE": piece.title,
        "ARTIST": ARTIST,
        "ALBUM": album.title,
        "ALBUMARTIST": ARTIST,
        "TRACKNUMBER": str(number),
        "TRACKTOTAL": str(len(album.pieces)),
        "DATE": "2025",
        "GENRE": piece.genre,
        "LICENSE": LICENCE,
    }
    return flac.encode(left, right, sound.RATE, tags, picture, cover.SIZE)


def write(path: Path, data: bytes) -> None:
    """Write a file as a whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    os.replace(part, path)


if __name__ == "__main__":
    main()
