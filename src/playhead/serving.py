"""`playhead serve`: the trees, the queue of downloads and the server, put together and taken apart."""

import argparse
import asyncio
import os
from pathlib import Path

from playhead import assemble
from playhead.app.auth import REMEDY, is_loopback
from playhead.app.items import Start
from playhead.app.site import Site
from playhead.config import Config
from playhead.doors import server
from playhead.errors import Malformed
from playhead.starting import Starting
from playhead.works import Works


async def run(options: argparse.Namespace) -> int:
    """Serve until it is ended; returns the exit code."""
    config: Config = options.config
    host, port = _address(config.listen if options.listen is None else options.listen)
    if not options.no_login and not is_loopback(host):
        raise Malformed(f"{host} can be reached by others, and there is no user who could log in; {REMEDY}")
    tls = _tls(options.tls_cert or _beside(config, config.tls_cert), options.tls_key or _beside(config, config.tls_key))
    works = Works(config)
    try:
        folder, start = _downloads(options)
        login = not options.no_login
        site = await assemble.site(options.source, config, works, login=login, downloads=folder, start=start)
        return await _served(site, host, port, tls, options, works)
    finally:
        await works.aclose()


async def _served(
    site: Site, host: str, port: int, tls: tuple[str, str] | None, options: argparse.Namespace, works: Works
) -> int:
    try:
        sock = server.listen(host, port)
    except OSError as error:
        raise Malformed(f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0).lower()}") from error
    works.begin()
    config: Config = options.config
    url = _shown_url(bool(tls), host, sock.getsockname()[1], config.prefix)

    def ready() -> None:
        print(url, flush=True)
        if options.browser:
            import webbrowser

            asyncio.get_running_loop().run_in_executor(None, webbrowser.open, url)

    try:
        return await server.serve(site, sock, tls=tls, ready=ready)
    finally:
        if site.downloads is not None:
            await site.downloads.queue.aclose()
        if site.uploads is not None:
            await site.uploads.aclose()
        for tree in site.trees.values():
            await tree.aclose()


def _downloads(options: argparse.Namespace) -> tuple[Path | None, Start | None]:
    """The folder of the queue, and what starts its downloads; neither, where there is to be no queue."""
    config: Config = options.config
    named = options.downloads or config.downloads.folder
    if not named:
        return None, None
    place = Path(named).expanduser()
    return place if options.downloads else config.folder / place, Starting(config)


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise Malformed(f"{text!r} is not HOST:PORT, as 127.0.0.1:4040 or [::1]:4040 is")
    if not host.strip("[]"):
        raise Malformed(f"{text!r} names no host; 127.0.0.1{text} is this machine, 0.0.0.0{text} all that reach it")
    return host.strip("[]"), int(port)


def _beside(config: Config, path: str | None) -> str | None:
    return str(config.folder / path) if path else None


def _tls(cert: str | None, key: str | None) -> tuple[str, str] | None:
    if not cert and not key:
        return None
    if not cert or not key:
        raise Malformed("a certificate needs its key, and a key its certificate: give --tls-cert and --tls-key")
    try:
        server.certificate(cert, key)
    except OSError as error:  # ssl.SSLError is one
        raise Malformed(f"{cert} and {key} are not a certificate and its key: {error.strerror or error}") from error
    return cert, key


def _shown_url(tls: bool, host: str, port: int, prefix: str) -> str:
    return f"http{'s' if tls else ''}://{f'[{host}]' if ':' in host else host}:{port}{prefix}/"
