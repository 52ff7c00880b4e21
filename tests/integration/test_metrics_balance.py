"""INV-8 from the outside: every scrape balances, whatever goes on between and beside the scrapes.

A fleet posts while receivers take, refuse and come too late; queues overflow, events expire, values
supersede each other, channels are deleted.  Then the same folder is opened again, and more of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from support.daemon import Daemon, Key, Tenant, User, log_shown, open_daemon
from support.plain_websocket import open_websocket
from support.receiver import Receiver, answer, open_receiver
from support.tenants import EVERYTHING, key_of, small

pytestmark = pytest.mark.slow

CONFIG = """
[tiers.commercial]
retry_initial_s = 0.01
retry_max_s = 0.05
[tiers.tiny]
queue_bytes = 4096
[tiers.newest]
queue_bytes = 4096
overflow = "keep-latest"
[tiers.refusing]
queue_bytes = 4096
overflow = "reject"
[tiers.brief]
event_lifetime_s = 0.2
"""
CALLBACK, WEBSOCKET = "/v2/notification/callback", "/v2/notification/websocket"
FORMATS = ("application/openmetrics-text; version=1.0.0", "text/plain")
GONE = ("acked", "expired", "dropped", "superseded", "parked", "deleted")
ROUNDS = 25
WORK_S = 30.0


class Books:
    """What scrapes said; each is held against INV-8 as it comes."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.scrapes = 0
        self.last: dict[str, float] = {}

    async def scrape(self) -> dict[str, float]:
        """One scrape, in the one format and the other by turns."""
        accept = FORMATS[self.scrapes % 2]
        reply = await self._daemon.anyone.send("GET", "/metrics", headers={"Accept": accept})
        read = read_openmetrics if accept.startswith("application/openmetrics") else read_text
        assert reply.headers["content-type"].startswith(accept.partition(";")[0])
        found: dict[str, float] = {}
        for family in read(reply.body.decode()):
            for sample in family.samples:
                name = sample.name.removeprefix("dispatcher_")
                found[name] = found.get(name, 0.0) + sample.value
        came = found["records_queued_total"] + found["records_recovered_total"]
        assert came == sum(found[f"records_{name}_total"] for name in GONE) + found["queue_records"]
        for name, value in self.last.items():
            if name.endswith("_total"):
                assert found[name] >= value, name
        self.scrapes, self.last = self.scrapes + 1, found
        return found

    async def keep_scraping(self) -> None:
        while True:
            await self.scrape()
            await trio.sleep(0.01)


async def tenant_of(daemon: Daemon, tier: str, *, receiver: Receiver | None = None) -> Tenant:
    """A tenant of a tier, with a WebSocket channel or a callback."""
    admin = await daemon.user("admin")
    account = f"of-{tier}-{key_of(admin)[-6:]}"
    for path, content in (
        ("accounts", {"name": account, "tier": tier}),
        ("applications", {"name": "one", "account": account}),
    ):
        assert (await admin.send("POST", f"/admin/v1/{path}", content)).status == 200

    async def user(role: str, **of: str) -> User:
        reply = await admin.send("POST", "/admin/v1/keys", {"role": role, "account": account, **of})
        return User(daemon.port, msgspec.convert(reply.content(), Key))

    gateway, application = await user("gateway"), await user("application", application="one")
    tenant = Tenant(gateway, application, account)
    if receiver is None:
        assert (await application.send("PUT", WEBSOCKET)).status == 201
    else:
        assert (await application.send("PUT", CALLBACK, {"url": receiver.url})).status == 204
    assert (await application.send("PUT", "/v2/subscriptions", EVERYTHING)).status == 204
    return tenant


async def post(tenant: Tenant, rounds: int = ROUNDS) -> None:
    for turn in range(rounds):
        await tenant.gateway.post_events([small(n, path=f"/3/0/{n % 5}") for n in range(10 + turn)])


async def take(daemon: Daemon, tenant: Tenant) -> None:
    async with open_websocket(daemon.port, key_of(tenant.application)) as application:
        while True:
            await application.message()


async def come_and_go(daemon: Daemon) -> None:
    """A channel that is deleted with what it has."""
    tenant = await tenant_of(daemon, "commercial")
    await post(tenant, 3)
    assert (await tenant.application.send("DELETE", WEBSOCKET)).status == 204


async def mixed_load(daemon: Daemon, tenants: dict[str, Any], books: Books) -> None:
    async with trio.open_nursery() as around:
        around.start_soon(books.keep_scraping)
        around.start_soon(take, daemon, tenants["socket"])
        async with trio.open_nursery() as posters:
            for tenant in tenants.values():
                posters.start_soon(post, tenant)
            posters.start_soon(come_and_go, daemon)
        with trio.fail_after(WORK_S):
            while not books.last["records_expired_total"] or books.last["records_acked_total"] < 500:  # noqa: ASYNC110
                await trio.sleep(0.02)
        around.cancel_scope.cancel()


async def test_every_scrape_balances_under_mixed_load_and_after_a_restart(tmp_path: Path) -> None:
    script = [answer(), *[answer(503), answer()] * 10]
    async with open_receiver(*script) as receiver:
        with open_daemon(tmp_path, "--allow-private-callbacks", config=CONFIG) as daemon, log_shown(daemon):
            tenants = {
                tier: await tenant_of(daemon, tier) for tier in ("tiny", "newest", "refusing", "brief")
            }
            tenants["socket"] = await tenant_of(daemon, "commercial")
            tenants["callback"] = await tenant_of(daemon, "commercial", receiver=receiver)
            books = Books(daemon)
            await mixed_load(daemon, tenants, books)
            metrics = await books.scrape()
        for name in ("acked", "expired", "dropped", "superseded", "deleted", "rejected"):
            assert metrics[f"records_{name}_total"] > 0, name
        assert metrics["records_recovered_total"] == 0
        assert books.scrapes > 10
        left = metrics["queue_records"]
        with open_daemon(tmp_path, "--allow-private-callbacks", config=CONFIG) as daemon, log_shown(daemon):
            books = Books(daemon)
            metrics = await books.scrape()
            assert 0 < metrics["records_recovered_total"] <= left
            for tenant in tenants.values():
                tenant.gateway.port = tenant.application.port = daemon.port
            await mixed_load(daemon, tenants, books)
            await books.scrape()
