"""Every command and option says what it is for; what is told to people is told to programs too."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from dispatcher.cli.main import cli, main


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for part in command.list_commands(context):
            inner = command.get_command(context, part)
            assert inner is not None
            yield from commands(inner, f"{name} {part}".strip())


ALL = dict(commands(cli, ""))


@pytest.mark.parametrize("name", ALL)
def test_help_is_complete(name: str) -> None:
    command = ALL[name]
    assert command.help, "says nothing of itself"
    options = [param for param in command.params if isinstance(param, click.Option)]
    assert [option.name for option in options if not option.help] == []
    said = CliRunner().invoke(cli, [*name.split(), "--help"], terminal_width=80)
    assert said.exit_code == 0
    assert not re.search(r"[a-z,;:]\.\.\.$", said.output, re.M), "a line of the list of commands is cut off"
    if not isinstance(command, click.Group):
        assert re.search(rf"^  dispatcher {name}\b", said.output, re.M), "it has no example"


def test_a_command_that_does_not_exist_is_refused() -> None:
    assert CliRunner().invoke(cli, ["server"]).exit_code == 2


def test_who_makes_a_key_does_not_wait_for_the_daemon_s_modules() -> None:
    code = (
        "import sys; from dispatcher.cli.main import cli; cli(['keys', '--help'], standalone_mode=False); "
        "print([name for name in sys.modules if name.startswith(('dispatcher.http', 'dispatcher.deliver'))])"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_exit_status_is_told() -> None:
    said = CliRunner().invoke(cli, ["--help"]).output
    assert re.search(r"Exit status: 0 .* 2 .*\s130 .*\s1 ", said, re.S)


@pytest.mark.parametrize(
    ("cause", "status", "said"), [(KeyboardInterrupt(), 130, "interrupted"), (None, 1, "nothing was done")]
)
def test_an_interrupt_is_told_from_a_no(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    cause: BaseException | None,
    status: int,
    said: str,
) -> None:
    def abort(**_: object) -> None:
        raise click.Abort from cause

    monkeypatch.setattr("dispatcher.cli.main.cli", abort)
    with pytest.raises(SystemExit) as exited:
        main()
    assert exited.value.code == status
    assert capsys.readouterr() == ("", f"dispatcher: {said}\n")


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
