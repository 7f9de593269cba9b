"""Files that were damaged at random: read, or refused in a line; never anything else, never for long."""

import os
import random
from collections.abc import Callable

import pytest

from playhead import Damaged, Malformed
from playhead.catalogue.tags import tags_of
from tests.catalogue import sounds
from tests.catalogue.sounds import JPEG, PNG, counting

ROUNDS = int(os.environ.get("ROUNDS", "0"))
NUMBERS = [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\1", b"\x80\0\0\0"]


def _flac() -> bytes:
    about = b"\x00\x00\x00\x22" + bytes(10) + b"\x0a\xc4\x42\xf0\x00\x01\x00\x00" + bytes(16)
    said = sounds.comments(b"TITLE=T", b"ARTIST=A", b"LYRICS=x\ny")
    picture = (3).to_bytes(4) + (9).to_bytes(4) + b"image/png" + bytes(20) + len(PNG).to_bytes(4) + PNG
    blocks = b"\x04" + len(said).to_bytes(3) + said + b"\x86" + len(picture).to_bytes(3) + picture
    return b"fLaC" + about + blocks + bytes(5000)


def _mp4() -> bytes:
    def box(kind: bytes, *parts: bytes) -> bytes:
        body = b"".join(parts)
        return (len(body) + 8).to_bytes(4) + kind + body

    def item(kind: bytes, form: int, data: bytes) -> bytes:
        return box(kind, box(b"data", form.to_bytes(4), bytes(4), data))

    clock = bytes(12) + (44100).to_bytes(4) + (441000).to_bytes(4) + bytes(4)
    entry = box(b"mp4a", bytes(16), b"\0\2\0\x10\0\0\0\0\xac\x44\0\0", box(b"esds", bytes(30)))
    media = box(b"mdia", box(b"mdhd", clock), box(b"hdlr", bytes(8), b"soun", bytes(12)))
    media = box(b"mdia", media[8:], box(b"minf", box(b"stbl", box(b"stsd", bytes(7), b"\1", entry))))
    edits = box(b"edts", box(b"elst", bytes(7), b"\1", (10000).to_bytes(4), (1024).to_bytes(4), b"\0\1\0\0"))
    items = box(b"ilst", item(b"\xa9nam", 1, b"T"), item(b"trkn", 0, b"\0\0\0\3\0\x0c\0\0"), item(b"covr", 13, JPEG))
    tags = box(b"udta", box(b"meta", bytes(4), box(b"hdlr", bytes(8), b"mdirappl", bytes(9)), items))
    return (
        box(b"ftyp", b"M4A \0\0\0\0")
        + box(b"moov", box(b"mvhd", clock), box(b"trak", edits, media), tags)
        + box(b"mdat", bytes(5000))
    )


def _wav() -> bytes:
    about = b"fmt \x10\0\0\0\1\0\2\0\x44\xac\0\0\x10\xb1\2\0\4\0\x10\0"
    info = b"INFOINAM\4\0\0\0abc\0IART\2\0\0\0x\0"
    tag = sounds.id3(sounds.frame("TIT2", b"\3T"), sounds.picture_frame(PNG))
    body = about + b"LIST" + len(info).to_bytes(4, "little") + info + b"data\x40\x1f\0\0" + bytes(8000)
    body += b"id3 " + len(tag).to_bytes(4, "little") + tag
    return b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WAVE" + body


def _mp3() -> bytes:
    texts = [
        sounds.frame("TIT2", b"\0\xbb\xe7\xb6\xfb"),
        sounds.frame("TXXX", b"\3ARTISTS\0A\0B"),
        sounds.frame("USLT", b"\3eng\0x"),
    ]
    lyrics = sounds.frame("SYLT", b"\3eng\2\1\0" + b"a\0\0\0\0\1b\0\0\0\0\2")
    return (
        sounds.id3(*texts, lyrics, sounds.picture_frame(PNG), padding=99)
        + sounds.mp3(40)
        + sounds.apev2({"Title": "T"})
    )


def _matroska() -> bytes:
    def element(id: str, *parts: bytes) -> bytes:
        body = b"".join(parts)
        return bytes.fromhex(id) + (1 << 28 | len(body)).to_bytes(4) + body

    track = element(
        "ae", element("83", b"\2"), element("86", b"A_FLAC"), element("e1", element("b5", b"\x47\x2c\x44\0"))
    )
    simple = element("67c8", element("45a3", b"ARTIST"), element("4487", b"A"))
    about = element(
        "1549a966", element("2ad7b1", b"\x0f\x42\x40"), element("4489", b"\x45\x1c\x40\0"), element("7ba9", b"T")
    )
    parts = [about, element("1654ae6b", track), element("1254c367", element("7373", element("63c0"), simple))]
    return element("1a45dfa3", bytes(4)) + element("18538067", *parts, element("1f43b675", bytes(3000)))


MADE: dict[str, Callable[[], bytes]] = {
    "mp3": _mp3,
    "flac": _flac,
    "mp4": _mp4,
    "wav": _wav,
    "matroska": _matroska,
    "opus": lambda: sounds.opus(b"TITLE=T", b"METADATA_BLOCK_PICTURE=AAAAAw", b"ARTIST=A"),
    "ape": lambda: sounds.monkeys() + sounds.apev2({"Title": "T", "Cover Art (Front)": b"c\0" + PNG}),
    "dsf": lambda: sounds.dsf(sounds.id3(sounds.frame("TIT2", b"\3T"))),
    "dff": lambda: sounds.dff(sounds.id3(sounds.frame("TIT2", b"\3T"))),
    "tak": lambda: sounds.tak() + sounds.apev2({"Title": "T"}),
    "mpc": lambda: sounds.musepack() + sounds.apev2({"Title": "T"}),
}


def damaged(data: bytes, chance: random.Random) -> bytes:
    made = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        at = min(len(made) - 1, int(chance.choice([len(made), 200, 2000]) * chance.random()))
        match chance.randrange(6):
            case 0 | 1:
                made[at] = chance.randrange(256)
            case 2:
                made[at : at + 4] = chance.choice(NUMBERS)
            case 3:
                del made[at + 1 :]
            case 4:
                del made[at : at + chance.randrange(1, 40)]
            case 5:
                made[at:at] = made[: chance.randrange(200)]
        made = made or bytearray(b"x")
    return bytes(made)


@pytest.mark.parametrize("kind", list(MADE))
async def test_undamaged_they_are_read(kind: str) -> None:
    tags = await tags_of(counting(MADE[kind]()), kind)
    assert (tags.title or "").startswith(("T", "사랑")) and tags.duration_ms


async def _rounds(kind: str, count: int) -> None:
    data, read = MADE[kind](), 0
    for seed in range(count):
        blob = counting(damaged(data, random.Random(f"{kind} {seed}")))
        try:
            await tags_of(blob, kind)
            read += 1
        except (Damaged, Malformed) as failure:
            assert "\n" not in str(failure) and len(str(failure)) < 200
        assert blob.bytes_read <= blob.size
    assert 0 < read < count


@pytest.mark.parametrize("kind", list(MADE))
async def test_damaged_at_random_they_are_read_or_refused(kind: str) -> None:
    await _rounds(kind, ROUNDS or 60)


@pytest.mark.torture
@pytest.mark.parametrize("kind", list(MADE))
async def test_damaged_in_very_many_ways_they_are_read_or_refused(kind: str) -> None:
    await _rounds(kind, 20_000)
