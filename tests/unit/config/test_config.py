"""Settings: where they come from, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from dispatcher import config, config_sources
from dispatcher.errors import ConfigError
from dispatcher.model import ChannelLimits, Overflow


def write(folder: Path, text: str) -> Path:
    file = folder / "d.toml"
    file.write_text(text)
    return file


def test_defaults_are_those_of_the_published_tables() -> None:
    settings, origins = config_sources.load()
    tier = settings.tiers["commercial"]
    assert (settings.server.listen, settings.storage.durability) == ("127.0.0.1:8080", "disk")
    assert (tier.queue_bytes, tier.batch_events, tier.callback_timeout_s) == (50_000_000, 10_000, 20)
    assert (tier.applications_max, settings.tiers["free"].applications_max) == (25, 4)
    assert origins == {}


def test_the_environment_wins_over_the_file_and_flags_over_both(tmp_path: Path) -> None:
    file = write(tmp_path, '[server]\nlisten = "a:1"\ngrace_s = 3\n[storage]\ndata = "/d"\n')
    environment = {"DISPATCHER_SERVER__LISTEN": "b:2", "DISPATCHER_SERVER__GRACE_S": "4.5"}
    settings, origins = config_sources.load(file, environment, {"server.listen": "c:3"})
    assert (settings.server.listen, settings.server.grace_s, settings.storage.data) == ("c:3", 4.5, "/d")
    assert origins["storage.data"] == f"{file}:5"
    assert origins["server.grace_s"] == "variable DISPATCHER_SERVER__GRACE_S"


def test_variables_carry_numbers_booleans_and_lists_as_text() -> None:
    settings, _ = config_sources.load(
        environment={
            "DISPATCHER_CALLBACKS__ALLOW_PRIVATE": "true",
            "DISPATCHER_CALLBACKS__ALLOW_NETWORKS": "10.1.0.0/16, fd00::/8",
            "DISPATCHER_TIERS__COMMERCIAL__BATCH_EVENTS": "500",
            "DISPATCHER_URL": "http://not-a-setting",
        }
    )
    assert settings.callbacks.allow_private is True
    assert settings.callbacks.allow_networks == ("10.1.0.0/16", "fd00::/8")
    assert settings.tiers["commercial"].batch_events == 500


def test_a_tier_of_ones_own_starts_from_the_commercial_defaults(tmp_path: Path) -> None:
    settings, _ = config_sources.load(write(tmp_path, "[tiers.gold]\nqueue_bytes = 100_000_000\n"))
    assert settings.tiers["gold"].queue_bytes == 100_000_000
    assert settings.tiers["gold"].batch_events == 10_000
    assert set(settings.tiers) == {"commercial", "free", "gold"}


@pytest.mark.parametrize("overflow", Overflow)
def test_a_tier_names_what_its_full_queues_do(tmp_path: Path, overflow: Overflow) -> None:
    settings, _ = config_sources.load(write(tmp_path, f'[tiers.free]\noverflow = "{overflow}"\n'))
    assert settings.tiers["free"].overflow is overflow


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[server]\nlistn = "x:1"\n', ("d.toml:2", "server.listn", "did you mean server.listen")),
        ("[server]\nlisten = 5\n", ("d.toml:2", "listen", "host:port")),
        ('[server]\nlisten = "nowhere"\n', ("d.toml:2", "HOST:PORT")),
        ('[server]\nlisten = "a:99999"\n', ("d.toml:2", "65535")),
        ("[tiers.free]\nqueue_bytes = -1\n", ("d.toml:2", "queue_bytes", "bytes")),
        ("[tiers.free]\nbatch_events = 20001\n", ("d.toml:2", "20000")),
        ('[tiers.free]\noverflow = "panic"\n', ("d.toml:2", "drop-oldest, reject or keep-latest")),
        ("[tiers.free]\nretry_initial_s = 200\n", ("tiers.free", "retry_initial_s")),
        ('[callbacks]\nallow_networks = ["10.0.0.1/8"]\n', ("d.toml:2", "10.0.0.1/8")),
        ('[server]\nunlimited_networks = ["10.0.0.1/8"]\n', ("d.toml:2", "10.0.0.1/8")),
        ('[callbacks]\ndeny_networks = ["10.0.0.1/8"]\n', ("d.toml:2", "10.0.0.1/8")),
        ('[callbacks]\nallow_ports = ["https"]\n', ("d.toml:2", "'https'", "8000-8999")),
        ('[callbacks]\nallow_ports = ["9-8"]\n', ("d.toml:2", "'9-8'")),
        ('[callbacks]\nallow_ports = ["0-80"]\n', ("d.toml:2", "'0-80'")),
        ('[callbacks]\nallow_ports = ["80-65536"]\n', ("d.toml:2", "'80-65536'")),
        ('[callbacks]\nproxy = "proxy:3128"\n', ("d.toml:2", "http://HOST:PORT")),
        ('[callbacks]\nproxy = "https://proxy:3128"\n', ("d.toml:2", "http://HOST:PORT")),
        ('[callbacks]\nproxy = "http://proxy"\n', ("d.toml:2", "http://HOST:PORT")),
        ('[callbacks]\nproxy = "http://proxy:3128/path"\n', ("d.toml:2", "http://HOST:PORT")),
        ('[callbacks]\nproxy = "http://a@b@proxy:3128"\n', ("d.toml:2", "percent-encoded")),
        ('[server]\ntls_key = "k"\n', ("tls_certificate", "tls_key", "both")),
        ("[server\n", ("d.toml", "not TOML")),
        ("nothing = 1\n", ("d.toml:1", "no setting nothing")),
    ],
)
def test_a_wrong_file_is_told_where_and_what(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        config_sources.load(write(tmp_path, text))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("http://proxy.inside:3128", ("proxy.inside", 3128, "")),
        ("http://[fd00::9]:80/", ("fd00::9", 80, "")),
        ("http://me:p%40ss%3A@10.0.0.9:8080", ("10.0.0.9", 8080, "me:p@ss:")),
    ],
)
def test_a_proxy_is_a_place_and_perhaps_credentials(value: str, parts: tuple[str, int, str]) -> None:
    assert config.split_proxy("callbacks.proxy", value) == parts


def test_the_credentials_of_a_proxy_are_neither_shown_nor_repeated_in_an_error() -> None:
    settings, origins = config_sources.load(flags={"callbacks.proxy": "http://me:SECRET@proxy:3128"})
    rows = [config.masked(row) for row in config.describe(settings, origins)]
    assert {row.name: row.value for row in rows}["callbacks.proxy"] == "http://***@proxy:3128"
    assert "SECRET" not in str(rows)
    with pytest.raises(ConfigError) as caught:
        config_sources.load(flags={"callbacks.proxy": "http://me:SECRET@proxy"})
    assert "SECRET" not in str(caught.value)


def test_another_password_of_the_proxy_is_a_change() -> None:
    before, after = (
        config_sources.load(flags={"callbacks.proxy": f"http://me:{password}@proxy:3128"})[0]
        for password in "ab"
    )
    assert config.changed(before, after) == ("callbacks.proxy",)


@pytest.mark.parametrize("durability", ["disk", "process", "memory"])
def test_every_durability_can_be_chosen(durability: str) -> None:
    settings, _ = config_sources.load(flags={"storage.durability": durability})
    assert settings.storage.durability == durability


def test_another_durability_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match="disk, process or memory") as caught:
        config_sources.load(flags={"storage.durability": "paper"})
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="readable file"):
        config_sources.load(tmp_path / "none.toml")


def test_every_setting_is_described_with_unit_meaning_and_origin() -> None:
    settings, origins = config_sources.load(flags={"server.grace_s": 2})
    rows = {row.name: row for row in config.describe(settings, origins)}
    assert rows["server.grace_s"].origin == "flag for server.grace_s"
    assert rows["server.grace_s"].default == 10
    assert rows["tiers.free.applications_max"].default == 4
    assert all(row.unit and row.meaning for row in rows.values())


def test_a_channel_copies_every_limit_from_its_tier() -> None:
    tier = config.BUILT_IN_TIERS["free"]
    copied = config.channel_limits(tier)
    assert {name: getattr(copied, name) for name in ChannelLimits.__struct_fields__} == {
        name: getattr(tier, name) for name in ChannelLimits.__struct_fields__
    }


def test_what_differs_between_two_settings_is_named(tmp_path: Path) -> None:
    before, _ = config_sources.load()
    assert config.changed(before, before) == ()
    text = "[server]\ngrace_s = 5\n[tiers.free]\nqueue_bytes = 4096\n"
    after, _ = config_sources.load(write(tmp_path, text))
    assert config.changed(before, after) == ("server.grace_s", "tiers.free.queue_bytes")
    more, _ = config_sources.load(write(tmp_path, text + "[tiers.gold]\nqueue_bytes = 4096\n"))
    names = [f"tiers.gold.{field}" for field in config.TierSettings.__struct_fields__]
    assert config.changed(after, more) == config.changed(more, after) == tuple(names)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example/services/SECRET?t=SECRET", "https://hooks.example/***"),
        ("http://SECRET:SECRET@10.0.0.1:9000", "http://10.0.0.1:9000/***"),
        ("hooks.example/SECRET", "***"),
        ("", ""),
    ],
)
def test_the_operators_webhook_is_shown_without_its_secrets(url: str, shown: str) -> None:
    settings, origins = config_sources.load(
        flags={"operator.webhook": url, "operator.webhook_secret": "whsec_SECRET"}
    )
    rows = {row.name: config.masked(row) for row in config.describe(settings, origins)}
    assert rows["operator.webhook"].value == shown
    assert rows["operator.webhook_secret"].value == "***"


@pytest.mark.parametrize("name", ["operator.webhook_secret", "operator.webhook", "callbacks.proxy"])
def test_a_secret_of_a_wrong_type_is_not_repeated(name: str, tmp_path: Path) -> None:
    table, _, field = name.partition(".")
    with pytest.raises(ConfigError) as caught:
        config_sources.load(write(tmp_path, f'[{table}]\n{field} = ["SECRET"]\n'))
    assert "SECRET" not in caught.value.message
    assert field in caught.value.message


@pytest.mark.parametrize(
    "url", ["collector:4318", "ftp://c/", "http://u:SECRET@c/", "http://c/?t=SECRET", "http://"]
)
def test_a_collector_that_is_none_or_a_secret_in_its_url_stops_the_start(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_sources.load(flags={"tracing.endpoint": url})
    assert "tracing.endpoint" in caught.value.message
    assert "SECRET" not in caught.value.message
    assert config_sources.load(flags={"tracing.endpoint": "http://[::1]:4318/v1/traces"})
