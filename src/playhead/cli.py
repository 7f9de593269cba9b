"""The command line. Every command ends with a code that says what went wrong, and one line that says it."""

import argparse
import asyncio
import contextlib
import io
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playhead.errors import Failure, Malformed
from playhead.version import __version__

if TYPE_CHECKING:
    pass

SOURCE = 'a folder, a file, a URL (ending in "/": a folder), or NAME:path with a tree of the configuration'
CACHE = ("show", "verify", "clear", "pin", "unpin", "warm")
CODES = """exit codes:
  0 all went well     3 not found    6 damaged                         9 some of several failed
  1 a bug of ours     4 denied       7 unavailable: try again later  130 interrupted
  2 usage or config   5 changed      8 the disk is full              141 the reader closed the pipe"""


def parser() -> argparse.ArgumentParser:
    """The arguments of every command."""
    top = argparse.ArgumentParser(
        prog="playhead",
        description="Plays and serves files from where they are kept, from the first byte.",
        epilog=CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"playhead {__version__}")
    commands = top.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)

    serve = _command(commands, "serve", "serve files to browsers and players", _serve)
    serve.add_argument("source", nargs="*", metavar="SOURCE", help=SOURCE)
    serve.add_argument("--listen", metavar="HOST:PORT", help="where to listen (127.0.0.1:4040; port 0: any free one)")
    serve.add_argument("--no-login", action="store_true", help="let in whoever can reach the server")
    serve.add_argument("--browser", action="store_true", help="open the page in a browser")
    serve.add_argument("--downloads", metavar="DIR", help="run a queue of downloads into DIR, and serve it too")
    serve.add_argument("--tls-cert", metavar="FILE", help="serve HTTPS with this certificate (PEM)")
    serve.add_argument("--tls-key", metavar="FILE", help="the certificate's key (PEM)")

    ls = _command(commands, "ls", "list a folder", _ls)
    ls.add_argument("source", metavar="SOURCE", help=SOURCE)
    ls.add_argument("--json", action="store_true", help="as JSON")

    cat = _command(commands, "cat", "write a file, or a part of it, to standard output", _cat)
    cat.add_argument("source", metavar="SOURCE", help=SOURCE)
    cat.add_argument("--offset", type=_count, default=0, metavar="N", help="leave out the first N bytes")
    cat.add_argument("--length", type=_count, metavar="N", help="write N bytes at most")

    pack = _command(commands, "pack", "pack files and folders from anywhere into one tar or zip", _pack)
    pack.add_argument("source", nargs="+", metavar="SOURCE", help=SOURCE)
    kinds = pack.add_mutually_exclusive_group()
    kinds.add_argument("--tar", action="store_true", help="a tar (default, unless FILE ends in .zip)")
    kinds.add_argument("--zip", action="store_true", help="a zip, its members stored as they are")
    pack.add_argument(
        "-o", "--output", metavar="FILE", help="into a file, which can be taken up again (default: a pipe)"
    )
    pack.add_argument("--replace", action="store_true", help="write over a FILE that is there")

    get = _command(commands, "get", "download files and folders, resumable, over as many connections as pay", _get)
    get.add_argument("source", nargs="*", metavar="SOURCE", help=SOURCE)
    get.add_argument("-i", "--input", metavar="FILE", help="read SOURCEs from FILE too, one a line (-: standard input)")
    get.add_argument(
        "-o", "--output", metavar="PATH", help="the file to write, or a folder (one that ends in / is made)"
    )
    get.add_argument("-n", "--streams", type=_positive, metavar="N", help="connections (default: as many as pay)")
    get.add_argument(
        "--proxy", action="append", metavar="URL", help="go through it; repeat it, or add 'direct', for more"
    )
    get.add_argument("--mirror", action="append", metavar="URL", help="the same file on another server, read too")
    get.add_argument(
        "--checksum", metavar="ALG:HEX", help="what the file must be, as sha256:9f86d0... (also md5, crc32)"
    )
    get.add_argument("--limit", type=_rate, metavar="RATE", help="bytes a second of all together, as 2MB or 500KiB")
    get.add_argument("--parts", action="store_true", help="join the SOURCEs, or names like ep[1-12].mp4, into one file")
    get.add_argument(
        "--site", action="store_true", help="SOURCEs are pages; yt-dlp finds what is on them (options: --)"
    )
    there = get.add_mutually_exclusive_group()
    there.add_argument("--overwrite", action="store_true", help="write over a file that is there")
    there.add_argument("--rename", action="store_true", help="take another name where a file is there")
    get.add_argument("--status", action="store_true", help="show what was begun in folders, and fetch nothing")
    get.add_argument(
        "--on-done", metavar="CMD", help="run CMD in a shell for each finished file, $1 and $PLAYHEAD_FILE"
    )
    get.add_argument("--json", action="store_true", help="say what goes on as JSON, one object a line")

    push = _command(commands, "push", "copy a folder to a place that can be written; resumable, verified", _push)
    push.add_argument("folder", metavar="SOURCE", help="what to copy: " + SOURCE)
    push.add_argument("target", metavar="TARGET", help="a folder, or NAME:path with a tree that says `write = true`")
    push.add_argument("-n", "--at-once", type=_positive, default=16, metavar="N", help="files at a time (default: 16)")
    push.add_argument("--overwrite", action="store_true", help="write over other versions that are there")
    push.add_argument("--verify", action="store_true", help="read what is there back, and compare it byte by byte")
    push.add_argument("--dry-run", action="store_true", help="say what would be sent, and send nothing")
    push.add_argument("--json", action="store_true", help="say what goes on as JSON, one object a line")

    cache = _command(commands, "cache", "show what is kept on this disk; verify, clear, pin or warm it", _cache)
    cache.add_argument("doing", nargs="?", default="show", choices=CACHE, metavar="|".join(CACHE), help="default: show")
    cache.add_argument("source", nargs="?", metavar="SOURCE", help="what to pin, unpin or warm: " + SOURCE)

    bring = _command(commands, "import", "bring another program's remotes into the configuration", _import)
    bring.add_argument("program", choices=("rclone",), metavar="rclone", help="whose: rclone's")
    bring.add_argument("file", nargs="?", metavar="FILE", help="the rclone.conf (default: where rclone keeps it)")
    bring.add_argument("--print", action="store_true", dest="only_print", help="show the tables, and write nothing")

    login = _command(commands, "login", "let a tree of the configuration into its Google Drive", _login)
    login.add_argument("name", metavar="NAME", help='the tree, of use = "gdrive"')
    login.add_argument("--headless", action="store_true", help="no browser here: show the address, take the answer")

    doctor = _command(commands, "doctor", "look for what is missing or wrong, and say what to do", _doctor)
    doctor.add_argument("name", nargs="*", metavar="NAME", help="trees to look at (default: all, and the rest)")
    doctor.add_argument("--json", action="store_true", help="as JSON")
    return top


