"""What a model says of its tensors, by the Open Inference Protocol's names, and how it is asked.

Decision: a model that can be asked by named arrays has a `tensors`, which does so and knows the
signature; any other, such as a script, is asked with payloads only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from loaders.contract import ModelFault

if TYPE_CHECKING:
    import numpy as np

    Tensor = np.ndarray[Any, Any]
    Named = Mapping[str, Any]

OIP_TYPE = "application/vnd.sagemaker-triton.binary+json"  # Triton's own, for SageMaker
INPUT_NAME, OUTPUT_NAME = "input__0", "output__0"  # where a model names none: Triton's names
ANY_SHAPE = (-1,)  # not declared
_KINDS = {"?": "BOOL", "f2": "FP16", "f4": "FP32", "f8": "FP64"} | {
    f"{kind}{size}": f"{'U' * (kind == 'u')}INT{8 * size}" for kind in "iu" for size in (1, 2, 4, 8)
}
DTYPES: Mapping[str, str] = {name: kind for kind, name in _KINDS.items()}
"""Datatype -> numpy's name for it; BYTES has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorSpec:
    """One input or output."""

    name: str
    datatype: str  # e.g. FP32
    shape: tuple[int, ...]  # -1: any size


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """A model's inputs and outputs, as far as it knows them."""

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()


class Tensors(Protocol):
    """A model that is asked by named arrays."""

    def signature(self) -> Signature:
        """What it takes and gives."""
        ...

    def infer(self, feeds: Sequence[Mapping[str, Tensor]]) -> Sequence[Named | ModelFault]:
        """Arrays by input of each request -> arrays by output, or the fault, of each in order.

        Texts are arrays of objects. A fault is one request's: not what the model takes, or it
        failed.
        """
        ...


@runtime_checkable
class TensorModel(Protocol):
    """A model that can be asked so."""

    tensors: Tensors


def datatype_of(dtype: np.dtype[Any] | None) -> str:
    """The protocol's name of numpy's type; undeclared ones are FP32, objects BYTES."""
    if dtype is None:
        return "FP32"
    return _KINDS.get(dtype.str.lstrip("<>|=").replace("b1", "?"), "BYTES")
