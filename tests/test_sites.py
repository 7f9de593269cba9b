"""Pages of a site on this machine: what yt-dlp makes of them is fetched, put together, and plays as the film did."""

import asyncio
import importlib.util
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from playhead import places
from playhead.doors.route import Host
from playhead.errors import Busy, Damaged, Denied, Failure, Malformed, NotFound, Unavailable
from playhead.sites import formats, mux, pages, resolver
from playhead.sites.mux import muxed
from playhead.sites.pages import Medium, Track, resolved
from playhead.sites.tracks import FromTrack, Tracked, planned
from playhead.tree import Tree
from tests.downloads import get
from tests.fakes import origin as lies
from tests.fakes.origin import Answer, Asked, Origin, settled
from tests.fakes.proxies import HttpProxy
from tests.fakes.relay import aside
from tests.films import BEEP, FFMPEG, copied, made, probed, seen, silent

YT_DLP = pytest.mark.skipif(importlib.util.find_spec("yt_dlp") is None, reason="not installed: yt-dlp")
pytestmark = [FFMPEG, pytest.mark.timeout(60)]
HLS = ("-f", "hls", "-hls_time", "0.4", "-hls_list_size", "0", "-hls_playlist_type", "vod")
APART = ("-var_stream_map", "a:0,agroup:a,default:yes v:0,agroup:a", "-master_pl_name", "apart.m3u8")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film, and beside it the same as HLS in three ways, and as DASH."""
    folder = tmp_path_factory.mktemp("site")
    film = made(folder / "film.mp4", "-g", "10")
    copied(film, folder / "ts.m3u8", *HLS)
    copied(film, folder / "fmp4.m3u8", *HLS, "-hls_segment_type", "fmp4", "-hls_flags", "single_file")
    copied(film, folder / "apart%v.m3u8", "-map", "0:v", "-map", "0:a", *HLS, *APART)
    copied(film, folder / "dash.mpd", "-f", "dash", "-seg_duration", "0.4")
    apart = folder / "apart.m3u8"
    apart.write_text(apart.read_text().replace("BANDWIDTH", 'CODECS="avc1.64000b,mp4a.40.2",BANDWIDTH'))
    return film


@pytest.fixture(scope="module")
def site(film: Path) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in film.parent.iterdir()}


def page(title: str, *sources: str, more: str = "") -> bytes:
    videos = "".join(f'<video src="{source}">{more}</video>' for source in sources)
    return f"<html><head><title>{title}</title></head><body>{videos}</body></html>".encode()


async def media(url: str, *arguments: str, proxy: str | None = None) -> list[Medium]:
    async with aclosing(resolved(url, arguments, proxy=proxy)) as found:
        return [medium async for medium in found]


async def only(url: str, *arguments: str) -> Medium:
    [medium] = await media(url, *arguments)
    return medium


async def fetched(medium: Medium, folder: Path) -> list[Path]:
    """The tracks of a medium, each a file, as Playhead fetches what is behind URLs."""
    paths = []
    for number, track in enumerate(medium.tracks):
        path = folder / f"{number}.{track.extension}"
        path.write_bytes(b"".join([await joined(track, at) for at in range(len(track.urls))]))
        paths.append(path)
    return paths


async def joined(track: Track, at: int) -> bytes:
    span = track.ranges[at] if track.ranges else None
    async with aclosing(places.web(track.urls[at], headers=track.headers)) as tree:
        blob = await tree.open(tree.single or "")
        return await blob.read(*(span or (0, None)))


def plays_alike(path: Path, film: Path) -> None:
    """The same pictures, and the sound as long after them, to a sample of what it is looked at with."""
    got, wanted = seen(path), seen(film)
    assert got.frames == wanted.frames
    for beeps in (got.counted, got.stamped):
        assert [beep - got.times[0] for beep in beeps] == pytest.approx([BEEP], abs=0.002)


# ── pages ──


@YT_DLP
async def test_the_film_on_a_page_is_the_file_that_the_page_shows(site: Mapping[str, bytes], tmp_path: Path) -> None:
    async with Origin(site) as origin:
        origin.pages["page"] = page("A film", "film.mp4")
        medium = await only(f"{origin.url}page")
        [path] = await fetched(medium, tmp_path)
        assert path.read_bytes() == site["film.mp4"]
        assert not medium.muxes and medium.extension == "mp4" and medium.name.startswith("A film")
        last = origin.of("film.mp4")[-1].headers
        assert last["referer"] == f"{origin.url}page" and "Mozilla" in last["user-agent"]
        assert last["accept-encoding"] == "identity"


@YT_DLP
@pytest.mark.parametrize("name", ["ts.m3u8", "apart.m3u8", "dash.mpd", "fmp4.m3u8"])
async def test_a_stream_plays_as_the_film_that_it_was_made_of(
    site: Mapping[str, bytes], film: Path, tmp_path: Path, name: str
) -> None:
    async with Origin(site) as origin:
        origin.pages["page"] = page("A film", "ts.m3u8")
        medium = await only(f"{origin.url}{'page' if name == 'ts.m3u8' else name}")
        paths = await fetched(medium, tmp_path)
    assert len(paths) == (2 if name in ("apart.m3u8", "dash.mpd") else 1)
    assert medium.extension == "mp4" and medium.muxes == (name != "fmp4.m3u8")
    target = tmp_path / "film.mp4"
    await muxed(paths, target) if medium.muxes else paths[0].rename(target)
    plays_alike(target, film)
    if name == "fmp4.m3u8":
        assert target.read_bytes() == site["fmp4.m4s"] and medium.tracks[0].ranges == ((0, len(site["fmp4.m4s"])),)


@YT_DLP
async def test_times_that_begin_anew_midway_go_on_in_the_film(
    site: Mapping[str, bytes], film: Path, tmp_path: Path
) -> None:
    text = site["ts.m3u8"].decode()
    head, first, rest = text.partition("#EXTINF")
    twice = f"{head}{first}{rest.replace('#EXT-X-ENDLIST', '#EXT-X-DISCONTINUITY')}{first}{rest}"
    async with Origin({**site, "twice.m3u8": twice.encode()}) as origin:
        medium = await only(f"{origin.url}twice.m3u8")
        paths = await fetched(medium, tmp_path)
    await muxed(paths, tmp_path / "twice.mp4")
    pictures = seen(copied(tmp_path / "twice.mp4", tmp_path / "pictures.mp4", "-an"))
    once, times = seen(film), [time - pictures.times[0] for time in pictures.times]
    assert pictures.frames == once.frames * 2
    assert times == pytest.approx([*once.times, *(once.length + time for time in once.times)], abs=0.05)
    about = probed(tmp_path / "twice.mp4")
    assert float(about["format"]["duration"]) == pytest.approx(2 * once.length, abs=0.1)


@YT_DLP
async def test_a_list_gives_what_can_be_had_and_then_why_the_rest_cannot(site: Mapping[str, bytes]) -> None:
    broken = site["ts.m3u8"].replace(b"#EXTINF", b'#EXT-X-KEY:METHOD=AES-128,URI="key"\n#EXTINF', 1)
    async with Origin({**site, "locked.m3u8": broken}) as origin:
        origin.pages["page"] = page("Films", "film.mp4", "locked.m3u8", "ts.m3u8")
        found = []
        with pytest.raises(Malformed, match="encrypted") as raised:
            async for medium in resolved(f"{origin.url}page", []):
                found.append(medium)
    assert [medium.tracks[0].urls[0].rpartition("/")[2] for medium in found] == ["film.mp4", "ts0.ts"]
    assert len({medium.name for medium in found}) == 2
    assert len(str(raised.value).splitlines()) == 1


@YT_DLP
async def test_options_choose_what_is_fetched(site: Mapping[str, bytes]) -> None:
    track = '<track src="words.vtt" kind="subtitles" srclang="ko">'
    async with Origin({**site, "words.vtt": b"WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n"}) as origin:
        origin.pages["page"] = page("Films", "film.mp4", "ts.m3u8", more=track)
        medium = await only(f"{origin.url}page", "-I", "2", "--write-subs", "--sub-langs", "all")
        assert medium.tracks[0].extension == "ts"
        assert medium.subtitles == (("ko", f"{origin.url}words.vtt", "vtt"),)
        with pytest.raises(Malformed, match="not available; choose another one by -f"):
            await media(f"{origin.url}film.mp4", "-f", "height>9000")
        with pytest.raises(NotFound, match="nothing to fetch"):
            await media(f"{origin.url}film.mp4", "--match-filters", "duration>9000")


@YT_DLP
async def test_cookies_of_the_site_go_with_the_track_and_into_no_file(
    site: Mapping[str, bytes], tmp_path: Path
) -> None:
    jar = tmp_path / "cookies.txt"
    jar.write_text("# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t4102444800\tuser\tme\n")
    before = jar.read_bytes()
    async with Origin(site) as origin:
        origin.pages["page"] = page("A film", "film.mp4")
        origin.always["page"] = lies.header("Set-Cookie", "session=abc; Path=/")
        medium = await only(f"{origin.url}page", "--cookies", str(jar))
        assert origin.of("page")[0].headers["cookie"] == "user=me"
    assert sorted(medium.tracks[0].headers["Cookie"].split("; ")) == ["session=abc", "user=me"]
    assert jar.read_bytes() == before


@YT_DLP
async def test_the_proxy_is_asked_for_all_of_it(site: Mapping[str, bytes]) -> None:
    async with Origin(site) as origin, HttpProxy(hosts={"site.example:80": origin.port}) as proxy:
        [medium] = await media("http://site.example/ts.m3u8", proxy=proxy.url())
    assert len(proxy.asked) > 1 and medium.tracks[0].urls[0] == "http://site.example/ts0.ts"


# ── what yt-dlp must not do ──


@YT_DLP
async def test_nothing_of_yt_dlps_own_is_read_and_nothing_is_written_or_run(
    site: Mapping[str, bytes], tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its configuration, its cache, and modules that lie in the current folder."""
    config = own_home / "config" / "yt-dlp"
    config.mkdir(parents=True)
    (config / "config").write_text("--format nonsense\n--write-info-json\n")
    monkeypatch.chdir(tmp_path)
    for name in ("json.py", "yt_dlp.py", "playhead.py"):
        (tmp_path / name).write_text("open('was here', 'w')\n")
    before = sorted(tmp_path.rglob("*"))
    async with Origin(site) as origin:
        origin.pages["page"] = page("A film", "film.mp4")
        await only(f"{origin.url}page")
    assert sorted(tmp_path.rglob("*")) == before
    assert [path.name for path in own_home.rglob("*") if path.is_file()] == ["config"]


