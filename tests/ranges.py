"""What is answered to Range and to conditions, as tables: data only, for whatever answers HTTP.

A range row: the header, the size of the file, the status, and what is then given, as Content-Range shows it
without its unit and total: "0-4" for one range, a tuple of them for several, None for the whole or nothing.
A condition row: the headers, the status. In them {tag} stands for the inside of the file's ETag, {date} for its
Last-Modified, {before} and {after} for a second earlier and later.
"""

from typing import NamedTuple


class Row(NamedTuple):
    header: str | None
    size: int
    status: int
    given: str | tuple[str, ...] | None = None


NINES = "9" * 5000
MANY = ",".join(f"{at * 100}-{at * 100}" for at in range(64))

RANGES = [
    Row(None, 100, 200),
    # one range: RFC 9110, 14.1.2
    Row("bytes=0-4", 100, 206, "0-4"),
    Row("bytes=2-", 100, 206, "2-99"),
    Row("bytes=-5", 100, 206, "95-99"),
    Row("bytes=0-", 100, 206, "0-99"),
    Row("bytes=0-0", 100, 206, "0-0"),
    Row("bytes=-1", 100, 206, "99-99"),
    Row("bytes=99-99", 100, 206, "99-99"),
    Row("bytes=99-", 100, 206, "99-99"),
    Row("bytes=10-19", 100, 206, "10-19"),
    Row("bytes=0-99", 100, 206, "0-99"),
    Row("bytes=5-1000", 100, 206, "5-99"),
    Row("bytes=99-100", 100, 206, "99-99"),
    Row("bytes=-100", 100, 206, "0-99"),
    Row("bytes=-500", 100, 206, "0-99"),
    Row("bytes=-2000", 100, 206, "0-99"),
    Row("bytes=0-0", 1, 206, "0-0"),
    Row("bytes=007-0000009", 100, 206, "7-9"),
    Row("BYTES=0-4", 100, 206, "0-4"),
    Row("  bytes=0-4  ", 100, 206, "0-4"),
    Row("bytes= 0-4", 100, 206, "0-4"),
    # nothing of it is there
    Row("bytes=100-", 100, 416),
    Row("bytes=101-", 100, 416),
    Row("bytes=100-200", 100, 416),
    Row("bytes=500-600", 100, 416),
    Row("bytes=-0", 100, 416),
    Row("bytes=1-", 1, 416),
    Row("bytes=200-300,400-", 100, 416),
    Row("bytes=-0,100-", 100, 416),
    # malformed
    Row("bytes=alpha", 100, 416),
    Row("bytes=10", 100, 416),
    Row("bytes=5-2", 100, 416),
    Row("bytes=5-4", 100, 416),
    Row("bytes=20-10", 100, 416),
    Row("bytes=20-19", 100, 416),
    Row("bytes=-", 100, 416),
    Row("bytes=", 100, 416),
    Row("bytes=,", 100, 416),
    Row("bytes=--5", 100, 416),
    Row("bytes=0--4", 100, 416),
    Row("bytes=1-2-3", 100, 416),
    Row("bytes=+1-2", 100, 416),
    Row("bytes=1_0-20", 100, 416),
    Row("bytes=0x1-0x2", 100, 416),
    Row("bytes=1.5-", 100, 416),
    Row("bytes=\xb2-\xb3", 100, 416),
    Row("bytes=0 - 4", 100, 416),
    Row("bytes=0-4;5-6", 100, 416),
    Row("bytes=1-4,x", 100, 416),
    Row("bytes=1-4,5-2", 100, 416),
    # not ours: MUST be ignored
    Row("foo", 100, 200),
    Row("", 100, 200),
    Row("bytes", 100, 200),
    Row("items=0-1", 100, 200),
    Row("items=0-5", 100, 200),
    Row("seconds=100-", 100, 200),
    Row("bytes: 0-4", 100, 200),
    # several
    Row("bytes=0-1,5-6", 100, 206, ("0-1", "5-6")),
    Row("bytes=5-6,0-1", 100, 206, ("5-6", "0-1")),
    Row("bytes=0-1, 5-6 ,\t-2", 100, 206, ("0-1", "5-6", "98-99")),
    Row("bytes=0-1,,5-6,", 100, 206, ("0-1", "5-6")),
    Row("bytes=0-0,-1", 100, 206, ("0-0", "99-99")),
    Row("bytes=0-4,5-9", 100, 206, ("0-4", "5-9")),
    Row("bytes=0-1,200-300", 100, 206, "0-1"),
    Row("bytes=100000-,1000-2000", 10_000, 206, "1000-2000"),
    Row("bytes=1-90,70-100,1000-1001", 10_000, 206, ("1-100", "1000-1001")),
    Row("bytes=1000-1001,70-100,1-90", 10_000, 206, ("1000-1001", "1-100")),
    Row("bytes=10-19,30-39,0-49", 10_000, 206, "0-49"),
    Row("bytes=10-19,10-19", 100, 206, "10-19"),
    Row("bytes=0-59,40-99", 100, 200),
    # more than the file holds, or too many: an attack, or a dumb client
    Row("bytes=0-10001,0-0", 10_000, 200),
    Row("bytes=0-,1-,2-,3-", 100, 200),
    Row("bytes=0-,0-", 100, 200),
    Row("bytes=" + MANY, 10_000, 206, tuple(MANY.split(","))),
    Row("bytes=" + MANY + ",9999-", 10_000, 200),
    Row("bytes=" + "0-0," * 10_000, 100_000, 200),
    # numbers that no file reaches
    Row("bytes=0-18446744073709551615", 100, 206, "0-99"),
    Row("bytes=-18446744073709551616", 100, 206, "0-99"),
    Row("bytes=9223372036854775807-", 100, 416),
    Row("bytes=18446744073709551616-18446744073709551617", 100, 416),
    Row("bytes=0-" + NINES, 100, 206, "0-99"),
    Row("bytes=-" + NINES, 100, 206, "0-99"),
    Row("bytes=" + NINES + "-", 100, 416),
    Row("bytes=" + NINES + "-" + NINES, 100, 416),
    Row("bytes=" + "0" * 5000 + "7-8", 100, 206, "7-8"),
    # an empty file
    Row("bytes=0-", 0, 200),
    Row("bytes=0-0", 0, 200),
    Row("bytes=1-", 0, 200),
    Row("bytes=-5", 0, 200),
    Row("bytes=-0", 0, 200),
    Row("bytes=0-1,5-6", 0, 200),
]


