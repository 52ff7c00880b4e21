"""One life of the dispatcher, from its start to its end.

When a life dies, its disk and its host are dead at that very step: whatever its tasks do
while they are being cancelled reaches nobody.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import trio
from simulation.disk import Mount
from simulation.http_client import PORT, SERVER
from simulation.network import Host
from simulation.story import Cause, Ending

from dispatcher.deliver.callback_tls import client_context
from dispatcher.errors import DataFolderError, DispatcherError, JournalFailed
from dispatcher.http.api import public_api
from dispatcher.http.server import Server
from dispatcher.http.service import Service
from dispatcher.observe.log import LogEvent
from dispatcher.queue.interface import Loss
from dispatcher.registry.memory import MemoryRegistry
from dispatcher.runtime.active_channel import ActiveChannel
from dispatcher.runtime.app import open_dispatcher
from dispatcher.runtime.hub import Hub
from dispatcher.runtime.world import World

if TYPE_CHECKING:
    from simulation.machine import Machine

_TLS = client_context()


class SlowRegistry:
    """What exists, behind a disk that takes its time: a crash finds a change made, or not yet."""

    def __init__(self, registry: MemoryRegistry, dice: Random) -> None:
        self._registry = registry
        self._dice = dice

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(self._call, getattr(self._registry, name))

    async def _call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        await trio.sleep(self._dice.uniform(0.0, 0.01))
        result = await method(*arguments)
        await trio.sleep(self._dice.uniform(0.0, 0.01))
        return result


class Life:
    """An open dispatcher with its HTTP server."""

    def __init__(self, machine: Machine, ending: Ending | None) -> None:
        self.hub: Hub | None = None  # while it serves
        self.is_dead = False
        self._machine = machine
        self._ending = ending
        self._host = Host(machine.network, SERVER)
        self._mount = Mount(machine.platter, machine.story.sizes, self.die)
        self._scope = trio.CancelScope()
        self._stop = trio.Event()
        self._journal_failed = False
        machine.sabotage(self._mount)
        self._arrange_end()

    def _arrange_end(self) -> None:
        ending, steps = self._ending, self._machine.steps
        if ending is None:
            return
        if ending.cause is Cause.CALL:
            self._mount.ends_at, self._mount.ends_when = int(ending.at), ending.when
        elif ending.cause is Cause.STEP:
            steps.ends_at, steps.at_end = steps.count + int(ending.at), self.die

    def live_on(self) -> None:
        """It is not to end before the run does."""
        self._mount.ends_at = self._machine.steps.ends_at = self._ending = None

    def stop_soon(self) -> None:
        """Close it in order."""
        self._stop.set()

    def die(self) -> None:
        """End it now, at whatever it is about."""
        if self.is_dead:
            return
        self.is_dead = self._mount.is_dead = True
        is_power_cut = self._ending is not None and self._ending.is_power_cut
        self._host.die(silently=is_power_cut)
        self._machine.died(self._mount, is_power_cut=is_power_cut)
        self._scope.cancel()

    async def run(self) -> None:
        """Live."""
        machine = self._machine
        try:
            with self._scope, self._heard():
                await self._open()
        except DataFolderError as error:
            if not self.is_dead and not self._mount.has_failed and not self._mount.was_full:
                raise
            machine.chronicle.note(f"did not start: {error.message}")
        except Exception:
            if not self.is_dead:
                raise
        machine.steps.ends_at = self.hub = None
        if self._mount.broken is not None:
            raise self._mount.broken
        if not self.is_dead:
            is_whole = not self._journal_failed and not self._mount.is_full
            machine.promises.closed(self._mount, self._host, is_whole=is_whole)
            machine.chronicle.note("closed")

    async def _open(self) -> None:
        machine = self._machine
        machine.chronicle.note("starts")
        async with open_dispatcher(machine.story.settings, world=self._world()) as hub:
            machine.sabotage(hub)
            self._listen_for_losses(hub)
            machine.promises.began(hub)
            self.hub = hub
            self._host.sending = machine.promises.sending
            handle = public_api(hub, with_internal=True)
            service = Service(handle, new_request_id=lambda: "0" * 16)
            server = Server(handle, grace_s=hub.settings.server.grace_s, service=service)
            async with trio.open_nursery() as nursery:
                await nursery.start(server.serve, [self._host.listen(PORT)])
                nursery.start_soon(self._operate, hub)
                await self._until_its_end()
                self.hub = None
                server.begin_drain()
                await hub.stop()
                await server.drain()
                nursery.cancel_scope.cancel()

    def _world(self) -> World:
        machine = self._machine
        return World(
            unix_s=machine.clock.unix_s,
            passing_s=machine.passing_s,
            random_bytes=machine.random_bytes,
            resolve=machine.network.resolve,
            connect=self._host.connect,
            registry=SlowRegistry(machine.registry, machine.dice),  # type: ignore[arg-type]
            disk=self._mount,
            secret=machine.secret,
            tls=_TLS,
        )

    async def _until_its_end(self) -> None:
        ending = self._ending
        if ending is not None and ending.cause in (Cause.STOP, Cause.CANCEL, Cause.TIME):
            with trio.move_on_after(ending.at):
                await self._stop.wait()
            if self._ending is not None and not self._stop.is_set():
                await self._end_as_told(ending)
                return
        await self._stop.wait()

    async def _end_as_told(self, ending: Ending) -> None:
        if ending.cause is Cause.TIME:
            self.die()
        elif ending.cause is Cause.CANCEL:
            self._machine.chronicle.note("cancelled")
            self.hub = None
            self._scope.cancel()
        await trio.lowlevel.checkpoint()

    async def _operate(self, hub: Hub) -> None:
        """The operator stops a dispatcher whose journal broke, to start it again."""
        while True:
            await trio.sleep(1.0)
            try:
                hub.parts.queue.check_accepting()
            except JournalFailed:
                self._machine.chronicle.note("the journal failed")
                self._journal_failed = True
                self.stop_soon()
                return
            except DispatcherError:  # a full disk gets better by itself
                continue

    def _listen_for_losses(self, hub: Hub) -> None:
        """Hear of them where the dispatcher tells its log and its metrics."""
        observer, told = hub.parts.observer, hub.parts.observer.lost
        promises = self._machine.promises

        def lost(channel: ActiveChannel, loss: Loss) -> None:
            if not self.is_dead:
                promises.lost(channel.row.incarnation, loss)
            told(channel, loss)

        observer.lost = lost  # type: ignore[method-assign]

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """Listen to the log: an error in it is a bug."""
        logger = logging.getLogger("dispatcher")
        before = logger.level, logger.propagate
        ears = _Ears(self)
        logger.addHandler(ears)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        try:
            yield
        finally:
            logger.removeHandler(ears)
            logger.level, logger.propagate = before

    def hear(self, record: logging.LogRecord) -> None:
        """A line of the log."""
        if self.is_dead:
            return
        fields = getattr(record, "fields", {})
        line = " ".join([record.getMessage(), *(f"{name}={value}" for name, value in fields.items())])
        self._machine.chronicle.note(f"log: {line}")
        if record.getMessage() == LogEvent.JOURNAL_RECOVERED:
            self._machine.promises.recovered(fields["damaged_groups"] + fields["damaged_segments"])
        if (
            record.levelno >= logging.ERROR and record.getMessage() != LogEvent.STORAGE_REFUSES
        ):  # disks are full here
            what = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
            self._machine.promises.fail(f"an error was logged: {line} {what}")


class _Ears(logging.Handler):
    def __init__(self, life: Life) -> None:
        super().__init__()
        self._life = life

    def emit(self, record: logging.LogRecord) -> None:
        self._life.hear(record)


def survivor(registry: MemoryRegistry) -> MemoryRegistry:
    """What is left of a registry whose dispatcher died: every change that was made, and no later one."""
    return copy.deepcopy(registry)
