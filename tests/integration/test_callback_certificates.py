"""Callbacks over https: what the dispatcher shows, whom it believes, and what it says when it does not.

The application here verifies as the original's documents ask: it knows the operator's root,
wants the chain of depth 2 under it, and compares the common name.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
from support.certificates import Authority, Files
from support.receiver import Answer, Receiver, Request, answer, open_receiver

from dispatcher import (
    CallbackSettings,
    ConfigError,
    Durability,
    Hub,
    Notification,
    Settings,
    StorageSettings,
    ValidationError,
    World,
    open_dispatcher,
)
from dispatcher.model import Application
from dispatcher.registry.memory import MemoryRegistry

NAME = "notifications.test"
EVENT = Notification("dev-1", "/3303/0/5700", b"21.5")
LONG_AGO = datetime(2021, 1, 1, tzinfo=UTC)  # trustme's certificates are valid from 2000 on


@pytest.fixture(scope="module")
def operator() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def owner() -> Authority:
    """The authority of the application's server certificate."""
    return Authority()


@pytest.fixture
def ours(tmp_path: Path) -> Files:
    """The files of the operator's client certificate."""
    return Files(tmp_path / "client.pem", tmp_path / "client.key")


@asynccontextmanager
async def dispatching(*, ca: str = "", client: Files | None = None) -> AsyncIterator[tuple[Hub, Application]]:
    callbacks = CallbackSettings(
        allow_private=True,
        ca=ca,
        client_certificate=str(client.certificate) if client else "",
        client_key=str(client.key) if client else "",
    )
    settings = Settings(storage=StorageSettings(durability=Durability.MEMORY), callbacks=callbacks)
    async with open_dispatcher(settings, world=World(registry=MemoryRegistry())) as hub:
        yield hub, await hub.ensure_application(await hub.ensure_account(), "app")


@asynccontextmanager
async def demanding(owner: Authority, operator: Authority, *names: str) -> AsyncIterator[Receiver]:
    """An application that takes nothing but from these common names."""

    def decide(request: Request) -> Answer:
        return answer(204 if request.client_name in names else 403)

    tls = owner.server_context("127.0.0.1", asks_for=operator)
    async with open_receiver(otherwise=decide, tls=tls) as receiver:
        yield receiver


@contextmanager
def refusing(context: ssl.SSLContext) -> Iterator[str]:
    """The URL of a server that does its handshakes as the standard library does.

    Trio's server side sends no alert when it refuses a certificate.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)

        def refuse_one() -> None:
            with listener.accept()[0] as accepted, suppress(ssl.SSLError, OSError):
                accepted.settimeout(5)
                with context.wrap_socket(accepted, server_side=True) as secured:
                    secured.recv(65_536)

        thread = threading.Thread(target=refuse_one)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/"
        thread.join(10)


async def refusal(hub: Hub, application: Application, url: str) -> str:
    """What of the 400's message is about the callback."""
    with pytest.raises(ValidationError) as caught:
        await hub.register_callback(application, url)
    assert [field.name for field in caught.value.fields] == ["url"]
    return caught.value.message.removeprefix("the callback could not be verified: ")


async def test_the_whole_chain_and_the_common_name_are_shown_at_verification_and_at_delivery(
    tmp_path: Path, operator: Authority, owner: Authority, ours: Files
) -> None:
    ours.write(operator.issue(common_name=NAME))
    ca = owner.write_root(tmp_path / "ca.pem")
    async with (
        demanding(owner, operator, NAME) as receiver,
        dispatching(ca=ca, client=ours) as (hub, application),
    ):
        await hub.register_callback(application, receiver.url)
        await hub.publish_many(application, [EVENT])
        verification, delivery = await receiver.wait_requests(2)
    assert verification.body == b"{}"
    assert b"dev-1" in delivery.body
    assert (verification.connection, delivery.connection) == (0, 1)
    assert (verification.client_name, delivery.client_name) == (NAME, NAME)


async def test_another_common_name_is_the_applications_to_refuse(
    tmp_path: Path, operator: Authority, owner: Authority, ours: Files
) -> None:
    ours.write(operator.issue(common_name="someone-else.test"))
    ca = owner.write_root(tmp_path / "ca.pem")
    async with (
        demanding(owner, operator, NAME) as receiver,
        dispatching(ca=ca, client=ours) as (hub, application),
    ):
        assert await refusal(hub, application, receiver.url) == "status 403"


