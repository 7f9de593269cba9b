"""The options of an rclone remote -> a table of ours, for those kinds that we read ourselves.

Each function looks at one remote alone, and writes nothing: secrets go to `Making.keep`, which says what stands for
them in the table. What our own origins cannot do as rclone does it is `ByRclone`, with the reason: then rclone is to
read that remote. Lists of options say what means nothing to reading; an option that is in none of them is a reason.
"""

import csv
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit, urlunsplit

from playhead import secrets
from playhead.config import NAME
from playhead.errors import Malformed
from playhead.origins.drive.granted import Login, from_rclone

Table = dict[str, "str | bool | list[str] | dict[str, str]"]
Options = Mapping[str, str]


class NotBrought(Exception):
    """Why a remote is left out."""


class ByRclone(Exception):
    """Why rclone itself is to read a remote; "" where that goes without saying."""


@dataclass(slots=True)
class Making:
    """What goes with the table of a tree: `keep` takes a key and a secret, and gives what stands for it there."""

    name: str
    keep: Callable[[str, str], str]
    notes: list[str] = field(default_factory=list)
    login: Login | None = None


# ── Google Drive ──

CLIENT = (
    "make an OAuth client of your own (type 'Desktop app'), give it in a table with use = \"gdrive\" as client_id and "
    "client_secret, and run `playhead login` for that: a login belongs to the client that it was made with"
)
_RETIRED = f"it has rclone's own OAuth client, which Google retires; {CLIENT}"
_SCOPES = ("drive", "drive.readonly", "drive.file")
_EXPORTS = "docx,xlsx,pptx,svg"  # as rclone exports unless it is told otherwise
_SHOWN = (
    "auth_owner_only copy_shortcut_content export_formats formats show_all_gdocs size_as_quota skip_checksum_gphotos "
    "skip_dangling_shortcuts skip_gdocs skip_shortcuts starred_only trashed_only use_created_date use_shared_date"
)
_ELSEWHERE = "auth_url token_url client_credentials env_auth resource_key"


def drive(making: Making, options: Options) -> Table:
    """Google Drive: by its OAuth client and what that was granted, or by a service account."""
    for key in _ELSEWHERE.split():
        if _is_set(options, key):
            raise ByRclone(f"it has {key}")
    _own_encoding(options)
    table: Table = {"use": "gdrive", **(_account(making, options) or _client(making, options))}
    scopes = _scopes(options)
    if scopes and "drive" not in scopes:
        table["scope"] = " ".join(scopes)
    root, shared = options.get("root_folder_id", ""), _truth(options, "shared_with_me")
    if root == "appDataFolder" or (root and shared):
        raise ByRclone("its root_folder_id is no folder of a Drive")
    texts = {"root": root, "drive": options.get("team_drive", "")}
    table |= {key: value for key, value in texts.items() if value}
    table |= {key: True for key in ("shared_with_me", "acknowledge_abuse") if _truth(options, key)}
    if odd := [key for key in _SHOWN.split() if _is_set(options, key)]:
        making.notes.append(f"{making.name}: {', '.join(odd)} changes what rclone shows, and is not brought")
    return table


def _account(making: Making, options: Options) -> Table:
    """A service account; nothing where there is none."""
    key, file = options.get("service_account_credentials", ""), options.get("service_account_file", "")
    subject = options.get("impersonate", "")
    if not key and not file:
        if subject:
            raise ByRclone("it has impersonate without the key of a service account")
        return {}
    table: Table = {"service_account": making.keep("service-account", _json(key)) if key else _path(file)}
    return {**table, "subject": subject} if subject else table


def _client(making: Making, options: Options) -> Table:
    """An OAuth client, and the login that was made with it."""
    client, secret, token = (options.get(key, "") for key in ("client_id", "client_secret", "token"))
    for value in (secret, token):
        secrets.hide(value)
    if not client or not secret:
        raise ByRclone(_RETIRED if not client else f"it has client_id without client_secret; {CLIENT}")
    try:
        making.login = from_rclone(token, client, secret, options.get("scope", ""))
    except Malformed:
        making.notes.append(f"{making.name} has no login that can be brought; run `playhead login {making.name}`")
    return {"client_id": client, "client_secret": making.keep("client-secret", secret)}


def _scopes(options: Options) -> list[str]:
    scopes = re.split(r"[\s,]+", options.get("scope", "").strip())
    if odd := [scope for scope in scopes if scope and scope not in _SCOPES]:
        raise ByRclone(f"its scope {odd[0]!r} gives no files to read by Playhead ({', '.join(_SCOPES)} do)")
    return [scope for scope in scopes if scope]


def _json(text: str) -> str:
    """A key in one line, as secrets are kept."""
    try:
        return json.dumps(json.loads(text))
    except (ValueError, RecursionError):
        secrets.hide(text)
        raise NotBrought("its service_account_credentials are not JSON") from None


def _path(text: str) -> str:
    """A path as rclone expands it."""
    path = os.path.expandvars(os.path.expanduser(text))
    if not os.path.isabs(path):
        raise NotBrought("its service_account_file is relative to wherever rclone was started")
    return path


