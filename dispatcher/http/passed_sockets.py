"""Listening sockets that a parent opened for us: systemd's socket activation.

The parent keeps them open while we are replaced by a new process, so clients that
connect meanwhile wait in the listen queue, and none is refused.

The protocol is that of sd_listen_fds(3): the sockets are the file descriptors from 3
on, ``LISTEN_FDS`` says how many, ``LISTEN_PID`` for which process, ``LISTEN_FDNAMES``
how they are called, with colons between.  A socket called ``internal`` is
``server.internal_listen``; every other one, whatever its name, is ``server.listen``.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

import msgspec

from dispatcher.errors import ConfigError

INTERNAL_NAME = "internal"
_FIRST_DESCRIPTOR = 3


class PassedSockets(msgspec.Struct, frozen=True):
    """What was passed; the sockets are the caller's to close."""

    public: tuple[socket.socket, ...] = ()
    internal: tuple[socket.socket, ...] = ()


def take_passed_sockets(
    environment: MutableMapping[str, str], process_id: int, first_descriptor: int = _FIRST_DESCRIPTOR
) -> PassedSockets:
    """Take over the sockets passed to this process, and see that no child inherits them.

    The variables are removed.  Raises ``ConfigError`` for a number that is none, for names that
    do not fit, and for what is not a listening TCP socket.
    """
    count_text = environment.pop("LISTEN_FDS", "")
    process_text = environment.pop("LISTEN_PID", "")
    names_text = environment.pop("LISTEN_FDNAMES", "")
    if not count_text:
        return PassedSockets()
    if not process_text:
        raise ConfigError("variable LISTEN_FDS is set without LISTEN_PID, which names the process it is for")
    if _number("LISTEN_PID", process_text) != process_id:
        return PassedSockets()  # they were for a parent of ours
    count = _number("LISTEN_FDS", count_text)
    names = names_text.split(":") if names_text else [""] * count
    if len(names) != count:
        raise ConfigError(f"variable LISTEN_FDNAMES has {len(names)} names for {count} sockets")
    found = [_adopt(first_descriptor + at) for at in range(count)]
    return PassedSockets(
        public=tuple(sock for sock, name in zip(found, names, strict=True) if name != INTERNAL_NAME),
        internal=tuple(sock for sock, name in zip(found, names, strict=True) if name == INTERNAL_NAME),
    )


def address_of(sock: socket.socket) -> str:
    """Where a socket listens, as ``server.listen`` is written."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _number(variable: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(f"variable {variable} = {text!r}: want a number, as systemd sets it")
    return int(text)


def _adopt(descriptor: int) -> socket.socket:
    wrong = f"variable LISTEN_FDS: file descriptor {descriptor} is not a listening TCP socket"
    try:
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise ConfigError(f"{wrong}: {error.strerror}") from None
    is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM
    if not is_tcp or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()  # it is not ours to close
        raise ConfigError(f"{wrong}; pass one that is bound and listens (ListenStream=HOST:PORT)")
    return sock
