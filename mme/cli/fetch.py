"""What a running server tells its operators, as JSON."""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from mme.errors import RequestError, StoreUnavailable

ANSWER_SECONDS = 5
EndpointUrl = Annotated[
    str, typer.Option(envvar="AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", help="The server.")
]
ENDPOINT_URL = "http://127.0.0.1:8080"


def fetch(endpoint_url: str, path: str, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
    """The answer to a GET of `path`, asked with the API key in MME_API_KEY, if there is one.

    Args:
        endpoint_url: the server's.
        path: with its query.
        seconds: to wait for an answer.

    Raises:
        RequestError: the server refused; its message.
        StoreUnavailable: it does not answer, or with something else.
    """
    with _opened(endpoint_url, path, seconds) as reply:
        told: dict[str, Any] = json.load(reply)
    return told


def fetch_text(endpoint_url: str, path: str, seconds: float = ANSWER_SECONDS) -> str:
    """As `fetch`, of what is no JSON."""
    with _opened(endpoint_url, path, seconds) as reply:
        return reply.read().decode()


def follow(endpoint_url: str, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The server-sent events at `path`, name and data, for as long as the server sends any.

    Raises:
        RequestError, StoreUnavailable: as `fetch`; also when they end.
    """
    name = ""
    with _opened(endpoint_url, path) as reply:
        for line in reply:
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                yield name, json.loads(value)
        raise ValueError("the server closed the connection")


@contextmanager
def _opened(
    endpoint_url: str, path: str, seconds: float = ANSWER_SECONDS
) -> Iterator[http.client.HTTPResponse]:
    if not endpoint_url.startswith(("http://", "https://")):
        raise StoreUnavailable(f"{endpoint_url!r} is no URL such as http://127.0.0.1:8080")
    url = endpoint_url.rstrip("/") + path
    key = os.environ.get("MME_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http only, see above
    try:
        with urllib.request.urlopen(request, timeout=seconds) as reply:  # noqa: S310 - http only, see above
            yield reply
    except urllib.error.HTTPError as error:
        raise RequestError(_message(error)) from error
    except (OSError, ValueError) as error:
        why = error.reason if isinstance(error, urllib.error.URLError) else error
        raise StoreUnavailable(f"no answer from {url}: {why}") from error


def _message(error: urllib.error.HTTPError) -> str:
    try:
        told = {name.lower(): text for name, text in json.load(error).items()}
        return str(told["message"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{error.url} was answered with {error.code}"
