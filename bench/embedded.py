"""An embedder's program: a dispatcher inside it, its events published by the library.

    python -m bench.embedded prepared|messages EVENTS WARM_UP_EVENTS

Says ``ready http://HOST:PORT`` and then an application's key, on which a WebSocket may be
opened; publishes as many events as each line of its standard input says, one of the two.  They were
prepared before the clock runs, or are messages that `publish_many` still has to check.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence

import trio

import dispatcher

from .load.fleet import BodyForm, Fleet

CALL_EVENTS = 10_000  # in one publish_many
_AHEAD_EVENTS_MAX = 100_000  # in the queue: far from filling it
_DEVICES = 1_000


def fleet_of(events: int) -> Fleet:
    """Who sends them: one lane, for one program publishes."""
    return Fleet(events=events, devices=_DEVICES, lanes=1)


Call = Sequence[bytes] | dispatcher.Prepared
"""What one call publishes."""


def messages(events: int) -> list[bytes]:
    """The messages of a round, made before the clock runs."""
    return [body.content for body in fleet_of(events).bodies(0, BodyForm.JSON, CALL_EVENTS)]


async def publish(hub: dispatcher.Hub, application: dispatcher.Application, calls: Sequence[Call]) -> None:
    """Publish everything, as fast as it is taken away."""
    for events in calls:
        while _queued(hub, application) > _AHEAD_EVENTS_MAX:
            await trio.lowlevel.checkpoint()
        await hub.publish_many(application, events)


def _queued(hub: dispatcher.Hub, application: dispatcher.Application) -> int:
    statistics = hub.statistics(application)
    assert statistics is not None
    return statistics.records


async def main(form: str, sizes: list[int]) -> None:
    """Serve and publish until SIGTERM."""
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with dispatcher.open_dispatcher() as hub, trio.open_nursery() as nursery:
            make: Callable[[Sequence[bytes]], Call] = hub.prepare if form == "prepared" else list
            rounds = {events: [make((each,)) for each in messages(events)] for events in sizes}
            application = await hub.ensure_application(await hub.ensure_account(), "embedded")
            await hub.register_websocket(application)
            key = await hub.create_key(dispatcher.Role.APPLICATION, application=application)
            listeners = await dispatcher.open_listeners("127.0.0.1", 0)
            await nursery.start(dispatcher.serve_http, hub, listeners)
            port = listeners[0].socket.getsockname()[1]  # type: ignore[attr-defined]
            print(f"ready http://127.0.0.1:{port}\n{key.key}", flush=True)

            async def obey() -> None:
                async for data in trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())):
                    for line in data.split():
                        await publish(hub, application, rounds[int(line)])

            nursery.start_soon(obey)
            await anext(signals)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], list(map(int, sys.argv[2:])))
