"""Plain trees are scored as flat forests where that was seen to answer the same, or by XGBoost."""

from __future__ import annotations

import gc
import json
import pickle
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest
import xgboost

from loaders import forest as forests
from loaders import xgboost_files
from loaders.contract import LoadRefused, Payload, Trust
from loaders.forest import Forest
from loaders.kept_forests import KeptForests
from loaders.xgboost_files import read_booster, read_member
from loaders.xgboost_loader import LOADER, XgboostLoader
from loaders.xgboost_objectives import OBJECTIVES
from loaders.xgboost_scorers import BoosterScorer, FlatScorer, Member
from tests.models import DART

FEATURES = 6


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    """A process that has seen no model yet."""
    monkeypatch.setattr(xgboost_files, "_kinds", {})
    monkeypatch.setattr(xgboost_files, "_facts", {})


def rows_of(count, seed=0):
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, FEATURES)).astype(np.float32)
    rows[random.random(rows.shape) < 0.1] = np.nan
    return rows


def train(rounds=20, seed=0, **parameters):
    rows = rows_of(300, seed)
    labels = np.nan_to_num(rows[:, 0] * rows[:, 1]) > 0
    chosen = {"objective": "binary:logistic", "nthread": 1, **parameters}
    return xgboost.train(chosen, xgboost.DMatrix(rows, labels), rounds)


def save(booster, directory, name="model.ubj"):
    directory.mkdir(exist_ok=True)
    booster.save_model(directory / name)
    return directory / name


def test_a_table_of_any_length_is_answered_to_the_last_bit(tmp_path, monkeypatch):
    booster = train(rounds=40)
    member = read_member(save(booster, tmp_path), Trust())
    assert isinstance(member.scorer, FlatScorer)
    assert member.nbytes < (tmp_path / "model.ubj").stat().st_size / 4
    for places in (1, 700, 10**9):  # trees times rows a step
        monkeypatch.setattr(forests, "_PLACES", places)
        for count in (1, 2, 63, 500):
            wanted = booster.inplace_predict(rows_of(count, seed=1))
            found = member.scorer.predict(rows_of(count, seed=1))
            np.testing.assert_array_equal(found, wanted, strict=True)


@pytest.mark.parametrize("name", ["model.json", "model.ubj"])
def test_text_and_binary_files_make_the_same_forest(tmp_path, name):
    booster = train()
    member = read_member(save(booster, tmp_path, name), Trust())
    assert isinstance(member.scorer, FlatScorer)
    wanted = booster.inplace_predict(rows_of(50, seed=1))
    np.testing.assert_array_equal(member.scorer.predict(rows_of(50, seed=1)), wanted)


def test_a_row_that_is_infinite_or_missing_a_number_is_not_answered_alone(tmp_path):
    scorer = read_member(save(train(), tmp_path), Trust()).scorer
    assert scorer.one([1.0] * FEATURES) is not None
    assert scorer.one([float("nan")] * FEATURES) is None
    assert scorer.one([float("inf")] * FEATURES) is None
    with pytest.raises(OverflowError):
        scorer.one([1e39] * FEATURES)


def test_a_kind_that_once_answered_otherwise_is_left_to_xgboost(tmp_path, monkeypatch):
    agree = xgboost_files.agree
    monkeypatch.setattr(xgboost_files, "agree", lambda *_: False)
    for seed in (1, 2):
        path = save(train(seed=seed), tmp_path / str(seed))
        assert isinstance(read_member(path, Trust()).scorer, BoosterScorer)
        monkeypatch.setattr(xgboost_files, "agree", agree)


def test_each_kind_is_compared_with_xgboost_once(tmp_path, monkeypatch):
    compared = []
    agree = xgboost_files.agree
    monkeypatch.setattr(
        xgboost_files, "agree", lambda *asked: compared.append(asked[-1]) or agree(*asked)
    )
    for seed, objective in enumerate(("reg:squarederror", "binary:logistic") * 2):
        path = save(train(seed=seed, objective=objective), tmp_path / str(seed))
        assert isinstance(read_member(path, Trust()).scorer, FlatScorer)
    assert compared == ["reg:squarederror", "binary:logistic"]


