"""A run: a machine with the dispatcher on it, tenants around it, and what befalls them all.

story        what the seed decided (``story``)
calm         nothing goes wrong any more, and everyone comes back
account      every accepted event is there, or its absence was named
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import trio
from simulation.chronicle import Chronicle, Violation
from simulation.disk import DiskTrouble
from simulation.machine import Machine
from simulation.network import Network, NetworkTrouble
from simulation.promises import Promises
from simulation.schedule import Steps, run
from simulation.story import Act, Story, tell
from simulation.tenants import Tenants

_ANSWER_BYTES = 512  # of one that is kept for a repeated Idempotency-Key
_STEPS_MAX = 500_000  # a run takes about 5,000
_DRAIN_S = 900.0  # for the last event to arrive once nothing goes wrong any more

Sabotage = Callable[[Any], None]
"""Told of every ``Mount`` and every ``Hub`` as it is made: it may plant a bug in it."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a run came to."""

    seed: int
    digest: str  # of everything that was seen from outside
    accepted: int  # events
    lives: int
    crashes: int
    steps: int
    simulated_s: float


def run_seed(seed: int, *, is_loud: bool = False) -> Outcome:
    """Run a seed's story; raises ``Violation``."""
    return run_story(tell(seed), is_loud=is_loud)


def run_story(story: Story, *, is_loud: bool = False, sabotage: Sabotage | None = None) -> Outcome:
    """Run a story; raises ``Violation``."""
    simulation = Simulation(story, Chronicle(is_loud=is_loud), sabotage or _leave_alone)
    return run(simulation.run, seed=story.seed, steps=simulation.steps)


class Simulation:
    """One run."""

    def __init__(self, story: Story, chronicle: Chronicle, sabotage: Sabotage) -> None:
        self.steps = Steps()
        self._story = story
        self._chronicle = chronicle
        self._sabotage = sabotage
        self._scope = trio.CancelScope()
        self._network = Network(Random(f"{story.seed}/network"), NetworkTrouble())
        self._promises = Promises(chronicle, story.settings.storage.durability, self._scope.cancel)

    async def run(self) -> Outcome:
        """Everything; raises ``Violation``."""
        machine = Machine(
            self._story, self._network, self._promises, self._chronicle, self.steps, self._sabotage
        )
        tenants = Tenants(machine)
        self.steps.at_turn = self._look
        with self._scope:
            await tenants.move_in()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(machine.run)
                await self._play(machine, tenants)
        if self._promises.broken is not None:
            raise Violation(self._promises.broken)
        return Outcome(
            seed=self._story.seed,
            digest=self._chronicle.digest(),
            accepted=self._promises.accepted,
            lives=machine.lives,
            crashes=machine.crashes,
            steps=self.steps.count,
            simulated_s=trio.current_time(),
        )

    def _look(self) -> None:
        self._promises.look()
        if self.steps.count > _STEPS_MAX:
            self._promises.fail(f"no end after {_STEPS_MAX} steps")

    async def _play(self, machine: Machine, tenants: Tenants) -> None:
        async with trio.open_nursery() as applications:
            for application in tenants.applications:
                applications.start_soon(application.run)
            async with trio.open_nursery() as lanes:
                for lane in tenants.lanes:
                    lanes.start_soon(lane.run)
                for act in self._story.acts:
                    await trio.sleep_until(act.at_s)
                    self._perform(act, machine, tenants)
                await trio.sleep_until(self._story.duration_s)
                self._calm_down(machine, tenants)
            await self._until_all_is_there(machine)
            self._promises.check_order()
            await machine.stop()
            applications.cancel_scope.cancel()

    def _perform(self, act: Act, machine: Machine, tenants: Tenants) -> None:
        self._chronicle.note(f"{act.what}: {act.value}")
        match act.what:
            case "network":
                _become(self._network.trouble, act.value)
            case "disk":
                _become(machine.platter.trouble, act.value)
            case "failing":
                machine.platter.trouble.failing = act.value
            case "clock":
                machine.clock.jump(act.value)
            case "mode":
                number, mode = act.value
                tenants.applications[number].mode = mode
            case "again":
                tenants.applications[act.value].register_again()
            case "anew":
                tenants.applications[act.value].register_anew()

    def _calm_down(self, machine: Machine, tenants: Tenants) -> None:
        self._chronicle.note("calm")
        _become(self._network.trouble, NetworkTrouble())
        _become(machine.platter.trouble, DiskTrouble())
        machine.calm_down()
        for application in tenants.applications:
            application.mode = "healthy"
        for lane in tenants.lanes:
            lane.is_stopping = True

    async def _until_all_is_there(self, machine: Machine) -> None:
        with trio.move_on_after(_DRAIN_S):
            while not self._is_all_there(machine):  # noqa: ASYNC110  the clock is a mock
                await trio.sleep(1.0)
            return
        missing = self._promises.missing()
        if missing:
            self._promises.fail(f"INV-5: accepted, and never there: {missing}")
        elif machine.queued != 0:
            self._promises.fail(f"INV-4: the queues are not empty: {machine.queued} records")
        else:
            self._promises.fail(f"the disk holds {machine.platter.used_bytes} bytes, and nothing is queued")

    def _is_all_there(self, machine: Machine) -> bool:
        return machine.queued == 0 and not self._promises.missing() and self._has_space(machine)

    def _has_space(self, machine: Machine) -> bool:
        """Whether the disk holds no more than its allowance, the segment in use and the next.

        And two that a power cut left without a header: they are written to when it is their
        turn.  A damaged one may stay as long as answers in it could be asked for.
        """
        sizes = self._story.sizes
        answers_bytes = 2 * _ANSWER_BYTES * len(self._promises.keyed)
        bytes_max = sizes.allowance_bytes + answers_bytes + 4 * sizes.segment_bytes
        return machine.platter.used_bytes <= bytes_max or self._promises.damaged > 0


def _become(old: msgspec.Struct, new: msgspec.Struct) -> None:
    for field in new.__struct_fields__:
        setattr(old, field, getattr(new, field))


def _leave_alone(thing: Any) -> None:
    """No bug is planted."""