def _command(
    commands: Any, name: str, line: str, act: Callable[[argparse.Namespace], Coroutine[Any, Any, int]]
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=line, description=line[0].upper() + line[1:] + ".")
    made.add_argument("--config", type=Path, metavar="FILE", help="the configuration file")
    made.add_argument("-v", "--verbose", action="store_true", help="one line for each request, sent or received")
    made.set_defaults(act=act)
    return made


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes")
    return int(text)


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1024")
    return int(text)


def _rate(text: str) -> float:
    from playhead.checks import size

    try:
        rate = size(text.removesuffix("/s"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if rate <= 0:
        raise argparse.ArgumentTypeError("nothing would ever come")
    return rate


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    border = given.index("--") if "--site" in given and "--" in given else len(given)
    options = parser().parse_args(given[:border])
    options.site_options = given[border + 1 :]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _run(options)
        sys.stdout.flush()
        return code
    except Failure as failure:
        return _say(failure.told, failure.code)
    except BrokenPipeError:
        with contextlib.suppress(OSError):  # nobody reads any more: nothing is to be flushed at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130


def _say(line: str, code: int) -> int:
    from playhead.secrets import scrub

    print(f"playhead: {scrub(line)}".encode("utf-8", "backslashreplace").decode(), file=sys.stderr)
    return code


def _run(options: argparse.Namespace) -> int:
    from playhead import config, logs

    options.place = options.config
    begins = options.command == "import" and options.config and not options.config.exists()
    options.config = config.Config(folder=options.config.parent) if begins else config.load(options.config)
    log = options.config.log
    logs.begin("info" if options.verbose and log.level != "debug" else log.level, log.format)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            code: int = runner.run(options.act(options))
        except KeyboardInterrupt:
            os._exit(130)  # a thread may still wait for whoever reads our output
    return code


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


# ── serve ──


async def _serve(options: argparse.Namespace) -> int:
    from playhead import serving

    return await serving.run(options)


# ── ls and cat ──


async def _ls(options: argparse.Namespace) -> int:
    from playhead import reading

    return await reading.ls(options.source, options.config, as_json=options.json)


async def _cat(options: argparse.Namespace) -> int:
    from playhead import reading

    return await reading.cat(options.source, options.config, options.offset, options.length)


# ── pack ──


async def _pack(options: argparse.Namespace) -> int:
    from playhead import packs

    by_name = (options.output or "").endswith(".zip") and not options.tar
    kind = "zip" if options.zip or by_name else "tar"
    return await packs.run(options.source, options.config, kind=kind, output=options.output, replace=options.replace)


# ── get ──


async def _get(options: argparse.Namespace) -> int:
    from playhead import gathering, gets

    sources = [*options.source, *await asyncio.to_thread(_lines, options.input)]
    if options.status:
        return await asyncio.to_thread(gets.status, sources, as_json=options.json)
    if not sources:
        raise Malformed("give a SOURCE, or a file of them by -i")
    wanted = gathering.Options(
        output=options.output,
        streams=options.streams,
        proxies=options.proxy or (),
        mirrors=options.mirror or (),
        checksum=options.checksum,
        limit=options.limit,
        exists="overwrite" if options.overwrite else "rename" if options.rename else "refuse",
        parts=options.parts,
        site=options.site_options if options.site else None,
        on_done=options.on_done,
        json=options.json,
    )
    return await gets.run(sources, options.config, wanted)


def _lines(name: str | None) -> list[str]:
    """The SOURCEs in a file: one a line; lines that begin with '#' are remarks."""
    if name is None:
        return []
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = os.strerror(error.errno or 0).lower() if isinstance(error, OSError) else "it is not UTF-8"
        raise Malformed(f"{name!r} cannot be read: {why}") from error
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


# ── push and login ──


async def _push(options: argparse.Namespace) -> int:
    from playhead import pushing

    return await pushing.run(options, options.config)


async def _login(options: argparse.Namespace) -> int:
    from playhead import logins

    return await logins.run(options, options.config)


# ── cache ──


async def _cache(options: argparse.Namespace) -> int:
    from playhead import keeping

    doing, source = options.doing, options.source
    if (doing in ("pin", "unpin", "warm")) != (source is not None):
        raise Malformed(f"`playhead cache {doing}` takes {'no SOURCE' if source else 'a SOURCE'}")
    if doing in ("pin", "unpin", "warm"):
        return await keeping.warm(source, options.config, pin={"pin": True, "unpin": False, "warm": None}[doing])
    act = {"show": keeping.show, "verify": keeping.verify, "clear": keeping.clear}[doing]
    return await asyncio.to_thread(act, options.config)


# ── import ──


async def _import(options: argparse.Namespace) -> int:
    from playhead import config, importing

    place = options.place or config.default_path()
    return await asyncio.to_thread(importing.run, options.file, options.config, place, only_print=options.only_print)


# ── doctor ──


async def _doctor(options: argparse.Namespace) -> int:
    from playhead import doctor

    return await doctor.examine(options.config, options.name, as_json=options.json)
