from __future__ import annotations

import json

import pytest

from dispatcher import limits
from dispatcher.cli.demo_plan import (
    DemoPlan,
    Reading,
    device_name,
    device_number,
    notification_lines,
    read_payload,
    registration_line,
)
from dispatcher.wire.ingest import BodyForm, parse


def plan(seconds: float = 20, devices: int = 7, rate: int = 5000, **others: bool) -> DemoPlan:
    return DemoPlan(seconds=seconds, devices=devices, rate=rate, **others)


@pytest.mark.parametrize("rate", [1, 3, 50, 5000, 12_345])
def test_the_ticks_share_out_every_event_and_never_go_back(rate: int) -> None:
    some = plan(seconds=3, rate=rate)
    due = [some.due_by(tick) for tick in range(int(3 / limits.DEMO_TICK_S) + 2)]
    assert due[0] == 0
    assert due == sorted(due)
    assert due[-1] == some.events == 3 * rate


@pytest.mark.parametrize("posted", [0, 1, 6, 7, 8, 100])
def test_what_is_expected_of_the_devices_adds_up_to_what_was_posted(posted: int) -> None:
    some = plan()
    assert sum(some.expected(device, posted) for device in range(some.devices)) == posted


def test_each_device_counts_its_notifications_from_one_without_a_hole() -> None:
    some = plan(devices=3)
    lines = notification_lines(some, 0, 5, 99) + notification_lines(some, 5, 8, 100)
    said: dict[str, list[int]] = {}
    for line in lines:
        (event,) = json.loads(line)["notifications"]
        reading = read_payload(event["payload"])
        assert reading is not None
        said.setdefault(event["ep"], []).append(reading.counter)
    assert said == {device_name(0): [1, 2, 3], device_name(1): [1, 2, 3], device_name(2): [1, 2]}
    assert [len(said[device_name(d)]) for d in range(3)] == [some.expected(d, 8) for d in range(3)]


def test_what_the_fleet_says_is_what_a_dispatcher_takes() -> None:
    body = registration_line(4) + b"".join(notification_lines(plan(), 0, 3, 5))
    assert parse(body, BodyForm.NDJSON).events == 4


def test_a_payload_comes_back_as_it_was_said() -> None:
    (line,) = notification_lines(plan(devices=1), 41, 42, 123_456)
    (event,) = json.loads(line)["notifications"]
    assert read_payload(event["payload"]) == Reading(42, 123_456)


@pytest.mark.parametrize("payload", ["", "MjEuNQ==", "!!", "MSAyIDM=", "YSBi"])
def test_a_payload_that_no_device_said_is_none(payload: str) -> None:
    assert read_payload(payload) is None


def test_a_device_is_known_by_its_name_alone() -> None:
    assert device_number(device_name(12)) == 12
    for stranger in ("device-12", "device-", "000012", "device-00001x", "", "device-0000012"):
        assert device_number(stranger) == -1


def test_outages_lie_within_the_run_one_after_the_other_and_not_in_a_calm_one() -> None:
    for seconds in (1, 5, 20, 600):
        some = plan(seconds=seconds)
        callback, websocket = some.callback_outage, some.websocket_outage
        assert callback is not None
        assert websocket is not None
        assert 0 < callback.start_s < callback.end_s <= websocket.start_s < websocket.end_s < seconds
    assert plan(is_calm=True).callback_outage is None
    assert plan(is_calm=True).websocket_outage is None
