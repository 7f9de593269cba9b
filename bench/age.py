"""Benchmarks of opening files of age, in this process. Before anything is timed every opened byte is compared."""

import asyncio
import os
import resource
import subprocess
import time
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path

import pyrage

from bench import loads, peers, runs
from bench.figures import Column, Goal, Report, Row, Sample, Table, ratio
from bench.ground import MIB, Ground
from bench.kept import emptied
from bench.peers import Broken
from playhead import literal
from playhead.transforms import age, ageheader
from playhead.transforms.sealed import BATCH, PLAIN, SEALED

AGE_SIZE = 256 * MIB
BATCHES, STREAM, PYRAGE, AGE = "playhead, in batches", "playhead, as a stream", "pyrage", "age"
PER_CORE, SPEED = Column("GiB/s per core"), Column("GiB/s")
WITHIN = 60.0


def age_decrypt(ground: Ground) -> Report:
    plain, identity = os.urandom(AGE_SIZE), pyrage.x25519.Identity.generate()
    known = ageheader.identities(str(identity))
    with emptied(ground) as within:
        sealed = asyncio.run(aged(plain, str(identity.to_public())))
        file, key = within.scratch / "payload.age", within.scratch / "key.txt"
        file.write_bytes(sealed)
        key.write_text(f"{identity}\n")
        opened = asyncio.run(age.decrypted(literal(sealed), known))
        assert isinstance(opened, age.Decrypted)
        rows = [
            (Row(BATCHES), partial(in_batches, opened, sealed)),
            (Row(STREAM), lambda hand: asyncio.run(streamed(opened, hand))),
            (Row(PYRAGE), partial(in_one, sealed, identity)),
            (Row(AGE), partial(by_program, file, key)),
        ]
        for row, measure in rows:
            row.attempt(partial(right, measure, plain), counts=False)
        for turn in range(-1, ground.amount.rounds):
            for row, measure in rows:
                row.attempt(partial(timed, measure), counts=turn >= 0)
            runs.say(f"round {turn + 1} of {ground.amount.rounds}")
    found = [row for row, _ in rows]
    best = (PYRAGE, AGE)
    goals = [
        Goal(f"{name.partition(', ')[2]}, per core", row.median(PER_CORE.title), target=3, unit="GiB/s")
        for name, (row, _) in zip((BATCHES, STREAM), rows, strict=False)
    ]
    goals.append(Goal("as a stream, per core vs the best of the others", ratio(found, PER_CORE.title, STREAM, *best)))
    about = (
        f"A payload of {AGE_SIZE >> 20} MiB of age, sealed for an X25519 key and held in memory: opened in one thread "
        f"in batches of {BATCH} chunks, and from end to end as a server streams it. `pyrage` is rage's library, which "
        "opens all of it into one object; `age` is the program, from a file in the page cache into nothing. Per core: "
        "by the processor time of the process and its children."
    )
    return Report("age-decrypt", "Opening a file of age", about, [Table("", (PER_CORE, SPEED), found)], goals)


Hand = Callable[[int, bytes | memoryview], None]
"""Takes a part of what was opened, with its place."""
Opens = Callable[[Hand | None], int]
"""Opens all of it, and hands it over if somebody wants it; returns how much it was."""


async def aged(plain: bytes, recipient: str) -> bytes:
    made = await age.encrypted(literal(plain), [ageheader.recipient(recipient)])
    return await made.read()


def right(opens: Opens, plain: bytes) -> Sample:
    """Compare every byte that is opened, once; nothing is timed."""
    view, at = memoryview(plain), 0

    def compare(place: int, part: bytes | memoryview) -> None:
        nonlocal at
        if place != at or view[at : at + len(part)] != part:
            raise Broken(f"other bytes than those that were sealed, at {at:,}")
        at += len(part)

    if opens(compare) != len(plain) or at != len(plain):
        raise Broken(f"{at:,} of {len(plain):,} bytes were opened")
    return {}


def timed(opens: Opens) -> Sample:
    spent, began = all_seconds(), time.perf_counter()
    got = opens(None)
    seconds, spent = time.perf_counter() - began, all_seconds() - spent
    if got != AGE_SIZE:
        raise Broken(f"{got:,} of {AGE_SIZE:,} bytes were opened")
    return {PER_CORE.title: got / loads.GIB / spent, SPEED.title: got / loads.GIB / seconds}


def all_seconds() -> float:
    """Processor seconds of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def in_batches(opened: age.Decrypted, sealed: bytes, hand: Hand | None) -> int:
    """Batches in one thread, into room that is used again, as `sealed.through` does."""
    payload, at = memoryview(sealed)[opened.opened.begin :], 0
    room = memoryview(bytearray(BATCH * PLAIN))
    while at < opened.size:
        first, into = at // PLAIN, room[: opened.size - at]
        opened._open(first, payload[first * SEALED : (first + BATCH) * SEALED], into)
        if hand:
            hand(at, into)
        at += len(into)
    return at


async def streamed(opened: age.Decrypted, hand: Hand | None) -> int:
    at = 0
    async with aclosing(opened.stream(0, opened.size)) as stream:
        async for piece in stream:
            assert isinstance(piece, bytes | memoryview)
            if hand:
                hand(at, piece)
            at += len(piece)
    return at


def in_one(sealed: bytes, identity: pyrage.x25519.Identity, hand: Hand | None) -> int:
    data = pyrage.decrypt(sealed, [identity])
    if hand:
        hand(0, data)
    return len(data)


def by_program(file: Path, key: Path, hand: Hand | None) -> int:
    """Into nothing, unless somebody wants it: age ends well only when the last chunk was right."""
    command = [peers.program(AGE), "-d", "-i", str(key), str(file)]
    out = subprocess.DEVNULL if hand is None else subprocess.PIPE
    done = subprocess.run(command, check=True, stdout=out, timeout=WITHIN)
    if hand:
        hand(0, done.stdout)
    return AGE_SIZE
