"""The devices of ``demo``, and the gateway that posts what they say."""

from __future__ import annotations

from collections.abc import Iterator

import trio

from dispatcher import limits
from dispatcher.cli.demo_plan import DemoPlan, notification_lines, registration_line
from dispatcher.cli.gateway_client import GatewayClient, add
from dispatcher.wire.gateway_api import Accepted
from dispatcher.wire.ingest import BodyForm


class Fleet:
    """Posts registrations, then notifications at a fixed rate.

    The rate is open-loop: an event is due when its tick ends, whatever the dispatcher does,
    and latency counts from then.
    """

    def __init__(self, plan: DemoPlan, gateway: GatewayClient) -> None:
        self.posted = 0  # notifications answered with 202
        self.requests = 0
        self.total = Accepted(accepted=0, queued=0, unrouted=0, rejected=0, durability="")
        self._plan = plan
        self._gateway = gateway

    async def register(self) -> None:
        """Post the registration of every device."""
        for body in _registration_bodies(self._plan.devices):
            await self._post(body)

    async def run(self, start_s: float) -> None:
        """Post all notifications; stop early when the dispatcher does not keep up.

        Raises what ``GatewayClient.post`` raises.
        """
        ticks = 0
        last_s = start_s + self._plan.seconds + limits.DEMO_OVERRUN_S
        while self.posted < self._plan.events and trio.current_time() < last_s:
            await trio.sleep_until(start_s + (ticks + 1) * limits.DEMO_TICK_S)
            # At least the next one: the clock may be a rounding error short of it.
            now_tick = max(ticks + 1, int((trio.current_time() - start_s) / limits.DEMO_TICK_S))
            lines: list[bytes] = []
            while ticks < now_tick and len(lines) < limits.DEMO_BODY_EVENTS_MAX:
                ticks += 1
                due_us = int((start_s + ticks * limits.DEMO_TICK_S) * 1e6)
                lines += notification_lines(
                    self._plan, self._plan.due_by(ticks - 1), self._plan.due_by(ticks), due_us
                )
            if lines:
                await self._post(b"".join(lines))
                self.posted += len(lines)

    async def _post(self, body: bytes) -> None:
        key = f"demo-{self.requests}"
        answer = await self._gateway.post(body, BodyForm.NDJSON, idempotency_key=key)
        self.requests += 1
        self.total = add(self.total, answer)


def _registration_bodies(devices: int) -> Iterator[bytes]:
    step = limits.DEMO_BODY_EVENTS_MAX
    for first in range(0, devices, step):
        yield b"".join(registration_line(device) for device in range(first, min(devices, first + step)))
