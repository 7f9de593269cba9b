"""The tables of trees that are over others: what each use needs and may have, and where it is wrong, on which line."""

from pathlib import Path

import pytest

from playhead import Malformed
from playhead.config import USES, TreeConfig, parse

PLACE = Path("/etc/playhead/playhead.toml")

WHOLE = """
[tree.crypt]
use = "rclone-crypt"
over = "cloud:music"
password = "secret:crypt"
password2 = "obscured:abc"
filename_encryption = "obfuscate"
filename_encoding = "base32768"
directory_name_encryption = false
suffix = "none"
no_data_encryption = true
keep = "plain"
serve = false

[tree.sealed]
use = "age"
over = ["cloud"]
identity = "keys.txt"
passphrase = "secret:phrase"
keep = false

[tree.old]
use = "aes-cbc"
over = "/mnt/old"
key = "secret:old"

[tree.other]
use = "alias"
over = "sealed:album"

[tree.all]
use = "union"
over = ["sealed", "old", "https://example.org/"]

[tree.beside]
use = "combine"
folders = { "My music" = "sealed", "옛" = "old:1999" }
"""


def test_every_key_is_read() -> None:
    assert parse(WHOLE, PLACE).tree == {
        "crypt": TreeConfig(
            "rclone-crypt",
            over=("cloud:music",),
            password="secret:crypt",
            password2="obscured:abc",
            filename_encryption="obfuscate",
            filename_encoding="base32768",
            directory_name_encryption=False,
            suffix="none",
            no_data_encryption=True,
            keep="plain",
            serve=False,
        ),
        "sealed": TreeConfig("age", over=("cloud",), identity="keys.txt", passphrase="secret:phrase", keep=False),
        "old": TreeConfig("aes-cbc", over=("/mnt/old",), key="secret:old"),
        "other": TreeConfig("alias", over=("sealed:album",)),
        "all": TreeConfig("union", over=("sealed", "old", "https://example.org/")),
        "beside": TreeConfig("combine", folders={"My music": "sealed", "옛": "old:1999"}),
    }


def test_without_them_the_defaults_are_those_of_rclone() -> None:
    [tree] = parse('[tree.a]\nuse = "rclone-crypt"\nover = "b"\npassword = "x"', PLACE).tree.values()
    assert (tree.filename_encryption, tree.filename_encoding, tree.suffix) == ("standard", "base32", ".bin")
    assert tree.directory_name_encryption and not tree.no_data_encryption and tree.keep is True and tree.serve


NEEDED = {
    "local": ['root = "/m"'],
    "web": ['url = "http://a/"'],
    "webdav": ['url = "http://a/"'],
    "gdrive": ['client_id = "me"'],
    "s3": ['bucket = "b"'],
    "gcs": ['bucket = "b"'],
    "azure": ['bucket = "b"', 'account = "me"'],
    "rclone": ['remote = "b:"'],
    "rclone-crypt": ['over = "b"', 'password = "hunter22"'],
    "age": ['over = "b"', 'identity = "hunter22"'],
    "aes-cbc": ['over = "b"', 'key = "hunter22"'],
    "alias": ['over = "b"'],
    "union": ['over = ["b", "c"]'],
    "combine": ['folders = { a = "b" }'],
}
ANY = {
    "root": '"/m"',
    "follow_links": "true",
    "url": '"http://a/"',
    "headers": '{ X = "1" }',
    "user": '"me"',
    "password": '"hunter22"',
    "bearer": '"hunter22"',
    "proxy": '"http://p/"',
    "ca": '"ca.pem"',
    "cert": '"c.pem"',
    "rate": "1",
    "connections": "1",
    "bytes_per_day": "1",
    "keep": "true",
    "serve": "true",
    "over": '"b"',
    "folders": '{ a = "b" }',
    "password2": '"hunter22"',
    "filename_encryption": '"off"',
    "filename_encoding": '"base64"',
    "directory_name_encryption": "true",
    "suffix": '".x"',
    "no_data_encryption": "true",
    "identity": '"hunter22"',
    "passphrase": '"hunter22"',
    "key": '"hunter22"',
    "write": "true",
    "client_id": '"me"',
    "client_secret": '"hunter22"',
    "service_account": '"hunter22"',
    "subject": '"me"',
    "scope": '"drive"',
    "drive": '"d"',
    "shared_with_me": "true",
    "acknowledge_abuse": "true",
    "endpoint": '"http://e/"',
    "bucket": '"b"',
    "region": '"r"',
    "access_key": '"hunter22"',
    "secret_key": '"hunter22"',
    "token": '"hunter22"',
    "account": '"me"',
    "anonymous": "true",
    "path_style": "true",
    "remote": '"b:"',
}


def told(text: str) -> str:
    with pytest.raises(Malformed) as failure:
        parse(text, PLACE)
    assert "\n" not in str(failure.value) and "hunter22" not in str(failure.value)
    return str(failure.value)


def lines(use: str, *more: str) -> str:
    return "\n".join(["# notes", "[tree.a]", f'use = "{use}"', *NEEDED[use], *more])


def test_each_use_is_known_here() -> None:
    assert set(NEEDED) == set(USES)


@pytest.mark.parametrize("use", NEEDED)
def test_what_a_use_needs_is_enough(use: str) -> None:
    assert parse(lines(use), PLACE).tree["a"].use == use


