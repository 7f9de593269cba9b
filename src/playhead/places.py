"""A table of the configuration -> the origin that it describes, with the secrets and limits that it names."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from playhead import secrets
from playhead.config import Config, TreeConfig
from playhead.errors import Malformed
from playhead.limits import Limits
from playhead.tree import Tree
from playhead.works import folder_of

if TYPE_CHECKING:
    from playhead.origins.drive.tokens import Tokens
    from playhead.origins.fetch import Access
    from playhead.origins.gdrive import DriveTree
    from playhead.origins.remote import Remote
    from playhead.origins.web import WebTree
    from playhead.transforms.ageheader import Identity

GOOGLE = "https://www.googleapis.com/"
BUCKETS = ("s3", "gcs", "azure")

log = logging.getLogger("playhead")


def web(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    user: str | None = None,
    password: str | None = None,
    bearer: str | None = None,
    proxy: str | None = None,
    ca: str | None = None,
    cert: str | None = None,
    rate: float | None = None,
    connections: int | None = None,
    bytes_per_day: int | None = None,
    dav: bool = False,
) -> "WebTree":
    """A URL as a tree, with what it takes to be let in, and what may be asked of it; `dav`: by WebDAV."""
    from playhead.origins.fetch import Access, basic
    from playhead.origins.web import WebTree

    sent = dict(headers or {})
    if user is not None:
        sent["Authorization"] = basic(user, secrets.hide(password or ""))
    elif bearer is not None:
        sent["Authorization"] = f"Bearer {secrets.hide(bearer)}"
    for value in sent.values():
        secrets.hide(value)
    userinfo = url.partition("://")[2].partition("/")[0].rpartition("@")[0]
    if userinfo:
        secrets.hide(unquote(userinfo.partition(":")[2]))
    known_by = secrets.fingerprint(userinfo, cert or "", *(f"{name}: {value}" for name, value in sorted(sent.items())))
    limits = Limits(rate=rate, connections=connections, bytes_per_day=bytes_per_day)
    kind = WebTree
    if dav:
        from playhead.origins.webdav import DavTree

        kind = DavTree
    made = kind(url, Access(sent, proxy, ca, cert, known_by), limits)
    limits.name = made.base.host or ""
    return made


def via(origin: "WebTree", proxy: str | None) -> "WebTree":
    """The same origin through a proxy; None: directly."""
    return type(origin)(str(origin.base), replace(origin.client.access, proxy=proxy), origin.client.limits)


@dataclass(frozen=True, slots=True)
class Places:
    """What the tables of a configuration describe."""

    config: Config

    def origin(self, name: str, table: TreeConfig) -> "Remote":
        """The origin of a table that describes one behind a network. Raises Malformed."""
        if table.use == "gdrive":
            return self.drive(name, table)
        if table.use in BUCKETS:
            return self._bucket(name, table)
        if table.use == "rclone":
            return rcloned(table.remote or "", self._limits(name, table))
        return self._web(table)

    def secret(self, text: str | None) -> str | None:
        """A value of the configuration in clear, hidden from now on; None where there is none."""
        return secrets.hide(secrets.resolve(text, self.config.folder)) if text else None

    def _file(self, text: str | None) -> str | None:
        return str(self.config.folder / text) if text else None

    def _limits(self, name: str, table: TreeConfig) -> Limits:
        return Limits(
            rate=table.rate, connections=table.connections, bytes_per_day=table.bytes_per_day, name=f"tree {name}"
        )

    def _access(self, table: TreeConfig, known_by: str = "") -> "Access":
        from playhead.origins.fetch import Access

        proxy = secrets.resolve(table.proxy, self.config.folder) if table.proxy else None
        return Access({}, proxy, self._file(table.ca), self._file(table.cert), known_by)

    def _web(self, table: TreeConfig) -> "WebTree":
        folder, access = self.config.folder, self._access(table)
        return web(
            table.url or "",
            headers={name: secrets.resolve(value, folder) for name, value in table.headers.items()},
            user=table.user,
            password=secrets.resolve(table.password, folder) if table.password else None,
            bearer=secrets.resolve(table.bearer, folder) if table.bearer else None,
            proxy=access.proxy,
            ca=access.ca,
            cert=access.cert,
            rate=table.rate,
            connections=table.connections,
            bytes_per_day=table.bytes_per_day,
            dav=table.use == "webdav",
        )

    # ── Google Drive ──

    def tokens(self, name: str, table: TreeConfig) -> "Tokens":
        """What lets a tree into its Drive. Raises Malformed."""
        from playhead.origins.drive.accounts import ServiceAccount, UserLogin, doors, scopes_of
        from playhead.origins.drive.exchange import sent_by
        from playhead.origins.drive.tokens import Tokens
        from playhead.origins.fetch import Client

        at = doors(table.endpoint)
        scopes = scopes_of(write=table.write, scope=table.scope)
        grant: UserLogin | ServiceAccount
        if table.service_account:
            key = secrets.resolve(table.service_account, self.config.folder)
            if key.lstrip().startswith("{"):
                secrets.hide(key)
            else:
                key = str(self.config.folder / Path(key).expanduser())
            grant = ServiceAccount(name, key, scopes, table.subject, at.token if table.endpoint else None)
        else:
            if not table.client_secret:
                raise Malformed(f"tree {name}: `client_secret` is missing; Google gives it with the client_id")
            secret = self.secret(table.client_secret) or ""
            grant = UserLogin(name, table.client_id or "", secret, at.token)
        client = Client(at.token, self._access(table))
        return Tokens(grant, sent_by(client), client.aclose)

    def drive(self, name: str, table: TreeConfig) -> "DriveTree":
        """The Drive of a table. Raises Malformed."""
        from playhead.origins.drive.folders import SHARED
        from playhead.origins.fetch import Client
        from playhead.origins.gdrive import DriveTree

        tokens = self.tokens(name, table)
        known_by = tokens.known_by
        client = Client(table.endpoint or GOOGLE, self._access(table, known_by), self._limits(name, table))
        if table.shared_with_me and table.root:
            raise Malformed(f"tree {name}: `shared_with_me` and `root` name two places; leave one out")
        return DriveTree(
            name,
            client,
            tokens,
            folder_of(self.config) / "drive" / f"{name}-{known_by[:16]}",
            root=SHARED if table.shared_with_me else table.root or "root",
            drive=table.drive,
            abuse=table.acknowledge_abuse,
            known_by=known_by,
        )

    # ── buckets ──

    def _bucket(self, name: str, table: TreeConfig) -> "Remote":
        from playhead.origins.buckets.bucket import Place
        from playhead.origins.objects import ObjectTree

        key, secret, token = map(self.secret, (table.access_key, table.secret_key, table.token))
        credentials = self.secret(table.service_account)
        place = Place(
            table.use,
            table.bucket or "",
            (table.root or "").strip("/"),
            table.endpoint,
            table.region,
            key,
            secret,
            token,
            anonymous=table.anonymous,
            account=table.account,
            credentials=credentials,
            proxy=self.secret(table.proxy),
            ca=self._file(table.ca),
            path_style=table.path_style,
        )
        own = (
            "" if key or table.anonymous else os.environ.get("AWS_ACCESS_KEY_ID", "")
        )  # what obstore and we would take
        known_by = secrets.fingerprint(key or own, secret or "", token or "", credentials or "")
        return ObjectTree(place, self._limits(name, table), name=f"{table.use}:{name}", fingerprint=known_by)

    # ── encrypted trees ──

    def opened(self, name: str, table: TreeConfig, tree: Tree) -> tuple[Tree, str]:
        """An encrypted tree in clear, and what its keys are known by."""
        if table.use == "age":
            from playhead.transforms import ageheader
            from playhead.transforms.age import aged

            known = [*self._identities(name, table)]
            if table.passphrase:
                known.append(ageheader.passphrase(self.secret(table.passphrase) or ""))
            return aged(tree, known), secrets.fingerprint(*(somebody.mark for somebody in known))
        if table.use == "aes-cbc":
            from playhead.transforms import aescbc

            log.warning("tree %s: AES-CBC has no authentication; a changed byte is not noticed", name)
            key = aescbc.key_of(self.secret(table.key) or "")
            return aescbc.opened(tree, key), secrets.fingerprint(key.decode())
        from playhead.transforms import names, rclone
        from playhead.transforms.crypt import crypt

        keys = rclone.keys(self._password(table.password), self._password(table.password2))
        made = names.Names(
            keys.name,
            keys.tweak,
            mode=table.filename_encryption,
            encoding=table.filename_encoding,
            folders=table.directory_name_encryption,
            suffix="" if table.suffix == "none" else table.suffix,
        )
        return crypt(tree, keys, made, contents=not table.no_data_encryption), keys.fingerprint

    def _password(self, text: str | None) -> str:
        """A password in clear, also where it is given as `obscured:` and what `rclone obscure` writes."""
        from playhead.transforms.rclone import revealed

        clear = self.secret(text) or ""
        return secrets.hide(revealed(secrets.hide(clear[9:]))) if clear.startswith("obscured:") else clear

    def _identities(self, name: str, table: TreeConfig) -> list["Identity"]:
        """The keys of `identity`: themselves, or a file that holds them."""
        from playhead.transforms.ageheader import identities

        if not table.identity:
            return []
        text = secrets.resolve(table.identity, self.config.folder)
        if "AGE-SECRET-KEY-" not in text.upper():
            try:
                text = (self.config.folder / os.path.expanduser(text)).read_text("utf-8")
            except (OSError, ValueError) as error:
                secrets.hide(text)  # it may be a key, mistyped
                what = os.strerror(error.errno or 0).lower() if isinstance(error, OSError) else "it is not text"
                raise Malformed(f"tree {name}: its identity is neither a key nor a file of keys ({what})") from None
        for line in text.splitlines():
            if not line.startswith("#"):
                secrets.hide(line.strip())
        return identities(text)


def rcloned(remote: str, limits: Limits | None = None) -> "Remote":
    """A remote of an installed rclone, as "REMOTE:path"."""
    from playhead.origins.rcloned import RcloneTree

    return RcloneTree(remote, limits)
