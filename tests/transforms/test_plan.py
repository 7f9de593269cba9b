"""Members -> a frozen plan: names that are safe and unique, numbers that fit, and an identity."""

import json
import re
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from playhead import Malformed
from playhead.transforms.plan import LONGEST, Member, Plan, Planning, Texts, clean
from playhead.transforms.tar import tar
from playhead.transforms.zip import zip
from tests.archives import Bundle, planned


def names(*given: str) -> list[str]:
    """What these names become; one that ends in "/" is a folder's."""
    plan = planned(*(Member(name.removesuffix("/"), folder=name.endswith("/")) for name in given))
    return [member.name for member in plan]


# ── names ──

CLEAN = {
    "song.ogg": "song.ogg",
    "노래/별 헤는 밤.ogg": "노래/별 헤는 밤.ogg",
    "../../etc/passwd": "etc/passwd",
    "a/../../b": "a/b",
    "..": "unnamed",
    "/etc/passwd": "etc/passwd",
    "///a": "a",
    "//server/share/a": "server/share/a",
    "C:\\Windows\\x.dll": "C_/Windows/x.dll",
    "c:x": "c_x",
    "./c:/x": "c_/x",
    "../c:x": "c_x",
    "a/c:/x": "a/c:/x",
    "12:30": "12:30",
    "..\\..\\x": "x",
    "a\\b": "a/b",
    "a\0b": "a_b",
    "a\nb\tc\x1b[31md\x7f": "a_b_c_[31md_",
    "..\0/x": ".._/x",
    "": "unnamed",
    "/": "unnamed",
    ".": "unnamed",
    "./././x/.": "x",
    "x/./y//z/": "x/y/z",
    "...": "...",
    ".hidden": ".hidden",
    "bad\udcff\udcfe.mp3": "bad\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}.mp3",
    "노\udcec\udc9e.mp3": "노\N{REPLACEMENT CHARACTER}.mp3",
    "\udce6\udca3\udcae": "森",
    "a b'c%20&?*#": "a b'c%20&?*#",
    "가": "가",
}


@pytest.mark.parametrize("name", CLEAN)
def test_a_name_becomes_one_that_every_reader_takes(name: str) -> None:
    assert clean(name) == CLEAN[name]
    assert clean(CLEAN[name]) == CLEAN[name]


def test_half_a_surrogate_pair_is_replaced_too() -> None:
    assert clean(json.loads('"a\\ud800"')) == "a\N{REPLACEMENT CHARACTER}"


def test_the_other_controls_are_replaced_too() -> None:
    assert clean("a\x85b\x9b31mc") == "a_b_31mc"


UNIQUE: list[tuple[list[str], list[str]]] = [
    (["a", "a", "a"], ["a", "a (2)", "a (3)"]),
    (["s.ogg", "s.ogg"], ["s.ogg", "s (2).ogg"]),
    (["f.x/s.tar.gz", "f.x/s.tar.gz"], ["f.x/s.tar.gz", "f.x/s.tar (2).gz"]),
    ([".hidden", ".hidden"], [".hidden", ".hidden (2)"]),
    (["f.x/a", "f.x/a"], ["f.x/a", "f.x/a (2)"]),
    (["노래.mp3", "노래.mp3"], ["노래.mp3", "노래 (2).mp3"]),
    (["a (2)", "a", "a"], ["a (2)", "a", "a (3)"]),
    (["a/b", "../a/b", "/a//b"], ["a/b", "a/b (2)", "a/b (3)"]),
    (["", "..", "/"], ["unnamed", "unnamed (2)", "unnamed (3)/"]),
    # a file where a folder is, and the other way round
    (["a", "a/b"], ["a", "a (2)/b"]),
    (["a", "a/b", "a/c"], ["a", "a (2)/b", "a (2)/c"]),
    (["a", "a/b", "a/b"], ["a", "a (2)/b", "a (2)/b (2)"]),
    (["a/b", "a"], ["a/b", "a (2)"]),
    (["a/b/c", "a/b"], ["a/b/c", "a/b (2)"]),
    (["a/", "a"], ["a/", "a (2)"]),
    (["a", "a/"], ["a", "a (2)/"]),
    (["a", "a/", "a/b"], ["a", "a (2)/", "a (2)/b"]),
    (["a/b", "a/b/c", "a", "a/b/c"], ["a/b", "a/b (2)/c", "a (2)", "a/b (2)/c (2)"]),
    (["s.ogg", "s.ogg/x"], ["s.ogg", "s.ogg (2)/x"]),
    # a folder twice is one folder
    (["a/", "a/"], ["a/"]),
    (["a/b", "a/", "a/"], ["a/b", "a/"]),
    (["a/b/", "a/", "a/b/c/", "a/b/"], ["a/b/", "a/", "a/b/c/"]),
]


