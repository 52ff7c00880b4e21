"""The ``dispatcher`` command: one group, one file per command."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from dispatcher.errors import ConfigError, DispatcherError

_MODULES = {
    "serve": "serve",
    "demo": "demo",
    "keys": "keys",
    "accounts": "accounts",
    "channels": "channels",
    "peek": "peek",
    "parked": "parked",
    "stats": "stats",
    "publish": "publish",
    "tail": "tail",
    "config": "config",
    "fsck": "fsck",
    "backup": "backup",
    "restore": "backup",
    "systemd": "systemd",
    "completion": "completion",
    "doctor": "doctor",
}
"""Of each command: where in ``dispatcher.cli`` it is, under its own name."""


class _Commands(click.Group):
    """Imports a command when it is wanted: each needs its own part of the whole, and few need much."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return None
        command: click.Command = getattr(import_module(f"dispatcher.cli.{_MODULES[cmd_name]}"), cmd_name)
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
