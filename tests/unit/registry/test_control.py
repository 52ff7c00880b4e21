"""Real sockets: a poke has to cross between processes."""

from __future__ import annotations

import socket
import stat
import time
from pathlib import Path

import pytest
import trio

from dispatcher import limits
from dispatcher.registry.control import poke, serve_control
from dispatcher.registry.folder import DataFolder, open_folder


class Pokes:
    """Counts pokes, and lets a test wait for the next."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = trio.Event()

    async def __call__(self) -> None:
        self.count += 1
        self._changed.set()

    async def reach(self, count: int) -> None:
        with trio.fail_after(5):
            while self.count < count:
                self._changed = trio.Event()
                await self._changed.wait()


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return open_folder(tmp_path / "data")


async def test_a_poke_reaches_the_daemon(folder: DataFolder) -> None:
    pokes = Pokes()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, folder, pokes)
        assert pokes.count == 0
        for count in range(1, 4):
            assert await trio.to_thread.run_sync(poke, folder) is True
            assert pokes.count == count  # it was answered when the daemon had looked
        nursery.cancel_scope.cancel()


async def test_the_socket_is_the_owner_s_alone_and_goes_with_the_daemon(folder: DataFolder) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, folder, Pokes())
        assert stat.S_IMODE(folder.control_path.stat().st_mode) == 0o600
        nursery.cancel_scope.cancel()
    assert not folder.control_path.exists()
    assert poke(folder) is False


def test_a_poke_without_a_daemon_says_so(folder: DataFolder) -> None:
    assert poke(folder) is False


async def test_a_dead_daemon_s_socket_is_replaced(folder: DataFolder) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(folder.control_path))
    assert folder.control_path.exists()
    assert poke(folder) is False
    pokes = Pokes()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, folder, pokes)
        assert await trio.to_thread.run_sync(poke, folder) is True
        await pokes.reach(1)
        nursery.cancel_scope.cancel()


async def test_a_folder_whose_path_is_too_long_for_a_socket_is_served_too(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / ("d" * 120))
    pokes = Pokes()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, folder, pokes)
        assert await trio.to_thread.run_sync(poke, folder) is True
        assert pokes.count == 1
        nursery.cancel_scope.cancel()
    assert not folder.control_path.exists()


async def test_a_daemon_that_takes_no_pokes_holds_nobody_up(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CONTROL_POKE_S", 0.01)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stuck:
        stuck.bind(str(folder.control_path))
        answers = []
        for _ in range(10_000):  # the kernel keeps net.unix.max_dgram_qlen of them, 10 to 512
            began_s = time.monotonic()
            answers.append(poke(folder))
            assert time.monotonic() - began_s < 1
            if not answers[-1]:
                break
    assert answers[0] is True
    assert answers[-1] is False


async def test_what_a_datagram_holds_means_nothing(folder: DataFolder) -> None:
    pokes = Pokes()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, folder, pokes)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
            for content in (b"", b"x" * 60_000):
                stranger.sendto(content, str(folder.control_path))
        await pokes.reach(2)
        assert poke(folder) is True
        await pokes.reach(3)
        nursery.cancel_scope.cancel()
