"""Audio files to read: made by ffmpeg from seeded noise, or byte by byte where nothing here can write a format."""

import shutil
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from playhead import Blob, literal
from playhead.blob import Pieces

SAMPLES, RATE = 300_123, 44_100  # of the sound: 6805.5 ms
TAGS = {"title": "Jóga 日本", "artist": "Björk", "album": "Homogenic", "track": "3/12", "date": "1997-09-22"}
TAGS |= {"genre": "Electronic"}
needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
JPEG = b"\xff\xd8\xff\xe0" + bytes(range(255, -1, -1)) * 40


@dataclass(frozen=True, slots=True, eq=False)
class Counting(Blob):
    """Bytes in memory, or zeros for as long as they are said to be: writes down which ranges are read."""

    data: bytes
    read_: list[tuple[int, int]] = field(default_factory=list)

    async def stream(self, start: int, stop: int) -> Pieces:
        self.read_.append((start, stop))
        yield self.data[start:stop]

    @property
    def bytes_read(self) -> int:
        return sum(stop - start for start, stop in self.read_)


def counting(data: bytes) -> Counting:
    return Counting(len(data), literal(b"").tag, data)


def ffmpeg(*args: str | Path) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, args)], check=True, timeout=60)


def source(folder: Path) -> Path:
    """Noise of a known length, as WAV."""
    path = folder / "source.wav"
    noise = f"anoisesrc=c=pink:r={RATE}:a=0.3:seed=7,aformat=channel_layouts=stereo,atrim=end_sample={SAMPLES}"
    ffmpeg("-f", "lavfi", "-i", noise, "-c:a", "pcm_s16le", path)
    return path


def encoded(wav: Path, name: str, *options: str, tagged: bool = True) -> Path:
    """The sound in another format, tagged by ffmpeg."""
    path = wav.parent / name
    tags = [part for key, text in TAGS.items() for part in ("-metadata", f"{key}={text}")] if tagged else []
    ffmpeg("-i", wav, *tags, *(() if tagged else ("-map_metadata", "-1")), *options, path)
    return path


def probed(path: Path) -> float:
    """How many milliseconds ffprobe says a file is."""
    command = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", str(path)]
    return float(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout) * 1000


# ── by hand ──


def id3(*frames: bytes, version: int = 4, flags: int = 0, padding: int = 0, footer: bool = False) -> bytes:
    body = b"".join(frames) + bytes(padding)
    head = struct.pack(">BBB", version, 0, flags | (0x10 if footer else 0)) + syncsafe(len(body))
    return b"ID3" + head + body + (b"3DI" + head if footer else b"")


def frame(name: str, body: bytes, version: int = 4, flags: int = 0) -> bytes:
    size = {2: len(body).to_bytes(3), 3: len(body).to_bytes(4), 4: syncsafe(len(body))}[version]
    return name.encode() + size + (flags.to_bytes(2) if version > 2 else b"") + body


def syncsafe(size: int) -> bytes:
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))


def picture_frame(data: bytes, version: int = 4) -> bytes:
    if version == 2:
        return frame("PIC", b"\0PNG\x03\0" + data, 2)
    return frame("APIC", b"\0image/png\0\x03cover\0" + data, version)


def id3v1(title: bytes, artist: bytes, album: bytes, *, year: bytes = b"", track: int = 0, genre: int = 255) -> bytes:
    texts = title.ljust(30, b"\0") + artist.ljust(30, b"\0") + album.ljust(30, b"\0") + year.ljust(4, b"\0")
    return b"TAG" + texts + bytes(28) + bytes([0, track, genre])


def mp3(frames: int = 60, kbits: int = 128) -> bytes:
    """Silence: MPEG 1 layer 3 at 44.1 kHz, all frames of one bit rate, and nothing that says how many."""
    index = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320].index(kbits)
    length = 144 * kbits * 1000 // 44100
    return (bytes([0xFF, 0xFB, index << 4, 0xC4]) + bytes(length - 4)) * frames


def apev2(items: dict[str, str | bytes], header: bool = True) -> bytes:
    body = b""
    for key, value in items.items():
        data = value if isinstance(value, bytes) else value.encode()
        body += struct.pack("<II", len(data), 2 if isinstance(value, bytes) else 0) + key.encode() + b"\0" + data
    about = struct.pack("<8sIIII8x", b"APETAGEX", 2000, len(body) + 32, len(items), (1 << 31) * header | (1 << 29))
    foot = struct.pack("<8sIIII8x", b"APETAGEX", 2000, len(body) + 32, len(items), (1 << 31) * header)
    return (about if header else b"") + body + foot


