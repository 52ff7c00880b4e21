"""The operator's settings: one frozen value, with units, defaults and meaning beside each.

Nothing is read from a global later: a changed setting is a new ``Settings``.
``config_sources`` reads them.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from dispatcher import limits
from dispatcher.errors import BadRequest, ConfigError
from dispatcher.model import ChannelLimits, Durability, Overflow, RefusedEvents

_CREDENTIALS = re.compile(r"//[^@/]*@")
_COLLECTOR = re.compile(r"https?://[^/?#@\s]+(/[^?#@\s]*)?")
_ORIGIN = re.compile(r"(https?://)(?:[^/?@]*@)?([^/?@]*).*", re.IGNORECASE)
SECRET_FIELDS = frozenset({"proxy", "webhook", "webhook_secret"})
_PROXY = re.compile(r"http://(?:(?P<credentials>[^@/\s]+)@)?(?P<place>[^@/]+)/?")

Seconds = Annotated[float, Meta(ge=0.001)]
LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]


def _doc(unit: str, meaning: str) -> Meta:
    return Meta(description=meaning, extra={"unit": unit})


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[server]``"""

    listen: Annotated[
        str, _doc("host:port", "where applications and gateways connect; sockets passed by systemd go first")
    ] = "127.0.0.1:8080"
    internal_listen: Annotated[
        str,
        _doc(
            "host:port", "when set, /metrics, /healthz, /readyz, /admin and /console are served here instead"
        ),
    ] = ""
    tls_certificate: Annotated[
        str, _doc("path", "PEM chain; with tls_key: https and wss on the same port")
    ] = ""
    tls_key: Annotated[str, _doc("path", "PEM key of tls_certificate")] = ""
    connections_per_address_max: Annotated[
        int,
        Meta(ge=0),
        _doc("connections", "open from one IPv4 address, or one IPv6 network of 64 bits; 0: no limit"),
    ] = 1_000
    unlimited_networks: Annotated[
        tuple[str, ...],
        _doc("CIDR blocks", "that this does not hold for: where proxies and your own machines are"),
    ] = (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "100.64.0.0/10",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
    websocket_deflate_bytes_per_s: Annotated[
        int,
        Meta(ge=0),
        _doc(
            "bytes/s",
            "of WebSocket messages compressed for clients that offer it; what is more goes as it is; 0: none",
        ),
    ] = 16_000_000
    grace_s: Annotated[Seconds, _doc("seconds", "time for requests in flight when the daemon stops")] = 10.0
    log_format: Annotated[
        LogFormat, _doc("text or json", "lines on stderr for people, or one JSON object each")
    ] = "text"
    log_level: Annotated[
        LogLevel,
        _doc("debug, info, warning or error", "what is less is not logged"),
    ] = "info"


class StorageSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[storage]``"""

    data: Annotated[str, _doc("path", "the data folder")] = "./data"
    durability: Annotated[
        Durability,
        _doc("disk, process or memory", "what a 202 survives: a power cut, a killed process, or nothing"),
    ] = Durability.DISK
    engine: Annotated[Literal["embedded"], _doc("name", "who keeps the queues")] = "embedded"
    memory_bytes: Annotated[
        int,
        Meta(ge=0),
        _doc(
            "bytes", "bound of all queues in memory; 0: half of the machine's, or of what a container may use"
        ),
    ] = 0
    disk_bytes: Annotated[
        int,
        Meta(ge=0),
        _doc("bytes", "bound of what a journal's queues keep on disk beyond memory; 0: the disk's own"),
    ] = 0


class CallbackSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[callbacks]``"""

    allow_private: Annotated[
        bool, _doc("true or false", "private, loopback and link-local addresses as callback targets")
    ] = False
    allow_networks: Annotated[
        tuple[str, ...], _doc("CIDR blocks", "callback targets allowed besides the global addresses")
    ] = ()
    deny_networks: Annotated[
        tuple[str, ...], _doc("CIDR blocks", "never callback targets, whatever else allows them")
    ] = ()
    allow_ports: Annotated[
        tuple[str, ...], _doc("ports", "of callback targets: single ones, and ranges such as 8000-8999")
    ] = ("1-65535",)
    proxy: Annotated[
        str,
        _doc("URL", "http://[USER:PASSWORD@]HOST:PORT of an HTTP proxy that callbacks go through (CONNECT)"),
    ] = ""
    client_certificate: Annotated[str, _doc("path", "PEM chain shown to https callbacks")] = ""
    client_key: Annotated[str, _doc("path", "PEM key of client_certificate")] = ""
    ca: Annotated[str, _doc("path", "PEM file of extra trust roots for https callbacks")] = ""


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[limits]``"""

    startup_grace_s: Annotated[
        float, Meta(ge=0), _doc("seconds", "after a start, in which no channel is removed")
    ] = 300.0


class OperatorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[operator]``"""

    webhook: Annotated[
        str, _doc("URL", "where warnings go, as POST; private addresses are allowed; none when empty")
    ] = ""
    webhook_secret: Annotated[
        str, _doc("whsec_BASE64", "signs what goes there, by Standard Webhooks; unsigned when empty")
    ] = ""
    webhook_through_proxy: Annotated[
        bool, _doc("true or false", "warnings go through callbacks.proxy too")
    ] = False


class TracingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[tracing]``"""

    endpoint: Annotated[
        str, _doc("URL", "an OpenTelemetry collector (OTLP over HTTP, .../v1/traces); no traces when empty")
    ] = ""
    sample: Annotated[
        float,
        Meta(ge=0, le=1),
        _doc("share", "of the requests without a traceparent that are traced; others say it themselves"),
    ] = 0.01


class TierSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[tiers.NAME]``: what ``ChannelLimits`` has too is copied into a channel when it is registered.

    The rest is asked of the account's tier whenever it matters.
    """

    applications_max: Annotated[int, Meta(ge=0), _doc("applications", "per account; 0: no limit")] = 25
    requests_per_s: Annotated[
        float, Meta(ge=0), _doc("requests/s", "of an account's keys in the long run; 0: no limit")
    ] = 0.0
    requests_burst: Annotated[
        int, Meta(ge=0), _doc("requests", "at once, after a rest; 0: what a second brings")
    ] = 0
    events_per_s: Annotated[
        float, Meta(ge=0), _doc("events/s", "of an account's gateways in the long run; 0: no limit")
    ] = 0.0
    events_burst: Annotated[
        int, Meta(ge=0), _doc("events", "at once, after a rest; 0: what a second brings")
    ] = 0
    receivers_max: Annotated[
        int,
        Meta(ge=0),
        _doc("receivers", "sockets and polls of an account's applications, open at once; 0: no limit"),
    ] = 0
    queue_bytes: Annotated[int, Meta(ge=4096), _doc("bytes", "stored bytes of one channel's queue")] = (
        50_000_000
    )
    event_lifetime_s: Annotated[Seconds, _doc("seconds", "an event older than this is removed")] = 86_400.0
    overflow: Annotated[
        Overflow,
        _doc("drop-oldest, reject or keep-latest", "what a full queue does with the next event"),
    ] = Overflow.DROP_OLDEST
    idle_timeout_s: Annotated[
        Seconds, _doc("seconds", "a channel without incoming events for so long is removed")
    ] = 172_800.0
    delivery_failure_timeout_s: Annotated[
        Seconds, _doc("seconds", "a callback failing for so long is removed")
    ] = 86_400.0
    websocket_disconnected_timeout_s: Annotated[
        Seconds, _doc("seconds", "a WebSocket channel without a socket for so long is removed")
    ] = 86_400.0
    websocket_inactivity_s: Annotated[
        Seconds, _doc("seconds", "a socket without any message for so long is closed")
    ] = 86_400.0
    batch_events: Annotated[
        int,
        Meta(ge=1, le=limits.MAX_CHUNK_SIZE_MAX),
        _doc("events", "most events in one batch, when the application asks for no other number"),
    ] = 10_000
    batch_bytes: Annotated[
        int,
        Meta(ge=limits.LEARNED_BATCH_BYTES_MIN),
        _doc("bytes", "most bytes of one callback batch"),
    ] = 8 * limits.MIB
    websocket_batch_bytes: Annotated[
        int,
        Meta(ge=limits.LEARNED_BATCH_BYTES_MIN),
        _doc("bytes", "most bytes of one WebSocket batch or poll; common clients refuse over 1 MiB"),
    ] = 1_000_000
    delete_channel_on_client_close: Annotated[
        bool, _doc("true or false", "a client that closes its WebSocket deletes the channel")
    ] = False
    callback_timeout_s: Annotated[Seconds, _doc("seconds", "for one callback in total")] = 20.0
    retry_initial_s: Annotated[Seconds, _doc("seconds", "first pause after a failed callback; doubles")] = 1.0
    retry_max_s: Annotated[Seconds, _doc("seconds", "longest pause after a failed callback")] = 120.0
    ping_interval_s: Annotated[Seconds, _doc("seconds", "between pings on an idle WebSocket")] = 30.0
    pong_timeout_s: Annotated[Seconds, _doc("seconds", "for the pong to an idle ping")] = 5.0
    ack_timeout_s: Annotated[
        Seconds, _doc("seconds", "without pong or progress while events are unconfirmed")
    ] = 120.0
    long_poll_hold_s: Annotated[Seconds, _doc("seconds", "a long poll waits for a message")] = 30.0
    long_poll_idle_s: Annotated[
        Seconds, _doc("seconds", "a long-poll channel without a poll for so long is removed")
    ] = 600.0
    refused_events: Annotated[
        RefusedEvents,
        _doc("retry or park", "what becomes of an event that a callback answers alone with 400 or 422"),
    ] = RefusedEvents.RETRY


BUILT_IN_TIERS: dict[str, TierSettings] = {
    "commercial": TierSettings(),
    "free": TierSettings(applications_max=4),
}


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything an operator can set."""

    server: ServerSettings = ServerSettings()
    storage: StorageSettings = StorageSettings()
    callbacks: CallbackSettings = CallbackSettings()
    limits: LimitSettings = LimitSettings()
    operator: OperatorSettings = OperatorSettings()
    tracing: TracingSettings = TracingSettings()
    tiers: dict[str, TierSettings] = msgspec.field(default_factory=lambda: dict(BUILT_IN_TIERS))


TABLES: dict[str, type[msgspec.Struct]] = {
    "server": ServerSettings,
    "storage": StorageSettings,
    "callbacks": CallbackSettings,
    "limits": LimitSettings,
    "operator": OperatorSettings,
    "tracing": TracingSettings,
}
"""The tables of the file, without the tiers."""


class SettingRow(msgspec.Struct, frozen=True, kw_only=True):
    """One setting as ``config show`` prints it."""

    name: str
    value: Any
    default: Any
    unit: str
    meaning: str
    origin: str


def check_tier(name: str, tiers: Mapping[str, TierSettings]) -> None:
    """Refuse (``BadRequest``) the name of a tier that the settings do not have."""
    if name not in tiers:
        raise BadRequest(f"there is no tier {name!r}; the settings have {', '.join(sorted(tiers))}")


def channel_limits(tier: TierSettings) -> ChannelLimits:
    """What a channel registered now under this tier keeps for its life."""
    fields = {name: getattr(tier, name) for name in ChannelLimits.__struct_fields__}
    return ChannelLimits(**fields)


def split_listen(name: str, value: str) -> tuple[str, int]:
    """Split ``host:port`` (``[v6]:port``); ``name`` is the setting, for the error."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\s\[\]]+):(\d{1,5})", value)
    if match is None or int(match[2]) > 65535:
        raise ConfigError(f"{name} = {value!r}: want HOST:PORT with a port from 0 to 65535")
    return match[1].strip("[]"), int(match[2])


