"""Errors in SageMaker's shapes, to the byte where clients read them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mme.config import ServerConfig
from mme.errors import (
    ArtifactRefused,
    ArtifactUnavailable,
    CacheThrashing,
    ConfigError,
    DiskUnavailable,
    Draining,
    InvalidRequest,
    InvocationTimeout,
    LoadFailed,
    MemoryRefused,
    ModelError,
    ModelNotReady,
    Overloaded,
    PayloadTimeout,
    PayloadTooLarge,
    PredictionFailed,
    StoreUnavailable,
    WorkerLost,
)
from mme.front.runtime_errors import error_answer

SERVER = ServerConfig(region="eu-west-1", account_id="123456789012")
TAIL = (
    '". See https://eu-west-1.console.aws.amazon.com/cloudwatch/home?region=eu-west-1'
    "#logEventViewer:group=/aws/sagemaker/Endpoints/ep in account 123456789012 "
    "for more information."
)


def answer(error: Exception):
    return error_answer(error, request_id="r", endpoint="ep", server=SERVER)


def members(error: Exception) -> dict:
    return json.loads(answer(error).body)


@pytest.mark.parametrize(
    ("error", "status", "error_type"),
    [
        (InvalidRequest("m"), 400, "ValidationError"),
        (ArtifactUnavailable("b", "k", "missing"), 400, "ValidationError"),
        (PayloadTooLarge(5), 413, None),
        (PayloadTimeout("m"), 408, None),
        (ModelError("m"), 424, "ModelError"),
        (ArtifactRefused("m"), 424, "ModelError"),
        (LoadFailed("m"), 424, "ModelError"),
        (PredictionFailed("m"), 424, "ModelError"),
        (MemoryRefused("m"), 424, "ModelError"),
        (InvocationTimeout("m"), 424, "ModelError"),
        (WorkerLost("m"), 424, "ModelError"),
        (ModelNotReady("m"), 429, "ModelNotReadyException"),
        (Overloaded("m"), 503, "ServiceUnavailable"),
        (DiskUnavailable("m"), 503, "ServiceUnavailable"),
        (Draining("m"), 503, "ServiceUnavailable"),
        (StoreUnavailable("m"), 530, "InternalDependencyException"),
        (ConfigError("m"), 500, "InternalFailure"),
        (KeyError("m"), 500, "InternalFailure"),
    ],
)
def test_every_error_has_its_status_type_and_an_object_with_a_message(error, status, error_type):
    given_answer = answer(error)
    assert given_answer.status == status
    assert given_answer.headers.get("x-amzn-ErrorType") == error_type
    assert given_answer.headers["x-amzn-RequestId"] == "r"
    assert given_answer.headers["Content-Type"] == "application/json"
    assert json.loads(given_answer.body)["Message"]
    assert ("Retry-After" in given_answer.headers) == (status == 503)


@pytest.mark.parametrize(
    ("error", "head", "code"),
    [
        (PredictionFailed("bad row", 415), "client error (415)", "CLIENT_ERROR_FROM_MODEL"),
        (LoadFailed("bad row"), "server error (500)", "INTERNAL_FAILURE_FROM_MODEL"),
        (MemoryRefused("bad row"), "server error (507)", "INTERNAL_FAILURE_FROM_MODEL"),
    ],
)
def test_a_model_error_reads_as_on_aws(error, head, code):
    assert members(error) == {
        "ErrorCode": code,
        "LogStreamArn": (
            "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/sagemaker/Endpoints/ep"
        ),
        "Message": f'Received {head} from primary with message "bad row{TAIL}',
        "OriginalMessage": "bad row",
        "OriginalStatusCode": error.original_status,
    }


def test_a_timeout_reads_as_on_aws_and_tells_its_cause():
    told = members(InvocationTimeout("after 60 s in the queue"))
    assert told["OriginalStatusCode"] == 0
    assert told["OriginalMessage"] == "after 60 s in the queue"
    assert told["Message"].startswith(
        'Received server error (0) from primary with message "Your invocation timed out while '
        "waiting for a response from container primary. Review the latency metrics "
    )
    assert told["Message"].endswith(TAIL)


def test_a_lost_worker_reads_as_on_aws_and_tells_its_cause():
    told = members(WorkerLost("killed by signal 9"))
    assert told["OriginalStatusCode"] == 0
    assert told["OriginalMessage"] == "killed by signal 9"
    assert told["Message"].startswith(
        'Received server error (0) from primary with message "Amazon SageMaker could not get a '
        "response from the ep endpoint. This can occur when CPU or memory utilization is high. "
    )


def test_nothing_of_an_unexpected_error_is_shown():
    assert b"secret" not in answer(RuntimeError("secret in /srv/secret.py")).body
    assert b"secret" not in answer(ConfigError("secret")).body


def test_an_error_code_is_passed_on_where_there_is_one():
    assert members(InvalidRequest("m", "SOME_CODE"))["ErrorCode"] == "SOME_CODE"
    assert "ErrorCode" not in members(InvalidRequest("m"))


def test_an_oversize_body_reads_as_on_aws():
    assert members(PayloadTooLarge(25)) == {"Message": "HTTP content length exceeded 25 bytes."}


@given(st.text(), st.integers(0, 4096), st.integers(0, 599))
def test_messages_are_cut_and_the_frame_is_not(text, repeats, status):
    told = members(PredictionFailed(text * repeats, status))
    assert len(told["Message"]) <= 2048
    assert len(told["OriginalMessage"]) <= 2048
    assert told["Message"].startswith("Received ")
    assert told["Message"].endswith(TAIL)
    assert len(members(InvalidRequest(text * repeats))["Message"]) <= 2048


def test_bytes_that_were_no_utf8_do_not_break_the_answer():
    assert members(InvalidRequest("a\udcffb"))["Message"] == "a?b"


def test_a_thrashing_cache_is_unavailable_until_it_says():
    error = CacheThrashing("Full.", 12.3)
    answer = error_answer(error, request_id="r", endpoint="e", server=ServerConfig())
    assert (answer.status, answer.headers["Retry-After"]) == (503, "13")