async def test_a_leaf_without_its_chain_is_refused_in_the_handshake_and_the_400_says_so(
    tmp_path: Path, operator: Authority, owner: Authority, ours: Files
) -> None:
    ours.write(operator.issue(common_name=NAME), with_chain=False)
    ca = owner.write_root(tmp_path / "ca.pem")
    with refusing(owner.server_context("127.0.0.1", asks_for=operator)) as url:
        async with dispatching(ca=ca, client=ours) as (hub, application):
            assert await refusal(hub, application, url) == "tls: it refused the handshake (unknown ca)"


async def test_without_the_certificate_that_is_asked_for_the_400_says_so(
    tmp_path: Path, operator: Authority, owner: Authority
) -> None:
    ca = owner.write_root(tmp_path / "ca.pem")
    with refusing(owner.server_context("127.0.0.1", asks_for=operator)) as url:
        async with dispatching(ca=ca) as (hub, application):
            reason = await refusal(hub, application, url)
            assert reason == "tls: it refused the handshake (certificate required)"


@pytest.mark.parametrize(
    ("names", "until", "knows_root", "reason"),
    [
        (("127.0.0.1",), LONG_AGO, True, "its certificate has expired"),
        (("other.test",), None, True, "its certificate is for another name"),
        (
            ("127.0.0.1",),
            None,
            False,
            "its certificate is of an authority not known here, or its chain is not complete",
        ),
    ],
)
async def test_a_certificate_that_is_not_accepted_is_told_why(
    tmp_path: Path,
    owner: Authority,
    names: tuple[str, ...],
    until: datetime | None,
    knows_root: bool,
    reason: str,
) -> None:
    ca = owner.write_root(tmp_path / "ca.pem") if knows_root else ""
    async with (
        open_receiver(tls=owner.server_context(*names, until=until)) as receiver,
        dispatching(ca=ca) as (hub, application),
    ):
        assert await refusal(hub, application, receiver.url) == f"tls: {reason}"
        assert receiver.requests == []


async def test_a_receiver_without_tls_is_told_so_and_its_words_are_not_repeated() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some(65_536)
        await stream.send_all(b"HTTP/1.1 400 secret words\r\nContent-Length: 0\r\n\r\n")

    async with trio.open_nursery() as nursery, dispatching() as (hub, application):
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        url = f"https://127.0.0.1:{listener.socket.getsockname()[1]}/"
        assert await refusal(hub, application, url) == "tls: it does not speak TLS"
        nursery.cancel_scope.cancel()


async def test_reloaded_files_are_for_new_connections_and_none_that_is_open_ends(
    tmp_path: Path, operator: Authority, owner: Authority, ours: Files
) -> None:
    ours.write(operator.issue(common_name=NAME))
    ca = tmp_path / "ca.pem"
    owner.write_root(ca)
    async with (
        demanding(owner, operator, NAME, "newer.test") as receiver,
        dispatching(ca=str(ca), client=ours) as (hub, application),
    ):
        await hub.register_callback(application, receiver.url)
        await hub.publish_many(application, [EVENT])
        await receiver.wait_requests(2)

        ours.write(operator.issue(common_name="newer.test"))
        await hub.reload_callback_tls()
        await hub.publish_many(application, [EVENT])
        kept = (await receiver.wait_requests(3))[-1]
        assert (kept.connection, kept.client_name) == (1, NAME)
        await hub.register_callback(application, receiver.url)
        assert receiver.requests[-1].client_name == "newer.test"

        other = Authority()
        other.write_root(ca)  # roots that were taken away are not believed any more
        await hub.reload_callback_tls()
        assert (await refusal(hub, application, receiver.url)).startswith(
            "tls: its certificate is of an authority"
        )


async def test_files_that_cannot_be_used_leave_all_as_it_was(
    tmp_path: Path, operator: Authority, owner: Authority, ours: Files
) -> None:
    ours.write(operator.issue(common_name=NAME))
    ca = tmp_path / "ca.pem"
    owner.write_root(ca)
    async with (
        demanding(owner, operator, NAME) as receiver,
        dispatching(ca=str(ca), client=ours) as (hub, application),
    ):
        for path, setting in ((ours.key, r"callbacks\.client_certificate"), (ca, r"callbacks\.ca")):
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) // 2])
            with pytest.raises(ConfigError, match=setting):
                await hub.reload_callback_tls()
            await hub.register_callback(application, receiver.url)
            assert receiver.requests[-1].client_name == NAME
            path.write_bytes(whole)
