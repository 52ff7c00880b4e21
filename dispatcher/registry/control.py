"""The poke: how the command line tells a running daemon that it changed the registry.

A datagram socket in the data folder; what a datagram holds means nothing.  A poke
only makes a change count sooner: the daemon looks every
``limits.KEY_RELOAD_INTERVAL_S`` anyway, so whatever keeps the socket from working
(a path over the 107 bytes a socket's may have, say) is no error.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import trio

from dispatcher import limits
from dispatcher.registry.folder import DataFolder

_POKE = b"!"


async def serve_control(
    folder: DataFolder,
    on_poke: Callable[[], None],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call ``on_poke`` at each poke until cancelled; it must not block.

    The caller holds the folder's lock, so a socket that lies there is a dead
    daemon's and is replaced.  Returns at once where there can be no socket.
    """
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as control:
        try:
            folder.control_path.unlink(missing_ok=True)
            os.fchmod(control.fileno(), 0o600)  # before bind, so that the file never has another mode
            await control.bind(str(folder.control_path))
        except OSError:
            task_status.started()
            return
        try:
            task_status.started()
            while True:
                await control.recv(len(_POKE))
                on_poke()
        finally:
            folder.control_path.unlink(missing_ok=True)


def poke(folder: DataFolder) -> bool:
    """Poke the folder's daemon; False when none listens.

    Blocks for ``limits.CONTROL_POKE_S`` at most, and only when the daemon has more
    pokes waiting than it takes.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as control:
        control.settimeout(limits.CONTROL_POKE_S)
        try:
            control.sendto(_POKE, str(folder.control_path))
        except OSError:  # no socket, a dead daemon's, a path too long, no room in time
            return False
        return True
