"""The seam for traces: what the dispatcher tells of a request and of a delivery, whoever records it.

Off, which is the default, nothing is there: whoever would tell has None and one test for it, and no
package for traces is imported.  ``otel`` is what is there otherwise.

    publish          a request of a gateway, from its head to its answer; goes on from its traceparent
      append         judged, routed and put into the queues
      durable        until that is on the disk
      deliver        an attempt at a batch that holds some of it, linked to the other requests in it
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

import msgspec

from dispatcher.config import TracingSettings
from dispatcher.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt at delivering a batch, which has just ended."""

    channel: int
    type: str
    first_seq: int
    last_seq: int
    seconds: float
    events: int
    bytes_count: int
    failure: str | None = None  # its class; None: it was taken
    status: int | None = None  # that a callback answered


class PublishTrace(Protocol):
    """One request of a gateway."""

    def appending(self, events: int, bytes_count: int) -> AbstractContextManager[None]:
        """What is appended meanwhile belongs to it.  There must be no ``await`` inside."""
        ...

    def waiting(self) -> AbstractContextManager[None]:
        """It is awaited that this is durable."""
        ...


class Tracing(Protocol):
    """Records traces, in bounded memory and without waiting."""

    @property
    def is_noting(self) -> bool:
        """Whether what is appended now belongs to a request that is recorded."""
        ...

    def publish(
        self, traceparent: str | None, tracestate: str | None, request_id: str
    ) -> AbstractContextManager[PublishTrace]:
        """A request begins; it ends with the block, in an answer or in what is raised."""
        ...

    def appended(self, channel: int, first_seq: int, last_seq: int) -> None:
        """These records of a channel came with the request that is being appended."""
        ...

    def attempted(self, attempt: Attempt) -> None:
        """A batch was sent, or was to be."""
        ...

    def forget(self, channel: int) -> None:
        """The channel was deleted."""
        ...

    def close(self) -> None:
        """Send what is recorded, within a bound of time, and end.  Blocks."""
        ...


def open_tracing(settings: TracingSettings, now_unix_ns: Callable[[], int]) -> Tracing | None:
    """What records traces by these settings; None: nothing does.

    Raises ``ConfigError`` when the packages for it are not installed.
    """
    if not settings.endpoint:
        return None
    try:
        from dispatcher.observe.otel import export_to
    except ImportError:
        raise ConfigError(
            "tracing.endpoint is set, but the packages for traces are missing: pip install 'dispatcher[otel]'"
        ) from None
    return export_to(settings.endpoint, settings.sample, now_unix_ns)
