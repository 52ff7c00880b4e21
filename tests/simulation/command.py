"""The command line of the simulation: many seeds, or one with all that happened in it."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from simulation.chronicle import Violation
from simulation.world import Outcome, run_seed


def main() -> int:
    """Run what the arguments ask for; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="tests/simulation/run", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, metavar="N", help="how many seeds (100)")
    parser.add_argument(
        "--from", type=int, default=0, metavar="S", dest="first", help="the first of them (0)"
    )
    parser.add_argument("--seed", type=int, metavar="S", help="this one alone, with all that happens in it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="N", help="processes (all cores)")
    chosen = parser.parse_args()
    if chosen.seed is not None:
        return _replay(chosen.seed)
    return _run_many(range(chosen.first, chosen.first + chosen.seeds), chosen.jobs)


def replay_command(seed: int) -> str:
    """What to type to see a seed again."""
    return f"tests/simulation/run --seed {seed}"


def _replay(seed: int) -> int:
    try:
        print(run_seed(seed, is_loud=True))
    except Violation as violation:
        print(f"seed {seed}: {violation}")
        return 1
    return 0


def _run_many(seeds: range, jobs: int) -> int:
    began_s = time.monotonic()
    failed = accepted = crashes = 0
    for outcome in _outcomes(seeds, jobs):
        if isinstance(outcome, str):
            failed += 1
            print(outcome, flush=True)
        else:
            accepted += outcome.accepted
            crashes += outcome.crashes
    took_s = time.monotonic() - began_s
    print(
        f"{len(seeds)} seeds in {took_s:.0f} s: {accepted} events accepted, {crashes} crashes; "
        f"{failed} seeds failed"
    )
    return 1 if failed else 0


def _outcomes(seeds: range, jobs: int) -> Iterator[Outcome | str]:
    if jobs <= 1:
        yield from map(_try, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(_try, seeds, chunksize=4)


def _try(seed: int) -> Outcome | str:
    """The outcome of a seed, or one line on how it failed."""
    try:
        return run_seed(seed)
    except (Exception, BaseExceptionGroup) as failure:
        error: BaseException = failure
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        what = str(error) if isinstance(error, Violation) else f"{type(error).__name__}: {error}"
        return f"seed {seed}: {what.splitlines()[0]}  -- replay: {replay_command(seed)}"