# ── URLs ──


def http(making: Making, options: Options) -> Table:
    """A web server's folder."""
    return {"use": "web", **_reached(making, _url(options), options)}


_DAV = "type description vendor url user pass bearer_token headers encoding pacer_min_sleep nextcloud_chunk_size"
_VENDORS = ("", "other", "nextcloud", "owncloud", "infinitescale", "rclone", "fastmail")
_HIDING = "owncloud_exclude_shares owncloud_exclude_mounts"


def webdav(making: Making, options: Options) -> Table:
    """A folder of a WebDAV server that takes a password or a bearer token."""
    if (vendor := options.get("vendor", "").lower()) not in _VENDORS:
        raise ByRclone(f"{vendor} wants a login of its own kind")
    _own_encoding(options)
    _known(options, _DAV, _HIDING)
    url = _url(options)
    if url.query:
        raise ByRclone("its url has a query")
    table: Table = {"use": "webdav", **_reached(making, url, options)}
    user, password = options.get("user", ""), revealed(options.get("pass", ""))
    if user:
        table |= {"user": user, "password": _one_line(making, password)}
    elif password:
        raise ByRclone("it has a password without a user")
    if token := options.get("bearer_token", ""):
        if "user" in table:
            raise ByRclone("it has a user and a bearer_token")
        table["bearer"] = making.keep("bearer", token)
    if odd := [key for key in _HIDING.split() if _is_set(options, key)]:
        making.notes.append(f"{making.name}: {', '.join(odd)} changes what rclone shows, and is not brought")
    return {key: value for key, value in table.items() if value != ""}


def _one_line(making: Making, password: str) -> str:
    if re.search(r"[\r\n]", password) or password.startswith("secret:"):
        raise ByRclone("its password is one that no file of ours can hold")
    return making.keep("password", password) if password else ""


def _url(options: Options) -> SplitResult:
    try:
        url = urlsplit(options.get("url", ""))
        _ = url.port
    except ValueError:
        raise NotBrought("its url is not one") from None
    if url.scheme not in ("http", "https") or not url.hostname:
        raise NotBrought("it has no url")
    return url


def _reached(making: Making, url: SplitResult, options: Options) -> Table:
    """The URL of a folder, with who asks for it and which headers are sent."""
    userinfo, _, host = url.netloc.rpartition("@")
    path = url.path if url.path.endswith("/") else url.path + "/"
    table: Table = {"url": urlunsplit((url.scheme, host, path, url.query, ""))}
    if userinfo:
        user, _, password = userinfo.partition(":")
        table["user"] = unquote(user)
        if password:
            table["password"] = making.keep("password", unquote(password))
    fields = listed(options.get("headers", ""), ",")
    headers = {
        key: making.keep(f"header-{name_of(key)}", value)
        for key, value in zip(fields[::2], fields[1::2], strict=False)
        if value
    }
    return {**table, "headers": headers} if headers else table


# ── buckets ──

# How rclone asks them: where the bucket is in the host's name, and where it is in the path. The rest list otherwise
# than we do.
_IN_HOST = (
    "AWS Alibaba Cubbit Hetzner ImpossibleCloud Intercolo Leviia Linode LyveCloud OVHcloud Petabox Rabata RackCorp "
    "Scaleway Storj Synology Wasabi Zata"
)
_IN_PATH = (
    "Ceph Cloudflare Exaba Fastly FlashBlade HCP IDrive Mega Minio Other Outscale Rclone Scality SpectraLogic Zadara"
)
_WRITING = (
    "type description acl bucket_acl storage_class upload_cutoff chunk_size upload_concurrency copy_cutoff "
    "disable_checksum no_check_bucket directory_markers memory_pool_flush_time memory_pool_use_mmap list_chunk "
    "disable_http2 location location_constraint encoding"
)
_S3 = (
    "provider env_auth access_key_id secret_access_key session_token region endpoint force_path_style max_upload_parts "
    "server_side_encryption sse_kms_key_id leave_parts_on_error no_head no_head_object use_multipart_etag "
    "use_multipart_uploads use_unsigned_payload might_gzip no_system_metadata"
)
_GCS = (
    "service_account_file service_account_credentials anonymous env_auth project_number endpoint object_acl "
    "bucket_policy_only"
)
_AZURE = (
    "account key sas_url endpoint copy_concurrency copy_total_concurrency use_copy_blob access_tier "
    "archive_tier_delete public_access no_check_container"
)


