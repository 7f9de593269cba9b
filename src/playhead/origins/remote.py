"""What every origin behind a network tells of itself, for its limits, for the figures, and for what is kept of it."""

from collections import Counter
from dataclasses import dataclass, field

from playhead.limits import Limits
from playhead.tree import Tree


@dataclass(slots=True)
class Traffic:
    """What goes between us and one origin, and what may."""

    limits: Limits = field(default_factory=Limits)
    received: int = 0  # bytes of files and listings
    outcomes: Counter[str] = field(default_factory=Counter)  # requests by status; "failed" where there was no answer


class Remote(Tree):
    """A tree behind a network.

    `place` names it for people and figures and holds no secret ("https://host", "gdrive:music"); `known_by` stands for
    where it is and for the credentials: what is kept of it is kept under that.
    """

    place: str
    known_by: str
    traffic: Traffic
