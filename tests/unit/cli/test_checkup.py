"""What the doctor makes of numbers."""

from __future__ import annotations

import pytest

from dispatcher.cli.checkup import (
    Finding,
    Level,
    judge_certificate,
    judge_clock,
    judge_disk,
    judge_files,
    judge_keys,
    judge_memory,
    judge_syncs,
)

NOW_MS = 1_767_225_600_000
GB = 1_000_000_000
DAY_S = 86_400.0


@pytest.mark.parametrize(
    ("found", "level"),
    [
        (judge_clock(NOW_MS, 0.0, True), Level.OK),
        (judge_clock(NOW_MS, 0.0, None), Level.OK),
        (judge_clock(NOW_MS, 0.0, False), Level.WARN),
        (judge_clock(NOW_MS, -1.0, True), Level.WARN),
        (judge_clock(0, 0.0, True), Level.FAIL),
        (judge_clock(10 * NOW_MS, 0.0, True), Level.FAIL),
        (judge_files(65_536), Level.OK),
        (judge_files(1_024), Level.WARN),
        (judge_files(256), Level.FAIL),
        (judge_disk(100 * GB, 0), Level.OK),
        (judge_disk(100 * GB, 200 * GB), Level.WARN),
        (judge_disk(GB // 4, 0), Level.WARN),
        (judge_disk(1_000, 0), Level.FAIL),
        (judge_syncs([0.001] * 50), Level.OK),
        (judge_syncs([0.001] * 49 + [0.2]), Level.WARN),
        (judge_syncs([0.9]), Level.FAIL),
        (judge_memory(8 * GB, 4 * GB), Level.OK),
        (judge_memory(8 * GB, 7 * GB), Level.WARN),
        (judge_memory(8 * GB, 9 * GB), Level.FAIL),
        (judge_certificate("server.tls_certificate", 90 * DAY_S), Level.OK),
        (judge_certificate("server.tls_certificate", 3 * DAY_S), Level.WARN),
        (judge_certificate("server.tls_certificate", -1.0), Level.FAIL),
        (judge_keys({"application", "gateway", "admin"}), Level.OK),
        (judge_keys({"application", "admin"}), Level.WARN),
    ],
)
def test_a_finding_has_its_level_and_says_what_to_do_unless_all_is_well(found: Finding, level: Level) -> None:
    assert found.level is level
    assert bool(found.advice) == (level is not Level.OK)
    assert found.text
