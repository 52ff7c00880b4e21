"""What every registry must do.  Each test runs over SQLite and over dictionaries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from msgspec.structs import replace
from support.registries import (
    channel_for,
    key_for,
    make_application,
)

from dispatcher.config import TierSettings, channel_limits
from dispatcher.errors import Conflict, NotFound, TooManyRequests, ValidationError
from dispatcher.model import (
    AccessKey,
    ChannelClocks,
    ChannelType,
    Presubscription,
    Role,
    Serialization,
    Signing,
    Subscription,
)
from dispatcher.registry.interface import LifeTimes, Registry


async def test_a_new_registry_is_empty(registry: Registry) -> None:
    contents = await registry.load()
    assert (contents.identities.accounts, contents.identities.applications) == ((), ())
    assert (contents.identities.keys, contents.channels) == ((), ())
    assert (contents.subscriptions, contents.presubscriptions) == ((), {})


async def test_epochs_rise_from_one(registry: Registry) -> None:
    assert [await registry.next_epoch() for _ in range(3)] == [1, 2, 3]


# --- accounts and applications --------------------------------------------------------------


async def test_an_account_is_made_once_and_keeps_its_tier(registry: Registry) -> None:
    first = await registry.ensure_account("acme", "free")
    again = await registry.ensure_account("acme", "commercial")
    other = await registry.ensure_account("other", "commercial")
    assert again == first
    assert other.id != first.id
    assert (await registry.load()).identities.accounts == (first, other)


async def test_an_account_is_given_another_tier_and_the_others_keep_theirs(registry: Registry) -> None:
    first = await registry.ensure_account("acme", "free")
    other = await registry.ensure_account("other", "free")
    await registry.identities_if_changed()
    changed = await registry.set_tier(first.id, "commercial")
    assert changed == replace(first, tier="commercial")
    identities = await registry.identities_if_changed()
    assert identities is not None
    assert identities.accounts == (changed, other)
    with pytest.raises(NotFound):
        await registry.set_tier(99, "free")
    assert (await registry.load()).identities.accounts == (changed, other)


async def test_an_application_without_a_name_gets_one_of_its_own(registry: Registry) -> None:
    first = await make_application(registry)
    second = await make_application(registry)
    assert first.name != second.name
    assert (await registry.load()).identities.applications == (first, second)


async def test_an_application_name_is_unique_in_its_account_only(registry: Registry) -> None:
    first = await make_application(registry, "acme", "app")
    with pytest.raises(Conflict):
        await make_application(registry, "acme", "app")
    other = await make_application(registry, "other", "app")
    assert other.id != first.id
    assert (await registry.load()).identities.applications == (first, other)


async def test_applications_stop_at_the_bound_of_their_own_account(registry: Registry) -> None:
    account = await registry.ensure_account("acme", "free")
    await make_application(registry, "other")
    for _ in range(2):
        await registry.create_application(account.id, None, 2)
    with pytest.raises(TooManyRequests, match="'acme' has 2 applications"):
        await registry.create_application(account.id, None, 2)
    assert len((await registry.load()).identities.applications) == 3
    await registry.create_application(account.id, None, 0)


async def test_a_taken_name_is_told_apart_from_the_bound(registry: Registry) -> None:
    account = await registry.ensure_account("acme", "free")
    await registry.create_application(account.id, "app", 1)
    with pytest.raises(Conflict):
        await registry.create_application(account.id, "app", 1)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "..", "ü", "-a", "a\n", "a" * 65])
async def test_what_a_url_would_escape_is_no_name(registry: Registry, name: str) -> None:
    with pytest.raises(ValidationError):
        await registry.ensure_account(name, "free")
    account = await registry.ensure_account("acme", "free")
    with pytest.raises(ValidationError):
        await registry.create_application(account.id, name, 0)
    identities = (await registry.load()).identities
    assert (identities.accounts, identities.applications) == ((account,), ())


async def test_an_application_needs_its_account(registry: Registry) -> None:
    with pytest.raises(NotFound):
        await registry.create_application(7, None, 0)


# --- keys -----------------------------------------------------------------------------------


async def test_keys_of_every_role_come_back_as_they_were(registry: Registry) -> None:
    application = await make_application(registry)
    keys = (
        key_for(application),
        AccessKey(id="k_2", role=Role.GATEWAY, digest=b"g" * 32, account_id=application.account_id),
        AccessKey(id="k_3", role=Role.ADMIN, digest=b"a" * 32),
        replace(key_for(application, 4), expires_unix_ms=1),  # whether it has expired is not asked here
    )
    for key in keys:
        await registry.add_key(key)
    assert (await registry.load()).identities.keys == keys


async def test_a_revoked_key_is_gone_and_the_others_stay(registry: Registry) -> None:
    application = await make_application(registry)
    first, second = key_for(application, 1), key_for(application, 2)
    await registry.add_key(first)
    await registry.add_key(second)
    assert await registry.revoke_key(first.id) is True
    assert (await registry.load()).identities.keys == (second,)
    assert await registry.revoke_key(first.id) is False
    assert await registry.revoke_key("k_unknown") is False


@pytest.mark.parametrize("is_revoked", [False, True])
async def test_neither_id_nor_digest_of_a_key_is_taken_again(registry: Registry, is_revoked: bool) -> None:
    application = await make_application(registry)
    key = key_for(application, 1)
    await registry.add_key(key)
    if is_revoked:
        await registry.revoke_key(key.id)
    with pytest.raises(Conflict):
        await registry.add_key(replace(key, digest=b"d" * 32))
    with pytest.raises(Conflict):
        await registry.add_key(replace(key, id="k_other"))
    assert (await registry.load()).identities.keys == (() if is_revoked else (key,))


async def test_a_key_cannot_act_for_what_does_not_exist(registry: Registry) -> None:
    application = await make_application(registry)
    for key in (
        replace(key_for(application), application_id=99),
        replace(key_for(application), account_id=99),
        AccessKey(id="k_g", role=Role.GATEWAY, digest=b"g" * 32, account_id=99),
    ):
        with pytest.raises(NotFound):
            await registry.add_key(key)
    assert (await registry.load()).identities.keys == ()


async def test_a_key_cannot_join_one_account_to_another_s_application(registry: Registry) -> None:
    ours = await make_application(registry, "ours")
    theirs = await make_application(registry, "theirs")
    with pytest.raises(NotFound):
        await registry.add_key(replace(key_for(theirs), account_id=ours.account_id))


# --- what changed ---------------------------------------------------------------------------


async def test_identities_come_once_after_each_change(registry: Registry) -> None:
    assert await registry.identities_if_changed() is not None  # never returned before
    assert await registry.identities_if_changed() is None

    async def seen() -> bool:
        identities = await registry.identities_if_changed()
        assert await registry.identities_if_changed() is None
        return identities is not None

    application = await make_application(registry)
    assert await seen()
    await registry.add_key(key_for(application))
    assert await seen()
    await registry.revoke_key("k_1")
    assert await seen()


async def test_loading_everything_returns_the_identities_too(registry: Registry) -> None:
    application = await make_application(registry)
    await registry.load()
    assert await registry.identities_if_changed() is None
    await registry.add_key(key_for(application))
    identities = await registry.identities_if_changed()
    assert identities == (await registry.load()).identities


async def test_other_changes_are_not_changes_of_identities(registry: Registry) -> None:
    application = await make_application(registry)
    await registry.load()
    channel = await registry.add_channel(channel_for(application))
    await registry.update_channel(replace(channel, learned_batch_bytes=65_536))
    await registry.add_subscription(Subscription(application.id, "d", "/1"), 10)
    await registry.remove_subscriptions(application.id)
    await registry.set_presubscriptions(application.id, [Presubscription()])
    await registry.remove_channel(channel.id)
    await registry.next_epoch()
    assert await registry.ensure_account("acme", "free")
    assert await registry.revoke_key("k_unknown") is False
    assert await registry.identities_if_changed() is None


# --- channels -------------------------------------------------------------------------------


async def test_a_channel_comes_back_as_it_was(registry: Registry) -> None:
    application = await make_application(registry)
    given = replace(
        channel_for(application, ChannelType.CALLBACK),
        incarnation=2**64 - 1,
        limits=channel_limits(TierSettings(queue_bytes=12_345, long_poll_hold_s=0.25)),
        serialization=Serialization(max_chunk_size=500, include_uid=True, mixed_kinds=False),
        url="https://example.com/é",
        headers={"Authorization": "Basic eA==", "X-ü": ""},
        signing=Signing(secret=bytes(range(32)), older_secret=b"\xff" * 24, older_until_unix_ms=2**52),
        is_gzipped=True,
        learned_batch_bytes=70_000,
        is_paused=True,
    )
    added = await registry.add_channel(given)
    assert added == replace(given, id=added.id)
    assert (await registry.load()).channels == (added,)


@pytest.mark.parametrize("incarnation", [0, 1, 2**63 - 1, 2**63, 2**64 - 1])
async def test_an_incarnation_has_64_bits(registry: Registry, incarnation: int) -> None:
    application = await make_application(registry)
    await registry.add_channel(replace(channel_for(application), incarnation=incarnation))
    (channel,) = (await registry.load()).channels
    assert channel.incarnation == incarnation


async def test_an_application_has_one_channel_of_whatever_type(registry: Registry) -> None:
    application = await make_application(registry)
    other = await make_application(registry)
    first = await registry.add_channel(channel_for(application, ChannelType.WEB_SOCKET))
    with pytest.raises(Conflict):
        await registry.add_channel(channel_for(application, ChannelType.CALLBACK))
    with pytest.raises(Conflict):
        await registry.add_channel(channel_for(application, ChannelType.WEB_SOCKET))
    second = await registry.add_channel(channel_for(other))
    assert (await registry.load()).channels == (first, second)


async def test_an_update_replaces_what_may_change_and_nothing_else(registry: Registry) -> None:
    application = await make_application(registry)
    other = await make_application(registry)
    stored = await registry.add_channel(
        replace(channel_for(application), url="http://a/", headers={"A": "1"})
    )
    bystander = await registry.add_channel(channel_for(other))
    changes = {
        "url": "http://b/",
        "headers": {"B": "2"},
        "serialization": Serialization(max_chunk_size=100),
        "signing": Signing(secret=b"s" * 24),
        "is_gzipped": True,
        "learned_batch_bytes": 65_536,
        "is_paused": True,
    }
    await registry.update_channel(
        replace(
            stored,
            incarnation=1,
            type=ChannelType.CALLBACK,
            limits=channel_limits(TierSettings(queue_bytes=4096)),
            **changes,
        )
    )
    assert (await registry.load()).channels == (replace(stored, **changes), bystander)
    await registry.update_channel(replace(stored, serialization=None, signing=None, learned_batch_bytes=None))
    assert (await registry.load()).channels == (stored, bystander)


async def test_a_channel_number_is_never_given_twice(registry: Registry) -> None:
    application = await make_application(registry)
    first = await registry.add_channel(channel_for(application))
    assert await registry.remove_channel(first.id) is True
    assert await registry.remove_channel(first.id) is False
    assert (await registry.load()).channels == ()
    with pytest.raises(NotFound):
        await registry.update_channel(first)
    second = await registry.add_channel(channel_for(application))
    assert second.id > first.id
    with pytest.raises(NotFound):
        await registry.update_channel(first)


async def test_a_channel_belongs_to_the_account_of_its_application(registry: Registry) -> None:
    application = await make_application(registry)
    added = await registry.add_channel(replace(channel_for(application), account_id=99))
    assert added.account_id == application.account_id
    assert (await registry.load()).channels == (added,)


# --- subscriptions --------------------------------------------------------------------------


async def test_a_subscription_is_added_once(registry: Registry) -> None:
    application = await make_application(registry)
    subscription = Subscription(application.id, "dev", "/3303/0/5700")
    assert await registry.add_subscription(subscription, 10) is True
    assert await registry.add_subscription(subscription, 10) is False
    assert (await registry.load()).subscriptions == (subscription,)


@pytest.mark.parametrize(
    ("ep", "path", "left"),
    [
        ("a", "/1", ["a/2", "b/1", "b/2"]),
        ("a", None, ["b/1", "b/2"]),
        (None, "/1", ["a/2", "b/2"]),
        (None, None, []),
        ("c", None, ["a/1", "a/2", "b/1", "b/2"]),
        ("", None, ["a/1", "a/2", "b/1", "b/2"]),
    ],
)
async def test_removing_takes_what_matches_and_no_other_application_s(
    registry: Registry, ep: str | None, path: str | None, left: list[str]
) -> None:
    application, other = await make_application(registry), await make_application(registry)
    every = [Subscription(application.id, e, p) for e in "ab" for p in ("/1", "/2")]
    theirs = Subscription(other.id, "a", "/1")
    for subscription in [*reversed(every), theirs]:
        await registry.add_subscription(subscription, 10)
    removed = await registry.remove_subscriptions(application.id, ep, path)
    kept = tuple(s for s in every if s.ep + s.path in left)
    assert (await registry.load()).subscriptions == (*kept, theirs)
    assert list(removed) == [s for s in every if s not in kept]


async def test_the_bound_of_subscriptions_holds_over_all_applications_of_an_account(
    registry: Registry,
) -> None:
    first, second = await make_application(registry), await make_application(registry)
    other = await make_application(registry, "other")
    await registry.add_subscription(Subscription(first.id, "d", "/1"), 2)
    await registry.add_subscription(Subscription(second.id, "d", "/1"), 2)
    with pytest.raises(TooManyRequests):
        await registry.add_subscription(Subscription(second.id, "d", "/2"), 2)
    assert await registry.add_subscription(Subscription(second.id, "d", "/1"), 2) is False
    assert await registry.add_subscription(Subscription(other.id, "d", "/1"), 2) is True
    assert len((await registry.load()).subscriptions) == 3


async def test_removing_subscriptions_makes_room_under_the_bound(registry: Registry) -> None:
    application = await make_application(registry)
    for path in ("/1", "/2"):
        await registry.add_subscription(Subscription(application.id, "d", path), 2)
    await registry.remove_subscriptions(application.id, "d", "/1")
    await registry.remove_subscriptions(application.id, "d", "/1")  # takes nothing: makes no more room
    assert await registry.add_subscription(Subscription(application.id, "d", "/3"), 2) is True
    with pytest.raises(TooManyRequests):
        await registry.add_subscription(Subscription(application.id, "d", "/4"), 2)


async def test_presubscriptions_are_replaced_whole_and_keep_their_order(registry: Registry) -> None:
    application, other = await make_application(registry), await make_application(registry)
    theirs = (Presubscription(endpoint_type="Light"),)
    first = (
        Presubscription(endpoint_name="z*", resource_paths=("/3/*", "/1")),
        Presubscription(endpoint_name="a"),
        Presubscription(),
    )
    await registry.set_presubscriptions(other.id, theirs)
    await registry.set_presubscriptions(application.id, first)
    assert (await registry.load()).presubscriptions == {application.id: first, other.id: theirs}
    await registry.set_presubscriptions(application.id, list(first[1:]))
    assert (await registry.load()).presubscriptions == {application.id: first[1:], other.id: theirs}
    await registry.set_presubscriptions(application.id, [])
    assert (await registry.load()).presubscriptions == {other.id: theirs}


async def test_removing_a_channel_leaves_the_application_s_subscriptions(registry: Registry) -> None:
    application = await make_application(registry)
    subscription = Subscription(application.id, "d", "/1")
    channel = await registry.add_channel(channel_for(application))
    await registry.add_subscription(subscription, 10)
    await registry.set_presubscriptions(application.id, [Presubscription()])
    await registry.remove_channel(channel.id)
    contents = await registry.load()
    assert contents.subscriptions == (subscription,)
    assert contents.presubscriptions == {application.id: (Presubscription(),)}


async def test_nothing_is_added_to_an_application_that_does_not_exist(registry: Registry) -> None:
    application = replace(await make_application(registry), id=99)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: registry.add_channel(channel_for(application)),
        lambda: registry.add_subscription(Subscription(99, "d", "/1"), 10),
        lambda: registry.remove_subscriptions(99),
        lambda: registry.set_presubscriptions(99, [Presubscription()]),
        lambda: registry.set_presubscriptions(99, []),
    ]
    before = await registry.load()
    for call in calls:
        with pytest.raises(NotFound):
            await call()
    assert await registry.load() == before


# --- life times -----------------------------------------------------------------------------


async def test_life_times_start_at_zero(registry: Registry) -> None:
    assert (await registry.load()).life_times == LifeTimes()


async def test_saved_clocks_replace_those_given_and_keep_the_others(registry: Registry) -> None:
    account = await registry.ensure_account("acme", "free")
    one, two = [
        await registry.add_channel(
            channel_for(await registry.create_application(account.id, f"app-{number}", 0))
        )
        for number in range(2)
    ]
    first = ChannelClocks(last_event_s=1.5, failing_since_s=2.0)
    second = ChannelClocks(last_event_s=3.0, disconnected_since_s=0.25)
    await registry.save_life_times(LifeTimes(up_s=5.0, unix_ms=7, clocks={one.id: first, two.id: first}))
    await registry.save_life_times(LifeTimes(up_s=9.5, unix_ms=8, clocks={two.id: second}))
    assert (await registry.load()).life_times == LifeTimes(
        up_s=9.5, unix_ms=8, clocks={one.id: first, two.id: second}
    )


async def test_clocks_go_with_their_channel_and_are_not_kept_for_others(registry: Registry) -> None:
    channel = await registry.add_channel(channel_for(await make_application(registry)))
    clocks = ChannelClocks(last_event_s=1.0)
    await registry.save_life_times(
        LifeTimes(up_s=1.0, unix_ms=1, clocks={channel.id: clocks, channel.id + 1: clocks})
    )
    assert (await registry.load()).life_times.clocks == {channel.id: clocks}
    await registry.remove_channel(channel.id)
    assert (await registry.load()).life_times.clocks == {}


# --- cancellation ---------------------------------------------------------------------------


async def test_a_call_cancelled_before_it_begins_changes_nothing(registry: Registry) -> None:
    application = await make_application(registry)
    channel = await registry.add_channel(channel_for(application))
    await registry.add_key(key_for(application))
    await registry.add_subscription(Subscription(application.id, "d", "/1"), 10)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: registry.ensure_account("other", "free"),
        lambda: registry.create_application(application.account_id, None, 0),
        lambda: registry.add_key(key_for(application, 2)),
        lambda: registry.revoke_key("k_1"),
        lambda: registry.update_channel(replace(channel, url="http://b/")),
        lambda: registry.remove_channel(channel.id),
        lambda: registry.add_subscription(Subscription(application.id, "d", "/2"), 10),
        lambda: registry.remove_subscriptions(application.id),
        lambda: registry.set_presubscriptions(application.id, [Presubscription()]),
        lambda: registry.save_life_times(LifeTimes(up_s=1.0)),
        registry.next_epoch,
        registry.load,
        registry.identities_if_changed,
    ]
    before = await registry.load()
    for call in calls:
        with trio.CancelScope() as scope:
            scope.cancel()
            await call()
        assert scope.cancelled_caught
    assert await registry.load() == before
    assert await registry.next_epoch() == 1


async def test_calls_at_the_same_time_are_one_after_the_other(registry: Registry) -> None:
    account = await registry.ensure_account("acme", "free")
    refused = 0

    async def create() -> None:
        nonlocal refused
        try:
            await registry.create_application(account.id, None, 4)
        except TooManyRequests:
            refused += 1

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(create)
    assert len((await registry.load()).identities.applications) == 4
    assert refused == 6


async def test_closing_twice_is_closing_once(registry: Registry) -> None:
    await registry.close()
    await registry.close()
