"""The lives of one daemon that is killed again and again.

    async with open_lives(tmp_path) as lives:
        life = await lives.begin(settings, Death("group.sync.before", 3))
        ...                                     # life.port, if it came that far
        assert await life.ended() == -signal.SIGKILL

Each is a real process on real files, forked by ``fork_server``.  Every wait has a bound.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import trio
from support.fork_server import Birth
from support.kill_points import Death

from dispatcher.config import Settings
from dispatcher.queue.disk import JournalSizes

READY_S = 20.0
END_S = 20.0
LIFE_S_MAX = 60
LINE_BYTES_MAX = 65_536
FORK_SERVER = Path(__file__).with_name("fork_server.py")


class Life:
    """One process of the daemon.  ``port`` is None when it died before it was ready."""

    def __init__(self, lives: Lives, pid: int) -> None:
        self.port: int | None = None
        self.exit_status: int | None = None
        self._lives = lives
        self._process: int | None = None  # a descriptor: it never names another process, as a pid may
        with suppress(ProcessLookupError):
            self._process = os.pidfd_open(pid)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal; one that has ended does not mind."""
        with suppress(ProcessLookupError):
            if self._process is not None:
                signal.pidfd_send_signal(self._process, number)

    async def ended(self) -> int:
        """Wait for the end; the exit status, negative for a signal."""
        while self.exit_status is None:
            word, rest = await self._lives.next_line()
            if word == "ended":
                self.take_end(int(rest))
        return self.exit_status

    def take_end(self, exit_status: int) -> None:
        """It has ended."""
        self.exit_status = exit_status
        if self._process is not None:
            os.close(self._process)
            self._process = None


class Lives:
    """A fork server; made by ``open_lives``."""

    def __init__(self, process: trio.Process, log: Path, sizes: JournalSizes) -> None:
        self._process = process
        self._log = log
        self._sizes = sizes
        self._received = bytearray()
        self._life: Life | None = None

    async def begin(self, settings: Settings, death: Death | None = None) -> Life:
        """A new process on these settings; returns when it is ready, or has died."""
        assert self._life is None or self._life.exit_status is not None, "one life at a time"
        birth = Birth(
            settings=settings, sizes=self._sizes, log=str(self._log), seconds_max=LIFE_S_MAX, death=death
        )
        assert self._process.stdin is not None
        await self._process.stdin.send_all(msgspec.json.encode(birth) + b"\n")
        with trio.fail_after(READY_S):
            said: dict[str, str] = {}
            while "pid" not in said or said.keys() == {"pid"}:  # in any order: two processes speak
                said.update([await self.next_line()])
        self._life = Life(self, int(said["pid"]))
        if "ready" in said:
            self._life.port = int(said["ready"].rpartition(":")[2])
        if "ended" in said:
            self._life.take_end(int(said["ended"]))
        return self._life

    async def next_line(self) -> tuple[str, str]:
        """The next line of the fork server, as its first word and the rest."""
        assert self._process.stdout is not None
        with trio.fail_after(END_S):
            while b"\n" not in self._received:
                data = await self._process.stdout.receive_some(LINE_BYTES_MAX)
                assert data, f"the fork server has ended:\n{self._log.read_text(errors='replace')[-4000:]}"
                self._received += data
        line, _, rest = self._received.partition(b"\n")
        self._received = bytearray(rest)
        word, _, rest_of_line = line.decode().partition(" ")
        return word, rest_of_line

    def end(self) -> None:
        """Kill the life that still runs, if one does."""
        if self._life is not None and self._life.exit_status is None:
            self._life.kill()


@asynccontextmanager
async def open_lives(folder: Path, sizes: JournalSizes) -> AsyncIterator[Lives]:
    """A fork server whose daemons log into ``folder``; what still runs is killed at the end."""
    log = folder / "log"
    with log.open("a") as stderr:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-P", str(FORK_SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
    lives = Lives(process, log, sizes)
    try:
        yield lives
    finally:
        lives.end()
        with trio.CancelScope(shield=True), trio.move_on_after(END_S):
            assert process.stdin is not None
            await process.stdin.aclose()
            await process.wait()
        if process.returncode is None:
            process.kill()
