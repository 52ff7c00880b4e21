"""The bar of the real commands on a real terminal, and its absence everywhere else.

Work is slow because somebody holds what it needs; it is let go when the bar has been seen.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import sqlite3
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner
from support.daemon import DISPATCHER
from support.receiver import answer, open_receiver

from dispatcher.cli.main import cli

pytestmark = pytest.mark.slow

PATIENCE_S = 20.0
EAGER = (  # the same command, with a bar from the first moment on
    sys.executable,
    "-P",
    "-c",
    "from dispatcher import limits; limits.PROGRESS_AFTER_S = 0.0\n"
    "from dispatcher.cli.main import main; main()",
)


class OnTerminal:
    """A command whose stderr is a terminal; its stdout, as in scripts, is none."""

    def __init__(self, command: tuple[str, ...], columns: int, stdin: int) -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, columns))
        environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1"}
        self.process = subprocess.Popen(
            command, stdin=stdin, stdout=subprocess.PIPE, stderr=slave, env=environment
        )
        os.close(slave)
        self.shown = ""

    def see(self, text: str | None = None) -> None:
        """Look until this is shown, or until the command has let go of its terminal."""
        until = time.monotonic() + PATIENCE_S
        while text is None or text not in self.shown:
            ready, _, _ = select.select([self._master], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"never saw {text!r} in {self.shown!r}"
            try:
                self.shown += os.read(self._master, 4096).decode()
            except OSError:  # EIO: nobody has it open any more
                assert text is None, f"never saw {text!r} in {self.shown!r}"
                return

    def end(self) -> tuple[int, bytes]:
        """Its exit status, and what it wrote on stdout."""
        self.see()
        stdout, _ = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, stdout

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self._master)

    @property
    def lines(self) -> list[str]:
        """All that was ever shown, one entry for each time that it was drawn."""
        return [line for line in re.split(r"[\r\n]+", self.shown) if line.strip()]


@contextmanager
def on_terminal(*command: str, columns: int = 80, stdin: int = subprocess.DEVNULL) -> Iterator[OnTerminal]:
    started = OnTerminal(command, columns, stdin)
    try:
        yield started
    finally:
        started.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    assert CliRunner().invoke(cli, ["keys", "create", "--role=admin", f"--data={folder}"]).exit_code == 0
    return folder


@contextmanager
def held(registry: Path) -> Iterator[sqlite3.Connection]:
    """Nobody else can read it until this is rolled back."""
    db = sqlite3.connect(registry, isolation_level=None)
    db.execute("PRAGMA journal_mode = DELETE")
    db.execute("BEGIN EXCLUSIVE")
    yield db
    db.close()


def assert_clean(shown: str) -> None:
    """What was drawn was taken back: the last of it is spaces, and no other code was used."""
    assert {character for character in shown if not character.isprintable()} <= {"\r", "\n"}
    assert re.search(r"\r +\r", shown)


def test_fsck_says_what_it_is_at_and_leaves_stdout_alone(data: Path) -> None:
    with held(data / "registry.sqlite") as db, on_terminal(*DISPATCHER, "fsck", f"--data={data}") as command:
        command.see("checking the registry  1s")
        db.rollback()
        status, stdout = command.end()
    assert status == 0
    assert stdout.startswith(b"ok    registry: whole")
    assert b"\r" not in stdout
    assert_clean(command.shown)


def test_a_backup_fits_into_a_narrow_terminal(data: Path, tmp_path: Path) -> None:
    arguments = ("backup", f"--data={data}", f"--to={tmp_path}/backup")
    with (
        held(data / "registry.sqlite") as db,
        on_terminal(*EAGER, *arguments, columns=15) as command,
    ):
        command.see("copying the re")
        db.rollback()
        status, stdout = command.end()
    assert (status, stdout) == (0, b"")
    assert max(len(line) for line in command.lines if line.startswith("copying")) < 15
    assert "the registry and 0 segments" in command.lines[-1]


def test_neither_with_json_nor_into_a_pipe_is_anything_drawn(data: Path) -> None:
    fsck = (*EAGER, "fsck", f"--data={data}")
    with (
        held(data / "registry.sqlite") as db,
        on_terminal(*fsck, "--json") as on_a_terminal,
        subprocess.Popen(fsck, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as in_a_pipe,
    ):
        time.sleep(1.0)  # they start, and wait for the registry
        assert in_a_pipe.poll() is None
        db.rollback()
        status, stdout = on_a_terminal.end()
        assert (status, on_a_terminal.shown) == (0, "")
        assert json.loads(stdout)
        stdout, stderr = in_a_pipe.communicate(timeout=PATIENCE_S)
        assert (in_a_pipe.returncode, stderr) == (0, b"")
        assert stdout.startswith(b"ok")
        assert b"\r" not in stdout


def test_publish_knows_no_end_of_a_pipe() -> None:
    source, pipe = os.pipe()
    arguments = ("publish", "-", "--key=ak_1", "--url=http://127.0.0.1:1")
    with on_terminal(*DISPATCHER, *arguments, stdin=source) as command:
        os.close(source)
        os.write(pipe, b'{"registrations":[')
        command.see("publishing  1s")  # there is no whole line yet
        os.close(pipe)
        status, stdout = command.end()
    assert (status, stdout) == (1, b"")
    assert_clean(command.shown)
    assert "cannot reach the dispatcher" in command.lines[-1]


async def test_publish_says_a_pause_above_the_bar(tmp_path: Path) -> None:
    events = tmp_path / "events.ndjson"
    events.write_bytes(b'{"registrations":[{"ep":"a"}]}\n' * 1000)
    taken = {"accepted": 1000, "queued": 0, "unrouted": 0, "rejected": 0, "durability": "disk"}

    def publish(port: int) -> tuple[OnTerminal, tuple[int, bytes]]:
        arguments = ("publish", str(events), "--key=ak_1", f"--url=http://127.0.0.1:{port}")
        with on_terminal(*EAGER, *arguments, columns=100) as command:
            return command, command.end()

    async with open_receiver(answer(503), answer(202, json.dumps(taken).encode())) as receiver:
        command, (status, stdout) = await trio.to_thread.run_sync(publish, receiver.port)
    assert (status, stdout) == (
        0,
        b"accepted 1000 events: queued 0 records, unrouted 0, rejected 0; durability disk\n",
    )
    assert "publishing  [........................................]    0%  0 B of 31 kB" in command.lines
    assert [line for line in command.lines if line.endswith("trying again in 0.5 s")]
    assert_clean(command.shown)
