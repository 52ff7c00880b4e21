"""The model of a channel tells a wrong order from one that a full queue and a lost answer make."""

from __future__ import annotations

from simulation.channel_model import ChannelModel


def stored(*numbers: int, refused: int = 0) -> ChannelModel:
    """A channel whose records are these events, in this order, all of them accepted."""
    model = ChannelModel("channel", 1)
    for seq, number in enumerate(numbers, start=1):
        assert model.add((1, seq), number, "device", is_promised=True) is None
        model.expected[number] = None
    if refused:
        model.lose(0, 0, refused)
    return model


def test_two_events_in_the_wrong_order_are_found() -> None:
    assert stored(2, 1).out_of_order([1, 2]) == (1, 2)
    assert stored(2, 1, refused=1).out_of_order([1, 2]) == (1, 2)
    assert stored(1, 2).out_of_order([1, 2]) is None


def test_a_post_that_was_refused_in_part_and_came_again_whole_is_in_order() -> None:
    assert stored(2, 1, 2, 3, refused=1).out_of_order([1, 2, 3]) is None
    assert stored(2, 1, 2).out_of_order([1, 2]) == (1, 2)  # nothing was refused: who stored 2 alone?


def test_what_comes_behind_such_a_post_is_behind_all_of_it() -> None:
    assert stored(2, 3, 1, 2, refused=1).out_of_order([1, 2, 3]) == (2, 3)
