"""``dispatcher completion``: a script that lets a shell complete commands, options and their values."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_DISPATCHER_COMPLETE"  # the script sets it when it asks the program; click answers


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a completion script for this shell.

    \b
    dispatcher completion fish > ~/.config/fish/completions/dispatcher.fish

    \b
    bash:  eval "$(dispatcher completion bash)"      in ~/.bashrc; bash 4.4 or newer
    zsh:   eval "$(dispatcher completion zsh)"       in ~/.zshrc, after compinit
    fish:  dispatcher completion fish > ~/.config/fish/completions/dispatcher.fish

    The script asks the program itself, so it knows the commands of the version that is installed.
    """
    found = get_completion_class(shell)
    assert found is not None  # click knows all of _SHELLS
    click.echo(found(ctx.find_root().command, {}, "dispatcher", _VARIABLE).source())
