"""The programs that people unpack with: what each finds in an archive, {name: (bytes, time)}, and what it lists.

They run in UTC and in UTF-8, must succeed, and must not complain. One that is not installed is skipped.
"""

import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from calendar import timegm
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

PACKAGES = {
    "bsdtar": "libarchive-tools",
    "busybox": "busybox",
    "7zz": "7zip",
    "unzip": "unzip",
    "zipinfo": "unzip",
    "java": "default-jdk-headless",
    "javac": "default-jdk-headless",
}
WITHIN = 1800.0
_ENVIRONMENT = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"}

Found = dict[str, tuple[bytes | None, int]]  # None for a folder
Unpacker = Callable[[Path, Path], Found]
Lister = Callable[[Path], dict[str, int]]


def program(name: str) -> str:
    """Where a program is, or the test is skipped."""
    found = shutil.which(name) or (shutil.which("7z") if name == "7zz" else None)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: {PACKAGES.get(name, name)})")
    return found


def run(name: str, *arguments: str | Path, pipe: Path | None = None, folder: Path | None = None) -> str:
    """What a program says, with a file as its input through a pipe where one is given."""
    given = pipe.read_bytes() if pipe else b""
    command = [program(name), *map(str, arguments)]
    done = subprocess.run(command, input=given, capture_output=True, cwd=folder, env=_ENVIRONMENT, timeout=WITHIN)
    complaint = done.stderr.decode("utf-8", "replace")
    assert done.returncode == 0 and not complaint, f"{command}: {done.returncode} {complaint[:500]}"
    return done.stdout.decode("utf-8", "replace")


# ── unpacking ──


def _extracting(name: str, *arguments: str, pipe: bool = False) -> Unpacker:
    def unpack(archive: Path, folder: Path) -> Found:
        folder.mkdir()
        places = {"ARCHIVE": archive, "FOLDER": folder}
        run(name, *(places.get(word, word) for word in arguments), pipe=archive if pipe else None, folder=folder)
        return dict(_on_disk(path, folder) for path in folder.rglob("*"))

    return unpack


def _on_disk(path: Path, folder: Path) -> tuple[str, tuple[bytes | None, int]]:
    return str(path.relative_to(folder)), (None if path.is_dir() else path.read_bytes(), int(path.stat().st_mtime))


def _by_tarfile(archive: Path, folder: Path) -> Found:
    found: Found = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member)
            found[member.name] = (file.read() if file else None), int(member.mtime)
    return found


def _by_zipfile(archive: Path, folder: Path) -> Found:
    with zipfile.ZipFile(archive) as zip:
        return {
            info.filename.rstrip("/"): (None if info.is_dir() else zip.read(info), timegm((*info.date_time, 0, 0, 0)))
            for info in zip.infolist()
        }


def _by_java(how: str) -> Unpacker:
    def unpack(archive: Path, folder: Path) -> Found:
        folder.mkdir()
        java(how, archive, folder)
        return dict(_on_disk(path, folder) for path in folder.rglob("*"))

    return unpack


UNTAR: dict[str, Unpacker] = {
    "GNU tar": _extracting("tar", "--warning=no-timestamp", "-xf", "ARCHIVE"),
    "GNU tar, pipe": _extracting("tar", "--warning=no-timestamp", "-xf", "-", pipe=True),
    "bsdtar": _extracting("bsdtar", "-xf", "ARCHIVE"),
    "bsdtar, pipe": _extracting("bsdtar", "-xf", "-", pipe=True),
    "busybox": _extracting("busybox", "tar", "-xf", "ARCHIVE"),
    "busybox, pipe": _extracting("busybox", "tar", "-xf", "-", pipe=True),
    "7zz": _extracting("7zz", "x", "-y", "ARCHIVE"),
    "tarfile": _by_tarfile,
}
UNZIP: dict[str, Unpacker] = {
    "unzip": _extracting("unzip", "-q", "ARCHIVE"),
    "bsdtar": _extracting("bsdtar", "-xf", "ARCHIVE"),
    "bsdtar, pipe": _extracting("bsdtar", "-xf", "-", pipe=True),
    "busybox": _extracting("busybox", "unzip", "-q", "ARCHIVE"),
    "7zz": _extracting("7zz", "x", "-y", "ARCHIVE"),
    "zipfile": _by_zipfile,
    "ZipFile": _by_java("file"),
    "ZipInputStream": _by_java("stream"),
}


