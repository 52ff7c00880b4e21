"""A bar for long work, on stderr, where somebody looks at it; elsewhere nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


@contextmanager
def progress(label: str, whole: int) -> Iterator[Callable[[int], None]]:
    """Gives a function to be told of each step's share of ``whole``."""
    if not sys.stderr.isatty():
        yield lambda step: None
        return
    with click.progressbar(length=whole, label=label, file=sys.stderr, show_eta=True) as bar:
        yield bar.update
