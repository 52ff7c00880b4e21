"""Which addresses a real daemon calls because an application registered them, and which never."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from support.connect_proxy import open_connect_proxy
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
    "http://100.100.100.200/latest/meta-data/",
    "http://192.0.0.192/",
    "http://198.18.0.1/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://[::ffff:0x7f.1]:{port}/",
    "http://[::ffff:127.1]:{port}/",
    "http://[::1%25lo]:{port}/",
    "http://[::1%lo]:{port}/",
    "http://[64:ff9b:1::7f00:1]:{port}/",
    "http://[2001:0:808:808::80ff:fffe]:{port}/",
    "http://[fec0::1]/",
    "http://[ff02::1]/",
    "http://[fd00:ec2::254]/",
    "http://127.0.0.1\uff61:{port}/",
    "http://\U0001d7cf\U0001d7d0\U0001d7d5.0.0.1:{port}/",
    "http://127.0.0.1%00.example.com:{port}/",
    "http://127.0.0.1%2eexample.com:{port}/",
    "http://0177.0x0.0.1:{port}/",
    "http://00000177.0.0.1:{port}/",
    "http://127.0.0.1:{port}:80/",
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


async def test_a_denied_network_and_a_port_that_is_not_allowed_are_never_dialled(tmp_path: Path) -> None:
    async with open_receiver() as receiver, open_receiver(host="127.0.0.2") as other:
        config = (
            '[callbacks]\nallow_private = true\ndeny_networks = ["127.0.0.2/32"]\n'
            f'allow_ports = ["1-1023", "{other.port}"]\n'
        )
        with open_daemon(tmp_path, config=config) as guarded, log_shown(guarded):
            tenant = await new_tenant(guarded)
            for url, reason in (
                (f"http://127.0.0.2:{other.port}/", "denied by the operator"),
                (receiver.url, f"port {receiver.port}"),
            ):
                put = await tenant.application.send("PUT", "/v2/notification/callback", {"url": url})
                (field,) = put.content()["fields"]
                assert field == {"name": "url", "message": f"address not allowed ({reason})"}
        assert (receiver.connections, other.connections) == (0, 0)


async def test_with_a_proxy_every_call_goes_through_it_to_a_judged_number(tmp_path: Path) -> None:
    async with open_receiver() as receiver, open_connect_proxy() as proxy:
        config = (
            '[callbacks]\nallow_networks = ["127.0.0.0/8"]\n'
            f'proxy = "http://me:PASSWORD@127.0.0.1:{proxy.port}"\n'
        )
        with open_daemon(tmp_path, config=config) as guarded, log_shown(guarded):
            tenant = await callback_tenant(guarded, receiver)
            await tenant.gateway.post_events([small(1)])
            await receiver.wait_requests(2)
            by_name = {"url": f"http://localhost:{receiver.port}/"}
            put = await tenant.application.send("PUT", "/v2/notification/callback", by_name)
            assert put.status == 204
            inside = {"url": "http://10.0.0.1/"}
            put = await tenant.application.send("PUT", "/v2/notification/callback", inside)
            assert put.status == 400
        log = guarded.log.read_text()
    assert set(proxy.authorities) == {f"127.0.0.1:{receiver.port}"}
    assert receiver.connections == len(proxy.heads)
    assert "PASSWORD" not in log


async def test_a_proxy_that_refuses_is_named_and_not_its_answer(tmp_path: Path) -> None:
    async with open_receiver() as receiver, open_connect_proxy(answer=b"HTTP/1.1 403 No\r\n\r\n") as proxy:
        config = f'[callbacks]\nallow_private = true\nproxy = "{proxy.url}"\n'
        with open_daemon(tmp_path, config=config) as guarded, log_shown(guarded):
            tenant = await new_tenant(guarded)
            put = await tenant.application.send("PUT", "/v2/notification/callback", {"url": receiver.url})
    (field,) = put.content()["fields"]
    assert field["message"] == "the callback could not be verified: proxy"
    assert receiver.connections == 0
