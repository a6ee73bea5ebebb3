"""The S3 server of a test run, and one test's bucket in it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.leaks import SESSION_CHILDREN, SESSION_DESCRIPTORS
from tests.swift_s3 import HOST, OWNER, STRANGER

_START_SECONDS = 60.0
_CHECKOUT = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class SwiftServer:
    """A running S3. `client` is boto3's, with all rights."""

    endpoint: str
    client: Any

    def environment(self, login: tuple[str, str] = OWNER) -> dict[str, str]:
        """What the AWS chain reads."""
        return {
            "AWS_ACCESS_KEY_ID": login[0],
            "AWS_SECRET_ACCESS_KEY": login[1],
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A fresh bucket; the test's environment holds the credentials for it."""

    name: str
    endpoint: str
    client: Any
    environment: dict[str, str]
    stranger_environment: dict[str, str]

    def url(self, prefix: str = "") -> str:
        return f"s3://{self.name}/{prefix}"

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)


@contextlib.contextmanager
def serve_swift(root: Path) -> Iterator[SwiftServer]:
    """Runs the server in `root` until left."""
    ports = _free_ports(4)
    command = [sys.executable, "-m", "tests.swift_s3", str(root), *map(str, ports)]
    with (root / "log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=_CHECKOUT, stdin=subprocess.PIPE, stdout=log, stderr=log
        )
    pipe = server.stdin.fileno()
    SESSION_CHILDREN.add(server.pid)
    SESSION_DESCRIPTORS.add(pipe)
    try:
        endpoint = f"http://{HOST}:{ports[0]}"
        client = _client(endpoint)
        _wait_until_ready(client, server, root / "log")
        yield SwiftServer(endpoint=endpoint, client=client)
        client.close()
    finally:
        server.communicate()  # its input ends, and so does it
        SESSION_CHILDREN.discard(server.pid)
        SESSION_DESCRIPTORS.discard(pipe)


def login_of_a_stranger() -> tuple[str, str]:
    """A login that S3 knows and that may read nothing."""
    return STRANGER


def _client(endpoint: str) -> Any:
    config = Config(
        connect_timeout=2,
        read_timeout=10,
        retries={"total_max_attempts": 1},
        proxies={},
        s3={"addressing_style": "path"},
        response_checksum_validation="when_required",
        request_checksum_calculation="when_required",
    )
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=OWNER[0],
        aws_secret_access_key=OWNER[1],
        config=config,
    )


def _wait_until_ready(client: Any, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(client):
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"Swift did not start: {log.read_text()[-2000:]}")
        time.sleep(0.1)


def _answers(client: Any) -> bool:
    try:
        client.list_buckets()
    except (BotoCoreError, ClientError):
        return False
    return True


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for item in sockets:
            item.bind((HOST, 0))
        return [item.getsockname()[1] for item in sockets]
