"""The names of rclone's crypt: what it makes of a name is what rclone makes of it, and back."""

import os
import random
import unicodedata
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playhead.transforms import base32768
from playhead.transforms.eme import MOST, WIDTH, Eme
from playhead.transforms.names import ENCODINGS, MODES, Names, NotOurs
from tests.peers.crypts import Setting

DATE = "-v2006-01-02-150405-000"
PATHS = [
    "a",
    "track 01.mp3",
    "노래/별이 빛나는 밤.mp3",
    "日本語/さくら さくら.flac",
    "𝄞 🎵🎶/👩‍👩‍👧.mp3",
    "Cafe\u0301/e\u0301\u0323.ogg",
    "Café/é.ogg",
    "!a!!b 1234567890!",
    "!",
    "!.x",
    "12.not obfuscated",
    "naïve ÿ\u00a0Ångström ×÷.txt",
    ".hidden",
    "..two",
    "...",
    "no extension",
    "trailing dot.",
    "a.tar.gz",
    "x" * 140,
    "-dash/-dash.mp3",
    "~\x7f\x01tab\t/a\x1b",
    "\u0100\u01ff \ud7ff\ue000\uffff\U0010ffff",
    "name/with/five/levels/of folders.mp3",
    "back\\slash:colon*?",
    *("b" * length for length in range(1, 49)),
    *("별" * length for length in range(1, 17)),
]
DATED = [
    f"a{DATE}.mp3",
    f"a{DATE}",
    f"노래{DATE}.flac",
    f"folder/a{DATE}.mp3",
    f"folder{DATE}/a.mp3",  # the date of a folder stays within
    f"a{DATE}{DATE}",
    f"a{DATE}{DATE}.mp3",
    f"a.b{DATE}.mp3",
    f"a{DATE}.",
    f"a{DATE}x",
    f"a{DATE}.tar.gz",
    f"a{DATE}.한",
    f"-v{DATE}.x",
    f".hidden{DATE}",
    f".hidden{DATE}.x",
    DATE,
    "a-v2004-02-29-150405-000.mp3",
    "a-v9999-12-31-235959-999.mp3",
]
NO_DATES = [
    "a-v2006-13-02-150405-000.mp3",
    "a-v2006-02-30-150405-000.mp3",
    "a-v2005-02-29-150405-000",
    "a-v2006-01-02-246060-000.mp3",
    "a-v2006-01-02-150460-999",
    "a-v2006-01-02-150405.000",
    "a-v2006-00-02-150405-000",
    "a-v2006-1-02-150405-0000",
    "a-V2006-01-02-150405-000",
    "a-v2006-01-02-150405-00",
]
STRANGE = [
    f"song.mp3{DATE}",
    f"a.{DATE}",
    f"..{DATE}",
    f"a.b/c.d{DATE}",
    "a-v0000-01-01-000000-000",
    "a-v２００６-01-02-150405-000",
    "a-v٢٠٠٦-01-02-150405-000.mp3",
]
NOT_UTF8 = ["\udcff\udcfe.mp3", "caf\udce9", "별\udced\udca0\udc80", "d\udcff/f\udcfe", "\udc80"]
ALL = [Setting(mode, encoding, folders) for mode in MODES for encoding in ENCODINGS for folders in (True, False)] + [
    Setting("off", suffix=suffix) for suffix in (".sealed", "")
]
READS = (Setting(), Setting("standard", "base64"), Setting("standard", "base32768"), Setting("obfuscate"))


def hidden(names: Names, path: str) -> str:
    return names.path(path.split("/"), folder=False)


def shown(names: Names, path: str) -> str:
    *folders, name = path.split("/")
    return "/".join([*(names.shown(folder, True) for folder in folders), names.shown(name, False)])


def random_paths(seed: int, count: int) -> list[str]:
    """Names of letters that rclone treats in different ways, one to three to a path, none of them "." or ".."."""
    chance = random.Random(seed)
    kinds = [(0x20, 0x7E), (0x30, 0x39), (0x41, 0x7A), (0x80, 0xFF), (0x100, 0x24F), (0x3040, 0x30FF)]
    kinds += [(0xAC00, 0xD7A3), (0xD700, 0xD7FF), (0xE000, 0xFFFF), (0x1F300, 0x1FAFF), (0x10FF00, 0x10FFFF)]

    def name() -> str:
        alphabet = chance.sample(kinds, chance.randint(1, 3))
        letters = [chr(chance.randint(*chance.choice(alphabet))) for _ in range(chance.choice([1, 2, 5, 15, 16, 40]))]
        return "".join(letters).replace("/", "!").replace(".", "x", 2) or "x"

    return ["/".join(name() for _ in range(chance.choice([1, 1, 2, 3]))) for _ in range(count)]


