"""What the commands that talk to a running dispatcher have in common."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any, TypeVar

import click

from dispatcher.cli.server_address import ServerAddress, parse_server_address
from dispatcher.model import Role

URL_DEFAULT = "http://127.0.0.1:8080"  # where serve listens by default
_KEY_CHARACTERS = frozenset(string.ascii_letters + string.digits + "-._~+/=")

F = TypeVar("F", bound=Callable[..., Any])


def server_options(role: Role) -> Callable[[F], F]:
    """``--url`` and ``--key``, also from the environment; passed on as ``address`` and ``key``."""

    def check_key(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
        if not value:
            raise click.UsageError(
                f"give {_article(role)} key with --key or DISPATCHER_KEY; "
                f"'dispatcher keys create --role {role} --data DIR' makes one"
            )
        if not set(value) <= _KEY_CHARACTERS:
            raise click.UsageError("--key or DISPATCHER_KEY: that is no access key; it starts with ak_")
        return value

    def parse_url(ctx: click.Context, param: click.Parameter, value: str) -> ServerAddress:
        try:
            return parse_server_address(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    def decorate(command: F) -> F:
        url = click.option(
            "--url",
            "address",
            metavar="URL",
            callback=parse_url,
            default=URL_DEFAULT,
            envvar="DISPATCHER_URL",
            show_envvar=True,
            show_default=True,
            help="The dispatcher.",
        )
        key = click.option(
            "--key",
            metavar="KEY",
            envvar="DISPATCHER_KEY",
            show_envvar=True,
            callback=check_key,
            help=f"{_article(role).capitalize()} key.",
        )
        return url(key(command))

    return decorate


def _article(role: Role) -> str:
    return f"{'an' if role.value[0] in 'aeiou' else 'a'} {role}"
