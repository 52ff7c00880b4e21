"""The requests that wait for devices: whose turn it is, what an answer means, what time does to them.  Pure.

Each device has a line of at most ``limits.DEVICE_REQUESTS_PER_DEVICE_MAX``; the first in it is sent to
the device's gateway, and the next only when that one is finished.

    add ─▶ [ ... 3 2 ] 1 ─ begin ─▶ in flight ─ answer ─▶ finished
                       ▲               │ the socket ended: again, it counts as nothing
                       └── a pause ◀───┘ no answer in time, or the device was not reached: a failed attempt

Every request ends in exactly one result, the gateway's answer or one of ours:

    REQUEST_EXPIRED             its lifetime is over, wherever it was
    TIMEOUT                     no answer to the last attempt (a device in queue mode has its whole lifetime)
    NOT_CONNECTED               its gateway has no socket, and had its time to come back (not in queue mode)
    DEVICE_REMOVED_REGISTRATION the device left, or its registration ran out

Times are Unix milliseconds, passed in.  A heap holds a moment for each line at which something
may be due; what moves a line's moment back leaves the heap alone, and the line is looked at in vain.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence

import msgspec

from dispatcher import limits
from dispatcher.errors import DeviceRequestRefused, RefusalReason
from dispatcher.model import (
    AsyncAnswer,
    AsyncResponse,
    Device,
    DeviceRequest,
)

DeviceKey = tuple[int, str]
"""Account and ep."""

_UNREACHED = frozenset({503, 504})  # the device was not reached: another attempt may do


class Finished(msgspec.Struct, frozen=True):
    """A request that is over, and what its application is told."""

    request: DeviceRequest
    response: AsyncResponse


class Judged(msgspec.Struct, frozen=True):
    """What an answer means.  ``request`` None: nobody waits for it."""

    response: AsyncResponse
    request: DeviceRequest | None
    is_final: bool = False  # False: the attempt failed, and there will be another

    @property
    def asker(self) -> int | None:
        """The application that gets the answer."""
        if self.request is None or self.request.is_silent or not self.is_final:
            return None
        return self.request.application_id


class Due(msgspec.Struct):
    """What the time has brought."""

    finished: list[Finished]
    ready: list[DeviceKey]  # a pause is over


class _Line(msgspec.Struct, eq=False):
    key: DeviceKey
    gateway_id: str | None
    is_queue_mode: bool
    requests: deque[DeviceRequest]
    socket: int | None = None  # on which the first is in flight
    sent_ms: float = 0.0
    failed_attempts: int = 0  # of the first
    paused_until_ms: float = 0.0
    looked_at_ms: float = math.inf  # the earliest moment in the heap

    def first_is(self, request: DeviceRequest) -> bool:
        return bool(self.requests) and self.requests[0].id == request.id

    def go_on(self) -> None:
        """The first request has left: the next one begins anew."""
        self.socket = None
        self.failed_attempts = 0
        self.paused_until_ms = 0.0


class _Load(msgspec.Struct):
    requests: int = 0
    payload_bytes: int = 0


class RequestBook:
    """All waiting requests.

    Memory: the requests, bounded per device and account, and the ids of the last
    ``limits.DEVICE_REQUEST_IDS_REMEMBERED_MAX`` finished ones.
    """

    def __init__(self, now_ms: float, sooner: Callable[[], None] = lambda: None) -> None:
        """``sooner`` is called when ``next_due_ms`` has moved towards now."""
        self._sooner = sooner
        self._began_ms = now_ms
        self._lines: dict[DeviceKey, _Line] = {}
        self._lines_of: dict[str | None, dict[DeviceKey, None]] = {}  # by gateway
        self._by_wire_id: dict[tuple[int, str], DeviceRequest] = {}
        self._retired: OrderedDict[tuple[int, str], int] = OrderedDict()  # wire ids: application ids
        self._load: dict[int, _Load] = {}  # by account
        self._sockets: dict[str, set[int]] = {}  # by gateway
        self._away_since_ms: dict[str, float] = {}  # gateways that had a socket
        self._heap: list[tuple[float, DeviceKey]] = []

    def __repr__(self) -> str:
        return f"<RequestBook {len(self._by_wire_id)} requests in {len(self._lines)} lines>"

    # --- taking requests in -----------------------------------------------------------

    def find(self, application_id: int, key: DeviceKey, async_id: str) -> DeviceRequest | None:
        """An application's waiting request of this id for a device."""
        line = self._lines.get(key)
        for request in line.requests if line is not None else ():
            if request.application_id == application_id and request.async_id == async_id:
                return request
        return None

    def is_observing(self, key: DeviceKey, path: str) -> bool:
        """Whether a request to observe a resource waits."""
        line = self._lines.get(key)
        return line is not None and any(r.observe and r.uri == path for r in line.requests)

    def check_room(self, key: DeviceKey, payload_bytes: int) -> None:
        """Raise ``DeviceRequestRefused`` when a line or an account is full."""
        line = self._lines.get(key)
        if line is not None and len(line.requests) >= limits.DEVICE_REQUESTS_PER_DEVICE_MAX:
            raise DeviceRequestRefused(
                RefusalReason.QUEUE_IS_FULL,
                f"{limits.DEVICE_REQUESTS_PER_DEVICE_MAX} requests wait for this device",
            )
        load = self._load.get(key[0], _Load())
        if (
            load.requests >= limits.DEVICE_REQUESTS_PER_ACCOUNT_MAX
            or load.payload_bytes + payload_bytes > limits.DEVICE_REQUEST_BYTES_PER_ACCOUNT_MAX
        ):
            raise DeviceRequestRefused(
                RefusalReason.QUEUE_IS_FULL, "too many requests wait for devices of this account"
            )

    def choose_wire_id(self, account_id: int, application_id: int, async_id: str) -> str | None:
        """The id by which the gateway knows a request: the application's own; None when it is taken.

        Another application's id is taken while its request waits, and after that as long as it
        is remembered: a late answer must not reach the wrong one.
        """
        wire = (account_id, async_id)
        is_taken = wire in self._by_wire_id or self._retired.get(wire, application_id) != application_id
        return None if is_taken else async_id

    def add(self, request: DeviceRequest, device: Device | None) -> None:
        """Put a request at the end of its device's line."""
        key = (request.account_id, request.ep)
        line = self._lines.get(key)
        if line is None:
            gateway_id = None if device is None else device.gateway_id
            line = _Line(key, gateway_id, device is not None and device.q, deque())
            self._lines[key] = line
            self._lines_of.setdefault(gateway_id, {})[key] = None
        line.requests.append(request)
        self._by_wire_id[request.account_id, request.wire_id] = request
        load = self._load.setdefault(request.account_id, _Load())
        load.requests += 1
        load.payload_bytes += request.payload_bytes
        self._schedule(line)

    # --- sending ----------------------------------------------------------------------

    def gateway_of(self, key: DeviceKey) -> str | None:
        """The gateway of a device that has requests waiting and none in flight."""
        line = self._lines.get(key)
        return None if line is None or line.socket is not None else line.gateway_id

    def next_bytes(self, key: DeviceKey) -> int:
        """About how long the first request of a device is as it is sent, in base64."""
        line = self._lines.get(key)
        if line is None:
            return 0
        return limits.DEVICE_REQUEST_HEAD_BYTES + (line.requests[0].payload_bytes + 2) // 3 * 4

    def begin(self, key: DeviceKey, socket: int, now_ms: float) -> DeviceRequest | None:
        """The request to send to a device now, which is then in flight; None when there is none."""
        line = self._lines.get(key)
        if line is None or line.socket is not None or now_ms < line.paused_until_ms:
            return None
        if socket not in self._sockets.get(line.gateway_id or "", ()):
            return None
        line.socket, line.sent_ms = socket, now_ms
        self._schedule(line)
        return line.requests[0]

    def connected(self, gateway_id: str, socket: int) -> tuple[DeviceKey, ...]:
        """A gateway has opened a socket; the devices whose requests can go there."""
        self._sockets.setdefault(gateway_id, set()).add(socket)
        self._away_since_ms.pop(gateway_id, None)
        return tuple(self._lines_of.get(gateway_id, ()))

    def disconnected(self, gateway_id: str, socket: int, now_ms: float) -> tuple[DeviceKey, ...]:
        """A socket has ended: what was in flight on it goes again; the devices that wait for another one."""
        sockets = self._sockets[gateway_id]
        sockets.discard(socket)
        if not sockets:
            del self._sockets[gateway_id]
            self._away_since_ms[gateway_id] = now_ms
        keys = tuple(self._lines_of.get(gateway_id, ()))
        for key in keys:
            line = self._lines[key]
            if line.socket == socket:
                line.socket = None
            self._schedule(line)
        return keys

    def is_away(self, gateway_id: str | None, now_ms: float) -> bool:
        """Whether a gateway has no socket, and has had its time to come back."""
        return self._away_from_ms(gateway_id) <= now_ms

    def has_had_socket(self, gateway_id: str | None) -> bool:
        """Whether a gateway executes commands, as far as this run knows."""
        return gateway_id in self._sockets or gateway_id in self._away_since_ms

    # --- answers ----------------------------------------------------------------------

    def judge(
        self, account_id: int, gateway_id: str | None, answers: Sequence[AsyncAnswer]
    ) -> tuple[Judged, ...]:
        """Say what each answer of a message means; changes nothing.

        Only the device's own gateway answers for it, and only what it may have been sent.
        """
        judged: list[Judged] = []
        seen: set[str] = set()
        for answer in answers:
            request = self._by_wire_id.get((account_id, answer.id))
            line = None if request is None else self._lines[request.account_id, request.ep]
            if (
                request is None
                or line is None
                or answer.id in seen
                or line.gateway_id != gateway_id
                or not line.first_is(request)
            ):
                judged.append(Judged(answer.response, None))
                continue
            seen.add(answer.id)
            status = answer.response.status
            is_final = status not in _UNREACHED or line.failed_attempts >= request.retry
            judged.append(Judged(answer.response, request, is_final))
        return tuple(judged)

    def settle(self, judged: Iterable[Judged], now_ms: float) -> list[DeviceRequest]:
        """Act on it; return the requests that are finished."""
        finished: list[DeviceRequest] = []
        for verdict in judged:
            if verdict.request is None:
                continue
            line = self._lines[verdict.request.account_id, verdict.request.ep]
            if verdict.is_final:
                self._remove(line, verdict.request)
                finished.append(verdict.request)
            else:
                self._pause(line, now_ms)
        return finished

    # --- devices ----------------------------------------------------------------------

    def device_heard(self, key: DeviceKey, gateway_id: str | None, is_queue_mode: bool | None) -> bool:
        """A device registered, or refreshed its registration; True when a request of it may go now.

        Through another gateway than before, what is in flight goes again there.
        """
        line = self._lines.get(key)
        if line is None:
            return False
        line.paused_until_ms = 0.0  # it is awake
        if is_queue_mode is not None:
            line.is_queue_mode = is_queue_mode
        if line.gateway_id != gateway_id:
            self._leave_gateway(line)
            line.gateway_id, line.socket = gateway_id, None
            self._lines_of.setdefault(gateway_id, {})[key] = None
        self._schedule(line)
        return line.socket is None

    def device_gone(self, key: DeviceKey) -> list[Finished]:
        """A device left: nothing that waits for it can be carried out."""
        line = self._lines.get(key)
        if line is None:
            return []
        return self._finish(line, tuple(line.requests), 429, "DEVICE_REMOVED_REGISTRATION")

    # --- time -------------------------------------------------------------------------

    @property
    def next_due_ms(self) -> float:
        """When to ask for what is ``due``; infinite when nothing waits."""
        return self._heap[0][0] if self._heap else math.inf

    def due(self, now_ms: float) -> Due:
        """What is due by now."""
        due = Due([], [])
        while self._heap and self._heap[0][0] <= now_ms:
            at_ms, key = heapq.heappop(self._heap)
            line = self._lines.get(key)
            if line is None or at_ms != line.looked_at_ms:
                continue
            line.looked_at_ms = math.inf
            self._look(line, now_ms, due)
            if line.requests:
                self._schedule(line)
        return due

    def _look(self, line: _Line, now_ms: float, due: Due) -> None:
        expired = tuple(request for request in line.requests if request.expires_unix_ms <= now_ms)
        due.finished += self._finish(line, expired, 429, "REQUEST_EXPIRED")
        if self._connect_by_ms(line) <= now_ms:
            due.finished += self._finish(line, tuple(line.requests), 503, "NOT_CONNECTED")
        if self._answer_by_ms(line) <= now_ms:
            first = line.requests[0]
            if line.failed_attempts >= first.retry:
                due.finished += self._finish(line, (first,), 504, "TIMEOUT")
            else:
                self._pause(line, now_ms)
        if line.requests and line.socket is None and line.paused_until_ms <= now_ms:
            line.paused_until_ms = 0.0
            due.ready.append(line.key)

    def _schedule(self, line: _Line) -> None:
        """Have a line looked at when the next thing about it is due."""
        at_ms = min(
            min(request.expires_unix_ms for request in line.requests),
            self._answer_by_ms(line),
            self._connect_by_ms(line),
            line.paused_until_ms if line.socket is None and line.paused_until_ms else math.inf,
        )
        if at_ms < line.looked_at_ms:
            line.looked_at_ms = at_ms
            heapq.heappush(self._heap, (at_ms, line.key))
            if self._heap[0] == (at_ms, line.key):
                self._sooner()

    def _answer_by_ms(self, line: _Line) -> float:
        if not line.requests or line.socket is None or line.is_queue_mode:
            return math.inf
        return line.sent_ms + limits.DEVICE_ANSWER_TIMEOUT_S * 1000

    def _connect_by_ms(self, line: _Line) -> float:
        if not line.requests or line.is_queue_mode:
            return math.inf
        return self._away_from_ms(line.gateway_id)

    def _away_from_ms(self, gateway_id: str | None) -> float:
        if gateway_id in self._sockets:
            return math.inf
        since_ms = self._away_since_ms.get(gateway_id or "", self._began_ms)
        return since_ms + limits.GATEWAY_RETURN_S * 1000

    # --- both -------------------------------------------------------------------------

    def _pause(self, line: _Line, now_ms: float) -> None:
        """An attempt failed: the next one after a while, the longer the more have."""
        pause_s = min(limits.DEVICE_RETRY_PAUSE_S_MAX, limits.DEVICE_RETRY_PAUSE_S * 2**line.failed_attempts)
        line.failed_attempts += 1
        line.socket = None
        line.paused_until_ms = now_ms + pause_s * 1000
        self._schedule(line)

    def _finish(
        self, line: _Line, requests: Sequence[DeviceRequest], status: int, error: str
    ) -> list[Finished]:
        for request in requests:
            self._remove(line, request)
        return [
            Finished(request, AsyncResponse(id=request.async_id, status=status, error=error))
            for request in requests
        ]

    def _remove(self, line: _Line, request: DeviceRequest) -> None:
        if line.first_is(request):
            line.go_on()
        line.requests.remove(request)
        wire = (request.account_id, request.wire_id)
        del self._by_wire_id[wire]
        self._retired[wire] = request.application_id
        self._retired.move_to_end(wire)
        if len(self._retired) > limits.DEVICE_REQUEST_IDS_REMEMBERED_MAX:
            self._retired.popitem(last=False)
        load = self._load[request.account_id]
        load.requests -= 1
        load.payload_bytes -= request.payload_bytes
        if not load.requests:
            del self._load[request.account_id]
        if not line.requests:
            self._leave_gateway(line)
            del self._lines[line.key]
        else:
            self._schedule(line)

    def _leave_gateway(self, line: _Line) -> None:
        lines = self._lines_of[line.gateway_id]
        del lines[line.key]
        if not lines:
            del self._lines_of[line.gateway_id]