@pytest.mark.parametrize(
    "parameters", [DART, {"booster": "gblinear"}, {"objective": "survival:cox"}]
)
@pytest.mark.filterwarnings("ignore:.*not used")
def test_what_is_none_of_ours_is_answered_by_xgboost_each_time_it_is_loaded(tmp_path, parameters):
    booster = train(**parameters)
    path = save(booster, tmp_path)
    for _ in range(2):
        member = read_member(path, Trust())
        assert isinstance(member.scorer, BoosterScorer)
        wanted = booster.predict(xgboost.DMatrix(rows_of(5)))
        np.testing.assert_array_equal(member.scorer.predict(rows_of(5)), wanted)


def weighted(directory, where, weights):
    """Plain trees with weights, where XGBoost 3.3 keeps them ("booster") or 3.4 ("model")."""
    document = json.loads(bytes(train().save_raw("json")))
    booster = document["learner"]["gradient_booster"]
    (booster if where == "booster" else booster["model"])["weight_drop"] = weights
    directory.mkdir()
    path = directory / "model.json"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("where", ["booster", "model"])
def test_weights_of_trees_are_never_passed_over(tmp_path, where):
    plain = read_member(save(train(), tmp_path), Trust())
    assert isinstance(plain.scorer, FlatScorer)  # so this kind is believed
    path = weighted(tmp_path / "weighted", where, [0.5] * 20)
    booster = xgboost.Booster(model_file=path)
    if b"weight_drop" in booster.save_raw("ubj"):  # this XGBoost knows them
        wanted = booster.predict(xgboost.DMatrix(rows_of(5)))
        np.testing.assert_array_equal(read_member(path, Trust()).scorer.predict(rows_of(5)), wanted)
        assert not np.array_equal(plain.scorer.predict(rows_of(5)), wanted)
        return
    for read in (read_member, read_booster):
        with pytest.raises(LoadRefused, match=r"dropout \(dart\), which this XGBoost"):
            read(path, Trust())


@pytest.mark.parametrize("where", ["booster", "model"])
def test_weights_that_change_nothing_may_be_passed_over(tmp_path, where):
    member = read_member(weighted(tmp_path / "weighted", where, [1.0] * 20), Trust())
    wanted = train().predict(xgboost.DMatrix(rows_of(5)))
    np.testing.assert_array_equal(member.scorer.predict(rows_of(5)), wanted)


@pytest.mark.parametrize("where", ["booster", "model"])
@pytest.mark.parametrize("count", [1, 19, 21])
def test_weights_are_as_many_as_the_trees(tmp_path, where, count):
    with pytest.raises(LoadRefused, match="trees and their weights differ in number"):
        read_member(weighted(tmp_path / "weighted", where, [0.5] * count), Trust())


def test_a_model_with_a_part_that_is_not_known_is_left_to_xgboost(tmp_path):
    save(train(), tmp_path, "model.json")
    document = json.loads((tmp_path / "model.json").read_text())
    document["learner"]["gradient_booster"]["model"]["novel"] = [1]
    (tmp_path / "model.json").write_text(json.dumps(document))
    assert isinstance(read_member(tmp_path / "model.json", Trust()).scorer, BoosterScorer)


@pytest.mark.parametrize("objective", ["binary:logistic", "reg:logistic", "count:poisson"])
def test_several_labels_are_answered_together_and_alone(tmp_path, objective):
    rows = np.nan_to_num(rows_of(300))
    table = xgboost.DMatrix(rows, rows[:, :2] > 0)
    booster = xgboost.train({"objective": objective, "nthread": 1}, table, 5)
    scorer = read_member(save(booster, tmp_path), Trust()).scorer
    assert isinstance(scorer, FlatScorer)
    wanted = booster.inplace_predict(rows)
    np.testing.assert_array_equal(scorer.predict(rows), wanted, strict=True)
    np.testing.assert_array_equal(scorer.one(rows[0].tolist()), wanted[:1], strict=True)


