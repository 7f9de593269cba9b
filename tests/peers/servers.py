"""Real HTTP servers on free ports of 127.0.0.1: each a context manager that gives the URL of the folder that it serves.

A server that is not installed here skips the test and says which package brings it. Each must be ready within a
deadline, and is ended by its own process id.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

READY_WITHIN = 10.0
END_WITHIN = 5.0

_NGINX = """
daemon off; master_process off; pid {scratch}/nginx.pid; error_log {scratch}/nginx.log;
events {{ }}
http {{
  access_log off; default_type application/octet-stream;
  client_body_temp_path {scratch}/1; proxy_temp_path {scratch}/2; fastcgi_temp_path {scratch}/3;
  uwsgi_temp_path {scratch}/4; scgi_temp_path {scratch}/5;
  server {{ listen 127.0.0.1:{port}; root "{folder}"; autoindex on; {more} }}
}}
"""

_APACHE = """
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
PidFile {scratch}/apache.pid
ErrorLog {scratch}/apache.log
User "#65534"
Group "#65534"
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule dir_module {modules}/mod_dir.so
LoadModule mime_module {modules}/mod_mime.so
LoadModule autoindex_module {modules}/mod_autoindex.so
TypesConfig /dev/null
DocumentRoot "{folder}"
<Directory "{folder}">
  Options +Indexes
  Require all granted
  {more}
</Directory>
"""
APACHE_MODULES = Path("/usr/lib/apache2/modules")


def program(name: str, package: str) -> str:
    """A server's program: beside this Python, on the path, or among the administrator's; or the test is skipped."""
    places = (str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/sbin:/usr/local/sbin")
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        pytest.skip(f"{name} is missing: install the package {package}")
    return found


@contextmanager
def nginx(folder: Path, scratch: Path, more: str = "charset utf-8;") -> Iterator[str]:
    """nginx with its own list of a folder."""
    port, config = _free_port(), scratch / "nginx.conf"
    config.write_text(_NGINX.format(scratch=scratch, port=port, folder=folder, more=more), "utf-8")
    command = [program("nginx", "nginx-light"), "-p", str(scratch), "-c", str(config), "-e", str(scratch / "nginx.log")]
    with _running(command, port, scratch) as url:
        yield url


def nginx_with_rough_sizes(folder: Path, scratch: Path) -> Iterator[str]:
    return nginx(folder, scratch, "autoindex_exact_size off;")


@contextmanager
def apache(folder: Path, scratch: Path, more: str = "") -> Iterator[str]:
    """Apache with the plain list of mod_autoindex."""
    command = [program("apache2", "apache2-bin"), "-DFOREGROUND", "-f", str(scratch / "apache.conf")]
    if not (APACHE_MODULES / "mod_autoindex.so").exists():
        pytest.skip("the modules of Apache are missing: install the package apache2-bin")
    port = _free_port()
    config = _APACHE.format(scratch=scratch, port=port, folder=folder, modules=APACHE_MODULES, more=more)
    (scratch / "apache.conf").write_text(config, "utf-8")
    with _running(command, port, scratch) as url:
        yield url


def apache_with_a_table(folder: Path, scratch: Path) -> Iterator[str]:
    """Apache with the list that Debian and many others set."""
    return apache(folder, scratch, "IndexOptions FancyIndexing VersionSort HTMLTable NameWidth=* Charset=UTF-8")


@contextmanager
def rclone(folder: Path, scratch: Path) -> Iterator[str]:
    """rclone serve http."""
    port = _free_port()
    command = [program("rclone", "rclone"), "serve", "http", str(folder), "--addr", f"127.0.0.1:{port}"]
    with _running([*command, "--config", str(scratch / "none.conf")], port, scratch) as url:
        yield url


@contextmanager
def python(folder: Path, scratch: Path) -> Iterator[str]:
    """python -m http.server, which knows no ranges."""
    port = _free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder)]
    with _running(command, port, scratch) as url:
        yield url


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _running(command: Sequence[str], port: int, scratch: Path) -> Iterator[str]:
    with (scratch / "said").open("wb") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=scratch)
    try:
        _await(process, port, scratch)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        try:
            process.wait(END_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(END_WITHIN)


def _await(process: "subprocess.Popen[bytes]", port: int, scratch: Path) -> None:
    until = time.monotonic() + READY_WITHIN
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert process.poll() is None, f"it ended at once:\n{(scratch / 'said').read_text()}"
            assert time.monotonic() < until, f"it was not ready within {READY_WITHIN:.0f} s"
            time.sleep(0.02)