@YT_DLP
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--exec", "touch ran"], "--exec cannot be given"),
        (["--exec-before", "touch ran"], "--exec-before"),
        (["--netrc-cmd", "touch ran"], "--netrc-cmd"),
        (["--alias", "x", "--exec 'touch ran'", "--x"], "--alias"),
        (["-qo", "ran"], "-q"),
        (["-o", "ran"], "-o"),
        (["-Phome:."], "-P"),
        (["--print-to-file", "title", "ran"], "--print-to-file"),
        (["--downloader", "aria2c"], "--downloader"),
        (["--config-locations", "."], "--config-locations"),
        (["--plugin-dirs", "."], "--plugin-dirs"),
        (["--enable-file-urls"], "--enable-file-urls"),
        (["-x"], "-x"),
        (["--batch-file", "-"], "--batch-file"),
        (["--version"], "--version"),
        (["-h"], "-h"),
        (["--js-runtimes", "node:/bin/sh"], "--js-runtimes"),
        (["-u", "me"], "give -p"),
        (["-f", "-"], "cannot ask"),
        (["--match-filters", "-"], "cannot ask"),
        (["--cookies", "no such file"], "no file of cookies"),
        (["http://127.0.0.1/other"], "pages are given before"),
        (["--no-such-option"], "no such option"),
    ],
)
def test_options_that_run_or_write_or_ask_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Malformed, match=re.escape(says)) as raised:
        resolver.screened(arguments)
    assert len(str(raised.value).splitlines()) == 1 and not os.listdir(tmp_path)


