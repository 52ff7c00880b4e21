"""The poke: how the command line tells a running daemon that it changed the registry.

A datagram socket in the data folder; what a datagram holds means nothing.  It is answered
when the daemon has looked, so that a key just printed opens what it should.  A poke
only makes a change count sooner: the daemon looks every
``limits.KEY_RELOAD_INTERVAL_S`` anyway, so whatever keeps the socket from working is no error.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import trio

from dispatcher import limits
from dispatcher.registry.folder import DataFolder

_POKE = b"!"


async def serve_control(
    folder: DataFolder,
    on_poke: Callable[[], Awaitable[None]],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Await ``on_poke`` at each poke, then answer it, until cancelled.

    The caller holds the folder's lock, so a socket that lies there is a dead
    daemon's and is replaced.  Returns at once where there can be no socket.
    """
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as control:
        try:
            folder.control_path.unlink(missing_ok=True)
            os.fchmod(control.fileno(), 0o600)  # before bind, so that the file never has another mode
            with _short_path(folder.control_path) as path:
                await control.bind(path)
        except OSError:
            task_status.started()
            return
        try:
            task_status.started()
            while True:
                _, sender = await control.recvfrom(len(_POKE))
                await on_poke()
                if sender is not None:  # and None for one that wants no answer
                    with suppress(OSError), trio.move_on_after(limits.CONTROL_POKE_S):
                        await control.sendto(_POKE, sender)
        finally:
            folder.control_path.unlink(missing_ok=True)


def poke(folder: DataFolder) -> bool:
    """Poke the folder's daemon and wait until it has looked; False when none listens.

    Blocks for ``limits.CONTROL_POKE_S`` at most, and so long only when the daemon is stuck.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as control:
        control.settimeout(limits.CONTROL_POKE_S)
        try:
            control.bind("")  # to a name of the kernel's choice, for the answer
            with _short_path(folder.control_path) as path:
                control.sendto(_POKE, path)
        except OSError:  # no socket, a dead daemon's, no room in time
            return False
        with suppress(OSError):
            control.recv(len(_POKE))
        return True


@contextmanager
def _short_path(path: Path) -> Iterator[str]:
    """A name for a socket's file that fits into the 107 bytes that one may have, wherever the file lies."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        by_number = Path("/proc/self/fd", str(folder))  # Linux's; elsewhere the path has to be short
        yield str(by_number / path.name if by_number.exists() else path)
    finally:
        os.close(folder)
