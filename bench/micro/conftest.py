"""Makes ``bench`` importable when pytest is not started as a module from the source tree."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