@YT_DLP
@pytest.mark.parametrize("arguments", [["--exec", "touch ran"], ["-f", "best["]])
async def test_an_option_that_is_refused_ends_it_before_anybody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    async with Origin({"f.mp4": b"film"}) as origin:
        with pytest.raises(Malformed) as raised:
            await media(f"{origin.url}f.mp4", *arguments)
        assert not origin.requests
    assert len(str(raised.value).splitlines()) == 1 and not os.listdir(tmp_path)


@YT_DLP
@pytest.mark.parametrize("url", ["file:///etc/hostname", "--version"])
async def test_what_is_no_page_of_a_site_ends_with_an_error(url: str) -> None:
    with pytest.raises(Failure):
        await media(url)


@YT_DLP
@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, Denied), (429, Busy), (503, Unavailable)],
)
async def test_what_a_server_answers_is_told_without_what_is_secret(status: int, kind: type[Failure]) -> None:
    async with Origin({}) as origin:
        origin.always["page"] = lies.status(status)
        with pytest.raises(kind, match=str(status)) as raised:
            await media(f"{origin.url}page?token=hunter2&x=hunter3#hunter4", "-u", "me", "-p", "hunter5")
    assert "hunter" not in str(raised.value) and len(str(raised.value).splitlines()) == 1


