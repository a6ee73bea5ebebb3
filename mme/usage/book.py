"""Where usage is written down: SQLite, a row a model and hour. All of it blocks: for threads.

Decision: WAL without a sync at each commit: what was committed outlives a killed server, and a
power cut costs the last seconds, never the file. A lock file beside it keeps a second server out,
while anyone may read. Hours, since a day is what people ask for and minutes would be 60 times the
rows; what is older than `days` goes, but not before the wall clock has gone evenly for an hour: by
one that jumps ahead for a moment all of the ledger would be old, and there is no other copy. A file
that was taken away is begun anew: what is written into it would be lost.
"""

from __future__ import annotations

import fcntl
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO
from urllib.parse import quote

from mme.errors import ConfigError, UsageUnreadable
from mme.usage.account import Usage
from mme.usage.statement import SORTABLE, Statement, Window

HOUR_SECONDS = 3600
DAY_SECONDS = 24 * HOUR_SECONDS
_SCHEMA = 1  # of the file; another one is not guessed at
_BUSY_SECONDS = 5.0
_EVEN_SECONDS = HOUR_SECONDS  # for which a clock has to go with the monotonic one
_JUMP_SECONDS = 60.0  # between two looks, and it does not
_COLUMNS = Usage._fields[1:]
_CREATE = f"""
    CREATE TABLE IF NOT EXISTS usage (
        hour INTEGER NOT NULL, model TEXT NOT NULL,
        {", ".join(f"{name} NOT NULL" for name in _COLUMNS)},
        PRIMARY KEY (hour, model)
    ) WITHOUT ROWID
"""
_ADD = f"""
    INSERT INTO usage VALUES (?, {", ".join("?" for _ in Usage._fields)})
    ON CONFLICT DO UPDATE SET {", ".join(f"{name} = {name} + excluded.{name}" for name in _COLUMNS)}
"""  # noqa: S608 - our own columns
_SUM_UP = f"""
    CREATE TEMP TABLE used AS
    SELECT model, {", ".join(f"SUM({name}) AS {name}" for name in _COLUMNS)}
    FROM usage WHERE hour >= ? AND hour < ? GROUP BY model
"""  # noqa: S608 - our own columns
_TOP = "SELECT * FROM used ORDER BY {by} DESC, model LIMIT ?"
_TOTAL = f"SELECT COUNT(*), {', '.join(f'SUM({name})' for name in _COLUMNS)} FROM used"  # noqa: S608 - our own columns


class Book:
    """One file of usage, and the only one who writes to it. Used by one thread at a time.

    Args:
        path: of the file; made if it is not there.
        days: what is older is forgotten.
        monotonic: the clock that never jumps, in seconds.

    Raises:
        ConfigError: another server has it, it is no such file, or it can't be had.
    """

    def __init__(
        self, path: Path, days: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._path, self._days, self._monotonic = path, days, monotonic
        self._forgotten_hour = 0
        self._ahead_seconds = float("-inf")  # the wall clock of the monotonic one, at the last look
        self._even_since = 0.0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(path.with_name(path.name + ".lock"))
        except OSError as error:
            raise ConfigError(f"ledger: {path} can't be had: {error.strerror}") from error
        try:
            self._open()
        except BaseException as error:
            self.close()
            if isinstance(error, sqlite3.Error):
                raise ConfigError(f"ledger: {path} is no ledger: {error}") from error
            raise

    def add(self, usages: Sequence[Usage], now: float) -> None:
        """Writes usage down, for the hour of the wall clock's `now`; all of it, or none.

        Raises:
            UsageUnreadable: it can't be; nothing is lost of what was there.
        """
        hour = int(now) // HOUR_SECONDS * HOUR_SECONDS
        with _translated(self._path):
            if _identity(self._path) != self._identity:
                self._file.close()
                self._open()
            with self._file:
                self._file.executemany(_ADD, ((hour, *usage) for usage in usages))
                if self._is_even(now) and hour != self._forgotten_hour:
                    oldest = hour - self._days * DAY_SECONDS
                    self._file.execute("DELETE FROM usage WHERE hour < ?", (oldest,))
                    self._forgotten_hour = hour

    def close(self) -> None:
        """Lets another server have it."""
        with suppress(AttributeError):  # it was never opened
            self._file.close()
        self._lock.close()

    def _is_even(self, now: float) -> bool:
        """Whether the wall clock has not jumped for an hour, nor was it first looked at since."""
        monotonic = self._monotonic()
        former, self._ahead_seconds = self._ahead_seconds, now - monotonic
        if abs(self._ahead_seconds - former) > _JUMP_SECONDS:
            self._even_since = monotonic
        return monotonic - self._even_since >= _EVEN_SECONDS

    def _open(self) -> None:
        self._file = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, check_same_thread=False)
        self._prepare()
        self._identity = _identity(self._path)

    def _prepare(self) -> None:
        self._file.execute("PRAGMA journal_mode = WAL")
        self._file.execute("PRAGMA synchronous = NORMAL")
        (schema,) = self._file.execute("PRAGMA user_version").fetchone()
        if schema not in {0, _SCHEMA}:
            raise ConfigError(
                f"ledger: {self._path} has the form {schema} of another version of mme; "
                f"this one writes {_SCHEMA}"
            )
        if not schema:  # else nothing is written: the disk may be full
            with self._file:
                self._file.execute(_CREATE)
                self._file.execute(f"PRAGMA user_version = {_SCHEMA}")


def read_book(path: Path, window: Window) -> Statement:
    """What was used in a window. Any thread may, and any process, while the book is open.

    Raises:
        UsageUnreadable: it can't be read.
    """
    by = SORTABLE[window.by]
    with (
        _translated(path),
        closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as file,
    ):
        file.execute(_SUM_UP, (window.since, window.until))
        models = file.execute(_TOP.format(by=by), (window.top,)).fetchall()
        count, *sums = file.execute(_TOTAL).fetchone()
    total = Usage("", *(value or 0 for value in sums))
    rows = [Usage(*row) for row in models]
    return Statement(window=window, models=rows, total=total, model_count=count)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, ConfigError) as error:
        raise UsageUnreadable(f"The ledger {path.name} can't be used: {error}.") from error


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file has that name now; None: none has."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _lock(path: Path) -> IO[bytes]:
    """Held until it is closed, or whoever has it ends, however that is."""
    lock = path.open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise ConfigError(f"ledger: another server writes to {path.with_suffix('')}") from error
    return lock