def port_range(text: str) -> range:
    """The ports of ``443`` or ``8000-8999``.  Raises ``ValueError`` for what is neither."""
    match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", text)
    ports = range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
    if not ports or ports[0] < 1 or ports[-1] > 65535:
        raise ValueError(f"{text!r} is no port from 1 to 65535, and no range of them")
    return ports


def split_proxy(name: str, value: str) -> tuple[str, int, str]:
    """Split ``http://[USER:PASSWORD@]HOST:PORT`` into host, port and ``USER:PASSWORD`` or nothing.

    ``name`` is the setting, for the error, which does not repeat the value.
    """
    match = _PROXY.fullmatch(value)
    try:
        host, port = split_listen(name, match["place"] if match else "")
    except ConfigError:
        raise ConfigError(
            f"{name}: want http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT with what is special "
            "in them percent-encoded"
        ) from None
    assert match is not None
    return host, port, urllib.parse.unquote(match["credentials"] or "")


def describe(settings: Settings, origins: Mapping[str, str]) -> Iterator[SettingRow]:
    """Every setting with its value, default, unit, meaning and origin; see ``masked``."""
    tables: list[tuple[str, Any, Any]] = [
        ("server", settings.server, ServerSettings()),
        ("storage", settings.storage, StorageSettings()),
        ("callbacks", settings.callbacks, CallbackSettings()),
        ("limits", settings.limits, LimitSettings()),
        ("operator", settings.operator, OperatorSettings()),
        ("tracing", settings.tracing, TracingSettings()),
    ]
    for tier, value in settings.tiers.items():
        tables.append((f"tiers.{tier}", value, BUILT_IN_TIERS.get(tier, TierSettings())))
    for table, value, default in tables:
        for field in value.__struct_fields__:
            unit, meaning = doc_of(type(value), field)
            name = f"{table}.{field}"
            yield SettingRow(
                name=name,
                value=getattr(value, field),
                default=getattr(default, field),
                unit=unit,
                meaning=meaning,
                origin=origins.get(name, "default"),
            )


