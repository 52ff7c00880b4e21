"""What a seed decides before a run begins: who there is, what they do, and what befalls them."""

from __future__ import annotations

from enum import StrEnum
from random import Random
from typing import Any

import msgspec
from simulation import callback_application, socket_application
from simulation.disk import AFTER, BEFORE, DURING, DiskTrouble
from simulation.network import NetworkTrouble
from simulation.publishers import Habits

from dispatcher.config import (
    LimitSettings,
    ServerSettings,
    Settings,
    StorageSettings,
    TierSettings,
)
from dispatcher.model import Durability, Overflow
from dispatcher.queue.disk import JournalSizes

KIB = 1024


class Cause(StrEnum):
    """What ends a life of the dispatcher."""

    STOP = "stop"  # in order
    CANCEL = "cancel"  # in order, but all at once
    TIME = "time"
    CALL = "call"  # at a system call of the journal
    STEP = "step"  # at a step of one of its tasks


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a life ends, if the run does not end before."""

    cause: Cause
    at: float  # seconds, or a number of calls or steps, counted from its start
    when: str  # of a call
    is_power_cut: bool  # else the process alone is killed
    down_s: float


class Act(msgspec.Struct, frozen=True):
    """Something that happens at a moment: ``what`` says what changes, ``value`` to what."""

    at_s: float
    what: str
    value: Any


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is decided before."""

    seed: int
    duration_s: float
    settings: Settings
    sizes: JournalSizes
    endings: tuple[Ending, ...]
    callbacks: int  # applications
    sockets: int
    has_stranger: bool  # an account beside, with a gateway and an application of its own
    lanes: int
    habits: Habits
    acts: tuple[Act, ...]


def tell(seed: int) -> Story:
    """The story of a seed."""
    dice = Random(f"{seed}/story")
    duration_s = dice.uniform(12.0, 40.0)
    callbacks, sockets = dice.choice(((1, 1), (1, 1), (2, 0), (0, 2), (1, 2), (2, 1)))
    is_large = dice.random() < 0.15
    return Story(
        seed=seed,
        duration_s=duration_s,
        settings=_settings(dice, is_large=is_large),
        sizes=_sizes(dice, is_large=is_large),
        endings=tuple(_ending(dice) for _ in range(dice.choice((0, 1, 2, 2, 3, 4)))),
        callbacks=callbacks,
        sockets=sockets,
        has_stranger=dice.random() < 0.2,
        lanes=dice.randint(1, 3),
        habits=Habits(
            pause_s=dice.choice((0.3, 0.6, 1.2, 2.0)),
            events_max=dice.choice((1, 3, 8)),
            filling_max=16 * KIB if is_large else dice.choice((0, 200, 1000)),
            life_cycle=dice.choice((0.0, 0.1, 0.4)),
            keyed=dice.choice((0.0, 0.5, 1.0)),
            gives_up=dice.choice((0.0, 0.1)),
        ),
        acts=tuple(sorted(_acts(dice, duration_s, callbacks, sockets), key=lambda act: act.at_s)),
    )


def _settings(dice: Random, *, is_large: bool) -> Settings:
    durability = dice.choices((Durability.DISK, Durability.PROCESS, Durability.MEMORY), weights=(80, 12, 8))[
        0
    ]
    memory_bytes = dice.choice((2, 2, 4, 64) if is_large else (64,)) * KIB * KIB
    tier = TierSettings(
        queue_bytes=dice.choice((8 * KIB, 50_000_000, 50_000_000)) if not is_large else 50_000_000,
        event_lifetime_s=dice.choice((86_400.0, 86_400.0, 86_400.0, 25.0)),
        overflow=dice.choice((*(Overflow.DROP_OLDEST, Overflow.REJECT) * 2, Overflow.KEEP_LATEST)),
        batch_events=dice.choice((1, 4, 16, 100)),
        callback_timeout_s=dice.choice((5.0, 20.0)),
        retry_initial_s=0.5,
        retry_max_s=dice.choice((4.0, 20.0)),
        ping_interval_s=dice.choice((5.0, 15.0)),
        pong_timeout_s=3.0,
        ack_timeout_s=dice.choice((10.0, 30.0)),
    )
    return Settings(
        server=ServerSettings(grace_s=dice.choice((1.0, 5.0))),
        storage=StorageSettings(data="/data", durability=durability, memory_bytes=memory_bytes),
        limits=LimitSettings(startup_grace_s=300.0),
        tiers={"commercial": tier},
    )


