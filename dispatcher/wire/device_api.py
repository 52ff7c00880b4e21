"""The bodies of ``/v2/endpoints`` and ``/v2/device-requests``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from dispatcher.model import Resource

_T = TypeVar("_T")

_encode = msgspec.json.Encoder().encode


class _ResourceOut(msgspec.Struct, frozen=True):
    uri: str
    obs: bool
    rt: str | UnsetType
    type: str | UnsetType


def render_resources(resources: Sequence[Resource]) -> bytes:
    """The body of GET endpoints/{device}."""
    return _encode(
        [
            _ResourceOut(resource.path, bool(resource.obs), _given(resource.rt), _given(resource.ct))
            for resource in resources
        ]
    )


def _given(value: _T | None) -> _T | UnsetType:
    return UNSET if value is None else value
