"""When the interpreter looks for garbage that reference counts do not find.

A daemon's lasting objects number a million, and next to no cycle is made while it works: what
it lets go is freed at once, by reference count.  Python as it comes looks over the young
objects after every 700 that were made, which is several times for each hundred requests, and
now and then over all there are, which stops the loop for as long as a third of a second with
100,000 channels.  So what exists when a daemon is ready is set aside for good, and the rest
is looked over rarely.  Only the daemon does this: in a program that has the dispatcher inside
the collector is not ours to set.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from dispatcher import limits


@contextmanager
def opening() -> Iterator[None]:
    """Nothing is looked for until ``collect_rarely``; afterwards it is as often as before."""
    thresholds = gc.get_threshold()
    gc.disable()
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.enable()


def collect_rarely() -> None:
    """Set aside what exists, and look over what comes after it now and then."""
    gc.freeze()
    gc.set_threshold(*limits.GARBAGE_THRESHOLDS)
    gc.enable()
