"""The ``dispatcher`` command: one group, one file per command."""

from __future__ import annotations

import sys

import click

from dispatcher.cli.accounts import accounts
from dispatcher.cli.backup import backup, restore
from dispatcher.cli.channels import channels
from dispatcher.cli.completion import completion
from dispatcher.cli.config import config
from dispatcher.cli.demo import demo
from dispatcher.cli.doctor import doctor
from dispatcher.cli.fsck import fsck
from dispatcher.cli.keys import keys
from dispatcher.cli.parked import parked
from dispatcher.cli.peek import peek
from dispatcher.cli.publish import publish
from dispatcher.cli.serve import serve
from dispatcher.cli.stats import stats
from dispatcher.cli.systemd import systemd
from dispatcher.cli.tail import tail
from dispatcher.errors import ConfigError, DispatcherError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="dispatcher")
def cli() -> None:
    """Deliver device events to applications: in order, at least once, or their absence is named.

    Try 'dispatcher demo' first: it runs the whole job on this machine.

    What is asked for goes to stdout, all else to stderr.  Exit status: 0 when it is done, 2 for wrong
    usage or settings, 130 when interrupted, 1 for any other failure.
    """


for command in (
    serve,
    demo,
    keys,
    accounts,
    channels,
    peek,
    parked,
    stats,
    publish,
    tail,
    config,
    fsck,
    backup,
    restore,
    systemd,
    completion,
    doctor,
):
    cli.add_command(command)


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
