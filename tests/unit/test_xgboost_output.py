"""Selectable inference: every key of every objective in every form, as the image does it."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import numpy as np
import pytest
import xgboost

from loaders.contract import Model, Payload, Trust
from loaders.xgboost_loader import LOADER
from tests.recordio_reference import read_labels

SWITCH = "SAGEMAKER_INFERENCE_OUTPUT"
ALL_KEYS = (
    "predicted_label", "labels", "probability", "probabilities",
    "raw_score", "raw_scores", "predicted_score",
)  # fmt: skip
ROWS = np.random.default_rng(3).normal(size=(5, 4)).astype(np.float32)
BODY = "\n".join(",".join(map(repr, row.tolist())) for row in ROWS).encode()
CLASS_KEYS = frozenset({"predicted_label", "labels", "raw_score", "raw_scores"})
VALID = {
    "reg:squarederror": {"predicted_score"},
    "reg:logistic": {"predicted_score"},
    "reg:gamma": {"predicted_score"},
    "reg:absoluteerror": {"predicted_score"},
    "reg:tweedie": {"predicted_score"},
    "binary:logistic": CLASS_KEYS | {"probability", "probabilities"},
    "binary:logitraw": CLASS_KEYS,
    "binary:hinge": CLASS_KEYS,
    "multi:softmax": CLASS_KEYS,
    "multi:softprob": CLASS_KEYS | {"probability", "probabilities"},
}


def train(objective: str) -> xgboost.Booster:
    random = np.random.default_rng(1)
    classes = {"num_class": 3} if objective.startswith("multi:") else {}
    labels = random.integers(0, 3 if classes else 2, 300)
    if objective.startswith(("count:", "reg:")):
        labels = labels * 0.5 + 0.1
    table = xgboost.DMatrix(random.normal(size=(300, 4)), labels)
    return xgboost.train({"objective": objective, "nthread": 1, **classes}, table, 4)


def load(directory: Path, objective: str) -> tuple[Model, list]:
    """The loaded model and what XGBoost predicts for ROWS."""
    booster = train(objective)
    booster.save_model(directory / "model.ubj")
    return LOADER.load(directory, Trust()), booster.predict(xgboost.DMatrix(ROWS)).tolist()


def ask(model: Model, accept: str | None = "application/json"):
    [answer] = model.predict([Payload(BODY, "text/csv", accept)])
    return answer


def expected(objective: str, key: str, raw):
    """What the image answers for a row, written down once more in the plainest way."""
    if key not in VALID[objective]:
        return math.nan
    if key == "labels":
        return [0, 1] if objective.startswith("binary:") else [0, 1, 2]
    if key in {"probabilities", "raw_scores"}:
        return raw if isinstance(raw, list) else [1 - raw, raw]
    if key == "predicted_label" and objective == "multi:softprob":
        return int(np.argmax(raw))
    if key == "predicted_label" and objective in {"binary:logistic", "binary:logitraw"}:
        return 1 if raw > {"binary:logistic": 0.5, "binary:logitraw": 0}[objective] else 0
    return max(raw) if isinstance(raw, list) else raw


@pytest.mark.parametrize("objective", VALID)
def test_every_key_of_every_objective_is_the_images(objective, tmp_path, monkeypatch):
    monkeypatch.setenv(SWITCH, ",".join(ALL_KEYS))
    model, raws = load(tmp_path, objective)
    wanted = [{key: expected(objective, key, raw) for key in ALL_KEYS} for raw in raws]
    answer = ask(model)
    assert answer.content_type == "application/json"
    assert repr(json.loads(answer.body)) == repr({"predictions": wanted})  # repr: nan is no nan
    assert (b"NaN" in answer.body) == (len(VALID[objective]) < len(ALL_KEYS))


def test_csv_has_a_line_a_row_in_the_order_asked_for_and_lists_in_quotes(tmp_path, monkeypatch):
    monkeypatch.setenv(SWITCH, " Probabilities, predicted_score ,predicted_label,LABELS")
    model, raws = load(tmp_path, "binary:logistic")
    lines = [f'"[{1 - raw!r}, {raw!r}]",nan,{int(raw > 0.5)},"[0, 1]"' for raw in raws]
    answer = ask(model, "text/csv")
    assert answer.content_type == "text/csv"
    assert answer.body.decode() == "\n".join(lines)


def test_jsonlines_has_an_object_a_line(tmp_path, monkeypatch):
    monkeypatch.setenv(SWITCH, "predicted_score")
    model, raws = load(tmp_path, "reg:squarederror")
    body = ask(model, "application/jsonlines").body
    assert body.endswith(b"}\n")
    assert [json.loads(line) for line in body.splitlines()] == [
        {"predicted_score": raw} for raw in raws
    ]


def test_recordio_has_a_record_a_row_that_holds_only_its_own_row(tmp_path, monkeypatch):
    monkeypatch.setenv(SWITCH, "predicted_label,probabilities,predicted_score")
    model, raws = load(tmp_path, "multi:softprob")
    records = read_labels(ask(model, "application/x-recordio-protobuf").body)
    assert [record["probabilities"] for record in records] == raws
    assert [record["predicted_label"] for record in records] == [
        [float(np.argmax(raw))] for raw in raws
    ]
    assert all(math.isnan(record["predicted_score"][0]) for record in records)


def test_the_default_form_is_csv_and_npy_is_not_offered(tmp_path, monkeypatch):
    monkeypatch.setenv(SWITCH, "predicted_score")
    model, raws = load(tmp_path, "reg:squarederror")
    assert ask(model, None) == ask(model, "*/*") == ask(model, "text/csv")
    assert ask(model, None).body.decode() == "\n".join(map(repr, raws))
    assert ask(model, "application/x-npy").status == 406


def test_an_objective_without_parts_is_refused_in_the_images_words(tmp_path, monkeypatch):
    monkeypatch.setenv(SWITCH, "predicted_score")
    model, _ = load(tmp_path, "count:poisson")
    payloads = [Payload(BODY, "text/csv"), Payload(b"x", "text/csv"), Payload(BODY, "text/csv")]
    answers = [ask(model), *model.predict(payloads)]  # alone, and in a batch
    assert [answer.status for answer in answers] == [500, 500, 415, 500]
    assert (
        str(answers[0])
        == str(answers[1])
        == ("Objective `count:poisson` unsupported for selectable inference predictions.")
    )


def test_incompatible_keys_are_warned_of_once_a_model(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv(SWITCH, "predicted_score,probability,odds")
    with caplog.at_level(logging.WARNING):
        model, _ = load(tmp_path, "reg:squarederror")
        ask(model)
    [warning] = caplog.messages
    assert warning == (
        "Selected key(s) ['probability', 'odds'] incompatible for objective 'reg:squarederror'. "
        "Please use list of compatible selectable inference predictions: ['predicted_score']"
    )


@pytest.mark.parametrize("switch", [None, "", " "])
def test_without_a_selection_answers_are_those_of_multi_model_mode(tmp_path, monkeypatch, switch):
    if switch is not None:
        monkeypatch.setenv(SWITCH, switch)
    model, raws = load(tmp_path, "reg:squarederror")
    assert json.loads(ask(model, None).body) == pytest.approx(raws)
    assert ask(model, "text/csv").body.decode() == ",".join(map(repr, raws))
    labels = read_labels(ask(model, "application/x-recordio-protobuf").body)
    assert labels == [{"score": [raw]} for raw in raws]
