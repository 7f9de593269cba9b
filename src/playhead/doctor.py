"""`playhead doctor`: looks at this machine and at each source, and says what to do about what is wrong."""

import asyncio
import importlib.util
import json
import os
import resource
import ssl
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from playhead import diagnoses, secrets
from playhead.config import Config, default_path
from playhead.diagnoses import Finding
from playhead.errors import Malformed
from playhead.tree import visible


async def examine(config: Config, names: Sequence[str] = (), *, as_json: bool = False) -> int:
    """Print every finding, of all or of these trees; returns the exit code: 0, or 9 where something is wrong.

    Raises Malformed where there is no such tree.
    """
    for name in names:
        if name not in config.tree:
            known = ", ".join(sorted(config.tree)) or "none"
            raise Malformed(f"{visible(name)!r} is not a tree of the configuration (known: {known})")
    findings = [] if names else [*_machine(), *_configuration(config)]
    for found in await asyncio.gather(
        *(diagnoses.examined(name, config) for name in dict.fromkeys(names or config.tree))
    ):
        findings += found
    _print(findings, as_json=as_json)
    return 9 if any(finding.mark == "wrong" for finding in findings) else 0


def _print(findings: Sequence[Finding], *, as_json: bool) -> None:
    if as_json:
        told = [{"tree": one.tree, "mark": one.mark, "text": secrets.scrub(one.text)} for one in findings]
        print(json.dumps({"findings": told}, indent=1))
        return
    for one in findings:
        print(f"{one.mark:>5}  {f'tree {one.tree}: ' if one.tree else ''}{secrets.scrub(one.text)}")


def _machine() -> Iterator[Finding]:
    yield Finding("ok", f"Python {sys.version.split()[0]} with {ssl.OPENSSL_VERSION}")
    for name, what in [("uvloop", "serving is faster with it"), ("aiohttp_socks", "SOCKS proxies need it")]:
        if importlib.util.find_spec(name) is None:
            yield Finding("note", f"the package {name} is not installed; {what}")
    if not hasattr(os, "sendfile"):
        yield Finding("note", "this system has no sendfile: files are copied through the program, which costs more")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < 4096:
        most = f"at most {(hard - 256) // 2} connections; see `ulimit -Hn`"
        yield Finding("note", f"only {hard} files may be open at once: {most}")
    state = secrets.state_folder()
    if not _writable(state):
        yield Finding("wrong", f"{state} cannot be written; make it yours, or set XDG_STATE_HOME")


def _writable(folder: Path) -> bool:
    while not folder.exists():
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)


def _configuration(config: Config) -> Iterator[Finding]:
    if config.tree:
        yield Finding("ok", f"the configuration names {len(config.tree)} trees: {', '.join(sorted(config.tree))}")
    else:
        where = default_path()
        yield Finding("note", f"there is no tree in the configuration ({where}); give `serve` a folder or a URL")
