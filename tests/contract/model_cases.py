"""Every saved form of every framework, with the framework's own predictions."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xgboost

from loaders.samples import train_torch, train_xgboost


@dataclass(frozen=True, kw_only=True)
class Case:
    """One artifact on disk."""

    directory: Path
    rows: np.ndarray
    expected: np.ndarray
    needs_trust: bool = False
    one_csv_line: bool = False
    reads_libsvm: bool = False
    absent: float = np.nan  # what libsvm leaves out
    tolerance: float = 0.0  # some processors let a framework round otherwise, by how it is asked


def xgboost_case(directory: Path, booster: xgboost.Booster, **more: bool) -> Case:
    rows = np.random.default_rng(9).normal(size=(4, booster.num_features())).astype(np.float32)
    rows[1, 2] = np.nan
    expected = booster.predict(xgboost.DMatrix(rows))
    return Case(
        directory=directory,
        rows=rows,
        expected=expected,
        one_csv_line=True,
        reads_libsvm=True,
        **more,
    )


def trained(objective: str = "binary:logistic", **parameters: object) -> xgboost.Booster:
    random = np.random.default_rng(5)
    rows = random.normal(size=(200, 8))
    classes = 3 if "num_class" in parameters else 2
    labels = random.integers(0, classes, 200)
    options = {"objective": objective, "nthread": 1, "max_depth": 4, **parameters}
    if parameters.get("booster") == "gblinear":
        del options["max_depth"]
    return xgboost.train(options, xgboost.DMatrix(rows, labels), 12)


def saved(name: str, **parameters: object) -> Callable[[Path], Case]:
    def make(directory: Path) -> Case:
        booster = trained(**parameters)
        if Path(name).suffix:
            booster.save_model(directory / name)
        else:
            (directory / name).write_bytes(booster.save_raw("ubj"))
        return xgboost_case(directory, booster)

    return make


def pickled(directory: Path) -> Case:
    booster = trained()
    (directory / "model.pkl").write_bytes(pickle.dumps(booster))
    return xgboost_case(directory, booster, needs_trust=True)


def wrapped(directory: Path) -> Case:
    """As scikit-learn's users save it; scikit-learn itself is not needed to hold a booster."""
    booster = trained("multi:softprob", num_class=3)
    classifier = xgboost.XGBClassifier.__new__(xgboost.XGBClassifier)
    classifier._Booster = booster
    classifier.missing = np.nan
    (directory / "xgboost-model").write_bytes(pickle.dumps(classifier, protocol=2))
    return xgboost_case(directory, booster, needs_trust=True)


def sample(directory: Path) -> Case:
    made = train_xgboost(directory / "xgboost-model", 3, trees=20)
    rows = np.array([line.split(",") for line in made.payload.split("\n")], dtype=np.float32)
    return Case(
        directory=directory,
        rows=rows,
        expected=np.array(made.predictions, dtype=np.float32),
        one_csv_line=True,
        reads_libsvm=True,
    )


def torchscript(directory: Path) -> Case:
    made = train_torch(directory / "model.pth", 3)
    rows = np.array([line.split(",") for line in made.payload.split("\n")], dtype=np.float32)
    expected = np.array(made.predictions, dtype=np.float32)
    return Case(directory=directory, rows=rows, expected=expected, needs_trust=True)


def exported(directory: Path) -> Case:
    torch.manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Linear(8, 3), torch.nn.Tanh()).eval()
    rows = torch.randn(4, 8)
    dynamic = {"input": {0: torch.export.Dim.DYNAMIC}}
    with warnings.catch_warnings(action="ignore"):
        torch.export.save(
            torch.export.export(module, (rows,), dynamic_shapes=dynamic), directory / "net.pt2"
        )
    with torch.inference_mode():
        expected = module(rows).numpy()
    return Case(
        directory=directory,
        rows=rows.numpy(),
        expected=expected,
        needs_trust=True,
        reads_libsvm=True,
    )


CASES: dict[str, Callable[[Path], Case]] = {
    "xgboost-json": saved("model.json"),
    "xgboost-ubj": saved("any.ubj"),
    "xgboost-model": saved("xgboost-model"),
    "xgboost-sample": sample,
    "xgboost-base-score": saved("m.ubj", base_score=0.2),
    "xgboost-regression": saved("m.ubj", objective="reg:squarederror"),
    "xgboost-softmax": saved("m.json", objective="multi:softmax", num_class=3),
    "xgboost-softprob": saved("m.ubj", objective="multi:softprob", num_class=3),
    "xgboost-dart": saved("m.ubj", booster="dart", rate_drop=0.3),
    "xgboost-gblinear": saved("m.ubj", booster="gblinear"),
    "xgboost-forest": saved("m.ubj", num_parallel_tree=3),
    "xgboost-pickle": pickled,
    "xgboost-wrapper": wrapped,
    "torchscript": torchscript,
    "torch-export": exported,
}


def body_of(rows: np.ndarray, name: str, absent: float = np.nan) -> bytes:
    """Writes a payload the way a client does, without our codecs."""
    if name == "csv":
        lines = (
            ",".join("" if np.isnan(cell) else repr(float(cell)) for cell in row) for row in rows
        )
        return "\n".join(lines).encode()
    if name == "libsvm":
        lines = (
            " ".join(
                f"{at}:{float(cell)!r}"
                for at, cell in enumerate(row)
                if not np.array_equal(cell, absent, equal_nan=True)
            )
            for row in rows
        )
        return "\n".join(lines).encode()
    plain = [[None if np.isnan(cell) else float(cell) for cell in row] for row in rows]
    if name == "json":
        return json.dumps({"instances": plain}).encode()
    return "\n".join(map(json.dumps, plain)).encode()
