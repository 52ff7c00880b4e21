"""The two times of a certificate, and when they are told of."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

import pytest
import trustme

from dispatcher.core.certificates import Validity, validity

DAY_S = 86_400.0


def der(until: datetime) -> bytes:
    leaf = trustme.CA().issue_cert("localhost", not_after=until)
    return ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())


@pytest.mark.parametrize("year", [2030, 2049, 2050, 2099])  # the form of the time changes with 2050
def test_the_end_of_a_certificate_is_found(year: int) -> None:
    until = datetime(year, 3, 4, 5, 6, 7, tzinfo=UTC)
    found = validity(der(until))
    assert found.end_s == until.timestamp()
    assert found.begin_s < found.end_s


def test_what_is_no_certificate_is_refused_wherever_it_ends() -> None:
    whole = der(datetime(2040, 1, 1, tzinfo=UTC))
    for length in range(0, 200, 7):
        with pytest.raises(ValueError, match="not a certificate"):
            validity(whole[:length])
    for text in (b"", b"0", b"\x30\x80", b"\x30\x84\xff\xff\xff\xff", b"nonsense", bytes(50)):
        with pytest.raises(ValueError, match="not a certificate"):
            validity(text)


@pytest.mark.parametrize(
    ("life_days", "left_days", "told"),
    [
        (90, 60, None),
        (90, 14.01, None),
        (90, 14, 14),
        (90, 7, 7),
        (90, 6.9, 7),
        (90, 0.5, 1),
        (90, 0, 0),
        (90, -3, 0),
        (6, 5.9, None),  # a short life is told of in its last third alone
        (6, 1, 1),
        (1, 0.9, None),
        (1, -0.1, 0),
    ],
)
def test_a_level_is_told_when_so_many_days_are_left(
    life_days: float, left_days: float, told: int | None
) -> None:
    end_s = 1e9 + timedelta(days=life_days).total_seconds()
    found = Validity(begin_s=1e9, end_s=end_s)
    assert found.days_told(end_s - left_days * DAY_S) == told