def masked(row: SettingRow) -> SettingRow:
    """The row as it may be shown: without secrets, and of URLs without credentials."""
    if not isinstance(row.value, str) or not row.value:
        return row
    if row.name == "operator.webhook_secret":
        return msgspec.structs.replace(row, value="***")
    if row.name == "operator.webhook":  # the paths of many services' webhooks are their secrets
        found = _ORIGIN.fullmatch(row.value)
        return msgspec.structs.replace(row, value=f"{found[1]}{found[2]}/***" if found else "***")
    return msgspec.structs.replace(row, value=_CREDENTIALS.sub("//***@", row.value))


def changed(before: Settings, after: Settings) -> tuple[str, ...]:
    """The names of the settings that differ, in the order of ``describe``; a tier's when it came or went."""
    values = [{row.name: row.value for row in describe(settings, {})} for settings in (before, after)]
    names = values[0] | values[1]
    return tuple(name for name in names if values[0].get(name) != values[1].get(name))


def type_of(struct: type[msgspec.Struct], field: str) -> Any:
    """A field's annotation."""
    return next(f.type for f in msgspec.structs.fields(struct) if f.name == field)


def doc_of(struct: type[msgspec.Struct], field: str) -> tuple[str, str]:
    """Unit and meaning, from the field's annotation."""
    meta = next(m for m in reversed(type_of(struct, field).__metadata__) if m.description is not None)
    return meta.extra["unit"], meta.description


