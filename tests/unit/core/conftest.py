"""What tests of routing are run with: the plain finder, and the native one."""

from __future__ import annotations

import pytest
from support.routing import FINDERS

from dispatcher.core.route_table import RouteFinder


@pytest.fixture(params=FINDERS)
def finder(request: pytest.FixtureRequest) -> RouteFinder:
    return FINDERS[request.param]()
