"""ONNX on ONNX Runtime's CPU provider: model.onnx, any other lone .onnx, or Triton's layout.

Decisions: an ONNX model is data, so that it needs no trust; custom operators would be libraries and
are refused. ONNX Runtime before 1.24.1 read weights from wherever the model said, and is refused.
The memory arena is off: it kept 1.2 MB a small model instead of 0.13, and saved no time. Rows are
taken for independent where the first dimension of all inputs and outputs is free and of one name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loaders.codecs import Array
from loaders.contract import (
    Answer,
    LoadRefused,
    Model,
    ModelFault,
    Payload,
    PredictionRaised,
    Trust,
)
from loaders.input_specs import TEXT, Feed, InputSpec, misfit
from loaders.signatures import TensorSpec, datatype_of
from loaders.tensors import TensorPredictor
from loaders.versions import newest

_OLDEST = (1, 24, 1)
_FATAL = 4  # the only messages it may write to the log by itself
_DTYPES = {
    "float": "f4", "double": "f8", "float16": "f2", "bool": "?", "string": "O",
    "int8": "i1", "int16": "i2", "int32": "i4", "int64": "i8",
    "uint8": "u1", "uint16": "u2", "uint32": "u4", "uint64": "u8",
}  # fmt: skip
_REASONS = (  # what ONNX Runtime says -> what that means here
    (
        r"Opset (\d+) is under development.* domain (\S+) is till opset (\d+)",
        r"it is of opset \1 of \2, and the installed onnxruntime knows those up to \3",
    ),
    (
        r"Unsupported model IR version: (\d+), max supported IR version: (\d+)",
        r"it is of IR version \1, and the installed onnxruntime knows those up to \2",
    ),
    (r"(\S+)\(-?\d+\) is not a registered function/op", r"its operator \1 is a custom one"),
    (r"No Op registered for (\S+) with domain_version", r"its operator \1 is a custom one"),
    (r"No opset import for domain '?([\w.]+)", r"it does not say which version of \1 it uses"),
    (r"implementation for ([^(\s]+)", r"onnxruntime does not run its operator \1"),
    (r"escapes model directory|Absolute path|in-memory", "its weights lie outside the archive"),
    (r"(?i)external|file size", "the files of its weights are missing or cut short"),
    (r"Protobuf parsing|No graph was found", "it is no ONNX model, or cut short"),
)
_ABOUT_THE_INPUT = re.compile(r"(?i)shape|dimension|rank|broadcast|bounds|axis|input data type")


class OnnxLoader:
    """Loads the one model of a directory."""

    name = "onnx"

    def prepare(self) -> None:
        """Imports ONNX Runtime. Raises LoadRefused where it is missing or too old."""
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # else 1.29 and later report home
        try:
            import onnxruntime  # noqa: PLC0415 - on demand
        except ImportError as exc:
            raise LoadRefused("onnxruntime is not installed: pip install 'mme[onnx]'.") from exc
        if tuple(map(int, re.findall(r"\d+", onnxruntime.__version__)[:3])) < _OLDEST:
            raise LoadRefused(
                "The installed onnxruntime lets a model read other files: "
                "pip install -U 'mme[onnx]'."
            )

    def load(self, directory: Path, trust: Trust) -> Model:
        """Loads `model.onnx`, the only .onnx, or the highest version in Triton's layout."""
        self.prepare()
        import onnxruntime  # noqa: PLC0415 - on demand

        path = _model_file(directory)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = _FATAL
        providers = ["CPUExecutionProvider"]
        try:
            session = onnxruntime.InferenceSession(path, options, providers, enable_fallback=0)
            size_bytes = sum(file.stat().st_size for file in path.parent.iterdir())
            return OnnxModel(session, size_bytes)
        except _raised_by_onnx() as exc:
            raise LoadRefused(f"Unable to load model: {path.name[:80]}: {_reason(exc)}.") from exc


