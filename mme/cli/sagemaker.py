"""Pure: SageMaker's variables -> ours, and the mode that they and what else is given come to.

Decisions: a variable of SageMaker's stands in for the `MME_*` one where that is not set; of two for
the same setting the first in the table wins. `SAGEMAKER_MODEL_SERVER_TIMEOUT` is in seconds, as its
users believe, and not in minutes, as multi-model-server reads it. A container listens to all
addresses, unless told otherwise: from inside nobody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mme.config import Config, load_config

_LEVELS = {"10": "debug", "20": "info", "30": "warning", "40": "error", "50": "error"}
_MODEL = "model"


def _mebibytes(value: str) -> str | None:
    return None if value == "0" else f"{value}MiB"  # 0: the platform sends it in chunks


_VARIABLES: tuple[tuple[str, str, Callable[[str], str | None]], ...] = (
    ("SAGEMAKER_BIND_TO_PORT", "PORT", str),
    ("SAGEMAKER_MODEL_SERVER_WORKERS", "WORKERS", str),
    ("SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS", "INVOCATION_SECONDS", str),
    ("SAGEMAKER_MODEL_SERVER_TIMEOUT", "INVOCATION_SECONDS", str),
    ("SAGEMAKER_STARTUP_TIMEOUT", "START_SECONDS", str),
    ("SAGEMAKER_MODEL_JOB_QUEUE_SIZE", "QUEUE_PER_MODEL", str),
    ("SAGEMAKER_MAX_REQUEST_SIZE", "BODY_LIMIT", str),
    ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "BODY_LIMIT", _mebibytes),
    ("MAX_CONTENT_LENGTH", "BODY_LIMIT", str),
    ("SAGEMAKER_REGION", "REGION", str),
    (
        "SAGEMAKER_CONTAINER_LOG_LEVEL",
        "LOG_LEVEL",
        lambda value: _LEVELS.get(value, value.lower()),
    ),
)
HONOURED = tuple(name for name, _, _ in _VARIABLES)
"""SageMaker's variables that stand in for a setting each."""


def load_settings(
    flags: Mapping[str, Any], environment: Mapping[str, str], config_path: Path | None
) -> Config:
    """As `load_config`, with SageMaker's variables, and the mode decided: multi, single or off.

    Raises:
        ConfigError: as `load_config`.
    """
    told = {**_translated(environment), **environment}
    config = load_config(flags, told, config_path)
    directory = _model_directory(environment)
    mode = _mode(config, environment, directory)
    if mode != "off":
        defaults = {"host": "0.0.0.0"} | ({"models": directory} if mode == "single" else {})  # noqa: S104 - it is a container
        config = load_config(flags, told, config_path, defaults)
    return replace(config, server=replace(config.server, container=mode))


def with_container_spelled_out(arguments: Sequence[str]) -> list[str]:
    """`--container` alone means `--container=multi`; typer knows no option whose value may lack."""
    following = [*arguments[1:], "--"]
    return [
        "--container=multi" if argument == "--container" and after.startswith("-") else argument
        for argument, after in zip(arguments, following, strict=False)
    ]


def _translated(environment: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for variable, setting, translate in _VARIABLES:
        value = environment.get(variable, "").strip()
        translated = translate(value) if value else None
        if translated is not None:
            found.setdefault(f"MME_{setting}", translated)
    return found


def _mode(config: Config, environment: Mapping[str, str], directory: str) -> str:
    if config.server.container != "auto":
        return config.server.container
    if environment.get("SAGEMAKER_MULTI_MODEL", "").strip().lower() == "true":
        return "multi"
    return "single" if not config.store.models and Path(directory).is_dir() else "off"


def _model_directory(environment: Mapping[str, str]) -> str:
    base = environment.get("SAGEMAKER_BASE_DIR") or "/opt/ml"
    return environment.get("SM_MODEL_DIR") or str(Path(base) / _MODEL)
