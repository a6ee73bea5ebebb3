"""Every setting, once: file < environment < flag; validated here, then frozen, a slice a room.

Decision: one table (`SETTINGS`) names each setting with its unit and help; the flag, the `MME_*`
variable, the key in `mme.toml` and the line in docs/settings.md all come from it. Defaults stand in
the dataclasses, nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from mme.config_containers import ContainerConfig, read_containers
from mme.config_sections import (
    CacheConfig,
    CloudWatchConfig,
    Config,
    DiskConfig,
    EnvironmentConfig,
    IsolationConfig,
    LogConfig,
    PipelineConfig,
    ServerConfig,
    StoreConfig,
    TraceConfig,
    UsageConfig,
    WorkerConfig,
)
from mme.config_settings import BY_NAME, SETTINGS, Setting
from mme.config_tenants import LimitConfig, TenantConfig, read_limits, read_weights
from mme.config_values import parse_value, read_toml
from mme.errors import ConfigError

__all__ = [
    "BY_NAME",
    "SETTINGS",
    "CacheConfig",
    "CloudWatchConfig",
    "Config",
    "ContainerConfig",
    "DiskConfig",
    "EnvironmentConfig",
    "IsolationConfig",
    "LimitConfig",
    "LogConfig",
    "PipelineConfig",
    "ServerConfig",
    "Setting",
    "StoreConfig",
    "TenantConfig",
    "TraceConfig",
    "UsageConfig",
    "WorkerConfig",
    "build_config",
    "load_config",
]


_TABLES = ("containers", "tenants", "limits")  # of mme.toml alone
_PLAIN: Mapping[str, type[Any]] = {
    "store": StoreConfig,
    "usage": UsageConfig,
    "cloudwatch": CloudWatchConfig,
    "log": LogConfig,
}
_CLIENTS = {"MME_CONFIG", "MME_API_KEY"}  # the command line's own: settings of no server


def load_config(
    flags: Mapping[str, Any],
    environment: Mapping[str, str],
    config_path: Path | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Config:
    """Builds the configuration from all three sources, the later winning: file, environment, flags.

    Args:
        flags: setting name -> value as typed (text) or None where the flag was not given.
        environment: the process environment; only `MME_*` is read.
        config_path: an `mme.toml`, whose top-level keys are setting names; it alone may have
            `[[containers]]`, `[tenants]` and `[[limits]]`.
        defaults: as flags; for what none of the three gives.

    Raises:
        ConfigError: an unknown key, a value out of range or of the wrong form; the message names
            the setting, the source and what would be right.
    """
    given: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, values in (
        ("defaults", defaults or {}),
        (str(config_path), read_toml(config_path) if config_path else {}),
        ("environment", _read_environment(environment)),
        ("flags", {name: value for name, value in flags.items() if value is not None}),
    ):
        for name, value in values.items():
            if name not in BY_NAME and not (name in _TABLES and source == str(config_path)):
                raise ConfigError(
                    f"{source}: unknown setting {name!r}; docs/settings.md lists them all"
                )
            given[name], sources[name] = value, source
    tables = {name: given.pop(name) for name in _TABLES if name in given}
    parsed = {name: _parse(BY_NAME[name], value, sources[name]) for name, value in given.items()}
    return build_config({**parsed, **tables})


def build_config(values: Mapping[str, Any]) -> Config:
    """Builds the configuration from setting names and ready values, for embedders and tests.

    Args:
        values: by name; `containers`, `tenants` and `limits` are tables as mme.toml has them.

    Raises:
        ConfigError: an unknown name, or a table that does not hold up.
    """
    sections: dict[str, dict[str, Any]] = {item.name: {} for item in fields(Config)}
    settings = {name: value for name, value in values.items() if name not in _TABLES}
    for name, value in settings.items():
        if name not in BY_NAME:
            raise ConfigError(f"unknown setting {name!r}; docs/settings.md lists them all")
        sections[BY_NAME[name].section][BY_NAME[name].attribute] = value
    server, cache = ServerConfig(**sections["server"]), CacheConfig(**sections["cache"])
    limits = {"invocation_seconds": server.invocation_seconds, "load_seconds": cache.load_seconds}
    workers = WorkerConfig(**{**limits, **sections["workers"]})
    pipeline = PipelineConfig(**sections["pipeline"])
    containers = read_containers(values.get("containers", ()), pipeline.mode)
    tenants = TenantConfig(
        weights=read_weights(values.get("tenants", {})),
        limits=read_limits(values.get("limits", ())),
        **sections["tenants"],
    )
    if containers and "models" in settings:
        raise ConfigError("models: is given by a container where there are [[containers]]")
    return Config(
        server=server,
        containers=containers,
        pipeline=pipeline,
        disk=DiskConfig(**sections["disk"]),
        cache=cache,
        workers=workers,
        isolation=IsolationConfig(**sections["isolation"]),
        tenants=tenants,
        environments=EnvironmentConfig(**{"trust": workers.trust, **sections["environments"]}),
        **{name: kind(**sections[name]) for name, kind in _PLAIN.items()},
        traces=TraceConfig(**sections["traces"]),
    )


def _parse(setting: Setting, value: Any, source: str) -> Any:  # noqa: ANN401 - as many types as settings have
    try:
        return parse_value(setting.kind, value)
    except ValueError as error:
        raise ConfigError(f"{setting.name} ({source}): {error}, got {value!r}") from error


def _read_environment(environment: Mapping[str, str]) -> dict[str, str]:
    prefix = "MME_"
    return {
        key[len(prefix) :].lower(): value
        for key, value in environment.items()
        if key.startswith(prefix) and key not in _CLIENTS
    }
