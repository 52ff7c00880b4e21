"""Freed memory is kept for what comes next; in a process of its own, for it cannot be undone."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource
from dispatcher.cli.allocator import keep_freed_memory
{first}
def body():
    pieces = [bytes([65]) * 262144 for _ in range(4)]
    return b"".join(pieces)
for _ in range(5):
    body()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    body()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(first: str) -> int:
    done = subprocess.run(
        [sys.executable, "-P", "-c", FAULTS.format(first=first)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return int(done.stdout)


def test_bodies_one_after_the_other_take_no_new_pages() -> None:
    if faults("") < 1_000:
        pytest.skip("this C library keeps what is free by itself")
    assert faults("assert keep_freed_memory()") < 100
