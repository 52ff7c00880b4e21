"""Every command and option says what it is for; what is told to people is told to programs too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from dispatcher.cli.main import cli


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    for part, inner in command.commands.items() if isinstance(command, click.Group) else ():
        yield from commands(inner, f"{name} {part}".strip())


ALL = dict(commands(cli, ""))


@pytest.mark.parametrize("name", ALL)
def test_help_is_complete(name: str) -> None:
    command = ALL[name]
    assert command.help, "says nothing of itself"
    options = [param for param in command.params if isinstance(param, click.Option)]
    assert [option.name for option in options if not option.help] == []
    assert CliRunner().invoke(cli, [*name.split(), "--help"]).exit_code == 0


def told(*arguments: str) -> object:
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_programs_are_told_what_people_are(tmp_path: Path) -> None:
    data = f"--data={tmp_path}/data"
    made = told("keys", "create", "--role=admin", data, "--json")
    assert isinstance(made, dict)
    assert told("keys", "revoke", made["id"], data, "--json") == {"id": made["id"], "revoked": True}
    findings = told("fsck", data, "--json")
    assert isinstance(findings, list)
    assert findings[0] == {"text": "registry: whole, 0 channels", "is_wrong": False}
    file = tmp_path / "dispatcher.toml"
    file.write_text("[server]\ngrace_s = 3\n")
    assert told("config", "check", f"--config={file}", "--json") == {"set": {"server.grace_s": f"{file}:2"}}


def test_a_folder_that_is_damaged_is_told_as_json_and_fails(tmp_path: Path) -> None:
    (tmp_path / "registry.sqlite").write_bytes(b"not a database")
    done = CliRunner().invoke(cli, ["fsck", f"--data={tmp_path}", "--json"])
    assert done.exit_code == 1
    assert json.loads(done.stdout)[0]["is_wrong"] is True
