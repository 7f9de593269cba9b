"""Index pages: those that servers really make, and those that somebody made to do harm."""

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playhead import Damaged, Entry
from playhead.origins import index
from playhead.origins.index import entries

URL = "http://example.org/music/"
WHEN = datetime(2026, 11, 21, 6, 16, tzinfo=UTC)

# nginx 1.24, autoindex
NGINX = """<html>
<head><title>Index of /music/</title></head>
<body>
<h1>Index of /music/</h1><hr><pre><a href="../">../</a>
<a href="Bj%C3%B6rk%20%26%20Co/">Björk &amp; Co/</a>                                        21-Nov-2026 06:16                   -
<a href="sub/">sub/</a>                                               21-Nov-2026 06:16                   -
<a href="100%25%20%231%3F.flac">100% #1?.flac</a>                                      21-Nov-2026 06:16                   1
<a href="a%20b.txt">a b.txt</a>                                            21-Nov-2026 06:16                   5
<a href="a%3Ab.txt">a:b.txt</a>                                            21-Nov-2026 06:16                   0
<a href="empty">empty</a>                                              21-Nov-2026 06:16                   0
<a href="it%27s%20%3Cb%3E%22q%22.txt">it's &lt;b&gt;&quot;q&quot;.txt</a>                                    21-Nov-2026 06:16                   1
<a href="song.mp3">song.mp3</a>                                           21-Nov-2026 06:16             1234567
<a href="%EB%B3%84%EC%9D%B4%20%EB%B9%9B%EB%82%98%EB%8A%94%20%EB%B0%A4.txt">별이 빛나는 밤.txt</a>                                       21-Nov-2026 06:16                   1
<a href="%FFraw.txt">\udcffraw.txt</a>                                           21-Nov-2026 06:16                   1
</pre><hr></body>
</html>
"""  # noqa: E501

# Apache 2.4, IndexOptions FancyIndexing: sizes are rounded, so none is taken
APACHE = """<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01//EN" "http://www.w3.org/TR/html4/strict.dtd">
<html>
 <head>
  <title>Index of /music</title>
 </head>
 <body>
<h1>Index of /music</h1>
<pre>      <a href="?C=N;O=D">Name</a>                    <a href="?C=M;O=A">Last modified</a>      <a href="?C=S;O=A">Size</a>  <a href="?C=D;O=A">Description</a><hr>      <a href="/">Parent Directory</a>                             -
      <a href="100%25%20%231%3f.flac">100% #1?.flac</a>           2026-11-21 06:16    1
      <a href="Bj%c3%b6rk%20&amp;%20Co/">Björk &amp; Co/</a>            2026-11-21 06:16    -
      <a href="a%20b.txt">a b.txt</a>                 2026-11-21 06:16    5
      <a href="./a:b.txt">a:b.txt</a>                 2026-11-21 06:16    0
      <a href="empty">empty</a>                   2026-11-21 06:16    0
      <a href="it's%20%3cb%3e%22q%22.txt">it's &lt;b&gt;&quot;q&quot;.txt</a>         2026-11-21 06:16    1
      <a href="song.mp3">song.mp3</a>                2026-11-21 06:16  1.2M
      <a href="sub/">sub/</a>                    2026-11-21 06:16    -
      <a href="%eb%b3%84%ec%9d%b4%20%eb%b9%9b%eb%82%98%eb%8a%94%20%eb%b0%a4.txt">별이 빛나는 밤..&gt;</a> 2026-11-21 06:16    1
      <a href="%ffraw.txt">\udcffraw.txt</a>                2026-11-21 06:16    1
<hr></pre>
</body></html>
"""  # noqa: E501

# Apache 2.4, IndexOptions FancyIndexing HTMLTable
APACHE_TABLE = """<table>
   <tr><th valign="top"><img src="/icons/blank.gif" alt="[ICO]"></th><th><a href="?C=N;O=D">Name</a></th><th><a href="?C=M;O=A">Last modified</a></th><th><a href="?C=S;O=A">Size</a></th></tr>
   <tr><th colspan="5"><hr></th></tr>
<tr><td valign="top"><img src="/icons/back.gif" alt="[PARENTDIR]"></td><td><a href="/">Parent Directory</a></td><td>&nbsp;</td><td align="right">  - </td><td>&nbsp;</td></tr>
<tr><td valign="top"><img src="/icons/folder.gif" alt="[DIR]"></td><td><a href="sub/">sub/</a></td><td align="right">2026-11-21 06:16  </td><td align="right">  - </td><td>&nbsp;</td></tr>
<tr><td valign="top"><img src="/icons/sound2.gif" alt="[SND]"></td><td><a href="song.mp3">song.mp3</a></td><td align="right">2026-11-21 06:16  </td><td align="right">1.2M</td><td>&nbsp;</td></tr>
</table>
"""  # noqa: E501

