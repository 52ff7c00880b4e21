"""Sockets passed as systemd passes them, without a process of their own."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from dispatcher.errors import ConfigError
from dispatcher.http.passed_sockets import address_of, take_passed_sockets

PID = 4711


def listening(family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    sock = socket.socket(family)
    sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    sock.listen()
    return sock


@contextmanager
def passed(*sockets: socket.socket) -> Iterator[int]:
    """The sockets again, as neighbouring descriptors that a child would inherit; the first's number."""
    first = 200
    for at, sock in enumerate(sockets):
        os.dup2(sock.fileno(), first + at, inheritable=True)
    try:
        yield first
    finally:
        for at in range(len(sockets)):
            with suppress(OSError):
                os.close(first + at)
        for sock in sockets:
            sock.close()


def environment(count: object, names: str | None = None, pid: object = PID) -> dict[str, str]:
    found = {"LISTEN_FDS": str(count), "LISTEN_PID": str(pid), "HOME": "/"}
    return found if names is None else {**found, "LISTEN_FDNAMES": names}


def test_a_socket_without_a_name_is_for_applications_and_gateways() -> None:
    with passed(original := listening()) as first:
        found = take_passed_sockets(environment(1), PID, first)
        (sock,) = found.public
        assert found.internal == ()
        assert address_of(sock) == f"127.0.0.1:{original.getsockname()[1]}"
        assert not os.get_inheritable(sock.fileno())
        sock.close()


def test_the_name_internal_says_which_is_the_internal_one_and_other_names_say_nothing() -> None:
    sockets = [listening() for _ in range(3)]
    ports = [sock.getsockname()[1] for sock in sockets]
    with passed(*sockets) as first:
        found = take_passed_sockets(environment(3, "dispatcher.socket:internal:http"), PID, first)
        assert [sock.getsockname()[1] for sock in found.public] == [ports[0], ports[2]]
        assert [sock.getsockname()[1] for sock in found.internal] == [ports[1]]
        for sock in (*found.public, *found.internal):
            sock.close()


def test_an_ipv6_address_has_brackets() -> None:
    with passed(original := listening(socket.AF_INET6)) as first:
        (sock,) = take_passed_sockets(environment(1), PID, first).public
        assert address_of(sock) == f"[::1]:{original.getsockname()[1]}"
        sock.close()


@pytest.mark.parametrize(
    "given",
    [{}, {"LISTEN_FDNAMES": "x"}, environment(0), environment(0, ""), environment(1, pid=PID + 1)],
    ids=["nothing", "names alone", "none", "none with names", "another process's"],
)
def test_without_sockets_for_this_process_there_are_none(given: dict[str, str]) -> None:
    found = take_passed_sockets(given, PID)
    assert (found.public, found.internal) == ((), ())
    assert not [name for name in given if name.startswith("LISTEN_")]


def test_the_variables_are_removed_so_that_no_child_takes_them_for_its_own() -> None:
    with passed(listening()) as first:
        given = environment(1, "a")
        for sock in take_passed_sockets(given, PID, first).public:
            sock.close()
        assert given == {"HOME": "/"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"LISTEN_FDS": "1"}, "without LISTEN_PID"),
        (environment("two"), "LISTEN_FDS = 'two': want a number"),
        (environment(-1), "LISTEN_FDS = '-1'"),
        (environment(1, pid="me"), "LISTEN_PID = 'me'"),
        (environment(1, "a:b"), "2 names for 1 sockets"),
        (environment(1), "file descriptor 200 is not a listening TCP socket: Bad file descriptor"),
    ],
)
def test_wrong_use_is_told_in_one_line(given: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        take_passed_sockets(given, PID, 200)
    assert said in refused.value.message
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("what", ["udp", "not listening", "unix"])
def test_what_is_not_a_listening_tcp_socket_is_refused_and_left_open(what: str, tmp_path: Path) -> None:
    if what == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(tmp_path / "s"))
        sock.listen()
    else:
        sock = socket.socket(type=socket.SOCK_DGRAM if what == "udp" else socket.SOCK_STREAM)
        sock.bind(("127.0.0.1", 0))
    with passed(sock) as first:
        with pytest.raises(ConfigError, match="is not a listening TCP socket; pass one"):
            take_passed_sockets(environment(1), PID, first)
        os.fstat(first)


def test_a_file_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(ConfigError, match="not a listening TCP"):
        take_passed_sockets(environment(1), PID, file.fileno())
