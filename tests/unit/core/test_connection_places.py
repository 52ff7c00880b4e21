from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.config import ServerSettings
from dispatcher.core.connection_places import AddressPlaces, Place

BLOCKS = [ip_network(block) for block in ServerSettings().unlimited_networks]


def place(places: AddressPlaces, host: str) -> Place:
    found = places.place_of(host)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("203.0.113.1", "203.0.113.1", True),
        ("203.0.113.1", "203.0.113.2", False),
        ("203.0.113.1", "::ffff:203.0.113.1", True),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("0.0.0.1", "::1:0:0:0:1", False),
    ],
)
def test_ipv4_counts_by_address_and_ipv6_by_network(one: str, other: str, is_same: bool) -> None:
    places = AddressPlaces(1)
    assert places.take(place(places, one))
    assert places.take(place(places, other)) is not is_same


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.1.2.3", "::ffff:192.168.1.1", "100.64.0.1", "::1", "fd00::7", "fe80::1%eth0"]
)
def test_proxies_and_one_s_own_machines_are_not_limited(host: str) -> None:
    assert AddressPlaces(1, BLOCKS).place_of(host) is None


@pytest.mark.parametrize("host", ["8.8.8.8", "172.32.0.1", "2001:db8::1", "::ffff:8.8.8.8"])
def test_the_rest_of_the_world_is(host: str) -> None:
    assert AddressPlaces(1, BLOCKS).place_of(host) is not None


def test_without_a_limit_or_an_address_nothing_counts() -> None:
    assert AddressPlaces(0).place_of("8.8.8.8") is None
    assert AddressPlaces(1).place_of("") is None
    assert AddressPlaces(1).place_of("/run/socket") is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4))))
def test_no_address_has_more_than_it_may_and_nothing_is_kept_of_those_that_left(
    steps: list[tuple[bool, int]],
) -> None:
    places, counts = AddressPlaces(3), [0] * 5
    for is_coming, number in steps:
        where = place(places, f"198.51.100.{number}")
        if is_coming:
            assert places.take(where) is (counts[number] < 3)
            counts[number] = min(3, counts[number] + 1)
        elif counts[number]:
            places.leave(where)
            counts[number] -= 1
        assert len(places) == sum(count > 0 for count in counts)
