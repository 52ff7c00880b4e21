"""The ``dispatcher`` command: one group, one file per command."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from dispatcher.errors import ConfigError, DispatcherError

_MODULES = {
    "serve": "dispatcher.cli.serve",
    "demo": "dispatcher.cli.demo",
    "keys": "dispatcher.cli.keys",
    "accounts": "dispatcher.cli.accounts",
    "channels": "dispatcher.cli.channels",
    "peek": "dispatcher.cli.peek",
    "parked": "dispatcher.cli.parked",
    "stats": "dispatcher.cli.stats",
    "publish": "dispatcher.cli.publish",
    "tail": "dispatcher.cli.tail",
    "config": "dispatcher.cli.config",
    "fsck": "dispatcher.cli.fsck",
    "backup": "dispatcher.cli.backup",
    "restore": "dispatcher.cli.backup",
    "systemd": "dispatcher.cli.systemd",
    "completion": "dispatcher.cli.completion",
    "doctor": "dispatcher.cli.doctor",
    "bench": "dispatcher.bench.command",
}
"""Of each command: the module that has it, under its own name."""


class _Commands(click.Group):
    """Imports a command when it is wanted: each needs its own part of the whole, and few need much."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return None
        command: click.Command = getattr(import_module(_MODULES[cmd_name]), cmd_name)
        return command


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="dispatcher")
def cli() -> None:
    """Deliver device events to applications: in order, at least once, or their absence is named.

    Try 'dispatcher demo' first: it runs the whole job on this machine.

    What is asked for goes to stdout, all else to stderr.  Exit status: 0 when it is done, 2 for wrong
    usage or settings, 130 when interrupted, 1 for any other failure.
    """


def main() -> None:
    """Run the command; every expected error is one line on stderr, never a traceback.

    Exit codes: 2 for wrong usage or settings, 130 for an interrupt, 1 for any other failure.
    """
    try:
        sys.exit(cli(prog_name="dispatcher", standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as help_wanted:
        click.echo(help_wanted.format_message(), err=True)
        sys.exit(2)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except click.Abort as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            _fail("interrupted", 130)
        _fail("nothing was done", 1)  # the answer to a question was no
    except ConfigError as error:
        _fail(error.message, 2)
    except DispatcherError as error:
        _fail(error.message, 1)


def _fail(message: str, code: int) -> None:
    click.echo(f"dispatcher: {' '.join(message.split())}", err=True)
    sys.exit(code)
