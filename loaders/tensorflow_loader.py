"""TensorFlow: SavedModels as TensorFlow Serving lays them out and answers them, and Keras archives.

Decisions: a SavedModel is a program, its operators read and write files, so that it needs trust in
the artifact's code. A .keras archive is loaded in Keras's safe mode without that trust, which
refuses Lambda layers and the like. Rows are taken for independent where the first dimension of all
inputs and outputs is free. One thread a model, as workers are as many as there are cores.
"""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from loaders.signatures import ANY_SHAPE, TensorSpec, datatype_of
from loaders.tensors import TensorPredictor
from loaders.versions import newest

if TYPE_CHECKING:
    from loaders.tensorflow_graphs import Graph


class TensorflowLoader:
    """Loads the one model of a directory."""

    name = "tensorflow"

    def prepare(self) -> None:
        """Imports TensorFlow, limited to one thread. Raises LoadRefused if it is not installed."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # it greets whoever imports it
        try:
            import tensorflow as tf  # noqa: PLC0415 - on demand
        except ImportError as exc:
            raise LoadRefused(
                "tensorflow is not installed: pip install 'mme[tensorflow]', or "
                "'mme[tensorflow-gpu]'."
            ) from exc
        with suppress(RuntimeError):  # it has started already, with whatever it was told then
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(1)
            for device in tf.config.list_physical_devices("GPU"):  # else each worker takes it whole
                tf.config.experimental.set_memory_growth(device, enable=True)

    def load(self, directory: Path, trust: Trust) -> Model:
        """Loads the SavedModel of the highest version, or the only .keras archive."""
        self.prepare()
        from loaders.tensorflow_graphs import read_graph  # noqa: PLC0415 - needs tensorflow

        return TensorflowModel(read_graph(_model_file(directory), trust))


class TensorflowModel:
    """One graph."""

    def __init__(self, graph: Graph) -> None:
        import tensorflow as tf  # noqa: PLC0415 - loaded long ago

        self._tf = tf
        self._graph: Any = graph  # or None, once closed
        sizes = [(math.prod(var.shape), tf.as_dtype(var.dtype).size) for var in graph.variables]
        self._size_bytes: int = graph.size_bytes + sum(count * each for count, each in sizes)
        ends = [*graph.inputs.values(), *graph.outputs.values()]
        self.tensors = self._predictor = TensorPredictor(
            specs=[_spec(name, spec) for name, spec in graph.inputs.items()],
            run=self._run,
            independent=all(end.shape.rank and end.shape[0] is None for end in ends),
            tabular=len(graph.outputs) == 1,
            enveloped=True,
            outputs=tuple(_output(name, graph.outputs[name]) for name in sorted(graph.outputs)),
        )

    def predict(self, payloads: Sequence[Payload]) -> list[Answer | ModelFault]:
        """Answers in the order of `payloads`."""
        return self._predictor.predict(payloads)

    def nbytes(self) -> int:
        """Bytes of the variables and of the saved graph."""
        return self._size_bytes

    def close(self) -> None:
        """Drops the graph and its variables."""
        self._graph = None

    def _run(self, feed: Feed) -> dict[str, Array]:
        from loaders.tensorflow_graphs import (  # noqa: PLC0415 - loaded long ago
            RAISED_BY_TENSORFLOW,
            first_line,
        )

        tf, inputs = self._tf, self._graph.inputs
        try:
            tensors = {name: tf.constant(feed[name], inputs[name].dtype) for name in inputs}
            found = self._graph.call(tensors)
            return {name: _array(tf, found[name]) for name in sorted(found)}
        except (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError) as exc:
            raise misfit(feed) from exc
        except RAISED_BY_TENSORFLOW as exc:
            raise PredictionRaised(f"TensorFlow could not predict: {first_line(exc)}") from exc


def _model_file(directory: Path) -> Path:
    saved_model = newest(directory, "saved_model.pb")
    if saved_model is not None:
        return saved_model
    found = sorted(path for path in directory.glob("*.keras") if path.name[0] != ".")
    if len(found) != 1:
        names = ", ".join(path.name[:80] for path in found[:5]) or "none"
        raise LoadRefused(
            f"Unable to load model: wanted saved_model.pb or one .keras; found {names}."
        )
    return found[0]


def _spec(name: str, spec: Any) -> InputSpec:  # noqa: ANN401 - untyped
    shape = None if spec.shape.rank is None else tuple(spec.shape)
    if spec.dtype.name == "string":
        return InputSpec(name=name, dtype=TEXT, shape=shape, binary=True)
    dtype = np.dtype(spec.dtype.as_numpy_dtype)
    if dtype.kind not in "biuf":
        raise LoadRefused(
            f"Unable to load model: its input {name[:80]} is of type {spec.dtype.name}, which no "
            "payload holds."
        )
    return InputSpec(name=name, dtype=dtype, shape=shape)


def _output(name: str, spec: Any) -> TensorSpec:  # noqa: ANN401 - untyped
    shape = ANY_SHAPE if spec.shape.rank is None else tuple(size or -1 for size in spec.shape)
    text = spec.dtype.name == "string"
    dtype = TEXT if text else np.dtype(spec.dtype.as_numpy_dtype)
    return TensorSpec(name=name, datatype=datatype_of(dtype), shape=shape)


def _array(tf: Any, tensor: Any) -> Array:  # noqa: ANN401 - untyped
    if not isinstance(tensor, tf.Tensor) or tensor.dtype.is_complex:
        raise PredictionRaised(f"The model answered with {type(tensor).__name__}, not a tensor.")
    if tensor.dtype == tf.bfloat16:  # numpy has none
        tensor = tf.cast(tensor, tf.float32)
    array: Array = np.asarray(tensor.numpy())
    if tensor.dtype != tf.string:
        return array
    texts = np.array([_text(cell) for cell in array.ravel()], dtype=object)
    return texts.reshape(array.shape)


def _text(cell: Any) -> str | dict[str, str]:  # noqa: ANN401 - of an untyped array
    try:
        return str(cell, "utf-8")
    except UnicodeDecodeError:  # TensorFlow Serving's form for bytes
        return {"b64": base64.b64encode(cell).decode()}


LOADER = TensorflowLoader()
