"""``dispatcher fsck`` on folders that are whole, empty and spoiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner

import dispatcher
from dispatcher.cli.fsck import folder_findings, fsck
from dispatcher.cli.main import cli
from dispatcher.cli.progress import Bar
from dispatcher.config import Settings, StorageSettings
from dispatcher.errors import DataFolderError


def check(folder: Path) -> tuple[int, str]:
    done = CliRunner().invoke(fsck, ["--data", str(folder)])
    return done.exit_code, done.output


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """A data folder with one channel and three groups of events."""
    settings = Settings(storage=StorageSettings(data=str(tmp_path)))
    async with dispatcher.open_dispatcher(settings) as hub:
        application = await hub.ensure_application(await hub.ensure_account(), "app")
        async with hub.consume(application):
            for number in range(3):
                event = dispatcher.Notification(ep="device", path=f"/{number}", payload=b"")
                await hub.publish_many(application, [event] * 10)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix in {".seg", ".sqlite"})
    return {path.name: path.read_bytes() for path in files}


async def test_a_whole_folder_is_described_and_not_changed(folder: Path) -> None:
    before = contents(folder)
    status, said = check(folder)
    assert status == 0
    assert "registry: whole, 1 channels" in said
    assert "durability disk in epoch 1; 1 channels, at most 30 records queued" in said
    assert contents(folder) == before


async def test_a_bar_can_follow_it_to_the_end_of_the_journal(folder: Path) -> None:
    class Follower(Bar):
        seen: ClassVar[dict[str, tuple[int | None, int]]] = {}

        @contextmanager
        def step(
            self, label: str, whole: int | None = None, look: Callable[[], int] | None = None
        ) -> Iterator[None]:
            assert look is None or look() == 0
            yield
            self.seen[label] = (whole, look() if look else 0)

    folder_findings(folder, Follower())
    journal = sum(len(bytes_) for name, bytes_ in contents(folder).items() if name.endswith(".seg"))
    assert Follower.seen == {"checking the registry": (None, 0), "checking the journal": (journal, journal)}


async def test_a_damaged_group_is_named(folder: Path) -> None:
    segment = folder / "journal" / "00000001.seg"
    spoiled = bytearray(segment.read_bytes())
    spoiled[2 * 4096 + 300] ^= 1
    segment.write_bytes(spoiled)
    status, said = check(folder)
    assert status == 1
    assert "1 groups that were durable are damaged, the first of them group 2 in segment 1" in said
    assert "channel 1 lost 10 records, 11 to 20" in said


async def test_a_write_that_was_cut_short_is_no_damage(folder: Path) -> None:
    segment = folder / "journal" / "00000001.seg"
    torn = bytearray(segment.read_bytes())
    end = max(at for at in range(0, len(torn), 4096) if any(torn[at : at + 4096]))
    torn[end + 4096 : end + 4100] = b"NDGR"
    segment.write_bytes(torn)
    status, said = check(folder)
    assert status == 0
    assert "cut short" in said


async def test_a_damaged_registry_is_told(folder: Path) -> None:
    registry = folder / "registry.sqlite"
    registry.write_bytes(registry.read_bytes()[:4096] + b"\xa5" * 8192)
    status, said = check(folder)
    assert status == 1
    assert "WRONG registry" in said


@pytest.mark.parametrize("name", ["registry.sqlite", "secret"])
async def test_what_is_missing_of_a_used_folder_is_told(folder: Path, name: str) -> None:
    (folder / name).unlink()
    status, said = check(folder)
    assert status == 1
    assert f"WRONG {name.partition('.')[0]}: " in said


def test_a_folder_that_is_not_there_is_not_well(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["fsck", "--data", str(tmp_path / "none")])
    assert isinstance(done.exception, DataFolderError)
    assert "there is no folder" in done.exception.message


@pytest.mark.parametrize("name", ["registry.sqlite", "journal", "00000001.seg"])
async def test_what_may_not_be_read_is_not_called_damaged(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: Path(path).name != name)
    done = CliRunner().invoke(cli, ["fsck", "--data", str(folder)])
    assert isinstance(done.exception, DataFolderError)
    assert "run this as its owner" in done.exception.message
    assert done.stdout == ""


def test_an_unused_folder_has_nothing_wrong_with_it(tmp_path: Path) -> None:
    status, said = check(tmp_path)
    assert status == 0
    assert "no dispatcher has used this folder" in said
