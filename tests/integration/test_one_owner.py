"""A data folder has one daemon, and one user who may read it."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from support.daemon import DISPATCHER, Daemon, new_tenant, open_daemon
from support.tenants import queue_size, register_websocket

SERVE = (*DISPATCHER, "serve", "--listen=127.0.0.1:0")
COMMAND_S = 30.0

pytestmark = pytest.mark.slow


@pytest.fixture
def open_umask() -> Iterator[None]:
    """Whoever starts the daemon gives everything away that he makes."""
    before = os.umask(0)
    yield
    os.umask(before)


async def refused(data: Path) -> str:
    """What a daemon says that must not start on this folder."""
    with trio.fail_after(COMMAND_S):
        done = await trio.run_process(
            [*SERVE, f"--data={data}"], capture_stdout=True, capture_stderr=True, check=False
        )
    assert (done.returncode, done.stdout) == (1, b"")
    (line,) = done.stderr.decode().splitlines()
    return line


def pid_of(daemon: Daemon) -> int:
    return int((daemon.data / "lock").read_text())


async def test_a_second_daemon_names_the_first_and_leaves_it_alone(tmp_path: Path) -> None:
    with open_daemon(tmp_path) as daemon:
        tenant = await new_tenant(daemon)
        await register_websocket(tenant.application)
        await tenant.gateway.post_events([{"ep": "d1", "path": "/1"}])
        said = await refused(daemon.data)
        assert said == (
            f"dispatcher: {daemon.data} is in use by process {pid_of(daemon)}; "
            "stop that dispatcher first, or name another data folder"
        )
        await tenant.gateway.post_events([{"ep": "d1", "path": "/2"}])
        assert await queue_size(tenant.application) == 2


async def test_the_folder_of_a_killed_daemon_is_free_at_once(tmp_path: Path) -> None:
    with open_daemon(tmp_path, exit_status=-signal.SIGKILL) as daemon:
        daemon.send_signal(signal.SIGKILL)
        await daemon.wait()
    with open_daemon(tmp_path) as daemon:
        assert (await daemon.anyone.send("GET", "/readyz")).status == 200


@pytest.mark.usefixtures("open_umask")
async def test_the_folder_and_all_in_it_are_for_the_owner_alone(tmp_path: Path) -> None:
    with open_daemon(tmp_path) as daemon:
        tenant = await new_tenant(daemon)
        await register_websocket(tenant.application)
        await tenant.gateway.post_events([{"ep": "d1", "path": "/1"}])
        found = {path: path.stat().st_mode for path in (daemon.data, *daemon.data.rglob("*"))}
    names = {str(path.relative_to(daemon.data)) for path in found}
    assert names >= {"secret", "lock", "registry.sqlite", "control.sock", "journal", "journal/00000001.seg"}
    for path, mode in found.items():
        assert stat.S_IMODE(mode) == (0o700 if stat.S_ISDIR(mode) else 0o600), path


@pytest.mark.parametrize("name", ["secret", "."])
async def test_a_folder_that_others_could_use_is_refused(tmp_path: Path, name: str) -> None:
    with open_daemon(tmp_path) as daemon:
        pass
    (daemon.data / name).chmod(0o666 if name == "secret" else 0o777)
    assert "others may" in await refused(daemon.data)
