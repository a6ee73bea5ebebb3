"""XGBoost's C call: bit for bit what `inplace_predict` gives, or not used at all."""

from __future__ import annotations

import numpy as np
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from loaders import xgboost_call
from loaders.xgboost_call import DirectCall, direct_call
from loaders.xgboost_files import booster_member

FEATURES = 4
KINDS = {
    "reg:squarederror": {},
    "binary:logistic": {},
    "binary:hinge": {},
    "multi:softmax": {"num_class": 3},
    "multi:softprob": {"num_class": 3},
    "count:poisson": {"base_score": 0.7},
}


def train(objective: str, **more) -> xgboost.Booster:
    random = np.random.default_rng(7)
    rows = random.normal(size=(300, FEATURES))
    rows[random.random(rows.shape) < 0.1] = np.nan
    labels = random.integers(0, 3 if "num_class" in more else 2, 300)
    parameters = {"objective": objective, "nthread": 1, **more}
    return xgboost.train(parameters, xgboost.DMatrix(rows, labels), 7)


BOOSTERS = {objective: train(objective, **more) for objective, more in KINDS.items()}


@settings(max_examples=60)
@given(
    objective=st.sampled_from(list(KINDS)),
    rounds=st.sampled_from([(0, 0), (0, 3)]),
    missing=st.sampled_from([np.nan, -1.0]),
    rows=st.integers(1, 70).flatmap(
        lambda count: arrays(
            np.float32,
            (count, FEATURES),
            elements=st.floats(width=32, allow_infinity=False) | st.just(-1.0),
            fill=st.just(0.5),
        )
    ),
)
def test_it_gives_every_bit_that_inplace_predict_gives(objective, rounds, missing, rows):
    booster = BOOSTERS[objective]
    wanted = booster.inplace_predict(rows, iteration_range=rounds, missing=missing)
    found = DirectCall(booster, rounds, missing)(rows)
    np.testing.assert_array_equal(found, wanted, strict=True)


@settings(max_examples=60)
@given(
    objective=st.sampled_from(list(KINDS)),
    missing=st.sampled_from([np.nan, -1.0]),
    numbers=st.lists(
        st.floats(-3e38, 3e38) | st.sampled_from([-1.0, np.nan, 0.1]),
        min_size=FEATURES,
        max_size=FEATURES,
    ),
)
def test_a_lone_row_gives_every_bit_that_an_array_of_it_gives(objective, missing, numbers):
    call = DirectCall(BOOSTERS[objective], (0, 0), missing)
    wanted = call(np.array([numbers]).astype(np.float32))
    np.testing.assert_array_equal(call.one(numbers), wanted, strict=True)


def test_a_lone_number_too_large_for_xgboost_is_not_taken_for_infinite():
    call = DirectCall(BOOSTERS["reg:squarederror"], (0, 0), np.nan)
    with pytest.raises(OverflowError):
        call.one([0.0, 1e39, 0.0, 0.0])


def test_an_answer_is_not_changed_by_the_next_one():
    call = DirectCall(BOOSTERS["reg:squarederror"], (0, 0), np.nan)
    first = call(np.zeros((2, FEATURES), np.float32))
    before = first.copy()
    call(np.full((2, FEATURES), 3, np.float32))
    np.testing.assert_array_equal(first, before)


@pytest.mark.parametrize("rows", [np.zeros((6, FEATURES)).T[:4].T, np.zeros((9, FEATURES))[::2]])
def test_rows_of_any_layout_are_read_rightly(rows):
    rows = rows.astype(np.float32, order="K")
    rows += np.arange(rows.size, dtype=np.float32).reshape(rows.shape)
    booster = BOOSTERS["reg:squarederror"]
    found = DirectCall(booster, (0, 0), np.nan)(rows)
    np.testing.assert_array_equal(found, booster.inplace_predict(rows.copy()))


def test_what_xgboost_refuses_is_its_own_error():
    call = DirectCall(BOOSTERS["reg:squarederror"], (0, 0), np.nan)
    with pytest.raises(xgboost.core.XGBoostError, match="columns"):
        call(np.zeros((1, FEATURES + 5), np.float32))


def one_bit_off(_, rows):
    return np.nextafter(BOOSTERS["reg:squarederror"].inplace_predict(rows), np.float32(9))


def another_interface(_, rows):
    raise xgboost.core.XGBoostError("Unknown argument")


@pytest.mark.parametrize("other", [one_bit_off, another_interface])
def test_a_call_that_differs_in_a_bit_or_fails_is_not_used(monkeypatch, other):
    monkeypatch.setattr(xgboost_call, "_verdicts", {})
    monkeypatch.setattr(DirectCall, "__call__", other)
    assert direct_call(BOOSTERS["reg:squarederror"], (0, 0), np.nan, dimensions=1) is None


def test_an_xgboost_without_such_a_library_is_asked_the_usual_way(monkeypatch):
    monkeypatch.setattr(xgboost_call, "_verdicts", {})
    monkeypatch.setattr(xgboost_call, "_library", None)
    assert direct_call(BOOSTERS["reg:squarederror"], (0, 0), np.nan, dimensions=1) is None


def test_without_the_call_a_model_answers_the_same(monkeypatch):
    booster = BOOSTERS["binary:logistic"]
    rows = np.array([[1, 2, np.nan, 4], [5, 6, 7, 8]], np.float32)
    fast = booster_member(booster).scorer
    assert fast.direct is not None
    monkeypatch.setattr(xgboost_call, "_verdicts", {1: False})
    slow = booster_member(booster).scorer
    assert slow.direct is None
    np.testing.assert_array_equal(slow.predict(rows), fast.predict(rows), strict=True)
    np.testing.assert_array_equal(slow.margins(rows), fast.margins(rows), strict=True)


def test_rows_that_lie_at_an_odd_address_are_predicted_too():
    booster = BOOSTERS["reg:squarederror"]
    odd = np.frombuffer(b"\0" + np.ones((3, FEATURES), np.float32).tobytes(), np.uint8)[1:]
    rows = odd.view(np.float32).reshape(3, FEATURES)
    assert not rows.flags.aligned
    wanted = booster.inplace_predict(rows.copy())
    np.testing.assert_array_equal(DirectCall(booster, (0, 0), np.nan)(rows), wanted, strict=True)
