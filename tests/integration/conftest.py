"""One real daemon for a whole module, whose log is shown when a test fails.

A module says with ``DAEMON_FLAGS`` and ``DAEMON_CONFIG``, if it has them, how it is started.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.daemon import Daemon, log_shown, open_daemon


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    flags: tuple[str, ...] = getattr(request.module, "DAEMON_FLAGS", ())
    config: str = getattr(request.module, "DAEMON_CONFIG", "")
    with open_daemon(tmp_path_factory.mktemp("daemon"), *flags, config=config) as daemon:
        yield daemon


@pytest.fixture
def daemon(running: Daemon) -> Iterator[Daemon]:
    with log_shown(running):
        yield running
