"""A SavedModel or a Keras archive to one graph of named tensors, or a refusal that says why.

Decision: of a SavedModel the signature that TensorFlow Serving takes, no other; a Keras model
becomes a graph, too, traced once for any number of rows, as calling its layers each time is slow.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from loaders.contract import LoadRefused, Trust

_SIGNATURE = "serving_default"
RAISED_BY_TENSORFLOW = (
    tf.errors.OpError,
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Graph:
    """Something that takes tensors by name and gives tensors by name."""

    call: Callable[[dict[str, Any]], dict[str, Any]]
    inputs: dict[str, Any]  # name -> tf.TensorSpec
    outputs: dict[str, Any]  # likewise
    variables: Sequence[Any]
    owner: Any  # what must live as long as the graph
    size_bytes: int = 0  # of what it was read from, besides its variables


def read_graph(path: Path, trust: Trust) -> Graph:
    """Loads a saved_model.pb, with what lies beside it, or a .keras archive.

    Raises:
        LoadRefused: corrupt, of a version this TensorFlow does not read, or code without trust.
    """
    try:
        return _keras(path, trust) if path.suffix == ".keras" else _saved_model(path, trust)
    except RAISED_BY_TENSORFLOW as exc:
        raise _refusal(exc, path, trust) from exc


def first_line(exc: Exception) -> str:
    """What went wrong, without the rest of the story."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return (lines or [type(exc).__name__])[0][:200]


def _saved_model(path: Path, trust: Trust) -> Graph:
    if not trust.code:
        raise LoadRefused(
            "Unable to load model: a SavedModel is a program, and only data is trusted here. "
            "Save it as .keras."
        )
    loaded = tf.saved_model.load(str(path.parent))
    if _SIGNATURE not in loaded.signatures:
        raise ValueError(f"it has no signature {_SIGNATURE}, but {sorted(loaded.signatures)}")
    function = loaded.signatures[_SIGNATURE]
    return Graph(
        call=lambda tensors: function(**tensors),
        inputs=function.structured_input_signature[1],
        outputs=function.structured_outputs,
        variables=function.variables,
        size_bytes=path.stat().st_size,
        owner=loaded,
    )


def _keras(path: Path, trust: Trust) -> Graph:
    model = keras.models.load_model(path, compile=False, safe_mode=not trust.code)
    if not model.inputs:
        raise ValueError("it was saved before it was built, and does not say what it takes")
    by_key = len(model.inputs) > 1 and isinstance(model.input, dict)
    ends = model.input if by_key else {tensor.name: tensor for tensor in model.inputs}
    inputs = {name: tf.TensorSpec(end.shape, end.dtype, name) for name, end in ends.items()}

    def call(tensors: dict[str, Any]) -> dict[str, Any]:
        values = [tensors[name] for name in inputs]
        given = tensors if by_key else values if len(values) > 1 else values[0]
        found = model(given, training=False)
        if isinstance(found, dict):
            return found
        found = found if isinstance(found, (list, tuple)) else [found]
        names = getattr(model, "output_names", None) or [f"output_{n}" for n in range(len(found))]
        return dict(zip(names, found, strict=True))

    function = tf.function(call, input_signature=[inputs], autograph=False).get_concrete_function()
    return Graph(
        call=function,
        inputs=inputs,
        outputs=function.structured_outputs,
        variables=model.weights,
        owner=model,
    )


def _refusal(exc: Exception, path: Path, trust: Trust) -> LoadRefused:
    if "safe_mode" in str(exc) and not trust.code:
        return LoadRefused(
            f"Unable to load model: {path.name[:80]} brings code, such as a Lambda layer, and only "
            "data is trusted here."
        )
    reason = first_line(exc).replace(str(path.parent), "")
    return LoadRefused(f"Unable to load model: {path.name[:80]}: {reason}{_versions(path)}")


def _versions(path: Path) -> str:
    """What a version may have to do with it: ours is told only beside another of the model's."""
    ours = (
        f"keras {keras.__version__}" if path.suffix == ".keras" else f"tensorflow {tf.__version__}"
    )
    version = _saved_by(path)
    return "" if version in {None, ours} else f" (saved by {version}, installed is {ours})"


def _saved_by(path: Path) -> str | None:
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                return f"keras {json.loads(archive.read('metadata.json'))['keras_version']}"[:40]
        graphs = SavedModel.FromString(path.read_bytes()).meta_graphs
        version = graphs[0].meta_info_def.tensorflow_version
    except (*RAISED_BY_TENSORFLOW, DecodeError):
        return None
    return f"tensorflow {version}"[:40] if version else None
