"""Stories bent towards the place where something shows, so that a few seeds are enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace
from simulation.disk import AFTER, DiskTrouble
from simulation.story import Act, Cause, Ending, Story

from dispatcher.model import Durability

Bend = Callable[[Story], Story]

KIB = 1024


def bent(story: Story, *, tier: dict[str, Any] | None = None, **changes: Any) -> Story:
    """A story on disk durability, in large queues, with changes to it and to its tier."""
    settings = story.settings
    roomy = {"queue_bytes": 50_000_000, "event_lifetime_s": 86_400.0}
    changed = replace(settings.tiers["commercial"], **{**roomy, **(tier or {})})
    storage = replace(settings.storage, durability=Durability.DISK)
    settings = replace(settings, storage=storage, tiers={"commercial": changed})
    return replace(story, settings=settings, **changes)


def plain(story: Story) -> Story:
    """As the seed tells it."""
    return bent(story)


def ending(cause: Cause, at: float, *, is_power_cut: bool = True) -> Bend:
    """One life that ends like this, and another after it."""
    end = Ending(cause=cause, at=at, when=AFTER, is_power_cut=is_power_cut, down_s=1.0)
    return lambda story: bent(story, endings=(end,))


def with_modes(callback: str, socket: str, **changes: Any) -> Bend:
    """All receivers are in one mode from the eighth second on, with no crash before the end."""

    def bend(story: Story) -> Story:
        modes = [callback] * story.callbacks + [socket] * story.sockets
        acts = [*story.acts, *(Act(8.0, "mode", (number, mode)) for number, mode in enumerate(modes))]
        acts.sort(key=lambda act: act.at_s)
        return bent(story, **{"acts": tuple(acts), "endings": (), "duration_s": 30.0, **changes})

    return bend


def cleaned_often(story: Story) -> Story:
    """Receivers stay away while the journal, in small segments, goes on and on; then the power goes."""
    end = Ending(cause=Cause.TIME, at=20.0, when=AFTER, is_power_cut=True, down_s=1.0)
    sizes = replace(story.sizes, segment_bytes=64 * KIB, group_bytes_max=60 * KIB, allowance_bytes=0)
    habits = replace(story.habits, pause_s=0.3, filling_max=2_000, events_max=8)
    return with_modes("hang", "deaf", sizes=sizes, habits=habits, endings=(end,))(story)


def closed_while_full(story: Story) -> Story:
    """A disk that fills up before a dispatcher is closed in order, and has room for the next one."""
    end = Ending(cause=Cause.STOP, at=14.0, when=AFTER, is_power_cut=False, down_s=1.0)
    acts = [act for act in story.acts if act.what not in ("disk", "failing")]
    acts += [Act(0.0, "disk", DiskTrouble()), Act(6.0, "disk", DiskTrouble(is_full=True))]
    acts += [Act(16.0, "disk", DiskTrouble())]
    acts.sort(key=lambda act: act.at_s)
    sizes = replace(story.sizes, segment_bytes=64 * KIB, group_bytes_max=60 * KIB, allowance_bytes=0)
    habits = replace(story.habits, pause_s=0.3, filling_max=2_000, events_max=8)
    return bent(story, endings=(end,), acts=tuple(acts), sizes=sizes, habits=habits, duration_s=30.0)


def short_of_memory(story: Story) -> Story:
    """Receivers stay away while more is posted than memory holds, and then come back."""
    storage = replace(story.settings.storage, memory_bytes=2 * KIB * KIB)
    sizes = replace(story.sizes, segment_bytes=512 * KIB, group_bytes_max=508 * KIB)
    habits = replace(story.habits, pause_s=0.3, filling_max=16 * KIB, events_max=8)
    story = replace(story, settings=replace(story.settings, storage=storage))
    return with_modes("hang", "deaf", sizes=sizes, habits=habits)(story)
