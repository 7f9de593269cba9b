"""A plan of so many members, and its tar, in a process of their own: `python -m bench.plans COUNT`.

Prints as JSON what is resident, in bytes (before, with the plan, with the tar of it, and at most), and the seconds that
both took.
"""

import json
import os
import sys
import time

from bench import meters
from playhead.blob import Blob, identity
from playhead.transforms.plan import Member, Planning
from playhead.transforms.tar import tar
from playhead.tree import Ask

TRACKS, ALBUMS = 12, 20  # of an album, of an artist


def member(number: int) -> Member:
    album, track = divmod(number, TRACKS)
    name = f"Artist {album // ALBUMS:05d}/Album {album % ALBUMS + 1}/{track + 1:02d} A song of some length.flac"
    tag = identity("f", name) or ""
    return Member(name, 30_000_000 + number, mtime=1_700_000_000 + number, tag=tag, place=f"music:{name}")


async def nowhere(number: int, ask: Ask) -> Blob:
    raise NotImplementedError


def resident(key: str = "VmRSS") -> int:
    return meters.status_bytes(os.getpid(), key)


def main() -> None:
    count = int(sys.argv[1])
    told, began = {"before": resident()}, time.perf_counter()
    planning = Planning()
    for number in range(count):
        planning.add(member(number))
    plan = planning.done()
    took, told["plan"] = time.perf_counter() - began, resident()
    archive = tar(plan, nowhere)
    laid = time.perf_counter() - began - took
    told |= {"tar": resident(), "most": resident("VmHWM"), "members": len(archive.plan)}
    print(json.dumps({**told, "planning": took, "laying": laid}))


if __name__ == "__main__":
    main()
