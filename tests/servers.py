"""The real server as a user starts it, and a boto3 client that knows only its URL."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tests.models import CSV

_LINE = re.compile(r"mme is serving .* at (https?://\S+) as endpoint (\S+)")


@dataclass
class Served:
    """A running server."""

    url: str
    process: subprocess.Popen[str]
    log_path: Path

    def state(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/state", timeout=10) as reply:
            return json.load(reply)

    def log(self) -> list[dict[str, Any]]:
        """The log so far, line by line; the last one may still be in writing."""
        whole, _, _ = self.log_path.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines() if line]

    def logged(self, count: int = 1, **fields: str) -> list[dict[str, Any]]:
        """The log's lines with these fields, once there are so many: they are gathered first."""
        until = time.monotonic() + 20
        while True:
            found = [line for line in self.log() if fields.items() <= line.items()]
            if len(found) >= count or time.monotonic() > until:
                return found
            time.sleep(0.05)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=40)


@contextlib.contextmanager
def serving(
    root: Path,
    models: str | Path | None,
    *flags: str,
    environment: Mapping[str, str] | None = None,
    within: Sequence[str] = (),
) -> Iterator[Served]:
    """`mme serve` on a free port, one worker; ended by SIGTERM, which must succeed.

    `within` is a command that the server's own is appended to, and that becomes it.
    """
    command = [
        *within, sys.executable, "-m", "mme.cli.main", "serve",
        *(() if models is None else ("--models", str(models))),
        "--port", "0", "--cache-dir", str(root / "cache"),
        "--workers", "1", "--log-format", "json", *flags,
    ]  # fmt: skip
    log_path = root / "server.log"
    with log_path.open("w") as log:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **(environment or {})},
        )
    try:
        match = _LINE.match(process.stdout.readline())
        assert match, f"the server did not start: {log_path.read_text()}"
        served = Served(match[1], process, log_path)
        yield served
        if process.poll() is None:
            assert served.stop() == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def runtime_client(url: str, **settings: Any) -> Iterator[Any]:
    """boto3's runtime client; nothing of it is special but its URL."""
    client = boto3.client(
        "sagemaker-runtime",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(**{"retries": {"max_attempts": 0}, **settings}),
    )
    try:
        yield client
    finally:
        client.close()


def predict(client: Any, model: str, body: bytes = CSV, **fields: Any) -> float:
    """The prediction for ROW."""
    reply = client.invoke_endpoint(
        **{
            "EndpointName": "mme",
            "TargetModel": model,
            "Body": body,
            "ContentType": "text/csv",
            "Accept": "text/csv",
            **fields,
        }
    )
    return float(reply["Body"].read())
