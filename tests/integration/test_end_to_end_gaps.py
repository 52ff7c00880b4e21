"""What a receiver that asked for gaps is told by a real daemon: each event, or that it is missing."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from support.daemon import Daemon, Tenant, User, log_shown, open_daemon
from support.plain_websocket import open_websocket
from support.receiver import Receiver, answer, open_receiver
from support.tenants import callback_tenant, key_of, small, websocket_tenant

pytestmark = pytest.mark.slow

DAEMON_FLAGS = ("--allow-private-callbacks",)

DAEMON_CONFIG = """\
[tiers.commercial]
retry_initial_s = 0.1
retry_max_s = 0.2
queue_bytes = 4096
"""
TELLING = {"include_gaps": True, "include_uid": True}
QUIET_S = 0.3


class Told(msgspec.Struct):
    """What a receiver knows: events by their uids, and gaps, each once however often it was told."""

    numbers: dict[str, int] = {}
    gaps: dict[tuple[int, int, str], dict[str, Any]] = {}

    def take(self, message: dict[str, Any]) -> None:
        for gap in message.get("gaps", ()):
            key = (gap["first_seq"], gap["last_seq"], gap["reason"])
            assert self.gaps.setdefault(key, gap) == gap  # what was told does not change
        for event in message.get("notifications", ()):
            self.numbers[event["uid"]] = event["max-age"]

    @property
    def missing(self) -> int:
        return sum(gap["count"] for gap in self.gaps.values())


def told_by(receiver: Receiver) -> Told:
    """All that a callback was sent."""
    told = Told()
    for request in receiver.requests[1:]:
        told.take(json.loads(request.body))
    return told


async def post(tenant: Tenant, first: int, last: int) -> None:
    for number in range(first, last + 1):
        await tenant.gateway.post_events([small(number)])


async def test_a_receiver_that_was_away_is_told_exactly_what_it_does_not_get(daemon: Daemon) -> None:
    tenant = await websocket_tenant(daemon, cfg=TELLING)
    await post(tenant, 1, 100)
    told = Told()
    async with open_websocket(daemon.port, key_of(tenant.application)) as application:
        first = await application.message()
        told.take(first)
        kept = len(told.numbers)
        assert list(first) == ["gaps", "notifications"]
        assert [(g["first_seq"], g["last_seq"], g["count"], g["reason"]) for g in first["gaps"]] == [
            (1, 100 - kept, 100 - kept, "overflow")
        ]
        assert list(told.numbers.values()) == list(range(101 - kept, 101))
        await post(tenant, 101, 103)
        while 103 not in told.numbers.values():
            message = await application.message()
            assert "gaps" not in message
            told.take(message)
    assert len(told.numbers) + told.missing == 103


async def test_a_callback_that_fails_gets_the_gap_again_in_the_same_bytes(daemon: Daemon) -> None:
    async with open_receiver(answer(200), otherwise=answer(500)) as refusing:
        tenant = await callback_tenant(daemon, refusing, cfg=TELLING)
        await post(tenant, 1, 60)
        await refusing.wait_requests(4)
        async with open_receiver(answer(200), answer(200), answer(500), answer(500)) as taking:
            content = {"url": taking.url, "serialization": {"type": "v2", "cfg": TELLING}}
            put = await tenant.application.send("PUT", "/v2/notification/callback", content)
            assert put.status == 204
            await taking.wait_requests(5)
            told = told_by(taking)
    first, *again = (request.body for request in taking.requests[2:5])
    assert first.startswith(b'{"gaps":[')
    assert again == [first, first]
    assert len(told.numbers) + told.missing == 60
    numbers = list(told.numbers.values())
    assert numbers == sorted(numbers)


async def test_who_did_not_ask_is_told_nothing_and_nobody_is_told_of_others(daemon: Daemon) -> None:
    silent = await websocket_tenant(daemon, cfg={"include_uid": True})
    other = await websocket_tenant(daemon, cfg=TELLING)
    await post(silent, 1, 100)
    await post(other, 1, 2)
    for tenant in (silent, other):
        async with open_websocket(daemon.port, key_of(tenant.application)) as application:
            assert list(await application.message()) == ["notifications"]
            await application.stay_silent(QUIET_S)


async def test_gaps_are_kept_from_the_registration_that_asks_for_them(daemon: Daemon) -> None:
    tenant = await websocket_tenant(daemon, cfg={"include_uid": True})
    await post(tenant, 1, 50)
    for cfg, first in ((TELLING, 51), ({"include_uid": True}, 0)):
        content = {"serialization": {"type": "v2", "cfg": cfg}}
        put = await tenant.application.send("PUT", "/v2/notification/websocket", content)
        assert put.status == 200
        if first:
            await post(tenant, first, first + 4)
            async with open_websocket(daemon.port, key_of(tenant.application), answers_pings=False) as socket:
                (gap,) = (await socket.message())["gaps"]
                assert gap["count"] == 5  # what went for these five, and not what had gone before
    async with open_websocket(daemon.port, key_of(tenant.application)) as socket:
        assert list(await socket.message()) == ["notifications"]


@pytest.mark.parametrize("given", [True, "true", False, "False"])
async def test_the_registration_says_what_was_asked_for(daemon: Daemon, given: object) -> None:
    tenant = await websocket_tenant(daemon, cfg={"include_gaps": given})
    found = (await tenant.application.send("GET", "/v2/notification/websocket")).content()
    assert found["serialization"]["cfg"]["include_gaps"] is (str(given).lower() == "true")
    refused = await tenant.application.send(
        "PUT", "/v2/notification/websocket", {"serialization": {"cfg": {"include_gaps": "perhaps"}}}
    )
    assert refused.status == 400
    assert refused.content()["fields"][0]["name"] == "serialization.cfg.include_gaps"


async def test_events_that_expire_are_told_when_nothing_follows_them(tmp_path: Path) -> None:
    config = DAEMON_CONFIG + "event_lifetime_s = 0.5\n"
    with open_daemon(tmp_path, config=config) as daemon, log_shown(daemon):
        tenant = await websocket_tenant(daemon, cfg=TELLING)
        await post(tenant, 1, 3)
        await trio.sleep(0.8)
        async with open_websocket(daemon.port, key_of(tenant.application)) as application:
            message = await application.message()
            assert list(message) == ["gaps"]
            assert [(g["first_seq"], g["count"], g["reason"]) for g in message["gaps"]] == [(1, 3, "expired")]
            await application.stay_silent(QUIET_S)
        async with open_websocket(daemon.port, key_of(tenant.application)) as application:
            await application.stay_silent(QUIET_S)  # it was confirmed


async def test_refused_events_are_told_to_their_receiver(tmp_path: Path) -> None:
    config = DAEMON_CONFIG + 'overflow = "reject"\n'
    with open_daemon(tmp_path, config=config) as daemon, log_shown(daemon):
        tenant = await websocket_tenant(daemon, cfg=TELLING)
        rejected = 0
        for number in range(1, 61):
            rejected += (await tenant.gateway.post_events([small(number)]))["rejected"]
        told = Told()
        async with open_websocket(daemon.port, key_of(tenant.application)) as application:
            with trio.fail_after(10):
                while told.missing < rejected:
                    told.take(await application.message())
        assert rejected > 0
        last_seq = len(told.numbers)
        assert list(told.gaps) == [(last_seq + 1, last_seq, "rejected")]
        assert len(told.numbers) + told.missing == 60


async def test_gaps_outlive_a_killed_daemon(tmp_path: Path) -> None:
    with open_daemon(tmp_path, config=DAEMON_CONFIG, exit_status=-signal.SIGKILL) as daemon:
        tenant = await websocket_tenant(daemon, cfg=TELLING)
        await post(tenant, 1, 100)
        daemon.send_signal(signal.SIGKILL)
        await daemon.wait()
    with open_daemon(tmp_path, config=DAEMON_CONFIG) as daemon, log_shown(daemon):
        tenant.gateway.port = daemon.port
        await post(tenant, 101, 102)
        told = Told()
        async with open_websocket(daemon.port, key_of(tenant.application)) as application:
            with trio.fail_after(10):
                while 102 not in told.numbers.values():
                    told.take(await application.message())
        assert len(told.numbers) + told.missing == 102


async def test_a_damaged_journal_is_told_where_its_events_are_missing(tmp_path: Path) -> None:
    config = DAEMON_CONFIG.replace("queue_bytes = 4096", "queue_bytes = 4000000")
    with open_daemon(tmp_path, config=config) as daemon:
        tenant = await websocket_tenant(daemon, cfg=TELLING)
        for first in range(1, 301, 100):
            await tenant.gateway.post_events([small(number) for number in range(first, first + 100)])
    spoil_event(daemon.data / "journal", b'"max-age":150')
    with open_daemon(tmp_path, config=config) as daemon, log_shown(daemon):
        told = Told()
        messages = []
        async with open_websocket(daemon.port, key_of(tenant.application)) as application:
            with trio.fail_after(10):
                while 300 not in told.numbers.values():
                    messages.append(await application.message())
                    told.take(messages[-1])
        assert list(told.numbers.values()) == [*range(1, 101), *range(201, 301)]
        assert [gap["count"] for gap in told.gaps.values()] == [100]
        assert [list(message) for message in messages] == [["notifications"], ["gaps", "notifications"]]
        metrics = (await User(daemon.port).send("GET", "/metrics")).body.decode()
        assert 'dispatcher_records_dropped_total{reason="corrupt"} 100.0' in metrics
        assert "dispatcher_journal_damaged_groups 1.0" in metrics
        assert "reason=corrupt count=100 first_seq=101 last_seq=200 is_exact=True" in daemon.log.read_text()


def spoil_event(journal: Path, text: bytes) -> None:
    for path in journal.glob("*.seg"):
        content = path.read_bytes()
        at = content.find(text)
        if at >= 0:
            path.write_bytes(content[:at] + b"x" + content[at + 1 :])
            return
    raise AssertionError("no segment has this event")
