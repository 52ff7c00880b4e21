"""The Node peer as a process: ``node_dispatcher.cjs``."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..process import Absent, ServerProcess, open_server

_FOLDER = Path(__file__).parent


def find_node() -> str:
    """The program, with the library that the peer needs beside it.  Raises ``Absent``."""
    node = shutil.which("node")
    if node is None:
        raise Absent("there is no node: apt-get install nodejs npm")
    if not (_FOLDER / "node_modules" / "ws").is_dir():
        raise Absent("the library ws is missing: npm install --prefix bench/peers")
    return node


@contextmanager
def open_node(*arguments: str) -> Iterator[ServerProcess]:
    """Start it with these arguments.  Raises ``Absent``."""
    node = find_node()
    with tempfile.TemporaryDirectory(prefix="dispatcher-bench-") as folder:
        command = [node, _FOLDER / "node_dispatcher.cjs", *arguments]
        with open_server(command, Path(folder, "log")) as server:
            yield server
