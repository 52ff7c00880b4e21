"""A daemon that is killed under load, again and again: what was answered 202 arrives, in order.

``DISPATCHER_CRASH_ROUNDS`` sets how often it is killed (20 when unset), at moments taken
from a seed that a failure prints.  The receiver lives on, as receivers do, and takes what
comes; duplicates are allowed, gaps and disorder are not, and neither is a uid that names
two events.
"""

from __future__ import annotations

import json
import os
import random
import signal
from contextlib import suppress
from pathlib import Path

import h11
import pytest
import trio
from support.daemon import Tenant, User, new_tenant, open_daemon
from support.receiver import Receiver, open_receiver

ROUNDS = int(os.environ.get("DISPATCHER_CRASH_ROUNDS", "20"))
DEVICES = ("one", "two", "three")
EVENTS_PER_POST = 40
POSTS_MAX = 500  # per device and round
ALIVE_S_MAX = 0.8
ARRIVAL_S = 30.0


class Poster:
    """Posts one device's events, numbered from 1, and remembers what was accepted."""

    def __init__(self, ep: str) -> None:
        self.ep = ep
        self.posted = 0
        self.accepted: set[int] = set()

    async def post_until_killed(self, gateway: User, durability: str) -> None:
        with suppress(OSError, trio.BrokenResourceError, h11.RemoteProtocolError):
            for _ in range(POSTS_MAX):
                numbers = range(self.posted + 1, self.posted + 1 + EVENTS_PER_POST)
                self.posted = numbers[-1]
                events = [{"ep": self.ep, "path": f"/{number}"} for number in numbers]
                answer = await gateway.post_events(events)
                assert answer["durability"] == durability
                self.accepted.update(numbers)


def arrived(receiver: Receiver) -> dict[str, list[int]]:
    """The numbers that came, by device, each where it came first; checks the uids on the way."""
    numbers: dict[str, dict[int, None]] = {ep: {} for ep in DEVICES}
    uids: dict[str, tuple[str, int]] = {}
    for request in receiver.requests:
        for event in json.loads(request.body).get("notifications", ()):
            number = int(event["path"][1:])
            numbers[event["ep"]][number] = None
            assert uids.setdefault(event["uid"], (event["ep"], number)) == (event["ep"], number)
    return {ep: list(seen) for ep, seen in numbers.items()}


async def register(tenant: Tenant, receiver: Receiver) -> None:
    callback = {"url": receiver.url, "serialization": {"type": "v2", "cfg": {"include_uid": True}}}
    reply = await tenant.application.send("PUT", "/v2/notification/callback", callback)
    assert reply.status == 204, reply.body
    reply = await tenant.application.send("PUT", "/v2/subscriptions", [{"endpoint-name": "*"}])
    assert reply.status == 204, reply.body


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["disk", "process"])
async def test_what_was_accepted_arrives_in_order_however_often_the_daemon_is_killed(
    tmp_path: Path, durability: str
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    posters = [Poster(ep) for ep in DEVICES]
    flags = ("--allow-private-callbacks", f"--durability={durability}")
    rounds = ROUNDS if durability == "disk" else max(1, ROUNDS // 4)
    tenant: Tenant | None = None
    async with open_receiver() as receiver:
        for _ in range(rounds):
            with open_daemon(tmp_path, *flags, exit_status=-signal.SIGKILL) as daemon:
                if tenant is None:
                    tenant = await new_tenant(daemon)
                    await register(tenant, receiver)
                async with trio.open_nursery() as nursery:
                    for poster in posters:
                        gateway = User(daemon.port, tenant.gateway.key)
                        nursery.start_soon(poster.post_until_killed, gateway, durability)
                    await trio.sleep(dice.uniform(0.01, ALIVE_S_MAX))
                    daemon.send_signal(signal.SIGKILL)
                await daemon.wait()
        assert all(poster.accepted for poster in posters)
        with open_daemon(tmp_path, *flags) as daemon, trio.move_on_after(ARRIVAL_S):
            while not all(p.accepted <= set(arrived(receiver)[p.ep]) for p in posters):  # noqa: ASYNC110
                await trio.sleep(0.2)
    came = arrived(receiver)
    for poster in posters:
        assert sorted(poster.accepted - set(came[poster.ep])) == []
        assert came[poster.ep] == sorted(came[poster.ep])
        assert max(came[poster.ep]) <= poster.posted


async def test_a_clean_stop_sends_nothing_twice(tmp_path: Path) -> None:
    async with open_receiver() as receiver:
        with open_daemon(tmp_path, "--allow-private-callbacks") as daemon:
            tenant = await new_tenant(daemon)
            await register(tenant, receiver)
            poster = Poster(DEVICES[0])
            await tenant.gateway.post_events([{"ep": poster.ep, "path": "/1"}])
            await receiver.wait_requests(2)
        with open_daemon(tmp_path, "--allow-private-callbacks") as daemon:
            await User(daemon.port, tenant.gateway.key).post_events([{"ep": poster.ep, "path": "/2"}])
            await receiver.wait_requests(3)
    assert [json.loads(request.body)["notifications"][0]["path"] for request in receiver.requests[1:]] == [
        "/1",
        "/2",
    ]
