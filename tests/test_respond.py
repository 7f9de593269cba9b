"""HTTP without I/O: ranges, conditions and names, by the tables of `tests.ranges` and by chance."""

import email
import re
import unicodedata
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from playhead import About, Blob, Request, Response, asked, literal, respond
from playhead.blob import Pieces
from playhead.respond import MAX_RANGES, Flow, disposition, flowing, refusal, wire_tag
from tests.ranges import CONDITIONS, RANGES, Condition, Row

NOW = datetime(2026, 11, 21, 6, 16, 5, tzinfo=UTC)
MODIFIED = NOW - timedelta(days=30)


def content(size: int) -> bytes:
    return bytes(at * 7 % 251 for at in range(size))


def got(response: Response) -> bytes:
    """The body, read without a loop: every body of these tests is in memory."""
    assert isinstance(response.body, Blob)
    pieces = response.body.here(0, response.body.size)
    assert pieces is not None
    return b"".join(bytes(piece) for piece in pieces)  # type: ignore[arg-type]


def headers(response: Response) -> dict[str, str]:
    found = {name.lower(): value for name, value in response.headers}
    assert len(found) == len(response.headers), "a header is given twice"
    return found


def ask(header: str | None, size: int, method: str = "GET", about: About = About()) -> Response:
    return respond(Request(method, {} if header is None else {"range": header}), literal(content(size)), about)


def parts(response: Response) -> list[tuple[str, str, bytes]]:
    """(Content-Type, Content-Range, bytes) of every part of a multipart answer, exactly as 14.6 lays it out."""
    kind, _, boundary = headers(response)["content-type"].partition("; boundary=")
    assert kind == "multipart/byteranges"
    assert re.fullmatch(r"[\w-]{1,70}", boundary)
    before, *found, after = got(response).split(b"\r\n--" + boundary.encode())
    assert (before, after) == (b"", b"--\r\n")
    split = []
    for part in found:
        head, _, body = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n"))
        split.append((lines.pop("Content-Type"), lines.pop("Content-Range"), body))
        assert not lines
    return split


def check(response: Response, data: bytes) -> None:
    """What is true of every answer: the body is the bytes that the headers say."""
    sent, body = headers(response), got(response)
    assert int(sent["content-length"]) == len(body)
    if response.status == 200:
        assert "content-range" not in sent
        assert body == data
    elif response.status == 416:
        assert sent["content-range"] == f"bytes */{len(data)}"
    elif sent["content-type"].startswith("multipart/"):
        assert "content-range" not in sent
        assert len(parts(response)) > 1
        for _, shown, part in parts(response):
            assert part == data[_slice(shown, len(data))]
    else:
        assert response.status == 206
        assert body == data[_slice(sent["content-range"], len(data))]


def _slice(shown: str, size: int) -> slice:
    match = re.fullmatch(rf"bytes (\d+)-(\d+)/{size}", shown)
    assert match
    start, last = map(int, match.groups())
    assert start <= last < size
    return slice(start, last + 1)


def _named(row: Row) -> str:
    return f"{(row.header or 'none')[:30].encode('ascii', 'backslashreplace').decode()}-of-{row.size}"


# ── ranges ──


@pytest.mark.parametrize("row", RANGES, ids=map(_named, RANGES))
def test_a_range_is_answered_as_the_table_says(row: Row) -> None:
    response = ask(row.header, row.size, about=About(type="audio/flac"))
    assert response.status == row.status
    check(response, content(row.size))
    if isinstance(row.given, tuple):
        assert [shown for _, shown, _ in parts(response)] == [f"bytes {part}/{row.size}" for part in row.given]
        assert {kind for kind, _, _ in parts(response)} == {"audio/flac"}
    elif row.given:
        assert headers(response)["content-range"] == f"bytes {row.given}/{row.size}"
        assert headers(response)["content-type"] == "audio/flac"


@pytest.mark.parametrize("row", RANGES, ids=map(_named, RANGES))
def test_a_range_is_ignored_for_head(row: Row) -> None:
    with_range, without = ask(row.header, row.size, "HEAD"), ask(None, row.size)
    assert (with_range.status, with_range.headers) == (200, without.headers)


