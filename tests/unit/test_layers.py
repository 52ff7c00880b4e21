"""Reads the imports and draws the layers of ARCHITECTURE.md again.

A new edge is an intended act: it changes this picture and gets a sentence in the commit.
"""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(importlib.util.find_spec("dispatcher").origin).parent  # type: ignore[union-attr, arg-type]

WORDS = {"model", "limits", "config", "config_sources", "errors"}
ALLOWED: dict[str, set[str]] = {
    **dict.fromkeys(WORDS, WORDS),
    "core": WORDS,
    "wire": WORDS,
    "observe": WORDS,
    "deliver": WORDS | {"core", "wire", "observe"},
    "queue": WORDS | {"core", "wire", "observe"},
    "registry": WORDS | {"core", "wire", "observe"},
    "runtime": WORDS | {"core", "wire", "observe", "deliver", "queue", "registry"},
    "http": WORDS | {"core", "wire", "observe", "deliver", "queue", "registry", "runtime"},
    "": WORDS | {"queue", "runtime", "http"},
    "cli": WORDS | {"", "core", "wire", "observe", "queue", "registry", "runtime", "http"},
    "__main__": {"cli"},
}
NOT_IN_PURE_LAYERS = {
    "trio", "time", "random", "logging", "sqlite3", "socket", "threading", "os", "cffi", "wsproto", "h11",
}  # fmt: skip


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            module = node.module or ""
            names.update(f"{module}.{alias.name}" for alias in node.names)
    return names


def room_imported(name: str) -> str | None:
    """The room of ``dispatcher`` that an import reaches, or None for another package."""
    parts = name.split(".")
    if parts[0] != "dispatcher":
        return None
    rooms = {p.stem if p.is_file() else p.name for p in PACKAGE.iterdir()}
    return parts[1] if len(parts) > 1 and parts[1] in rooms else ""


SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if room_of(path) != "bench")
"""What is installed of ``bench`` measures from outside: it may know everything, and nothing may know it."""


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_downwards_only(path: Path) -> None:
    room = room_of(path)
    reached = {room_imported(name) for name in imports_of(path)} - {None, room}
    assert reached <= ALLOWED[room], f"{path.relative_to(PACKAGE)} must not import {reached - ALLOWED[room]}"


@pytest.mark.parametrize("room", ["model", "limits", "config", "config_sources", "errors", "core", "wire"])
def test_words_and_pure_rooms_do_no_input_or_output(room: str) -> None:
    for path in SOURCES:
        if room_of(path) == room:
            reached = {name.split(".")[0] for name in imports_of(path)}
            assert not reached & NOT_IN_PURE_LAYERS, path.relative_to(PACKAGE)


def test_only_the_native_queue_imports_the_extension() -> None:
    users = {
        str(p.relative_to(PACKAGE)) for p in SOURCES if any("queue._core" in name for name in imports_of(p))
    }
    assert users == {
        "queue/native.py",
        "queue/native_append.py",
        "queue/native_backing.py",
        "queue/native_batch.py",
        "queue/native_form.py",
        "queue/native_framed.py",
        "queue/native_journal.py",
        "queue/native_log.py",
        "queue/native_recovery.py",
        "queue/native_residency.py",
        "queue/native_ring.py",
        "queue/native_rings.py",
        "queue/native_scan.py",
        "queue/native_routes.py",
        "queue/native_slices.py",
        "queue/native_space.py",
        "queue/native_taker.py",
        "queue/native_writer.py",
    }


def test_pure_rooms_load_in_a_fresh_interpreter_without_trio_or_the_extension() -> None:
    modules = [
        ".".join(("dispatcher", *p.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for p in SOURCES
        if room_of(p) in WORDS | {"core", "wire"}
    ]
    code = f"""
import importlib, sys, types
package = types.ModuleType("dispatcher")
package.__path__ = [{str(PACKAGE)!r}]
sys.modules["dispatcher"] = package
for name in {modules!r}:
    importlib.import_module(name)
sys.exit(", ".join({{"trio", "dispatcher.queue._core"}} & set(sys.modules)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
