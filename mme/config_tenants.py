"""Who a tenant is, what it weighs, what it may have: `[tenants]` and `[[limits]]` of mme.toml."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase

from mme.config_values import parse_bytes
from mme.errors import ConfigError

_BYTES = {"resident_bytes", "download_bytes_per_second"}


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitConfig:
    """What each tenant that fits the pattern may have; None: as much as there is."""

    pattern: str  # as fnmatch has them, over tenants' names
    max_concurrency: int | None = None  # requests at once
    requests_per_second: float | None = None  # with a second's worth at once
    resident_bytes: int | None = None  # of memory, charged and reserved
    download_bytes_per_second: int | None = None  # on average; one load goes at full speed


@dataclass(frozen=True, kw_only=True, slots=True)
class TenantConfig:
    """How requests are told apart, and what is whose."""

    tenant_by: str = "model"  # or "key", or how many leading segments of a model's path
    weights: Mapping[str, float] = field(default_factory=dict)  # by tenant; 1 where none is given
    limits: tuple[LimitConfig, ...] = ()  # the first that fits counts
    pace_above_ratio: float = 0.5  # of the event loop's time; 1: nobody is paced

    def tenant_of(self, model: str, key: str | None = None) -> str:
        """Whose requests for a model are, asked for with an API key or none."""
        if self.tenant_by == "key":
            return model if key is None else key
        if self.tenant_by == "model":
            return model
        return "/".join(model.split("/")[: int(self.tenant_by)])

    def limit_of(self, tenant: str) -> LimitConfig | None:
        """What a tenant may have."""
        fitting = (limit for limit in self.limits if fnmatchcase(tenant, limit.pattern))
        return next(fitting, None)


def read_weights(table: object) -> Mapping[str, float]:
    """Reads `[tenants]`. Raises ConfigError."""
    if not isinstance(table, Mapping):
        raise ConfigError("tenants: must be a table of weights by tenant")
    return {str(name): _number(f"tenants, {name}", weight) for name, weight in table.items()}


def read_limits(tables: object) -> tuple[LimitConfig, ...]:
    """Reads `[[limits]]`. Raises ConfigError."""
    if not isinstance(tables, Sequence) or isinstance(tables, str | bytes):
        raise ConfigError("limits: must be tables, each begun by [[limits]]")
    return tuple(_read_limit(table, number) for number, table in enumerate(tables, 1))


def _read_limit(table: object, number: int) -> LimitConfig:
    where = f"limits, table {number}"
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where}: must be a table")
    known = [item.name for item in fields(LimitConfig)]
    if unknown := set(table) - set(known):
        raise ConfigError(f"{where}: unknown key {min(unknown)!r}; there are {known}")
    pattern = table.get("pattern")
    if not isinstance(pattern, str) or not pattern:
        raise ConfigError(f"{where}: needs a pattern of tenants' names, such as acme/*")
    values = {
        name: _bytes(f"{where}, {name}", value)
        if name in _BYTES
        else _number(f"{where}, {name}", value)
        for name, value in table.items()
        if name != "pattern"
    }
    concurrency = values.pop("max_concurrency", None)
    if concurrency is not None and (concurrency < 1 or concurrency % 1):
        raise ConfigError(f"{where}, max_concurrency: must be a whole number from 1 on")
    whole = None if concurrency is None else int(concurrency)
    return LimitConfig(pattern=pattern, max_concurrency=whole, **values)  # type: ignore[arg-type]  # by name


def _bytes(where: str, value: object) -> int:
    try:
        return parse_bytes(str(value))
    except ValueError as error:
        raise ConfigError(f"{where}: {error}, got {value!r}") from error


def _number(where: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{where}: must be a number, got {value!r}")
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{where}: must be larger than zero, got {value!r}")
    return float(value)