# ── rclone's own ──


@lru_cache
def by_rclone(setting: Setting) -> dict[str, str]:
    paths = PATHS + NOT_UTF8 + DATED + NO_DATES + STRANGE + random_paths(1, 300)
    return dict(zip(paths, setting.called("encode", paths), strict=True))


@pytest.mark.parametrize("setting", ALL, ids=str)
def test_names_are_hidden_as_rclone_hides_them(setting: Setting) -> None:
    names, theirs = setting.names(), by_rclone(setting)
    assert {path: hidden(names, path) for path in PATHS + NOT_UTF8} == {path: theirs[path] for path in PATHS + NOT_UTF8}


@pytest.mark.parametrize("setting", ALL, ids=str)
def test_random_names_are_hidden_as_rclone_hides_them(setting: Setting) -> None:
    names, theirs = setting.names(), by_rclone(setting)
    assert [hidden(names, path) for path in random_paths(1, 300)] == [theirs[path] for path in random_paths(1, 300)]


@pytest.mark.parametrize("setting", ALL, ids=str)
def test_names_that_rclone_hid_are_shown(setting: Setting) -> None:
    names, theirs = setting.names(), by_rclone(setting)
    assert [shown(names, made) for made in theirs.values()] == list(theirs)


@pytest.mark.parametrize("setting", ALL, ids=str)
def test_rclone_shows_the_names_that_are_hidden_here(setting: Setting) -> None:
    names, paths = setting.names(), PATHS + NOT_UTF8 + random_paths(2, 300)
    assert setting.called("decode", [hidden(names, path) for path in paths]) == paths


@pytest.mark.parametrize("setting", [*READS, Setting("off")], ids=str)
@pytest.mark.parametrize("path", DATED + NO_DATES + STRANGE)
def test_the_date_of_a_version_stays_outside_where_rclone_leaves_it_there(setting: Setting, path: str) -> None:
    names = setting.names()
    assert hidden(names, path) == by_rclone(setting)[path]
    assert shown(names, by_rclone(setting)[path]) == path


@pytest.mark.parametrize("path", [f"a{DATE}\n", f"a{DATE}.mp3\n", f"a\n{DATE}"])
def test_a_newline_is_a_letter_like_others_beside_a_date(path: str) -> None:
    for setting in (Setting(), Setting("standard", "base64")):
        assert [hidden(setting.names(), path)] == setting.called("encode", [path])


def test_dated_names_that_begin_with_the_date_are_as_with_rclone() -> None:
    # rclone itself does not get this one back: what is left of it begins with its extension
    for setting in READS:
        (made,) = setting.called("encode", [f"{DATE}.txt"])
        assert hidden(setting.names(), f"{DATE}.txt") == made
        assert [shown(setting.names(), made)] == setting.called("decode", [made])


@pytest.mark.parametrize("salt", ["", "다른 소금"])
@pytest.mark.parametrize("password", ["x", "비밀번호 🔑", "p" * 300])
def test_passwords_become_keys_as_with_rclone(password: str, salt: str) -> None:
    setting = Setting(password=password, salt=salt)
    assert [hidden(setting.names(), path) for path in PATHS[:5]] == setting.called("encode", PATHS[:5])


def test_every_block_of_letters_of_base32768_is_that_of_rclone() -> None:
    setting, chance = Setting("standard", "base32768"), random.Random(4)
    long = ["".join(chr(chance.randint(0x21, 0x2E)) for _ in range(2047)) for _ in range(60)]
    short = ["".join(chr(chance.randint(0x21, 0x2E)) for _ in range(223)) for _ in range(300)]
    made = setting.called("encode", long + short)
    assert [hidden(setting.names(), name) for name in long + short] == made
    assert [shown(setting.names(), name) for name in made] == long + short
    assert len({ord(letter) // 32 for name in made for letter in name}) == 1024 + 4


# ── facts of the cipher ──


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("1", "p0e52nreeaj0a5ea7s64m4j72s"),
        ("1234567890123456", "mijbj0frqf6ms7frcr6bd9h0env53jv96pjaaoirk7forcgpt70g"),
    ],
)
def test_keys_of_nothing_but_zeros_give_the_names_that_rclone_states(name: str, made: str) -> None:
    names = Names(bytes(32), bytes(16))
    assert names.hidden(name, False) == made
    assert names.shown(made, False) == name


