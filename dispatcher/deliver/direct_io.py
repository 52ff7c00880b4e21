"""Small sends and receives on a plain socket, without the detour through the scheduler.

Trio's own calls give everybody else a turn even where the kernel has answered at once, and
try a read before they wait for one.  For a small message that is most of its cost: a turn of
the loop for each send, and a read in vain for each that waits.  Here a send that fits into the
kernel's buffer is one system call; a receive waits first, since whoever has just been
answered has nothing more to say, and that wait is when others have their turn.

For every other stream (TLS, a test's) these are the stream's own calls.
"""

from __future__ import annotations

import errno
import os
from typing import NoReturn

import trio

from dispatcher.limits import SEND_NOW_BYTES_MAX


def send_now(stream: trio.abc.SendStream, data: bytes | memoryview) -> int:
    """How many bytes the kernel took at once.  The rest is for ``send_all``; never waits.

    The caller is the only one that sends on this stream, and sees to it that others have a
    turn between many of these, and behind what is longer than ``limits.SEND_NOW_BYTES_MAX``.
    Raises as ``send_all`` does.
    """
    if not isinstance(stream, trio.SocketStream):
        return 0
    try:
        return os.write(stream.socket.fileno(), data)
    except BlockingIOError:
        return 0
    except OSError as error:
        _raise_as_stream(error)


async def send(stream: trio.abc.SendStream, data: memoryview) -> None:
    """What ``send_all`` does; others have a turn when the kernel was full or there was much to send.

    No view of ``data`` is left, however it ends: its buffer may have to grow then.
    """
    sent = send_now(stream, data)
    if sent < len(data):
        with data[sent:] as rest:
            await stream.send_all(rest)
    elif sent > SEND_NOW_BYTES_MAX:
        await trio.lowlevel.checkpoint()


async def receive_into(stream: trio.abc.ReceiveStream, room: memoryview) -> int:
    """Receive to the front of ``room``: how many bytes, 0 at the end; a checkpoint in any case.

    Cancellation: nothing is lost.
    """
    if not isinstance(stream, trio.SocketStream):
        data = await stream.receive_some(len(room))
        room[: len(data)] = data
        return len(data)
    while True:  # a wakeup without bytes is rare, and ends in another wait
        file = _open_file(stream)
        await trio.lowlevel.wait_readable(file)
        try:
            return os.readv(file, (room,))
        except BlockingIOError:
            continue
        except OSError as error:
            _raise_as_stream(error)


async def receive(stream: trio.abc.ReceiveStream, bytes_max: int) -> bytes:
    """What ``receive_some`` does; a checkpoint in any case.

    Cancellation: nothing is lost.
    """
    if not isinstance(stream, trio.SocketStream):
        return bytes(await stream.receive_some(bytes_max))
    while True:  # as above; twice, for one more function in between is felt by a small request
        file = _open_file(stream)
        await trio.lowlevel.wait_readable(file)
        try:
            return os.read(file, bytes_max)
        except BlockingIOError:
            continue
        except OSError as error:
            _raise_as_stream(error)


def _open_file(stream: trio.SocketStream) -> int:
    file = stream.socket.fileno()
    if file < 0:
        raise trio.ClosedResourceError("this stream was closed")
    return file


def _raise_as_stream(error: OSError) -> NoReturn:
    if error.errno == errno.EBADF:
        raise trio.ClosedResourceError("this stream was closed") from None
    raise trio.BrokenResourceError(f"the connection broke: {error}") from error