class OnnxModel:
    """One session."""

    def __init__(self, session: Any, size_bytes: int) -> None:  # noqa: ANN401 - untyped
        self._session = session
        self._size_bytes = size_bytes
        self._outputs = [node.name for node in session.get_outputs()]
        kinds = [node.type for node in session.get_outputs()]
        self.tensors = self._predictor = TensorPredictor(
            specs=[_spec(node) for node in session.get_inputs()],
            run=self._run,
            independent=_has_independent_rows(session.get_inputs() + session.get_outputs()),
            tabular=len(kinds) == 1 and kinds[0].startswith("tensor("),
            outputs=tuple(_output(node) for node in session.get_outputs()),
        )

    def predict(self, payloads: Sequence[Payload]) -> list[Answer | ModelFault]:
        """Answers in the order of `payloads`."""
        return self._predictor.predict(payloads)

    def nbytes(self) -> int:
        """The size of the model's files, near what its weights take."""
        return self._size_bytes

    def close(self) -> None:
        """Drops the session."""
        self._session = None

    def _run(self, feed: Feed) -> dict[str, Array]:
        try:
            values = self._session.run(self._outputs, feed)
        except _raised_by_onnx() as exc:
            if _ABOUT_THE_INPUT.search(str(exc)):
                raise misfit(feed) from exc
            raise PredictionRaised(f"ONNX Runtime could not predict: {_reason(exc)}.") from exc
        return {name: _array(value) for name, value in zip(self._outputs, values, strict=True)}


def _model_file(directory: Path) -> Path:
    if (directory / "model.onnx").is_file():
        return directory / "model.onnx"
    found = sorted(path for path in directory.glob("*.onnx") if path.name[0] != ".")
    if len(found) > 1:
        names = ", ".join(path.name[:80] for path in found[:5])
        raise LoadRefused(f"Unable to load model: wanted model.onnx or one .onnx; found {names}.")
    path = found[0] if found else newest(directory, "model.onnx")
    if path is None:
        raise LoadRefused("Unable to load model: there is no .onnx file in the archive.")
    return path


def _spec(node: Any) -> InputSpec:  # noqa: ANN401 - untyped
    kind = _DTYPES.get(node.type.removeprefix("tensor(").removesuffix(")"))
    if kind is None:
        raise LoadRefused(
            f"Unable to load model: its input {node.name[:80]} is of type {node.type[:80]}, which "
            "no payload holds."
        )
    shape = tuple(_size(dimension) for dimension in node.shape)
    dtype = TEXT if kind == "O" else np.dtype(kind)
    return InputSpec(name=node.name, dtype=dtype, shape=shape or None)  # []: it does not say


def _output(node: Any) -> TensorSpec:  # noqa: ANN401 - untyped
    kind = _DTYPES.get(node.type.removeprefix("tensor(").removesuffix(")"), "O")  # maps: BYTES
    shape = tuple(_size(dimension) or -1 for dimension in node.shape or [None])
    return TensorSpec(name=node.name, datatype=datatype_of(np.dtype(kind)), shape=shape)


def _size(dimension: object) -> int | None:
    return dimension if isinstance(dimension, int) and dimension > 0 else None


def _has_independent_rows(nodes: Sequence[Any]) -> bool:
    names = set()
    for node in nodes:
        if node.type.startswith("seq(map("):  # the probabilities of a classifier, a map a row
            continue
        if not node.shape or _size(node.shape[0]) is not None:
            return False
        names.add(node.shape[0])
    return len(names - {None}) <= 1


def _array(value: Any) -> Array:  # noqa: ANN401 - an array, or a list of maps or of arrays
    if isinstance(value, np.ndarray):
        return value
    if not isinstance(value, list):
        raise PredictionRaised("The model answered with something that is no tensor.")
    array = np.empty(len(value), dtype=object)
    array[:] = [item.tolist() if isinstance(item, np.ndarray) else item for item in value]
    return array


def _raised_by_onnx() -> tuple[type[Exception], ...]:
    """Its errors have no base class of their own; a model of garbage raises others, too."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # noqa: PLC0415 - on demand

    own = [kind for kind in vars(state).values() if isinstance(kind, type)]
    errors = (kind for kind in own if issubclass(kind, Exception))
    return (*errors, MemoryError, OSError, RuntimeError, TypeError, ValueError)


def _reason(exc: Exception) -> str:
    """Its words in ours: they hold paths of this machine and signatures of C++."""
    for pattern, meaning in _REASONS:
        if found := re.search(pattern, str(exc), re.DOTALL):
            return found.expand(meaning)[:300]
    return f"onnxruntime says {type(exc).__name__}"


LOADER = OnnxLoader()