specs = st.one_of(
    st.tuples(st.integers(0, 120), st.integers(0, 120)).map(lambda ends: f"{min(ends)}-{max(ends)}"),
    st.integers(0, 120).map(lambda first: f"{first}-"),
    st.integers(0, 120).map(lambda last: f"-{last}"),
)
well_formed = st.lists(specs, min_size=1, max_size=6).map(lambda items: "bytes=" + ",".join(items))


@given(well_formed, st.integers(0, 100))
@settings(max_examples=300, deadline=None)
def test_what_is_given_is_what_was_asked_for(header: str, size: int) -> None:
    response, data = ask(header, size), content(size)
    check(response, data)
    wanted = [_wanted(item, size) for item in header.removeprefix("bytes=").split(",")]
    bytes_wanted = {at for span in wanted for at in span}
    if not size or sum(map(len, wanted)) > size:
        assert response.status == 200
    elif not bytes_wanted:
        assert response.status == 416
    else:
        given = _given(response, size)
        assert sorted(at for span in given for at in span) == sorted(bytes_wanted)  # all of them, none twice
        firsts = [next(n for n, asked_for in enumerate(wanted) if set(asked_for) & set(span)) for span in given]
        assert firsts == sorted(firsts)  # in the order asked


def _wanted(item: str, size: int) -> range:
    first, _, last = item.partition("-")
    if not first:
        return range(max(0, size - int(last)), size)
    return range(int(first), min(size, int(last) + 1) if last else size)


def _given(response: Response, size: int) -> list[range]:
    if "content-range" in headers(response):
        shown = [headers(response)["content-range"]]
    else:
        shown = [part for _, part, _ in parts(response)]
    return [range(size)[_slice(part, size)] for part in shown]


@given(
    st.one_of(
        st.text(st.characters(max_codepoint=255), max_size=60),
        st.text("0123456789-, =bytes", max_size=60).map("bytes={}".format),
    ),
    st.integers(0, 100),
    st.sampled_from(["GET", "HEAD"]),
)
@settings(max_examples=300, deadline=None)
def test_any_text_as_a_range_gets_a_whole_answer(header: str, size: int, method: str) -> None:
    check(ask(header, size, method), content(size))


@given(well_formed, st.integers(0, 100))
@settings(max_examples=300, deadline=None)
def test_asked_tells_what_respond_then_reads_first(header: str, size: int) -> None:
    response, hint = ask(header, size), asked(Request("GET", {"range": header}))
    if hint.start is None:
        assert hint.stop is not None
        start, stop = max(0, size + hint.stop), size
    else:
        start, stop = hint.start, size if hint.stop is None else min(size, hint.stop)
    if response.status == 206 and start < stop:
        assert any(set(range(start, stop)) <= set(span) for span in _given(response, size))
        if "," not in header:
            assert _given(response, size) == [range(start, stop)]


def test_asked_wants_the_whole_where_there_is_no_range_and_nothing_where_nothing_is_sent() -> None:
    assert (asked(Request("GET", {})).start, asked(Request("GET", {})).stop) == (0, None)
    assert (asked(Request("GET", {"range": "items=0-1"})).start, asked(Request("GET", {})).stop) == (0, None)
    for nothing in (Request("HEAD", {}), Request("HEAD", {"range": "bytes=5-"}), Request("GET", {"range": "bytes=x"})):
        assert (asked(nothing).start, asked(nothing).stop) == (0, 0)


def test_several_ranges_are_read_by_the_email_parser_too() -> None:
    data = b"".join(b"line %d of the lyrics\n" % number for number in range(100))
    response = respond(Request("GET", {"range": "bytes=0-24,500-599,-7"}), literal(data), About(type="text/plain"))
    head = f"Content-Type: {headers(response)['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + got(response))
    assert not message.defects
    assert [part.get_payload(decode=True) for part in message.get_payload()] == [data[:25], data[500:600], data[-7:]]


def test_equal_requests_get_equal_bytes_also_in_several_parts() -> None:
    header = "bytes=0-9,20-29"
    assert got(ask(header, 100)) == got(ask(header, 100))
    assert headers(ask(header, 100)) == headers(ask(header, 100))
    assert headers(ask(header, 100))["content-type"] != headers(ask("bytes=0-9,20-30", 100))["content-type"]


