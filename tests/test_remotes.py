"""`playhead import rclone` of the places where people keep files: the trees that come of it hold what rclone reads.

Before the real rclone's servers, and before the fake Drive that rclone takes for Google's.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from playhead.origins.drive import granted
from tests.fakes.gdrive import FakeDrive, threaded
from tests.peers import davs, servers
from tests.peers.crypts import on_disk, put
from tests.test_cli import own_logs as own_logs
from tests.test_importing import (
    CLEAR,
    MORE,
    Bring,
    as_rclone,
    check,
    create,
    crypt,
    mode,
    obscured,
    rclone,
    snapshot,
    tables,
    without_rclone,
)
from tests.test_importing import bring as bring
from tests.test_importing import clear as clear
from tests.test_importing import conf as conf
from tests.test_importing import own_secrets as own_secrets
from tests.test_importing import place as place

TOKEN = {"access_token": "ya29.old", "refresh_token": "R", "expiry": "2020-01-01T00:00:00.123Z", "token_type": "Bearer"}
OWN = {"client_id": "x", "client_secret": "y", "token": json.dumps(TOKEN), "config_is_local": "false"}
SECRET, BEARER = "hush-hush-hush", "a-bearer-of-somebody"


def add(conf: Path, name: str, kind: str, **options: str) -> None:
    """A remote, written by hand: for some rclone would ask their server first."""
    lines = "\n".join(f"{key} = {value}" for key, value in {"type": kind, **options}.items())
    with conf.open("a", encoding="utf-8") as file:
        file.write(f"\n[{name}]\n{lines}\n")


def secret(place: Path, name: str) -> str:
    path = place.parent / "secrets" / name
    assert mode(path) == 0o600
    return path.read_text("utf-8")


@contextmanager
def bucket_server(folder: Path, scratch: Path, key: str = "a-key-id", secret: str = SECRET) -> Iterator[str]:
    """rclone serve s3: each folder in `folder` is a bucket."""
    port = servers._free_port()
    command = [servers.program("rclone", "rclone"), "serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}"]
    command += ["--config", str(scratch / "none.conf"), "--auth-key", f"{key},{secret}"]
    with servers._running(command, port, scratch) as url:
        yield url


# ── Google Drive ──


@pytest.fixture
def drive() -> Iterator[FakeDrive]:
    with threaded(FakeDrive()) as fake:
        yield fake


def point(place: Path, tree: str, fake: FakeDrive) -> None:
    """The tree is at the fake instead of Google."""
    text = place.read_text("utf-8")
    place.write_text(text.replace(f"[tree.{tree}]", f'[tree.{tree}]\nendpoint = "{fake.url}"'), "utf-8")


def test_a_drive_with_a_client_of_its_own_is_brought_with_its_login(
    bring: Bring, conf: Path, place: Path, drive: FakeDrive
) -> None:
    for path, data in CLEAR.items():
        folder, _, name = path.rpartition("/")
        drive.file(folder, name, data)
    create(conf, "My Drive", "drive", scope="drive.readonly", **OWN)
    code, out, err = bring()
    assert (code, err) == (0, "")
    assert tables(place) == {
        "my-drive": {
            "use": "gdrive",
            "client_id": "x",
            "client_secret": "secret:my-drive-client-secret",
            "scope": "drive.readonly",
        }
    }
    assert mode(granted.place("my-drive")) == 0o600
    assert granted.read("my-drive").refresh_token == "R"
    point(place, "my-drive", drive)
    check(place, "my-drive:", CLEAR)
    assert drive.signin.refreshes == 1
    assert not any(hidden in out for hidden in ("ya29.old", "secret:", json.dumps(TOKEN)))


def test_a_crypt_over_a_drive_is_in_clear_and_the_drive_is_not_served(
    bring: Bring, conf: Path, place: Path, drive: FakeDrive, clear: Path
) -> None:
    sealed = clear.parent / "sealed"
    crypt(conf, "local", sealed)
    rclone(conf, "copy", str(clear), "local:")
    for path, data in on_disk(sealed).items():
        folder, _, name = f"backups/{path}".rpartition("/")
        drive.file(folder, name, data)
    create(conf, "drive", "drive", scope="drive", **OWN)
    crypt(conf, "safe", "drive:backups")
    assert bring()[0] == 0
    assert tables(place)["drive"]["serve"] is False
    assert tables(place)["safe"]["over"] == "drive:backups"
    point(place, "drive", drive)
    check(place, "safe:", CLEAR)


def test_a_service_account_is_brought_and_needs_no_login(
    bring: Bring, conf: Path, place: Path, drive: FakeDrive, tmp_path: Path
) -> None:
    drive.file("Music", "one.txt", b"one")
    key = drive.service_account()
    (tmp_path / "key.json").write_text(json.dumps(key))
    add(conf, "inline", "drive", service_account_credentials=json.dumps(key), impersonate="ann@example.org")
    add(conf, "file", "drive", service_account_file=str(tmp_path / "key.json"), scope="drive.file")
    code, out, _ = bring()
    assert code == 0
    account = "secret:inline-service-account"
    assert tables(place) == {
        "inline": {"use": "gdrive", "service_account": account, "subject": "ann@example.org"},
        "file": {"use": "gdrive", "service_account": str(tmp_path / "key.json"), "scope": "drive.file"},
    }
    assert json.loads(secret(place, "inline-service-account")) == key
    for name in ("inline", "file"):
        point(place, name, drive)
        check(place, f"{name}:", {"Music/one.txt": b"one"})
    assert drive.signin.subjects == ["ann@example.org", ""]
    assert key["private_key"][40:80] not in out + place.read_text()


def test_what_a_drive_shows_is_brought_and_what_cannot_be_is_noted(bring: Bring, conf: Path, place: Path) -> None:
    more = {"acknowledge_abuse": "true", "starred_only": "true", "export_formats": "pdf", "skip_gdocs": "false"}
    add(conf, "team", "drive", **OWN, root_folder_id="F0", team_drive="T1", scope="drive.file,drive.readonly", **more)
    add(conf, "shared", "drive", **OWN, shared_with_me="true", export_formats="docx,xlsx,pptx,svg")
    code, out, _ = bring()
    assert code == 0
    client = {"use": "gdrive", "client_id": "x"}
    assert tables(place) == {
        "team": {
            **client,
            "client_secret": "secret:team-client-secret",
            "scope": "drive.file drive.readonly",
            "root": "F0",
            "drive": "T1",
            "acknowledge_abuse": True,
        },
        "shared": {**client, "client_secret": "secret:shared-client-secret", "shared_with_me": True},
    }
    notes = re.findall("^note +(.*)$", out, re.M)
    assert notes == ["team: export_formats, starred_only changes what rclone shows, and is not brought"]
    assert granted.read("team").scopes == ("drive.file", "drive.readonly")


@pytest.mark.parametrize("token", ["", "{}", '{"access_token":"only"}'], ids=["none", "empty", "short"])
def test_a_drive_without_a_login_that_lasts_says_how_to_get_one(
    bring: Bring, conf: Path, place: Path, token: str
) -> None:
    add(conf, "drive", "drive", **{**OWN, "token": token})
    code, out, _ = bring()
    assert code == 0
    assert tables(place)["drive"]["use"] == "gdrive"
    assert "run `playhead login drive`" in out
    assert not granted.place("drive").exists()


BY_RCLONE = [
    ("drive", {"token": json.dumps(TOKEN)}, "rclone's own OAuth client, which Google retires; make an OAuth client"),
    ("drive", {"client_id": "x", "token": json.dumps(TOKEN)}, "client_id without client_secret"),
    ("drive", {**OWN, "scope": "drive.metadata.readonly"}, "scope 'drive.metadata.readonly'"),
    ("drive", {**OWN, "resource_key": "k"}, "resource_key"),
    ("drive", {**OWN, "root_folder_id": "appDataFolder"}, "root_folder_id"),
    ("drive", {**OWN, "encoding": "Slash"}, "encoding"),
    ("drive", {"env_auth": "true"}, "env_auth"),
    ("webdav", {"url": "https://h/", "vendor": "sharepoint"}, "sharepoint wants a login of its own kind"),
    ("webdav", {"url": "https://h/", "bearer_token_command": "say it"}, "bearer_token_command"),
    ("webdav", {"url": "https://h/", "unix_socket": "/run/x"}, "unix_socket"),
    ("webdav", {"url": "https://h/", "user": "a", "pass": obscured("two\nlines")}, "no file of ours can hold"),
    ("s3", {"provider": "AWS", "env_auth": "true"}, 'all buckets; a table with use = "s3" and bucket'),
    ("google cloud storage", {"anonymous": "true"}, 'use = "gcs"'),
    ("azureblob", {"account": "me"}, 'use = "azure"'),
    ("sftp", {"host": "h"}, ""),
    ("dropbox", {"token": "{}"}, ""),
    ("onedrive", {"token": "{}"}, ""),
    ("b2", {"account": "a"}, ""),
    ("chunker", {"remote": "other:x"}, ""),
]


@pytest.mark.parametrize(("kind", "options", "why"), BY_RCLONE, ids=lambda part: part if isinstance(part, str) else "")
def test_what_we_do_not_read_ourselves_rclone_does(
    bring: Bring, conf: Path, place: Path, kind: str, options: dict[str, str], why: str
) -> None:
    add(conf, "My Place", kind, **options)
    code, out, err = bring()
    assert (code, err) == (0, "")
    assert tables(place) == {"my-place": {"use": "rclone", "remote": "My Place:"}}
    notes = re.findall("^note +(.*)$", out, re.M)
    needed = f"my-place: read through rclone, with its configuration {conf}, which RCLONE_CONFIG has to name"
    assert notes[-1] == needed
    assert [why in note for note in notes[:-1]] == [True] * bool(why)
    assert list((place.parent / "secrets").iterdir()) == []
    assert not granted.place("my-place").exists()
    assert not any(hidden in out for hidden in ("ya29.old", "two\nlines"))


def test_without_rclone_it_is_left_out_with_the_reason(
    bring: Bring, conf: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(conf, "drive", "drive", token=json.dumps(TOKEN))
    without_rclone(monkeypatch)
    code, out, _ = bring()
    assert code == 9
    assert re.search("^left out drive: .*need rclone, which is not installed here; .*make an OAuth client", out, re.M)
    assert not place.exists()


def test_a_file_where_rclone_looks_needs_no_variable_and_an_encrypted_one_its_password(
    bring: Bring, conf: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RCLONE_CONFIG")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    home = tmp_path / ".config" / "rclone" / "rclone.conf"
    home.parent.mkdir(parents=True)
    add(home, "box", "sftp", host="h")
    _, _, err = bring("--print")
    assert f"box: read through rclone, with its configuration {home}\n" in err
    rclone(home, "config", "encryption", "set", "--password-command", "echo hunter22")
    monkeypatch.setenv("RCLONE_CONFIG_PASS", "hunter22")
    _, _, err = bring("--print")
    assert f"{home}, which is encrypted: RCLONE_CONFIG_PASS has to give its password\n" in err
    assert "hunter22" not in err


def test_print_writes_no_login_either(bring: Bring, conf: Path, place: Path, own_home: Path) -> None:
    add(conf, "drive", "drive", **OWN)
    before = snapshot(own_home)
    code, out, _ = bring("--print")
    assert code == 0
    assert 'use = "gdrive"' in out
    assert snapshot(own_home) == before


def test_a_login_that_is_there_already_stays_and_another_clients_is_not_overwritten(
    bring: Bring, conf: Path, place: Path
) -> None:
    granted.write("drive", granted.Login("x", "newer"))
    granted.write("other", granted.Login("somebody-else", "theirs"))
    add(conf, "drive", "drive", **OWN)
    assert bring()[0] == 0
    assert granted.read("drive").refresh_token == "newer"
    add(conf, "other", "drive", **OWN)
    before = snapshot(place.parent)
    assert "other.json" in bring.fails(2)
    assert granted.read("other").refresh_token == "theirs"
    assert snapshot(place.parent) == before


# ── WebDAV ──


def test_a_webdav_server_is_brought_with_its_password(
    bring: Bring, conf: Path, place: Path, clear: Path, tmp_path: Path
) -> None:
    with davs.rclone(clear, tmp_path) as url:
        create(conf, "dav", "webdav", url=url.rstrip("/"), vendor="other", user=davs.USER, **{"pass": davs.PASSWORD})
        assert as_rclone(conf, "dav:") == CLEAR
        code, out, err = bring()
        assert (code, err) == (0, "")
        table = {"use": "webdav", "url": url, "user": davs.USER, "password": "secret:dav-password"}
        assert tables(place) == {"dav": table}
        assert secret(place, "dav-password") == davs.PASSWORD + "\n"
        assert davs.PASSWORD not in out
        check(place, "dav:", CLEAR)


def test_a_crypt_over_webdav_is_in_clear(bring: Bring, conf: Path, place: Path, clear: Path, tmp_path: Path) -> None:
    crypt(conf, "local", tmp_path / "dav" / "a" / "b")
    rclone(conf, "copy", str(clear), "local:")
    with davs.rclone(tmp_path / "dav", tmp_path) as url:
        create(conf, "dav", "webdav", url=url, vendor="rclone", user=davs.USER, **{"pass": davs.PASSWORD})
        crypt(conf, "safe", "dav:a/b")
        assert bring()[0] == 0
        assert tables(place)["dav"]["serve"] is False
        check(place, "safe:", CLEAR)


def test_what_a_webdav_remote_says_is_in_its_table(bring: Bring, conf: Path, place: Path) -> None:
    add(conf, "token", "webdav", url="https://h/dav", vendor="nextcloud", bearer_token=BEARER, headers='X-Team,"a,b"')
    add(conf, "url", "webdav", url="https://ann:p%40ss@h:8443/x/", vendor="fastmail", owncloud_exclude_shares="true")
    add(conf, "open", "webdav", url="http://h/", vendor="owncloud", user="guest")
    code, out, _ = bring()
    assert code == 0
    assert tables(place) == {
        "token": {
            "use": "webdav",
            "url": "https://h/dav/",
            "bearer": "secret:token-bearer",
            "headers": {"X-Team": "secret:token-header-x-team"},
        },
        "url": {"use": "webdav", "url": "https://h:8443/x/", "user": "ann", "password": "secret:url-password"},
        "open": {"use": "webdav", "url": "http://h/", "user": "guest"},
    }
    assert (secret(place, "token-bearer"), secret(place, "url-password")) == (BEARER + "\n", "p@ss\n")
    assert "url: owncloud_exclude_shares changes what rclone shows, and is not brought" in out
    assert not any(hidden in out for hidden in (BEARER, "p@ss", "p%40ss"))


# ── buckets ──


def test_the_buckets_that_others_name_are_read_without_rclone(
    bring: Bring, conf: Path, place: Path, clear: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "buckets"
    put(CLEAR, root / "music")
    put(MORE, root / "backups" / "deep" / "er")
    (root / "sealed").mkdir()
    with bucket_server(root, tmp_path) as url:
        keys = {"access_key_id": "a-key-id", "secret_access_key": SECRET}
        create(conf, "cloud", "s3", provider="Rclone", endpoint=url.rstrip("/"), **keys)
        create(conf, "songs", "alias", remote="cloud:music")
        create(conf, "album", "alias", remote="cloud:/music/album/")
        crypt(conf, "safe", "cloud:sealed/inside")
        rclone(conf, "copy", str(clear), "safe:")
        create(conf, "both", "union", upstreams="cloud:music cloud:backups/deep/er:ro")
        create(conf, "sides", "combine", upstreams="a=cloud:music b=cloud:backups")
        code, out, err = bring()
        assert (code, err) == (0, "")
        made = tables(place)
        native = {"use": "s3", "endpoint": url.rstrip("/"), "access_key": "a-key-id", "serve": False}
        for name in ("music", "sealed", "backups"):
            table = {**native, "bucket": name, "secret_key": f"secret:cloud-{name}-secret-key"}
            assert made.pop(f"cloud-{name}") == table
            assert f"brought  cloud:{name} as cloud-{name}: s3 (not served)\n" in out
        assert made.pop("cloud") == {"use": "rclone", "remote": "cloud:"}
        assert {name: table.get("over") or table["folders"] for name, table in made.items()} == {
            "songs": "cloud-music:",
            "album": "cloud-music:album",
            "safe": "cloud-sealed:inside",
            "both": ["cloud-music:", "cloud-backups:deep/er"],
            "sides": {"a": "cloud-music:", "b": "cloud-backups:"},
        }
        both = {**MORE, **CLEAR}
        assert SECRET not in out + place.read_text()
        check(place, "cloud:music", CLEAR)
        monkeypatch.setenv("PATH", "")  # from here on there is no rclone
        check(place, "songs:", CLEAR)
        check(place, "album:", {path[6:]: data for path, data in CLEAR.items() if path.startswith("album/")})
        check(place, "safe:", CLEAR)
        check(place, "both:", both)
        assert place.stat().st_mode & 0o777 == 0o600


def test_without_rclone_what_names_a_bucket_is_brought_all_the_same(
    bring: Bring, conf: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(conf, "cloud", "s3", provider="Minio", endpoint="h:9000")
    add(conf, "songs", "alias", remote="cloud:music")
    add(conf, "all", "alias", remote="cloud:")
    without_rclone(monkeypatch)
    code, out, _ = bring()
    assert code == 9
    assert set(re.findall("^left out (.*?):", out, re.M)) == {"cloud", "all"}
    table = {"use": "s3", "bucket": "music", "endpoint": "https://h:9000", "anonymous": True, "serve": False}
    assert tables(place) == {"cloud-music": table, "songs": {"use": "alias", "over": "cloud-music:"}}


BUCKETS = [
    ({"provider": "AWS", "env_auth": "true", "region": "eu-west-1"}, {"region": "eu-west-1"}),
    (
        {"provider": "Wasabi", "endpoint": "s3.wasabisys.com", "session_token": "", "env_auth": "true"},
        {"endpoint": "https://s3.wasabisys.com", "path_style": False},
    ),
    (
        {"endpoint": "http://127.0.0.1:1/x", "force_path_style": "false", "acl": "private"},
        {"endpoint": "http://127.0.0.1:1/x", "path_style": False, "anonymous": True},
    ),
]


@pytest.mark.parametrize(("options", "wanted"), BUCKETS, ids=["AWS", "Wasabi", "Other"])
def test_a_bucket_is_asked_as_rclone_asks_it(
    bring: Bring, conf: Path, place: Path, options: dict[str, str], wanted: dict[str, object]
) -> None:
    add(conf, "cloud", "s3", **options)
    add(conf, "songs", "alias", remote="cloud:music/x")
    assert bring()[0] == 0
    assert tables(place)["cloud-music"] == {"use": "s3", "bucket": "music", **wanted, "serve": False}


SAS = "https://me.blob.core.windows.net/?sv=2024-11-04&ss=b&sig=c2VjcmV0LXNpZw%3D%3D"


def test_buckets_of_google_and_azure_are_brought(bring: Bring, conf: Path, place: Path) -> None:
    add(conf, "gcs", "google cloud storage", service_account_credentials='{"private_key": "pem"}', project_number="7")
    add(conf, "open", "google cloud storage", anonymous="true")
    add(conf, "az", "azureblob", account="me", key="YXp1cmUta2V5")
    add(conf, "sas", "azureblob", sas_url=SAS)
    upstreams = "a=gcs:one b=open:two c=az:three d=sas:four"
    add(conf, "all", "combine", upstreams=upstreams)
    code, out, _ = bring()
    assert code == 0
    made = tables(place)
    quiet = {"serve": False}
    assert (
        made["gcs-one"] == {"use": "gcs", "bucket": "one", "service_account": "secret:gcs-one-service-account"} | quiet
    )
    assert made["open-two"] == {"use": "gcs", "bucket": "two", "anonymous": True} | quiet
    azure = {"use": "azure", "account": "me", **quiet}
    assert made["az-three"] == {**azure, "bucket": "three", "secret_key": "secret:az-three-secret-key"}
    assert made["sas-four"] == {**azure, "bucket": "four", "token": "secret:sas-four-token"}
    assert secret(place, "sas-four-token") == SAS.partition("?")[2] + "\n"
    assert not any(hidden in out + place.read_text() for hidden in ("c2VjcmV0", "YXp1cmU", '"pem"'))


ODD = [
    ("s3", {"provider": "IBMCOS", "endpoint": "h"}, "IBMCOS is asked in a way of its own"),
    ("s3", {"provider": "AWS", "sse_customer_key": "hunter22"}, "it has sse_customer_key"),
    ("s3", {"provider": "Minio"}, "it has no endpoint"),
    ("google cloud storage", {"token": "{}"}, "it has token"),
    ("azureblob", {"account": "me", "use_msi": "true"}, "it has use_msi"),
    ("azureblob", {"sas_url": "https://me.blob.core.windows.net/box?sig=hunter22"}, "its sas_url is not one"),
]


@pytest.mark.parametrize(("kind", "options", "why"), ODD, ids=lambda part: part if isinstance(part, str) else "")
def test_a_bucket_that_only_rclone_can_read_is_read_by_it(
    bring: Bring, conf: Path, place: Path, kind: str, options: dict[str, str], why: str
) -> None:
    add(conf, "songs", "union", upstreams="cloud:music/x cloud:music/y")
    add(conf, "cloud", kind, **options)
    code, out, _ = bring()
    assert code == 0
    over = ["cloud:music/x", "cloud:music/y"]
    assert tables(place) == {"cloud": {"use": "rclone", "remote": "cloud:"}, "songs": {"use": "union", "over": over}}
    assert out.count(f"cloud:music is read through rclone: {why}") == 1
    assert "hunter22" not in out


def test_a_second_import_names_the_buckets_of_the_first(bring: Bring, conf: Path, place: Path) -> None:
    add(conf, "cloud", "s3", provider="Minio", endpoint="h")
    add(conf, "songs", "alias", remote="cloud:music")
    assert bring()[0] == 0
    add(conf, "more", "alias", remote="cloud:music/more")
    assert bring()[0] == 9
    assert tables(place)["more"] == {"use": "alias", "over": "cloud-music:more"}
    assert sorted(tables(place)) == ["cloud", "cloud-music", "more", "songs"]


# ── what wraps others ──


def test_files_in_chunks_are_read_through_rclone_and_may_be_encrypted_too(
    bring: Bring, conf: Path, place: Path, clear: Path, tmp_path: Path
) -> None:
    create(conf, "chunks", "chunker", remote=str(tmp_path / "chunks"), chunk_size="50Ki", hash_type="none")
    crypt(conf, "safe", "chunks:in")
    rclone(conf, "copy", str(clear), "safe:")
    assert len(on_disk(tmp_path / "chunks")) > len(CLEAR)
    assert bring()[0] == 0
    assert tables(place)["chunks"] == {"use": "rclone", "remote": "chunks:", "serve": False}
    check(place, "chunks:", as_rclone(conf, "chunks:"))
    check(place, "safe:", CLEAR)
