"""Saved forms of scikit-learn, LightGBM and CatBoost models, with the frameworks' own answers."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import catboost
import joblib
import lightgbm
import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor, VotingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from skops import io as skops

from tests.contract.model_cases import Case

FEATURES = 8
RANDOM = np.random.default_rng(4)
ROWS = RANDOM.normal(size=(300, FEATURES))
TARGETS = ROWS @ RANDOM.normal(size=FEATURES)
CLASSES = np.digitize(TARGETS, [-1, 1])
ASKED = RANDOM.normal(size=(4, FEATURES)).astype(np.float32)
ASKED[1, 3] = 0
GAPPY = np.where(np.arange(4 * FEATURES).reshape(4, FEATURES) % 11 == 5, np.nan, ASKED)


def table_case(
    directory: Path, predict: Callable[[Any], Any], *, gaps: bool = False, trust: bool = False
) -> Case:
    rows = GAPPY if gaps else ASKED
    expected = np.asarray(predict(rows.astype(np.float64))).astype(np.float32)
    return Case(
        directory=directory,
        rows=rows,
        expected=expected,
        needs_trust=trust,
        reads_libsvm=True,
        absent=0.0,
    )


def sklearn_saved(
    name: str, make: Callable[[], Any], *, classes: bool = False, gaps: bool = False, **options: Any
) -> Callable[[Path], Case]:
    def save(directory: Path) -> Case:
        estimator = make().fit(ROWS, CLASSES if classes else TARGETS)
        path = directory / name
        if path.suffix == ".skops":
            skops.dump(estimator, path)
        elif path.suffix == ".joblib":
            joblib.dump(estimator, path, **options)
        else:
            path.write_bytes(pickle.dumps(estimator, **options))
        trust = path.suffix != ".skops"
        return table_case(directory, estimator.predict, gaps=gaps, trust=trust)

    return save


def halved(rows: np.ndarray) -> np.ndarray:
    return rows / 2


def lightgbm_saved(
    name: str, objective: str, categories: tuple[int, ...] = (), **parameters: Any
) -> Callable[[Path], Case]:
    def save(directory: Path) -> Case:
        labels = {"regression": TARGETS, "binary": TARGETS > 0, "multiclass": CLASSES}[objective]
        options = {"objective": objective, "verbose": -1, "num_threads": 1, "num_leaves": 8}
        table = lightgbm.Dataset(np.round(ROWS), labels, categorical_feature=categories)
        booster = lightgbm.train({**options, **parameters}, table, 8)
        path = directory / name
        if path.suffix == ".pkl":
            path.write_bytes(pickle.dumps(booster))
        else:
            booster.save_model(path)
        return table_case(directory, booster.predict, gaps=True, trust=path.suffix == ".pkl")

    return save


def lightgbm_wrapped(directory: Path) -> Case:
    """The scikit-learn class, saved by joblib, answers what its booster answers."""
    classifier = lightgbm.LGBMClassifier(n_estimators=5, num_leaves=7, n_jobs=1, verbose=-1)
    classifier.fit(ROWS, CLASSES)
    joblib.dump(classifier, directory / "model.joblib", compress=3)
    return table_case(directory, classifier.booster_.predict, gaps=True, trust=True)


def catboost_saved(
    name: str, model: type[catboost.CatBoost], labels: np.ndarray, **parameters: Any
) -> Callable[[Path], Case]:
    def save(directory: Path) -> Case:
        options = {"iterations": 8, "depth": 3, "thread_count": 1, "verbose": 0}
        rows = np.where(ROWS > 2, np.nan, ROWS)  # or it would take no gaps
        made = model(allow_writing_files=False, **{**options, **parameters}).fit(rows, labels)
        path = directory / name
        if path.suffix == ".pkl":
            path.write_bytes(pickle.dumps(made))
        else:
            made.save_model(path, format=path.suffix[1:])
        return table_case(directory, made.predict, gaps=True, trust=path.suffix == ".pkl")

    return save


REGRESSOR, CLASSIFIER = catboost.CatBoostRegressor, catboost.CatBoostClassifier
TABLE_CASES: dict[str, Callable[[Path], Case]] = {
    "sklearn-joblib": sklearn_saved("model.joblib", Ridge),
    "sklearn-pickle": sklearn_saved("model.pkl", Ridge, protocol=2),
    "sklearn-old-pickle": sklearn_saved(
        "any name.pickle", LogisticRegression, classes=True, protocol=0
    ),
    "sklearn-skops": sklearn_saved("model.skops", Ridge),
    "sklearn-zlib": sklearn_saved("model.joblib", SVC, classes=True, compress=3),
    "sklearn-gzip": sklearn_saved("svc.joblib", SVC, classes=True, compress=("gzip", 3)),
    "sklearn-xz": sklearn_saved("svc.joblib", SVC, classes=True, compress=("xz", 3)),
    "sklearn-forest": sklearn_saved(
        "forest.joblib", lambda: RandomForestRegressor(5, max_depth=4, n_jobs=-1)
    ),
    "sklearn-histogram": sklearn_saved(
        "m.joblib", lambda: HistGradientBoostingRegressor(max_iter=5), gaps=True
    ),
    "sklearn-pipeline": sklearn_saved(
        "model.pkl", lambda: make_pipeline(StandardScaler(), SVC()), classes=True
    ),
    "sklearn-own-function": sklearn_saved(
        "model.pkl", lambda: make_pipeline(FunctionTransformer(halved), Ridge())
    ),
    "sklearn-of-lightgbm": sklearn_saved(
        "model.joblib",
        lambda: VotingRegressor(
            [("a", Ridge()), ("b", lightgbm.LGBMRegressor(n_estimators=3, n_jobs=1, verbose=-1))]
        ),
    ),
    "lightgbm-text": lightgbm_saved("model.txt", "binary"),
    "lightgbm-regression": lightgbm_saved("any", "regression"),
    "lightgbm-linear": lightgbm_saved("model.txt", "regression", linear_tree=True),
    "lightgbm-categories": lightgbm_saved("m.txt", "binary", categories=(0, 1)),
    "lightgbm-classes": lightgbm_saved("m.txt", "multiclass", num_class=3),
    "lightgbm-forest": lightgbm_saved(
        "m.txt", "binary", boosting="rf", bagging_freq=1, bagging_fraction=0.6
    ),
    "lightgbm-pickle": lightgbm_saved("model.pkl", "binary"),
    "lightgbm-wrapper": lightgbm_wrapped,
    "catboost-cbm": catboost_saved("model.cbm", REGRESSOR, TARGETS),
    "catboost-json": catboost_saved("model.json", REGRESSOR, TARGETS),
    "catboost-pickle": catboost_saved("model.pkl", CLASSIFIER, CLASSES),
    "catboost-classes": catboost_saved("any.cbm", CLASSIFIER, CLASSES),
    "catboost-json-classes": catboost_saved("any.json", CLASSIFIER, CLASSES),
    "catboost-deep": catboost_saved("m.cbm", CLASSIFIER, CLASSES, grow_policy="Lossguide"),
    "catboost-counts": catboost_saved("m.cbm", REGRESSOR, np.abs(TARGETS), loss_function="Poisson"),
}
