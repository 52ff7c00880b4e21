"""Where the processes of a measurement run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench.loopback import open_loopback
from bench.process import LOAD_CORE, SERVER_CORE, pinned


@pytest.mark.skipif(os.cpu_count() == 1, reason="needs two cores")
def test_a_server_that_the_load_starts_does_not_share_its_core() -> None:
    command = [sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))"]
    before = os.sched_getaffinity(0)
    with pinned(LOAD_CORE):
        with pinned(SERVER_CORE):
            server = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        load = os.sched_getaffinity(0)
    assert (server, load) == ([str(SERVER_CORE)], {LOAD_CORE})
    assert os.sched_getaffinity(0) == before


def test_the_load_stays_where_it_is_while_there_is_a_loopback_beside_it() -> None:
    before = os.sched_getaffinity(0)
    with open_loopback():
        assert os.sched_getaffinity(0) == before