def test_the_cap_on_ranges_counts_what_was_asked_for() -> None:
    at_most = ",".join(f"{at}-{at}" for at in range(0, 2 * MAX_RANGES, 2))
    assert ask(f"bytes={at_most}", 1000).status == 206
    assert ask(f"bytes={at_most},500-500", 1000).status == 200
    assert ask(f"bytes={at_most},5000-", 1000).status == 200


async def test_a_range_of_a_remote_blob_reads_that_range_only() -> None:
    read = []

    class Remote(Blob):
        async def stream(self, start: int, stop: int) -> Pieces:
            read.append((start, stop))
            yield bytes(stop - start)

    body = respond(Request("GET", {"range": "bytes=10-19,50-59"}), Remote(100, "v:1"), About()).body
    assert isinstance(body, Blob)
    await body.read()
    assert read == [(10, 20), (50, 60)]


# ── what every answer carries ──


@pytest.mark.parametrize("header", [None, "bytes=0-4", "bytes=0-1,5-6"])
def test_a_partial_answer_has_the_headers_of_the_whole(header: str | None) -> None:
    about = About("song.flac", "audio/flac", MODIFIED, cache="private, no-cache")
    sent = headers(ask(header, 100, about=about))
    assert sent["etag"] == f'"{wire_tag(literal(content(100)).tag or "")}"'
    assert sent["last-modified"] == format_datetime(MODIFIED, usegmt=True)
    assert sent["cache-control"] == "private, no-cache"
    assert sent["accept-ranges"] == "bytes"
    assert sent["x-content-type-options"] == "nosniff"
    assert "song.flac" in sent["content-disposition"]


def test_head_has_the_headers_of_get() -> None:
    about = About("song.flac", "audio/flac", MODIFIED)
    assert ask(None, 100, "HEAD", about).headers == ask(None, 100, "GET", about).headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "get", ""])
def test_other_methods_are_refused_with_those_that_are_allowed(method: str) -> None:
    response = ask("bytes=0-4", 100, method)
    assert (response.status, headers(response)["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=x"])
def test_a_refusal_is_one_line_of_text_that_nobody_keeps(header: str) -> None:
    response = ask(header, 100)
    assert headers(response)["content-type"] == "text/plain; charset=utf-8"
    assert headers(response)["cache-control"] == "no-store"
    assert got(response).count(b"\n") == 1
    assert got(response).endswith(b"\n")
    assert "etag" not in headers(response)


def test_a_refusal_takes_any_text() -> None:
    assert got(refusal(404, "no \udcff 별")) == "no ? 별\n".encode()


def test_a_blob_without_a_tag_has_no_etag_and_ranges_all_the_same() -> None:
    blob = literal(content(100), tag=None)
    response = respond(Request("GET", {"range": "bytes=0-4,7-8"}), blob, About())
    assert response.status == 206
    assert "etag" not in headers(response)
    check(response, content(100))


def test_an_etag_tells_nothing_of_where_the_file_is() -> None:
    sent = headers(respond(Request("GET", {}), literal(b"x", tag="l:/home/somebody/\udcff"), About()))
    assert re.fullmatch(r'"[\w-]{22}"', sent["etag"])


def test_different_tags_have_different_etags() -> None:
    assert len({wire_tag(f"v:{number}") for number in range(1000)}) == 1000


def test_a_last_modified_is_never_later_than_the_answer() -> None:
    about = About(modified=NOW + timedelta(days=1))  # RFC 9110, 8.8.2.1: MUST NOT
    sent = headers(respond(Request("GET", {}, NOW), literal(b"x"), about))
    assert "last-modified" not in sent or parsedate_to_datetime(sent["last-modified"]) <= NOW


def test_a_date_in_another_zone_is_sent_in_gmt() -> None:
    there = MODIFIED.astimezone().replace(microsecond=999_999)
    assert headers(ask(None, 1, about=About(modified=there)))["last-modified"].endswith(" GMT")
    assert headers(ask(None, 1, about=About(modified=there)))["last-modified"] == format_datetime(MODIFIED, usegmt=True)


async def test_what_has_no_size_is_given_without_ranges_or_length() -> None:
    async def pieces() -> Pieces:
        yield b"radio"

    response = flowing(Request("GET", {"range": "bytes=0-1"}), pieces(), About("live", "audio/mpeg"))
    sent = headers(response)
    assert (response.status, sent["accept-ranges"]) == (200, "none")
    assert not {"content-length", "content-range", "etag", "last-modified"} & set(sent)
    assert isinstance(response.body, Flow)
    assert [piece async for piece in response.body.pieces] == [b"radio"]


