"""Who loses records when the memory of all queues is full."""

from __future__ import annotations

from dispatcher.core.memory_pressure import Drop, Holding, plan_relief, relief_bytes
from dispatcher.limits import MIB, RELIEF_BYTES_PER_CHANNEL


def test_the_owner_that_holds_most_loses_first() -> None:
    holdings = [
        Holding(1, 10, 5 * MIB, 5 * MIB),
        Holding(2, 20, 4 * MIB, 4 * MIB),
        Holding(3, 20, 4 * MIB, 4 * MIB),
    ]
    assert plan_relief(holdings, MIB) == (Drop(2, MIB),)


def test_of_that_owner_the_channel_with_most_to_lose_goes_first() -> None:
    holdings = [Holding(1, 10, 9 * MIB, 1 * MIB), Holding(2, 10, 5 * MIB, 4 * MIB)]
    assert plan_relief(holdings, MIB) == (Drop(2, MIB),)


def test_what_is_in_flight_is_never_chosen() -> None:
    assert plan_relief([Holding(1, 10, 50 * MIB, 0)], MIB) == ()
    holdings = [Holding(1, 10, 50 * MIB, 0), Holding(2, 20, MIB, 300)]
    assert plan_relief(holdings, MIB) == (Drop(2, 300),)


def test_nothing_held_is_nothing_to_drop() -> None:
    assert plan_relief([], MIB) == ()
    assert plan_relief([Holding(1, 10, 0, 0)], MIB) == ()


def test_a_large_channel_loses_a_share_at_a_time() -> None:
    assert plan_relief([Holding(1, 10, 160 * MIB, 160 * MIB)], MIB) == (Drop(1, 10 * MIB),)


def test_small_channels_of_one_owner_add_up() -> None:
    holdings = [Holding(channel, 10, 1_000, 1_000) for channel in range(10)]
    assert plan_relief(holdings, 2_500) == (Drop(0, 1_000), Drop(1, 1_000), Drop(2, 1_000))


def test_owners_are_brought_down_to_each_other() -> None:
    holdings = [Holding(1, 10, 4 * MIB, 4 * MIB), Holding(2, 20, 3 * MIB, 3 * MIB)]
    drops = {drop.channel: drop.record_bytes for drop in plan_relief(holdings, 3 * MIB)}
    assert drops == {1: 2 * MIB, 2: 1 * MIB}


def test_many_channels_are_relieved_by_more_at_a_time() -> None:
    assert relief_bytes(3) == MIB
    assert relief_bytes(100_000) == 100_000 * RELIEF_BYTES_PER_CHANNEL
