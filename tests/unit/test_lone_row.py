"""A lone plain row is answered without an array, just as it would be with one."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loaders.codecs import DECODERS
from loaders.contract import BadPayload, ModelFault, Payload
from loaders.input_specs import InputSpec
from loaders.rows import RowPredictor
from loaders.tensors import TensorPredictor

WIDTH = 3


class Sums:
    """A model that adds up its features, in single precision, and counts how it was asked."""

    def __init__(self) -> None:
        self.runs = self.ones = 0

    def run(self, rows):
        self.runs += 1
        if np.isinf(rows).any():
            raise BadPayload("infinite")
        with np.errstate(over="ignore"):
            return rows.sum(axis=1)

    def one(self, numbers):
        self.ones += 1
        row = np.array(numbers, np.float64)
        if (abs(row) > np.finfo(np.float32).max).any():
            return None
        with np.errstate(over="ignore"):
            return row.astype(np.float32)[None].sum(axis=1)


def told(answer) -> object:
    if isinstance(answer, ModelFault):
        return type(answer), str(answer)
    return answer.body, answer.content_type


def every_way(payload: Payload) -> list[object]:
    """What one predictor answers with a way for one row, without, and to two of the same."""
    model = Sums()
    usual = RowPredictor(width=WIDTH, run=model.run, joins=False)
    quick = dataclasses.replace(usual, one=model.one)
    two = usual.predict([payload, payload])
    return [told(answer) for answer in (*quick.predict([payload]), *usual.predict([payload]), *two)]


SPECS = (
    InputSpec(name="x"),
    InputSpec(name="x", dtype=np.dtype(np.float32), shape=(None, WIDTH)),
    InputSpec(name="x", dtype=np.dtype(np.float32), shape=(WIDTH,)),
    InputSpec(name="x", dtype=np.dtype(np.int64), shape=(None, WIDTH)),
)


def add(feed):
    return {"sum": feed["x"].sum(axis=-1)}


_PIECES = ["1", "-2.5", "1e3", "1e300", "1e999", "", " ", ",", "\n", "\r\n", "\t", "[", "]", '"2"']
_TEXTS = st.lists(st.sampled_from([*_PIECES, ",", ",", "nan", "null", "inf", "1_0"]), max_size=9)
_HEADERS = ["text/csv", "application/json", "text/csv; charset=utf-16", "text/csv; label_size=2",
            "csv", "application/x-npy", "text/html", None]  # fmt: skip


@given(
    text=_TEXTS.map("".join),
    content_type=st.sampled_from(_HEADERS),
    accept=st.sampled_from([None, "text/csv", "application/x-npy", "text/html", "*/*;q=0.1"]),
)
@example(text="1,2\n,3", content_type="text/csv", accept=None)
@example(text="1,2,3\n", content_type="text/csv", accept=None)
@example(text="[1,2],3", content_type="text/csv", accept=None)
@example(text="[[1,2,3]]", content_type="application/json", accept="text/csv")
@example(text="[[1,2,3],[4,5,6]]", content_type="application/json", accept=None)
@example(text="[1,2,3]", content_type="application/json", accept=None)
@example(text="[]", content_type="application/json", accept=None)
@example(text="1,2,1e300", content_type="text/csv", accept=None)
def test_any_body_gets_the_answer_that_it_gets_without_a_short_way(text, content_type, accept):
    assert len(set(every_way(Payload(text.encode(), content_type, accept)))) == 1


@given(numbers=st.lists(st.floats(width=32), min_size=WIDTH, max_size=WIDTH))
def test_any_numbers_do_too(numbers):
    rows = json.dumps([numbers]).encode()
    assert len(set(every_way(Payload(rows, "application/json")))) == 1


@pytest.mark.parametrize(
    ("body", "content_type"), [(b" 1,2,3\n", "text/csv"), (b"[[1, 2, 3]]", "application/json")]
)
def test_a_plain_row_is_never_an_array(body, content_type):
    model = Sums()
    predictor = RowPredictor(width=WIDTH, run=model.run, one=model.one)
    for _ in range(3):
        predictor.predict([Payload(body, content_type)])
    assert (model.ones, model.runs) == (3, 0)


def test_where_cells_of_csv_may_be_texts_the_models_own_reader_reads_them():
    asked = []

    def decode_csv(body, _):
        asked.append(body)
        return np.array([[1.0, 2.0, 3.0]])

    decoders = {**DECODERS, "csv": decode_csv}
    predictor = RowPredictor(width=WIDTH, run=Sums().run, decoders=decoders)
    predictor.predict([Payload(b"1,2,3", "text/csv")])
    assert asked == [b"1,2,3"]


def test_several_are_run_together():
    model = Sums()
    predictor = RowPredictor(width=WIDTH, run=model.run, one=model.one)
    predictor.predict([Payload(b"1,2,3", "text/csv")] * 4)
    assert (model.ones, model.runs) == (0, 1)


@given(
    text=_TEXTS.map("".join),
    content_type=st.sampled_from(_HEADERS),
    accept=st.sampled_from([None, "text/csv", "application/jsonlines", "text/html"]),
    spec=st.sampled_from(SPECS),
    enveloped=st.booleans(),
)
@example("1,2,3", "text/csv", None, SPECS[0], False)
@example("1,2,3", "text/csv", "text/csv", SPECS[1], True)
@example("1,2", "text/csv", None, SPECS[1], False)
@example("[[1,2.5,1e300]]", "application/json", None, SPECS[1], False)
@example("[[1,2,3]]", "application/json", None, SPECS[2], False)
@example("[[1,2,3]]", "application/json", None, SPECS[3], False)
def test_models_of_tensors_answer_a_lone_row_as_they_do_two(
    text, content_type, accept, spec, enveloped
):
    predictor = TensorPredictor(specs=(spec,), run=add, enveloped=enveloped)
    payload = Payload(text.encode(), content_type, accept)
    first, second = predictor.predict([payload, payload])
    assert told(predictor.predict([payload])[0]) == told(first) == told(second)
