"""What names of files and folders suggest."""

import pytest

from playhead.catalogue.inferred import Hints, inferred

PATHS = [
    ("Björk/Homogenic/02 - Jóga.flac", Hints("Jóga", "Björk", "Homogenic", "Björk", 2)),
    (
        "Music/Pink Floyd/1979 - The Wall/CD2/03 Vera.mp3",
        Hints("Vera", "Pink Floyd", "The Wall", "Pink Floyd", 3, 2, None, "1979"),
    ),
    (
        "Various Artists/Now 42 (1999)/1-03 Blur - Tender.mp3",
        Hints("Tender", "Blur", "Now 42", "Various Artists", 3, 1, None, "1999", True),
    ),
    ("Blur - Tender.mp3", Hints("Tender", "Blur")),
    ("song.mp3", Hints("song")),
    ("Kind of Blue/02. Freddie Freeloader.ogg", Hints("Freddie Freeloader", None, "Kind of Blue", track=2)),
    ("Miles Davis/Kind of Blue/203 Foo.mp3", Hints("Foo", "Miles Davis", "Kind of Blue", "Miles Davis", 3, 2)),
    ("X/Y/Track 07.mp3", Hints("Track 07", "X", "Y", "X", 7)),
    ("X/Y/07.mp3", Hints("07", "X", "Y", "X", 7)),
    (
        "Pink Floyd - The Wall [1979]/Disc 1 - In the Flesh/A2 The Thin Ice.mp3",
        Hints("The Thin Ice", "Pink Floyd", "The Wall", "Pink Floyd", 2, 1, "In the Flesh", "1979"),
    ),
    ("a_b/01_some_title.ogg", Hints("some title", None, "a b", track=1)),
    ("U2/Boy/05 - 40.mp3", Hints("40", "U2", "Boy", "U2", 5)),
    ("Artist/Album (Disc 2)/04 x.mp3", Hints("x", "Artist", "Album", "Artist", 4, 2)),
    ("99 Luftballons.mp3", Hints("99 Luftballons")),
    ("Nena/99 Luftballons/01 99 Luftballons.mp3", Hints("99 Luftballons", "Nena", "99 Luftballons", "Nena", 1)),
    ("Rush/2112/01 2112.flac", Hints("2112", "Rush", "2112", "Rush", 1)),
    ("2112.mp3", Hints("2112")),
    ("王菲/天空/03 棋子.mp3", Hints("棋子", "王菲", "天空", "王菲", 3)),
    ("Artist - Album - 03 - Title.mp3", Hints("Title", "Artist", "Album", track=3)),
    ("Artist/Artist - Album/Artist - Album - 03 - Title.mp3", Hints("Title", "Artist", "Album", "Artist", 3)),
    (
        "Bach/Cello Suites/03 - Suite No. 1 - Prelude.flac",
        Hints("Suite No. 1 - Prelude", "Bach", "Cello Suites", "Bach", 3),
    ),
    (".mp3", Hints(".mp3")),
    ("", Hints("?")),
]


@pytest.mark.parametrize(("path", "expected"), PATHS, ids=[row[0] for row in PATHS])
def test_a_path_suggests_what_a_person_would_read_in_it(path: str, expected: Hints) -> None:
    assert inferred(path) == expected


def test_names_that_are_no_text_and_endless_ones_are_read_without_harm() -> None:
    assert inferred("a\udcff/b\u202e\x1b.mp3") == Hints("b", None, "a\ufffd")
    assert len(inferred("x - " * 100_000 + ".mp3").title) <= 500
    assert inferred("(" * 5000 + "/" + "1" * 5000 + " a.mp3").title
