"""How much memory there is for us: the machine's, or what our control groups leave us of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def machine_memory_bytes(root: Path = Path("/")) -> int:
    """The machine's memory or, when that is less, the tightest limit of a group that we are in.

    Containers, and services with ``MemoryMax=``, are ended by the kernel over that limit, however
    much the machine has.  Both generations of control groups; ``root`` is where ``/proc`` and ``/sys``
    are.  Blocks for a few small reads.
    """
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_limits(root)])


def _limits(root: Path) -> Iterator[int]:
    """Of each group and all above it; up to the root, which is where a container sees its own."""
    for group in _groups(root):
        for one in (group, *group.parents):
            name = str(one).lstrip("/")
            for file in (
                root / "sys/fs/cgroup" / name / "memory.max",
                root / "sys/fs/cgroup/memory" / name / "memory.limit_in_bytes",
            ):
                text = _read(file).strip()
                if text.isdigit():  # "max" is none
                    yield int(text)


def _groups(root: Path) -> set[PurePosixPath]:
    """Each line is ``number:controllers:path``."""
    lines = _read(root / "proc/self/cgroup").splitlines()
    return {PurePosixPath(line.split(":", 2)[2]) for line in lines if line.count(":") >= 2}


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
