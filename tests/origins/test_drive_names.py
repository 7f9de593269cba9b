"""Names of Drive's files as entries, and links as Drive's pages show them as paths: no network needed."""

from datetime import timedelta
from typing import Any

import pytest

from playhead import Damaged
from playhead.origins.drive.items import (
    FOLDER,
    GOOGLE,
    SHORTCUT,
    Item,
    _twin,
    alone,
    braced,
    item,
    named,
    own,
    pasted,
    through,
    unkeyed,
)
from playhead.tree import segments

ID = "1AbC-def_GHIjklMNOpqrSTUvwxYZ0123456"
TEXT = "text/plain"


def files(*names: str, kind: str = TEXT) -> list[Item]:
    """Files of these names, their ids in this order."""
    return [Item(f"id{number:07d}", name, kind) for number, name in enumerate(names)]


def shown(*names: str, kind: str = TEXT) -> list[str]:
    return list(named(files(*names, kind=kind)))


# ── one name ──


@pytest.mark.parametrize(
    ("name", "here"),
    [
        ("one.flac", "one.flac"),
        ("AC/DC.mp3", "AC\uff0fDC.mp3"),
        ("/", "\uff0f"),
        ("../../etc/passwd", "..\uff0f..\uff0fetc\uff0fpasswd"),
        (".", "\uff0e"),
        ("..", "\uff0e\uff0e"),
        ("...", "..."),
        ("", "_"),
        (" ", " "),
        ("a\0b", "a\u2400b"),
        ("\u202egpj.exe", "\u202egpj.exe"),
        ("노래\r\n", "노래\r\n"),
        ("half \ud83d", "half ?"),
        ("{" + ID + "}", "\uff5b" + ID + "}"),
        ("{" + ID + "!0-key_}", "\uff5b" + ID + "!0-key_}"),
        ("{short}", "{short}"),
    ],
)
def test_a_name_in_drive_is_a_name_here(name: str, here: str) -> None:
    assert shown(name) == [here]
    assert segments(here) == [here] and here.encode()


def test_a_document_is_called_as_what_it_is_exported_as() -> None:
    assert shown("Plan", kind=f"{GOOGLE}document") == ["Plan.docx"]
    assert shown("Plan.DOCX", kind=f"{GOOGLE}document") == ["Plan.DOCX"]
    assert shown("Sums", kind=f"{GOOGLE}spreadsheet") == ["Sums.xlsx"]
    assert shown("Talk", kind=f"{GOOGLE}presentation") == ["Talk.pptx"]
    assert shown("Line", kind=f"{GOOGLE}drawing") == ["Line.svg"]


@pytest.mark.parametrize("kind", ["form", "site", "map", "jam", "shortcut", "drive-sdk.123", "fusiontable"])
def test_what_has_no_bytes_is_not_listed(kind: str) -> None:
    assert shown("x", kind=GOOGLE + kind) == []


# ── twins ──


def test_twins_are_numbered_before_their_extension_by_id() -> None:
    twins = files("a.mp3", "a.mp3", "a.mp3")
    for order in (twins, twins[::-1], [twins[1], twins[2], twins[0]]):
        found = named(order)
        assert {name: each.id for name, each in found.items()} == {
            "a.mp3": "id0000000",
            "a (2).mp3": "id0000001",
            "a (3).mp3": "id0000002",
        }


def test_the_number_of_a_twin_passes_over_names_that_are_taken() -> None:
    assert shown("a.mp3", "a.mp3", "a (2).mp3", "a (2).mp3") == ["a.mp3", "a (3).mp3", "a (2).mp3", "a (2) (2).mp3"]


def test_folders_hidden_files_and_names_without_extension_are_numbered_at_their_end() -> None:
    assert shown("Vol. 1", "Vol. 1", kind=FOLDER) == ["Vol. 1", "Vol. 1 (2)"]
    assert shown(".hidden", ".hidden") == [".hidden", ".hidden (2)"]
    assert shown("README", "README") == ["README", "README (2)"]
    assert list(named([*files("x", kind=FOLDER), Item("id9999999", "x", TEXT)])) == ["x", "x (2)"]


def test_names_that_become_the_same_are_twins() -> None:
    assert shown("a/b", "a\uff0fb", "") == ["a\uff0fb", "a\uff0fb (2)", "_"]
    assert shown("", "_") == ["_", "_ (2)"]
    mixed = [*files("Plan", kind=f"{GOOGLE}document"), Item("id9999999", "Plan.docx", TEXT)]
    assert list(named(mixed)) == ["Plan.docx", "Plan (2).docx"]


def test_capitals_and_normal_forms_make_no_twins() -> None:
    assert shown("A", "a", "\u00e9", "e\u0301") == ["A", "a", "\u00e9", "e\u0301"]