# ── listing ──


def _by_lines(pattern: str, name: str, *arguments: str) -> Lister:
    """Names and sizes from the lines of a listing that look like a member's."""

    def names(archive: Path) -> dict[str, int]:
        said = run(name, *(archive if word == "ARCHIVE" else word for word in arguments))
        return {found["name"]: int(found["size"]) for found in re.finditer(pattern, said, re.M)}

    return names


def _with_tarfile(archive: Path) -> dict[str, int]:
    with tarfile.open(archive) as tar:
        return {member.name: member.size for member in tar}


def _with_zipfile(archive: Path) -> dict[str, int]:
    with zipfile.ZipFile(archive) as zip:
        return {info.filename: info.file_size for info in zip.infolist()}


def _with_java(archive: Path) -> dict[str, int]:
    lines = java("list", archive, archive).splitlines()
    return {name: int(size) for size, _, name in (line.partition(" ") for line in lines)}


_WIDE = r"^(?P<mode>-\S{9}) +(?P<owner>\S+) +(?P<size>\d+) \S+ \S+ (?P<name>.*)$"
_BSD = r"^-\S{9} +\d+ +\d+ +\d+ +(?P<size>\d+) \S+ +\S+ +\S+ (?P<name>.*)$"
_7ZZ = r"^Path = (?P<name>.*)\n(?:Folder = -\n)?Size = (?P<size>\d+)$"
_ZIP = r"^ *(?P<size>\d+)  \S+ \S+   (?P<name>.*)$"

LIST_TAR: dict[str, Lister] = {
    "GNU tar": _by_lines(_WIDE, "tar", "-tvf", "ARCHIVE"),
    "bsdtar": _by_lines(_BSD, "bsdtar", "-tvf", "ARCHIVE"),
    "busybox": _by_lines(_WIDE, "busybox", "tar", "-tvf", "ARCHIVE"),
    "7zz": _by_lines(_7ZZ, "7zz", "l", "-slt", "ARCHIVE"),
    "tarfile": _with_tarfile,
}
LIST_ZIP: dict[str, Lister] = {
    "unzip": _by_lines(_ZIP, "unzip", "-l", "ARCHIVE"),
    "bsdtar": _by_lines(_BSD, "bsdtar", "-tvf", "ARCHIVE"),
    "7zz": _by_lines(_7ZZ, "7zz", "l", "-slt", "ARCHIVE"),
    "zipfile": _with_zipfile,
    "ZipFile": _with_java,
}


# ── Java ──

_JAVA = """
import java.io.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import java.util.zip.*;

public class Unzip {
    static void put(Path folder, ZipEntry entry, InputStream data) throws IOException {
        Path path = folder.resolve(entry.getName());
        if (entry.isDirectory()) {
            Files.createDirectories(path);
            return;
        }
        Files.createDirectories(path.getParent());
        Files.copy(data, path);
        Files.setLastModifiedTime(path, entry.getLastModifiedTime());
    }

    public static void main(String[] words) throws IOException {
        Path folder = Paths.get(words[2]);
        PrintStream out = new PrintStream(new FileOutputStream(FileDescriptor.out), false, StandardCharsets.UTF_8);
        if (words[0].equals("stream")) {
            try (ZipInputStream zip = new ZipInputStream(new FileInputStream(words[1]))) {
                for (ZipEntry entry; (entry = zip.getNextEntry()) != null; ) put(folder, entry, zip);
            }
            return;
        }
        try (ZipFile zip = new ZipFile(words[1])) {
            for (ZipEntry entry : Collections.list(zip.entries())) {
                if (words[0].equals("list")) out.println(entry.getSize() + " " + entry.getName());
                else put(folder, entry, zip.getInputStream(entry));
            }
        }
        out.flush();
    }
}
"""


@cache
def _compiled() -> TemporaryDirectory[str]:
    folder = TemporaryDirectory()
    source = Path(folder.name, "Unzip.java")
    source.write_text(_JAVA)
    run("javac", "-d", folder.name, source)
    return folder


def java(how: str, archive: Path, folder: Path) -> str:
    """What Java's own reader says, or the test is skipped."""
    program("javac")
    return run("java", "-XX:TieredStopAtLevel=1", "-cp", _compiled().name, "Unzip", how, archive, folder)
