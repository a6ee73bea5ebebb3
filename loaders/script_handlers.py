"""A script's functions, by SageMaker's names, each checked once for how it wants to be called.

Decision: as in SageMaker's toolkit the number of parameters says whether the context is wanted. Its
other mistakes, such as `transform_fn` beside what it replaces, are told when the model is loaded
and not at the first request.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType

from loaders.contract import LoadRefused

Handler = Callable[..., object]  # (*arguments, context), whatever the script's own wants

_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "pre_model_fn": ("model_dir",),
    "model_fn": ("model_dir",),
    "model_warmup_fn": ("model_dir", "model"),
    "input_fn": ("input_data", "content_type"),
    "predict_fn": ("data", "model"),
    "output_fn": ("prediction", "accept"),
    "transform_fn": ("model", "input_data", "content_type", "accept"),
}
_INDEPENDENT = "rows_independent"  # ours: SageMaker knows no batches of requests
_REPLACED = ("input_fn", "predict_fn", "output_fn")
_TENSORFLOW_ONLY = ("handler", "input_handler", "output_handler")
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, kw_only=True, slots=True)
class Handlers:
    """What the script defines; None where the default is wanted."""

    pre_model_fn: Handler | None
    model_fn: Handler | None
    model_warmup_fn: Handler | None
    input_fn: Handler | None
    predict_fn: Handler | None
    output_fn: Handler | None
    transform_fn: Handler | None
    rows_independent: bool  # several requests' rows may be predicted at once


def read_handlers(module: ModuleType) -> Handlers:
    """Takes the functions out of a script.

    Raises:
        LoadRefused: they can't be called as SageMaker calls them, or exclude each other.
    """
    functions = {name: _handler(module, name) for name in _PARAMETERS}
    handlers = Handlers(**functions, rows_independent=_are_independent(module))
    both = [name for name in _REPLACED if getattr(handlers, name)]
    if handlers.transform_fn and both:
        raise LoadRefused(
            f"Unable to load model: its script defines transform_fn and {', '.join(both)}, which "
            "transform_fn replaces: define either."
        )
    if handlers.transform_fn and handlers.rows_independent:
        raise LoadRefused(
            f"Unable to load model: its script says {_INDEPENDENT}, but transform_fn is given "
            f"whole requests: define {', '.join(_REPLACED)} instead, or leave that out."
        )
    foreign = [name for name in _TENSORFLOW_ONLY if callable(getattr(module, name, None))]
    if foreign and not any(getattr(handlers, name) for name in ("transform_fn", *_REPLACED)):
        raise LoadRefused(
            f"Unable to load model: its script defines {', '.join(foreign)}, which only TensorFlow "
            f"Serving's container calls: define {', '.join(_REPLACED)} or transform_fn."
        )
    return handlers


def _handler(module: ModuleType, name: str) -> Handler | None:
    given = getattr(module, name, None)
    if given is None:
        return None
    if not callable(given):
        raise LoadRefused(f"Unable to load model: {name} in its script is not a function.")
    function: Handler = given
    wanted = _PARAMETERS[name]
    count = _count(function)
    if count == len(wanted):
        return lambda *arguments: function(*arguments[:-1])
    if count == len(wanted) + 1:
        return function
    listed = ", ".join(wanted)
    raise LoadRefused(
        f"Unable to load model: {name} in its script takes {count} parameters; wanted are "
        f"{name}({listed}) or {name}({listed}, context)."
    )


def _are_independent(module: ModuleType) -> bool:
    said = getattr(module, _INDEPENDENT, False)
    if isinstance(said, bool):
        return said
    raise LoadRefused(
        f"Unable to load model: {_INDEPENDENT} in its script is a {type(said).__name__}: it has to "
        "be True, where rows of several requests may be predicted together, or False."
    )


def _count(function: Callable[..., object]) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # written in C, without a signature
        return 0
    return sum(parameter.kind in _BY_POSITION for parameter in parameters)
