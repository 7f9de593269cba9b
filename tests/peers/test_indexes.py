"""One folder behind the index pages of real servers: through each, it is its files."""

import os
import random
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from playhead import NotFound, walk
from playhead.origins.web import WebTree
from tests.laws import check_tree
from tests.peers import servers

FILES = {
    "노래.mp3": random.Random(1).randbytes(200_000),
    "two  words.mp3": b"two",
    "100%.mp3": b"percent",
    "%41%2F.mp3": b"encoded twice",
    "a#b.mp3": b"number",
    "a&b&amp;c.mp3": b"ampersand",
    "it's.mp3": b"apostrophe",
    'so "it" <is>.mp3': b"quotes",
    "who?.mp3": b"question",
    "a+b;c=d,e.mp3": b"plus",
    "a:b.mp3": b"colon",
    "back\\slash.mp3": b"backslash",
    "~tilde.mp3": b"tilde",
    "가" * 83 + ".flac": b"long",
    "empty.bin": b"",
    "number": bytes(65536),
    "앨범/Disc #1/01 & 02.flac": b"deep",
    "앨범/it's 100%/곡 3.flac": b"deep too",
    "album/with spaces/x.mp3": b"x",
}
WHEN = datetime(2026, 1, 3, 10, 20, 30, tzinfo=UTC)

Serve = Callable[[Path, Path], AbstractContextManager[str]]
SERVERS = [
    servers.nginx,
    servers.nginx_with_rough_sizes,
    servers.apache,
    servers.apache_with_a_table,
    servers.rclone,
    servers.python,
]
EXACT = (servers.nginx, servers.rclone)  # these say how long files are, to the byte


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Where every user may read: a server that root starts does not stay root."""
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        for path, data in FILES.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
            os.utime(root / path, (WHEN.timestamp(), WHEN.timestamp()))
        (root / "빈 폴더 #2").mkdir()
        for inside in [root, *root.rglob("*")]:
            inside.chmod(0o755)
        yield root


@pytest.fixture
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o777)
        yield Path(made)


@asynccontextmanager
async def served(serve: Serve, folder: Path, scratch: Path) -> AsyncIterator[WebTree]:
    with serve(folder, scratch) as url:
        async with aclosing(WebTree(url)) as tree:
            yield tree


@pytest.mark.parametrize("serve", SERVERS, ids=lambda serve: serve.__name__)
async def test_a_folder_is_its_files(serve: Serve, folder: Path, scratch: Path) -> None:
    async with served(serve, folder, scratch) as tree:
        await check_tree(tree, FILES)


@pytest.mark.parametrize("serve", SERVERS, ids=lambda serve: serve.__name__)
async def test_folders_are_told_from_files(serve: Serve, folder: Path, scratch: Path) -> None:
    async with served(serve, folder, scratch) as tree:
        folders = {path async for path, entry in walk(tree) if entry.folder}
        assert folders == {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_dir()}
        assert [entry async for entry in tree.entries("빈 폴더 #2")] == []
        for missing in ("no such folder", "노래.mp3", "앨범/no such folder"):
            with pytest.raises(NotFound):
                [entry async for entry in tree.entries(missing)]


@pytest.mark.parametrize("serve", SERVERS, ids=lambda serve: serve.__name__)
async def test_sizes_and_dates_are_exact_where_there_are_any(serve: Serve, folder: Path, scratch: Path) -> None:
    async with served(serve, folder, scratch) as tree:
        listed = {path: entry async for path, entry in walk(tree) if not entry.folder}
        known = {path: entry.size for path, entry in listed.items() if entry.size is not None}
        assert known == {path: len(FILES[path]) for path in known}
        assert len(known) == len(FILES) or serve not in EXACT
        assert {entry.modified for entry in listed.values()} <= {None, WHEN.replace(second=0), WHEN}


@pytest.mark.parametrize("serve", SERVERS, ids=lambda serve: serve.__name__)
async def test_files_have_tags_and_dates(serve: Serve, folder: Path, scratch: Path) -> None:
    async with served(serve, folder, scratch) as tree:
        blobs = [await tree.open(path) for path in ("노래.mp3", "number")]
        assert {blob.modified for blob in blobs} == {WHEN}
        assert all(blob.tag and blob.tag[:2] in ("v:", "m:") for blob in blobs)
        assert blobs[0].tag != blobs[1].tag
        for blob in blobs:
            await blob.read()
