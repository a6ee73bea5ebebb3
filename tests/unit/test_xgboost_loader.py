"""The XGBoost loader: SageMaker's formats and words, ensembles, pickles, broken files."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tracemalloc
import weakref
from pathlib import Path

import numpy as np
import pytest
import xgboost
from hypothesis import given
from hypothesis import strategies as st

from loaders import ubjson
from loaders.contract import LoadRefused, Model, Payload, Trust
from loaders.xgboost_document import read_document, saved_by
from loaders.xgboost_loader import LOADER
from tests.models import DART

ROW = b"0.5,-1,0.25,2"
CATEGORIES = ("categories", "categories_nodes", "categories_segments", "categories_sizes")


def train(seed: int = 0, objective: str = "reg:squarederror", rounds: int = 5, **more):
    random = np.random.default_rng(seed)
    rows = random.normal(size=(300, 4))
    labels = random.integers(0, 3 if "num_class" in more else 2, 300)
    table = xgboost.DMatrix(rows, labels)
    return xgboost.train({"objective": objective, "nthread": 1, **more}, table, rounds)


def own(booster: xgboost.Booster, **more) -> list[float]:
    row = np.array([ROW.split(b",")], dtype=np.float32)
    return booster.predict(xgboost.DMatrix(row), **more).tolist()


def load(directory: Path, *, code: bool = True) -> Model:
    return LOADER.load(directory, Trust(code=code))


def ask(model: Model, body: bytes = ROW, content_type: str | None = "text/csv", accept=None):
    [answer] = model.predict([Payload(body, content_type, accept)])
    return answer


def answered(model: Model) -> list[float]:
    return json.loads(ask(model).body)


@pytest.fixture
def model(tmp_path) -> Model:
    train().save_model(tmp_path / "model.ubj")
    return load(tmp_path)


def test_json_is_a_bare_list_and_csv_one_line(tmp_path):
    train(objective="multi:softprob", num_class=3).save_model(tmp_path / "m.ubj")
    model = load(tmp_path)
    two = ROW + b"\n" + ROW
    assert np.shape(json.loads(ask(model, two).body)) == (2, 3)
    line = ask(model, two, accept="text/csv")
    assert line.content_type == "text/csv"
    assert line.body.count(b",") == 5
    assert b"\n" not in line.body


def test_a_body_without_a_type_is_libsvm(model):
    with_type = ask(model, b"0:0.5 1:-1 2:0.25 3:2", "text/libsvm")
    assert ask(model, b"0:0.5 1:-1 2:0.25 3:2", None) == with_type == ask(model)


def test_libsvm_counted_from_one_is_the_same_row(model):
    assert ask(model, b"1:0.5 2:-1 3:0.25 4:2", None) == ask(model)


@pytest.mark.parametrize(("body", "given"), [(b"1,2,3", 3), (b"1,2,3,4,5", 5)])
def test_a_wrong_number_of_features_is_refused_in_the_images_words(model, body, given):
    fault = ask(model, body)
    assert fault.status == 400
    assert str(fault) == (
        f"Unable to evaluate payload provided: Feature size of csv inference data {given} is not "
        "consistent with feature size of trained model 4."
    )


def test_an_infinite_feature_is_refused_as_dmatrix_refuses_it(model):
    assert [ask(model, body).status for body in (b"1,2,3,inf", b"1,2,3,1e39")] == [400, 400]


def test_one_infinite_feature_does_not_spoil_the_batch(model):
    payloads = [Payload(body, "text/csv") for body in (ROW, b"1,2,3,inf", ROW)]
    first, second, third = model.predict(payloads)
    assert first == third == ask(model)
    assert second.status == 400


def test_an_ensemble_of_regressors_gives_the_mean(tmp_path):
    boosters = [train(seed) for seed in range(3)]
    for seed, booster in enumerate(boosters):
        booster.save_model(tmp_path / f"{seed}.json")
    (tmp_path / ".hidden").write_bytes(b"x")
    (tmp_path / "README.md").write_text("not a model")
    np.testing.assert_allclose(
        answered(load(tmp_path)), np.mean([own(b) for b in boosters], axis=0)
    )


def test_an_ensemble_of_classifiers_votes_and_a_tie_goes_to_the_smallest(tmp_path):
    boosters = [train(seed, "multi:softmax", rounds=1, num_class=3) for seed in range(4)]
    answers = [own(booster)[0] for booster in boosters]
    for seed, booster in enumerate(boosters):
        booster.save_model(tmp_path / f"{seed}.json")
    votes = {answer: answers.count(answer) for answer in sorted(set(answers))}
    assert answered(load(tmp_path)) == [max(votes, key=lambda answer: votes[answer])]


def test_the_ensemble_can_be_switched_off(tmp_path, monkeypatch):
    train(1).save_model(tmp_path / "a.json")
    train(2).save_model(tmp_path / "b.json")
    monkeypatch.setenv("SAGEMAKER_INFERENCE_ENSEMBLE", "false")
    assert answered(load(tmp_path)) == own(train(1))


def test_an_ensemble_of_different_widths_is_refused(tmp_path):
    train().save_model(tmp_path / "a.json")
    wide = xgboost.DMatrix(np.zeros((4, 9)), [0, 1, 0, 1])
    xgboost.train({"nthread": 1}, wide, 1).save_model(tmp_path / "b.json")
    with pytest.raises(LoadRefused, match="differ in features"):
        load(tmp_path)


def test_the_best_iteration_is_honoured(tmp_path):
    booster = train(rounds=9)
    booster.set_attr(best_iteration="3")
    booster.save_model(tmp_path / "m.ubj")
    assert answered(load(tmp_path)) == own(booster, iteration_range=(0, 4)) != own(booster)


def test_a_missing_value_of_the_wrapper_is_honoured(tmp_path):
    wrapper = xgboost.XGBRegressor.__new__(xgboost.XGBRegressor)
    wrapper._Booster = train()
    wrapper.missing = -1.0
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(wrapper))
    row = np.array([[0.5, np.nan, 0.25, 2]], dtype=np.float32)
    assert answered(load(tmp_path)) == train().predict(xgboost.DMatrix(row)).tolist()


class Trap:
    """Loaded, it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_without_trust_in_code_a_pickle_is_refused_and_not_run(tmp_path):
    sign = tmp_path / "sign"
    home = tmp_path / "model"
    home.mkdir()
    (home / "xgboost-model").write_bytes(pickle.dumps(Trap(sign)))
    with pytest.raises(LoadRefused, match="only data is trusted"):
        load(home, code=False)
    assert not sign.exists()
    with pytest.raises(LoadRefused):
        load(home)
    assert sign.exists()  # the trap does work


