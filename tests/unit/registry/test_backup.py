"""What a backup says of itself, and the epoch that a restore goes on behind."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import trio

from dispatcher.errors import DataFolderError
from dispatcher.registry.backup import (
    Manifest,
    copy_registry,
    raise_epoch,
    read_manifest,
    restored_epoch,
    write_manifest,
)
from dispatcher.registry.folder import open_folder
from dispatcher.registry.sqlite import open_registry

MADE_MS = 1_767_225_600_000
MANIFEST = Manifest(version=1, created_unix_ms=MADE_MS, registry_schema=6, segments=2)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_two_restores_of_one_backup_never_go_on_behind_the_same_epoch() -> None:
    epochs = [restored_epoch(MANIFEST, MADE_MS + later) for later in (1, 2, 86_400_000)]
    assert epochs == sorted(set(epochs))
    assert epochs[0] > MADE_MS  # above what a run of the time of the backup can have reached


@pytest.mark.parametrize("now_ms", [0, MADE_MS - 1, MADE_MS])
def test_a_clock_that_is_not_past_the_backup_refuses(now_ms: int) -> None:
    with pytest.raises(DataFolderError, match="clock"):
        restored_epoch(MANIFEST, now_ms)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"version": 1}'])
def test_a_manifest_that_does_not_read_is_told(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "backup.json").write_bytes(text)
    with pytest.raises(DataFolderError, match="does not read"):
        read_manifest(tmp_path)


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = write_manifest(tmp_path, created_unix_ms=MADE_MS, segments=2)
    assert read_manifest(tmp_path) == written


async def test_the_epoch_of_a_copy_is_raised_and_never_lowered_and_the_original_stays(tmp_path: Path) -> None:
    folder, copy = open_folder(tmp_path / "data"), tmp_path / "copy.sqlite"
    async with open_registry(folder, unix_ms=lambda: MADE_MS) as registry:
        assert await registry.next_epoch() == 1
        copy_registry(folder.registry_path, copy)
        for wanted, epoch in ((MADE_MS, MADE_MS), (5, MADE_MS)):
            raise_epoch(copy, wanted)
            with sqlite3.connect(copy) as db:
                assert db.execute("SELECT value FROM counters WHERE name = 'epoch'").fetchone() == (epoch,)
        assert await registry.next_epoch() == 2
    assert await trio.to_thread.run_sync(names_in, tmp_path) == ["copy.sqlite", "data"]
