"""ONNX and TensorFlow models in every layout, with the frameworks' own predictions."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from loaders.onnx_loader import LOADER
from tests.contract.model_cases import Case

FEATURES = 8
ROWS = np.random.default_rng(3).normal(size=(4, FEATURES)).astype(np.float32)


def network(seed: int, kind: int = TensorProto.FLOAT, classes: int = 3) -> onnx.ModelProto:
    """Two layers, of numpy's random weights."""
    random = np.random.default_rng(seed)
    numpys = helper.tensor_dtype_to_np_dtype(kind)
    weights = [
        numpy_helper.from_array(random.normal(size=shape).astype(numpys), name)
        for name, shape in (("first", (FEATURES, 16)), ("second", (16, classes)))
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["hidden"]),
        helper.make_node("Tanh", ["hidden"], ["active"]),
        helper.make_node("MatMul", ["active", "second"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", kind, ["rows", FEATURES])],
        [helper.make_tensor_value_info("y", kind, ["rows", classes])],
        weights,
    )
    return stamped(graph)


def stamped(graph: onnx.GraphProto, opset: int = 17) -> onnx.ModelProto:
    """A model that every supported ONNX Runtime reads."""
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def onnx_case(directory: Path, path: Path) -> Case:
    LOADER.prepare()
    import onnxruntime  # noqa: PLC0415 - only now it will not report home

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [given] = session.get_inputs()
    rows = ROWS.astype(np.float64 if given.type == "tensor(double)" else np.float32)
    [expected] = session.run(None, {given.name: rows})
    return Case(
        directory=directory, rows=ROWS, expected=expected.astype(np.float32), reads_libsvm=True
    )


def plain_onnx(directory: Path) -> Case:
    onnx.save_model(network(1), directory / "model.onnx")
    return onnx_case(directory, directory / "model.onnx")


def double_onnx(directory: Path) -> Case:
    onnx.save_model(network(2, TensorProto.DOUBLE), directory / "any name.onnx")
    return onnx_case(directory, directory / "any name.onnx")


def external_onnx(directory: Path) -> Case:
    path = directory / "model.onnx"
    onnx.save_model(network(3), path, save_as_external_data=True, size_threshold=0, location="w")
    return onnx_case(directory, path)


def triton_onnx(directory: Path) -> Case:
    for version in (2, 10, 9):
        folder = directory / "net" / str(version)
        folder.mkdir(parents=True)
        onnx.save_model(network(version), folder / "model.onnx")
    (directory / "net" / "config.pbtxt").write_text('platform: "onnxruntime_onnx"')
    return onnx_case(directory, directory / "net" / "10" / "model.onnx")


def sklearn_onnx(directory: Path) -> Case:
    from skl2onnx import to_onnx  # noqa: PLC0415 - seconds that most tests need not spend
    from sklearn.linear_model import Ridge  # noqa: PLC0415

    random = np.random.default_rng(4)
    rows = random.normal(size=(50, FEATURES)).astype(np.float32)
    model = Ridge().fit(rows, rows @ random.normal(size=FEATURES))
    made = to_onnx(model, rows[:1])
    helper.set_model_props(made, {"author": "a test"})  # cut between fields it is still a model
    onnx.save_model(made, directory / "model.onnx")
    return onnx_case(directory, directory / "model.onnx")


def keras_network(seed: int):
    import keras  # noqa: PLC0415 - seconds that most tests need not spend

    keras.utils.set_random_seed(seed)
    layers = [keras.Input((FEATURES,)), keras.layers.Dense(16, "tanh"), keras.layers.Dense(3)]
    return keras.Sequential(layers)


def keras_archive(directory: Path) -> Case:
    model = keras_network(5)
    with warnings.catch_warnings(action="ignore"):  # of numpy about keras
        model.save(directory / "net.keras")
    return tensorflow_case(directory, model)


def saved_model(name: str) -> Callable[[Path], Case]:
    def make(directory: Path) -> Case:
        for version in (3, 20, 100):
            model = keras_network(version)
            model.export(directory / name.format(version), verbose=False)
            if "{}" not in name:
                break
        return tensorflow_case(directory, model, needs_trust=True)

    return make


def tensorflow_case(directory: Path, model, **more: bool) -> Case:
    expected = model(ROWS).numpy()
    return Case(
        directory=directory,
        rows=ROWS,
        expected=expected,
        reads_libsvm=True,
        tolerance=1e-6,
        **more,
    )


TENSOR_CASES: dict[str, Callable[[Path], Case]] = {
    "onnx": plain_onnx,
    "onnx-double": double_onnx,
    "onnx-external-data": external_onnx,
    "onnx-triton": triton_onnx,
    "onnx-sklearn": sklearn_onnx,
    "keras": keras_archive,
    "saved-model": saved_model("."),
    "saved-model-version": saved_model("1"),
    "saved-model-versions": saved_model("export/Servo/{}"),
}
