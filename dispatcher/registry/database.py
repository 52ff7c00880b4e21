"""One SQLite file: opened, brought to the newest schema, used by one thread at a time.

Every piece of work runs on a worker thread behind a limiter of one, in the order
of asking, inside one transaction.  A cancelled caller either never reached the
thread, and nothing happened, or waits for it, and everything did.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

import msgspec
import trio

from dispatcher import limits
from dispatcher.errors import DataFolderError, DispatcherError, StorageFull, Unavailable

MIGRATIONS = (
    "0001_initial.sql",
    "0002_devices.sql",
    "0003_device_requests.sql",
    "0004_key_expiry.sql",
    "0005_signed_callbacks.sql",
    "0006_paused_channels.sql",
    "0007_parked_events.sql",
)
"""The n-th leads from schema n-1 to n.  Only ever added to."""

APPLICATION_ID = 0x4E446973  # "NDis", SQLite's mark of whose file this is

T = TypeVar("T")


class Database:
    """An open file.  Close it: until then its write-ahead log stays beside it."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self.path = path
        self._limiter = trio.CapacityLimiter(1)

    @classmethod
    async def open(cls, path: Path, *, is_durable: bool) -> Database:
        """Open the file, which must exist, empty or not, and bring it to the newest schema.

        ``is_durable``: a commit that returned survives a power cut, not only a crash.
        Raises ``DataFolderError``.
        """
        connection = await trio.to_thread.run_sync(_open, path, is_durable)
        return cls(connection, path)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` on one consistent state of the file."""
        return await self._run(work, "BEGIN DEFERRED")

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` as one change; on disk when this returns, undone when it raises."""
        return await self._run(work, "BEGIN IMMEDIATE")

    async def close(self) -> None:
        """Close after the work already asked for, cancelled or not.  Again does nothing."""
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._connection.close, limiter=self._limiter)

    async def _run(self, work: Callable[[sqlite3.Connection], T], begin: str) -> T:
        def transact() -> T:
            with errors_in_words(self.path), _transaction(self._connection, begin):
                return work(self._connection)

        return await trio.to_thread.run_sync(transact, limiter=self._limiter)


@contextmanager
def errors_in_words(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours: what happened to which file, and what to do.

    A broken constraint is not among them: the work checks first, so it is a bug and flies.
    """
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.DatabaseError as error:
        raise _in_words(error, path) from error
    except msgspec.MsgspecError as error:
        raise DataFolderError(f"{path}: a row does not read: {error}; {_DAMAGED}") from error


_DAMAGED = "the file is damaged: restore it from a backup, or move it away to start anew"


def _in_words(error: sqlite3.DatabaseError, path: Path) -> DispatcherError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte of an extended code
    match code:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return Unavailable(
                f"{path} has been locked by another process for {limits.REGISTRY_BUSY_S:g} s; try again",
                retry_after_s=limits.REGISTRY_BUSY_S,
            )
        case sqlite3.SQLITE_FULL:
            return StorageFull(f"{path}: the disk is full; make room and try again")
        case sqlite3.SQLITE_NOTADB:
            return DataFolderError(f"{path} is not a database; move it away to start anew")
        case sqlite3.SQLITE_CORRUPT:
            return DataFolderError(f"{path}: {error}; {_DAMAGED}")
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return DataFolderError(f"{path}: {error}; run as the user that owns the folder, and let it write")
        case _:
            return DataFolderError(f"{path}: {error}")


def _open(path: Path, is_durable: bool) -> sqlite3.Connection:
    with errors_in_words(path):
        connection = sqlite3.connect(
            path, timeout=limits.REGISTRY_BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            _check_owner(connection, path)
            _write_ahead(connection)
            connection.execute(f"PRAGMA synchronous = {'FULL' if is_durable else 'NORMAL'}")
            connection.execute("PRAGMA foreign_keys = ON")
            with _transaction(connection, "BEGIN IMMEDIATE"):
                _migrate(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def _check_owner(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse another program's database before anything is written to it."""
    # In this order: both change in one transaction, which another process may commit in between.
    is_empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    if not is_empty and _pragma(connection, "application_id") != APPLICATION_ID:
        raise DataFolderError(
            f"{path} is another program's database; name another data folder, or move the file away"
        )


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to a write-ahead log, so that readers and a writer never wait for each other.

    The one statement that SQLite's own busy timeout does not cover: of several
    processes that convert a new file at once, all but one may be told it is locked.
    """
    for _ in range(limits.REGISTRY_CONVERT_ATTEMPTS_MAX - 1):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(limits.REGISTRY_CONVERT_PAUSE_S)
        else:
            return
    connection.execute("PRAGMA journal_mode = WAL")


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    version = _pragma(connection, "user_version")
    if version > len(MIGRATIONS):
        raise DataFolderError(
            f"{path} has schema {version}, made by a newer dispatcher; this one knows {len(MIGRATIONS)}: "
            "run the newer one, or restore the backup from before the upgrade"
        )
    if version == len(MIGRATIONS):
        return
    for name in MIGRATIONS[version:]:
        for statement in _statements(files("dispatcher.registry").joinpath(name).read_text("utf-8")):
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _statements(script: str) -> Iterator[str]:
    """Cut a script into its statements.  ``executescript`` would commit before it begins."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite has already rolled back after some errors
            connection.execute("ROLLBACK")
        raise
