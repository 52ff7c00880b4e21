"""Small sends and receives on a plain socket, without the detour through the scheduler.

Trio's own calls give everybody else a turn even where the kernel has answered at once, and
try a read before they wait for one.  For a small message that is most of its cost: a turn of
the loop for each send, and a read in vain for each that waits.  Here a send that fits into the
kernel's buffer is one system call; a receive waits first, since whoever has just been
answered has nothing more to say, and that wait is when others have their turn.

A long message is sent by whoever keeps it, as much as the kernel takes before others are to have
a turn (decision 0036).

For every other stream (TLS, a test's) these are the stream's own calls.
"""

from __future__ import annotations

import errno
import os
from typing import NoReturn, Protocol

import trio

from dispatcher.deliver.turns import turns_of_loop
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
        await turns_of_loop().give_way()


class Source(Protocol):
    """A message that can send itself: ``pour`` is a batch's, which knows itself what is unread."""

    @property
    def unread(self) -> int: ...
    def pour(self, socket: int, buffer: bytearray, filled: int, tail: bytes) -> tuple[int, int, int]: ...


def pour_now(
    stream: trio.abc.SendStream, source: Source, buffer: bytearray, filled: int, tail: bytes = b""
) -> tuple[int, int, int]:
    """Send the first ``filled`` bytes of a buffer, and with them what the source has behind them, if it can.

    How many bytes went, and where those that the kernel did not take begin and end in the buffer.
    ``tail`` goes behind the end of the source's message, if that was unread.  For the rest as ``send_now``.
    """
    if not isinstance(stream, trio.SocketStream):
        return 0, 0, filled
    if source.unread:
        return source.pour(stream.socket.fileno(), buffer, filled, tail)
    with memoryview(buffer) as whole, whole[:filled] as piece:
        sent = send_now(stream, piece)
    return sent, sent, filled


async def pour(
    stream: trio.abc.SendStream, source: Source, buffer: bytearray, filled: int, tail: bytes = b""
) -> int:
    """What ``pour_now`` does, and the rest of the buffer by ``send_all``: how many bytes went.

    Others have had a turn when the source has more; behind its end the caller sees to it.
    """
    sent, begin, end = pour_now(stream, source, buffer, filled, tail)
    if begin < end:
        await send_rest(stream, buffer, begin, end)
    elif source.unread:
        await turns_of_loop().give_way()
    return sent + end - begin


async def send_rest(stream: trio.abc.SendStream, buffer: bytearray, begin: int, end: int) -> None:
    """What ``pour_now`` left in the buffer because the kernel was full."""
    with memoryview(buffer) as whole, whole[begin:end] as rest:
        await stream.send_all(rest)


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
        if (turns := turns_of_loop()).is_long:
            await turns.give_way()
            file = _open_file(stream)
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
        if (turns := turns_of_loop()).is_long:
            await turns.give_way()
            file = _open_file(stream)
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
