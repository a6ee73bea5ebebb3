"""What boto3's own signer signs is found right, and nothing else is."""

from __future__ import annotations

import datetime
from urllib.parse import quote, urlsplit

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from mme.errors import Unauthenticated
from mme.front.signature import read_claim, verify

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TARGET = "X-Amzn-SageMaker-Target-Model"
PATH = "/endpoints/mme/invocations"

letters = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=["C"]))
values = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=["C"]))
segments = st.one_of(letters, st.sampled_from(["", ".", "..", "a b", "%2F", "é"]))
paths = st.lists(segments.map(lambda text: quote(text, safe="%")), max_size=5).map(
    lambda parts: "/" + "/".join(parts)
)
words = st.text("abcXYZ019-_~", max_size=5)
queries = st.lists(st.tuples(words.filter(bool), words), max_size=4).map(
    lambda pairs: "&".join(f"{name}={value}" for name, value in pairs)
)


def signed(
    path=PATH,
    query="",
    body=b"1,2",
    method="POST",
    target="acme/m.tar.gz",
    token=None,
    region="eu-west-1",
    service="sagemaker",
    content_hash=None,
):
    """A request's headers as a server gets them, signed by botocore now."""
    url = f"http://127.0.0.1:8080{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method=method, url=url, data=body, headers={TARGET: target})
    if content_hash is not None:
        request.headers["X-Amz-Content-SHA256"] = content_hash
    signer = botocore.auth.SigV4Auth(Credentials("AKID", SECRET, token), service, region)
    signer.add_auth(request)
    assert urlsplit(url).path == path
    return CIMultiDict({"Host": "127.0.0.1:8080", "Accept-Encoding": "identity", **request.headers})


def now(headers) -> float:
    return datetime.datetime.fromisoformat(headers["X-Amz-Date"]).timestamp()


def check(headers, *, late=0.0, **changed):
    request = {"method": "POST", "path": PATH, "query": "", "body": b"1,2", "secret": SECRET}
    request |= changed
    claim = read_claim(headers, headers["Authorization"], now(headers) + late)
    verify(claim, request.pop("secret"), headers=headers, **request)
    return claim


def code(headers, **changed) -> str:
    with pytest.raises(Unauthenticated) as caught:
        check(headers, **changed)
    assert SECRET not in str(caught.value)
    return caught.value.code


@given(path=paths, query=queries, body=st.binary(max_size=50), target=values)
def test_whatever_botocore_signs_is_right(path, query, body, target):
    headers = signed(path, query, body, target=target)
    claim = check(headers, path=path, query=query, body=body)
    assert (claim.credential.access_key_id, claim.credential.region) == ("AKID", "eu-west-1")


@given(
    st.sampled_from(
        [
            {"secret": "another"},
            {"path": "/endpoints/other/invocations"},
            {"query": "a=1"},
            {"body": b"1,3"},
            {"body": b""},
            {"method": "PUT"},
        ]
    )
)
def test_a_request_that_was_changed_after_signing_is_wrong(change):
    assert code(signed(), **change) == "InvalidSignatureException"


@pytest.mark.parametrize("header", [TARGET, "X-Amz-Date", "Host"])
def test_a_signed_header_can_not_be_changed_or_given_twice(header):
    headers = signed()
    headers.add(header, headers[header])
    assert code(headers) == "InvalidSignatureException"
    headers = signed()
    end = "1Z" if headers[header][-2:] != "1Z" else "2Z"
    headers[header] = headers[header][:-2] + end
    assert code(headers) == "InvalidSignatureException"


@pytest.mark.parametrize("header", ["X-Amzn-SageMaker-Target-Variant", "X-Amz-Security-Token"])
def test_a_header_that_acts_can_not_be_added_unsigned(header):
    headers = signed()
    headers[header] = "blue"
    assert code(headers) == "InvalidSignatureException"


def test_what_proxies_add_is_not_asked_to_be_signed():
    headers = signed()
    headers.update({"X-Forwarded-For": "10.0.0.1", "X-Amzn-Trace-Id": "Root=1", "Via": "x"})
    check(headers)


def test_a_session_token_is_signed_and_told():
    assert check(signed(token="the token")).token == "the token"


def test_the_announced_hash_must_be_the_bodys_unless_it_says_unsigned():
    assert code(signed(content_hash="0" * 64)) == "InvalidSignatureException"
    check(signed(content_hash="UNSIGNED-PAYLOAD"), body=b"anything")


def test_the_clock_may_be_five_minutes_off_and_no_more():
    headers = signed()
    check(headers, late=299)
    check(headers, late=-299)
    for late in (302, -302):
        with pytest.raises(Unauthenticated, match=r"5 min\.") as caught:
            check(headers, late=late)
        assert caught.value.code == "InvalidSignatureException"


def test_a_signature_for_another_service_is_wrong():
    assert code(signed(service="s3")) == "InvalidSignatureException"


@pytest.mark.parametrize(
    "authorization",
    [
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=a/20260102/r/sagemaker/aws4_request",
        "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host;x-amz-date, Signature=0",
        "AWS4-HMAC-SHA256 Credential=, SignedHeaders=, Signature=",
        "AWS4-HMAC-SHA256 Credential=a/1/é/sagemaker/aws4_request, SignedHeaders=a, Signature=0",
    ],
)
def test_what_lacks_a_part_is_incomplete(authorization):
    headers = signed()
    headers["Authorization"] = authorization
    assert code(headers) == "IncompleteSignature"


@pytest.mark.parametrize("moment", [None, "yesterday", "2026-01-02T03:04:05Z", "20261302T030405Z"])
def test_a_date_of_another_form_is_incomplete(moment):
    headers = signed()
    at = now(headers)
    del headers["X-Amz-Date"]
    if moment is not None:
        headers["X-Amz-Date"] = moment
    with pytest.raises(Unauthenticated) as caught:
        read_claim(headers, headers["Authorization"], at)
    assert caught.value.code == "IncompleteSignature"


def test_blanks_after_commas_may_be_missing():
    headers = signed()
    headers["Authorization"] = headers["Authorization"].replace(", ", ",")
    check(headers)


@given(st.text())
def test_garbage_is_refused_and_nothing_else_is_raised(text):
    with pytest.raises(Unauthenticated):
        read_claim(signed(), "AWS4-HMAC-SHA256 " + text, 0.0)
