"""Where settings come from: a TOML file, then the environment, then flags; the later wins."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from dispatcher.config import (
    BUILT_IN_TIERS,
    SECRET_FIELDS,
    TABLES,
    CallbackSettings,
    LimitSettings,
    OperatorSettings,
    ServerSettings,
    Settings,
    StorageSettings,
    TierSettings,
    TracingSettings,
    check,
    doc_of,
    type_of,
)
from dispatcher.errors import ConfigError

ENVIRONMENT_PREFIX = "DISPATCHER_"


def load(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> tuple[Settings, dict[str, str]]:
    """Read the settings; the second value says where each one that was set came from.

    ``flags`` is keyed by dotted names (``server.listen``).  Raises ``ConfigError``
    that names the file and line, the variable or the flag, and the nearest valid name.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, value, origin in _all_sources(file, environment or {}, flags or {}):
        table, _, field = name.rpartition(".")
        struct = _struct_of(name, table, field, origin)
        values[name] = _convert(struct, field, value, origin)
        origins[name] = origin
    return check(_build(values), origins), origins


def _all_sources(
    file: Path | None, environment: Mapping[str, str], flags: Mapping[str, Any]
) -> Iterator[tuple[str, Any, str]]:
    if file is not None:
        yield from _from_file(file)
    for variable, text in sorted(environment.items()):
        if variable.startswith(ENVIRONMENT_PREFIX) and "__" in variable:
            name = variable.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
            yield name, _Text(text), f"variable {variable}"
    for name, value in flags.items():
        yield name, value, f"flag for {name}"


class _Text(str):
    """A value that came as text and may stand for a number, a boolean or a list."""


def _from_file(file: Path) -> Iterator[tuple[str, Any, str]]:
    try:
        text = file.read_text(encoding="utf-8")
        parsed = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}; give a readable file with --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not TOML: {error}") from error
    for name, value in _flatten(parsed, ""):
        yield name, value, f"{file}{_line_of(text, name)}"


def _flatten(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _line_of(text: str, name: str) -> str:
    """``:LINE`` of a setting in a TOML text, as well as a search can tell, else nothing."""
    table, _, field = name.rpartition(".")
    current = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[([^\[\]]+)\]", line)
        if header:
            current = header[1].replace('"', "").replace(" ", "")
        key = re.match(r"\s*([\w.\-\"]+)\s*=", line)
        if key and ".".join(filter(None, (current, key[1].replace('"', "")))) in (name, f"{table}.{field}"):
            return f":{number}"
    return ""


def _struct_of(name: str, table: str, field: str, origin: str) -> type[msgspec.Struct]:
    struct = TierSettings if re.fullmatch(r"tiers\.[\w\-]+", table) else TABLES.get(table)
    if struct is not None and field in struct.__struct_fields__:
        return struct
    known = [f"{t}.{f}" for t, s in TABLES.items() for f in s.__struct_fields__]
    tier = table if struct is TierSettings else "tiers.commercial"
    known += [f"{tier}.{f}" for f in TierSettings.__struct_fields__]
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"; did you mean {nearest[0]}?" if nearest else "; 'dispatcher config show' lists all"
    raise ConfigError(f"{origin}: there is no setting {name}{hint}")


def _convert(struct: type[msgspec.Struct], field: str, value: Any, origin: str) -> Any:
    annotation = type_of(struct, field)
    if annotation.__origin__ == tuple[str, ...] and isinstance(value, _Text):
        value = [part.strip() for part in value.split(",") if part.strip()]
    try:
        return msgspec.convert(
            str(value) if isinstance(value, _Text) else value, annotation, strict=not isinstance(value, _Text)
        )
    except msgspec.ValidationError as error:
        unit, _ = doc_of(struct, field)
        shown = "***" if field in SECRET_FIELDS else repr(value)
        raise ConfigError(f"{origin}: {field} = {shown}: {error} (want {unit})") from None


def _build(values: Mapping[str, Any]) -> Settings:
    tables: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        table, _, field = name.rpartition(".")
        tables.setdefault(table, {})[field] = value
    tiers = dict(BUILT_IN_TIERS)
    for table, fields in tables.items():
        if table.startswith("tiers."):
            tier = table.removeprefix("tiers.")
            tiers[tier] = msgspec.structs.replace(tiers.get(tier, TierSettings()), **fields)
    return Settings(
        server=ServerSettings(**tables.get("server", {})),
        storage=StorageSettings(**tables.get("storage", {})),
        callbacks=CallbackSettings(**tables.get("callbacks", {})),
        limits=LimitSettings(**tables.get("limits", {})),
        operator=OperatorSettings(**tables.get("operator", {})),
        tracing=TracingSettings(**tables.get("tracing", {})),
        tiers=tiers,
    )
