"""The directory's decisions about one device."""

from __future__ import annotations

import pytest

from dispatcher.core.devices import after, check_subscribable, knows_path
from dispatcher.errors import NotFound, ValidationError
from dispatcher.model import (
    Device,
    DeviceChange,
    DeviceReport,
    Kind,
    Registration,
    RegistrationUpdate,
    Resource,
)

KNOWN = Device(
    account_id=1,
    ep="d",
    gateway_id="k_1",
    original_ep="o",
    ept="Light",
    q=True,
    resources=(Resource(path="/3/0/1"),),
    lifetime_s=60,
    heard_unix_ms=1_000,
)


def report(kind: Kind, told: Registration | RegistrationUpdate | None = None) -> DeviceReport:
    change = DeviceChange(0, kind, "d", None, told)
    return DeviceReport(account_id=1, gateway_id="k_2", change=change, heard_unix_ms=9_000)


def test_a_registration_says_all_there_is_to_say() -> None:
    found = after(report(Kind.REGISTRATION, Registration(ep="d", lt=5)), KNOWN)
    assert found == Device(account_id=1, ep="d", gateway_id="k_2", lifetime_s=5, heard_unix_ms=9_000)
    assert found.expires_unix_ms == 14_000


def test_an_update_changes_what_it_names_and_keeps_the_rest() -> None:
    found = after(report(Kind.REG_UPDATE, RegistrationUpdate(ep="d", ept="Lamp")), KNOWN)
    assert (found.ept, found.q, found.resources, found.original_ep) == ("Lamp", True, KNOWN.resources, "o")
    assert (found.gateway_id, found.expires_unix_ms) == ("k_2", 69_000)


@pytest.mark.parametrize("known", [None, Device(account_id=1, ep="d", ept="Old", is_gone=True)])
def test_an_update_of_what_is_not_there_is_the_first_thing_heard(known: Device | None) -> None:
    found = after(report(Kind.REG_UPDATE, RegistrationUpdate(ep="d", q=True)), known)
    assert found == Device(account_id=1, ep="d", gateway_id="k_2", q=True, heard_unix_ms=9_000)


@pytest.mark.parametrize("lt", [None, 0])
def test_without_a_lifetime_a_registration_does_not_run_out(lt: int | None) -> None:
    assert after(report(Kind.REGISTRATION, Registration(ep="d", lt=lt)), KNOWN).expires_unix_ms is None


@pytest.mark.parametrize("kind", [Kind.DE_REGISTRATION, Kind.REGISTRATION_EXPIRED])
@pytest.mark.parametrize("known", [None, KNOWN])
def test_a_device_that_leaves_is_known_to_be_gone(kind: Kind, known: Device | None) -> None:
    found = after(report(kind), known)
    assert found.is_gone
    assert (found.resources, found.expires_unix_ms) == ((), None)


@pytest.mark.parametrize(
    ("path", "is_known"),
    [("/3/0/1", True), ("/3/0", True), ("/3", True), ("/3/0/1/0", True), ("/3/0/11", False), ("/4", False)],
)
def test_paths_above_and_below_a_registered_one_are_known(path: str, is_known: bool) -> None:
    assert knows_path(KNOWN, path) is is_known


def test_a_device_that_registered_nothing_may_have_anything() -> None:
    assert knows_path(Device(account_id=1, ep="d"), "/9/9/9")


def test_only_what_is_known_not_to_exist_cannot_be_subscribed() -> None:
    check_subscribable(None, "d", "/1")
    check_subscribable(KNOWN, "d", "/3/0/1")
    for device, path in ((KNOWN, "/4/0/1"), (Device(account_id=1, ep="d", is_gone=True), "/3/0/1")):
        with pytest.raises(NotFound):
            check_subscribable(device, "d", path)


@pytest.mark.parametrize(("ep", "path", "name"), [("d" * 65, "/1", "ep"), ("d", "/" + "1" * 255, "path")])
def test_names_that_no_device_can_have_are_refused(ep: str, path: str, name: str) -> None:
    check_subscribable(None, "d" * 64, "/" + "1" * 254)
    with pytest.raises(ValidationError, match=name):
        check_subscribable(None, ep, path)
