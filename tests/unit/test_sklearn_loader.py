"""The scikit-learn loader: versions, trust, texts, labels, names, threads and broken files."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import re
import threading
import weakref
import zlib
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas
import pytest
import sklearn
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeRegressor
from skops import io as skops

from loaders.contract import LoadRefused, Model, Payload, Trust
from loaders.sklearn_loader import LOADER

ROWS = np.random.default_rng(0).normal(size=(60, 3))
LABELS = np.where(ROWS[:, 0] > 0, "yes", "no")
VERSION = sklearn.__version__


class Own(BaseEstimator):
    """Not scikit-learn's: its answer depends on the other rows."""

    def fit(self, rows, targets=None):
        self.fitted_ = True
        return self

    def predict(self, rows):
        return np.full(len(rows), len(rows))


def load(directory: Path, *, code: bool = True) -> Model:
    return LOADER.load(directory, Trust(code=code))


def saved(directory: Path, estimator: Any) -> Model:
    (directory / "model.pkl").write_bytes(pickle.dumps(estimator))
    return load(directory)


def ask(model: Model, body: bytes, content_type: str | None = "application/json", accept=None):
    [answer] = model.predict([Payload(body, content_type, accept)])
    return answer


def stamp(content: bytes, version: str) -> bytes:
    """What the same bytes are as saved by a version of as many characters."""
    assert len(version) == len(VERSION)
    return content.replace(VERSION.encode(), version.encode())


def neighbour(part: int) -> str:
    """The version before in one part, of as many characters."""
    numbers = [int(number) for number in VERSION.split(".")]
    numbers[part] += -1 if numbers[part] else 1
    return ".".join(map(str, numbers))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_model_of_another_release_is_refused_with_both_versions_and_the_way_out(
    tmp_path, protocol
):
    old = neighbour(1)
    content = pickle.dumps(Ridge().fit(ROWS, ROWS[:, 0]), protocol=protocol)
    (tmp_path / "model.pkl").write_bytes(stamp(content, old))
    with pytest.raises(LoadRefused) as caught:
        load(tmp_path)
    assert f"saved by scikit-learn {old}, installed is {VERSION}" in str(caught.value)
    assert f"put scikit-learn=={old} into code/requirements.txt" in str(caught.value)


@pytest.mark.parametrize("pack", [zlib.compress, gzip.compress, bz2.compress, lzma.compress])
def test_the_version_is_found_in_compressed_files_too(tmp_path, pack):
    plain = io.BytesIO()
    joblib.dump(make_pipeline(StandardScaler(), Ridge()).fit(ROWS, ROWS[:, 0]), plain)
    (tmp_path / "m.joblib").write_bytes(pack(stamp(plain.getvalue(), neighbour(1))))
    with pytest.raises(LoadRefused, match=f"installed is {re.escape(VERSION)}"):
        load(tmp_path)


def test_the_version_is_found_wherever_it_lies(tmp_path):
    """A key and its value may lie on both sides of what is read at once, or of a pickle's frame."""
    estimator = Ridge().fit(ROWS, ROWS[:, 0])
    for padding in range(64_900, 65_500, 7):
        estimator.notes = "x" * padding
        (tmp_path / "model.pkl").write_bytes(stamp(pickle.dumps(estimator), neighbour(1)))
        with pytest.raises(LoadRefused, match="installed is"):
            load(tmp_path)


def test_another_patch_of_the_same_release_is_taken_silently(tmp_path):
    estimator = Ridge().fit(ROWS, ROWS[:, 0])
    (tmp_path / "model.pkl").write_bytes(stamp(pickle.dumps(estimator), neighbour(2)))
    answer = ask(load(tmp_path), json.dumps(ROWS[:2].tolist()).encode())
    assert json.loads(answer.body) == estimator.predict(ROWS[:2]).tolist()


def test_a_model_that_tells_no_version_is_refused_as_too_old(tmp_path):
    content = pickle.dumps(Ridge().fit(ROWS, ROWS[:, 0]))
    (tmp_path / "model.pkl").write_bytes(content.replace(b"_sklearn_version", b"_sklearn_wersion"))
    with pytest.raises(LoadRefused, match=r"saved by scikit-learn 0\.17 or older, installed is"):
        load(tmp_path)


