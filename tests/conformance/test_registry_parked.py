"""What every registry does with parked events.  Each test runs over SQLite and over dictionaries."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from support.registries import channel_for, make_application

from dispatcher.errors import NotFound
from dispatcher.model import Kind, ParkedCount, ParkedEvent, Position
from dispatcher.registry.interface import Registry


async def add_channel(registry: Registry, name: str = "app") -> int:
    application = await make_application(registry, name=name)
    return (await registry.add_channel(channel_for(application))).id


def parked(channel_id: int, seq: int) -> ParkedEvent:
    return ParkedEvent(
        id=0,
        channel_id=channel_id,
        position=Position(3, seq),
        kind=Kind.REGISTRATION,
        message=b'{"registrations":[{"ep":"a"}]}',
        parked_unix_ms=1_767_225_600_123,
        status=422,
    )


async def test_events_are_kept_in_the_order_in_which_they_were_parked(registry: Registry) -> None:
    channel = await add_channel(registry)
    for seq in (7, 2, 9):
        assert await registry.park_event(parked(channel, seq))
    events = await registry.parked_events(channel, 0, 10)
    assert [replace(event, id=0) for event in events] == [parked(channel, seq) for seq in (7, 2, 9)]
    assert await registry.parked_events(channel, events[0].id, 1) == events[1:2]
    length = len(events[0].message)
    assert (await registry.load()).parked_counts == {channel: ParkedCount(3, 3 * length)}


async def test_an_event_is_parked_once(registry: Registry) -> None:
    channel = await add_channel(registry)
    assert await registry.park_event(parked(channel, 1))
    assert not await registry.park_event(parked(channel, 1))
    assert len(await registry.parked_events(channel, 0, 10)) == 1


async def test_what_is_removed_is_gone_and_its_id_is_not_given_again(registry: Registry) -> None:
    channel = await add_channel(registry)
    await registry.park_event(parked(channel, 1))
    (event,) = await registry.parked_events(channel, 0, 10)
    await registry.remove_parked_events([event.id, event.id + 100])
    assert await registry.parked_events(channel, 0, 10) == ()
    assert (await registry.load()).parked_counts == {}
    await registry.park_event(parked(channel, 1))
    (again,) = await registry.parked_events(channel, 0, 10)
    assert again.id > event.id


async def test_parked_events_go_with_their_channel_and_no_others_do(registry: Registry) -> None:
    channel, other = await add_channel(registry), await add_channel(registry, "other")
    await registry.park_event(parked(channel, 1))
    await registry.park_event(parked(other, 1))
    await registry.remove_channel(channel)
    assert await registry.parked_events(channel, 0, 10) == ()
    assert len(await registry.parked_events(other, 0, 10)) == 1
    with pytest.raises(NotFound):
        await registry.park_event(parked(channel, 2))
