"""One table of numbers, sent in every form that clients know, gets one and the same answer."""

from __future__ import annotations

import json
from io import BytesIO

import numpy as np
import pytest
import xgboost

from loaders.contract import Model, Payload, Trust
from loaders.find import find_loader
from loaders.xgboost_loader import LOADER
from tests.contract.model_cases import CASES, Case, body_of
from tests.recordio_reference import framed, read_labels, write_record

TABLE = np.array(
    [[0.1, -2.5, 3e-7, 4], [np.nan, 0, 1e30, -1], [7, 8, np.nan, np.nan]], dtype=np.float32
)
DOUBLES = [[float(cell) for cell in row] for row in TABLE]  # exactly the same numbers
ROWS = [[None if np.isnan(cell) else cell for cell in row] for row in DOUBLES]
PAIRS = [{at: cell for at, cell in enumerate(row) if cell is not None} for row in ROWS]
SPARSE = [
    {"data": {"features": {"keys": [*row], "values": [*row.values()], "shape": [4]}}}
    for row in PAIRS
]


def csv(delimiter: str = ",", newline: str = "\n") -> bytes:
    cells = [["" if cell is None else repr(cell) for cell in row] for row in ROWS]
    return newline.join(delimiter.join(row) for row in cells).encode()


def libsvm(base: int = 0) -> bytes:
    rows = (" ".join(f"{at + base}:{cell!r}" for at, cell in row.items()) for row in PAIRS)
    return "\n".join(f"1 {row}" for row in rows).encode()


def npy(array: np.ndarray) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def json_of(document: object) -> bytes:
    return json.dumps(document).encode()


def lines_of(records: list) -> bytes:
    return b"\n".join(map(json_of, records))


def dense_records(kind: str, *, packed: bool = True) -> bytes:
    return framed(*(write_record(row, kind, packed=packed) for row in DOUBLES))


SPARSE_RECORDS = framed(*(write_record([*row.values()], keys=[*row], shape=[4]) for row in PAIRS))
BODIES = {
    "csv": ("text/csv", csv()),
    "csv, short name": ("csv", csv()),
    "csv with parameters": ("text/csv; charset=utf-8; label_size=1", csv()),
    "csv from Windows": ("Text/CSV", csv(newline="\r\n") + b"\r\n"),
    "csv by semicolons": ("text/csv", csv(";")),
    "csv by tabs": ("text/csv", csv("\t")),
    "csv in UTF-16": ("text/csv; charset=utf-16", csv().decode().encode("utf-16")),
    "json, plain list": ("application/json", json_of(ROWS)),
    "json, NaN as Python writes it": ("application/json", json_of(DOUBLES)),
    "json, instances": ("application/json; charset=utf-8", json_of({"instances": ROWS})),
    "json, features": (
        "application/json",
        json_of({"instances": [{"features": row} for row in ROWS]}),
    ),
    "json, data": (
        "application/json",
        json_of({"instances": [{"data": {"features": {"values": row}}} for row in ROWS]}),
    ),
    "json, sparse": ("application/json", json_of({"instances": SPARSE})),
    "json, dense and sparse": (
        "application/json",
        json_of({"instances": [{"features": ROWS[0]}, *SPARSE[1:]]}),
    ),
    "jsonlines": ("application/jsonlines", lines_of(ROWS)),
    "jsonlines, features": (
        "application/x-jsonlines",
        lines_of([{"features": row} for row in ROWS]),
    ),
    "jsonlines, sparse": ("application/jsonlines", lines_of(SPARSE)),
    "libsvm": ("text/libsvm", libsvm()),
    "libsvm, other name": ("text/x-libsvm", libsvm()),
    "libsvm from one": ("text/libsvm", libsvm(base=1)),
    "libsvm by default": (None, libsvm()),
    "npy": ("application/x-npy", npy(TABLE)),
    "npy of doubles": ("application/x-npy; charset=latin-1", npy(TABLE.astype(float))),
    "npy by columns": ("application/x-npy", npy(np.asfortranarray(TABLE))),
    "npy from elsewhere": ("application/x-npy", npy(TABLE.astype(">f4"))),
    "recordio": ("application/x-recordio-protobuf", dense_records("float32")),
    "recordio, short name": ("recordio-protobuf", dense_records("float32")),
    "recordio of doubles": ("application/x-recordio-protobuf", dense_records("float64")),
    "recordio, unpacked": (
        "application/x-recordio-protobuf",
        dense_records("float32", packed=False),
    ),
    "recordio, sparse": ("application/x-recordio-protobuf", SPARSE_RECORDS),
}


