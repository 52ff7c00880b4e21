"""Who may connect: so many from one address, so many in all, and never the last file descriptors."""

from __future__ import annotations

import errno
import logging
import resource
from collections.abc import Callable

import trio

from dispatcher import limits
from dispatcher.core.connection_places import AddressPlaces, Place
from dispatcher.deliver.tcp_progress import transport_socket
from dispatcher.observe.burst import Burst
from dispatcher.observe.log import LogEvent, log

NO_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What ``accept`` fails with when the process or the machine has no more to give."""


def connections_max() -> int:
    """How many connections a server of this process may have open.

    A part of the file descriptors is left to the journal, the registry and the deliveries:
    clients that take all there are would stop those that work.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return limits.CONNECTIONS_MAX
    return max(1, min(limits.CONNECTIONS_MAX, soft - soft // limits.FILES_RESERVE_SHARE))


class Door:
    """Counts one server's connections by address, and tells of those it lets not in.

    ``count`` is called with the reason for each of them: ``address`` or ``files``.
    """

    def __init__(
        self, places: AddressPlaces | None = None, *, count: Callable[[str], object] = lambda reason: None
    ) -> None:
        self._places = AddressPlaces() if places is None else places
        self._count = count
        self._bursts = {reason: Burst() for reason in ("address", "files", "full")}

    def passing(self, stream: trio.abc.Stream) -> Passage:
        """For a ``with`` at once: while its block runs the connection counts, unless its ``as`` is
        false, since its address has too many already.
        """
        host = _host_of(stream)
        place = self._places.place_of(host)
        if place is None or self._places.take(place):
            return Passage(self._places, place, may_enter=True)
        self._shed("address", address=host)
        return Passage(self._places, None, may_enter=False)

    def no_files(self, error: OSError) -> None:
        """A client waits who cannot be accepted: there is no file descriptor, or no memory, for it."""
        self._shed("files", error=errno.errorcode.get(error.errno or 0, ""))

    def is_full(self) -> None:
        """As many connections are open as may be; further clients wait in the listen queue."""
        if count := self._bursts["full"].happened(trio.current_time(), limits.SHED_LOG_INTERVAL_S):
            log(logging.WARNING, LogEvent.CONNECTIONS_FULL, times=count)

    def _shed(self, reason: str, **fields: str) -> None:
        self._count(reason)
        if count := self._bursts[reason].happened(trio.current_time(), limits.SHED_LOG_INTERVAL_S):
            log(logging.WARNING, LogEvent.CONNECTIONS_SHED, reason=reason, count=count, **fields)


class Passage:
    """A connection that counts.  A class: a generator would take 400 bytes of an idle socket."""

    __slots__ = ("_may_enter", "_place", "_places")

    def __init__(self, places: AddressPlaces, place: Place | None, *, may_enter: bool) -> None:
        """``place``: taken already; None: it does not count."""
        self._places = places
        self._place = place
        self._may_enter = may_enter

    def __enter__(self) -> bool:
        """Whether it may enter."""
        return self._may_enter

    def __exit__(self, *_: object) -> None:
        """It has ended."""
        if self._place is not None:
            self._places.leave(self._place)


def _host_of(stream: trio.abc.Stream) -> str:
    sock = transport_socket(stream)
    if sock is None:
        return ""
    try:
        return str(sock.getpeername()[0])
    except (OSError, IndexError):  # it has gone already, or has no address (a Unix socket)
        return ""
