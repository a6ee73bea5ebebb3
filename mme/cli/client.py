"""An unmodified boto3 client of a server of ours, and the bodies that are sent through it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from mme.errors import RequestError

READ_SECONDS = 70  # an invocation may take 60


def runtime_client(endpoint_url: str) -> Any:  # noqa: ANN401 - boto3 makes its classes as it runs
    """A `sagemaker-runtime` client, signing with the credentials configured, if any are.

    No retries: whoever looks at one answer wants to see it. The metadata service is not asked,
    since it takes seconds to be found missing.

    Raises:
        RequestError: `endpoint_url` is none.
    """
    import boto3  # noqa: PLC0415 - a third of a second that most commands need not spend
    from botocore import UNSIGNED  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    session = boto3.Session()
    signature = {} if session.get_credentials() else {"signature_version": UNSIGNED}
    if not endpoint_url.startswith(("http://", "https://")):
        raise RequestError(f"{endpoint_url!r} is no URL such as http://127.0.0.1:8080")
    config = Config(read_timeout=READ_SECONDS, retries={"total_max_attempts": 1}, **signature)
    region = session.region_name or "us-east-1"
    return session.client(
        "sagemaker-runtime", endpoint_url=endpoint_url, region_name=region, config=config
    )


def ask(client: Any, endpoint_url: str, **request: object) -> bytes:  # noqa: ANN401 - see above
    """The body that a model answers with. Raises RequestError, which says what went wrong."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    try:
        answer: bytes = client.invoke_endpoint(**request)["Body"].read()
    except ClientError as error:
        raise RequestError(_words(error.response)) from error
    except BotoCoreError as error:
        raise RequestError(f"no answer from {endpoint_url}: {error}") from error
    return answer


def _words(response: dict[str, Any]) -> str:
    fault, status = response["Error"], response["ResponseMetadata"]["HTTPStatusCode"]
    if "OriginalMessage" in response:  # what the model said, without the sentence AWS wraps it in
        asked = f"{status}, {response['OriginalStatusCode']} from the model"
        return f"{fault['Code']} ({asked}): {response['OriginalMessage']}"
    return f"{fault['Code']} ({status}): {fault['Message']}"


def read_body(text: str) -> bytes:
    """What to send: `-` is standard input, `@name` a file, all else itself. Raises OSError."""
    if text == "-":
        return sys.stdin.buffer.read()
    return Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