@YT_DLP
async def test_a_page_without_media_has_nothing_to_fetch() -> None:
    async with Origin({}) as origin:
        origin.pages["page"] = page("Words only")
        with pytest.raises(NotFound, match="Unsupported URL"):
            await media(f"{origin.url}page?secret=hunter2")
        origin.always["cut.m3u8"] = lies.instead(b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.ts\n")
        with pytest.raises(Malformed, match="live"):
            await media(f"{origin.url}cut.m3u8")


@YT_DLP
async def test_a_site_that_never_answers_ends_with_an_error_and_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "QUIET", 1.0)
    async with Origin({"page": b""}) as origin:
        origin.always["page"] = hang
        with pytest.raises(Unavailable, match="no further"):
            await media(f"{origin.url}page?secret")
        await settled(lambda: not origin.open)


@YT_DLP
async def test_who_leaves_early_leaves_no_process_behind(site: Mapping[str, bytes]) -> None:
    async with Origin({**site, "page": b""}) as origin:
        origin.always["page"] = hang
        waiting = asyncio.create_task(media(f"{origin.url}page"))
        await settled(lambda: bool(origin.requests), within=10)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await settled(lambda: not origin.open)
        origin.pages["films"] = page("Films", "film.mp4", "ts.m3u8")
        async with aclosing(resolved(f"{origin.url}films", [])) as found:
            await anext(found)
        await settled(lambda: not origin.open)


def hang(answer: Answer, asked: Asked) -> None:
    answer.wait = lies.FOREVER


@YT_DLP
async def test_without_ffmpeg_there_is_only_what_needs_none(
    site: Mapping[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    async with Origin(site) as origin:
        medium = await only(f"{origin.url}ts.m3u8")
        assert medium.extension == "ts" and not medium.muxes
        with pytest.raises(Malformed, match="install ffmpeg"):
            await media(f"{origin.url}dash.mpd", "-f", "bv+ba")
    with pytest.raises(Malformed, match="install ffmpeg"):
        await muxed([tmp_path / "a.ts"], tmp_path / "a.mp4")


async def test_without_yt_dlp_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "yt_dlp.py").write_text("raise ImportError('absent')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(Malformed, match=re.escape("pip install 'playhead[sites]'")):
        await media("http://127.0.0.1:9/page")


async def test_a_process_that_dies_is_no_end_of_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "yt_dlp.py").write_text("import os\nos._exit(9)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(Unavailable, match=re.escape("ended before it was done (code 9)")):
        await media("http://127.0.0.1:9/page?secret")


# ── what yt-dlp says of a video ──


class Nobody:
    """A site with some small files, and cookies by place."""

    def __init__(self, files: Mapping[str, bytes] | None = None, cookies: Mapping[str, str] | None = None) -> None:
        self.files, self.cookies = files or {}, cookies or {}

    def fetched(self, url: str, headers: Mapping[str, str]) -> tuple[bytes, str]:
        return self.files[url], url

    def cookie(self, url: str) -> str | None:
        return next((cookie for place, cookie in self.cookies.items() if url.startswith(place)), None)


FORM = {"url": "https://a.example/v.mp4", "protocol": "https", "ext": "mp4", "format_id": "1"}
PIECES = [{"path": "init.mp4"}, {"path": "1.m4s", "duration": 1.0}, {"path": "2.m4s", "duration": 1.0}]
DASH = {**FORM, "protocol": "http_dash_segments", "fragment_base_url": "https://a.example/x/", "fragments": PIECES}
MPD = {**DASH, "container": "mp4_dash", "manifest_url": "https://a.example/mpd"}


def described(**more: Any) -> dict[str, Any]:
    return {"id": "i", "extractor_key": "Site", "title": "A film", **FORM, **more}


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("It's a film", "It's a film"),
        ("AC/DC: \\live/", "AC／DC: ＼live／"),
        ("../../etc/passwd", "／..／etc／passwd"),
        (" .hidden. ", "hidden"),
        ("노래 하나", "노래 하나"),
        ("a\n\x1b[31mb\u202egpj", "a__[31mb_gpj"),
        ("\udcff", "�"),
        ("...", "video"),
        ("-rf", "-rf"),
        (None, "i"),
    ],
)
def test_a_title_becomes_a_clean_name(title: str | None, name: str) -> None:
    assert formats.medium(described(title=title), set(), Nobody()).name == name


