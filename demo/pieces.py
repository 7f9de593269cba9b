"""The demo library's music: two albums, five pieces, and the words to one of them. Data only."""

from dataclasses import dataclass

from sound import Part, Score

LEFT, MIDDLE, RIGHT = 0.75 + 0.45j, 0.6 + 0.6j, 0.45 + 0.75j


@dataclass(frozen=True)
class Piece:
    """One track; a text of timed lines, if there is one, goes beside it."""

    title: str
    genre: str
    score: Score
    lyrics: str = ""


@dataclass(frozen=True)
class Album:
    """A folder of pieces; the picture is the name of a function of the module `cover`."""

    title: str
    picture: str
    pieces: list[Piece]


MORNING_BELLS = Score(
    tempo=66,
    tail=3,
    room=0.8,
    parts=[
        Part(
            "pad",
            MIDDLE,
            0.16,
            """
            D3+A3+F#4/4 | B2+F#3+D4/4 | G2+D3+B3/4   | A2+E3+B3/4
            D3+A3+F#4/4 | B2+F#3+D4/4 | G2+D3+B3/2 A2+E3+A3/2 | D3+A3+F#4/4""",
        ),
        Part(
            "bell",
            RIGHT,
            0.55,
            """
            F#5/1.5 E5/.5 D5/2 | F#5 A5 B5/2   | A5/1.5 B5/.5 D6/2 | B5 A5 E5/2
            F#5/1.5 E5/.5 D5/2 | F#5 E5 B4/2   | D5 B4 E5 F#5      | D5/3 A5+D6""",
        ),
        Part(
            "bell",
            LEFT,
            0.40,
            """
            -/4               | -/4           | D4/4              | E4/4
            D4/2 A4/2         | B4/2 F#4/2    | G4/2 A4/2         | D4/4""",
        ),
        Part(
            "harp",
            MIDDLE,
            0.2,
            """
            -/8
            G2/.5 D3/.5 B3/.5 D4/.5 A4/.5 D4/.5 B3/.5 D3/.5   | A2/.5 E3/.5 B3/.5 E4/.5 A4/.5 E4/.5 B3/.5 E3/.5
            D3/.5 A3/.5 E4/.5 F#4/.5 A4/.5 F#4/.5 E4/.5 A3/.5 | B2/.5 F#3/.5 D4/.5 F#4/.5 A4/.5 F#4/.5 D4/.5 F#3/.5
            G2/.5 D3/.5 B3/.5 D4/.5 A2/.5 E3/.5 A3/.5 E4/.5   | D3/.5 A3/.5 D4/.5 F#4/.5 A4/2""",
        ),
    ],
)

MORNING_WORDS = """\
[ti:Morning Bells]
[ar:The Playhead Ensemble]
[al:First Light]
[00:00.00]♪
[00:03.60]The window turns from grey to blue –
[00:07.30]one bell, and then another,
[00:10.90]and light comes down the stairs, as though
[00:14.50]it hadn’t left last summer.
[00:18.20]The kettle hums. The street is still.
[00:21.80]The bells have found their tune again,
[00:25.50]and all the day is waiting.
[00:31.00]♪
"""

SLOW_RIVER = Score(
    tempo=190,
    tail=3,
    room=0.5,
    parts=[
        Part(
            "harp",
            MIDDLE,
            0.2,
            """
            A2 E3 A3 B3 C4 E4 | A2 E3 A3 B3 C4 E4 | F2 C3 A3 C4 E4 C4 | F2 C3 A3 C4 E4 G4
            C3 G3 C4 D4 E4 G4 | B2 G3 B3 D4 G4 D4 | A2 E3 A3 B3 C4 E4 | A2 E3 A3 C4 B3 A3
            D3 A3 C4 D4 F4 C4 | A2 E3 A3 C4 E4 C4 | F2 C3 A3 C4 E4 C4 | G2 D3 G3 B3 D4 G4
            A2 E3 A3 B3 C4 E4 | F2 C3 A3 C4 E4 C4 | G2 D3 A3 C4 B3 D4 | A2+E3+A3+C4+E4/6""",
        ),
        Part(
            "zither",
            RIGHT,
            0.4,
            """
            -/6             | E5/3 D5 C5/2   | A4/4 C5/2      | E5/3 C5 A4/2
            G4/3 C5 D5/2    | D5/3 B4 G4/2   | A4/6           | -/3 C5 D5 E5
            F5/3 E5 D5/2    | E5/3 C5 A4/2   | C5/2 A4 C5 D5/2 | B4/3 D5 G5/2
            E5/6            | C5/3 A4/3      | D5/3 B4/3      | A4/6""",
        ),
        Part(
            "bell",
            LEFT,
            0.12,
            """
            -/6 | -/6 | -/6 | -/6   | -/6 | -/6 | E5/3 A5/3 | -/6
            A4/6 | C5/6 | A4/6 | B4/6 | C5/6 | E5/6 | D5/6  | E5/3 A5/3""",
        ),
    ],
)