def check(settings: Settings, origins: Mapping[str, str]) -> Settings:
    """Refuse (``ConfigError``) what no single field can tell; ``origins`` as of ``load``."""
    server, callbacks = settings.server, settings.callbacks
    split_listen(origins.get("server.listen", "server.listen"), server.listen)
    if server.internal_listen:
        split_listen(origins.get("server.internal_listen", "server.internal_listen"), server.internal_listen)
    for one, other, table in (
        ("tls_certificate", "tls_key", server),
        ("client_certificate", "client_key", callbacks),
    ):
        if bool(getattr(table, one)) != bool(getattr(table, other)):
            raise ConfigError(f"{one} and {other} belong together: set both or neither")
    _check_each("callbacks.allow_networks", callbacks.allow_networks, ipaddress.ip_network, origins)
    _check_each("callbacks.deny_networks", callbacks.deny_networks, ipaddress.ip_network, origins)
    _check_each("server.unlimited_networks", server.unlimited_networks, ipaddress.ip_network, origins)
    _check_each("callbacks.allow_ports", callbacks.allow_ports, port_range, origins)
    if callbacks.proxy:
        split_proxy(origins.get("callbacks.proxy", "callbacks.proxy"), callbacks.proxy)
    if settings.tracing.endpoint and not _COLLECTOR.fullmatch(settings.tracing.endpoint):
        raise ConfigError(
            f"{origins.get('tracing.endpoint', 'tracing.endpoint')}: want http(s)://HOST[:PORT]/PATH; "
            "what it wants of secrets goes into OTEL_EXPORTER_OTLP_HEADERS"
        )
    for name, tier in settings.tiers.items():
        if tier.retry_initial_s > tier.retry_max_s:
            raise ConfigError(f"tiers.{name}: retry_initial_s is over retry_max_s")
    return settings


def _check_each(
    name: str, items: tuple[str, ...], read: Callable[[str], object], origins: Mapping[str, str]
) -> None:
    for item in items:
        try:
            read(item)
        except ValueError as error:
            raise ConfigError(f"{origins.get(name, name)}: {error}; want {_WANTED[name]}") from None


_WANTED = {
    "callbacks.allow_networks": "blocks such as 10.1.0.0/16",
    "callbacks.deny_networks": "blocks such as 10.1.0.0/16",
    "server.unlimited_networks": "blocks such as 10.1.0.0/16",
    "callbacks.allow_ports": 'ports such as "443" and "8000-8999"',
}
