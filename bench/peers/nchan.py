"""Nchan, the pub/sub module of nginx, as a peer: POST in, WebSocket out.

To Nchan a message is opaque: what is posted in one request goes out as one frame.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..load.generator import Refused
from ..load.http_client import Reply
from ..process import Absent, ServerProcess, free_port, open_server

_MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
_STATUSES = (0, -signal.SIGTERM)  # it listens before it minds the signal
_CONFIG = """\
load_module {module};
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/pid;
error_log stderr warn;
events {{ worker_connections 20000; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 16m;
    client_body_buffer_size 16m;
    keepalive_requests 1000000;
    nchan_shared_memory_size 512m;
    nchan_message_timeout 5s;
    nchan_message_buffer_length 100000;
    server {{
        listen 127.0.0.1:{port};
        location /publish {{ nchan_publisher; nchan_channel_id $arg_id; }}
        location /subscribe {{
            nchan_subscriber websocket;
            nchan_channel_id $arg_id;
            nchan_subscriber_first_message newest;
        }}
    }}
}}
"""


@contextmanager
def open_nchan() -> Iterator[ServerProcess]:
    """Start nginx with the module.  Raises ``Absent``."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None or not _MODULE.exists():
        raise Absent("there is no Nchan: apt-get install libnginx-mod-nchan")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="dispatcher-bench-") as folder:
        config = Path(folder, "nginx.conf")
        config.write_text(_CONFIG.format(module=_MODULE, folder=folder, port=port))
        command = [program, "-p", folder, "-c", config]
        with open_server(command, Path(folder, "log"), port=port, statuses=_STATUSES) as server:
            yield server


def publish_path(channel: str) -> str:
    """Where to post a message for a channel."""
    return f"/publish?id={channel}"


def subscribe_path(channel: str) -> str:
    """Where to open the WebSocket of a channel."""
    return f"/subscribe?id={channel}"


def is_taken(reply: Reply, events: int) -> None:
    """Check the answer to a message; raises ``Refused``."""
    if reply.status not in (201, 202):
        raise Refused(f"a message of {events} events was answered {reply.status}: {reply.body!r}")