@pytest.mark.parametrize("pack", [bytes, zlib.compress])
def test_a_file_that_is_cut_short_is_not_taken_for_an_old_one(tmp_path, pack):
    plain = io.BytesIO()
    joblib.dump(Ridge().fit(ROWS, ROWS[:, 0]), plain)
    whole = plain.getvalue()
    cut = whole[: whole.index(b"_sklearn_version")]
    (tmp_path / "m.joblib").write_bytes(pack(cut))
    with pytest.raises(LoadRefused, match=r"^Unable to load model: m\.joblib: ") as caught:
        load(tmp_path)
    assert "saved by" not in str(caught.value)
    assert VERSION not in str(caught.value)


def test_a_skops_file_of_another_release_is_refused(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sklearn.base, "__version__", neighbour(1))
        skops.dump(Ridge().fit(ROWS, ROWS[:, 0]), tmp_path / "m.skops")
    with pytest.raises(LoadRefused, match=f"saved by scikit-learn {neighbour(1)}, installed is"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["model.pkl", "model.joblib"])
def test_without_trust_in_code_a_pickle_is_refused_and_not_run(tmp_path, name):
    sign = tmp_path / ".sign"

    class Trap:
        def __reduce__(self):
            return (Path.touch, (sign,))

    (tmp_path / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(LoadRefused, match="only data is trusted"):
        load(tmp_path, code=False)
    assert not sign.exists()
    with pytest.raises(LoadRefused, match="holds a NoneType, which does not predict"):
        load(tmp_path)
    assert sign.exists()  # the trap does work


def test_without_trust_in_code_skops_holds_only_types_known_to_be_harmless(tmp_path):
    skops.dump(Own(), tmp_path / "m.skops")
    with pytest.raises(LoadRefused, match=r"only data is trusted here: .*Own"):
        load(tmp_path, code=False)
    assert ask(load(tmp_path), b"[[1]]").body == b"[1]"


@pytest.mark.parametrize(
    "content", [pickle.dumps({"model": 1}), pickle.dumps(StandardScaler().fit(ROWS)), b"\x80\x04no"]
)
def test_what_holds_no_predictor_is_refused(tmp_path, content):
    (tmp_path / "model.pkl").write_bytes(content)
    with pytest.raises(LoadRefused, match=r"^Unable to load model: model\.pkl"):
        load(tmp_path)


def test_a_missing_module_is_named_with_the_way_to_bring_it(tmp_path):
    (tmp_path / "model.pkl").write_bytes(b"cnowhere.to.be.found\nModel\n.")
    with pytest.raises(LoadRefused, match=r"'nowhere'; put what provides it into code/requirem"):
        load(tmp_path)


def test_several_estimators_are_refused_since_none_tells_how_they_belong_together(tmp_path):
    for name in ("model.joblib", "scaler.joblib"):
        joblib.dump(StandardScaler().fit(ROWS), tmp_path / name)
    (tmp_path / "README.md").write_text("not a model")
    with pytest.raises(LoadRefused, match=r"found model\.joblib, scaler\.joblib"):
        load(tmp_path)


def test_labels_that_are_texts_are_answered_as_texts(tmp_path):
    model = saved(tmp_path, LogisticRegression().fit(ROWS, LABELS.astype(object)))
    body = b"3,0,0\n-3,0,0"
    assert ask(model, body, "text/csv").body == b'["yes","no"]'
    assert ask(model, body, "text/csv", "text/csv").body == b"yes\nno\n"
    assert ask(model, body, "text/csv", "application/jsonlines").body == b'"yes"\n"no"\n'
    array = np.load(io.BytesIO(ask(model, body, "text/csv", "application/x-npy").body))
    assert array.tolist() == ["yes", "no"]


def test_rows_are_numbers_of_64_bits(tmp_path):
    """0.1 as 32 bits is larger than 0.1, and would go right at a threshold of 0.1."""
    model = saved(tmp_path, FunctionPredictor())
    for body, content_type in ((b"0.1", "text/csv"), (b"[[0.1]]", None), (b"0:0.1", "text/libsvm")):
        answer = ask(model, body, content_type or "application/json")
        assert json.loads(answer.body) == [0.1]


class FunctionPredictor(BaseEstimator):
    def predict(self, rows):
        return rows[:, 0]


def test_a_pipeline_over_texts_takes_a_list_of_texts(tmp_path):
    texts, labels = ["good film", "bad film"] * 5, [1, 0] * 5
    model = saved(
        tmp_path, make_pipeline(CountVectorizer(), LogisticRegression()).fit(texts, labels)
    )
    assert ask(model, b'["a good one", "so bad"]').body == b"[1,0]"
    assert ask(model, b'{"instances": ["bad"]}').body == b"[0]"
    assert ask(model, b'"good"\n"bad"', "application/jsonlines").body == b"[1,0]"


def test_categories_are_taken_as_texts_beside_numbers(tmp_path):
    rows = np.array([["red", 1.0], ["blue", 2.0]] * 5, dtype=object)
    columns = ColumnTransformer([("colour", OneHotEncoder(), [0])], remainder="passthrough")
    model = saved(tmp_path, make_pipeline(columns, Ridge(alpha=1e-9)).fit(rows, [1.0, 4.0] * 5))
    answer = ask(model, b'[["red", 1], ["blue", 2]]')
    assert json.loads(answer.body) == pytest.approx([1, 4], abs=1e-6)
    assert ask(model, b'[["green", 1]]').status == 400
    assert ask(model, b'[["red", 1, 2]]').status == 400
    assert ask(model, b'[["red", 1], ["red"]]').status == 415


def test_a_model_that_picks_columns_by_name_gets_them_by_their_order(tmp_path):
    frame = pandas.DataFrame({"size": [1.0, 2.0] * 5, "colour": ["red", "blue"] * 5})
    columns = ColumnTransformer(
        [("one", OneHotEncoder(), ["colour"]), ("scale", StandardScaler(), ["size"])]
    )
    made = make_pipeline(columns, Ridge()).fit(frame, [1.0, 4.0] * 5)
    answer = ask(saved(tmp_path, made), b'[[2, "blue"], [1, "red"]]')
    assert json.loads(answer.body) == made.predict(frame[:2])[::-1].tolist()


def test_a_model_trained_with_names_is_asked_without_a_word(tmp_path):
    frame = pandas.DataFrame(ROWS, columns=["a", "b", "c"])
    model = saved(tmp_path, LogisticRegression().fit(frame, LABELS))  # warnings are errors here
    assert ask(model, b"[[3,0,0]]").body == b'["yes"]'


@pytest.mark.parametrize(
    "body", [b"[[1,2]]", b"[[1,null,3]]", b"[[1,2,1e999]]", b'[["a","b","c"]]', b"[]"]
)
def test_what_the_model_does_not_take_is_a_bad_payload_in_one_line(tmp_path, body):
    fault = ask(saved(tmp_path, LogisticRegression().fit(ROWS, LABELS)), body)
    assert fault.status == 400
    assert "\n" not in str(fault)


def test_an_estimator_never_fitted_is_itself_at_fault(tmp_path):
    assert ask(saved(tmp_path, LogisticRegression()), b"[[1,2,3]]").status == 500


@pytest.mark.parametrize("estimator", [Own(), make_pipeline(StandardScaler(), Own()).fit(ROWS)])
def test_an_estimator_of_others_is_asked_once_a_payload(tmp_path, estimator):
    answers = saved(tmp_path, estimator).predict([Payload(b"1,2,3", "text/csv")] * 2)
    assert [answer.body for answer in answers] == [b"[1]", b"[1]"]


def unknown(rows):
    return rows


@pytest.mark.parametrize(
    ("first", "joins"),
    [
        (StandardScaler(), True),
        (FunctionTransformer(np.abs), True),
        (FunctionTransformer(unknown), False),
        (Own(), False),
    ],
)
def test_payloads_are_joined_where_all_of_an_estimator_is_known(tmp_path, first, joins):
    assert saved(tmp_path, make_pipeline(first, Ridge()))._rows.joins is joins


def test_a_saved_n_jobs_starts_no_thread(tmp_path):
    forest = RandomForestClassifier(20, n_jobs=2)
    model = saved(tmp_path, make_pipeline(StandardScaler(), forest).fit(ROWS, LABELS))
    assert threads_of(model) == set()
    model._is_threaded = False
    assert threads_of(model)  # it would, and they can be seen


def threads_of(model: Model) -> set[int]:
    """The threads that start while the model predicts."""
    seen: set[int] = set()
    threading.setprofile(lambda *_: seen.add(threading.get_ident()))
    try:
        assert ask(model, b"[[3,0,0]]").body == b'["yes"]'
    finally:
        threading.setprofile(None)
    return seen


def test_a_closed_model_lets_go_of_its_estimator(tmp_path):
    model = saved(tmp_path, DecisionTreeRegressor().fit(ROWS, ROWS[:, 0]))
    estimator = weakref.ref(model._estimator)
    model.close()
    assert estimator() is None


def test_neighbours_and_sparse_answers_are_arrays(tmp_path):
    several = np.c_[LABELS == "yes", LABELS == "no"].astype(int)
    model = saved(tmp_path, KNeighborsClassifier().fit(ROWS, several))
    assert ask(model, b"[[3,0,0]]").body == b"[[1,0]]"
