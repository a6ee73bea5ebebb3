"""Scripts in all combinations around real models: the answers are the framework's own."""

from __future__ import annotations

import itertools
import json
import pickle
import sys
from io import BytesIO
from pathlib import Path
from types import ModuleType

import joblib
import numpy as np
import pytest
import torch
import xgboost
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from loaders.contract import Answer, LoadRefused, Payload, Trust
from loaders.find import find_loader
from loaders.samples import train_torch, train_xgboost
from tests.scripts import ask, load, told, write_script

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
ROWS = np.random.default_rng(3).normal(size=(4, 5)).astype(np.float32)
CSV = "\n".join(",".join(map(repr, map(float, row))) for row in ROWS).encode()
JSON = json.dumps(ROWS.tolist()).encode()


def npy(array: np.ndarray) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def booster(root: Path) -> np.ndarray:
    labels = ROWS[:, 0] > 0
    made = xgboost.train({"nthread": 1, "max_depth": 2}, xgboost.DMatrix(ROWS, labels), 5)
    made.save_model(root / "model.ubj")
    return made.predict(xgboost.DMatrix(ROWS))


def torchscript(root: Path) -> np.ndarray:
    train_torch(root / "model.pt", 1, features=5)
    with torch.inference_mode():
        return torch.jit.load(root / "model.pt")(torch.from_numpy(ROWS)).numpy()


def estimator(root: Path) -> np.ndarray:
    made = LogisticRegression().fit(ROWS, ROWS[:, 0] > 0)
    joblib.dump(made, root / "model.joblib")
    return made.predict(ROWS)


def weights(root: Path) -> np.ndarray:
    torch.manual_seed(5)
    module = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.Dropout())
    torch.save(module.state_dict(), root / "model.pth")
    with torch.inference_mode():
        return module.eval()(torch.from_numpy(ROWS)).numpy()


# how a script loads each, and how it asks it, if it does so itself
MODELS = {
    "xgboost": (
        booster,
        """
import os, xgboost
def model_fn(model_dir{context}):
    made = xgboost.Booster()
    made.load_model(os.path.join(model_dir, "model.ubj"))
    return made
""",
        """
import xgboost
def predict_fn(data, model{context}):
    if not isinstance(data, xgboost.DMatrix):
        data = xgboost.DMatrix(data)
    return model.predict(data, validate_features=False)
""",
    ),
    "torchscript": (
        torchscript,
        """
import os, torch
def model_fn(model_dir{context}):
    return torch.jit.load(os.path.join(model_dir, "model.pt"))
""",
        """
import torch
def predict_fn(data, model{context}):
    with torch.no_grad():
        return model(torch.as_tensor(data).float())
""",
    ),
    "state-dict": (
        weights,
        """
import os, torch
from network import build
def model_fn(model_dir{context}):
    module = build()
    module.load_state_dict(torch.load(os.path.join(model_dir, "model.pth")))
    return module
""",
        """
import torch
def predict_fn(data, model{context}):
    with torch.no_grad():
        return model.eval()(torch.as_tensor(data).float()).numpy()
""",
    ),
    "sklearn": (
        estimator,
        """
import os, joblib
def model_fn(model_dir{context}):
    return joblib.load(os.path.join(model_dir, "model.joblib"))
""",
        """
def predict_fn(data, model{context}):
    return model.predict(data).tolist()
""",
    ),
}
INPUT = """
import io, json, numpy
def input_fn(data, content_type{context}):
    if content_type == "text/csv":
        return numpy.loadtxt(io.StringIO(data), delimiter=",", dtype="float32", ndmin=2)
    if content_type == "application/json":
        return numpy.array(json.loads(data), dtype="float32")
    if content_type == "application/x-npy":
        return numpy.load(io.BytesIO(data))
    raise ValueError(content_type)
"""
OUTPUT = """
import json, numpy
def output_fn(prediction, accept{context}):
    assert accept == "application/json", accept
    return json.dumps(numpy.asarray(prediction).tolist())
"""
NETWORK = """
import torch
def build(): return torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.Dropout())
"""
DEFINED = [
    subset for size in range(4) for subset in itertools.combinations(("in", "predict", "out"), size)
]