@pytest.mark.parametrize(
    "content",
    [pickle.dumps({"a": 1}), b"\x80\x04garbage.", pickle.dumps(train)[:-9], b"binf" + bytes(200)],
)
def test_what_holds_no_booster_is_refused_naming_no_version(tmp_path, content):
    (tmp_path / "xgboost-model").write_bytes(content)
    with pytest.raises(LoadRefused, match="Unable to load model: xgboost-model") as it:
        load(tmp_path)
    assert xgboost.__version__ not in str(it.value)


@pytest.mark.parametrize("content", [b"", b" ", b"\0" * 50, b"binf" + bytes(300), b" {}", b"[1]"])
def test_what_begins_like_no_model_never_reaches_xgboost(tmp_path, monkeypatch, content):
    (tmp_path / "xgboost-model").write_bytes(content)
    given: list[bytes] = []
    monkeypatch.setattr(xgboost.Booster, "load_model", lambda _, data: given.append(data))
    with pytest.raises(LoadRefused, match="neither JSON nor" if content else "-model is empty"):
        load(tmp_path)
    with pytest.raises(LoadRefused):
        LOADER.load_native(tmp_path, Trust(code=True))
    assert not given


@pytest.mark.parametrize(
    ("name", "is_future"), [("m.json", True), ("m.json", False), ("m.ubj", False)]
)
def test_both_versions_are_named_only_where_they_differ(tmp_path, name, is_future):
    train().save_model(tmp_path / name)
    odd = (tmp_path / name).read_bytes().replace(b"gbtree", b"gbidea")
    version = xgboost.__version__.replace(".", ",").encode()
    future = odd.replace(b"[%b]" % version, b"[9,1,0]")
    assert (future != odd) is (name == "m.json")
    (tmp_path / name).write_bytes(future if is_future else odd)
    with pytest.raises(LoadRefused) as caught:
        load(tmp_path)
    told = f"saved by xgboost 9.1.0, installed is xgboost {xgboost.__version__}"
    assert (told in str(caught.value)) is is_future
    assert (xgboost.__version__ in str(caught.value)) is is_future


