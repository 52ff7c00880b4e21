"""The messages to a service manager, as its socket gets them."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from dispatcher.cli.service_manager import NO_MANAGER, ServiceManager, take_service_manager
from dispatcher.errors import ConfigError

PID = 4711


def environment(place: str, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": place, "HOME": "/", **more}


def told(manager: socket.socket) -> list[str]:
    manager.settimeout(0)
    return manager.recv(4096).decode().split("\n")


def is_silent(manager: socket.socket) -> bool:
    manager.settimeout(0)
    try:
        manager.recv(4096)
    except BlockingIOError:
        return True
    return False


@pytest.fixture(params=["path", "abstract"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{tmp_path}/notify" if request.param == "path" else f"@{tmp_path.name}-notify"


@pytest.fixture
def manager(place: str):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(place.replace("@", "\0") if place[0] == "@" else place)
        yield sock


async def test_lines_go_to_a_path_or_an_abstract_name_in_one_datagram(
    place: str, manager: socket.socket
) -> None:
    await take_service_manager(environment(place), PID).tell("READY=1", "STATUS=fine")
    assert told(manager) == ["READY=1", "STATUS=fine"]


async def test_a_reload_begins_with_the_time_on_the_monotonic_clock(
    place: str, manager: socket.socket
) -> None:
    before_us = time.monotonic_ns() // 1000
    await take_service_manager(environment(place), PID).tell_reloading()
    word, moment = told(manager)
    assert word == "RELOADING=1"
    assert before_us <= int(moment.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


def test_no_child_of_ours_finds_the_variables() -> None:
    found = environment("/run/notify", WATCHDOG_USEC="1000000", WATCHDOG_PID=str(PID))
    assert take_service_manager(found, PID).watchdog_s == 1.0
    assert found == {"HOME": "/"}


async def test_the_watchdog_is_fed_twice_in_its_time(
    place: str, manager: socket.socket, autojump_clock: MockClock
) -> None:
    tells = take_service_manager(environment(place, WATCHDOG_USEC="20000000"), PID)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tells.feed, lambda: "fine")
        for _ in range(3):
            await trio.testing.wait_all_tasks_blocked()
            assert told(manager) == ["WATCHDOG=1", "STATUS=fine"]
            assert is_silent(manager)
            await trio.sleep(9.9)
            assert is_silent(manager)
            await trio.sleep(0.1)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("pid", ["1", "47110"])
async def test_a_watchdog_of_another_process_is_not_fed(place: str, manager: socket.socket, pid: str) -> None:
    tells = take_service_manager(environment(place, WATCHDOG_USEC="1000", WATCHDOG_PID=pid), PID)
    await tells.feed(lambda: "never asked")
    assert is_silent(manager)


async def test_without_a_manager_nothing_happens() -> None:
    tells = take_service_manager({"WATCHDOG_USEC": "1000"}, PID)
    assert tells is NO_MANAGER
    await tells.tell("READY=1")
    await tells.tell_reloading()
    await tells.feed(lambda: "never asked")


async def test_a_manager_that_has_gone_is_no_error(tmp_path: Path) -> None:
    await ServiceManager(str(tmp_path / "gone")).tell("READY=1")


async def test_a_manager_whose_queue_stays_full_costs_a_bounded_time(
    place: str, manager: socket.socket, autojump_clock: MockClock
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        with suppress(BlockingIOError):
            for _ in range(100_000):
                other.sendto(b"X", manager.getsockname())
    with trio.fail_after(10):
        await take_service_manager(environment(place), PID).tell("READY=1")


@pytest.mark.parametrize("place", ["vsock:2:1234", "relative/notify", "/", "@", "/" + "x" * 107])
def test_a_place_that_cannot_be_meant_stops_the_start(place: str) -> None:
    with pytest.raises(ConfigError, match="NOTIFY_SOCKET"):
        take_service_manager(environment(place), PID)


@pytest.mark.parametrize("time_us", ["soon", "-5", "0", "1.5", "²"])
def test_a_watchdog_time_that_is_none_stops_the_start(time_us: str) -> None:
    with pytest.raises(ConfigError, match="WATCHDOG_USEC"):
        take_service_manager(environment("/run/notify", WATCHDOG_USEC=time_us), PID)
