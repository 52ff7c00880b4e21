"""Measures the dispatcher from outside: real processes, real sockets, every event verified."""

import sys
from pathlib import Path

if __name__ == "bench":  # in the source tree; installed it is ``dispatcher.bench``
    # ``python -m bench`` puts that tree first; what is measured is the ``dispatcher`` that is
    # installed, and the one in a source tree may have no extension.
    _TREE = str(Path(__file__).parents[1])
    sys.path[:] = [*(entry for entry in sys.path if entry not in ("", _TREE)), _TREE]
