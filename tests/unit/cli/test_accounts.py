from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dispatcher.cli.main import cli


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPATCHER_STORAGE__DATA", raising=False)


def run(data: Path, *arguments: str) -> Result:
    result = CliRunner().invoke(cli, [*arguments, "--data", str(data)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def tiers(data: Path) -> dict[str, tuple[str, int]]:
    rows = json.loads(run(data, "accounts", "list", "--json").stdout)
    return {row["account"]: (row["tier"], row["applications"]) for row in rows}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with an account that has all the applications of the tier free, and another one."""
    folder = tmp_path / "d"
    create = ("keys", "create", "--role", "application", "--tier", "free", "--account")
    for account in ["acme"] * 4 + ["other"]:
        assert run(folder, *create, account).exit_code == 0
    return folder


def test_accounts_are_listed_with_tier_and_applications(data: Path) -> None:
    lines = [line.split() for line in run(data, "accounts", "list").stdout.splitlines()]
    assert lines == [["ACCOUNT", "TIER", "APPLICATIONS"], ["acme", "free", "4"], ["other", "free", "1"]]


def test_another_tier_is_the_accounts_alone_and_its_bound_holds_at_once(data: Path) -> None:
    create = ("keys", "create", "--role", "application", "--account", "acme")
    assert run(data, *create).exit_code == 1
    assert run(data, "accounts", "set-tier", "acme", "commercial").exit_code == 0
    assert run(data, *create).exit_code == 0
    assert tiers(data) == {"acme": ("commercial", 5), "other": ("free", 1)}
    assert run(data, "accounts", "set-tier", "acme", "free").exit_code == 0  # it keeps the five it has
    assert run(data, *create).exit_code == 1
    assert tiers(data)["acme"] == ("free", 5)


def test_a_tier_or_an_account_that_is_not_there_changes_nothing(data: Path, tmp_path: Path) -> None:
    unknown = run(data, "accounts", "set-tier", "acme", "gold")
    assert unknown.exit_code == 2
    assert "there is no tier 'gold'; the settings have commercial, free" in unknown.stderr
    nobody = run(data, "accounts", "set-tier", "nobody", "free")
    assert nobody.exit_code == 1
    assert "there is no account 'nobody'; 'dispatcher accounts list'" in nobody.stderr
    assert set(tiers(data)) == {"acme", "other"}
    assert tiers(data)["acme"] == ("free", 4)
    settings = tmp_path / "d.toml"
    settings.write_text("[tiers.gold]\napplications_max = 1\n")
    assert run(data, "accounts", "set-tier", "acme", "gold", "--config", str(settings)).exit_code == 0
    assert tiers(data)["acme"] == ("gold", 4)
