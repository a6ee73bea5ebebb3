"""PyTorch: TorchScript archives and `torch.export` programs, found as SageMaker's image finds them.

Decisions: both need trust in the artifact's code. A TorchScript archive is a program that may read
and write files and runs parts of itself while it loads; `torch.export.load` unpickles and evaluates
expressions. Rows are not known to be independent, so payloads run one at a time. Text becomes the
floating type of the model's weights, npy keeps its integers; bare weights need a script and are
refused.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from loaders.codecs import ENCODERS, decode
from loaders.content_types import choose_accept, read_content_type
from loaders.contract import (
    Answer,
    BadPayload,
    LoadRefused,
    Model,
    ModelFault,
    Payload,
    PredictionRaised,
    Trust,
    each,
)
from loaders.sniff import sniff

if TYPE_CHECKING:
    import torch

_READABLE = ("json", "csv", "jsonlines", "npy")
_SUFFIXES = frozenset({".pt", ".pth", ".pt2"})
_RAISED_BY_TORCH = (
    ArithmeticError,
    AssertionError,  # a torch.export program's guards
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
_ABOUT_THE_INPUT = re.compile(r"(?i)shape|size|dim|\dD\b|expected|guard failed|out of range|dtype")


class TorchLoader:
    """Loads the one model file of a directory."""

    name = "torch"

    def prepare(self) -> None:
        """Imports PyTorch. Raises LoadRefused where it is not installed."""
        try:
            import torch  # noqa: F401, PLC0415 - on demand
        except ImportError as exc:
            raise LoadRefused("torch is not installed: pip install 'mme[torch]'.") from exc

    def load(self, directory: Path, trust: Trust) -> Model:
        """Loads `model.pt`, or the only .pt, .pth or .pt2."""
        return TorchModel(self.load_native(directory, trust))

    def load_native(self, directory: Path, trust: Trust) -> torch.nn.Module:
        """Loads the module itself, as a script gets it that has no `model_fn`."""
        self.prepare()
        import torch  # noqa: PLC0415 - on demand

        path = _model_file(directory)
        kind = sniff(path)
        if kind == "torch weights":
            raise LoadRefused(
                f"Unable to load model: {path.name[:80]} holds weights without their module. They "
                "need a script with a model_fn (code/inference.py); or save the model with "
                "torch.jit.script(...).save() or torch.export.save()."
            )
        if not trust.code:
            raise LoadRefused(
                f"Unable to load model: {path.name[:80]} is a program (TorchScript or "
                "torch.export), and only data is trusted here."
            )
        try:
            return _export(path) if kind == "torch export" else _script(path)
        except (*_RAISED_BY_TORCH, torch.jit.Error) as exc:
            raise LoadRefused(f"Unable to load model: {path.name[:80]}: {_last_line(exc)}") from exc


class TorchModel:
    """One module in evaluation mode, asked with one tensor."""

    def __init__(self, module: torch.nn.Module) -> None:
        import torch  # noqa: PLC0415 - loaded long ago

        self._torch = torch
        self._module: Any = module
        tensors = [*module.parameters(), *module.buffers()]
        self._size_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        floats = (tensor.dtype for tensor in tensors if tensor.is_floating_point())
        self._dtype = next(floats, torch.float32)

    def predict(self, payloads: Sequence[Payload]) -> list[Answer | ModelFault]:
        """Answers in the order of `payloads`."""
        return each(payloads, self._answer)

    def nbytes(self) -> int:
        """Bytes of parameters and buffers."""
        return self._size_bytes

    def close(self) -> None:
        """Drops the module."""
        self._module = None

    def _answer(self, payload: Payload) -> Answer:
        if not payload.body or payload.body.isspace():
            raise BadPayload("Unable to evaluate payload provided: it is empty.")
        content_type = read_content_type(payload.content_type, _READABLE, "json")
        accept = choose_accept(payload.accept, tuple(ENCODERS), "json")
        tensor = self._torch.from_numpy(np.array(decode(payload.body, content_type)))
        if tensor.is_floating_point():
            tensor = tensor.to(self._dtype)
        return Answer(ENCODERS[accept.name](self._forward(tensor)), accept.content_type)

    def _forward(self, tensor: torch.Tensor) -> Any:  # noqa: ANN401 - numpy's array of any type
        try:
            with self._torch.inference_mode():
                output = self._module(tensor)
        except (*_RAISED_BY_TORCH, self._torch.jit.Error) as exc:
            reason = _last_line(exc)
            if _ABOUT_THE_INPUT.search(reason) and not isinstance(exc, MemoryError):
                raise BadPayload(f"Unable to evaluate payload provided: {reason}") from exc
            raise PredictionRaised(f"PyTorch could not predict: {reason}") from exc
        if isinstance(output, (tuple, list)) and len(output) == 1:
            output = output[0]
        if not isinstance(output, self._torch.Tensor) or output.is_complex():
            raise PredictionRaised(
                f"The model answered with {type(output).__name__}, not with a tensor of numbers."
            )
        if output.dtype == self._torch.bfloat16:  # numpy has none
            output = output.float()
        return output.numpy(force=True)


def _model_file(directory: Path) -> Path:
    preferred = directory / "model.pt"
    if preferred.is_file():
        return preferred
    files = (path for path in directory.iterdir() if path.is_file())
    found = sorted(path for path in files if path.suffix in _SUFFIXES and path.name[0] != ".")
    if len(found) != 1:
        names = ", ".join(path.name[:80] for path in found[:5]) or "none"
        raise LoadRefused(
            f"Unable to load model: wanted model.pt, or one .pt, .pth or .pt2; found {names}."
        )
    return found[0]


def _script(path: Path) -> torch.nn.Module:
    import torch  # noqa: PLC0415 - loaded long ago

    load: Any = torch.jit.load  # untyped
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", DeprecationWarning)
        module: torch.nn.Module = load(str(path), map_location="cpu")
    return module.eval()


def _export(path: Path) -> torch.nn.Module:
    import torch  # noqa: PLC0415 - loaded long ago

    with path.open("rb") as file:
        return torch.export.load(file).module()


def _last_line(exc: Exception) -> str:
    """What went wrong, without the C++ and TorchScript stacks above it."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return (lines or [type(exc).__name__])[-1][:200]


LOADER = TorchLoader()
