"""How much freed memory the C library keeps for what comes next.

A request's body, its records and a callback's body are each some hundred kilobytes, taken
and freed for every request.  glibc as it comes gives such memory back to the system at once
and is given it again, zeroed, page by page: a third of the CPU time of a daemon that takes
bodies of 5,000 events.  Here it keeps what is free, up to a bound; and in one heap, for each
thread would get one of its own, with that bound for each.

What opening took and let go is another matter: with 100,000 channels tens of megabytes between what
stays, which no request would ever use again.  It goes back once.

Process-wide, and therefore the daemon's alone: a program that has the library inside
decides for itself.
"""

from __future__ import annotations

import ctypes

from dispatcher import limits

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3); setting one ends glibc's own adjusting of both
_M_ARENA_MAX = -8


def give_back_freed_memory() -> bool:
    """Give back all that is free now, the bound or not; False: nothing was, or another C library.

    Cost: a system call for each free stretch of pages; 3 ms after a start with 100,000 channels.
    """
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (AttributeError, OSError):
        return False


def keep_freed_memory() -> bool:
    """Keep up to ``limits.HEAP_KEPT_BYTES_MAX`` for the next request; False: another C library."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(
        mallopt(_M_ARENA_MAX, 1)
        and mallopt(_M_MMAP_THRESHOLD, limits.HEAP_BLOCK_BYTES_MAX)
        and mallopt(_M_TRIM_THRESHOLD, limits.HEAP_KEPT_BYTES_MAX)
    )