def test_an_archive_without_a_file_is_refused(tmp_path):
    with pytest.raises(LoadRefused, match="no file"):
        load(tmp_path)


@pytest.mark.parametrize("form", ["json", "ubj"])
def test_the_version_is_read_from_the_bytes(form):
    assert saved_by(bytes(train().save_raw(form))) == xgboost.__version__
    assert saved_by(b"{}") is None


@pytest.mark.parametrize("booster", ["gbtree", "dart", "gblinear"])
@pytest.mark.parametrize("form", ["json", "ubj"])
def test_whole_documents_pass_the_check_and_all_pieces_fail_it(booster, form):
    document = bytes(train(rounds=2, booster=booster).save_raw(form))
    read_document(document)
    for end in range(1, len(document), 37):
        with pytest.raises(ValueError):  # noqa: PT011 - what each piece lacks differs
            read_document(document[:end])
    with pytest.raises(ValueError, match=r"follow|trailing"):
        read_document(document + b"}")


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("left_children", [5000, -1, -1], "outside"),
        ("left_children", [0, -1, -1], "outside"),
        ("right_children", [1, -1, -1], "two parents"),
        ("left_children", [-1, -1], "differ in length"),
        ("split_indices", [4, 0, 0], "feature"),
        ("parents", [2147483647, 9, 0], "parent"),
        ("id", 7, "numbered"),
        ("left_children", "x", "not a saved"),
    ],
)
def test_trees_that_lead_nowhere_never_reach_xgboost(path, value, reason):
    document = json.loads(bytes(train(rounds=1, max_depth=1).save_raw("json")))
    [tree] = document["learner"]["gradient_booster"]["model"]["trees"]
    tree[path] = value
    with pytest.raises(ValueError, match=reason):
        read_document(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("path", "value"), [("tree_info", [3]), ("tree_info", []), ("iteration_indptr", [0, 2])]
)
def test_trees_of_no_class_or_round_never_reach_xgboost(path, value):
    document = json.loads(bytes(train(rounds=1).save_raw("json")))
    document["learner"]["gradient_booster"]["model"][path] = value
    with pytest.raises(ValueError, match="belong"):
        read_document(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("num_class", "300000000", "classes"),
        ("num_target", "300000000", "classes"),
        ("num_class", "-1", "no number"),
        ("num_feature", "-1", "no number"),
        ("num_feature", "2000000000", "features"),
        ("num_feature", "1_0", "no number"),
    ],
)
@pytest.mark.parametrize("booster", ["gbtree", "dart", "gblinear"])
def test_sizes_that_nothing_in_the_document_bears_out_are_refused(booster, name, size, reason):
    document = json.loads(bytes(train(rounds=1, booster=booster).save_raw("json")))
    document["learner"]["learner_model_param"][name] = size
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=reason):
            read_document(json.dumps(document).encode())
        assert tracemalloc.get_traced_memory()[1] < 1024**2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("weights", [[0.0], [0.0] * 4, [0.0] * 6])