# python -m http.server
PYTHON = """<!DOCTYPE HTML>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Directory listing for /music/</title>
</head>
<body>
<h1>Directory listing for /music/</h1>
<hr>
<ul>
<li><a href="100%25%20%231%3F.flac">100% #1?.flac</a></li>
<li><a href="a%20b.txt">a b.txt</a></li>
<li><a href="a%3Ab.txt">a:b.txt</a></li>
<li><a href="Bj%C3%B6rk%20%26%20Co/">Björk &amp; Co/</a></li>
<li><a href="empty">empty</a></li>
<li><a href="it%27s%20%3Cb%3E%22q%22.txt">it's &lt;b&gt;"q".txt</a></li>
<li><a href="song.mp3">song.mp3</a></li>
<li><a href="sub/">sub/</a></li>
<li><a href="%EB%B3%84%EC%9D%B4%20%EB%B9%9B%EB%82%98%EB%8A%94%20%EB%B0%A4.txt">별이 빛나는 밤.txt</a></li>
<li><a href="%FFraw.txt">\udcffraw.txt</a></li>
</ul>
<hr>
</body>
</html>
"""


def _rclone_row(href: str, shown: str, size: str) -> str:
    zipped = f'<a class="zip" href="{href}?download=zip" title="Download folder as .zip"><svg></svg></a>'
    return f"""
          <tr class="file">
            <td>
            </td>
            <td>
              <svg width="1.5em" height="1em" version="1.1" viewBox="0 0 265 323"><use xlink:href="#file"></use></svg>
              <span class="name"><a href="{href}">{shown}</a></span>
              {zipped if href.endswith("/") else ""}
            </td>
            {size}
            <td class="hideable"><time datetime="2026-11-21 06:16:05.4 &#43;0000 UTC">2026-11-21 06:16:05.4 &#43;0000 UTC</time></td>
            <td class="hideable"></td>
          </tr>"""  # noqa: E501


def _rclone_file(href: str, shown: str, size: int) -> str:
    return _rclone_row(href, shown, f'<td data-order="{size}"><size>{size}</size></td>')


# rclone 1.7x serve http
RCLONE = (
    """
<!DOCTYPE html>
<html>
  <head><title>/music/</title><meta charset="utf-8"><style>td { a: "<a href='style'>" }</style></head>
  <body onload='filter();toggle("order");changeSize()'>
    <header><h1><a href="../">/</a><a href="">music</a>
      <a class="zip-root" href="?download=zip" title="Download root as .zip"><svg></svg></a></h1></header>
    <table aria-describedby="summary"><thead><tr><th></th>
      <th><a href="?sort=namedirfirst&order=asc" class="icon sort order"><svg class="top"></svg></a>
          <a href="?sort=name&order=asc" class="order">Name</a></th></tr></thead><tbody>
          <tr><td></td><td><a href=".."><span class="goup">Go up</span></a></td><td>&mdash;</td></tr>"""
    + _rclone_row("Bj%C3%B6rk%20&amp;%20Co/", "Björk &amp; Co/", '<td data-order="-1">&mdash;</td>')
    + _rclone_row("sub/", "sub/", '<td data-order="-1">&mdash;</td>')
    + _rclone_file("100%25%20%231%3F.flac", "100% #1?.flac", 1)
    + _rclone_file("a%20b.txt", "a b.txt", 5)
    + _rclone_file("./a:b.txt", "a:b.txt", 0)
    + _rclone_file("empty", "empty", 0)
    + _rclone_file("it%27s%20%3Cb%3E%22q%22.txt", "it&#39;s &lt;b&gt;&#34;q&#34;.txt", 1)
    + _rclone_file("song.mp3", "song.mp3", 1234567)
    + _rclone_file("%EB%B3%84%EC%9D%B4%20%EB%B9%9B%EB%82%98%EB%8A%94%20%EB%B0%A4.txt", "별이 빛나는 밤.txt", 1)
    + _rclone_file("%FFraw.txt", "\udcffraw.txt", 1)
    + """</tbody></table>
    <script>var a = "<a href='script'>";</script>
  </body>
</html>"""
)

FILES = {
    "100% #1?.flac": 1,
    "a b.txt": 5,
    "a:b.txt": 0,
    "empty": 0,
    'it\'s <b>"q".txt': 1,
    "song.mp3": 1234567,
    "별이 빛나는 밤.txt": 1,
    "\udcffraw.txt": 1,
}
FOLDERS = {"Björk & Co", "sub"}


def names(page: str, url: str = URL) -> list[str]:
    return [entry.name + "/" * entry.folder for entry in entries(page, url)]


def link(href: str) -> str:
    return f'<a href="{href}">x</a>\n'


# ── real pages ──