@given(st.integers(1, 20), st.binary(min_size=48, max_size=48), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_what_is_encrypted_is_decrypted(blocks: int, keys: bytes, chance: random.Random) -> None:
    eme, message = Eme(keys[:32], keys[32:]), chance.randbytes(blocks * WIDTH)
    assert eme.decrypted(eme.encrypted(message)) == message
    assert len(eme.encrypted(message)) == len(message)


@pytest.mark.parametrize("length", [0, 1, 15, 17, MOST + 1, MOST + WIDTH])
def test_what_is_not_whole_blocks_is_refused(length: int) -> None:
    eme = Eme(bytes(32), bytes(16))
    for work in (eme.encrypted, eme.decrypted):
        with pytest.raises(ValueError, match="blocks of 16"):
            work(bytes(length))


def test_every_bit_of_a_name_changes_every_block() -> None:
    eme, message = Eme(bytes(range(32)), bytes(range(16))), bytes(MOST)
    before, after = eme.encrypted(message), eme.encrypted(message[:-1] + b"\1")
    assert all(before[at : at + WIDTH] != after[at : at + WIDTH] for at in range(0, MOST, WIDTH))


# ── lengths ──


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_name_may_have_2047_bytes_and_no_more(encoding: str) -> None:
    names = Setting("standard", encoding).names()
    for longest in ("x" * 2047, "가" * 682 + "x", "\udcff" * 2047):
        assert names.shown(names.hidden(longest, False), False) == longest
        with pytest.raises(ValueError, match="2,047"):
            names.hidden(longest + "x", False)
        with pytest.raises(ValueError, match="2,047"):
            names.path(["folder", longest + "x", "f"], folder=False)


@pytest.mark.parametrize("length", [128 * 26, 5000, 100_000])
def test_an_encrypted_name_that_is_too_long_is_not_ours(length: int) -> None:
    for setting in READS[:3]:
        with pytest.raises(NotOurs):
            setting.names().shown(setting.names().encode(bytes(WIDTH))[:1] * length, False)


def test_the_root_and_empty_names_stay_empty() -> None:
    for setting in READS:
        names = setting.names()
        assert names.path([], folder=True) == ""
        assert names.hidden("", True) == names.shown("", True) == ""


# ── what is not ours ──


@pytest.mark.parametrize("setting", READS[:3], ids=str)
@pytest.mark.parametrize(
    "name", ["README.md", "desktop.ini", "노래.mp3", "a", "p0e52nreeaj0a5ea7s64m4j72", "\udcff", " "]
)
def test_a_name_that_was_not_encrypted_is_not_ours(setting: Setting, name: str) -> None:
    for folder in (True, False):
        with pytest.raises(NotOurs):
            setting.names().shown(name, folder)


@pytest.mark.parametrize("name", ["README.md", "1", "a.b", ".x", "1234.x", "-1.x", "x1.y", "١.x", "\udcff.x", "!"])
def test_a_name_that_was_not_obfuscated_is_not_ours(name: str) -> None:
    with pytest.raises(NotOurs):
        Setting("obfuscate").names().shown(name, False)


@pytest.mark.parametrize("name", ["x", "x.bi", ".bin", "x.BIN", "x.bin.", ""])
def test_a_name_without_its_suffix_is_not_ours(name: str) -> None:
    names = Setting("off").names()
    with pytest.raises(NotOurs):
        names.shown(name, False)
    assert names.shown(name, True) == name


@pytest.mark.parametrize("setting", READS[:3], ids=str)
def test_names_of_another_password_are_not_ours(setting: Setting) -> None:
    theirs = Setting(setting.mode, setting.encoding, password="another", salt=setting.salt).names()
    refused, paths = 0, random_paths(5, 100)
    for path in paths:
        name = path.rpartition("/")[2]
        try:
            assert setting.names().shown(theirs.hidden(name, False), False) != name
        except NotOurs:
            refused += 1
    assert refused >= 95  # by chance, one in 256 ends as names do


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_name_that_was_changed_is_not_ours(encoding: str) -> None:
    names = Setting("standard", encoding).names()
    made = names.hidden("a name that is longer than one block", False)
    other = names.hidden("another", False)
    for wrong in (made[:-1], made[1:], made + made, made + other[-1], made + "=", made + "\n", " " + made, made[::-1]):
        with pytest.raises(NotOurs):
            names.shown(wrong, False)


garbage = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    st.text(st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF), min_size=1, max_size=9),
    st.text("0123456789abcdefghijklmnopqrstuvABCV=-_", max_size=60),
    st.text("0123456789!.é별\udcff", max_size=12),
    st.text(sorted({letter for at in range(256) for letter in base32768.encode(bytes([at, 7, at]))}), max_size=20),
    st.sampled_from([setting.names().hidden("a name", False) for setting in READS]),
    st.binary(max_size=70).map(os.fsdecode),
)


