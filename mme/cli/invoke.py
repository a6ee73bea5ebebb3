"""`mme invoke`: one request through boto3, its answer or its error in words."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mme.cli.client import ask, read_body, runtime_client
from mme.errors import RequestError


def invoke(
    target_model: Annotated[
        str, typer.Argument(help="The object's key below the prefix, e.g. acme/model.tar.gz.")
    ],
    body: Annotated[str, typer.Option(help="Text, @file, or - for standard input.")],
    content_type: Annotated[str, typer.Option(help="What the body is.")] = "text/csv",
    accept: Annotated[str | None, typer.Option(help="What the answer should be.")] = None,
    endpoint_url: Annotated[
        str, typer.Option(envvar="AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", help="The server.")
    ] = "http://127.0.0.1:8080",
    endpoint_name: Annotated[str, typer.Option(help="The endpoint's name.")] = "mme",
) -> None:
    """Invoke one model of a running server."""
    request = {
        "EndpointName": endpoint_name,
        "TargetModel": target_model,
        "ContentType": content_type,
    }
    if accept is not None:
        request["Accept"] = accept
    try:
        payload = read_body(body)
    except OSError as error:
        raise RequestError(f"cannot read the body: {error}") from error
    answer = ask(runtime_client(endpoint_url), endpoint_url, Body=payload, **request)
    sys.stdout.buffer.write(answer)
    if sys.stdout.isatty() and not answer.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.flush()