@pytest.mark.parametrize(("given", "made"), UNIQUE, ids=[" ".join(given) for given, _ in UNIQUE])
def test_names_are_made_unique(given: list[str], made: list[str]) -> None:
    assert names(*given) == made


def test_a_folder_that_gets_another_name_keeps_what_is_in_it() -> None:
    _, folder, inside = names("disc.1", "disc.1/", "disc.1/song")
    assert inside == f"{folder}song"


def test_a_folder_that_gets_another_name_is_still_one_folder() -> None:
    assert len(names("a", "a/", "a/")) == 2


def test_a_name_that_repeats_thousands_of_times() -> None:
    made = names(*["노래/song.ogg"] * 1500)
    assert made[0] == "노래/song.ogg"
    assert sorted(made[1:], key=len)[0] == "노래/song (2).ogg"
    assert len(set(made)) == 1500


_PART = st.one_of(
    st.sampled_from(["a", "b", "a (2)", "a (3)", "a.b", "a (2).b", "가", ".", "..", "...", "", "C:", " ", "unnamed"]),
    st.sampled_from(["\0", "\x1f", "\\", "a\\..\\b", "x" * 150, "\udcff", "노" * 50, "\N{COMBINING ACUTE ACCENT}"]),
    st.text(max_size=5),
)
_NAME = st.builds("/".join, st.lists(_PART, max_size=5))


def lawful(plan: Plan) -> None:
    """No two equal names, no file that is a folder too, and nothing that leaves the folder it is unpacked in."""
    made = [member.name for member in plan]
    bare = [name.removesuffix("/") for name in made]
    assert len(set(bare)) == len(bare)
    files = {name for name in made if not name.endswith("/")}
    for name in bare:
        parts = name.split("/")
        assert not {"/".join(parts[:count]) for count in range(1, len(parts))} & files
        assert not {"", ".", ".."} & set(parts)
        assert not re.search(r"[\0-\x1f\x7f\\]", name) and not re.match(r"[A-Za-z]:", name)
        assert len(name.encode()) <= LONGEST


@given(st.lists(st.tuples(_NAME, st.booleans()), max_size=14))
@example([("a", False), ("a", True), ("a (2)", False), ("a/b", False), ("a (2)/b", False)])
@settings(max_examples=400, deadline=None)
def test_no_plan_holds_what_cannot_be_unpacked(given: list[tuple[str, bool]]) -> None:
    plan = planned(*(Member(name, folder=folder) for name, folder in given))
    lawful(plan)
    assert sum(not folder for _, folder in given) == len(plan) - sum(plan.kinds)
    assert all(member.name.endswith("/") == member.folder for member in plan)


@given(st.lists(st.sampled_from(["a", "a/a", "a (2)", "a/a (2)", "a (2)/a", "a (2) (2)", "a/a/a"]), max_size=30))
@settings(max_examples=200, deadline=None)
def test_files_and_folders_of_one_name_never_meet(given: list[str]) -> None:
    lawful(planned(*(Member(name, folder=at % 3 == 0) for at, name in enumerate(given))))


