"""Plays the documents in ``cases/``; all at once, because most of their time they wait."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import trio
from support.case_document import Case, read_cases
from support.case_player import Player
from support.case_receiver import open_case_receiver
from support.case_tenants import Tenancy, config_of, make_tenancies
from support.daemon import Daemon, open_daemon

CASES = read_cases(Path(__file__).parent / "cases")
PLAYED_AT_ONCE = 24
SLOW = bool(os.environ.get("DISPATCHER_SLOW_CASES"))
PATIENCE_S = 20  # longer cases are played when they are asked for

Outcomes = dict[str, Exception | None]


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """How each case that was asked for went: None when as it is written."""
    names = {item.callspec.params["case"].name for item in request.session.items if _is_case(item)}
    wanted = [case for case in CASES if case.name in names and not _is_left_out(case)]
    found: Outcomes = {}
    shared = [case for case in wanted if not case.has_own_daemon]
    for together in [shared, *([case] for case in wanted if case.has_own_daemon)]:
        if together:
            found |= _play_on_a_daemon(tmp_path_factory.mktemp("daemon"), together)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_case_goes_as_it_is_written(case: Case, outcomes: Outcomes) -> None:
    if _is_left_out(case):
        pytest.skip(f"takes {case.takes_s} s; DISPATCHER_SLOW_CASES=1 plays it")
    failure = outcomes[case.name]
    assert failure is None, failure


def _is_left_out(case: Case) -> bool:
    return case.takes_s > PATIENCE_S and not SLOW


def _is_case(item: pytest.Item) -> bool:
    return "case" in getattr(getattr(item, "callspec", None), "params", {})


def _play_on_a_daemon(folder: Path, cases: Sequence[Case]) -> Outcomes:
    tenancies = trio.run(make_tenancies, folder / "data", cases)
    with open_daemon(folder, "--allow-private-callbacks", config=config_of(cases)) as daemon:
        return trio.run(_play_all, daemon, cases, tenancies)


async def _play_all(daemon: Daemon, cases: Sequence[Case], tenancies: Mapping[str, Tenancy]) -> Outcomes:
    found: Outcomes = {}
    room = trio.CapacityLimiter(PLAYED_AT_ONCE)

    async def play(case: Case) -> None:
        async with room:
            found[case.name] = await _outcome(case, daemon, tenancies[case.name])

    async with trio.open_nursery() as nursery:
        for case in cases:
            nursery.start_soon(play, case)
    return found


async def _outcome(case: Case, daemon: Daemon, tenancy: Tenancy) -> Exception | None:
    async with open_case_receiver() as receiver:
        try:
            await Player(daemon, tenancy, receiver).play(case)
        except Exception as error:
            return error
    return None
