"""What ``dispatcher doctor`` makes of what it measured.  Pure: numbers in, findings out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum

import msgspec

from dispatcher import limits
from dispatcher.cli.quantities import bytes_text, count_text, seconds_text
from dispatcher.model import Role

_YEAR_2024_MS = 1_704_067_200_000
_YEAR_2100_MS = 4_102_444_800_000
_DAY_S = 86_400.0
_FILES_WANTED = limits.CONNECTIONS_MAX + limits.CALLBACK_SENDS_MAX + 1_000
_FILES_LEAST = 1_024
_SYNC_SLOW_S = 0.05  # a publisher waits for one sync, and for the one that is under way
_SYNC_BAD_S = 0.5


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one check found; with ``advice`` on what to do unless all is well."""

    check: str
    level: Level
    text: str
    advice: str = ""


def judge_clock(unix_ms: int, drift_s: float, is_synchronised: bool | None) -> Finding:
    """The year, how far wall and monotonic clock drew apart while we looked, and what the kernel says."""
    if not _YEAR_2024_MS < unix_ms < _YEAR_2100_MS:
        return Finding(
            "clock",
            Level.FAIL,
            "the year cannot be right: events would expire at once, or never",
            "set the clock, and let NTP keep it",
        )
    if abs(drift_s) > 0.1:
        return Finding(
            "clock", Level.WARN, f"it leapt by {drift_s:+.1f} s while it was watched", "see to NTP"
        )
    if is_synchronised is False:
        return Finding(
            "clock",
            Level.WARN,
            "the kernel says that nothing keeps it right",
            "run chrony or systemd-timesyncd",
        )
    return Finding("clock", Level.OK, "sane" + (" and synchronised" if is_synchronised else ""))


def judge_files(soft: int) -> Finding:
    """How many files and sockets a process may have open; what holds for the daemon is its unit's."""
    text = f"{count_text(soft)} open files and sockets are allowed here"
    if soft >= _FILES_WANTED:
        return Finding("file limit", Level.OK, text)
    level = Level.WARN if soft >= _FILES_LEAST else Level.FAIL
    advice = f"set LimitNOFILE={_FILES_WANTED} or more in the unit, or ulimit -n, unless few will connect"
    return Finding("file limit", level, text, advice)


def judge_disk(free_bytes: int, disk_bytes: int) -> Finding:
    """Room on the data folder's disk, and for what the settings allow there."""
    text = f"{bytes_text(free_bytes)} free"
    least = limits.JOURNAL_ALLOWANCE_BYTES + 2 * limits.JOURNAL_SEGMENT_BYTES
    if free_bytes < 2 * limits.JOURNAL_SEGMENT_BYTES:
        return Finding("disk space", Level.FAIL, text, "make room: the journal cannot begin a segment")
    if free_bytes < max(least, disk_bytes):
        wanted = bytes_text(max(least, disk_bytes))
        return Finding("disk space", Level.WARN, text, f"make room: {wanted} may be needed")
    return Finding("disk space", Level.OK, text)


def judge_syncs(seconds: Sequence[float]) -> Finding:
    """How long small writes took to be on the disk; at least one."""
    ordered = sorted(seconds)
    p50, p99 = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    text = f"a small write is on the disk after {seconds_text(p50)}, and 99 % are after {seconds_text(p99)}"
    if p99 < _SYNC_SLOW_S:
        return Finding("disk sync", Level.OK, text)
    level = Level.FAIL if p50 > _SYNC_BAD_S else Level.WARN
    return Finding(
        "disk sync", level, text, "each 202 waits for it: use a faster disk, with nothing else on it"
    )


def judge_memory(machine_bytes: int, memory_bytes: int) -> Finding:
    """The bound of all queues against the machine's memory."""
    text = f"queues may take {bytes_text(memory_bytes)} of {bytes_text(machine_bytes)}"
    if memory_bytes > machine_bytes:
        return Finding("memory", Level.FAIL, text, "lower storage.memory_bytes")
    if memory_bytes > machine_bytes * 3 // 4:
        return Finding("memory", Level.WARN, text, "lower storage.memory_bytes: the rest needs memory too")
    return Finding("memory", Level.OK, text)


def judge_certificate(setting: str, left_s: float) -> Finding:
    """How long a certificate is still valid."""
    if left_s <= 0:
        return Finding(setting, Level.FAIL, "has expired", "renew it, then reload (SIGHUP)")
    text = f"valid for {seconds_text(left_s)} more"
    if left_s < 14 * _DAY_S:
        return Finding(setting, Level.WARN, text, "renew it, then reload (SIGHUP)")
    return Finding(setting, Level.OK, text)


def judge_keys(roles: Collection[str]) -> Finding:
    """Whether somebody can post, receive and look."""
    missing = [role.value for role in Role if role.value not in roles]
    if missing:
        advice = f"dispatcher keys create --role {missing[0]} --data DIR"
        return Finding("keys", Level.WARN, f"there is no key of role {', '.join(missing)}", advice)
    return Finding("keys", Level.OK, "of each role there is one")
