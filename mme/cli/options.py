"""Flags made from the table of settings, so that nothing is listed twice.

Decision: a command takes every setting as text and hands it to `load_config`, which alone knows
forms and ranges.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.markup import escape

from mme.config import SETTINGS, Setting

UNITS = {
    "text": "text",
    "path": "path",
    "url": "URL",
    "endpoint": "name",
    "names": "names, comma-separated",
    "models": "names, comma-separated, or @file",
    "port": "port",
    "count": "number",
    "bytes": "size, e.g. 4GiB or 500MB",
    "seconds": "seconds",
    "age": "seconds; 0: off",
    "moment": "seconds, 0.01 at most; 0: off",
    "ratio": "share, 0.01 to 0.95",
    "share": "share, 0 to 1",
    "factor": "factor",
    "trust": "code or data",
    "onoff": "on or off",
    "flag": "alone; elsewhere on or off",
    "switch": "auto, on or off",
    "isolation": "auto, strict or off",
    "container": "auto, off, multi or single",
    "eviction": "lru or gdsf",
    "mode": "Serial or Direct",
    "tenant": "model, key, or 1 to 8",
    "index": "URL, or none",
    "level": "level",
    "format": "auto, json or text",
}
"""Kind of setting -> its unit, for help and docs."""

_NONE = dict.fromkeys(("url", "names", "models", "path"), "none")
_ABSENT = {**_NONE, "index": "PyPI", "text": "required"}
_SIZES = (
    ("GiB", 2**30),
    ("MiB", 2**20),
    ("KiB", 2**10),
    ("GB", 10**9),
    ("MB", 10**6),
    ("KB", 10**3),
)


def describe_default(setting: Setting) -> str:
    """The default as one would type it, in words where there is none to type."""
    value = setting.default
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None or value in ("", ()):
        return _ABSENT.get(setting.kind, "worked out")
    if setting.kind == "bytes":
        unit, size = next(((unit, size) for unit, size in _SIZES if value % size == 0), ("", 1))
        return f"{value // size}{unit}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def takes_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives `command`, which takes settings as `**flags`, an option for each setting."""
    own = [
        parameter
        for parameter in inspect.signature(command, eval_str=True).parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    signature = inspect.Signature([*own, *map(_as_parameter, SETTINGS)])
    command.__signature__ = signature  # type: ignore[attr-defined]  # what inspect documents
    command.__annotations__ = {name: item.annotation for name, item in signature.parameters.items()}
    return command


def _as_parameter(setting: Setting) -> inspect.Parameter:
    kind = bool if setting.kind == "flag" else str
    option = typer.Option(
        setting.flag,
        help=escape(f"{setting.help} [default: {describe_default(setting)}]"),
        metavar=None if setting.kind == "flag" else f"<{setting.kind}>",
        show_default=False,
        rich_help_panel=f"Settings: {setting.section}",
    )
    return inspect.Parameter(
        setting.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )
