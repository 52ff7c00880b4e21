"""What every registry must do for devices.  Each test runs over SQLite and over dictionaries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.registries import OpenRegistry, make_application, open_memory, open_sqlite

from dispatcher.core import devices
from dispatcher.model import (
    DeviceChange,
    DeviceReport,
    Kind,
    Registration,
    RegistrationUpdate,
    Resource,
    Subscription,
)
from dispatcher.registry.interface import DueDevices, Registry


@pytest.fixture(params=[open_memory, open_sqlite], ids=["memory", "sqlite"])
async def registry(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Registry]:
    open_: OpenRegistry = request.param
    async with open_(tmp_path) as opened:
        yield opened


async def make_account(registry: Registry, name: str = "acme") -> int:
    return (await registry.ensure_account(name, "free")).id


def registered(account_id: int, ep: str, at_ms: int = 0, **told: object) -> DeviceReport:
    change = DeviceChange(0, Kind.REGISTRATION, ep, None, Registration(ep=ep, **told))  # type: ignore[arg-type]
    return DeviceReport(account_id=account_id, gateway_id="k_g", change=change, heard_unix_ms=at_ms)


def updated(account_id: int, ep: str, at_ms: int = 0, **told: object) -> DeviceReport:
    told_all = RegistrationUpdate(ep=ep, **told)  # type: ignore[arg-type]
    change = DeviceChange(0, Kind.REG_UPDATE, ep, None, told_all)
    return DeviceReport(account_id=account_id, gateway_id=None, change=change, heard_unix_ms=at_ms)


def left(account_id: int, ep: str, at_ms: int = 0) -> DeviceReport:
    change = DeviceChange(0, Kind.DE_REGISTRATION, ep)
    return DeviceReport(account_id=account_id, gateway_id="k_g", change=change, heard_unix_ms=at_ms)


async def test_a_device_comes_back_as_its_registration_told(registry: Registry) -> None:
    account_id = await make_account(registry)
    resources = (Resource(path="/3/0/1", if_="i", rt="r", ct="c", obs=True), Resource(path="/ü"))
    report = registered(account_id, "d", 5, original_ep="o", ept="t", q=True, resources=resources, lt=60)
    assert await registry.keep_devices([report], 10) == ()
    assert await registry.device(account_id, "d") == devices.after(report, None)
    assert await registry.device(account_id, "other") is None


async def test_reports_hold_in_their_order(registry: Registry) -> None:
    account_id = await make_account(registry)
    await registry.keep_devices([registered(account_id, "d", 1, ept="a", lt=9)], 10)
    await registry.keep_devices(
        [updated(account_id, "d", 2, q=True), updated(account_id, "d", 3, ept="b")], 10
    )
    found = await registry.device(account_id, "d")
    assert found is not None
    assert (found.ept, found.q, found.heard_unix_ms, found.expires_unix_ms) == ("b", True, 3, 9_003)
    assert found.gateway_id is None


async def test_a_device_is_its_own_account_s(registry: Registry) -> None:
    ours, theirs = await make_account(registry), await make_account(registry, "other")
    await registry.keep_devices([registered(ours, "d")], 10)
    assert await registry.device(theirs, "d") is None
    await registry.keep_devices([left(theirs, "d")], 10)
    found = await registry.device(ours, "d")
    assert found is not None
    assert not found.is_gone


async def test_a_device_that_left_is_known_to_be_gone(registry: Registry) -> None:
    account_id = await make_account(registry)
    await registry.keep_devices([registered(account_id, "d", lt=1), left(account_id, "d", 7)], 10)
    found = await registry.device(account_id, "d")
    assert found is not None
    assert found.is_gone
    assert await registry.due_devices(10**15, 10) == DueDevices(devices=(), next_unix_ms=None)


async def test_a_new_device_takes_the_place_of_a_gone_one_and_then_of_the_oldest(registry: Registry) -> None:
    account_id, other = await make_account(registry), await make_account(registry, "other")
    await registry.keep_devices([registered(other, "z")], 3)
    await registry.keep_devices([registered(account_id, ep, at) for at, ep in enumerate("abc")], 3)
    await registry.keep_devices([left(account_id, "c", 9), registered(account_id, "d", 10)], 3)

    async def known() -> str:
        return "".join([ep for ep in "abcdefz" if await registry.device(account_id, ep) is not None])

    assert await known() == "abd"
    await registry.keep_devices([updated(account_id, "a", 11), registered(account_id, "e", 12)], 3)
    assert await known() == "ade"
    await registry.keep_devices([registered(account_id, "a", 13)], 3)  # a known one needs no room
    assert await known() == "ade"
    assert await registry.device(other, "z") is not None


async def test_due_devices_come_earliest_first_with_the_next_moment(registry: Registry) -> None:
    one, two = await make_account(registry), await make_account(registry, "other")
    reports = [
        registered(one, "late", 0, lt=9),
        registered(one, "never"),
        registered(two, "b", 0, lt=2),
        registered(one, "a", 1_000, lt=1),
        registered(one, "c", 0, lt=1),
    ]
    await registry.keep_devices(reports, 10)
    assert await registry.due_devices(999, 10) == DueDevices(devices=(), next_unix_ms=1_000)
    due = await registry.due_devices(2_000, 10)
    assert [device.ep for device in due.devices] == ["c", "a", "b"]
    assert due.next_unix_ms == 9_000
    assert [device.ep for device in (await registry.due_devices(2_000, 1)).devices] == ["c"]
    assert await registry.due_devices(2_000, 10) == due


async def test_types_are_loaded_of_devices_that_are_there(registry: Registry) -> None:
    account_id = await make_account(registry)
    await registry.keep_devices(
        [
            registered(account_id, "new", 9, ept="N"),
            registered(account_id, "old", 1, ept="O"),
            registered(account_id, "plain"),
            registered(account_id, "gone", 5, ept="G"),
            left(account_id, "gone", 6),
        ],
        10,
    )
    assert (await registry.load()).device_types == [(account_id, "old", "O"), (account_id, "new", "N")]


async def test_a_full_registration_takes_away_the_device_s_manual_subscriptions(registry: Registry) -> None:
    first, second = await make_application(registry), await make_application(registry)
    stranger = await make_application(registry, "other")
    kept = [Subscription(first.id, "e", "/1"), Subscription(stranger.id, "d", "/1")]
    gone = [
        Subscription(first.id, "d", "/1"),
        Subscription(first.id, "d", "/2"),
        Subscription(second.id, "d", "/1"),
    ]
    for subscription in kept + gone:
        await registry.add_subscription(subscription, 5)
    assert await registry.keep_devices([updated(first.account_id, "d"), left(first.account_id, "d")], 9) == ()
    assert list(await registry.keep_devices([registered(first.account_id, "d")], 9)) == gone
    assert list((await registry.load()).subscriptions) == kept
    for path in "abcd":  # and there is room for them again
        await registry.add_subscription(Subscription(first.id, "f", f"/{path}"), 5)