@pytest.mark.parametrize(("use", "missing"), [(use, n) for use, lines in NEEDED.items() for n in range(len(lines))])
def test_what_is_missing_is_told_at_the_table(use: str, missing: int) -> None:
    text = lines(use).split("\n")
    key = text.pop(3 + missing).partition(" ")[0]
    said = told("\n".join(text))
    assert said.startswith(f"{PLACE}:2: tree.a: ") and "is missing" in said and key in said


@pytest.mark.parametrize(
    ("use", "line"),
    [
        ("rclone-crypt", 'password = ""'),
        ("age", 'identity = ""'),
        ("aes-cbc", 'key = ""'),
        ("union", "over = []"),
        ("alias", "over = []"),
        ("combine", "folders = {}"),
    ],
)
def test_what_is_empty_is_missing(use: str, line: str) -> None:
    key = line.partition(" ")[0]
    text = "\n".join(line if kept.startswith(f"{key} ") else kept for kept in lines(use).split("\n"))
    assert told(text).startswith(f"{PLACE}:2: tree.a: ")


@pytest.mark.parametrize(("use", "over"), [("alias", '""'), ("union", '["b", ""]')])
def test_an_empty_text_is_no_source(use: str, over: str) -> None:
    text = "\n".join(f"over = {over}" if kept.startswith("over ") else kept for kept in lines(use).split("\n"))
    assert told(text).startswith((f"{PLACE}:2: tree.a", f"{PLACE}:4: tree.a.over"))


@pytest.mark.parametrize("source", ['""', "1", "[]", '["b"]'])
def test_a_folder_of_a_combination_is_a_source(source: str) -> None:
    assert told(f'[tree.a]\nuse = "combine"\nfolders = {{ x = {source} }}').startswith(f"{PLACE}:3: tree.a.folders")


@pytest.mark.parametrize("name", ["", "a/b", "..", "a\\u0000"])
def test_a_folder_of_a_combination_has_a_name_that_a_path_may_have(name: str) -> None:
    assert told(f'[tree.a]\nuse = "combine"\nfolders = {{ "{name}" = "b" }}').startswith(f"{PLACE}:3: tree.a.folders")


MEANINGLESS = [
    (use, key)
    for use, (needed, allowed) in USES.items()
    for key in ANY
    if key not in f"serve {needed} {allowed}".replace("|", " ").split()
]


@pytest.mark.parametrize(("use", "key"), MEANINGLESS)
def test_a_key_that_means_nothing_for_a_use_is_told_on_its_line(use: str, key: str) -> None:
    text = lines(use, f"{key} = {ANY[key]}")
    assert told(text).startswith(f"{PLACE}:{len(text.split(chr(10)))}: tree.a.{key}: means nothing where use = '{use}'")


@pytest.mark.parametrize("use", ["rclone-crypt", "age", "aes-cbc", "alias"])
def test_one_source_is_wanted_and_two_are_told_on_their_line(use: str) -> None:
    text = lines(use).replace('over = "b"', 'over = ["b", "c"]')
    assert told(text) == f"{PLACE}:4: tree.a.over: one text is wanted"


@pytest.mark.parametrize(
    ("use", "line"),
    [
        ("rclone-crypt", 'filename_encryption = "rot13"'),
        ("rclone-crypt", 'filename_encryption = "Standard"'),
        ("rclone-crypt", "filename_encryption = true"),
        ("rclone-crypt", 'filename_encoding = "base16"'),
        ("rclone-crypt", "filename_encoding = []"),
        ("rclone-crypt", 'directory_name_encryption = "no"'),
        ("rclone-crypt", "no_data_encryption = 0"),
        ("rclone-crypt", "suffix = false"),
        ("rclone-crypt", 'password2 = ["hunter22"]'),
        ("rclone-crypt", 'keep = "sealed"'),
        ("age", 'keep = "sealed"'),
        ("age", "keep = 1"),
        ("age", "keep = []"),
        ("aes-cbc", 'keep = "Plain"'),
        ("web", 'keep = "sealed"'),
        ("age", 'passphrase = ["hunter22"]'),
        ("alias", 'serve = "no"'),
    ],
)
def test_a_wrong_value_is_told_on_its_line(use: str, line: str) -> None:
    text = lines(use, "# hm", line)
    key = line.partition(" ")[0]
    assert told(text).startswith(f"{PLACE}:{len(text.split(chr(10)))}: tree.a.{key}: ")


@pytest.mark.parametrize(
    ("line", "use"),
    [
        ("over = 1", "alias"),
        ("over = {}", "alias"),
        ('over = ["b", 1]', "union"),
        ('folders = "b"', "combine"),
        ('folders = ["b"]', "combine"),
        ('password = ["hunter22"]', "rclone-crypt"),
        ('identity = { x = "hunter22" }', "age"),
        ("key = 12345678901234567890123456789012", "aes-cbc"),
    ],
)
def test_a_wrong_kind_of_value_is_told_on_its_line(line: str, use: str) -> None:
    key = line.partition(" ")[0]
    text = lines(use).split("\n")
    at = next(number for number, kept in enumerate(text) if kept.startswith(f"{key} "))
    text[at] = line
    assert told("\n".join(text)).startswith(f"{PLACE}:{at + 1}: tree.a.{key}: ")


def test_an_inline_table_is_told_on_its_line() -> None:
    text = 'prefix = "/a"\ntree.a = { use = "age", over = ["b", "c"], identity = "hunter22" }'
    assert told(text) == f"{PLACE}:2: tree.a.over: one text is wanted"
    text = '[tree]\na = { use = "alias", over = "b", keep = true }'
    assert told(text).startswith(f"{PLACE}:2: tree.a.keep: means nothing")