def _sizes(dice: Random, *, is_large: bool) -> JournalSizes:
    segment = 512 * KIB if is_large else dice.choice((64 * KIB, 64 * KIB, 128 * KIB, 256 * KIB))
    return JournalSizes(
        segment_bytes=segment,
        group_bytes_max=segment - 4 * KIB,
        allowance_bytes=dice.choice((0, segment, 4 * segment)),
        begun_at_once_bytes=segment // 64,
    )


def _ending(dice: Random) -> Ending:
    cause = dice.choice((Cause.STOP, Cause.CANCEL, *(Cause.TIME, Cause.CALL, Cause.STEP) * 2))
    at = {
        Cause.STOP: dice.uniform(1.0, 15.0),
        Cause.CANCEL: dice.uniform(1.0, 15.0),
        Cause.TIME: dice.uniform(0.5, 15.0),
        Cause.CALL: int(10 ** dice.uniform(0.0, 2.3)),
        Cause.STEP: int(10 ** dice.uniform(1.0, 3.7)),
    }[cause]
    return Ending(
        cause=cause,
        at=at,
        when=dice.choice((BEFORE, DURING, DURING, AFTER)),
        is_power_cut=dice.random() < 0.6,
        down_s=dice.choice((0.0, dice.uniform(0.0, 10.0))),
    )


def _acts(dice: Random, duration_s: float, callbacks: int, sockets: int) -> list[Act]:
    acts = [Act(0.0, "network", _network(dice)), Act(0.0, "disk", _disk(dice))]
    if dice.random() < 0.5:
        acts.append(Act(dice.uniform(0.0, duration_s), "network", _network(dice)))
    if dice.random() < 0.3:
        began_s = dice.uniform(5.0, duration_s)
        acts.append(Act(began_s, "disk", DiskTrouble(is_full=True)))
        acts.append(Act(began_s + dice.uniform(1.0, 15.0), "disk", _disk(dice)))
    if dice.random() < 0.2:
        failing = dice.choice(("sync", "write", "create", "preallocate", "unlink", "sync_folder"))
        acts.append(Act(dice.uniform(3.0, duration_s), "failing", failing))
    if dice.random() < 0.3:
        acts.append(Act(dice.uniform(0.0, duration_s), "clock", dice.choice((-3600.0, -5.0, 5.0, 3600.0))))
    for number in range(callbacks + sockets):
        modes = callback_application.MODES if number < callbacks else socket_application.MODES
        at_s = dice.uniform(0.0, 10.0)
        while at_s < duration_s and dice.random() < 0.8:
            mode = dice.choice(("healthy", *modes, *modes))
            acts.append(Act(at_s, "mode", (number, mode)))
            at_s += dice.uniform(1.0, 20.0)
        if dice.random() < 0.2:
            acts.append(Act(dice.uniform(10.0, duration_s), dice.choice(("again", "anew")), number))
    return acts


def _network(dice: Random) -> NetworkTrouble:
    if dice.random() < 0.4:
        return NetworkTrouble(latency_s=(0.0, dice.choice((0.001, 0.2))))
    return NetworkTrouble(
        latency_s=(0.0, dice.choice((0.001, 0.05, 0.5))),
        cuts=dice.choice((0.0, 0.1, 0.3)),
        stalls=dice.choice((0.0, 0.05, 0.2)),
        refusals=dice.choice((0.0, 0.1)),
        losses=dice.choice((0.0, 0.05)),
    )


def _disk(dice: Random) -> DiskTrouble:
    slowest_s = dice.choice((0.002, 0.02, 0.3))
    return DiskTrouble(wait_s=(slowest_s / 10, slowest_s), short_writes=dice.choice((0.0, 0.3)))
