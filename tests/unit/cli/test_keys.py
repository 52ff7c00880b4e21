from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest
import trio
from click.testing import CliRunner, Result
from support.registries import NOW_UNIX_MS

from dispatcher.cli.keys import keys
from dispatcher.core.access import KeyRing
from dispatcher.model import AccessKey
from dispatcher.registry.folder import open_folder
from dispatcher.registry.interface import Contents
from dispatcher.registry.sqlite import open_registry

KEY = re.compile(r"ak_1[A-Za-z0-9_-]{80}")
ID = re.compile(r"k_[0-9a-f]{12}")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPATCHER_STORAGE__DATA", raising=False)


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(keys, [str(argument) for argument in arguments])
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def made(data: Path, *arguments: str) -> dict[str, str | None]:
    result = run("create", "--data", data, "--json", *arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    answer: dict[str, str | None] = json.loads(result.stdout)
    return answer


def listed(data: Path) -> list[dict[str, str | None]]:
    result = run("list", "--data", data, "--json")
    assert result.exit_code == 0, result.output
    rows: list[dict[str, str | None]] = json.loads(result.stdout)
    return rows


def stored(data: Path) -> Contents:
    async def load() -> Contents:
        async with open_registry(open_folder(data), unix_ms=lambda: NOW_UNIX_MS) as registry:
            return await registry.load()

    return trio.run(load)


def known(data: Path, key: str | None) -> AccessKey | None:
    assert key is not None
    return KeyRing(open_folder(data).secret, stored(data).identities.keys).authenticate(key)


def refusal(*arguments: str | Path, exit_code: int) -> str:
    """What stderr says after "Error:"; nothing went to stdout."""
    result = run(*arguments)
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    return result.stderr.partition("Error: ")[2].strip()


# --- create -----------------------------------------------------------------------------------


def test_the_key_alone_goes_to_stdout(tmp_path: Path) -> None:
    result = run("create", "--data", tmp_path / "d", "--role", "gateway")
    assert result.exit_code == 0
    assert KEY.fullmatch(result.stdout.removesuffix("\n"))
    assert "not shown again" in result.stderr
    assert KEY.search(result.stderr) is None


def test_an_application_key_without_names_makes_an_application_of_the_default_account(tmp_path: Path) -> None:
    answer = made(tmp_path / "d", "--role", "application")
    assert list(answer) == ["key", "id", "role", "account", "application"]
    assert KEY.fullmatch(answer["key"] or "")
    assert ID.fullmatch(answer["id"] or "")
    assert (answer["role"], answer["account"]) == ("application", "default")
    identities = stored(tmp_path / "d").identities
    (account,), (application,), (key,) = identities.accounts, identities.applications, identities.keys
    assert (account.name, account.tier) == ("default", "commercial")
    assert application.name == answer["application"]
    assert (key.account_id, key.application_id) == (account.id, application.id)
    assert known(tmp_path / "d", answer["key"]) == key


def test_each_key_without_an_application_gets_one_of_its_own(tmp_path: Path) -> None:
    first, second = (made(tmp_path / "d", "--role", "application") for _ in range(2))
    assert first["application"] != second["application"]
    assert first["key"] != second["key"]


def test_keys_of_a_named_application_share_it(tmp_path: Path) -> None:
    for _ in range(2):
        answer = made(tmp_path / "d", "--role", "application", "--application", "app", "--account", "acme")
        assert (answer["account"], answer["application"]) == ("acme", "app")
    assert [a.name for a in stored(tmp_path / "d").identities.applications] == ["app"]


def test_an_application_name_is_looked_up_in_its_own_account(tmp_path: Path) -> None:
    for account in ("acme", "other"):
        made(tmp_path / "d", "--role", "application", "--application", "app", "--account", account)
    first, second = stored(tmp_path / "d").identities.applications
    assert first.account_id != second.account_id


def test_a_gateway_key_has_an_account_and_an_admin_key_neither(tmp_path: Path) -> None:
    gateway = made(tmp_path / "d", "--role", "gateway")
    admin = made(tmp_path / "d", "--role", "admin")
    assert (gateway["role"], gateway["account"], gateway["application"]) == ("gateway", "default", None)
    assert (admin["role"], admin["account"], admin["application"]) == ("admin", None, None)
    assert stored(tmp_path / "d").identities.applications == ()


@pytest.mark.parametrize(("tier", "bound"), [("free", 4), (None, 25)])
def test_a_new_application_is_refused_at_the_tier_s_bound(
    tmp_path: Path, tier: str | None, bound: int
) -> None:
    options = ["--role", "application", *(["--tier", tier] if tier else [])]
    for _ in range(bound):
        last = made(tmp_path / "d", *options)
    message = refusal("create", "--data", tmp_path / "d", *options, exit_code=1)
    assert f"has {bound} applications, the most its tier" in message
    assert len(listed(tmp_path / "d")) == bound
    assert made(tmp_path / "d", *options, "--application", str(last["application"]))


def test_the_bound_of_a_tier_in_the_settings_holds(tmp_path: Path) -> None:
    settings = tmp_path / "dispatcher.toml"
    settings.write_text("[tiers.gold]\napplications_max = 1\n")
    options = ["--role", "application", "--tier", "gold", "--config", str(settings)]
    made(tmp_path / "d", *options)
    assert "tier 'gold'" in refusal("create", "--data", tmp_path / "d", *options, exit_code=1)
    message = refusal("create", "--data", tmp_path / "d", "--role", "application", exit_code=1)
    assert "name the daemon's with --config" in message


def test_an_account_keeps_its_tier(tmp_path: Path) -> None:
    made(tmp_path / "d", "--role", "gateway", "--tier", "free")
    made(tmp_path / "d", "--role", "gateway", "--tier", "free")
    made(tmp_path / "d", "--role", "gateway")
    options = ("--role", "application", "--tier", "commercial")
    message = refusal("create", "--data", tmp_path / "d", *options, exit_code=1)
    assert "account 'default' is of tier 'free', not 'commercial'" in message
    assert len(listed(tmp_path / "d")) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--role", "admin", "--account", "acme"], "admin key is for the whole server"),
        (["--role", "admin", "--application", "app"], "admin key is for the whole server"),
        (["--role", "admin", "--tier", "free"], "admin key is for the whole server"),
        (["--role", "gateway", "--application", "app"], "gateway key is for a whole account"),
        (["--role", "gateway", "--account", "a b"], "account 'a b' is not a name"),
        (["--role", "application", "--application", "../x"], "application '../x' is not a name"),
        (["--role", "gateway", "--account", ""], "account '' is not a name"),
        (["--role", "gateway", "--tier", "gold"], "no tier 'gold'; the settings have commercial, free"),
        (["--role", "gateway", "--config", "/nowhere.toml"], "/nowhere.toml"),
        (["--role", "root"], "'root' is not one of"),
        (["--role", "admin", "--expires", "tomorrow"], "'tomorrow': want a duration such as 90d"),
        (["--role", "admin", "--expires", "0s"], "'0s' is not in the future"),
        (["--role", "admin", "--expires", "2001-01-01T00:00:00Z"], "is not in the future"),
        ([], "Missing option '--role'"),
    ],
)
def test_what_was_written_wrongly_exits_2_and_makes_nothing(
    tmp_path: Path, options: list[str], words: str
) -> None:
    assert words in refusal("create", "--data", tmp_path / "d", *options, exit_code=2)
    assert not (tmp_path / "d").exists()


