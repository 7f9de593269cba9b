"""Real WebDAV servers on free ports of 127.0.0.1: each a context manager that gives the URL of the folder that it has.

See `servers`, whose way of starting and ending they share. `USER` and `PASSWORD` are what they want to be told.
"""

from base64 import b64encode
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from hashlib import sha1
from pathlib import Path

import pytest

from tests.peers.servers import APACHE_MODULES, _free_port, _running, program

USER, PASSWORD = "ann", "p:ss wörd"

_APACHE = """
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
PidFile {scratch}/apache.pid
ErrorLog {scratch}/apache.log
DavLockDB {scratch}/locks
User "#65534"
Group "#65534"
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authn_core_module {modules}/mod_authn_core.so
LoadModule authn_file_module {modules}/mod_authn_file.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule authz_user_module {modules}/mod_authz_user.so
LoadModule auth_basic_module {modules}/mod_auth_basic.so
LoadModule dir_module {modules}/mod_dir.so
LoadModule mime_module {modules}/mod_mime.so
LoadModule autoindex_module {modules}/mod_autoindex.so
LoadModule dav_module {modules}/mod_dav.so
LoadModule dav_fs_module {modules}/mod_dav_fs.so
TypesConfig /dev/null
DocumentRoot "{folder}"
StartServers 1
<Directory "{folder}">
  Dav On
  Options +Indexes
  AuthType Basic
  AuthName test
  AuthUserFile {scratch}/users
  Require valid-user
</Directory>
"""


@contextmanager
def apache(folder: Path, scratch: Path) -> Iterator[str]:
    """Apache's mod_dav. Folder and scratch have to be writable by everybody: it does not stay root."""
    command = [program("apache2", "apache2-bin"), "-DFOREGROUND", "-f", str(scratch / "apache.conf")]
    if not (APACHE_MODULES / "mod_dav_fs.so").exists():
        pytest.skip("the modules of Apache are missing: install the package apache2-bin")
    port = _free_port()
    digest = b64encode(sha1(PASSWORD.encode(), usedforsecurity=False).digest()).decode()
    (scratch / "users").write_text(f"{USER}:{{SHA}}{digest}\n", "utf-8")
    config = _APACHE.format(scratch=scratch, port=port, folder=folder, modules=APACHE_MODULES)
    (scratch / "apache.conf").write_text(config, "utf-8")
    with _running(command, port, scratch) as url:
        yield url


@contextmanager
def rclone(folder: Path, scratch: Path, *more: str) -> Iterator[str]:
    """rclone serve webdav; every change of the folder is seen at once."""
    port = _free_port()
    command = [program("rclone", "rclone"), "serve", "webdav", str(folder), "--addr", f"127.0.0.1:{port}"]
    command += ["--user", USER, "--pass", PASSWORD, "--dir-cache-time", "0s", "--config", str(scratch / "none.conf")]
    with _running([*command, *more], port, scratch) as url:
        yield url


def rclone_with_md5(folder: Path, scratch: Path) -> AbstractContextManager[str]:
    """The same, whose ETags are digests of the bytes."""
    return rclone(folder, scratch, "--etag-hash", "MD5")
