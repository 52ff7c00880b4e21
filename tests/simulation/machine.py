"""The machine that the dispatcher runs on: what outlives its lives, and one life after the other."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import trio
from simulation.chronicle import Chronicle
from simulation.disk import DiskTrouble, Mount, Platter
from simulation.disk_books import DiskBooks
from simulation.life import Life, survivor
from simulation.network import Network
from simulation.promises import Promises
from simulation.schedule import FakeWallClock, Steps
from simulation.story import Story

from dispatcher.model import Durability
from dispatcher.registry.memory import MemoryRegistry

_RESTART_S = 0.5
_PASSING_S = 0.0003  # between two readings of the clock, on average


class Machine:
    """Keeps a platter, a registry, a secret and a clock."""

    def __init__(
        self,
        story: Story,
        network: Network,
        promises: Promises,
        chronicle: Chronicle,
        steps: Steps,
        sabotage: Callable[[Any], None],
    ) -> None:
        self.story = story
        self.network = network
        self.promises = promises
        self.chronicle = chronicle
        self.steps = steps
        self.sabotage = sabotage
        self.clock = FakeWallClock()
        self.dice = Random(f"{story.seed}/machine")
        self.random_bytes = _randomness(Random(f"{story.seed}/entropy"))
        self.passing_s = _passing(Random(f"{story.seed}/passing"))
        self.secret = self.random_bytes(32)
        self.registry = MemoryRegistry(self.random_bytes)
        self.platter = Platter(Random(f"{story.seed}/disk"), DiskTrouble())
        self.life: Life | None = None
        self.lives = self.crashes = 0
        self._books = DiskBooks(promises.learned)
        self._is_calm = self._is_over = False
        self._ended = trio.Event()
        self._keep_books()

    def _keep_books(self) -> None:
        """Of what is safe at the durability of this run."""
        match self.story.settings.storage.durability:
            case Durability.DISK:
                self.platter.synced = self._books.learn
                self.platter.survived = self._books.learn_if_whole
            case Durability.PROCESS:
                self.platter.written = self._books.learn
                self.platter.torn = self._books.learn_if_whole

    async def run(self) -> None:
        """One life after the other, until told to stop."""
        endings = iter(self.story.endings)
        while not self._is_over:
            ending = None if self._is_calm else next(endings, None)
            self.lives += 1
            self.life = Life(self, ending)
            await self.life.run()
            self.life = None
            if not self._is_over:
                await trio.sleep(_RESTART_S if ending is None or self._is_calm else ending.down_s)
        self._ended.set()

    def died(self, mount: Mount, *, is_power_cut: bool) -> None:
        """The life that was is no more; what is left is left now."""
        self.chronicle.note("the power goes" if is_power_cut else "the process is killed")
        self.crashes += 1
        self.registry = survivor(self.registry)
        self.promises.crashed(mount, is_power_cut=is_power_cut)
        if is_power_cut:
            self.platter.power_cut()
            if self.story.settings.storage.durability is Durability.PROCESS:
                self._books.forget()

    def calm_down(self) -> None:
        """From now on nothing goes wrong."""
        self._is_calm = True
        if self.life is not None:
            self.life.live_on()

    @property
    def queued(self) -> int | None:
        """Records in all queues; None while nobody serves."""
        hub = None if self.life is None else self.life.hub
        return None if hub is None else hub.parts.queue.totals().records

    async def stop(self) -> None:
        """Close the dispatcher in order, for good."""
        self._is_over = True
        if self.life is not None:
            self.life.stop_soon()
        await self._ended.wait()


def _passing(dice: Random) -> Callable[[], float]:
    """A clock that goes on whenever it is read, so that some turns of the loop are long."""
    now_s = 0.0

    def read() -> float:
        nonlocal now_s
        now_s += dice.expovariate(1 / _PASSING_S)
        return now_s

    return read


def _randomness(dice: Random) -> Callable[[int], bytes]:
    """A function, so that copies of what uses it draw from the same source."""
    return lambda count: dice.randbytes(count)
