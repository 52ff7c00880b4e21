"""The uid of a record."""

from __future__ import annotations

import uuid

import hypothesis.strategies as st
from hypothesis import given

from dispatcher.wire.uid import uid

numbers = st.integers(0, 2**64 - 1)


def test_the_examples_of_the_format_come_out() -> None:
    assert uid(0x0123456789ABCDEF, 1, 1) == "f998fb6f-8d8c-829b-a58c-c2c27860a21d"
    assert uid(0xFFFFFFFFFFFFFFFF, 7, 1_000_000) == "8b9594a9-a520-8cfd-b599-1e3db4387327"


@given(numbers, numbers, numbers)
def test_it_is_a_uuid_of_version_8(incarnation: int, epoch: int, seq: int) -> None:
    text = uid(incarnation, epoch, seq)
    parsed = uuid.UUID(text)
    assert str(parsed) == text
    assert (parsed.version, parsed.variant) == (8, uuid.RFC_4122)


@given(numbers, numbers, numbers, numbers)
def test_two_records_of_an_incarnation_never_share_one(incarnation: int, epoch: int, a: int, b: int) -> None:
    assert (uid(incarnation, epoch, a) == uid(incarnation, epoch, b)) == (a == b)


def test_epochs_and_incarnations_change_it() -> None:
    assert len({uid(i, e, s) for i in range(20) for e in range(20) for s in range(20)}) == 8_000
