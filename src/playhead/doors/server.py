"""Our uvicorn: `connection` is its protocol; here it is configured, given its memory and descriptors, and ended."""

import asyncio
import ctypes
import gc
import resource
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn

from playhead.doors.connection import IDLE_SECONDS, PlayheadProtocol


class Server(uvicorn.Server):
    """uvicorn, ended by SIGTERM (0) or SIGINT (130) without dying of the signal."""

    signalled = 0
    ready: Callable[[], None] | None = None  # called when it listens, and signals end it as they should

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.ready:
            self.ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def handle_exit(self, sig: int, frame: Any) -> None:
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True
        self.signalled = self.signalled or sig


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=4096, reuse_port=False)


async def serve(
    app: Any, sock: socket.socket, *, tls: tuple[str, str] | None = None, ready: Callable[[], None] | None = None
) -> int:
    """Serve an ASGI application on a socket until SIGTERM or SIGINT; returns the exit code."""
    server = uvicorn_of(app, tls=tls, descriptors=raise_limit())
    keep_memory()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # the defaults double p99 at 64 connections
    server.ready = ready
    await server.serve(sockets=[sock])
    return 130 if server.signalled == signal.SIGINT else 0


def uvicorn_of(app: Any, *, tls: tuple[str, str] | None = None, descriptors: int = 1024) -> Server:
    """Our uvicorn for an application, with two descriptors for each connection."""
    config = uvicorn.Config(
        app,
        http=PlayheadProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=int(IDLE_SECONDS),
        timeout_graceful_shutdown=3,
        limit_concurrency=max(64, (descriptors - 256) // 2),
        ssl_certfile=tls[0] if tls else None,
        ssl_keyfile=tls[1] if tls else None,
    )
    config.load()
    return Server(config)


def raise_limit() -> int:
    """Allow this process all the descriptors that the system lets it have; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard if hard != resource.RLIM_INFINITY else 1 << 20, 1 << 20)
    if wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)


def keep_memory() -> None:
    """Tell glibc to keep freed memory: giving pages back and faulting them in anew costs half of passing on bytes."""
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(-1, 256 << 20)  # M_TRIM_THRESHOLD
        mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD


def certificate(cert: str, key: str) -> None:
    """Raises OSError or ssl.SSLError where these are not a certificate and its key."""
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key)
