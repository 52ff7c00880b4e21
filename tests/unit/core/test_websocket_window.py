"""The window of pings against a plain model of it, and the clock's rules at chosen moments."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher import limits
from dispatcher.core.websocket_window import (
    Close,
    Confirmation,
    Liveness,
    LivenessRules,
    Ping,
    Verdict,
    WaitUntil,
    Window,
    WindowLimits,
    decide,
    window_limits,
)
from dispatcher.model import Position

RULES = LivenessRules(ping_interval_s=30.0, pong_timeout_s=5.0, ack_timeout_s=120.0, inactivity_s=86_400.0)


def liveness(
    *,
    is_unconfirmed: bool = False,
    alive_s: float = 0.0,
    pinged_s: float = 0.0,
    idle_pinged_s: float | None = None,
    active_s: float = 0.0,
) -> Liveness:
    return Liveness(
        is_unconfirmed=is_unconfirmed,
        alive_s=alive_s,
        pinged_s=pinged_s,
        idle_pinged_s=idle_pinged_s,
        active_s=active_s,
    )


def test_a_pong_confirms_every_ping_up_to_its_own():
    window = Window(7)
    pings = [window.push(Position(1, seq), 100, 10) for seq in (10, 20, 30)]
    assert window.confirm(pings[1]) == Confirmation(Position(1, 20), 20)
    assert (window.events, window.bytes_count, window.is_empty) == (10, 100, False)
    assert window.confirm(pings[2]) == Confirmation(Position(1, 30), 10)
    assert (window.events, window.bytes_count, window.is_empty) == (0, 0, True)


def test_a_pong_that_was_overtaken_confirms_nothing():
    window = Window(7)
    first, second = (window.push(Position(1, seq), 1, 1) for seq in (1, 2))
    window.confirm(second)
    assert window.confirm(first) is None
    assert window.confirm(second) is None


@pytest.mark.parametrize("payload", [b"", b"abc", b"\0\0\0\x06", b"\0\0\0\x08", b"\0\0\0\x07\0", b"\xff" * 4])
def test_a_payload_that_is_not_in_flight_confirms_nothing(payload):
    window = Window(7)
    assert window.push(Position(1, 1), 1, 1) == b"\0\0\0\x07"
    assert window.confirm(payload) is None
    assert window.events == 1


def test_the_counter_wraps_at_32_bits():
    window = Window(2**32 - 2)
    pings = [window.push(Position(1, seq), 1, 1) for seq in (1, 2, 3, 4)]
    assert pings == [b"\xff\xff\xff\xfe", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x01"]
    assert window.confirm(pings[2]) == Confirmation(Position(1, 3), 3)
    assert window.confirm(pings[0]) is None
    assert window.confirm(pings[3]) == Confirmation(Position(1, 4), 1)


def test_an_idle_ping_counts_along_and_confirms_no_position():
    window = Window(0)
    idle = window.push_idle_ping()
    assert window.awaits_idle_pong
    assert window.events == 0
    batch = window.push(Position(1, 5), 10, 5)
    assert int.from_bytes(batch, "big") == int.from_bytes(idle, "big") + 1
    assert window.confirm(idle) == Confirmation(None, 0)
    assert not window.awaits_idle_pong
    assert window.confirm(batch) == Confirmation(Position(1, 5), 5)


def test_the_pong_of_a_batch_answers_the_idle_ping_before_it():
    window = Window(0)
    window.push_idle_ping()
    batch = window.push(Position(1, 5), 10, 5)
    assert window.confirm(batch) == Confirmation(Position(1, 5), 5)
    assert not window.awaits_idle_pong


def test_an_idle_ping_after_unconfirmed_batches_is_a_mistake():
    window = Window(0)
    window.push(Position(1, 1), 1, 1)
    with pytest.raises(AssertionError):
        window.push_idle_ping()


def test_an_empty_window_has_room_for_a_batch_of_any_size():
    bounds = WindowLimits(bytes_max=100, events_max=10, pings_max=2)
    window = Window(0)
    assert window.has_room(bounds, 10**9, 10**6)
    window.push_idle_ping()
    assert window.has_room(bounds, 10**9, 10**6)


@pytest.mark.parametrize(
    ("bytes_count", "events", "has_room"), [(50, 5, True), (51, 5, False), (50, 6, False), (1, 1, True)]
)
def test_room_ends_at_the_first_bound_met(bytes_count, events, has_room):
    window = Window(0)
    window.push(Position(1, 5), 50, 5)
    bounds = WindowLimits(bytes_max=100, events_max=10, pings_max=2)
    assert window.has_room(bounds, bytes_count, events) is has_room


def test_room_ends_at_the_number_of_pings_in_flight():
    bounds = WindowLimits(bytes_max=100, events_max=10, pings_max=2)
    window = Window(0)
    first = window.push(Position(1, 1), 1, 1)
    assert window.has_room(bounds, 1, 1)
    window.push(Position(1, 2), 1, 1)
    assert not window.has_room(bounds, 1, 1)
    window.confirm(first)
    assert window.has_room(bounds, 1, 1)


def test_the_bounds_are_16_mib_four_full_batches_and_32_pings():
    assert window_limits(10_000) == WindowLimits(bytes_max=16 * limits.MIB, events_max=40_000, pings_max=32)


class PlainWindow:
    """The obviously right window: a list of (counter, position, bytes, events)."""

    def __init__(self, counter: int) -> None:
        self.next = counter
        self.sent: list[tuple[int, Position | None, int, int]] = []

    def push(self, position: Position | None, bytes_count: int, events: int) -> bytes:
        counter = self.next
        self.sent.append((counter, position, bytes_count, events))
        self.next = (counter + 1) % 2**32
        return counter.to_bytes(4, "big")

    def confirm(self, payload: bytes) -> Confirmation | None:
        counters = [counter.to_bytes(4, "big") for counter, *_ in self.sent]
        if payload not in counters:
            return None
        count = counters.index(payload) + 1
        done, self.sent = self.sent[:count], self.sent[count:]
        positions = [position for _, position, *_ in done if position is not None]
        return Confirmation(positions[-1] if positions else None, sum(events for *_, events in done))


OPERATION = st.one_of(
    st.tuples(st.just("push"), st.integers(0, 5000), st.integers(1, 50)),
    st.tuples(st.just("idle"), st.just(0), st.just(0)),
    st.tuples(st.just("pong"), st.integers(-3, 12), st.just(0)),
    st.tuples(st.just("forged"), st.integers(0, 2**32 - 1), st.just(0)),
)


@given(
    start=st.one_of(st.integers(0, 20), st.integers(2**32 - 20, 2**32 - 1)),
    operations=st.lists(OPERATION, max_size=60),
)
def test_the_window_does_what_the_plain_model_does(start, operations):
    window, model = Window(start), PlainWindow(start)
    seq = 0
    for name, number, events in operations:
        if name == "push":
            seq += events
            position = Position(1, seq)
            assert window.push(position, number, events) == model.push(position, number, events)
        elif name == "idle":
            if window.is_empty:
                assert window.push_idle_ping() == model.push(None, 0, 0)
        else:
            counter = number if name == "forged" else (model.next - number) % 2**32
            payload = counter.to_bytes(4, "big")
            assert window.confirm(payload) == model.confirm(payload)
        assert window.events == sum(events for *_, events in model.sent)
        assert window.bytes_count == sum(bytes_count for _, _, bytes_count, _ in model.sent)
        assert window.is_empty == (not model.sent)
        assert window.awaits_idle_pong == (bool(model.sent) and model.sent[0][1] is None)


# --- the clock ------------------------------------------------------------------------


def test_an_idle_socket_is_pinged_when_the_interval_is_over():
    assert decide(liveness(), RULES, 29.9) == WaitUntil(30.0)
    assert decide(liveness(), RULES, 30.0) == Ping()


def test_the_interval_begins_at_the_last_ping_or_pong():
    assert decide(liveness(pinged_s=20.0), RULES, 30.0) == WaitUntil(50.0)
    assert decide(liveness(alive_s=25.0), RULES, 30.0) == WaitUntil(55.0)


def test_an_unanswered_idle_ping_ends_the_socket_after_5_s():
    state = liveness(pinged_s=30.0, idle_pinged_s=30.0)
    assert decide(state, RULES, 34.9) == WaitUntil(35.0)
    ending = decide(state, RULES, 35.0)
    assert isinstance(ending, Close)
    assert ending.verdict is Verdict.PING_TIMEOUT
    assert ending.text == "ping timeout: no pong within 5 s"


def test_no_idle_ping_goes_out_while_messages_are_unconfirmed():
    state = liveness(is_unconfirmed=True)
    assert decide(state, RULES, 100.0) == WaitUntil(115.0)


def test_unconfirmed_messages_end_the_socket_120_s_after_the_last_sign_of_life():
    state = liveness(is_unconfirmed=True, alive_s=50.0)
    assert decide(state, RULES, 169.9) == WaitUntil(170.0)
    ending = decide(state, RULES, 170.0)
    assert isinstance(ending, Close)
    assert ending.verdict is Verdict.ACK_TIMEOUT
    assert ending.text.startswith("ping timeout")


def test_an_unanswered_idle_ping_keeps_its_limit_when_messages_follow():
    state = liveness(is_unconfirmed=True, alive_s=31.0, pinged_s=31.0, idle_pinged_s=30.0)
    assert decide(state, RULES, 34.0) == WaitUntil(35.0)
    assert isinstance(decide(state, RULES, 35.0), Close)


@pytest.mark.parametrize("is_unconfirmed", [False, True])
def test_24_h_without_a_message_end_the_socket(is_unconfirmed):
    state = liveness(is_unconfirmed=is_unconfirmed, alive_s=86_390.0, pinged_s=86_390.0)
    assert decide(state, RULES, 86_399.0) == WaitUntil(86_400.0)
    ending = decide(state, RULES, 86_400.0)
    assert isinstance(ending, Close)
    assert ending.verdict is Verdict.INACTIVITY


@given(
    is_unconfirmed=st.booleans(),
    times=st.lists(st.floats(0, 200_000), min_size=4, max_size=4),
    has_idle_ping=st.booleans(),
    now_s=st.floats(0, 200_000),
)
def test_waiting_always_ends_later_than_now(is_unconfirmed, times, has_idle_ping, now_s):
    alive_s, pinged_s, idle_pinged_s, active_s = times
    state = liveness(
        is_unconfirmed=is_unconfirmed,
        alive_s=alive_s,
        pinged_s=pinged_s,
        idle_pinged_s=idle_pinged_s if has_idle_ping else None,
        active_s=active_s,
    )
    verdict = decide(state, RULES, now_s)
    if isinstance(verdict, WaitUntil):
        assert now_s < verdict.at_s < math.inf
