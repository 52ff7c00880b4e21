"""How long the event loop is kept by one step of one task."""

from __future__ import annotations

import time

import trio


class LoopSteps(trio.abc.Instrument):
    """Times every step of every task in the Trio thread's own CPU time.

    What other threads and other programs take in between does not count.
    """

    def __init__(self) -> None:
        self.count = 0
        self.longest_cpu_s = 0.0
        self.mean_cpu_s = 0.0
        self._began_s = time.thread_time()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began_s = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        took_s = time.thread_time() - self._began_s
        self.count += 1
        self.mean_cpu_s += (took_s - self.mean_cpu_s) / self.count
        self.longest_cpu_s = max(self.longest_cpu_s, took_s)
