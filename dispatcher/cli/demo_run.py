"""One run of ``demo``, from an empty folder to its summary."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import msgspec
import trio

from dispatcher import limits
from dispatcher.cli.api_client import ApiClient
from dispatcher.cli.demo_books import Books, read_books
from dispatcher.cli.demo_daemon import Daemon, open_daemon
from dispatcher.cli.demo_fleet import Fleet
from dispatcher.cli.demo_plan import ENDPOINT_TYPE, RESOURCE_PATH, DemoPlan, Outage
from dispatcher.cli.demo_receivers import CallbackReceiver, Inbox, WebSocketReceiver
from dispatcher.cli.demo_report import ChannelResult, Display, Moment, Summary, counted, percentile
from dispatcher.cli.gateway_client import GatewayClient
from dispatcher.cli.server_address import ServerAddress
from dispatcher.model import Role

CHANNELS = ("callback", "WebSocket")
_SERIALIZATION = {"type": "v2", "cfg": {"include_uid": True}}
_LOOK_S = 0.25  # between looks at the run
_LOOKS_PER_RATE = 8  # the rate shown is that of the last two seconds
_QUIET_S = 0.5  # after the last event nothing more may come


class _Keys(msgspec.Struct, frozen=True, kw_only=True):
    admin: str
    gateway: str
    callback: str
    websocket: str


class _Parts(msgspec.Struct, frozen=True, kw_only=True):
    """Who takes part in a run, once the channels are registered."""

    plan: DemoPlan
    address: ServerAddress
    display: Display
    callback: CallbackReceiver
    websocket: WebSocketReceiver
    fleet: Fleet

    @property
    def inboxes(self) -> tuple[Inbox, Inbox]:
        return self.callback.inbox, self.websocket.inbox


async def run_demo(plan: DemoPlan, folder: Path, display: Display) -> Summary:
    """Run the whole job in ``folder``; when this ends, however it does, its daemon is gone.

    Raises ``DispatcherError`` when it cannot be carried out to its end.
    """
    async with open_daemon(folder) as daemon, trio.open_nursery() as nursery:
        nursery.start_soon(daemon.watch)
        display.say(f"The daemon is at {daemon.address}, on a temporary folder.")
        keys = await _create_keys(daemon)
        display.say(f"Its console is at {daemon.address}/console, for the admin key {keys.admin}")
        callback, websocket = await _start_applications(nursery, plan, daemon.address, keys)
        async with ApiClient(daemon.address, keys.gateway, role=Role.GATEWAY) as api:
            parts = _Parts(
                plan=plan,
                address=daemon.address,
                display=display,
                callback=callback,
                websocket=websocket,
                fleet=Fleet(plan, GatewayClient(api, retries_max=limits.CLIENT_RETRIES_MAX)),
            )
            summary = await _carry_out(nursery, parts)
        nursery.cancel_scope.cancel()
    return summary


async def _carry_out(nursery: trio.Nursery, parts: _Parts) -> Summary:
    """Post everything, fail as planned, wait for the rest, and close the books."""
    await parts.fleet.register()
    start_s = trio.current_time()
    lookout = _Lookout(parts, start_s)
    nursery.start_soon(lookout.run)
    if (outage := parts.plan.callback_outage) is not None:
        nursery.start_soon(_fail_callback, parts, outage, start_s)
    if (outage := parts.plan.websocket_outage) is not None:
        nursery.start_soon(_leave_websocket, parts, outage, start_s)
    await parts.fleet.run(start_s)
    await lookout.wait_until_settled()
    return _summary(parts, start_s, await lookout.read_books())


async def _create_keys(daemon: Daemon) -> _Keys:
    texts: dict[str, str] = {}

    async def create(name: str, role: Role) -> None:
        application = f"demo-{name}" if role is Role.APPLICATION else None
        texts[name] = await daemon.create_key(role, application)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(create, "admin", Role.ADMIN)
        nursery.start_soon(create, "gateway", Role.GATEWAY)
        nursery.start_soon(create, "callback", Role.APPLICATION)
        nursery.start_soon(create, "websocket", Role.APPLICATION)
    return _Keys(**texts)


async def _start_applications(
    nursery: trio.Nursery, plan: DemoPlan, address: ServerAddress, keys: _Keys
) -> tuple[CallbackReceiver, WebSocketReceiver]:
    """Register two applications' subscriptions and channels; their receivers run in ``nursery``."""
    callback = CallbackReceiver(Inbox(plan.devices))
    await nursery.start(callback.serve)
    async with ApiClient(address, keys.callback, role=Role.APPLICATION) as api:
        await _put(api, "/v2/subscriptions", [{"resource-path": [f"{RESOURCE_PATH[:6]}*"]}], 204)
        registration = {"url": callback.url, "serialization": _SERIALIZATION}
        await _put(api, "/v2/notification/callback", registration, 204)
    websocket = WebSocketReceiver(Inbox(plan.devices), address, keys.websocket)
    async with ApiClient(address, keys.websocket, role=Role.APPLICATION) as api:
        await _put(api, "/v2/subscriptions", [{"endpoint-type": ENDPOINT_TYPE}], 204)
        await _put(api, "/v2/notification/websocket", {"serialization": _SERIALIZATION}, 201)
    await nursery.start(websocket.run)
    return callback, websocket


