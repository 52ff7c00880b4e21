"""The demo as a user runs it: its proof, its exit statuses, and that it leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from support.daemon import DISPATCHER

pytestmark = pytest.mark.slow

DEMO_S = 90.0


@asynccontextmanager
async def running_demo(folder: Path, *flags: str) -> AsyncIterator[trio.Process]:
    """A demo whose temporary folders are made in ``folder``; it is gone when the block ends."""
    process = await trio.lowlevel.open_process(
        [*DISPATCHER, "demo", "--devices", "40", "--rate", "400", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(folder), "DISPATCHER_SERVER__GRACE_S": "not for the demo"},
    )
    try:
        with trio.fail_after(DEMO_S):
            yield process
    finally:
        if process.returncode is None:
            process.terminate()  # it stops its daemon before it ends
        with trio.CancelScope(shield=True), trio.move_on_after(20):
            await process.wait()
        process.kill()


async def end_of(process: trio.Process) -> tuple[int, str, str]:
    """Exit status, stdout and stderr."""
    said = {"stdout": b"", "stderr": b""}

    async def read(name: str) -> None:
        async for chunk in getattr(process, name):
            said[name] += chunk

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, "stdout")
        nursery.start_soon(read, "stderr")
    return await process.wait(), said["stdout"].decode(), said["stderr"].decode()


async def daemon_of(process: trio.Process) -> int:
    """The process id of the demo's daemon, once it says where it is."""
    assert process.stderr is not None
    said = b""
    while b"http://" not in said:
        more = await process.stderr.receive_some()
        assert more, said.decode()
        said += more
    daemon = serving_child(process.pid)
    assert daemon is not None
    return daemon


def serving_child(parent: int) -> int | None:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and is_child(entry, parent) and "serve" in command_of(entry):
            return int(entry.name)
    return None


def is_child(entry: Path, parent: int) -> bool:
    try:
        return re.search(rf"^PPid:\s+{parent}$", (entry / "status").read_text(), re.MULTILINE) is not None
    except OSError:
        return False


def command_of(entry: Path) -> list[str]:
    try:
        return (entry / "cmdline").read_bytes().decode().split("\0")
    except OSError:
        return []


def is_running(pid: int) -> bool:
    return "serve" in command_of(Path(f"/proc/{pid}"))


def is_empty(folder: Path) -> bool:
    return not list(folder.iterdir())


async def test_the_demo_proves_that_everything_arrived_through_both_failures(tmp_path: Path) -> None:
    async with running_demo(tmp_path, "--seconds", "3") as process:
        status, out, err = await end_of(process)
    assert status == 0, out + err
    assert "Proven: every event of 40 devices arrived on every channel" in out
    rows = {line[:24].strip(): line[24:].split() for line in out.splitlines()}
    assert rows["events expected"] == rows["received"] == ["1,240", "1,240"]
    assert rows["missing"] == rows["out of order"] == rows["wrong uid"] == ["0", "0"]
    assert all(int(count.replace(",", "")) > 0 for count in rows["redelivered, same uid"])
    assert "answers 503" in err
    assert "loses its connection" in err
    assert is_empty(tmp_path)


async def test_a_calm_demo_delivers_everything_once(tmp_path: Path) -> None:
    async with running_demo(tmp_path, "--seconds", "1", "--calm") as process:
        status, out, err = await end_of(process)
    assert status == 0, out + err
    rows = {line[:24].strip(): line[24:].split() for line in out.splitlines()}
    assert rows["redelivered, same uid"] == ["0", "0"]
    assert "answers 503" not in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_the_demo_its_daemon_and_its_folder(
    number: signal.Signals, tmp_path: Path
) -> None:
    async with running_demo(tmp_path, "--seconds", "60") as process:
        daemon = await daemon_of(process)
        assert is_running(daemon)
        process.send_signal(number)
        status, _, err = await end_of(process)
    assert status == 128 + number
    assert f"stopped by {number.name}" in err
    assert not is_running(daemon)
    assert is_empty(tmp_path)


async def test_a_daemon_that_dies_fails_the_demo_with_its_last_log_lines(tmp_path: Path) -> None:
    async with running_demo(tmp_path, "--seconds", "60") as process:
        daemon = await daemon_of(process)
        os.kill(daemon, signal.SIGKILL)
        status, out, err = await end_of(process)
    assert (status, out) == (1, "")
    assert "dispatcher.started" in err
    assert "Traceback" not in err
    assert is_empty(tmp_path)


async def test_more_events_than_can_be_checked_is_a_usage_error(tmp_path: Path) -> None:
    async with running_demo(tmp_path, "--seconds", "3600", "--rate", "200000") as process:
        status, out, err = await end_of(process)
    assert (status, out) == (2, "")
    assert "--seconds times --rate" in err
