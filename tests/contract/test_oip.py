"""The Open Inference Protocol's forms: golden answers, each status, and garbage."""

from __future__ import annotations

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from multidict import CIMultiDict

from loaders.contract import Answer, BadPayload, ModelFault, Payload, PredictionRaised
from loaders.oip import predict_any
from loaders.rows import RowPredictor
from loaders.signatures import OIP_TYPE
from mme.domain import ModelKey, Reply
from mme.errors import (
    ArtifactRefused,
    ArtifactUnavailable,
    InvalidRequest,
    InvocationTimeout,
    LoadFailed,
    MemoryRefused,
    ModelMissing,
    ModelNotReady,
    PayloadTooLarge,
    PredictionFailed,
    WorkerLost,
)
from mme.front.oip_wire import HEADER_LENGTH, error_reply, infer_answer, read_infer, read_model


class Sums:
    """A model of two features that adds them."""

    def __init__(self):
        self.tensors = RowPredictor(width=2, run=self.run)

    def run(self, rows):
        with np.errstate(all="ignore"):
            return rows.sum(axis=1)

    def predict(self, payloads):
        return [Answer(b"plain", "text/plain") for _ in payloads]


def asked(body, size=None):
    kind = f"{OIP_TYPE};json-header-size={len(body) if size is None else size}"
    return predict_any(Sums(), "m", [Payload(body, kind)])[0]


def test_a_request_in_json_has_a_golden_answer_and_other_payloads_theirs():
    one = {"name": "x", "shape": [2, 2], "datatype": "INT8", "data": [[1, 2], [3, 4]]}
    body = json.dumps({"id": "7", "inputs": [one]}).encode()
    kind = f"{OIP_TYPE};json-header-size={len(body)}"
    answers = predict_any(Sums(), "m", [Payload(b"1,2", "text/csv"), Payload(body, kind)])
    assert answers[0].body == b"plain"
    assert answers[1].content_type == "application/json"
    assert json.loads(answers[1].body) == {
        "model_name": "m",
        "model_version": "1",
        "id": "7",
        "outputs": [{"name": "output__0", "datatype": "FP32", "shape": [2], "data": [3.0, 7.0]}],
    }


@pytest.mark.parametrize(
    ("datatype", "kind"),
    [("FP16", "<f2"), ("FP64", "<f8"), ("UINT8", "u1"), ("INT64", "<i8"), ("BOOL", "?")],
)
def test_binary_tensors_are_little_endian_both_ways(datatype, kind):
    data = np.array([[1, 0]], dtype=kind).tobytes()
    part = {"name": "x", "shape": [1, 2], "datatype": datatype}
    part["parameters"] = {"binary_data_size": len(data)}
    wanted = [{"name": "output__0", "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": [part], "outputs": wanted}).encode()
    answer = asked(head + data, len(head))
    assert struct.unpack("<f", answer.body[-4:]) == (1.0,)
    size = int(answer.content_type.rsplit("=", 1)[1])
    assert json.loads(answer.body[:size])["outputs"][0]["parameters"] == {"binary_data_size": 4}
    assert isinstance(asked(head + data + b"?", len(head)), BadPayload)
    assert isinstance(asked(head + data[:-1], len(head)), BadPayload)


def table(*rows, name="x", **more):
    """A request of this protocol for so many rows."""
    shape = [len(rows), len(rows[0])]
    tensor = {"name": name, "shape": shape, "datatype": "FP64", "data": rows}
    body = json.dumps({"inputs": [tensor], **more}).encode()
    return Payload(body, f"{OIP_TYPE};json-header-size={len(body)}")


def data_of(answer):
    told = json.loads(answer.body)
    return told.get("id"), told["outputs"][0]["shape"], told["outputs"][0]["data"]


def counted(model):
    """The number of rows that each run of the model was given, as it goes on."""
    run, counts = model.run, []

    def counting(rows):
        counts.append(len(rows))
        return run(rows)

    model.tensors = replace(model.tensors, run=counting)
    return counts


def test_requests_of_a_batch_run_as_one_table_and_each_gets_its_own_rows_back():
    model = Sums()
    counts = counted(model)
    payloads = [table([1, 2], [3, 4], id="a"), Payload(b"1,2", "text/csv"), table([5, 6])]
    answers = predict_any(model, "m", payloads)
    assert counts == [3]
    assert data_of(answers[0]) == ("a", [2], [3.0, 7.0])
    assert answers[1].body == b"plain"
    assert data_of(answers[2]) == (None, [1], [11.0])


def test_in_a_batch_a_request_that_can_t_be_read_or_taken_fails_alone():
    model = Sums()
    counts = counted(model)
    wide, empty = table([1, 2, 3]), Payload(b"", f"{OIP_TYPE};json-header-size=0")
    named = table([7, 8], outputs=[{"name": "none"}])
    answers = predict_any(model, "m", [wide, table([1, 2]), empty, named, table([3, 4])])
    assert counts == [3]
    assert [isinstance(answer, BadPayload) for answer in answers] == [
        True,
        False,
        True,
        True,
        False,
    ]
    assert [data_of(answers[position])[2] for position in (1, 4)] == [[3.0], [7.0]]


