"""Which addresses are dialled, in which order, and how failures are named."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Sequence
from ipaddress import ip_network

import pytest
import trio
import trio.testing

from dispatcher import limits
from dispatcher.core.addresses import AddressPolicy
from dispatcher.core.callback_rules import parse_callback
from dispatcher.deliver import dialer as dialer_module
from dispatcher.deliver.callback_tls import client_context
from dispatcher.deliver.dialer import Dialer, SystemResolver, connect_tcp
from dispatcher.deliver.sink import DeliveryFailed, FailureClass

TLS = client_context()
TARGET = parse_callback("http://receiver.example:8080/", {})


class Network:
    """A resolver with scripted answers and a record of what was dialled."""

    def __init__(
        self, *answers: Sequence[str] | OSError, broken: dict[str, OSError | None] | None = None
    ) -> None:
        self._answers = list(answers)
        self._broken = broken or {}
        self.lookups: list[str] = []
        self.dialled: list[tuple[str, int]] = []

    async def resolve(self, host: str) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        self.lookups.append(host)
        found = self._answers.pop(0)
        if isinstance(found, OSError):
            raise found
        return found

    async def connect(self, address: str, port: int) -> trio.abc.Stream:
        """``broken`` addresses fail with their error; None: they swallow packets."""
        self.dialled.append((address, port))
        if address in self._broken:
            error = self._broken[address]
            if error is None:
                await trio.sleep_forever()
            else:
                raise error
        return trio.testing.memory_stream_pair()[0]

    def dialer(self, policy: AddressPolicy | None = None) -> Dialer:
        return Dialer(policy or AddressPolicy(), TLS, resolve=self.resolve, connect=self.connect)

    async def failure(self, policy: AddressPolicy | None = None) -> DeliveryFailed:
        with pytest.raises(DeliveryFailed) as caught:
            await self.dialer(policy).dial(TARGET)
        return caught.value


async def test_a_name_is_resolved_once_and_dialled_by_its_address() -> None:
    network = Network(["8.8.8.8"])
    await network.dialer().dial(TARGET)
    assert network.lookups == ["receiver.example"]
    assert network.dialled == [("8.8.8.8", 8080)]


async def test_an_address_is_dialled_without_a_lookup() -> None:
    network = Network()
    await network.dialer().dial(parse_callback("http://[2606:4700::1]/", {}))
    assert network.lookups == []
    assert network.dialled == [("2606:4700::1", 80)]


@pytest.mark.parametrize(
    "answer",
    [
        ["127.0.0.1"],
        ["::1", "127.0.0.1"],
        ["::ffff:127.0.0.1"],
        ["169.254.169.254"],
        ["64:ff9b::a9fe:a9fe"],
        ["10.0.0.1", "fd00::1"],
        ["fe80::1%eth0"],
        ["0.0.0.0"],
        ["2130706433"],
        ["0x7f.1"],
        ["localhost"],
    ],
)
async def test_a_name_with_only_refused_addresses_is_not_dialled(answer: list[str]) -> None:
    network = Network(answer)
    assert (await network.failure()).failure is FailureClass.ADDRESS
    assert network.dialled == []


async def test_refused_addresses_are_left_out_even_when_the_others_fail() -> None:
    network = Network(
        ["127.0.0.1", "8.8.8.8", "10.0.0.1", "9.9.9.9", "::1"],
        broken={"8.8.8.8": ConnectionRefusedError(), "9.9.9.9": ConnectionRefusedError()},
    )
    assert (await network.failure()).failure is FailureClass.REFUSED
    assert [address for address, _ in network.dialled] == ["8.8.8.8", "9.9.9.9"]


async def test_every_connection_is_judged_anew_so_that_rebinding_gains_nothing() -> None:
    network = Network(["8.8.8.8"], ["127.0.0.1"])
    dialer = network.dialer()
    await dialer.dial(TARGET)
    with pytest.raises(DeliveryFailed) as caught:
        await dialer.dial(TARGET)
    assert caught.value.failure is FailureClass.ADDRESS
    assert network.dialled == [("8.8.8.8", 8080)]


async def test_the_policy_decides() -> None:
    answers = ["10.1.0.1"]
    assert (await Network(answers).failure()).failure is FailureClass.ADDRESS
    await Network(answers).dialer(AddressPolicy(allow_private=True)).dial(TARGET)
    await Network(answers).dialer(AddressPolicy(allow_networks=(ip_network("10.1.0.0/16"),))).dial(TARGET)
    other = AddressPolicy(allow_networks=(ip_network("10.2.0.0/16"),))
    assert (await Network(answers).failure(other)).failure is FailureClass.ADDRESS


async def test_a_port_that_is_not_allowed_is_not_even_looked_up() -> None:
    network = Network(["8.8.8.8"])
    failure = await network.failure(AddressPolicy(allow_ports=(range(443, 444),)))
    assert (failure.failure, failure.detail) == (FailureClass.ADDRESS, "port 8080")
    assert (network.lookups, network.dialled) == ([], [])


async def test_the_next_address_is_tried_when_one_is_refused() -> None:
    unreachable = OSError(errno.ENETUNREACH, "no net")
    network = Network(["2606:4700::1", "8.8.8.8"], broken={"2606:4700::1": unreachable})
    await network.dialer().dial(TARGET)
    assert [address for address, _ in network.dialled] == ["2606:4700::1", "8.8.8.8"]


async def test_an_address_that_swallows_packets_leaves_time_for_the_next(
    autojump_clock: trio.abc.Clock,
) -> None:
    network = Network(["1.1.1.1", "8.8.8.8"], broken={"1.1.1.1": None})
    started_s = trio.current_time()
    await network.dialer().dial(TARGET)
    assert trio.current_time() - started_s == limits.CALLBACK_ADDRESS_ATTEMPT_S


async def test_at_most_so_many_addresses_are_tried_each_once() -> None:
    addresses = [f"8.8.{number}.8" for number in range(50)]
    network = Network(
        [*addresses[:2], *addresses], broken={address: ConnectionRefusedError() for address in addresses}
    )
    await network.failure()
    assert [address for address, _ in network.dialled] == addresses[: limits.CALLBACK_ADDRESSES_MAX]


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), FailureClass.REFUSED),
        (OSError(errno.ETIMEDOUT, "x"), FailureClass.TIMEOUT),
        (OSError(errno.EHOSTUNREACH, "x"), FailureClass.CONNECTION),
        (OSError(errno.ENETUNREACH, "x"), FailureClass.CONNECTION),
    ],
)
async def test_failures_to_connect_are_named(error: OSError, failure: FailureClass) -> None:
    network = Network(["8.8.8.8"], broken={"8.8.8.8": error})
    assert (await network.failure()).failure is failure


@pytest.mark.parametrize("answer", [socket.gaierror(socket.EAI_NONAME, "x"), []], ids=["error", "nothing"])
async def test_a_name_without_an_address_is_dns(answer: OSError | list[str]) -> None:
    assert (await Network(answer).failure()).failure is FailureClass.DNS


async def test_a_failed_handshake_closes_the_connection() -> None:
    ours, theirs = trio.testing.memory_stream_pair()

    async def connect(address: str, port: int) -> trio.abc.Stream:
        return ours

    await theirs.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    dialer = Dialer(AddressPolicy(), TLS, connect=connect)
    with pytest.raises(DeliveryFailed) as caught:
        await dialer.dial(parse_callback("https://8.8.8.8/", {}))
    assert caught.value.failure is FailureClass.TLS
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"x")


async def test_a_cancelled_handshake_closes_the_connection(autojump_clock: trio.abc.Clock) -> None:
    ours, _theirs = trio.testing.memory_stream_pair()

    async def connect(address: str, port: int) -> trio.abc.Stream:
        return ours

    with trio.move_on_after(5):
        await Dialer(AddressPolicy(), TLS, connect=connect).dial(parse_callback("https://8.8.8.8/", {}))
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"x")


async def test_connecting_takes_no_names() -> None:
    with pytest.raises(OSError, match="illegal IP address"):
        await connect_tcp("localhost", 80)
    with pytest.raises(OSError, match="illegal IP address"):
        await connect_tcp("127.1", 80)


class SlowNames:
    """Stands in for the system's resolver: names that begin with "dead" take until ``release``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.release = threading.Event()
        self.running = self.running_max = 0
        self._lock = threading.Lock()
        monkeypatch.setattr(dialer_module, "_getaddrinfo", self)

    def __call__(self, host: str) -> list[str]:
        with self._lock:
            self.running += 1
            self.running_max = max(self.running_max, self.running)
        try:
            if host.startswith("dead"):
                assert self.release.wait(10)
                raise socket.gaierror(socket.EAI_AGAIN, "x")
            return ["8.8.8.8"]
        finally:
            with self._lock:
                self.running -= 1


