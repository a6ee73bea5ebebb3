"""The runtime API as unmodified AWS clients see it: boto3, its typed exceptions, and the CLI."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import uuid
from pathlib import Path

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config as ClientConfig

from mme.domain import Reply
from mme.errors import (
    ArtifactUnavailable,
    InvalidRequest,
    InvocationTimeout,
    ModelNotReady,
    Overloaded,
    PredictionFailed,
    StoreUnavailable,
)
from tests.rooms.front_double import NAME, FakeService, serving

CREDENTIALS = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}


def client_of(front, **settings):
    return boto3.Session(**CREDENTIALS, region_name="us-east-1").client(
        "sagemaker-runtime",
        endpoint_url=f"http://127.0.0.1:{front.port}",
        config=ClientConfig(retries={"total_max_attempts": 1}, **settings),
    )


async def called(front, **arguments):
    """One call of InvokeEndpoint through boto3, in a thread, as boto3 blocks."""

    def call():
        client = client_of(front)
        try:
            response = client.invoke_endpoint(**{"EndpointName": NAME, "Body": b"1,2"} | arguments)
            return response | {"Body": response["Body"].read()}
        finally:
            client.close()

    return await asyncio.to_thread(call)


async def refused(error_or_service, **arguments) -> botocore.exceptions.ClientError:
    service = error_or_service
    if isinstance(error_or_service, Exception):

        def respond(_invocation):
            raise error_or_service

        service = FakeService(respond)
    async with serving(service, region="eu-west-1", account_id="123456789012") as front:
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            await called(front, **arguments)
    return caught.value


async def test_every_parameter_goes_there_and_every_member_comes_back():
    service = FakeService()
    async with serving(service) as front:
        response = await called(
            front,
            ContentType="text/csv",
            Accept="application/json",
            CustomAttributes="trace=1",
            TargetModel="tenant é/model one.tar.gz",
            TargetVariant="blue",
            TargetContainerHostname="second",
            InferenceId="id-1",
            SessionId="NEW_SESSION",
        )
    assert response["Body"] == b"1,2"
    assert response["ContentType"] == "text/csv"
    assert response["InvokedProductionVariant"] == "AllTraffic"
    assert response["CustomAttributes"] == "trace=1"
    request_id = response["ResponseMetadata"]["RequestId"]
    assert str(uuid.UUID(request_id)) == request_id
    (invocation,) = service.seen
    assert invocation.request_id == request_id
    assert invocation.endpoint == NAME
    assert invocation.content_type == "text/csv"
    assert invocation.accept == "application/json"
    assert invocation.custom_attributes == "trace=1"
    assert invocation.target_model == "tenant é/model one.tar.gz"
    assert invocation.target_variant == "blue"
    assert invocation.target_container == "second"
    assert invocation.inference_id == "id-1"
    assert invocation.session_id == "NEW_SESSION"


async def test_members_the_model_did_not_give_are_missing():
    service = FakeService(lambda _: Reply(body=b"", content_type="text/csv", variant="v"))
    async with serving(service) as front:
        response = await called(front)
    assert "CustomAttributes" not in response
    assert response["Body"] == b""
    assert service.seen[0].content_type is None
    assert service.seen[0].accept is None


async def test_a_validation_error_is_typed():
    error = await refused(InvalidRequest("Endpoint x of account 1 not found."))
    assert type(error).__name__ == "ValidationError"
    assert error.response["Error"] == {
        "Code": "ValidationError",
        "Message": "Endpoint x of account 1 not found.",
    }
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert uuid.UUID(error.response["ResponseMetadata"]["RequestId"])


async def test_a_missing_object_is_a_validation_error():
    error = await refused(ArtifactUnavailable("bucket", "prefix/key", "missing"))
    assert type(error).__name__ == "ValidationError"
    assert error.response["Error"]["Message"].startswith(
        "Failed to download model data (bucket: bucket, key: prefix/key)."
    )


async def test_a_model_error_brings_its_members():
    error = await refused(PredictionFailed("expected 4 features, got 3", 400))
    assert type(error).__name__ == "ModelError"
    assert error.response["OriginalStatusCode"] == 400
    assert error.response["OriginalMessage"] == "expected 4 features, got 3"
    assert error.response["LogStreamArn"] == (
        f"arn:aws:logs:eu-west-1:123456789012:log-group:/aws/sagemaker/Endpoints/{NAME}"
    )
    assert error.response["Error"]["Message"] == (
        'Received client error (400) from primary with message "expected 4 features, got 3". '
        "See https://eu-west-1.console.aws.amazon.com/cloudwatch/home?region=eu-west-1"
        f"#logEventViewer:group=/aws/sagemaker/Endpoints/{NAME} in account 123456789012 "
        "for more information."
    )
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 424


async def test_a_timeout_is_a_model_error_with_status_zero():
    error = await refused(InvocationTimeout("late"))
    assert type(error).__name__ == "ModelError"
    assert error.response["OriginalStatusCode"] == 0
    assert "Your invocation timed out" in error.response["Error"]["Message"]


@pytest.mark.parametrize(
    ("failure", "name", "status"),
    [
        (ModelNotReady("Still loading."), "ModelNotReadyException", 429),
        (Overloaded("Come again."), "ServiceUnavailable", 503),
        (StoreUnavailable("The store is silent."), "InternalDependencyException", 530),
        (RuntimeError("secret"), "InternalFailure", 500),
    ],
)
async def test_errors_that_are_not_the_clients_are_typed_too(failure, name, status):
    error = await refused(failure)
    assert type(error).__name__ == name
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert "secret" not in json.dumps(error.response)


@pytest.mark.parametrize(
    "arguments",
    [
        {"TargetModel": "../other"},
        {"TargetModel": "s3://bucket/model.tar.gz"},
        {"TargetModel": "m" * 1025},
        {"TargetVariant": "v" * 64},
        {"CustomAttributes": "a" * 1025},
        {"InferenceId": "i" * 65},
        {"EnableExplanations": "`true`"},
        {"InferenceComponentName": "component"},
        {"EndpointName": "not a name"},
    ],
)
async def test_what_clients_do_not_check_is_checked_here(arguments):
    service = FakeService()
    error = await refused(service, **arguments)
    assert type(error).__name__ == "ValidationError"
    assert next(iter(arguments)) in error.response["Error"]["Message"]
    assert service.seen == []


async def test_an_oversize_body_is_a_413_as_on_aws():
    service = FakeService()
    async with serving(service, body_limit_bytes=1000) as front:
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            await called(front, Body=bytes(2_000_000))
    assert caught.value.response["Error"] == {
        "Code": "413",
        "Message": "HTTP content length exceeded 1000 bytes.",
    }


async def test_a_body_of_the_default_limit_passes():
    async with serving(FakeService()) as front:
        response = await called(front, Body=bytes(25_000_000))
    assert len(response["Body"]) == 25_000_000


async def test_operations_we_do_not_have_are_validation_errors():
    def call(client):
        client.invoke_endpoint_async(EndpointName=NAME, InputLocation="s3://b/k")

    def stream(client):
        client.invoke_endpoint_with_response_stream(EndpointName=NAME, Body=b"")

    async with serving(FakeService()) as front:
        client = client_of(front)
        for operation in (call, stream):
            with pytest.raises(client.exceptions.ValidationError, match="not supported"):
                await asyncio.to_thread(operation, client)
        client.close()


async def test_the_command_line_client_writes_the_answer_to_its_file(tmp_path: Path):
    aws = shutil.which("aws", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert aws, "awscli comes with the dev extra"
    output = tmp_path / "out"
    async with serving(FakeService()) as front:
        process = await asyncio.create_subprocess_exec(
            *(aws, "sagemaker-runtime", "invoke-endpoint", "--endpoint-name", NAME),
            *("--endpoint-url", f"http://127.0.0.1:{front.port}", "--region", "us-east-1"),
            *("--target-model", "tenant/model.tar.gz", "--content-type", "text/csv"),
            *("--body", "1,2,3", str(output)),
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "AWS_ACCESS_KEY_ID": "any",
                "AWS_SECRET_ACCESS_KEY": "any",
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        stdout, stderr = await process.communicate()
    assert process.returncode == 0, stderr
    assert json.loads(stdout) == {
        "ContentType": "text/csv",
        "InvokedProductionVariant": "AllTraffic",
    }
    assert output.read_bytes() == b"1,2,3"
