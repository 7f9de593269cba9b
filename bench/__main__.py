"""`python -m bench`: measure Playhead beside its peers, print the tables, and publish them.

A whole run, and one with `--only NAME`, writes the page; `--quick` prints only, for its figures are too few to publish.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from bench import (
    age,
    bundles,
    crypt,
    distant,
    downloads,
    drives,
    economy,
    ground,
    kept,
    local,
    meters,
    page,
    pushes,
    remote,
)
from bench.figures import FAULTS, Report

BUSY = 0.2
BENCHMARKS: Mapping[str, Callable[[ground.Ground], Report]] = {
    "local-get": local.local_get,
    "local-ranges": local.local_ranges,
    "slow-readers": local.slow_readers,
    "local-tls": local.local_tls,
    "remote-get": remote.remote_get,
    "remote-ranges": remote.remote_ranges,
    "kept-latency": kept.kept_latency,
    "kept-hot": kept.kept_hot,
    "kept-fill": kept.kept_fill,
    "kept-economy": economy.kept_economy,
    "kept-listeners": economy.kept_listeners,
    "crypt-get": crypt.crypt_get,
    "crypt-ranges": crypt.crypt_ranges,
    "crypt-seeks": crypt.crypt_seeks,
    "age-decrypt": age.age_decrypt,
    "pack-large": bundles.pack_large,
    "pack-small": bundles.pack_small,
    "pack-remote": distant.pack_remote,
    "pack-range": distant.pack_range,
    "pack-memory": bundles.pack_memory,
    "get-loopback": downloads.get_loopback,
    "get-tls": downloads.get_tls,
    "get-distant": downloads.get_distant,
    "get-capped": downloads.get_capped,
    "get-trickle": downloads.get_trickle,
    "get-killed": downloads.get_killed,
    "drive-requests": drives.drive_requests,
    "drive-listing": drives.drive_listing,
    "push-small": pushes.push_small,
    "push-large": pushes.push_large,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Playhead beside nginx and rclone.")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=BENCHMARKS, help="of: " + ", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="less of everything; prints, publishes nothing")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"), help="the page (default: %(default)s)")
    return parser.parse_args()


def stop(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    asked = arguments()
    signal.signal(signal.SIGTERM, stop)
    try:
        return measured(asked.only or list(BENCHMARKS), asked.quick, asked.out)
    except KeyboardInterrupt:
        return 130


def measured(names: list[str], quick: bool, out: Path) -> int:
    busy, code = meters.busy_cores(), 0
    machine = f"{ground.machine()}, {busy:.1f} cores busy with other things before the start"
    print(machine)
    if busy > BUSY:
        print("warning: the machine is busy, the figures will say little", file=sys.stderr)
    with ground.laid(ground.QUICK if quick else ground.FULL) as laid:
        for name in names:
            print(f"\n{name}", file=sys.stderr)
            try:
                report = BENCHMARKS[name](laid)
            except FAULTS as reason:
                print(f"{name} cannot be measured: {reason!r}", file=sys.stderr)
                code = 1
                continue
            print(f"\n{report.markdown()}", flush=True)
            if not quick:
                page.publish(out, report, machine, list(BENCHMARKS))
    return code


if __name__ == "__main__":
    sys.exit(main())
