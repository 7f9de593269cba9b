"""The servers that are compared: each a context manager that gives a running `Server` and ends it on the way out.

A server gets its own process group, so that its workers are measured and ended with it. Every peer runs with its best
settings for this work; rclone also runs as it comes, because that is what most people have. The gateways read from an
nginx that lists the folder; they keep nothing, unless they are said to: those keep what was read in `scratch`.
"""

import http.client
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

READY_WITHIN = 30.0
END_WITHIN = 5.0
SOURCES = Path(__file__).resolve().parent.parent / "src"
RCLONE_BEST = ("--no-checksum", "--buffer-size", "0")
# Asks upstream for about what the client asked, so that connections are kept; a long read pays with more requests.
RCLONE_SMALL = (*RCLONE_BEST, "--vfs-read-chunk-size", "64Ki")
# Several connections to an origin that is slow on each.
RCLONE_MANY = ("--vfs-read-chunk-streams", "16", "--vfs-read-chunk-size", "4M")
KEPT_SIZE = "4GiB"
PASSWORD, SALT = "correct horse battery", "staple"  # of what rclone encrypts


class Missing(Exception):
    """The peer is not installed here."""


class Broken(Exception):
    """The server did not do what was measured; the figure would be wrong."""


@dataclass(frozen=True, slots=True)
class Certificate:
    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    base: str
    group: int

    def url(self, file: str) -> str:
        return self.base + file


class Start(Protocol):
    """Start a server on a folder, or on the URL of one, using `scratch` for its own files."""

    def __call__(
        self, source: str, scratch: Path, certificate: Certificate | None = None
    ) -> AbstractContextManager[Server]: ...


def program(name: str) -> str:
    """A peer's program: beside this Python (a package brought it), on the path, or among the administrator's."""
    places = (str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/sbin:/usr/local/sbin")
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        raise Missing(name)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    name: str, command: list[str], base: str, scratch: Path, extra: Mapping[str, str] | None = None
) -> Iterator[Server]:
    log = scratch / f"{name.replace(' ', '-').replace(',', '')}-{urlsplit(base).port}.log"
    with log.open("wb") as out:
        environment = {**os.environ, **(extra or {})}
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, env=environment
        )
    try:
        wait_ready(process, name, base, log)
        yield Server(name, base, process.pid)
    finally:
        end(process)


