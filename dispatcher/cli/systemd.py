"""``dispatcher systemd``: units that fit what ``dispatcher serve`` does."""

from __future__ import annotations

import math
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click

from dispatcher import limits
from dispatcher.cli.config import FILE_OPTION, load_settings

_NOTIFY_RELOAD_SINCE = 253  # the systemd that learnt Type=notify-reload
_ASK_S = 5.0
_STOP_RESERVE_S = 20  # beyond the grace time: sockets are closed and the last group is written
_FILES = 2 * limits.CONNECTIONS_MAX + limits.CALLBACK_SENDS_MAX + 4096  # both sides of it, and files

_SERVICE = """\
[Unit]
Description=Notification dispatcher
Wants=network-online.target
After=network-online.target{after_socket}
# It is tried again for as long as it takes.  A limit would count restarts by hand too, and when it is
# reached systemd closes the socket.
StartLimitIntervalSec=0

[Service]
# It says when it is ready, reloads (SIGHUP: certificates), and that its loop turns.
Type={kind}
ExecStart={command}{config}
{reload}WatchdogSec=30
# A start reads all that is queued: an end to it would only begin it anew.
TimeoutStartSec=infinity
# server.grace_s, and time to write the last group.
TimeoutStopSec={stop_s}
KillMode=mixed
Restart=on-failure
RestartSec=5
LimitNOFILE={files}
# Core dumps would hold events and secrets.
LimitCORE=0

# A user of its own, and a folder that is its alone: /var/lib/dispatcher.
DynamicUser=yes
StateDirectory=dispatcher
StateDirectoryMode=0700
UMask=0077
Environment=DISPATCHER_STORAGE__DATA=/var/lib/dispatcher

ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
ProcSubset=pid
NoNewPrivileges=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
{capabilities}
[Install]
WantedBy=multi-user.target
"""

_SOCKET = """\
[Unit]
Description=Notification dispatcher, where applications and gateways connect

[Socket]
# It stays open while the service is replaced: who connects meanwhile waits, and is not refused.
ListenStream={listen}
Backlog={backlog}
{internal}
[Install]
WantedBy=sockets.target
"""

_INTERNAL = """\

# For server.internal_listen pass a second one by a unit of its own, with Service=dispatcher.service and
# FileDescriptorName=internal, ListenStream={internal}.
"""


@click.command()
@FILE_OPTION
@click.option("--socket", "is_socket", is_flag=True, help="Print dispatcher.socket, not dispatcher.service.")
@click.option(
    "--with-socket", is_flag=True, help="The service of one that has a dispatcher.socket beside it."
)
@click.option(
    "--plain-notify/--notify-reload",
    "is_plain",
    default=None,
    help="For a systemd before 253, which does not know Type=notify-reload, or a newer one.  "
    "[default: as the one on this machine]",
)
def systemd(file: Path | None, is_socket: bool, with_socket: bool, is_plain: bool | None) -> None:
    """Print a hardened systemd unit for this machine.

    \b
    dispatcher systemd --config /etc/dispatcher.toml > /etc/systemd/system/dispatcher.service
    systemctl daemon-reload && systemctl enable --now dispatcher

    The data folder is /var/lib/dispatcher, of a user made for it; what the file of settings says
    of server.grace_s and server.listen stands in the units.
    """
    settings, _ = load_settings(file, {})
    server = settings.server
    if is_socket:
        internal = _INTERNAL.format(internal=server.internal_listen) if server.internal_listen else ""
        text = _SOCKET.format(listen=server.listen, backlog=limits.LISTEN_BACKLOG, internal=internal)
    else:
        is_plain = not _knows_notify_reload() if is_plain is None else is_plain
        text = _SERVICE.format(
            after_socket=" dispatcher.socket\nRequires=dispatcher.socket" if with_socket else "",
            kind="notify" if is_plain else "notify-reload",
            command=_command(),
            config="" if file is None else f" --config {_quoted(str(file.absolute()))}",
            reload="ExecReload=kill -HUP $MAINPID\n" if is_plain else "",
            stop_s=math.ceil(server.grace_s) + _STOP_RESERVE_S,
            files=_FILES,
            capabilities=_capabilities(server.listen, with_socket),
        )
    click.echo(text, nl=False)


def _knows_notify_reload() -> bool:
    """What the systemd of this machine says of itself; where there is none the unit is for a newer one."""
    try:
        asked = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, timeout=_ASK_S)
    except (OSError, subprocess.TimeoutExpired):
        return True
    version = re.match(r"systemd (\d+)", asked.stdout)
    return version is None or int(version[1]) >= _NOTIFY_RELOAD_SINCE


def _command() -> str:
    """How this installation is run, by a path that does not depend on anybody's PATH."""
    beside = Path(sys.executable).with_name("dispatcher")
    found = str(beside) if beside.exists() else shutil.which("dispatcher")
    return f"{_quoted(found)} serve" if found else f"{_quoted(sys.executable)} -m dispatcher serve"


def _quoted(text: str) -> str:
    """As systemd reads a word of a command line: with its % and $ doubled."""
    return shlex.quote(text).replace("%", "%%").replace("$", "$$")


def _capabilities(listen: str, with_socket: bool) -> str:
    """Ports under 1024 need one, which holds for the machine's network only without ``PrivateUsers``."""
    port = int(listen.rpartition(":")[2])
    if port < 1024 and port and not with_socket:
        return "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n"
    return "CapabilityBoundingSet=\nPrivateUsers=yes\n"
