"""Which sockets are compressed: those whose clients offer it, while the operator lets it happen."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from support.api_in_process import House, open_house
from support.websocket_pairs import RawClient
from trio.testing import MockClock
from wsproto.events import TextMessage

from dispatcher.config import ServerSettings
from dispatcher.http.message import Upgrade
from dispatcher.model import Role
from dispatcher.wire.ws_extensions import DeflateTerms

HANDSHAKE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec_websocket_version": "13",
    "sec_websocket_key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
OFFER = {"sec_websocket_extensions": "permessage-deflate; client_max_window_bits"}
CONNECT = "/v2/notification/websocket-connect"


def extensions_of(answer: object) -> str | None:
    assert isinstance(answer, Upgrade)
    return dict(answer.headers).get("Sec-WebSocket-Extensions")


async def receive_one(house: House, upgrade: object, payload: str) -> tuple[bytes, str]:
    """The first byte of what comes on the socket, and the message that it begins."""
    assert isinstance(upgrade, Upgrade)
    server, client = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(upgrade.run, server, b"")
        await trio.testing.wait_all_tasks_blocked()
        await house.gateway.post({"notifications": [{"ep": "d", "path": "/1", "payload": payload}]})
        data = bytes(await client.receive_some())
        reader = RawClient(client, DeflateTerms())
        reader.parser.receive_data(data)
        text = "".join(event.data for event in reader.parser.events() if isinstance(event, TextMessage))
        await client.aclose()
    return data[:1], text


async def counted(house: House, stage: str) -> float:
    """What the metrics page has of it."""
    page = (await house.app.send("GET", "/metrics")).body.decode()
    name = f'dispatcher_websocket_deflate_bytes_total{{stage="{stage}"}} '
    return float(next(line for line in page.splitlines() if line.startswith(name)).removeprefix(name))


async def prepare(house: House) -> None:
    await house.app.send("PUT", "/v2/notification/websocket")
    await house.app.send("PUT", "/v2/subscriptions", [{"endpoint-name": "*"}])


@pytest.mark.parametrize(
    ("offer", "payload", "first_byte"),
    [(OFFER, "A" * 4_000, b"\xc1"), ({}, "A" * 4_000, b"\x81"), (OFFER, "QUJD", b"\x81")],
    ids=["offered", "not offered", "small"],
)
async def test_what_was_agreed_on_is_what_is_sent(
    autojump_clock: MockClock, offer: dict[str, str], payload: str, first_byte: bytes
) -> None:
    async with open_house() as house:
        await prepare(house)
        upgrade = await house.app.ask("GET", CONNECT, **HANDSHAKE, **offer)
        assert extensions_of(upgrade) == (DeflateTerms().answer() if offer else None)
        found, text = await receive_one(house, upgrade, payload)
        assert await counted(house, "in") == (len(text) if first_byte == b"\xc1" else 0)
        assert await counted(house, "over_rate") == 0
    assert found == first_byte
    assert payload in text


async def test_a_rate_of_zero_agrees_on_nothing(autojump_clock: MockClock) -> None:
    async with open_house(server=ServerSettings(websocket_deflate_bytes_per_s=0)) as house:
        await prepare(house)
        upgrade = await house.app.ask("GET", CONNECT, **HANDSHAKE, **OFFER)
        assert extensions_of(upgrade) is None
        assert (await receive_one(house, upgrade, "A" * 4_000))[0] == b"\x81"


async def test_a_gateways_socket_agrees_on_nothing(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        gateway = await house.caller(Role.GATEWAY)
        assert extensions_of(await gateway.ask("GET", "/gateway/v1/connect", **HANDSHAKE, **OFFER)) is None
