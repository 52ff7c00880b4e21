"""The limit of HTTP here: h11 on Trio, reading each request and answering 202 to all, and nothing else.

python bench/peers/h11_server.py
"""

from __future__ import annotations

import signal

import h11
import trio

RECEIVE_BYTES = 64 * 1024
ANSWER = b'{"accepted":1,"queued":1,"unrouted":0,"rejected":0,"durability":"memory"}'
HEADERS = (
    ("content-type", "application/json"),
    ("content-length", str(len(ANSWER))),
    ("x-request-id", "00000000"),
)


async def serve(stream: trio.SocketStream) -> None:
    """Answer the requests of one connection."""
    connection = h11.Connection(h11.SERVER)
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(RECEIVE_BYTES))
        elif isinstance(event, h11.EndOfMessage):
            answer = connection.send(h11.Response(status_code=202, headers=HEADERS, reason="Accepted"))
            answer += connection.send(h11.Data(data=ANSWER)) or b""
            await stream.send_all(answer + (connection.send(h11.EndOfMessage()) or b""))
            connection.start_next_cycle()
        elif isinstance(event, h11.ConnectionClosed):
            return


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
