"""Routes in three arrays are the same sequence of routes."""

from __future__ import annotations

from array import array

import pytest

from dispatcher.core.routes import Route, Routes, fan_out_plainly


def indices(*values: int) -> array[int]:
    return array("I", values)


@pytest.mark.parametrize(
    "routes",
    [
        [],
        [Route(7)],
        [Route(7), Route(2**64 - 1)],
        [Route(7, indices(0, 2)), Route(8, indices()), Route(9, indices(1))],
        [Route(7), Route(8, indices(2)), Route(9)],
    ],
)
def test_routes_come_back_as_they_were(routes: list[Route]) -> None:
    packed = Routes.of(routes, records=3)
    assert (list(packed), len(packed), packed[:]) == (routes, len(routes), routes)
    assert packed == routes
    assert [packed[at] for at in range(-len(routes), len(routes))] == routes * 2
    with pytest.raises(IndexError):
        packed[len(routes)]


def test_routes_that_are_arrays_are_not_made_again() -> None:
    packed = Routes.of([Route(7, indices(1))], records=2)
    assert Routes.of(packed, records=2) is packed


def test_a_route_with_the_indices_of_all_records_needs_none() -> None:
    assert list(Routes.of([Route(7, indices(0, 1)), Route(8, indices(1))], records=2)) == [
        Route(7),
        Route(8, indices(1)),
    ]


def test_all_records_to_all_channels_take_no_indices() -> None:
    assert Routes.of([Route(7), Route(8)], records=1000).indices is None


def test_routes_differ_by_channel_and_by_indices() -> None:
    packed = Routes.of([Route(7, indices(1))], records=2)
    assert packed != [Route(8, indices(1))]
    assert packed != [Route(7, indices(0))]
    assert packed != []


def test_groups_fan_out_in_the_order_of_their_events() -> None:
    plan = fan_out_plainly((1, 0, 2, 1), [array("Q", (5, 6)), array("Q", (6,)), array("Q")])
    assert list(plan.routes) == [Route(6, indices(0, 1, 3)), Route(5, indices(1))]
    assert plan.unrouted == 1
