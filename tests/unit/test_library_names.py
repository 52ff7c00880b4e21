"""The names that the package exports, some of which are imported when they are asked for."""

from __future__ import annotations

import pytest

import dispatcher


@pytest.mark.parametrize("name", dispatcher.__all__)
def test_each_is_there_and_is_told(name: str) -> None:
    assert getattr(dispatcher, name) is not None
    assert name in dir(dispatcher)


def test_no_other_is() -> None:
    with pytest.raises(AttributeError, match="no attribute 'open_dispacher'"):
        _ = dispatcher.open_dispacher  # type: ignore[attr-defined]
