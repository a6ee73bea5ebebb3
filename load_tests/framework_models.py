"""Trains one small model of each framework that `loaders.samples` does not: a process of its own.

`python -m load_tests.framework_models TARGET sklearn,onnx` writes a directory a model and a
manifest in the form of `loaders.samples`, each with the framework's own prediction for its row.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEATURES = 30
_HIDDEN = 256
_Rows = NDArray[np.float32]
_Trainer = Callable[[Path, _Rows, _Rows, _Rows], Any]


def _sklearn(directory: Path, rows: _Rows, targets: _Rows, asked: _Rows) -> Any:  # noqa: ANN401 - numbers, as deep as the framework likes
    import joblib  # noqa: PLC0415 - on demand, as below
    from sklearn.ensemble import RandomForestRegressor  # noqa: PLC0415

    forest = RandomForestRegressor(50, max_depth=8, random_state=0).fit(rows, targets)
    joblib.dump(forest, directory / "model.joblib")
    return forest.predict(asked).tolist()


def _lightgbm(directory: Path, rows: _Rows, targets: _Rows, asked: _Rows) -> Any:  # noqa: ANN401
    import lightgbm  # noqa: PLC0415

    options: dict[str, Any] = {"objective": "regression", "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(options, lightgbm.Dataset(rows, targets), 100)
    booster.save_model(directory / "model.txt")
    return np.asarray(booster.predict(asked)).tolist()


def _catboost(directory: Path, rows: _Rows, targets: _Rows, asked: _Rows) -> Any:  # noqa: ANN401
    from catboost import CatBoostRegressor  # noqa: PLC0415

    options = {"iterations": 100, "depth": 6, "thread_count": 1, "verbose": 0}
    model = CatBoostRegressor(allow_writing_files=False, **options).fit(rows, targets)
    model.save_model(str(directory / "model.cbm"))
    return model.predict(asked).tolist()


def _onnx(directory: Path, rows: _Rows, _targets: _Rows, asked: _Rows) -> Any:  # noqa: ANN401
    import onnx  # noqa: PLC0415
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    random = np.random.default_rng(0)
    shapes = {
        "first": (rows.shape[1], _HIDDEN),
        "second": (_HIDDEN, _HIDDEN),
        "third": (_HIDDEN, 2),
    }
    weights = {name: random.normal(size=shape) / _HIDDEN for name, shape in shapes.items()}
    nodes, last = [], "x"
    for name in weights:
        nodes.append(helper.make_node("MatMul", [last, name], [f"{name}_sum"]))
        nodes.append(helper.make_node("Tanh", [f"{name}_sum"], [last := f"{name}_out"]))
    given, gives = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", size])]
        for name, size in (("x", rows.shape[1]), (last, 2))
    ]
    held = [numpy_helper.from_array(value.astype("f4"), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "network", given, gives, held)
    opset = helper.make_opsetid("", 17)
    onnx.save_model(
        helper.make_model(graph, opset_imports=[opset], ir_version=8), directory / "model.onnx"
    )
    found = asked
    for value in weights.values():
        found = np.tanh(found @ value.astype("f4"))
    return found.tolist()


def _tensorflow(directory: Path, rows: _Rows, _targets: _Rows, asked: _Rows) -> Any:  # noqa: ANN401
    import keras  # noqa: PLC0415

    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((rows.shape[1],)), layers.Dense(_HIDDEN, "tanh"), layers.Dense(2)]
    )
    model.export(directory, verbose=False)
    return model(asked).numpy().tolist()


TRAINERS: dict[str, _Trainer] = {
    "sklearn": _sklearn,
    "lightgbm": _lightgbm,
    "catboost": _catboost,
    "onnx": _onnx,
    "tensorflow": _tensorflow,
}


def main() -> None:
    """Trains what the command line names."""
    target, names = Path(sys.argv[1]), sys.argv[2].split(",")
    random = np.random.default_rng(0)
    rows = random.normal(size=(2000, FEATURES)).round(4).astype("f4")
    targets = (rows @ random.normal(size=FEATURES)).astype("f4")
    asked = rows[:1]
    manifest = []
    for name in names:
        directory = target / name
        directory.mkdir(parents=True)
        predictions = TRAINERS[name](directory, rows, targets, asked)
        payload = ",".join(map(str, asked[0].tolist()))
        row = {"tenant": name, "framework": name, "directory": name, "payload": payload}
        manifest.append({**row, "predictions": predictions})
    (target / "manifest.json").write_text(json.dumps(manifest))


if __name__ == "__main__":
    main()
