"""What a model declares of an input, and values as just that.

Decision: values become the type that the model declares, and never another value on the way: 1.5
is no integer, 2 no boolean, a number no text.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np

from loaders.codecs import Array
from loaders.content_types import ContentType
from loaders.contract import BadPayload
from loaders.payload_faults import feature_mismatch

Feed = dict[str, Array]
TEXT = np.dtype(object)
EMPTY = "Unable to evaluate payload provided: it is empty."


@dataclass(frozen=True, kw_only=True, slots=True)
class InputSpec:
    """One input, as far as the model declares it."""

    name: str
    dtype: np.dtype[Any] | None = None  # TEXT for strings; None: not declared, numbers of any kind
    shape: tuple[int | None, ...] | None = None  # None: any; a None in it: that dimension is free
    optional: bool = False
    binary: bool = False  # a TEXT that also comes as {"b64": "..."}

    @property
    def width(self) -> int | None:
        """Features a row, where this is a table of numbers that says so."""
        table = self.plain and self.shape is not None and len(self.shape) == 2  # noqa: PLR2004
        return self.shape[1] if self.shape and table else None

    @property
    def plain(self) -> bool:
        """Takes any number, so that all row formats can be read."""
        return self.dtype is None or self.dtype.kind == "f"


def typed(values: Any, spec: InputSpec) -> Array:  # noqa: ANN401 - JSON, or an array
    """Converts to the declared type.

    Raises:
        BadPayload: that would change a value.
        ValueError, TypeError, OverflowError: they are of no such type at all.
    """
    with np.errstate(all="ignore"):  # what is too large for a float becomes infinite
        if spec.dtype is None:  # an array has its own type already
            return values if isinstance(values, np.ndarray) else np.array(values, np.float64)
        if spec.dtype == TEXT:
            return _texts(values, spec)
        array = np.array(values, dtype=spec.dtype)
        if spec.dtype.kind != "f":
            same = array.astype(np.float64) == np.array(values, dtype=np.float64)
            if not same.all():
                raise _mistyped(spec)
        return array


def _texts(values: Any, spec: InputSpec) -> Array:  # noqa: ANN401 - JSON, or an array
    array = np.array(values, dtype=object)
    cells = array.ravel()
    for position, cell in enumerate(cells):
        if spec.binary and isinstance(cell, dict) and set(cell) == {"b64"}:
            cells[position] = base64.b64decode(cell["b64"], validate=True)
        elif not isinstance(cell, str):
            raise _mistyped(spec)
    return cells.reshape(array.shape)


def _mistyped(spec: InputSpec) -> BadPayload:
    wanted = "text" if spec.dtype == TEXT else spec.dtype
    return BadPayload(
        f"Unable to evaluate payload provided: a value of input {spec.name} is no {wanted}."
    )


def check_shape(array: Array, spec: InputSpec, content_type: ContentType) -> None:
    """Raises BadPayload where there is nothing in it, or not what the model takes."""
    if not array.size:
        raise BadPayload(EMPTY)
    if spec.shape is None:
        return
    pairs = list(zip(spec.shape, array.shape, strict=False))
    if array.ndim == len(spec.shape) and all(want in {None, got} for want, got in pairs):
        return
    if spec.width is not None and array.ndim == len(spec.shape) and spec.shape[0] is None:
        raise feature_mismatch(content_type.name, array.shape[1], spec.width)
    wanted = ", ".join("any" if size is None else str(size) for size in spec.shape)
    raise BadPayload(
        f"Unable to evaluate payload provided: input {spec.name} is of shape [{wanted}], given "
        f"{list(array.shape)}."
    )


def misfit(feed: Feed) -> BadPayload:
    """The fault for inputs that a framework found not to fit, without the framework's internals."""
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feed.items())
    return BadPayload(
        "Unable to evaluate payload provided: the model can't be run with inputs of these shapes "
        f"or values: {shapes[:200]}."
    )
