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


HELD = """
from pathlib import Path
from dispatcher.cli.allocator import give_back_freed_memory, keep_freed_memory
def rss():
    return int(Path("/proc/self/statm").read_text().split()[1])
keep_freed_memory()
passing, lasting = [], []
for _ in range(400):
    passing.append(bytes([65]) * 65536)
    lasting.append(bytes([65]) * 1024)
before = rss()
del passing
freed = rss()
{last}
print(freed >= 0.9 * before, rss() < 0.7 * before)
"""


def held(last: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-c", HELD.format(last=last)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def test_what_was_taken_once_goes_back_though_others_lie_between() -> None:
    if not held("").startswith("True"):
        pytest.skip("this C library keeps nothing that is free")
    assert held("") == "True False"
    assert held("assert give_back_freed_memory()") == "True True"
