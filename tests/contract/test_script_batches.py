"""Scripts that say that rows are independent: predicted together, and answered as each alone."""

from __future__ import annotations

import json

import pytest

from loaders.contract import Answer, LoadRefused, Payload, ScriptFault
from tests.scripts import load, write_script

SCRIPT = """
import numpy, sys
rows_independent = {said}
calls = []

def model_fn(model_dir):
    return calls

def input_fn(data, content_type):
    rows = numpy.array([line.split(",") for line in data.split()], dtype=numpy.float32)
    if rows.shape[1] != 2:
        raise ValueError("two columns")
    return rows

def predict_fn(data, model{context}):
    model.append(len(data))
    if (data < 0).any():
        sys.exit("negative")
    return {gives}

def output_fn(prediction, accept):
    return ",".join(map(str, numpy.asarray(prediction).ravel().tolist())) + f" of {{calls}}"
"""


def model(root, said="True", gives="data.sum(axis=1)", context=""):
    write_script(root, SCRIPT.format(said=said, gives=gives, context=context))
    return load(root)


def asked(model, *bodies):
    return model.predict([Payload(body, "text/csv") for body in bodies])


def bodies_of(answers):
    return [answer.body.decode() for answer in answers if isinstance(answer, Answer)]


@pytest.mark.parametrize("context", ["", ", context"])
def test_requests_of_a_batch_are_predicted_in_one_call_and_parted_again(tmp_path, context):
    answers = asked(model(tmp_path, context=context), b"1,2", b"3,4\n5,6", b"7,8")
    assert bodies_of(answers) == ["3.0 of [4]", "7.0,11.0 of [4]", "15.0 of [4]"]


def test_without_the_word_each_request_is_a_call(tmp_path):
    answers = asked(model(tmp_path, said="False"), b"1,2", b"3,4")
    assert bodies_of(answers) == ["3.0 of [1]", "7.0 of [1, 1]"]


def test_torch_tensors_are_joined_too(tmp_path):
    gives = "__import__('torch').from_numpy(data).sum(1)"
    answers = asked(model(tmp_path, gives=gives), b"1,2", b"3,4")
    assert bodies_of(answers) == ["3.0 of [2]", "7.0 of [2]"]


def test_what_input_fn_refuses_fails_alone(tmp_path):
    answers = asked(model(tmp_path), b"1,2", b"1,2,3", b"3,4")
    assert isinstance(answers[1], ScriptFault)
    assert "two columns" in str(answers[1])
    assert bodies_of(answers) == ["3.0 of [2]", "7.0 of [2]"]


def test_what_predict_fn_raises_for_one_is_that_one_s_alone(tmp_path):
    answers = asked(model(tmp_path), b"1,2", b"-1,2", b"3,4")
    assert isinstance(answers[1], ScriptFault)
    assert bodies_of(answers) == ["3.0 of [3, 1]", "7.0 of [3, 1, 1, 1]"]


@pytest.mark.parametrize("gives", ["data.sum()", "data.sum(axis=0)[:1]", "data.tolist()", "'text'"])
def test_what_is_no_row_for_a_row_is_asked_for_request_by_request(tmp_path, gives):
    found = model(tmp_path, gives=gives)
    together = asked(found, b"1,2", b"3,4")
    calls = json.loads(bodies_of(together)[-1].partition(" of ")[2])
    assert calls == [2, 1, 1]
    alone = [asked(found, body)[0] for body in (b"1,2", b"3,4")]
    said = [[body.partition(" of ")[0] for body in bodies_of(told)] for told in (together, alone)]
    assert said[0] == said[1]


def test_rows_of_different_types_are_not_joined(tmp_path):
    script = SCRIPT.format(said="True", gives="data.sum(axis=1)", context="")
    kind = "numpy.float64 if data.startswith('9') else numpy.float32"
    write_script(tmp_path, script.replace("dtype=numpy.float32", f"dtype={kind}"))
    answers = asked(load(tmp_path), b"1,2", b"9,4")
    assert bodies_of(answers) == ["3.0 of [1]", "13.0 of [1, 1]"]


def test_a_word_that_is_neither_true_nor_false_is_refused(tmp_path):
    with pytest.raises(LoadRefused, match="rows_independent in its script is a str"):
        model(tmp_path, said="'yes'")


def test_the_word_beside_transform_fn_is_refused(tmp_path):
    write_script(
        tmp_path, "rows_independent = True\ndef transform_fn(model, data, kind, accept):\n    pass"
    )
    with pytest.raises(LoadRefused, match="transform_fn is given whole requests"):
        load(tmp_path)
