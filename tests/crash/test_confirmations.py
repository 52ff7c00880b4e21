"""What a receiver confirmed is not sent again by the next process, however the last one ended."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import trio
from support.crash_house import SIZES, House, open_house
from support.daemon import User, new_tenant, open_daemon
from support.journal_reader import read_journal
from support.lives import open_lives
from support.receiver import open_receiver
from support.tenants import EVERYTHING

from dispatcher.model import Durability

POSTS = 5
LAST_LOOK_S = 0.2  # for what must not come: a batch leaves within milliseconds of the start


async def until_all_is_settled(house: House) -> None:
    """The confirmations of the callback and the WebSocket stand in the journal."""
    with trio.fail_after(10):
        while True:
            states = read_journal(house.data / "journal").channels.values()
            used = [state for state in states if state.last_seq]
            if len(used) == 2 and all(state.settled_seq == state.last_seq for state in used):
                return
            await trio.sleep(0.02)


@pytest.mark.slow
async def test_confirmations_without_any_publisher_are_durable_soon(tmp_path: Path) -> None:
    async with open_lives(tmp_path, SIZES) as lives, open_house(tmp_path, seed=1) as house:
        for is_first in (True, False):
            await house.begin_life()
            life = await lives.begin(house.settings())
            assert life.port is not None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(house.read_websocket, life.port, house.websocket)
                if is_first:
                    for _ in range(POSTS):
                        await house.posters[0].post(life.port, Durability.DISK)
                    await until_all_is_settled(house)
                else:
                    await trio.sleep(LAST_LOOK_S)
                life.kill()
                assert await life.ended() == -signal.SIGKILL
        house.posters[0].check()
        assert (house.callback.duplicates, house.websocket.duplicates) == (0, 0)


@pytest.mark.slow
async def test_a_clean_stop_sends_nothing_twice(tmp_path: Path) -> None:
    async with open_receiver() as receiver:
        with open_daemon(tmp_path, "--allow-private-callbacks") as daemon:
            tenant = await new_tenant(daemon)
            application = tenant.application
            registered = await application.send("PUT", "/v2/notification/callback", {"url": receiver.url})
            assert registered.status == 204, registered.body
            assert (await application.send("PUT", "/v2/subscriptions", EVERYTHING)).status == 204
            await tenant.gateway.post_events([{"ep": "one", "path": "/1"}])
            await receiver.wait_requests(2)
            daemon.send_signal(signal.SIGTERM)
            assert await daemon.wait() == 0  # meanwhile the receiver answers
        with open_daemon(tmp_path, "--allow-private-callbacks") as daemon:
            await User(daemon.port, tenant.gateway.key).post_events([{"ep": "one", "path": "/2"}])
            await receiver.wait_requests(3)
    paths = [json.loads(request.body)["notifications"][0]["path"] for request in receiver.requests[1:]]
    assert paths == ["/1", "/2"]