@pytest.mark.parametrize("letter", ["n", "나", "😀"])
def test_a_long_title_is_cut_between_letters_and_leaves_room_for_what_tells_it_from_others(letter: str) -> None:
    taken: set[str] = set()
    for number in range(4):
        medium = formats.medium(described(title=letter * 300, id="i" * 200 if number == 3 else "i"), taken, Nobody())
        assert medium.name not in taken and len(medium.name.encode()) <= formats.NAME
        assert medium.name.startswith(letter * 5) and "�" not in medium.name
        taken.add(medium.name)


def test_what_a_site_wants_to_be_sent_goes_along_and_nothing_that_is_ours_to_say() -> None:
    sent = {"Referer": "https://a.example/", "Accept-Encoding": "gzip", "Range": "bytes=0-", "Cookie": "x", "X": "a\nb"}
    told = described(http_headers=sent, downloader_options={"http_chunk_size": 10 << 20})
    [track] = formats.medium(told, set(), Nobody(cookies={"https://a.example/": "k=v"})).tracks
    assert track.headers == {"Referer": "https://a.example/", "Cookie": "k=v"}
    assert track.most == 10 << 20 and track.key == "Site i 1" and track.urls == ("https://a.example/v.mp4",)


def test_fragments_of_dash_are_addressed_from_their_base() -> None:
    form = {**DASH, "extra_param_to_segment_url": "k=1"}
    [track] = formats.medium(described(**form), set(), Nobody()).tracks
    assert track.urls == tuple(f"https://a.example/x/{name}?k=1" for name in ("init.mp4", "1.m4s", "2.m4s"))
    assert track.ranges == ()


def test_endings_of_names_are_those_of_media() -> None:
    for extension in ("exe", "sh", "desktop", "html", "../x", None):
        assert formats.medium(described(ext=extension), set(), Nobody()).extension == "unknown_video"


@pytest.mark.parametrize(
    ("more", "kind", "says"),
    [
        ({"is_live": True}, Malformed, "live"),
        ({"live_status": "is_upcoming"}, Malformed, "live"),
        ({"section_start": 0, "section_end": 9}, Malformed, "section"),
        ({"has_drm": True}, Denied, "encrypted"),
        ({"request_data": b"x"}, Malformed, "form"),
        ({"protocol": "rtmp", "url": "rtmp://a.example/v"}, Malformed, "'rtmp'"),
        ({"protocol": "http", "url": "file:///etc/passwd"}, Malformed, "address"),
        ({"url": "https://a.example/\nv"}, Malformed, "address"),
        ({"url": "https://a.example/" + "v" * 9000}, Malformed, "address"),
        ({**DASH, "fragments": "a generator"}, Malformed, "live"),
        ({**DASH, "fragments": [*PIECES, PIECES[0]]}, Malformed, "several periods"),
        ({**DASH, "fragments": [*PIECES, {"path": "other.mp4"}]}, Malformed, "several periods"),
        ({**DASH, "fragments": [{"url": "file:///etc/passwd"}]}, Malformed, "address"),
        (MPD, Malformed, "several periods"),
        ({**MPD, "manifest_url": "https://a.example/live"}, Malformed, "live"),
        ({**MPD, "manifest_url": "https://a.example/ranges"}, Malformed, "piece by piece"),
        ({"protocol": "m3u8", "url": "https://a.example/m3u8"}, Damaged, "is none"),
        ({"protocol": "m3u8", "hls_aes": {"key": "00"}}, Malformed, "encrypted"),
        ({"requested_subtitles": {"ko": {"ext": "vtt", "data": "WEBVTT"}}}, Malformed, "'ko'"),
        ({"requested_subtitles": {"ko": {"ext": "vtt", "url": "file:///etc/passwd"}}}, Malformed, "address"),
    ],
)
def test_what_cannot_be_fetched_file_by_file_is_refused(more: dict[str, Any], kind: type[Failure], says: str) -> None:
    files = {
        "https://a.example/mpd": b'<MPD type="static"><Period id="1"/><Period id="2"/></MPD>',
        "https://a.example/live": b"<MPD\n type = 'dynamic'><Period/></MPD>",
        "https://a.example/ranges": b'<MPD><Period><SegmentURL media="f" mediaRange="0-9"/></Period></MPD>',
        "https://a.example/m3u8": b"<html></html>",
    }
    with pytest.raises(kind, match=says):
        formats.medium(described(**more), set(), Nobody(files))


