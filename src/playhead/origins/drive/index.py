"""What Drive told of its folders, kept in a file: folders with what is in them, and the place in Drive's change feed.

So a path leads to an id without asking, also after a restart; and the feed tells what became of them while nobody
looked. A cache only: a file that is damaged, of an older version or of another login is begun anew; one that another
process has, or that a newer version made, is left alone, and what is told is kept in memory.
"""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path
from typing import TypeVar

from playhead.errors import Unavailable
from playhead.origins.drive.items import SHORTCUT, Item

VERSION = 2
PATIENCE = 1.0  # seconds for which a process that is ending is waited for, to have its file
_TABLES = """
create table folders (id text primary key) without rowid;
create table items (parent text, id text, target text, item text, primary key (parent, id)) without rowid;
create index by_target on items (target);
create index by_id on items (id);
create table facts (name text primary key, value text) without rowid;
create table seen (id text primary key, tag text, hash text) without rowid;
"""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)

T = TypeVar("T")
Change = tuple[str, Item | None]  # the id of a file, and what it is now; None: gone


class Newer(sqlite3.DatabaseError):
    """A newer version made the file."""


class Index:
    """Thread-safe; each call is a short transaction (blocks), the first one opens the file. `of`: what it is about."""

    def __init__(self, path: Path | None, of: str = "") -> None:
        self.lock = threading.Lock()
        self.path, self.of = path, of
        self.db: sqlite3.Connection | None = None
        self.closed = False

    # ── the file ──

    def _opened(self) -> sqlite3.Connection:
        for _ in range(2):
            if self.path is None:
                break
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                return _made(str(self.path), self.of)
            except (sqlite3.Error, OSError) as error:
                self._spoiled(error)
        self.path = None
        return _made(":memory:", self.of)

    def _spoiled(self, error: Exception) -> None:
        """Remove a file that is damaged; from any other that cannot be used, turn to memory."""
        path, self.path = self.path, None
        if path is None or isinstance(error, Newer) or not isinstance(error, sqlite3.Error):
            return
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 255 in _DAMAGED:
            with suppress(OSError):
                for end in ("", "-wal", "-shm"):
                    path.with_name(path.name + end).unlink(missing_ok=True)
                self.path = path

    def _do(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """What one transaction gives; `otherwise` where the file fails, which is then given up: it is a cache."""
        with self.lock:
            if self.closed:
                raise Unavailable("this source was closed")
            self.db = self.db or self._opened()
            try:
                self.db.execute("begin immediate")
                found = work(self.db)
                self.db.execute("commit")
                return found
            except sqlite3.Error as error:
                self.db.close()
                self.db = None
                self._spoiled(error)
                return otherwise
            except BaseException:
                self.db.execute("rollback")
                raise

    def close(self) -> None:
        with self.lock:
            self.closed = True
            if self.db:
                self.db.close()

    # ── folders ──

    def folder(self, place: str) -> list[Item] | None:
        """What is in a folder; None where it was not listed."""
        return self._do(lambda db: _inside(db, place) if _listed(db, place) else None, None)

    def keep(self, place: str, items: Iterable[Item], changes: Sequence[Change] = ()) -> None:
        """A folder was listed whole, while the feed told of `changes`."""

        def work(db: sqlite3.Connection) -> None:
            _drop(db, place)
            db.execute("insert into folders values (?)", (place,))
            db.executemany("insert or replace into items values (?, ?, ?, ?)", [_row(place, item) for item in items])
            _apply(db, changes)

        self._do(work, None)

    def drop(self, place: str) -> None:
        """A folder is to be listed again."""
        self._do(lambda db: _drop(db, place), None)

    def apply(self, changes: Sequence[Change], token: str | None) -> set[str] | None:
        """What the feed says, up to `token` (None: as far as before). Returns what folders differ.

        None: all that was remembered is lost.
        """

        def work(db: sqlite3.Connection) -> set[str]:
            touched = _apply(db, changes)
            if token is not None:
                db.execute("insert or replace into facts values ('token', ?)", (token,))
            return touched

        return self._do(work, None)

    def clear(self) -> None:
        """Everything is to be asked for again."""

        def work(db: sqlite3.Connection) -> None:
            for table in ("folders", "items", "facts where name != 'of'"):
                db.execute(f"delete from {table}")

        self._do(work, None)

    # ── files ──

    def single(self, place: str, name: str) -> Item | None:
        """A file that was asked for by its name, in a folder that was not listed."""
        found = self._do(lambda db: _inside(db, place), None)
        return next((each for each in found or () if each.name == name), None)

    def keep_single(self, place: str, item: Item) -> None:
        """A folder that was not listed has one file of this name."""
        self._do(lambda db: db.execute("insert or replace into items values (?, ?, ?, ?)", _row(place, item)), None)

    def item(self, place: str) -> Item | None:
        """What is known of a file."""
        rows = "select item from items where id = ? limit 1"
        found = self._do(lambda db: _read(db.execute(rows, (place,)).fetchall()), None)
        return found[0] if found else None

    def seen(self, place: str, tag: str | None) -> str | None:
        """What the bytes of a version were known by when they were first read."""
        row = self._do(lambda db: db.execute("select tag, hash from seen where id = ?", (place,)).fetchone(), None)
        return row[1] if row and row[0] == tag else None

    def see(self, place: str, tag: str, seen: str) -> None:
        self._do(lambda db: db.execute("insert or replace into seen values (?, ?, ?)", (place, tag, seen)), None)

    # ── facts ──

    def fact(self, name: str) -> str | None:
        """A remembered text: "token", the place in the feed; "root", the id of the topmost folder."""
        row = self._do(lambda db: db.execute("select value from facts where name = ?", (name,)).fetchone(), None)
        return row[0] if row else None

    def remember(self, name: str, value: str) -> None:
        self._do(lambda db: db.execute("insert or replace into facts values (?, ?)", (name, value)), None)


def _made(place: str, of: str) -> sqlite3.Connection:
    db = sqlite3.connect(place, timeout=PATIENCE, check_same_thread=False, isolation_level=None)
    try:
        db.execute("pragma locking_mode = exclusive")  # what is remembered in memory follows this process alone
        db.execute("pragma journal_mode = wal")
        db.execute("pragma synchronous = normal")
        found = db.execute("pragma user_version").fetchone()[0]
        if found > VERSION:
            raise Newer("a newer version made it")
        if 0 < found < VERSION:
            raise sqlite3.DatabaseError("an older version made it")
        tables = _TABLES if found == 0 else "select 1 from folders, items, facts, seen limit 1;"
        db.executescript(f"begin immediate; {tables} pragma user_version = {VERSION}; commit;")
        known = db.execute("select value from facts where name = 'of'").fetchone()
        if known is not None and known[0] != of:
            raise sqlite3.DatabaseError("another login made it")
        db.execute("insert or replace into facts values ('of', ?)", (of,))
    except BaseException:
        db.close()
        raise
    return db


def _listed(db: sqlite3.Connection, place: str) -> bool:
    return db.execute("select 1 from folders where id = ?", (place,)).fetchone() is not None


def _drop(db: sqlite3.Connection, place: str) -> None:
    db.execute("delete from folders where id = ?", (place,))
    db.execute("delete from items where parent = ?", (place,))


def _apply(db: sqlite3.Connection, changes: Sequence[Change]) -> set[str]:
    """A file leaves where it was, and comes to where it is. What cannot be told from it alone is to be listed again."""
    touched: set[str] = set()
    for place, item in changes:
        touched |= {row[0] for row in db.execute("select parent from items where id = ?", (place,))}
        db.execute("delete from items where id = ?", (place,))
        again = {row[0] for row in db.execute("select parent from items where target = ?", (place,))}
        for parent in item.parents if item else ():
            if item and item.type != SHORTCUT and _listed(db, parent):
                db.execute("insert or replace into items values (?, ?, ?, ?)", _row(parent, item))
            else:  # a shortcut that is not followed yet; or perhaps a twin of the one that is known
                again.add(parent)
            touched.add(parent)
        if item is None:
            again.add(place)
        for parent in again:
            _drop(db, parent)
        touched |= again
    return touched


def _row(parent: str, item: Item) -> tuple[str, str, str | None, str]:
    return parent, item.id, item.target, json.dumps(astuple(item))


def _inside(db: sqlite3.Connection, place: str) -> list[Item] | None:
    return _read(db.execute("select item from items where parent = ?", (place,)).fetchall())


def _read(rows: Sequence[tuple[str]]) -> list[Item] | None:
    """Files as they were remembered; None where one of them cannot be read."""
    try:
        return [_item(text) for (text,) in rows]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


def _item(text: str) -> Item:
    values = json.loads(text)
    values[_PARENTS] = tuple(values[_PARENTS])
    return Item(*values)


_PARENTS = list(Item.__slots__).index("parents")
