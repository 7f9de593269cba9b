"""Instruments, a room, and the mixing of a score into two channels of 16-bit sound. Pure, and always the same.

A string is plucked as Karplus and Strong had it: one period goes round and round through a filter that wears
it down. Bells and the music box are sums of fading sines, the pad is a loop of sines that swells and ebbs.
The room, a set of echoes feeding themselves, works at half the rate: it is dull in any case. The left channel
and the right one are the real and the imaginary part of complex numbers, so that both are worked on at once.
"""

import cmath
import math
import random
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, repeat
from operator import add, mul
from typing import TypeAlias

RATE = 32000
PEAK = 32768 * 10 ** (-3 / 20)
FADE = 3.5  # seconds, at the end of every piece
LOOP = 2 * RATE  # of the pad, in samples: every sine in it is a multiple of half a hertz
_STEPS = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"]

Wave: TypeAlias = "array[float]"
Stereo: TypeAlias = list[complex]
Samples: TypeAlias = "array[int]"
Partials: TypeAlias = list[tuple[float, float, float]]  # (times the pitch, level, seconds to fade)


@dataclass(frozen=True)
class Part:
    """One instrument's line: where it sits (how much of it is left, and right), how loud it is, and what it plays.

    A tune is a text of notes such as "F#4/1.5", the pitch and how many beats it lasts (one, if it is not said);
    "D3+A3/2" is a chord, "-" a rest, and "|" only helps the eye.
    """

    voice: str
    seat: complex
    level: float
    tune: str


@dataclass(frozen=True)
class Score:
    """A piece: beats a minute, seconds that it rings on after the last beat, how much room, and its parts."""

    tempo: float
    tail: float
    room: float
    parts: list[Part]


