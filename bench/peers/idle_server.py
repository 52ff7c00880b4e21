"""The limit of an idle connection here: a Trio stream and a task that waits on it.

Answers 101 to whatever comes first, and then waits.

    python bench/peers/idle_server.py
"""

from __future__ import annotations

import signal

import trio

RECEIVE_BYTES = 4 * 1024
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


async def serve(stream: trio.SocketStream) -> None:
    """Hold one connection."""
    await stream.receive_some(RECEIVE_BYTES)
    await stream.send_all(SWITCH)
    while await stream.receive_some(RECEIVE_BYTES):
        pass


async def main() -> None:
    """Serve until SIGTERM."""
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            await nursery.start(trio.serve_listeners, serve, listeners)
            print(f"ready http://127.0.0.1:{listeners[0].socket.getsockname()[1]}", flush=True)
            await anext(signals)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
