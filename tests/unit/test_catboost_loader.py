"""The CatBoost loader: whose predict answers, categories, and files that end no process."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import weakref
from io import BytesIO
from pathlib import Path
from typing import Any

import catboost
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.catboost_document import check_document
from loaders.catboost_json import check_json
from loaders.catboost_loader import LOADER
from loaders.contract import LoadRefused, Model, Payload, Trust

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.normal(size=(200, 4))
TARGETS = ROWS @ np.array([1, 2, 0, -1])
COLOURS = np.array(["red", "blue", "green"])[RANDOM.integers(0, 3, 200)]
TABLE = np.c_[ROWS[:, :2].astype(object), COLOURS, RANDOM.integers(0, 40, 200)]
LABELS = np.where((TARGETS > 0) ^ (COLOURS == "red"), "yes", "no")


def train(kind: Any = catboost.CatBoostRegressor, rows=ROWS, targets=TARGETS, **more) -> Any:
    options = {"iterations": 6, "depth": 3, "thread_count": 1, "verbose": 0, **more}
    return kind(allow_writing_files=False, **options).fit(rows, targets)


def classifier(**more) -> Any:
    return train(catboost.CatBoostClassifier, TABLE, LABELS, cat_features=[2, 3], **more)


KINDS = {
    "plain": train,
    "categories": classifier,
    "one hot": lambda: classifier(one_hot_max_size=64),
    "lossguide": lambda: train(grow_policy="Lossguide"),
    "classes": lambda: train(
        catboost.CatBoostClassifier, targets=np.digitize(TARGETS, [-1, 1]), grow_policy="Depthwise"
    ),
}


def saved(directory: Path, model: Any, suffix: str = "cbm") -> Model:
    model.save_model(directory / f"m.{suffix}", format=suffix)
    return load(directory)


def load(directory: Path, *, code: bool = False) -> Model:
    return LOADER.load(directory, Trust(code=code))


def ask(model: Model, body: bytes, content_type: str = "application/json", accept=None):
    [answer] = model.predict([Payload(body, content_type, accept)])
    return answer


@pytest.mark.parametrize("suffix", ["cbm", "json"])
@pytest.mark.parametrize(
    ("kind", "targets", "more"),
    [
        (catboost.CatBoostRegressor, TARGETS, {}),
        (catboost.CatBoostRegressor, abs(TARGETS), {"loss_function": "Poisson"}),
        (catboost.CatBoostRegressor, abs(TARGETS), {"loss_function": "Tweedie:variance_power=1.5"}),
        (catboost.CatBoostRegressor, ROWS[:, :2], {"loss_function": "MultiRMSE"}),
        (catboost.CatBoostClassifier, TARGETS > 0, {}),
        (catboost.CatBoostClassifier, LABELS, {}),
        (catboost.CatBoostClassifier, np.digitize(TARGETS, [-1, 1]), {}),
        (catboost.CatBoostClassifier, np.digitize(TARGETS, [0]), {"loss_function": "CrossEntropy"}),
        (catboost.CatBoostClassifier, (ROWS[:, :2] > 0) * 1, {"loss_function": "MultiLogloss"}),
        (catboost.CatBoostClassifier, TARGETS > 0, {"class_names": [False, True]}),
    ],
)
def test_an_answer_is_what_predict_of_the_models_own_class_gives(
    tmp_path, suffix, kind, targets, more
):
    made = train(kind, targets=targets, **more)
    answer = ask(saved(tmp_path, made, suffix), json.dumps(ROWS[:5].tolist()).encode())
    found, expected = np.array(json.loads(answer.body)), made.predict(ROWS[:5])
    assert found.shape == expected.shape
    if found.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    else:
        assert found.tolist() == expected.tolist()


def test_a_ranking_model_answers_scores(tmp_path):
    groups = {"group_id": np.arange(200) // 10}
    made = catboost.CatBoostRanker(iterations=5, verbose=0, allow_writing_files=False)
    made.fit(ROWS, TARGETS > 0, **groups)
    answer = ask(saved(tmp_path, made), json.dumps(ROWS[:5].tolist()).encode())
    assert json.loads(answer.body) == made.predict(ROWS[:5].astype(np.float32)).tolist()


@pytest.mark.parametrize("suffix", ["cbm", "json"])
def test_categories_are_the_texts_and_integers_of_the_client(tmp_path, suffix):
    made = classifier()
    model = saved(tmp_path, made, suffix)
    rows = TABLE[:20]
    expected = made.predict(rows).tolist()
    assert len(set(expected)) == 2
    lines = "\n".join(",".join(map(str, row)) for row in rows).encode()
    floats = json.dumps([[*row[:3], float(row[3])] for row in rows]).encode()
    for body, content_type in (
        (json.dumps(rows.tolist()).encode(), "application/json"),
        (floats, "application/json"),
        (b"\n".join(json.dumps(row).encode() for row in rows.tolist()), "application/jsonlines"),
        (lines, "text/csv"),
    ):
        assert json.loads(ask(model, body, content_type).body) == expected


def test_integer_categories_may_come_as_an_array(tmp_path):
    rows = np.c_[ROWS[:, 0], RANDOM.integers(0, 5, 200)].astype(object)
    rows[:, 1] = rows[:, 1].astype(int)
    made = train(rows=rows, cat_features=[1])
    buffer = BytesIO()
    np.save(buffer, rows[:9].astype(np.float64))
    answer = ask(saved(tmp_path, made), buffer.getvalue(), "application/x-npy")
    np.testing.assert_allclose(json.loads(answer.body), made.predict(rows[:9]), rtol=1e-6)


@pytest.mark.parametrize(
    "body",
    [
        b'[[1, 2, "red", 1.5]]',
        b"[[1, 2, null, 1]]",
        b'[["a", 2, "red", 1]]',
        b'[[1, 2, "red"]]',
        b'[[1, 2, "red", 1, 1]]',
    ],
)
def test_cells_of_other_types_are_a_bad_payload_in_one_line(tmp_path, body):
    fault = ask(saved(tmp_path, classifier()), body)
    assert fault.status == 400
    assert "\n" not in str(fault)
    assert ".cpp:" not in str(fault)


def test_an_empty_cell_is_missing(tmp_path):
    rows = TABLE.copy()
    rows[::5, 0] = np.nan
    made = train(catboost.CatBoostClassifier, rows, LABELS, cat_features=[2, 3])
    model = saved(tmp_path, made)
    assert ask(model, b",1,red,2", "text/csv") == ask(model, b'[[null,1,"red",2]]')


def test_a_pickle_answers_by_its_own_class_where_code_is_trusted(tmp_path):
    made = train(catboost.CatBoostClassifier, targets=LABELS)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(made))
    with pytest.raises(LoadRefused, match="only data is trusted"):
        load(tmp_path)
    answer = ask(load(tmp_path, code=True), json.dumps(ROWS[:3].tolist()).encode())
    assert json.loads(answer.body) == made.predict(ROWS[:3]).tolist()


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"CBM1", b"CBM1\xff\0\0\0", pickle.dumps(catboost.CatBoost())]
)
def test_what_holds_no_model_is_refused_naming_no_version(tmp_path, content):
    (tmp_path / "model.cbm").write_bytes(content)
    with pytest.raises(LoadRefused, match=r"^Unable to load model: model\.cbm") as it:
        load(tmp_path, code=True)
    assert catboost.__version__ not in str(it.value)


def document(kind: str, directory: Path, suffix: str = "cbm") -> bytes:
    KINDS[kind]().save_model(directory / f"m.{suffix}", format=suffix)
    return (directory / f"m.{suffix}").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_whole_documents_pass_the_check_and_all_pieces_fail_it(tmp_path, kind):
    whole = document(kind, tmp_path)
    check_document(whole)
    for end in range(0, len(whole), 97):
        with pytest.raises(ValueError, match=r"\w"):
            check_document(whole[:end])


@pytest.mark.parametrize("kind", KINDS)
def test_whole_json_passes_the_check_and_all_pieces_fail_it(tmp_path, kind):
    whole = document(kind, tmp_path, "json")
    check_json(whole)
    for end in range(0, len(whole) - 2, len(whole) // 50):
        with pytest.raises(ValueError, match=r"\w"):
            check_json(whole[:end])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hash_stride", 0),
        ("split_index", 999),
        ("leaf_values", [1.0]),
        ("ctr_data", {}),
        ("flat_feature_index", 7),
        ("scale_and_bias", [1, [0, 0]]),
    ],
)
def test_json_that_leads_nowhere_is_refused(tmp_path, field, value):
    found = json.loads(document("categories", tmp_path, "json"))
    assert replace(found, field, value)
    with pytest.raises(ValueError, match=r"\w"):
        check_json(json.dumps(found).encode())


def replace(node: Any, field: str, value: object) -> bool:
    """Changes the first field of this name, wherever it is; says whether there is one."""
    if isinstance(node, dict) and field in node:
        node[field] = value
        return True
    parts = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    return any(replace(part, field, value) for part in parts)


def test_a_hash_table_without_an_empty_place_is_refused(tmp_path):
    """CatBoost would look for an unknown category in it for ever."""
    whole = document("categories", tmp_path)
    size = int.from_bytes(whole[4:8], "little") + 8
    counts = whole[size:].replace(b"\xff" * 8 + bytes(4), b"\x01" * 8 + bytes(4))
    with pytest.raises(ValueError, match="would not end"):
        check_document(whole[:size] + counts)


def test_counts_that_the_trees_want_have_to_be_there(tmp_path):
    whole = document("categories", tmp_path)
    size = int.from_bytes(whole[4:8], "little") + 8
    with pytest.raises(ValueError, match="counts are not there"):
        check_document(whole[:size] + bytes(4))


@given(body=st.binary())
def test_garbage_is_a_value_error(body):
    for check in (check_document, check_json):
        with pytest.raises(ValueError, match=r"\w"):
            check(b"CBM1" + len(body).to_bytes(4, "little") + body)


CHANGE_AND_LOAD = """
import pathlib, random, sys
import catboost, numpy
from loaders.catboost_document import check_document
from loaders.catboost_json import check_json
path, choice = pathlib.Path(sys.argv[1]), random.Random(1)
whole, passed = path.read_bytes(), 0
NEW = b"0123456789-. \\xff" if path.suffix == ".json" else bytes(range(256))
for _ in range(300):
    content = bytearray(whole)
    for _ in range(choice.choice((1, 1, 3))):
        content[choice.randrange(len(content))] = choice.choice(NEW)
    try:
        (check_json if path.suffix == ".json" else check_document)(bytes(content))
        path.write_bytes(content)
        model = catboost.CatBoost().load_model(str(path), format=path.suffix[1:])
        words = set(model.get_cat_feature_indices())
        table = [["red" if at in words else row - 9 for at in range(4)] for row in range(20)]
        model.predict(numpy.array(table, dtype=object), thread_count=1)
    except (ValueError, TypeError, UnicodeDecodeError, catboost.CatBoostError):
        continue
    passed += 1
print("alive", passed)
"""


@pytest.mark.parametrize("suffix", ["cbm", "json"])
@pytest.mark.parametrize("kind", KINDS)
def test_files_with_changed_bytes_end_no_process(tmp_path, kind, suffix):
    document(kind, tmp_path, suffix)
    line = [sys.executable, "-c", CHANGE_AND_LOAD, str(tmp_path / f"m.{suffix}")]
    done = subprocess.run(line, capture_output=True, timeout=18, check=False)
    assert done.stdout.startswith(b"alive"), (done.returncode, done.stderr[-500:])


def test_a_closed_model_lets_go_of_its_trees(tmp_path):
    model = saved(tmp_path, train())
    trees = weakref.ref(model._model)
    model.close()
    assert trees() is None
