"""Blobs and their compositions."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playhead import Blob, Changed, Damaged, concat, cut, deferred, literal
from playhead.blob import FileSpan, Pieces, identity
from tests.laws import check_blob

Made = tuple[Callable[[], Blob], bytes]


def _deferred(made: Made) -> Made:
    make, data = made

    async def opening() -> Blob:
        return make()

    return lambda: deferred(len(data), None, opening), data


def _cut(drawn: tuple[Made, int, int]) -> Made:
    (make, data), *ends = drawn
    start, stop = sorted(min(end, len(data)) for end in ends)
    return lambda: cut(make(), start, stop), data[start:stop]


def _concat(parts: list[Made]) -> Made:
    return lambda: concat(make() for make, _ in parts), b"".join(data for _, data in parts)


literals = st.binary(max_size=200).map(lambda data: (lambda: literal(data), data))
compositions = st.recursive(
    literals,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5).map(_concat),
        st.tuples(inner, st.integers(0, 300), st.integers(0, 300)).map(_cut),
        inner.map(_deferred),
    ),
    max_leaves=12,
)


@given(compositions)
@settings(max_examples=150, deadline=None)
def test_any_composition_is_its_bytes(made: Made) -> None:
    make, data = made

    async def check() -> None:
        await check_blob(make(), data)

    asyncio.run(check())


@given(compositions)
@settings(max_examples=100, deadline=None)
def test_equal_compositions_have_equal_tags(made: Made) -> None:
    make, _ = made
    assert make().tag == make().tag


def test_tags_compose() -> None:
    a, b = literal(b"one"), literal(b"two")
    assert (a + b).tag != (b + a).tag
    assert a[0:2].tag != a[1:3].tag
    assert a[0:3] is a
    assert literal(b"one").tag == a.tag
    assert literal(b"one", tag=None).tag is None
    assert (a + literal(b"x", tag=None)).tag is None
    assert identity("k", "a", "bc") != identity("k", "ab", "c")


async def test_a_hundred_thousand_parts() -> None:
    parts = [literal(b"%06d" % number, tag=None) for number in range(100_000)]
    whole = concat(parts)
    assert whole.size == 600_000
    assert await whole.read(299_999, 300_013) == b"".join(b"%06d" % n for n in range(49_999, 50_003))[5:19]
    asked: list[int] = []

    class Counting(list):  # type: ignore[type-arg]
        def __getitem__(self, at: int) -> int:
            asked.append(at)
            return ends[at]

    ends = whole.ends  # type: ignore[attr-defined]
    object.__setattr__(whole, "ends", Counting(ends))
    assert await whole.read(599_994, 600_000) == b"099999"
    assert len(asked) <= 40  # a bisection of 100,000, once or twice


async def test_slices_are_those_of_bytes() -> None:
    blob, data = literal(b"abcdefgh"), b"abcdefgh"
    for wanted in (slice(None, 3), slice(-3, None), slice(2, -2), slice(5, 2), slice(100, 200), slice(None)):
        assert await blob[wanted].read() == data[wanted]
    with pytest.raises(ValueError, match="steps"):
        blob[::2]
    with pytest.raises(ValueError, match="no \\[3, 9\\)"):
        cut(blob, 3, 9)


async def test_adding_in_a_row_stays_flat() -> None:
    blob = literal(b"")
    for number in range(2000):
        blob = blob + literal(b"%d " % number, tag=None)
    assert (await blob.read()).split() == [b"%d" % number for number in range(2000)]


async def test_a_deferred_blob_is_opened_once_and_must_be_what_was_listed() -> None:
    opened = []

    async def opening() -> Blob:
        opened.append(1)
        return literal(b"music", "v:1")

    blob = deferred(5, "v:1", opening)
    assert blob.here(0, 5) is None
    await check_blob(blob, b"music")
    assert len(opened) == 1
    assert blob.here(0, 5) is not None
    for other in (deferred(6, "v:1", opening), deferred(5, "v:2", opening)):
        with pytest.raises(Changed):
            await other.read()


async def test_closing_early_closes_what_is_behind() -> None:
    closed = []

    class Endless(Blob):
        async def stream(self, start: int, stop: int) -> Pieces:
            try:
                while True:
                    yield b"x"
            finally:
                closed.append(True)

    whole = concat([literal(b"ab"), Endless(100, None), literal(b"cd")])[1:]
    stream = whole.stream(0, whole.size)
    await anext(stream)
    await anext(stream)
    await stream.aclose()
    assert closed == [True]


def test_a_span_of_a_file_that_shrank_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    with (tmp_path / "f").open("rb") as file:
        span = FileSpan(file, 2, 6)
        assert span.read() == b"234567"
        assert span.pread(1, 3) == b"34"
        os.truncate(tmp_path / "f", 5)
        with pytest.raises(Damaged):
            span.read()
