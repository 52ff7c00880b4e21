"""A network in memory: byte streams with latency, bounded buffers, and all that breaks them.

A connection is two pipes.  What is sent is seen by the peer after the latency, in
order; a full pipe holds its sender up.  A connection may be ill from birth (``Fate``):
reset after so many bytes, the last of them half a message, or silent for a while.  Closing
with unread bytes resets, as TCP does, and a reset loses what is still on its way.

A host can die.  Its streams then end for their peers with a reset, or, when the power
went, with silence until they say something themselves; nothing that its program still
does reaches anyone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from random import Random

import msgspec
import trio

PIPE_BYTES = 32_768
BACKLOG = 64


class NetworkTrouble(msgspec.Struct):
    """What connections made from now on may meet; the story changes it."""

    latency_s: tuple[float, float] = (0.001, 0.02)
    cuts: float = 0.0  # share of connections that are reset after some bytes
    stalls: float = 0.0  # share that fall silent for a while after some bytes
    refusals: float = 0.0  # share of attempts to connect that are refused
    losses: float = 0.0  # share of attempts whose packets vanish


class Host:
    """A machine on the network, for one life of its program."""

    def __init__(self, network: Network, name: str) -> None:
        self.network = network
        self.name = name
        self.is_dead = False
        self.streams: dict[Stream, None] = {}
        self.listeners: dict[int, Listener] = {}
        self.sending: Callable[[Stream, bytes], None] = _nobody  # bytes are about to leave

    def listen(self, port: int) -> Listener:
        """Take connections to this host."""
        listener = self.listeners[port] = self.network.listeners[self.name, port] = Listener(self, port)
        return listener

    async def connect(self, address: str, port: int) -> Stream:
        """Connect; raises ``OSError`` when nobody listens there, and may never return."""
        network = self.network
        trouble, dice = network.trouble, network.dice
        latency_s = dice.uniform(*trouble.latency_s)
        await trio.sleep(2 * latency_s)
        if dice.random() < trouble.losses:
            await trio.sleep_forever()
        listener = network.listeners.get((address, port))
        if self.is_dead or listener is None or dice.random() < trouble.refusals:
            raise ConnectionRefusedError(111, "refused")
        if len(listener.waiting) >= BACKLOG:
            await trio.sleep_forever()
        near, far = Stream(self), Stream(listener.host)
        near.peer, far.peer = far, near
        near.out, near.into = far.into, far.out = Pipe(latency_s), Pipe(latency_s)
        ill = network.fate()
        if ill is not None:
            (near if dice.random() < 0.5 else far).out.fate = ill
        listener.add(far)
        return near

    def die(self, *, silently: bool) -> None:
        """The program, or the machine, is gone."""
        self.is_dead = True
        for port in list(self.listeners):
            self.network.listeners.pop((self.name, port), None)
        for stream in list(self.streams):
            if silently:
                stream.vanish()
            else:
                stream.reset()


class Network:
    """Who listens where, and what connections meet."""

    def __init__(self, dice: Random, trouble: NetworkTrouble) -> None:
        self.dice = dice
        self.trouble = trouble
        self.listeners: dict[tuple[str, int], Listener] = {}
        self.names: dict[str, str] = {}

    async def resolve(self, name: str) -> Sequence[str]:
        """The addresses of a name; raises ``OSError`` when nobody answers."""
        await trio.sleep(self.dice.uniform(*self.trouble.latency_s))
        if self.dice.random() < self.trouble.losses:
            raise OSError("no answer")
        return [self.names[name]]

    def fate(self) -> Fate | None:
        """What a new connection has before it."""
        chance = self.dice.random()
        after_bytes = int(10 ** self.dice.uniform(1.0, 4.5))
        if chance < self.trouble.cuts:
            return Fate(after_bytes, math.inf)
        if chance < self.trouble.cuts + self.trouble.stalls:
            return Fate(after_bytes, self.dice.uniform(1.0, 60.0))
        return None


class Fate(msgspec.Struct, frozen=True):
    """After so many bytes in one direction: silence for a time, or for ever, which is a reset."""

    after_bytes: int
    silence_s: float


class Pipe:
    """One direction of a connection."""

    def __init__(self, latency_s: float) -> None:
        self.fate: Fate | None = None
        self.has_eof = False  # nothing more will be put in
        self.is_broken = False
        self.sent_bytes = 0
        self.held_bytes = 0
        self._latency_s = latency_s
        self._due_s = 0.0
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._changed = trio.lowlevel.ParkingLot()

    def put(self, data: bytes) -> None:
        """Put bytes on their way."""
        self._due_s = max(self._due_s, trio.current_time() + self._latency_s)
        self._pieces.append((self._due_s, data))
        self.sent_bytes += len(data)
        self.held_bytes += len(data)
        self._changed.unpark_all()

    def stall(self, seconds: float) -> None:
        """Nothing arrives for a while."""
        self._due_s = max(self._due_s, trio.current_time()) + seconds

    def end(self) -> None:
        """Say that no more will come."""
        self._due_s = max(self._due_s, trio.current_time() + self._latency_s)
        self.has_eof = True
        self._changed.unpark_all()

    def break_off(self, *, after_arrival: bool = False) -> None:
        """Lose what is on its way, or all that comes after it."""
        self.is_broken = True
        if not after_arrival:
            self._pieces.clear()
            self.held_bytes = 0
        self._changed.unpark_all()

    async def wait_room(self) -> None:
        """Return when a byte fits, or never will."""
        while self.held_bytes >= PIPE_BYTES and not self.is_broken:
            await self._changed.park()

    async def take(self, bytes_max: int) -> bytes:
        """What has arrived; empty at the end.  Raises ``BrokenResourceError``."""
        while True:
            due_s = self._pieces[0][0] if self._pieces else self._due_s
            if self._pieces or self.has_eof or self.is_broken:
                if due_s <= trio.current_time() or (self.is_broken and not self._pieces):
                    break
                with trio.move_on_at(due_s):
                    await self._changed.park()
            else:
                await self._changed.park()
        if not self._pieces:
            if self.is_broken:
                raise trio.BrokenResourceError("reset by peer")
            return b""
        _, data = self._pieces.popleft()
        if len(data) > bytes_max:
            self._pieces.appendleft((due_s, data[bytes_max:]))
        self.held_bytes -= len(data[:bytes_max])
        self._changed.unpark_all()
        return data[:bytes_max]


class Stream(trio.abc.HalfCloseableStream):
    """One end of a connection."""

    peer: Stream
    out: Pipe
    into: Pipe

    def __init__(self, host: Host) -> None:
        self.host = host
        self.about: object = None  # what the user of a stream knows of it
        self._is_closed = False
        self._is_sending = False
        self._is_receiving = False
        host.streams[self] = None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send; returns when all of it is on its way."""
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending")
        self._is_sending = True
        try:
            await trio.lowlevel.checkpoint()
            self._check_open()
            if not self.host.is_dead:
                self.host.sending(self, bytes(data))
            with memoryview(data) as view:
                await self._send(view)
        finally:
            self._is_sending = False

    async def _send(self, view: memoryview) -> None:
        at = 0
        while at < len(view):
            await self.out.wait_room()
            self._check_open()
            if self.host.is_dead:
                await trio.sleep_forever()
            if self.out.is_broken or self.peer._is_closed or self.peer.host.is_dead:
                self.reset()
                raise trio.BrokenResourceError("reset by peer")
            piece = bytes(view[at : at + PIPE_BYTES - self.out.held_bytes])
            self._put(piece)
            at += len(piece)

    def _put(self, piece: bytes) -> None:
        fate = self.out.fate
        if fate is None or self.out.sent_bytes + len(piece) < fate.after_bytes:
            self.out.put(piece)
            return
        self.out.fate = None
        arriving = max(0, fate.after_bytes - self.out.sent_bytes)
        if arriving:
            self.out.put(piece[:arriving])
        if math.isinf(fate.silence_s):
            self.out.break_off(after_arrival=True)
            self.into.break_off()
        else:
            self.out.stall(fate.silence_s)
            self.out.put(piece[arriving:])

    async def wait_send_all_might_not_block(self) -> None:
        """Return when a byte would go."""
        await self.out.wait_room()

    async def send_eof(self) -> None:
        """Say that no more will be sent."""
        await trio.lowlevel.checkpoint()
        self._check_open()
        self.out.end()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has arrived, at least a byte; empty at the end."""
        if self._is_receiving:
            raise trio.BusyResourceError("another task is receiving")
        self._is_receiving = True
        try:
            await trio.lowlevel.checkpoint()
            self._check_open()
            data = await self.into.take(max_bytes or 65_536)
            self._check_open()
            return data
        finally:
            self._is_receiving = False

    async def aclose(self) -> None:
        """Close; a reset when something was not read."""
        self._close()
        await trio.lowlevel.checkpoint()

    def reset(self) -> None:
        """Break both directions now."""
        self._close(is_reset=True)

    def vanish(self) -> None:
        """Be gone without a word: what is on its way still arrives, and nothing ends."""
        self._is_closed = True
        self.host.streams.pop(self, None)

    def _close(self, *, is_reset: bool = False) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self.host.streams.pop(self, None)
        if is_reset or self.into.held_bytes:
            self.out.break_off()
        else:
            self.out.end()
        self.into.break_off()

    def _check_open(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError


class Listener(trio.abc.Listener[Stream]):
    """Takes connections to one port of a host."""

    def __init__(self, host: Host, port: int) -> None:
        self.host = host
        self.port = port
        self.waiting: deque[Stream] = deque()
        self._arrived = trio.lowlevel.ParkingLot()

    def add(self, stream: Stream) -> None:
        """A connection was made."""
        self.waiting.append(stream)
        self._arrived.unpark()

    async def accept(self) -> Stream:
        """The next connection."""
        await trio.lowlevel.checkpoint()
        while not self.waiting:
            await self._arrived.park()
        return self.waiting.popleft()

    async def aclose(self) -> None:
        """Take no more; those that wait are reset."""
        self.host.listeners.pop(self.port, None)
        if self.host.network.listeners.get((self.host.name, self.port)) is self:
            del self.host.network.listeners[self.host.name, self.port]
        while self.waiting:
            self.waiting.popleft().reset()
        await trio.lowlevel.checkpoint()


def _nobody(stream: Stream, data: bytes) -> None:
    """Nobody asked to be told."""
