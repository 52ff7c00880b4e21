"""A row of the targets: the sides that take turns, and what is demanded of them.

Every side is opened before the first round and stays open: what is compared then
takes turns within seconds, A B C C B A, and what else happens on the machine
meets all of them.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager

import msgspec
import trio

from .goals import Figures, Goal
from .process import LOAD_CORE, Absent, pinned

Side = Callable[[], Awaitable[Figures]]
"""One round: measures, proves what it measured, and returns the figures."""


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured."""

    name: str
    rounds: int
    share: float  # of the full size

    def of(self, full: int, least: int = 1) -> int:
        """A size at this scale."""
        return max(round(full * self.share), least)


FULL = Scale(name="full", rounds=5, share=1.0)
QUICK = Scale(name="quick", rounds=2, share=0.05)

OpenSide = Callable[[Scale], AbstractAsyncContextManager[Side]]
"""Makes a side ready for rounds.  Raises ``Absent`` when it cannot be had on this machine."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One target."""

    name: str  # P1
    title: str
    goals: tuple[Goal, ...]
    sides: Mapping[str, OpenSide]
    short_rounds: int = 1  # that each round is cut into: the shorter, the more alike what else happens in it

    @property
    def command(self) -> str:
        """Its name on the command line."""
        return self.name.lower()


class Outcome(msgspec.Struct, frozen=True):
    """What the rounds of a row brought."""

    samples: dict[str, list[Figures]]
    absent: dict[str, str]  # side -> why it was not measured


def measure(row: Row, scale: Scale, tell: Callable[[str], None]) -> Outcome:
    """Run a row's rounds; ``tell`` hears of each.

    Whatever a side raises but ``Absent`` comes out, in an exception group.
    """
    with pinned(LOAD_CORE):
        return trio.run(_rounds, row, scale, tell)


async def _rounds(row: Row, scale: Scale, tell: Callable[[str], None]) -> Outcome:
    outcome = Outcome({}, {})
    async with AsyncExitStack() as stack:
        sides: dict[str, Side] = {}
        for name, open_side in row.sides.items():
            try:
                sides[name] = await stack.enter_async_context(open_side(scale))
            except Absent as absent:
                outcome.absent[name] = str(absent)
                tell(f"{row.name} {name}: skipped: {absent}")
        rounds = scale.rounds * scale.of(row.short_rounds)
        for number in range(rounds):
            for name in sorted(sides, key=list(sides).index, reverse=number % 2 == 1):
                with _without_collector():
                    outcome.samples.setdefault(name, []).append(await sides[name]())
                tell(f"{row.name} {name} {number + 1}/{rounds}: proven")
    return outcome


@contextmanager
def _without_collector() -> Iterator[None]:
    """Python's collector stops this process, the load, and would be taken for the server's lateness."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
