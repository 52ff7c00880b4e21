"""Shared settings of the test suite."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Deadlines measure the machine, not the code; the examples are bounded by count instead.
settings.register_profile(
    "dispatcher",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("dispatcher")