SPRING_BREEZE = Score(
    tempo=84,
    tail=3,
    room=0.5,
    parts=[
        Part("pad", MIDDLE, 0.09, "G2+D3/12 | G2+D3/12 | E2+B2/6 | D2+A2/6 | G2+D3/6"),
        Part(
            "zither",
            MIDDLE,
            0.36,
            """
            D4 G4 A4          | B4/2 A4         | G4 A4/.5 G4/.5 E4 | D4/3
            D4 G4 A4          | B4 D5 E5        | D5 B4/.5 A4/.5 B4 | A4/3
            E5/1.5 D5/.5 B4   | D5/1.5 B4/.5 A4 | B4 A4 G4          | E4 D4/.5 E4/.5 A4 | G4/3 | G4+D5+G5/3""",
        ),
        Part(
            "zither",
            LEFT,
            0.17,
            """
            G2+D3/2 D4        | G2/2 D4         | E3/2 B3           | G2+D3/3
            G2+D3/2 D4        | G3/2 B3         | G2/2 D4           | D3+A3/3
            E3/2 B3           | D3/2 A3         | G2/2 D4           | E3 D3/2           | G2+D3+G3/3 | G2+D3/3""",
        ),
        Part(
            "box",
            RIGHT,
            0.16,
            """
            -/3 | -/3 | -/3   | - D5/.5 E5/.5 G5/.5 A5/.5
            -/3 | -/3 | -/3   | - A5/.5 B5/.5 D6/.5 E6/.5
            -/3 | -/3 | D6 B5 A5 | G5 A5/.5 B5/.5 D6 | B5/.5 A5/.5 G5/2 | -/3""",
        ),
    ],
)

PAPER_LANTERNS = Score(
    tempo=96,
    tail=3,
    room=0.6,
    parts=[
        Part(
            "box",
            MIDDLE,
            0.34,
            """
            E5 A5 C6      | B5/2 G5       | G5 B5 D6 | C6/2 A5
            A5 C6 E6      | D6/2 B5       | C6 B5 G5 | E5/3
            A5/1.5 G5/.5 A5 | B5/1.5 A5/.5 G5 | G5 E5 D5 | E5/3
            F5 A5 D6      | C6 B5 D6      | C6/3     | E5+G5+C6/3""",
        ),
        Part(
            "harp",
            LEFT,
            0.18,
            """
            F2 A3+C4 A3+E4 | G2 B3+D4 B3+D4 | E2 G3+B3 G3+D4 | A2 C4+E4 C4+E4
            F2 A3+C4 A3+E4 | G2 B3+D4 B3+D4 | C3 G3+B3 G3+E4 | C3 G3+C4 G3+E4
            F2 A3+C4 A3+E4 | G2 B3+D4 B3+D4 | E2 G3+B3 G3+D4 | A2 C4+E4 C4+E4
            D3 A3+C4 A3+F4 | G2 B3+D4 B3+F4 | C3 G3+B3 G3+E4 | C3+G3+C4+E4/3""",
        ),
        Part(
            "bell",
            RIGHT,
            0.16,
            """
            -/12 -/12
            C4/3 | D4/3 | B3/3 | C4/3 | D4/3 | F4/3 | E4/3 | C5/3""",
        ),
    ],
)

LONG_TIDE = Score(
    tempo=62,
    tail=3,
    room=0.9,
    parts=[
        Part(
            "pad",
            MIDDLE,
            0.16,
            """
            D3+A3+F#4/6 | E3+B3+G4/6 | G2+D3+B3+F#4/6 | B2+F#3+D4+A4/6 | A2+E3+B3+D4/6 | D3+A3+E4+F#4/6""",
        ),
        Part(
            "harp",
            LEFT,
            0.20,
            """
            D2/.5 A2/.5 D3/.5 F#3/.5 A3/.5 C#4/.5 E4/.5 A4/2.5 | E2/.5 B2/.5 E3/.5 G3/.5 B3/.5 D4/.5 F#4/.5 B4/2.5
            G2/.5 D3/.5 G3/.5 A3/.5 B3/.5 D4/.5 F#4/.5 A4/2.5  | B2/.5 F#3/.5 B3/.5 C#4/.5 D4/.5 F#4/.5 A4/.5 C#5/2.5
            A2/.5 E3/.5 A3/.5 B3/.5 D4/.5 E4/.5 G4/.5 B4/2.5   | D2+A2+D3+A3+E4+F#4+A4/6""",
        ),
        Part(
            "bell",
            RIGHT,
            0.30,
            """
            -/4 F#5 E5     | B4/2 - D5 E5/2 | F#5/2 - D5 A5/2 | F#5/2 - E5 C#5/2
            D5/2 - B4 E5/2 | F#5/3 D5/3""",
        ),
    ],
)

ALBUMS = [
    Album(
        "First Light",
        "sunrise",
        [
            Piece("Morning Bells", "Ambient", MORNING_BELLS, MORNING_WORDS),
            Piece("Slow River", "Folk", SLOW_RIVER),
            Piece("봄바람", "Folk", SPRING_BREEZE),
        ],
    ),
    Album(
        "Evening Water",
        "lanterns",
        [
            Piece("Paper Lanterns", "Classical", PAPER_LANTERNS),
            Piece("Long Tide", "Ambient", LONG_TIDE),
        ],
    ),
]
