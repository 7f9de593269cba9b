"""Sets of ranges, compared with sets of numbers."""

from hypothesis import given, settings
from hypothesis import strategies as st

from playhead.spans import Spans

ends = st.tuples(st.integers(0, 60), st.integers(0, 60))
added = st.lists(ends, max_size=20)


def model(spans: list[tuple[int, int]]) -> set[int]:
    return {at for start, stop in spans for at in range(start, stop)}


def runs(offsets: set[int]) -> list[tuple[int, int]]:
    """The fewest ranges that a set of offsets is, in order."""
    starts = sorted(at for at in offsets if at - 1 not in offsets)
    stops = sorted(at + 1 for at in offsets if at + 1 not in offsets)
    return list(zip(starts, stops, strict=True))


@given(added)
@settings(max_examples=400, deadline=None)
def test_it_is_the_set_of_what_was_added_in_the_fewest_ranges(spans: list[tuple[int, int]]) -> None:
    kept = Spans(spans)
    assert list(kept) == runs(model(spans))
    assert len(kept) == len(runs(model(spans)))
    assert kept.total == len(model(spans))


@given(added, ends)
@settings(max_examples=400, deadline=None)
def test_what_it_covers_is_what_it_holds_all_of(spans: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    assert Spans(spans).covers(*asked) == (set(range(*asked)) <= model(spans))


@given(added, ends)
@settings(max_examples=400, deadline=None)
def test_what_is_missing_is_the_rest_in_order(spans: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    assert Spans(spans).missing(*asked) == runs(set(range(*asked)) - model(spans))


@given(added, ends)
@settings(max_examples=200, deadline=None)
def test_adding_what_is_missing_covers_it(spans: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    kept = Spans(spans)
    for gap in kept.missing(*asked):
        kept.add(*gap)
    assert kept.covers(*asked)
    assert kept.missing(*asked) == []


@given(st.permutations([(at, at + 3) for at in range(0, 60, 3)]))
@settings(max_examples=100, deadline=None)
def test_what_arrives_in_any_order_is_one_range_in_the_end(spans: list[tuple[int, int]]) -> None:
    assert list(Spans(spans)) == [(0, 60)]


def test_ranges_that_touch_are_one_and_empty_ones_are_none() -> None:
    assert list(Spans([(0, 5), (5, 9)])) == [(0, 9)]
    assert list(Spans([(0, 5), (6, 9)])) == [(0, 5), (6, 9)]
    assert list(Spans([(3, 3), (9, 2)])) == []
    assert repr(Spans([(2, 4)])) == "Spans([(2, 4)])"


def test_an_empty_range_is_always_covered() -> None:
    assert Spans().covers(7, 7)
    assert Spans().missing(7, 7) == []


def test_offsets_beyond_any_file_are_fine() -> None:
    kept = Spans([(0, 1 << 80)])
    assert kept.missing(1 << 79, 1 << 81) == [(1 << 80, 1 << 81)]
