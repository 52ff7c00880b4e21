"""A real daemon under a service manager: what it says on NOTIFY_SOCKET, and when it falls silent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from support.daemon import open_daemon

import dispatcher
from dispatcher.cli.serve import status_of
from dispatcher.cli.service_manager import ServiceManager
from dispatcher.errors import JournalFailed
from dispatcher.queue.native_journal import GroupOutcome, NativeJournal

pytestmark = pytest.mark.slow

PATIENCE_S = 20.0
WATCHDOG_US = 200_000


class Manager:
    """The receiving end; each message as a dictionary."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.settimeout(PATIENCE_S)

    def message(self) -> dict[str, str]:
        text = self._sock.recv(4096).decode()
        return dict(line.split("=", 1) for line in text.split("\n"))

    def message_with(self, variable: str) -> dict[str, str]:
        """The next message that has this variable; at most a thousand others before it."""
        for _ in range(1000):
            if variable in (found := self.message()):
                return found
        raise AssertionError(f"no {variable} came")

    def says_nothing_for(self, seconds: float) -> bool:
        self._sock.settimeout(seconds)
        try:
            self._sock.recv(4096)
        except TimeoutError:
            return True
        finally:
            self._sock.settimeout(PATIENCE_S)
        return False

    def drain(self) -> None:
        self._sock.settimeout(0)
        try:
            while True:
                self._sock.recv(4096)
        except BlockingIOError:
            self._sock.settimeout(PATIENCE_S)


@contextmanager
def managing(folder: Path) -> Iterator[tuple[Manager, str]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"{folder}/notify")
        yield Manager(sock), f"{folder}/notify"


def test_a_daemon_says_when_it_is_ready_reloads_and_stops(tmp_path: Path) -> None:
    with managing(tmp_path) as (manager, place):
        with open_daemon(tmp_path, environment={"NOTIFY_SOCKET": place}) as daemon:
            assert manager.message() == {"STATUS": "starting: what is queued on the disk is read"}
            first = manager.message()
            assert first["READY"] == "1"
            assert f"127.0.0.1:{daemon.port}" in first["STATUS"]

            daemon.send_signal(signal.SIGHUP)
            begun = manager.message()
            assert begun["RELOADING"] == "1"
            assert int(begun["MONOTONIC_USEC"]) > 0
            assert manager.message() == {"READY": "1"}

            daemon.send_signal(signal.SIGTERM)
            assert manager.message()["STOPPING"] == "1"
        assert manager.says_nothing_for(0.2)


def test_the_variables_are_gone_from_the_environment_of_the_daemon(tmp_path: Path) -> None:
    """Of the environment that it would give to a child: a program started by it must not speak for it."""
    code = (
        "import os, dispatcher.cli.serve as serve\n"
        "serve.run = lambda work: print(sorted(set(os.environ) & {'NOTIFY_SOCKET', 'WATCHDOG_USEC'}))\n"
        "serve.serve([], standalone_mode=False)\n"
    )
    environment = {**os.environ, "NOTIFY_SOCKET": f"{tmp_path}/notify", "WATCHDOG_USEC": "1000000"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True, timeout=30
    )
    assert done.stdout == "[]\n", done.stderr


def test_a_daemon_that_lives_feeds_the_watchdog_and_one_that_is_stuck_does_not(tmp_path: Path) -> None:
    with managing(tmp_path) as (manager, place):
        environment = {"NOTIFY_SOCKET": place, "WATCHDOG_USEC": str(WATCHDOG_US)}
        with open_daemon(tmp_path, environment=environment) as daemon:
            for _ in range(3):
                assert manager.message_with("WATCHDOG")["WATCHDOG"] == "1"
            daemon.send_signal(signal.SIGSTOP)
            manager.drain()
            stuck = manager.says_nothing_for(5 * WATCHDOG_US / 1_000_000)
            daemon.send_signal(signal.SIGCONT)
            assert stuck
            assert manager.message_with("WATCHDOG")["WATCHDOG"] == "1"


def test_a_watchdog_of_another_process_is_not_fed(tmp_path: Path) -> None:
    with managing(tmp_path) as (manager, place):
        environment = {"NOTIFY_SOCKET": place, "WATCHDOG_USEC": "50000", "WATCHDOG_PID": "1"}
        with open_daemon(tmp_path, environment=environment):
            assert manager.message_with("READY")["READY"] == "1"
            assert manager.says_nothing_for(0.3)


async def test_a_journal_that_failed_is_told_and_does_not_starve_the_watchdog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dispatcher.Settings(storage=dispatcher.StorageSettings(data=str(tmp_path / "data")))
    with managing(tmp_path) as (manager, place):
        async with dispatcher.open_dispatcher(settings) as hub, trio.open_nursery() as nursery:
            feeding = ServiceManager(place, WATCHDOG_US / 1_000_000).feed
            nursery.start_soon(feeding, lambda: status_of(hub, "http://here"))
            before = await trio.to_thread.run_sync(manager.message)
            assert before["STATUS"] == "on http://here: 0 channels, 0 records queued"

            application = await hub.ensure_application(await hub.ensure_account(), "reader")
            await hub.register_websocket(application)
            monkeypatch.setattr(NativeJournal, "done", lambda journal: GroupOutcome.POISONED)
            with pytest.raises(JournalFailed):
                await hub.publish_many(application, [b'{"notifications":[{"ep":"d","path":"/1"}]}'])
            manager.drain()
            after = await trio.to_thread.run_sync(manager.message)
            assert after["WATCHDOG"] == "1"
            assert "nothing is accepted: writing to the data folder failed" in after["STATUS"]
            nursery.cancel_scope.cancel()