async def test_dead_names_leave_threads_to_living_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    names, resolve = SlowNames(monkeypatch), SystemResolver()

    async def look_up_in_vain(host: str) -> None:
        with pytest.raises(OSError, match="x"):
            await resolve(host)

    try:
        async with trio.open_nursery() as nursery:  # each has failed once
            for number in range(40):
                nursery.start_soon(look_up_in_vain, f"dead-{number}")
            await trio.sleep(0.05)
            names.release.set()
        assert names.running_max <= limits.DNS_LOOKUPS_MAX - limits.DNS_DOUBTFUL_LOOKUPS_MAX
        names.release.clear()
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(look_up_in_vain, f"dead-{number}")
            await trio.sleep(0.05)
            assert names.running == limits.DNS_DOUBTFUL_LOOKUPS_MAX
            with trio.fail_after(2):
                assert await resolve("alive") == ["8.8.8.8"]
            names.release.set()
    finally:
        names.release.set()


async def test_a_lookup_that_was_given_up_still_holds_its_thread_and_leaves_the_name_in_doubt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names, resolve = SlowNames(monkeypatch), SystemResolver()
    try:
        for _ in range(limits.DNS_DOUBTFUL_LOOKUPS_MAX + 3):
            with trio.move_on_after(0.02) as waiting:
                await resolve("dead")
            assert waiting.cancelled_caught
        assert names.running == limits.DNS_DOUBTFUL_LOOKUPS_MAX + 1  # and the first, which was not in doubt
    finally:
        names.release.set()


async def test_a_name_that_answers_again_is_no_longer_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[list[str]] = [[], ["8.8.8.8"]]

    def look_up(host: str) -> list[str]:
        if found := answers.pop(0):
            return found
        raise socket.gaierror(socket.EAI_NONAME, "x")

    monkeypatch.setattr(dialer_module, "_getaddrinfo", look_up)
    resolve = SystemResolver()
    with pytest.raises(OSError, match="x"):
        await resolve("host")
    assert resolve.doubtful_count == 1
    await resolve("host")
    assert resolve.doubtful_count == 0


async def test_names_in_doubt_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(host: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "x")

    monkeypatch.setattr(dialer_module, "_getaddrinfo", look_up)
    monkeypatch.setattr(limits, "DNS_DOUBTFUL_NAMES_MAX", 3)
    resolve = SystemResolver()
    for number in range(6):
        with pytest.raises(OSError, match="x"):
            await resolve(f"host-{number}")
    assert resolve.doubtful_count == 3
