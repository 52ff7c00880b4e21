"""The native queue in memory against the model."""

from __future__ import annotations

from hypothesis import settings
from support.queue_comparison import QueueComparison

TestQueueComparison = QueueComparison.TestCase
TestQueueComparison.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
