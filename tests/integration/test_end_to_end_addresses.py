"""Which addresses a real daemon calls because an application registered them, and which never."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from support.daemon import log_shown, new_tenant, open_daemon
from support.receiver import open_receiver
from support.tenants import (
    callback_tenant,
    small,
)

pytestmark = pytest.mark.slow

QUIET_S = 0.3

SPELLINGS = [
    "http://127.0.0.1:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://127.1:{port}/",
    "http://127.000.000.001:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://0x7f.0.0.1:{port}/",
    "http://0x7f000001:{port}/",
    "http://2130706433:{port}/",
    "http://017700000001:{port}/",
    "http://0:{port}/",
    "http://0.0.0.0:{port}/",
    "http://[::1]:{port}/",
    "http://[::]:{port}/",
    "http://[0:0:0:0:0:0:0:1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::127.0.0.1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://\uff11\uff12\uff17.0.0.1:{port}/",
    "http://127\u30020\u30020\u30021:{port}/",
    "http://example.com@127.0.0.1:{port}/",
    "http://127.0.0.1\\@example.com:{port}/",
    "http://127.0.0.1:{port}#@example.com/",
    "HTTP://127.0.0.1:{port}/",
    "http://localhost:{port}/",
    "http://LOCALHOST.:{port}/",
    "http://169.254.169.254/latest/meta-data/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.0.1/",
    "http://100.64.0.1/",
    "http://[fe80::1]/",
    "http://[fd00::1]/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/",
]


async def test_a_private_callback_address_is_refused_in_every_spelling_and_never_dialled(
    tmp_path: Path,
) -> None:
    with open_daemon(tmp_path) as guarded, log_shown(guarded):
        async with open_receiver() as receiver, await open_listener_v6(receiver.port) as listener_v6:
            tenant = await new_tenant(guarded)
            for spelling in SPELLINGS:
                url = spelling.format(port=receiver.port)
                put = await tenant.application.send("PUT", "/v2/notification/callback", {"url": url})
                assert put.status == 400, url
                assert put.content()["object"] == "error"
            assert receiver.connections == 0
            assert not await is_dialled(listener_v6)
        assert (await tenant.application.send("GET", "/v2/notification/callback")).status == 404


async def open_listener_v6(port: int) -> trio.SocketListener:
    """A listener that nobody serves, where what is refused would go by its IPv6 spellings."""
    (listener,) = await trio.open_tcp_listeners(port, host="::1")
    return listener


async def is_dialled(listener: trio.SocketListener) -> bool:
    with trio.move_on_after(QUIET_S):
        await listener.accept()
        return True
    return False


async def test_an_allowed_network_may_be_called(tmp_path: Path) -> None:
    config = '[callbacks]\nallow_networks = ["127.0.0.0/8"]\n'
    with open_daemon(tmp_path, config=config) as guarded, log_shown(guarded):
        async with open_receiver() as receiver:
            tenant = await callback_tenant(guarded, receiver)
            await tenant.gateway.post_events([small(1)])
            await receiver.wait_requests(2)
