"""Headers in, Invocation out; Reply in, answer out."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from mme.domain import Reply
from mme.errors import InvalidRequest, PredictionFailed
from mme.front.wire import (
    format_request_id,
    read_endpoint,
    read_invocation,
    read_target_model,
    reply_answer,
)

PREFIX = "X-Amzn-SageMaker-"


def read(*pairs: tuple[str, str], body: bytes = b""):
    return read_invocation(
        CIMultiDict(pairs), request_id="r", endpoint="e", body=body, deadline=1.0
    )


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("model.tar.gz", "model.tar.gz"),
        ("customer_a/dummy_model.tar.gz", "customer_a/dummy_model.tar.gz"),
        ("/customer_a/model.tar.gz", "customer_a/model.tar.gz"),
        ("my model (2).tar.gz", "my model (2).tar.gz"),
        ("modél/模型.tar.gz", "modél/模型.tar.gz"),
        ("tenant:5/2026-01-01T00:00.tar.gz", "tenant:5/2026-01-01T00:00.tar.gz"),
        ("..model/...tar.gz", "..model/...tar.gz"),
        ("%2e%2e/model", "%2e%2e/model"),
        ("m" * 1024, "m" * 1024),
    ],
)
def test_a_target_model_is_the_key_less_one_leading_slash(value, key):
    assert read_target_model(value) == key


@pytest.mark.parametrize(
    "value",
    [
        "",
        "/",
        "//model",
        "a//b",
        "a/",
        ".",
        "..",
        "../model",
        "a/../b",
        "a/./b",
        "a/..",
        "/../a",
        " model",
        "a\\b",
        "..\\model",
        "a\0b",
        "a\nb",
        "a\tb",
        "a\x7fb",
        "a\x85b",
        "a\u2028b",
        "a\u202eb",
        "a\udcffb",
        "s3://bucket/key",
        "S3:/bucket",
        "http:x",
        "HTTPS://host/x",
        "file:///etc/passwd",
        "gopher://x/y",
        "m" * 1025,
    ],
)
def test_a_hostile_target_model_is_refused(value):
    with pytest.raises(InvalidRequest, match="TargetModel"):
        read_target_model(value)


@given(st.text(st.sampled_from("ab./\\: \0\n\udcff%é"), max_size=12) | st.text(max_size=1100))
def test_no_accepted_target_model_could_leave_a_directory_or_forge_a_line(value):
    try:
        key = read_target_model(value)
    except InvalidRequest:
        return
    assert key == value.removeprefix("/")
    assert not {"", ".", ".."}.intersection(key.split("/"))
    assert "\\" not in key
    assert key.isprintable()
    assert key.encode()
    assert len(key) <= 1024


@given(st.from_regex(r"[A-Za-z0-9_]{1,8}(/[A-Za-z0-9_. -]{0,8}[A-Za-z0-9]){0,4}", fullmatch=True))
def test_every_ordinary_path_is_accepted_as_it_is(value):
    assert read_target_model(value) == value
    assert read_target_model("/" + value) == value


def test_every_parameter_arrives():
    invocation = read(
        ("content-type", "text/csv; charset=utf-8"),
        ("ACCEPT", "text/csv, application/json"),
        (PREFIX + "Custom-Attributes", "trace=1;user=a b"),
        (PREFIX + "Target-Model", "/a/b.tar.gz"),
        (PREFIX + "Target-Variant", "blue-1"),
        (PREFIX + "Target-Container-Hostname", "second"),
        (PREFIX + "Inference-Id", "id 1"),
        (PREFIX + "Session-Id", "NEW_SESSION"),
        body=b"1,2",
    )
    assert invocation.content_type == "text/csv; charset=utf-8"
    assert invocation.accept == "text/csv, application/json"
    assert invocation.custom_attributes == "trace=1;user=a b"
    assert invocation.target_model == "a/b.tar.gz"
    assert invocation.target_variant == "blue-1"
    assert invocation.target_container == "second"
    assert invocation.inference_id == "id 1"
    assert invocation.session_id == "NEW_SESSION"
    assert (invocation.body, invocation.deadline, invocation.request_id) == (b"1,2", 1.0, "r")


def test_absent_and_empty_types_are_the_same():
    assert read() == read(("Content-Type", ""), ("Accept", ""))
    assert read().content_type is None
    assert read().target_model is None


@pytest.mark.parametrize(
    ("header", "value", "member"),
    [
        ("Content-Type", "a" * 1025, "ContentType"),
        ("Content-Type", "téxt", "ContentType"),
        ("Accept", "a" * 1025, "Accept"),
        (PREFIX + "Custom-Attributes", "a" * 1025, "CustomAttributes"),
        (PREFIX + "Custom-Attributes", "é", "CustomAttributes"),
        (PREFIX + "Target-Variant", "a" * 64, "TargetVariant"),
        (PREFIX + "Target-Variant", "-a", "TargetVariant"),
        (PREFIX + "Target-Variant", "a\n", "TargetVariant"),
        (PREFIX + "Target-Variant", "", "TargetVariant"),
        (PREFIX + "Target-Container-Hostname", "a_b", "TargetContainerHostname"),
        (PREFIX + "Inference-Id", "a" * 65, "InferenceId"),
        (PREFIX + "Inference-Id", "", "InferenceId"),
        (PREFIX + "Session-Id", "a" * 257, "SessionId"),
        (PREFIX + "Session-Id", "no_such", "SessionId"),
        (PREFIX + "Target-Model", "", "TargetModel"),
        (PREFIX + "Enable-Explanations", "`true`", "EnableExplanations"),
        (PREFIX + "Inference-Component", "ic", "InferenceComponentName"),
    ],
)
def test_what_the_service_model_forbids_is_refused_by_name(header, value, member):
    with pytest.raises(InvalidRequest, match=member):
        read((header, value))


def test_longest_allowed_names_pass():
    assert read((PREFIX + "Target-Variant", "a" * 63)).target_variant == "a" * 63
    assert read((PREFIX + "Session-Id", "a" * 256)).session_id == "a" * 256


@pytest.mark.parametrize("header", [PREFIX + "Target-Model", "Content-Type"])
def test_a_header_given_twice_is_refused(header):
    with pytest.raises(InvalidRequest, match="once"):
        read((header, "a"), (header.lower(), "b"))


@pytest.mark.parametrize("name", ["", "a b", "-a", "a-", "a" * 64, "é", "a/b", "a\n"])
def test_a_malformed_endpoint_name_is_refused(name):
    with pytest.raises(InvalidRequest, match="EndpointName"):
        read_endpoint(name)


def test_a_long_endpoint_name_is_judged_quickly():
    with pytest.raises(InvalidRequest):
        read_endpoint("a-" * 4000 + "!")


@given(st.binary(min_size=16, max_size=16))
def test_a_request_id_is_a_version_4_uuid(data):
    text = format_request_id(data)
    assert str(uuid.UUID(text)) == text
    assert uuid.UUID(text).version == 4


def test_a_reply_carries_type_variant_and_id():
    reply = Reply(body=b"1", content_type="text/csv; charset=utf-8", variant="AllTraffic")
    answer = reply_answer(reply, "r")
    assert "X-Mme-Model-Version" not in answer.headers
    assert (answer.status, answer.body) == (200, b"1")
    assert answer.headers == {
        "x-amzn-RequestId": "r",
        "Content-Type": "text/csv; charset=utf-8",
        "x-Amzn-Invoked-Production-Variant": "AllTraffic",
    }


@pytest.mark.parametrize("attributes", ["a\r\nSet-Cookie: x", "a\0", "é", "a" * 1025])
def test_a_model_can_not_write_headers_of_its_own(attributes):
    with pytest.raises(PredictionFailed, match="custom attributes"):
        reply_answer(Reply(body=b"", content_type="t/p", custom_attributes=attributes), "r")
    with pytest.raises(PredictionFailed, match="content type"):
        reply_answer(Reply(body=b"", content_type=attributes), "r")


@pytest.mark.parametrize(("version", "told"), [("9b2c-1", "9b2c-1"), ("a\r\nX-Evil: 1", None)])
def test_the_version_that_answered_is_told_if_a_header_can_carry_it(version, told):
    answer = reply_answer(Reply(body=b"1", content_type="text/csv", version=version), "r")
    assert answer.headers.get("X-Mme-Model-Version") == told