# ── conditions ──


def conditional(row: Condition, *, blob: Blob | None = None, modified: datetime | None = MODIFIED) -> Response:
    blob = blob or literal(content(100))
    when = modified or MODIFIED
    words = {
        "tag": wire_tag(blob.tag or "none"),
        "date": format_datetime(when, usegmt=True),
        "before": format_datetime(when - timedelta(seconds=1), usegmt=True),
        "after": format_datetime(when + timedelta(seconds=1), usegmt=True),
    }
    filled = {name: text.format(**words) for name, text in row.headers.items()}
    return respond(Request("GET", filled, NOW), blob, About(modified=modified))


def _condition(row: Condition) -> str:
    return " ".join(f"{name}:{text}" for name, text in row.headers.items())


@pytest.mark.parametrize("row", CONDITIONS, ids=map(_condition, CONDITIONS))
def test_a_condition_is_answered_as_the_table_says(row: Condition) -> None:
    response = conditional(row)
    assert response.status == row.status
    if row.status in (200, 206, 416):
        check(response, content(100))
    else:
        assert "content-range" not in headers(response)


@pytest.mark.parametrize("row", CONDITIONS, ids=map(_condition, CONDITIONS))
def test_a_date_of_the_file_is_compared_by_the_second(row: Condition) -> None:
    response = conditional(row, modified=MODIFIED.replace(microsecond=900_000))
    same = conditional(row)
    assert (response.status, response.headers) == (same.status, same.headers)


@pytest.mark.parametrize("row", CONDITIONS, ids=map(_condition, CONDITIONS))
def test_head_is_held_to_the_same_conditions(row: Condition) -> None:
    blob = literal(content(100))
    words = {"tag": wire_tag(blob.tag or ""), "date": format_datetime(MODIFIED, usegmt=True)}
    words["before"] = format_datetime(MODIFIED - timedelta(seconds=1), usegmt=True)
    words["after"] = format_datetime(MODIFIED + timedelta(seconds=1), usegmt=True)
    filled = {name: text.format(**words) for name, text in row.headers.items()}
    response = respond(Request("HEAD", filled, NOW), blob, About(modified=MODIFIED))
    assert response.status == (row.status if row.status in (304, 412) else 200)


def test_not_modified_carries_the_validators_and_no_body() -> None:
    response = conditional(Condition({"if-none-match": "*"}, 304))
    sent = headers(response)
    assert set(sent) == {"etag", "last-modified", "cache-control"}
    assert got(response) == b""


def test_a_failed_precondition_is_no_kept_answer() -> None:
    response = conditional(Condition({"if-match": '"other"'}, 412))
    assert headers(response)["cache-control"] == "no-store"
    assert "etag" not in headers(response)


@pytest.mark.parametrize("seconds", [0, 1, 59])
def test_a_date_that_is_too_young_is_no_strong_validator(seconds: int) -> None:
    row = Condition({"range": "bytes=0-4", "if-range": "{date}"}, 200)
    assert conditional(row, modified=NOW - timedelta(seconds=seconds)).status == 200
    assert conditional(row, modified=NOW - timedelta(seconds=60)).status == 206


def test_without_a_tag_no_tag_matches() -> None:
    blob = literal(content(100), tag=None)
    rows = [
        Condition({"if-match": '"{tag}"'}, 412),
        Condition({"if-match": "None"}, 412),
        Condition({"if-match": "*"}, 200),
        Condition({"if-none-match": '"{tag}"'}, 200),
        Condition({"if-none-match": "None"}, 200),
        Condition({"if-none-match": "*"}, 304),
        Condition({"range": "bytes=0-4", "if-range": '"{tag}"'}, 200),
    ]
    for row in rows:
        assert conditional(row, blob=blob).status == row.status


def test_without_a_date_no_date_holds() -> None:
    for name in ("if-modified-since", "if-unmodified-since"):
        assert conditional(Condition({name: "{date}"}, 200), modified=None).status == 200
    row = Condition({"range": "bytes=0-4", "if-range": "{date}"}, 200)
    assert conditional(row, modified=None).status == 200


dates = st.one_of(
    st.text(st.characters(max_codepoint=255), max_size=40),
    st.text("0123456789:+- ,GMTJanMon", max_size=40),
    st.datetimes().map(lambda when: when.strftime("%a, %d %b %Y %H:%M:%S ") + "+2359"),
)


