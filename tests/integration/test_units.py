"""What ``dispatcher systemd`` and ``dispatcher completion`` print, judged by systemd and by a shell."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from support.daemon import DISPATCHER

pytestmark = pytest.mark.slow

TOOL_S = 30.0


def printed(*arguments: str) -> str:
    done = subprocess.run([*DISPATCHER, *arguments], capture_output=True, text=True, timeout=TOOL_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def settings_of(unit: str) -> dict[str, str]:
    pairs = [line.partition("=") for line in unit.splitlines() if "=" in line and line[0] != "#"]
    return {name: value for name, _, value in pairs}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="wants systemd-analyze")
@pytest.mark.parametrize("flags", [[], ["--with-socket"]], ids=["alone", "with a socket"])
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path, flags: list[str]) -> None:
    (tmp_path / "dispatcher.service").write_text(printed("systemd", *flags))
    (tmp_path / "dispatcher.socket").write_text(printed("systemd", "--socket"))
    units = [str(tmp_path / name) for name in ("dispatcher.service", "dispatcher.socket")]
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, timeout=TOOL_S
    )
    about_ours = [line for line in checked.stderr.splitlines() if "dispatcher" in line]
    assert (checked.returncode, about_ours) == (0, []), checked.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="wants systemd-analyze")
def test_systemd_would_have_found_a_wrong_line(tmp_path: Path) -> None:
    unit = tmp_path / "dispatcher.service"
    unit.write_text(printed("systemd").replace("KillMode=mixed", "KillMode=gently"))
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=TOOL_S
    )
    assert "gently" in checked.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="wants systemd-analyze")
def test_the_unit_leaves_the_daemon_little_to_do_harm_with(tmp_path: Path) -> None:
    unit = tmp_path / "dispatcher.service"
    unit.write_text(printed("systemd"))
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=12", str(unit)],
        capture_output=True,
        text=True,
        timeout=TOOL_S,
    )
    assert judged.returncode == 0, judged.stdout  # 1.1 of 10; what is left is the network


_ASK = """
eval "$(dispatcher completion bash)"
complete -p dispatcher
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_dispatcher_completion dispatcher
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def completed(folder: Path, words: str) -> list[str]:
    """What bash offers for the last of these words."""
    command = folder / "dispatcher"
    command.write_text(f'#!/bin/sh\nexec {" ".join(DISPATCHER)} "$@"\n')
    command.chmod(0o755)
    done = subprocess.run(
        ["bash", "--norc", "-c", _ASK.format(words=words)],
        env={"PATH": f"{folder}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=TOOL_S,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()[1:]


@pytest.mark.skipif(shutil.which("bash") is None, reason="wants bash")
def test_bash_completes_commands_options_and_values(tmp_path: Path) -> None:
    assert completed(tmp_path, "dispatcher ba") == ["backup"]
    assert completed(tmp_path, "dispatcher keys re") == ["revoke"]
    assert "--accept-damage" in completed(tmp_path, "dispatcher restore --a")
    assert completed(tmp_path, "dispatcher keys create --role a") == ["application", "admin"]
    assert completed(tmp_path, "dispatcher no-such-command-") == [""]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script_too(shell: str) -> None:
    assert "_DISPATCHER_COMPLETE" in printed("completion", shell)
