"""Reads one setting's value from text and checks its range: `4GiB`, seconds, names in commas."""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mme.errors import ConfigError

_UNITS = {
    "": 1, "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")
_ENDPOINT = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")


def parse_bytes(text: str) -> int:
    """Reads `4GiB`, `500MB`, `1048576`. Raises ValueError."""
    match = _SIZE.fullmatch(text)
    if match is None or match[2].upper() not in _UNITS:
        raise ValueError("must be a size such as 4GiB, 500MB or 1048576")
    size = int(float(match[1]) * _UNITS[match[2].upper()])
    if size <= 0:
        raise ValueError("must be larger than zero")
    return size


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]+", text) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def _number(low: float, high: float, unit: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        message = f"must be a number of {unit} from {low:g} to {high:g}"
        try:
            value = float(text)
        except ValueError:
            raise ValueError(message) from None
        if not math.isfinite(value) or not low <= value <= high:
            raise ValueError(message)
        return value

    return parse


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return parse


def _flag(text: str) -> bool:
    return _one_of("on", "off")(text) == "on"


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _models(text: str) -> tuple[str, ...]:
    if not text.startswith("@"):
        return _names(text)
    try:
        lines = Path(text[1:]).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"must be names or a readable @file with one a line ({error})") from None
    return tuple(line.strip() for line in lines if line.strip())


def _endpoint(text: str) -> str:
    if not _ENDPOINT.fullmatch(text) or len(text) > 63:  # noqa: PLR2004 - the contract's limit
        raise ValueError("must be letters, digits and inner hyphens, 63 at most")
    return text


def _url(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", text):
        raise ValueError("must be a URL such as http://127.0.0.1:9000")
    return text


PARSERS: Mapping[str, Callable[[str], Any]] = {
    "text": _text,
    "path": lambda text: os.path.expanduser(_text(text)),  # noqa: PTH111 - kept as text until its room opens it
    "url": _url,
    "endpoint": _endpoint,
    "names": _names,
    "models": _models,
    "port": _integer(0, 65_535),
    "count": _integer(1, 1_000_000),
    "bytes": parse_bytes,
    "seconds": _number(0.05, 86_400, "seconds"),
    "age": _number(0, 86_400, "seconds"),
    "moment": _number(0, 0.01, "seconds"),
    "ratio": _number(0.01, 0.95, "shares of the whole"),
    "share": _number(0, 1, "shares of the whole"),
    "factor": _number(1, 1_000_000, "times"),
    "trust": _one_of("code", "data"),
    "onoff": _one_of("on", "off"),
    "flag": _flag,
    "switch": _one_of("auto", "on", "off"),
    "isolation": _one_of("auto", "strict", "off"),
    "container": _one_of("auto", "off", "multi", "single"),
    "eviction": _one_of("lru", "gdsf"),
    "mode": _one_of("Serial", "Direct"),
    "tenant": _one_of("model", "key", *map(str, range(1, 9))),
    "index": lambda text: text if text == "none" else _url(text),
    "level": _one_of("debug", "info", "warning", "error"),
    "format": _one_of("auto", "json", "text"),
}
"""Kind of setting -> reader of its text; each raises ValueError that says what would be right."""


def parse_value(kind: str, value: Any) -> Any:  # noqa: ANN401 - TOML gives numbers, lists and text
    """Reads a value: text, or TOML's numbers and lists of text. Raises ValueError."""
    if isinstance(value, list):
        value = ",".join(str(item) for item in value)
    if isinstance(value, bool):
        if kind == "flag":
            return value
        raise ValueError("must not be a boolean")
    return PARSERS[kind](value if isinstance(value, str) else str(value))


def read_toml(path: Path) -> dict[str, Any]:
    """The settings in a file. Raises ConfigError."""
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"config: cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config: {path} is not valid TOML: {error}") from error