@given(dates, st.sampled_from(["if-modified-since", "if-unmodified-since", "if-range"]))
@example("Mon, 01 Jan 0001 00:00:00 +2359", "if-modified-since")
@example("Fri, 31 Dec 9999 23:59:59 -2359", "if-modified-since")
@example(" ", "if-modified-since")
@example("0 0 0 0 0", "if-range")
@settings(max_examples=300, deadline=None)
def test_any_text_as_a_date_is_answered(text: str, name: str) -> None:
    request = Request("GET", {name: text, "range": "bytes=0-4"}, NOW)
    assert respond(request, literal(content(100)), About(modified=MODIFIED)).status in (200, 206, 304, 412)


@given(
    st.text(st.characters(max_codepoint=255), max_size=60),
    st.sampled_from(["if-match", "if-none-match", "if-range"]),
)
@settings(max_examples=300, deadline=None)
def test_any_text_as_a_tag_is_answered(text: str, name: str) -> None:
    request = Request("GET", {name: text, "range": "bytes=0-4"}, NOW)
    assert respond(request, literal(content(100)), About(modified=MODIFIED)).status in (200, 206, 304, 412)


# ── names ──

BIDI = [chr(code) for code in (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))]
names = st.text(
    st.one_of(
        st.characters(codec="utf-8"),
        st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF, categories=["Cs"]),
        st.sampled_from(['"', "\\", "/", "%", ";", "\r", "\n", "\0", "'", "*", *BIDI]),
    ),
    min_size=1,
    max_size=80,
)


@given(names, st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_name_makes_a_header(name: str, attachment: bool) -> None:
    text = disposition(name, attachment)
    assert text.isascii()
    assert text.isprintable()
    match = re.fullmatch(r"(inline|attachment); filename=\"([^\"\\%/]*)\"; filename\*=UTF-8''([\w!#$&+.^`|~%-]+)", text)
    assert match
    assert (match[1] == "attachment") == attachment
    true = unquote_to_bytes(match[3]).decode("utf-8")
    shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    assert len(true) == len(shown)
    assert all(a == b or b == "_" for a, b in zip(shown, true, strict=True))
    assert "/" not in true
    assert "\\" not in true
    assert not any(unicodedata.category(char) == "Cc" for char in true)


@pytest.mark.parametrize(
    ("name", "plain", "true"),
    [
        ("song.mp3", "song.mp3", "song.mp3"),
        ("a b.mp3", "a b.mp3", "a%20b.mp3"),
        ("별.mp3", "_.mp3", "%EB%B3%84.mp3"),
        ("Björk.flac", "Bj_rk.flac", "Bj%C3%B6rk.flac"),
        ('say "hi".mp3', "say _hi_.mp3", "say%20%22hi%22.mp3"),
        ("100%.mp3", "100_.mp3", "100%25.mp3"),
        ("AC/DC.mp3", "AC_DC.mp3", "AC_DC.mp3"),
        ("AC∕DC.mp3", "AC_DC.mp3", "AC%E2%88%95DC.mp3"),
        ("a;b=c,d.mp3", "a;b=c,d.mp3", "a%3Bb%3Dc%2Cd.mp3"),
        ("it's.mp3", "it's.mp3", "it%27s.mp3"),
        ("\udcff.mp3", "_.mp3", "%EF%BF%BD.mp3"),
        ("a\r\nSet-Cookie: x.mp3", "a__Set-Cookie: x.mp3", "a__Set-Cookie%3A%20x.mp3"),
    ],
)
def test_a_name_is_given_in_ascii_first_and_truly_after_it(name: str, plain: str, true: str) -> None:
    assert disposition(name, False) == f"inline; filename=\"{plain}\"; filename*=UTF-8''{true}"


def test_no_name_is_no_parameter() -> None:
    assert disposition("", True) == "attachment"
    assert disposition("", False) == "inline"


@pytest.mark.parametrize("mark", BIDI, ids=ascii)
def test_marks_that_turn_the_direction_of_writing_are_taken_out(mark: str) -> None:
    encoded = disposition(f"song{mark}3pm.exe", True).rpartition("'")[2]
    assert mark not in unquote_to_bytes(encoded).decode()