@pytest.mark.parametrize("page", [NGINX, APACHE, PYTHON, RCLONE], ids=["nginx", "apache", "python", "rclone"])
def test_the_page_of_a_server_is_its_folder(page: str) -> None:
    found = entries(page, URL)
    assert {entry.name for entry in found if not entry.folder} == set(FILES)
    assert {entry.name for entry in found if entry.folder} == FOLDERS
    assert len(found) == len(FILES) + len(FOLDERS)


@pytest.mark.parametrize(("page", "when"), [(NGINX, WHEN), (RCLONE, WHEN.replace(second=5))], ids=["nginx", "rclone"])
def test_exact_sizes_and_dates_are_taken(page: str, when: datetime) -> None:
    found = {entry.name: entry for entry in entries(page, URL)}
    for name, size in FILES.items():
        assert found[name] == Entry(name, False, size, when)
    for name in FOLDERS:
        assert found[name] == Entry(name, True)


@pytest.mark.parametrize("page", [APACHE, APACHE_TABLE, PYTHON], ids=["apache", "apache's table", "python"])
def test_rounded_sizes_are_not_taken(page: str) -> None:
    assert {(entry.size, entry.modified) for entry in entries(page, URL)} == {(None, None)}


def test_a_table_of_apache_is_read() -> None:
    assert names(APACHE_TABLE) == ["sub/", "song.mp3"]


def test_nginx_with_rounded_sizes_has_none() -> None:
    page = NGINX.replace("            1234567", "               1.2M").replace("  5\n", " 5K\n")
    found = {entry.name: entry for entry in entries(page, URL)}
    assert found["song.mp3"].size is None
    assert found["a b.txt"].size is None
    assert found["empty"].size == 0


def test_a_size_or_date_that_is_none_is_not_taken() -> None:
    page = link("a") + " 31-Feb-2026 06:16   12\n" + link("b") + " 21-Nov-2026 06:16   1234567890123456789012\n"
    assert entries(page, URL) == [Entry("a", size=12), Entry("b")]


def test_what_stands_in_the_text_of_a_link_is_no_detail() -> None:
    page = '<a href="a"> 21-Nov-2026 06:16   12\n</a>\n<a href="b">b</a> 21-Nov-2026 06:16   7\n'
    assert [entry.size for entry in entries(page, URL)] == [None, 7]


# ── links ──


@pytest.mark.parametrize(
    ("href", "name"),
    [
        ("song.mp3", "song.mp3"),
        ("./song.mp3", "song.mp3"),
        ("/music/song.mp3", "song.mp3"),
        ("http://example.org/music/song.mp3", "song.mp3"),
        ("//example.org/music/song.mp3", "song.mp3"),
        ("../music/song.mp3", "song.mp3"),
        ("sub/../song.mp3", "song.mp3"),
        ("sub/", "sub/"),
        (" song.mp3 ", "song.mp3"),
        ("a b.mp3", "a b.mp3"),
        ("별.mp3", "별.mp3"),
        ("%EB%B3%84.mp3", "별.mp3"),
        ("%FF.mp3", "\udcff.mp3"),
        ("\udcff.mp3", "\udcff.mp3"),  # a page that is not UTF-8, of a server that does not quote
        ("%zz.mp3", "%zz.mp3"),
        ("100%25.mp3", "100%.mp3"),
        ("a%3Fb.mp3", "a?b.mp3"),
        ("a%23b.mp3", "a#b.mp3"),
        ("a+b.mp3", "a+b.mp3"),
        ("a;b.mp3", "a;b.mp3"),
        ("a%5Cb.mp3", "a\\b.mp3"),
        ("a&amp;b.mp3", "a&b.mp3"),
        ("song.mp3#t=10", "song.mp3"),
        (".hidden", ".hidden"),
        ("...", "..."),
    ],
)
def test_a_link_to_a_name_in_the_folder_is_an_entry(href: str, name: str) -> None:
    assert names(link(href)) == [name]


