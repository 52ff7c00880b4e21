"""Requests as routing sees them, and every finder that can be under a router."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

from dispatcher.core.route_table import PlainFinder, RouteFinder
from dispatcher.core.routing import RoutePlan
from dispatcher.model import (
    AsyncAnswer,
    AsyncResponse,
    Deregistration,
    DeviceChange,
    Event,
    Kind,
    Notification,
    Registration,
    RegistrationExpired,
    RegistrationUpdate,
)
from dispatcher.queue.native_routes import NativeFinder
from dispatcher.wire.ingest import Parsed, encode_events

FINDERS: dict[str, Callable[[], RouteFinder]] = {
    "plain": PlainFinder,
    "native": lambda: NativeFinder(bytes(range(16)), 64 << 20),
}


class Request:
    """Events put together one by one; ``core.routing.RoutableEvents``."""

    def __init__(self, pairs: Sequence[tuple[str, str]] = ()) -> None:
        """``pairs``: ep and path of notifications to begin with."""
        self._events: list[Event] = [Notification(ep, path) for ep, path in pairs]
        self._parsed: Parsed | None = None

    def notify(self, ep: str, path: str = "/1") -> Request:
        """A notification."""
        return self._add(Notification(ep, path, b"1", "text/plain", 0, "original"))

    def change(self, kind: Kind, ep: str, ept: str | None = None) -> Request:
        """A life-cycle event."""
        return self._add(
            {
                Kind.REGISTRATION: Registration(ep=ep, ept=ept),
                Kind.REG_UPDATE: RegistrationUpdate(ep=ep, ept=ept),
                Kind.DE_REGISTRATION: Deregistration(ep),
                Kind.REGISTRATION_EXPIRED: RegistrationExpired(ep),
            }[kind]
        )

    def answer(self, async_id: str) -> Request:
        """An async response."""
        return self._add(AsyncResponse(id=async_id, status=200))

    def _add(self, event: Event) -> Request:
        self._events.append(event)
        self._parsed = None
        return self

    @property
    def parsed(self) -> Parsed:
        """The request in canonical form."""
        if self._parsed is None:
            self._parsed = encode_events(self._events)
        return self._parsed

    @property
    def block(self) -> bytes:
        return self.parsed.block

    @property
    def meta(self) -> array[int]:
        return self.parsed.meta

    @property
    def eps(self) -> Sequence[str | None]:
        return self.parsed.eps

    @property
    def paths(self) -> Sequence[str | None]:
        return self.parsed.paths

    @property
    def device_changes(self) -> Sequence[DeviceChange]:
        return self.parsed.device_changes

    @property
    def async_answers(self) -> Sequence[AsyncAnswer]:
        return self.parsed.async_answers


def shown(plan: RoutePlan) -> tuple[dict[int, list[int] | None], int]:
    """A plan as plain lists."""
    routes = {}
    for channel, indices in plan.routes:
        assert channel not in routes
        assert indices is None or (isinstance(indices, array) and indices.typecode == "I")
        routes[channel] = None if indices is None else list(indices)
    return routes, plan.unrouted
