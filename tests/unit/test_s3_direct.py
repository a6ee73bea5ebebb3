from datetime import UTC, datetime, timedelta

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from mme.store.s3_direct import Place, quoted
from mme.store.s3_errors import code_in

SIGNED = "host;x-amz-content-sha256;x-amz-date"
BASE = "http://127.0.0.1:9000/models/"


def told(signed=SIGNED, service="s3"):
    scope = f"AK/20260101/eu-west-1/{service}/aws4_request"
    return f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={signed}, Signature=0"


@given(
    key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
    token=st.none() | st.text("abc+/=", min_size=1),
    day=st.integers(0, 3000),
)
def test_a_signature_is_the_one_that_botocore_makes(key, token, day):
    credentials = ReadOnlyCredentials("AK", "secret/+", token)
    at = datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(days=day)
    ours = Place(base=BASE, region="eu-west-1").sign(key, credentials, at)
    request = AWSRequest("GET", BASE + quoted(key), headers={})
    request.context["timestamp"] = at.strftime("%Y%m%dT%H%M%SZ")
    request.context["payload_signing_enabled"] = True
    signer = S3SigV4Auth(credentials, "s3", "eu-west-1")
    signer._modify_request_before_signing(request)
    wanted = signer.signature(
        signer.string_to_sign(request, signer.canonical_request(request)), request
    )
    assert ours["Authorization"].endswith(f"Signature={wanted}")


def test_a_place_is_what_its_urls_begin_with():
    place = Place.of(BASE + "a/b%20c.tar.gz", "a/b c.tar.gz", told())
    assert place == Place(base=BASE, region="eu-west-1")
    assert (place.host, place.path) == ("127.0.0.1:9000", "/models/")


@pytest.mark.parametrize(
    ("url", "authorization"),
    [
        (BASE + "other", told()),
        (BASE + "key?versionId=7", told()),
        (BASE + "key", ""),
        (BASE + "key", told(signed=f"{SIGNED};x-amz-request-payer")),
        (BASE + "key", told(service="s3express")),
    ],
)
def test_what_can_not_be_repeated_for_another_key_is_left_to_botocore(url, authorization):
    assert Place.of(url, "key", authorization) is None


def test_a_code_is_read_from_an_error_answer():
    assert code_in(b"<Error><Code>NoSuchKey</Code></Error>") == "NoSuchKey"
    assert code_in(b"not found") == "404"