def test_the_data_folder_has_to_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Missing option '--data'" in refusal("create", "--role", "admin", exit_code=2)
    monkeypatch.setenv("DISPATCHER_STORAGE__DATA", str(tmp_path / "d"))
    assert run("create", "--role", "admin").exit_code == 0
    assert len(listed(tmp_path / "d")) == 1


def test_a_key_that_expires_says_when_as_it_is_made_and_listed(tmp_path: Path) -> None:
    answer = made(tmp_path / "d", "--role", "gateway", "--expires", "2099-01-31T01:00:00+01:00")
    assert answer["expires"] == "2099-01-31T00:00:00Z"
    assert [row["expires"] for row in listed(tmp_path / "d")] == ["2099-01-31T00:00:00Z"]
    (key,) = stored(tmp_path / "d").identities.keys
    assert key.expires_unix_ms == 4_073_500_800_000


# --- list and revoke --------------------------------------------------------------------------


def test_a_list_names_keys_and_never_shows_one(tmp_path: Path) -> None:
    answers = [
        made(tmp_path / "d", "--role", "application", "--application", "app"),
        made(tmp_path / "d", "--role", "gateway"),
        made(tmp_path / "d", "--role", "admin"),
        made(tmp_path / "d", "--role", "admin", "--expires", "90d"),
    ]
    texts = [str(answer.pop("key")) for answer in answers]
    rows = listed(tmp_path / "d")
    assert sorted(rows, key=str) == sorted(answers, key=str)
    plain = run("list", "--data", tmp_path / "d").stdout
    assert plain.splitlines()[0].split() == ["ID", "ROLE", "ACCOUNT", "APPLICATION", "EXPIRES"]
    assert sorted(line.split() for line in plain.splitlines()[1:]) == sorted(
        [
            row["id"],
            row["role"],
            row["account"] or "-",
            row["application"] or "-",
            row.get("expires", "never"),
        ]
        for row in rows
    )
    for text in texts:
        assert text not in plain + msgspec.json.encode(rows).decode()