def test_a_kind_whose_comparison_fails_is_left_to_xgboost(tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("no answer")

    monkeypatch.setattr(xgboost_files, "agree", fail)
    assert isinstance(read_member(save(train(), tmp_path), Trust()).scorer, BoosterScorer)


def test_very_deep_trees_are_left_to_xgboost(tmp_path, monkeypatch):
    path = save(train(rounds=3, max_depth=4), tmp_path)
    for deepest, kind in ((4, FlatScorer), (3, BoosterScorer)):
        monkeypatch.setattr(xgboost_files, "_DEEPEST", deepest)
        assert isinstance(read_member(path, Trust()).scorer, kind)


def test_a_model_that_says_it_has_millions_of_features_is_left_to_xgboost(tmp_path):
    path = save(train(), tmp_path, "model.json")
    text = path.read_text().replace(f'"num_feature":"{FEATURES}"', '"num_feature":"9000000"')
    path.write_text(text)
    assert isinstance(read_member(path, Trust()).scorer, BoosterScorer)


def test_an_ensemble_of_a_forest_and_a_booster_is_averaged(tmp_path):
    boosters = [train(seed=1), train(seed=2, **DART)]
    for place, booster in enumerate(boosters):
        save(booster, tmp_path, f"{place}.ubj")
    row = np.ones((1, FEATURES), np.float32)
    wanted = np.mean([each.predict(xgboost.DMatrix(row)) for each in boosters], axis=0)
    [answer] = LOADER.load(tmp_path, Trust()).predict(
        [Payload(b"1,1,1,1,1,1", "text/csv", "application/json")]
    )
    assert json.loads(answer.body) == [pytest.approx(wanted[0], abs=1e-7)]


def test_a_pickle_is_asked_as_it_was_saved(tmp_path):
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(train()))
    assert isinstance(read_member(tmp_path / "model.pkl", Trust()).scorer, BoosterScorer)


def test_an_unloaded_model_comes_back_from_what_was_kept_and_answers_the_same(tmp_path):
    loader, payload = XgboostLoader(), Payload(b"1,2,3,4,5,6\n0,,1,,1,0", "text/csv", "text/csv")
    models = tmp_path / "models"
    save(train(seed=1), models, "a.ubj")
    save(train(seed=2), models, "b.ubj")  # an ensemble
    model = loader.load(models, Trust())
    before = model.predict([payload])
    assert not loader.keep("here", model)  # nowhere to keep it
    assert loader.load_kept("here") is None
    loader.keep_in(tmp_path)
    assert loader.keep("here", model)
    model.close()
    again = loader.load_kept("here")
    assert again.predict([payload]) == before
    assert again.nbytes() > 0
    assert loader.load_kept("there") is None


def test_an_ensemble_with_a_booster_is_not_kept(tmp_path):
    loader = XgboostLoader()
    loader.keep_in(tmp_path)
    save(train(seed=1), tmp_path / "models", "a.ubj")
    save(train(seed=2, **DART), tmp_path / "models", "b.ubj")
    assert not loader.keep("here", loader.load(tmp_path / "models", Trust()))
    assert loader.load_kept("here") is None


def test_kept_forests_take_no_more_than_they_may_and_the_least_asked_for_goes_first(tmp_path):
    members = [
        read_member(save(train(seed=seed), tmp_path / str(seed)), Trust()) for seed in range(3)
    ]
    directory = tmp_path / "kept"
    directory.mkdir()
    sample = KeptForests(directory)
    sample.keep("sample", members[:1])
    [path] = directory.iterdir()
    size_bytes = path.stat().st_size
    path.unlink()
    kept = KeptForests(directory, limit_bytes=int(2.5 * size_bytes))
    for name in (0, 1):
        kept.keep(str(name), [members[name]])
    assert kept.find("0") is not None
    kept.keep("2", [members[2]])
    assert [kept.find(str(name)) is not None for name in range(3)] == [True, False, True]
    assert sum(each.stat().st_size for each in directory.iterdir()) <= 2.5 * size_bytes


