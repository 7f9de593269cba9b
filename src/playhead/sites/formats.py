"""What yt-dlp says of a video -> a Medium: the files and fragments that its chosen formats are.

What is not files of HTTP that are right as they are, or joined as bytes, is refused: live streams, sections, other
protocols, and whatever yt-dlp itself would give less than all of.
"""

import re
import shutil
from collections.abc import Iterable, Mapping, Set
from typing import Any, Protocol
from urllib.parse import urljoin

from playhead.errors import Denied, Malformed
from playhead.sites.pages import Medium, Track
from playhead.transforms import hls
from playhead.tree import visible

NAME = 160  # bytes of a name, so that there is room for endings
Spans = tuple[tuple[int, int] | None, ...]

_EXTENSIONS = """
    mp4 m4v m4a mov mkv mka webm weba 3gp flv f4v avi ogv ogg oga opus mp3 aac ac3 eac3 flac wav aiff alac ts mpg mpeg
    wmv wma vtt srt ass ssa ttml dfxp json json3 srv1 srv2 srv3 lrc
    """
_KNOWN = frozenset(_EXTENSIONS.split())
_MINE = {"accept-encoding", "range", "host", "connection", "content-length", "cookie", "ytdl-request-proxy"}
_PERIOD = re.compile(rb"<(?:\w{1,20}:)?Period[\s>/]")
_DYNAMIC, _PIECEWISE = re.compile(rb"\stype\s{0,9}=\s{0,9}[\"']dynamic"), re.compile(rb"\smediaRange\s{0,9}=")
_ITSELF = "run yt-dlp itself for it"
_PIECES = "choose a format that is not DASH by -f"


class Site(Protocol):
    """Who asks a site, with its cookies."""

    def fetched(self, url: str, headers: Mapping[str, str]) -> tuple[bytes, str]:
        """A small file, whole, and the address where it was found. Raises a Failure."""

    def cookie(self, url: str) -> str | None:
        """The cookies that an address is to be sent."""


def medium(info: Mapping[str, Any], taken: Set[str], site: Site) -> Medium:
    """A video as it is to be fetched, under a name that is not taken. Raises Malformed, or what is wrong with it."""
    if info.get("is_live") or info.get("live_status") in ("is_live", "is_upcoming"):
        raise Malformed(f"it is live; {_ITSELF}")
    if info.get("section_start") is not None or info.get("section_end") is not None:
        raise Malformed(f"it is a section of something longer, which is cut out of it; {_ITSELF}")
    key = f"{info.get('extractor_key')} {info.get('id')}"
    formats = info.get("requested_formats") or [info]
    tracks = tuple(_track(form, f"{key} {form.get('format_id')}", site) for form in formats)
    extension = _extension(info.get("ext"))
    if shutil.which("ffmpeg") is None:
        if len(tracks) > 1:
            raise Malformed("its pictures and sound come apart: install ffmpeg, or choose a format with both by -f")
        extension = tracks[0].extension
    return Medium(_name(info, taken), tracks, tuple(_subtitles(info)), extension)


def _name(info: Mapping[str, Any], taken: Set[str]) -> str:
    title, mark = str(info.get("title") or info.get("id")), f" [{info.get('id')}]"
    for last in ("", mark, f"{mark} {info.get('format_id')}", *(f"{mark} ({number})" for number in range(2, 1000))):
        name = _clean(title, last)
        if name not in taken:
            return name
    raise Malformed("too many are called the same")