class Condition(NamedTuple):
    headers: dict[str, str]
    status: int


NEVER = "Thu, 01 Jan 1970 00:00:00 GMT"

CONDITIONS = [
    Condition({}, 200),
    # If-Match: strong comparison
    Condition({"if-match": '"{tag}"'}, 200),
    Condition({"if-match": "*"}, 200),
    Condition({"if-match": '"other", "{tag}"'}, 200),
    Condition({"if-match": '"other","{tag}","third"'}, 200),
    Condition({"if-match": '"other"'}, 412),
    Condition({"if-match": '"other", "third"'}, 412),
    Condition({"if-match": 'W/"{tag}"'}, 412),
    Condition({"if-match": "{tag}"}, 412),
    Condition({"if-match": ""}, 412),
    # If-Unmodified-Since
    Condition({"if-unmodified-since": "{date}"}, 200),
    Condition({"if-unmodified-since": "{after}"}, 200),
    Condition({"if-unmodified-since": "{before}"}, 412),
    Condition({"if-unmodified-since": NEVER}, 412),
    Condition({"if-unmodified-since": "yesterday"}, 200),
    # If-None-Match: weak comparison
    Condition({"if-none-match": '"{tag}"'}, 304),
    Condition({"if-none-match": 'W/"{tag}"'}, 304),
    Condition({"if-none-match": '"other", W/"{tag}"'}, 304),
    Condition({"if-none-match": '"other","{tag}"'}, 304),
    Condition({"if-none-match": "*"}, 304),
    Condition({"if-none-match": '"other"'}, 200),
    Condition({"if-none-match": 'W/"other", "third"'}, 200),
    Condition({"if-none-match": "{tag}"}, 200),
    Condition({"if-none-match": ""}, 200),
    # If-Modified-Since
    Condition({"if-modified-since": "{date}"}, 304),
    Condition({"if-modified-since": "{after}"}, 304),
    Condition({"if-modified-since": "{before}"}, 200),
    Condition({"if-modified-since": "yesterday"}, 200),
    Condition({"if-modified-since": ""}, 200),
    # which comes first: 13.2.2
    Condition({"if-match": '"{tag}"', "if-unmodified-since": "{before}"}, 200),
    Condition({"if-match": '"other"', "if-unmodified-since": "{after}"}, 412),
    Condition({"if-match": '"other"', "if-none-match": '"{tag}"'}, 412),
    Condition({"if-match": '"{tag}"', "if-none-match": '"{tag}"'}, 304),
    Condition({"if-unmodified-since": "{before}", "if-none-match": '"{tag}"'}, 412),
    Condition({"if-unmodified-since": "{date}", "if-modified-since": "{date}"}, 304),
    Condition({"if-none-match": '"other"', "if-modified-since": "{after}"}, 200),
    Condition({"if-none-match": '"{tag}"', "if-modified-since": "{before}"}, 304),
    # conditions before ranges
    Condition({"range": "bytes=0-4", "if-none-match": '"{tag}"'}, 304),
    Condition({"range": "bytes=0-4", "if-modified-since": "{date}"}, 304),
    Condition({"range": "bytes=0-4", "if-match": '"other"'}, 412),
    Condition({"range": "bytes=0-4", "if-unmodified-since": "{before}"}, 412),
    Condition({"range": "bytes=0-4", "if-match": '"{tag}"'}, 206),
    Condition({"range": "bytes=500-", "if-none-match": '"{tag}"'}, 304),
    Condition({"range": "bytes=500-", "if-match": '"other"'}, 412),
    Condition({"range": "bytes=0-4", "if-range": '"{tag}"', "if-none-match": '"{tag}"'}, 304),
    Condition({"range": "bytes=0-4", "if-range": '"other"', "if-match": '"{tag}"'}, 200),
    # If-Range: a strong tag, or the exact date
    Condition({"range": "bytes=0-4", "if-range": '"{tag}"'}, 206),
    Condition({"range": "bytes=0-4", "if-range": ' "{tag}" '}, 206),
    Condition({"range": "bytes=0-4", "if-range": 'W/"{tag}"'}, 200),
    Condition({"range": "bytes=0-4", "if-range": '"other"'}, 200),
    Condition({"range": "bytes=0-4", "if-range": "{tag}"}, 200),
    Condition({"range": "bytes=0-4", "if-range": "*"}, 200),
    Condition({"range": "bytes=0-4", "if-range": ""}, 200),
    Condition({"range": "bytes=0-4", "if-range": "{date}"}, 206),
    Condition({"range": "bytes=0-4", "if-range": "{before}"}, 200),
    Condition({"range": "bytes=0-4", "if-range": "{after}"}, 200),
    Condition({"range": "bytes=0-4", "if-range": "yesterday"}, 200),
    Condition({"range": "bytes=500-", "if-range": '"other"'}, 200),
    Condition({"range": "bytes=500-", "if-range": '"{tag}"'}, 416),
    Condition({"range": "bytes=9-2", "if-range": '"other"'}, 200),
    Condition({"if-range": '"other"'}, 200),
]