def test_a_linear_models_weights_are_as_many_as_its_features(weights):
    document = json.loads(bytes(train(rounds=1, booster="gblinear").save_raw("json")))
    document["learner"]["gradient_booster"]["model"]["weights"] = weights
    with pytest.raises(ValueError, match="weights"):
        read_document(json.dumps(document).encode())


def test_a_model_without_a_round_is_whole(tmp_path):
    for number, booster in enumerate(("gbtree", "dart", "gblinear")):
        classes = train(rounds=0, booster=booster, objective="multi:softprob", num_class=3)
        classes.save_model(tmp_path / "m.ubj")
        [answer] = answered(load(tmp_path))
        assert answer == pytest.approx([1 / 3] * 3), number


def categorical(form: str = "json") -> bytes:
    random = np.random.default_rng(0)
    rows, labels = random.integers(0, 20, (300, 4)), random.normal(size=300)
    table = xgboost.DMatrix(rows, labels, feature_types=["c"] * 4, enable_categorical=True)
    options = {"max_depth": 3, "max_cat_to_onehot": 1, "tree_method": "hist", "nthread": 1}
    return bytes(xgboost.train(options, table, 2).save_raw(form))


def test_whole_categorical_models_are_read(tmp_path):
    for form in ("json", "ubj"):
        (tmp_path / "m").write_bytes(categorical(form))
        booster = xgboost.Booster(model_file=bytearray(categorical(form)))
        row = np.array([[3.0, 7.0, 19.0, 0.0]])
        table = xgboost.DMatrix(row, feature_types=["c"] * 4, enable_categorical=True)
        assert json.loads(ask(load(tmp_path), b"3,7,19,0").body) == booster.predict(table).tolist()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *((name, change) for name in CATEGORIES for change in ("shorter", "empty", "negative")),
        ("categories_segments", "large"),
        ("categories_sizes", "large"),
        ("categories_nodes", "large"),
        ("categories", "large"),
        ("categories_nodes", "twice"),
    ],
)
def test_categories_that_lie_nowhere_never_reach_xgboost(name, change):
    document = json.loads(categorical())
    tree = document["learner"]["gradient_booster"]["model"]["trees"][0]
    whole = tree[name]
    changed = {"shorter": whole[:-1], "empty": [], "negative": [-5] * len(whole)}
    changed |= {"large": [2**31 - 1] * len(whole), "twice": whole[:1] * len(whole)}
    tree[name] = changed[change]
    with pytest.raises(ValueError, match="categor"):
        read_document(json.dumps(document).encode())


def test_many_large_categories_are_refused_before_there_is_room_for_them():
    document = json.loads(categorical())
    trees = document["learner"]["gradient_booster"]["model"]["trees"]
    for tree in trees:
        tree["categories"] = [2**24] * len(tree["categories"])
    read_document(json.dumps(document).encode())
    model = document["learner"]["gradient_booster"]["model"]
    model["trees"] = [{**trees[0], "id": number} for number in range(64)]
    model["tree_info"], model["iteration_indptr"] = [0] * 64, list(range(65))
    with pytest.raises(ValueError, match="too many"):
        read_document(json.dumps(document).encode())


@pytest.mark.parametrize("form", ["json", "ubj"])
def test_categories_of_a_tree_that_has_none_never_reach_xgboost(form):
    document = bytes(train(rounds=3, max_depth=1).save_raw(form))
    for name in CATEGORIES:
        empty = b'"%s":[]' % name.encode()
        for number in (1, 3):  # the latter: as many as there are nodes, in all trees alike
            some = b'"%s":%s' % (name.encode(), json.dumps([0] * number).encode())
            if form == "ubj":
                mark = document[document.index(name.encode() + b"[$") + len(name) + 2 :][:1]
                empty = name.encode() + b"[$" + mark + b"#L" + bytes(8)
                size = ubjson.NUMBERS[mark[0]][1].itemsize
                some = empty[:-1] + bytes((number,)) + bytes(size * number)
            assert document.count(empty) == 3
            with pytest.raises(ValueError, match="categories"):
                read_document(document.replace(empty, some))


