"""The daemon of ``demo``: a real one, as a process of its own, on a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio

import dispatcher
from dispatcher import limits
from dispatcher.cli.server_address import ServerAddress, parse_server_address
from dispatcher.errors import DemoFailed
from dispatcher.model import Role


class _CreatedKey(msgspec.Struct, frozen=True):
    key: str


class Daemon:
    """A running ``dispatcher serve``."""

    def __init__(self, process: trio.Process, address: ServerAddress, folder: Path) -> None:
        self.address = address
        self._process = process
        self._folder = folder

    def __repr__(self) -> str:
        return f"<Daemon {self.address} pid={self._process.pid}>"

    async def create_key(self, role: Role, application: str | None = None) -> str:
        """Make a key, while the daemon runs, as an operator would."""
        command = _command(
            "keys", "create", "--data", str(_data(self._folder)), "--role", role.value, "--json"
        )
        if application is not None:
            command += ["--application", application]
        done = await trio.run_process(
            command,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            cwd=self._folder,
            env=_environment(),
        )
        if done.returncode != 0:
            raise DemoFailed(f"'keys create' failed: {done.stderr.decode(errors='replace').strip()}")
        return msgspec.json.decode(done.stdout, type=_CreatedKey).key

    async def watch(self) -> None:
        """Return never, but raise ``DemoFailed`` when the daemon ends by itself."""
        status = await self._process.wait()
        raise DemoFailed(f"the daemon ended with status {status}")


@asynccontextmanager
async def open_daemon(folder: Path) -> AsyncIterator[Daemon]:
    """Start a daemon with its data and log in ``folder``; stop it when the block ends, however it does.

    Raises ``DemoFailed`` when it does not get ready within ``limits.DEMO_START_S``.
    """
    with _log(folder).open("wb") as log:
        process = await trio.lowlevel.open_process(
            _command(
                *("serve", "--listen", "127.0.0.1:0"),
                *("--data", str(_data(folder)), "--allow-private-callbacks"),
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            env=_environment(),
            process_group=0,  # a Ctrl-C is for us; we stop the daemon ourselves
        )
    try:
        yield Daemon(process, await _ready_address(process), folder)
    finally:
        with trio.CancelScope(shield=True):
            await _stop(process)


def last_log_lines(folder: Path) -> list[str]:
    """The end of the daemon's log."""
    try:
        text = _log(folder).read_text(errors="replace")
    except OSError:
        return []
    return text.splitlines()[-limits.DEMO_LOG_LINES :]


async def _ready_address(process: trio.Process) -> ServerAddress:
    assert process.stdout is not None
    said = b""
    with trio.move_on_after(limits.DEMO_START_S) as waiting:
        while b"\n" not in said and (more := await process.stdout.receive_some()):
            said += more
    word, _, url = said.decode(errors="replace").strip().partition(" ")
    if word == "ready":
        return parse_server_address(url)
    if waiting.cancelled_caught:
        raise DemoFailed(f"the daemon did not get ready within {limits.DEMO_START_S:g} s")
    raise DemoFailed("the daemon ended before it was ready")


async def _stop(process: trio.Process) -> None:
    process.terminate()
    with trio.move_on_after(limits.DEMO_STOP_S):
        await process.wait()
        return
    process.kill()
    await process.wait()


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dispatcher", *arguments]


def _environment() -> dict[str, str]:
    """Ours without settings for a daemon, and such that the child runs the code that we run."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DISPATCHER_")}
    ours = str(Path(dispatcher.__file__).parents[1])
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, (ours, kept.get("PYTHONPATH"))))
    return kept


def _data(folder: Path) -> Path:
    return folder / "data"


def _log(folder: Path) -> Path:
    return folder / "daemon.log"
