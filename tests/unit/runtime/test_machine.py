"""How much memory is ours, by what the control groups of a made-up machine say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dispatcher.runtime.machine import machine_memory_bytes

PHYSICAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
MB = 1 << 20


def machine(root: Path, groups: str, **limits: str) -> int:
    """What is ours in groups (/proc/self/cgroup) with limits, by the names of their files."""
    files = {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{name}": text for name, text in limits.items()}}
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return machine_memory_bytes(root)


@pytest.mark.parametrize(
    ("groups", "limits", "found"),
    [
        ("0::/\n", {"memory.max": f"{512 * MB}\n"}, 512 * MB),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": f"{300 * MB}\n"}, 300 * MB),
        ("0::/a/b\n", {"a/b/memory.max": f"{100 * MB}\n", "a/memory.max": f"{300 * MB}\n"}, 100 * MB),
        ("4:memory:/x\n", {"memory/x/memory.limit_in_bytes": f"{200 * MB}\n"}, 200 * MB),
        ("4:memory:/docker/x\n", {"memory/memory.limit_in_bytes": f"{200 * MB}\n"}, 200 * MB),
    ],
    ids=["a container", "a slice", "a service", "the older groups", "the older groups in a container"],
)
def test_the_tightest_limit_counts(tmp_path: Path, groups: str, limits: dict[str, str], found: int) -> None:
    assert machine(tmp_path, groups, **limits) == found


@pytest.mark.parametrize(
    ("groups", "limits"),
    [
        ("", {}),
        ("0::/a\n", {"a/memory.max": "max\n"}),
        ("0::/a\n", {"b/memory.max": "1000\n"}),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": f"{2**63 - 4096}\n"}),
        ("0::/a\n", {"a/memory.max": "nonsense\n"}),
        ("nonsense", {}),
    ],
    ids=["no groups", "no limit", "another's", "none in the older groups", "no number", "no line"],
)
def test_without_a_limit_it_is_the_machine_s(tmp_path: Path, groups: str, limits: dict[str, str]) -> None:
    assert machine(tmp_path, groups, **limits) == PHYSICAL


def test_a_machine_without_control_groups_has_what_it_has(tmp_path: Path) -> None:
    assert machine_memory_bytes(tmp_path) == PHYSICAL
