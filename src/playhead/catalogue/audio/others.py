"""View -> Found: Monkey's Audio, Musepack, WavPack, TAK, True Audio, OptimFROG, AC-3: short headers.

mutagen reads them; it is shown the first bytes and the length of the file, and what would look further finds the end.
Tags stand beside them (APEv2, ID3).
"""

import struct
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from playhead.catalogue.found import Found, Sound, seconds
from playhead.catalogue.view import File, View
from playhead.errors import Damaged, Malformed

_SEEN = 16 * 1024
_NOTES = 128 * 1024


def _about(info: Any, codec: str, lossless: bool) -> Sound:
    sound = Sound(codec, lossless, int(info.sample_rate or 0), int(getattr(info, "channels", 0) or 0))
    sound.bits = int(getattr(info, "bits_per_sample", 0) or 0) if lossless else 0
    samples = round((info.length or 0) * sound.rate)
    sound.length = seconds(samples, sound.rate)
    return sound


def _read(kind: Callable[[Any], Any], view: View, start: int, stop: int, seen: int = _SEEN) -> Any:
    from mutagen import MutagenError

    try:
        return kind(File(view, start, stop, seen))
    except (MutagenError, struct.error, ValueError, IndexError, KeyError, AssertionError, TypeError) as error:
        raise Damaged(f"its header cannot be read ({type(error).__name__}): is it whole?") from error


def monkeys(view: View, start: int, stop: int) -> Found:
    from mutagen.monkeysaudio import MonkeysAudioInfo

    return _sized(_about(_read(MonkeysAudioInfo, view, start, stop), "ape", True), start, stop)


def tak(view: View, start: int, stop: int) -> Found:
    from mutagen.tak import TAKInfo

    return _sized(_about(_read(TAKInfo, view, start, stop), "tak", True), start, stop)


def optimfrog(view: View, start: int, stop: int) -> Found:
    from mutagen.optimfrog import OptimFROGInfo

    return _sized(_about(_read(OptimFROGInfo, view, start, stop), "optimfrog", True), start, stop)


def ac3(view: View, start: int, stop: int) -> Found:
    from mutagen.ac3 import AC3Info

    info = _read(AC3Info, view, start, stop)
    enhanced = info.codec == "ec-3"
    found = _sized(_about(info, "eac3" if enhanced else "ac3", False), start, stop)
    found.sound.guessed = enhanced
    return found


def adif(view: View, start: int, stop: int) -> Found:
    """AAC with one header for all of it: its length is an estimate."""
    from mutagen.aac import AACInfo

    found = _sized(_about(_read(AACInfo, view, start, stop), "aac", False), start, stop)
    found.sound.guessed = True
    return found


def midi(view: View, start: int, stop: int) -> Found:
    """Notes, not sound: how long they are only all of them tell."""
    from mutagen.smf import SMFInfo

    if stop - start > _NOTES:
        raise Malformed("it is a MIDI file longer than any that is played")
    info = _read(SMFInfo, view, start, stop, stop - start)
    return Found(Sound("midi", length=Fraction(info.length).limit_denominator(10**6), guessed=True))


def musepack(view: View, start: int, stop: int) -> Found:
    from mutagen.musepack import MusepackInfo

    info = _read(MusepackInfo, view, start, stop)
    found = _sized(_about(info, "musepack", False), start, stop)
    for ours, theirs in (("track", "title"), ("album", "album")):
        if gain := getattr(info, f"{theirs}_gain", 0):
            found.add(f"{ours}_gain", f"{gain:.2f}")
        if peak := getattr(info, f"{theirs}_peak", 0):
            found.add(f"{ours}_peak", f"{peak:.6f}")
    return found


def wavpack(view: View, start: int, stop: int) -> Found:
    """A file that was not finished does not say how long it is: its last block does."""
    from mutagen.wavpack import WavPackInfo

    info = _read(WavPackInfo, view, start, min(stop, start + 32))
    head = view.exactly(start, 32)
    samples, flags = int.from_bytes(head[12:16], "little"), int.from_bytes(head[24:28], "little")
    sound = _about(info, "wavpack", not flags & 8)
    if samples == 0xFFFFFFFF:
        samples = _last_sample(view, start, stop)
    sound.length = seconds(samples, sound.rate)
    return _sized(sound, start, stop)


def _last_sample(view: View, start: int, stop: int) -> int:
    low = max(start, stop - 64 * 1024)
    data = view.read(low, stop)
    at = data.rfind(b"wvpk")
    return sum(int.from_bytes(data[at + 16 + i : at + 20 + i], "little") for i in (0, 4)) if at >= 0 else 0


def trueaudio(view: View, start: int, stop: int) -> Found:
    """Eighteen bytes: what they are is written nowhere else in this file."""
    head = view.exactly(start, 22)
    channels, bits = int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    rate, samples = int.from_bytes(head[10:14], "little"), int.from_bytes(head[14:18], "little")
    sound = Sound("tta", True, rate, channels, bits, seconds(samples, rate))
    return _sized(sound, start, stop)


def _sized(sound: Sound, start: int, stop: int) -> Found:
    if not sound.rate:
        raise Damaged("it does not say how it sounds")
    sound.size = stop - start
    return Found(sound)
