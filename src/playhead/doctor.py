"""`playhead doctor`: looks at this machine and at each source, and says what to do about what is wrong."""

import asyncio
import importlib.util
import os
import resource
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

from playhead import assemble, secrets
from playhead.config import Config, default_path
from playhead.errors import Failure

DEADLINE = 20.0  # seconds for one source

Finding = tuple[str, str]  # "ok", "note" or "wrong", and a line


async def examine(config: Config) -> int:
    """Print every finding; returns the exit code: 0, or 9 where something is wrong."""
    findings = [*_machine(), *_configuration(config)]
    findings += await asyncio.gather(*(_source(name, config) for name in config.tree))
    for mark, line in findings:
        print(f"{mark:>5}  {secrets.scrub(line)}")
    return 9 if any(mark == "wrong" for mark, _ in findings) else 0


def _machine() -> Iterator[Finding]:
    yield "ok", f"Python {sys.version.split()[0]} with {ssl.OPENSSL_VERSION}"
    for name, what in [("uvloop", "serving is faster with it"), ("aiohttp_socks", "SOCKS proxies need it")]:
        if importlib.util.find_spec(name) is None:
            yield "note", f"the package {name} is not installed; {what}"
    if not hasattr(os, "sendfile"):
        yield "note", "this system has no sendfile: files are copied through the program, which costs more"
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < 4096:
        yield (
            "note",
            f"only {hard} files may be open at once: at most {(hard - 256) // 2} connections; see `ulimit -Hn`",
        )
    state = secrets.state_folder()
    if not _writable(state):
        yield "wrong", f"{state} cannot be written; make it yours, or set XDG_STATE_HOME"


def _writable(folder: Path) -> bool:
    while not folder.exists():
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)


def _configuration(config: Config) -> Iterator[Finding]:
    if config.tree:
        yield "ok", f"the configuration names {len(config.tree)} trees: {', '.join(sorted(config.tree))}"
    else:
        yield "note", f"there is no tree in the configuration ({default_path()}); give `serve` a folder or a URL"


async def _source(name: str, config: Config) -> Finding:
    try:
        tree = assemble.Trees(config).named(name)
        try:
            async with asyncio.timeout(DEADLINE):
                await assemble.readable(tree)
        finally:
            await tree.aclose()
    except Failure as failure:
        return "wrong", f"tree {name}: {failure}"
    except TimeoutError:
        return "wrong", f"tree {name}: no answer within {DEADLINE:.0f} s; is it reachable from this machine?"
    return "ok", f"tree {name}: reachable and readable"
