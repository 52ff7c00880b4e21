"""Gaps as JSON."""

from __future__ import annotations

import json

from dispatcher import limits
from dispatcher.model import GAP_REASONS, Gap
from dispatcher.wire.gaps import gap_text, gaps_array


def test_a_gap_is_an_object_with_its_seqs_count_reason_and_times() -> None:
    gap = Gap(behind_seq=3, last_seq=9, count=4, reason="overflow", from_unix_ms=100, to_unix_ms=200)
    assert gap_text(gap) == (
        b'{"first_seq":4,"last_seq":9,"count":4,"reason":"overflow","from_timestamp":100,"to_timestamp":200}'
    )


def test_times_that_nobody_knows_are_left_out() -> None:
    gap = Gap(behind_seq=3, last_seq=9, count=6, reason="corrupt")
    assert gap_text(gap) == b'{"first_seq":4,"last_seq":9,"count":6,"reason":"corrupt"}'


def test_between_the_seqs_of_refused_records_is_no_number() -> None:
    gap = Gap(behind_seq=3, last_seq=0, count=2, reason="rejected")
    assert gap_text(gap) == b'{"first_seq":4,"last_seq":3,"count":2,"reason":"rejected"}'


def test_the_pieces_of_an_array_are_its_json() -> None:
    gaps = [Gap(behind_seq=n, last_seq=n + 1, count=1, reason="memory") for n in range(3)]
    assert [gap["first_seq"] for gap in json.loads(b"{" + b"".join(gaps_array(gaps)) + b"}")["gaps"]] == [
        1,
        2,
        3,
    ]


def test_the_longest_gap_keeps_to_its_bound() -> None:
    longest = max(GAP_REASONS, key=len)
    largest = 2**63
    gap = Gap(
        behind_seq=largest - 1,
        last_seq=largest,
        count=largest,
        reason=longest,
        from_unix_ms=10**13,
        to_unix_ms=10**13,
    )
    assert len(gap_text(gap)) + 1 <= limits.GAP_BYTES_MAX