def test_names_pass_through_neither_up_nor_out_nor_twice() -> None:
    """System 3: "../x", absolute names and duplicates passed through."""
    made = names("../x", "/x", "x", "a/../../x", "C:/x")
    assert made == ["x", "x (2)", "x (3)", "a/x", "C_/x"]


# ── numbers ──


@pytest.mark.parametrize("size", [-1, -(1 << 63), 1 << 62, 1 << 64, 1 << 200])
def test_sizes_that_no_archive_can_hold_are_malformed(size: int) -> None:
    with pytest.raises(Malformed, match="not a size"):
        planned(Member("a", size))


def test_sizes_that_no_archive_can_hold_together_are_malformed() -> None:
    async def none(number: int, ask: object) -> None:
        raise AssertionError

    with pytest.raises(Malformed):
        plan = planned(*(Member(f"{at}", (1 << 62) - 1) for at in range(3)))
        for made in (tar, zip):
            made(plan, none)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["n" * LONGEST, "노" * 21_845, f"{'n' * 200}/" * 400, "n" * 10_000_000])
def test_names_that_no_archive_can_hold_are_malformed(name: str) -> None:
    for folder in (False, True):
        with pytest.raises(Malformed, match="too long") as caught:
            planned(Member(name, folder=folder))
        assert len(str(caught.value)) < 300


def test_the_longest_name_is_held() -> None:
    for name in ("n" * (LONGEST - 1), "n" * (LONGEST - 1) + "/"):
        assert names(name) == [name]


def test_a_name_that_is_too_long_only_once_it_is_unique_is_malformed() -> None:
    planning = Planning()
    planning.add(Member("n" * (LONGEST - 1)))
    with pytest.raises(Malformed):
        planning.add(Member("n" * (LONGEST - 1)))


def test_a_thousand_folders_in_each_other_are_planned() -> None:
    assert names("f/" * 2000 + "n") == ["f/" * 2000 + "n"]


def test_what_was_refused_leaves_no_trace() -> None:
    planning = Planning()
    for wrong in (Member("a", -1), Member("f/b", -1)):
        with pytest.raises(Malformed):
            planning.add(wrong)
    for name in ("a", "f"):
        planning.add(Member(name))
    assert [member.name for member in planning.done()] == ["a", "f"]


@pytest.mark.parametrize("wrong", [{"mtime": 1.5}, {"size": 1.5}])
def test_a_time_or_size_that_is_not_whole_never_reaches_the_plan(wrong: dict[str, object]) -> None:
    planning = Planning()
    with pytest.raises((TypeError, Malformed)):
        planning.add(replace(Member("a"), **wrong))  # type: ignore[arg-type]
    planning.add(Member("b", mtime=7))
    assert [(member.name, member.mtime) for member in planning.done()] == [("b", 7)]


@pytest.mark.parametrize("column", ["place", "tag"])
def test_a_text_that_is_half_a_surrogate_pair_leaves_no_half_member(column: str) -> None:
    planning = Planning()
    with suppress(Malformed):
        planning.add(replace(Member("a"), **{column: json.loads('"\\ud800"')}))
    planning.add(Member("b", 7))
    assert [(member.name, member.size) for member in planning.done()][-1] == ("b", 7)


def test_times_are_kept_within_what_can_be_written() -> None:
    plan = planned(*(Member(f"{at}", mtime=time) for at, time in enumerate([-5, 0, 7, 1 << 39, 1 << 40, 1 << 80])))
    assert list(plan.mtimes) == [0, 0, 7, 1 << 39, (1 << 40) - 1, (1 << 40) - 1]


def test_modes_are_what_everybody_may_read_unless_given_and_never_more_than_permissions() -> None:
    plan = planned(Member("a"), Member("b", folder=True), Member("c", mode=0o104755), Member("d", mode=0o600))
    assert list(plan.modes) == [0o644, 0o755, 0o755, 0o600]


def test_a_folder_has_no_bytes() -> None:
    planning = Planning()
    planning.add(Member("a", 4096, folder=True))
    assert planning.bytes == planning.done().sizes[0] == 0


def test_bytes_are_counted() -> None:
    planning = Planning()
    for size in (0, 5, 1 << 40):
        planning.add(Member(f"{size}", size))
    assert planning.bytes == 5 + (1 << 40)


# ── texts ──


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9) | st.just("\udcff\udc80"), max_size=20))
@settings(max_examples=100, deadline=None)
def test_texts_are_given_back_as_they_were(given: list[str]) -> None:
    texts = Texts()
    for text in given:
        texts.append(text)
    assert len(texts) == len(given)
    assert [texts[at] for at in range(len(texts))] == given
    assert [texts.raw(at) for at in range(len(texts))] == [text.encode("utf-8", "surrogateescape") for text in given]
    with pytest.raises(IndexError):
        texts[len(given)]


def test_members_are_given_back_as_they_were() -> None:
    file = Member("a/노래.ogg", 5, mtime=7, mode=0o600, tag="w:tag\udcff", crc=0, place="where/it \udcff is")
    folder = Member("b/", folder=True, mtime=8, mode=0o700, place="b")
    plan = planned(file, replace(folder, name="b"), "c")
    assert list(plan) == [file, folder, Member("c", mode=0o644)]
    assert (plan[1], len(plan)) == (folder, 3)


# ── identity ──

OTHER: dict[str, object] = {
    "name": "b",
    "size": 6,
    "mtime": 8,
    "mode": 0o755,
    "tag": "v2",
    "crc": 1,
    "place": "elsewhere",
    "folder": True,
}
MEMBER = Member("a", 5, mtime=7, mode=0o644, tag="v1", place="there")


def test_equal_members_have_equal_tags() -> None:
    assert planned(MEMBER, "b").tag("tar 1") == planned(MEMBER, "b").tag("tar 1")
    assert planned().tag("tar 1") == planned().tag("tar 1")


@pytest.mark.parametrize("column", OTHER)
def test_any_difference_makes_another_tag(column: str) -> None:
    other = replace(MEMBER, **{column: OTHER[column]})  # type: ignore[arg-type]
    assert planned(MEMBER).tag("tar 1") != planned(other).tag("tar 1")
    assert planned("x", MEMBER, "y").tag("tar 1") != planned("x", other, "y").tag("tar 1")


def test_layout_order_and_number_make_another_tag() -> None:
    plans = [planned("a", "b"), planned("b", "a"), planned("a"), planned("ab"), planned("a", "bc"), planned("ab", "c")]
    tags = [plan.tag(layout) for plan in plans for layout in ("tar 1", "zip 1", "tar 2")]
    assert len(set(tags)) == len(tags)
    assert planned(Member("a", crc=0)).tag("zip 1") != planned(Member("a")).tag("zip 1")


def test_a_text_does_not_move_from_one_column_to_the_next() -> None:
    apart = planned(Member("a", tag="t", place="p"))
    assert len({apart.tag(""), planned(Member("at", place="p")).tag(""), planned(Member("ap", tag="t")).tag("")}) == 3


# ── kept on disk ──

_MEMBERS = st.lists(
    st.builds(
        Member,
        _NAME,
        st.integers(0, (1 << 58)),
        st.booleans(),
        st.integers(-5, 1 << 41),
        st.integers(0, 0o777),
        st.text(max_size=9),
        st.none() | st.integers(0, (1 << 32) - 1),
        st.text(max_size=9) | st.just("\udcff"),
    ),
    max_size=9,
)


@given(_MEMBERS)
@settings(max_examples=150, deadline=None)
def test_packed_and_unpacked_are_each_others_inverse(members: list[Member]) -> None:
    plan = planned(*members)
    again = Plan.unpacked(plan.packed())
    assert list(again) == list(plan)
    assert again.tag("tar 1") == plan.tag("tar 1")
    assert again.packed() == plan.packed()


PACKED = planned("a", Member("b", 5, mtime=7, tag="t", place="p"), Member("c", folder=True)).packed()
RAW = zlib.decompress(PACKED)


@given(st.binary(max_size=200))
@example(b"")
@settings(max_examples=100, deadline=None)
def test_garbage_is_not_a_plan(data: bytes) -> None:
    for garbage in (data, zlib.compress(data), zlib.compress((2).to_bytes(4, "little") + b"{}" + data)):
        with pytest.raises(ValueError):
            Plan.unpacked(garbage)


def test_a_plan_that_was_cut_off_is_not_a_plan() -> None:
    for at in range(len(PACKED)):
        with pytest.raises(ValueError):
            Plan.unpacked(PACKED[:at])


def test_a_plan_that_was_touched_is_not_another_plan() -> None:
    for at in range(len(PACKED)):
        try:
            plan = Plan.unpacked(PACKED[:at] + bytes([PACKED[at] ^ 0x10]) + PACKED[at + 1 :])
        except ValueError:
            continue
        assert plan.packed() == PACKED


def test_a_plan_whose_columns_are_not_of_one_length_is_not_a_plan() -> None:
    for cut in range(1, 3 * 8 * 4):
        with pytest.raises(ValueError):
            Plan.unpacked(zlib.compress(RAW[:-cut]))


WRONG: dict[str, Callable[[dict[str, object]], object]] = {
    "another version": lambda head: head | {"version": 2},
    "no version": lambda head: {"lengths": head["lengths"]},
    "no lengths": lambda head: {"version": 1},
    "no lists": lambda head: [],
    "too few": lambda head: head | {"lengths": [0] * 10},
    "texts": lambda head: head | {"lengths": ["a"] * 11},
    "none": lambda head: head | {"lengths": None},
    "other lengths": lambda head: head | {"lengths": [0] * 9 + [8, 0]},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_head_that_says_something_else_is_not_a_plan(wrong: str) -> None:
    begin = 4 + int.from_bytes(RAW[:4], "little")
    head = json.dumps(WRONG[wrong](json.loads(RAW[4:begin]))).encode()
    with pytest.raises(ValueError):
        Plan.unpacked(zlib.compress(len(head).to_bytes(4, "little") + head + RAW[begin:]))


def test_an_archive_of_an_unpacked_plan_is_the_same() -> None:
    bundle = Bundle([(Member("a", tag="t"), b"x" * 700), (Member("b/노래"), b"y")])
    again = Plan.unpacked(bundle.plan.packed())
    for made in (tar, zip):
        one, other = made(bundle.plan, bundle.open), made(again, bundle.open)
        assert (one.size, one.tag) == (other.size, other.tag)


# ── a million ──

_MILLION = """
import re
from playhead.transforms.plan import Member, Planning
from playhead.transforms.tar import tar
from playhead.transforms.zip import zip

planning = Planning()
for at in range(1_000_000):
    place = f"artist {at // 100}/album {at // 10 % 10}/{at:07} a song of some length.ogg"
    planning.add(Member(place, at, mtime=1_700_000_000 + at, tag=f"l:{at:032x}", place=place))
plan = planning.done()
archives = [tar(plan, None), zip(plan, None)]
for at in (0, 1, 499_999, 999_999):
    member = plan[at]
    assert (member.size, member.tag) == (at, f"l:{at:032x}")
    assert member.name == member.place == f"artist {at // 100}/album {at // 10 % 10}/{at:07} a song of some length.ogg"
assert all(archive.size > planning.bytes for archive in archives)
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""


@pytest.mark.torture
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell how much memory was used")
def test_a_million_members_stay_below_500_megabytes() -> None:
    done = subprocess.run([sys.executable, "-c", _MILLION], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) << 10 < 500_000_000