def monkeys(seconds: int = 3) -> bytes:
    about = struct.pack("<IIIHHI", 73728, 44100 * seconds - 73728, 2, 16, 2, 44100)
    return b"MAC " + struct.pack("<HH", 3990, 0) + bytes(48) + about + bytes(5000)


def musepack(frames: int = 100) -> bytes:
    return b"MP+" + bytes([0x17]) + struct.pack("<II", frames, 0) + bytes(20) + bytes(5000)


def optimfrog(samples: int = 44100) -> bytes:
    return b"OFR " + struct.pack("<IIHBBI", 15, samples * 2, 0, 2, 1, 44100) + bytes(5000)


def tak(samples: int = 88200) -> bytes:
    value, at = 0, 0
    for number, width in (
        (2, 6),
        (0, 4),
        (0, 4),
        (samples, 35),
        (0, 3),
        (44100 - 6000, 18),
        (16 - 8, 5),
        (1, 4),
        (0, 1),
    ):
        value |= number << at
        at += width
    info = value.to_bytes(10, "little") + bytes(3)
    return b"tBaK\x01" + len(info).to_bytes(3, "little") + info + b"\0\0\0\0" + bytes(5000)


def dsf(tag: bytes, samples: int = 2822400) -> bytes:
    sound = bytes(4096 * 2)
    at = 28 + 52 + 12 + len(sound)
    head = b"DSD " + struct.pack("<QQQ", 28, at + len(tag), at)
    about = b"fmt " + struct.pack("<QIIIIIIQII", 52, 1, 0, 2, 2, 2822400, 1, samples, 4096, 0)
    return head + about + b"data" + struct.pack("<Q", 12 + len(sound)) + sound + tag


def dff(tag: bytes) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return name + len(body).to_bytes(8) + body + bytes(len(body) & 1)

    about = b"SND " + chunk(b"FS  ", (2822400).to_bytes(4)) + chunk(b"CHNL", b"\0\2SLFTSRGT")
    body = (
        b"DSD "
        + chunk(b"FVER", b"\1\5\0\0")
        + chunk(b"PROP", about)
        + chunk(b"DSD ", bytes(70560))
        + chunk(b"ID3 ", tag)
    )
    return b"FRM8" + len(body).to_bytes(8) + body


def ogg_page(serial: int, number: int, granule: int, *packets: bytes, flags: int = 0, open_: bool = False) -> bytes:
    """A page of whole packets; `open_`: the last goes on in the next. Checksums are left out: nobody here asks."""
    lacing = b""
    for at, packet in enumerate(packets):
        lacing += b"\xff" * (len(packet) // 255)
        if not (open_ and at == len(packets) - 1):
            lacing += bytes([len(packet) % 255])
    assert len(lacing) < 256
    return (
        struct.pack("<4sBBqIIIB", b"OggS", 0, flags, granule, serial, number, 0, len(lacing))
        + lacing
        + b"".join(packets)
    )


def comments(*texts: bytes, claimed: int | None = None) -> bytes:
    """Vorbis comments; the last says that it is `claimed` bytes long."""
    data = struct.pack("<I", 4) + b"test" + struct.pack("<I", len(texts))
    for at, text in enumerate(texts):
        length = claimed if claimed is not None and at == len(texts) - 1 else len(text)
        data += struct.pack("<I", length) + text
    return data


def opus(*tags: bytes, serial: int = 1, samples: int = 48000 * 4, gain: int = 0, skip: int = 312) -> bytes:
    """An Opus stream of 20 ms packets; the comments' packet over as many full pages as it needs."""
    head = b"OpusHead\1\2" + struct.pack("<HIhB", skip, 48000, gain, 0)
    packet = b"OpusTags" + comments(*tags)
    made, number = ogg_page(serial, 0, 0, head, flags=2), 1
    while len(packet) >= 255 * 255:
        made += ogg_page(serial, number, -1, packet[: 255 * 255], flags=int(number > 1), open_=True)
        packet, number = packet[255 * 255 :], number + 1
    made += ogg_page(serial, number, 0, packet, flags=int(number > 1))
    time = 0
    while time < samples + skip:
        count = min(50, -(-(samples + skip - time) // 960))
        time += 960 * count
        number += 1
        last = time >= samples + skip
        sound = [b"\xf8" + bytes(99)] * count  # CELT, 20 ms
        made += ogg_page(serial, number, samples + skip if last else time, *sound, flags=4 if last else 0)
    return made