def several_outputs(form: str = "json") -> bytes:
    random = np.random.default_rng(0)
    table = xgboost.DMatrix(random.normal(size=(50, 4)), random.normal(size=(50, 2)))
    options = {"multi_strategy": "multi_output_tree", "tree_method": "hist", "nthread": 1}
    return bytes(xgboost.train({**options, "max_depth": 2}, table, 3).save_raw(form))


@pytest.mark.parametrize("form", ["json", "ubj"])
def test_leaves_of_several_outputs_are_read(tmp_path, form):
    (tmp_path / "m").write_bytes(several_outputs(form))
    booster = xgboost.Booster(model_file=bytearray(several_outputs(form)))
    assert answered(load(tmp_path)) == own(booster)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("leaf_weights", None, "saved it"),  # as before 3.2
        ("leaf_weights", [0.5], "targets"),
        ("base_weights", [0.5], "length"),
        ("split_conditions", [0.5], "length"),
        ("sum_hessian", None, "not a saved"),
        ("loss_changes", None, "not a saved"),
        ("right_children", [2, 4, 6, 0, 1, 2, 9], "targets"),
        ("right_children", [2, 4, 6, 0, 1, 2, 2], "targets"),
    ],
)
def test_leaves_of_several_outputs_in_another_form_never_reach_xgboost(name, value, reason):
    document = json.loads(several_outputs())
    tree = document["learner"]["gradient_booster"]["model"]["trees"][0]
    del tree[name]
    if value is not None:
        tree[name] = value
    with pytest.raises(ValueError, match=reason):
        read_document(json.dumps(document).encode())


@given(data=st.binary(max_size=200), depth=st.integers(0, 100))
def test_ubjson_garbage_is_a_value_error_or_a_document(data, depth):
    for body in (data, b"[" * depth + data, b"{L" + data, b"[$d#L" + data):
        try:
            ubjson.decode(body)
        except ValueError:
            continue


FLIP_AND_LOAD = """
import random, sys
import numpy, xgboost
from loaders.xgboost_document import read_document
whole, choice = sys.stdin.buffer.read(), random.Random(sys.argv[1])
passed = 0
for _ in range(300):
    content = bytearray(whole)
    for _ in range(choice.choice((1, 1, 3))):
        content[choice.randrange(len(content))] = choice.randrange(256)
    try:
        read_document(bytes(content))
        booster = xgboost.Booster({"nthread": 1})
        booster.load_model(content)
        booster.inplace_predict(numpy.zeros((1, 4), "f4"), validate_features=False)
    except ValueError:
        continue
    passed += 1
print("alive", passed)
"""


@pytest.mark.parametrize("form", ["json", "ubj"])
def test_files_with_flipped_bytes_end_no_process(form):
    whole = bytes(train(rounds=2, max_depth=2).save_raw(form))
    line = [sys.executable, "-c", FLIP_AND_LOAD, "1"]
    done = subprocess.run(line, input=whole, capture_output=True, timeout=15, check=False)
    assert done.stdout.startswith(b"alive"), (done.returncode, done.stderr[-500:])


def test_a_closed_model_lets_go_of_its_trees(model):
    scorer = weakref.ref(model.members[0].scorer)
    model.close()
    assert scorer() is None


def test_it_runs_on_one_thread(tmp_path):
    train(**DART).save_model(tmp_path / "model.ubj")
    configuration = json.loads(load(tmp_path).members[0].scorer.booster.save_config())
    assert configuration["learner"]["generic_param"]["nthread"] == "1"
