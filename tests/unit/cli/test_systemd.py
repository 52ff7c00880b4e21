"""Which unit is printed: by the settings, by what stands beside it, and for which systemd."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from dispatcher.cli.main import cli


def unit(*arguments: str) -> dict[str, str]:
    done = CliRunner().invoke(cli, ["systemd", *arguments])
    assert done.exit_code == 0, done.output
    pairs = [line.partition("=") for line in done.stdout.splitlines() if "=" in line and line[0] != "#"]
    return {name: value for name, _, value in pairs}


@pytest.fixture
def low_port(tmp_path: Path) -> str:
    file = tmp_path / "dispatcher.toml"
    file.write_text('[server]\ngrace_s = 45.5\nlisten = "0.0.0.0:443"\n')
    return f"--config={file}"


def test_it_follows_the_settings(low_port: str) -> None:
    service = unit(low_port)
    assert int(service["TimeoutStopSec"]) > 45.5
    assert service["ExecStart"].endswith(f" serve {low_port.replace('=', ' ')}")
    assert unit(low_port, "--socket")["ListenStream"] == "0.0.0.0:443"


def test_a_low_port_takes_a_capability_and_its_view_of_users(low_port: str) -> None:
    service = unit(low_port)
    assert service["CapabilityBoundingSet"] == service["AmbientCapabilities"] == "CAP_NET_BIND_SERVICE"
    assert "PrivateUsers" not in service  # a capability of a user namespace opens no port of the machine


@pytest.mark.parametrize("flags", [["--with-socket"], []], ids=["systemd opens it", "a high port"])
def test_without_one_it_has_no_capability(low_port: str, flags: list[str]) -> None:
    service = unit(*flags, *([low_port] if flags else []))
    assert service["CapabilityBoundingSet"] == ""
    assert service["PrivateUsers"] == "yes"
    assert "AmbientCapabilities" not in service


def test_it_is_tried_again_for_ever_since_a_limit_would_close_the_socket() -> None:
    assert unit()["StartLimitIntervalSec"] == "0"
    assert "Requires" not in unit()
    assert unit("--with-socket")["Requires"] == "dispatcher.socket"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("systemd 252 (252.39-1)", "notify"),
        ("systemd 253 (v253.5)", "notify-reload"),
        ("no such thing", "notify-reload"),
        (None, "notify-reload"),
    ],
)
def test_it_is_for_the_systemd_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str | None, kind: str
) -> None:
    if said is not None:
        (tmp_path / "systemctl").write_text(f"#!/bin/sh\necho '{said}'\n")
        (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    service = unit()
    assert service["Type"] == kind
    assert ("ExecReload" in service) == (kind == "notify")


@pytest.mark.parametrize(
    ("flag", "kind"), [("--plain-notify", "notify"), ("--notify-reload", "notify-reload")]
)
def test_it_may_be_for_another(flag: str, kind: str) -> None:
    assert unit(flag)["Type"] == kind