def test_forests_of_any_size_and_width_come_back_node_by_node(tmp_path):
    random = np.random.default_rng(0)
    members = [
        Member(
            width=width,
            objective="reg:squarederror",
            classes=0,
            outputs=(-1,),
            scorer=FlatScorer(
                Forest(
                    width=width,
                    base=(0.5,),
                    roots=1,
                    depth=1,
                    side=random.integers(0, width, nodes).astype(np.min_scalar_type(2 * width)),
                    value=random.random(nodes, np.float32),
                    left=random.integers(0, nodes, nodes).astype(np.min_scalar_type(nodes)),
                ),
                OBJECTIVES["reg:squarederror"][1],
            ),
        )
        for width, nodes in ((3, 1), (200, 3), (3, 301), (40_000, 7), (3, 70_001), (3, 5))
    ]
    kept = KeptForests(tmp_path)
    assert kept.keep("here", members)
    for found, wanted in zip(kept.find("here"), members, strict=True):
        assert found.scorer.forest.width == wanted.scorer.forest.width
        for name in ("side", "value", "left"):
            array = getattr(found.scorer.forest, name)
            assert array.flags.aligned
            np.testing.assert_array_equal(array, getattr(wanted.scorer.forest, name), strict=True)


def test_only_flat_forests_can_be_kept_and_only_where_there_is_a_directory(tmp_path):
    flat = read_member(save(train(), tmp_path / "flat"), Trust())
    dart = read_member(save(train(**DART), tmp_path / "dart"), Trust())
    kept = KeptForests(tmp_path)
    assert kept.can_keep([flat, flat])
    assert not any(map(kept.can_keep, ([flat, dart], [dart], [])))
    assert not KeptForests().can_keep([flat])
    loader, model = XgboostLoader(), XgboostLoader().load(tmp_path / "flat", Trust())
    assert not loader.can_keep(model)
    loader.keep_in(tmp_path)
    assert loader.can_keep(model)
    assert not loader.can_keep(object())


def test_what_was_compiled_since_is_not_told_to_be_kept(tmp_path):
    member = read_member(save(train(), tmp_path / "models"), Trust())
    kept = KeptForests(tmp_path)
    assert kept.keep("here", [member])
    compiled = msgspec.structs.replace(member, scorer=object())
    assert not kept.keep("here", [compiled])
    assert kept.find("here") is not None


def test_models_alike_answer_for_themselves_in_two_threads_at_once(tmp_path):
    models = []
    for seed in range(2):
        save(train(seed=seed), tmp_path / str(seed))
        models.append(LOADER.load(tmp_path / str(seed), Trust()))
    payloads = [Payload(b"1,2,3,4,5,6\n6,5,4,3,2,1", "text/csv", "text/csv")]
    wanted = [model.predict(payloads) for model in models]
    assert wanted[0] != wanted[1]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda model: [model.predict(payloads) for _ in range(300)], models))
    assert found == [[each] * 300 for each in wanted]


def test_a_model_that_is_dropped_goes_at_once_and_leaves_no_garbage(tmp_path):
    save(train(), tmp_path)
    model = LOADER.load(tmp_path, Trust())
    model.predict([Payload(b"1,2,3,4,5,6", "text/csv")])
    gone = threading.Event()
    weakref.finalize(model.members[0].scorer, gone.set)
    gc.disable()
    try:
        del model
        assert gone.is_set()
    finally:
        gc.enable()


def test_a_kept_forest_that_was_deleted_or_cut_is_none(tmp_path):
    member = read_member(save(train(), tmp_path / "models"), Trust())
    directory = tmp_path / "kept"
    directory.mkdir()
    kept = KeptForests(directory)
    for spoil in (lambda path: path.unlink(), lambda path: path.write_bytes(b"\x9b")):
        kept.keep("here", [member])
        assert kept.find("here") is not None
        [path] = directory.iterdir()
        spoil(path)
        assert kept.find("here") is None
        assert kept.find("here") is None


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path):
    member = read_member(save(train(), tmp_path / "models"), Trust())
    kept = KeptForests(tmp_path / "absent")
    kept.keep("here", [member])
    assert kept.find("here") is None
