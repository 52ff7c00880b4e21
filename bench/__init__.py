"""Measures the dispatcher from outside: real processes, real sockets, every event verified."""

import sys
from pathlib import Path

# ``python -m bench`` puts the source tree first; what is measured is the ``dispatcher`` that is
# installed, and the one in a source tree may have no extension.
_TREE = str(Path(__file__).parents[1])
sys.path[:] = [*(entry for entry in sys.path if entry not in ("", _TREE)), _TREE]
