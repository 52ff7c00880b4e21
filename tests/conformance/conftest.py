"""Every kind of queue and of registry, one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.one_channel import EPOCH
from support.queues import KINDS, Maker, open_maker
from support.registries import OpenRegistry, open_memory, open_sqlite

from dispatcher.queue.interface import ChannelQueue
from dispatcher.registry.interface import Registry


@pytest.fixture(params=KINDS)
async def maker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Maker]:
    async with open_maker(request.param, tmp_path) as opened:
        yield opened


@pytest.fixture
async def queue(maker: Maker) -> ChannelQueue:
    return await maker.make(EPOCH, 128 << 20)


@pytest.fixture(params=[open_memory, open_sqlite], ids=["memory", "sqlite"])
async def registry(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Registry]:
    open_: OpenRegistry = request.param
    async with open_(tmp_path) as opened:
        yield opened
