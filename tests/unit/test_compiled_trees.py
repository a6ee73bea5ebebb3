"""Compiled trees answer what XGBoost answers, to the last bit of their sums, or not at all."""

from __future__ import annotations

import io
import tempfile
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np
import pytest
import xgboost
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from loaders.compiled_call import CompiledCall, prepare
from loaders.contract import Compilable, NotCompilable, Payload, Trust
from loaders.forest import Forest
from loaders.hot_rows import HOT_CALLS, HotRows
from loaders.xgboost_comparison import agree, rows_to_compare
from loaders.xgboost_compiled import compile_member
from loaders.xgboost_document import read_document
from loaders.xgboost_files import booster_member
from loaders.xgboost_forest import read_forest
from loaders.xgboost_loader import LOADER, XgboostModel
from loaders.xgboost_objectives import Transform
from loaders.xgboost_scorers import FlatScorer
from tests.models import DART

FEATURES = 5
OBJECTIVES = (
    "reg:squarederror", "reg:squaredlogerror", "reg:pseudohubererror", "reg:absoluteerror",
    "rank:pairwise", "reg:logistic", "binary:logistic", "binary:logitraw", "binary:hinge",
    "count:poisson", "reg:gamma", "reg:tweedie", "multi:softprob", "multi:softmax",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def runtime():
    prepare()


def table(seed, count=120, missing=0.2):
    """Rows of few different values, so that rows to be scored lie on splits, too."""
    random = np.random.default_rng(seed)
    rows = random.integers(-4, 5, (count, FEATURES)).astype(np.float32) / 3
    rows[random.random(rows.shape) < missing] = np.nan
    return rows


def train(objective, seed=0, rounds=6, missing=0.2, **parameters):
    rows, random = table(seed, missing=missing), np.random.default_rng(seed)
    labels = np.nan_to_num(rows).sum(axis=1) + random.random(len(rows))
    if objective.startswith("multi:"):
        parameters["num_class"] = 3
        labels = np.digitize(labels, [-0.5, 1])
    elif objective not in {"reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror"}:
        labels = (labels > 0.3).astype(float) + (0.5 if objective == "reg:gamma" else 0)
    extra = {"qid": np.arange(len(rows)) // 10} if objective.startswith("rank") else {}
    chosen = {"objective": objective, "max_depth": 4, "nthread": 1, "seed": seed, **parameters}
    return xgboost.train(chosen, xgboost.DMatrix(rows, labels, **extra), rounds)


def read(booster):
    return read_forest(read_document(bytes(booster.save_raw("ubj"))))


def member(booster):
    """As it is loaded where flat forests are believed."""
    return msgspec.structs.replace(booster_member(booster), scorer=FlatScorer(*read(booster)))


def sums(booster, rows, **how):
    found = booster.inplace_predict(rows, predict_type="margin", **how)
    return found.reshape(len(rows), -1)


def one(scorer, row):
    answer = scorer.one(row.tolist())
    return scorer.predict(row[None]) if answer is None else answer


def assert_same(booster, compiled, rows, **how):
    wanted = booster.inplace_predict(rows, **how)
    assert np.array_equal(compiled.margins(rows), sums(booster, rows, **how))
    assert np.array_equal(compiled.predict(rows), wanted)
    alone = np.concatenate([one(compiled, row) for row in rows[:20]])
    assert np.array_equal(alone, compiled.predict(rows[:20]))
    assert alone.dtype == wanted.dtype


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_sums_up_to_the_same_bit_and_answers_the_same(objective):
    booster = train(objective)
    compiled = compile_member(member(booster), table(1)[:64])
    assert_same(booster, compiled, table(2))


@example(  # whose log odds the C library rounds otherwise
    seed=0,
    objective="binary:logistic",
    rounds=1,
    depth=0,
    base=0.4550641861599483,
    missing=0.0,
    parallel=1,
)
@given(
    seed=st.integers(0, 10_000),
    objective=st.sampled_from(("reg:squarederror", "binary:logistic", "multi:softprob")),
    rounds=st.integers(1, 8),
    depth=st.integers(0, 6),
    base=st.one_of(st.none(), st.floats(0.01, 0.99)),
    missing=st.sampled_from((0.0, 0.2, 0.9)),
    parallel=st.integers(1, 3),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_forest_answers_the_same_on_splits_and_with_features_missing(
    seed, objective, rounds, depth, base, missing, parallel
):
    extra = {} if base is None else {"base_score": base}
    booster = train(
        objective, seed, rounds, missing, max_depth=depth or 1, num_parallel_tree=parallel,
        gamma=0 if depth else 1e9, **extra,
    )  # fmt: skip
    forest, transform = read(booster)
    rows = rows_to_compare(forest, table(seed + 1))
    assert_same(booster, FlatScorer(forest, transform), rows)
    assert_same(booster, CompiledCall(forest, transform), rows)


def test_pruned_trees_several_targets_and_the_best_rounds_answer_the_same():
    pruned = train("reg:squarederror", rounds=10, tree_method="exact", gamma=1.0)
    assert_same(pruned, compile_member(member(pruned), table(1)[:5]), table(2))
    rows = table(0)
    labels = np.nan_to_num(rows[:, :3])
    several = xgboost.train({"max_depth": 3, "nthread": 1}, xgboost.DMatrix(rows, labels), 5)
    assert_same(several, compile_member(member(several), table(1)), table(2))
    best = train("reg:squarederror", rounds=10)
    best.set_attr(best_iteration="3")
    compiled = compile_member(member(best), table(1))
    assert_same(best, compiled, table(2), iteration_range=(0, 4))
    assert not np.array_equal(compiled.margins(rows), sums(best, rows))


def refused():
    rows, labels = table(0), np.arange(120) % 2
    yield train("survival:cox")
    yield train("reg:squarederror", **DART)
    yield train("reg:squarederror", booster="gblinear", max_depth=None)
    yield xgboost.train(
        {"multi_strategy": "multi_output_tree", "tree_method": "hist", "nthread": 1},
        xgboost.DMatrix(rows, np.stack([labels, 1 - labels], axis=1)), 2,
    )  # fmt: skip
    categories = np.abs(np.nan_to_num(rows)).round()
    types = ["c"] * FEATURES
    table_of_types = xgboost.DMatrix(
        categories, labels, feature_types=types, enable_categorical=True
    )
    yield xgboost.train({"tree_method": "hist", "nthread": 1}, table_of_types, 2)


@pytest.mark.filterwarnings("ignore:.*not used")
def test_what_is_not_surely_the_same_is_refused():
    for booster in refused():
        with pytest.raises(NotCompilable):
            read(booster)
        with pytest.raises(NotCompilable):
            compile_member(booster_member(booster), table(1))


def test_one_split_leaf_or_default_that_differs_is_found_out():
    booster = train("reg:squarederror")
    original = booster_member(booster).scorer
    forest, transform = read(booster)
    leaf = forest.side == forest.leaf_side
    inner = np.flatnonzero(~leaf)
    split, weight, default = forest.value.copy(), forest.value.copy(), forest.side.copy()
    split[inner[-1]] = np.nextafter(split[inner[-1]], np.float32(9))
    weight[np.flatnonzero(leaf)[0]] += 1e-4
    default[inner[0]] = (default[inner[0]] + forest.width) % forest.leaf_side
    rows = rows_to_compare(forest, table(1)[:64])
    for kind in (FlatScorer, CompiledCall):
        assert agree(original, kind(forest, transform), rows, "reg:squarederror")
        for changes in ({"value": split}, {"value": weight}, {"side": default}):
            other = kind(msgspec.structs.replace(forest, **changes), transform)
            assert not agree(original, other, rows, "reg:squarederror")


def test_a_sum_that_differs_by_the_last_bit_is_found_out():
    booster = train("multi:softmax")
    forest, transform = read(booster)
    base = tuple(score + 1e-7 for score in forest.base)
    rows = rows_to_compare(forest, table(1))
    for kind in (FlatScorer, CompiledCall):
        other = kind(msgspec.structs.replace(forest, base=base), transform)
        assert not agree(booster_member(booster).scorer, other, rows, "multi:softmax")


def test_a_forest_without_rows_asked_or_without_splits_is_compared_all_the_same():
    forest = Forest(
        width=2, base=(0.5,), roots=1, depth=0, side=np.array([4], np.uint8),
        value=np.array([2.5], np.float32), left=np.array([0], np.uint8),
    )  # fmt: skip
    rows = rows_to_compare(forest, np.empty((0,), np.float32))
    assert rows.shape[1] == 2
    assert np.isnan(rows[-1]).all()
    for kind in (FlatScorer, CompiledCall):
        sums = kind(forest, Transform(np.copy)).predict(rows)
        assert sums.ravel().tolist() == [3.0] * len(rows)


def ask_lone_rows(model, count=HOT_CALLS):
    payload = csv(table(3, 1))
    for _ in range(count):
        model.predict([payload])


def test_a_model_is_hot_after_enough_calls_and_keeps_the_last_rows():
    hot = HotRows()
    for _ in range(HOT_CALLS - 2):
        hot.note([[0.0, 0.0, 0.0]])
    hot.note([[1.0, 2.0, 3.0]])
    assert not hot.is_due
    hot.note(np.full((1, 3), 7, np.float32))
    assert hot.is_due
    assert hot.table()[-2:].tolist() == [[1.0, 2.0, 3.0], [7.0, 7.0, 7.0]]
    assert len(hot.table()) == 64
    hot.postpone()
    assert not hot.is_due
    for _ in range(HOT_CALLS):
        hot.note([[0.0, 0.0, 0.0]])
    assert hot.is_due


def test_a_model_that_is_asked_by_large_tables_is_never_hot():
    hot = HotRows()
    for _ in range(HOT_CALLS):
        for _ in range(4):
            hot.note([[0.0]])
        hot.note(np.zeros((1_000, 1), np.float32))
    assert not hot.is_due


@lru_cache(maxsize=1)
def saved():
    return bytes(train("binary:logistic", rounds=20).save_raw("ubj"))


def load() -> XgboostModel:
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "xgboost-model").write_bytes(saved())
        model = LOADER.load(Path(directory), Trust())
    assert isinstance(model, XgboostModel)
    return model


def csv(rows):
    buffer = io.StringIO()
    np.savetxt(buffer, np.nan_to_num(rows), delimiter=",")
    return Payload(buffer.getvalue().encode(), "text/csv", "text/csv")


def numbers(answer):
    return [float(cell) for cell in answer.body.decode().replace("\n", ",").split(",")]


def test_a_loaded_model_becomes_what_it_was_compiled_to_and_lets_its_trees_go():
    model = load()
    assert isinstance(model, Compilable)
    assert model.due_bytes() == 0
    model.count_rows()
    payloads = [csv(table(seed)) for seed in range(10)] + [csv(table(3)[:1])]
    before = [numbers(model.predict([payload])[0]) for payload in payloads]
    ask_lone_rows(model)
    assert model.due_bytes() > len(saved())
    gone = model.become(model.compile())
    assert gone.is_set()
    assert model.due_bytes() == 0
    after = [numbers(model.predict([payload])[0]) for payload in payloads]
    for found, wanted in zip(after, before, strict=True):
        assert found == pytest.approx(wanted, rel=1e-6, abs=1e-6)
    [fault] = model.predict([csv(np.full((1, FEATURES), 1e39))])
    assert "infinite" in str(fault)
    model.close()


def test_a_model_that_was_refused_is_never_due_again():
    model = load()
    model.count_rows()
    ask_lone_rows(model)
    assert model.due_bytes()
    [only] = model.members
    booster = booster_member(train("binary:logistic"))
    model.members = (msgspec.structs.replace(only, scorer=booster.scorer),)
    with pytest.raises(NotCompilable):
        model.compile()
    ask_lone_rows(model)
    assert model.due_bytes() == 0
