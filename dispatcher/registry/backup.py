"""Backups of a data folder: what makes one, and what makes a data folder of it again.

A backup has the files of a data folder, and ``backup.json``, which is written last and says
that it is whole.  No dispatcher serves a folder with that file in it: the folder that the backup was made
of went on, and gave numbers that this one does not know of (INV-3).  ``restored_epoch``
keeps a restored folder from giving them again.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec

from dispatcher.errors import DataFolderError
from dispatcher.registry.database import MIGRATIONS, errors_in_words
from dispatcher.registry.folder import MANIFEST_NAME, create_private, sync_folder

MANIFEST_VERSION = 1


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """``backup.json``."""

    version: int
    created_unix_ms: int
    registry_schema: int
    segments: int


def copy_registry(source: Path, target: Path) -> None:
    """Copy a registry that may be in use, as it is at one moment.  *Blocks.*  Raises ``DataFolderError``."""
    os.close(create_private(target))
    with (
        errors_in_words(source),
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as original,
        closing(sqlite3.connect(target)) as copy,
    ):
        original.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it


def write_manifest(folder: Path, *, created_unix_ms: int, segments: int) -> Manifest:
    """Say that a backup is whole, when all else of it is on the disk.  *Blocks.*"""
    manifest = Manifest(
        version=MANIFEST_VERSION,
        created_unix_ms=created_unix_ms,
        registry_schema=len(MIGRATIONS),
        segments=segments,
    )
    sync_folder(folder)
    with os.fdopen(create_private(folder / MANIFEST_NAME), "wb") as file:
        file.write(msgspec.json.encode(manifest))
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """What a backup says of itself.  Raises ``DataFolderError`` for what is none, or not whole, or newer."""
    path = folder / MANIFEST_NAME
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise DataFolderError(
            f"{folder} is no backup, or one that was not finished: it has no {MANIFEST_NAME}"
        ) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise DataFolderError(f"{path} does not read: {error}; take another backup") from error
    if manifest.version > MANIFEST_VERSION:
        raise DataFolderError(f"{folder} was made by a newer dispatcher; restore it with that one")
    return manifest


def restored_epoch(manifest: Manifest, now_unix_ms: int) -> int:
    """The epoch that a restored folder goes on behind: the time, in milliseconds.

    The folder that was backed up began an epoch with each start, from 1 or from an earlier
    restore's time on, and a start takes longer than a millisecond.  So the time now is above each
    that was ever used, after the backup and in earlier restores of it too.  Raises ``DataFolderError``
    when the clock cannot be right.
    """
    if now_unix_ms <= manifest.created_unix_ms:
        raise DataFolderError(
            "this machine's clock is behind the moment of the backup; set it first: "
            "numbers that were given since then must not be given again"
        )
    return now_unix_ms


def raise_epoch(registry: Path, epoch: int) -> None:
    """See to it that the next start begins a higher epoch.  *Blocks.*  Raises ``DataFolderError``."""
    with errors_in_words(registry), closing(sqlite3.connect(registry)) as db, db:
        db.execute("PRAGMA synchronous = FULL")
        db.execute("UPDATE counters SET value = max(value, ?) WHERE name = 'epoch'", (epoch,))
