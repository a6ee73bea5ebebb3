"""Models of named arrays: what is run together, and how several outputs are written."""

from __future__ import annotations

import json

import numpy as np

from loaders.contract import Answer, Payload, PredictionRaised
from loaders.input_specs import InputSpec
from loaders.tensors import TensorPredictor

SPECS = (
    InputSpec(name="x", dtype=np.dtype("f4"), shape=(None, 2)),
    InputSpec(name="y", dtype=np.dtype("f4"), shape=(None,)),
)


class Sums:
    """Adds up its inputs; remembers how many rows each run had."""

    def __init__(self, forbidden: float | None = None) -> None:
        self.runs: list[int] = []
        self.forbidden = forbidden

    def run(self, feed):
        self.runs.append(len(feed["x"]))
        if self.forbidden in feed["y"]:
            raise PredictionRaised("not this one")
        return {"sum": feed["x"].sum(axis=1) + feed["y"], "rows": np.arange(len(feed["y"]))}


def ask(*pairs: tuple[list[list[float]], list[float]], accept: str | None = None) -> list[Payload]:
    return [
        Payload(json.dumps({"inputs": {"x": x, "y": y}}).encode(), None, accept) for x, y in pairs
    ]


def sums(results) -> list:
    return [json.loads(r.body)["sum"] if isinstance(r, Answer) else r.status for r in results]


def predictor(model: Sums, **more: bool) -> TensorPredictor:
    return TensorPredictor(specs=SPECS, run=model.run, tabular=False, **more)


def test_independent_rows_of_several_inputs_run_together():
    model = Sums()
    answers = predictor(model, independent=True).predict(
        ask(([[1, 2]], [3]), ([[1, 1], [2, 2]], [0, 1]), ([[1, 2]], [3]))
    )
    assert sums(answers) == [[6], [2, 5], [6]]
    assert model.runs == [4]


def test_rows_not_known_to_be_independent_run_alone():
    model = Sums()
    predictor(model).predict(ask(([[1, 2]], [3]), ([[1, 2]], [3])))
    assert model.runs == [1, 1]


def test_where_the_joint_run_fails_only_the_culprit_does():
    model = Sums(forbidden=9)
    answers = predictor(model, independent=True).predict(
        ask(([[1, 2]], [3]), ([[1, 2]], [9]), ([[1, 2]], [4]))
    )
    assert sums(answers) == [[6], 500, [7]]


def test_a_payload_whose_inputs_differ_in_rows_is_not_joined():
    model = Sums()
    answers = predictor(model, independent=True).predict(
        ask(([[1, 2], [3, 4]], [1]), ([[1, 2]], [3]))
    )
    assert sums(answers) == [[4, 8], [6]]
    assert model.runs == [2, 1]


def test_outputs_that_are_no_row_for_a_row_are_not_split():
    model = TensorPredictor(
        specs=SPECS[:1], run=lambda feed: {"mean": feed["x"].mean(axis=0)}, independent=True
    )
    first, second = model.predict([Payload(b"[[1,2],[3,4]]"), Payload(b"[[5,6],[7,8]]")])
    assert (first.body, second.body) == (b"[2.0,3.0]", b"[6.0,7.0]")


def test_several_outputs_are_an_object_or_an_object_a_line():
    asked = ask(([[1, 2], [3, 4]], [1, 1]))
    [answer] = predictor(Sums()).predict(asked)
    assert answer.body == b'{"sum":[4.0,8.0],"rows":[0,1]}'
    [answer] = predictor(Sums()).predict(
        ask(([[1, 2], [3, 4]], [1, 1]), accept="application/jsonlines")
    )
    assert answer.body == b'{"sum":4.0,"rows":0}\n{"sum":8.0,"rows":1}\n'


def test_formats_without_names_are_refused_for_several_outputs():
    for tabular, accept in ((False, "text/csv"), (True, "text/csv"), (True, "application/x-npy")):
        model = TensorPredictor(specs=SPECS, run=Sums().run, tabular=tabular)
        [fault] = model.predict(ask(([[1, 2]], [3]), accept=accept))
        assert fault.status == 406
        assert "application/json" in str(fault)


def test_tensorflow_servings_envelope_follows_the_form_of_the_request():
    model = TensorPredictor(specs=SPECS, run=Sums().run, tabular=False, enveloped=True)
    by_rows = Payload(b'{"instances": [{"x": [1, 2], "y": 3}]}')
    [answer] = model.predict([by_rows])
    assert answer.body == b'{"predictions":[{"sum":6.0,"rows":0}]}'
    [answer] = model.predict(ask(([[1, 2]], [3])))
    assert answer.body == b'{"outputs":{"sum":[6.0],"rows":[0]}}'
