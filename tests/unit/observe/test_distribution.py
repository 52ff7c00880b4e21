"""What is counted cheaply is what a histogram of prometheus_client counts."""

from __future__ import annotations

import random

from prometheus_client import CollectorRegistry, Histogram

from dispatcher.observe.distribution import Distribution
from dispatcher.observe.metrics import EVENTS, SECONDS


def test_it_counts_as_a_histogram_does() -> None:
    draw = random.Random(1)
    for bounds in (SECONDS, EVENTS):
        registry = CollectorRegistry()
        histogram = Histogram("h", "h", registry=registry, buckets=bounds)
        counted = Distribution(bounds)
        values = [0.0, *bounds, *(draw.uniform(0, 2 * bounds[-1]) for _ in range(200)), 1e9]
        for value in values:
            histogram.observe(value)
            counted.observe(value)
        for name, count in counted.buckets():
            assert registry.get_sample_value("h_bucket", {"le": name}) == count
        assert registry.get_sample_value("h_sum") == counted.total
        assert len(counted.buckets()) == len(bounds) + 1
        assert repr(counted) == f"<Distribution of {len(values)}>"