@pytest.fixture(scope="module")
def booster() -> xgboost.Booster:
    random = np.random.default_rng(2)
    rows = random.normal(scale=4, size=(400, 4))
    rows[random.random(rows.shape) < 0.2] = np.nan
    options = {"nthread": 1, "max_depth": 5}
    return xgboost.train(options, xgboost.DMatrix(rows, random.normal(size=400)), 30)


@pytest.fixture(scope="module")
def model(booster, tmp_path_factory) -> Model:
    directory = tmp_path_factory.mktemp("model")
    booster.save_model(directory / "model.ubj")
    return LOADER.load(directory, Trust())


def test_the_rows_are_told_apart(booster):
    assert len({*booster.predict(xgboost.DMatrix(TABLE)).tolist()}) == len(TABLE)


@pytest.mark.parametrize("form", BODIES)
def test_every_form_of_the_same_rows_gives_the_frameworks_numbers(model, booster, form):
    content_type, body = BODIES[form]
    [answer] = model.predict([Payload(body, content_type)])
    assert json.loads(answer.body) == booster.predict(xgboost.DMatrix(TABLE)).tolist()


def test_forms_mixed_in_one_batch_keep_their_answers(model, booster):
    answers = model.predict([Payload(body, name) for name, body in BODIES.values()])
    own = booster.predict(xgboost.DMatrix(TABLE)).tolist()
    assert [json.loads(answer.body) for answer in answers] == [own] * len(BODIES)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"features": {"values": [1, 2], "keys": [0]}}, "1 keys for 2 values"),
        ({"features": {"values": [1], "keys": [9]}}, "lies beyond"),
        ({"features": {"values": [1], "keys": [-1]}}, "Expected `int` >= 0"),
        ({"features": {"values": [1], "keys": ["a"], "shape": [4]}}, "Expected `int`"),
        ({"features": {"keys": [1]}}, "values"),
        ({"data": {"rows": []}}, "an object must be"),
    ],
)
def test_a_sparse_record_that_contradicts_itself_is_refused(model, record, reason):
    [fault] = model.predict([Payload(json_of([record]), "application/json")])
    assert fault.status == 415
    assert reason in str(fault)


def test_a_sparse_record_of_another_width_is_a_mismatch_before_it_takes_memory(model):
    for width, status in ((3, 400), (1 << 62, 400)):
        record = {"features": {"values": [1], "keys": [0], "shape": [width]}}
        [fault] = model.predict([Payload(json_of([record]), "application/json")])
        assert fault.status == status


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory) -> Case:
    return CASES[request.param](tmp_path_factory.mktemp("model"))


def test_records_in_and_out_are_the_frameworks_numbers_for_every_loader(case):
    found = find_loader(case.directory)
    model = found.loader.load(found.root, Trust())
    recordio, body = "application/x-recordio-protobuf", body_of(case.rows, "json")
    payloads = [Payload(body, "application/json", recordio)]
    if case.reads_libsvm:  # who reads rows in one sparse format reads them in all
        records = (write_record(row, "float64") for row in case.rows.astype(float).tolist())
        payloads.append(Payload(framed(*records), recordio, recordio))
    for answer in model.predict(payloads):
        assert answer.content_type == recordio
        scores = [label["score"] for label in read_labels(answer.body)]
        shape = case.expected.shape
        np.testing.assert_allclose(np.reshape(scores, shape), case.expected, rtol=1e-6)
    model.close()
