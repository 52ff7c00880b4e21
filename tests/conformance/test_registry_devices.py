"""What every registry must do for devices.  Each test runs over SQLite and over dictionaries."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from support.registries import make_application

from dispatcher import limits
from dispatcher.core import devices
from dispatcher.errors import NotFound
from dispatcher.model import (
    Application,
    DeviceChange,
    DeviceReport,
    DeviceRequest,
    Kind,
    Registration,
    RegistrationUpdate,
    Resource,
    Subscription,
)
from dispatcher.registry.interface import DueDevices, Registry


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


# --- device requests --------------------------------------------------------------------------------


def wanted(application: Application, async_id: str = "a", **rest: object) -> DeviceRequest:
    given = {"wire_id": async_id, "payload": None, **rest}
    return DeviceRequest(
        id=0,
        account_id=application.account_id,
        application_id=application.id,
        ep="d",
        async_id=async_id,
        method="PUT",
        uri="/3/0/1?x=ü",
        accepted_unix_ms=1,
        expires_unix_ms=2,
        **given,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("observe", [None, True, False])
async def test_a_request_comes_back_as_it_was_with_its_device(
    registry: Registry, observe: bool | None
) -> None:
    application = await make_application(registry)
    given = wanted(
        application,
        payload=b"\x00\xff",
        accept="a",
        content_type="c",
        observe=observe,
        is_silent=True,
        retry=7,
    )
    added = await registry.add_device_request(given)
    assert added == replace(given, id=added.id)
    assert (await registry.load()).device_requests == ((added, None),)
    await registry.keep_devices([registered(application.account_id, "d", q=True)], 10)
    device = await registry.device(application.account_id, "d")
    assert (await registry.load()).device_requests == ((added, device),)


async def test_requests_keep_their_order_and_numbers_are_never_given_twice(registry: Registry) -> None:
    application = await make_application(registry)
    first, second, third = [await registry.add_device_request(wanted(application, i)) for i in "abc"]
    assert first.id < second.id < third.id
    await registry.remove_device_requests([third.id, first.id, 99])
    fourth = await registry.add_device_request(wanted(application, "c"))
    assert fourth.id > third.id
    assert [request for request, _ in (await registry.load()).device_requests] == [second, fourth]


async def test_a_request_without_a_wire_id_gets_one_that_no_application_can_choose(
    registry: Registry,
) -> None:
    application = await make_application(registry)
    made = [await registry.add_device_request(wanted(application, wire_id="")) for _ in range(2)]
    assert len({request.wire_id for request in made}) == 2
    for request in made:
        assert request.wire_id.startswith("a.")
        assert len(request.wire_id) <= limits.ASYNC_ID_CHARS_MAX
    assert tuple(request for request, _ in (await registry.load()).device_requests) == tuple(made)


async def test_a_request_belongs_to_the_account_of_its_application(registry: Registry) -> None:
    application = await make_application(registry)
    other = await make_application(registry, "other")
    for bad in (replace(application, id=99), replace(application, account_id=other.account_id)):
        with pytest.raises(NotFound):
            await registry.add_device_request(wanted(bad))
    assert (await registry.load()).device_requests == ()
