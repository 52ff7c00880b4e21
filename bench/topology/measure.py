"""Runs topologies: interleaved rounds of their variants, a report, a line of results."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from statistics import median

import click
import msgspec
import trio

from ..compare import align
from ..load.fleet import BodyForm, NotProven
from ..load.generator import Refused
from ..load.websocket_sink import SinkFailed
from ..loopback import loopback_bytes_per_s
from ..process import LOAD_CORE, ServerFailed, pinned
from ..results import Run, Sample, make_run, record
from .pipeline import OpenSink, Plan, Variant, open_pipeline

QUICK_EVENTS = 200_000
_EVENT_BYTES = 150
_FORMS = [form.value for form in BodyForm]
_DURABILITIES = ("memory", "process", "disk")
_BUSY = 0.9  # of a core: from here on it may be what limits


class Topology(msgspec.Struct, frozen=True):
    """A path through the daemon."""

    name: str
    open_sink: OpenSink


def command(topologies: Sequence[Topology]) -> click.Command:
    """The command line of these topologies."""
    defaults = Plan()

    @click.command(help="Measure " + ", ".join(topology.name for topology in topologies) + ".")
    @click.option("--quick", is_flag=True, help=f"Rounds of {QUICK_EVENTS:,} events.")
    @click.option("--events", default=defaults.events, show_default=True, help="Per round.")
    @click.option("--rounds", default=defaults.rounds, show_default=True)
    @click.option("--connections", default=defaults.connections, show_default=True)
    @click.option("--body-events", default=defaults.body_events, show_default=True, help="Per request.")
    @click.option("--form", "forms", type=click.Choice(_FORMS), multiple=True, default=_FORMS)
    @click.option(
        "--durability",
        "durabilities",
        type=click.Choice(_DURABILITIES),
        multiple=True,
        default=("memory", "disk"),
        help="The daemon's; several run side by side.",
    )
    @click.option(
        "--queue-bytes", default=defaults.queue_bytes, show_default=True, help="The daemon's, per channel."
    )
    @click.option(
        "--patience-s", default=defaults.patience_s, show_default=True, help="Without arrivals, to failure."
    )
    @click.option("--record", "is_recorded", is_flag=True, help="Add a line to bench/results.")
    def run(
        quick: bool,
        events: int,
        rounds: int,
        connections: int,
        body_events: int,
        queue_bytes: int,
        patience_s: float,
        forms: Sequence[str],
        durabilities: Sequence[str],
        is_recorded: bool,
    ) -> None:
        plan = Plan(
            events=QUICK_EVENTS if quick else events,
            rounds=rounds,
            connections=connections,
            body_events=body_events,
            queue_bytes=queue_bytes,
            patience_s=patience_s,
        )
        variants = [Variant(BodyForm(form), chosen) for form in forms for chosen in durabilities]
        for topology in topologies:
            for measured in _measure(topology, variants, plan):
                click.echo(report(measured))
                if is_recorded:
                    record(measured)

    return run


def _measure(topology: Topology, variants: Sequence[Variant], plan: Plan) -> Iterator[Run]:
    """The runs of a topology; ends the program when a round is not proven."""
    limit = loopback_bytes_per_s()
    try:
        with pinned(LOAD_CORE):
            results = trio.run(_rounds, topology, variants, plan)
    except* (NotProven, Refused, SinkFailed, ServerFailed) as failures:
        sys.exit(f"{topology.name}: FAILED: {first_of(failures)}")
    for variant, (samples, peak_rss_bytes) in results.items():
        yield make_run(topology.name, str(variant), msgspec.to_builtins(plan), peak_rss_bytes, limit, samples)


def first_of(failures: BaseExceptionGroup[Exception]) -> BaseException:
    """The first failure in a group, however deep it lies."""
    failure: BaseException = failures
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure


async def _rounds(
    topology: Topology, variants: Sequence[Variant], plan: Plan
) -> dict[Variant, tuple[list[Sample], int]]:
    """Rounds of all variants in turn, A B A B, each with a daemon of its own."""
    async with AsyncExitStack() as stack:
        measured = {
            variant: await stack.enter_async_context(open_pipeline(topology.open_sink, variant, plan))
            for variant in variants
        }
        samples: dict[Variant, list[Sample]] = {variant: [] for variant in variants}
        for number in range(plan.rounds):
            for variant in variants:
                sample = await measured[variant].round()
                samples[variant].append(sample)
                click.echo(
                    f"  {topology.name} {variant} {number + 1}/{plan.rounds}: "
                    f"{sample.events_per_s:,.0f} events/s, every event proven",
                    err=True,
                )
        return {
            variant: (samples[variant], measured[variant].pipeline.server.peak_rss_bytes())
            for variant in variants
        }


def report(run: Run) -> str:
    """A run as text: medians, with the least and the most."""
    ratio = median(run.rates()) * _EVENT_BYTES / run.loopback_bytes_per_s
    rows = [
        ("  events/s", _range(run.rates(), 0)),
        ("  server CPU s/M", _range([s.server_cpu_s_per_million for s in run.samples], 3)),
        ("  server's core", f"{_share(run.samples, 'server_cpu_share')} busy"),
        ("  server peak RSS", f"{run.peak_rss_bytes / 1e6:,.0f} MB"),
        ("  of loopback", f"{ratio:.1%} of {run.loopback_bytes_per_s / 1e9:.1f} GB/s"),
        ("  load's core", f"{_share(run.samples, 'load_cpu_share')} busy{_bottleneck(run.samples)}"),
    ]
    rounds, events = run.settings["rounds"], run.settings["events"]
    title = f"{run.name} {run.variant}: {rounds} rounds of {events:,} events, each one proven"
    return "\n".join([title, *align(rows)])


def _range(values: Sequence[float], digits: int) -> str:
    return f"{median(values):,.{digits}f}  [{min(values):,.{digits}f} .. {max(values):,.{digits}f}]"


def _share(samples: Sequence[Sample], name: str) -> str:
    return f"{median(getattr(sample, name) for sample in samples):.0%}"


def _bottleneck(samples: Sequence[Sample]) -> str:
    load = median(sample.load_cpu_share for sample in samples)
    server = median(sample.server_cpu_share for sample in samples)
    return "; IT LIMITS, the daemon waits for it" if load > _BUSY and load > server else ""
