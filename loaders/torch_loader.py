"""PyTorch: TorchScript archives and `torch.export` programs, found as SageMaker's image finds them.

Decisions: both need trust in the artifact's code. A TorchScript archive is a program that may read
and write files and runs parts of itself while it loads; `torch.export.load` unpickles and evaluates
expressions. Payloads run together only where every step of the program keeps rows apart
(`torch_rows.py`) and the first of them got the same answers alone, within a tolerance: matrices
of another size are summed in another order. TorchScript does not say what it takes: numbers become
the floating type of its weights, npy keeps its integers, and where it will have no floats, whole
numbers are tried as integers. Bare weights need a script.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from loaders.codecs import Array, as_floats
from loaders.contract import (
    Answer,
    BadPayload,
    LoadRefused,
    Model,
    ModelFault,
    Payload,
    PredictionRaised,
    Trust,
)
from loaders.input_specs import Feed
from loaders.sniff import sniff
from loaders.tensors import TensorPredictor

if TYPE_CHECKING:
    import torch

    from loaders.torch_programs import Program

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
_RELATIVE, _ABSOLUTE = 1e-5, 1e-6  # how much an answer may depend on the size of its batch
_TRIED_ROWS = 4
_SMALL_BYTES = 4 * 1024**2  # matrices of so many in all are multiplied before a second thread is up
_MATRIX = 2  # dimensions
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
        return TorchModel(self._read(directory, trust))

    def load_native(self, directory: Path, trust: Trust) -> torch.nn.Module:
        """Loads the module itself, as a script gets it that has no `model_fn`."""
        module: torch.nn.Module = self._read(directory, trust).module
        return module

    def _read(self, directory: Path, trust: Trust) -> Program:
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
        from loaders.torch_programs import read_export, read_script  # noqa: PLC0415 - needs torch

        try:
            return read_export(path) if kind == "torch export" else read_script(path)
        except (*_RAISED_BY_TORCH, torch.jit.Error) as exc:
            raise LoadRefused(f"Unable to load model: {path.name[:80]}: {_last_line(exc)}") from exc


class TorchModel:
    """One module in evaluation mode."""

    def __init__(self, program: Program) -> None:
        import torch  # noqa: PLC0415 - loaded long ago

        self._torch = torch
        self._program: Any = program  # or None, once closed
        tensors = [*program.module.parameters(), *program.module.buffers()]
        self._size_bytes: int = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        floats = (tensor.dtype for tensor in tensors if tensor.is_floating_point())
        self._dtype = next(floats, torch.float32)
        has_matrices_only = {tensor.dim() <= _MATRIX for tensor in tensors} == {True}
        self._is_small = has_matrices_only and self._size_bytes <= _SMALL_BYTES
        self._runs_together: bool | None = None  # not known yet
        self._quiet = torch.inference_mode()
        self.tensors = self._predictor = TensorPredictor(
            specs=program.specs, run=self._run, independent=True, joint=self._run_together
        )

    def predict(self, payloads: Sequence[Payload]) -> list[Answer | ModelFault]:
        """Answers in the order of `payloads`."""
        return self._predictor.predict(payloads)

    def nbytes(self) -> int:
        """Bytes of parameters and buffers."""
        return self._size_bytes

    def close(self) -> None:
        """Drops the module."""
        self._program = None

    def _run(self, feed: Feed) -> dict[str, Array]:
        try:
            return self._forward(feed)
        except ModelFault:
            whole = {name: _as_integers(array) for name, array in feed.items()}
            if not self._program.dtypes and any(whole[name] is not feed[name] for name in feed):
                with suppress(ModelFault):  # the first reason is the one to tell
                    return self._forward(whole)
            raise

    def _run_together(self, feed: Feed) -> dict[str, Array]:
        """Runs rows of several payloads. Raises PredictionRaised where they have to run alone."""
        if self._runs_together is None:
            self._runs_together = self._program.keeps_rows_apart() and self._runs_alike(feed)
        if not self._runs_together:
            raise PredictionRaised("Its rows are not known to be independent.")
        return self._run(feed)

    def _runs_alike(self, feed: Feed) -> bool:
        """Whether the first rows get the same answers together and alone."""
        first = {name: array[:_TRIED_ROWS] for name, array in feed.items()}
        together = self._run(first)
        rows = range(min(map(len, first.values())))
        alone = [self._run({name: array[[row]] for name, array in first.items()}) for row in rows]
        return all(
            np.allclose(array, joined, _RELATIVE, _ABSOLUTE, equal_nan=True)
            for name, array in together.items()
            for joined in [np.concatenate([answer[name] for answer in alone])]
        )

    def _forward(self, feed: Feed) -> dict[str, Array]:
        threads = self._torch.get_num_threads()
        on_one = self._is_small and threads > 1
        if on_one:
            self._torch.set_num_threads(1)
        try:
            with self._quiet:
                found = self._program.call({name: self._tensor(name, feed[name]) for name in feed})
                return {name: self._array(value) for name, value in _named(found)}
        except (*_RAISED_BY_TORCH, self._torch.jit.Error) as exc:
            reason = _last_line(exc)
            if _ABOUT_THE_INPUT.search(reason) and not isinstance(exc, MemoryError):
                raise BadPayload(f"Unable to evaluate payload provided: {reason}") from exc
            raise PredictionRaised(f"PyTorch could not predict: {reason}") from exc
        finally:
            if on_one:
                self._torch.set_num_threads(threads)  # the worker's, which its other models expect

    def _tensor(self, name: str, array: Array) -> torch.Tensor:
        if array.dtype == np.float64 and self._takes_single(name):
            return self._torch.from_numpy(as_floats(array, np.float32))
        tensor = self._torch.from_numpy(np.array(array))  # of its own: a module may write to it
        declared = self._program.dtypes.get(name)
        return tensor.to(declared or (self._dtype if tensor.is_floating_point() else tensor.dtype))

    def _takes_single(self, name: str) -> bool:
        wanted: bool = self._program.dtypes.get(name, self._dtype) == self._torch.float32
        return wanted

    def _array(self, value: Any) -> Array:  # noqa: ANN401 - whatever a module returns
        if not isinstance(value, self._torch.Tensor) or value.is_complex():
            raise PredictionRaised(
                f"The model answered with {type(value).__name__}, not with a tensor of numbers."
            )
        if value.dtype == self._torch.bfloat16:  # numpy has none
            value = value.float()
        array: Array = value.numpy(force=True)
        return array


def _named(found: Any) -> list[tuple[str, Any]]:  # noqa: ANN401 - whatever a module returns
    """Names what a module returned: its own names where it has some."""
    if isinstance(found, dict):
        return [(str(name), value) for name, value in found.items()]
    if not isinstance(found, (tuple, list)):
        return [("output_0", found)]
    names = getattr(found, "_fields", None) or [f"output_{number}" for number in range(len(found))]
    return list(zip(names, found, strict=True))


def _as_integers(array: Array) -> Array:
    if array.dtype.kind != "f" or not (np.isfinite(array) & (array == np.trunc(array))).all():
        return array
    return array.astype(np.int64)


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


def _last_line(exc: Exception) -> str:
    """What went wrong, without the C++ and TorchScript stacks above it."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return (lines or [type(exc).__name__])[-1][:200]


LOADER = TorchLoader()