def test_where_a_batch_can_t_be_run_each_request_is_run_and_only_the_culprit_fails():
    model = Sums()
    sums = model.run

    def run(rows):
        if (rows < 0).any():
            raise PredictionRaised("negative")
        return sums(rows)

    model.run = run
    counts = counted(model)
    answers = predict_any(model, "m", [table([1, 2]), table([-1, 2]), table([3, 4])])
    assert counts == [3, 1, 1, 1]
    assert str(answers[1]) == "negative"
    assert [data_of(answers[position])[2] for position in (0, 2)] == [[3.0], [7.0]]


def test_a_model_whose_rows_depend_on_each_other_runs_each_request_of_a_batch():
    model = Sums()
    model.tensors = replace(model.tensors, joins=False)
    counts = counted(model)
    answers = predict_any(model, "m", [table([1, 2]), table([3, 4])])
    assert counts == [1, 1]
    assert [data_of(answer)[2] for answer in answers] == [[3.0], [7.0]]


@given(some.lists(some.lists(some.lists(some.floats(-9, 9), min_size=1, max_size=3), max_size=3)))
def test_a_batch_gives_what_each_request_gets_alone(asked_for):
    payloads = [table(*rows) if rows else table([]) for rows in asked_for]
    together = predict_any(Sums(), "m", payloads)
    alone = [predict_any(Sums(), "m", [payload])[0] for payload in payloads]
    assert [getattr(one, "body", str(one)) for one in together] == [
        getattr(one, "body", str(one)) for one in alone
    ]


JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(),
    lambda inner: some.lists(inner) | some.dictionaries(some.text(), inner),
    max_leaves=8,
)
TENSOR = some.fixed_dictionaries(
    {
        "name": some.sampled_from(["x", ""]),
        "shape": some.lists(some.integers(-2, 3), max_size=3),
        "datatype": some.sampled_from(["FP32", "INT8", "UINT64", "BOOL", "BYTES", "FP16", "?"]),
        "data": JSON,
        "parameters": some.dictionaries(some.just("binary_data_size"), JSON),
    }
)


@given(some.lists(TENSOR, max_size=2), some.binary(max_size=20))
def test_whatever_tensors_are_given_the_answer_is_an_answer_or_a_fault_of_the_client(tensors, more):
    head = json.dumps({"inputs": tensors}).encode()
    found = asked(head + more, len(head))
    assert isinstance(found, Answer) or (isinstance(found, ModelFault) and found.status == 400)


@given(some.binary(max_size=60), some.integers(0, 80))
def test_garbage_is_a_fault_of_the_client(body, size):
    found = asked(body, size)
    raw = size == 0 and body and len(body) % 8 == 0  # rows of two FP32
    assert isinstance(found, Answer if raw else BadPayload)


def test_each_error_has_its_status_and_the_protocols_shape():
    statuses = {
        InvalidRequest("no"): 400,
        ModelMissing("no"): 404,
        ArtifactUnavailable("b", "k", "missing"): 404,
        PayloadTooLarge(1): 413,
        PredictionFailed("no", 415): 400,
        PredictionFailed("no"): 500,
        ArtifactRefused("no"): 400,
        LoadFailed("no"): 500,
        MemoryRefused("no"): 503,
        WorkerLost("no"): 503,
        InvocationTimeout("no"): 504,
        ModelNotReady("no"): 503,
    }
    for error, status in statuses.items():
        answer = error_reply(error, "r")
        assert (type(error), answer.status) == (type(error), status)
        assert json.loads(answer.body) == {"error": str(error)}
    unforeseen = error_reply(KeyError("secret"), "r")
    assert unforeseen.status == 500
    assert b"secret" not in unforeseen.body


def test_a_name_may_hold_slashes_and_a_version_follow():
    paths = {
        "/v2/models/a%2Fm.tar.gz/infer": "a/m.tar.gz",
        "/v2/models/a/m.tar.gz/infer": "a/m.tar.gz",
        "/v2/models/a/m.tar.gz/versions/1/infer": "a/m.tar.gz",
        "/v2/models/a%2Fversions%2F2/infer": "a/versions/2",
    }
    assert {path: read_model(path, "/infer") for path in paths} == paths
    with pytest.raises(ModelMissing):
        read_model("/v2/models/a/versions/2/infer", "/infer")
    with pytest.raises(InvalidRequest):
        read_model("/v2/models/..%2Fa/infer", "/infer")


def read(body, **headers):
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return read_infer(named, ModelKey("m"), request_id="r", endpoint="mme", body=body, deadline=1.0)


def test_the_framing_is_read_from_either_header_and_given_back_in_the_same():
    binary = f"{OIP_TYPE};json-header-size=3"
    assert read(b"{}").content_type == f"{OIP_TYPE};json-header-size=2"
    assert read(b"{}1", inference_header_content_length="2").content_type.endswith("=2")
    assert read(b"{} 1", content_type=binary).content_type == binary
    for length in ("4", "-1", "x", ""):
        with pytest.raises(InvalidRequest):
            read(b"{}1", inference_header_content_length=length)
    with pytest.raises(InvalidRequest):
        read(b"")
    reply = Reply(body=b"{ }1", content_type=binary)
    headers = infer_answer(reply, "application/json", "r").headers
    assert (headers["Content-Type"], headers[HEADER_LENGTH]) == ("application/octet-stream", "3")
    assert infer_answer(reply, binary, "r").headers["Content-Type"] == binary
