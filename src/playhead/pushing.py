"""`playhead push`: the files below a folder from anywhere, into a place that can be written.

What goes on is said as one line on a terminal, as a line now and then elsewhere, or as JSON, one object a line.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

from playhead.assemble import Trees
from playhead.config import NAME, Config
from playhead.doors import sent
from playhead.doors.push import Event, Summary, push
from playhead.errors import Failure, Malformed
from playhead.origins.local import LocalTree
from playhead.origins.remote import Remote
from playhead.progress import amount, bar
from playhead.secrets import fingerprint, scrub, state_folder
from playhead.tree import Tree, join, visible

TOLD = 5.0  # seconds between lines of progress that are not on a terminal
LIVE = 0.2  # and on one
INTO = "the target lies in the folder that is pushed: it would be pushed into itself"
RECENT = 10.0  # seconds that the rate is of


async def run(options: argparse.Namespace, config: Config) -> int:
    """Push `options.folder` to `options.target`; returns the exit code.

    Also of the options: at_once, overwrite, verify, dry_run, json.
    """
    known = Trees(config)
    source, folder = known.source(options.folder, keep=False)
    target, to = known.store(options.target)
    teller = Teller(options.folder, options.target, as_json=options.json, dry_run=options.dry_run)
    task = asyncio.current_task()
    with suppress(NotImplementedError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel if task else lambda: None)
    journal = None
    try:
        _refuse_circle(source, folder, target, to)
        same = _named(options.folder) == _named(options.target) != ""
        if same and f"{to}/".startswith(f"{folder}/" if folder else ""):
            raise Malformed(INTO)
        journal = await asyncio.to_thread(sent.opened, _journal(source, folder, target, to, options, config))
        return await _pushed(source, folder, target, to, options, journal, teller)
    except asyncio.CancelledError:
        teller.say("interrupted; the same command goes on from here")
        raise KeyboardInterrupt from None
    finally:
        teller.end()
        if journal is not None:
            journal.close()
        await source.aclose()
        await target.aclose()


async def _pushed(
    source: Tree,
    folder: str,
    target: Tree,
    to: str,
    options: argparse.Namespace,
    journal: sent.Journal,
    teller: "Teller",
) -> int:
    ticking = asyncio.create_task(teller.run())
    try:
        summary = await push(
            source,
            folder,
            target,
            to,
            at_once=_at_once(source, target, options.at_once),
            overwrite=options.overwrite,
            verify=options.verify,
            dry_run=options.dry_run,
            journal=journal,
            told=teller.told,
        )
    except Failure as failure:
        failure.add_note("the same command goes on from here")
        raise
    finally:
        ticking.cancel()
    return summary.code


def _named(text: str) -> str:
    """The tree that a SOURCE names; "" where it names none."""
    name, colon, _ = text.partition(":")
    return name if colon and NAME.fullmatch(name) else ""


def _remote(tree: Tree) -> Remote | None:
    """The origin behind a network that a tree is of, where it is of one."""
    while not isinstance(tree, Remote):
        below = getattr(tree, "tree", None)
        if not isinstance(below, Tree):
            return None
        tree = below
    return tree


def _at_once(source: Tree, target: Tree, wanted: int) -> int:
    """How many files at a time: each needs two connections where one place gives and takes. Raises Malformed."""
    one, other = _remote(source), _remote(target)
    if one is None or other is None or one.traffic.limits is not other.traffic.limits:
        return wanted
    most = one.traffic.limits.connections
    if most is not None and most < 3:
        raise Malformed(f"{one.place} gives and takes: that needs `connections` of 3 at least, and not {most}")
    return wanted if most is None else min(wanted, (most - 1) // 2)


def _place(tree: Tree, path: str) -> str | None:
    """Where on this machine something is, also under what is over it; None: it is elsewhere."""
    if isinstance(tree, LocalTree):
        return os.path.realpath(join(tree.root, path))
    return None


def _refuse_circle(source: Tree, folder: str, target: Tree, to: str) -> None:
    """Raises Malformed where what is written would be read again."""
    here, there = _place(source, folder), _place(target, to)
    while there is None and isinstance(below := getattr(target, "tree", None), Tree):
        target, there = below, _place(below, "")  # a tree over another writes somewhere below it
    if here is not None and there is not None and f"{there}/".startswith(f"{here.rstrip('/')}/"):
        raise Malformed(INTO)


def _journal(source: Tree, folder: str, target: Tree, to: str, options: argparse.Namespace, config: Config) -> Path:
    """The journal of a source and a target, whose name tells neither."""
    here, there = _place(source, folder) or options.folder, _place(target, to) or options.target
    name = fingerprint("push", str(config.folder), here, there)
    return state_folder() / "push" / f"{name}.journal"


class Teller:
    """Says what goes on."""

    def __init__(self, source: str, target: str, *, as_json: bool, dry_run: bool) -> None:
        self.source, self.target, self.as_json, self.dry_run = source, target, as_json, dry_run
        self.live = not as_json and sys.stderr.isatty()
        self.began = time.monotonic()
        self.summary: Summary | None = None
        self.recent: deque[tuple[float, int]] = deque()
        self.wide = 0

    def told(self, event: Event) -> None:
        """Something happened."""
        self.summary = event.summary
        if self.as_json:
            self._json(event)
        elif event.kind == "failed" and event.failure is not None:
            line, name = event.failure.told, visible(event.path)
            self.say(line if name in line or repr(event.path) in line else f"{name}: {line}")
        elif event.kind == "done" and event.how == "would":
            self._clear()
            print(f"{visible(event.path)}: {amount(event.size or 0)}", flush=True)
        elif event.kind == "summary":
            self.say(self._result(event.summary))

    def say(self, line: str) -> None:
        """Something that a person should know."""
        if self.as_json:
            print(json.dumps({"event": "note", "message": scrub(line)}), flush=True)
            return
        self._clear()
        print(f"playhead: {scrub(line)}".encode("utf-8", "backslashreplace").decode(), file=sys.stderr, flush=True)

    def _json(self, event: Event) -> None:
        what: dict[str, object] = {"event": event.kind}
        if event.kind == "begin":
            what |= {"source": scrub(self.source), "target": scrub(self.target), "dry_run": self.dry_run}
        elif event.kind == "summary":
            done = event.summary
            what |= {name: getattr(done, name) for name in ("found", "sent", "copied", "already", "failed")}
            what |= {"bytes": done.sent_bytes, "seconds": round(time.monotonic() - self.began, 3)}
        else:
            what["path"] = event.path
            if event.failure is not None:
                what |= {"message": scrub(event.failure.told), "code": event.failure.code}
            else:
                what |= {"size": event.size} | ({"how": event.how} if event.how else {})
        print(json.dumps(what), flush=True)

    def _result(self, done: Summary) -> str:
        counts = [
            f"{done.sent:,} {'would be ' * self.dry_run}sent ({amount(done.sent_bytes)})",
            *([f"{done.copied:,} copied there"] if done.copied else []),
            f"{done.already:,} already there",
            f"{done.failed:,} failed",
        ]
        left = done.found - done.sent - done.copied - done.already - done.failed
        more = f", {left:,} of those found not done" if left > 0 else ""
        return f"{', '.join(counts)}{more}, in {time.monotonic() - self.began:.1f} s"

    # ── progress ──

    async def run(self) -> None:
        """Progress, until it is cancelled."""
        while not self.as_json:
            await asyncio.sleep(LIVE if self.live else TOLD)
            if self.summary is None:
                continue
            line = self._line(self.summary)
            if self.live:
                self._clear()
                self.wide = min(len(line), os.get_terminal_size(sys.stderr.fileno()).columns - 1)
                print(line[: self.wide], end="\r", file=sys.stderr, flush=True)
            else:
                self.say(line)

    def _line(self, done: Summary) -> str:
        now, certain, given = time.monotonic(), done.certain, done.given
        self.recent.append((now, given))
        while now - self.recent[0][0] > RECENT:
            self.recent.popleft()
        since, before = self.recent[0]
        rate = max(0.0, (given - before) / (now - since)) if now - since > 0.5 else 0.0
        share = certain / done.size if done.size else 0.0
        so_far = "" if done.listed else " so far"
        left = f", {int((done.size - certain) / rate)} s left" if rate and done.listed else ""
        way = f", {amount(given - certain)} on its way" if given > certain else ""
        files = f"{done.sent + done.copied + done.already:,} of {done.found:,} files{so_far}"
        failed = f", {done.failed:,} failed" if done.failed else ""
        what = f"{amount(certain)} of {amount(done.size)}{way}, {amount(rate)}/s{left}, {files}{failed}"
        return f"[{bar(share, 20)}] {share:.0%} {what}"

    def _clear(self) -> None:
        if self.live and self.wide:
            print(" " * self.wide, end="\r", file=sys.stderr)
            self.wide = 0

    def end(self) -> None:
        self._clear()