@given(garbage, st.booleans())
@settings(max_examples=600, deadline=None)
def test_garbage_is_not_ours_and_nothing_else(name: str, folder: bool) -> None:
    for setting in ALL:
        names = NAMES[setting]
        try:
            os.fsencode(names.shown(name, folder))  # a name that was shown must be one that can be said
        except NotOurs:
            pass


@pytest.mark.parametrize("sign", [0, 12, 77, 255])
def test_bytes_that_are_not_utf8_never_become_a_name_that_cannot_be_said(sign: int) -> None:
    names = Setting("obfuscate").names()
    for byte in range(0x80, 0x100):
        try:
            os.fsencode(names.shown(f"{sign}.a{os.fsdecode(bytes([byte]))}b", False))
        except NotOurs:
            pass


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(lambda name: "\0" not in name))
@settings(max_examples=200, deadline=None)
def test_any_name_comes_back(name: str) -> None:
    for setting in ALL:
        for folder in (True, False):
            names = NAMES[setting]
            assert names.shown(names.hidden(name, folder), folder) == name


@given(st.binary(min_size=1, max_size=60).map(os.fsdecode))
@settings(max_examples=200, deadline=None)
def test_names_of_any_bytes_come_back(name: str) -> None:
    for setting in ALL:
        assert NAMES[setting].shown(NAMES[setting].hidden(name, False), False) == name


NAMES = {setting: setting.names() for setting in ALL}

# ── base32768 ──


@pytest.mark.parametrize("length", range(65))
def test_bytes_of_every_length_come_back_from_their_letters(length: int) -> None:
    @given(st.binary(min_size=length, max_size=length))
    @settings(max_examples=25, deadline=None)
    def check(data: bytes) -> None:
        letters = base32768.encode(data)
        assert len(letters) == -(-8 * length // 15)
        assert base32768.decode(letters) == data

    check()
    for same in (b"\0", b"\xff"):
        assert base32768.decode(base32768.encode(same * length)) == same * length


@pytest.mark.parametrize(
    "letter", ["a", "0", "가", "é", "\0", "\ud7ff", "\udcff", "🎵", "\u049f", "\u04c0", "\ua860", "="]
)
def test_letters_that_are_none_of_base32768_are_refused(letter: str) -> None:
    letters = base32768.encode(bytes(range(16)))
    for wrong in (letter, letter + letters, letters[:3] + letter + letters[3:], letters + letter):
        with pytest.raises(ValueError, match="base32768"):
            base32768.decode(wrong)


def test_a_short_letter_before_the_end_is_refused() -> None:
    short = base32768.encode(bytes(2))[-1]
    for wrong in (short + base32768.encode(bytes(15)), base32768.encode(bytes(2)) + base32768.encode(bytes(15))):
        with pytest.raises(ValueError, match="not a letter"):
            base32768.decode(wrong)


def test_what_is_left_of_the_last_letter_must_be_ones() -> None:
    letters = base32768.encode(b"\0\0")
    with pytest.raises(ValueError, match="ones"):
        base32768.decode(letters[:-1] + chr(ord(letters[-1]) - 1))


def test_no_normal_form_changes_a_letter_of_base32768() -> None:
    letters = base32768.encode(b"".join(value.to_bytes(15, "big") for value in _each_value()))
    assert len(set(letters)) >= 32_768
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert unicodedata.normalize(form, letters) == letters


def _each_value() -> list[int]:
    """All values of 15 bits in a row, eight to a number of 15 bytes."""
    return [sum((first + at) << 15 * (7 - at) for at in range(8)) for first in range(0, 1 << 15, 8)]