@pytest.mark.parametrize(
    "href",
    [
        # other servers and schemes
        "http://elsewhere.example/music/song.mp3",
        "//elsewhere.example/music/song.mp3",
        "https://example.org/music/song.mp3",
        "http://example.org:8080/music/song.mp3",
        "http://example.org@elsewhere.example/music/song.mp3",
        "http://user@example.org/music/song.mp3",
        "ftp://example.org/music/song.mp3",
        "file:///music/song.mp3",
        "javascript:alert(1)",
        " JavaScript:alert(1)",
        "data:text/html,x",
        "mailto:somebody@example.org",
        # other folders
        "..",
        "../",
        "../other/song.mp3",
        "/",
        "/song.mp3",
        "/other/music/song.mp3",
        "/music",
        "/musical/song.mp3",
        "/MUSIC/song.mp3",
        "/music/../secret",
        "sub/song.mp3",
        "sub/deeper/",
        "/music//song.mp3",
        # the folder itself
        "",
        "#top",
        "?",
        "?C=N;O=D",
        "?C=N&amp;O=D",
        "./?C=N",
        "/music/?C=M;O=A",
        "/music/",
        ".",
        "./",
        # not a file but a question
        "song.mp3?download",
        "sub/?download=zip",
        # names that are none
        "%2F",
        "a%2Fb",
        "a%2fb.mp3",
        "..%2f",
        "..%2fsecret",
        "%2e%2e",
        "%2E%2E/",
        "%2e",
        ".%2e/",
        "%00",
        "song%00.mp3",
        "a%2F/",
        # not a URL
        "http://[",
        "http://[::1",
        "http://example.org:99999999/music/x",
    ],
)
def test_any_other_link_is_ignored(href: str) -> None:
    assert names(link(href) + link("song.mp3")) == ["song.mp3"]


def test_each_name_is_listed_once() -> None:
    page = link("a.mp3") + " 21-Nov-2026 06:16   7\n" + link("./a.mp3") + link("%61.mp3") + link("/music/a.mp3")
    assert entries(page, URL) == [Entry("a.mp3", size=7, modified=WHEN)]


def test_the_base_may_need_quoting_itself() -> None:
    url = "http://example.org/m%C3%BCsik%20%26%20co/"
    assert names(link("a.mp3") + link("/m%C3%BCsik%20%26%20co/b.mp3"), url) == ["a.mp3", "b.mp3"]


def test_the_root_of_a_server_is_a_folder_too() -> None:
    assert names(link("a.mp3") + link("/b.mp3") + link("../c.mp3") + link("/"), "http://example.org/") == [
        "a.mp3",
        "b.mp3",
        "c.mp3",
    ]


# ── pages ──


@pytest.mark.parametrize(
    "page",
    [
        "<a href='song.mp3'>",
        "<A HREF=song.mp3>x",
        "<a class=x href=song.mp3 title='a>b'>x</a",
        "<a title='a>b' href='song.mp3'>x</a>",
        "<a title=' href=other.mp3' href='song.mp3'>x</a>",
        "<a data-href='other.mp3' href='song.mp3'>x</a>",
        "<abbr href='other.mp3'>a < b <a href='song.mp3'>x</a>",
        "<a\nhref\n=\n'song.mp3'\n>x</a\n>",
        "<p title='<a href=other.mp3>'><a href='song.mp3'>x</a>",
        "<pre><table><a href='song.mp3'>x<td><b>",
        "<!-- <a href='commented'> --><a href='song.mp3'>",
        "<a name=top><a>x</a><a href>x</a><link href='style.css'><a href='song.mp3'>",
        "<a href='song.mp3'>x</a><!-- not closed",
        "<a href='song.mp3'>x</a><a href='not closed",
        "\x00<a href='song.mp3'>\udcff",
    ],
)
def test_pages_that_are_not_well_formed_are_read(page: str) -> None:
    assert names(page) == ["song.mp3"]


def test_a_page_without_links_is_an_empty_folder() -> None:
    assert entries("", URL) == []
    assert entries("just words", URL) == []


def test_a_page_of_too_many_links_is_damaged() -> None:
    page = "".join(f'<a href="{number}">x</a>' for number in range(100_001))
    with pytest.raises(Damaged, match="100,000"):
        entries(page, URL)


def test_a_page_of_just_as_many_links_as_may_be_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "MAX_LINKS", 100)
    page = "".join(f'<a href="{number}">x</a>' for number in range(100))
    assert len(entries(page, URL)) == 100
    with pytest.raises(Damaged):
        entries(page + link("one more"), URL)


@pytest.mark.parametrize(
    "piece", ["<a ", "<a href='", '<a b="', "<a x=y", "<!--", "<", "</", "<!", "<?", "&#", "<script>"]
)
def test_a_page_made_to_be_slow_is_read_quickly(piece: str) -> None:
    began = time.process_time()
    try:
        entries(piece * 5000, URL)
    except Damaged:
        pass
    assert time.process_time() - began < 1


@given(st.text("<>/a href='\"=!-?&#;x%2.\udcff", max_size=80))
@settings(max_examples=300, deadline=None)
def test_any_page_has_names_that_a_folder_can_have(page: str) -> None:
    for entry in entries(page, URL):
        assert entry.name not in ("", ".", "..")
        assert "/" not in entry.name
        assert "\0" not in entry.name


@given(st.text(st.characters(exclude_characters='"&'), max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_link_leads_to_a_name_or_nowhere(href: str) -> None:
    for entry in entries(f'<a href="{href}">', URL):
        assert entry.name not in ("", ".", "..")
        assert "/" not in entry.name
        assert "\0" not in entry.name