def _clean(text: str, last: str = "") -> str:
    """A text, and a mark after it, as a name: visible, not hidden, and not too long."""
    name, last = (visible(each.replace("/", "\uff0f").replace("\\", "\uff3c")) for each in (text, last))
    last = _cut(last, NAME // 2)
    return _cut(name.strip(" ."), NAME - len(last.encode())).rstrip(" .") + last or "video"


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode("utf-8", "ignore")


def _subtitles(info: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
    for language, each in (info.get("requested_subtitles") or {}).items():
        url = each.get("url")
        if not url or each.get("fragments") or "m3u8" in str(each.get("protocol")):
            raise Malformed(f"the subtitles {visible(language)!r} are no file; leave out --write-subs, or {_ITSELF}")
        yield _cut(_clean(str(language)), 40), _http(str(url)), _extension(each.get("ext"))


def _extension(found: object) -> str:
    """The ending of a name; of media only, whatever a site says."""
    extension = str(found).lower()
    return extension if extension in _KNOWN else "unknown_video"


# ── tracks ──


def _track(form: Mapping[str, Any], key: str, site: Site) -> Track:
    if form.get("has_drm") is True:
        raise Denied("it is encrypted, and can only be played by who has its key")
    if form.get("request_data"):
        raise Malformed(f"the site wants to be sent a form before it gives it; {_ITSELF}")
    headers = _headers(form)
    urls, spans, extension = _files(form, headers, site)
    if query := form.get("extra_param_to_segment_url"):
        urls = tuple(f"{url}{'&' if '?' in url else '?'}{query}" for url in urls)
    if cookie := _cookie(urls, site):
        headers["Cookie"] = cookie
    most = (form.get("downloader_options") or {}).get("http_chunk_size")
    asked = most if isinstance(most, int) and most > 0 else None
    return Track(tuple(map(_http, urls)), headers, extension, spans if any(spans) else (), key, asked)


def _files(form: Mapping[str, Any], headers: Mapping[str, str], site: Site) -> tuple[tuple[str, ...], Spans, str]:
    """Where the bytes of a format are, in their order, and what they are then."""
    protocol, extension = form.get("protocol"), _extension(form.get("ext"))
    if str(form.get("container")).endswith("_dash") and form.get("manifest_url"):
        _one_period(site.fetched(_http(str(form["manifest_url"])), headers)[0])
    if protocol in ("m3u8", "m3u8_native"):
        stream = _stream(form, headers, site)
        urls, spans = zip(*((each.url, each.span) for each in stream.fragments), strict=True)
        return urls, spans, "m4a" if (stream.extension, extension) == ("mp4", "m4a") else stream.extension
    if protocol == "http_dash_segments":
        return _segments(form), (), extension
    if protocol in ("http", "https"):
        return (str(form["url"]),), (), extension
    raise Malformed(f"it comes by {visible(str(protocol))[:40]!r}; choose another format by -f, or {_ITSELF}")


def _stream(form: Mapping[str, Any], headers: Mapping[str, str], site: Site) -> hls.Stream:
    if form.get("hls_aes"):
        raise Malformed(f"the HLS stream is encrypted; {_ITSELF}")
    if text := form.get("hls_media_playlist_data"):
        return hls.stream(str(text), str(form["url"]))
    data, url = site.fetched(_http(str(form["url"])), headers)
    return hls.stream(data.decode("utf-8", "replace"), url)


def _one_period(manifest: bytes) -> None:
    """Raises Malformed where yt-dlp knows less than all of a DASH presentation, or cannot tell its pieces apart."""
    if _DYNAMIC.search(manifest):
        raise Malformed(f"it is live; {_ITSELF}")
    if len(_PERIOD.findall(manifest)) > 1:
        raise Malformed(f"it is put together of several periods; {_PIECES}")
    if _PIECEWISE.search(manifest):
        raise Malformed(f"it is cut out of one file piece by piece; {_PIECES}")


def _segments(form: Mapping[str, Any]) -> tuple[str, ...]:
    """The fragments of a DASH format. Raises Malformed where they are not one stream in a row."""
    found = form.get("fragments")
    if not isinstance(found, list | tuple) or not found:
        raise Malformed(f"it is live; {_ITSELF}")
    if len(found) > hls.MOST:
        raise Malformed(f"it has more than {hls.MOST:,} fragments")
    base = str(form.get("fragment_base_url") or "")
    urls = tuple(each.get("url") or urljoin(base, each["path"]) for each in found)
    timed = ["duration" in each for each in found[1:]]
    if len(set(urls)) < len(urls) or (any(timed) and not all(timed)):
        raise Malformed(f"it is put together of several periods; {_PIECES}")
    return urls


def _cookie(urls: Iterable[str], site: Site) -> str | None:
    """The cookies that all of the addresses are to be sent."""
    places = {url.partition("?")[0].rpartition("/")[0]: url for url in urls}
    found = {site.cookie(url) for url in places.values()}
    if len(found) > 1:
        raise Malformed(f"its fragments lie in places that are sent different cookies; {_ITSELF}")
    return found.pop()


def _headers(form: Mapping[str, Any]) -> dict[str, str]:
    """What the site wants to be sent, but for what is between two ends of a connection."""
    sent = {str(name): str(value) for name, value in (form.get("http_headers") or {}).items()}
    return {name: value for name, value in sent.items() if name.lower() not in _MINE and f"{name}{value}".isprintable()}


def _http(url: str) -> str:
    if not re.match(r"https?://[^/]", url, re.IGNORECASE) or len(url) > hls.LONG or not url.isprintable():
        raise Malformed("it is at an address that is not of http or https")
    return url