def test_fragments_that_are_sent_different_cookies_are_refused() -> None:
    fragments = [{"url": "https://a.example/1"}, {"url": "https://b.example/2"}]
    with pytest.raises(Malformed, match="different cookies"):
        formats.medium(described(**DASH | {"fragments": fragments}), set(), Nobody(cookies={"https://a.": "k=v"}))


# ── fetching tracks ──

PARTS = [random.Random(number).randbytes(300_000 + number) for number in range(6)]


class Fetching:
    """Media fetched into a folder as `playhead get --site` does it; run by run."""

    def __init__(self, folder: Path, exists: str = "refuse") -> None:
        self.folder, self.exists, self.taken = folder, exists, set[Path]()
        self.opened: list[Tree] = []

    def make(self, track: Track, name: str, place: Callable[[str], Path]) -> Tracked:
        source = FromTrack("a page", f"a page {track.key}", name, track, None, self.opened)
        return Tracked(source, place, Host(taken=self.taken), streams=2, exists=self.exists)

    async def run(self, medium: Medium) -> list[Tracked]:
        found = planned(medium, "a page", self.folder.joinpath, self.make, exists=self.exists, taken=self.taken)
        try:
            for download in found:
                await download.run()
        finally:
            for tree in self.opened:
                await tree.aclose()
        return found


def fragments(origin: Origin, query: str = "", ranges: Any = (), **more: Any) -> Medium:
    urls = tuple(f"{origin.url}{number}{query}" for number in range(len(PARTS)))
    return Medium("film", (Track(urls, {"X-Kind": "test"}, "ts", ranges, "Site i 1", **more),), extension="ts")


def served() -> dict[str, bytes]:
    return {str(number): part for number, part in enumerate(PARTS)}


@pytest.mark.parametrize("ranges", [True, False])
async def test_fragments_come_as_one_file(tmp_path: Path, ranges: bool) -> None:
    async with Origin(served(), ranges=ranges) as origin:
        await Fetching(tmp_path).run(fragments(origin))
        assert all(asked.headers["x-kind"] == "test" for asked in origin.requests)
    assert (tmp_path / "film.ts").read_bytes() == b"".join(PARTS) and os.listdir(tmp_path) == ["film.ts"]


async def test_pieces_of_fragments_come_as_they_are_meant(tmp_path: Path) -> None:
    spans = [None, (0, 1), (5, 200_000), None, (299_999, 300_004), (7, 8)]
    async with Origin(served()) as origin:
        await Fetching(tmp_path).run(fragments(origin, ranges=tuple(spans)))
        wanted = [part[slice(*(span or (None,)))] for part, span in zip(PARTS, spans, strict=True)]
        assert (tmp_path / "film.ts").read_bytes() == b"".join(wanted)
        beyond = (*spans[:5], (0, 300_006))
        with pytest.raises(Damaged, match="not in a file of 300,005"):
            await Fetching(tmp_path, "rename").run(fragments(origin, ranges=beyond))


