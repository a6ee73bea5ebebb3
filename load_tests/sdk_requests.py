"""Requests as boto3 sends them: signed, each with an id of its own, the body written by itself.

Decision: signed ahead, so that the generator keeps its speed; a signature is good for minutes. The
headers, and their order, are what boto3 1.43 writes on a connection that it keeps.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

KEY_ID, SECRET = "AKIDLOADTESTS", "a-secret-of-the-load-tests-own-000000000"

_AGENT = (
    "Boto3/1.43.117 md/Botocore#1.43.117 ua/2.1 os/linux#6.18 md/arch#x86_64 lang/python#3.11.7 "
    "md/pyimpl#CPython m/b,e,N,D,Z cfg/retry-mode#legacy Botocore/1.43.117"
)
_COUNT = 2_000


def write_keys(path: Path) -> None:
    """A file of access keys for `--access-keys` that knows who signs here."""
    path.write_text(
        f'[[keys]]\nname = "load-tests"\naccess_key_id = "{KEY_ID}"\n'
        f'secret_access_key = "{SECRET}"\n'
    )


def sign_requests(
    host: str, path: str, headers: Mapping[str, str], body: bytes
) -> list[tuple[bytes, bytes]]:
    """Heads and bodies of many requests for the same, no two alike."""
    return [(_sign(host, path, headers, body), body) for _ in range(_COUNT)]


def _sign(host: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    request = AWSRequest(method="POST", url=f"http://{host}{path}", data=body, headers=headers)
    SigV4Auth(Credentials(KEY_ID, SECRET), "sagemaker", "us-east-1").add_auth(request)
    fields = {
        "Host": host,
        "Accept-Encoding": "identity",
        **headers,
        "User-Agent": _AGENT,
        "X-Amz-Date": request.headers["X-Amz-Date"],
        "Authorization": request.headers["Authorization"],
        "amz-sdk-invocation-id": str(uuid.uuid4()),
        "amz-sdk-request": "attempt=1",
        "Content-Length": str(len(body)),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode()