def script(framework: str, defined: tuple[str, ...], context: str, *, own_model: bool) -> str:
    _, model_fn, predict_fn = MODELS[framework]
    parts = [model_fn if own_model else ""]
    parts += [predict_fn] if "predict" in defined else []
    parts += [INPUT] if "in" in defined else []
    parts += [OUTPUT] if "out" in defined else []
    return "".join(parts).replace("{context}", context)


@pytest.mark.parametrize("context", ["", ", context"])
@pytest.mark.parametrize("defined", DEFINED, ids="-".join)
@pytest.mark.parametrize("framework", MODELS)
def test_whatever_a_script_leaves_out_the_answer_is_the_frameworks(
    tmp_path, framework, defined, context
):
    expected = MODELS[framework][0](tmp_path)
    for own_model in (True, False):
        if framework == "state-dict" and not own_model:
            continue
        source = script(framework, defined, context, own_model=own_model)
        write_script(tmp_path, source, network=NETWORK)
        model = load(tmp_path)
        for body, content_type in (
            (CSV, "text/csv"),
            (JSON, "application/json; charset=utf-8"),
            (npy(ROWS), "application/x-npy"),
        ):
            found = np.array(told(model, body, content_type, "application/json"))
            np.testing.assert_allclose(found, expected, rtol=1e-6)
        model.close()


@pytest.mark.parametrize("framework", MODELS)
def test_a_script_that_only_transforms_gets_the_model_and_the_request(tmp_path, framework):
    expected = MODELS[framework][0](tmp_path)
    source = script(framework, ("in", "predict"), "", own_model=True)
    source = source.replace("def input_fn", "def read").replace("def predict_fn", "def run")
    source += """
def transform_fn(model, data, content_type, accept, context):
    assert context.get_request_header(0, "accept") == "application/json"
    return numpy.asarray(run(read(data, content_type), model))
"""
    model = load(write_script(tmp_path, source, network=NETWORK))
    found = told(model, CSV, "text/csv", "application/json")
    np.testing.assert_allclose(np.array(found), expected, rtol=1e-6)
    model.close()


def test_a_whole_module_whose_class_is_the_scripts_is_unpickled(tmp_path):
    source = """
import os, torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(5, {width})
    def forward(self, rows):
        return self.layer(rows)
def model_fn(model_dir):
    path = os.path.join(model_dir, "net.pt")
    if not os.path.exists(path):
        return Net()
    return torch.load(path, weights_only=False)
"""
    models, expected = [], []
    for width in (1, 2):
        root = write_script(tmp_path / str(width), source.replace("{width}", str(width)))
        trained = load(root)
        net = trained._model
        expected.append(net(torch.from_numpy(ROWS)).tolist())
        type(net).__module__ = "inference" if width == 1 else "__main__"  # as where it was trained
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, type(net).__module__, trained_module(net))
            torch.save(net, root / "net.pt")
        trained.close()
        models.append(load(root))
    for model, rows in zip(models, expected, strict=True):
        np.testing.assert_allclose(told(model, JSON), rows, rtol=1e-6)
        model.close()


def trained_module(net):
    """The module as it was called where the net was trained."""
    module = ModuleType("trained")
    module.Net = type(net)
    return module


def test_a_framework_that_is_recognised_needs_no_script_for_custom_classes(tmp_path):
    """The default model_fn unpickles a class that only the script has."""
    write_script(
        tmp_path,
        "import pipeline",
        pipeline="""
from sklearn.base import BaseEstimator
class Doubling(BaseEstimator):
    def fit(self, rows, labels): return self
    def __sklearn_is_fitted__(self): return True
    def predict(self, rows): return rows[:, 0] * 2
""",
    )
    (tmp_path / "model.pkl").write_bytes(pickled_pipeline())
    model = load(tmp_path)
    np.testing.assert_allclose(told(model, JSON), ROWS[:, 0] * 2, rtol=1e-6)
    model.close()


