"""One suite for all loaders: their answers are the framework's own, and bad input is a fault."""

from __future__ import annotations

import json
from io import BytesIO

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loaders.contract import Answer, LoadRefused, Model, ModelFault, Payload, Trust
from loaders.find import find_loader
from tests.contract.model_cases import CASES, Case, body_of
from tests.contract.table_cases import TABLE_CASES
from tests.contract.tensor_cases import TENSOR_CASES

ALL = CASES | TABLE_CASES | TENSOR_CASES
TYPES = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "jsonlines": "application/jsonlines",
    "npy": "application/x-npy",
    "libsvm": "text/libsvm",
}


@pytest.fixture(scope="module", params=ALL)
def case(request, tmp_path_factory) -> Case:
    return ALL[request.param](tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(case) -> Model:
    return load(case, Trust())


def load(case: Case, trust: Trust) -> Model:
    found = find_loader(case.directory)
    found.loader.prepare()
    return found.loader.load(found.root, trust)


def payload(case: Case, name: str, accept: str | None = None, rows: slice = slice(None)) -> Payload:
    if name == "npy":
        buffer = BytesIO()
        np.save(buffer, case.rows[rows])
        return Payload(buffer.getvalue(), TYPES[name], accept)
    return Payload(body_of(case.rows[rows], name, case.absent), TYPES[name], accept)


def numbers(answer: Answer | ModelFault, case: Case, rows: slice = slice(None)) -> np.ndarray:
    """Reads an answer the way a client does, without our codecs."""
    assert isinstance(answer, Answer), answer
    shape = case.expected[rows].shape
    if answer.content_type == "application/x-npy":
        return np.load(BytesIO(answer.body))
    if answer.content_type == "text/csv":
        lines = answer.body.decode().strip().split("\n")
        assert len(lines) == (1 if case.one_csv_line else shape[0])
        return np.array(",".join(lines).split(","), dtype=np.float32).reshape(shape)
    if answer.content_type == "application/jsonlines":
        return np.array([json.loads(line) for line in answer.body.splitlines()])
    document = json.loads(answer.body)
    return np.array(document["predictions"] if isinstance(document, dict) else document)


@pytest.mark.parametrize("accept", ["csv", "json", "jsonlines", "npy", None])
@pytest.mark.parametrize("name", TYPES)
def test_every_content_type_in_gives_the_frameworks_numbers_in_every_type_out(
    model, case, name, accept
):
    if name == "libsvm" and not case.reads_libsvm:
        [fault] = model.predict([payload(case, name)])
        assert fault.status == 415
        return
    [answer] = model.predict([payload(case, name, TYPES.get(accept))])
    found, allowed = numbers(answer, case).astype(np.float32), case.tolerance
    np.testing.assert_allclose(found, case.expected, rtol=allowed, atol=allowed)


def test_a_batch_answers_each_its_own_rows_and_a_bad_payload_fails_only_itself(model, case):
    first, rest = slice(0, 1), slice(1, None)
    answers = model.predict(
        [
            payload(case, "csv", None, rest),
            Payload(b"name,age", "text/csv"),
            payload(case, "json", "text/csv", first),
            Payload(b"1,2,3", "text/csv"),
            Payload(b"", "text/csv"),
            payload(case, "npy", "image/png"),
            Payload(b"1", "image/png"),
            payload(case, "jsonlines", "application/x-npy"),
        ]
    )
    statuses = [getattr(answer, "status", 200) for answer in answers]
    assert statuses == [200, 415, 200, 400, 400, 406, 415, 200]
    for position, rows in ((0, rest), (2, first), (7, slice(None))):
        found = numbers(answers[position], case, rows).astype(np.float32)
        np.testing.assert_allclose(found, case.expected[rows], rtol=1e-6, atol=1e-6)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(), name=st.sampled_from(sorted(TYPES)))
def test_a_garbage_payload_is_a_fault(model, body, name):
    for answer in model.predict([Payload(body, TYPES[name]), Payload(body + b"x", None)]):
        assert isinstance(answer, ModelFault)
        assert len(str(answer)) < 500
        assert "\n" not in str(answer)


def test_trust_in_data_loads_only_what_runs_no_code(case):
    if case.needs_trust:
        with pytest.raises(LoadRefused, match="only data is trusted"):
            load(case, Trust(code=False))
    else:
        assert load(case, Trust(code=False)).nbytes() > 0


def test_the_memory_it_holds_is_estimated_from_the_model(model, case):
    files = sum(path.stat().st_size for path in case.directory.iterdir())
    assert 0.05 * files < model.nbytes() <= files or files < 20_000


@pytest.mark.parametrize("share", [0.01, 0.5, 0.98])
def test_a_model_file_cut_short_is_refused_and_ends_no_process(case, tmp_path, share):
    for path in case.directory.rglob("*"):
        copy = tmp_path / path.relative_to(case.directory)
        if path.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    cut = Case(directory=tmp_path, rows=case.rows, expected=case.expected)
    with pytest.raises(LoadRefused) as caught:
        load(cut, Trust())
    assert "Unable to load model" in str(caught.value) or "No loader" in str(caught.value)
    assert "\n" not in str(caught.value)
