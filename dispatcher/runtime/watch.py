"""Looks at what no event tells of: whether events are accepted, and how long certificates hold."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

import trio

from dispatcher import limits
from dispatcher.core.certificates import Validity, validity
from dispatcher.errors import DispatcherError
from dispatcher.observe.log import LogEvent, log
from dispatcher.queue.interface import ChannelQueue
from dispatcher.runtime.observer import Observer

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


class Watch:
    """Tells ``observer`` of changes; ``certificates`` are the files in use, by what they are for."""

    def __init__(
        self,
        *,
        queue: ChannelQueue,
        observer: Observer,
        certificates: Mapping[str, str],
        wall_unix_s: Callable[[], float],
    ) -> None:
        self._queue = queue
        self._observer = observer
        self._files = {side: path for side, path in certificates.items() if path}
        self._wall_unix_s = wall_unix_s
        self._validities: dict[str, Validity] = {}
        self._told_days: dict[str, int | None] = {}
        self._refusal: str | None = None  # the code of what is raised now

    async def run(self) -> None:
        """Look every ``limits.WATCH_S`` until cancelled."""
        for side in self._files:
            await self.renewed(side)
        while True:
            self._look_at_storage()
            for side in self._validities:
                self._look_at_certificate(side)
            await trio.sleep(limits.WATCH_S)

    async def renewed(self, side: str) -> None:
        """A certificate was read (again).  A side without one is no matter."""
        if side not in self._files:
            return
        try:
            found = await trio.to_thread.run_sync(first_to_end, self._files[side])
        except (OSError, ValueError):  # whoever uses it has read it; that we cannot costs a warning
            log(logging.WARNING, LogEvent.CERTIFICATE_UNREAD, of=side, reason="its end is not known")
            return
        self._validities[side] = found
        self._told_days.pop(side, None)
        self._observer.certificate_read(side, found.end_s)

    def _look_at_storage(self) -> None:
        try:
            self._queue.check_accepting()
        except DispatcherError as error:
            if error.code != self._refusal:
                self._refusal = error.code
                self._observer.refusing(error)
        else:
            if self._refusal is not None:
                self._refusal = None
                self._observer.accepting()

    def _look_at_certificate(self, side: str) -> None:
        found = self._validities[side]
        days = found.days_told(self._wall_unix_s())
        if days is not None and days != self._told_days.get(side):
            self._observer.certificate_ends(side, found.end_s - self._wall_unix_s())
        self._told_days[side] = days


def first_to_end(path: str) -> Validity:
    """Of the certificates in a PEM file, the validity of the one that ends first.  Blocks.

    Raises ``OSError`` and ``ValueError``.
    """
    texts = Path(path).read_text(encoding="ascii", errors="replace").split(_BEGIN)[1:]
    found = [
        validity(ssl.PEM_cert_to_DER_cert(f"{_BEGIN}{text.partition(_END)[0]}{_END}\n")) for text in texts
    ]
    return min(found, key=lambda one: one.end_s)
