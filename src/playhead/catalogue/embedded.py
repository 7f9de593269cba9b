"""(Blob, Picture) -> Blob: a picture out of a file.

Most are a cut of it. Others are written so that they must be read whole and put together: as text in the pages of an
Ogg file, or with zeros between their bytes (unsynchronised ID3). What comes of them is compared with its type.
"""

import base64
import binascii

from playhead.blob import Blob, literal
from playhead.catalogue import pictures
from playhead.catalogue.audio import ogg
from playhead.catalogue.pictures import Picture
from playhead.errors import Damaged, Malformed

_MOST = 32 * 1024 * 1024  # bytes of a picture that must be put together
_ROUND = 128 * 1024


async def picture_of(blob: Blob, picture: Picture) -> Blob:
    """The bytes of a picture that `tags_of` found in this blob.

    Raises Malformed where it is too large to be put together, Damaged where the file does not hold it.
    """
    if picture.start is not None:
        if picture.start + picture.length > blob.size:
            raise Damaged("the file does not hold its picture any more")
        return blob[picture.start : picture.start + picture.length]
    if picture.length > _MOST:
        raise Malformed(f"a picture of {picture.length:,} bytes is too large to be put together")
    data = _made(await blob.read(picture.place, picture.place + _reach(picture)), picture)
    if pictures.sniffed(data[: pictures.SNIFFED]) != picture.type:
        raise Damaged("the file does not hold its picture any more")
    return literal(data)


def _reach(picture: Picture) -> int:
    """Bytes that hold all of it, with what stands between."""
    if picture.coding in ("ogg", "pages"):  # a page has at most 28 bytes of its own for 255
        return picture.skip + picture.length + picture.length // 9 + _ROUND
    return picture.length if picture.coding in ("text", "frame") else 2 * (picture.skip + picture.length)


def _made(data: bytes, picture: Picture) -> bytes:
    if picture.coding == "frame":
        return _all(data, picture.length).replace(b"\xff\x00", b"\xff")[picture.skip :]
    if picture.coding == "tag":
        data = data.replace(b"\xff\x00", b"\xff")[picture.skip : picture.skip + picture.length]
    elif picture.coding in ("ogg", "pages"):
        data = ogg.bodies(data)[picture.skip : picture.skip + picture.length]
    data = _all(data, picture.length)
    return data if picture.coding in ("tag", "pages") else _decoded(data)


def _all(data: bytes, length: int) -> bytes:
    if len(data) != length:
        raise Damaged("the file ends within its picture: is it whole?")
    return data


def _decoded(text: bytes) -> bytes:
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4))
    except binascii.Error as error:
        raise Damaged("a picture's text is no base64") from error
    if pictures.sniffed(data[: pictures.SNIFFED]):
        return data
    header = pictures.flac(data)
    return _all(data[header[1] : header[1] + header[2]], header[2]) if header else b""