def test_a_hundred_twins_are_a_hundred_names() -> None:
    names = shown(*["x.mp3"] * 100)
    assert len(set(names)) == 100 and names[-1] == "x (100).mp3"


def test_many_twins_are_numbered_without_trying_all_numbers_for_each() -> None:
    tried = 0

    class Names(set[str]):
        def __contains__(self, name: object) -> bool:
            nonlocal tried
            tried += 1
            return super().__contains__(name)

    taken, numbers = Names({"x"}), dict[str, int]()
    assert len({_twin("x", taken, numbers, False) for _ in range(2000)}) == 2000
    assert tried < 5000


# ── names that lead to one file ──


@pytest.mark.parametrize("name", ["a", "a b.mp3", "it's \\ 100% #1.ogg", "노래", "x (2).mp3"])
def test_a_plain_name_is_that_of_files_of_this_name_alone(name: str) -> None:
    assert own(name) and alone(name)


@pytest.mark.parametrize("name", ["a\uff0fb", "a\u2400", "\uff0e", "_", "what?", "Plan.docx", "x.JSON", "\uff5ba"])
def test_a_name_that_stands_for_others_too_is_not_asked_for_alone(name: str) -> None:
    assert not alone(name)


@pytest.mark.parametrize("name", ["{" + ID + "}", "half \ud83d", "\udcff.txt"])
def test_names_that_drive_shows_otherwise_are_known(name: str) -> None:
    assert not own(name) and not alone(name)


# ── links and ids ──


@pytest.mark.parametrize(
    "url",
    [
        f"https://drive.google.com/file/d/{ID}/view?usp=sharing",
        f"https://drive.google.com/file/d/{ID}/view?usp=drive_link",
        f"https://drive.google.com/file/d/{ID}/preview",
        f"https://drive.google.com/file/d/{ID}",
        f"https://drive.google.com/file/u/1/d/{ID}/view",
        f"https://drive.google.com/a/example.org/file/d/{ID}/edit",
        f"https://drive.google.com/open?id={ID}",
        f"https://drive.google.com/open?id={ID}&usp=drive_fs",
        f"https://drive.google.com/uc?id={ID}&export=download",
        f"https://drive.google.com/uc?export=download&id={ID}",
        f"https://drive.usercontent.google.com/download?id={ID}&export=download&confirm=t",
        f"https://docs.google.com/uc?export=open&id={ID}",
        f"https://drive.google.com/drive/folders/{ID}",
        f"https://drive.google.com/drive/folders/{ID}?usp=sharing",
        f"https://drive.google.com/drive/u/0/folders/{ID}",
        f"https://drive.google.com/drive/mobile/folders/{ID}?usp=sharing",
        f"https://drive.google.com/folderview?id={ID}&usp=sharing",
        f"https://docs.google.com/document/d/{ID}/edit",
        f"https://docs.google.com/document/u/0/d/{ID}/edit#heading=h.1",
        f"https://docs.google.com/spreadsheets/d/{ID}/edit#gid=0",
        f"https://docs.google.com/presentation/d/{ID}/edit?usp=sharing",
        f"https://docs.google.com/drawings/d/{ID}/edit",
    ],
)
def test_a_link_of_drives_pages_is_a_path(url: str) -> None:
    assert pasted(url) == "{" + ID + "}"
    assert braced(pasted(url) or "") == (ID, None)


def test_a_resource_key_goes_with_its_link() -> None:
    for url in (
        f"https://drive.google.com/file/d/{ID}/view?usp=sharing&resourcekey=0-AbC_d",
        f"https://drive.google.com/drive/folders/{ID}?resourcekey=0-AbC_d&usp=sharing",
        f"https://drive.google.com/open?id={ID}&resourcekey=0-AbC_d#x",
    ):
        assert pasted(url) == "{" + ID + "!0-AbC_d}"
        assert braced(pasted(url) or "") == (ID, "0-AbC_d")


@pytest.mark.parametrize(
    "url",
    [
        "https://drive.google.com/drive/my-drive",
        "https://drive.google.com/drive/u/0/shared-with-me",
        "https://drive.google.com/",
        "https://drive.google.com/file/d/short/view",
        f"https://drive.google.com/file/d/{ID}%2f..%2fx",
        f"https://drive.google.com.example.org/file/d/{ID}/view",
        f"https://drive.google.com@example.org/file/d/{ID}/view",
        f"https://example.org/drive.google.com/file/d/{ID}/view",
        f"https://example.org/?u=https://drive.google.com/file/d/{ID}/view",
        f"https://drive.google.com/x?u=/file/d/{ID}/view",
        f"https://drive.google.com/x#/folders/{ID}",
        f"https://docs.google.com/forms/d/{ID}/viewform",
        f"https://docs.google.com/document/d/e/2PACX-{ID}/pub",
        f"https://sites.google.com/d/{ID}/edit",
        f"ftp://drive.google.com/file/d/{ID}/view",
        f"music:{{{ID}}}",
        "",
    ],
)
def test_other_links_are_none(url: str) -> None:
    assert pasted(url) is None


