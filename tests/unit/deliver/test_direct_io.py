"""Direct sends and receives do what the stream's own do, and never more than the kernel takes."""

from __future__ import annotations

import pytest
import trio
from support.socket_pair import open_pair
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from dispatcher.deliver.direct_io import pour, receive, send, send_now
from dispatcher.limits import SEND_NOW_BYTES_MAX


async def test_what_fits_is_sent_at_once_and_received() -> None:
    async with open_pair() as (one, other):
        assert send_now(one, b"hello") == 5
        assert await receive(other, 4) == b"hell"
        assert await receive(other, 4) == b"o"


async def test_a_full_buffer_takes_a_part_and_then_nothing() -> None:
    async with open_pair() as (one, _):
        piece = bytes(SEND_NOW_BYTES_MAX)
        taken = 0
        while sent := send_now(one, piece):
            taken += sent
            assert taken < 100_000_000
        assert taken > 0


@pytest.mark.parametrize(("size", "has_turn"), [(100, False), (SEND_NOW_BYTES_MAX + 1, True)])
async def test_others_have_a_turn_behind_what_is_long(size: int, has_turn: bool) -> None:
    async with open_pair() as (one, _), trio.open_nursery() as nursery:
        ran = trio.Event()
        nursery.start_soon(_set, ran)
        await send(one, memoryview(bytes(size)))
        await send(one, memoryview(bytes(size)))
        assert ran.is_set() == has_turn


class Told:
    """A source that pours nothing, and says what it is told to."""

    def __init__(self, unread: int, poured: tuple[int, int, int] = (3, 0, 0)) -> None:
        self.unread = unread
        self._poured = poured

    def pour(self, socket: int, buffer: bytearray, filled: int, tail: bytes) -> tuple[int, int, int]:
        assert (socket >= 0, filled, tail) == (True, 3, b"")
        return self._poured


@pytest.mark.parametrize(("unread", "has_turn"), [(0, False), (1, True)])
async def test_others_have_a_turn_while_a_source_has_more(unread: int, has_turn: bool) -> None:
    async with open_pair() as (one, _), trio.open_nursery() as nursery:
        ran = trio.Event()
        nursery.start_soon(_set, ran)
        for _ in range(3):
            assert await pour(one, Told(unread), bytearray(b"abc"), 3) == 3
        assert ran.is_set() == has_turn


async def test_what_a_source_could_not_send_goes_too() -> None:
    async with open_pair() as (one, other):
        assert await pour(one, Told(9, (2, 2, 3)), bytearray(b"abc"), 3) == 3
        assert await pour(one, Told(9, (0, 0, 3)), bytearray(b"def"), 3) == 3
        assert await pour(one, Told(0), bytearray(b"ghi"), 3) == 3  # there is nothing behind it
        assert await receive(other, 100) == b"cdefghi"


async def test_any_stream_can_be_poured_into() -> None:
    one, other = memory_stream_pair()
    assert await pour(one, Told(9), bytearray(b"abc"), 3) == 3
    assert await other.receive_some() == b"abc"


async def test_what_the_kernel_does_not_take_at_once_is_waited_for() -> None:
    async with open_pair() as (one, other), trio.open_nursery() as nursery:
        data = bytes(range(256)) * 40_000
        nursery.start_soon(send, one, memoryview(data))
        received = b""
        while len(received) < len(data):
            received += await receive(other, 1 << 20)
        assert received == data


async def test_receives_give_others_a_turn_although_bytes_are_there() -> None:
    async with open_pair() as (one, other), trio.open_nursery() as nursery:
        send_now(one, b"abc")
        ran = trio.Event()
        nursery.start_soon(_set, ran)
        for _ in range(3):  # whoever is ready runs in this turn of the loop or in the next
            await receive(other, 1)
        assert ran.is_set()


async def _set(event: trio.Event) -> None:
    event.set()


async def test_the_end_is_no_bytes() -> None:
    async with open_pair() as (one, other):
        await one.send_eof()
        assert await receive(other, 100) == b""


async def test_a_peer_that_has_gone_breaks_a_send() -> None:
    async with open_pair() as (one, other):
        await other.aclose()
        with pytest.raises(trio.BrokenResourceError):
            send_now(one, b"nobody")


async def test_a_closed_stream_says_so_also_to_whoever_waits_on_it() -> None:
    async with open_pair() as (one, _), trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await receive(one, 100)

        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        await one.aclose()
        with pytest.raises(trio.ClosedResourceError):
            send_now(one, b"x")
        with pytest.raises(trio.ClosedResourceError):
            await receive(one, 100)


async def test_a_cancelled_receive_loses_nothing() -> None:
    async with open_pair() as (one, other):
        with trio.move_on_after(0.001):
            await receive(other, 100)
        send_now(one, b"late")
        assert await receive(other, 100) == b"late"


async def test_other_streams_are_asked_themselves() -> None:
    one, other = memory_stream_pair()
    assert send_now(one, b"not a socket") == 0
    await one.send_all(b"not a socket")
    assert await receive(other, 100) == b"not a socket"


class Stalled(trio.abc.SendStream):
    """Holds what it was given, and never gets rid of it."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.sleep_forever()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_a_send_that_is_cut_off_leaves_no_view_behind(autojump_clock: trio.testing.MockClock) -> None:
    buffer = bytearray(100)
    kept: list[BaseException] = []  # and with them the frames that had views
    with trio.move_on_after(1), memoryview(buffer) as view:
        try:
            await send(Stalled(), view)
        except trio.Cancelled as cancelled:
            kept.append(cancelled)
            raise
    assert kept
    buffer.extend(b"grows")