def s3(making: Making, options: Options, bucket: str) -> Table:
    """One bucket behind S3's protocol."""
    _known(options, _WRITING, _S3)
    _own_encoding(options)
    provider = options.get("provider") or "Other"
    if provider not in f"{_IN_HOST} {_IN_PATH}".split():
        raise ByRclone(f"{provider} is asked in a way of its own")
    table: Table = {"use": "s3", "bucket": bucket}
    if endpoint := options.get("endpoint", ""):
        table["endpoint"] = _endpoint(endpoint)
    elif provider != "AWS":
        raise ByRclone("it has no endpoint")
    if region := options.get("region", ""):
        table["region"] = region
    if not _in_path(provider, bucket, options):
        table["path_style"] = False
    key, secret = options.get("access_key_id", ""), options.get("secret_access_key", "")
    if bool(key) != bool(secret):
        raise NotBrought("it has one of access_key_id and secret_access_key, and not the other")
    if key:
        table |= {"access_key": key, "secret_key": making.keep("secret-key", secret)}
        if token := options.get("session_token", ""):
            table["token"] = making.keep("token", token)
    elif not _truth(options, "env_auth"):
        table["anonymous"] = True
    else:
        _obstore()
    return table


def _in_path(provider: str, bucket: str, options: Options) -> bool:
    """Does the bucket stand in the path? AWS takes both; a dot in its name fits no certificate."""
    if provider == "AWS" or "." in bucket:
        return True
    return provider in _IN_PATH.split() and _truth(options, "force_path_style", otherwise="true")


def gcs(making: Making, options: Options, bucket: str) -> Table:
    """One bucket of Google Cloud Storage."""
    _known(options, _WRITING, _GCS)
    _own_encoding(options)
    _obstore()
    table: Table = {"use": "gcs", "bucket": bucket}
    if endpoint := options.get("endpoint", ""):
        table["endpoint"] = _endpoint(endpoint)
    if account := _account(making, options):
        return {**table, **account}
    if _truth(options, "anonymous"):
        return {**table, "anonymous": True}
    if not _truth(options, "env_auth"):
        raise ByRclone("it has a login of its own kind")
    return table


def azure(making: Making, options: Options, bucket: str) -> Table:
    """One container of Azure's."""
    _known(options, _WRITING, _AZURE)
    _own_encoding(options)
    _obstore()
    account, key, url = (options.get(name, "") for name in ("account", "key", "sas_url"))
    table: Table = {"use": "azure", "bucket": bucket, "account": account}
    if endpoint := options.get("endpoint", ""):
        table["endpoint"] = _endpoint(endpoint)
    if account and key and not url:
        return {**table, "secret_key": making.keep("secret-key", key)}
    if not url or key:
        raise ByRclone("it has neither an account's key nor a sas_url")
    parts = urlsplit(url)
    secrets.hide(parts.query)
    if parts.path.strip("/") or "sig" not in parse_qs(parts.query) or not (parts.hostname or "").endswith(".net"):
        raise ByRclone("its sas_url is not one of an account")
    return {**table, "account": (parts.hostname or "").partition(".")[0], "token": making.keep("token", parts.query)}


def _endpoint(text: str) -> str:
    return text if re.match("https?://", text) else f"https://{text}"


def _obstore() -> None:
    if find_spec("obstore") is None:
        raise ByRclone("the extra `objects` is not installed")


# ── values ──


def _known(options: Options, *known: str) -> None:
    """Raises ByRclone for an option that we know nothing of."""
    for key, value in options.items():
        if key not in " ".join(known).split() and value not in ("", "false"):
            raise ByRclone(f"it has {key}")


def _own_encoding(options: Options) -> None:
    if options.get("encoding"):
        raise ByRclone("it has an encoding of names of its own")


def _is_set(options: Options, key: str) -> bool:
    return options.get(key, "") not in ("", "false", _EXPORTS)


def _truth(options: Options, key: str, otherwise: str = "false") -> bool:
    return truth(key, options.get(key) or otherwise)


def truth(key: str, text: str) -> bool:
    """As Go's ParseBool reads it."""
    if text not in ("1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"):
        raise NotBrought(f"{key} is neither true nor false")
    return text[0] in "1tT"


def revealed(text: str) -> str:
    """A password that `rclone obscure` wrote, in clear. Raises NotBrought."""
    if not text:
        return ""
    from playhead.transforms.rclone import revealed

    try:
        return secrets.hide(revealed(text))
    except Malformed:
        raise NotBrought("its password is not as `rclone obscure` writes it") from None


def listed(text: str, delimiter: str) -> list[str]:
    """rclone's lists: CSV, by commas or by spaces. Raises NotBrought."""
    try:
        return [item for row in csv.reader([text], delimiter=delimiter) for item in row]
    except csv.Error:
        raise NotBrought("a list of it cannot be read") from None


def name_of(text: str) -> str:
    """A name of rclone's as one of ours."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return name if NAME.fullmatch(name) else f"remote-{name}".rstrip("-")


Alone = Callable[[Making, Options], Table]
Bucket = Callable[[Making, Options, str], Table]
ALONE: Mapping[str, Alone] = {"drive": drive, "http": http, "webdav": webdav}
BUCKETS: Mapping[str, Bucket] = {"s3": s3, "google cloud storage": gcs, "gcs": gcs, "azureblob": azure}
USES: Mapping[str, str] = {"s3": "s3", "google cloud storage": "gcs", "gcs": "gcs", "azureblob": "azure"}