def wait_ready(process: subprocess.Popen[bytes], name: str, base: str, log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if answers(base):
            return
        time.sleep(0.05)
    lines = log.read_text(errors="replace").strip().splitlines()
    raise Broken(f"{name} did not start: {lines[-1] if lines else 'it said nothing'}")


def answers(base: str) -> bool:
    try:
        connection = connect(base, timeout=2.0)
        connection.request("GET", urlsplit(base).path)
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False


def connect(url: str, timeout: float) -> http.client.HTTPConnection:
    where = urlsplit(url)
    assert where.hostname is not None
    if where.scheme == "https":
        return http.client.HTTPSConnection(where.hostname, where.port, timeout=timeout, context=any_certificate())
    return http.client.HTTPConnection(where.hostname, where.port, timeout=timeout)


def any_certificate() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def end(process: subprocess.Popen[bytes]) -> None:
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
            process.wait(END_WITHIN)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait(END_WITHIN)


def scheme(certificate: Certificate | None) -> str:
    return "https" if certificate else "http"


def playhead(source: str, scratch: Path, certificate: Certificate | None = None) -> AbstractContextManager[Server]:
    """Playhead on a folder, or, when the source is a URL, as a gateway that keeps nothing."""
    return playing(PLAYHEAD, source, scratch, certificate, kept=False)


def playhead_kept(source: str, scratch: Path, certificate: Certificate | None = None) -> AbstractContextManager[Server]:
    """Playhead as a gateway that keeps what was read, in a folder of its own."""
    return playing(PLAYHEAD_KEPT, source, scratch, certificate, kept=True)


def playhead_crypt(
    source: str, scratch: Path, certificate: Certificate | None = None
) -> AbstractContextManager[Server]:
    """Playhead as a gateway to what rclone encrypted, that keeps nothing."""
    return playing(PLAYHEAD_CRYPT, source, scratch, certificate, kept=False, crypt=True)


def playhead_crypt_kept(
    source: str, scratch: Path, certificate: Certificate | None = None
) -> AbstractContextManager[Server]:
    """The same, but it keeps what was read, encrypted as it came."""
    return playing(PLAYHEAD_CRYPT_KEPT, source, scratch, certificate, kept=True, crypt=True)


def playing(
    name: str, source: str, scratch: Path, certificate: Certificate | None, kept: bool, crypt: bool = False
) -> AbstractContextManager[Server]:
    port = free_port()
    home, remote = scratch / f"playhead-{port}", "://" in source
    command = [sys.executable, "-m", "playhead", "serve", *([] if remote else [source])]
    command += ["--listen", f"127.0.0.1:{port}"]
    if certificate:
        command += ["--tls-cert", str(certificate.cert), "--tls-key", str(certificate.key)]
    # Nobody's own configuration or cache may colour the figures.
    extra = {f"XDG_{kind}_HOME": str(home / kind.lower()) for kind in ("CONFIG", "DATA", "CACHE", "STATE")}
    extra["PLAYHEAD_CONFIG"] = str(home / "playhead.toml")
    extra["PYTHONPATH"] = os.pathsep.join(filter(None, (str(SOURCES), os.environ.get("PYTHONPATH"))))
    home.mkdir()
    (home / "playhead.toml").write_text(gateway(source, home, kept, crypt) if remote else "")
    return running(name, command, f"{scheme(certificate)}://127.0.0.1:{port}/files/music/", scratch, extra)


def gateway(source: str, home: Path, kept: bool, crypt: bool) -> str:
    """The configuration of a remote tree, called as a SOURCE of the command line would be."""
    tree = f'[tree.music]\nuse = "web"\nurl = "{source}"\n'
    if crypt:
        tree = f'[tree.store]\nuse = "web"\nurl = "{source}"\nserve = false\n\n[tree.music]\nuse = "rclone-crypt"\n'
        tree += f'over = "store"\npassword = "{PASSWORD}"\npassword2 = "{SALT}"\n'
    if not kept:
        return f"{tree}keep = false\n"
    return f'{tree}\n[reservoir]\nsize = "{KEPT_SIZE}"\nfolder = "{home / "kept"}"\n'


def nginx(source: str, scratch: Path, certificate: Certificate | None = None) -> AbstractContextManager[Server]:
    """nginx on a folder, or, when the source is a URL, as a reverse proxy of it."""
    location = proxying(source) if "://" in source else f"root {source}; autoindex on;"
    return configured(NGINX, location, source, scratch, certificate)


def nginx_slice(source: str, scratch: Path, certificate: Certificate | None = None) -> AbstractContextManager[Server]:
    """nginx as a reverse proxy that keeps slices of 1 MiB."""
    kept = Path(tempfile.mkdtemp(prefix="nginx-kept-", dir=scratch))
    kept.chmod(0o755)
    path = f"proxy_cache_path {kept} levels=1:2 keys_zone=kept:64m max_size=4g inactive=1h use_temp_path=off;"
    return configured(NGINX_SLICE, slicing(source), source, scratch, certificate, http=path, files=20000)


def configured(
    name: str,
    location: str,
    source: str,
    scratch: Path,
    certificate: Certificate | None,
    http: str = "",
    files: int = 100,
) -> AbstractContextManager[Server]:
    """nginx with this location, more lines for all of HTTP, and room for so many open files in its cache of them."""
    nginx_program, port = program("nginx"), free_port()
    tls = f"ssl_certificate {certificate.cert}; ssl_certificate_key {certificate.key};" if certificate else ""
    upstream = f"upstream origin {{ server {urlsplit(source).netloc}; keepalive 256; }}" if "://" in source else ""
    home = scratch / f"nginx-{port}"
    home.mkdir()
    (home / "nginx.conf").write_text(f"""
{"user root;" if os.geteuid() == 0 else ""}
daemon off; worker_processes 1; worker_rlimit_nofile 20000; pid {home}/pid; error_log {home}/error.log;
events {{ worker_connections {max(10000, files)}; multi_accept on; }}
http {{
    access_log off; sendfile on; tcp_nopush off; tcp_nodelay on; default_type application/octet-stream;
    keepalive_timeout 300; keepalive_requests 1000000000; send_timeout 300; open_file_cache max={files};
    client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
    {http}
    {upstream}
    server {{
        listen 127.0.0.1:{port} {"ssl" if certificate else ""} backlog=4096;
        {tls}
        location / {{ {location} }}
    }}
}}
""")
    command = [nginx_program, "-p", str(home), "-c", str(home / "nginx.conf"), "-e", str(home / "error.log")]
    return running(name, command, f"{scheme(certificate)}://127.0.0.1:{port}/", scratch)


def proxying(source: str) -> str:
    path = urlsplit(source).path
    return f"""proxy_pass http://origin{path}; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_buffering on; proxy_buffer_size 64k; proxy_buffers 4 4m; proxy_busy_buffers_size 8m;
            proxy_max_temp_file_size 0; proxy_read_timeout 300;"""


def slicing(source: str) -> str:
    path = urlsplit(source).path
    return f"""slice 1m; proxy_cache kept; proxy_cache_key $uri$is_args$args$slice_range; proxy_cache_valid 200 206 1h;
            proxy_cache_lock on; proxy_set_header Range $slice_range; proxy_pass http://origin{path};
            proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffer_size 64k; proxy_buffers 8 64k;
            proxy_busy_buffers_size 128k; proxy_read_timeout 300;"""


def crypted(remote: str) -> str:
    """A crypt remote over another, or over a folder, as rclone is told of it."""
    command = [program("rclone"), "--config", os.devnull, "obscure"]
    hidden = [subprocess.run([*command, text], capture_output=True, check=True, text=True) for text in (PASSWORD, SALT)]
    password, password2 = (done.stdout.strip() for done in hidden)
    return f':crypt,remote="{remote}",password={password},password2={password2}:'


def rclone(name: str, options: tuple[str, ...], crypt: bool = False) -> Start:
    """rclone with these options, on a folder or, when the source is a URL, on its HTTP remote, or a crypt over that."""

    def start(source: str, scratch: Path, certificate: Certificate | None = None) -> AbstractContextManager[Server]:
        port = free_port()
        where = [":http:", "--http-url", source] if "://" in source else [source]
        where = [crypted(f":http,url='{source}':")] if crypt else where
        tls = ["--cert", str(certificate.cert), "--key", str(certificate.key)] if certificate else []
        command = [program("rclone"), "serve", "http", *where, "--addr", f"127.0.0.1:{port}", "--config", os.devnull]
        return running(name, [*command, *tls, *options], f"{scheme(certificate)}://127.0.0.1:{port}/", scratch)

    return start


def rclone_kept(name: str, options: tuple[str, ...]) -> Start:
    """rclone that keeps what was read, in a folder of its own."""

    def start(source: str, scratch: Path, certificate: Certificate | None = None) -> AbstractContextManager[Server]:
        kept = tempfile.mkdtemp(prefix="rclone-kept-", dir=scratch)
        keeping = ("--vfs-cache-mode", "full", "--cache-dir", kept)
        return rclone(name, (*options, *keeping))(source, scratch, certificate)

    return start


PLAYHEAD, NGINX = "playhead", "nginx"
RCLONE, RCLONE_TUNED, RCLONE_CHUNKS = "rclone", "rclone, tuned", "rclone, small chunks"
PLAYHEAD_KEPT, NGINX_SLICE = "playhead, keeping", "nginx slice"
RCLONE_FULL, RCLONE_STREAMS = "rclone vfs full", "rclone vfs full, 16 streams"
PLAYHEAD_CRYPT, PLAYHEAD_CRYPT_KEPT = "playhead crypt", "playhead crypt, keeping"
RCLONE_CRYPT, RCLONE_CRYPT_TUNED = "rclone crypt", "rclone crypt, tuned"
RCLONE_CRYPT_CHUNKS = "rclone crypt, small chunks"
EVERY: Mapping[str, Start] = {
    PLAYHEAD: playhead,
    NGINX: nginx,
    RCLONE: rclone(RCLONE, ()),
    RCLONE_TUNED: rclone(RCLONE_TUNED, RCLONE_BEST),
    RCLONE_CHUNKS: rclone(RCLONE_CHUNKS, RCLONE_SMALL),
    PLAYHEAD_KEPT: playhead_kept,
    NGINX_SLICE: nginx_slice,
    RCLONE_FULL: rclone_kept(RCLONE_FULL, RCLONE_BEST),
    RCLONE_STREAMS: rclone_kept(RCLONE_STREAMS, (*RCLONE_BEST, *RCLONE_MANY)),
    PLAYHEAD_CRYPT: playhead_crypt,
    PLAYHEAD_CRYPT_KEPT: playhead_crypt_kept,
    RCLONE_CRYPT: rclone(RCLONE_CRYPT, (), crypt=True),
    RCLONE_CRYPT_TUNED: rclone(RCLONE_CRYPT_TUNED, RCLONE_BEST, crypt=True),
    RCLONE_CRYPT_CHUNKS: rclone(RCLONE_CRYPT_CHUNKS, RCLONE_SMALL, crypt=True),
}
