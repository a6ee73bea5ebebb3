"""The `[[containers]]` tables of mme.toml: what stands behind an endpoint of several, checked.

The limits are those of CreateModel and of multi-container endpoints (contract: runtime 3).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from mme.config_values import PARSERS
from mme.errors import ConfigError

CONTAINERS_LIMIT = 15
_KINDS = ("models", "model", "url", "command")
_HOSTNAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_VARIABLE = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,1023}")
_VARIABLES_LIMIT, _VALUE_LIMIT, _VARIABLES_BYTES = 100, 1024, 32 * 1024
DEFAULT_ACCEPT = "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT"


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerConfig:
    """One container: exactly one of `models`, `model`, `url` and `command` is set."""

    hostname: str
    models: str | None = None  # the built-in engine, over the models under a prefix
    model: str | None = None  # the built-in engine, with this one tarball
    url: str | None = None  # a sibling that runs already
    command: tuple[str, ...] | None = None  # a sibling that is started
    environment: Mapping[str, str] = field(default_factory=dict)
    target_models: str | None = None  # a sibling's: makes it a multi-model one, over this prefix
    loaded_models: int = 100  # in a multi-model sibling at most
    loaded_bytes: int | None = None  # the same, in bytes of unpacked models
    connections: int = 64  # requests at work in a sibling at most
    waiting: int = 256  # requests waiting for one of those at most
    startup_seconds: float = 480.0  # a sibling has to answer its ping within these

    @property
    def is_multi_model(self) -> bool:
        """Whether it takes a target model."""
        return self.models is not None or self.target_models is not None

    @property
    def is_built_in(self) -> bool:
        """Whether it is answered by this server's own engine."""
        return self.models is not None or self.model is not None


_PARSED = {
    "models": "text",
    "model": "text",
    "url": "url",
    "target_models": "text",
    "loaded_models": "count",
    "loaded_bytes": "bytes",
    "connections": "count",
    "waiting": "count",
    "startup_seconds": "seconds",
}
_SIBLING_ONLY = {
    "target_models", "loaded_models", "loaded_bytes", "connections", "waiting", "startup_seconds",
}  # fmt: skip


def read_containers(tables: object, mode: str) -> tuple[ContainerConfig, ...]:
    """Reads the tables, in pipeline order.

    Args:
        tables: what TOML gave for `containers`.
        mode: "Serial" or "Direct".

    Raises:
        ConfigError: names the table, the key and what would be right.
    """
    if not isinstance(tables, Sequence) or isinstance(tables, str | bytes):
        raise ConfigError("containers: must be tables, each begun by [[containers]]")
    if len(tables) > CONTAINERS_LIMIT:
        raise ConfigError(f"containers: {CONTAINERS_LIMIT} at most, got {len(tables)}")
    read = tuple(_read(table, number, mode) for number, table in enumerate(tables, 1))
    hostnames = [container.hostname for container in read]
    for hostname in hostnames:
        if hostnames.count(hostname) > 1:
            raise ConfigError(f"containers: two have the hostname {hostname!r}")
    if sum(container.models is not None for container in read) > 1:
        raise ConfigError("containers: the built-in engine can have one `models` only")
    if mode == "Serial" and sum(container.is_multi_model for container in read) > 1:
        raise ConfigError("containers: a pipeline can have one multi-model container only")
    size = sum(len(k) + len(v) for item in read for k, v in item.environment.items())
    if size > _VARIABLES_BYTES:
        raise ConfigError(f"containers: environments hold {_VARIABLES_BYTES} characters at most")
    return read


def _read(table: object, number: int, mode: str) -> ContainerConfig:
    if not isinstance(table, Mapping):
        raise ConfigError(f"containers, table {number}: must be a table")
    where = f"containers, table {number}"
    hostname = table.get("hostname", f"container-{number}")
    if not isinstance(hostname, str) or not _HOSTNAME.fullmatch(hostname):
        raise ConfigError(f"{where}: hostname must be 1 to 63 letters, digits and inner hyphens")
    if mode == "Direct" and "hostname" not in table:
        raise ConfigError(f"{where}: needs a hostname, by which it is called directly")
    where = f"containers, {hostname}"
    known = {item.name for item in fields(ContainerConfig)}
    if unknown := set(table) - known:
        raise ConfigError(f"{where}: unknown key {min(unknown)!r}; there are {sorted(known)}")
    kinds = [kind for kind in _KINDS if kind in table]
    if len(kinds) != 1:
        raise ConfigError(f"{where}: must have exactly one of {', '.join(_KINDS)}; has {kinds}")
    if kinds[0] in {"models", "model"} and (foreign := set(table) & _SIBLING_ONLY):
        raise ConfigError(f"{where}: {min(foreign)} is for siblings (url or command)")
    values = {key: _value(where, key, table[key]) for key in table if key in _PARSED}
    if "command" in table:
        values["command"] = _command(where, table["command"])
    environment = _environment(where, table.get("environment", {}), kinds[0])
    return ContainerConfig(hostname=hostname, environment=environment, **values)


def _value(where: str, key: str, value: object) -> Any:  # noqa: ANN401 - as many types as keys have
    try:
        if isinstance(value, bool | list | Mapping):
            raise ValueError("must be a single value")  # noqa: TRY004, TRY301 - one kind of error
        return PARSERS[_PARSED[key]](value if isinstance(value, str) else str(value))
    except ValueError as error:
        raise ConfigError(f"{where}: {key} {error}, got {value!r}") from error


def _command(where: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(x, str) for x in value):
        raise ConfigError(f'{where}: command must be a list such as ["python", "serve.py"]')
    return tuple(value)


def _environment(where: str, value: object, kind: str) -> dict[str, str]:
    if not isinstance(value, Mapping) or len(value) > _VARIABLES_LIMIT:
        raise ConfigError(f"{where}: environment must be a table of at most {_VARIABLES_LIMIT}")
    for name, text in value.items():
        if not _VARIABLE.fullmatch(name):
            raise ConfigError(f"{where}: environment: {name!r} is no name of a variable")
        if not isinstance(text, str) or len(text) > _VALUE_LIMIT:
            raise ConfigError(
                f"{where}: environment: {name} must be a text of at most {_VALUE_LIMIT} characters"
            )
        if kind == "url":
            raise ConfigError(f"{where}: a sibling that runs already has its environment")
        if kind != "command" and name != DEFAULT_ACCEPT:
            raise ConfigError(f"{where}: the built-in engine knows {DEFAULT_ACCEPT} only")
    return dict(value)
