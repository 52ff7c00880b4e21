"""What a service manager such as systemd is told: sd_notify(3), as datagrams on a Unix socket.

``READY=1`` when the daemon serves, ``RELOADING=1`` and ``READY=1`` around a reload,
``STOPPING=1`` when it begins to stop, and ``WATCHDOG=1`` twice in the time that the
manager allows.  ``STATUS=`` is a line for the one who looks, from the start on.

The watchdog is fed by a task of the event loop, so a loop that is stuck starves it and
is replaced.  A journal that failed does not starve it: another start would meet the same
disk, while this one still delivers what is queued.  The status says so, ``/readyz`` does,
and to start again is the operator's decision.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress

import trio

from dispatcher import limits
from dispatcher.errors import ConfigError


class ServiceManager:
    """The manager that started this process; one with no ``address`` is told nothing."""

    def __init__(self, address: str | bytes = "", watchdog_s: float = 0.0) -> None:
        self._address = address
        self.watchdog_s = watchdog_s  # without a sign of life for so long it ends us; 0: it does not look

    async def tell(self, *assignments: str) -> None:
        """Send ``VARIABLE=value`` lines in one datagram.

        Waits ``limits.NOTIFY_S`` at most for room in the manager's queue.  A manager that has
        gone is no reason for us to go.
        """
        if not self._address:
            return
        with (
            suppress(OSError),
            trio.move_on_after(limits.NOTIFY_S),
            trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
        ):
            await sender.connect(self._address)  # only then does the kernel tell us when there is room
            await sender.send("\n".join(assignments).encode())

    async def tell_reloading(self) -> None:
        """Say that a reload begins; ``READY=1`` ends it."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        await self.tell("RELOADING=1", f"MONOTONIC_USEC={now_us}")

    async def feed(self, status: Callable[[], str]) -> None:
        """Give signs of life until cancelled; returns at once when nobody looks."""
        while self.watchdog_s:
            await self.tell("WATCHDOG=1", f"STATUS={status()}")
            await trio.sleep(self.watchdog_s / 2)


NO_MANAGER = ServiceManager()


def take_service_manager(environment: MutableMapping[str, str], process_id: int) -> ServiceManager:
    """The manager that the environment names, whose variables are removed: no child is to speak for us.

    Raises ``ConfigError`` for a socket that cannot be meant, and for a time that is none.
    """
    place = environment.pop("NOTIFY_SOCKET", "")
    watchdog_us = environment.pop("WATCHDOG_USEC", "")
    watchdog_process = environment.pop("WATCHDOG_PID", "")
    if not place:
        return NO_MANAGER
    if place[0] not in "/@" or len(place) < 2 or len(os.fsencode(place)) > limits.UNIX_SOCKET_BYTES_MAX:
        raise ConfigError(
            f"variable NOTIFY_SOCKET = {place!r}: want the path of a Unix socket, or @ and a name, "
            "as systemd sets it; unset it to run without"
        )
    address: str | bytes = b"\0" + os.fsencode(place[1:]) if place[0] == "@" else place
    is_watched = watchdog_us and watchdog_process in ("", str(process_id))
    return ServiceManager(address, _watchdog_s(watchdog_us) if is_watched else 0.0)


def _watchdog_s(text: str) -> float:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ConfigError(f"variable WATCHDOG_USEC = {text!r}: want microseconds, as systemd sets it")
    return int(text) / 1_000_000