def perform(score: Score) -> tuple[Samples, Samples]:
    """The left and the right channel."""
    beat = 60 / score.tempo
    beats = max(sum(length for _, _, length in notes(part.tune)) for part in score.parts)
    stage: Stereo = [0j] * (int((beats * beat + score.tail) * RATE) // 2 * 2)
    hand = random.Random(7)
    for part in score.parts:
        if part.voice == "pad":
            _sustain(stage, part, beat)
        else:
            _play(stage, part, beat, hand)
    return _finish(stage, score.room)


def notes(tune: str) -> Iterator[tuple[float, list[float], float]]:
    """Every note of a tune: (the beat that it starts on, its pitches in hertz, how many beats it lasts)."""
    at = 0.0
    for word in tune.replace("|", " ").split():
        names, _, beats = word.partition("/")
        length = float(beats or 1)
        yield at, [] if names == "-" else [pitch(name) for name in names.split("+")], length
        at += length


def pitch(name: str) -> float:
    """The frequency of a note such as "F#4"."""
    step = _STEPS.index(name[:-1])
    return float(440 * 2 ** ((step - 9) / 12 + int(name[-1]) - 4))


def _play(stage: Stereo, part: Part, beat: float, hand: random.Random) -> None:
    """Add every note, a little unevenly as a hand would, and chords from the lowest string to the highest."""
    for at, pitches, _ in notes(part.tune):
        start = at * beat + hand.uniform(0, 0.012)
        for order, hertz in enumerate(pitches):
            level = part.level * hand.uniform(0.85, 1)
            _mix(stage, _VOICES[part.voice](hertz), int((start + 0.03 * order) * RATE), level * part.seat)


def _sustain(stage: Stereo, part: Part, beat: float) -> None:
    """Add every chord of a pad, each held until a little after the next one begins."""
    for at, pitches, beats in notes(part.tune):
        loop: Stereo = list(map(sum, zip(*map(_pad, pitches), strict=True)))
        _mix(stage, _swell(loop, beats * beat), int(at * beat * RATE), part.level)


def _mix(stage: Stereo, wave: Sequence[complex], start: int, level: complex) -> None:
    stop = min(len(stage), start + len(wave))
    stage[start:stop] = [old + level * new for old, new in zip(stage[start:stop], wave, strict=False)]


@cache
def _harp(hertz: float) -> Wave:
    return _string(hertz, pluck_at=0.37, dull=1.6, fade=0.9)


@cache
def _zither(hertz: float) -> Wave:
    return _string(hertz, pluck_at=0.13, dull=1.2, fade=0.9)


def _string(hertz: float, pluck_at: float, dull: float, fade: float) -> Wave:
    """A plucked string. The filter delays by a whole number of samples and a bit, and spreads by the same
    amount whatever the bit is, so that every note is in tune and none is duller than its neighbours."""
    period = RATE / hertz
    centre = round(period)
    bit = period - centre
    spread = min(0.25, max(0.06, 0.105 * math.sqrt(330 / hertz)))
    keep = math.exp(-1 / (hertz * fade * math.sqrt(max(1, 330 / hertz))))
    early, late = keep * (spread + (bit * bit - bit) / 2), keep * (spread + (bit * bit + bit) / 2)
    mid = keep * (1 - 2 * spread - bit * bit)
    wave = _excitation(period, centre + 1, pluck_at, dull)
    block = centre - 1
    for _ in range(int(_ring(hertz) * hertz)):
        newest, middle, oldest = wave[-block:], wave[-block - 1 :], wave[-block - 2 :]
        wave.extend([early * a + mid * b + late * c for a, b, c in zip(newest, middle, oldest, strict=False)])
    return _trim(wave, 0.4)


def _ring(hertz: float) -> float:
    """For how many seconds a string is worth following."""
    return min(3.6, max(1.6, 2.8 * math.sqrt(220 / hertz)))


def _excitation(period: float, length: int, pluck_at: float, dull: float) -> Wave:
    """A string's first period: harmonics as strong as a pluck at that point makes them, their phases at random."""
    dice = random.Random(length)
    wave = [0.0] * length
    for harmonic in range(1, min(40, int(period * 0.4)) + 1):
        level = math.sin(math.pi * harmonic * pluck_at) / harmonic**dull
        turn, phase = 2 * math.pi * harmonic / period, dice.uniform(0, 2 * math.pi)
        wave = [old + level * math.sin(turn * at + phase) for at, old in enumerate(wave)]
    return array("d", wave)


@cache
def _bell(hertz: float) -> Wave:
    return _struck(hertz, [(1, 0.8, 1.2), (2, 0.26, 0.9), (3.01, 0.1, 0.6), (4.1, 0.07, 0.35), (5.43, 0.05, 0.2)])


@cache
def _box(hertz: float) -> Wave:
    return _struck(hertz, [(1, 0.8, 0.8), (2, 0.1, 0.6), (3.01, 0.1, 0.35), (6.27, 0.06, 0.12)])


def _struck(hertz: float, partials: Partials) -> Wave:
    """A thing struck: sines that fade, the high ones first."""
    slower = (523 / hertz) ** 0.35
    wave = array("d")
    for times, level, fade in partials:
        length = int(4 * fade * slower * RATE)
        turn = cmath.exp(complex(-1 / (fade * slower), 2 * math.pi * hertz * times) / RATE)
        sine = [spin.imag for spin in accumulate(repeat(turn, length), mul, initial=complex(level))]
        wave = array("d", map(add, wave, sine)) + wave[len(sine) :] if wave else array("d", sine)
    return _trim(wave, 0.3)


@cache
def _pad(hertz: float) -> Stereo:
    """Two seconds of a soft tone that can be repeated without a seam: of each of its sines there is a second
    one, half a hertz higher and turning the other way, so that the sound wanders from side to side."""
    wave = [0j] * LOOP
    for times, level in ((1, 0.5), (2, 0.16), (3, 0.06)):
        cycles = round(hertz * times * LOOP / RATE)
        for spins, share in ((cycles, level), (-cycles - 1, 0.5 * level)):
            turn = cmath.exp(complex(0, 2 * math.pi * spins / LOOP))
            sine = accumulate(repeat(turn, LOOP - 1), mul, initial=complex(share))
            wave = list(map(add, wave, sine))
    return wave


def _swell(loop: Stereo, seconds: float) -> Stereo:
    """A loop held for so long, coming in slowly and going out slowly into what follows."""
    rise, fall = 1.4, 1.8
    length = int((seconds + fall) * RATE)
    return _soften((loop * (length // len(loop) + 1))[:length], rise, fall)


def _soften(wave: Stereo, rise: float, fall: float) -> Stereo:
    """Fade a wave in and out, in place."""
    rising, falling = min(len(wave), int(rise * RATE)), min(len(wave), int(fall * RATE))
    wave[:rising] = map(mul, wave[:rising], _slope(rising))
    wave[-falling:] = map(mul, wave[-falling:], reversed(_slope(falling)))
    return wave


def _trim(wave: Wave, fall: float) -> Wave:
    """Take the edges off a note, in place."""
    rising, falling = int(0.002 * RATE), min(len(wave), int(fall * RATE))
    wave[:rising] = array("d", map(mul, wave[:rising], _slope(rising)))
    wave[-falling:] = array("d", map(mul, wave[-falling:], reversed(_slope(falling))))
    return wave


@cache
def _slope(length: int) -> Wave:
    return array("d", [0.5 - 0.5 * math.cos(math.pi * at / length) for at in range(length)])


_VOICES: dict[str, Callable[[float], Wave]] = {"harp": _harp, "zither": _zither, "bell": _bell, "box": _box}


def _finish(stage: Stereo, room: float) -> tuple[Samples, Samples]:
    """Add the room, fade out, and make the loudest sample 3 dB less than full."""
    wet = _double(_echoes(_diffuse([0.5 * (a + b) for a, b in zip(stage[0::2], stage[1::2], strict=True)])))
    heard = _soften([dry + room * echo for dry, echo in zip(stage, wet, strict=True)], 0.01, FADE)
    left, right = [sample.real for sample in heard], [sample.imag for sample in heard]
    scale = PEAK / max(max(left), -min(left), max(right), -min(right))
    return _rounded(left, scale), _rounded(right, scale)


def _rounded(side: list[float], scale: float) -> Samples:
    return array("h", [round(scale * sample) for sample in side])


def _diffuse(wave: Stereo) -> Stereo:
    """Smear a sound a little, so that the echoes of it are not told apart."""
    for delay in (83, 241):
        inner = [0j] * delay
        for at in range(0, len(wave), delay):
            inner.extend([new + 0.6 * old for new, old in zip(wave[at : at + delay], inner[-delay:], strict=False)])
        wave = [old - 0.6 * new for new, old in zip(inner[delay:], inner, strict=False)]
    return wave


def _echoes(wave: Stereo) -> Stereo:
    """The sum of four echoes of a sound, each of which feeds itself, getting duller and moving to a side."""
    heard = [_echo(wave, delay, turn) for delay, turn in ((887, 1), (1087, -1), (1291, 0.7), (1433, -0.7))]
    return [0.25 * (a + b + c + d) for a, b, c, d in zip(*heard, strict=True)]


def _echo(wave: Stereo, delay: int, turn: float) -> Stereo:
    keep = cmath.rect(10 ** (-3 * delay / (2.6 * RATE / 2)), turn)
    sharp, blunt = 0.65 * keep, 0.35 * keep
    echo = [0j] * (delay + 1)
    for at in range(0, len(wave), delay):
        block = zip(wave[at : at + delay], echo[-delay:], echo[-delay - 1 :], strict=False)
        echo.extend([new + sharp * old + blunt * older for new, old, older in block])
    return echo[1 : len(wave) + 1]


def _double(wave: Stereo) -> Stereo:
    """The same sound at twice the rate."""
    out = [0j] * (2 * len(wave))
    out[0::2] = wave
    out[1::2] = [0.5 * (a + b) for a, b in zip(wave, wave[1:] + wave[-1:], strict=True)]
    return out
