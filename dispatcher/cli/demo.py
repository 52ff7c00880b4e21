"""``dispatcher demo``: the whole job on this machine, in one command, with a proof at the end."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import click
import trio
from rich.console import Console

from dispatcher import limits
from dispatcher.cli.demo_daemon import last_log_lines
from dispatcher.cli.demo_plan import DemoPlan
from dispatcher.cli.demo_report import Display, print_summary
from dispatcher.cli.demo_run import CHANNELS, run_demo
from dispatcher.cli.running import run
from dispatcher.errors import DispatcherError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

T = TypeVar("T")


@click.command()
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=20,
    show_default=True,
    metavar="N",
    help="How long the devices post.",
)
@click.option(
    "--devices",
    type=click.IntRange(1, limits.DEMO_DEVICES_MAX),
    default=1000,
    show_default=True,
    metavar="N",
    help="How many there are.",
)
@click.option(
    "--rate",
    type=click.IntRange(1, limits.DEMO_RATE_MAX),
    default=5000,
    show_default=True,
    metavar="N",
    help="Events per second, of all together.",
)
@click.option("--calm", "is_calm", is_flag=True, help="Without the planned failures of the receivers.")
def demo(seconds: float, devices: int, rate: int, is_calm: bool) -> None:
    """Run the whole job on this machine, and prove what it did.

    \b
    dispatcher demo --rate 20000 --seconds 60

    Starts a daemon on a temporary folder, a fleet of simulated devices that post through
    the gateway API, and two applications, one on a callback and one on a WebSocket.  On
    the way the callback's receiver answers 503 for a while, and the WebSocket's client loses its
    socket for as long.  In the end every event must have arrived at both, in the
    order of its device, and exactly once after de-duplication by uid; else the exit
    status is 1 and the first missing event is named.
    """
    plan = DemoPlan(seconds=seconds, devices=devices, rate=rate, is_calm=is_calm)
    if plan.events > limits.DEMO_EVENTS_MAX:
        raise click.UsageError(
            f"{plan.events} events are more than the demo can check in memory: "
            f"keep --seconds times --rate within {limits.DEMO_EVENTS_MAX}"
        )
    with tempfile.TemporaryDirectory(prefix="dispatcher-demo-") as name:
        sys.exit(_run_in(Path(name), plan))


def _run_in(folder: Path, plan: DemoPlan) -> int:
    """Run the demo in an empty folder, print what came out, and return the exit status."""
    progress = Console(stderr=True, highlight=False)
    try:
        with Display(progress, CHANNELS) as display:
            outcome = run(partial(_unless_signalled, partial(run_demo, plan, folder, display)))
    except DispatcherError as error:
        _show_log(folder)
        raise click.ClickException(error.message) from error
    if isinstance(outcome, signal.Signals):
        click.echo(f"stopped by {outcome.name}; the daemon and its folder are gone", err=True)
        return 128 + outcome
    print_summary(Console(highlight=False), outcome)
    if outcome.problems():
        _show_log(folder)
        return 1
    return 0


async def _unless_signalled(work: Callable[[], Awaitable[T]]) -> T | signal.Signals:
    """What ``work`` returns, or the first signal that came and cancelled it."""
    outcome: T | signal.Signals | None = None

    async def wait_for_signal() -> None:
        nonlocal outcome
        async for number in signals:
            outcome = signal.Signals(number)
            nursery.cancel_scope.cancel()

    with trio.open_signal_receiver(*_SIGNALS) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for_signal)
            outcome = await work()
            nursery.cancel_scope.cancel()
    assert outcome is not None
    return outcome


def _show_log(folder: Path) -> None:
    lines = last_log_lines(folder)
    if lines:
        click.echo("the daemon's last log lines:", err=True)
    for line in lines:
        click.echo(f"  {line}", err=True)
