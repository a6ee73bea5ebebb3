"""What the latest requests of a model took, and its last errors."""

from __future__ import annotations

from mme.domain import Invocation, ModelKey
from mme.errors import PredictionFailed
from mme.front.recent import Recent


def note(recent, model, seconds=0.1, error=None):
    key = ModelKey(model)
    invocation = Invocation(
        request_id=f"of {model}", endpoint="e", body=b"", deadline=0.0, target_model=key
    )
    recent.note(invocation, seconds, 200 if error is None else 400, error)


def test_a_model_has_percentiles_of_its_own_requests():
    recent = Recent(lambda: 7.0)
    for number in range(100):
        note(recent, "a", number / 100)
        note(recent, "b", 9.0)
    told = recent.describe("a")
    assert (told["requests"], told["p50_seconds"], told["p99_seconds"]) == (100, 0.5, 0.99)
    assert recent.describe("c") == {
        "requests": 0, "p50_seconds": None, "p90_seconds": None, "p99_seconds": None, "errors": [],
    }  # fmt: skip


def test_the_last_five_errors_are_kept_the_latest_first_and_tell_no_secrets():
    recent = Recent(lambda: 7.0)
    for number in range(7):
        note(recent, "a", error=PredictionFailed(f"number {number}"))
    note(recent, "a", error=KeyError("a secret"))
    errors = recent.describe("a")["errors"]
    assert len(errors) == 5
    assert "secret" not in str(errors)
    assert errors[1] == {
        "at": 7.0, "status": 400, "kind": "PredictionFailed", "reason": "number 6",
        "request_id": "of a",
    }  # fmt: skip


def test_neither_requests_nor_invented_names_fill_the_memory():
    recent = Recent(lambda: 7.0)
    for number in range(20_000):
        note(recent, "hot")
        note(recent, f"invented-{number}", error=PredictionFailed("no"))
    assert recent.describe("hot")["requests"] == 8192
    assert recent.describe("invented-1")["errors"] == []
    assert recent.describe("invented-19999")["errors"]


def test_what_named_no_model_or_was_unreadable_is_passed_over():
    recent = Recent(lambda: 7.0)
    recent.note(None, 0.1, 400, PredictionFailed("no"))
    recent.note(
        Invocation(request_id="r", endpoint="e", body=b"", deadline=0.0), 0.1, 500, KeyError()
    )
