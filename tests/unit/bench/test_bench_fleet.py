"""The proof of a benchmark: it accepts what arrived whole and in order, and nothing else."""

from __future__ import annotations

import json

import pytest

from bench.load.fleet import EVENT_BYTES, BodyForm, Fleet, NotProven, Proof, count_events

FLEET = Fleet(events=1_000, devices=10, lanes=2)


def posted(fleet: Fleet = FLEET) -> list[dict[str, object]]:
    """All events, lane after lane."""
    return [
        event
        for lane in range(fleet.lanes)
        for body in fleet.bodies(lane, BodyForm.JSON, 100)
        for event in json.loads(body.content)["notifications"]
    ]


def message(events: list[dict[str, object]]) -> bytes:
    return json.dumps({"notifications": events}, separators=(",", ":")).encode()


def prove(events: list[dict[str, object]], fleet: Fleet = FLEET) -> None:
    proof = Proof(fleet)
    for start in range(0, len(events), 300):
        proof.take(message(events[start : start + 300]))
    proof.finish()


def test_everything_in_order_is_proven() -> None:
    prove(posted())


def test_devices_may_arrive_in_any_interleaving() -> None:
    prove(sorted(posted(), key=lambda event: str(event["ep"])))


@pytest.mark.parametrize("place", [0, 1, 500, 998, 999])
def test_a_lost_event_is_noticed(place: int) -> None:
    events = posted()
    del events[place]
    with pytest.raises(NotProven):
        prove(events)


@pytest.mark.parametrize("place", [0, 500, 999])
def test_an_event_that_came_twice_is_noticed(place: int) -> None:
    events = posted()
    events.insert(place, events[place])
    with pytest.raises(NotProven, match="came again"):
        prove(events)


def test_an_event_that_came_twice_at_the_end_is_noticed() -> None:
    events = posted()
    with pytest.raises(NotProven, match="came again"):
        prove([*events, events[0]])


def test_two_events_of_a_device_in_the_wrong_order_are_noticed() -> None:
    events = posted()
    assert events[0]["ep"] == events[5]["ep"]
    events[0], events[5] = events[5], events[0]
    with pytest.raises(NotProven, match="out of order"):
        prove(events)


def test_a_loss_made_up_for_by_a_duplicate_is_noticed() -> None:
    events = posted()
    events[500] = events[499]
    with pytest.raises(NotProven):
        prove(events)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("ep", f"{9:032x}"),
        ("path", "/3303/0/5701"),
        ("payload", "D0000000N00000000000TheQuickBrownFoxJumpsOvE"),
        ("payload", "x"),
        ("ct", ""),
        ("max-age", 1),
    ],
)
def test_a_changed_event_is_noticed(member: str, value: object) -> None:
    events = posted()
    events[0] = {**events[0], member: value}
    with pytest.raises(NotProven, match="changed"):
        prove(events)


@pytest.mark.parametrize("text", [b"", b"{", b'{"notifications":[{}]}', b'{"registrations":[]}'])
def test_a_message_that_cannot_be_read_is_noticed(text: bytes) -> None:
    with pytest.raises(NotProven, match="cannot be read"):
        Proof(FLEET).take(text)


def test_nothing_at_all_is_not_a_proof() -> None:
    with pytest.raises(NotProven, match="0 of 100 events"):
        prove([])


@pytest.mark.parametrize("form", BodyForm)
def test_both_forms_post_the_same_events(form: BodyForm) -> None:
    bodies = list(FLEET.bodies(0, form, 100))
    texts = [line for body in bodies for line in body.content.splitlines()]
    assert [event for text in texts for event in json.loads(text)["notifications"]] == posted()[:500]
    assert sum(body.events for body in bodies) == 500


def test_a_line_of_ndjson_holds_one_event_and_ends_in_a_newline() -> None:
    body = next(FLEET.bodies(1, BodyForm.NDJSON, 7))
    assert body.events == 7
    assert body.content.count(b"\n") == 7
    assert body.content.endswith(b"]}\n")


def test_a_device_stays_in_its_lane_when_lanes_do_not_divide_the_devices() -> None:
    fleet = Fleet(events=1_000, devices=10, lanes=3)
    lanes = [
        {
            event["ep"]
            for body in fleet.bodies(lane, BodyForm.JSON, 50)
            for event in json.loads(body.content)["notifications"]
        }
        for lane in range(3)
    ]
    assert all(lanes)
    assert not lanes[0] & lanes[1]
    assert not lanes[0] & lanes[2]
    assert not lanes[1] & lanes[2]
    prove(posted(fleet), fleet)


def test_every_event_has_the_size_that_is_reported() -> None:
    sizes = {len(json.dumps(event, separators=(",", ":"))) for event in posted()}
    assert sizes == {EVENT_BYTES} == {150}


def test_events_are_counted() -> None:
    assert count_events(message(posted()[:17])) == 17