def pickled_pipeline() -> bytes:
    """A scikit-learn pipeline of a class that is not to be found here."""
    module = ModuleType("pipeline")
    module.Doubling = type("Doubling", (BaseEstimator,), {"__module__": "pipeline"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pipeline", module)
        return pickle.dumps(Pipeline([("double", module.Doubling())]))


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "application/json"),
        ("text/csv", "text/csv"),
        ("application/x-npy", "application/x-npy"),
    ],
)
def test_a_default_answer_is_written_as_accepted(tmp_path, accept, content_type):
    expected = booster(tmp_path)
    model = load(write_script(tmp_path, ""))
    answer = ask(model, CSV, "text/csv", accept)
    assert answer.content_type == content_type
    read = {"text/csv": lambda body: np.array(body.decode().split(), dtype=np.float32)}
    read |= {
        "application/x-npy": lambda body: np.load(BytesIO(body)),
        "application/json": json.loads,
    }
    np.testing.assert_array_equal(np.float32(read[content_type](answer.body)), expected)
    model.close()


def test_libsvm_reaches_a_booster_by_default(tmp_path):
    expected = booster(tmp_path)
    model = load(write_script(tmp_path, ""))
    lines = (" ".join(f"{at}:{float(cell)!r}" for at, cell in enumerate(row)) for row in ROWS)
    answer = told(model, "\n".join(lines).encode(), "text/libsvm")
    np.testing.assert_array_equal(np.float32(answer), expected)
    model.close()


def test_early_stopping_is_honoured_by_default(tmp_path):
    labels = np.random.default_rng(1).integers(0, 2, 4)
    rows = xgboost.DMatrix(ROWS, labels)
    made = xgboost.train({"nthread": 1}, rows, 9)
    made.set_attr(best_iteration="2")
    made.save_model(tmp_path / "model.json")
    model = load(write_script(tmp_path, ""))
    expected = made.predict(rows, iteration_range=(0, 3))
    np.testing.assert_array_equal(np.float32(told(model, JSON)), expected)
    model.close()


def test_a_batch_is_asked_one_by_one_and_a_bad_payload_fails_only_itself(tmp_path):
    train_xgboost(tmp_path / "model.json", 1, trees=2, features=2)
    model = load(write_script(tmp_path, "def input_fn(data, content_type): return [eval(data)]"))
    answers = model.predict([Payload(body, "text/csv") for body in (b"1,2", b"1/0", b"3,4")])
    assert [getattr(answer, "status", 200) for answer in answers] == [200, 500, 200]
    assert str(answers[1]) == "ZeroDivisionError: division by zero"
    model.close()


def test_a_script_is_refused_where_only_data_is_trusted(tmp_path):
    root = write_script(tmp_path, "raise SystemExit('was run')")
    with pytest.raises(LoadRefused, match="only data is trusted"):
        load(root, Trust(code=False))


def test_a_model_that_neither_script_nor_framework_can_load_is_refused(tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"\0\1")
    root = write_script(tmp_path, "def predict_fn(data, model): return data")
    with pytest.raises(
        LoadRefused, match=r"has no model_fn.*found code \(a folder\), weights\.bin"
    ):
        load(root)


def test_weights_without_a_model_fn_say_what_they_need(tmp_path):
    weights(tmp_path)
    with pytest.raises(LoadRefused, match="a script with a model_fn"):
        load(write_script(tmp_path, ""))


def test_several_models_need_a_model_fn_to_choose(tmp_path):
    for name in ("a.ubj", "b.ubj"):
        train_xgboost(tmp_path / name, 1, trees=1)
    with pytest.raises(LoadRefused, match="a model_fn must say"):
        load(write_script(tmp_path, ""))


def test_a_scripts_archive_is_found_as_one_and_names_its_frameworks(tmp_path):
    booster(tmp_path)
    write_script(
        tmp_path, "def f():\n    import pandas.io", helper="from torch import nn", sklearn=""
    )
    write_script(tmp_path, "import sklearn, os", lib__broken="def (")
    found = find_loader(tmp_path)
    assert (found.loader.name, found.took_for) == ("script", "code/inference.py: script")
    assert found.loader._script.frameworks() == ("torch",)


def test_torch_parameters_are_counted(tmp_path):
    weights(tmp_path)
    model = load(
        write_script(tmp_path, MODELS["state-dict"][1].format(context=""), network=NETWORK)
    )
    assert model.nbytes() == 4 * (5 * 3 + 3)
    assert isinstance(ask(model, JSON), Answer)
    model.close()
    assert model.nbytes() == 0