def test_a_list_of_no_keys_is_empty(tmp_path: Path) -> None:
    open_folder(tmp_path / "d")
    result = run("list", "--data", tmp_path / "d")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "keys create" in result.stderr
    assert listed(tmp_path / "d") == []


def test_a_revoked_key_is_not_valid_and_not_listed(tmp_path: Path) -> None:
    first = made(tmp_path / "d", "--role", "gateway")
    second = made(tmp_path / "d", "--role", "gateway")
    result = run("revoke", str(first["id"]), "--data", tmp_path / "d")
    assert (result.exit_code, result.stdout) == (0, "")
    assert known(tmp_path / "d", first["key"]) is None
    assert known(tmp_path / "d", second["key"]) is not None
    assert [row["id"] for row in listed(tmp_path / "d")] == [second["id"]]


def test_revoking_what_is_not_there_fails_and_says_where_to_look(tmp_path: Path) -> None:
    answer = made(tmp_path / "d", "--role", "gateway")
    message = refusal("revoke", "k_0", "--data", tmp_path / "d", exit_code=1)
    assert message == "there is no valid key 'k_0'; 'dispatcher keys list' shows those there are"
    run("revoke", str(answer["id"]), "--data", tmp_path / "d")
    refusal("revoke", str(answer["id"]), "--data", tmp_path / "d", exit_code=1)


def test_the_text_of_a_key_pasted_as_its_id_is_not_echoed(tmp_path: Path) -> None:
    answer = made(tmp_path / "d", "--role", "gateway")
    result = run("revoke", str(answer["key"]), "--data", tmp_path / "d")
    assert result.exit_code == 2
    assert str(answer["key"]) not in result.output
    assert known(tmp_path / "d", answer["key"]) is not None


@pytest.mark.parametrize("arguments", [["list"], ["revoke", "k_0"]])
def test_looking_at_a_folder_that_is_not_there_does_not_make_it(tmp_path: Path, arguments: list[str]) -> None:
    assert "there is no folder" in refusal(*arguments, "--data", tmp_path / "typo", exit_code=1)
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("arguments", [["list"], ["revoke", "k_0"], ["create", "--role", "admin"]])
def test_a_damaged_folder_is_one_line_and_exit_1(tmp_path: Path, arguments: list[str]) -> None:
    made(tmp_path / "d", "--role", "gateway")
    (tmp_path / "d" / "registry.sqlite").write_bytes(b"garbage" * 1000)
    result = run(*arguments, "--data", tmp_path / "d")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "is not a database" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["create"], ["list"], ["revoke"]])
def test_help_is_there_for_every_command(arguments: list[str]) -> None:
    result = run(*arguments, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout
