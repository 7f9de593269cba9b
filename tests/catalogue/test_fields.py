"""What texts mean: lists of names, genres, numbers, dates, gains."""

import pytest

from playhead.catalogue import fields


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["AC/DC"], ("AC/DC",)),
        (["A; B", "C"], ("A", "B", "C")),
        (["A / B"], ("A", "B")),
        (["A\0B\0A"], ("A", "B")),
        (["Simon & Garfunkel"], ("Simon & Garfunkel",)),
        (["Earth, Wind & Fire"], ("Earth, Wind & Fire",)),
        (["Steins;Gate"], ("Steins;Gate",)),
        (["", " \x00 "], ()),
    ],
)
def test_names_are_parted_only_where_that_is_safe(texts: list[str], expected: tuple[str, ...]) -> None:
    assert fields.names(texts) == expected


def test_the_list_of_artists_in_2_3_is_parted_where_the_credit_or_the_ids_say_so() -> None:
    assert fields.listed(["A/B"], "A feat. B", 0) == ("A", "B")
    assert fields.listed(["AC/DC"], "AC/DC", 1) == ("AC/DC",)
    assert fields.listed(["AC/DC"], "AC/DC feat. X", 0) == ("AC/DC",)
    assert fields.listed(["Ana/Eva"], "Those two", 2) == ("Ana", "Eva")
    assert fields.listed(["Ana/Eva"], "Those two", 1) == ("Ana/Eva",)
    assert fields.listed([], "A", 0) == ()


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["(17)Rock"], ("Rock",)),
        (["(17)"], ("Rock",)),
        (["17"], ("Rock",)),
        (["(4)(51)Eurodisco"], ("Disco", "Techno-Industrial", "Eurodisco")),
        (["(RX)(CR)"], ("Remix", "Cover")),
        (["((17) Years"], ("(17) Years",)),
        (["Rock; Pop", "rock"], ("Rock", "Pop")),
        (["Folk, World, & Country"], ("Folk, World, & Country",)),
        (["Pop/Rock"], ("Pop/Rock",)),
        (["(999)", "255"], ()),
    ],
)
def test_genres_are_names_also_where_they_were_numbers(texts: list[str], expected: tuple[str, ...]) -> None:
    assert fields.genres(texts) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", (3, None)),
        ("03/12", (3, 12)),
        ("3 of 12", (3, 12)),
        ("A2", (2, None)),
        ("0/0", (None, None)),
        ("/12", (12, None)),
        ("-1", (None, None)),
        ("", (None, None)),
        ("³", (None, None)),
        ("9" * 400, (99999, None)),
    ],
)
def test_numbers_are_told_with_how_many_there_are(text: str, expected: tuple[int | None, int | None]) -> None:
    assert fields.counted(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1997", "1997"),
        ("1997-09", "1997-09"),
        ("1997-09-22", "1997-09-22"),
        ("1997-09-22T10:11:12Z", "1997-09-22"),
        ("1997-9-2", "1997-09-02"),
        ("1997/09/22", "1997-09-22"),
        ("19970922", "1997-09-22"),
        ("22.09.1997", "1997-09-22"),
        ("22/09/1997", "1997-09-22"),
        ("09/22/1997", "1997-09-22"),
        ("09/08/1997", "1997"),
        ("22 Sep 1997", "1997-09-22"),
        ("September 22, 1997", "1997-09-22"),
        ("Sept. 1997", "1997-09"),
        ("1997年9月22日", "1997-09-22"),
        ("1997-00-00", "1997"),
        ("1997-02-30", "1997-02"),
        ("2000-02-29", "2000-02-29"),
        ("1900-02-29", "1900-02"),
        ("(c) 1997 Somebody", "1997"),
        ("0000", None),
        ("97", None),
        ("soon", None),
        ("12345", None),
    ],
)
def test_dates_in_any_form_become_one(text: str, expected: str | None) -> None:
    assert fields.date(text) == expected


def test_gains_and_peaks_are_numbers_or_nothing() -> None:
    assert fields.decibels("-6.54 dB") == -6.54
    assert fields.decibels("+1,2") == 1.2
    assert [fields.decibels(text) for text in ("", "loud", "1e9", "900 dB", "-inf dB", "nan")] == [None] * 6
    assert (fields.peak("0.98"), fields.peak("-1"), fields.peak("nan")) == (0.98, None, None)
    assert (fields.r128("-1280"), fields.r128("0"), fields.r128("99999"), fields.r128("x")) == (0.0, 5.0, None, None)


def test_identifiers_are_found_however_they_are_joined() -> None:
    one, two = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-22222222ABCD"
    assert fields.uuids([f"{one}/{two}", one, "none"]) == (one, two.lower())
    assert fields.isrcs(["GB-BLG-97-00123", "x"]) == ("GBBLG9700123",)


def test_one_line_stays_one_line_and_names_keep_their_letters() -> None:
    assert fields.line(" a\tb\n\u202ec\u0000 ") == "a b c"
    assert fields.line("नी\u200dले 👩\u200d🎤 שלום") == "नी\u200dले 👩\u200d🎤 שלום"
    assert fields.line("\ud800x") == "\ufffdx"
    assert fields.lines("a\r\nb\rc\u2029d") == "a\nb\nc\nd"
