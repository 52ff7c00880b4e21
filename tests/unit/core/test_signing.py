"""Which secrets sign, and for how long."""

from __future__ import annotations

from dispatcher import limits
from dispatcher.core.signing import renewed, secrets_at
from dispatcher.model import Signing

NOW_MS = 1_700_000_000_000
OVERLAP_MS = int(limits.SIGNING_OVERLAP_S * 1000)
A, B, C = b"a" * 24, b"b" * 24, b"c" * 24


def test_the_first_secret_signs_alone() -> None:
    signing = renewed(None, A, NOW_MS)
    assert signing is not None
    assert secrets_at(signing, NOW_MS) == (A,)


def test_no_secret_ends_it_at_once() -> None:
    assert renewed(Signing(secret=A), None, NOW_MS) is None
    assert renewed(None, None, NOW_MS) is None


def test_another_secret_leads_and_the_one_before_signs_for_its_time_and_not_longer() -> None:
    signing = renewed(Signing(secret=A), B, NOW_MS)
    assert signing is not None
    assert secrets_at(signing, NOW_MS) == (B, A)
    assert secrets_at(signing, NOW_MS + OVERLAP_MS - 1) == (B, A)
    assert secrets_at(signing, NOW_MS + OVERLAP_MS) == (B,)


def test_the_same_secret_again_does_not_lengthen_the_time_of_the_one_before() -> None:
    signing = renewed(Signing(secret=A), B, NOW_MS)
    assert renewed(signing, B, NOW_MS + 5) is signing


def test_of_three_the_first_signs_no_more() -> None:
    signing = renewed(renewed(Signing(secret=A), B, NOW_MS), C, NOW_MS + 5)
    assert signing is not None
    assert secrets_at(signing, NOW_MS + 5) == (C, B)


def test_a_secret_can_be_taken_back() -> None:
    signing = renewed(renewed(Signing(secret=A), B, NOW_MS), A, NOW_MS + 5)
    assert signing is not None
    assert secrets_at(signing, NOW_MS + 5) == (A, B)
