"""``dispatcher config``: what the settings are, and whether a file is right."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from dispatcher import config as settings_module
from dispatcher import config_sources
from dispatcher.config import Settings
from dispatcher.errors import ConfigError

FILE_OPTION = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file of settings; see 'dispatcher config show'.",
)


def load_settings(file: Path | None, flags: Mapping[str, Any]) -> tuple[Settings, dict[str, str]]:
    """The settings of file, environment and the flags that were given; exit 2 when one is wrong."""
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return config_sources.load(file, os.environ, given)
    except ConfigError as error:
        raise click.UsageError(error.message) from None


@click.group()
def config() -> None:
    """Show or check the settings."""


@config.command()
@FILE_OPTION
@click.option("--json", "as_json", is_flag=True, help="One JSON object per setting.")
def show(file: Path | None, as_json: bool) -> None:
    """Show every setting with its value, meaning and origin.

    Also its unit and its default.  Secrets are masked.

    \b
    dispatcher config show --config /etc/dispatcher.toml
    """
    settings, origins = load_settings(file, {})
    for row in map(settings_module.masked, settings_module.describe(settings, origins)):
        if as_json:
            click.echo(msgspec.json.encode(row))
            continue
        changed = "" if row.value == row.default else f"   default: {_text(row.default)}"
        click.echo(f"{click.style(row.name, bold=True)} = {_text(row.value)}   [{row.unit}]{changed}")
        click.echo(f"    {row.meaning}; from: {row.origin}")


@config.command()
@FILE_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print JSON, on one line: what was set, and where.")
def check(file: Path | None, as_json: bool) -> None:
    """Say whether the settings are right.

    Exit 2, with the file and line, the variable or the flag, when they are not.

    \b
    dispatcher config check --config /etc/dispatcher.toml
    """
    _, origins = load_settings(file, {})
    click.echo(msgspec.json.encode({"set": origins}) if as_json else "the settings are right")


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
