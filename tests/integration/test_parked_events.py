"""A callback that refuses an event, a real daemon, and its operator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from support.daemon import Daemon, Tenant, User, command, new_tenant, open_daemon
from support.metrics import assert_balanced, scraped
from support.receiver import Answer, Receiver, Request, answer, open_receiver

pytestmark = pytest.mark.slow

FLAGS = ("--allow-private-callbacks",)
CONFIG = '[tiers.commercial]\nretry_initial_s = 0.05\nrefused_events = "park"\n'
PAYLOAD = "c2VjcmV0LW9mLWEtZGV2aWNl"
KINDS: dict[str, dict[str, Any]] = {
    "notifications": {"ep": "bad-1", "path": "/1/2", "payload": PAYLOAD, "ct": "text/plain", "max-age": 60},
    "registrations": {"ep": "bad-2", "ept": "t", "q": True, "resources": [{"path": "/1", "rt": "x"}]},
    "reg-updates": {"ep": "bad-3", "ept": "t", "resources": []},
    "de-registrations": {"ep": "bad-4"},
    "registrations-expired": {"ep": "bad-5"},
    "async-responses": {"id": "bad-6", "status": 200, "payload": PAYLOAD, "ct": "text/plain"},
}  # fmt: skip


class Picky:
    """Answers 400 to a batch with anything bad in it, until it is mended."""

    def __init__(self) -> None:
        self.is_mended = False
        self.taken: list[bytes] = []

    def __call__(self, request: Request) -> Answer:
        if b"bad-" in request.body and not self.is_mended:
            return answer(400)
        self.taken.append(request.body)
        return answer(200)

    def events(self) -> list[tuple[str, Any]]:
        messages = [json.loads(body) for body in self.taken]
        return [(kind, event) for message in messages for kind in message for event in message[kind]]


async def with_callback(daemon: Daemon, receiver: Receiver) -> Tenant:
    tenant = await new_tenant(daemon)
    assert (await tenant.application.send("PUT", "/v2/subscriptions", [{}])).status == 204
    registered = await tenant.application.send("PUT", "/v2/notification/callback", {"url": receiver.url})
    assert registered.status == 204
    return tenant


async def post_kinds(tenant: Tenant) -> None:
    """All kinds straight to the application, each between two events that are in order."""
    assert tenant.application.key is not None
    path = f"/gateway/v1/applications/{tenant.application.key.application}/events"
    good = [{"ep": f"good-{number}", "path": "/1", "payload": ""} for number in range(len(KINDS) + 1)]
    for number, (kind, event) in enumerate(KINDS.items()):
        message: dict[str, list[Any]] = {"notifications": [good[number]]}
        message.setdefault(kind, []).append(event)
        assert (await tenant.gateway.send("POST", path, message)).status == 202
    assert (await tenant.gateway.send("POST", path, {"notifications": [good[-1]]})).status == 202


async def until_parked(operator: User, count: int) -> None:
    with trio.fail_after(30):
        while True:
            shown = (await operator.send("GET", "/admin/v1/channels/1")).content()
            if shown["parked"]["events"] == count and shown["records"] == 0:
                return
            await trio.sleep(0.05)


async def parked(daemon: Daemon, operator: User, *arguments: str) -> str:
    done = await command(daemon, operator, "parked", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


async def test_every_kind_is_parked_survives_a_restart_and_comes_when_it_is_given_back(
    tmp_path: Path,
) -> None:
    picky = Picky()
    async with open_receiver(otherwise=picky) as receiver:
        with open_daemon(tmp_path, *FLAGS, config=CONFIG) as daemon:
            operator = await daemon.user("admin")
            tenant = await with_callback(daemon, receiver)
            await post_kinds(tenant)
            await until_parked(operator, len(KINDS))
            good = [event["ep"] for kind, event in picky.events() if kind == "notifications"]
            assert good == [f"good-{number}" for number in range(len(KINDS) + 1)]
            metrics = await scraped(daemon)
            assert metrics["dispatcher_records_parked_total"] == len(KINDS)
            assert_balanced(metrics)
            page = await operator.send("GET", "/admin/v1/channels/1/parked?limit=2")
            assert [one["status"] for one in page.content()["events"]] == [400, 400]
            assert page.content()["next"] == page.content()["events"][1]["id"]
            text = daemon.log.read_text()
            assert text.count("event.parked channel=1") == len(KINDS)
            assert PAYLOAD not in text
        with open_daemon(tmp_path, *FLAGS, config=CONFIG) as daemon:
            again = User(daemon.port, operator.key)
            await until_parked(again, len(KINDS))
            listed = await parked(daemon, again, "list", "1")
            assert ["bad-" in line for line in listed.splitlines()] == [False] + [True] * len(KINDS)
            assert PAYLOAD not in listed
            picky.is_mended = True
            picky.taken.clear()
            first = json.loads(await parked(daemon, again, "list", "1", "--json"))[0]["id"]
            assert json.loads(
                await parked(daemon, again, "give-back", "1", "--event", str(first), "--json")
            ) == {"events": 1}
            assert await parked(daemon, again, "give-back", "1") == f"1: {len(KINDS) - 1} given back\n"
            await until_parked(again, 0)
            with trio.fail_after(10):
                while len(picky.events()) < len(KINDS):  # noqa: ASYNC110
                    await trio.sleep(0.02)
            for (kind, event), (wanted, sent) in zip(picky.events(), KINDS.items(), strict=True):
                assert kind == wanted
                got = {"ep": event} if isinstance(event, str) else event
                assert {name: value for name, value in got.items() if name in sent} == sent


async def test_what_is_discarded_never_comes(tmp_path: Path) -> None:
    picky = Picky()
    async with open_receiver(otherwise=picky) as receiver:
        with open_daemon(tmp_path, *FLAGS, config=CONFIG) as daemon:
            operator = await daemon.user("admin")
            tenant = await with_callback(daemon, receiver)
            await tenant.gateway.post_events(
                [KINDS["notifications"], {"ep": "good", "path": "/1", "payload": ""}]
            )
            await until_parked(operator, 1)
            assert await parked(daemon, operator, "discard", "1", "--yes") == "1: 1 discarded\n"
            picky.is_mended = True
            given_back = await operator.send("POST", "/admin/v1/channels/1/parked/give-back")
            assert given_back.content() == {"events": 0}
            missing = await operator.send("DELETE", "/admin/v1/channels/1/parked/1")
            assert missing.status == 404
            assert [event["ep"] for _, event in picky.events()] == ["good"]
            forbidden = await tenant.application.send("POST", "/admin/v1/channels/1/parked/give-back")
            assert forbidden.status == 403
