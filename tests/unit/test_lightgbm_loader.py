"""The LightGBM loader: which files it takes, and that none of them ends the process."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import weakref
from io import BytesIO
from pathlib import Path

import lightgbm
import numpy as np
import pytest

from loaders.contract import LoadRefused, Model, Payload, Trust
from loaders.lightgbm_document import sound_part
from loaders.lightgbm_loader import LOADER

RANDOM = np.random.default_rng(0)
ROWS = np.c_[RANDOM.normal(size=(300, 3)), RANDOM.integers(0, 8, 300)]
TARGETS = ROWS[:, 0] + (ROWS[:, 3] % 3)


def train(rounds: int = 3, categories: tuple[int, ...] = (), **more) -> lightgbm.Booster:
    options = {"objective": "regression", "verbose": -1, "num_threads": 1, "num_leaves": 6, **more}
    table = lightgbm.Dataset(ROWS, TARGETS, categorical_feature=categories)
    return lightgbm.train(options, table, rounds)


KINDS = {
    "plain": {},
    "categories": {"categories": (3,)},
    "linear": {"linear_tree": True},
    "stump": {"num_leaves": 2},
    "constant": {"min_data_in_leaf": 300},
}


def load(directory: Path, *, code: bool = True) -> Model:
    return LOADER.load(directory, Trust(code=code))


def ask(model: Model, body: bytes, content_type: str = "text/csv"):
    [answer] = model.predict([Payload(body, content_type)])
    return answer


def whole(kind: str) -> str:
    return train(**KINDS[kind]).model_to_string()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_sound_predicts_what_the_whole_does(kind):
    text = whole(kind)
    ours = lightgbm.Booster(model_str=sound_part(text)).predict(ROWS)
    np.testing.assert_array_equal(ours, lightgbm.Booster(model_str=text).predict(ROWS))


@pytest.mark.parametrize("kind", KINDS)
def test_all_pieces_of_a_model_are_refused(kind):
    text = whole(kind)
    trees, parameters = text.index("end of trees\n") + 13, text.index("\nparameters:\n") + 13
    last = text.index("end of parameters")
    for end in [*range(0, trees, 41), *range(parameters, last, 41)]:  # between, nothing of use is
        with pytest.raises(ValueError, match=r"\w"):
            sound_part(text[:end])


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("version=v4", "version=v2", "format 'v2' is not read"),
        ("max_feature_idx=3", "max_feature_idx=4", "not as many as the features"),
        ("num_class=1", "num_class=0", "classes"),
        ("num_tree_per_iteration=1", "num_tree_per_iteration=2", "classes"),
        ("objective=regression", "objective=multiclass num_class:3", "objective"),
        ("Tree=1", "Tree=7", "not where it should be"),
        ("num_leaves=6", "num_leaves=7", "not as many numbers"),
        ("left_child=1", "left_child=0", "each there once"),
        ("left_child=1", "left_child=9", "each there once"),
        ("split_feature=0", "split_feature=4", "feature that the model does not have"),
        ("decision_type=2", "decision_type=3", "categories that it does not have"),
        ("shrinkage=1\n", "shrinkage=x\n", "shrinkage"),
        ("shrinkage=1\n", "shrinkage=\n", "shrinkage"),
        ("num_leaves=6", "num_leaves=99999999999999999999", "num_leaves"),
    ],
)
def test_a_tree_that_leads_nowhere_is_refused(old, new, reason):
    text = whole("plain")
    assert old in text
    broken = text.replace(old, new)
    size = text.partition("tree_sizes=")[2].split()[0]
    broken = broken.replace(f"tree_sizes={size}", f"tree_sizes={_first_size(broken)}")
    with pytest.raises(ValueError, match=reason):
        sound_part(broken)


@pytest.mark.parametrize("factor", ["1e999", "1e-310", "x"])
def test_a_factor_that_would_end_the_process_is_refused(factor):
    text = whole("linear")
    first = text.partition("leaf_const=")[2].split()[0]
    broken = text.replace(f"leaf_const={first} ", f"leaf_const={factor} ", 1)
    size = text.partition("tree_sizes=")[2].split()[0]
    broken = broken.replace(f"tree_sizes={size}", f"tree_sizes={_first_size(broken)}")
    with pytest.raises(ValueError, match=r"leaf_const|factor"):
        sound_part(broken)


def _first_size(text: str) -> int:
    return text.find("Tree=1\n") - text.find("Tree=0\n") if "Tree=1\n" in text else 0


CHANGE_AND_LOAD = """
import random, sys
import lightgbm, numpy
from loaders.lightgbm_document import sound_part
whole, choice = sys.stdin.buffer.read(), random.Random(sys.argv[1])
rows, passed = numpy.random.default_rng(0).normal(size=(40, 4)) * 4, 0
for _ in range(250):
    content = bytearray(whole)
    for _ in range(choice.choice((1, 1, 3))):
        content[choice.randrange(len(content))] = choice.choice(b"0123456789- =.e\\n\\xff")
    if choice.random() < 0.3:
        del content[choice.randrange(len(content)):]
    try:
        booster = lightgbm.Booster(model_str=sound_part(content.decode()))
        booster.predict(rows, num_threads=1)
    except (ValueError, lightgbm.basic.LightGBMError):
        continue
    passed += 1