async def test_fragments_without_a_size_come_all_the_same(tmp_path: Path) -> None:
    async with Origin(served(), ranges=False) as origin:
        for name in served():
            origin.always[name] = chunked
        await Fetching(tmp_path).run(fragments(origin))
    assert (tmp_path / "film.ts").read_bytes() == b"".join(PARTS)


def chunked(answer: Answer, asked: Asked) -> None:
    answer.chunked = True


async def test_what_broke_off_goes_on_though_all_addresses_are_others(tmp_path: Path) -> None:
    async with Origin(served()) as origin:
        origin.always["4"] = lies.status(403)
        origin.script["4"] = [None]  # its size is told
        with pytest.raises(Denied):
            await Fetching(tmp_path).run(fragments(origin, "?signature=1"))
        assert (tmp_path / "film.ts.part").exists()
        origin.always.clear()
        origin.sent = 0
        await Fetching(tmp_path).run(fragments(origin, "?signature=2"))
        assert origin.sent < sum(map(len, PARTS[3:])) + 6 * (64 << 10)
    assert (tmp_path / "film.ts").read_bytes() == b"".join(PARTS)


async def test_fragments_of_two_versions_are_never_mixed(tmp_path: Path) -> None:
    async with Origin(served()) as origin:
        origin.always["4"] = lies.status(403)
        origin.script["4"] = [None]
        with pytest.raises(Denied):
            await Fetching(tmp_path).run(fragments(origin))
        origin.always.clear()
        origin.files["0"] = random.Random(9).randbytes(len(PARTS[0]))
        await Fetching(tmp_path).run(fragments(origin))
        assert (tmp_path / "film.ts").read_bytes() == b"".join([origin.files["0"], *PARTS[1:]])


