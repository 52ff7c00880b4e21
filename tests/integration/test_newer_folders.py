"""A data folder that a newer dispatcher wrote: refused in one line, and left as it was."""

from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from support.daemon import DISPATCHER, open_daemon
from support.journal_reader import crc32c
from support.tenants import small, websocket_tenant

from dispatcher.registry.database import MIGRATIONS

pytestmark = pytest.mark.slow

COMMAND_S = 30.0


def refusal(*arguments: str) -> str:
    done = subprocess.run([*DISPATCHER, *arguments], capture_output=True, text=True, timeout=COMMAND_S)
    told = [line for line in done.stderr.splitlines() if line.startswith("dispatcher: ")]
    assert (done.returncode, len(told)) == (1, 1), done.stderr
    assert "Traceback" not in done.stderr
    return told[0]


def contents(folder: Path) -> dict[str, bytes]:
    """Of the files that hold something; SQLite may leave an empty log beside its file."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]
    return {path.name: path.read_bytes() for path in files if path.suffix in (".seg", ".sqlite", "")}


def set_segment_version(segment: Path, version: int) -> None:
    with segment.open("r+b") as file:
        header = bytearray(file.read(64))
        header[8:12] = version.to_bytes(4, "little")
        header[4:8] = b"\0\0\0\0"
        header[4:8] = crc32c(bytes(header)).to_bytes(4, "little")
        file.seek(0)
        file.write(header)


async def test_a_newer_journal_or_registry_is_refused_and_kept(tmp_path: Path) -> None:
    with open_daemon(tmp_path) as daemon:
        tenant = await websocket_tenant(daemon)
        await tenant.gateway.post_events([small(1)])
    data = tmp_path / "data"
    serve = ("serve", "--listen=127.0.0.1:0", f"--data={data}")
    (segment,) = (path for path in (data / "journal").glob("*.seg") if any(path.read_bytes()[:64]))

    set_segment_version(segment, 3)
    before = contents(data)
    assert "newer version of the dispatcher" in refusal(*serve)
    assert contents(data) == before
    set_segment_version(segment, 2)
    with open_daemon(tmp_path):
        pass  # the reader of the test changed nothing else

    with closing(sqlite3.connect(data / "registry.sqlite")) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    before = contents(data)
    for command in (serve, ("keys", "list", f"--data={data}")):
        assert "made by a newer dispatcher" in refusal(*command)
    assert contents(data) == before
