"""Makes ``bench`` importable, which is in the source tree and not in the wheel.

At the end of the path, so that an installed ``dispatcher`` stays the one under test.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3]))
