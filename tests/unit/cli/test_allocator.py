"""Freed memory is kept for what comes next, up to a bound; each in a process, for it cannot be undone."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource
from dispatcher.cli.allocator import keep_freed_memory
{then}
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

PAGES = """
import threading
from pathlib import Path
from dispatcher.cli.allocator import give_back_freed_memory, keep_freed_memory
def pages():
    return int(Path("/proc/self/statm").read_text().split()[1])
"""

BETWEEN = f"""{PAGES}
keep_freed_memory()
passing, lasting = [], []
before = pages()
for _ in range(400):
    passing.append(bytes([65]) * 65536)
    lasting.append(bytes([65]) * 1024)
del passing
{{then}}
print(pages() - before)
"""

THREAD = f"""{PAGES}
{{then}}
def work():
    passing = [bytes([65]) * 65536 for _ in range(400)]
before = pages()
thread = threading.Thread(target=work)
thread.start()
thread.join()
give_back_freed_memory()
print(pages() - before)
"""


def told(program: str, then: str = "") -> int:
    """What a program prints: the page faults it took, or the pages it kept."""
    command = [sys.executable, "-P", "-c", program.format(then=then)]
    return int(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)


def test_bodies_one_after_the_other_take_no_new_pages() -> None:
    if told(FAULTS) < 1_000:
        pytest.skip("this C library keeps what is free by itself")
    assert told(FAULTS, "assert keep_freed_memory()") < 100


def test_what_was_taken_once_goes_back_though_what_lasts_lies_between() -> None:
    if told(BETWEEN) < 5_000:
        pytest.skip("this C library keeps nothing that is free")
    assert told(BETWEEN, "assert give_back_freed_memory()") < 2_000


def test_what_a_thread_took_goes_back_too() -> None:
    assert told(THREAD, "assert keep_freed_memory()") < 1_000