print("alive", passed)
"""


@pytest.mark.parametrize("kind", ["plain", "categories", "linear"])
def test_files_with_changed_bytes_end_no_process(kind):
    line = [sys.executable, "-c", CHANGE_AND_LOAD, kind]
    text = whole(kind).encode()
    done = subprocess.run(line, input=text, capture_output=True, timeout=15, check=False)
    assert b"alive" in done.stdout, (done.returncode, done.stderr[-500:])


@pytest.mark.parametrize("name", ["model.txt", "tenant 7"])
def test_a_text_model_is_taken_under_any_name(tmp_path, name):
    booster = train()
    booster.save_model(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a model")
    answer = ask(load(tmp_path, code=False), b"0.1,2,3,4\n5,6,7,8")
    rows = np.array([[0.1, 2, 3, 4], [5, 6, 7, 8]])
    assert json.loads(answer.body) == booster.predict(rows).tolist()


def test_rows_are_numbers_of_64_bits(tmp_path):
    rows = np.repeat([[0.1, 0], [0.1 + 1e-12, 0]], 50, axis=0)
    options = {"objective": "regression", "verbose": -1, "min_data_in_leaf": 1}
    booster = lightgbm.train(options, lightgbm.Dataset(rows, [0, 1] * 50), 1)
    booster.save_model(tmp_path / "model.txt")
    model = load(tmp_path)
    for value in (b"0.1", b"0.100000000001"):
        expected = booster.predict([[float(value), 0]]).tolist()
        assert json.loads(ask(model, value + b",0").body) == expected


def test_what_libsvm_leaves_out_is_zero(tmp_path):
    train().save_model(tmp_path / "model.txt")
    model = load(tmp_path)
    assert ask(model, b"0:1.5 3:2", "text/libsvm") == ask(model, b"1.5,0,0,2")


@pytest.mark.parametrize("kind", ["booster", "wrapper"])
def test_a_pickle_answers_what_the_text_model_answers_where_code_is_trusted(tmp_path, kind):
    made = lightgbm.LGBMClassifier(n_estimators=3, n_jobs=1, verbose=-1).fit(ROWS, TARGETS > 1)
    found = made.booster_ if kind == "booster" else made
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(found))
    with pytest.raises(LoadRefused, match="only data is trusted"):
        load(tmp_path, code=False)
    answer = ask(load(tmp_path), b"0,0,0,0")
    assert json.loads(answer.body) == made.predict_proba(np.zeros((1, 4)))[:, 1].tolist()


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"tree\nversion=v4\n", b"\x80\x04no", b"tree\nversion=v4\n\xff"]
)
def test_what_holds_no_booster_is_refused_naming_no_version(tmp_path, content):
    (tmp_path / "model.txt").write_bytes(content)
    with pytest.raises(LoadRefused, match=r"^Unable to load model: model\.txt") as it:
        load(tmp_path)
    assert lightgbm.__version__ not in str(it.value)


def test_an_unfitted_wrapper_is_refused(tmp_path):
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(lightgbm.LGBMClassifier()))
    with pytest.raises(LoadRefused, match="Unable to load model"):
        load(tmp_path)


def test_answers_are_written_in_every_format_a_row_a_line(tmp_path):
    train().save_model(tmp_path / "m.txt")
    model = load(tmp_path)
    [answer] = model.predict([Payload(b"1,2,3,4\n1,2,3,4", "text/csv", "text/csv")])
    assert answer.body.count(b"\n") == 2
    [answer] = model.predict([Payload(b"1,2,3,4", "text/csv", "application/x-npy")])
    assert np.load(BytesIO(answer.body)).dtype == np.float64


def test_a_closed_model_lets_go_of_its_booster(tmp_path):
    train().save_model(tmp_path / "m.txt")
    model = load(tmp_path)
    booster = weakref.ref(model._booster)
    model.close()
    assert booster() is None