async def test_no_more_is_asked_for_at_a_time_than_the_site_likes(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(3 << 20)
    async with Origin({"f.mp4": data}) as origin:
        track = Track((f"{origin.url}f.mp4",), {}, "mp4", key="k", most=1 << 20)
        await Fetching(tmp_path).run(Medium("film", (track,), extension="mp4"))
        asked = [one.headers["range"].removeprefix("bytes=").split("-") for one in origin.requests[1:]]
        assert all(int(last) - int(first) < 1 << 20 for first, last in asked)
    assert (tmp_path / "film.mp4").read_bytes() == data


async def test_a_film_is_made_of_its_tracks_once_they_are_all_there(
    tracks: list[Path], film: Path, tmp_path: Path
) -> None:
    into = tmp_path / "into"
    into.mkdir()
    async with Origin(
        {"v.mp4": tracks[0].read_bytes(), "a.m4a": tracks[1].read_bytes(), "ko.vtt": b"WEBVTT"}
    ) as origin:
        pair = [Track((f"{origin.url}{name}",), {}, name[2:], key=name) for name in ("v.mp4", "a.m4a")]
        medium = Medium("film", tuple(pair), (("ko", f"{origin.url}ko.vtt", "vtt"),), "mp4")
        origin.always["a.m4a"] = lies.status(404)
        with pytest.raises(NotFound):
            await Fetching(into).run(medium)
        assert sorted(os.listdir(into)) == ["film.mp4.0.mp4"]
        origin.always.clear()
        first, second, _ = await Fetching(into).run(medium)
        assert (first.state, first.final, second.state, second.final) == ("already", False, "complete", True)
        assert second.path == into / "film.mp4" and sorted(os.listdir(into)) == ["film.ko.vtt", "film.mp4"]
        plays_alike(into / "film.mp4", film)
        for path in into.glob("*.*.???"):
            path.unlink()
        origin.requests.clear()
        [again, _] = await Fetching(into).run(medium)
        assert again.state == "already" and not origin.of("v.mp4")
        with (into / "film.mp4").open("ab") as file:
            file.write(b"edited")
        with pytest.raises(Malformed, match="--overwrite or --rename"):
            await Fetching(into).run(medium)
        await Fetching(into, "rename").run(medium)
        plays_alike(into / "film (2).mp4", film)
        await Fetching(into, "overwrite").run(medium)
        plays_alike(into / "film.mp4", film)


@YT_DLP
def test_a_page_downloads_and_plays(site: Mapping[str, bytes], film: Path, tmp_path: Path) -> None:
    with aside(Origin(site)) as origin:
        origin.pages["page"] = page("A film", "apart.m3u8")
        for says in (" in ", "is already here"):
            done = get("--site", f"{origin.url}page", "-o", "film.mp4", folder=tmp_path, seconds=30)
            assert done.code == 0 and says in done.said, done.err
            assert os.listdir(tmp_path) == ["film.mp4"]
        sound = get("--site", f"{origin.url}dash.mpd", "--", "-f", "ba", folder=tmp_path, seconds=30)
        assert sound.code == 0 and sorted(os.listdir(tmp_path)) == ["dash.m4a", "film.mp4"], sound.err
    plays_alike(tmp_path / "film.mp4", film)


# ── putting tracks together ──


@pytest.fixture
def tracks(film: Path, tmp_path: Path) -> list[Path]:
    """Pictures and sound of the film apart, under names that would be options, patterns and addresses."""
    paths = [tmp_path / "-i %03d 'x':y.mp4", tmp_path / "http:한국|a.m4a"]
    for path, kind in zip(paths, "va", strict=True):
        part = tmp_path / f"{kind}.mp4"
        silent("ffmpeg", "-v", "error", "-i", str(film), "-map", f"0:{kind}", "-c", "copy", str(part))
        part.rename(path)
    return paths


@pytest.mark.parametrize("name", ["film.mp4", "-y 'a' %d\n:b.mkv", "n" * 230 + ".mp4"])
async def test_tracks_are_put_together_whatever_they_are_called(
    tracks: list[Path], film: Path, tmp_path: Path, name: str
) -> None:
    await muxed(tracks, tmp_path / name)
    (tmp_path / name).rename(tmp_path / "done.mkv")
    plays_alike(tmp_path / "done.mkv", film)
    assert sorted(path.name for path in tmp_path.iterdir() if ".part" in path.name) == []


async def test_a_target_that_is_there_is_replaced_only_where_that_is_wanted(tracks: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "film.mp4"
    target.write_bytes(b"precious")
    with pytest.raises(Malformed, match="--overwrite"):
        await muxed(tracks, target)
    assert target.read_bytes() == b"precious"
    await muxed(tracks, target, over=True)
    assert target.stat().st_size > 5000


@pytest.mark.parametrize(
    "bait", ["#EXTM3U\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile other.mp4\n"]
)
async def test_a_track_that_names_other_files_is_not_followed(film: Path, tmp_path: Path, bait: str) -> None:
    track, target = tmp_path / "track.mp4", tmp_path / "film.mkv"
    shutil.copy(film, tmp_path / "other.mp4")
    track.write_text(bait)
    with pytest.raises(Malformed, match="ffmpeg cannot put"):
        await muxed([track], target)
    assert sorted(os.listdir(tmp_path)) == ["other.mp4", "track.mp4"]


async def test_what_a_container_cannot_hold_is_told_in_a_line_and_leaves_what_was_there(
    tracks: list[Path], tmp_path: Path
) -> None:
    target = tmp_path / "film.webm"
    target.write_bytes(b"precious")
    with pytest.raises(Malformed, match=r"Only VP8.*--merge-output-format mkv") as raised:
        await muxed(tracks, target, over=True)
    assert len(str(raised.value).splitlines()) == 1 and " @ 0x" not in str(raised.value)
    assert target.read_bytes() == b"precious" and not target.with_name(target.name + mux.PART).exists()
    with pytest.raises(Malformed, match="no kind"):
        await muxed(tracks, tmp_path / "film.txt")


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An ffmpeg that never ends; it writes down which process it is."""
    place, bin = tmp_path / "pid", tmp_path / "bin"
    bin.mkdir()
    script = bin / "ffmpeg"
    script.write_text(f"#!{shutil.which('sh')}\necho $$ > '{place}'\nexec {shutil.which('sleep')} 60\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(bin))
    yield place


async def test_whoever_does_not_wait_for_ffmpeg_ends_it(slow: Path, tmp_path: Path) -> None:
    waiting = asyncio.create_task(muxed([tmp_path / "a.ts"], tmp_path / "a.mp4"))
    await settled(lambda: slow.exists() and slow.read_text().endswith("\n"))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(ProcessLookupError):
        os.kill(int(slow.read_text()), 0)