async def _put(api: ApiClient, path: str, value: object, expect: int) -> None:
    await api.ask("PUT", path, msgspec.json.encode(value), expect=(expect,))


async def _fail_callback(parts: _Parts, outage: Outage, start_s: float) -> None:
    await trio.sleep_until(start_s + outage.start_s)
    parts.callback.is_failing = True
    length_s = outage.end_s - outage.start_s
    parts.display.say(f"{outage.start_s:5.1f} s  the callback's receiver answers 503 for {length_s:g} s")
    await trio.sleep_until(start_s + outage.end_s)
    parts.callback.is_failing = False


async def _leave_websocket(parts: _Parts, outage: Outage, start_s: float) -> None:
    await trio.sleep_until(start_s + outage.start_s)
    length_s = outage.end_s - outage.start_s
    parts.display.say(
        f"{outage.start_s:5.1f} s  the WebSocket's client loses its connection for {length_s:g} s"
    )
    await parts.websocket.go_away(length_s / 20)
    await trio.sleep_until(start_s + outage.end_s)
    parts.websocket.come_back()


class _Lookout:
    """Looks at the run from time to time, shows it, and notices when nothing moves any more."""

    def __init__(self, parts: _Parts, start_s: float) -> None:
        self._parts = parts
        self._start_s = start_s
        self._books = Books(queued=0, acked=0, lost=0, in_queue=0)
        self._looks: deque[tuple[float, int]] = deque([(0.0, 0)], maxlen=_LOOKS_PER_RATE)
        self._posted_at_s: float | None = None  # when the fleet had posted everything
        self._settled = trio.Event()

    async def run(self) -> None:
        """Look on until everything that was posted has settled."""
        while not self._is_settled():
            self._books = await self.read_books()
            self._parts.display.show(self._moment())
            await trio.sleep(_LOOK_S)
        self._settled.set()

    async def read_books(self) -> Books:
        """What the daemon says now."""
        async with ApiClient(self._parts.address) as api:
            answer = await api.ask("GET", "/metrics", expect=(200,))
        return read_books(answer.body.decode())

    async def wait_until_settled(self) -> None:
        """Call when all is posted: returns when it is there and confirmed, or nothing comes any more."""
        self._posted_at_s = trio.current_time()
        await self._settled.wait()
        await trio.sleep(_QUIET_S)

    def _is_settled(self) -> bool:
        if self._posted_at_s is None:
            return False
        expected = self._parts.plan.devices + self._parts.fleet.posted
        is_all_there = all(inbox.ledger.received >= expected for inbox in self._parts.inboxes)
        newest_s = max(self._posted_at_s, *(inbox.newest_s for inbox in self._parts.inboxes))
        is_quiet = trio.current_time() - newest_s > limits.DEMO_STALL_S
        return (is_all_there and self._books.in_queue == 0) or is_quiet

    def _moment(self) -> Moment:
        plan, fleet = self._parts.plan, self._parts.fleet
        elapsed_s = trio.current_time() - self._start_s
        self._looks.append((elapsed_s, fleet.posted))
        (then_s, posted_then) = self._looks[0]
        return Moment(
            elapsed_s=elapsed_s,
            events=plan.devices + plan.events,
            posted=plan.devices + fleet.posted,
            received=tuple(inbox.ledger.received for inbox in self._parts.inboxes),
            lag_s=tuple(inbox.lag_s for inbox in self._parts.inboxes),
            in_queue=self._books.in_queue,
            rate=(fleet.posted - posted_then) / max(elapsed_s - then_s, 1e-3),
        )


def _summary(parts: _Parts, start_s: float, books: Books) -> Summary:
    failures = (
        counted(parts.callback.refused, "batch refused", "batches refused"),
        counted(parts.websocket.connections - 1, "connection lost", "connections lost"),
    )
    channels = tuple(
        _channel_result(name, inbox, parts, start_s, failure)
        for name, inbox, failure in zip(CHANNELS, parts.inboxes, failures, strict=True)
    )
    return Summary(
        plan=parts.plan,
        posted=parts.fleet.posted,
        channels=channels,
        queued=parts.fleet.total.queued,
        books=books,
    )


def _channel_result(name: str, inbox: Inbox, parts: _Parts, start_s: float, failures: str) -> ChannelResult:
    plan, posted = parts.plan, parts.fleet.posted
    latencies_us = sorted(inbox.latencies_us)
    return ChannelResult(
        name=name,
        verdict=inbox.ledger.verdict(lambda device: 1 + plan.expected(device, posted)),
        batches=inbox.batches,
        largest_batch=inbox.largest_batch,
        p50_s=percentile(latencies_us, 0.50) / 1e6,
        p99_s=percentile(latencies_us, 0.99) / 1e6,
        rate=len(latencies_us) / max(inbox.newest_s - start_s, 1e-3),
        failures=failures,
    )