@pytest.mark.parametrize("name", ["{}", "{a b c d e f g h}", f"{{{ID}", f"x{{{ID}}}", f"{{{ID}!}}", f"{{{ID}!a!b}}"])
def test_other_names_are_no_ids(name: str) -> None:
    assert braced(name) is None


def test_a_path_is_told_without_its_resource_key() -> None:
    assert unkeyed(f"{{{ID}!0-secret}}/a!b") == f"{{{ID}}}/a!b"
    assert unkeyed("a/{x!y}") == "a/{x!y}"
    assert "0-secret" not in repr(Item("x", "y", TEXT, key="0-secret"))


# ── what Drive says of a file ──

TOLD: dict[str, Any] = {
    "id": ID,
    "name": "one.flac",
    "mimeType": "audio/flac",
    "size": "12",
    "md5Checksum": "0" * 32,
    "sha256Checksum": "1" * 64,
    "modifiedTime": "2026-01-03T10:00:00.250Z",
    "headRevisionId": "0Brev",
    "parents": ["0Aparent"],
}


def test_an_item_is_what_drive_says() -> None:
    found = item(TOLD)
    assert found and (found.size, found.tag, found.parents) == (12, f"h:sha256:{'1' * 64}", ("0Aparent",))
    assert found.when and found.when.isoformat() == "2026-01-03T10:00:00.250000+00:00"
    assert item({**TOLD, "trashed": True}) is None


def test_without_a_hash_the_tag_is_of_this_login_and_this_revision() -> None:
    bare = {key: value for key, value in TOLD.items() if "Checksum" not in key}
    tags = [item(bare, "ann"), item(bare, "bob"), item({**bare, "headRevisionId": "0Bnew"}, "ann")]
    assert len({each.tag for each in tags if each and each.tag and each.tag.startswith("v:")}) == 3
    del bare["headRevisionId"]
    nothing = item(bare)
    assert nothing and nothing.tag is None


def test_a_hash_that_is_none_is_not_believed() -> None:
    found = item({**TOLD, "sha256Checksum": "", "md5Checksum": "x" * 32})
    assert found and found.hash is None


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": 7},
        {"id": "../../about"},
        {"id": ""},
        {"name": None},
        {"name": ["x"]},
        {"mimeType": {}},
        {"size": 12},
        {"size": ["12"]},
        {"sha256Checksum": 5},
        {"modifiedTime": 1767434400},
        {"headRevisionId": {}},
        {"driveId": 1},
    ],
)
def test_what_drive_does_not_document_is_damaged(change: dict[str, Any]) -> None:
    with pytest.raises(Damaged):
        item({**TOLD, **change})


@pytest.mark.parametrize("found", [None, [], "x", 3, True])
def test_what_is_no_file_at_all_is_damaged(found: object) -> None:
    with pytest.raises(Damaged):
        item(found)


@pytest.mark.parametrize(
    "change",
    [
        {"parents": "0Aparent"},
        {"parents": 7},
        {"parents": [7, None, "a/b"]},
        {"capabilities": []},
        {"shortcutDetails": []},
        {"modifiedTime": "yesterday"},
        {"modifiedTime": "0001-01-01T00:00:00-23:00"},
        {"resourceKey": "0-a\r\nX: y"},
        {"size": "-3"},
        {"size": "9" * 40},
    ],
)
def test_what_makes_no_sense_is_left_out(change: dict[str, Any]) -> None:
    found = item({**TOLD, **change})
    assert found and found.key is None
    assert found.when is None or found.when.utcoffset() == timedelta()
    assert found.entry("x").name == "x"


def test_a_shortcut_has_no_bytes_before_it_is_followed() -> None:
    told: dict[str, Any] = {"id": ID, "name": "link", "mimeType": SHORTCUT, "size": "0", "parents": ["0Aparent"]}
    details: Any
    for details in (None, [], {}, {"targetId": 3}):
        found = item({**told, "shortcutDetails": details})
        assert found and found.target is None and not found.shown
    details = {"targetId": "1target", "targetResourceKey": "0-k", "targetMimeType": FOLDER}
    found, target = item({**told, "shortcutDetails": details}), item({**TOLD, "id": "1target"})
    assert found and target and (found.target, found.key, found.shown) == ("1target", "0-k", False)
    followed = through(found, target)
    assert (followed.id, followed.place, followed.key) == (ID, "1target", "0-k")
    assert (followed.name, followed.size, followed.parents) == ("link", 12, ("0Aparent",))
